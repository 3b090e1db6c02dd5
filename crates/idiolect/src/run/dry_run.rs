//! What a run would do and could show, stated before it starts.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use idiolect_core::statistics::few::{FEWEST, least_detectable};
use idiolect_core::statistics::proportion::smallest_detectable;
use idiolect_model::Compute;
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
    let found = |d: f64| {
        let shown = smallest_detectable(n, d).max(least);
        // Arms that disagree on a twentieth cannot be further apart than that.
        (shown <= d).then_some(100.0 * shown)
    };
    if DISAGREEMENT.iter().all(|d| found(*d).is_none()) {
        return format!(
            "{n} test problems are too few to tell two arms apart, even if they disagree on {:.0} % of them",
            100.0 * DISAGREEMENT[DISAGREEMENT.len() - 1]
        );
    }
    let points: Vec<String> = DISAGREEMENT
        .iter()
        .map(|d| {
            let points = found(*d).map_or("nothing".to_owned(), |p| format!("{p:.1} points"));
            format!("{points} if two arms disagree on {:.0} %", 100.0 * d)
        })
        .collect();
    format!(
        "{n} test problems can distinguish (80 % power, p < 0.05, one seed): {}",
        points.join("; ")
    )
}

/// Operations a second of one GPU of the H100 class: two fifths of its dense bf16 peak of 989e12
/// (NVIDIA's data sheet) where rows are read whole, as in training and scoring, and a tenth where
/// they are written token by token in large batches. An estimate to plan with, no measurement.
const GPU_READS: f64 = 4e14;
const GPU_WRITES: f64 = 1e14;

/// Tokens of a job where every answer is as long as it may be.
fn most_tokens(job: &Job, recipe: &Recipe, counts: &Counts) -> f64 {
    let tokens = job.cost.tokens;
    let answers = tokens / counts.row_tokens.max(1.0);
    match job.stage {
        Stage::Generate => tokens + answers * recipe.generate.max_tokens as f64,
        // Each reads a solution and writes one, and may be asked again.
        Stage::Paraphrase => {
            let tries = 1.0 + recipe.paraphrase.retries as f64;
            tries * (tokens + answers / 2.0 * recipe.paraphrase.max_tokens as f64)
        }
        Stage::Eval => tokens + answers * recipe.eval.max_tokens as f64,
        _ => tokens,
    }
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
    /// Time left as measured here; absent where nothing could be measured. What a server does takes
    /// none of it.
    seconds: Option<f64>,
    /// The same on one GPU, in hours.
    gpu_hours: f64,
    /// Disk that its outputs take in the end.
    disk_mb: f64,
    /// Memory of the jobs that run at once.
    memory_mb: u64,
}

/// The plan for a person and for a program; `threads` jobs at once where several can be.
pub(super) fn describe(
    recipe: &Recipe,
    dir: &Path,
    jobs: &[Job],
    counts: &Counts,
    downloads: &[(String, Option<u64>)],
    threads: usize,
) -> Finished {
    let stages = stage_costs(dir, jobs, (recipe, counts), threads);
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
        "problems: about {} train, {} dev, {} test",
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
        "{:<12}{:>6}{:>6}{:>11}{:>10}{:>10}{:>10}",
        "stage", "jobs", "done", "M tokens", "time", "memory", "GPU hours"
    ));
    for stage in &stages {
        line(format!(
            "{:<12}{:>6}{:>6}{:>11.2}{:>10}{:>10}{:>10}",
            stage.stage.name(),
            stage.jobs,
            stage.done,
            stage.tokens / 1e6,
            stage.seconds.map_or("–".to_owned(), duration),
            bytes(1e6 * stage.memory_mb as f64),
            hours(stage.gpu_hours),
        ));
    }
    line(match seconds {
        Some(seconds) => format!(
            "about {} in all, from a second of training measured on this machine as busy as it is now",
            duration(seconds)
        ),
        None => "how long it takes could not be measured here".to_owned(),
    });
    let gpu_hours: f64 = stages.iter().map(|stage| stage.gpu_hours).sum();
    if gpu_hours >= 0.05 {
        line(format!(
            "about {} hours of one GPU of the H100 class instead, by vLLM and TRL (an estimate: {:.0e} operations a second in training and scoring, {:.0e} in generation)",
            hours(gpu_hours),
            GPU_READS,
            GPU_WRITES
        ));
    }
    let asked = || {
        jobs.iter()
            .filter(|job| job.endpoint().is_some() && !is_done(dir, job))
    };
    let tokens: f64 = asked().map(|job| job.cost.tokens).sum();
    let most: f64 = asked().map(|job| most_tokens(job, recipe, counts)).sum();
    let price = recipe.models.price.filter(|_| tokens > 0.0);
    let price = price.map(|price| price.prompt.max(price.completion) / 1e6);
    let cost = price.map(|price| tokens * price);
    let most_cost = price.map(|price| most * price);
    if let (Some(cost), Some(most_cost)) = (cost, most_cost) {
        line(format!(
            "endpoints: about {cost:.2} for {:.2} M tokens if answers are as long as the human solutions; at most {most_cost:.2} for {:.2} M if each takes all of its max_tokens (all at the higher price)",
            tokens / 1e6,
            most / 1e6
        ));
    }
    for address in servers(jobs) {
        line(format!("asks {address}; its time is not in that sum"));
    }
    if jobs.iter().any(Job::is_served) {
        let served = jobs.iter().filter(|job| job.is_served());
        let stages: BTreeSet<Stage> = served.map(|job| job.stage).collect();
        let names: Vec<&str> = stages.into_iter().map(Stage::name).collect();
        line(format!(
            "starts servers, {} at a time, for {} by `{}`; their time is not in that sum",
            recipe.server.places(),
            names.join(", "),
            recipe.server.command
        ));
    }
    let disk: f64 = stages.iter().map(|stage| 1e6 * stage.disk_mb).sum();
    line(format!("disk about {} in the end", bytes(disk)));
    for (name, missing) in downloads {
        line(match missing {
            Some(0) => format!("download {name}: in the cache"),
            Some(missing) => format!("download {name}: {}", bytes(*missing as f64)),
            None => format!("download {name}: the hub cannot be asked for its size"),
        });
    }
    line(detectable.clone());
    line(if dir.join("recipe.toml").exists() {
        "the directory holds a run: what is complete there is kept".to_owned()
    } else {
        "nothing of it is there yet".to_owned()
    });
    Finished {
        text,
        json: json!({"stages": stages, "seconds": seconds, "detectable": detectable, "gpu_hours": gpu_hours, "disk_bytes": disk, "endpoint_cost": cost, "endpoint_cost_at_most": most_cost, "downloads": downloads, "jobs": jobs}),
    }
}

