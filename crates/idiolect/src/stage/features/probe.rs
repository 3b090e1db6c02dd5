//! One step ahead: does a step on an arm make the student's own right answers likelier than its
//! wrong ones?
//!
//! The student answers problems that no arm holds; the verifier states which answers are right. Both
//! kinds are its own style, so what sets them apart is content. An arm that only sounds like the
//! student moves them alike.

use std::collections::{BTreeMap, BTreeSet};

use idiolect_core::advice::ArmFeatures;
use idiolect_core::record::{Problem, Split, Verdict};
use idiolect_core::statistics::{mean, standard_error};
use idiolect_model::{Context, Example, Finish, LookaheadSettings, ModelError, Rng, Sampling};

use super::super::ask::ask;
use super::super::code::CodeRunner;
use super::super::inputs::{Problems, Prompts};
use super::{Arm, Control, FeatureSettings, StageError, requests};
use idiolect_model::Model;

/// Sampling temperature: cool enough that most wrong answers are wrong in content, not in form.
const TEMPERATURE: f32 = 0.5;
/// Problems with right and wrong answers below which the step states nothing.
const FEW: usize = 12;

/// The student's own answers to problems that it got right sometimes.
pub(super) struct Probe {
    /// Answers with their credit: of each problem 1 over the right ones, −1 over the wrong ones.
    goal: Vec<(Example, f64)>,
    /// Which problem each belongs to.
    problem: Vec<usize>,
    /// What a reader must know.
    pub(super) warning: Option<String>,
}

/// Samples and judges the student's answers. `Err` states why there is nothing to look ahead with.
pub(super) fn probe(
    settings: &FeatureSettings,
    problems: &Problems,
    prompts: &Prompts,
    code: &CodeRunner,
    used: &BTreeSet<&str>,
    model: &mut dyn Model,
    control: Control<'_>,
) -> Result<Result<Probe, String>, StageError> {
    let (chosen, warning) = choose(settings, problems, used);
    if chosen.is_empty() {
        return Ok(Err(
            "there is no problem outside the test split to ask the student".to_owned(),
        ));
    }
    let mut contexts = Vec::new();
    for problem in &chosen {
        let prompt = problems.task(problem).prompt(problem, prompts.of(problem));
        let prompt = prompt.map_err(|reason| {
            StageError::failed(format!("problem `{}`: {reason}", problem.id), "")
        })?;
        contexts.push(Context::Prompt(prompt));
    }
    let asked: Vec<(&str, &Context)> = chosen
        .iter()
        .map(|problem| problem.id.as_str())
        .zip(&contexts)
        .collect();
    let requests = requests(settings.seed, "sample", &asked, settings.samples);
    let sampling = Sampling {
        temperature: TEMPERATURE,
        max_tokens: settings.max_tokens,
        ..Sampling::default()
    };
    let mut meter =
        control
            .progress
            .begin("ask the student", "answers", Some(requests.len() as u64), 0);
    let mut answers: Vec<BTreeMap<String, bool>> = vec![BTreeMap::new(); chosen.len()];
    let generator = model.as_generate()?;
    ask(
        generator,
        &requests,
        &sampling,
        control.stop,
        |unit, result| {
            let at = unit / settings.samples;
            meter.advance(1);
            if let Ok(completion) = result {
                let judged = problems.task(chosen[at]).verify(
                    chosen[at],
                    &completion.text,
                    completion.finish,
                    code.execute(),
                );
                // What was cut off or empty cannot be scored as an answer that ends.
                if completion.finish == Finish::Stop && !completion.text.trim().is_empty() {
                    answers[at].insert(completion.text, judged.verdict == Verdict::Correct);
                }
            }
            Ok(())
        },
    )?;
    drop(meter);
    code.check()?;
    Ok(Probe::of(&contexts, &answers, warning))
}

/// Problems outside the arms, dev before train, never test; the arms' own where there are none.
fn choose<'a>(
    settings: &FeatureSettings,
    problems: &'a Problems,
    used: &BTreeSet<&str>,
) -> (Vec<&'a Problem>, Option<String>) {
    let allowed = |split: Split| matches!(split, Split::Dev | Split::Train);
    let mut free: Vec<&Problem> = Vec::new();
    let mut taken: Vec<&Problem> = Vec::new();
    for (_, problem) in problems.rows.iter().filter(|(_, p)| allowed(p.split)) {
        if used.contains(problem.id.as_str()) {
            taken.push(problem);
        } else {
            free.push(problem);
        }
    }
    let warning = free.is_empty().then(|| {
        "every problem outside the test split is in an arm, so the student was asked the arms' own problems: arms with right answers look better than they are".to_owned()
    });
    let mut chosen = if free.is_empty() { taken } else { free };
    Rng::keyed(settings.seed, &["advise", "problems"]).shuffle(&mut chosen);
    chosen.sort_by_key(|problem| problem.split != Split::Dev);
    chosen.truncate(settings.probe_problems);
    (chosen, warning)
}

