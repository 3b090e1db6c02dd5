//! The decoder as a whole, against a naive one in f64 and against itself.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use idiolect_model::{Lora, ModelError, Rng, Schedule, StepSize, TrainEvent, TrainSettings};
use proptest::prelude::*;

use crate::adapter::Adapter;
use crate::backward::{adapter_gradients, loss_and_gradients};
use crate::batch::TokenRow;
use crate::checkpoint::Place;
use crate::decoder::Decoder;
use crate::forward::logits;
use crate::frozen::Weights;
use crate::kv_cache::{PagePool, Sequence, forward_prompts, forward_step};
use crate::model_config::{
    Activation, Family, Llama3Scaling, ModelConfig, Norms, Rope, Scaling, Sizes,
};
use crate::ops::testing::close;
use crate::parameters::Parameters;
use crate::score::{TargetScore, score_rows};
use crate::threads::Threads;
use crate::train::{Outcome, Training, learning_rate, train_rows};
use crate::weights::{Dtype, WeightFiles, write_weights};
use crate::workspace::Workspace;

/// Tiny models whose config make every mistake visible; see house-style's adversarial fixtures.
pub(crate) fn tiny(family: Family) -> ModelConfig {
    let gemma = family.is_gemma();
    let gemma2 = family == Family::Gemma2;
    let scaling = Llama3Scaling {
        factor: 4.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 3.0,
        original_max_position_embeddings: 16.0,
    };
    let sizes = Sizes {
        vocab: 29,
        hidden: 10,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        intermediate: 7,
    };
    ModelConfig {
        norm_eps: 1e-2,
        rope: Rope {
            theta: 30.0,
            scaling: match family {
                Family::Llama => Some(Scaling::Llama3(scaling)),
                Family::Gemma3 => Some(Scaling::Linear(2.5)),
                _ => None,
            },
        },
        local_rope: (family == Family::Gemma3).then_some(Rope {
            theta: 7.0,
            scaling: None,
        }),
        embedding_scale: if gemma { 3.15625 } else { 1.0 },
        attention_scale: if gemma { 0.7 } else { 6f32.powf(-0.5) },
        attention_softcap: gemma2.then_some(1.1),
        final_softcap: gemma2.then_some(1.3),
        windows: if gemma {
            vec![Some(3), None, Some(5)]
        } else {
            vec![None; 3]
        },
        tied: family != Family::Qwen2,
        ..ModelConfig::new(family, sizes)
    }
}

pub(crate) const FAMILIES: [Family; 5] = [
    Family::Llama,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gemma2,
    Family::Gemma3,
];

/// Parameters far from their usual start: norm weights and biases are random too.
pub(crate) fn decoder(config: ModelConfig) -> Decoder {
    let mut parameters = Parameters::zeros(&config);
    for tensor in parameters.layout().tensors().to_vec() {
        let mut rng = Rng::keyed(5, &["tests", &tensor.name]);
        let one = f32::from(u8::from(
            tensor.name.contains("norm") && !config.norm_plus_one,
        ));
        let values = parameters.get_mut(&tensor.name).unwrap();
        values.fill_with(|| one + 0.4 * rng.normal() as f32);
    }
    Decoder::new(config, parameters).unwrap()
}

pub(crate) fn row(key: usize, len: usize, completion_start: usize, weight: f32) -> TokenRow {
    let mut rng = Rng::keyed(9, &["row", &key.to_string()]);
    TokenRow {
        ids: (0..len).map(|_| rng.below(29) as u32).collect(),
        completion_start,
        weight,
        loss_mask: Vec::new(),
    }
}

pub(crate) fn rows() -> Vec<TokenRow> {
    vec![
        row(0, 23, 9, 1.0),
        row(1, 2, 1, 0.5),
        row(2, 40, 1, 2.0),
        row(3, 17, 16, 1.5),
    ]
}

pub(crate) fn threads(n: usize) -> Threads {
    Threads::new(NonZeroUsize::new(n).unwrap())
}

/// The decoder in f64, one token and one number at a time.
struct Naive<'a> {
    config: &'a ModelConfig,
    values: Vec<f64>,
    model: &'a Decoder,
}

