//! Slurm by its own commands: `sbatch`, `squeue`, `scancel`, and `sacct` where there is one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::journal::{Submission, folder};
use super::script::quoted;
use super::submit::{After, Refusal};
use super::{End, Look, Seen};
use crate::launch::command::{self, Ended};
use crate::shown::escaped;

/// A command that takes longer is taken for one whose controller does not answer.
const LIMIT: Duration = Duration::from_secs(120);

/// Characters of what a command states that are shown.
const LONGEST: usize = 1000;

/// Parts of what `sbatch` states where the same submission may be taken later.
const LATER: [&str; 11] = [
    "Unable to contact",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection timed out",
    "Transport endpoint",
    "temporarily",
    "try again",
    "Slurm backup controller in standby",
    "Job violates accounting/QOS policy",
    "MUNGE",
];

/// Reasons for which a pending task never begins unless someone changes the cluster.
const TOO_LARGE: [&str; 5] = [
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "BadConstraints",
    "AssocGrpNodeLimit",
];

/// The reason of a task that no node could begin.
const LAUNCH_FAILED: &str = "launch failed requeued held";

/// The reason of a task that waits for others.
pub(super) const DEPENDENCY: &str = "PENDING (Dependency)";

/// Whether Slurm's commands are here.
pub(super) fn check() -> Result<(), String> {
    run(&["sbatch", "--version"], "").map(drop)
}

/// The command that submits, as words of a shell; its standard input is the script.
pub(super) fn sbatch(run: &Path, submission: &Submission, after: &[After]) -> Vec<String> {
    let asked = &submission.asked;
    let logs = folder(run).join("logs");
    // sbatch reads `%` in the names of logs.
    let logs = logs.display().to_string().replace('%', "%%");
    let mut words = vec![
        "sbatch".to_owned(),
        "--parsable".to_owned(),
        format!("--job-name={}", submission.name),
        format!("--output={logs}/%x.%a.log"),
        "--open-mode=append".to_owned(),
        format!("--array=0-{}", submission.tasks.len().saturating_sub(1)),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={}", asked.cpus),
    ];
    if asked.gpus > 0 {
        words.push(format!("--gres=gpu:{}", asked.gpus));
    }
    if let Some(bytes) = asked.memory_bytes {
        words.push(format!("--mem={}M", bytes.div_ceil(1 << 20)));
    }
    words.extend(asked.time.iter().map(|time| format!("--time={time}")));
    words.extend(asked.sbatch.iter().cloned());
    let of = |aligned: bool| -> Vec<&str> {
        let those = after.iter().filter(|one| one.aligned == aligned);
        those.map(|one| one.cluster_id.as_str()).collect()
    };
    let kinds = [("afterok", of(false)), ("aftercorr", of(true))];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(kind, ids)| format!("{kind}:{}", ids.join(":")))
        .collect();
    if !kinds.is_empty() {
        words.push(format!("--dependency={}", kinds.join(",")));
        words.push("--kill-on-invalid-dep=yes".to_owned());
    }
    words
}

/// Submits; the number of the array.
pub(super) fn submit(
    folder: &Path,
    submission: &Submission,
    after: &[After],
    script: &str,
) -> Result<String, Refusal> {
    let words = sbatch(folder, submission, after);
    let ended =
        command::run(&words, script, LIMIT).map_err(|error| Refusal::Later(error.to_string()))?;
    // `--parsable`: the number, and of a cluster of several `;` and its name.
    let id = ended.out.lines().rev().find_map(|line| {
        let id = line.trim().split(';').next().unwrap_or_default();
        let is_number = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
        is_number.then(|| id.to_owned())
    });
    match id.filter(|_| ended.success) {
        Some(id) => Ok(id),
        None => {
            let words = words_of(&ended);
            Err(match LATER.iter().any(|part| words.contains(part)) {
                true => Refusal::Later(words),
                false => Refusal::Never(words),
            })
        }
    }
}

