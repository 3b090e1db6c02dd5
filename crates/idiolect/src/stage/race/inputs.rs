//! The rows that each rung trains on and the problems that are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::arms::is_name;
use idiolect_core::race::RUNGS;
use idiolect_core::record::{Problem, Split};
use idiolect_core::statistics::proportion::smallest_detectable;
use idiolect_core::store::{Meta, Opened, Output};
use idiolect_model::Rng;
use serde_json::Value;

use super::RaceSettings;
use crate::stage::features::{description, same_prompt};
use crate::stage::inputs::{DataRow, Input, Problems, PromptKind, Prompts, arm_rows};
use crate::stage::{Control, StageError};

/// Arms that can be raced: with one there is nothing to find out, and the names are folders.
const FEWEST_ARMS: usize = 2;
/// Problems below which a warning says what they cannot show.
const ENOUGH_PROBLEMS: usize = 200;

/// One rung of one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) epochs: usize,
    pub(super) rows: usize,
}

/// One arm as a file.
struct Entry {
    input: Input,
    description: String,
    /// The rows by the lot that all arms share: their places in the file, those first that short
    /// rungs take.
    drawn: Vec<usize>,
    /// The problems of the rows, as far as they state them.
    ids: BTreeSet<String>,
}

/// What races, and the problems that may be asked.
pub(super) struct Field {
    entries: Vec<Entry>,
    problems: Problems,
    prompts: Prompts,
    asked: Vec<Problem>,
}

impl Field {
    /// Reads arms and problems.
    pub(super) fn read(settings: &RaceSettings) -> Result<Self, StageError> {
        check_names(&settings.arms)?;
        let problems = Problems::read(&settings.problems, &[])?;
        let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
        let (mut entries, mut held, mut named) = (Vec::new(), BTreeSet::new(), true);
        let mut hashes: BTreeMap<String, &str> = BTreeMap::new();
        for (name, path) in &settings.arms {
            let input = Input::open(path)?;
            if let Some(other) = hashes.insert(input.hash().to_owned(), name) {
                return Err(StageError::usage(
                    format!(
                        "the arms `{other}` and `{name}` are the same rows (`{}`)",
                        path.display()
                    ),
                    "give each arm its own file",
                ));
            }
            let rows = arm_rows(&input, name, path)?;
            let known = |row: &DataRow| problems.get(row.problem_id.as_deref()?);
            let asked = rows
                .iter()
                .filter_map(|row| Some((known(row)?, &row.example.context)));
            same_prompt(name, asked, &problems, &prompts)?;
            let ids: Vec<Option<String>> = rows.into_iter().map(|row| row.problem_id).collect();
            named &= ids.iter().all(Option::is_some);
            held.extend(ids.iter().flatten().cloned());
            entries.push((input, ids, description(name, path)));
        }
        let rank = lot(&held, settings.seed);
        let entries = entries.into_iter().map(|(input, ids, description)| {
            let mut drawn: Vec<usize> = (0..ids.len()).collect();
            if named {
                drawn.sort_by_key(|at| ids[*at].as_ref().map(|id| rank[id.as_str()]));
            } else {
                Rng::keyed(settings.seed, &["race", "rows"]).shuffle(&mut drawn);
            }
            Entry {
                input,
                description,
                drawn,
                ids: ids.into_iter().flatten().collect(),
            }
        });
        let entries = entries.collect();
        let asked = choose(&problems, &held, named, settings)?;
        Ok(Self {
            entries,
            problems,
            prompts,
            asked,
        })
    }

    /// What a reader must know of arms that differ in more than what they are made of: one with less
    /// than half of another's rows, and two that share less than half of the smaller's problems.
    pub(super) fn unmatched(&self, settings: &RaceSettings) -> Vec<String> {
        let all = || self.entries.iter().zip(&settings.arms);
        let named =
            |(entry, (name, _)): (&Entry, &(String, PathBuf))| (entry.drawn.len(), name.clone());
        let mut warnings = Vec::new();
        let (most, fewest) = (all().map(named).max(), all().map(named).min());
        if let (Some((most, large)), Some((fewest, small))) = (most, fewest)
            && fewest * 2 < most
        {
            warnings.push(format!(
                "the arms are not matched: {large} has {most} rows, {small} {fewest}; what they teach differs by that too"
            ));
        }
        for (at, (one, (name, _))) in all().enumerate() {
            for (other, (of, _)) in all().skip(at + 1) {
                let smaller = one.ids.len().min(other.ids.len());
                let shared = one.ids.intersection(&other.ids).count();
                if shared * 2 < smaller {
                    warnings.push(format!(
                        "the arms are not matched: {name} and {of} share {shared} problems, and the smaller holds {smaller}; `idiolect arms` makes arms of the same problems"
                    ));
                }
            }
        }
        warnings
    }