fn stage_costs(
    dir: &Path,
    jobs: &[Job],
    (recipe, counts): (&Recipe, &Counts),
    threads: usize,
) -> Vec<StageCost> {
    let largest = counts
        .students
        .iter()
        .copied()
        .fold(counts.teacher, f64::max);
    // A pass that scores does about as many operations a second as training; one that writes token
    // by token does fewer, and is short beside the rest.
    let measure = |compute| match largest > 0.0 {
        true => operations_per_second(largest, compute),
        false => None,
    };
    let in_f32 = measure(Compute::F32);
    let in_bf16 = LazyCell::new(|| measure(Compute::Bf16));
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
                gpu_hours: 0.0,
                disk_mb: 0.0,
                memory_mb: 0,
            });
            stages.len() - 1
        });
        let stage = &mut stages[at];
        let at_once = match job.resources.cpu {
            Cpu::All => 1,
            Cpu::Shared if job.is_served() => recipe.server.places(),
            Cpu::Shared => threads.max(1),
        };
        stage.jobs += 1;
        stage.memory_mb = stage
            .memory_mb
            .max(at_once as u64 * job.resources.memory_mb);
        stage.disk_mb += job.cost.disk_mb;
        if is_done(dir, job) {
            stage.done += 1;
            continue;
        }
        stage.tokens += job.cost.tokens;
        stage.tera_operations += job.cost.tera_operations;
        let on_gpu = match job.stage {
            Stage::Generate | Stage::Paraphrase | Stage::Eval => GPU_WRITES,
            _ => GPU_READS,
        };
        stage.gpu_hours += job.cost.tera_operations * 1e12 / on_gpu / 3600.0;
        if job.endpoint().is_some() || job.is_served() {
            continue;
        }
        // A job that uses all cores is as fast as that many; the rate is of one.
        let cost = job.cost.tera_operations * 1e12 / threads.max(1) as f64;
        let rate = match compute_of(recipe, job.stage) {
            Compute::F32 => in_f32,
            Compute::Bf16 => *in_bf16,
        };
        stage.seconds = match (stage.seconds, rate) {
            (Some(sum), Some(rate)) => Some(sum + cost / rate),
            (sum, _) if cost == 0.0 => sum,
            _ => None,
        };
    }
    stages.sort_by_key(|stage| stage.stage);
    stages
}

/// What a stage's models multiply in.
fn compute_of(recipe: &Recipe, stage: Stage) -> Compute {
    match stage {
        Stage::Generate => recipe.generate.compute,
        Stage::Paraphrase => recipe.paraphrase.compute,
        Stage::Score => recipe.score.compute,
        Stage::Train => recipe.train.compute,
        Stage::Eval => recipe.eval.compute,
        _ => Compute::F32,
    }
}

/// The servers that jobs ask.
fn servers(jobs: &[Job]) -> BTreeSet<&str> {
    jobs.iter().filter_map(Job::endpoint).collect()
}

/// A size in a unit that fits.
fn bytes(n: f64) -> String {
    match n {
        n if n < 1e9 => format!("{:.0} MB", n / 1e6),
        n if n < 1e11 => format!("{:.1} GB", n / 1e9),
        n => format!("{:.0} GB", n / 1e9),
    }
}

fn hours(n: f64) -> String {
    match n {
        n if n < 0.05 => "–".to_owned(),
        n if n < 10.0 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// A time in a unit that fits.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
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
        assert_eq!(duration(4e7), "463 days");
        assert_eq!(
            (bytes(3.2e6), bytes(2.5e9), bytes(4e11)),
            ("3 MB".into(), "2.5 GB".into(), "400 GB".into())
        );
        assert_eq!(
            (hours(0.01), hours(0.3), hours(140.2)),
            ("–".into(), "0.3".into(), "140".into())
        );
    }
}
