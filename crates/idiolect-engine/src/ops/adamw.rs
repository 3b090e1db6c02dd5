//! AdamW with decoupled decay, and the gradient's norm for clipping.

use std::sync::atomic::{AtomicU64, Ordering};

use pulp::Arch;

use super::cpu::Cpu;

/// Floats of one chunk; fixed, because the norm's partial sums depend on it.
const CHUNK: usize = 1 << 14;

impl Cpu<'_> {
    /// ‖gradient‖₂: squares summed in f64 in chunks of fixed size.
    pub(crate) fn gradient_norm(&mut self, gradient: &[f32]) -> f64 {
        let square = |chunk: &[f32]| {
            Arch::new().dispatch(|| {
                let mut sums = [0.0f64; super::LINE];
                let mut blocks = chunk.chunks_exact(super::LINE);
                for block in &mut blocks {
                    for (sum, g) in sums.iter_mut().zip(block) {
                        *sum += f64::from(*g) * f64::from(*g);
                    }
                }
                let rest: f64 = blocks
                    .remainder()
                    .iter()
                    .map(|g| f64::from(*g) * f64::from(*g))
                    .sum();
                sums.iter().sum::<f64>() + rest
            })
        };
        let chunks = gradient.chunks(CHUNK);
        // The bits of each chunk's sum.
        let squares: Vec<AtomicU64> = chunks.map(|_| AtomicU64::new(0)).collect();
        self.threads.run(squares.len(), &|_, i| {
            let end = gradient.len().min((i + 1) * CHUNK);
            let sum: f64 = square(&gradient[i * CHUNK..end]);
            squares[i].store(sum.to_bits(), Ordering::Relaxed);
        });
        let sums = squares.into_iter().map(|s| f64::from_bits(s.into_inner()));
        sums.sum::<f64>().sqrt()
    }
}

impl Cpu<'_> {
    /// Adds parts, each as long as the sums, in their order.
    pub(crate) fn add_all(&mut self, sums: &mut [f32], parts: &[f32]) {
        let n = sums.len();
        let chunks = [(sums, CHUNK)];
        self.for_chunks(n.div_ceil(CHUNK), chunks, |chunk, [sums], _| {
            Arch::new().dispatch(|| {
                for part in parts.chunks_exact(n) {
                    let part = &part[chunk * CHUNK..][..sums.len()];
                    for (sum, value) in sums.iter_mut().zip(part) {
                        *sum += value;
                    }
                }
            });
        });
    }
}

/// What PyTorch's `clip_grad_norm_` multiplies the gradient by; 1 when `clip` is 0.
pub(crate) fn clip_coefficient(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 {
        (clip / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    }
}

/// One step's settings; `t` counts from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    pub(crate) lr: f64,
    pub(crate) betas: (f64, f64),
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    pub(crate) t: usize,
    /// Rounds parameters and moments to bf16 when all of a step is done.
    pub(crate) bf16: bool,
}

/// Rounds to the nearest bf16, ties to even. The values are finite.
pub(crate) fn round_to_bf16(values: &mut [f32]) {
    for value in values {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
        *value = f32::from_bits(rounded);
    }
}

