//! `sluicegate rdb` on dumps of running servers: what they write differs in order and encoding, and is the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{Holdings, View, assert_same, pass_marker};
use sluicegate_tests::proxy::{Config, Proxy, run_to_end};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_some};
use sluicegate_tests::workload::Workload;

/// Lets a server write its dump, and says where.
fn save(server: &Server) -> Result<PathBuf> {
    let mut client = server.client()?;
    client.run("SAVE")?;
    let dir = client.run("CONFIG GET dir")?.items().pop().context("a server has a directory")?;
    Ok(PathBuf::from(dir.text()).join("dump.rdb"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

fn diff(first: &Path, second: &Path) -> Result<(i32, String)> {
    run_to_end(&["rdb", "diff", text(first)?, text(second)?])
}

/// What the harness's view `members` has, of a dump.
fn members(from: &Path, out: &Path) -> Result<()> {
    let (from, out) = (text(from)?, text(out)?);
    let filter =
        ["--plugin", "builtin:key-filter", "--set", "key-filter.allow=user:*", "--set", "key-filter.allow=sess:*"];
    let rename = ["--plugin", "builtin:key-rename", "--set", "key-rename.rule=user:* => u:*"];
    let args = [&["rdb", "run", from, "--out", out][..], &filter, &rename].concat();
    let (code, said) = run_to_end(&args)?;
    ensure!(code == 0, "{said}");
    Ok(())
}

fn a_replicas_dump_is_its_view_of_the_primarys(primary: Kind, replica: Kind) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(primary, &[])?;
    Workload::new(23, primary.kind(), replica).write(&mut primary.client()?, 4_000)?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let all = Server::replica_of(replica, proxy.addr("all"))?;
    let few = Server::replica_of(replica, proxy.addr("members"))?;
    let made = tempfile::tempdir()?;
    for (replica, view, is_filtered) in [(&all, View::IDENTITY, false), (&few, View::MEMBERS, true)] {
        pass_marker(&primary, replica, view, PATIENCE).with_context(|| proxy.context())?;
        assert_same(&primary, replica, view, PATIENCE)?;
        // A key may expire between two dumps.
        let mut last = String::new();
        let equal = wait_some("equal dumps", PATIENCE, || {
            let (mut must, is) = (save(&primary)?, save(replica)?);
            if is_filtered {
                let out = made.path().join("members.rdb");
                members(&must, &out)?;
                must = out;
            }
            let (code, said) = diff(&must, &is)?;
            last = said;
            ensure!(code <= 1, "{last}");
            Ok((code == 0).then(|| last.clone()))
        });
        let said = equal.with_context(|| last)?;
        let keys = said.split(' ').nth(1).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        ensure!(keys > 50 && said.contains("(all by what they are made of)"), "{said}");
    }
    Ok(())
}

#[test]
fn replicas_of_the_same_server_dump_the_same() -> Result<()> {
    a_replicas_dump_is_its_view_of_the_primarys(Kind::Valkey91, Kind::Valkey91)
}

#[test]
fn replicas_of_the_same_server_dump_the_same_on_redis() -> Result<()> {
    a_replicas_dump_is_its_view_of_the_primarys(Kind::Redis82, Kind::Redis82)
}

#[test]
fn replicas_of_another_family_dump_the_same() -> Result<()> {
    a_replicas_dump_is_its_view_of_the_primarys(Kind::Redis70, Kind::Valkey91)
}

/// Writes the same to every server: what has several encodings, and the extremes of each.
fn fill(server: &Server) -> Result<()> {
    let mut client = server.client()?;
    let long = "x".repeat(20_000);
    for line in [
        "SET text hello",
        "SET number -2147483648",
        "SET longer 2147483648",
        "APPEND empty x",
        "PFADD log a b c",
        "RPUSH list 1 -1 127 128 -4096 4095 4096 32767 -8388608 2147483647 9223372036854775807 text 007",
        "SADD ints 1 2 -3 70000",
        "SADD wide 1 9223372036854775807",
        "SADD set a b 3 c",
        "ZADD zset 1 a 2.5 b -inf c inf d 0.1 e 3e300 f -0 g 123456789012345678 h",
        "HSET hash f 1 g text h -128 i 1e3",
        "EXPIREAT hash 9999999999",
        "XADD stream 5-1 a 1 b 2",
        "XADD stream 5-2 a 3 b 4",
        "XADD stream 6-0 other 1",
        "XADD stream 7-0 a 5 b 6",
        "XDEL stream 5-2",
        "XGROUP CREATE stream readers 0",
        "XREADGROUP GROUP readers ann COUNT 2 STREAMS stream >",
        "XREADGROUP GROUP readers bob COUNT 1 STREAMS stream >",
        "XACK stream readers 5-1",
        "SELECT 3",
        "SET other db",
    ] {
        client.run(line).with_context(|| line.to_owned())?;
    }
    client.call(&["RPUSH", "long", "short", &long, "short"])?;
    client.call(&["SET", "packed", &long])?;
    if server.kind().has_field_expiry() {
        client.run("SELECT 0")?;
        client.run("HSET fields f 1 g 2 h 3")?;
        client.run("HPEXPIREAT fields 9999999999999 FIELDS 1 f")?;
        client.run("HPEXPIREAT fields 9999999999000 FIELDS 1 g")?;
    }
    Ok(())
}

/// General encodings everywhere.
const LARGE: [&str; 12] = [
    "--hash-max-listpack-entries",
    "1",
    "--zset-max-listpack-entries",
    "1",
    "--set-max-intset-entries",
    "1",
    "--list-max-listpack-size",
    "2",
    "--stream-node-max-entries",
    "2",
    "--rdbcompression",
    "no",
];

#[test]
fn the_same_writes_are_the_same_whatever_server_dumps_them() -> Result<()> {
    let mut dumps: Vec<(Server, PathBuf)> = Vec::new();
    for (kind, args) in [
        (Kind::Redis70, &[][..]),
        (Kind::Redis70, &LARGE),
        (Kind::Redis82, &[]),
        (Kind::Redis82, &LARGE),
        (Kind::Valkey91, &[]),
        (Kind::Valkey91, &LARGE),
    ] {
        if kind.find_or_say().is_none() {
            continue;
        }
        let server = Server::start(kind, args)?;
        fill(&server)?;
        let dump = save(&server)?;
        dumps.push((server, dump));
    }
    let fields = |server: &Server| server.kind().has_field_expiry();
    for pair in dumps.windows(2) {
        let [(left, first), (right, second)] = pair else { continue };
        let (code, said) = diff(first, second)?;
        if fields(left) == fields(right) {
            ensure!(code == 0, "{:?} and {:?}: {said}", left.kind(), right.kind());
        } else {
            ensure!(said.contains("+ db 0 \"fields\"") && said.contains(" 1 added, 0 removed, 0 changed"), "{said}");
        }
    }
    Ok(())
}

const FILL: &str = "for i=1,20000 do redis.call('set','key:'..i,'value:'..i) redis.call('sadd','big','m'..i) end";

/// Keys in the order of their hashes come in another order from every process, and one at a time is what is changed.
#[test]
fn one_change_among_many_keys_is_found() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let servers = [Server::start(Kind::Redis70, &[])?, Server::start(Kind::Redis70, &[])?];
    for server in &servers {
        server.client()?.call(&["EVAL", FILL, "0"])?;
    }
    let [first, second] = [save(&servers[0])?, save(&servers[1])?];
    let (code, said) = diff(&first, &second)?;
    ensure!(code == 0 && said.contains("compared 20001 keys with 20001: equal"), "{said}");
    servers[1].client()?.run("SETRANGE key:777 3 X")?;
    servers[1].client()?.run("SREM big m4711")?;
    let (code, said) = diff(&first, &save(&servers[1])?)?;
    ensure!(code == 1, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    ensure!(
        lines.len() == 3 && lines[0].starts_with("! db 0 \"big\": value: set of 19999 members, was set of 20000"),
        "{said}"
    );
    ensure!(lines[1].starts_with("! db 0 \"key:777\": value: "), "{said}");
    Ok(())
}

#[test]
fn a_server_starts_from_a_filtered_dump() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let primary = Server::start(Kind::Redis70, &[])?;
    Workload::new(29, Kind::Redis70, Kind::Redis70).write(&mut primary.client()?, 2_000)?;
    let folder = tempfile::tempdir()?;
    members(&save(&primary)?, &folder.path().join("dump.rdb"))?;
    let started = Server::start(Kind::Redis70, &["--dir", text(folder.path())?])?;
    let mut last = Vec::new();
    // A key may expire between two looks.
    let keys = wait_some("a server with what the view has", PATIENCE, || {
        let (must, is) = (Holdings::read(&primary)?.through(View::MEMBERS), Holdings::read(&started)?);
        last = must.differences(&is, 5);
        Ok(last.is_empty().then_some(is.len()))
    });
    let keys = keys.with_context(|| last.join("\n"))?;
    ensure!(keys > 30, "{keys} keys");
    Ok(())
}
