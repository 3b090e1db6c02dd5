//! Embedding: rows of a table into lanes.

use super::cpu::Cpu;
use super::operand::Stored;

impl Cpu<'_> {
    /// Embedding.
    ///
    /// - `out`: (C, T) lanes of leading dimension `ld`, overwritten; lanes beyond T become 0
    /// - `table`: (V, C)
    /// - `ids`: (T), each below V
    ///
    /// out[c, n] = scale · table[ids[n], c]
    ///
    /// # Panics
    /// When an id is not below V; a programmer mistake.
    pub(crate) fn embed(
        &mut self,
        out: &mut [f32],
        ld: usize,
        table: Stored<'_>,
        ids: &[u32],
        scale: f32,
    ) {
        let width = out.len() / ld;
        const ROWS: usize = 64;
        self.for_chunks(
            width.div_ceil(ROWS),
            [(out, ROWS * ld)],
            |chunk, [out], scratch| {
                let channels = chunk * ROWS..(chunk * ROWS + ROWS).min(width);
                for (n, &id) in ids.iter().enumerate() {
                    let row = table.skip(id as usize * width + channels.start);
                    let row = row.first(channels.len(), super::aligned(scratch, ROWS));
                    for (c, value) in row.iter().enumerate() {
                        out[c * ld + n] = scale * value;
                    }
                }
                super::clear_beyond(out, ids.len(), ld);
            },
        );
    }
}

/// Embedding, backward.
///
/// - `d_table`: (V, C), accumulated into
/// - `d_out`: (C, T) lanes of leading dimension `ld`
/// - `ids`, `scale`: as given to [`embed`]
///
/// Tokens are added in their order, so that equal ids always sum alike.
pub(crate) fn embed_backward(
    d_table: &mut [f32],
    d_out: &[f32],
    ld: usize,
    ids: &[u32],
    scale: f32,
) {
    let width = d_out.len() / ld;
    for (n, &id) in ids.iter().enumerate() {
        let row = &mut d_table[id as usize * width..][..width];
        for (c, d) in row.iter_mut().enumerate() {
            *d += scale * d_out[c * ld + n];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::normal;
    use crate::threads::Threads;

    #[test]
    fn rows_become_lanes_and_gradients_scatter_back() {
        let (width, ld, ids) = (70, 16, [3u32, 0, 3]);
        let table = normal("e", 5 * width, 1.0);
        let mut out = vec![7.0; width * ld];
        Cpu::new(&Threads::single(), &mut Default::default()).embed(
            &mut out,
            ld,
            Stored::F32(&table),
            &ids,
            2.0,
        );
        let mut d_table = vec![1.0; 5 * width];
        embed_backward(&mut d_table, &out, ld, &ids, 0.5);
        for c in 0..width {
            for n in 0..ld {
                let expected = ids
                    .get(n)
                    .map_or(0.0, |&id| 2.0 * table[id as usize * width + c]);
                assert_eq!(out[c * ld + n], expected);
            }
            assert_eq!(d_table[width + c], 1.0);
            assert_eq!(d_table[c], 1.0 + table[c]);
            let twice = 1.0 + table[3 * width + c] + table[3 * width + c];
            assert!((d_table[3 * width + c] - twice).abs() < 1e-6);
        }
    }
}
