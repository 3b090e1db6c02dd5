//! Rotary position embedding, half-rotation form, in place on lanes.

use pulp::Arch;

use super::cpu::Cpu;

/// Cosines and sines of a batch: each (D/2, T) lanes, for the positions of its tokens.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    cos: super::Buffer,
    sin: super::Buffer,
    len: usize,
}

impl Angles {
    /// Fills the tables; angles in f64, as positions times frequencies lose digits in f32.
    pub(crate) fn fill(&mut self, frequencies: &[f64], positions: &[u32], ld: usize) {
        self.len = frequencies.len() * ld;
        self.cos.reserve(self.len);
        self.sin.reserve(self.len);
        let (cos, sin) = (self.cos.get_mut(self.len), self.sin.get_mut(self.len));
        // Positions run up by one inside a sequence, so the few different ones are computed once.
        let most = positions.iter().max().map_or(0, |p| *p as usize + 1);
        let mut table = vec![(0.0f32, 0.0f32); most];
        for (i, f) in frequencies.iter().enumerate() {
            for (p, entry) in table.iter_mut().enumerate() {
                let (s, c) = (p as f64 * f).sin_cos();
                *entry = (c as f32, s as f32);
            }
            let row = i * ld..(i + 1) * ld;
            let (cos, sin) = (&mut cos[row.clone()], &mut sin[row]);
            cos.fill(1.0);
            sin.fill(0.0);
            for (n, p) in positions.iter().enumerate() {
                (cos[n], sin[n]) = table[*p as usize];
            }
        }
    }

    fn tables(&self) -> (&[f32], &[f32]) {
        (self.cos.get(self.len), self.sin.get(self.len))
    }
}

/// Which way to rotate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// As in the forward.
    Forward,
    /// By minus the angle: the backward.
    Inverse,
}

impl Cpu<'_> {
    /// Rotary position embedding.
    ///
    /// - `heads`: rows of whole heads, (heads·D, T) lanes of leading dimension `ld`, rotated in
    ///   place
    /// - `angles`: of the same batch
    /// - `scale`: multiplies the result; the attention scale is folded into q here, both ways
    ///
    /// (a, b) at dimensions i and i + D/2 become scale·(a cos − b sin, b cos + a sin).
    pub(crate) fn rotate(
        &mut self,
        heads: &mut [f32],
        ld: usize,
        angles: &Angles,
        rotation: Rotation,
        scale: f32,
    ) {
        let (cos, sin) = angles.tables();
        let half = cos.len();
        let sign = if rotation == Rotation::Forward {
            scale
        } else {
            -scale
        };
        let chunks = heads.len() / (2 * half);
        self.for_chunks(chunks, [(heads, 2 * half)], |_, [head], _| {
            debug_assert_eq!(head.len() % ld, 0);
            Arch::new().dispatch(|| {
                let (first, second) = head.split_at_mut(half);
                for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let (x, y) = (*a, *b);
                    let (c, s) = (c * scale, s * sign);
                    *a = x * c - y * s;
                    *b = y * c + x * s;
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_config::Rope;
    use crate::ops::testing::{close, lanes_of};
    use crate::threads::Threads;

    #[test]
    fn rotation_is_the_formula_and_rotating_back_undoes_it() {
        let (d, heads, n, ld) = (6, 3, 20, 48);
        let rope = Rope {
            theta: 50.0,
            scaling: None,
        };
        let positions: Vec<u32> = (0..13).chain(0..7).collect();
        let mut angles = Angles::default();
        angles.fill(&rope.frequencies(d), &positions, ld);
        let before = lanes_of("r", heads * d, n, ld);
        let mut after = before.clone();
        Cpu::new(&Threads::single(), &mut Default::default()).rotate(
            &mut after,
            ld,
            &angles,
            Rotation::Forward,
            0.5,
        );
        let mut expected = vec![0.0; before.len()];
        for h in 0..heads {
            for i in 0..d / 2 {
                for (t, position) in positions.iter().enumerate().take(n) {
                    let angle = f64::from(*position) * 50f64.powf(-2.0 * i as f64 / d as f64);
                    let (a, b) = ((h * d + i) * ld + t, (h * d + i + d / 2) * ld + t);
                    let (x, y) = (f64::from(before[a]), f64::from(before[b]));
                    expected[a] = (0.5 * (x * angle.cos() - y * angle.sin())) as f32;
                    expected[b] = (0.5 * (y * angle.cos() + x * angle.sin())) as f32;
                }
            }
        }
        close("rotated", &after, &expected, 1e-6);
        Cpu::new(&Threads::single(), &mut Default::default()).rotate(
            &mut after,
            ld,
            &angles,
            Rotation::Inverse,
            2.0,
        );
        close("rotated back", &after, &before, 1e-6);
    }
}
