//! `idiolect run`: a whole experiment, from nothing to a report, in one directory.
//!
//! A recipe and the counts of its inputs give the plan ([`plan`]), the list of all jobs; the
//! executor (`execute`) does them in this process, [`state`] shows how far they are, and
//! `idiolect job` does one of them in any process. Jobs call the same stage functions that the single
//! commands call. Each is skipped where its output is complete, so the same command continues an
//! interrupted run; a changed recipe is refused with the keys that differ.

mod calibrate;
mod check;
mod cluster;
mod counts;
mod data;
mod dry_run;
mod execute;
mod files;
pub mod finished;
mod inputs;
mod layout;
mod limits;
pub mod live;
mod mistake;
mod overall;
mod place;
pub mod plan;
pub mod recipe;
mod record;
mod resolve;
mod results;
pub mod schema;
pub mod state;
pub mod template;
mod view;
mod work;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use idiolect_core::arms::{Source as ArmSource, models_to_copy};
use idiolect_core::store::{Lock, StoreError, write_atomic};
use idiolect_core::task::{PromptFile, Task};
use serde_json::{Value, json};

use self::counts::Counts;
use self::files::Folders;
use self::layout::Layout;
use self::overall::Overall;
use self::plan::{Job, Stage, picks_part};
use self::recipe::{BUILT_IN, On, Recipe};
use crate::interrupt::Stop;
use crate::launch::{Logs, Servers};
use crate::progress::Progress;
use crate::sandbox::Protection;
use crate::stage::inputs::prompt_file;
use crate::stage::{Control, Extent, StageError};

/// What to run, where, and how.
#[derive(Clone, Debug, Default)]
pub struct RunSettings {
    /// A recipe file, the name of a built-in one, or none for the default experiment.
    pub recipe: Option<String>,
    /// The run directory; `runs/<recipe's name>` where unset, `runs/default` for the default.
    pub out: Option<PathBuf>,
    /// `KEY=VALUE` overrides.
    pub sets: Vec<String>,
    /// Stop after this stage.
    pub until: Option<String>,
    /// Where jobs run; as the recipe states where unset.
    pub on: Option<On>,
    /// On a cluster: return once everything that can be is submitted.
    pub detach: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Throw an earlier run in the directory away.
    pub overwrite: bool,
    /// How a process of the run works.
    pub process: Process,
}

/// How a process works; none of it changes results.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Jobs at once.
    pub threads: usize,
    /// Share of refused rows above which a job fails.
    pub max_rejects: f64,
    /// Whether model-written code may run without the sandbox.
    pub protection: Protection,
}

impl Default for Process {
    /// A thread a core, one refused row in a hundred, and the sandbox.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            max_rejects: 0.01,
            protection: Protection::Required,
        }
    }
}

/// What every part of a run needs.
struct RunContext<'a> {
    recipe: &'a Recipe,
    counts: &'a Counts,
    folders: Folders,
    dir: &'a Path,
    layout: Layout,
    overall: &'a Overall,
    stop: &'a Stop,
    process: Process,
    /// Those that the recipe's command starts, where a `backend` is `server`.
    servers: Option<Servers>,
}

impl<'a> RunContext<'a> {
    /// The control of a stage whose progress goes to `progress`.
    fn control<'b>(&'b self, progress: &'b Progress, threads: usize) -> Control<'b> {
        Control {
            progress,
            stop: self.stop,
            overwrite: false,
            max_rejects: self.process.max_rejects,
            threads,
            protection: self.process.protection,
            extent: Extent::Whole,
        }
    }

    fn note(&self, text: &str) {
        self.overall.note(text);
    }

    /// The prompt that a task's problems are asked with.
    fn prompt(&self, task: &dyn Task) -> Result<PromptFile, StageError> {
        match self.recipe.prompt() {
            None => Ok(task.default_prompt()),
            Some(name) => prompt_file(task, &name),
        }
    }

