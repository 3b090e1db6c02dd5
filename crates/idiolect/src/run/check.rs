//! What makes a recipe no experiment.

use std::collections::BTreeSet;

use idiolect_core::arms::{ArmSpec, Source as ArmSource};
use idiolect_core::record::TaskName;
use idiolect_engine::decoder::check_compute;
use idiolect_model::budget::{self, Budget};
use idiolect_model::{Compute, Lora, SaveDtype, StepSize, TrainSettings};

use super::place;
use super::plan::{BASE, Stage, needs_samples};
use super::recipe::{
    Arms, Data, Inference, MaxProblems, Method, Recipe, Scorer, ScratchModel, Trainer, WorldKind,
    Writer,
};
use crate::model::price::Price;
use crate::model::{Place, is_computed_here};
use crate::torch::TorchSettings;
use crate::trl::TrlSettings;

/// Refuses what makes no experiment.
pub(super) fn check(recipe: &Recipe) -> Result<(), Fault> {
    let bad = |field, reason: &str| Err((field, reason.to_owned()));
    check_numbers(recipe)?;
    place::check(&recipe.execute)?;
    check_data(&recipe.data)?;
    check_fractions(recipe)?;
    check_models(recipe)?;
    check_score(recipe)?;
    check_servers(recipe)?;
    check_compute_types(recipe)?;
    let train = &recipe.train;
    if train.lora.is_some() && train.method == Method::Full {
        return bad("train.lora", "goes with `train.method = \"lora\"`");
    }
    if let Some(Err(reason)) = train.lora.as_ref().map(Lora::check) {
        return bad("train.lora", &reason);
    }
    if train.method == Method::Lora && train.save_dtype != SaveDtype::F32 {
        return bad(
            "train.save_dtype",
            "is of a model's own weights, and method `lora` trains adapters, whose files hold f32",
        );
    }
    if recipe.score.backend != Scorer::Torch && recipe.torch != TorchSettings::default() {
        return bad("torch", "goes with `score.backend = \"torch\"`");
    }
    if recipe.torch.batch_tokens == 0 {
        return bad("torch.batch_tokens", "must be at least 1");
    }
    if let (Trainer::Trl, Err(reason)) = (train.backend, recipe.trl.check()) {
        return bad("trl", &reason);
    }
    if train.backend == Trainer::Native && recipe.trl != TrlSettings::default() {
        return bad("trl", "goes with `train.backend = \"trl\"`");
    }
    if recipe.paraphrase.retries > 0 && recipe.paraphrase.temperature <= 0.0 {
        return bad(
            "paraphrase.retries",
            "needs a `paraphrase.temperature` above 0: every try at 0 would be the same",
        );
    }
    if recipe.flaws.doses.iter().any(|d| !(*d > 0.0 && *d <= 1.0)) {
        return bad("flaws.doses", "must lie above 0 and at most at 1");
    }
    check_arms(&recipe.arms)
}

