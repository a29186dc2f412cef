//! Commands with several keys, random choices or relative times, as real kevy primaries send them; and those that no filtered
//! view can be kept right behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::Reply;
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::fake_primary::{FakePrimary, Session};
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::mini_replica::{Link, MiniReplica};
use sluicegate_tests::kevy::snapshot::Snapshot;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

/// Each is sent for several values of `#`, so that its keys lie in one shard now and in several then.
const MANY_KEYS: &[&str] = &[
    "MSET user:a# 1 user:b# 2 tmp:c# 3 sess:d# 4",
    "MSETNX user:e# 1 user:f# 2",
    "DEL user:a# tmp:c#",
    "UNLINK sess:d# user:none#",
    // Whoever moves a value of which nobody was told must have both names in one stream: the tags see to that.
    "SET user:{#}b 1",
    "RENAME user:{#}b user:{#}g",
    "RENAMENX user:{#}g sess:{#}h",
    "COPY sess:{#}h user:i#",
    "SADD user:s1# a b c d e f",
    "SADD user:s2# d e f g",
    "SUNIONSTORE user:s3# user:s1# user:s2#",
    "SINTERSTORE user:s4# user:s1# user:s2#",
    "SDIFFSTORE user:s5# user:s1# user:s2#",
    "SMOVE user:s1# user:s2# a",
    "SPOP user:s1# 2",
    "ZADD user:z1# 1 a 2 b",
    "ZADD user:z2# 3 b 4 c",
    "ZUNIONSTORE user:z3# 2 user:z1# user:z2#",
    "ZINTERSTORE user:z4# 2 user:z1# user:z2#",
    "ZRANGESTORE user:z5# user:z1# 0 -1",
    "SET user:x1# abc",
    "SET user:x2# xyz",
    "BITOP OR user:x3# user:x1# user:x2#",
    "PFADD user:p1# a b",
    "PFADD user:p2# c",
    "PFMERGE user:p3# user:p1# user:p2#",
    "INCRBYFLOAT user:f# 0.5",
    "HSET user:h# a 1 b 2",
    "HINCRBYFLOAT user:h# a 0.25",
    "HGETDEL user:h# FIELDS 1 b",
    "GETEX user:x1# PERSIST",
    "GETDEL user:x2#",
    "LPUSH user:l# a b c",
    "LTRIM user:l# 0 1",
    "GEOADD user:{geo#} 13.361389 38.115556 p 15.087269 37.502669 c",
    "GEOSEARCHSTORE user:{geo#}2 user:{geo#} FROMLONLAT 15 37 BYRADIUS 200 km",
    "SORT user:l# ALPHA STORE user:l2#",
    "XADD user:xs# 1-1 a b",
    "XGROUP CREATE user:xs# g 0",
    "XSETID user:xs# 9-9",
];

/// What 7.0 sends by its effects.
const SINCE_7_0: &[&str] = &[
    "XADD user:xs# * a b",
    "XREADGROUP GROUP g someone COUNT 1 STREAMS user:xs# >",
    "XACK user:xs# g 1-1",
    "BLPOP user:l# 1",
];

fn as_on_the_primary(version: Version) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let primary = KevyServer::primary(version, 2)?;
    let direct = KevyServer::replica(version, 2, primary.base())?;
    let config = Config::kevy(primary.shard_addr(0), 2).both_views().view_of("three", FILTERED, 3);
    let proxy = Proxy::start(config)?;
    let mut replicas = Vec::new();
    for (name, shards, view) in [("all", 2, View::IDENTITY), ("members", 2, View::MEMBERS), ("three", 3, View::MEMBERS)]
    {
        replicas.push((name, KevyServer::replica(version, shards, proxy.addr(name).port())?, view));
    }
    let check = |after: &str| -> Result<()> {
        assert_same(&primary, &direct, View::IDENTITY, PATIENCE)
            .with_context(|| format!("kevy's own replica, {after}"))?;
        for (name, replica, view) in &replicas {
            assert_same(&primary, replica, *view, PATIENCE)
                .with_context(|| format!("view {name}, after {after}\n{}", proxy.context()))?;
        }
        Ok(())
    };
    check("the initial sync")?;
    let since = if version >= Version::V70 { SINCE_7_0 } else { &[] };
    let mut client = primary.client()?;
    for command in MANY_KEYS.iter().chain(since) {
        for n in 0..6 {
            let words: Vec<String> = command.split(' ').map(|word| word.replace('#', &n.to_string())).collect();
            if let Reply::Error(text) = client.ask(&words)? {
                ensure!(n == 0, "{command} failed late: {text}");
                eprintln!("  {version:?} does not take {command}: {text}");
                break;
            }
        }
    }
    check("all commands")?;
    // A transaction comes through flat.
    client.run("MULTI")?;
    for n in 0..20 {
        client.run(&format!("SET user:multi:{n} {n}"))?;
    }
    client.run("EXEC")?;
    check("a transaction")
}

#[test]
fn commands_with_many_keys_of_6_4() -> Result<()> {
    as_on_the_primary(Version::V64)
}

#[test]
fn commands_with_many_keys_of_7_0() -> Result<()> {
    as_on_the_primary(Version::V70)
}

