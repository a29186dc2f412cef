//! `sluicegate compare` beside real servers: it finds nothing where nothing is wrong, however much is written meanwhile, and
//! names each thing that is.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::client::Client;
use sluicegate_tests::compare::{View, assert_same, pass_marker};
use sluicegate_tests::compared::{Compared, compare};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

/// A primary, the proxy, and a replica of each view.
struct Stage {
    primary: Server,
    proxy: Proxy,
    all: Server,
    members: Server,
}

impl Stage {
    /// `None`, after a word to the reader, if a server is not here.
    fn new(primary: Kind, replica: Kind, prepare: impl FnOnce(&mut Client) -> Result<()>) -> Result<Option<Self>> {
        if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
            return Ok(None);
        }
        let primary = Server::start(primary, &[])?;
        prepare(&mut primary.client()?)?;
        let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
        let all = Server::replica_of(replica, proxy.addr("all"))?;
        let members = Server::replica_of(replica, proxy.addr("members"))?;
        let stage = Self { primary, proxy, all, members };
        for (replica, view) in [(&stage.all, View::IDENTITY), (&stage.members, View::MEMBERS)] {
            pass_marker(&stage.primary, replica, view, PATIENCE)?;
        }
        Ok(Some(stage))
    }

    fn compare(&self, view: &str, more: &[&str]) -> Result<Compared> {
        let replica = if view == "all" { &self.all } else { &self.members };
        compare(&self.proxy, view, replica.addr(), more)
    }

    /// A client that writes to the replica of `members` behind its primary's back.
    fn saboteur(&self) -> Result<Client> {
        let mut client = self.members.client()?;
        client.run("CONFIG SET replica-read-only no")?;
        Ok(client)
    }
}

fn equal_after_a_workload(primary: Kind, replica: Kind) -> Result<()> {
    let mut workload = Workload::new(17, primary, replica);
    let Some(stage) = Stage::new(primary, replica, |client| workload.write(client, 3_000))? else { return Ok(()) };
    workload.write(&mut stage.primary.client()?, 3_000)?;
    for (view, replica, of) in [("all", &stage.all, View::IDENTITY), ("members", &stage.members, View::MEMBERS)] {
        let keys = stage.compare(view, &[])?.equal_keys().with_context(|| stage.proxy.context())?;
        let counted = assert_same(&stage.primary, replica, of, PATIENCE)?;
        // Some keys expire in between.
        ensure!(keys > 50 && keys.abs_diff(counted) < 20, "compared {keys} keys of {counted}");
    }
    Ok(())
}

#[test]
fn valkey_replicas_that_are_right_are_found_equal() -> Result<()> {
    equal_after_a_workload(Kind::Valkey91, Kind::Valkey91)
}

#[test]
fn redis_replicas_that_are_right_are_found_equal() -> Result<()> {
    equal_after_a_workload(Kind::Redis82, Kind::Redis82)
}

#[test]
fn replicas_of_another_family_that_are_right_are_found_equal() -> Result<()> {
    equal_after_a_workload(Kind::Redis70, Kind::Valkey91)
}

/// What is there before anybody meddles with it: a key of every type, under names that the view changes and keeps.
const VALUES: &str = "\
    SET user:text hello-world\nSET sess:gone 1\nSET sess:soon 1 PX 1000000000\nRPUSH user:list a b c\nSADD sess:set a b c\n\
    ZADD user:zset 1 a 2.5 b\nHSET sess:hash f 1 g 2\nXADD user:stream 1-1 f v\nXGROUP CREATE user:stream readers 0\n\
    XGROUP CREATECONSUMER user:stream readers ann\nXREADGROUP GROUP readers ann STREAMS user:stream >\nPFADD sess:log a b c\n\
    SETRANGE user:long 3000 x\nSET tmp:dropped 1\nSET sess:kind 1\n";

fn run_all(client: &mut Client, lines: &str) -> Result<()> {
    lines.lines().try_for_each(|line| client.run(line).map(drop))
}

