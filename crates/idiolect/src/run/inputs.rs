//! What a run reads from outside, looked for before it starts.

use std::path::Path;

use idiolect_engine::doctor::{self, Severity};
use idiolect_engine::text::Opening;

use super::counts::{Counts, any_has_column};
use super::data::split_files;
use super::files::Folders;
use super::plan::needs_samples;
use super::recipe::{Recipe, Writer};
use crate::stage::StageError;

/// Looks for every file and model that the recipe names.
///
/// # Errors
/// Lists all that is missing or cannot be used.
pub(super) fn check(recipe: &Recipe, folders: &Folders) -> Result<(), StageError> {
    let mut missing: Vec<String> = Vec::new();
    for reference in &recipe.models.students {
        let ignored = &recipe.models.ignore_config_fields;
        let found = folders.model(reference);
        missing.extend(model_faults("models.students", Path::new(&found), ignored));
    }
    let teacher = match &recipe.models.teacher {
        Some(Writer::Reference(reference)) => Some(reference.as_str()),
        _ => None,
    };
    let paraphraser = recipe.models.paraphraser.as_deref();
    for (key, reference) in [
        ("models.teacher", teacher),
        (
            "models.paraphraser",
            paraphraser.filter(|name| *name != "teacher"),
        ),
    ] {
        let Some(reference) = reference else { continue };
        let found = folders.model(reference);
        match found.strip_prefix("scripted:") {
            Some(file) if Path::new(file).is_file() => {}
            Some(file) => missing.push(format!("{key}: no script `{file}`")),
            None => missing.extend(model_faults(key, Path::new(&found), &[])),
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

/// Columns of the recipe that no file has.
fn lost_columns(recipe: &Recipe, folders: &Folders) -> Result<Vec<String>, StageError> {
    let data = &recipe.data;
    let mut files = Vec::new();
    for names in [&data.train, &data.dev, &data.test, &data.traces] {
        files.extend(folders.find_all(names)?);
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

/// Why a directory cannot be the model of a key.
fn model_faults(key: &str, dir: &Path, ignored_fields: &[String]) -> Vec<String> {
    if !dir.is_dir() {
        return vec![format!("{key}: no model directory `{}`", dir.display())];
    }
    let opening = Opening {
        ignored_fields,
        ..Opening::default()
    };
    doctor::examine(dir, &opening)
        .into_iter()
        .filter(|f| f.severity == Severity::Error && LOADED.contains(&f.about))
        .map(|finding| format!("{key}: {}", finding.what))
        .collect()
}
