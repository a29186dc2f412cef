//! The plugin room: WebAssembly components under limits. The only user of wasmtime.
//!
//! A [`Room`] compiles plugins ([`Room::load`]), puts them into pipelines ([`Room::pipeline`]) that the core asks, and makes
//! codecs of them ([`Room::codec`]) that pack snapshots.
//! Components are given no authority: they may log and count, and WASI is answered by a shim with nothing behind it.
//! Every call has a bound on time, memory, stack and answer, and every answer is checked before a byte of it is used.
//! A plugin that fails costs its instance, never the process.
#![deny(unsafe_code)]

mod check;
mod codec;
mod columns;
mod error;
mod imports;
mod instance;
mod member;
mod pipeline;
mod plugin;
mod room;
mod spec;
mod stats;
mod ticker;
mod wasi;
mod wire;

pub use codec::GuestCodec;
pub use error::LoadError;
pub use pipeline::GuestPipeline;
pub use plugin::{Descriptor, Plugin};
pub use room::{Room, RoomSettings};
pub use spec::{OnError, PluginSpec, limits};
pub use stats::{PluginStats, StatsHandle};
