//! Countdown problems out of the generator, in place of a data set.

use std::path::PathBuf;

use idiolect_core::record::{Split, TaskName};
use idiolect_core::store::{Meta, Opened, Output};
use idiolect_core::task::countdown::{Difficulty, Generator};
use idiolect_core::task::{ImportRow, Task, task};
use serde_json::json;

use super::{Control, Outcome, StageError};

/// What to draw.
#[derive(Clone, Debug)]
pub struct DrawSettings {
    /// How many problems.
    pub count: usize,
    /// How hard.
    pub difficulty: Difficulty,
    /// Decides every draw.
    pub seed: u64,
    /// The split of all of them.
    pub split: Split,
    /// First part of their ids.
    pub set: String,
    /// `problems.jsonl`.
    pub output: PathBuf,
}

/// Writes the problems, each with one solution in `gold_expr`. Which problem comes next depends on
/// those before it, so an unfinished output starts over.
pub fn draw(settings: &DrawSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let task = task(TaskName::Countdown);
    let mut generator = Generator::new(settings.seed, settings.difficulty)
        .map_err(|why| StageError::usage(why, "idiolect import --help names the settings"))?;
    let meta = provenance(settings, task);
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    output.restart()?;
    let total = settings.count as u64;
    let mut meter = control.progress.begin("import", "problems", Some(total), 0);
    for index in 0..settings.count {
        let drawn = generator.draw().map_err(|why| {
            StageError::failed(why, "allow larger numbers, more of them, or fewer problems")
        })?;
        let row = json!({
            "numbers": drawn.numbers,
            "target": drawn.target,
            "gold_expr": drawn.solution.to_string(),
        });
        let at = ImportRow {
            index,
            split: Some(settings.split),
            set: settings.set.clone(),
        };
        let imported = row
            .as_object()
            .ok_or_else(|| "no object".to_owned())
            .and_then(|row| task.import(row, &at))
            .map_err(|why| StageError::failed(format!("a drawn problem: {why}"), ""))?;
        output.append(&imported.problem)?;
        meter.advance(1);
        if control.stop.requested() {
            return Err(StageError::Interrupted);
        }
    }
    drop(meter);
    Outcome::of(
        &settings.output,
        &output.finish_appended(total)?,
        false,
        control,
    )
}

fn provenance(settings: &DrawSettings, task: &dyn Task) -> Meta {
    let hard = settings.difficulty;
    let mut meta = Meta::of("import");
    meta.setting("generate", settings.count)
        .setting("numbers", hard.numbers)
        .setting("max", hard.max_number)
        .setting("max_target", hard.max_target)
        .setting("min_solutions", hard.min_solutions)
        .setting("max_solutions", hard.max_solutions)
        .setting("seed", settings.seed)
        .setting("split", settings.split)
        .setting("set", &settings.set)
        .version("task", task.verifier());
    meta
}
