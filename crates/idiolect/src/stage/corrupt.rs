//! Corrupt: flawed copies of traces by dose, or content controls of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idiolect_core::control::control as control_of;
use idiolect_core::flaw::{FlawSettings, corrupt as corrupt_trace};
use idiolect_core::record::Trace;
use idiolect_core::store::{BadRow, Meta, Opened, Output};

use super::inputs::{Input, Problems};
use super::{Control, Outcome, StageError};

/// What to do to the traces.
#[derive(Clone, Debug)]
pub(crate) enum Corruption {
    /// Each step made wrong with a probability.
    Flaws(FlawSettings),
    /// The dialect without the problem's content.
    ContentControl {
        /// Decides which.
        seed: u64,
    },
}

/// What to corrupt.
#[derive(Clone, Debug)]
pub(crate) struct CorruptSettings {
    /// `problems.jsonl`.
    pub(crate) problems: PathBuf,
    /// The traces to corrupt.
    pub(crate) traces: PathBuf,
    /// How.
    pub(crate) corruption: Corruption,
    /// `traces.jsonl`.
    pub(crate) output: PathBuf,
}

/// Writes one flawed or control trace a trace, in the order of the traces; equal ones collapse to
/// the first. Corrupting is quick, so an unfinished output starts over.
pub(crate) fn corrupt(
    settings: &CorruptSettings,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let problems = Problems::read(&settings.problems, &[])?;
    let input = Input::open(&settings.traces)?;
    let mut meta = Meta::of("corrupt");
    problems.tell(&mut meta);
    meta.input("traces", input.hash());
    match &settings.corruption {
        Corruption::Flaws(flaws) => meta.setting("flaws", flaws),
        Corruption::ContentControl { seed } => meta.setting("control", true).setting("seed", seed),
    };
    let mut output = match Output::open(&settings.output, &meta, control.fresh)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    output.restart()?;
    for bad in &problems.bad {
        output.reject(bad)?;
    }
    let seen = problems.bad.len() as u64 + copy(settings, &problems, &input, &mut output, control)?;
    Outcome::of(&settings.output, &output.finish(seen)?, false, control)
}

fn copy(
    settings: &CorruptSettings,
    problems: &Problems,
    input: &Input,
    output: &mut Output,
    control: Control<'_>,
) -> Result<u64, StageError> {
    let donors = donors(settings, input)?;
    let (mut seen, mut ids) = (0, BTreeSet::new());
    let mut meter = control
        .progress
        .begin("corrupt", "traces", input.lines(), 0);
    for row in input.rows::<Trace>()? {
        seen += 1;
        meter.advance(1);
        let made = match row? {
            Err(bad) => Err(bad),
            Ok(row) => changed(settings, problems, &donors, &row.value)
                .map_err(|reason| BadRow::new(&input.name(), row.line, reason, &row.value.text)),
        };
        match made {
            Err(bad) => output.reject(&bad)?,
            // A parent may stand twice, from two origins.
            Ok(trace) if ids.insert((trace.id.clone(), trace.origin.parent.clone())) => {
                output.push(&trace)?;
            }
            Ok(_) => {}
        }
        if control.stop.requested() {
            return Err(StageError::Interrupted);
        }
    }
    Ok(seen)
}

/// The traces that a content control may borrow from: all of them.
fn donors(settings: &CorruptSettings, input: &Input) -> Result<Vec<Trace>, StageError> {
    if matches!(settings.corruption, Corruption::Flaws(_)) {
        return Ok(Vec::new());
    }
    let rows = input.rows::<Trace>()?.collect_good(drop)?;
    Ok(rows.into_iter().map(|row| row.value).collect())
}

fn changed(
    settings: &CorruptSettings,
    problems: &Problems,
    donors: &[Trace],
    trace: &Trace,
) -> Result<Trace, String> {
    let problem = problems
        .get(&trace.problem_id)
        .ok_or_else(|| format!("no problem has the id `{}`", trace.problem_id))?;
    match &settings.corruption {
        Corruption::Flaws(flaws) => corrupt_trace(trace, flaws).map_err(|error| error.to_string()),
        Corruption::ContentControl { seed } => {
            control_of(problem, trace, donors, *seed).map_err(|error| error.to_string())
        }
    }
}
