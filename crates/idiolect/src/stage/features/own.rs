//! The student's own samples, and whether an arm's traces can be distinguished from them.
//!
//! Surprisal alone calls an arm near that is tidier than anything the student writes; a classifier
//! sees both sides.

use std::collections::{BTreeMap, BTreeSet};

use idiolect_core::metric::between::{self, Point, classifier};
use idiolect_core::record::ScoreRow;
use idiolect_model::{Context, Example, Sampling};

use super::super::ask::ask;
use super::{Arm, Control, FeatureSettings, StageError, folded, requests};
use idiolect_model::Model;

/// Problems of the arms that the student is asked.
const PROBLEMS: usize = 200;
/// Samples a problem, the fewest that the distances want.
const SAMPLES: usize = 4;

/// The student's own samples.
pub(super) struct Own {
    /// What they answer.
    problems: BTreeSet<String>,
    /// As numbers, in the order of the problems.
    pub(super) points: Vec<Point>,
}

impl Own {
    /// Samples at temperature 1 for some problems of the arms, and scores them.
    pub(super) fn sample(
        settings: &FeatureSettings,
        arms: &[Arm],
        model: &mut dyn Model,
        control: Control<'_>,
    ) -> Result<Self, StageError> {
        let mut asked: BTreeMap<String, Context> = BTreeMap::new();
        for row in arms.iter().flat_map(|arm| arm.rows.iter().take(PROBLEMS)) {
            if let Some(problem) = &row.problem
                && asked.len() < PROBLEMS
            {
                asked
                    .entry(problem.id.clone())
                    .or_insert_with(|| row.example.context.clone());
            }
        }
        let asked: Vec<(&str, &Context)> = asked.iter().map(|(id, c)| (id.as_str(), c)).collect();
        let requests = requests(settings.seed, "own", &asked, SAMPLES);
        let sampling = Sampling {
            max_tokens: settings.max_tokens,
            ..Sampling::default()
        };
        let mut written: Vec<(usize, Example)> = Vec::new();
        let generator = model.as_generate()?;
        ask(
            generator,
            &requests,
            &sampling,
            control.stop,
            |unit, result| {
                if let Ok(completion) = result {
                    // A text of spaces may hold no token of its own.
                    if !completion.text.trim().is_empty() {
                        let context = requests[unit].context.clone();
                        let example = Example::new(context, &completion.text);
                        written.push((unit, example));
                    }
                }
                Ok(())
            },
        )?;
        // Answers come in any order.
        written.sort_by_key(|(unit, _)| *unit);
        let examples: Vec<Example> = written.iter().map(|(_, example)| example.clone()).collect();
        let mut own = folded(&examples, model)?;
        for (score_row, (at, _)) in own.iter_mut().zip(&written) {
            score_row.problem_id = Some(asked[*at / SAMPLES].0.to_owned());
        }
        Ok(Self {
            problems: own.iter().filter_map(|a| a.problem_id.clone()).collect(),
            points: between::features(&own),
        })
    }

    /// Traces of an arm for the problems that were asked, as numbers.
    pub(super) fn asked(&self, score_rows: &[ScoreRow]) -> Vec<Point> {
        let asked: Vec<ScoreRow> = score_rows
            .iter()
            .filter(|a| {
                a.problem_id
                    .as_ref()
                    .is_some_and(|p| self.problems.contains(p))
            })
            .cloned()
            .collect();
        between::features(&asked)
    }

    /// −|AUC − ½| of a classifier that distinguishes an arm's traces from the samples; below one
    /// half it is noise about no difference. `None` where there are too few of either.
    pub(super) fn likeness(&self, score_rows: &[ScoreRow]) -> Option<f64> {
        classifier::held_out_auc(&self.asked(score_rows), &self.points)
            .map(|auc| -(auc - 0.5).abs())
    }
}
