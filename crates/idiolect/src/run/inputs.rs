//! What a run reads from outside, looked for before it starts.

use std::path::Path;

use idiolect_engine::doctor::{self, Severity};
use idiolect_engine::text::Opening;

use super::recipe::{Recipe, Source};
use super::source::{data_folder, matching_files};
use crate::stage::StageError;

/// Looks for every file and model that the recipe names.
///
/// # Errors
/// Lists all that is missing or cannot be used.
pub(super) fn check(recipe: &Recipe) -> Result<(), StageError> {
    let mut missing = Vec::new();
    if let Some(student) = &recipe.student {
        let ignored = &recipe.ignore_config_fields;
        missing.extend(model_faults("student", Path::new(student), ignored));
    }
    if let Source::Gsm8kTraces {
        problems,
        traces,
        traces_match,
        pretrain_text,
        ..
    } = &recipe.source
    {
        let folder = match data_folder(recipe) {
            Ok(folder) => folder,
            // Nothing else to list: the error says what to set.
            Err(error) if missing.is_empty() => return Err(error),
            Err(error) => return Err(StageError::failed(listed(&missing, &error.to_string()), "")),
        };
        for (key, name) in [
            ("source.problems", problems),
            ("source.pretrain_text", pretrain_text),
        ] {
            let path = folder.join(name);
            if !path.is_file() {
                missing.push(format!("{key}: no file `{}`", path.display()));
            }
        }
        if let Err(error) = matching_files(&folder.join(traces), traces_match) {
            missing.push(format!("source.traces: {error}"));
        }
    }
    match missing.split_last() {
        None => Ok(()),
        Some((last, rest)) => Err(StageError::failed(
            listed(rest, last),
            "nothing was done; correct the path, or give another with --set KEY=VALUE",
        )),
    }
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
