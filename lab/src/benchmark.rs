//! The living benchmark's tables: how well do rankings made before training agree with what came out?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use idiolect::run::finished::{FinishedRun, write_rows};
use idiolect::stage::{Control, StageError};
use idiolect_core::advice::FinishedReplicate;
use idiolect_core::advice::judge::{
    ADVISE, BY_NAME, Judged, LONGEST, RANDOM, Summary, judge, summaries,
};
use idiolect_core::arms::{Source, source_of};
use idiolect_core::store::write_atomic;
use serde_json::{Value, json};

use crate::claims;

/// What the goal of the advice is: the best published figure for ranking trajectories before
/// training (arXiv 2601.14249).
const GOAL: f64 = 0.86;

/// What the advice is held against by regret.
const RIVALS: [&str; 6] = [BY_NAME, RANDOM, LONGEST, "nll_per_token", "rsr", "lark"];

/// Files to write, where they are wanted.
pub(crate) struct Outputs<'a> {
    /// The tables.
    pub(crate) page: Option<&'a Path>,
    /// The paper's claims.
    pub(crate) claims: Option<&'a Path>,
    /// The finished replicates.
    pub(crate) finished: Option<&'a Path>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Benchmarked {
    /// The tables, in Markdown.
    pub(crate) page: String,
    /// Means over replicates, over all arms.
    summary: Vec<Summary>,
    /// The same without arms F and R.
    restricted: Vec<Summary>,
    /// Every ranking in every replicate, over all arms.
    judged: Vec<Judged>,
}

impl Benchmarked {
    /// The figures for a program.
    pub(crate) fn json(&self) -> Value {
        json!({ "summary": self.summary, "without_f_and_r": self.restricted, "judged": self.judged })
    }
}

/// Measures, judges and writes.
pub(crate) fn benchmark(
    dirs: &[PathBuf],
    outputs: &Outputs<'_>,
    control: Control<'_>,
) -> Result<Benchmarked, StageError> {
    let runs: Vec<FinishedRun> = dirs
        .iter()
        .map(|dir| FinishedRun::open(dir))
        .collect::<Result<_, _>>()?;
    let mut replicates = Vec::new();
    for run in &runs {
        control
            .progress
            .note("benchmark", &format!("measuring {}", run.name));
        replicates.extend(run.measured(control)?);
    }
    number_replicates(&mut replicates);
    let judged = judge(&replicates, &|_| true);
    let without = judge(&replicates, &|arm| !is_control(arm));
    let mut done = Benchmarked {
        page: String::new(),
        summary: summaries(&judged),
        restricted: summaries(&without),
        judged,
    };
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.recipe.seed).collect();
    done.page = page(&seeds, &replicates, &done, &without);
    if let Some(path) = outputs.page {
        write_atomic(path, done.page.as_bytes())?;
    }
    if let Some(path) = outputs.claims {
        write_atomic(path, claims::page(&runs)?.as_bytes())?;
    }
    if let Some(path) = outputs.finished {
        write_rows(path, &replicates)?;
    }
    Ok(done)
}

/// Arms that are made to look near or right without being so.
fn is_control(arm: &str) -> bool {
    let made = |source: Source| {
        matches!(
            source,
            Source::Control | Source::ControlRight | Source::Flawed(..)
        )
    };
    source_of(arm, None).is_some_and(made)
}