/// Every task that the controller knows of these submissions.
pub(super) fn look(submissions: &[&Submission]) -> Result<Look, String> {
    let mut found = Look::default();
    // By names: an unknown number would be an error, and a long line is taken in parts.
    for part in submissions.chunks(100) {
        let names: Vec<&str> = part.iter().map(|one| one.name.as_str()).collect();
        let names = format!("--name={}", names.join(","));
        let words = [
            "squeue",
            "--noheader",
            "--states=all",
            "--array",
            &names,
            "--format=%j|%F|%K|%T|%N|%r",
        ];
        for line in run(&words, "")?.lines() {
            read_line(line, part, &mut found);
        }
    }
    Ok(found)
}

fn read_line(line: &str, submissions: &[&Submission], found: &mut Look) {
    let mut fields = line.trim().splitn(6, '|');
    let (Some(name), Some(id), Some(task), Some(state), Some(node), Some(reason)) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return;
    };
    let Some(one) = submissions.iter().find(|one| one.name == name) else {
        return;
    };
    if one.cluster_id.as_deref().is_some_and(|known| known != id) {
        return;
    }
    let Ok(task) = task.parse::<usize>() else {
        return;
    };
    found.ids.insert(name.to_owned(), id.to_owned());
    found
        .tasks
        .insert((name.to_owned(), task), seen(state, node, reason));
}

fn seen(state: &str, node: &str, reason: &str) -> Seen {
    let never = reason == "DependencyNeverSatisfied";
    let (state, node) = (&*escaped(state, LONGEST), escaped(node, LONGEST));
    let with_reason = || match reason {
        "" | "None" | "(null)" => state.to_owned(),
        reason => format!("{state} ({})", escaped(reason, LONGEST)),
    };
    match state {
        "PENDING" | "CANCELLED" if never => Seen::Ended(End::NeverBegan, with_reason()),
        // Its node could not begin it, and it is held until someone looks.
        "PENDING" if reason == LAUNCH_FAILED => Seen::Ended(End::Lost, with_reason()),
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED"
        | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => match TOO_LARGE.contains(&reason) {
            true => Seen::Pending(format!(
                "{}: it asks for more than its partition has or allows, and waits for ever",
                with_reason()
            )),
            false => Seen::Pending(with_reason()),
        },
        "COMPLETED" => Seen::Ended(End::Completed, with_reason()),
        "CANCELLED" => Seen::Ended(End::Cancelled, with_reason()),
        "FAILED" | "TIMEOUT" | "NODE_FAIL" | "OUT_OF_MEMORY" | "PREEMPTED" | "BOOT_FAIL"
        | "DEADLINE" | "REVOKED" => Seen::Ended(End::Lost, with_reason()),
        // Running, or on its way in or out.
        _ => Seen::Running(format!("{state} on {node}")),
    }
}

/// What accounting states of a task that the controller has forgotten, where it is kept.
pub(super) fn fate(submission: &Submission, task: usize) -> Option<(End, String)> {
    let id = submission.cluster_id.as_ref()?;
    let job = format!("--jobs={id}_{task}");
    let words = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        &job,
        "--format=State",
    ];
    let out = run(&words, "").ok()?;
    // `CANCELLED by 1000`
    let state = out.lines().last()?.split_whitespace().next()?.to_owned();
    match seen(&state, "", "") {
        Seen::Ended(end, words) => Some((end, words)),
        _ => None,
    }
}

/// Cancels these tasks of a submission.
pub(super) fn cancel(submission: &Submission, tasks: &[usize]) -> Result<(), String> {
    let mut words = vec!["scancel".to_owned()];
    match &submission.cluster_id {
        Some(id) => words.extend(tasks.iter().map(|task| format!("{id}_{task}"))),
        None => words.push(format!("--name={}", submission.name)),
    }
    let ended = command::run(&words, "", LIMIT).map_err(|error| error.to_string())?;
    let words = words_of(&ended);
    match ended.success || words.contains("Invalid job id") {
        true => Ok(()),
        false => Err(words),
    }
}

/// Lets a task begin that waits for others, of which the controller has forgotten some.
pub(super) fn release(submission: &Submission, task: usize) -> Result<(), String> {
    let Some(id) = &submission.cluster_id else {
        return Ok(());
    };
    let job = format!("JobId={id}_{task}");
    run(&["scontrol", "update", &job, "Dependency="], "").map(drop)
}

