//! A model's weights in memory: f32, or as a bf16 file holds them.
//!
//! The matrices of a bf16 file stay bf16, half the memory, for scoring, sampling and adapters
//! beside them; products widen them where they read them, which is exact. What trains, or is
//! merged into, becomes f32 first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::ops::operand::{Stored, f32_to_bf16, widen_all};
use crate::parameters::{Layout, Parameters, decay_runs};
use crate::weights::Dtype;

/// Weights in the type in which they are held.
#[derive(Clone, Debug)]
pub enum Weights {
    /// All in f32.
    F32(Parameters),
    /// Matrices in bf16.
    Bf16(Frozen),
}

/// Matrices in bf16, norm weights and biases in f32.
#[derive(Clone, Debug)]
pub struct Frozen {
    layout: Layout,
    /// In their places of the layout; the places of norm weights and biases are unused.
    pub(crate) matrices: Vec<u16>,
    /// Neighbouring norm weights and biases, by the place where they begin.
    vectors: BTreeMap<usize, Vec<f32>>,
}

impl Frozen {
    /// Zeros.
    pub(crate) fn zeros(layout: Layout) -> Self {
        let runs = decay_runs(layout.tensors());
        let vectors = runs.into_iter().filter(|(_, decays)| !decays);
        Self {
            matrices: vec![0; layout.len()],
            vectors: vectors
                .map(|(range, _)| (range.start, vec![0.0; range.len()]))
                .collect(),
            layout,
        }
    }

    /// # Panics
    /// When the range is not one of norm weights or biases; a programmer mistake.
    fn vector(&self, range: &Range<usize>) -> &[f32] {
        if range.is_empty() {
            return &[];
        }
        let run = self.vectors.range(..=range.start).next_back();
        let (start, values) = run.expect("a range of norm weights or biases");
        &values[range.start - start..range.end - start]
    }

    /// # Panics
    /// When the range is not one of norm weights or biases; a programmer mistake.
    pub(crate) fn vector_mut(&mut self, range: &Range<usize>) -> &mut [f32] {
        let run = self.vectors.range_mut(..=range.start).next_back();
        let (start, values) = run.expect("a range of norm weights or biases");
        &mut values[range.start - start..range.end - start]
    }
}

impl Weights {
    /// Where every tensor lies.
    pub fn layout(&self) -> &Layout {
        match self {
            Self::F32(parameters) => parameters.layout(),
            Self::Bf16(frozen) => &frozen.layout,
        }
    }

    /// All of them in f32; of f32 weights no copy.
    pub fn to_f32(&self) -> Cow<'_, Parameters> {
        match self {
            Self::F32(parameters) => Cow::Borrowed(parameters),
            Self::Bf16(frozen) => {
                let mut parameters = Parameters::of(frozen.layout.clone());
                widen_all(&frozen.matrices, parameters.values_mut());
                for (start, vector) in &frozen.vectors {
                    parameters.values_mut()[*start..start + vector.len()].copy_from_slice(vector);
                }
                Cow::Owned(parameters)
            }
        }
    }

    /// All of them in f32 from now on.
    pub fn make_f32(&mut self) -> &mut Parameters {
        if let Cow::Owned(parameters) = self.to_f32() {
            *self = Self::F32(parameters);
        }
        match self {
            Self::F32(parameters) => parameters,
            Self::Bf16(_) => unreachable!("just made f32"),
        }
    }

    /// What a bf16 file of them holds: every value rounded to bf16.
    pub(crate) fn rounded_to_bf16(&self) -> Self {
        let parameters = self.to_f32();
        let values = parameters.values();
        let mut frozen = Frozen::zeros(self.layout().clone());
        for (half, value) in frozen.matrices.iter_mut().zip(values) {
            *half = f32_to_bf16(*value);
        }
        for (start, vector) in &mut frozen.vectors {
            for (rounded, value) in vector.iter_mut().zip(&values[*start..]) {
                *rounded = Dtype::Bf16.round(*value);
            }
        }
        Self::Bf16(frozen)
    }

    /// All values in f32 in their order of place, some at a time.
    pub(crate) fn each_chunk(&self, mut f: impl FnMut(&[f32])) {
        const CHUNK: usize = 1 << 14;
        let frozen = match self {
            Self::F32(parameters) => return parameters.values().chunks(CHUNK).for_each(f),
            Self::Bf16(frozen) => frozen,
        };
        let mut buffer = vec![0.0; CHUNK];
        for (range, decays) in decay_runs(frozen.layout.tensors()) {
            if !decays {
                f(frozen.vector(&range));
                continue;
            }
            for halves in frozen.matrices[range].chunks(CHUNK) {
                let values = &mut buffer[..halves.len()];
                widen_all(halves, values);
                f(values);
            }
        }
    }

    /// A matrix, or neighbouring matrices.
    pub(crate) fn matrix(&self, range: &Range<usize>) -> Stored<'_> {
        match self {
            Self::F32(parameters) => Stored::F32(&parameters.values()[range.clone()]),
            Self::Bf16(frozen) => Stored::Bf16(&frozen.matrices[range.clone()]),
        }
    }

    /// A norm weight or a bias, or neighbouring biases.
    pub(crate) fn vector(&self, range: &Range<usize>) -> &[f32] {
        match self {
            Self::F32(parameters) => &parameters.values()[range.clone()],
            Self::Bf16(frozen) => frozen.vector(range),
        }
    }
}

impl From<Parameters> for Weights {
    fn from(parameters: Parameters) -> Self {
        Self::F32(parameters)
    }
}
