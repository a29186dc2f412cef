//! Sorting more than fits into memory: what comes is sorted in runs that do, and those lie in a temporary file until they are
//! read side by side.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Context;

/// What is held of a run that is read. Bytes.
const READ_BYTES: usize = 16 * 1024;

/// What can be sorted.
pub(super) trait Record: Ord + Sized {
    /// The memory that it takes. Bytes.
    fn weight(&self) -> usize;
    /// Writes it, so that [`Record::read`] reads it.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads it.
    fn read(from: &mut dyn Read) -> io::Result<Self>;
}

/// Takes records in any order.
pub(super) struct Sorter<T> {
    /// The most that is held, in bytes.
    budget: usize,
    held: Vec<T>,
    weight: usize,
    /// Unlinked from the start: it is gone with the program, however that ends.
    file: Option<File>,
    /// Where each run ends in the file.
    ends: Vec<u64>,
}

impl<T: Record> Sorter<T> {
    /// Holds at most about `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, held: Vec::new(), weight: 0, file: None, ends: Vec::new() }
    }

    /// Takes one.
    pub(super) fn push(&mut self, record: T) -> anyhow::Result<()> {
        self.weight += record.weight();
        self.held.push(record);
        if self.weight < self.budget { Ok(()) } else { self.spill().context("a temporary file (TMPDIR)") }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let (mut out, mut end) = (Vec::new(), self.ends.last().copied().unwrap_or(0));
        for record in self.held.drain(..) {
            record.write(&mut out);
            if out.len() >= READ_BYTES {
                file.write_all(&out)?;
                end += out.len() as u64;
                out.clear();
            }
        }
        file.write_all(&out)?;
        self.ends.push(end + out.len() as u64);
        self.weight = 0;
        Ok(())
    }

    /// All of them, in order.
    pub(super) fn sorted(mut self) -> anyhow::Result<Sorted<T>> {
        self.held.sort_unstable_by(|left, right| right.cmp(left));
        let mut sorted = Sorted { held: self.held, runs: Vec::new(), heads: BinaryHeap::new() };
        if let Some(file) = self.file.map(Arc::new) {
            let mut at = 0;
            for end in self.ends {
                let run = Run { file: Arc::clone(&file), at, end };
                sorted.runs.push(BufReader::with_capacity(READ_BYTES, run));
                at = end;
            }
        }
        for run in 0..sorted.runs.len() {
            sorted.refill(run).context("a temporary file (TMPDIR)")?;
        }
        Ok(sorted)
    }
}

/// Records in order.
pub(super) struct Sorted<T> {
    /// Those that were never written, the last first.
    held: Vec<T>,
    runs: Vec<BufReader<Run>>,
    /// The first of each run that has one.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Record> Sorted<T> {
    /// The next one.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<T>> {
        let first = self.heads.peek().map(|Reverse((record, _))| record);
        if let Some(held) = self.held.last()
            && first.is_none_or(|first| held <= first)
        {
            return Ok(self.held.pop());
        }
        let Some(Reverse((record, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run).context("a temporary file (TMPDIR)")?;
        Ok(Some(record))
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        let Some(from) = self.runs.get_mut(run) else { return Ok(()) };
        if !from.fill_buf()?.is_empty() {
            self.heads.push(Reverse((T::read(from)?, run)));
        }
        Ok(())
    }
}

/// A part of a file that others read, too.
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Run {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(out.len());
        let read = self.file.read_at(&mut out[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Record for u32 {
        fn weight(&self) -> usize {
            4
        }

        fn write(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_be_bytes());
        }

        fn read(from: &mut dyn Read) -> io::Result<Self> {
            let mut bytes = [0; 4];
            from.read_exact(&mut bytes)?;
            Ok(Self::from_be_bytes(bytes))
        }
    }

    #[test]
    fn what_comes_out_is_in_order_however_little_is_held() -> anyhow::Result<()> {
        let numbers = |count: u32| (0..count).map(|n| n.wrapping_mul(2_654_435_761) % 1_000);
        for (budget, count) in [(usize::MAX, 500), (400, 500), (4, 50), (400, 100), (400, 0), (100_000, 200_000)] {
            let mut sorter = Sorter::new(budget);
            numbers(count).try_for_each(|number| sorter.push(number))?;
            assert!(sorter.held.len() * 4 <= budget);
            let mut sorted = sorter.sorted()?;
            let mut out = Vec::new();
            while let Some(number) = sorted.next()? {
                out.push(number);
            }
            let mut expected: Vec<u32> = numbers(count).collect();
            expected.sort_unstable();
            assert_eq!(out, expected, "with {budget} bytes");
        }
        Ok(())
    }
}
