//! An evaluation in the shape of lm-evaluation-harness: `results_DATE.json` and `samples_TASK_DATE.jsonl`
//! in one folder, for what reads its results. `DATE` is the same for every folder: equal evaluations
//! give equal files.
//!
//! Source: `lm_eval/result_schema.py`, `lm_eval/loggers/evaluation_tracker.py` of 0.4.13.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::record::{Decoding, EvalRow, Problem, TaskName, Verdict, content_hash};
use idiolect_core::store::{Folder, Meta, OpenedFolder, StoreError, write_atomic};
use serde_json::{Map, Value, json};

use super::inputs::{Input, Problems};
use super::report::parts;
use super::{Control, Outcome, StageError};

/// In place of the time that lm-eval puts into its file names.
const DATE: &str = "1970-01-01T00-00-00.000000";

/// The one metric: the fraction of a problem's answers that are correct.
const METRIC: &str = "exact_match";

/// What the stage puts into its folder.
const FILES: &[&str] = &["results_*.json", "samples_*.jsonl", ".*.tmp"];

/// What to write in lm-eval's shape.
#[derive(Clone, Debug)]
pub struct LmEvalSettings {
    /// `eval.jsonl`.
    pub input: PathBuf,
    /// `problems.jsonl` of it.
    pub problems: PathBuf,
    /// The folder.
    pub output: PathBuf,
}

/// Writes one samples file a task, and the results of all.
pub fn lm_eval(settings: &LmEvalSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let input = Input::open(&settings.input)?;
    let problems = Problems::read(&settings.problems, &[])?;
    let made_of = Meta::read(&settings.input)?.unwrap_or_default();
    let mut meta = Meta::of("convert");
    meta.input("evaluation", input.hash())
        .input("problems", &problems.hash);
    meta.setting("to", "lm-eval");
    let mut folder = match Folder::open(&settings.output, &meta, FILES, control.overwrite)? {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    folder.hash_files();
    let rows: Vec<EvalRow> = parts::read(&settings.input)?;
    let tasks = by_task(&rows, &problems)?;
    let asked = sampling(&made_of, rows.first().map(|row| row.decoding));
    let mut hashes = Vec::new();
    let mut results = Results {
        asked: asked.clone(),
        ..Results::default()
    };
    for (task, documents) in &tasks {
        let mut text = String::new();
        let mut sample_hashes = String::new();
        for (number, (problem, answers)) in documents.iter().enumerate() {
            let row = sample(number, problem, answers, &asked);
            for name in ["doc_hash", "prompt_hash", "target_hash"] {
                sample_hashes += row[name].as_str().unwrap_or_default();
            }
            text += &format!("{row}\n");
        }
        let name = format!("samples_{}_{DATE}.jsonl", task.as_str());
        write_atomic(&folder.path().join(name), text.as_bytes())?;
        hashes.push(content_hash(text.as_bytes()));
        results.add(
            *task,
            documents,
            &content_hash(sample_hashes.as_bytes()),
            &made_of,
        );
    }
    let mut text = serde_json::to_string_pretty(&results.document(&made_of)).unwrap_or_default();
    text.push('\n');
    write_atomic(
        &folder.path().join(format!("results_{DATE}.json")),
        text.as_bytes(),
    )?;
    hashes.push(content_hash(text.as_bytes()));
    let n = rows.len() as u64;
    let hash = content_hash(hashes.join(" ").as_bytes());
    Outcome::of(
        &settings.output,
        &folder.finish(n, n, &hash)?,
        false,
        control,
    )
}

type Documents<'a> = Vec<(&'a Problem, Vec<&'a EvalRow>)>;

/// The answers to each problem, by task, in the order of the problems' file.
fn by_task<'a>(
    rows: &'a [EvalRow],
    problems: &'a Problems,
) -> Result<BTreeMap<TaskName, Documents<'a>>, StageError> {
    let mut answers: BTreeMap<&str, Vec<&EvalRow>> = BTreeMap::new();
    for row in rows {
        if problems.get(&row.problem_id).is_none() {
            return Err(StageError::failed(
                format!(
                    "the evaluation answers problem `{}`, which --problems does not have",
                    crate::shown::escaped(&row.problem_id, 80)
                ),
                "give the problems that were evaluated",
            ));
        }
        let of_problem = answers.entry(row.problem_id.as_str()).or_default();
        if of_problem.iter().any(|other| other.sample == row.sample) {
            return Err(StageError::failed(
                format!(
                    "the evaluation has sample {} of problem `{}` twice",
                    row.sample,
                    crate::shown::escaped(&row.problem_id, 80)
                ),
                "give an evaluation as `idiolect eval` or `idiolect import --eval` wrote it",
            ));
        }
        of_problem.push(row);
    }
    let decodings = |decoding| rows.iter().any(|row| row.decoding == decoding);
    if decodings(Decoding::Greedy) && decodings(Decoding::Sampled) {
        return Err(StageError::failed(
            "the evaluation mixes greedy and sampled answers, which are two results in lm-eval",
            "write each as a file of its own",
        ));
    }
    let mut tasks: BTreeMap<TaskName, Documents<'a>> = BTreeMap::new();
    for (_, problem) in &problems.rows {
        if let Some(mut rows) = answers.remove(problem.id.as_str()) {
            rows.sort_by_key(|row| row.sample);
            tasks.entry(problem.task).or_default().push((problem, rows));
        }
    }
    Ok(tasks)
}