/// Expiries go out relative to the moment at which they were given; a replica that gets them later must not count from then.
#[test]
fn a_late_replica_does_not_keep_keys_longer() -> Result<()> {
    for version in Version::all_found() {
        let primary = KevyServer::primary(version, 2)?;
        let proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views().view_of("one", &[], 1))?;
        // There is a stream that a snapshot stands before.
        let early = KevyServer::replica(version, 2, proxy.addr("all").port())?;
        let mut client = primary.client()?;
        client.run("SET user:first 1")?;
        early.wait_for("the stream", PATIENCE, |c| Ok(c.run("GET user:first")?.text() == "1"))?;
        for n in 0..8 {
            client.run(&format!("SET user:set:{n} v EX 1000"))?;
            client.run(&format!("SETEX user:setex:{n} 1000 v"))?;
            client.run(&format!("PSETEX user:psetex:{n} 1000000 v"))?;
            for verb in ["EXPIRE user:expire:# 1000", "PEXPIRE user:pexpire:# 1000000"] {
                let command = verb.replace('#', &n.to_string());
                let key = command.split(' ').nth(1).context("a key")?;
                client.run(&format!("SET {key} v"))?;
                client.run(&command)?;
            }
            client.run(&format!("SET user:gone:{n} v PX 1500"))?;
        }
        std::thread::sleep(Duration::from_secs(3));
        for (view, shards, renamed) in [("all", 2, false), ("members", 2, true), ("one", 1, false)] {
            let late = KevyServer::replica(version, shards, proxy.addr(view).port())?;
            let told = || format!("{version:?}, view {view}\n{}", proxy.context());
            late.wait_for("the stream", PATIENCE, |c| Ok(c.run("DBSIZE")?.int() >= Some(41))).with_context(told)?;
            for key in ["set", "setex", "psetex", "expire", "pexpire"] {
                for n in 0..8 {
                    let name = format!("{}:{key}:{n}", if renamed { "u" } else { "user" });
                    let there = late.client()?.run(&format!("PTTL {name}"))?.int().unwrap_or(-9);
                    let here = client.run(&format!("PTTL user:{key}:{n}"))?.int().unwrap_or(-9);
                    ensure!(here > 900_000 && there > 900_000, "{name}: {here} ms there, {there} ms here, {}", told());
                    ensure!((there - here).abs() < 1_000, "{name} lives {} ms longer, {}", there - here, told());
                }
            }
            let gone = late.client()?.run(if renamed { "GET u:gone:0" } else { "GET user:gone:0" })?;
            ensure!(gone == Reply::Nil, "a key outlived its time, {}", told());
        }
    }
    Ok(())
}

/// A fake primary, the proxy behind it, and a small replica on each view.
fn settled() -> Result<(FakePrimary, Proxy, MiniReplica, MiniReplica)> {
    let body = Snapshot::default().string(b"user:1", b"good").string(b"tmp:1", b"t").end();
    let fake = FakePrimary::start(1, vec![Session::good(&body, 100)])?;
    let proxy = Proxy::start(Config::kevy(fake.addr(), 1).upstream_line("dialect = \"k3\"").both_views())?;
    let all = MiniReplica::join(proxy.addr("all"), 1, PATIENCE).with_context(|| proxy.context())?;
    let members = MiniReplica::join(proxy.addr("members"), 1, PATIENCE).with_context(|| proxy.context())?;
    Ok((fake, proxy, all, members))
}

#[test]
fn a_command_that_no_filtered_view_can_know_halts_it_alone_and_with_a_reason() -> Result<()> {
    let cases: [(&str, &[&str]); 4] = [
        ("a dropped key becomes a kept one", &["RENAME", "tmp:1", "user:9"]),
        ("kept and dropped keys are joined", &["SUNIONSTORE", "user:9", "user:1", "tmp:1"]),
        ("a script", &["EVAL", "return redis.call('SET', 'user:9', 'x')", "1", "user:1"]),
        ("a command that nobody knows", &["FROBNICATE", "user:1", "x"]),
    ];
    for (case, command) in cases {
        let (fake, mut proxy, mut all, mut members) = settled()?;
        let told = |proxy: &Proxy| format!("{case}\n{}", proxy.context());
        fake.write(0, &["SET", "user:2", "before"])?;
        members.read_until(b"before", PATIENCE).with_context(|| told(&proxy))?;
        fake.write(0, command)?;
        fake.write(0, &["SET", "user:2", "afterwards"])?;
        all.read_until(b"afterwards", PATIENCE).with_context(|| told(&proxy))?;
        ensure!(
            all.has(command[0].as_bytes()),
            "the view without plugins passes what it does not know: {}",
            told(&proxy)
        );
        let mut link = members.links.into_iter().next().context("a link")?;
        link.read_to_close(PATIENCE).with_context(|| told(&proxy))?;
        ensure!(!link.has(b"afterwards") && !link.has(b"tmp:1"), "a halted view went on: {}", told(&proxy));
        let line = proxy.wait_log(&["members", "halt", command[0]]).context(case)?;
        eprintln!("{case}:\n    {line}");
        ensure!(!line.contains("tmp:1"), "the log tells the name of a dropped key: {line}");
        // Who comes now is turned away, until the primary gives another snapshot.
        let mut late = Link::ask(proxy.addr("members"), Some(0), 0)?;
        late.read_to_close(PATIENCE).with_context(|| told(&proxy))?;
        ensure!(late.snapshots.is_empty(), "a halted view served a snapshot: {}", told(&proxy));
        ensure!(all.reconnects == 0, "the other view was cut: {}", told(&proxy));
        let body = Snapshot::default().string(b"user:7", b"anew").end();
        fake.play(0, vec![Session::good(&body, 500)]);
        fake.send(0, b"what cannot be\r\n")?;
        let again = MiniReplica::join(proxy.addr("members"), 1, PATIENCE).with_context(|| told(&proxy))?;
        ensure!(again.has(b"u:7") && !again.has(b"good"), "the new snapshot is not what is served: {}", told(&proxy));
        proxy.check_alive()?;
    }
    Ok(())
}
