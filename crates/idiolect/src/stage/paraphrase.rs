//! Rewrite traces: a model says each again in its own dialect.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idiolect_core::model::{
    Completion, Context, Generate, GenerateRequest, ModelInfo, RowError, Sampling,
};
use idiolect_core::record::{Origin, OriginKind, Trace};
use idiolect_core::rng::Rng;
use idiolect_core::store::{BadRow, Meta, Opened, Output, Rows};
use serde_json::Value;

use super::generate::{REQUESTS_AT_ONCE, model_name};
use super::inputs::{
    Input, Problems, PromptKind, Prompts, sampling_value, tell_model, tell_sampling,
};
use super::ordered::generate_in_order;
use super::{Control, Outcome, StageError};

/// What to rewrite.
#[derive(Clone, Debug)]
pub(crate) struct ParaphraseSettings {
    /// `problems.jsonl`.
    pub(crate) problems: PathBuf,
    /// The traces to rewrite.
    pub(crate) traces: PathBuf,
    /// How to choose tokens.
    pub(crate) sampling: Sampling,
    /// A built-in prompt or a file with `{solution}`; `None` is the task's own.
    pub(crate) prompt: Option<String>,
    /// Keys every rewriting's own seed.
    pub(crate) seed: u64,
    /// `traces.jsonl`.
    pub(crate) output: PathBuf,
}

/// Writes one rewriting a trace, in the order of the traces; its parent is the trace's id. Equal
/// rewritings for one problem collapse to the first. Whether the answer survived is `verify`'s to say.
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
    let input = Input::open(&settings.traces)?;
    let meta = provenance(settings, &problems, &prompts, &input, model.info());
    let mut output = match Output::open(&settings.output, &meta, control.fresh)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let plan = Plan::read(&problems, &prompts, &input, settings.seed)?;
    let (done, ids) = place(&mut output, &plan)?;
    rewrite(settings, &plan, done, ids, &mut output, model, control)?;
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
    problems.tell(&mut meta);
    prompts.tell(&mut meta);
    meta.input("traces", input.hash());
    tell_model(&mut meta, info);
    tell_sampling(&mut meta, &settings.sampling);
    meta.setting("seed", settings.seed);
    meta
}

/// The requests, one a distinct trace, and what cannot be asked.
struct Plan {
    units: Vec<Unit>,
    bad: Vec<BadRow>,
    seen: u64,
    file: String,
}

struct Unit {
    line: u64,
    problem_id: String,
    parent: String,
    request: GenerateRequest,
}

impl Plan {
    /// A trace that stands twice (from two origins) would be rewritten to the same text twice.
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
            file: input.name(),
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
                Ok(prompt) => plan.units.push(Unit {
                    line: row.line,
                    request: GenerateRequest {
                        context: Context::Prompt(prompt),
                        seed: Rng::keyed(seed, &["paraphrase", &trace.id]).next_u64() >> 11,
                    },
                    problem_id: trace.problem_id,
                    parent: trace.id,
                }),
                Err(reason) => {
                    plan.bad
                        .push(BadRow::new(&plan.file, row.line, reason, &trace.text))
                }
            }
        }
        Ok(plan)
    }
}

fn prompt_of(problems: &Problems, prompts: &Prompts, trace: &Trace) -> Result<String, String> {
    let problem = problems
        .get(&trace.problem_id)
        .ok_or_else(|| format!("no problem has the id `{}`", trace.problem_id))?;
    problems
        .task(problem)
        .paraphrase_prompt(problem, &trace.text, prompts.of(problem))
}

/// Units that an earlier process came past, and the ids it wrote; see `generate` for the reasons.
fn place(output: &mut Output, plan: &Plan) -> Result<(usize, BTreeSet<String>), StageError> {
    let (mut done, mut ids) = (0, BTreeSet::new());
    for row in Rows::<Trace>::open(output.journal_path())? {
        let Ok(row) = row? else { continue };
        let parent = row.value.origin.parent.unwrap_or_default();
        if let Some(ahead) = plan.units[done..]
            .iter()
            .position(|unit| unit.parent == parent)
        {
            done += ahead + 1;
        }
        ids.insert(row.value.id);
    }
    let old = output.rejects()?;
    let unasked = plan.bad.len().min(old.len());
    let line = done.checked_sub(1).map_or(0, |last| plan.units[last].line);
    let refused = old[unasked..]
        .iter()
        .take_while(|bad| bad.line < line)
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
    done: usize,
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
    for units in plan.units[done..].chunks(REQUESTS_AT_ONCE) {
        let requests: Vec<GenerateRequest> =
            units.iter().map(|unit| unit.request.clone()).collect();
        generate_in_order(
            model,
            &requests,
            &settings.sampling,
            control.stop,
            |index, result| {
                let unit = &units[index];
                match result {
                    Err(RowError { reason }) => {
                        output.reject(&BadRow::new(&plan.file, unit.line, reason, ""))?;
                    }
                    Ok(completion) => {
                        let trace = rewritten(settings, unit, &info, completion);
                        if ids.insert(trace.id.clone()) {
                            output.push(&trace)?;
                        }
                    }
                }
                meter.advance(1);
                Ok(())
            },
        )?;
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
    let mut origin = Origin::of(OriginKind::Paraphrased);
    origin.model = Some(model_name(info));
    origin.sampling = Some(sampling);
    origin.parent = Some(unit.parent.clone());
    Trace::new(
        &unit.problem_id,
        &completion.text,
        completion.finish,
        origin,
    )
}