/// The fraction of a problem's answers that are correct.
fn score(answers: &[&EvalRow]) -> f64 {
    let correct = answers
        .iter()
        .filter(|row| row.verdict == Verdict::Correct)
        .count();
    correct as f64 / answers.len().max(1) as f64
}

/// One row of the samples: the document is the problem, the prompt its question (evaluations do not
/// hold whole prompts), and what the filter gives the answers as extracted.
fn sample(number: usize, problem: &Problem, answers: &[&EvalRow], asked: &Value) -> Value {
    let target = match problem.gold.get("answer").and_then(Value::as_str) {
        Some(answer) => answer.to_owned(),
        None => problem.gold.to_string(),
    };
    let document = json!({"id": problem.id, "question": problem.question, "gold": problem.gold});
    let texts: Vec<&str> = answers.iter().map(|row| row.text.as_str()).collect();
    let extracted: Vec<&str> = answers
        .iter()
        .map(|row| row.extracted.as_deref().unwrap_or("[invalid]"))
        .collect();
    let verdicts: Vec<Verdict> = answers.iter().map(|row| row.verdict).collect();
    json!({
        "doc_id": number,
        "doc": document,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": problem.question, "arg_1": asked}},
        "resps": [texts],
        "filtered_resps": extracted,
        "filter": "none",
        "metrics": [METRIC],
        "doc_hash": content_hash(document.to_string().as_bytes()),
        "prompt_hash": content_hash(problem.question.as_bytes()),
        "target_hash": content_hash(target.as_bytes()),
        METRIC: score(answers),
        "verdicts": verdicts,
    })
}

/// How the evaluation was sampled, in lm-eval's words. An imported one has the settings that the
/// other program stated; where none are known, the rows still say whether they are greedy: nothing at
/// all would mean so to lm-eval.
fn sampling(made_of: &Meta, decoding: Option<Decoding>) -> Value {
    let imported = made_of.settings.get("sampling").and_then(Value::as_array);
    let imported = match imported.map(Vec::as_slice) {
        Some([one]) => Some(one),
        _ => None,
    };
    let mut settings = Map::new();
    let names = [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_tokens", "max_gen_toks"),
        ("stop", "until"),
    ];
    for (ours, theirs) in names {
        let stated = imported.and_then(|settings| settings.get(ours));
        let value = made_of.settings.get(ours).or(stated);
        if let Some(value) = value.filter(|value| !value.is_null()) {
            settings.insert(theirs.to_owned(), value.clone());
        }
    }
    let samples = decoding == Some(Decoding::Sampled);
    let temperature = settings.get("temperature").and_then(Value::as_f64);
    // A temperature of other rows than these would say otherwise than they do.
    if temperature.is_some_and(|temperature| (temperature > 0.0) != samples) {
        settings.shift_remove("temperature");
    }
    settings.insert("do_sample".to_owned(), json!(samples));
    Value::Object(settings)
}

