//! The Hugging Face hub: models and files of data sets, downloaded into the cache that other tools
//! share.
//!
//! Files come over plain HTTPS, continue where they were cut, and are checked against the hash that
//! the hub names them by before they get a name in the cache. The cache has the layout of
//! `huggingface_hub`: what it downloaded is used here, and the other way round.

mod access;
mod cache;
mod download;
mod error;
mod name;
mod select;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Key, runtime};
use access::{Access, Metadata};
use cache::Cache;
pub use error::HubError;
use name::{DatasetFile, Repo};

/// Receives the bytes there are and the bytes that are wanted; breaking stops the download, which can
/// be continued later.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// The hub with the cache on this machine. Calls block.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Where the hub is, without a slash at the end.
    pub endpoint: String,
    /// Sent to it, for repositories that are not open to all.
    pub token: Option<Key>,
    /// Where downloads are kept.
    pub cache: PathBuf,
    /// Use what is in the cache and nothing else.
    pub offline: bool,
    /// How long a reply may pause before the download is continued on another connection.
    pub stall_timeout: Duration,
    /// How often a download is tried without getting further.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with each further one.
    pub backoff: Duration,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its name in the repository.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// How much of it is in the cache.
    pub present: u64,
}

/// What downloading a model would take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The commit that the revision names.
    pub commit: String,
    /// The files that are wanted.
    pub files: Vec<PlannedFile>,
}

impl Plan {
    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Bytes that are not in the cache.
    pub fn missing_bytes(&self) -> u64 {
        let missing = |file: &PlannedFile| file.bytes.saturating_sub(file.present);
        self.files.iter().map(missing).sum()
    }
}

/// How much of a model is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// All but the weights.
    Text,
}

/// A plan with what is needed to carry it out.
struct Wanted {
    plan: Plan,
    metadata: Vec<Metadata>,
}

