//! What a model server holds: strings, a history, and who follows it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;

use sluicegate_core::rdb::{Family, Part, RdbError, Sink, Walker, write};
use sluicegate_core::resp::write_command;

/// The snapshot format of Redis 7.0, as which the model presents itself: since then expiries in the stream are absolute, so
/// that the proxy can relay it as it is.
const RDB_VERSION: u32 = 10;
/// A made-up history; nobody else's will be the same.
const HISTORY: &str = "5d0c3f1e8a7b42966d1f0e9c8b7a695847362514";

/// Keys, values, and the stream that tells of their changes.
pub(super) struct Dataset {
    pub(super) keys: BTreeMap<String, String>,
    pub(super) history: String,
    pub(super) offset: u64,
    pub(super) is_primary: bool,
    /// Whether a replica has what it follows.
    pub(super) is_in_sync: bool,
    /// Whether the followers know which database is meant.
    is_selected: bool,
    followers: Vec<TcpStream>,
}

impl Dataset {
    pub(super) fn primary() -> Self {
        Self { is_primary: true, history: HISTORY.into(), ..Self::replica() }
    }

    pub(super) fn replica() -> Self {
        Self {
            keys: BTreeMap::new(),
            history: "0".repeat(40),
            offset: 0,
            is_primary: false,
            is_in_sync: false,
            is_selected: false,
            followers: Vec::new(),
        }
    }

    /// Does one write: SET or DEL. Says how many keys it changed.
    pub(super) fn apply(&mut self, words: &[String]) -> Option<usize> {
        let parts: Vec<&str> = words.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [verb, key, value] if verb.eq_ignore_ascii_case("SET") => {
                self.keys.insert((*key).into(), (*value).into());
                Some(1)
            }
            [verb, keys @ ..] if verb.eq_ignore_ascii_case("DEL") || verb.eq_ignore_ascii_case("UNLINK") => {
                Some(keys.iter().filter(|key| self.keys.remove(**key).is_some()).count())
            }
            _ => None,
        }
    }

    /// Appends commands to the stream and sends them to the followers; the first after a snapshot names the database.
    pub(super) fn tell(&mut self, commands: &[Vec<String>]) {
        let mut out = Vec::new();
        if !self.is_selected {
            write_command(&mut out, &[b"SELECT", b"0"]);
            self.is_selected = true;
        }
        for command in commands {
            let words: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
            write_command(&mut out, &words);
        }
        self.offset += out.len() as u64;
        self.followers.retain_mut(|follower| follower.write_all(&out).is_ok());
    }

    /// A follower from here on: what it is sent first.
    pub(super) fn admit(&mut self, mut follower: TcpStream) -> std::io::Result<()> {
        let snapshot = self.snapshot();
        let head = format!("+FULLRESYNC {} {}\r\n${}\r\n", self.history, self.offset, snapshot.len());
        follower.write_all(head.as_bytes())?;
        follower.write_all(&snapshot)?;
        self.is_selected = false;
        self.followers.push(follower);
        Ok(())
    }

    /// How many follow.
    pub(super) fn followers(&self) -> usize {
        self.followers.len()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write::write_magic(&mut out, Family::Redis, RDB_VERSION);
        write::write_aux(&mut out, b"redis-ver", b"7.0.0");
        write::write_aux(&mut out, b"repl-stream-db", b"0");
        write::write_select(&mut out, 0);
        for (key, value) in &self.keys {
            write::write_string_key(&mut out, key.as_bytes(), value.as_bytes());
        }
        write::write_end(&mut out);
        out
    }

    /// Takes the keys of a snapshot in place of what it has.
    pub(super) fn load(&mut self, snapshot: &[u8]) -> Result<(), RdbError> {
        let mut loading = Loading::default();
        let mut walker = Walker::new();
        walker.push(snapshot, &mut loading)?;
        walker.finish()?;
        self.keys = loading.keys;
        Ok(())
    }
}

/// Gathers the keys of a snapshot that has strings only.
#[derive(Default)]
struct Loading {
    keys: BTreeMap<String, String>,
    key: String,
    value: Vec<u8>,
}

impl Sink for Loading {
    type Error = RdbError;

    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RdbError> {
        match part {
            Part::Key { name, .. } => self.key = String::from_utf8_lossy(name).into_owned(),
            Part::Value { last } => {
                self.value.extend_from_slice(raw);
                if last {
                    let value = String::from_utf8_lossy(plain(&self.value)).into_owned();
                    self.keys.insert(std::mem::take(&mut self.key), value);
                    self.value.clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The bytes of a string behind its length, of which the demo's values need one byte.
fn plain(value: &[u8]) -> &[u8] {
    value.get(1..).unwrap_or_default()
}
