//! What a value is made of, folded while it comes: however large it is, only its beginning is held.

use std::collections::BTreeSet;
use std::io;

use sha2::{Digest, Sha256};

use crate::client::{Connection, Head, broken};

/// Bytes of elements that are held to say later which of them differs.
const HELD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one element that are held.
const TEXT_BYTES_MAX: usize = 256;
/// A HyperLogLog keeps the number that it last counted in these bytes: a memory of a question, not a part of the value.
const COUNTED: std::ops::Range<usize> = 8..16;
/// With all of its registers a HyperLogLog is exactly this long.
const DENSE_BYTES: usize = 16 + 12_288;

/// The first half of a SHA-256: who does not look for them meets no two values with the same.
pub(super) fn digest(hash: Sha256) -> u128 {
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// How the elements stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One string is the whole value.
    Text,
    /// In an order that counts.
    List,
    /// In any order.
    Set,
    /// Two by two, in any order: fields and values.
    Pairs,
    /// Two by two: members and scores.
    Scored,
    /// An id and a list of fields and values, each.
    Entries,
}

/// One element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// How it begins.
    pub(super) text: Vec<u8>,
    digest: u128,
}

impl Element {
    /// One that is made of a phrase.
    pub(crate) fn phrase(text: &str) -> Self {
        Self { text: text.into(), digest: digest(Sha256::new_with_prefix(text)) }
    }

    /// A member's score. Servers write the same one in several ways: `0.1`, `0.10000000000000001`; -0 is 0 in a listpack.
    pub(crate) fn score(number: f64) -> Self {
        Self::phrase(&format!("{:?}", number + 0.0))
    }

    /// Several as one.
    pub(crate) fn joined(parts: &[Self]) -> Self {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part.digest.to_be_bytes()));
        let mut text = parts.iter().map(|part| part.text.as_slice()).collect::<Vec<_>>().join(&b" "[..]);
        text.truncate(TEXT_BYTES_MAX);
        Self { text, digest: digest(hash) }
    }
}

/// An element that is folded while its bytes come.
#[derive(Debug)]
pub(crate) struct Folding {
    text: Vec<u8>,
    hash: Sha256,
    length: usize,
    is_value: bool,
}

impl Folding {
    /// One of so many bytes, or of at most so many. `is_value`: it is a whole value, and may be a HyperLogLog.
    pub(crate) fn new(length: usize, is_value: bool) -> Self {
        Self { text: Vec::new(), hash: Sha256::new(), length, is_value }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        let head = self.length.min(TEXT_BYTES_MAX);
        let (front, rest) = piece.split_at(piece.len().min(head - self.text.len()));
        self.text.extend_from_slice(front);
        if self.text.len() == head && !front.is_empty() {
            if self.is_value {
                forget_count(&mut self.text, self.length);
            }
            self.hash.update(&self.text);
        }
        self.hash.update(rest);
    }

    /// The element, once all of its bytes have come.
    pub(crate) fn finish(mut self) -> Element {
        if self.text.len() < self.length.min(TEXT_BYTES_MAX) {
            self.hash.update(&self.text);
        }
        Element { text: self.text, digest: digest(self.hash) }
    }
}

/// The digest of some elements and one more.
pub(crate) fn folded(elements: u128, one: &Element, ordered: bool) -> u128 {
    match ordered {
        // A sum is the same in every order.
        false => elements.wrapping_add(one.digest),
        true => {
            let hash = Sha256::new_with_prefix(elements.to_be_bytes());
            digest(hash.chain_update(one.digest.to_be_bytes()))
        }
    }
}

/// All elements of a value.
#[derive(Debug, Clone)]
pub(super) struct Elements {
    /// How many there are; of a text, its bytes.
    pub(super) count: u64,
    /// Whether their order counts.
    pub(super) ordered: bool,
    /// Of all of them.
    pub(super) digest: u128,
    /// The first ones.
    pub(super) held: Vec<Element>,
    held_bytes: usize,
}

