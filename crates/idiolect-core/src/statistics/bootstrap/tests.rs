use proptest::prelude::*;

use super::*;
use idiolect_model::Rng;

fn rng(key: &str) -> Rng {
    Rng::keyed(0, &["bootstrap", key])
}

fn resampled(series: &[Vec<f64>], draws: usize, rng: &mut Rng) -> Vec<Resampled> {
    let n = series[0].len();
    let slices: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
    let sums = resampled_sums(&slices, n, draws, rng);
    series
        .iter()
        .enumerate()
        .map(|(at, values)| Resampled {
            estimate: mean(values),
            draws: sums.of(at).iter().map(|sum| sum / n as f64).collect(),
        })
        .collect()
}

#[test]
fn every_resample_keeps_series_together_and_its_size() {
    let ones = vec![1.0; 37];
    let values: Vec<f64> = (0..37).map(f64::from).collect();
    let doubled: Vec<f64> = values.iter().map(|v| 2.0 * v).collect();
    let sums = resampled_sums(&[&ones, &values, &doubled], 37, 50, &mut rng("together"));
    assert!(sums.of(0).iter().all(|s| (s - 37.0).abs() < 1e-12));
    assert!(
        sums.of(1)
            .iter()
            .zip(sums.of(2))
            .all(|(a, b)| (2.0 * a - b).abs() < 1e-9)
    );
    assert!(sums.of(1).windows(2).any(|w| (w[0] - w[1]).abs() > 0.5));
}

#[test]
fn bca_and_percentile_agree_with_scipy() {
    // scipy 1.x `stats.bootstrap`, 400,000 resamples, three seeds: standard error 0.1788, percentile
    // [0.1031, 0.8022], BCa [0.1319, 0.8451], each end uncertain by about 0.002.
    let values: Vec<f64> = (0..40)
        .map(|i| f64::from((i * 37) % 11 - 4).powi(3) / 64.0)
        .collect();
    let result = paired_bootstrap(&values, 100_000, 0.95, &mut rng("scipy"));
    let near = |got: f64, expected: f64| {
        assert!((got - expected).abs() < 0.005, "{got} is not {expected}")
    };
    near(result.standard_error, 0.1788);
    near(result.percentile.low, 0.1031);
    near(result.percentile.high, 0.8022);
    near(result.bca.low, 0.1319);
    near(result.bca.high, 0.8451);
}

#[test]
fn the_standard_error_of_a_mean_is_the_textbooks() {
    let differences: Vec<f64> = (0..500)
        .map(|i| {
            if i < 30 {
                1.0
            } else if i < 48 {
                -1.0
            } else {
                0.0
            }
        })
        .collect();
    let result = paired_bootstrap(&differences, 10_000, 0.95, &mut rng("error"));
    // 500 problems with 30 and 18 discordant: 1.4 points.
    assert!(
        (result.standard_error - 0.01381).abs() < 0.0005,
        "{}",
        result.standard_error
    );
}

#[test]
fn equal_values_give_a_point() {
    let result = paired_bootstrap(&[0.5; 20], 1000, 0.95, &mut rng("point"));
    assert_eq!(
        (result.percentile, result.bca),
        (
            Interval {
                low: 0.5,
                high: 0.5
            },
            Interval {
                low: 0.5,
                high: 0.5
            }
        )
    );
    assert!(
        paired_bootstrap(&[], 1000, 0.95, &mut rng("none"))
            .estimate
            .abs()
            < 1e-15
    );
}

#[test]
fn an_arm_against_itself_gives_0_and_p_1() {
    let correct: Vec<f64> = (0..200).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
    let itself = resampled(&[correct], 1000, &mut rng("self"));
    let replicate = ReplicateSeeds {
        arm: vec![&itself[0]],
        baseline: vec![&itself[0]],
    };
    let result = nested(&[replicate], Replicates::Sampled, &mut rng("seeds"));
    assert_eq!((result.estimate, result.p_of_zero()), (0.0, 1.0));
    assert_eq!(
        result.percentile(0.95),
        Interval {
            low: 0.0,
            high: 0.0
        }
    );
}

