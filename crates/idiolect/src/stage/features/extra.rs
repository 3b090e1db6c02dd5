//! What only the benchmark shows and needs passes of its own or the student's own samples: what the
//! prompt adds, local naturalness, and further distances to those samples.

use std::collections::BTreeMap;

use idiolect_core::advice::ArmFeatures;
use idiolect_core::metric::between::{Point, energy, mmd};
use idiolect_core::metric::{conditional, lalp};
use idiolect_core::record::ScoreRow;
use idiolect_core::statistics::mean;
use idiolect_model::{Context, Example, Rng};

use super::super::inputs::Problems;
use super::own::Own;
use super::{Arm, Control, FeatureSettings, StageError, folded, scores};
use idiolect_model::Model;

/// Rows of an arm that the extra passes look at.
const ROWS: usize = 200;
/// Label permutations; what is used of them is the statistic alone.
const DRAWS: usize = 1;

/// Adds `pmi_shuffled`, `lalp`, `mmd2_to_own` and `energy_to_own`, turned so that larger is nearer,
/// and `ifd_loss` and `ifd_ppl` as they are.
#[expect(
    clippy::too_many_arguments,
    reason = "what was measured before, and what every pass needs"
)]
pub(super) fn measure(
    settings: &FeatureSettings,
    arms: &[Arm],
    by_arm: &[Vec<ScoreRow>],
    own: &Own,
    problems: &Problems,
    model: &mut dyn Model,
    all: &mut [ArmFeatures],
    control: Control<'_>,
) -> Result<(), StageError> {
    for ((arm, score_rows), features) in arms.iter().zip(by_arm).zip(all) {
        control
            .progress
            .note("advise", &format!("extra passes over {}", arm.name));
        let n = arm.rows.len().min(ROWS);
        let mut add = |name: &str, value: Option<f64>| {
            if let Some(value) = value.filter(|v| v.is_finite()) {
                features.metrics.insert(name.to_owned(), value);
            }
        };
        let with = &score_rows[..n];
        let shuffled = shuffled(arm, n, model)?;
        add(
            "pmi_shuffled",
            paired(with.iter().zip(&shuffled), conditional::pmi),
        );
        let alone = unprompted(arm, n, model)?;
        let both = || alone.iter().map(|(at, without)| (&with[*at], without));
        add("ifd_loss", paired(both(), conditional::ifd_loss));
        add("ifd_ppl", paired(both(), conditional::ifd_ppl));
        add("lalp", local(arm, n, problems, model)?);
        let (a, b) = (own.asked(score_rows), &own.points);
        let mut rng = Rng::keyed(settings.seed, &["advise", "mmd", &arm.name]);
        add(
            "mmd2_to_own",
            mmd::mmd(&a, b, DRAWS, &mut rng).map(|m| -m.mmd2),
        );
        let nll = |set: &[Point]| set.iter().map(|p| p.at[0]).collect::<Vec<_>>();
        add(
            "energy_to_own",
            energy::energy_distance(&nll(&a), &nll(b)).map(|d| -d),
        );
        super::stop(control)?;
    }
    Ok(())
}

/// Mean over rows of a function of the scores with and without the row's prompt.
fn paired<'a>(
    rows: impl Iterator<Item = (&'a ScoreRow, &'a ScoreRow)>,
    of: fn(&ScoreRow, &ScoreRow) -> Option<f64>,
) -> Option<f64> {
    let values: Vec<f64> = rows
        .filter_map(|(with, without)| of(with, without))
        .collect();
    (!values.is_empty()).then(|| mean(&values))
}

/// Each completion after the prompt of the next row: how much of it is about its own problem?
fn shuffled(arm: &Arm, n: usize, model: &mut dyn Model) -> Result<Vec<ScoreRow>, StageError> {
    let examples: Vec<Example> = (0..n)
        .map(|at| Example {
            context: arm.rows[(at + 1) % n].example.context.clone(),
            ..arm.rows[at].example.clone()
        })
        .collect();
    folded(&examples, model)
}

/// Rows of the arm, by number, each completion without its prompt: after an empty one, or where the
/// model puts no token before a text, so that nothing predicts the first, from the second token on,
/// as Superfiltering scores it (arXiv 2402.00530). A completion of a single token is left out then.
fn unprompted(
    arm: &Arm,
    n: usize,
    model: &mut dyn Model,
) -> Result<Vec<(usize, ScoreRow)>, StageError> {
    let after = |context: &str, completion: &str, row: &super::ArmRow| Example {
        context: Context::Prompt(context.to_owned()),
        completion: completion.to_owned(),
        ..row.example.clone()
    };
    let rows = &arm.rows[..n];
    let whole: Vec<Example> = rows
        .iter()
        .map(|row| after("", &row.example.completion, row))
        .collect();
    let mut possible = true;
    let scorer = model.as_score()?;
    scorer.score(&whole[..1.min(n)], &mut |_, result| {
        possible = result.is_ok();
        std::ops::ControlFlow::Continue(())
    })?;
    if possible {
        return Ok(folded(&whole, model)?.into_iter().enumerate().collect());
    }
    let examples: Vec<Example> = rows.iter().map(|row| row.example.clone()).collect();
    let (mut places, mut rests) = (Vec::new(), Vec::new());
    for (at, (scored, row)) in scores(model, &examples)?.iter().zip(rows).enumerate() {
        let text = &row.example.completion;
        let mut starts = scored.tokens.iter().skip(1).map(|t| t.byte_start as usize);
        let second = starts.find(|start| (1..text.len()).contains(start));
        // A token may end within a character, which no text can be split at.
        if let Some((first, rest)) = second.and_then(|start| text.split_at_checked(start)) {
            places.push(at);
            rests.push(after(first, rest, row));
        }
    }
    Ok(places.into_iter().zip(folded(&rests, model)?).collect())
}

/// Mean local naturalness: each step after its prompt and the few steps before it.
fn local(
    arm: &Arm,
    n: usize,
    problems: &Problems,
    model: &mut dyn Model,
) -> Result<Option<f64>, StageError> {
    let (mut examples, mut places) = (Vec::new(), Vec::new());
    for (at, row) in arm.rows[..n].iter().enumerate() {
        let text = &row.example.completion;
        let steps = match &row.problem {
            Some(problem) => problems.task(problem).steps(problem, text),
            None => lalp::lines(text),
        };
        for local in lalp::locals(text, &steps, lalp::CONTEXT_STEPS) {
            if local.text.trim().is_empty() {
                continue;
            }
            examples.push(Example {
                completion: local.text.to_owned(),
                ..row.example.clone()
            });
            places.push((at, local.start));
        }
    }
    let mut steps: BTreeMap<usize, Vec<(f64, u64)>> = BTreeMap::new();
    for (scored, (at, start)) in scores(model, &examples)?.iter().zip(places) {
        let own = scored
            .tokens
            .iter()
            .filter(|token| !token.is_end && token.byte_start as usize >= start);
        let (sum, tokens) = own.fold((0.0, 0), |(sum, n), token| {
            (sum + f64::from(token.logprob), n + 1)
        });
        steps.entry(at).or_default().push((sum, tokens));
    }
    let values: Vec<f64> = steps
        .values()
        .filter_map(|steps| lalp::lalp(steps))
        .collect();
    Ok((!values.is_empty()).then(|| mean(&values)))
}
