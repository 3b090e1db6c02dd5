//! What a replicate starts from: its problems, the human traces and those that exist already, and for
//! models that are trained inside the run their configuration, tokenizer and text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use idiolect_core::miniature::stories::{self, StorySettings, StoryWorld};
use idiolect_core::miniature::{
    self, ModelShape, StudentProse, TextRow, WorldSettings, prose::Numerals,
};
use idiolect_core::outside::{AnsweredRow, Program};
use idiolect_core::record::{Finish, Origin, OriginKind, Problem, Split, TaskName, Trace};
use idiolect_core::store::{
    BadRow, Meta, Opened, Output, Rows, file_name, hash_file, write_atomic,
};
use idiolect_core::task::task;
use idiolect_engine::bpe;
use idiolect_model::Rng;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::RunContext;
use super::counts::{any_has_column, has_column};
use super::layout::DataPaths;
use super::plan::{parts, scratch_models};
use super::recipe::{Data, MaxProblems, Recipe, ScratchModel, Shape, WorldKind};
use super::view::read;
use crate::stage::import::{ImportSettings, RowTask, import};
use crate::stage::outside::{self, GivenAnswers, recognized};
use crate::stage::{Control, StageError};

/// Lays the data of one replicate down.
pub(super) fn prepare(
    run: &RunContext<'_>,
    data: &DataPaths,
    seed: u64,
    control: Control<'_>,
) -> Result<(), StageError> {
    match (run.recipe.data.world, run.recipe.data.task) {
        (Some(kind), _) => generated(run, data, kind, seed),
        (None, Some(task)) => files(run, data, task, seed, control),
        (None, None) => Err(failed("the recipe names no data")),
    }
}

/// A generated world, whatever its problems are.
pub(super) struct Made {
    /// Settings and seed, for the provenance.
    pub(super) settings: Value,
    pub(super) problems: Vec<Problem>,
    pub(super) human: Vec<Trace>,
    pub(super) human_digits: Vec<Trace>,
    pub(super) student: MadeModel,
    pub(super) teacher: MadeModel,
    pub(super) vocabulary: Vec<String>,
}

/// A model of a generated world.
pub(super) struct MadeModel {
    pub(super) shape: ModelShape,
    /// Tokens of its text.
    pub(super) tokens: usize,
    /// Its text, made when it is asked for: millions of tokens.
    pub(super) text: Box<dyn Fn() -> Vec<TextRow>>,
}

/// The generated world of a kind that `data` describes.
pub(super) fn make_world(data: &Data, kind: WorldKind, seed: u64) -> Result<Made, StageError> {
    let size = size(data);
    let student_prose = data.student_prose.unwrap_or(StudentProse::Plain);
    let unknown = || {
        failed(format!(
            "`data.size` is `{size}`; there are `default`, `full` (Countdown only) and `tiny`"
        ))
    };
    // The two kinds of worlds have the same parts, and no trait between them.
    macro_rules! made {
        ($settings:ident, $world:path, $vocabulary:expr $(, $field:ident)*) => {{
            let base = $settings::named(size).ok_or_else(unknown)?;
            let settings = $settings { seed, $($field,)* ..base };
            let world = <$world>::new(settings.clone()).map_err(|e| failed(e.to_string()))?;
            let world = Rc::new(world);
            let (of_student, of_teacher) = (Rc::clone(&world), Rc::clone(&world));
            Made {
                problems: world.problems(),
                human: world.human_traces(Split::Train, Numerals::Words),
                human_digits: world.human_traces(Split::Train, Numerals::Digits),
                vocabulary: $vocabulary,
                settings: json!(settings),
                student: MadeModel {
                    shape: settings.student,
                    tokens: settings.student_tokens,
                    text: Box::new(move || of_student.student_corpus()),
                },
                teacher: MadeModel {
                    shape: settings.teacher,
                    tokens: settings.teacher_tokens,
                    text: Box::new(move || of_teacher.teacher_corpus()),
                },
            }
        }};
    }
    Ok(match kind {
        WorldKind::Countdown => made!(
            WorldSettings,
            miniature::World,
            miniature::vocabulary(),
            student_prose
        ),
        WorldKind::Stories => made!(StorySettings, StoryWorld, stories::vocabulary()),
    })
}

/// The size of a generated world.
fn size(data: &Data) -> &str {
    data.size.as_deref().unwrap_or("default")
}

