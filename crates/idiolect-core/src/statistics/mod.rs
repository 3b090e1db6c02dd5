//! Statistics for paired experiments: intervals, tests and corrections.
//!
//! Sources: `docs/method.md`; every function names its own. All arithmetic is f64 in a fixed order,
//! and chance comes only from a generator that the caller keys, so equal inputs give equal bits.

use serde::{Deserialize, Serialize};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}
