//! What ships say of a spool whose first bytes cannot be read back.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mio::{Poll, Token, Waker};
use sluicegate_core::position::ReplId;
use sluicegate_core::rdb::{Head, Summary};
use sluicegate_core::snapshot::{Contents, Format, Framing, Origin};

use super::*;
use crate::reactor::spool::{Kept, Kind, Sums, path};

const SPOOL: SpoolId = SpoolId(1);

/// A snapshot without keys and without a checksum.
const SNAPSHOT: &[u8] = b"REDIS0011\xff\0\0\0\0\0\0\0\0";

/// Spooled snapshots, and ships.
struct Rig {
    dir: tempfile::TempDir,
    _poll: Poll,
    events: Receiver<Event>,
    spools: Spools,
    ships: Ships,
}

impl Rig {
    /// As another run of the program finds it that left `kept` behind.
    fn behind(dir: tempfile::TempDir, kept: Option<Kept>) -> Self {
        let poll = Poll::new().expect("an event queue");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (sender, events) = std::sync::mpsc::channel();
        let reports = Reports { sender, waker };
        let (quota, plugins) = (Quota::new(dir.path().into(), 1 << 20), Arc::new(Plugins::none()));
        let spools = Spools::new(dir.path().into(), quota.clone(), plugins.clone(), reports.clone(), kept);
        let settings =
            Snapshots { dir: dir.path().into(), kept: None, disk_bytes: 1 << 20, rate: 0, view_rates: Vec::new() };
        let ships = Ships::new(&settings, quota, plugins, reports);
        Self { dir, _poll: poll, events, spools: spools.expect("a spool"), ships }
    }

    /// With a snapshot that has come, and what it is.
    fn new() -> (Self, Summary) {
        let mut rig = Self::behind(tempfile::tempdir().expect("a folder"), None);
        rig.spools.open(SPOOL, Format::Rdb(Framing::Length(SNAPSHOT.len() as u64)));
        rig.spools.write(SPOOL, Bytes::from_static(SNAPSHOT));
        let outcome = rig.event(|event| match event {
            Event::Spooled(SPOOL, outcome) => Some(outcome),
            _ => None,
        });
        let Ok(Contents::Rdb(summary)) = outcome else { panic!("{outcome:?}") };
        rig.spools.arrived(SPOOL, true);
        (rig, summary)
    }

    /// What is reported of the snapshot, when ships of both kinds have been sent for.
    fn damage(&mut self) -> String {
        let head = Head { repl_id: [b'a'; 40], repl_offset: 7, stream_db: 0 };
        let told = [None, Some(head)].map(|head| {
            self.start(1, head);
            let what = self.event(|event| match event {
                Event::SpoolDamaged(SPOOL, what) => Some(what),
                _ => None,
            });
            assert!(self.end(1).is_err_and(|fault| fault.whose == Party::Own && fault.what.contains("damaged")));
            what
        });
        assert_eq!(told[0], told[1]);
        told[0].clone()
    }

    /// What a thread reports, of what is looked for.
    fn event<T>(&self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(10)).expect("a report");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    fn start(&mut self, link: u64, head: Option<Head>) {
        let cargo = Cargo::Rdb { spool: SPOOL, head, target: None, framing: ShipFraming::Stream };
        self.ships.start(ShipOrder { link: LinkId(link), view: 0, cargo }, &self.spools);
    }

    /// How a ship ends.
    fn end(&self, link: u64) -> Result<(), Fault> {
        let voyage = self.ships.under_way.get(&LinkId(link)).expect("a ship");
        loop {
            if let Load::End(outcome) = voyage.loads.recv_timeout(Duration::from_secs(10)).expect("a load") {
                return outcome;
            }
        }
    }
}

#[test]
fn a_snapshot_that_is_damaged_where_it_begins_is_told_as_well() {
    let (mut rig, _) = Rig::new();
    let file = path(rig.dir.path(), SPOOL, Kind::Rdb);
    fs::OpenOptions::new().write(true).open(file).and_then(|file| file.write_all_at(b"X", 3)).expect("damage");
    let what = rig.damage();
    assert!(what.contains("is not what was written there"), "{what}");
}

#[test]
fn a_kept_snapshot_that_nothing_unpacks_any_more_is_told_so_that_another_one_comes() {
    let (rig, summary) = Rig::new();
    let Rig { dir, spools, ships, .. } = rig;
    drop((spools, ships));
    let packed = b"SLUICEPACK1\x04runs and chunks";
    fs::write(path(dir.path(), SPOOL, Kind::Rdb), packed).expect("writing");
    let mut sums = Sums::default();
    sums.push(packed);
    let origin = Origin { history: ReplId::from_entropy([7; 20]), offset: 9, summary };
    let mut rig = Rig::behind(dir, Some(Kept { id: SPOOL, origin, bytes: packed.len() as u64, sums }));
    let what = rig.damage();
    assert!(what.contains("packed as runs") && what.contains("snapshot.codec"), "{what}");
}
