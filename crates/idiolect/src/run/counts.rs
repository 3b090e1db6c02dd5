//! The counts that decide what a run costs, taken from its inputs.

use std::path::{Path, PathBuf};

use idiolect_core::record::Split;
use idiolect_core::store::Rows;
use idiolect_engine::text::{Opening, TextModel};
use serde_json::{Map, Value};

use super::data::{MadeModel, make_world, split_files};
use super::files::Folders;
use super::plan::parts;
use super::recipe::{Recipe, ScratchModel, Shape, WorldKind, Writer};
use crate::model::Place;
use crate::stage::{StageError, outside};

/// Bytes of a token of text: about, for tokenizers of large vocabularies.
const BYTES_OF_A_TOKEN: f64 = 4.0;
/// Rows of a file that are looked at for the length of a row.
const SAMPLED_ROWS: usize = 200;

/// What is counted, of one replicate.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Problems by split; where the split is by hash, its expected size.
    pub train: usize,
    pub dev: usize,
    pub test: usize,
    /// Human traces of train problems.
    pub human: usize,
    /// Traces of train problems that exist already; at most.
    pub given: usize,
    /// Whether rows of problems hold a model's response beside the problem.
    pub has_responses: bool,
    /// Tokens of a prompt with its response, on average.
    pub row_tokens: f64,
    /// Parameters of each student.
    pub students: Vec<f64>,
    /// Parameters of the teacher; 0 where they are not known.
    pub teacher: f64,
    /// Parameters of a paraphraser of its own.
    pub paraphraser: f64,
    /// Tokens that models trained inside the run are trained on, all passes together.
    pub student_tokens: f64,
    pub teacher_tokens: f64,
}

impl Counts {
    /// Counts the inputs of a recipe.
    pub fn of(recipe: &Recipe, folders: &Folders) -> Result<Self, StageError> {
        match recipe.data.world {
            Some(kind) => of_world(recipe, kind, folders),
            None => of_files(recipe, folders),
        }
    }

    /// Traces that a student scores.
    pub fn traces(&self, recipe: &Recipe) -> usize {
        let parts = parts(recipe);
        let rows = parts.iter().map(|part| self.part(recipe, &part.name));
        rows.sum()
    }

    /// Traces of a part.
    pub fn part(&self, recipe: &Recipe, name: &str) -> usize {
        match name {
            "human" | "human-digits" | "paraphrased" => self.human,
            "given" => self.given,
            "sampled" => self.train * recipe.generate.n,
            _ => self.train,
        }
    }

    /// What a checkpoint is evaluated by, as file names.
    pub fn evaluations(&self, recipe: &Recipe) -> Vec<&'static str> {
        let mut all = Vec::new();
        if self.dev > 0 {
            all.push("dev");
        }
        all.push("greedy");
        if recipe.eval.n > 0 {
            all.push("sampled");
        }
        all.push("gold");
        all
    }
}

fn of_world(recipe: &Recipe, kind: WorldKind, folders: &Folders) -> Result<Counts, StageError> {
    let made = make_world(&recipe.data, kind, recipe.seed)?;
    let words = made.vocabulary.len();
    let of_split = |split| made.problems.iter().filter(|p| p.split == split).count();
    let tokens = |of: &MadeModel, model: Option<&ScratchModel>| {
        (of.tokens * model.map_or(0, |model| model.epochs)) as f64
    };
    let words_of = |text: &str| text.split_whitespace().count() as f64;
    let human: f64 = made.human.iter().map(|trace| words_of(&trace.text)).sum();
    let asked: f64 = made.problems.iter().map(|p| words_of(&p.question)).sum();
    Ok(Counts {
        train: of_split(Split::Train),
        dev: of_split(Split::Dev),
        test: of_split(Split::Test),
        human: made.human.len(),
        given: 0,
        has_responses: false,
        row_tokens: human / made.human.len().max(1) as f64
            + asked / made.problems.len().max(1) as f64,
        students: students(recipe, folders, made.student.shape.parameters(words) as f64),
        teacher: match recipe.scratch_teacher() {
            Some(_) => made.teacher.shape.parameters(words) as f64,
            None => teacher(recipe, folders),
        },
        paraphraser: paraphraser(recipe, folders),
        student_tokens: tokens(&made.student, recipe.scratch_student()),
        teacher_tokens: tokens(&made.teacher, recipe.scratch_teacher()),
    })
}

