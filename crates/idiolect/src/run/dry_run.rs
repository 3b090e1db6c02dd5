//! What a run would do and could show, said before it starts.

use std::fmt::Write as _;
use std::path::Path;

use idiolect_core::statistics::few::{FEWEST, least_detectable};
use idiolect_core::statistics::proportion::smallest_detectable;
use serde::Serialize;
use serde_json::json;

use super::Finished;
use super::calibrate::operations_per_second;
use super::counts::Counts;
use super::plan::{Cpu, Job, Stage};
use super::recipe::Recipe;
use super::state::is_done;

/// Fractions of the problems on which two arms may disagree.
const DISAGREEMENT: [f64; 3] = [0.05, 0.1, 0.2];

/// The smallest difference that the evaluation can show, in a sentence.
pub(super) fn detectable(counts: &Counts) -> String {
    let n = counts.test.max(1);
    let Some(least) = least_detectable(n) else {
        return format!(
            "no two arms can be told apart from {n} test problems: at least {FEWEST} must differ"
        );
    };
    let points: Vec<String> = DISAGREEMENT
        .iter()
        .map(|d| {
            let shown = smallest_detectable(n, *d).max(least);
            // Arms that disagree on a twentieth cannot be further apart than that.
            let found = if shown <= *d {
                format!("{:.1} points", 100.0 * shown)
            } else {
                "nothing".to_owned()
            };
            format!("{found} if two arms disagree on {:.0} %", 100.0 * d)
        })
        .collect();
    format!(
        "{n} test problems can tell apart (80 % power, p < 0.05, one seed): {}",
        points.join("; ")
    )
}

/// The jobs of a stage together.
#[derive(Clone, Debug, Serialize)]
struct StageCost {
    stage: Stage,
    jobs: usize,
    /// Of them, those that are done.
    done: usize,
    /// Tokens that pass through a model in what is left.
    tokens: f64,
    tera_operations: f64,
    /// Time left as measured here; absent where nothing could be measured.
    seconds: Option<f64>,
    /// Memory of the jobs that run at once.
    memory_mb: u64,
}

/// The plan for a person and for a program; `threads` jobs at once where several can be.
pub(super) fn describe(
    recipe: &Recipe,
    dir: &Path,
    jobs: &[Job],
    counts: &Counts,
    threads: usize,
) -> Finished {
    let stages = stage_costs(dir, jobs, counts, threads);
    let seconds: Option<f64> = stages.iter().map(|stage| stage.seconds).sum();
    let detectable = detectable(counts);
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("{}: {}", recipe.name, recipe.about));
    line(format!(
        "would write {} ({} job(s), {} replicate(s), seed {})",
        dir.display(),
        jobs.len(),
        recipe.replicates,
        recipe.seed
    ));
    line(format!(
        "problems {} train, {} dev, {} test",
        counts.train, counts.dev, counts.test
    ));
    let students: Vec<String> = recipe
        .students()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    line(format!("student(s) {}", students.join(", ")));
    line(format!(
        "arms {} × {} seed(s), {} epoch(s) of {} rows each",
        recipe.arms.listed().join(" "),
        recipe.train.seeds,
        recipe.train.epochs,
        recipe
            .arms
            .rows
            .map_or("all matched".to_owned(), |r| r.to_string()),
    ));
    line(format!(
        "{:<12}{:>6}{:>6}{:>11}{:>10}{:>10}",
        "stage", "jobs", "done", "M tokens", "time", "memory"
    ));
    for stage in &stages {
        line(format!(
            "{:<12}{:>6}{:>6}{:>11.2}{:>10}{:>10}",
            stage.stage.name(),
            stage.jobs,
            stage.done,
            stage.tokens / 1e6,
            stage.seconds.map_or("–".to_owned(), duration),
            format!("{} MB", stage.memory_mb),
        ));
    }
    line(match seconds {
        Some(seconds) => format!(
            "about {} in all, from a second of training measured on this machine as busy as it is now",
            duration(seconds)
        ),
        None => "how long it takes could not be measured here".to_owned(),
    });
    line(detectable.clone());
    line(if dir.join("recipe.toml").exists() {
        "the directory holds a run: what is complete there is kept".to_owned()
    } else {
        "nothing of it is there yet".to_owned()
    });
    Finished {
        text,
        json: json!({"stages": stages, "seconds": seconds, "detectable": detectable, "jobs": jobs}),
    }
}

fn stage_costs(dir: &Path, jobs: &[Job], counts: &Counts, threads: usize) -> Vec<StageCost> {
    let largest = counts
        .students
        .iter()
        .copied()
        .fold(counts.teacher, f64::max);
    // A pass that scores does about as many operations a second as training; one that writes token
    // by token does fewer, and is short beside the rest.
    let rate = (largest > 0.0)
        .then(|| operations_per_second(largest))
        .flatten();
    let mut stages: Vec<StageCost> = Vec::new();
    for job in jobs {
        let at = stages.iter().position(|stage| stage.stage == job.stage);
        let at = at.unwrap_or_else(|| {
            stages.push(StageCost {
                stage: job.stage,
                jobs: 0,
                done: 0,
                tokens: 0.0,
                tera_operations: 0.0,
                seconds: Some(0.0),
                memory_mb: 0,
            });
            stages.len() - 1
        });
        let stage = &mut stages[at];
        let at_once = match job.resources.cpu {
            Cpu::All => 1,
            Cpu::Shared => threads.max(1),
        };
        stage.jobs += 1;
        stage.memory_mb = stage
            .memory_mb
            .max(at_once as u64 * job.resources.memory_mb);
        if is_done(dir, job) {
            stage.done += 1;
            continue;
        }
        stage.tokens += job.cost.tokens;
        stage.tera_operations += job.cost.tera_operations;
        // A job that uses all cores is as fast as that many; the rate is of one.
        let cost = job.cost.tera_operations * 1e12 / threads.max(1) as f64;
        stage.seconds = match (stage.seconds, rate) {
            (Some(sum), Some(rate)) => Some(sum + cost / rate),
            (sum, _) if cost == 0.0 => sum,
            _ => None,
        };
    }
    stages.sort_by_key(|stage| stage.stage);
    stages
}

/// A time in a unit that fits.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_that_fits() {
        assert_eq!(duration(3.2), "3 s");
        assert_eq!(duration(600.0), "10 min");
        assert_eq!(duration(7200.0), "2.0 h");
    }
}
