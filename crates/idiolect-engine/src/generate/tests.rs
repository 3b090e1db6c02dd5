use std::collections::BTreeMap;
use std::rc::Rc;

use idiolect_model::{Completion, Context, GenerateRequest, Sampling};

use super::queue::{Encoder, Queue, Queued};
use super::*;
use crate::tokenizer::tests::{byte_level, words};

/// Logits are a function of all tokens before; those are its cache. Every token takes a
/// byte.
struct Fake<F> {
    vocabulary: usize,
    logits: F,
    /// Tokens computed in all.
    fed: usize,
    /// Most rows in one go.
    widest: usize,
    /// Most bytes held at a step.
    fullest: usize,
}

impl<F: Fn(&[u32], &mut [f32])> NextToken for Fake<F> {
    type Prompt = Rc<Vec<u32>>;
    type Sequence = (Rc<Vec<u32>>, Vec<u32>);

    fn prompts(&mut self, contexts: &[&[u32]], logits: &mut Vec<f32>) -> Vec<Self::Prompt> {
        logits.resize(contexts.len() * self.vocabulary, 0.0);
        for (ids, logits) in contexts.iter().zip(logits.chunks_mut(self.vocabulary)) {
            assert!(!ids.is_empty());
            self.fed += ids.len();
            (self.logits)(ids, logits);
        }
        contexts.iter().map(|ids| Rc::new(ids.to_vec())).collect()
    }

    fn sequence(&mut self, prompt: &Self::Prompt) -> Self::Sequence {
        (Rc::clone(prompt), Vec::new())
    }

    fn step(&mut self, sequences: &mut [Self::Sequence], tokens: &[u32], logits: &mut Vec<f32>) {
        assert_eq!(sequences.len(), tokens.len());
        self.widest = self.widest.max(sequences.len());
        self.fed += tokens.len();
        logits.resize(sequences.len() * self.vocabulary, 0.0);
        let rows = logits.chunks_mut(self.vocabulary);
        let (mut held, mut prompts) = (0, Vec::new());
        for (((prompt, written), token), logits) in sequences.iter_mut().zip(tokens).zip(rows) {
            written.push(*token);
            held += written.len();
            if !prompts.contains(&Rc::as_ptr(prompt)) {
                prompts.push(Rc::as_ptr(prompt));
                held += prompt.len();
            }
            (self.logits)(&[&prompt[..], written].concat(), logits);
        }
        self.fullest = self.fullest.max(held);
    }

    fn end(&mut self, _: Self::Sequence) {}

    fn keep_spare(&mut self, _: usize) {}

    fn prompt_bytes(&self, tokens: usize) -> usize {
        tokens
    }

    fn written_bytes(&self, tokens: usize) -> usize {
        tokens
    }
}

/// Logits that look random and depend on every token before.
fn scrambled(tokens: &[u32], logits: &mut [f32]) {
    let key: Vec<String> = tokens.iter().map(u32::to_string).collect();
    let mut rng = Rng::keyed(3, &[&key.join(" ")]);
    logits.fill_with(|| 2.0 * rng.normal() as f32);
}

/// Writes `script` whatever came before, then the end token.
fn scripted(prompt: usize, script: Vec<u32>, end: u32) -> impl Fn(&[u32], &mut [f32]) {
    move |tokens, logits| {
        logits.fill(-20.0);
        logits[*script.get(tokens.len() - prompt).unwrap_or(&end) as usize] = 0.0;
    }
}

fn fake<F: Fn(&[u32], &mut [f32])>(vocabulary: usize, logits: F) -> Fake<F> {
    Fake {
        vocabulary,
        logits,
        fed: 0,
        widest: 0,
        fullest: 0,
    }
}

fn request(prompt: &str, seed: u64) -> GenerateRequest {
    GenerateRequest {
        context: Context::Prompt(prompt.to_owned()),
        seed,
    }
}

type Results = BTreeMap<usize, Result<Completion, RowError>>;

fn run<F: Fn(&[u32], &mut [f32])>(
    model: &mut Fake<F>,
    tokenizer: &Tokenizer,
    slots: usize,
    requests: &[GenerateRequest],
    sampling: &Sampling,
) -> Results {
    run_within(model, tokenizer, (slots, usize::MAX), requests, sampling)
}

fn run_within<F: Fn(&[u32], &mut [f32])>(
    model: &mut Fake<F>,
    tokenizer: &Tokenizer,
    (slots, memory): (usize, usize),
    requests: &[GenerateRequest],
    sampling: &Sampling,
) -> Results {
    let limits = Limits {
        max_position_embeddings: 40,
        vocabulary: model.vocabulary,
    };
    let mut results = Results::new();
    let mut sink = |index, result| {
        assert!(
            results.insert(index, result).is_none(),
            "request {index} came twice"
        );
        ControlFlow::Continue(())
    };
    let config = GenerationConfig {
        tokenizer,
        limits,
        slots,
        memory,
    };
    let mut source = Queued {
        queue: &Queue::new(requests),
        encoder: Encoder {
            tokenizer,
            chat: None,
            limits,
        },
        sampling,
        sink: &mut sink,
    };
    generate(model, config, &mut source);
    results
}

