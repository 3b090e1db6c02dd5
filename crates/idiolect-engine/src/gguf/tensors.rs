//! A model's tensors under llama.cpp's names, in its conventions, and their data as a stream.

use std::io::{self, Write};

use super::metadata::Metadata;
use super::{ALIGNMENT, Listed};
use crate::frozen::Weights;
use crate::model_config::{Family, ModelConfig, Norms};
use crate::ops::operand::{Stored, widen};
use crate::parameters::Tensor;
use crate::weights::{Dtype, has_non_finite};

/// A tensor to write.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) listed: Listed,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    /// One of the model's, value by value `scale * (x + add)`.
    Model {
        tensor: &'a Tensor,
        add: f32,
        scale: f32,
        /// The width of heads whose rows are reordered.
        interleaved: Option<usize>,
    },
    Values(Vec<f32>),
}

/// The tensors of a model, matrices in `dtype` and all others in f32, as llama.cpp wants it.
pub(crate) fn planned<'a>(
    config: &ModelConfig,
    tensors: &'a [Tensor],
    metadata: &Metadata,
    dtype: Dtype,
) -> Vec<Planned<'a>> {
    let dtype_of = |shape: &[usize]| if shape.len() == 2 { dtype } else { Dtype::F32 };
    let mut planned: Vec<Planned<'a>> = tensors
        .iter()
        .map(|tensor| Planned {
            listed: Listed {
                name: name(&tensor.name, config.norms),
                dtype: dtype_of(&tensor.shape),
                shape: tensor.shape.clone(),
            },
            source: source(tensor, config, metadata.query_scale),
        })
        .collect();
    // OLMo 2 alone has no head of llama.cpp's that is the embedding.
    if config.tied && config.family == Family::Olmo2 {
        planned.extend(tensors.first().map(|embedding| Planned {
            listed: Listed {
                name: "output.weight".to_owned(),
                shape: embedding.shape.clone(),
                dtype,
            },
            source: source(embedding, config, 1.0),
        }));
    }
    planned.extend(metadata.rope_factors.clone().map(|factors| Planned {
        listed: Listed {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len()],
            dtype: Dtype::F32,
        },
        source: Source::Values(factors),
    }));
    planned
}

/// llama.cpp's name for a tensor.
fn name(hugging_face: &str, norms: Norms) -> String {
    let (place, part) = match hugging_face.strip_prefix("model.layers.") {
        None => (None, hugging_face),
        Some(rest) => match rest.split_once('.') {
            Some((layer, part)) => (Some(layer), part),
            None => (None, hugging_face),
        },
    };
    let (stem, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
    let name = match stem {
        "model.embed_tokens" => "token_embd",
        "model.norm" => "output_norm",
        "lm_head" => "output",
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        // Llama's name for the norm before the MLP.
        "post_attention_layernorm" if norms == Norms::Before => "ffn_norm",
        "post_attention_layernorm" => "post_attention_norm",
        "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => other,
    };
    match place {
        Some(layer) => format!("blk.{layer}.{name}.{kind}"),
        None => format!("{name}.{kind}"),
    }
}

fn source<'a>(tensor: &'a Tensor, config: &ModelConfig, query_scale: f32) -> Source<'a> {
    let is = |part: &str| tensor.name.ends_with(part);
    let norm = is("norm.weight");
    // Where q is normed after its projection, only the norm scales it.
    let scales_queries = if config.qk_norm {
        is("self_attn.q_norm.weight")
    } else {
        is("self_attn.q_proj.weight") || is("self_attn.q_proj.bias")
    };
    // llama.cpp turns neighbouring dimensions of a Llama, and of the others dimension i with
    // i + D/2, as transformers does.
    let turns = config.family == Family::Llama
        && (is("self_attn.q_proj.weight") || is("self_attn.k_proj.weight"));
    Source::Model {
        tensor,
        add: if norm && config.norm_plus_one {
            1.0
        } else {
            0.0
        },
        scale: if scales_queries { query_scale } else { 1.0 },
        interleaved: turns.then_some(config.head_dim),
    }
}

/// Values read at a time, at least one row.
const CHUNK: usize = 1 << 16;

/// Writes the data of all tensors with the padding behind each; a few rows are in memory twice.
///
/// # Errors
/// What the system refuses; the name of a tensor that holds a value that is not finite in its type.
pub(crate) fn write(
    file: &mut dyn Write,
    weights: &Weights,
    planned: &[Planned<'_>],
) -> io::Result<()> {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for Planned { listed, source } in planned {
        let mut put = |values: &[f32]| {
            listed.dtype.encode(values, &mut bytes);
            if has_non_finite(&bytes, listed.dtype) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("tensor `{}` holds a value that is not finite", listed.name),
                ));
            }
            file.write_all(&bytes)
        };
        match source {
            Source::Values(values) => put(values)?,
            Source::Model {
                tensor,
                add,
                scale,
                interleaved,
            } => {
                let (rows, width) = match tensor.shape[..] {
                    [rows, width] => (rows, width),
                    _ => (1, tensor.range.len()),
                };
                let at_once = (CHUNK / width).max(1);
                for first in (0..rows).step_by(at_once) {
                    values.clear();
                    for row in first..rows.min(first + at_once) {
                        let row = interleaved.map_or(row, |head| deinterleaved(row, head));
                        let start = tensor.range.start + row * width;
                        append(weights, tensor, start..start + width, &mut values);
                    }
                    if add.to_bits() != 0 || scale.to_bits() != 1.0_f32.to_bits() {
                        values.iter_mut().for_each(|x| *x = (*x + add) * scale);
                    }
                    put(&values)?;
                }
            }
        }
        let end = listed.bytes();
        file.write_all(&[0; ALIGNMENT][..end.next_multiple_of(ALIGNMENT) - end])?;
    }
    Ok(())
}

/// The row of transformers' order that is at `row` in an order where the two halves of a head of this
/// width take turns.
fn deinterleaved(row: usize, head: usize) -> usize {
    let within = row % head;
    row - within + (within % 2) * (head / 2) + within / 2
}

fn append(
    weights: &Weights,
    tensor: &Tensor,
    range: std::ops::Range<usize>,
    values: &mut Vec<f32>,
) {
    if tensor.shape.len() != 2 {
        return values.extend_from_slice(weights.vector(&range));
    }
    match weights.matrix(&range) {
        Stored::F32(floats) => values.extend_from_slice(floats),
        Stored::Bf16(halves) => values.extend(halves.iter().map(|half| widen(*half))),
    }
}
