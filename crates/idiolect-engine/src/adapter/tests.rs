use std::ops::ControlFlow;
use std::path::Path;

use idiolect_model::{Lora, ModelError, Rng, TrainEvent, TrainSettings};

use super::{Adapter, AdapterError};
use crate::backward::{Draw, adapter_gradients, loss_and_gradients};
use crate::batch::TokenRow;
use crate::checkpoint::Place;
use crate::decoder::Decoder;
use crate::forward::logits;
use crate::model_config::Family;
use crate::ops::testing::close;
use crate::tests::{FAMILIES, decoder, row, rows, settings, threads, tiny, training_rows};
use crate::train::{Training, train_rows};
use crate::workspace::Workspace;

fn lora(targets: &[&str]) -> Lora {
    Lora {
        r: 3,
        alpha: 5.0,
        rslora: true,
        dropout: 0.0,
        targets: targets.iter().map(|t| (*t).to_owned()).collect(),
    }
}

/// A decoder with adapters whose A and B are random, of all layers or of some.
fn adapted(family: Family, targets: &[&str]) -> Decoder {
    let model = decoder(tiny(family));
    let mut adapter = Adapter::zeros(model.config(), lora(targets)).unwrap();
    let mut rng = Rng::keyed(3, &["adapted"]);
    adapter.values_mut().fill_with(|| 0.1 * rng.normal() as f32);
    model.with_adapter(adapter)
}

const SOME: &[&str] = &["k_proj", "self_attn.v_proj", "layers.1.mlp.up_proj"];

#[test]
fn targets_name_layers_as_pefts_do() {
    let config = tiny(Family::Llama);
    let names = |targets: &[&str]| -> Vec<String> {
        let adapter = Adapter::zeros(&config, lora(targets)).unwrap();
        adapter.tensors().iter().map(|t| t.name.clone()).collect()
    };
    assert_eq!(names(&[]).len(), 3 * 7 * 2);
    assert_eq!(
        names(&["layers.2.mlp.down_proj"]),
        ["A", "B"].map(|part| format!(
            "base_model.model.model.layers.2.mlp.down_proj.lora_{part}.weight"
        ))
    );
    assert_eq!(names(&["q_proj", "v_proj"]).len(), 3 * 2 * 2);
    for wrong in ["proj", "lm_head", "attn.q_proj", ""] {
        assert_eq!(
            Adapter::zeros(&config, lora(&["q_proj", wrong])).unwrap_err(),
            AdapterError::Target(wrong.to_owned())
        );
    }
}