#[test]
fn each_kind_of_difference_is_found_and_named() -> Result<()> {
    let kind = Kind::Valkey91;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    stage.compare("members", &["--wait", "100ms"])?.equal_keys()?;
    // Not a difference: what a HyperLogLog last counted is written into it.
    stage.saboteur()?.run("PFCOUNT sess:log")?;
    stage.compare("members", &["--wait", "100ms"])?.equal_keys()?;

    run_all(
        &mut stage.saboteur()?,
        "DEL sess:gone\nSET tmp:stray 1\nSET u:stray 1\nSET user:never 1\nSETRANGE u:text 6 W\nPEXPIREAT sess:soon 9999999999999\n\
         LSET u:list 1 B\nSREM sess:set b\nSADD sess:set d\nZADD u:zset 7 b\nHSET sess:hash f x\nXADD u:stream 2-1 f w\n\
         SETRANGE u:long 2000 y\nDEL sess:kind\nRPUSH sess:kind 1",
    )?;
    let found = stage.compare("members", &["--wait", "300ms", "--max-differences", "100"])?;
    ensure!(found.code == 1, "{found:?}");
    for wanted in [
        &["\"sess:gone\": missing: string of 1 byte"][..],
        &["\"tmp:stray\"", "(no key of the primary)", "extra"],
        &["\"user:stray\" as \"u:stray\": extra"],
        &["(no key of the primary) as \"user:never\": extra"],
        &["\"user:text\" as \"u:text\": value: is \"hello-World\", must be \"hello-world\""],
        &["\"sess:soon\": expiry: is 9999999999999, must be "],
        &["\"u:list\": value: of the elements, number 1 is \"B\", must be \"b\""],
        &["\"sess:set\": value: lacks \"b\", must not have \"d\""],
        &["\"u:zset\": value: of the members, number 1 is \"b 7.0\", must be \"b 2.5\""],
        &["\"sess:hash\": value: lacks \"f 1\", must not have \"f x\""],
        &[
            "\"u:stream\": value: has 2 entries, must have 1; must not have \"2-1 f w\" at number 1",
            "lacks \"entries-added 1\"",
        ],
        &["\"u:long\": value: differs behind its first 256 bytes"],
        &["\"sess:kind\": type: is list, must be string"],
        &["compared 12 keys in 1 database: 13 different"],
    ] {
        ensure!(found.lines(wanted).len() == 1, "no line with {wanted:?} in\n{}", found.out);
    }
    Ok(())
}

#[test]
fn what_does_not_show_in_the_elements_is_found() -> Result<()> {
    let kind = Kind::Valkey91;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    run_all(
        &mut stage.saboteur()?,
        "XACK u:stream readers 1-1\nHPEXPIREAT sess:hash 9999999999999 FIELDS 1 g\nPFADD sess:log d",
    )?;
    let found = stage.compare("members", &["--wait", "100ms"])?;
    for wanted in [
        &["\"u:stream\": lacks \"entry 1-1 of group \\\"readers\\\""][..],
        &["\"sess:hash\": must not have \"g expires 9999999999999\""],
        &["\"sess:log\": value: "],
        &["3 different"],
    ] {
        ensure!(found.lines(wanted).len() == 1, "no line with {wanted:?} in\n{}", found.out);
    }
    Ok(())
}

/// Vector sets show the order in which they were made in their `DUMP`.
#[test]
fn vector_sets_are_compared_by_their_members() -> Result<()> {
    let kind = Kind::Redis82;
    let sets =
        "VADD user:vectors VALUES 2 1 2 a\nVADD user:vectors VALUES 2 5 1 b\nVSETATTR user:vectors a {\"n\":1}\n";
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, sets))? else { return Ok(()) };
    run_all(&mut stage.primary.client()?, "VADD user:vectors VALUES 2 7 7 c\nVREM user:vectors b")?;
    stage.compare("members", &["--wait", "5s"])?.equal_keys()?;
    let again = "DEL u:vectors\nVADD u:vectors VALUES 2 7 7 c\nVADD u:vectors VALUES 2 1 2 a SETATTR {\"n\":1}";
    run_all(&mut stage.saboteur()?, again)?;
    stage.compare("members", &["--wait", "100ms"])?.equal_keys()?;
    stage.saboteur()?.run("VADD u:vectors VALUES 2 -1 2 a")?;
    let found = stage.compare("members", &["--wait", "100ms"])?;
    ensure!(found.code == 1 && found.lines(&["\"u:vectors\": ", "lacks", "a is"]).len() == 1, "{found:?}");
    Ok(())
}

#[test]
fn it_is_left_when_enough_is_found_and_said_to_programs_too() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    run_all(&mut stage.saboteur()?, "DEL sess:gone\nDEL sess:soon\nSET u:stray 1")?;
    let first = stage.compare("members", &["--wait", "0s", "--max-differences", "1"])?;
    ensure!(first.code == 1 && first.out.lines().count() == 2, "{first:?}");
    ensure!(first.lines(&["1 different", "left at that"]).len() == 1, "{first:?}");
    let json = stage.compare("members", &["--wait", "0s", "--max-differences", "1", "--json"])?;
    ensure!(json.lines(&["{\"class\":", "\"db\":0", "\"name\":"]).len() == 1, "{json:?}");
    ensure!(json.lines(&["\"different\":1", "\"partial\":true"]).len() == 1, "{json:?}");
    Ok(())
}

