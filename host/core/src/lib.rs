//! The pure core of Sluicegate: protocols, backlog, projection, views, snapshots.
//!
//! ```text
//!  primary                                                                          replicas
//!     │ bytes                                                                          ▲ bytes
//!     ▼                                                                                │
//!  upstream ─► frame ─► projection ─► view ─► backlog ─► replica ─► outbox ────────────┘
//!     │                  │  ▲
//!     │              keys│  │answers      one call per batch
//!     │                  ▼  │
//!     │               pipeline            (plugins, behind a trait)
//!     └─► snapshot ─► spool ─► rdb ─► the same pipeline ─► replica
//! ```
//!
//! Nothing in here does I/O, reads a clock, draws a random number or starts a thread: bytes, time and finished work go into
//! the [`machine::Machine`], bytes and orders come out. So a simulator can run the real thing, with every fault, from a seed.
//! The crate is `no_std` and is built for bare WebAssembly in CI, which proves it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backlog;
pub mod command;
pub mod contract;
pub mod fault;
pub mod fetch;
pub mod frame;
pub mod kevy;
pub mod limits;
pub mod machine;
pub mod outbox;
pub mod pack;
pub mod pipeline;
pub mod position;
pub mod projection;
pub mod rdb;
pub mod replica;
pub mod resp;
pub mod rewrite;
pub mod rope;
pub mod settings;
pub mod snapshot;
pub mod upstream;
pub mod view;
