use std::fs;
use std::path::PathBuf;

use idiolect_model::{
    Context, Finish, RowErrorKind, SaveDtype, Schedule, StepSize, Train, TrainEvent, TrainSettings,
};

use super::*;
use crate::directory::tests::stories_dir;

mod training;

fn stories(threads: usize) -> LocalModel {
    LocalModel::load(&stories_dir(), None, threads).unwrap()
}

fn prompt(text: &str) -> Context {
    Context::Prompt(text.to_owned())
}

fn example(context: &str, completion: &str) -> Example {
    Example::new(prompt(context), completion)
}

fn scores(model: &mut LocalModel, examples: &[Example]) -> Vec<Result<Scored, RowError>> {
    let mut results = Vec::new();
    let mut sink = |index, result| {
        assert_eq!(index, results.len(), "rows come in order");
        results.push(result);
        ControlFlow::Continue(())
    };
    model.score(examples, &mut sink).unwrap();
    results
}

fn texts(
    model: &mut LocalModel,
    requests: &[GenerateRequest],
    sampling: &Sampling,
) -> Vec<Completion> {
    let mut results: Vec<Option<Completion>> = vec![None; requests.len()];
    let mut sink = |index: usize, result: Result<Completion, RowError>| {
        assert!(results[index].replace(result.unwrap()).is_none());
        ControlFlow::Continue(())
    };
    model.generate(requests, sampling, &mut sink).unwrap();
    results.into_iter().map(Option::unwrap).collect()
}

fn nll(scored: &Scored) -> f64 {
    scored
        .tokens
        .iter()
        .map(|t| f64::from(-t.logprob))
        .sum::<f64>()
        / scored.tokens.len() as f64
}

const STORY: &str = ", there was a little girl named Lily. She loved to play outside in the park.";

#[test]
fn a_trained_model_finds_english_stories_likely_and_noise_unlikely() {
    let mut model = stories(2);
    let examples = [
        example("Once upon a time", STORY),
        example("Once upon a time", " zq xvk 77 jj% qqq wvu"),
        example("Once", ""),
        example("", "Once upon a time"),
    ];
    let results = scores(&mut model, &examples);
    let story = results[0].as_ref().unwrap();
    assert!((0.5..2.0).contains(&nll(story)), "{}", nll(story));
    let noise = results[1].as_ref().unwrap();
    assert!(nll(noise) > 3.0 * nll(story), "{}", nll(noise));
    assert!(results[2].as_ref().unwrap_err().reason.contains("empty"));
    assert!(results[3].is_ok());
    let last = story.tokens.last().unwrap();
    assert!(last.is_end && last.byte_start as usize == STORY.len() && last.token_id == 2);
    assert!(
        story.tokens[..story.tokens.len() - 1]
            .iter()
            .all(|t| !t.is_end && t.rank.is_some_and(|rank| rank >= 1))
    );
}

#[test]
fn scores_do_not_depend_on_company_or_threads() {
    let examples: Vec<Example> = (0..40)
        .map(|i| example("Once upon a time", &STORY[..20 + i]))
        .collect();
    let together = scores(&mut stories(2), &examples);
    let mut one = stories(1);
    for (example, row) in examples.iter().zip(&together) {
        assert_eq!(&scores(&mut one, std::slice::from_ref(example))[0], row);
    }
}

#[test]
fn greedy_text_continues_a_story_in_english() {
    let greedy = Sampling {
        temperature: 0.0,
        max_tokens: 60,
        ..Sampling::default()
    };
    let request = GenerateRequest {
        context: prompt("Once upon a time"),
        seed: 0,
    };
    let completion = texts(&mut stories(1), &[request], &greedy).remove(0);
    assert!(
        completion.text.starts_with(", there was a little"),
        "{}",
        completion.text
    );
    assert_eq!(
        (completion.finish, completion.n_tokens),
        (Finish::Length, 60)
    );
}

