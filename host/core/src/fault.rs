//! What went wrong, whose fault it is, and what follows.

use alloc::string::String;
use core::fmt;

/// The party at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The primary, or the network towards it.
    Upstream,
    /// A replica, or the network towards it.
    Replica,
    /// A plugin.
    Plugin,
    /// The configuration.
    Operator,
    /// This program or the machine it runs on.
    Own,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream => "upstream",
            Self::Replica => "replica",
            Self::Plugin => "plugin",
            Self::Operator => "operator",
            Self::Own => "sluicegate",
        })
    }
}

/// A fault: the party and what it did, in words for the operator. What follows is decided where it is consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault it is.
    pub whose: Party,
    /// What happened.
    pub what: String,
}

impl Fault {
    /// A fault of `whose`.
    pub fn new(whose: Party, what: impl Into<String>) -> Self {
        Self { whose, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.whose, self.what)
    }
}

impl From<crate::pipeline::PluginFault> for Fault {
    fn from(fault: crate::pipeline::PluginFault) -> Self {
        Self { whose: Party::Plugin, what: alloc::format!("plugin '{}': {}", fault.plugin, fault.what) }
    }
}
