//! The task seam: what a problem is, how it is asked, and when an answer is right.
//!
//! A [`Task`] imports raw rows, renders prompts, extracts and verifies answers and checks steps.
//! Everything is a total function on text: no file, no clock, no thread, no panic on bad input, and
//! time bounded by the length of the text. A task's version moves whenever its prompts, extraction
//! or verification change, because each of them can move a trace from one arm to another.
//!
//! Sources: the prompts' shape and the public scorers follow arXiv 2512.22255 and its code; what is
//! ours is said where it stands.

mod arithmetic;
pub mod compat;
pub mod countdown;
mod execute;
pub mod gsm8k;
mod import;
mod lexeme;
pub mod math;
pub mod mbpp;
mod prompt;
mod rational;
mod segment;
mod steps;
mod variables;

use serde_json::{Map, Value};

pub use execute::{Execute, Execution, NoCode, Program};
pub use import::{ImportRow, Imported, map_columns, split_named};
pub use prompt::PromptFile;
pub use rational::Rational;

use crate::record::{Finish, Problem, Step, TaskName, Trace, Verdict, VerdictRow};

/// What verification found for one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Tri-state, and `ungraded` where the gold is at fault.
    pub verdict: Verdict,
    /// The answer in the task's canonical form; `None` where nothing readable was answered.
    pub extracted: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The text's steps in text order; empty for a pair.
    pub steps: Vec<Step>,
}

impl Judgement {
    /// The row of `verdicts.jsonl` for a trace that `task` judged.
    pub fn into_row(self, trace: &Trace, task: &dyn Task) -> VerdictRow {
        VerdictRow {
            trace_id: trace.id.clone(),
            problem_id: trace.problem_id.clone(),
            verdict: self.verdict,
            extracted: self.extracted,
            reason: self.reason,
            verifier: task.verifier(),
            steps: self.steps,
        }
    }
}

/// One kind of problem with a checkable answer.
pub trait Task: Sync {
    /// Which one.
    fn name(&self) -> TaskName;

    /// Moves whenever prompts, extraction or verification change.
    fn version(&self) -> u32;

    /// A raw row of a published data set as a problem, and as a trace where it holds one.
    ///
    /// # Errors
    /// In words, naming the field: the row is refused, others are unaffected.
    fn import(&self, raw: &Map<String, Value>, at: &ImportRow) -> Result<Imported, String>;

    /// The built-in prompts, name and text; the first is the default. Those whose text holds
    /// `{solution}` ask for a paraphrase.
    fn prompt_files(&self) -> &'static [(&'static str, &'static str)];

    /// The problem's values for the placeholders of a prompt.
    ///
    /// # Errors
    /// Where the gold lacks what a placeholder shows.
    fn placeholders(&self, problem: &Problem) -> Result<Vec<(&'static str, String)>, String> {
        Ok(vec![("question", problem.question.clone())])
    }

    /// Judges a response to a problem and checks its steps. A response that was cut (`finish` is
    /// `length`) counts only an answer that was complete before the cut. `code` runs the answers
    /// that are programs; the others need [`NoCode`] only.
    fn verify(
        &self,
        problem: &Problem,
        text: &str,
        finish: Finish,
        code: &dyn Execute,
    ) -> Judgement;

    /// Judges a bare answer or whole response against a gold string or gold object, without steps.
    fn verify_pair(&self, gold: &Value, answer: &str, code: &dyn Execute) -> Judgement;

    /// The steps of a text and what recomputation found for each; the final answer is no step.
    fn steps(&self, problem: &Problem, text: &str) -> Vec<Step>;

    /// Name and version as verdicts carry them, for example `gsm8k@1`.
    fn verifier(&self) -> String {
        format!("{}@{}", self.name(), self.version())
    }

    /// A built-in prompt by name.
    fn prompt_file(&self, name: &str) -> Option<PromptFile> {
        let (name, text) = self.prompt_files().iter().find(|(n, _)| *n == name)?;
        Some(PromptFile::new(name, text))
    }

    /// The prompt that problems are asked with unless told otherwise.
    fn default_prompt(&self) -> PromptFile {
        let (name, text) = self.prompt_files()[0];
        PromptFile::new(name, text)
    }

    /// The prompt that solutions are rewritten with unless told otherwise.
    fn default_paraphrase_prompt(&self) -> PromptFile {
        self.prompt_file("paraphrase")
            .expect("every task has a prompt file named paraphrase")
    }

    /// The prompt for a problem.
    ///
    /// # Errors
    /// A placeholder that the task does not fill, `{solution}` included.
    fn prompt(&self, problem: &Problem, prompt: &PromptFile) -> Result<String, String> {
        prompt.render(&self.placeholders(problem)?)
    }

    /// The prompt for a rewriting of `solution`.
    ///
    /// # Errors
    /// A placeholder that the task does not fill.
    fn paraphrase_prompt(
        &self,
        problem: &Problem,
        solution: &str,
        prompt: &PromptFile,
    ) -> Result<String, String> {
        let mut values = self.placeholders(problem)?;
        values.push(("solution", solution.trim().to_owned()));
        prompt.render(&values)
    }
}

/// The task of a name.
pub fn task(name: TaskName) -> &'static dyn Task {
    match name {
        TaskName::Countdown => &countdown::Countdown,
        TaskName::Gsm8k => &gsm8k::Gsm8k,
        TaskName::Math => &math::Math,
        TaskName::Mbpp => &mbpp::Mbpp,
    }
}
