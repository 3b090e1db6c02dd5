//! The pick clause of the arm language: `G{by=nll_per_token,rows=500}`.
//!
//! ```text
//! by=METRIC        what decides; nearer to the student first, in the metric's own direction
//! far              farther first
//! per=problem|set  the best trace of each problem (default), or the best of all
//! rows=N tokens=N  how much to take; without either, all problems
//! band=LO-HI       only traces between these quantiles of closeness, 0 nearest, 1 farthest
//! strata=difficulty+length   fractions of the pool's thirds are kept
//! weights          rows weigh more the nearer they are, 1 on average
//! ```

use std::fmt;
use std::str::FromStr;

use crate::metric::{self, Metric};

/// One trace of each problem, or any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// At most one trace a problem.
    #[default]
    Problem,
    /// The whole pool.
    Set,
}

/// How much to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// So many rows.
    Rows(usize),
    /// At most so many completion tokens.
    Tokens(u64),
}

/// How to choose among traces.
#[derive(Clone, Debug)]
pub struct Clause {
    /// The deciding metric.
    pub by: &'static Metric,
    /// Farther first.
    pub far: bool,
    /// What competes.
    pub scope: Scope,
    /// All where unset.
    pub budget: Option<Budget>,
    /// Quantiles of closeness, 0 nearest.
    pub band: Option<(f64, f64)>,
    /// Keep the pool's fractions of thirds of difficulty.
    pub by_difficulty: bool,
    /// Keep the pool's fractions of thirds of length.
    pub by_length: bool,
    /// Weigh rows by closeness.
    pub weights: bool,
}

impl PartialEq for Clause {
    /// Metrics are equal by name; clauses print their whole content.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by={}", self.by.name)?;
        if self.far {
            f.write_str(",far")?;
        }
        if self.scope == Scope::Set {
            f.write_str(",per=set")?;
        }
        match self.budget {
            Some(Budget::Rows(n)) => write!(f, ",rows={n}")?,
            Some(Budget::Tokens(n)) => write!(f, ",tokens={n}")?,
            None => {}
        }
        if let Some((low, high)) = self.band {
            write!(f, ",band={low}-{high}")?;
        }
        match (self.by_difficulty, self.by_length) {
            (true, true) => f.write_str(",strata=difficulty+length")?,
            (true, false) => f.write_str(",strata=difficulty")?,
            (false, true) => f.write_str(",strata=length")?,
            (false, false) => {}
        }
        if self.weights {
            f.write_str(",weights")?;
        }
        Ok(())
    }
}

impl FromStr for Clause {
    /// Why it cannot be read.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut by = None;
        let (mut far, mut weights) = (false, false);
        let (mut by_difficulty, mut by_length) = (false, false);
        let (mut scope, mut budget, mut band) = (Scope::Problem, None, None);
        for item in text.split(',') {
            let item = item.trim();
            let (key, value) = item
                .split_once('=')
                .map_or((item, ""), |(k, v)| (k.trim(), v.trim()));
            match (key, value) {
                ("by", name) => {
                    by = Some(metric::named(name).ok_or_else(|| {
                        let names: Vec<_> = metric::METRICS.iter().map(|m| m.name).collect();
                        format!("`{name}` is no metric; there are {}", names.join(", "))
                    })?);
                }
                ("far", "") => far = true,
                ("weights", "") => weights = true,
                ("per", "problem") => scope = Scope::Problem,
                ("per", "set") => scope = Scope::Set,
                ("rows", n) => budget = Some(Budget::Rows(above_0(item, n)?)),
                ("tokens", n) => budget = Some(Budget::Tokens(above_0(item, n)? as u64)),
                ("band", quantiles) => band = Some(read_band(item, quantiles)?),
                ("strata", strata) => {
                    for stratum in strata.split('+') {
                        match stratum {
                            "difficulty" => by_difficulty = true,
                            "length" => by_length = true,
                            _ => {
                                return Err(format!(
                                    "`{item}`: strata are difficulty, length or difficulty+length"
                                ));
                            }
                        }
                    }
                }
                _ => {
                    return Err(format!(
                        "`{item}` is nothing to pick by; there are by=METRIC, far, per=problem|set, rows=N, tokens=N, band=LO-HI, strata=difficulty+length and weights"
                    ));
                }
            }
        }
        Ok(Self {
            by: by.ok_or("by=METRIC is missing")?,
            far,
            scope,
            budget,
            band,
            by_difficulty,
            by_length,
            weights,
        })
    }
}

fn above_0(item: &str, n: &str) -> Result<usize, String> {
    n.parse()
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("`{item}`: expected a whole number above 0"))
}

fn read_band(item: &str, text: &str) -> Result<(f64, f64), String> {
    let band = text
        .split_once('-')
        .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    band.filter(|(low, high)| (0.0..=1.0).contains(low) && low < high && *high <= 1.0)
        .ok_or_else(|| format!("`{item}`: expected two quantiles such as 0.25-0.75"))
}
