use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mio::{Poll, Token, Waker};
use sluicegate_core::rdb::Head;
use sluicegate_core::snapshot::{Format, Framing};

use super::*;
use crate::reactor::spool::{Kind, path};

const SPOOL: SpoolId = SpoolId(1);

/// A snapshot without keys and without a checksum.
const SNAPSHOT: &[u8] = b"REDIS0011\xff\0\0\0\0\0\0\0\0";

/// A whole spooled snapshot, and ships.
struct Rig {
    dir: tempfile::TempDir,
    _poll: Poll,
    events: Receiver<Event>,
    spools: Spools,
    ships: Ships,
}

impl Rig {
    fn new() -> Self {
        let (dir, poll) = (tempfile::tempdir().expect("a folder"), Poll::new().expect("an event queue"));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (sender, events) = std::sync::mpsc::channel();
        let reports = Reports { sender, waker };
        let (quota, plugins) = (Quota::new(dir.path().into(), 1 << 20), Arc::new(Plugins::none()));
        let mut spools = Spools::new(dir.path().into(), quota.clone(), plugins.clone(), reports.clone(), None)
            .expect("an empty spool");
        let settings =
            Snapshots { dir: dir.path().into(), kept: None, disk_bytes: 1 << 20, rate: 0, view_rates: Vec::new() };
        let ships = Ships::new(&settings, quota, plugins, reports);
        spools.open(SPOOL, Format::Rdb(Framing::Length(SNAPSHOT.len() as u64)));
        spools.write(SPOOL, Bytes::from_static(SNAPSHOT));
        let rig = Self { dir, _poll: poll, events, spools, ships };
        let whole = rig.event(|event| match event {
            Event::Spooled(SPOOL, outcome) => Some(outcome.is_ok()),
            _ => None,
        });
        assert!(whole, "the snapshot is sound");
        let mut rig = rig;
        rig.spools.arrived(SPOOL, true);
        rig
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
    let mut rig = Rig::new();
    let file = path(rig.dir.path(), SPOOL, Kind::Rdb);
    fs::OpenOptions::new().write(true).open(file).and_then(|file| file.write_all_at(b"X", 3)).expect("damage");
    let head = Head { repl_id: [b'a'; 40], repl_offset: 7, stream_db: 0 };
    for (link, head) in [(1, None), (2, Some(head))] {
        rig.start(link, head);
        let what = rig.event(|event| match event {
            Event::SpoolDamaged(SPOOL, what) => Some(what),
            _ => None,
        });
        assert!(what.contains("is not what was written there"), "{what}");
        assert!(rig.end(link).is_err_and(|fault| fault.whose == Party::Own && fault.what.contains("damaged")));
    }
}
