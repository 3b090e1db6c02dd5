//! Choosing the next token from logits.
//!
//! The filters apply in the order of transformers: temperature, top-k, top-p, min-p. One uniform
//! draw a token, so that a request's generator stands at the same place whatever the settings.

use idiolect_core::model::{ModelError, Rng, Sampling};

/// A token chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// Log-probability under the model as it is, without temperature and filters; nats.
    pub(crate) logprob: f32,
}

/// Refuses settings that mean nothing.
///
/// # Errors
/// Names the setting and its value.
pub(crate) fn check(sampling: &Sampling) -> Result<(), ModelError> {
    let Sampling {
        temperature,
        top_p,
        min_p,
        ..
    } = *sampling;
    let fault = |name: &str, value: f32, expected: &str| {
        Err(ModelError::Invalid(format!(
            "`{name}` is {value}; expected {expected}"
        )))
    };
    if !(temperature.is_finite() && temperature >= 0.0) {
        return fault("temperature", temperature, "0 (greedy) or more");
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return fault("top_p", top_p, "more than 0 and at most 1");
    }
    if !(0.0..=1.0).contains(&min_p) {
        return fault("min_p", min_p, "0 to 1");
    }
    if sampling.stop.iter().any(String::is_empty) {
        return Err(ModelError::Invalid(
            "a stop string is empty; it would stop at once".to_owned(),
        ));
    }
    Ok(())
}

/// Draws a token, or `None` when a logit is NaN or all are −∞. `scratch` is reused from call to
/// call.
pub(crate) fn draw(
    logits: &[f32],
    sampling: &Sampling,
    rng: &mut Rng,
    scratch: &mut Vec<(f32, u32)>,
) -> Option<Drawn> {
    let uniform = rng.uniform();
    let (best, max) = largest(logits)?;
    // Terms are added in the order of ids, in f64: the same bits whatever stands in the batch.
    let sum: f64 = logits.iter().map(|z| f64::from((z - max).exp())).sum();
    let token = if sampling.temperature > 0.0 {
        weigh(logits, max, sampling, scratch);
        pick(scratch, uniform)
    } else {
        best
    };
    let logprob = f64::from(logits[token as usize] - max) - sum.ln();
    Some(Drawn {
        token,
        logprob: logprob as f32,
    })
}

/// The first largest logit.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &z) in logits.iter().enumerate() {
        if z.is_nan() {
            return None;
        }
        if z > best.1 {
            best = (id as u32, z);
        }
    }
    best.1.is_finite().then_some(best)
}

/// Leaves the tokens that the filters keep in `kept`, with weights relative to the most probable.
fn weigh(logits: &[f32], max: f32, sampling: &Sampling, kept: &mut Vec<(f32, u32)>) {
    let weight = |z: f32| ((z - max) / sampling.temperature).exp();
    kept.clear();
    // min-p compares with the most probable token, so that it commutes with the other filters'
    // first cut and may thin the list before it is sorted.
    let sorts = sampling.top_k > 0 || sampling.top_p < 1.0;
    let floor = if sampling.top_p < 1.0 {
        0.0
    } else {
        sampling.min_p
    };
    kept.extend(logits.iter().enumerate().filter_map(|(id, &z)| {
        let weight = weight(z);
        (weight > 0.0 && weight >= floor).then_some((weight, id as u32))
    }));
    if !sorts {
        return;
    }
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        kept.select_nth_unstable_by(sampling.top_k, order);
        kept.truncate(sampling.top_k);
    }
    kept.sort_unstable_by(order);
    if sampling.top_p < 1.0 {
        let total: f64 = kept.iter().map(|(w, _)| f64::from(*w)).sum();
        let goal = f64::from(sampling.top_p) * total;
        let mut sum = 0.0;
        let reached = kept.iter().position(|(w, _)| {
            sum += f64::from(*w);
            sum >= goal
        });
        kept.truncate(reached.map_or(kept.len(), |i| i + 1));
    }
    kept.retain(|(weight, _)| *weight >= sampling.min_p);
}

/// The token in whose share of the weights `uniform` falls.
fn pick(kept: &[(f32, u32)], uniform: f64) -> u32 {
    let total: f64 = kept.iter().map(|(weight, _)| f64::from(*weight)).sum();
    let mut left = uniform * total;
    for (weight, id) in kept {
        left -= f64::from(*weight);
        if left < 0.0 {
            return *id;
        }
    }
    // Rounding can leave a rest behind the last token.
    kept.last()
        .expect("the most probable token passes every filter")
        .1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln of these probabilities.
    fn logits(p: &[f32]) -> Vec<f32> {
        p.iter().map(|p| p.ln()).collect()
    }

    /// Which tokens come out, and how often, in 20,000 draws.
    fn counts(p: &[f32], sampling: &Sampling) -> Vec<usize> {
        let (logits, mut scratch) = (logits(p), Vec::new());
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
        let drawn = draw(&[1.0, 3.0, 3.0], &greedy, &mut rng, &mut Vec::new()).unwrap();
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

    #[test]
    fn the_logprob_is_the_untempered_models() {
        let sampling = Sampling {
            temperature: 3.0,
            top_k: 2,
            ..Sampling::default()
        };
        let mut rng = Rng::keyed(5, &[]);
        for _ in 0..20 {
            let drawn = draw(&logits(&P), &sampling, &mut rng, &mut Vec::new()).unwrap();
            assert!((drawn.logprob - P[drawn.token as usize].ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn logits_that_are_no_numbers_give_nothing() {
        let mut rng = Rng::keyed(0, &[]);
        let mut draw = |z: &[f32]| draw(z, &Sampling::default(), &mut rng, &mut Vec::new());
        assert_eq!(draw(&[0.0, f32::NAN]), None);
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
}
