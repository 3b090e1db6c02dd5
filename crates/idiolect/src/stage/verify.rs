//! Verify: a verdict on every trace, or on pairs of gold and answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use idiolect_core::record::{ReadSpan, TaskName, Trace, Verdict, VerdictRow};
use idiolect_core::store::{BadRow, Ending, Key, Meta, Occurrences, Opened, Output, Row};
use idiolect_core::task::{Judgement, Task, column_of, map_columns, task};
use serde::Serialize;
use serde_json::Value;

use super::code::CodeRunner;
use super::compat::{Compat, CompatVerdict};
use super::inputs::{Input, Problems};
use super::{Control, Outcome, StageError};

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifySettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Files of traces, in order.
    pub traces: Vec<PathBuf>,
    /// A public scorer whose verdict is written beside ours.
    pub compat: Option<Compat>,
    /// Whether an answer that equals the gold only when rounded is correct instead of `ungraded`.
    pub accept_rounded: bool,
    /// `verdicts.jsonl`.
    pub output: PathBuf,
}

/// Which pairs to verify.
#[derive(Clone, Debug)]
pub struct PairSettings {
    /// The task that judges.
    pub task: TaskName,
    /// Rows of `gold` and `answer`, and `id` where they have one; else their lines name them.
    pub pairs: PathBuf,
    /// Pairs of field and the column that fills it.
    pub columns: Vec<(String, String)>,
    /// A column that holds another grader's verdict, to be kept beside ours.
    pub theirs: Option<String>,
    /// A public scorer whose verdict is written beside ours.
    pub compat: Option<Compat>,
    /// As in [`VerifySettings`].
    pub accept_rounded: bool,
    /// Rows of `id`, `verdict`, `extracted` and `reason`.
    pub output: PathBuf,
}

/// Rows between looks at whether to stop.
const ROWS_AT_ONCE: usize = 256;

/// Writes one verdict a trace, in the order of the traces.
pub fn verify(settings: &VerifySettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let problems = Problems::read(&settings.problems, &[])?;
    let input = Input::open_all(&settings.traces)?;
    let code = CodeRunner::for_tasks(problems.tasks(), control)?;
    let mut meta = Meta::of("verify");
    problems.record(&mut meta);
    code.record(&mut meta);
    meta.input("traces", input.hash())
        .setting("compat", settings.compat)
        .setting("accept_rounded", settings.accept_rounded);
    if let Some(compat) = settings.compat {
        compat.judges_all(problems.tasks())?;
    }
    let mut output = match control.open(&settings.output, &meta)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let judge = |row: &Row<Trace>| verdict(&problems, &row.value, settings, &code);
    let order = judge_rows(
        &input,
        &mut output,
        control,
        &code,
        |row| &row.value.id,
        |row| &row.value.problem_id,
        judge,
    )?;
    let ending = Ending {
        order: &order,
        refused: &problems.bad,
        seen: (order.len() + problems.bad.len()) as u64,
    };
    let meta = control.finish(&settings.output, output, |output| output.finish(&ending))?;
    Outcome::of(&settings.output, &meta, false, control)
}

/// A row with the second verdict, where one is asked for.
#[derive(Serialize)]
struct Labelled<R> {
    #[serde(flatten)]
    row: R,
    #[serde(skip_serializing_if = "Option::is_none")]
    compat: Option<CompatVerdict>,
}

fn verdict(
    problems: &Problems,
    trace: &Trace,
    settings: &VerifySettings,
    code: &CodeRunner,
) -> Result<Labelled<VerdictRow>, String> {
    let problem = problems.of(trace)?;
    let task = problems.task(problem);
    let judgement = task.verify_trace(problem, trace, code.execute());
    let judgement = accepted(judgement, settings.accept_rounded);
    Ok(Labelled {
        row: judgement.into_row(trace, task),
        compat: settings
            .compat
            .map(|compat| compat.judge(&problem.gold, &trace.text)),
    })
}

/// A judgement, as a user sees it who takes rounded answers or does not.
pub(super) fn accepted(judgement: Judgement, accept_rounded: bool) -> Judgement {
    match accept_rounded {
        true => judgement.accepting_rounded(),
        false => judgement,
    }
}

/// The verdict on a pair: a row of `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairRow {
    id: Value,
    verdict: Verdict,
    extracted: Option<String>,
    reason: String,
    /// The part of the answer that was read; left out where it is the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<ReadSpan>,
    /// What another grader made of it, as its column holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<Value>,
}

/// Writes one verdict a well-formed pair, in the order of the pairs.
pub fn verify_pairs(settings: &PairSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let task = task(settings.task);
    let input = Input::open(&settings.pairs)?;
    let code = CodeRunner::for_tasks([settings.task], control)?;
    let mut meta = Meta::of("verify --pairs");
    code.record(&mut meta);
    meta.input("pairs", input.hash())
        .version("task", task.verifier())
        .setting("compat", settings.compat)
        .setting("accept_rounded", settings.accept_rounded);
    if !settings.columns.is_empty() {
        meta.setting("columns", &settings.columns);
    }
    if let Some(theirs) = &settings.theirs {
        meta.setting("theirs", theirs);
    }
    if let Some(compat) = settings.compat {
        compat.judges_all([settings.task])?;
    }
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    let judge = |row: &Row<Value>| pair(task, row, settings, &code);
    // Ids of pairs are anything; their lines distinguish them.
    let order = judge_rows(
        &input,
        &mut output,
        control,
        &code,
        |_| "pair",
        |_| "pair",
        judge,
    )?;
    let ending = Ending {
        order: &order,
        refused: &[],
        seen: order.len() as u64,
    };
    Outcome::of(&settings.output, &output.finish(&ending)?, false, control)
}

