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
mod packed;
mod repair;
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
use crate::rdb::Summary;
use crate::replica::{Phase, Replica};
use crate::rope::Rope;
use crate::settings::Settings;
use crate::snapshot::Framing;
use crate::upstream::{self, Upstream};
use crate::view::View;
use packed::Packs;
use repair::Repair;

/// The place in the primary's history.
#[derive(Debug)]
struct Follow {
    id: ReplId,
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

/// The snapshot that the current segment began with.
#[derive(Debug)]
struct Spooled {
    id: SpoolId,
    summary: Summary,
    since: u64,
}

/// Counters for INFO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots taken from the primary.
    pub upstream_full_syncs: u64,
    /// Times that the primary let us go on.
    pub upstream_partial_syncs: u64,
    /// Links accepted on view ports.
    pub accepted: u64,
    /// Commands answered on view ports.
    pub commands: u64,
    /// Replicas that were given a snapshot.
    pub sync_full: u64,
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
    spooled: Option<Spooled>,
    next_spool: u64,
    views: Vec<View>,
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
            spooled: None,
            next_spool: 0,
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

    /// Tells each view where its furthest reader stands.
    fn hold_backlogs(&mut self) {
        for (index, view) in self.views.iter_mut().enumerate() {
            let readers =
                self.replicas.values().filter(|replica| replica.view == index && replica.phase == Phase::Streaming);
            view.held_at(readers.map(|replica| replica.cursor).min());
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
