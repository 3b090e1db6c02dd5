//! What a run reads from outside, looked for before it starts.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;

use idiolect_core::record::TaskName;
use idiolect_core::task::task;
use idiolect_engine::doctor::{self, Severity};
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{Model, ModelError, Template};
use idiolect_remote::{Endpoint, Settings};

use super::counts::{Counts, any_has_column};
use super::data::split_files;
use super::files::Folders;
use super::plan::{Job, Stage, needs_samples};
use super::recipe::{Recipe, WorldKind, Writer};
use super::{RunContext, work};
use crate::model::Place;
use crate::stage::StageError;
use crate::stage::inputs::prompt_file;
use crate::stage::outside::recognized;

/// Looks for every file and model that the recipe names.
///
/// # Errors
/// Lists all that is missing or cannot be used.
pub(super) fn check(recipe: &Recipe, folders: &Folders) -> Result<(), StageError> {
    check_prompts(recipe)?;
    let mut missing: Vec<String> = Vec::new();
    for reference in &recipe.models.students {
        let ignored = &recipe.models.ignore_config_fields;
        missing.extend(faults("models.students", reference, folders, ignored));
    }
    let teacher = match &recipe.models.teacher {
        Some(Writer::Reference(reference)) => Some(reference.as_str()),
        _ => None,
    };
    let paraphraser = recipe.models.paraphraser.as_deref();
    for (key, stage, reference) in [
        ("models.teacher", Stage::Generate, teacher),
        (
            "models.paraphraser",
            Stage::Paraphrase,
            paraphraser.filter(|name| *name != "teacher"),
        ),
    ] {
        let Some(reference) = reference else { continue };
        let found = folders.model(reference);
        match Place::of(reference) {
            // A server may know more families than this program.
            Place::Directory(_) if recipe.is_served(stage) && Path::new(&found).is_dir() => {}
            Place::Hub(_) if recipe.is_served(stage) => {}
            _ => missing.extend(faults(key, reference, folders, &[])),
        }
    }
    let mut files: Vec<(&str, &[String])> = Vec::new();
    for (key, (_, names)) in ["data.train", "data.dev", "data.test"]
        .into_iter()
        .zip(split_files(recipe))
    {
        files.push((key, names));
    }
    files.push(("data.traces", &recipe.data.traces));
    if let Some(student) = recipe.scratch_student() {
        files.push(("models.student.scratch.text", &student.text));
    }
    for (key, names) in files {
        for name in names {
            if let Err(error) = folders.find(name) {
                missing.push(format!("{key}: {error}"));
            }
        }
    }
    if missing.is_empty() {
        missing.extend(lost_columns(recipe, folders)?);
    }
    match missing.split_last() {
        None => Ok(()),
        Some((last, rest)) => Err(StageError::failed(
            listed(rest, last),
            "nothing was done; correct the path, set IDIOLECT_DATA=DIR to the folder of the data, or give another with --set KEY=VALUE",
        )),
    }
}

/// Placeholders of which a prompt needs one to state a problem; which of them its task can fill is
/// seen when it is rendered.
const STATE_A_PROBLEM: [&str; 4] = ["question", "target", "tests", "first_test"];

/// Looks at the prompts that the recipe names: one that every problem would be asked alike with is no
/// prompt.
fn check_prompts(recipe: &Recipe) -> Result<(), StageError> {
    let name = match (recipe.data.task, recipe.data.world) {
        (Some(name), _) => name,
        (None, Some(WorldKind::Stories)) => TaskName::Gsm8k,
        (None, _) => TaskName::Countdown,
    };
    let task = task(name);
    for (key, choice, wanted) in [
        ("data.prompt", &recipe.data.prompt, &STATE_A_PROBLEM[..]),
        ("generate.prompt", &recipe.generate.prompt, &STATE_A_PROBLEM),
        (
            "paraphrase.prompt",
            &recipe.paraphrase.prompt,
            &["solution"],
        ),
    ] {
        let Some(choice) = choice else { continue };
        let prompt = prompt_file(task, choice)?;
        if !wanted.iter().any(|name| prompt.holds(name)) {
            return Err(StageError::usage(
                format!("`{key}`: the prompt `{choice}` lacks `{{{}}}`", wanted[0]),
                "without it every row would be asked with the same text",
            ));
        }
    }
    Ok(())
}

