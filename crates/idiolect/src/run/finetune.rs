//! Fine-tuning the student on each arm with each seed, and evaluating every checkpoint: independent
//! jobs, one thread each.

use idiolect_core::model::{Sampling, StepSize, TrainSettings};
use idiolect_core::record::{Finish, Origin, OriginKind, Problem, Split, Trace};
use idiolect_core::rng::Rng;
use idiolect_core::store::{Meta, hash_file};
use idiolect_engine::local::LocalModel;

use super::RunContext;
use super::costs::finetune_unit;
use super::jobs::side_by_side;
use super::layout::World;
use super::source::write_rows;
use super::view::read;
use super::world::{load, load_student, student_dir};
use crate::stage::eval::{EvalSettings, eval};
use crate::stage::score::{ScoreInput, ScoreSettings, score};
use crate::stage::train::{TrainStageSettings, train};
use crate::stage::{Control, StageError};

/// The arm that is the untrained student.
pub(crate) const BASE: &str = "base";
/// The teacher's place among the evaluations; it is no arm.
pub(crate) const TEACHER: &str = "teacher";

/// One checkpoint to make and evaluate.
struct Job<'a> {
    arm: &'a str,
    seed: u64,
}

/// Trains and evaluates everything of a world.
pub(crate) fn all(
    run: &RunContext<'_>,
    number: usize,
    world: &World,
    seed: u64,
) -> Result<(), StageError> {
    gold_traces(world)?;
    let arms = run.recipe.arms.listed();
    let mut jobs = vec![Job { arm: BASE, seed: 0 }];
    for arm in &arms {
        jobs.extend((0..run.recipe.finetune.seeds as u64).map(|seed| Job { arm, seed }));
    }
    if run.recipe.pretrain.teacher.is_some() {
        jobs.push(Job {
            arm: TEACHER,
            seed: 0,
        });
    }
    // A student too large for one core's patience uses them all, one job at a time.
    let at_once = if run.recipe.student.is_some() {
        1
    } else {
        run.threads
    };
    let each = if at_once == 1 { run.threads } else { 1 };
    side_by_side(at_once, &jobs, |job| {
        let name = finetune_unit(run.recipe, number, job.arm, job.seed);
        let progress = run.overall.unit(&name);
        let control = run.control(&progress, each);
        checkpoint(run, world, job, seed, control)?;
        run.overall.finish(&name);
        Ok::<_, StageError>(())
    })?;
    Ok(())
}

/// Makes one checkpoint and its evaluations.
fn checkpoint(
    run: &RunContext<'_>,
    world: &World,
    job: &Job<'_>,
    world_seed: u64,
    control: Control<'_>,
) -> Result<(), StageError> {
    let dir = match job.arm {
        BASE => student_dir(run, world),
        TEACHER => world.model("teacher"),
        arm => {
            let dir = world.checkpoint(arm, job.seed);
            let stage = TrainStageSettings {
                data: world.arm(arm),
                dev: None,
                train: tune_settings(run, arm, job.seed, world_seed),
                output: dir.clone(),
            };
            // What is matched is what is trained: no row may be missing.
            let control = Control {
                max_rejects: 0.0,
                ..control
            };
            let trained = train(
                &stage,
                &mut load_student(run, world, control.threads)?,
                control,
            );
            trained.map_err(|error| {
                error.with_remedy(format!(
                    "arm `{arm}` has to be trained on every row that it holds: remove the run's \
                     `arms` folder to build the arms anew, or start over with --overwrite"
                ))
            })?;
            dir
        }
    };
    let mut model = load(run, &dir, control.threads)?;
    evaluate(run, world, job, world_seed, &mut model, control)
}

fn tune_settings(run: &RunContext<'_>, arm: &str, seed: u64, world_seed: u64) -> TrainSettings {
    let tune = &run.recipe.finetune;
    TrainSettings {
        epochs: tune.epochs,
        lr: tune.lr,
        schedule: tune.schedule,
        lora: tune.lora.clone(),
        save_dtype: tune.save_dtype,
        step_size: StepSize::Rows(tune.batch_size),
        seed: Rng::keyed(world_seed, &["finetune", arm, &seed.to_string()]).next_u64(),
        ..TrainSettings::default()
    }
}

fn evaluate(
    run: &RunContext<'_>,
    world: &World,
    job: &Job<'_>,
    world_seed: u64,
    model: &mut LocalModel,
    control: Control<'_>,
) -> Result<(), StageError> {
    let settings = &run.recipe.eval;
    let at = |temperature| Sampling {
        temperature,
        max_tokens: settings.max_tokens,
        ..Sampling::default()
    };
    let mut asked = vec![
        ("dev", Split::Dev, 1, at(0.0)),
        ("greedy", Split::Test, 1, at(0.0)),
    ];
    if settings.samples > 0 {
        asked.push((
            "sampled",
            Split::Test,
            settings.samples,
            at(settings.temperature),
        ));
    }
    for (what, split, k, sampling) in asked {
        let settings = EvalSettings {
            problems: world.problems(),
            splits: vec![split],
            samples: k,
            sampling,
            prompt: run.prompt_name(),
            seed: world_seed,
            trained_rows: None,
            accept_rounded: run.recipe.verify.accept_rounded,
            output: world.evaluation(job.arm, job.seed, what),
        };
        eval(&settings, model, control)?;
    }
    let settings = ScoreSettings {
        input: ScoreInput::Traces {
            problems: world.problems(),
            traces: vec![world.part("gold")],
            prompt: run.prompt_name(),
        },
        output: world.evaluation(job.arm, job.seed, "gold"),
        tokens: None,
    };
    // Too long for one checkpoint is too long for all.
    let control = Control {
        max_rejects: 1.0,
        ..control
    };
    score(&settings, model, control)?;
    Ok(())
}

/// The test problems' own solutions, whose surprisal after training is reported.
fn gold_traces(world: &World) -> Result<(), StageError> {
    let problems: Vec<Problem> = read(&world.problems())?;
    let mut meta = Meta::of("gold");
    meta.input("problems", hash_file(&world.problems())?);
    let gold = problems
        .iter()
        .filter(|p| p.split == Split::Test)
        .filter_map(|p| {
            Some(Trace::new(
                &p.id,
                p.human.as_deref()?,
                Finish::Stop,
                Origin::of(OriginKind::Human),
            ))
        });
    write_rows(&world.part("gold"), &meta, || gold)
}