#[test]
fn newer_replicas_of_an_old_primary_are_compared_to_the_second() -> Result<()> {
    let Some(stage) = Stage::new(Kind::Redis62, Kind::Redis70, |client| run_all(client, VALUES))? else {
        return Ok(());
    };
    run_all(&mut stage.primary.client()?, "EXPIRE user:list 5000\nSETEX sess:left 5000 x\nXADD user:stream 3-1 f v")?;
    let right = stage.compare("members", &["--wait", "5s"])?;
    ensure!(right.equal_keys()? > 10 && right.lines(&["note:", "to the second"]).len() == 1, "{right:?}");
    stage.saboteur()?.run("EXPIRE sess:left 5010")?;
    let wrong = stage.compare("members", &["--wait", "100ms"])?;
    ensure!(wrong.code == 1 && wrong.lines(&["\"sess:left\": expiry: is "]).len() == 1, "{wrong:?}");
    Ok(())
}

#[test]
fn only_the_database_that_is_named_is_compared() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    run_all(&mut stage.saboteur()?, "SELECT 3\nSET sess:stray 1")?;
    let one = stage.compare("members", &["--wait", "100ms", "--database", "0"])?;
    ensure!(one.equal_keys()? > 10, "{one:?}");
    let all = stage.compare("members", &["--wait", "100ms"])?;
    ensure!(all.code == 1 && all.lines(&["db 3 \"sess:stray\": extra"]).len() == 1, "{all:?}");
    Ok(())
}

#[test]
fn function_libraries_are_compared() -> Result<()> {
    let kind = Kind::Redis70;
    let library = |code: &str| {
        let body = format!("#!lua name=lib\nredis.register_function('f', function() return {code} end)");
        ["FUNCTION".to_owned(), "LOAD".into(), "REPLACE".into(), body]
    };
    let load = |client: &mut Client| client.call(&library("1")).map(drop);
    let Some(stage) = Stage::new(kind, kind, load)? else { return Ok(()) };
    stage.compare("members", &["--wait", "100ms"])?.equal_keys()?;
    stage.saboteur()?.call(&library("2"))?;
    let other = stage.compare("members", &["--wait", "100ms"])?;
    ensure!(other.code == 1 && other.lines(&["function library \"lib\": other code"]).len() == 1, "{other:?}");
    stage.saboteur()?.run("FUNCTION DELETE lib")?;
    let none = stage.compare("members", &["--wait", "0s"])?;
    ensure!(none.code == 1 && none.lines(&["function library \"lib\": missing"]).len() == 1, "{none:?}");
    Ok(())
}

#[test]
fn writes_meanwhile_are_no_differences() -> Result<()> {
    equal_while_written_to(Kind::Valkey91, Kind::Valkey91)
}

/// Here many equal values have unequal `DUMP`s, and their keys are read in full.
#[test]
fn writes_meanwhile_are_no_differences_for_another_family() -> Result<()> {
    equal_while_written_to(Kind::Redis70, Kind::Valkey91)
}

fn equal_while_written_to(primary: Kind, replica: Kind) -> Result<()> {
    let mut workload = Workload::new(23, primary, replica);
    let Some(stage) = Stage::new(primary, replica, |client| workload.write(client, 2_000))? else { return Ok(()) };
    let writer = workload.in_background(stage.primary.addr(), 3_000);
    let mut undecided = 0;
    for _ in 0..8 {
        for view in ["all", "members"] {
            let found = stage.compare(view, &["--wait", "2s"])?;
            ensure!(found.code != 1, "{found:?}\n{}", stage.proxy.context());
            undecided += usize::from(found.code == 2);
        }
    }
    eprintln!("  {} commands written meanwhile; {undecided} of 16 comparisons left a key undecided", writer.sent());
    writer.stop()?;
    for view in ["all", "members"] {
        stage.compare(view, &[])?.equal_keys()?;
    }
    Ok(())
}

