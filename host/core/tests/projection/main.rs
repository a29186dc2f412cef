//! Stories about the stream as a view sees it: `(what the primary sends, what replicas get)`.
//!
//! Each story is one line a side, frames parted by ` | `. It is run whole and cut into reads of several sizes; all must tell
//! the same. What comes out is read again by a parser of its own, and put beside what is expected.

mod explain;
mod floor;
mod keyed;
mod keyless;
mod repair;
mod rules;
mod stream;
mod support;
