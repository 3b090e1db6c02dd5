//! What can go wrong: with one row, or with the model.

use std::ops::ControlFlow;

/// Why one row got no result; the others are unaffected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RowError {
    /// What kind of fault it is, for counts over many rows.
    pub kind: RowErrorKind,
    /// What is wrong with this row, and what to do.
    pub reason: String,
}

impl RowError {
    /// A fault of a kind that has no name of its own.
    pub fn other(reason: impl Into<String>) -> Self {
        Self {
            kind: RowErrorKind::Other,
            reason: reason.into(),
        }
    }
}

/// Kinds of faults of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RowErrorKind {
    /// It needs more tokens than the model, or a setting, allows.
    TooLong,
    /// No token of the completion is left to score or to train on.
    NoTarget,
    /// The chat template does not render it.
    Template,
    /// Its text cannot be tokenized, or gives tokens that the model does not have.
    Tokens,
    /// Anything else.
    Other,
}

impl RowErrorKind {
    /// The kind, as counts of rows name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "longer than the student's limit",
            Self::NoTarget => "no token left to train on",
            Self::Template => "refused by the chat template",
            Self::Tokens => "not in the student's vocabulary",
            Self::Other => "not a row for the student",
        }
    }
}

/// Why a model cannot go on at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A model file or setting that cannot be used: file, field or tensor, and what was expected.
    #[error("{0}")]
    Invalid(String),
    /// The model cannot do what was asked, known before work begins.
    #[error("{0}")]
    Unsupported(String),
    /// Requests were handed on and their replies are not there yet; the same work continues later.
    #[error("{0}")]
    Waiting(String),
    /// The user stopped the program before the model could be asked.
    #[error("interrupted; the same command continues")]
    Interrupted,
    /// The server that answers for the model, which this program started, is at fault.
    #[error("{message}")]
    Server {
        /// In words, with the end of its log.
        message: String,
        /// What to do, where known.
        hint: Option<String>,
    },
    /// Training met a value that is not finite.
    #[error(
        "the loss is not finite at step {step}; rows of the batch: {rows}. Lower the learning rate or look at those rows"
    )]
    NonFinite {
        /// The optimiser step, from 1.
        step: usize,
        /// Indices of the examples in the batch.
        rows: String,
    },
}

/// Receives the result of one entry; breaking stops the work.
pub type Sink<'a, T> = &'a mut dyn FnMut(usize, Result<T, RowError>) -> ControlFlow<()>;
