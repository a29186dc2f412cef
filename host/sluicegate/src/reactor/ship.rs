//! Ships: snapshots made from the spool for one replica each, on a thread of their own.

mod kevy;
mod packed;
mod rdb;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Now, ShipFraming, ShipOrder};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::pipeline::{KeepAll, Pipeline};
use sluicegate_core::rewrite::RewriteError;

use packed::Packing;

use super::spool::Kind;
use super::{Reports, spool};
use crate::bootstrap::Plugins;

/// The spool is read in pieces of this many bytes.
const PIECE_BYTES: usize = 128 * 1024;
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
    dir: PathBuf,
    plugins: Arc<Plugins>,
    reports: Reports,
    under_way: BTreeMap<LinkId, Voyage>,
}

/// What is known of a ship here. Dropped, it calls the ship back.
struct Voyage {
    loads: Receiver<Load>,
    _wanted: Arc<()>,
}

impl Ships {
    pub(super) fn new(dir: PathBuf, plugins: Arc<Plugins>, reports: Reports) -> Self {
        Self { dir, plugins, reports, under_way: BTreeMap::new() }
    }

    /// A ship leaves.
    pub(super) fn start(&mut self, order: ShipOrder) {
        let (sender, receiver) = sync_channel(PIECES_WAITING);
        let wanted = Arc::new(());
        let hold = Hold { sender, reports: self.reports.clone(), wanted: Arc::downgrade(&wanted) };
        let (dir, plugins) = (self.dir.clone(), self.plugins.clone());
        let link = order.link;
        // Opened here, so that a newer snapshot may replace the files meanwhile.
        let files = open(&dir, &order.cargo);
        let thread = thread::Builder::new().name("ship".into()).spawn(move || {
            let outcome = files.map_err(|error| own(format!("cannot read the spooled snapshot: {error}")));
            let outcome = outcome.and_then(|files| sail(&order, files, &dir, &plugins, &hold));
            match outcome {
                Ok(()) => hold.load(Load::End(Ok(()))),
                Err(Stop::Fault(fault)) => hold.load(Load::End(Err(fault))),
                Err(Stop::Codec(fault)) => hold.load(Load::NoCodec(fault)),
                Err(Stop::Cancelled) => Ok(()),
            }
        });
        if let Err(error) = thread {
            tracing::error!(event = "ship", "no thread for a snapshot: {error}");
        }
        self.under_way.insert(link, Voyage { loads: receiver, _wanted: wanted });
    }

    /// Nobody waits for it any more: the thread notices at its next piece.
    pub(super) fn cancel(&mut self, link: LinkId) {
        self.under_way.remove(&link);
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
                        let fault = own("the thread that made the snapshot ended early".into());
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

/// Why a ship does not arrive.
enum Stop {
    Fault(Fault),
    /// The snapshot is as it should be, and what packs it is not.
    Codec(Fault),
    /// The replica is gone.
    Cancelled,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) | Stop::Codec(fault) => fault,
            Stop::Cancelled => Fault::new(Party::Replica, "the replica is gone"),
        }
    }
}

fn own(what: String) -> Stop {
    Stop::Fault(Fault::new(Party::Own, what))
}

/// The way to the reactor.
struct Hold {
    sender: SyncSender<Load>,
    reports: Reports,
    wanted: Weak<()>,
}

impl Hold {
    /// Whether somebody still waits for the ship: asked for each piece that is read, since a view may keep nothing of it.
    fn check_wanted(&self) -> Result<(), Stop> {
        if self.wanted.strong_count() > 0 { Ok(()) } else { Err(Stop::Cancelled) }
    }

    fn load(&self, load: Load) -> Result<(), Stop> {
        self.sender.send(load).map_err(|_| Stop::Cancelled)?;
        self.reports.wake();
        Ok(())
    }
}

/// What a cargo is made of.
fn open(dir: &Path, cargo: &Cargo) -> io::Result<Vec<File>> {
    let (spools, kind) = match cargo {
        Cargo::Rdb { spool, .. } => (std::slice::from_ref(spool), Kind::Rdb),
        Cargo::Kevy { spools, .. } => (&spools[..], Kind::Kevy),
    };
    spools.iter().map(|id| File::open(spool::path(dir, *id, kind))).collect()
}

fn sail(order: &ShipOrder, files: Vec<File>, dir: &Path, plugins: &Plugins, hold: &Hold) -> Result<(), Stop> {
    let as_they_are = matches!(order.cargo, Cargo::Rdb { head: None, .. } | Cargo::Kevy { verbatim: true, .. });
    if let (true, Cargo::Rdb { framing: ShipFraming::Packed { first }, .. }) = (as_they_are, &order.cargo) {
        let packing = Packing::new(plugins.packer(order.view), *first, hold)?;
        return files.into_iter().next().map_or(Ok(()), |file| packed::ship(file, packing));
    }
    if as_they_are {
        return files
            .into_iter()
            .try_for_each(|file| each_piece(file, |piece| hold.load(Load::Bytes(Bytes::copy_from_slice(piece)))));
    }
    let pipeline = plugins.pipeline(order.view);
    let pipeline = pipeline.map_err(|error| Stop::Fault(Fault::new(Party::Plugin, error.to_string())))?;
    let mut pipeline: Box<dyn Pipeline> = pipeline.unwrap_or_else(|| Box::new(KeepAll));
    match &order.cargo {
        Cargo::Rdb { head, framing, .. } => {
            let (Some(head), Some(file)) = (head, files.into_iter().next()) else { return Ok(()) };
            if let ShipFraming::Packed { first } = framing {
                let packing = Packing::new(plugins.packer(order.view), *first, hold)?;
                return rdb::make_packed(head, file, &mut *pipeline, packing, hold);
            }
            let way = rdb::Way { dir, link: order.link, framing: *framing };
            rdb::make(head, file, &mut *pipeline, &way, hold)
        }
        Cargo::Kevy { version, share, .. } => kevy::make(*version, *share, &files, &mut *pipeline, hold),
    }
}

fn each_piece(mut file: impl Read, mut give: impl FnMut(&[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => give(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(own(format!("cannot read a spooled snapshot: {error}"))),
        }
    }
}

/// Why a spooled snapshot cannot be rewritten.
fn broken<E: std::fmt::Display>(error: RewriteError<E>) -> Stop {
    match error {
        RewriteError::Plugin(fault) => Stop::Fault(fault.into()),
        // It was verified when it came: what is broken now broke on our disk.
        RewriteError::Snapshot(error) => own(format!("the spooled snapshot is damaged: {error}")),
    }
}
