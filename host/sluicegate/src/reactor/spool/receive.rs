//! A snapshot on its way to the disk: unpacked if it comes packed, verified, and written, by a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use sluicegate_core::contract::SpoolId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::kevy::snapshot::{Intake, SnapshotError};
use sluicegate_core::snapshot::{Arrival, Contents, Format, Framing};

use super::rest::{Unwritten, Writer};
use super::stored::{Sink, Stored};
use super::{Piece, own};
use crate::bootstrap::Plugins;
use crate::reactor::pack::arrival::{Came, Unpacking};
use crate::reactor::quota::cannot_write;
use crate::reactor::{Event, Reports};

/// Verifies a snapshot of either format.
enum Check {
    Rdb(Box<Arrival>),
    Kevy(Box<Intake>),
}

impl Check {
    fn new(format: Format) -> Self {
        match format {
            Format::Rdb(framing) => Self::Rdb(Box::new(Arrival::new(framing))),
            Format::Kevy => Self::Kevy(Box::default()),
        }
    }

    /// Takes the next bytes: how many of them belong into the spool.
    fn push(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self {
            Self::Rdb(arrival) => arrival.push(bytes),
            Self::Kevy(intake) => intake.push(bytes).map(|()| bytes.len()).map_err(broken),
        }
    }

    /// Whether the bytes themselves say that this was all.
    fn is_complete(&self) -> bool {
        matches!(self, Self::Rdb(arrival) if arrival.is_complete())
    }

    fn finish(&self) -> Result<Contents, Fault> {
        match self {
            Self::Rdb(arrival) => arrival.finish().map(Contents::Rdb),
            Self::Kevy(intake) => intake.finish().copied().map(Contents::Kevy).map_err(broken),
        }
    }
}

/// Where a snapshot is verified and written.
struct Desk<'a> {
    stored: &'a Stored,
    check: Check,
    writer: Writer<Sink<'a>>,
}

impl<'a> Desk<'a> {
    fn new(stored: &'a Stored, format: Format, plugins: &Plugins) -> Result<Self, Fault> {
        let codec = plugins.at_rest().map_err(|error| Fault::new(Party::Plugin, error.to_string()))?;
        // Where the length is known it is refused before it begins, not in the middle. What is packed is shorter, nobody knows
        // by how much.
        let length = match format {
            Format::Rdb(Framing::Length(length)) if codec.is_none() => Some(length),
            Format::Rdb(_) | Format::Kevy => None,
        };
        let sink = stored.sink(length).map_err(Unwritten::from);
        let writer = sink.and_then(|sink| Ok(Writer::new(sink, codec)?));
        let writer = writer.map_err(|error| unwritten(stored.path(), error))?;
        Ok(Self { stored, check: Check::new(format), writer })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let taken = self.check.push(bytes)?;
        self.writer.write(&bytes[..taken]).map_err(|error| unwritten(self.stored.path(), error))
    }

    /// There is no more.
    fn finish(self) -> Result<Contents, Fault> {
        let contents = self.check.finish()?;
        let sink = self.writer.finish().map_err(|error| unwritten(self.stored.path(), error))?;
        self.stored.seal(sink.sums());
        Ok(contents)
    }
}

/// Writes what comes until the snapshot is complete, broken, or given up (`None`).
pub(super) fn receive(
    id: SpoolId,
    stored: &Stored,
    format: Format,
    receiver: &Receiver<Piece>,
    plugins: &Arc<Plugins>,
    reports: &Reports,
) -> Option<Result<Contents, Fault>> {
    let mut desk = match Desk::new(stored, format, plugins) {
        Ok(desk) => desk,
        Err(fault) => return Some(Err(fault)),
    };
    if let Format::Rdb(Framing::Packed { .. }) = format {
        return receive_packed(id, desk, receiver, plugins, reports);
    }
    while !desk.check.is_complete() {
        let bytes = match receiver.recv().ok()? {
            Piece::Bytes(bytes) => bytes,
            Piece::End => break,
            Piece::Pause => continue,
        };
        if let Err(fault) = desk.take(&bytes) {
            return Some(Err(fault));
        }
        reports.send(Event::SpoolWritten(id, bytes.len()));
    }
    Some(desk.finish())
}

/// The same for one that comes in a container, in parts if its link is cut.
fn receive_packed(
    id: SpoolId,
    mut desk: Desk<'_>,
    receiver: &Receiver<Piece>,
    plugins: &Arc<Plugins>,
    reports: &Reports,
) -> Option<Result<Contents, Fault>> {
    let mut unpacking = match Unpacking::new(plugins.clone()) {
        Ok(unpacking) => unpacking,
        Err(fault) => return Some(Err(fault)),
    };
    while !unpacking.is_done() {
        let bytes = match receiver.recv().ok()? {
            Piece::Bytes(bytes) => bytes,
            Piece::End => break,
            Piece::Pause => {
                if let Err(fault) = unpacking.pause() {
                    return Some(Err(fault));
                }
                reports.send(Event::SpoolPaused(id, unpacking.chunks(), None));
                continue;
            }
        };
        let mut rest = &bytes[..];
        loop {
            match unpacking.next(&mut rest) {
                Came::Raw(raw) => {
                    if let Err(fault) = desk.take(raw) {
                        return Some(Err(fault));
                    }
                }
                Came::Nothing => break,
                Came::Damaged(fault) => reports.send(Event::SpoolPaused(id, unpacking.chunks(), Some(fault))),
            }
        }
        reports.send(Event::SpoolWritten(id, bytes.len()));
    }
    Some(desk.finish())
}

fn unwritten(path: &Path, error: Unwritten) -> Fault {
    match error {
        Unwritten::Disk(error) => own(cannot_write(path, &error)),
        Unwritten::Codec(fault) => fault.into(),
    }
}

fn broken(error: SnapshotError) -> Fault {
    Fault::new(Party::Upstream, error.to_string())
}
