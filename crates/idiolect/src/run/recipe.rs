//! The recipe: one TOML file that states a whole experiment; the contract of `docs/recipe.md`.
//!
//! It is resolved once (see `resolve`), stored with the run as `recipe.toml`, and
//! reproduces it. Unknown keys are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use idiolect_core::arms::{ArmSpec, Matching, Source as ArmSource};
use idiolect_core::flaw::{FinalAnswer, FlawOp};
use idiolect_core::miniature::{ModelFamily, StudentProse};
use idiolect_core::record::{Finish, Split, TaskName};
use idiolect_model::{Compute, Lora, Sampling, SaveDtype, Schedule, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::launch::{Adapters, READY_TIMEOUT_S, ServerSettings};
use crate::model::Place;
use crate::model::price::Price;
use crate::torch::TorchSettings;
use crate::trl::TrlSettings;

pub use super::place::{On, StageResources};

use super::plan::Stage;
use super::schema::{
    DtypeSchema, FamilySchema, FinishSchema, LoraSchema, MatchSchema, NumberOrText, OneOrMany,
    ProseSchema, ScheduleSchema, TaskSchema, TemplateSchema,
};

/// The recipes that the program carries, by name and text.
pub const BUILT_IN: [(&str, &str); 4] = [
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run and heads the report.
    pub name: String,
    /// What it is for, in a sentence; heads the report.
    #[serde(default)]
    pub about: String,
    /// Keys every draw of the run.
    #[serde(default)]
    pub seed: u64,
    /// Independent repetitions of everything: replicate `r` has seed `seed + r`.
    #[serde(default = "one")]
    pub replicates: usize,
    /// Which `[scale.NAME]` table was applied; in a file, these tables.
    #[schemars(with = "BTreeMap<String, serde_json::Value>", default)]
    pub scale: String,
    /// Where problems and traces come from.
    pub data: Data,
    /// Who writes traces and who learns from them.
    pub models: Models,
    /// Sampling from the teacher.
    #[serde(default)]
    pub generate: Generate,
    /// The rewriting of the human traces by the paraphraser, where an arm holds it.
    #[serde(default)]
    pub paraphrase: Paraphrase,
    /// Corrupted traces, one arm F a dose.
    #[serde(default)]
    pub flaws: Flaws,
    /// How traces and evaluations are judged.
    #[serde(default)]
    pub verify: Verify,
    /// Which arms, and how large.
    #[serde(default)]
    pub arms: Arms,
    /// Fine-tuning of each student on each arm.
    #[serde(default)]
    pub train: Train,
    /// How TRL is run, where `[train]` names it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trl: TrlSettings,
    /// Scoring of every trace under each student.
    #[serde(default)]
    pub score: Score,
    /// How the torch worker is run, where `[score]` names it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub torch: TorchSettings,
    /// Evaluation on the test problems.
    #[serde(default)]
    pub eval: Eval,
    /// How the servers are started that answer where a `backend` is `server`.
    #[serde(default, skip_serializing_if = "Server::is_unset")]
    pub server: Server,
    /// How work is cut into jobs.
    #[serde(default)]
    pub execute: Execute,
}

fn one() -> usize {
    1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How work is cut into jobs, and where they run; changes no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Execute {
    /// Sampling, verification, scoring and evaluation of more rows than this are split by problem into
    /// jobs of about so many.
    pub rows_per_shard: usize,
    /// Where jobs run: `local`, `slurm`, or `ray://HOST:PORT` of a Ray dashboard.
    #[serde(skip_serializing_if = "On::is_local")]
    #[schemars(with = "String")]
    pub on: On,
    /// On a cluster: stages that the submitting process does itself.
    #[serde(skip_serializing_if = "is_default_local")]
    pub local: Vec<String>,
    /// On a cluster: the program on its nodes. Where unset, this program by its path, or `idiolect`
    /// on the node's PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// On a cluster: most tasks of one submission; where there are more jobs, a task does several.
    #[serde(skip_serializing_if = "is_default_tasks")]
    pub tasks: usize,
    /// On a cluster: how often a job whose worker was lost (killed, out of memory or time, a node
    /// that failed) is submitted again.
    #[serde(skip_serializing_if = "is_default_retries")]
    pub retries: usize,
    /// On a cluster: seconds between two looks at its queue.
    #[serde(skip_serializing_if = "is_default_poll_s")]
    pub poll_s: f64,
    /// On a cluster: what each job of a stage asks for, by the stage's name; `default` is of all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, StageResources>,
}

impl Default for Execute {
    fn default() -> Self {
        Self {
            rows_per_shard: 100_000,
            on: On::Local,
            local: ["data", "report"].map(str::to_owned).to_vec(),
            program: None,
            tasks: 100,
            retries: 2,
            poll_s: 10.0,
            resources: BTreeMap::new(),
        }
    }
}

fn is_default_local(stages: &[String]) -> bool {
    stages == Execute::default().local
}

fn is_default_tasks(tasks: &usize) -> bool {
    *tasks == Execute::default().tasks
}

fn is_default_retries(retries: &usize) -> bool {
    *retries == Execute::default().retries
}

fn is_default_poll_s(seconds: &f64) -> bool {
    seconds.to_bits() == Execute::default().poll_s.to_bits()
}

/// Where problems and traces come from: files of one task, or a generated world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The task of every file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TaskSchema>")]
    pub task: Option<TaskName>,
    /// A generated world instead of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldKind>,
    /// Of a generated world: `default`, `tiny` (over in seconds), `full` (Countdown only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Of the world `countdown`: what prose a student reads that is trained inside the run: `plain`
    /// sentences, unlike the human solutions (where unset), or `human`: their own style.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ProseSchema>")]
    pub student_prose: Option<StudentProse>,
    /// Files or globs, each looked for in the current directory, beside the recipe, and in the
    /// folder that `IDIOLECT_DATA` names; or `hf:datasets/OWNER/NAME[@REV]/PATH`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub train: Vec<String>,
    /// As `train`. None: a fraction of the train problems.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub dev: Vec<String>,
    /// As `train`. None: a fraction of the train problems.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub test: Vec<String>,
    /// Share of the train problems that become dev, by hash of their id, where `dev` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_fraction: Option<f64>,
    /// Share of the train problems that become test, by hash of their id, where `test` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// Most problems of each split, chosen by hash of their ids; all where unset.
    #[serde(skip_serializing_if = "MaxProblems::is_unset")]
    pub max_problems: MaxProblems,
    /// Traces that exist already: files or globs. This program's own rows, rows with `problem_id`,
    /// `response` (or `text`) and `model`, or what `import --format` reads of other programs.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub traces: Vec<String>,
    /// Keeps of `traces` the rows whose columns hold these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub traces_where: BTreeMap<String, String>,
    /// How traces ended that do not state so themselves; `unknown` keeps wrong ones out of W.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FinishSchema>")]
    pub finish: Option<Finish>,
    /// Field of the task = column that fills it, as `import --map`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// The prompt that students are asked with: a built-in name or a file; the task's own if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// Most problems of each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxProblems {
    /// Of the train split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Of the dev split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<usize>,
    /// Of the test split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

impl MaxProblems {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// Of a split.
    pub fn of(&self, split: Split) -> Option<usize> {
        match split {
            Split::Train => self.train,
            Split::Dev => self.dev,
            Split::Test => self.test,
            Split::Teacher => None,
        }
    }
}

/// A list of texts, or one text alone.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(one) => Ok(vec![one]),
        many => many.try_into().map_err(serde::de::Error::custom),
    }
}

