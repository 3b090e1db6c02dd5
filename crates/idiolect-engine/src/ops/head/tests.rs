use super::loss::LossAndGradients;
use super::*;
use crate::ops::cpu::Cpu;
use crate::ops::testing::{close, lanes_of, normal};
use crate::threads::Threads;
use std::num::NonZeroUsize;

const WIDTH: usize = 7;
const VOCAB: usize = 83;
const N: usize = 330;

fn case() -> (Vec<f32>, Vec<f32>, Vec<Target>) {
    let weight = normal("head", VOCAB * WIDTH, 1.0);
    let hidden = lanes_of("h", WIDTH, N, 336);
    let targets = (0..N)
        .filter(|n| n % 5 != 2)
        .map(|lane| Target {
            lane,
            token: (lane * 31 % VOCAB) as u32,
            weight: 0.1 + (lane % 3) as f32,
        })
        .collect();
    (weight, hidden, targets)
}

fn exact_logits(weight: &[f64], hidden: &[f64], lane: usize, softcap: Option<f32>) -> Vec<f64> {
    (0..VOCAB)
        .map(|v| {
            (0..WIDTH)
                .map(|c| weight[v * WIDTH + c] * hidden[c * 336 + lane])
                .sum::<f64>()
        })
        .map(|z: f64| softcap.map_or(z, |c| f64::from(c) * (z / f64::from(c)).tanh()))
        .collect()
}

fn exact_loss(weight: &[f64], hidden: &[f64], targets: &[Target], softcap: Option<f32>) -> f64 {
    targets
        .iter()
        .map(|t| {
            let z = exact_logits(weight, hidden, t.lane, softcap);
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            f64::from(t.weight) * (sum.ln() - z[t.token as usize])
        })
        .sum()
}

#[test]
fn loss_and_gradients_agree_with_central_differences_on_any_number_of_threads() {
    let (weight, hidden, targets) = case();
    for softcap in [None, Some(1.5)] {
        let mut results = Vec::new();
        for n in 1..4 {
            let threads = Threads::new(NonZeroUsize::new(n).unwrap());
            let mut d_hidden = vec![3.0; hidden.len()];
            let mut d_weight = vec![1.0; weight.len()];
            let mut logprobs = vec![0.0; targets.len()];
            let loss =
                Cpu::new(&threads, &mut Default::default()).loss_and_gradients(LossAndGradients {
                    head: Head {
                        weight: Stored::F32(&weight),
                        width: WIDTH,
                        softcap,
                        factors: Factors::F32,
                    },
                    hidden: &hidden,
                    ld: 336,
                    targets: &targets,
                    d_hidden: &mut d_hidden,
                    d_weight: &mut d_weight,
                    logprobs: &mut logprobs,
                    buffer: &mut Default::default(),
                });
            results.push((loss.to_bits(), d_hidden, d_weight));
        }
        assert!(results.iter().all(|r| *r == results[0]));
        let (loss, d_hidden, d_weight) = &results[0];
        let w: Vec<f64> = weight.iter().map(|v| f64::from(*v)).collect();
        let h: Vec<f64> = hidden.iter().map(|v| f64::from(*v)).collect();
        let want = exact_loss(&w, &h, &targets, softcap);
        assert!((f64::from_bits(*loss) - want).abs() < 1e-5 * want);
        let step = 1e-5;
        let moved = |values: &[f64], i: usize, by: f64| {
            let mut moved = values.to_vec();
            moved[i] += by;
            moved
        };
        let places: Vec<usize> = (0..w.len()).step_by(17).collect();
        let numeric: Vec<f32> = places
            .iter()
            .map(|&i| {
                let at = |by| exact_loss(&moved(&w, i, by), &h, &targets, softcap);
                (1.0 + (at(step) - at(-step)) / (2.0 * step)) as f32
            })
            .collect();
        let analytic: Vec<f32> = places.iter().map(|&i| d_weight[i]).collect();
        close("d_weight", &analytic, &numeric, 2e-5);
        let places: Vec<usize> = (0..WIDTH)
            .flat_map(|c| [0, 1, 2, 159, 328, 329].map(|n| c * 336 + n))
            .collect();
        let numeric: Vec<f32> = places
            .iter()
            .map(|&i| {
                let at = |by| exact_loss(&w, &moved(&h, i, by), &targets, softcap);
                ((at(step) - at(-step)) / (2.0 * step)) as f32
            })
            .collect();
        let analytic: Vec<f32> = places.iter().map(|&i| d_hidden[i]).collect();
        close("d_hidden", &analytic, &numeric, 2e-5);
    }
}

