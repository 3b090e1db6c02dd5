//! Model references: what `--model M` means.

pub(crate) mod encoded;
pub mod price;
mod remote;
mod served;

use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::store::{Meta, StoreError};
use idiolect_engine::local::LocalModel;
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{Model, Template, scripted::Scripted};
use idiolect_remote::{Batch, Endpoint, Settings};

use crate::hub;
use crate::interrupt::Stop;
use crate::launch::Servers;
use crate::progress::Progress;
use crate::stage::StageError;
use remote::Remote;

pub use served::Served;

/// Where a model is, by how its reference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A directory in Hugging Face layout, or an adapter directory.
    Directory(&'a Path),
    /// `hf:OWNER/NAME[@REV]`, without the `hf:`.
    Hub(&'a str),
    /// `http(s)://HOST[:PORT]/v1#MODEL`.
    Endpoint(&'a str),
    /// `scripted:FILE`.
    Scripted(&'a Path),
}

impl<'a> Place<'a> {
    /// Of a reference.
    pub fn of(reference: &'a str) -> Self {
        if let Some(name) = reference.strip_prefix("hf:") {
            Self::Hub(name)
        } else if reference.starts_with("http://") || reference.starts_with("https://") {
            Self::Endpoint(reference)
        } else if let Some(file) = reference.strip_prefix("scripted:") {
            Self::Scripted(Path::new(file))
        } else {
            Self::Directory(Path::new(reference))
        }
    }
}

/// Whether the model of a reference is behind a server.
pub fn is_endpoint(reference: &str) -> bool {
    matches!(Place::of(reference), Place::Endpoint(_))
}

/// Whether the model of a reference is computed in this process.
pub fn is_computed_here(reference: &str) -> bool {
    matches!(Place::of(reference), Place::Directory(_) | Place::Hub(_))
}

/// How a model is opened beside its reference.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// Template, base and fields set aside.
    pub opening: Opening<'a>,
    /// The tokenizer of an endpoint's model: a directory or `hf:`.
    pub tokenizer: Option<&'a str>,
    /// Requests to an endpoint at once; its default where unset.
    pub in_flight: Option<usize>,
    /// Exchange requests and replies with an endpoint by the files of this folder.
    pub batch: Option<&'a Path>,
    /// Where servers of a model's directory are started, which then answer for it.
    pub servers: Option<&'a Servers>,
    /// Threads of a model that runs here.
    pub threads: usize,
    /// Memory for keys and values of a model that runs here, MiB.
    pub kv_mib: Option<usize>,
    /// Where the progress of downloads goes.
    pub progress: &'a Progress,
    /// Ends a download.
    pub stop: &'a Stop,
}

impl<'a> How<'a> {
    /// Of a model that runs here, with what its directory states.
    pub fn here(threads: usize, progress: &'a Progress, stop: &'a Stop) -> Self {
        Self {
            opening: Opening::default(),
            tokenizer: None,
            in_flight: None,
            batch: None,
            servers: None,
            threads,
            kv_mib: None,
            progress,
            stop,
        }
    }
}

/// Opens the model of a reference.
pub fn open<'a>(reference: &str, how: &How<'a>) -> Result<Box<dyn Model + 'a>, StageError> {
    if let Some(servers) = how.servers {
        return Ok(Box::new(served(
            reference,
            name_of(reference),
            servers,
            how,
        )?));
    }
    let place = Place::of(reference);
    let here = is_computed_here(reference);
    if let (Some(base), false) = (how.opening.base, here) {
        return Err(StageError::usage(
            format!(
                "--base {}: `{reference}` is no adapter directory",
                base.display()
            ),
            "--base goes with an adapter directory as --model",
        ));
    }
    if !how.opening.compute.is_f32() && !here {
        return Err(StageError::usage(
            format!("--compute: `{reference}` is not computed here"),
            "--compute goes with a model directory or hf:OWNER/NAME as --model",
        ));
    }
    if !matches!(place, Place::Endpoint(_)) {
        for (flag, given) in [
            ("--tokenizer", how.tokenizer.is_some()),
            ("--in-flight", how.in_flight.is_some()),
            ("--batch", how.batch.is_some()),
        ] {
            if given {
                return Err(StageError::usage(
                    format!("{flag}: `{reference}` is no endpoint"),
                    &format!("{flag} goes with --model http(s)://HOST:PORT/v1#MODEL"),
                ));
            }
        }
    }
    match place {
        Place::Scripted(file) => Ok(Box::new(scripted(file, how.opening.template)?)),
        Place::Endpoint(address) => endpoint(address, how),
        Place::Directory(_) | Place::Hub(_) => Ok(Box::new(local(reference, how)?)),
    }
}