    /// Where a student lies: trained in this replicate, or given.
    fn student_dir(&self, replicate: usize, name: &str) -> PathBuf {
        let students = self.recipe.students();
        match students.into_iter().find(|(student, _)| student == name) {
            Some((_, Some(reference))) => PathBuf::from(self.folders.model(&reference)),
            _ => self.layout.model(replicate, "student"),
        }
    }
}

/// What a run gave: the table of arms for a person once it is complete.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What to print.
    pub text: String,
    /// `comparison.json`, where the run got that far; of a dry run, the plan.
    pub json: Value,
}

/// Reads a recipe's text, with its scale and the overrides of `--set`. `origin` names it in errors.
pub fn read_recipe(text: &str, origin: &str, sets: &[String]) -> Result<Recipe, StageError> {
    resolve::resolve(text, origin, sets).map_err(|e| {
        StageError::usage(
            e.to_string(),
            "`idiolect init` writes a commented recipe; the built-in ones lie in `recipes/`",
        )
    })
}

/// The text of a recipe as a run directory keeps it: every key, no scale.
pub fn resolved_text(recipe: &Recipe) -> String {
    resolve::stored(recipe)
}

/// Runs, continues or plans an experiment.
pub fn run(
    settings: &RunSettings,
    progress: Progress,
    stop: &Stop,
) -> Result<Finished, StageError> {
    let (text, origin) = recipe_text(settings.recipe.as_deref())?;
    let recipe = read_recipe(&text, &origin, &settings.sets)?;
    let dir = match (&settings.out, &settings.recipe) {
        (Some(dir), _) => dir.clone(),
        (None, None) => PathBuf::from("runs/default"),
        (None, Some(_)) => default_directory(&recipe.name)?,
    };
    let until = stage_named(settings.until.as_deref())?;
    let mut folders = Folders::of(settings.recipe.as_deref().map(Path::new));
    if let Some(earlier) = record::Record::folders(&dir).filter(|_| !settings.overwrite) {
        folders.keep_commits(earlier);
    }
    folders.fetch_data(&recipe.files(), &recipe.references(), &progress, stop)?;
    inputs::check(&recipe, &folders)?;
    let counts = Counts::of(&recipe, &folders)?;
    inputs::check_counts(&recipe, &counts)?;
    let jobs = plan::plan(&recipe, &counts);
    let on = settings.on.as_ref().unwrap_or(&recipe.execute.on);
    if settings.detach && on.is_local() {
        return Err(StageError::usage(
            "--detach leaves jobs to a cluster, and this run is local",
            "give --on slurm or --on ray://HOST:PORT",
        ));
    }
    if settings.dry_run {
        let described = dry_run::describe(
            &recipe,
            &dir,
            &jobs,
            &counts,
            &folders.downloads(&recipe.references()),
            settings.process.threads,
        );
        let wanted: Vec<Job> = jobs.into_iter().filter(|job| job.stage <= until).collect();
        return match on {
            On::Local => Ok(described),
            on => cluster::describe(described, (&recipe, &dir), &wanted, on, settings.process),
        };
    }
    inputs::check_apart(&recipe, &folders, &dir)?;
    if settings.overwrite {
        cluster::check_idle(&dir, "started over")?;
    } else if on.is_local() {
        cluster::check_idle(&dir, "continued in this process")?;
    }
    let _lock = open_directory(&dir, &recipe, settings.overwrite)?;
    let text = serde_json::to_string_pretty(&json!({ "jobs": jobs })).expect("a plan serialises");
    write_atomic(&dir.join("plan.json"), (text + "\n").as_bytes())?;
    let wanted: Vec<Job> = jobs.into_iter().filter(|job| job.stage <= until).collect();
    let open = || wanted.iter().filter(|job| !state::is_done(&dir, job));
    let template = recipe.models.teacher_template;
    inputs::check_endpoints(open(), template, &|text| progress.note("run", text))?;
    let needed: Vec<String> = open().flat_map(|job| job.external.clone()).collect();
    folders.fetch_models(&needed, &progress, stop)?;
    let record = record::Record::open(&dir, &recipe, &folders, settings.process.threads)?;
    let overall = Overall::new(&wanted, progress);
    overall.note(&dry_run::detectable(&counts));
    let context = RunContext {
        recipe: &recipe,
        counts: &counts,
        folders,
        dir: &dir,
        layout: Layout::of(&dir),
        overall: &overall,
        stop,
        process: settings.process,
        servers: servers(&recipe, &dir)?,
    };
    let open: Vec<&Job> = open().collect();
    // On a cluster they run on its nodes: where a run is submitted there is often no GPU.
    if on.is_local() {
        inputs::check_servers(&context, &open)?;
    }
    overall.begin();
    let done = match on {
        On::Local => {
            let places = recipe.server.places();
            execute::local(&wanted, settings.process.threads, places, |job, threads| {
                one(&context, &record, job, threads)
            })
            .map(|()| true)
        }
        on => cluster::run(&context, &record, &wanted, (on, settings.detach)),
    };
    overall.end();
    record.close(matches!(done, Ok(true)))?;
    if !done? {
        return Ok(Finished {
            text: format!(
                "submitted what can be; `idiolect status {}` shows it, and the same command without --detach goes on\n",
                dir.display()
            ),
            json: json!({"run": dir, "state": "submitted"}),
        });
    }
    if until != Stage::Report {
        return Ok(Finished {
            text: format!(
                "done up to `{}`; the run lies in {}\n",
                until.name(),
                dir.display()
            ),
            json: Value::Null,
        });
    }
    let (text, json) = results::tables(&recipe, &dir)?;
    Ok(Finished { text, json })
}

