//! Snapshots in the making and an independent reader of them, both plain and slow.

use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};

/// A record as the tests see it: its code, its expiry, its key, and the rest of its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) code: u8,
    pub(crate) ttl: Option<u64>,
    pub(crate) key: Vec<u8>,
    pub(crate) rest: Vec<u8>,
}

/// A whole snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) version: u8,
    pub(crate) entries: Vec<Entry>,
    pub(crate) aux: Option<Vec<Vec<u8>>>,
    pub(crate) reads: Vec<Entry>,
}

/// Bytes behind their length.
pub(crate) fn blob(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// A number of things before the things.
pub(crate) fn counted(things: &[Vec<u8>]) -> Vec<u8> {
    [&(things.len() as u32).to_le_bytes(), things.concat().as_slice()].concat()
}

impl Model {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"KEVYSNAP".to_vec();
        out.push(self.version);
        if self.version >= 5 {
            out.extend_from_slice(&[0; 16]);
        }
        for entry in &self.entries {
            entry.write(&mut out);
        }
        out.push(0);
        if let Some(parts) = &self.aux {
            out.push(9);
            out.extend(counted(&parts.iter().map(|part| blob(part)).collect::<Vec<_>>()));
        }
        for entry in &self.reads {
            entry.write(&mut out);
        }
        out
    }

    /// The rule applied to every record.
    pub(crate) fn viewed(&self, rule: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Self {
        let view = |entries: &[Entry]| {
            let named = |entry: &Entry| rule(&entry.key).map(|key| Entry { key, ..entry.clone() });
            entries.iter().filter_map(named).collect()
        };
        Self { entries: view(&self.entries), reads: view(&self.reads), ..self.clone() }
    }
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.code);
        match self.ttl {
            _ if self.code == 7 || self.code == 10 => {}
            None => out.push(0),
            Some(ttl) => {
                out.push(1);
                out.extend_from_slice(&ttl.to_le_bytes());
            }
        }
        out.extend(blob(&self.key));
        out.extend_from_slice(&self.rest);
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..12), vec(any::<u8>(), 60..90)]
}

/// So many bytes of anything.
fn fixed(bytes: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), bytes)
}

fn some(thing: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    vec(thing, 0..4).prop_map(|things| counted(&things))
}

fn pairs() -> impl Strategy<Value = Vec<u8>> {
    some((text(), text()).prop_map(|(field, value)| [blob(&field), blob(&value)].concat()))
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let entries = some((fixed(16), pairs()).prop_map(|(id, fields)| [id, fields].concat()));
    let consumers = some((text(), fixed(8)).prop_map(|(name, seen)| [blob(&name), seen].concat()));
    let pending = (fixed(16), text(), fixed(12)).prop_map(|(id, name, times)| [id, blob(&name), times].concat());
    let group = (text(), fixed(16), consumers, some(pending));
    let groups =
        some(group.prop_map(|(name, last, consumers, pending)| [blob(&name), last, consumers, pending].concat()));
    (fixed(40), entries, groups).prop_map(|(head, entries, groups)| [head, entries, groups].concat())
}

fn value() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let one = |code: u8| move |rest: Vec<u8>| (code, rest);
    prop_oneof![
        text().prop_map(|text| (1, blob(&text))),
        pairs().prop_map(one(2)),
        some(text().prop_map(|text| blob(&text))).prop_map(one(3)),
        some(text().prop_map(|text| blob(&text))).prop_map(one(4)),
        some((text(), fixed(8)).prop_map(|(member, score)| [blob(&member), score].concat())).prop_map(one(5)),
        stream().prop_map(one(6)),
    ]
}

fn entries(version: u8) -> impl Strategy<Value = Vec<Entry>> {
    let keys = vec((text(), any::<Option<u64>>(), value()), 0..30).prop_map(|keys| {
        keys.into_iter().map(|(key, ttl, (code, rest))| Entry { code, ttl, key, rest }).collect::<Vec<_>>()
    });
    let expiries = vec((text(), text(), fixed(8)), 0..4).prop_map(move |expiries| {
        let entry = |(key, field, at): (_, Vec<u8>, Vec<u8>)| Entry {
            code: 7,
            ttl: None,
            key,
            rest: [blob(&field), at].concat(),
        };
        expiries.into_iter().filter(|_| version >= 6).map(entry).collect::<Vec<_>>()
    });
    (keys, expiries).prop_map(|(keys, expiries)| [keys, expiries].concat())
}

