//! Values on a second connection: what is asked of a primary, and what is believed of its answers.
//!
//! The golden replies are those of real servers to [`support::captured_order`], byte for byte: a list of keys of which one
//! has expired without its server having noticed, one never was, and one has a time to live.

mod conversation;
mod golden;
mod refusals;
mod reply;
mod support;
