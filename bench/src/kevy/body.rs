//! KEVYSNAP bodies of plain strings: a small one is written, large ones are checked key by key.

use anyhow::{Context, Result, ensure};

use crate::stream::{View, noise, value};

/// The byte behind the last record.
pub(super) const END: u8 = 0;
const STRING: u8 = 1;
/// The version that a server writes whose keys have no fields with deadlines.
const VERSION: u8 = 4;
/// Bytes of one record of the dataset: kind, no deadline, key and value with their lengths.
const RECORD_BYTES: u64 = 1 + 1 + 4 + 17 + 4 + 62;

/// The head of a body.
pub(super) fn begin() -> Vec<u8> {
    [&b"KEVYSNAP"[..], &[VERSION]].concat()
}

/// A string without a deadline.
pub(super) fn write_string(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(&[STRING, 0]);
    for bytes in [key, value] {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

/// So many small strings, half of them `user:*`.
#[derive(Clone, Copy)]
pub(super) struct Dataset {
    /// How many keys.
    pub(super) keys: u64,
}

impl Dataset {
    /// One that makes a body of so many MiB.
    pub(super) fn new(mebibytes: u64) -> Self {
        Self { keys: (mebibytes << 20) / RECORD_BYTES }
    }

    /// Length of the body of all of it.
    pub(super) fn body_bytes(self) -> u64 {
        begin().len() as u64 + self.keys * RECORD_BYTES + 1
    }

    /// Key number `index`.
    pub(super) fn key(index: u64) -> Vec<u8> {
        let family = if noise(index) >> 63 == 0 { "user" } else { "sess" };
        format!("{family}:{index:012}").into_bytes()
    }

    /// Fails unless `body` holds exactly what `view` has of the dataset, in any order. Returns how many keys those are.
    pub(super) fn check(self, view: View, body: &[u8]) -> Result<u64> {
        let mut rest = body.strip_prefix(&begin()[..]).context("not the head of a body")?;
        let mut seen = vec![false; self.keys as usize];
        let mut count = 0;
        while let Some((&STRING, record)) = rest.split_first() {
            let record = record.strip_prefix(&[0]).context("a deadline")?;
            let (key, record) = bytes(record)?;
            let (content, after) = bytes(record)?;
            let index: u64 = std::str::from_utf8(key.get(5..).context("a short key")?)?.parse()?;
            let place = seen.get_mut(index as usize).context("a key that is not in the dataset")?;
            ensure!(!std::mem::replace(place, true), "{} came twice", key.escape_ascii());
            let due = view.apply(&Self::key(index));
            ensure!(due.as_deref() == Some(key), "{} is not in the view", key.escape_ascii());
            ensure!(content == value(index), "{} has another value", key.escape_ascii());
            (rest, count) = (after, count + 1);
        }
        ensure!(rest == [END], "{} bytes instead of the end", rest.len());
        let due = (0..self.keys).filter(|index| view.apply(&Self::key(*index)).is_some()).count() as u64;
        ensure!(count == due, "{count} keys came, {due} were due");
        Ok(count)
    }
}

fn bytes(from: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = from.split_first_chunk::<4>().context("a cut record")?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).context("a cut record")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(dataset: Dataset, view: View, missing: Option<u64>) -> Vec<u8> {
        let mut body = begin();
        // Any order will do.
        for index in (0..dataset.keys).rev().filter(|index| Some(*index) != missing) {
            if let Some(name) = view.apply(&Dataset::key(index)) {
                write_string(&mut body, &name, &value(index));
            }
        }
        body.push(END);
        body
    }

    #[test]
    fn a_right_body_is_known_and_every_wrong_one() {
        let dataset = Dataset { keys: 50 };
        let kept: Vec<u64> = (0..50).filter(|index| View::Filter.apply(&Dataset::key(*index)).is_some()).collect();
        let right = body_of(dataset, View::Filter, None);
        assert_eq!(dataset.check(View::Filter, &right).expect("a right body"), kept.len() as u64);
        assert_eq!(body_of(dataset, View::Plain, None).len() as u64, dataset.body_bytes());
        assert_eq!(right.len() as u64, 10 + kept.len() as u64 * RECORD_BYTES);
        for missing in kept {
            assert!(dataset.check(View::Filter, &body_of(dataset, View::Filter, Some(missing))).is_err());
        }
        assert!(dataset.check(View::Filter, &body_of(dataset, View::Plain, None)).is_err(), "more than the view has");
        assert!(dataset.check(View::Filter, &right[..right.len() - 1]).is_err(), "without its end");
        let mut corrupt = right.clone();
        corrupt[right.len() - 3] ^= 1;
        assert!(dataset.check(View::Filter, &corrupt).is_err(), "a wrong byte in the last value");
    }
}
