//! The machine: it owns every state, takes what happened and says what must be done.
//!
//! One door in ([`Drive::handle`](crate::contract::Drive::handle)), one door out
//! ([`Drive::poll_output`](crate::contract::Drive::poll_output) and the outboxes).

mod acks;
mod admin;
mod clock;
mod commands;
mod drive;
mod follow;
mod log;
mod packed;
mod progress;
mod refresh;
mod repair;
mod resume;
mod segment;
mod ship;

pub(crate) use follow::human;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::Table;
use crate::contract::{Level, LinkId, Note, Now, Output, SpoolId};
use crate::fault::Fault;
use crate::frame::Scanner;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::position::ReplId;
use crate::rdb::{Family, Summary};
use crate::replica::{Phase, Replica};
use crate::rope::Rope;
use crate::settings::Settings;
use crate::snapshot::{Framing, Origin};
use crate::upstream::{self, Upstream};
use crate::view::View;
use packed::Packs;
use refresh::Refresh;
use repair::Repair;

/// The place in the primary's history.
#[derive(Debug)]
struct Follow {
    id: ReplId,
    /// The format of the snapshot that the segment began with: what every replica that was let in can load.
    format: (Family, u32),
    scanner: Scanner,
    /// Behind the last whole frame outside any transaction: what is acknowledged. `applied ≤ read`.
    applied: u64,
    /// Behind the last byte that was read: where the stream goes on.
    read: u64,
    /// The database selected at `applied`.
    applied_db: u32,
    db: u32,
    in_transaction: bool,
}

/// A snapshot on its way from the primary.
#[derive(Debug)]
struct Arriving {
    id: SpoolId,
    framing: Framing,
    received: u64,
    unwritten: usize,
    started: u64,
    noted: u64,
}

impl Arriving {
    fn new(id: SpoolId, framing: Framing, now: u64) -> Self {
        Self { id, framing, received: 0, unwritten: 0, started: now, noted: now }
    }
}

/// A verified snapshot of the current segment.
#[derive(Debug)]
struct Spooled {
    id: SpoolId,
    origin: Origin,
    since: u64,
}

impl Spooled {
    fn summary(&self) -> &Summary {
        &self.origin.summary
    }
}

/// Counters for INFO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times that a snapshot of the primary began a segment.
    pub upstream_full_syncs: u64,
    /// Newer snapshots of the same history.
    pub refreshes: u64,
    /// Times that the primary let us go on.
    pub upstream_partial_syncs: u64,
    /// Links accepted on view ports.
    pub accepted: u64,
    /// Commands answered on view ports.
    pub commands: u64,
    /// Replicas that were given a snapshot.
    pub sync_full: u64,
    /// Times that a view's snapshot was made of a spooled one.
    pub walks: u64,
    /// Replicas that went on where they were.
    pub sync_partial_ok: u64,
    /// Replicas that could not go on where they were.
    pub sync_partial_err: u64,
}

/// All of the state.
pub struct Machine {
    settings: Settings,
    /// The commands that are known in this segment.
    table: Arc<Table>,
    /// Those of the next one, where they differ.
    next_table: Option<Arc<Table>>,
    /// Those that need no primary to be known.
    builtin: Arc<Table>,
    entropy: Box<dyn FnMut() -> [u8; 20] + Send>,
    run_id: ReplId,
    now: Now,
    started: Now,
    upstream: Upstream,
    up_link: Option<LinkId>,
    up_out: Outbox,
    follow: Option<Follow>,
    /// Why the next attempt asks for a snapshot although the stream could go on.
    fresh_wanted: Option<String>,
    last_fresh: Option<u64>,
    full_sync_cause: &'static str,
    /// The history and offset that the primary promised a snapshot of.
    promised: Option<(ReplId, u64)>,
    arriving: Option<Arriving>,
    /// Those that some view's new replicas begin at, the oldest first.
    spools: Vec<Spooled>,
    refresh: Refresh,
    /// A snapshot of an earlier run of the program, which the primary has not yet been asked about.
    resumable: Option<(SpoolId, Origin)>,
    /// When the stream went on behind such a snapshot. Milliseconds.
    resumed: Option<u64>,
    next_spool: u64,
    views: Vec<View>,
    /// Views whose logs were lost, and when. Milliseconds.
    lost_logs: Vec<(usize, u64)>,
    /// For each view: the end of its stream when that last moved, and when. Milliseconds.
    quiet_since: Vec<(u64, u64)>,
    replicas: BTreeMap<LinkId, Replica>,
    outputs: VecDeque<Output>,
    scratch: Rope,
    stats: Stats,
    repair: Repair,
    packs: Packs,
    ticked: u64,
    acked: u64,
    /// The primary wants to hear that this offset is acknowledged, which it could not be yet.
    ack_owed: Option<u64>,
    stopping: bool,
}

