//! Whether a GGUF file is the model that it was written from: held-out rows scored by a server that
//! loads the file, and by the native engine.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use idiolect_engine::text::Opening;
use idiolect_model::{Example, Model, ModelError, Rng, Scored};

use super::convert::ConvertSettings;
use super::inputs::{Input, arm_rows};
use super::{Control, StageError};
use crate::launch::Servers;
use crate::model::{self, How};

/// What a file is checked with.
pub struct GgufCheck<'a> {
    /// Rows with `prompt` and `completion`, or `messages`.
    pub rows: PathBuf,
    /// How many of them are scored, chosen by a seeded shuffle; all where there are fewer.
    pub n: usize,
    /// Where the server of the file is started.
    pub servers: &'a Servers,
}

/// How near the log-probabilities of a file's server are to those of the native engine, in f32, of
/// the model that the file was written from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Rows that both scored.
    pub rows: usize,
    /// Their tokens, each end token included.
    pub tokens: usize,
    /// Mean absolute difference of a token's log-probability, nats.
    pub mean: f64,
    /// The largest.
    pub most: f64,
}

/// Scores rows by a server of the file and by the native engine.
///
/// # Errors
/// Where a row is none, the server does not start, does not score, or makes other tokens of the text.
pub fn check(
    settings: &ConvertSettings,
    check: &GgufCheck<'_>,
    control: Control<'_>,
) -> Result<Agreement, StageError> {
    let examples = examples(check)?;
    let reference = settings.input.to_string_lossy();
    let how = How {
        opening: Opening {
            base: settings.base.as_deref(),
            ignored_fields: &settings.ignored_fields,
            ..Opening::default()
        },
        ..How::here(control.threads, control.progress, control.stop)
    };
    let name = settings.output.file_stem().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let served = model::served(&reference, name, check.servers, &how)?;
    let theirs = scores(&mut served.of_file(&settings.output), &examples, control)?;
    // The server's memory is free again before the model is loaded here.
    check.servers.stop_idle();
    let own = scores(&mut model::local(&reference, &how)?, &examples, control)?;
    compared(&own, &theirs, &settings.output)
}

fn examples(check: &GgufCheck<'_>) -> Result<Vec<Example>, StageError> {
    let rows = arm_rows(&Input::open(&check.rows)?, "check", &check.rows)?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    Rng::keyed(0, &["convert", "check"]).shuffle(&mut order);
    order.truncate(check.n);
    let chosen = |at: usize| rows[at].example.clone();
    Ok(order.into_iter().map(chosen).collect())
}

/// The score of each row, or why it has none.
fn scores(
    model: &mut dyn Model,
    examples: &[Example],
    control: Control<'_>,
) -> Result<Vec<Result<Scored, String>>, StageError> {
    let mut scores = vec![Err("it was not scored".to_owned()); examples.len()];
    model.as_score()?.score(examples, &mut |at, scored| {
        scores[at] = scored.map_err(|error| error.to_string());
        match control.stop.requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    match control.stop.requested() {
        true => Err(StageError::Interrupted),
        false => Ok(scores),
    }
}

fn compared(
    own: &[Result<Scored, String>],
    theirs: &[Result<Scored, String>],
    file: &Path,
) -> Result<Agreement, StageError> {
    let mut found = Agreement::default();
    let mut refused = None;
    for pair in own.iter().zip(theirs) {
        let (own, theirs) = match pair {
            (Ok(own), Ok(theirs)) => (&own.tokens, &theirs.tokens),
            (Err(why), _) | (_, Err(why)) => {
                refused.get_or_insert(why);
                continue;
            }
        };
        let same = own.len() == theirs.len()
            && own
                .iter()
                .zip(theirs)
                .all(|(a, b)| a.token_id == b.token_id);
        if !same {
            return Err(ModelError::Invalid(format!(
                "the server of `{}` makes other tokens of a row",
                file.display()
            ))
            .into());
        }
        found.rows += 1;
        found.tokens += own.len();
        for (a, b) in own.iter().zip(theirs) {
            let apart = f64::from((a.logprob - b.logprob).abs());
            // One that is no number must not be passed over.
            if apart.is_nan() {
                return Err(ModelError::Invalid(format!(
                    "the server of `{}` gives a log-probability that is no number",
                    file.display()
                ))
                .into());
            }
            found.mean += apart;
            found.most = found.most.max(apart);
        }
    }
    if found.tokens == 0 {
        return Err(StageError::failed(
            format!(
                "no row could be scored: {}",
                refused.map_or("there is none", String::as_str)
            ),
            "check with rows that this model can take",
        ));
    }
    found.mean /= found.tokens as f64;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use idiolect_model::TokenScore;

    use super::*;

    fn row(logprobs: &[f32], first_id: u32) -> Result<Scored, String> {
        let token = |(i, &logprob): (usize, &f32)| TokenScore {
            token_id: first_id + i as u32,
            logprob,
            rank: None,
            distribution: None,
            byte_start: 0,
            is_end: i + 1 == logprobs.len(),
        };
        Ok(Scored {
            tokens: logprobs.iter().enumerate().map(token).collect(),
            traits: Default::default(),
        })
    }

    #[test]
    fn differences_are_over_the_tokens_that_both_scored() {
        let file = Path::new("W.gguf");
        let own = [
            row(&[-1.0, -2.0], 5),
            row(&[-3.0], 5),
            Err("long".to_owned()),
        ];
        let theirs = [row(&[-1.5, -2.0], 5), row(&[-2.0], 5), row(&[-9.0], 5)];
        let found = compared(&own, &theirs, file).unwrap();
        assert_eq!((found.rows, found.tokens, found.most), (2, 3, 1.0));
        assert!((found.mean - 0.5).abs() < 1e-12);
        let why = |theirs: &[_]| compared(&own, theirs, file).unwrap_err().to_string();
        assert!(why(&[row(&[-1.0, -2.0], 6)]).contains("other tokens"));
        assert!(why(&[row(&[-1.0, f32::NAN], 5)]).contains("no number"));
        assert!(why(&[Err("no room".to_owned())]).contains("no room"));
    }
}
