//! A view of a kevy primary: its streams, and of which shards of the primary they are made.
//!
//! Where a key stays in its shard, each stream is made of one shard of the primary and lives by itself. Where a plugin
//! renames keys, or the view has another number of shards, any stream may hold keys of any shard of the primary: then they
//! all begin together, in a *round*, when a snapshot of every shard has come. In which order the frames of two shards
//! enter a stream is decided by their arrival here and recorded in the stream itself; no key is in two shards, so every
//! order is right.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::projection::{Projection, Sink};
use super::route::{Routing, Share};
use super::settings;
use super::stream::Stream;
use crate::backlog::Backlog;
use crate::command::Table;
use crate::fault::Fault;
use crate::frame::Frames;
use crate::pipeline::Pipeline;
use crate::settings::ViewSettings;

/// Expiries of hash fields are made absolute: replicas from 3.17 on know how, and older ones know no such expiries.
const FIELD_DEADLINES: bool = true;

/// Whether a group of streams can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not every shard of the primary that it is made of has been heard of yet.
    Waiting,
    /// Snapshot and stream are there.
    Live,
    /// It could not be kept right; it stays closed until the next round.
    Halted(Fault),
}

/// Streams that begin together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) state: State,
    /// The shards of the primary that it is made of: the first, and how many.
    sources: core::ops::Range<usize>,
    /// Which of them have a seed in this round.
    seeded: Vec<bool>,
    projection: Projection,
    /// The streams; the first is the view's stream number `first`.
    pub(super) streams: Vec<Stream>,
    first: usize,
}

impl Group {
    fn has_source(&self, source: usize) -> bool {
        self.sources.contains(&source)
    }

    fn is_seeded(&self, source: usize) -> bool {
        source.checked_sub(self.sources.start).and_then(|index| self.seeded.get(index)) == Some(&true)
    }

    /// The shards of the primary that it is made of.
    pub(super) fn sources(&self) -> core::ops::Range<usize> {
        self.sources.clone()
    }
}

/// Where projected commands go.
struct Streams<'a> {
    first: usize,
    streams: &'a mut [Stream],
}

impl Sink for Streams<'_> {
    fn command(&mut self, shard: usize, pieces: &[&[u8]]) {
        if let Some(stream) = shard.checked_sub(self.first).and_then(|index| self.streams.get_mut(index)) {
            stream.push(pieces);
        }
    }
}

/// A view.
pub struct View {
    settings: ViewSettings,
    shards: usize,
    routing: Routing,
    pipeline: Option<Box<dyn Pipeline>>,
    /// Keys may leave their shards.
    mixes: bool,
    pub(super) groups: Vec<Group>,
}

impl View {
    pub(super) fn new(
        settings: settings::View,
        upstream: &settings::Upstream,
        table: Arc<Table>,
        pipeline: Option<Box<dyn Pipeline>>,
    ) -> Self {
        let shards = settings.shards.max(1);
        let renames = pipeline.as_ref().is_some_and(|pipeline| pipeline.traits().renames);
        let mixes = shards != upstream.shards || shards > 1 && renames;
        let view = settings.view;
        let group = |sources: core::ops::Range<usize>, first: usize, count: usize| Group {
            state: State::Waiting,
            seeded: sources.clone().map(|_| false).collect(),
            sources,
            projection: Projection::new(table.clone(), pipeline.as_deref(), shards, upstream.routing, FIELD_DEADLINES),
            streams: (0..count).map(|_| Stream::new(view.backlog_bytes)).collect(),
            first,
        };
        let groups = if mixes {
            Vec::from([group(0..upstream.shards, 0, shards)])
        } else {
            (0..shards).map(|shard| group(shard..shard + 1, shard, 1)).collect()
        };
        Self { settings: view, shards, routing: upstream.routing, pipeline, mixes, groups }
    }

    /// What the operator decided.
    pub fn settings(&self) -> &ViewSettings {
        &self.settings
    }

    /// How many streams it has.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Whether stream `shard` can be served.
    pub fn state(&self, shard: usize) -> Option<&State> {
        self.group_of(shard).and_then(|index| self.groups.get(index)).map(|group| &group.state)
    }

    /// What is kept of stream `shard`.
    pub fn backlog(&self, shard: usize) -> Option<&Backlog> {
        self.stream(shard).map(Stream::backlog)
    }

