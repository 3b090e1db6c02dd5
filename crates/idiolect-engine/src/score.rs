//! Scores of the targets of many rows.
//!
//! A row is computed as its prompt and what continues it, so that rows of one prompt that lie
//! together share one copy of it. A row's scores are the same bits whatever it shares, is packed
//! with or is computed beside.

use std::ops::ControlFlow;

use crate::batch::{RowFault, TokenRow, scored_runs, scored_tokens_at_a_time};
use crate::decoder::Decoder;
use crate::in_order::in_order;
use crate::ops::cpu::Cpu;
use crate::threads::Threads;
use crate::workspace::{Save, Workspace};

pub use crate::ops::head::scores::TargetScore;

/// Receives the scores of one row's targets, in their order; breaking stops the work.
pub type ScoreSink<'a> =
    &'a mut dyn FnMut(usize, Result<&[TargetScore], RowFault>) -> ControlFlow<()>;

/// The scores of a row's targets, and the most probable tokens at each with their
/// log-probabilities, those of one target after those of another.
pub(crate) type ScoresAndTop<'a> = (&'a [TargetScore], &'a [(u32, f32)]);

/// As [`ScoreSink`].
pub(crate) type TopSink<'a> =
    &'a mut dyn FnMut(usize, Result<ScoresAndTop<'_>, RowFault>) -> ControlFlow<()>;

/// Scores each row's targets. Threads take whole batches. The sink gets rows in order.
pub fn score_rows(decoder: &Decoder, rows: &[TokenRow], threads: &Threads, sink: ScoreSink<'_>) {
    score_rows_with_top(decoder, rows, 0, threads, &mut |row, result| {
        sink(row, result.map(|(scores, _)| scores))
    });
}

/// [`score_rows`] that also names the `n_top` most probable tokens (at most the vocabulary) at the
/// place of each target.
pub(crate) fn score_rows_with_top(
    decoder: &Decoder,
    rows: &[TokenRow],
    n_top: usize,
    threads: &Threads,
    sink: TopSink<'_>,
) {
    let config = decoder.config();
    let faults: Vec<Option<RowFault>> = rows.iter().map(|r| r.check(config).err()).collect();
    let (usable, places): (Vec<&TokenRow>, Vec<usize>) = (0..rows.len())
        .filter(|&i| faults[i].is_none())
        .map(|i| (&rows[i], i))
        .unzip();
    let batches = scored_runs(&usable, scored_tokens_at_a_time(config));
    let mut next = 0;
    let mut stopped = false;
    let mut refuse_before = |row: usize, sink: TopSink<'_>| {
        while next < row {
            let fault = faults[next].clone();
            next += 1;
            if let Some(fault) = fault {
                sink(next - 1, Err(fault))?;
            }
        }
        ControlFlow::Continue(())
    };
    in_order(
        threads.n(),
        batches.len(),
        |workspace: &mut Workspace, i| {
            score_batch(decoder, workspace, &usable[batches[i].clone()], n_top)
        },
        |i, (scores, top)| {
            let mut rest = (&scores[..], &top[..]);
            for row in batches[i].clone() {
                let n = usable[row].n_targets();
                let (own, after) = rest.0.split_at(n);
                let (own_top, after_top) = rest.1.split_at(n * n_top);
                rest = (after, after_top);
                let place = places[row];
                if refuse_before(place, sink).is_break()
                    || sink(place, Ok((own, own_top))).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        },
    );
    if !stopped {
        // Nothing is left to stop.
        let _: ControlFlow<()> = refuse_before(rows.len(), sink);
    }
}

fn score_batch(
    decoder: &Decoder,
    workspace: &mut Workspace,
    rows: &[&TokenRow],
    n_top: usize,
) -> (Vec<TargetScore>, Vec<(u32, f32)>) {
    let threads = Threads::single();
    workspace.batch.clear();
    workspace.batch.push_scored(rows.iter().copied());
    workspace.plan(decoder.config(), Save::Nothing);
    let mut memory = std::mem::take(&mut workspace.cpu);
    let cpu = &mut Cpu::new(&threads, &mut memory);
    workspace.forward(decoder, cpu);
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    let (mut scores, mut top) = (Vec::new(), Vec::new());
    let targets = &workspace.batch.targets;
    cpu.score(
        decoder.head(),
        (hidden, workspace.ld),
        targets,
        &mut scores,
        (n_top, &mut top),
    );
    workspace.cpu = memory;
    (scores, top)
}