impl<'a> Naive<'a> {
    fn new(model: &'a Decoder) -> Self {
        let values = model
            .parameters()
            .values()
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        Self {
            config: model.config(),
            values,
            model,
        }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.values[self
            .model
            .parameters()
            .layout()
            .tensor(name)
            .unwrap()
            .range
            .clone()]
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let r = 1.0 / (square + f64::from(self.config.norm_eps)).sqrt();
        let one = f64::from(u8::from(self.config.norm_plus_one));
        x.iter()
            .zip(self.get(name))
            .map(|(v, g)| v * r * (one + g))
            .collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.get(name)
            .chunks(x.len())
            .map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect()
    }

    /// Each head normalised, where the family does that.
    fn normed(&self, name: &str, heads: Vec<f64>) -> Vec<f64> {
        if !self.config.qk_norm {
            return heads;
        }
        let heads = heads.chunks(self.config.head_dim);
        heads.flat_map(|head| self.norm(name, head)).collect()
    }

    fn rotated(&self, layer: usize, heads: &[f64], position: usize) -> Vec<f64> {
        let d = self.config.head_dim;
        let local = self.config.windows[layer].and(self.config.local_rope);
        let frequencies = local.unwrap_or(self.config.rope).frequencies(d);
        let mut out = heads.to_vec();
        for head in out.chunks_mut(d) {
            for i in 0..d / 2 {
                let (s, c) = (position as f64 * frequencies[i]).sin_cos();
                let (a, b) = (head[i], head[i + d / 2]);
                head[i] = a * c - b * s;
                head[i + d / 2] = b * c + a * s;
            }
        }
        out
    }

    fn cap(z: f64, c: Option<f32>) -> f64 {
        c.map_or(z, |c| f64::from(c) * (z / f64::from(c)).tanh())
    }

    fn attention(&self, layer: usize, qkv: &[[Vec<f64>; 3]]) -> Vec<Vec<f64>> {
        let f = self.config;
        let d = f.head_dim;
        let mut outs = Vec::new();
        for t in 0..qkv.len() {
            let mut out = vec![0.0; f.heads * d];
            for h in 0..f.heads {
                let kv = h / (f.heads / f.kv_heads) * d;
                let seen = (0..=t).filter(|s| f.windows[layer].is_none_or(|w| t - s < w));
                let e: Vec<(usize, f64)> = seen
                    .map(|s| {
                        let dot: f64 = (0..d)
                            .map(|i| qkv[t][0][h * d + i] * qkv[s][1][kv + i])
                            .sum();
                        (
                            s,
                            Self::cap(dot * f64::from(f.attention_scale), f.attention_softcap)
                                .exp(),
                        )
                    })
                    .collect();
                let sum: f64 = e.iter().map(|e| e.1).sum();
                for i in 0..d {
                    out[h * d + i] = e.iter().map(|(s, e)| e / sum * qkv[*s][2][kv + i]).sum();
                }
            }
            outs.push(out);
        }
        outs
    }

