//! Adapter directories as models, and models written whole.
//!
//! An adapter is merged into its base when it is loaded, in f32: scoring and generation then cost
//! what the base alone costs, and nothing but training knows of adapters.

use std::path::{Path, PathBuf};

use idiolect_model::{Lora, ModelError, content_hash};

use super::LocalModel;
use crate::memory;
use crate::peft;
use crate::weights::Dtype;

/// Where a model came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The directory of its weights; of an adapter, its base's.
    pub(super) dir: PathBuf,
    /// Whether an adapter was merged into them.
    pub(super) adapter: bool,
}

/// The hash of a base with an adapter.
pub(super) fn adapted_hash(base: &str, lora: &Lora, adapter: &str) -> String {
    content_hash(format!("{base} {adapter} {}", lora.scale()).as_bytes())
}

impl LocalModel {
    /// This base with the adapter of a directory merged into its weights.
    ///
    /// # Errors
    /// When the adapter cannot be read or does not fit the base.
    pub(super) fn adapted(mut self, dir: &Path) -> Result<Self, ModelError> {
        let config = peft::read_adapter_config(dir)?;
        let (adapter, hash) = peft::read(dir, &config, self.model_config())?;
        self.info.hash = adapted_hash(&self.info.hash, &config.lora, &hash);
        // Merging is in f32, whatever the base is held in.
        memory::available::<f32>(self.decoder.layout().len(), 1, "the merged weights")
            .map_err(ModelError::Invalid)?;
        self.decoder = self.decoder.with_adapter(adapter);
        self.decoder.merge();
        if let Some(tensor) = self.decoder.not_finite() {
            return Err(ModelError::Invalid(format!(
                "`{}`: merged into its base, `{tensor}` is not finite: the adapter's values times \
                 its scale {:e} (`lora_alpha` and `r` of {}) exceed what f32 holds",
                dir.display(),
                config.lora.scale(),
                peft::CONFIG
            )));
        }
        self.origin.adapter = true;
        Ok(self)
    }

    /// Whether an adapter was merged into this model's weights when it was loaded.
    pub fn is_adapted(&self) -> bool {
        self.origin.adapter
    }

