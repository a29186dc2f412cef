//! One way of seeing the primary: a history, its backlog, and how the upstream's frames become part of it.
//!
//! A view whose bytes can differ from the primary's has a history of its own; one without plugins relays the primary's,
//! byte for byte, under the primary's id. A view lives in segments: each begins with a snapshot of the primary and ends when
//! the primary no longer continues the stream. Nothing of one segment is ever joined to another.

mod journal;
mod repair;
mod window;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::backlog::{Backlog, Order};
use crate::command::Table;
use crate::contract::SpoolId;
use crate::fault::{Fault, Party};
use crate::limits;
use crate::pipeline::Pipeline;
use crate::position::{Asked, History, ReplId};
use crate::projection::{Bounds, Counts, Projection};
use crate::rope::Rope;
use crate::settings::{CrossKey, ViewSettings};
use journal::Journal;
use window::Window;

pub use journal::Repaired;

/// Checkpoints of the ledger are this many bytes of the view apart, at least.
const LEDGER_STEP_BYTES: u64 = 16 * 1024;
/// Checkpoints that are kept.
const LEDGER_ENTRIES_MAX: usize = 4096;

/// Which upstream position a position of the view answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Offset in the upstream's history, at the end of a frame outside any transaction.
    pub upstream: u64,
    /// Offset in the view's history.
    pub view: u64,
}

/// Sparse checkpoints, ascending on both sides.
#[derive(Debug, Default)]
struct Ledger(VecDeque<Checkpoint>);

impl Ledger {
    fn record(&mut self, checkpoint: Checkpoint) {
        if self.0.back().is_some_and(|last| checkpoint.view < last.view + LEDGER_STEP_BYTES) {
            return;
        }
        if self.0.len() >= LEDGER_ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(checkpoint);
    }

    fn before(&self, view: u64) -> Option<Checkpoint> {
        let behind = self.0.partition_point(|checkpoint| checkpoint.view <= view);
        behind.checked_sub(1).and_then(|index| self.0.get(index).copied())
    }
}

/// Whether a view can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No snapshot of the primary yet, or not any more.
    Waiting,
    /// Snapshot and stream are there.
    Live,
    /// The view could not be kept right; it stays closed until a new snapshot begins a new segment.
    Halted(Fault),
}

/// What makes a view's bytes its own.
#[derive(Debug)]
struct Own {
    projection: Projection,
    rope: Rope,
    ledger: Ledger,
    window: Window,
    /// The upstream's offset behind the last frame that was projected.
    projected: u64,
    /// The upstream's offset that everything in the backlog reaches.
    settled: u64,
    journal: Journal,
    /// How long values were waited for in all. Milliseconds.
    waited_ms: u64,
}

/// Where new replicas of a view begin: a spooled snapshot, and the place in the view's history that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The snapshot.
    pub spool: SpoolId,
    /// The view's offset that it stands for.
    pub offset: u64,
    /// The database that is selected in the view's stream there.
    pub stream_db: u32,
}

/// What a segment begins with.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// The snapshot that every view begins behind.
    pub spool: SpoolId,
    /// The primary's id.
    pub id: ReplId,
    /// The offset that the snapshot stands for.
    pub offset: u64,
    /// The database that the upstream has selected there.
    pub db: u32,
    /// The upstream is redis 6.2 or older: its stream has expiries relative to the moment of arrival.
    pub relative_expiries: bool,
    /// The RDB version of the snapshot: what every replica that was let in can load.
    pub rdb_version: u32,
}

/// A view.
pub struct View {
    settings: ViewSettings,
    table: Arc<Table>,
    pipeline: Option<Box<dyn Pipeline>>,
    history: History,
    backlog: Backlog,
    state: State,
    base: Option<Base>,
    own: Option<Own>,
    counts_before: Counts,
}

impl View {
    /// A view that waits for its first segment. `id` names its history until then.
    pub fn new(settings: ViewSettings, table: Arc<Table>, pipeline: Option<Box<dyn Pipeline>>, id: ReplId) -> Self {
        let backlog = Backlog::with_log(0, settings.backlog_bytes, settings.backlog_disk_bytes);
        Self {
            settings,
            table,
            pipeline,
            history: History::new(id),
            backlog,
            state: State::Waiting,
            base: None,
            own: None,
            counts_before: Counts::default(),
        }
    }

