//! Any text as an answer: what can be read equals itself.

use idiolect_core::record::{TaskName, Verdict};
use idiolect_core::task::{NoCode, task};
use serde_json::json;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Of an answer only what a model says after its thinking and within its turn is read; a gold has neither.
    if text.contains("<|") || text.contains("think>") {
        return;
    }
    let math = task(TaskName::Math);
    let judged = math.verify_pair(&json!({ "answer": text }), &text, &NoCode);
    assert_ne!(judged.verdict, Verdict::Wrong, "{}", judged.reason);
}
