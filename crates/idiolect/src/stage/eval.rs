//! Evaluate: k answers a problem, each judged as it comes.

use std::path::PathBuf;

use idiolect_core::record::{Decoding, EvalRow, Finish, Problem, Split, Verdict};
use idiolect_core::store::{Meta, Opened};
use idiolect_model::{Completion, Generate, ModelInfo, RowError, Sampling};

use super::code::CodeRunner;
use super::generate::{Asked, Asking, samples_differ};
use super::inputs::{Problems, PromptKind, Prompts, record_model, record_sampling};
use super::verify::accepted;
use super::{Control, Outcome, StageError};

/// In the provenance of an evaluation: the rows that its model was trained on.
pub const TRAINED_ROWS: &str = "trained_rows";

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Only problems of these; none are all.
    pub splits: Vec<Split>,
    /// Samples a problem.
    pub samples: usize,
    /// How to choose tokens; temperature 0 is greedy.
    pub sampling: Sampling,
    /// A built-in prompt or a file; `None` is the task's default.
    pub prompt: Option<String>,
    /// Keys every sample's own seed.
    pub seed: u64,
    /// Rows that the model was trained on, where known: `compare` shows them.
    pub trained_rows: Option<u64>,
    /// Whether an answer that equals the gold only when rounded is correct instead of `ungraded`.
    pub accept_rounded: bool,
    /// `eval.jsonl`.
    pub output: PathBuf,
}

/// Writes one judged row a problem and sample. An answer that the model refuses to give is a row
/// with verdict `ungraded`: accuracy is over all problems.
pub fn eval(
    settings: &EvalSettings,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    samples_differ(settings.samples, &settings.sampling)?;
    let problems = Problems::read(&settings.problems, &settings.splits)?;
    let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
    let code = CodeRunner::for_tasks(problems.tasks(), control)?;
    let mut meta = provenance(settings, &problems, &prompts, model.info());
    code.record(&mut meta);
    let mut output = match control.open(&settings.output, &meta)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let asked = Asked::new(&problems, &prompts);
    let judge = Judge {
        settings,
        problems: &problems,
        prompts: &prompts,
        code: &code,
    };
    let asking = Asking {
        stage: "eval",
        unit: "answers",
        asked: &asked,
        samples: settings.samples,
        sampling: &settings.sampling,
        seed: settings.seed,
    };
    let mut unanswered = 0;
    let order = asking.ask(&mut output, model, control, |output, answer| {
        unanswered += u64::from(answer.result.is_err());
        let (problem, sample) = (answer.problem, answer.sample);
        let row = judged(&judge, problem, sample, answer.result);
        judge.code.check()?;
        Ok(output.push(&problem.id, sample, &row)?)
    })?;
    if unanswered > 0 {
        let text =
            format!("{unanswered} answers could not be made; they are written as `ungraded`");
        control.progress.note("eval", &text);
    }
    let meta = control.finish(&settings.output, output, |output| {
        output.finish(&asked.ending(&order))
    })?;
    Outcome::of(&settings.output, &meta, false, control)
}

fn provenance(
    settings: &EvalSettings,
    problems: &Problems,
    prompts: &Prompts,
    info: &ModelInfo,
) -> Meta {
    let mut meta = Meta::of("eval");
    problems.record(&mut meta);
    prompts.record(&mut meta);
    record_model(&mut meta, info);
    record_sampling(&mut meta, &settings.sampling);
    meta.setting("samples", settings.samples)
        .setting("splits", &settings.splits)
        .setting("accept_rounded", settings.accept_rounded)
        .setting("seed", settings.seed);
    if let Some(rows) = settings.trained_rows {
        meta.setting(TRAINED_ROWS, rows);
    }
    meta
}

/// What judges an answer.
struct Judge<'a> {
    settings: &'a EvalSettings,
    problems: &'a Problems,
    prompts: &'a Prompts,
    code: &'a CodeRunner,
}

fn judged(
    judge: &Judge<'_>,
    problem: &Problem,
    sample: usize,
    result: Result<Completion, RowError>,
) -> EvalRow {
    let decoding = if judge.settings.sampling.temperature > 0.0 {
        Decoding::Sampled
    } else {
        Decoding::Greedy
    };
    let row = EvalRow {
        problem_id: problem.id.clone(),
        sample,
        decoding,
        text: String::new(),
        finish: Finish::Unknown,
        verdict: Verdict::Ungraded,
        reason: None,
        extracted: None,
        n_tokens: 0,
        read: None,
    };
    let Completion {
        text,
        finish,
        n_tokens,
        ..
    } = match result {
        Ok(completion) => completion,
        Err(error) => {
            return EvalRow {
                reason: Some(error.reason),
                ..row
            };
        }
    };
    let task = judge.problems.task(problem);
    let introduction = judge.prompts.of(problem).introduction();
    let judgement = task.verify_asked(
        problem,
        &text,
        finish,
        introduction.as_deref(),
        judge.code.execute(),
    );
    let judgement = accepted(judgement, judge.settings.accept_rounded);
    EvalRow {
        text,
        finish,
        verdict: judgement.verdict,
        reason: Some(judgement.reason),
        extracted: judgement.extracted,
        n_tokens,
        read: judgement.read,
        ..row
    }
}
