//! Ships: snapshots made from the spool for one replica each, on a thread of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use bytes::Bytes;
use sluicegate_core::contract::{Input, LinkId, Now, ShipFraming, ShipOrder};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::machine::Machine;
use sluicegate_core::pipeline::{KeepAll, Pipeline};
use sluicegate_core::rdb::{Head, RewriteError, Rewriter};

use super::{Reports, spool};
use crate::bootstrap::Plugins;

/// The spool is read in pieces of this many bytes.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that may wait for the reactor.
const PIECES_WAITING: usize = 4;

enum Cargo {
    Length(u64),
    Bytes(Bytes),
    End(Result<(), Fault>),
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
    cargo: Receiver<Cargo>,
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
        // Opened here, so that a newer snapshot may replace the file meanwhile.
        let file = File::open(spool::path(&dir, order.spool));
        let thread = thread::Builder::new().name("ship".into()).spawn(move || {
            let outcome = file.map_err(|error| own(format!("cannot read the spooled snapshot: {error}")));
            let outcome = outcome.and_then(|file| sail(&order, file, &dir, &plugins, &hold));
            match outcome {
                Ok(()) => hold.load(Cargo::End(Ok(()))),
                Err(Stop::Fault(fault)) => hold.load(Cargo::End(Err(fault))),
                Err(Stop::Cancelled) => Ok(()),
            }
        });
        if let Err(error) = thread {
            tracing::error!(event = "ship", "no thread for a snapshot: {error}");
        }
        self.under_way.insert(link, Voyage { cargo: receiver, _wanted: wanted });
    }

    /// Nobody waits for it any more: the thread notices at its next piece.
    pub(super) fn cancel(&mut self, link: LinkId) {
        self.under_way.remove(&link);
    }

    /// Gives replicas what has been made, as far as they have room.
    pub(super) fn feed(&mut self, machine: &mut Machine, now: Now) {
        self.under_way.retain(|&link, voyage| {
            while machine.ship_room(link) > 0 {
                let input = match voyage.cargo.try_recv() {
                    Ok(Cargo::Length(length)) => Input::ShipLength(link, length),
                    Ok(Cargo::Bytes(bytes)) => Input::ShipBytes(link, bytes),
                    Ok(Cargo::End(outcome)) => {
                        machine.handle(now, Input::ShipEnded(link, outcome));
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
            Stop::Fault(fault) => fault,
            Stop::Cancelled => Fault::new(Party::Replica, "the replica is gone"),
        }
    }
}

fn own(what: String) -> Stop {
    Stop::Fault(Fault::new(Party::Own, what))
}

/// The way to the reactor.
struct Hold {
    sender: SyncSender<Cargo>,
    reports: Reports,
    wanted: Weak<()>,
}

impl Hold {
    /// Whether somebody still waits for the ship: asked for each piece that is read, since a view may keep nothing of it.
    fn check_wanted(&self) -> Result<(), Stop> {
        if self.wanted.strong_count() > 0 { Ok(()) } else { Err(Stop::Cancelled) }
    }

    fn load(&self, cargo: Cargo) -> Result<(), Stop> {
        self.sender.send(cargo).map_err(|_| Stop::Cancelled)?;
        self.reports.wake();
        Ok(())
    }
}

fn sail(order: &ShipOrder, file: File, dir: &Path, plugins: &Plugins, hold: &Hold) -> Result<(), Stop> {
    let Some(head) = &order.head else {
        return each_piece(file, |piece| hold.load(Cargo::Bytes(Bytes::copy_from_slice(piece))));
    };
    let pipeline = plugins.pipeline(order.view);
    let pipeline = pipeline.map_err(|error| Stop::Fault(Fault::new(Party::Plugin, error.to_string())))?;
    let mut pipeline = pipeline.unwrap_or_else(|| Box::new(KeepAll));
    match order.framing {
        ShipFraming::Stream => rewrite(head, file, &mut *pipeline, hold, |made| hold.load(Cargo::Bytes(made.into()))),
        ShipFraming::Length => {
            let made = Prepared::new(dir, order.link)?;
            let mut out = &made.file;
            rewrite(head, file, &mut *pipeline, hold, |bytes| {
                out.write_all(&bytes).map_err(|error| own(format!("cannot write a view's snapshot: {error}")))
            })?;
            let length = out.stream_position().and_then(|length| out.seek(SeekFrom::Start(0)).map(|_| length));
            let length = length.map_err(|error| own(format!("cannot measure a view's snapshot: {error}")))?;
            hold.load(Cargo::Length(length))?;
            each_piece(out, |piece| hold.load(Cargo::Bytes(Bytes::copy_from_slice(piece))))
        }
    }
}

/// A view's snapshot that has to be complete before its length can be told; gone with the ship.
struct Prepared {
    file: File,
    path: PathBuf,
}

impl Prepared {
    fn new(dir: &Path, link: LinkId) -> Result<Self, Stop> {
        let path = dir.join(format!("snapshot-for-link-{}.rdb", link.0));
        match spool::create(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(own(format!("cannot write {}: {error}", path.display()))),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn each_piece(mut file: impl Read, mut give: impl FnMut(&[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => give(&piece[..read])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(own(format!("cannot read a spooled snapshot: {error}"))),
        }
    }
}

fn rewrite(
    head: &Head,
    file: File,
    pipeline: &mut dyn Pipeline,
    hold: &Hold,
    mut give: impl FnMut(Vec<u8>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut rewriter = Rewriter::new(*head);
    each_piece(file, |piece| {
        hold.check_wanted()?;
        let mut made = Vec::with_capacity(PIECE_BYTES);
        rewriter.push(piece, pipeline, &mut made).map_err(broken)?;
        if made.is_empty() { Ok(()) } else { give(made) }
    })?;
    rewriter.finish().map_err(broken)?;
    let stats = rewriter.stats();
    tracing::debug!(
        event = "ship",
        kept = stats.kept,
        dropped = stats.dropped,
        renamed = stats.renamed,
        "snapshot rewritten"
    );
    Ok(())
}

fn broken(error: RewriteError) -> Stop {
    Stop::Fault(match error {
        RewriteError::Plugin(fault) => fault.into(),
        // It was verified when it came: what is broken now broke on our disk.
        RewriteError::Snapshot(error) => Fault::new(Party::Own, format!("the spooled snapshot is damaged: {error}")),
    })
}
