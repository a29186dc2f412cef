//! What is taken down of a key.

use std::fmt;
use std::io::{self, Read};

use sluicegate_core::rdb::Family;
use sluicegate_core::rdb::functions::library_name;

use crate::rdb::dump::Key;
use crate::rdb::kinds::{Encoding, Type, meaning};
use crate::rdb::sort::Record;
use crate::rdb::{Counted, Value, value};

/// Stands for "no database" where a number is written.
const NO_DATABASE: u32 = u32::MAX;

/// A key of a dump, or a function library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holding {
    /// `None`: a function library. These come first.
    pub(super) db: Option<u32>,
    pub(super) name: Vec<u8>,
    /// Unix milliseconds.
    pub(super) expires_ms: Option<i64>,
    is_valkey: bool,
    /// The type byte.
    kind: u8,
    count: u64,
    digest: u128,
    pub(super) by_bytes: bool,
}

/// What can be said of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Different,
    /// They are not looked into, and are written in two ways.
    Undecided,
}

impl Holding {
    /// Of a key.
    pub(super) fn key(db: u32, family: Family, key: Key, value: Value) -> Self {
        let Value { count, digest, by_bytes, .. } = value;
        let (is_valkey, kind) = (family == Family::Valkey, key.kind);
        Self { db: Some(db), name: key.name, expires_ms: key.expires_ms, is_valkey, kind, count, digest, by_bytes }
    }

    /// Of a function library. One that does not say its name goes by its source.
    pub(super) fn library(source: &[u8]) -> Self {
        let name = library_name(source).unwrap_or(source).to_vec();
        let (digest, count) = (value::of_bytes(source), source.len() as u64);
        Self { db: None, name, expires_ms: None, is_valkey: false, kind: 0, count, digest, by_bytes: false }
    }

    /// Its type and encoding.
    fn meaning(&self) -> (Type, Encoding) {
        let family = if self.is_valkey { Family::Valkey } else { Family::Redis };
        meaning(family, self.kind)
    }

    /// Whether its value is the other's.
    pub(super) fn verdict(&self, other: &Self) -> Verdict {
        let written_alike = (self.kind, self.is_valkey) == (other.kind, other.is_valkey);
        let (left, right) = (self.meaning().0, other.meaning().0);
        let by_bytes = self.by_bytes || other.by_bytes;
        if left != right && left != Type::Other && right != Type::Other {
            Verdict::Different
        } else if by_bytes && (!written_alike || self.by_bytes != other.by_bytes) {
            Verdict::Undecided
        } else if (self.digest, self.count) == (other.digest, other.count) {
            Verdict::Same
        } else {
            Verdict::Different
        }
    }
}

/// Its value, in a few words.
impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.db, self.meaning()) {
            (None, _) => write!(f, "{}", Counted(self.count, "byte")),
            (_, (kind @ (Type::Other | Type::Module), _)) => write!(f, "{} (type {})", kind.name(), self.kind),
            (_, (kind, Encoding::Closed)) => f.write_str(kind.name()),
            (_, (kind, _)) => write!(f, "{} of {}", kind.name(), Counted(self.count, kind.part())),
        }
    }
}

impl Record for Holding {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.name.capacity()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.db.unwrap_or(NO_DATABASE).to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.push(u8::from(self.expires_ms.is_some()));
        out.extend_from_slice(&self.expires_ms.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&[u8::from(self.is_valkey), self.kind, u8::from(self.by_bytes)]);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
    }

    fn read(from: &mut dyn Read) -> io::Result<Self> {
        let db = Some(u32::from_le_bytes(array(from)?)).filter(|db| *db != NO_DATABASE);
        let (length, mut name) = (u64::from_le_bytes(array(from)?), Vec::new());
        (&mut *from).take(length).read_to_end(&mut name)?;
        let [expires] = array(from)?;
        let expires_ms = Some(i64::from_le_bytes(array(from)?)).filter(|_| expires == 1);
        let [is_valkey, kind, by_bytes] = array(from)?;
        let (count, digest) = (u64::from_le_bytes(array(from)?), u128::from_le_bytes(array(from)?));
        Ok(Self { db, name, expires_ms, is_valkey: is_valkey == 1, kind, count, digest, by_bytes: by_bytes == 1 })
    }
}

fn array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding() -> Holding {
        let (name, digest) = (b"key\xff".to_vec(), u128::MAX - 7);
        Holding { db: Some(3), name, expires_ms: Some(-1), is_valkey: true, kind: 22, count: 9, digest, by_bytes: true }
    }

    #[test]
    fn what_is_written_is_read() -> io::Result<()> {
        for written in [holding(), Holding { expires_ms: None, ..holding() }, Holding::library(b"#!lua name=x\n")] {
            let mut bytes = Vec::new();
            written.write(&mut bytes);
            assert_eq!(Holding::read(&mut bytes.as_slice())?, written);
        }
        Ok(())
    }

    #[test]
    fn values_that_are_not_looked_into_are_compared_only_where_they_are_written_alike() {
        let module = Holding { kind: 7, is_valkey: false, ..holding() };
        let other = Holding { digest: 0, ..module.clone() };
        assert_eq!(module.verdict(&module), Verdict::Same);
        assert_eq!(module.verdict(&other), Verdict::Different);
        assert_eq!(module.verdict(&Holding { kind: 6, ..module.clone() }), Verdict::Undecided);
        let (large, looked_into) =
            (Holding { kind: 10, ..module.clone() }, Holding { by_bytes: false, kind: 14, ..other });
        assert_eq!(large.verdict(&looked_into), Verdict::Undecided, "both are lists");
        assert_eq!(module.verdict(&looked_into), Verdict::Different, "a module is no list");
    }
}
