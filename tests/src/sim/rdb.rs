//! Snapshots of the models: written with the core's small parts, read by a reader of its own that shares nothing with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use sluicegate_core::rdb::{Family, write};

use super::data::{Dataset, Entry, Value, library};
use super::rng::Rng;

/// The version of the snapshots and dumps of a server.
fn version(server: &str) -> u16 {
    if server.starts_with('6') { 9 } else { 11 }
}

/// Writes a snapshot of `data` as a server of that version does that stands at `offset` of history `id`.
pub fn snapshot(data: &Dataset, server: &str, (id, offset): (&str, u64), stream_db: u32, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    write::write_magic(&mut out, Family::Redis, version(server).into());
    write::write_aux(&mut out, b"redis-ver", server.as_bytes());
    write::write_aux(&mut out, b"repl-stream-db", stream_db.to_string().as_bytes());
    write::write_aux(&mut out, b"repl-id", id.as_bytes());
    write::write_aux(&mut out, b"repl-offset", offset.to_string().as_bytes());
    for source in data.functions.values() {
        write::write_function(&mut out, source);
    }
    for (db, keys) in &data.dbs {
        write::write_select(&mut out, *db);
        out.push(251);
        write::write_len(&mut out, keys.len() as u64);
        write::write_len(&mut out, keys.values().filter(|entry| entry.expires.is_some()).count() as u64);
        for (key, entry) in keys {
            if let Some(ms) = entry.expires {
                write::write_expiry(&mut out, ms);
            }
            match rng.below(4) {
                0 => out.extend_from_slice(&[248, 5]),
                1 => out.extend_from_slice(&[249, 77]),
                _ => {}
            }
            write_entry(&mut out, key, &entry.value);
        }
    }
    if rng.permille(100) {
        // A server with `rdbchecksum no`.
        out.push(255);
        out.extend_from_slice(&[0; 8]);
    } else {
        write::write_end(&mut out);
    }
    out
}

fn write_entry(out: &mut Vec<u8>, key: &[u8], value: &Value) {
    out.push(kind(value));
    write::write_string(out, key);
    write_value(out, value);
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Text(_) => 0,
        Value::List(_) => 1,
        Value::Set(_) => 2,
        Value::Hash(_) => 4,
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    let mut items: Vec<&[u8]> = Vec::new();
    match value {
        Value::Text(text) => return write::write_string(out, text),
        Value::List(list) => items.extend(list.iter().map(Vec::as_slice)),
        Value::Set(set) => items.extend(set.iter().map(Vec::as_slice)),
        Value::Hash(hash) => hash.iter().for_each(|(field, value)| items.extend([field.as_slice(), value])),
    }
    let count = if kind(value) == 4 { items.len() / 2 } else { items.len() };
    write::write_len(out, count as u64);
    items.iter().for_each(|item| write::write_string(out, item));
}

/// What DUMP answers for a value.
pub fn dump(value: &Value, server: &str) -> Vec<u8> {
    let mut out = vec![kind(value)];
    write_value(&mut out, value);
    out.extend_from_slice(&version(server).to_le_bytes());
    let crc = crc64(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads what a RESTORE carries.
pub fn undump(payload: &[u8]) -> Result<Value, String> {
    let (body, foot) = payload.split_last_chunk::<8>().ok_or("a payload without its foot")?;
    if u64::from_le_bytes(*foot) != crc64(body) {
        return Err("DUMP payload version or checksum are wrong".into());
    }
    let (body, _) = body.split_last_chunk::<2>().ok_or("a payload without its version")?;
    let mut reader = Reader { rest: body };
    let kind = reader.byte()?;
    let value = reader.value(kind)?;
    if !reader.rest.is_empty() {
        return Err("a payload that goes on behind its value".into());
    }
    Ok(value)
}

/// Loads a whole snapshot as a replica does. An error is what a server would say before it gives the sync up.
pub fn load(bytes: &[u8]) -> Result<Loaded, String> {
    let mut reader = Reader { rest: bytes };
    let magic = reader.take(9)?;
    if !magic.starts_with(b"REDIS") && !magic.starts_with(b"VALKEY") {
        return Err("no snapshot: wrong magic".into());
    }
    let mut loaded = Loaded { data: Dataset::default(), aux: BTreeMap::new() };
    let (mut db, mut expires) = (0, None);
    loop {
        match reader.byte()? {
            255 => break,
            250 => {
                let name = reader.string()?;
                loaded.aux.insert(name, reader.string()?);
            }
            245 => {
                let source = reader.string()?;
                let name = library(&source).ok_or("a library without a name")?.to_vec();
                loaded.data.functions.insert(name, source);
            }
            254 => db = reader.length()? as u32,
            251 => drop((reader.length()?, reader.length()?)),
            252 => expires = Some(i64::from_le_bytes(reader.take(8)?.try_into().map_err(|_| "short")?)),
            248 => drop(reader.length()?),
            249 => drop(reader.byte()?),
            kind => {
                let key = reader.string()?;
                let entry = Entry { value: reader.value(kind)?, expires: expires.take() };
                if loaded.data.get(db, &key).is_some() {
                    return Err(format!("key {} twice in one database: a server panics", key.escape_ascii()));
                }
                loaded.data.set(db, &key, Some(Rc::new(entry)));
            }
        }
    }
    let summed = &bytes[..bytes.len() - reader.rest.len()];
    let crc = u64::from_le_bytes(reader.take(8)?.try_into().map_err(|_| "short")?);
    if crc != 0 && crc != crc64(summed) {
        return Err("wrong checksum".into());
    }
    if !reader.rest.is_empty() {
        return Err("bytes behind the end of the snapshot".into());
    }
    Ok(loaded)
}

/// What a snapshot held.
#[derive(Debug)]
pub struct Loaded {
    /// The dataset.
    pub data: Dataset,
    /// The aux fields.
    pub aux: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or("the snapshot ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<usize, String> {
        let first = self.byte()?;
        Ok(match first {
            0..0x40 => usize::from(first),
            0x40..0x80 => usize::from(first & 0x3f) << 8 | usize::from(self.byte()?),
            0x80 => u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| "short")?) as usize,
            _ => return Err("a length in a form that no model writes".into()),
        })
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        if let Some(&code @ 0xc0..=0xc2) = self.rest.first() {
            self.byte()?;
            let n = match code {
                0xc0 => i32::from(self.byte()? as i8),
                0xc1 => i32::from(i16::from_le_bytes(self.take(2)?.try_into().map_err(|_| "short")?)),
                _ => i32::from_le_bytes(self.take(4)?.try_into().map_err(|_| "short")?),
            };
            return Ok(n.to_string().into_bytes());
        }
        let length = self.length()?;
        Ok(self.take(length)?.to_vec())
    }

    fn value(&mut self, kind: u8) -> Result<Value, String> {
        if kind == 0 {
            return Ok(Value::Text(self.string()?));
        }
        let mut items = Vec::new();
        for _ in 0..self.length()? * if kind == 4 { 2 } else { 1 } {
            items.push(self.string()?);
        }
        Ok(match kind {
            1 => Value::List(VecDeque::from(items)),
            2 => Value::Set(BTreeSet::from_iter(items)),
            4 => Value::Hash(items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()),
            _ => return Err(format!("a value of type {kind}, which no model writes")),
        })
    }
}

/// CRC-64 as snapshots have it, bit by bit from its definition.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x95ac_9329_ac4b_c9b5 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_servers_compute() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
