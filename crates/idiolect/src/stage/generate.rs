//! Sample traces: k completions a problem.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idiolect_core::record::{Origin, OriginKind, Problem, Split, Trace};
use idiolect_core::store::{BadRow, Meta, Opened, Output, Rows};
use idiolect_model::{
    Completion, Context, Generate, GenerateRequest, ModelInfo, Rng, RowError, Sampling,
};
use serde_json::Value;

use super::inputs::{Problems, PromptKind, Prompts, record_model, record_sampling, sampling_value};
use super::ordered::generate_in_order;
use super::{Control, Outcome, StageError};

/// What to sample.
#[derive(Clone, Debug)]
pub(crate) struct GenerateSettings {
    /// `problems.jsonl`.
    pub(crate) problems: PathBuf,
    /// Only problems of these; none are all.
    pub(crate) splits: Vec<Split>,
    /// Samples a problem.
    pub(crate) samples: usize,
    /// How to choose tokens.
    pub(crate) sampling: Sampling,
    /// A built-in prompt or a file; `None` is the task's default.
    pub(crate) prompt: Option<String>,
    /// Keys every sample's own seed.
    pub(crate) seed: u64,
    /// `traces.jsonl`.
    pub(crate) output: PathBuf,
}

/// Requests handed to the model at once: enough for any batch, little enough for memory.
pub(super) const REQUESTS_AT_ONCE: usize = 4096;

/// Samples `k` traces a problem, in the order of problems and samples. Equal texts for one problem
/// collapse to the first: their sample numbers are missing in the output.
pub(crate) fn generate(
    settings: &GenerateSettings,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    samples_differ(settings.samples, &settings.sampling)?;
    let problems = Problems::read(&settings.problems, &settings.splits)?;
    let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
    let meta = provenance(settings, &problems, &prompts, model.info());
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let asked = Asked::new(&problems, &prompts);
    let place = Place::find(&mut output, &asked, settings.samples)?;
    let writer = Writer {
        info: model.info().clone(),
        sampling: sampling_value(&settings.sampling),
        prompts: &prompts,
        ids: place.ids_of_last,
        problem: place
            .done
            .checked_sub(1)
            .map_or(0, |unit| unit / settings.samples),
        output: &mut output,
        settings,
    };
    let seen = (asked.rows.len() * settings.samples + asked.bad.len()) as u64;
    sample(&asked, place.done, writer, model, control)?;
    Outcome::of(&settings.output, &output.finish(seen)?, false, control)
}

/// Several greedy samples would all be one.
pub(super) fn samples_differ(k: usize, sampling: &Sampling) -> Result<(), StageError> {
    if k == 0 {
        return Err(StageError::usage("0 samples a problem", "give at least 1"));
    }
    if k > 1 && sampling.temperature <= 0.0 {
        return Err(StageError::usage(
            format!("{k} samples at temperature 0 would all be equal"),
            "give a --temperature above 0, or one sample",
        ));
    }
    Ok(())
}

fn provenance(
    settings: &GenerateSettings,
    problems: &Problems,
    prompts: &Prompts,
    info: &ModelInfo,
) -> Meta {
    let mut meta = Meta::of("generate");
    problems.record(&mut meta);
    prompts.record(&mut meta);
    record_model(&mut meta, info);
    record_sampling(&mut meta, &settings.sampling);
    meta.setting("samples", settings.samples)
        .setting("splits", &settings.splits)
        .setting("seed", settings.seed);
    meta
}

/// The problems with their prompts; those that cannot be asked are bad rows.
pub(super) struct Asked<'a> {
    pub(super) rows: Vec<(u64, &'a Problem, String)>,
    pub(super) bad: Vec<BadRow>,
    file: &'a str,
    problems: &'a Problems,
}

impl<'a> Asked<'a> {
    pub(super) fn new(problems: &'a Problems, prompts: &Prompts) -> Self {
        let mut asked = Self {
            rows: Vec::new(),
            bad: problems.bad.clone(),
            file: &problems.file,
            problems,
        };
        for (line, problem) in &problems.rows {
            match problems.task(problem).prompt(problem, prompts.of(problem)) {
                Ok(prompt) => asked.rows.push((*line, problem, prompt)),
                Err(reason) => {
                    asked.bad.push(BadRow::new(
                        &problems.file,
                        *line,
                        reason,
                        &problem.question,
                    ));
                }
            }
        }
        asked
    }

    /// Sample `unit % k` of problem `unit / k`.
    pub(super) fn request(&self, stage: &str, seed: u64, unit: usize, k: usize) -> GenerateRequest {
        let (_, problem, prompt) = &self.rows[unit / k];
        let sample = (unit % k).to_string();
        GenerateRequest {
            context: Context::Prompt(prompt.clone()),
            // 53 bits: other programs read JSON numbers as floats.
            seed: Rng::keyed(seed, &[stage, &problem.id, &sample]).next_u64() >> 11,
        }
    }

