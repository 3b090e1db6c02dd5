//! What a run would do and could show, said before it starts.

use std::fmt::Write as _;
use std::path::Path;

use idiolect_core::statistics::few::{FEWEST, least_detectable};
use idiolect_core::statistics::proportion::smallest_detectable;
use idiolect_core::store::Meta;
use serde::Serialize;

use super::calibrate::operations_per_second;
use super::costs::{self, Sizes};
use super::layout::World;
use super::recipe::Recipe;

/// Shares of the problems on which two arms may disagree.
const DISAGREEMENT: [f64; 3] = [0.05, 0.1, 0.2];

/// The smallest difference that the evaluation can show, in a sentence.
pub(crate) fn detectable(recipe: &Recipe) -> String {
    let n = (costs::sizes(recipe).test_problems.round() as usize).max(1);
    let Some(least) = least_detectable(n) else {
        return format!(
            "no two arms can be told apart from {n} test problems: at least {FEWEST} must differ"
        );
    };
    let points: Vec<String> = DISAGREEMENT
        .iter()
        .map(|d| {
            let shown = smallest_detectable(n, *d).max(least);
            // Arms that disagree on a twentieth cannot be further apart than that.
            let found = if shown <= *d {
                format!("{:.1} points", 100.0 * shown)
            } else {
                "nothing".to_owned()
            };
            format!("{found} if two arms disagree on {:.0} %", 100.0 * d)
        })
        .collect();
    format!(
        "{n} test problems can tell apart (80 % power, p < 0.05, one seed): {}",
        points.join("; ")
    )
}

/// A stage of the plan.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlannedStage {
    /// Its name.
    pub(crate) stage: String,
    /// Units of work: models, arms and seeds.
    pub(crate) units: usize,
    /// Of them, those whose output already stands.
    pub(crate) done: usize,
    /// Tokens that pass through a model in what is left, forward or in training.
    pub(crate) tokens: f64,
    /// Tera-operations left.
    pub(crate) tera_operations: f64,
    /// Time left as measured here; absent where nothing could be measured.
    pub(crate) seconds: Option<f64>,
    /// Memory of the models at work at once.
    pub(crate) megabytes: f64,
}

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<PlannedStage>,
    /// The sum.
    pub(crate) seconds: Option<f64>,
    /// The smallest difference that the evaluation can show, in words.
    pub(crate) detectable: String,
}

/// Bytes a parameter: weight, gradient and both moments in training; the weight alone otherwise.
const TRAINED: f64 = 16.0;
const READ: f64 = 4.0;
/// Of a job beside its weights: activations of a batch, rows, the program itself.
const BESIDE: f64 = 40e6;

/// Plans a run: `threads` jobs at once where a stage has several.
pub(crate) fn plan(recipe: &Recipe, dir: &Path, threads: usize) -> Plan {
    let sizes = costs::sizes(recipe);
    // A pass that scores does about as many operations a second as training; one that writes token
    // by token does fewer, and is short beside the rest.
    let rates = [sizes.student, sizes.teacher]
        .map(|n| (n > 0.0).then(|| operations_per_second(n)).flatten());
    let mut stages: Vec<PlannedStage> = Vec::new();
    for number in 0..recipe.worlds {
        let world = World::of(dir, number, recipe.worlds);
        for (name, cost) in costs::world_units(recipe, number) {
            let unit = Unit::of(&name, &sizes);
            let done = is_done(&world, unit.stage, &name);
            let at = stages.iter().position(|s| s.stage == unit.stage);
            let at = at.unwrap_or_else(|| {
                stages.push(PlannedStage {
                    stage: unit.stage.to_owned(),
                    units: 0,
                    done: 0,
                    tokens: 0.0,
                    tera_operations: 0.0,
                    seconds: Some(0.0),
                    megabytes: 0.0,
                });
                stages.len() - 1
            });
            let stage = &mut stages[at];
            stage.units += 1;
            stage.done += usize::from(done);
            let jobs = if unit.stage == "fine-tune" {
                threads.max(1) as f64
            } else {
                1.0
            };
            stage.megabytes = stage
                .megabytes
                .max(jobs * (unit.bytes * unit.parameters + BESIDE) / 1e6);
            if done {
                continue;
            }
            stage.tokens += cost / (unit.operations * unit.parameters).max(1.0);
            stage.tera_operations += cost / 1e12;
            let rate = rates[usize::from(unit.is_teacher)];
            stage.seconds = stage
                .seconds
                .zip(rate)
                .map(|(sum, rate)| sum + cost / rate / jobs);
        }
    }
    stages.retain(|stage| stage.tera_operations > 0.0 || stage.done > 0);
    Plan {
        seconds: stages.iter().map(|stage| stage.seconds).sum(),
        detectable: detectable(recipe),
        stages,
    }
}

