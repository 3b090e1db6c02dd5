//! The values of tensors, from files and to them, and the hash over both.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use idiolect_model::ModelError;
use sha2::{Digest, Sha256};

use super::{
    Dtype, Slot, WeightFiles, WeightsError, has_non_finite, header, io_at, slots, tensor_at,
};
use crate::files;
use crate::frozen::Frozen;
use crate::ops::operand::widen;
use crate::parameters::Parameters;

/// A slot and where a file holds it.
pub(super) struct Found<'a> {
    pub(super) slot: Slot<'a>,
    pub(super) shard: usize,
    /// Offset in the file, bytes.
    pub(super) start: u64,
    pub(super) dtype: Dtype,
}

impl Found<'_> {
    pub(super) fn is_matrix(&self) -> bool {
        self.slot.shape.len() == 2
    }
}

/// Where tensors are read into.
pub(super) enum Destination<'a> {
    /// Each into its place, in f32.
    Values(&'a mut [f32]),
    /// Matrices in bf16.
    Frozen(&'a mut Frozen),
    /// Nowhere: only the hash is wanted.
    Nowhere,
}

impl WeightFiles {
    /// Reads what was found into its places and returns the hash of it all.
    pub(super) fn read_found(
        &self,
        found: &[Found<'_>],
        mut into: Destination<'_>,
    ) -> Result<String, WeightsError> {
        let mut files = self
            .shards
            .iter()
            .map(|(path, _)| File::open(path).map_err(|source| io_at(path, source)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut hash = Sha256::new();
        for found in found {
            let slot = &found.slot;
            let path = &self.shards[found.shard].0;
            let file = &mut files[found.shard];
            hash_head(&mut hash, slot, found.dtype);
            let bad = match &mut into {
                Destination::Nowhere => {
                    let bytes = slot.range.len() * found.dtype.size();
                    hash_bytes(file, found.start, bytes, &mut hash).map(|()| None)
                }
                Destination::Frozen(frozen) if found.is_matrix() => {
                    let out = &mut frozen.matrices[slot.range.clone()];
                    read_bf16(file, found.start, out, &mut hash).map(|()| {
                        let mut values = out.iter().map(|half| widen(*half));
                        values
                            .position(|x| !x.is_finite())
                            .map(|i| (i, widen(out[i])))
                    })
                }
                place => {
                    let out = match place {
                        Destination::Values(values) => &mut values[slot.range.clone()],
                        Destination::Frozen(frozen) => frozen.vector_mut(&slot.range),
                        Destination::Nowhere => &mut [],
                    };
                    read_tensor(file, found.start, found.dtype, out, &mut hash).map(|()| {
                        let bad = out.iter().position(|x| !x.is_finite());
                        bad.map(|i| (i, out[i]))
                    })
                }
            };
            if let Some((i, x)) = bad.map_err(|source| io_at(path, source))? {
                let reason = format!("holds {x} at index {i}; the file is damaged");
                return Err(tensor_at(path, slot.name, reason));
            }
        }
        Ok(hex(hash))
    }
}

/// Writes a model as one safetensors file, tensors in ascending order of name, through a synced
/// temporary, and returns the hash that [`WeightFiles::read`] will give for it.
///
/// # Errors
/// When the file cannot be written, or a value is not finite in `dtype`.
pub fn write_weights(
    path: &Path,
    parameters: &Parameters,
    dtype: Dtype,
) -> Result<String, ModelError> {
    write_slots(
        path,
        &slots(parameters.layout()),
        parameters.values(),
        dtype,
    )
}

/// Writes slots of values as [`write_weights`] does.
pub(crate) fn write_slots(
    path: &Path,
    slots: &[Slot<'_>],
    values: &[f32],
    dtype: Dtype,
) -> Result<String, ModelError> {
    let mut slots = slots.to_vec();
    slots.sort_by_key(|slot| slot.name);
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let mut bad = None;
    files::write_atomic(path, |file| {
        file.write_all(&header::render(&slots, dtype))?;
        for slot in &slots {
            hash_head(&mut hash, slot, dtype);
            for chunk in values[slot.range.clone()].chunks(CHUNK) {
                dtype.encode(chunk, &mut bytes);
                if has_non_finite(&bytes, dtype) {
                    bad = Some(slot.name);
                    return Err(io::Error::other("a weight is not finite"));
                }
                hash.update(&bytes);
                file.write_all(&bytes)?;
            }
        }
        Ok(())
    })
    .map_err(|error| match bad {
        Some(name) => ModelError::Invalid(format!(
            "`{}`: tensor `{name}` holds a value that is not finite; nothing was written",
            path.display()
        )),
        None => error,
    })?;
    Ok(hex(hash))
}

/// Elements converted at a time.
const CHUNK: usize = 1 << 16;

pub(super) fn read_tensor(
    file: &mut File,
    start: u64,
    dtype: Dtype,
    out: &mut [f32],
    hash: &mut Sha256,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; CHUNK.min(out.len()) * dtype.size()];
    for chunk in out.chunks_mut(CHUNK) {
        let bytes = &mut bytes[..chunk.len() * dtype.size()];
        file.read_exact(bytes)?;
        hash.update(&*bytes);
        dtype.decode(bytes, chunk);
    }
    Ok(())
}

/// Reads a bf16 tensor as it is.
fn read_bf16(file: &mut File, start: u64, out: &mut [u16], hash: &mut Sha256) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; 2 * CHUNK.min(out.len())];
    for chunk in out.chunks_mut(CHUNK) {
        let bytes = &mut bytes[..2 * chunk.len()];
        file.read_exact(bytes)?;
        hash.update(&*bytes);
        for (half, b) in chunk.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = u16::from_le_bytes(*b);
        }
    }
    Ok(())
}

fn hash_bytes(file: &mut File, start: u64, n: usize, hash: &mut Sha256) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; (CHUNK * 4).min(n)];
    let mut left = n;
    while left > 0 {
        let bytes = &mut bytes[..left.min(CHUNK * 4)];
        file.read_exact(bytes)?;
        hash.update(&*bytes);
        left -= bytes.len();
    }
    Ok(())
}

fn hash_head(hash: &mut Sha256, slot: &Slot<'_>, dtype: Dtype) {
    // NUL ends a name, so that no two lists of tensors run together to the same bytes.
    hash.update(format!("{}\0{}{:?}\0", slot.name, dtype.name(), slot.shape));
}

fn hex(hash: Sha256) -> String {
    hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
