//! A primary that lies, stammers or breaks off. What must follow: a log line that names the upstream, nothing half-loaded
//! served, another attempt, and both views right once the primary has come to its senses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::encode;
use sluicegate_tests::fake_primary::{FakePrimary, ID, Session};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::rdb::Snapshot;
use sluicegate_tests::wait::{PATIENCE, wait_some};

/// What the bad snapshots hold, and nobody may ever see.
const BAD: &[u8] = b"user:half-loaded";

fn good_snapshot() -> Vec<u8> {
    Snapshot::redis(10).aux("redis-ver", "7.0.15").select(0).string(b"user:1", b"good").string(b"tmp:1", b"t").end()
}

fn bad_start() -> Snapshot {
    Snapshot::redis(10).select(0).string(BAD, b"x").string(b"user:filler", &[b'f'; 300])
}

/// Joins a view, trying again while it has nothing to serve, as replicas do.
fn join(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    wait_some("a view that serves a snapshot", PATIENCE, || {
        let replica = MiniReplica::psync(proxy.addr(view), Announce::default(), "?", -1);
        Ok(replica.ok().filter(|replica| matches!(replica.answer, Answer::Full { .. })))
    })
    .and_then(|mut replica| {
        replica.take_snapshot()?;
        let offset = replica.offset();
        replica.ack(offset)?;
        Ok(replica)
    })
    .with_context(|| proxy.context())
}

/// Plays one bad session to a fresh proxy, then good ones.
fn survives(case: &str, bad: Session, words: &[&str]) -> Result<()> {
    let fake = FakePrimary::start(vec![bad, Session::full(100, &good_snapshot(), b"")])?;
    let mut proxy = Proxy::start(Config::new(fake.addr()).both_views())?;
    let line = proxy.wait_log(words).context(case.to_owned())?;
    eprintln!("{case}:\n    {line}");
    for (view, name) in [("all", b"user:1".as_slice()), ("members", b"u:1")] {
        let replica = join(&proxy, view).context(case.to_owned())?;
        ensure!(find(&replica.snapshot, name).is_some(), "{case}: view {view} lacks the good key");
        ensure!(find(&replica.snapshot, b"half-loaded").is_none(), "{case}: view {view} served a bad snapshot");
    }
    proxy.check_alive().context(case.to_owned())?;
    ensure!(!proxy.log().contains("panicked"), "{case}: a panic\n{}", proxy.context());
    Ok(())
}

#[test]
fn broken_snapshots_are_refused() -> Result<()> {
    let whole = bad_start().end();
    let cut = &whole[..whole.len() / 2];
    let mark = "0123456789".repeat(4);
    let other_mark = "9876543210".repeat(4);
    let full = |head: &str, body: &[u8]| {
        Session::psync([format!("+FULLRESYNC {ID} 5\r\n{head}\r\n").as_bytes(), body].concat()).then_close()
    };
    let sized = |body: Vec<u8>| full(&format!("${}", body.len()), &body);
    let cases = [
        ("truncated", full(&format!("${}", whole.len()), cut)),
        ("truncated before its mark", full(&format!("$EOF:{mark}"), cut)),
        ("wrong checksum", sized(bad_start().end_with_wrong_crc())),
        ("wrong end mark", full(&format!("$EOF:{mark}"), &[&whole[..], other_mark.as_bytes()].concat())),
        ("a type that nobody knows", sized(bad_start().raw(&[99]).text(b"user:x").text(b"y").end())),
        ("an opcode that must be refused", sized(bad_start().raw(&[246]).text(b"y").end())),
        ("no magic", sized(b"RIDES0010 this is no snapshot at all".to_vec())),
        ("a version of the future", sized(Snapshot::redis(999).select(0).string(BAD, b"x").end())),
        (
            "a string longer than the snapshot",
            sized(bad_start().raw(&[0]).text(b"user:x").length(1 << 31).raw(b"y").end()),
        ),
        ("an invalid length", sized(bad_start().raw(&[0]).text(b"user:x").raw(&[0xbf, 1, 2, 3]).end())),
        (
            "a length in front that is too long",
            full(&format!("${}", whole.len() + 50), &[&whole[..], &[0; 50]].concat()),
        ),
        ("a length in front that is too short", full(&format!("${}", whole.len() - 50), &whole)),
    ];
    for (case, session) in cases {
        survives(case, session, &["upstream", "snapshot"])?;
    }
    Ok(())
}

