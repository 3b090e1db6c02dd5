//! What can go wrong with the hub.

use std::path::Path;

/// Why a model or file is not there. No message holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The reference is not `OWNER/NAME[@REV]`, or not that of a file.
    #[error("`{reference}`: {reason}")]
    Reference {
        /// As it was given.
        reference: String,
        /// What was expected.
        reason: String,
    },
    /// The hub does not have it.
    #[error("the hub {endpoint} has no {what}")]
    NotFound {
        /// The hub that was asked.
        endpoint: String,
        /// What was asked for: repository, revision, file.
        what: String,
    },
    /// The hub has it and does not give it.
    #[error("{0}")]
    NotAllowed(String),
    /// The repository has no weights that can be loaded safely.
    #[error("{0}")]
    NoWeights(String),
    /// No connection, or none that lasted.
    #[error("{0}")]
    Unreachable(String),
    /// What came back is no answer of a hub.
    #[error("{0}")]
    Invalid(String),
    /// A file is not the one that was named.
    #[error(
        "`{file}` is not what the hub lists ({expected} expected, {found} found); what came was \
         deleted. Try again; if it stays so, something between here and the hub changes files"
    )]
    Checksum {
        /// The file.
        file: String,
        /// The hash by which the hub names it.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// There is not enough disk space.
    #[error("{needed} bytes are to be downloaded and {free} are free in {path}")]
    NoRoom {
        /// Bytes missing.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// The cache.
        path: String,
    },
    /// The network may not be used, and the cache has no complete copy.
    #[error("{0} is not (completely) in the cache, and HF_HUB_OFFLINE forbids to download it")]
    Offline(String),
    /// The caller stopped the download; what came is kept.
    #[error("the download was stopped; the next one continues it")]
    Stopped,
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl HubError {
    /// The error of a path.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        |source| Self::Io { path, source }
    }

    /// The threads for the network could not be started.
    pub(super) fn threads(source: std::io::Error) -> Self {
        Self::Io {
            path: "threads for the network".to_owned(),
            source,
        }
    }
}