/// The problems of a generated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorldKind {
    /// Countdown with three numbers.
    Countdown,
    /// Word problems of two to four steps, verified as GSM8K.
    Stories,
}

/// Who writes traces and who learns from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Writes traces; none where the traces are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Writer>,
    /// Rewrites human traces: a reference, or `teacher`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paraphraser: Option<String>,
    /// Model directories, or `hf:OWNER/NAME[@REV]`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub students: Vec<String>,
    /// A student trained inside the run, where `students` names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<Scratch>,
    /// How students are prompted: `raw` or `chat`; each model's own default where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TemplateSchema>")]
    pub template: Option<Template>,
    /// How the teacher and the paraphraser are prompted, where they are given by reference: `raw` or
    /// `chat`; each model's own default where unset. A server of a base model has no chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TemplateSchema>")]
    pub teacher_template: Option<Template>,
    /// Requests at once to a model behind an endpoint; 64 where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// What a million tokens of the endpoints cost: `{ prompt = 0.15, completion = 0.6 }`, in
    /// whatever money. The dry run, `status` and `events.jsonl` then state costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Fields of the students' `config.json` to set aside: unknown to this program, and without
    /// influence on what is computed. As `--ignore-config-field`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_config_fields: Vec<String>,
}

/// `[models.student.scratch]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// How it is trained.
    pub scratch: ScratchModel,
}

