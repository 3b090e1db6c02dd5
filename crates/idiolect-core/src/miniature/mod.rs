//! The miniature world: everything the built-in experiment starts from, made from one seed.
//!
//! Countdown problems of three numbers, human-style solutions, a whole-word tokenizer, two model
//! shapes and the texts that a student and a teacher are pretrained on. Nothing is downloaded and
//! nothing is trained here; the program trains on these texts and treats the results like any
//! other models. Sizes follow a prototype; `docs/miniature.md` states why each is as it is.
//!
//! The same settings give the same bytes. Problems are the same in every world; the seed decides
//! their split, the order of their numbers, their human solutions and the texts.

pub mod chain;
mod corpus;
mod model;
pub mod prose;
pub mod stories;
mod vocabulary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

pub use self::corpus::TextRow;
pub use self::model::{ModelFamily, ModelShape, config_json};
pub use self::vocabulary::{EOS, UNK, tokenizer_config_json, tokenizer_json, vocabulary};

use self::chain::{Chain, chains_of};
use self::prose::Numerals;
use crate::record::{Finish, Origin, OriginKind, Problem, Split, TaskName, Trace};
use idiolect_model::Rng;

/// The largest number that a problem may give.
pub const MAX_NUMBER: u32 = 15;
/// How many problems of numbers up to [`MAX_NUMBER`] there are: pairs of three numbers, in any
/// order, and a target.
pub const PROBLEMS: usize = 8_119;

/// What prose a student reads before the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudentProse {
    /// Plain sentences in number words: H shares its words, not its sentences.
    Plain,
    /// The prose style H itself, on given numbers but without targets; the few solved problems are in
    /// it too. The human style is then this student's own.
    Human,
}

/// How large a world is, and its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldSettings {
    /// Decides everything that is chance.
    pub seed: u64,
    /// Problems give numbers of 1 to this, at most [`MAX_NUMBER`].
    pub max_number: u32,
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
    /// Prose in the student's texts.
    pub student_prose: StudentProse,
    /// Size of the student.
    pub student: ModelShape,
    /// Size of the teacher.
    pub teacher: ModelShape,
}

impl Default for WorldSettings {
    /// The built-in experiment's.
    fn default() -> Self {
        Self {
            seed: 0,
            max_number: MAX_NUMBER,
            test_problems: 600,
            dev_problems: 150,
            train_problems: 1_650,
            teacher_problems: 5_719,
            student_tokens: 3_070_000,
            teacher_tokens: 2_150_000,
            student_prose: StudentProse::Plain,
            student: ModelShape::STUDENT,
            teacher: ModelShape::TEACHER,
        }
    }
}

impl WorldSettings {
    /// A world that is made and trained on in seconds, for tests of the whole program: so few
    /// numbers that its teacher is right about one time in ten, and every arm has some problems.
    pub fn tiny() -> Self {
        Self {
            max_number: 4,
            test_problems: 16,
            dev_problems: 8,
            train_problems: 48,
            teacher_problems: 100,
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

    /// The larger world of `scale=full`: more problems to train and test on, fewer for the teacher.
    pub fn full() -> Self {
        Self {
            test_problems: 1_000,
            train_problems: 2_250,
            teacher_problems: 4_719,
            ..Self::default()
        }
    }

    /// The sizes that recipes name: `default`, `tiny` and `full`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default()),
            "tiny" => Some(Self::tiny()),
            "full" => Some(Self::full()),
            _ => None,
        }
    }

    fn problems(&self) -> usize {
        [
            self.dev_problems,
            self.train_problems,
            self.teacher_problems,
        ]
        .iter()
        .fold(self.test_problems, |sum, n| sum.saturating_add(*n))
    }
}

/// Why there is no such world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// Numbers that there is no word or sense for.
    #[error("`max_number` is {max_number}; expected 1 to {MAX_NUMBER}")]
    MaxNumber {
        /// As given.
        max_number: u32,
    },
    /// More problems than exist.
    #[error(
        "the splits ask for {asked} problems and there are {available}; lower one of `test_problems`, `dev_problems`, `train_problems`, `teacher_problems`"
    )]
    TooManyProblems {
        /// Their sum.
        asked: usize,
        /// With numbers up to `max_number`.
        available: usize,
    },
    /// Nothing for the pretraining texts to solve.
    #[error(
        "`teacher_problems` is 0, but the pretraining texts need problems to solve; set it to at least 1"
    )]
    NoTeacherProblems,
    /// A shape that no decoder can have.
    #[error(
        "`{which}` has width {hidden} and {heads} heads; the width must be a multiple of twice the heads, and no size may be 0"
    )]
    Shape {
        /// `student` or `teacher`.
        which: &'static str,
        /// Its width.
        hidden: usize,
        /// Its heads.
        heads: usize,
    },
}

/// Three numbers in ascending order and a target: what makes two problems the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProblemKey {
    /// Ascending.
    pub numbers: [u32; 3],
    /// Above 0.
    pub target: u32,
}

impl ProblemKey {
    /// `countdown/mini/2-3-7-19`.
    pub fn id(&self) -> String {
        let [a, b, c] = self.numbers;
        format!("countdown/mini/{a}-{b}-{c}-{}", self.target)
    }
}

/// A world that was made; see [`World::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    settings: WorldSettings,
    /// All chains of each three numbers, whatever they give.
    chains: BTreeMap<[u32; 3], Vec<Chain>>,
    splits: BTreeMap<ProblemKey, Split>,
}

