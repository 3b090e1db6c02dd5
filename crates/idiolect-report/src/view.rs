//! What the page shows: one plain value that holds every number and text of it.
//!
//! The caller (a finished run, or `idiolect report` over its directory) fills a [`RunView`]; nothing
//! here computes a statistic. A missing piece is an empty list or `None`, and its section then states
//! in one line that it is missing. No wall time, date, host or path belongs in here: equal runs must
//! give equal bytes.

use idiolect_core::comparison::{Comparison, Counts};
use idiolect_core::record::{EvalRow, Step};
use idiolect_model::{Span, TokenScore};
use serde::{Deserialize, Serialize};

/// Everything that the report of one run shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunView {
    /// The recipe's title, in a few words; heads the page.
    pub title: String,
    /// One or two sentences on what was done: student, task, data.
    pub setting: String,
    /// What came out: accuracies, differences, closeness, dose curve.
    pub comparison: Comparison,
    /// Name of each replicate, by the replicate's number; may be empty where there is one.
    pub replicates: Vec<String>,
    /// What each arm holds, as text; arms without an entry are shown without.
    pub arms: Vec<ArmDescription>,
    /// How much of the data each kind of trace covers, for example problems with a wrong trace.
    pub coverage: Vec<Fraction>,
    /// Sentences on the coverage that a reader must know, for example where W exists only.
    pub coverage_notes: Vec<String>,
    /// Training loss of each arm, seed and replicate; thinned for drawing by [`thin`].
    pub curves: Vec<Curve>,
    /// Accuracy on the dev problems, by arm and seed.
    pub dev: Vec<DevScore>,
    /// Rows of every arm to read, with the student's surprisal at each token: those of one problem
    /// beside each other. The first problem's are shown without script too.
    pub examples: Vec<Example>,
    /// Every checkpoint's answers to the test problems, an entry a replicate.
    pub answers: Vec<Answers>,
    /// What this run cannot show, one sentence or two each, beyond what the report states by itself
    /// from the numbers (one seed, one replicate, few problems).
    pub limits: Vec<String>,
    /// What files were not given that other parts of a report need, one sentence each. Where there are
    /// any, sections without data are left out and these stand in their place.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// How it was made: groups of named facts (seeds, hashes, versions, settings).
    pub provenance: Vec<FactGroup>,
    /// The commands that make this run again, one a line.
    pub commands: Vec<String>,
}

impl RunView {
    /// A view with the numbers alone; every other part is empty and its section states so.
    pub fn new(title: &str, comparison: Comparison) -> Self {
        Self {
            title: title.to_owned(),
            setting: String::new(),
            comparison,
            replicates: Vec::new(),
            arms: Vec::new(),
            coverage: Vec::new(),
            coverage_notes: Vec::new(),
            curves: Vec::new(),
            dev: Vec::new(),
            examples: Vec::new(),
            answers: Vec::new(),
            limits: Vec::new(),
            lacks: Vec::new(),
            provenance: Vec::new(),
            commands: Vec::new(),
        }
    }
}

/// What one arm holds; its rows, tokens and steps are in the comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmDescription {
    /// Its name, for example `W`.
    pub name: String,
    /// A description, for example `teacher samples with a wrong answer`.
    pub about: String,
    /// Its rows in the replicate that [`RunView::examples`] are of.
    #[serde(default)]
    pub rows: Option<usize>,
    /// Distinct problems.
    pub problems: Option<usize>,
    /// Verdicts of its traces.
    pub verdicts: Option<Counts>,
}

/// A named fraction: `n` of `of`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fraction {
    /// What is counted, for example `problems with at least one wrong trace`.
    pub label: String,
    /// How many.
    pub n: usize,
    /// Of how many.
    pub of: usize,
}

/// The training loss of one fine-tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Replicate it belongs to; 0 where there is one.
    pub replicate: usize,
    /// The arm trained on.
    pub arm: String,
    /// Fine-tuning seed.
    pub seed: u64,
    /// Optimiser step (from 1) and loss, nats per target token.
    pub points: Vec<(usize, f64)>,
}

/// Greedy accuracy on the dev problems of one fine-tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DevScore {
    /// Replicate it belongs to; 0 where there is one.
    pub replicate: usize,
    /// The arm trained on.
    pub arm: String,
    /// Fine-tuning seed.
    pub seed: u64,
    /// Dev problems answered correctly.
    pub correct: usize,
    /// Dev problems.
    pub problems: usize,
}

/// One trace to read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The arm or kind it represents.
    pub arm: String,
    /// Its problem's id.
    pub problem_id: String,
    /// The prompt it follows.
    pub prompt: String,
    /// Its verdict (`correct`, `wrong`, ...).
    pub verdict: String,
    /// Why, as a message; may be empty.
    pub reason: String,
    /// The trace's text.
    pub text: String,
    /// The student's tokens over `text` in text order, end token last.
    pub tokens: Vec<ExampleToken>,
    /// Byte spans of `text` with what the step checker found.
    pub steps: Vec<Step>,
    /// Loss mask: byte spans of `text` that are trained on or not; what lies in none is.
    #[serde(default)]
    pub spans: Vec<Span>,
}

/// The answers of every checkpoint to the test problems of one replicate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Replicate they belong to; 0 where there is one.
    pub replicate: usize,
    /// What was asked.
    pub problems: Vec<Asked>,
    /// Who answered, the untrained student included.
    pub checkpoints: Vec<Checkpoint>,
}

/// One test problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// As the answers' rows name it.
    pub id: String,
    /// Its question; may be empty.
    pub question: String,
    /// Its right answer, as text; may be empty.
    pub gold: String,
}

/// The answers of one fine-tuned (or the untrained) student.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The arm trained on.
    pub arm: String,
    /// Fine-tuning seed.
    pub seed: u64,
    /// Its evaluation.
    pub rows: Vec<EvalRow>,
}

/// One token of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExampleToken {
    /// Byte offset into the text where the token's piece starts; it ends where the next one starts.
    /// The end token has the text's length.
    pub byte_start: usize,
    /// −ln p under the student, nats.
    pub surprisal_nats: f64,
    /// 1 = the student's first choice; `None` where the model gives no ranks.
    pub rank: Option<u32>,
}

impl From<&TokenScore> for ExampleToken {
    fn from(score: &TokenScore) -> Self {
        Self {
            byte_start: score.byte_start as usize,
            surprisal_nats: -f64::from(score.logprob),
            rank: score.rank,
        }
    }
}

/// A titled list of facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FactGroup {
    /// For example `Seeds` or `Hashes`.
    pub title: String,
    /// Name and value, in the order to show.
    pub facts: Vec<(String, String)>,
}

/// At most `limit` points of a curve that keep its shape: steps are cut into `limit` equal runs and
/// each gives its last step with the mean loss of the run. Points that are not finite are dropped.
pub fn thin(points: &[(usize, f64)], limit: usize) -> Vec<(usize, f64)> {
    let finite: Vec<(usize, f64)> = points
        .iter()
        .copied()
        .filter(|(_, loss)| loss.is_finite())
        .collect();
    if finite.len() <= limit || limit == 0 {
        return finite;
    }
    (0..limit)
        .filter_map(|k| {
            let run = &finite[k * finite.len() / limit..(k + 1) * finite.len() / limit];
            let (step, _) = run.last()?;
            Some((
                *step,
                run.iter().map(|(_, loss)| loss).sum::<f64>() / run.len() as f64,
            ))
        })
        .collect()
}
