//! Seeded writes of every data type, on several databases, over keys that a filtered view keeps and keys that it drops.
//!
//! Key names are `class:kind:n`. The classes `user` and `sess` are kept by [`View::MEMBERS`](crate::compare::View::MEMBERS),
//! `tmp`, `job` and bare numbers are dropped. Commands that carry data from one key to another stay within the kept or
//! within the dropped classes: mixed ones halt a view, and have stories of their own.
//!
//! Left out, being the servers' own faults, where a direct replica diverges as well:
//! - `BITFIELD … OVERFLOW FAIL` on a missing key: the primary creates it and sends nothing;
//! - a consumer that `XREADGROUP`, `XCLAIM` or `XAUTOCLAIM` makes while it yields nothing (7.2 and later): the primary has it,
//!   and sends nothing; here every consumer is made by `XGROUP CREATECONSUMER` first;
//! - `RESTORE` of a `DUMP` that is newer than the replica: the replica refuses it and tells nobody;
//! - `HDEL`, `HGETDEL`, `HPERSIST`, `HEXPIRE` on fields that have expired and are not yet reclaimed (Valkey 9): fields get
//!   long lives only.

mod kinds;
mod units;
mod writer;

use std::net::SocketAddr;

use anyhow::{Result, bail};
use fastrand::Rng;

use crate::client::{Client, Reply};
use crate::server::Kind;

pub use writer::{Load, Writer};

/// One command with its arguments.
pub type Command = Vec<Vec<u8>>;

/// The classes of keys: those that a filtered view keeps, and those that it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `user:` and `sess:`
    Kept,
    /// `tmp:`, `job:` and bare numbers.
    Dropped,
}

/// The databases that are written to. The last one is flushed now and then.
pub const DATABASES: [u32; 4] = [0, 1, 5, 9];

/// A source of commands, determined by its seed and the features of the servers.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    since_7: bool,
    same_dumps: bool,
    field_expiry: bool,
    stream_id: u64,
    sent: u64,
}

impl Workload {
    /// Commands that both `primary` and `replica` know.
    pub fn new(seed: u64, primary: Kind, replica: Kind) -> Self {
        let both = |has: fn(Kind) -> bool| has(primary) && has(replica);
        // A Valkey primary that sends a Redis replica RDB 11 cannot put expiring fields into it, and the two families write
        // different types for them.
        let field_expiry = both(Kind::has_field_expiry) && primary == replica;
        // A DUMP is of the newest format of its server, whatever the snapshot was: only the same kind surely restores it.
        let same_dumps = primary == replica || (primary, replica) == (Kind::Redis70, Kind::Valkey91);
        Self {
            rng: Rng::with_seed(seed),
            same_dumps,
            since_7: both(Kind::has_functions),
            field_expiry,
            stream_id: 0,
            sent: 0,
        }
    }

    /// Commands sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends about `count` commands and reads their replies.
    ///
    /// # Errors
    /// The connection broke, or a reply shows that the generator made no sense.
    pub fn write(&mut self, client: &mut Client, count: usize) -> Result<()> {
        let target = self.sent + count as u64;
        while self.sent < target {
            let mut batch = Vec::new();
            while batch.len() < 64 {
                batch.append(&mut self.unit());
            }
            self.sent += batch.len() as u64;
            let replies = client.pipeline(&batch)?;
            for (command, reply) in batch.iter().zip(&replies) {
                check(command, reply)?;
            }
        }
        Ok(())
    }

    /// Writes on a thread of its own until told to stop, at most so many commands a second.
    pub fn in_background(self, addr: SocketAddr, per_second: u64) -> Writer {
        Writer::start(self, addr, per_second)
    }

    // --- What the generators draw from ---

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.u32(0..bound)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn class(&mut self) -> Class {
        if self.rng.bool() { Class::Kept } else { Class::Dropped }
    }

    /// A key of a class; `kind` says what is usually in it.
    fn key(&mut self, class: Class, kind: &str) -> String {
        let n = self.below(8);
        let prefix = match (class, self.below(5)) {
            (Class::Kept, 0..3) => "user",
            (Class::Kept, _) => "sess",
            (Class::Dropped, 0..2) => "tmp",
            (Class::Dropped, 2..4) => "job",
            // Written as an integer in a snapshot. The kind is lost, so wrong-type errors are part of this.
            (Class::Dropped, _) => return format!("{}", 1000 * (n + 1)),
        };
        // Long names are compressed in a snapshot.
        let tail = if n == 7 { "abcabcabc".repeat(8) } else { n.to_string() };
        format!("{prefix}:{kind}:{tail}")
    }

    /// A member, field or short value.
    fn word(&mut self) -> String {
        match self.below(8) {
            0 => self.below(300).to_string(),
            1 => format!("-{}", self.below(70_000)),
            2 => "longer-".repeat(self.below(14) as usize + 1),
            _ => format!("w{}", self.below(40)),
        }
    }

    /// A value of any bytes; usually short, sometimes compressible, rarely large.
    fn value(&mut self) -> Vec<u8> {
        match self.below(40) {
            0..10 => self.word().into_bytes(),
            10..13 => b"\r\n*3\r\n$3\r\nSET\r\n\0\xff".to_vec(),
            13..15 => vec![b'z'; self.below(900) as usize],
            15 => (0..self.below(30_000)).map(|_| self.rng.u8(..)).collect(),
            _ => (0..self.below(40)).map(|_| self.rng.u8(..)).collect(),
        }
    }

    fn seconds(&mut self) -> u32 {
        3_600 + self.below(100_000)
    }
}

/// A command from words.
pub fn line(text: &str) -> Command {
    text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

/// The command with one more argument, of any bytes.
pub(crate) fn and(mut command: Command, argument: impl Into<Vec<u8>>) -> Command {
    command.push(argument.into());
    command
}

/// Replies that show a fault of the generator rather than of fortune.
pub(crate) fn check(command: &Command, reply: &Reply) -> Result<()> {
    let senseless = ["ERR unknown", "ERR syntax", "ERR wrong number", "ERR Protocol", "EXECABORT", "NOSCRIPT"];
    match reply {
        Reply::Error(text) if senseless.iter().any(|start| text.starts_with(start)) => {
            let words: Vec<_> = command.iter().take(6).map(|word| String::from_utf8_lossy(word)).collect();
            bail!("the workload sent {words:?} and got {text:?}")
        }
        Reply::Array(items) => items.iter().try_for_each(|item| check(command, item)),
        _ => Ok(()),
    }
}
