//! Where a key lies: each kevy has one of three ways to choose the shard of a key, and whoever puts one into another shard than
//! its own loses it, since no client looks there. The proxy asks the primary which way it has.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::{Client, Reply};
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::{KevyServer, Setup, Version};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

/// Names with tags in braces, empty ones and half ones, that are told apart by each of the ways.
fn write(client: &mut Client, round: u32) -> Result<()> {
    for n in 0..120 {
        for name in [
            format!("user:{{{n}}}:a{round}"),
            format!("user:{n}:b{round}"),
            format!("user:{{}}{n}:c{round}"),
            format!("user:{{{n}:d{round}"),
            format!("{{user:{n}}}:e{round}"),
            format!("tmp:{{{n}}}:f{round}"),
            // With the name changes its place in another way than its tag does.
            format!("sess:{{user:{n}}}:g{round}"),
        ] {
            client.call(&["SET", &name, &n.to_string()])?;
        }
    }
    Ok(())
}

fn every_key_is_found(replica: &KevyServer) -> Result<usize> {
    let mut client = replica.client()?;
    let names = client.run("KEYS *")?.items();
    for name in &names {
        let name = name.clone().bytes();
        let found = client.call(&[b"GET".as_slice(), &name])?;
        ensure!(found != Reply::Nil, "{} is listed but not found", String::from_utf8_lossy(&name));
    }
    Ok(names.len())
}

fn found_everywhere(version: Version, cluster: bool) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let start = |shards, upstream| KevyServer::start(version, Setup { shards, upstream, cluster, ..Setup::default() });
    let primary = start(2, None)?;
    let mut client = primary.client()?;
    write(&mut client, 1)?;
    let config = Config::kevy_asked(primary.shard_addr(0), primary.addr(), 2)
        .view("all", &[])
        .view("members", FILTERED)
        .view_of("three", FILTERED, 3)
        .view_of("four", &[], 4);
    let proxy = Proxy::start(config)?;
    let mut replicas = Vec::new();
    for (name, shards, view) in [
        ("all", 2, View::IDENTITY),
        ("members", 2, View::MEMBERS),
        ("three", 3, View::MEMBERS),
        ("four", 4, View::IDENTITY),
    ] {
        replicas.push((name, start(shards, Some(proxy.addr(name).port()))?, view));
    }
    for round in 1..3 {
        if round > 1 {
            write(&mut client, round)?;
        }
        for (name, replica, view) in &replicas {
            let told = || format!("{version:?}, cluster: {cluster}, view {name}, round {round}\n{}", proxy.context());
            let equal = assert_same(&primary, replica, *view, PATIENCE).with_context(told)?;
            let found = every_key_is_found(replica).with_context(told)?;
            ensure!(equal == found && found > 400, "{equal} keys equal, {found} found: {}", told());
        }
    }
    Ok(())
}

#[test]
fn by_the_tag_in_a_name() -> Result<()> {
    found_everywhere(Version::V64, false)?;
    found_everywhere(Version::V70, false)?;
    found_everywhere(Version::V317, false)
}

#[test]
fn by_the_whole_name() -> Result<()> {
    found_everywhere(Version::V119, false)
}

#[test]
fn by_the_slot_of_a_cluster() -> Result<()> {
    found_everywhere(Version::V64, true)?;
    found_everywhere(Version::V70, true)?;
    found_everywhere(Version::V317, true)
}