/// The key at fault and what is expected of it.
pub(super) type Fault = (&'static str, String);

/// Every number that decides how much is computed or held, and those that no arithmetic can be done
/// with. What is not a number lies in no range.
fn check_numbers(recipe: &Recipe) -> Result<(), Fault> {
    let (train, generate, eval) = (&recipe.train, &recipe.generate, &recipe.eval);
    let paraphrase = &recipe.paraphrase;
    let counts = [
        ("replicates", recipe.replicates, budget::REPETITIONS),
        ("train.seeds", train.seeds, budget::REPETITIONS),
        ("train.epochs", train.epochs, budget::EPOCHS),
        ("train.batch_size", train.batch_size, budget::STEP_SIZE),
        ("generate.n", generate.n, budget::SAMPLES),
        ("generate.max_tokens", generate.max_tokens, budget::TOKENS),
        (
            "paraphrase.max_tokens",
            paraphrase.max_tokens,
            budget::TOKENS,
        ),
        // None of these two is allowed.
        (
            "paraphrase.retries",
            paraphrase.retries.max(1),
            budget::SAMPLES,
        ),
        ("eval.n", eval.n.max(1), budget::SAMPLES),
        ("eval.max_tokens", eval.max_tokens, budget::TOKENS),
        (
            "train.max_length",
            train.max_length.unwrap_or(1),
            budget::TOKENS,
        ),
        (
            "execute.rows_per_shard",
            recipe.execute.rows_per_shard,
            ROWS,
        ),
    ];
    for (field, asked, budget) in counts {
        let kept = budget.check_size(asked);
        kept.map_err(|error| (field, error.to_string()))?;
    }
    let most = f64::from(f32::MAX);
    let numbers = [
        ("train.lr", train.lr, 0.0, most),
        ("train.warmup_ratio", train.warmup_ratio, 0.0, 1.0),
        ("train.weight_decay", train.weight_decay, 0.0, most),
        (
            "generate.temperature",
            generate.temperature.into(),
            0.0,
            100.0,
        ),
        ("generate.top_p", generate.top_p.into(), 0.0, 1.0),
        ("generate.min_p", generate.min_p.into(), 0.0, 1.0),
        (
            "paraphrase.temperature",
            paraphrase.temperature.into(),
            0.0,
            100.0,
        ),
        ("eval.temperature", eval.temperature.into(), 0.0, 100.0),
    ];
    for (field, value, least, most) in numbers {
        within(field, value, least, most)?;
    }
    if train.lr <= 0.0 {
        return Err((
            "train.lr",
            "must be above 0: nothing would be learned".to_owned(),
        ));
    }
    let scratch = [recipe.scratch_teacher(), recipe.scratch_student()];
    scratch.into_iter().flatten().try_for_each(check_scratch)
}

/// Rows of a job that is split.
const ROWS: Budget = Budget {
    what: "the number of rows of a job",
    least: 1,
    most: 1 << 40,
    unit: "rows",
    remedy: "",
};

fn check_scratch(model: &ScratchModel) -> Result<(), Fault> {
    let of = |reason: String| ("models", format!("a model trained from scratch: {reason}"));
    let settings = TrainSettings {
        epochs: model.epochs,
        lr: model.lr,
        min_lr_ratio: model.min_lr_ratio,
        weight_decay: model.weight_decay,
        betas: (0.9, model.beta2),
        step_size: StepSize::Tokens(model.batch_tokens),
        ..TrainSettings::default()
    };
    settings.check().map_err(of)?;
    let Some(shape) = &model.shape else {
        return Ok(());
    };
    budget::TOKENS
        .check_size(shape.max_position_embeddings)
        .map_err(|error| of(error.to_string()))?;
    VOCABULARY
        .check_size(shape.vocab_size)
        .map_err(|error| of(error.to_string()))
}

/// Tokens of a vocabulary that is learned.
const VOCABULARY: Budget = Budget {
    what: "`vocab_size`",
    least: 1,
    most: 1 << 20,
    unit: "tokens",
    remedy: "",
};

fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), Fault> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err((
        field,
        format!("is {value:?}: must lie between {least} and {most:?}"),
    ))
}

fn check_data(data: &Data) -> Result<(), Fault> {
    let fault = |field, reason: &str| Err((field, reason.to_owned()));
    match (data.task, data.world) {
        (None, None) => {
            return fault(
                "data",
                &format!(
                    "names neither a `task` ({}) with its files nor a generated `world` (countdown, stories)",
                    TaskName::listed()
                ),
            );
        }
        (Some(_), Some(_)) => {
            return fault("data", "names both a `task` and a generated `world`");
        }
        (Some(_), None) if data.train.is_empty() => {
            return fault("data.train", "names no file of problems");
        }
        (Some(_), None) if data.size.is_some() => {
            return fault("data.size", "is the size of a generated `world`");
        }
        (_, world) if data.student_prose.is_some() && world != Some(WorldKind::Countdown) => {
            return fault(
                "data.student_prose",
                "is of the generated world `countdown`: no other has two styles to train a student in",
            );
        }
        (None, Some(_)) if data.max_problems != MaxProblems::default() => {
            return fault(
                "data.max_problems",
                "is for files, not for a generated `world`",
            );
        }
        (None, Some(_)) if !data.train.is_empty() || !data.traces.is_empty() => {
            return fault("data", "names files beside a generated `world`");
        }
        _ => {}
    }
    for (field, files, share) in [
        ("data.dev_fraction", &data.dev, data.dev_fraction),
        ("data.test_fraction", &data.test, data.test_fraction),
    ] {
        let Some(share) = share else { continue };
        if !files.is_empty() {
            return fault(field, "is for a split that has no files, and this one has");
        }
        if !(0.0..1.0).contains(&share) || (share == 0.0 && field == "data.test_fraction") {
            return fault(field, "must be a fraction below 1 (of test: above 0)");
        }
    }
    Ok(())
}

/// What dev and test take of the train problems must leave some to train on.
fn check_fractions(recipe: &Recipe) -> Result<(), Fault> {
    let (dev, test) = recipe.fractions();
    if recipe.data.world.is_some() || dev + test < 1.0 {
        return Ok(());
    }
    Err((
        "data.test_fraction",
        format!(
            "is {test} and `data.dev_fraction` {dev}: together they must stay below 1, or no problem is left to train on"
        ),
    ))
}