fn mixed_requests() -> Vec<GenerateRequest> {
    let prompts = [
        "nums 3",
        "nums 3",
        "nums 3",
        "7",
        "nums 3",
        "2 ->",
        "2 ->",
        "",
        "19 | 3 * 7",
    ];
    prompts
        .iter()
        .cycle()
        .take(60)
        .enumerate()
        .map(|(i, p)| request(p, i as u64 / 2))
        .collect()
}

#[test]
fn the_number_of_slots_changes_no_text_and_no_logprob() {
    let sampling = Sampling {
        max_tokens: 20,
        temperature: 0.9,
        top_p: 0.95,
        ..Sampling::default()
    };
    let requests = mixed_requests();
    let alone = run(&mut fake(13, scrambled), &words(), 1, &requests, &sampling);
    assert_eq!(alone.len(), requests.len());
    for slots in [2, 5, 64] {
        let mut model = fake(13, scrambled);
        assert_eq!(
            run(&mut model, &words(), slots, &requests, &sampling),
            alone,
            "{slots} slots"
        );
        assert!(model.widest <= slots);
    }
    // The empty prompt fails alone.
    assert_eq!(alone.values().filter(|r| r.is_err()).count(), 6);
    // Equal seeds and prompts give equal texts, and other seeds other texts.
    assert_eq!(alone[&0], alone[&1]);
    assert_ne!(alone[&1], alone[&2]);
}

#[test]
fn the_memory_is_never_exceeded_and_changes_no_text() {
    let sampling = Sampling {
        max_tokens: 30,
        ..Sampling::default()
    };
    let requests = mixed_requests();
    let plenty = run(&mut fake(13, scrambled), &words(), 16, &requests, &sampling);
    let lengths = plenty.values().flatten().map(|c| c.n_tokens);
    let longest = lengths.max().unwrap();
    assert!(longest > 20, "{longest}: some are far longer than expected");
    // From memory for one sequence to memory for most.
    for memory in [37, 40, 60, 100, 200] {
        let mut model = fake(13, scrambled);
        let got = run_within(&mut model, &words(), (16, memory), &requests, &sampling);
        assert_eq!(got, plenty, "{memory} bytes");
        assert!(model.fullest <= memory, "{} of {memory}", model.fullest);
    }
}

#[test]
fn a_request_that_cannot_fit_alone_is_refused_with_the_sizes() {
    let sampling = Sampling {
        max_tokens: 20,
        ..Sampling::default()
    };
    let requests = [request("nums 3 7 2 -> 19 |", 0), request("nums", 0)];
    let mut model = fake(13, scrambled);
    let got = run_within(&mut model, &words(), (4, 24), &requests, &sampling);
    let reason = &got[&0].as_ref().unwrap_err().reason;
    assert!(reason.contains("7 tokens and up to 20 more"), "{reason}");
    assert!(reason.contains("--max-tokens"), "{reason}");
    assert!(got[&1].is_ok());
}

#[test]
fn equal_contexts_that_stand_together_are_computed_once() {
    let requests: Vec<_> = (0..24).map(|i| request("nums 3 7 2 -> 19 |", i)).collect();
    let one = Sampling {
        max_tokens: 1,
        ..Sampling::default()
    };
    for slots in [1, 3, 64] {
        let mut model = fake(13, scrambled);
        run(&mut model, &words(), slots, &requests, &one);
        assert_eq!(model.fed, 7, "{slots} slots");
    }
}

#[test]
fn greedy_takes_the_largest_whatever_the_seed() {
    let greedy = Sampling {
        temperature: 0.0,
        max_tokens: 6,
        ..Sampling::default()
    };
    let requests = [request("nums", 1), request("nums", 2)];
    let results = run(
        &mut fake(13, scripted(1, vec![3, 9, 4], 1)),
        &words(),
        4,
        &requests,
        &greedy,
    );
    let expected = results[&0].clone().unwrap();
    assert_eq!(
        (expected.text.as_str(), expected.finish),
        (" 3 * 7", Finish::Stop)
    );
    assert_eq!((expected.n_tokens, expected.logprobs.len()), (3, 3));
    assert_eq!(results[&0], results[&1]);
}