    fn layer(&self, layer: usize, xs: &mut [Vec<f64>]) {
        let f = self.config;
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let bias = |letter: &str, y: Vec<f64>| -> Vec<f64> {
            if !f.qkv_bias {
                return y;
            }
            let b = self.get(&format!(
                "model.layers.{layer}.self_attn.{letter}_proj.bias"
            ));
            y.iter().zip(b).map(|(y, b)| y + b).collect()
        };
        let after = f.norms == Norms::BeforeAndAfter;
        let qkv: Vec<[Vec<f64>; 3]> = xs
            .iter()
            .enumerate()
            .map(|(t, x)| {
                let h = self.norm(&name("input_layernorm"), x);
                let of = |l: &str| bias(l, self.linear(&name(&format!("self_attn.{l}_proj")), &h));
                let turned = |l: &str| {
                    let heads = self.normed(&name(&format!("self_attn.{l}_norm")), of(l));
                    self.rotated(layer, &heads, t)
                };
                [turned("q"), turned("k"), of("v")]
            })
            .collect();
        for (x, a) in xs.iter_mut().zip(self.attention(layer, &qkv)) {
            let mut y = self.linear(&name("self_attn.o_proj"), &a);
            if after {
                y = self.norm(&name("post_attention_layernorm"), &y);
            }
            x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
            let before = if after {
                "pre_feedforward_layernorm"
            } else {
                "post_attention_layernorm"
            };
            let h = self.norm(&name(before), x);
            let (gate, up) = (
                self.linear(&name("mlp.gate_proj"), &h),
                self.linear(&name("mlp.up_proj"), &h),
            );
            let act: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| self.activation(*g) * u)
                .collect();
            let mut y = self.linear(&name("mlp.down_proj"), &act);
            if after {
                y = self.norm(&name("post_feedforward_layernorm"), &y);
            }
            x.iter_mut().zip(&y).for_each(|(x, y)| *x += y);
        }
    }

    fn activation(&self, x: f64) -> f64 {
        match self.config.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
        }
    }

    fn logits(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config.hidden;
        let table = self.get("model.embed_tokens.weight");
        let scale = f64::from(self.config.embedding_scale);
        let mut xs: Vec<Vec<f64>> = ids
            .iter()
            .map(|&id| {
                table[id as usize * c..][..c]
                    .iter()
                    .map(|v| v * scale)
                    .collect()
            })
            .collect();
        (0..self.config.layers).for_each(|layer| self.layer(layer, &mut xs));
        let head = if self.config.tied {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        xs.iter()
            .map(|x| {
                let z = self.linear(head, &self.norm("model.norm.weight", x));
                z.into_iter()
                    .map(|z| Self::cap(z, self.config.final_softcap))
                    .collect()
            })
            .collect()
    }

    fn loss(&self, rows: &[TokenRow]) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for row in rows {
            let logits = self.logits(&row.ids);
            for t in row.completion_start..row.ids.len() {
                let z = &logits[t - 1];
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                sum += f64::from(row.weight) * (total.ln() - z[row.ids[t] as usize]);
                weight += f64::from(row.weight);
            }
        }
        sum / weight
    }
}

#[test]
fn logits_loss_and_every_gradient_agree_with_a_naive_decoder_in_double_precision() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let mut naive = Naive::new(&model);
        let ids = row(2, 40, 1, 1.0).ids;
        let want: Vec<f32> = naive
            .logits(&ids)
            .concat()
            .iter()
            .map(|z| *z as f32)
            .collect();
        close(
            &format!("{family:?} logits"),
            &logits(&model, &ids, &threads(1)),
            &want,
            1e-5,
        );

        let (loss, gradients) = loss_and_gradients(&model, &rows(), &threads(1));
        let want = naive.loss(&rows());
        assert!(
            (loss - want).abs() < 1e-6 * want,
            "{family:?}: {loss} {want}"
        );
        for (tensor, gradient) in gradients.iter() {
            assert!(
                gradient.iter().any(|g| *g != 0.0),
                "{} got no gradient",
                tensor.name
            );
            let n = gradient.len();
            let picked = [0, 1, n / 3, n / 2, n - 1];
            let numeric: Vec<f32> = picked
                .iter()
                .map(|i| {
                    let at = tensor.range.start + i;
                    let start = naive.values[at];
                    let mut loss = |value: f64| {
                        naive.values[at] = value;
                        naive.loss(&rows())
                    };
                    let slope = (loss(start + 1e-5) - loss(start - 1e-5)) / 2e-5;
                    naive.values[at] = start;
                    slope as f32
                })
                .collect();
            let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for (i, numeric) in picked.into_iter().zip(numeric) {
                let error = (gradient[i] - numeric).abs();
                assert!(
                    error < 1e-5 * largest + 1e-8,
                    "{family:?} {}[{i}]: {} {numeric}",
                    tensor.name,
                    gradient[i]
                );
            }
        }
    }
}

