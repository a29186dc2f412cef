//! What happens on the primary: some of it before anybody attaches (it reaches the replicas in a snapshot), some after (in
//! the stream).

use std::collections::BTreeSet;

use anyhow::ensure;

use crate::client::{Connection, Value};

/// The prefix of the keys that view `eu` keeps, and what it becomes there.
pub(super) const KEPT: &str = "user:";
/// The prefix of every key of view `eu`.
pub(super) const RENAMED: &str = "eu:user:";

const SEED: &[&[&str]] = &[
    &["SET", "user:1", "ada"],
    &["SET", "user:2", "grace", "EX", "3600"],
    &["HSET", "user:3", "lang", "algol"],
    &["SET", "user:old", "someone"],
    &["SET", "cart:1", "book"],
    &["RPUSH", "queue:mail", "a", "b", "c"],
    &["SET", "session:9", "tmp"],
];

const LIVE: &[&[&str]] = &[
    &["SET", "user:4", "barbara"],
    &["HSET", "user:3", "lang", "rust"],
    &["MULTI"],
    &["SET", "user:5", "alan"],
    &["SET", "cart:2", "pen"],
    &["INCR", "counter:orders"],
    &["EXEC"],
    &["DEL", "user:old", "session:9"],
    &["EXPIRE", "user:1", "7200"],
    &["SADD", "user:6", "admin", "staff"],
    &["SET", "cart:1", "lamp"],
    // The last write is one that both views keep: when it has come, all before it has been decided.
    &["SET", "user:7", "margaret"],
];

/// How a key's present state came to the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Snapshot,
    Stream,
    Both,
}

/// The writes that are played.
pub(super) struct Script {
    seed: Vec<&'static [&'static str]>,
    live: Vec<&'static [&'static str]>,
}

impl Script {
    /// All writes, or those that a model server understands.
    pub(super) fn new(strings_only: bool) -> Self {
        let playable = |step: &&&'static [&'static str]| !strings_only || is_plain(step);
        let steps = |steps: &'static [&'static [&'static str]]| steps.iter().filter(playable).copied().collect();
        Self { seed: steps(SEED), live: steps(LIVE) }
    }

    /// Plays what comes before the proxy attaches.
    pub(super) fn seed(&self, primary: &mut Connection) -> anyhow::Result<()> {
        play(&self.seed, primary)
    }

    /// Plays what comes after the replicas are attached.
    pub(super) fn live(&self, primary: &mut Connection) -> anyhow::Result<()> {
        play(&self.live, primary)
    }

    /// How many commands come before the proxy attaches, and how many after.
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.seed.len(), self.live.len())
    }

    /// Every key that is ever written.
    pub(super) fn keys(&self) -> BTreeSet<&'static str> {
        self.seed.iter().chain(&self.live).flat_map(|step| keys(step)).copied().collect()
    }

    /// How a key came to the replicas.
    pub(super) fn way(&self, key: &str) -> Way {
        let touches = |steps: &[&'static [&'static str]]| steps.iter().any(|step| keys(step).contains(&key));
        match (touches(&self.seed), touches(&self.live)) {
            (true, true) => Way::Both,
            (true, false) => Way::Snapshot,
            (false, _) => Way::Stream,
        }
    }
}

fn play(steps: &[&[&str]], primary: &mut Connection) -> anyhow::Result<()> {
    for step in steps {
        let answer = primary.call(step)?;
        ensure!(answer != Value::Nil, "the primary did not do {}", step.join(" "));
    }
    Ok(())
}

fn keys(step: &'static [&'static str]) -> &'static [&'static str] {
    match step {
        ["MULTI" | "EXEC"] => &[],
        ["DEL", keys @ ..] => keys,
        _ => step.get(1..2).unwrap_or_default(),
    }
}

fn is_plain(step: &[&str]) -> bool {
    matches!(step, ["SET", _, _] | ["DEL", ..] | ["MULTI" | "EXEC"])
}