fn generated(
    run: &RunContext<'_>,
    data: &DataPaths,
    kind: WorldKind,
    seed: u64,
) -> Result<(), StageError> {
    let made = make_world(&run.recipe.data, kind, seed)?;
    let mut meta = Meta::of("world");
    meta.setting("world", &made.settings);
    write_rows(&data.problems(), &meta, || made.problems.iter())?;
    for part in parts(run.recipe) {
        match part.name.as_str() {
            "human" => write_rows(&data.part("human"), &meta, || made.human.iter())?,
            "human-digits" => write_rows(&data.part("human-digits"), &meta, || {
                made.human_digits.iter()
            })?,
            _ => {}
        }
    }
    write_gold(data, &made.problems)?;
    for (model, scratch) in scratch_models(run.recipe) {
        let of = match model {
            "teacher" => &made.teacher,
            _ => &made.student,
        };
        write_rows(&data.corpus(model), &meta, || (of.text)().into_iter())?;
        write_blank(
            &data.blank(model),
            &miniature::config_json(scratch.family, &of.shape, made.vocabulary.len()),
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

/// Problems of files, split by the file that they stand in or by hash of their id, with their human
/// solutions and the traces that exist already.
fn files(
    run: &RunContext<'_>,
    data: &DataPaths,
    task: TaskName,
    seed: u64,
    control: Control<'_>,
) -> Result<(), StageError> {
    let recipe = run.recipe;
    let mut problems: Vec<Problem> = Vec::new();
    let mut traces: Vec<Trace> = Vec::new();
    let mut meta = Meta::of("data");
    meta.setting("seed", seed).setting("data", &recipe.data);
    for (split, files) in split_files(recipe) {
        if files.is_empty() {
            continue;
        }
        let paths = run.folders.find_all(files)?;
        for path in &paths {
            meta.input(&file_name(path), hash_file(path)?);
        }
        let settings = import_settings(recipe, task, split, paths, data)?;
        import(&settings, control)?;
        let mut found: Vec<Problem> = read(&settings.output)?;
        for problem in &mut found {
            problem.split = split;
        }
        problems.extend(found);
        traces.extend(read::<Trace>(&data.imported_traces(split))?);
    }
    split_by_hash(&mut problems, recipe.fractions(), seed);
    distinct(&problems)?;
    // Traces of problems that are not kept are no fault.
    let mut refused = Vec::new();
    let given = given_traces(run, task, &problems, &mut meta, &mut refused)?;
    keep_most(&mut problems, recipe.data.max_problems, seed);
    let train: BTreeSet<&str> = problems
        .iter()
        .filter(|p| p.split == Split::Train)
        .map(|p| p.id.as_str())
        .collect();
    traces.retain(|trace| train.contains(trace.problem_id.as_str()));
    let (human, responses): (Vec<Trace>, Vec<Trace>) = traces
        .into_iter()
        .partition(|trace| trace.origin.kind == OriginKind::Human);
    let mut others: BTreeMap<(String, String), Trace> = BTreeMap::new();
    for trace in responses.into_iter().chain(given) {
        if train.contains(trace.problem_id.as_str()) {
            others
                .entry((trace.problem_id.clone(), trace.id.clone()))
                .or_insert(trace);
        }
    }
    run.note(&format!(
        "{} problems: {}; {} human solutions and {} given traces of train problems",
        problems.len(),
        split_counts(problems.iter().map(|p| p.split)),
        human.len(),
        others.len()
    ));
    if !refused.is_empty() {
        run.note(&format!(
            "{} rows of data.traces were refused: `{}.rejects.jsonl` names each with its reason",
            refused.len(),
            data.part("given").display()
        ));
    }
    write_rows(&data.problems(), &meta, || problems.iter())?;
    write_rows(&data.part("human"), &meta, || human.iter())?;
    let seen = (others.len() + refused.len()) as u64;
    write_rows_refusing(&data.part("given"), &meta, &refused, || others.values())?;
    control.allows(&data.part("given"), refused.len() as u64, seen)?;
    write_gold(data, &problems)?;
    if let Some(student) = recipe.scratch_student() {
        scratch_student(run, data, task, student, &meta, control)?;
    }
    Ok(())
}

/// The files of each split.
pub(super) fn split_files(recipe: &Recipe) -> [(Split, &[String]); 3] {
    [
        (Split::Train, &recipe.data.train[..]),
        (Split::Dev, &recipe.data.dev[..]),
        (Split::Test, &recipe.data.test[..]),
    ]
}

fn import_settings(
    recipe: &Recipe,
    task: TaskName,
    split: Split,
    files: Vec<PathBuf>,
    data: &DataPaths,
) -> Result<ImportSettings, StageError> {
    let columns = columns_in(&files, &recipe.data)?;
    // Ids name the part of the data set that a file is of, which its name may state; files of several
    // parts must not share ids.
    let parted = !(recipe.data.dev.is_empty() && recipe.data.test.is_empty());
    Ok(ImportSettings {
        task: RowTask::All(task),
        files,
        columns,
        split: parted.then_some(split),
        model: None,
        finish: recipe.data.finish,
        set: None,
        output: data.imported(split),
        traces: Some(data.imported_traces(split)),
    })
}

/// The columns of the recipe that files have: others may be of other files. That each is of one has
/// been checked.
fn columns_in(files: &[PathBuf], data: &Data) -> Result<Vec<(String, String)>, StageError> {
    let mut columns = Vec::new();
    for (field, column) in &data.columns {
        if any_has_column(files, column)? {
            columns.push((field.clone(), column.clone()));
        }
    }
    Ok(columns)
}

/// Moves train problems to test and dev, each by its own draw.
fn split_by_hash(problems: &mut [Problem], (dev, test): (f64, f64), seed: u64) {
    for problem in problems.iter_mut().filter(|p| p.split == Split::Train) {
        let draw = Rng::keyed(seed, &["split", &problem.id]).uniform();
        problem.split = match draw {
            u if u < test => Split::Test,
            u if u < test + dev => Split::Dev,
            _ => Split::Train,
        };
    }
}

/// Keeps as many problems of each split as the recipe allows, by a draw of each one's own.
fn keep_most(problems: &mut Vec<Problem>, most: MaxProblems, seed: u64) {
    for split in [Split::Train, Split::Dev, Split::Test] {
        let Some(most) = most.of(split) else { continue };
        let mut drawn: Vec<(u64, String)> = problems
            .iter()
            .filter(|problem| problem.split == split)
            .map(|problem| {
                let draw = Rng::keyed(seed, &["keep", &problem.id]).next_u64();
                (draw, problem.id.clone())
            })
            .collect();
        drawn.sort_unstable();
        let kept: BTreeSet<String> = drawn.into_iter().take(most).map(|(_, id)| id).collect();
        problems.retain(|problem| problem.split != split || kept.contains(&problem.id));
    }
}

/// Refuses a problem that is in two splits.
fn distinct(problems: &[Problem]) -> Result<(), StageError> {
    let mut known: BTreeMap<&str, Split> = BTreeMap::new();
    for problem in problems {
        if let Some(other) = known.insert(&problem.id, problem.split) {
            return Err(StageError::failed(
                format!(
                    "the id `{}` is in the files of {other} and of {}",
                    problem.id, problem.split
                ),
                "a problem belongs to one split: name each file in one of data.train, data.dev and data.test",
            ));
        }
    }
    Ok(())
}

/// The test problems' own solutions, whose surprisal after training is reported.
fn write_gold(data: &DataPaths, problems: &[Problem]) -> Result<(), StageError> {
    let mut meta = Meta::of("gold");
    meta.input("problems", hash_file(&data.problems())?);
    let gold = problems
        .iter()
        .filter(|p| p.split == Split::Test)
        .filter_map(|p| {
            Some(Trace::new(
                &p.id,
                p.human.as_deref()?,
                Finish::Stop,
                Origin::of(OriginKind::Human),
            ))
        });
    write_rows(&data.part("gold"), &meta, || gold)
}

/// The traces of `data.traces` that its filter lets through: of this program's rows, of plain rows, or
/// of the files of other programs.
fn given_traces(
    run: &RunContext<'_>,
    task: TaskName,
    problems: &[Problem],
    meta: &mut Meta,
    refused: &mut Vec<BadRow>,
) -> Result<Vec<Trace>, StageError> {
    let data = &run.recipe.data;
    let mut traces = Vec::new();
    if data.traces.is_empty() {
        return Ok(traces);
    }
    let known: BTreeMap<&str, &Problem> = problems.iter().map(|p| (p.id.as_str(), p)).collect();
    for path in run.folders.find_all(&data.traces)? {
        meta.input(&file_name(&path), hash_file(&path)?);
        let program = recognized(&path)?;
        if let Some(program) = program {
            run.note(&format!(
                "data.traces: `{}` holds {}",
                file_name(&path),
                program.holds()
            ));
        }
        // This program's own rows have an origin.
        if program.is_some() || !has_column(&path, "origin")? {
            let answers = GivenAnswers {
                columns: columns_in(std::slice::from_ref(&path), data)?,
                file: (path, program.unwrap_or(Program::Answers)),
                task,
                finish: data.finish,
                problems,
            };
            let wanted = |row: &AnsweredRow| {
                if data.traces_where.is_empty() {
                    return true;
                }
                let mut columns = row.columns.clone();
                if let Some(model) = &row.model {
                    columns.insert("model".to_owned(), Value::from(model.as_str()));
                }
                is_wanted(&columns, &data.traces_where)
            };
            traces.extend(outside::given(&answers, wanted, refused)?);
            continue;
        }
        for row in Rows::<Map<String, Value>>::open(&path)?.collect_good(|bad| refused.push(bad))? {
            if !is_wanted(&row.value, &data.traces_where) {
                continue;
            }
            let read = serde_json::from_value::<Trace>(Value::Object(row.value.clone()));
            let trace = read.map_err(|error| error.to_string()).and_then(|trace| {
                match known.get(trace.problem_id.as_str()) {
                    Some(problem) => trace.check_question(problem).map(|()| trace),
                    None => Err(format!("no problem has the id `{}`", trace.problem_id)),
                }
            });
            match trace {
                Ok(trace) => traces.push(trace),
                Err(reason) => {
                    let text = Value::Object(row.value).to_string();
                    refused.push(BadRow::new(&file_name(&path), row.line, reason, &text));
                }
            }
        }
    }
    Ok(traces)
}

fn is_wanted(row: &Map<String, Value>, filter: &BTreeMap<String, String>) -> bool {
    filter.iter().all(|(column, wanted)| match row.get(column) {
        Some(Value::String(text)) => text == wanted,
        Some(other) => other.to_string().as_str() == wanted.as_str(),
        None => false,
    })
}

/// Text, tokenizer and shape of a student that is trained on real problems.
fn scratch_student(
    run: &RunContext<'_>,
    data: &DataPaths,
    name: TaskName,
    student: &ScratchModel,
    meta: &Meta,
    control: Control<'_>,
) -> Result<(), StageError> {
    let Some(shape) = &student.shape else {
        return Err(failed("`models.student.scratch.shape` is not set"));
    };
    let mut meta = meta.clone();
    let paths = run.folders.find_all(&student.text)?;
    for path in &paths {
        meta.input(&format!("text {}", file_name(path)), hash_file(path)?);
    }
    let settings = ImportSettings {
        traces: None,
        output: data.corpus("student.problems"),
        ..import_settings(run.recipe, name, Split::Train, paths, data)?
    };
    import(&settings, control)?;
    let task = task(name);
    let prompt = run.prompt(task)?;
    let mut texts = Vec::new();
    for problem in read::<Problem>(&settings.output)? {
        if let Some(solution) = problem.human.as_deref() {
            let asked = task.prompt(&problem, &prompt).map_err(failed)?;
            let text = format!("{asked}{solution}");
            texts.push(TextRow { text });
        }
    }
    write_rows(&data.corpus("student"), &meta, || texts.iter())?;
    let files = bpe::learn_bpe(texts.iter().map(|t| t.text.as_str()), shape.vocab_size)
        .map_err(|e| failed(e.to_string()))?;
    let config = llama_config(shape, files.vocabulary, files.end_id);
    write_blank(
        &data.blank("student"),
        &config,
        &files.tokenizer,
        &files.tokenizer_config,
    )
}

fn llama_config(shape: &Shape, vocabulary: usize, end_id: u32) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_attention_heads,
        "max_position_embeddings": shape.max_position_embeddings,
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
pub(super) fn write_rows<T: Serialize, I: Iterator<Item = T>>(
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
        output.append_refused(row)?;
    }
    let mut written = 0;
    for row in rows() {
        output.append(&row)?;
        written += 1;
    }
    output.finish_appended(written + refused.len() as u64)?;
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
    counts
        .iter()
        .map(|(split, n)| format!("{n} {split}"))
        .collect::<Vec<_>>()
        .join(", ")
}
