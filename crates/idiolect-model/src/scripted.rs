//! A model that answers from a script: for tests and dry runs, behind the same traits as a real one.
//!
//! The script is rows of JSON. An entry answers the contexts it matches: those equal to `prompt`,
//! else those that contain `contains`, else, with neither, every context.
//!
//! ```json
//! {"contains":"2 + 2","completions":["The answer is 4.","#### 5"],"delay_ms":10}
//! {"completions":[{"text":"no idea","finish":"length"}]}
//! ```
//!
//! Greedy requests get the first completion, others one drawn by the request's own seed. `delay_ms`
//! is waited before each answer, so that a test can interrupt. Scores need no script: a token is a
//! word with the space before it, its distribution is made up from a hash of the text so far, and
//! every field of it agrees with that distribution.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Deserialize;

use crate::{
    Capabilities, Completion, Context, Distribution, Example, Finish, Generate, GenerateRequest,
    Model, ModelError, ModelInfo, Rng, RowError, RowTraits, Sampling, Score, Scored, Sink,
    Template, TokenScore, content_hash,
};

/// One entry of a script.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    contains: Option<String>,
    completions: Vec<Answer>,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Answer {
    Text(String),
    Ended { text: String, finish: Finish },
}

/// A scripted model.
#[derive(Clone, Debug)]
pub struct Scripted {
    info: ModelInfo,
    entries: Vec<Entry>,
}

impl Scripted {
    /// A model from a script's text, one JSON entry a line; `name` is for people.
    ///
    /// # Errors
    /// The first line that is no entry, with the reason.
    pub fn parse(name: &str, text: &str, template: Option<Template>) -> Result<Self, ModelError> {
        let mut entries = Vec::new();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let invalid = |reason: String| {
                ModelError::Invalid(format!("script `{name}`, line {}: {reason}", index + 1))
            };
            let entry: Entry =
                serde_json::from_str(line).map_err(|error| invalid(error.to_string()))?;
            if entry.completions.is_empty() {
                return Err(invalid("`completions` is empty".to_owned()));
            }
            entries.push(entry);
        }
        let info = ModelInfo {
            hash: content_hash(text.as_bytes()),
            tokenizer_hash: String::new(),
            template: template.unwrap_or(Template::Raw),
            name: name.to_owned(),
            ignored_config_fields: Vec::new(),
            compute: crate::Compute::F32,
            server: None,
        };
        Ok(Self { info, entries })
    }

    fn answer(
        &self,
        request: &GenerateRequest,
        sampling: &Sampling,
    ) -> Result<Completion, RowError> {
        let text = context_text(&request.context);
        let exact = |entry: &&Entry| entry.prompt.as_ref() == Some(&text);
        let partly = |entry: &&Entry| {
            entry.prompt.is_none()
                && entry
                    .contains
                    .as_ref()
                    .is_some_and(|part| text.contains(part))
        };
        let any = |entry: &&Entry| entry.prompt.is_none() && entry.contains.is_none();
        let entries = || self.entries.iter();
        let entry = entries().find(exact).or_else(|| entries().find(partly));
        let entry = entry.or_else(|| entries().find(any)).ok_or_else(|| {
            RowError::other(format!(
                "the script has no answer to `{}`",
                text.chars().take(80).collect::<String>()
            ))
        })?;
        if entry.delay_ms > 0 {
            std::thread::sleep(Duration::from_millis(entry.delay_ms));
        }
        let chosen = if sampling.temperature > 0.0 {
            Rng::keyed(request.seed, &["scripted"]).below(entry.completions.len())
        } else {
            0
        };
        Ok(entry.completions[chosen].finished(sampling))
    }
}

impl Answer {
    /// The answer after stop texts and the token limit.
    fn finished(&self, sampling: &Sampling) -> Completion {
        let (text, mut finish) = match self {
            Self::Text(text) => (text.as_str(), Finish::Stop),
            Self::Ended { text, finish } => (text.as_str(), *finish),
        };
        let mut end = text.len();
        let stops = sampling.stop.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
            (end, finish) = (at, Finish::Stop);
        }
        let mut starts = token_starts(&text[..end]);
        if starts.len() > sampling.max_tokens {
            (end, finish) = (starts[sampling.max_tokens], Finish::Length);
            starts.truncate(sampling.max_tokens);
        }
        Completion {
            text: text[..end].to_owned(),
            finish,
            logprobs: Vec::new(),
            n_tokens: starts.len(),
        }
    }
}

fn context_text(context: &Context) -> String {
    match context {
        Context::Prompt(prompt) => prompt.clone(),
        Context::Messages(messages) => messages
            .iter()
            .map(|m| m.content.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// Where the scripted model's tokens begin: at the first byte, and at each space after a word.
fn token_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut after_word = true;
    for (at, c) in text.char_indices() {
        if at == 0 || (after_word && c.is_whitespace()) {
            starts.push(at);
        }
        after_word = !c.is_whitespace();
    }
    starts
}

/// Tokens besides the observed one, all equally probable.
const OTHERS: f32 = 10.0;

/// A token whose distribution gives the observed one `p` and shares the rest among ten others.
fn token(so_far: &str, piece: &str, byte_start: usize, is_end: bool) -> TokenScore {
    let mut rng = Rng::keyed(0, &["scripted score", so_far, piece]);
    let p = (0.01 + 0.98 * rng.uniform()) as f32;
    let other = (1.0 - p) / OTHERS;
    let entropy = -p * p.ln() - (1.0 - p) * other.ln();
    TokenScore {
        token_id: (Rng::keyed(0, &["scripted token", piece]).next_u64() % 32_000) as u32,
        logprob: p.ln(),
        rank: Some(if other > p { 1 + OTHERS as u32 } else { 1 }),
        distribution: Some(Distribution {
            entropy,
            varentropy: (p * p.ln().powi(2) + (1.0 - p) * other.ln().powi(2) - entropy * entropy)
                .max(0.0),
            sum_p2: p * p + OTHERS * other * other,
        }),
        byte_start: byte_start as u32,
        is_end,
    }
}

impl Model for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: true,
            sampled_logprobs: false,
            score: true,
            ranks: true,
            entropies: true,
            gradients: false,
            deterministic: true,
        }
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Ok(self)
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Ok(self)
    }
}

