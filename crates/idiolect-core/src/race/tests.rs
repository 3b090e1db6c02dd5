use idiolect_model::Rng;

use super::*;

/// Scores of arms on `n` problems: each problem has a difficulty that all arms share.
fn scores(accuracies: &[f64], n: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::with_capacity(n); accuracies.len()];
    for _ in 0..n {
        let shared = rng.normal();
        for (arm, accuracy) in accuracies.iter().enumerate() {
            let level = crate::statistics::normal::quantile(accuracy.clamp(0.001, 0.999));
            let latent = 0.8 * shared + 0.6 * rng.normal();
            all[arm].push(f64::from(u8::from(latent < level)));
        }
    }
    all
}

fn read(accuracies: &[f64], n: usize, rng: &mut Rng) -> Reading {
    Reading::of(&scores(accuracies, n, rng)).unwrap()
}

#[test]
fn a_reading_holds_means_and_what_problems_make_arms_share() {
    let reading = Reading::of(&[vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 0.0, 1.0, 1.0]]).unwrap();
    assert_eq!(reading.means, [0.5, 0.75]);
    // Sums of products of deviations: 1, 0.5, 0.75; a quarter added to each variance; over 4².
    for (got, want) in reading.covariance.iter().zip([1.25, 0.5, 0.5, 1.0]) {
        assert!((got - want / 16.0).abs() < 1e-15, "{got} {want}");
    }
    assert_eq!(Reading::of(&[]), None);
    assert_eq!(Reading::of(&[vec![]]), None);
    assert_eq!(Reading::of(&[vec![1.0], vec![]]), None);
}

