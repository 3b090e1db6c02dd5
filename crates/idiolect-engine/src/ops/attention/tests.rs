use super::*;
use crate::ops::testing::{close, lanes_of};
use crate::threads::Threads;
use std::num::NonZeroUsize;

const SEGMENTS: [Segment; 3] = [
    Segment { start: 0, len: 37 },
    Segment { start: 37, len: 1 },
    Segment { start: 38, len: 70 },
];
const N: usize = 108;
const LD: usize = 112;

/// Everything in f64, one query at a time: out, and Σ weights ⊙ out.
fn naive(heads: &Heads, qkv: &[f64], weights: &[f32]) -> (Vec<f32>, f64) {
    let d = heads.head_dim;
    let (mut out, mut total) = (vec![0.0f32; heads.n * d * LD], 0.0);
    for h in 0..heads.n {
        let k_row = (heads.n + h / (heads.n / heads.kv)) * d;
        let v_row = k_row + heads.kv * d;
        for s in SEGMENTS {
            for q in s.start..s.start + s.len {
                let first = heads
                    .window
                    .map_or(s.start, |w| s.start.max((q + 1).saturating_sub(w)));
                let score = |k: usize| {
                    let dot: f64 = (0..d)
                        .map(|i| qkv[(h * d + i) * LD + q] * qkv[(k_row + i) * LD + k])
                        .sum();
                    heads
                        .softcap
                        .map_or(dot, |c| f64::from(c) * (dot / f64::from(c)).tanh())
                };
                let e: Vec<f64> = (first..=q).map(|k| score(k).exp()).collect();
                let sum: f64 = e.iter().sum();
                for i in 0..d {
                    let o = e
                        .iter()
                        .zip(first..)
                        .map(|(e, k)| e / sum * qkv[(v_row + i) * LD + k])
                        .sum::<f64>();
                    out[(h * d + i) * LD + q] = o as f32;
                    total += o * f64::from(weights[(h * d + i) * LD + q]);
                }
            }
        }
    }
    (out, total)
}

fn both(heads: &Heads, qkv: &[f32], d_out: &[f32], n_threads: usize) -> (Vec<f32>, Vec<f32>) {
    let threads = Threads::new(NonZeroUsize::new(n_threads).unwrap());
    let mut out = vec![0.0; heads.n * heads.head_dim * LD];
    let mut lse = vec![0.0; heads.n * LD];
    Cpu::new(&threads, &mut Default::default()).attention(
        heads,
        (&SEGMENTS, LD),
        &mut out,
        &mut lse,
        qkv,
    );
    let mut d_qkv = vec![0.0; qkv.len()];
    Cpu::new(&threads, &mut Default::default()).attention_backward(Backward {
        heads,
        segments: &SEGMENTS,
        ld: LD,
        d_qkv: &mut d_qkv,
        d_out,
        out: &out,
        lse: &lse,
        qkv,
    });
    (out, d_qkv)
}

#[test]
fn output_is_the_formula_and_gradients_agree_with_central_differences() {
    for (window, softcap) in [
        (None, None),
        (Some(5), None),
        (Some(40), Some(1.5)),
        (None, Some(2.0)),
    ] {
        let heads = Heads {
            n: 4,
            kv: 2,
            head_dim: 6,
            window,
            softcap,
        };
        let rows = (heads.n + 2 * heads.kv) * heads.head_dim;
        let qkv = lanes_of("qkv", rows, N, LD);
        let d_out = lanes_of("d", heads.n * heads.head_dim, N, LD);
        let exact: Vec<f64> = qkv.iter().map(|v| f64::from(*v)).collect();
        let (out, d_qkv) = both(&heads, &qkv, &d_out, 1);
        close("out", &out, &naive(&heads, &exact, &d_out).0, 1e-5);
        for n_threads in [2, 3] {
            assert!(both(&heads, &qkv, &d_out, n_threads) == (out.clone(), d_qkv.clone()));
        }
        let places: Vec<usize> = (0..rows)
            .flat_map(|r| [0, 36, 37, 38, 71, 107].map(|n| r * LD + n))
            .step_by(3)
            .collect();
        let numeric: Vec<f32> = places
            .iter()
            .map(|&i| {
                let value = |h: f64| {
                    let mut moved = exact.clone();
                    moved[i] += h;
                    naive(&heads, &moved, &d_out).1
                };
                ((value(1e-5) - value(-1e-5)) / 2e-5) as f32
            })
            .collect();
        let analytic: Vec<f32> = places.iter().map(|&i| d_qkv[i]).collect();
        close(
            &format!("d_qkv {window:?} {softcap:?}"),
            &analytic,
            &numeric,
            2e-5,
        );
    }
}