/// Share of simulated test sets whose 95 % interval holds the true mean difference.
fn coverage_over_problems(bca: bool) -> f64 {
    let (n, runs) = (200, 1500);
    let (mut data, mut boot) = (rng("data"), rng("resamples"));
    let hits = (0..runs)
        .filter(|_| {
            // Both arms answer, each with its own chance: differences −1, 0, 1 of mean 0.1.
            let differences: Vec<f64> = (0..n)
                .map(|_| {
                    f64::from(u8::from(data.chance(0.3))) - f64::from(u8::from(data.chance(0.2)))
                })
                .collect();
            let result = paired_bootstrap(&differences, 600, 0.95, &mut boot);
            if bca {
                result.bca.contains(0.1)
            } else {
                result.percentile.contains(0.1)
            }
        })
        .count();
    hits as f64 / f64::from(runs)
}

#[test]
fn intervals_over_problems_cover_95_percent() {
    for bca in [false, true] {
        let coverage = coverage_over_problems(bca);
        println!("bca {bca}: coverage {coverage}");
        assert!((0.93..=0.97).contains(&coverage), "bca {bca}: {coverage}");
    }
}

/// The same for three trainings of an arm against one untrained student, where trainings differ by
/// `seed_deviation` in accuracy.
fn coverage_over_seeds(seed_deviation: f64) -> f64 {
    let (n, seeds, runs) = (200, 3, 800);
    let (mut data, mut boot) = (rng("seed data"), rng("seed resamples"));
    let hits = (0..runs)
        .filter(|_| {
            let ease: Vec<f64> = (0..n).map(|_| 0.25 * (0.8 * data.normal()).exp()).collect();
            let answers = |shift: f64, data: &mut Rng| -> Vec<f64> {
                ease.iter()
                    .map(|p| f64::from(u8::from(data.chance(p + shift))))
                    .collect()
            };
            let mut series = vec![answers(0.0, &mut data)];
            for _ in 0..seeds {
                let shift = seed_deviation * data.normal();
                series.push(answers(shift, &mut data));
            }
            let all = resampled(&series, 400, &mut boot);
            let replicate = ReplicateSeeds {
                arm: all[1..].iter().collect(),
                baseline: vec![&all[0]],
            };
            nested(&[replicate], Replicates::Sampled, &mut boot)
                .percentile(0.95)
                .contains(0.0)
        })
        .count();
    hits as f64 / f64::from(runs)
}

#[test]
fn intervals_over_three_seeds_cover_at_least_their_level() {
    // Wide where trainings hardly differ (97 to 98 %), close where they differ much.
    for seed_deviation in [0.0, 0.02, 0.05] {
        let coverage = coverage_over_seeds(seed_deviation);
        println!("seeds differ by {seed_deviation}: coverage {coverage}");
        assert!(
            (0.93..=0.985).contains(&coverage),
            "seeds differ by {seed_deviation}: {coverage}"
        );
    }
}

#[test]
fn replicates_that_differ_widen_the_interval() {
    let series: Vec<Vec<f64>> = [3, 4, 8]
        .iter()
        .map(|every| {
            (0..240)
                .map(|i| f64::from(u8::from(i % every == 0)))
                .collect()
        })
        .collect();
    let all = resampled(&series, 2000, &mut rng("replicates"));
    let replicate = |at: usize| ReplicateSeeds {
        arm: vec![&all[at]],
        baseline: vec![],
    };
    let alone = nested(&[replicate(0)], Replicates::Sampled, &mut rng("alone")).percentile(0.95);
    let pooled = nested(
        &[replicate(0), replicate(1), replicate(2)],
        Replicates::Sampled,
        &mut rng("pooled"),
    );
    let wide = pooled.percentile(0.95);
    assert!((pooled.estimate - (1.0 / 3.0 + 0.25 + 0.125) / 3.0).abs() < 1e-9);
    assert!(
        wide.high - wide.low > 1.3 * (alone.high - alone.low),
        "{wide:?} {alone:?}"
    );
    // Of these three alone, how they differ is no uncertainty.
    let these = nested(
        &[replicate(0), replicate(1), replicate(2)],
        Replicates::Fixed,
        &mut rng("these"),
    );
    let narrow = these.percentile(0.95);
    assert!((these.estimate - pooled.estimate).abs() < 1e-12);
    assert!(
        narrow.high - narrow.low < 0.7 * (wide.high - wide.low),
        "{narrow:?} {wide:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn intervals_hold_the_estimate(differences in prop::collection::vec(-1.0f64..1.0, 1..60)) {
        let result = paired_bootstrap(&differences, 300, 0.95, &mut rng("holds"));
        prop_assert!(result.percentile.contains(result.estimate) && result.bca.contains(result.estimate));
    }
}
