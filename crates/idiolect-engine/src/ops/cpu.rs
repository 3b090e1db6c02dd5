//! The execution context of the operations: the threads of a job and the memory they work in.
//!
//! Operations are its methods, each beside its kernel and its backward in a file of this folder.

use super::projection::ProjectionWorkspace;
use crate::threads::Threads;

/// Memory that operations work in; grows and is reused, and holds nothing between two of them.
#[derive(Debug, Default)]
pub(crate) struct CpuWorkspace {
    /// One a thread, and one that they share.
    pub(super) scratch: Vec<Vec<f32>>,
    pub(super) projection: ProjectionWorkspace,
}

/// What runs operations.
pub(crate) struct Cpu<'a> {
    pub(super) threads: &'a Threads,
    pub(super) workspace: &'a mut CpuWorkspace,
}

impl<'a> Cpu<'a> {
    /// Operations of these threads, in this memory.
    pub(crate) fn new(threads: &'a Threads, workspace: &'a mut CpuWorkspace) -> Self {
        let n = (threads.n() + 1).max(workspace.scratch.len());
        workspace.scratch.resize_with(n, Vec::new);
        Self { threads, workspace }
    }

    /// [`Threads::for_chunks`], each thread with its scratch.
    pub(super) fn for_chunks<const P: usize>(
        &mut self,
        chunks: usize,
        slices: [(&mut [f32], usize); P],
        task: impl Fn(usize, [&mut [f32]; P], &mut Vec<f32>) + Sync,
    ) {
        let scratch = &mut self.workspace.scratch;
        self.threads.for_chunks(chunks, slices, scratch, task);
    }
}
