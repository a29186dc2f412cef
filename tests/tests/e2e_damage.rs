//! A primary whose snapshots are damaged, again and again, each in another way or at another place: nothing of any of them is
//! served or left on the disk, each is answered for in the log, and the first whole one is what replicas get, byte for byte.
//!
//! The machine is shown every damage at every byte; here a sample of each passes the real binary, its threads and its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sluicegate_tests::fake_primary::{FakePrimary, ID, Session};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::rdb::Snapshot;
use sluicegate_tests::wait::{PATIENCE, wait_some};

const MARK: &str = "0123456789012345678901234567890123456789";
/// What the damaged snapshots hold, and nobody may ever see.
const BAD: &[u8] = b"user:half-loaded";

fn good() -> Vec<u8> {
    Snapshot::redis(10).aux("redis-ver", "7.0.15").select(0).string(b"user:1", b"good").string(b"tmp:1", b"t").end()
}

/// What is damaged: with the mark inside a value, and enough behind it for every cut to be in the middle of something.
fn victim() -> Vec<u8> {
    let start = Snapshot::redis(10).aux("redis-ver", "7.0.15").select(0).string(BAD, b"x");
    start.string(b"user:mark", MARK.as_bytes()).old_list(b"user:list", &[b"a", b"bb", b"ccc"]).end()
}

/// How the primary says where the end is.
#[derive(Debug, Clone, Copy)]
enum Framed {
    Length,
    Mark,
}

const FRAMINGS: [Framed; 2] = [Framed::Length, Framed::Mark];

impl Framed {
    /// The snapshot and what belongs around it.
    fn bytes(self, rdb: &[u8]) -> Vec<u8> {
        match self {
            Self::Length => [format!("${}\r\n", rdb.len()).as_bytes(), rdb].concat(),
            Self::Mark => [format!("$EOF:{MARK}\r\n").as_bytes(), rdb, MARK.as_bytes()].concat(),
        }
    }
}

/// A session that promises a snapshot, says this, and closes the link.
fn said(bytes: &[u8]) -> Session {
    Session::psync([format!("+FULLRESYNC {ID} 5\r\n").as_bytes(), bytes].concat()).then_close()
}

