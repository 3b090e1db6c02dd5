//! What several stages read: input files, problems, prompts, training rows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use idiolect_core::record::{Problem, Split, TaskName, Trace, content_hash};
use idiolect_core::store::{self, BadRow, Meta, Row, Rows, StoreError, file_name};
use idiolect_core::task::{PromptFile, Task, task};
use idiolect_model::{ChatFields, Context, Example, Message, ModelInfo, Sampling};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::StageError;
use crate::hub;
use crate::interrupt::Stop;
use crate::progress::Progress;

/// Files to read rows from, one after the other, with their hash.
pub struct Input {
    files: Vec<InputFile>,
    hash: String,
}

/// One of them.
struct InputFile {
    path: PathBuf,
    hash: String,
    /// Standard input or another stream: its hash must be known before work begins, and it can be
    /// read once only. The file has no name, so that nothing is left of it after any end.
    kept: Option<fs::File>,
}

/// What is kept of a stream at most.
const KEPT_BYTES: u64 = 16 << 30;

impl Input {
    /// The file at `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        Self::open_all(&[path.to_owned()])
    }

    /// The files at `paths`, in order.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, StageError> {
        let open = |path: &PathBuf| InputFile::open(path);
        let files = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let hashes: Vec<&str> = files.iter().map(|file| file.hash.as_str()).collect();
        let hash = match hashes.as_slice() {
            [one] => (*one).to_owned(),
            several => content_hash(several.join(" ").as_bytes()),
        };
        Ok(Self { files, hash })
    }

    /// The content hash: a file's own, or one of all their hashes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The first file's name.
    pub fn name(&self) -> String {
        self.files
            .first()
            .map_or_else(String::new, |file| file_name(&file.path))
    }

    /// How many lines there are, where a line is a row: for the time left.
    pub fn lines(&self) -> Option<u64> {
        self.files.iter().map(InputFile::lines).sum()
    }

    /// The text of the first file, where it is one JSON document.
    pub fn document(&self) -> Result<String, StoreError> {
        match self.files.first() {
            Some(file) => store::document(file.reader()?, &file.path),
            None => Ok(String::new()),
        }
    }

    /// The rows.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<InputRows<T>, StoreError> {
        let open = |file: &InputFile| Rows::of(file.reader()?, &file.path);
        let files = self.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(InputRows(files.into_iter().flatten()))
    }
}

/// The rows of an input, in order; see [`Rows`].
pub struct InputRows<T: DeserializeOwned>(std::iter::Flatten<std::vec::IntoIter<Rows<T>>>);

impl<T: DeserializeOwned> Iterator for InputRows<T> {
    type Item = Result<Result<Row<T>, BadRow>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<T: DeserializeOwned> InputRows<T> {
    /// All good rows; the bad ones go to `bad`.
    ///
    /// # Errors
    /// As the iterator's.
    pub fn collect_good(self, mut bad: impl FnMut(BadRow)) -> Result<Vec<Row<T>>, StoreError> {
        let mut rows = Vec::new();
        for row in self {
            match row? {
                Ok(row) => rows.push(row),
                Err(row) => bad(row),
            }
        }
        Ok(rows)
    }
}

impl InputFile {
    fn open(path: &Path) -> Result<Self, StageError> {
        if path == Path::new("-") {
            return Self::keep(&mut io::stdin().lock(), "stdin");
        }
        if let Some(name) = path.to_str().filter(|name| hub::is_dataset_file(name)) {
            let stop = Stop::default();
            return Self::open(&hub::dataset_file(name, &Progress::quiet(), &stop)?);
        }
        let is_stream = fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
        if is_stream {
            let mut stream = fs::File::open(path).map_err(StoreError::io("read", path))?;
            return Self::keep(&mut stream, &file_name(path));
        }
        Ok(Self {
            path: path.to_owned(),
            hash: store::hash_input(path)?,
            kept: None,
        })
    }

