//! Limits on what a file, a flag or a recipe can make large.
//!
//! A number that comes from outside is compared with its budget before anything is computed or
//! allocated by it. Beyond what any experiment needs, and far below what takes the machine.

use thiserror::Error;

/// The most of something, with its name and what to do about more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What is limited, as the subject of a sentence.
    pub what: &'static str,
    /// The least that makes sense.
    pub least: u64,
    /// The most that is taken.
    pub most: u64,
    /// What is counted, in the plural.
    pub unit: &'static str,
    /// What to do instead.
    pub remedy: &'static str,
}

/// More, or less, than a budget takes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} is {asked}: expected {} to {} {}{}", .budget.what, .budget.least, .budget.most, .budget.unit, .budget.advice())]
pub struct OverBudget {
    /// The limit.
    pub budget: Budget,
    /// What was asked for.
    pub asked: u64,
}

impl Budget {
    /// Refuses what lies outside.
    ///
    /// # Errors
    /// States what was asked for, what is taken and what to do.
    pub fn check(&self, asked: u64) -> Result<(), OverBudget> {
        if (self.least..=self.most).contains(&asked) {
            return Ok(());
        }
        Err(OverBudget {
            budget: *self,
            asked,
        })
    }

    /// [`check`](Self::check) of a size.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_size(&self, asked: usize) -> Result<(), OverBudget> {
        self.check(u64::try_from(asked).unwrap_or(u64::MAX))
    }

    fn advice(&self) -> String {
        if self.remedy.is_empty() {
            String::new()
        } else {
            format!("; {}", self.remedy)
        }
    }
}

/// Passes over the rows of a training.
pub const EPOCHS: Budget = Budget {
    what: "`epochs`",
    least: 1,
    most: 100_000,
    unit: "passes over the rows",
    remedy: "",
};

/// Rows, or tokens, of an optimiser step.
pub const STEP_SIZE: Budget = Budget {
    what: "the size of an optimiser step",
    least: 1,
    most: 1 << 30,
    unit: "rows or tokens",
    remedy: "",
};

/// Rank of a low-rank adapter.
pub const RANK: Budget = Budget {
    what: "`r`",
    least: 1,
    most: 1 << 16,
    unit: "(the rank of an adapter)",
    remedy: "published adapters have ranks of 4 to 512",
};

/// Layers that an adapter's settings name.
pub const TARGETS: Budget = Budget {
    what: "the number of names in `target_modules`",
    least: 0,
    most: 1 << 14,
    unit: "names",
    remedy: "a name such as `q_proj` stands for that layer at every depth",
};

/// Samples of a problem, or further tries for one.
pub const SAMPLES: Budget = Budget {
    what: "the number of samples of a problem",
    least: 1,
    most: 100_000,
    unit: "samples",
    remedy: "",
};

/// Completions that a stage asks for, and problems that are drawn.
pub const REQUESTS: Budget = Budget {
    what: "problems times samples",
    least: 0,
    most: 10_000_000,
    unit: "completions",
    remedy: "ask for parts of the problems, or fewer samples, in outputs of their own",
};

/// Tokens of a completion, or of a row.
pub const TOKENS: Budget = Budget {
    what: "the number of tokens",
    least: 1,
    most: 1 << 24,
    unit: "tokens",
    remedy: "no model holds more",
};

/// Independent repetitions of an experiment, or trainings of an arm.
pub const REPETITIONS: Budget = Budget {
    what: "the number of repetitions",
    least: 1,
    most: 10_000,
    unit: "repetitions",
    remedy: "",
};

/// How many values a JSON text holds at most, by its separators outside texts: what it takes once it
/// is read follows from them and not from its length.
pub fn json_values(text: &[u8]) -> usize {
    let (mut in_text, mut escaped, mut values) = (false, false, 0);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' => values += usize::from(!in_text),
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_texts() {
        for (text, values) in [
            (r#""#, 0),
            (r#"{"a":1,"b":[2,3]}"#, 6),
            (r#"["a,\\",",\",{",2]"#, 3),
        ] {
            assert_eq!(json_values(text.as_bytes()), values, "{text}");
        }
    }

    #[test]
    fn what_lies_outside_is_refused_with_both_numbers_and_what_to_do() {
        assert_eq!(RANK.check(1), Ok(()));
        assert_eq!(RANK.check(1 << 16), Ok(()));
        for asked in [0, 1_000_000_000_000] {
            let message = RANK.check(asked).unwrap_err().to_string();
            for part in ["`r`", &asked.to_string(), "65536", "4 to 512"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
