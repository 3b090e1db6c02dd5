//! The decoder as a whole, against a naive one in f64 and against itself.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use idiolect_model::{
    Compute, Lora, ModelError, Rng, Schedule, StepSize, TrainEvent, TrainSettings,
};
use proptest::prelude::*;

use crate::adapter::Adapter;
use crate::backward::{adapter_gradients, loss_and_gradients};
use crate::batch::TokenRow;
use crate::checkpoint::Place;
use crate::decoder::Decoder;
use crate::forward::logits;
use crate::frozen::Weights;
use crate::kv_cache::{PagePool, Sequence, forward_prompts, forward_step};
use crate::model_config::{Activation, Family, Llama3Scaling, ModelConfig, Rope, Scaling, Sizes};
use crate::ops::testing::{close, without_bf16};
use crate::parameters::Parameters;
use crate::score::{TargetScore, score_rows};
use crate::threads::Threads;
use crate::train::{Outcome, Training, learning_rate, train_rows};
use crate::weights::{Dtype, WeightFiles, write_weights};
use crate::workspace::Workspace;

pub(crate) use training::{settings, training_rows};

mod naive;
mod training;

/// Tiny models whose settings make every mistake visible: no two sizes are equal, no factor is 1.
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
        // A norm after a layer divides by the root mean square of its output. Where that is small,
        // rounding alone moves gradients by 4e-5 of the largest.
        norm_eps: if family == Family::Olmo2 { 0.1 } else { 1e-2 },
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

pub(crate) const FAMILIES: [Family; 6] = [
    Family::Llama,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gemma2,
    Family::Gemma3,
    Family::Olmo2,
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

/// A family's tiny model with each type of factors that this machine has, and how near results are
/// that differ in the order of f32 sums alone: what is then rounded to bf16 may be rounded the
/// other way.
fn in_each_type(family: Family) -> Vec<(Decoder, f32)> {
    let model = decoder(tiny(family));
    let bf16 = model.clone().with_compute(Compute::Bf16).ok();
    if bf16.is_none() {
        without_bf16();
    }
    let bf16 = bf16.map(|model| (model, 3e-2));
    [(model, 3e-5)].into_iter().chain(bf16).collect()
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
    for (model, _) in FAMILIES.into_iter().flat_map(in_each_type) {
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

/// Of a model whose values are those of bf16 files, whether they are held in bf16 or in f32; and
/// near to what f32 computes.
#[test]
fn products_in_bf16_are_near_those_in_f32_and_take_weights_as_they_are_stored() {
    for family in FAMILIES {
        let held = decoder(tiny(family)).rounded_to_bf16();
        let widened = Decoder::new(held.config().clone(), held.parameters().into_owned()).unwrap();
        let Ok(model) = widened.clone().with_compute(Compute::Bf16) else {
            return without_bf16();
        };
        let held = held.with_compute(Compute::Bf16).unwrap();
        let ids = row(3, 60, 1, 1.0).ids;
        let rounded = logits(&model, &ids, &threads(1));
        assert_eq!(logits(&held, &ids, &threads(1)), rounded);
        let exact = logits(&widened, &ids, &threads(1));
        close("logits", &rounded, &exact, 0.1);
        assert_ne!(rounded, exact);
        let (loss, gradients) = loss_and_gradients(&model, &rows(), &threads(1));
        let (exact_loss, exact) = loss_and_gradients(&widened, &rows(), &threads(1));
        assert!((loss / exact_loss - 1.0).abs() < 0.02);
        // Cosine of the two gradients.
        let dot = |a: &Parameters, b: &Parameters| -> f64 {
            let products = a.values().iter().zip(b.values());
            products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let cosine =
            dot(&gradients, &exact) / (dot(&gradients, &gradients) * dot(&exact, &exact)).sqrt();
        assert!(cosine > 0.995, "{family:?}: {cosine}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (model, _) in FAMILIES.into_iter().flat_map(in_each_type) {
        let many: Vec<TokenRow> = (0..40).map(|i| row(i, 30 + i, 5, 1.0)).collect();
        let (loss, gradients) = loss_and_gradients(&model, &many, &threads(1));
        let scored = scores(&model, &many, 1);
        for n in [2, 3] {
            let (other, others) = loss_and_gradients(&model, &many, &threads(n));
            assert_eq!(loss.to_bits(), other.to_bits());
            assert!(gradients == others, "{:?}, {n} threads", model.config());
            assert_eq!(scores(&model, &many, n), scored);
        }
    }
}

#[test]
fn scores_are_those_of_the_whole_logits() {
    for (model, _) in FAMILIES.into_iter().flat_map(in_each_type) {
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
    let results: Vec<String> = seen.iter().map(|(_, r)| format!("{r:?}")).collect();
    assert_eq!(seen.len(), 4, "breaking stops");
    assert!(results[0].contains("vocabulary of 29") && results[1] == "Ok(5)");
    assert!(results[2].contains("no target") && results[3].contains("cannot be a target"));
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
    for (model, near) in FAMILIES.into_iter().flat_map(in_each_type) {
        let ids = row(4, 110, 1, 1.0).ids;
        let whole = logits(&model, &ids, &threads(1));
        for prompt in [1, 2, 31, 32, 33, 40, 109] {
            let (before, after) = ids.split_at(prompt);
            let (first, steps) = written(&model, &[(before, vec![after])], 1);
            for (t, got) in first.iter().chain(&steps[0]).enumerate() {
                let at = prompt + t;
                close(
                    &format!("after {at}, prompt {prompt}, {:?}", model.config()),
                    got,
                    &whole[(at - 1) * 29..at * 29],
                    near,
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
    for (model, _) in FAMILIES.into_iter().flat_map(in_each_type) {
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
