//! A replica as the stories see it: all bytes that it was sent, and what they come to.

use std::collections::BTreeMap;

use sluicegate_core::contract::{Drive, LinkId};

use super::rig::Rig;
use crate::support::{Heard, hear};

/// Larger than every frame of the stories.
const BOUND: usize = 64 << 20;

/// One link of a replica.
pub(crate) struct Replica {
    pub(crate) link: LinkId,
    pub(crate) bytes: Vec<u8>,
}

impl Replica {
    pub(crate) fn new(link: LinkId) -> Self {
        Self { link, bytes: Vec::new() }
    }

    /// Takes all that comes, as fast as it comes.
    pub(crate) fn drain(&mut self, rig: &mut Rig) {
        while self.take(rig, usize::MAX) > 0 {
            rig.settle();
        }
    }

    /// Takes at most so many bytes of what waits, and lets no turn pass.
    pub(crate) fn take(&mut self, rig: &mut Rig, max: usize) -> usize {
        let Some(outbox) = rig.machine.outbox(self.link) else { return 0 };
        let bytes: Vec<u8> = outbox.pieces(usize::MAX).flatten().copied().take(max).collect();
        outbox.advance(bytes.len());
        self.bytes.extend_from_slice(&bytes);
        bytes.len()
    }

    /// All that was heard. What is sent is never anything that a replica would refuse.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        let (heard, error) = hear(&self.bytes, &[4096], BOUND);
        assert_eq!(error, None);
        let mut expected = None;
        let mut in_snapshot = false;
        for heard in &heard {
            match heard {
                Heard::Ack(_, offset) => expected = Some(*offset),
                Heard::Begin => in_snapshot = true,
                Heard::End(next) => (in_snapshot, expected) = (false, Some(*next)),
                Heard::Ping(..) => assert!(!in_snapshot, "older replicas take nothing but pieces there"),
                Heard::Snapshot(_) => {}
                Heard::Frame { offset, .. } => {
                    assert_eq!(Some(*offset), expected, "no gap, and nothing twice");
                    expected = Some(offset + 1);
                }
            }
        }
        heard
    }

    /// All but signs of life: how many frames after what.
    pub(crate) fn told(&self) -> String {
        let mut told: Vec<String> = Vec::new();
        for heard in self.heard() {
            told.push(match heard {
                Heard::Ack(..) => "ack".into(),
                Heard::Begin => "snapshot".into(),
                Heard::Snapshot(_) => "pieces".into(),
                Heard::End(_) => "end".into(),
                Heard::Ping(..) => continue,
                Heard::Frame { args, .. } => {
                    args.iter().take(2).map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" ")
                }
            });
        }
        told.join(", ")
    }

    /// The generation and place that its next handshake would name.
    pub(crate) fn place(&self) -> (u64, u64) {
        let (mut generation, mut next) = (0, 0);
        for heard in self.heard() {
            match heard {
                Heard::Ack(of, offset) => (generation, next) = (of.unwrap_or(0), offset),
                Heard::End(offset) => next = offset,
                Heard::Frame { offset, .. } => next = offset + 1,
                Heard::Ping(..) | Heard::Begin | Heard::Snapshot(_) => {}
            }
        }
        (generation, next)
    }

    /// The offset at the end of its snapshot.
    pub(crate) fn base(&self) -> u64 {
        self.heard().into_iter().find_map(|heard| if let Heard::End(next) = heard { Some(next) } else { None }).unwrap()
    }

    /// The bytes of the snapshot that it got.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let pieces = self.heard().into_iter();
        pieces
            .filter_map(|heard| if let Heard::Snapshot(bytes) = heard { Some(bytes) } else { None })
            .flatten()
            .collect()
    }

    /// How long each piece of its snapshot is.
    pub(crate) fn pieces(&self) -> Vec<usize> {
        let (mut rest, mut pieces) = (&self.bytes[..], Vec::new());
        while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = std::str::from_utf8(&rest[..end]).unwrap();
            rest = &rest[end + 2..];
            match line.strip_prefix('$').map(|bytes| bytes.parse::<usize>().unwrap()) {
                Some(bytes) => {
                    pieces.push(bytes);
                    rest = &rest[bytes + 2..];
                }
                None if line.starts_with("+SNAPSHOT_END") => break,
                None => {}
            }
        }
        pieces
    }

    /// What it holds, as `key=value`, if it began with nothing.
    pub(crate) fn keys(&self) -> String {
        self.keys_after(BTreeMap::new())
    }

    /// What it holds, if it began with these.
    pub(crate) fn keys_after(&self, mut keys: BTreeMap<String, String>) -> String {
        let mut body = Vec::new();
        for heard in self.heard() {
            match heard {
                Heard::Begin => body.clear(),
                Heard::Snapshot(bytes) => body.extend(bytes),
                Heard::End(_) => keys = loaded(&body),
                Heard::Frame { args, .. } => applied(&mut keys, &args),
                Heard::Ack(..) | Heard::Ping(..) => {}
            }
        }
        keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

fn applied(keys: &mut BTreeMap<String, String>, args: &[Vec<u8>]) {
    let args: Vec<String> = args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["SET", key, value] => drop(keys.insert(key.into(), value.into())),
        ["APPEND", key, value] => keys.entry(key.into()).or_default().push_str(value),
        ["PING"] => {}
        ["FLUSHALL"] => keys.clear(),
        ["DEL", key] => drop(keys.remove(key)),
        ref other => panic!("no story has {other:?}"),
    }
}

/// A snapshot of strings, read plainly.
fn loaded(body: &[u8]) -> BTreeMap<String, String> {
    assert_eq!(&body[..8], b"KEVYSNAP");
    let mut rest = &body[if body[8] >= 5 { 25 } else { 9 }..];
    let mut keys = BTreeMap::new();
    let text = |rest: &mut &[u8]| {
        let (length, behind) = rest.split_first_chunk::<4>().unwrap();
        let (text, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        *rest = behind;
        String::from_utf8(text.to_vec()).unwrap()
    };
    while rest[0] != 0 {
        assert_eq!(rest[..2], [1, 0], "a string without an expiry");
        rest = &rest[2..];
        let key = text(&mut rest);
        let value = text(&mut rest);
        assert_eq!(keys.insert(key, value), None, "no key twice");
    }
    assert_eq!(rest.len(), 1);
    keys
}
