//! What public scorers state, defects included: a second, labelled verdict beside our own.
//!
//! Written from the scorers' behaviour (the paper's Countdown scorer is pinned by
//! `fixtures/countdown/official-vectors.jsonl`); nothing here decides an arm.

mod python;

#[cfg(test)]
mod tests;

pub use idiolect_math::math_verify;
use serde_json::Value;

use python::Number;

/// The score that the paper's Countdown scorer gives a response: 1.0 right; 0.5 the right numbers
/// and another value; 0.1 a tag with other numbers or no valid expression; 0 no tag on the last
/// line. The scorer's accuracy counts 1.0 over everything above 0.
///
/// `nums` and `target` come as they stand in the row, since the scorer accepts and refuses some odd
/// ones. An expression whose evaluation would run for ever gives 0, because the scorer leaves
/// time-outs out as it leaves out missing tags. Two rare results of Python are not followed: complex
/// numbers count as another value (0.5), and Unicode digits as no valid expression.
pub fn countdown_paper(output: &str, nums: &[i64], target: &Value) -> f64 {
    let last_line = output.trim().rsplit('\n').next().unwrap_or_default();
    let Some(answer) = last_tag(last_line) else {
        return 0.0;
    };
    let mut given: Vec<String> = nums.iter().map(i64::to_string).collect();
    let mut used: Vec<String> = digit_runs(answer).map(normal_digits).collect();
    given.sort_unstable();
    used.sort_unstable();
    if given != used || !answer.chars().all(allowed) || answer.is_empty() {
        return 0.1;
    }
    match (python::evaluate(answer), target) {
        (Err(python::Failure::Endless), _) => 0.0,
        (Ok(value), Value::Number(target)) => match close(&value, target) {
            Some(true) => 1.0,
            Some(false) => 0.5,
            None => 0.1,
        },
        _ => 0.1,
    }
}

/// The content of the last `<answer>(.*?)</answer>` of a line, scanned from the left as a regular
/// expression does, trimmed.
fn last_tag(line: &str) -> Option<&str> {
    let mut rest = line;
    let mut last = None;
    while let Some((_, after)) = rest.split_once("<answer>") {
        let Some((content, next)) = after.split_once("</answer>") else {
            break;
        };
        last = Some(content.trim());
        rest = next;
    }
    last
}

fn digit_runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|run| !run.is_empty())
}

/// `007` is the number 7 to the scorer's comparison.
fn normal_digits(run: &str) -> String {
    let digits = run.trim_start_matches('0');
    if digits.is_empty() {
        "0".to_owned()
    } else {
        digits.to_owned()
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_digit() || "+-*/().".contains(c) || c.is_whitespace()
}

/// |value − target| < 1e-5 in Python's arithmetic; `None` where that overflows.
fn close(value: &Number, target: &serde_json::Number) -> Option<bool> {
    match (value, target.as_i64()) {
        (Number::Int(n), Some(target)) => Some(*n == target.into()),
        _ => Some((value.to_f64()? - target.as_f64()?).abs() < 1e-5),
    }
}

/// GSM8K's published comparison: the number after the first `#### ` of response and
/// gold, commas removed, must be the same text. `None` where the gold has none.
pub fn gsm8k_em(gold: &str, output: &str) -> Option<bool> {
    let gold = after_hashes(gold)?;
    Some(after_hashes(output).is_some_and(|answer| answer == gold))
}

/// The paper's verdict on MATH and GSM8K: Math-Verify's, without those rows in which either side
/// is unparsed or longer than 5,000 characters (`None`), which it leaves out of its denominator.
pub fn math_paper(gold: &str, output: &str) -> Option<bool> {
    let short = |text: &str| {
        super::math::extract_answer(text, crate::record::Finish::Unknown)
            .is_none_or(|answer| answer.chars().count() <= 5000)
    };
    (short(gold) && short(output)).then(|| math_verify(gold, output))?
}

/// `#### (\-?[0-9\.\,]+)`: its first match, without commas.
fn after_hashes(text: &str) -> Option<String> {
    text.match_indices("#### ").find_map(|(at, mark)| {
        let after = &text[at + mark.len()..];
        let unsigned = after.strip_prefix('-').unwrap_or(after);
        let length = unsigned
            .bytes()
            .take_while(|b| b.is_ascii_digit() || b".,".contains(b))
            .count();
        let sign = after.len() - unsigned.len();
        (length > 0).then(|| after[..sign + length].replace(',', ""))
    })
}
