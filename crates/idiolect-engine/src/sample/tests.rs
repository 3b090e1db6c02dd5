use super::*;

/// ln of these probabilities.
fn logits(p: &[f32]) -> Vec<f32> {
    p.iter().map(|p| p.ln()).collect()
}

/// Which tokens come out, and how often, in 20,000 draws.
fn counts(p: &[f32], sampling: &Sampling) -> Vec<usize> {
    let (logits, mut scratch) = (logits(p), Scratch::default());
    let mut rng = Rng::keyed(1, &["sample test"]);
    let mut counts = vec![0; p.len()];
    for _ in 0..20_000 {
        counts[draw(&logits, sampling, &mut rng, &mut scratch)
            .unwrap()
            .token as usize] += 1;
    }
    counts
}

fn support(p: &[f32], sampling: &Sampling) -> Vec<usize> {
    let counts = counts(p, sampling);
    (0..p.len()).filter(|&i| counts[i] > 0).collect()
}

const P: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let mut rng = Rng::keyed(0, &[]);
    let drawn = draw(&[1.0, 3.0, 3.0], &greedy, &mut rng, &mut Scratch::default()).unwrap();
    assert_eq!(drawn.token, 1);
    let expected = 3.0 - (1f32.exp() + 2.0 * 3f32.exp()).ln();
    assert!((drawn.logprob - expected).abs() < 1e-6);
}

#[test]
fn frequencies_follow_the_probabilities_and_the_temperature() {
    let even = |counts: Vec<usize>, p: &[f64]| {
        for (count, p) in counts.iter().zip(p) {
            // Five standard deviations of a binomial.
            let sd = (20_000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (*count as f64 - 20_000.0 * p).abs() < 5.0 * sd,
                "{counts:?}"
            );
        }
    };
    even(
        counts(&P, &Sampling::default()),
        &[0.1, 0.4, 0.05, 0.25, 0.2],
    );
    let sharp = Sampling {
        temperature: 0.5,
        ..Sampling::default()
    };
    let total = 0.01 + 0.16 + 0.0025 + 0.0625 + 0.04;
    even(
        counts(&P, &sharp),
        &[0.01, 0.16, 0.0025, 0.0625, 0.04].map(|p: f64| p / total),
    );
}

#[test]
fn each_filter_keeps_what_its_definition_says() {
    let with = |top_k, top_p, min_p| Sampling {
        top_k,
        top_p,
        min_p,
        ..Sampling::default()
    };
    assert_eq!(support(&P, &with(2, 1.0, 0.0)), [1, 3]);
    assert_eq!(support(&P, &with(9, 1.0, 0.0)), [0, 1, 2, 3, 4]);
    assert_eq!(support(&P, &with(0, 0.64, 0.0)), [1, 3]);
    assert_eq!(support(&P, &with(0, 0.66, 0.0)), [1, 3, 4]);
    assert_eq!(support(&P, &with(0, 1e-6, 0.0)), [1]);
    assert_eq!(support(&P, &with(0, 1.0, 0.45)), [1, 3, 4]);
    // top-p counts what top-k has left: 0.4 of 0.65 reach 0.6.
    assert_eq!(support(&P, &with(2, 0.6, 0.0)), [1]);
    // Equal logits: the lower ids.
    assert_eq!(support(&[0.25; 4], &with(3, 1.0, 0.0)), [0, 1, 2]);
}

/// The filters by their definition: everything sorted, as transformers does it.
fn naive(logits: &[f32], sampling: &Sampling) -> Vec<usize> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |i: usize| f64::from((logits[i] - max) / sampling.temperature).exp();
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if sampling.top_k > 0 {
        ids.truncate(sampling.top_k);
    }
    let total: f64 = ids.iter().map(|&i| weight(i)).sum();
    let mut sum = 0.0;
    let reached = ids.iter().position(|&i| {
        sum += weight(i);
        sampling.top_p < 1.0 && sum >= f64::from(sampling.top_p) * total
    });
    ids.truncate(reached.map_or(ids.len(), |i| i + 1));
    ids.retain(|&i| weight(i) >= f64::from(sampling.min_p));
    ids.sort_unstable();
    ids
}

