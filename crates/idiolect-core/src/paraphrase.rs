//! When a rewriting of a solution may represent it.
//!
//! A paraphrase states the same in other words: its final answer is the original's, no number that
//! was used is lost, it is no copy, and it is about as long. Of a program, passing the original's
//! tests takes the place of the first two. What fails is kept apart with its reason, never silently
//! used.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::arms::similarity;
use crate::miniature::prose::{TENS, UNITS};
use crate::record::{Finish, Problem, TaskName, Trace, Verdict};
use crate::task::{Execute, Task};

/// What a rewriting is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Fewest words, as a fraction of the original's.
    pub shortest: f64,
    /// Most words, as a fraction of the original's.
    pub longest: f64,
    /// A rewriting that shares this much with the original (Jaccard of runs of five words) is a copy.
    pub copy: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            shortest: 0.3,
            longest: 3.0,
            copy: 0.9,
        }
    }
}

/// Why a rewriting may not represent the original; `None` where it may. `code` runs the answers that
/// are programs.
pub fn fault(
    problem: &Problem,
    task: &dyn Task,
    original: &Trace,
    (rewritten, finish): (&str, Finish),
    bounds: &Bounds,
    code: &dyn Execute,
) -> Option<String> {
    if finish == Finish::Length {
        return Some("cut off by the token limit".to_owned());
    }
    let before = task.verify(problem, &original.text, original.finish, code);
    let after = task.verify(problem, rewritten, finish, code);
    let same = after.extracted == before.extracted
        || (before.verdict == Verdict::Correct && after.verdict == Verdict::Correct);
    let is_program = problem.task == TaskName::Mbpp;
    if is_program && !same {
        return Some(match before.verdict {
            Verdict::Correct => format!("the rewritten program: {}", after.reason),
            _ => format!("the original program is no measure: {}", before.reason),
        });
    }
    if after.verdict == Verdict::NoAnswer || !same {
        let name = |answer: Option<String>| answer.unwrap_or_else(|| "nothing".to_owned());
        return Some(format!(
            "the final answer is {} and was {}",
            name(after.extracted),
            name(before.extracted)
        ));
    }
    let kept = numbers(rewritten);
    let lost: Vec<String> = numbers(&original.text)
        .into_iter()
        .filter(|number| !kept.contains(number))
        .collect();
    if !is_program && !lost.is_empty() {
        return Some(format!("numbers were lost: {}", lost.join(", ")));
    }
    let words = |text: &str| text.split_whitespace().count() as f64;
    let share = words(rewritten) / words(&original.text).max(1.0);
    if !(bounds.shortest..=bounds.longest).contains(&share) {
        return Some(format!(
            "it has {share:.2} of the original's words; {} to {} are allowed",
            bounds.shortest, bounds.longest
        ));
    }
    let alike = similarity(&original.text, rewritten);
    (alike >= bounds.copy).then(|| format!("it is a copy ({alike:.2} of its runs of five words)"))
}

/// The numbers of a text in one spelling: digits without separators and closing zeros, and number
/// words below 100 as digits.
fn numbers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut tens: Option<usize> = None;
    let pieces = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | ',')));
    for piece in pieces.map(|p| p.trim_matches(['.', ','])) {
        let word = piece.to_lowercase();
        let unit = UNITS.iter().position(|unit| *unit == word);
        let ten = TENS.iter().position(|ten| *ten == word);
        // `twenty` waits for `one`.
        if let Some(waiting) = tens.take() {
            match unit {
                Some(unit @ 1..=9) => {
                    found.insert((20 + 10 * waiting + unit).to_string());
                    continue;
                }
                _ => drop(found.insert((20 + 10 * waiting).to_string())),
            }
        }
        match (unit, ten) {
            (Some(unit), _) => drop(found.insert(unit.to_string())),
            (_, Some(ten)) => tens = Some(ten),
            _ => found.extend(in_digits(piece)),
        }
    }
    found.extend(tens.map(|ten| (20 + 10 * ten).to_string()));
    found
}

/// `1,200.50` as `1200.5`.
fn in_digits(piece: &str) -> Vec<String> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    piece
        .split(|c| !is_number(c))
        .map(|run| run.trim_matches(['.', ',']).replace(',', ""))
        .filter(|run| run.contains(|c: char| c.is_ascii_digit()))
        .map(|run| match run.split_once('.') {
            Some((whole, part)) if part.trim_end_matches('0').is_empty() => whole.to_owned(),
            Some(_) => run.trim_end_matches('0').to_owned(),
            None => run,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Origin, OriginKind};
    use crate::task::{NoCode, task};

    const ORIGINAL: &str = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether she sold 48+24 = <<48+24=72>>72 clips.\n#### 72";

    fn why(rewritten: &str) -> Option<String> {
        let problem: Problem = serde_json::from_str(
            r#"{"id":"p","task":"gsm8k","question":"q","gold":{"answer":"72"},"split":"train"}"#,
        )
        .unwrap();
        let original = Trace::new("p", ORIGINAL, Finish::Stop, Origin::of(OriginKind::Human));
        let task = task(problem.task);
        fault(
            &problem,
            task,
            &original,
            (rewritten, Finish::Stop),
            &Bounds::default(),
            &NoCode,
        )
    }

    #[test]
    fn the_same_in_other_words_may_stand() {
        let good = "In May half of the 48 were sold again, which is 48 divided by 2, or 24.\nBoth months: 48 and 24 give 72.\n#### 72.00";
        assert_eq!(why(good), None);
        assert_eq!(
            why(&good.replace("24", "twenty-four").replace(" 2,", " two,")),
            None
        );
    }

    #[test]
    fn each_fault_is_named() {
        assert!(
            why("48 / 2 = 24, 48 + 24 = 73.\n#### 73")
                .unwrap()
                .contains("is 73 and was 72")
        );
        assert!(
            why("Half of 48 and 48 make seventy-two in all.\n#### 72")
                .unwrap()
                .contains("lost: 2, 24")
        );
        assert!(
            why("48 2 24\n#### 72")
                .unwrap()
                .contains("of the original's words")
        );
        assert!(why(&ORIGINAL.to_uppercase()).unwrap().contains("copy"));
        assert!(why("I do not know.").unwrap().contains("nothing"));
    }

    #[test]
    fn numbers_are_read_in_words_and_digits() {
        let all = |text: &str| numbers(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            all("twenty one, ninety and $1,200.50; 3.0 of 48/2"),
            "1200.5 2 21 3 48 90"
        );
        assert_eq!(all("forty"), "40");
        assert_eq!(all("none"), "");
    }
}
