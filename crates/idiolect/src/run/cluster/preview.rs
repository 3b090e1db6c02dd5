//! What would be submitted, for a dry run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::super::execute::needs;
use super::super::place::On;
use super::super::plan::Job;
use super::super::recipe::Recipe;
use super::super::state::is_done;
use super::super::{Finished, Process};
use super::groups::{groups, tasks};
use super::journal::{Submission, task_name};
use super::script::{Program, quoted, script};
use super::submit::After;
use super::{absolute, flags, slurm};
use crate::stage::StageError;

/// Adds the submissions to the description of a run.
pub(in super::super) fn describe(
    described: Finished,
    (recipe, dir): (&Recipe, &Path),
    jobs: &[Job],
    on: &On,
    process: Process,
) -> Result<Finished, StageError> {
    let execute = &recipe.execute;
    let (dir, program) = (absolute(dir)?, Program::of(execute.program.as_deref()));
    let flags = flags(process);
    let needs = needs(jobs);
    let is_open: Vec<bool> = jobs.iter().map(|job| !is_done(&dir, job)).collect();
    let mut made_by: BTreeMap<usize, String> = BTreeMap::new();
    let (mut table, mut scripts, mut rows) = (String::new(), String::new(), Vec::new());
    let mut first = None;
    for group in groups(jobs, execute) {
        let open: Vec<usize> = group
            .jobs
            .iter()
            .copied()
            .filter(|job| is_open[*job])
            .collect();
        if open.is_empty() {
            continue;
        }
        let needed = open
            .iter()
            .flat_map(|job| &needs[*job])
            .filter(|need| is_open[**need]);
        let after: BTreeSet<&String> = needed.filter_map(|need| made_by.get(need)).collect();
        let after: Vec<String> = after.into_iter().cloned().collect();
        made_by.extend(open.iter().map(|job| (*job, group.name.clone())));
        let Some(asked) = group.asked.clone() else {
            let _ = writeln!(
                table,
                "{:<16}{:>6}{:>7}  in this process{}",
                group.name,
                open.len(),
                "–",
                shown(&after)
            );
            rows.push(
                json!({"group": group.name, "on": "local", "jobs": open.len(), "after": after}),
            );
            continue;
        };
        let dealt = tasks(&group, &open, execute.tasks);
        let _ = writeln!(
            table,
            "{:<16}{:>6}{:>7}  {asked}{}",
            group.name,
            open.len(),
            dealt.len(),
            shown(&after)
        );
        let ids = |task: &Vec<usize>| task.iter().map(|job| jobs[*job].id.clone()).collect();
        let submission = Submission {
            name: format!("idiolect-RUN-{}-1", group.name),
            group: group.name.clone(),
            on: on.clone(),
            asked,
            tasks: dealt.iter().map(ids).collect(),
            cluster_id: None,
            closed: BTreeMap::new(),
            cancelled: false,
        };
        let text = |task: &str| {
            script(
                (&program, &flags),
                &dir,
                &submission.name,
                task,
                &submission.asked,
            )
        };
        let mut row = json!({
            "group": group.name,
            "on": on,
            "jobs": open.len(),
            "tasks": submission.tasks,
            "asked": submission.asked,
            "after": after,
        });
        match on {
            On::Ray(_) => {
                let (id, text) = (task_name(&submission.name, 0), text("0"));
                let _ = writeln!(scripts, "POST /api/jobs/ {id}");
                first.get_or_insert_with(|| text.clone());
                row["entrypoint"] = Value::from(text);
            }
            _ => {
                let named = |name: &String| After {
                    cluster_id: format!("ID-OF-{name}"),
                    aligned: false,
                };
                let after: Vec<After> = after
                    .iter()
                    .filter(|name| is_submitted(&rows, name))
                    .map(named)
                    .collect();
                let words: Vec<String> = slurm::sbatch(&dir, &submission, &after)
                    .iter()
                    .map(|word| quoted(word))
                    .collect();
                let text = text("$SLURM_ARRAY_TASK_ID");
                let _ = writeln!(scripts, "{}", words.join(" "));
                first.get_or_insert_with(|| text.clone());
                row["command"] = json!(words);
                row["script"] = Value::from(text);
            }
        }
        rows.push(row);
    }
    let Finished { mut text, mut json } = described;
    let _ = write!(
        text,
        "\non {on}, in this order:\n{:<16}{:>6}{:>7}  each asks for\n{table}\n{scripts}",
        "group", "jobs", "tasks"
    );
    if let Some(first) = first {
        let _ = write!(text, "\nwith this script, each with its own name:\n{first}");
    }
    json["submissions"] = Value::from(rows);
    Ok(Finished { text, json })
}

/// Whether a group goes to the cluster.
fn is_submitted(rows: &[Value], name: &str) -> bool {
    rows.iter()
        .any(|row| row["group"] == name && row["on"] != "local")
}

fn shown(after: &[String]) -> String {
    match after.is_empty() {
        true => String::new(),
        false => format!(", after {}", after.join(" ")),
    }
}
