//! The recent part of a history, kept in memory within a byte budget and shared with every reader; beneath it, on disk, a
//! [`Log`] of what no longer fits and is still needed.
//!
//! Order that always holds: `oldest ≤ start ≤ end`, and `oldest ≤ every cursor that is still served ≤ end`. The backlog does
//! not know its readers: when it trims, a reader whose place is gone finds out at its next look.

mod log;

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::fault::Fault;
use crate::rope::Rope;

pub use log::{Log, Order};

/// What one kept piece costs beside its bytes.
const PIECE_OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
struct Piece {
    /// Offset before the first byte.
    start: u64,
    bytes: Bytes,
}

/// The kept end of one history.
#[derive(Debug)]
pub struct Backlog {
    pieces: VecDeque<Piece>,
    /// Bytes of the history before the first kept one.
    start: u64,
    /// Bytes of the history in all. `start ≤ end`.
    end: u64,
    /// What the kept pieces cost. At most `budget`, but for the newest piece, which is always kept.
    cost: usize,
    budget: usize,
    /// Where the reader that is furthest behind stands.
    reader: Option<u64>,
    /// The newest piece that takes a good part of the budget by itself: its end, and its cost.
    large: Option<(u64, usize)>,
    log: Log,
}

impl Backlog {
    /// An empty backlog at `offset`, which will keep `budget` bytes.
    pub fn new(offset: u64, budget: usize) -> Self {
        Self::with_log(offset, budget, 0)
    }

    /// An empty backlog at `offset`, which will keep `budget` bytes, and in its log `disk` bytes of those before them that are
    /// needed; 0: it has no log.
    pub fn with_log(offset: u64, budget: usize, disk: u64) -> Self {
        let log = Log::new(offset, disk);
        Self { pieces: VecDeque::new(), start: offset, end: offset, cost: 0, budget, reader: None, large: None, log }
    }

    /// Offset before the oldest byte in memory.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset before the oldest byte that can be read at all, here or from the log.
    pub fn oldest(&self) -> u64 {
        self.log.start()
    }

    /// What lies beneath.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Offset after the newest byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The configured budget in bytes.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Empties the backlog and lets it begin at `offset`. Until it is told otherwise, all that follows is needed.
    pub fn restart(&mut self, offset: u64) {
        self.log.restart(offset);
        let log = core::mem::replace(&mut self.log, Log::new(offset, 0));
        *self = Self { log, ..Self::new(offset, self.budget) };
    }

    /// Appends what is next in the history.
    pub fn append(&mut self, rope: &mut Rope) {
        for bytes in rope.drain() {
            let start = self.end;
            self.end += bytes.len() as u64;
            let cost = bytes.len() + PIECE_OVERHEAD_BYTES;
            self.cost += cost;
            if cost > self.budget / 4 {
                self.large = Some((self.end, cost));
            }
            self.pieces.push_back(Piece { start, bytes });
        }
        self.trim();
    }

    /// Takes back everything behind `offset`: bytes that turned out not to belong to the history.
    pub fn truncate(&mut self, offset: u64) {
        if offset < self.start {
            // Nothing in memory lies before it: what comes next is the byte behind `offset` all the same. The log is not cut,
            // but left: this takes an unfinished command or transaction larger than the memory.
            return self.restart(offset);
        }
        while let Some(last) = self.pieces.back_mut() {
            if last.start >= offset {
                self.cost -= last.bytes.len() + PIECE_OVERHEAD_BYTES;
                self.pieces.pop_back();
                continue;
            }
            let keep = (offset - last.start) as usize;
            if keep < last.bytes.len() {
                self.cost -= last.bytes.len() - keep;
                last.bytes.truncate(keep);
            }
            break;
        }
        self.large = self.large.filter(|&(end, _)| end <= offset);
        self.end = self.end.min(offset);
    }

    /// The bytes in memory from `offset` on, at most `max` of them and at most to the end of a piece. Empty at the end; `None` where
    /// they are no longer kept, or not there yet.
    pub fn read(&self, offset: u64, max: usize) -> Option<Bytes> {
        if offset < self.start || offset > self.end {
            return None;
        }
        let index = self.pieces.partition_point(|piece| piece.start + piece.bytes.len() as u64 <= offset);
        let Some(piece) = self.pieces.get(index) else { return Some(Bytes::new()) };
        let from = (offset - piece.start) as usize;
        let to = piece.bytes.len().min(from.saturating_add(max));
        Some(piece.bytes.slice(from..to))
    }

    /// Says where the reader that is furthest behind stands, if there is one. A single value may be larger than the whole
    /// budget: it stays until its readers have passed it, as long as nothing else is over budget.
    pub fn held_at(&mut self, reader: Option<u64>) {
        self.reader = reader;
    }

