//! Rewrite traces: a model rewrites each in its own style.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use idiolect_core::arms::FAULT;
use idiolect_core::paraphrase::{Bounds, fault};
use idiolect_core::record::{Origin, OriginKind, Trace};
use idiolect_core::store::{BadRow, Meta, Opened, Output, Rows};
use idiolect_core::task::NoCode;
use idiolect_model::{
    Completion, Context, Generate, GenerateRequest, ModelInfo, Rng, RowError, Sampling,
};
use serde_json::{Value, json};

use super::generate::{REQUESTS_AT_ONCE, model_name};
use super::inputs::{
    Input, Problems, PromptKind, Prompts, record_model, record_sampling, sampling_value,
};
use super::ordered::generate_in_order;
use super::{Control, Outcome, StageError};

/// What to rewrite.
#[derive(Clone, Debug)]
pub(crate) struct ParaphraseSettings {
    /// `problems.jsonl`.
    pub(crate) problems: PathBuf,
    /// Files of the traces to rewrite.
    pub(crate) traces: Vec<PathBuf>,
    /// How to choose tokens.
    pub(crate) sampling: Sampling,
    /// A built-in prompt or a file with `{solution}`; `None` is the task's own.
    pub(crate) prompt: Option<String>,
    /// What a rewriting is held to; nothing where unset.
    pub(crate) bounds: Option<Bounds>,
    /// Further tries for a rewriting that is at fault.
    pub(crate) retries: usize,
    /// Keys every rewriting's own seed.
    pub(crate) seed: u64,
    /// `traces.jsonl`.
    pub(crate) output: PathBuf,
}

/// Requests between writes where a rewriting may be tried again.
const REQUESTS_TRIED_AT_ONCE: usize = 256;

/// Writes one rewriting a trace, in the order of the traces; its parent is the trace's id. Equal
/// rewritings for one problem collapse to the first. A rewriting at fault is tried again, and kept
/// with its reasons in `origin.ops` where no try is better: arm P leaves it out.
pub(crate) fn paraphrase(
    settings: &ParaphraseSettings,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let problems = Problems::read(&settings.problems, &[])?;
    let prompts = Prompts::resolve(
        &problems,
        settings.prompt.as_deref(),
        PromptKind::Paraphrase,
    )?;
    let input = Input::open_all(&settings.traces)?;
    let meta = provenance(settings, &problems, &prompts, &input, model.info());
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let plan = Plan::read(&problems, &prompts, &input, settings.seed)?;
    let (done, ids) = place(&mut output, &plan)?;
    let at = (&problems, done);
    rewrite(settings, &plan, at, ids, &mut output, model, control)?;
    Outcome::of(&settings.output, &output.finish(plan.seen)?, false, control)
}

fn provenance(
    settings: &ParaphraseSettings,
    problems: &Problems,
    prompts: &Prompts,
    input: &Input,
    info: &ModelInfo,
) -> Meta {
    let mut meta = Meta::of("paraphrase");
    problems.record(&mut meta);
    prompts.record(&mut meta);
    meta.input("traces", input.hash());
    record_model(&mut meta, info);
    record_sampling(&mut meta, &settings.sampling);
    meta.setting("seed", settings.seed);
    if let Some(bounds) = &settings.bounds {
        meta.setting("bounds", bounds)
            .setting("retries", settings.retries);
    }
    meta
}

/// The requests, one a distinct trace, and what cannot be asked.
struct Plan {
    units: Vec<Unit>,
    bad: Vec<BadRow>,
    seen: u64,
}

struct Unit {
    file: Arc<str>,
    line: u64,
    /// The trace to rewrite.
    original: Trace,
    request: GenerateRequest,
    /// How the prompt introduces a problem.
    introduction: Option<String>,
}

