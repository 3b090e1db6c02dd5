//! Requests that come and leave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::super::live::{Live, LiveEnd, LiveQueue, LiveRequest, NotTaken, Reader};
use super::*;

/// What a reader received.
#[derive(Default)]
struct Received {
    pieces: Vec<String>,
    tokens: Vec<Written>,
    end: Option<Result<LiveEnd, RowError>>,
}

/// A client that leaves after so many pieces.
struct Client {
    received: Arc<Mutex<Received>>,
    gone: Arc<AtomicBool>,
    patience: usize,
}

impl Reader for Client {
    fn wanted(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }

    fn more(&mut self, tokens: Vec<Written>, text: String) {
        let mut received = self.received.lock().unwrap();
        received.tokens.extend(tokens);
        received.pieces.push(text);
        if received.pieces.len() == self.patience {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn end(&mut self, result: Result<LiveEnd, RowError>) {
        self.received.lock().unwrap().end = Some(result);
    }
}

/// A request of a prompt, and what its client receives.
fn live(
    tokenizer: &Tokenizer,
    request: &GenerateRequest,
    sampling: &Sampling,
    patience: usize,
) -> (LiveRequest, Arc<Mutex<Received>>) {
    let Context::Prompt(prompt) = &request.context else {
        panic!("a prompt");
    };
    let received = Arc::default();
    let request = LiveRequest {
        context: tokenizer.encode(prompt).unwrap().ids.into(),
        sampling: Arc::new(sampling.clone()),
        seed: request.seed,
        n_top: 2,
        stream: true,
        reader: Box::new(Client {
            received: Arc::clone(&received),
            gone: Arc::default(),
            patience,
        }),
    };
    (request, received)
}

fn serve<F: Fn(&[u32], &mut [f32])>(
    model: &mut Fake<F>,
    tokenizer: &Tokenizer,
    (slots, memory): (usize, usize),
    queue: &LiveQueue,
) {
    let config = GenerationConfig {
        tokenizer,
        limits: Limits {
            max_position_embeddings: 40,
            vocabulary: model.vocabulary,
        },
        slots,
        memory,
    };
    queue.close();
    generate(model, config, &mut Live::new(queue));
}

#[test]
fn each_request_has_its_own_sampling_and_the_text_it_has_alone() {
    let tokenizer = words();
    let samplings: Vec<Sampling> = [(0.0, 30), (0.8, 20), (1.0, 7), (1.5, 1)]
        .map(|(temperature, max_tokens)| Sampling {
            temperature,
            max_tokens,
            stop: vec!["7 9".to_owned()],
            ..Sampling::default()
        })
        .to_vec();
    let requests: Vec<_> = mixed_requests()
        .into_iter()
        .filter(|r| r.context != Context::Prompt(String::new()))
        .collect();
    // Memory for some of them at a time, so that some are preempted and written twice.
    for memory in [usize::MAX, 100, 40] {
        let queue = LiveQueue::new(100);
        let mut clients = Vec::new();
        for (request, sampling) in requests.iter().zip(samplings.iter().cycle()) {
            let (live, received) = live(&tokenizer, request, sampling, usize::MAX);
            queue.push(vec![live]).unwrap();
            let alone = run(
                &mut fake(13, scrambled),
                &tokenizer,
                1,
                std::slice::from_ref(request),
                sampling,
            );
            clients.push((received, alone[&0].clone().unwrap()));
        }
        serve(&mut fake(13, scrambled), &tokenizer, (9, memory), &queue);
        for (received, alone) in &clients {
            let received = received.lock().unwrap();
            assert_eq!(received.pieces.concat(), alone.text, "{memory}");
            let logprobs: Vec<f32> = received.tokens.iter().map(|token| token.logprob).collect();
            assert_eq!(logprobs, alone.logprobs);
            assert!(received.tokens.iter().all(|token| token.top.len() == 2));
            let end = received.end.clone().unwrap().unwrap();
            assert_eq!(end.finish, alone.finish);
        }
        let counts = queue.counts();
        assert_eq!((counts.waiting, counts.running, counts.dropped), (0, 0, 0));
    }
}

#[test]
fn who_leaves_frees_the_slot_and_is_told_no_more() {
    let tokenizer = words();
    let forever = |_: &[u32], logits: &mut [f32]| {
        logits.fill(-20.0);
        logits[3] = 0.0;
    };
    let sampling = Sampling::default();
    let queue = LiveQueue::new(8);
    let mut clients = Vec::new();
    for (patience, seed) in [(2, 0), (usize::MAX, 1), (5, 2), (usize::MAX, 3)] {
        let (live, received) = live(&tokenizer, &request("nums", seed), &sampling, patience);
        queue.push(vec![live]).unwrap();
        clients.push((received, patience));
    }
    let mut model = fake(13, forever);
    serve(&mut model, &tokenizer, (2, usize::MAX), &queue);
    for (received, patience) in clients {
        let received = received.lock().unwrap();
        assert_eq!(received.pieces.len(), patience.min(39));
        assert_eq!(received.end.is_some(), patience > 39);
    }
    let counts = queue.counts();
    assert_eq!((counts.dropped, counts.running), (2, 0));
    // The context once, and no more steps than texts.
    assert!(model.fed < 1 + 2 * 39 + 8, "{}", model.fed);
}

#[test]
fn a_full_queue_takes_all_of_a_request_or_nothing() {
    let tokenizer = words();
    let sampling = Sampling {
        max_tokens: 1,
        ..Sampling::default()
    };
    let queue = LiveQueue::new(3);
    let requests = |n| -> Vec<LiveRequest> {
        (0..n)
            .map(|seed| live(&tokenizer, &request("nums", seed), &sampling, usize::MAX).0)
            .collect()
    };
    assert_eq!(queue.push(requests(2)), Ok(()));
    assert_eq!(queue.push(requests(2)), Err(NotTaken::Full));
    assert_eq!(queue.counts().waiting, 2);
    assert_eq!(queue.push(requests(1)), Ok(()));
    serve(
        &mut fake(13, scrambled),
        &tokenizer,
        (2, usize::MAX),
        &queue,
    );
    assert_eq!(queue.counts().waiting, 0);
    assert_eq!(queue.push(requests(1)), Err(NotTaken::Closed));
}

#[test]
fn a_stop_string_is_never_shown_in_part() {
    let tokenizer = byte_level(true);
    let script = tokenizer.encode("one ## two €#### three").unwrap().ids;
    let sampling = Sampling {
        stop: vec!["####".to_owned()],
        ..Sampling::default()
    };
    let queue = LiveQueue::new(1);
    let (live, received) = live(&tokenizer, &request("a", 0), &sampling, usize::MAX);
    queue.push(vec![live]).unwrap();
    let mut model = fake(260, scripted(1, script, 259));
    serve(&mut model, &tokenizer, (1, usize::MAX), &queue);
    let received = received.lock().unwrap();
    assert_eq!(received.pieces.concat(), "one ## two €");
    assert!(received.pieces.len() > 4);
    let cumulative = received.pieces.iter().scan(String::new(), |text, piece| {
        text.push_str(piece);
        Some(text.clone())
    });
    // Nothing is taken back: each state is the beginning of the end.
    assert!(
        cumulative
            .into_iter()
            .all(|text| "one ## two €".starts_with(&text))
    );
}