/// How to cancel everything by hand.
pub(super) fn how_to_cancel(submissions: &[&Submission]) -> String {
    let ids: BTreeMap<&str, ()> = submissions
        .iter()
        .filter_map(|one| Some((one.cluster_id.as_deref()?, ())))
        .collect();
    let ids: Vec<String> = ids.into_keys().map(quoted).collect();
    format!("scancel {}", ids.join(" "))
}

fn run(words: &[&str], input: &str) -> Result<String, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let ended = command::run(&words, input, LIMIT).map_err(|error| error.to_string())?;
    match ended.success {
        true => Ok(ended.out),
        false => Err(format!("{}: {}", words[0], words_of(&ended))),
    }
}

/// What a command states of its failure, in one line.
fn words_of(ended: &Ended) -> String {
    let text = match ended.err.trim() {
        "" => ended.out.trim(),
        err => err,
    };
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("sbatch: error: "))
        .filter(|line| !line.is_empty())
        .collect();
    match lines.is_empty() {
        true => "no reason is given".to_owned(),
        false => escaped(&lines.join("; "), LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::place::{Asked, On};
    use super::*;

    fn submission(cluster_id: Option<&str>) -> Submission {
        Submission {
            name: "idiolect-0a-06-train-1".to_owned(),
            group: "06-train".to_owned(),
            on: On::Slurm,
            asked: Asked {
                cpus: 4,
                gpus: 1,
                memory_bytes: Some(1 << 30),
                time: Some("1:00:00".to_owned()),
                sbatch: vec!["--partition=gpu".to_owned()],
            },
            tasks: vec![vec!["a".to_owned()], vec!["b".to_owned()]],
            cluster_id: cluster_id.map(str::to_owned),
            closed: BTreeMap::new(),
            cancelled: false,
        }
    }

    #[test]
    fn what_is_asked_for_reaches_sbatch() {
        let after = |id: &str, aligned| After {
            cluster_id: id.to_owned(),
            aligned,
        };
        let after = [after("3", false), after("4", true), after("5", false)];
        let words = sbatch(Path::new("/runs/a%b"), &submission(None), &after).join(" ");
        for part in [
            "--array=0-1 ",
            "--cpus-per-task=4",
            "--gres=gpu:1",
            "--mem=1024M",
            "--time=1:00:00",
            "--partition=gpu",
            "--dependency=afterok:3:5,aftercorr:4 --kill-on-invalid-dep=yes",
            "--output=/runs/a%%b/cluster/logs/%x.%a.log",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    #[test]
    fn the_queue_is_read_as_it_is_written() {
        let one = submission(Some("12"));
        let mut found = Look::default();
        for line in [
            "idiolect-0a-06-train-1|12|0|RUNNING|n1|None",
            "idiolect-0a-06-train-1|12|1|PENDING||Resources",
            "idiolect-0a-06-train-1|11|1|FAILED|n1|NonZeroExitCode",
            "other|12|1|FAILED|n1|None",
            "slurm_load_jobs error",
            "",
        ] {
            read_line(line, &[&one], &mut found);
        }
        let at = |task| found.tasks[&(one.name.clone(), task)].clone();
        assert_eq!(at(0), Seen::Running("RUNNING on n1".to_owned()));
        assert_eq!(at(1), Seen::Pending("PENDING (Resources)".to_owned()));
        assert_eq!(found.tasks.len(), 2);
        let end = |state, reason| match seen(state, "", reason) {
            Seen::Ended(end, _) => Some(end),
            _ => None,
        };
        assert_eq!(
            end("CANCELLED", "DependencyNeverSatisfied"),
            Some(End::NeverBegan)
        );
        assert_eq!(
            end("PENDING", "DependencyNeverSatisfied"),
            Some(End::NeverBegan)
        );
        assert_eq!(end("CANCELLED", "None"), Some(End::Cancelled));
        assert_eq!(end("OUT_OF_MEMORY", "OutOfMemory"), Some(End::Lost));
        assert_eq!(end("PENDING", LAUNCH_FAILED), Some(End::Lost));
        assert_eq!(end("COMPLETING", "None"), None);
        assert_eq!(
            seen("PENDING", "", "Dependency"),
            Seen::Pending(DEPENDENCY.to_owned())
        );
        assert!(
            matches!(seen("PENDING", "", "PartitionConfig"), Seen::Pending(words) if words.contains("for ever"))
        );
    }
}
