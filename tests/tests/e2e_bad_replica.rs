//! Replicas and clients that misbehave: only they themselves are cut, and nobody else notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::{Client, Reply};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};

fn stage(config: impl FnOnce(Config) -> Config) -> Result<(Server, Proxy)> {
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("MSET user:1 a tmp:1 b")?;
    let proxy = Proxy::start(config(Config::new(primary.addr())))?;
    for view in ["all", "members"] {
        wait_for("a view that serves", PATIENCE, || Ok(MiniReplica::join(proxy.addr(view)).is_ok()))
            .with_context(|| proxy.context())?;
    }
    Ok((primary, proxy))
}

fn psync(proxy: &Proxy, view: &str, id: &str, offset: i64) -> Result<Answer> {
    Ok(MiniReplica::psync(proxy.addr(view), Announce::default(), id, offset)?.answer)
}

#[test]
fn a_position_that_is_not_ours_gets_a_full_resync() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    for view in ["all", "members"] {
        let mut replica = MiniReplica::join(proxy.addr(view))?;
        let (id, start) = replica.history()?;
        primary.client()?.run("SET user:2 mark-here")?;
        replica.read_until(b"mark-here", PATIENCE)?;
        let end = replica.offset();
        let stranger = "f".repeat(40);
        for (asked_id, asked) in [
            (id.as_str(), end + 100_000),
            (&id, i64::MAX),
            (&id, start - 1_000_000),
            (&id, 0),
            (&id, -2),
            (&stranger, end + 1),
            ("?", end),
        ] {
            let answer = psync(&proxy, view, asked_id, asked)?;
            ensure!(matches!(answer, Answer::Full { .. }), "view {view}: PSYNC {asked_id} {asked} got {answer:?}");
        }
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "not reached"])?;
        eprintln!("{line}");
    }
    Ok(())
}

#[test]
fn a_position_that_is_ours_goes_on_at_the_very_byte() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    for view in ["all", "members"] {
        let mut replica = MiniReplica::join(proxy.addr(view))?;
        let (id, start) = replica.history()?;
        let mut client = primary.client()?;
        for n in 0..50 {
            client.run(&format!("SET user:{n} value-{n}"))?;
            client.run(&format!("SET tmp:{n} value-{n}"))?;
        }
        client.run("SET user:last the-last-one")?;
        replica.read_until(b"the-last-one", PATIENCE)?;
        let whole = replica.stream.clone();
        for skip in [0, 1, 2, 17, whole.len() / 2, whole.len() - 3, whole.len()] {
            let asked = start + 1 + skip as i64;
            let mut again = MiniReplica::psync(proxy.addr(view), Announce::default(), &id, asked)?;
            ensure!(again.answer == Answer::Continue { id: Some(id.clone()) }, "byte {skip}: {:?}", again.answer);
            let rest = &whole[skip..];
            wait_for("the rest of the stream", PATIENCE, || {
                again.read_some(Duration::from_millis(100))?;
                Ok(again.stream.len() >= rest.len())
            })?;
            ensure!(again.stream.starts_with(rest), "view {view}: the bytes from {skip} on are not those sent before");
        }
        ensure!(find(&whole, b"tmp:").is_some() == (view == "all"), "view {view}: dropped keys");
    }
    Ok(())
}

#[test]
fn a_replica_that_cannot_take_an_end_mark_gets_a_length() -> Result<()> {
    let (_primary, proxy) = stage(Config::both_views)?;
    for view in ["all", "members"] {
        let announce = Announce { eof: false, ..Announce::default() };
        let mut replica = MiniReplica::psync(proxy.addr(view), announce, "?", -1)?;
        replica.take_snapshot()?;
        ensure!(!replica.by_mark, "view {view}: an end mark for a replica that did not announce `eof`");
        ensure!(replica.snapshot.starts_with(b"REDIS"), "view {view}: no snapshot");
        let mut other = MiniReplica::psync(proxy.addr(view), Announce::default(), "?", -1)?;
        other.take_snapshot()?;
        // The relay may have a spooled file whose length it knows.
        ensure!(other.by_mark || view == "all", "view {view}: the end mark was not used");
    }
    Ok(())
}

