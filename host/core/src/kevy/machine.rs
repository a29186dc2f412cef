//! The machine for a kevy primary: it owns every state, takes what happened and says what must be done.
//!
//! It has the same door as the one for Redis ([`Drive`]); behind it everything is by shard: a link, a place and a snapshot
//! for each shard of the primary, a history for each shard of a view.

mod clock;
mod follow;
mod rounds;
mod serve;
mod ship;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::replica::{Phase, Replica};
use super::settings::Settings;
use super::stream::Stream;
use super::up::{self, Shard};
use super::view::View;
use crate::command::Table;
use crate::contract::{Drive, Input, Level, LinkId, Note, Now, Output};
use crate::limits;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;

/// Counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots taken from shards of the primary.
    pub upstream_full_syncs: u64,
    /// Links to the primary that went on where they were.
    pub upstream_partial_syncs: u64,
    /// Replica links that were given a snapshot.
    pub sync_full: u64,
    /// Replica links that went on where they were.
    pub sync_partial_ok: u64,
}

/// All of the state.
pub struct Machine {
    settings: Settings,
    table: Arc<Table>,
    entropy: Box<dyn FnMut() -> [u8; 20] + Send>,
    now: Now,
    shards: Vec<Shard>,
    views: Vec<View>,
    replicas: BTreeMap<LinkId, Replica>,
    outputs: VecDeque<Output>,
    next_spool: u64,
    last_fresh: Option<u64>,
    stats: Stats,
    ticked: u64,
    pinged: u64,
    stopping: bool,
}

impl Machine {
    /// A machine that follows `settings.upstream`. `pipelines` has an entry a view; `entropy` gives random bytes.
    pub fn new(
        settings: Settings,
        mut pipelines: Vec<Option<Box<dyn Pipeline>>>,
        entropy: Box<dyn FnMut() -> [u8; 20] + Send>,
        now: Now,
    ) -> Self {
        let table = Arc::new(Table::kevy());
        pipelines.resize_with(settings.views.len(), || None);
        let upstream = &settings.upstream;
        let views = settings.views.iter().cloned().zip(pipelines);
        let views = views.map(|(view, pipeline)| View::new(view, upstream, table.clone(), pipeline)).collect();
        let mut machine = Self {
            shards: (0..upstream.shards.max(1)).map(|_| Shard::new(upstream)).collect(),
            views,
            settings,
            table,
            entropy,
            now,
            replicas: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_spool: 0,
            last_fresh: None,
            stats: Stats::default(),
            ticked: now.mono_ms,
            pinged: now.mono_ms,
            stopping: false,
        };
        machine.begin_all_rounds();
        machine
    }

    /// The views, in the order of the settings.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The links on view ports.
    pub fn replicas(&self) -> impl Iterator<Item = (&LinkId, &Replica)> {
        self.replicas.iter()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn note(&mut self, level: Level, event: &'static str, text: String) {
        self.outputs.push_back(Output::Note(Note { level, event, text }));
    }

    fn shard_of_link(&self, link: LinkId) -> Option<usize> {
        self.shards.iter().position(|shard| shard.link == Some(link))
    }

    /// Closes a replica's link on our own account.
    fn drop_link(&mut self, link: LinkId) {
        if let Some(replica) = self.replicas.remove(&link) {
            if replica.phase == Phase::Shipping {
                self.outputs.push_back(Output::ShipCancel(link));
            }
            self.outputs.push_back(Output::Close(link));
        }
    }

    /// Tells each stream where its furthest reader stands. Every turn does this: it must not cost a look at every replica for
    /// every stream.
    fn hold_backlogs(&mut self) {
        let streams = self.views.iter_mut().flat_map(|view| &mut view.groups).flat_map(|group| &mut group.streams);
        streams.for_each(Stream::held_by_nobody);
        for replica in self.replicas.values().filter(|replica| replica.phase == Phase::Streaming) {
            let stream = self.views.get_mut(replica.view).and_then(|view| view.stream_mut(replica.shard));
            stream.into_iter().for_each(|stream| stream.held_at(replica.cursor));
        }
    }
}

impl Drive for Machine {
    fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Connected(shard, link) => self.connected(shard, link),
            Input::DialFailed(shard, why) => self.dial_failed(shard, &why),
            Input::Accepted { link, view, port, peer } => self.accepted(link, view, port, peer),
            Input::Bytes(link, bytes) => match self.shard_of_link(link) {
                Some(shard) => self.heard(shard, bytes),
                None => self.said(link, &bytes),
            },
            Input::Closed(link, why) => match self.shard_of_link(link) {
                Some(shard) => self.upstream_lost(shard, &why),
                None => self.replica_lost(link, &why),
            },
            Input::SpoolWritten(id, bytes) => {
                let arriving = self.shards.iter_mut().find(|shard| shard.phase == up::Phase::Copying(id));
                arriving.into_iter().for_each(|shard| shard.unwritten = shard.unwritten.saturating_sub(bytes));
            }
            Input::Spooled(id, outcome) => self.spooled(id, outcome),
            Input::SpoolDamaged(id, what) => self.spool_damaged(id, &what),
            Input::ShipBytes(link, bytes) => self.ship_bytes(link, &bytes),
            Input::ShipEnded(link, outcome) => self.ship_ended(link, outcome),
            // None is asked for here.
            Input::ShipLength(..) | Input::Walking(_) | Input::Probed(..) | Input::Log(..) => {}
            Input::SpoolPaused(..) | Input::Packed(..) | Input::Unpacked(..) => {}
            Input::Tick => self.tick(),
            Input::Shutdown => self.shutdown(),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn outbox(&mut self, link: LinkId) -> Option<&mut Outbox> {
        match self.shard_of_link(link) {
            Some(shard) => self.shards.get_mut(shard).map(|shard| &mut shard.out),
            None => self.replicas.get_mut(&link).map(|replica| &mut replica.outbox),
        }
    }

