//! Stories about the machine for a kevy primary, without sockets, files and clocks.
//!
//! `seed_…` and `weakness_…` are the statements of `docs/kevy-seed.md`, each by its number. The others are by what they tell
//! of: how the primary's dialect is found out and its history followed, rounds of views that mix shards, and links of replicas.

mod dialects;
mod flow;
mod following;
mod replica;
mod rig;
mod rounds;
mod says;
mod seed;
mod serving;
mod snapshots;
mod weakness;
mod weakness_primary;
