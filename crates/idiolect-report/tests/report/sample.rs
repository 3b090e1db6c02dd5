//! Views to test with. The miniature's means are those of the prototype; intervals and p values are
//! made from them by the normal approximation, since only their shape matters here.

use std::collections::BTreeMap;

use idiolect_core::arms::describe;
use idiolect_core::comparison::{
    Accuracy, ArmData, ArmResult, Best, Closeness, CompareOptions, Comparison, Correlation, Counts,
    Difference, DosePoint, Estimate, Evaluation, FactorAnalysis, GoldSurprisal, McNemar,
    MetricDescription, PlannedContrast, Relation, SampledAccuracy, SeedAccuracy, StepCounts,
    compare,
};
use idiolect_core::metric::{Direction, METRICS};
use idiolect_core::record::{Decoding, EvalRow, Finish, ScoreRow, Step, StepCheck, Verdict};
use idiolect_core::statistics::Interval;
use idiolect_core::statistics::proportion::wilson;
use idiolect_model::{Rng, Template};
use idiolect_report::RunView;
use idiolect_report::view::{
    ArmDescription, Curve, DevScore, Example, ExampleToken, FactGroup, Fraction, thin,
};

const N: usize = 600;

/// arm, what it holds, NLL per token, greedy, avg@4, pass@4, tokens per row, valid steps, correct traces
type Row = (
    &'static str,
    &'static str,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
);

const ARMS: [Row; 11] = [
    (
        "base",
        "the student before fine-tuning",
        0.0,
        0.063,
        0.041,
        0.132,
        0.0,
        0.0,
        0.0,
    ),
    (
        "H",
        "human-style prose, number words",
        5.27,
        0.021,
        0.012,
        0.039,
        35.0,
        1.0,
        1.0,
    ),
    (
        "HD",
        "human-style prose, digits",
        9.0,
        0.053,
        0.037,
        0.127,
        35.0,
        1.0,
        1.0,
    ),
    (
        "G",
        "teacher samples with a correct answer",
        0.32,
        0.171,
        0.131,
        0.307,
        21.0,
        0.97,
        1.0,
    ),
    (
        "W",
        "teacher samples with a wrong answer",
        0.61,
        0.141,
        0.090,
        0.247,
        21.0,
        0.66,
        0.0,
    ),
    (
        "P",
        "the teacher's rewriting of H",
        0.32,
        0.166,
        0.132,
        0.302,
        21.0,
        0.91,
        0.99,
    ),
    (
        "R",
        "content control: valid chains that miss the target",
        0.33,
        0.059,
        0.047,
        0.151,
        21.0,
        1.0,
        0.0,
    ),
    (
        "F25",
        "G with 25 % of steps flawed",
        1.07,
        0.117,
        0.060,
        0.190,
        21.0,
        0.73,
        0.55,
    ),
    (
        "F50",
        "G with 50 % of steps flawed",
        1.65,
        0.074,
        0.037,
        0.127,
        21.0,
        0.49,
        0.24,
    ),
    (
        "F75",
        "G with 75 % of steps flawed",
        2.1,
        0.034,
        0.023,
        0.086,
        21.0,
        0.25,
        0.06,
    ),
    (
        "F100",
        "G with every step flawed",
        2.5,
        0.008,
        0.016,
        0.059,
        21.0,
        0.0,
        0.0,
    ),
];

fn around(value: f64, half: f64) -> Interval {
    Interval {
        low: value - half,
        high: value + half,
    }
}

fn error(p: f64) -> f64 {
    (p * (1.0 - p) / N as f64).sqrt()
}

fn counts(total: usize, correct: f64) -> Counts {
    let correct = (total as f64 * correct).round() as usize;
    let no_answer = total / 50;
    Counts {
        total,
        correct,
        wrong: total - correct - no_answer,
        no_answer,
        ungraded: 0,
        truncated: total / 75,
    }
}