#[test]
fn packing_changes_neither_loss_nor_gradients_nor_scores() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let (loss, gradients) = loss_and_gradients(&model, &rows(), &threads(1));
        let total: f64 = rows()
            .iter()
            .map(|r| f64::from(r.weight) * r.n_targets() as f64)
            .sum();
        let mut apart = Parameters::zeros(model.config());
        let mut workspace = Workspace::new();
        let sum: f64 = rows()
            .iter()
            .map(|r| {
                let sums = apart.values_mut();
                workspace.accumulate(&model, &[r], 1.0 / total, sums, &threads(1))
            })
            .sum();
        assert!((sum - loss).abs() < 1e-6 * loss);
        close("gradients", apart.values(), gradients.values(), 1e-6);

        let packed = scores(&model, &rows(), 1);
        let single: Vec<Vec<TargetScore>> = rows()
            .iter()
            .map(|r| scores(&model, std::slice::from_ref(r), 1).remove(0))
            .collect();
        assert_eq!(packed, single, "to the bit");
    }
}

#[test]
fn a_shared_prompt_scores_as_separate_ones_to_the_bit() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let prompt = row(70, 40, 1, 1.0).ids;
        let after = |i: usize, len: usize| TokenRow {
            ids: [&prompt[..], &row(80 + i, len, 1, 1.0).ids].concat(),
            completion_start: prompt.len(),
            weight: 1.0,
            loss_mask: Vec::new(),
        };
        // More than one batch of them, with a row of another prompt between.
        let mut all: Vec<TokenRow> = (0..24).map(|i| after(i, 1 + 5 * i)).collect();
        all.insert(9, row(7, 60, 20, 1.0));
        let shared = scores(&model, &all, 2);
        for (row, shared) in all.iter().zip(shared) {
            assert_eq!(scores(&model, std::slice::from_ref(row), 1), [shared]);
        }
    }
}

fn scores(model: &Decoder, rows: &[TokenRow], n: usize) -> Vec<Vec<TargetScore>> {
    let mut out = Vec::new();
    score_rows(model, rows, &threads(n), &mut |i, scores| {
        assert_eq!(i, out.len(), "in order");
        out.push(scores.unwrap().to_vec());
        ControlFlow::Continue(())
    });
    out
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let many: Vec<TokenRow> = (0..40).map(|i| row(i, 30 + i, 5, 1.0)).collect();
        let (loss, gradients) = loss_and_gradients(&model, &many, &threads(1));
        let scored = scores(&model, &many, 1);
        for n in [2, 3] {
            let (other, others) = loss_and_gradients(&model, &many, &threads(n));
            assert_eq!(loss.to_bits(), other.to_bits());
            assert!(gradients == others, "{family:?}, {n} threads");
            assert_eq!(scores(&model, &many, n), scored);
        }
    }
}

#[test]
fn scores_are_those_of_the_whole_logits() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let row = row(7, 300, 3, 1.0);
        let whole = logits(&model, &row.ids, &threads(1));
        let scored = scores(&model, std::slice::from_ref(&row), 1).remove(0);
        assert_eq!(scored.len(), 297);
        for (t, s) in (row.completion_start..).zip(&scored) {
            let z: Vec<f64> = whole[(t - 1) * 29..t * 29]
                .iter()
                .map(|z| f64::from(*z))
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let entropy: f64 = z.iter().map(|z| -(z.exp() / sum) * (z - sum.ln())).sum();
            let target = z[row.ids[t] as usize];
            assert!((f64::from(s.logprob) - (target - sum.ln())).abs() < 1e-5);
            assert!((f64::from(s.entropy) - entropy).abs() < 1e-5);
            assert_eq!(
                s.rank as usize,
                1 + z.iter().filter(|z| **z > target).count()
            );
        }
    }
}