/// Where the servers run that the recipe's command starts, if any stage asks such.
fn servers(recipe: &Recipe, dir: &Path) -> Result<Option<Servers>, StageError> {
    if !recipe.has_servers() {
        return Ok(None);
    }
    let settings = recipe
        .server
        .settings()
        .map_err(|why| StageError::usage(format!("server.command: {why}"), ""))?;
    let logs = Logs::Folder(Layout::of(dir).servers());
    Ok(Some(Servers::new(settings, &recipe.server.gpus, logs)))
}

/// Does one job and notes it.
fn one(
    run: &RunContext<'_>,
    record: &record::Record,
    job: &Job,
    threads: usize,
) -> Result<(), StageError> {
    let progress = record.noting(job, run.overall.job(job));
    // What is done is looked at again, for its inputs may have changed, but that is no event.
    let event = |name: &str, message: Option<&str>| record.event(job, name, message);
    let was_done = state::is_done(run.dir, job);
    if was_done && (job.endpoint().is_some() || job.is_served() || !job.merged.is_empty()) {
        // Its server may be gone, or the shard that it wrote.
        run.overall.finish(job);
        return Ok(());
    }
    if !was_done {
        event("begin", None);
    }
    let spent = Cell::new(None);
    let done = work::work(run, job, run.control(&progress, threads), &spent);
    if let Some(usage) = spent.take().filter(|usage| usage.requests > 0) {
        record.spent(job, &usage, run.recipe.models.price);
    }
    match done {
        Ok(()) => {
            if !was_done {
                event("end", None);
            }
            run.overall.finish(job);
            Ok(())
        }
        Err(error) => {
            // Neither is a failure of the job: it goes on, here later or in another process.
            let name = match &error {
                StageError::Store(StoreError::Locked { .. }) => "locked",
                StageError::Interrupted => "interrupted",
                _ => "failed",
            };
            event(name, Some(&error.to_string()));
            Err(error)
        }
    }
}

/// Which jobs of a run a process does.
#[derive(Clone, Debug)]
pub enum Which {
    /// One, by its id.
    Job(String),
    /// Those of a task that `run` submitted to a cluster.
    Task(String),
}