    fn keep(stream: &mut dyn io::Read, name: &str) -> Result<Self, StageError> {
        let failed = |error: io::Error| {
            let folder = std::env::temp_dir();
            let message = format!(
                "cannot keep `{name}` in the folder of temporary files, `{}`: {error}",
                folder.display()
            );
            StageError::failed(
                message,
                "write the rows to a file and give its name, or set TMPDIR to a folder with more space",
            )
        };
        let mut file = idiolect_files::temporary().map_err(failed)?;
        let n = io::copy(&mut stream.take(KEPT_BYTES + 1), &mut file).map_err(failed)?;
        if n > KEPT_BYTES {
            let limit = format!("it holds more than {} GiB", KEPT_BYTES >> 30);
            return Err(failed(io::Error::other(limit)));
        }
        let path = PathBuf::from(name);
        file.rewind().map_err(failed)?;
        Ok(Self {
            hash: store::hash_of(&file, &path)?,
            path,
            kept: Some(file),
        })
    }

    /// The file, at its beginning.
    fn reader(&self) -> Result<fs::File, StoreError> {
        let opened = match &self.kept {
            None => fs::File::open(&self.path),
            Some(file) => file.try_clone().and_then(|mut file| {
                file.rewind()?;
                Ok(file)
            }),
        };
        opened.map_err(StoreError::io("read", &self.path))
    }

    fn lines(&self) -> Option<u64> {
        let mut file = self.reader().ok()?;
        let (mut buffer, mut lines, mut first) = (vec![0u8; 1 << 16], 0, true);
        loop {
            let n = file.read(&mut buffer).ok()?;
            let text = &buffer[..n];
            if n == 0 {
                return Some(lines);
            }
            if std::mem::take(&mut first) && !text.trim_ascii_start().starts_with(b"{") {
                return None;
            }
            lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}

/// The problems of a file, in its order, each id once.
pub struct Problems {
    /// Those of the wanted splits, with their lines.
    pub rows: Vec<(u64, Problem)>,
    /// Index into `rows` by id.
    by_id: BTreeMap<String, usize>,
    /// Rows that are none, or that repeat an id.
    pub bad: Vec<BadRow>,
    /// Content hash of the file.
    pub hash: String,
    /// Its name.
    pub file: String,
    tasks: BTreeMap<TaskName, &'static dyn Task>,
}

impl Problems {
    /// Reads a problems file; no `splits` are all splits.
    pub fn read(path: &Path, splits: &[Split]) -> Result<Self, StageError> {
        let input = Input::open(path)?;
        let mut problems = Self {
            rows: Vec::new(),
            by_id: BTreeMap::new(),
            bad: Vec::new(),
            hash: input.hash().to_owned(),
            file: input.name(),
            tasks: BTreeMap::new(),
        };
        let mut lines = BTreeMap::new();
        for row in input.rows::<Problem>()? {
            match row? {
                Err(bad) => problems.bad.push(bad),
                Ok(row) => problems.add(row.line, row.value, splits, &mut lines)?,
            }
        }
        Ok(problems)
    }

    /// Problems in memory, with distinct ids; of no file, so without a hash.
    pub fn held(problems: &[Problem]) -> Self {
        let numbered = (1..).zip(problems.iter().cloned());
        let by_id = problems.iter().enumerate();
        Self {
            by_id: by_id
                .map(|(at, problem)| (problem.id.clone(), at))
                .collect(),
            rows: numbered.collect(),
            bad: Vec::new(),
            hash: String::new(),
            file: String::new(),
            tasks: problems.iter().map(|p| (p.task, task(p.task))).collect(),
        }
    }

    fn add(
        &mut self,
        line: u64,
        problem: Problem,
        splits: &[Split],
        lines: &mut BTreeMap<String, u64>,
    ) -> Result<(), StageError> {
        if let Some(first) = lines.get(&problem.id) {
            let reason = format!("the id `{}` is already that of line {first}", problem.id);
            self.bad
                .push(BadRow::new(&self.file, line, reason, &problem.question));
            return Ok(());
        }
        lines.insert(problem.id.clone(), line);
        if !splits.is_empty() && !splits.contains(&problem.split) {
            return Ok(());
        }
        if let std::collections::btree_map::Entry::Vacant(entry) = self.tasks.entry(problem.task) {
            entry.insert(task(problem.task));
        }
        self.by_id.insert(problem.id.clone(), self.rows.len());
        self.rows.push((line, problem));
        Ok(())
    }

    /// The problem of an id.
    pub fn get(&self, id: &str) -> Option<&Problem> {
        self.by_id.get(id).map(|index| &self.rows[*index].1)
    }

    /// The problem of a trace.
    ///
    /// # Errors
    /// Where no problem has its id, or one of another question has.
    pub fn of(&self, trace: &Trace) -> Result<&Problem, String> {
        let problem = self
            .get(&trace.problem_id)
            .ok_or_else(|| format!("no problem has the id `{}`", trace.problem_id))?;
        trace.check_question(problem)?;
        Ok(problem)
    }

    /// The task of a problem.
    pub fn task(&self, problem: &Problem) -> &'static dyn Task {
        self.tasks[&problem.task]
    }

    /// The tasks among them.
    pub fn tasks(&self) -> impl Iterator<Item = TaskName> + '_ {
        self.tasks.keys().copied()
    }

