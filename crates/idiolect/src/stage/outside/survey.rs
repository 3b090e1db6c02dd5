//! What must be known of whole files before anything is written: whose answers they are, how they
//! were decoded, which problems were asked and how, and the scores of every filter.

use std::collections::{BTreeMap, BTreeSet};

use idiolect_core::outside::AnsweredRow;
use idiolect_core::record::{Decoding, Problem, content_hash};
use idiolect_core::store::Meta;
use serde_json::{Map, Value, json};

use super::super::StageError;
use super::super::code::CodeRunner;
use super::find::Finder;
use super::source::Source;
use super::{OutsideSettings, set_of};

/// The rows of one file that are of the same answers, by the number of their problem.
#[derive(Default)]
pub(super) struct Filters {
    by_index: BTreeMap<usize, Filtered>,
}

struct Filtered {
    /// The row whose answers are taken, by its number in the file, and its line.
    number: usize,
    line: u64,
    /// Hash of those answers.
    answers: String,
    seen: BTreeSet<String>,
    /// Rows so far that have no name of a filter.
    unnamed: usize,
    scores: Map<String, Value>,
    /// Rows that repeat the answers, and those that contradict them with the reason. By number: the
    /// rows of an array may all stand in one line.
    repeats: BTreeMap<usize, Option<String>>,
}

impl Filters {
    fn add(&mut self, row: &AnsweredRow, number: usize, line: u64) {
        let (Some(index), Some(filter)) = (row.index, &row.filter) else {
            return;
        };
        let texts: Vec<&str> = row
            .replies
            .iter()
            .map(|reply| reply.text.as_deref().unwrap_or_default())
            .collect();
        let answers = content_hash(texts.join("\0").as_bytes());
        let held = self.by_index.entry(index).or_insert_with(|| Filtered {
            number,
            line,
            answers: answers.clone(),
            seen: BTreeSet::new(),
            unnamed: 0,
            scores: Map::new(),
            repeats: BTreeMap::new(),
        });
        let wrong = if held.answers != answers {
            Some(format!(
                "its answers are not those of line {}, which is of the same `doc_id`",
                held.line
            ))
        } else if filter.is_empty() {
            held.unnamed += 1;
            None
        } else if !held.seen.insert(filter.clone()) {
            Some(format!(
                "`doc_id` {index} has filter `{filter}` twice, at line {} too or before",
                held.line
            ))
        } else {
            None
        };
        if wrong.is_none() {
            // Filters without a name keep the order of the file.
            let name = |metric: &str| match (filter.as_str(), held.unnamed) {
                ("", 1) => metric.to_owned(),
                ("", nth) => format!("{metric},{nth}"),
                (filter, _) => format!("{metric},{filter}"),
            };
            for (metric, value) in &row.scores {
                held.scores.insert(name(metric), value.clone());
            }
        }
        if held.number != number {
            held.repeats.insert(number, wrong);
        }
    }

    /// Whether a row is of answers that another row gives: it is another filter's.
    ///
    /// # Errors
    /// Where it contradicts that row.
    pub(super) fn repeats(&self, row: &AnsweredRow, number: usize) -> Result<bool, String> {
        match self.of(row).and_then(|held| held.repeats.get(&number)) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(reason)) => Err(reason.clone()),
        }
    }

    /// The scores of all filters of a row's answers.
    pub(super) fn scores(&self, row: &AnsweredRow) -> Map<String, Value> {
        let scores = self.of(row).map_or(&row.scores, |held| &held.scores);
        scores.clone()
    }

    /// What is held of a row's answers, where the row is of one filter.
    fn of(&self, row: &AnsweredRow) -> Option<&Filtered> {
        row.filter.as_ref()?;
        self.by_index.get(&row.index?)
    }
}

/// How a row's answers were decoded.
pub(super) fn decoding(row: &AnsweredRow, settings: &OutsideSettings) -> Decoding {
    settings.decoding.unwrap_or(match row.is_greedy() {
        Some(true) => Decoding::Greedy,
        _ => Decoding::Sampled,
    })
}

/// All of it.
#[derive(Default)]
pub(super) struct Survey {
    filters: Vec<Filters>,
    models: BTreeSet<String>,
    without_model: bool,
    decodings: BTreeSet<Option<bool>>,
    sampling: BTreeSet<String>,
    /// What was asked, by problem: question and gold, and the prompt's hash.
    asked: BTreeMap<String, (String, String)>,
    answers: BTreeMap<String, usize>,
    joined: u64,
    /// Logs that did not end well: which, and how.
    ended: Vec<String>,
}

impl Survey {
    pub(super) fn of(sources: &[Source], finder: &Finder) -> Result<Self, StageError> {
        let mut survey = Self::default();
        for source in sources {
            let mut filters = Filters::default();
            let ended = source.each(|item| {
                let Ok(row) = item.row else { return Ok(()) };
                filters.add(&row, item.number, item.line);
                match filters.repeats(&row, item.number) {
                    Ok(true) => survey.joined += 1,
                    Ok(false) => {
                        if let Ok(imported) = finder.problem(&row, source, item.number) {
                            survey.add(source, &row, &imported.problem);
                        }
                    }
                    // It will be refused.
                    Err(_) => {}
                }
                Ok(())
            })?;
            let named = |ended| format!("`{}`: {ended}", source.name);
            survey.ended.extend(ended.map(named));
            survey.filters.push(filters);
        }
        Ok(survey)
    }

