//! A shell without sockets, files and clocks, and a primary that says what the story wants.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Note, Now, Output, ShipOrder, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::machine::Machine;
use sluicegate_core::kevy::replica::Replica as Attached;
use sluicegate_core::kevy::settings::{Settings, Upstream, View};
use sluicegate_core::kevy::snapshot::{Extent, Intake, Rewriter, write_end, write_head};
use sluicegate_core::kevy::wire;
use sluicegate_core::pipeline::KeepAll;
use sluicegate_core::settings::ViewSettings;
use sluicegate_core::snapshot::{Contents, Format};

use super::replica::Replica;
use super::says::words;
pub(crate) use super::says::{G, Kind, NOTHING, given, large, live, named, snapshot, view};

/// When the clock that never goes back stood at 0, in Unix milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;
struct Spool {
    intake: Intake,
    fault: Option<Fault>,
    bytes: Vec<u8>,
}

/// The machine and a shell around it.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) now: u64,
    /// By how much the other clock was set back. Milliseconds.
    pub(crate) set_back: u64,
    pub(crate) notes: Vec<Note>,
    pub(crate) closed: BTreeSet<LinkId>,
    pub(crate) hung_up: BTreeSet<LinkId>,
    pub(crate) cancelled: Vec<LinkId>,
    pub(crate) ships: Vec<ShipOrder>,
    /// How many snapshots the primary was seen to give.
    pub(crate) spooled: usize,
    /// Snapshots for replicas are made at once.
    pub(crate) ships_itself: bool,
    /// Snapshots of the primary are verified at once; otherwise by [`Rig::verify`].
    pub(crate) verifies_itself: bool,
    /// Every event is followed by a turn of the pump.
    pub(crate) pumps_itself: bool,
    /// The disk takes bytes at once; otherwise when [`Rig::write_spools`] is called.
    pub(crate) writes_itself: bool,
    kinds: Vec<Kind>,
    ups: BTreeMap<usize, LinkId>,
    dialing: BTreeSet<usize>,
    links: u64,
    arriving: BTreeMap<SpoolId, Spool>,
    unwritten: Vec<(SpoolId, usize)>,
    verified: Vec<SpoolId>,
    kept: BTreeMap<SpoolId, Vec<u8>>,
}

impl Rig {
    /// One shard and one view of it.
    pub(crate) fn one(kind: Kind) -> Self {
        Self::new(1, vec![(kind, view("all", 1))])
    }

    /// The same, with the view's settings changed.
    pub(crate) fn tuned(kind: Kind, tune: impl FnOnce(&mut ViewSettings)) -> Self {
        let mut all = view("all", 1);
        tune(&mut all.view);
        Self::new(1, vec![(kind, all)])
    }

    pub(crate) fn new(shards: usize, views: Vec<(Kind, View)>) -> Self {
        // Stories let hours pass without a word of the primary.
        Self::with(Upstream { timeout_ms: u64::MAX, ..Upstream::new("primary", 6004, shards) }, views)
    }

    /// One shard of an old primary, with `a=1` and frame 10 as the next one, and one view of it.
    pub(crate) fn old(dialect: Dialect, kind: Kind) -> Self {
        let upstream = Upstream { dialect: Some(dialect), ..Upstream::new("primary", 6004, 1) };
        let mut rig = Self::with(Upstream { timeout_ms: u64::MAX, ..upstream }, vec![(kind, view("all", 1))]);
        assert_eq!(rig.connect(0), "REPLICATE FROM 0 ID sluicegate#0");
        rig.say(0, "+ACK 0\r\n");
        rig.say(0, given(&snapshot(&[("a", "1")]), 10));
        if dialect == Dialect::K2 {
            rig.say(0, format!("+PING {G} 10\r\n"));
        }
        rig.told(0);
        rig
    }