impl Plan {
    /// A trace that is there twice (from two origins) would be rewritten to the same text twice.
    fn read(
        problems: &Problems,
        prompts: &Prompts,
        input: &Input,
        seed: u64,
    ) -> Result<Self, StageError> {
        let mut plan = Self {
            units: Vec::new(),
            bad: problems.bad.clone(),
            seen: problems.bad.len() as u64,
        };
        let mut parents = BTreeSet::new();
        for row in input.rows::<Trace>()? {
            plan.seen += 1;
            let row = match row? {
                Ok(row) => row,
                Err(bad) => {
                    plan.bad.push(bad);
                    continue;
                }
            };
            let trace = row.value;
            if !parents.insert(trace.id.clone()) {
                continue;
            }
            match prompt_of(problems, prompts, &trace) {
                Ok((prompt, introduction)) => plan.units.push(Unit {
                    introduction,
                    file: row.file,
                    line: row.line,
                    request: GenerateRequest {
                        context: Context::Prompt(prompt),
                        seed: Rng::keyed(seed, &["paraphrase", &trace.id]).next_u64() >> 11,
                    },
                    original: trace,
                }),
                Err(reason) => plan
                    .bad
                    .push(BadRow::new(&row.file, row.line, reason, &trace.text)),
            }
        }
        Ok(plan)
    }
}

/// The prompt for a trace, and how it introduces a problem.
fn prompt_of(
    problems: &Problems,
    prompts: &Prompts,
    trace: &Trace,
) -> Result<(String, Option<String>), String> {
    let problem = problems
        .get(&trace.problem_id)
        .ok_or_else(|| format!("no problem has the id `{}`", trace.problem_id))?;
    let file = prompts.of(problem);
    let prompt = problems
        .task(problem)
        .paraphrase_prompt(problem, &trace.text, file)?;
    Ok((prompt, file.introduction()))
}

/// Units that an earlier process came past, and the ids it wrote; see `generate` for the reasons.
fn place(output: &mut Output, plan: &Plan) -> Result<(usize, BTreeSet<String>), StageError> {
    let (mut done, mut ids) = (0, BTreeSet::new());
    for row in Rows::<Trace>::open(output.journal_path())? {
        let Ok(row) = row? else { continue };
        let parent = row.value.origin.parent.unwrap_or_default();
        if let Some(ahead) = plan.units[done..]
            .iter()
            .position(|unit| unit.original.id == parent)
        {
            done += ahead + 1;
        }
        ids.insert(row.value.id);
    }
    let old = output.rejects()?;
    let unasked = plan.bad.len().min(old.len());
    let passed: BTreeSet<(&str, u64)> = plan.units[..done]
        .iter()
        .map(|unit| (&*unit.file, unit.line))
        .collect();
    let refused = old[unasked..]
        .iter()
        .take_while(|bad| passed.contains(&(bad.file.as_str(), bad.line)))
        .count();
    output.keep_rejects((unasked + refused) as u64)?;
    for bad in &plan.bad[unasked..] {
        output.reject(bad)?;
    }
    Ok((done, ids))
}