fn page(
    seeds: &BTreeSet<u64>,
    replicates: &[FinishedReplicate],
    done: &Benchmarked,
    without: &[Judged],
) -> String {
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut page = format!(
        "# The living benchmark\n\n\
         Written by `idiolect-lab RUN_DIR… -o docs/benchmark.md` from finished runs of `recipes/benchmark.toml` (`bench/living.sh`), seed {}.\n\n\
         Every ranking is made before any training, from the arms and the untrained student alone; `advise` has seen \
         neither the student's architecture nor the task of the replicate that it ranks. ρ is Spearman's rank correlation with \
         the realised greedy accuracies (means over fine-tuning seeds), p its two-sided permutation p; the interval of a mean ρ \
         is Student's t over sets of problems, since students alone are no new data. `by name` ranks an arm by the mean place \
         that arms of its name took in the runs that `advise` learned from. Regret is the \
         accuracy of the best arm minus that of the arm ranked first, in points.\n\n\
         What `advise` measures and how was chosen on replicates of the default experiment and on seeds 0 to 3 of this recipe \
         (`docs/decisions/` has the figures of each choice): only other seeds are new to all of it. On seeds 1 and 2 arms on \
         word problems held only 100 rows; since then the teacher is trained for two epochs and tries a rewriting eight times.\n",
        seeds.join(", ")
    );
    page += "\n## What came out\n\n";
    page += &outcomes(replicates);
    page += "\n## What holds and what does not\n\n";
    page += &verdicts(done);
    page += "\n## Over all arms\n\n";
    page += &means(&done.summary);
    page += "\n## Without F and R\n\n";
    page += &means(&done.restricted);
    page += "\n## Every replicate, over all arms\n\nρ (p), regret in points.\n\n";
    page += &every(&done.judged);
    page += "\n## Every replicate, without F and R\n\n";
    page += &every(without);
    page
}

/// Runs of several seeds of one recipe all hold a replicate 0: numbers the replicates of a student and task
/// apart.
fn number_replicates(replicates: &mut [FinishedReplicate]) {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for replicate in replicates {
        let next = seen
            .entry((replicate.student.clone(), replicate.task.clone()))
            .or_default();
        replicate.replicate = *next;
        *next += 1;
    }
}

fn cell(replicate: &FinishedReplicate) -> String {
    format!(
        "{} × {} {}",
        replicate.student, replicate.task, replicate.replicate
    )
}

