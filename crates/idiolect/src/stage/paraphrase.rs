//! Rewrite traces: a model rewrites each in its own style.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use idiolect_core::arms::FAULT;
use idiolect_core::paraphrase::{Bounds, fault};
use idiolect_core::record::{Origin, OriginKind, Trace};
use idiolect_core::store::{BadRow, Ending, Key, Meta, Opened, Output};
use idiolect_model::{
    Completion, Context, Generate, GenerateRequest, ModelInfo, Rng, RowError, Sampling,
};
use serde_json::{Value, json};

use super::ask::ask;
use super::code::CodeRunner;
use super::generate::{distinct, model_name};
use super::inputs::{
    Input, Problems, PromptKind, Prompts, record_model, record_sampling, sampling_value,
};
use super::{Control, Outcome, StageError};

/// What to rewrite.
#[derive(Clone, Debug)]
pub struct ParaphraseSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Files of the traces to rewrite.
    pub traces: Vec<PathBuf>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// A built-in prompt or a file with `{solution}`; `None` is the task's own.
    pub prompt: Option<String>,
    /// What a rewriting is held to; nothing where unset.
    pub bounds: Option<Bounds>,
    /// Further tries for a rewriting that is at fault.
    pub retries: usize,
    /// Keys every rewriting's own seed.
    pub seed: u64,
    /// `traces.jsonl`.
    pub output: PathBuf,
}

/// Writes one rewriting a trace, in the order of the traces; its parent is the trace's id. Equal
/// rewritings for one problem collapse to the first. A rewriting at fault is tried again, and kept
/// with its reasons in `origin.ops` where no try is better: arm P leaves it out.
pub fn paraphrase(
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
    let held_to = settings.bounds.iter().flat_map(|_| problems.tasks());
    let code = CodeRunner::for_tasks(held_to, control)?;
    let mut meta = provenance(settings, &problems, &prompts, &input, model.info());
    code.record(&mut meta);
    let mut output = match control.open(&settings.output, &meta)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let plan = Plan::read(&problems, &prompts, &input, settings.seed)?;
    let mut rewriting = Rewriting {
        settings,
        problems: &problems,
        code: &code,
        units: &plan.units,
        sampling: sampling_value(&settings.sampling),
        model: model_name(model.info()),
        tries: vec![Tries::default(); plan.units.len()],
    };
    rewriting.recall(&output)?;
    rewriting.rewrite(&mut output, model, control)?;
    let order = rewriting.last_tries();
    let ending = Ending {
        order: &order,
        refused: &plan.bad,
        seen: plan.seen,
    };
    let mut ids = BTreeSet::new();
    let meta = control.finish(&settings.output, output, |output| {
        output.finish_with(&ending, |row| distinct(&mut ids, row))
    })?;
    Outcome::of(&settings.output, &meta, false, control)
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
    let problem = problems.of(trace)?;
    let file = prompts.of(problem);
    let prompt = problems
        .task(problem)
        .paraphrase_prompt(problem, &trace.text, file)?;
    Ok((prompt, file.introduction()))
}

/// What came of the tries of a unit so far.
#[derive(Clone, Debug, Default)]
struct Tries {
    /// What was wrong with each of them.
    faults: Vec<String>,
    /// Whether one more had no fault, or was refused.
    ended: bool,
}

/// Rewrites each unit until a try has no fault. Each try has a key of its own: the id of the
/// trace that it rewrites, and its number.
struct Rewriting<'a> {
    settings: &'a ParaphraseSettings,
    problems: &'a Problems,
    /// Runs rewritten programs.
    code: &'a CodeRunner,
    units: &'a [Unit],
    sampling: Value,
    model: String,
    tries: Vec<Tries>,
}