#[test]
fn a_fault_in_one_row_leaves_the_others_alone() {
    let model = decoder(tiny(Family::Llama));
    let good = row(1, 9, 4, 1.0);
    let far = TokenRow {
        ids: vec![1, 29],
        completion_start: 1,
        weight: 1.0,
        loss_mask: Vec::new(),
    };
    let empty = TokenRow {
        ids: vec![],
        completion_start: 1,
        weight: 1.0,
        loss_mask: Vec::new(),
    };
    let first = TokenRow {
        ids: vec![3],
        completion_start: 0,
        weight: 1.0,
        loss_mask: Vec::new(),
    };
    let all = [far, good.clone(), empty, first, good];
    let mut seen = Vec::new();
    score_rows(&model, &all, &threads(2), &mut |i, scores| {
        seen.push((
            i,
            scores.map(<[TargetScore]>::len).map_err(|e| e.to_string()),
        ));
        if i == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let words: Vec<String> = seen.iter().map(|(_, r)| format!("{r:?}")).collect();
    assert_eq!(seen.len(), 4, "breaking stops");
    assert!(words[0].contains("vocabulary of 29") && words[1] == "Ok(5)");
    assert!(words[2].contains("no target") && words[3].contains("cannot be a target"));
}

/// Continues each of some prompts in several ways, a token at a time, all in one batch; logits
/// after each prompt, and after each token written, (sequence, step).
fn written(
    model: &Decoder,
    prompts: &[(&[u32], Vec<&[u32]>)],
    n: usize,
) -> (Vec<Vec<f32>>, Vec<Vec<Vec<f32>>>) {
    let (mut workspace, mut pages, mut out) = (Workspace::new(), PagePool::default(), Vec::new());
    let vocab = model.config().vocab;
    let rows = |out: &[f32]| -> Vec<Vec<f32>> { out.chunks(vocab).map(<[f32]>::to_vec).collect() };
    let ids: Vec<&[u32]> = prompts.iter().map(|(ids, _)| *ids).collect();
    let computed = forward_prompts(model, &mut workspace, &ids, &threads(n), &mut out);
    let after_prompts = rows(&out);
    let (mut sequences, mut texts) = (Vec::new(), Vec::new());
    for (prompt, (ids, ways)) in computed.into_iter().map(Arc::new).zip(prompts) {
        assert_eq!(prompt.len(), ids.len());
        sequences.extend(ways.iter().map(|_| Sequence::after(&prompt)));
        texts.extend(ways.iter().copied());
    }
    let mut steps = vec![Vec::new(); texts.len()];
    for t in 0..texts.first().map_or(0, |text| text.len()) {
        let next: Vec<u32> = texts.iter().map(|text| text[t]).collect();
        forward_step(
            model,
            &mut workspace,
            &mut pages,
            &mut sequences,
            &next,
            &threads(n),
            &mut out,
        );
        for (steps, row) in steps.iter_mut().zip(rows(&out)) {
            steps.push(row);
        }
    }
    (after_prompts, steps)
}

#[test]
fn cached_generation_is_the_full_forward() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let ids = row(4, 110, 1, 1.0).ids;
        let whole = logits(&model, &ids, &threads(1));
        for prompt in [1, 2, 31, 32, 33, 40, 109] {
            let (before, after) = ids.split_at(prompt);
            let (first, steps) = written(&model, &[(before, vec![after])], 1);
            for (t, got) in first.iter().chain(&steps[0]).enumerate() {
                let at = prompt + t;
                close(
                    &format!("{family:?} after {at}, prompt {prompt}"),
                    got,
                    &whole[(at - 1) * 29..at * 29],
                    3e-5,
                );
            }
        }
    }
}

#[test]
fn a_prompt_longer_than_one_piece_is_the_full_forward() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let ids = row(4, 2300, 1, 1.0).ids;
        let (last, _) = written(&model, &[(&ids, Vec::new())], 1);
        let whole = logits(&model, &ids, &threads(1));
        close("last", &last[0], &whole[2299 * 29..], 1e-5);
    }
}

#[test]
fn company_shared_prompts_and_threads_change_no_bit_of_generation() {
    for family in FAMILIES {
        let model = decoder(tiny(family));
        let texts: Vec<Vec<u32>> = (0..14).map(|i| row(50 + i, 40, 1, 1.0).ids).collect();
        let prompts: Vec<Vec<u32>> = (0..5).map(|i| row(20 + i, 3 + 9 * i, 1, 1.0).ids).collect();
        // 1, 2, 3, 4 and 4 prefixed: chunks of sequences cut through the groups.
        let ways = [0..1, 1..3, 3..6, 6..10, 10..14];
        let all: Vec<(&[u32], Vec<&[u32]>)> = prompts
            .iter()
            .zip(ways)
            .map(|(p, way)| (&p[..], texts[way].iter().map(Vec::as_slice).collect()))
            .collect();
        let (firsts, steps) = written(&model, &all, 1);
        assert!(
            (firsts.clone(), steps.clone()) == written(&model, &all, 3),
            "threads"
        );
        let mut sequence = 0;
        for (first, (prompt, ways)) in firsts.iter().zip(&all) {
            for way in ways {
                let (alone, own) = written(&model, &[(prompt, vec![way])], 1);
                assert!(alone[0] == *first && own[0] == steps[sequence]);
                sequence += 1;
            }
        }
    }
}

