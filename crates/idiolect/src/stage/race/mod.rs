//! Race: which arm would teach a student most, for a fraction of the cost of training it on each.
//!
//! Every rung trains the arms that are still in question for longer than the one before, each from
//! the student as it is, and asks them the same problems, which no arm holds and no test does. What
//! follows from the readings is decided in [`idiolect_core::race`]; here is what it takes: rows,
//! problems, trainings, evaluations, all of them outputs of their own that a later process continues.

mod inputs;
mod result;

use std::path::{Path, PathBuf};

use idiolect_core::race::{
    Belief, Ending, FULL_SEEDS, Next, RUNGS, Reading, Rules, Standing, in_full, next,
};
use idiolect_core::record::{EvalRow, Problem, Verdict};
use idiolect_core::store::{self, Key, Meta, Opened, Output, Rows};
use idiolect_model::{Model, Rng, Sampling, TrainSettings};

use self::inputs::{Field, Lane};
pub use self::result::{RaceResult, RacedArm, RungReading};
use super::eval::{EvalSettings, eval};
use super::inputs::record_model;
use super::student::StudentText;
use super::train::{TrainStageSettings, record_training, train_within, trial};
use super::{Control, StageError};

/// What to race, and how far.
#[derive(Clone, Debug)]
pub struct RaceSettings {
    /// Names and files.
    pub arms: Vec<(String, PathBuf)>,
    /// `problems.jsonl`, with problems that are no test's and in no arm.
    pub problems: PathBuf,
    /// A built-in prompt or a file; `None` is the task's default.
    pub prompt: Option<String>,
    /// The full training of an arm, of which the rungs are fractions.
    pub train: TrainSettings,
    /// Rows of an arm in the first rung, at most.
    pub rows: usize,
    /// Problems that are asked, at most.
    pub ask: usize,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// When to drop and when to stop.
    pub rules: Rules,
    /// Share of the cost of training every arm in full with [`FULL_SEEDS`] seeds that may be spent.
    pub budget: f64,
    /// What is expected of each arm before anything is read, where something is.
    pub prior: Option<Vec<Expectation>>,
    /// Decides rows, problems and draws; the trainings have their own.
    pub seed: u64,
    /// The folder of everything that is made.
    pub output: PathBuf,
}

/// What is expected of an arm: a gain in accuracy, a fraction, and its standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// The gain.
    pub gain: f64,
    /// Its standard deviation.
    pub sd: f64,
}

/// Opens the student, or a checkpoint of it.
pub type Opener<'a> = dyn Fn(Option<&Path>) -> Result<Box<dyn Model>, StageError> + 'a;

/// The student and what is trained of it.
pub struct Stable<'a> {
    /// Opens the student, or a checkpoint of it.
    pub open: &'a Opener<'a>,
    /// Its text side, and the longest row that it is trained on.
    pub text: &'a StudentText,
}

/// Races the arms and says which to train on.
///
/// # Errors
/// Arms or problems that cannot be read; a row that the student cannot be trained on; and those of
/// training and evaluation. What is done is kept, and the same command continues.
pub fn race(
    settings: &RaceSettings,
    student: &Stable<'_>,
    control: Control<'_>,
) -> Result<RaceResult, StageError> {
    if settings.budget <= 0.0 {
        return Err(StageError::usage(
            "a budget of 0 pays for no training",
            "give --budget a share above 0, such as 0.2",
        ));
    }
    let field = Field::read(settings)?;
    let mut model = (student.open)(None)?;
    let mut meta = Meta::of("race");
    field.record(&mut meta);
    record_model(&mut meta, model.info());
    record_training(&mut meta, &settings.train);
    meta.setting("rows", settings.rows)
        .setting("ask", settings.ask)
        .setting("max_tokens", student.text.max_tokens)
        .setting("max_answer_tokens", settings.max_tokens)
        .setting("rules", &settings.rules)
        .setting("budget", settings.budget)
        .setting(
            "prior",
            settings
                .prior
                .as_ref()
                .map(|prior| prior.iter().map(|e| [e.gain, e.sd]).collect::<Vec<_>>()),
        )
        .setting("race_seed", settings.seed);
    let path = settings.output.join("race.json");
    std::fs::create_dir_all(&settings.output).map_err(|error| {
        StageError::failed(
            format!(
                "cannot make the folder `{}`: {error}",
                settings.output.display()
            ),
            "",
        )
    })?;
    let mut output = match Output::open(&path, &meta, control.overwrite)? {
        Opened::Complete(_) => return result::read(&path),
        Opened::Unfinished(output) => output,
    };
    // Nothing that a race makes belongs to one that has not begun.
    let begun = Key::new(BEGUN, 0);
    let is_new = !output.contains(begun);
    let laying = Control {
        overwrite: control.overwrite || is_new,
        ..control
    };
    let track = Track {
        settings,
        student,
        control,
        problems: settings.output.join("problems.jsonl"),
    };
    let lanes = field.lanes(settings);
    let tokens = track.lay_out(&field, &lanes, laying)?;
    let asked = field.write_problems(&track.problems, laying)?;
    if is_new {
        // From here on it is bound to its settings: an empty journal would bind nobody.
        output.push(BEGUN, 0, &true)?;
    }
    let base = track.ask(model.as_mut(), "base.eval.jsonl", None)?;
    drop(model);
    let run = track.run(&field, &lanes, &tokens, &asked)?;
    let told = result::told(settings, &field, &asked, &base, run);
    output.push(TOLD, 0, &told)?;
    output.finish(&store::Ending {
        order: &[Key::new(TOLD, 0)],
        refused: &[],
        seen: 1,
    })?;
    Ok(told)
}

