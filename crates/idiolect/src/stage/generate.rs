//! Sample traces: k completions a problem.

use std::collections::BTreeSet;
use std::path::PathBuf;

use idiolect_core::record::{Origin, OriginKind, Problem, Split, Trace};
use idiolect_core::store::{BadRow, Ending, Key, Meta, Opened, Output};
use idiolect_model::budget;
use idiolect_model::{
    Completion, Context, Generate, GenerateRequest, ModelInfo, Rng, RowError, Sampling,
};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::ask;
use super::inputs::{Problems, PromptKind, Prompts, record_model, record_sampling, sampling_value};
use super::{Control, Outcome, StageError};

/// What to sample.
#[derive(Clone, Debug)]
pub struct GenerateSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Only problems of these; none are all.
    pub splits: Vec<Split>,
    /// Samples a problem.
    pub samples: usize,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// A built-in prompt or a file; `None` is the task's default.
    pub prompt: Option<String>,
    /// Keys every sample's own seed.
    pub seed: u64,
    /// `traces.jsonl`.
    pub output: PathBuf,
}

/// Samples `k` traces a problem; the output is in the order of problems and samples. Equal texts for
/// one problem collapse to the first: their sample numbers are missing in the output.
pub fn generate(
    settings: &GenerateSettings,
    model: &mut dyn Generate,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    samples_differ(settings.samples, &settings.sampling)?;
    let problems = Problems::read(&settings.problems, &settings.splits)?;
    let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
    let meta = provenance(settings, &problems, &prompts, model.info());
    let mut output = match control.open(&settings.output, &meta)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let asked = Asked::new(&problems, &prompts);
    let writer = Writer {
        sampling: sampling_value(&settings.sampling),
        model: model_name(model.info()),
        prompts: &prompts,
    };
    let asking = Asking {
        stage: "generate",
        unit: "samples",
        asked: &asked,
        samples: settings.samples,
        sampling: &settings.sampling,
        seed: settings.seed,
    };
    let order = asking.ask(&mut output, model, control, |output, answer| {
        let (problem, sample) = (answer.problem, answer.sample);
        match answer.result {
            Ok(completion) => {
                let trace = writer.trace(problem, sample, answer.seed, &completion);
                output.push(&problem.id, sample, &trace)?;
            }
            Err(error) => {
                let mut bad =
                    BadRow::new(asked.file, answer.line, &error.reason, &problem.question);
                bad.sample = Some(sample);
                output.refuse(&problem.id, sample, &bad)?;
            }
        }
        Ok(())
    })?;
    let mut ids = BTreeSet::new();
    let ending = asked.ending(&order);
    let meta = control.finish(&settings.output, output, |output| {
        output.finish_with(&ending, |row| distinct(&mut ids, row))
    })?;
    Outcome::of(&settings.output, &meta, false, control)
}

/// A row, unless one with its id came before.
pub(super) fn distinct(ids: &mut BTreeSet<String>, row: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let Id { id } = serde_json::from_str(row.get()).ok()?;
    ids.insert(id).then(|| row.get().to_owned())
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
}

impl<'a> Asked<'a> {
    pub(super) fn new(problems: &'a Problems, prompts: &Prompts) -> Self {
        let mut asked = Self {
            rows: Vec::new(),
            bad: problems.bad.clone(),
            file: &problems.file,
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

    /// How an output of samples with these keys ends.
    pub(super) fn ending<'o>(&'o self, order: &'o [Key]) -> Ending<'o> {
        Ending {
            order,
            refused: &self.bad,
            seen: (order.len() + self.bad.len()) as u64,
        }
    }
}

/// What is asked of a model: some samples of every problem.
pub(super) struct Asking<'a> {
    /// Keys the seeds of its requests.
    pub(super) stage: &'static str,
    /// What progress counts.
    pub(super) unit: &'static str,
    pub(super) asked: &'a Asked<'a>,
    pub(super) samples: usize,
    pub(super) sampling: &'a Sampling,
    pub(super) seed: u64,
}

/// What came of one request.
pub(super) struct Answer<'a> {
    pub(super) line: u64,
    pub(super) problem: &'a Problem,
    pub(super) sample: usize,
    pub(super) seed: u64,
    pub(super) result: Result<Completion, RowError>,
}

