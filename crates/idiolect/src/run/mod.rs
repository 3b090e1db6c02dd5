//! `idiolect run`: a whole experiment, from nothing to a report, in one directory.
//!
//! The stages are the same functions that the single commands call, in the fixed order that
//! [`world::stages`] shows. Each is skipped where its output already stands, so the same command
//! continues an interrupted run; a changed recipe is refused with the keys that differ.

pub(crate) mod benchmark;
mod calibrate;
mod claims;
pub(crate) mod costs;
mod finetune;
mod inputs;
mod jobs;
mod layout;
mod limits;
mod overall;
mod plan;
pub(crate) mod recipe;
mod record;
mod results;
mod source;
mod traces;
mod view;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::comparison::Comparison;
use idiolect_core::store::{Lock, write_atomic};
use idiolect_core::task::{PromptFile, Task};

use self::layout::World;
use self::overall::Overall;
use self::recipe::{BUILT_IN, Recipe, Source};
use crate::interrupt::Stop;
use crate::progress::Progress;
use crate::sandbox::Protection;
use crate::stage::{Control, StageError};

/// The last stage to do, in order.
pub(crate) const STAGES: [&str; 8] = [
    "source", "pretrain", "traces", "verify", "score", "arms", "finetune", "report",
];

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    /// A recipe file, the name of a built-in one, or none for the default experiment.
    pub(crate) recipe: Option<String>,
    /// The run directory; `runs/<recipe's name>` where unset, `runs/default` for the default.
    pub(crate) out: Option<PathBuf>,
    /// `KEY=VALUE` overrides.
    pub(crate) sets: Vec<String>,
    /// Stop after this stage.
    pub(crate) until: Option<String>,
    /// Say what would be done, and do nothing.
    pub(crate) dry_run: bool,
    /// Throw an earlier run in the directory away.
    pub(crate) overwrite: bool,
    /// Jobs at once.
    pub(crate) threads: usize,
    /// Whether model-written code may run without the sandbox.
    pub(crate) protection: Protection,
}

/// What every part of a run needs.
pub(crate) struct RunContext<'a> {
    recipe: &'a Recipe,
    overall: &'a Overall,
    record: &'a record::Record,
    stop: &'a Stop,
    threads: usize,
    max_rejects: f64,
    protection: Protection,
    /// The last stage to do, as an index into [`STAGES`].
    until: usize,
}

impl<'a> RunContext<'a> {
    /// The control of a stage whose progress goes to `progress`.
    fn control<'b>(&'b self, progress: &'b Progress, threads: usize) -> Control<'b> {
        Control {
            progress,
            stop: self.stop,
            overwrite: false,
            max_rejects: self.max_rejects,
            threads,
            protection: self.protection,
        }
    }

    fn note(&self, text: &str) {
        self.overall.note(text);
    }

    /// The name of the prompt that problems are asked with; none is the task's default.
    fn prompt_name(&self) -> Option<String> {
        prompt_name(self.recipe)
    }

    fn prompt(&self, task: &dyn Task) -> Result<PromptFile, StageError> {
        match self.prompt_name() {
            None => Ok(task.default_prompt()),
            Some(name) => task.prompt_file(&name).ok_or_else(|| {
                StageError::failed(format!("the task has no prompt named `{name}`"), "")
            }),
        }
    }

    fn goes_on_after(&self, stage: &str) -> bool {
        STAGES
            .iter()
            .position(|s| *s == stage)
            .is_some_and(|at| at < self.until)
    }
}

/// The name of the prompt that a recipe's problems are asked with; none is the task's default.
fn prompt_name(recipe: &Recipe) -> Option<String> {
    match &recipe.source {
        Source::Miniature { .. } => Some("mini".to_owned()),
        Source::Gsm8kTraces { prompt, .. } => Some(prompt.clone()),
    }
}

/// What a run gave: the table of arms for a person once it is complete.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// What to print.
    pub(crate) text: String,
    /// `comparison.json`, where the run got that far; of a plan, the plan.
    pub(crate) comparison: Option<serde_json::Value>,
}

