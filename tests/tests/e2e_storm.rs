//! Many replicas at once: one walk, one snapshot of the primary, bounded memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};

const REPLICAS: usize = 200;

/// `count` keys of the view, each with a value of `bytes` that does not pack, and one that is not the view's.
fn fill(primary: &Server, count: usize, bytes: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut value = || (0..bytes).map(|_| random.u8(..)).collect::<Vec<u8>>();
    let set = |name: String, value: Vec<u8>| vec![b"SET".to_vec(), name.into_bytes(), value];
    let mut commands: Vec<_> = (0..count).map(|n| set(format!("user:{n}"), value())).collect();
    commands.push(set("tmp:1".into(), value()));
    primary.client()?.pipeline(&commands)?;
    Ok(())
}

/// A replica that asks for a snapshot, whether it is given to it at once or not.
fn ask(proxy: &Proxy, eof: bool) -> Result<MiniReplica> {
    let announce = Announce { eof, ..Announce::default() };
    let replica = MiniReplica::psync(proxy.addr("members"), announce, "?", -1)?;
    ensure!(matches!(replica.answer, Answer::Full { .. }), "{:?}", replica.answer);
    Ok(replica)
}

#[test]
fn a_storm_of_replicas_costs_one_walk_and_no_second_fork() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    fill(&primary, 500, 1000)?;
    // Half a megabyte for each: the last of them waits for some seconds.
    let config = Config::new(primary.addr())
        .view_with("members", FILTERED, "max_replicas = 300")
        .tables("[snapshot]\nships = 4\nrate = \"32mb\"\n");
    let proxy = Proxy::start(config)?;
    proxy.wait_live("members")?;
    // One to begin with, so that memory is compared with what plugins take in any case.
    let first = MiniReplica::join(proxy.addr("members"))?;
    let calm = proxy.resident_bytes()?;
    let (over, arrived, kept_waiting) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let one = || -> Result<()> {
        let mut replica = ask(&proxy, true)?;
        kept_waiting.fetch_max(replica.newlines, Ordering::Relaxed);
        replica.take_snapshot()?;
        ensure!(replica.snapshot == first.snapshot, "{} bytes are not the others' bytes", replica.snapshot.len());
        replica.ack(replica.offset())?;
        arrived.fetch_add(1, Ordering::Relaxed);
        replica.read_until(b"u:last", PATIENCE * 4)
    };
    let (outcomes, peak, waiting) = thread::scope(|scope| -> Result<_> {
        let watch = scope.spawn(|| {
            let (mut peak, mut waiting) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(proxy.resident_bytes().unwrap_or(0));
                let count = proxy.info("members", "proxy", "ships_waiting").ok().and_then(|count| count.parse().ok());
                waiting = waiting.max(count.unwrap_or(0_usize));
                // A look now and then, which takes nothing from the storm itself.
                thread::park_timeout(Duration::from_millis(20));
            }
            (peak, waiting)
        });
        let replicas: Vec<_> = (0..REPLICAS).map(|_| scope.spawn(one)).collect();
        let all = wait_for("all snapshots", PATIENCE * 4, || Ok(arrived.load(Ordering::Relaxed) == REPLICAS));
        primary.client()?.run("SET user:last 1")?;
        let outcomes: Vec<_> = replicas.into_iter().map(|replica| replica.join()).collect();
        over.store(true, Ordering::Relaxed);
        all.with_context(|| proxy.context())?;
        let (peak, waiting) = watch.join().map_err(|_| anyhow::anyhow!("the watch died"))?;
        Ok((outcomes, peak, waiting))
    })?;
    for outcome in outcomes {
        outcome.map_err(|_| anyhow::anyhow!("a replica's thread died"))?.with_context(|| proxy.context())?;
    }
    ensure!(proxy.events("walk") == 1, "{} walks\n{}", proxy.events("walk"), proxy.context());
    ensure!(proxy.info("members", "proxy", "walks_total")? == "1");
    let full = primary.client()?.info_field("stats", "sync_full")?;
    ensure!(full == "1", "the primary made {full} snapshots");
    ensure!(waiting > REPLICAS / 2, "at most {waiting} waited: the storm was none");
    ensure!(kept_waiting.load(Ordering::Relaxed) > 0, "nobody was told to wait");
    let grown = peak.saturating_sub(calm);
    ensure!(grown < 48 << 20, "{REPLICAS} replicas of half a megabyte took {} MiB", grown >> 20);
    Ok(())
}

#[test]
fn replicas_that_join_at_different_times_share_one_walk() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    fill(&primary, 2_000, 1000)?;
    let config = Config::new(primary.addr()).view("members", FILTERED).tables("[snapshot]\nrate = \"2mb\"\n");
    let proxy = Proxy::start(config)?;
    proxy.wait_live("members")?;
    let mut early = ask(&proxy, true)?;
    // In the middle of the first one's, and one that has to be told the length.
    wait_for("the first snapshot under way", PATIENCE, || {
        Ok(proxy.info_text("members", "replication")?.contains("state=send_bulk"))
    })?;
    let mut known = ask(&proxy, false)?;
    let mut progress = String::new();
    wait_for("how far they are", PATIENCE, || {
        progress = proxy.info_text("members", "replication")?;
        Ok(progress.contains(",eta="))
    })?;
    for field in [",sent=", ",rate=", ",total="] {
        ensure!(progress.contains(field), "{field} is missing: {progress}");
    }
    let began = Instant::now();
    early.take_snapshot()?;
    known.take_snapshot()?;
    let took = began.elapsed();
    ensure!(!known.by_mark && early.by_mark);
    let mut late = ask(&proxy, true)?;
    late.take_snapshot()?;
    ensure!(early.snapshot.len() > 2_000_000 && find(&early.snapshot, b"tmp:1").is_none());
    ensure!(early.snapshot == known.snapshot && early.snapshot == late.snapshot, "they are not the same");
    ensure!(proxy.events("walk") == 1, "{} walks\n{}", proxy.events("walk"), proxy.context());
    ensure!(proxy.info("members", "proxy", "ships_running")? == "0");
    // Two of two megabytes at two megabytes a second, of which some had gone before.
    ensure!(took > Duration::from_millis(700), "the rate was not kept: {took:?}");
    proxy.wait_log(&["snapshot-sent", "cause: it has none yet"])?;
    Ok(())
}

#[test]
fn a_walk_that_nobody_waits_for_leaves_nothing_behind() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    fill(&primary, 2_000, 1000)?;
    let proxy = Proxy::start(Config::new(primary.addr()).view("members", FILTERED))?;
    proxy.wait_live("members")?;
    for _ in 0..3 {
        drop(ask(&proxy, true)?);
    }
    wait_for("ships that are called back", PATIENCE, || Ok(proxy.info("members", "proxy", "ships_running")? == "0"))?;
    let replica = MiniReplica::join(proxy.addr("members"))?;
    ensure!(replica.snapshot.len() > 2_000_000);
    let products = || -> Result<usize> {
        let names = std::fs::read_dir(proxy.data_dir())?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<Result<Vec<_>>>()?;
        Ok(names.iter().filter(|name| name.to_string_lossy().contains("-for-")).count())
    };
    wait_for("one product", PATIENCE, || Ok(products()? == 1)).with_context(|| proxy.context())
}
