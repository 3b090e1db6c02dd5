//! Answers of another program's file as traces of problems that are known, in memory: what a recipe
//! gives as traces that exist already.

use std::path::{Path, PathBuf};

use idiolect_core::outside::{AnsweredRow, Program};
use idiolect_core::record::{Finish, Problem, TaskName, Trace};
use idiolect_core::store::BadRow;

use super::super::StageError;
use super::super::import::RowTask;
use super::find::Finder;
use super::source::Source;
use super::survey::Survey;
use super::{Outputs, OutsideSettings, beside, theirs, trace};

/// What of a file is taken.
pub struct GivenAnswers<'a> {
    /// The file, and whose it is.
    pub file: (PathBuf, Program),
    /// The task of its problems.
    pub task: TaskName,
    /// Pairs of field and column of plain answers.
    pub columns: Vec<(String, String)>,
    /// How answers ended; `None`: what the file states.
    pub finish: Option<Finish>,
    /// The problems that may be answered.
    pub problems: &'a [Problem],
}

/// The traces of a file's answers, in its order. An answer that is to none of the problems, or has no
/// text, is refused.
///
/// # Errors
/// When the file cannot be read, or states no model for some of its answers.
pub fn given(
    answers: &GivenAnswers<'_>,
    wanted: impl Fn(&AnsweredRow) -> bool,
    refused: &mut Vec<BadRow>,
) -> Result<Vec<Trace>, StageError> {
    let (path, program) = &answers.file;
    let settings = OutsideSettings {
        task: RowTask::All(answers.task),
        files: vec![answers.file.clone()],
        columns: answers.columns.clone(),
        split: None,
        model: None,
        finish: answers.finish,
        set: None,
        problems: None,
        decoding: None,
        accept_rounded: false,
        outputs: Outputs {
            problems: None,
            traces: None,
            evaluation: None,
        },
    };
    let source = Source::open(path, *program, &settings)?;
    let finder = Finder::of(&settings, answers.problems);
    let survey = Survey::of(std::slice::from_ref(&source), &finder)?;
    let mut traces = Vec::new();
    for filters in survey.filters() {
        source.each(|item| {
            let mut refuse = |reason: &str| refused.push(item.refused(&source, reason));
            let row = match &item.row {
                Ok(row) if wanted(row) => row,
                Ok(_) => return Ok(()),
                Err(reason) => {
                    refuse(reason);
                    return Ok(());
                }
            };
            match filters.repeats(row, item.number) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(reason) => {
                    refuse(&reason);
                    return Ok(());
                }
            }
            let problem = match finder.problem(row, &source, item.number) {
                Ok(found) => found.problem,
                Err(reason) => {
                    refuse(&reason);
                    return Ok(());
                }
            };
            let scores = filters.scores(row);
            for (place, reply) in row.replies.iter().enumerate() {
                match trace(&settings, &source, row, reply, &problem) {
                    Ok((mut trace, _)) => {
                        let theirs = theirs(*program, row, place, &scores);
                        beside(&mut trace, *program, row, &theirs);
                        traces.push(trace);
                    }
                    Err(reason) => refuse(&reason),
                }
            }
            Ok(())
        })?;
    }
    Ok(traces)
}

/// How many answers a file of another program holds.
///
/// # Errors
/// When it cannot be read.
pub fn n_answers(path: &Path, program: Program) -> Result<usize, StageError> {
    let mut found = 0;
    Source::bare(path, program)?.each(|item| {
        found += item.row.map_or(1, |row| row.replies.len());
        Ok(())
    })?;
    Ok(found)
}
