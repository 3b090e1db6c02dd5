//! Compare: which evaluation is better, and how sure is that?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::comparison::{
    ArmData, CompareOptions, Comparison, Evaluation, compare as compare_rows,
};
use idiolect_core::record::{Decoding, EvalRow};
use idiolect_core::store::{Difference, Meta, Rows, file_name, hash_input};

use super::StageError;
use super::eval::TRAINED_ROWS;
use super::outside;

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareSettings {
    /// Names and files. One name may come several times: greedy and sampled answers of one
    /// checkpoint, and checkpoints of several fine-tuning seeds.
    pub evaluations: Vec<(String, PathBuf)>,
    /// What every other is compared with; `None`: `base` and `H` where there, else the first.
    pub baseline: Option<String>,
    /// Compare files that do not record how they were made, or that were made differently.
    pub assume_same: bool,
    /// Seeds the bootstrap.
    pub seed: u64,
}

/// A comparison with what it was made of.
pub(super) struct Compared {
    pub(super) comparison: Comparison,
    pub(super) checkpoints: Vec<Evaluation>,
    pub(super) files: Vec<ComparedFile>,
}

/// One of its files.
pub(super) struct ComparedFile {
    /// What it was given as.
    pub(super) name: String,
    /// Its own name, without the folder.
    pub(super) file: String,
    /// Its content hash.
    pub(super) hash: String,
    pub(super) meta: Option<Meta>,
}

/// Refuses one evaluation that is given twice: counted as two trainings it would look surer than it is.
fn once_each(files: &[File]) -> Result<(), StageError> {
    let model = |file: &File| Some(file.meta.as_ref()?.versions.get("model")?.clone());
    for (at, file) in files.iter().enumerate() {
        let twice = files[..at].iter().find(|earlier| {
            let same_model = match (model(earlier), model(file)) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            };
            earlier.name == file.name && earlier.hash == file.hash && same_model
        });
        if let Some(earlier) = twice {
            return Err(StageError::usage(
                format!(
                    "`{}` and `{}` hold the same answers, both given as `{}`",
                    earlier.path.display(),
                    file.path.display(),
                    file.name
                ),
                "each evaluation counts once; a name comes several times for several trainings",
            ));
        }
    }
    Ok(())
}

/// Compares evaluations that were made alike.
pub fn compare(settings: &CompareSettings) -> Result<Comparison, StageError> {
    compared(settings, &[]).map(|compared| compared.comparison)
}

/// Compares, with what is known of the arms that were trained on.
pub(super) fn compared(
    settings: &CompareSettings,
    arms: &[ArmData],
) -> Result<Compared, StageError> {
    let mut files = Vec::new();
    for (name, path) in &settings.evaluations {
        files.push(File::read(name, path)?);
    }
    once_each(&files)?;
    if !settings.assume_same {
        made_alike(&files)?;
    }
    let trained = trained_rows(&files);
    let facts = |file: &File| ComparedFile {
        name: file.name.clone(),
        file: file_name(&file.path),
        hash: file.hash.clone(),
        meta: file.meta.clone(),
    };
    let facts = files.iter().map(facts).collect();
    let evaluations = checkpoints(files);
    let mut options = CompareOptions {
        seed: settings.seed,
        ..CompareOptions::default()
    };
    let has = |name: &str| evaluations.iter().any(|evaluation| evaluation.arm == name);
    match &settings.baseline {
        Some(name) if !has(name) => {
            return Err(StageError::usage(
                format!("the baseline `{name}` is none of the evaluations"),
                "name one of them: --baseline NAME",
            ));
        }
        Some(name) => options.baselines = vec![name.clone()],
        // Without one named, `base` and `H` where they are there, else the first.
        None => {}
    }
    let mut comparison = compare_rows(&evaluations, arms, &options)
        .map_err(|error| StageError::failed(error.to_string(), ""))?;
    show_trained(&mut comparison, &trained);
    Ok(Compared {
        comparison,
        checkpoints: evaluations,
        files: facts,
    })
}

/// Rows that the checkpoints of each arm were trained on, where it is known.
fn trained_rows(files: &[File]) -> BTreeMap<String, BTreeSet<u64>> {
    let mut trained: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for file in files {
        let meta = file.meta.as_ref();
        let rows = meta.and_then(|meta| meta.settings.get(TRAINED_ROWS)?.as_u64());
        trained.entry(file.name.clone()).or_default().extend(rows);
    }
    trained.retain(|_, rows| !rows.is_empty());
    trained
}