/// The spooled snapshots: what was made of them for replicas has longer names.
fn spools(proxy: &Proxy) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(proxy.config_file().with_file_name("data"))?.collect::<std::io::Result<Vec<_>>>()?;
    let is_spool = |name: &str| {
        let number = name.strip_prefix("snapshot-").and_then(|name| name.strip_suffix(".rdb"));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(entries
        .into_iter()
        .filter(|entry| is_spool(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect())
}

/// Plays all these sessions, one after the other, and then a whole snapshot, to one proxy.
fn survives(bad: Vec<Session>) -> Result<()> {
    let (sessions, began) = (bad.len(), Instant::now());
    ensure!(sessions > 5, "a story of {sessions} damages");
    let whole = good();
    let script = bad.into_iter().chain([Session::full(100, &whole, b"")]).collect();
    let fake = FakePrimary::start(script)?;
    let mut proxy = Proxy::start(Config::new(fake.addr()).both_views())?;
    // A replica asks all the time: at whatever moment, it is refused or gets the whole one.
    let patience = PATIENCE * 2;
    let all = wait_some("a snapshot of the view without plugins", patience, || {
        let Ok(replica) = MiniReplica::psync(proxy.addr("all"), Announce::default(), "?", -1) else { return Ok(None) };
        match &replica.answer {
            Answer::Refused(why) if why.starts_with("-NOMASTERLINK") => Ok(None),
            Answer::Full { .. } => Ok(Some(replica)),
            other => bail!("in the middle of broken snapshots: {other:?}"),
        }
    });
    let mut all = all.with_context(|| format!("{} of {sessions}\n{}", fake.psyncs().len(), proxy.context()))?;
    all.take_snapshot()?;
    ensure!(all.history()? == (ID.to_owned(), 100), "of which history? {:?}", all.answer);
    ensure!(all.snapshot == whole, "served: {}", all.snapshot.escape_ascii());
    let members = MiniReplica::join(proxy.addr("members"))?;
    ensure!(find(&members.snapshot, b"u:1").is_some() && find(&members.snapshot, b"half-loaded").is_none());

    ensure!(fake.psyncs().len() == sessions + 1, "{} attempts for {sessions} damages", fake.psyncs().len());
    let log = proxy.log();
    ensure!(!log.contains("panicked"), "a panic\n{log}");
    let told = log.lines().filter(|line| line.contains("next attempt in")).count();
    ensure!(told == sessions, "{sessions} damages, but {told} were told\n{log}");
    let left = spools(&proxy)?;
    let [spool] = &left[..] else { bail!("one snapshot is kept, not {left:?}") };
    ensure!(fs::read(spool)? == whole, "what is kept is not what came");
    ensure!(fs::metadata(spool)?.permissions().mode() & 0o777 == 0o600, "others may read {spool:?}");
    proxy.check_alive()?;
    eprintln!("{sessions} damaged snapshots in {:.1} s", began.elapsed().as_secs_f32());
    Ok(())
}

#[test]
fn cut_off() -> Result<()> {
    let cuts = FRAMINGS.into_iter().flat_map(|framed| {
        let bytes = framed.bytes(&victim());
        (0..bytes.len()).step_by(7).map(|end| said(&bytes[..end])).collect::<Vec<_>>()
    });
    survives(cuts.collect())
}

#[test]
fn flipped() -> Result<()> {
    let flips = FRAMINGS.into_iter().flat_map(|framed| {
        let rdb = victim();
        let flipped = (0..rdb.len()).step_by(6).map(|at| {
            let mut rdb = rdb.clone();
            rdb[at] ^= 1 << (at % 8);
            said(&framed.bytes(&rdb))
        });
        flipped.collect::<Vec<_>>()
    });
    survives(flips.collect())
}

#[test]
fn of_a_length_or_a_mark_that_lies() -> Result<()> {
    let rdb = victim();
    let sized = |length: &str| said(&[format!("${length}\r\n").as_bytes(), &rdb].concat());
    let marked =
        |header: &str, mark: &str| said(&[format!("$EOF:{header}\r\n").as_bytes(), &rdb, mark.as_bytes()].concat());
    let lengths = ["0", "-1", "", "abc", "1e9", "18446744073709551615", "99999999999999999999"];
    let near = [1, rdb.len() / 2, rdb.len() - 8, rdb.len() - 1, rdb.len() + 1, rdb.len() + 40].map(|n| n.to_string());
    let other = MARK.replace('9', "8");
    let mut sessions: Vec<Session> = lengths.iter().map(|length| sized(length)).collect();
    sessions.extend(near.iter().map(|length| sized(length)));
    sessions.extend([marked(MARK, &other), marked(&other, MARK), marked(&MARK[1..], &MARK[1..]), marked("", "")]);
    sessions.push(marked(MARK, &format!("x{MARK}")));
    // The mark that stands in a value is not the end, and nothing follows it.
    let bait = find(&rdb, MARK.as_bytes()).context("the mark in a value")? + MARK.len();
    sessions.push(said(&[format!("$EOF:{MARK}\r\n").as_bytes(), &rdb[..bait]].concat()));
    survives(sessions)
}

#[test]
fn wrongly_summed_or_followed_or_never_begun() -> Result<()> {
    let rdb = victim();
    let body = &rdb[..rdb.len() - 8];
    let mut sessions = Vec::new();
    for framed in FRAMINGS {
        for sum in [1, u64::MAX, u64::from_le_bytes(*rdb.last_chunk().context("a checksum")?).swap_bytes()] {
            sessions.push(said(&framed.bytes(&[body, &sum.to_le_bytes()].concat())));
        }
        for extra in [&b"x"[..], b"\r\n", MARK.as_bytes(), &[0xff; 9]] {
            sessions.push(said(&framed.bytes(&[&rdb[..], extra].concat())));
        }
    }
    // The child died: newlines, an error, nothing.
    sessions.extend(["", "\n\n\n", "\n$", "-ERR the child died\r\n"].map(|bytes| said(bytes.as_bytes())));
    survives(sessions)
}
