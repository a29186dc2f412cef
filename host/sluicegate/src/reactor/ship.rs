//! Ships: snapshots on their way to replicas, each handed over by a thread of its own.
//!
//! What a view with a history of its own makes of a spooled snapshot is made once, by a walk on a thread of its own, into a
//! product; its ships follow that at their own pace. A view that relays sends the spooled bytes.

mod kevy;
mod packed;
mod product;
mod rate;
mod shelf;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Now, ShipFraming, ShipOrder, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rewrite::RewriteError;

use super::quota::Quota;
use super::spool::{BLOCK_BYTES, Reader, Rested, Spools};
use super::{Event, Reports, Snapshots};
use crate::bootstrap::Plugins;
use packed::Packing;
use product::{Follow, Key, Maker};
use rate::{Pace, Rates};
use shelf::Shelf;

/// Snapshots are read, and go to the reactor, in pieces of this many bytes.
const PIECE_BYTES: usize = BLOCK_BYTES;
/// Pieces that may wait for the reactor.
const PIECES_WAITING: usize = 4;

/// What a ship brings.
enum Load {
    Length(u64),
    Bytes(Bytes),
    End(Result<(), Fault>),
    /// What packs it cannot.
    NoCodec(Fault),
}

/// The ships under way.
pub(super) struct Ships {
    plugins: Arc<Plugins>,
    reports: Reports,
    shelf: Arc<Shelf>,
    rates: Rates,
    under_way: BTreeMap<LinkId, Voyage>,
}

/// What is known of a ship here. Dropped, it calls the ship back.
struct Voyage {
    loads: Receiver<Load>,
    _wanting: Wanting,
}

/// Where a ship's bytes come from.
enum Source {
    /// A spooled snapshot as it is.
    Spool(Reader, ShipFraming),
    /// A product.
    Product(Follow, ShipFraming),
    /// Spooled snapshots of a kevy, and what becomes of them.
    Kevy(Vec<Reader>, ShipOrder),
}

impl Ships {
    pub(super) fn new(settings: &Snapshots, quota: Arc<Quota>, plugins: Arc<Plugins>, reports: Reports) -> Self {
        let shelf = Shelf::new(settings.dir.clone(), quota);
        let rates = Rates::new(settings.rate, &settings.view_rates);
        Self { plugins, reports, shelf, rates, under_way: BTreeMap::new() }
    }

    /// A ship leaves; `true` if it is the first of its kind, so that a walk begins.
    pub(super) fn start(&mut self, order: ShipOrder, spools: &Spools) -> bool {
        let (sender, receiver) = sync_channel(PIECES_WAITING);
        let (wanting, wanted) = Wanted::new();
        let hold = Hold { sender, reports: self.reports.clone(), wanted, pace: self.rates.of(order.view) };
        self.under_way.insert(order.link, Voyage { loads: receiver, _wanting: wanting });
        let view = order.view;
        // Opened here, so that a newer snapshot may replace the files meanwhile.
        let (source, walks) = match self.open(order, spools) {
            Ok((source, walks)) => (Ok(source), walks),
            Err(stop) => (Err(stop), false),
        };
        let plugins = self.plugins.clone();
        let thread = thread::Builder::new().name("ship".into()).spawn(move || {
            let outcome = match source.and_then(|source| sail(source, view, &plugins, &hold)) {
                Err(Stop::Cancelled) => return,
                Err(Stop::Codec(fault)) => Load::NoCodec(fault),
                Err(stop) => Load::End(Err(hold.reports.told(stop))),
                Ok(()) => Load::End(Ok(())),
            };
            // If nobody waits for it any more, that is no news.
            let _ = hold.load(outcome);
        });
        if let Err(error) = thread {
            tracing::error!(event = "ship", "no thread for a snapshot: {error}");
        }
        walks
    }

