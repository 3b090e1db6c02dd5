//! The paper's claims over finished runs, each with effect size and interval: `docs/claims.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use idiolect_core::comparison::{CompareOptions, Comparison, Difference, Relation, compare};
use idiolect_core::record::Decoding;

use idiolect::run::finished::FinishedRun;
use idiolect::run::plan::BASE;
use idiolect::stage::StageError;

/// Bootstrap draws.
const DRAWS: usize = 10_000;

/// A claim as arm against baseline, and what the paper states of it.
const CLAIMS: [(&str, &str, &str); 5] = [
    ("W", BASE, "training on wrong traces helps"),
    (
        "W",
        "H",
        "wrong traces of a model teach more than right human solutions",
    ),
    (
        "P",
        "H",
        "human solutions teach more once a model has rephrased them",
    ),
    (
        "G",
        "W",
        "right traces teach more than wrong ones of the same model",
    ),
    (
        "R",
        BASE,
        "the style alone, without content, teaches nothing (control)",
    ),
];

/// The page over all runs together and each alone.
pub(crate) fn page(runs: &[FinishedRun]) -> Result<String, StageError> {
    let mut text = String::from(
        "# The paper's claims, measured here\n\n\
         Written by `idiolect-lab RUN_DIR… --claims docs/claims.md`. Differences of greedy accuracy in points, paired by \
         problem, with 95 % bootstrap intervals over replicates, fine-tuning seeds and problems; p is Holm-adjusted over the arms \
         compared with one baseline. “Held” and “contradicted” are said at adjusted p < 0.05, everything else is open.\n",
    );
    if runs.len() > 1 {
        text += "\n## All runs together\n\nEvery run is one replicate: other students and tasks are the outer level.\n\n";
        text += &section(&compared(runs)?);
    }
    for run in runs {
        let _ = writeln!(text, "\n## {}\n", run.name);
        text += &section(&compared(std::slice::from_ref(run))?);
    }
    Ok(text)
}

/// All replicates of some runs in one comparison, with every baseline that a claim needs.
fn compared(runs: &[FinishedRun]) -> Result<Comparison, StageError> {
    let (mut evaluations, mut arms) = (Vec::new(), Vec::new());
    let mut number = 0;
    let common: Vec<String> = runs.first().map_or(Vec::new(), |run| {
        let mut names = run.recipe.arms.listed();
        names.retain(|name| runs.iter().all(|r| r.recipe.arms.listed().contains(name)));
        names
    });
    for run in runs {
        for replicate in 0..run.replicates() {
            let mut add = |arm: &str, seed: u64| -> Result<(), StageError> {
                let mut found = run.evaluation(replicate, number, arm, seed)?;
                // Two runs of one task may hold one problem under one id with other answers.
                for row in &mut found.rows {
                    row.problem_id = format!("{number}/{}", row.problem_id);
                }
                found.rows.retain(|row| row.decoding == Decoding::Greedy);
                evaluations.push(found);
                Ok(())
            };
            add(BASE, 0)?;
            for arm in &common {
                for seed in 0..run.recipe.train.seeds as u64 {
                    add(arm, seed)?;
                }
            }
            let data = run.arm_data(replicate, number)?;
            arms.extend(data.into_iter().filter(|data| common.contains(&data.arm)));
            number += 1;
        }
    }
    // Students differ in their hash; closeness is averaged over replicates and never pooled.
    let mut baselines: Vec<String> = vec![BASE.to_owned()];
    let wanted = ["H", "W", "G"].map(str::to_owned);
    baselines.extend(
        wanted
            .into_iter()
            .chain(doses(&common))
            .filter(|b| common.contains(b)),
    );
    let options = CompareOptions {
        baselines,
        draws: DRAWS,
        ..CompareOptions::default()
    };
    compare(&evaluations, &arms, &options).map_err(|e| StageError::failed(e.to_string(), ""))
}

