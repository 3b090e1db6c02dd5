//! Running a program: the interface between the verification of code and the one place that starts
//! processes, the sandbox of the program.

/// A candidate and the tests that decide on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// The candidate's Python code, as it was written.
    pub code: &'a str,
    /// Code that comes after the candidate's and before the tests; often empty. Its classes and
    /// imports are there for the candidate too.
    pub setup: &'a str,
    /// Python code that raises where the candidate is wrong, mostly one `assert` each.
    pub tests: &'a [String],
}

/// What came of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// Every test ended without raising.
    Passed,
    /// The candidate failed: a test, an exception, a limit, an attempt on what it may not touch.
    Failed {
        /// Why, as text for a person.
        reason: String,
        /// The line of its code where it went wrong, from 1, where there is one.
        line: Option<usize>,
    },
    /// It could not be judged, and why: a module that is missing here, a value that cannot cross, a
    /// test that is no Python, a machine at fault.
    NotJudged(String),
}

/// Runs candidates. Equal programs give equal results; an implementation keeps what a candidate
/// does from the machine, from its verdict and from other candidates.
pub trait Execute: Sync {
    /// Runs one candidate against its tests.
    fn execute(&self, program: &Program<'_>) -> Execution;
}

/// Runs nothing: for work without code.
#[derive(Clone, Copy, Debug)]
pub struct NoCode;

impl Execute for NoCode {
    fn execute(&self, _program: &Program<'_>) -> Execution {
        Execution::NotJudged("nothing here runs code".to_owned())
    }
}
