//! The paper's claims over finished runs, each with effect size and interval: `docs/claims.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use idiolect_core::comparison::{
    CompareOptions, Comparison, Difference, Evaluation, Relation, Replicates, compare,
};
use idiolect_core::record::Decoding;
use idiolect_core::statistics::clusters::{OverClusters, over_clusters};
use idiolect_core::statistics::holm;

use idiolect::run::finished::FinishedRun;
use idiolect::run::plan::BASE;
use idiolect::stage::StageError;

/// Bootstrap draws.
const DRAWS: usize = 10_000;
/// Level at which a claim is said to be held or contradicted.
const CONFIDENCE: f64 = 0.95;

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
         problem. Every claim is stated twice. *Here*: for these students, tasks and teachers, with 95 % bootstrap intervals \
         over fine-tuning seeds and problems and p Holm-adjusted over the arms compared with one baseline. *New worlds*: for \
         tasks and teachers like these; replicates that were asked the same problems are one world, and the interval is \
         Student's t over the worlds' means, with one degree of freedom less than there are worlds; p is Holm-adjusted over \
         the claims of the table. Of one world it cannot be estimated. “Held” and “contradicted” are said at adjusted \
         p < 0.05, everything else is open.\n",
    );
    if runs.len() > 1 {
        text += "\n## All runs together\n\n";
        text += &section(&compared(runs)?);
    }
    for run in runs {
        let _ = writeln!(text, "\n## {}\n", run.name);
        text += &section(&compared(std::slice::from_ref(run))?);
    }
    Ok(text)
}

/// Runs in one comparison.
struct Compared {
    comparison: Comparison,
    /// The world of each replicate, by its number.
    worlds: Vec<usize>,
}

