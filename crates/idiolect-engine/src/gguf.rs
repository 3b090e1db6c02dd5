//! GGUF, the file that llama.cpp loads.
//!
//! A file is the letters `GGUF`, a version, entries of metadata (name, type, value), the names, shapes,
//! types and places of tensors, and their data, each at a multiple of 32 bytes; all little-endian
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). This module states the format;
//! what a model's entries and tensors are is its children's business.

use std::borrow::Cow;

use crate::weights::Dtype;

pub(crate) mod metadata;
#[cfg(test)]
pub(crate) mod reader;
pub(crate) mod tensors;
#[cfg(test)]
mod tests;
pub(crate) mod vocabulary;

const VERSION: u32 = 3;

/// Tensor data, and the data as a whole, begin at multiples of this many bytes.
pub(crate) const ALIGNMENT: usize = 32;

/// The value of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(Cow<'static, str>),
    Bools(Vec<bool>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

/// A name with its value.
pub(crate) type Entry = (Cow<'static, str>, Value);

/// A tensor as the file lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Outermost dimension first, as everywhere else here; the file has the innermost first.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
}

impl Listed {
    /// Bytes of its data without padding.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// Everything before the first tensor's data, the padding before it included.
pub(crate) fn head<'a>(
    entries: &[Entry],
    tensors: impl ExactSizeIterator<Item = &'a Listed>,
) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (name, value) in entries {
        put_text(&mut out, name);
        put_value(&mut out, value);
    }
    let mut place = 0_u64;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            out.extend((*size as u64).to_le_bytes());
        }
        out.extend(code(tensor.dtype).to_le_bytes());
        out.extend(place.to_le_bytes());
        place += tensor.bytes().next_multiple_of(ALIGNMENT) as u64;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

/// ggml's number of an element type.
fn code(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Bf16 => 30,
    }
}

/// llama.cpp's number of a file whose matrices have this type.
pub(crate) fn file_type(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Bf16 => 32,
    }
}

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let list = |out: &mut Vec<u8>, kind: u32, n: usize| {
        out.extend(LIST.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((n as u64).to_le_bytes());
    };
    match value {
        Value::U32(x) => {
            out.extend(U32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Value::F32(x) => {
            out.extend(F32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Value::Bool(x) => {
            out.extend(BOOL.to_le_bytes());
            out.push(u8::from(*x));
        }
        Value::Text(text) => {
            out.extend(TEXT.to_le_bytes());
            put_text(out, text);
        }
        Value::Bools(xs) => {
            list(out, BOOL, xs.len());
            out.extend(xs.iter().map(|x| u8::from(*x)));
        }
        Value::I32s(xs) => {
            list(out, I32, xs.len());
            out.extend(xs.iter().flat_map(|x| x.to_le_bytes()));
        }
        Value::F32s(xs) => {
            list(out, F32, xs.len());
            out.extend(xs.iter().flat_map(|x| x.to_le_bytes()));
        }
        Value::Texts(texts) => {
            list(out, TEXT, texts.len());
            for text in texts {
                put_text(out, text);
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// An entry with a number of the model's shape, which fits 32 bits by `ModelConfig::check`.
pub(crate) fn number(name: String, value: usize) -> Entry {
    (
        name.into(),
        Value::U32(u32::try_from(value).unwrap_or(u32::MAX)),
    )
}
