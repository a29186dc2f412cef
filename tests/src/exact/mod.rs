//! Exactness against real servers: random commands for every row of the command table, a stage of a primary, the proxy and
//! a replica behind a view, and the comparison of what the replica holds with what the view makes of the primary.
//!
//! Keys are named `fate:content:n`: `keep:` keys are in the view, `ren:` keys are in it under `moved:`, `drop:` keys are not.

mod draw;
mod generator;
mod line;
pub mod rows;
mod sieve;
mod stage;
mod templates;

pub use draw::Mix;
pub use generator::{Generator, known};
pub use sieve::Tamper;
pub use stage::{DIFFERS, Lens, Stage};
