//! Seeded writes that every kevy replicates as they are: single keys, explicit stream ids, absolute expiries, nothing random.
//!
//! Key names are `class:kind:n`, of the classes that [`View::MEMBERS`](crate::compare::View::MEMBERS) keeps and drops.
//!
//! Left out, being kevy's own faults, where a direct replica diverges as well: `SPOP` and generated stream ids (the replica of
//! an older primary draws its own), reads by stream groups, `LMOVE` and `RPOPLPUSH` (the push is lost), `BLPOP` (lost up to
//! 6.4), `MSET`, `DEL` and `RENAME` of several keys (lost up to 3.18, so only on request), and values above 262,000 bytes,
//! which no kevy ever sends.

use std::net::SocketAddr;

use anyhow::Result;
use fastrand::Rng;

use super::Version;
use super::holdings::GRAIN_MS;
use crate::client::Client;
use crate::workload::{Class, Command, Load, Writer, and, check, line};

/// A source of commands, determined by its seed and the oldest server.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    oldest: Version,
    many_keys: bool,
    trims: bool,
    stream_id: u64,
    sent: u64,
}

impl Workload {
    /// Commands that `oldest` and all that came after it know.
    pub fn new(seed: u64, oldest: Version) -> Self {
        Self { rng: Rng::with_seed(seed), oldest, many_keys: false, trims: true, stream_id: 0, sent: 0 }
    }

    /// With `MSET` and `DEL` of several keys, of several shards and classes.
    ///
    /// # Panics
    /// Up to 3.18 a primary does not send them.
    pub fn with_many_keys(mut self) -> Self {
        assert!(self.oldest >= Version::V64, "{:?} does not replicate commands with several keys", self.oldest);
        self.many_keys = true;
        self
    }

    /// Without trimming streams: 7.0 does not count what is trimmed as deleted, as those before it do.
    pub fn without_trims(mut self) -> Self {
        self.trims = false;
        self
    }

    /// Commands sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends `count` commands and reads their replies.
    ///
    /// # Errors
    /// The connection broke, or a reply shows that the generator made no sense.
    pub fn write(&mut self, client: &mut Client, count: usize) -> Result<()> {
        for start in (0..count).step_by(64) {
            let batch: Vec<Command> = (start..count.min(start + 64)).map(|_| self.command()).collect();
            self.sent += batch.len() as u64;
            let replies = client.pipeline(&batch)?;
            batch.iter().zip(&replies).try_for_each(|(command, reply)| check(command, reply))?;
        }
        Ok(())
    }

    /// Writes on a thread of its own until told to stop, at most so many commands a second.
    pub fn in_background(self, addr: SocketAddr, per_second: u64) -> Writer<Self> {
        Writer::start(self, addr, per_second)
    }

    /// The next command.
    pub fn command(&mut self) -> Command {
        match self.below(24) {
            0..5 => self.string(),
            5..7 => self.counter(),
            7..10 => self.hash(),
            10..13 => self.list(),
            13..15 => self.set(),
            15..18 => self.sorted_set(),
            18..20 => self.stream(),
            20..22 => self.expiry(),
            22 if self.many_keys => self.many(),
            _ => self.delete(),
        }
    }

    fn string(&mut self) -> Command {
        let (key, value) = (self.key("str"), self.value());
        let (known, small) = (self.oldest, self.below(40));
        let with = |head: String| and(line(&head), value.clone());
        match self.below(12) {
            0 => with(format!("SETNX {key}")),
            1 => with(format!("GETSET {key}")),
            2 => line(&format!("GETDEL {key}")),
            3 | 4 => with(format!("APPEND {key}")),
            5 => and(with(format!("SET {key}")), "NX"),
            6 => and(with(format!("SET {key}")), "XX"),
            7 if known >= Version::V64 => with(format!("SETRANGE {key} {small}")),
            8 if known >= Version::V64 => line(&format!("SETBIT {key} {small} 1")),
            _ => with(format!("SET {key}")),
        }
    }

    fn counter(&mut self) -> Command {
        let (key, n) = (self.key("num"), self.below(1000));
        line(&match self.below(5) {
            0 => format!("INCR {key}"),
            1 => format!("DECR {key}"),
            2 => format!("INCRBY {key} {n}"),
            3 => format!("DECRBY {key} {n}"),
            _ => format!("SET {key} {n}"),
        })
    }

    fn hash(&mut self) -> Command {
        let (key, field, n) = (self.key("hash"), self.word(), self.below(6));
        let (deadline, value) = (self.deadline(), self.value());
        match self.below(12) {
            0 => line(&format!("HDEL {key} {field} n{n}")),
            1 => line(&format!("HSETNX {key} {field} {n}")),
            2 => line(&format!("HINCRBY {key} n{n} {n}")),
            3 if self.oldest >= Version::V317 => line(&format!("HPEXPIREAT {key} {deadline} FIELDS 1 {field}")),
            4 if self.oldest >= Version::V317 => line(&format!("HPERSIST {key} FIELDS 1 {field}")),
            5 if self.oldest >= Version::V317 => line(&format!("HMSET {key} {field} 1 n{n} {n}")),
            6 if self.oldest >= Version::V64 => line(&format!("HINCRBYFLOAT {key} f{n} {n}.5")),
            7 => line(&format!("HSET {key} n{n} {n} {field} {n}")),
            _ => and(line(&format!("HSET {key} {field}")), value),
        }
    }

