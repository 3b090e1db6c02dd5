use proptest::prelude::*;

use super::set::resampled;
use super::*;
use crate::scores::tests::{LOGITS, TARGETS, direct, identity};
use crate::scores::{empty, fold};
use idiolect_model::{Distribution, Rng, TokenScore};

/// The golden trace, summed in f64 without passing through f32 scores.
fn golden() -> ScoreRow {
    let mut a = empty(identity());
    a.n_bytes = 9;
    for (logits, target) in LOGITS.iter().zip(TARGETS) {
        let (s, r, h, v, q) = direct(logits, target);
        a.n_tokens += 1;
        a.nll_nats += s;
        let add = |sum: &mut Option<f64>, term| *sum = sum.map(|sum| sum + term);
        let count = |sum: &mut Option<u64>, k| *sum = sum.map(|sum| sum + u64::from(r <= k));
        add(&mut a.entropy_nats, h);
        add(&mut a.varentropy_nats2, v);
        add(&mut a.abs_excess_nats, (s - h).abs());
        add(&mut a.rank_sum, f64::from(r));
        add(&mut a.rank_clip100_sum, f64::from(r.min(100)));
        add(&mut a.log_rank_sum, f64::from(r).ln());
        count(&mut a.top1, 1);
        count(&mut a.top5, 5);
        count(&mut a.top10, 10);
        count(&mut a.top50, 50);
        add(&mut a.brier_sum, 1.0 - 2.0 * (-s).exp() + q);
        // One of four tokens is the least likely fifth.
        a.min20_nats = a.min20_nats.map(|most| most.max(s));
    }
    a
}

fn value(name: &str, a: &ScoreRow) -> f64 {
    (named(name).unwrap().of)(a).unwrap()
}

