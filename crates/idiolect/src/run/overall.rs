//! How far the whole run is: a share of its work, and the time left.
//!
//! Every unit of work (a pretraining, a stage, one fine-tuning with its evaluations) has a planned
//! cost in floating-point operations, so the share moves evenly although the stages differ. The
//! stages' own events pass through to the terminal; the whole run is one more job among them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::progress::{Event, Progress};

/// Steps in which the whole run's share is shown.
const SHARES: u64 = 1000;
/// The name under which the whole run is shown.
const WHOLE: &str = "whole run";

/// The shares of all units, shown as one job.
pub(crate) struct Overall {
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
    /// Share done of each job that the unit has begun.
    jobs: BTreeMap<String, (u64, u64)>,
    finished: bool,
}

impl Overall {
    /// Units and their planned costs; `shown` is where events go.
    pub(crate) fn new(units: Vec<(String, f64)>, shown: Progress) -> Self {
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
    pub(crate) fn begin(&self) {
        self.shown.event(
            WHOLE,
            Event::Begin {
                total: Some(SHARES),
                done: 0,
                unit: "thousandths",
            },
        );
    }

    /// The whole run is over.
    pub(crate) fn end(&self) {
        self.shown.event(WHOLE, Event::End);
    }

    /// Something a person should know.
    pub(crate) fn note(&self, text: &str) {
        self.shown.note("run", text);
    }

    /// Where the stages of a unit report to. Jobs are shown as `JOB UNIT`.
    pub(crate) fn unit(&self, name: &str) -> Progress {
        let (shown, state, name) = (
            Arc::clone(&self.shown),
            Arc::clone(&self.state),
            name.to_owned(),
        );
        Progress::to(move |job, event| {
            let share = {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.take(&name, job, event);
                state.share()
            };
            shown.event(&format!("{name}: {job}"), event);
            if matches!(event, Event::At(_)) {
                shown.event(WHOLE, Event::At(share));
            }
        })
    }

    /// The unit's work is done, now or before.
    pub(crate) fn finish(&self, name: &str) {
        let share = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(unit) = state.units.get_mut(name) {
                unit.finished = true;
            }
            state.share()
        };
        self.shown.event(WHOLE, Event::At(share));
    }
}

impl State {
    fn take(&mut self, name: &str, job: &str, event: Event<'_>) {
        let Some(unit) = self.units.get_mut(name) else {
            return;
        };
        match event {
            Event::Begin { total, done, .. } => {
                unit.jobs.insert(job.to_owned(), (done, total.unwrap_or(0)));
            }
            Event::At(done) => {
                if let Some(place) = unit.jobs.get_mut(job) {
                    place.0 = done;
                }
            }
            Event::Note(_) | Event::End => {}
        }
    }

    /// Thousandths of the whole cost. A unit counts by its longest job: those beside it are short.
    fn share(&self) -> u64 {
        let done: f64 = self
            .units
            .values()
            .map(|unit| {
                let longest = unit.jobs.values().max_by_key(|(_, total)| *total);
                let part = match longest {
                    _ if unit.finished => 1.0,
                    Some((done, total)) if *total > 0 => (*done as f64 / *total as f64).min(1.0),
                    _ => 0.0,
                };
                unit.cost * part
            })
            .sum();
        if self.total > 0.0 {
            (done / self.total * SHARES as f64) as u64
        } else {
            0
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
        let overall = Overall::new(vec![("a".into(), 1.0), ("b".into(), 3.0)], shown);
        let progress = overall.unit("b");
        let mut meter = progress.begin("train", "steps", Some(10), 0);
        meter.at(5);
        overall.finish("b");
        overall.finish("a");
        assert_eq!(*seen.lock().unwrap(), [375, 750, 1000]);
    }
}
