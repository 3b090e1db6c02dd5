//! What the training script reports, held against what was planned.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use idiolect_engine::batch::TokenRow;
use idiolect_engine::local::external::ExternalTraining;
use idiolect_model::{ModelError, TrainEvent};
use serde::Deserialize;

use super::job::io;
use super::settings::Shares;

/// A line of the script's events. A number that is not finite is null.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Started {
        processes: usize,
        steps: usize,
        done: usize,
    },
    Step {
        step: usize,
        loss: Option<f64>,
        gradient_norm: Option<f64>,
        lr: Option<f64>,
        tokens: usize,
        target_tokens: usize,
    },
    Dev {
        step: usize,
        loss: Option<f64>,
    },
    Checkpoint {
        step: usize,
    },
    Finished {
        step: usize,
        losses: Vec<Option<f64>>,
    },
}

/// Relative difference of the learning rates that is rounding.
const SAME_RATE: f64 = 1e-5;

/// A training that is followed.
pub(super) struct Follower<'a> {
    path: PathBuf,
    training: &'a ExternalTraining,
    shares: Shares,
    /// Bytes read.
    at: u64,
    /// Steps of the state that it went on from.
    resumed: usize,
    past: Vec<TrainEvent>,
    has_started: bool,
    /// The last step that was reported.
    step: usize,
    losses: Option<Vec<f64>>,
}

impl<'a> Follower<'a> {
    /// Of a training that goes on after `done` steps. Of an earlier process's events those of the
    /// finished steps are kept, the others removed.
    pub(super) fn new(
        path: &Path,
        training: &'a ExternalTraining,
        shares: Shares,
        done: usize,
    ) -> Result<Self, ModelError> {
        let mut follower = Self {
            path: path.to_owned(),
            training,
            shares,
            at: 0,
            resumed: done,
            past: Vec::new(),
            has_started: false,
            step: 0,
            losses: None,
        };
        follower.keep()?;
        Ok(follower)
    }

    /// The last step that was reported.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// The losses of the checked rows under the finished model, once it is finished.
    pub(super) fn losses(&self) -> Option<&[f64]> {
        self.losses.as_deref()
    }

