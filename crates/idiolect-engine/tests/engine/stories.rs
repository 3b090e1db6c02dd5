//! A trained model (`fixtures/stories260K`) against what transformers makes of it.

use idiolect_core::model::TrainSettings;
use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::score::TargetScore;
use idiolect_engine::tokenizer::Tokenizer;
use serde_json::Value;

use crate::agree::{absolutely, number};
use crate::fixture::{path, stories};
use crate::reading::{config, model};
use crate::subject;

fn decoder() -> Decoder {
    let (facts, parameters) = model("stories260K");
    Decoder::new(facts, parameters).unwrap()
}

fn numbers(row: &Value, field: &str) -> Vec<f32> {
    row[field]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

fn ids(row: &Value) -> Vec<u32> {
    serde_json::from_value(row["ids"].clone()).unwrap()
}

fn token_row(row: &Value) -> TokenRow {
    TokenRow {
        ids: ids(row),
        first_target: row["first_target"].as_u64().unwrap() as usize,
        weight: 1.0,
    }
}

#[test]
fn scores_of_a_trained_model_are_those_of_transformers() {
    let decoder = decoder();
    let fields: [(&str, fn(&TargetScore) -> f32); 4] = [
        ("logprob", |s| s.logprob),
        ("entropy", |s| s.entropy),
        ("varentropy", |s| s.varentropy),
        ("sum_p2", |s| s.sum_p2),
    ];
    for row in stories("scored.jsonl") {
        let got = subject::scores(&decoder, &[token_row(&row)]);
        for (name, field) in fields {
            let values: Vec<f32> = got.iter().map(field).collect();
            absolutely(name, &values, &numbers(&row, name))
                .unwrap_or_else(|e| panic!("{}: {e}", row["prompt"]));
        }
        let (low, high) = (numbers(&row, "rank_low"), numbers(&row, "rank_high"));
        for (i, score) in got.iter().enumerate() {
            let rank = score.rank as f32;
            assert!(
                low[i] <= rank && rank <= high[i],
                "{}, token {i}: rank {rank}",
                row["prompt"]
            );
        }
    }
}

#[test]
fn greedy_texts_of_a_trained_model_are_those_of_transformers() {
    let decoder = decoder();
    let tokenizer = Tokenizer::load(&path("stories260K"), &config("stories260K")).unwrap();
    for row in stories("greedy.jsonl") {
        let prompt = tokenizer
            .encode(row["prompt"].as_str().unwrap())
            .unwrap()
            .ids;
        let wanted = ids(&row);
        let got = subject::greedy(&decoder, &prompt, wanted.len());
        assert_eq!(got, wanted, "{}", row["prompt"]);
        assert_eq!(
            tokenizer.decode_after(&prompt, &got),
            row["text"].as_str().unwrap()
        );
    }
}

#[test]
fn fine_tuning_a_trained_model_loses_what_pytorch_loses() {
    let text = std::fs::read_to_string(path("parity/stories260K/training.json")).unwrap();
    let training: Value = serde_json::from_str(&text).unwrap();
    let set = |name: &str| training["settings"][name].as_f64().unwrap();
    let rows: Vec<TokenRow> = stories("scored.jsonl").iter().map(token_row).collect();
    let settings = TrainSettings {
        lr: set("lr"),
        betas: (set("beta1"), set("beta2")),
        epsilon: set("eps"),
        weight_decay: set("weight_decay"),
        clip: set("clip"),
        ..subject::settings(rows.len())
    };
    let losses = training["losses"].as_array().unwrap();
    let norms = training["gradient_norms"].as_array().unwrap();
    let steps = vec![rows; losses.len()];
    let told = subject::train(&mut decoder(), &steps, &settings);
    assert_eq!(told.len(), 5);
    for (step, (loss, norm)) in told.into_iter().enumerate() {
        number(
            &format!("loss of step {}", step + 1),
            loss,
            losses[step].as_f64().unwrap(),
        )
        .unwrap();
        number(
            &format!("norm of step {}", step + 1),
            norm,
            norms[step].as_f64().unwrap(),
        )
        .unwrap();
    }
}
