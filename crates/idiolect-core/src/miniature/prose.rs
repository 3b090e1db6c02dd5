//! How the miniature's people write: the prose styles H, HD and the student's own plain one.
//!
//! H picks one of four phrasings for each operation and one of six frames; two frames give the
//! last step first. Numbers are words, and the text ends like style M with `| ans EXPRESSION`:
//!
//! ```text
//! first multiply three by seven , which gives twenty one . then lower twenty one by two to reach nineteen . | ans ( 3 * 7 ) - 2
//! ```
//!
//! HD is the same text with digits. [`plain`] is simpler and shares words with H, not sentences:
//! `three times seven is twenty one . twenty one minus two is nineteen .`

pub(crate) use idiolect_math::number_words::{TENS, UNITS};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Op, Step};
use idiolect_model::Rng;

/// How human-style prose writes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numerals {
    /// `twenty one`: style H.
    Words,
    /// `21`: style HD.
    Digits,
}

/// `{a}` and `{b}` are the operands, left and right.
const fn phrasings(op: Op) -> [&'static str; 4] {
    match op {
        Op::Add => [
            "add {a} and {b}",
            "put {a} and {b} together",
            "take {a} plus {b}",
            "raise {a} by {b}",
        ],
        Op::Sub => [
            "subtract {b} from {a}",
            "take {b} away from {a}",
            "take {a} minus {b}",
            "lower {a} by {b}",
        ],
        Op::Mul => [
            "multiply {a} by {b}",
            "take {a} times {b}",
            "find the product of {a} and {b}",
            "make {a} groups of {b}",
        ],
        Op::Div => [
            "divide {a} by {b}",
            "split {a} into {b} parts",
            "take {a} over {b}",
            "share {a} among {b}",
        ],
    }
}

/// `{p}` and `{q}` are the phrased steps, first and second, `{r}` and `{t}` what they give.
const FRAMES: [&str; 6] = [
    "first {p} , which gives {r} . then {q} to reach {t} .",
    "we can {p} and get {r} . after that we {q} , so the result is {t} .",
    "start with this , {p} , for {r} . next {q} and we have {t} .",
    "let us {p} . that makes {r} . now {q} . that is {t} at last .",
    "to reach {t} at last we must {q} . the {r} comes from this , {p} .",
    "the last step is to {q} , which gives {t} . before it , {p} to have {r} .",
];

/// Human-style prose of a chain of two steps, with the answer expression; `None` of other chains.
pub fn human(chain: &Chain, numerals: Numerals, rng: &mut Rng) -> Option<String> {
    human_with(chain, &chain.expression()?, numerals, rng)
}

/// The same with another answer behind the prose: a chain and what was made of it may disagree.
pub fn human_with(
    chain: &Chain,
    answer: &str,
    numerals: Numerals,
    rng: &mut Rng,
) -> Option<String> {
    let [first, second] = chain.steps[..] else {
        return None;
    };
    // The draws do not depend on the numerals: HD is H with digits, word for word.
    let p = phrase(&first, numerals, rng);
    let q = phrase(&second, numerals, rng);
    let frame = FRAMES[rng.below(FRAMES.len())];
    let prose = frame
        .replace("{p}", &p)
        .replace("{q}", &q)
        .replace("{r}", &number(first.result, numerals))
        .replace("{t}", &number(second.result, numerals));
    Some(format!("{prose} | ans {answer}"))
}

pub(super) fn phrase(step: &Step, numerals: Numerals, rng: &mut Rng) -> String {
    phrasings(step.op)[rng.below(4)]
        .replace("{a}", &number(step.left, numerals))
        .replace("{b}", &number(step.right, numerals))
}

/// Every way to name an operation, and the words of plain prose.
pub(super) fn phrases() -> impl Iterator<Item = &'static str> {
    let plain = Op::ALL.into_iter().map(plain_word);
    Op::ALL.into_iter().flat_map(phrasings).chain(plain)
}

const fn plain_word(op: Op) -> &'static str {
    match op {
        Op::Add => "plus",
        Op::Sub => "minus",
        Op::Mul => "times",
        Op::Div => "over",
    }
}

/// A chain in the student's plain prose: no instruction, no answer.
pub fn plain(chain: &Chain) -> String {
    let sentence = |step: &Step| {
        let word = plain_word(step.op);
        let [a, b, r] = [step.left, step.right, step.result].map(|n| number(n, Numerals::Words));
        format!("{a} {word} {b} is {r} .")
    };
    chain
        .steps
        .iter()
        .map(sentence)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A number below 100 in words, `twenty one`, or in digits.
pub(super) fn number(n: u32, numerals: Numerals) -> String {
    let n = n as usize;
    match (numerals, n / 10, n % 10) {
        (Numerals::Words, 0 | 1, _) => UNITS[n].to_owned(),
        (Numerals::Words, tens @ 2..=9, 0) => TENS[tens - 2].to_owned(),
        (Numerals::Words, tens @ 2..=9, unit) => format!("{} {}", TENS[tens - 2], UNITS[unit]),
        _ => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miniature::chain::chains_of;

    fn sample() -> Chain {
        Chain {
            steps: vec![
                Step::of(3, Op::Mul, 7).unwrap(),
                Step::of(21, Op::Sub, 2).unwrap(),
            ],
        }
    }

    #[test]
    fn numbers_are_words_up_to_99() {
        assert_eq!(number(0, Numerals::Words), "zero");
        assert_eq!(number(19, Numerals::Words), "nineteen");
        assert_eq!(number(40, Numerals::Words), "forty");
        assert_eq!(number(99, Numerals::Words), "ninety nine");
        assert_eq!(number(99, Numerals::Digits), "99");
    }

    #[test]
    fn digits_change_numerals_and_nothing_else() {
        let words = |text: &str| -> Vec<String> {
            let is_number =
                |w: &&str| !UNITS.contains(w) && !TENS.contains(w) && w.parse::<u32>().is_err();
            text.split(' ')
                .filter(is_number)
                .map(str::to_owned)
                .collect()
        };
        for k in 0..50 {
            let draw = |numerals| human(&sample(), numerals, &mut Rng::keyed(k, &[])).unwrap();
            assert_eq!(
                words(&draw(Numerals::Words)),
                words(&draw(Numerals::Digits))
            );
        }
    }

    #[test]
    fn all_frames_and_phrasings_occur() {
        let mut seen = std::collections::BTreeSet::new();
        for k in 0..5_000 {
            seen.insert(human(&sample(), Numerals::Words, &mut Rng::keyed(k, &[])).unwrap());
        }
        assert_eq!(seen.len(), 6 * 4 * 4);
    }

    #[test]
    fn prose_is_about_35_tokens_long() {
        let mut tokens = 0;
        let chains = chains_of([2, 7, 12]);
        for (k, chain) in chains.iter().enumerate() {
            tokens += 1 + human(chain, Numerals::Words, &mut Rng::keyed(k as u64, &[]))
                .unwrap()
                .split(' ')
                .count();
        }
        let mean = tokens as f64 / chains.len() as f64;
        assert!((33.0..37.0).contains(&mean), "{mean}");
    }

    #[test]
    fn plain_prose_states_each_step() {
        assert_eq!(
            plain(&sample()),
            "three times seven is twenty one . twenty one minus two is nineteen ."
        );
    }
}