pub(crate) fn settings() -> TrainSettings {
    TrainSettings {
        epochs: 3,
        lr: 1e-2,
        schedule: Schedule::Cosine,
        min_lr_ratio: 0.1,
        warmup_steps: 3,
        weight_decay: 0.1,
        step_size: StepSize::Rows(4),
        checkpoint_every: 4,
        ..TrainSettings::default()
    }
}

pub(crate) fn training_rows() -> Vec<TokenRow> {
    (0..18).map(|i| row(100 + i, 8 + i, 3, 1.0)).collect()
}

struct Trained {
    outcome: Outcome,
    values: Vec<u32>,
    events: Vec<TrainEvent>,
}

/// Trains from the same start; the sink stops it after some step.
fn train(
    settings: &TrainSettings,
    folder: Option<&std::path::Path>,
    n: usize,
    stop_after: usize,
) -> Result<Trained, ModelError> {
    let mut model = decoder(tiny(Family::Llama));
    let (rows, dev) = (training_rows(), [row(500, 12, 2, 1.0)]);
    let add_model = |_: &Decoder, folder: &std::path::Path| {
        std::fs::write(folder.join("config.json"), "{}").map_err(|source| ModelError::Io {
            path: "config.json".to_owned(),
            source,
        })
    };
    let place = folder.map(|folder| Place {
        folder,
        add_model: &add_model,
    });
    let training = Training {
        rows: &rows,
        dev: &dev,
        settings,
        place,
    };
    let mut events = Vec::new();
    let outcome = train_rows(&mut model, training, &threads(n), &mut |event| {
        let stop = matches!(event, TrainEvent::Step { step, .. } if step >= stop_after);
        events.push(event);
        if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let values = model
        .parameters()
        .values()
        .iter()
        .map(|v| v.to_bits())
        .collect();
    Ok(Trained {
        outcome,
        values,
        events,
    })
}

#[test]
fn a_stopped_or_killed_training_resumes_to_the_same_bits() {
    let whole = train(&settings(), None, 1, usize::MAX).unwrap();
    assert_eq!(
        whole.outcome,
        Outcome {
            steps: 15,
            stopped: false
        }
    );
    assert_eq!(
        train(&settings(), None, 3, usize::MAX).unwrap().values,
        whole.values
    );

    let folder = tempfile::tempdir().unwrap();
    let first = train(&settings(), Some(folder.path()), 1, 7).unwrap();
    assert_eq!(
        first.outcome,
        Outcome {
            steps: 7,
            stopped: true
        }
    );
    assert!(folder.path().join("checkpoint-7/config.json").exists());
    // As if killed after step 7 had been written half: only checkpoint-4 is whole.
    std::fs::create_dir(folder.path().join(".checkpoint-9.tmp")).unwrap();
    let torn = folder.path().join("checkpoint-7/trainer.safetensors");
    let mut bytes = std::fs::read(&torn).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&torn, bytes).unwrap();
    let second = train(&settings(), Some(folder.path()), 1, 10).unwrap();
    assert!(matches!(
        second.events[0],
        TrainEvent::Started {
            steps: 15,
            done: 4,
            ..
        }
    ));
    let third = train(&settings(), Some(folder.path()), 2, usize::MAX).unwrap();
    assert!(matches!(
        third.events[0],
        TrainEvent::Started { done: 10, .. }
    ));
    assert_eq!(
        third.outcome,
        Outcome {
            steps: 15,
            stopped: false
        }
    );
    assert_eq!(third.values, whole.values);
    let dev = |t: &Trained| {
        t.events
            .iter()
            .filter(|e| matches!(e, TrainEvent::Dev { .. }))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!([dev(&second), dev(&third)].concat().len(), 3);
    assert_eq!(dev(&third).last(), dev(&whole).last());

    let other = TrainSettings {
        lr: 2e-2,
        ..settings()
    };
    let message = train(&other, Some(folder.path()), 1, 99)
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("another folder"), "{message}");
}

#[test]
fn weights_held_in_bf16_give_the_bits_of_their_f32() {
    let folder = tempfile::tempdir().unwrap();
    for family in [Family::Llama, Family::Qwen2, Family::Gemma3] {
        let config = tiny(family);
        let path = folder.path().join("model.safetensors");
        write_weights(&path, &decoder(config.clone()).parameters(), Dtype::Bf16).unwrap();
        let files = WeightFiles::open(folder.path()).unwrap();
        let (wide, hash) = files.read(&config).unwrap();
        let (held, same) = files.read_as_stored(&config).unwrap();
        assert!(matches!(held, Weights::Bf16(_)) && hash == same);
        assert_eq!(*held.to_f32(), wide);
        let mut chunks = Vec::new();
        held.each_chunk(|chunk| chunks.extend_from_slice(chunk));
        assert_eq!(chunks, wide.values());

        let lora = Lora {
            r: 3,
            alpha: 6.0,
            rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
        };
        let threads = threads(2);
        let rows = rows();
        let results = [Weights::F32(wide), held].map(|weights| {
            let mut model = Decoder::new(config.clone(), weights).unwrap();
            let logits = logits(&model, &rows[0].ids, &threads);
            let mut scores = Vec::new();
            score_rows(&model, &rows, &threads, &mut |_, found| {
                scores.push(found.unwrap().to_vec());
                ControlFlow::Continue(())
            });
            let adapter = Adapter::random(&config, lora.clone(), 3).unwrap();
            let adapted = model.clone().with_adapter(adapter);
            let (loss, gradients) = adapter_gradients(&adapted, &rows, &threads).unwrap();
            // Training all of it makes it f32.
            model.trained_mut()[0] += 1.0;
            let all = loss_and_gradients(&model, &rows, &threads);
            (logits, scores, loss, gradients.values().to_vec(), all)
        });
        assert!(results[0] == results[1], "{family:?}");
    }
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    let rows = rows();
    let rows: Vec<&TokenRow> = rows.iter().collect();
    for family in [Family::Llama, Family::Qwen3, Family::Gemma2] {
        let model = decoder(tiny(family));
        let gradients = |mut workspace: Workspace| {
            let mut gradients = vec![0.0; model.trained().len()];
            let loss = workspace.accumulate(&model, &rows, 0.1, &mut gradients, &threads(2));
            (loss.to_bits(), gradients, workspace.saved.len())
        };
        let (whole, again) = (
            gradients(Workspace::new()),
            gradients(Workspace::with_gradient_checkpointing()),
        );
        assert!(
            whole.2 > 1 && again.2 == 1,
            "one set instead of one a layer"
        );
        assert!(whole.0 == again.0 && whole.1 == again.1, "{family:?}");
    }
    let again = TrainSettings {
        gradient_checkpointing: true,
        ..settings()
    };
    let [whole, again] = [settings(), again].map(|s| train(&s, None, 2, usize::MAX).unwrap());
    assert_eq!(whole.values, again.values);
}

#[test]
fn a_checkpoint_is_whole_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&settings(), Some(folder.path()), 1, 4).unwrap();
    let bytes = std::fs::read(folder.path().join("checkpoint-4/trainer.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("parameters").unwrap();
    let values: Vec<u32> = view
        .data()
        .chunks(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(values, trained.values);
    assert_eq!(file.names().len(), 3);
}

#[test]
fn steps_cut_into_any_batches_train_alike() {
    let model = decoder(tiny(Family::Qwen2));
    let rows: Vec<TokenRow> = (0..16)
        .map(|i| row(i, 12 + i % 5, 2 + i % 3, 1.0 + (i % 2) as f32))
        .collect();
    let total: f64 = rows
        .iter()
        .map(|r| f64::from(r.weight) * r.n_targets() as f64)
        .sum();
    let gradients = |size: usize| {
        let (mut workspace, mut sum) = (Workspace::new(), Parameters::zeros(model.config()));
        for part in rows.chunks(size) {
            let part: Vec<&TokenRow> = part.iter().collect();
            workspace.accumulate(&model, &part, 1.0 / total, sum.values_mut(), &threads(1));
        }
        sum
    };
    let whole = gradients(16);
    for size in [1, 4] {
        close("gradients", gradients(size).values(), whole.values(), 1e-6);
    }
}

#[test]
fn training_learns_and_every_row_takes_part_in_each_epoch() {
    let settings = TrainSettings {
        epochs: 60,
        step_size: StepSize::Tokens(60),
        checkpoint_every: 0,
        ..settings()
    };
    let trained = train(&settings, None, 1, usize::MAX).unwrap();
    let steps: Vec<(f64, usize, usize)> = trained
        .events
        .iter()
        .filter_map(|e| match e {
            TrainEvent::Step {
                loss,
                target_tokens,
                tokens,
                ..
            } => Some((*loss, *target_tokens, *tokens)),
            _ => None,
        })
        .collect();
    assert_eq!(steps.len(), trained.outcome.steps);
    assert!(steps.iter().all(|s| s.2 <= 60));
    let targets: usize = training_rows().iter().map(TokenRow::n_targets).sum();
    assert_eq!(steps.iter().map(|s| s.1).sum::<usize>(), 60 * targets);
    let mean = |s: &[(f64, usize, usize)]| s.iter().map(|s| s.0).sum::<f64>() / s.len() as f64;
    assert!(
        mean(&steps[steps.len() - 5..]) < 0.3 * mean(&steps[..5]),
        "{steps:?}"
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_training_and_names_step_and_rows() {
    let mut model = decoder(tiny(Family::Llama));
    model.parameters_mut().get_mut("model.norm.weight").unwrap()[0] = f32::NAN;
    let rows = [row(1, 9, 2, 1.0), row(0, 5, 9, 1.0)];
    let settings = settings();
    let mut attempt = |rows: &[TokenRow]| {
        let training = Training {
            rows,
            dev: &[],
            settings: &settings,
            place: None,
        };
        train_rows(&mut model, training, &threads(1), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err()
    };
    let error = attempt(&rows[..1]);
    assert!(
        matches!(&error, ModelError::NonFinite { step: 1, rows } if rows == "0"),
        "{error}"
    );
    let message = attempt(&rows).to_string();
    assert!(message.contains("row 1 cannot be trained on"), "{message}");
    let message = attempt(&[]).to_string();
    assert!(message.contains("no row to train on"), "{message}");
}

#[test]
fn rates_follow_transformers_after_a_warm_up_that_starts_above_0() {
    let s = TrainSettings {
        lr: 2.0,
        warmup_steps: 2,
        schedule: Schedule::Linear,
        ..TrainSettings::default()
    };
    let rates: Vec<f64> = (1..=6).map(|step| learning_rate(&s, step, 6)).collect();
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(&rates, &[1.0, 2.0, 2.0, 1.5, 1.0, 0.5]), "{rates:?}");
    let s = TrainSettings {
        schedule: Schedule::Cosine,
        min_lr_ratio: 0.5,
        ..s
    };
    assert!((learning_rate(&s, 5, 6) - 1.5).abs() < 1e-12);
    let s = TrainSettings {
        schedule: Schedule::Constant,
        ..s
    };
    assert!((learning_rate(&s, 6, 6) - 2.0).abs() < 1e-12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_packing_of_any_rows_scores_alike(lengths in prop::collection::vec((2usize..80, 1usize..79), 1..12), family in 0usize..3) {
        let model = decoder(tiny(FAMILIES[family]));
        let rows: Vec<TokenRow> =
            lengths.iter().enumerate().map(|(i, &(len, first))| row(i, len, 1 + first % (len - 1), 1.0)).collect();
        let single: Vec<Vec<TargetScore>> =
            rows.iter().map(|r| scores(&model, std::slice::from_ref(r), 1).remove(0)).collect();
        prop_assert_eq!(scores(&model, &rows, 2), single);
    }
}
