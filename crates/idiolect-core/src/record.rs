//! The rows that flow between the stages; `docs/formats.md` and the command line's contract fix
//! their shape. Records are immutable: verdicts and scores are annotations keyed by trace id.

pub use idiolect_model::{Finish, content_hash};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Grade-school word problems with an integer or decimal answer.
    Gsm8k,
    /// Competition mathematics with LaTeX answers.
    Math,
    /// Reach a target with each number exactly once.
    Countdown,
    /// Short Python functions checked by assertions.
    Mbpp,
}

impl TaskName {
    /// All of them, in the order of their enum.
    pub const ALL: [Self; 4] = [Self::Gsm8k, Self::Math, Self::Countdown, Self::Mbpp];

    /// The name as rows and the command line spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gsm8k => "gsm8k",
            Self::Math => "math",
            Self::Countdown => "countdown",
            Self::Mbpp => "mbpp",
        }
    }

    /// All names, for messages.
    pub fn listed() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|task| task.as_str() == text)
            .ok_or_else(|| format!("no task `{text}`; there are {}", Self::listed()))
    }
}

/// Which part of a data set a problem belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// May enter arms.
    Train,
    /// Chooses among checkpoints and settings; in no arm.
    Dev,
    /// Read once, at the end.
    Test,
    /// Used to make a teacher; in no arm and no evaluation.
    Teacher,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Train, Self::Dev, Self::Test, Self::Teacher];

    /// The name as rows, ids and the command line spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Teacher => "teacher",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A question with a checkable gold answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Unique within a data set, for example `gsm8k/train/17`.
    pub id: String,
    /// The task that prompts and verifies it.
    pub task: TaskName,
    /// The question in words.
    pub question: String,
    /// The task's gold object, for example `{"answer":"18"}` or `{"numbers":[3,7,2],"target":19}`.
    pub gold: Value,
    /// The data set's own solution, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human: Option<String>,
    /// Which part it belongs to.
    pub split: Split,
    /// Fields that this program does not know, kept as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Who or what wrote a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// The data set's own solution.
    Human,
    /// Sampled from a model.
    Sampled,
    /// A model's rewriting of another trace.
    Paraphrased,
    /// Another trace with flaws injected.
    Flawed,
    /// A content control: the style without the problem's content.
    Control,
    /// Read from a file of unknown making.
    Imported,
}

/// Where a trace comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Who or what wrote it.
    pub kind: OriginKind,
    /// The model that wrote it, by name or hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The sampling settings it was written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Value>,
    /// The trace it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What was done to the parent, one object an operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<Value>,
}

impl Origin {
    /// An origin of which only the kind is known.
    pub fn of(kind: OriginKind) -> Self {
        Self {
            kind,
            model: None,
            sampling: None,
            parent: None,
            ops: Vec::new(),
        }
    }

    /// The words in which the prompt that was used introduces a problem, where they are known:
    /// `sampling.introduction`.
    pub fn introduction(&self) -> Option<&str> {
        self.sampling.as_ref()?.get("introduction")?.as_str()
    }
}

/// One chain of thought for a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// [`trace_id`] of `problem_id` and `text`.
    pub id: String,
    /// The problem it answers.
    pub problem_id: String,
    /// The completion, without prompt and without end token.
    pub text: String,
    /// How it ended.
    pub finish: Finish,
    /// Who or what wrote it.
    pub origin: Origin,
    /// Fields that this program does not know, kept as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Trace {
    /// A trace with its id computed.
    pub fn new(problem_id: &str, text: &str, finish: Finish, origin: Origin) -> Self {
        Self {
            id: trace_id(problem_id, text),
            problem_id: problem_id.to_owned(),
            text: text.to_owned(),
            finish,
            origin,
            extra: Map::new(),
        }
    }

    /// Notes which question it answers, where its problem's id does not tell: one made of a row's
    /// number is that of another question in another file.
    pub fn state_question(&mut self, question: &str) {
        let hash = question_hash(question);
        self.extra.insert(QUESTION_HASH.to_owned(), hash.into());
    }

    /// Refuses the problem that has its id where it is known to answer another question.
    ///
    /// # Errors
    /// In words that name the problem.
    pub fn check_question(&self, problem: &Problem) -> Result<(), String> {
        match self.extra.get(QUESTION_HASH).and_then(Value::as_str) {
            Some(hash) if hash != question_hash(&problem.question) => Err(format!(
                "it answers another question than the problem `{}` of the problems file: both were numbered by their rows, in different files; `idiolect import FILE --problems PROBLEMS` finds problems by their questions",
                problem.id
            )),
            _ => Ok(()),
        }
    }
}

/// The field of a trace that holds the hash of the question it answers.
const QUESTION_HASH: &str = "question_hash";

/// A question however it is spaced.
fn question_hash(question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    content_hash(words.join(" ").as_bytes())
}

/// The identity of a trace: the first 16 bytes of SHA-256(problem id, NUL, text) in hexadecimal.
/// Equal texts for one problem share it, whatever wrote them.
pub fn trace_id(problem_id: &str, text: &str) -> String {
    content_hash(&[problem_id.as_bytes(), &[0], text.as_bytes()].concat())
}

/// What verification found. Only `Wrong` may enter arm W.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The answer equals the gold answer.
    Correct,
    /// There is a readable answer and it is not the gold answer.
    Wrong,
    /// Nothing readable was answered.
    NoAnswer,
    /// It could not be judged, through no fault of the answer.
    Ungraded,
}

/// What a checker found for one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepCheck {
    /// Recomputed and right.
    Valid,
    /// Recomputed and false.
    Invalid,
    /// Nothing in it that a checker can recompute.
    Unchecked,
}

