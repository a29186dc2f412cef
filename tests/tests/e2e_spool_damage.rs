//! The disk: too small, or not giving back what was written.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::PATIENCE;

fn primary(keys: usize) -> Result<Server> {
    let primary = Server::start(Kind::Redis70, &["--rdbcompression", "no"])?;
    let set = |n: usize| vec![b"SET".to_vec(), format!("user:{n}").into_bytes(), vec![b'a' + (n % 26) as u8; 1000]];
    primary.client()?.pipeline(&(0..keys).map(set).collect::<Vec<_>>())?;
    Ok(primary)
}

/// The one snapshot of the primary that lies there.
fn spooled(proxy: &Proxy) -> Result<PathBuf> {
    let files = fs::read_dir(proxy.data_dir())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_spool = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".rdb") && !name.contains("-for-")
    };
    files.into_iter().find(is_spool).context("a spooled snapshot")
}

#[test]
fn bit_rot_in_a_spooled_snapshot_reaches_no_replica_and_is_mended_by_a_fresh_one() -> Result<()> {
    for (name, view) in [("all", View::IDENTITY), ("members", View::MEMBERS)] {
        let primary = primary(3_000)?;
        let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
        proxy.wait_live(name)?;
        // In the middle of a value: every length and type stays what it was.
        let path = spooled(&proxy)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let (mut at, mut run) = (fs::metadata(&path)?.len() * 3 / 4, [0; 3]);
        loop {
            file.read_exact_at(&mut run, at)?;
            if run[0].is_ascii_lowercase() && run.iter().all(|byte| *byte == run[0]) {
                break;
            }
            at += 1;
        }
        file.write_all_at(b"!", at + 1)?;

        let mut first = MiniReplica::psync(proxy.addr(name), Announce::default(), "?", -1)?;
        ensure!(matches!(first.answer, Answer::Full { .. }), "{:?}", first.answer);
        ensure!(first.take_snapshot().is_err(), "a damaged snapshot was given to the end");
        let line = proxy.wait_log(&["snapshot-damaged", "is not what was written there"])?;
        ensure!(line.contains(&*path.to_string_lossy()), "{line}");
        // A real one comes again until there is a sound one.
        let replica = Server::replica_of(Kind::Redis70, proxy.addr(name))?;
        assert_same(&primary, &replica, view, PATIENCE).with_context(|| proxy.context())?;
        let full = primary.client()?.info_field("stats", "sync_full")?;
        ensure!(full == "2", "the primary made {full} snapshots\n{}", proxy.context());
        ensure!(spooled(&proxy)? != path, "the damaged one is gone");
    }
    Ok(())
}

#[test]
fn a_snapshot_that_vanished_is_mended_by_a_fresh_one() -> Result<()> {
    let primary = primary(10)?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    proxy.wait_live("members")?;
    fs::remove_file(spooled(&proxy)?)?;
    let replica = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    assert_same(&primary, &replica, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
    proxy.wait_log(&["snapshot-damaged", "gone"])?;
    Ok(())
}

#[test]
fn a_snapshot_beyond_the_quota_is_refused_by_the_name_of_the_setting() -> Result<()> {
    for diskless in ["yes", "no"] {
        let primary = primary(2_000)?;
        primary.client()?.run(&format!("CONFIG SET repl-diskless-sync {diskless}"))?;
        let config = Config::new(primary.addr()).view("members", FILTERED).tables("[snapshot]\ndisk = \"1mb\"\n");
        let proxy = Proxy::start(config)?;
        proxy.wait_log(&["full-sync-failed", "snapshot.disk"])?;
        let refused = MiniReplica::psync(proxy.addr("members"), Announce::default(), "?", -1)?;
        ensure!(matches!(&refused.answer, Answer::Refused(why) if why.starts_with("-NOMASTERLINK")));
        // Once there is room the next attempt goes through.
        primary.client()?.run("FLUSHALL")?;
        proxy.wait_live("members")?;
    }
    Ok(())
}

#[test]
fn what_a_view_makes_of_a_snapshot_counts_and_goes_first() -> Result<()> {
    let primary = primary(600)?;
    // Room for the snapshot and for less than one product.
    let config = Config::new(primary.addr()).both_views().tables("[snapshot]\ndisk = \"1mb\"\n");
    let proxy = Proxy::start(config)?;
    proxy.wait_live("members")?;
    MiniReplica::join(proxy.addr("all"))?;
    let mut replica = MiniReplica::psync(proxy.addr("members"), Announce::default(), "?", -1)?;
    ensure!(replica.take_snapshot().is_err(), "there was no room for it");
    let line = proxy.wait_log(&["snapshot-failed", "snapshot.disk"])?;
    ensure!(line.contains("sluicegate:"), "whose fault it is: {line}");
    // The view is live all the same, and the other one is served.
    MiniReplica::join(proxy.addr("all"))?;
    proxy.wait_live("members")
}
