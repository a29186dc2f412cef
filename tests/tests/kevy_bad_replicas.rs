//! Kevy replicas that lie, flood, stand still or speak something else. What must follow: a log line that names the party, and
//! everybody else undisturbed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::encode;
use sluicegate_tests::kevy::bystanders::{SHARDS, good, serves, settled};
use sluicegate_tests::kevy::fake_primary::{FakePrimary, GENERATION};
use sluicegate_tests::kevy::mini_replica::{Link, MiniReplica};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::wait::PATIENCE;

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
