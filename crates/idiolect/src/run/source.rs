//! What a world starts from: its problems, the human traces, and for models that are trained inside
//! the run their configuration, tokenizer and text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::miniature::stories::{self, StorySettings, StoryWorld};
use idiolect_core::miniature::{self, ModelShape, TextRow, WorldSettings, prose::Numerals};
use idiolect_core::record::{Finish, Origin, OriginKind, Problem, Split, TaskName, Trace};
use idiolect_core::rng::Rng;
use idiolect_core::store::{
    BadRow, Meta, Opened, Output, Rows, file_name, hash_file, write_atomic,
};
use idiolect_core::task::{ImportRow, task};
use idiolect_engine::bpe;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::RunContext;
use super::layout::World;
use super::recipe::{MiniatureWorld, Recipe, ScratchModel, Shape, Source};
use crate::stage::StageError;

/// Lays the sources of one world down: `problems.jsonl`, the human traces (and, of real data, the
/// sampled ones), corpora and blank models.
pub(crate) fn prepare(run: &RunContext<'_>, world: &World, seed: u64) -> Result<(), StageError> {
    match &run.recipe.source {
        Source::Miniature { world: kind, size } => miniature_world(run, world, (*kind, size), seed),
        Source::Gsm8kTraces { .. } => gsm8k_traces(run, world, seed),
    }
}

/// The folder of real data that a recipe reads.
pub(crate) fn data_folder(recipe: &Recipe) -> Result<PathBuf, StageError> {
    let folder = match &recipe.data {
        Some(folder) => PathBuf::from(folder),
        None => std::env::var_os("IDIOLECT_DATA").map(PathBuf::from).ok_or_else(|| {
            StageError::failed(
                format!("the recipe `{}` reads real data and was not told where it lies", recipe.name),
                "set IDIOLECT_DATA=DIR or give --set data=DIR; the folder holds gsm8k/ and traces/",
            )
        })?,
    };
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(failed(format!(
            "the data folder `{}` is not a folder",
            folder.display()
        )))
    }
}

/// A generated world, whatever its problems are.
struct Made {
    /// Settings and seed, for the provenance.
    settings: Value,
    problems: Vec<Problem>,
    human: Vec<Trace>,
    human_digits: Vec<Trace>,
    student: Vec<TextRow>,
    teacher: Vec<TextRow>,
    student_shape: ModelShape,
    teacher_shape: ModelShape,
    vocabulary: Vec<String>,
}

fn make_world(kind: MiniatureWorld, size: &str, seed: u64) -> Result<Made, StageError> {
    let unknown = || {
        failed(format!(
            "`source.size` is `{size}`; there are `default`, `full` (Countdown only) and `tiny`"
        ))
    };
    match kind {
        MiniatureWorld::Countdown => {
            let base = WorldSettings::named(size).ok_or_else(unknown)?;
            let settings = WorldSettings { seed, ..base };
            let made =
                miniature::World::new(settings.clone()).map_err(|e| failed(e.to_string()))?;
            Ok(Made {
                problems: made.problems(),
                human: made.human_traces(Split::Train, Numerals::Words),
                human_digits: made.human_traces(Split::Train, Numerals::Digits),
                student: made.student_corpus(),
                teacher: made.teacher_corpus(),
                student_shape: settings.student,
                teacher_shape: settings.teacher,
                vocabulary: miniature::vocabulary(),
                settings: json!(settings),
            })
        }
        MiniatureWorld::Stories => {
            let base = StorySettings::named(size).ok_or_else(unknown)?;
            let settings = StorySettings { seed, ..base };
            let made = StoryWorld::new(settings.clone()).map_err(|e| failed(e.to_string()))?;
            Ok(Made {
                problems: made.problems(),
                human: made.human_traces(Split::Train, Numerals::Words),
                human_digits: made.human_traces(Split::Train, Numerals::Digits),
                student: made.student_corpus(),
                teacher: made.teacher_corpus(),
                student_shape: settings.student,
                teacher_shape: settings.teacher,
                vocabulary: stories::vocabulary(),
                settings: json!(settings),
            })
        }
    }
}

