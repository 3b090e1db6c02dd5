//! The settings of rotary position embedding.

use serde::{Deserialize, Serialize};

use super::{ModelConfigError, positive};

/// Llama 3's stretching of the rotary wavelengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Llama3Scaling {
    /// Long wavelengths are stretched by this.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_frequency_factor` are stretched
    /// whole.
    pub low_frequency_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_frequency_factor` are left alone.
    pub high_frequency_factor: f64,
    /// Positions the model was first trained on.
    #[serde(rename = "original_positions")]
    pub original_max_position_embeddings: f64,
}

/// How the rotary wavelengths differ from those of the base.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scaling {
    /// All are stretched by this.
    Linear(f64),
    /// Long ones are stretched, short ones not.
    Llama3(Llama3Scaling),
}

/// Rotary position embedding, in the half-rotation form: dimension i turns with i + D/2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Stretching, if any.
    pub scaling: Option<Scaling>,
}

impl Rope {
    /// Radians per position of each pair of dimensions, (D/2), as transformers computes them.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|i| self.stretch(self.theta.powf(-2.0 * i as f64 / head_dim as f64)))
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), ModelConfigError> {
        positive("rope.theta", self.theta)?;
        let numbers: &[f64] = match &self.scaling {
            None => &[],
            Some(Scaling::Linear(factor)) => &[*factor],
            Some(Scaling::Llama3(s)) => &[
                s.factor,
                s.low_frequency_factor,
                s.high_frequency_factor,
                s.original_max_position_embeddings,
            ],
        };
        numbers
            .iter()
            .try_for_each(|&n| positive("rope.scaling", n))
    }

    fn stretch(&self, frequency: f64) -> f64 {
        let s = match self.scaling {
            None => return frequency,
            Some(Scaling::Linear(factor)) => return frequency / factor,
            Some(Scaling::Llama3(s)) => s,
        };
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength < s.original_max_position_embeddings / s.high_frequency_factor {
            return frequency;
        }
        if wavelength > s.original_max_position_embeddings / s.low_frequency_factor {
            return frequency / s.factor;
        }
        let smooth = (s.original_max_position_embeddings / wavelength - s.low_frequency_factor)
            / (s.high_frequency_factor - s.low_frequency_factor);
        (1.0 - smooth) * frequency / s.factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_scaling_has_three_branches() {
        let scaling = Llama3Scaling {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_max_position_embeddings: 64.0,
        };
        let plain = Rope {
            theta: 10_000.0,
            scaling: None,
        }
        .frequencies(16);
        let scaled = Rope {
            theta: 10_000.0,
            scaling: Some(Scaling::Llama3(scaling)),
        }
        .frequencies(16);
        let ratios: Vec<f64> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        assert!(
            (ratios[0] - 1.0).abs() < 1e-12 && (ratios[7] - 8.0).abs() < 1e-12,
            "{ratios:?}"
        );
        assert!(ratios.iter().any(|r| *r > 1.01 && *r < 7.99), "{ratios:?}");
    }
}
