//! What happens on the primary: some of it before anybody attaches (it reaches the replicas in a snapshot), some after (in
//! the stream).

use std::collections::BTreeSet;

use anyhow::ensure;
use sluicegate_core::kevy::route::{Routing, shard_of};

use super::cast::Cast;
use crate::client::{Connection, Value};

/// The view that does not have everything.
pub(super) struct Filtered {
    /// Its name.
    pub(super) name: &'static str,
    /// The prefix of the keys that it keeps.
    pub(super) kept: &'static str,
    /// What that becomes there.
    pub(super) renamed: &'static str,
}

impl Filtered {
    /// What a key is called there, if it is there.
    pub(super) fn name_of(&self, key: &str) -> Option<String> {
        key.strip_prefix(self.kept).map(|rest| format!("{}{rest}", self.renamed))
    }
}

const EU: Filtered = Filtered { name: "eu", kept: "user:", renamed: "eu:user:" };
const USERS: Filtered = Filtered { name: "users", kept: "user:", renamed: "u:" };

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

/// With two shards, some users change places with their names and some do not.
const KEVY_SEED: &[&[&str]] = &[
    &["SET", "user:1", "ada"],
    &["SET", "user:2", "grace", "EX", "3600"],
    &["HSET", "user:3", "lang", "algol"],
    &["ZADD", "user:top", "10", "ada"],
    &["SET", "user:old", "someone"],
    &["SET", "cart:1", "book"],
    &["RPUSH", "queue:mail", "a", "b", "c"],
    &["SET", "session:9", "tmp"],
];

const KEVY_LIVE: &[&[&str]] = &[
    &["SET", "user:4", "barbara"],
    &["HSET", "user:3", "lang", "rust"],
    &["SET", "user:9", "alan"],
    &["SET", "cart:2", "pen"],
    &["INCR", "counter:orders"],
    // One at a time: older kevys do not replicate a DEL of several keys.
    &["DEL", "user:old"],
    &["DEL", "session:9"],
    &["EXPIRE", "user:1", "7200"],
    &["ZINCRBY", "user:top", "15", "ada"],
    &["SET", "cart:1", "lamp"],
    // The last write to each shard is one that both views keep: when it has come, all before it has been decided.
    &["SADD", "user:6", "admin", "staff"],
    &["SET", "user:7", "margaret"],
];

/// How a key's present state came to the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Snapshot,
    Stream,
    Both,
}

/// The writes that are played, and the view that does not have all of them.
pub(super) struct Script {
    seed: Vec<&'static [&'static str]>,
    live: Vec<&'static [&'static str]>,
    shards: usize,
    /// The other view has everything.
    pub(super) filtered: Filtered,
}

impl Script {
    /// What this cast can play.
    pub(super) fn new(cast: &Cast) -> Self {
        let playable = |step: &&&'static [&'static str]| !matches!(cast, Cast::Model) || is_plain(step);
        let steps = |steps: &'static [&'static [&'static str]]| steps.iter().filter(playable).copied().collect();
        let (seed, live, filtered) = if cast.is_kevy() { (KEVY_SEED, KEVY_LIVE, USERS) } else { (SEED, LIVE, EU) };
        Self { seed: steps(seed), live: steps(live), shards: cast.shards().into(), filtered }
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

    /// The shards of a key, and of its name in the filtered view. `None`: there is only one.
    pub(super) fn places(&self, key: &str, name: &str) -> Option<(usize, usize)> {
        let shard = |key: &str| shard_of(key.as_bytes(), self.shards, Routing::Hashtag);
        (self.shards > 1).then(|| (shard(key), shard(name)))
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::servers::Binary;
    use super::*;

    #[test]
    fn renamed_keys_move_between_shards_both_ways_and_by_both_ways() {
        let script = Script::new(&Cast::Kevy(Binary { path: PathBuf::new(), version: String::new() }));
        let moves = |way| -> BTreeSet<_> {
            let keys = script.keys().into_iter().filter(|key| script.way(key) == way);
            keys.filter_map(|key| script.places(key, &script.filtered.name_of(key)?)).collect()
        };
        for way in [Way::Stream, Way::Both] {
            assert!(moves(way).is_superset(&[(0, 1), (1, 0), (0, 0)].into()), "{way:?}: {:?}", moves(way));
        }
        assert_eq!(Script::new(&Cast::Model).places("user:1", "eu:user:1"), None);
    }
}
