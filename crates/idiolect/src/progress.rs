//! How far the work is: events from the stages, to whoever wants to show them.

use std::fmt;
use std::time::Duration;

/// The unit of a job that is counted in shares of its whole: shown in percent, without a rate.
pub const SHARES: &str = "shares";

/// What a job reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// It begins: how much there is, if known, how much an earlier process did, in which unit.
    Begin {
        /// Units in all, if known.
        total: Option<u64>,
        /// Units that an earlier process did.
        done: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// So much is done in all.
    At(u64),
    /// So much of what is done was done by earlier processes, where that is seen after the
    /// beginning only.
    Before(u64),
    /// Something a person should know.
    Note(&'a str),
    /// It ended, well or not.
    End,
}

type Sink = Box<dyn Fn(&str, Event<'_>) + Send + Sync>;

/// Where events go.
pub struct Progress {
    sink: Sink,
}

impl Progress {
    /// Events go to `sink`, with the job's name.
    pub fn to(sink: impl Fn(&str, Event<'_>) + Send + Sync + 'static) -> Self {
        Self {
            sink: Box::new(sink),
        }
    }

    /// Only notes are shown.
    pub fn quiet() -> Self {
        Self::to(|_, _| {})
    }

    /// Begins a job of `total` units of which `done` are done.
    pub fn begin(&self, job: &str, unit: &'static str, total: Option<u64>, done: u64) -> Meter<'_> {
        (self.sink)(job, Event::Begin { total, done, unit });
        Meter {
            progress: self,
            job: job.to_owned(),
            done,
        }
    }

    /// Passes an event of a job on.
    pub fn event(&self, job: &str, event: Event<'_>) {
        (self.sink)(job, event);
    }

    /// Reports something that a person should know.
    pub fn note(&self, job: &str, text: &str) {
        (self.sink)(job, Event::Note(text));
    }
}

/// A running job; dropping it ends the job.
pub struct Meter<'a> {
    progress: &'a Progress,
    job: String,
    done: u64,
}

impl Meter<'_> {
    /// So many more units are done.
    pub fn advance(&mut self, by: u64) {
        self.at(self.done + by);
    }

    /// So many units are done in all.
    pub fn at(&mut self, done: u64) {
        self.done = done;
        (self.progress.sink)(&self.job, Event::At(done));
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        (self.progress.sink)(&self.job, Event::End);
    }
}

/// How fast this process works, and how long it has yet.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Done by earlier processes.
    pub before: u64,
    /// Done in all.
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
    /// Since this process began.
    pub elapsed: Duration,
}

impl Pace {
    /// Units a second, once one is done.
    pub fn rate(&self) -> Option<f64> {
        let own = self.done.saturating_sub(self.before) as f64;
        let seconds = self.elapsed.as_secs_f64();
        (own > 0.0 && seconds > 0.0).then(|| own / seconds)
    }

    /// Seconds for what is left at this rate, where both are known.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.total?.saturating_sub(self.done) as f64;
        Some(left / self.rate()?)
    }

    /// `1 min left`, once enough is done to tell.
    pub fn left(&self) -> Option<String> {
        let own = self.done.saturating_sub(self.before);
        if own < self.total? / TELLS {
            return None;
        }
        Some(match self.seconds_left()? {
            s if s < 90.0 => format!("{s:.0} s left"),
            s if s < 5400.0 => format!("{:.0} min left", s / 60.0),
            s => format!("{:.1} h left", s / 3600.0),
        })
    }
}

/// The share of the whole, one in so many, from which the time left can be told.
const TELLS: u64 = 50;

/// `12.5/s, 1 min left`; nothing before something was done.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate() {
            None => return Ok(()),
            Some(rate) if rate < 0.1 => write!(f, "{:.1} s each", 1.0 / rate)?,
            Some(rate) if rate < 100.0 => write!(f, "{rate:.1}/s")?,
            Some(rate) => write!(f, "{rate:.0}/s")?,
        }
        match self.left() {
            None => Ok(()),
            Some(left) => write!(f, ", {left}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

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
