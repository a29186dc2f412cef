//! The spool: the upstream's snapshots on disk, verified on the way there by a thread each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use sluicegate_core::contract::SpoolId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::kevy::snapshot::{Intake, SnapshotError};
use sluicegate_core::snapshot::{Arrival, Contents, Format, Framing};

use super::pack::arrival::{Came, Unpacking};
use super::{Event, Reports};
use crate::bootstrap::Plugins;

/// What is in a file, by its name: an operator who finds one can read it with the server's own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of Redis or Valkey.
    Rdb,
    /// Of one shard of a kevy.
    Kevy,
}

impl Kind {
    fn of(format: Format) -> Self {
        match format {
            Format::Rdb(_) => Self::Rdb,
            Format::Kevy => Self::Kevy,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Rdb => ".rdb",
            Self::Kevy => ".kevysnap",
        }
    }
}

/// Where a snapshot lies.
pub(super) fn path(dir: &Path, id: SpoolId, kind: Kind) -> PathBuf {
    dir.join(format!("snapshot-{}{}", id.0, kind.suffix()))
}

/// Makes a file that nobody else reads: it holds keys of every view.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).read(true).mode(0o600).open(path)
}

/// What a spool's thread is told.
enum Piece {
    Bytes(Bytes),
    /// The link is gone; another one may bring the rest.
    Pause,
    End,
}

/// A snapshot that arrives.
struct Arriving {
    path: PathBuf,
    sender: Sender<Piece>,
}

/// The snapshots in the data directory, and those that arrive.
pub(super) struct Spools {
    dir: PathBuf,
    plugins: Arc<Plugins>,
    reports: Reports,
    arriving: BTreeMap<SpoolId, Arriving>,
}

impl Spools {
    /// Snapshots that an earlier process left behind are of no use any more: nothing says what follows them.
    pub(super) fn new(dir: PathBuf, plugins: Arc<Plugins>, reports: Reports) -> anyhow::Result<Self> {
        let spools = Self { dir, plugins, reports, arriving: BTreeMap::new() };
        spools.remove_all_but(&BTreeSet::new()).with_context(|| format!("cannot clear {}", spools.dir.display()))?;
        Ok(spools)
    }

    /// A snapshot begins to arrive.
    pub(super) fn open(&mut self, id: SpoolId, format: Format) {
        let (sender, receiver) = channel();
        let path = path(&self.dir, id, Kind::of(format));
        self.arriving.insert(id, Arriving { path: path.clone(), sender });
        let (plugins, reports) = (self.plugins.clone(), self.reports.clone());
        let writer = thread::Builder::new().name("spool".into()).spawn(move || {
            let outcome = receive(id, &path, format, &receiver, &plugins, &reports);
            if !matches!(outcome, Some(Ok(_))) {
                // Broken, or given up by the core: nobody will read it, and a full disk needs the room.
                let _ = fs::remove_file(&path);
            }
            if let Some(outcome) = outcome {
                reports.send(Event::Spooled(id, outcome));
            }
        });
        if let Err(error) = writer {
            self.reports.send(Event::Spooled(id, Err(own(format!("no thread for the spool: {error}")))));
        }
    }

    /// More of it. At most a bounded number of bytes is under way: the core stops reading until they are written.
    pub(super) fn write(&self, id: SpoolId, bytes: Bytes) {
        self.tell(id, Piece::Bytes(bytes));
    }

    /// A packed one stands still until its rest comes.
    pub(super) fn pause(&self, id: SpoolId) {
        self.tell(id, Piece::Pause);
    }

    /// The link says that this was all of it.
    pub(super) fn end(&self, id: SpoolId) {
        self.tell(id, Piece::End);
    }

    fn tell(&self, id: SpoolId, piece: Piece) {
        if let Some(arriving) = self.arriving.get(&id) {
            // The thread that ended has reported why.
            let _ = arriving.sender.send(piece);
        }
    }

    /// It will not be finished: its thread removes what there is.
    pub(super) fn abort(&mut self, id: SpoolId) {
        self.arriving.remove(&id);
    }

    /// Its thread has ended.
    pub(super) fn arrived(&mut self, id: SpoolId) {
        self.arriving.remove(&id);
    }

    /// These are verified; others go, but for those that still arrive. Ships that read them keep their open files.
    pub(super) fn keep(&self, ids: &[SpoolId]) {
        let both = |id: &SpoolId| [Kind::Rdb, Kind::Kevy].map(|kind| path(&self.dir, *id, kind));
        let mut kept: BTreeSet<PathBuf> = ids.iter().flat_map(both).collect();
        kept.extend(self.arriving.values().map(|arriving| arriving.path.clone()));
        if let Err(error) = self.remove_all_but(&kept) {
            tracing::warn!(event = "spool", "cannot remove old snapshots from {}: {error}", self.dir.display());
        }
    }

