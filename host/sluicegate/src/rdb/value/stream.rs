//! A stream: its entries, in their order, and who reads it. Its counters, which versions keep or do not, and the times at which
//! somebody read are left out.

use std::io;

use super::packed::{Broken, Entries, integer as integer_of, listpack};
use super::{Reading, Sum, element_of};
use crate::compare::elements::{Element, folded};

/// The flag of an entry that was deleted where it stands.
const DELETED: i64 = 1;
/// The flag of an entry with the fields of its node's first.
const SAME_FIELDS: i64 = 2;

/// How many entries there are, and the digest of everything.
pub(super) fn read(reading: &mut Reading<'_>, layout: u8) -> io::Result<(u64, u128)> {
    reading.sum = Sum::new(true);
    reading.times(node)?;
    let entries = reading.sum;
    let mut about = Sum::new(false);
    let (_length, last) = (reading.wire.length()?, id(reading)?);
    about.push(&Element::phrase(&format!("last-generated-id {last}")));
    if layout >= 2 {
        // The first id, the largest that was deleted, the count of all that were ever added.
        (0..5).try_for_each(|_| reading.wire.length().map(drop))?;
    }
    reading.times(|reading| group(reading, layout, &mut about))?;
    let digest = folded(entries.digest, &Element::phrase(&format!("{}", about.digest)), true);
    Ok((entries.count, digest))
}

/// An id that is written as two numbers.
fn id(reading: &mut Reading<'_>) -> io::Result<String> {
    Ok(format!("{}-{}", reading.wire.length()?, reading.wire.length()?))
}

/// An id in sixteen bytes.
fn raw_id(bytes: [u8; 16]) -> (u64, u64) {
    let number = u128::from_be_bytes(bytes);
    ((number >> 64) as u64, number as u64)
}

fn node(reading: &mut Reading<'_>) -> io::Result<()> {
    let head = reading.wire.head()?;
    let mut first = Vec::new();
    if head.length() == 16 {
        reading.wire.pour(head, |piece| first.extend_from_slice(piece))?;
    }
    let Ok(first) = <[u8; 16]>::try_from(first) else {
        return Err(io::Error::other("a node of a stream has no id"));
    };
    reading.look_into(|blob, sum| entries(listpack(blob)?, raw_id(first), sum))
}

/// The entries of a node: counts of entries and deleted ones, the fields of the first, 0; then for each entry flags, how far
/// its id is from the node's, its fields unless they are those, its values, and how many entries of the blob it takes.
fn entries(mut blob: Entries<'_>, (ms, seq): (u64, u64), sum: &mut Sum) -> Result<(), Broken> {
    let integer = |blob: &mut Entries<'_>| integer_of(blob.next().ok_or(Broken)??).ok_or(Broken);
    let (_count, _deleted, fields) = (integer(&mut blob)?, integer(&mut blob)?, integer(&mut blob)?);
    let mut first = Vec::new();
    for _ in 0..fields {
        first.push(blob.next().ok_or(Broken)??);
    }
    integer(&mut blob)?;
    while let Some(flags) = blob.next() {
        let flags = integer_of(flags?).ok_or(Broken)?;
        let (ms, seq) = (ms.wrapping_add_signed(integer(&mut blob)?), seq.wrapping_add_signed(integer(&mut blob)?));
        let same = flags & SAME_FIELDS != 0;
        let fields = if same { first.len() as i64 } else { integer(&mut blob)? };
        let mut entry = Element::phrase(&format!("{ms}-{seq}"));
        for at in 0..fields {
            let field = if same { first[at as usize] } else { blob.next().ok_or(Broken)?? };
            let value = blob.next().ok_or(Broken)??;
            entry = Element::joined(&[entry, element_of(field), element_of(value)]);
        }
        integer(&mut blob)?;
        if flags & DELETED == 0 {
            sum.push(&entry);
        }
    }
    Ok(())
}

fn group(reading: &mut Reading<'_>, layout: u8, about: &mut Sum) -> io::Result<()> {
    let name = reading.element()?;
    let mut say = |whose: &[&Element], what: &str| {
        let parts: Vec<Element> = whose.iter().map(|part| (*part).clone()).chain([Element::phrase(what)]).collect();
        about.push(&Element::joined(&parts));
    };
    say(&[&name], &format!("last delivered {}", id(reading)?));
    if layout >= 2 {
        // How many entries it has read, as far as that is known.
        reading.wire.length()?;
    }
    reading.times(|reading| {
        let (ms, seq) = raw_id(reading.wire.array()?);
        let _delivered_at = reading.wire.array::<8>()?;
        say(&[&name], &format!("{ms}-{seq} delivered {} times", reading.wire.length()?));
        Ok(())
    })?;
    reading.times(|reading| {
        let consumer = reading.element()?;
        say(&[&name, &consumer], "consumer");
        let _seen_at = reading.wire.array::<8>()?;
        if layout >= 3 {
            let _active_at = reading.wire.array::<8>()?;
        }
        reading.times(|reading| {
            let (ms, seq) = raw_id(reading.wire.array()?);
            say(&[&name, &consumer], &format!("{ms}-{seq} pending"));
            Ok(())
        })
    })
}
