//! What a shard holds, for the model primary and the model replicas: strings and hashes, with or without an expiry.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// When a key goes that has an expiry: so late that it never does here. Milliseconds behind the write.
pub const EXPIRES_MS: u64 = 100_000_000;

/// What stands in a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// A string.
    Text(Vec<u8>),
    /// A hash.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Value {
    /// What stands in it.
    pub body: Body,
    /// Whether it has an expiry.
    pub expires: bool,
}

/// A command, by words.
pub type Words = Vec<Vec<u8>>;

/// The keys of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    map: BTreeMap<Vec<u8>, Value>,
}

/// What an entry adds to the sum of a set of keys.
pub fn weight(name: &[u8], value: Option<&Value>) -> u64 {
    let Some(value) = value else { return 0 };
    let mut hasher = DefaultHasher::new();
    (name, value).hash(&mut hasher);
    hasher.finish()
}

/// Is told of each change: the key, what it was, and what it is.
pub type Watch<'a> = &'a mut dyn FnMut(&[u8], Option<&Value>, Option<&Value>);

impl Keys {
    /// The keys and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Value)> {
        self.map.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Gives a key a value, or takes it away.
    pub fn set(&mut self, key: &[u8], value: Option<Value>, watch: Watch<'_>) {
        let before = self.map.remove(key);
        watch(key, before.as_ref(), value.as_ref());
        value.into_iter().for_each(|value| drop(self.map.insert(key.to_vec(), value)));
    }

    /// Takes all keys away.
    pub fn clear(&mut self, watch: Watch<'_>) {
        let map = std::mem::take(&mut self.map);
        map.iter().for_each(|(key, value)| watch(key, Some(value), None));
    }

    /// Does what a command says; one that asks in vain does nothing.
    pub fn apply(&mut self, words: &[Vec<u8>], watch: Watch<'_>) -> Result<(), String> {
        let text = |bytes: &[u8]| Some(Value { body: Body::Text(bytes.to_vec()), expires: false });
        match words {
            [verb, key, value] if verb == b"SET" => self.set(key, text(value), watch),
            [verb, key, value, unit, _] if verb == b"SET" && unit == b"EX" => {
                self.set(key, Some(Value { body: Body::Text(value.clone()), expires: true }), watch);
            }
            [verb, key, more] if verb == b"APPEND" => {
                let mut held = self.map.get(key).cloned().or_else(|| text(b""));
                if let Some(Value { body: Body::Text(bytes), .. }) = &mut held {
                    bytes.extend_from_slice(more);
                    self.set(key, held, watch);
                }
            }
            [verb, key] if verb == b"INCR" => {
                let mut held = self.map.get(key).cloned().or_else(|| text(b"0"));
                if let Some(Value { body: Body::Text(bytes), .. }) = &mut held
                    && let Some(number) = String::from_utf8_lossy(bytes).parse::<i64>().ok()
                {
                    *bytes = (number + 1).to_string().into_bytes();
                    self.set(key, held, watch);
                }
            }
            [verb, key, field, value] if verb == b"HSET" => {
                let new = Value { body: Body::Hash(BTreeMap::new()), expires: false };
                let mut held = self.map.get(key).cloned().unwrap_or(new);
                if let Body::Hash(fields) = &mut held.body {
                    fields.insert(field.clone(), value.clone());
                    self.set(key, Some(held), watch);
                }
            }
            [verb, key, _] if verb == b"PEXPIREAT" => {
                if let Some(mut held) = self.map.get(key).cloned() {
                    held.expires = true;
                    self.set(key, Some(held), watch);
                }
            }
            [verb, from, to] if verb == b"RENAME" => {
                if let Some(held) = self.map.get(from).cloned() {
                    self.set(from, None, watch);
                    self.set(to, Some(held), watch);
                }
            }
            [verb, keys @ ..] if verb == b"DEL" => keys.iter().for_each(|key| self.set(key, None, watch)),
            [verb, pairs @ ..] if verb == b"MSET" && pairs.len() % 2 == 0 => {
                pairs.chunks(2).for_each(|pair| self.set(&pair[0], text(&pair[1]), watch));
            }
            [verb] if verb == b"PING" => {}
            _ => return Err(format!("no view has the command {}", shown(words))),
        }
        Ok(())
    }

    /// A snapshot of them.
    pub fn snapshot(&self, version: u8, unix_ms: u64, trailer: bool) -> Vec<u8> {
        let mut out = b"KEVYSNAP".to_vec();
        out.push(version);
        if version >= 5 {
            out.extend_from_slice(&[0; 16]);
        }
        let blob = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        for (key, value) in &self.map {
            out.push(if matches!(value.body, Body::Text(_)) { 1 } else { 2 });
            out.push(u8::from(value.expires));
            if value.expires {
                out.extend_from_slice(&(unix_ms + EXPIRES_MS).to_le_bytes());
            }
            blob(&mut out, key);
            match &value.body {
                Body::Text(text) => blob(&mut out, text),
                Body::Hash(fields) => {
                    out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
                    fields
                        .iter()
                        .for_each(|(field, value)| [field, value].iter().for_each(|part| blob(&mut out, part)));
                }
            }
        }
        out.push(0);
        if trailer {
            out.push(9);
            out.extend_from_slice(&1u32.to_le_bytes());
            blob(&mut out, b"XINTERNAL.CATALOG");
        }
        out
    }

    /// The keys of a snapshot.
    pub fn load(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Value)>, String> {
        let mut reader = Reader(bytes);
        if reader.take(8)? != b"KEVYSNAP" {
            return Err("no snapshot begins like that".into());
        }
        let version = reader.take(1)?[0];
        reader.take(if version >= 5 { 16 } else { 0 })?;
        let mut keys = Vec::new();
        loop {
            let code = reader.take(1)?[0];
            if code == 0 {
                break;
            }
            let expires = reader.take(1)?[0] == 1;
            reader.take(if expires { 8 } else { 0 })?;
            let key = reader.blob()?.to_vec();
            let body = match code {
                1 => Body::Text(reader.blob()?.to_vec()),
                2 => {
                    let mut fields = BTreeMap::new();
                    for _ in 0..reader.number()? {
                        fields.insert(reader.blob()?.to_vec(), reader.blob()?.to_vec());
                    }
                    Body::Hash(fields)
                }
                _ => return Err(format!("a record of kind {code}")),
            };
            keys.push((key, Value { body, expires }));
        }
        match reader.0 {
            [] => Ok(keys),
            [9, ..] => Ok(keys),
            rest => Err(format!("{} bytes behind the end of a snapshot", rest.len())),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("a snapshot ends before its end")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }

    fn blob(&mut self) -> Result<&'a [u8], String> {
        let length = self.number()?;
        self.take(length)
    }
}

/// A command, for people.
pub fn shown(words: &[Vec<u8>]) -> String {
    let word = |word: &Vec<u8>| String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned();
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