    fn remove_all_but(&self, kept: &BTreeSet<PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let found = entry?.path();
            if !is_ours(&found) || kept.contains(&found) {
                continue;
            }
            match fs::remove_file(&found) {
                // Another thread was faster.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `snapshot-<n>.rdb`, `snapshot-<n>.kevysnap` and `snapshot-for-link-<n>.rdb`; an operator's own files may lie beside them.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let middle = name
        .strip_prefix("snapshot-")
        .and_then(|name| [Kind::Rdb, Kind::Kevy].iter().find_map(|kind| name.strip_suffix(kind.suffix())));
    let number = middle.map(|middle| middle.strip_prefix("for-link-").unwrap_or(middle));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Drop for Spools {
    fn drop(&mut self) {
        // A snapshot without the stream behind it serves nobody.
        let _ = self.remove_all_but(&BTreeSet::new());
    }
}

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

/// Writes what comes until the snapshot is complete, broken, or given up (`None`).
fn receive(
    id: SpoolId,
    path: &Path,
    format: Format,
    receiver: &Receiver<Piece>,
    plugins: &Arc<Plugins>,
    reports: &Reports,
) -> Option<Result<Contents, Fault>> {
    let file = match create(path) {
        Ok(file) => file,
        Err(error) => return Some(Err(own(format!("cannot write {}: {error}", path.display())))),
    };
    let mut sink = Sink { file, path, check: Check::new(format) };
    if let Format::Rdb(Framing::Packed { .. }) = format {
        return receive_packed(id, sink, receiver, plugins, reports);
    }
    while !sink.check.is_complete() {
        let bytes = match receiver.recv().ok()? {
            Piece::Bytes(bytes) => bytes,
            Piece::End => break,
            Piece::Pause => continue,
        };
        if let Err(fault) = sink.take(&bytes) {
            return Some(Err(fault));
        }
        reports.send(Event::SpoolWritten(id, bytes.len()));
    }
    Some(sink.check.finish())
}

/// The same for one that comes in a container, in parts if its link is cut.
fn receive_packed(
    id: SpoolId,
    mut sink: Sink<'_>,
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
                    if let Err(fault) = sink.take(raw) {
                        return Some(Err(fault));
                    }
                }
                Came::Nothing => break,
                Came::Damaged(fault) => reports.send(Event::SpoolPaused(id, unpacking.chunks(), Some(fault))),
            }
        }
        reports.send(Event::SpoolWritten(id, bytes.len()));
    }
    Some(sink.check.finish())
}

/// Where a snapshot is verified and written.
struct Sink<'a> {
    file: File,
    path: &'a Path,
    check: Check,
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let taken = self.check.push(bytes)?;
        let wrote = self.file.write_all(&bytes[..taken]);
        wrote.map_err(|error| own(format!("cannot write {}: {error}", self.path.display())))
    }
}

fn broken(error: SnapshotError) -> Fault {
    Fault::new(Party::Upstream, error.to_string())
}

fn own(what: String) -> Fault {
    Fault::new(Party::Own, what)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use mio::{Poll, Token, Waker};
    use sluicegate_core::kevy::snapshot::{write_end, write_head};

    use super::*;

    /// A spool in a folder of its own, and what its threads report.
    fn spools() -> (tempfile::TempDir, Poll, Receiver<Event>, Spools) {
        let (dir, poll) = (tempfile::tempdir().expect("a folder"), Poll::new().expect("an event queue"));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (sender, events) = channel();
        let spools = Spools::new(dir.path().into(), Arc::new(Plugins::none()), Reports { sender, waker })
            .expect("an empty spool");
        (dir, poll, events, spools)
    }

    /// The next snapshot that is done with.
    fn spooled(events: &Receiver<Event>) -> (SpoolId, Result<Contents, Fault>) {
        loop {
            match events.recv_timeout(Duration::from_secs(10)).expect("a report") {
                Event::Spooled(id, outcome) => return (id, outcome),
                _ => continue,
            }
        }
    }

    fn empty() -> Bytes {
        let mut snapshot = Vec::new();
        write_head(&mut snapshot, 6);
        write_end(&mut snapshot);
        snapshot.into()
    }

    #[test]
    fn several_arrive_at_once_and_those_that_do_are_not_removed() {
        let (dir, _poll, events, mut spools) = spools();
        let names = || {
            let entries = fs::read_dir(dir.path()).expect("the folder");
            entries
                .map(|entry| entry.expect("an entry").file_name().into_string().unwrap_or_default())
                .collect::<BTreeSet<_>>()
        };
        let [done, old, late] = [1, 2, 3].map(SpoolId);
        for id in [done, old, late] {
            spools.open(id, Format::Kevy);
            spools.write(id, empty().slice(..4));
        }
        // Each thread makes its own file, when its turn comes.
        let deadline = Instant::now() + Duration::from_secs(10);
        while names().len() < 3 {
            assert!(Instant::now() < deadline, "only {:?} are there", names());
            thread::yield_now();
        }
        for id in [old, done] {
            spools.write(id, empty().slice(4..));
            spools.end(id);
            let (which, outcome) = spooled(&events);
            assert_eq!(which, id);
            assert!(matches!(outcome, Ok(Contents::Kevy(summary)) if summary.version == 6), "{outcome:?}");
            spools.arrived(id);
        }
        fs::write(dir.path().join("snapshot-9.txt"), "an operator's").expect("writing");
        spools.keep(&[done]);
        let both = ["snapshot-1.kevysnap", "snapshot-3.kevysnap", "snapshot-9.txt"];
        assert_eq!(names(), both.map(String::from).into());
        // It ends before its end.
        spools.end(late);
        let (which, outcome) = spooled(&events);
        assert_eq!(which, late);
        assert!(outcome.is_err_and(|fault| fault.whose == Party::Upstream));
        drop(spools);
        assert_eq!(names(), ["snapshot-9.txt"].map(String::from).into());
    }
}