    fn list(&mut self) -> Command {
        let (key, value, n) = (self.key("list"), self.word(), self.below(6));
        line(&match self.below(11) {
            0 => format!("LPOP {key}"),
            1 => format!("RPOP {key}"),
            2 => format!("LPOP {key} {}", n + 1),
            3 => format!("LSET {key} {n} {value}"),
            4 => format!("LREM {key} 0 {value}"),
            5 => format!("LTRIM {key} 0 40"),
            6 if self.oldest >= Version::V64 => format!("LINSERT {key} BEFORE {} {value}", self.word()),
            7 => return and(line(&format!("LPUSH {key} {value}")), self.value()),
            _ => format!("RPUSH {key} {value} {} {}", self.word(), self.word()),
        })
    }

    fn set(&mut self) -> Command {
        let (key, member) = (self.key("set"), self.word());
        match self.below(4) {
            0 => line(&format!("SREM {key} {member} {}", self.word())),
            1 => and(line(&format!("SADD {key}")), self.value()),
            _ => line(&format!("SADD {key} {member} {}", self.word())),
        }
    }

    fn sorted_set(&mut self) -> Command {
        let (key, member, n) = (self.key("zset"), self.word(), self.below(90));
        line(&match self.below(10) {
            0 => format!("ZREM {key} {member}"),
            1 => format!("ZINCRBY {key} {n}.5 {member}"),
            2 => format!("GEOADD {} {n}.25 4{}.5 {member}", self.key("geo"), n % 10),
            3 if self.oldest >= Version::V317 => format!("ZPOPMIN {key} 2"),
            4 if self.oldest >= Version::V317 => format!("ZREMRANGEBYRANK {key} 0 0"),
            5 if self.oldest >= Version::V317 => format!("ZREMRANGEBYSCORE {key} {n} {}", n + 9),
            6 if self.oldest >= Version::V317 => format!("ZADD {key} GT CH {n} {member}"),
            _ => format!("ZADD {key} {n} {member} -{n}.5 {}", self.word()),
        })
    }

    /// Ids rise over all streams, so each is above all that its stream has.
    fn stream(&mut self) -> Command {
        let key = self.key("xs");
        self.stream_id += 1;
        let id = self.stream_id;
        line(&match self.below(12) {
            0 => format!("XDEL {key} {}-1", id.saturating_sub(u64::from(self.below(80)))),
            1 if self.trims => format!("XTRIM {key} MAXLEN {}", self.below(20)),
            2 => format!("XGROUP CREATE {key} g{} {}-0 MKSTREAM", self.below(3), id / 2),
            3 => format!("XGROUP SETID {key} g{} {}-0", self.below(3), id / 2),
            4 => format!("XGROUP CREATECONSUMER {key} g{} {}", self.below(3), self.word()),
            5 if self.trims => format!("XADD {key} MAXLEN 30 {id}-1 {} {}", self.word(), self.word()),
            _ => return and(line(&format!("XADD {key} {id}-1 {} ", self.word())), self.value()),
        })
    }

    fn expiry(&mut self) -> Command {
        let kind = ["str", "num", "hash", "list", "set", "zset", "xs"][self.below(7) as usize];
        let (key, deadline) = (self.key(kind), self.deadline());
        line(&match self.below(6) {
            0 => format!("PERSIST {key}"),
            // Long gone.
            1 => format!("PEXPIREAT {key} 1"),
            2 => format!("EXPIREAT {key} {}", deadline / 1000),
            _ => format!("PEXPIREAT {key} {deadline}"),
        })
    }

    fn delete(&mut self) -> Command {
        let verb = if self.oldest >= Version::V317 && self.rng.bool() { "UNLINK" } else { "DEL" };
        line(&format!("{verb} {}", self.any_key()))
    }

    fn many(&mut self) -> Command {
        if self.rng.bool() {
            return line(&format!("DEL {} {} {}", self.any_key(), self.any_key(), self.any_key()));
        }
        let (one, two, value) = (self.key("str"), self.key("str"), self.value());
        and(line(&format!("MSET {one} {} {two}", self.word())), value)
    }

    fn any_key(&mut self) -> String {
        let kind = ["str", "num", "hash", "list", "set", "zset", "geo", "xs"][self.below(8) as usize];
        self.key(kind)
    }

    fn key(&mut self, kind: &str) -> String {
        let class = if self.rng.bool() { Class::Kept } else { Class::Dropped };
        let prefix = match (class, self.below(5)) {
            (Class::Kept, 0..3) => "user",
            (Class::Kept, _) => "sess",
            (Class::Dropped, 0..3) => "tmp",
            (Class::Dropped, _) => "job",
        };
        format!("{prefix}:{kind}:{}", self.below(12))
    }

    fn word(&mut self) -> String {
        format!("w{}", self.below(40))
    }

    /// A value of any bytes; usually short, rarely large, and always below what a kevy can send.
    fn value(&mut self) -> Vec<u8> {
        let length = match self.below(400) {
            0 => self.below(200_000),
            1..12 => self.below(9_000),
            12..30 => return b"\r\n*2\r\n:7\r\n+SNAPSHOT\r\n\0\xff".to_vec(),
            _ => self.below(40),
        };
        (0..length).map(|_| self.rng.u8(..)).collect()
    }

    /// Far ahead, and told exactly by [`Holdings::of_kevy`](crate::compare::Holdings::of_kevy).
    fn deadline(&mut self) -> i64 {
        4_000_000_000_000 + GRAIN_MS * i64::from(self.below(1000))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.u32(0..bound)
    }
}

impl Load for Workload {
    fn write(&mut self, client: &mut Client, count: usize) -> Result<()> {
        self.write(client, count)
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}