/// Does jobs of a run that `idiolect run` began, in this process.
///
/// # Errors
/// Where the run has no such job, what it reads is not there, or it fails.
pub fn job(
    dir: &Path,
    which: &Which,
    process: Process,
    progress: Progress,
    stop: &Stop,
) -> Result<Finished, StageError> {
    let (ids, task) = match which {
        Which::Job(id) => (vec![id.clone()], None),
        Which::Task(task) => (cluster::task_jobs(dir, task)?, Some(task.as_str())),
    };
    let Begun {
        recipe,
        mut folders,
        counts,
        jobs,
    } = Begun::read(dir)?;
    let mut chosen = Vec::new();
    for id in &ids {
        let Some(index) = jobs.iter().position(|job| job.id == *id) else {
            return Err(StageError::usage(
                format!("the run in `{}` has no job `{id}`", dir.display()),
                &format!("`idiolect jobs {}` lists them", dir.display()),
            ));
        };
        chosen.push(index);
    }
    wait_for_inputs(dir, &jobs, &chosen, task.is_some())?;
    let chosen: Vec<Job> = chosen
        .into_iter()
        .map(|index| jobs[index].clone())
        .collect();
    let models: Vec<String> = chosen.iter().flat_map(|job| job.external.clone()).collect();
    folders.fetch_models(&models, &progress, stop)?;
    let record = record::Record::join(dir, task)?;
    let overall = Overall::new(&chosen, progress);
    let context = RunContext {
        recipe: &recipe,
        counts: &counts,
        folders,
        dir,
        layout: Layout::of(dir),
        overall: &overall,
        stop,
        process,
        servers: servers(&recipe, dir)?,
    };
    let begun = Instant::now();
    loop {
        let done = execute::local(
            &chosen,
            process.threads,
            recipe.server.places(),
            |job, threads| one(&context, &record, job, threads),
        );
        match done {
            // A worker that its cluster has given up may live a while longer.
            Err(StageError::Store(StoreError::Locked { .. }))
                if task.is_some() && begun.elapsed() < TAKEN && !stop.requested() =>
            {
                std::thread::sleep(Duration::from_secs(1));
            }
            done => break done?,
        }
    }
    let outputs: Vec<&String> = chosen.iter().flat_map(|job| &job.outputs).collect();
    let listed: Vec<&str> = outputs.iter().map(|output| output.as_str()).collect();
    Ok(Finished {
        text: format!("{}: done, wrote {}\n", ids.join(", "), listed.join(", ")),
        json: match which {
            Which::Job(id) => json!({"job": id, "state": "done", "outputs": outputs}),
            Which::Task(task) => {
                json!({"task": task, "jobs": ids, "state": "done", "outputs": outputs})
            }
        },
    })
}

/// How long what other nodes wrote may take to be seen on this one.
const UNSEEN: Duration = Duration::from_secs(90);

/// How long a task waits for another worker that does the same job.
const TAKEN: Duration = Duration::from_secs(900);

