//! `number_slip`: an equation states another result, and the rest of the text goes on from it.

use super::equation::{Equation, number_from};
use idiolect_model::Rng;

/// The text with the result of `equation` changed there and wherever the same number is
/// behind it, and where the equation now ends.
pub(super) fn apply(text: &str, equation: &Equation, rng: &mut Rng) -> (String, usize) {
    let right = &text[equation.result.clone()];
    let slipped = slip(right, rng);
    let head = &text[..equation.result.start];
    let rest = replace_number(&text[equation.result.end..], right, &slipped);
    (format!("{head}{slipped}{rest}"), head.len() + slipped.len())
}

/// A number with one of its digits changed; no new leading zero.
pub(super) fn slip(number: &str, rng: &mut Rng) -> String {
    let digits: Vec<usize> = number
        .bytes()
        .enumerate()
        .filter(|(_, b)| b.is_ascii_digit())
        .map(|(at, _)| at)
        .collect();
    let at = digits[rng.below(digits.len())];
    let least = if at == 0 && number.len() > 1 {
        b'1'
    } else {
        b'0'
    };
    let old = number.as_bytes()[at];
    let others: Vec<u8> = (least..=b'9').filter(|digit| *digit != old).collect();
    let mut slipped = number.to_owned();
    slipped.replace_range(
        at..=at,
        &char::from(others[rng.below(others.len())]).to_string(),
    );
    slipped
}

/// `text` with each whole number that is written `old` written `new`.
pub(super) fn replace_number(text: &str, old: &str, new: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = text[at..].find(|c: char| c.is_ascii_digit()) {
        let start = at + found;
        let number = number_from(text, start).expect("a digit starts a number");
        replaced.push_str(&text[at..start]);
        // Not the decimals of another number, nor a digit of a word such as `x24`.
        let joined = text[..start].ends_with(|c: char| c == '.' || c.is_alphabetic());
        replaced.push_str(if &text[number.clone()] == old && !joined {
            new
        } else {
            &text[number.clone()]
        });
        at = number.end;
    }
    replaced.push_str(&text[at..]);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_changes_one_digit() {
        for k in 0..200 {
            for number in ["0", "7", "24", "1,200", "0.25"] {
                let slipped = slip(number, &mut Rng::keyed(k, &[]));
                let changed = slipped
                    .bytes()
                    .zip(number.bytes())
                    .filter(|(a, b)| a != b)
                    .count();
                assert_eq!((slipped.len(), changed), (number.len(), 1));
                assert!(number.len() == 1 || number.starts_with('0') || !slipped.starts_with('0'));
            }
        }
    }

    #[test]
    fn whole_numbers_are_replaced_and_no_parts() {
        assert_eq!(
            replace_number("24, 240 and 1.24; 24.", "24", "25"),
            "25, 240 and 1.24; 25."
        );
    }
}