#[test]
fn sampled_text_depends_on_seed_and_prompt_alone() {
    let sampling = Sampling {
        temperature: 0.9,
        top_p: 0.95,
        max_tokens: 24,
        ..Sampling::default()
    };
    let prompts = ["Once upon a time", "The dog", "One day, Tom"];
    let requests: Vec<GenerateRequest> = (0..90)
        .map(|i| GenerateRequest {
            context: prompt(prompts[i / 30]),
            seed: i as u64 % 20,
        })
        .collect();
    let together = texts(&mut stories(2), &requests, &sampling);
    let mut one = stories(1);
    for i in [0, 7, 31, 44, 89] {
        let alone = texts(&mut one, std::slice::from_ref(&requests[i]), &sampling);
        assert_eq!(alone[0], together[i], "request {i}");
    }
    assert_eq!(together[0], together[20]);
    assert_ne!(together[0].text, together[1].text);
}

#[test]
fn logprobs_of_what_was_written_are_those_of_scoring_it() {
    let sampling = Sampling {
        temperature: 0.7,
        top_k: 20,
        max_tokens: 30,
        ..Sampling::default()
    };
    let request = GenerateRequest {
        context: prompt("Tom had a"),
        seed: 5,
    };
    let mut model = stories(1);
    let written = texts(&mut model, &[request], &sampling).remove(0);
    let scored = scores(&mut model, &[example("Tom had a", &written.text)])
        .remove(0)
        .unwrap();
    assert_eq!(
        scored.tokens.len(),
        written.logprobs.len() + 1,
        "the text has the same tokens"
    );
    for (token, logprob) in scored.tokens.iter().zip(&written.logprobs) {
        assert!(
            (token.logprob - logprob).abs() < 1e-4,
            "{} {logprob}",
            token.logprob
        );
    }
}

#[test]
fn a_stop_string_ends_a_story_at_its_first_sentence() {
    let sampling = Sampling {
        temperature: 0.0,
        max_tokens: 200,
        stop: vec![".".to_owned()],
        ..Sampling::default()
    };
    let request = GenerateRequest {
        context: prompt("Once upon a time"),
        seed: 0,
    };
    let completion = texts(&mut stories(1), &[request], &sampling).remove(0);
    assert_eq!(completion.finish, Finish::Stop);
    assert!(
        !completion.text.contains('.') && completion.text.len() > 10,
        "{}",
        completion.text
    );
}

#[test]
fn a_sink_that_breaks_stops_workers_side_by_side() {
    let requests: Vec<GenerateRequest> = (0..400)
        .map(|seed| GenerateRequest {
            context: prompt("Tom"),
            seed,
        })
        .collect();
    let mut seen = 0;
    let mut sink = |_, _| {
        seen += 1;
        if seen == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let sampling = Sampling {
        max_tokens: 5,
        ..Sampling::default()
    };
    stories(2)
        .generate(&requests, &sampling, &mut sink)
        .unwrap();
    assert_eq!(seen, 5);
}

#[test]
fn settings_without_meaning_are_an_error_with_one_worker_or_two() {
    let bad = Sampling {
        top_p: 0.0,
        ..Sampling::default()
    };
    let requests = vec![
        GenerateRequest {
            context: prompt("Tom"),
            seed: 0
        };
        2
    ];
    for threads in [1, 2] {
        let mut sink = |_, _| ControlFlow::Continue(());
        let error = stories(threads)
            .generate(&requests, &bad, &mut sink)
            .unwrap_err();
        assert!(error.to_string().contains("`top_p` is 0"), "{error}");
    }
}

#[test]
fn chat_is_refused_with_the_way_out() {
    let error = LocalModel::load(&stories_dir(), Some(Template::Chat), 1)
        .err()
        .unwrap();
    assert!(matches!(error, ModelError::Unsupported(_)));
    assert!(error.to_string().contains("--template raw"), "{error}");
    let info = stories(1).info;
    assert_eq!(
        (info.template, info.name.as_str()),
        (Template::Raw, "stories260K")
    );
}

#[test]
fn a_tokenizer_by_another_name_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let missing = stories_dir().join("vocabulary.json");
    let mut sink = |_| ControlFlow::Continue(());
    let error = pretrain(
        &stories_dir().join("config.json"),
        &missing,
        &[],
        &TrainSettings::default(),
        0,
        out.path(),
        1,
        &mut sink,
    );
    assert!(error.unwrap_err().to_string().contains("tokenizer.json"));
}