/// What the journal of a race holds: that a training may have been made, then the result.
const BEGUN: &str = "begun";
const TOLD: &str = "told";

/// What a race came to.
struct Finished {
    /// What is believed of the full training.
    belief: Belief,
    standing: Standing,
    ending: Ending,
    /// Of each arm, in the order of rungs.
    readings: Vec<Vec<RungReading>>,
    /// Arms that may be the best and that the budget held back.
    unpaid: Vec<usize>,
    /// Tokens trained on, those of the first rung, and those of every arm in full with every seed.
    spent: f64,
    first: f64,
    full: f64,
}

/// Where trainings and evaluations are made.
struct Track<'a> {
    settings: &'a RaceSettings,
    student: &'a Stable<'a>,
    control: Control<'a>,
    /// The problems that are asked.
    problems: PathBuf,
}

impl Track<'_> {
    /// Lays down the rows of every rung and counts the tokens that its training reads, prompts
    /// included: before the first training, so that a row that cannot be trained on is told before
    /// hours are spent.
    fn lay_out(
        &self,
        field: &Field,
        lanes: &[Vec<Lane>],
        control: Control<'_>,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        let mut tokens = Vec::new();
        for (arm, rungs) in lanes.iter().enumerate() {
            let mut costs = Vec::new();
            for lane in rungs {
                let data = field.write_rows(arm, lane, self.settings, control)?;
                costs.push(self.tokens(arm, &data, lane)?);
            }
            tokens.push(costs);
        }
        Ok(tokens)
    }

    fn run(
        &self,
        field: &Field,
        lanes: &[Vec<Lane>],
        tokens: &[Vec<f64>],
        asked: &[Problem],
    ) -> Result<Finished, StageError> {
        let settings = self.settings;
        let names = || settings.arms.iter().map(|(name, _)| name.as_str());
        let last = RUNGS.len() - 1;
        let full: f64 = FULL_SEEDS as f64 * tokens.iter().map(|costs| costs[last]).sum::<f64>();
        let first: f64 = tokens.iter().map(|costs| costs[0]).sum();
        if let Some(words) = result::over_budget(first / full.max(1.0), settings.budget) {
            self.control.progress.note("race", &words);
        }
        let mut running: Vec<usize> = (0..lanes.len()).collect();
        let mut readings: Vec<Vec<RungReading>> = vec![Vec::new(); lanes.len()];
        let (mut spent, mut unpaid) = (0.0, Vec::new());
        let mut belief: Option<Belief> = None;
        let mut rung = 0;
        loop {
            let mut scores = Vec::new();
            for &arm in &running {
                let lane = &lanes[arm][rung];
                let of_arm = self.train_and_ask(field, arm, rung, lane, asked)?;
                spent += tokens[arm][rung];
                readings[arm].push(RungReading {
                    epochs: lane.epochs,
                    rows: lane.rows,
                    tokens: tokens[arm][rung] as u64,
                    accuracy: idiolect_core::statistics::mean(&of_arm),
                    checkpoint: checkpoint_name(rung, &settings.arms[arm].0),
                });
                scores.push(of_arm);
            }
            let reading = Reading::of(&scores).ok_or_else(|| {
                StageError::failed("no problem was asked", "give problems that no arm holds")
            })?;
            let sd = settings.rules.seed_sd;
            let mut now = match belief.take() {
                Some(mut earlier) => {
                    earlier.drift(settings.rules.drift_sd[rung - 1]);
                    earlier
                }
                None => match &settings.prior {
                    None => Belief::after_first(&reading, sd),
                    Some(prior) => Belief::expecting(
                        &prior.iter().map(|e| e.gain).collect::<Vec<_>>(),
                        &prior.iter().map(|e| e.sd).collect::<Vec<_>>(),
                    ),
                },
            };
            now.read(&running, &reading, sd);
            let of_full = in_full(&now, rung, &settings.rules);
            let mut rng = Rng::keyed(settings.seed, &["race", &rung.to_string()]);
            let standing = of_full.standing(&mut rng);
            let left = settings.budget * full - spent;
            let cost = |arm: usize| tokens[arm][(rung + 1).min(last)];
            let decided = next(&standing, &running, rung, cost, left, &settings.rules);
            self.control.progress.note(
                "race",
                &format!(
                    "{}: best so far {} (P {:.2}), {:.1} % of the full cost spent",
                    rung_words(rung),
                    names().nth(standing.pick).unwrap_or_default(),
                    standing.p_best[standing.pick],
                    100.0 * spent / full.max(1.0),
                ),
            );
            match decided {
                Next::Go { arms, unpaid: held } => {
                    unpaid.extend(held);
                    running = arms;
                    belief = Some(now);
                    rung += 1;
                }
                Next::Stop(ending) => {
                    return Ok(Finished {
                        belief: of_full,
                        standing,
                        ending,
                        readings,
                        unpaid,
                        spent,
                        first,
                        full,
                    });
                }
            }
        }
    }

    /// The training of a rung: the full one with fewer epochs.
    fn settings_of(&self, lane: &Lane) -> TrainSettings {
        TrainSettings {
            epochs: lane.epochs,
            ..self.settings.train.clone()
        }
    }

    /// Tokens that the training of a rung reads. A row that the student cannot be trained on is an
    /// error: arms that lose different rows are no longer matched.
    fn tokens(&self, arm: usize, data: &Path, lane: &Lane) -> Result<f64, StageError> {
        let found = trial(data, None, &self.settings_of(lane), self.student.text)?;
        match found.refused.first() {
            None => Ok((found.plan.tokens * lane.epochs) as f64),
            Some(bad) => Err(StageError::failed(
                format!(
                    "arm `{}`: {} of its rows cannot be trained on; {}, line {}: {}",
                    self.settings.arms[arm].0,
                    found.refused.len(),
                    bad.file,
                    bad.line,
                    bad.reason
                ),
                super::train::REMEDY,
            )),
        }
    }

    /// Trains the student on the rows of a rung and asks it: its score on each problem.
    fn train_and_ask(
        &self,
        field: &Field,
        arm: usize,
        rung: usize,
        lane: &Lane,
        asked: &[Problem],
    ) -> Result<Vec<f64>, StageError> {
        let name = &self.settings.arms[arm].0;
        let checkpoint = checkpoint_name(rung, name);
        let output = self.settings.output.join(&checkpoint);
        self.control
            .progress
            .note("race", &format!("{}: {name}", rung_words(rung)));
        let stage = TrainStageSettings {
            data: field.data_path(arm, lane, self.settings),
            dev: None,
            train: self.settings_of(lane),
            output: output.clone(),
        };
        let limit = self
            .student
            .text
            .max_tokens
            .is_some()
            .then_some(self.student.text);
        let mut model = (self.student.open)(None)?;
        train_within(&stage, limit, model.as_train()?, self.control)?;
        drop(model);
        let mut trained = (self.student.open)(Some(&output))?;
        let rows = Some(lane.rows as u64);
        let scores = self.ask(trained.as_mut(), &format!("{checkpoint}.eval.jsonl"), rows)?;
        debug_assert_eq!(scores.len(), asked.len());
        Ok(scores)
    }

    /// Asks a model the problems, greedily: 1 for each right answer, in their order.
    fn ask(
        &self,
        model: &mut dyn Model,
        name: &str,
        trained_rows: Option<u64>,
    ) -> Result<Vec<f64>, StageError> {
        let settings = EvalSettings {
            problems: self.problems.clone(),
            splits: Vec::new(),
            samples: 1,
            sampling: greedy(self.settings.max_tokens),
            prompt: self.settings.prompt.clone(),
            seed: self.settings.seed,
            trained_rows,
            accept_rounded: false,
            output: self.settings.output.join(name),
        };
        eval(&settings, model.as_generate()?, self.control)?;
        let mut scores = Vec::new();
        for row in Rows::<EvalRow>::open(&settings.output)? {
            let row = row?.map_err(|bad| StageError::failed(bad.reason, ""))?;
            scores.push(f64::from(u8::from(row.value.verdict == Verdict::Correct)));
        }
        Ok(scores)
    }
}

fn greedy(max_tokens: usize) -> Sampling {
    Sampling {
        temperature: 0.0,
        max_tokens,
        ..Sampling::default()
    }
}

/// Where the checkpoint of a rung lies in the folder of the race.
fn checkpoint_name(rung: usize, arm: &str) -> String {
    format!("rung-{}/{arm}", rung + 1)
}

fn rung_words(rung: usize) -> String {
    format!("rung {} of {}", rung + 1, RUNGS.len())
}
