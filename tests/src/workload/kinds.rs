//! Writes of each data type.

use super::{Class, Command, Workload, and, line};

impl Workload {
    pub(super) fn string(&mut self, class: Class) -> Command {
        let (key, value, seconds) = (self.key(class, "str"), self.value(), self.seconds());
        let set = and(line(&format!("SET {key}")), value.clone());
        let tail = |words: &str| [set.clone(), line(words)].concat();
        match self.below(20) {
            0 => tail(&format!("EX {seconds}")),
            1 => tail(&format!("PX {seconds}077")),
            2 => tail(&format!("EXAT {}", 4_000_000_000_u64 + u64::from(seconds))),
            3 => tail("NX"),
            4 => tail("XX KEEPTTL"),
            5 => tail("GET"),
            6 => and(line(&format!("SETEX {key} {seconds}")), value),
            7 => and(line(&format!("PSETEX {key} {seconds}111")), value),
            8 => and(line(&format!("SETNX {key}")), value),
            9 => and(line(&format!("GETSET {key}")), value),
            10 => line(&format!("GETDEL {key}")),
            11 => line(&format!("GETEX {key} EX {seconds}")),
            12 => line(&format!("GETEX {key} PERSIST")),
            13 => and(line(&format!("APPEND {key}")), value),
            14 => and(line(&format!("SETRANGE {key} {}", self.below(200))), value),
            15 => self.many_strings("MSET"),
            16 => self.many_strings("MSETNX"),
            17 => tail(&format!("PX {}", 1 + self.below(60))),
            _ => set,
        }
    }

    /// Several keys of any class, each at most once: `MSETNX` of a view must not depend on the order.
    fn many_strings(&mut self, verb: &str) -> Command {
        let mut command = line(verb);
        let mut seen = Vec::new();
        for _ in 0..=self.below(4) {
            let class = self.class();
            let (key, value) = (self.key(class, "str"), self.value());
            if !seen.contains(&key) {
                command = and(and(command, key.as_str()), value);
                seen.push(key);
            }
        }
        command
    }

    pub(super) fn counter(&mut self, class: Class) -> Command {
        let (key, n) = (self.key(class, "num"), self.below(1000));
        line(&match self.below(5) {
            0 => format!("INCR {key}"),
            1 => format!("DECR {key}"),
            2 => format!("INCRBY {key} {n}"),
            3 => format!("DECRBY {key} {n}"),
            _ => format!("INCRBYFLOAT {} {n}.25", self.key(class, "float")),
        })
    }

    pub(super) fn bits(&mut self, class: Class) -> Command {
        let (key, other) = (self.key(class, "bits"), self.key(class, "bits"));
        let (at, n) = (self.below(300), self.below(200));
        line(&match self.below(7) {
            0 | 1 => format!("SETBIT {key} {at} {}", n % 2),
            2 => format!("BITFIELD {key} SET u8 #{} {n}", at % 20),
            3 => format!("BITFIELD {key} INCRBY i16 {at} {n}"),
            4 => format!("BITFIELD {key} OVERFLOW SAT INCRBY u4 {at} {n}"),
            5 => format!("BITOP NOT {key} {other}"),
            _ => format!("BITOP XOR {key} {key} {other}"),
        })
    }

    pub(super) fn list(&mut self, class: Class) -> Command {
        let (key, other, word) = (self.key(class, "list"), self.key(class, "list"), self.word());
        let n = self.below(5);
        match self.below(if self.since_7 { 17 } else { 16 }) {
            0..4 => and(and(line(&format!("RPUSH {key} {word}")), self.value()), self.value()),
            4..6 => and(line(&format!("LPUSH {key} {word}")), self.value()),
            6 => line(&format!("LPUSHX {key} {word}")),
            7 => line(&format!("RPUSHX {key} {word}")),
            8 => line(&format!("LPOP {key}")),
            9 => line(&format!("RPOP {key} {}", n + 1)),
            10 => and(line(&format!("LSET {key} {n}")), self.value()),
            11 => line(&format!("LINSERT {key} BEFORE {word} {}", self.word())),
            12 => line(&format!("LREM {key} 0 {word}")),
            13 => line(&format!("LTRIM {key} {n} 40")),
            14 => line(&format!("LMOVE {key} {other} LEFT RIGHT")),
            15 => line(&format!("RPOPLPUSH {key} {other}")),
            _ => line(&format!("LMPOP 2 {key} {other} RIGHT COUNT 2")),
        }
    }

