//! Histories and places in them.
//!
//! A history is named by a replication id; an offset counts the bytes of the stream since the history began. An offset in
//! this crate always says how many bytes lie *before* a place, so a replica that holds bytes `1..=N` stands at `N` and asks
//! for byte `N + 1`, as PSYNC has it.

use core::fmt;

/// A replication id: 40 lower-case hexadecimal characters that name a history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplId([u8; 40]);

impl ReplId {
    /// Reads an id as a peer writes it; case does not matter. `None` unless it is 40 hexadecimal characters.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut id: [u8; 40] = bytes.try_into().ok()?;
        for byte in &mut id {
            if !byte.is_ascii_hexdigit() {
                return None;
            }
            byte.make_ascii_lowercase();
        }
        Some(Self(id))
    }

    /// Makes an id of 20 random bytes.
    pub fn from_entropy(random: [u8; 20]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0; 40];
        for (pair, byte) in id.chunks_exact_mut(2).zip(random) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(id)
    }

    /// The 40 characters.
    pub fn as_bytes(&self) -> &[u8; 40] {
        &self.0
    }

    /// The 40 characters as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first eight characters: enough for a person to tell two histories apart in a log.
    pub fn short(&self) -> &str {
        self.as_str().get(..8).unwrap_or_default()
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A history and the one it continues, as PSYNC2 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The history's id.
    pub id: ReplId,
    /// The id under which the same bytes were known earlier, and the highest PSYNC offset that may be asked for under it.
    pub second: Option<(ReplId, u64)>,
}

impl History {
    /// A history that continues no other.
    pub fn new(id: ReplId) -> Self {
        Self { id, second: None }
    }

    /// The history goes on under `id`; the old id stays good up to `end`, the bytes known so far.
    pub fn renamed(self, id: ReplId, end: u64) -> Self {
        Self { id, second: Some((self.id, end.saturating_add(1))) }
    }

    /// Answers `PSYNC id offset`, where bytes `start + 1 ..= end` are kept.
    pub fn decide(&self, id: &ReplId, psync_offset: i64, start: u64, end: u64) -> Asked {
        let named = *id == self.id
            || self.second.is_some_and(|(second, limit)| {
                *id == second && u64::try_from(psync_offset).is_ok_and(|offset| offset <= limit)
            });
        if !named {
            return Asked::Foreign;
        }
        match u64::try_from(psync_offset).ok().and_then(|offset| offset.checked_sub(1)) {
            Some(held) if held > end => Asked::Future,
            Some(held) if held >= start => Asked::Found(held),
            _ => Asked::TooOld,
        }
    }
}

/// What becomes of a replica that asks to go on from some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It goes on: it holds this many bytes of our history.
    Found(u64),
    /// What it lacks is no longer kept: a snapshot.
    TooOld,
    /// It claims to hold more than there is: a snapshot, and a line in the log.
    Future,
    /// It follows another history: a snapshot.
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ReplId {
        ReplId::from_entropy([n; 20])
    }

    #[test]
    fn an_id_is_forty_hexadecimal_characters() {
        assert_eq!(ReplId::parse(&[b'A'; 40]).unwrap().as_str(), "a".repeat(40));
        assert_eq!(ReplId::parse(&[b'g'; 40]), None);
        assert_eq!(ReplId::parse(&[b'a'; 39]), None);
    }

    extern crate alloc;

    #[test]
    fn partial_resync_is_granted_exactly_where_the_next_byte_is_held() {
        let history = History::new(id(1)).renamed(id(2), 100);
        let table: &[(ReplId, i64, Asked)] = &[
            (id(2), 51, Asked::Found(50)),
            (id(2), 50, Asked::TooOld),
            (id(2), 201, Asked::Found(200)),
            (id(2), 202, Asked::Future),
            (id(1), 101, Asked::Found(100)),
            (id(1), 102, Asked::Foreign),
            (id(3), 60, Asked::Foreign),
            (id(2), 0, Asked::TooOld),
            (id(2), -2, Asked::TooOld),
            (id(2), i64::MAX, Asked::Future),
            (id(2), i64::MIN, Asked::TooOld),
        ];
        for (asked, offset, expected) in table {
            assert_eq!(history.decide(asked, *offset, 50, 200), *expected, "PSYNC {asked} {offset}");
        }
    }
}
