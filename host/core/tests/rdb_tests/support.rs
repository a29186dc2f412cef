//! What the stories about snapshots share: a sample with every type, an independent reader, and a pipeline of plain rules.

use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::rdb::write::{
    write_aux, write_end, write_expiry, write_function, write_len, write_magic, write_select, write_string,
    write_string_key,
};
use sluicegate_core::rdb::{Family, Head, RewriteError, RewriteStats, Rewriter};

pub(crate) const HEAD: Head = Head { repl_id: [b'a'; 40], repl_offset: 4711, stream_db: 3 };

/// What a rule makes of a key: `None` drops it.
pub(crate) type Rule = Box<dyn Fn(u32, &[u8]) -> Option<Vec<u8>> + Send>;

/// A pipeline of one plain rule about keys and one about libraries.
pub(crate) struct Rules {
    pub(crate) key: Rule,
    /// The one library that does not pass; without it libraries are not asked about.
    pub(crate) hidden_library: Option<&'static str>,
    /// The sizes of the batches that were asked, in keys.
    pub(crate) batches: Vec<usize>,
    pub(crate) libraries_asked: Vec<String>,
}

impl Rules {
    pub(crate) fn new(key: impl Fn(u32, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        Self { key: Box::new(key), hidden_library: None, batches: Vec::new(), libraries_asked: Vec::new() }
    }

    pub(crate) fn identity() -> Self {
        Self::new(|_, key| Some(key.to_vec()))
    }
}

impl Pipeline for Rules {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        self.batches.push(batch.len());
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            match (self.key)(batch.db, batch.get(index)) {
                None => answers.drop_key(index),
                Some(name) if name != batch.get(index) => answers.rename_key(index, &name),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        assert_eq!((batch.commands.as_slice(), batch.sizes.as_slice()), (&[2][..], &[0][..]), "a function library");
        let name = String::from_utf8(batch.subjects.clone()).expect("library names are ASCII");
        keep.clear();
        keep.push(self.hidden_library != Some(name.as_str()));
        self.libraries_asked.push(name);
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: false, decides_frames: self.hidden_library.is_some(), renames: true, inexact: false }
    }
}

/// Rewrites `input`, pushed in `chunks` (again and again from the first, as long as there is input).
pub(crate) fn rewrite(
    input: &[u8],
    chunks: &[usize],
    rules: &mut Rules,
) -> Result<(Vec<u8>, RewriteStats, usize), RewriteError> {
    let (mut rewriter, mut out, mut at) = (Rewriter::new(HEAD), Vec::new(), 0usize);
    for chunk in chunks.iter().cycle() {
        let piece = &input[at..input.len().min(at.saturating_add(*chunk))];
        let taken = rewriter.push(piece, rules, &mut out)?;
        at += taken;
        if taken < piece.len() || at == input.len() {
            break;
        }
    }
    rewriter.finish()?;
    Ok((out, rewriter.stats(), at))
}