#[test]
fn scores_agree_with_double_precision() {
    let (weight, hidden, targets) = case();
    let w: Vec<f64> = weight.iter().map(|v| f64::from(*v)).collect();
    let h: Vec<f64> = hidden.iter().map(|v| f64::from(*v)).collect();
    for softcap in [None, Some(1.5)] {
        let head = Head {
            weight: Stored::F32(&weight),
            width: WIDTH,
            softcap,
            factors: Factors::F32,
        };
        let (mut scores, mut top) = (Vec::new(), Vec::new());
        Cpu::new(&Threads::single(), &mut Default::default()).score(
            head,
            (&hidden, 336),
            &targets,
            &mut scores,
            (3, &mut top),
        );
        assert_eq!(
            (scores.len(), top.len()),
            (targets.len(), 3 * targets.len())
        );
        for (s, (t, top)) in scores.iter().zip(targets.iter().zip(top.chunks(3))) {
            let z = exact_logits(&w, &h, t.lane, softcap);
            let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!((z[top[0].0 as usize] - most).abs() < 1e-5);
            assert!(top[0].1 >= top[1].1 && top[1].1 >= top[2].1);
            // The bits of the target's own score, wherever it is among the first.
            if s.rank <= 3 {
                let own = top.iter().find(|(id, _)| *id == t.token);
                assert_eq!(own.map(|own| own.1), Some(s.logprob));
            }
        }
        for (s, t) in scores.iter().zip(&targets) {
            let z = exact_logits(&w, &h, t.lane, softcap);
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
            let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
            let varentropy = p.iter().map(|p| p * p.ln().powi(2)).sum::<f64>() - entropy * entropy;
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 2e-5 * (1.0 + b.abs());
            assert!(near(s.logprob, p[t.token as usize].ln()), "{s:?}");
            assert!(
                near(s.entropy, entropy) && near(s.varentropy, varentropy),
                "{s:?} {entropy} {varentropy}"
            );
            assert!(near(s.sum_p2, p.iter().map(|p| p * p).sum()));
            let target = z[t.token as usize];
            assert_eq!(
                s.rank as usize,
                1 + z.iter().filter(|z| **z > target + 1e-6).count()
            );
        }
    }
}

#[test]
fn equal_logits_share_the_best_rank() {
    let head = Head {
        weight: Stored::F32(&[0.0; 5]),
        width: 1,
        softcap: None,
        factors: Factors::F32,
    };
    let (mut scores, mut top) = (Vec::new(), Vec::new());
    let target = Target {
        lane: 0,
        token: 4,
        weight: 1.0,
    };
    Cpu::new(&Threads::single(), &mut Default::default()).score(
        head,
        (&[1.0; 16], 16),
        &[target],
        &mut scores,
        (2, &mut top),
    );
    assert_eq!([top[0].0, top[1].0], [0, 1]);
    assert_eq!(scores[0].rank, 1);
    assert!((scores[0].entropy - 5f32.ln()).abs() < 1e-6 && scores[0].varentropy < 1e-6);
}

#[test]
fn a_diverged_state_shows_in_the_score() {
    let head = Head {
        weight: Stored::F32(&[1.0, 2.0]),
        width: 1,
        softcap: None,
        factors: Factors::F32,
    };
    let mut scores = Vec::new();
    let target = Target {
        lane: 0,
        token: 0,
        weight: 1.0,
    };
    Cpu::new(&Threads::single(), &mut Default::default()).score(
        head,
        (&[f32::NAN; 16], 16),
        &[target],
        &mut scores,
        (0, &mut Vec::new()),
    );
    assert!(scores[0].logprob.is_nan());
}
