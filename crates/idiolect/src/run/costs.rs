//! What a run costs, in floating-point operations, by unit of work: the basis of the time left and
//! of `--dry-run`. Training counts 6 × parameters × tokens, writing and scoring 2 ×.

use idiolect_core::miniature::stories::{self, StorySettings};
use idiolect_core::miniature::{ModelShape, WorldSettings};

use super::layout::World;
use super::recipe::{MiniatureWorld, Recipe, ScratchModel, Shape, Source};

/// Tokens of a GSM8K row, prompt included, as its own student's vocabulary cuts it: about.
const GSM8K_ROW_TOKENS: f64 = 250.0;
/// Rows of GSM8K's train file.
const GSM8K_TRAIN_ROWS: f64 = 7473.0;
/// GSM8K problems with published traces, and distinct published traces of kind `cot`: about.
const GSM8K_PROBLEMS: f64 = 651.0;
const GSM8K_TRACES: f64 = 3700.0;
/// Tokens of a miniature problem's prompt with its response: about.
const COUNTDOWN_ROW_TOKENS: f64 = 31.0;
const STORY_ROW_TOKENS: f64 = 70.0;

/// Sizes that decide the work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) student: f64,
    pub(crate) teacher: f64,
    pub(crate) student_tokens: f64,
    pub(crate) teacher_tokens: f64,
    pub(crate) row_tokens: f64,
    pub(crate) train_problems: f64,
    pub(crate) test_problems: f64,
    pub(crate) given_traces: f64,
}

/// The sizes of one world of a recipe; an existing student counts as the recipe's own.
pub(crate) fn sizes(recipe: &Recipe) -> Sizes {
    match &recipe.source {
        Source::Miniature { world, size } => miniature(recipe, *world, size),
        Source::Gsm8kTraces {
            dev_share,
            test_share,
            ..
        } => Sizes {
            student: recipe
                .pretrain
                .student
                .shape
                .as_ref()
                .map_or(1e6, parameters),
            teacher: 0.0,
            student_tokens: GSM8K_TRAIN_ROWS
                * GSM8K_ROW_TOKENS
                * recipe.pretrain.student.epochs as f64,
            teacher_tokens: 0.0,
            row_tokens: GSM8K_ROW_TOKENS,
            train_problems: GSM8K_PROBLEMS * (1.0 - dev_share - test_share),
            test_problems: GSM8K_PROBLEMS * test_share,
            given_traces: GSM8K_TRACES,
        },
    }
}

/// The sizes of a generated world.
fn miniature(recipe: &Recipe, world: MiniatureWorld, size: &str) -> Sizes {
    let epochs = |model: Option<&ScratchModel>| model.map_or(0, |m| m.epochs) as f64;
    let teacher_epochs = epochs(recipe.pretrain.teacher.as_ref());
    let student_epochs = epochs(Some(&recipe.pretrain.student));
    let parameters = |shape: &ModelShape, vocabulary: usize| shape.parameters(vocabulary) as f64;
    match world {
        MiniatureWorld::Countdown => {
            let world = WorldSettings::named(size).unwrap_or_default();
            let words = idiolect_core::miniature::vocabulary().len();
            Sizes {
                student: parameters(&world.student, words),
                teacher: parameters(&world.teacher, words),
                student_tokens: world.student_tokens as f64 * student_epochs,
                teacher_tokens: world.teacher_tokens as f64 * teacher_epochs,
                row_tokens: COUNTDOWN_ROW_TOKENS,
                train_problems: world.train_problems as f64,
                test_problems: world.test_problems as f64,
                given_traces: 0.0,
            }
        }
        MiniatureWorld::Stories => {
            let world = StorySettings::named(size).unwrap_or_default();
            let words = stories::vocabulary().len();
            Sizes {
                student: parameters(&world.student, words),
                teacher: parameters(&world.teacher, words),
                student_tokens: world.student_tokens as f64 * student_epochs,
                teacher_tokens: world.teacher_tokens as f64 * teacher_epochs,
                row_tokens: STORY_ROW_TOKENS,
                train_problems: world.train_problems as f64,
                test_problems: world.test_problems as f64,
                given_traces: 0.0,
            }
        }
    }
}

fn parameters(shape: &Shape) -> f64 {
    let layer = 4 * shape.hidden * shape.hidden + 3 * shape.hidden * shape.intermediate;
    (shape.vocabulary * shape.hidden + shape.layers * layer) as f64
}

/// The units of a whole run with their costs.
pub(crate) fn units(recipe: &Recipe) -> Vec<(String, f64)> {
    (0..recipe.worlds)
        .flat_map(|number| world_units(recipe, number))
        .collect()
}

/// The name of a unit: within the only world as it is, else with the world before it.
pub(crate) fn unit(recipe: &Recipe, number: usize, name: &str) -> String {
    if recipe.worlds == 1 {
        name.to_owned()
    } else {
        format!("{} {name}", World::name(number))
    }
}

/// A fine-tuning's unit.
pub(crate) fn finetune_unit(recipe: &Recipe, number: usize, arm: &str, seed: u64) -> String {
    unit(recipe, number, &format!("{arm}/{seed}"))
}

/// The units of one world with their costs.
pub(crate) fn world_units(recipe: &Recipe, number: usize) -> Vec<(String, f64)> {
    let s = sizes(recipe);
    let name = |n: &str| unit(recipe, number, n);
    let samples = recipe
        .sample
        .as_ref()
        .map_or(0, |sample| sample.per_problem) as f64;
    let sampled = s.train_problems * samples;
    let traces = sampled + s.given_traces + s.train_problems * (2.0 + recipe.doses.len() as f64);
    let rows = recipe.arms.rows.map_or(s.train_problems, |r| r as f64);
    let answers = s.test_problems * (1 + recipe.eval.samples) as f64;
    let tune = 6.0 * s.student * rows * s.row_tokens * recipe.finetune.epochs as f64
        + 2.0 * s.student * answers * s.row_tokens;
    let mut units = vec![
        (name("student"), 6.0 * s.student * s.student_tokens),
        (name("teacher"), 6.0 * s.teacher * s.teacher_tokens),
        (
            name("traces"),
            2.0 * s.teacher * s.row_tokens * (sampled + 2.0 * s.train_problems),
        ),
        (name("score"), 2.0 * s.student * s.row_tokens * traces),
        (name("base/0"), 2.0 * s.student * answers * s.row_tokens),
    ];
    for arm in &recipe.arms.listed() {
        for seed in 0..recipe.finetune.seeds as u64 {
            units.push((finetune_unit(recipe, number, arm, seed), tune));
        }
    }
    units
}
