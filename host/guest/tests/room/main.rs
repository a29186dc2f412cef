//! The plugin room, one story a file.

mod builtins;
mod codecs;
mod determinism;
mod hostile;
mod log;
mod refusals;
mod support;
