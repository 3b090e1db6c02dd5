//! Progress on standard error: on a terminal each running job is a bar with the fraction done, rate and time
//! left; elsewhere a job prints a plain line with the same at its beginning, about every tenth of it,
//! and at its end. The fraction is of the whole work; rate and time left are of what this process does.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idiolect::progress::{Event, Pace, Progress, SHARES};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Bars on a terminal, plain lines elsewhere.
pub(super) fn stderr() -> Progress {
    if std::io::stderr().is_terminal() {
        bars()
    } else {
        lines()
    }
}

fn bars() -> Progress {
    let shown = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    let bars: Mutex<BTreeMap<String, (ProgressBar, Arc<AtomicU64>)>> = Mutex::default();
    Progress::to(move |job, event| {
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { total, done, unit } => {
                let before = Arc::new(AtomicU64::new(done));
                let bar = shown.add(match total {
                    Some(total) if unit == SHARES => ProgressBar::new(total)
                        .with_style(style("{prefix:>12} [{bar:30}] {percent:>3} % {left}", &before)),
                    Some(total) => ProgressBar::new(total).with_style(style(
                        "{prefix:>12} [{bar:30}] {percent:>3} % {human_pos}/{human_len} {msg} {pace}",
                        &before,
                    )),
                    None => ProgressBar::new_spinner().with_style(style(
                        "{prefix:>12} {spinner} {human_pos} {msg} {pace}",
                        &before,
                    )),
                });
                let bar = bar
                    .with_position(done)
                    .with_prefix(job.to_owned())
                    .with_message(unit);
                bar.enable_steady_tick(Duration::from_millis(250));
                bars.insert(job.to_owned(), (bar, before));
            }
            Event::At(done) => {
                if let Some((bar, _)) = bars.get(job) {
                    bar.set_position(done);
                }
            }
            Event::Before(done) => {
                if let Some((_, before)) = bars.get(job) {
                    before.store(done, Ordering::Relaxed);
                }
            }
            // Printing fails when standard error is closed; then nobody reads it.
            Event::Note(text) => drop(shown.println(format!("{job}: {text}"))),
            Event::End => {
                if let Some((bar, _)) = bars.remove(job) {
                    bar.finish_and_clear();
                    shown.remove(&bar);
                }
            }
        }
    })
}

/// A bar whose rate leaves out what was done before this process.
fn style(template: &str, before: &Arc<AtomicU64>) -> ProgressStyle {
    let before = Arc::clone(before);
    let pace = move |state: &ProgressState| Pace {
        before: before.load(Ordering::Relaxed),
        done: state.pos(),
        total: state.len(),
        elapsed: state.elapsed(),
    };
    let only = pace.clone();
    // Nothing else can be done with a bar that cannot be drawn.
    let left = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{}", only(state).left().unwrap_or_default());
    };
    let pace = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{}", pace(state));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("pace", pace)
        .with_key("left", left)
        .progress_chars("=> ")
}

fn lines() -> Progress {
    let jobs: Mutex<BTreeMap<String, Plain>> = Mutex::default();
    Progress::to(move |job, event| {
        let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let said = match event {
            Event::Begin { total, done, unit } => {
                let plain = Plain {
                    total,
                    before: done,
                    done,
                    unit,
                    said: done,
                    begun: Instant::now(),
                    said_at: Duration::ZERO,
                };
                let said = plain.begin();
                jobs.insert(job.to_owned(), plain);
                said
            }
            Event::At(done) => jobs
                .get_mut(job)
                .and_then(|plain| plain.at(done, plain.begun.elapsed())),
            Event::Before(done) => {
                if let Some(plain) = jobs.get_mut(job) {
                    plain.before = done;
                }
                None
            }
            Event::Note(text) => Some(text.to_owned()),
            Event::End => jobs
                .remove(job)
                .and_then(|plain| plain.end(plain.begun.elapsed())),
        };
        if let Some(said) = said {
            // As above: a closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{job}: {said}");
        }
    })
}

/// What plain lines have stated of a job.
struct Plain {
    total: Option<u64>,
    /// Done by earlier processes.
    before: u64,
    done: u64,
    unit: &'static str,
    /// Done when it was last stated.
    said: u64,
    begun: Instant,
    /// When it was last stated, from `begun`.
    said_at: Duration,
}

