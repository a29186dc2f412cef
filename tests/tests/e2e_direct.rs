//! The control experiment: replicas that follow their primary directly. What differs here is the servers' own doing, or the
//! harness', and the other stories would blame the proxy for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use sluicegate_tests::client::encode;
use sluicegate_tests::compare::{Holdings, View, assert_same};
use sluicegate_tests::fake_primary::{FakePrimary, Session};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::rdb::Snapshot;
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::tap::{Tap, Way};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

fn directly(primary: Kind, replica: Kind, seed: u64) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(primary, &[])?;
    let mut workload = Workload::new(seed, primary.kind(), replica);
    workload.write(&mut primary.client()?, 6_000)?;
    let tap = Tap::new(primary.addr())?;
    let replica = Server::replica_of(replica, tap.addr())?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    let writer = workload.in_background(primary.addr(), 20_000);
    for round in 0..12_u64 {
        let goal = writer.sent() + 200;
        wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        let links = tap.accepted();
        tap.chunk(Way::Down, [usize::MAX, 1, 7, 1000][round as usize % 4]);
        match round % 3 {
            0 => {
                tap.cut();
            }
            1 => tap.cut_after(Way::Down, 1 + round * 400),
            _ => tap.cut_after(Way::Up, 1 + round * 4),
        }
        wait_for("a new link", PATIENCE, || Ok(tap.accepted() > links))?;
        tap.heal();
    }
    writer.stop()?;
    let compared = assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    let census = Holdings::read(&primary)?.census();
    let full = primary.client()?.info_field("stats", "sync_full")?;
    eprintln!("{:?} → {:?}: {compared} keys equal, {full} full syncs: {census:?}", primary.kind(), replica.kind());
    for kind in ["string", "list", "set", "zset", "hash", "stream"] {
        ensure!(
            census.get(kind).is_some_and(|count| *count > 5),
            "the workload leaves too few keys of type {kind}: {census:?}"
        );
    }
    Ok(())
}

#[test]
fn redis_7_replicas_equal_their_primary() -> Result<()> {
    directly(Kind::Redis70, Kind::Redis70, 1)
}

#[test]
fn redis_8_replicas_equal_their_primary() -> Result<()> {
    directly(Kind::Redis82, Kind::Redis82, 2)
}

#[test]
fn valkey_9_replicas_equal_their_primary() -> Result<()> {
    directly(Kind::Valkey91, Kind::Valkey91, 3)
}

#[test]
fn a_valkey_replica_equals_a_redis_7_primary() -> Result<()> {
    directly(Kind::Redis70, Kind::Valkey91, 4)
}

#[test]
fn a_difference_does_not_stay_hidden() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let replica = Server::replica_of(Kind::Redis70, primary.addr())?;
    let mut client = primary.client()?;
    client.run("SET user:1 a")?;
    client.run("HSET tmp:1 f v")?;
    client.run("XADD user:s 1-1 f v")?;
    client.run("XGROUP CREATE user:s g 0")?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    replica.client()?.run("CONFIG SET replica-read-only no")?;
    for spoil in ["PEXPIRE user:1 99999999", "HSET tmp:1 f w", "XREADGROUP GROUP g c STREAMS user:s >", "SET other 1"] {
        replica.client()?.run(spoil)?;
        let found = assert_same(&primary, &replica, View::IDENTITY, Duration::ZERO);
        ensure!(found.is_err(), "{spoil:?} on the replica went unnoticed");
    }
    Ok(())
}

#[test]
fn the_small_replica_is_taken_for_one_by_a_real_primary() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("SET in-snapshot 1")?;
    let mut replica = MiniReplica::join(primary.addr())?;
    ensure!(replica.by_mark && find(&replica.snapshot, b"in-snapshot").is_some(), "no snapshot");
    primary.client()?.run("SET k in-stream")?;
    replica.read_until(b"in-stream", PATIENCE)?;
    let (id, start) = replica.history()?;
    let mut again = MiniReplica::psync(primary.addr(), Announce::default(), &id, start + 1)?;
    ensure!(again.answer == Answer::Continue { id: Some(id) }, "{:?}", again.answer);
    again.read_until(b"in-stream", PATIENCE)?;
    ensure!(again.commands()?.last().is_some_and(|command| command[2] == b"in-stream"), "{:?}", again.commands());
    Ok(())
}

#[test]
fn the_fake_primary_is_followed_by_a_real_replica() -> Result<()> {
    let snapshot = Snapshot::redis(10).select(0).string(b"a", b"1").old_list(b"l", &[b"x", b"y"]).end();
    let fake = FakePrimary::start(vec![Session::ping("-LOADING not yet"), Session::full(7, &snapshot, b"")])?;
    let replica = Server::replica_of(Kind::Redis70, fake.addr())?;
    replica.wait_for("the key of the snapshot", PATIENCE, |c| Ok(c.run("GET a")?.text() == "1"))?;
    ensure!(replica.client()?.run("LLEN l")?.int() == Some(2), "the list");
    let frame = encode(&["SET", "b", "2"]);
    fake.send(&frame)?;
    fake.wait_ack(7 + frame.len() as i64)?;
    ensure!(replica.client()?.run("GET b")?.text() == "2", "the stream");
    Ok(())
}
