//! The stream that every end-to-end case carries, and what must come out of a view of it.

use anyhow::{Result, ensure};
use sluicegate_core::resp;

use crate::wire;

/// What a view makes of a key, as the bench's own code says it; the plugins under test have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// No plugin: every byte passes.
    Plain,
    /// `key-filter` keeps `user:*` and `end:*`.
    Filter,
    /// `key-rename` makes `u:*` of `user:*`.
    Rename,
    /// Both, the filter first.
    FilterRename,
}

impl View {
    /// The key's name in the view, if the view has it.
    pub(crate) fn apply(self, key: &[u8]) -> Option<Vec<u8>> {
        let user = key.strip_prefix(b"user:");
        let kept = user.is_some() || key.starts_with(b"end:") || matches!(self, Self::Plain | Self::Rename);
        match (user, self) {
            _ if !kept => None,
            (Some(rest), Self::Rename | Self::FilterRename) => Some([b"u:", rest].concat()),
            _ => Some(key.to_vec()),
        }
    }

    /// The plugins of the view, in order.
    pub(crate) fn pipeline(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Filter => &["filter"],
            Self::Rename => &["rename"],
            Self::FilterRename => &["filter", "rename"],
        }
    }
}

/// Length of every SET of the stream.
pub(crate) const FRAME_BYTES: usize = 106;
/// Bytes of its value: what is left beside the RESP words and a key of 17 bytes.
const VALUE_BYTES: usize = 62;
/// How many different keys of each family there are: so few that the tables of the chained replicas stay small, which is
/// kind to them.
const KEYS: u64 = 100_000;
/// The last frame; every view keeps it under this name.
pub(crate) const MARKER: &[u8] = b"*3\r\n$3\r\nSET\r\n$10\r\nend:marker\r\n$16\r\nthe-stream-ends!\r\n";

/// A pseudo-random number that depends on `index` alone (splitmix64).
pub(crate) fn noise(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Key of SET number `index`: half `user:`, half `sess:`, in an order that no branch predictor learns.
pub(crate) fn key(index: u64) -> [u8; 17] {
    let mut key = if noise(index) >> 63 == 0 { *b"user:000000000000" } else { *b"sess:000000000000" };
    write_digits(&mut key[5..], index % KEYS);
    key
}

/// Value of SET number `index`, like no other.
pub(crate) fn value(index: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'.'; VALUE_BYTES];
    write_digits(&mut value[..20], index);
    value
}

/// Fills `digits` with `n`, zeros in front.
fn write_digits(digits: &mut [u8], mut n: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// `SELECT 0`, `frames` SETs and the marker, as a primary would write them.
pub(crate) fn build(frames: u64) -> Vec<u8> {
    let mut out = wire::command(&[b"SELECT", b"0"]);
    out.reserve_exact(frames as usize * FRAME_BYTES + MARKER.len());
    for index in 0..frames {
        resp::write_command(&mut out, &[b"SET", &key(index), &value(index)]);
    }
    out.extend_from_slice(MARKER);
    out
}

/// Bytes of the SETs and the marker as `view` has them.
pub(crate) fn bytes_expected(frames: u64, view: View) -> u64 {
    let sets = (0..frames).filter_map(|index| {
        let renamed = view.apply(&key(index))?;
        // Every name here has two digits of length, so only the name itself changes the frame's length.
        Some((FRAME_BYTES - 17 + renamed.len()) as u64)
    });
    sets.sum::<u64>() + MARKER.len() as u64
}

/// Compares what comes out of a view with what must, frame by frame.
pub(crate) struct Checker {
    view: View,
    frames: u64,
    next: u64,
    rest: Vec<u8>,
    /// Bytes of frames that a server may add: SELECT, PING, GETACK.
    pub(crate) added_bytes: u64,
}

impl Checker {
    /// A checker for the stream of `frames` SETs.
    pub(crate) fn new(frames: u64, view: View) -> Self {
        Self { view, frames, next: 0, rest: Vec::new(), added_bytes: 0 }
    }

    /// Takes the next bytes; `true` once the marker has come in its place.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut at = 0;
        let mut ended = false;
        while let Some(frame) = wire::frame(&rest[at..])? {
            ensure!(!ended, "a frame behind the marker");
            ended = self.check(&frame)?;
            at += frame.len;
        }
        rest.drain(..at);
        self.rest = rest;
        Ok(ended)
    }

    fn check(&mut self, frame: &wire::Frame<'_>) -> Result<bool> {
        if !frame.args[0].eq_ignore_ascii_case(b"SET") {
            let known =
                [&b"SELECT"[..], b"PING", b"REPLCONF"].iter().any(|name| frame.args[0].eq_ignore_ascii_case(name));
            ensure!(known, "a frame that nobody sent: {}", frame.args[0].escape_ascii());
            self.added_bytes += frame.len as u64;
            return Ok(false);
        }
        while self.next < self.frames {
            let index = self.next;
            self.next += 1;
            if let Some(name) = self.view.apply(&key(index)) {
                let same = frame.args[1..] == [&name[..], &value(index)[..]];
                ensure!(same, "SET {} came where SET {} was due", frame.args[1].escape_ascii(), name.escape_ascii());
                return Ok(false);
            }
        }
        ensure!(frame.args[1] == b"end:marker", "SET {} came where the marker was due", frame.args[1].escape_ascii());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: u64 = 200;

    /// What a right view would send, without SET `missing`.
    fn view_of(view: View, missing: Option<u64>) -> Vec<u8> {
        let mut out = wire::command(&[b"SELECT", b"0"]);
        for index in (0..FRAMES).filter(|index| Some(*index) != missing) {
            if let Some(name) = view.apply(&key(index)) {
                resp::write_command(&mut out, &[b"SET", &name, &value(index)]);
            }
        }
        out.extend_from_slice(MARKER);
        out
    }

    fn check(view: View, bytes: &[u8], step: usize) -> Result<bool> {
        let mut checker = Checker::new(FRAMES, view);
        let mut ended = false;
        for part in bytes.chunks(step) {
            ended = checker.feed(part)?;
        }
        Ok(ended)
    }

    #[test]
    fn every_frame_has_the_length_that_the_report_claims() {
        assert_eq!(build(FRAMES).len(), 23 + FRAMES as usize * FRAME_BYTES + MARKER.len());
    }

    #[test]
    fn the_checker_knows_a_right_stream_however_it_is_cut() {
        for view in [View::Plain, View::Filter, View::Rename, View::FilterRename] {
            let right = view_of(view, None);
            assert_eq!(right.len() as u64, 23 + bytes_expected(FRAMES, view), "{view:?}");
            for step in [1, 7, 106, right.len()] {
                assert!(check(view, &right, step).expect("a right stream"), "{view:?} in reads of {step}");
            }
        }
    }

    #[test]
    fn a_missing_frame_is_noticed() {
        for missing in (0..FRAMES).filter(|index| View::FilterRename.apply(&key(*index)).is_some()) {
            let wrong = view_of(View::FilterRename, Some(missing));
            assert!(check(View::FilterRename, &wrong, wrong.len()).is_err(), "SET {missing}");
        }
    }
}
