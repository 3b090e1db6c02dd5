//! The plan: every job of a run, in an order in which they can be done. The only place that knows
//! this order; dry run, progress, time left, `status`, `jobs`, `job` and the executor read it.

use std::path::Path;

use idiolect_core::arms::Source;
use idiolect_core::flaw::FinalAnswer;
use idiolect_core::store::Shard;
use idiolect_model::SaveDtype;
use serde::Serialize;
use serde_json::{Value, json};

use super::counts::Counts;
use super::layout::{DataPaths, Layout, StudentPaths};
use super::recipe::{Method, Recipe, Trainer, Writer};
use crate::model::is_endpoint;
use crate::stage::Extent;

/// The arm that is the untrained student.
pub const BASE: &str = "base";

/// What kind of work a job does, in the order of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Problems, human and given traces, texts and shapes of models to train from scratch.
    Data,
    /// Models trained from random weights.
    Pretrain,
    /// Samples.
    Generate,
    /// Human traces rewritten.
    Paraphrase,
    /// Verdicts.
    Verify,
    /// Flawed traces and content controls.
    Corrupt,
    /// Parts and verdicts put together.
    Traces,
    /// Token scores under a student.
    Score,
    /// Matched training sets.
    Arms,
    /// Fine-tuning.
    Train,
    /// Answers to the test problems.
    Eval,
    /// Comparison and report.
    Report,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Data,
        Self::Pretrain,
        Self::Generate,
        Self::Paraphrase,
        Self::Verify,
        Self::Corrupt,
        Self::Traces,
        Self::Score,
        Self::Arms,
        Self::Train,
        Self::Eval,
        Self::Report,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Pretrain => "pretrain",
            Self::Generate => "generate",
            Self::Paraphrase => "paraphrase",
            Self::Verify => "verify",
            Self::Corrupt => "corrupt",
            Self::Traces => "traces",
            Self::Score => "score",
            Self::Arms => "arms",
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Report => "report",
        }
    }
}

/// What exactly a job does; its replicate aside.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Lays down problems, human traces, given traces, and texts and shapes of models.
    Data,
    /// Trains `student` or `teacher` from random weights.
    Pretrain(&'static str),
    /// Samples from the teacher.
    Generate,
    /// Samples from a student, for arm S.
    Own(String),
    /// Rewrites the human traces.
    Paraphrase,
    /// Judges the traces of a part.
    Verify(String),
    /// Judges a student's own samples.
    VerifyOwn(String),
    /// Chooses the traces that copies are made of: those of arm G, or of arm W.
    Picks(Source),
    /// Corrupts this fraction of their steps, with that final answer.
    Flaws(f64, FinalAnswer),
    /// Makes the copies of them that an arm of this source holds: content controls, answers alone, the
    /// human style.
    Copies(Source),
    /// Puts parts and verdicts together.
    Traces,
    /// Scores every trace under a student.
    Score(String),
    /// Builds a student's arms.
    Arms(String),
    /// Fine-tunes a student.
    Train(Tuned),
    /// Evaluates a fine-tuned student, or as arm `base` the untrained one.
    Eval(Tuned),
    /// Evaluates the teacher.
    EvalTeacher,
    /// Compares and reports; of all replicates.
    Report,
}

/// One fine-tuning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// The student's name in the recipe.
    pub student: String,
    /// The arm it is trained on; [`BASE`] for none.
    pub arm: String,
    /// The fine-tuning seed, from 0.
    pub seed: u64,
}

/// Cores that a job can use well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpu {
    /// As many as there are, nothing beside it.
    All,
    /// One or few: its model is too small for more. Several such jobs run side by side.
    Shared,
}

/// What a job needs of a machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resources {
    /// Cores.
    pub cpu: Cpu,
    /// Places for servers, of as many as `[server] gpus` names: none where all work is the engine's.
    pub gpu: usize,
    /// Memory, about.
    pub memory_mb: u64,
    /// The model that it loads: a reference, or a folder of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What a job costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Tokens that pass through a model, forward or in training.
    pub tokens: f64,
    /// Floating-point operations in units of 10^12: training counts 6 a parameter and token, writing
    /// and scoring 2.
    pub tera_operations: f64,
    /// Disk that its outputs take, about.
    pub disk_mb: f64,
}