fn pair(
    task: &dyn Task,
    row: &Row<Value>,
    settings: &PairSettings,
    code: &CodeRunner,
) -> Result<Labelled<PairRow>, String> {
    let line = row.line;
    let Value::Object(row) = &row.value else {
        return Err("is no object with the fields `gold` and `answer`".to_owned());
    };
    let mapped = map_columns(row.clone(), &settings.columns)?;
    let field = |name: &str| {
        mapped.get(name).ok_or_else(|| {
            format!("lacks the field `{name}` (--map {name}=COLUMN names another column)")
        })
    };
    let id = mapped.get("id").map_or(Value::from(line), Value::clone);
    let (gold, answer) = (field("gold")?, field("answer")?);
    let theirs = match &settings.theirs {
        None => None,
        Some(column) => Some(
            column_of(row, column)
                .ok_or_else(|| format!("lacks the column `{column}`"))?
                .clone(),
        ),
    };
    let answer = match answer {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let judgement = task.verify_pair(gold, &answer, code.execute());
    let judgement = accepted(judgement, settings.accept_rounded);
    let Judgement {
        verdict,
        extracted,
        reason,
        read,
        ..
    } = judgement;
    Ok(Labelled {
        row: PairRow {
            id,
            verdict,
            extracted,
            reason,
            read,
            theirs,
        },
        compat: settings.compat.map(|compat| compat.judge(gold, &answer)),
    })
}

/// A row of the input with its key.
struct Keyed<T> {
    id: String,
    sample: usize,
    row: Result<Row<T>, BadRow>,
}

/// Judges every row that an earlier process did not: a result or a refusal each. Threads share a
/// block of rows and change nothing else. Returns the keys in the order of the rows.
fn judge_rows<T, R>(
    input: &Input,
    output: &mut Output,
    control: Control<'_>,
    code: &CodeRunner,
    id_of: impl Fn(&Row<T>) -> &str,
    problem_of: impl Fn(&Row<T>) -> &str,
    judge: impl Fn(&Row<T>) -> Result<R, String> + Sync,
) -> Result<Vec<Key>, StageError>
where
    T: serde::de::DeserializeOwned + Send + Sync,
    R: Serialize + Send,
{
    let mut meter = control
        .progress
        .begin("verify", "rows", input.lines(), output.done());
    let (mut order, mut block) = (Vec::new(), Vec::new());
    let mut occurrences = Occurrences::default();
    for row in input.rows::<T>()? {
        let row = row?;
        let id = row.as_ref().map_or(UNREADABLE, &id_of).to_owned();
        let sample = occurrences.next(&id);
        let key = Key::new(&id, sample);
        order.push(key);
        let problem = row.as_ref().map_or(UNREADABLE, &problem_of);
        if !control.takes(problem) || output.contains(key) {
            continue;
        }
        block.push(Keyed { id, sample, row });
        if block.len() == ROWS_AT_ONCE {
            judge_block(&mut block, output, control, code, &judge)?;
            control.check_refused(output, input.lines())?;
            meter.at(order.len() as u64);
        }
    }
    judge_block(&mut block, output, control, code, &judge)?;
    meter.at(order.len() as u64);
    Ok(order)
}

/// The id of rows that cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";

fn judge_block<T, R>(
    block: &mut Vec<Keyed<T>>,
    output: &mut Output,
    control: Control<'_>,
    code: &CodeRunner,
    judge: &(impl Fn(&Row<T>) -> Result<R, String> + Sync),
) -> Result<(), StageError>
where
    T: Send + Sync,
    R: Serialize + Send,
{
    let judged = |keyed: &Keyed<T>| match &keyed.row {
        Err(bad) => Err(bad.clone()),
        Ok(row) => judge(row).map_err(|reason| BadRow::new(&row.file, row.line, reason, "")),
    };
    let results = in_parallel(block, control.threads, judged);
    code.check()?;
    for (keyed, result) in block.drain(..).zip(results) {
        match result {
            Ok(row) => output.push(&keyed.id, keyed.sample, &row)?,
            Err(bad) => output.refuse(&keyed.id, keyed.sample, &bad)?,
        }
    }
    if control.stop.requested() {
        Err(StageError::Interrupted)
    } else {
        Ok(())
    }
}

/// `work` on each item, results in the items' order, on up to `threads` threads.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    // Below this, starting threads costs more than it gains.
    const WORTH_A_THREAD: usize = 32;
    // Items may differ a thousandfold (a program that never ends beside one that does), so threads
    // take small shares as they come free.
    const SHARE: usize = 4;
    let threads = threads.clamp(1, items.len().div_ceil(WORTH_A_THREAD).max(1));
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let (work, next) = (&work, &AtomicUsize::new(0));
    let shares = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    let mut done = Vec::new();
                    loop {
                        let share = next.fetch_add(1, Ordering::Relaxed);
                        match items.chunks(SHARE).nth(share) {
                            Some(items) => done.push((share, items.iter().map(work).collect())),
                            None => return done,
                        }
                    }
                })
            })
            .collect();
        let finished = workers.into_iter().map(|worker| match worker.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        finished.flatten().collect::<BTreeMap<usize, Vec<R>>>()
    });
    shares.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing() {
        let items: Vec<u32> = (0..1000).collect();
        let double = |item: &u32| item * 2;
        assert_eq!(
            in_parallel(&items, 1, double),
            in_parallel(&items, 7, double)
        );
        assert!(in_parallel(&[] as &[u32], 4, double).is_empty());
    }
}
