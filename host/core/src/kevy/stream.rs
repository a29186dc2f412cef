//! One shard of a view: its history, whose frames are numbered here, and the kept end of it.
//!
//! Order that always holds: `base ≤ first ≤ next`, and `starts` has an entry for each frame in `first..next`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::wire;
use crate::backlog::Backlog;
use crate::rope::Rope;

/// At least so many numbers between two histories stay unused.
const APART: u64 = 1_000_000;

/// A history and its backlog. Beside the bytes each kept frame costs 8 bytes of index.
#[derive(Debug)]
pub(super) struct Stream {
    /// Names the history: random, never 0.
    generation: u64,
    /// The number of its first frame, where the snapshot stands.
    base: u64,
    /// The number of the oldest kept frame.
    first: u64,
    /// The number of the next frame.
    next: u64,
    /// Where in the backlog each kept frame begins.
    starts: VecDeque<u64>,
    backlog: Backlog,
    rope: Rope,
    envelope: Vec<u8>,
}

/// What becomes of a replica that expects some frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It goes on at this offset of the backlog.
    At(u64),
    /// What it lacks is no longer kept.
    TooOld,
    /// There is no such frame yet.
    Future,
}

impl Stream {
    /// A history that waits for its beginning; it will keep `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            generation: 0,
            base: 0,
            first: 0,
            next: 0,
            starts: VecDeque::new(),
            backlog: Backlog::new(0, budget),
            rope: Rope::default(),
            envelope: Vec::new(),
        }
    }

    /// Begins a new history. Its numbers lie behind those of every history before it: a replica of an old dialect names no
    /// generation when it comes back, and a number that meant another frame must not be found. Far behind them, wherever
    /// the clock stands: each attempt to give such a replica a snapshot begins with a frame behind the place that it had.
    pub(super) fn restart(&mut self, generation: u64, unix_ms: u64) {
        let base = (self.next + APART).max(unix_ms.saturating_mul(1000));
        (self.generation, self.base, self.first, self.next) = (generation, base, base, base);
        self.starts.clear();
        self.rope.clear();
        self.backlog.restart(0);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Offset of the backlog behind its newest byte.
    pub(super) fn end(&self) -> u64 {
        self.backlog.end()
    }

    /// What is kept of it.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The budget of the backlog in bytes.
    pub(super) fn budget(&self) -> usize {
        self.backlog.budget()
    }

    /// Whether every frame behind the snapshot is still kept.
    pub(super) fn reaches_snapshot(&self) -> bool {
        self.first == self.base
    }

    /// Appends a command, given in pieces, as the next frame.
    pub(super) fn push(&mut self, pieces: &[&[u8]]) {
        self.starts.push_back(self.backlog.end() + self.rope.len() as u64);
        self.envelope.clear();
        wire::write_envelope(&mut self.envelope, self.next);
        self.rope.write(&self.envelope);
        pieces.iter().for_each(|piece| self.rope.write(piece));
        self.next += 1;
    }

    /// What was pushed can be read from now on; what is over budget goes.
    pub(super) fn settle(&mut self) {
        if self.rope.is_empty() {
            return;
        }
        self.backlog.append(&mut self.rope);
        while self.starts.front().is_some_and(|&start| start < self.backlog.start()) {
            self.starts.pop_front();
            self.first += 1;
        }
    }

    /// Forgets where its readers stand.
    pub(super) fn held_by_nobody(&mut self) {
        self.backlog.held_at(None);
    }

    /// Says where one of its readers stands: what a reader that is further behind needs is kept for both.
    pub(super) fn held_at(&mut self, reader: u64) {
        self.backlog.held_at(Some(self.backlog.reader().map_or(reader, |furthest| furthest.min(reader))));
    }

    /// Where frame `number` begins.
    pub(super) fn find(&self, number: u64) -> Place {
        if number > self.next {
            return Place::Future;
        }
        if number == self.next {
            return Place::At(self.backlog.end());
        }
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.starts.get(index)).map_or(Place::TooOld, |&start| Place::At(start))
    }

    /// Whether the place at which a reader stands is still kept.
    pub(super) fn holds(&self, place: u64) -> bool {
        place >= self.backlog.start()
    }

    /// Whole frames from `place` on, at most `budget` bytes of them but at least one frame: their bytes are handed to
    /// `each`. Returns the place behind them. Between two frames other things may be said on a link, inside one never.
    pub(super) fn read(&self, place: u64, budget: usize, mut each: impl FnMut(Bytes)) -> u64 {
        let limit = place.saturating_add(budget as u64);
        let end = if limit >= self.backlog.end() {
            self.backlog.end()
        } else {
            let behind = self.starts.partition_point(|&start| start <= limit);
            let within = behind.checked_sub(1).and_then(|last| self.starts.get(last)).filter(|&&start| start > place);
            within.or_else(|| self.starts.get(behind)).copied().unwrap_or(self.backlog.end())
        };
        let mut at = place;
        while at < end {
            let Some(bytes) = self.backlog.read(at, (end - at) as usize).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            at += bytes.len() as u64;
            each(bytes);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn stream(budget: usize) -> Stream {
        let mut stream = Stream::new(budget);
        stream.restart(7, 2000);
        stream
    }

    #[test]
    fn frames_are_numbered_without_gaps_and_found_by_their_number() {
        let mut stream = stream(10_000);
        assert_eq!((stream.base(), stream.next()), (2_000_000, 2_000_000));
        for value in [&b"one"[..], b"two", b"three"] {
            stream.push(&[b"*1\r\n$3\r\n", value, b"\r\n"]);
        }
        stream.settle();
        assert_eq!(stream.find(2_000_000), Place::At(0));
        assert_eq!(stream.find(2_000_003), Place::At(stream.end()));
        assert_eq!((stream.find(1_999_999), stream.find(2_000_004)), (Place::TooOld, Place::Future));
        let Place::At(second) = stream.find(2_000_001) else { panic!("it is kept") };
        let mut got = vec![];
        assert_eq!(stream.read(second, 1, |bytes| got.extend_from_slice(&bytes)), second + got.len() as u64);
        assert_eq!(got, b"*2\r\n:2000001\r\n*1\r\n$3\r\ntwo\r\n", "one frame, though it is larger than the budget");
    }

    #[test]
    fn reads_end_between_frames() {
        let mut stream = stream(100_000);
        (0..100).for_each(|_| stream.push(&[&[b'x'; 90]]));
        stream.settle();
        let (mut place, mut reads) = (0, 0);
        while place < stream.end() {
            place = stream.read(place, 250, |_| {});
            assert!(stream.starts.contains(&place) || place == stream.end());
            reads += 1;
        }
        assert_eq!(reads, 50);
    }

    #[test]
    fn a_new_history_never_repeats_a_number() {
        let mut stream = stream(1000);
        for _ in 0..5000 {
            stream.push(&[b"x"]);
            stream.settle();
        }
        assert!(!stream.reaches_snapshot());
        let last = stream.next();
        stream.restart(8, 1);
        assert!(stream.base() > last && stream.reaches_snapshot());
        assert_eq!(stream.find(last), Place::TooOld);
    }
}