    /// What an arm's letter represents.
    pub(super) fn description(&self, arm: usize) -> &str {
        &self.entries[arm].description
    }

    pub(super) fn record(&self, meta: &mut Meta) {
        self.problems.record(meta);
        self.prompts.record(meta);
        let hashes = self.entries.iter().map(|entry| entry.input.hash());
        meta.input("arms", hashes.collect::<Vec<_>>().join(" "));
    }

    /// Epochs and rows of every rung of every arm.
    pub(super) fn lanes(&self, settings: &RaceSettings) -> Vec<Vec<Lane>> {
        let of = |entry: &Entry| {
            let rungs = RUNGS.iter().enumerate();
            rungs
                .map(|(rung, fraction)| {
                    let most = if rung == 0 { settings.rows } else { usize::MAX };
                    lane(settings.train.epochs, entry.drawn.len(), *fraction, most)
                })
                .collect()
        };
        self.entries.iter().map(of).collect()
    }

    /// Where the rows of a rung lie: the arm's own file where it takes all of them.
    pub(super) fn data_path(&self, arm: usize, lane: &Lane, settings: &RaceSettings) -> PathBuf {
        let (name, path) = &settings.arms[arm];
        if lane.rows == self.entries[arm].drawn.len() {
            return path.clone();
        }
        settings
            .output
            .join(format!("rows/{name}-{}.jsonl", lane.rows))
    }

    /// Lays down the rows of a rung, in the order of the arm's file.
    pub(super) fn write_rows(
        &self,
        arm: usize,
        lane: &Lane,
        settings: &RaceSettings,
        control: Control<'_>,
    ) -> Result<PathBuf, StageError> {
        let (entry, path) = (&self.entries[arm], self.data_path(arm, lane, settings));
        if lane.rows == entry.drawn.len() {
            return Ok(path);
        }
        let taken: BTreeSet<usize> = entry.drawn[..lane.rows].iter().copied().collect();
        let mut meta = Meta::of("race-rows");
        meta.input("data", entry.input.hash().to_owned())
            .setting("rows", lane.rows)
            .setting("seed", settings.seed);
        write(&path, &meta, control, |output| {
            for (at, row) in entry.input.rows::<Value>()?.enumerate() {
                if taken.contains(&at)
                    && let Ok(row) = row?
                {
                    output.append(&row.value)?;
                }
            }
            Ok(())
        })?;
        Ok(path)
    }

    /// Lays down the problems that are asked.
    pub(super) fn write_problems(
        &self,
        path: &Path,
        control: Control<'_>,
    ) -> Result<Vec<Problem>, StageError> {
        let mut meta = Meta::of("race-problems");
        self.problems.record(&mut meta);
        let ids: Vec<&str> = self.asked.iter().map(|p| p.id.as_str()).collect();
        meta.setting("asked", ids);
        write(path, &meta, control, |output| {
            for problem in &self.asked {
                output.append(problem)?;
            }
            Ok(())
        })?;
        Ok(self.asked.clone())
    }
}

/// What a reader must know of so few problems.
pub(super) fn few_problems(n: usize) -> Option<String> {
    (n < ENOUGH_PROBLEMS).then(|| {
        format!(
            "the arms were asked {n} problems: differences below about {:.0} points are hard to see on so few",
            100.0 * smallest_detectable(n, 0.3)
        )
    })
}