/// A model by reference, or trained inside the run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Writer {
    /// A directory, `hf:OWNER/NAME[@REV]`, `http(s)://HOST:PORT/v1#MODEL` or `scripted:FILE`.
    Reference(String),
    /// `[models.teacher.scratch]`.
    Scratch(Box<Scratch>),
}

impl<'de> Deserialize<'de> for Writer {
    /// By the kind of value, so that an error names what is wrong within it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(reference) => Ok(Self::Reference(reference)),
            table => table
                .try_into::<Scratch>()
                .map(|scratch| Self::Scratch(Box::new(scratch)))
                .map_err(serde::de::Error::custom),
        }
    }
}

/// How one model is trained from random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScratchModel {
    /// Passes over its text.
    pub epochs: usize,
    /// Packed tokens of an optimizer step.
    pub batch_tokens: usize,
    /// Peak learning rate; cosine from there.
    pub lr: f64,
    /// Warm-up steps.
    #[serde(default)]
    pub warmup_steps: usize,
    /// Fraction of the peak that the schedule ends at.
    #[serde(default)]
    pub min_lr_ratio: f64,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// AdamW's second-moment decay.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// The decoder's family, in a generated world.
    #[serde(default)]
    #[schemars(with = "FamilySchema")]
    pub family: ModelFamily,
    /// The shape, where the data does not fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// Files of problems whose questions and human solutions are its text, where the data is no
    /// generated world.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub text: Vec<String>,
}

fn beta2() -> f64 {
    0.95
}

/// A Llama-shaped model and its byte-level BPE vocabulary, in the words of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// V: tokens of the vocabulary, learned from the model's own text.
    pub vocab_size: usize,
    /// C.
    pub hidden_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// H = K.
    pub num_attention_heads: usize,
    /// Width of the gated unit.
    pub intermediate_size: usize,
    /// Longest row in tokens.
    pub max_position_embeddings: usize,
}

/// Who computes what a model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Inference {
    /// This program's engine; a model behind an endpoint answers for itself.
    #[default]
    Native,
    /// A server that the run starts, by the command of `[server]`.
    Server,
}

impl Inference {
    fn is_native(&self) -> bool {
        *self == Self::Native
    }
}

/// How the servers are started that answer where a `backend` is `server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The command, such as `vllm serve {model} --host 127.0.0.1 --port {port}`. It holds `{model}`,
    /// a directory, and `{port}`; `{name}` is what the model is to be called. No shell runs it.
    pub command: String,
    /// Seconds until which a server has to be ready.
    #[schemars(range(min = 0.001))]
    pub ready_timeout_s: f64,
    /// One server at a time for each entry: a GPU by its number, or several for one server as
    /// `"0,1"`, given to it as `CUDA_VISIBLE_DEVICES`. One server with what is visible where unset.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "numbers_or_texts"
    )]
    #[schemars(with = "Vec<NumberOrText>")]
    pub gpus: Vec<String>,
    /// Variables of the environment that are set for the servers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// How the adapters of method `lora` reach a server: `merge`, as models of their own in f32, or
    /// `load`, by the running server of their base, as vLLM can.
    pub adapters: Adapters,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            command: String::new(),
            ready_timeout_s: READY_TIMEOUT_S,
            gpus: Vec::new(),
            environment: BTreeMap::new(),
            adapters: Adapters::default(),
        }
    }
}

impl Server {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// How servers are started.
    ///
    /// # Errors
    /// In words, where the command cannot be one.
    pub fn settings(&self) -> Result<ServerSettings, String> {
        let timeout = Duration::from_secs_f64(self.ready_timeout_s);
        let mut settings = ServerSettings::new(&self.command, timeout)?;
        settings.environment = self.environment.clone().into_iter().collect();
        settings.adapters = self.adapters;
        Ok(settings)
    }

    /// Servers at once.
    pub fn places(&self) -> usize {
        self.gpus.len().max(1)
    }
}

/// Texts, or numbers as such.
fn numbers_or_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = |value: toml::Value| match value {
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::String(text) => Ok(text),
        other => Err(serde::de::Error::custom(format!(
            "expected the number of a GPU, or several as \"0,1\", and found {other}"
        ))),
    };
    let values = Vec::<toml::Value>::deserialize(deserializer)?;
    values.into_iter().map(text).collect()
}