    pub(super) fn set(&mut self, class: Class) -> Command {
        let (key, other, third) = (self.key(class, "set"), self.key(class, "set"), self.key(class, "set"));
        let word = self.word();
        match self.below(13) {
            0..4 => line(&format!("SADD {key} {word} {} {}", self.word(), self.word())),
            // Numbers only, for a while: the compact encoding of integers.
            4 => line(&format!("SADD {} {} {}", self.key(class, "ints"), self.below(90), self.below(90_000))),
            5 => and(line(&format!("SADD {key}")), self.value()),
            6 => line(&format!("SREM {key} {word} {}", self.word())),
            7 => line(&format!("SPOP {key}")),
            8 => line(&format!("SPOP {key} {}", 1 + self.below(6))),
            9 => line(&format!("SMOVE {key} {other} {word}")),
            10 => line(&format!("SUNIONSTORE {key} {other} {third}")),
            11 => line(&format!("SINTERSTORE {key} {other} {third}")),
            _ => line(&format!("SDIFFSTORE {key} {other} {third}")),
        }
    }

    pub(super) fn sorted_set(&mut self, class: Class) -> Command {
        let (key, other, third) = (self.key(class, "zset"), self.key(class, "zset"), self.key(class, "zset"));
        let (word, n) = (self.word(), self.below(100));
        line(&match self.below(if self.since_7 { 18 } else { 17 }) {
            0..4 => format!("ZADD {key} {n} {word} {n}.5 {}", self.word()),
            4 => format!("ZADD {key} GT CH {n} {word}"),
            5 => format!("ZADD {key} INCR {n}.125 {word}"),
            6 => format!("ZADD {key} inf {word} -inf {}", self.word()),
            7 => format!("ZINCRBY {key} {n} {word}"),
            8 => format!("ZREM {key} {word}"),
            9 => format!("ZPOPMIN {key}"),
            10 => format!("ZPOPMAX {key} 3"),
            11 => format!("ZREMRANGEBYRANK {key} 0 {}", n % 4),
            12 => format!("ZREMRANGEBYSCORE {key} {n} {}", n + 5),
            13 => format!("ZUNIONSTORE {key} 2 {other} {third} WEIGHTS 2 3"),
            14 => format!("ZINTERSTORE {key} 2 {other} {third} AGGREGATE MAX"),
            15 => format!("ZDIFFSTORE {key} 2 {other} {third}"),
            16 => format!("ZRANGESTORE {key} {other} 0 10"),
            _ => format!("ZMPOP 2 {key} {other} MIN COUNT 2"),
        })
    }

    pub(super) fn hash(&mut self, class: Class) -> Command {
        let (key, field) = (self.key(class, "hash"), self.word());
        let n = self.below(50);
        if self.field_expiry && self.one_in(3) {
            return self.field_lifetime(class);
        }
        match self.below(10) {
            0..4 => and(line(&format!("HSET {key} {} {n} {field}", self.word())), self.value()),
            4 => and(line(&format!("HMSET {key} {field}")), self.value()),
            5 => and(line(&format!("HSETNX {key} {field}")), self.value()),
            6 => line(&format!("HDEL {key} {field} {}", self.word())),
            7 => line(&format!("HINCRBY {key} n{n} {n}")),
            8 => line(&format!("HINCRBYFLOAT {key} f{n} {n}.5")),
            _ => line(&format!("HSET {key} n{n} {n}")),
        }
    }

    /// Long lives only: what becomes of expired fields is the server's own affair.
    fn field_lifetime(&mut self, class: Class) -> Command {
        let (key, field, seconds) = (self.key(class, "hash"), self.word(), self.seconds());
        line(&match self.below(7) {
            0 => format!("HEXPIRE {key} {seconds} FIELDS 2 {field} {}", self.word()),
            1 => format!("HPEXPIRE {key} {seconds}321 FIELDS 1 {field}"),
            2 => format!("HEXPIREAT {key} {} FIELDS 1 {field}", 4_000_000_000_u64 + u64::from(seconds)),
            3 => format!("HPERSIST {key} FIELDS 1 {field}"),
            4 => format!("HSETEX {key} EX {seconds} FIELDS 2 {field} v n{} w", seconds % 50),
            5 => format!("HGETEX {key} EX {seconds} FIELDS 1 {field}"),
            _ => format!("HPEXPIREAT {key} {} FIELDS 1 {field}", 4_000_000_000_001_u64 + u64::from(seconds)),
        })
    }

