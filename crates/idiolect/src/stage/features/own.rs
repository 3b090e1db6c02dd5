//! The student's own samples, and whether an arm's traces can be told from them.
//!
//! Surprisal alone calls an arm near that is tidier than anything the student writes; a classifier
//! sees both sides.

use std::collections::BTreeMap;

use idiolect_core::metric::between::{self, Point, classifier};
use idiolect_core::model::{Context, Example, Generate, GenerateRequest, Sampling};
use idiolect_core::record::Alignment;
use idiolect_core::rng::Rng;

use super::super::ordered::generate_in_order;
use super::{Arm, Control, FeatureSettings, StageError, folded};
use crate::model::Model;

/// Problems of the arms that the student is asked.
const PROBLEMS: usize = 200;
/// Samples a problem, the fewest that the distances want.
const SAMPLES: usize = 4;

/// Scores of the student's own samples, by problem.
pub(super) struct Own(BTreeMap<String, Vec<Alignment>>);

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
        let asked: Vec<(String, Context)> = asked.into_iter().collect();
        let requests: Vec<GenerateRequest> = (0..asked.len() * SAMPLES)
            .map(|unit| {
                let (id, context) = &asked[unit / SAMPLES];
                let sample = (unit % SAMPLES).to_string();
                GenerateRequest {
                    context: context.clone(),
                    seed: Rng::keyed(settings.seed, &["advise", "own", id, &sample]).next_u64(),
                }
            })
            .collect();
        let sampling = Sampling {
            max_tokens: settings.max_tokens,
            ..Sampling::default()
        };
        let mut written: Vec<(usize, Example)> = Vec::new();
        let generator: &mut dyn Generate = model;
        generate_in_order(
            generator,
            &requests,
            &sampling,
            control.stop,
            |unit, result| {
                if let Ok(completion) = result {
                    // A text of spaces may hold no token of its own.
                    if !completion.text.trim().is_empty() {
                        let example = Example {
                            context: requests[unit].context.clone(),
                            completion: completion.text,
                            weight: 1.0,
                            spans: Vec::new(),
                        };
                        written.push((unit / SAMPLES, example));
                    }
                }
                Ok(())
            },
        )?;
        let examples: Vec<Example> = written.iter().map(|(_, example)| example.clone()).collect();
        let mut own: BTreeMap<String, Vec<Alignment>> = BTreeMap::new();
        for ((at, _), mut alignment) in written.iter().zip(folded(&examples, model)?) {
            alignment.problem_id = Some(asked[*at].0.clone());
            own.entry(asked[*at].0.clone()).or_default().push(alignment);
        }
        Ok(Self(own))
    }

    /// Traces of an arm for the problems that were asked, and the samples, as numbers.
    pub(super) fn beside(&self, aligned: &[Alignment]) -> (Vec<Point>, Vec<Point>) {
        let asked: Vec<Alignment> = aligned
            .iter()
            .filter(|a| {
                a.problem_id
                    .as_ref()
                    .is_some_and(|p| self.0.contains_key(p))
            })
            .cloned()
            .collect();
        let own: Vec<Alignment> = self.0.values().flatten().cloned().collect();
        (between::features(&asked), between::features(&own))
    }

    /// −|AUC − ½| of a classifier that tells an arm's traces from the samples; below one half it is
    /// noise about no difference. `None` where there are too few of either.
    pub(super) fn likeness(&self, aligned: &[Alignment]) -> Option<f64> {
        let (arm, own) = self.beside(aligned);
        classifier::held_out_auc(&arm, &own).map(|auc| -(auc - 0.5).abs())
    }
}