/// One job: what it reads, what it writes, what it takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// `RECIPE/r0/STUDENT/W/seed1/train`
    pub id: String,
    /// What kind of work it is.
    pub stage: Stage,
    /// The tables of the recipe that decide it, and the seed.
    pub settings: Value,
    /// Files and folders of the run directory that earlier jobs write.
    pub inputs: Vec<String>,
    /// Files and models from outside the run, as the recipe names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<String>,
    /// Files and folders of the run directory.
    pub outputs: Vec<String>,
    /// What it needs of a machine.
    pub resources: Resources,
    /// What it takes.
    pub cost: Cost,
    /// The replicate that it is of.
    #[serde(skip)]
    pub replicate: usize,
    /// What exactly it does.
    #[serde(skip)]
    pub work: Work,
    /// How much of its outputs it makes.
    #[serde(skip)]
    pub extent: Extent,
    /// Of a shard: the outputs that it is a part of.
    #[serde(skip)]
    pub merged: Vec<String>,
}

impl Job {
    /// Whether a server is started for its model, or one that runs is asked.
    pub fn is_served(&self) -> bool {
        self.resources.gpu > 0
    }

    /// The server that it asks, where its model is behind one that the user runs.
    pub fn endpoint(&self) -> Option<&str> {
        let model = self.resources.model.as_deref();
        model.filter(|reference| is_endpoint(reference))
    }
}

/// A part of the traces and who makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name, which its file has.
    pub name: String,
    /// What makes it.
    pub work: Work,
}

/// The parts of a recipe's traces, in the order of `traces.jsonl`.
pub fn parts(recipe: &Recipe) -> Vec<Part> {
    let part = |name: &str, work| Part {
        name: name.to_owned(),
        work,
    };
    let arms = &recipe.arms;
    let mut parts = vec![part("human", Work::Data)];
    if recipe.data.world.is_some() && arms.need(|s| matches!(s, Source::Style(l) if l == "digits"))
    {
        parts.push(part("human-digits", Work::Data));
    }
    if recipe.data.world.is_none() {
        parts.push(part("given", Work::Data));
    }
    if recipe.models.teacher.is_some() && arms.need(from_samples) {
        parts.push(part("sampled", Work::Generate));
    }
    if arms.need(|source| matches!(source, Source::Paraphrased | Source::Any))
        && has_rewriter(recipe)
    {
        parts.push(part("paraphrased", Work::Paraphrase));
    }
    for (dose, answer) in recipe.flaws_of_arms() {
        parts.push(part(&flawed_part(dose, answer), Work::Flaws(dose, answer)));
    }
    for (source, name) in COPIES {
        if arms.need(|wanted| *wanted == source) {
            parts.push(part(name, Work::Copies(source)));
        }
    }
    parts
}

/// Sources whose traces are made of the picks by no operator of flaws, and their parts.
const COPIES: [(Source, &str); 5] = [
    (Source::CorrectInHumanStyle, "human-style"),
    (Source::WrongInHumanStyle, "human-style-wrong"),
    (Source::AnswerOnly, "answer-only"),
    (Source::Control, "control"),
    (Source::ControlRight, "control-right"),
];

/// The part of a source's traces that are no sample.
pub fn copies_part(source: &Source) -> &'static str {
    let found = COPIES.iter().find(|(other, _)| other == source);
    found.map_or("copies", |(_, name)| *name)
}

/// The part that holds the traces which a source's copies are made of.
pub fn picks_part(of: &Source) -> &'static str {
    match of.copied().unwrap_or_else(|| of.clone()) {
        Source::Wrong => "picks-wrong",
        _ => "picks",
    }
}

fn has_rewriter(recipe: &Recipe) -> bool {
    recipe.models.teacher.is_some() || recipe.models.paraphraser.is_some()
}

