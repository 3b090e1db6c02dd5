//! The one source of chance: a seeded generator keyed by what it is for.
//!
//! A generator is made from a key such as `(run seed, stage, record id, k)`, so that a draw
//! depends on nothing else: not on order, batching or the number of threads.

use sha2::{Digest, Sha256};

/// xoshiro256++ (Blackman and Vigna, 2019), seeded from a SHA-256 of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator for `seed` and the parts of a key; part borders count, so `["ab"]` and
    /// `["a", "b"]` differ.
    pub fn keyed(seed: u64, key: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        for part in key {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(digest.chunks_exact(8)) {
            let mut b = [0u8; 8];
            b.copy_from_slice(bytes);
            *word = u64::from_le_bytes(b);
        }
        Self { state }
    }

    /// The generator's whole state, for a checkpoint.
    pub fn state(&self) -> [u64; 4] {
        self.state
    }

    /// The generator that [`state`](Self::state) was taken from. An all-zero state, which would
    /// give zeros for ever, is replaced by that of the empty key.
    pub fn from_state(state: [u64; 4]) -> Self {
        if state == [0; 4] {
            Self::keyed(0, &[])
        } else {
            Self { state }
        }
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n` without bias (Lemire's rejection).
    ///
    /// # Panics
    /// When `n` is 0; a programmer mistake.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a draw from an empty range");
        let n = n as u64;
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if wide as u64 >= threshold {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Standard normal (Box-Muller, one value a call).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// One of `items`, or `None` of none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            None
        } else {
            Some(&items[self.below(items.len())])
        }
    }

    /// A uniform permutation in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_decides_the_stream() {
        let draw = |seed, key: &[&str]| Rng::keyed(seed, key).next_u64();
        assert_eq!(draw(1, &["a", "b"]), draw(1, &["a", "b"]));
        assert_ne!(draw(1, &["a", "b"]), draw(1, &["ab"]));
        assert_ne!(draw(1, &["a"]), draw(2, &["a"]));
    }

    #[test]
    fn a_stored_state_continues_the_stream() {
        let mut rng = Rng::keyed(3, &["x"]);
        rng.next_u64();
        let mut copy = Rng::from_state(rng.state());
        assert_eq!(rng.next_u64(), copy.next_u64());
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = Rng::keyed(0, &["below"]);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1;
        }
        // Binomial sd is about 93; five of them.
        assert!(
            counts.iter().all(|c| c.abs_diff(10_000) < 465),
            "{counts:?}"
        );
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut rng = Rng::keyed(0, &["normal"]);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }
}
