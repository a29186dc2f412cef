//! What clients do to the model primary.

mod joins;

use super::data::Dataset;
use super::lens::Lens;
use super::rng::Rng;

/// One command: its database and arguments.
pub type Command = (u32, Vec<Vec<u8>>);

/// What stands before the key's own name. The third and fourth are hidden by filters; only the third may hold canaries.
const CLASSES: [&str; 5] = ["k:", "k:", "hid:CANARY:", "hid:plain:", "mv:"];

/// Makes commands that a primary would send.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    /// The views of this world, and whether each repairs: a command that one of them cannot show is written only on purpose.
    views: Vec<(Lens, bool)>,
    /// How often a command is written that makes views halt. In a million.
    pub poison: u64,
    /// How often a value is larger than what is read at once. In a thousand.
    large: u64,
    /// How often a command joins keys. In a thousand.
    joins: u64,
}

impl Workload {
    /// A workload for a world with these views.
    pub fn new(mut rng: Rng, views: Vec<(Lens, bool)>, poison: u64) -> Self {
        let large = rng.pick(&[0, 0, 3, 10]);
        let joins = rng.pick(&[0, 50, 200, 500]);
        Self { rng, views, poison, large, joins }
    }

    /// The next unit of commands, and whether it is wrapped in MULTI and EXEC even if it is one command.
    pub fn unit(&mut self, data: &Dataset) -> (Vec<Command>, bool) {
        let count = match self.rng.below(10) {
            0 => 2 + self.rng.below(12),
            1 => 2,
            _ => 1,
        };
        (self.commands(count, data), self.rng.permille(50))
    }

    /// A long transaction.
    pub fn transaction(&mut self, data: &Dataset) -> Vec<Command> {
        let count = 5 + self.rng.below(20);
        self.commands(count, data)
    }

    fn commands(&mut self, count: usize, data: &Dataset) -> Vec<Command> {
        let mut data = data.clone();
        let mut unit = Vec::new();
        let home = self.database();
        while unit.len() < count {
            let db = if self.rng.permille(800) { home } else { self.database() };
            let Some(args) = self.command(db, &data) else { continue };
            let args: Vec<Vec<u8>> = args;
            let poisonous = self.views.iter().any(|(lens, repairs)| lens.must_halt(db, &args, *repairs));
            if poisonous && self.rng.next() % 1_000_000 >= self.poison {
                continue;
            }
            if data.apply(db, &args).is_ok() {
                unit.push((db, args));
            }
        }
        unit
    }

    /// A dataset to begin with.
    pub fn dataset(&mut self, keys: usize) -> Dataset {
        let mut data = Dataset::default();
        for _ in 0..keys {
            let (unit, _) = self.unit(&data);
            for (db, args) in unit {
                data.apply(db, &args).expect("a unit was tried out");
            }
        }
        data
    }

    fn database(&mut self) -> u32 {
        self.rng.pick(&[0, 0, 0, 0, 1, 2, 9])
    }

