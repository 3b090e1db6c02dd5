//! Where the answers of a stage are programs: the sandbox that runs them.

use idiolect_core::record::TaskName;
use idiolect_core::store::Meta;
use idiolect_core::task::{Execute, NoCode};

use super::{Control, StageError};
use crate::sandbox::Sandbox;

/// What runs the programs of a stage, if it has any.
pub struct CodeRunner(Option<Sandbox>);

impl CodeRunner {
    /// Opens the sandbox where one of the tasks needs it.
    pub fn for_tasks(
        tasks: impl IntoIterator<Item = TaskName>,
        control: Control<'_>,
    ) -> Result<Self, StageError> {
        if !tasks.into_iter().any(|task| task == TaskName::Mbpp) {
            return Ok(Self(None));
        }
        Sandbox::open(control.protection)
            .map(|sandbox| Self(Some(sandbox)))
            .map_err(|error| StageError::failed(error.to_string(), error.hint()))
    }

    /// What runs them.
    pub fn execute(&self) -> &dyn Execute {
        match &self.0 {
            Some(sandbox) => sandbox,
            None => &NoCode,
        }
    }

    /// Adds interpreter and protection to an output's provenance: both can change verdicts.
    pub fn record(&self, meta: &mut Meta) {
        if let Some(sandbox) = &self.0 {
            meta.version("code", sandbox.describe());
        }
    }

    /// Ends the stage where programs could not be run through no fault of theirs, before rows that
    /// say so are written.
    pub fn check(&self) -> Result<(), StageError> {
        match self.0.as_ref().and_then(Sandbox::broken) {
            None => Ok(()),
            Some(why) => Err(StageError::failed(
                format!("the code runner judges no program any more: {why}"),
                "the rows before it are kept; the same command continues once the machine has memory and processes to spare",
            )),
        }
    }
}