/// `n` times: a length, then the strings of one element.
pub(crate) fn times(elements: &[&[&[u8]]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_len(&mut out, elements.len() as u64);
    elements.iter().flat_map(|element| element.iter()).for_each(|part| out.extend_from_slice(part));
    out
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(&mut out, bytes);
    out
}

/// A value of each type that this family has, two for those with more than one form.
pub(crate) fn values(family: Family) -> Vec<(u8, Vec<u8>)> {
    let (a, b, long) = (text(b"a"), text(b"bb"), text(&[b'L'; 66]));
    let packed = [0xc3, 4, 5, 0, b'z', 0x40, 0].to_vec();
    let mut all = vec![
        (0, b.clone()),
        (0, vec![0xc0, 7]),
        (0, vec![0xc1, 7, 7]),
        (0, vec![0xc2, 7, 7, 7, 7]),
        (0, packed.clone()),
        (0, text(&[b'v'; 80])),
        (0, [&[0x81, 0, 0, 0, 0, 0, 0, 0, 3][..], b"abc"].concat()),
        (0, [&[0x80, 0, 0, 0, 3][..], b"abc"].concat()),
        (1, times(&[&[&a], &[&long], &[&packed]])),
        (1, times(&[])),
        (2, times(&[&[&a], &[&[0xc0, 1]]])),
        (3, times(&[&[&a, b"\x031.5"], &[&b, &[253]], &[&a, &[254]], &[&a, &[255]]])),
        (4, times(&[&[&a, &b], &[&b, &long]])),
        (5, times(&[&[&a, &[1; 8]], &[&b, &[2; 8]]])),
        (7, module_data(&[0x81, 1, 2, 3, 4, 5, 6, 7, 8])),
        (14, times(&[&[&long], &[&packed]])),
        (15, stream(1)),
        (18, times(&[&[&[1], &long], &[&[2], &packed]])),
        (19, stream(2)),
        (21, stream(3)),
        (21, [&[0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0]].concat()),
    ];
    all.extend([9, 10, 11, 12, 13, 16, 17, 20].map(|kind| (kind, long.clone())));
    match family {
        Family::Redis => {
            all.push((24, [&[9; 8][..], &times(&[&[&[0], &a, &b], &[&[0x40, 99], &b, &a]])].concat()));
            all.push((25, [&[9; 8][..], &long].concat()));
            all.extend([26, 27].map(|kind| (kind, stream(kind - 22))));
            all.push((28, [&[3, 1, 0x40, 80][..], &[0, 0], &a, &[1, 1], &[1; 8], &[0x40, 70, 2], &[2; 8]].concat()));
            all.push((28, [&[1, 0, 9, 3][..], &packed].concat()));
        }
        Family::Valkey => all.push((22, times(&[&[&a, &b, &[9; 8]], &[&b, &a, &[255; 8]]]))),
    }
    all
}

/// `before`, then an item of every kind, then the end mark.
fn module_data(before: &[u8]) -> Vec<u8> {
    let items: [&[u8]; 6] =
        [&[1, 5], &[2, 0x40, 99], &[3, 1, 2, 3, 4], &[4, 1, 2, 3, 4, 5, 6, 7, 8], &[5, 1, b'm'], &[0]];
    [before, &items.concat()].concat()
}

/// What two modules keep of a key.
fn key_meta() -> Vec<u8> {
    times(&[&[b"aaaa", &module_data(&[])], &[b"bbbb", &[0]]])
}

/// A stream of this version of the type with two nodes, and two groups with pending entries and consumers.
pub(crate) fn stream(version: u8) -> Vec<u8> {
    let (id, node, name) = (text(&[1; 16]), text(&[b'n'; 30]), text(b"name"));
    let more: &[u8] = if version >= 2 { &[1, 2, 3, 4, 5] } else { &[] };
    let read: &[u8] = if version >= 2 { &[0x81, 255, 255, 255, 255, 255, 255, 255, 255] } else { &[] };
    let seen: &[u8] = if version >= 3 { &[6; 16] } else { &[6; 8] };
    let own = times(&[&[&[1; 16]], &[&[2; 16]]]);
    let consumers = times(&[&[&name, seen, &own], &[&name, seen, &[0]]]);
    let pending = times(&[&[&[1; 24], &[3]], &[&[2; 24], &[0x40, 77]]]);
    let (given_back, none): (Vec<u8>, &[u8]) =
        if version >= 5 { (times(&[&[&[3; 16]]]), &[0]) } else { (Vec::new(), &[]) };
    let groups =
        times(&[&[&name, &[7, 8], read, &pending, &consumers, &given_back], &[&name, &[7, 8], read, &[0, 0], none]]);
    let producers = if version >= 4 {
        let entries = times(&[&[&name, &[1, 2]], &[&name, &[3, 4]]]);
        [&[60, 0x40, 100][..], &times(&[&[&name, &entries], &[&name, &[0]]]), &[7, 8]].concat()
    } else {
        Vec::new()
    };
    [times(&[&[&id, &node], &[&id, &node]]), vec![2, 0x44, 0, 9], more.to_vec(), groups, producers].concat()
}

/// The newest format of this family.
pub(crate) fn newest(family: Family) -> u32 {
    if family == Family::Redis { 14 } else { 80 }
}

/// A snapshot with every opcode, every type, and names in every encoding.
pub(crate) fn sample(family: Family) -> Vec<u8> {
    let mut out = Vec::new();
    write_magic(&mut out, family, newest(family));
    write_aux(&mut out, b"redis-ver", b"7.4.1");
    out.extend_from_slice(b"\xfa\x0aredis-bits\xc0\x40");
    write_aux(&mut out, b"repl-stream-db", b"0");
    write_aux(&mut out, b"repl-id", &[b'b'; 40]);
    write_aux(&mut out, b"repl-offset", b"123456789");
    write_aux(&mut out, b"aof-base", b"0");
    out.extend(module_data(&[0xf7, 0x81, 1, 2, 3, 4, 5, 6, 7, 8, 2, 2]));
    write_function(&mut out, b"#!lua name=open\nreturn 1");
    out.extend_from_slice(b"\xf5\xc3\x15\x17\x11#!lua name=hidden\x0a\x60\x02");
    if family == Family::Valkey {
        out.extend([vec![0xf3], text(&[b'j'; 40]), times(&[&[&[0], &[9]], &[&[0x50, 0], &[0x60, 0]]])].concat());
    }
    write_select(&mut out, 0);
    out.extend_from_slice(&[0xfb, 0x40, 200, 3]);
    keys(&mut out, family, "keep");
    out.extend_from_slice(&[0xf4, 1, 2, 3]);
    keys(&mut out, family, "drop");
    write_select(&mut out, 700);
    write_aux(&mut out, b"slot-info", b"0,1,0");
    keys(&mut out, family, "move");
    out.extend(module_data(&[0xf7, 5, 2, 1]));
    write_end(&mut out);
    out
}

fn keys(out: &mut Vec<u8>, family: Family, prefix: &str) {
    if family == Family::Redis {
        out.extend([&[0xfc, 1, 2, 3, 4, 5, 6, 7, 8, 0xf3][..], &key_meta(), &[0]].concat());
        out.extend([text(format!("{prefix}:meta").as_bytes()), text(b"v")].concat());
    }
    let attributes: [&[u8]; 4] = [&[], &[0xf8, 0x41, 0], &[0xf9, 200], &[0xfd, 1, 2, 3, 4]];
    for (nth, (kind, value)) in values(family).into_iter().enumerate() {
        if nth % 3 == 0 {
            write_expiry(out, 1_900_000_000_000);
        }
        out.extend_from_slice(attributes[nth % 4]);
        out.push(kind);
        write_string(out, format!("{prefix}:{nth}").as_bytes());
        out.extend(value);
    }
    let number = [0xc1, prefix.as_bytes()[0], 1];
    out.extend([&[0][..], &number, &[1, b'n']].concat());
    // "drop:" and 20 times its last letter, packed.
    out.extend([&[0, 0xc3, 9, 25, 4][..], prefix.as_bytes(), b":", &[0xe0, 11, 0], &[1, b'p']].concat());
    write_string_key(out, format!("{prefix}:last").as_bytes(), b"");
}

/// An entry as the independent reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) db: u64,
    pub(crate) name: Vec<u8>,
    /// The attributes, the type and the value, as they stand there.
    pub(crate) rest: Vec<u8>,
    pub(crate) kind: u8,
}

