//! How a chain is written: style M of the models, and the prose H of the miniature's people.
//!
//! M states each step and closes as GSM8K does; H uses the phrasings of Countdown's prose, with one
//! of four sentence forms a step, and one time in three gives the last step first:
//!
//! ```text
//! 12 + 5 = 17 ; 17 - 3 = 14 | #### 14
//! first put twelve and five together , which gives seventeen . next lower seventeen by three and we have fourteen . | #### 14
//! ```

use crate::miniature::chain::Chain;
use crate::miniature::prose::{Numerals, number, phrase};
use idiolect_model::Rng;

/// `{p}` is the phrased step, `{r}` what it gives.
const FIRST: [&str; 4] = [
    "first {p} , which gives {r} .",
    "we can {p} and get {r} .",
    "start with this , {p} , for {r} .",
    "let us {p} . that makes {r} .",
];
const LATER: [&str; 4] = [
    "then {p} to reach {r} .",
    "after that we {p} , so the result is {r} .",
    "next {p} and we have {r} .",
    "now {p} . that is {r} .",
];
const LAST_FIRST: [&str; 2] = [
    "to reach {r} at last we must {p} .",
    "the last step is to {p} , which gives {r} .",
];
const BEFORE: [&str; 2] = [
    "the {r} comes from this , {p} .",
    "before it , {p} to have {r} .",
];

/// One time in so many the last step comes first.
const BACKWARD: usize = 3;

/// Writes a chain in style M.
pub(super) fn in_style_m(chain: &Chain) -> String {
    format!("{chain} | #### {}", chain.result().unwrap_or_default())
}

/// Reads a text in style M: its chain and its answer as written.
pub(super) fn parse(text: &str) -> Option<(Chain, String)> {
    let (steps, answer) = text.split_once(" | ####")?;
    let answer = answer.trim();
    let is_number = !answer.is_empty() && answer.bytes().all(|b| b.is_ascii_digit());
    let chain = Chain::of_steps(steps)?;
    is_number.then(|| (chain, answer.to_owned()))
}

/// Human-style prose. The draws do not depend on the numerals.
pub(super) fn human(chain: &Chain, numerals: Numerals, rng: &mut Rng) -> String {
    let answer = chain.result().unwrap_or_default().to_string();
    human_with(chain, &answer, numerals, rng)
}

/// The same with another answer behind the prose.
pub(super) fn human_with(chain: &Chain, answer: &str, numerals: Numerals, rng: &mut Rng) -> String {
    let backward = rng.below(BACKWARD) == 0;
    let steps: Vec<_> = if backward {
        chain.steps.iter().rev().collect()
    } else {
        chain.steps.iter().collect()
    };
    let mut sentences = Vec::with_capacity(steps.len());
    for (at, step) in steps.into_iter().enumerate() {
        let forms: &[&str] = match (backward, at) {
            (false, 0) => &FIRST,
            (false, _) => &LATER,
            (true, 0) => &LAST_FIRST,
            (true, _) => &BEFORE,
        };
        let form = forms[rng.below(forms.len())];
        sentences.push(
            form.replace("{p}", &phrase(step, numerals, rng))
                .replace("{r}", &number(step.result, numerals)),
        );
    }
    format!("{} | #### {answer}", sentences.join(" "))
}

/// Every sentence form there is.
pub(super) fn phrases() -> impl Iterator<Item = &'static str> {
    FIRST
        .into_iter()
        .chain(LATER)
        .chain(LAST_FIRST)
        .chain(BEFORE)
}
