//! A spooled snapshot on the disk, and whether the disk gives back what was written.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sluicegate_core::contract::SpoolId;
use sluicegate_core::rdb::Crc64;

use super::create;
use super::rest::{Rested, Rewind};
use crate::reactor::quota::Claim;

/// A snapshot has a sum for each so many bytes, and is read in pieces of this size: nothing goes out of a piece that is not
/// what it was.
pub(in crate::reactor) const BLOCK_BYTES: usize = 128 * 1024;

/// The sums of a file that is being written.
#[derive(Debug, Default)]
pub(in crate::reactor) struct Sums {
    whole: Vec<u64>,
    open: Crc64,
    /// Bytes in `open`; less than a block.
    filled: usize,
}

impl Sums {
    /// The next bytes.
    pub(in crate::reactor) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
            self.open.update(piece);
            self.filled += piece.len();
            if self.filled == BLOCK_BYTES {
                self.close();
            }
            bytes = rest;
        }
    }

    /// The block that byte `at` lies in, as far as it is there: where it begins, its length, and its sum.
    pub(in crate::reactor) fn block(&self, at: u64) -> (u64, usize, u64) {
        let index = at / BLOCK_BYTES as u64;
        let whole = usize::try_from(index).ok().and_then(|index| self.whole.get(index));
        let (length, sum) = whole.map_or((self.filled, self.open.sum()), |sum| (BLOCK_BYTES, *sum));
        (index * BLOCK_BYTES as u64, length, sum)
    }

    /// The sums of all that can be read.
    ///
    /// # Errors
    /// It cannot be.
    pub(super) fn of(mut from: impl Read) -> io::Result<Self> {
        let (mut sums, mut piece) = (Self::default(), vec![0; BLOCK_BYTES]);
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(sums),
                Ok(read) => sums.push(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the block that is open, if there is one.
    fn close(&mut self) {
        if self.filled > 0 {
            self.whole.push(std::mem::take(&mut self.open).sum());
            self.filled = 0;
        }
    }

    fn finish(mut self) -> Vec<u64> {
        self.close();
        self.whole
    }

    /// Ends them, and makes one sum of all.
    pub(super) fn end(&mut self) -> u64 {
        self.close();
        digest(&self.whole)
    }
}

fn digest(sums: &[u64]) -> u64 {
    let mut all = Crc64::default();
    sums.iter().for_each(|sum| all.update(&sum.to_le_bytes()));
    all.sum()
}

/// Takes a snapshot's file, as it is to lie on the disk: claims the room for it, sums it up, writes it.
pub(super) struct Sink<'a> {
    stored: &'a Stored,
    file: File,
    sums: Sums,
    /// The room was claimed before it began.
    claimed: bool,
}

