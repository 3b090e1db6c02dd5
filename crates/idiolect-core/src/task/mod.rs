//! The task interface: what a problem is, how it is asked, and when an answer is right.
//!
//! A [`Task`] imports raw rows, renders prompts, extracts and verifies answers and checks steps.
//! Everything is a total function on text: no file, no clock, no thread, no panic on bad input, and
//! time bounded by the length of the text. A task's version moves whenever its prompts, extraction
//! or verification change, because each of them can move a trace from one arm to another.
//!
//! Sources: the prompts' shape and the public scorers follow arXiv 2512.22255 and its code; what is
//! ours is stated where it is.

mod arithmetic;
pub mod compat;
pub mod countdown;
mod execute;
mod field;
pub mod gsm8k;
mod import;
pub mod math;
pub mod mbpp;
mod prompt;
mod reading;
mod segment;
mod steps;
mod variables;

use serde_json::{Map, Value};

pub use idiolect_math::{Answered, ROUNDED};

pub use execute::{Execute, Execution, NoCode, Program};
pub use field::{Field, fields, own_fields, shared_fields};
pub(crate) use import::kind_of;
pub use import::{ImportRow, Imported, column_of, map_columns, split_named};
pub use prompt::PromptFile;

use reading::{Reading, read};

use crate::record::{Finish, Problem, ReadSpan, Step, TaskName, Trace, Verdict, VerdictRow};

/// What verification found for one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Tri-state, and `ungraded` where the gold is at fault.
    pub verdict: Verdict,
    /// The answer in the task's canonical form; `None` where nothing readable was answered.
    pub extracted: Option<String>,
    /// Why, as text for a person.
    pub reason: String,
    /// The text's steps in text order; empty for a pair.
    pub steps: Vec<Step>,
    /// The part of the text that was read; `None` where it is the whole.
    pub read: Option<ReadSpan>,
}

impl Judgement {
    /// Nothing can be decided, for this reason.
    fn ungraded(reason: String) -> Self {
        Self {
            verdict: Verdict::Ungraded,
            extracted: None,
            reason,
            steps: Vec::new(),
            read: None,
        }
    }

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
            read: self.read,
        }
    }

    /// The verdict of a user who takes an answer that equals the gold when rounded for right.
    #[must_use]
    pub fn accepting_rounded(mut self) -> Self {
        if self.verdict == Verdict::Ungraded && self.reason.starts_with(ROUNDED) {
            self.verdict = Verdict::Correct;
        }
        self
    }

    /// What was found in the part `read` of `text`, as found in `text`.
    fn of_part(mut self, read: ReadSpan, text: &str) -> Self {
        self.steps = shifted(self.steps, read.start);
        self.read = (read.start > 0 || read.end < text.len()).then_some(read);
        self
    }
}

fn shifted(mut steps: Vec<Step>, by: usize) -> Vec<Step> {
    for step in &mut steps {
        step.start += by;
        step.end += by;
    }
    steps
}

/// Judges the part of a text that counts by `judge`, which is told whether the text goes on behind
/// it. Where a line may or may not begin a next problem, both readings must agree on
/// the verdict.
fn judge_read<T: Task + ?Sized>(
    task: &T,
    text: &str,
    introduction: Option<&str>,
    judge: impl Fn(&str, bool) -> Judgement,
) -> Judgement {
    let of = |span: ReadSpan| {
        let goes_on = span.end < text.len();
        judge(&text[span.start..span.end], goes_on).of_part(span, text)
    };
    match read(task, text, introduction) {
        Reading::Thinking => still_thinking(text),
        Reading::Part(span) => of(span),
        Reading::Doubtful(span, end) => {
            let whole = of(span);
            let first = of(ReadSpan { end, ..span });
            if whole.verdict == first.verdict {
                return whole;
            }
            let line: String = text[end..]
                .chars()
                .take_while(|c| *c != '\n')
                .take(40)
                .collect();
            Judgement {
                verdict: Verdict::Ungraded,
                extracted: None,
                reason: format!("a next problem may begin at `{line}`"),
                ..whole
            }
        }
    }
}

/// Thinking that has not ended answers nothing.
fn still_thinking(text: &str) -> Judgement {
    let nothing = ReadSpan {
        start: text.len(),
        end: text.len(),
    };
    Judgement {
        verdict: Verdict::NoAnswer,
        extracted: None,
        reason: "the thinking has no end".to_owned(),
        steps: Vec::new(),
        read: Some(nothing),
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

    /// Judges the part of a response that counts and checks its steps. A response that was cut
    /// (`finish` is `length`) counts only an answer that was complete before the cut. `code` runs
    /// the answers that are programs; the others need [`NoCode`] only.
    fn judge(&self, problem: &Problem, part: &str, finish: Finish, code: &dyn Execute)
    -> Judgement;

    /// Judges the part that counts of a bare answer or whole response against a gold string or gold
    /// object, without steps.
    fn judge_pair(&self, gold: &Value, part: &str, code: &dyn Execute) -> Judgement;

    /// The steps of the part that counts and what recomputation found for each; the final answer is
    /// no step.
    fn check_steps(&self, problem: &Problem, part: &str) -> Vec<Step>;

    /// How far a text has come with its answer, so that what goes on behind it can be told from it.
    fn answered(&self, text: &str) -> Answered;

    /// Judges a response to a problem and checks its steps: first the part that counts is found
    /// (no thinking, nothing behind the end of the turn, no next problem), then it is judged.
    fn verify(
        &self,
        problem: &Problem,
        text: &str,
        finish: Finish,
        code: &dyn Execute,
    ) -> Judgement {
        self.verify_asked(problem, text, finish, None, code)
    }

    /// [`Task::verify`] of a response to a prompt that is known to introduce problems in the words
    /// `introduction`.
    fn verify_asked(
        &self,
        problem: &Problem,
        text: &str,
        finish: Finish,
        introduction: Option<&str>,
        code: &dyn Execute,
    ) -> Judgement {
        judge_read(self, text, introduction, |part, ends| {
            // Where the response went on, its answer was not cut off.
            let finish = if ends { Finish::Stop } else { finish };
            self.judge(problem, part, finish, code)
        })
    }

    /// [`Task::verify`] of a trace, by the prompt that its origin names.
    fn verify_trace(&self, problem: &Problem, trace: &Trace, code: &dyn Execute) -> Judgement {
        let introduction = trace.origin.introduction();
        self.verify_asked(problem, &trace.text, trace.finish, introduction, code)
    }

    /// Judges a bare answer or whole response against a gold string or gold object, without steps.
    fn verify_pair(&self, gold: &Value, answer: &str, code: &dyn Execute) -> Judgement {
        judge_read(self, answer, None, |part, _| {
            self.judge_pair(gold, part, code)
        })
    }

    /// The steps of a text and what recomputation found for each; the final answer is no step, and
    /// neither is what does not count.
    fn steps(&self, problem: &Problem, text: &str) -> Vec<Step> {
        match read(self, text, None) {
            Reading::Thinking => Vec::new(),
            Reading::Part(read) | Reading::Doubtful(read, _) => shifted(
                self.check_steps(problem, &text[read.start..read.end]),
                read.start,
            ),
        }
    }

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
