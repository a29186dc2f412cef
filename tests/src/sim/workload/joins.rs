//! Commands that join keys, of which a view may have some and not others.

use super::Workload;
use crate::sim::data::Dataset;

fn word(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

impl Workload {
    /// A command that joins keys, or changes whole databases under those that are joined.
    pub(super) fn join(&mut self, db: u32, data: &Dataset) -> Option<Vec<Vec<u8>>> {
        Some(match self.rng.below(40) {
            0 => vec![word("flushdb")],
            1 | 2 => vec![word("swapdb"), db.to_string().into_bytes(), self.database().to_string().into_bytes()],
            3..=9 => {
                let member = format!("f{}", self.rng.below(5)).into_bytes();
                vec![word("smove"), self.key('t'), self.key('t'), member]
            }
            10..=15 => {
                let (from, to) = (self.rng.pick(&["LEFT", "RIGHT"]), self.rng.pick(&["LEFT", "RIGHT"]));
                vec![word("lmove"), self.key('l'), self.key('l'), word(from), word(to)]
            }
            16 | 17 => vec![word("rpoplpush"), self.key('l'), self.key('l')],
            18..=27 => {
                let name = self.rng.pick(&["sunionstore", "sunionstore", "sinterstore", "sdiffstore"]);
                let sources = 1 + self.rng.below(3);
                let mut args = vec![word(name), self.key('t')];
                args.extend((0..sources).map(|_| self.key('t')));
                args
            }
            _ => self.across(db, data)?,
        })
    }

    /// A command that carries data from one key or database to another.
    pub(super) fn across(&mut self, db: u32, data: &Dataset) -> Option<Vec<Vec<u8>>> {
        let from = self.existing(db, data)?;
        let tail = String::from_utf8_lossy(&from[from.len() - 2..]).into_owned();
        let class = self.class();
        let class = match from.starts_with(b"hid:C") {
            // A canary stays among the hidden.
            true => "hid:CANARY:",
            false if self.rng.permille(700) => std::str::from_utf8(&from[..from.len() - 2]).ok()?,
            false => class,
        };
        let to = format!("{class}{}{}", &tail[..1], self.rng.below(3)).into_bytes();
        let other = self.database();
        Some(match self.rng.below(4) {
            0 if other != db => vec![b"move".to_vec(), from, other.to_string().into_bytes()],
            1 if other != db || to != from => {
                vec![b"copy".to_vec(), from, to, b"DB".to_vec(), other.to_string().into_bytes(), b"REPLACE".to_vec()]
            }
            2 if to != from => vec![b"copy".to_vec(), from, to, b"REPLACE".to_vec()],
            _ if to != from => vec![b"rename".to_vec(), from, to],
            _ => return None,
        })
    }
}
