//! The arm language: `NAME=SPEC`, where a spec is one source of traces or a mixture of several.
//!
//! ```text
//! spec    := part ("+" part)* | part pick  W    W:0.5+G:0.5    G{by=nll_per_token}
//! part    := source filter? (":" share)?   fractions of a mixture add up to 1; without any they are equal
//! source  := H | HD | H@LABEL | G | W | Wv | P | R | S | F1 … F100 | T | A | GH | WH | RR
//!          | F1@right … F100@right | F0@wrong … F100@wrong
//! filter  := "[" condition ("," condition)* "]"     W[steps>=2,nll_per_token<1.5]
//! ```
//! Conditions are those of [`super::filter`]; `pick := "{" … "}"` is a clause of [`crate::curation`],
//! and such an arm NAME comes with its controls NAME~random and NAME~length.

use std::fmt;
use std::str::FromStr;

use super::filter::Condition;
use crate::curation::Clause;
use crate::flaw::FinalAnswer;

/// Traces of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// H: the data set's own solutions.
    Human,
    /// H@LABEL: other human solutions, those whose origin names LABEL as operation or model.
    /// HD is H@digits.
    Style(String),
    /// G: sampled and correct.
    Correct,
    /// W: sampled and wrong, finished and with a readable answer.
    Wrong,
    /// Wv: the trace that W holds, trained on only up to its first false step; of traces with a
    /// step before it.
    WrongPrefix,
    /// P: a human solution paraphrased, with the right answer.
    Paraphrased,
    /// F25: flawed copies of G's trace, with this percentage of steps corrupted. F25@right and
    /// F25@wrong: with the final answer right or wrong whatever became of the steps; F0@wrong: G's own
    /// steps with a wrong answer behind them.
    Flawed(u8, FinalAnswer),
    /// R: content controls.
    Control,
    /// RR: the steps of a content control with the right answer of G's trace.
    ControlRight,
    /// A: the final answer of G's trace without its steps.
    AnswerOnly,
    /// GH: G's trace, step for step, in the human style of its generated world.
    CorrectInHumanStyle,
    /// WH: W's trace in that style.
    WrongInHumanStyle,
    /// S: the student's own samples, right or wrong: those of the model that the scores are of.
    Own,
    /// T: every trace, whatever made it; for use with a filter.
    Any,
}

impl Source {
    /// The command that writes such traces, where no data set brings them.
    pub(super) fn written_by(&self) -> Option<&'static str> {
        match self {
            Self::Human | Self::Style(_) | Self::Any => None,
            Self::Correct | Self::Wrong | Self::WrongPrefix => Some("idiolect generate"),
            Self::Paraphrased => Some("idiolect paraphrase"),
            Self::Flawed(_, FinalAnswer::AsItComes) => Some("idiolect corrupt --dose"),
            Self::Flawed(..) => Some("idiolect corrupt --dose D --answer right|wrong"),
            Self::Control => Some("idiolect corrupt --control"),
            Self::ControlRight => Some("idiolect corrupt --control --answer right"),
            Self::AnswerOnly => Some("idiolect corrupt --answer-only"),
            Self::CorrectInHumanStyle | Self::WrongInHumanStyle => {
                Some("idiolect corrupt --human-style")
            }
            Self::Own => Some("idiolect generate --model STUDENT"),
        }
    }
}

/// The label that HD represents.
pub(super) const DIGITS: &str = "digits";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Human => f.write_str("H"),
            Source::Style(label) if label == DIGITS => f.write_str("HD"),
            Source::Style(label) => write!(f, "H@{label}"),
            Source::Correct => f.write_str("G"),
            Source::Wrong => f.write_str("W"),
            Source::Paraphrased => f.write_str("P"),
            Source::Flawed(percent, answer) => {
                write!(f, "F{percent}")?;
                match answer {
                    FinalAnswer::AsItComes => Ok(()),
                    FinalAnswer::Right => f.write_str("@right"),
                    FinalAnswer::Wrong => f.write_str("@wrong"),
                }
            }
            Source::Control => f.write_str("R"),
            Source::ControlRight => f.write_str("RR"),
            Source::AnswerOnly => f.write_str("A"),
            Source::CorrectInHumanStyle => f.write_str("GH"),
            Source::WrongInHumanStyle => f.write_str("WH"),
            Source::Own => f.write_str("S"),
            Source::WrongPrefix => f.write_str("Wv"),
            Source::Any => f.write_str("T"),
        }
    }
}

