//! The miniature's second world: word problems of two to four steps in GSM8K's form.
//!
//! A problem is a [`plot::Plot`] in sentences; its answer is a whole number below 100 and it
//! is verified as the task `gsm8k`, `#### 14` and all. People solve it in prose, the models in a
//! style of bare equations that the step checker can recompute:
//!
//! ```text
//! ann has 12 apples . ben gives 5 apples to ann . then ann sells 3 apples . how many apples does ann have now ? |
//! 12 + 5 = 17 ; 17 - 3 = 14 | #### 14
//! ```
//!
//! As in Countdown's world the student reads arithmetic, story-like texts that aim at nothing and a
//! few solved problems; the teacher reads many. No plot is in two splits.

mod corpus;
mod narrate;
pub mod plot;
mod solution;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use self::plot::Plot;
use super::prose::{self, Numerals};
use super::{EOS, ModelShape, TextRow, UNK, WorldError};
use crate::record::{Finish, Origin, OriginKind, Problem, Split, TaskName, Trace};
use idiolect_model::Rng;

/// How large a world of stories is, and its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorySettings {
    /// Decides everything that is chance.
    pub seed: u64,
    /// Problems of split `test`.
    pub test_problems: usize,
    /// Problems of split `dev`.
    pub dev_problems: usize,
    /// Problems of split `train`, which arms are made from.
    pub train_problems: usize,
    /// Problems of split `teacher`: the only ones that pretraining texts solve.
    pub teacher_problems: usize,
    /// Tokens of the student's texts, their end tokens counted.
    pub student_tokens: usize,
    /// Tokens of the teacher's texts, their end tokens counted.
    pub teacher_tokens: usize,
    /// Size of the student.
    pub student: ModelShape,
    /// Size of the teacher.
    pub teacher: ModelShape,
}

impl Default for StorySettings {
    fn default() -> Self {
        Self {
            seed: 0,
            test_problems: 600,
            dev_problems: 150,
            train_problems: 1_650,
            teacher_problems: 8_000,
            student_tokens: 3_070_000,
            teacher_tokens: 2_150_000,
            student: ModelShape::STUDENT,
            teacher: ModelShape::TEACHER,
        }
    }
}

impl StorySettings {
    /// A world that is made and trained on in seconds, for tests of the whole program.
    pub fn tiny() -> Self {
        Self {
            test_problems: 16,
            dev_problems: 8,
            train_problems: 48,
            teacher_problems: 400,
            student_tokens: 150_000,
            teacher_tokens: 400_000,
            student: ModelShape {
                hidden: 32,
                layers: 2,
                heads: 2,
                feed_forward: 64,
            },
            teacher: ModelShape {
                hidden: 48,
                layers: 2,
                heads: 2,
                feed_forward: 96,
            },
            ..Self::default()
        }
    }

    /// The sizes that recipes name: `default` and `tiny`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default()),
            "tiny" => Some(Self::tiny()),
            _ => None,
        }
    }
}

/// A world of stories that was made; see [`StoryWorld::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct StoryWorld {
    settings: StorySettings,
    /// By problem id.
    plots: BTreeMap<String, (Plot, Split)>,
}

impl StoryWorld {
    /// Draws the plots and their splits.
    ///
    /// # Errors
    /// A shape that no decoder can have, or no problems for the pretraining texts.
    pub fn new(settings: StorySettings) -> Result<Self, WorldError> {
        if settings.teacher_problems == 0 {
            return Err(WorldError::NoTeacherProblems);
        }
        for (which, shape) in [("student", settings.student), ("teacher", settings.teacher)] {
            if !shape.is_possible() {
                return Err(WorldError::Shape {
                    which,
                    hidden: shape.hidden,
                    heads: shape.heads,
                });
            }
        }
        let parts = [
            (Split::Test, settings.test_problems),
            (Split::Dev, settings.dev_problems),
            (Split::Train, settings.train_problems),
            (Split::Teacher, settings.teacher_problems),
        ];
        let mut rng = Rng::keyed(settings.seed, &["stories", "plots"]);
        let mut plots: BTreeMap<String, (Plot, Split)> = BTreeMap::new();
        for (split, count) in parts {
            let mut left = count;
            while left > 0 {
                // There are tens of thousands of two-step plots and far more of the longer ones.
                let plot = Plot::draw(STEPS[rng.below(STEPS.len())], &mut rng);
                if let Entry::Vacant(place) = plots.entry(plot.id()) {
                    place.insert((plot, split));
                    left -= 1;
                }
            }
        }
        Ok(Self { settings, plots })
    }