/// Refuses a run directory that holds what the recipe reads: `--overwrite` would remove it.
///
/// # Errors
/// [`StageError::Usage`] with the names of both.
pub(super) fn check_apart(
    recipe: &Recipe,
    folders: &Folders,
    dir: &Path,
) -> Result<(), StageError> {
    let data = &recipe.data;
    let text = recipe.scratch_student().map(|student| &student.text);
    let mut read = Vec::new();
    for names in [&data.train, &data.dev, &data.test, &data.traces]
        .into_iter()
        .chain(text)
    {
        read.extend(folders.find_all(names)?);
    }
    let models = recipe.references().into_iter();
    read.extend(
        models.filter_map(|name| match Place::of(&folders.model(&name)) {
            Place::Directory(model) | Place::Scripted(model) => Some(model.to_owned()),
            _ => None,
        }),
    );
    match read
        .iter()
        .find(|path| idiolect_files::is_within(path, dir))
    {
        None => Ok(()),
        Some(path) => Err(StageError::usage(
            format!(
                "`{}`, which the recipe reads, lies in the run directory `{}`",
                path.display(),
                dir.display()
            ),
            "give another run directory with --out; nothing was changed",
        )),
    }
}

/// Columns of the recipe that no file has.
fn lost_columns(recipe: &Recipe, folders: &Folders) -> Result<Vec<String>, StageError> {
    let data = &recipe.data;
    let mut files = Vec::new();
    for names in [&data.train, &data.dev, &data.test] {
        files.extend(folders.find_all(names)?);
    }
    for path in folders.find_all(&data.traces)? {
        // The columns of another program's file are its own.
        if recognized(&path)?.is_none() {
            files.push(path);
        }
    }
    let mut lost = Vec::new();
    for (field, column) in &data.columns {
        if !any_has_column(&files, column)? {
            lost.push(format!(
                "data.columns: `{field} = {column:?}`, and no file of the recipe has a column `{column}`"
            ));
        }
    }
    Ok(lost)
}

/// Refuses arms that nothing can be in.
///
/// # Errors
/// Names what is missing.
pub(super) fn check_counts(recipe: &Recipe, counts: &Counts) -> Result<(), StageError> {
    if counts.test == 0 {
        return Err(StageError::failed(
            "there are no test problems",
            "name files in data.test, or a fraction of the train problems in data.test_fraction",
        ));
    }
    if recipe.data.world.is_none()
        && recipe.models.teacher.is_none()
        && counts.given == 0
        && !counts.has_responses
        && recipe.arms.need(needs_samples)
    {
        return Err(StageError::usage(
            "arms G, W, F and R are made of a model's traces, and there are none: `models.teacher` and `data.traces` are not set, and no row of `data.train` has a response",
            "set one of them, or leave these arms out of `arms.names`",
        ));
    }
    Ok(())
}

