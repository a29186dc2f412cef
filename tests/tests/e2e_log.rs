//! What a view's backlog cannot hold in memory is kept on disk as long as somebody needs it: however slowly a replica copies
//! its snapshot, the stream behind it is there when it is done, and the primary is asked for nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};

/// Bytes of one value: more than a few make a backlog of 1 MiB overflow.
const VALUE_BYTES: usize = 100_000;

/// Writes values to keys that both views have, and one that only the first has for each of them.
fn write(primary: &Server, round: usize, count: usize) -> Result<()> {
    let value =
        |n: usize| (0..VALUE_BYTES).map(|at| b'a' + ((at * (n + 7 * round + 3)) % 23) as u8).collect::<Vec<_>>();
    let set = |key: String, n: usize| vec![b"SET".to_vec(), key.into_bytes(), value(n)];
    let commands: Vec<_> =
        (0..count).flat_map(|n| [set(format!("user:{n}"), n), set(format!("tmp:{n}"), n + 1)]).collect();
    for commands in commands.chunks(50) {
        primary.client()?.pipeline(commands)?;
    }
    Ok(())
}

fn stage(backlog: &str) -> Result<(Server, Proxy)> {
    // Its snapshot is larger than all that sockets and outputs hold.
    let primary = Server::start(Kind::Redis70, &["--rdbcompression", "no"])?;
    write(&primary, 0, 150)?;
    let config = Config::new(primary.addr());
    let config = config.view_with("all", &[], backlog).view_with("members", FILTERED, backlog);
    let proxy = Proxy::start(config)?;
    wait_for("the proxy's snapshot", PATIENCE, || Ok(proxy.info("all", "proxy", "snapshot_keys")? == "300"))
        .with_context(|| proxy.context())?;
    Ok((primary, proxy))
}

/// A replica that has asked for a snapshot, is being sent it, and has not read a byte of it yet.
fn slow(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    let replica = MiniReplica::psync(proxy.addr(view), Announce::default(), "?", -1)?;
    ensure!(matches!(replica.answer, Answer::Full { .. }), "view {view}: {:?}", replica.answer);
    Ok(replica)
}

fn log_files(proxy: &Proxy) -> Result<Vec<PathBuf>> {
    let dir = proxy.config_file().with_file_name("data");
    let entries = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    Ok(entries.into_iter().filter(is_log).collect())
}

fn log_bytes(proxy: &Proxy, view: &str) -> Result<u64> {
    let line = proxy.info("all", "views", &format!("view_{view}"))?;
    let field = line.split(',').find_map(|field| field.strip_prefix("log_bytes=")).context("log_bytes")?;
    Ok(field.parse()?)
}

#[test]
fn a_slow_copy_never_needs_a_second_snapshot() -> Result<()> {
    let backlog = "[view.backlog]\nmemory = \"1mb\"\ndisk = \"256mb\"";
    let (primary, mut proxy) = stage(backlog)?;
    let views = [("all", View::IDENTITY), ("members", View::MEMBERS)];
    let mut fast = views.iter().map(|(view, _)| MiniReplica::join(proxy.addr(view))).collect::<Result<Vec<_>>>()?;
    let mut slow = views.iter().map(|(view, _)| slow(&proxy, view)).collect::<Result<Vec<_>>>()?;

    // Many times what the memory holds.
    write(&primary, 1, 120)?;
    primary.client()?.run("SET user:last mark-here")?;
    for replica in &mut fast {
        replica.read_until(b"mark-here", PATIENCE).with_context(|| proxy.context())?;
    }
    for (view, _) in views {
        ensure!(log_bytes(&proxy, view)? > 8 << 20, "view {view}: {} bytes in its log", log_bytes(&proxy, view)?);
    }
    let files = log_files(&proxy)?;
    ensure!(files.len() == 2, "a log for each view: {files:?}");
    for file in &files {
        ensure!(std::fs::metadata(file)?.permissions().mode() & 0o777 == 0o600, "{file:?} holds keys of the primary");
    }

    for ((replica, fast), (view, _)) in slow.iter_mut().zip(&fast).zip(views) {
        replica.take_snapshot()?;
        replica.ack(replica.offset())?;
        replica.read_until(b"mark-here", PATIENCE).with_context(|| proxy.context())?;
        ensure!(replica.history()? == fast.history()?, "view {view}: both begin with the same snapshot");
        ensure!(replica.snapshot == fast.snapshot, "view {view}: and it is the same");
        let same = replica.stream.len().min(fast.stream.len());
        ensure!(replica.stream[..same] == fast.stream[..same], "view {view}: what is read from disk is what was sent");
    }
    // One that comes now begins with the old snapshot, and reads all of the log.
    for (view, seen_as) in views {
        let late = Server::replica_of(Kind::Redis70, proxy.addr(view))?;
        assert_same(&primary, &late, seen_as, PATIENCE).with_context(|| proxy.context())?;
    }
    ensure!(proxy.info("all", "proxy", "full_syncs_total")? == "1", "one snapshot of the primary\n{}", proxy.context());
    ensure!(primary.client()?.info_field("stats", "sync_full")? == "1", "{}", proxy.context());
    ensure!(proxy.events("replica-behind") == 0, "{}", proxy.context());
    drop((fast, slow));
    proxy.terminate()?;
    ensure!(log_files(&proxy)?.is_empty(), "nothing is left behind: {:?}", log_files(&proxy)?);
    Ok(())
}

#[test]
fn a_log_beyond_its_budget_costs_the_slow_one_and_is_told() -> Result<()> {
    let (primary, mut proxy) = stage("[view.backlog]\nmemory = \"1mb\"\ndisk = \"4mb\"")?;
    let mut fast = MiniReplica::join(proxy.addr("members"))?;
    let mut slow = slow(&proxy, "members")?;
    // Never more at once than the view can hold for the fast one, however late it is.
    for round in 1..=10 {
        write(&primary, round, 12)?;
        primary.client()?.run(&format!("SET user:last mark-{round}-here"))?;
        fast.read_until(format!("mark-{round}-here").as_bytes(), PATIENCE).with_context(|| proxy.context())?;
    }
    proxy.wait_log(&["'members'", "1.0 MiB in memory and 4.0 MiB on disk", "view.backlog.disk"])?;
    ensure!(slow.take_snapshot().is_err(), "it has nothing to go on with, and is closed");
    // The next one waits for a newer snapshot, and is served from it: nobody else notices.
    let late = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    assert_same(&primary, &late, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
    ensure!(proxy.info("all", "proxy", "full_syncs_total")? == "1", "{}", proxy.context());
    ensure!(proxy.info("all", "proxy", "refreshes_total")? == "1", "{}", proxy.context());
    // What a process leaves behind when it is killed, the next one removes.
    write(&primary, 11, 20)?;
    wait_for("a log", PATIENCE, || Ok(!log_files(&proxy)?.is_empty()))?;
    proxy.kill9()?;
    ensure!(!log_files(&proxy)?.is_empty());
    proxy.start_again()?;
    ensure!(log_files(&proxy)?.is_empty(), "{:?}", log_files(&proxy)?);
    Ok(())
}