    /// What it was made from.
    pub fn settings(&self) -> &StorySettings {
        &self.settings
    }

    /// All problems of the four splits, ordered by id; `human` holds a solution in prose H. Texts
    /// that follow a prompt start with a space.
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |(id, (plot, split)): (&String, &(Plot, Split))| {
            let narrative = narrate::narrate(plot, &mut self.rng(&["tell", id]));
            Problem {
                id: id.clone(),
                task: TaskName::Gsm8k,
                question: format!("{} {}", narrative.story, narrative.question),
                gold: json!({"answer": plot.answer().to_string()}),
                human: Some(self.human(id, plot, Numerals::Words)),
                split: *split,
                extra: Map::new(),
            }
        };
        self.plots.iter().map(problem).collect()
    }

    /// The human solution of each problem of a split with its numbers in words (H) or digits (HD).
    pub fn human_traces(&self, split: Split, numerals: Numerals) -> Vec<Trace> {
        let of_split = self.plots.iter().filter(|(_, (_, s))| *s == split);
        let trace = |(id, (plot, _)): (&String, &(Plot, Split))| {
            let mut origin = Origin::of(OriginKind::Human);
            if numerals == Numerals::Digits {
                origin.ops.push(json!({"op": "digits"}));
            }
            Trace::new(id, &self.human(id, plot, numerals), Finish::Stop, origin)
        };
        of_split.map(trace).collect()
    }

    /// The texts that the student is pretrained on, shuffled.
    pub fn student_corpus(&self) -> Vec<TextRow> {
        corpus::student(self)
    }

    /// The texts that the teacher is pretrained on, shuffled.
    pub fn teacher_corpus(&self) -> Vec<TextRow> {
        corpus::teacher(self)
    }

    /// Each problem with its plot's own chain in the models' style.
    #[cfg(test)]
    pub(crate) fn solutions(&self) -> Vec<(Problem, String)> {
        let solved = |problem: Problem| {
            let text = format!(
                " {}",
                solution::in_style_m(&self.plots[&problem.id].0.chain)
            );
            (problem, text)
        };
        self.problems().into_iter().map(solved).collect()
    }

    fn human(&self, id: &str, plot: &Plot, numerals: Numerals) -> String {
        let mut rng = self.rng(&["human", id]);
        format!(" {}", solution::human(&plot.chain, numerals, &mut rng))
    }

    fn rng(&self, key: &[&str]) -> Rng {
        let key: Vec<&str> = ["stories"].iter().chain(key).copied().collect();
        Rng::keyed(self.settings.seed, &key)
    }
}

/// A text in the models' style as people tell it, step for step, with its answer as written; `None` of
/// any other text.
pub fn retold(text: &str, rng: &mut Rng) -> Option<String> {
    let (chain, answer) = solution::parse(text)?;
    Some(solution::human_with(&chain, &answer, Numerals::Words, rng))
}

/// Steps of a plot, drawn evenly from these.
const STEPS: [usize; 10] = [2, 2, 2, 3, 3, 3, 3, 4, 4, 4];

const MARKERS: [&str; 9] = ["+", "-", "*", "/", "=", ";", "|", "####", "rewrite"];

/// Every token of the stories' models, its id being its place: numbers, markers, and the words of
/// all phrasings in the order in which they first occur there.
pub fn vocabulary() -> Vec<String> {
    let numbers = (0..=super::chain::MAX_VALUE).map(|n| n.to_string());
    let fixed = [EOS, UNK].into_iter().map(str::to_owned).chain(numbers);
    let words = MARKERS
        .into_iter()
        .chain(prose::UNITS)
        .chain(prose::TENS)
        .chain(narrate::NAMES)
        .chain(narrate::THINGS);
    let phrases = narrate::phrases()
        .chain(solution::phrases())
        .chain(prose::phrases());
    let mut vocabulary: Vec<String> = fixed.collect();
    let mut known: BTreeSet<String> = vocabulary.iter().cloned().collect();
    for word in words.chain(phrases.flat_map(str::split_whitespace)) {
        if !word.starts_with('{') && known.insert(word.to_owned()) {
            vocabulary.push(word.to_owned());
        }
    }
    vocabulary
}

#[cfg(test)]
mod tests;