/// The tables of a results file, each by task.
#[derive(Default)]
struct Results {
    /// How answers were sampled.
    asked: Value,
    results: Map<String, Value>,
    subtasks: Map<String, Value>,
    configs: Map<String, Value>,
    versions: Map<String, Value>,
    higher: Map<String, Value>,
    counts: Map<String, Value>,
    hashes: Map<String, Value>,
}

impl Results {
    fn add(&mut self, task: TaskName, documents: &Documents<'_>, hash: &str, made_of: &Meta) {
        let name = task.as_str();
        let scores: Vec<f64> = documents
            .iter()
            .map(|(_, answers)| score(answers))
            .collect();
        let n = scores.len();
        let mean = scores.iter().sum::<f64>() / n.max(1) as f64;
        // As lm-eval's: the deviation of the documents' scores over the root of their number.
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let error = (n > 1).then(|| (squares / (n - 1) as f64).sqrt() / (n as f64).sqrt());
        let mut metrics = Map::new();
        metrics.insert("name".to_owned(), json!(name));
        metrics.insert("alias".to_owned(), json!(name));
        metrics.insert("sample_len".to_owned(), json!(n));
        metrics.insert(format!("{METRIC},none"), json!(mean));
        metrics.insert(
            format!("{METRIC}_stderr,none"),
            error.map_or(json!("N/A"), |error| json!(error)),
        );
        let repeats = documents.iter().map(|(_, answers)| answers.len()).max();
        let config = json!({
            "task": name,
            "output_type": "generate_until",
            "generation_kwargs": self.asked,
            "repeats": repeats,
            "metadata": {"version": made_of.versions.get("task"), "prompt": made_of.versions.get("prompt")},
        });
        let named = |value: Value| (name.to_owned(), value);
        self.results.extend([named(Value::Object(metrics))]);
        self.subtasks.extend([named(json!([]))]);
        self.configs.extend([named(config)]);
        self.versions
            .extend([named(json!(made_of.versions.get("task")))]);
        self.higher.extend([named(json!({METRIC: true}))]);
        self.counts
            .extend([named(json!({"original": n, "effective": n}))]);
        self.hashes.extend([named(json!(hash))]);
    }

    fn document(self, made_of: &Meta) -> Value {
        let model = made_of
            .versions
            .get("model")
            .cloned()
            .unwrap_or_else(|| "unknown".to_owned());
        let sanitized: String = model
            .chars()
            .map(|c| if "\"<>:/|\\?*[]".contains(c) { '_' } else { c })
            .collect();
        json!({
            "results": self.results,
            "group_subtasks": self.subtasks,
            "configs": self.configs,
            "versions": self.versions,
            // How many examples a prompt holds is not recorded.
            "n-shot": {},
            "higher_is_better": self.higher,
            "n-samples": self.counts,
            "config": {"model": "idiolect", "model_args": model, "batch_size": null, "limit": null, "bootstrap_iters": 0, "gen_kwargs": self.asked},
            "model_source": "idiolect",
            "model_name": model,
            "model_name_sanitized": sanitized,
            "task_hashes": self.hashes,
        })
    }
}

/// The files of a folder, for a message.
///
/// # Errors
/// When it cannot be read.
pub fn written(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::io("read", folder)(error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
