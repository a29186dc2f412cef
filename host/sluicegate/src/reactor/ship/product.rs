//! A product: a view's snapshot in a file, made once and sent to any number of replicas, also while it is still being made.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sluicegate_core::contract::SpoolId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rdb::{Crc64, Head, Target};

use super::shelf::Shelf;
use super::{Stop, Wanted, own};
use crate::reactor::quota::{Claim, cannot_write};
use crate::reactor::spool::{self, Sums};

/// A ship that waits for more of its product looks this often whether its replica is still there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a product is made of, and for whom: two replicas with the same key get the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) view: usize,
    pub(super) spool: SpoolId,
    pub(super) head: Head,
    /// The format that it is written in, if that is not the snapshot's own.
    pub(super) target: Option<Target>,
}

/// The file and what is known of it. Gone from the disk with the last one that holds it.
pub(super) struct Product {
    pub(super) key: Key,
    path: PathBuf,
    /// Open as long as it lives.
    file: Option<File>,
    claim: Claim,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes in the file.
    written: u64,
    /// Of these bytes. In memory: a damaged disk cannot damage them, too.
    sums: Sums,
    /// How the making ended.
    end: Option<Result<(), Fault>>,
    /// Ships that read it.
    followers: usize,
    /// Nobody reads it, and nobody will: what is there of it is not finished.
    abandoned: bool,
    /// When it was last asked for, in the order of all such requests.
    used: u64,
}

impl Product {
    pub(super) fn new(key: Key, path: PathBuf, file: File, claim: Claim) -> Arc<Self> {
        Arc::new(Self { key, path, file: Some(file), claim, state: Mutex::default(), moved: Condvar::new() })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is whole, or will be.
    pub(super) fn is_sound(&self) -> bool {
        let state = self.state();
        !state.abandoned && !matches!(state.end, Some(Err(_)))
    }

    /// When it was last asked for, if it is whole and nobody reads it: then giving it up makes room at once.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let state = self.state();
        (state.followers == 0 && state.end.is_some()).then_some(state.used)
    }

    /// Reads it from its beginning; `None` if it will never be whole.
    pub(super) fn follow(self: &Arc<Self>, used: u64) -> Option<Follow> {
        let mut state = self.state();
        if state.abandoned || matches!(state.end, Some(Err(_))) {
            return None;
        }
        state.followers += 1;
        state.used = used;
        Some(Follow { product: self.clone(), at: 0 })
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        spool::let_go(self.file.take().into_iter().collect());
    }
}

/// Makes a product. Dropped without [`Maker::end`], it has failed.
pub(super) struct Maker {
    product: Arc<Product>,
    shelf: Arc<Shelf>,
    ended: bool,
}

impl Maker {
    pub(super) fn new(product: Arc<Product>, shelf: Arc<Shelf>) -> Self {
        Self { product, shelf, ended: false }
    }

    /// Whether a replica still waits for it: asked for each piece that is read, since a view may keep nothing of it.
    pub(super) fn check_wanted(&self) -> Result<(), Stop> {
        let state = self.product.state();
        if state.abandoned || state.end.is_some() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// The next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let at = self.product.state().written;
        self.product.claim.grow(bytes.len() as u64).map_err(own)?;
        let wrote = self.product.file().and_then(|file| file.write_all_at(bytes, at));
        wrote.map_err(|error| own(cannot_write(&self.product.path, &error)))?;
        let mut state = self.product.state();
        state.written += bytes.len() as u64;
        state.sums.push(bytes);
        drop(state);
        self.product.moved.notify_all();
        Ok(())
    }

    /// It is whole, or will never be.
    pub(super) fn end(mut self, outcome: Result<(), Fault>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<(), Fault>) {
        self.ended = true;
        if outcome.is_err() {
            self.shelf.forget(&self.product);
        }
        // What could not be read back is of no use, though the walk has come to its end.
        self.product.state().end.get_or_insert(outcome);
        self.product.moved.notify_all();
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        if !self.ended {
            self.settle(Err(own("the thread that made the snapshot ended early".into()).into()));
        }
    }
}

/// One ship's place in a product.
pub(super) struct Follow {
    product: Arc<Product>,
    at: u64,
}

impl Follow {
    /// The next bytes, at most `max` of them; `None` at the end. Waits until there are some.
    ///
    /// What is there of their block is read and verified first: nothing goes out of it that is not what was written.
    pub(super) fn next(&mut self, max: usize, wanted: &Wanted) -> Result<Option<Bytes>, Stop> {
        let state = self.wait(wanted, |state| state.written > self.at)?;
        if state.written == self.at {
            return Ok(None);
        }
        let (from, length, sum) = state.sums.block(self.at);
        drop(state);
        let mut block = vec![0; length];
        let read = self.product.file().and_then(|file| file.read_exact_at(&mut block, from));
        read.map_err(|error| self.unreadable(&error))?;
        if Crc64::of(&block) != sum {
            return Err(self.unreadable(&format!("it is not what was written there, from its byte {from} on")));
        }
        let given = usize::try_from(self.at - from).unwrap_or(usize::MAX);
        let mut piece = match block.get(given..) {
            Some(rest) if given > 0 => Bytes::copy_from_slice(rest),
            _ => block.into(),
        };
        piece.truncate(max);
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }

    /// The length of all of it. Waits until that is known.
    pub(super) fn length(&self, wanted: &Wanted) -> Result<u64, Stop> {
        Ok(self.wait(wanted, |_| false)?.written)
    }

    /// The length of all of it, if that is known.
    pub(super) fn known_length(&self) -> Option<u64> {
        let state = self.product.state();
        matches!(state.end, Some(Ok(()))).then_some(state.written)
    }

    /// Waits until `enough`, or until it is whole.
    fn wait(&self, wanted: &Wanted, enough: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Stop> {
        let mut state = self.product.state();
        loop {
            wanted.check()?;
            if enough(&state) {
                return Ok(state);
            }
            match &state.end {
                Some(Ok(())) => return Ok(state),
                Some(Err(fault)) => return Err(Stop::Fault(fault.clone())),
                None => {}
            }
            state = match self.product.moved.wait_timeout(state, LOOK_EVERY) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// What cannot be read once is given to nobody else.
    fn unreadable(&self, error: &dyn fmt::Display) -> Stop {
        let what = format!("cannot read {}: {error}", self.product.path.display());
        let mut state = self.product.state();
        state.end = Some(Err(Fault::new(Party::Own, what.clone())));
        own(what)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut state = self.product.state();
        state.followers -= 1;
        state.abandoned |= state.followers == 0 && state.end.is_none();
    }
}