    /// Whether the spooled bytes are what a replica gets.
    pub(super) fn is_verbatim(&self) -> bool {
        self.pipeline.is_none() && !self.mixes
    }

    /// The keys that belong to stream `shard`; `None`: all that its sources have.
    pub(super) fn share(&self, shard: usize) -> Option<Share> {
        self.mixes.then_some(Share { routing: self.routing, shards: self.shards, shard })
    }

    /// Which group stream `shard` belongs to.
    pub(super) fn group_of(&self, shard: usize) -> Option<usize> {
        (shard < self.shards).then_some(if self.mixes { 0 } else { shard })
    }

    /// Stream `shard`.
    pub(super) fn stream(&self, shard: usize) -> Option<&Stream> {
        let group = self.groups.get(self.group_of(shard)?)?;
        group.streams.get(shard.checked_sub(group.first)?)
    }

    /// Stream `shard`, to be changed.
    pub(super) fn stream_mut(&mut self, shard: usize) -> Option<&mut Stream> {
        let group = self.group_of(shard)?;
        let group = self.groups.get_mut(group)?;
        group.streams.get_mut(shard.checked_sub(group.first)?)
    }

    /// Whether the group is made of several shards of the primary.
    pub(super) fn mixes(&self, group: usize) -> bool {
        self.groups.get(group).is_some_and(|group| group.sources.len() > 1)
    }

    /// The groups whose present round `source` ends by beginning anew: those that it was already part of. One that halted
    /// before it came waits for it all the same: to begin again for that would never end.
    pub(super) fn ended_by(&self, source: usize) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().enumerate().filter(move |(_, group)| group.is_seeded(source)).map(|(index, _)| index)
    }

    /// A new round: every stream of the group gets a new history. Returns the sources that were part of the old round.
    pub(super) fn begin_round(
        &mut self,
        group: usize,
        unix_ms: u64,
        mut generation: impl FnMut() -> u64,
    ) -> Vec<usize> {
        let Some(group) = self.groups.get_mut(group) else { return Vec::new() };
        let was: Vec<usize> = group.sources.clone().filter(|&source| group.is_seeded(source)).collect();
        group.seeded.iter_mut().for_each(|seeded| *seeded = false);
        group.state = State::Waiting;
        group.streams.iter_mut().for_each(|stream| stream.restart(generation(), unix_ms));
        was
    }

    /// What shard `source` holds is known, and what follows it will be taken. Returns the groups that can be served now.
    pub(super) fn seed(&mut self, source: usize) -> Vec<usize> {
        let mut live = Vec::new();
        for (index, group) in self.groups.iter_mut().enumerate() {
            if !group.has_source(source) {
                continue;
            }
            // Of a halted group, too: its next round has to know that this source goes on from somewhere else by then.
            if let Some(seeded) = group.seeded.get_mut(source - group.sources.start) {
                *seeded = true;
            }
            if group.state == State::Waiting && group.seeded.iter().all(|seeded| *seeded) {
                group.state = State::Live;
                live.push(index);
            }
        }
        live
    }

    /// Takes frames of shard `source`. Returns the groups that they halt.
    pub(super) fn take(&mut self, source: usize, frames: &Frames<'_>, unix_ms: u64) -> Vec<(usize, Fault)> {
        let mut halted = Vec::new();
        let home = (!self.mixes).then_some(source);
        for (index, group) in self.groups.iter_mut().enumerate() {
            if !group.is_seeded(source) || matches!(group.state, State::Halted(_)) {
                continue;
            }
            let pipeline = self.pipeline.as_mut().map(|pipeline| &mut **pipeline as &mut dyn Pipeline);
            let mut streams = Streams { first: group.first, streams: &mut group.streams };
            let projected = group.projection.project(frames, pipeline, home, unix_ms, &mut streams);
            group.streams.iter_mut().for_each(Stream::settle);
            if let Err(fault) = projected {
                group.state = State::Halted(fault.clone());
                halted.push((index, fault));
            }
        }
        halted
    }

    /// What the group is called in logs.
    pub(super) fn name(&self, group: usize) -> String {
        if self.mixes || self.shards == 1 {
            return self.settings.name.clone();
        }
        alloc::format!("{}#{group}", self.settings.name)
    }
}
