//! The texts that the miniature's two models are pretrained on.
//!
//! Shares are of tokens, end tokens counted. Both models read the same kinds of generic text:
//! arithmetic facts, chains, expressions with their values, and chains on three given numbers that
//! aim at nothing. The student also reads prose and a few solved problems, so that it knows the
//! format; the teacher reads many, and learns to rewrite prose H as style M.
//!
//! Problems are solved for the split `teacher` only: no text joins the numbers and the target of
//! another split's problem. Chains without a target may happen to end in one.

use serde::{Deserialize, Serialize};

use super::chain::{Chain, MAX_VALUE, Op, Step};
use super::prose::{self, Numerals};
use super::{ProblemKey, StudentProse, World};
use crate::record::Split;
use idiolect_model::Rng;

/// One text to pretrain on; the trainer puts the end token behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRow {
    /// Words of the vocabulary, separated by single spaces.
    pub text: String,
}

/// One kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `3 * 7 = 21 , 40 - 9 = 31 , …`: separate facts, joined only to save rows.
    Facts,
    /// `3 * 7 = 21 ; 21 - 2 = 19 ; …`
    Chains,
    /// `( 3 * 7 ) - 2 = 19 , …`
    Expressions,
    /// `nums 3 7 2 | 3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2`
    Aimless,
    /// `nums 3 7 2 -> 19 | 3 * 7 = 21 ; …`
    Solved,
    /// `nums 3 7 2 -> 19 | <H>`
    SolvedInProse,
    /// A chain in prose: plain sentences, or `nums 3 7 2 | <H>`.
    Prose,
    /// `rewrite <H> -> <M>`
    Rewrites,
}

/// Shares of generic text.
const GENERIC: [(Kind, f64); 4] = [
    (Kind::Facts, 0.35),
    (Kind::Chains, 0.25),
    (Kind::Expressions, 0.15),
    (Kind::Aimless, 0.25),
];

const STUDENT_PROSE: f64 = 0.05;
const STUDENT_SOLVED: f64 = 0.03;
const TEACHER_SOLVED: f64 = 0.60;
const TEACHER_REWRITES: f64 = 0.20;

/// Facts and expressions of one row, at most about 128 tokens.
const FACTS_A_ROW: usize = 20;
const EXPRESSIONS_A_ROW: usize = 12;

pub(super) fn student(world: &World) -> Vec<TextRow> {
    // Who reads the human style is shown the format in it too.
    let solved = match world.settings.student_prose {
        StudentProse::Plain => Kind::Solved,
        StudentProse::Human => Kind::SolvedInProse,
    };
    let own = [(Kind::Prose, STUDENT_PROSE), (solved, STUDENT_SOLVED)];
    corpus(world, "student", world.settings.student_tokens, &own)
}

pub(super) fn teacher(world: &World) -> Vec<TextRow> {
    let own = [
        (Kind::Solved, TEACHER_SOLVED),
        (Kind::Rewrites, TEACHER_REWRITES),
    ];
    corpus(world, "teacher", world.settings.teacher_tokens, &own)
}

/// `tokens` of text: the model's own kinds at their shares, generic text for the rest.
fn corpus(world: &World, model: &str, tokens: usize, own: &[(Kind, f64)]) -> Vec<TextRow> {
    let rest = 1.0 - own.iter().map(|(_, share)| share).sum::<f64>();
    let generic = GENERIC.iter().map(|(kind, share)| (*kind, share * rest));
    let mut source = Source::new(world);
    let mut rows = Vec::new();
    for (kind, share) in own.iter().copied().chain(generic) {
        let mut rng = world.rng(&["corpus", model, &format!("{kind:?}")]);
        let mut left = (tokens as f64 * share) as i64;
        while left > 0 {
            let text = source.text(kind, &mut rng);
            left -= 1 + text.split(' ').count() as i64;
            rows.push(TextRow { text });
        }
    }
    world.rng(&["corpus", model, "order"]).shuffle(&mut rows);
    rows
}

/// Where the texts take their numbers and problems from.
struct Source<'a> {
    world: &'a World,
    /// Problems that may be solved, dealt out in turn, reshuffled when all were used.
    problems: Vec<ProblemKey>,
    next: usize,
}

impl<'a> Source<'a> {
    fn new(world: &'a World) -> Self {
        let teacher = world
            .splits
            .iter()
            .filter(|(_, split)| **split == Split::Teacher);
        let problems: Vec<ProblemKey> = teacher.map(|(key, _)| *key).collect();
        Self {
            world,
            next: problems.len(),
            problems,
        }
    }