fn set_value(name: &str, set: &[ScoreRow]) -> f64 {
    (named(name).unwrap().of_set)(&SetSums::of(set).unwrap().unwrap()).unwrap()
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn the_golden_tokens_have_the_published_scores() {
    let expected = [
        (0.451914396, 1, 0.999972828, 0.749931772, 0.468386844),
        (2.734078850, 2, 0.795226778, 1.206172259, 0.637696932),
        (1.451914396, 2, 0.999972828, 0.749931772, 0.468386844),
        (1.609437912, 1, 1.609437912, 0.0, 0.2),
    ];
    for ((logits, target), (s, r, h, v, q)) in LOGITS.iter().zip(TARGETS).zip(expected) {
        let got = direct(logits, target);
        assert_eq!(got.1, r);
        [(got.0, s), (got.2, h), (got.3, v), (got.4, q)]
            .into_iter()
            .for_each(|(a, b)| near(a, b));
    }
}

#[test]
fn the_golden_trace_has_the_published_folds() {
    let a = golden();
    near(a.nll_nats, 6.247345554);
    near(a.brier_sum.unwrap(), 3.503502388);
    for (name, expected) in [
        ("nll_per_token", 1.561836388),
        ("ppl_tok", 4.767568319),
        ("bits_per_byte", 1.001446050),
        ("mean_log_rank", 0.346573590),
        ("mean_rank", 1.5),
        ("mean_rank_clip100", 1.5),
        ("min20_prob", -2.734078850),
        ("rsr", 0.960407896),
        ("top1_share", 0.5),
        ("top5_share", 1.0),
        ("excess_surprisal", 0.460683802),
        ("surprise_ratio", 1.418365090),
        ("z_score", 1.120201537),
        ("typicality_deviation", 0.734713018),
        ("brier_mean", 0.875875597),
    ] {
        near(value(name, &a), expected);
    }
    // Energy a nat, the ρ of LARK.
    near(
        value("brier_mean", &a) / value("nll_per_token", &a),
        0.560798560,
    );
}

/// By hand: 11 tokens have a fifth of 2, of which the two smallest ln p are −7 and −4; 4 tokens have
/// a fifth of 1, the −3. The end token's −9 is in neither.
#[test]
fn min20_prob_is_the_mean_of_the_least_likely_fifth() {
    let of = |logprobs: &[f32]| {
        let token = |(at, logprob): (usize, &f32)| TokenScore {
            token_id: 0,
            logprob: *logprob,
            rank: None,
            distribution: None,
            byte_start: at as u32,
            is_end: at + 1 == logprobs.len(),
        };
        let tokens: Vec<TokenScore> = logprobs.iter().enumerate().map(token).collect();
        fold(&tokens, identity())
    };
    let long = of(&[
        -1.0, -4.0, -0.5, -2.0, -7.0, -0.25, -1.0, -3.0, -0.5, -1.0, -2.0, -9.0,
    ]);
    let short = of(&[-1.0, -3.0, -2.0, -0.5, -9.0]);
    near(value("min20_prob", &long), -5.5);
    near(value("min20_prob", &short), -3.0);
    // The mean of the two traces; pooled, 15 tokens would have a fifth of 3 and a mean of −14 / 3.
    near(
        set_value("min20_prob", &[long.clone(), short.clone()]),
        -4.25,
    );
    // A row of an earlier version has none, and neither has a set with it.
    let earlier = ScoreRow {
        min20_nats: None,
        ..short
    };
    let min20 = named("min20_prob").unwrap();
    assert_eq!((min20.of)(&earlier), None);
    let set = SetSums::of(&[long, earlier]).unwrap().unwrap();
    assert_eq!((min20.of_set)(&set), None);
}

#[test]
fn rsr_clipped_at_1_is_tokens_over_surprisal() {
    let a = golden();
    let clipped = ScoreRow {
        rank_clip100_sum: Some(a.n_tokens as f64),
        ..a.clone()
    };
    near(value("rsr", &clipped), 0.640271931);
    near(value("rsr", &clipped), a.n_tokens as f64 / a.nll_nats);
}

#[test]
fn the_golden_set_has_the_published_aggregates() {
    let of = |id: &str, nll_nats: f64, n_tokens: u64, n_bytes: u64, mean_rank: f64| ScoreRow {
        trace_id: id.into(),
        nll_nats,
        n_tokens,
        n_bytes,
        rank_clip100_sum: Some(mean_rank * n_tokens as f64),
        ..empty(identity())
    };
    let set = [of("a", 2.0, 4, 10, 2.0), of("b", 9.0, 3, 12, 5.0)];
    near(set_value("ppl_tok", &set), 4.813519741);
    near(set_value("ppl_seq", &set), 5.754602676);
    near(set_value("ppl_arith", &set), 10.867129097);
    near(set_value("bits_per_byte", &set), 0.721347520);
    near(set_value("rsr", &set), 2.0);
}

#[test]
fn the_golden_ranks_have_their_containments() {
    let tokens: Vec<TokenScore> = LOGITS
        .iter()
        .zip(TARGETS)
        .map(|(logits, target)| TokenScore {
            token_id: target as u32,
            logprob: 0.0,
            rank: Some(direct(logits, target).1),
            distribution: None,
            byte_start: 0,
            is_end: false,
        })
        .collect();
    assert_eq!(
        (top_share(&tokens, 1), top_share(&tokens, 2)),
        (Some(0.5), Some(1.0))
    );
    assert_eq!(top_share(&[], 1), None);
}

/// LARK's reference takes Brier over the renormalised top k; ours takes the whole vocabulary, and
/// the two differ by this much on the golden trace's second token.
#[test]
fn brier_over_the_top_two_is_not_brier() {
    let (z, y) = (LOGITS[1], 0);
    let top = z[4].exp() + z[0].exp();
    let (first, target) = (z[4].exp() / top, z[0].exp() / top);
    near(
        1.0 - 2.0 * target + first * first + target * target,
        1.708076207,
    );
    let (s, .., q) = direct(&z, y);
    near(1.0 - 2.0 * (-s).exp() + q, 1.507789309);
}

#[test]
fn a_metric_without_tokens_is_not_defined() {
    let nothing = empty(identity());
    assert!(METRICS.iter().all(|metric| (metric.of)(&nothing).is_none()));
    assert!(
        resampled(&[], 100, &mut Rng::keyed(0, &[]))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn uniform_logits_give_entropy_as_surprisal_and_no_z() {
    let (s, _, h, v, q) = direct(&[0.0; 5], 3);
    near(s, 5f64.ln());
    near(h, 5f64.ln());
    let score = TokenScore {
        token_id: 3,
        logprob: -s as f32,
        rank: Some(1),
        distribution: Some(Distribution {
            entropy: h as f32,
            varentropy: v as f32,
            sum_p2: q as f32,
        }),
        byte_start: 0,
        is_end: false,
    };
    let a = fold(&[score; 3], identity());
    assert_eq!((named("z_score").unwrap().of)(&a), None);
    near(value("excess_surprisal", &a), 0.0);
}

#[test]
fn a_metric_of_what_a_model_does_not_give_is_absent() {
    let mut bare = golden();
    for sum in [
        &mut bare.entropy_nats,
        &mut bare.varentropy_nats2,
        &mut bare.abs_excess_nats,
        &mut bare.rank_sum,
        &mut bare.rank_clip100_sum,
        &mut bare.log_rank_sum,
        &mut bare.brier_sum,
    ] {
        *sum = None;
    }
    (bare.top1, bare.top5, bare.top10, bare.top50) = (None, None, None, None);
    let names = |set: &[ScoreRow]| -> Vec<String> {
        let found = closeness(set, 20, 0.95, &mut Rng::keyed(1, &[])).unwrap();
        found.into_keys().collect()
    };
    let expected = [
        "bits_per_byte",
        "min20_prob",
        "nll_per_token",
        "ppl_arith",
        "ppl_seq",
        "ppl_tok",
    ];
    let of_trace: Vec<&str> = METRICS
        .iter()
        .filter(|metric| (metric.of)(&bare).is_some())
        .map(|metric| metric.name)
        .collect();
    assert!(
        of_trace.iter().all(|name| expected.contains(name)),
        "{of_trace:?}"
    );
    let found = names(&[bare.clone(), golden()]);
    assert!(
        found
            .iter()
            .all(|name| expected.contains(&name.as_str()) || name == "z_score"),
        "{found:?}"
    );
    assert!(found.contains(&"nll_per_token".to_owned()));
}

#[test]
fn names_are_unique_and_every_row_says_what_it_is() {
    let names: std::collections::BTreeSet<&str> = METRICS.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), METRICS.len());
    assert!(
        METRICS.iter().all(|m| !m.source.is_empty()
            && !m.definition.is_empty()
            && !m.set_definition.is_empty())
    );
}

#[test]
fn closeness_grows_towards_the_student() {
    assert!(Direction::Lower.closeness(0.3) > Direction::Lower.closeness(5.0));
    assert!(Direction::Higher.closeness(0.9) > Direction::Higher.closeness(0.2));
    assert!(Direction::NearZero.closeness(-0.1) > Direction::NearZero.closeness(0.5));
    assert!(Direction::NearOne.closeness(0.9) > Direction::NearOne.closeness(1.5));
}

fn logits() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-6.0f64..6.0, 2..8)
}

