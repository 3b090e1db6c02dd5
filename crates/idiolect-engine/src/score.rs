//! Scores of the targets of many rows.
//!
//! A row is computed as its prompt and what continues it, so that rows of one prompt that stand
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

/// Scores each row's targets. Threads take whole batches. The sink gets rows in order.
pub fn score_rows(decoder: &Decoder, rows: &[TokenRow], threads: &Threads, sink: ScoreSink<'_>) {
    let config = decoder.config();
    let faults: Vec<Option<RowFault>> = rows.iter().map(|r| r.check(config).err()).collect();
    let (usable, places): (Vec<&TokenRow>, Vec<usize>) = (0..rows.len())
        .filter(|&i| faults[i].is_none())
        .map(|i| (&rows[i], i))
        .unzip();
    let batches = scored_runs(&usable, scored_tokens_at_a_time(config));
    let mut next = 0;
    let mut stopped = false;
    let mut refuse_before = |row: usize, sink: ScoreSink<'_>| {
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
        |workspace: &mut Workspace, i| score_batch(decoder, workspace, &usable[batches[i].clone()]),
        |i, scores| {
            let mut rest = &scores[..];
            for row in batches[i].clone() {
                let (own, after) = rest.split_at(usable[row].n_targets());
                rest = after;
                let place = places[row];
                if refuse_before(place, sink).is_break() || sink(place, Ok(own)).is_break() {
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
) -> Vec<TargetScore> {
    let threads = Threads::single();
    workspace.batch.clear();
    workspace.batch.push_scored(rows.iter().copied());
    workspace.plan(decoder.config(), Save::Nothing);
    let mut memory = std::mem::take(&mut workspace.cpu);
    let cpu = &mut Cpu::new(&threads, &mut memory);
    workspace.forward(decoder, cpu);
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    let mut scores = Vec::new();
    let targets = &workspace.batch.targets;
    cpu.score(decoder.head(), hidden, workspace.ld, targets, &mut scores);
    workspace.cpu = memory;
    scores
}