fn check_models(recipe: &Recipe) -> Result<(), Fault> {
    let models = &recipe.models;
    let fault = |field, reason: &str| Err((field, reason.to_owned()));
    if models.students.is_empty() && models.student.is_none() {
        return fault(
            "models.students",
            "names no model directory, and there is no [models.student.scratch]",
        );
    }
    for reference in &models.students {
        if let Place::Scripted(_) | Place::Endpoint(_) = Place::of(reference) {
            return fault(
                "models.students",
                &format!(
                    "names `{reference}`, which has no weights to train: give a model directory or hf:OWNER/NAME"
                ),
            );
        }
    }
    if models.in_flight == Some(0) {
        return fault("models.in_flight", "must be at least 1");
    }
    if let Some(Err(words)) = models.price.map(Price::checked) {
        return fault("models.price", &words);
    }
    if recipe.data.world.is_some() && recipe.arms.need(needs_samples) && models.teacher.is_none() {
        return fault(
            "models.teacher",
            "is not set: arms G, W, F and R are made of a model's traces",
        );
    }
    let rewriter = models.paraphraser.as_deref().unwrap_or("teacher");
    let in_human_style = |source: &ArmSource| {
        matches!(
            source,
            ArmSource::CorrectInHumanStyle | ArmSource::WrongInHumanStyle
        )
    };
    if recipe.data.world.is_none() && recipe.arms.need(in_human_style) {
        return fault(
            "arms.names",
            "holds GH or WH, and only a generated `data.world` has chains to retell in another style; P (paraphrased) beside H is that contrast for files",
        );
    }
    if recipe.arms.need(|source| *source == ArmSource::Paraphrased)
        && rewriter == "teacher"
        && models.teacher.is_none()
    {
        return fault(
            "models.paraphraser",
            "is not set and there is no teacher: arm P is made by one of them",
        );
    }
    if recipe.data.world.is_none() {
        if recipe.scratch_teacher().is_some() {
            return fault(
                "models.teacher",
                "is trained inside the run, which a generated `data.world` alone has texts for",
            );
        }
        if let Some(student) = recipe.scratch_student()
            && (student.shape.is_none() || student.text.is_empty())
        {
            return fault(
                "models.student.scratch",
                "needs a `shape` and files of `text` where the data is no generated world",
            );
        }
    }
    Ok(())
}

/// Whether each student is scored by a server, or none is.
fn check_score(recipe: &Recipe) -> Result<(), Fault> {
    let fault = |reason: String| Err(("score.endpoints", reason));
    let endpoints = &recipe.score.endpoints;
    if recipe.score.backend != Scorer::Endpoint {
        return match endpoints.is_empty() {
            true => Ok(()),
            false => fault("goes with `score.backend = \"endpoint\"`".to_owned()),
        };
    }
    let students = recipe.students();
    for (name, reference) in &students {
        if reference.is_none() {
            return fault(format!(
                "cannot score `{name}`, which is trained inside the run: no server has it"
            ));
        }
        match endpoints.get(name).map(|address| Place::of(address)) {
            Some(Place::Endpoint(_)) => {}
            Some(_) => {
                return fault(format!("of `{name}` is no http(s)://HOST:PORT/v1#MODEL"));
            }
            None => return fault(format!("names no server of the student `{name}`")),
        }
    }
    match endpoints
        .keys()
        .find(|key| students.iter().all(|(name, _)| name != *key))
    {
        None => Ok(()),
        Some(other) => {
            let names: Vec<&str> = students.iter().map(|(name, _)| name.as_str()).collect();
            fault(format!(
                "names `{other}`; the students are {}",
                names.join(", ")
            ))
        }
    }
}

