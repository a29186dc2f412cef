//! Snapshots of real servers, rewritten for servers that cannot load them, and loaded by those: what they then hold is what the
//! first ones hold, key by key.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sluicegate_core::pipeline::KeepAll;
use sluicegate_core::rdb::{Family, Head, Intake, Rewriter, ServerVersion, Summary, Target, can_load, fit};
use sluicegate_tests::client::Client;
use sluicegate_tests::compare::{Holdings, wait_lasting};
use sluicegate_tests::fake_primary::{FakePrimary, Session};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::workload::Workload;

const HEAD: Head = Head { repl_id: [b'7'; 40], repl_offset: 7, stream_db: 0 };
/// Options that make servers use their general encodings from a few elements on; 6.2 knows those of its own names.
const LARGE: &[&str] = &[
    "--hash-max-ziplist-entries",
    "2",
    "--zset-max-ziplist-entries",
    "1",
    "--set-max-intset-entries",
    "1",
    "--list-max-ziplist-size",
    "3",
    "--stream-node-max-entries",
    "5",
];
/// What the workload does not write: the edges of encodings, and all that a stream can have.
const EDGES: &str = "\
    RPUSH edge:list 0 12 13 -1 127 128 -129 32767 -32769 8388607 -8388609 2147483647 -2147483649 9223372036854775807\n\
    RPUSH edge:words  a -0 01 1e3\nZADD edge:scores inf up -inf down 0.1 tenth -1.5 minus 1e300 large 3 three 17 17\n\
    HSET edge:hash 1 2 f 1 g 99999999999999999999 -5 x\nSADD edge:set a 1 -1 70000 zz\nSADD edge:numbers 1 2 3 70000\n\
    XADD edge:stream 5-1 f v g w\nXADD edge:stream 5-2 f v g x\nXADD edge:stream 6-1 other 1\nXADD edge:stream 7-1 f v g y\n\
    XDEL edge:stream 5-2\nXGROUP CREATE edge:stream readers 0\nXREADGROUP GROUP readers ann COUNT 2 STREAMS edge:stream >\n\
    XGROUP CREATECONSUMER edge:stream readers bob\nXGROUP CREATE edge:empty late $ MKSTREAM\nXADD edge:gone 1-1 f v\n\
    XDEL edge:gone 1-1\nSETRANGE edge:long 5000 x\nPEXPIRE edge:hash 100000000";

fn version(kind: Kind) -> ServerVersion {
    let (family, major, minor) = match kind {
        Kind::Redis62 => (Family::Redis, 6, 2),
        Kind::Redis70 => (Family::Redis, 7, 0),
        Kind::Redis82 => (Family::Redis, 8, 2),
        Kind::Valkey91 => (Family::Valkey, 9, 1),
    };
    ServerVersion { family, major, minor }
}

fn run_all(client: &mut Client, lines: &str) -> Result<()> {
    lines.lines().try_for_each(|line| {
        let reply = client.run(line)?;
        ensure!(!reply.is_error(), "{line}: {}", reply.text());
        Ok(())
    })
}

/// What the server saves.
fn saved(server: &Server) -> Result<Vec<u8>> {
    let mut client = server.client()?;
    client.run("SAVE")?;
    let dir = client.run("CONFIG GET dir")?.items().into_iter().nth(1).context("a directory")?.text();
    Ok(fs::read(Path::new(&dir).join("dump.rdb"))?)
}

fn taken_in(snapshot: &[u8]) -> Result<Summary> {
    let mut intake = Intake::new();
    intake.push(snapshot)?;
    Ok(intake.summary().context("the snapshot does not end")?.clone())
}

/// The snapshot in another format, made in pieces of `chunk` bytes.
fn written_down(snapshot: &[u8], target: Target, chunk: usize) -> Result<Vec<u8>> {
    let (mut rewriter, mut out) = (Rewriter::to(HEAD, target), Vec::new());
    for piece in snapshot.chunks(chunk) {
        rewriter.push(piece, &mut KeepAll, &mut out)?;
    }
    rewriter.finish()?;
    ensure!(rewriter.is_done() && rewriter.stats().bytes_out == out.len() as u64);
    Ok(out)
}

/// Loads what `source` holds, and `more`, into a server of kind `into` that cannot load it as it is.
fn carried(source: Kind, args: &[&str], into: Kind, more: &str) -> Result<()> {
    if source.find_or_say().is_none() || into.find_or_say().is_none() {
        return Ok(());
    }
    let source = Server::start(source, args)?;
    let mut client = source.client()?;
    Workload::new(31, source.kind(), into).write(&mut client, 4_000)?;
    run_all(&mut client, EDGES)?;
    run_all(&mut client, more)?;
    // Around 16,378 bytes the length behind an entry of a listpack, where 7.0 keeps them, gets its third byte.
    for bytes in [16_377, 16_378, 16_379, 100_000] {
        client.call(&["RPUSH", "edge:plain", "before", &"x".repeat(bytes), "behind"])?;
    }
    // Nothing may change between the snapshot and the comparison, and the workload sets keys that live for milliseconds.
    wait_lasting(&source)?;
    let snapshot = saved(&source)?;
    let summary = taken_in(&snapshot)?;
    let replica = version(into);
    ensure!(can_load(&replica, summary.family, summary.version).is_err(), "nothing has to be rewritten");
    let target = fit(&replica, &summary).map_err(anyhow::Error::msg)?.context("a target")?;
    let made = written_down(&snapshot, target, usize::MAX)?;
    for chunk in [1 << 14, 333] {
        ensure!(written_down(&snapshot, target, chunk)? == made, "pieces of {chunk} bytes make a difference");
    }
    let again = taken_in(&made)?;
    ensure!(again.keys == summary.keys && fit(&replica, &again) == Ok(None), "{again:?}");

    let primary = FakePrimary::start(vec![Session::full(7, &made, b"")])?;
    let loaded = Server::replica_of(into, primary.addr())?;
    loaded.wait_link_up()?;
    let wanted = Holdings::read_as(&source, into)?;
    let found = Holdings::read_as(&loaded, source.kind())?;
    let differences = wanted.differences(&found, 10);
    ensure!(differences.is_empty(), "{}\n{}", differences.join("\n"), loaded.log());
    let (from, keys, census) = (source.kind(), wanted.len(), wanted.census());
    eprintln!("{from:?} {:?} → {into:?} {target}: {keys} keys equal, types {:?}: {census:?}", args, summary.kinds);
    primary.wait_ack(7)?;
    ensure!(keys > 100, "too few keys: {census:?}");
    Ok(())
}

