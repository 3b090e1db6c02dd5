//! Where the files and models that a recipe names are looked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hub;
use crate::interrupt::Stop;
use crate::model::{self, Place};
use crate::progress::Progress;
use crate::stage::StageError;

/// The folders that relative paths of a recipe are looked for in, and what of the hub is on this
/// machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Folders {
    /// In this order.
    folders: Vec<PathBuf>,
    /// The commit of each model of the hub: the same one whenever the run is continued.
    #[serde(default)]
    commits: BTreeMap<String, String>,
    /// Files and directories by how the recipe names them.
    #[serde(skip)]
    downloaded: BTreeMap<String, PathBuf>,
}

impl Folders {
    /// The current directory, the recipe's, and the one that `IDIOLECT_DATA` names.
    pub fn of(recipe: Option<&Path>) -> Self {
        let current = std::env::current_dir().ok();
        let beside = recipe.and_then(Path::parent).map(Path::to_owned);
        let data = std::env::var_os("IDIOLECT_DATA").map(PathBuf::from);
        let mut folders: Vec<PathBuf> = Vec::new();
        // The folder of a bare file name is the current one.
        let named = |folder: &PathBuf| !folder.as_os_str().is_empty();
        for folder in [current, beside, data].into_iter().flatten().filter(named) {
            let folder = std::path::absolute(&folder).unwrap_or(folder);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self {
            folders,
            ..Self::default()
        }
    }

    /// Downloads data files and, of the models, what is read without their weights.
    ///
    /// # Errors
    /// Where the hub does not give them.
    pub fn fetch_data(
        &mut self,
        files: &[String],
        models: &[String],
        progress: &Progress,
        stop: &Stop,
    ) -> Result<(), StageError> {
        for name in files.iter().filter(|name| hub::is_dataset_file(name)) {
            let path = hub::dataset_file(name, progress, stop)?;
            self.downloaded.insert(name.clone(), path);
        }
        for reference in models.iter().filter(|name| is_of_hub(name)) {
            let directory = model::text_directory(&self.pinned(reference))?;
            self.found(reference, directory);
        }
        Ok(())
    }

    /// Downloads whole models.
    ///
    /// # Errors
    /// Where the hub does not give them.
    pub fn fetch_models(
        &mut self,
        models: &[String],
        progress: &Progress,
        stop: &Stop,
    ) -> Result<(), StageError> {
        for reference in models.iter().filter(|name| is_of_hub(name)) {
            let directory = model::directory(&self.pinned(reference), progress, stop)?;
            self.found(reference, directory);
        }
        Ok(())
    }

    /// Models of the hub, each with the bytes of it that are not on this machine.
    pub fn downloads(&self, models: &[String]) -> Vec<(String, Option<u64>)> {
        let of_hub = models.iter().filter(|name| is_of_hub(name));
        of_hub
            .map(|reference| {
                let pinned = self.pinned(reference);
                let bytes = match Place::of(&pinned) {
                    Place::Hub(name) => hub::download_bytes(name),
                    _ => None,
                };
                (reference.clone(), bytes)
            })
            .collect()
    }

    /// Takes the commits over that an earlier process of the run took.
    pub fn keep_commits(&mut self, earlier: Self) {
        self.commits = earlier.commits;
    }

    /// A reference at the commit that it stood for when the run began.
    fn pinned(&self, reference: &str) -> String {
        match self.commits.get(reference) {
            Some(commit) => {
                let name = reference.split('@').next().unwrap_or(reference);
                format!("{name}@{commit}")
            }
            None => reference.to_owned(),
        }
    }

    fn found(&mut self, reference: &str, directory: PathBuf) {
        // Snapshots lie in folders named by their commits.
        if let Some(commit) = directory.file_name() {
            let commit = commit.to_string_lossy().into_owned();
            self.commits.insert(reference.to_owned(), commit);
        }
        self.downloaded.insert(reference.to_owned(), directory);
    }

    /// The files that a path or glob represents, sorted.
    ///
    /// # Errors
    /// Names it, where it was looked for, and `IDIOLECT_DATA` where that is not set.
    pub fn find(&self, name: &str) -> Result<Vec<PathBuf>, StageError> {
        if let Some(path) = self.downloaded.get(name) {
            return Ok(vec![path.clone()]);
        }
        for folder in &self.folders {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(vec![path]);
            }
            // The folder's own name may hold what a glob reads as a pattern.
            let folder = glob::Pattern::escape(&folder.to_string_lossy());
            let pattern = Path::new(&folder).join(name);
            let found = glob::glob(&pattern.to_string_lossy())
                .map_err(|error| StageError::usage(format!("`{name}`: {error}"), ""))?;
            let mut files: Vec<PathBuf> = found.flatten().filter(|path| path.is_file()).collect();
            if !files.is_empty() {
                files.sort();
                return Ok(files);
            }
        }
        let listed: Vec<String> = self
            .folders
            .iter()
            .map(|f| format!("`{}`", f.display()))
            .collect();
        let unset = match std::env::var_os("IDIOLECT_DATA").filter(|data| !data.is_empty()) {
            Some(_) => "",
            None => "; IDIOLECT_DATA, which names a further folder, is not set",
        };
        Err(StageError::failed(
            format!("no file `{name}` in {}{unset}", listed.join(" or ")),
            "correct the path, or set IDIOLECT_DATA=DIR to the folder that it lies in",
        ))
    }

    /// The files of several paths or globs, in their order.
    ///
    /// # Errors
    /// As [`Folders::find`].
    pub fn find_all(&self, names: &[String]) -> Result<Vec<PathBuf>, StageError> {
        let mut files = Vec::new();
        for name in names {
            for file in self.find(name)? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    /// A model's reference with its directory found as files are, or where it was downloaded to.
    pub fn model(&self, reference: &str) -> String {
        if let Some(directory) = self.downloaded.get(reference) {
            return directory.display().to_string();
        }
        if let Some(file) = reference.strip_prefix("scripted:") {
            let found = self
                .folders
                .iter()
                .map(|f| f.join(file))
                .find(|path| path.is_file());
            return found.map_or(reference.to_owned(), |path| {
                format!("scripted:{}", path.display())
            });
        }
        let found = self
            .folders
            .iter()
            .map(|f| f.join(reference))
            .find(|path| path.is_dir());
        found.map_or(reference.to_owned(), |path| path.display().to_string())
    }
}

/// Whether a name is that of a model of the hub; files of data sets there are named alike.
fn is_of_hub(name: &str) -> bool {
    !hub::is_dataset_file(name) && matches!(Place::of(name), Place::Hub(_))
}
