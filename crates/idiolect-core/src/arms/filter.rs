//! Filters of the arm language: `W[steps>=2,nll_per_token<1.5]` keeps the traces for which every
//! condition holds.
//!
//! A field is `verdict`, `origin`, `model`, `finish`, `steps` (how many), `valid` (fraction of the
//! checked steps that are valid), `bytes`, `tokens`, or the name of a closeness metric. Words are
//! compared with `=` and `!=`, numbers with all six comparisons. A trace of which a field is not
//! known (no verdict, no scores) does not pass.

use std::fmt;
use std::str::FromStr;

use super::spec::SpecError;
use crate::metric;
use crate::record::{ScoreRow, StepCheck, Trace, VerdictRow};

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Verdict,
    Origin,
    Model,
    Finish,
    Steps,
    Valid,
    Bytes,
    Tokens,
    /// A closeness metric of [`metric::METRICS`].
    Metric(&'static str),
}

/// How a condition compares; longer signs first, so that `<=` is not read as `<`.
const COMPARISONS: [&str; 6] = ["<=", ">=", "!=", "=", "<", ">"];

/// `steps>=2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    field: Field,
    comparison: &'static str,
    /// As written.
    text: String,
    /// Of a numeric field.
    number: f64,
}

/// What is known of a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) trace: &'a Trace,
    pub(super) verdict: Option<&'a VerdictRow>,
    pub(super) scores: Option<&'a ScoreRow>,
}

impl Condition {
    /// Whether it is one on the model that wrote the trace. A copy is of its parent's model.
    pub(super) fn on_model(&self) -> bool {
        self.field == Field::Model
    }

    /// Whether it holds; `None` where the field is not known.
    #[expect(
        clippy::float_cmp,
        reason = "`=` and `!=` compare what was written, counts as a rule"
    )]
    pub(super) fn holds(&self, known: &Known<'_>) -> Option<bool> {
        let origin = &known.trace.origin;
        let word = match self.field {
            Field::Verdict => name_of(&known.verdict?.verdict),
            Field::Origin => name_of(&origin.kind),
            Field::Finish => name_of(&known.trace.finish),
            Field::Model => origin.model.clone()?,
            _ => {
                let value = self.number_of(known)?;
                return Some(match self.comparison {
                    "<=" => value <= self.number,
                    ">=" => value >= self.number,
                    "<" => value < self.number,
                    ">" => value > self.number,
                    "!=" => value != self.number,
                    _ => value == self.number,
                });
            }
        };
        // A model is named with its hash behind `@`, which nobody types.
        let equal = word == self.text
            || (self.field == Field::Model && word.split('@').next() == Some(&self.text));
        Some(equal == (self.comparison == "="))
    }

    fn number_of(&self, known: &Known<'_>) -> Option<f64> {
        let steps = || known.verdict.map(|row| &row.steps);
        match self.field {
            Field::Steps => Some(steps()?.len() as f64),
            Field::Valid => {
                let count = |check| steps().map(|s| s.iter().filter(|s| s.check == check).count());
                let (valid, invalid) = (count(StepCheck::Valid)?, count(StepCheck::Invalid)?);
                (valid + invalid > 0).then(|| valid as f64 / (valid + invalid) as f64)
            }
            Field::Bytes => Some(known.trace.text.len() as f64),
            Field::Tokens => Some(known.scores?.n_tokens as f64),
            Field::Metric(name) => (metric::named(name)?.of)(known.scores?),
            Field::Verdict | Field::Origin | Field::Model | Field::Finish => None,
        }
    }
}

/// The name that a value has in files.
fn name_of(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.field {
            Field::Verdict => "verdict",
            Field::Origin => "origin",
            Field::Model => "model",
            Field::Finish => "finish",
            Field::Steps => "steps",
            Field::Valid => "valid",
            Field::Bytes => "bytes",
            Field::Tokens => "tokens",
            Field::Metric(name) => name,
        };
        write!(f, "{field}{}{}", self.comparison, self.text)
    }
}