    /// Adds the file's hash and the tasks' versions to an output's provenance.
    pub fn record(&self, meta: &mut Meta) {
        meta.input("problems", &self.hash);
        let verifiers: Vec<String> = self.tasks.values().map(|task| task.verifier()).collect();
        meta.version("task", verifiers.join(" "));
    }
}

/// Which kind of prompt a stage renders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// Asks for a solution.
    Solve,
    /// Asks for a rewriting of `{solution}`.
    Paraphrase,
}

/// The prompt file of each task among the problems.
pub struct Prompts {
    files: BTreeMap<TaskName, PromptFile>,
}

impl Prompts {
    /// The prompts that `--prompt NAME|FILE` means; `None` is each task's default.
    pub fn resolve(
        problems: &Problems,
        choice: Option<&str>,
        kind: PromptKind,
    ) -> Result<Self, StageError> {
        let mut files = BTreeMap::new();
        for (name, task) in &problems.tasks {
            let file = match choice {
                Some(choice) => prompt_file(*task, choice)?,
                None if kind == PromptKind::Paraphrase => task.default_paraphrase_prompt(),
                None => task.default_prompt(),
            };
            files.insert(*name, file);
        }
        Ok(Self { files })
    }

    /// The prompt that a problem is asked with.
    pub fn of(&self, problem: &Problem) -> &PromptFile {
        &self.files[&problem.task]
    }

    /// Adds names and hashes to an output's provenance.
    pub fn record(&self, meta: &mut Meta) {
        let named: Vec<String> = self
            .files
            .iter()
            .map(|(task, file)| format!("{task}:{}@{}", file.name, file.hash))
            .collect();
        meta.version("prompt", named.join(" "));
    }
}

/// A built-in prompt of the task, else a file.
pub fn prompt_file(task: &dyn Task, choice: &str) -> Result<PromptFile, StageError> {
    if let Some(file) = task.prompt_file(choice) {
        return Ok(file);
    }
    let stem = Path::new(choice)
        .file_stem()
        .map_or(choice.into(), |stem| stem.to_string_lossy());
    fs::read_to_string(choice)
        .map(|text| PromptFile::new(&stem, &text))
        .map_err(|error| {
            let names: Vec<&str> = task.prompt_files().iter().map(|(name, _)| *name).collect();
            let message = if error.kind() == io::ErrorKind::NotFound {
                format!("no prompt and no file is named `{choice}`")
            } else {
                format!("cannot read the prompt `{choice}`: {error}")
            };
            StageError::usage(
                message,
                &format!("built-in prompts of {}: {}", task.name(), names.join(", ")),
            )
        })
}

/// Adds a model's facts to an output's provenance.
pub fn record_model(meta: &mut Meta, info: &ModelInfo) {
    meta.version("model", &info.hash);
    meta.version("tokenizer", &info.tokenizer_hash);
    meta.setting("template", info.template);
    if !info.ignored_config_fields.is_empty() {
        meta.setting("ignore_config_field", &info.ignored_config_fields);
    }
    if !info.compute.is_f32() {
        meta.setting("compute", info.compute);
    }
    if let Some(command) = &info.server {
        meta.setting("server", command);
    }
}

