//! What an arm is called. A letter states nothing to who sees it for the first time: every table, figure
//! and sentence of the program takes an arm's description from here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::curated::CONTROLS;
use super::spec::{ArmSpec, DIGITS, Part, Source};
use crate::flaw::FinalAnswer;

/// The untrained student's name among arms.
const BASE: &str = "base";

/// What an arm's name means, in a few words: `teacher, wrong answer`. `spec` is what it is
/// made of in the arm language, where that is known; else the usual meaning of the name. Empty where
/// neither states.
pub fn describe(name: &str, spec: Option<&str>) -> String {
    match (name, control_of(name), spec) {
        (_, Some((of, suffix)), _) => of_control(of, suffix),
        (_, _, Some(spec)) => read(name, spec).map_or_else(String::new, |spec| of_spec(&spec)),
        (BASE, _, None) => "untrained student".to_owned(),
        (_, _, None) => usual(name).map_or_else(String::new, |source| of_source(&source)),
    }
}

/// What an arm holds, in a sentence without a full stop; `describe` at more length. Empty where it is
/// not known.
pub fn explain(name: &str, spec: Option<&str>) -> String {
    match (control_of(name), spec) {
        (Some((of, suffix)), _) => of_control(of, suffix),
        (None, Some(spec)) => read(name, spec).map_or_else(String::new, |spec| at_length(&spec)),
        (None, None) => usual(name).map_or_else(String::new, |source| source_at_length(&source)),
    }
}

/// The name with its description behind it: `W (teacher, wrong answer)`.
pub fn in_full(name: &str, description: &str) -> String {
    if description.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({description})")
    }
}

/// The names of arms in one text: in full where first met, alone after that.
#[derive(Debug, Default)]
pub struct Names {
    descriptions: BTreeMap<String, String>,
    met: RefCell<BTreeSet<String>>,
}

impl Names {
    /// Of arms and their descriptions.
    pub fn new<'a>(arms: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let described = |(name, words): (&str, &str)| (name.to_owned(), words.to_owned());
        Self {
            descriptions: arms.into_iter().map(described).collect(),
            met: RefCell::default(),
        }
    }

    /// The arm as the text calls it next.
    pub fn of(&self, name: &str) -> String {
        let first = self.met.borrow_mut().insert(name.to_owned());
        match self.descriptions.get(name) {
            Some(words) if first => in_full(name, words),
            _ => name.to_owned(),
        }
    }

    /// Several, in their order.
    pub fn of_all<S: AsRef<str>>(&self, names: &[S]) -> Vec<String> {
        names.iter().map(|name| self.of(name.as_ref())).collect()
    }
}

fn read(name: &str, spec: &str) -> Option<ArmSpec> {
    format!("{name}={spec}").parse().ok()
}

/// The source that a bare name represents. T and A are left out: beside results they may be anything.
fn usual(name: &str) -> Option<Source> {
    let named = |source: &Source| !matches!(source, Source::Any | Source::AnswerOnly);
    name.parse().ok().filter(named)
}

/// The source that an arm holds whole: by what it is made of where that is known, else by the usual
/// meaning of its name. `None` of a mixture, a part or a pick of one, and of names that state none.
pub fn source_of(name: &str, spec: Option<&str>) -> Option<Source> {
    match (control_of(name), spec) {
        (Some(_), _) => None,
        (None, Some(spec)) => read(name, spec)?.source().cloned(),
        (None, None) => usual(name),
    }
}

/// The curated arm that this is a control of, and which.
fn control_of(name: &str) -> Option<(&str, &'static str)> {
    CONTROLS
        .into_iter()
        .find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
        .filter(|(of, _)| !of.is_empty())
}

fn of_control(of: &str, suffix: &str) -> String {
    match suffix {
        "~random" => format!("random pick of the size of {of}"),
        _ => format!("pick of the size and lengths of {of}"),
    }
}

fn of_spec(spec: &ArmSpec) -> String {
    compose(spec, of_source)
}

fn at_length(spec: &ArmSpec) -> String {
    compose(spec, source_at_length)
}