fn reads() -> impl Strategy<Value = Vec<Entry>> {
    let known = prop_oneof![Just(vec![0]), fixed(8).prop_map(|read| [vec![1], read].concat())];
    let active = some((text(), fixed(8)).prop_map(|(name, at)| [blob(&name), at].concat()));
    let read = (text(), text(), known, active, some(fixed(24)));
    vec(read, 0..4).prop_map(|reads| {
        let entry = |(key, group, known, active, wide): (_, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| Entry {
            code: 10,
            ttl: None,
            key,
            rest: [blob(&group), known, active, wide].concat(),
        };
        reads.into_iter().map(entry).collect()
    })
}

/// Any snapshot.
pub(crate) fn models() -> impl Strategy<Value = Model> {
    (4..=7u8).prop_flat_map(|version| {
        let aux = prop::option::of(vec(text(), 0..4));
        (entries(version), aux, reads()).prop_map(move |(entries, aux, reads)| Model { version, entries, aux, reads })
    })
}

/// A snapshot with one of everything, small enough for every cut and every flaw.
pub(crate) fn sample(version: u8) -> Model {
    let entry = |code, ttl, key: &[u8], rest: Vec<u8>| Entry { code, ttl, key: key.to_vec(), rest };
    let pair = |field: &[u8], value: &[u8]| [blob(field), blob(value)].concat();
    let one = |thing: Vec<u8>| counted(&[thing]);
    let group = [
        blob(b"g"),
        vec![2; 16],
        one([blob(b"c"), vec![3; 8]].concat()),
        one([vec![4; 16], blob(b"c"), vec![5; 12]].concat()),
    ]
    .concat();
    let mut entries = vec![
        entry(1, None, b"move:int", blob(b"12345")),
        entry(1, Some(1_795_374_812_024), b"drop:s", blob(b"with-ttl")),
        entry(2, Some(1), b"move:h", counted(&[pair(b"f1", b"v1"), pair(b"", b"")])),
        entry(3, None, b"l", counted(&[blob(b"a"), blob(b"b")])),
        entry(4, None, b"drop:set", counted(&[blob(b"m1"), blob(b"m2")])),
        entry(5, None, b"z", one([blob(b"m"), vec![6; 8]].concat())),
        entry(
            6,
            None,
            b"move:st",
            [vec![1; 40], one([vec![7; 16], one(pair(b"f", b"v"))].concat()), one(group)].concat(),
        ),
        entry(1, None, b"", blob(b"")),
        entry(3, None, b"empty", counted(&[])),
    ];
    if version >= 6 {
        entries.push(entry(7, None, b"move:h", [blob(b"f1"), vec![8; 8]].concat()));
        entries.push(entry(7, None, b"drop:stale", [blob(b"f"), vec![8; 8]].concat()));
    }
    let read = |known: Vec<u8>| [blob(b"g"), known, one([blob(b"c"), vec![9; 8]].concat()), one(vec![1; 24])].concat();
    let reads = vec![entry(10, None, b"move:st", read(vec![0])), entry(10, None, b"drop:st", read(vec![1; 9]))];
    Model { version, entries, aux: Some(vec![b"XINTERNAL.CATALOG".to_vec(), b"0".to_vec(), vec![]]), reads }
}

/// Drops `drop:`, moves `move:` to `elsewhere:`, and keeps what is left.
pub(crate) fn drop_and_move(key: &[u8]) -> Option<Vec<u8>> {
    match key.strip_prefix(b"move:") {
        Some(rest) => Some([b"elsewhere:", rest].concat()),
        None if key.starts_with(b"drop:") => None,
        None => Some(key.to_vec()),
    }
}

/// Drops a third of all names, marks another third, and keeps the rest.
pub(crate) fn by_thirds(key: &[u8]) -> Option<Vec<u8>> {
    match key.iter().fold(0u32, |sum, byte| sum + u32::from(*byte)) % 3 {
        0 => None,
        1 => Some([b"third:", key].concat()),
        _ => Some(key.to_vec()),
    }
}

/// A pipeline of one plain rule, which notes the sizes of its batches.
pub(crate) struct Rule<F>(pub(crate) F, pub(crate) Vec<usize>);

impl<F: Fn(&[u8]) -> Option<Vec<u8>> + Send> Pipeline for Rule<F> {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        assert_eq!(batch.db, 0, "kevy has one database");
        self.1.push(batch.len());
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            match (self.0)(batch.get(index)) {
                None => answers.drop_key(index),
                Some(name) if name != batch.get(index) => answers.rename_key(index, &name),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, _: &FrameBatch, _: &mut Vec<bool>) -> Result<(), PluginFault> {
        unreachable!("a snapshot of kevy has no frames")
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: true, decides_frames: false, renames: true, inexact: false }
    }
}