    fn text(&mut self, kind: Kind, rng: &mut Rng) -> String {
        match kind {
            Kind::Facts => join((0..FACTS_A_ROW).map(|_| self.fact(rng).to_string())),
            Kind::Chains => self.free_chain(rng).to_string(),
            Kind::Expressions => {
                join((0..EXPRESSIONS_A_ROW).map(|_| equation(self.any_chain(rng).1)))
            }
            Kind::Aimless => {
                let ([a, b, c], chain) = self.any_chain(rng);
                format!("nums {a} {b} {c} | {}", written(chain))
            }
            Kind::Solved | Kind::SolvedInProse => {
                let (key, chain) = self.solution(rng);
                let [a, b, c] = shuffled(key.numbers, rng);
                let solution = match kind {
                    Kind::Solved => written(chain),
                    _ => in_prose(chain, rng),
                };
                format!("nums {a} {b} {c} -> {} | {solution}", key.target)
            }
            Kind::Prose => match self.world.settings.student_prose {
                StudentProse::Plain => prose::plain(&self.free_chain(rng)),
                StudentProse::Human => {
                    let ([a, b, c], chain) = self.any_chain(rng);
                    format!("nums {a} {b} {c} | {}", in_prose(chain, rng))
                }
            },
            Kind::Rewrites => {
                let chain = self.solution(rng).1;
                format!("rewrite {} -> {}", in_prose(chain, rng), written(chain))
            }
        }
    }

    /// Three numbers in any order and one of their chains.
    fn any_chain(&self, rng: &mut Rng) -> ([u32; 3], &'a Chain) {
        let numbers = [(); 3].map(|()| self.number(rng));
        let mut sorted = numbers;
        sorted.sort_unstable();
        let chain = rng
            .choose(&self.world.chains[&sorted])
            .expect("numbers can always be added or subtracted");
        (numbers, chain)
    }

    fn number(&self, rng: &mut Rng) -> u32 {
        1 + rng.below(self.world.settings.max_number as usize) as u32
    }

    /// A true step: half of them on two given numbers, like a first step, half with any value on one
    /// side, like a second.
    fn fact(&self, rng: &mut Rng) -> Step {
        if rng.chance(0.5) {
            let left = self.number(rng);
            self.step_from(left, rng)
        } else {
            let top = MAX_VALUE.min(self.world.settings.max_number.pow(3));
            self.step_from(rng.below(top as usize + 1) as u32, rng)
        }
    }

    /// A true step of `value` and a given number, on either side.
    fn step_from(&self, value: u32, rng: &mut Rng) -> Step {
        loop {
            let number = self.number(rng);
            let op = Op::ALL[rng.below(4)];
            let (left, right) = if rng.chance(0.5) {
                (value, number)
            } else {
                (number, value)
            };
            // Ends: whatever the value, `value - number` or `value + number` is in the vocabulary.
            if let Some(step) = Step::of(left, op, right) {
                return step;
            }
        }
    }

    /// Two to four steps, each going on from the last result.
    fn free_chain(&self, rng: &mut Rng) -> Chain {
        let length = 2 + rng.below(3);
        let mut value = self.number(rng);
        let mut steps = Vec::with_capacity(length);
        for _ in 0..length {
            let step = self.step_from(value, rng);
            value = step.result;
            steps.push(step);
        }
        Chain { steps }
    }

    /// The next problem and one of its solutions.
    fn solution(&mut self, rng: &mut Rng) -> (ProblemKey, &'a Chain) {
        if self.next == self.problems.len() {
            rng.shuffle(&mut self.problems);
            self.next = 0;
        }
        let key = self.problems[self.next];
        self.next += 1;
        (
            key,
            rng.choose(&self.world.solutions(key))
                .expect("a problem is a target that some chain gives"),
        )
    }
}

fn written(chain: &Chain) -> String {
    chain
        .text()
        .expect("a chain of three numbers uses its first result")
}

fn in_prose(chain: &Chain, rng: &mut Rng) -> String {
    prose::human(chain, Numerals::Words, rng).expect("a chain of three numbers has two steps")
}

fn equation(chain: &Chain) -> String {
    let [expression, result] = [chain.expression(), chain.result().map(|r| r.to_string())]
        .map(|part| part.expect("a chain of three numbers uses its first result"));
    format!("{expression} = {result}")
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" , ")
}

fn shuffled(mut numbers: [u32; 3], rng: &mut Rng) -> [u32; 3] {
    rng.shuffle(&mut numbers);
    numbers
}