    pub(crate) fn with(upstream: Upstream, views: Vec<(Kind, View)>) -> Self {
        let (kinds, views): (Vec<Kind>, Vec<View>) = views.into_iter().unzip();
        let pipelines = kinds.iter().map(|kind| kind.pipeline()).collect();
        let mut drawn = 0;
        let entropy = move || {
            drawn += 1;
            [drawn; 20]
        };
        let settings = Settings { upstream, views, ships_max: 8, version: "0.1.0".into() };
        let now = Now { mono_ms: 1_000_000, unix_ms: EPOCH_MS + 1_000_000 };
        let mut rig = Self {
            machine: Machine::new(settings, pipelines, Box::new(entropy), now),
            now: now.mono_ms,
            set_back: 0,
            notes: Vec::new(),
            closed: BTreeSet::new(),
            hung_up: BTreeSet::new(),
            cancelled: Vec::new(),
            ships: Vec::new(),
            spooled: 0,
            ships_itself: true,
            verifies_itself: true,
            pumps_itself: true,
            writes_itself: true,
            kinds,
            ups: BTreeMap::new(),
            dialing: BTreeSet::new(),
            links: 0,
            arriving: BTreeMap::new(),
            unwritten: Vec::new(),
            verified: Vec::new(),
            kept: BTreeMap::new(),
        };
        rig.handle(Input::Tick);
        rig
    }

