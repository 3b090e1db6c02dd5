//! Training on rows: resumption, precision, checkpointing, steps, learning rates.

use super::*;

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
fn a_training_that_is_stopped_before_its_first_step_leaves_no_state() {
    let mut model = decoder(tiny(Family::Llama));
    let empty = tempfile::tempdir().unwrap();
    let training = Training {
        rows: &training_rows(),
        dev: &[],
        settings: &settings(),
        place: Some(Place {
            folder: empty.path(),
            add_model: &|_, _| Ok(()),
        }),
    };
    let outcome = train_rows(&mut model, training, &threads(1), &mut |_| {
        ControlFlow::Break(())
    });
    assert_eq!(
        (
            outcome.unwrap().steps,
            std::fs::read_dir(empty.path()).unwrap().count()
        ),
        (0, 0)
    );
}

#[test]
fn a_state_holds_what_was_reported_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let first = train(&settings(), Some(folder.path()), 1, 7).unwrap();
    let again = train(&settings(), Some(folder.path()), 1, 9).unwrap();
    let TrainEvent::Started { past, done: 7, .. } = &again.events[0] else {
        panic!("{:?}", again.events[0]);
    };
    let reported =
        |event: &&TrainEvent| matches!(event, TrainEvent::Step { .. } | TrainEvent::Dev { .. });
    assert!(first.events.iter().filter(reported).eq(past));
}

#[test]
fn weights_that_are_no_numbers_reach_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let wild = TrainSettings {
        lr: 3e38,
        max_grad_norm: 0.0,
        weight_decay: 3e38,
        checkpoint_every: 1,
        ..settings()
    };
    let message = train(&wild, Some(folder.path()), 1, usize::MAX)
        .err()
        .unwrap();
    assert!(message.to_string().contains("finite"), "{message}");
    assert!(!folder.path().join("checkpoint-1").exists());
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
