//! Replicas that are older than their primary, or of the other family: behind a view with a floor they hold what the primary
//! holds, from the snapshot on and through the stream; what cannot be said to them stops the view and is named.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::Client;
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

/// A key of every type that inner encodings make a difference to, in the view and beside it.
const TYPES: &str = "\
    SADD user:set a 1 70000\nHSET user:hash f v 1 2\nZADD user:zset 1.5 a inf b\nRPUSH user:list a 12 -70000\nSADD tmp:set a b\n\
    XADD user:stream 5-1 f v\nXADD user:stream 5-2 f w\nXGROUP CREATE user:stream g 0\n\
    XREADGROUP GROUP g ann COUNT 1 STREAMS user:stream >\nSET user:text v\nPEXPIREAT user:hash 4000000000000";

fn run_all(client: &mut Client, lines: &str) -> Result<()> {
    lines.lines().try_for_each(|line| {
        let reply = client.run(line)?;
        ensure!(!reply.is_error(), "{line}: {}", reply.text());
        Ok(())
    })
}

/// Copies keys by their values in the primary's own format.
fn copy(client: &mut Client, round: usize) -> Result<()> {
    for kind in ["set", "hash", "zset", "list", "stream", "text"] {
        let payload = client.call(&["DUMP", &format!("user:{kind}")])?.bytes();
        ensure!(!payload.is_empty(), "no user:{kind}");
        let name = format!("user:copy:{round}:{kind}");
        client.call(&[b"RESTORE".as_slice(), name.as_bytes(), b"0", &payload])?;
    }
    Ok(())
}

/// A primary whose views `all` and `members` have this floor, with a replica each from before and from behind a workload.
fn served(primary: Kind, replica: Kind, floor: &str, more: &str) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(primary, &[])?;
    let mut workload = Workload::new(47, primary.kind(), replica);
    let mut client = primary.client()?;
    workload.write(&mut client, 3_000)?;
    run_all(&mut client, TYPES)?;
    let written = floor;
    let floor = format!("floor = \"{written}\"");
    let config = Config::new(primary.addr()).view_with("all", &[], &floor).view_with("members", FILTERED, &floor);
    let proxy = Proxy::start(config)?;
    let views = [("all", View::IDENTITY), ("members", View::MEMBERS)];
    let shown = proxy.info("all", "views", "view_members")?.to_lowercase();
    ensure!(shown.contains(&format!(",floor={written},")), "INFO does not say what the view is for: {shown}");
    let join = |name: &str| Server::replica_of(replica, proxy.addr(name));
    let early = [join("all")?, join("members")?];
    let writer = workload.in_background(primary.addr(), 10_000);
    for round in 0..8 {
        let goal = writer.sent() + 300;
        wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        run_all(&mut client, TYPES.lines().take(5).collect::<Vec<_>>().join("\n").as_str())?;
        if round == 0 || client.run("EXISTS user:stream")?.int() == Some(0) {
            client.run("DEL user:stream")?;
            run_all(&mut client, &TYPES.lines().skip(5).collect::<Vec<_>>().join("\n"))?;
        }
        copy(&mut client, round)?;
        run_all(&mut client, more)?;
    }
    writer.stop()?;
    let late = [join("all")?, join("members")?];
    for (replica, (name, view)) in early.iter().zip(views).chain(late.iter().zip(views)) {
        let keys = assert_same(&primary, replica, view, PATIENCE)
            .with_context(|| format!("view {name}: {}\n{}", proxy.context(), replica.log()))?;
        let (from, to) = (primary.kind(), replica.kind());
        eprintln!("{from:?} → {to:?}, view {name}, {floor}: {keys} keys equal");
        ensure!(keys > 100, "only {keys} keys were compared");
    }
    let full = primary.client()?.info_field("stats", "sync_full")?;
    ensure!(full == "1", "the primary was asked for {full} snapshots");
    Ok(())
}