/// Tells of each arm the rows that were trained, the fewest where checkpoints differ, and warns
/// where they are not as many in all.
fn show_trained(comparison: &mut Comparison, trained: &BTreeMap<String, BTreeSet<u64>>) {
    for arm in &mut comparison.arms {
        let fewest = trained.get(&arm.arm).and_then(BTreeSet::first);
        arm.rows = fewest.map(|rows| *rows as usize).or(arm.rows);
    }
    let all: BTreeSet<u64> = trained.values().flatten().copied().collect();
    if all.len() < 2 {
        return;
    }
    let of = |(arm, rows): (&String, &BTreeSet<u64>)| {
        let rows: Vec<String> = rows.iter().map(u64::to_string).collect();
        format!("{arm} {}", rows.join(" and "))
    };
    let named: Vec<String> = trained.iter().map(of).collect();
    comparison.warnings.push(format!(
        "the checkpoints were not trained on as many rows each: {}; part of a difference may come \
         of that",
        named.join(", ")
    ));
}

/// One file of judged answers.
struct File {
    name: String,
    path: PathBuf,
    hash: String,
    rows: Vec<EvalRow>,
    meta: Option<Meta>,
}

impl File {
    /// A row that cannot be read would silently change an accuracy, so it is an error here.
    fn read(name: &str, path: &Path) -> Result<Self, StageError> {
        let mut bad = None;
        let rows =
            Rows::<EvalRow>::open(path)?.collect_good(|row| bad = bad.take().or(Some(row)))?;
        if let Some(bad) = bad {
            let line = format!("`{}`, line {}: {}", path.display(), bad.line, bad.reason);
            let hint = match outside::recognized(path) {
                Ok(Some(program)) => format!(
                    "it holds {}: `idiolect import TASK FILE -o problems.jsonl --eval EVAL.jsonl` makes an evaluation of it",
                    program.holds()
                ),
                _ => {
                    "evaluations are files that `idiolect eval` wrote, or `idiolect import --eval`"
                        .to_owned()
                }
            };
            return Err(StageError::failed(line, &hint));
        }
        let meta = Meta::read(path)?;
        if let Some(meta) = meta.as_ref().filter(|meta| !meta.complete) {
            return Err(StageError::failed(
                format!("`{}` is not finished ({})", path.display(), meta.stage),
                "run its eval command again: it continues",
            ));
        }
        let hash = hash_input(path)?;
        let rows: Vec<EvalRow> = rows.into_iter().map(|row| row.value).collect();
        if rows.is_empty() {
            return Err(StageError::failed(
                format!(
                    "`{}` has no rows, so `{name}` cannot be compared",
                    path.display()
                ),
                "evaluate it again (its problems may all have been left out), or leave it out here",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            hash,
            rows,
            meta,
        })
    }

    fn is_sampled(&self) -> bool {
        self.rows
            .first()
            .is_some_and(|row| row.decoding == Decoding::Sampled)
    }
}

/// Refuses evaluations of which it is not known that they were made alike: greedy with greedy,
/// sampled with sampled. Model, tokenizer and sampling seed may differ.
fn made_alike(files: &[File]) -> Result<(), StageError> {
    let mut first: [Option<&File>; 2] = [None, None];
    for file in files {
        let Some(meta) = &file.meta else {
            return Err(StageError::failed(
                format!(
                    "`{}` does not record how it was made: it has no .meta.json beside it",
                    file.path.display()
                ),
                "--assume-same compares it all the same",
            ));
        };
        let first = first[usize::from(file.is_sampled())].get_or_insert(file);
        let differences: Vec<Difference> = first
            .meta
            .iter()
            .flat_map(|old| old.differences(meta))
            .filter(|d| {
                ![
                    // The files that an imported evaluation was made of.
                    "inputs.answers",
                    "versions.model",
                    "versions.tokenizer",
                    "settings.seed",
                    "settings.trained_rows",
                ]
                .contains(&d.key.as_str())
            })
            .collect();
        if !differences.is_empty() {
            let line = |d: &Difference| format!("\n  {}: {} and {}", d.key, d.old, d.new);
            return Err(StageError::failed(
                format!(
                    "`{}` and `{}` were not made alike:{}",
                    first.path.display(),
                    file.path.display(),
                    differences.iter().map(line).collect::<String>()
                ),
                "evaluate them with the same settings, or --assume-same compares them all the same",
            ));
        }
    }
    Ok(())
}

/// Joins the files of one checkpoint: those of one name and one model. Without provenance, files
/// of one name and one decoding are different checkpoints.
fn checkpoints(files: Vec<File>) -> Vec<Evaluation> {
    let mut checkpoints: Vec<(String, Evaluation)> = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let known = file
            .meta
            .as_ref()
            .and_then(|meta| meta.versions.get("model").cloned());
        let decoding = file.rows.first().map(|row| row.decoding);
        let joins = |(model, evaluation): &&mut (String, Evaluation)| {
            evaluation.arm == file.name
                && match &known {
                    Some(known) => known == model,
                    None => {
                        model.is_empty()
                            && evaluation
                                .rows
                                .iter()
                                .all(|row| Some(row.decoding) != decoding)
                    }
                }
        };
        if let Some((_, evaluation)) = checkpoints.iter_mut().find(joins) {
            evaluation.rows.extend(file.rows);
            continue;
        }
        let seed = counts.entry(file.name.clone()).or_default();
        let evaluation = Evaluation {
            arm: file.name,
            replicate: 0,
            seed: *seed,
            rows: file.rows,
            gold: Vec::new(),
        };
        *seed += 1;
        checkpoints.push((known.unwrap_or_default(), evaluation));
    }
    checkpoints
        .into_iter()
        .map(|(_, evaluation)| evaluation)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_core::record::{Finish, Verdict};

