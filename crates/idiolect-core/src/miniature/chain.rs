//! Chains of arithmetic steps and the style M that writes them.
//!
//! A chain turns some numbers into one: each step takes two values that are still unused (a given
//! number or an earlier result) and leaves its result. In style M, with its answer expression:
//!
//! ```text
//! 3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2
//! ```
//!
//! [`Chain::parse`] reads the form of a step, not its truth: flawed chains are chains too.
//! Values live in 0..=99, the numbers that the miniature's vocabulary has a token for.

use std::fmt;

/// The largest value that has a token.
pub const MAX_VALUE: u32 = 99;

/// The four operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`, exact
    Div,
}

impl Op {
    /// All four, in the order of their symbols above.
    pub const ALL: [Self; 4] = [Self::Add, Self::Sub, Self::Mul, Self::Div];

    /// As style M writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
        }
    }

    /// The operation of a symbol.
    pub fn of(symbol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.symbol() == symbol)
    }

    /// `left op right`, where it is a whole number in 0..=[`MAX_VALUE`].
    pub fn apply(self, left: u32, right: u32) -> Option<u32> {
        let result = match self {
            Self::Add => left.checked_add(right),
            Self::Sub => left.checked_sub(right),
            Self::Mul => left.checked_mul(right),
            Self::Div => (right != 0 && left.is_multiple_of(right)).then(|| left / right),
        };
        result.filter(|&value| value <= MAX_VALUE)
    }
}

/// One step, `left op right = result`; the result is what is written, right or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// Left operand.
    pub left: u32,
    /// Operation.
    pub op: Op,
    /// Right operand.
    pub right: u32,
    /// What the step states that it gives.
    pub result: u32,
}

impl Step {
    /// The true step of two operands, where its result is in the vocabulary.
    pub fn of(left: u32, op: Op, right: u32) -> Option<Self> {
        Some(Self {
            left,
            op,
            right,
            result: op.apply(left, right)?,
        })
    }

    /// Whether the result is the true one.
    pub fn is_valid(&self) -> bool {
        self.op.apply(self.left, self.right) == Some(self.result)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [left, op, right, "=", result] = words[..] else {
            return None;
        };
        Some(Self {
            left: value(left)?,
            op: Op::of(op)?,
            right: value(right)?,
            result: value(result)?,
        })
    }
}

/// A value as the vocabulary writes it: no sign, no leading zero, at most [`MAX_VALUE`].
fn value(word: &str) -> Option<u32> {
    let number: u32 = word.parse().ok()?;
    (number <= MAX_VALUE && word == number.to_string()).then_some(number)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} = {}",
            self.left,
            self.op.symbol(),
            self.right,
            self.result
        )
    }
}

/// At least one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// In order.
    pub steps: Vec<Step>,
}

impl Chain {
    /// What the last step states.
    pub fn result(&self) -> Option<u32> {
        self.steps.last().map(|step| step.result)
    }

    /// For each step, the earlier steps that its left and right operands come from; `None` is a
    /// given number. Operands are matched by value, the latest unused result first (equal values
    /// make equal expressions).
    pub fn sources(&self) -> Vec<[Option<usize>; 2]> {
        let mut unused: Vec<usize> = Vec::new();
        let mut sources = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            sources.push([step.left, step.right].map(|operand| {
                let place = unused
                    .iter()
                    .rposition(|&earlier| self.steps[earlier].result == operand)?;
                Some(unused.remove(place))
            }));
            unused.push(at);
        }
        sources
    }

    /// The answer expression: the last step with every operand that an earlier step gave replaced
    /// by that step in brackets. `None` where an earlier result is never used.
    pub fn expression(&self) -> Option<String> {
        self.expression_from(&self.sources())
    }

    /// The answer expression when the operands come from these `sources`.
    pub(crate) fn expression_from(&self, sources: &[[Option<usize>; 2]]) -> Option<String> {
        let mut parts: Vec<Option<String>> = Vec::with_capacity(self.steps.len());
        for (step, [left, right]) in self.steps.iter().zip(sources) {
            let left = operand(&mut parts, *left, step.left)?;
            let right = operand(&mut parts, *right, step.right)?;
            parts.push(Some(format!("{left} {} {right}", step.op.symbol())));
        }
        let last = parts.pop()?;
        if parts.iter().all(Option::is_none) {
            last
        } else {
            None
        }
    }

    /// Style M: the steps, then the answer expression. `None` where there is none.
    pub fn text(&self) -> Option<String> {
        Some(format!("{self} | ans {}", self.expression()?))
    }

    /// Reads a text of style M: its chain and its answer expression as written.
    pub fn parse(text: &str) -> Option<(Self, String)> {
        let (steps, answer) = text.split_once('|')?;
        let chain = Self::of_steps(steps)?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let (&"ans", expression) = words.split_first()? else {
            return None;
        };
        let known = |word: &&str| {
            matches!(*word, "(" | ")") || Op::of(word).is_some() || value(word).is_some()
        };
        (!expression.is_empty() && expression.iter().all(known))
            .then(|| (chain, expression.join(" ")))
    }

    /// Reads `3 * 7 = 21 ; 21 - 2 = 19`.
    pub(crate) fn of_steps(text: &str) -> Option<Self> {
        let steps = text.split(';').map(Step::parse).collect::<Option<_>>()?;
        Some(Self { steps })
    }

    /// The numbers that the chain starts from: operands that no earlier step gave, in order.
    pub fn numbers(&self) -> Vec<u32> {
        let operands = self.steps.iter().flat_map(|step| [step.left, step.right]);
        let sources = self.sources().into_iter().flatten();
        operands
            .zip(sources)
            .filter(|(_, source)| source.is_none())
            .map(|(number, _)| number)
            .collect()
    }
}