impl Sink<'_> {
    /// The sums of what was written.
    pub(super) fn sums(self) -> Sums {
        self.sums
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.claimed {
            self.stored.claim.grow(bytes.len() as u64).map_err(io::Error::other)?;
        }
        self.file.write_all(bytes)?;
        self.sums.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A snapshot, arriving or whole.
pub(in crate::reactor) struct Stored {
    id: SpoolId,
    path: PathBuf,
    /// What it takes of the quota, until the last one that reads it is done.
    claim: Claim,
    /// Known once it is whole. In memory, 64 bytes for each MiB: a damaged disk cannot damage them, too.
    sums: OnceLock<Vec<u64>>,
}

impl Stored {
    pub(super) fn new(id: SpoolId, path: PathBuf, claim: Claim) -> Self {
        Self { id, path, claim, sums: OnceLock::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Begins its file, which will have this length, if it is known.
    ///
    /// # Errors
    /// There is no room for it, or the file cannot be made.
    pub(super) fn sink(&self, length: Option<u64>) -> io::Result<Sink<'_>> {
        self.claim.grow(length.unwrap_or(0)).map_err(io::Error::other)?;
        let file = create(&self.path)?;
        Ok(Sink { stored: self, file, sums: Sums::default(), claimed: length.is_some() })
    }

    /// It is whole.
    pub(super) fn seal(&self, sums: Sums) {
        // A snapshot ends once.
        let _ = self.sums.set(sums.finish());
    }

    /// One sum for all of it, once it is whole.
    pub(super) fn digest(&self) -> Option<u64> {
        self.sums.get().map(|sums| digest(sums))
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// The file cannot be opened; [`io::ErrorKind::NotFound`] if there is none.
    pub(in crate::reactor) fn open(self: &Arc<Self>) -> io::Result<Reader> {
        let file = File::open(&self.path)?;
        Ok(Reader { file, stored: self.clone(), block: Vec::new(), at: 0, next: 0 })
    }
}

/// Reads a snapshot, a verified block at a time. A block that is not what was written is an error.
pub(in crate::reactor) struct Reader {
    file: File,
    stored: Arc<Stored>,
    block: Vec<u8>,
    /// What has been given out of `block`.
    at: usize,
    /// The block behind `block`.
    next: usize,
}

impl Reader {
    /// Which snapshot this is.
    pub(in crate::reactor) fn id(&self) -> SpoolId {
        self.stored.id
    }

    /// The next block; it is empty at the end.
    fn fill(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        Read::by_ref(&mut self.file).take(BLOCK_BYTES as u64).read_to_end(&mut self.block)?;
        let sums = self.stored.sums.get().map_or(&[][..], |sums| sums);
        let expected = sums.get(self.next).copied();
        let found = (!self.block.is_empty()).then(|| Crc64::of(&self.block));
        if expected != found {
            let (from, path) = (self.next * BLOCK_BYTES, self.stored.path.display());
            let what = format!("{path} is not what was written there, from its byte {from} on");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.next += 1;
        Ok(())
    }
}

impl Rewind for Reader {
    fn rewind(&mut self) -> io::Result<()> {
        (self.at, self.next) = (0, 0);
        self.block.clear();
        Seek::rewind(&mut self.file)
    }
}

impl Rested<Reader> {
    /// Which snapshot this is.
    pub(in crate::reactor) fn id(&self) -> SpoolId {
        self.file().id()
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.fill()?;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::reactor::quota::Quota;

    #[test]
    fn no_damage_of_a_file_goes_unnoticed_and_none_of_it_goes_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, quota) = (dir.path().join("a"), Quota::new(dir.path().into(), u64::MAX));
        let whole: Vec<u8> = (0..BLOCK_BYTES * 2 + 77).map(|at| (at % 251) as u8).collect();
        let mut sums = Sums::default();
        whole.chunks(1000).for_each(|piece| sums.push(piece));
        let stored = Arc::new(Stored::new(SpoolId(1), path.clone(), quota.claim()));
        stored.seal(sums);
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("writing");
            let (mut out, mut reader) = (Vec::new(), stored.open().expect("the file is there"));
            reader.read_to_end(&mut out).map_err(|error| (error.kind(), out.clone())).map(|_| out)
        };
        assert_eq!(read(&whole).as_deref(), Ok(&whole[..]));
        for at in [0, BLOCK_BYTES - 1, BLOCK_BYTES, whole.len() - 1] {
            let mut rotten = whole.clone();
            rotten[at] ^= 0x10;
            let sound = whole[..at / BLOCK_BYTES * BLOCK_BYTES].to_vec();
            assert_eq!(read(&rotten), Err((io::ErrorKind::InvalidData, sound)), "byte {at}");
        }
        for length in [0, 1, BLOCK_BYTES, whole.len() - 1] {
            assert!(read(&whole[..length]).is_err(), "cut to {length}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err(), "longer");
        assert_eq!(read(&[]), Err((io::ErrorKind::InvalidData, Vec::new())));
    }

    #[test]
    fn a_snapshot_can_be_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, quota) = (dir.path().join("a"), Quota::new(dir.path().into(), u64::MAX));
        fs::write(&path, b"hello").expect("writing");
        let mut sums = Sums::default();
        sums.push(b"hello");
        let stored = Arc::new(Stored::new(SpoolId(1), path, quota.claim()));
        stored.seal(sums);
        let mut reader = stored.open().expect("the file is there");
        for _ in 0..2 {
            let mut text = String::new();
            assert_eq!(reader.read_to_string(&mut text).ok(), Some(5));
            assert_eq!(text, "hello");
            reader.rewind().expect("a file can be rewound");
        }
    }
}