/// All that the independent reader sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) aux: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) functions: Vec<Vec<u8>>,
    pub(crate) hints: usize,
    pub(crate) opaque: Vec<Vec<u8>>,
    pub(crate) entries: Vec<Entry>,
}

/// Reads a whole snapshot the simple way: recursively, in memory, trusting it; panics at anything odd.
pub(crate) fn read(bytes: &[u8]) -> Listing {
    let valkey = bytes.starts_with(b"VALKEY");
    let (mut at, mut db, mut list, mut attributes) = (&bytes[9..], 0, Listing::default(), Vec::new());
    loop {
        let whole = at;
        let first = take(&mut at, 1)[0];
        let raw = |at: &[u8]| whole[..whole.len() - at.len()].to_vec();
        match first {
            0xff => break,
            0xfe => db = len(&mut at),
            0xfd | 0xfc | 0xf9 => {
                take(&mut at, [(0xfd, 4), (0xfc, 8), (0xf9, 1)].iter().find(|(code, _)| *code == first).unwrap().1);
                attributes.extend(raw(at));
            }
            0xf8 => {
                len(&mut at);
                attributes.extend(raw(at));
            }
            0xfb => list.hints += (len(&mut at), len(&mut at), 1).2,
            0xf4 => list.hints += (len(&mut at), len(&mut at), len(&mut at), 1).3,
            0xfa => list.aux.push((string(&mut at), string(&mut at))),
            0xf5 => list.functions.push(string(&mut at)),
            0xf7 => {
                (0..3).for_each(|_| _ = len(&mut at));
                module(&mut at);
                list.opaque.push(raw(at));
            }
            0xf3 if !valkey => {
                (0..len(&mut at)).for_each(|_| _ = (take(&mut at, 4), module(&mut at)));
                attributes.extend(raw(at));
            }
            0xf3 => {
                string(&mut at);
                (0..len(&mut at)).for_each(|_| _ = (len(&mut at), len(&mut at)));
                list.opaque.push(raw(at));
            }
            kind => {
                let name = string(&mut at);
                let value = at;
                skip_value(&mut at, kind);
                let value = &value[..value.len() - at.len()];
                let rest = [&attributes, &[kind][..], value].concat();
                attributes.clear();
                list.entries.push(Entry { db, name, rest, kind });
            }
        }
    }
    assert!(attributes.is_empty());
    assert_eq!(at.len(), 8, "the checksum, and nothing behind it");
    list
}

fn take<'a>(at: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = at.split_at(count);
    *at = rest;
    taken
}