impl Source {
    /// The source whose trace this one is a copy of, where it is made of one: it must hold a copy of
    /// the very trace that the other holds.
    pub fn copied(&self) -> Option<Self> {
        match self {
            Source::Flawed(..)
            | Source::AnswerOnly
            | Source::ControlRight
            | Source::CorrectInHumanStyle => Some(Source::Correct),
            Source::WrongInHumanStyle => Some(Source::Wrong),
            _ => None,
        }
    }
}

impl FromStr for Source {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let unknown = || SpecError::UnknownSource {
            source_name: text.to_owned(),
        };
        Ok(match text {
            "H" => Source::Human,
            "HD" => Source::Style(DIGITS.to_owned()),
            "G" => Source::Correct,
            "W" => Source::Wrong,
            "P" => Source::Paraphrased,
            "R" => Source::Control,
            "RR" => Source::ControlRight,
            "A" => Source::AnswerOnly,
            "GH" => Source::CorrectInHumanStyle,
            "WH" => Source::WrongInHumanStyle,
            "S" => Source::Own,
            "Wv" => Source::WrongPrefix,
            "T" => Source::Any,
            _ => {
                if let Some(label) = text.strip_prefix("H@").filter(|label| !label.is_empty()) {
                    return Ok(Source::Style(label.to_owned()));
                }
                let dosed = text.strip_prefix('F').ok_or_else(unknown)?;
                let (percent, answer) = match dosed.split_once('@') {
                    None => (dosed, FinalAnswer::AsItComes),
                    Some((percent, "right")) => (percent, FinalAnswer::Right),
                    Some((percent, "wrong")) => (percent, FinalAnswer::Wrong),
                    Some(_) => return Err(unknown()),
                };
                let percent = Some(percent).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
                let percent: u8 = percent.and_then(|p| p.parse().ok()).ok_or_else(unknown)?;
                // Steps as they are and a right answer are G itself.
                let least = u8::from(answer != FinalAnswer::Wrong);
                if !(least..=100).contains(&percent) {
                    return Err(unknown());
                }
                Source::Flawed(percent, answer)
            }
        })
    }
}

/// One source of an arm with its fraction of the arm's problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where its traces come from.
    pub source: Source,
    /// Conditions that all of its traces fulfil.
    pub filter: Vec<Condition>,
    /// In (0, 1].
    pub share: f64,
}

impl Part {
    /// Source and filter in the arm language: what decides which traces represent it.
    pub fn selection(&self) -> String {
        let conditions: Vec<String> = self.filter.iter().map(ToString::to_string).collect();
        match conditions.as_slice() {
            [] => self.source.to_string(),
            _ => format!("{}[{}]", self.source, conditions.join(",")),
        }
    }

    /// Its conditions on the model, in an order of their own: G and F of equal ones hold the same traces.
    pub(super) fn models(&self) -> Vec<String> {
        let on_model = self.filter.iter().filter(|condition| condition.on_model());
        let mut models: Vec<String> = on_model.map(ToString::to_string).collect();
        models.sort();
        models
    }
}

/// A named arm and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmSpec {
    /// Names the arm's file: letters, digits and `_ - . ~ + @`.
    pub name: String,
    /// One for a plain arm, several for a mixture; shares add up to 1.
    pub parts: Vec<Part>,
    /// How its only part is curated; where unset one trace of each problem is drawn.
    pub pick: Option<Clause>,
}

/// Why a spec cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No such source.
    #[error(
        "no source of traces is called `{source_name}`; there are H (human), HD or H@LABEL (other human styles), G (sampled, correct), W (sampled, wrong), P (paraphrased), F1 to F100 (flawed, percent of steps; F50@right and F50@wrong with that final answer, F0@wrong with true steps), A (G's answer alone), GH and WH (G and W in a generated world's human style), R (control), RR (control with the right answer), S (the student's own samples), Wv (W up to its first false step), T (any trace), filters such as W[steps>=2] and mixtures such as W:0.5+G:0.5"
    )]
    UnknownSource {
        /// As given.
        source_name: String,
    },
    /// Not `NAME=SPEC`.
    #[error("`{text}` is not an arm; write NAME=SPEC, for example `W=W` or `mixed=W:0.5+G:0.5`")]
    Shape {
        /// As given.
        text: String,
    },
    /// A name that cannot name a file.
    #[error(
        "`{name}` cannot name an arm; use letters, digits and `_ - . ~ + @`, and open with a letter or digit"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// A condition of a filter that cannot be read.
    #[error("`{text}` is no condition: {reason}; write for example W[steps>=2,verdict=wrong]")]
    Condition {
        /// As given.
        text: String,
        /// Why.
        reason: String,
    },
    /// A pick that cannot be read.
    #[error("`{text}` is no pick: {reason}; write for example near=G{{by=nll_per_token,rows=500}}")]
    Pick {
        /// As given.
        text: String,
        /// Why.
        reason: String,
    },
    /// Shares that do not divide the arm.
    #[error(
        "the fractions of `{text}` do not divide an arm; give each part a fraction above 0, adding up to 1, or none a fraction"
    )]
    Shares {
        /// As given.
        text: String,
    },
}

