//! Corrupt: flawed copies of traces by dose, content controls of them, and crossed copies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idiolect_core::control;
use idiolect_core::crossed;
use idiolect_core::flaw::{FlawOp, FlawSettings, corrupt_problem};
use idiolect_core::record::Trace;
use idiolect_core::store::{BadRow, Meta, Opened, Output};
use idiolect_model::Rng;

use super::inputs::{Input, Problems};
use super::{Control, Outcome, StageError};

/// What to do to the traces.
#[derive(Clone, Debug)]
pub enum Corruption {
    /// Each step made wrong with a probability.
    Flaws(FlawSettings),
    /// The style without the problem's content.
    ContentControl {
        /// Decides which.
        seed: u64,
        /// The trace's own right answer stands behind the control's steps.
        right_answer: bool,
    },
    /// The final answer without the steps.
    AnswerOnly,
    /// A generated world's chain, told as its people do.
    HumanStyle {
        /// Decides phrasings.
        seed: u64,
    },
}

/// What to corrupt.
#[derive(Clone, Debug)]
pub struct CorruptSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// The traces to corrupt.
    pub traces: Vec<PathBuf>,
    /// How.
    pub corruption: Corruption,
    /// `traces.jsonl`.
    pub output: PathBuf,
}

/// Of how controls are made. 2: each donor lends its text once.
const CONTROL_VERSION: &str = "2";

/// Writes one copy or control a trace, in the order of the traces; equal ones collapse to
/// the first. Corrupting is quick, so an unfinished output starts over.
pub fn corrupt(settings: &CorruptSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let problems = Problems::read(&settings.problems, &[])?;
    let input = Input::open_all(&settings.traces)?;
    let mut meta = Meta::of("corrupt");
    problems.record(&mut meta);
    meta.input("traces", input.hash());
    match &settings.corruption {
        Corruption::Flaws(flaws) => meta.setting("flaws", flaws),
        Corruption::ContentControl { seed, right_answer } => {
            if *right_answer {
                meta.setting("answer", "right");
            }
            meta.setting("control", true)
                .setting("seed", seed)
                .version("control", CONTROL_VERSION)
        }
        Corruption::AnswerOnly => meta.setting("answer_only", true),
        Corruption::HumanStyle { seed } => meta.setting("human_style", true).setting("seed", seed),
    };
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    output.restart()?;
    for bad in &problems.bad {
        output.append_refused(bad)?;
    }
    let seen = problems.bad.len() as u64 + copy(settings, &problems, &input, &mut output, control)?;
    if !control.is_shard() && control.too_many(output.rejected(), seen) {
        // Quickly made again, while a part of the copies would pass for all of them.
        let rejected = output.rejected();
        output.abandon()?;
        return Err(control.refusal(&settings.output, rejected, seen)?);
    }
    Outcome::of(
        &settings.output,
        &output.finish_appended(seen)?,
        false,
        control,
    )
}

fn copy(
    settings: &CorruptSettings,
    problems: &Problems,
    input: &Input,
    output: &mut Output,
    control: Control<'_>,
) -> Result<u64, StageError> {
    let donors = donors(settings, problems, input)?;
    let (mut seen, mut good, mut ids) = (0, 0, BTreeSet::new());
    let mut meter = control
        .progress
        .begin("corrupt", "traces", input.lines(), 0);
    for row in input.rows::<Trace>()? {
        seen += 1;
        meter.advance(1);
        let made = match row? {
            Err(bad) => Err(bad),
            Ok(row) => {
                good += 1;
                changed(settings, problems, &donors, (good - 1, &row.value))
                    .map_err(|reason| BadRow::new(&row.file, row.line, reason, &row.value.text))
            }
        };
        match made {
            Err(bad) => output.append_refused(&bad)?,
            // A parent may be there twice, from two origins.
            Ok(trace) if ids.insert((trace.id.clone(), trace.origin.parent.clone())) => {
                output.append(&trace)?;
            }
            Ok(_) => {}
        }
        if control.stop.requested() {
            return Err(StageError::Interrupted);
        }
    }
    Ok(seen)
}

/// Steps of other problems that a flawed trace may take one from.
const FOREIGN_STEPS: usize = 16;

/// What a corruption borrows from.
enum Donors {
    /// All traces, and for each the place of the one that its content control takes.
    Traces(Vec<Trace>, Vec<Option<usize>>),
    /// All steps with their problems.
    Steps(Vec<(String, String)>),
    /// Nothing.
    None,
}

fn donors(
    settings: &CorruptSettings,
    problems: &Problems,
    input: &Input,
) -> Result<Donors, StageError> {
    let traces = || -> Result<Vec<Trace>, StageError> {
        let rows = input.rows::<Trace>()?.collect_good(drop)?;
        Ok(rows.into_iter().map(|row| row.value).collect())
    };
    let flaws = match &settings.corruption {
        Corruption::ContentControl { seed, .. } => {
            let traces = traces()?;
            let of_each = control::donors(&traces, *seed);
            return Ok(Donors::Traces(traces, of_each));
        }
        Corruption::AnswerOnly | Corruption::HumanStyle { .. } => return Ok(Donors::None),
        Corruption::Flaws(flaws) => flaws,
    };
    if !flaws.ops.contains(&FlawOp::ForeignStep) {
        return Ok(Donors::Steps(Vec::new()));
    }
    let mut steps = Vec::new();
    for trace in traces()? {
        let Some(problem) = problems.get(&trace.problem_id) else {
            continue;
        };
        for step in problems.task(problem).steps(problem, &trace.text) {
            let text = &trace.text[step.start..step.end];
            steps.push((trace.problem_id.clone(), text.to_owned()));
        }
    }
    Ok(Donors::Steps(steps))
}

/// Some steps of other problems, by lot.
fn foreign<'a>(steps: &'a [(String, String)], trace: &Trace, seed: u64) -> Vec<&'a str> {
    if steps.is_empty() {
        return Vec::new();
    }
    let mut rng = Rng::keyed(seed, &["foreign steps", &trace.id]);
    (0..FOREIGN_STEPS)
        .map(|_| &steps[rng.below(steps.len())])
        .filter(|(problem, _)| *problem != trace.problem_id)
        .map(|(_, text)| text.as_str())
        .collect()
}

/// The copy of a trace, which is the `at`-th that could be read.
fn changed(
    settings: &CorruptSettings,
    problems: &Problems,
    donors: &Donors,
    (at, trace): (usize, &Trace),
) -> Result<Trace, String> {
    let problem = problems.of(trace)?;
    match (&settings.corruption, donors) {
        (Corruption::Flaws(flaws), Donors::Steps(steps)) => {
            let steps = foreign(steps, trace, flaws.seed);
            corrupt_problem(problem, trace, &steps, flaws).map_err(|error| error.to_string())
        }
        (Corruption::ContentControl { seed, right_answer }, Donors::Traces(traces, of_each)) => {
            let donor = of_each.get(at).copied().flatten().map(|at| &traces[at]);
            let made = control::control(problem, trace, donor, *seed)
                .map_err(|error| error.to_string())?;
            if !right_answer {
                return Ok(made);
            }
            crossed::unrelated_steps(problem, trace, &made).map_err(|error| error.to_string())
        }
        (Corruption::AnswerOnly, _) => {
            crossed::answer_only(problem, trace).map_err(|error| error.to_string())
        }
        (Corruption::HumanStyle { seed }, _) => {
            crossed::in_human_style(problem, trace, *seed).map_err(|error| error.to_string())
        }
        _ => Err("donors of another corruption".to_owned()),
    }
}
