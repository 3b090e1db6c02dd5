//! Low-rank adapters of a model's linear layers (LoRA): which layers have one, and their values.
//!
//! All A and B lie in one allocation, as parameters do, under the names that PEFT gives them; the
//! maps of layers that share an input (q, k, v; gate, up) lie together. Files are read and written
//! in [`peft`](crate::peft).

use std::ops::Range;

use idiolect_model::{Lora, Rng};

use crate::model_config::ModelConfig;
use crate::ops::low_rank::{LowRank, Map};
use crate::parameters::{Parameters, Tensor};

/// A linear map of a layer as it is computed: several matrices in one product where they share
/// their input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    /// q, k, v.
    Qkv,
    /// Attention's output.
    Output,
    /// gate, up.
    GateUp,
    /// The MLP's output.
    Down,
}

/// All of them, in the order of their values.
const PROJECTIONS: [Projection; 4] = [
    Projection::Qkv,
    Projection::Output,
    Projection::GateUp,
    Projection::Down,
];

/// The names of the matrices that can have an adapter, as `targets` gives them.
pub const TARGETS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// The width that a projection reads, and the module names and heights of its matrices.
fn matrices(config: &ModelConfig, projection: Projection) -> (usize, Vec<(&'static str, usize)>) {
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    match projection {
        Projection::Qkv => (
            config.hidden,
            vec![
                ("self_attn.q_proj", q),
                ("self_attn.k_proj", kv),
                ("self_attn.v_proj", kv),
            ],
        ),
        Projection::Output => (q, vec![("self_attn.o_proj", config.hidden)]),
        Projection::GateUp => (
            config.hidden,
            vec![
                ("mlp.gate_proj", config.intermediate),
                ("mlp.up_proj", config.intermediate),
            ],
        ),
        Projection::Down => (config.intermediate, vec![("mlp.down_proj", config.hidden)]),
    }
}

/// One projection's place among the values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    maps: Vec<Map>,
    a: Range<usize>,
    b: Range<usize>,
}

/// Refuses a rank by which an adapter would be larger than the layers it is of: nothing is laid out
/// by a number that a file states alone.
fn check_rank(config: &ModelConfig, r: usize) -> Result<(), AdapterError> {
    let sizes = PROJECTIONS.into_iter().flat_map(|projection| {
        let (width, matrices) = matrices(config, projection);
        let heights = matrices.into_iter().map(|(_, height)| height);
        heights.chain([width])
    });
    let widest = sizes.max().unwrap_or_default();
    if r > widest {
        return Err(AdapterError::Rank { r, widest });
    }
    Ok(())
}

/// Why a model cannot have such an adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A number that makes no adapter.
    #[error("LoRA: {0}")]
    Setting(String),
    /// A rank that exceeds what the model has.
    #[error(
        "LoRA: `r` is {r}, and the widest layer of the model has {widest}; a rank above that adds \
         nothing but memory"
    )]
    Rank {
        /// The rank asked for.
        r: usize,
        /// Inputs or outputs of the widest layer.
        widest: usize,
    },
    /// A name that no linear layer of attention or MLP has.
    #[error(
        "LoRA: no linear layer of attention or MLP is named `{0}`; there are {names}",
        names = TARGETS.join(", ")
    )]
    Target(String),
}

/// Adapters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    settings: Lora,
    tensors: Vec<Tensor>,
    layers: Vec<[Place; 4]>,
    values: Vec<f32>,
}

impl Adapter {
    /// Adapters of zeros for a model with this config.
    ///
    /// A target names a layer as PEFT's do: `q_proj`, `self_attn.q_proj` and
    /// `model.layers.0.self_attn.q_proj` all name that layer.
    ///
    /// # Errors
    /// When a setting makes no adapter or a target names no layer.
    pub fn zeros(config: &ModelConfig, settings: Lora) -> Result<Self, AdapterError> {
        let mut adapter = Self::laid_out(config, settings)?;
        adapter.values = vec![0.0; end(&adapter.tensors)];
        Ok(adapter)
    }

    /// As [`zeros`](Self::zeros), before there are values: what its files have to hold.
    pub(crate) fn laid_out(config: &ModelConfig, settings: Lora) -> Result<Self, AdapterError> {
        settings.check().map_err(AdapterError::Setting)?;
        check_rank(config, settings.r)?;
        let mut found = vec![false; settings.targets.len()];
        let mut wanted = |module: &str| {
            let mut any = settings.targets.is_empty();
            for (target, found) in settings.targets.iter().zip(&mut found) {
                let before = module.strip_suffix(target.as_str());
                let named = before.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                (any, *found) = (any | named, *found | named);
            }
            any
        };
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut place = |layer: usize, projection: Projection| {
            let (width, matrices) = matrices(config, projection);
            let (mut row, mut first) = (0, 0);
            let mut chosen = Vec::new();
            for (module, height) in matrices {
                let module = format!("model.layers.{layer}.{module}");
                if wanted(&module) {
                    let rows = row..row + height;
                    chosen.push((module, Map { rows, first }));
                    first += height;
                }
                row += height;
            }
            let start = end(&tensors);
            for (module, _) in &chosen {
                push(&mut tensors, module, "A", [settings.r, width]);
            }
            let a_end = end(&tensors);
            for (module, map) in &chosen {
                push(&mut tensors, module, "B", [map.rows.len(), settings.r]);
            }
            Place {
                a: start..a_end,
                b: a_end..end(&tensors),
                maps: chosen.into_iter().map(|(_, map)| map).collect(),
            }
        };
        let layers = (0..config.layers)
            .map(|layer| PROJECTIONS.map(|projection| place(layer, projection)))
            .collect();
        if let Some(i) = found.iter().position(|found| !found) {
            return Err(AdapterError::Target(settings.targets[i].clone()));
        }
        Ok(Self {
            settings,
            values: Vec::new(),
            tensors,
            layers,
        })
    }

