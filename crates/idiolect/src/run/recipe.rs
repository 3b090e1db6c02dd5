//! The recipe: one TOML file that states a whole experiment.
//!
//! It is resolved once (file, then its `[scale.NAME]` table, then `--set`), stored with the run as
//! `recipe.toml`, and reproduces it. Unknown keys are refused. Where a value is a path of this
//! machine (`data`, `student`), the stored recipe leaves it out: content is identified by hash.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use idiolect_core::arms::{ArmSpec, Matching, Source as ArmSource};
use idiolect_core::miniature::ModelFamily;
use idiolect_core::model::{Lora, SaveDtype, Schedule};

/// The recipes that the program carries, by name and text.
pub(crate) const BUILT_IN: [(&str, &str); 4] = [
    (
        "miniature",
        include_str!("../../../../recipes/miniature.toml"),
    ),
    ("tiny", include_str!("../../../../recipes/tiny.toml")),
    (
        "gsm8k-real",
        include_str!("../../../../recipes/gsm8k-real.toml"),
    ),
    (
        "benchmark",
        include_str!("../../../../recipes/benchmark.toml"),
    ),
];

/// A whole experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// Names the run and heads the report.
    pub(crate) name: String,
    /// What it is for, in a sentence; heads the report.
    pub(crate) about: String,
    /// Keys every draw of the run.
    pub(crate) seed: u64,
    /// Independent worlds: world `w` repeats everything with seed `seed + w`.
    pub(crate) worlds: usize,
    /// Which `[scale.NAME]` table was applied.
    pub(crate) scale: String,
    /// The folder of real data; `IDIOLECT_DATA` where unset.
    #[serde(default, skip_serializing)]
    pub(crate) data: Option<String>,
    /// A model directory that replaces the student trained inside the run.
    #[serde(default, skip_serializing)]
    pub(crate) student: Option<String>,
    /// Fields of the given student's `config.json` to set aside: unknown to this program, and
    /// without influence on what is computed. As `--ignore-config-field`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore_config_fields: Vec<String>,
    /// Where problems and traces come from.
    pub(crate) source: Source,
    /// The models trained from random weights inside the run.
    pub(crate) pretrain: Pretrain,
    /// Sampling from the teacher.
    #[serde(default)]
    pub(crate) sample: Option<Sample>,
    /// The teacher's rewriting of the human traces.
    #[serde(default)]
    pub(crate) paraphrase: Option<Paraphrase>,
    /// Shares of steps to corrupt, one arm F each.
    #[serde(default)]
    pub(crate) doses: Vec<f64>,
    /// How traces and evaluations are judged.
    #[serde(default)]
    pub(crate) verify: Verify,
    /// Which arms, and how large.
    pub(crate) arms: Arms,
    /// Fine-tuning of the student on each arm.
    pub(crate) finetune: Finetune,
    /// Evaluation on the test problems.
    pub(crate) eval: Eval,
}

/// Where problems and traces come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Source {
    /// A generated world with its own language.
    Miniature {
        /// What its problems are.
        #[serde(default)]
        world: MiniatureWorld,
        /// `default`, or `tiny` for a world of seconds.
        size: String,
    },
    /// GSM8K problems with published traces of real models.
    Gsm8kTraces {
        /// The file of problems, within the data folder.
        problems: String,
        /// The folder of trace files, within the data folder.
        traces: String,
        /// Which files of it, by a part of their name.
        traces_match: String,
        /// Which traces of them, by their field `kind`.
        trace_kind: String,
        /// The name of the prompt that problems are asked with.
        prompt: String,
        /// The file whose questions and solutions are the student's pretraining text.
        pretrain_text: String,
        /// Share of the problems that become dev, by hash of their id.
        dev_share: f64,
        /// Share of the problems that become test, by hash of their id.
        test_share: f64,
    },
}

/// The problems of a generated world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MiniatureWorld {
    /// Countdown with three numbers.
    #[default]
    Countdown,
    /// Word problems of two to four steps, verified as GSM8K.
    Stories,
}

/// The models trained from random weights inside the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pretrain {
    /// The model being studied.
    pub(crate) student: ScratchModel,
    /// The model that writes traces; none where the traces are given.
    #[serde(default)]
    pub(crate) teacher: Option<ScratchModel>,
}

