//! Ships: snapshots on their way to replicas, each handed over by a thread of its own.
//!
//! What a view with a history of its own makes of a spooled snapshot is made once, by a walk on a thread of its own, into a
//! product; its ships follow that at their own pace. A view that relays sends the spooled bytes.

mod kevy;
mod product;
mod shelf;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use bytes::Bytes;
use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Now, ShipFraming, ShipOrder, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rewrite::RewriteError;

use super::spool::Kind;
use super::{Reports, spool};
use crate::bootstrap::Plugins;
use product::{Follow, Key, Maker};
use shelf::Shelf;

/// Snapshots are read, and go to the reactor, in pieces of this many bytes.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that may wait for the reactor.
const PIECES_WAITING: usize = 4;

/// What a ship brings.
enum Load {
    Length(u64),
    Bytes(Bytes),
    End(Result<(), Fault>),
}

/// The ships under way.
pub(super) struct Ships {
    dir: PathBuf,
    plugins: Arc<Plugins>,
    reports: Reports,
    shelf: Arc<Shelf>,
    under_way: BTreeMap<LinkId, Voyage>,
}

/// What is known of a ship here. Dropped, it calls the ship back.
struct Voyage {
    loads: Receiver<Load>,
    _wanting: Arc<()>,
}

/// Where a ship's bytes come from.
enum Source {
    /// A spooled snapshot as it is.
    Spool(File),
    /// A product.
    Product(Follow, ShipFraming),
    /// Spooled snapshots of a kevy, and what becomes of them.
    Kevy(Vec<File>, ShipOrder),
}

impl Ships {
    pub(super) fn new(dir: PathBuf, plugins: Arc<Plugins>, reports: Reports) -> Self {
        let shelf = Arc::new(Shelf::new(dir.clone()));
        Self { dir, plugins, reports, shelf, under_way: BTreeMap::new() }
    }

    /// A ship leaves; `true` if it is the first of its kind, so that a walk begins.
    pub(super) fn start(&mut self, order: ShipOrder) -> bool {
        let (sender, receiver) = sync_channel(PIECES_WAITING);
        let (wanting, wanted) = Wanted::new();
        let hold = Hold { sender, reports: self.reports.clone(), wanted };
        self.under_way.insert(order.link, Voyage { loads: receiver, _wanting: wanting });
        // Opened here, so that a newer snapshot may replace the files meanwhile.
        let (source, walks) = match self.open(order) {
            Ok((source, walks)) => (Ok(source), walks),
            Err(error) => (Err(own(format!("cannot read the spooled snapshot: {error}"))), false),
        };
        let plugins = self.plugins.clone();
        let thread = thread::Builder::new().name("ship".into()).spawn(move || {
            let outcome = match source.and_then(|source| sail(source, &plugins, &hold)) {
                Err(Stop::Cancelled) => return,
                Err(Stop::Fault(fault)) => Err(fault),
                Ok(()) => Ok(()),
            };
            // If nobody waits for it any more, that is no news.
            let _ = hold.load(Load::End(outcome));
        });
        if let Err(error) = thread {
            tracing::error!(event = "ship", "no thread for a snapshot: {error}");
        }
        walks
    }

    /// What a ship brings, and whether that has yet to be made.
    fn open(&self, order: ShipOrder) -> io::Result<(Source, bool)> {
        match &order.cargo {
            Cargo::Rdb { spool, head: None, .. } => Ok((Source::Spool(open(&self.dir, *spool, Kind::Rdb)?), false)),
            Cargo::Rdb { spool, head: Some(head), framing } => {
                let key = Key { view: order.view, spool: *spool, head: *head };
                let (follow, maker) = self.shelf.follow(key)?;
                let walks = maker.is_some();
                if let Some(maker) = maker {
                    self.walk(key, open(&self.dir, *spool, Kind::Rdb)?, maker);
                }
                Ok((Source::Product(follow, *framing), walks))
            }
            Cargo::Kevy { spools, .. } => {
                let files = spools.iter().map(|id| open(&self.dir, *id, Kind::Kevy)).collect::<io::Result<_>>()?;
                Ok((Source::Kevy(files, order), false))
            }
        }
    }

    fn walk(&self, key: Key, spool: File, mut maker: Maker) {
        let plugins = self.plugins.clone();
        let thread = thread::Builder::new().name("walk".into()).spawn(move || {
            let outcome = walk::make(&key, spool, &plugins, &mut maker);
            maker.end(outcome);
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
    /// Nobody waits for it any more.
    Cancelled,
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => fault,
            Stop::Cancelled => Fault::new(Party::Replica, "the replica is gone"),
        }
    }
}

fn own(what: String) -> Stop {
    Stop::Fault(Fault::new(Party::Own, what))
}

/// Whether somebody still waits for a ship.
struct Wanted(Weak<()>);

impl Wanted {
    /// It is wanted while the first of the two is there.
    fn new() -> (Arc<()>, Self) {
        let wanting = Arc::new(());
        let wanted = Self(Arc::downgrade(&wanting));
        (wanting, wanted)
    }

    fn check(&self) -> Result<(), Stop> {
        if self.0.strong_count() > 0 { Ok(()) } else { Err(Stop::Cancelled) }
    }
}

/// The way to the reactor.
struct Hold {
    sender: SyncSender<Load>,
    reports: Reports,
    wanted: Wanted,
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
}

fn open(dir: &Path, id: SpoolId, kind: Kind) -> io::Result<File> {
    File::open(spool::path(dir, id, kind))
}

fn sail(source: Source, plugins: &Plugins, hold: &Hold) -> Result<(), Stop> {
    match source {
        Source::Spool(file) => each_piece(file, |piece| hold.load(Load::Bytes(Bytes::copy_from_slice(piece)))),
        Source::Product(follow, framing) => send(follow, framing, hold),
        Source::Kevy(files, order) => match order.cargo {
            Cargo::Kevy { verbatim: false, version, share, .. } => {
                kevy::make(version, share, &files, &mut *walk::pipeline(plugins, order.view)?, hold)
            }
            _ => files
                .into_iter()
                .try_for_each(|file| each_piece(file, |piece| hold.load(Load::Bytes(Bytes::copy_from_slice(piece))))),
        },
    }
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
        hold.load(Load::Bytes(piece))?;
    }
    Ok(())
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
