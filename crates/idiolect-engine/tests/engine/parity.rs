//! Everything the engine computes of a model, against the expected tensors of its fixture.
//!
//! One function per quantity, each of a [`Case`] whose settings the mutation test can flip.

use idiolect_engine::backward::loss_and_gradients;
use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::forward::logits;
use idiolect_engine::model_config::ModelConfig;
use idiolect_engine::parameters::Parameters;
use idiolect_engine::score::TargetScore;
use idiolect_engine::threads::Threads;
use idiolect_model::{Compute, TrainSettings};

use crate::agree::{absolutely, number, relatively};
use crate::fixture::{self, Expected, FAMILIES};
use crate::reading::model;
use crate::subject;

/// A model and what is expected of it.
pub(crate) struct Case {
    pub(crate) decoder: Decoder,
    pub(crate) expected: Expected,
    /// Of weight 1.
    pub(crate) rows: Vec<TokenRow>,
}

impl Case {
    pub(crate) fn of(family: &str) -> Self {
        let (model, parameters) = model(&format!("parity/{family}"));
        let expected = Expected::of(family);
        let ids = expected.usize("input_ids");
        let rows = expected
            .usize("boundaries")
            .windows(2)
            .zip(expected.usize("completion_start"))
            .map(|(b, completion_start)| TokenRow {
                ids: ids[b[0]..b[1]].iter().map(|&id| id as u32).collect(),
                completion_start,
                weight: 1.0,
                loss_mask: Vec::new(),
            })
            .collect();
        Self {
            decoder: Decoder::new(model, parameters).unwrap(),
            expected,
            rows,
        }
    }

    /// The same with other model: every tensor of the same name is carried over, cut or
    /// repeated to its width, a head of its own copies the embedding, and norms that are new take a
    /// weight of all twos.
    pub(crate) fn with_config(self, change: impl Fn(&mut ModelConfig)) -> Self {
        let mut model = self.decoder.config().clone();
        change(&mut model);
        let old = self.decoder.parameters();
        let mut parameters = Parameters::zeros(&model);
        let names: Vec<String> = parameters.iter().map(|(t, _)| t.name.clone()).collect();
        for name in names {
            let values = parameters.get_mut(&name).unwrap();
            match old.get(&name) {
                Some(source) => {
                    let source = source.iter().cycle();
                    values.iter_mut().zip(source).for_each(|(v, s)| *v = *s);
                }
                None if name == "lm_head.weight" => {
                    values.copy_from_slice(old.get("model.embed_tokens.weight").unwrap());
                }
                None => values.fill(2.0),
            }
        }
        Self {
            decoder: Decoder::new(model, parameters).unwrap(),
            ..self
        }
    }

    /// The first quantity that differs, in the order of the computation.
    pub(crate) fn check(&self) -> Result<(), String> {
        same_logits(self)?;
        same_scores(self)?;
        same_gradients(self)?;
        same_weighted_gradients(self)?;
        same_ten_steps(self, &adamw_settings(self))
    }

    /// Every expected tensor behind `prefix`, by name.
    fn same_tensors(&self, prefix: &str, got: &Parameters) -> Result<(), String> {
        for name in self.expected.names(prefix) {
            let values = got
                .get(&name)
                .ok_or_else(|| format!("there is no `{name}`"))?;
            let full = format!("{prefix}{name}");
            relatively(&full, values, &self.expected.f32(&full))?;
        }
        Ok(())
    }
}

fn same_logits(case: &Case) -> Result<(), String> {
    let threads = Threads::single();
    let got: Vec<f32> = case
        .rows
        .iter()
        .flat_map(|row| logits(&case.decoder, &row.ids, &threads))
        .collect();
    relatively("logits", &got, &case.expected.f32("logits"))
}

/// One number of a token's score.
type Field = fn(&TargetScore) -> f32;

fn same_scores(case: &Case) -> Result<(), String> {
    let got = subject::scores(&case.decoder, &case.rows);
    let fields: [(&str, Field); 4] = [
        ("score/logprob", |s| s.logprob),
        ("score/entropy", |s| s.entropy),
        ("score/varentropy", |s| s.varentropy),
        ("score/sum_p2", |s| s.sum_p2),
    ];
    for (name, field) in fields {
        let values: Vec<f32> = got.iter().map(field).collect();
        absolutely(name, &values, &case.expected.f32(name))?;
    }
    let ranks: Vec<usize> = got.iter().map(|s| s.rank as usize).collect();
    let wanted = case.expected.usize("score/rank");
    if ranks == wanted {
        Ok(())
    } else {
        Err(format!("`score/rank` is {ranks:?} and not {wanted:?}"))
    }
}

fn same_gradients(case: &Case) -> Result<(), String> {
    let (loss, gradients) = loss_and_gradients(&case.decoder, &case.rows, &Threads::single());
    number("loss", loss, case.expected.f64("loss")[0])?;
    case.same_tensors("gradient/", &gradients)
}

fn same_weighted_gradients(case: &Case) -> Result<(), String> {
    let weights = case.expected.f32("row_weight");
    let weighted = |(row, weight): (&TokenRow, f32)| TokenRow {
        weight,
        ..row.clone()
    };
    let rows: Vec<TokenRow> = case.rows.iter().zip(weights).map(weighted).collect();
    let (loss, gradients) = loss_and_gradients(&case.decoder, &rows, &Threads::single());
    number("weighted_loss", loss, case.expected.f64("weighted_loss")[0])?;
    case.same_tensors("weighted_gradient/", &gradients)
}

