//! Replicas that join late, and replicas that have other numbers of shards than their primary.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::Reply;
use sluicegate_tests::compare::{Holdings, View};
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

#[test]
fn two_late_replicas_cost_the_primary_nothing() -> Result<()> {
    if Version::V64.find_or_say().is_none() {
        return Ok(());
    }
    let primary = KevyServer::primary(Version::V64, 2)?;
    let mut workload = Workload::new(21, Version::V64).with_many_keys();
    let mut client = primary.client()?;
    workload.write(&mut client, 3_000)?;
    let proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views())?;

    let (mut replicas, mut starts) = (Vec::new(), None);
    for _ in 0..3 {
        for (name, view) in [("all", View::IDENTITY), ("members", View::MEMBERS)] {
            let replica = KevyServer::replica(Version::V64, 2, proxy.addr(name).port())?;
            assert_same(&primary, &replica, view, PATIENCE).with_context(|| proxy.context())?;
            replicas.push((replica, view));
            starts.get_or_insert_with(|| proxy.events("full-sync-start"));
            // The snapshot that the next one gets is older than its stream.
            workload.write(&mut client, 1_000)?;
        }
    }
    for (replica, view) in &replicas {
        assert_same(&primary, replica, *view, PATIENCE)?;
    }
    let after = Some(proxy.events("full-sync-start"));
    ensure!(after == starts && after > Some(0), "full syncs: {starts:?} first, {after:?} at last\n{}", proxy.context());
    let followers = client.info_field("replication", "connected_slaves")?;
    ensure!(followers == "1", "the primary sees {followers} replicas");
    Ok(())
}

/// A key that a server keeps in the wrong shard is listed, but nobody finds it.
fn every_key_is_found(replica: &KevyServer) -> Result<usize> {
    let mut client = replica.client()?;
    let names = client.run("KEYS *")?.items();
    for name in &names {
        let name = name.clone().bytes();
        let shown = String::from_utf8_lossy(&name).into_owned();
        let kind = client.call(&[b"TYPE".as_slice(), &name])?.text();
        ensure!(kind != "none", "{shown} is listed but not found");
        if kind == "string" {
            ensure!(client.call(&[b"GET".as_slice(), &name])? != Reply::Nil, "{shown} is listed but GET finds nothing");
        }
    }
    Ok(names.len())
}

/// From two shards to so many, in a view without plugins and in one that also changes names.
fn resharded(version: Version, shards: u16, seed: u64) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let primary = KevyServer::primary(version, 2)?;
    let mut client = primary.client()?;
    let mut workload = Workload::new(seed, version);
    if version >= Version::V64 {
        workload = workload.with_many_keys();
    }
    workload.write(&mut client, 3_000)?;
    let config = Config::kevy(primary.shard_addr(0), 2)
        .view_of("all", &[], shards)
        .view_of("members", FILTERED, shards)
        .view_with("same", &[], "");
    let proxy = Proxy::start(config)?;
    let join = |view: &str, shards| KevyServer::replica(version, shards, proxy.addr(view).port());
    let replicas = [
        (join("all", shards)?, View::IDENTITY),
        (join("members", shards)?, View::MEMBERS),
        (join("same", 2)?, View::IDENTITY),
    ];
    let check = |after: &str| -> Result<()> {
        for (replica, view) in &replicas {
            let told = || format!("{shards} shards, after {after}\n{}", proxy.context());
            let equal = assert_same(&primary, replica, *view, PATIENCE).with_context(told)?;
            let found = every_key_is_found(replica).with_context(told)?;
            ensure!(equal == found && found > 50, "{equal} keys equal, {found} found, {}", told());
        }
        Ok(())
    };
    check("the initial sync")?;
    for _ in 0..3 {
        workload.write(&mut client, 2_000)?;
        check("live writes")?;
    }
    // Late: a snapshot of all shards together, and all streams behind it.
    let late = join("members", shards)?;
    assert_same(&primary, &late, View::MEMBERS, PATIENCE)?;
    every_key_is_found(&late)?;
    let census = Holdings::of_kevy(&primary)?.census();
    eprintln!("{version:?}, 2 → {shards}: {census:?}");
    Ok(())
}

#[test]
fn two_shards_become_one() -> Result<()> {
    resharded(Version::V64, 1, 22)
}

#[test]
fn two_shards_become_three() -> Result<()> {
    resharded(Version::V64, 3, 23)
}

#[test]
fn two_shards_of_7_0_become_four() -> Result<()> {
    resharded(Version::V70, 4, 24)
}

#[test]
fn two_shards_of_3_17_become_three() -> Result<()> {
    resharded(Version::V317, 3, 25)
}

#[test]
fn two_shards_of_1_19_become_one() -> Result<()> {
    resharded(Version::V119, 1, 26)
}
