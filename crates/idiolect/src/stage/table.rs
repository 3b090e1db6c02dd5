//! Table: rows as parquet with a data card, for who loads a data set rather than a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use idiolect_core::store::parquet_table::{Columns, write_table};
use idiolect_core::store::{BadRow, Meta, Rejects, StoreError, file_name, write_page, write_whole};
use idiolect_report::MARK;
use serde_json::{Map, Value};

use super::inputs::Input;
use super::{Control, Outcome, StageError};

/// What to write as a table.
#[derive(Clone, Debug)]
pub struct TableSettings {
    /// Rows of any kind.
    pub input: PathBuf,
    /// `DATA.parquet`; its card is `README.md` beside it.
    pub output: PathBuf,
}

/// Writes every row, in order, and the card. Fields that are no numbers, texts or turns are columns
/// of JSON text.
pub fn table(settings: &TableSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let input = Input::open(&settings.input)?;
    let made_of = Meta::read(&settings.input)?;
    let mut meta = Meta::of("convert");
    meta.input("data", input.hash()).setting("to", "parquet");
    let mut columns = Columns::default();
    let (mut seen, mut problems, mut bad) = (0, BTreeSet::new(), Vec::new());
    for row in input.rows::<Map<String, Value>>()? {
        seen += 1;
        match row? {
            Err(row) => bad.push(row),
            Ok(row) => {
                columns.add(&row.value).map_err(|reason| {
                    StageError::failed(
                        format!("`{}`, line {}: {reason}", row.file, row.line),
                        "rename the field",
                    )
                })?;
                let problem = row.value.get("problem_id").and_then(Value::as_str);
                problems.extend(problem.map(str::to_owned));
            }
        }
        if control.stop.requested() {
            return Err(StageError::Interrupted);
        }
    }
    let rejected = bad.len() as u64;
    refuse(&settings.output, &bad)?;
    control.allows(&settings.output, rejected, seen)?;
    if columns.iter().next().is_none() {
        return Err(StageError::failed(
            format!("`{}` has no rows", settings.input.display()),
            "",
        ));
    }
    let rows = || -> Result<(), StoreError> {
        write_table(&settings.output, &columns, |put| {
            for row in input.rows::<Map<String, Value>>()? {
                if let Ok(row) = row? {
                    put(row.value)?;
                }
            }
            Ok(())
        })
    };
    let (written, was_complete) = write_whole(&settings.output, &meta, control.overwrite, rows)?;
    let card = card(
        settings,
        &columns,
        seen - rejected,
        problems.len(),
        made_of.as_ref(),
    );
    write_card(&settings.output, &card, control)?;
    Ok(Outcome {
        rows: seen - rejected,
        rejected,
        seen,
        was_complete,
        hash: written.hash,
    })
}

/// Writes the refused rows beside the output.
fn refuse(output: &Path, bad: &[BadRow]) -> Result<(), StageError> {
    let mut rejects = Rejects::open(output, true)?;
    for row in bad {
        rejects.push(row)?;
    }
    Ok(rejects.sync()?)
}

/// `README.md` beside the table. One that this program did not write, that was changed since, or that
/// is another table's stays, and is told of.
fn write_card(output: &Path, card: &str, control: Control<'_>) -> Result<(), StageError> {
    let path = output.with_file_name("README.md");
    let of_table = |text: &str| {
        text.lines()
            .find(|line| line.contains("data_files:"))
            .map(str::to_owned)
    };
    let is_anothers = std::fs::metadata(&path).is_ok_and(|found| found.is_file())
        && std::fs::read_to_string(&path).is_ok_and(|old| of_table(&old) != of_table(card));
    let written = match is_anothers {
        true => Err(StoreError::foreign(&path, "it is another table's")),
        false => write_page(&path, card),
    };
    match written {
        Err(StoreError::Foreign { path, .. }) => {
            control.progress.note(
                "convert",
                &format!("`{path}` is there already and is not changed, so the table has no card"),
            );
            Ok(())
        }
        other => Ok(other?),
    }
}

/// A card as the Hugging Face hub reads it: what the table holds and what it was made of. No time, no
/// path.
fn card(
    settings: &TableSettings,
    columns: &Columns,
    rows: u64,
    problems: usize,
    made_of: Option<&Meta>,
) -> String {
    let table = file_name(&settings.output);
    let input = file_name(&settings.input);
    let quoted = |text: &str| Value::from(text).to_string();
    let mut card = format!(
        "---\nconfigs:\n- config_name: default\n  data_files: {}\ntask_categories:\n- text-generation\n---\n\n# {}\n\n",
        quoted(&table),
        escaped(&table)
    );
    card += &format!("{rows} rows");
    if problems > 0 {
        card += &format!(" of {problems} problems");
    }
    card += &format!(
        ", out of `{}`.\n\n```python\nfrom datasets import load_dataset\n\nrows = load_dataset(\"parquet\", data_files={}, split=\"train\")\n```\n\n",
        escaped(&input),
        quoted(&table)
    );
    card += "## Columns\n\n| column | holds |\n|---|---|\n";
    for (name, kind) in columns.iter() {
        card += &format!("| `{name}` | {} |\n", kind.name());
    }
    card += "\n## How it was made\n\n";
    match made_of {
        None => {
            card += &format!(
                "Nothing is recorded of how `{}` was made.\n",
                escaped(&input)
            )
        }
        Some(meta) => {
            card += &format!("By `idiolect {}`, {} rows", meta.stage, meta.rows);
            if meta.rejected > 0 {
                card += &format!(" ({} were refused)", meta.rejected);
            }
            card += &format!(", content hash `{}`.\n\n", meta.hash);
            let settings = meta
                .settings
                .iter()
                .map(|(name, value)| (name, value.to_string()));
            let inputs = meta
                .inputs
                .iter()
                .map(|(name, hash)| (name, format!("input, content hash {hash}")));
            let versions = meta
                .versions
                .iter()
                .map(|(name, version)| (name, version.clone()));
            for (name, value) in settings.chain(inputs).chain(versions) {
                card += &format!("- {}: `{}`\n", escaped(name), escaped(&value));
            }
        }
    }
    card += "\n## Licence\n\nThat of the data that it was made of, which is not known here: state it before you publish.\n";
    card += &format!("\n{MARK} {}.\n", env!("CARGO_PKG_VERSION"));
    card
}

/// Text in a Markdown code span or heading: nothing that ends it, no control characters.
fn escaped(text: &str) -> String {
    crate::shown::escaped(text, 400)
        .replace('`', "'")
        .replace('<', "&lt;")
}
