//! Every trace of a world: the teacher's samples, its rewritings of the human solutions, flawed and
//! control traces, each in a part of its own, gathered into `traces.jsonl`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::arms::{self, ArmsInput, Source, Student};
use idiolect_core::flaw::{FinalAnswer, FlawSettings};
use idiolect_core::model::{Sampling, Template};
use idiolect_core::paraphrase::Bounds;
use idiolect_core::record::{ArmRow, Problem, Split, Trace, VerdictRow};
use idiolect_core::store::{Meta, hash_file};
use idiolect_core::task::task;
use idiolect_engine::local::LocalModel;

use super::RunContext;
use super::costs::unit;
use super::layout::World;
use super::source::write_rows;
use super::view::read;
use super::world::{load_student, student_text};
use crate::stage::corrupt::{CorruptSettings, Corruption, corrupt};
use crate::stage::generate::{GenerateSettings, generate};
use crate::stage::paraphrase::{ParaphraseSettings, paraphrase};
use crate::stage::verify::{VerifySettings, verify};
use crate::stage::{Control, StageError};

/// The student's own samples of a problem: arm S takes one.
const OWN_SAMPLES: usize = 2;

/// Writes all traces of a world.
pub(crate) fn write(
    run: &RunContext<'_>,
    number: usize,
    world: &World,
    seed: u64,
) -> Result<(), StageError> {
    let name = unit(run.recipe, number, "traces");
    let progress = run.overall.unit(&name);
    let control = run.control(&progress, run.threads);
    if let Some(sample) = &run.recipe.sample {
        let sampling = Sampling {
            temperature: sample.temperature,
            max_tokens: sample.max_tokens,
            ..Sampling::default()
        };
        generate(
            &GenerateSettings {
                problems: world.problems(),
                splits: vec![Split::Train],
                samples: sample.per_problem,
                sampling,
                prompt: run.prompt_name(),
                seed,
                output: world.part("sampled"),
            },
            &mut teacher(run, world)?,
            control,
        )?;
    }
    if let Some(sample) = run.recipe.sample.as_ref().filter(|_| has_own(run)) {
        let sampling = Sampling {
            temperature: sample.temperature,
            max_tokens: sample.max_tokens,
            ..Sampling::default()
        };
        generate(
            &GenerateSettings {
                problems: world.problems(),
                splits: vec![Split::Train],
                samples: OWN_SAMPLES,
                sampling,
                prompt: run.prompt_name(),
                seed,
                output: world.part("own"),
            },
            &mut load_student(run, world, run.threads)?,
            control,
        )?;
    }
    if let Some(rewrite) = &run.recipe.paraphrase {
        let sampling = Sampling {
            temperature: rewrite.temperature,
            max_tokens: rewrite.max_tokens,
            ..Sampling::default()
        };
        paraphrase(
            &ParaphraseSettings {
                problems: world.problems(),
                traces: vec![world.part("human")],
                sampling,
                prompt: Some("mini-paraphrase".to_owned()),
                // `verify` says whether the answer survived; the rewriter of the miniature makes
                // mistakes on the way, which are part of what P is where nothing is tried again.
                bounds: (rewrite.retries > 0).then(Bounds::default),
                retries: rewrite.retries,
                seed,
                output: world.part("paraphrased"),
            },
            &mut teacher(run, world)?,
            control,
        )?;
    }
    derived(run, world, seed, control)?;
    gather(run, world)?;
    run.overall.finish(&name);
    Ok(())
}

/// The teacher with all threads: nothing else runs beside this stage.
fn teacher(run: &RunContext<'_>, world: &World) -> Result<LocalModel, StageError> {
    Ok(LocalModel::load(
        &world.model("teacher"),
        Some(Template::Raw),
        run.threads,
    )?)
}