fn rewrite(
    settings: &ParaphraseSettings,
    plan: &Plan,
    (problems, done): (&Problems, usize),
    mut ids: BTreeSet<String>,
    output: &mut Output,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<(), StageError> {
    let total = plan.units.len() as u64;
    let mut meter = control
        .progress
        .begin("paraphrase", "traces", Some(total), done as u64);
    let info = model.info().clone();
    let tries = match &settings.bounds {
        Some(_) => 1 + settings.retries,
        None => 1,
    };
    // A batch is written when its last try is done.
    let at_once = if tries > 1 {
        REQUESTS_TRIED_AT_ONCE
    } else {
        REQUESTS_AT_ONCE
    };
    for units in plan.units[done..].chunks(at_once) {
        if tries == 1 {
            let requests: Vec<GenerateRequest> =
                units.iter().map(|unit| unit.request.clone()).collect();
            generate_in_order(
                model,
                &requests,
                &settings.sampling,
                control.stop,
                |index, result| {
                    let faults = faults_of(settings, problems, &units[index], &result);
                    write(
                        settings,
                        &info,
                        &units[index],
                        (result, faults),
                        &mut ids,
                        output,
                    )?;
                    meter.advance(1);
                    Ok(())
                },
            )?;
            continue;
        }
        for (unit, tried) in units
            .iter()
            .zip(try_batch(settings, problems, units, tries, model, control)?)
        {
            write(settings, &info, unit, tried, &mut ids, output)?;
            meter.advance(1);
        }
    }
    Ok(())
}

/// What came of a request, and the faults of its tries in order; the last belongs to the result
/// where the result is at fault.
type Tried = (Result<Completion, RowError>, Vec<String>);

/// Tries each unit until its rewriting has no fault, at most `tries` times.
fn try_batch(
    settings: &ParaphraseSettings,
    problems: &Problems,
    units: &[Unit],
    tries: usize,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<Vec<Tried>, StageError> {
    let mut results: Vec<Option<Tried>> = units.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..units.len()).collect();
    for number in 0..tries {
        let requests: Vec<GenerateRequest> = open
            .iter()
            .map(|&at| units[at].try_number(settings.seed, number))
            .collect();
        let mut again = Vec::new();
        generate_in_order(
            model,
            &requests,
            &settings.sampling,
            control.stop,
            |index, result| {
                let at = open[index];
                let now = faults_of(settings, problems, &units[at], &result);
                if !now.is_empty() {
                    again.push(at);
                }
                let mut faults = results[at].take().map_or(Vec::new(), |(_, faults)| faults);
                // A good try after bad ones leaves their reasons out: they are no longer true of it.
                if now.is_empty() {
                    faults.clear();
                }
                faults.extend(now);
                results[at] = Some((result, faults));
                Ok(())
            },
        )?;
        open = again;
        if open.is_empty() {
            break;
        }
    }
    let unanswered = || RowError::other("the model gave no answer");
    Ok(results
        .into_iter()
        .map(|tried| tried.unwrap_or_else(|| (Err(unanswered()), Vec::new())))
        .collect())
}

impl Unit {
    /// The request of the first try, or one of another seed.
    fn try_number(&self, seed: u64, number: usize) -> GenerateRequest {
        let mut request = self.request.clone();
        if number > 0 {
            let key = ["paraphrase", &self.original.id, &number.to_string()];
            request.seed = Rng::keyed(seed, &key).next_u64() >> 11;
        }
        request
    }
}

/// The fault of a rewriting, if it has one and is held to something.
fn faults_of(
    settings: &ParaphraseSettings,
    problems: &Problems,
    unit: &Unit,
    result: &Result<Completion, RowError>,
) -> Vec<String> {
    let (Some(bounds), Ok(completion)) = (&settings.bounds, result) else {
        return Vec::new();
    };
    let Some(problem) = problems.get(&unit.original.problem_id) else {
        return Vec::new();
    };
    let rewritten = (completion.text.as_str(), completion.finish);
    // Programs are run by `verify`, not while a model writes.
    fault(
        problem,
        problems.task(problem),
        &unit.original,
        rewritten,
        bounds,
        &NoCode,
    )
    .into_iter()
    .collect()
}

fn write(
    settings: &ParaphraseSettings,
    info: &ModelInfo,
    unit: &Unit,
    (result, faults): Tried,
    ids: &mut BTreeSet<String>,
    output: &mut Output,
) -> Result<(), StageError> {
    match result {
        Err(RowError { reason, .. }) => {
            output.reject(&BadRow::new(&unit.file, unit.line, reason, ""))?;
        }
        Ok(completion) => {
            let mut trace = rewritten(settings, unit, info, completion);
            let faults = faults
                .iter()
                .map(|reason| json!({"op": FAULT, "reason": reason}));
            trace.origin.ops.extend(faults);
            if ids.insert(trace.id.clone()) {
                output.push(&trace)?;
            }
        }
    }
    Ok(())
}

fn rewritten(
    settings: &ParaphraseSettings,
    unit: &Unit,
    info: &ModelInfo,
    completion: Completion,
) -> Trace {
    let mut sampling = sampling_value(&settings.sampling);
    sampling["seed"] = Value::from(unit.request.seed);
    if let Some(words) = &unit.introduction {
        sampling["introduction"] = Value::from(words.as_str());
    }
    let mut origin = Origin::of(OriginKind::Paraphrased);
    origin.model = Some(model_name(info));
    origin.sampling = Some(sampling);
    origin.parent = Some(unit.original.id.clone());
    Trace::new(
        &unit.original.problem_id,
        &completion.text,
        completion.finish,
        origin,
    )
}