impl Asking<'_> {
    /// The keys of all samples, in the order of the output.
    fn keys(&self) -> Vec<Key> {
        let problems = self.asked.rows.iter();
        problems
            .flat_map(|(_, problem, _)| {
                (0..self.samples).map(|sample| Key::new(&problem.id, sample))
            })
            .collect()
    }

    /// Whether a unit of work belongs to the part of the output that is made here.
    fn is_here(&self, unit: usize, control: Control<'_>) -> bool {
        control.takes(&self.asked.rows[unit / self.samples].1.id)
    }

    /// Asks for every sample that the output does not have; `write` gets each answer when it comes.
    /// Returns the keys of all samples, in the order of the output.
    pub(super) fn ask(
        &self,
        output: &mut Output,
        model: &mut dyn Generate,
        control: Control<'_>,
        mut write: impl FnMut(&mut Output, Answer<'_>) -> Result<(), StageError>,
    ) -> Result<Vec<Key>, StageError> {
        budget::REQUESTS
            .check_size(self.asked.rows.len().saturating_mul(self.samples))
            .map_err(|error| StageError::usage(error.to_string(), ""))?;
        let keys = self.keys();
        let here: Vec<usize> = (0..keys.len())
            .filter(|unit| self.is_here(*unit, control))
            .collect();
        let is_open = |unit: &usize| !output.contains(keys[*unit]);
        let open: Vec<usize> = here.iter().copied().filter(is_open).collect();
        let done = here.len() - open.len();
        let total = Some(here.len() as u64);
        let progress = control.progress;
        let mut meter = progress.begin(self.stage, self.unit, total, done as u64);
        for units in open.chunks(model.requests_at_once()) {
            let requests: Vec<GenerateRequest> =
                units.iter().map(|unit| self.request(*unit)).collect();
            ask(
                model,
                &requests,
                self.sampling,
                control.stop,
                |index, result| {
                    let unit = units[index];
                    let (line, problem, _) = &self.asked.rows[unit / self.samples];
                    let answer = Answer {
                        line: *line,
                        problem,
                        sample: unit % self.samples,
                        seed: requests[index].seed,
                        result,
                    };
                    write(output, answer)?;
                    meter.advance(1);
                    control.check_refused(output, total)
                },
            )?;
        }
        Ok(keys)
    }

    fn request(&self, unit: usize) -> GenerateRequest {
        let (_, problem, prompt) = &self.asked.rows[unit / self.samples];
        let sample = (unit % self.samples).to_string();
        GenerateRequest {
            context: Context::Prompt(prompt.clone()),
            // 53 bits: other programs read JSON numbers as floats.
            seed: Rng::keyed(self.seed, &[self.stage, &problem.id, &sample]).next_u64() >> 11,
        }
    }
}

/// Makes traces of completions.
struct Writer<'a> {
    sampling: Value,
    model: String,
    prompts: &'a Prompts,
}

impl Writer<'_> {
    fn trace(&self, problem: &Problem, sample: usize, seed: u64, completion: &Completion) -> Trace {
        let mut sampling = self.sampling.clone();
        sampling["seed"] = Value::from(seed);
        sampling["sample"] = Value::from(sample);
        if let Some(words) = self.prompts.of(problem).introduction() {
            sampling["introduction"] = Value::from(words);
        }
        let mut origin = Origin::of(OriginKind::Sampled);
        origin.model = Some(self.model.clone());
        origin.sampling = Some(sampling);
        Trace::new(&problem.id, &completion.text, completion.finish, origin)
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