    fn reject(&self, unit: usize, k: usize, error: &RowError) -> BadRow {
        let (line, problem, _) = &self.rows[unit / k];
        let mut bad = BadRow::new(self.file, *line, &error.reason, &problem.question);
        bad.sample = Some(unit % k);
        bad
    }
}

/// Where an earlier process stopped.
struct Place {
    /// Samples that are done.
    done: usize,
    /// Ids of the rows of the problem it was at.
    ids_of_last: BTreeSet<String>,
}

impl Place {
    /// Collapsed samples leave no row, so the place is read from the last row, and what came after
    /// it is done again, to the same end.
    fn find(output: &mut Output, asked: &Asked<'_>, k: usize) -> Result<Self, StageError> {
        let index = |id: &str| {
            let all = asked.problems.index(id)?;
            let line = asked.problems.rows[all].0;
            asked.rows.binary_search_by_key(&line, |row| row.0).ok()
        };
        let mut place = Self {
            done: 0,
            ids_of_last: BTreeSet::new(),
        };
        let mut last = String::new();
        for row in Rows::<Trace>::open(output.journal_path())? {
            let Ok(row) = row? else { continue };
            let trace = row.value;
            if trace.problem_id != last {
                place.ids_of_last.clear();
                last.clone_from(&trace.problem_id);
            }
            let sampling = trace.origin.sampling.as_ref();
            let sample = sampling
                .and_then(|s| s.get("sample"))
                .and_then(Value::as_u64);
            let (Some(problem), Some(sample)) = (index(&trace.problem_id), sample) else {
                continue;
            };
            place.done = problem * k + sample as usize + 1;
            place.ids_of_last.insert(trace.id);
        }
        // First the rows that cannot be asked at all, then what the model refused, in order.
        let old = output.rejects()?;
        let unit = |bad: &BadRow| {
            let problem = asked
                .rows
                .binary_search_by_key(&bad.line, |row| row.0)
                .ok()?;
            Some(problem * k + bad.sample?)
        };
        let unasked = asked.bad.len().min(old.len());
        let later = old[unasked..].iter();
        let refused = later
            .take_while(|bad| unit(bad).is_some_and(|unit| unit < place.done))
            .count();
        output.keep_rejects((unasked + refused) as u64)?;
        for bad in &asked.bad[unasked..] {
            output.reject(bad)?;
        }
        Ok(place)
    }
}

/// Turns completions into rows, collapsing equal ones.
struct Writer<'a> {
    output: &'a mut Output,
    settings: &'a GenerateSettings,
    info: ModelInfo,
    sampling: Value,
    prompts: &'a Prompts,
    /// Which problem `ids` are of.
    problem: usize,
    ids: BTreeSet<String>,
}

impl Writer<'_> {
    fn write(
        &mut self,
        asked: &Asked<'_>,
        unit: usize,
        seed: u64,
        result: Result<Completion, RowError>,
    ) -> Result<(), StageError> {
        let k = self.settings.samples;
        let completion = match result {
            Ok(completion) => completion,
            Err(error) => return Ok(self.output.reject(&asked.reject(unit, k, &error))?),
        };
        if unit / k != self.problem {
            self.problem = unit / k;
            self.ids.clear();
        }
        let mut sampling = self.sampling.clone();
        sampling["seed"] = Value::from(seed);
        sampling["sample"] = Value::from(unit % k);
        let problem = asked.rows[unit / k].1;
        if let Some(words) = self.prompts.of(problem).introduction() {
            sampling["introduction"] = Value::from(words);
        }
        let mut origin = Origin::of(OriginKind::Sampled);
        origin.model = Some(model_name(&self.info));
        origin.sampling = Some(sampling);
        let trace = Trace::new(&problem.id, &completion.text, completion.finish, origin);
        if self.ids.insert(trace.id.clone()) {
            self.output.push(&trace)?;
        }
        Ok(())
    }
}

/// A model as origins name it.
pub(super) fn model_name(info: &ModelInfo) -> String {
    if info.name.is_empty() {
        info.hash.clone()
    } else {
        format!("{}@{}", info.name, info.hash)
    }
}

fn sample(
    asked: &Asked<'_>,
    done: usize,
    mut writer: Writer<'_>,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<(), StageError> {
    let settings = writer.settings;
    let total = asked.rows.len() * settings.samples;
    let mut meter = control
        .progress
        .begin("generate", "samples", Some(total as u64), done as u64);
    let mut start = done;
    while start < total {
        let end = (start + REQUESTS_AT_ONCE).min(total);
        let requests: Vec<GenerateRequest> = (start..end)
            .map(|unit| asked.request("generate", settings.seed, unit, settings.samples))
            .collect();
        generate_in_order(
            model,
            &requests,
            &settings.sampling,
            control.stop,
            |index, result| {
                writer.write(asked, start + index, requests[index].seed, result)?;
                meter.advance(1);
                Ok(())
            },
        )?;
        start = end;
    }
    Ok(())
}
