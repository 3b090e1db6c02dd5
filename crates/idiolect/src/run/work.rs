//! Doing one job of the plan: the same stage functions that the single commands call. Each continues
//! what an earlier process left and keeps what is complete, so a job can be done again at any time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::arms::{self, ArmSpec, ArmsError, ArmsInput, ArmsOptions, Source, Student};
use idiolect_core::flaw::{FinalAnswer, FlawSettings};
use idiolect_core::paraphrase::Bounds;
use idiolect_core::record::{ArmRow, Problem, Split, Trace, VerdictRow};
use idiolect_core::store::{Meta, hash_file};
use idiolect_core::task::task;
use idiolect_engine::local::LocalModel;
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{
    Compute, Generate, Model, Rng, Sampling, Schedule, StepSize, Template, TrainSettings, Usage,
};

use super::RunContext;
use super::data::{self, write_rows};
use super::layout::{DataPaths, StudentPaths};
use super::plan::{self, BASE, Job, Stage, Tuned, Work};
use super::recipe::{Scorer, ScratchModel, Trainer, Writer};
use super::results;
use super::view::read;
use crate::model::{self, How, Served};
use crate::stage::arms::{ArmsSettings, arms, summary};
use crate::stage::corrupt::{CorruptSettings, Corruption, corrupt};
use crate::stage::eval::{EvalSettings, eval};
use crate::stage::generate::{GenerateSettings, generate};
use crate::stage::paraphrase::{ParaphraseSettings, paraphrase};
use crate::stage::pretrain::{PretrainSettings, pretrain};
use crate::stage::score::{ScoreInput, ScoreSettings, score};
use crate::stage::student::StudentText;
use crate::stage::train::{TrainStageSettings, train};
use crate::stage::verify::{VerifySettings, verify};
use crate::stage::{Control, Outcome, StageError};
use crate::torch::Torch;
use crate::trl::Trl;

/// Steps between two resumable states of a training by TRL.
const TRL_CHECKPOINT_EVERY: usize = 100;

/// The student's own samples of a problem: arm S takes one.
pub(super) const OWN_SAMPLES: usize = 2;

/// Does a job; `spent` is then what it asked an endpoint, also where it failed.
pub(super) fn work(
    run: &RunContext<'_>,
    job: &Job,
    control: Control<'_>,
    spent: &Cell<Option<Usage>>,
) -> Result<(), StageError> {
    let control = Control {
        extent: job.extent,
        ..control
    };
    let here = Here::of(run, job, control, spent);
    match &job.work {
        Work::Data => data::prepare(run, &here.data, here.seed, control),
        Work::Pretrain(model) => here.pretrain(model),
        Work::Generate => here.generate(),
        Work::Own(student) => here.own(student),
        Work::Paraphrase => here.paraphrase(),
        Work::Verify(part) => here.verify(here.data.part(part), here.data.part_verdicts(part)),
        Work::VerifyOwn(student) => {
            let paths = here.student(student);
            here.verify(paths.own(), paths.own_verdicts())
        }
        Work::Picks(of) => here.picks(of),
        Work::Flaws(dose, answer) => here.flaws(*dose, *answer),
        Work::Copies(source) => here.copies(source),
        Work::Traces => here.traces(),
        Work::Score(student) => here.score(student),
        Work::Arms(student) => here.arms(student),
        Work::Train(tuned) => here.train(tuned),
        Work::Eval(tuned) => here.eval(tuned),
        Work::EvalTeacher => here.eval_teacher(),
        Work::Report => results::compare_and_report(run),
    }
}

/// The model of a job that a server answers, where its files are there already.
///
/// # Errors
/// As [`model::served`].
pub(super) fn model_there<'a>(
    run: &'a RunContext<'a>,
    job: &Job,
    control: Control<'a>,
    spent: &'a Cell<Option<Usage>>,
) -> Result<Option<Served<'a>>, StageError> {
    let here = Here::of(run, job, control, spent);
    let asked = match &job.work {
        Work::Generate | Work::EvalTeacher => here.teacher(),
        Work::Paraphrase => here.paraphraser(),
        Work::Own(name) | Work::Score(name) => here.base(name),
        Work::Eval(tuned) => here.tuned(tuned),
        _ => return Ok(None),
    };
    match Path::new(&asked.reference).is_dir() {
        true => here.served(&asked).map(Some),
        false => Ok(None),
    }
}