/// The part that holds traces with this fraction of their steps corrupted, and that final answer.
pub fn flawed_part(dose: f64, answer: FinalAnswer) -> String {
    let answer = match answer {
        FinalAnswer::AsItComes => "",
        FinalAnswer::Right => "-right",
        FinalAnswer::Wrong => "-wrong",
    };
    format!("flawed-{:.0}{answer}", dose * 100.0)
}

/// Whether an arm's source may be made of a model's samples.
fn from_samples(source: &Source) -> bool {
    needs_samples(source) || *source == Source::Any
}

/// Whether an arm's source is made of a model's samples and of nothing else.
pub fn needs_samples(source: &Source) -> bool {
    source.copied().is_some()
        || matches!(
            source,
            Source::Correct | Source::Wrong | Source::WrongPrefix | Source::Control
        )
}

/// The parts that hold the traces of models other than the student.
pub fn sampled_parts(recipe: &Recipe) -> Vec<String> {
    let all = parts(recipe).into_iter().map(|part| part.name);
    all.filter(|name| name == "given" || name == "sampled")
        .collect()
}

/// Every job of a run.
pub fn plan(recipe: &Recipe, counts: &Counts) -> Vec<Job> {
    let mut planner = Planner {
        recipe,
        counts,
        layout: Layout::of(Path::new("")),
        jobs: Vec::new(),
    };
    for replicate in 0..recipe.replicates {
        planner.replicate(replicate);
    }
    planner.report();
    planner.jobs
}

/// A model as a job loads it.
#[derive(Clone)]
struct Loaded {
    reference: String,
    /// Whether it lies in the run directory.
    inside: bool,
    parameters: f64,
    cpu: Cpu,
}

struct Planner<'a> {
    recipe: &'a Recipe,
    counts: &'a Counts,
    layout: Layout,
    jobs: Vec<Job>,
}

/// Bytes a parameter: weight, gradient and both moments in training; the weight alone otherwise.
const TRAINED: f64 = 16.0;
const READ: f64 = 4.0;
/// Bytes of disk for a token of text, and of scores with every token's.
const TEXT_BYTES: f64 = 5.0;
const SCORE_BYTES: f64 = 25.0;
/// Weights of adapters as a fraction of their model's, about: r = 16 in every linear layer.
const ADAPTERS: f64 = 0.012;
/// Of a job beside its weights: activations of a batch, rows, the program itself.
const BESIDE: f64 = 40e6;

/// What a job does with a model's parameters.
#[derive(Clone, Copy)]
enum Use {
    Forward,
    Training,
}