/// Flawed traces and the content control, made from the trace that arm G takes of each problem.
fn derived(
    run: &RunContext<'_>,
    world: &World,
    seed: u64,
    control: Control<'_>,
) -> Result<(), StageError> {
    let verdicts = world.part("sampled.verdicts");
    let settings = VerifySettings {
        problems: world.problems(),
        traces: vec![world.part("sampled")],
        output: verdicts.clone(),
        compat: None,
        accept_rounded: run.recipe.verify.accept_rounded,
    };
    verify(&settings, control)?;
    pick_of_g(run, world, &verdicts, seed)?;
    let mut wanted: Vec<(String, Corruption)> = Vec::new();
    for dose in &run.recipe.doses {
        let settings = FlawSettings {
            dose: *dose,
            ops: Vec::new(),
            answer: FinalAnswer::AsItComes,
            seed,
        };
        wanted.push((dose_part(*dose), Corruption::Flaws(settings)));
    }
    if has_control(run) {
        wanted.push(("control".to_owned(), Corruption::ContentControl { seed }));
    }
    for (part, corruption) in wanted {
        let settings = CorruptSettings {
            problems: world.problems(),
            traces: vec![world.part("picks")],
            corruption,
            output: world.part(&part),
        };
        corrupt(&settings, control)?;
    }
    Ok(())
}

fn has_own(run: &RunContext<'_>) -> bool {
    run.recipe.arms.need(&Source::Own)
}

fn has_control(run: &RunContext<'_>) -> bool {
    run.recipe.arms.need(&Source::Control)
}

/// The trace that arm G takes of each train problem that has one.
fn pick_of_g(
    run: &RunContext<'_>,
    world: &World,
    verdicts: &Path,
    seed: u64,
) -> Result<(), StageError> {
    let sampled = world.part("sampled");
    let mut meta = Meta::of("picks");
    meta.setting("seed", seed)
        .input("problems", hash_file(&world.problems())?);
    meta.input("sampled", hash_file(&sampled)?)
        .input("verdicts", hash_file(verdicts)?);
    let problems: Vec<Problem> = read(&world.problems())?;
    let traces: Vec<Trace> = read(&sampled)?;
    let verdicts: Vec<VerdictRow> = read(verdicts)?;
    let student = student_text(run, world)?;
    student.record(&mut meta);
    let mut prompts = BTreeMap::new();
    for problem in problems.iter().filter(|p| p.split == Split::Train) {
        let task = task(problem.task);
        if let Ok(prompt) = task.prompt(problem, &run.prompt(task)?) {
            prompts.insert(problem.id.clone(), prompt);
        }
    }
    let takes = |row: &ArmRow| student.takes(row).map_err(|error| error.kind);
    let input = ArmsInput {
        problems: &problems,
        traces: &traces,
        verdicts: &verdicts,
        scores: &[],
        prompts: &prompts,
        student: Some(Student::new(&takes)),
    };
    let picks =
        arms::correct_picks(&input, seed).map_err(|e| StageError::failed(e.to_string(), ""))?;
    write_rows(&world.part("picks"), &meta, || picks.values())
}

fn dose_part(dose: f64) -> String {
    format!("flawed-{:.0}", dose * 100.0)
}

/// All parts in a fixed order, as one file.
fn gather(run: &RunContext<'_>, world: &World) -> Result<(), StageError> {
    let mut parts: Vec<String> = vec!["human".to_owned()];
    if run.recipe.arms.need(&Source::Style("digits".to_owned())) {
        parts.push("human-digits".to_owned());
    }
    parts.push("sampled".to_owned());
    if run.recipe.sample.is_some() && has_own(run) {
        parts.push("own".to_owned());
    }
    if run.recipe.paraphrase.is_some() {
        parts.push("paraphrased".to_owned());
    }
    parts.extend(run.recipe.doses.iter().map(|dose| dose_part(*dose)));
    if has_control(run) {
        parts.push("control".to_owned());
    }
    let paths: Vec<PathBuf> = parts.iter().map(|part| world.part(part)).collect();
    let mut meta = Meta::of("traces");
    for (part, path) in parts.iter().zip(&paths) {
        meta.input(part, hash_file(path)?);
    }
    let mut traces: Vec<Trace> = Vec::new();
    for path in &paths {
        traces.extend(read::<Trace>(path)?);
    }
    write_rows(&world.traces(), &meta, || traces.iter())
}
