//! The control experiment: kevy replicas that follow their primary directly, and the harness' own peers with real ones. What
//! differs here is kevy's own doing, or the harness', and the other stories would blame the proxy for it.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{Holdings, View};
use sluicegate_tests::kevy::fake_primary::{FakePrimary, Session};
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::mini_replica::Link;
use sluicegate_tests::kevy::snapshot::Snapshot;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::tap::{Tap, Way};
use sluicegate_tests::wait::{PATIENCE, wait_for};

/// Follows through taps that are cut, as the replicas of the proxy's views will.
fn directly(version: Version, seed: u64) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let primary = KevyServer::primary(version, 2)?;
    let mut workload = Workload::new(seed, version);
    workload.write(&mut primary.client()?, 3_000)?;
    let target = primary.shard_addr(0);
    let taps = if version.names_generations() { Tap::row(target, 2)? } else { Tap::gentle_row(target, 2)? };
    let replica = KevyServer::replica(version, 2, taps[0].addr().port())?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    let writer = workload.in_background(primary.addr(), 4_000);
    for round in 0..6_u64 {
        let goal = writer.sent() + 200;
        wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        for tap in &taps {
            let links = tap.accepted();
            match round % 2 {
                0 => {
                    tap.cut();
                }
                _ => tap.cut_after(Way::Down, 1 + round * 400),
            }
            wait_for("a new link", PATIENCE, || Ok(tap.accepted() > links))?;
            tap.heal();
        }
    }
    writer.stop()?;
    let compared = assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    let census = Holdings::of_kevy(&primary)?.census();
    eprintln!("{version:?}: {compared} keys equal: {census:?}");
    for kind in ["string", "list", "set", "zset", "hash", "stream"] {
        ensure!(census.get(kind).is_some_and(|count| *count > 5), "too few keys of type {kind}: {census:?}");
    }
    Ok(())
}

/// Not 1.19: what was on its way when a link broke counts as received there, and the snapshot that follows is loaded on top
/// of what the replica has.
#[test]
fn kevy_3_17_replicas_equal_their_primary() -> Result<()> {
    directly(Version::V317, 2)
}

#[test]
fn kevy_6_4_replicas_equal_their_primary() -> Result<()> {
    directly(Version::V64, 3)
}

#[test]
fn kevy_7_0_replicas_equal_their_primary() -> Result<()> {
    directly(Version::V70, 4)
}

#[test]
fn the_fake_primary_is_followed_by_real_replicas() -> Result<()> {
    for version in Version::all_found() {
        let body = Snapshot::default().string(b"a", b"1").hash(b"h", b"f", b"v").end();
        let fake = FakePrimary::start(1, vec![Session::instead("").then_close(), Session::good(&body, 7)])?;
        if !version.names_generations() {
            fake.speak_without_generations();
        }
        let replica = KevyServer::replica(version, 1, fake.addr().port())?;
        let said = |what: &str| format!("{version:?}: {what}; handshakes: {:?}", fake.requests());
        replica
            .wait_for("the key of the snapshot", PATIENCE, |c| Ok(c.run("GET a")?.text() == "1"))
            .with_context(|| said("the snapshot"))?;
        ensure!(replica.client()?.run("HGET h f")?.text() == "v", "{version:?}: the hash");
        fake.write(0, &["SET", "b", "2"])?;
        replica
            .wait_for("the key of the stream", PATIENCE, |c| Ok(c.run("GET b")?.text() == "2"))
            .with_context(|| said("the stream"))?;
        if version.has_heartbeats() {
            fake.ping(0)?;
            fake.wait_acked(0)?;
        }
        fake.cut(0);
        let before = fake.requests().len();
        fake.wait_requests(before + 1)?;
        wait_for("a link", PATIENCE, || Ok(fake.write(0, &["SET", "c", "3"]).is_ok()))?;
        replica
            .wait_for("the key behind the cut", PATIENCE, |c| Ok(c.run("GET c")?.text() == "3"))
            .with_context(|| said("the stream behind the cut"))?;
    }
    Ok(())
}

#[test]
fn the_small_replica_is_taken_for_one_by_real_primaries() -> Result<()> {
    for version in Version::all_found() {
        let primary = KevyServer::primary(version, 1)?;
        primary.client()?.run("SET early in-the-beginning")?;
        let asked = version.names_generations().then_some(0);
        let mut link = Link::ask(primary.shard_addr(0), asked, 0)?;
        link.acks = version.has_heartbeats();
        let told = || format!("{version:?}");
        link.read_until(PATIENCE, |link| link.has(b"in-the-beginning")).with_context(told)?;
        if version.names_generations() {
            link.read_until(PATIENCE, |link| !link.snapshots.is_empty()).with_context(told)?;
        }
        primary.client()?.run("SET late in-the-stream")?;
        link.read_until(PATIENCE, |link| link.frames.iter().flatten().any(|word| word == b"in-the-stream"))
            .with_context(told)?;
        if version.has_heartbeats() {
            link.read_until(PATIENCE, |link| link.pings > 0).with_context(told)?;
        }
        ensure!(version.names_generations() != link.snapshots.is_empty(), "{version:?}: {:?}", link.snapshots);
        ensure!(version.names_generations() == (link.generation != 0), "{version:?}: {}", link.generation);
        link.hang_up()?;
    }
    Ok(())
}
