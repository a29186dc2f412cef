//! The upstream's snapshot on its way to the spool: verified while it arrives.
//!
//! The end is found by walking the snapshot, never by searching for the end mark: whoever has seen a mark once can put it
//! into a value.

use alloc::format;

use crate::fault::{Fault, Party};
use crate::kevy;
use crate::position::ReplId;
use crate::rdb::{Intake, Summary};

/// How the upstream says where its snapshot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `$<length>`: so many bytes, and the stream begins right behind them.
    Length(u64),
    /// `$EOF:<mark>`: the mark follows the snapshot, and then nothing until the first acknowledgement.
    Mark([u8; 40]),
    /// `$PACK:<token>:<first chunk>`: a [container](crate::pack) from that chunk on, and the stream begins right behind it.
    Packed {
        /// Names the container: after a cut the rest of it can be asked for.
        token: ReplId,
        /// How many chunks are not sent, because they were asked not to be.
        first: u64,
    },
}

/// What a snapshot is, and how its end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Redis and Valkey: the end is found by walking it.
    Rdb(Framing),
    /// kevy: the primary says where the end is.
    Kevy,
}

/// What is in a verified snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Of Redis or Valkey.
    Rdb(Summary),
    /// Of kevy.
    Kevy(kevy::snapshot::Summary),
}

/// What has to be known of a verified snapshot of Redis or Valkey to go on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The history that it is a point of.
    pub history: ReplId,
    /// The offset that it stands for.
    pub offset: u64,
    /// What is in it.
    pub summary: Summary,
}

/// A snapshot that is arriving.
#[derive(Debug)]
pub struct Arrival {
    framing: Framing,
    intake: Intake,
    bytes: u64,
    marked: usize,
}

impl Arrival {
    /// Expects a snapshot framed so; of a packed one, what comes out of the container.
    pub fn new(framing: Framing) -> Self {
        Self { framing, intake: Intake::new(), bytes: 0, marked: 0 }
    }

    /// Takes the next bytes: how many of them belong into the spool.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        if !self.intake.is_done() {
            taken =
                self.intake.push(bytes).map_err(|error| Fault::new(Party::Upstream, format!("snapshot: {error}")))?;
            self.bytes += taken as u64;
        }
        let rest = bytes.get(taken..).unwrap_or(&[]);
        if let Framing::Length(length) = self.framing
            && self.bytes >= length
            && !self.intake.is_done()
        {
            return Err(Fault::new(Party::Upstream, "snapshot: its length says that it ends before its end"));
        }
        if !self.intake.is_done() || rest.is_empty() {
            return Ok(taken);
        }
        let Framing::Mark(mark) = self.framing else {
            let what = match self.framing {
                Framing::Packed { .. } => "snapshot: its container goes on behind its end",
                _ => "snapshot: its length says that it goes on behind its end",
            };
            return Err(Fault::new(Party::Upstream, what));
        };
        let expected = mark.get(self.marked..).unwrap_or(&[]);
        if rest.len() > expected.len() || !expected.starts_with(rest) {
            return Err(Fault::new(Party::Upstream, "snapshot: the end mark does not follow its end"));
        }
        self.marked += rest.len();
        Ok(taken)
    }

    /// Whether snapshot and mark are complete.
    pub fn is_complete(&self) -> bool {
        self.intake.is_done()
            && match self.framing {
                Framing::Length(length) => self.bytes == length,
                Framing::Mark(mark) => self.marked == mark.len(),
                Framing::Packed { .. } => true,
            }
    }

    /// What the snapshot holds, once it is complete; an error if it ends too early.
    pub fn finish(&self) -> Result<Summary, Fault> {
        match self.intake.summary() {
            Some(summary) if self.is_complete() => Ok(summary.clone()),
            _ => Err(Fault::new(
                Party::Upstream,
                format!("snapshot: it ends after {} bytes, before its end", self.bytes),
            )),
        }
    }
}