#[test]
fn the_token_limit_and_the_models_positions_end_with_length() {
    let forever = |_: &[u32], logits: &mut [f32]| {
        logits.fill(-20.0);
        logits[3] = 0.0;
    };
    for (max_tokens, written) in [(0, 0), (5, 5), (1000, 39)] {
        let sampling = Sampling {
            max_tokens,
            ..Sampling::default()
        };
        let results = run(
            &mut fake(13, forever),
            &words(),
            2,
            &[request("nums", 0)],
            &sampling,
        );
        let completion = results[&0].clone().unwrap();
        assert_eq!(
            (completion.n_tokens, completion.finish),
            (written, Finish::Length)
        );
        assert_eq!(completion.text, " 3".repeat(written));
    }
}

#[test]
fn a_stop_string_is_found_across_tokens_and_cut_with_its_tokens() {
    let tokenizer = byte_level(true);
    let script = tokenizer.encode("hi up##then more").unwrap().ids;
    let stop = |stop: &[&str]| {
        let stop = stop.iter().map(|s| (*s).to_owned()).collect();
        let sampling = Sampling {
            stop,
            ..Sampling::default()
        };
        let mut model = fake(260, scripted(1, script.clone(), 259));
        run(&mut model, &tokenizer, 1, &[request("a", 0)], &sampling)[&0]
            .clone()
            .unwrap()
    };
    let cut = stop(&["##t"]);
    assert_eq!(
        (cut.text.as_str(), cut.finish, cut.n_tokens),
        ("hi up", Finish::Stop, 2)
    );
    // " up" is one token: it began before the stop string and counts as written.
    let inside = stop(&["up"]);
    assert_eq!((inside.text.as_str(), inside.n_tokens), ("hi ", 2));
    // Of two that are complete at once the one that begins first.
    assert_eq!(stop(&["p##", "up##"]).text, "hi ");
    let never = stop(&["###"]);
    assert_eq!(
        (never.text.as_str(), never.finish),
        ("hi up##then more", Finish::Stop)
    );
}

#[test]
fn characters_of_many_tokens_come_out_whole_and_cut_ones_as_replacement() {
    let tokenizer = byte_level(true);
    let script = tokenizer.encode("a\u{1f600}é").unwrap().ids;
    let run = |max_tokens, stop: Vec<String>| {
        let sampling = Sampling {
            max_tokens,
            stop,
            ..Sampling::default()
        };
        let mut model = fake(260, scripted(1, script.clone(), 259));
        run(&mut model, &tokenizer, 1, &[request("a", 0)], &sampling)[&0]
            .clone()
            .unwrap()
            .text
    };
    assert_eq!(run(99, Vec::new()), "a\u{1f600}é");
    assert_eq!(run(99, vec!["é".to_owned()]), "a\u{1f600}");
    assert_eq!(run(3, Vec::new()), "a\u{fffd}");
}

#[test]
fn every_listed_end_token_stops() {
    let config = serde_json::json!({"eos_token_id": [259, 7]});
    let plain = byte_level(true);
    let mut model = fake(260, scripted(1, vec![5, 7, 6], 259));
    let listed = Tokenizer::with_ends(plain, &config);
    let results = run(
        &mut model,
        &listed,
        1,
        &[request("a", 0)],
        &Sampling::default(),
    );
    assert_eq!(results[&0].as_ref().unwrap().n_tokens, 1);
}

#[test]
fn logits_that_are_no_numbers_refuse_the_row_alone() {
    let broken = |tokens: &[u32], logits: &mut [f32]| {
        scrambled(tokens, logits);
        if tokens[0] == 4 {
            logits[2] = f32::NAN;
        }
    };
    let requests = [request("nums", 0), request("7", 0), request("nums", 1)];
    let results = run(
        &mut fake(13, broken),
        &words(),
        3,
        &requests,
        &Sampling::default(),
    );
    assert!(
        results[&1]
            .as_ref()
            .unwrap_err()
            .reason
            .contains("not finite")
    );
    assert!(results[&0].is_ok() && results[&2].is_ok());
}

#[test]
fn a_broken_sink_stops_the_work() {
    let requests = mixed_requests();
    let mut seen = 0;
    let limits = Limits {
        max_position_embeddings: 40,
        vocabulary: 13,
    };
    let mut sink = |_, _| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let sampling = Sampling {
        max_tokens: 4,
        ..Sampling::default()
    };
    let tokenizer = &words();
    let config = GenerationConfig {
        tokenizer,
        limits,
        slots: 2,
        memory: usize::MAX,
    };
    let mut source = Queued {
        queue: &Queue::new(&requests),
        encoder: Encoder {
            tokenizer,
            chat: None,
            limits,
        },
        sampling: &sampling,
        sink: &mut sink,
    };
    generate(&mut fake(13, scrambled), config, &mut source);
    assert_eq!(seen, 3);
}

mod live;
