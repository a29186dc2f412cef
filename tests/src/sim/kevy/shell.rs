//! The model shell: it does what the machine orders, late, in small pieces and in any order, as a busy host would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Note, Now, Output, ShipOrder, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::kevy::machine::Machine;
use sluicegate_core::kevy::snapshot::{Extent, Intake, RewriteError, Rewriter, write_end, write_head};
use sluicegate_core::pipeline::{KeepAll, Pipeline};
use sluicegate_core::snapshot::{Contents, Format};

use super::lens::Native;
use super::plant::{Kind, Plant};
use crate::sim::rng::Rng;

/// Unix time at the world's beginning. Milliseconds.
const EPOCH_MS: u64 = 1_790_000_000_000;

/// A snapshot that arrives.
struct Spool {
    bytes: Vec<u8>,
    intake: Intake,
    pending: VecDeque<Bytes>,
    ended: bool,
}

/// A snapshot on its way to a replica.
struct Ship {
    made: Result<Vec<u8>, Fault>,
    at: usize,
}

/// What the world has to do or to look at after a turn.
#[derive(Debug)]
pub enum Errand {
    /// Connect to a shard of the primary.
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
    pub pipelines: Vec<Option<Native>>,
    spools: BTreeMap<SpoolId, Spool>,
    failed: BTreeSet<SpoolId>,
    kept: BTreeMap<SpoolId, Rc<Vec<u8>>>,
    ships: BTreeMap<LinkId, Ship>,
    /// The fault that was planted, if any.
    pub plant: Option<Plant>,
    /// Of 1000 verifications and ships so many fail.
    pub moody: u64,
    /// How much it does in one turn.
    pub zeal: u64,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// Orders that cannot be carried out: a fault of the machine.
    pub wrong: Option<String>,
}

impl Shell {
    /// A shell around `machine`.
    pub fn new(machine: Machine, pipelines: Vec<Option<Native>>, rng: Rng, plant: Option<Plant>) -> Self {
        Self {
            machine,
            rng,
            pipelines,
            spools: BTreeMap::new(),
            failed: BTreeSet::new(),
            kept: BTreeMap::new(),
            ships: BTreeMap::new(),
            plant,
            moody: 0,
            zeal: 1,
            now: 0,
            wrong: None,
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

    /// Snapshot bytes that are kept for the machine, one entry a file.
    pub fn files(&self) -> usize {
        self.kept.len() + self.spools.len()
    }

    /// Takes the machine's orders. Some are for the world to carry out.
    pub fn turn(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(shard) => errands.push(Errand::Dial(shard)),
                Output::Close(link) | Output::HangUp(link) => {
                    if self.ships.contains_key(&link) {
                        self.wrong = Some(format!("link {} is closed, and its ship goes on", link.0));
                    }
                    errands.push(Errand::Close(link));
                }
                Output::Note(note) => errands.push(Errand::Note(note)),
                Output::SpoolOpen(id, Format::Kevy) => {
                    let (intake, pending) = (Intake::new(), VecDeque::new());
                    self.spools.insert(id, Spool { bytes: Vec::new(), intake, pending, ended: false });
                }
                Output::SpoolWrite(id, bytes) => match self.spools.get_mut(&id).filter(|spool| !spool.ended) {
                    Some(spool) => spool.pending.push_back(bytes),
                    // The failure may have been told when the order was given already.
                    None if self.failed.contains(&id) => {}
                    None => self.wrong = Some(format!("a write to spool {}, which is not open", id.0)),
                },
                Output::SpoolEnd(id) => self.spools.get_mut(&id).into_iter().for_each(|spool| spool.ended = true),
                Output::SpoolAbort(id) => drop(self.spools.remove(&id)),
                Output::SpoolKeep(ids) => self.keep(&ids),
                Output::Ship(order) => self.ship(&order),
                Output::ShipCancel(link) => drop(self.ships.remove(&link)),
                Output::SpoolOpen(_, Format::Rdb(_))
                | Output::SpoolDescribe(..)
                | Output::SpoolPause(_)
                | Output::Probe(..)
                | Output::Log(..)
                | Output::Pack { .. }
                | Output::Unpack(..)
                | Output::PackEnd(_) => {
                    self.wrong = Some("an order that kevy has no use for".into());
                }
            }
        }
        errands
    }

    fn keep(&mut self, ids: &[SpoolId]) {
        self.kept.retain(|id, _| ids.contains(id));
        for id in ids {
            if !self.kept.contains_key(id) && !self.spools.contains_key(id) && !self.failed.contains(id) {
                self.wrong = Some(format!("spool {} is to be kept, and is not there", id.0));
            }
        }
    }

