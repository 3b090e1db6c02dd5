//! Judges pairs of gold and answer on one thread, and states how long that took.
//!
//! `verify_pairs TASK PAIRS.jsonl [PASSES]`: rows of `id`, `gold` and `answer` in; rows of `id`, `verdict`,
//! `extracted` and `reason` out, with what our port of Math-Verify states as `compat`; the seconds of each pass on standard error. `bench/verifier.py`
//! runs it.

use std::error::Error;
use std::time::Instant;

use idiolect_core::record::TaskName;
use idiolect_core::task::{compat, task};
use serde_json::{Value, json};

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "verify_pairs TASK PAIRS.jsonl [PASSES]";
    let name = arguments.next().ok_or(usage)?;
    let name = TaskName::ALL
        .into_iter()
        .find(|n| n.as_str() == name)
        .ok_or(usage)?;
    let task = task(name);
    let file = arguments.next().ok_or(usage)?;
    let passes: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let answer = match &row["answer"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push((row["id"].clone(), row["gold"].clone(), answer));
    }
    for pass in 0..passes {
        let start = Instant::now();
        let judged: Vec<_> = rows
            .iter()
            .map(|(_, gold, answer)| task.verify_pair(gold, answer, &idiolect_core::task::NoCode))
            .collect();
        eprintln!("{:.6}", start.elapsed().as_secs_f64());
        if pass + 1 < passes {
            continue;
        }
        for ((id, gold, answer), judged) in rows.iter().zip(judged) {
            let row = json!({
                "id": id,
                "compat": compat::math_verify(&plain(gold), answer),
                "verdict": judged.verdict,
                "extracted": judged.extracted,
                "reason": judged.reason,
            });
            println!("{row}");
        }
    }
    Ok(())
}

/// The text of a gold: itself, or its object's `answer`.
fn plain(gold: &Value) -> String {
    match gold.get("answer").unwrap_or(gold) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
