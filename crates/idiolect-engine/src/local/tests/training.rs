use super::*;

fn lessons() -> Vec<Example> {
    [
        "a red ball",
        "a blue kite",
        "a green frog",
        "a small cat",
        "a big hat",
        "an old car",
    ]
    .iter()
    .map(|thing| example("Tim got", &format!(" {thing} from the moon king.")))
    .collect()
}

fn settings() -> TrainSettings {
    TrainSettings {
        epochs: 4,
        lr: 1e-3,
        step_size: StepSize::Rows(2),
        checkpoint_every: 5,
        ..TrainSettings::default()
    }
}

/// Trains until `stop_after` steps; the events and the summary.
fn tuned(
    out: &Path,
    examples: &[Example],
    settings: &TrainSettings,
    stop_after: usize,
) -> (Vec<TrainEvent>, idiolect_model::TrainSummary) {
    let mut events = Vec::new();
    let mut sink = |event: TrainEvent| {
        let stop = matches!(event, TrainEvent::Step { step, .. } if step == stop_after);
        events.push(event);
        if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let summary = stories(1)
        .train(examples, &examples[..2], settings, out, &mut sink)
        .unwrap();
    (events, summary)
}

fn losses(events: &[TrainEvent]) -> Vec<f64> {
    let loss = |event: &TrainEvent| match event {
        TrainEvent::Step { loss, .. } => Some(*loss),
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}

/// Every file below a directory with its bytes.
fn contents(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(
                    path.strip_prefix(dir).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

#[test]
fn fine_tuning_lowers_the_loss_and_leaves_a_model_that_loads_to_the_hash_it_gave() {
    let out = tempfile::tempdir().unwrap();
    let (events, summary) = tuned(out.path(), &lessons(), &settings(), usize::MAX);
    let losses = losses(&events);
    assert_eq!(
        (losses.len(), summary.steps, summary.stopped),
        (12, 12, false)
    );
    assert!(losses[11] < 0.6 * losses[0], "{losses:?}");
    let mut tuned = LocalModel::load(out.path(), None, 1).unwrap();
    assert_eq!(tuned.info.hash, summary.model_hash);
    assert_ne!(tuned.info.hash, stories(1).info.hash);
    let after = nll(scores(&mut tuned, &lessons()[..1])[0].as_ref().unwrap());
    let before = nll(scores(&mut stories(1), &lessons()[..1])[0]
        .as_ref()
        .unwrap());
    assert!(after < 0.7 * before, "{after} {before}");
    for folder in ["checkpoint-5", "checkpoint-10"] {
        assert!(
            LocalModel::load(&out.path().join(folder), None, 1).is_ok(),
            "{folder}"
        );
    }
    let card = fs::read_to_string(out.path().join("README.md")).unwrap();
    assert!(
        card.contains("\"lr\": 0.001") && card.contains("6 rows"),
        "{card}"
    );
    assert!(!card.contains(out.path().to_str().unwrap()));
}

#[test]
fn a_stopped_and_resumed_training_leaves_the_bytes_of_an_uninterrupted_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tuned(whole.path(), &lessons(), &settings(), usize::MAX);
    for stop in [3, 7] {
        let (_, summary) = tuned(parts.path(), &lessons(), &settings(), stop);
        assert_eq!(
            (summary.stopped, summary.steps, summary.model_hash.as_str()),
            (true, stop, "")
        );
        assert!(!parts.path().join("model.safetensors").exists());
    }
    let (events, _) = tuned(parts.path(), &lessons(), &settings(), usize::MAX);
    assert!(
        matches!(events[0], TrainEvent::Started { done: 7, .. }),
        "{:?}",
        events[0]
    );
    assert_eq!(contents(parts.path()), contents(whole.path()));
}

#[test]
fn a_plan_names_the_rows_that_cannot_be_trained_on_and_training_refuses_them() {
    let mut examples = lessons();
    let settings = TrainSettings {
        epochs: 2,
        checkpoint_every: 0,
        ..settings()
    };
    let out = tempfile::tempdir().unwrap();
    let (events, summary) = tuned(out.path(), &examples, &settings, usize::MAX);
    let mut model = LocalModel::load(&stories_dir(), None, 1).unwrap();
    let whole = model.plan(&examples, &settings).unwrap();
    assert_eq!((whole.steps, whole.refused.len()), (summary.steps, 0));
    let targets = |event: &TrainEvent| match event {
        TrainEvent::Step { target_tokens, .. } => *target_tokens,
        _ => 0,
    };
    let trained: usize = events.iter().map(targets).sum();
    assert_eq!(2 * whole.target_tokens, trained);

    examples.insert(2, example("Tim", ""));
    let long = "Tim had a red ball. ".repeat(200);
    examples.insert(3, example("Tim", &long));
    let plan = model.plan(&examples, &settings).unwrap();
    let kinds: Vec<_> = plan.refused.iter().map(|(i, e)| (*i, e.kind)).collect();
    assert_eq!(
        kinds,
        [(2, RowErrorKind::NoTarget), (3, RowErrorKind::TooLong)]
    );
    let others = (plan.rows, plan.tokens, plan.target_tokens, plan.steps);
    let of = (whole.rows, whole.tokens, whole.target_tokens, whole.steps);
    assert_eq!(others, of);
    let error = model
        .train(&examples, &[], &settings, out.path(), &mut |event| {
            panic!("{event:?}: nothing is trained")
        })
        .unwrap_err();
    assert!(error.to_string().contains("row 2: the completion is empty"));
}

#[test]
fn a_model_from_random_weights_learns_its_texts() {
    let (out, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let texts: Vec<String> = (0..40)
        .map(|i| format!("Tim had {} cats.", ["two", "three", "four", "five"][i % 4]))
        .chain([String::new()])
        .collect();
    let settings = TrainSettings {
        epochs: 6,
        lr: 5e-3,
        schedule: Schedule::Cosine,
        step_size: StepSize::Tokens(64),
        ..TrainSettings::default()
    };
    let mut events = Vec::new();
    let run = |out: &Path, threads, events: &mut Vec<TrainEvent>| {
        let mut sink = |event| {
            events.push(event);
            ControlFlow::Continue(())
        };
        let (config, tokenizer) = (
            stories_dir().join("config.json"),
            stories_dir().join("tokenizer.json"),
        );
        pretrain(
            &config, &tokenizer, &texts, &settings, 3, out, threads, &mut sink,
        )
        .unwrap()
    };
    let summary = run(out.path(), 1, &mut events);
    let losses = losses(&events);
    // ln 512 = 6.24 at first.
    assert!((5.9..6.6).contains(&losses[0]), "{losses:?}");
    assert!(losses[losses.len() - 1] < 2.0, "{losses:?}");
    assert_eq!(
        LocalModel::load(out.path(), None, 1).unwrap().info.hash,
        summary.model_hash
    );
    // Twice and with another number of threads: the same bytes.
    assert_eq!(run(again.path(), 2, &mut Vec::new()), summary);
    assert_eq!(contents(again.path()), contents(out.path()));
}

#[test]
fn a_dev_row_that_cannot_be_scored_is_an_error_with_its_number() {
    let out = tempfile::tempdir().unwrap();
    let dev = [example("Tim", " ran."), example("Tim", "")];
    let mut sink = |_| ControlFlow::Continue(());
    let error = stories(1)
        .train(&lessons(), &dev, &settings(), out.path(), &mut sink)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("dev row 1: the completion is empty"),
        "{error}"
    );
}

/// Mean surprisal of the examples' targets under a model on disk, nats.
fn loss_on_disk(dir: &Path, examples: &[Example]) -> f64 {
    let mut model = LocalModel::load(dir, None, 1).unwrap();
    let tokens: Vec<TokenScore> = scores(&mut model, examples)
        .into_iter()
        .flat_map(|scored| scored.unwrap().tokens)
        .collect();
    let sum: f64 = tokens.iter().map(|t| -f64::from(t.logprob)).sum();
    sum / tokens.len() as f64
}

#[test]
fn what_is_saved_is_what_was_evaluated_where_a_scale_follows_the_type_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/gemma3");
    let text = std::fs::read_to_string(parity.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    // The root of 24 is no bf16.
    (config["dtype"], config["vocab_size"]) = ("bfloat16".into(), 512.into());
    let path = dir.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let settings = TrainSettings {
        lr: 1e-2,
        save_dtype: SaveDtype::Bf16,
        ..TrainSettings::default()
    };
    let mut on = |_| ControlFlow::Continue(());
    let (tokenizer, base) = (
        stories_dir().join("tokenizer.json"),
        dir.path().join("base"),
    );
    let texts = vec!["Tim had two cats.".to_owned(); 8];
    pretrain(&path, &tokenizer, &texts, &settings, 1, &base, 1, &mut on).unwrap();
    let scale = |dir: &Path| {
        LocalModel::load(dir, None, 1)
            .unwrap()
            .model_config()
            .embedding_scale
    };
    for save_dtype in [SaveDtype::F32, SaveDtype::Bf16] {
        let out = dir.path().join(save_dtype.name());
        let settings = TrainSettings {
            save_dtype,
            epochs: 2,
            ..settings.clone()
        };
        let mut last = f64::NAN;
        let mut keep = |event| {
            if let TrainEvent::Dev { loss, .. } = event {
                last = loss;
            }
            ControlFlow::Continue(())
        };
        let rows = lessons();
        LocalModel::load(&base, None, 1)
            .unwrap()
            .train(&rows, &rows[..2], &settings, &out, &mut keep)
            .unwrap();
        let saved = loss_on_disk(&out, &rows[..2]);
        assert!(
            (saved - last).abs() < 1e-6,
            "{save_dtype:?}: {saved} {last}"
        );
        assert_eq!(scale(&out) == scale(&base), save_dtype == SaveDtype::Bf16);
    }
}

#[test]
fn rows_that_all_weigh_nothing_are_no_training() {
    let mut rows = lessons();
    rows.iter_mut().for_each(|row| row.weight = 0.0);
    let out = tempfile::tempdir().unwrap();
    let mut events = 0;
    let mut count = |_| {
        events += 1;
        ControlFlow::Continue(())
    };
    let error = stories(1)
        .train(&rows, &[], &settings(), out.path(), &mut count)
        .unwrap_err();
    let message = error.to_string();
    let counts = format!("all {} rows have weight 0", rows.len());
    assert!(message.contains(&counts), "{message}");
    assert_eq!(events, 0, "nothing was begun");
}