/// How one model is trained from random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScratchModel {
    /// Passes over its text.
    pub(crate) epochs: usize,
    /// Packed tokens of an optimiser step.
    pub(crate) batch_tokens: usize,
    /// Peak learning rate; cosine from there.
    pub(crate) lr: f64,
    /// Warm-up steps.
    pub(crate) warmup_steps: usize,
    /// Share of the peak that the schedule ends at.
    pub(crate) min_lr_ratio: f64,
    /// Decoupled weight decay.
    pub(crate) weight_decay: f64,
    /// AdamW's second-moment decay.
    pub beta2: f64,
    /// The decoder's family, in a generated world.
    #[serde(default)]
    pub(crate) family: ModelFamily,
    /// The shape, where the source does not fix it.
    #[serde(default)]
    pub(crate) shape: Option<Shape>,
}

/// A Llama-shaped model and its byte-level BPE vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    /// Tokens of the vocabulary, trained on the model's own text.
    pub(crate) vocabulary: usize,
    /// C.
    pub(crate) hidden: usize,
    /// Decoder layers.
    pub(crate) layers: usize,
    /// H = K.
    pub(crate) heads: usize,
    /// Width of the gated unit.
    pub(crate) intermediate: usize,
    /// Longest row in tokens.
    pub(crate) positions: usize,
}

/// Sampling from the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    /// Samples a problem.
    pub(crate) per_problem: usize,
    /// Sampling temperature.
    pub(crate) temperature: f32,
    /// Longest completion in tokens.
    pub(crate) max_tokens: usize,
}

/// The teacher's rewriting of the human traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paraphrase {
    /// Longest completion in tokens.
    pub(crate) max_tokens: usize,
    /// Sampling temperature; greedy where unset.
    #[serde(default)]
    pub(crate) temperature: f32,
    /// Further tries for a rewriting that is at fault; without any, each is taken as it comes.
    #[serde(default)]
    pub(crate) retries: usize,
}

/// Which arms, and how large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arms {
    /// Arms in the arm language, `W` or `WG=W:0.5+G:0.5`, in the order of the report.
    pub(crate) names: Vec<String>,
    /// How arms are made equal: `problems`, `rows` or `tokens`.
    #[serde(default, rename = "match")]
    pub(crate) matching: Matching,
    /// Rows of each arm; all where unset.
    #[serde(default)]
    pub(crate) rows: Option<usize>,
    /// What every other arm is compared with, the first being the main one.
    pub(crate) baselines: Vec<String>,
}

impl Arms {
    /// What each arm is made of; entries that cannot be read were refused with the recipe.
    pub(crate) fn specs(&self) -> Vec<ArmSpec> {
        self.names
            .iter()
            .filter_map(|arm| arm.parse().ok())
            .collect()
    }

    /// The arms' names alone, a curated arm's controls behind it.
    pub(crate) fn listed(&self) -> Vec<String> {
        self.specs().iter().flat_map(ArmSpec::built).collect()
    }

    /// Whether some arm takes traces of a source.
    pub(crate) fn need(&self, source: &ArmSource) -> bool {
        let mut specs = self.specs().into_iter();
        specs.any(|arm| arm.parts.iter().any(|part| part.source == *source))
    }
}

/// Fine-tuning of the student on each arm; no weight decay, clipping at norm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finetune {
    /// Independent trainings of each arm.
    pub(crate) seeds: usize,
    /// Passes over the arm.
    pub(crate) epochs: usize,
    /// Rows of an optimiser step.
    pub(crate) batch_size: usize,
    /// Peak learning rate.
    pub(crate) lr: f64,
    /// Its fall.
    pub(crate) schedule: Schedule,
    /// The type that checkpoints are written in, and so evaluated in: `f32` or `bf16`.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub(crate) save_dtype: SaveDtype,
    /// Train adapters of this kind instead of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lora: Option<Lora>,
    /// Longest row in tokens, prompt and end included: a trace that makes a longer one enters no
    /// arm. What the student can hold where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_length: Option<usize>,
}

fn is_f32(dtype: &SaveDtype) -> bool {
    *dtype == SaveDtype::F32
}

/// Evaluation on the test problems: greedy, and sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Eval {
    /// Samples a problem beside the greedy answer; 0 samples none.
    pub(crate) samples: usize,
    /// Sampling temperature.
    pub(crate) temperature: f32,
    /// Longest completion in tokens.
    pub(crate) max_tokens: usize,
}

