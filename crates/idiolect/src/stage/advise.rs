//! Advise: which arm would this student learn most from, before any training?

use std::path::{Path, PathBuf};

use idiolect_core::advice::FinishedWorld;
use idiolect_core::advice::predict::{Advice, advise as predict};
use idiolect_core::record::{Problem, Split};
use idiolect_core::store::Rows;

use super::features::{FeatureSettings, measure};
use super::{Control, StageError};
use idiolect_model::Model;

/// Finished worlds that the program carries; `idiolect benchmark --finished` made them.
const BUNDLED: &str = include_str!("../../advice/finished.jsonl");

/// What to advise on.
#[derive(Clone, Debug)]
pub(crate) struct AdviseSettings {
    /// What to measure.
    pub(crate) features: FeatureSettings,
    /// Finished runs of the user's own: run directories or files of finished worlds.
    pub(crate) learn: Vec<PathBuf>,
    /// Passes over an arm that training would make.
    pub(crate) epochs: usize,
}

/// Measures the arms and predicts.
pub(crate) fn advise(
    settings: &AdviseSettings,
    model: &mut dyn Model,
    control: Control<'_>,
) -> Result<Advice, StageError> {
    let mut finished = bundled()?;
    for path in &settings.learn {
        finished.extend(read(path)?);
    }
    let measured = measure(&settings.features, model, control)?;
    let mut tests = 0;
    for row in Rows::<Problem>::open(&settings.features.problems)? {
        tests += usize::from(row?.is_ok_and(|row| row.value.split == Split::Test));
    }
    let tokens = measured
        .arms
        .iter()
        .map(|arm| arm.tokens_per_row * arm.rows as f64)
        .fold(0.0, f64::max);
    let mut advice = predict(
        &measured.arms,
        &finished,
        tokens * settings.epochs as f64,
        tests,
    );
    advice.warnings.extend(measured.warnings);
    Ok(advice)
}

fn bundled() -> Result<Vec<FinishedWorld>, StageError> {
    BUNDLED
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line).map_err(|error| {
                StageError::failed(
                    format!("the bundled finished runs cannot be read: {error}"),
                    "",
                )
            })
        })
        .collect()
}

/// The finished worlds of a run directory or of a file of them.
pub(crate) fn read(path: &Path) -> Result<Vec<FinishedWorld>, StageError> {
    let file = if path.is_dir() {
        path.join("advice.jsonl")
    } else {
        path.to_owned()
    };
    if !file.exists() {
        return Err(StageError::failed(
            format!("`{}` has no `advice.jsonl`", path.display()),
            &format!(
                "measure the finished run first: idiolect benchmark {}",
                path.display()
            ),
        ));
    }
    let mut worlds = Vec::new();
    for row in Rows::<FinishedWorld>::open(&file)? {
        let row = row?.map_err(|bad| {
            StageError::failed(
                format!("`{}`, line {}: {}", file.display(), bad.line, bad.reason),
                "a file of finished worlds is what `idiolect benchmark` wrote",
            )
        })?;
        worlds.push(row.value);
    }
    Ok(worlds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_worlds_can_be_read() {
        for world in bundled().unwrap_or_else(|e| panic!("{e}")) {
            assert!(world.arms.len() >= 3, "{world:?}");
            assert!(
                world
                    .arms
                    .iter()
                    .all(|arm| (0.0..=1.0).contains(&arm.accuracy))
            );
        }
    }
}