/// Whether the servers that stages ask can be started.
fn check_servers(recipe: &Recipe) -> Result<(), Fault> {
    let fault = |field, reason: String| Err((field, reason));
    let server = &recipe.server;
    within("server.ready_timeout_s", server.ready_timeout_s, 0.001, 1e9)?;
    let is_free = |gpu: &String| !gpu.is_empty() && gpu.chars().all(|c| !c.is_whitespace());
    if let Some(gpu) = server.gpus.iter().find(|gpu| !is_free(gpu)) {
        let reason = format!("holds {gpu:?}: expected a number such as 0, or several as \"0,1\"");
        return fault("server.gpus", reason);
    }
    let is_secret = |name: &&String| {
        let name = name.to_ascii_uppercase();
        ["KEY", "TOKEN", "SECRET", "PASSWORD"]
            .iter()
            .any(|word| name.contains(word))
    };
    if let Some(name) = server.environment.keys().find(is_secret) {
        return fault(
            "server.environment",
            format!(
                "holds `{name}`, and a recipe is stored with the run: set it in the environment of idiolect, which servers inherit"
            ),
        );
    }
    if !recipe.has_servers() {
        return Ok(());
    }
    if server.command.trim().is_empty() {
        return fault(
            "server.command",
            "is not set, and a `backend` is `server`: for example \"vllm serve {model} --host 127.0.0.1 --port {port}\"".to_owned(),
        );
    }
    server.settings().map_err(|why| ("server.command", why))?;
    let (writer, rewriter) = writers(recipe);
    for (field, backend, reference) in [
        ("generate.backend", recipe.generate.backend, writer),
        ("paraphrase.backend", recipe.paraphrase.backend, rewriter),
    ] {
        let other = reference.filter(|reference| !is_computed_here(reference));
        if let (Inference::Server, Some(other)) = (backend, other) {
            return fault(
                field,
                format!(
                    "is `server`, and `{other}` has no files that a server could be started for"
                ),
            );
        }
    }
    Ok(())
}

/// The references of the teacher and of the paraphraser, where they are given.
fn writers(recipe: &Recipe) -> (Option<&str>, Option<&str>) {
    let writer = match &recipe.models.teacher {
        Some(Writer::Reference(reference)) => Some(reference.as_str()),
        _ => None,
    };
    let rewriter = match recipe.models.paraphraser.as_deref() {
        None | Some("teacher") => writer,
        own => own,
    };
    (writer, rewriter)
}

/// Types are of models that are computed here, on a machine that has them: seen before hours of
/// other work.
fn check_compute_types(recipe: &Recipe) -> Result<(), Fault> {
    let (writer, rewriter) = writers(recipe);
    let scorer = recipe.score.endpoints.values().next();
    let scored_here = match recipe.score.backend {
        Scorer::Torch => Compute::F32,
        Scorer::Native | Scorer::Endpoint | Scorer::Server => recipe.score.compute,
    };
    let trained_here = match recipe.train.backend {
        Trainer::Native => recipe.train.compute,
        Trainer::Trl => Compute::F32,
    };
    for (field, stage, compute, reference) in [
        (
            "generate.compute",
            Stage::Generate,
            recipe.generate.compute,
            writer,
        ),
        (
            "paraphrase.compute",
            Stage::Paraphrase,
            recipe.paraphrase.compute,
            rewriter,
        ),
        (
            "score.compute",
            Stage::Score,
            scored_here,
            scorer.map(String::as_str),
        ),
        ("train.compute", Stage::Train, trained_here, None),
        ("eval.compute", Stage::Eval, recipe.eval.compute, None),
    ] {
        if compute.is_f32() {
            continue;
        }
        if let Some(other) = reference.filter(|reference| !is_computed_here(reference)) {
            return Err((
                field,
                format!("is of a model that is computed here, and `{other}` is not"),
            ));
        }
        if recipe.is_served(stage) {
            let reason = "is of a model that is computed here, and a server answers for this one";
            return Err((field, reason.to_owned()));
        }
        check_compute(compute)
            .map_err(|error| (field, format!("is {}: {error}", compute.name())))?;
    }
    Ok(())
}

fn check_arms(arms: &Arms) -> Result<(), Fault> {
    if arms.names.is_empty() {
        return Err(("arms.names", "must name at least one arm".to_owned()));
    }
    for arm in &arms.names {
        if let Err(error) = arm.parse::<ArmSpec>() {
            let reason = format!("holds an arm that cannot be read: {error}");
            return Err(("arms.names", reason));
        }
    }
    let listed = arms.listed();
    if listed.iter().any(|n| n == BASE || n == "teacher") {
        let reason = "must not hold `base` or `teacher`: these are evaluated anyway";
        return Err(("arms.names", reason.to_owned()));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = listed.iter().find(|name| !seen.insert(*name)) {
        let reason = format!("holds two arms called `{twice}`: give each its own name");
        return Err(("arms.names", reason));
    }
    let is_compared = |name: &&String| *name == BASE || listed.contains(*name);
    if let Some(unknown) = arms.baselines.iter().find(|name| !is_compared(name)) {
        let reason = format!(
            "names `{unknown}`, which is not compared: there are {BASE}, {}",
            listed.join(", ")
        );
        return Err(("arms.baselines", reason));
    }
    if arms.rows == Some(0) {
        return Err(("arms.rows", "must be at least 1".to_owned()));
    }
    Ok(())
}