    /// Writes the model as a directory of its own in the given type, and returns its hash.
    ///
    /// # Errors
    /// When a file cannot be written, or a weight does not fit the type.
    pub fn write(&self, out: &Path, dtype: Dtype) -> Result<String, ModelError> {
        let how = if self.origin.adapter {
            "an adapter merged into its base in f32, and cast once"
        } else {
            "weights as they were, cast once"
        };
        let card = format!(
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n\
             # A model written by idiolect {}\n\n\
             From model {}: {how}.\n",
            env!("CARGO_PKG_VERSION"),
            self.info.hash
        );
        let description = self.text.description.with_dtype(dtype)?;
        description.write(out, &self.decoder.parameters(), &card)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;

    use idiolect_model::{
        Context, Example, Model, Score, Scored, Span, StepSize, Train, TrainEvent, TrainSettings,
        TrainSummary,
    };

    use super::*;
    use crate::directory::tests::stories_dir;
    use crate::text::Opening;

    fn example(completion: &str) -> Example {
        Example::new(Context::Prompt("Once upon a time".to_owned()), completion)
    }

    fn examples() -> Vec<Example> {
        let story = ", there was a little girl named Lily. She loved to play outside.";
        (20..26).map(|n| example(&story[..n])).collect()
    }

    fn settings() -> TrainSettings {
        TrainSettings {
            epochs: 3,
            lr: 1e-2,
            step_size: StepSize::Rows(2),
            lora: Some(Lora {
                r: 4,
                alpha: 8.0,
                rslora: true,
                dropout: 0.2,
                targets: Vec::new(),
            }),
            checkpoint_every: 3,
            ..TrainSettings::default()
        }
    }

    /// Trains beside a copy of the stories' model in `base`.
    fn trained(
        base: &Path,
        out: &Path,
        examples: &[Example],
        settings: &TrainSettings,
        stop_after: usize,
    ) -> Result<(TrainSummary, Vec<TrainEvent>), ModelError> {
        let mut events = Vec::new();
        let mut sink = |event: TrainEvent| {
            let stop = matches!(event, TrainEvent::Step { step, .. } if step == stop_after);
            events.push(event);
            if stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut model = LocalModel::load(base, None, 1)?;
        let summary = model.train(examples, &examples[..2], settings, out, &mut sink)?;
        Ok((summary, events))
    }

    fn copied_stories(to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(stories_dir()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }

    fn logprobs(model: &mut LocalModel) -> Vec<f32> {
        let mut out = Vec::new();
        let mut sink = |_, scored: Result<Scored, _>| {
            out.extend(scored.unwrap().tokens.iter().map(|t| t.logprob));
            ControlFlow::Continue(())
        };
        model.score(&examples(), &mut sink).unwrap();
        out
    }

    #[test]
    fn an_adapter_directory_is_a_model_and_merges_into_one() {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("models/base"), dir.path().join("train/a"));
        copied_stories(&base);
        let (summary, _) = trained(&base, &out, &examples(), &settings(), 99).unwrap();
        let config = fs::read_to_string(out.join("adapter_config.json")).unwrap();
        assert!(config.contains("\"../../models/base\""), "{config}");
        assert!(!out.join("model.safetensors").exists());
        for entry in ["", "checkpoint-3"].map(|name| out.join(name)) {
            for file in fs::read_dir(&entry)
                .unwrap()
                .map(|file| file.unwrap().path())
            {
                let text = fs::read(&file).unwrap_or_default();
                let path = dir.path().to_string_lossy().into_owned();
                let found = text.windows(path.len()).any(|w| w == path.as_bytes());
                assert!(!found, "{} holds a path of this machine", file.display());
            }
        }

        let mut adapted = LocalModel::load(&out, None, 1).unwrap();
        assert!(adapted.is_adapted());
        assert_eq!(adapted.info().hash, summary.model_hash);
        let (of_base, of_adapted) = (
            logprobs(&mut LocalModel::load(&base, None, 1).unwrap()),
            logprobs(&mut adapted),
        );
        let sum = |values: &[f32]| values.iter().sum::<f32>();
        assert!(sum(&of_adapted) > sum(&of_base) + 1.0, "training raises it");
        assert!(LocalModel::load(&out.join("checkpoint-3"), None, 1).is_ok());

        let merged = dir.path().join("merged");
        let hash = adapted.write(&merged, Dtype::F32).unwrap();
        let mut whole = LocalModel::load(&merged, None, 1).unwrap();
        assert_eq!(whole.info().hash, hash);
        assert_eq!(logprobs(&mut whole), of_adapted);
        let half = dir.path().join("half");
        adapted.write(&half, Dtype::Bf16).unwrap();
        let text = fs::read_to_string(half.join("config.json")).unwrap();
        assert!(
            text.contains("bfloat16") && !text.contains("float32"),
            "{text}"
        );
        let off = logprobs(&mut LocalModel::load(&half, None, 1).unwrap());
        let near = off
            .iter()
            .zip(&of_adapted)
            .all(|(a, b)| (a - b).abs() < 0.2);
        assert!(near && off != of_adapted);
    }

    #[test]
    fn an_adapter_that_moved_away_from_its_base_is_told_and_takes_another_path() {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("base"), dir.path().join("a"));
        copied_stories(&base);
        trained(&base, &out, &examples(), &settings(), 99).unwrap();
        let moved = dir.path().join("elsewhere");
        fs::rename(&base, &moved).unwrap();
        let message = LocalModel::load(&out, None, 1).err().unwrap().to_string();
        assert!(message.contains("--base"), "{message}");
        let with_base = |dir: &Path, base: &Path| {
            let opening = Opening {
                base: Some(base),
                ..Opening::default()
            };
            LocalModel::open(dir, &opening, 1)
        };
        assert!(with_base(&out, &moved).is_ok());
        for (adapter, base, text) in [
            (&moved, &moved, "is no adapter directory"),
            (&out, &out, "an adapter too"),
        ] {
            let message = with_base(adapter, base).err().unwrap().to_string();
            assert!(message.contains(text), "{message}");
        }
        fs::rename(&moved, &base).unwrap();
        let again = trained(&out, &dir.path().join("b"), &examples(), &settings(), 99);
        let message = again.unwrap_err().to_string();
        assert!(message.contains("--to merged"), "{message}");
    }

    #[test]
    fn a_stopped_adapter_training_ends_in_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (base, whole, parts) = (
            dir.path().join("base"),
            dir.path().join("whole"),
            dir.path().join("parts"),
        );
        copied_stories(&base);
        let (summary, _) = trained(&base, &whole, &examples(), &settings(), 99).unwrap();
        let (first, _) = trained(&base, &parts, &examples(), &settings(), 4).unwrap();
        assert!(first.stopped && parts.join("checkpoint-4").exists());
        let (second, events) = trained(&base, &parts, &examples(), &settings(), 99).unwrap();
        assert!(matches!(events[0], TrainEvent::Started { done: 4, .. }));
        assert_eq!(second, summary);
        for name in [
            "adapter_model.safetensors",
            "adapter_config.json",
            "README.md",
        ] {
            let bytes = |dir: &Path| fs::read(dir.join(name)).unwrap();
            assert_eq!(bytes(&whole), bytes(&parts), "{name}");
        }
    }

