//! Where a segment of the primary's history ends, and the snapshot that the next one begins with.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::acks::write_ack;
use super::follow::human;
use super::{Arriving, Follow, Machine, Spooled};
use crate::contract::{Level, Output, SpoolId};
use crate::fault::{Fault, Party};
use crate::frame::Scanner;
use crate::limits;
use crate::position::ReplId;
use crate::rdb::{Family, Summary};
use crate::snapshot::{Contents, Format, Framing, Origin};
use crate::upstream::Phase;
use crate::view::{Segment, View};

impl Machine {
    /// What follows is not a continuation of what we hold.
    pub(super) fn segment_ends(&mut self, id: ReplId, offset: u64) {
        self.full_sync_cause = match (&self.fresh_wanted, &self.follow) {
            (Some(_), _) => "the snapshot that was there was of no use any more",
            (None, Some(follow)) if follow.id == id => "the primary no longer has the bytes that follow ours",
            (None, Some(_)) => "the primary follows another history",
            (None, None) if self.resumable.is_some() => "the primary no longer has the bytes behind the kept snapshot",
            (None, None) if self.stats.upstream_full_syncs == 0 => "first attach",
            (None, None) => "no position to go on from",
        };
        self.fresh_wanted = None;
        // What waits for its place goes at once, it takes the room of the new one.
        self.forget_refresh();
        self.follow = None;
        (self.resumable, self.resumed) = (None, None);
        // Their files stay until the new one is verified: a program that is started again may still begin from them.
        self.spools.clear();
        self.promised = Some((id, offset));
        self.stats.upstream_full_syncs += 1;
        for index in 0..self.views.len() {
            self.close_view(index);
            if let Some(view) = self.views.get_mut(index) {
                view.end_segment();
            }
        }
        let cause = self.full_sync_cause;
        self.note(
            Level::Info,
            "full-sync-start",
            format!("full sync from the primary begins: {cause}; history {} offset {offset}", id.short()),
        );
    }

    pub(super) fn snapshot_begins(&mut self, framing: Framing) {
        self.abandon_kept();
        let id = self.fresh_spool();
        self.arriving = Some(Arriving::new(id, framing, self.now.mono_ms));
        self.outputs.push_back(Output::SpoolOpen(id, Format::Rdb(framing)));
    }

    pub(super) fn spooled(&mut self, id: SpoolId, outcome: Result<Contents, Fault>) {
        if self.refresh.arriving.as_ref().is_some_and(|arriving| arriving.id == id) {
            return self.refresh_spooled(id, outcome);
        }
        let Some(arriving) = self.arriving.take_if(|arriving| arriving.id == id) else {
            return self.spooled_unlinked(id, outcome);
        };
        let outcome = summary_of(outcome);
        let (Some((history, offset)), Ok(summary)) = (self.promised, &outcome) else {
            let fault = outcome.err().unwrap_or_else(|| Fault::new(Party::Own, "a snapshot that nobody promised"));
            self.note(Level::Error, "full-sync-failed", format!("{fault}; the snapshot is thrown away"));
            if fault.whose == Party::Plugin && self.upstream.is_packed() {
                self.upstream.unpack_failed(false);
            }
            return self.upstream_failed(&fault);
        };
        self.upstream.snapshot_complete();
        if self.upstream.phase() != Phase::Verifying {
            let fault = Fault::new(Party::Upstream, "snapshot: it ends before the length that was announced");
            return self.upstream_failed(&fault);
        }
        self.promised = None;
        self.last_fresh = self.last_fresh.map(|_| self.now.mono_ms);
        self.note_synced(&arriving, summary);
        self.begin_described(id, Origin { history, offset, summary: summary.clone() });
        self.upstream.streaming(self.now.mono_ms);
        let mut ack = Vec::new();
        write_ack(&mut ack, offset);
        self.up_out.push_copy(&ack);
        self.listen();
    }