impl ArmSpec {
    /// The arm that is one source, called by the source's own name.
    pub fn plain(source: Source) -> Self {
        Self {
            name: source.to_string(),
            parts: vec![Part {
                source,
                filter: Vec::new(),
                share: 1.0,
            }],
            pick: None,
        }
    }

    /// Its source, where it is one whole source: no mixture, no filter, no pick.
    pub fn source(&self) -> Option<&Source> {
        match self.parts.as_slice() {
            [only] if only.filter.is_empty() && self.pick.is_none() => Some(&only.source),
            _ => None,
        }
    }

    /// The names of the arms that are built of it: its own, and of a curated one its controls'.
    pub fn built(&self) -> Vec<String> {
        let controls = super::curated::CONTROLS
            .iter()
            .filter(|_| self.pick.is_some());
        std::iter::once(self.name.clone())
            .chain(controls.map(|suffix| format!("{}{suffix}", self.name)))
            .collect()
    }

    /// The spec in its own language, without the name.
    pub fn spec(&self) -> String {
        match (self.parts.as_slice(), &self.pick) {
            ([only], Some(pick)) => format!("{}{{{pick}}}", only.selection()),
            ([only], None) => only.selection(),
            (parts, _) => parts
                .iter()
                .map(|p| format!("{}:{}", p.selection(), p.share))
                .collect::<Vec<_>>()
                .join("+"),
        }
    }
}

/// Reads `NAME=SPEC`; a bare source such as `W` is `W=W`.
impl FromStr for ArmSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        // A `=` within a filter or a pick names nothing.
        let named = text
            .split_once('=')
            .filter(|(name, _)| !name.contains(['[', '{']));
        let (name, spec) = named.unwrap_or((text, text));
        if name.is_empty() || spec.is_empty() {
            return Err(SpecError::Shape {
                text: text.to_owned(),
            });
        }
        let (spec, pick) = match spec
            .trim_end()
            .strip_suffix('}')
            .and_then(|s| s.split_once('{'))
        {
            Some((spec, clause)) => (spec, Some(clause)),
            None => (spec, None),
        };
        let pick = pick
            .map(|clause| {
                clause.parse().map_err(|reason| SpecError::Pick {
                    text: clause.to_owned(),
                    reason,
                })
            })
            .transpose()?;
        let parts = parts(spec)?;
        if pick.is_some() && parts.len() > 1 {
            return Err(SpecError::Pick {
                text: text.to_owned(),
                reason: "a mixture cannot be curated, only one source".to_owned(),
            });
        }
        if !is_name(name) {
            return Err(SpecError::Name {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            parts,
            pick,
        })
    }
}

/// Whether an arm may be called so: its name is that of its file too.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.~+@".contains(c))
}

fn parts(spec: &str) -> Result<Vec<Part>, SpecError> {
    let bad_shares = || SpecError::Shares {
        text: spec.to_owned(),
    };
    let read: Vec<(Source, Vec<Condition>, Option<f64>)> = outside_brackets(spec, '+')
        .map(|part| {
            let mut halves = outside_brackets(part, ':');
            let selection = halves.next().unwrap_or_default().trim();
            let share = match (halves.next(), halves.next()) {
                (None, _) => None,
                (Some(share), None) => Some(share.trim().parse().map_err(|_| bad_shares())?),
                (Some(_), Some(_)) => return Err(bad_shares()),
            };
            let (source, filter) = selected(selection)?;
            Ok((source, filter, share))
        })
        .collect::<Result<_, SpecError>>()?;
    let equal = 1.0 / read.len() as f64;
    let shares: Vec<f64> = if read.iter().all(|(_, _, share)| share.is_none()) {
        vec![equal; read.len()]
    } else {
        read.iter()
            .map(|(_, _, share)| share.unwrap_or(f64::NAN))
            .collect()
    };
    let divides =
        shares.iter().all(|s| *s > 0.0) && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6;
    if !divides {
        return Err(bad_shares());
    }
    Ok(read
        .into_iter()
        .zip(shares)
        .map(|((source, filter, _), share)| Part {
            source,
            filter,
            share,
        })
        .collect())
}