/// A model whose memory is looked at before every step.
struct Watched<'a>(Cached<'a>, usize);

impl NextToken for Watched<'_> {
    type Prompt = Arc<Prompt>;
    type Sequence = Sequence;

    fn prompts(&mut self, contexts: &[&[u32]], logits: &mut Vec<f32>) -> Vec<Arc<Prompt>> {
        self.0.prompts(contexts, logits)
    }

    fn sequence(&mut self, prompt: &Arc<Prompt>) -> Sequence {
        self.0.sequence(prompt)
    }

    fn step(&mut self, sequences: &mut [Sequence], tokens: &[u32], logits: &mut Vec<f32>) {
        self.0.step(sequences, tokens, logits);
        let mut prompts = std::collections::BTreeMap::new();
        let mut held = self.0.pages.n_bytes();
        for sequence in &*sequences {
            let (prompt, prompt_bytes, pages) = sequence.n_bytes();
            prompts.insert(prompt, prompt_bytes);
            held += pages;
        }
        self.1 = self.1.max(held + prompts.values().sum::<usize>());
    }

    fn end(&mut self, sequence: Sequence) {
        self.0.end(sequence);
    }

    fn keep_spare(&mut self, bytes: usize) {
        self.0.keep_spare(bytes);
    }

    fn prompt_bytes(&self, tokens: usize) -> usize {
        self.0.prompt_bytes(tokens)
    }

    fn written_bytes(&self, tokens: usize) -> usize {
        self.0.written_bytes(tokens)
    }
}

#[test]
fn keys_and_values_stay_inside_their_memory_and_it_changes_no_text() {
    let model = stories(1);
    let prompts = [
        "Once upon a time",
        "The cat",
        "Lily and Tom went to the park. They",
    ];
    let requests: Vec<GenerateRequest> = (0..21)
        .map(|i| GenerateRequest {
            context: prompt(prompts[i / 7]),
            seed: i as u64,
        })
        .collect();
    let sampling = Sampling {
        max_tokens: 90,
        ..Sampling::default()
    };
    let run = |memory: usize| {
        let threads = Threads::single();
        let mut watched = Watched(Cached::new(&model.decoder, &threads), 0);
        let config = GenerationConfig {
            tokenizer: model.text.tokenizer(),
            limits: model.text.description.limits(),
            slots: 16,
            memory,
        };
        let mut texts = vec![String::new(); requests.len()];
        let mut sink = |i: usize, completion: Result<Completion, RowError>| {
            texts[i] = completion.unwrap().text;
            ControlFlow::Continue(())
        };
        let mut source = Queued {
            queue: &Queue::new(&requests),
            encoder: Encoder {
                tokenizer: config.tokenizer,
                chat: None,
                limits: config.limits,
            },
            sampling: &sampling,
            sink: &mut sink,
        };
        generate(&mut watched, config, &mut source);
        (texts, watched.1)
    };
    let sizes = model.model_config();
    let one = prompt_bytes(sizes, 16) + page_bytes(sizes, 90);
    let (plenty, most) = run(usize::MAX);
    assert!(most > 5 * one);
    for memory in [one, 2 * one, 5 * one] {
        let (texts, fullest) = run(memory);
        assert_eq!(texts, plenty);
        assert!(fullest <= memory, "{fullest} bytes of {memory}");
    }
}