impl FromStr for Condition {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = |reason: &str| SpecError::Condition {
            text: text.trim().to_owned(),
            reason: reason.to_owned(),
        };
        let (at, comparison) = COMPARISONS
            .iter()
            .filter_map(|sign| Some((text.find(sign)?, *sign)))
            // `>=` before the `=` within it.
            .min_by_key(|(at, sign)| (*at, std::cmp::Reverse(sign.len())))
            .ok_or_else(|| bad("there is no comparison in it"))?;
        let (name, value) = (text[..at].trim(), text[at + comparison.len()..].trim());
        let field = match name {
            "verdict" => Field::Verdict,
            "origin" => Field::Origin,
            "model" => Field::Model,
            "finish" => Field::Finish,
            "steps" => Field::Steps,
            "valid" => Field::Valid,
            "bytes" => Field::Bytes,
            "tokens" => Field::Tokens,
            _ => match metric::named(name) {
                Some(metric) => Field::Metric(metric.name),
                None => {
                    let metrics: Vec<_> = metric::METRICS.iter().map(|m| m.name).collect();
                    return Err(bad(&format!(
                        "`{name}` is no field; there are verdict, origin, model, finish, steps, valid, bytes, tokens and the metrics {}",
                        metrics.join(", ")
                    )));
                }
            },
        };
        if value.is_empty() {
            return Err(bad("there is no value in it"));
        }
        let words: &[&str] = match field {
            Field::Verdict => &["correct", "wrong", "no_answer", "ungraded"],
            Field::Origin => &[
                "human",
                "sampled",
                "paraphrased",
                "flawed",
                "control",
                "imported",
            ],
            Field::Finish => &["stop", "length", "unknown"],
            _ => &[],
        };
        let number = match field {
            Field::Verdict | Field::Origin | Field::Finish if !words.contains(&value) => {
                return Err(bad(&format!("`{name}` is one of {}", words.join(", "))));
            }
            Field::Verdict | Field::Origin | Field::Finish | Field::Model => {
                if !matches!(comparison, "=" | "!=") {
                    return Err(bad("words are compared with = and !="));
                }
                0.0
            }
            _ => value
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .ok_or_else(|| bad("the value is no number"))?,
        };
        Ok(Self {
            field,
            comparison,
            text: value.to_owned(),
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{Finish, Origin, OriginKind, Step, Verdict};

    #[test]
    fn conditions_read_and_print() {
        for text in [
            "steps>=2",
            "valid<0.5",
            "verdict=wrong",
            "origin!=human",
            "nll_per_token<=1.25",
            "model=gpt",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!(
            " steps >= 2 ".parse::<Condition>().unwrap().to_string(),
            "steps>=2"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_message() {
        let why = |text: &str| text.parse::<Condition>().unwrap_err().to_string();
        assert!(why("steps").contains("no comparison"));
        assert!(why("step>2").contains("nll_per_token"), "{}", why("step>2"));
        assert!(why("verdict=bad").contains("no_answer"));
        assert!(why("verdict<wrong").contains("= and !="));
        assert!(why("steps>many").contains("no number"));
        assert!(why("steps>=").contains("no value"));
        assert!(why("steps>=nan").contains("no number"));
    }

    #[test]
    fn each_field_is_compared() {
        let mut trace = Trace::new(
            "p",
            "1 + 1 = 3",
            Finish::Stop,
            Origin::of(OriginKind::Sampled),
        );
        trace.origin.model = Some("gpt@abc".to_owned());
        let step = |check| Step {
            start: 0,
            end: 9,
            check,
        };
        let verdict = VerdictRow {
            trace_id: trace.id.clone(),
            problem_id: "p".to_owned(),
            verdict: Verdict::Wrong,
            extracted: None,
            reason: String::new(),
            verifier: String::new(),
            steps: [StepCheck::Valid, StepCheck::Invalid, StepCheck::Unchecked]
                .map(step)
                .to_vec(),
            read: None,
        };
        let scores: ScoreRow = serde_json::from_value(json!({
            "trace_id": trace.id, "problem_id": "p", "model": "s", "template": "raw", "n_tokens": 4, "n_bytes": 9,
            "nll_nats": 6.0, "entropy_nats": 1.0, "varentropy_nats2": 1.0, "abs_excess_nats": 1.0, "rank_sum": 4.0,
            "rank_clip100_sum": 4.0, "log_rank_sum": 0.0, "top1": 4, "top5": 4, "top10": 4, "top50": 4,
            "brier_sum": 0.0, "end_nll_nats": 0.0,
        }))
        .unwrap();
        let known = Known {
            trace: &trace,
            verdict: Some(&verdict),
            scores: Some(&scores),
        };
        let holds = |text: &str| text.parse::<Condition>().unwrap().holds(&known);
        for text in [
            "steps=3",
            "valid=0.5",
            "bytes<10",
            "tokens!=3",
            "nll_per_token<=1.5",
            "verdict=wrong",
            "verdict!=correct",
            "origin=sampled",
            "finish=stop",
            "model=gpt",
            "model=gpt@abc",
        ] {
            assert_eq!(holds(text), Some(true), "{text}");
        }
        assert_eq!(holds("steps>3"), Some(false));
        let unknown = Known {
            trace: &trace,
            verdict: None,
            scores: None,
        };
        for text in ["steps=3", "tokens>1", "rsr<1", "verdict=wrong"] {
            assert_eq!(
                text.parse::<Condition>().unwrap().holds(&unknown),
                None,
                "{text}"
            );
        }
    }
}