fn greedy(arm: &str, mean: f64, replicates: usize, seeds: u64) -> Accuracy {
    let mut per_seed = Vec::new();
    for replicate in 0..replicates {
        for seed in 0..if arm == "base" { 1 } else { seeds } {
            let mut rng = Rng::keyed(1, &[arm, &replicate.to_string(), &seed.to_string()]);
            let accuracy = ((mean
                + 0.006 * rng.normal()
                + 0.01 * replicate as f64 * f64::from(replicates > 1))
                * N as f64)
                .round()
                / N as f64;
            let accuracy = accuracy.max(0.0);
            per_seed.push(SeedAccuracy {
                replicate,
                seed,
                accuracy,
                wilson: wilson(accuracy, N, 0.95),
                counts: counts(N, accuracy),
            });
        }
    }
    let total = per_seed.len() * N;
    Accuracy {
        mean,
        wilson: wilson(mean, N, 0.95),
        interval: if mean > 0.0 {
            Interval {
                low: (mean - 1.7 * error(mean)).max(0.0),
                high: mean + 1.8 * error(mean),
            }
        } else {
            wilson(mean, N, 0.95)
        },
        method: if mean > 0.0 {
            "percentile bootstrap over seeds and problems".to_owned()
        } else {
            "percentile bootstrap over problems, widened to Wilson's interval".to_owned()
        },
        seed_error: (seeds > 1).then_some(0.004),
        replicate_error: (replicates > 1).then_some(0.009),
        counts: counts(total, mean),
        per_seed,
    }
}

fn arm_result(row: &Row, replicates: usize, seeds: u64) -> ArmResult {
    let (arm, _, nll, accuracy, avg, pass, tokens, valid, _) = *row;
    let trained = arm != "base";
    let closeness = |name: &str, value: f64| {
        (
            name.to_owned(),
            Closeness {
                value,
                interval: Some(around(value, value.abs() * 0.02)),
            },
        )
    };
    let steps = (2000.0 * valid) as usize;
    ArmResult {
        arm: arm.to_owned(),
        description: describe(arm, None),
        rows: trained.then_some(1000 * replicates),
        tokens: trained.then_some((tokens * 1000.0) as u64 * replicates as u64),
        greedy: Some(greedy(arm, accuracy, replicates, seeds)),
        sampled: Some(SampledAccuracy {
            k: 4,
            avg_at_k: avg,
            interval: around(avg, 1.3 * error(avg)),
            method: String::new(),
            common_k: 4,
            pass_at: BTreeMap::from([(1, avg), (2, (avg + pass) / 2.0), (4, pass)]),
            maj_at_k: (accuracy + avg) / 2.0,
            seed_error: Some(0.002),
            counts: counts(4 * N * replicates * seeds as usize, avg),
        }),
        closeness: if trained {
            METRICS
                .iter()
                .map(|m| match m.direction {
                    Direction::Higher => closeness(m.name, (-nll).exp()),
                    Direction::NearOne => closeness(m.name, nll / 0.31),
                    Direction::NearZero => closeness(m.name, nll - 0.31),
                    Direction::Lower if m.name == "nll_per_token" => closeness(m.name, nll),
                    Direction::Lower => closeness(m.name, 1.0 + 3.9 * nll),
                })
                .collect()
        } else {
            BTreeMap::new()
        },
        steps: trained.then_some(StepCounts {
            valid: steps,
            invalid: 2000 - steps,
            unchecked: 12,
        }),
        gold: None,
    }
}