#[test]
fn what_all_arms_gain_alike_says_nothing_of_which_is_best() {
    let reading = |lift: f64| Reading {
        means: vec![0.2 + lift, 0.25 + lift, 0.22 + lift],
        covariance: [[4e-4, 2e-4, 2e-4], [2e-4, 4e-4, 2e-4], [2e-4, 2e-4, 4e-4]].concat(),
    };
    let after = |lift: f64| {
        let mut belief = Belief::after_first(&reading(0.0), 0.01);
        belief.read(&[0, 1, 2], &reading(lift), 0.01);
        belief
    };
    let (low, high) = (after(0.0), after(0.5));
    for arm in 1..3 {
        let (a, b) = (low.difference(arm, 0), high.difference(arm, 0));
        assert!(
            (a.0 - b.0).abs() < 1e-6 && (a.1 - b.1).abs() < 1e-9,
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn two_arms_read_once_agree_with_the_closed_form() {
    // Difference of two independent normals: prior variance 2s², reading variance 2v: the posterior
    // is the reading shrunk by s²/(s² + v).
    let (s, v) = (0.05_f64.powi(2), 0.02_f64.powi(2));
    let mut belief = Belief::expecting(&[0.0, 0.0], &[0.05, 0.05]);
    let reading = Reading {
        means: vec![0.30, 0.26],
        covariance: vec![v, 0.0, 0.0, v],
    };
    belief.read(&[0, 1], &reading, 0.0);
    let shrunk = s / (s + v);
    let (mean, deviation) = belief.difference(0, 1);
    assert!((mean - 0.04 * shrunk).abs() < 1e-6, "{mean}");
    assert!(
        (deviation - (2.0 * s * v / (s + v)).sqrt()).abs() < 1e-6,
        "{deviation}"
    );
    let p = crate::statistics::normal::cdf(mean / deviation);
    let standing = belief.standing(&mut Rng::keyed(0, &["test"]));
    assert!((standing.p_best[0] - p).abs() < 0.01, "{standing:?} {p}");
    assert_eq!(standing.pick, 0);
    // E max(0, −d) of a normal difference.
    let (z, density) = (
        mean / deviation,
        (-0.5 * (mean / deviation).powi(2)).exp() / std::f64::consts::TAU.sqrt(),
    );
    let regret = deviation * density - mean * crate::statistics::normal::cdf(-z);
    assert!(
        (standing.regret - regret).abs() < 5e-4,
        "{} {regret}",
        standing.regret
    );
}

#[test]
fn arms_that_are_not_read_again_keep_what_was_read() {
    let mut rng = Rng::keyed(3, &["test"]);
    let first = read(&[0.1, 0.2, 0.3], 400, &mut rng);
    let mut belief = Belief::after_first(&first, 0.01);
    belief.read(&[0, 1, 2], &first, 0.01);
    let before = belief.difference(0, 1).0;
    let second = read(&[0.25, 0.35], 400, &mut rng);
    belief.drift(0.02);
    belief.read(&[1, 2], &second, 0.01);
    let after = belief.difference(0, 1).0;
    assert!((after - before).abs() < 0.05, "{before} {after}");
    assert!(belief.mean(2) > belief.mean(1) && belief.mean(1) > belief.mean(0));
}

/// P(best) is a probability: over many races drawn from the model itself, an arm that has it with
/// 30 to 50 % is the best that often.
#[test]
fn p_best_is_calibrated_on_races_drawn_from_the_model() {
    let rules = Rules::default();
    let mut bins = [(0.0, 0.0, 0.0); 5];
    for race in 0..300 {
        let mut rng = Rng::keyed(race, &["calibration"]);
        let truth: Vec<f64> = (0..6).map(|_| 0.3 + 0.05 * rng.normal()).collect();
        let best = (0..6)
            .max_by(|a, b| truth[*a].total_cmp(&truth[*b]))
            .unwrap();
        let short: Vec<f64> = truth
            .iter()
            .map(|t| {
                let drift = rules.drift_sd.iter().map(|d| d * rng.normal()).sum::<f64>();
                t + drift + rules.seed_sd * rng.normal()
            })
            .collect();
        let reading = read(&short, 300, &mut rng);
        let mut belief = Belief::after_first(&reading, rules.seed_sd);
        belief.read(&[0, 1, 2, 3, 4, 5], &reading, rules.seed_sd);
        let standing = in_full(&belief, 0, &rules).standing(&mut rng);
        for (arm, p) in standing.p_best.iter().enumerate() {
            let bin = &mut bins[((p * 5.0) as usize).min(4)];
            *bin = (
                bin.0 + 1.0,
                bin.1 + p,
                bin.2 + f64::from(u8::from(arm == best)),
            );
        }
    }
    for (n, claimed, came) in bins.into_iter().filter(|bin| bin.0 >= 30.0) {
        let (claimed, came) = (claimed / n, came / n);
        let noise = 3.0 * (claimed * (1.0 - claimed) / n).sqrt();
        assert!(
            (claimed - came).abs() < noise + 0.03,
            "{claimed} {came} of {n}"
        );
    }
}

#[test]
fn the_unlikely_are_dropped_and_the_budget_pays_the_likeliest_first() {
    let rules = Rules::default();
    let standing = |p: &[f64], regret: f64| Standing {
        p_best: p.to_vec(),
        pick: (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap(),
        regret,
    };
    let all = [0, 1, 2, 3];
    let go = |arms: &[usize], unpaid: &[usize]| Next::Go {
        arms: arms.to_vec(),
        unpaid: unpaid.to_vec(),
    };
    let open = standing(&[0.04, 0.5, 0.16, 0.3], 0.02);
    assert_eq!(
        next(&open, &all, 0, |_| 1.0, 10.0, &rules),
        go(&[1, 2, 3], &[])
    );
    assert_eq!(
        next(&open, &all, 0, |_| 1.0, 2.5, &rules),
        go(&[1, 3], &[2])
    );
    assert_eq!(
        next(&open, &all, 0, |_| 1.0, 1.5, &rules),
        Next::Stop(Ending::Budget)
    );
    assert_eq!(
        next(&open, &all, 2, |_| 1.0, 10.0, &rules),
        Next::Stop(Ending::Full)
    );
    let sure = standing(&[0.0, 0.95, 0.05, 0.0], 0.02);
    assert_eq!(
        next(&sure, &all, 0, |_| 1.0, 10.0, &rules),
        Next::Stop(Ending::Sure)
    );
    let alike = standing(&[0.3, 0.3, 0.2, 0.2], 0.001);
    assert_eq!(
        next(&alike, &all, 0, |_| 1.0, 10.0, &rules),
        Next::Stop(Ending::Tolerable)
    );
    // Two go on where all but one are unlikely and that one is not sure enough.
    let lone = standing(&[0.86, 0.04, 0.03, 0.03], 0.02);
    assert_eq!(
        next(&lone, &all, 0, |_| 1.0, 10.0, &rules),
        go(&[0, 1], &[])
    );
}
