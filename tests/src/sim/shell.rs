//! The model shell: it does what the machine orders, late, in small pieces and in any order, as a busy host would.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Note, Now, Output, ShipFraming, ShipOrder, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::machine::Machine;
use sluicegate_core::rdb::{Family, Head, RewriteError, Rewriter, ServerVersion};
use sluicegate_core::snapshot::{Arrival, Contents, Format, Framing, Origin};

use super::disk::Disk;
use super::lens::Native;
use super::plant::Plant;
use super::rng::Rng;

/// Unix time at the world's beginning. Milliseconds.
pub const EPOCH_MS: u64 = 1_790_000_000_000;

/// A snapshot that arrives.
struct Spool {
    framing: Framing,
    arrival: Arrival,
    bytes: Vec<u8>,
    received: u64,
    pending: VecDeque<Bytes>,
    ended: bool,
    answered: bool,
}

/// A snapshot on its way to a replica.
struct Ship {
    framing: ShipFraming,
    made: Result<Vec<u8>, Fault>,
    at: usize,
    told_length: bool,
}

/// What the world has to do or to look at after a turn.
#[derive(Debug)]
pub enum Errand {
    /// Connect to this port of the primary.
    Dial(usize),
    /// The machine closes a link.
    Close(LinkId),
    /// Something for the operator.
    Note(Note),
}

/// The machine and everything that a host does for it.
pub struct Shell {
    /// The real thing.
    pub machine: Machine,
    /// Where its chances come from.
    pub rng: Rng,
    /// For each view the pipeline that makes its snapshots.
    pipelines: Vec<Option<Native>>,
    spools: BTreeMap<SpoolId, Spool>,
    kept: BTreeMap<SpoolId, Rc<Vec<u8>>>,
    /// What was written down beside snapshots.
    described: BTreeMap<SpoolId, Origin>,
    ships: BTreeMap<LinkId, Ship>,
    probes: VecDeque<LinkId>,
    /// Where the logs are.
    pub disk: Disk,
    /// The fault that was planted, if any.
    pub plant: Option<Plant>,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// Snapshots whose rewriting was ordered.
    pub shipped: u64,
}

impl Shell {
    /// A shell around `machine`.
    pub fn new(machine: Machine, pipelines: Vec<Option<Native>>, rng: Rng, plant: Option<Plant>) -> Self {
        Self {
            machine,
            rng,
            pipelines,
            spools: BTreeMap::new(),
            kept: BTreeMap::new(),
            described: BTreeMap::new(),
            ships: BTreeMap::new(),
            probes: VecDeque::new(),
            disk: Disk::default(),
            plant,
            now: 0,
            shipped: 0,
        }
    }

    /// The program is started again: all that it knew is gone, but for what a snapshot on the disk says. Where that stands.
    pub fn restart(&mut self, mut machine: Machine) -> Option<Origin> {
        // The disk may not have had the time to take it.
        let kept = self.described.pop_last().filter(|_| self.rng.permille(800));
        self.kept.retain(|id, _| kept.as_ref().is_some_and(|(kept, _)| kept == id));
        let kept = kept.filter(|(id, _)| self.kept.contains_key(id));
        if let Some((id, origin)) = &kept {
            machine.resume_from(*id, origin.clone());
        }
        self.described = kept.iter().cloned().collect();
        self.machine = machine;
        self.spools.clear();
        self.ships.clear();
        self.probes.clear();
        self.disk = Disk::default();
        kept.map(|(_, origin)| origin)
    }

    /// The disk loses a snapshot, and somebody who reads it notices.
    pub fn damage_spool(&mut self) {
        if let Some((id, _)) = self.kept.pop_last() {
            self.tell(Input::SpoolDamaged(id, "its checksum is wrong".into()));
        }
    }

    /// The time as the machine is told it.
    pub fn time(now: u64) -> Now {
        Now { mono_ms: now, unix_ms: EPOCH_MS + now }
    }

    /// Hands in one event.
    pub fn tell(&mut self, input: Input) {
        self.machine.handle(Self::time(self.now), input);
    }