/// Sampling from the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// Who samples: `native`, this program's engine (or the endpoint that `models.teacher` names),
    /// or `server`. Of a student's own samples (arm S) too.
    #[serde(skip_serializing_if = "Inference::is_native")]
    pub backend: Inference,
    /// Samples a problem.
    pub n: usize,
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Nucleus sampling: the likeliest tokens of this total probability are kept; 1 keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// Tokens below this fraction of the likeliest one's probability are left out; 0 keeps all.
    pub min_p: f32,
    /// Longest completion in tokens.
    pub max_tokens: usize,
    /// Texts that end a completion and are cut from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The teacher's prompt; that of `[data]` if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The type of the factors of a teacher's large products that runs here: `f32` or `bf16`.
    #[serde(skip_serializing_if = "Compute::is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub compute: Compute,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            backend: Inference::Native,
            n: 8,
            temperature: 0.8,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_tokens: 1024,
            stop: Vec::new(),
            prompt: None,
            compute: Compute::F32,
        }
    }
}

impl Generate {
    /// How tokens are chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
        }
    }
}

/// The rewriting of the human traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Paraphrase {
    /// Who rewrites: `native` or `server`, as in `[generate]`.
    #[serde(skip_serializing_if = "Inference::is_native")]
    pub backend: Inference,
    /// Longest completion in tokens.
    pub max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Further tries for a rewriting that is at fault; without any, each is taken as it comes.
    pub retries: usize,
    /// A built-in prompt or a file with `{solution}`; the task's own if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The type of the factors of a paraphraser's large products that runs here.
    #[serde(skip_serializing_if = "Compute::is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub compute: Compute,
}

impl Default for Paraphrase {
    fn default() -> Self {
        Self {
            backend: Inference::Native,
            max_tokens: 1024,
            temperature: 0.0,
            retries: 0,
            prompt: None,
            compute: Compute::F32,
        }
    }
}

/// Corrupted traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Flaws {
    /// Fractions of steps to corrupt. Those of the arms F where unset: F25 asks for 0.25.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doses: Vec<f64>,
    /// Names of the operators; all that the task has where unset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub ops: Vec<FlawOp>,
}

/// How traces and evaluations are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Whether an answer that equals the gold only when rounded is correct instead of `ungraded`.
    pub accept_rounded: bool,
}

/// Which arms, and how large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Arms {
    /// Arms in the arm language, `W` or `WG=W:0.5+G:0.5`, in the order of the report.
    pub names: Vec<String>,
    /// How arms are made equal: `problems`, `rows` or `tokens`.
    #[serde(rename = "match")]
    #[schemars(with = "MatchSchema")]
    pub matching: Matching,
    /// Rows of each arm; all where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// What every other arm is compared with, the first being the main one.
    pub baselines: Vec<String>,
}

impl Default for Arms {
    fn default() -> Self {
        Self {
            names: ["H", "G", "W"].map(str::to_owned).to_vec(),
            matching: Matching::default(),
            rows: None,
            baselines: vec!["base".to_owned()],
        }
    }
}

impl Arms {
    /// What each arm is made of; entries that cannot be read were refused with the recipe.
    pub fn specs(&self) -> Vec<ArmSpec> {
        self.names
            .iter()
            .filter_map(|arm| arm.parse().ok())
            .collect()
    }

    /// The arms' names alone, a curated arm's controls behind it.
    pub fn listed(&self) -> Vec<String> {
        self.specs().iter().flat_map(ArmSpec::built).collect()
    }

    /// What leaves one arm out: the options that set the others, and the baselines among them where
    /// it is one.
    pub fn without(&self, arm: &str) -> String {
        let is_other = |name: &&String| {
            let spec = name.parse::<ArmSpec>();
            spec.map_or(true, |spec| spec.name != arm)
        };
        let others: Vec<&String> = self.names.iter().filter(is_other).collect();
        let mut options = format!("--set 'arms.names={others:?}'");
        if self.baselines.iter().any(|baseline| baseline == arm) {
            let kept: Vec<&String> = self.baselines.iter().filter(|b| *b != arm).collect();
            options.push_str(&format!(" --set 'arms.baselines={kept:?}'"));
        }
        options
    }

    /// Whether some arm takes traces of a source.
    pub fn need(&self, wanted: impl Fn(&ArmSource) -> bool) -> bool {
        let mut specs = self.specs().into_iter();
        specs.any(|arm| arm.parts.iter().any(|part| wanted(&part.source)))
    }
}

