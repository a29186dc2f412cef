//! The spool: the upstream's snapshots on disk, verified on the way there by a thread each.

mod meta;
mod receive;
mod rest;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use sluicegate_core::contract::SpoolId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::snapshot::{Format, Origin};

use super::quota::Quota;
use super::{Event, Reports};
use crate::bootstrap::Plugins;
use meta::Text;
pub(crate) use meta::{Kept, newest};
use receive::receive;
pub(super) use rest::Rested;
use stored::Stored;
pub(super) use stored::{BLOCK_BYTES, Reader, Sums};

/// What is in a file, by its name: an operator who finds one can read it with the server's own tools, unless it is packed.
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

/// Where a product lies: what a view makes of a snapshot. `number` tells it from others of the same.
pub(super) fn product_path(dir: &Path, id: SpoolId, view: usize, number: u64) -> PathBuf {
    dir.join(format!("snapshot-{}-for-{view}-{number}{}", id.0, Kind::Rdb.suffix()))
}

/// Makes a file that nobody else reads: it holds keys of every view.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).read(true).mode(0o600).open(path)
}

/// Closes files whose names are gone. Only now is given back what they take up: that takes half a second for 2 GiB, which the
/// reactor does not have.
pub(super) fn let_go(files: Vec<File>) {
    // Without a thread it is done here.
    let _ = thread::Builder::new().name("let-go".into()).spawn(move || drop(files));
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
    stored: Arc<Stored>,
    sender: Sender<Piece>,
}

/// The snapshots in the data directory, and those that arrive.
pub(super) struct Spools {
    dir: PathBuf,
    quota: Arc<Quota>,
    plugins: Arc<Plugins>,
    reports: Reports,
    arriving: BTreeMap<SpoolId, Arriving>,
    whole: BTreeMap<SpoolId, Arc<Stored>>,
    /// The newest snapshot that is described: it stays when the program ends.
    newest: Option<SpoolId>,
    /// To the thread that describes them.
    texts: Sender<Text>,
}

impl Spools {
    /// Of the snapshots that an earlier process left behind only `kept` is of use: nothing says what follows the others.
    pub(super) fn new(
        dir: PathBuf,
        quota: Arc<Quota>,
        plugins: Arc<Plugins>,
        reports: Reports,
        kept: Option<Kept>,
    ) -> anyhow::Result<Self> {
        let newest = kept.as_ref().map(|kept| kept.id);
        let (arriving, whole) = (BTreeMap::new(), BTreeMap::new());
        let texts = meta::writer(dir.clone()).context("no thread for what is written down beside snapshots")?;
        let mut spools = Self { dir, quota, plugins, reports, arriving, whole, newest, texts };
        spools.remove_all_but(newest).with_context(|| format!("cannot clear {}", spools.dir.display()))?;
        if let Some(Kept { id, sums, bytes, .. }) = kept {
            let stored = Stored::new(id, path(&spools.dir, id, Kind::Rdb), spools.quota.claim());
            stored.claim().grow(bytes).map_err(anyhow::Error::msg)?;
            stored.seal(sums);
            spools.whole.insert(id, Arc::new(stored));
        }
        Ok(spools)
    }

