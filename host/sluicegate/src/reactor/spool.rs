//! The spool: the upstream's snapshots on disk, verified on the way there by a thread of their own.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use sluicegate_core::contract::SpoolId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rdb::Summary;
use sluicegate_core::snapshot::{Arrival, Framing};

use super::{Event, Reports};

const SUFFIX: &str = ".rdb";

/// Where a snapshot lies.
pub(super) fn path(dir: &Path, id: SpoolId) -> PathBuf {
    dir.join(format!("snapshot-{}{SUFFIX}", id.0))
}

/// Makes a file that nobody else reads: it holds keys of every view.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).read(true).mode(0o600).open(path)
}

/// The snapshots in the data directory, and the one that arrives.
pub(super) struct Spools {
    dir: PathBuf,
    reports: Reports,
    arriving: Option<(SpoolId, Sender<Bytes>)>,
}

impl Spools {
    /// Snapshots that an earlier process left behind are of no use any more: nothing says what follows them.
    pub(super) fn new(dir: PathBuf, reports: Reports) -> anyhow::Result<Self> {
        let spools = Self { dir, reports, arriving: None };
        spools.remove_all_but(None).with_context(|| format!("cannot clear {}", spools.dir.display()))?;
        Ok(spools)
    }

    /// A snapshot begins to arrive.
    pub(super) fn open(&mut self, id: SpoolId, framing: Framing) {
        let (sender, receiver) = channel();
        let (path, reports) = (path(&self.dir, id), self.reports.clone());
        let unable = self.reports.clone();
        let writer = thread::Builder::new().name("spool".into()).spawn(move || {
            let outcome = receive(&path, framing, &receiver, &reports);
            if !matches!(outcome, Some(Ok(_))) {
                // Broken, or given up by the core: nobody will read it, and a full disk needs the room.
                let _ = fs::remove_file(&path);
            }
            if let Some(outcome) = outcome {
                reports.send(Event::Spooled(id, outcome));
            }
        });
        if let Err(error) = writer {
            unable.send(Event::Spooled(id, Err(own(format!("no thread for the spool: {error}")))));
        }
        self.arriving = Some((id, sender));
    }

    /// More of it. At most a bounded number of bytes is under way: the core stops reading until they are written.
    pub(super) fn write(&self, id: SpoolId, bytes: Bytes) {
        if let Some((_, sender)) = self.arriving.as_ref().filter(|(arriving, _)| *arriving == id) {
            // The thread that ended has reported why.
            let _ = sender.send(bytes);
        }
    }

    /// It will not be finished.
    pub(super) fn abort(&mut self, id: SpoolId) {
        self.arriving.take_if(|(arriving, _)| *arriving == id);
    }

    /// It is verified: the ones before it go. Ships that read them keep their open files.
    pub(super) fn keep(&mut self, id: SpoolId) {
        self.arriving = None;
        if let Err(error) = self.remove_all_but(Some(id)) {
            tracing::warn!(event = "spool", "cannot remove old snapshots from {}: {error}", self.dir.display());
        }
    }

    fn remove_all_but(&self, kept: Option<SpoolId>) -> std::io::Result<()> {
        let kept = kept.map(|id| path(&self.dir, id));
        for entry in fs::read_dir(&self.dir)? {
            let found = entry?.path();
            if !is_ours(&found) || Some(&found) == kept.as_ref() {
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

/// `snapshot-<n>.rdb` and `snapshot-for-link-<n>.rdb`; an operator's own files may lie beside them.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let middle = name.strip_prefix("snapshot-").and_then(|name| name.strip_suffix(SUFFIX));
    let number = middle.map(|middle| middle.strip_prefix("for-link-").unwrap_or(middle));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Drop for Spools {
    fn drop(&mut self) {
        // A snapshot without the stream behind it serves nobody.
        let _ = self.remove_all_but(None);
    }
}

/// Writes what comes until the snapshot is complete, broken, or given up (`None`).
fn receive(
    path: &Path,
    framing: Framing,
    receiver: &Receiver<Bytes>,
    reports: &Reports,
) -> Option<Result<Summary, Fault>> {
    let mut file = match create(path) {
        Ok(file) => file,
        Err(error) => return Some(Err(own(format!("cannot write {}: {error}", path.display())))),
    };
    let mut arrival = Arrival::new(framing);
    while !arrival.is_complete() {
        let bytes = receiver.recv().ok()?;
        let taken = match arrival.push(&bytes) {
            Ok(taken) => taken,
            Err(fault) => return Some(Err(fault)),
        };
        if let Err(error) = file.write_all(&bytes[..taken]) {
            return Some(Err(own(format!("cannot write {}: {error}", path.display()))));
        }
        reports.send(Event::SpoolWritten(bytes.len()));
    }
    Some(arrival.finish())
}

fn own(what: String) -> Fault {
    Fault::new(Party::Own, what)
}
