//! The records of `wit/plugin.wit` as wasmtime lowers and lifts them. What goes in is borrowed, so that nothing is copied
//! but into the plugin's memory.

use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(ComponentType, Lift, Lower, Debug, Clone, Copy, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum LogLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

#[derive(ComponentType, Lift, Debug, Clone, Copy, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Property {
    #[component(name = "db-independent")]
    DbIndependent,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(crate) struct Descriptor {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) prefixes: Vec<Vec<u8>>,
    pub(crate) properties: Vec<Property>,
    pub(crate) counters: Vec<String>,
}

#[derive(ComponentType, Lower, Debug, Clone)]
#[component(record)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(ComponentType, Lower, Debug, Clone, Copy)]
#[component(record)]
pub(crate) struct Startup<'a> {
    pub(crate) settings: &'a [Setting],
    pub(crate) commands: &'a [&'a str],
    #[component(name = "log-level")]
    pub(crate) log_level: LogLevel,
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub(crate) enum Refusal {
    #[component(name = "invalid-config")]
    InvalidConfig(String),
    #[component(name = "rejected")]
    Rejected(String),
    #[component(name = "internal")]
    Internal(String),
}

#[derive(ComponentType, Lower, Debug, Clone, Copy)]
#[component(record)]
pub(crate) struct Keys<'a> {
    pub(crate) db: u32,
    pub(crate) offsets: &'a [u32],
    pub(crate) keys: &'a [u8],
}

#[derive(ComponentType, Lift, Debug, Default)]
#[component(record)]
pub(crate) struct Edits {
    pub(crate) indexes: Vec<u32>,
    pub(crate) offsets: Vec<u32>,
    pub(crate) data: Vec<u8>,
}

impl Edits {
    /// Index and replacement of each edit. The edits must have been checked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.indexes
            .iter()
            .zip(self.offsets.windows(2))
            .map(|(index, span)| (*index as usize, self.data.get(span[0] as usize..span[1] as usize).unwrap_or(&[])))
    }
}

#[derive(ComponentType, Lower, Debug, Clone, Copy)]
#[component(record)]
pub(crate) struct Frames<'a> {
    pub(crate) db: u32,
    pub(crate) commands: &'a [u16],
    #[component(name = "subject-offsets")]
    pub(crate) subject_offsets: &'a [u32],
    pub(crate) subjects: &'a [u8],
    pub(crate) sizes: &'a [u32],
}
