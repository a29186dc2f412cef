//! Kevy primaries and replicas that lie, stammer, break off or speak something else. What must follow: a log line that names
//! the party, nothing half-loaded served, everybody else undisturbed, and a good peer served right behind it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::encode;
use sluicegate_tests::kevy::fake_primary::{FakePrimary, GENERATION, Session};
use sluicegate_tests::kevy::mini_replica::{Link, MiniReplica};
use sluicegate_tests::kevy::snapshot::{Snapshot, frame, piece, shipped};
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

const SHARDS: u16 = 2;
/// What stands in what is bad, and nobody may ever see.
const BAD: &[u8] = b"user:half-loaded";

fn good() -> Session {
    Session::good(&Snapshot::default().string(b"user:1", b"good").string(b"tmp:1", b"t").end(), 100)
}

fn bad_body() -> Snapshot {
    Snapshot::default().string(BAD, b"x").string(b"user:filler", &[b'f'; 300])
}

fn config(fake: &FakePrimary) -> Config {
    Config::kevy(fake.addr(), SHARDS).upstream_line("dialect = \"k3\"")
}

fn join(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    MiniReplica::join(proxy.addr(view), SHARDS, PATIENCE).with_context(|| format!("view {view}\n{}", proxy.context()))
}

/// Both views give a newcomer the good key, and nothing bad.
fn serves(proxy: &Proxy, case: &str) -> Result<()> {
    for (view, name) in [("all", b"user:1".as_slice()), ("members", b"u:1")] {
        let mut replica = join(proxy, view).context(case.to_owned())?;
        replica.read_until(name, PATIENCE).with_context(|| format!("{case}: view {view}\n{}", proxy.context()))?;
        ensure!(!replica.has(b"half-loaded"), "{case}: view {view} served what is bad");
        ensure!(replica.has(b"tmp:1") == (view == "all"), "{case}: view {view} is not what it should be");
    }
    ensure!(!proxy.log().contains("panicked"), "{case}: a panic\n{}", proxy.context());
    Ok(())
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
        ("a version of the future", sound(&Snapshot::of_version(99).string(BAD, b"x").end())),
        ("a type that nobody knows", sound(&bad_body().raw(&[77, 0]).bytes(b"user:x").end())),
        ("a string longer than the snapshot", sound(&bad_body().raw(&[1, 0, 255, 255, 255, 127]).raw(b"user:x").end())),
        (
            "a row that lies elsewhere",
            sound(&Snapshot::of_version(7).string(BAD, b"x").raw(&[8, 0]).bytes(b"r").raw(&[0; 8]).end()),
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

/// A proxy behind a good primary, a replica on each view, and one frame that has come through to both.
fn settled(config: impl FnOnce(Config) -> Config) -> Result<(FakePrimary, Proxy, MiniReplica, MiniReplica)> {
    let fake = FakePrimary::start(SHARDS, vec![good()])?;
    let proxy = Proxy::start(config(self::config(&fake)))?;
    let (mut all, mut members) = (join(&proxy, "all")?, join(&proxy, "members")?);
    fake.write(0, &["SET", "user:2", "all-is-well"])?;
    all.read_until(b"all-is-well", PATIENCE).with_context(|| proxy.context())?;
    members.read_until(b"all-is-well", PATIENCE).with_context(|| proxy.context())?;
    Ok((fake, proxy, all, members))
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
        ensure!(!replica.has(b"half-loaded"), "{}: what is bad was passed on", told());
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
        ensure!(!replica.has(b"half-loaded"), "the frame was passed on");
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

/// Everybody else is served: the replica that was there before, and one that comes now.
fn undisturbed(fake: &FakePrimary, proxy: &mut Proxy, replica: &mut MiniReplica, case: &str) -> Result<()> {
    let mark = format!("behind-{}", case.replace(' ', "-"));
    fake.write(0, &["SET", "user:2", &mark])?;
    replica.read_until(mark.as_bytes(), PATIENCE).with_context(|| format!("{case}\n{}", proxy.context()))?;
    ensure!(replica.reconnects == 0, "{case}: another replica's link was cut\n{}", proxy.context());
    serves(proxy, case)?;
    proxy.check_alive().context(case.to_owned())
}

#[test]
fn who_is_no_kevy_replica_is_sent_away() -> Result<()> {
    let (fake, mut proxy, mut all, _members) = settled(Config::both_views)?;
    let words = |words: &[&str]| encode(words);
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        ("a Redis replica", words(&["PING"]), &["replica", "ping"]),
        ("a Redis replica that asks at once", words(&["PSYNC", "?", "-1"]), &["replica", "psync"]),
        ("an inline PING", b"PING\r\n".to_vec(), &["replica", "ping"]),
        ("a client", words(&["SET", "user:1", "changed"]), &["replica", "set"]),
        ("a browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &["replica", "get"]),
        ("four words", words(&["REPLICATE", "FROM", "0", "ID"]), &["replica", "4"]),
        ("seven words", words(&["REPLICATE", "FROM", "0", "0", "ID", "x", "y"]), &["replica", "7"]),
        ("a negative offset", words(&["REPLICATE", "FROM", "0", "-1", "ID", "x"]), &["replica", "-1"]),
        ("another word", words(&["REPLICATE", "UNTIL", "0", "0", "ID", "x"]), &["replica", "until"]),
        ("no name", words(&["REPLICATE", "FROM", "0", "0", "ID", ""]), &["replica", "name"]),
        (
            "a handshake without an end",
            [b"*6\r\n$9\r\nREPLICATE\r\n$9999\r\n".as_slice(), &[b'x'; 9000]].concat(),
            &["replica", "4096"],
        ),
        ("an encrypted link", vec![0, 32, 1, 2, 3, 4, 5, 6], &["replica", "no kevy replica"]),
    ];
    for (case, said, line) in cases {
        for view in ["all", "members"] {
            let mut link = Link::silent(proxy.addr(view))?;
            // The other side may close before all of it is written.
            link.send(&said).ok();
            link.read_to_close(PATIENCE).with_context(|| format!("{case}\n{}", proxy.context()))?;
        }
        let line = proxy.wait_log(line).context(case.to_owned())?;
        eprintln!("{case}:\n    {line}");
        undisturbed(&fake, &mut proxy, &mut all, case)?;
    }
    Ok(())
}

#[test]
fn a_replica_from_elsewhere_gets_a_snapshot() -> Result<()> {
    let (fake, mut proxy, mut all, members) = settled(Config::both_views)?;
    for (view, ours) in [("all", &all), ("members", &members)]
        .map(|(view, replica)| (view, (replica.links[0].generation, replica.links[0].next)))
    {
        let (generation, next) = ours;
        for (case, asked, offset) in [
            ("nothing held", 0, 0),
            ("a foreign generation", generation ^ 1, next),
            ("the greatest generation", u64::MAX, next),
            ("a future place", generation, next + 1_000_000),
            ("the last place there is", generation, i64::MAX as u64),
            ("a place before the beginning", generation, 0),
            ("the primary's own place", GENERATION, 101),
        ] {
            let mut link = Link::ask(proxy.addr(view), Some(asked), offset)?;
            link.read_until(PATIENCE, |link| !link.snapshots.is_empty())
                .with_context(|| format!("view {view}: {case}\n{}", proxy.context()))?;
            ensure!(link.has(b"good") || view == "members", "view {view}: {case}: the snapshot lacks a key");
            ensure!(link.frames.is_empty() || link.next <= next + 1, "view {view}: {case}: frames of nowhere");
        }
    }
    undisturbed(&fake, &mut proxy, &mut all, "places of elsewhere")
}

#[test]
fn replicas_without_generations_are_known_by_their_place_alone() -> Result<()> {
    let fake = FakePrimary::start(1, vec![good()])?;
    fake.speak_without_generations();
    let proxy = Proxy::start(Config::kevy(fake.addr(), 1).upstream_line("dialect = \"k1\"").both_views())?;
    for view in ["all", "members"] {
        let told = || format!("view {view}\n{}", proxy.context());
        for (acks, asked) in [(false, 0), (true, 0), (false, 101), (true, i64::MAX as u64)] {
            let mut link = Link::ask(proxy.addr(view), None, asked)?;
            link.acks = acks;
            link.read_until(PATIENCE, |link| !link.snapshots.is_empty()).with_context(told)?;
            ensure!(link.has(b"good"), "the snapshot of view {view} lacks a key");
            let mark = fastrand::u64(..).to_string();
            fake.write(0, &["SET", "user:2", &mark])?;
            link.read_until(PATIENCE, |link| link.has(mark.as_bytes())).with_context(told)?;
            if acks {
                link.read_until(PATIENCE, |link| link.pings > 1).with_context(told)?;
            } else {
                // One that takes no sign of life would have died of it by now.
                for _ in 0..15 {
                    ensure!(link.read(Duration::from_millis(100))?.is_some(), "view {view}: the link was closed");
                }
            }
            // Behind it there may be frames that do nothing, to make a silent replica say which one it is.
            let back = link.frames.iter().rev().position(|frame| frame.iter().any(|word| word == mark.as_bytes()));
            let place = link.next - 1 - back.context("the mark came in a frame")? as u64;
            let mut again = Link::ask(proxy.addr(view), None, place)?;
            again.acks = acks;
            again.read_until(PATIENCE, |again| again.has(mark.as_bytes())).with_context(told)?;
            ensure!(again.snapshots.is_empty(), "view {view}: a snapshot for one who knows its place");
        }
    }
    Ok(())
}

#[test]
fn a_place_that_is_ours_goes_on_at_the_very_frame() -> Result<()> {
    let (fake, proxy, mut all, mut members) = settled(Config::both_views)?;
    for n in 0..50 {
        fake.write(0, &["SET", &format!("user:{n}"), &format!("value-{n}")])?;
        fake.write(0, &["SET", &format!("tmp:{n}"), &format!("value-{n}")])?;
    }
    fake.write(0, &["SET", "user:last", "the-last-one"])?;
    for (replica, view) in [(&mut all, "all"), (&mut members, "members")] {
        replica.read_until(b"the-last-one", PATIENCE).with_context(|| proxy.context())?;
        for (shard, link) in replica.links.iter().enumerate() {
            let frames = link.frames.len();
            let first = link.next - frames as u64;
            for skip in [0, 1, frames / 2, frames.saturating_sub(1), frames].into_iter().filter(|&skip| skip <= frames)
            {
                let addr = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.addr(view).port() + shard as u16));
                let mut again = Link::ask(addr, Some(link.generation), first + skip as u64)?;
                again
                    .read_until(PATIENCE, |again| again.pings > 0 && again.frames.len() >= frames - skip)
                    .with_context(|| format!("view {view}, shard {shard}, {skip} of {frames}\n{}", proxy.context()))?;
                ensure!(again.snapshots.is_empty(), "view {view}: a snapshot for frame {skip} of {frames}");
                ensure!(again.frames == link.frames[skip..], "view {view}: other frames than before");
            }
        }
        ensure!(replica.links.iter().any(|link| link.frames.len() > 10), "view {view} has few frames");
        ensure!(replica.has(b"tmp:2") == (view == "all"), "view {view}: dropped keys");
    }
    Ok(())
}

#[test]
fn a_replica_that_never_reads_is_cut_alone() -> Result<()> {
    let limits = "[view.limits]\nreplica_output = { hard = \"1mb\", stalled_for = \"2s\" }";
    let (fake, mut proxy, mut all, mut members) =
        settled(|config| config.view_with("all", &[], limits).view_with("members", FILTERED, limits))?;
    for view in ["all", "members"] {
        let mut sleepers = Vec::new();
        for shard in 0..SHARDS {
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.addr(view).port() + shard));
            sleepers.push(Link::ask(addr, Some(0), 0)?);
        }
        let start = Instant::now();
        for n in 0..300 {
            let key = format!("user:{n}");
            fake.write(0, &[b"SET".as_slice(), key.as_bytes(), &vec![b'v'; 100_000]])?;
            if n % 10 == 0 {
                all.read()?;
                members.read()?;
            }
        }
        let mark = format!("mark-of-{view}");
        fake.write(0, &["SET", "user:mark", &mark])?;
        for reader in [&mut all, &mut members] {
            reader.read_until(mark.as_bytes(), PATIENCE).with_context(|| proxy.context())?;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(10),
            "view {view}: the other replica waited {:?}",
            start.elapsed()
        );
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "takes no byte"])?;
        eprintln!("{line}");
        // At least one of its streams had more than the sockets hold.
        let cut = sleepers.iter_mut().filter_map(|link| link.read_to_close(Duration::from_secs(5)).ok()).count();
        ensure!(cut > 0, "view {view}: no sleeper was cut\n{}", proxy.context());
    }
    undisturbed(&fake, &mut proxy, &mut all, "a sleeper")
}