#[test]
fn nothing_of_the_stream_follows_an_end_mark_before_the_first_ack() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    for view in ["all", "members"] {
        let mut replica = MiniReplica::psync(proxy.addr(view), Announce::default(), "?", -1)?;
        // Bytes of the stream behind the mark would make this search for the mark miss it, as a real replica would.
        primary.client()?.run("SET user:2 held-back")?;
        replica.take_snapshot().with_context(|| format!("view {view}"))?;
        let offset = replica.offset();
        replica.ack(offset)?;
        if find(&replica.snapshot, b"held-back").is_none() {
            replica.read_until(b"held-back", PATIENCE).with_context(|| format!("view {view}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_replica_that_never_reads_is_cut_alone() -> Result<()> {
    let limits = "[view.limits]\nreplica_output = { hard = \"1mb\", stalled_for = \"2s\" }";
    let (primary, proxy) = stage(|config| config.view_with("all", &[], limits).view_with("members", FILTERED, limits))?;
    for view in ["all", "members"] {
        let mut sleeper = MiniReplica::join(proxy.addr(view))?;
        let mut reader = MiniReplica::join(proxy.addr(view))?;
        let mut client = primary.client()?;
        let value = vec![b'v'; 100_000];
        let start = Instant::now();
        for n in 0..300 {
            client.call(&[b"SET".as_slice(), format!("user:{n}").as_bytes(), &value])?;
        }
        let mark = format!("mark-of-{view}");
        client.call(&["SET", "user:mark", &mark])?;
        reader.read_until(mark.as_bytes(), PATIENCE).with_context(|| proxy.context())?;
        let delay = start.elapsed();
        ensure!(delay < Duration::from_secs(10), "view {view}: the other replica waited {delay:?}");
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "takes no byte"])?;
        eprintln!("{line}");
        sleeper.read_to_close(PATIENCE).with_context(|| format!("view {view}: the sleeper is cut"))?;
        // What it got is a part of the truth, and it may come back for the rest.
        let (id, _) = sleeper.history()?;
        let answer = psync(&proxy, view, &id, sleeper.offset() + 1)?;
        ensure!(answer == Answer::Continue { id: Some(id) }, "view {view}: it came back and got {answer:?}");
    }
    Ok(())
}

#[test]
fn an_acknowledgement_of_the_future_is_not_believed() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    for view in ["all", "members"] {
        let mut replica = MiniReplica::join(proxy.addr(view))?;
        replica.ack(i64::MAX)?;
        replica.ack(-5)?;
        let line = proxy.wait_log(&["replica", "acknowledge"])?;
        eprintln!("{line}");
        primary.client()?.run("SET user:2 goes-on")?;
        replica.read_until(b"goes-on", PATIENCE).with_context(|| proxy.context())?;
        let lies = proxy.info_text(view, "replication")?;
        ensure!(!lies.contains(&i64::MAX.to_string()), "INFO repeats the lie:\n{lies}");
    }
    Ok(())
}

#[test]
fn writes_and_orders_on_a_view_port_are_refused() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    let mut client = proxy.client("members")?;
    for order in [
        "SET user:1 changed",
        "DEL user:1",
        "FLUSHALL",
        "REPLICAOF NO ONE",
        "SLAVEOF 127.0.0.1 1",
        "FAILOVER",
        "DEBUG SLEEP 100",
        "NO-SUCH-COMMAND",
    ] {
        let reply = client.ask(&order.split(' ').collect::<Vec<_>>())?;
        ensure!(reply.is_error(), "{order} was answered with {reply:?}");
    }
    ensure!(client.ask(&["SET", "user:1", "x"])?.text().starts_with("READONLY"), "clients know a replica by READONLY");
    ensure!(client.call(&["PING"])? == Reply::Simple("PONG".into()), "the connection lives on");
    let failover = MiniReplica::psync(proxy.addr("members"), Announce::default(), "?", -1)?;
    ensure!(matches!(failover.answer, Answer::Full { .. }), "the view lives on: {:?}", failover.answer);
    ensure!(primary.client()?.run("GET user:1")?.text() == "a", "the primary has changed");
    Ok(())
}