#[test]
fn a_key_that_never_rests_is_undecided_and_not_different() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(mut stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    // A replica that gets nothing more, and a key that changes between any two looks.
    let nowhere = Server::start(kind, &[])?;
    stage.members.follow(SocketAddr::from(([127, 0, 0, 1], 1)))?;
    drop(nowhere);
    let script = "EVAL|local n = 0 for i = 1, 50 do n = redis.call('INCR', KEYS[1]) end return n|1|sess:busy";
    let script: Vec<String> = script.split('|').map(str::to_owned).collect();
    let (stop, addr) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), stage.primary.addr());
    let stopped = std::sync::Arc::clone(&stop);
    let busy = std::thread::spawn(move || -> Result<()> {
        let mut client = Client::connect(addr)?;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            client.call(&script)?;
        }
        Ok(())
    });
    wait_for(
        "the key to be there",
        PATIENCE,
        || Ok(stage.primary.client()?.run("EXISTS sess:busy")?.int() == Some(1)),
    )?;
    let found = stage.compare("members", &["--wait", "300ms"]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    let found = found?;
    ensure!(found.code == 2, "{found:?}");
    ensure!(found.lines(&["\"sess:busy\"", "undecided: it changes all the time"]).len() == 1, "{found:?}");
    ensure!(found.lines(&["note:", "lost its link"]).len() == 1, "{found:?}");
    Ok(())
}

#[test]
fn what_servers_keep_to_themselves_is_set_apart_on_demand() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    stage.primary.client()?.run("BITFIELD sess:none OVERFLOW FAIL INCRBY u2 0 9")?;
    let plain = stage.compare("members", &["--wait", "100ms"])?;
    ensure!(plain.code == 1 && plain.lines(&["\"sess:none\": missing: string"]).len() == 1, "{plain:?}");
    let apart = stage.compare("members", &["--wait", "100ms", "--known-faults"])?;
    ensure!(apart.code == 0 && apart.lines(&["\"sess:none\": known server fault: missing"]).len() == 1, "{apart:?}");
    ensure!(apart.lines(&["1 by known faults of servers"]).len() == 1, "{apart:?}");
    Ok(())
}

#[test]
fn what_keeps_it_from_comparing_is_said() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    let says = |found: &Compared, code: i32, texts: &[&str]| -> Result<()> {
        ensure!(found.code == code && texts.iter().all(|text| found.err.contains(text)), "{texts:?}: {found:?}");
        Ok(())
    };
    says(&stage.compare("member", &[])?, 78, &["unknown view `member`, did you mean `members`?"])?;
    says(&stage.compare("members", &["--wait", "10"])?, 64, &["--wait", "10s"])?;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    says(
        &compare(&stage.proxy, "members", nobody, &[])?,
        74,
        &["cannot connect to the replica at 127.0.0.1:1", "refused"],
    )?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, "not-this-one\n")?;
    let file = file.to_str().context("a path of text")?;
    let mut operator = stage.members.client()?;
    run_all(&mut operator, "ACL SETUSER default >right\nACL SETUSER weak on >right ~* +@read")?;
    says(&stage.compare("members", &[])?, 74, &["the replica at", "NOAUTH", "name a user"])?;
    let wrong = stage.compare("members", &["--replica-password-file", file])?;
    says(&wrong, 74, &["the replica at", "WRONGPASS", "look at"])?;
    ensure!(!wrong.err.contains("not-this-one"), "{wrong:?}");
    std::fs::write(file, "right\n")?;
    let weak = stage.compare("members", &["--replica-user", "weak", "--replica-password-file", file])?;
    says(&weak, 74, &["the replica at", "NOPERM", "+@read"])?;
    stage.compare("members", &["--replica-password-file", file])?.equal_keys()?;
    Ok(())
}

#[test]
fn a_replica_of_another_view_is_seen_at_once() -> Result<()> {
    let kind = Kind::Redis70;
    let Some(stage) = Stage::new(kind, kind, |client| run_all(client, VALUES))? else { return Ok(()) };
    let other = compare(&stage.proxy, "members", stage.all.addr(), &["--wait", "100ms"])?;
    ensure!(other.code == 1 && other.lines(&["missing"]).len() > 2, "{other:?}");
    let itself = compare(&stage.proxy, "members", stage.primary.addr(), &["--wait", "100ms"])?;
    ensure!(itself.code == 1 && itself.lines(&["note:", "is not a replica", "master"]).len() == 1, "{itself:?}");
    Ok(())
}

#[test]
fn views_of_a_kevy_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sluicegate.toml");
    let text = "[upstream]\nprotocol = \"kevy\"\naddress = \"127.0.0.1:1\"\nshards = 1\n[[view]]\nname = \"all\"\nlisten = [\":2\"]\n";
    std::fs::write(&file, text)?;
    let file = file.to_str().context("a path of text")?;
    let args = ["compare", "--config", file, "--view", "all", "--replica", "127.0.0.1:1"];
    let (code, text) = sluicegate_tests::proxy::run_to_end(&args)?;
    ensure!(code == 78 && text.contains("kevy") && text.contains("Redis and Valkey only"), "{code} {text}");
    Ok(())
}
