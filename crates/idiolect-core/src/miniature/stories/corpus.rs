//! The texts that the models of the stories are pretrained on.
//!
//! Shares are of tokens, end tokens counted. Generic text is arithmetic facts, chains, and stories
//! without a question that go on with a chain on some of their numbers, which aims at nothing. The
//! student also reads prose and a few solved problems, so that it knows the format; the teacher
//! reads many, and learns to rewrite prose H as style M. Solved are plots of the split `teacher`
//! only, written anew each time.

use super::plot::{Event, Plot};
use super::{STEPS, StoryWorld, narrate, solution};
use crate::miniature::TextRow;
use crate::miniature::chain::{Chain, MAX_VALUE, Op, Step};
use crate::miniature::prose::{self, Numerals};
use crate::record::Split;
use idiolect_model::Rng;

/// One kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `3 * 7 = 21 ; 40 - 9 = 31 ; …`: separate facts, joined to save rows.
    Facts,
    /// `3 * 7 = 21 ; 21 - 2 = 19 | #### 19`
    Chains,
    /// A story without its question, and a chain on numbers of it.
    Aimless,
    /// A problem and its solution in style M.
    Solved,
    /// A chain in plain sentences.
    Prose,
    /// `rewrite <H> | <M>`
    Rewrites,
}

/// Shares of generic text.
const GENERIC: [(Kind, f64); 3] = [
    (Kind::Facts, 0.35),
    (Kind::Chains, 0.20),
    (Kind::Aimless, 0.45),
];

const STUDENT_PROSE: f64 = 0.05;
const STUDENT_SOLVED: f64 = 0.03;
const TEACHER_SOLVED: f64 = 0.60;
const TEACHER_REWRITES: f64 = 0.20;

/// Facts of one row, at most about 128 tokens.
const FACTS_A_ROW: usize = 20;

pub(super) fn student(world: &StoryWorld) -> Vec<TextRow> {
    let own = [(Kind::Prose, STUDENT_PROSE), (Kind::Solved, STUDENT_SOLVED)];
    corpus(world, "student", world.settings.student_tokens, &own)
}

pub(super) fn teacher(world: &StoryWorld) -> Vec<TextRow> {
    let own = [
        (Kind::Solved, TEACHER_SOLVED),
        (Kind::Rewrites, TEACHER_REWRITES),
    ];
    corpus(world, "teacher", world.settings.teacher_tokens, &own)
}

/// `tokens` of text: the model's own kinds at their shares, generic text for the rest.
fn corpus(world: &StoryWorld, model: &str, tokens: usize, own: &[(Kind, f64)]) -> Vec<TextRow> {
    let rest = 1.0 - own.iter().map(|(_, share)| share).sum::<f64>();
    let generic = GENERIC.iter().map(|(kind, share)| (*kind, share * rest));
    let solvable: Vec<&Plot> = world
        .plots
        .values()
        .filter(|(_, split)| *split == Split::Teacher)
        .map(|(plot, _)| plot)
        .collect();
    let mut rows = Vec::new();
    for (kind, share) in own.iter().copied().chain(generic) {
        let mut rng = world.rng(&["corpus", model, &format!("{kind:?}")]);
        let mut left = (tokens as f64 * share) as i64;
        while left > 0 {
            let text = text(kind, &solvable, &mut rng);
            left -= 1 + text.split(' ').count() as i64;
            rows.push(TextRow { text });
        }
    }
    world.rng(&["corpus", model, "order"]).shuffle(&mut rows);
    rows
}

fn text(kind: Kind, solvable: &[&Plot], rng: &mut Rng) -> String {
    match kind {
        Kind::Facts => (0..FACTS_A_ROW)
            .map(|_| fact(rng).to_string())
            .collect::<Vec<_>>()
            .join(" ; "),
        Kind::Chains => solution::in_style_m(&free_chain(rng)),
        Kind::Aimless => aimless(rng),
        Kind::Solved => {
            let plot = solvable[rng.below(solvable.len())];
            let narrative = narrate::narrate(plot, rng);
            format!(
                "{} {} | {}",
                narrative.story,
                narrative.question,
                solution::in_style_m(&plot.chain)
            )
        }
        Kind::Prose => prose::plain(&free_chain(rng)),
        Kind::Rewrites => {
            let plot = solvable[rng.below(solvable.len())];
            format!(
                "rewrite {} | {}",
                solution::human(&plot.chain, Numerals::Words, rng),
                solution::in_style_m(&plot.chain)
            )
        }
    }
}

/// A story of any plot without its question, then true steps on its numbers in any order.
fn aimless(rng: &mut Rng) -> String {
    let plot = Plot::draw(STEPS[rng.below(STEPS.len())], rng);
    let narrative = narrate::narrate(&plot, rng);
    let mut numbers: Vec<u32> = plot
        .events
        .iter()
        .flat_map(|event| match *event {
            Event::Packs(k, n) | Event::GainPacks(k, n) | Event::LoseEach(k, n) => vec![k, n],
            Event::Have(n)
            | Event::Gain(n)
            | Event::Lose(n)
            | Event::Grow(n)
            | Event::Share(n)
            | Event::More(n)
            | Event::Fewer(n)
            | Event::Times(n)
            | Event::Part(n) => vec![n],
        })
        .collect();
    rng.shuffle(&mut numbers);
    let mut value = numbers[0];
    let mut steps = Vec::new();
    for &number in &numbers[1..] {
        let possible: Vec<Step> = Op::ALL
            .iter()
            .filter_map(|&op| Step::of(value, op, number))
            .collect();
        let Some(step) = rng.choose(&possible) else {
            break;
        };
        value = step.result;
        steps.push(*step);
    }
    if steps.is_empty() {
        return narrative.story;
    }
    format!(
        "{} | {}",
        narrative.story,
        solution::in_style_m(&Chain { steps })
    )
}

/// A true step of any two values.
fn fact(rng: &mut Rng) -> Step {
    let value = rng.below(MAX_VALUE as usize + 1) as u32;
    step_from(value, rng)
}

/// A true step that goes on from `value`: with a small number as often as with any.
fn step_from(value: u32, rng: &mut Rng) -> Step {
    loop {
        let top = if rng.chance(0.5) { 12 } else { 40 };
        let number = 1 + rng.below(top) as u32;
        let (left, right) = if rng.chance(0.7) {
            (value, number)
        } else {
            (number, value)
        };
        // Ends: whatever the value, `value - number` or `value + number` is below 100.
        if let Some(step) = Step::of(left, Op::ALL[rng.below(4)], right) {
            return step;
        }
    }
}

/// Two to four steps, each going on from the last result.
fn free_chain(rng: &mut Rng) -> Chain {
    let length = 2 + rng.below(3);
    let mut value = 1 + rng.below(40) as u32;
    let mut steps = Vec::with_capacity(length);
    for _ in 0..length {
        let step = step_from(value, rng);
        value = step.result;
        steps.push(step);
    }
    Chain { steps }
}
