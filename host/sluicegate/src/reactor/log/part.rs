//! One file of a log: records, each with a checksum, so that what was damaged on the disk is found before a replica gets it.
//!
//! A record: the offset of its bytes in the history (8 bytes, little endian), how many there are (4), CRC-64 of these two and
//! the bytes (8), the bytes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluicegate_core::rdb::Crc64;

use crate::reactor::spool;

/// Bytes of the history in one record at most.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;
const HEADER_BYTES: usize = 20;
/// Records that begin so far behind the last remembered one are remembered: 16 bytes of memory for each.
const MARK_EVERY_BYTES: u64 = 256 * 1024;
/// What is read from a remembered record on holds any record that begins before the next one, whole.
const SCAN_BYTES: usize = MARK_EVERY_BYTES as usize + HEADER_BYTES + RECORD_BYTES_MAX;

/// Where a record is.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    at: u64,
}

/// One file.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    /// Open as long as it is written to: a large log has many files.
    file: Option<File>,
    file_bytes: u64,
    /// Offset behind its last byte.
    end: u64,
    marks: Vec<Mark>,
    /// The next record.
    buffer: Vec<u8>,
}

impl Part {
    /// A new file, for what lies behind `offset`.
    pub(super) fn create(path: PathBuf, offset: u64) -> io::Result<Self> {
        let file = Some(spool::create(&path)?);
        Ok(Self { path, file, file_bytes: 0, end: offset, marks: Vec::new(), buffer: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Offset of the history behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Nothing more is appended.
    pub(super) fn seal(&mut self) {
        self.file = None;
    }

    /// Removes the file. If that fails it is removed at the next start.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(event = "log", "cannot remove {}: {error}", self.path.display());
        }
    }

    /// Appends a record of at most [`RECORD_BYTES_MAX`] bytes.
    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&offset.to_le_bytes());
        self.buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        let sum = sum(&self.buffer, bytes);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        file.write_all_at(&self.buffer, self.file_bytes)?;
        if self.marks.last().is_none_or(|last| self.file_bytes - last.at >= MARK_EVERY_BYTES) {
            self.marks.push(Mark { offset, at: self.file_bytes });
        }
        self.file_bytes += self.buffer.len() as u64;
        self.end = offset + bytes.len() as u64;
        Ok(())
    }

    /// At least one and at most `max` bytes behind `offset`. An error says what is wrong with the file.
    pub(super) fn read(&self, offset: u64, max: usize) -> Result<Bytes, String> {
        let index = self.marks.partition_point(|mark| mark.offset <= offset);
        let mark =
            index.checked_sub(1).and_then(|index| self.marks.get(index)).ok_or("it begins behind that offset")?;
        let there = usize::try_from(self.file_bytes - mark.at).unwrap_or(usize::MAX);
        let mut scanned = vec![0; there.min(SCAN_BYTES)];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut scanned, mark.at));
        read.map_err(|error| error.to_string())?;
        let (mut rest, mut found) = (&scanned[..], Vec::new());
        while found.len() < max
            && let Some((start, bytes, behind)) = record(rest).map_err(|what| format!("{what} behind {offset}"))?
        {
            rest = behind;
            let next = offset + found.len() as u64;
            if let Some(from) = next.checked_sub(start).and_then(|from| usize::try_from(from).ok())
                && from < bytes.len()
            {
                found.extend_from_slice(&bytes[from..bytes.len().min(from.saturating_add(max - found.len()))]);
            }
        }
        if found.is_empty() { Err(format!("nothing lies behind {offset}")) } else { Ok(found.into()) }
    }
}

fn sum(head: &[u8], bytes: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(head);
    crc.update(bytes);
    crc.sum()
}

type Record<'a> = (u64, &'a [u8], &'a [u8]);

/// The record that `bytes` begins with, and what follows it; `None` if it is not whole.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, &'static str> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let (offset, length) = (number(&head[..8]), number(&head[8..12]));
    let length = usize::try_from(length).ok().filter(|length| (1..=RECORD_BYTES_MAX).contains(length));
    let length = length.ok_or("it is damaged")?;
    let Some((found, behind)) = rest.split_at_checked(length) else { return Ok(None) };
    if sum(&head[..12], found) != number(&head[12..]) {
        return Err("it is damaged");
    }
    Ok(Some((offset, found, behind)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