fn miniature_world(
    run: &RunContext<'_>,
    world: &World,
    (kind, size): (MiniatureWorld, &str),
    seed: u64,
) -> Result<(), StageError> {
    let made = make_world(kind, size, seed)?;
    let mut meta = Meta::of("world");
    meta.setting("world", &made.settings);
    write_rows(&world.problems(), &meta, || made.problems.iter())?;
    write_rows(&world.part("human"), &meta, || made.human.iter())?;
    write_rows(&world.part("human-digits"), &meta, || {
        made.human_digits.iter()
    })?;
    write_rows(&world.corpus("student"), &meta, || made.student.iter())?;
    write_rows(&world.corpus("teacher"), &meta, || made.teacher.iter())?;
    let pretrain = &run.recipe.pretrain;
    let teacher_family = pretrain.teacher.as_ref().map(|t| t.family);
    for (model, family, shape) in [
        ("student", pretrain.student.family, &made.student_shape),
        (
            "teacher",
            teacher_family.unwrap_or_default(),
            &made.teacher_shape,
        ),
    ] {
        write_blank(
            &world.blank(model),
            &miniature::config_json(family, shape, made.vocabulary.len()),
            &miniature::tokenizer_json(&made.vocabulary).to_string(),
            &miniature::tokenizer_config_json(),
        )?;
    }
    run.note(&format!(
        "{} problems: {}",
        made.problems.len(),
        split_counts(made.problems.iter().map(|p| p.split))
    ));
    Ok(())
}

/// Problems of the official test file that have published traces, split by hash of their id.
fn gsm8k_traces(run: &RunContext<'_>, world: &World, seed: u64) -> Result<(), StageError> {
    let Source::Gsm8kTraces {
        problems,
        traces,
        traces_match,
        trace_kind,
        pretrain_text,
        dev_share,
        test_share,
        ..
    } = &run.recipe.source
    else {
        return Err(failed("not a recipe over published traces"));
    };
    let data = data_folder(run.recipe)?;
    let trace_files = matching_files(&data.join(traces), traces_match)?;
    let mut meta = Meta::of("gsm8k-traces");
    meta.setting("seed", seed)
        .setting("source", &run.recipe.source);
    meta.input("problems", hash_file(&data.join(problems))?);
    meta.input("pretrain_text", hash_file(&data.join(pretrain_text))?);
    for file in &trace_files {
        meta.input(&file_name(file), hash_file(file)?);
    }

    let mut refused = Vec::new();
    let sampled = published(&trace_files, trace_kind, &mut refused)?;
    let with_traces: BTreeSet<&str> = sampled.iter().map(|t| t.problem_id.as_str()).collect();
    let mut kept = import_gsm8k(&data.join(problems), Split::Test, &mut refused)?;
    kept.retain(|p| with_traces.contains(p.id.as_str()));
    for problem in &mut kept {
        let draw = Rng::keyed(seed, &["split", &problem.id]).uniform();
        problem.split = match draw {
            u if u < *test_share => Split::Test,
            u if u < test_share + dev_share => Split::Dev,
            _ => Split::Train,
        };
    }
    let train: BTreeSet<&str> = kept
        .iter()
        .filter(|p| p.split == Split::Train)
        .map(|p| p.id.as_str())
        .collect();
    let human = |p: &Problem| {
        let text = p.human.as_deref()?;
        Some(Trace::new(
            &p.id,
            text,
            Finish::Stop,
            Origin::of(OriginKind::Human),
        ))
    };
    run.note(&format!(
        "{} problems with published traces: {}; {} traces",
        kept.len(),
        split_counts(kept.iter().map(|p| p.split)),
        sampled.len()
    ));
    write_rows_refusing(&world.problems(), &meta, &refused, || kept.iter())?;
    write_rows(&world.part("human"), &meta, || {
        kept.iter()
            .filter(|p| train.contains(p.id.as_str()))
            .filter_map(human)
    })?;
    write_rows(&world.part("sampled"), &meta, || {
        sampled
            .iter()
            .filter(|t| train.contains(t.problem_id.as_str()))
    })?;

    if run.recipe.student.is_some() {
        return Ok(());
    }
    let mut unused = Vec::new();
    let texts = pretraining_texts(
        run,
        &import_gsm8k(&data.join(pretrain_text), Split::Train, &mut unused)?,
    )?;
    write_rows(&world.corpus("student"), &meta, || texts.iter())?;
    let shape = shape_of(&run.recipe.pretrain.student)?;
    let files = bpe::learn_bpe(texts.iter().map(|t| t.text.as_str()), shape.vocabulary)
        .map_err(|e| failed(e.to_string()))?;
    let config = llama_config(shape, files.vocabulary, files.end_id);
    write_blank(
        &world.blank("student"),
        &config,
        &files.tokenizer,
        &files.tokenizer_config,
    )
}

fn shape_of(model: &ScratchModel) -> Result<&Shape, StageError> {
    model.shape.as_ref().ok_or_else(|| {
        StageError::failed(
            "`pretrain.student.shape` is not set",
            "a student on real text needs a shape, or an existing model: --set student=DIR",
        )
    })
}

/// Question and solution in the form in which the student is later asked.
fn pretraining_texts(
    run: &RunContext<'_>,
    problems: &[Problem],
) -> Result<Vec<TextRow>, StageError> {
    let task = task(TaskName::Gsm8k);
    let prompt = run.prompt(task)?;
    problems
        .iter()
        .filter_map(|p| Some((p, p.human.as_deref()?)))
        .map(|(p, solution)| {
            let asked = task.prompt(p, &prompt).map_err(failed)?;
            Ok(TextRow {
                text: format!("{asked}{solution}"),
            })
        })
        .collect()
}