/// Whether the other side has neither answered nor closed.
fn waits(error: &anyhow::Error) -> bool {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    matches!(kind, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
}

#[test]
fn garbage_on_a_view_port_closes_that_connection_alone() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    let mut replica = MiniReplica::join(proxy.addr("members"))?;
    let endless = vec![b'x'; 300_000];
    let cases: [&[u8]; 6] =
        [b"*-7\r\n", b"*1\r\n$-1\r\n", b"*99999999\r\n", b"*1\r\n$999999999999\r\n", b"*1\r\n:5\r\n", &endless];
    for garbage in cases {
        let mut client = Client::connect(proxy.addr("members"))?;
        // The other side may close before all of it is written.
        client.send(garbage).ok();
        let ended = loop {
            match client.read() {
                Ok(Reply::Error(_)) => {}
                Ok(reply) => break Err(anyhow::anyhow!("it was answered with {reply:?}")),
                Err(error) if waits(&error) => break Err(anyhow::anyhow!("nothing happens")),
                Err(_) => break Ok(()),
            }
        };
        let shown = String::from_utf8_lossy(garbage.get(..20).unwrap_or(garbage)).into_owned();
        ended.with_context(|| format!("garbage {shown:?}\n{}", proxy.context()))?;
    }
    primary.client()?.run("SET user:2 undisturbed")?;
    replica.read_until(b"undisturbed", PATIENCE)?;
    Ok(())
}

#[test]
fn a_command_that_joins_kept_and_dropped_keys_halts_a_view_that_is_to_halt_with_a_reason() -> Result<()> {
    let halting = |config: Config| config.view("all", &[]).view_with("members", FILTERED, "cross-key = \"halt\"");
    let (primary, proxy) = stage(halting)?;
    let mut replica = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    replica.wait_link_up()?;
    let mut all = MiniReplica::join(proxy.addr("all"))?;
    let mut members = MiniReplica::join(proxy.addr("members"))?;
    let mut client = primary.client()?;
    client.run("SADD user:set a b")?;
    client.run("SADD tmp:set c d")?;
    client.run("SUNIONSTORE user:both user:set tmp:set")?;
    client.run("SET user:2 afterwards")?;
    all.read_until(b"afterwards", PATIENCE)?;
    members.read_to_close(PATIENCE).with_context(|| proxy.context())?;
    ensure!(find(&members.stream, b"afterwards").is_none(), "a halted view went on");
    let line = proxy.wait_log(&["members", "halt", "sunionstore"])?;
    eprintln!("{line}");
    let info = proxy.info_text("members", "all")?.to_lowercase();
    ensure!(info.contains("halted") && info.contains("sunionstore"), "INFO does not say why:\n{info}");
    ensure!(!info.contains("tmp:set"), "INFO tells the name of a dropped key:\n{info}");
    let other = proxy.info_text("all", "replication")?;
    ensure!(other.contains("master_link_status:up"), "the other view goes on:\n{other}");
    replica.wait_for("the replica's link to be closed", PATIENCE, |c| {
        Ok(c.info_field("replication", "master_link_status")? == "down")
    })?;
    ensure!(replica.client()?.run("EXISTS u:both")?.int() == Some(0), "the replica holds what the view could not know");
    replica.kill9()
}

#[test]
fn flushall_reaches_every_view() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    let all = Server::replica_of(Kind::Redis70, proxy.addr("all"))?;
    let members = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    for replica in [&all, &members] {
        replica.wait_for("a key of the snapshot", PATIENCE, |c| Ok(c.run("DBSIZE")?.int() > Some(0)))?;
    }
    primary.client()?.run("FLUSHALL")?;
    for replica in [&all, &members] {
        replica.wait_for("an empty database", PATIENCE, |c| Ok(c.run("DBSIZE")?.int() == Some(0)))?;
    }
    Ok(())
}

#[test]
fn sentinels_do_not_find_each_other_through_a_view() -> Result<()> {
    let (primary, proxy) = stage(Config::both_views)?;
    let mut members = MiniReplica::join(proxy.addr("members"))?;
    let mut client = primary.client()?;
    client.run("PUBLISH __sentinel__:hello 127.0.0.1,26379,id,0,mymaster,127.0.0.1,6379,0")?;
    client.run("PUBLISH news a-message")?;
    members.read_until(b"a-message", PATIENCE)?;
    ensure!(find(&members.stream, b"__sentinel__").is_none(), "the sentinels' channel passed");
    Ok(())
}

#[test]
fn wait_on_the_primary_counts_the_proxy() -> Result<()> {
    let (primary, _proxy) = stage(Config::both_views)?;
    let mut client = primary.client()?;
    client.run("SET user:2 x")?;
    let start = Instant::now();
    let replicas = client.run("WAIT 1 10000")?.int();
    ensure!(replicas == Some(1), "WAIT counted {replicas:?}");
    ensure!(start.elapsed() < Duration::from_secs(2), "GETACK was answered late: {:?}", start.elapsed());
    Ok(())
}
