//! Closeness metrics: how near a trace is to the student's own distribution.

use serde::{Deserialize, Serialize};

/// Which value of a metric is nearer to the student. It is no promise of better training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Lower is nearer.
    Lower,
    /// Higher is nearer.
    Higher,
    /// Nearest to 0.
    NearZero,
    /// Nearest to 1.
    NearOne,
}