impl World {
    /// Enumerates the problems and splits them.
    pub fn new(settings: WorldSettings) -> Result<Self, WorldError> {
        check(&settings)?;
        let chains = all_chains(settings.max_number);
        let splits = split(&chains, &settings)?;
        Ok(Self {
            settings,
            chains,
            splits,
        })
    }

    /// What it was made from.
    pub fn settings(&self) -> &WorldSettings {
        &self.settings
    }

    /// All problems of the four splits, ordered by their numbers and target; `human` holds a
    /// solution in style H. Texts that follow a prompt start with a space.
    pub fn problems(&self) -> Vec<Problem> {
        self.splits
            .iter()
            .map(|(key, split)| self.problem(*key, *split))
            .collect()
    }

    /// The human solution of each problem of a split with its numbers in words (H: the problem's
    /// own `human` text) or in digits (HD).
    pub fn human_traces(&self, split: Split, numerals: Numerals) -> Vec<Trace> {
        let of_split = self.splits.iter().filter(|(_, s)| **s == split);
        let trace = |(key, _): (&ProblemKey, &Split)| {
            let mut origin = Origin::of(OriginKind::Human);
            if numerals == Numerals::Digits {
                origin.ops.push(json!({"op": "digits"}));
            }
            Some(Trace::new(
                &key.id(),
                &self.human(*key, numerals)?,
                Finish::Stop,
                origin,
            ))
        };
        of_split.filter_map(trace).collect()
    }

    /// The texts that the student is pretrained on, shuffled.
    pub fn student_corpus(&self) -> Vec<TextRow> {
        corpus::student(self)
    }

    /// The texts that the teacher is pretrained on, shuffled.
    pub fn teacher_corpus(&self) -> Vec<TextRow> {
        corpus::teacher(self)
    }

    fn rng(&self, key: &[&str]) -> Rng {
        let key: Vec<&str> = ["miniature"].iter().chain(key).copied().collect();
        Rng::keyed(self.settings.seed, &key)
    }

    fn problem(&self, key: ProblemKey, split: Split) -> Problem {
        let mut numbers = key.numbers;
        self.rng(&["order", &key.id()]).shuffle(&mut numbers);
        let [a, b, c] = numbers;
        Problem {
            id: key.id(),
            task: TaskName::Countdown,
            question: format!(
                "Using the numbers {a}, {b} and {c}, each exactly once, and the operations +, -, * and /, make {}.",
                key.target
            ),
            gold: json!({"numbers": numbers, "target": key.target}),
            human: self.human(key, Numerals::Words),
            split,
            extra: Map::new(),
        }
    }

    /// Starts with a space, as everything that follows a prompt does.
    fn human(&self, key: ProblemKey, numerals: Numerals) -> Option<String> {
        let mut rng = self.rng(&["human", &key.id()]);
        let chain = *rng.choose(&self.solutions(key))?;
        prose::human(chain, numerals, &mut rng).map(|text| format!(" {text}"))
    }

    fn solutions(&self, key: ProblemKey) -> Vec<&Chain> {
        let chains = self.chains.get(&key.numbers).into_iter().flatten();
        chains
            .filter(|chain| chain.result() == Some(key.target))
            .collect()
    }
}

fn check(settings: &WorldSettings) -> Result<(), WorldError> {
    let max_number = settings.max_number;
    if !(1..=MAX_NUMBER).contains(&max_number) {
        return Err(WorldError::MaxNumber { max_number });
    }
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
    Ok(())
}

fn all_chains(max_number: u32) -> BTreeMap<[u32; 3], Vec<Chain>> {
    let mut chains = BTreeMap::new();
    for a in 1..=max_number {
        for b in a..=max_number {
            for c in b..=max_number {
                chains.insert([a, b, c], chains_of([a, b, c]));
            }
        }
    }
    chains
}

/// Every problem that some chain solves, in a seeded order, dealt to the splits. What the splits
/// leave over belongs to none.
fn split(
    chains: &BTreeMap<[u32; 3], Vec<Chain>>,
    settings: &WorldSettings,
) -> Result<BTreeMap<ProblemKey, Split>, WorldError> {
    let of_numbers = |(numbers, chains): (&[u32; 3], &Vec<Chain>)| {
        let mut targets: Vec<u32> = chains.iter().filter_map(Chain::result).collect();
        targets.sort_unstable();
        targets.dedup();
        let numbers = *numbers;
        targets
            .into_iter()
            .map(move |target| ProblemKey { numbers, target })
            .collect::<Vec<_>>()
    };
    let mut keys: Vec<ProblemKey> = chains.iter().flat_map(of_numbers).collect();
    let (asked, available) = (settings.problems(), keys.len());
    if asked > available {
        return Err(WorldError::TooManyProblems { asked, available });
    }
    Rng::keyed(settings.seed, &["miniature", "split"]).shuffle(&mut keys);
    let parts = [
        (Split::Test, settings.test_problems),
        (Split::Dev, settings.dev_problems),
        (Split::Train, settings.train_problems),
        (Split::Teacher, settings.teacher_problems),
    ];
    let labels = parts
        .into_iter()
        .flat_map(|(split, n)| std::iter::repeat_n(split, n));
    Ok(keys.into_iter().zip(labels).collect())
}

#[cfg(test)]
mod tests;