/// All replicates of some runs in one comparison, with every baseline that a claim needs.
fn compared(runs: &[FinishedRun]) -> Result<Compared, StageError> {
    let (mut evaluations, mut arms) = (Vec::new(), Vec::new());
    let mut number = 0;
    let common: Vec<String> = runs.first().map_or(Vec::new(), |run| {
        let mut names = run.recipe.arms.listed();
        names.retain(|name| runs.iter().all(|r| r.recipe.arms.listed().contains(name)));
        names
    });
    let mut worlds = Worlds::default();
    for run in runs {
        for replicate in 0..run.replicates() {
            let base = run.evaluation(replicate, number, BASE, 0)?;
            let world = worlds.of(&base);
            let mut add = |arm: &str, seed: u64| -> Result<(), StageError> {
                let mut found = run.evaluation(replicate, number, arm, seed)?;
                // Two worlds may hold one problem under one id, of another split or wording; within a
                // world the problems are the same and are resampled together.
                for row in &mut found.rows {
                    row.problem_id = format!("{world}/{}", row.problem_id);
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
        replicates: Replicates::Fixed,
        ..CompareOptions::default()
    };
    let comparison = compare(&evaluations, &arms, &options)
        .map_err(|e| StageError::failed(e.to_string(), ""))?;
    Ok(Compared {
        comparison,
        worlds: worlds.of_replicates,
    })
}

/// Which replicates share their world: their problems, and with them the task, its split, and what a
/// teacher wrote about it. Students alone make no new world.
#[derive(Default)]
struct Worlds {
    problems: Vec<BTreeSet<String>>,
    of_replicates: Vec<usize>,
}

impl Worlds {
    /// The number of the world of the next replicate, from what it was evaluated on.
    fn of(&mut self, evaluated: &Evaluation) -> usize {
        let asked: BTreeSet<String> = evaluated
            .rows
            .iter()
            .map(|row| row.problem_id.clone())
            .collect();
        let known = self.problems.iter().position(|world| *world == asked);
        let world = known.unwrap_or_else(|| {
            self.problems.push(asked);
            self.problems.len() - 1
        });
        self.of_replicates.push(world);
        world
    }
}

/// The F arms by dose.
fn doses(arms: &[String]) -> Vec<String> {
    let by_dose: BTreeMap<u32, String> = arms
        .iter()
        .filter_map(|arm| Some((arm.strip_prefix('F')?.parse().ok()?, arm.clone())))
        .collect();
    by_dose.into_values().collect()
}

/// One claim over the replicates at hand, and over worlds.
struct Stated<'a> {
    words: &'a str,
    arm: &'a str,
    baseline: &'a str,
    difference: &'a Difference,
    /// −1 where the comparison holds the pair the other way round.
    sign: f64,
    worlds: Option<OverClusters>,
    /// Its claim is that nothing happens, which no test can hold.
    is_null: bool,
}

fn section(found: &Compared) -> String {
    let comparison = &found.comparison;
    let n_worlds = found.worlds.iter().collect::<BTreeSet<_>>().len();
    let mut text = format!(
        "{} replicates of {n_worlds} {}, {} test problems, {} seeds an arm.\n\n\
         | claim | difference | here | 95 % | Holm p | | new worlds, 95 % | Holm p | | in each replicate |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        comparison.n_replicates,
        if n_worlds == 1 { "world" } else { "worlds" },
        comparison.n_problems,
        comparison
            .differences
            .iter()
            .map(|d| d.n_seeds)
            .min()
            .unwrap_or(0),
    );
    let names: Vec<String> = comparison.arms.iter().map(|a| a.arm.clone()).collect();
    let mut curve = vec!["G".to_owned()];
    curve.extend(doses(&names));
    let mut claims: Vec<(&str, &str, &str)> = CLAIMS.to_vec();
    claims.extend(curve.windows(2).map(|pair| {
        (
            pair[0].as_str(),
            pair[1].as_str(),
            "a higher dose of flaws teaches less",
        )
    }));
    let stated: Vec<Stated<'_>> = claims
        .iter()
        .filter_map(|(arm, baseline, words)| stated(found, arm, baseline, words))
        .collect();
    // A claim without a p of its own is no test and takes no part.
    let p: Vec<f64> = stated
        .iter()
        .filter_map(|claim| claim.worlds.and_then(|worlds| worlds.p))
        .collect();
    let mut adjusted = holm(&p).into_iter();
    for claim in &stated {
        let p = claim.worlds.and_then(|worlds| worlds.p);
        row(&mut text, claim, p.and_then(|_| adjusted.next()));
    }
    if let Some(factors) = &comparison.factors {
        text += "\nPlanned contrasts, here. ";
        text += &factors.method;
        text += ".\n\n| changed | points | 95 % | Holm p | read off |\n|---|---|---|---|---|\n";
        for contrast in &factors.contrasts {
            let interval = contrast.interval.map_or("–".to_owned(), |i| {
                format!("[{:+.1}, {:+.1}]", 100.0 * i.low, 100.0 * i.high)
            });
            let p = contrast
                .p_holm
                .map_or("–".to_owned(), |p| format!("{p:.3}"));
            let _ = writeln!(
                text,
                "| {} | {:+.1} | {interval} | {p} | {} |",
                contrast.factor,
                100.0 * contrast.effect,
                contrast.arms
            );
        }
    }
    text
}

/// `arm` above `baseline`. A pair of two baselines is once in the comparison, in either direction.
fn stated<'a>(
    found: &'a Compared,
    arm: &'a str,
    baseline: &'a str,
    words: &'a str,
) -> Option<Stated<'a>> {
    let of = |a: &str, b: &str| {
        found
            .comparison
            .differences
            .iter()
            .find(|d| d.arm == a && d.baseline == b && d.decoding == Decoding::Greedy)
    };
    let (difference, sign) = match (of(arm, baseline), of(baseline, arm)) {
        (Some(difference), _) => (difference, 1.0),
        (None, Some(difference)) => (difference, -1.0),
        (None, None) => return None,
    };
    // Every replicate has every arm that all runs have, so places are numbers of replicates.
    let per_world = found
        .worlds
        .iter()
        .zip(&difference.per_replicate)
        .map(|(world, value)| (*world, sign * value));
    Some(Stated {
        words,
        arm,
        baseline,
        difference,
        sign,
        worlds: over_clusters(per_world, found.comparison.confidence),
        is_null: arm == "R",
    })
}

/// What is said of a claim, of which it is known whether the difference lies above 0.
fn said(above: Option<bool>, is_null: bool) -> &'static str {
    match (above, is_null) {
        (None, true) => "no effect seen",
        (None, false) => "open",
        (Some(_), true) => "contradicted",
        (Some(true), false) => "held",
        (Some(false), false) => "contradicted",
    }
}