/// Adds sampling settings to an output's provenance, one a name.
pub fn record_sampling(meta: &mut Meta, sampling: &Sampling) {
    if let Value::Object(settings) = sampling_value(sampling) {
        for (name, value) in settings {
            meta.setting(&name, value);
        }
    }
}

/// Sampling settings as JSON. By way of text: an f32 turned directly into a JSON value would show
/// its rounding (0.8 as 0.800000011920929).
pub fn sampling_value(sampling: &Sampling) -> Value {
    let text = serde_json::to_string(sampling).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// A row of ARM.jsonl or ROWS.jsonl: `prompt` and `completion` (texts or message lists) or
/// `messages` whose last is the assistant's.
#[derive(Clone, Debug, PartialEq)]
pub struct DataRow {
    /// The trace it was made of, where it states so.
    pub trace_id: Option<String>,
    /// Its problem, where it states so.
    pub problem_id: Option<String>,
    /// Context and completion.
    pub example: Example,
}

/// The rows of an arm, one or more, of which none may be wrong: what is found of a part of an arm
/// would be said of another arm.
///
/// # Errors
/// At the first row that is none, with its file and line; where there is no row.
pub fn arm_rows(input: &Input, name: &str, path: &Path) -> Result<Vec<DataRow>, StageError> {
    let mut rows = Vec::new();
    for row in input.rows::<Value>()? {
        let (line, data) = match row? {
            Err(bad) => (bad.line, Err(bad.reason)),
            Ok(row) => (row.line, DataRow::parse(&row.value)),
        };
        rows.push(data.map_err(|reason| {
            StageError::failed(
                format!("`{}`, line {line}: {reason}", path.display()),
                "an arm is a file of rows with `prompt` and `completion`, or `messages`",
            )
        })?);
    }
    if rows.is_empty() {
        return Err(StageError::failed(
            format!("the arm `{name}` (`{}`) has no row", path.display()),
            "",
        ));
    }
    Ok(rows)
}

impl DataRow {
    /// Reads one.
    ///
    /// # Errors
    /// In words, naming the field.
    pub fn parse(row: &Value) -> Result<Self, String> {
        let row = row.as_object().ok_or("not an object")?;
        let (context, answer) = match (
            row.get("messages"),
            row.get("prompt"),
            row.get("completion"),
        ) {
            (_, Some(prompt), Some(completion)) => prompt_and_completion(prompt, completion)?,
            (Some(messages), None, None) => last_turn(message_list("messages", messages)?)?,
            _ => return Err("expected `prompt` and `completion`, or `messages`".to_owned()),
        };
        let chat = ChatFields {
            variables: chat_variables(row)?,
            answer: answer.fields,
        };
        let weight = match row.get("weight") {
            None | Some(Value::Null) => 1.0,
            Some(weight) => weight
                .as_f64()
                // Cells of CSV are texts.
                .or_else(|| weight.as_str()?.trim().parse().ok())
                .filter(|weight| *weight >= 0.0 && weight.is_finite())
                .ok_or("`weight` must be a number of at least 0")?,
        };
        let spans = match row.get("spans") {
            None | Some(Value::Null) => Vec::new(),
            Some(spans) => serde_json::from_value(spans.clone()).map_err(|error| {
                format!("`spans` must be a list of {{\"start\",\"end\",\"train\"}}: {error}")
            })?,
        };
        Ok(Self {
            trace_id: id_of(row, "trace_id")?,
            problem_id: id_of(row, "problem_id")?,
            example: Example {
                context,
                completion: answer.content,
                weight: weight as f32,
                spans,
                chat,
            },
        })
    }
}

/// What a row gives its chat template beside the turns: `tools`, `documents`, and what
/// `chat_template_kwargs` names.
fn chat_variables(row: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut variables = match row.get("chat_template_kwargs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(values)) => values.clone(),
        Some(_) => return Err("`chat_template_kwargs` must be an object".to_owned()),
    };
    for name in ["messages", "add_generation_prompt"] {
        if variables.contains_key(name) {
            return Err(format!(
                "`chat_template_kwargs` must not hold `{name}`: what is trained, scored or asked \
                 decides it"
            ));
        }
    }
    for name in ["tools", "documents"] {
        match row.get(name) {
            None | Some(Value::Null) => {}
            Some(list @ Value::Array(_)) => {
                variables.insert(name.to_owned(), list.clone());
            }
            // Tables of one type a column hold such lists as text.
            Some(Value::String(text)) => {
                let list: Vec<Value> = serde_json::from_str(text)
                    .map_err(|error| format!("`{name}` is a text that is no JSON list: {error}"))?;
                variables.insert(name.to_owned(), Value::Array(list));
            }
            Some(_) => return Err(format!("`{name}` must be a list")),
        }
    }
    Ok(variables)
}

fn prompt_and_completion(prompt: &Value, completion: &Value) -> Result<(Context, Message), String> {
    match (prompt, completion) {
        (Value::String(prompt), Value::String(completion)) => Ok((
            Context::Prompt(prompt.clone()),
            Message::new("assistant", completion),
        )),
        (Value::Array(_), Value::Array(_)) => {
            let mut messages = message_list("prompt", prompt)?;
            messages.extend(message_list("completion", completion)?);
            last_turn(messages)
        }
        _ => {
            Err("`prompt` and `completion` must both be texts or both be message lists".to_owned())
        }
    }
}

fn last_turn(mut messages: Vec<Message>) -> Result<(Context, Message), String> {
    match messages.pop() {
        Some(last) if last.role == "assistant" => Ok((Context::Messages(messages), last)),
        Some(last) => Err(format!(
            "the last message is of `{}`, expected `assistant`",
            last.role
        )),
        None => Err("no messages".to_owned()),
    }
}

fn message_list(field: &str, value: &Value) -> Result<Vec<Message>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("`{field}` must be a list"))?
        .iter()
        .map(|message| {
            let mut fields = message
                .as_object()
                .ok_or_else(|| format!("a message of `{field}` is not an object"))?
                .clone();
            let mut text = |name: &str| match fields.shift_remove(name) {
                Some(Value::String(text)) => Ok(text),
                None => Err(format!("a message of `{field}` lacks the text `{name}`")),
                Some(Value::Null) => Err(format!(
                    "`{name}` of a message of `{field}` is null; give \"\" for a turn without text"
                )),
                Some(_) => Err(format!("`{name}` of a message of `{field}` is not a text")),
            };
            Ok(Message {
                role: text("role")?,
                content: text("content")?,
                fields,
            })
        })
        .collect()
}

