//! A value as what it is made of, whatever its encoding: the same set is the same whether it is written as a table, a listpack
//! or an intset, and in whatever order.
//!
//! Elements are folded into a digest while they come. Of what servers write as one packed blob, the blob is held, up to
//! [`BLOB_BYTES_MAX`]; what is larger, or does not hold together, or is a module's, counts as the bytes that it is.

mod packed;
mod stream;
mod wire;

use std::io;

use sluicegate_core::rdb::Family;

use self::packed::{Broken, Entry};
use self::wire::Wire;
use super::Dump;
use super::dump::Key;
use super::kinds::{Encoding, Type, meaning};
use crate::compare::elements::{Element, Folding, folded};

/// The largest blob that is looked into, unpacked. Bytes. Servers keep these to some kilobytes, unless they are told otherwise
/// or one element is larger.
const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a value came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Type,
    pub(super) encoding: Encoding,
    /// How many elements it has, of a string how many bytes; 0 if it was not looked into.
    pub(super) count: u64,
    /// Of the elements.
    pub(super) digest: u128,
    /// Whether some of it counted as the bytes that it is: another digest may then stand for the same value in another
    /// encoding.
    pub(super) by_bytes: bool,
}

/// Reads the value of `key`, which came last.
///
/// # Errors
/// The file is damaged, or cannot be read.
pub(super) fn read(dump: &mut Dump, family: Family, key: &Key) -> io::Result<Value> {
    let mut reading = Reading { wire: Wire(dump.value()), sum: Sum::new(false), by_bytes: false };
    reading.value(family, key.kind).map_err(|error| match error.kind() {
        // What is wrong with the file itself, or with the disk, is said by who reads it.
        io::ErrorKind::Other | io::ErrorKind::UnexpectedEof => dump.broken_value(key, &error),
        _ => error,
    })
}

/// Elements, folded.
#[derive(Debug, Clone, Copy)]
struct Sum {
    ordered: bool,
    count: u64,
    digest: u128,
}

impl Sum {
    fn new(ordered: bool) -> Self {
        Self { ordered, count: 0, digest: 0 }
    }

    fn push(&mut self, element: &Element) {
        self.count += 1;
        self.digest = folded(self.digest, element, self.ordered);
    }
}

/// A value on its way.
struct Reading<'d> {
    wire: Wire<'d>,
    sum: Sum,
    by_bytes: bool,
}

