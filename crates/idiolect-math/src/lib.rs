#![doc = include_str!("../README.md")]

mod answer;
mod atom;
mod ball;
mod currency;
mod equal;
mod evaluate;
mod extract;
mod grade;
mod groups;
mod label;
pub mod lexeme;
mod math_verify;
mod matrix;
mod members;
pub mod number_words;
mod parse;
mod rational;
pub mod rounding;
mod spelling;
mod token;
mod tree;
mod unit;
mod words;

#[cfg(test)]
mod tests;

pub use extract::{Answered, answered};
pub use grade::{Grade, Graded, grade, grade_response};
pub use math_verify::math_verify;
pub use rational::Rational;
pub use rounding::REASON as ROUNDED;

/// The final answer of a whole response or solution, as it is written there; `None` where it comes
/// to none. Of a response that was `cut_off` by a token limit only an answer whose form is complete.
pub fn extract(response: &str, cut_off: bool) -> Option<String> {
    extract::extract(response, cut_off).map(|found| found.text)
}

/// The answer that a text states as such: in `\boxed{…}`, after `####`, after "the answer is". Unlike
/// [`extract`], never the last expression for want of a better one.
pub fn stated(text: &str) -> Option<String> {
    extract::stated(text, false).map(|found| found.text)
}

/// An answer in its normal spelling: without delimiters, `\left`, sizes and closing full stop. Doing
/// it twice changes nothing.
pub fn normal(answer: &str) -> String {
    spelling::normal(answer)
}