/// The F arms by dose.
fn doses(arms: &[String]) -> Vec<String> {
    let by_dose: BTreeMap<u32, String> = arms
        .iter()
        .filter_map(|arm| Some((arm.strip_prefix('F')?.parse().ok()?, arm.clone())))
        .collect();
    by_dose.into_values().collect()
}

fn section(comparison: &Comparison) -> String {
    let mut text = format!(
        "{} replicates, {} test problems, {} seeds an arm.\n\n| claim | difference | points | 95 % | Holm p | in each replicate | |\n|---|---|---|---|---|---|---|\n",
        comparison.n_replicates,
        comparison.n_problems,
        comparison
            .differences
            .iter()
            .map(|d| d.n_seeds)
            .min()
            .unwrap_or(0),
    );
    for (arm, baseline, words) in CLAIMS {
        // The control's claim is that nothing happens, which no test can hold.
        row(&mut text, comparison, arm, baseline, words, arm == "R");
    }
    let names: Vec<String> = comparison.arms.iter().map(|a| a.arm.clone()).collect();
    let mut curve = vec!["G".to_owned()];
    curve.extend(doses(&names));
    for pair in curve.windows(2) {
        row(
            &mut text,
            comparison,
            &pair[0],
            &pair[1],
            "a higher dose of flaws teaches less",
            false,
        );
    }
    if let Some(factors) = &comparison.factors {
        text += "\nFactor analysis, ";
        text += &factors.method;
        text += ".\n\n| factor | points | 95 % | read off |\n|---|---|---|---|\n";
        for effect in &factors.effects {
            let points = effect
                .effect
                .map_or("–".to_owned(), |e| format!("{:+.1}", 100.0 * e));
            let interval = effect.interval.map_or("–".to_owned(), |i| {
                format!("[{:+.1}, {:+.1}]", 100.0 * i.low, 100.0 * i.high)
            });
            let strata = if effect.strata.is_empty() {
                "no two arms differ in this alone".to_owned()
            } else {
                effect.strata.join("; ")
            };
            let _ = writeln!(
                text,
                "| {} | {points} | {interval} | {strata} |",
                effect.factor
            );
        }
    }
    text
}

/// One claim: `arm` above `baseline`. A pair of two baselines is once, in either direction.
fn row(
    text: &mut String,
    comparison: &Comparison,
    arm: &str,
    baseline: &str,
    words: &str,
    is_null: bool,
) {
    let found = |a: &str, b: &str| -> Option<&Difference> {
        comparison
            .differences
            .iter()
            .find(|d| d.arm == a && d.baseline == b && d.decoding == Decoding::Greedy)
    };
    let (difference, sign) = match (found(arm, baseline), found(baseline, arm)) {
        (Some(d), _) => (d, 1.0),
        (None, Some(d)) => (d, -1.0),
        (None, None) => return,
    };
    let above = match (difference.relation, sign > 0.0) {
        (Relation::Unresolved, _) => None,
        (relation, forward) => Some((relation == Relation::Above) == forward),
    };
    let said = match (above, is_null) {
        (None, true) => "no effect seen",
        (None, false) => "open",
        (Some(_), true) => "contradicted",
        (Some(true), false) => "held",
        (Some(false), false) => "contradicted",
    };
    let points = |value: f64| format!("{:+.1}", 100.0 * value);
    let (low, high) = if sign > 0.0 {
        (difference.interval.low, difference.interval.high)
    } else {
        (-difference.interval.high, -difference.interval.low)
    };
    let replicates: Vec<String> = difference
        .per_replicate
        .iter()
        .map(|d| points(sign * d))
        .collect();
    let _ = writeln!(
        text,
        "| {words} | {arm} − {baseline} | {} | [{}, {}] | {:.3} | {} | {said} |",
        points(sign * difference.difference),
        points(low),
        points(high),
        difference.p_holm,
        replicates.join(", ")
    );
}