#[test]
fn bad_answers_in_the_handshake_are_refused() -> Result<()> {
    let whole = bad_start().end();
    let cases = [
        ("a snapshot of negative length", format!("+FULLRESYNC {ID} 5\r\n$-5\r\n")),
        ("a snapshot of no length", format!("+FULLRESYNC {ID} 5\r\n$abc\r\n")),
        ("a short end mark", format!("+FULLRESYNC {ID} 5\r\n$EOF:short\r\n")),
        ("a short replication id", format!("+FULLRESYNC 1234 5\r\n${}\r\n", whole.len())),
        ("a negative offset", format!("+FULLRESYNC {ID} -7\r\n${}\r\n", whole.len())),
        ("no offset", format!("+FULLRESYNC {ID}\r\n${}\r\n", whole.len())),
        ("garbage", "HTTP/1.1 400 Bad Request\r\n\r\n".into()),
        ("an extension that was not asked for", "+DUALCHANNELSYNC\r\n".into()),
        ("a continuation of nothing", format!("+CONTINUE {ID}\r\n")),
        ("a line without an end", "x".repeat(100_000)),
    ];
    for (case, answer) in cases {
        let session = Session::psync([answer.as_bytes(), &whole].concat()).then_close();
        survives(case, session, &["upstream"])?;
    }
    Ok(())
}

#[test]
fn refusals_are_waited_out() -> Result<()> {
    let cases = [
        ("loading, to PING", Session::ping("-LOADING Redis is loading the dataset in memory"), "LOADING"),
        ("busy, to PING", Session::ping("-ERR max number of clients reached"), "max number of clients"),
        (
            "no link of its own",
            Session::psync("-NOMASTERLINK Can't SYNC while not connected with my master\r\n"),
            "NOMASTERLINK",
        ),
        ("loading, to PSYNC", Session::psync("-LOADING Redis is loading the dataset in memory\r\n"), "LOADING"),
        ("some error", Session::psync("-ERR no luck today\r\n"), "no luck today"),
    ];
    for (case, session, word) in cases {
        survives(case, session, &["upstream", word])?;
    }
    Ok(())
}

/// A proxy with a good snapshot at offset 100 and a replica on each view.
fn settled() -> Result<(FakePrimary, Proxy, MiniReplica, MiniReplica)> {
    let fake = FakePrimary::start(vec![Session::full(100, &good_snapshot(), b"")])?;
    // A frame that is larger than the backlog would push itself out of it.
    let lines = "[view.backlog]\nmemory = \"128mb\"\n[view.limits]\nframe = \"128mb\"";
    let config = Config::new(fake.addr()).view_with("all", &[], lines).view_with("members", FILTERED, lines);
    let proxy = Proxy::start(config)?;
    let (all, members) = (join(&proxy, "all")?, join(&proxy, "members")?);
    Ok((fake, proxy, all, members))
}