    /// Where the reader that is furthest behind stands, as it was said last.
    pub fn reader(&self) -> Option<u64> {
        self.reader
    }

    /// Says from where on the history is needed: by the snapshot that new readers begin with, and by every reader. What the memory
    /// lets go behind that place goes to the log.
    pub fn needed_from(&mut self, offset: u64) {
        self.log.needed_from(offset);
    }

    /// What the shell must do with the log next, and for which life of it.
    pub fn log_order(&mut self) -> Option<(u64, Order)> {
        self.log.order()
    }

    /// So many bytes of this life of the log have reached the disk.
    pub fn log_written(&mut self, life: u64, bytes: usize) {
        self.log.written(life, bytes);
    }

    /// The disk failed: this life of the log is given up, with all that is in it. `false`: it was before.
    pub fn log_failed(&mut self, life: u64, fault: &Fault) -> bool {
        self.log.fail(life, fault)
    }

    /// After a failure of the disk: the log begins anew, with what the memory lets go from here on.
    pub fn log_anew(&mut self) {
        self.log.begin_anew();
    }

    /// Nobody will be served from the log until the next [`restart`](Self::restart).
    pub fn close_log(&mut self) {
        self.log.close();
    }

    /// What a large piece costs that a reader still needs. One that reads from the log finds it there in the end.
    fn spared(&self) -> usize {
        match (self.large, self.reader) {
            (Some((end, cost)), Some(reader)) if reader < end && self.start < end && self.start <= reader => cost,
            _ => 0,
        }
    }

    fn trim(&mut self) {
        while self.cost.saturating_sub(self.spared()) > self.budget && self.pieces.len() > 1 {
            if let Some(piece) = self.pieces.pop_front() {
                self.cost -= piece.bytes.len() + PIECE_OVERHEAD_BYTES;
                self.start = piece.start + piece.bytes.len() as u64;
                self.log.take(piece.start, piece.bytes);
            }
        }
        debug_assert!(self.oldest() <= self.start && self.start <= self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(backlog: &mut Backlog, pieces: &[&[u8]]) {
        for piece in pieces {
            let mut rope = Rope::default();
            rope.write(piece);
            backlog.append(&mut rope);
        }
    }

    #[test]
    fn a_reader_gets_every_byte_once_whatever_the_pieces() {
        let mut backlog = Backlog::new(10, 1000);
        fill(&mut backlog, &[b"abc", b"d", b"efgh"]);
        let (mut at, mut got) = (10, alloc::vec::Vec::new());
        while at < backlog.end() {
            let bytes = backlog.read(at, 2).unwrap();
            got.extend_from_slice(&bytes);
            at += bytes.len() as u64;
        }
        assert_eq!(got, b"abcdefgh");
        assert_eq!(backlog.read(18, 5).unwrap().len(), 0);
        assert_eq!(backlog.read(19, 5), None);
        assert_eq!(backlog.read(9, 5), None);
    }

    #[test]
    fn the_oldest_goes_first_and_the_newest_always_stays() {
        let mut backlog = Backlog::new(0, 200);
        fill(&mut backlog, &[&[1; 50], &[2; 50], &[3; 500]]);
        assert_eq!((backlog.start(), backlog.end()), (100, 600));
        assert_eq!(backlog.read(99, 1), None);
        assert_eq!(backlog.read(100, 1).unwrap(), &[3][..]);
    }

    #[test]
    fn a_value_above_the_budget_stays_until_its_reader_has_passed() {
        let mut backlog = Backlog::new(0, 1000);
        backlog.held_at(Some(0));
        fill(&mut backlog, &[&[1; 20], &[2; 2000], &[3; 20]]);
        assert_eq!(backlog.start(), 0, "the reader has not begun to read it");
        backlog.held_at(Some(2020));
        fill(&mut backlog, &[&[4; 20]]);
        assert_eq!(backlog.start(), 2020, "nobody needs it any more");
        fill(&mut backlog, &[&[5; 2000]]);
        for _ in 0..20 {
            fill(&mut backlog, &[&[6; 20]]);
        }
        assert!(backlog.start() > 4060, "a reader that lets even the rest outgrow the budget is not waited for");
    }

    #[test]
    fn what_is_taken_back_can_be_written_anew() {
        let mut backlog = Backlog::new(0, 1000);
        fill(&mut backlog, &[b"abcdef", b"ghi"]);
        backlog.truncate(4);
        fill(&mut backlog, &[b"XY"]);
        assert_eq!(backlog.end(), 6);
        assert_eq!(backlog.read(0, 10).unwrap(), &b"abcd"[..]);
        assert_eq!(backlog.read(4, 10).unwrap(), &b"XY"[..]);
    }
}