/// How traces and evaluations are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// Whether an answer that equals the gold only when rounded is correct instead of `ungraded`.
    #[serde(default)]
    pub(crate) accept_rounded: bool,
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecipeError {
    /// Not TOML, or not of a recipe's shape.
    #[error("{origin}: {reason}")]
    Shape {
        /// The file, or the `--set` that broke it.
        origin: String,
        /// What the parser said.
        reason: String,
    },
    /// A `--set` that is not `KEY=VALUE`.
    #[error("`--set {0}` is not KEY=VALUE")]
    Set(String),
    /// No `[scale.NAME]` of that name.
    #[error("the recipe has no scale `{wanted}`; it has {known}")]
    Scale {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A value that makes no experiment.
    #[error("recipe: `{field}` {reason}")]
    Value {
        /// Dotted key.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
}

/// Resolves a recipe's text with its scale and the `--set` overrides, in this order.
pub(crate) fn resolve(text: &str, origin: &str, sets: &[String]) -> Result<Recipe, RecipeError> {
    let shape = |origin: &str, reason: String| RecipeError::Shape {
        origin: origin.to_owned(),
        reason,
    };
    let mut table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| shape(origin, e.to_string()))?;
    let overrides = sets
        .iter()
        .map(|s| parse_set(s))
        .collect::<Result<Vec<_>, _>>()?;

    let scales = match table.remove("scale") {
        Some(Value::Table(scales)) => scales,
        _ => Table::new(),
    };
    let scale = overrides
        .iter()
        .rev()
        .find(|(key, _)| key == "scale")
        .map_or("default".to_owned(), |(_, value)| {
            value.as_str().unwrap_or_default().to_owned()
        });
    if scale != "default" {
        let Some(Value::Table(changes)) = scales.get(&scale) else {
            let known: Vec<_> = std::iter::once("default")
                .chain(scales.keys().map(String::as_str))
                .collect();
            return Err(RecipeError::Scale {
                wanted: scale,
                known: known.join(", "),
            });
        };
        merge(&mut table, changes);
    }
    for (key, value) in overrides.iter().filter(|(key, _)| key != "scale") {
        set(&mut table, key, value.clone())
            .map_err(|reason| shape(&format!("--set {key}"), reason))?;
    }
    table.insert("scale".to_owned(), Value::String(scale));
    let recipe: Recipe = table
        .try_into()
        .map_err(|e: toml::de::Error| shape(origin, e.message().to_owned()))?;
    check(&recipe)?;
    Ok(recipe)
}

/// The recipe as it is stored: resolved, without paths of this machine.
pub(crate) fn stored(recipe: &Recipe) -> String {
    toml::to_string_pretty(recipe).expect("a recipe of plain values serialises")
}

/// Reads a recipe as it is stored.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_stored(text: &str, origin: &str) -> Result<Recipe, RecipeError> {
    toml::from_str(text).map_err(|error| RecipeError::Shape {
        origin: origin.to_owned(),
        reason: error.message().to_owned(),
    })
}

/// The dotted keys in which two stored recipes differ, each with both values.
pub(crate) fn differences(old: &str, new: &str) -> Vec<String> {
    let flat = |text: &str| {
        let mut lines = std::collections::BTreeMap::new();
        if let Ok(table) = text.parse::<Table>() {
            flatten("", &Value::Table(table), &mut lines);
        }
        lines
    };
    let (old, new) = (flat(old), flat(new));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let show = |side: &std::collections::BTreeMap<String, String>, key: &String| {
        side.get(key).cloned().unwrap_or_else(|| "unset".to_owned())
    };
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| format!("{key}: {} -> {}", show(&old, key), show(&new, key)))
        .collect()
}

fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    let bad = |field, reason: &str| {
        Err(RecipeError::Value {
            field,
            reason: reason.to_owned(),
        })
    };
    if recipe.worlds == 0 {
        return bad("worlds", "must be at least 1");
    }
    if recipe.finetune.seeds == 0 || recipe.finetune.epochs == 0 || recipe.finetune.batch_size == 0
    {
        return bad(
            "finetune",
            "needs `seeds`, `epochs` and `batch_size` of at least 1",
        );
    }
    if let Some(Err(reason)) = recipe.finetune.lora.as_ref().map(Lora::check) {
        return bad("finetune.lora", &reason);
    }
    if recipe.finetune.lora.is_some() && !is_f32(&recipe.finetune.save_dtype) {
        return bad(
            "finetune.save_dtype",
            "is of a model's own weights, and `finetune.lora` trains adapters, whose files hold f32",
        );
    }
    if let Some(rewrite) = &recipe.paraphrase
        && rewrite.retries > 0
        && rewrite.temperature <= 0.0
    {
        return bad(
            "paraphrase.retries",
            "needs a `paraphrase.temperature` above 0: every try at 0 would be the same",
        );
    }
    if recipe.eval.max_tokens == 0 {
        return bad("eval.max_tokens", "must be at least 1");
    }
    if recipe.doses.iter().any(|d| !(*d > 0.0 && *d <= 1.0)) {
        return bad("doses", "must lie above 0 and at most at 1");
    }
    if recipe.arms.names.is_empty() {
        return bad("arms.names", "must name at least one arm");
    }
    for arm in &recipe.arms.names {
        if let Err(error) = arm.parse::<ArmSpec>() {
            return bad(
                "arms.names",
                &format!("holds an arm that cannot be read: {error}"),
            );
        }
    }
    if recipe
        .arms
        .listed()
        .iter()
        .any(|n| n == "base" || n == "teacher")
    {
        return bad(
            "arms.names",
            "must not hold `base` or `teacher`: these are evaluated anyway",
        );
    }
    if let Source::Gsm8kTraces {
        dev_share,
        test_share,
        ..
    } = &recipe.source
    {
        let in_range = |share: &f64| *share > 0.0 && *share < 1.0;
        if !in_range(dev_share) || !in_range(test_share) || dev_share + test_share >= 1.0 {
            return bad(
                "source.test_share",
                "and `source.dev_share` must be above 0 and leave problems to train on",
            );
        }
    }
    Ok(())
}

fn parse_set(text: &str) -> Result<(String, Value), RecipeError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| RecipeError::Set(text.to_owned()))?;
    let key = key.trim();
    if key.is_empty() {
        return Err(RecipeError::Set(text.to_owned()));
    }
    // A bare word is a string: nobody quotes twice on a command line.
    let parsed = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"));
    Ok((
        key.to_owned(),
        parsed.unwrap_or_else(|| Value::String(value.to_owned())),
    ))
}

fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => match table
            .entry(first)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!("`{first}` is not a table")),
        },
    }
}

fn merge(table: &mut Table, changes: &Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(more)) => merge(inner, more),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

fn flatten(prefix: &str, value: &Value, lines: &mut std::collections::BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&path, inner, lines);
            }
        }
        other => {
            lines.insert(prefix.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(name: &str) -> &'static str {
        BUILT_IN.iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn every_built_in_recipe_resolves_and_its_stored_form_resolves_to_itself() {
        for (name, text) in BUILT_IN {
            let recipe = resolve(text, name, &[]).unwrap();
            let again = resolve(
                &stored(&recipe).replace("scale = \"default\"\n", ""),
                "stored",
                &[],
            )
            .unwrap();
            assert_eq!(recipe, again, "{name}");
        }
    }

    #[test]
    fn a_set_wins_over_the_scale_and_the_scale_over_the_file() {
        let text = built_in("miniature");
        let plain = resolve(text, "r", &[]).unwrap();
        let full = resolve(text, "r", &["scale=full".into()]).unwrap();
        assert!(full.worlds > plain.worlds && full.finetune.seeds >= plain.finetune.seeds);
        let one = resolve(
            text,
            "r",
            &[
                "scale=full".into(),
                "worlds=1".into(),
                "finetune.lr=0.5".into(),
            ],
        )
        .unwrap();
        assert_eq!(
            (one.worlds, one.finetune.lr.to_bits()),
            (1, 0.5f64.to_bits())
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let text = built_in("miniature");
        let error = |set: &str| resolve(text, "r", &[set.into()]).unwrap_err().to_string();
        assert!(
            error("finetune.epoch=3").contains("epoch"),
            "{}",
            error("finetune.epoch=3")
        );
        assert!(error("scale=huge").contains("full"));
        assert!(error("worlds=0").contains("worlds"));
        assert!(error("nonsense").contains("KEY=VALUE"));
        assert!(error("doses=[2.0]").contains("doses"));
        assert!(error("paraphrase.retries=2").contains("paraphrase.temperature"));
    }

    #[test]
    fn differences_name_the_key_and_both_values() {
        let text = built_in("miniature");
        let a = stored(&resolve(text, "r", &[]).unwrap());
        let b = stored(&resolve(text, "r", &["finetune.epochs=3".into()]).unwrap());
        assert_eq!(differences(&a, &b), ["finetune.epochs: 10 -> 3"]);
        assert!(differences(&a, &a).is_empty());
    }

    #[test]
    fn paths_of_this_machine_are_not_stored() {
        let recipe = resolve(built_in("gsm8k-real"), "r", &["data=/some/where".into()]).unwrap();
        assert_eq!(recipe.data.as_deref(), Some("/some/where"));
        assert!(!stored(&recipe).contains("/some/where"));
    }
}