    /// What a ship brings, and whether that has yet to be made.
    fn open(&self, order: ShipOrder, spools: &Spools) -> Result<(Source, bool), Stop> {
        let open = |id: SpoolId| {
            spools.read(id).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Stop::Damaged(id, format!("its file is gone: {error}")),
                _ => own(format!("cannot open the spooled snapshot: {error}")),
            })
        };
        match &order.cargo {
            Cargo::Rdb { spool, head: None, framing, .. } => Ok((Source::Spool(open(*spool)?, *framing), false)),
            Cargo::Rdb { spool, head: Some(head), target, framing } => {
                let key = Key { view: order.view, spool: *spool, head: *head, target: *target };
                let (follow, maker) = self.shelf.follow(key)?;
                let walks = maker.is_some();
                if let Some(maker) = maker {
                    self.walk(key, open(*spool)?, maker);
                }
                Ok((Source::Product(follow, *framing), walks))
            }
            Cargo::Kevy { spools, .. } => {
                let readers = spools.iter().map(|id| open(*id)).collect::<Result<_, _>>()?;
                Ok((Source::Kevy(readers, order), false))
            }
        }
    }

    fn walk(&self, key: Key, spool: Reader, mut maker: Maker) {
        let (plugins, reports) = (self.plugins.clone(), self.reports.clone());
        let thread = thread::Builder::new().name("walk".into()).spawn(move || {
            let outcome = unpacked(spool, &plugins).and_then(|spool| walk::make(&key, spool, &plugins, &mut maker));
            maker.end(outcome.map_err(|stop| reports.told(stop)));
        });
        if let Err(error) = thread {
            tracing::error!(event = "ship", "no thread for a walk: {error}");
        }
    }

    /// Nobody waits for it any more: the thread notices at its next piece.
    pub(super) fn cancel(&mut self, link: LinkId) {
        self.under_way.remove(&link);
    }

    /// Only these snapshots are of use from now on.
    pub(super) fn keep(&self, spools: &[SpoolId]) {
        self.shelf.keep(spools);
    }

    /// Gives replicas what has been made, as far as they have room.
    pub(super) fn feed(&mut self, machine: &mut dyn Drive, now: Now) {
        self.under_way.retain(|&link, voyage| {
            while machine.ship_room(link) > 0 {
                let input = match voyage.loads.try_recv() {
                    Ok(Load::Length(length)) => Input::ShipLength(link, length),
                    Ok(Load::Bytes(bytes)) => Input::ShipBytes(link, bytes),
                    Ok(Load::End(outcome)) => {
                        machine.handle(now, Input::ShipEnded(link, outcome));
                        return false;
                    }
                    Ok(Load::NoCodec(fault)) => {
                        machine.handle(now, Input::Packed(link, Err(fault)));
                        return false;
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => {
                        let fault = own("the thread that sent the snapshot ended early".into());
                        machine.handle(now, Input::ShipEnded(link, Err(fault.into())));
                        return false;
                    }
                };
                machine.handle(now, input);
            }
            true
        });
    }
}

/// Why a ship does not arrive, or a product is not made.
enum Stop {
    Fault(Fault),
    /// The disk does not give back what was written.
    Damaged(SpoolId, String),
    /// The snapshot is as it should be, and what packs it is not.
    Codec(Fault),
    /// Nobody waits for it any more.
    Cancelled,
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) | Stop::Codec(fault) => fault,
            Stop::Damaged(_, what) => Self::new(Party::Own, format!("the spooled snapshot is damaged: {what}")),
            Stop::Cancelled => Self::new(Party::Replica, "the replica is gone"),
        }
    }
}

fn own(what: String) -> Stop {
    Stop::Fault(Fault::new(Party::Own, what))
}

impl Reports {
    /// What a replica's link hears of this. That a snapshot is damaged, all hear first.
    fn told(&self, stop: Stop) -> Fault {
        if let Stop::Damaged(id, what) = &stop {
            self.send(Event::SpoolDamaged(*id, what.clone()));
        }
        stop.into()
    }
}

/// Whether somebody still waits for a ship.
struct Wanted(Arc<Call>);

/// It is wanted while this is there.
struct Wanting(Arc<Call>);

#[derive(Default)]
struct Call {
    back: Mutex<bool>,
    called: Condvar,
}