/// A model that a job asks.
struct Asked<'a> {
    /// Where it is.
    reference: String,
    /// How its files are read.
    opening: Opening<'a>,
    /// What people call it, as a name of files.
    name: String,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The replicate that a job is of.
struct Here<'a> {
    run: &'a RunContext<'a>,
    r: usize,
    data: DataPaths,
    seed: u64,
    control: Control<'a>,
    /// What an endpoint was asked.
    spent: &'a Cell<Option<Usage>>,
}

impl<'a> Here<'a> {
    fn of(
        run: &'a RunContext<'a>,
        job: &Job,
        control: Control<'a>,
        spent: &'a Cell<Option<Usage>>,
    ) -> Self {
        Self {
            run,
            r: job.replicate,
            data: run.layout.data(job.replicate),
            seed: run.recipe.seed + job.replicate as u64,
            control,
            spent,
        }
    }

    fn student(&self, name: &str) -> StudentPaths {
        self.run.layout.student(self.r, name)
    }

    fn pretrain(&self, model: &str) -> Result<(), StageError> {
        let models = plan::scratch_models(self.run.recipe);
        let Some((_, scratch)) = models.iter().find(|(name, _)| *name == model) else {
            return Err(StageError::failed(
                format!("the recipe trains no {model}"),
                "",
            ));
        };
        let blank = self.data.blank(model);
        let settings = PretrainSettings {
            config: blank.join("config.json"),
            tokenizer: blank.join("tokenizer.json"),
            data: self.data.corpus(model),
            train: scratch_settings(scratch, self.seed),
            output: self.run.layout.model(self.r, model),
        };
        pretrain(&settings, self.control)?;
        Ok(())
    }

