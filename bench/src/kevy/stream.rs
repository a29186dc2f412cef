//! The stream of the live cases: the SETs of the other protocol's, each in an envelope with its offset.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use sluicegate_core::resp;

use crate::stream::{self, FRAME_BYTES, MARKER, View};
use crate::wire;

/// The history that the canned primary tells.
pub(super) const GENERATION: u64 = 6_044_966_812_509_414;
/// The offset of its first frame: all offsets of a run have as many digits.
pub(super) const FIRST: u64 = 1_000_000_000;
/// What an envelope has beside the digits of its offset.
const ENVELOPE_BYTES: u64 = 7;
/// Bytes that a primary may add of its own (signs of life) without the count being wrong.
const ADDED_BYTES_MAX: u64 = 4096;

/// `frames` SETs, the marker and a sign of life, as a primary would write them.
pub(super) fn build(frames: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity((frames + 2) as usize * (FRAME_BYTES + 17));
    for index in 0..frames {
        envelope(&mut out, FIRST + index);
        resp::write_command(&mut out, &[b"SET", &stream::key(index), &stream::value(index)]);
    }
    envelope(&mut out, FIRST + frames);
    out.extend_from_slice(MARKER);
    out.extend_from_slice(format!("+PING {GENERATION} {}\r\n", end(frames)).as_bytes());
    out
}

/// The offset behind the stream of `frames` SETs and the marker.
pub(super) fn end(frames: u64) -> u64 {
    FIRST + frames + 1
}

fn envelope(out: &mut Vec<u8>, offset: u64) {
    // Writing to memory cannot fail.
    let _ = write!(out, "*2\r\n:{offset}\r\n");
}

/// Knows the end of a view's stream, without looking at the rest, and how many bytes it must have.
pub(super) struct Ending {
    marker: Vec<u8>,
    expected: u64,
    bytes: u64,
    tail: Vec<u8>,
}

impl Ending {
    /// For the stream of `frames` SETs in `view`, whose first frame there has the offset `first`.
    pub(super) fn new(frames: u64, view: View, first: u64) -> Result<Self> {
        let inner = stream::bytes_expected(frames, view);
        let kept = (inner - MARKER.len() as u64) / FRAME_BYTES as u64;
        let mut marker = Vec::new();
        envelope(&mut marker, first + kept);
        let envelope_bytes = marker.len() as u64;
        ensure!(first.to_string().len() as u64 == envelope_bytes - ENVELOPE_BYTES, "offsets of unequal length");
        marker.extend_from_slice(MARKER);
        Ok(Self { marker, expected: inner + (kept + 1) * envelope_bytes, bytes: 0, tail: Vec::new() })
    }

    /// Takes the next bytes; `true` if they end with the marker, in the place that the frames before it leave it.
    pub(super) fn feed(&mut self, read: &[u8]) -> bool {
        self.bytes += read.len() as u64;
        let room = 4 * self.marker.len();
        self.tail.extend_from_slice(&read[read.len().saturating_sub(room)..]);
        let excess = self.tail.len().saturating_sub(room);
        self.tail.drain(..excess);
        let mut tail = &self.tail[..];
        while let Some(line) = tail.strip_suffix(b"\r\n")
            && let Some(before) = line.iter().rposition(|&byte| byte == b'\n')
            && line[before + 1..].starts_with(b"+PING ")
        {
            tail = &tail[..=before];
        }
        tail.ends_with(&self.marker)
    }

    /// How many bytes came, less those that had to.
    pub(super) fn added(&self) -> Result<u64> {
        let added = self.bytes.checked_sub(self.expected).filter(|&added| added <= ADDED_BYTES_MAX);
        added.with_context(|| format!("{} bytes came out, {} were due", self.bytes, self.expected))
    }
}

/// Compares every frame that comes out of a view, and its offset, with what must.
pub(super) struct Checker {
    inner: stream::Checker,
    next: u64,
    rest: Vec<u8>,
    /// Bytes of signs of life.
    pub(super) added_bytes: u64,
}

