//! What an author of a Sluicegate plugin sees.
//!
//! A plugin is a type that is made of the operator's settings and answers questions about keys. A whole filter:
//!
//! ```
//! use sluicegate_plugin::{KeyFilter, Plugin, Prefix, Settings, export};
//!
//! struct DropTmp(Prefix);
//! impl Plugin for DropTmp {
//!     fn init(settings: &Settings) -> Result<Self, String> {
//!         Ok(Self(Prefix::new(settings.get("prefix").unwrap_or("tmp:"))))
//!     }
//! }
//! impl KeyFilter for DropTmp {
//!     fn keep(&self, _db: u32, key: &[u8]) -> bool {
//!         !self.0.starts(key)
//!     }
//! }
//! export!(DropTmp: key_filter);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-unknown-unknown` (smallest) or `wasm32-wasip2`, and name the file in the view.
//! An answer must follow from the database, the key and the settings alone; `wit/plugin.wit` says what else holds.

mod columns;
mod glue;
mod metrics;
mod prefix;
mod settings;
mod streams;

#[doc(hidden)]
pub mod bindings;

pub use bindings::lifecycle::sluicegate::plugin::types::{Edits, Error, LogLevel, Property};
pub use columns::{EditsBuilder, Frames, Keys};
pub use glue::log;
#[doc(hidden)]
pub use glue::{Adapter, Exported, Identity, OnceLock};
pub use metrics::{COUNTERS_MAX, count};
pub use prefix::{Prefix, append};
pub use settings::Settings;

/// What every plugin is.
///
/// `Send + Sync` because the instance is kept in a static; a plugin has no threads.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Names of the counters of [`count`], by index; at most [`COUNTERS_MAX`].
    const COUNTERS: &'static [&'static str] = &[];

    /// Makes the plugin of the operator's settings. The error is shown to the operator, and the view is not started.
    fn init(settings: &Settings) -> Result<Self, String>;

    /// The first bytes of the keys that the plugin wants to be asked about; empty: all keys.
    fn prefixes(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// What the host may rely on. Promise nothing that does not hold for every setting that was accepted.
    fn properties(&self) -> Vec<Property> {
        Vec::new()
    }
}

/// Decides which keys the view has.
pub trait KeyFilter: Plugin {
    /// Whether the view has `key` of database `db`.
    fn keep(&self, db: u32, key: &[u8]) -> bool;

    /// Verdicts for a whole batch: one byte for each key, 0 keep, 1 drop; empty: keep all. The default asks
    /// [`keep`](Self::keep) for each key.
    fn filter(&self, keys: &Keys) -> Result<Vec<u8>, Error> {
        let db = keys.db();
        Ok(keys.verdicts(|key| self.keep(db, key)))
    }
}

/// Decides which frames without keys the view passes.
pub trait FrameFilter: Plugin {
    /// Whether a frame passes: its command in lower case, its channel or function library, its length in bytes.
    fn pass(&self, db: u32, command: &str, subject: &[u8], size: u32) -> bool;

    /// Verdicts for a whole batch, like [`KeyFilter::filter`].
    fn filter_frames(&self, frames: &Frames) -> Result<Vec<u8>, Error> {
        Ok(frames.verdicts(|command, subject, size| self.pass(frames.db(), command, subject, size)))
    }
}

/// Gives keys other names, and knows the way back.
pub trait KeyTransform: Plugin {
    /// Appends the view's name of `key` to `name` and returns `true`, or returns `false` if the key keeps its name.
    fn rename(&self, db: u32, key: &[u8], name: &mut Vec<u8>) -> bool;

    /// The inverse: appends the key that the view calls `name` and returns `true`, or returns `false` if it is the same.
    /// The host halts the view unless `original(rename(key)) == key` for every key that the view keeps.
    fn original(&self, db: u32, name: &[u8], key: &mut Vec<u8>) -> bool;

