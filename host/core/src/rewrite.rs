//! What the rewriters of both families of snapshots have in common: what they hold, and how they fail.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::fault::Fault;
use crate::pipeline::PluginFault;

/// Bytes of entries that are held while their batch fills. Only a key's name can take more for a moment
/// (up to its format's bound), never a value.
pub const HELD_BYTES: usize = 256 * 1024;

/// Why a view's snapshot cannot be made. What was written of it is worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteError<E> {
    /// The upstream's snapshot is broken.
    Snapshot(E),
    /// A plugin failed; its view has to halt.
    Plugin(PluginFault),
    /// It cannot be written in the format that it is wanted in.
    Unfit(Fault),
}

impl<E: fmt::Display> fmt::Display for RewriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(error) => error.fmt(f),
            Self::Unfit(fault) => fault.fmt(f),
            Self::Plugin(fault) => {
                write!(f, "plugin {} failed on a snapshot, so the view halts: {}", fault.plugin, fault.what)
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RewriteError<E> {}

impl<E> From<PluginFault> for RewriteError<E> {
    fn from(fault: PluginFault) -> Self {
        Self::Plugin(fault)
    }
}

/// The pipeline gave back another number of answers than it was asked for.
#[cold]
pub(crate) fn unanswered(asked: usize, answered: usize) -> PluginFault {
    let what = format!("{answered} answers came for {asked} questions");
    PluginFault { plugin: String::from("(pipeline)"), what }
}
