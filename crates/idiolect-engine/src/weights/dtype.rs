//! Element types of weights, to f32 and back.

use idiolect_model::SaveDtype;

use crate::ops::operand::{f32_to_bf16, widen};

/// Element types that can be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// The upper half of a single.
    Bf16,
    /// IEEE half.
    F16,
}

impl From<SaveDtype> for Dtype {
    fn from(dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::F32 => Self::F32,
            SaveDtype::Bf16 => Self::Bf16,
        }
    }
}

impl Dtype {
    /// The name in a safetensors header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// The name in a `config.json`.
    pub fn config_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::F32, Self::Bf16, Self::F16]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }

    pub(crate) fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The nearest value that this type holds.
    pub fn round(self, x: f32) -> f32 {
        let (mut bytes, mut out) = (Vec::new(), [0.0]);
        self.encode(&[x], &mut bytes);
        self.decode(&bytes, &mut out);
        out[0]
    }

    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            Self::Bf16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = widen(u16::from_le_bytes(*b));
                }
            }
            Self::F16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = half_to_f32(u16::from_le_bytes(*b));
                }
            }
        }
    }

    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|&x| f32_to_half(x).to_le_bytes())),
        }
    }
}

/// Whether some of the encoded values are infinite or no numbers.
pub(crate) fn has_non_finite(bytes: &[u8], dtype: Dtype) -> bool {
    match dtype {
        Dtype::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .any(|b| !f32::from_le_bytes(*b).is_finite()),
        Dtype::Bf16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .any(|b| u16::from_le_bytes(*b) & 0x7f80 == 0x7f80),
        Dtype::F16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .any(|b| u16::from_le_bytes(*b) & 0x7c00 == 0x7c00),
    }
}

fn half_to_f32(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((half >> 10) & 0x1f);
    let fraction = f32::from(half & 0x3ff) / 1024.0;
    match exponent {
        // Powers of two and their products here are exact in f32.
        0 => sign * fraction * 2f32.powi(-14),
        31 if half & 0x3ff == 0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

/// Nearest half, ties to even; beyond the largest half: infinity.
fn f32_to_half(x: f32) -> u16 {
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = x.abs();
    if x.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    // The spacing of halves at this magnitude; subnormals share that of the smallest normals.
    let exponent = (i32::try_from(magnitude.to_bits() >> 23).unwrap_or(0) - 127).max(-14);
    let steps = (f64::from(magnitude) * 2f64.powi(10 - exponent)).round_ties_even() as u16;
    // A carry out of the fraction moves into the exponent by itself.
    let base = if steps >= 1024 {
        ((exponent + 15) as u16) << 10
    } else {
        0
    };
    sign | (base + steps.saturating_sub(if steps >= 1024 { 1024 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_bfloats_round_to_nearest_even() {
        assert_eq!(f32_to_bf16(1.0), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        for half in (0..=u16::MAX).filter(|h| h & 0x7c00 != 0x7c00) {
            assert_eq!(f32_to_half(half_to_f32(half)), half, "{half:#x}");
        }
        // Halfway between 1 and the next half: to the even one.
        assert_eq!(f32_to_half(1.0 + 2f32.powi(-11)), 0x3c00);
        assert_eq!(f32_to_half(1.0 + 3.0 * 2f32.powi(-11)), 0x3c02);
        assert_eq!(f32_to_half(65504.0), 0x7bff);
        assert_eq!(f32_to_half(65520.0), 0x7c00);
        assert_eq!(f32_to_half(2f32.powi(-25)), 0);
        assert_eq!(f32_to_half(1.5 * 2f32.powi(-24)), 2);
    }
}