impl Elements {
    /// None yet.
    pub(super) fn new(ordered: bool) -> Self {
        Self { count: 0, ordered, digest: 0, held: Vec::new(), held_bytes: 0 }
    }

    /// Adds one.
    pub(super) fn push(&mut self, element: Element) {
        self.count += 1;
        self.digest = folded(self.digest, &element, self.ordered);
        self.held_bytes += size_of::<Element>() + element.text.len();
        if self.held_bytes <= HELD_BYTES_MAX {
            self.held.push(element);
        }
    }

    /// Whether every element is held.
    pub(super) fn is_whole(&self) -> bool {
        self.held_bytes <= HELD_BYTES_MAX
    }

    /// The first `most` elements that these have and `others` have not; none if that cannot be told.
    pub(super) fn not_in(&self, others: &Self, most: usize) -> Vec<&Element> {
        if !others.is_whole() {
            return Vec::new();
        }
        let theirs: BTreeSet<&Element> = others.held.iter().collect();
        let own: BTreeSet<&Element> = self.held.iter().collect();
        own.into_iter().filter(|element| !theirs.contains(element)).take(most).collect()
    }
}

/// Reads the answer to a question for all of a value. The inner error is the server's.
pub(super) fn read(link: &mut Connection, shape: Shape) -> io::Result<Result<Elements, String>> {
    let mut elements = Elements::new(matches!(shape, Shape::Text | Shape::List | Shape::Scored | Shape::Entries));
    let count = match link.head()? {
        Head::Error(text) => return Ok(Err(text)),
        Head::Nil => return Ok(Ok(elements)),
        Head::Bulk(length) if shape == Shape::Text => {
            elements.push(bulk(link, length, true)?);
            elements.count = length as u64;
            return Ok(Ok(elements));
        }
        Head::Array(count) => count,
        head => return Err(broken(format!("{head:?} for a value"))),
    };
    let parts = if matches!(shape, Shape::Pairs | Shape::Scored) { 2 } else { 1 };
    for _ in 0..count / parts {
        let element = match shape {
            Shape::Entries => entry(link)?,
            Shape::Pairs => Element::joined(&[leaf(link)?, leaf(link)?]),
            Shape::Scored => Element::joined(&[leaf(link)?, score(link)?]),
            Shape::Text | Shape::List | Shape::Set => leaf(link)?,
        };
        elements.push(element);
    }
    Ok(Ok(elements))
}

/// An entry of a stream.
fn entry(link: &mut Connection) -> io::Result<Element> {
    let Head::Array(2) = link.head()? else { return Err(broken("an entry without id and fields")) };
    let id = leaf(link)?;
    let Head::Array(count) = link.head()? else { return Err(broken("an entry without fields")) };
    // Joined one by one, for the count is only claimed.
    (0..count).try_fold(id, |whole, _| Ok(Element::joined(&[whole, leaf(link)?])))
}

fn score(link: &mut Connection) -> io::Result<Element> {
    let text = leaf(link)?.text;
    let number: f64 = String::from_utf8_lossy(&text).parse().map_err(broken)?;
    Ok(Element::score(number))
}

fn leaf(link: &mut Connection) -> io::Result<Element> {
    match link.head()? {
        Head::Bulk(length) => bulk(link, length, false),
        Head::Simple(text) => Ok(Element::phrase(&text)),
        Head::Integer(number) => Ok(Element::phrase(&number.to_string())),
        head => Err(broken(format!("{head:?} in a value"))),
    }
}

fn bulk(link: &mut Connection, length: usize, is_value: bool) -> io::Result<Element> {
    let mut folding = Folding::new(length, is_value);
    link.pour(length, |piece| folding.push(piece))?;
    Ok(folding.finish())
}

/// In a HyperLogLog, the number that was last counted. The value stays what it is without.
fn forget_count(text: &mut [u8], length: usize) {
    let is_log = text.starts_with(b"HYLL\x01") || (text.starts_with(b"HYLL\0") && length == DENSE_BYTES);
    if let (true, Some(counted)) = (is_log, text.get_mut(COUNTED)) {
        counted.fill(0);
    }
}