/// Opens the model of a directory, or of the hub, that a server is started for; `name` is what
/// people call it, and the server where it is told so.
pub fn served<'a>(
    reference: &str,
    name: String,
    servers: &'a Servers,
    how: &How<'a>,
) -> Result<Served<'a>, StageError> {
    if !is_computed_here(reference) {
        return Err(StageError::usage(
            format!("--server: `{reference}` has no files that a server could be started for"),
            "--server goes with a model directory or hf:OWNER/NAME as --model",
        ));
    }
    for (flag, given) in [
        ("--compute", !how.opening.compute.is_f32()),
        ("--tokenizer", how.tokenizer.is_some()),
        ("--batch", how.batch.is_some()),
    ] {
        if given {
            return Err(StageError::usage(
                format!("{flag}: a server answers for `{reference}`"),
                &format!(
                    "{flag} does not go with --server; the tokenizer is that of the model's files"
                ),
            ));
        }
    }
    servers.settings().check_program().map_err(|why| {
        StageError::failed(why, "the command of the server begins with its program")
    })?;
    let directory = directory(reference, how.progress, how.stop)?;
    Served::new(servers, &directory, name, how)
}

/// What people call the model of a reference: the last part of its name.
fn name_of(reference: &str) -> String {
    let named = match Place::of(reference) {
        Place::Hub(name) => name.split('@').next().unwrap_or(name),
        _ => reference,
    };
    let last = named.trim_end_matches('/').rsplit('/').next();
    last.filter(|name| !name.is_empty() && !name.starts_with('.'))
        .unwrap_or("model")
        .to_owned()
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

fn endpoint(address: &str, how: &How<'_>) -> Result<Box<dyn Model>, StageError> {
    let text = match how.tokenizer {
        Some(reference) => {
            let directory = text_directory(reference)?;
            Some(TextModel::open(&directory, &how.opening)?)
        }
        None => None,
    };
    let template = text
        .as_ref()
        .map_or(how.opening.template, |text| Some(text.template()));
    if let Some(folder) = how.batch {
        return Ok(Box::new(Batch::open(address, template, folder)?));
    }
    let mut settings = Settings::from_env();
    settings.in_flight = how.in_flight.unwrap_or(settings.in_flight);
    let endpoint = Endpoint::open(address, template, settings)?;
    Ok(match text {
        None => Box::new(endpoint),
        Some(text) => Box::new(Remote::new(endpoint, text)?),
    })
}

/// Opens a model to compute with it in this process: a directory, an adapter directory with its
/// base, or a model of the hub, downloaded where it is not in the cache.
pub fn local(reference: &str, how: &How<'_>) -> Result<LocalModel, StageError> {
    let directory = directory(reference, how.progress, how.stop)?;
    let mut model = LocalModel::open(&directory, &how.opening, how.threads)?;
    if how.opening.base.is_none() {
        check_unaltered(&directory, &model.info().hash)?;
    }
    if let Some(mib) = how.kv_mib {
        model.set_kv_bytes(mib.saturating_mul(1 << 20));
    }
    Ok(model)
}

/// Refuses a directory that this program finished and whose model is another now. With a base of the
/// user's choice an adapter is another model by right.
fn check_unaltered(directory: &Path, hash: &str) -> Result<(), StageError> {
    // What is beside a user's own directory and is no provenance binds nobody.
    let meta = Meta::read(directory).ok().flatten();
    match meta.filter(|meta| meta.complete && !meta.hash.is_empty() && meta.hash != hash) {
        None => Ok(()),
        Some(_) => {
            let reason = "the hash of its model differs";
            Err(StoreError::altered(directory, directory, reason).into())
        }
    }
}

/// The directory of a model whose files are used here.
pub fn directory(reference: &str, progress: &Progress, stop: &Stop) -> Result<PathBuf, StageError> {
    match Place::of(reference) {
        Place::Hub(name) => hub::model(name, progress, stop),
        _ => existing(reference),
    }
}

/// The directory of a model of which config, tokenizer and template are used here; of the hub no
/// weights are downloaded for that.
pub fn text_directory(reference: &str) -> Result<PathBuf, StageError> {
    match Place::of(reference) {
        Place::Hub(name) => hub::text_side(name),
        _ => existing(reference),
    }
}

fn existing(reference: &str) -> Result<PathBuf, StageError> {
    match Place::of(reference) {
        Place::Endpoint(_) | Place::Scripted(_) => Err(StageError::usage(
            format!("`{reference}` has no files that could be used here"),
            "give a directory in Hugging Face layout, or hf:OWNER/NAME",
        )),
        _ if Path::new(reference).is_dir() => Ok(PathBuf::from(reference)),
        _ => Err(StageError::failed(
            format!("no model directory `{reference}`"),
            "a model is a directory in Hugging Face layout, an adapter directory, hf:OWNER/NAME[@REV], http(s)://HOST:PORT/v1#MODEL, or scripted:FILE",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_say_where_a_model_is() {
        for (text, place) in [
            ("hf:a/b@v1", Place::Hub("a/b@v1")),
            ("scripted:x.json", Place::Scripted(Path::new("x.json"))),
            ("http://h:1/v1#m", Place::Endpoint("http://h:1/v1#m")),
            ("https://h/v1", Place::Endpoint("https://h/v1")),
            ("models/http", Place::Directory(Path::new("models/http"))),
            ("", Place::Directory(Path::new(""))),
        ] {
            assert_eq!(Place::of(text), place);
        }
    }
}
