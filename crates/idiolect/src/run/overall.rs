//! How far the whole run is: a fraction of its work, and the time left.
//!
//! Every unit of work (a pretraining, a stage, one fine-tuning with its evaluations) has a planned
//! cost in floating-point operations, so the share moves evenly although the stages differ. The
//! stages' own events pass through to the terminal; the whole run is one more job among them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Job as PlannedJob;
use crate::progress::{self, Event, Progress};

/// Steps in which the whole run's share is shown.
const SHARES: u64 = 1000;
/// The name under which the whole run is shown.
const WHOLE: &str = "whole run";

/// The fractions of all units, shown as one job.
pub(super) struct Overall {
    shown: Arc<Progress>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    units: BTreeMap<String, Unit>,
    total: f64,
}

struct Unit {
    cost: f64,
    /// Each job that the unit has begun.
    jobs: BTreeMap<String, Job>,
    finished: bool,
}

/// How far a job is, in its own units.
struct Job {
    /// Done by earlier processes.
    before: u64,
    done: u64,
    total: u64,
}

impl Unit {
    /// Share done, and the fraction of it that earlier processes did. A unit counts by its longest
    /// job: those beside it are short. One that is finished without a job was done before.
    fn shares(&self) -> (f64, f64) {
        let longest = self.jobs.values().max_by_key(|job| job.total);
        let of = |part: u64, total: u64| (part as f64 / total.max(1) as f64).min(1.0);
        match longest.filter(|job| job.total > 0) {
            None => (f64::from(u8::from(self.finished)), 1.0),
            Some(job) => {
                let done = if self.finished {
                    1.0
                } else {
                    of(job.done, job.total)
                };
                (done, of(job.before, job.total))
            }
        }
    }
}

impl Overall {
    /// Units and their planned costs; `shown` is where events go.
    pub(super) fn new(jobs: &[PlannedJob], shown: Progress) -> Self {
        Self::of_units(
            jobs.iter()
                .map(|job| (job.id.clone(), weight(job)))
                .collect(),
            shown,
        )
    }

    fn of_units(units: Vec<(String, f64)>, shown: Progress) -> Self {
        let total = units.iter().map(|(_, cost)| cost).sum();
        let unit = |cost| Unit {
            cost,
            jobs: BTreeMap::new(),
            finished: false,
        };
        let units = units
            .into_iter()
            .map(|(name, cost)| (name, unit(cost)))
            .collect();
        Self {
            shown: Arc::new(shown),
            state: Arc::new(Mutex::new(State { units, total })),
        }
    }

    /// Shows the whole run as begun; work that earlier processes did is credited as it is met.
    pub(super) fn begin(&self) {
        self.shown.event(
            WHOLE,
            Event::Begin {
                total: Some(SHARES),
                done: 0,
                unit: progress::SHARES,
            },
        );
    }

    /// The whole run is over.
    pub(super) fn end(&self) {
        self.shown.event(WHOLE, Event::End);
    }

    /// Something a person should know.
    pub(super) fn note(&self, text: &str) {
        self.shown.note("run", text);
    }

    /// Where a job reports to.
    pub(super) fn job(&self, job: &PlannedJob) -> Progress {
        self.unit(&job.id)
    }

    /// The job's work is done, now or before.
    pub(super) fn finish(&self, job: &PlannedJob) {
        self.finished(&job.id);
    }

    /// Where the stages of a unit report to. Jobs are shown as `JOB UNIT`.
    fn unit(&self, name: &str) -> Progress {
        let (shown, state, name) = (
            Arc::clone(&self.shown),
            Arc::clone(&self.state),
            name.to_owned(),
        );
        Progress::to(move |job, event| {
            let shares = {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.take(&name, job, event);
                state.shares()
            };
            shown.event(&format!("{name}: {job}"), event);
            if matches!(event, Event::At(_)) {
                shares.show(&shown);
            }
        })
    }

    /// The unit's work is done, now or before.
    fn finished(&self, name: &str) {
        let shares = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(unit) = state.units.get_mut(name) {
                unit.finished = true;
            }
            state.shares()
        };
        shares.show(&self.shown);
    }
}

/// What a job counts in the whole: its operations, and a little for what has none.
fn weight(job: &PlannedJob) -> f64 {
    job.cost.tera_operations + 1e-4
}

/// Thousandths of the whole cost.
struct Shares {
    done: u64,
    /// Of them, what earlier processes did.
    before: u64,
}

impl Shares {
    fn show(&self, shown: &Progress) {
        shown.event(WHOLE, Event::Before(self.before));
        shown.event(WHOLE, Event::At(self.done));
    }
}

impl State {
    fn take(&mut self, name: &str, job: &str, event: Event<'_>) {
        let Some(unit) = self.units.get_mut(name) else {
            return;
        };
        match event {
            Event::Begin { total, done, .. } => {
                let begun = Job {
                    before: done,
                    done,
                    total: total.unwrap_or(0),
                };
                unit.jobs.insert(job.to_owned(), begun);
            }
            Event::At(done) => {
                if let Some(job) = unit.jobs.get_mut(job) {
                    job.done = done;
                }
            }
            Event::Before(done) => {
                if let Some(job) = unit.jobs.get_mut(job) {
                    job.before = done;
                }
            }
            Event::Note(_) | Event::End => {}
        }
    }

    fn shares(&self) -> Shares {
        let (mut done, mut before) = (0.0, 0.0);
        for unit in self.units.values() {
            let (share, earlier) = unit.shares();
            done += unit.cost * share;
            before += unit.cost * earlier.min(share);
        }
        let thousandths = |cost: f64| {
            if self.total > 0.0 {
                (cost / self.total * SHARES as f64) as u64
            } else {
                0
            }
        };
        Shares {
            done: thousandths(done),
            before: thousandths(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_moves_with_the_costs() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let shown = Progress::to(move |job, event| {
            if let (WHOLE, Event::At(share)) = (job, event) {
                log.lock().unwrap().push(share);
            }
        });
        let overall = Overall::of_units(vec![("a".into(), 1.0), ("b".into(), 3.0)], shown);
        let progress = overall.unit("b");
        let mut meter = progress.begin("train", "steps", Some(10), 0);
        meter.at(5);
        overall.finished("b");
        overall.finished("a");
        assert_eq!(*seen.lock().unwrap(), [375, 750, 1000]);
    }

    #[test]
    fn what_earlier_processes_did_is_told_apart() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let shown = Progress::to(move |job, event| {
            if job == WHOLE && !matches!(event, Event::Begin { .. }) {
                log.lock().unwrap().push(format!("{event:?}"));
            }
        });
        let units = ["a", "b", "c"].map(|name| (name.to_owned(), 1.0));
        let overall = Overall::of_units(units.into(), shown);
        // `a` was complete, `b` half done, `c` is begun here.
        overall.finished("a");
        let progress = overall.unit("b");
        let mut meter = progress.begin("train", "steps", Some(10), 5);
        meter.at(10);
        drop(meter);
        overall.finished("b");
        let progress = overall.unit("c");
        progress.begin("train", "steps", Some(10), 0).at(5);
        let last: Vec<String> = seen.lock().unwrap().iter().rev().take(2).cloned().collect();
        assert_eq!(last, ["At(833)", "Before(500)"]);
    }
}