fn len(at: &mut &[u8]) -> u64 {
    let first = take(at, 1)[0];
    match (first >> 6, first) {
        (0, _) => u64::from(first),
        (1, _) => u64::from(first & 63) * 256 + u64::from(take(at, 1)[0]),
        (2, 0x80) => take(at, 4).iter().fold(0, |sum, byte| sum * 256 + u64::from(*byte)),
        (2, 0x81) => take(at, 8).iter().fold(0, |sum, byte| sum * 256 + u64::from(*byte)),
        _ => panic!("no length: {first}"),
    }
}

fn string(at: &mut &[u8]) -> Vec<u8> {
    match at[0] {
        0xc0 => format!("{}", take(at, 2)[1] as i8).into_bytes(),
        0xc1 => format!("{}", i16::from_le_bytes(take(at, 3)[1..].try_into().unwrap())).into_bytes(),
        0xc2 => format!("{}", i32::from_le_bytes(take(at, 5)[1..].try_into().unwrap())).into_bytes(),
        0xc3 => {
            take(at, 1);
            let (packed, original) = (len(at), len(at));
            let out = unpack(take(at, packed as usize));
            assert_eq!(out.len() as u64, original);
            out
        }
        _ => {
            let bytes = len(at) as usize;
            take(at, bytes).to_vec()
        }
    }
}

fn unpack(mut packed: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    while !packed.is_empty() {
        let control = usize::from(take(&mut packed, 1)[0]);
        if control < 32 {
            out.extend(take(&mut packed, control + 1));
            continue;
        }
        let extra = if control >= 0xe0 { usize::from(take(&mut packed, 1)[0]) } else { 0 };
        let back = (control & 31) * 256 + usize::from(take(&mut packed, 1)[0]) + 1;
        for _ in 0..(control >> 5) + 2 + extra {
            out.push(out[out.len() - back]);
        }
    }
    out
}

fn module(at: &mut &[u8]) {
    loop {
        match len(at) {
            0 => return,
            1 | 2 => _ = len(at),
            3 => _ = take(at, 4),
            4 => _ = take(at, 8),
            5 => _ = string(at),
            other => panic!("module data {other}"),
        }
    }
}

fn skip_value(at: &mut &[u8], kind: u8) {
    let each = |at: &mut &[u8], one: &dyn Fn(&mut &[u8])| (0..len(at)).for_each(|_| one(at));
    let pair = |at: &mut &[u8]| _ = (string(at), string(at));
    match kind {
        0 | 9..=13 | 16 | 17 | 20 => _ = string(at),
        1 | 2 | 14 => each(at, &|at| _ = string(at)),
        3 => each(at, &|at| {
            string(at);
            let chars = take(at, 1)[0];
            take(at, if chars >= 253 { 0 } else { chars.into() });
        }),
        4 => each(at, &pair),
        5 => each(at, &|at| _ = (string(at), take(at, 8))),
        7 => _ = (len(at), module(at)),
        18 => each(at, &|at| _ = (len(at), string(at))),
        22 => each(at, &|at| _ = (pair(at), take(at, 8))),
        24 => {
            take(at, 8);
            each(at, &|at| _ = (len(at), pair(at)));
        }
        25 => _ = (take(at, 8), string(at)),
        15 | 19 | 21 | 26 | 27 => skip_stream(at, [15, 19, 21, 26, 27].iter().position(|k| *k == kind).unwrap()),
        28 => {
            let count = len(at);
            if len(at) == 1 {
                len(at);
            }
            for _ in 0..count {
                len(at);
                match len(at) {
                    1 | 2 => _ = take(at, 8),
                    _ => _ = string(at),
                }
            }
        }
        _ => panic!("type {kind}"),
    }
}

fn skip_stream(at: &mut &[u8], later: usize) {
    (0..len(at)).for_each(|_| _ = (string(at), string(at)));
    (0..if later > 0 { 8 } else { 3 }).for_each(|_| _ = len(at));
    for _ in 0..len(at) {
        string(at);
        (0..if later > 0 { 3 } else { 2 }).for_each(|_| _ = len(at));
        (0..len(at)).for_each(|_| _ = (take(at, 24), len(at)));
        for _ in 0..len(at) {
            string(at);
            take(at, if later > 1 { 16 } else { 8 });
            (0..len(at)).for_each(|_| _ = take(at, 16));
        }
        if later > 3 {
            (0..len(at)).for_each(|_| _ = take(at, 16));
        }
    }
    if later > 2 {
        (0..2).for_each(|_| _ = len(at));
        for _ in 0..len(at) {
            string(at);
            (0..len(at)).for_each(|_| _ = (string(at), len(at), len(at)));
        }
        (0..2).for_each(|_| _ = len(at));
    }
}