/// A job of fewer units states no more than a line in so much time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Plain {
    fn begin(&self) -> Option<String> {
        (self.done > 0).then(|| {
            let share = self.share().map_or_else(String::new, |s| format!(" ({s})"));
            if self.unit == SHARES {
                return format!("continuing after{share}");
            }
            format!("continuing after {} {}{share}", self.done, self.unit)
        })
    }

    /// A line every tenth of a known total, every 100,000 of an unknown one; of few units only
    /// when some time has passed.
    fn at(&mut self, done: u64, elapsed: Duration) -> Option<String> {
        self.done = done;
        let tenth = self.total.map_or(100_000, |total| (total / 10).max(1));
        let moved = done.saturating_sub(self.said);
        if moved < tenth || (moved < 1000 && elapsed < self.said_at + PATIENCE) {
            return None;
        }
        (self.said, self.said_at) = (done, elapsed);
        Some(self.place(elapsed))
    }

    fn end(&self, elapsed: Duration) -> Option<String> {
        (self.done > 0).then(|| self.place(elapsed))
    }

    fn place(&self, elapsed: Duration) -> String {
        let pace = Pace {
            before: self.before,
            done: self.done,
            total: self.total.filter(|total| self.done < *total),
            elapsed,
        };
        if self.unit == SHARES {
            let parts = [self.share(), pace.left()];
            return parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        }
        let mut text = match self.total {
            Some(total) => format!("{}/{} {}", self.done, total, self.unit),
            None => format!("{} {}", self.done, self.unit),
        };
        let pace = pace.to_string();
        let parts: Vec<String> = self.share().into_iter().chain([pace]).collect();
        let parts: Vec<&str> = parts
            .iter()
            .map(String::as_str)
            .filter(|p| !p.is_empty())
            .collect();
        if !parts.is_empty() {
            text.push_str(&format!(" ({})", parts.join(", ")));
        }
        text
    }

    /// What fraction of a known total is done, whoever did it.
    fn share(&self) -> Option<String> {
        let total = self.total.filter(|total| *total > 0)?;
        Some(format!("{} %", 100 * self.done.min(total) / total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_few() {
        let mut plain = plain(1_000_000, 0, "rows");
        let said = (1..=1_000_000)
            .filter(|done| plain.at(*done, Duration::ZERO).is_some())
            .count();
        assert_eq!(said, 10);
        // A job of few units is silent where it is quick.
        let mut few = self::plain(20, 0, "rows");
        assert!((1..=20).all(|done| few.at(done, Duration::from_secs(1)).is_none()));
    }

    fn plain(total: u64, done: u64, unit: &'static str) -> Plain {
        Plain {
            total: Some(total),
            before: done,
            done,
            unit,
            said: done,
            begun: Instant::now(),
            said_at: Duration::ZERO,
        }
    }

    #[test]
    fn a_share_of_the_whole_has_no_unit_and_no_rate() {
        let mut whole = plain(1000, 0, SHARES);
        let said = whole.at(5, Duration::from_secs(80));
        assert_eq!(said, None);
        let said = whole.at(100, Duration::from_secs(100)).unwrap();
        assert_eq!(said, "10 %, 15 min left");
        // A hundredth tells nothing of the rest.
        whole.done = 10;
        assert_eq!(whole.place(Duration::from_secs(80)), "1 %");
    }

    #[test]
    fn after_a_resume_the_share_is_of_all_and_the_rate_of_this_process() {
        let mut plain = plain(1000, 600, "steps");
        assert_eq!(
            plain.begin().as_deref(),
            Some("continuing after 600 steps (60 %)")
        );
        // 100 steps in 100 s are one a second, not seven; 300 are left.
        let said = plain.at(700, Duration::from_secs(100)).unwrap();
        assert_eq!(said, "700/1000 steps (70 %, 1.0/s, 5 min left)");
        // Work that earlier processes did and that is met only now counts as theirs.
        plain.before = 650;
        let said = plain.at(800, Duration::from_secs(200)).unwrap();
        assert_eq!(said, "800/1000 steps (80 %, 0.8/s, 4 min left)");
        plain.done = 1000;
        assert_eq!(
            plain.end(Duration::from_secs(200)).unwrap(),
            "1000/1000 steps (100 %, 1.8/s)"
        );
    }
}