impl Planner<'_> {
    fn replicate(&mut self, r: usize) {
        let data = self.layout.data(r);
        self.data(r, &data);
        self.pretrain(r, &data);
        let parts = parts(self.recipe);
        for part in &parts {
            match &part.work {
                Work::Generate => self.generate(r, &data),
                Work::Paraphrase => self.paraphrase(r, &data),
                _ => {}
            }
        }
        self.corrupt(r, &data, &parts);
        self.traces(r, &data, &parts);
        for (index, (name, _)) in self.recipe.students().iter().enumerate() {
            self.student(r, &data, index, name);
        }
        if let Some(teacher) = self.recipe.scratch_teacher().and(self.teacher(r)) {
            let answers = self.counts.test as f64;
            let cost = self.cost(
                Use::Forward,
                teacher.parameters,
                answers * self.counts.row_tokens,
            );
            let mut job = self.job(r, "eval/teacher", Stage::Eval, Work::EvalTeacher);
            job.settings = json!({"eval": self.recipe.eval, "verify": self.recipe.verify});
            job.inputs = vec![path(&data.problems())];
            job.outputs = vec![path(&data.teacher_evaluation())];
            self.push(job, Some((&teacher, Use::Forward)), cost);
        }
    }

    fn data(&mut self, r: usize, data: &DataPaths) {
        let recipe = self.recipe;
        let mut job = self.job(r, "data", Stage::Data, Work::Data);
        job.settings = json!({"data": recipe.data, "seed": recipe.seed + r as u64});
        let files = [
            &recipe.data.train,
            &recipe.data.dev,
            &recipe.data.test,
            &recipe.data.traces,
        ];
        job.external = files.into_iter().flatten().cloned().collect();
        job.outputs = vec![path(&data.problems()), path(&data.part("gold"))];
        let made = parts(recipe)
            .into_iter()
            .filter(|part| part.work == Work::Data);
        job.outputs
            .extend(made.map(|part| path(&data.part(&part.name))));
        for (model, scratch) in scratch_models(recipe) {
            job.outputs.push(path(&data.corpus(model)));
            job.outputs.push(path(&data.blank(model)));
            job.external.extend(scratch.text.iter().cloned());
        }
        self.push(job, None, Cost::default());
    }

    fn pretrain(&mut self, r: usize, data: &DataPaths) {
        // The longer job first: the other fits beside it.
        for (model, scratch) in scratch_models(self.recipe) {
            let (parameters, tokens) = match model {
                "teacher" => (self.counts.teacher, self.counts.teacher_tokens),
                _ => (self.counts.students[0], self.counts.student_tokens),
            };
            let cost = self.cost(Use::Training, parameters, tokens);
            let mut job = self.job(
                r,
                &format!("pretrain/{model}"),
                Stage::Pretrain,
                Work::Pretrain(model),
            );
            job.settings = json!({"scratch": scratch, "seed": self.recipe.seed + r as u64});
            job.inputs = vec![path(&data.corpus(model)), path(&data.blank(model))];
            job.outputs = vec![path(&self.layout.model(r, model))];
            let blank = Loaded {
                reference: path(&data.blank(model)),
                inside: false,
                parameters,
                cpu: Cpu::Shared,
            };
            self.push(job, Some((&blank, Use::Training)), cost);
        }
    }

    fn generate(&mut self, r: usize, data: &DataPaths) {
        let Some(teacher) = self.teacher(r) else {
            return;
        };
        let n = self.counts.train * self.recipe.generate.n;
        let cost = self.cost(
            Use::Forward,
            teacher.parameters,
            n as f64 * self.counts.row_tokens,
        );
        let mut job = self.job(r, "generate", Stage::Generate, Work::Generate);
        job.settings =
            json!({"generate": self.recipe.generate, "seed": self.recipe.seed + r as u64});
        job.inputs = vec![path(&data.problems())];
        job.outputs = vec![path(&data.part("sampled"))];
        self.push_split(job, Some((&teacher, Use::Forward)), cost, n);
    }

    fn paraphrase(&mut self, r: usize, data: &DataPaths) {
        let rewriter = match self.recipe.models.paraphraser.as_deref() {
            None | Some("teacher") => self.teacher(r),
            Some(reference) => Some(Loaded::by_reference(reference, self.counts.paraphraser)),
        };
        let Some(rewriter) = rewriter else { return };
        let tokens = 2.0 * self.counts.human as f64 * self.counts.row_tokens;
        let cost = self.cost(Use::Forward, rewriter.parameters, tokens);
        let mut job = self.job(r, "paraphrase", Stage::Paraphrase, Work::Paraphrase);
        job.settings =
            json!({"paraphrase": self.recipe.paraphrase, "seed": self.recipe.seed + r as u64});
        job.inputs = vec![path(&data.problems()), path(&data.part("human"))];
        job.outputs = vec![path(&data.part("paraphrased"))];
        self.push_split(
            job,
            Some((&rewriter, Use::Forward)),
            cost,
            self.counts.human,
        );
    }

    /// Verification of what is there, then what is made of the traces of G and W, then its
    /// verification.
    fn corrupt(&mut self, r: usize, data: &DataPaths, parts: &[Part]) {
        let made_of = |part: &Part| match &part.work {
            Work::Flaws(..) => Some(picks_part(&Source::Correct)),
            Work::Copies(source) => Some(picks_part(source)),
            _ => None,
        };
        for part in parts.iter().filter(|part| made_of(part).is_none()) {
            self.verify(r, data, &part.name);
        }
        for of in [Source::Correct, Source::Wrong] {
            let picks = picks_part(&of);
            if !parts.iter().any(|part| made_of(part) == Some(picks)) {
                continue;
            }
            let name = format!("corrupt/{picks}");
            let mut job = self.job(r, &name, Stage::Corrupt, Work::Picks(of));
            job.settings = json!({"seed": self.recipe.seed + r as u64});
            job.inputs = vec![path(&data.problems())];
            for name in sampled_parts(self.recipe) {
                job.inputs.push(path(&data.part(&name)));
                job.inputs.push(path(&data.part_verdicts(&name)));
            }
            for (index, _) in self.recipe.students().iter().enumerate() {
                self.add_model(&mut job, &self.student_model(r, index));
            }
            job.outputs = vec![path(&data.part(picks))];
            self.push(job, None, Cost::default());
        }
        for (part, picks) in parts.iter().filter_map(|part| Some((part, made_of(part)?))) {
            let mut job = self.job(
                r,
                &format!("corrupt/{}", part.name),
                Stage::Corrupt,
                part.work.clone(),
            );
            job.settings = json!({"flaws": self.recipe.flaws, "seed": self.recipe.seed + r as u64});
            job.inputs = vec![path(&data.problems()), path(&data.part(picks))];
            job.outputs = vec![path(&data.part(&part.name))];
            self.push(job, None, Cost::default());
            self.verify(r, data, &part.name);
        }
    }

    fn verify(&mut self, r: usize, data: &DataPaths, part: &str) {
        let mut job = self.job(
            r,
            &format!("verify/{part}"),
            Stage::Verify,
            Work::Verify(part.to_owned()),
        );
        job.settings = json!({"verify": self.recipe.verify});
        job.inputs = vec![path(&data.problems()), path(&data.part(part))];
        job.outputs = vec![path(&data.part_verdicts(part))];
        let rows = self.counts.part(self.recipe, part);
        self.push_split(job, None, Cost::default(), rows);
    }

    fn traces(&mut self, r: usize, data: &DataPaths, parts: &[Part]) {
        let mut job = self.job(r, "traces", Stage::Traces, Work::Traces);
        for part in parts {
            job.inputs.push(path(&data.part(&part.name)));
            job.inputs.push(path(&data.part_verdicts(&part.name)));
        }
        job.outputs = vec![path(&data.traces()), path(&data.verdicts())];
        self.push(job, None, Cost::default());
    }

    fn student(&mut self, r: usize, data: &DataPaths, index: usize, name: &str) {
        let paths = self.layout.student(r, name);
        let model = self.student_model(r, index);
        let own = has_own(self.recipe);
        if own {
            self.own(r, data, &paths, &model, name);
        }
        let scored = self.counts.traces(self.recipe) as f64 * self.counts.row_tokens;
        let cost = Cost {
            disk_mb: SCORE_BYTES * scored / 1e6,
            ..self.cost(Use::Forward, model.parameters, scored)
        };
        let mut job = self.job(
            r,
            &format!("{name}/score"),
            Stage::Score,
            Work::Score(name.to_owned()),
        );
        job.settings = json!({"score": self.recipe.score});
        job.inputs = vec![path(&data.problems()), path(&data.traces())];
        if own {
            job.inputs.push(path(&paths.own()));
        }
        job.outputs = vec![path(&paths.scores()), path(&paths.tokens())];
        let scorer = match self.recipe.score.endpoints.get(name) {
            Some(address) => Loaded::by_reference(address, model.parameters),
            None => model.with_all_cores(),
        };
        if scorer.is_remote() {
            // Its tokenizer and template.
            self.add_model(&mut job, &model);
        }
        let mut rows = self.counts.traces(self.recipe);
        if own {
            rows += self.own_samples();
        }
        self.push_split(job, Some((&scorer, Use::Forward)), cost, rows);

        let mut job = self.job(
            r,
            &format!("{name}/arms"),
            Stage::Arms,
            Work::Arms(name.to_owned()),
        );
        job.settings = json!({"arms": self.recipe.arms, "max_length": self.recipe.train.max_length, "seed": self.recipe.seed + r as u64});
        job.inputs = [
            data.problems(),
            data.traces(),
            data.verdicts(),
            paths.scores(),
        ]
        .map(|p| path(&p))
        .to_vec();
        if own {
            job.inputs
                .extend([path(&paths.own()), path(&paths.own_verdicts())]);
        }
        self.add_model(&mut job, &model);
        job.outputs = vec![path(&paths.arms())];
        self.push(job, None, Cost::default());

        self.eval(r, data, &paths, &model, tuned(name, BASE, 0));
        for arm in self.recipe.arms.listed() {
            for seed in 0..self.recipe.train.seeds as u64 {
                self.train(r, &paths, &model, tuned(name, &arm, seed));
                self.eval(r, data, &paths, &model, tuned(name, &arm, seed));
            }
        }
    }

    fn own(
        &mut self,
        r: usize,
        data: &DataPaths,
        paths: &StudentPaths,
        model: &Loaded,
        name: &str,
    ) {
        let tokens = self.own_samples() as f64 * self.counts.row_tokens;
        let cost = self.cost(Use::Forward, model.parameters, tokens);
        let mut job = self.job(
            r,
            &format!("{name}/generate"),
            Stage::Generate,
            Work::Own(name.to_owned()),
        );
        job.settings =
            json!({"generate": self.recipe.generate, "seed": self.recipe.seed + r as u64});
        job.inputs = vec![path(&data.problems())];
        job.outputs = vec![path(&paths.own())];
        let model = model.with_all_cores();
        self.push_split(job, Some((&model, Use::Forward)), cost, self.own_samples());
        let mut job = self.job(
            r,
            &format!("{name}/verify"),
            Stage::Verify,
            Work::VerifyOwn(name.to_owned()),
        );
        job.settings = json!({"verify": self.recipe.verify});
        job.inputs = vec![path(&data.problems()), path(&paths.own())];
        job.outputs = vec![path(&paths.own_verdicts())];
        self.push_split(job, None, Cost::default(), self.own_samples());
    }

    /// Samples of a student's own.
    fn own_samples(&self) -> usize {
        self.counts.train * super::work::OWN_SAMPLES
    }

    fn train(&mut self, r: usize, paths: &StudentPaths, model: &Loaded, tuned: Tuned) {
        let rows = self.recipe.arms.rows.unwrap_or(self.counts.train) as f64;
        let tokens = rows * self.counts.row_tokens * self.recipe.train.epochs as f64;
        let cost = self.cost(Use::Training, model.parameters, tokens);
        let name = format!("{}/{}/seed{}/train", tuned.student, tuned.arm, tuned.seed);
        let mut job = self.job(r, &name, Stage::Train, Work::Train(tuned.clone()));
        job.settings = json!({"train": self.recipe.train, "seed": tuned.seed, "replicate_seed": self.recipe.seed + r as u64});
        job.inputs = vec![path(&paths.arms())];
        job.outputs = vec![path(&paths.checkpoint(&tuned.arm, tuned.seed))];
        let model = match self.recipe.train.backend {
            Trainer::Native => model.clone(),
            // Two would take the same devices.
            Trainer::Trl => model.with_all_cores(),
        };
        self.push(job, Some((&model, Use::Training)), cost);
    }

    fn eval(
        &mut self,
        r: usize,
        data: &DataPaths,
        paths: &StudentPaths,
        model: &Loaded,
        tuned: Tuned,
    ) {
        let answers = self.counts.test * (1 + self.recipe.eval.n) + self.counts.dev;
        let cost = self.cost(
            Use::Forward,
            model.parameters,
            answers as f64 * self.counts.row_tokens,
        );
        let name = format!("{}/{}/seed{}/eval", tuned.student, tuned.arm, tuned.seed);
        let mut job = self.job(r, &name, Stage::Eval, Work::Eval(tuned.clone()));
        job.settings = json!({"eval": self.recipe.eval, "verify": self.recipe.verify, "seed": self.recipe.seed + r as u64});
        job.inputs = vec![path(&data.problems()), path(&data.part("gold"))];
        let what = |what: &str| path(&paths.evaluation(&tuned.arm, tuned.seed, what));
        job.outputs = self
            .counts
            .evaluations(self.recipe)
            .into_iter()
            .map(what)
            .collect();
        let checkpoint = match tuned.arm.as_str() {
            BASE => model.clone(),
            arm => Loaded {
                reference: path(&paths.checkpoint(arm, tuned.seed)),
                inside: true,
                ..*model
            },
        };
        self.push_split(job, Some((&checkpoint, Use::Forward)), cost, answers);
    }

    fn report(&mut self) {
        let finished = |job: &&Job| {
            matches!(
                job.stage,
                Stage::Traces | Stage::Score | Stage::Arms | Stage::Train | Stage::Eval
            )
        };
        let mut inputs: Vec<String> = Vec::new();
        for job in self.jobs.iter().filter(finished) {
            inputs.extend(job.outputs.iter().cloned());
        }
        let mut job = self.job(0, "", Stage::Report, Work::Report);
        job.id = format!("{}/report", self.recipe.name);
        job.settings = json!({"baselines": self.recipe.arms.baselines, "seed": self.recipe.seed});
        job.inputs = inputs;
        job.outputs = ["comparison.json", "report.html", "report.md"]
            .map(str::to_owned)
            .to_vec();
        self.push(job, None, Cost::default());
    }

    fn job(&self, replicate: usize, name: &str, stage: Stage, work: Work) -> Job {
        Job {
            id: format!("{}/r{replicate}/{name}", self.recipe.name),
            stage,
            settings: Value::Null,
            inputs: Vec::new(),
            external: Vec::new(),
            outputs: Vec::new(),
            resources: Resources {
                cpu: Cpu::All,
                gpu: 0,
                memory_mb: (BESIDE / 1e6) as u64,
                model: None,
            },
            cost: Cost::default(),
            replicate,
            work,
            extent: Extent::Whole,
            merged: Vec::new(),
        }
    }

    /// Adds a job over so many rows; where they are many, a job for each shard and one that puts them
    /// together.
    fn push_split(&mut self, job: Job, model: Option<(&Loaded, Use)>, cost: Cost, rows: usize) {
        let of = rows
            .div_ceil(self.recipe.execute.rows_per_shard.max(1))
            .max(1);
        if of == 1 {
            self.push(job, model, cost);
            return;
        }
        let mut merged = job.clone();
        merged.extent = Extent::Merged(of);
        let each = Cost {
            tokens: cost.tokens / of as f64,
            tera_operations: cost.tera_operations / of as f64,
            disk_mb: cost.disk_mb / of as f64,
        };
        for shard in Shard::all(of) {
            let of_output = |output: &String| path(&shard.path_of(Path::new(output)));
            // `tokens.parquet` is made of the journals of all shards together.
            let row_files = job
                .outputs
                .iter()
                .filter(|output| output.ends_with(".jsonl"));
            let outputs: Vec<String> = row_files.map(of_output).collect();
            merged.inputs.extend(outputs.iter().cloned());
            let part = Job {
                id: format!("{}/shard-{:05}-of-{of:05}", job.id, shard.index),
                extent: Extent::Shard(shard),
                merged: job.outputs.clone(),
                outputs,
                ..job.clone()
            };
            self.push(part, model, each);
        }
        let disk = Cost {
            disk_mb: cost.disk_mb,
            ..Cost::default()
        };
        self.push(merged, model, disk);
    }

    fn push(&mut self, mut job: Job, model: Option<(&Loaded, Use)>, cost: Cost) {
        job.cost = cost;
        if let Some((model, how)) = model {
            self.add_model(&mut job, model);
            let bytes = match how {
                Use::Forward => READ,
                Use::Training => TRAINED,
            };
            let served = self.recipe.is_served(job.stage);
            let here = if served || model.is_remote() {
                0.0
            } else {
                model.parameters
            };
            job.resources = Resources {
                // Others can work while it waits for its server.
                cpu: if served { Cpu::Shared } else { model.cpu },
                gpu: usize::from(served),
                memory_mb: ((bytes * here + BESIDE) / 1e6) as u64,
                model: Some(model.reference.clone()),
            };
        }
        self.jobs.push(job);
    }

    fn add_model(&self, job: &mut Job, model: &Loaded) {
        match model.inside {
            true if job.inputs.contains(&model.reference) => {}
            true => job.inputs.push(model.reference.clone()),
            // The blank model of a pretraining is an input already.
            false if job.stage == Stage::Pretrain => {}
            false => job.external.push(model.reference.clone()),
        }
    }

    fn cost(&self, how: Use, parameters: f64, tokens: f64) -> Cost {
        let operations = match how {
            Use::Forward => 2.0,
            Use::Training => 6.0,
        };
        let bytes = match how {
            Use::Forward => TEXT_BYTES * tokens,
            Use::Training => self.saved_bytes() * parameters,
        };
        Cost {
            tokens,
            tera_operations: operations * parameters * tokens / 1e12,
            disk_mb: bytes / 1e6,
        }
    }

    /// Bytes of a checkpoint for each parameter of its model.
    fn saved_bytes(&self) -> f64 {
        let of = &self.recipe.train;
        match (of.method, of.save_dtype) {
            (Method::Lora, _) => 4.0 * ADAPTERS,
            (Method::Full, SaveDtype::F32) => 4.0,
            (Method::Full, SaveDtype::Bf16) => 2.0,
        }
    }

    fn teacher(&self, r: usize) -> Option<Loaded> {
        Some(match self.recipe.models.teacher.as_ref()? {
            Writer::Reference(reference) => Loaded::by_reference(reference, self.counts.teacher),
            // With all cores: nothing else can go on before its traces are there.
            Writer::Scratch(_) => Loaded {
                reference: path(&self.layout.model(r, "teacher")),
                inside: true,
                parameters: self.counts.teacher,
                cpu: Cpu::All,
            },
        })
    }

    fn student_model(&self, r: usize, index: usize) -> Loaded {
        let parameters = self.counts.students[index];
        match &self.recipe.students()[index].1 {
            Some(reference) => Loaded::by_reference(reference, parameters),
            None => Loaded {
                reference: path(&self.layout.model(r, "student")),
                inside: true,
                parameters,
                cpu: Cpu::Shared,
            },
        }
    }
}

impl Loaded {
    /// Whether it runs on a server.
    fn is_remote(&self) -> bool {
        is_endpoint(&self.reference)
    }

    /// For a job that nothing else can run beside.
    fn with_all_cores(&self) -> Self {
        Self {
            cpu: Cpu::All,
            ..self.clone()
        }
    }

    fn by_reference(reference: &str, parameters: f64) -> Self {
        Self {
            reference: reference.to_owned(),
            inside: false,
            parameters,
            cpu: Cpu::All,
        }
    }
}

fn tuned(student: &str, arm: &str, seed: u64) -> Tuned {
    Tuned {
        student: student.to_owned(),
        arm: arm.to_owned(),
        seed,
    }
}

/// Whether some arm holds the student's own samples.
pub fn has_own(recipe: &Recipe) -> bool {
    recipe.arms.need(|source| *source == Source::Own)
}

/// The models that are trained inside a run, the longer training first.
pub fn scratch_models(recipe: &Recipe) -> Vec<(&'static str, &super::recipe::ScratchModel)> {
    let teacher = recipe.scratch_teacher().map(|model| ("teacher", model));
    let student = recipe.scratch_student().map(|model| ("student", model));
    teacher.into_iter().chain(student).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}