    /// Takes the machine's orders. Some are for the world to carry out.
    pub fn turn(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(port) => errands.push(Errand::Dial(port)),
                Output::Close(link) | Output::HangUp(link) => {
                    self.ships.remove(&link);
                    errands.push(Errand::Close(link));
                }
                Output::Note(note) => errands.push(Errand::Note(note)),
                Output::SpoolOpen(id, Format::Rdb(framing)) => self.open(id, framing),
                Output::SpoolOpen(_, Format::Kevy) => unreachable!("the machine speaks Redis"),
                Output::SpoolEnd(id) => self.spools.get_mut(&id).into_iter().for_each(|spool| spool.ended = true),
                Output::SpoolWrite(id, bytes) => {
                    if let Some(spool) = self.spools.get_mut(&id) {
                        spool.pending.push_back(bytes);
                    }
                }
                Output::SpoolAbort(id) => drop(self.spools.remove(&id)),
                Output::SpoolKeep(ids) => self.keep(&ids),
                Output::SpoolDescribe(id, origin) => drop(self.described.insert(id, origin)),
                Output::Ship(order) => self.ship(order),
                Output::ShipCancel(link) => drop(self.ships.remove(&link)),
                Output::Log(id, order) => self.disk.order(id, order),
                Output::Probe(link, ..) => self.probes.push_back(link),
                Output::SpoolPause(_) | Output::Pack { .. } | Output::Unpack(..) | Output::PackEnd(_) => {
                    unreachable!("nothing is packed here")
                }
            }
        }
        errands
    }

    fn open(&mut self, id: SpoolId, framing: Framing) {
        let (arrival, bytes, pending) = (Arrival::new(framing), Vec::new(), VecDeque::new());
        self.spools.insert(id, Spool { framing, arrival, bytes, received: 0, pending, ended: false, answered: false });
    }

    fn keep(&mut self, ids: &[SpoolId]) {
        for id in ids {
            let Some(spool) = self.spools.remove(id) else { continue };
            let stale = self.plant.as_mut().is_some_and(Plant::keeps_the_old_spool);
            let old = self.kept.last_key_value().map(|(_, bytes)| bytes.clone()).filter(|_| stale);
            self.kept.insert(*id, old.unwrap_or_else(|| Rc::new(spool.bytes)));
        }
        self.kept.retain(|id, _| ids.contains(id));
        self.described.retain(|id, _| ids.contains(id));
        // Verified, and yet of no use.
        self.spools.retain(|_, spool| !spool.answered);
    }

    fn ship(&mut self, order: ShipOrder) {
        self.shipped += 1;
        let Cargo::Rdb { spool, head, framing, .. } = order.cargo else { unreachable!("the machine speaks Redis") };
        let made = match self.kept.get(&spool).cloned() {
            Some(spooled) => self.make(order.view, head, &spooled),
            None => Err(Fault::new(Party::Own, "the spool file is gone")),
        };
        let made = match &mut self.plant {
            Some(plant) => made.map(|bytes| plant.on_snapshot(bytes, head.is_some())),
            None => made,
        };
        self.ships.insert(order.link, Ship { framing, made, at: 0, told_length: false });
    }

    fn make(&mut self, view: usize, head: Option<Head>, spooled: &[u8]) -> Result<Vec<u8>, Fault> {
        let Some(head) = head else { return Ok(spooled.to_vec()) };
        let Some(Some(pipeline)) = self.pipelines.get_mut(view) else {
            return Err(Fault::new(Party::Own, "a rewritten snapshot for a view without plugins"));
        };
        let mut open = Native::new(super::lens::Lens::Relay, Default::default());
        let leaks = self.plant.as_mut().is_some_and(Plant::leaks_a_snapshot);
        let pipeline = if leaks { &mut open } else { pipeline };
        let mut rewriter = Rewriter::new(head);
        let (mut out, mut at) = (Vec::new(), 0);
        while at < spooled.len() && !rewriter.is_done() {
            let n = self.rng.portion(spooled.len() - at).max(16).min(spooled.len() - at);
            let taken = rewriter.push(&spooled[at..at + n], pipeline, &mut out);
            at += taken.map_err(|error| match error {
                RewriteError::Plugin(fault) => Fault::from(fault),
                RewriteError::Unfit(fault) => fault,
                RewriteError::Snapshot(error) => Fault::new(Party::Own, error.to_string()),
            })?;
        }
        rewriter.finish().map_err(|error| Fault::new(Party::Own, error.to_string()))?;
        Ok(out)
    }

    /// Does a little of what waits.
    pub fn work(&mut self) {
        for _ in 0..if self.rng.generous { 30 } else { 1 } {
            match self.rng.below(4) {
                0 => self.write_spool(),
                1 => self.answer_probe(),
                2 => self.work_disk(),
                _ => self.hand_over(),
            }
        }
    }

    /// The disk takes some bytes of the arriving snapshot.
    fn write_spool(&mut self) {
        let waits = |spool: &Spool| !spool.pending.is_empty() || spool.ended && !spool.answered;
        let waiting: Vec<SpoolId> = self.spools.iter().filter(|(_, spool)| waits(spool)).map(|(id, _)| *id).collect();
        if waiting.is_empty() {
            return;
        }
        let id = waiting[self.rng.below(waiting.len())];
        let Some(spool) = self.spools.get_mut(&id) else { return };
        let Some(mut bytes) = spool.pending.pop_front() else {
            spool.answered = true;
            let outcome = spool.arrival.finish();
            return self.tell(Input::Spooled(id, outcome.map(Contents::Rdb)));
        };
        let n = self.rng.portion(bytes.len());
        let piece = bytes.split_to(n);
        if !bytes.is_empty() {
            spool.pending.push_front(bytes);
        }
        let pushed = spool.arrival.push(&piece);
        spool.received += n as u64;
        let whole = match spool.framing {
            Framing::Length(length) => spool.received >= length,
            Framing::Mark(_) | Framing::Packed { .. } => false,
        };
        let outcome = match pushed {
            Ok(taken) => {
                spool.bytes.extend_from_slice(&piece[..taken]);
                (whole || spool.arrival.is_complete()).then(|| spool.arrival.finish())
            }
            Err(fault) => Some(Err(fault)),
        };
        let outcome = outcome.filter(|_| !spool.answered);
        spool.answered |= outcome.is_some();
        self.tell(Input::SpoolWritten(id, n));
        if let Some(outcome) = outcome {
            self.tell(Input::Spooled(id, outcome.map(Contents::Rdb)));
        }
    }

    /// The disk catches up with some of its orders.
    fn work_disk(&mut self) {
        for _ in 0..1 + self.rng.below(20) {
            if let Some((id, report)) = self.disk.work(&mut self.rng, self.plant.as_mut()) {
                self.tell(Input::Log(id, report));
            }
        }
    }

    fn answer_probe(&mut self) {
        let Some(link) = self.probes.pop_front() else { return };
        let version = ServerVersion { family: Family::Redis, major: 7, minor: 2 };
        match self.rng.below(4) {
            // The answer never comes.
            0 => {}
            1 => self.tell(Input::Probed(link, None)),
            _ => self.tell(Input::Probed(link, Some(version))),
        }
    }

    /// Gives one replica a little more of its snapshot.
    fn hand_over(&mut self) {
        let links: Vec<LinkId> = self.ships.keys().copied().collect();
        if links.is_empty() {
            return;
        }
        let link = links[self.rng.below(links.len())];
        let room = self.machine.ship_room(link);
        let Some(ship) = self.ships.get_mut(&link) else { return };
        let bytes = match &ship.made {
            Ok(bytes) => bytes,
            Err(fault) => {
                let fault = fault.clone();
                self.ships.remove(&link);
                return self.tell(Input::ShipEnded(link, Err(fault)));
            }
        };
        if ship.framing == ShipFraming::Length && !ship.told_length {
            ship.told_length = true;
            let length = bytes.len() as u64;
            return self.tell(Input::ShipLength(link, length));
        }
        let left = bytes.len() - ship.at;
        if left == 0 {
            self.ships.remove(&link);
            return self.tell(Input::ShipEnded(link, Ok(())));
        }
        let n = self.rng.portion(left).min(room);
        if n > 0 {
            let piece = Bytes::copy_from_slice(&bytes[ship.at..ship.at + n]);
            ship.at += n;
            self.tell(Input::ShipBytes(link, piece));
        }
    }
}
