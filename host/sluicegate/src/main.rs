//! Sluicegate: a replication proxy between a Redis, Valkey or kevy primary and its replicas, with WebAssembly plugins between.

mod bootstrap;
mod cli;
mod client;
mod compare;
mod config;
mod demo;
mod logging;
mod rdb;
mod reactor;
mod status;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic has already told its story on standard error; what is left is to say that it is our fault.
    std::panic::catch_unwind(cli::main).unwrap_or(cli::exit::BUG.into())
}