    /// The teacher.
    fn teacher(&self) -> Asked<'a> {
        let (reference, opening) = match &self.run.recipe.models.teacher {
            Some(Writer::Reference(reference)) => {
                (self.run.folders.model(reference), self.as_teacher())
            }
            _ => {
                let raw = Opening {
                    template: Some(Template::Raw),
                    ..Opening::default()
                };
                (text(&self.run.layout.model(self.r, "teacher")), raw)
            }
        };
        self.asked("teacher", reference, opening)
    }

    /// Who rewrites.
    fn paraphraser(&self) -> Asked<'a> {
        match self.run.recipe.models.paraphraser.as_deref() {
            None | Some("teacher") => self.teacher(),
            Some(own) => {
                let reference = self.run.folders.model(own);
                self.asked("paraphraser", reference, self.as_teacher())
            }
        }
    }

    fn as_teacher(&self) -> Opening<'a> {
        Opening {
            template: self.run.recipe.models.teacher_template,
            ..Opening::default()
        }
    }

    /// A student, or as arm of `tuned` what it became.
    fn tuned(&self, tuned: &Tuned) -> Asked<'a> {
        let Tuned { student, arm, seed } = tuned;
        let (name, directory) = match arm.as_str() {
            BASE => (student.clone(), self.student_dir(student)),
            arm => (
                format!("{student}-{arm}-seed{seed}"),
                self.student(student).checkpoint(arm, *seed),
            ),
        };
        self.asked(&name, text(&directory), opening(self.run))
    }

    fn base(&self, student: &str) -> Asked<'a> {
        self.tuned(&Tuned {
            student: student.to_owned(),
            arm: BASE.to_owned(),
            seed: 0,
        })
    }

    fn asked(&self, name: &str, reference: String, opening: Opening<'a>) -> Asked<'a> {
        // A name of files: an arm's may hold anything.
        let plain = |c: char| {
            if c.is_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let mut name: String = name.chars().map(plain).collect();
        if self.run.recipe.replicates > 1 {
            name.push_str(&format!("-r{}", self.r));
        }
        Asked {
            reference,
            opening,
            name,
        }
    }

    /// Opens the model of a stage with all threads, wherever it is.
    fn open(
        &self,
        stage: Stage,
        asked: &Asked<'a>,
        compute: Compute,
    ) -> Result<Box<dyn Model + 'a>, StageError> {
        if self.run.recipe.is_served(stage) {
            return Ok(Box::new(self.served(asked)?));
        }
        // A teacher that is not computed here answers an evaluation in its own type.
        let compute = match model::is_computed_here(&asked.reference) {
            true => compute,
            false => Compute::F32,
        };
        let opening = Opening {
            compute,
            ..asked.opening
        };
        let in_flight = self.run.recipe.models.in_flight;
        let how = How {
            in_flight: in_flight.filter(|_| model::is_endpoint(&asked.reference)),
            ..self.how(opening)
        };
        model::open(&asked.reference, &how)
    }

    fn served(&self, asked: &Asked<'a>) -> Result<Served<'a>, StageError> {
        let servers = self.run.servers.as_ref();
        let servers = servers
            .ok_or_else(|| StageError::failed("the recipe states no command of a server", ""))?;
        let how = How {
            in_flight: self.run.recipe.models.in_flight,
            ..self.how(asked.opening)
        };
        model::served(&asked.reference, asked.name.clone(), servers, &how)
    }

    fn how(&self, opening: Opening<'a>) -> How<'a> {
        let control = self.control;
        How {
            opening,
            ..How::here(control.threads, control.progress, control.stop)
        }
    }

    fn generate(&self) -> Result<(), StageError> {
        let settings = GenerateSettings {
            problems: self.data.problems(),
            splits: vec![Split::Train],
            samples: self.run.recipe.generate.n,
            sampling: self.run.recipe.generate.sampling(),
            prompt: self.run.recipe.teacher_prompt(),
            seed: self.seed,
            output: self.data.part("sampled"),
        };
        let compute = self.run.recipe.generate.compute;
        let mut teacher = self.open(Stage::Generate, &self.teacher(), compute)?;
        let done = generate(&settings, teacher.as_generate()?, self.control);
        self.spent.set(teacher.usage());
        done.map(drop)
    }

    fn own(&self, name: &str) -> Result<(), StageError> {
        let settings = GenerateSettings {
            problems: self.data.problems(),
            splits: vec![Split::Train],
            samples: OWN_SAMPLES,
            sampling: self.run.recipe.generate.sampling(),
            prompt: self.run.recipe.prompt(),
            seed: self.seed,
            output: self.student(name).own(),
        };
        let compute = self.run.recipe.generate.compute;
        let mut student = self.open(Stage::Generate, &self.base(name), compute)?;
        let done = generate(&settings, student.as_generate()?, self.control);
        self.spent.set(student.usage());
        done.map(drop)
    }

    fn paraphrase(&self) -> Result<(), StageError> {
        let recipe = self.run.recipe;
        let rewrite = &recipe.paraphrase;
        let settings = ParaphraseSettings {
            problems: self.data.problems(),
            traces: vec![self.data.part("human")],
            sampling: Sampling {
                temperature: rewrite.temperature,
                max_tokens: rewrite.max_tokens,
                ..Sampling::default()
            },
            prompt: recipe.paraphrase_prompt(),
            // `verify` states whether the answer survived; the rewriter of a generated world makes
            // mistakes on the way, which are part of what P is where nothing is tried again.
            bounds: (rewrite.retries > 0).then(Bounds::default),
            retries: rewrite.retries,
            seed: self.seed,
            output: self.data.part("paraphrased"),
        };
        let mut model = self.open(Stage::Paraphrase, &self.paraphraser(), rewrite.compute)?;
        let done = paraphrase(&settings, model.as_generate()?, self.control);
        self.spent.set(model.usage());
        done.map(drop)
    }

    fn verify(&self, traces: PathBuf, output: PathBuf) -> Result<(), StageError> {
        let settings = VerifySettings {
            problems: self.data.problems(),
            traces: vec![traces],
            output,
            compat: None,
            accept_rounded: self.run.recipe.verify.accept_rounded,
        };
        verify(&settings, self.control)?;
        Ok(())
    }

    /// The traces that copies are made of: those that G, or W, takes of the train problems, and that
    /// every student can be trained on.
    fn picks(&self, of: &Source) -> Result<(), StageError> {
        let specs = self.run.recipe.arms.specs();
        let mut meta = Meta::of("picks");
        meta.setting("seed", self.seed)
            .setting("models", arms::models_to_copy(&specs, of))
            .input("problems", hash_file(&self.data.problems())?);
        let (mut traces, mut verdicts) = (Vec::new(), Vec::new());
        for part in plan::sampled_parts(self.run.recipe) {
            let (path, judged) = (self.data.part(&part), self.data.part_verdicts(&part));
            meta.input(&part, hash_file(&path)?)
                .input(&format!("{part}.verdicts"), hash_file(&judged)?);
            traces.extend(read::<Trace>(&path)?);
            verdicts.extend(read::<VerdictRow>(&judged)?);
        }
        let mut students = Vec::new();
        for (name, _) in self.run.recipe.students() {
            let student = self.student_text(&name)?;
            student.record(&mut meta);
            students.push(student);
        }
        let problems: Vec<Problem> = read(&self.data.problems())?;
        let mut prompts = BTreeMap::new();
        for problem in problems.iter().filter(|p| p.split == Split::Train) {
            let task = task(problem.task);
            if let Ok(prompt) = task.prompt(problem, &self.run.prompt(task)?) {
                prompts.insert(problem.id.clone(), prompt);
            }
        }
        let takes = |row: &ArmRow| {
            students
                .iter()
                .try_for_each(|student| student.takes(row).map_err(|error| error.kind))
        };
        let input = ArmsInput {
            problems: &problems,
            traces: &traces,
            verdicts: &verdicts,
            scores: &[],
            prompts: &prompts,
            student: Some(Student::new(&takes)),
        };
        let picks = arms::picks(&input, &specs, of, self.seed)
            .map_err(|e| StageError::failed(e.to_string(), ""))?;
        write_rows(&self.data.part(plan::picks_part(of)), &meta, || {
            picks.iter()
        })
    }

    fn flaws(&self, dose: f64, answer: FinalAnswer) -> Result<(), StageError> {
        let settings = FlawSettings {
            dose,
            ops: self.run.recipe.flaws.ops.clone(),
            answer,
            seed: self.seed,
        };
        let part = plan::flawed_part(dose, answer);
        self.corrupt(&part, &Source::Correct, Corruption::Flaws(settings))
    }

    fn copies(&self, source: &Source) -> Result<(), StageError> {
        let seed = self.seed;
        let corruption = match source {
            Source::AnswerOnly => Corruption::AnswerOnly,
            Source::CorrectInHumanStyle | Source::WrongInHumanStyle => {
                Corruption::HumanStyle { seed }
            }
            other => Corruption::ContentControl {
                seed,
                right_answer: *other == Source::ControlRight,
            },
        };
        self.corrupt(plan::copies_part(source), source, corruption)
    }

    /// Makes the part that holds copies of the picks of G, or of W for a source of copies of W.
    fn corrupt(&self, part: &str, of: &Source, corruption: Corruption) -> Result<(), StageError> {
        // Not every text has its answer apart from its steps, or a chain to retell. What has no copy
        // enters no arm that is matched with it, as the arms' coverage states.
        let max_rejects = match &corruption {
            Corruption::Flaws(flaws) if flaws.answer == FinalAnswer::AsItComes => {
                self.control.max_rejects
            }
            Corruption::ContentControl {
                right_answer: false,
                ..
            } => self.control.max_rejects,
            _ => 1.0,
        };
        let settings = CorruptSettings {
            problems: self.data.problems(),
            traces: vec![self.data.part(plan::picks_part(of))],
            corruption,
            output: self.data.part(part),
        };
        let control = Control {
            max_rejects,
            ..self.control
        };
        corrupt(&settings, control)?;
        Ok(())
    }

    /// All parts in a fixed order as one file, and their verdicts.
    fn traces(&self) -> Result<(), StageError> {
        let parts = plan::parts(self.run.recipe);
        let (mut of_traces, mut of_verdicts) = (Meta::of("traces"), Meta::of("verdicts"));
        let (mut traces, mut verdicts) = (Vec::new(), Vec::new());
        for part in &parts {
            let (path, judged) = (
                self.data.part(&part.name),
                self.data.part_verdicts(&part.name),
            );
            of_traces.input(&part.name, hash_file(&path)?);
            of_verdicts.input(&part.name, hash_file(&judged)?);
            traces.extend(read::<Trace>(&path)?);
            verdicts.extend(read::<VerdictRow>(&judged)?);
        }
        if !self.data.traces().exists() {
            self.check_arms(&traces, &verdicts)?;
        }
        write_rows(&self.data.traces(), &of_traces, || traces.iter())?;
        write_rows(&self.data.verdicts(), &of_verdicts, || verdicts.iter())
    }

    /// Refuses arms that no trace represents before anything is scored; until `traces.jsonl` is
    /// there, the run can go on with other arms. What a student cannot take, and arms of its own
    /// samples, are seen when its arms are built.
    fn check_arms(&self, traces: &[Trace], verdicts: &[VerdictRow]) -> Result<(), StageError> {
        let recipe = &self.run.recipe.arms;
        let of_all = |arm: &ArmSpec| arm.parts.iter().all(|part| part.source != Source::Own);
        let specs: Vec<ArmSpec> = recipe.specs().into_iter().filter(of_all).collect();
        if specs.is_empty() {
            return Ok(());
        }
        let input = ArmsInput {
            problems: &read::<Problem>(&self.data.problems())?,
            traces,
            verdicts,
            scores: &[],
            prompts: &BTreeMap::new(),
            student: None,
        };
        let options = ArmsOptions {
            arms: specs,
            matching: recipe.matching,
            rows: recipe.rows,
            seed: self.seed,
            unknown_finish_is_stop: false,
        };
        arms::check_coverage(&input, &options).map_err(|error| {
            StageError::failed(
                error.to_string(),
                &format!(
                    "the same command with fewer arms goes on from here: `{}`",
                    match &error {
                        ArmsError::EmptyArm { arm, .. } => recipe.without(arm),
                        _ => "--set 'arms.names=[…]'".to_owned(),
                    }
                ),
            )
        })
    }

    /// A student's traces: those of everyone and its own.
    fn traces_of(&self, paths: &StudentPaths) -> Vec<PathBuf> {
        let own = plan::has_own(self.run.recipe).then(|| paths.own());
        [self.data.traces()].into_iter().chain(own).collect()
    }

    fn score(&self, name: &str) -> Result<(), StageError> {
        let paths = self.student(name);
        let settings = ScoreSettings {
            input: ScoreInput::Traces {
                problems: self.data.problems(),
                traces: self.traces_of(&paths),
                prompt: self.run.recipe.prompt(),
            },
            output: paths.scores(),
            tokens: Some(paths.tokens()),
        };
        // A trace that the student cannot take has no score and enters no arm; that every row of an
        // arm has one is seen when arms are built.
        let control = Control {
            max_rejects: 1.0,
            ..self.control
        };
        let student = self.base(name);
        let compute = self.run.recipe.score.compute;
        let mut model: Box<dyn Model> = match self.run.recipe.score.endpoints.get(name) {
            None if self.run.recipe.score.backend == Scorer::Torch => {
                let torch = &self.run.recipe.torch;
                let how = self.how(Opening {
                    compute,
                    ..student.opening
                });
                Box::new(Torch::open(&student.reference, &how, torch)?)
            }
            None => self.open(Stage::Score, &student, compute)?,
            Some(address) => {
                let how = How {
                    tokenizer: Some(&student.reference),
                    in_flight: self.run.recipe.models.in_flight,
                    ..self.how(student.opening)
                };
                model::open(address, &how)?
            }
        };
        let done = score(&settings, model.as_score()?, control);
        self.spent.set(model.usage());
        done.map(drop)
    }

    fn arms(&self, name: &str) -> Result<(), StageError> {
        let paths = self.student(name);
        let own = plan::has_own(self.run.recipe).then(|| paths.own_verdicts());
        let settings = ArmsSettings {
            problems: self.data.problems(),
            traces: self.traces_of(&paths),
            verdicts: [self.data.verdicts()].into_iter().chain(own).collect(),
            scores: vec![paths.scores()],
            arms: self
                .run
                .recipe
                .arms
                .specs()
                .into_iter()
                .map(|arm| (arm.name.clone(), arm.spec()))
                .collect(),
            matching: self.run.recipe.arms.matching,
            rows: self.run.recipe.arms.rows,
            unknown_finish_is_stop: false,
            prompt: self.run.recipe.prompt(),
            seed: self.seed,
            output: paths.arms(),
        };
        arms(&settings, Some(&self.student_text(name)?), self.control)?;
        let built = summary(&settings.output)?;
        match built.arms.iter().find(|(_, arm)| arm.tokens.is_none()) {
            None => Ok(()),
            Some((arm, _)) => Err(StageError::failed(
                format!("arm `{arm}` holds traces that the student `{name}` gave no score"),
                &format!(
                    "students/{name}/r{}/scores.jsonl.rejects.jsonl in the run directory has the reasons",
                    self.r
                ),
            )),
        }
    }

    fn train(&self, tuned: &Tuned) -> Result<(), StageError> {
        let paths = self.student(&tuned.student);
        let data = paths.arm(&tuned.arm);
        let settings = TrainStageSettings {
            train: self.train_settings(tuned, read::<ArmRow>(&data)?.len()),
            data,
            dev: None,
            output: paths.checkpoint(&tuned.arm, tuned.seed),
        };
        // What is matched is what is trained: no row may be missing.
        let control = Control {
            max_rejects: 0.0,
            ..self.control
        };
        if let Some(servers) = &self.run.servers {
            // What they hold of memory is for the training.
            servers.stop_idle();
        }
        let compute = self.run.recipe.train.compute;
        let directory = self.student_dir(&tuned.student);
        let done = match self.run.recipe.train.backend {
            Trainer::Native => train(&settings, &mut self.load(&directory, compute)?, control),
            Trainer::Trl => self.train_by_trl(&settings, &directory, control),
        };
        done.map_err(|error| {
            error.with_remedy(format!(
                "arm `{}` has to be trained on every row that it holds: remove the `arms` folder of \
                 the student to build the arms anew, or start over with --overwrite",
                tuned.arm
            ))
        })?;
        Ok(())
    }

    fn train_by_trl(
        &self,
        settings: &TrainStageSettings,
        directory: &Path,
        control: Control<'_>,
    ) -> Result<Outcome, StageError> {
        let how = self.how(Opening {
            compute: self.run.recipe.train.compute,
            ..opening(self.run)
        });
        let adapter = settings.train.lora.is_some();
        let reference = directory.to_string_lossy();
        let mut student = Trl::open(&reference, &how, &self.run.recipe.trl, adapter)?;
        train(settings, &mut student, control)
    }

    fn train_settings(&self, tuned: &Tuned, rows: usize) -> TrainSettings {
        let of = &self.run.recipe.train;
        let steps = rows.div_ceil(of.batch_size) * of.epochs;
        let key = ["finetune", &tuned.arm, &tuned.seed.to_string()];
        TrainSettings {
            epochs: of.epochs,
            lr: of.lr,
            schedule: of.schedule,
            warmup_steps: (of.warmup_ratio * steps as f64).round() as usize,
            weight_decay: of.weight_decay,
            lora: of.adapters(),
            save_dtype: of.save_dtype,
            step_size: StepSize::Rows(of.batch_size),
            checkpoint_every: match of.backend {
                Trainer::Native => 0,
                // Its trainings are those that take long.
                Trainer::Trl => TRL_CHECKPOINT_EVERY,
            },
            seed: Rng::keyed(self.seed, &key).next_u64(),
            ..TrainSettings::default()
        }
    }

    fn eval(&self, tuned: &Tuned) -> Result<(), StageError> {
        let compute = self.run.recipe.eval.compute;
        let mut model = self.open(Stage::Eval, &self.tuned(tuned), compute)?;
        let done = self.eval_with(tuned, model.as_mut());
        self.spent.set(model.usage());
        done
    }

    fn eval_with(&self, tuned: &Tuned, model: &mut dyn Model) -> Result<(), StageError> {
        let paths = self.student(&tuned.student);
        let settings = &self.run.recipe.eval;
        let at = |temperature| Sampling {
            temperature,
            max_tokens: settings.max_tokens,
            stop: settings.stop.clone(),
            ..Sampling::default()
        };
        for what in self.run.counts.evaluations(self.run.recipe) {
            let (split, samples, sampling) = match what {
                "dev" => (Split::Dev, 1, at(0.0)),
                "greedy" => (Split::Test, 1, at(0.0)),
                "sampled" => (Split::Test, settings.n, at(settings.temperature)),
                _ => continue,
            };
            let output = paths.evaluation(&tuned.arm, tuned.seed, what);
            self.evaluate(model.as_generate()?, split, samples, sampling, output)?;
        }
        let settings = ScoreSettings {
            input: ScoreInput::Traces {
                problems: self.data.problems(),
                traces: vec![self.data.part("gold")],
                prompt: self.run.recipe.prompt(),
            },
            output: paths.evaluation(&tuned.arm, tuned.seed, "gold"),
            tokens: None,
        };
        // Too long for one checkpoint is too long for all.
        let control = Control {
            max_rejects: 1.0,
            ..self.control
        };
        score(&settings, model.as_score()?, control)?;
        Ok(())
    }

    fn eval_teacher(&self) -> Result<(), StageError> {
        let greedy = Sampling {
            temperature: 0.0,
            max_tokens: self.run.recipe.eval.max_tokens,
            stop: self.run.recipe.eval.stop.clone(),
            ..Sampling::default()
        };
        let output = self.data.teacher_evaluation();
        let compute = self.run.recipe.eval.compute;
        let mut teacher = self.open(Stage::Eval, &self.teacher(), compute)?;
        let done = self.evaluate(teacher.as_generate()?, Split::Test, 1, greedy, output);
        self.spent.set(teacher.usage());
        done
    }

    fn evaluate(
        &self,
        model: &mut dyn Generate,
        split: Split,
        samples: usize,
        sampling: Sampling,
        output: PathBuf,
    ) -> Result<(), StageError> {
        let settings = EvalSettings {
            problems: self.data.problems(),
            splits: vec![split],
            samples,
            sampling,
            prompt: self.run.recipe.prompt(),
            seed: self.seed,
            trained_rows: None,
            accept_rounded: self.run.recipe.verify.accept_rounded,
            output,
        };
        eval(&settings, model, self.control)?;
        Ok(())
    }

    /// Where a student lies: trained in this replicate, or given.
    fn student_dir(&self, name: &str) -> PathBuf {
        self.run.student_dir(self.r, name)
    }

    /// A student or a checkpoint of it.
    fn load(&self, dir: &Path, compute: Compute) -> Result<LocalModel, StageError> {
        let opening = Opening {
            compute,
            ..opening(self.run)
        };
        Ok(LocalModel::open(dir, &opening, self.control.threads)?)
    }

    /// What a student can be trained on.
    fn student_text(&self, name: &str) -> Result<StudentText, StageError> {
        Ok(StudentText {
            text: TextModel::open(&self.student_dir(name), &opening(self.run))?,
            max_tokens: self.run.recipe.train.max_length,
        })
    }
}

/// A model trained here has no template; a given one keeps its own default.
pub(super) fn opening<'a>(run: &'a RunContext<'_>) -> Opening<'a> {
    let scratch = run.recipe.scratch_student().map(|_| Template::Raw);
    Opening {
        template: run.recipe.models.template.or(scratch),
        ignored_fields: &run.recipe.models.ignore_config_fields,
        ..Opening::default()
    }
}

fn scratch_settings(model: &ScratchModel, seed: u64) -> TrainSettings {
    TrainSettings {
        epochs: model.epochs,
        lr: model.lr,
        schedule: Schedule::Cosine,
        min_lr_ratio: model.min_lr_ratio,
        warmup_steps: model.warmup_steps,
        weight_decay: model.weight_decay,
        betas: (0.9, model.beta2),
        step_size: StepSize::Tokens(model.batch_tokens),
        seed,
        checkpoint_every: 250,
        ..TrainSettings::default()
    }
}