fn outcomes(replicates: &[FinishedReplicate]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for arm in replicates.iter().flat_map(|w| &w.arms) {
        if !names.contains(&arm.before.arm.as_str()) {
            names.push(&arm.before.arm);
        }
    }
    let mut text = format!(
        "| student × task, replicate | seeds | rows of an arm | base | {} |\n",
        names.join(" | ")
    );
    text += &format!("|---|---|---|---|{}\n", "---|".repeat(names.len()));
    for replicate in replicates {
        let seeds = replicate
            .arms
            .iter()
            .map(|a| a.seeds.len())
            .min()
            .unwrap_or(0);
        let rows = replicate
            .arms
            .iter()
            .map(|a| a.before.rows)
            .min()
            .unwrap_or(0);
        let _ = write!(
            text,
            "| {} | {seeds} | {rows} | {:.3} |",
            cell(replicate),
            replicate.base
        );
        for name in &names {
            let arm = replicate.arms.iter().find(|a| a.before.arm == *name);
            let value = arm.map_or("–".to_owned(), |a| format!("{:.3}", a.accuracy));
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    }
    text
}

/// The goals, each with whether it was reached.
fn verdicts(done: &Benchmarked) -> String {
    let mut text = String::new();
    for (what, summary) in [
        ("Over all arms", &done.summary),
        ("Without F and R", &done.restricted),
    ] {
        let of = |name: &str| summary.iter().find(|s| s.ranking == name);
        let Some(advice) = of(ADVISE) else {
            let _ = writeln!(
                text,
                "- {what}: `advise` could not be judged: no replicate has finished runs of another student and another task to learn from."
            );
            continue;
        };
        let rho = advice.spearman.unwrap_or(0.0);
        let reached = if rho >= GOAL {
            "reached"
        } else {
            "**not reached**"
        };
        let _ = writeln!(
            text,
            "- {what}: `advise` ranks with a mean ρ of {rho:.2} over {} replicates; the goal of {GOAL} is {reached}.",
            advice.replicates
        );
        let better: Vec<String> = summary
            .iter()
            .filter(|s| s.ranking != ADVISE && s.spearman.is_some_and(|r| r > rho))
            .map(|s| format!("`{}` ({:.2})", s.ranking, s.spearman.unwrap_or(0.0)))
            .collect();
        if !better.is_empty() {
            let _ = writeln!(
                text,
                "- {what}: these rank better alone: {}.",
                better.join(", ")
            );
        }
        let lower: Vec<String> = RIVALS
            .iter()
            .filter_map(|name| of(name))
            .filter(|s| s.regret < advice.regret - 1e-12)
            .map(|s| format!("`{}` ({:.1})", s.ranking, 100.0 * s.regret))
            .collect();
        let regret = 100.0 * advice.regret;
        let _ = if lower.is_empty() {
            writeln!(
                text,
                "- {what}: none of {} has a lower mean regret than `advise` ({regret:.1} points).",
                RIVALS.map(|r| format!("`{r}`")).join(", ")
            )
        } else {
            writeln!(
                text,
                "- {what}: `advise` does **not** have the lowest regret ({regret:.1} points): lower are {}.",
                lower.join(", ")
            )
        };
    }
    text
}

fn means(summary: &[Summary]) -> String {
    let mut text = String::from(
        "| ranking | mean ρ | 95 % | mean regret, points | replicates |\n|---|---|---|---|---|\n",
    );
    for s in summary {
        let rho = s.spearman.map_or("–".to_owned(), |r| format!("{r:.2}"));
        let interval = s.spearman_interval.map_or("–".to_owned(), |i| {
            format!("[{:.2}, {:.2}]", i.low, i.high.min(1.0))
        });
        let _ = writeln!(
            text,
            "| {} | {rho} | {interval} | {:.1} | {} |",
            s.ranking,
            100.0 * s.regret,
            s.replicates
        );
    }
    text
}

fn every(judged: &[Judged]) -> String {
    let label = |j: &Judged| format!("{} × {} {}", j.student, j.task, j.replicate);
    let mut columns: Vec<String> = Vec::new();
    let mut rows: BTreeMap<&str, BTreeMap<String, &Judged>> = BTreeMap::new();
    for one in judged {
        let label = label(one);
        if !columns.contains(&label) {
            columns.push(label.clone());
        }
        rows.entry(&one.ranking).or_default().insert(label, one);
    }
    let mut text = format!("| ranking | {} |\n", columns.join(" | "));
    text += &format!("|---|{}\n", "---|".repeat(columns.len()));
    for summary in summaries(judged) {
        let Some(row) = rows.get(summary.ranking.as_str()) else {
            continue;
        };
        let _ = write!(text, "| {} |", summary.ranking);
        for column in &columns {
            let value = row.get(column).map_or("–".to_owned(), |j| {
                let regret = format!("{:.1}", 100.0 * j.regret);
                match j.spearman.zip(j.p) {
                    Some((rho, p)) => format!("{rho:.2} ({p:.3}), {regret}"),
                    None => format!("–, {regret}"),
                }
            });
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    }
    if let Some(drawn) = judged.iter().find(|j| !j.exact && j.p.is_some()) {
        let _ = writeln!(
            text,
            "\np is from 100,000 random permutations where {} arms are too many to enumerate.",
            drawn.n_arms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_r_and_the_doses() {
        for arm in ["R", "RR", "F25", "F100", "F0@wrong", "F50@right"] {
            assert!(is_control(arm), "{arm}");
        }
        for arm in ["G", "W", "H", "HD", "Fancy", "P"] {
            assert!(!is_control(arm), "{arm}");
        }
    }

    #[test]
    fn replicates_of_one_student_and_task_are_told_apart() {
        let replicate = |student: &str| FinishedReplicate {
            run: String::new(),
            student: student.to_owned(),
            task: "countdown".to_owned(),
            replicate: 0,
            base: 0.0,
            arms: Vec::new(),
        };
        let mut replicates = ["llama", "qwen2", "llama"].map(replicate);
        number_replicates(&mut replicates);
        assert_eq!(replicates.each_ref().map(|w| w.replicate), [0, 0, 1]);
    }
}