/// The text of an operand: an earlier step in brackets, taken from `parts`, or the number itself.
fn operand(parts: &mut [Option<String>], source: Option<usize>, value: u32) -> Option<String> {
    match source {
        Some(step) => parts
            .get_mut(step)?
            .take()
            .map(|part| format!("( {part} )")),
        None => Some(value.to_string()),
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            let separator = if at == 0 { "" } else { " ; " };
            write!(f, "{separator}{step}")?;
        }
        Ok(())
    }
}

/// All chains of true steps that use each of three numbers once and end above 0, in ascending
/// order, each once.
pub fn chains_of(numbers: [u32; 3]) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (i, j, k) in [
        (0, 1, 2),
        (1, 0, 2),
        (0, 2, 1),
        (2, 0, 1),
        (1, 2, 0),
        (2, 1, 0),
    ] {
        for first in Op::ALL
            .iter()
            .filter_map(|&op| Step::of(numbers[i], op, numbers[j]))
        {
            let (r, c) = (first.result, numbers[k]);
            let second = Op::ALL
                .iter()
                .flat_map(|&op| [Step::of(r, op, c), Step::of(c, op, r)])
                .flatten();
            chains.extend(second.filter(|s| s.result > 0).map(|second| Chain {
                steps: vec![first, second],
            }));
        }
    }
    chains.sort_unstable();
    chains.dedup();
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_m_reads_back_as_written() {
        for chain in chains_of([2, 3, 7]) {
            let text = chain.text().unwrap();
            let (read, expression) = Chain::parse(&text).unwrap();
            assert_eq!(read, chain);
            assert_eq!(Some(expression), chain.expression());
        }
    }

    #[test]
    fn the_example_of_the_module_is_21_tokens_with_its_end() {
        let steps = vec![
            Step::of(3, Op::Mul, 7).unwrap(),
            Step::of(21, Op::Sub, 2).unwrap(),
        ];
        let text = Chain { steps }.text().unwrap();
        assert_eq!(text, "3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2");
        assert_eq!(text.split(' ').count() + 1, 21);
    }

    #[test]
    fn a_result_may_stand_on_the_right() {
        let steps = vec![
            Step::of(2, Op::Add, 3).unwrap(),
            Step::of(15, Op::Div, 5).unwrap(),
        ];
        assert_eq!(Chain { steps }.expression().unwrap(), "15 / ( 2 + 3 )");
    }

    #[test]
    fn chains_use_each_number_once() {
        for numbers in [[1, 1, 1], [2, 3, 7], [5, 5, 10], [15, 15, 15]] {
            let chains = chains_of(numbers);
            assert!(!chains.is_empty());
            for chain in chains {
                let mut used = chain.numbers();
                used.sort_unstable();
                assert_eq!(used, numbers, "{chain}");
                assert!(chain.steps.iter().all(Step::is_valid));
            }
        }
    }

    #[test]
    fn other_texts_are_not_style_m() {
        for text in [
            "",
            "3 + 4 = 7",
            "3 + 4 = 7 | ans",
            "3 + 4 | ans 3 + 4",
            "3 + 04 = 7 | ans 3 + 4",
            "50 + 50 = 100 | ans 50 + 50",
            "3 + 4 = 7 | ans three",
        ] {
            assert_eq!(Chain::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_chain_that_drops_a_result_has_no_expression() {
        let (chain, _) = Chain::parse("3 + 4 = 7 ; 3 + 2 = 5 | ans 3 + 2").unwrap();
        assert_eq!(chain.expression(), None);
    }
}