#[test]
fn settings_that_make_no_adapter_are_named() {
    let config = tiny(Family::Llama);
    type Break = (&'static str, fn(&mut Lora));
    let broken: [Break; 4] = [
        ("`r` is 0", |l| l.r = 0),
        ("`alpha` is NaN", |l| l.alpha = f64::NAN),
        ("`dropout` is 1", |l| l.dropout = 1.0),
        ("`dropout` is -0.1", |l| l.dropout = -0.1),
    ];
    for (text, change) in broken {
        let mut settings = lora(&[]);
        change(&mut settings);
        let message = Adapter::zeros(&config, settings).unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_fresh_adapter_changes_no_bit_of_loss_and_logits() {
    for family in FAMILIES {
        let plain = decoder(tiny(family));
        let adapter = Adapter::random(plain.config(), lora(&[]), 4).unwrap();
        assert!(adapter.values().iter().any(|v| *v != 0.0));
        let fresh = plain.clone().with_adapter(adapter);
        let ids = row(1, 20, 3, 1.0).ids;
        assert_eq!(
            logits(&plain, &ids, &threads(1)),
            logits(&fresh, &ids, &threads(1))
        );
        let (loss, _) = loss_and_gradients(&plain, &rows(), &threads(1));
        let (other, _) = adapter_gradients(&fresh, &rows(), &threads(1)).unwrap();
        assert_eq!(loss.to_bits(), other.to_bits());
    }
}

#[test]
fn merged_is_attached() {
    for family in FAMILIES {
        for targets in [&[], SOME] {
            let attached = adapted(family, targets);
            let mut merged = attached.clone();
            merged.merge();
            assert!(merged.adapter().is_none());
            let ids = row(1, 20, 3, 1.0).ids;
            let of = |model| logits(model, &ids, &threads(1));
            close("logits", &of(&attached), &of(&merged), 1e-5);
            let base = decoder(tiny(family));
            assert_ne!(of(&base), of(&attached), "the adapter does something");
            assert_eq!(
                attached.parameters(),
                base.parameters(),
                "the base is shared and unchanged"
            );
        }
    }
}

/// With W' = W + s B A: dB = s dW' Aᵀ and dA = s Bᵀ dW', where dW' is the merged model's gradient.
#[test]
fn gradients_follow_from_those_of_the_merged_weights() {
    // Why 3e-4: both gradients are sums in f32, of weights that were rounded apart.
    for family in FAMILIES {
        for targets in [&[], SOME] {
            let attached = adapted(family, targets);
            let mut merged = attached.clone();
            merged.merge();
            let (loss, got) = adapter_gradients(&attached, &rows(), &threads(1)).unwrap();
            let (want, full) = loss_and_gradients(&merged, &rows(), &threads(1));
            assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
            let adapter = attached.adapter().unwrap();
            let scale = adapter.settings().scale() as f32;
            for tensor in adapter.tensors().iter().filter(|t| t.name.contains("_A")) {
                let (r, width) = (tensor.shape[0], tensor.shape[1]);
                let b_name = tensor.name.replace("lora_A", "lora_B");
                let name = tensor
                    .name
                    .trim_start_matches("base_model.model.")
                    .replace("lora_A.", "");
                let (a, b) = (adapter.get(&tensor.name), adapter.get(&b_name));
                let (a, b, dw) = (a.unwrap(), b.unwrap(), full.get(&name).unwrap());
                let (mut d_a, mut d_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
                for (row, dw) in dw.chunks_exact(width).enumerate() {
                    for k in 0..r {
                        for c in 0..width {
                            d_b[row * r + k] += scale * dw[c] * a[k * width + c];
                            d_a[k * width + c] += scale * dw[c] * b[row * r + k];
                        }
                    }
                }
                close(&tensor.name, got.get(&tensor.name).unwrap(), &d_a, 3e-4);
                close(&b_name, got.get(&b_name).unwrap(), &d_b, 3e-4);
            }
        }
    }
}

/// The gradients of rows, each a call of `size` rows, with dropout.
fn dropping(model: &Decoder, rows: &[TokenRow], size: usize, n: usize) -> (f64, Vec<f32>) {
    let total: f64 = rows.iter().map(|r| r.n_targets() as f64).sum();
    let mut sums = vec![0.0; model.trained().len()];
    let (mut workspace, mut loss) = (Workspace::new(), 0.0);
    let ids: Vec<usize> = (70..70 + rows.len()).collect();
    for (rows, ids) in rows.chunks(size).zip(ids.chunks(size)) {
        let draw = Draw {
            fraction: 0.4,
            step: 12,
            rows: ids,
        };
        let rows: Vec<&TokenRow> = rows.iter().collect();
        loss += workspace.accumulate_dropping(
            model,
            &rows,
            1.0 / total,
            Some(draw),
            &mut sums,
            &threads(n),
        );
    }
    (loss, sums)
}

#[test]
fn dropout_depends_on_row_and_step_and_not_on_batch_or_thread() {
    let model = adapted(Family::Gemma2, &[]);
    let rows: Vec<TokenRow> = (0..16).map(|i| row(i, 12 + i % 5, 2, 1.0)).collect();
    let (loss, whole) = dropping(&model, &rows, 16, 1);
    for size in [1, 4] {
        let (other, sums) = dropping(&model, &rows, size, 1);
        assert!((loss - other).abs() < 1e-6 * loss);
        close("gradients", &sums, &whole, 1e-5);
    }
    for n in [2, 3] {
        assert_eq!(dropping(&model, &rows, 16, n), (loss, whole.clone()));
    }
    let (plain, _) = adapter_gradients(&model, &rows, &threads(1)).unwrap();
    assert!((plain - loss).abs() > 1e-5 * loss, "something was dropped");
}

#[test]
fn gradients_through_dropout_agree_with_central_differences() {
    let model = adapted(Family::Llama, &[]);
    let rows = [row(0, 23, 9, 1.0), row(1, 14, 3, 1.0)];
    let (_, gradients) = dropping(&model, &rows, 2, 1);
    let largest = gradients.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    // Every so often an entry; f32 losses leave differences an error of about 1e-3 of the largest.
    for i in (0..gradients.len()).step_by(37) {
        let at = |step: f32| {
            let mut moved = model.clone();
            moved.trained_mut()[i] += step;
            dropping(&moved, &rows, 2, 1).0
        };
        let slope = ((at(1e-3) - at(-1e-3)) / 2e-3) as f32;
        assert!(
            (slope - gradients[i]).abs() < 1e-2 * largest,
            "entry {i}: {} against {slope}",
            gradients[i]
        );
    }
}

fn train(
    settings: &TrainSettings,
    folder: Option<&Path>,
    n: usize,
    stop_after: usize,
) -> Result<(Decoder, Vec<TrainEvent>), ModelError> {
    let base = decoder(tiny(Family::Qwen2));
    let adapter = Adapter::random(base.config(), settings.lora.clone().unwrap(), 1).unwrap();
    let mut model = base.with_adapter(adapter);
    let add_model = |_: &Decoder, _: &Path| Ok(());
    let training = Training {
        rows: &training_rows(),
        dev: &[],
        settings,
        place: folder.map(|folder| Place {
            folder,
            add_model: &add_model,
        }),
    };
    let mut events = Vec::new();
    train_rows(&mut model, training, &threads(n), &mut |event| {
        let stop = matches!(event, TrainEvent::Step { step, .. } if step >= stop_after);
        events.push(event);
        if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok((model, events))
}

#[test]
fn a_stopped_training_with_dropout_resumes_to_the_same_bits_on_any_number_of_threads() {
    let settings = TrainSettings {
        lora: Some(Lora {
            dropout: 0.3,
            ..lora(&[])
        }),
        ..settings()
    };
    let (whole, events) = train(&settings, None, 1, usize::MAX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, first) = train(&settings, Some(folder.path()), 2, 6).unwrap();
    let (resumed, second) = train(&settings, Some(folder.path()), 3, usize::MAX).unwrap();
    assert!(matches!(second[0], TrainEvent::Started { done: 6, .. }));
    assert_eq!(resumed.trained(), whole.trained());
    let steps = |events: &[TrainEvent]| -> Vec<TrainEvent> {
        let is_step = |e: &&TrainEvent| matches!(e, TrainEvent::Step { .. });
        events.iter().filter(is_step).cloned().collect()
    };
    assert_eq!([steps(&first), steps(&second)].concat(), steps(&events));
    assert_eq!(
        whole.parameters(),
        decoder(tiny(Family::Qwen2)).parameters(),
        "the base is frozen"
    );
    let undropped = TrainSettings {
        lora: Some(lora(&[])),
        ..settings
    };
    let (other, _) = train(&undropped, None, 1, usize::MAX).unwrap();
    assert_ne!(other.trained(), whole.trained());
}

#[test]
fn a_parameter_that_no_gradient_reaches_is_an_error_that_names_it() {
    let settings = settings();
    let attempt = |mut model: Decoder| {
        let training = Training {
            rows: &training_rows(),
            dev: &[],
            settings: &settings,
            place: None,
        };
        train_rows(&mut model, training, &threads(1), &mut |_| {
            ControlFlow::Continue(())
        })
    };
    let mut broken = decoder(tiny(Family::Llama));
    let name = "model.layers.1.self_attn.o_proj.weight";
    let dead = broken.parameters_mut().get_mut(name).unwrap();
    dead.fill(0.0);
    let message = attempt(broken.clone()).unwrap_err().to_string();
    assert!(
        message.contains("`model.layers.1.input_layernorm.weight`"),
        "{message}"
    );
    let adapter = Adapter::random(broken.config(), lora(&["k_proj"]), 1).unwrap();
    let message = attempt(broken.with_adapter(adapter))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("layers.1.self_attn.k_proj.lora_B.weight"),
        "{message}"
    );
    // A fresh adapter's A gets none yet, rightly.
    let model = decoder(tiny(Family::Llama));
    let adapter = Adapter::random(model.config(), lora(&[]), 1).unwrap();
    attempt(model.with_adapter(adapter)).unwrap();
}
