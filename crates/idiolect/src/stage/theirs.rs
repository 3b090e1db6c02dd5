//! How far another grader's verdicts agree with ours, out of a file of both.

use std::path::Path;

use idiolect_core::outside::is_right;
use idiolect_core::record::Verdict;
use idiolect_core::store::{Rows, StoreError};
use serde::Serialize;
use serde_json::{Map, Value};

/// Disagreements that are shown.
const SHOWN: usize = 5;

/// Our verdicts by theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Each of our verdicts, with how many of its answers they call right and how many wrong.
    pub counts: Vec<(Verdict, [u64; 2])>,
    /// Answers of which they state neither.
    pub unread: u64,
    /// The first that are `correct` here and wrong there, or `wrong` here and right there.
    pub disagreements: Vec<Disagreement>,
}

/// An answer that is judged otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// Its id.
    pub id: Value,
    /// Ours.
    pub verdict: Verdict,
    /// Theirs, as it stands.
    pub theirs: Value,
    /// Why ours.
    pub reason: String,
}

impl Agreement {
    /// Answers on which both state right or wrong, and on how many of them they agree.
    pub fn shares(&self) -> (u64, u64) {
        let of = |wanted: Verdict| {
            let found = self.counts.iter().find(|(verdict, _)| *verdict == wanted);
            found.map_or([0, 0], |(_, counts)| *counts)
        };
        let ([right, lost], [found, wrong]) = (of(Verdict::Correct), of(Verdict::Wrong));
        (right + lost + found + wrong, right + wrong)
    }
}

/// Right or wrong, as people write it.
fn says(value: &Value) -> Option<bool> {
    let Value::String(text) = value else {
        return is_right(value);
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "correct" | "right" | "yes" | "pass" | "passed" | "1" | "1.0" | "c" => Some(true),
        "false" | "incorrect" | "wrong" | "no" | "fail" | "failed" | "0" | "0.0" | "i" => {
            Some(false)
        }
        _ => None,
    }
}

/// Counts a file of results that holds the verdicts of another grader.
///
/// # Errors
/// When it cannot be read.
pub fn agreement(path: &Path) -> Result<Agreement, StoreError> {
    let kinds = [
        Verdict::Correct,
        Verdict::Wrong,
        Verdict::NoAnswer,
        Verdict::Ungraded,
    ];
    let mut found = Agreement {
        counts: kinds.map(|verdict| (verdict, [0, 0])).to_vec(),
        ..Agreement::default()
    };
    for row in Rows::<Map<String, Value>>::open(path)? {
        let Ok(row) = row? else { continue };
        let field = |name: &str| row.value.get(name).cloned().unwrap_or_default();
        let theirs = field("theirs");
        let Ok(verdict) = serde_json::from_value::<Verdict>(field("verdict")) else {
            continue;
        };
        let Some(right) = says(&theirs) else {
            found.unread += 1;
            continue;
        };
        for (kind, counts) in &mut found.counts {
            if *kind == verdict {
                counts[usize::from(!right)] += 1;
            }
        }
        let differs = matches!(
            (verdict, right),
            (Verdict::Correct, false) | (Verdict::Wrong, true)
        );
        if differs && found.disagreements.len() < SHOWN {
            found.disagreements.push(Disagreement {
                id: field("id"),
                verdict,
                theirs,
                reason: field("reason").as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(found)
}
