//! One world of a run, stage by stage.

use std::path::{Path, PathBuf};

use idiolect_core::model::{Template, TrainSettings};
use idiolect_engine::local::LocalModel;
use idiolect_engine::text::{Opening, TextModel};

use super::costs::unit;
use super::jobs::side_by_side;
use super::layout::World;
use super::recipe::{ScratchModel, Source};
use super::{RunContext, finetune, source, traces};
use crate::stage::Control;
use crate::stage::StageError;
use crate::stage::arms::{ArmsSettings, arms, summary};
use crate::stage::pretrain::{PretrainSettings, pretrain};
use crate::stage::score::{ScoreInput, ScoreSettings, score};
use crate::stage::student::StudentText;
use crate::stage::verify::{VerifySettings, verify};

/// A stage's name and its work.
type Step<'a> = (&'static str, &'a dyn Fn() -> Result<(), StageError>);

/// Everything that one world does, in order. Each stage keeps what already stands.
pub(crate) fn stages(run: &RunContext<'_>, number: usize, world: &World) -> Result<(), StageError> {
    let seed = run.recipe.seed + number as u64;
    let steps: [Step<'_>; 7] = [
        ("source", &|| source::prepare(run, world, seed)),
        ("pretrain", &|| pretrain_models(run, number, world, seed)),
        ("traces", &|| traces::write(run, number, world, seed)),
        ("verify", &|| verify_traces(run, number, world)),
        ("score", &|| score_traces(run, number, world)),
        ("arms", &|| build_arms(run, number, world, seed)),
        ("finetune", &|| finetune::all(run, number, world, seed)),
    ];
    for (stage, work) in steps {
        run.record.event(number, stage, "begin");
        work()?;
        run.record.event(number, stage, "end");
        if !run.goes_on_after(stage) {
            break;
        }
    }
    Ok(())
}

/// Where the student lies: trained in this world, or given.
pub(crate) fn student_dir(run: &RunContext<'_>, world: &World) -> PathBuf {
    run.recipe
        .student
        .as_ref()
        .map_or_else(|| world.model("student"), PathBuf::from)
}

/// The student as everything of this run loads it.
pub(crate) fn load_student(
    run: &RunContext<'_>,
    world: &World,
    threads: usize,
) -> Result<LocalModel, StageError> {
    load(run, &student_dir(run, world), threads)
}

/// The student or a checkpoint of it.
pub(crate) fn load(
    run: &RunContext<'_>,
    dir: &Path,
    threads: usize,
) -> Result<LocalModel, StageError> {
    Ok(LocalModel::open(dir, &opening(run), threads)?)
}

/// A model trained here has no template; a given one keeps its own default.
fn opening<'a>(run: &'a RunContext<'_>) -> Opening<'a> {
    Opening {
        template: run.recipe.student.is_none().then_some(Template::Raw),
        ignored_fields: &run.recipe.ignore_config_fields,
        ..Opening::default()
    }
}

/// What the student can be trained on.
pub(crate) fn student_text(run: &RunContext<'_>, world: &World) -> Result<StudentText, StageError> {
    Ok(StudentText {
        text: TextModel::open(&student_dir(run, world), &opening(run))?,
        max_tokens: run.recipe.finetune.max_length,
    })
}

fn pretrain_models(
    run: &RunContext<'_>,
    number: usize,
    world: &World,
    seed: u64,
) -> Result<(), StageError> {
    let mut models: Vec<(&str, &ScratchModel)> = Vec::new();
    // The longer job first: the other fits beside it.
    models.extend(
        run.recipe
            .pretrain
            .teacher
            .as_ref()
            .map(|teacher| ("teacher", teacher)),
    );
    if run.recipe.student.is_none() {
        models.push(("student", &run.recipe.pretrain.student));
    }
    let each = run.threads.div_ceil(models.len().max(1));
    side_by_side(run.threads, &models, |(model, settings)| {
        let name = unit(run.recipe, number, model);
        let progress = run.overall.unit(&name);
        let blank = world.blank(model);
        let settings = PretrainSettings {
            config: blank.join("config.json"),
            tokenizer: blank.join("tokenizer.json"),
            data: world.corpus(model),
            train: scratch_settings(settings, seed),
            output: world.model(model),
        };
        pretrain(&settings, run.control(&progress, each))?;
        run.overall.finish(&name);
        Ok::<_, StageError>(())
    })?;
    Ok(())
}

fn scratch_settings(model: &ScratchModel, seed: u64) -> TrainSettings {
    use idiolect_core::model::{Schedule, StepSize};
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

fn verify_traces(run: &RunContext<'_>, number: usize, world: &World) -> Result<(), StageError> {
    let progress = run.overall.unit(&unit(run.recipe, number, "verify"));
    let settings = VerifySettings {
        problems: world.problems(),
        traces: vec![world.traces()],
        output: world.verdicts(),
        compat: None,
        accept_rounded: run.recipe.verify.accept_rounded,
    };
    verify(&settings, run.control(&progress, run.threads))?;
    Ok(())
}

fn score_traces(run: &RunContext<'_>, number: usize, world: &World) -> Result<(), StageError> {
    let name = unit(run.recipe, number, "score");
    let progress = run.overall.unit(&name);
    let settings = ScoreSettings {
        input: ScoreInput::Traces {
            problems: world.problems(),
            traces: vec![world.traces()],
            prompt: run.prompt_name(),
        },
        output: world.scores(),
        tokens: Some(world.tokens()),
    };
    // A trace that the student cannot take has no score and enters no arm; that every row of an arm
    // has one is seen when arms are built.
    let control = Control {
        max_rejects: 1.0,
        ..run.control(&progress, run.threads)
    };
    score(
        &settings,
        &mut load_student(run, world, run.threads)?,
        control,
    )?;
    run.overall.finish(&name);
    Ok(())
}

fn build_arms(
    run: &RunContext<'_>,
    number: usize,
    world: &World,
    seed: u64,
) -> Result<(), StageError> {
    let progress = run.overall.unit(&unit(run.recipe, number, "arms"));
    let settings = ArmsSettings {
        problems: world.problems(),
        traces: vec![world.traces()],
        verdicts: vec![world.verdicts()],
        scores: vec![world.scores()],
        arms: run
            .recipe
            .arms
            .specs()
            .into_iter()
            .map(|arm| (arm.name.clone(), arm.spec()))
            .collect(),
        matching: run.recipe.arms.matching,
        rows: run.recipe.arms.rows,
        // Published traces do not say how they ended.
        unknown_finish_is_stop: matches!(run.recipe.source, Source::Gsm8kTraces { .. }),
        prompt: run.prompt_name(),
        seed,
        output: world.arms(),
    };
    let student = student_text(run, world)?;
    arms(
        &settings,
        Some(&student),
        run.control(&progress, run.threads),
    )?;
    let built = summary(&settings.output)?;
    match built.arms.iter().find(|(_, arm)| arm.tokens.is_none()) {
        None => Ok(()),
        Some((name, _)) => Err(StageError::failed(
            format!("arm `{name}` holds traces that the student gave no score"),
            "scores.jsonl.rejects.jsonl in the run directory says why",
        )),
    }
}