impl Machine {
    /// A machine that follows `settings.upstream`. `pipelines` has an entry a view; `entropy` gives random bytes.
    pub fn new(
        settings: Settings,
        mut pipelines: Vec<Option<Box<dyn Pipeline>>>,
        mut entropy: Box<dyn FnMut() -> [u8; 20] + Send>,
        now: Now,
    ) -> Self {
        let table = Arc::new(Table::builtin());
        pipelines.resize_with(settings.views.len(), || None);
        let views: Vec<View> = settings
            .views
            .iter()
            .zip(pipelines)
            .map(|(view, pipeline)| View::new(view.clone(), table.clone(), pipeline, ReplId::from_entropy(entropy())))
            .collect();
        Self {
            upstream: Upstream::new(settings.upstream.clone()),
            repair: Repair::new(&settings, now.mono_ms),
            refresh: Refresh::new(&settings),
            run_id: ReplId::from_entropy(entropy()),
            quiet_since: views.iter().map(|_| (0, now.mono_ms)).collect(),
            settings,
            builtin: table.clone(),
            table,
            next_table: None,
            entropy,
            now,
            started: now,
            up_link: None,
            up_out: Outbox::default(),
            follow: None,
            fresh_wanted: None,
            last_fresh: None,
            full_sync_cause: "first attach",
            promised: None,
            arriving: None,
            spools: Vec::new(),
            resumable: None,
            resumed: None,
            next_spool: 0,
            lost_logs: Vec::new(),
            views,
            replicas: BTreeMap::new(),
            outputs: VecDeque::new(),
            scratch: Rope::default(),
            stats: Stats::default(),
            ticked: now.mono_ms,
            acked: now.mono_ms,
            ack_owed: None,
            packs: Packs::default(),
            stopping: false,
        }
    }

    /// Tells each view where its furthest readers stand.
    fn hold_backlogs(&mut self) {
        for (index, view) in self.views.iter_mut().enumerate() {
            let mine = || self.replicas.values().filter(|replica| replica.view == index);
            let streaming = mine().filter(|replica| replica.phase == Phase::Streaming);
            let any = mine().filter(|replica| replica.phase.has_place());
            let next = self.refresh.watch.needed_from(index);
            view.held_at(streaming.map(|replica| replica.cursor).min(), any.map(|replica| replica.cursor).min(), next);
        }
    }

    /// The views, in the order of the settings.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The links on view ports.
    pub fn replicas(&self) -> impl Iterator<Item = (&LinkId, &Replica)> {
        self.replicas.iter()
    }

    /// The state of the conversation with the primary.
    pub fn upstream_phase(&self) -> upstream::Phase {
        self.upstream.phase()
    }

    /// The primary's history, the offset that is applied and the offset that was read.
    pub fn upstream_position(&self) -> Option<(ReplId, u64, u64)> {
        self.follow.as_ref().map(|follow| (follow.id, follow.applied, follow.read))
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn fresh_spool(&mut self) -> SpoolId {
        let id = SpoolId(self.next_spool);
        self.next_spool += 1;
        id
    }

    /// The snapshot that new replicas of a view begin at.
    fn spool_of(&self, view: &View) -> Option<&Spooled> {
        view.base().and_then(|base| self.spools.iter().find(|spooled| spooled.id == base.spool))
    }

    fn fresh_id(&mut self) -> ReplId {
        ReplId::from_entropy((self.entropy)())
    }

    fn note(&mut self, level: Level, event: &'static str, text: String) {
        self.outputs.push_back(Output::Note(Note { level, event, text }));
    }

    /// Closes a link on our own account.
    fn close(&mut self, link: LinkId) {
        self.drop_link(link);
        self.ship_next();
    }

    fn drop_link(&mut self, link: LinkId) {
        if let Some(replica) = self.replicas.remove(&link) {
            if replica.phase == Phase::Shipping {
                self.outputs.push_back(Output::ShipCancel(link));
            }
            if replica.packing.is_some() {
                self.outputs.push_back(Output::PackEnd(link));
            }
            self.outputs.push_back(Output::Close(link));
        }
    }

    /// A view can no longer be kept right.
    fn view_halted(&mut self, index: usize, fault: &Fault) {
        let Some(view) = self.views.get(index) else { return };
        let (name, end) = (view.settings().name.clone(), view.backlog().end());
        self.note(Level::Error, "view-halted", format!("view '{name}' halts at its offset {end}: {fault}"));
        self.close_view(index);
    }

    /// Closes every replica of a view.
    fn close_view(&mut self, index: usize) {
        let links: Vec<LinkId> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.view == index && replica.phase.is_replica())
            .map(|(link, _)| *link)
            .collect();
        // All of them first: a place that one frees must not go to the next that is to be closed.
        for link in links {
            self.drop_link(link);
        }
        self.ship_next();
    }
}
