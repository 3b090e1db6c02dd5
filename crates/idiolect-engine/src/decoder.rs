//! The decoder: configuration, weights and adapters, and what one layer's operations take of them.
//!
//! What is computed with it is in [`forward`](crate::forward) and [`backward`](crate::backward).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use idiolect_model::Compute;

use crate::adapter::{Adapter, Projection};
use crate::frozen::Weights;
use crate::model_config::{ModelConfig, ModelConfigError};
use crate::ops::arithmetic::Factors;
use crate::ops::attention::Heads;
use crate::ops::head::Head;
use crate::ops::norm::NormWeight;
use crate::ops::projection::{Linear, LinearGradients};
use crate::ops::rope::Angles;
use crate::parameters::{LayerRanges, Layout, Parameters, Tensor};
use crate::workspace::Drops;

/// A machine that does not multiply bf16.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this machine cannot multiply bf16: its processor has no AVX-512 BF16 (AMD has it from Zen 4 on, \
     Intel from Cooper Lake and Sapphire Rapids on)"
)]
pub struct NoBf16;

/// Whether this machine multiplies in a type.
///
/// # Errors
/// That it does not.
pub fn check_compute(compute: Compute) -> Result<(), NoBf16> {
    factors(compute).map(drop)
}

fn factors(compute: Compute) -> Result<Factors, NoBf16> {
    match compute {
        Compute::F32 => Ok(Factors::F32),
        Compute::Bf16 => Factors::bf16().ok_or(NoBf16),
    }
}

/// A model: its configuration and its weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: ModelConfig,
    /// Shared by copies until one changes them: an adapter is trained beside weights that are in
    /// memory once.
    weights: Arc<Weights>,
    adapter: Option<Adapter>,
    factors: Factors,
}

impl Decoder {
    /// A decoder of given parameters.
    ///
    /// # Errors
    /// When the sizes do not fit each other.
    ///
    /// # Panics
    /// When the weights were laid out for another config; a programmer mistake.
    pub fn new(config: ModelConfig, weights: impl Into<Weights>) -> Result<Self, ModelConfigError> {
        config.check()?;
        let weights = weights.into();
        assert!(
            weights.layout().fits(&config),
            "weights laid out for another config"
        );
        Ok(Self {
            config,
            weights: Arc::new(weights),
            adapter: None,
            factors: Factors::F32,
        })
    }

    /// A decoder of fresh parameters, see [`Parameters::random`].
    ///
    /// # Errors
    /// When the sizes do not fit each other.
    pub fn random(
        config: ModelConfig,
        seed: u64,
        initial_sd: f64,
    ) -> Result<Self, ModelConfigError> {
        config.check()?;
        let parameters = Parameters::random(&config, seed, initial_sd);
        Self::new(config, parameters)
    }

    /// The same weights under a configuration that lays them out alike.
    ///
    /// # Panics
    /// When the weights were laid out for another config; a programmer mistake.
    pub(crate) fn with_config(self, config: ModelConfig) -> Self {
        assert!(
            self.layout().fits(&config),
            "weights laid out for another config"
        );
        Self { config, ..self }
    }

    /// The model that a bf16 file of its weights holds.
    pub(crate) fn rounded_to_bf16(&self) -> Self {
        Self {
            weights: Arc::new(self.weights.rounded_to_bf16()),
            ..self.clone()
        }
    }

    /// The same with the factors of its large products in a type: those of its linear layers and
    /// with the vocabulary's matrix. Weights, all other operations, and every sum stay f32.
    ///
    /// # Errors
    /// For bf16 on a machine without instructions for it.
    pub fn with_compute(self, compute: Compute) -> Result<Self, NoBf16> {
        let factors = factors(compute)?;
        Ok(Self { factors, ..self })
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where every tensor of the weights lies.
    pub fn layout(&self) -> &Layout {
        self.weights.layout()
    }

    /// Its weights in f32; a copy where they are held in bf16.
    pub fn parameters(&self) -> Cow<'_, Parameters> {
        self.weights.to_f32()
    }