    fn file(name: &str, model: Option<&str>, decoding: Decoding) -> File {
        let row = EvalRow {
            problem_id: "p".into(),
            sample: 0,
            decoding,
            text: String::new(),
            finish: Finish::Stop,
            verdict: Verdict::Wrong,
            reason: None,
            extracted: None,
            n_tokens: 1,
            read: None,
        };
        let meta = model.map(|model| {
            let mut meta = Meta::of("eval");
            meta.version("model", model).setting(
                "temperature",
                if decoding == Decoding::Greedy {
                    0.0
                } else {
                    0.7
                },
            );
            meta
        });
        File {
            name: name.into(),
            path: name.into(),
            hash: String::new(),
            rows: vec![row],
            meta,
        }
    }

    #[test]
    fn files_of_one_model_are_one_checkpoint_and_others_are_seeds() {
        use Decoding::{Greedy, Sampled};
        let files = vec![
            file("W", Some("a"), Greedy),
            file("W", Some("b"), Greedy),
            file("W", Some("a"), Sampled),
            file("base", Some("c"), Greedy),
        ];
        assert!(made_alike(&files).is_ok());
        let made = checkpoints(files);
        let shape: Vec<_> = made
            .iter()
            .map(|e| (e.arm.as_str(), e.seed, e.rows.len()))
            .collect();
        assert_eq!(shape, [("W", 0, 2), ("W", 1, 1), ("base", 0, 1)]);
    }

    #[test]
    fn without_provenance_a_second_greedy_file_is_a_second_seed() {
        use Decoding::{Greedy, Sampled};
        let files = vec![
            file("W", None, Greedy),
            file("W", None, Sampled),
            file("W", None, Greedy),
        ];
        assert!(made_alike(&files).is_err());
        let made = checkpoints(files);
        assert_eq!(
            made.iter().map(|e| e.rows.len()).collect::<Vec<_>>(),
            [2, 1]
        );
    }

    #[test]
    fn files_made_differently_are_named_with_the_setting() {
        let mut files = vec![
            file("a", Some("a"), Decoding::Greedy),
            file("b", Some("b"), Decoding::Greedy),
        ];
        if let Some(meta) = &mut files[1].meta {
            meta.setting("max_tokens", 64).setting("seed", 9);
        }
        let words = made_alike(&files).unwrap_err().to_string();
        assert!(
            words.contains("settings.max_tokens: null and 64") && !words.contains("seed"),
            "{words}"
        );
    }
}