impl Call {
    fn back(&self) -> MutexGuard<'_, bool> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn new() -> (Wanting, Self) {
        let call = Arc::new(Call::default());
        (Wanting(call.clone()), Self(call))
    }

    fn check(&self) -> Result<(), Stop> {
        if *self.0.back() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Waits until then.
    fn rest(&self, until: Instant) -> Result<(), Stop> {
        let mut back = self.0.back();
        while !*back {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            back = match self.0.called.wait_timeout(back, left) {
                Ok((back, _)) => back,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Err(Stop::Cancelled)
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        *self.0.back() = true;
        self.0.called.notify_all();
    }
}

/// The way to the reactor.
struct Hold {
    sender: SyncSender<Load>,
    reports: Reports,
    wanted: Wanted,
    pace: Pace,
}

impl Hold {
    /// Asked for each piece that is read, since a view may keep nothing of it.
    fn check_wanted(&self) -> Result<(), Stop> {
        self.wanted.check()
    }

    fn load(&self, load: Load) -> Result<(), Stop> {
        self.sender.send(load).map_err(|_| Stop::Cancelled)?;
        self.reports.wake();
        Ok(())
    }

    /// Snapshot bytes, as fast as they may go.
    fn bytes(&self, mut bytes: Bytes) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(self.pace.piece()));
            if let Some(at) = self.pace.book(piece.len(), Instant::now()) {
                self.wanted.rest(at)?;
            }
            self.load(Load::Bytes(piece))?;
        }
        Ok(())
    }
}

fn sail(source: Source, view: usize, plugins: &Plugins, hold: &Hold) -> Result<(), Stop> {
    let as_it_is = |reader: &mut Rested<Reader>| each_piece(reader, |piece| hold.bytes(Bytes::copy_from_slice(piece)));
    match source {
        Source::Spool(reader, ShipFraming::Packed { first }) => {
            let mut packing = Packing::new(plugins.packer(view), first, hold)?;
            each_piece(&mut unpacked(reader, plugins)?, |piece| packing.push(piece))?;
            packing.finish()
        }
        Source::Spool(reader, _) => as_it_is(&mut unpacked(reader, plugins)?),
        Source::Product(mut follow, ShipFraming::Packed { first }) => {
            let mut packing = Packing::new(plugins.packer(view), first, hold)?;
            while let Some(piece) = follow.next(PIECE_BYTES, &hold.wanted)? {
                packing.push(&piece)?;
            }
            packing.finish()
        }
        Source::Product(follow, framing) => send(follow, framing, hold),
        Source::Kevy(readers, order) => {
            let readers = readers.into_iter().map(|reader| unpacked(reader, plugins));
            let mut readers = readers.collect::<Result<Vec<_>, _>>()?;
            match order.cargo {
                Cargo::Kevy { verbatim: false, version, share, .. } => {
                    kevy::make(version, share, &mut readers, &mut *walk::pipeline(plugins, order.view)?, hold)
                }
                _ => readers.iter_mut().try_for_each(as_it_is),
            }
        }
    }
}

/// Reads a spooled snapshot, however it rests. This waits for the disk, and for a codec that begins: never on the reactor.
fn unpacked(file: Reader, plugins: &Plugins) -> Result<Rested<Reader>, Stop> {
    let id = file.id();
    let codec = plugins.at_rest().map_err(|error| own(format!("the spooled snapshot cannot be unpacked: {error}")))?;
    Rested::open(file, codec).map_err(|error| Stop::Damaged(id, error.to_string()))
}

/// Follows a product to its end. Its length is told as soon as it is known; where the framing needs it, nothing goes before it.
fn send(mut follow: Follow, framing: ShipFraming, hold: &Hold) -> Result<(), Stop> {
    let mut told = framing == ShipFraming::Length;
    if told {
        hold.load(Load::Length(follow.length(&hold.wanted)?))?;
    }
    while let Some(piece) = follow.next(PIECE_BYTES, &hold.wanted)? {
        if let Some(length) = follow.known_length().filter(|_| !told) {
            told = true;
            hold.load(Load::Length(length))?;
        }
        hold.bytes(piece)?;
    }
    Ok(())
}

fn each_piece(reader: &mut Rested<Reader>, mut give: impl FnMut(&[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => give(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Damaged(reader.id(), error.to_string())),
        }
    }
}

/// Why a spooled snapshot cannot be rewritten.
fn broken<E: std::fmt::Display>(error: RewriteError<E>) -> Stop {
    match error {
        RewriteError::Plugin(fault) => Stop::Fault(fault.into()),
        RewriteError::Unfit(fault) => Stop::Fault(fault),
        // It was verified when it came, and its bytes are what they were.
        RewriteError::Snapshot(error) => own(format!("the spooled snapshot cannot be rewritten: {error}")),
    }
}

#[cfg(test)]
mod tests;