/// One step of a trace. `start` and `end` are byte offsets into the trace's UTF-8 text, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// What was found.
    pub check: StepCheck,
}

/// The part of a text that verification read: without thinking, and without what goes on behind the
/// answer. Byte offsets into the text, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSpan {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// The verdict on one trace: a row of `verdicts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// The trace judged.
    pub trace_id: String,
    /// Its problem.
    pub problem_id: String,
    /// What was found.
    pub verdict: Verdict,
    /// The answer as extracted, in the task's canonical form.
    pub extracted: Option<String>,
    /// Why, as a message.
    pub reason: String,
    /// Task and version that judged, for example `gsm8k@1`.
    pub verifier: String,
    /// The steps and what was found for each.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The part of the text that was read; `None` where it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadSpan>,
}

/// Sums and counts of token scores over one trace: a row of `scores.jsonl`. Everything from
/// `n_tokens` to `min20_nats` is over completion tokens without the end token. Sums of what the model
/// did not give (ranks; what needs the whole distribution) are absent, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// The trace scored, or the line number of a row without one.
    pub trace_id: String,
    /// Its problem, where known.
    pub problem_id: Option<String>,
    /// Hash of the student that scored.
    pub model: String,
    /// `raw` or `chat`.
    pub template: idiolect_model::Template,
    /// Completion tokens without the end token.
    pub n_tokens: u64,
    /// UTF-8 bytes of the completion.
    pub n_bytes: u64,
    /// Σ surprisal.
    pub nll_nats: f64,
    /// Σ entropy of the student's distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_nats: Option<f64>,
    /// Σ varentropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub varentropy_nats2: Option<f64>,
    /// Σ |surprisal − entropy|.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abs_excess_nats: Option<f64>,
    /// Σ rank (1 = first choice; ties optimistic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_sum: Option<f64>,
    /// Σ min(rank, 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_clip100_sum: Option<f64>,
    /// Σ ln rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_rank_sum: Option<f64>,
    /// Tokens of rank 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<u64>,
    /// Tokens of rank ≤ 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<u64>,
    /// Tokens of rank ≤ 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top10: Option<u64>,
    /// Tokens of rank ≤ 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top50: Option<u64>,
    /// Σ (1 − 2p(y) + Σp²).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brier_sum: Option<f64>,
    /// Σ surprisal of the least likely fifth of the tokens: ⌊n_tokens / 5⌋, at least one. Absent in
    /// rows of earlier versions and of more than one trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min20_nats: Option<f64>,
    /// Surprisal of the end token alone.
    pub end_nll_nats: f64,
}

/// One training example: a row of `ARMS_DIR/NAME.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmRow {
    /// The trace it was made from.
    pub trace_id: String,
    /// Its problem.
    pub problem_id: String,
    /// The task's rendered prompt.
    pub prompt: String,
    /// The trace's text.
    pub completion: String,
    /// Weight of its tokens in the loss.
    pub weight: f64,
    /// Loss mask: parts of the completion that are trained on or not; what lies in none is trained
    /// on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<idiolect_model::Span>,
}

/// How an evaluation's text was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// The most probable token each time.
    Greedy,
    /// Drawn at a temperature.
    Sampled,
}

/// One answer of one model to one problem: a row of `eval.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRow {
    /// The problem.
    pub problem_id: String,
    /// Which of the k samples, from 0.
    pub sample: usize,
    /// How it was decoded.
    pub decoding: Decoding,
    /// What was written.
    pub text: String,
    /// How it ended.
    pub finish: Finish,
    /// What verification found.
    pub verdict: Verdict,
    /// Why, as a message; absent in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The answer as extracted.
    pub extracted: Option<String>,
    /// Tokens written, the end token not counted; 0 where the row does not state it, as of answers
    /// that were imported.
    #[serde(default)]
    pub n_tokens: usize,
    /// The part of the text that was read; `None` where it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadSpan>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_depend_on_problem_and_text_only() {
        let a = Trace::new("p/1", "x", Finish::Stop, Origin::of(OriginKind::Human));
        let b = Trace::new("p/1", "x", Finish::Length, Origin::of(OriginKind::Sampled));
        let c = Trace::new("p/", "1x", Finish::Stop, Origin::of(OriginKind::Human));
        assert_eq!(a.id, b.id);
        assert_ne!(a.id, c.id);
        assert_eq!(a.id.len(), 32);
    }

    #[test]
    fn finish_reasons_of_all_servers_are_known() {
        for reason in [
            "max_tokens",
            "MAX_TOKENS",
            "length",
            "LENGTH",
            "max_output_tokens",
            "model_length",
            "FinishReason.MAX_TOKENS",
            "FINISH_REASON_MAX_TOKENS",
            "limit",
            "max-tokens",
        ] {
            assert_eq!(Finish::of_reason(reason), Some(Finish::Length), "{reason}");
        }
        for reason in [
            "stop",
            "STOP",
            "end_turn",
            "eos",
            "eos_token",
            "EOS_TOKEN",
            "stop_sequence",
            "COMPLETE",
            "FinishReason.STOP",
            " Stop ",
        ] {
            assert_eq!(Finish::of_reason(reason), Some(Finish::Stop), "{reason}");
        }
        for reason in [
            "",
            "unknown",
            "tool_calls",
            "content_filter",
            "SAFETY",
            "refusal",
            "stopped?",
        ] {
            assert_eq!(Finish::of_reason(reason), None, "{reason}");
        }
    }

    #[test]
    fn unknown_fields_pass_through() {
        let line = r#"{"id":"p","task":"gsm8k","question":"q","gold":{"answer":"1"},"split":"train","level":"3"}"#;
        let problem: Problem = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&problem).unwrap(), line);
    }
}