fn difference(
    arm: &Row,
    baseline: &Row,
    decoding: Decoding,
    replicates: usize,
    seeds: u64,
) -> Difference {
    let of = |row: &Row| {
        if decoding == Decoding::Greedy {
            row.3
        } else {
            row.4
        }
    };
    let d = of(arm) - of(baseline);
    let se = 0.75 * (error(of(arm)).powi(2) + error(of(baseline)).powi(2)).sqrt() + 0.001;
    let z = d.abs() / se;
    let p = (2.0 * (-0.717 * z - 0.416 * z * z).exp()).min(1.0);
    let p_holm = (p * 6.0).min(1.0);
    let relation = match (p_holm < 0.05, d > 0.0) {
        (true, true) => Relation::Above,
        (true, false) => Relation::Below,
        _ => Relation::Unresolved,
    };
    let mcnemar = |seed| McNemar {
        replicate: 0,
        seed,
        only_arm: 60,
        only_baseline: 20,
        p: (p * (1.0 + seed as f64)).min(1.0),
    };
    Difference {
        arm: arm.0.to_owned(),
        baseline: baseline.0.to_owned(),
        decoding,
        difference: d,
        interval: around(d, 1.96 * se),
        method: "two-level bootstrap over seeds and problems, percentile".to_owned(),
        p,
        p_holm,
        p_method: "two-sided from the same bootstrap".to_owned(),
        mcnemar: if decoding == Decoding::Greedy {
            (0..seeds).map(mcnemar).collect()
        } else {
            Vec::new()
        },
        p_sign_flip: p,
        gained: 0.03 + d.max(0.0),
        lost: 0.03 - d.min(0.0),
        smallest_detectable: Some(2.8 * se),
        n_problems: N,
        n_seeds: seeds as usize,
        per_replicate: (0..replicates).map(|w| d + 0.004 * w as f64).collect(),
        relation,
        verdict: String::new(),
    }
}

/// The miniature's comparison with this many replicates and seeds.
pub(crate) fn comparison(replicates: usize, seeds: u64) -> Comparison {
    let mut differences = Vec::new();
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        for baseline in &ARMS[..2] {
            differences.extend(
                ARMS.iter()
                    .filter(|a| a.0 != baseline.0)
                    .map(|a| difference(a, baseline, decoding, replicates, seeds)),
            );
        }
    }
    let correlation = |metric: &str, spearman: f64| Correlation {
        metric: metric.to_owned(),
        decoding: Decoding::Greedy,
        n_arms: 10,
        spearman,
        p_spearman: 0.0272,
        kendall: spearman - 0.14,
        p_kendall: 0.0253,
        exact: false,
        nearest: "G".to_owned(),
        regret: 0.0,
    };
    let dose = [
        ("G", 0.0),
        ("F25", 0.25),
        ("F50", 0.5),
        ("F75", 0.75),
        ("F100", 1.0),
    ];
    Comparison {
        answer: String::new(),
        confidence: 0.95,
        draws: 10_000,
        seed: 0,
        n_problems: N,
        n_replicates: replicates,
        baselines: vec!["base".to_owned(), "H".to_owned()],
        arms: ARMS
            .iter()
            .map(|row| arm_result(row, replicates, seeds))
            .collect(),
        differences,
        best: Some(Best {
            arm: "G".to_owned(),
            not_distinguished_from: vec!["P".to_owned()],
        }),
        metrics: METRICS
            .iter()
            .map(|m| MetricDescription {
                name: m.name.to_owned(),
                direction: m.direction,
                unit: m.unit.to_owned(),
                source: m.source.to_owned(),
                definition: m.set_definition.to_owned(),
            })
            .collect(),
        correlations: METRICS
            .iter()
            .flat_map(|m| {
                let greedy = correlation(
                    m.name,
                    if m.name == "nll_per_token" {
                        0.71
                    } else {
                        0.62
                    },
                );
                let sampled = Correlation {
                    decoding: Decoding::Sampled,
                    ..greedy.clone()
                };
                [greedy, sampled]
            })
            .collect(),
        dose_curve: dose
            .iter()
            .filter_map(|(name, dose)| {
                let row = ARMS.iter().find(|row| row.0 == *name)?;
                let accuracy = Estimate {
                    value: row.3,
                    interval: around(row.3, 1.8 * error(row.3)),
                };
                Some(DosePoint {
                    dose: *dose,
                    arm: (*name).to_owned(),
                    accuracy,
                    nll_per_token: Some(row.2),
                    valid_steps: Some(row.7),
                })
            })
            .collect(),
        factors: Some(factors()),
        warnings: vec![
            "24 of 1800 greedy answers of arm `G` were cut off by the token limit".to_owned(),
        ],
    }
}