/// An id as text; other tools write integers.
/// The id in a field of a row, where there is one; numbers are ids too.
///
/// # Errors
/// Names the field.
pub fn id_of(row: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(_) => Err(format!("`{name}` must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_of_all_three_shapes_are_examples() {
        let plain =
            DataRow::parse(&json!({"prompt": "p", "completion": "c", "trace_id": 7})).unwrap();
        assert_eq!(plain.example.context, Context::Prompt("p".into()));
        assert_eq!(
            (plain.example.completion.as_str(), plain.trace_id.as_deref()),
            ("c", Some("7"))
        );
        let turns =
            json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]);
        let chat = DataRow::parse(&json!({"messages": turns})).unwrap();
        let lists =
            DataRow::parse(&json!({"prompt": [turns[0]], "completion": [turns[1]]})).unwrap();
        assert_eq!(chat.example, lists.example);
        assert_eq!(chat.example.completion, "a");
    }

    #[test]
    fn a_row_that_is_no_example_says_why() {
        let why = |row| DataRow::parse(&row).unwrap_err();
        assert!(why(json!([1])).contains("object"));
        assert!(why(json!({"text": "t"})).contains("`prompt` and `completion`, or `messages`"));
        assert!(why(json!({"prompt": "p", "completion": 3})).contains("both"));
        assert!(
            why(json!({"messages": [{"role": "user", "content": "u"}]}))
                .contains("expected `assistant`")
        );
        assert!(why(json!({"messages": []})).contains("no messages"));
        assert!(why(json!({"prompt": "p", "completion": "c", "weight": -1})).contains("weight"));
    }

    #[test]
    fn sampling_settings_show_what_was_asked_for() {
        let sampling = Sampling {
            temperature: 0.8,
            ..Sampling::default()
        };
        assert_eq!(sampling_value(&sampling)["temperature"].to_string(), "0.8");
    }
}
