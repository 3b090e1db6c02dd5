//! Ctrl-C: everything that was submitted is cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::journal::Submission;
use super::{Cluster, Executor, Seen, slurm};
use crate::stage::StageError;

/// How long tasks that were cancelled may take to end.
const FAREWELL: Duration = Duration::from_secs(40);

impl Executor<'_> {
    /// Cancels everything that was submitted; the error to return.
    pub(super) fn cancel_all(&mut self) -> StageError {
        let open = self.open_tasks();
        if open.is_empty() {
            return StageError::Interrupted;
        }
        match self.try_cancel(&open) {
            Ok(()) => self
                .run
                .note(&format!("cancelled {} task(s) on {}", open.len(), self.on)),
            Err(words) => {
                let of: BTreeSet<usize> = open.iter().map(|(at, _)| *at).collect();
                let submissions: Vec<&Submission> =
                    of.iter().map(|at| &self.journal.submissions[*at]).collect();
                let how = match self.cluster {
                    Cluster::Slurm => slurm::how_to_cancel(&submissions),
                    Cluster::Ray(_) => {
                        "ray job stop, for each that `ray job list` shows".to_owned()
                    }
                };
                self.run.note(&format!(
                    "could not cancel what is on {} ({words}); by hand: {how}",
                    self.on
                ));
            }
        }
        StageError::Interrupted
    }

    fn try_cancel(&mut self, open: &[(usize, usize)]) -> Result<(), String> {
        let mut by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, task) in open {
            by.entry(*at).or_default().push(*task);
        }
        for (at, tasks) in &by {
            self.journal
                .cancel(*at)
                .map_err(|error| error.to_string())?;
            self.cluster.cancel(&self.journal.submissions[*at], tasks)?;
        }
        // Their locks are free once they have ended.
        let begun = Instant::now();
        loop {
            let submissions: Vec<&Submission> =
                by.keys().map(|at| &self.journal.submissions[*at]).collect();
            let look = self.cluster.look(&submissions)?;
            let running = |(at, task): &&(usize, usize)| {
                let key = (self.journal.submissions[*at].name.clone(), *task);
                matches!(look.tasks.get(&key), Some(Seen::Running(_)))
            };
            let running: Vec<(usize, usize)> = open.iter().filter(running).copied().collect();
            if running.is_empty() || begun.elapsed() > FAREWELL {
                for (at, task) in open.iter().filter(|one| !running.contains(one)) {
                    self.journal
                        .close(*at, *task, "cancelled")
                        .map_err(|error| error.to_string())?;
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
