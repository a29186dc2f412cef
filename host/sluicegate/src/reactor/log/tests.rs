//! What the log keeps, and what it does when the disk does not.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::Duration;

use mio::{Poll, Token, Waker};
use sluicegate_core::contract::LinkId;

use super::*;

const ID: LogId = LogId { view: 0, life: 1 };

/// Logs in a folder of their own, and what is reported of them.
struct Rig {
    dir: tempfile::TempDir,
    _poll: Poll,
    events: Receiver<Event>,
    logs: Logs,
}

impl Rig {
    fn new() -> Self {
        let (dir, poll) = (tempfile::tempdir().expect("a folder"), Poll::new().expect("an event queue"));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (sender, events) = channel();
        let logs = Logs::new(dir.path().into(), Reports { sender, waker }).expect("no logs");
        Self { dir, _poll: poll, events, logs }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.logs.order(ID, LogOrder::Keep(Order::Write(offset, Bytes::copy_from_slice(bytes))));
    }

    fn report(&self) -> LogReport {
        match self.events.recv_timeout(Duration::from_secs(10)).expect("a report") {
            Event::Log(ID, report) => report,
            _ => panic!("a report of something else"),
        }
    }

    /// Waits until so many bytes have reached the disk.
    fn written(&self, bytes: usize) {
        let mut so_far = 0;
        while so_far < bytes {
            match self.report() {
                LogReport::Written(more) => so_far += more,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(so_far, bytes);
    }

    /// What lies behind `offset`; reports of what was written before are passed over.
    fn read(&mut self, offset: u64, max: usize) -> Result<Bytes, Fault> {
        self.logs.order(ID, LogOrder::Read { link: LinkId(7), offset, max });
        loop {
            match self.report() {
                LogReport::Bytes(LinkId(7), at, outcome) if at == offset => return outcome,
                LogReport::Written(_) | LogReport::Failed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("the folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().unwrap_or_default()).collect();
        names.sort();
        names
    }
}

fn history(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|n| (n * 31 + n / 253) as u8).collect()
}

#[test]
fn every_byte_comes_back_from_wherever_it_is_read() {
    let mut rig = Rig::new();
    let (mut end, first) = (1_000, 1_000);
    for len in [1, 17, 300, 70_000, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, 1_500_000, 3].repeat(3) {
        rig.write(end, &history(end, len));
        end += len as u64;
    }
    // Asked for at once: what is on its way is read behind it.
    for max in [1, 1_000, 300_000] {
        let steps = [0, 1, 17, 18, 400, 71_000, 333_000, 333_001, 900_000, end - first - 1];
        for at in steps.map(|step| first + step) {
            let got = rig.read(at, max).expect("it is there");
            assert!(!got.is_empty() && got.len() <= max);
            assert_eq!(got, history(at, got.len()));
        }
    }
    let mut at = first;
    while at < end {
        let got = rig.read(at, 256 * 1024).expect("it is there");
        assert_eq!(got, history(at, got.len()));
        at += got.len() as u64;
    }
    assert!(rig.read(end, 1).is_err() && rig.read(first - 1, 1).is_err());
}

#[test]
fn small_pieces_that_wait_are_written_together() {
    let mut rig = Rig::new();
    for n in 0..20_000 {
        rig.write(n * 10, &history(n * 10, 10));
    }
    rig.written(200_000);
    let file = fs::metadata(rig.dir.path().join("log-0-1-0.log")).expect("the file");
    assert!(file.len() < 200_000 + 20_000 * 10, "{} bytes", file.len());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(rig.read(123_456, 50).expect("it is there"), history(123_456, 50));
}

#[test]
fn what_is_not_needed_goes_by_the_file_and_nothing_outlives_the_process() {
    let mut rig = Rig::new();
    let piece = vec![7; 16 << 20];
    let mut end = 0;
    for _ in 0..9 {
        rig.write(end, &piece);
        rig.written(piece.len());
        end += piece.len() as u64;
    }
    let files = rig.files();
    assert_eq!(files.len(), 3, "{files:?}");
    rig.logs.order(ID, LogOrder::Keep(Order::Drop(100 << 20)));
    assert!(rig.read(110 << 20, 10).is_ok());
    assert_eq!(
        rig.files(),
        files[..2].iter().filter(|name| *name != "log-0-1-0.log").chain(&files[2..]).cloned().collect::<Vec<_>>()
    );
    assert!(rig.read(0, 10).is_err());
    rig.logs.order(ID, LogOrder::Keep(Order::Reset));
    assert!(rig.read(110 << 20, 10).is_err(), "given up");
    assert!(rig.files().is_empty());
    rig.write(end, b"more");
    rig.written(4);
    fs::write(rig.dir.path().join("log-of-mine.log"), "an operator's").expect("writing");
    let Rig { dir, logs, events, .. } = rig;
    drop(logs);
    while events.recv_timeout(Duration::from_secs(10)).is_ok() {}
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["log-of-mine.log"]);
}

#[test]
fn damage_is_an_error_and_never_bytes() {
    let mut rig = Rig::new();
    let said = history(0, 3_000);
    for at in [0, 1_000, 2_000] {
        rig.write(at, &said[at as usize..at as usize + 1_000]);
        rig.written(1_000);
    }
    let file = fs::File::options().read(true).write(true).open(rig.dir.path().join("log-0-1-0.log")).expect("the file");
    let size = file.metadata().expect("its size").len();
    for at in 0..size {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("damage");
        match rig.read(0, 3_000) {
            // What lies before the damaged record is sound.
            Ok(bytes) => assert!(bytes == said[..bytes.len()] && bytes.len() as u64 <= at / 1_020 * 1_000, "byte {at}"),
            Err(fault) => assert!(fault.what.contains("damaged") || fault.what.contains("nothing"), "{fault}"),
        }
        assert!(rig.read(at / 1_020 * 1_000, 1_000).is_err(), "byte {at} is damaged");
        file.write_all_at(&byte, at).expect("repair");
    }
    assert_eq!(rig.read(0, 3_000).expect("it is whole again"), said);
    file.set_len(size - 1).expect("a file that is cut");
    assert!(rig.read(0, 3_000).is_err());
}

#[test]
fn a_disk_that_takes_nothing_costs_the_log_and_names_the_file() {
    let mut rig = Rig::new();
    rig.write(0, b"abc");
    rig.written(3);
    let other = LogId { life: 2, ..ID };
    fs::create_dir(rig.dir.path().join("log-0-2-5.log")).expect("something in its place");
    rig.logs.order(other, LogOrder::Keep(Order::Write(5, Bytes::from_static(b"abc"))));
    match rig.events.recv_timeout(Duration::from_secs(10)).expect("a report") {
        Event::Log(id, LogReport::Failed(fault)) => {
            assert_eq!((id, fault.whose), (other, Party::Own));
            assert!(fault.what.contains("log-0-2-5.log") && fault.what.contains("view.backlog.disk"), "{fault}");
        }
        _ => panic!("it cannot be written"),
    }
    // What follows is thrown away; other logs are as they were.
    rig.logs.order(other, LogOrder::Keep(Order::Write(8, Bytes::from_static(b"def"))));
    assert_eq!(rig.read(0, 3).expect("the first log is there"), &b"abc"[..]);
}