impl Cpu<'_> {
    /// AdamW, in the order of operations of PyTorch's.
    ///
    /// - `parameters`, `first`, `second`: overwritten
    /// - `gradient`: multiplied by `coefficient` (the clipping) as it is read; left at 0 for the
    ///   next step, which costs less here than a pass of its own
    ///
    /// p −= lr·decay·p;  m += (1 − β₁)(g − m);  v = β₂ v + (1 − β₂) g²;
    /// p −= lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
    pub(crate) fn adamw(
        &mut self,
        settings: AdamW,
        coefficient: f64,
        [parameters, first, second, gradient]: [&mut [f32]; 4],
    ) {
        let AdamW {
            lr,
            betas: (beta1, beta2),
            epsilon,
            weight_decay,
            t,
            bf16,
        } = settings;
        let power = |beta: f64| 1.0 - beta.powi(t.min(i32::MAX as usize) as i32);
        let keep = (1.0 - lr * weight_decay) as f32;
        let (blend, beta2_f, fresh) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let (step, root, epsilon) = (
            (lr / power(beta1)) as f32,
            power(beta2).sqrt() as f32,
            epsilon as f32,
        );
        let coefficient = coefficient as f32;
        let chunks = parameters.len().div_ceil(CHUNK);
        let parts = [parameters, first, second, gradient].map(|values| (values, CHUNK));
        self.for_chunks(chunks, parts, |_, [p, m, v, gradient], _| {
            Arch::new().dispatch(|| {
                for (((p, m), v), gradient) in p.iter_mut().zip(&mut *m).zip(&mut *v).zip(gradient)
                {
                    let g = *gradient * coefficient;
                    *gradient = 0.0;
                    *m += blend * (g - *m);
                    *v = beta2_f * *v + fresh * g * g;
                    *p = *p * keep - step * (*m / (v.sqrt() / root + epsilon));
                }
            });
            if bf16 {
                [p, m, v].into_iter().for_each(round_to_bf16);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    #[test]
    fn steps_follow_the_formula_in_double_precision() {
        let n = 40_001;
        let settings = |t| AdamW {
            lr: 0.01,
            betas: (0.9, 0.95),
            epsilon: 1e-8,
            weight_decay: 0.1,
            t,
            bf16: false,
        };
        let start = normal("p", n, 1.0);
        let mut results = Vec::new();
        for threads in 1..4 {
            let pool = Threads::new(NonZeroUsize::new(threads).unwrap());
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            for t in 1..6 {
                let mut g = normal(&format!("g{t}"), n, 1.0);
                Cpu::new(&pool, &mut Default::default()).adamw(
                    settings(t),
                    0.5,
                    [&mut p, &mut m, &mut v, &mut g],
                );
                assert!(g.iter().all(|g| *g == 0.0));
            }
            results.push(p);
        }
        assert!(results.iter().all(|r| r == &results[0]));
        let mut exact: Vec<[f64; 3]> = start.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
        for t in 1..6 {
            for ([p, m, v], g) in exact.iter_mut().zip(normal(&format!("g{t}"), n, 1.0)) {
                let g = f64::from(g) * 0.5;
                *p *= 1.0 - 0.01 * 0.1;
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                *p -= 0.01 / (1.0 - 0.9f64.powi(t)) * *m
                    / ((*v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-8);
            }
        }
        let want: Vec<f32> = exact.iter().map(|e| e[0] as f32).collect();
        close("parameters", &results[0], &want, 1e-6);
    }

    /// Why bf16 parameters are a mode for comparisons and never the default: at the usual rates of
    /// fine-tuning nothing moves.
    #[test]
    fn bf16_parameters_do_not_move_at_a_small_rate_and_f32_ones_do() {
        let mut start = normal("p", 999, 1.0);
        round_to_bf16(&mut start);
        let run = |lr, bf16| {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; 999], vec![0.0; 999]);
            for t in 1..100 {
                let settings = AdamW {
                    lr,
                    betas: (0.9, 0.999),
                    epsilon: 1e-8,
                    weight_decay: 0.0,
                    t,
                    bf16,
                };
                let parts = [&mut p[..], &mut m, &mut v, &mut vec![1.0; 999]];
                Cpu::new(&Threads::single(), &mut Default::default()).adamw(settings, 1.0, parts);
            }
            let moved = p.iter().zip(&start).filter(|(p, s)| p != s).count();
            assert!(!bf16 || p.iter().all(|p| p.to_bits() & 0xffff == 0));
            moved
        };
        // Values below about 1e-3 are spaced closely enough to move even so.
        assert!(run(1e-6, true) < 10);
        assert!(run(1e-6, false) > 980);
        assert!(run(0.05, true) > 980);
    }

    #[test]
    fn clipping_is_pytorchs() {
        let gradient = normal("c", 20_000, 2.0);
        let exact = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            (Cpu::new(&Threads::single(), &mut Default::default()).gradient_norm(&gradient)
                - exact)
                .abs()
                < 1e-9 * exact
        );
        assert!((clip_coefficient(exact, 1.0) - 1.0 / (exact + 1e-6)).abs() < 1e-15);
        assert!(clip_coefficient(0.5, 1.0) >= 1.0 && clip_coefficient(1e9, 0.0) >= 1.0);
    }
}