/// Runs, continues or plans an experiment.
pub(crate) fn run(
    settings: &RunSettings,
    shown: Progress,
    stop: &Stop,
    max_rejects: f64,
) -> Result<Finished, StageError> {
    let (text, origin) = recipe_text(settings.recipe.as_deref())?;
    let recipe = recipe::resolve(&text, &origin, &settings.sets).map_err(|e| {
        StageError::usage(
            e.to_string(),
            "the built-in recipes lie in `recipes/` and show every key",
        )
    })?;
    let dir = match (&settings.out, &settings.recipe) {
        (Some(dir), _) => dir.clone(),
        (None, None) => PathBuf::from("runs/default"),
        (None, Some(_)) => default_directory(&recipe.name)?,
    };
    let until = stage_index(settings.until.as_deref())?;
    // A run that was begun needs of its inputs what is left to do, and says so itself.
    if settings.dry_run || !dir.join("recipe.toml").exists() {
        inputs::check(&recipe)?;
    }
    if settings.dry_run {
        let plan = plan::plan(&recipe, &dir, settings.threads);
        return Ok(Finished {
            text: plan::describe(&recipe, &dir, &plan),
            comparison: serde_json::to_value(&plan).ok(),
        });
    }
    let _lock = open_directory(&dir, &recipe, settings.overwrite)?;
    let record = record::Record::open(&dir, &recipe, settings)?;
    let overall = Overall::new(costs::units(&recipe), shown);
    let context = RunContext {
        recipe: &recipe,
        overall: &overall,
        record: &record,
        stop,
        threads: settings.threads,
        max_rejects,
        protection: settings.protection,
        until,
    };
    overall.note(&plan::detectable(&recipe));
    overall.begin();
    let finished = experiment(&context, &dir);
    overall.end();
    record.close(finished.is_ok())?;
    finished
}

fn experiment(run: &RunContext<'_>, dir: &Path) -> Result<Finished, StageError> {
    let worlds: Vec<(usize, World)> = (0..run.recipe.worlds)
        .map(|n| (n, World::of(dir, n, run.recipe.worlds)))
        .collect();
    for (number, world) in &worlds {
        world::stages(run, *number, world)?;
    }
    if run.until + 1 < STAGES.len() {
        let text = format!(
            "done up to `{}`; the run lies in {}\n",
            STAGES[run.until],
            dir.display()
        );
        return Ok(Finished {
            text,
            comparison: None,
        });
    }
    results::compare_and_report(run, dir, &worlds)
}

/// Makes the report of a finished run again from its files: `report.html` and `report.md`, or the
/// one file that `output` names (Markdown where it ends in `.md`).
pub(crate) fn report(dir: &Path, output: Option<&Path>) -> Result<String, StageError> {
    let stored = dir.join("recipe.toml");
    let text = fs::read_to_string(&stored).map_err(|source| {
        StageError::failed(
            format!(
                "`{}` holds no run: cannot read `recipe.toml`: {source}",
                dir.display()
            ),
            "give the directory that `idiolect run` wrote",
        )
    })?;
    let mut recipe = recipe::read_stored(&text, &stored.display().to_string())
        .map_err(|error| StageError::failed(error.to_string(), ""))?;
    let path = dir.join("comparison.json");
    let comparison = fs::read(&path).map_err(|source| {
        StageError::failed(
            format!(
                "`{}` is not finished: cannot read `comparison.json`: {source}",
                dir.display()
            ),
            "`idiolect run` with its recipe continues it",
        )
    })?;
    let comparison: Comparison = serde_json::from_slice(&comparison).map_err(|error| {
        StageError::failed(
            format!("`{}` is no comparison: {error}", path.display()),
            "",
        )
    })?;
    let worlds: Vec<(usize, World)> = (0..recipe.worlds)
        .map(|n| (n, World::of(dir, n, recipe.worlds)))
        .collect();
    // The stored recipe leaves out the path of a given student; that there was one is seen here.
    if worlds
        .first()
        .is_some_and(|(_, world)| !world.model("student").exists())
    {
        recipe.student = Some(String::new());
    }
    let view = results::view_of(&recipe, comparison, &worlds)?;
    let (html, markdown) = match output {
        None => (Some(dir.join("report.html")), Some(dir.join("report.md"))),
        Some(path) if path.extension().is_some_and(|e| e == "md") => (None, Some(path.to_owned())),
        Some(path) => (Some(path.to_owned()), None),
    };
    let mut written = Vec::new();
    if let Some(path) = html {
        write_atomic(&path, idiolect_report::html(&view).as_bytes())?;
        written.push(path.display().to_string());
    }
    if let Some(path) = markdown {
        write_atomic(&path, idiolect_report::markdown(&view).as_bytes())?;
        written.push(path.display().to_string());
    }
    Ok(written.join("\n"))
}

