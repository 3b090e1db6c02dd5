//! The arm language: `NAME=SPEC`, where a spec is one source of traces or a mixture of several.
//!
//! ```text
//! spec    := part ("+" part)*          W    W:0.5+G:0.5
//! part    := source (":" share)?       shares of a mixture add up to 1; without any they are equal
//! source  := H | HD | H@LABEL | G | W | P | R | F1 … F100
//! ```

use std::fmt;
use std::str::FromStr;

/// Traces of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// H: the data set's own solutions.
    Human,
    /// H@LABEL: other human solutions, those whose origin names LABEL as operation or model.
    /// HD is H@digits.
    Dialect(String),
    /// G: sampled and correct.
    Correct,
    /// W: sampled and wrong, finished and with a readable answer.
    Wrong,
    /// P: a human solution paraphrased, with the right answer.
    Paraphrased,
    /// F25: flawed copies of G's trace, with this percentage of steps corrupted.
    Flawed(u8),
    /// R: content controls.
    Control,
}

const DIGITS: &str = "digits";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Human => f.write_str("H"),
            Source::Dialect(label) if label == DIGITS => f.write_str("HD"),
            Source::Dialect(label) => write!(f, "H@{label}"),
            Source::Correct => f.write_str("G"),
            Source::Wrong => f.write_str("W"),
            Source::Paraphrased => f.write_str("P"),
            Source::Flawed(percent) => write!(f, "F{percent}"),
            Source::Control => f.write_str("R"),
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
            "HD" => Source::Dialect(DIGITS.to_owned()),
            "G" => Source::Correct,
            "W" => Source::Wrong,
            "P" => Source::Paraphrased,
            "R" => Source::Control,
            _ => {
                if let Some(label) = text.strip_prefix("H@").filter(|label| !label.is_empty()) {
                    return Ok(Source::Dialect(label.to_owned()));
                }
                let percent = text
                    .strip_prefix('F')
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
                let percent: u8 = percent.and_then(|p| p.parse().ok()).ok_or_else(unknown)?;
                if !(1..=100).contains(&percent) {
                    return Err(unknown());
                }
                Source::Flawed(percent)
            }
        })
    }
}

/// One source of an arm with its share of the arm's problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where its traces come from.
    pub source: Source,
    /// In (0, 1].
    pub share: f64,
}

/// A named arm and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmSpec {
    /// Names the arm's file: letters, digits and `_ - . ~ + @`.
    pub name: String,
    /// One for a plain arm, several for a mixture; shares add up to 1.
    pub parts: Vec<Part>,
}

/// Why a spec cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No such source.
    #[error(
        "no source of traces is called `{source_name}`; there are H (human), HD or H@LABEL (other human dialects), G (sampled, correct), W (sampled, wrong), P (paraphrased), F1 to F100 (flawed, percent of steps) and R (control), and mixtures such as W:0.5+G:0.5"
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
    /// Shares that do not divide the arm.
    #[error(
        "the shares of `{text}` do not divide an arm; give each part a share above 0, adding up to 1, or none a share"
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
            parts: vec![Part { source, share: 1.0 }],
        }
    }

    /// The spec in its own language, without the name.
    pub fn spec(&self) -> String {
        match self.parts.as_slice() {
            [only] => only.source.to_string(),
            parts => parts
                .iter()
                .map(|p| format!("{}:{}", p.source, p.share))
                .collect::<Vec<_>>()
                .join("+"),
        }
    }
}

/// Reads `NAME=SPEC`; a bare source such as `W` is `W=W`.
impl FromStr for ArmSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, spec) = text.split_once('=').unwrap_or((text, text));
        if name.is_empty() || spec.is_empty() {
            return Err(SpecError::Shape {
                text: text.to_owned(),
            });
        }
        let parts = parts(spec)?;
        let names_a_file = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.~+@".contains(c));
        if !names_a_file {
            return Err(SpecError::Name {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            parts,
        })
    }
}

fn parts(spec: &str) -> Result<Vec<Part>, SpecError> {
    let bad_shares = || SpecError::Shares {
        text: spec.to_owned(),
    };
    let read: Vec<(Source, Option<f64>)> = spec
        .split('+')
        .map(|part| match part.split_once(':') {
            Some((source, share)) => {
                let share: f64 = share.trim().parse().map_err(|_| bad_shares())?;
                Ok((source.trim().parse()?, Some(share)))
            }
            None => Ok((part.trim().parse()?, None)),
        })
        .collect::<Result<_, SpecError>>()?;
    let equal = 1.0 / read.len() as f64;
    let shares: Vec<f64> = if read.iter().all(|(_, share)| share.is_none()) {
        vec![equal; read.len()]
    } else {
        read.iter()
            .map(|(_, share)| share.unwrap_or(f64::NAN))
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
        .map(|((source, _), share)| Part { source, share })
        .collect())
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
            "F25",
            "F100",
        ] {
            let arm = spec(&format!("x={name}"));
            assert_eq!(
                (arm.name.as_str(), arm.spec().as_str(), arm.parts.len()),
                ("x", name, 1)
            );
        }
        assert_eq!(spec("W"), spec("W=W"));
        assert_eq!(spec("HD").parts[0].source, Source::Dialect("digits".into()));
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
    fn unknown_sources_are_refused_with_a_list() {
        for bad in [
            "X", "x=F0", "x=F101", "x=Ffoo", "x=F", "x=F999", "x=H@", "x=S", "x=W+Z", "x=w",
        ] {
            assert!(error(bad).contains("F1 to F100"), "{bad}: {}", error(bad));
        }
        assert!(error("=W").contains("NAME=SPEC"));
        assert!(error("../W=W").contains("cannot name an arm"));
        assert!(error(".W=W").contains("cannot name an arm"));
    }
}
