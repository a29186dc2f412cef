//! What a server holds, and what commands do to it: the second, simple implementation that the proxy is measured against.
//!
//! The model primary and the model replicas share it; none of the proxy's code is used.

mod joins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// One value of the few types that the models know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(Vec<u8>),
    /// A list, head first.
    List(VecDeque<Vec<u8>>),
    /// A set.
    Set(BTreeSet<Vec<u8>>),
    /// A hash.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

impl Value {
    fn is_gone(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::List(list) => list.is_empty(),
            Self::Set(set) => set.is_empty(),
            Self::Hash(hash) => hash.is_empty(),
        }
    }
}

/// A value and when it expires (Unix milliseconds). Nothing expires by itself here: replicas wait for the primary's DEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Its expiry.
    pub expires: Option<i64>,
}

/// The keys of one database.
pub type Keys = BTreeMap<Vec<u8>, Rc<Entry>>;

/// Every database, and the function libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// Databases by number; an empty one is not listed.
    pub dbs: BTreeMap<u32, Keys>,
    /// Function libraries: name and source.
    pub functions: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A command that a server would answer with an error: never in a sound stream.
pub type Refusal = String;

impl Dataset {
    /// A key's entry.
    pub fn get(&self, db: u32, key: &[u8]) -> Option<&Rc<Entry>> {
        self.dbs.get(&db)?.get(key)
    }