/// Fine-tuning of a student on each arm; clipping at norm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Who trains: `native`, this program's engine, or `trl`, TRL in an environment of yours.
    pub backend: Trainer,
    /// All weights or adapters.
    pub method: Method,
    /// Independent trainings of each arm.
    pub seeds: usize,
    /// Passes over the arm.
    pub epochs: usize,
    /// Rows of an optimizer step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Its fall.
    #[schemars(with = "ScheduleSchema")]
    pub schedule: Schedule,
    /// Fraction of all steps in which the rate rises to its peak.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Longest row in tokens, prompt and end included: a trace that makes a longer one enters no
    /// arm. What the student can hold where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// The type that checkpoints are written in, and so evaluated in: `f32` or `bf16`.
    #[serde(skip_serializing_if = "is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub save_dtype: SaveDtype,
    /// The type of the factors of large products; masters and optimizer state are f32.
    #[serde(skip_serializing_if = "Compute::is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub compute: Compute,
    /// Of method `lora`: `r = 16, alpha = 32` where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<LoraSchema>")]
    pub lora: Option<Lora>,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            backend: Trainer::Native,
            method: Method::Full,
            seeds: 3,
            epochs: 1,
            batch_size: 32,
            lr: 1e-5,
            schedule: Schedule::Linear,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            max_length: None,
            save_dtype: SaveDtype::default(),
            compute: Compute::F32,
            lora: None,
        }
    }
}

impl Train {
    /// The adapters to train; none trains all weights.
    pub fn adapters(&self) -> Option<Lora> {
        (self.method == Method::Lora).then(|| {
            self.lora.clone().unwrap_or(Lora {
                r: 16,
                alpha: 32.0,
                rslora: false,
                dropout: 0.0,
                targets: Vec::new(),
            })
        })
    }
}

fn is_f32(dtype: &SaveDtype) -> bool {
    *dtype == SaveDtype::F32
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// All weights.
    Full,
    /// Low-rank adapters.
    Lora,
}

/// Who trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trainer {
    /// This program's engine.
    #[default]
    Native,
    /// TRL, started as `[trl]` states.
    Trl,
}

/// Who does the work of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// This program's engine.
    #[default]
    Native,
}

/// Scoring of every trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Score {
    /// Who scores: `native`, this program's engine, `endpoint`, servers that you run, `server`,
    /// servers that the run starts, or `torch`, in an environment of yours.
    pub backend: Scorer,
    /// Of backend `endpoint`: the server of each student, by the student's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, String>,
    /// Of backends `native` and `torch`: the type of the factors of large products.
    #[serde(skip_serializing_if = "Compute::is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub compute: Compute,
}

/// Who scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scorer {
    /// This program's engine.
    #[default]
    Native,
    /// Servers that the user runs.
    Endpoint,
    /// torch, started as `[torch]` states.
    Torch,
    /// Servers that the run starts, by the command of `[server]`.
    Server,
}

/// Evaluation on the test problems: greedy, and sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Who answers: `native`, this program's engine, or `server`, servers that the run starts.
    pub backend: Inference,
    /// Samples a problem beside the greedy answer; 0 samples none.
    pub n: usize,
    /// Sampling temperature.
    pub temperature: f32,
    /// Longest completion in tokens.
    pub max_tokens: usize,
    /// Texts that end a completion and are cut from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The type of the factors of large products.
    #[serde(skip_serializing_if = "Compute::is_f32")]
    #[schemars(with = "DtypeSchema")]
    pub compute: Compute,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            backend: Inference::Native,
            n: 0,
            temperature: 0.7,
            max_tokens: 1024,
            stop: Vec::new(),
            compute: Compute::F32,
        }
    }
}

impl Recipe {
    /// Whether a stage's models are behind servers that the run starts.
    pub fn is_served(&self, stage: Stage) -> bool {
        match stage {
            Stage::Generate => self.generate.backend == Inference::Server,
            Stage::Paraphrase => self.paraphrase.backend == Inference::Server,
            Stage::Score => self.score.backend == Scorer::Server,
            Stage::Eval => self.eval.backend == Inference::Server,
            _ => false,
        }
    }

    /// Whether the run starts servers.
    pub fn has_servers(&self) -> bool {
        Stage::ALL.into_iter().any(|stage| self.is_served(stage))
    }

