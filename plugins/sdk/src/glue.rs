//! Between the generated bindings and the author's traits.

use std::marker::PhantomData;
pub use std::sync::OnceLock;

use crate::bindings::lifecycle::sluicegate::plugin::{log as host, types};
use crate::bindings::{block_codec, frame_filter, key_filter, key_transform, lifecycle};
use crate::{
    BlockCodec, Edits, Error, FrameFilter, Frames, KeyFilter, KeyTransform, Keys, LogLevel, Plugin, Settings, metrics,
};

/// The crate that a plugin comes from.
#[derive(Debug)]
pub struct Identity {
    /// The crate's name.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
}

/// What [`export!`](crate::export) adds to a plugin: who it is, and the place where its one instance lives.
pub trait Exported: Plugin {
    /// The crate.
    const IDENTITY: Identity;
    /// The instance, once `init` has succeeded.
    fn cell() -> &'static OnceLock<Self>;
}

/// The generated `Guest` traits, for any plugin.
#[derive(Debug)]
pub struct Adapter<P>(PhantomData<P>);

static COMMANDS: OnceLock<Vec<String>> = OnceLock::new();
static LOG_LEVEL: OnceLock<LogLevel> = OnceLock::new();

/// The command with this index; empty if the host never named it.
pub(crate) fn command(index: u16) -> &'static str {
    COMMANDS.get().and_then(|commands| commands.get(usize::from(index))).map_or("", String::as_str)
}

/// Tells the operator something. `message` is not called below the operator's level.
pub fn log(level: LogLevel, message: impl FnOnce() -> String) {
    if LOG_LEVEL.get().is_none_or(|least| level as u8 >= *least as u8) {
        host::log(level, &message());
    }
}

/// Without it a panic would reach the host as a bare `unreachable`.
#[cfg(target_arch = "wasm32")]
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| host::log(LogLevel::Error, &panic.to_string())));
}

#[cfg(not(target_arch = "wasm32"))]
fn report_panics() {}

fn ready<P: Exported>() -> Result<&'static P, Error> {
    P::cell().get().ok_or_else(|| Error::Internal("asked before init".into()))
}

/// Asks the instance and tells the host what was counted meanwhile.
#[inline]
pub(crate) fn ask<P: Exported, T>(question: impl FnOnce(&P) -> Result<T, Error>) -> Result<T, Error> {
    let answer = question(ready::<P>()?);
    metrics::flush(P::COUNTERS.len());
    answer
}

impl<P: Exported> lifecycle::exports::sluicegate::plugin::lifecycle::Guest for Adapter<P> {
    fn describe() -> types::Descriptor {
        let plugin = P::cell().get();
        types::Descriptor {
            name: P::IDENTITY.name.into(),
            version: P::IDENTITY.version.into(),
            prefixes: plugin.map(P::prefixes).unwrap_or_default(),
            properties: plugin.map(P::properties).unwrap_or_default(),
            counters: P::COUNTERS.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn init(args: types::Startup) -> Result<(), Error> {
        report_panics();
        let _ = COMMANDS.set(args.commands);
        let _ = LOG_LEVEL.set(args.log_level);
        let settings = Settings::new(args.settings.into_iter().map(|setting| (setting.name, setting.value)));
        let plugin = P::init(&settings).map_err(Error::InvalidConfig)?;
        P::cell().set(plugin).map_err(|_| Error::Internal("init was called twice".into()))
    }
}

impl<P: Exported + KeyFilter> key_filter::exports::sluicegate::plugin::key_filter::Guest for Adapter<P> {
    fn filter(batch: types::KeyBatch) -> Result<Vec<u8>, Error> {
        ask(|plugin: &P| plugin.filter(&Keys::new(batch)))
    }
}

impl<P: Exported + FrameFilter> frame_filter::exports::sluicegate::plugin::frame_filter::Guest for Adapter<P> {
    fn filter(batch: types::FrameBatch) -> Result<Vec<u8>, Error> {
        ask(|plugin: &P| plugin.filter_frames(&Frames::new(batch)))
    }
}

impl<P: Exported + KeyTransform> key_transform::exports::sluicegate::plugin::key_transform::Guest for Adapter<P> {
    fn rename(batch: types::KeyBatch) -> Result<Edits, Error> {
        ask(|plugin: &P| plugin.rename_all(&Keys::new(batch)))
    }

    fn original(batch: types::KeyBatch) -> Result<Edits, Error> {
        ask(|plugin: &P| plugin.original_all(&Keys::new(batch)))
    }
}

impl<P: Exported + BlockCodec> block_codec::exports::sluicegate::plugin::block_codec::Guest for Adapter<P> {
    fn format() -> String {
        P::FORMAT.into()
    }

    fn encode(raw: Vec<u8>) -> Result<Vec<u8>, Error> {
        ask(|plugin: &P| plugin.encode(&raw))
    }

    fn decode(packed: Vec<u8>, size: u32) -> Result<Vec<u8>, Error> {
        ask(|plugin: &P| plugin.decode(&packed, size as usize))
    }
}