    /// Puts or removes a key.
    pub fn set(&mut self, db: u32, key: &[u8], entry: Option<Rc<Entry>>) {
        match entry {
            Some(entry) => {
                self.dbs.entry(db).or_default().insert(key.to_vec(), entry);
            }
            None => {
                if let Some(keys) = self.dbs.get_mut(&db) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.dbs.remove(&db);
                    }
                }
            }
        }
    }

    /// Does what `args` say to database `db`.
    pub fn apply(&mut self, db: u32, args: &[Vec<u8>]) -> Result<(), Refusal> {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let rest = &args[1..];
        match &name[..] {
            "ping" | "publish" | "replconf" => {}
            // Stands for a module's command: no server-side effect that the models could see.
            name if name.starts_with("x.") => {}
            "flushall" => self.dbs.clear(),
            "flushdb" => drop(self.dbs.remove(&db)),
            "swapdb" => self.swap(number(&rest[0])?, number(&rest[1])?),
            "function" => self.function(rest)?,
            "set" => self.set_string(db, rest)?,
            "mset" => {
                for pair in rest.chunks(2) {
                    self.set(db, &pair[0], Some(fresh(Value::Text(pair[1].clone()))));
                }
            }
            "del" | "unlink" => rest.iter().for_each(|key| self.set(db, key, None)),
            "pexpireat" => self.expire(db, &rest[0], Some(number(&rest[1])?))?,
            "persist" => self.expire(db, &rest[0], None)?,
            name if joins::knows(name) => self.join(db, name, rest)?,
            _ => self.change(db, &name, rest)?,
        }
        Ok(())
    }

    /// Commands that change one value in place.
    fn change(&mut self, db: u32, name: &str, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        let key = &rest[0];
        let old = self.get(db, key).map(|entry| Entry::clone(entry));
        let expires = old.as_ref().and_then(|entry| entry.expires);
        let mut value = match old {
            Some(entry) => entry.value,
            None => match name {
                "append" | "incr" | "incrby" => Value::Text(Vec::new()),
                "hset" | "hdel" => Value::Hash(BTreeMap::new()),
                "rpush" | "lpush" | "lpop" | "rpop" => Value::List(VecDeque::new()),
                "sadd" | "srem" => Value::Set(BTreeSet::new()),
                _ => return Err(format!("a command that no model knows: {name}")),
            },
        };
        match (name, &mut value) {
            ("append", Value::Text(text)) => text.extend_from_slice(&rest[1]),
            ("incr" | "incrby", Value::Text(text)) => {
                let by = rest.get(1).map_or(Ok(1), |by| number(by))?;
                let n: i64 = if text.is_empty() { 0 } else { number(text)? };
                *text = (n + by).to_string().into_bytes();
            }
            ("hset", Value::Hash(hash)) => {
                hash.extend(rest[1..].chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            }
            ("hdel", Value::Hash(hash)) => hash.retain(|field, _| !rest[1..].contains(field)),
            ("rpush", Value::List(list)) => list.extend(rest[1..].iter().cloned()),
            ("lpush", Value::List(list)) => rest[1..].iter().for_each(|item| list.push_front(item.clone())),
            ("lpop", Value::List(list)) => drop(list.pop_front()),
            ("rpop", Value::List(list)) => drop(list.pop_back()),
            ("sadd", Value::Set(set)) => set.extend(rest[1..].iter().cloned()),
            ("srem", Value::Set(set)) => set.retain(|item| !rest[1..].contains(item)),
            _ => return Err(format!("{name} of a value of another type")),
        }
        let entry = (!value.is_gone()).then(|| Rc::new(Entry { value, expires }));
        self.set(db, key, entry);
        Ok(())
    }

    fn set_string(&mut self, db: u32, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        let expires = match rest.get(2).map(|option| option.to_ascii_lowercase()).as_deref() {
            Some(b"pxat") => Some(number(&rest[3])?),
            Some(b"keepttl") => self.get(db, &rest[0]).and_then(|entry| entry.expires),
            _ => None,
        };
        self.set(db, &rest[0], Some(Rc::new(Entry { value: Value::Text(rest[1].clone()), expires })));
        Ok(())
    }

    fn expire(&mut self, db: u32, key: &[u8], expires: Option<i64>) -> Result<(), Refusal> {
        let entry = self.get(db, key).ok_or("an expiry for a missing key")?;
        let entry = Entry { expires, ..Entry::clone(entry) };
        self.set(db, key, Some(Rc::new(entry)));
        Ok(())
    }

    fn swap(&mut self, a: u32, b: u32) {
        let (first, second) = (self.dbs.remove(&a), self.dbs.remove(&b));
        self.dbs.extend(first.map(|keys| (b, keys)));
        self.dbs.extend(second.map(|keys| (a, keys)));
    }

    fn function(&mut self, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        match &rest[0].to_ascii_lowercase()[..] {
            b"load" => {
                let source = &rest[rest.len() - 1];
                let name = library(source).ok_or("a library without a name")?;
                self.functions.insert(name.to_vec(), source.clone());
            }
            b"delete" => drop(self.functions.remove(&rest[1])),
            _ => return Err("a FUNCTION sub-command that no model knows".into()),
        }
        Ok(())
    }

    /// A fingerprint: two datasets with the same one are taken for equal.
    pub fn digest(&self) -> u64 {
        let mut sum = Fingerprint::default();
        for (db, keys) in &self.dbs {
            sum.number(u64::from(*db));
            for (key, entry) in keys {
                sum.bytes(key);
                sum.number(entry.expires.map_or(u64::MAX, |ms| ms as u64));
                sum.value(&entry.value);
            }
        }
        for (name, source) in &self.functions {
            sum.bytes(name);
            sum.bytes(source);
        }
        sum.0
    }

    /// Every difference to `other`, in words: at most the first few.
    pub fn differences(&self, other: &Self) -> String {
        let mut lines = Vec::new();
        let dbs: BTreeSet<u32> = self.dbs.keys().chain(other.dbs.keys()).copied().collect();
        for db in dbs {
            let names = [self, other].into_iter().filter_map(|data| data.dbs.get(&db)).flat_map(|keys| keys.keys());
            for key in names.collect::<BTreeSet<_>>() {
                let (mine, theirs) = (self.get(db, key), other.get(db, key));
                if mine != theirs {
                    let key = key.escape_ascii();
                    lines.push(format!("  db {db} key {key}: {} instead of {}", shown(mine), shown(theirs)));
                }
            }
        }
        if self.functions != other.functions {
            lines.push("  the function libraries differ".into());
        }
        lines.truncate(6);
        lines.join("\n")
    }
}

fn shown(entry: Option<&Rc<Entry>>) -> String {
    let mut text = entry.map_or("nothing".into(), |entry| match &entry.value {
        Value::Text(text) => format!("\"{}\" {:?}", text.escape_ascii(), entry.expires),
        other => format!("{other:?} {:?}", entry.expires),
    });
    text.truncate(100);
    text
}

fn fresh(value: Value) -> Rc<Entry> {
    Rc::new(Entry { value, expires: None })
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, Refusal> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| "not a number".into())
}

/// The name in a library's first line, `#!<engine> name=<name>`.
pub fn library(source: &[u8]) -> Option<&[u8]> {
    let line = source.split(|&byte| byte == b'\n').next()?;
    line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(b"name="))
}

/// FNV-1a with the lengths mixed in.
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn number(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.bytes(text),
            Value::List(list) => list.iter().for_each(|item| self.bytes(item)),
            Value::Set(set) => set.iter().for_each(|item| self.bytes(item)),
            Value::Hash(hash) => hash.iter().for_each(|(field, value)| {
                self.bytes(field);
                self.bytes(value);
            }),
        }
        self.number(match value {
            Value::Text(_) => 1,
            Value::List(_) => 2,
            Value::Set(_) => 3,
            Value::Hash(_) => 4,
        });
    }
}
