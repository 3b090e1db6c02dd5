//! A trained model (`fixtures/stories260K`) against what transformers makes of it, through the
//! traits of the model interface.

use std::ops::ControlFlow;
use std::path::Path;

use idiolect_engine::local::LocalModel;
use idiolect_model::{
    Completion, Context, Example, Generate, GenerateRequest, RowError, Sampling, Score, Scored,
    Template, TokenScore, Train, TrainEvent, TrainSettings,
};
use serde_json::{Value, json};

use crate::agree::{absolutely, number};
use crate::fixture::{path, stories};
use crate::subject;

fn load(directory: &Path) -> LocalModel {
    LocalModel::load(directory, Some(Template::Raw), 1).unwrap()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

fn numbers(row: &Value, field: &str) -> Vec<f32> {
    row[field]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

fn examples(rows: &[Value]) -> Vec<Example> {
    let example = |row| {
        let context = Context::Prompt(text(row, "prompt").to_owned());
        Example::new(context, text(row, "completion"))
    };
    rows.iter().map(example).collect()
}

fn scores(directory: &Path, examples: &[Example]) -> Vec<Vec<TokenScore>> {
    let mut out = vec![Vec::new(); examples.len()];
    let mut sink = |i: usize, scored: Result<Scored, RowError>| {
        out[i] = scored.unwrap().tokens;
        ControlFlow::Continue(())
    };
    load(directory).score(examples, &mut sink).unwrap();
    out
}

/// One number of a token's score.
type Field = fn(&TokenScore) -> f32;

#[test]
fn scores_of_a_trained_model_are_those_of_transformers() {
    let rows = stories("scored.jsonl");
    let fields: [(&str, Field); 4] = [
        ("logprob", |s| s.logprob),
        ("entropy", |s| s.distribution.unwrap().entropy),
        ("varentropy", |s| s.distribution.unwrap().varentropy),
        ("sum_p2", |s| s.distribution.unwrap().sum_p2),
    ];
    for (row, got) in rows
        .iter()
        .zip(scores(&path("stories260K"), &examples(&rows)))
    {
        let prompt = text(row, "prompt");
        for (name, field) in fields {
            let values: Vec<f32> = got.iter().map(field).collect();
            absolutely(name, &values, &numbers(row, name))
                .unwrap_or_else(|e| panic!("{prompt}: {e}"));
        }
        let (low, high) = (numbers(row, "rank_low"), numbers(row, "rank_high"));
        for (i, score) in got.iter().enumerate() {
            let rank = score.rank.unwrap() as f32;
            assert!(
                low[i] <= rank && rank <= high[i],
                "{prompt}, token {i}: rank {rank}"
            );
            assert_eq!(score.is_end, i + 1 == got.len(), "{prompt}, token {i}");
        }
        let first = row["completion_start"].as_u64().unwrap() as usize;
        let ids: Vec<u32> = got.iter().map(|s| s.token_id).collect();
        assert_eq!(
            json!(ids).as_array().unwrap()[..],
            row["ids"].as_array().unwrap()[first..],
            "{prompt}"
        );
        let starts: Vec<u32> = got.iter().map(|s| s.byte_start).collect();
        assert_eq!(json!(starts), row["byte_start"], "{prompt}");
    }
}

#[test]
fn greedy_texts_of_a_trained_model_are_those_of_transformers() {
    let rows = stories("greedy.jsonl");
    assert_eq!(rows.len(), 3);
    let request = |row| GenerateRequest {
        context: Context::Prompt(text(row, "prompt").to_owned()),
        seed: 0,
    };
    let requests: Vec<GenerateRequest> = rows.iter().map(request).collect();
    let max_tokens = rows[0]["ids"].as_array().unwrap().len();
    let sampling = Sampling {
        temperature: 0.0,
        max_tokens,
        ..Sampling::default()
    };
    let mut texts = vec![String::new(); rows.len()];
    let mut sink = |i: usize, completion: Result<Completion, RowError>| {
        texts[i] = completion.unwrap().text;
        ControlFlow::Continue(())
    };
    load(&path("stories260K"))
        .generate(&requests, &sampling, &mut sink)
        .unwrap();
    for (row, got) in rows.iter().zip(texts) {
        assert_eq!(got, text(row, "text"), "after {}", row["prompt"]);
    }
}

/// Five epochs of one step each: the rows' order does not matter.
#[test]
fn fine_tuning_a_trained_model_loses_what_pytorch_loses() {
    let document = std::fs::read_to_string(path("parity/stories260K/training.json")).unwrap();
    let expected: Value = serde_json::from_str(&document).unwrap();
    let set = |name: &str| expected["settings"][name].as_f64().unwrap();
    let examples = examples(&stories("scored.jsonl"));
    let settings = TrainSettings {
        epochs: 5,
        lr: set("lr"),
        betas: (set("beta1"), set("beta2")),
        epsilon: set("eps"),
        weight_decay: set("weight_decay"),
        max_grad_norm: set("clip"),
        ..subject::settings(examples.len())
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tuned");
    let mut trained = Vec::new();
    let mut sink = |event: TrainEvent| {
        if let TrainEvent::Step {
            loss,
            gradient_norm,
            ..
        } = event
        {
            trained.push((loss, gradient_norm));
        }
        ControlFlow::Continue(())
    };
    load(&path("stories260K"))
        .train(&examples, &[], &settings, &out, &mut sink)
        .unwrap();
    let want = |name: &str, step: usize| expected[name][step].as_f64().unwrap();
    assert_eq!(trained.len(), 5);
    for (step, (loss, norm)) in trained.into_iter().enumerate() {
        number(
            &format!("loss of step {}", step + 1),
            loss,
            want("losses", step),
        )
        .unwrap();
        number(
            &format!("norm of step {}", step + 1),
            norm,
            want("gradient_norms", step),
        )
        .unwrap();
    }
    let tuned = scores(&out, &examples).concat();
    let loss = -tuned.iter().map(|s| f64::from(s.logprob)).sum::<f64>() / tuned.len() as f64;
    number(
        "loss of the model written",
        loss,
        expected["loss_after"].as_f64().unwrap(),
    )
    .unwrap();
}
