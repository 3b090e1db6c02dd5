//! Resumable states of a training on disk: `checkpoint-<step>/`.
//!
//! A state is written whole into a sibling temporary folder, synced and renamed, so a folder of
//! the final name is complete whenever it exists. One that is damaged all the same is passed over
//! for an older one. `trainer.safetensors` holds what trains and both moments as they are in
//! memory, `trainer.json` the step, what the training was and what it reported; files that make the
//! folder loadable as a model are the caller's to add.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use idiolect_model::{ModelError, TrainEvent};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decoder::Decoder;

/// Where states go, and what completes them.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The folder of the training; made if missing.
    pub folder: &'a Path,
    /// Adds the files that make a state loadable as a model to the given folder.
    pub add_model: &'a dyn Fn(&Decoder, &Path) -> Result<(), ModelError>,
}

/// The state of a training besides parameters.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Optimiser steps done.
    pub(crate) step: usize,
    /// AdamW's moments, laid out as the parameters.
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// What was reported of the steps done, in order.
    pub(crate) past: Vec<TrainEvent>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    step: usize,
    /// Hash of rows, settings, model configuration and starting parameters.
    training: String,
    /// SHA-256 of `trainer.safetensors`.
    sha256: String,
    /// What was reported of these steps: the log beside the states may have lost its end.
    past: Vec<TrainEvent>,
}

const VERSION: u32 = 2;
const TENSORS: &str = "trainer.safetensors";
const NOTE: &str = "trainer.json";
/// Floats converted at a time.
const CHUNK: usize = 1 << 14;

fn io(path: &Path) -> impl Fn(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::Io {
        path: path.display().to_string(),
        source,
    }
}

/// The file's beginning: length and JSON header of three vectors of `n` floats.
fn header(n: usize) -> Vec<u8> {
    let entry = |i: usize| serde_json::json!({"dtype": "F32", "shape": [n], "data_offsets": [4 * n * i, 4 * n * (i + 1)]});
    let json = serde_json::json!({
        "__metadata__": {"format": "pt"},
        "parameters": entry(0), "first_moment": entry(1), "second_moment": entry(2),
    });
    let mut text = json.to_string();
    // The data begins at a multiple of 8 bytes.
    text.extend(std::iter::repeat_n(
        ' ',
        text.len().next_multiple_of(8) - text.len(),
    ));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Writes a state as `checkpoint-<step>` and returns its folder.
pub(crate) fn write(
    place: Place<'_>,
    training: &str,
    decoder: &Decoder,
    state: &State,
) -> Result<PathBuf, ModelError> {
    let name = format!("checkpoint-{}", state.step);
    let (folder, temporary) = (
        place.folder.join(&name),
        place.folder.join(format!(".{name}.tmp")),
    );
    for stale in [&temporary, &folder] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(io(stale))?;
        }
    }
    fs::create_dir_all(&temporary).map_err(io(&temporary))?;
    let trained = decoder.trained();
    let vectors = [&*trained, &state.first, &state.second];
    let sha256 = write_tensors(&temporary.join(TENSORS), vectors)?;
    let note = Note {
        version: VERSION,
        step: state.step,
        training: training.to_owned(),
        sha256,
        past: state.past.clone(),
    };
    let path = temporary.join(NOTE);
    let json = serde_json::to_string(&note).map_err(|e| ModelError::Invalid(e.to_string()))?;
    let mut file = File::create(&path).map_err(io(&path))?;
    file.write_all(json.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io(&path))?;
    (place.add_model)(decoder, &temporary)?;
    sync_folder(&temporary)?;
    fs::rename(&temporary, &folder).map_err(io(&folder))?;
    sync_folder(place.folder)?;
    Ok(folder)
}

fn write_tensors(path: &Path, vectors: [&[f32]; 3]) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    let mut file = BufWriter::new(File::create(path).map_err(io(path))?);
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    let mut bytes = Vec::with_capacity(4 * CHUNK);
    put(&header(vectors[0].len())).map_err(io(path))?;
    for chunk in vectors.into_iter().flat_map(|v| v.chunks(CHUNK)) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
        put(&bytes).map_err(io(path))?;
    }
    let file = file.into_inner().map_err(|e| io(path)(e.into_error()))?;
    file.sync_all().map_err(io(path))?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes renames and new names durable; only Unix lets a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<(), ModelError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(io(folder))?;
    }
    Ok(())
}

/// The newest whole state in a folder, its parameters put into the decoder.
///
/// # Errors
/// When the newest whole state belongs to another training.
pub(crate) fn resume(
    folder: &Path,
    training: &str,
    decoder: &mut Decoder,
) -> Result<Option<State>, ModelError> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(None);
    };
    let step = |name: &str| name.strip_prefix("checkpoint-")?.parse::<usize>().ok();
    let mut steps: Vec<usize> = entries
        .flatten()
        .filter_map(|e| step(&e.file_name().to_string_lossy()))
        .collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    for step in steps {
        let path = folder.join(format!("checkpoint-{step}"));
        let n = decoder.trained().len();
        let Some((note, [parameters, first, second])) = read(&path, n) else {
            continue;
        };
        if note.training != training {
            return Err(ModelError::Invalid(format!(
                "`{}` belongs to a training of other rows, settings or starting model; remove it or train into another folder",
                path.display()
            )));
        }
        decoder.trained_mut().copy_from_slice(&parameters);
        return Ok(Some(State {
            step: note.step,
            first,
            second,
            past: note.past,
        }));
    }
    Ok(None)
}

/// A whole state for `n` parameters, or nothing when anything about it is not as written.
fn read(folder: &Path, n: usize) -> Option<(Note, [Vec<f32>; 3])> {
    let note: Note = serde_json::from_str(&fs::read_to_string(folder.join(NOTE)).ok()?).ok()?;
    if note.version != VERSION {
        return None;
    }
    let file = File::open(folder.join(TENSORS)).ok()?;
    let header = header(n);
    let expected = header.len() as u64 + 12 * n as u64;
    if file.metadata().ok()?.len() != expected {
        return None;
    }
    let mut hash = Sha256::new();
    let mut file = BufReader::new(file);
    let mut found = vec![0; header.len()];
    file.read_exact(&mut found).ok()?;
    hash.update(&found);
    if found != header {
        return None;
    }
    let mut bytes = vec![0; 4 * CHUNK];
    let mut vectors: [Vec<f32>; 3] = Default::default();
    for vector in &mut vectors {
        vector.reserve_exact(n);
        while vector.len() < n {
            let part = &mut bytes[..4 * CHUNK.min(n - vector.len())];
            file.read_exact(part).ok()?;
            hash.update(&*part);
            vector.extend(
                part.chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            );
        }
    }
    (hex(&hash.finalize()) == note.sha256).then_some((note, vectors))
}