impl Reading<'_> {
    fn value(&mut self, family: Family, kind: u8) -> io::Result<Value> {
        let (kind, encoding) = meaning(family, kind);
        self.sum.ordered = kind == Type::List;
        let (count, digest) = match encoding {
            Encoding::Closed => self.closed()?,
            Encoding::Text => self.string()?,
            Encoding::Stream(layout) => stream::read(self, layout)?,
            _ => {
                self.elements(kind, encoding)?;
                (self.sum.count, self.sum.digest)
            }
        };
        Ok(Value { kind, encoding, count, digest, by_bytes: self.by_bytes })
    }

    /// All that is left, as bytes.
    fn closed(&mut self) -> io::Result<(u64, u128)> {
        self.by_bytes = true;
        let mut folding = Folding::new(usize::MAX, false);
        self.wire.rest(|piece| folding.push(piece))?;
        Ok((0, folded(0, &folding.finish(), false)))
    }

    fn string(&mut self) -> io::Result<(u64, u128)> {
        let head = self.wire.head()?;
        let element = self.folded(head, true)?;
        Ok((head.length(), folded(0, &element, false)))
    }

    fn elements(&mut self, kind: Type, encoding: Encoding) -> io::Result<()> {
        match encoding {
            Encoding::Ziplists => return self.times(|reading| reading.blob(kind, encoding)),
            Encoding::Nodes => return self.times(Self::node),
            Encoding::Intset | Encoding::Ziplist | Encoding::Listpack => return self.blob(kind, encoding),
            Encoding::ExpiringListpack => {
                self.wire.array::<8>()?;
                return self.blob(kind, encoding);
            }
            _ => {}
        }
        let from = if encoding == Encoding::ExpiringFrom { i64::from_le_bytes(self.wire.array()?) } else { 0 };
        self.times(|reading| {
            let element = match encoding {
                Encoding::Pairs => Element::joined(&[reading.element()?, reading.element()?]),
                Encoding::Scores => Element::joined(&[reading.element()?, Element::score(reading.wire.score()?)]),
                Encoding::BinaryScores => {
                    let member = reading.element()?;
                    Element::joined(&[member, Element::score(f64::from_le_bytes(reading.wire.array()?))])
                }
                Encoding::Expiring => {
                    let (field, value) = (reading.element()?, reading.element()?);
                    let expiry = i64::from_le_bytes(reading.wire.array()?);
                    expiring(field, value, (expiry != -1).then_some(expiry))
                }
                Encoding::ExpiringFrom => {
                    // Counted from 1, so that 0 can stand for none.
                    let behind = i64::try_from(reading.wire.length()?).unwrap_or(i64::MAX);
                    let expiry = (behind != 0).then(|| from.saturating_add(behind - 1));
                    expiring(reading.element()?, reading.element()?, expiry)
                }
                _ => reading.element()?,
            };
            reading.sum.push(&element);
            Ok(())
        })
    }

    /// Does something as often as a length says.
    fn times(&mut self, mut each: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let count = self.wire.length()?;
        (0..count).try_for_each(|_| each(self))
    }

    /// A node of a list.
    fn node(&mut self) -> io::Result<()> {
        /// The mark of a node that is one element.
        const PLAIN: u64 = 1;
        if self.wire.length()? == PLAIN {
            let element = self.element()?;
            self.sum.push(&element);
            return Ok(());
        }
        self.blob(Type::List, Encoding::Listpack)
    }

    /// One blob with many elements in it.
    fn blob(&mut self, kind: Type, encoding: Encoding) -> io::Result<()> {
        self.look_into(|blob, sum| {
            let mut entries = match encoding {
                Encoding::Intset => packed::intset(blob),
                Encoding::Ziplist | Encoding::Ziplists => packed::ziplist(blob),
                _ => packed::listpack(blob),
            }?;
            while let Some(entry) = entries.next() {
                let first = entry?;
                let mut second = || entries.next().ok_or(Broken)?;
                let element = match (kind, encoding) {
                    (Type::SortedSet, _) => {
                        let score = packed::number(second()?).ok_or(Broken)?;
                        Element::joined(&[element_of(first), Element::score(score)])
                    }
                    (Type::Hash, Encoding::ExpiringListpack) => {
                        let (value, expiry) = (second()?, packed::integer(second()?).ok_or(Broken)?);
                        expiring(element_of(first), element_of(value), (expiry != 0).then_some(expiry))
                    }
                    (Type::Hash, _) => Element::joined(&[element_of(first), element_of(second()?)]),
                    _ => element_of(first),
                };
                sum.push(&element);
            }
            Ok(())
        })
    }

    /// Holds a blob and lets it be looked into. One that is too large, or is broken, counts as the bytes that it is.
    fn look_into(&mut self, look: impl FnOnce(&[u8], &mut Sum) -> Result<(), Broken>) -> io::Result<()> {
        let head = self.wire.head()?;
        let mut blob = Vec::new();
        if head.length() <= BLOB_BYTES_MAX as u64 {
            self.wire.pour(head, |piece| blob.extend_from_slice(piece))?;
            let before = self.sum;
            if look(&blob, &mut self.sum).is_ok() {
                return Ok(());
            }
            self.sum = before;
        }
        self.by_bytes = true;
        let element = match blob.is_empty() {
            true => self.folded(head, false)?,
            false => whole(&blob),
        };
        self.sum.push(&element);
        Ok(())
    }

    fn element(&mut self) -> io::Result<Element> {
        let head = self.wire.head()?;
        self.folded(head, false)
    }

    fn folded(&mut self, head: wire::Head, is_value: bool) -> io::Result<Element> {
        let mut folding = Folding::new(usize::try_from(head.length()).unwrap_or(usize::MAX), is_value);
        self.wire.pour(head, |piece| folding.push(piece))?;
        Ok(folding.finish())
    }
}

fn expiring(field: Element, value: Element, expiry: Option<i64>) -> Element {
    match expiry {
        // As a field of a hash whose fields cannot expire.
        None => Element::joined(&[field, value]),
        Some(ms) => Element::joined(&[field, value, Element::phrase(&format!("expires {ms}"))]),
    }
}

/// An entry of a blob: its number is the text that it stands for.
fn element_of(entry: Entry<'_>) -> Element {
    match entry {
        Entry::Text(text) => whole(text),
        Entry::Number(number) => Element::phrase(&number.to_string()),
    }
}

fn whole(bytes: &[u8]) -> Element {
    let mut folding = Folding::new(bytes.len(), false);
    folding.push(bytes);
    folding.finish()
}

/// The digest of something that is no value.
pub(super) fn of_bytes(bytes: &[u8]) -> u128 {
    folded(0, &whole(bytes), false)
}
