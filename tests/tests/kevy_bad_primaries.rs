//! Kevy primaries that lie, stammer, break off or speak something else. What must follow: a log line that names the party,
//! nothing half-loaded served, and a good primary followed right behind it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::encode;
use sluicegate_tests::kevy::bystanders::{BAD, SHARDS, config, good, join, serves, settled};
use sluicegate_tests::kevy::fake_primary::{FakePrimary, GENERATION, Session};
use sluicegate_tests::kevy::snapshot::{Snapshot, frame, piece, shipped};
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

const BAD_KEY: &[u8] = b"user:half-loaded";

/// A snapshot with something bad in it, without its end.
fn bad_body() -> Snapshot {
    Snapshot::default().string(BAD_KEY, b"x").string(b"user:filler", &[b'f'; 300])
}

/// Plays one bad session to a fresh proxy, then good ones.
fn survives(case: &str, bad: Session, words: &[&str]) -> Result<()> {
    let fake = FakePrimary::start(SHARDS, vec![bad, good()])?;
    let mut proxy = Proxy::start(config(&fake).both_views())?;
    let line = proxy.wait_log(words).context(case.to_owned())?;
    eprintln!("{case}:\n    {line}");
    serves(&proxy, case)?;
    proxy.check_alive().context(case.to_owned())
}

#[test]
fn broken_snapshots_are_refused() -> Result<()> {
    let whole = bad_body().end();
    let sound = |body: &[u8]| Session::then(shipped(body, 7));
    let chunked = |pieces: &[&[u8]]| Session::then([b"+SNAPSHOT\r\n".as_slice(), &pieces.concat()].concat());
    let begun = piece(&bad_body().unfinished());
    let cases = [
        ("truncated", sound(&bad_body().unfinished())),
        ("truncated in a value", sound(&whole[..whole.len() - 20])),
        ("cut off by the end of the link", chunked(&[&begun]).then_close()),
        ("without an end, then the end of the link", Session::then(b"+SNAPSHOT\r\n".to_vec()).then_close()),
        ("no magic", sound(b"SNAPKEVY\x04\0")),
        ("a version of the future", sound(&Snapshot::of_version(99).string(BAD_KEY, b"x").end())),
        ("a type that nobody knows", sound(&bad_body().raw(&[77, 0]).bytes(b"user:x").end())),
        ("a string longer than the snapshot", sound(&bad_body().raw(&[1, 0, 255, 255, 255, 127]).raw(b"user:x").end())),
        (
            "a row that lies elsewhere",
            sound(&Snapshot::of_version(7).string(BAD_KEY, b"x").raw(&[8, 0]).bytes(b"r").raw(&[0; 8]).end()),
        ),
        ("something behind the end", sound(&bad_body().raw(&[0, 200, 1, 2, 3]).unfinished())),
        ("nothing at all", sound(b"")),
        ("an empty piece", chunked(&[&begun, b"$0\r\n\r\n"])),
        ("a piece of 70000 bytes", chunked(&[&begun, &piece(&[b'x'; 70_000])])),
        ("a piece of negative length", chunked(&[&begun, b"$-1\r\n\r\n"])),
        ("a piece that is longer than said", chunked(&[&begun, b"$3\r\nabcd\r\n"])),
        (
            "a frame between the pieces",
            chunked(&[&begun, &frame(3, &["SET", "user:half-loaded", "x"]), b"+SNAPSHOT_END 7\r\n"]),
        ),
        ("a snapshot in a snapshot", chunked(&[&begun, b"+SNAPSHOT\r\n"])),
        ("an end without an offset", chunked(&[&begun, b"+SNAPSHOT_END\r\n"])),
        ("an end without a beginning", Session::then(b"+SNAPSHOT_END 7\r\n".to_vec())),
    ];
    for (case, session) in cases {
        survives(case, session, &["upstream"])?;
    }
    Ok(())
}

