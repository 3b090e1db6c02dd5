//! What decided an output: `OUTPUT.meta.json`, and how two of them differ.
//!
//! Everything in it depends on settings, data, seed and program version alone: no times, no paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, beside, hash_file, write_atomic};

/// The provenance of an output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The stage that made it.
    pub stage: String,
    /// Resolved settings by name.
    pub settings: BTreeMap<String, Value>,
    /// Content hash of each input by role.
    pub inputs: BTreeMap<String, String>,
    /// Program, task, prompt, tokenizer, template and model, each by version or hash.
    pub versions: BTreeMap<String, String>,
    /// Whether every row is there.
    pub complete: bool,
    /// Rows of the output, once complete.
    pub rows: u64,
    /// Rows refused, once complete.
    pub rejected: u64,
    /// Rows looked at (kept, refused or collapsed), once complete.
    pub seen: u64,
    /// Content hash of the output, once complete; of a folder as its stage defines it.
    pub hash: String,
    /// Of a complete folder what it holds, by path in it: the content hash, or an empty text where
    /// the bytes are not the same each time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// One setting that differs between two outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its name, for example `settings.temperature`.
    pub key: String,
    /// What the output was made with; null when it had none.
    pub old: Value,
    /// What is asked for now; null when it has none.
    pub new: Value,
}

impl Meta {
    /// The provenance of `stage` by this program version, still without settings.
    pub fn of(stage: &str) -> Self {
        let mut meta = Self {
            stage: stage.to_owned(),
            ..Self::default()
        };
        meta.version("idiolect", env!("CARGO_PKG_VERSION"));
        meta
    }

    /// Adds a setting; a value that JSON cannot hold is null.
    pub fn setting(&mut self, name: &str, value: impl Serialize) -> &mut Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.settings.insert(name.to_owned(), value);
        self
    }

    /// Adds an input's content hash.
    pub fn input(&mut self, role: &str, hash: impl Into<String>) -> &mut Self {
        self.inputs.insert(role.to_owned(), hash.into());
        self
    }

    /// Adds a version or hash of a thing that decided the rows.
    pub fn version(&mut self, name: &str, version: impl Into<String>) -> &mut Self {
        self.versions.insert(name.to_owned(), version.into());
        self
    }

    /// Where the provenance of `output` lies.
    pub fn path_of(output: &Path) -> PathBuf {
        beside(output, ".meta.json")
    }

    /// Reads the provenance of `output`; `None` where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(output: &Path) -> Result<Option<Self>, StoreError> {
        let path = Self::path_of(output);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                StoreError::format(&path, format!("not the provenance of an output: {error}"))
            }),
        }
    }

    /// Writes it beside `output`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write(&self, output: &Path) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| StoreError::format(output, error.to_string()))?;
        text.push(b'\n');
        write_atomic(&Self::path_of(output), &text)
    }

    /// Everything in which this provenance and a `new` one differ, by name; what only a finished
    /// output knows does not count.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let (old, new) = (self.flat(), new.flat());
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let value =
            |map: &BTreeMap<String, Value>, key| map.get(key).cloned().unwrap_or(Value::Null);
        keys.into_iter()
            .filter(|key| old.get(*key) != new.get(*key))
            .map(|key| Difference {
                key: key.clone(),
                old: value(&old, key),
                new: value(&new, key),
            })
            .collect()
    }

    /// A hash of everything that decided the output: the cache key of its stage.
    pub fn key(&self) -> String {
        let text = serde_json::to_vec(&self.flat()).unwrap_or_default();
        crate::record::content_hash(&text)
    }

    fn flat(&self) -> BTreeMap<String, Value> {
        let texts = |prefix: &'static str, map: &BTreeMap<String, String>| {
            let named =
                |(k, v): (&String, &String)| (format!("{prefix}.{k}"), Value::from(v.as_str()));
            map.iter().map(named).collect::<Vec<_>>()
        };
        let settings = self
            .settings
            .iter()
            .map(|(k, v)| (format!("settings.{k}"), v.clone()));
        let mut flat: BTreeMap<String, Value> = settings.collect();
        flat.insert("stage".to_owned(), Value::from(self.stage.as_str()));
        flat.extend(texts("inputs", &self.inputs));
        flat.extend(texts("versions", &self.versions));
        flat
    }
}

/// The content hash of a file that is about to be read. One that this program made, by itself or in
/// a folder, must be what was written.
///
/// # Errors
/// [`StoreError::Altered`], or when the file cannot be read.
pub fn hash_input(path: &Path) -> Result<String, StoreError> {
    let hash = hash_file(path)?;
    // What is beside a user's own file and is no provenance binds nobody.
    let meta_of = |path: &Path| Meta::read(path).ok().flatten();
    let altered = |output: &Path, reason| Err(StoreError::altered(path, output, reason));
    if let Some(meta) = meta_of(path) {
        return match (meta.complete, meta.hash == hash) {
            (true, true) => Ok(hash),
            (true, false) => altered(path, "its content hash differs"),
            (false, _) => altered(
                path,
                "it is not finished; the command that makes it continues it",
            ),
        };
    }
    if let (Some(folder), Some(name)) = (path.parent(), path.file_name())
        && let Some(meta) = meta_of(folder)
        && let Some(written) = meta.files.get(&*name.to_string_lossy())
        && !written.is_empty()
        && *written != hash
    {
        return altered(folder, "its content hash differs");
    }
    Ok(hash)
}

/// The differences for a person, one a line.
pub(super) fn lines(differences: &[Difference]) -> String {
    let line = |d: &Difference| format!("  {}: {} before, {} now", d.key, d.old, d.new);
    differences.iter().map(line).collect::<Vec<_>>().join("\n")
}