fn row(text: &mut String, claim: &Stated<'_>, p_worlds: Option<f64>) {
    let (difference, sign) = (claim.difference, claim.sign);
    let here = match difference.relation {
        Relation::Unresolved => None,
        relation => Some((relation == Relation::Above) == (sign > 0.0)),
    };
    let points = |value: f64| format!("{:+.1}", 100.0 * value);
    let ends = |low: f64, high: f64| format!("[{}, {}]", points(low), points(high));
    let (low, high) = if sign > 0.0 {
        (difference.interval.low, difference.interval.high)
    } else {
        (-difference.interval.high, -difference.interval.low)
    };
    let interval = claim.worlds.and_then(|worlds| worlds.interval);
    let (worlds, p, elsewhere) = match interval.zip(p_worlds) {
        None => ("not estimable".to_owned(), "–".to_owned(), "not estimable"),
        Some((interval, p)) => {
            let above = (p < 1.0 - CONFIDENCE).then_some(interval.low > 0.0);
            (
                ends(interval.low, interval.high),
                format!("{p:.3}"),
                said(above, claim.is_null),
            )
        }
    };
    let replicates: Vec<String> = difference
        .per_replicate
        .iter()
        .map(|d| points(sign * d))
        .collect();
    let _ = writeln!(
        text,
        "| {} | {} − {} | {} | {} | {:.3} | {} | {worlds} | {p} | {elsewhere} | {} |",
        claim.words,
        claim.arm,
        claim.baseline,
        points(sign * difference.difference),
        ends(low, high),
        difference.p_holm,
        said(here, claim.is_null),
        replicates.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_core::record::{EvalRow, Finish, Verdict};
    use idiolect_model::Rng;

    const PROBLEMS: usize = 300;

    /// Greedy answers to a world's problems: a problem is right where its draw is below `accuracy`.
    fn evaluation(
        arm: &str,
        replicate: usize,
        seed: u64,
        world: usize,
        accuracy: f64,
    ) -> Evaluation {
        let row = |at: usize| {
            let problem_id = format!("{world}/p{at}");
            let key = [
                "claims",
                arm,
                &replicate.to_string(),
                &seed.to_string(),
                &problem_id,
            ];
            let right = Rng::keyed(1, &key).uniform() < accuracy;
            EvalRow {
                problem_id,
                sample: 0,
                decoding: Decoding::Greedy,
                text: String::new(),
                finish: Finish::Stop,
                verdict: if right {
                    Verdict::Correct
                } else {
                    Verdict::Wrong
                },
                reason: None,
                extracted: None,
                n_tokens: 1,
                read: None,
            }
        };
        Evaluation {
            arm: arm.to_owned(),
            replicate,
            seed,
            rows: (0..PROBLEMS).map(row).collect(),
            gold: Vec::new(),
        }
    }

    /// Two worlds of three students: in the first W teaches much more than H, in the second no more.
    fn found(gains: &[f64]) -> Compared {
        let (mut evaluations, mut worlds) = (Vec::new(), Worlds::default());
        for (world, gain) in gains.iter().enumerate() {
            for student in 0..3 {
                let number = 3 * world + student;
                let base = evaluation(BASE, number, 0, world, 0.1);
                worlds.of(&base);
                evaluations.push(base);
                for seed in 0..3 {
                    evaluations.push(evaluation("H", number, seed, world, 0.2));
                    evaluations.push(evaluation("W", number, seed, world, 0.2 + gain));
                }
            }
        }
        let options = CompareOptions {
            baselines: vec![BASE.to_owned(), "H".to_owned()],
            draws: 2_000,
            replicates: Replicates::Fixed,
            ..CompareOptions::default()
        };
        Compared {
            comparison: compare(&evaluations, &[], &options).unwrap_or_else(|e| panic!("{e}")),
            worlds: worlds.of_replicates,
        }
    }

    fn line(text: &str, difference: &str) -> String {
        let of = |line: &&str| line.contains(&format!("| {difference} |"));
        text.lines().find(of).unwrap_or_default().to_owned()
    }

    #[test]
    fn students_of_one_world_are_no_evidence_of_new_worlds() {
        let found = found(&[0.12, 0.0]);
        assert_eq!(found.worlds, [0, 0, 0, 1, 1, 1]);
        let text = section(&found);
        assert!(
            text.starts_with("6 replicates of 2 worlds, 600 test problems"),
            "{text}"
        );
        let line = line(&text, "W − H");
        // Six replicates, three of which agree: certain here, unknown elsewhere.
        assert!(
            line.contains("| held |") && line.contains("| open |"),
            "{line}"
        );
    }

    #[test]
    fn of_one_world_new_ones_are_not_estimable() {
        let line = line(&section(&found(&[0.12])), "W − H");
        assert!(
            line.contains("| held | not estimable | – | not estimable |"),
            "{line}"
        );
    }

    #[test]
    fn worlds_that_agree_hold_for_new_ones() {
        let line = line(&section(&found(&[0.2, 0.21, 0.19, 0.2])), "W − H");
        assert_eq!(line.matches("| held |").count(), 2, "{line}");
    }
}