    fn losses(examples: &[Example], change: impl Fn(&mut TrainSettings)) -> Vec<f64> {
        let mut settings = TrainSettings {
            lora: None,
            epochs: 2,
            step_size: StepSize::Rows(99),
            ..settings()
        };
        change(&mut settings);
        let dir = tempfile::tempdir().unwrap();
        let (_, events) = trained(&stories_dir(), dir.path(), examples, &settings, 99).unwrap();
        let loss = |event: &TrainEvent| match event {
            TrainEvent::Step { loss, .. } => Some(*loss),
            _ => None,
        };
        events.iter().filter_map(loss).collect()
    }

    #[test]
    fn a_row_of_weight_0_changes_nothing() {
        let rows = examples();
        let mut more = rows.clone();
        more.push(Example {
            weight: 0.0,
            ..example(" zq xvk 77")
        });
        let (without, with) = (losses(&rows, |_| {}), losses(&more, |_| {}));
        for (a, b) in without.iter().zip(&with) {
            assert!((a - b).abs() < 1e-6 * a, "{without:?} {with:?}");
        }
        more.last_mut().unwrap().weight = 1.0;
        assert!(losses(&more, |_| {})[0] > 1.1 * without[0]);
    }

    #[test]
    fn masked_spans_are_not_trained_on_and_a_row_without_targets_is_refused() {
        let text = ", there was a zq xvk 77 girl.";
        let noise = text.find("zq").unwrap()..text.find("girl").unwrap();
        let masked = Example {
            spans: vec![Span {
                start: noise.start,
                end: noise.end,
                train: false,
            }],
            ..example(text)
        };
        let without = losses(&[masked.clone(), masked.clone()], |_| {});
        let mut kept = Vec::new();
        let mut sink = |_, scored: Result<Scored, _>| {
            let outside = |byte: u32| !noise.contains(&(byte as usize));
            let tokens = scored.unwrap().tokens.into_iter();
            kept.extend(
                tokens
                    .filter(|t| outside(t.byte_start))
                    .map(|t| -f64::from(t.logprob)),
            );
            ControlFlow::Continue(())
        };
        let mut model = LocalModel::load(&stories_dir(), None, 1).unwrap();
        model.score(&[example(text)], &mut sink).unwrap();
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        assert!((without[0] - mean).abs() < 1e-5, "{} {mean}", without[0]);
        let nothing = Example {
            spans: vec![Span {
                start: 0,
                end: text.len(),
                train: false,
            }],
            ..example(text)
        };
        let rows = [masked.clone(), masked, nothing];
        let refused = model.plan(&rows, &settings()).unwrap().refused;
        assert_eq!((refused.len(), refused[0].0), (1, 2));
        assert!(refused[0].1.reason.contains("no token of the completion"));
    }

    #[test]
    fn dev_rows_are_scored_as_often_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TrainSettings {
            dev_every: 2,
            ..settings()
        };
        let (_, events) = trained(&stories_dir(), dir.path(), &examples(), &settings, 99).unwrap();
        let steps: Vec<usize> = events
            .iter()
            .filter_map(|event| match event {
                TrainEvent::Dev { step, .. } => Some(*step),
                _ => None,
            })
            .collect();
        // Three epochs of three steps.
        assert_eq!(steps, [2, 3, 4, 6, 8, 9]);
    }

    #[test]
    fn bf16_parity_moves_nothing_at_a_small_rate() {
        let rows = examples();
        let still = losses(&rows, |s| (s.bf16_parity, s.lr, s.epochs) = (true, 1e-7, 4));
        assert!(
            still.iter().all(|l| (l - still[0]).abs() < 1e-6),
            "{still:?}"
        );
        let moves = losses(&rows, |s| (s.bf16_parity, s.lr, s.epochs) = (true, 1e-3, 4));
        assert!(moves[3] < 0.95 * moves[0], "{moves:?}");
    }
}