fn factors() -> FactorAnalysis {
    FactorAnalysis {
        method: "Each contrast is between arms that were made to differ in one thing".to_owned(),
        contrasts: vec![
            PlannedContrast {
                factor: "a right answer instead of a natural mistake".to_owned(),
                arms: "G − W".to_owned(),
                effect: 0.012,
                interval: Some(around(0.012, 0.02)),
                p: Some(0.24),
                p_holm: Some(0.24),
            },
            PlannedContrast {
                factor: "human solutions paraphrased instead of as they are".to_owned(),
                arms: "P − H".to_owned(),
                effect: 0.07,
                interval: None,
                p: None,
                p_holm: None,
            },
        ],
    }
}

/// The miniature as a whole report shows it.
pub(crate) fn miniature(replicates: usize, seeds: u64) -> RunView {
    let mut view = RunView::new("Countdown in miniature", comparison(replicates, seeds));
    view.setting = "A 164k-parameter student and a 592k-parameter teacher, both trained from random weights inside this run on Countdown with three numbers; each arm fine-tunes the same student for ten epochs.".to_owned();
    view.replicates = if replicates > 1 {
        (0..replicates)
            .map(|w| format!("replicate {}", w + 1))
            .collect()
    } else {
        Vec::new()
    };
    view.arms = ARMS
        .iter()
        .map(|row| ArmDescription {
            name: row.0.to_owned(),
            about: row.1.to_owned(),
            rows: None,
            problems: (row.0 != "base").then_some(1000),
            verdicts: (row.0 != "base").then(|| {
                let correct = (row.8 * 1000.0) as usize;
                Counts {
                    total: 1000,
                    correct,
                    wrong: 1000 - correct,
                    ..Counts::default()
                }
            }),
        })
        .collect();
    view.coverage = vec![
        Fraction {
            label: "teacher samples that are correct".to_owned(),
            n: 3888,
            of: 14_400,
        },
        Fraction {
            label: "problems with a correct and a wrong trace and a kept paraphrase".to_owned(),
            n: 1291,
            of: 1650,
        },
        Fraction {
            label: "paraphrases kept (answer preserved)".to_owned(),
            n: 1636,
            of: 1650,
        },
    ];
    view.coverage_notes = vec!["W exists only where the teacher errs, G only where it succeeds; all arms take the same 1000 problems that have both.".to_owned()];
    for replicate in 0..replicates {
        for row in &ARMS[1..] {
            for seed in 0..seeds {
                view.curves.push(curve(row, replicate, seed));
                view.dev.push(DevScore {
                    replicate,
                    arm: row.0.to_owned(),
                    seed,
                    correct: (150.0 * row.3) as usize + seed as usize,
                    problems: 150,
                });
            }
        }
    }
    view.examples = examples();
    view.limits = vec![
        "“Wrong traces help because most of their steps are valid” was not isolated here."
            .to_owned(),
    ];
    view.provenance = provenance();
    view.commands = vec!["cargo run --release -- run --out runs/default".to_owned()];
    view
}

fn curve(row: &Row, replicate: usize, seed: u64) -> Curve {
    let mut rng = Rng::keyed(seed, &["curve", row.0, &replicate.to_string()]);
    let floor = 0.25 + 0.1 * row.2.min(3.0);
    let points: Vec<(usize, f64)> = (1..=320usize)
        .map(|step| {
            (
                step,
                floor + row.2.min(4.0) * (-(step as f64) / 40.0).exp() + 0.02 * rng.normal(),
            )
        })
        .collect();
    Curve {
        replicate,
        arm: row.0.to_owned(),
        seed,
        points: thin(&points, 80),
    }
}