    /// New names for a whole batch. The default asks [`rename`](Self::rename) for each key.
    fn rename_all(&self, keys: &Keys) -> Result<Edits, Error> {
        let db = keys.db();
        Ok(keys.edits(|key, name| self.rename(db, key, name)))
    }

    /// The keys behind a whole batch of names. The default asks [`original`](Self::original) for each name.
    fn original_all(&self, names: &Keys) -> Result<Edits, Error> {
        let db = names.db();
        Ok(names.edits(|name, key| self.original(db, name, key)))
    }
}

/// Packs blocks of bytes, each by itself, and unpacks them. A codec is of no use in a view's pipeline: it is named where
/// snapshots are packed.
pub trait BlockCodec: Plugin {
    /// The name of what it makes: 1 to 64 lower-case letters, digits and `-._`. Give what cannot be unpacked by the old
    /// plugin a new name.
    const FORMAT: &'static str;

    /// Packs `raw` (never empty, at most 1 MiB) so that every plugin of this format can unpack it.
    fn encode(&self, raw: &[u8]) -> Result<Vec<u8>, Error>;

    /// Unpacks what [`encode`](Self::encode) made of `size` bytes. [`Error::Rejected`] where the bytes are damaged: never a
    /// panic, and never more than `size` bytes.
    fn decode(&self, packed: &[u8], size: usize) -> Result<Vec<u8>, Error>;
}

/// Packs blocks of bytes that are given in pieces. One encoder, and one decoder, is used for each block.
pub trait StreamCodec: Plugin {
    /// As in [`BlockCodec::FORMAT`].
    const FORMAT: &'static str;
    /// Packs one block.
    type Encoder: CodecStream;
    /// Unpacks one block.
    type Decoder: CodecStream;

    /// Begins to pack a block.
    fn encoder(&self) -> Result<Self::Encoder, Error>;

    /// Begins to unpack a block.
    fn decoder(&self) -> Result<Self::Decoder, Error>;
}

/// A block on its way through a [`StreamCodec`].
pub trait CodecStream: 'static {
    /// Takes the next bytes; what can be given for them by now.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error>;

    /// There are no more bytes; what is left to be given. A decoder answers [`Error::Rejected`] if the block is incomplete.
    fn finish(self) -> Result<Vec<u8>, Error>;
}

/// Makes a type the plugin of this crate: `export!(Type: key_filter, frame_filter, key_transform)` with any of the three, or
/// `export!(Type: block_codec)`, or `stream_codec`.
/// The plugin bears the crate's name and version. On other targets than WebAssembly nothing is exported, so that plugins
/// can be tested natively.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($world:ident),+ $(,)?) => {
        impl $crate::Exported for $plugin {
            const IDENTITY: $crate::Identity =
                $crate::Identity { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };
            fn cell() -> &'static $crate::OnceLock<Self> {
                static CELL: $crate::OnceLock<$plugin> = $crate::OnceLock::new();
                &CELL
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Settings) -> Result<$plugin, String> = <$plugin as $crate::Plugin>::init;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Adapted = $crate::Adapter<$plugin>;
            $crate::bindings::lifecycle::export_lifecycle!(Adapted with_types_in $crate::bindings::lifecycle);
            $($crate::export!(@ $world);)+
        };
    };
    (@ key_filter) => {
        $crate::bindings::key_filter::export_key_filter!(Adapted with_types_in $crate::bindings::key_filter);
    };
    (@ frame_filter) => {
        $crate::bindings::frame_filter::export_frame_filter!(Adapted with_types_in $crate::bindings::frame_filter);
    };
    (@ key_transform) => {
        $crate::bindings::key_transform::export_key_transform!(Adapted with_types_in $crate::bindings::key_transform);
    };
    (@ block_codec) => {
        $crate::bindings::block_codec::export_block_codec!(Adapted with_types_in $crate::bindings::block_codec);
    };
    (@ stream_codec) => {
        $crate::bindings::stream_codec::export_stream_codec!(Adapted with_types_in $crate::bindings::stream_codec);
    };
}
