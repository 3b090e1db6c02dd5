//! The program of a response: the block that defines what the tests call, with the blocks that hold
//! what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::blocks::{Block, Kind, blocks};
use super::python::Names;
use crate::record::Finish;

/// The program of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) text: String,
    /// Where each line of it stands in the response, in bytes.
    pub(super) lines: Vec<Range<usize>>,
}

/// The program of a response; `wanted` are the names that its tests call. For each of them the last
/// block that defines it counts, else the last that defines anything, else the last; with it come
/// the blocks that define what it uses, in the order of the response, so that a later definition
/// wins. A response that was cut (`finish` is `length`) counts code that was complete before the cut.
pub(super) fn extract(text: &str, finish: Finish, wanted: &[String]) -> Option<Code> {
    let blocks = blocks(text, finish == Finish::Length, wanted);
    let texts: Vec<String> = blocks.iter().map(|block| block_text(text, block)).collect();
    let names: Vec<Names<'_>> = texts.iter().map(|code| Names::of(code)).collect();
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    for name in wanted {
        let last = |fits: &dyn Fn(usize) -> bool| (0..blocks.len()).rev().find(|&i| fits(i));
        let plain = |i: usize| names[i].binds(name) && blocks[i].kind != Kind::Assignments;
        chosen.extend(last(&plain).or_else(|| last(&|i| names[i].binds(name))));
    }
    if chosen.is_empty() {
        chosen.insert(fallback(&blocks, &names)?);
    }
    let chosen = with_needs(chosen, &names);
    Some(joined(text, chosen.iter().map(|&i| &blocks[i])))
}

fn block_text(text: &str, block: &Block) -> String {
    let lines: Vec<&str> = block.lines.iter().map(|line| &text[line.clone()]).collect();
    lines.join("\n")
}

/// The block that is meant where none defines what the tests call.
fn fallback(blocks: &[Block], names: &[Names<'_>]) -> Option<usize> {
    let of = |kinds: &[Kind], defines: bool| {
        (0..blocks.len())
            .rev()
            .find(|&i| kinds.contains(&blocks[i].kind) && !(defines && names[i].defined.is_empty()))
    };
    of(&[Kind::Marked, Kind::Other], true)
        .or_else(|| of(&[Kind::Marked], false))
        .or_else(|| of(&[Kind::Bare], false))
}

/// The blocks, and those that bind what they use and do not bind themselves, or bind again later.
fn with_needs(mut chosen: BTreeSet<usize>, names: &[Names<'_>]) -> BTreeSet<usize> {
    let mut defines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut gives: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, block) in names.iter().enumerate() {
        for name in &block.defined {
            defines.entry(name).or_default().push(i);
        }
        for name in block.imported.iter().chain(&block.assigned) {
            gives.entry(name).or_default().push(i);
        }
    }
    let mut open: Vec<usize> = chosen.iter().copied().collect();
    while let Some(i) = open.pop() {
        let block = &names[i];
        let mut needs: Vec<usize> = Vec::new();
        for name in &block.used {
            let definitions = defines.get(name).map_or(&[][..], Vec::as_slice);
            let given = gives.get(name).map_or(&[][..], Vec::as_slice);
            let earlier = |of: &[usize]| of.iter().rev().find(|&&j| j < i).copied();
            if block.defined.contains(name) {
                needs.extend(definitions.last().filter(|&&j| j > i));
            } else if block.assigned.contains(name) {
                // `f = cached(f)`
                needs.extend(earlier(definitions));
            } else if !block.imported.contains(name) && !block.inner.contains(name) {
                let last = definitions.last().copied();
                needs.extend(last.or_else(|| earlier(given)).or(given.last().copied()));
            }
        }
        needs.extend((0..i).filter(|&j| names[j].imports_all));
        open.extend(needs.into_iter().filter(|&j| chosen.insert(j)));
    }
    chosen
}

/// The blocks as one program; imports from `__future__` must come first.
fn joined<'a>(text: &str, blocks: impl Iterator<Item = &'a Block>) -> Code {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut future: Vec<Range<usize>> = Vec::new();
    for (i, block) in blocks.enumerate() {
        for line in &block.lines {
            let is_future = text[line.clone()].starts_with("from __future__ import");
            let to = if i > 0 && is_future {
                &mut future
            } else {
                &mut lines
            };
            to.push(line.clone());
        }
    }
    future.append(&mut lines);
    let texts: Vec<&str> = future.iter().map(|line| &text[line.clone()]).collect();
    Code {
        text: texts.join("\n"),
        lines: future,
    }
}