/// Refuses jobs whose inputs are not there. On a node of a cluster, where the caches of a shared file
/// system may hide them for a while, they are waited for.
fn wait_for_inputs(
    dir: &Path,
    jobs: &[Job],
    chosen: &[usize],
    is_task: bool,
) -> Result<(), StageError> {
    let needs = execute::needs(jobs);
    let begun = Instant::now();
    loop {
        let needed = chosen.iter().flat_map(|index| &needs[*index]);
        let missing: Vec<String> = needed
            .filter(|need| !chosen.contains(need) && !state::is_done(dir, &jobs[**need]))
            .map(|need| jobs[*need].id.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if !is_task || begun.elapsed() > UNSEEN {
            return Err(StageError::failed(
                format!(
                    "`{}` reads what these jobs write, and they are not done: {}",
                    jobs[chosen[0]].id,
                    missing.join(", ")
                ),
                "do them first, or `idiolect run` does all in order",
            ));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A run that was begun: its recipe, where its files lie, and its plan.
struct Begun {
    recipe: Recipe,
    folders: Folders,
    counts: Counts,
    jobs: Vec<Job>,
}

impl Begun {
    fn read(dir: &Path) -> Result<Self, StageError> {
        let recipe = stored_recipe(dir)?;
        let mut folders = record::Record::folders(dir).unwrap_or_else(|| Folders::of(None));
        let (quiet, stop) = (Progress::quiet(), Stop::default());
        folders.fetch_data(&recipe.files(), &recipe.references(), &quiet, &stop)?;
        let counts = Counts::of(&recipe, &folders)?;
        let jobs = plan::plan(&recipe, &counts);
        Ok(Self {
            recipe,
            folders,
            counts,
            jobs,
        })
    }
}

/// The recipe that a run directory holds.
fn stored_recipe(dir: &Path) -> Result<Recipe, StageError> {
    let path = dir.join("recipe.toml");
    let text = fs::read_to_string(&path).map_err(|source| {
        StageError::failed(
            format!(
                "`{}` holds no run: cannot read `recipe.toml`: {source}",
                dir.display()
            ),
            "give the directory that `idiolect run` wrote",
        )
    })?;
    resolve::read_stored(&text, &path.display().to_string())
        .map_err(|error| StageError::failed(error.to_string(), ""))
}

/// Makes the report of a finished run again from its files: `report.html` and `report.md`, or the
/// one file that `output` names (Markdown where it ends in `.md`).
pub fn report(dir: &Path, output: Option<&Path>) -> Result<String, StageError> {
    let recipe = stored_recipe(dir)?;
    let written = results::report_again(&recipe, dir, output)?;
    let paths: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Ok(paths.join("\n"))
}

fn stage_named(name: Option<&str>) -> Result<Stage, StageError> {
    let Some(name) = name else {
        return Ok(Stage::Report);
    };
    let found = Stage::ALL.into_iter().find(|stage| stage.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        StageError::usage(
            format!("there is no stage `{name}`"),
            &format!("the stages are {}", names.join(", ")),
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
    let now = resolve::stored(recipe);
    let earlier = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(io("read", &path, source)),
    };
    match earlier {
        Some(old) if !old.starts_with(resolve::MARK) => {
            return Err(StoreError::foreign(&path, "it is no recipe that a run stored").into());
        }
        Some(_) if overwrite => empty(dir)?,
        Some(old) => {
            let layout = Layout::of(dir);
            let joined = (0..recipe.replicates).any(|r| layout.data(r).traces().exists());
            let bound = joined || copies_other_models(&layout, &old, recipe);
            let free = (!bound).then_some(resolve::ARMS);
            let differences = resolve::differences(&old, &now, free);
            if !differences.is_empty() && has_begun(dir) {
                return Err(StageError::failed(
                    format!(
                        "`{}` holds a run with other settings:\n  {}",
                        dir.display(),
                        differences.join("\n  ")
                    ),
                    "use the settings that it was made with, another directory with --out, or --overwrite to start over",
                ));
            }
            let compares_others = resolve::read_stored(&old, "recipe.toml")
                .is_ok_and(|old| old.arms.baselines != recipe.arms.baselines);
            if compares_others {
                // Its being there states that the report is done.
                let path = dir.join("comparison.json");
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(io("remove", &path, error));
                    }
                    _ => {}
                }
            }
        }
        None => {
            let used = fs::read_dir(dir)
                .map_err(|source| io("read", dir, source))?
                .any(|entry| {
                    entry.is_ok_and(|e| {
                        let name = e.file_name();
                        name != ".lock" && !name.to_string_lossy().starts_with(".recipe.toml.")
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

/// Whether traces to copy were chosen already, and not of every model that the arms ask copies of now.
fn copies_other_models(layout: &Layout, old: &str, recipe: &Recipe) -> bool {
    let Ok(old) = resolve::read_stored(old, "recipe.toml") else {
        return false;
    };
    [ArmSource::Correct, ArmSource::Wrong].iter().any(|of| {
        let chosen = models_to_copy(&old.arms.specs(), of);
        let asked = models_to_copy(&recipe.arms.specs(), of);
        let mut picks = (0..recipe.replicates).map(|r| layout.data(r).part(picks_part(of)));
        picks.any(|path| path.exists()) && asked.iter().any(|models| !chosen.contains(models))
    })
}

/// Whether a run has made anything: one that ended before its first job binds nobody to its recipe.
fn has_begun(dir: &Path) -> bool {
    let made = ["data", "models", "students"];
    made.iter().any(|name| dir.join(name).exists())
}

/// Removes an earlier run, the lock aside. Where the directory holds anything else, nothing is
/// removed.
fn empty(dir: &Path) -> Result<(), StageError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| io("read", dir, source))? {
        let entry = entry.map_err(|source| io("read", dir, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == ".lock" {
            continue;
        }
        if !layout::is_of_a_run(&name) {
            let reason = "no run puts it there, so the directory is not emptied";
            return Err(StoreError::foreign(&entry.path(), reason).into());
        }
        paths.push(entry.path());
    }
    for path in paths {
        // A link is removed, not what it leads to.
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| io("remove", &path, source))?;
    }
    Ok(())
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> StageError {
    StoreError::Io {
        path: path.display().to_string(),
        doing,
        source,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The plan of a built-in recipe, of files with made-up counts.
    pub(super) fn plan_of(name: &str) -> Vec<Job> {
        split_plan_of(name, 100_000)
    }

    pub(super) fn split_plan_of(name: &str, rows_per_shard: usize) -> Vec<Job> {
        let (text, _) = recipe_text(Some(name)).unwrap();
        let mut recipe = resolve::resolve(&text, name, &[]).unwrap();
        recipe.execute.rows_per_shard = rows_per_shard;
        let counts = match recipe.data.world {
            Some(_) => Counts::of(&recipe, &Folders::default()).unwrap(),
            None => Counts {
                train: 100,
                dev: 10,
                test: 20,
                human: 100,
                given: 300,
                has_responses: false,
                row_tokens: 200.0,
                students: vec![1e6; recipe.students().len()],
                teacher: 0.0,
                paraphraser: 0.0,
                student_tokens: 1e6,
                teacher_tokens: 0.0,
            },
        };
        plan::plan(&recipe, &counts)
    }

    #[test]
    fn jobs_read_what_earlier_jobs_write_and_nothing_is_written_twice() {
        let plans = BUILT_IN
            .iter()
            .flat_map(|(name, _)| [100_000, 64].map(|rows| (name, split_plan_of(name, rows))));
        for (name, jobs) in plans {
            let mut written: BTreeSet<&str> = BTreeSet::new();
            let mut ids = BTreeSet::new();
            for job in &jobs {
                for input in &job.inputs {
                    assert!(
                        written.contains(input.as_str()),
                        "{name}: {} reads {input}",
                        job.id
                    );
                }
                for output in &job.outputs {
                    assert!(
                        written.insert(output),
                        "{name}: {} writes {output} again",
                        job.id
                    );
                }
                assert!(ids.insert(&job.id), "{name}: {} twice", job.id);
            }
            let read: BTreeSet<&str> = jobs
                .iter()
                .flat_map(|job| &job.inputs)
                .map(String::as_str)
                .collect();
            let unread: Vec<_> = written
                .difference(&read)
                .filter(|path| path.contains('/') && !path.contains("teacher.eval"))
                .collect();
            assert!(unread.is_empty(), "{name}: nobody reads {unread:?}");
        }
    }
}