    /// The teacher that is trained inside the run.
    pub fn scratch_teacher(&self) -> Option<&ScratchModel> {
        match &self.models.teacher {
            Some(Writer::Scratch(scratch)) => Some(&scratch.scratch),
            _ => None,
        }
    }

    /// The student that is trained inside the run.
    pub fn scratch_student(&self) -> Option<&ScratchModel> {
        let scratch = self.models.student.as_ref().map(|student| &student.scratch);
        scratch.filter(|_| self.models.students.is_empty())
    }

    /// Each student's name within the run and its reference; that of one that is trained inside the
    /// run is `None`.
    pub fn students(&self) -> Vec<(String, Option<String>)> {
        if self.scratch_student().is_some() {
            return vec![("student".to_owned(), None)];
        }
        let mut named: Vec<(String, Option<String>)> = Vec::new();
        for reference in &self.models.students {
            // A revision is no part of a name; a directory may hold any character.
            let named_by = match Place::of(reference) {
                Place::Hub(name) => name.split('@').next().unwrap_or(name),
                _ => reference,
            };
            let last = named_by.trim_end_matches('/').rsplit('/').next();
            let base: String = last
                .unwrap_or_default()
                .chars()
                .map(|c| {
                    if c.is_alphanumeric() || "._-".contains(c) {
                        c
                    } else {
                        '-'
                    }
                })
                .collect();
            let base = base.trim_start_matches('.');
            let base = if base.is_empty() { "student" } else { base };
            let taken = |name: &str| named.iter().any(|(other, _)| other == name);
            let name = (1..)
                .map(|n| match n {
                    1 => base.to_owned(),
                    n => format!("{base}-{n}"),
                })
                .find(|name| !taken(name))
                .expect("names do not run out");
            named.push((name, Some(reference.clone())));
        }
        named
    }

    /// Files of problems, traces and text that the recipe names.
    pub fn files(&self) -> Vec<String> {
        let data = &self.data;
        let text = self.scratch_student().map(|model| &model.text);
        let lists = [&data.train, &data.dev, &data.test, &data.traces];
        let lists = lists.into_iter().chain(text);
        lists.flatten().cloned().collect()
    }

    /// References of every model that is not trained inside the run.
    pub fn references(&self) -> Vec<String> {
        let mut all = self.models.students.clone();
        if let Some(Writer::Reference(teacher)) = &self.models.teacher {
            all.push(teacher.clone());
        }
        let rewriter = self.models.paraphraser.iter();
        all.extend(rewriter.filter(|name| *name != "teacher").cloned());
        all
    }

    /// What is corrupted: fractions of steps, each with what becomes of the final answer. Fractions are
    /// those given, or those of the arms; answers are switched where an arm asks for it.
    pub fn flaws_of_arms(&self) -> Vec<(f64, FinalAnswer)> {
        let stated = self.flaws.doses.iter();
        let mut all: Vec<(f64, FinalAnswer)> =
            stated.map(|dose| (*dose, FinalAnswer::AsItComes)).collect();
        let are_stated = !all.is_empty();
        for arm in self.arms.specs() {
            for part in &arm.parts {
                let ArmSource::Flawed(percent, answer) = part.source else {
                    continue;
                };
                let flaws = (f64::from(percent) / 100.0, answer);
                let is_stated = are_stated && answer == FinalAnswer::AsItComes;
                if !is_stated && !all.contains(&flaws) {
                    all.push(flaws);
                }
            }
        }
        all
    }

    /// The prompt that students are asked with; `None` is the task's own.
    pub fn prompt(&self) -> Option<String> {
        let generated = || self.data.world.map(|_| "mini".to_owned());
        self.data.prompt.clone().or_else(generated)
    }

    /// The prompt that the teacher is asked with.
    pub fn teacher_prompt(&self) -> Option<String> {
        self.generate.prompt.clone().or_else(|| self.prompt())
    }

    /// The prompt that rewritings are asked with.
    pub fn paraphrase_prompt(&self) -> Option<String> {
        let generated = || self.data.world.map(|_| "mini-paraphrase".to_owned());
        self.paraphrase.prompt.clone().or_else(generated)
    }

    /// Fractions of the train problems that become dev and test.
    pub fn fractions(&self) -> (f64, f64) {
        let of = |files: &[String], given: Option<f64>, default: f64| match files {
            [] => given.unwrap_or(default),
            _ => 0.0,
        };
        (
            of(&self.data.dev, self.data.dev_fraction, 0.1),
            of(&self.data.test, self.data.test_fraction, 0.2),
        )
    }
}