fn random_set(seed: u64, traces: usize) -> Vec<ScoreRow> {
    let mut rng = Rng::keyed(seed, &["set"]);
    (0..traces)
        .map(|at| {
            let mut a = golden();
            a.trace_id = format!("t{at}");
            a.problem_id = Some(format!("p{}", at / 2));
            let factor = 0.5 + rng.uniform();
            a.nll_nats *= factor;
            a.min20_nats = a.min20_nats.map(|nats| nats * factor);
            a.rank_sum = a.rank_sum.map(|sum| sum + rng.below(9) as f64);
            a.rank_clip100_sum = a.rank_sum;
            a
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn surprisal_minus_entropy_is_0_on_average(logits in logits()) {
        let mean: f64 = (0..logits.len())
            .map(|y| { let (s, _, h, _, _) = direct(&logits, y); (-s).exp() * (s - h) })
            .sum();
        prop_assert!(mean.abs() < 1e-9, "{mean}");
    }

    #[test]
    fn brier_is_the_squared_gradient_of_the_logits(logits in logits(), pick in 0usize..8) {
        let y = pick % logits.len();
        let (s, _, _, _, q) = direct(&logits, y);
        let step = 1e-5;
        let gradient: f64 = (0..logits.len())
            .map(|v| {
                let shifted = |by: f64| { let mut z = logits.clone(); z[v] += by; direct(&z, y).0 };
                ((shifted(step) - shifted(-step)) / (2.0 * step)).powi(2)
            })
            .sum();
        prop_assert!((1.0 - 2.0 * (-s).exp() + q - gradient).abs() < 1e-7);
    }

    #[test]
    fn shares_grow_with_k(ranks in prop::collection::vec(1u32..200, 1..30)) {
        let tokens: Vec<TokenScore> = ranks
            .iter()
            .map(|&rank| TokenScore {
                token_id: 0, logprob: -1.0, rank: Some(rank), distribution: None, byte_start: 0, is_end: false,
            })
            .collect();
        let a = fold(&tokens, identity());
        let shares: Vec<f64> =
            ["top1_share", "top5_share", "top10_share", "top50_share"].iter().map(|n| value(n, &a)).collect();
        prop_assert!(shares.windows(2).all(|w| w[0] <= w[1]) && shares[3] <= 1.0);
    }

    #[test]
    fn duplicating_every_trace_leaves_set_metrics_unchanged(seed in 0u64..1000) {
        let set = random_set(seed, 7);
        let twice: Vec<ScoreRow> = set.iter().chain(&set).cloned().collect();
        for metric in METRICS {
            let (a, b) = (set_value(metric.name, &set), set_value(metric.name, &twice));
            prop_assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{}: {a} {b}", metric.name);
        }
    }

    #[test]
    fn row_order_changes_no_bit_and_intervals_hold_the_value(seed in 0u64..1000) {
        let set = random_set(seed, 9);
        let mut shuffled = set.clone();
        Rng::keyed(seed, &["shuffle"]).shuffle(&mut shuffled);
        let of = |set: &[ScoreRow]| closeness(set, 200, 0.95, &mut Rng::keyed(1, &[])).unwrap();
        let result = of(&set);
        prop_assert_eq!(&result, &of(&shuffled));
        prop_assert_eq!(result.len(), METRICS.len());
        // A metric on which all problems agree has no interval.
        prop_assert!(result.values().all(|e| e.interval.is_none_or(|i| i.low < i.high && i.contains(e.value))));
        prop_assert!(result.values().filter(|e| e.interval.is_some()).count() > METRICS.len() / 2);
    }
}
