//! What transformers makes of a `config.json` is what the config reader makes of it:
//! `fixtures/configs`.

use idiolect_engine::config::Config;
use serde_json::{Value, json};

use crate::fixture::path;

/// Why 1e-6: transformers holds the frequencies in f32.
fn close(got: f64, want: f64) -> bool {
    (got - want).abs() <= 1e-6 * want.abs()
}

fn rows() -> Vec<Value> {
    let text = std::fs::read_to_string(path("configs/configs.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_config_means_what_transformers_takes_it_for() {
    let rows = rows();
    for row in &rows {
        let (name, want) = (&row["name"], &row["expected"]);
        let config = Config::read(&row["config"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let model = config.model;
        let got = json!({
            "heads": model.heads, "kv_heads": model.kv_heads, "head_dim": model.head_dim, "windows": model.windows,
            "tied": model.tied, "positions": config.max_position_embeddings, "attention_softcap": model.attention_softcap,
            "final_softcap": model.final_softcap,
        });
        for (field, value) in got.as_object().unwrap() {
            assert_eq!(value, &want[field], "{name}: {field}");
        }
        for (field, value) in [
            ("norm_eps", model.norm_eps),
            ("attention_scale", model.attention_scale),
        ] {
            let want = want[field].as_f64().unwrap();
            assert!(
                close(f64::from(value), want),
                "{name}: {field} {value} {want}"
            );
        }
        let local = model.local_rope.unwrap_or(model.rope);
        for (field, rope) in [("frequencies", model.rope), ("windowed_frequencies", local)] {
            let got = rope.frequencies(model.head_dim);
            let want = want[field].as_array().unwrap();
            assert_eq!(got.len(), want.len(), "{name}: {field}");
            for (got, want) in got.iter().zip(want) {
                let want = want.as_f64().unwrap();
                assert!(close(*got, want), "{name}: {field} {got} {want}");
            }
        }
    }
    let saved = rows
        .iter()
        .filter(|row| row["name"].as_str().unwrap().ends_with(" saved"));
    assert_eq!(saved.count(), 7, "one a family");
}