#[test]
fn a_replica_that_floods_is_cut_alone() -> Result<()> {
    let (fake, mut proxy, mut all, members) = settled(Config::both_views)?;
    let memory = proxy.resident_bytes()?;
    for (view, generation, next) in [
        ("all", all.links[0].generation, all.links[0].next),
        ("members", members.links[0].generation, members.links[0].next),
    ] {
        // No line at all.
        let mut link = Link::ask(proxy.addr(view), Some(generation), next)?;
        for _ in 0..64 {
            link.send(&[b'x'; 65_536]).ok();
        }
        link.read_to_close(PATIENCE).with_context(|| proxy.context())?;
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "no line"])?;
        eprintln!("{line}");
        // Acknowledgements of what it was never given, of the past, and lines that mean nothing.
        let mut link = Link::ask(proxy.addr(view), Some(generation), next)?;
        for n in 0..10_000_u64 {
            link.ack(u64::MAX - n);
            link.ack(n % 3);
        }
        link.send(b"REPLCONF ACK -5\r\nREPLCONF GETACK *\r\n\r\nhello\r\n").ok();
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "acknowledge"])?;
        eprintln!("{line}");
        undisturbed(&fake, &mut proxy, &mut all, "a flood")?;
    }
    // Handshakes that never come to an end.
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut link = Link::silent(proxy.addr("members"))?;
        link.send(b"*6\r\n$9\r\nREPLI").ok();
        open.push(link);
    }
    undisturbed(&fake, &mut proxy, &mut all, "unfinished handshakes")?;
    let grown = proxy.resident_bytes()?.saturating_sub(memory);
    ensure!(grown < 64 << 20, "the floods took {} MiB", grown >> 20);
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
