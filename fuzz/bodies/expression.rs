//! Two lines as gold and answer: judged within bounds, and equal both ways or neither.

use idiolect_core::record::{TaskName, Verdict};
use idiolect_core::task::compat::{countdown_paper, math_verify};
use idiolect_core::task::{NoCode, task};
use serde_json::json;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some((gold, answer)) = text.split_once('\n') else {
        return;
    };
    let math = task(TaskName::Math);
    let says =
        |gold: &str, answer: &str| math.verify_pair(&json!({ "answer": gold }), answer, &NoCode);
    let there = says(gold, answer);
    let back = says(answer, gold);
    assert!(there.reason.len() < 2000 && back.reason.len() < 2000);
    let plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || b"+-*/(). ".contains(&b))
    };
    if plain(gold) && plain(answer) {
        let equal = |verdict| verdict == Verdict::Correct;
        assert_eq!(
            equal(there.verdict),
            equal(back.verdict),
            "{gold} and {answer}"
        );
    }
    math_verify(gold, answer);
    countdown_paper(answer, &[1, 2, 3], &json!(6));
}