fn of_files(recipe: &Recipe, folders: &Folders) -> Result<Counts, StageError> {
    let mut of = [0usize; 3];
    let (mut bytes, mut has_responses) = (0.0, false);
    for (index, (_, files)) in split_files(recipe).into_iter().enumerate() {
        for path in folders.find_all(files)? {
            let (rows, mean) = rows_and_bytes(&path)?;
            of[index] += rows;
            if index == 0 {
                bytes = f64::max(bytes, mean);
                has_responses |= holds(&path, "response", recipe)?;
            }
        }
    }
    let mut given = 0;
    for path in folders.find_all(&recipe.data.traces)? {
        given += match outside::recognized(&path)? {
            Some(program) => outside::n_answers(&path, program)?,
            None => rows_and_bytes(&path)?.0,
        };
    }
    let (dev, test) = recipe.fractions();
    let part = |share: f64| (of[0] as f64 * share).round() as usize;
    let at_most = |n: usize, split| n.min(recipe.data.max_problems.of(split).unwrap_or(n));
    let train = at_most(of[0].saturating_sub(part(dev) + part(test)), Split::Train);
    let row_tokens = bytes / BYTES_OF_A_TOKEN;
    let mut student_tokens = 0.0;
    if let Some(student) = recipe.scratch_student() {
        for path in folders.find_all(&student.text)? {
            let (rows, mean) = rows_and_bytes(&path)?;
            student_tokens += rows as f64 * mean / BYTES_OF_A_TOKEN * student.epochs as f64;
        }
    }
    let shape = recipe
        .scratch_student()
        .and_then(|model| model.shape.as_ref());
    Ok(Counts {
        train,
        dev: at_most(of[1] + part(dev), Split::Dev),
        test: at_most(of[2] + part(test), Split::Test),
        human: train,
        given,
        has_responses,
        row_tokens,
        students: students(recipe, folders, shape.map_or(0.0, parameters)),
        teacher: teacher(recipe, folders),
        paraphraser: paraphraser(recipe, folders),
        student_tokens,
        teacher_tokens: 0.0,
    })
}

/// Rows of a file and their mean length in bytes of text.
fn rows_and_bytes(path: &Path) -> Result<(usize, f64), StageError> {
    let (mut rows, mut bytes) = (0usize, 0usize);
    for row in Rows::<Map<String, Value>>::open(path)? {
        rows += 1;
        if let (Ok(row), true) = (row?, rows <= SAMPLED_ROWS) {
            bytes += row
                .value
                .values()
                .filter_map(Value::as_str)
                .map(str::len)
                .sum::<usize>();
        }
    }
    Ok((rows, bytes as f64 / rows.clamp(1, SAMPLED_ROWS) as f64))
}

/// Whether the first rows of a file have a field, or the column that fills it.
fn holds(path: &Path, field: &str, recipe: &Recipe) -> Result<bool, StageError> {
    let column = recipe.data.columns.get(field).map_or(field, String::as_str);
    has_column(path, column)
}

/// Whether the first rows of some file have a column.
pub(super) fn any_has_column(paths: &[PathBuf], column: &str) -> Result<bool, StageError> {
    for path in paths {
        if has_column(path, column)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the first rows of a file have a column.
pub(super) fn has_column(path: &Path, column: &str) -> Result<bool, StageError> {
    for row in Rows::<Map<String, Value>>::open(path)?.take(SAMPLED_ROWS) {
        if row?.is_ok_and(|row| idiolect_core::task::column_of(&row.value, column).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn students(recipe: &Recipe, folders: &Folders, scratch: f64) -> Vec<f64> {
    let of = |(_, reference): &(String, Option<String>)| match reference {
        Some(reference) => of_directory(recipe, &folders.model(reference)),
        None => scratch,
    };
    recipe.students().iter().map(of).collect()
}

fn teacher(recipe: &Recipe, folders: &Folders) -> f64 {
    match &recipe.models.teacher {
        Some(Writer::Reference(reference)) => of_writer(recipe, folders, reference),
        _ => 0.0,
    }
}

fn paraphraser(recipe: &Recipe, folders: &Folders) -> f64 {
    let own = recipe.models.paraphraser.as_deref();
    let own = own.filter(|name| *name != "teacher");
    own.map_or(0.0, |reference| of_writer(recipe, folders, reference))
}

fn of_writer(recipe: &Recipe, folders: &Folders, reference: &str) -> f64 {
    match Place::of(reference) {
        Place::Endpoint(address) => named_size(address).unwrap_or(0.0),
        _ => of_directory(recipe, &folders.model(reference)),
    }
}

/// Parameters by a model's name: `gemma-2-27b-it` has 27 billion.
fn named_size(name: &str) -> Option<f64> {
    let mut parts = name.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    parts.find_map(|part| {
        let (number, unit) = part.split_at(part.len().checked_sub(1)?);
        let unit = match unit {
            "b" | "B" => 1e9,
            "m" | "M" => 1e6,
            _ => return None,
        };
        Some(number.parse::<f64>().ok()? * unit)
    })
}

/// Parameters of a model directory; 0 where it cannot be read, which is reported elsewhere.
fn of_directory(recipe: &Recipe, reference: &str) -> f64 {
    let opening = Opening {
        ignored_fields: &recipe.models.ignore_config_fields,
        ..Opening::default()
    };
    let text = TextModel::open(Path::new(reference), &opening);
    text.map_or(0.0, |text| text.config().model.n_parameters() as f64)
}

fn parameters(shape: &Shape) -> f64 {
    let c = shape.hidden_size;
    let layer = 4 * c * c + 3 * c * shape.intermediate_size;
    (shape.vocab_size * c + shape.num_hidden_layers * layer) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_sizes() {
        for (name, size) in [
            ("http://h:1/v1#google/gemma-2-27b-it", Some(27e9)),
            ("http://h/v1#Qwen2.5-Coder-0.5B-Instruct", Some(0.5e9)),
            ("http://h/v1#SmolLM2-135M", Some(135e6)),
            ("http://h/v1#gpt-4o", None),
        ] {
            assert_eq!(named_size(name), size, "{name}");
        }
    }
}
