//! `idiolect import`.

use std::path::PathBuf;

use idiolect_core::store::Meta;
use serde_json::json;

use super::options::{self, Common, SplitName, TaskOption};
use super::show::Shown;
use crate::stage::import::{ImportSettings, import};

/// Read a published data set: its rows become problems, and the solutions they hold traces
///
/// Columns are found by the names that the data sets use; --map tells others. Files may be JSON
/// lines, a JSON array, parquet, or gzipped.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect import gsm8k train.jsonl test.jsonl -o problems.jsonl --traces human.jsonl
  idiolect import gsm8k rows.parquet --map question=problem --map answer=gold -o problems.jsonl")]
pub(super) struct Arguments {
    /// The task of every row
    task: TaskOption,
    /// Files of raw rows; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// File of problems to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: PathBuf,
    /// File of traces to write: the rows' own solutions and responses
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    traces: Option<PathBuf>,
    /// Fill a field from another column; may be given again. A column may lie inside objects: a.b
    #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = pair)]
    columns: Vec<(String, String)>,
    /// Split of rows that do not tell; default by the file's name, else MBPP's numbering, else train
    #[arg(long, value_name = "NAME")]
    split: Option<SplitName>,
    /// First part of the ids that are made; default the task's name
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.is_empty() && !column.is_empty() => {
            Ok((field.to_owned(), column.to_owned()))
        }
        _ => Err("expected FIELD=COLUMN".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = ImportSettings {
        task: arguments.task.name(),
        files: arguments.files.clone(),
        columns: arguments.columns.clone(),
        split: arguments.split.map(SplitName::split),
        set: arguments.set.clone(),
        output: arguments.output.clone(),
        traces: arguments.traces.clone(),
    };
    let outcome = arguments
        .common
        .with_control(|control| import(&settings, control))?;
    let mut facts = Vec::new();
    if let Some(traces) = &settings.traces {
        let rows = Meta::read(traces)?.map_or(0, |meta| meta.rows);
        facts.push(("traces", json!(rows)));
    }
    Ok(Shown::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