impl Generate for Scripted {
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        for (index, request) in requests.iter().enumerate() {
            if let ControlFlow::Break(()) = sink(index, self.answer(request, sampling)) {
                break;
            }
        }
        Ok(())
    }
}

impl Score for Scripted {
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError> {
        for (index, example) in examples.iter().enumerate() {
            let (context, text) = (context_text(&example.context), example.completion.as_str());
            let starts = token_starts(text);
            let ends = starts.iter().skip(1).copied().chain([text.len()]);
            let mut tokens: Vec<TokenScore> = starts
                .iter()
                .zip(ends)
                .map(|(start, end)| {
                    let so_far = format!("{context}\u{0}{}", &text[..*start]);
                    token(&so_far, &text[*start..end], *start, false)
                })
                .collect();
            tokens.push(token(
                &format!("{context}\u{0}{text}"),
                "",
                text.len(),
                true,
            ));
            if let ControlFlow::Break(()) = sink(
                index,
                Ok(Scored {
                    tokens,
                    traits: RowTraits::default(),
                }),
            ) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
{"prompt":"exact","completions":["one"]}
{"contains":"2 + 2","completions":["It is 4 .","5","6"]}
{"contains":"cut","completions":[{"text":"half a","finish":"length"}]}
"#;

    fn ask(text: &str, seed: u64, sampling: &Sampling) -> Result<Completion, RowError> {
        let mut model = Scripted::parse("s", SCRIPT, None).unwrap();
        let request = GenerateRequest {
            context: Context::Prompt(text.into()),
            seed,
        };
        let mut answer = None;
        model
            .generate(&[request], sampling, &mut |_, result| {
                answer = Some(result);
                ControlFlow::Continue(())
            })
            .unwrap();
        answer.unwrap()
    }

    #[test]
    fn entries_match_exactly_then_partly_then_not() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        assert_eq!(ask("exact", 0, &greedy).unwrap().text, "one");
        assert_eq!(ask("what is 2 + 2?", 0, &greedy).unwrap().text, "It is 4 .");
        assert_eq!(ask("cut", 0, &greedy).unwrap().finish, Finish::Length);
        assert!(
            ask("unknown", 0, &greedy)
                .unwrap_err()
                .reason
                .contains("no answer to `unknown`")
        );
    }

    #[test]
    fn the_seed_draws_the_answer() {
        let sampling = Sampling::default();
        let texts: Vec<String> = (0..40)
            .map(|seed| ask("2 + 2", seed, &sampling).unwrap().text)
            .collect();
        assert!(
            ["It is 4 .", "5", "6"]
                .iter()
                .all(|t| texts.iter().any(|text| text == t))
        );
        assert_eq!(ask("2 + 2", 7, &sampling).unwrap().text, texts[7]);
    }

    #[test]
    fn stops_and_limits_cut_an_answer() {
        let stop = Sampling {
            temperature: 0.0,
            stop: vec![" 4".into()],
            ..Sampling::default()
        };
        assert_eq!(ask("2 + 2", 0, &stop).unwrap().text, "It is");
        let limit = Sampling {
            temperature: 0.0,
            max_tokens: 2,
            ..Sampling::default()
        };
        let answer = ask("2 + 2", 0, &limit).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.finish, answer.n_tokens),
            ("It is", Finish::Length, 2)
        );
    }

    #[test]
    fn scores_agree_with_one_distribution() {
        let mut model = Scripted::parse("s", "", None).unwrap();
        let example = Example::new(Context::Prompt("p".into()), "é  b c");
        let mut scored = None;
        model
            .score(&[example], &mut |_, result| {
                scored = result.ok();
                ControlFlow::Continue(())
            })
            .unwrap();
        let tokens = scored.unwrap().tokens;
        let starts: Vec<u32> = tokens.iter().map(|token| token.byte_start).collect();
        assert_eq!(starts, [0, 2, 5, 7]);
        for token in &tokens {
            let p = token.logprob.exp();
            let d = token.distribution.unwrap();
            assert!(d.sum_p2 >= p * p && d.sum_p2 <= 1.0);
            assert!(d.entropy > 0.0 && d.entropy <= 11f32.ln() + 1e-5);
            assert_eq!(token.rank == Some(1), p >= (1.0 - p) / 10.0);
        }
        assert!(tokens.last().unwrap().is_end && !tokens[2].is_end);
    }

    #[test]
    fn a_bad_script_names_its_line() {
        let message = |text| Scripted::parse("s", text, None).unwrap_err().to_string();
        assert!(message("{\"completions\":[\"a\"]}\n{\"completion\":1}").contains("line 2"));
        assert!(message("{\"completions\":[]}").contains("empty"));
    }
}