/// The pieces of a text between separators that no bracket holds.
fn outside_brackets(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    text.split(move |c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == separator && depth == 0
    })
}

/// `source[condition,…]`.
fn selected(text: &str) -> Result<(Source, Vec<Condition>), SpecError> {
    let Some((source, rest)) = text.split_once('[') else {
        return Ok((text.parse()?, Vec::new()));
    };
    let conditions = rest.strip_suffix(']').ok_or_else(|| SpecError::Condition {
        text: text.to_owned(),
        reason: "its bracket is not closed".to_owned(),
    })?;
    let conditions = conditions.split(',').map(str::parse);
    Ok((
        source.trim().parse()?,
        conditions.collect::<Result<_, _>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ArmSpec {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        text.parse::<ArmSpec>().unwrap_err().to_string()
    }

    #[test]
    fn plain_arms_read_and_print() {
        for name in [
            "H",
            "HD",
            "H@annotator-2",
            "G",
            "W",
            "P",
            "R",
            "S",
            "Wv",
            "T",
            "F25",
            "F100",
            "F50@right",
            "F0@wrong",
            "F100@wrong",
            "A",
            "GH",
            "WH",
            "RR",
        ] {
            let arm = spec(&format!("x={name}"));
            assert_eq!(
                (arm.name.as_str(), arm.spec().as_str(), arm.parts.len()),
                ("x", name, 1)
            );
        }
        assert_eq!(spec("W"), spec("W=W"));
        assert_eq!(spec("HD").parts[0].source, Source::Style("digits".into()));
    }

    #[test]
    fn mixtures_have_shares_that_add_up_to_1() {
        assert_eq!(spec("m=W:0.25+G:0.75").spec(), "W:0.25+G:0.75");
        assert_eq!(spec("m=W+G").spec(), "W:0.5+G:0.5");
        assert_eq!(spec("m=W+G+P").parts.len(), 3);
        for bad in [
            "m=W:0.5+G:0.6",
            "m=W:0.5+G",
            "m=W:0+G:1",
            "m=W:x+G:1",
            "m=W:-1+G:2",
            "m=W:nan+G:1",
        ] {
            assert!(error(bad).contains("adding up to 1"), "{bad}");
        }
    }

    #[test]
    fn filters_read_and_print() {
        let text = "W[steps>=2,verdict=wrong]:0.5+G[model=a+b:c]:0.5";
        assert_eq!(spec(&format!("m={text}")).spec(), text);
        assert_eq!(spec("m=T[origin=sampled]").parts[0].source, Source::Any);
        for bad in ["m=W[steps>=2", "m=W[]", "m=W[steps]", "m=W[speed>1]"] {
            assert!(
                error(bad).contains("is no condition"),
                "{bad}: {}",
                error(bad)
            );
        }
        assert!(error("W[steps>=2]").contains("cannot name an arm"));
    }

    #[test]
    fn picks_read_and_print() {
        let text = "G[steps>=2]{by=nll_per_token,far,per=set,rows=5,strata=difficulty+length}";
        assert_eq!(spec(&format!("near={text}")).spec(), text);
        for bad in ["n=G{}", "n=G{by=speed}", "n=G:0.5+W:0.5{by=rsr}"] {
            assert!(error(bad).contains("is no pick"), "{bad}: {}", error(bad));
        }
    }

    #[test]
    fn unknown_sources_are_refused_with_a_list() {
        for bad in [
            "X",
            "x=F0",
            "x=F101",
            "x=Ffoo",
            "x=F",
            "x=F999",
            "x=H@",
            "x=W+Z",
            "x=w",
            "x=F0@right",
            "x=F50@",
            "x=F50@maybe",
            "x=F@right",
            "x=F101@wrong",
            "x=PH",
        ] {
            assert!(error(bad).contains("F1 to F100"), "{bad}: {}", error(bad));
        }
        assert!(error("=W").contains("NAME=SPEC"));
        assert!(error("../W=W").contains("cannot name an arm"));
        assert!(error(".W=W").contains("cannot name an arm"));
    }
}