    fn links_with_output(&self, links: &mut Vec<LinkId>) {
        links.clear();
        links.extend(self.shards.iter().filter(|shard| !shard.out.is_empty()).filter_map(|shard| shard.link));
        links.extend(self.replicas.iter().filter(|(_, replica)| !replica.outbox.is_empty()).map(|(link, _)| *link));
    }

    fn wants_read(&self, link: LinkId) -> bool {
        let Some(shard) = self.shard_of_link(link).and_then(|shard| self.shards.get(shard)) else { return true };
        !matches!(shard.phase, up::Phase::Verifying(_)) && shard.unwritten < limits::SPOOL_UNWRITTEN_BYTES_MAX
    }

    fn ship_room(&self, link: LinkId) -> usize {
        self.replicas.get(&link).filter(|replica| replica.phase == Phase::Shipping).map_or(0, |replica| {
            let cap = self.views.get(replica.view).map_or(0, |view| view.settings().replica_output_bytes / 2);
            cap.saturating_sub(replica.outbox.len())
        })
    }

    fn pump(&mut self) {
        self.hold_backlogs();
        let mut behind = Vec::new();
        for (link, replica) in &mut self.replicas {
            replica.note_progress(self.now.mono_ms);
            if !matches!(replica.phase, Phase::Shipping | Phase::Streaming) {
                continue;
            }
            let Some(view) = self.views.get(replica.view) else { continue };
            let Some(stream) = view.stream(replica.shard) else { continue };
            if !stream.holds(replica.cursor) {
                behind.push(*link);
            } else if replica.phase == Phase::Streaming
                && replica.cursor < stream.end()
                && replica.outbox.len() < view.settings().replica_output_bytes / 2
            {
                let outbox = &mut replica.outbox;
                replica.cursor = stream.read(replica.cursor, limits::PUMP_BYTES_MAX, |bytes| outbox.push(bytes));
            }
        }
        for link in behind {
            self.fell_behind(link);
        }
    }

    fn next_wakeup(&self) -> u64 {
        let tick = self.ticked + clock::TICK_MS;
        let due = self.shards.iter().filter_map(|shard| match shard.phase {
            up::Phase::Idle(at) if !self.stopping => Some(at.max(self.now.mono_ms)),
            _ => None,
        });
        due.fold(tick, u64::min)
    }

    fn is_drained(&self) -> bool {
        self.stopping
            && self.replicas.values().all(|replica| {
                let end =
                    self.views.get(replica.view).and_then(|view| view.stream(replica.shard)).map_or(0, |s| s.end());
                replica.outbox.is_empty() && (replica.phase != Phase::Streaming || replica.cursor >= end)
            })
    }
}