    /// A segment begins behind a snapshot that is new here: the next start finds it described on the disk.
    pub(super) fn begin_described(&mut self, spool: SpoolId, origin: Origin) {
        self.begin_segment(spool, origin.clone());
        self.keep_spools();
        self.outputs.push_back(Output::SpoolDescribe(spool, origin));
    }

    /// A segment begins behind a verified snapshot.
    pub(super) fn begin_segment(&mut self, spool: SpoolId, origin: Origin) {
        let Origin { history: id, offset, summary } = &origin;
        let (id, offset) = (*id, *offset);
        let db = summary.repl_stream_db.unwrap_or(0);
        let format = (summary.family, summary.version);
        if let Some(table) = self.next_table.take() {
            self.views.iter_mut().for_each(|view| view.set_table(table.clone()));
            self.table = table;
        }
        let relative_expiries = sends_relative_expiries(summary);
        let segment = Segment { spool, id, offset, db, relative_expiries, rdb_version: summary.version };
        for index in 0..self.views.len() {
            let fresh = self.fresh_id();
            if let Some(view) = self.views.get_mut(index) {
                view.begin_segment(&segment, fresh);
            }
        }
        let scanner = Scanner::new(self.table.clone(), offset, frame_bytes_max(&self.views));
        let place =
            Follow { id, format, scanner, applied: offset, read: offset, applied_db: db, db, in_transaction: false };
        self.follow = Some(place);
        self.spools = vec![Spooled { id: spool, origin, since: self.now.mono_ms }];
    }

    fn note_synced(&mut self, arriving: &Arriving, summary: &Summary) {
        let ms = self.now.mono_ms.saturating_sub(arriving.started).max(1);
        let text = format!(
            "full sync done: {} keys, {} in {}.{:03} s ({}/s), {:?} RDB {}, cause: {}",
            summary.keys,
            human(summary.bytes),
            ms / 1000,
            ms % 1000,
            human(summary.bytes.saturating_mul(1000) / ms),
            summary.family,
            summary.version,
            self.full_sync_cause,
        );
        self.note(Level::Info, "full-sync-done", text);
    }

    /// Says how far a snapshot has come, now and then.
    pub(super) fn note_progress(&mut self) {
        const NOTE_EVERY_MS: u64 = 2_000;
        let now = self.now.mono_ms;
        let Some(arriving) = self.arriving.as_mut().filter(|arriving| now - arriving.noted >= NOTE_EVERY_MS) else {
            return;
        };
        arriving.noted = now;
        let ms = now.saturating_sub(arriving.started).max(1);
        let rate = human(arriving.received.saturating_mul(1000) / ms);
        let text = match arriving.framing {
            Framing::Length(length) => {
                let percent = arriving.received.saturating_mul(100) / length.max(1);
                format!("full sync: {} of {} ({percent} %), {rate}/s", human(arriving.received), human(length))
            }
            Framing::Mark(_) | Framing::Packed { .. } => format!("full sync: {}, {rate}/s", human(arriving.received)),
        };
        self.note(Level::Info, "full-sync-progress", text);
    }
}

/// The contents of a snapshot that Redis or Valkey sent.
pub(super) fn summary_of(outcome: Result<Contents, Fault>) -> Result<Summary, Fault> {
    outcome.and_then(|contents| match contents {
        Contents::Rdb(summary) => Ok(summary),
        Contents::Kevy(_) => Err(Fault::new(Party::Own, "a snapshot of kevy where one of Redis was asked for")),
    })
}

/// Whether the server that wrote the snapshot puts expiries into its stream as times to live (redis 6.2 and older).
pub(super) fn sends_relative_expiries(summary: &Summary) -> bool {
    let major = |version: &str| version.split('.').next()?.parse::<u32>().ok();
    summary.family == Family::Redis && summary.server_version.as_deref().and_then(major).is_some_and(|major| major < 7)
}

/// The largest frame that any view wants to see whole.
pub(super) fn frame_bytes_max(views: &[View]) -> usize {
    let own = views.iter().filter(|view| !view.relays()).map(|view| view.settings().frame_bytes_max).max();
    own.unwrap_or(limits::HANDSHAKE_BYTES_MAX)
}
