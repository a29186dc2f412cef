//! The part of a history that no longer fits into the backlog's memory and that somebody still needs: on disk.
//!
//! The log keeps the books: which bytes were handed to the shell and can be read back from it. It ends where the memory
//! begins; where nothing is needed it is empty. Its orders are carried out one after the other, so that what was handed over
//! can be asked for at once.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::fault::Fault;

/// What is no longer needed is dropped when it is this part of the budget: files go as a whole.
const DROP_PARTS: u64 = 16;

/// What the shell must do with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Append what lies behind this offset. What was written last ends there, or before it where nothing between is needed.
    Write(u64, Bytes),
    /// What lies before this offset is not needed any more.
    Drop(u64),
    /// Nothing of it is needed, and nothing more will be said of it.
    Reset,
}

/// One history's log.
#[derive(Debug)]
pub struct Log {
    /// Bytes of the history that it may hold; 0: there is no log.
    budget: u64,
    /// Counts the histories, and beginnings after a failure: what is reported of an earlier one is told by it.
    life: u64,
    /// Offset before the oldest byte that can be read. `start ≤ end`.
    start: u64,
    /// Where the memory begins.
    end: u64,
    /// What lies before this offset is needed by nobody.
    needed: u64,
    /// Behind the last byte that was handed over.
    handed: u64,
    /// What the shell was told to drop lies before this offset.
    dropped: u64,
    /// Bytes handed over that have not reached the disk.
    unwritten: usize,
    /// The shell has been told of this life.
    begun: bool,
    closed: bool,
    fault: Option<Fault>,
    /// Orders, each with the life that it is for.
    orders: VecDeque<(u64, Order)>,
}

impl Log {
    pub(super) fn new(offset: u64, budget: u64) -> Self {
        Self {
            budget,
            life: 0,
            start: offset,
            end: offset,
            needed: offset,
            handed: offset,
            dropped: offset,
            unwritten: 0,
            begun: false,
            closed: false,
            fault: None,
            orders: VecDeque::new(),
        }
    }

    /// Offset before the oldest byte that can be read.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of the history that it holds.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes that it may hold; 0: there is no log.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Which of its lives this is.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Bytes handed over that have not reached the disk.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Why it was given up, if it was.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What the shell must do next, and for which life of the log.
    pub fn order(&mut self) -> Option<(u64, Order)> {
        self.orders.pop_front()
    }

    /// Takes what the memory lets go.
    pub(super) fn take(&mut self, offset: u64, bytes: Bytes) {
        self.end = offset + bytes.len() as u64;
        if self.closed || self.needed >= self.end || self.budget == 0 {
            self.start = self.end;
        } else {
            self.begun = true;
            self.unwritten += bytes.len();
            self.handed = self.end;
            self.start = self.start.max(self.end.saturating_sub(self.budget));
            self.orders.push_back((self.life, Order::Write(offset, bytes)));
        }
        self.tell_drop();
    }

    /// What lies before `offset` is needed by nobody.
    pub(super) fn needed_from(&mut self, offset: u64) {
        self.needed = offset;
        self.start = self.start.max(offset.min(self.end));
        self.tell_drop();
    }

    /// So many bytes of this life have reached the disk.
    pub(super) fn written(&mut self, life: u64, bytes: usize) {
        if life == self.life {
            self.unwritten = self.unwritten.saturating_sub(bytes);
        }
    }

    /// The disk failed: it is given up until it begins anew. `false`: the report is of an earlier life.
    pub(super) fn fail(&mut self, life: u64, fault: &Fault) -> bool {
        if life != self.life || self.closed {
            return false;
        }
        self.close();
        self.fault = Some(fault.clone());
        true
    }

    /// After a failure: what the memory lets go from here on is kept again, in a life of its own.
    pub(super) fn begin_anew(&mut self) {
        if self.fault.is_some() {
            let needed = self.needed;
            self.restart(self.end);
            self.needed = needed;
        }
    }

    /// Nobody will be served from it until another history begins.
    pub(super) fn close(&mut self) {
        self.forget();
        (self.closed, self.start) = (true, self.end);
    }

    /// Another history begins at `offset`, or what follows `offset` is to be written anew.
    pub(super) fn restart(&mut self, offset: u64) {
        self.forget();
        let (life, orders) = (self.life + 1, core::mem::take(&mut self.orders));
        *self = Self { life, orders, ..Self::new(offset, self.budget) };
    }

    /// Nothing of this life will be read again.
    fn forget(&mut self) {
        let life = self.life;
        self.orders.retain(|(of, _)| *of != life);
        if core::mem::take(&mut self.begun) {
            self.orders.push_back((life, Order::Reset));
        }
        self.unwritten = 0;
    }

    fn tell_drop(&mut self) {
        let before = self.start.min(self.handed);
        let worth = before == self.handed || before.saturating_sub(self.dropped) >= self.budget / DROP_PARTS;
        if self.begun && before > self.dropped && worth {
            self.dropped = before;
            self.orders.push_back((self.life, Order::Drop(before)));
        }
    }
}