fn compose(spec: &ArmSpec, words: fn(&Source) -> String) -> String {
    let of_part = |part: &Part| {
        let conditions: Vec<String> = part.filter.iter().map(ToString::to_string).collect();
        match conditions.as_slice() {
            [] => words(&part.source),
            _ => format!("{}, only {}", words(&part.source), conditions.join(", ")),
        }
    };
    match (spec.parts.as_slice(), &spec.pick) {
        ([only], None) => of_part(only),
        ([only], Some(pick)) => {
            let clause = pick.to_string();
            let by = clause.strip_prefix("by=").unwrap_or(&clause);
            format!("{}, picked by {}", of_part(only), by.replace(',', ", "))
        }
        (parts, _) => parts
            .iter()
            .map(|part| format!("{} % {}", round(100.0 * part.share), of_part(part)))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// Per cent with a decimal where it has one.
fn round(percent: f64) -> String {
    let text = format!("{percent:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// What a source's traces are, in a few words.
pub(super) fn of_source(source: &Source) -> String {
    match source {
        Source::Human => "human".to_owned(),
        Source::Style(label) if label == DIGITS => "human, with digits".to_owned(),
        Source::Style(label) => format!("human, {label}"),
        Source::Correct => "teacher, correct answer".to_owned(),
        Source::Wrong => "teacher, wrong answer".to_owned(),
        Source::WrongPrefix => "teacher, wrong answer, valid prefix".to_owned(),
        Source::Paraphrased => "human, paraphrased".to_owned(),
        Source::Flawed(0, _) => "teacher, true steps, wrong answer".to_owned(),
        Source::Flawed(percent, answer) => {
            let answer = match answer {
                FinalAnswer::AsItComes => "",
                FinalAnswer::Right => ", right answer",
                FinalAnswer::Wrong => ", wrong answer",
            };
            format!("teacher, {percent} % of steps flawed{answer}")
        }
        Source::Control => "content control".to_owned(),
        Source::ControlRight => "content control, right answer".to_owned(),
        Source::AnswerOnly => "right answer alone".to_owned(),
        Source::CorrectInHumanStyle => "teacher, correct answer, human style".to_owned(),
        Source::WrongInHumanStyle => "teacher, wrong answer, human style".to_owned(),
        Source::Own => "student's own samples".to_owned(),
        Source::Any => "any trace".to_owned(),
    }
}

fn source_at_length(source: &Source) -> String {
    match source {
        Source::Human => "the data set's own solutions".to_owned(),
        Source::Style(label) => format!("other human solutions, those labelled {label}"),
        Source::Correct => "sampled traces whose answer is correct".to_owned(),
        Source::Wrong => "sampled traces whose answer is wrong, finished and readable".to_owned(),
        Source::WrongPrefix => {
            "sampled traces whose answer is wrong, trained on up to their first false step"
                .to_owned()
        }
        Source::Paraphrased => "human solutions paraphrased by a model, answer kept".to_owned(),
        Source::Flawed(percent, answer) => {
            let steps = match percent {
                0 => "the traces of G with their own steps".to_owned(),
                _ => format!("the traces of G with {percent} % of their steps corrupted"),
            };
            match answer {
                FinalAnswer::AsItComes => steps,
                FinalAnswer::Right => format!("{steps} and the right answer"),
                FinalAnswer::Wrong => format!("{steps} and a wrong answer"),
            }
        }
        Source::Control => "the style of G without the problem's content".to_owned(),
        Source::ControlRight => {
            "the steps of R with the right answer of the trace of G behind them".to_owned()
        }
        Source::AnswerOnly => "the final answers of the traces of G, without any step".to_owned(),
        Source::CorrectInHumanStyle => {
            "the traces of G told step for step in the human style".to_owned()
        }
        Source::WrongInHumanStyle => {
            "the traces of W told step for step in the human style".to_owned()
        }
        Source::Own => "the untrained student's own samples, right or wrong".to_owned(),
        Source::Any => "traces of any making".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_the_arm_language_is_spelled_out() {
        for (name, words) in [
            ("base", "untrained student"),
            ("H", "human"),
            ("HD", "human, with digits"),
            ("H@forum", "human, forum"),
            ("G", "teacher, correct answer"),
            ("W", "teacher, wrong answer"),
            ("Wv", "teacher, wrong answer, valid prefix"),
            ("P", "human, paraphrased"),
            ("F25", "teacher, 25 % of steps flawed"),
            ("F100", "teacher, 100 % of steps flawed"),
            ("F50@right", "teacher, 50 % of steps flawed, right answer"),
            ("F0@wrong", "teacher, true steps, wrong answer"),
            ("GH", "teacher, correct answer, human style"),
            ("WH", "teacher, wrong answer, human style"),
            ("RR", "content control, right answer"),
            ("R", "content control"),
            ("S", "student's own samples"),
        ] {
            assert_eq!(describe(name, None), words, "{name}");
            assert!(name == "base" || !explain(name, None).is_empty(), "{name}");
        }
        for unknown in ["a", "A", "model-2", "T", "Base", "F101", "w", "~random"] {
            assert_eq!(describe(unknown, None), "", "{unknown}");
            assert_eq!(in_full(unknown, &describe(unknown, None)), unknown);
        }
    }

    #[test]
    fn an_arm_of_its_own_name_is_described_by_what_it_is_made_of() {
        for (name, spec, words) in [
            ("bad", "W", "teacher, wrong answer"),
            ("G", "W", "teacher, wrong answer"),
            ("all", "T", "any trace"),
            ("A", "A", "right answer alone"),
            (
                "mixed",
                "W:0.5+G:0.5",
                "50 % teacher, wrong answer; 50 % teacher, correct answer",
            ),
            (
                "long",
                "W[steps>=2]",
                "teacher, wrong answer, only steps>=2",
            ),
            (
                "near",
                "G{by=nll_per_token,rows=5}",
                "teacher, correct answer, picked by nll_per_token, rows=5",
            ),
            (
                "near~random",
                "G{by=nll_per_token}",
                "random pick of the size of near",
            ),
            (
                "near~length",
                "G{by=nll_per_token}",
                "pick of the size and lengths of near",
            ),
            ("odd", "no such spec", ""),
        ] {
            assert_eq!(describe(name, Some(spec)), words, "{name}={spec}");
        }
    }

    #[test]
    fn a_text_spells_an_arm_out_once() {
        let names = Names::new([("W", "teacher, wrong answer"), ("a", "")]);
        assert_eq!(names.of("W"), "W (teacher, wrong answer)");
        assert_eq!(
            names.of_all(&["W", "a", "unheard of"]),
            ["W", "a", "unheard of"]
        );
    }
}