/// An example whose tokens are its words, each with the space before it.
fn example(
    arm: &str,
    verdict: &str,
    reason: &str,
    text: &str,
    nats: &[f64],
    steps: &[(&str, StepCheck)],
) -> Example {
    let starts = std::iter::once(0).chain(text.match_indices(' ').map(|(i, _)| i));
    let mut tokens: Vec<ExampleToken> = starts
        .enumerate()
        .map(|(i, byte_start)| ExampleToken {
            byte_start,
            surprisal_nats: nats[i % nats.len()],
            rank: Some(1 + nats[i % nats.len()] as u32 * 3),
        })
        .collect();
    tokens.push(ExampleToken {
        byte_start: text.len(),
        surprisal_nats: 0.03,
        rank: Some(1),
    });
    let spans = steps.iter().filter_map(|(piece, check)| {
        let start = text.find(piece)?;
        Some(Step {
            start,
            end: start + piece.len(),
            check: *check,
        })
    });
    Example {
        arm: arm.to_owned(),
        problem_id: "countdown/mini/3-7-2-19".to_owned(),
        prompt: "nums 3 7 2 -> 19 |".to_owned(),
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        text: text.to_owned(),
        tokens,
        steps: spans.collect(),
        spans: Vec::new(),
    }
}

fn examples() -> Vec<Example> {
    use StepCheck::{Invalid, Unchecked, Valid};
    let easy = [0.02, 0.31, 0.4, 0.05, 0.01, 1.62, 0.02, 0.08, 0.01, 0.6];
    let hard = [4.1, 2.2, 7.9, 0.4, 9.3, 3.1, 6.0, 1.4, 5.2, 2.7, 8.8];
    vec![
        example(
            "G",
            "correct",
            "",
            "3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2",
            &easy,
            &[("3 * 7 = 21", Valid), ("21 - 2 = 19", Valid)],
        ),
        example(
            "W",
            "wrong",
            "evaluates to 23, not 19",
            "3 * 7 = 21 ; 21 + 2 = 24 | ans ( 3 * 7 ) + 2",
            &[0.02, 0.31, 0.4, 0.05, 0.01, 1.62, 0.9, 2.4, 0.01, 3.6],
            &[("3 * 7 = 21", Valid), ("21 + 2 = 24", Invalid)],
        ),
        example(
            "H",
            "correct",
            "",
            "first we take three times seven which gives twenty one and then we subtract two from it so that nineteen is left | ans ( 3 * 7 ) - 2",
            &hard,
            &[
                ("three times seven which gives twenty one", Valid),
                (
                    "then we subtract two from it so that nineteen is left",
                    Unchecked,
                ),
            ],
        ),
    ]
}