impl Checker {
    /// For the stream of `frames` SETs in `view`, whose first frame there has the offset `first`.
    pub(super) fn new(frames: u64, view: View, first: u64) -> Self {
        Self { inner: stream::Checker::new(frames, view), next: first, rest: Vec::new(), added_bytes: 0 }
    }

    /// Takes the next bytes; `true` once the marker has come in its place.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let (mut at, mut ended) = (0, false);
        while let Some(taken) = self.event(&rest[at..], &mut ended)? {
            at += taken;
        }
        rest.drain(..at);
        self.rest = rest;
        Ok(ended)
    }

    /// The length of the event at the front, once all of it is there.
    fn event(&mut self, bytes: &[u8], ended: &mut bool) -> Result<Option<usize>> {
        if bytes.first() == Some(&b'+') {
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
            ensure!(bytes.starts_with(b"+PING "), "{} in the stream", bytes[..end].escape_ascii());
            self.added_bytes += end as u64 + 1;
            return Ok(Some(end + 1));
        }
        let Some(end) = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).map(|(at, _)| at) else {
            return Ok(None);
        };
        let offset = bytes[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(b"*2\r\n:"));
        let offset = offset.and_then(resp::decimal);
        ensure!(offset == Some(self.next), "{} where {} was due", bytes[..end].escape_ascii(), self.next);
        let inner = &bytes[end + 1..];
        let Some(frame) = wire::frame(inner)? else { return Ok(None) };
        ensure!(!*ended, "a frame behind the marker");
        self.next += 1;
        *ended = self.inner.feed(&inner[..frame.len])?;
        Ok(Some(end + 1 + frame.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: u64 = 200;

    /// What a right view would send, without SET `missing`.
    fn view_of(view: View, missing: Option<u64>) -> Vec<u8> {
        let (mut out, mut next) = (b"+PING 1 5000\r\n".to_vec(), 5000);
        for index in (0..FRAMES).filter(|index| Some(*index) != missing) {
            if let Some(name) = view.apply(&stream::key(index)) {
                envelope(&mut out, next);
                resp::write_command(&mut out, &[b"SET", &name, &stream::value(index)]);
                next += 1;
            }
        }
        envelope(&mut out, next);
        out.extend_from_slice(MARKER);
        out
    }

    #[test]
    fn a_right_stream_is_known_however_it_is_cut() {
        for view in [View::Plain, View::Filter] {
            let right = view_of(view, None);
            for step in [1, 7, 129, right.len()] {
                let mut checker = Checker::new(FRAMES, view, 5000);
                let mut ending = Ending::new(FRAMES, view, 5000).expect("offsets of four digits");
                let (mut checked, mut ended) = (false, false);
                for part in right.chunks(step) {
                    checked = checker.feed(part).expect("a right stream");
                    ended = ending.feed(part);
                }
                assert!(checked && ended, "{view:?} in reads of {step}");
                assert_eq!((ending.added().ok(), checker.added_bytes), (Some(14), 14), "{view:?}");
                assert!(ending.feed(b"+PING 1 5201\r\n"), "a sign of life may come in the same read");
            }
        }
    }

    #[test]
    fn a_missing_frame_is_noticed() {
        for missing in (0..FRAMES).filter(|index| View::Filter.apply(&stream::key(*index)).is_some()) {
            let wrong = view_of(View::Filter, Some(missing));
            assert!(Checker::new(FRAMES, View::Filter, 5000).feed(&wrong).is_err(), "SET {missing}");
            let mut ending = Ending::new(FRAMES, View::Filter, 5000).expect("offsets of four digits");
            assert!(!ending.feed(&wrong) && ending.added().is_err(), "SET {missing}");
        }
    }

    #[test]
    fn what_the_canned_primary_sends_is_what_it_should() {
        let built = build(FRAMES);
        let mut checker = Checker::new(FRAMES, View::Plain, FIRST);
        assert!(checker.feed(&built).expect("a right stream"));
        assert_eq!(checker.next, end(FRAMES));
    }
}