    /// Reads back what is known of the steps that are done, and cuts the file behind it.
    fn keep(&mut self) -> Result<(), ModelError> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut kept = String::new();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let event = match serde_json::from_str(line) {
                Ok(Line::Step { step, .. } | Line::Dev { step, .. }) if step <= self.resumed => {
                    let parsed = serde_json::from_str(line).ok();
                    parsed.and_then(|line| self.event(&line).ok()).flatten()
                }
                Ok(Line::Started { .. } | Line::Checkpoint { .. }) => continue,
                _ => break,
            };
            let Some(event) = event else { break };
            self.past.push(event);
            kept.push_str(line);
        }
        // A log that lost some of them has them again only if all are known.
        if self.step != self.resumed {
            self.past.clear();
            kept.clear();
        }
        self.step = self.resumed;
        self.at = kept.len() as u64;
        fs::write(&self.path, kept).map_err(io(&self.path))
    }

    /// Reads what is new and reports it.
    ///
    /// # Errors
    /// What is not as planned.
    pub(super) fn read(
        &mut self,
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ModelError> {
        let mut file = File::open(&self.path).map_err(io(&self.path))?;
        file.seek(SeekFrom::Start(self.at))
            .map_err(io(&self.path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io(&self.path))?;
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        for line in bytes[..whole].split_inclusive(|b| *b == b'\n') {
            self.at += line.len() as u64;
            let line: Line = serde_json::from_slice(line).map_err(|error| {
                ModelError::Invalid(format!(
                    "the training script wrote an event that cannot be read, `{}`: {error}",
                    String::from_utf8_lossy(line).trim_end().escape_debug()
                ))
            })?;
            if let Some(event) = self.event(&line)?
                && sink(event).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The event of a line, where it is one.
    fn event(&mut self, line: &Line) -> Result<Option<TrainEvent>, ModelError> {
        match line {
            Line::Started {
                processes,
                steps,
                done,
            } => self.started(*processes, *steps, *done).map(Some),
            Line::Step {
                step,
                loss,
                gradient_norm,
                lr,
                tokens,
                target_tokens,
            } => {
                let (Some(loss), Some(gradient_norm)) = (loss, gradient_norm) else {
                    return Err(self.not_finite(*step));
                };
                self.check_step(*step, *lr, *tokens, *target_tokens)?;
                let planned = &self.training.steps[step - 1];
                let rows = planned.rows.iter().map(|&i| &self.training.rows[i]);
                Ok(Some(TrainEvent::Step {
                    step: *step,
                    loss: *loss,
                    lr: planned.lr,
                    gradient_norm: *gradient_norm,
                    target_tokens: *target_tokens,
                    tokens: rows.map(TokenRow::n_inputs).sum(),
                }))
            }
            Line::Dev { step, loss } => match loss {
                None => Err(self.not_finite(*step)),
                Some(loss) => Ok(Some(TrainEvent::Dev {
                    step: *step,
                    loss: *loss,
                    save_dtype: None,
                })),
            },
            Line::Checkpoint { step } => Ok(Some(TrainEvent::Checkpoint { step: *step })),
            Line::Finished { step, losses } => {
                let planned = self.training.steps.len();
                if *step != planned || self.step != planned {
                    return Err(differs(&format!(
                        "it ended after step {step} of {planned}, having reported {}",
                        self.step
                    )));
                }
                let finite: Option<Vec<f64>> = losses.iter().copied().collect();
                self.losses = Some(finite.ok_or_else(|| self.not_finite(*step))?);
                Ok(None)
            }
        }
    }

    fn started(
        &mut self,
        processes: usize,
        steps: usize,
        done: usize,
    ) -> Result<TrainEvent, ModelError> {
        if std::mem::replace(&mut self.has_started, true) {
            return Err(differs(
                "two processes each took themselves for the first: the launch did not bring its \
                 processes together",
            ));
        }
        if processes != self.shares.processes {
            return Err(differs(&format!(
                "the launch runs {processes} {} and {} were to run; each step would hold other rows \
                 than planned. If the launch is right, state its number of processes (`processes`); \
                 accelerate's MULTI_CPU is known to run one process whatever its config states",
                if processes == 1 {
                    "process"
                } else {
                    "processes"
                },
                self.shares.processes
            )));
        }
        let planned = self.training.steps.len();
        if steps != planned {
            return Err(differs(&format!(
                "it would take {steps} steps instead of {planned}"
            )));
        }
        if done != self.resumed {
            return Err(differs(&format!(
                "it goes on after step {done} instead of {}",
                self.resumed
            )));
        }
        Ok(TrainEvent::Started {
            steps,
            done,
            refused: Vec::new(),
            past: std::mem::take(&mut self.past),
        })
    }

    fn check_step(
        &mut self,
        step: usize,
        lr: Option<f64>,
        tokens: usize,
        target_tokens: usize,
    ) -> Result<(), ModelError> {
        if step != self.step + 1 || step > self.training.steps.len() {
            return Err(differs(&format!(
                "it reports step {step} after step {} of {}",
                self.step,
                self.training.steps.len()
            )));
        }
        let planned = &self.training.steps[step - 1];
        let rows = planned.rows.iter().map(|&i| &self.training.rows[i]);
        // A filler has two tokens.
        let fillers = self.shares.rows() - planned.rows.len();
        let (mut all, mut targets) = (2 * fillers, 0);
        for row in rows {
            all += row.ids.len();
            targets += row.n_loss_tokens();
        }
        for (what, found, planned) in [
            ("tokens", tokens, all),
            ("tokens in the loss", target_tokens, targets),
        ] {
            if found != planned {
                return Err(differs(&format!(
                    "step {step} was of {found} {what} instead of {planned}"
                )));
            }
        }
        let off = (lr.unwrap_or(f64::NAN) - planned.lr).abs();
        if off.is_nan() || off > SAME_RATE * planned.lr.abs().max(f64::MIN_POSITIVE) {
            return Err(differs(&format!(
                "step {step} had the learning rate {} instead of {:e}",
                lr.map_or_else(|| "NaN".to_owned(), |lr| format!("{lr:e}")),
                planned.lr
            )));
        }
        self.step = step;
        Ok(())
    }

    fn not_finite(&self, step: usize) -> ModelError {
        let rows = step.checked_sub(1).and_then(|i| self.training.steps.get(i));
        let names: Vec<String> = rows
            .map(|planned| planned.rows.iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        ModelError::NonFinite {
            step,
            rows: names.join(", "),
        }
    }
}

fn differs(what: &str) -> ModelError {
    ModelError::Invalid(format!(
        "TRL's training is not the one that was planned: {what}"
    ))
}

#[cfg(test)]
mod tests {
    use idiolect_engine::train::PlannedStep;

    use super::*;

    const SHARES: Shares = Shares {
        processes: 2,
        per_device: 1,
        accumulation: 1,
    };

    fn training() -> ExternalTraining {
        let rows = vec![
            TokenRow::new(vec![1, 5, 6], 1),
            TokenRow::new(vec![1, 7], 1),
        ];
        let step = |rows: &[usize]| PlannedStep {
            rows: rows.to_vec(),
            lr: 0.5,
            ends_epoch: true,
        };
        ExternalTraining {
            rows,
            dev: Vec::new(),
            steps: vec![step(&[1, 0]), step(&[0])],
        }
    }

    const STARTED: &str = r#"{"event":"started","processes":2,"steps":2,"done":0,"device":"cpu"}"#;
    const FIRST: &str = r#"{"event":"step","step":1,"loss":2.5,"gradient_norm":1.0,"lr":0.5,"tokens":5,"target_tokens":3}"#;
    const SECOND: &str = r#"{"event":"step","step":2,"loss":2.0,"gradient_norm":1.0,"lr":0.5,"tokens":5,"target_tokens":2}"#;
    const FINISHED: &str = r#"{"event":"finished","step":2,"losses":[1.5]}"#;

    fn follow(lines: &[&str]) -> Result<(Vec<TrainEvent>, Option<Vec<f64>>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let training = training();
        let mut follower = Follower::new(&path, &training, SHARES, 0).unwrap();
        let mut events = Vec::new();
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            // A line that is half written is not read yet.
            fs::write(&path, &text).unwrap();
            let before = events.len();
            let mut sink = |event| {
                events.push(event);
                ControlFlow::Continue(())
            };
            follower
                .read(&mut sink)
                .map_err(|e| e.to_string())
                .map(drop)?;
            assert_eq!(events.len(), before);
            text.push('\n');
            fs::write(&path, &text).unwrap();
            let mut sink = |event| {
                events.push(event);
                ControlFlow::Continue(())
            };
            follower
                .read(&mut sink)
                .map_err(|e| e.to_string())
                .map(drop)?;
        }
        Ok((events, follower.losses().map(<[f64]>::to_vec)))
    }

    #[test]
    fn a_training_as_planned_is_followed() {
        let (events, losses) = follow(&[STARTED, FIRST, SECOND, FINISHED]).unwrap();
        assert_eq!(losses, Some(vec![1.5]));
        assert!(matches!(
            events[0],
            TrainEvent::Started {
                steps: 2,
                done: 0,
                ..
            }
        ));
        assert_eq!(
            events[2],
            TrainEvent::Step {
                step: 2,
                loss: 2.0,
                lr: 0.5,
                gradient_norm: 1.0,
                target_tokens: 2,
                tokens: 2
            }
        );
    }

    #[test]
    fn what_is_not_as_planned_is_named() {
        let changed = |line: &str, from: &str, to: &str| line.replace(from, to);
        for (lines, words) in [
            (
                vec![changed(STARTED, "\"processes\":2", "\"processes\":1")],
                "1 process and 2 were",
            ),
            (
                vec![changed(STARTED, "\"steps\":2", "\"steps\":4")],
                "4 steps instead of 2",
            ),
            (
                vec![changed(STARTED, "\"done\":0", "\"done\":1")],
                "after step 1 instead of 0",
            ),
            (
                vec![STARTED.to_owned(), STARTED.to_owned()],
                "two processes",
            ),
            (
                vec![changed(FIRST, "\"tokens\":5", "\"tokens\":4")],
                "4 tokens instead of 5",
            ),
            (
                vec![changed(FIRST, "\"target_tokens\":3", "\"target_tokens\":2")],
                "2 tokens in the loss instead of 3",
            ),
            (
                vec![changed(FIRST, "\"lr\":0.5", "\"lr\":0.25")],
                "learning rate",
            ),
            (
                vec![changed(FIRST, "\"loss\":2.5", "\"loss\":null")],
                "not finite at step 1; rows of the batch: 1, 0",
            ),
            (vec![SECOND.to_owned()], "step 2 after step 0"),
            (
                vec![FIRST.to_owned(), FIRST.to_owned()],
                "step 1 after step 1",
            ),
            (
                vec![FIRST.to_owned(), FINISHED.to_owned()],
                "having reported 1",
            ),
            (vec!["{\"event\":\"\\u001b\"}".to_owned()], "cannot be read"),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let message = follow(&lines).unwrap_err();
            assert!(message.contains(words), "{lines:?}: {message}");
        }
    }

    #[test]
    fn events_of_finished_steps_are_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let training = training();
        let text = format!("{STARTED}\n{FIRST}\n{SECOND}\n{{\"event\":\"st");
        fs::write(&path, &text).unwrap();
        let mut follower = Follower::new(&path, &training, SHARES, 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{FIRST}\n"));
        let more = STARTED.replace("\"done\":0", "\"done\":1");
        fs::write(&path, format!("{FIRST}\n{more}\n")).unwrap();
        let mut events = Vec::new();
        let flow = follower.read(&mut |event| {
            events.push(event);
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        let TrainEvent::Started { past, .. } = &events[0] else {
            panic!("{events:?}");
        };
        assert_eq!(past.len(), 1);
        // A file that lost a step knows none.
        fs::write(&path, format!("{SECOND}\n")).unwrap();
        Follower::new(&path, &training, SHARES, 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