fn listed(missing: &[String], last: &str) -> String {
    let mut text = "what the run reads is not there:".to_owned();
    for line in missing.iter().map(String::as_str).chain([last]) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

/// What of a model's directory keeps it from being loaded.
const LOADED: [&str; 3] = ["files", "weights", "adapter"];

/// Why a reference cannot be the model of a key, as far as is known without asking a server.
fn faults(key: &str, reference: &str, folders: &Folders, ignored_fields: &[String]) -> Vec<String> {
    let found = folders.model(reference);
    let opening = Opening {
        ignored_fields,
        ..Opening::default()
    };
    match Place::of(reference) {
        Place::Endpoint(_) => Vec::new(),
        Place::Scripted(_) => match found.strip_prefix("scripted:") {
            Some(file) if !Path::new(file).is_file() => vec![format!("{key}: no script `{file}`")],
            _ => Vec::new(),
        },
        // Its weights may not be here yet.
        Place::Hub(_) => {
            let text = TextModel::open(Path::new(&found), &opening);
            let fault = text
                .err()
                .map(|error| format!("{key}: `{reference}`: {error}"));
            fault.into_iter().collect()
        }
        Place::Directory(_) => directory_faults(key, Path::new(&found), &opening),
    }
}

fn directory_faults(key: &str, dir: &Path, opening: &Opening<'_>) -> Vec<String> {
    if !dir.is_dir() {
        return vec![format!("{key}: no model directory `{}`", dir.display())];
    }
    doctor::examine(dir, opening)
        .into_iter()
        .filter(|f| f.severity == Severity::Error && LOADED.contains(&f.about))
        .map(|finding| format!("{key}: {}", finding.what))
        .collect()
}

/// Starts the server of the first model that the jobs ask and that is there, and finds out what it
/// can do: what every server of this command lacks is known before hours of other work. The server
/// is left running for that job.
///
/// # Errors
/// As [`Served::start`]; where scores are needed and it gives none.
pub(super) fn check_servers(run: &RunContext<'_>, jobs: &[&Job]) -> Result<(), StageError> {
    let served: Vec<&&Job> = jobs.iter().filter(|job| job.is_served()).collect();
    let Some(servers) = run.servers.as_ref().filter(|_| !served.is_empty()) else {
        return Ok(());
    };
    servers
        .settings()
        .check_program()
        .map_err(|why| StageError::failed(format!("server.command: {why}"), "nothing was done"))?;
    let scores = served
        .iter()
        .any(|job| matches!(job.stage, Stage::Score | Stage::Eval));
    for job in served {
        let progress = run.overall.job(job);
        let control = run.control(&progress, run.process.threads);
        let spent = Cell::new(None);
        let Some(mut model) = work::model_there(run, job, control, &spent)? else {
            continue;
        };
        let lacks = match model.probe(scores) {
            Ok(capabilities) if !scores || capabilities.ranks => "entropies",
            Ok(_) => "ranks and entropies",
            Err(StageError::Model(ModelError::Unsupported(reason))) if scores => {
                return Err(StageError::failed(
                    format!(
                        "{reason}. Scoring needs them, and so does evaluation, for the surprisal of the test problems' own solutions"
                    ),
                    "use a server that gives them (vLLM, llama.cpp, idiolect serve), or `backend = \"native\"` in [score] and [eval]; nothing was done",
                ));
            }
            Err(error) => return Err(error),
        };
        if run.recipe.is_served(Stage::Score) {
            let text = format!(
                "the servers of `{}` give no {lacks}: metrics of these are absent",
                run.recipe.server.command
            );
            run.note(&text);
        }
        return Ok(());
    }
    Ok(())
}

/// Asks every endpoint that the jobs need what it can do: what a model lacks is known before any
/// work is done.
///
/// # Errors
/// Names the server that does not live, or what it lacks.
pub(super) fn check_endpoints<'a>(
    jobs: impl Iterator<Item = &'a Job>,
    template: Option<Template>,
    note: &dyn Fn(&str),
) -> Result<(), StageError> {
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for job in jobs {
        let Some(address) = job.endpoint().filter(|address| asked.insert(address)) else {
            continue;
        };
        let scores = job.stage == Stage::Score;
        let template = if scores {
            Some(Template::Raw)
        } else {
            template
        };
        let mut endpoint = Endpoint::open(address, template, Settings::from_env())?;
        if !scores {
            continue;
        }
        endpoint.probe_scoring()?;
        let lacks = match endpoint.capabilities().ranks {
            true => "entropies, so metrics of entropy",
            false => "ranks and entropies, so metrics of rank and entropy",
        };
        note(&format!("{address} gives no {lacks} are absent"));
    }
    Ok(())
}
