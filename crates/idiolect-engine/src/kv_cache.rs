//! The forward pass over a cache of keys and values: what sampling needs.
//!
//! A prompt is computed once ([`forward_prompts`]) and its keys and values, contiguous and then
//! never changed, are shared by all sequences that continue it without a copy. What a sequence
//! writes itself lies in pages of `PAGE` tokens ([`forward_step`]), so that memory follows what
//! was written and not what might be.
//!
//! A sequence's result does not depend on what else is in the call, to the bit: products are per
//! lane or per row, and softmax is per query. Choosing tokens is another module's business.

use std::ops::Range;

use crate::decoder::Decoder;
use crate::model_config::ModelConfig;
use crate::ops::attention::Segment;
use crate::ops::cpu::Cpu;
use crate::ops::decode_attention::DecodeAttention;
use crate::ops::kv_cache::{KvBuffer, KvShape, PAGE};
use crate::ops::{Buffer, leading_dim};
use crate::threads::Threads;
use crate::workspace::{Save, Workspace};

pub use crate::ops::kv_cache::{PagePool, Prompt, Sequence};

/// Tokens of a prompt that are computed in one go; a longer one continues what was computed, so
/// that activations stay bounded. Where it is cut depends on the prompt alone.
const PROMPT_TOKENS: usize = 1024;

/// Bytes of keys and values that `tokens` written tokens take at most, in whole pages.
pub(crate) fn page_bytes(config: &ModelConfig, tokens: usize) -> usize {
    tokens.div_ceil(PAGE) * shape(config).floats(PAGE) * size_of::<f32>()
}

/// Bytes of keys and values that a prompt of `tokens` takes.
pub(crate) fn prompt_bytes(config: &ModelConfig, tokens: usize) -> usize {
    shape(config).floats(leading_dim(tokens)) * size_of::<f32>()
}

fn shape(config: &ModelConfig) -> KvShape {
    KvShape {
        layers: config.layers,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
    }
}

/// Computes prompts. `logits` becomes (B, V) row by row: those after the last token of each.
///
/// # Panics
/// When a prompt is empty or a token is not below the vocabulary; a programmer mistake.
pub fn forward_prompts(
    decoder: &Decoder,
    workspace: &mut Workspace,
    tokens: &[&[u32]],
    threads: &Threads,
    logits: &mut Vec<f32>,
) -> Vec<Prompt> {
    let config = decoder.config();
    let (shape, vocab) = (shape(config), config.vocab);
    logits.clear();
    logits.resize(tokens.len() * vocab, 0.0);
    let mut prompts: Vec<Prompt> = tokens
        .iter()
        .map(|ids| Prompt {
            store: KvBuffer::new(shape, leading_dim(ids.len())),
            len: 0,
        })
        .collect();
    let mut memory = std::mem::take(&mut workspace.cpu);
    let cpu = &mut Cpu::new(threads, &mut memory);
    let mut last = Vec::new();
    while let Some(pieces) = next_pieces(&prompts, tokens) {
        forward_pieces(decoder, workspace, &mut prompts, tokens, &pieces, cpu);
        let ended: Vec<(usize, usize)> = pieces
            .iter()
            .zip(lane_ends(&pieces))
            .filter(|(piece, _)| piece.tokens.end == tokens[piece.prompt].len())
            .map(|(piece, end)| (piece.prompt, end - 1))
            .collect();
        let columns: Vec<usize> = ended.iter().map(|(_, lane)| *lane).collect();
        logits_of(decoder, workspace, &columns, cpu, &mut last);
        for ((prompt, _), row) in ended.iter().zip(last.chunks_exact(vocab)) {
            logits[prompt * vocab..][..vocab].copy_from_slice(row);
        }
    }
    workspace.cpu = memory;
    prompts
}

/// Tokens of one prompt that are computed together.
struct Piece {
    prompt: usize,
    tokens: Range<usize>,
}

/// What to compute next: pieces of prompts in their order, at least one, together at most
/// [`PROMPT_TOKENS`] where there are several.
fn next_pieces(prompts: &[Prompt], tokens: &[&[u32]]) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut sum = 0;
    for (prompt, (done, ids)) in prompts.iter().map(|p| p.len).zip(tokens).enumerate() {
        assert!(!ids.is_empty(), "nothing to compute for a prompt");
        let end = ids.len().min(done + PROMPT_TOKENS);
        if done == end {
            continue;
        }
        sum += end - done;
        if sum > PROMPT_TOKENS && !pieces.is_empty() {
            break;
        }
        let tokens = done..end;
        pieces.push(Piece { prompt, tokens });
    }
    (!pieces.is_empty()).then_some(pieces)
}