    /// A snapshot begins to arrive.
    pub(super) fn open(&mut self, id: SpoolId, format: Format) {
        let (sender, receiver) = channel();
        let path = path(&self.dir, id, Kind::of(format));
        let stored = Arc::new(Stored::new(id, path, self.quota.claim()));
        self.arriving.insert(id, Arriving { stored: stored.clone(), sender });
        let (plugins, reports) = (self.plugins.clone(), self.reports.clone());
        let writer = thread::Builder::new().name("spool".into()).spawn(move || {
            let outcome = receive(id, &stored, format, &receiver, &plugins, &reports);
            if !matches!(outcome, Some(Ok(_))) {
                // Broken, or given up by the core: nobody will read it, and a full disk needs the room.
                let _ = fs::remove_file(stored.path());
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

    /// Its thread has ended: it is whole, or of no use.
    pub(super) fn arrived(&mut self, id: SpoolId, whole: bool) {
        match self.arriving.remove(&id) {
            Some(arriving) if whole => {
                self.whole.insert(id, arriving.stored);
            }
            None if whole => {
                // It was given up when its thread had nothing more to hear.
                let files = self.files([id]);
                self.remove_or_warn(|found| files.contains(found));
            }
            _ => {}
        }
    }

    /// Reads the file of a whole one from its beginning, as it rests: nothing is waited for yet.
    ///
    /// # Errors
    /// It cannot be opened; [`std::io::ErrorKind::NotFound`] if there is none.
    pub(super) fn read(&self, id: SpoolId) -> std::io::Result<Reader> {
        self.whole.get(&id).ok_or(std::io::ErrorKind::NotFound)?.open()
    }

    /// These are verified; others go, but for those that still arrive. Ships that read them keep their open files.
    pub(super) fn keep(&mut self, ids: &[SpoolId]) {
        self.newest = self.newest.filter(|newest| ids.contains(newest));
        self.whole.retain(|id, _| ids.contains(id));
        let mut kept = self.files(ids.iter().copied());
        kept.extend(self.arriving.values().map(|arriving| arriving.stored.path().to_owned()));
        // Products go when the last ship that reads them has arrived.
        self.remove_or_warn(|found| is_spool(found) && !kept.contains(found));
    }

    /// Writes down beside a snapshot what it is. Only the next start of the program needs it, so nobody waits for it.
    pub(super) fn describe(&mut self, id: SpoolId, origin: Origin) {
        let Some(digest) = self.whole.get(&id).and_then(|stored| stored.digest()) else { return };
        self.newest = Some(id);
        if self.texts.send(Text { id, origin, digest }).is_err() {
            tracing::warn!(event = "spool", "a restart will not go on from snapshot {}: its thread has ended", id.0);
        }
    }

    /// All files that may belong to these snapshots.
    fn files(&self, ids: impl IntoIterator<Item = SpoolId>) -> BTreeSet<PathBuf> {
        let files = |id| {
            let snapshots = [Kind::Rdb, Kind::Kevy].map(|kind| path(&self.dir, id, kind));
            snapshots.into_iter().chain([meta::meta_path(&self.dir, id), meta::draft_path(&self.dir, id)])
        };
        ids.into_iter().flat_map(files).collect()
    }

    fn remove_all_but(&self, kept: Option<SpoolId>) -> std::io::Result<()> {
        let kept = self.files(kept);
        self.remove(|found| (is_spool(found) || is_product(found)) && !kept.contains(found))
    }

    fn remove_or_warn(&self, goes: impl Fn(&Path) -> bool) {
        if let Err(error) = self.remove(goes) {
            tracing::warn!(event = "spool", "cannot remove old snapshots from {}: {error}", self.dir.display());
        }
    }

    fn remove(&self, goes: impl Fn(&Path) -> bool) -> std::io::Result<()> {
        let mut held = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let found = entry?.path();
            if !goes(&found) {
                continue;
            }
            held.extend(File::open(&found));
            match fs::remove_file(&found) {
                // Another thread was faster.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let_go(held);
        Ok(())
    }
}

/// `snapshot-<n>.rdb`, `snapshot-<n>.kevysnap` and what is written down beside them; an operator's own files may lie beside them.
fn is_spool(path: &Path) -> bool {
    [Kind::Rdb.suffix(), Kind::Kevy.suffix(), meta::SUFFIX, meta::DRAFT_SUFFIX]
        .into_iter()
        .any(|suffix| middle(path, suffix).is_some_and(|middle| is_number(&middle)))
}

/// `snapshot-<n>-for-<view>-<n>.rdb`, and `snapshot-for-link-<n>.rdb` of older versions of the program.
fn is_product(path: &Path) -> bool {
    let Some(middle) = middle(path, Kind::Rdb.suffix()) else { return false };
    let parts: Vec<&str> = middle.split('-').collect();
    match parts[..] {
        [spool, "for", view, number] => [spool, view, number].into_iter().all(is_number),
        ["for", "link", number] => is_number(number),
        _ => false,
    }
}

/// What stands between `snapshot-` and the suffix.
fn middle(path: &Path, suffix: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.strip_prefix("snapshot-")?.strip_suffix(suffix)?.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Drop for Spools {
    fn drop(&mut self) {
        // A snapshot of which nobody knows where it stands serves nobody.
        let _ = self.remove_all_but(self.newest);
    }
}

fn own(what: String) -> Fault {
    Fault::new(Party::Own, what)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;
    use std::time::{Duration, Instant};

    use mio::{Poll, Token, Waker};
    use sluicegate_core::kevy::snapshot::{write_end, write_head};
    use sluicegate_core::position::ReplId;
    use sluicegate_core::snapshot::{Contents, Framing};

    use super::*;

    /// A spool in a folder of its own, and what its threads report.
    fn spools() -> (tempfile::TempDir, Poll, Receiver<Event>, Spools) {
        let (dir, poll) = (tempfile::tempdir().expect("a folder"), Poll::new().expect("an event queue"));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (sender, events) = channel();
        let (quota, plugins) = (Quota::new(dir.path().into(), 1000), Arc::new(Plugins::none()));
        let spools =
            Spools::new(dir.path().into(), quota, plugins, Reports { sender, waker }, None).expect("an empty spool");
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
            spools.arrived(id, true);
        }
        fs::write(dir.path().join("snapshot-9.txt"), "an operator's").expect("writing");
        fs::write(product_path(dir.path(), old, 0, 7), "a product").expect("writing");
        spools.keep(&[done]);
        let left = ["snapshot-1.kevysnap", "snapshot-2-for-0-7.rdb", "snapshot-3.kevysnap", "snapshot-9.txt"];
        assert_eq!(names(), left.map(String::from).into(), "a product goes when nobody reads it any more");
        assert!(spools.read(done).is_ok());
        assert!([old, late].iter().all(|id| spools.read(*id).is_err()));
        // It ends before its end.
        spools.end(late);
        let (which, outcome) = spooled(&events);
        assert_eq!(which, late);
        assert!(outcome.is_err_and(|fault| fault.whose == Party::Upstream));
        drop(spools);
        assert_eq!(names(), ["snapshot-9.txt"].map(String::from).into());
    }

    #[test]
    fn a_snapshot_beyond_the_quota_is_refused_before_it_begins_if_its_length_is_known() {
        let (dir, _poll, events, mut spools) = spools();
        let [known, unknown] = [1, 2].map(SpoolId);
        spools.open(known, Format::Rdb(Framing::Length(1001)));
        let (_, outcome) = spooled(&events);
        assert!(outcome.is_err_and(|fault| fault.whose == Party::Own && fault.what.contains("snapshot.disk")));
        spools.arrived(known, false);
        spools.open(unknown, Format::Rdb(Framing::Mark([b'm'; 40])));
        // A key whose value does not fit; the magic and the type before it do.
        spools.write(unknown, Bytes::from_static(b"REDIS0011\xfe\x00\x00\x01a\x80\x00\x00\x10\x00"));
        spools.write(unknown, Bytes::from(vec![b'v'; 4096]));
        let (_, outcome) = spooled(&events);
        assert!(outcome.is_err_and(|fault| fault.what.contains("snapshot.disk")));
        spools.arrived(unknown, false);
        assert_eq!(fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(0));
    }

    #[test]
    fn what_was_said_last_of_a_snapshot_is_what_stands_beside_it() {
        let (dir, _poll, events, mut spools) = spools();
        let id = SpoolId(1);
        let snapshot = Bytes::from_static(b"REDIS0011\xff\0\0\0\0\0\0\0\0");
        spools.open(id, Format::Rdb(Framing::Length(snapshot.len() as u64)));
        spools.write(id, snapshot);
        let (_, outcome) = spooled(&events);
        let Ok(Contents::Rdb(summary)) = outcome else { panic!("{outcome:?}") };
        spools.arrived(id, true);
        // The primary fails over again and again: the history has another id each time.
        let origin = |n: u8| Origin { history: ReplId::from_entropy([n; 20]), offset: 7, summary: summary.clone() };
        for n in 0..=200 {
            spools.describe(id, origin(n));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while newest(dir.path(), 1000).is_none_or(|kept| kept.origin != origin(200)) {
            assert!(Instant::now() < deadline, "{:?} stands there", newest(dir.path(), 1000));
            thread::yield_now();
        }
    }

    #[test]
    fn a_snapshot_that_was_given_up_when_it_was_whole_leaves_nothing() {
        let (dir, _poll, events, mut spools) = spools();
        let id = SpoolId(1);
        spools.open(id, Format::Kevy);
        spools.write(id, empty());
        spools.end(id);
        let (which, outcome) = spooled(&events);
        assert!(outcome.is_ok());
        // The core had not heard of it.
        spools.abort(id);
        spools.arrived(which, true);
        assert_eq!(fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(0));
    }

    #[test]
    fn what_older_versions_left_behind_goes_too() {
        let (dir, poll, _events, spools) = spools();
        let (quota, plugins, reports) = (spools.quota.clone(), spools.plugins.clone(), spools.reports.clone());
        drop(spools);
        for name in ["snapshot-for-link-12.rdb", "snapshot-3.rdb", "snapshot-3-for-0-9.rdb", "snapshot-for-me.rdb"] {
            fs::write(dir.path().join(name), "of an earlier run").expect("writing");
        }
        let _spools = Spools::new(dir.path().into(), quota, plugins, reports, None).expect("a spool");
        let left: Vec<_> =
            fs::read_dir(dir.path()).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["snapshot-for-me.rdb"], "an operator's own stays");
        drop(poll);
    }
}