#[test]
fn garbage_in_the_stream_closes_the_link_and_reaches_nobody() -> Result<()> {
    let cases: [(&str, &[u8]); 7] = [
        ("an inline command", b"SET user:bad 1\r\n"),
        ("binary", b"\0\xff\x17garbage\r\n\r\n"),
        ("a negative count", b"*-1\r\n"),
        ("a negative length", b"*2\r\n$3\r\nDEL\r\n$-1\r\n"),
        ("a map", b"%1\r\n+SET\r\n+user:bad\r\n"),
        ("a bulk that is longer than said", b"*2\r\n$3\r\nDEL\r\n$4\r\nuser:bad\r\n"),
        ("a length above all sense", b"*3\r\n$3\r\nSET\r\n$8\r\nuser:bad\r\n$99999999999999\r\n"),
    ];
    for (case, garbage) in cases {
        let (fake, mut proxy, mut all, mut members) = settled()?;
        let before = fake.psyncs().len();
        fake.send(&encode(&["SET", "user:2", "fine"]))?;
        all.read_until(b"fine", PATIENCE)?;
        members.read_until(b"fine", PATIENCE)?;
        fake.send(garbage)?;
        fake.wait_psyncs(before + 1).with_context(|| format!("{case}\n{}", proxy.context()))?;
        let line = proxy.wait_log(&["upstream", "stream"]).context(case.to_owned())?;
        eprintln!("{case}:\n    {line}");
        for replica in [&mut all, &mut members] {
            while replica.read_some(Duration::from_millis(100))? && find(&replica.stream, b"bad").is_none() {
                if fake.psyncs().len() > before + 3 {
                    break;
                }
            }
            ensure!(find(&replica.stream, b"user:bad").is_none(), "{case}: garbage was passed on");
            ensure!(find(&replica.stream, b"garbage").is_none(), "{case}: garbage was passed on");
        }
        proxy.check_alive().context(case.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_claim_of_512_mib_costs_no_memory_before_the_bytes_are_there() -> Result<()> {
    let fake = FakePrimary::start(vec![Session::full(100, &good_snapshot(), b"")])?;
    let mut proxy = Proxy::start(Config::new(fake.addr()).both_views())?;
    join(&proxy, "members")?;
    let before = proxy.resident_bytes()?;
    fake.send(b"*3\r\n$3\r\nSET\r\n$6\r\nuser:3\r\n$536870912\r\nonly these bytes")?;
    // An answer on a view port after this shows that the claim has been seen.
    for _ in 0..20 {
        proxy.info("members", "replication", "role")?;
    }
    let after = proxy.resident_bytes()?;
    ensure!(after < before + (64 << 20), "a claim took {} MiB", (after - before) >> 20);
    proxy.check_alive()
}

#[test]
fn a_value_of_80_mib_passes_whole() -> Result<()> {
    let (fake, mut proxy, mut all, mut members) = settled()?;
    let value: Vec<u8> = (0..80_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let frame = encode(&[b"SET".as_slice(), b"user:big", &value]);
    std::thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| {
            fake.send(&frame)?;
            fake.send(&encode(&["SET", "user:after", "the-end"]))
        });
        all.read_until(b"the-end", PATIENCE * 2).context("all")?;
        members.read_until(b"the-end", PATIENCE * 2).context("members")?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
    })
    .with_context(|| proxy.context())?;
    for (replica, name) in [(&all, b"user:big".as_slice()), (&members, b"u:big")] {
        let wanted = [b"SET".as_slice(), name, &value];
        let arrived = replica.commands()?;
        ensure!(arrived.iter().any(|command| command == &wanted), "the value did not arrive whole as {name:?}");
    }
    proxy.check_alive()
}

#[test]
fn getack_is_answered_with_the_offset_before_it() -> Result<()> {
    let (fake, _proxy, _all, _members) = settled()?;
    let set = encode(&["SET", "user:2", "x"]);
    let getack = encode(&["REPLCONF", "GETACK", "*"]);
    fake.send(&[&set[..], &getack].concat())?;
    fake.wait_ack(100 + set.len() as i64)?;
    fake.send(&set)?;
    fake.wait_ack(100 + (2 * set.len() + getack.len()) as i64)
}

#[test]
fn an_unknown_command_halts_only_the_view_that_would_have_to_understand_it() -> Result<()> {
    let (fake, proxy, mut all, mut members) = settled()?;
    fake.send(&encode(&["FROBNICATE", "user:1", "x"]))?;
    fake.send(&encode(&["SET", "user:2", "later"]))?;
    all.read_until(b"later", PATIENCE).context("a view without plugins passes what it does not know")?;
    ensure!(find(&all.stream, b"FROBNICATE").is_some(), "the relay left something out");
    members.read_to_close(PATIENCE).context("a halted view closes its replicas' links")?;
    ensure!(find(&members.stream, b"later").is_none(), "a halted view went on");
    let line = proxy.wait_log(&["members", "halt", "frobnicate"])?;
    eprintln!("{line}");
    let info = proxy.info_text("members", "all")?.to_lowercase();
    ensure!(info.contains("halted") && info.contains("frobnicate"), "INFO does not say why:\n{info}");
    let again = MiniReplica::psync(proxy.addr("members"), Announce::default(), "?", -1)?;
    ensure!(matches!(again.answer, Answer::Refused(_)), "a halted view answered {:?}", again.answer);
    Ok(())
}

#[test]
fn a_primary_that_sends_another_snapshot_in_mid_stream_begins_a_new_history() -> Result<()> {
    let (fake, proxy, mut all, mut members) = settled()?;
    let history = (all.history()?, members.history()?);
    fake.send(&encode(&["SET", "user:2", "old-history"]))?;
    members.read_until(b"old-history", PATIENCE)?;
    let other_id = ID.chars().rev().collect::<String>();
    let snapshot = Snapshot::redis(10).select(0).string(b"user:9", b"new").end();
    let answer = format!("+FULLRESYNC {other_id} 3\r\n${}\r\n", snapshot.len());
    fake.play(vec![Session::psync([answer.as_bytes(), &snapshot].concat())]);
    fake.cut();
    all.read_to_close(PATIENCE).context("the old history's replicas are sent away")?;
    members.read_to_close(PATIENCE)?;
    for (view, (old_id, _), name) in [("all", history.0, b"user:9".as_slice()), ("members", history.1, b"u:9")] {
        let new = wait_some("the new history", PATIENCE, || {
            let replica = join(&proxy, view)?;
            Ok(Some(replica).filter(|replica| replica.history().is_ok_and(|(id, _)| id != old_id)))
        })?;
        ensure!(find(&new.snapshot, name).is_some(), "view {view} lacks the new snapshot's key");
        ensure!(find(&new.snapshot, b"good").is_none(), "view {view} mixes two snapshots");
    }
    Ok(())
}

#[test]
fn a_primary_that_is_silent_is_left_and_asked_again() -> Result<()> {
    let fake = FakePrimary::start(vec![Session::full(100, &good_snapshot(), b"")])?;
    let config = Config::new(fake.addr()).upstream_line("timeout = \"3s\"").both_views();
    let proxy = Proxy::start(config)?;
    join(&proxy, "all")?;
    fake.wait_psyncs(2).with_context(|| proxy.context())?;
    let (id, offset) = fake.psyncs()[1].clone();
    ensure!(id == ID && offset == 101, "it must ask to go on, not {id} {offset}");
    let reconnects = fake.psyncs().len();
    proxy.wait_log(&["upstream", "silent"])?;
    ensure!(reconnects < 5, "no tight loop");
    Ok(())
}