    /// The commands that are known from the next segment on.
    pub fn set_table(&mut self, table: Arc<Table>) {
        self.table = table;
    }

    /// What the operator decided.
    pub fn settings(&self) -> &ViewSettings {
        &self.settings
    }

    /// Whether the view can be served.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The view's history.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The kept end of the view's stream.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Where new replicas begin; `None` outside a segment, or when the snapshot was lost.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// Where the upstream's offset `upstream` lies in the view, and the database that replicas have selected there. `None`
    /// unless the view has put out all that stands before that place, and nothing of what stands behind it.
    pub fn place(&self, upstream: u64) -> Option<(u64, u32)> {
        match (&self.own, &self.state) {
            (None, State::Live) => Some((upstream, 0)),
            (Some(own), State::Live) if own.stands_at(upstream) => {
                Some((self.backlog.end(), own.projection.selected().unwrap_or(0)))
            }
            _ => None,
        }
    }

    /// New replicas begin at `base` from now on, if it is newer than where they began.
    pub fn rebase(&mut self, base: Base) {
        if self.base.is_none_or(|old| old.offset <= base.offset) {
            self.base = Some(base);
        }
    }

    /// The snapshot cannot be used any more.
    pub fn lose_base(&mut self) {
        self.base = None;
    }

    /// Bytes of the view's stream behind its base.
    pub fn log_bytes(&self) -> u64 {
        self.base.map_or(0, |base| self.backlog.end().saturating_sub(base.offset))
    }

    /// Whether the view forwards the primary's bytes under the primary's id.
    pub fn relays(&self) -> bool {
        self.own.is_none()
    }

    /// Whether the view may differ from the truth, by the operator's leave.
    pub fn is_inexact(&self) -> bool {
        let drops = self.settings.cross_key == CrossKey::Drop;
        self.pipeline.as_ref().is_some_and(|pipeline| drops || pipeline.traits().inexact)
    }

    /// How much passed since the start.
    pub fn counts(&self) -> Counts {
        let now = self.own.as_ref().map_or(Counts::default(), |own| own.projection.counts());
        Counts {
            frames_in: self.counts_before.frames_in + now.frames_in,
            frames_out: self.counts_before.frames_out + now.frames_out,
            repaired: self.counts_before.repaired + now.repaired,
        }
    }

    /// The segment has ended: what follows upstream is not a continuation of what this view holds.
    pub fn end_segment(&mut self) {
        self.counts_before = self.counts();
        self.state = State::Waiting;
        self.own = None;
        self.base = None;
        self.backlog.restart(0);
    }

    /// A new segment begins behind a verified snapshot. `fresh` becomes the id of a view with a history of its own.
    pub fn begin_segment(&mut self, segment: &Segment, fresh: ReplId) {
        let floor = self.settings.floor;
        let own_history = self.pipeline.is_some() || segment.relative_expiries || floor.is_some();
        let bounds = Bounds {
            transaction_bytes_max: self.settings.transaction_bytes_max,
            args_max: limits::FRAME_ARGS_MAX,
            // With a floor it is the floor that decides, and what is above it is rewritten.
            restore_version_max: if floor.is_some() { u32::MAX } else { segment.rdb_version },
            floor,
            cross_key: self.settings.cross_key,
            tainted_keys_max: self.settings.repair.keys_max,
        };
        self.own = own_history.then(|| Own {
            projection: Projection::new(
                self.table.clone(),
                self.pipeline.as_deref(),
                segment.relative_expiries,
                bounds,
                segment.db,
            ),
            rope: Rope::default(),
            ledger: Ledger::default(),
            window: Window::default(),
            projected: segment.offset,
            settled: segment.offset,
            journal: Journal::default(),
            waited_ms: 0,
        });
        let (id, offset) = if own_history { (fresh, 0) } else { (segment.id, segment.offset) };
        self.history = History::new(id);
        self.backlog.restart(offset);
        self.base = Some(Base { spool: segment.spool, offset, stream_db: 0 });
        self.state = State::Live;
    }

    /// The upstream's history goes on under another id.
    pub fn upstream_renamed(&mut self, id: ReplId) -> bool {
        if self.relays() && self.state == State::Live && self.history.id != id {
            self.history = self.history.renamed(id, self.backlog.end());
            return true;
        }
        false
    }