/// What a unit of work is.
struct Unit {
    stage: &'static str,
    parameters: f64,
    /// Operations a parameter and token.
    operations: f64,
    bytes: f64,
    is_teacher: bool,
}

impl Unit {
    fn of(name: &str, sizes: &Sizes) -> Self {
        let short = name.rsplit(' ').next().unwrap_or(name);
        let (stage, operations, bytes, is_teacher) = match short {
            "student" => ("pretrain student", 6.0, TRAINED, false),
            "teacher" => ("pretrain teacher", 6.0, TRAINED, true),
            "traces" => ("traces", 2.0, READ, true),
            "score" => ("score", 2.0, READ, false),
            _ if short.starts_with("base/") => ("evaluate base", 2.0, READ, false),
            _ => ("fine-tune", 6.0, TRAINED, false),
        };
        Self {
            stage,
            parameters: if is_teacher {
                sizes.teacher
            } else {
                sizes.student
            },
            operations,
            bytes,
            is_teacher,
        }
    }
}

/// Whether a unit's last output stands complete.
fn is_done(world: &World, stage: &str, name: &str) -> bool {
    let complete = |path: &Path| {
        Meta::read(path)
            .ok()
            .flatten()
            .is_some_and(|meta| meta.complete)
    };
    let short = name.rsplit(' ').next().unwrap_or(name);
    match (stage, short.rsplit_once('/')) {
        ("pretrain student" | "pretrain teacher", _) => complete(&world.model(short)),
        ("traces", _) => complete(&world.traces()),
        ("score", _) => complete(&world.scores()),
        (_, Some((arm, seed))) => seed
            .parse()
            .is_ok_and(|seed| complete(&world.evaluation(arm, seed, "gold"))),
        _ => false,
    }
}

/// The plan for a person.
pub(crate) fn describe(recipe: &Recipe, dir: &Path, plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("{}: {}", recipe.name, recipe.about));
    line(format!(
        "would write {} ({} world(s), seed {})",
        dir.display(),
        recipe.worlds,
        recipe.seed
    ));
    line(format!(
        "arms {} × {} seed(s), {} epochs of {} rows each",
        recipe.arms.listed().join(" "),
        recipe.finetune.seeds,
        recipe.finetune.epochs,
        recipe
            .arms
            .rows
            .map_or("all matched".to_owned(), |r| r.to_string()),
    ));
    line(format!(
        "{:<18}{:>7}{:>9}{:>11}{:>10}{:>10}",
        "stage", "units", "standing", "M tokens", "time", "memory"
    ));
    for stage in &plan.stages {
        line(format!(
            "{:<18}{:>7}{:>9}{:>11.2}{:>10}{:>10}",
            stage.stage,
            stage.units,
            stage.done,
            stage.tokens / 1e6,
            stage.seconds.map_or("–".to_owned(), duration),
            format!("{:.0} MB", stage.megabytes),
        ));
    }
    line(match plan.seconds {
        Some(seconds) => format!(
            "about {} in all, from a second of training measured on this machine as busy as it is now",
            duration(seconds)
        ),
        None => "how long it takes could not be measured here".to_owned(),
    });
    line(plan.detectable.clone());
    line(if dir.join("recipe.toml").exists() {
        "the directory holds a run: what is complete there is kept".to_owned()
    } else {
        "nothing of it is there yet".to_owned()
    });
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_that_fits() {
        assert_eq!(duration(3.2), "3 s");
        assert_eq!(duration(600.0), "10 min");
        assert_eq!(duration(7200.0), "2.0 h");
    }

    #[test]
    fn every_unit_has_a_stage() {
        let (text, _) = crate::run::recipe_text(Some("tiny")).unwrap();
        let recipe = crate::run::recipe::resolve(&text, "tiny", &[]).unwrap();
        let place = Path::new("no such directory");
        let plan = plan(&recipe, place, 2);
        let names: Vec<&str> = plan.stages.iter().map(|s| s.stage.as_str()).collect();
        assert_eq!(
            names,
            [
                "pretrain student",
                "pretrain teacher",
                "traces",
                "score",
                "evaluate base",
                "fine-tune"
            ]
        );
        assert!(plan.stages.iter().all(|s| s.done == 0 && s.tokens > 0.0));
        assert!(plan.seconds.is_some_and(|s| s > 0.0));
        assert!(describe(&recipe, place, &plan).contains("in all"));
    }
}
