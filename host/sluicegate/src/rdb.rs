//! Dump files, without a server: what is in one, what a pipeline makes of one, and in what two differ.
//!
//! A dump is read once, from its beginning to its end, in pieces: neither its size nor that of a value decides how much memory is
//! taken. What does is a named bound in the module that holds something.

pub(crate) mod cat;
pub(crate) mod diff;
mod dump;
pub(crate) mod filter;
mod kinds;
mod progress;
mod sort;
mod value;

use std::fmt;

use dump::Dump;
use value::Value;

/// A key as people and programs are shown it: bytes that are no text are escaped.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `1 key`, `2 keys`.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        match (*count, what.strip_suffix('y')) {
            (1, _) => write!(f, "1 {what}"),
            (count, Some(stem)) if !what.ends_with("ey") => write!(f, "{count} {stem}ies"),
            (count, _) => write!(f, "{count} {what}s"),
        }
    }
}