#[test]
fn redis_8_for_redis_7() -> Result<()> {
    carried(Kind::Redis82, &[], Kind::Redis70, "")?;
    carried(Kind::Redis82, LARGE, Kind::Redis70, "")
}

#[test]
fn redis_8_for_redis_6() -> Result<()> {
    carried(Kind::Redis82, &[], Kind::Redis62, "")?;
    carried(Kind::Redis82, LARGE, Kind::Redis62, "")
}

#[test]
fn redis_7_for_redis_6() -> Result<()> {
    carried(Kind::Redis70, &[], Kind::Redis62, "")?;
    carried(Kind::Redis70, LARGE, Kind::Redis62, "")
}

/// Hashes some of whose fields expire: a few, many, and one whose values are large.
const EXPIRING: &str = "\
    HSET exp:few a 1 b 2 c 3\nHPEXPIREAT exp:few 4000000000000 FIELDS 1 a\nHPEXPIREAT exp:few 3900000000123 FIELDS 1 c\n\
    HSET exp:all 1 1 2 2\nHPEXPIREAT exp:all 4000000000001 FIELDS 2 1 2\nHSET exp:key f v g w\nPEXPIREAT exp:key 4100000000000\n\
    HPEXPIREAT exp:key 4000000000002 FIELDS 1 f";

/// So many fields that no server keeps them in a listpack, every third of which expires.
fn many_fields() -> String {
    let fields: Vec<String> = (0..2_000).map(|n| format!("f{n} {}", "v".repeat(n % 70))).collect();
    let some: Vec<String> = (0..600).map(|n| format!("f{}", n * 3)).collect();
    let set = fields.iter().map(|pair| if pair.ends_with(' ') { format!("{pair}-") } else { pair.clone() });
    let set: Vec<String> = set.collect();
    format!("\nHSET exp:many {}\nHPEXPIREAT exp:many 4000000000777 FIELDS 600 {}", set.join(" "), some.join(" "))
}

#[test]
fn expiring_fields_of_valkey_for_redis() -> Result<()> {
    let more = format!("{EXPIRING}{}", many_fields());
    carried(Kind::Valkey91, &[], Kind::Redis82, &more)?;
    carried(Kind::Valkey91, LARGE, Kind::Redis82, &more)
}

#[test]
fn expiring_fields_of_redis_for_valkey() -> Result<()> {
    let more = format!("{EXPIRING}{}", many_fields());
    carried(Kind::Redis82, &[], Kind::Valkey91, &more)?;
    carried(Kind::Redis82, LARGE, Kind::Valkey91, &more)
}

#[test]
fn valkey_without_expiring_fields_for_old_servers() -> Result<()> {
    carried(Kind::Valkey91, &[], Kind::Redis70, "")?;
    carried(Kind::Valkey91, LARGE, Kind::Redis62, "")
}

#[test]
fn what_would_be_lost_is_refused_by_name_before_anything_is_sent() -> Result<()> {
    for (source, add, into, reason) in [
        (
            Kind::Redis82,
            EXPIRING,
            Kind::Redis70,
            "the upstream's snapshot has format REDIS 12, and Redis 7.0 reads formats up to REDIS 10; it cannot be rewritten in \
             REDIS 10, which has no hashes whose fields expire (type 25 of REDIS)",
        ),
        (
            Kind::Valkey91,
            EXPIRING,
            Kind::Redis70,
            "the upstream's snapshot has format VALKEY 80, and Redis 7.0 reads only formats of Redis; it cannot be rewritten in \
             REDIS 10, which has no hashes whose fields expire (type 22 of VALKEY)",
        ),
        (
            Kind::Redis82,
            "VADD v VALUES 2 1 0 a",
            Kind::Redis70,
            "the upstream's snapshot has format REDIS 12, and Redis 7.0 reads formats up to REDIS 10; it cannot be rewritten in \
             REDIS 10, which has no data of modules, such as 'vectorset'",
        ),
    ] {
        if source.find_or_say().is_none() {
            continue;
        }
        let server = Server::start(source, &[])?;
        run_all(&mut server.client()?, add)?;
        let summary = taken_in(&saved(&server)?)?;
        let refused = fit(&version(into), &summary).err().context("it is not refused")?;
        ensure!(refused == reason, "{refused}");
    }
    Ok(())
}
