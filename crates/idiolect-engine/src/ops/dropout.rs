//! Dropout on the inputs of low-rank maps.
//!
//! Whether a value is dropped is a function of the training step, the row, the token's position
//! in it, the linear layer and the channel, and of nothing else: not of the batch that the row
//! was packed into, the thread that computed it, or whether this is the forward, its recomputation
//! or the backward. So nothing needs to be saved, and a resumed training drops the same values.

use pulp::Arch;

use super::cpu::Cpu;

/// Rows of one chunk of work.
const ROWS: usize = 32;

/// What is dropped at one linear layer.
#[derive(Clone, Copy)]
pub(crate) struct Dropout<'a> {
    /// Fraction that is dropped: below 1.
    pub(crate) fraction: f64,
    /// One key a token, see [`token_key`].
    pub(crate) tokens: &'a [u32],
    /// Distinguishes the projections of a model.
    pub(crate) projection: u32,
}

/// The key of a token in one training step.
pub(crate) fn token_key(step: u64, row: usize, position: usize) -> u32 {
    mix64(step ^ mix64((row as u64) << 32 ^ position as u64)) as u32
}

/// The finaliser of splitmix64.
fn mix64(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A bijection of 32 bits in which every input bit moves every output bit about half of the time
/// (the multipliers are those of Wellons' `lowbias32`).
#[inline(always)]
fn mix32(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl Dropout<'_> {
    /// - `out`: (I, T) lanes of leading dimension `ld`, overwritten
    /// - `input`: (I, T) lanes
    ///
    /// out = input ⊙ mask, where the mask is 0 or 1 / (1 − fraction)
    pub(crate) fn apply(&self, cpu: &mut Cpu<'_>, out: &mut [f32], input: &[f32], ld: usize) {
        self.each(cpu, out, ld, |o, x| *o = x, input);
    }

    /// The gradient's way back through the mask, onto a gradient that is there already.
    ///
    /// d_input += d_out ⊙ mask
    pub(crate) fn add_back(
        &self,
        cpu: &mut Cpu<'_>,
        d_input: &mut [f32],
        d_out: &[f32],
        ld: usize,
    ) {
        self.each(cpu, d_input, ld, |d, x| *d += x, d_out);
    }

    fn each(
        &self,
        cpu: &mut Cpu<'_>,
        out: &mut [f32],
        ld: usize,
        put: impl Fn(&mut f32, f32) + Sync,
        from: &[f32],
    ) {
        let below = (self.fraction * 2f64.powi(32)) as u32;
        let scale = (1.0 / (1.0 - self.fraction)) as f32;
        let chunks = (out.len() / ld).div_ceil(ROWS);
        cpu.for_chunks(chunks, [(out, ROWS * ld)], |chunk, [out], _| {
            Arch::new().dispatch(|| {
                for (i, out) in out.chunks_exact_mut(ld).enumerate() {
                    let c = chunk * ROWS + i;
                    let channel = mix32(mix32(self.projection).wrapping_add(c as u32));
                    let from = &from[c * ld..(c + 1) * ld];
                    let n = self.tokens.len();
                    for ((o, x), token) in out[..n].iter_mut().zip(from).zip(self.tokens) {
                        let drawn = mix32(token ^ channel);
                        put(o, if drawn < below { 0.0 } else { x * scale });
                    }
                    for (o, x) in out[n..].iter_mut().zip(&from[n..]) {
                        put(o, *x);
                    }
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    #[test]
    fn the_share_is_dropped_and_the_rest_scaled_on_any_number_of_threads() {
        let (rows, n, ld) = (130, 250, 272);
        let tokens: Vec<u32> = (0..n).map(|t| token_key(3, t / 50, t % 50)).collect();
        let dropout = |fraction, projection| Dropout {
            fraction,
            tokens: &tokens,
            projection,
        };
        let mut ones = vec![1.0; rows * ld];
        crate::ops::clear_beyond(&mut ones, n, ld);
        for fraction in [0.1, 0.5] {
            let mut results = Vec::new();
            for t in 1..4 {
                let threads = Threads::new(NonZeroUsize::new(t).unwrap());
                let mut out = vec![f32::NAN; ones.len()];
                dropout(fraction, 7).apply(
                    &mut Cpu::new(&threads, &mut Default::default()),
                    &mut out,
                    &ones,
                    ld,
                );
                results.push(out);
            }
            assert!(results.iter().all(|r| r == &results[0]));
            let scale = 1.0 / (1.0 - fraction as f32);
            let total = (rows * n) as f64;
            let dropped = results[0]
                .chunks_exact(ld)
                .flat_map(|row| &row[..n])
                .filter(|v| **v == 0.0)
                .count() as f64;
            assert!(results[0].iter().all(|v| *v == 0.0 || *v == scale));
            let sd = (total * fraction * (1.0 - fraction)).sqrt();
            assert!((dropped - total * fraction).abs() < 4.0 * sd, "{dropped}");
            // Another layer, row, position or step: another mask, about as often equal as chance
            // has it.
            let mut other = vec![0.0; ones.len()];
            dropout(fraction, 8).apply(
                &mut Cpu::new(&Threads::single(), &mut Default::default()),
                &mut other,
                &ones,
                ld,
            );
            let equal = results[0]
                .iter()
                .zip(&other)
                .filter(|(a, b)| a == b)
                .count() as f64;
            let padding = (rows * (ld - n)) as f64;
            let by_chance = fraction * fraction + (1.0 - fraction) * (1.0 - fraction);
            assert!(((equal - padding) / total - by_chance).abs() < 0.02);
        }
    }

    #[test]
    fn a_tokens_mask_does_not_depend_on_its_lane() {
        let keys = [token_key(9, 4, 0), token_key(9, 4, 1), token_key(9, 5, 0)];
        let alone = |key: u32| {
            let mut out = vec![0.0; 64 * 16];
            Dropout {
                fraction: 0.5,
                tokens: &[key],
                projection: 1,
            }
            .apply(
                &mut Cpu::new(&Threads::single(), &mut Default::default()),
                &mut out,
                &vec![1.0; 64 * 16],
                16,
            );
            out.iter().step_by(16).copied().collect::<Vec<f32>>()
        };
        let mut together = vec![0.0; 64 * 16];
        Dropout {
            fraction: 0.5,
            tokens: &keys,
            projection: 1,
        }
        .apply(
            &mut Cpu::new(&Threads::single(), &mut Default::default()),
            &mut together,
            &vec![1.0; 64 * 16],
            16,
        );
        for (lane, key) in keys.into_iter().enumerate() {
            let own: Vec<f32> = together.iter().skip(lane).step_by(16).copied().collect();
            assert_eq!(own, alone(key));
        }
        assert_ne!(alone(keys[0]), alone(keys[1]));
        assert_ne!(alone(keys[0]), alone(keys[2]));
        assert_ne!(alone(keys[0]), alone(token_key(10, 4, 0)));
    }
}