    fn ship(&mut self, order: &ShipOrder) {
        let Cargo::Kevy { spools, version, share, verbatim } = &order.cargo else { unreachable!("this is kevy") };
        let files: Vec<_> = spools.iter().filter_map(|id| self.kept.get(id).cloned()).collect();
        if files.len() != spools.len() {
            self.wrong = Some(format!("a snapshot of {spools:?} is to be made, and not all are there"));
            return;
        }
        let mut made = match (verbatim, &files[..]) {
            (true, [file]) => Ok(file.to_vec()),
            (true, _) => Err(Fault::new(Party::Own, "not one file")),
            (false, [file]) if share.is_none() => self.rewrite(order.view, file, Rewriter::new(Extent::Whole, None)),
            (false, files) => {
                let mut all = Vec::new();
                write_head(&mut all, *version);
                let less = files.len() > 1 && Plant::strikes(&mut self.plant, Kind::ShardMissing, 300);
                let mut parts = |extent| {
                    let parts = files.iter().skip(usize::from(less));
                    let parts = parts.map(|file| self.rewrite(order.view, file, Rewriter::new(extent, *share)));
                    parts.collect::<Result<Vec<_>, _>>().map(|parts| parts.concat())
                };
                parts(Extent::Records).and_then(|records| {
                    all.extend(records);
                    write_end(&mut all);
                    all.extend(parts(Extent::Trailer)?);
                    Ok(all)
                })
            }
        };
        if self.rng.permille(self.moody) {
            made = Err(Fault::new(Party::Own, "the disk does not answer"));
        }
        if self.ships.insert(order.link, Ship { made, at: 0 }).is_some() {
            self.wrong = Some(format!("link {} gets two snapshots at once", order.link.0));
        }
    }

    fn rewrite(&mut self, view: usize, spooled: &[u8], mut rewriter: Rewriter) -> Result<Vec<u8>, Fault> {
        let leaks = Plant::strikes(&mut self.plant, Kind::SnapshotLeaks, 500);
        let mut keep_all = KeepAll;
        let pipeline: &mut dyn Pipeline = match self.pipelines.get_mut(view) {
            Some(Some(native)) if !leaks => native,
            _ => &mut keep_all,
        };
        let fault = |error| match error {
            RewriteError::Plugin(fault) => Fault::from(fault),
            RewriteError::Unfit(fault) => fault,
            RewriteError::Snapshot(error) => Fault::new(Party::Own, error.to_string()),
        };
        let (mut out, mut rest) = (Vec::new(), spooled);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.rng.portion(rest.len()).max(16).min(rest.len()));
            rewriter.push(piece, pipeline, &mut out).map_err(fault)?;
            rest = behind;
        }
        rewriter.finish(pipeline, &mut out).map_err(fault)?;
        Ok(out)
    }

    /// Does a little of what waits.
    pub fn work(&mut self) {
        for _ in 0..if self.rng.generous { 30 } else { self.zeal } {
            if self.rng.permille(500) {
                self.write_spool();
            } else {
                self.hand_over();
            }
        }
    }

    /// The disk takes some bytes of an arriving snapshot, or says at its end what is in it.
    fn write_spool(&mut self) {
        let Some(id) = pick(&mut self.rng, &self.spools) else { return };
        let moody = self.rng.permille(self.moody);
        let Some(spool) = self.spools.get_mut(&id) else { return };
        let mut failed = moody.then(|| Fault::new(Party::Own, "the disk is full"));
        if let Some(mut bytes) = spool.pending.pop_front() {
            let piece = bytes.split_to(self.rng.portion(bytes.len()));
            if !bytes.is_empty() {
                spool.pending.push_front(bytes);
            }
            spool.bytes.extend_from_slice(&piece);
            if let Err(error) = spool.intake.push(&piece) {
                failed = Some(Fault::new(Party::Upstream, error.to_string()));
            }
            self.tell(Input::SpoolWritten(id, piece.len()));
        } else if spool.ended && (self.rng.generous || self.rng.permille(200)) {
            let outcome = match (failed.take(), spool.intake.finish()) {
                (Some(fault), _) => Err(fault),
                (None, Ok(summary)) => Ok(Contents::Kevy(*summary)),
                (None, Err(error)) => Err(Fault::new(Party::Upstream, error.to_string())),
            };
            let Some(spool) = self.spools.remove(&id) else { return };
            if outcome.is_err() {
                self.failed.insert(id);
            } else {
                let stale = Plant::strikes(&mut self.plant, Kind::SnapshotStale, 500);
                let old = self.kept.values().next_back().filter(|_| stale).cloned();
                self.kept.insert(id, old.unwrap_or_else(|| Rc::new(spool.bytes)));
            }
            return self.tell(Input::Spooled(id, outcome));
        } else {
            return;
        }
        if let Some(fault) = failed {
            self.spools.remove(&id);
            self.failed.insert(id);
            self.tell(Input::Spooled(id, Err(fault)));
        }
    }

    /// Gives one replica a little more of its snapshot.
    fn hand_over(&mut self) {
        let Some(link) = pick(&mut self.rng, &self.ships) else { return };
        let room = self.machine.ship_room(link);
        let Some(ship) = self.ships.get_mut(&link) else { return };
        let end = match &ship.made {
            Err(fault) => Some(Err(fault.clone())),
            Ok(bytes) if bytes.len() == ship.at => Some(Ok(())),
            Ok(bytes) => {
                let n = self.rng.portion(bytes.len() - ship.at).min(room);
                if n > 0 {
                    let piece = Bytes::copy_from_slice(&bytes[ship.at..ship.at + n]);
                    ship.at += n;
                    self.tell(Input::ShipBytes(link, piece));
                }
                None
            }
        };
        if let Some(end) = end {
            self.ships.remove(&link);
            self.tell(Input::ShipEnded(link, end));
        }
    }
}

fn pick<K: Copy + Ord, V>(rng: &mut Rng, map: &BTreeMap<K, V>) -> Option<K> {
    if map.is_empty() { None } else { map.keys().nth(rng.below(map.len())).copied() }
}