/// Epochs and rows of a fraction of a full training: whole epochs where it holds one, else a part of
/// the rows.
fn lane(epochs: usize, rows: usize, fraction: f64, most: usize) -> Lane {
    let passes = epochs as f64 * fraction;
    let whole = (passes.round() as usize).clamp(1, epochs.max(1));
    let part = (passes / whole as f64).min(1.0);
    // What is left of the whole by rounding is no reason to leave rows out.
    let part = if part > 0.99 { 1.0 } else { part };
    Lane {
        epochs: whole,
        rows: ((rows as f64 * part).ceil() as usize)
            .clamp(1, rows)
            .min(most.max(1)),
    }
}

fn check_names(arms: &[(String, PathBuf)]) -> Result<(), StageError> {
    if arms.len() < FEWEST_ARMS {
        return Err(StageError::usage(
            "a race takes at least two arms",
            "idiolect race --model M --problems P G=G.jsonl W=W.jsonl -o DIR",
        ));
    }
    let mut seen = BTreeSet::new();
    for (name, _) in arms {
        if !is_name(name) {
            return Err(StageError::usage(
                format!("the arm's name `{name}` cannot be a folder's"),
                "names begin with a letter or digit and hold letters, digits and `_-.~+@`",
            ));
        }
        if !seen.insert(name) {
            return Err(StageError::usage(
                format!("two arms are named `{name}`"),
                "give each its own name",
            ));
        }
    }
    Ok(())
}

/// Places of problems in a lot: short rungs of matched arms take the same problems.
fn lot(ids: &BTreeSet<String>, seed: u64) -> BTreeMap<&str, usize> {
    let mut order: Vec<&str> = ids.iter().map(String::as_str).collect();
    Rng::keyed(seed, &["race", "rows"]).shuffle(&mut order);
    order
        .into_iter()
        .enumerate()
        .map(|(at, id)| (id, at))
        .collect()
}

/// Problems to ask, by lot: no test's, and in no arm. Where arms do not say what problems they hold,
/// those of split dev alone.
fn choose(
    problems: &Problems,
    held: &BTreeSet<String>,
    named: bool,
    settings: &RaceSettings,
) -> Result<Vec<Problem>, StageError> {
    let may = |problem: &&Problem| match named {
        true => problem.split != Split::Test && !held.contains(&problem.id),
        false => problem.split == Split::Dev,
    };
    let rows = problems.rows.iter().map(|(_, problem)| problem);
    let mut found: Vec<&Problem> = rows.filter(may).collect();
    if found.is_empty() {
        return Err(StageError::failed(
            format!(
                "`{}` has no problem to ask: those of split test are left for the end, and the others are in the arms",
                problems.file
            ),
            "give problems of split dev, or more of split train than the arms hold",
        ));
    }
    Rng::keyed(settings.seed, &["race", "problems"]).shuffle(&mut found);
    found.truncate(settings.ask.max(1));
    let mut found: Vec<Problem> = found.into_iter().cloned().collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// An output whose rows are made all at once: complete, or written over.
fn write(
    path: &Path,
    meta: &Meta,
    control: Control<'_>,
    rows: impl FnOnce(&mut Output) -> Result<(), StageError>,
) -> Result<(), StageError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            StageError::failed(
                format!("cannot make the folder `{}`: {error}", folder.display()),
                "",
            )
        })?;
    }
    let Opened::Unfinished(mut output) = Output::open(path, meta, control.overwrite)? else {
        return Ok(());
    };
    output.restart()?;
    rows(&mut output)?;
    let written = output.done();
    output.finish_appended(written)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_whole_epochs_where_there_are_some_and_rows_where_not() {
        let of = |epochs, rows, most| {
            RUNGS.map(|fraction| {
                let found = lane(epochs, rows, fraction, most);
                (found.epochs, found.rows)
            })
        };
        assert_eq!(of(6, 1000, 1 << 20), [(1, 1000), (3, 1000), (6, 1000)]);
        assert_eq!(of(1, 600, 1 << 20), [(1, 100), (1, 300), (1, 600)]);
        assert_eq!(of(2, 600, 1 << 20), [(1, 200), (1, 600), (2, 600)]);
        assert_eq!(of(3, 600, 1 << 20), [(1, 300), (2, 450), (3, 600)]);
        assert_eq!(
            lane(6, 9000, RUNGS[0], 1024),
            Lane {
                epochs: 1,
                rows: 1024
            }
        );
        assert_eq!(of(1, 1, 1 << 20), [(1, 1), (1, 1), (1, 1)]);
    }
}
