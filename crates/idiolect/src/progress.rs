//! How far the work is: events from the stages, shown on standard error.
//!
//! On a terminal each running job is a bar with rate and time left; elsewhere a job prints a plain
//! line at its beginning, about every tenth of it, and at its end. `run` passes a sink of its own.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a job tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// It begins: how much there is, if known, how much an earlier process did, in which unit.
    Begin {
        total: Option<u64>,
        done: u64,
        unit: &'static str,
    },
    /// So much is done in all.
    At(u64),
    /// Something a person should know.
    Note(&'a str),
    /// It ended, well or not.
    End,
}

type Sink = Box<dyn Fn(&str, Event<'_>) + Send + Sync>;

/// Where events go.
pub(crate) struct Progress {
    sink: Sink,
}

impl Progress {
    /// Events go to `sink`, with the job's name.
    pub(crate) fn to(sink: impl Fn(&str, Event<'_>) + Send + Sync + 'static) -> Self {
        Self {
            sink: Box::new(sink),
        }
    }

    /// Only notes are shown.
    pub(crate) fn quiet() -> Self {
        Self::to(|_, _| {})
    }

    /// Bars on a terminal, plain lines elsewhere.
    pub(crate) fn stderr() -> Self {
        if std::io::stderr().is_terminal() {
            bars()
        } else {
            lines()
        }
    }

    /// Begins a job of `total` units of which `done` are done.
    pub(crate) fn begin(
        &self,
        job: &str,
        unit: &'static str,
        total: Option<u64>,
        done: u64,
    ) -> Meter<'_> {
        (self.sink)(job, Event::Begin { total, done, unit });
        Meter {
            progress: self,
            job: job.to_owned(),
            done,
        }
    }

    /// Passes an event of a job on.
    pub(crate) fn event(&self, job: &str, event: Event<'_>) {
        (self.sink)(job, event);
    }

    /// Says something a person should know.
    pub(crate) fn note(&self, job: &str, text: &str) {
        (self.sink)(job, Event::Note(text));
    }
}

/// A running job; dropping it ends the job.
pub(crate) struct Meter<'a> {
    progress: &'a Progress,
    job: String,
    done: u64,
}

impl Meter<'_> {
    /// So many more units are done.
    pub(crate) fn advance(&mut self, by: u64) {
        self.at(self.done + by);
    }

    /// So many units are done in all.
    pub(crate) fn at(&mut self, done: u64) {
        self.done = done;
        (self.progress.sink)(&self.job, Event::At(done));
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        (self.progress.sink)(&self.job, Event::End);
    }
}

fn bars() -> Progress {
    let shown = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    let bars: Mutex<BTreeMap<String, ProgressBar>> = Mutex::default();
    Progress::to(move |job, event| {
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { total, done, unit } => {
                let bar = shown.add(match total {
                    Some(total) => ProgressBar::new(total).with_style(style(
                        "{prefix:>12} [{bar:30}] {human_pos}/{human_len} {msg} {per_sec}, {eta} left",
                    )),
                    None => ProgressBar::new_spinner()
                        .with_style(style("{prefix:>12} {spinner} {human_pos} {msg} {per_sec}")),
                });
                // Rate and time left are of this process alone.
                let bar = bar
                    .with_position(done)
                    .with_prefix(job.to_owned())
                    .with_message(unit);
                bar.reset_eta();
                bar.enable_steady_tick(Duration::from_millis(250));
                bars.insert(job.to_owned(), bar);
            }
            Event::At(done) => {
                if let Some(bar) = bars.get(job) {
                    bar.set_position(done);
                }
            }
            // Printing fails when standard error is closed; then nobody reads it.
            Event::Note(text) => drop(shown.println(format!("{job}: {text}"))),
            Event::End => {
                if let Some(bar) = bars.remove(job) {
                    bar.finish_and_clear();
                    shown.remove(&bar);
                }
            }
        }
    })
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
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
                    done,
                    unit,
                    said: done,
                };
                let said = plain.begin();
                jobs.insert(job.to_owned(), plain);
                said
            }
            Event::At(done) => jobs.get_mut(job).and_then(|plain| plain.at(done)),
            Event::Note(text) => Some(text.to_owned()),
            Event::End => jobs.remove(job).and_then(|plain| plain.end()),
        };
        if let Some(said) = said {
            // As above: a closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{job}: {said}");
        }
    })
}

/// What plain lines have said of a job.
struct Plain {
    total: Option<u64>,
    done: u64,
    unit: &'static str,
    said: u64,
}

impl Plain {
    fn begin(&self) -> Option<String> {
        (self.done > 0).then(|| format!("continuing after {} {}", self.done, self.unit))
    }

    /// A line every tenth of a known total, every 100,000 of an unknown one.
    fn at(&mut self, done: u64) -> Option<String> {
        self.done = done;
        let every = self.total.map_or(100_000, |total| (total / 10).max(1000));
        if done < self.said + every {
            return None;
        }
        self.said = done;
        Some(self.place())
    }

    fn end(&self) -> Option<String> {
        (self.done > 0).then(|| self.place())
    }

    fn place(&self) -> String {
        match self.total {
            Some(total) => format!("{}/{} {}", self.done, total, self.unit),
            None => format!("{} {}", self.done, self.unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn plain_lines_are_few() {
        let mut plain = Plain {
            total: Some(1_000_000),
            done: 0,
            unit: "rows",
            said: 0,
        };
        let said = (1..=1_000_000)
            .filter(|done| plain.at(*done).is_some())
            .count();
        assert_eq!(said, 10);
    }

    #[test]
    fn a_sink_hears_of_every_job_by_name() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let progress = Progress::to(move |job, event| {
            log.lock().unwrap().push(format!("{job} {event:?}"));
        });
        let mut meter = progress.begin("verify", "rows", Some(2), 0);
        meter.advance(2);
        drop(meter);
        let heard = heard.lock().unwrap();
        assert_eq!(heard[1..], ["verify At(2)", "verify End"]);
    }
}
