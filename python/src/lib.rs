//! The Python module `idiolect._idiolect`: what `verify`, `score` and `compare` compute, as plain
//! dicts. Work is done without the interpreter lock.

use std::ops::ControlFlow;
use std::path::PathBuf;

use idiolect::interrupt::Stop;
use idiolect::model::{How, local};
use idiolect::progress::Progress;
use idiolect::stage::StageError;
use idiolect::stage::compare::{CompareSettings, compare as compare_files};
use idiolect::stage::inputs::DataRow;
use idiolect::stage::score::sums;
use idiolect_core::record::{TaskName, Verdict};
use idiolect_core::task::{Judgement, NoCode, task};
use idiolect_engine::text::Opening;
use idiolect_model::{Compute, Example, Model, Scored};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pythonize::{depythonize, pythonize};
use serde::Serialize;
use serde_json::{Value, json};

/// Pairs or rows between looks at whether Ctrl-C was pressed.
const AT_ONCE: usize = 512;

/// The verdict on one answer.
#[derive(Serialize)]
struct Judged {
    verdict: Verdict,
    correct: bool,
    extracted: Option<String>,
    reason: String,
}

impl From<Judgement> for Judged {
    fn from(judgement: Judgement) -> Self {
        Self {
            verdict: judgement.verdict,
            correct: judgement.verdict == Verdict::Correct,
            extracted: judgement.extracted,
            reason: judgement.reason,
        }
    }
}

#[pymodule]
fn _idiolect(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    module.add_function(wrap_pyfunction!(verify_many, module)?)?;
    module.add_function(wrap_pyfunction!(score, module)?)?;
    module.add_function(wrap_pyfunction!(compare, module)?)
}

#[pyfunction]
fn verify<'py>(
    py: Python<'py>,
    gold: &Bound<'py, PyAny>,
    answer: &str,
    task: &str,
    accept_rounded: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (gold, name) = (gold_of(gold)?, task_of(task)?);
    let judged = py.detach(|| judge(name, &gold, answer, accept_rounded));
    Ok(pythonize(py, &judged)?)
}

#[pyfunction]
fn verify_many<'py>(
    py: Python<'py>,
    pairs: Vec<(Bound<'py, PyAny>, String)>,
    task: &str,
    accept_rounded: bool,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let name = task_of(task)?;
    let pairs: Vec<(Value, String)> = pairs
        .into_iter()
        .map(|(gold, answer)| Ok((gold_of(&gold)?, answer)))
        .collect::<PyResult<_>>()?;
    let mut judged = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(AT_ONCE * threads.max(1)) {
        py.check_signals()?;
        let one = |(gold, answer): &(Value, String)| judge(name, gold, answer, accept_rounded);
        judged.extend(py.detach(|| in_parallel(pairs, threads, one)));
    }
    judged.iter().map(|one| Ok(pythonize(py, one)?)).collect()
}

#[pyfunction]
fn score<'py>(
    py: Python<'py>,
    model: &str,
    rows: &Bound<'py, PyAny>,
    compute: &str,
    threads: usize,
    tokens: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let rows: Vec<Value> = depythonize(rows)?;
    let parse = |(at, row): (usize, &Value)| {
        DataRow::parse(row).map_err(|why| PyValueError::new_err(format!("rows[{at}]: {why}")))
    };
    let rows: Vec<DataRow> = rows
        .iter()
        .enumerate()
        .map(parse)
        .collect::<PyResult<_>>()?;
    let compute = match compute {
        "f32" => Compute::F32,
        "bf16" => Compute::Bf16,
        other => {
            return Err(PyValueError::new_err(format!(
                "compute is \"f32\" or \"bf16\", not {other:?}"
            )));
        }
    };
    let scored = py.detach(|| scores(model, &rows, compute, threads, tokens));
    Ok(pythonize(py, &scored.map_err(failed)?)?)
}

#[pyfunction]
fn compare<'py>(
    py: Python<'py>,
    evaluations: Vec<(String, PathBuf)>,
    baseline: Option<String>,
    assume_same: bool,
    seed: u64,
) -> PyResult<Bound<'py, PyAny>> {
    let settings = CompareSettings {
        evaluations,
        baseline,
        assume_same,
        seed,
    };
    let comparison = py.detach(|| compare_files(&settings)).map_err(failed)?;
    Ok(pythonize(py, &comparison)?)
}

fn judge(name: TaskName, gold: &Value, answer: &str, accept_rounded: bool) -> Judged {
    let judgement = task(name).verify_pair(gold, answer, &NoCode);
    match accept_rounded {
        true => judgement.accepting_rounded(),
        false => judgement,
    }
    .into()
}

/// A gold answer; a number is written as the text that states it.
fn gold_of(gold: &Bound<'_, PyAny>) -> PyResult<Value> {
    let value: Value = depythonize(gold)?;
    Ok(match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other,
    })
}

fn task_of(name: &str) -> PyResult<TaskName> {
    let known: Result<TaskName, _> = serde_json::from_value(json!(name));
    match known {
        Ok(TaskName::Mbpp) => Err(PyValueError::new_err(
            "the answers of mbpp are programs, which this module does not run: use the command \
             `idiolect verify`, which confines them",
        )),
        Ok(name) => Ok(name),
        Err(_) => Err(PyValueError::new_err(format!(
            "no task {name:?}: gsm8k, math or countdown"
        ))),
    }
}

/// The results of all items, in order, by up to `threads` threads.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    one: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let each = items.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let one = &one;
        let workers: Vec<_> = items
            .chunks(each)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<R>>()))
            .collect();
        let done = workers.into_iter().map(|worker| worker.join());
        // A panic of a worker goes on as its caller's.
        done.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// One entry a row: its sums as `idiolect score` writes them, with the tokens where asked for, or
/// why it could not be scored.
fn scores(
    model: &str,
    rows: &[DataRow],
    compute: Compute,
    threads: usize,
    tokens: bool,
) -> Result<Vec<Value>, StageError> {
    let (progress, stop) = (Progress::quiet(), Stop::default());
    let how = How {
        opening: Opening {
            compute,
            ..Opening::default()
        },
        ..How::here(threads.max(1), &progress, &stop)
    };
    let mut model = local(model, &how)?;
    let info = model.info().clone();
    let examples: Vec<Example> = rows.iter().map(|row| row.example.clone()).collect();
    let mut found = vec![Value::Null; rows.len()];
    let entry = |at: usize, scored: Scored| -> Result<Value, serde_json::Error> {
        let row = &rows[at];
        let id = row.trace_id.clone().unwrap_or_else(|| at.to_string());
        let row = sums(&scored, &id, row.problem_id.as_deref(), &info);
        let mut value = serde_json::to_value(row)?;
        if tokens {
            value["tokens"] = serde_json::to_value(&scored.tokens)?;
        }
        Ok(value)
    };
    model.as_score()?.score(&examples, &mut |at, scored| {
        found[at] = match scored {
            Ok(scored) => entry(at, scored).unwrap_or_else(|e| json!({"error": e.to_string()})),
            Err(refused) => json!({"error": refused.reason}),
        };
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// With what to do, where that is known.
fn failed(error: StageError) -> PyErr {
    let text = match error.hint() {
        Some(hint) => format!("{error}\n{hint}"),
        None => error.to_string(),
    };
    match error {
        StageError::Usage { .. } => PyValueError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}