    /// Unix milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        EPOCH_MS + self.now - self.set_back
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.machine.handle(Now { mono_ms: self.now, unix_ms: self.unix_ms() }, input);
        self.settle();
    }

    /// Does what the machine wants until it wants nothing.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.pumps_itself {
                self.machine.pump();
            }
            let Some(output) = self.machine.poll_output() else { return };
            self.obey(output);
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Dial(shard) => {
                assert!(self.up(shard).is_none(), "shard {shard} has a link");
                self.dialing.insert(shard);
            }
            Output::Close(link) => {
                assert!(!self.ups.values().any(|up| *up == link), "a primary would die of a reset");
                assert!(self.closed.insert(link), "{link:?} is closed twice");
            }
            Output::HangUp(link) => {
                self.ups.retain(|_, up| *up != link);
                assert!(self.hung_up.insert(link), "{link:?} is hung up twice");
            }
            Output::SpoolOpen(id, format) => {
                assert_eq!(format, Format::Kevy);
                self.spooled += 1;
                self.arriving.insert(id, Spool { intake: Intake::new(), fault: None, bytes: Vec::new() });
            }
            Output::SpoolWrite(id, bytes) => self.spool_write(id, &bytes),
            Output::SpoolEnd(id) => {
                self.verified.push(id);
                if self.verifies_itself {
                    self.verify();
                }
            }
            Output::SpoolAbort(id) => {
                self.arriving.remove(&id);
                self.verified.retain(|verified| *verified != id);
            }
            Output::SpoolKeep(ids) => {
                assert!(self.arriving.keys().all(|arriving| ids.contains(arriving)), "one on its way is needed, too");
                self.kept.retain(|kept, _| ids.contains(kept));
            }
            Output::Ship(order) => {
                self.ships.push(order.clone());
                if self.ships_itself {
                    self.ship(&order);
                }
            }
            Output::ShipCancel(link) => self.cancelled.push(link),
            Output::Probe(..) | Output::SpoolDescribe(..) | Output::Log(..) | Output::SpoolPause(_) => {
                panic!("only for Redis: {output:?}")
            }
            Output::Pack { .. } | Output::Unpack(..) | Output::PackEnd(_) => panic!("only for Redis: {output:?}"),
            Output::Note(note) => self.notes.push(note),
        }
    }

    fn spool_write(&mut self, id: SpoolId, bytes: &[u8]) {
        let Some(spool) = self.arriving.get_mut(&id) else { return };
        spool.bytes.extend_from_slice(bytes);
        if spool.fault.is_none() {
            let taken = spool.intake.push(bytes);
            spool.fault = taken.err().map(|error| Fault::new(Party::Upstream, error.to_string()));
        }
        self.unwritten.push((id, bytes.len()));
        if self.writes_itself {
            self.write_spools();
        }
    }

    /// The disk has taken what there was.
    pub(crate) fn write_spools(&mut self) {
        for (id, bytes) in std::mem::take(&mut self.unwritten) {
            self.handle(Input::SpoolWritten(id, bytes));
        }
    }

    /// The files of all snapshots that have ended are whole on disk before the first of them is spoken of, as it may be where
    /// threads do this.
    pub(crate) fn verify(&mut self) {
        let mut outcomes = Vec::new();
        for id in std::mem::take(&mut self.verified) {
            let spool = self.arriving.remove(&id).unwrap();
            let finished =
                spool.intake.finish().cloned().map_err(|error| Fault::new(Party::Upstream, error.to_string()));
            let outcome = spool.fault.map_or(finished, Err);
            if outcome.is_ok() {
                self.kept.insert(id, spool.bytes);
            }
            outcomes.push((id, outcome.map(Contents::Kevy)));
        }
        for (id, outcome) in outcomes {
            self.handle(Input::Spooled(id, outcome));
        }
    }

    /// How many snapshots of the primary are on their way, as far as the shell was told.
    pub(crate) fn arriving(&self) -> usize {
        self.arriving.len()
    }

    /// The spools whose files are still there.
    pub(crate) fn kept(&self) -> Vec<SpoolId> {
        self.kept.keys().copied().collect()
    }

    /// What a shell's thread would write for this order.
    pub(crate) fn made(&self, order: &ShipOrder) -> Result<Vec<u8>, Fault> {
        let Cargo::Kevy { spools, version, share, verbatim } = &order.cargo else { panic!("{order:?}") };
        let gone = || Fault::new(Party::Own, "the spool file is gone");
        let files = spools.iter().map(|id| self.kept.get(id).ok_or_else(gone)).collect::<Result<Vec<_>, _>>()?;
        if *verbatim {
            assert_eq!(files.len(), 1);
            return Ok(files[0].clone());
        }
        let mut pipeline = self.kinds[order.view].pipeline().unwrap_or_else(|| Box::new(KeepAll));
        let mut out = Vec::new();
        let mut rewrite = |extent, out: &mut Vec<u8>| -> Result<(), Fault> {
            for file in &files {
                assert!((4..=*version).contains(&file[8]), "from version 4 on a record is the same in every later one");
                let mut rewriter = Rewriter::new(extent, *share);
                let rewritten = rewriter.push(file, &mut *pipeline, out);
                let rewritten = rewritten.and_then(|()| rewriter.finish(&mut *pipeline, out));
                rewritten.map_err(|error| Fault::new(Party::Plugin, error.to_string()))?;
            }
            Ok(())
        };
        if share.is_none() && files.len() == 1 {
            rewrite(Extent::Whole, &mut out)?;
            return Ok(out);
        }
        write_head(&mut out, *version);
        rewrite(Extent::Records, &mut out)?;
        write_end(&mut out);
        rewrite(Extent::Trailer, &mut out)?;
        Ok(out)
    }

    /// Makes the snapshot of an order, all at once.
    pub(crate) fn ship(&mut self, order: &ShipOrder) {
        match self.made(order) {
            Err(fault) => self.handle(Input::ShipEnded(order.link, Err(fault))),
            Ok(bytes) => {
                self.handle(Input::ShipBytes(order.link, bytes.into()));
                self.handle(Input::ShipEnded(order.link, Ok(())));
            }
        }
    }

    /// Lets time pass, in steps of a tenth of a second.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = (self.now + 100).min(until);
            self.handle(Input::Tick);
        }
    }

    pub(crate) fn link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    /// Sleeps until the next attempt to reach `shard`, and wakes when the machine says; how long that took, in milliseconds.
    pub(crate) fn dialed(&mut self, shard: usize) -> u64 {
        let began = self.now;
        while !self.dialing.remove(&shard) {
            assert!(self.now < began + 60_000, "shard {shard} is never dialed");
            self.now = self.machine.next_wakeup().max(self.now);
            self.handle(Input::Tick);
        }
        self.now - began
    }

    /// Whether somebody is to be dialed.
    pub(crate) fn dials(&self) -> bool {
        !self.dialing.is_empty()
    }

    /// Waits for the next attempt and lets it through; what was said then.
    pub(crate) fn connect(&mut self, shard: usize) -> String {
        self.dialed(shard);
        self.arrives(shard)
    }

    /// An attempt comes through; what was said then.
    pub(crate) fn arrives(&mut self, shard: usize) -> String {
        let link = self.link();
        self.ups.insert(shard, link);
        self.handle(Input::Connected(shard, link));
        words(&self.told(shard))
    }

    /// The link to a shard, if there is one.
    pub(crate) fn up(&self, shard: usize) -> Option<LinkId> {
        self.ups.get(&shard).copied()
    }

    /// A shard of the primary says this.
    pub(crate) fn say(&mut self, shard: usize, bytes: impl AsRef<[u8]>) {
        let link = self.up(shard).expect("a link to the primary");
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// What was said to a shard.
    pub(crate) fn told(&mut self, shard: usize) -> Vec<u8> {
        let Some(link) = self.up(shard) else { return Vec::new() };
        self.machine.outbox(link).map(|outbox| outbox.take()).unwrap_or_default()
    }

    /// The network cuts the link to a shard.
    pub(crate) fn cut(&mut self, shard: usize) {
        let link = self.ups.remove(&shard).expect("a link to the primary");
        self.handle(Input::Closed(link, "cut".into()));
    }

    /// A shard answers our handshake with a snapshot, behind which frame `next` comes.
    pub(crate) fn seed(&mut self, shard: usize, keys: &[(&str, &str)], next: u64) {
        assert_eq!(self.connect(shard), format!("REPLICATE FROM 0 0 ID sluicegate#{shard}"));
        self.say(shard, format!("+ACK {G} 0\r\n"));
        self.say(shard, given(&snapshot(keys), next));
        self.say(shard, format!("+PING {G} {next}\r\n"));
        self.told(shard);
    }

    /// Someone connects to a port of a view and says that it holds what stands before this place.
    pub(crate) fn attach(&mut self, view: usize, port: usize, generation: Option<u64>, offset: u64) -> Replica {
        let link = self.link();
        self.handle(Input::Accepted { link, view, port, peer: format!("10.0.0.{}:4000", link.0) });
        let mut hello = Vec::new();
        wire::write_request(&mut hello, generation, offset, "kevy-replica");
        self.handle(Input::Bytes(link, hello.into()));
        Replica::new(link)
    }

    /// A replica that comes with nothing.
    pub(crate) fn replica(&mut self, view: usize, port: usize) -> Replica {
        self.attach(view, port, Some(0), 0)
    }

    pub(crate) fn send(&mut self, link: LinkId, bytes: impl AsRef<[u8]>) {
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// What the machine knows of a replica's link.
    pub(crate) fn attached(&self, link: LinkId) -> Option<&Attached> {
        self.machine.replicas().find(|(id, _)| **id == link).map(|(_, replica)| replica)
    }

    /// How much waits for a replica.
    pub(crate) fn waiting(&self, link: LinkId) -> usize {
        self.attached(link).map_or(0, |replica| replica.outbox.len())
    }

    /// What was told to the operator of this kind since the last time anyone asked.
    pub(crate) fn noted(&mut self, event: &str) -> Option<String> {
        let found = self.notes.iter().rfind(|note| note.event == event).map(|note| note.text.clone());
        self.notes.clear();
        found
    }
}