    fn class(&mut self) -> &'static str {
        self.rng.pick(&CLASSES)
    }

    fn key(&mut self, kind: char) -> Vec<u8> {
        let class = self.class();
        format!("{class}{kind}{}", self.rng.below(3)).into_bytes()
    }

    /// A value for `key`.
    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        let length = match self.rng.next() % 1000 {
            n if n < self.large => self.rng.pick(&[1_000, 1_000, 4_000, 4_000, 33_000, 80_000]),
            n if n < 50 => 60 + self.rng.below(200),
            _ => self.rng.below(12),
        };
        let mut value = if key.starts_with(b"hid:C") { b"CANARY".to_vec() } else { Vec::new() };
        let seed = self.rng.next();
        value.extend((0..length as u64).map(|n| b"abcdefghij\r\n$*12"[(seed.wrapping_mul(n | 1) >> 40) as usize % 16]));
        value
    }

    fn command(&mut self, db: u32, data: &Dataset) -> Option<Vec<Vec<u8>>> {
        let word = |name: &str| name.as_bytes().to_vec();
        if self.rng.permille(self.joins) {
            return self.join(db, data);
        }
        let mut args = match self.rng.below(28) {
            0..=4 => self.set(),
            5 => {
                let key = self.key('s');
                let value = self.value(&key);
                vec![word("append"), key, value]
            }
            6 | 7 => vec![word("incr"), self.key('n')],
            8 => {
                let mut args = vec![word("mset")];
                for _ in 0..1 + self.rng.below(4) {
                    let key = self.key('s');
                    args.push(key.clone());
                    args.push(self.value(&key));
                }
                args
            }
            9 | 10 => self.removal(),
            11 | 12 => self.member("hset", 'h', 2),
            13 => self.member("hdel", 'h', 1),
            14 => self.member("rpush", 'l', 1),
            15 => vec![word("lpop"), self.key('l')],
            16 => self.member("sadd", 't', 1),
            17 => self.member("srem", 't', 1),
            18 | 19 => self.expiry(db, data)?,
            20 | 21 => self.across(db, data)?,
            22 => vec![word("ping")],
            23 => vec![word("REPLCONF"), word("GETACK"), word("*")],
            24 => {
                let channel = self.rng.pick(&["news", "hid-CANARY", "__sentinel__:hello"]);
                vec![word("publish"), word(channel), word("message")]
            }
            25 => {
                let name = self.rng.pick(&["one", "two", "hidden"]);
                let body = if name == "hidden" { "CANARY" } else { "" };
                let source = format!("#!lua name={name}\n-- {body}{}", self.rng.below(100));
                match self.rng.below(3) {
                    0 => vec![word("function"), word("delete"), word(name)],
                    _ => vec![word("function"), word("load"), word("replace"), source.into_bytes()],
                }
            }
            26 => self.rarity()?,
            _ => vec![word("set"), self.key('s'), word("same")],
        };
        if self.rng.permille(200) {
            args[0] = args[0].to_ascii_uppercase();
        }
        Some(args)
    }

    fn set(&mut self) -> Vec<Vec<u8>> {
        let key = self.key('s');
        let value = self.value(&key);
        let mut args = vec![b"set".to_vec(), key, value];
        match self.rng.below(4) {
            0 => args.extend([b"PXAT".to_vec(), self.time()]),
            1 => args.push(b"KEEPTTL".to_vec()),
            _ => {}
        }
        args
    }

    fn time(&mut self) -> Vec<u8> {
        (1_795_000_000_000 + self.rng.within(0..1_000_000)).to_string().into_bytes()
    }

    fn removal(&mut self) -> Vec<Vec<u8>> {
        let mut args = vec![self.rng.pick(&["del", "unlink"]).as_bytes().to_vec()];
        for _ in 0..1 + self.rng.below(3) {
            let kind = self.rng.pick(&['s', 'n', 'h', 'l', 't']);
            args.push(self.key(kind));
        }
        args
    }

    fn member(&mut self, name: &str, kind: char, words: usize) -> Vec<Vec<u8>> {
        let key = self.key(kind);
        let mut args = vec![name.as_bytes().to_vec(), key.clone()];
        for _ in 0..1 + self.rng.below(2) {
            args.push(format!("f{}", self.rng.below(5)).into_bytes());
            if words == 2 {
                args.push(self.value(&key));
            }
        }
        args
    }

    /// One of the keys that are there.
    fn existing(&mut self, db: u32, data: &Dataset) -> Option<Vec<u8>> {
        let keys = data.dbs.get(&db)?;
        keys.keys().nth(self.rng.below(keys.len())).cloned()
    }

    fn expiry(&mut self, db: u32, data: &Dataset) -> Option<Vec<Vec<u8>>> {
        let key = self.existing(db, data)?;
        Some(match self.rng.below(2) {
            0 => vec![b"persist".to_vec(), key],
            _ => vec![b"pexpireat".to_vec(), key, self.time()],
        })
    }

    fn rarity(&mut self) -> Option<Vec<Vec<u8>>> {
        let words: &[&str] = match self.rng.below(40) {
            0 => &["flushall"],
            1 | 2 => &["flushdb", "async"],
            3 | 4 => &["swapdb", "0", "1"],
            5 | 6 => &["x.unknown", "k:1", "v"],
            _ => return None,
        };
        Some(words.iter().map(|word| word.as_bytes().to_vec()).collect())
    }
}