fn import_gsm8k(
    path: &Path,
    split: Split,
    refused: &mut Vec<BadRow>,
) -> Result<Vec<Problem>, StageError> {
    let task = task(TaskName::Gsm8k);
    let rows = Rows::<Map<String, Value>>::open(path)?.collect_good(|bad| refused.push(bad))?;
    let mut problems = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        match task.import(
            &row.value,
            &ImportRow {
                index,
                split: Some(split),
                set: "gsm8k".to_owned(),
            },
        ) {
            Ok(imported) => problems.push(imported.problem),
            Err(reason) => {
                let text = Value::Object(row.value).to_string();
                refused.push(BadRow::new(&file_name(path), row.line, reason, &text));
            }
        }
    }
    Ok(problems)
}

/// The published traces of one kind. The files give each trace's problem by its row in the
/// official test file, which is also our id.
fn published(
    files: &[PathBuf],
    kind: &str,
    refused: &mut Vec<BadRow>,
) -> Result<Vec<Trace>, StageError> {
    /// `{"problem_id":"gsm8k/test/1","model":"…","kind":"cot","response":"…", …}`
    #[derive(Deserialize)]
    struct Published {
        problem_id: String,
        model: String,
        kind: String,
        response: String,
    }
    let mut traces: BTreeMap<(String, String), Trace> = BTreeMap::new();
    for file in files {
        for row in Rows::<Published>::open(file)?.collect_good(|bad| refused.push(bad))? {
            let row = row.value;
            if row.kind != kind {
                continue;
            }
            let mut origin = Origin::of(OriginKind::Sampled);
            origin.model = Some(row.model);
            // The files do not say how a text ended.
            let trace = Trace::new(
                &row.problem_id,
                row.response.trim(),
                Finish::Unknown,
                origin,
            );
            traces
                .entry((row.problem_id, trace.id.clone()))
                .or_insert(trace);
        }
    }
    Ok(traces.into_values().collect())
}

pub(super) fn matching_files(folder: &Path, part: &str) -> Result<Vec<PathBuf>, StageError> {
    let unreadable = |e: std::io::Error| failed(format!("cannot read `{}`: {e}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if file_name(&path).contains(part) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(failed(format!(
            "no file in `{}` has `{part}` in its name",
            folder.display()
        )));
    }
    Ok(files)
}

fn llama_config(shape: &Shape, vocabulary: usize, end_id: u32) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": null,
        "eos_token_id": end_id,
        "torch_dtype": "float32",
    })
}

/// The files that a model starts from; small, so written again each time with the same bytes.
fn write_blank(
    folder: &Path,
    config: &Value,
    tokenizer: &str,
    tokenizer_config: &Value,
) -> Result<(), StageError> {
    let pretty = |value: &Value| {
        serde_json::to_string_pretty(value).expect("a JSON value serialises") + "\n"
    };
    write_atomic(&folder.join("config.json"), pretty(config).as_bytes())?;
    write_atomic(&folder.join("tokenizer.json"), tokenizer.as_bytes())?;
    write_atomic(
        &folder.join("tokenizer_config.json"),
        pretty(tokenizer_config).as_bytes(),
    )?;
    Ok(())
}

/// An output whose rows are made all at once: complete, or written over.
pub(crate) fn write_rows<T: Serialize, I: Iterator<Item = T>>(
    path: &Path,
    meta: &Meta,
    rows: impl FnOnce() -> I,
) -> Result<(), StageError> {
    write_rows_refusing(path, meta, &[], rows)
}

fn write_rows_refusing<T: Serialize, I: Iterator<Item = T>>(
    path: &Path,
    meta: &Meta,
    refused: &[BadRow],
    rows: impl FnOnce() -> I,
) -> Result<(), StageError> {
    let Opened::Unfinished(mut output) = Output::open(path, meta, false)? else {
        return Ok(());
    };
    output.restart()?;
    for row in refused {
        output.reject(row)?;
    }
    let mut written = 0;
    for row in rows() {
        output.push(&row)?;
        written += 1;
    }
    output.finish(written + refused.len() as u64)?;
    Ok(())
}

fn failed(message: impl Into<String>) -> StageError {
    StageError::failed(message, "")
}

fn split_counts(splits: impl Iterator<Item = Split>) -> String {
    let mut counts = BTreeMap::new();
    for split in splits {
        *counts.entry(split).or_insert(0usize) += 1;
    }
    let name = |split: &Split| format!("{split:?}").to_lowercase();
    counts
        .iter()
        .map(|(split, n)| format!("{n} {}", name(split)))
        .collect::<Vec<_>>()
        .join(", ")
}