    fn add(&mut self, source: &Source, row: &AnsweredRow, problem: &Problem) {
        let answered = row.replies.iter().any(|reply| reply.text.is_ok());
        match source.model.as_ref().or(row.model.as_ref()) {
            Some(model) => drop(self.models.insert(model.clone())),
            // A request that failed names none.
            None => self.without_model |= answered,
        }
        if answered {
            self.decodings.insert(row.is_greedy());
        }
        self.sampling
            .insert(Value::Object(row.sampling.clone()).to_string());
        let asked = content_hash(
            json!([problem.question, problem.gold])
                .to_string()
                .as_bytes(),
        );
        let prompt = row
            .prompt
            .as_ref()
            .map_or_else(String::new, |prompt| content_hash(prompt.as_bytes()));
        self.asked.insert(problem.id.clone(), (asked, prompt));
        *self.answers.entry(problem.id.clone()).or_default() += row.replies.len();
    }

    pub(super) fn filters(&self) -> &[Filters] {
        &self.filters
    }

    /// Refuses what would make one evaluation of several.
    pub(super) fn check(&self, settings: &OutsideSettings) -> Result<(), StageError> {
        if settings.outputs.evaluation.is_none() {
            return Ok(());
        }
        if self.models.len() + usize::from(self.without_model && !self.models.is_empty()) > 1 {
            let named: Vec<String> = self
                .models
                .iter()
                .map(|model| format!("{model:?}"))
                .collect();
            return Err(StageError::usage(
                format!(
                    "--eval: the answers are of several models ({})",
                    named.join(", ")
                ),
                "write an evaluation for each, or state with --model that they are one",
            ));
        }
        let is_greedy = |decoding: &Option<bool>| *decoding == Some(true);
        let mixed = self.decodings.iter().any(is_greedy) && !self.decodings.iter().all(is_greedy);
        if mixed && settings.decoding.is_none() {
            return Err(StageError::usage(
                "--eval: some answers are greedy and others sampled, which are two evaluations",
                "write an evaluation for each, or state with --decoding how all were decoded",
            ));
        }
        let greedy = match settings.decoding {
            Some(decoding) => decoding == Decoding::Greedy,
            None => self.decodings.contains(&Some(true)),
        };
        if greedy && let Some((id, n)) = self.answers.iter().find(|(_, n)| **n > 1) {
            return Err(StageError::usage(
                format!(
                    "--eval: problem `{}` has {n} greedy answers, and an evaluation holds one",
                    crate::shown::escaped(id, 80)
                ),
                "write an evaluation for each run, or give --decoding sampled",
            ));
        }
        Ok(())
    }

    /// What a person should know before the rows are read again.
    pub(super) fn notes(&self, settings: &OutsideSettings) -> Vec<String> {
        let mut notes = self.ended.clone();
        if self.joined > 0 {
            notes.push(format!(
                "{} rows are of the same answers under another filter: their scores stand beside the answers' own",
                self.joined
            ));
        }
        if self.models.is_empty() && !self.answers.is_empty() {
            notes.push("the files do not name the model; --model NAME does, and makes its traces count as sampled".to_owned());
        }
        let evaluates = settings.outputs.evaluation.is_some();
        if evaluates && settings.decoding.is_none() && self.decodings.contains(&None) {
            notes.push("the files do not state how answers were decoded: they count as sampled; --decoding greedy states otherwise".to_owned());
        }
        let (fewest, most) = (self.answers.values().min(), self.answers.values().max());
        if let (true, Some(fewest), Some(most)) = (evaluates && fewest != most, fewest, most) {
            notes.push(format!(
                "problems have from {fewest} to {most} answers each"
            ));
        }
        notes
    }

    /// The provenance of the evaluation: what two of them must share to be compared, and the files.
    pub(super) fn evaluation_meta(
        &self,
        settings: &OutsideSettings,
        sources: &[Source],
        code: &CodeRunner,
    ) -> Meta {
        let mut meta = Meta::of("eval");
        let files: Vec<&str> = sources.iter().map(Source::hash).collect();
        let programs: BTreeSet<&str> = sources
            .iter()
            .map(|source| source.program.as_str())
            .collect();
        meta.input("answers", content_hash(files.join(" ").as_bytes()));
        let hash_of = |part: fn(&(String, String)) -> &String| {
            let lines: Vec<String> = self
                .asked
                .iter()
                .map(|(id, asked)| format!("{id}\0{}", part(asked)))
                .collect();
            content_hash(lines.join("\n").as_bytes())
        };
        meta.input("problems", hash_of(|asked| &asked.0));
        meta.version("prompts", hash_of(|asked| &asked.1));
        meta.version("task", settings.task.versions());
        let model = self.models.first().cloned();
        // Answers of a model without a name are those of no other file's.
        let unnamed = || format!("unnamed, of {}", content_hash(files.join(" ").as_bytes()));
        meta.version("model", model.unwrap_or_else(unnamed));
        code.record(&mut meta);
        let sampling: Vec<Value> = self
            .sampling
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok())
            .collect();
        meta.setting("imported_from", programs)
            .setting("sampling", sampling)
            .setting("decoding", settings.decoding)
            .setting("finish", settings.finish)
            .setting("samples", self.answers.values().max())
            .setting("accept_rounded", settings.accept_rounded)
            .setting("columns", &settings.columns)
            .setting("set", set_of(settings));
        meta
    }
}