/// The fixture's AdamW, three rows a step.
pub(crate) fn adamw_settings(case: &Case) -> TrainSettings {
    let s = case.expected.f64("adamw/settings");
    TrainSettings {
        lr: s[0],
        betas: (s[1], s[2]),
        epsilon: s[3],
        weight_decay: s[4],
        max_grad_norm: s[5],
        ..subject::settings(3)
    }
}

pub(crate) fn same_ten_steps(case: &Case, settings: &TrainSettings) -> Result<(), String> {
    let rows = case.expected.usize("adamw/rows");
    let step = |rows: &[usize]| rows.iter().map(|&r| case.rows[r].clone()).collect();
    let steps: Vec<Vec<TokenRow>> = rows.chunks(3).map(step).collect();
    let losses = case.expected.f64("adamw/loss");
    let norms = case.expected.f64("adamw/gradient_norm");
    let mut decoder = case.decoder.clone();
    let trained = subject::train(&mut decoder, &steps, settings);
    assert_eq!((trained.len(), losses.len()), (10, 10));
    for (i, (loss, norm)) in trained.into_iter().enumerate() {
        number(&format!("adamw/loss of step {}", i + 1), loss, losses[i])?;
        number(
            &format!("adamw/gradient_norm of step {}", i + 1),
            norm,
            norms[i],
        )?;
    }
    case.same_tensors("adamw/final/", &decoder.parameters())
}

fn each(check: fn(&Case) -> Result<(), String>) {
    for family in FAMILIES {
        check(&Case::of(family)).unwrap_or_else(|e| panic!("{family}: {e}"));
    }
}

#[test]
fn logits_are_those_of_transformers() {
    each(same_logits);
}

#[test]
fn token_scores_are_those_of_transformers() {
    each(same_scores);
}

#[test]
fn loss_and_every_gradient_are_those_of_pytorch() {
    each(same_gradients);
}

#[test]
fn weighted_rows_have_pytorchs_loss_and_gradients() {
    each(same_weighted_gradients);
}

#[test]
fn every_parameter_has_an_expected_gradient() {
    for family in FAMILIES {
        let case = Case::of(family);
        let tensors = case.decoder.layout().tensors();
        let mut ours: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        ours.sort_unstable();
        assert_eq!(case.expected.names("gradient/"), ours, "{family}");
        assert_eq!(case.expected.names("adamw/final/"), ours, "{family}");
    }
}

#[test]
fn ten_adamw_steps_are_those_of_pytorch() {
    each(|case| same_ten_steps(case, &adamw_settings(case)));
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for family in FAMILIES {
        let case = Case::of(family);
        let wanted = case.expected.usize("greedy/ids");
        let prompts = case.expected.usize("greedy/prompt");
        assert_eq!((prompts.len(), wanted.len()), (6, 60));
        for (prompt, wanted) in prompts.chunks(2).zip(wanted.chunks(20)) {
            let ids = &case.rows[prompt[0]].ids[..prompt[1]];
            let got = subject::greedy(&case.decoder, ids, wanted.len());
            let got: Vec<usize> = got.into_iter().map(|id| id as usize).collect();
            assert_eq!(
                got, wanted,
                "{family}, after {} tokens of row {}",
                prompt[1], prompt[0]
            );
        }
    }
}

/// Root mean square difference over the root mean square of what is wanted.
fn apart(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let difference = got.iter().zip(want);
    let difference: f64 = difference
        .map(|(g, w)| square(f64::from(*g) - f64::from(*w)))
        .sum();
    (difference / want.iter().map(|w| square(f64::from(*w))).sum::<f64>()).sqrt()
}

/// As near to what f32 computes as PyTorch's autocast to bf16 is, of logits and of all gradients: on
/// each model within a tenth, as rounding falls differently, and over all models (geometric mean).
#[test]
fn products_in_bf16_are_as_near_to_f32_as_autocast_is() {
    let text = std::fs::read_to_string(fixture::path("parity/autocast.json")).unwrap();
    let autocast: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut log_ratios = 0.0;
    for family in FAMILIES {
        let case = Case::of(family);
        let Ok(decoder) = case.decoder.clone().with_compute(Compute::Bf16) else {
            return eprintln!("SKIPPED: this machine has no AVX-512 instructions for bf16");
        };
        let threads = Threads::single();
        let rows = case.rows.iter();
        let got: Vec<f32> = rows
            .flat_map(|row| logits(&decoder, &row.ids, &threads))
            .collect();
        let logits_apart = apart(&got, &case.expected.f32("logits"));
        let (_, gradients) = loss_and_gradients(&decoder, &case.rows, &threads);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for name in case.expected.names("gradient/") {
            got.extend_from_slice(gradients.get(&name).unwrap());
            want.extend(case.expected.f32(&format!("gradient/{name}")));
        }
        for (what, apart) in [("logits", logits_apart), ("gradient", apart(&got, &want))] {
            let theirs = autocast[family][what].as_f64().unwrap();
            assert!(
                apart <= 1.1 * theirs,
                "{family}, {what}: {apart:.4}, autocast {theirs:.4}"
            );
            assert!(apart > 1e-4, "{family}, {what}: {apart:.1e} is f32");
            eprintln!("{family} {what}: {apart:.4}, autocast {theirs:.4}");
            log_ratios += (apart / theirs).ln();
        }
    }
    assert!(log_ratios <= 0.0, "{log_ratios} over all models");
}
