//! In what two dumps differ, key by key.
//!
//! Of each dump every key is taken down: its name, its expiry, and a digest of its value, see [`value`]. That is sorted, by at
//! most [`HELD_BYTES`] of memory for each dump, and read side by side.

mod holding;
mod report;

use std::cmp::Ordering;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use sluicegate_core::rdb::Family;

use super::dump::Part;
use super::sort::{Sorted, Sorter};
use super::{Dump, value};
use holding::Holding;
pub(crate) use report::Findings;

/// What is held of the keys of one dump. Bytes.
const HELD_BYTES: usize = 64 * 1024 * 1024;
/// Compares two dumps and writes a line for each difference, in the order of databases and names, and a summary last.
///
/// # Errors
/// A dump cannot be read, or is damaged: nothing was written of it then.
pub(crate) fn diff(old: &Path, new: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<Findings> {
    let (mut old, mut new) = (holdings(old, "first dump")?, holdings(new, "second dump")?);
    let mut findings = Findings::default();
    let mut pair = (old.next()?, new.next()?);
    loop {
        let order = match &pair {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => (left.db, &left.name).cmp(&(right.db, &right.name)),
        };
        let left = if order.is_le() { pair.0.take() } else { None };
        let right = if order.is_ge() { pair.1.take() } else { None };
        if let Some(difference) = findings.take(left.as_ref(), right.as_ref()) {
            match json {
                true => writeln!(out, "{}", difference.json()),
                false => writeln!(out, "{difference}"),
            }
            .context("standard output")?;
        }
        if order.is_le() {
            pair.0 = old.next()?;
        }
        if order.is_ge() {
            pair.1 = new.next()?;
        }
    }
    match json {
        true => writeln!(out, "{}", findings.json()),
        false => writeln!(out, "{findings}"),
    }
    .context("standard output")?;
    Ok(findings)
}

/// What a dump holds, in order.
fn holdings(path: &Path, doing: &'static str) -> anyhow::Result<Sorted<Holding>> {
    let mut dump = Dump::open(path, doing)?;
    let mut sorter = Sorter::new(HELD_BYTES);
    let (mut db, mut family) = (0, Family::Redis);
    while let Some(part) = dump.next()? {
        match part {
            Part::Magic(written_by, _) => family = written_by,
            Part::Select(number) => db = number,
            Part::Function(source) => sorter.push(Holding::library(&source))?,
            Part::Key(key) => {
                let value = value::read(&mut dump, family, &key)?;
                sorter.push(Holding::key(db, family, key, value))?;
            }
            Part::Aux(..) | Part::End(_) => {}
        }
    }
    sorter.sorted()
}
