//! Going on from a snapshot that an earlier run of the program took.
//!
//! The primary is asked for what follows it, as a replica does that was started again. If it still has that, no snapshot has to
//! be made. Histories of views begin anew all the same: nothing says how far their replicas had come.

use alloc::format;

use super::Machine;
use super::segment::sends_relative_expiries;
use crate::contract::{Level, Output, SpoolId};
use crate::position::ReplId;
use crate::snapshot::Origin;

/// So long after the stream went on behind a kept snapshot, replicas that are ahead of it are told to come again. Milliseconds.
const CATCH_UP_MS: u64 = 5_000;

impl Machine {
    /// The spool holds this verified snapshot. Said before anything else happens.
    pub fn resume_from(&mut self, id: SpoolId, origin: Origin) {
        self.next_spool = id.0.saturating_add(1);
        // Times to live in its stream count from when they were sent, and nobody knows when that was.
        if !sends_relative_expiries(&origin.summary) {
            self.resumable = Some((id, origin));
        }
    }

    /// Where to ask the primary to go on, where nothing is followed.
    pub(super) fn resumable_place(&self) -> Option<(ReplId, u64)> {
        let (_, origin) = self.resumable.as_ref().filter(|_| self.follow.is_none())?;
        Some((origin.history, origin.offset.saturating_add(1)))
    }

    /// The primary goes on behind the snapshot, if that is what it was asked.
    pub(super) fn resume(&mut self) {
        if self.follow.is_none()
            && let Some((id, origin)) = self.resumable.take()
        {
            self.full_sync_cause = "none: went on behind the kept snapshot";
            let (history, offset) = (origin.history.short(), origin.offset);
            let text = format!("the primary goes on behind the kept snapshot: history {history} offset {offset}");
            self.note(Level::Info, "snapshot-resumed", text);
            self.begin_segment(id, origin);
            self.resumed = Some(self.now.mono_ms);
        }
    }

    /// Whether our stream may still be behind what replicas of the earlier run have.
    pub(super) fn is_catching_up(&self) -> bool {
        self.resumed.is_some_and(|since| self.now.mono_ms.saturating_sub(since) < CATCH_UP_MS)
    }

    /// The history goes on under another id: snapshots of it do so, too.
    pub(super) fn rename_origin(&mut self, id: ReplId) {
        self.spools.iter_mut().for_each(|spooled| spooled.origin.history = id);
        if let Some(newest) = self.spools.last() {
            self.outputs.push_back(Output::SpoolDescribe(newest.id, newest.origin.clone()));
        }
    }
}
