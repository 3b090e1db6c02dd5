//! Any text as a response: an answer is found or not, and a cut response never gives more than a
//! whole one states.

use idiolect_core::record::Finish;
use idiolect_core::task::{gsm8k, math};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for finish in [Finish::Stop, Finish::Length] {
        if let Some(answer) = math::extract_answer(&text, finish) {
            assert!(!answer.trim().is_empty());
            let normal = idiolect_math::normal(&answer);
            assert_eq!(idiolect_math::normal(&normal), normal);
        }
        if let Some(found) = gsm8k::extract(&text, finish) {
            assert!(!found.to_string().is_empty());
        }
    }
}
