//! The built-in plugins, as modules that the plugin room makes components of.

macro_rules! wasm {
    ($package:literal, $target:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $package, ".", $target, ".wasm"))
    };
}

/// `key-filter`: allow or deny keys by prefix, glob and database.
pub const KEY_FILTER: &[u8] = wasm!("sluicegate-key-filter", "wasm32-unknown-unknown");

/// `key-rename`: rewrite key prefixes, with the inverse.
pub const KEY_RENAME: &[u8] = wasm!("sluicegate-key-rename", "wasm32-unknown-unknown");

/// `lz4`: packs snapshots, fast.
pub const LZ4: &[u8] = wasm!("sluicegate-lz4", "wasm32-unknown-unknown");

/// `zstd`: packs snapshots, small.
pub const ZSTD: &[u8] = wasm!("sluicegate-zstd", "wasm32-unknown-unknown");

/// Every built-in plugin, by the name that a configuration uses.
pub const BUILTINS: &[(&str, &[u8])] =
    &[("key-filter", KEY_FILTER), ("key-rename", KEY_RENAME), ("lz4", LZ4), ("zstd", ZSTD)];

/// The misbehaving plugin, for tests of the plugin room.
#[cfg(feature = "hostile")]
pub const HOSTILE: &[u8] = wasm!("sluicegate-hostile", "wasm32-unknown-unknown");

/// The misbehaving codec that takes bytes in pieces.
#[cfg(feature = "hostile")]
pub const HOSTILE_STREAM: &[u8] = wasm!("sluicegate-hostile-stream", "wasm32-unknown-unknown");

/// The misbehaving plugin as an ordinary toolchain builds it: a component that imports WASI.
#[cfg(feature = "hostile")]
pub const HOSTILE_WASIP2: &[u8] = wasm!("sluicegate-hostile", "wasm32-wasip2");

/// The built-in plugin of this name.
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    BUILTINS.iter().find(|(builtin, _)| *builtin == name).map(|(_, wasm)| *wasm)
}
