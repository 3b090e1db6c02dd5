//! The logits themselves, for sampling; threads share the vocabulary.

use std::sync::{Mutex, PoisonError};

use super::{Head, Target, chunk_lanes};
use crate::ops::cpu::Cpu;
use crate::ops::transpose::transpose;
use crate::ops::{Buffer, aligned, lanes, leading_dim, take};

/// Rows of the projection that one chunk of work computes of all logits.
const LOGIT_ROWS: usize = 256;

impl Cpu<'_> {
    /// Logits of some lanes, (columns, V) row by row, for sampling.
    pub(crate) fn logits(
        &mut self,
        head: Head<'_>,
        hidden: &[f32],
        ld: usize,
        columns: &[usize],
        out: &mut Vec<f32>,
    ) {
        let (vocab, width) = (head.vocab(), head.width);
        let chunk = leading_dim(columns.len().clamp(1, chunk_lanes(vocab)));
        out.clear();
        out.resize(columns.len() * vocab, 0.0);
        let mut gathered = Buffer::default();
        gathered.reserve(width * chunk);
        for (columns, out) in columns.chunks(chunk).zip(out.chunks_mut(chunk * vocab)) {
            let targets: Vec<Target> = columns
                .iter()
                .map(|&lane| Target {
                    lane,
                    token: 0,
                    weight: 0.0,
                })
                .collect();
            let n = targets.len();
            let gathered = gathered.get_mut(width * chunk);
            head.gather(gathered, chunk, hidden, ld, &targets);
            // Each chunk of work owns a piece of every row.
            let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
            pieces.resize_with(vocab.div_ceil(LOGIT_ROWS), Vec::new);
            for row in out.chunks_exact_mut(vocab) {
                for (piece, of_chunk) in row.chunks_mut(LOGIT_ROWS).zip(&mut pieces) {
                    of_chunk.push(piece);
                }
            }
            let pieces: Vec<Mutex<Vec<&mut [f32]>>> = pieces.into_iter().map(Mutex::new).collect();
            let gathered = &*gathered;
            self.for_chunks(pieces.len(), [], |i, [], scratch| {
                let mut pieces = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
                let first = i * LOGIT_ROWS;
                let rows = LOGIT_ROWS.min(vocab - first);
                let workspace = head.workspace(rows, lanes(n));
                let mut rest = aligned(scratch, LOGIT_ROWS * (chunk + n) + workspace);
                let workspace = take(&mut rest, workspace);
                let logits = &mut take(&mut rest, LOGIT_ROWS * chunk)[..rows * chunk];
                head.logits(workspace, (&mut *logits, chunk), first, gathered, n);
                transpose((rows, n), (logits, chunk), (&mut *rest, rows));
                for (piece, row) in pieces.iter_mut().zip(rest.chunks_exact(rows)) {
                    piece.copy_from_slice(row);
                }
            });
        }
    }
}