impl Rewriting<'_> {
    /// Tries that a unit has at most.
    fn most(&self) -> usize {
        match self.settings.bounds {
            Some(_) => 1 + self.settings.retries,
            None => 1,
        }
    }

    fn key(&self, unit: usize, number: usize) -> Key {
        Key::new(&self.units[unit].original.id, number)
    }

    /// Reads what an earlier process tried.
    fn recall(&mut self, output: &Output) -> Result<(), StageError> {
        let (mut keys, mut unit_of) = (Vec::new(), BTreeMap::new());
        for unit in 0..self.units.len() {
            for number in 0..self.most() {
                let key = self.key(unit, number);
                if output.contains(key) {
                    keys.push(key);
                    unit_of.insert(key, unit);
                }
            }
        }
        output.each_row(&keys, |key, row| {
            let trace: Trace = serde_json::from_str(row.get()).map_err(|error| {
                StageError::failed(format!("a row of the journal: {error}"), "")
            })?;
            let tries = &mut self.tries[unit_of[&key]];
            match trace.origin.ops.last().and_then(|op| op["reason"].as_str()) {
                Some(fault) => tries.faults.push(fault.to_owned()),
                None => tries.ended = true,
            }
            Ok::<(), StageError>(())
        })?;
        for unit in 0..self.units.len() {
            let next = self.key(unit, self.tries[unit].faults.len());
            self.tries[unit].ended |= output.contains(next);
        }
        Ok(())
    }

    fn rewrite(
        &mut self,
        output: &mut Output,
        model: &mut dyn Generate,
        control: Control<'_>,
    ) -> Result<(), StageError> {
        let here: Vec<usize> = (0..self.units.len())
            .filter(|&unit| control.takes(&self.units[unit].original.problem_id))
            .collect();
        let done = here.iter().filter(|&&unit| self.is_over(unit)).count();
        let progress = control.progress;
        let total = Some(here.len() as u64);
        let mut meter = progress.begin("paraphrase", "traces", total, done as u64);
        for number in 0..self.most() {
            let open: Vec<usize> = here
                .iter()
                .copied()
                .filter(|&unit| !self.is_over(unit) && self.tries[unit].faults.len() == number)
                .collect();
            for units in open.chunks(model.requests_at_once()) {
                let requests: Vec<GenerateRequest> = units
                    .iter()
                    .map(|&unit| self.units[unit].try_number(self.settings.seed, number))
                    .collect();
                let sampling = &self.settings.sampling;
                ask(model, &requests, sampling, control.stop, |index, result| {
                    let seed = requests[index].seed;
                    if self.write(units[index], number, seed, result, output)? {
                        meter.advance(1);
                    }
                    control.check_refused(output, total)
                })?;
            }
        }
        Ok(())
    }

    /// Writes what came of a try. Says whether it was the last of its unit.
    fn write(
        &mut self,
        at: usize,
        number: usize,
        seed: u64,
        result: Result<Completion, RowError>,
        output: &mut Output,
    ) -> Result<bool, StageError> {
        let unit = &self.units[at];
        let completion = match result {
            Ok(completion) => completion,
            Err(RowError { reason, .. }) => {
                let bad = BadRow::new(&unit.file, unit.line, reason, "");
                output.refuse(&unit.original.id, number, &bad)?;
                self.tries[at].ended = true;
                return Ok(true);
            }
        };
        let fault = self.fault_of(unit, &completion);
        self.code.check()?;
        let mut trace = self.rewritten(unit, seed, &completion);
        let tries = &mut self.tries[at];
        match fault {
            Some(fault) => tries.faults.push(fault),
            None => tries.ended = true,
        }
        // A good try after bad ones leaves their reasons out: they are not true of it.
        if !tries.ended {
            let faults = tries.faults.iter();
            trace.origin.ops = faults
                .map(|reason| json!({"op": FAULT, "reason": reason}))
                .collect();
        }
        output.push(&unit.original.id, number, &trace)?;
        Ok(self.is_over(at))
    }

    /// Whether no further try of a unit is made.
    fn is_over(&self, unit: usize) -> bool {
        let tries = &self.tries[unit];
        tries.ended || tries.faults.len() >= self.most()
    }

    /// The fault of a rewriting, if it has one and is held to something.
    fn fault_of(&self, unit: &Unit, completion: &Completion) -> Option<String> {
        let bounds = self.settings.bounds.as_ref()?;
        let problem = self.problems.get(&unit.original.problem_id)?;
        fault(
            problem,
            self.problems.task(problem),
            &unit.original,
            (completion.text.as_str(), completion.finish),
            bounds,
            self.code.execute(),
        )
    }

    /// The key of each unit's last try, in order.
    fn last_tries(&self) -> Vec<Key> {
        let last = |tries: &Tries| match tries.ended {
            true => tries.faults.len(),
            false => tries.faults.len().saturating_sub(1),
        };
        let tries = self.tries.iter().enumerate();
        tries
            .map(|(unit, tries)| self.key(unit, last(tries)))
            .collect()
    }

    fn rewritten(&self, unit: &Unit, seed: u64, completion: &Completion) -> Trace {
        let mut sampling = self.sampling.clone();
        sampling["seed"] = Value::from(seed);
        if let Some(words) = &unit.introduction {
            sampling["introduction"] = Value::from(words.as_str());
        }
        let mut origin = Origin::of(OriginKind::Paraphrased);
        origin.model = Some(self.model.clone());
        origin.sampling = Some(sampling);
        origin.parent = Some(unit.original.id.clone());
        Trace::new(
            &unit.original.problem_id,
            &completion.text,
            completion.finish,
            origin,
        )
    }
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