    /// Forwards raw bytes (relaying views only).
    pub fn relay(&mut self, bytes: &Bytes, scratch: &mut Rope) {
        if self.relays() && self.state == State::Live {
            scratch.write_shared(bytes.clone());
            self.backlog.append(scratch);
        }
    }

    /// Notes that everything up to `upstream` has been given to the view.
    pub fn checkpoint(&mut self, upstream: u64) {
        let view = self.backlog.end();
        if let Some(own) = self.own.as_mut().filter(|own| !own.holds()) {
            own.settle(Checkpoint { upstream, view });
        }
    }

    /// The nearest known upstream position at or before the view's position `view`.
    pub fn upstream_before(&self, view: u64) -> Option<u64> {
        match &self.own {
            Some(own) => own.ledger.before(view).map(|checkpoint| checkpoint.upstream),
            None => Some(view),
        }
    }

    /// A frame was too large to be held.
    pub fn refuse_oversized(&mut self, offset: u64, bytes: u64) -> Option<Fault> {
        if self.relays() || self.state != State::Live {
            return None;
        }
        let fault = Fault::new(
            Party::Upstream,
            format!(
                "a command of at least {bytes} bytes at offset {offset} is above limits.frame of {} bytes",
                self.settings.frame_bytes_max
            ),
        );
        self.halt(fault.clone());
        Some(fault)
    }

    /// What was read behind `upstream` never happened there; `db` is what was selected at that place. `true` if the view's
    /// own bytes had to be taken back.
    pub fn cut_back(&mut self, upstream: u64, db: u32) -> bool {
        if self.state != State::Live {
            return false;
        }
        match self.own.as_mut() {
            Some(own) => {
                own.projection.abandon_transaction(db);
                own.projected = upstream;
                false
            }
            None if self.backlog.end() > upstream => {
                self.backlog.truncate(upstream);
                true
            }
            None => false,
        }
    }

    /// Says where the replica that is furthest behind stands: of those that stream, and of all that have a place in the stream;
    /// `next` is where a snapshot may stand that is on its way.
    pub fn held_at(&mut self, streaming: Option<u64>, any: Option<u64>, next: Option<u64>) {
        self.backlog.held_at(streaming);
        let base = self.base.filter(|_| self.reaches_snapshot()).map(|base| base.offset);
        let needed = base.into_iter().chain(any).chain(next).min();
        self.backlog.needed_from(needed.unwrap_or(self.backlog.end()));
    }

    /// What the shell must do with the log beneath the backlog next, and for which life of it.
    pub fn log_order(&mut self) -> Option<(u64, Order)> {
        self.backlog.log_order()
    }

    /// So many bytes of this life of the log have reached the disk.
    pub fn log_written(&mut self, life: u64, bytes: usize) {
        self.backlog.log_written(life, bytes);
    }

    /// The disk failed: this life of the log is given up. `false`: it was before.
    pub fn log_failed(&mut self, life: u64, fault: &Fault) -> bool {
        self.backlog.log_failed(life, fault)
    }

    /// After a failure of the disk: the log begins anew.
    pub fn log_anew(&mut self) {
        self.backlog.log_anew();
    }

    /// A PING of our own, so that replicas do not take a silent primary for a dead link. Relaying views add nothing.
    pub fn ping(&mut self) {
        if let (Some(own), State::Live) = (self.own.as_mut(), &self.state) {
            own.rope.write(b"*1\r\n$4\r\nPING\r\n");
            self.backlog.append(&mut own.rope);
        }
    }

    /// Stops serving the view.
    pub fn halt(&mut self, fault: Fault) {
        if let Some(own) = &mut self.own {
            own.window = Window::default();
            own.projection.let_go();
        }
        self.backlog.close_log();
        // Its replicas begin in the next segment: until then newer snapshots take the room of this one.
        self.base = None;
        self.state = State::Halted(fault);
    }

    /// What becomes of a replica that asks `PSYNC id offset`.
    pub fn asked(&self, id: Option<&ReplId>, offset: i64) -> Asked {
        id.map_or(Asked::Foreign, |id| self.history.decide(id, offset, self.backlog.oldest(), self.backlog.end()))
    }

    /// Whether the backlog, or the log beneath it, still reaches back to the base.
    pub fn reaches_snapshot(&self) -> bool {
        self.state == State::Live && self.base.is_some_and(|base| self.backlog.oldest() <= base.offset)
    }
}
