//! Which part of its output a stage makes in this process.

use std::path::Path;

use idiolect_core::store::{Meta, Opened, Output, Shard, StoreError};

use super::Control;

/// The whole of an output, or of its work one share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// The rows of one shard, which are left beside the output.
    Shard(Shard),
    /// The output out of so many shards; what they lack is made here.
    Merged(usize),
}

impl Control<'_> {
    /// Opens the output of a stage, or this shard's part of it.
    ///
    /// # Errors
    /// As [`Output::open`] and [`Output::take_over`].
    pub(super) fn open(&self, path: &Path, meta: &Meta) -> Result<Opened, StoreError> {
        match self.extent {
            Extent::Whole => Output::open(path, meta, self.overwrite),
            Extent::Shard(shard) => {
                let mut meta = meta.clone();
                meta.setting("shard", shard);
                Output::open(&shard.path_of(path), &meta, self.overwrite)
            }
            Extent::Merged(of) => {
                let mut opened = Output::open(path, meta, self.overwrite)?;
                Shard::all(of).try_for_each(|shard| match &mut opened {
                    Opened::Unfinished(output) => output.take_over(shard),
                    // Left by a process that was killed just before its end.
                    Opened::Complete(_) => shard.remove(path),
                })?;
                Ok(opened)
            }
        }
    }

    /// Ends what [`open`](Self::open) gave: a shard as it is, an output by `finish`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn finish(
        &self,
        path: &Path,
        output: Output,
        finish: impl FnOnce(Output) -> Result<Meta, StoreError>,
    ) -> Result<Meta, StoreError> {
        match self.extent {
            Extent::Whole => finish(output),
            Extent::Shard(_) => output.finish_shard(),
            Extent::Merged(of) => {
                let meta = finish(output)?;
                Shard::all(of).try_for_each(|shard| shard.remove(path))?;
                Ok(meta)
            }
        }
    }

    /// Whether the rows of a problem are made here.
    pub(super) fn takes(&self, problem_id: &str) -> bool {
        match self.extent {
            Extent::Shard(shard) => shard.takes(problem_id),
            Extent::Whole | Extent::Merged(_) => true,
        }
    }

    /// Whether only a shard is made here.
    pub(super) fn is_shard(&self) -> bool {
        matches!(self.extent, Extent::Shard(_))
    }
}