/// What servers from 7.0 on say in a way that a 6.2 does not know.
const MODERN: &str = "\
    DEL user:fresh\nSET user:fresh 1 NX GET\nPEXPIREAT user:fresh 4000000000000 NX\nPEXPIREAT user:fresh 4000000000001 GT\n\
    FUNCTION FLUSH\nSPUBLISH c m\n\
    XGROUP SETID user:stream g 5-1 ENTRIESREAD 1";

#[test]
fn redis_7_to_redis_6() -> Result<()> {
    served(Kind::Redis70, Kind::Redis62, "redis 6.2", MODERN)
}

#[test]
fn redis_8_to_redis_6() -> Result<()> {
    served(Kind::Redis82, Kind::Redis62, "redis 6.2", MODERN)
}

#[test]
fn redis_8_to_redis_7() -> Result<()> {
    served(
        Kind::Redis82,
        Kind::Redis70,
        "redis 7.0",
        "HINCRBYFLOAT user:hash 1 0.5\nHSETEX user:hash KEEPTTL FIELDS 1 f x",
    )
}

/// Fields that expire, in the snapshot and in the stream.
const EXPIRING: &str = "\
    HSET user:expiring a 1 b 2 c 3\nHPEXPIREAT user:expiring 4000000000000 FIELDS 2 a c\nHPERSIST user:expiring FIELDS 1 a\n\
    HSETEX user:expiring PXAT 4000000000002 FIELDS 1 d 4";

#[test]
fn valkey_9_to_redis_8() -> Result<()> {
    served(Kind::Valkey91, Kind::Redis82, "redis 8.2", EXPIRING)
}

#[test]
fn redis_8_to_valkey_9() -> Result<()> {
    served(Kind::Redis82, Kind::Valkey91, "valkey 9.1", EXPIRING)
}

#[test]
fn who_is_below_the_floor_is_refused_and_keeps_its_data() -> Result<()> {
    if Kind::Redis62.find_or_say().is_none() || Kind::Redis70.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("SET k of-the-primary")?;
    let proxy = Proxy::start(Config::new(primary.addr()).view_with("all", &[], "floor = \"redis 7.0\""))?;
    let mut old = Server::start(Kind::Redis62, &[])?;
    old.client()?.run("SET k of-its-own")?;
    old.follow(proxy.addr("all"))?;
    let why = "it is Redis 6.2, which does not know all that Redis 7.0 knows, the lowest server of this view";
    wait_for("a refusal", PATIENCE, || Ok(proxy.log().contains(why))).with_context(|| proxy.context())?;
    ensure!(old.client()?.run("GET k")?.text() == "of-its-own", "it has lost its data");
    Ok(())
}

#[test]
fn a_command_that_the_floor_does_not_know_halts_the_view_and_is_named() -> Result<()> {
    if Kind::Redis82.find_or_say().is_none() || Kind::Redis70.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(Kind::Redis82, &[])?;
    let mut client = primary.client()?;
    run_all(&mut client, TYPES)?;
    let config = Config::new(primary.addr()).view_with("old", &[], "floor = \"redis 7.0\"").view("new", &[]);
    let proxy = Proxy::start(config)?;
    let old = Server::replica_of(Kind::Redis70, proxy.addr("old"))?;
    let new = Server::replica_of(Kind::Redis82, proxy.addr("new"))?;
    assert_same(&primary, &old, View::IDENTITY, PATIENCE)?;
    run_all(&mut client, "SET before 1\nHPEXPIREAT user:hash 4000000000000 FIELDS 1 f\nSET behind 1")?;
    let why = "HPEXPIREAT cannot be said to Redis 7.0, the lowest server of this view (view.floor)";
    wait_for("the view to halt", PATIENCE, || Ok(proxy.log().contains(why))).with_context(|| proxy.context())?;
    assert_same(&primary, &new, View::IDENTITY, PATIENCE)?;
    ensure!(old.client()?.run("EXISTS behind")?.int() == Some(0), "the view has gone on");
    Ok(())
}
