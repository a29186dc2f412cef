//! What is written at once: a command, a transaction, a script; and the commands that are of no one data type.

use super::{Class, Command, DATABASES, Workload, and, line};

impl Workload {
    /// The next commands; those of a transaction come together.
    pub(super) fn unit(&mut self) -> Vec<Command> {
        match self.below(100) {
            0..6 => vec![self.select()],
            6..12 => self.transaction(),
            12..17 => vec![self.script()],
            17 => vec![self.publish()],
            18 if self.one_in(6) => self.flush_last_database(),
            19 if self.since_7 && self.one_in(3) => vec![self.function()],
            _ => {
                let mut commands = Vec::new();
                self.command(&mut commands);
                commands
            }
        }
    }

    /// One write that may stand in a transaction, with what must come before it.
    fn command(&mut self, out: &mut Vec<Command>) {
        let class = self.class();
        let command = match self.below(22) {
            0..4 => self.string(class),
            4 => self.counter(class),
            5 => self.bits(class),
            6..8 => self.list(class),
            8..10 => self.set(class),
            10..12 => self.sorted_set(class),
            12..15 => self.hash(class),
            15..18 => self.stream(class, out),
            18 => self.hyperloglog(class),
            19 => self.geo(class),
            20 => self.expiry(class),
            _ => self.generic(class),
        };
        out.push(command);
    }

    fn select(&mut self) -> Command {
        let db = DATABASES[self.below(4) as usize];
        line(&format!("SELECT {db}"))
    }

    fn transaction(&mut self) -> Vec<Command> {
        let mut commands = vec![line("MULTI")];
        for _ in 0..self.below(7) {
            if self.one_in(6) {
                commands.push(self.select());
            } else {
                self.command(&mut commands);
            }
        }
        commands.push(line("EXEC"));
        commands
    }

    /// A script with several writes to keys of both classes, or one that copies a value by DUMP and RESTORE within a class.
    fn script(&mut self) -> Command {
        if !self.same_dumps || self.rng.bool() {
            let body = "redis.call('RPUSH', KEYS[1], ARGV[1]); redis.call('SADD', KEYS[2], ARGV[1]); \
                        redis.call('SET', KEYS[3], ARGV[1], 'EX', 7200); return redis.call('DEL', KEYS[4])";
            let keys = ["list", "set", "str", "str"].map(|kind| {
                let class = self.class();
                self.key(class, kind)
            });
            let value = self.value();
            let command = [vec!["EVAL", body, "4"], keys.iter().map(String::as_str).collect()].concat();
            return and(command.into_iter().map(|word| word.as_bytes().to_vec()).collect(), value);
        }
        let body = "local d = redis.call('DUMP', KEYS[1]); \
                    if d then redis.call('RESTORE', KEYS[2], 9000000, d, 'REPLACE') end";
        let class = self.class();
        let kind = ["str", "list", "set", "zset", "hash", "xs"][self.below(6) as usize];
        let (from, to) = (self.key(class, kind), self.key(class, kind));
        ["EVAL", body, "2", &from, &to].map(|word| word.as_bytes().to_vec()).to_vec()
    }

    fn publish(&mut self) -> Command {
        let value = self.value();
        and(line("PUBLISH news"), value)
    }

    fn flush_last_database(&mut self) -> Vec<Command> {
        vec![line("SELECT 9"), line("FLUSHDB"), self.select()]
    }

    fn function(&mut self) -> Command {
        let (name, version) = (self.below(3), self.below(1000));
        if self.one_in(4) {
            return line(&format!("FUNCTION DELETE lib{name}"));
        }
        let code = format!("#!lua name=lib{name}\nredis.register_function('f{name}', function() return {version} end)");
        and(line("FUNCTION LOAD REPLACE"), code)
    }

    fn expiry(&mut self, class: Class) -> Command {
        let kind = ["str", "list", "set", "zset", "hash", "xs", "num"][self.below(7) as usize];
        let (key, seconds) = (self.key(class, kind), self.seconds());
        line(&match self.below(9) {
            0 => format!("EXPIRE {key} {seconds}"),
            1 => format!("PEXPIRE {key} {seconds}123"),
            2 => format!("EXPIREAT {key} {}", 4_000_000_000_u64 + u64::from(seconds)),
            3 => format!("PEXPIREAT {key} {}", 4_000_000_000_456_u64 + u64::from(seconds)),
            4 => format!("PERSIST {key}"),
            5 => format!("EXPIRE {key} -1"),
            6 => format!("EXPIREAT {key} 1"),
            // Expires soon, by the primary's own hand.
            7 => format!("PEXPIRE {key} {}", 1 + self.below(60)),
            _ => format!("EXPIRE {key} {seconds} {}", ["NX", "XX", "GT", "LT"][self.below(4) as usize]),
        })
    }

    fn generic(&mut self, class: Class) -> Command {
        let kind = ["str", "list", "set", "zset", "hash", "xs", "hll", "geo"][self.below(8) as usize];
        let (from, to) = (self.key(class, kind), self.key(class, kind));
        let db = DATABASES[self.below(4) as usize];
        match self.below(12) {
            0 => line(&format!("RENAME {from} {to}")),
            1 => line(&format!("RENAMENX {from} {to}")),
            2 => line(&format!("COPY {from} {to}")),
            3 => line(&format!("COPY {from} {to} REPLACE")),
            4 => line(&format!("COPY {from} {to} DB {db} REPLACE")),
            5 => line(&format!("MOVE {from} {db}")),
            6 => line(&format!("SORT {from} ALPHA LIMIT 0 20 STORE {to}")),
            7 if self.one_in(10) => line("SWAPDB 1 5"),
            verb => self.delete_some(if verb < 10 { "DEL" } else { "UNLINK" }),
        }
    }

    /// Deletes up to four keys of any class and kind.
    fn delete_some(&mut self, verb: &str) -> Command {
        let mut command = line(verb);
        for _ in 0..=self.below(4) {
            let class = self.class();
            let kind = ["str", "list", "set", "zset", "hash", "xs", "xt", "hll", "num"][self.below(9) as usize];
            command = and(command, self.key(class, kind));
        }
        command
    }
}
