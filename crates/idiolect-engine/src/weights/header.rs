//! The header of a safetensors file: read with every claim checked, and rendered.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::files;

use super::{Dtype, Slot, WeightsError, io_at, tensor_at};

/// The longest header that is read, bytes: room for the tensors of 4096 layers twice over. What is
/// made of a header takes some ten times its size.
const LONGEST: u64 = 16 << 20;

/// A checked header.
pub(super) struct Header {
    /// By name.
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// Offset of the data in the file, bytes.
    pub(super) data_start: u64,
}

/// One tensor as its header describes it; `begin..end` lies within the file's data and has the
/// length that type and shape need.
pub(super) struct TensorInfo {
    /// The type's name; not necessarily one that can be computed with.
    pub(super) dtype: String,
    /// Sizes, outermost first.
    pub(super) shape: Vec<usize>,
    /// First byte, from the start of the data.
    pub(super) begin: u64,
    end: u64,
}

impl Header {
    /// Reads and checks the header of a file.
    pub(super) fn read(path: &Path) -> Result<Self, WeightsError> {
        let fault = |reason: String| WeightsError::File {
            path: path.to_owned(),
            reason,
        };
        let io = |source| io_at(path, source);
        let mut file = File::open(path).map_err(io)?;
        let file_len = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.rewind().map_err(io)?;
        let mut head = Vec::new();
        (&file).take(64).read_to_end(&mut head).map_err(io)?;
        file.rewind().map_err(io)?;
        if let Some(reason) = files::lfs_pointer(&head) {
            return Err(fault(reason.to_owned()));
        }
        if file_len < 8 {
            return Err(fault(format!(
                "has {file_len} bytes; a safetensors file has at least 8"
            )));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if (LONGEST + 1..=file_len - 8).contains(&length) {
            return Err(fault(format!(
                "claims a header of {length} bytes; at most {LONGEST} are read"
            )));
        }
        if length > file_len - 8 {
            return Err(fault(format!(
                "claims a header of {length} bytes and has {file_len} in all; it is cut off or no \
                 safetensors file"
            )));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes).map_err(io)?;
        let raw: RawHeader = serde_json::from_slice(&bytes)
            .map_err(|error| fault(format!("the header cannot be read: {error}")))?;
        let data_start = 8 + length;
        let data_len = file_len - data_start;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in raw.0 {
            let info = tensor
                .check(data_len)
                .map_err(|reason| tensor_at(path, &name, reason))?;
            tensors.insert(name, info);
        }
        check_cover(&tensors, data_len).map_err(|(name, reason)| tensor_at(path, &name, reason))?;
        Ok(Self {
            tensors,
            data_start,
        })
    }
}

/// The data must be covered without holes and overlaps.
fn check_cover(
    tensors: &BTreeMap<String, TensorInfo>,
    data_len: u64,
) -> Result<(), (String, String)> {
    let mut ordered: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    ordered.sort_by_key(|(_, info)| (info.begin, info.end));
    let mut covered = 0;
    for (name, info) in &ordered {
        if info.begin != covered {
            let what = if info.begin < covered {
                "overlaps another"
            } else {
                "follows a hole"
            };
            return Err((
                (*name).clone(),
                format!(
                    "{what}: its data begins at {}, expected {covered}",
                    info.begin
                ),
            ));
        }
        covered = info.end;
    }
    if covered == data_len {
        return Ok(());
    }
    let last = ordered
        .last()
        .map_or_else(String::new, |(name, _)| (*name).clone());
    Err((
        last,
        format!("is the last and ends at {covered}, but the file holds {data_len} bytes of data"),
    ))
}

/// The header's JSON, tensors in the order given, spaces to a multiple of 8, after its length.
pub(super) fn render(slots: &[Slot<'_>], dtype: Dtype) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    // Some loaders refuse a file whose metadata does not state it.
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for slot in slots {
        let begin = end;
        end += slot.range.len() * dtype.size();
        header.insert(
            slot.name.to_owned(),
            json!({"dtype": dtype.name(), "shape": slot.shape, "data_offsets": [begin, end]}),
        );
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// The header as it is; a name that is there twice is an error.
struct RawHeader(BTreeMap<String, RawTensor>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    fn check(self, data_len: u64) -> Result<TensorInfo, String> {
        let (begin, end) = self.data_offsets;
        if begin > end || end > data_len {
            return Err(format!(
                "claims bytes {begin} to {end} of {data_len}; the file is cut off or damaged"
            ));
        }
        let size = element_size(&self.dtype)
            .ok_or_else(|| format!("has the unknown dtype `{}`", self.dtype))?;
        let needed = self
            .shape
            .iter()
            .try_fold(size, |product, &n| {
                product.checked_mul(u64::try_from(n).ok()?)
            })
            .ok_or_else(|| format!("has the impossible shape {:?}", self.shape))?;
        if needed != end - begin {
            return Err(format!(
                "has {} bytes; dtype {} and shape {:?} need {needed}",
                end - begin,
                self.dtype,
                self.shape
            ));
        }
        Ok(TensorInfo {
            dtype: self.dtype,
            shape: self.shape,
            begin,
            end,
        })
    }
}

/// Bytes of an element of each type of the format that has whole bytes.
fn element_size(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 1,
        "I16" | "U16" | "F16" | "BF16" => 2,
        "I32" | "U32" | "F32" => 4,
        "I64" | "U64" | "F64" | "C64" => 8,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                    } else if let Some(_first) = tensors.insert(name.clone(), map.next_value()?) {
                        return Err(de::Error::custom(format!("tensor `{name}` is there twice")));
                    }
                }
                Ok(RawHeader(tensors))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