    /// Fresh adapters: A uniform within ±1/√in, as PEFT starts it, each from a generator keyed by
    /// `seed` and its name; B zeros, so that they change nothing yet.
    ///
    /// # Errors
    /// As [`zeros`](Self::zeros).
    pub fn random(config: &ModelConfig, settings: Lora, seed: u64) -> Result<Self, AdapterError> {
        let mut adapter = Self::zeros(config, settings)?;
        for tensor in adapter.tensors.iter().filter(|t| is_a(t)) {
            let mut rng = Rng::keyed(seed, &["adapter", &tensor.name]);
            let bound = 1.0 / (tensor.shape[1] as f64).sqrt();
            adapter.values[tensor.range.clone()]
                .fill_with(|| ((2.0 * rng.uniform() - 1.0) * bound) as f32);
        }
        Ok(adapter)
    }

    /// States the same settings with their targets as they were asked for.
    pub(crate) fn name_settings(&mut self, settings: Lora) {
        self.settings = settings;
    }

    /// What they are.
    pub fn settings(&self) -> &Lora {
        &self.settings
    }

    /// The tensors by PEFT's names, A (r, in) and B (out, r), in their order of place.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All values in their order of place.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values in their order of place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One tensor's values, row by row.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let tensor = self.tensors.iter().find(|t| t.name == name)?;
        Some(&self.values[tensor.range.clone()])
    }

    /// Whether they are laid out for this config.
    pub fn fits(&self, config: &ModelConfig) -> bool {
        Self::zeros(config, self.settings.clone()).is_ok_and(|zeros| {
            zeros.tensors == self.tensors && zeros.values.len() == self.values.len()
        })
    }

    /// The low-rank maps of one linear map.
    pub(crate) fn at(&self, layer: usize, projection: Projection) -> LowRank<'_> {
        let place = &self.layers[layer][projection as usize];
        LowRank {
            a: &self.values[place.a.clone()],
            b: &self.values[place.b.clone()],
            maps: &place.maps,
            rank: self.settings.r,
            scale: self.settings.scale() as f32,
        }
    }

    /// The A and B of one linear map among `gradients`, which are laid out as the values.
    pub(crate) fn split<'a>(
        &self,
        gradients: &'a mut [f32],
        layer: usize,
        projection: Projection,
    ) -> (&'a mut [f32], &'a mut [f32]) {
        let place = &self.layers[layer][projection as usize];
        gradients[place.a.start..place.b.end].split_at_mut(place.a.len())
    }

    /// Whether `tensor` is an A whose B is all zeros: its gradient is zero, rightly.
    pub(crate) fn is_idle(&self, tensor: &Tensor) -> bool {
        let Some(module) = tensor.name.strip_suffix("lora_A.weight") else {
            return false;
        };
        self.get(&format!("{module}lora_B.weight"))
            .is_some_and(|b| b.iter().all(|v| *v == 0.0))
    }

    /// Adds s B A to the weights it adapts, in f32.
    ///
    /// # Panics
    /// When the parameters are laid out for another config; a programmer mistake.
    pub fn merge_into(&self, parameters: &mut Parameters) {
        let (scale, r) = (self.settings.scale() as f32, self.settings.r);
        for a in self.tensors.iter().filter(|t| is_a(t)) {
            let module = a.name.trim_end_matches("lora_A.weight");
            let b = self
                .get(&format!("{module}lora_B.weight"))
                .expect("every A has its B");
            let name = format!("{}weight", module.trim_start_matches("base_model.model."));
            let weight = parameters
                .get_mut(&name)
                .expect("an adapter has the matrices of its model");
            let (a, width) = (&self.values[a.range.clone()], a.shape[1]);
            let mut sum = vec![0.0f32; width];
            for (row, b) in weight.chunks_exact_mut(width).zip(b.chunks_exact(r)) {
                sum.fill(0.0);
                for (a, b) in a.chunks_exact(width).zip(b) {
                    sum.iter_mut().zip(a).for_each(|(s, a)| *s += b * a);
                }
                row.iter_mut().zip(&sum).for_each(|(w, s)| *w += scale * s);
            }
        }
    }
}

/// Where the next tensor begins.
fn end(tensors: &[Tensor]) -> usize {
    tensors.last().map_or(0, |t| t.range.end)
}

fn push(tensors: &mut Vec<Tensor>, module: &str, part: &str, shape: [usize; 2]) {
    let name = format!("base_model.model.{module}.lora_{part}.weight");
    tensors.push(Tensor::matrix(name, shape, end(tensors)));
}

fn is_a(tensor: &Tensor) -> bool {
    tensor.name.ends_with("lora_A.weight")
}

#[cfg(test)]
pub(crate) mod tests;