/// For each piece the lane behind its last token.
fn lane_ends(pieces: &[Piece]) -> impl Iterator<Item = usize> {
    pieces.iter().scan(0, |end, piece| {
        *end += piece.tokens.len();
        Some(*end)
    })
}

/// Computes some tokens of prompts and caches their keys and values.
fn forward_pieces(
    decoder: &Decoder,
    workspace: &mut Workspace,
    prompts: &mut [Prompt],
    tokens: &[&[u32]],
    pieces: &[Piece],
    cpu: &mut Cpu<'_>,
) {
    workspace.batch.clear();
    for piece in pieces {
        let ids = &tokens[piece.prompt][piece.tokens.clone()];
        workspace.batch.push_tokens(ids, piece.tokens.start);
    }
    workspace.plan(decoder.config(), Save::Nothing);
    workspace.forward_with(decoder, cpu, |layer, saved, batch, ld, cpu| {
        let (config, index) = (layer.config, layer.index);
        let (q_rows, part) = (config.attention_rows() * ld, config.head_dim * ld);
        let qkv = saved.qkv.get(config.qkv_rows() * ld);
        let out = saved.attention.get_mut(q_rows);
        let (fresh, begun): (Vec<_>, Vec<_>) = pieces
            .iter()
            .zip(batch.segments.iter().copied())
            .partition(|(piece, _)| piece.tokens.start == 0);
        let fresh: Vec<Segment> = fresh.into_iter().map(|(_, segment)| segment).collect();
        let lse = saved.lse.get_mut(config.heads * ld);
        cpu.attention(&layer.heads, (&fresh, ld), out, lse, qkv);
        let begun: Vec<(&Prompt, Segment)> = begun
            .into_iter()
            .map(|(piece, segment)| (&prompts[piece.prompt], segment))
            .collect();
        cpu.cached_prefix_attention(&layer.heads, index, (&begun, ld), out, qkv);
        let (k, v) = qkv[q_rows..].split_at(config.kv_heads * part);
        for (piece, s) in pieces.iter().zip(&batch.segments) {
            let store = &mut prompts[piece.prompt].store;
            store.put_lanes(index, piece.tokens.start, (k, v), ld, *s);
        }
    });
    for piece in pieces {
        prompts[piece.prompt].len = piece.tokens.end;
    }
}

/// Computes the next token of each sequence and caches its keys and values. `logits` becomes
/// (B, V) row by row: those after it. Sequences of one prompt that follow each other read its keys
/// and values once.
///
/// # Panics
/// When there are not as many sequences as tokens, or a token is not below the vocabulary; a
/// programmer mistake.
pub fn forward_step(
    decoder: &Decoder,
    workspace: &mut Workspace,
    pages: &mut PagePool,
    sequences: &mut [Sequence],
    tokens: &[u32],
    threads: &Threads,
    logits: &mut Vec<f32>,
) {
    assert_eq!(sequences.len(), tokens.len(), "one token a sequence");
    logits.clear();
    if tokens.is_empty() {
        return;
    }
    workspace.batch.clear();
    for (sequence, id) in sequences.iter_mut().zip(tokens) {
        pages.extend(sequence);
        workspace
            .batch
            .push_tokens(std::slice::from_ref(id), sequence.len());
    }
    workspace.plan(decoder.config(), Save::Nothing);
    let mut memory = std::mem::take(&mut workspace.cpu);
    let cpu = &mut Cpu::new(threads, &mut memory);
    let mut rows = Buffer::default();
    rows.reserve(tokens.len() * decoder.config().attention_rows());
    workspace.forward_with(decoder, cpu, |layer, saved, _, ld, cpu| {
        let config = layer.config;
        cpu.decode_attention(DecodeAttention {
            heads: &layer.heads,
            layer: layer.index,
            ld,
            sequences: &mut *sequences,
            out: saved.attention.get_mut(config.attention_rows() * ld),
            qkv: saved.qkv.get(config.qkv_rows() * ld),
            rows: rows.get_mut(tokens.len() * config.attention_rows()),
        });
    });
    for sequence in sequences {
        sequence.written += 1;
    }
    let columns: Vec<usize> = (0..tokens.len()).collect();
    logits_of(decoder, workspace, &columns, cpu, logits);
    workspace.cpu = memory;
}

fn logits_of(
    decoder: &Decoder,
    workspace: &Workspace,
    columns: &[usize],
    cpu: &mut Cpu<'_>,
    logits: &mut Vec<f32>,
) {
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    cpu.logits(decoder.head(), hidden, workspace.ld, columns, logits);
}