impl Hub {
    /// The hub as the environment sets it: `HF_ENDPOINT`, `HF_TOKEN` (or the file that
    /// `huggingface-cli login` writes), `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| {
                let user = path("HOME").or_else(|| path("USERPROFILE"));
                user.unwrap_or_default().join(".cache")
            });
            cache.join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| Key::new(&variable(name)?))
            .or_else(|| {
                let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
                Key::new(&std::fs::read_to_string(file).ok()?)
            });
        let yes = |value: String| {
            matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on"
            )
        };
        Self {
            endpoint: variable("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token,
            cache,
            offline: variable("HF_HUB_OFFLINE").is_some_and(yes),
            stall_timeout: Duration::from_secs(60),
            attempts: 6,
            backoff: Duration::from_millis(500),
        }
    }

    /// What downloading `OWNER/NAME[@REV]` would take. Asks the hub for names and sizes only.
    ///
    /// # Errors
    /// Where the hub does not have the repository, does not give it, or has no weights in it that
    /// can be loaded safely; [`HubError::Offline`] where it may not be asked.
    pub fn plan(&self, reference: &str) -> Result<Plan, HubError> {
        let repo = Repo::model(reference)?;
        if self.offline {
            return Err(HubError::Offline(repo.to_string()));
        }
        let access = Access::new(self)?;
        let cache = Cache::new(&self.cache, &repo);
        let wanted = runtime::handle()
            .map_err(HubError::threads)?
            .block_on(wanted(&access, &cache, &repo, Part::All))?;
        Ok(wanted.plan)
    }

    /// The directory of the model `OWNER/NAME[@REV]`, downloaded where it is not in the cache.
    ///
    /// # Errors
    /// See [`Hub::model_with`].
    pub fn model(&self, reference: &str) -> Result<PathBuf, HubError> {
        self.model_with(reference, &mut |_, _| ControlFlow::Continue(()))
    }

    /// [`Hub::model`] that reports progress. Where the hub is not reached, a complete copy in the
    /// cache serves.
    ///
    /// # Errors
    /// Where the hub does not give the model, there is no space for it, what came is not what was
    /// named, or the progress was stopped.
    pub fn model_with(&self, reference: &str, progress: Progress<'_>) -> Result<PathBuf, HubError> {
        self.snapshot(reference, Part::All, progress)
    }

    /// The directory of the model `OWNER/NAME[@REV]` without its weights: config, tokenizer and
    /// templates, a few MB, downloaded where they are not in the cache.
    ///
    /// # Errors
    /// See [`Hub::model_with`].
    pub fn text_side(&self, reference: &str) -> Result<PathBuf, HubError> {
        self.snapshot(reference, Part::Text, &mut |_, _| ControlFlow::Continue(()))
    }

    fn snapshot(
        &self,
        reference: &str,
        part: Part,
        progress: Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        let repo = Repo::model(reference)?;
        let cache = Cache::new(&self.cache, &repo);
        if self.offline {
            return cache.model(&repo, part);
        }
        let access = Access::new(self)?;
        let handle = runtime::handle().map_err(HubError::threads)?;
        let wanted = match handle.block_on(wanted(&access, &cache, &repo, part)) {
            Ok(wanted) => wanted,
            Err(HubError::Unreachable(reason)) => {
                return cache
                    .model(&repo, part)
                    .map_err(|_| HubError::Unreachable(reason));
            }
            Err(error) => return Err(error),
        };
        let plan = &wanted.plan;
        cache.check_room(plan.missing_bytes())?;
        let total = plan.total_bytes();
        let mut before = 0;
        for (file, metadata) in plan.files.iter().zip(&wanted.metadata) {
            let mut of_file = |done: u64| progress(before + done, total);
            handle.block_on(download::fetch(&access, &cache, metadata, &mut of_file))?;
            cache.link(&plan.commit, &file.name, &metadata.etag)?;
            before += file.bytes;
        }
        cache.set_ref(&repo.revision, &plan.commit)?;
        Ok(cache.snapshot(&plan.commit))
    }

    /// The file of `OWNER/NAME[@REV]/PATH` of a data set, downloaded where it is not in the cache.
    ///
    /// # Errors
    /// See [`Hub::model_with`].
    pub fn dataset_file(&self, reference: &str) -> Result<PathBuf, HubError> {
        self.dataset_file_with(reference, &mut |_, _| ControlFlow::Continue(()))
    }

    /// [`Hub::dataset_file`] that reports progress.
    ///
    /// # Errors
    /// See [`Hub::model_with`].
    pub fn dataset_file_with(
        &self,
        reference: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        let DatasetFile { repo, path } = DatasetFile::parse(reference)?;
        let cache = Cache::new(&self.cache, &repo);
        if self.offline {
            return cache.file(&repo, &path);
        }
        let access = Access::new(self)?;
        let handle = runtime::handle().map_err(HubError::threads)?;
        let metadata = match handle.block_on(access.metadata(&repo, &repo.revision, &path)) {
            Ok(metadata) => metadata,
            Err(HubError::Unreachable(reason)) => {
                return cache
                    .file(&repo, &path)
                    .map_err(|_| HubError::Unreachable(reason));
            }
            Err(error) => return Err(error),
        };
        let commit = match &metadata.commit {
            Some(commit) => commit.clone(),
            None => handle.block_on(access.listing(&repo))?.commit,
        };
        let present = cache.present(&metadata.etag);
        cache.check_room(metadata.bytes.saturating_sub(present))?;
        let total = metadata.bytes;
        let mut of_file = |done: u64| progress(done, total);
        handle.block_on(download::fetch(&access, &cache, &metadata, &mut of_file))?;
        let file = cache.link(&commit, &path, &metadata.etag)?;
        cache.set_ref(&repo.revision, &commit)?;
        Ok(file)
    }

    /// The directory in which a program that is given this cache keeps its downloads.
    pub fn cache_dir(&self) -> &Path {
        &self.cache
    }
}

async fn wanted(
    access: &Access,
    cache: &Cache,
    repo: &Repo,
    part: Part,
) -> Result<Wanted, HubError> {
    let listing = access.listing(repo).await?;
    let mut names = select::wanted(&listing.files, repo)?;
    if part == Part::Text {
        names.retain(|name| !select::is_weights(name));
    }
    let mut files = Vec::with_capacity(names.len());
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let metadata = access.metadata(repo, &listing.commit, &name).await?;
        files.push(PlannedFile {
            present: cache.present(&metadata.etag).min(metadata.bytes),
            bytes: metadata.bytes,
            name,
        });
        all.push(metadata);
    }
    Ok(Wanted {
        plan: Plan {
            commit: listing.commit,
            files,
        },
        metadata: all,
    })
}