fn stage_index(until: Option<&str>) -> Result<usize, StageError> {
    let Some(name) = until else {
        return Ok(STAGES.len() - 1);
    };
    STAGES
        .iter()
        .position(|stage| *stage == name)
        .ok_or_else(|| {
            StageError::usage(
                format!("there is no stage `{name}`"),
                &format!("the stages are {}", STAGES.join(", ")),
            )
        })
}

/// Where the run of a recipe of this name goes: `runs/NAME`.
fn default_directory(name: &str) -> Result<PathBuf, StageError> {
    let plain = !name.trim().is_empty()
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    if plain {
        return Ok(Path::new("runs").join(name));
    }
    Err(StageError::usage(
        format!("the recipe's name {name:?} is no name of a directory"),
        "give the run directory with --out DIR, or another name with --set name=NAME",
    ))
}

/// The recipe's text, and where it came from.
fn recipe_text(asked: Option<&str>) -> Result<(String, String), StageError> {
    let Some(asked) = asked else {
        return Ok((BUILT_IN[0].1.to_owned(), "the default recipe".to_owned()));
    };
    let path = Path::new(asked);
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == asked) {
        return Ok(((*text).to_owned(), format!("the recipe `{name}`")));
    }
    let text = fs::read_to_string(path).map_err(|e| {
        let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        StageError::usage(
            format!("cannot read the recipe `{asked}`: {e}"),
            &format!(
                "give a TOML file or one of the built-in recipes: {}",
                names.join(", ")
            ),
        )
    })?;
    Ok((text, asked.to_owned()))
}

/// Takes the run directory: a new one, or one that holds a run of the same recipe.
fn open_directory(dir: &Path, recipe: &Recipe, overwrite: bool) -> Result<Lock, StageError> {
    fs::create_dir_all(dir).map_err(|source| io("create", dir, source))?;
    let lock = Lock::acquire(&dir.join(".lock"), dir)?;
    let path = dir.join("recipe.toml");
    let now = recipe::stored(recipe);
    let earlier = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(io("read", &path, source)),
    };
    match earlier {
        Some(_) if overwrite => empty(dir)?,
        Some(old) => {
            let differences = recipe::differences(&old, &now);
            if !differences.is_empty() {
                return Err(StageError::failed(
                    format!(
                        "`{}` holds a run with other settings:\n  {}",
                        dir.display(),
                        differences.join("\n  ")
                    ),
                    "use the settings that it was made with, another directory with --out, or --overwrite to start over",
                ));
            }
        }
        None => {
            let used = fs::read_dir(dir)
                .map_err(|source| io("read", dir, source))?
                .any(|entry| {
                    entry.is_ok_and(|e| {
                        e.file_name() != ".lock" && e.file_name() != "recipe.toml.tmp"
                    })
                });
            if used {
                return Err(StageError::failed(
                    format!("`{}` is not empty and holds no run", dir.display()),
                    "give an empty or new directory with --out",
                ));
            }
        }
    }
    write_atomic(&path, now.as_bytes())?;
    Ok(lock)
}

/// Removes an earlier run, the lock aside.
fn empty(dir: &Path) -> Result<(), StageError> {
    for entry in fs::read_dir(dir).map_err(|source| io("read", dir, source))? {
        let path = entry.map_err(|source| io("read", dir, source))?.path();
        if path.file_name().is_some_and(|name| name == ".lock") {
            continue;
        }
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| io("remove", &path, source))?;
    }
    Ok(())
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> StageError {
    idiolect_core::store::StoreError::Io {
        path: path.display().to_string(),
        doing,
        source,
    }
    .into()
}
