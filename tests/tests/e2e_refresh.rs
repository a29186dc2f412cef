//! Newer snapshots while the stream goes on, and one fork over a restart.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

/// A snapshot for every 64 KiB of stream, each second at most.
const OFTEN: &str = "[snapshot]\nrefresh_log = \"64kb\"\nrefresh_every = \"1s\"\n";
const VIEWS: [(&str, View); 2] = [("all", View::IDENTITY), ("members", View::MEMBERS)];

/// A number of INFO proxy.
fn count(proxy: &Proxy, field: &str) -> Result<u64> {
    proxy.info("all", "proxy", field)?.parse().with_context(|| format!("INFO proxy has {field}"))
}

/// A server's own count of the snapshots that it made.
fn saves(primary: &Server) -> Result<String> {
    primary.client()?.info_field("stats", "sync_full")
}

fn replicas_that_join_behind_each_refresh_are_equal(kind: Kind) -> Result<()> {
    if kind.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(kind, &["--repl-diskless-sync-delay", "0"])?;
    let mut workload = Workload::new(51, kind, kind);
    workload.write(&mut primary.client()?, 2_000)?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views().tables(OFTEN))?;
    let mut replicas = Vec::new();
    for (name, view) in VIEWS {
        let replica = Server::replica_of(kind, proxy.addr(name))?;
        assert_same(&primary, &replica, view, PATIENCE).with_context(|| proxy.context())?;
        replicas.push((replica, view));
    }
    // Several databases, transactions, and commands whose values the filtering view has to fetch.
    let writer = workload.in_background(primary.addr(), 2_000);
    for round in 0..3 {
        let before = count(&proxy, "refreshes_total")?;
        wait_for("a newer snapshot", Duration::from_secs(60), || Ok(count(&proxy, "refreshes_total")? > before))
            .with_context(|| proxy.context())?;
        for (name, view) in VIEWS {
            let replica = Server::replica_of(kind, proxy.addr(name))?;
            replica.wait_link_up().with_context(|| format!("round {round}: {}", proxy.context()))?;
            replicas.push((replica, view));
        }
    }
    writer.stop()?;
    for (replica, view) in &replicas {
        assert_same(&primary, replica, *view, PATIENCE).with_context(|| proxy.context())?;
    }
    ensure!(count(&proxy, "full_syncs_total")? == 1, "the stream began anew\n{}", proxy.context());
    ensure!(proxy.events("replica-lost") == 0, "a replica was lost\n{}", proxy.context());
    for (replica, _) in &replicas[..VIEWS.len()] {
        let syncs = replica.log().matches("Full resync from").count();
        ensure!(syncs == 1, "a replica that was there from the beginning began anew\n{}", proxy.context());
    }
    Ok(())
}

#[test]
fn replicas_that_join_behind_each_refresh_are_equal_with_redis_7_0() -> Result<()> {
    replicas_that_join_behind_each_refresh_are_equal(Kind::Redis70)
}

#[test]
fn replicas_that_join_behind_each_refresh_are_equal_with_valkey_9_1() -> Result<()> {
    replicas_that_join_behind_each_refresh_are_equal(Kind::Valkey91)
}

/// Whether a snapshot and what is known of it lie in the data directory.
fn has_described_snapshot(data: &Path) -> Result<bool> {
    let names = std::fs::read_dir(data)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<Result<Vec<_>>>()?.iter().any(|name| name.ends_with(".meta")))
}

#[test]
fn a_proxy_that_dies_and_one_that_ends_go_on_without_a_fork() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &["--repl-backlog-size", "64mb"])?;
    let mut workload = Workload::new(52, Kind::Redis70, Kind::Redis70);
    workload.write(&mut primary.client()?, 2_000)?;
    let mut proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let all = Server::replica_of(Kind::Redis70, proxy.addr("all"))?;
    let members = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    let data = proxy.config_file().with_file_name("data");
    for sudden in [true, false] {
        wait_for("the snapshot is described", PATIENCE, || has_described_snapshot(&data))?;
        assert_same(&primary, &all, View::IDENTITY, PATIENCE).with_context(|| proxy.context())?;
        assert_same(&primary, &members, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
        let before = saves(&primary)?;
        if sudden {
            proxy.kill9()?;
        } else {
            let code = proxy.terminate()?;
            ensure!(code == 0, "exit code {code}\n{}", proxy.context());
        }
        workload.write(&mut primary.client()?, 1_000)?;
        proxy.start_again()?;
        assert_same(&primary, &all, View::IDENTITY, PATIENCE).with_context(|| proxy.context())?;
        assert_same(&primary, &members, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
        ensure!(saves(&primary)? == before, "the primary made a snapshot\n{}", proxy.context());
        ensure!(count(&proxy, "full_syncs_total")? == 0, "{}", proxy.context());
        let late = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
        assert_same(&primary, &late, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
    }
    ensure!(all.log().matches("Full resync from").count() == 1, "a relaying view goes on: {}", proxy.context());
    Ok(())
}

#[test]
fn a_kept_snapshot_of_another_primary_is_not_gone_on_from() -> Result<()> {
    let mut primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("SET user:1 old")?;
    let mut proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let data = proxy.config_file().with_file_name("data");
    wait_for("the snapshot is described", PATIENCE, || has_described_snapshot(&data))?;
    proxy.kill9()?;
    primary.kill9()?;
    primary.start_again()?;
    primary.client()?.run("SET user:2 new")?;
    proxy.start_again()?;
    let replica = Server::replica_of(Kind::Redis70, proxy.addr("all"))?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE).with_context(|| proxy.context())?;
    let answer = MiniReplica::psync(proxy.addr("members"), Announce::default(), &"0".repeat(40), 1)?.answer;
    ensure!(matches!(answer, Answer::Full { .. }), "{answer:?}");
    ensure!(count(&proxy, "full_syncs_total")? == 1, "{}", proxy.context());
    Ok(())
}
