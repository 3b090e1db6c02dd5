//! Where the files that a recipe names are looked for.

use std::path::{Path, PathBuf};

use crate::stage::StageError;

/// The folders that relative paths of a recipe are looked for in, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Folders(pub(crate) Vec<PathBuf>);

impl Folders {
    /// The current directory, the recipe's, and the one that `IDIOLECT_DATA` names.
    pub(crate) fn of(recipe: Option<&Path>) -> Self {
        let current = std::env::current_dir().ok();
        let beside = recipe
            .and_then(Path::parent)
            .map(|parent| std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned()));
        let data = std::env::var_os("IDIOLECT_DATA").map(PathBuf::from);
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in [current, beside, data].into_iter().flatten() {
            let folder = std::path::absolute(&folder).unwrap_or(folder);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self(folders)
    }

    /// The files that a path or glob stands for, sorted.
    ///
    /// # Errors
    /// Names it, where it was looked for, and `IDIOLECT_DATA` where that is not set.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<PathBuf>, StageError> {
        for folder in &self.0 {
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
            .0
            .iter()
            .map(|f| format!("`{}`", f.display()))
            .collect();
        let unset = match std::env::var_os("IDIOLECT_DATA") {
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
    pub(crate) fn find_all(&self, names: &[String]) -> Result<Vec<PathBuf>, StageError> {
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

    /// A model's reference with its directory found as files are.
    pub(crate) fn model(&self, reference: &str) -> String {
        if let Some(file) = reference.strip_prefix("scripted:") {
            let found = self
                .0
                .iter()
                .map(|f| f.join(file))
                .find(|path| path.is_file());
            return found.map_or(reference.to_owned(), |path| {
                format!("scripted:{}", path.display())
            });
        }
        let found = self
            .0
            .iter()
            .map(|f| f.join(reference))
            .find(|path| path.is_dir());
        found.map_or(reference.to_owned(), |path| path.display().to_string())
    }
}
