//! Model references: what `--model M` means.

use std::fs;
use std::path::Path;

use idiolect_engine::local::LocalModel;
use idiolect_engine::text::Opening;
use idiolect_model::{Model, Template, scripted::Scripted};

use crate::stage::StageError;

/// Opens the model of a reference: a directory in Hugging Face layout, or `scripted:FILE`.
/// `kv_mib` is the memory it may take for keys and values while it writes.
pub(crate) fn open(
    reference: &str,
    opening: &Opening<'_>,
    threads: usize,
    kv_mib: Option<usize>,
) -> Result<Box<dyn Model>, StageError> {
    let plain = Path::new(reference).is_dir();
    if let (Some(base), false) = (opening.base, plain) {
        return Err(StageError::usage(
            format!(
                "--base {}: `{reference}` is no adapter directory",
                base.display()
            ),
            "--base goes with an adapter directory as --model",
        ));
    }
    if let Some(file) = reference.strip_prefix("scripted:") {
        return Ok(Box::new(scripted(Path::new(file), opening.template)?));
    }
    if reference.starts_with("hf:") {
        return Err(StageError::failed(
            format!("`{reference}`: downloading from the hub is not in this version"),
            "download the model with another tool and give its directory: --model DIR",
        ));
    }
    if reference.starts_with("http://") || reference.starts_with("https://") {
        return Err(StageError::failed(
            format!("`{reference}`: endpoints are not in this version"),
            "give a model directory (--model DIR), or import traces that were sampled elsewhere: idiolect import",
        ));
    }
    let mut model = local(Path::new(reference), opening, threads)?;
    if let Some(mib) = kv_mib {
        model.set_kv_bytes(mib.saturating_mul(1 << 20));
    }
    Ok(Box::new(model))
}

fn scripted(file: &Path, template: Option<Template>) -> Result<Scripted, StageError> {
    let text = fs::read_to_string(file).map_err(|error| {
        StageError::failed(
            format!("cannot read the script `{}`: {error}", file.display()),
            "",
        )
    })?;
    let name = file
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    Ok(Scripted::parse(
        &format!("scripted:{name}"),
        &text,
        template,
    )?)
}

/// Opens a model directory, or an adapter directory with its base.
pub(crate) fn local(
    directory: &Path,
    opening: &Opening<'_>,
    threads: usize,
) -> Result<LocalModel, StageError> {
    if !directory.is_dir() {
        return Err(StageError::failed(
            format!("no model directory `{}`", directory.display()),
            "a model is a directory in Hugging Face layout, an adapter directory, or scripted:FILE",
        ));
    }
    Ok(LocalModel::open(directory, opening, threads)?)
}