#[test]
fn the_filters_of_a_large_vocabulary_keep_what_sorting_keeps() {
    let mut rng = Rng::keyed(2, &["large"]);
    let mut scratch = Scratch::default();
    for (spread, n) in [(0.1, 5000), (3.0, 3001), (40.0, 2048)] {
        // Rounded, so that there are ties.
        let logits: Vec<f32> = (0..n)
            .map(|_| ((spread * rng.normal()) as f32 * 64.0).round() / 64.0)
            .collect();
        for (temperature, top_k, top_p, min_p) in [
            (1.0, 0, 0.9, 0.0),
            (0.7, 50, 1.0, 0.0),
            (1.3, 400, 0.5, 0.0),
            (1.0, 0, 1.0, 0.3),
            (2.0, 900, 0.97, 0.2),
            (0.5, 1, 1.0, 0.0),
        ] {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                ..Sampling::default()
            };
            let _ = draw(&logits, &sampling, &mut rng, &mut scratch).unwrap();
            let kept: Vec<usize> = (0..n).filter(|&i| scratch.weights[i] > 0.0).collect();
            assert_eq!(kept, naive(&logits, &sampling), "{spread} {sampling:?}");
        }
    }
}

#[test]
fn draws_from_a_large_vocabulary_follow_the_probabilities() {
    // Two tokens of block 0, two far behind it, and a tail with a hundredth of the weight.
    let mut p = vec![0.01 / 3000.0; 3004];
    (p[3], p[900], p[1025], p[3003]) = (0.3, 0.1, 0.4, 0.19);
    let counts = counts(&p, &Sampling::default());
    for (id, p) in [(3, 0.3), (900, 0.1), (1025, 0.4), (3003, 0.19)] {
        let sd = (20_000f64 * p * (1.0 - p)).sqrt();
        let off = counts[id] as f64 - 20_000.0 * p;
        assert!(off.abs() < 5.0 * sd, "{id}: {}", counts[id]);
    }
}

#[test]
fn the_logprob_is_the_untempered_models() {
    let sampling = Sampling {
        temperature: 3.0,
        top_k: 2,
        ..Sampling::default()
    };
    let mut rng = Rng::keyed(5, &[]);
    for _ in 0..20 {
        let drawn = draw(&logits(&P), &sampling, &mut rng, &mut Scratch::default()).unwrap();
        assert!((drawn.logprob - P[drawn.token as usize].ln()).abs() < 1e-6);
    }
}

#[test]
fn the_most_probable_come_first_with_the_bits_of_a_draw() {
    let z = logits(&[0.1, 0.3, 0.05, 0.3, 0.25]);
    let mut scratch = Scratch::default();
    let top = most_probable(&z, 3, &mut scratch);
    assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(most_probable(&z, 99, &mut scratch).len(), 5);
    assert!(most_probable(&z, 0, &mut scratch).is_empty());
    let hot = Sampling {
        temperature: 2.0,
        top_k: 3,
        ..Sampling::default()
    };
    let mut rng = Rng::keyed(6, &[]);
    for _ in 0..20 {
        let drawn = draw(&z, &hot, &mut rng, &mut scratch).unwrap();
        let listed = top.iter().find(|t| t.0 == drawn.token).unwrap();
        assert_eq!(listed.1.to_bits(), drawn.logprob.to_bits());
    }
}

#[test]
fn logits_that_are_no_numbers_give_nothing() {
    let mut rng = Rng::keyed(0, &[]);
    let mut draw = |z: &[f32]| draw(z, &Sampling::default(), &mut rng, &mut Scratch::default());
    assert_eq!(draw(&[0.0, f32::NAN]), None);
    assert_eq!(draw(&[f32::NAN, 0.0]), None);
    assert_eq!(draw(&[f32::INFINITY, 0.0]), None);
    assert_eq!(draw(&[f32::NEG_INFINITY; 3]), None);
    assert_eq!(draw(&[f32::NEG_INFINITY, 0.0]).unwrap().token, 1);
}

#[test]
fn settings_without_meaning_are_named() {
    let base = Sampling::default();
    for (bad, name) in [
        (
            Sampling {
                temperature: -1.0,
                ..base.clone()
            },
            "`temperature`",
        ),
        (
            Sampling {
                temperature: f32::NAN,
                ..base.clone()
            },
            "`temperature`",
        ),
        (
            Sampling {
                top_p: 0.0,
                ..base.clone()
            },
            "`top_p`",
        ),
        (
            Sampling {
                min_p: 2.0,
                ..base.clone()
            },
            "`min_p`",
        ),
        (
            Sampling {
                stop: vec![String::new()],
                ..base.clone()
            },
            "stop string",
        ),
    ] {
        assert!(check(&bad).unwrap_err().to_string().contains(name));
    }
    assert!(check(&base).is_ok());
}