#[test]
fn bad_answers_to_the_handshake_are_refused() -> Result<()> {
    let whole = shipped(&bad_body().end(), 7);
    let cases = [
        ("garbage", "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()),
        ("binary", "\0\u{1}\u{2}\r\n".into()),
        ("an error", "-ERR unknown command 'REPLICATE'\r\n".into()),
        ("no numbers", "+ACK\r\n".into()),
        ("a negative offset", format!("+ACK {GENERATION} -1\r\n")),
        ("a word too many", format!("+ACK {GENERATION} 0 0\r\n")),
        ("a snapshot without an answer", "+SNAPSHOT\r\n".into()),
        ("a sign of life without an answer", format!("+PING {GENERATION} 0\r\n")),
        ("a line without an end", "+".to_owned() + &"x".repeat(100_000)),
    ];
    for (case, answer) in cases {
        let session = Session::instead([answer.as_bytes(), &whole].concat()).then_close();
        survives(case, session, &["upstream"])?;
    }
    Ok(())
}

#[test]
fn a_primary_that_closes_without_a_word_is_asked_again() -> Result<()> {
    survives("silence and an end", Session::instead("").then_close(), &["upstream"])
}

/// The primary does this in mid-stream; a log line names it, and both views go on behind it.
fn goes_on_behind(case: &str, bad: &[u8], words: &[&str]) -> Result<()> {
    let (fake, mut proxy, mut all, mut members) = settled(Config::both_views)?;
    let before = fake.requests().len();
    let next = fake.next(0);
    fake.send(0, bad)?;
    fake.wait_requests(before + 1).with_context(|| format!("{case}\n{}", proxy.context()))?;
    let line = proxy.wait_log(words).context(case.to_owned())?;
    eprintln!("{case}:\n    {line}");
    ensure!(fake.next(0) == next || fake.next(0) == 100, "{case}: the fake is at {}", fake.next(0));
    for (replica, view) in [(&mut all, "all"), (&mut members, "members")] {
        let told = || format!("{case}: view {view}\n{}\n{:?}", proxy.context(), fake.requests());
        // It may have to come back, or take another snapshot; both are a real replica's daily bread.
        let mark = format!("mark-for-{view}");
        let start = Instant::now();
        while !replica.has(mark.as_bytes()) {
            ensure!(start.elapsed() < PATIENCE, "nothing came through any more; {}", told());
            fake.write(0, &["SET", "user:3", &mark]).ok();
            fake.write(1, &["SET", "user:4", &mark]).ok();
            replica.read().with_context(told)?;
        }
        ensure!(!replica.has(BAD), "{}: what is bad was passed on", told());
        ensure!(!replica.has(b"garbage"), "{}: garbage was passed on", told());
    }
    serves(&proxy, case)?;
    proxy.check_alive().context(case.to_owned())
}

#[test]
fn garbage_in_the_stream_reaches_nobody() -> Result<()> {
    let at = |offset: i64, rest: &[u8]| [format!("*2\r\n:{offset}\r\n").as_bytes(), rest].concat();
    let cases: [(&str, Vec<u8>); 12] = [
        ("an inline command", b"SET user:half-loaded 1\r\n".to_vec()),
        ("binary", b"\0\xff\x17garbage\r\n\r\n".to_vec()),
        ("a command without an envelope", encode(&["SET", "user:half-loaded", "1"])),
        ("an envelope of three", b"*3\r\n:101\r\n*1\r\n$4\r\nPING\r\n".to_vec()),
        ("a negative offset", at(-1, &encode(&["SET", "user:half-loaded", "1"]))),
        ("an offset that is text", b"*2\r\n$3\r\n101\r\n*1\r\n$4\r\nPING\r\n".to_vec()),
        ("a negative count", at(101, b"*-1\r\n")),
        ("a negative length", at(101, b"*2\r\n$3\r\nDEL\r\n$-1\r\n")),
        ("a bulk that is longer than said", at(101, b"*2\r\n$3\r\nDEL\r\n$4\r\nuser:half-loaded\r\n")),
        ("a length above all sense", at(101, b"*3\r\n$3\r\nSET\r\n$16\r\nuser:half-loaded\r\n$99999999999999\r\n")),
        ("a second greeting", format!("+ACK {GENERATION} 0\r\n").into_bytes()),
        ("a sign of life that makes no sense", b"+PING garbage\r\n".to_vec()),
    ];
    for (case, garbage) in cases {
        goes_on_behind(case, &garbage, &["upstream"])?;
    }
    Ok(())
}

#[test]
fn a_gap_in_the_stream_reaches_nobody() -> Result<()> {
    let bad = ["SET", "user:half-loaded", "x"];
    // The next frame is 101.
    goes_on_behind("a gap", &frame(105, &bad), &["upstream", "105", "101"])?;
    goes_on_behind("a repeat", &frame(100, &bad), &["upstream", "100", "101"])?;
    goes_on_behind(
        "a gap in one read",
        &[frame(101, &["PING"]), frame(103, &bad)].concat(),
        &["upstream", "103", "102"],
    )
}

#[test]
fn a_frame_above_the_limit_is_named_and_passed_by() -> Result<()> {
    let limits = "[view.limits]\nframe = \"1mb\"";
    let (fake, mut proxy, mut all, mut members) =
        settled(|config| config.view_with("all", &[], limits).view_with("members", FILTERED, limits))?;
    let memory = proxy.resident_bytes()?;
    let claim = b"*2\r\n:101\r\n*3\r\n$3\r\nSET\r\n$16\r\nuser:half-loaded\r\n$536870912\r\nonly these bytes";
    fake.send(0, claim)?;
    let line = proxy.wait_log(&["upstream", "536870"])?;
    eprintln!("{line}");
    let grown = proxy.resident_bytes()?.saturating_sub(memory);
    ensure!(grown < 64 << 20, "a claim took {} MiB", grown >> 20);
    for replica in [&mut all, &mut members] {
        replica.read()?;
        ensure!(!replica.has(BAD), "the frame was passed on");
    }
    proxy.check_alive()
}

#[test]
fn a_primary_that_is_silent_is_left_and_asked_again() -> Result<()> {
    let fake = FakePrimary::start(SHARDS, vec![good()])?;
    let proxy = Proxy::start(config(&fake).upstream_line("timeout = \"3s\"").both_views())?;
    join(&proxy, "all")?;
    // Only one that has shown that it has heartbeats can be missed by them.
    fake.ping(0)?;
    let before = fake.requests().len();
    fake.wait_requests(before + 1).with_context(|| proxy.context())?;
    let line = proxy.wait_log(&["primary", "says nothing"])?;
    eprintln!("{line}");
    let request = fake.requests()[before].clone();
    ensure!(
        request.place == [GENERATION + request.shard as u64, fake.next(request.shard)],
        "it must ask to go on: {request:?}"
    );
    ensure!(fake.requests().len() < before + 5, "no tight loop: {:?}", fake.requests());
    Ok(())
}

#[test]
fn one_shard_of_a_primary_fails_and_the_other_goes_on() -> Result<()> {
    let (fake, proxy, mut all, mut members) = settled(Config::both_views)?;
    fake.play(0, vec![Session::instead("").then_close()]);
    fake.cut(0);
    fake.wait_requests(5).with_context(|| proxy.context())?;
    fake.write(1, &["SET", "user:5", "from-the-other-shard"])?;
    for replica in [&mut all, &mut members] {
        replica.read_until(b"from-the-other-shard", PATIENCE).with_context(|| proxy.context())?;
        ensure!(replica.reconnects == 0, "a replica's link was cut for it\n{}", proxy.context());
    }
    Ok(())
}

#[test]
fn a_wrong_dialect_is_named() -> Result<()> {
    let wrong = |dialect: &str| {
        let fake = FakePrimary::start(SHARDS, vec![good()])?;
        Ok::<_, anyhow::Error>((
            Config::kevy(fake.addr(), SHARDS).upstream_line(&format!("dialect = {dialect:?}")),
            fake,
        ))
    };
    for (dialect, without_generations) in [("k3", true), ("k1", false), ("k2", false)] {
        let (config, fake) = wrong(dialect)?;
        if without_generations {
            fake.speak_without_generations();
        }
        let mut proxy = Proxy::start(config.both_views())?;
        let line = proxy.wait_log(&["upstream", "dialect"]).with_context(|| format!("dialect {dialect}"))?;
        eprintln!("{dialect}:\n    {line}");
        fake.wait_requests(4)?;
        proxy.check_alive()?;
    }
    Ok(())
}

#[test]
fn the_dialect_is_found_out_where_nobody_names_it() -> Result<()> {
    for without_generations in [false, true] {
        let fake = FakePrimary::start(SHARDS, vec![good()])?;
        if without_generations {
            fake.speak_without_generations();
        }
        let proxy = Proxy::start(Config::kevy(fake.addr(), SHARDS).both_views())?;
        serves(&proxy, if without_generations { "five words" } else { "six words" })?;
    }
    Ok(())
}

#[test]
fn real_replicas_are_served_behind_all_that() -> Result<()> {
    let versions = Version::all_found();
    let body = Snapshot::default().string(b"user:1", b"good").string(b"tmp:1", b"t").end();
    let bad = [
        Session::then(shipped(&bad_body().unfinished(), 7)),
        Session::instead("-ERR no\r\n"),
        Session::then(b"+SNAPSHOT\r\n$0\r\n\r\n".to_vec()),
    ];
    for version in versions {
        let script = bad.iter().cloned().chain([Session::good(&body, 100)]).collect();
        let fake = FakePrimary::start(1, script)?;
        let mut dialect = "k3";
        if !version.names_generations() {
            // A replica that is older than its primary is refused.
            fake.speak_without_generations();
            dialect = "k2";
        }
        let dialect = format!("dialect = {dialect:?}");
        let proxy = Proxy::start(Config::kevy(fake.addr(), 1).upstream_line(&dialect).both_views())?;
        for (view, name) in [("all", "user:1"), ("members", "u:1")] {
            let replica = KevyServer::replica(version, 1, proxy.addr(view).port())?;
            replica
                .wait_for("the good key", PATIENCE, |c| Ok(c.ask(&["GET", name])?.text() == "good"))
                .with_context(|| format!("{version:?}, view {view}\n{}", proxy.context()))?;
            let keys = replica.client()?.run("DBSIZE")?.int();
            ensure!(keys == Some(if view == "all" { 2 } else { 1 }), "{version:?}: view {view} has {keys:?} keys");
        }
    }
    Ok(())
}