    /// Its weights as they are held.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Its weights, to be changed in place; in f32 from now on.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        Arc::make_mut(&mut self.weights).make_f32()
    }

    /// The same with adapters beside its linear layers; from now on they are what trains.
    ///
    /// # Panics
    /// When the adapters were laid out for another config; a programmer mistake.
    #[must_use]
    pub fn with_adapter(self, adapter: Adapter) -> Self {
        assert!(
            adapter.fits(&self.config),
            "adapters laid out for another config"
        );
        Self {
            adapter: Some(adapter),
            ..self
        }
    }

    /// The adapters beside its linear layers.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Adds the adapters to the weights they belong to, in f32.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            adapter.merge_into(self.parameters_mut());
        }
    }

    /// The first tensor that trains, or of the weights where they are f32, whose values are not all
    /// numbers.
    pub(crate) fn not_finite(&self) -> Option<&str> {
        let values = match (&self.adapter, &*self.weights) {
            (Some(adapter), _) => adapter.values(),
            (None, Weights::F32(parameters)) => parameters.values(),
            // As their file holds them, which was checked.
            (None, Weights::Bf16(_)) => return None,
        };
        let at = values.iter().position(|x| !x.is_finite())?;
        let mut tensors = self.trained_tensors().iter();
        tensors
            .find(|tensor| tensor.range.contains(&at))
            .map(|tensor| tensor.name.as_str())
    }

    /// The tensors that training changes: the adapters' if there are any, else all parameters.
    pub fn trained_tensors(&self) -> &[Tensor] {
        match &self.adapter {
            Some(adapter) => adapter.tensors(),
            None => self.layout().tensors(),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors) in all.
    pub fn n_trained(&self) -> usize {
        match &self.adapter {
            Some(adapter) => adapter.values().len(),
            None => self.layout().len(),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors), in their order of place; a copy where
    /// they are weights held in bf16.
    pub fn trained(&self) -> Cow<'_, [f32]> {
        match (&self.adapter, &*self.weights) {
            (Some(adapter), _) => Cow::Borrowed(adapter.values()),
            (None, Weights::F32(parameters)) => Cow::Borrowed(parameters.values()),
            (None, weights) => Cow::Owned(weights.to_f32().values().to_vec()),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors), to be changed in place; in f32 from
    /// now on.
    pub fn trained_mut(&mut self) -> &mut [f32] {
        match &mut self.adapter {
            Some(adapter) => adapter.values_mut(),
            None => Arc::make_mut(&mut self.weights).make_f32().values_mut(),
        }
    }

    pub(crate) fn layer(&self, index: usize) -> Layer<'_> {
        let f = &self.config;
        Layer {
            index,
            config: f,
            ranges: &self.layout().layers[index],
            weights: &self.weights,
            adapter: self.adapter.as_ref(),
            factors: self.factors,
            heads: Heads {
                n: f.heads,
                kv: f.kv_heads,
                head_dim: f.head_dim,
                window: f.windows[index],
                softcap: f.attention_softcap,
            },
        }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            weight: self.weights.matrix(&self.layout().head),
            width: self.config.hidden,
            softcap: self.config.final_softcap,
            factors: self.factors,
        }
    }

    pub(crate) fn final_norm(&self) -> NormWeight<'_> {
        NormWeight {
            values: self.weights.vector(&self.layout().final_norm),
            plus_one: self.config.norm_plus_one,
        }
    }
}

/// One layer's configuration and weights.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) index: usize,
    pub(crate) config: &'a ModelConfig,
    pub(crate) ranges: &'a LayerRanges,
    weights: &'a Weights,
    adapter: Option<&'a Adapter>,
    factors: Factors,
    pub(crate) heads: Heads,
}

impl<'a> Layer<'a> {
    pub(crate) fn norm(&self, range: &Range<usize>) -> NormWeight<'a> {
        NormWeight {
            values: self.weights.vector(range),
            plus_one: self.config.norm_plus_one,
        }
    }

    /// One of the layer's linear maps, with dropout as `drops` state.
    pub(crate) fn linear<'b>(&self, projection: Projection, drops: &'b Drops) -> Linear<'b>
    where
        'a: 'b,
    {
        let (weight, bias) = self.places(projection);
        Linear {
            weight: self.weights.matrix(&weight),
            bias: self.weights.vector(&bias),
            low_rank: self
                .adapter
                .map(|adapter| adapter.at(self.index, projection))
                .unwrap_or_default(),
            dropout: drops.at(self.index, projection),
            factors: self.factors,
        }
    }

    /// Where the gradients of a linear map are added to.
    pub(crate) fn linear_gradients<'b>(
        &self,
        projection: Projection,
        sums: &'b mut ParameterGradients<'_>,
    ) -> LinearGradients<'b> {
        let (weight, bias) = self.places(projection);
        let (weight, bias) = if sums.base.is_empty() {
            (&mut [][..], &mut [][..])
        } else {
            // The biases lie right behind the weights.
            sums.base[weight.start..weight.end + bias.len()].split_at_mut(weight.len())
        };
        LinearGradients {
            weight,
            bias,
            low_rank: match self.adapter {
                Some(adapter) => adapter.split(sums.adapter, self.index, projection),
                None => (&mut [], &mut []),
            },
        }
    }

    /// Where a linear map's weight and bias lie.
    fn places(&self, projection: Projection) -> (Range<usize>, Range<usize>) {
        let ranges = self.ranges;
        match projection {
            Projection::Qkv => (ranges.qkv.clone(), ranges.qkv_bias.clone()),
            Projection::Output => (ranges.output.clone(), 0..0),
            Projection::GateUp => (ranges.gate_up.clone(), 0..0),
            Projection::Down => (ranges.down.clone(), 0..0),
        }
    }

    /// Those of a workspace's angles that the layer rotates by.
    pub(crate) fn angles<'b>(&self, of: &'b [Angles; 2]) -> &'b Angles {
        let local = self.config.local_rope.is_some() && self.heads.window.is_some();
        &of[usize::from(local)]
    }

    pub(crate) fn norms_before(&self) -> bool {
        self.config.norms.before()
    }

    pub(crate) fn norms_after(&self) -> bool {
        self.config.norms.after()
    }
}

/// Where gradients are added to. What does not train has none.
pub(crate) struct ParameterGradients<'a> {
    /// Laid out as the parameters; empty where they are frozen.
    pub(crate) base: &'a mut [f32],
    /// Laid out as the adapters; empty where there are none.
    pub(crate) adapter: &'a mut [f32],
}

impl ParameterGradients<'_> {
    /// The sums of one of the model's own tensors; empty where it is frozen, and the operations
    /// compute no gradient for an empty slice.
    pub(crate) fn of(&mut self, range: &Range<usize>) -> &mut [f32] {
        if self.base.is_empty() {
            &mut []
        } else {
            &mut self.base[range.clone()]
        }
    }
}
