//! Reads a GGUF file again, for the tests of what is written.

use std::collections::BTreeMap;

use super::{ALIGNMENT, BOOL, F32, I32, LIST, TEXT, U32, VERSION, Value};
use crate::weights::Dtype;

/// A file taken apart.
pub(crate) struct File {
    pub(crate) entries: BTreeMap<String, Value>,
    /// Shape (outermost first), type and values of each tensor.
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Dtype, Vec<f32>)>,
}

/// # Panics
/// When the bytes are no such file, or hold more than it lists.
pub(crate) fn read(bytes: &[u8]) -> File {
    let mut rest = Rest(bytes);
    assert_eq!(rest.take(4), b"GGUF");
    assert_eq!(rest.u32(), VERSION);
    let (n_tensors, n_entries) = (rest.size(), rest.size());
    let entries: BTreeMap<_, _> = (0..n_entries)
        .map(|_| {
            let name = rest.text();
            let kind = rest.u32();
            (name, rest.value(kind))
        })
        .collect();
    assert_eq!(entries.len(), n_entries, "a name stands twice");
    let listed: Vec<_> = (0..n_tensors)
        .map(|_| {
            let name = rest.text();
            let dimensions = rest.u32();
            let mut shape: Vec<usize> = (0..dimensions).map(|_| rest.size()).collect();
            shape.reverse();
            let dtype = match rest.u32() {
                0 => Dtype::F32,
                1 => Dtype::F16,
                30 => Dtype::Bf16,
                other => panic!("type {other}"),
            };
            (name, shape, dtype, rest.size())
        })
        .collect();
    let head = (bytes.len() - rest.0.len()).next_multiple_of(ALIGNMENT);
    let mut end = head;
    let mut tensors = BTreeMap::new();
    for (name, shape, dtype, place) in listed {
        assert_eq!(
            head + place,
            end,
            "{name} does not begin where the last one ends"
        );
        let n: usize = shape.iter().product();
        let data = &bytes[head + place..][..n * dtype.size()];
        let mut values = vec![0.0; n];
        dtype.decode(data, &mut values);
        end += data.len().next_multiple_of(ALIGNMENT);
        assert!(
            tensors.insert(name, (shape, dtype, values)).is_none(),
            "a tensor stands twice"
        );
    }
    assert_eq!(end, bytes.len(), "the file goes on after the last tensor");
    File { entries, tensors }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn size(&mut self) -> usize {
        u64::from_le_bytes(self.take(8).try_into().unwrap()) as usize
    }

    fn text(&mut self) -> String {
        let n = self.size();
        String::from_utf8(self.take(n).to_vec()).unwrap()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            U32 => Value::U32(self.u32()),
            F32 => Value::F32(f32::from_bits(self.u32())),
            BOOL => Value::Bool(self.take(1) == [1]),
            TEXT => Value::Text(self.text().into()),
            LIST => {
                let (kind, n) = (self.u32(), self.size());
                match kind {
                    BOOL => Value::Bools((0..n).map(|_| self.take(1) == [1]).collect()),
                    I32 => Value::I32s((0..n).map(|_| self.u32().cast_signed()).collect()),
                    F32 => Value::F32s((0..n).map(|_| f32::from_bits(self.u32())).collect()),
                    TEXT => Value::Texts((0..n).map(|_| self.text()).collect()),
                    other => panic!("list of type {other}"),
                }
            }
            other => panic!("value of type {other}"),
        }
    }
}