fn provenance() -> Vec<FactGroup> {
    let group = |title: &str, facts: &[(&str, &str)]| FactGroup {
        title: title.to_owned(),
        facts: facts
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    vec![
        group(
            "Recipe",
            &[
                ("recipe", "miniature"),
                ("recipe hash", "9f2c4e11a07d5b3396c1d0e5f7a8b2c4"),
                ("task", "countdown@1"),
                ("prompt", "mini (b1946ac92492d2347c6235b4d2611184)"),
            ],
        ),
        group("Seeds", &[("run", "0"), ("fine-tuning", "0, 1, 2")]),
        group(
            "Training",
            &[
                ("student", "164k parameters; C 64, 3 layers, 4 heads"),
                (
                    "fine-tuning",
                    "10 epochs, 32 rows a step, learning rate 1e-3, linear decay",
                ),
                ("evaluation", "greedy; 4 samples at T = 0.7"),
            ],
        ),
    ]
}

/// A real-text run: accuracies near zero, gold solutions scored, no flaws, no closeness of one arm.
pub(crate) fn near_zero() -> RunView {
    let mut comparison = comparison(1, 1);
    comparison
        .arms
        .retain(|arm| ["base", "H", "G", "W"].contains(&arm.arm.as_str()));
    comparison.dose_curve.clear();
    comparison.correlations.clear();
    comparison.best = None;
    comparison.differences.retain(|d| {
        d.baseline == "base"
            && ["H", "G", "W"].contains(&d.arm.as_str())
            && d.decoding == Decoding::Greedy
    });
    for d in &mut comparison.differences {
        *d = Difference {
            difference: 0.0,
            interval: around(0.0, 0.004),
            p: 1.0,
            p_holm: 1.0,
            relation: Relation::Unresolved,
            smallest_detectable: Some(0.006),
            gained: 0.002,
            lost: 0.002,
            n_seeds: 1,
            mcnemar: vec![McNemar {
                replicate: 0,
                seed: 0,
                only_arm: 0,
                only_baseline: 1,
                p: 1.0,
            }],
            ..d.clone()
        };
    }
    for (i, arm) in comparison.arms.iter_mut().enumerate() {
        let mean = if i == 1 { 1.0 / 600.0 } else { 0.0 };
        arm.greedy = Some(greedy("base", mean, 1, 1));
        arm.sampled = None;
        let nll = [3.91, 3.02, 3.55, 3.6][i];
        arm.gold = Some(GoldSurprisal {
            nll_per_token: nll,
            bits_per_byte: Some(nll * 0.4),
            seed_error: None,
            n_tokens: 21_304,
        });
    }
    RunView::new("GSM8K, real text", comparison)
}

/// A comparison that the real statistics made, of invented answers: `rates` are the chances of a
/// right answer by arm, `nats` the surprisal of the arms' tokens.
pub(crate) fn compared(
    rates: &[(&str, f64, f64)],
    problems: usize,
    replicates: usize,
    seeds: u64,
) -> Comparison {
    let mut evaluations = Vec::new();
    let mut arms = Vec::new();
    for replicate in 0..replicates {
        for (arm, rate, nats) in rates {
            for seed in 0..if *arm == "base" { 1 } else { seeds } {
                let rows = (0..problems)
                    .map(|problem| answer(arm, *rate, replicate, seed, problem))
                    .collect();
                evaluations.push(Evaluation {
                    arm: (*arm).to_owned(),
                    replicate,
                    seed,
                    rows,
                    gold: Vec::new(),
                });
            }
            if *arm != "base" {
                let scores = (0..40).map(|row| scores(*nats, row)).collect();
                arms.push(ArmData {
                    arm: (*arm).to_owned(),
                    replicate,
                    spec: None,
                    rows: 40,
                    problems: 40,
                    scores,
                    steps: None,
                    right: None,
                });
            }
        }
    }
    let options = CompareOptions {
        draws: 300,
        ..CompareOptions::default()
    };
    compare(&evaluations, &arms, &options).expect("the evaluations pair up")
}

fn answer(arm: &str, rate: f64, replicate: usize, seed: u64, problem: usize) -> EvalRow {
    let mut rng = Rng::keyed(seed, &[arm, &replicate.to_string(), &problem.to_string()]);
    let right = rng.chance(rate);
    EvalRow {
        problem_id: format!("p/{problem}"),
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
        extracted: Some("1".to_owned()),
        n_tokens: 3,
        read: None,
    }
}

fn scores(nats: f64, row: usize) -> ScoreRow {
    let tokens = 20.0;
    ScoreRow {
        trace_id: format!("t/{row}"),
        problem_id: Some(format!("train/{row}")),
        model: "student".to_owned(),
        template: Template::Raw,
        n_tokens: 20,
        n_bytes: 60,
        nll_nats: nats * (tokens + (row % 3) as f64),
        entropy_nats: Some(0.3 * tokens),
        varentropy_nats2: Some(0.4 * tokens),
        abs_excess_nats: Some(nats * tokens),
        rank_sum: Some(tokens * (1.0 + nats)),
        rank_clip100_sum: Some(tokens * (1.0 + nats)),
        log_rank_sum: Some(nats * 5.0),
        top1: Some(12),
        top5: Some(15),
        top10: Some(17),
        top50: Some(19),
        brier_sum: Some(0.2 * tokens),
        min20_nats: Some(nats * 8.0),
        end_nll_nats: 0.1,
    }
}
