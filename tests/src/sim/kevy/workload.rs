//! What the primary's clients write.

use sluicegate_core::kevy::route::shard_of;

use super::keys::Words;
use super::primary::{PUMP_BYTES, lifetime};
use super::truth::ROUTING;
use crate::sim::rng::Rng;

/// The clients.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    /// All keys, by the shard of the primary that they are in.
    keys: Vec<Vec<Vec<u8>>>,
    written: u64,
    /// Of a million commands so many are RENAME, which no view can always follow.
    pub poison: u64,
    /// Of a million commands so many are too large for the primary's pump.
    pub large: u64,
    /// Whether a RENAME was written.
    pub poisoned: bool,
}

impl Workload {
    /// Clients of a primary with so many shards.
    pub fn new(mut rng: Rng, shards: usize, poison: u64, large: u64) -> Self {
        let mut keys = vec![Vec::new(); shards];
        let count = rng.pick(&[3, 10, 25]);
        for family in ["", "mv:", "new:", "hid:", "{tag}", "mv:{tag}", "new:{a}{tag}"] {
            for n in 0..count {
                let key = format!("{family}{n}").into_bytes();
                keys[shard_of(&key, shards, ROUTING)].push(key);
            }
        }
        Self { rng, keys, written: 0, poison, large, poisoned: false }
    }

    /// What is written next.
    pub fn command(&mut self) -> Words {
        self.written += 1;
        let shard = loop {
            let shard = self.rng.below(self.keys.len());
            if !self.keys[shard].is_empty() {
                break shard;
            }
        };
        let keys: Vec<Vec<u8>> = (0..1 + self.rng.below(4)).map(|_| self.key(shard)).collect();
        let key = keys[0].clone();
        let value = format!("v{}", self.written).into_bytes();
        let word = |word: &str| word.as_bytes().to_vec();
        let lot = self.rng.within(0..1_000_000);
        if lot < self.poison {
            self.poisoned = true;
            return vec![word("RENAME"), key, keys[keys.len() - 1].clone()];
        }
        if lot < self.poison + self.large {
            let mut value = value;
            value.resize(PUMP_BYTES + 100, b'x');
            return vec![word("SET"), key, value];
        }
        match self.rng.below(14) {
            0..=2 => vec![word("SET"), key, value],
            3 => vec![word("SET"), key, value, word("EX"), lifetime()],
            4 | 5 => vec![word("APPEND"), key, value],
            6 => vec![word("SET"), key, self.rng.below(100).to_string().into_bytes()],
            7 | 8 => vec![word("INCR"), key],
            9 => vec![word("HSET"), key, self.rng.below(3).to_string().into_bytes(), value],
            10 => vec![word("DEL"), key],
            11 => {
                let mut keys = keys;
                keys.dedup();
                [vec![word("DEL")], keys].concat()
            }
            _ => {
                let pairs = keys.into_iter().enumerate();
                let pairs = pairs.flat_map(|(n, key)| [key, [&value[..], &[b'a' + n as u8]].concat()]);
                [vec![word("MSET")], pairs.collect()].concat()
            }
        }
    }

    fn key(&mut self, shard: usize) -> Vec<u8> {
        let keys = &self.keys[shard];
        keys[self.rng.below(keys.len())].clone()
    }
}