impl Probe {
    fn of(
        contexts: &[Context],
        answers: &[BTreeMap<String, bool>],
        warning: Option<String>,
    ) -> Result<Self, String> {
        let mut probe = Self {
            goal: Vec::new(),
            problem: Vec::new(),
            warning,
        };
        let mut mixed = 0;
        for (context, answers) in contexts.iter().zip(answers) {
            let right = answers.values().filter(|right| **right).count();
            let wrong = answers.len() - right;
            if right == 0 || wrong == 0 {
                continue;
            }
            for (text, is_right) in answers {
                let example = Example::new(context.clone(), text);
                let credit = if *is_right {
                    1.0 / right as f64
                } else {
                    -1.0 / wrong as f64
                };
                probe.goal.push((example, credit));
                probe.problem.push(mixed);
            }
            mixed += 1;
        }
        if mixed < FEW {
            return Err(format!(
                "{mixed} of {} problems had both right and wrong samples of the student (at least {FEW} are needed), so what a step on an arm teaches could not be seen; ask more problems or draw more samples",
                contexts.len()
            ));
        }
        Ok(probe)
    }

    /// Adds what one step on the arm does, and gives it problem by problem; a model without gradients
    /// gets a warning, and none.
    pub(super) fn look_ahead(
        &self,
        arm: &Arm,
        settings: &FeatureSettings,
        model: &mut dyn Model,
        features: &mut ArmFeatures,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<f64>, StageError> {
        let step = LookaheadSettings {
            rows_per_batch: settings.batch_size,
            lr: settings.lr,
        };
        let found = model
            .as_train()
            .and_then(|model| model.look_ahead(&self.goal, &[arm.examples()], &step));
        let found = match found {
            Err(ModelError::Unsupported(why)) => {
                warnings.push(format!("no step ahead: {why}"));
                return Ok(Vec::new());
            }
            other => other?,
        };
        let Some(found) = found.first() else {
            return Ok(Vec::new());
        };
        let mut gains = vec![0.0; self.problem.last().map_or(0, |last| last + 1)];
        for ((moved, (_, credit)), problem) in found.moved.iter().zip(&self.goal).zip(&self.problem)
        {
            gains[*problem] += moved * credit;
        }
        features
            .features
            .insert("lookahead".to_owned(), mean(&gains));
        features
            .metrics
            .insert("gradient_cosine".to_owned(), found.cosine);
        Ok(gains)
    }
}

/// The standard error of each arm's mean gain as far as it concerns the arms' order. All arms move
/// the same answers: what an answer adds to every arm alike distinguishes none, so of each problem the
/// arms' mean is taken off. A fraction 1/n of an arm's own error goes with it, which √(n/(n − 1))
/// gives back. Of one arm the error of its mean; `None` where it is not known.
pub(super) fn paired_errors(gains: &[Vec<f64>]) -> Vec<Option<f64>> {
    let n = gains.len() as f64;
    let problems = gains.iter().map(Vec::len).min().unwrap_or(0);
    let of_all: Vec<f64> = (0..problems)
        .map(|at| gains.iter().map(|of_arm| of_arm[at]).sum::<f64>() / n)
        .collect();
    let alone = gains.len() < 2;
    let given_back = if alone { 1.0 } else { (n / (n - 1.0)).sqrt() };
    let error = |of_arm: &Vec<f64>| {
        let own: Vec<f64> = match alone {
            true => of_arm.clone(),
            false => of_arm
                .iter()
                .zip(&of_all)
                .map(|(gain, mean)| gain - mean)
                .collect(),
        };
        // Equal gains of a few problems do not show that there is no error.
        let error = standard_error(&own).filter(|error| *error > 0.0)?;
        Some(error * given_back)
    };
    gains.iter().map(error).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_adds_to_every_arm_alike_is_no_error() {
        let mut rng = Rng::keyed(0, &["paired"]);
        // Problems differ by 1, arms on one problem by 0.01 of noise.
        let problems: Vec<f64> = (0..400).map(|_| rng.normal()).collect();
        let gains: Vec<Vec<f64>> = (0..4)
            .map(|arm| {
                let mut gain = |p: &f64| p + 0.01 * f64::from(arm) + 0.01 * rng.normal();
                problems.iter().map(&mut gain).collect()
            })
            .collect();
        let found = paired_errors(&gains);
        let alone = paired_errors(&gains[..1])[0].unwrap();
        assert!((alone - 1.0 / 20.0).abs() < 0.01, "{alone}");
        for error in found {
            let error = error.unwrap();
            // Independent noise of 0.01 over 400 problems, and nothing of the problems'.
            assert!((error - 0.01 / 20.0).abs() < 1e-4, "{error}");
        }
        assert_eq!(paired_errors(&[Vec::new(), Vec::new()]), [None, None]);
    }

    #[test]
    fn credits_of_each_problem_add_up_to_0() {
        let context = |at: usize| Context::Prompt(at.to_string());
        let contexts: Vec<Context> = (0..20).map(context).collect();
        let mut answers = vec![
            BTreeMap::from([
                ("a".to_owned(), true),
                ("b".to_owned(), false),
                ("c".to_owned(), false)
            ]);
            20
        ];
        answers[3] = BTreeMap::from([("a".to_owned(), false)]);
        let probe = Probe::of(&contexts, &answers, None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(probe.problem.last(), Some(&18));
        for problem in 0..19 {
            let credits = probe
                .problem
                .iter()
                .zip(&probe.goal)
                .filter(|(p, _)| **p == problem);
            assert!(credits.map(|(_, (_, credit))| credit).sum::<f64>().abs() < 1e-12);
        }
        let words = Probe::of(&contexts[..5], &answers[..5], None)
            .err()
            .unwrap();
        assert!(words.contains("4 of 5"), "{words}");
    }
}
