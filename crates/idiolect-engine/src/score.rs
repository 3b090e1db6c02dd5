//! Scores of the targets of many rows.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use crate::batch::{RowFault, TokenRow, runs, tokens_at_a_time};
use crate::decoder::{Decoder, Keep, Workspace};
use crate::ops::head::score;
use crate::threads::Threads;

pub use crate::ops::head::TargetScore;

/// Receives the scores of one row's targets, in their order; breaking stops the work.
pub type ScoreSink<'a> =
    &'a mut dyn FnMut(usize, Result<&[TargetScore], RowFault>) -> ControlFlow<()>;

/// Scores each row's targets. Rows are packed in their order; threads take whole batches, and
/// neither batch nor thread changes a bit of a row's scores. The sink gets rows in order.
pub fn score_rows(decoder: &Decoder, rows: &[TokenRow], threads: &Threads, sink: ScoreSink<'_>) {
    let faults: Vec<Option<RowFault>> = rows
        .iter()
        .map(|r| r.check(decoder.facts()).err())
        .collect();
    let n_inputs = rows
        .iter()
        .zip(&faults)
        .map(|(r, f)| if f.is_none() { r.n_inputs() } else { 0 });
    let batches = runs(n_inputs, tokens_at_a_time(decoder.facts()));
    let slots: Vec<Mutex<Slot>> = (0..threads.n())
        .map(|_| Mutex::new(Slot::default()))
        .collect();
    let lock = |i: usize| slots[i].lock().unwrap_or_else(PoisonError::into_inner);
    for wave in batches.chunks(threads.n()) {
        threads.run(wave.len(), &|_, i| {
            let batch = wave[i].clone();
            let usable = rows[batch.clone()].iter().zip(&faults[batch]);
            lock(i).score(decoder, usable.filter(|(_, f)| f.is_none()).map(|(r, _)| r));
        });
        for (i, batch) in wave.iter().enumerate() {
            let slot = lock(i);
            let mut rest = &slot.scores[..];
            for row in batch.clone() {
                let result = match &faults[row] {
                    Some(fault) => Err(fault.clone()),
                    None => {
                        let (own, after) = rest.split_at(rows[row].n_targets());
                        rest = after;
                        Ok(own)
                    }
                };
                if sink(row, result).is_break() {
                    return;
                }
            }
        }
    }
}

/// What one batch in flight needs.
#[derive(Default)]
struct Slot {
    workspace: Workspace,
    scores: Vec<TargetScore>,
}

impl Slot {
    fn score<'a>(&mut self, decoder: &Decoder, rows: impl Iterator<Item = &'a TokenRow>) {
        let Self { workspace, scores } = self;
        workspace.batch.clear();
        rows.for_each(|row| workspace.batch.push_row(row, 1.0));
        scores.clear();
        if workspace.batch.ids.is_empty() {
            return;
        }
        let threads = Threads::single();
        workspace.plan(decoder.facts(), Keep::Last, &threads);
        workspace.forward(decoder, &threads);
        let hidden = workspace
            .normed
            .get(decoder.facts().hidden * workspace.stride);
        let targets = &workspace.batch.targets;
        score(
            decoder.head(),
            hidden,
            workspace.stride,
            targets,
            scores,
            &mut workspace.scratch[0],
        );
    }
}
