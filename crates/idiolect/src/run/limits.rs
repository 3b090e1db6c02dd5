//! What a run cannot show, as far as its own records show: problems, traces, arms and recipe. What
//! the numbers show by themselves (one seed, few problems) the report states without this.

use std::collections::{BTreeMap, BTreeSet};

use idiolect_core::arms::{Names, Source as ArmSource};
use idiolect_core::comparison::Comparison;
use idiolect_core::record::{ArmRow, Problem, Split};
use idiolect_core::store::StoreError;

use super::recipe::Recipe;
use super::view::{Replicate, read};

/// One sentence or two each.
pub(super) fn limits(
    recipe: &Recipe,
    replicate: &Replicate,
    comparison: &Comparison,
) -> Result<Vec<String>, StoreError> {
    let described = comparison.arms.iter();
    let names = Names::new(described.map(|arm| (arm.arm.as_str(), arm.description.as_str())));
    let mut limits = made_inside(recipe);
    limits.extend(split_anew(&read::<Problem>(&replicate.data.problems())?));
    limits.extend(several_models(&models_by_arm(recipe, replicate)?, &names));
    limits.extend(steps_too(recipe, comparison, &names));
    Ok(limits)
}

/// What follows from models that were trained inside the run.
fn made_inside(recipe: &Recipe) -> Vec<String> {
    let Some(student) = recipe.scratch_student() else {
        return Vec::new();
    };
    let models = match recipe.scratch_teacher() {
        Some(_) => "The student and the teacher were",
        None => "The student was",
    };
    match recipe.data.world {
        Some(_) => {
            let mut limits = vec![format!(
                "{models} trained from random weights inside this run, on a generated language; what holds here need not hold for pretrained models on real text."
            )];
            if recipe.data.size.as_deref() == Some("tiny") {
                limits.push("The recipe asks for the size `tiny`, which is over in seconds: its models are too small to learn anything, so no number here means anything.".to_owned());
            }
            limits
        }
        None => vec![format!(
            "{models} trained from random weights inside this run, on the questions and human solutions of `{}`: that human solutions are close to it follows from that and is no finding.",
            student.text.join("`, `")
        )],
    }
}

/// Problems whose ids name another part of their data set than the one that they represent here.
fn split_anew(problems: &[Problem]) -> Option<String> {
    let named = |problem: &Problem| {
        let part = |segment: &str| match segment {
            "train" => Some(Split::Train),
            "dev" | "validation" => Some(Split::Dev),
            "test" => Some(Split::Test),
            _ => None,
        };
        problem.id.split('/').find_map(part)
    };
    let moved: Vec<&Problem> = problems
        .iter()
        .filter(|p| p.split != Split::Teacher && named(p).is_some_and(|part| part != p.split))
        .collect();
    let example = moved.first()?;
    Some(format!(
        "By their ids {} of the {} problems belong to another part of their data set than the one that they are used for here (`{}` is used for {}): no number here is an official result on that data set.",
        moved.len(),
        problems.len(),
        example.id,
        match example.split {
            Split::Train => "training",
            Split::Dev => "choosing",
            _ => "testing",
        }
    ))
}

/// The models that wrote each arm's traces, by arm in the order of the recipe.
fn models_by_arm(
    recipe: &Recipe,
    replicate: &Replicate,
) -> Result<Vec<(String, BTreeSet<String>)>, StoreError> {
    let writers: BTreeMap<String, String> = replicate
        .traces()?
        .into_iter()
        .filter_map(|trace| Some((trace.id, trace.origin.model?)))
        .collect();
    let mut arms = Vec::new();
    for arm in recipe.arms.listed() {
        let rows: Vec<ArmRow> = read(&replicate.student.arm(&arm))?;
        let models = rows
            .iter()
            .filter_map(|row| writers.get(&row.trace_id).cloned())
            .collect();
        arms.push((arm, models));
    }
    Ok(arms)
}

/// Arms whose traces come from several models.
fn several_models(arms: &[(String, BTreeSet<String>)], names: &Names) -> Option<String> {
    let mixed: Vec<&(String, BTreeSet<String>)> =
        arms.iter().filter(|(_, models)| models.len() > 1).collect();
    let models: BTreeSet<&str> = mixed
        .iter()
        .flat_map(|(_, models)| models.iter().map(String::as_str))
        .collect();
    let arms: Vec<String> = mixed.iter().map(|(arm, _)| names.of(arm)).collect();
    let (holds, mixes) = match arms.len() {
        0 => return None,
        1 => ("holds", "it mixes"),
        _ => ("hold", "each mixes"),
    };
    Some(format!(
        "{} {holds} traces of several models ({}), so {mixes} their styles.",
        list(&arms),
        models.into_iter().collect::<Vec<_>>().join(", ")
    ))
}

/// Arms of right and of wrong answers whose steps differ as well.
fn steps_too(recipe: &Recipe, comparison: &Comparison, names: &Names) -> Option<String> {
    let specs = recipe.arms.specs();
    let valid = |source: &ArmSource| {
        let spec = specs
            .iter()
            .find(|spec| spec.parts.len() == 1 && spec.parts[0].source == *source)?;
        let arm = comparison.arms.iter().find(|arm| arm.arm == spec.name)?;
        Some((spec.name.clone(), arm.steps?.valid_share()?))
    };
    let (wrong, of_wrong) = valid(&ArmSource::Wrong)?;
    let (right, of_right) = valid(&ArmSource::Correct)?;
    ((of_right - of_wrong).abs() >= 0.005).then(|| {
        format!(
            "{} and {} differ in their answers and in their steps at once ({:.0} % and {:.0} % of the checked steps are valid): what comes of which is not isolated by comparing the two.",
            names.of(&wrong),
            names.of(&right),
            100.0 * of_wrong,
            100.0 * of_right
        )
    })
}

fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_core::record::TaskName;

    fn problem(id: &str, split: Split) -> Problem {
        Problem {
            id: id.to_owned(),
            task: TaskName::Math,
            question: String::new(),
            gold: serde_json::Value::Null,
            human: None,
            split,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_split_of_ones_own_is_told_from_the_problems() {
        let kept = [
            problem("math/test/1", Split::Test),
            problem("x", Split::Train),
        ];
        assert_eq!(split_anew(&kept), None);
        let moved = [
            problem("math/test/1", Split::Train),
            problem("math/test/2", Split::Test),
            problem("math/train/3", Split::Teacher),
        ];
        let text = split_anew(&moved).unwrap();
        assert!(text.contains("1 of the 3 problems"), "{text}");
        assert!(
            text.contains("`math/test/1` is used for training"),
            "{text}"
        );
    }

    #[test]
    fn writers_are_named_as_the_traces_name_them() {
        let names = Names::new([("W", "teacher, wrong answer")]);
        let of = |models: &[&str]| models.iter().map(|m| (*m).to_owned()).collect();
        let one = [("W".to_owned(), of(&["a"])), ("H".to_owned(), of(&[]))];
        assert_eq!(several_models(&one, &names), None);
        let two = [("W".to_owned(), of(&["b", "a"])), ("H".to_owned(), of(&[]))];
        assert_eq!(
            several_models(&two, &names).unwrap(),
            "W (teacher, wrong answer) holds traces of several models (a, b), so it mixes their styles."
        );
    }
}