    /// A write to a stream; `before` gets what makes it replicate faithfully.
    pub(super) fn stream(&mut self, class: Class, before: &mut Vec<Command>) -> Command {
        // Streams with ids of our own, so that later commands can name them, and streams with the server's.
        let (own, timed) = (self.key(class, "xs"), self.key(class, "xt"));
        self.stream_id += 1;
        let (id, earlier) = (self.stream_id, 1 + self.rng.u64(0..self.stream_id));
        let (group, consumer) = (format!("g{}", self.below(3)), format!("c{}", self.below(3)));
        let choice = self.below(24);
        if choice >= 17 {
            before.push(line(&format!("XGROUP CREATECONSUMER {own} {group} {consumer}")));
        }
        match choice {
            0..5 => and(line(&format!("XADD {own} {id}-1 a {} b", self.word())), self.value()),
            5 => line(&format!("XADD {own} {id}-1 a 1 c 2 d {}", self.word())),
            6..8 => and(line(&format!("XADD {timed} * f")), self.value()),
            8 => line(&format!("XADD {timed} MAXLEN ~ 30 * f {}", self.word())),
            9 => line(&format!("XADD {timed} NOMKSTREAM MINID = 5 * f 1")),
            10 => line(&format!("XTRIM {own} MAXLEN 20")),
            11 => line(&format!("XTRIM {own} MINID {}", id.saturating_sub(400))),
            12 => line(&format!("XDEL {own} {earlier}-1 {}-1", id.saturating_sub(20))),
            13 | 14 => line(&format!("XGROUP CREATE {own} {group} 0 MKSTREAM")),
            15 => line(&format!("XGROUP CREATECONSUMER {own} {group} {consumer}")),
            16 => match self.below(4) {
                0 => line(&format!("XGROUP DELCONSUMER {own} {group} {consumer}")),
                1 => line(&format!("XGROUP DESTROY {own} {group}")),
                _ => line(&format!("XGROUP SETID {own} {group} {earlier}-1")),
            },
            17..20 => line(&format!("XREADGROUP GROUP {group} {consumer} COUNT 5 STREAMS {own} >")),
            20 => line(&format!("XREADGROUP GROUP {group} {consumer} COUNT 2 NOACK STREAMS {own} >")),
            21 => line(&format!("XACK {own} {group} {earlier}-1 {}-1", id.saturating_sub(30))),
            22 => line(&format!("XCLAIM {own} {group} {consumer} 0 {earlier}-1 {}-1", id.saturating_sub(25))),
            _ => line(&format!("XAUTOCLAIM {own} {group} {consumer} 0 0-0 COUNT 3")),
        }
    }

    pub(super) fn hyperloglog(&mut self, class: Class) -> Command {
        let (key, other, third) = (self.key(class, "hll"), self.key(class, "hll"), self.key(class, "hll"));
        line(&match self.below(6) {
            0 => format!("PFMERGE {key} {other} {third}"),
            1 => format!("PFCOUNT {key}"),
            _ => format!("PFADD {key} {} {} e{}", self.word(), self.word(), self.below(100_000)),
        })
    }

    pub(super) fn geo(&mut self, class: Class) -> Command {
        let (key, other) = (self.key(class, "geo"), self.key(class, "geo"));
        let (longitude, latitude) = (self.below(180), self.below(80));
        line(&match self.below(6) {
            0 => format!("GEOSEARCHSTORE {key} {other} FROMLONLAT {longitude} {latitude} BYRADIUS 4000 km"),
            1 => format!("GEORADIUS {other} {longitude} {latitude} 5000 km STORE {key}"),
            _ => format!("GEOADD {key} {longitude}.125 {latitude}.5 {}", self.word()),
        })
    }
}
