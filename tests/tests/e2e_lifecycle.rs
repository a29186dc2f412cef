//! Start, stop, sudden death, and what the ports say meanwhile.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use sluicegate_tests::client::Reply;
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica};
use sluicegate_tests::proxy::{Config, Proxy, run_to_end};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

fn serving(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    let mut joined = None;
    wait_for("a view that serves", PATIENCE, || {
        joined = MiniReplica::join(proxy.addr(view)).ok();
        Ok(joined.is_some())
    })
    .with_context(|| proxy.context())?;
    joined.context("it was just there")
}

#[test]
fn a_killed_proxy_begins_its_own_histories_anew() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut workload = Workload::new(31, Kind::Redis70, Kind::Redis70);
    workload.write(&mut primary.client()?, 2_000)?;
    let mut proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let all = Server::replica_of(Kind::Redis70, proxy.addr("all"))?;
    let members = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    assert_same(&primary, &all, View::IDENTITY, PATIENCE)?;
    assert_same(&primary, &members, View::MEMBERS, PATIENCE)?;
    let (old_id, old_offset) = serving(&proxy, "members")?.history()?;

    proxy.kill9()?;
    workload.write(&mut primary.client()?, 500)?;
    proxy.start_again()?;

    let (new_id, _) = serving(&proxy, "members")?.history()?;
    ensure!(old_id != new_id, "a history of which nothing was kept must not go on under its id");
    let answer = MiniReplica::psync(proxy.addr("members"), Announce::default(), &old_id, old_offset + 1)?.answer;
    ensure!(matches!(answer, Answer::Full { .. }), "the old history was continued: {answer:?}");
    assert_same(&primary, &all, View::IDENTITY, PATIENCE).with_context(|| proxy.context())?;
    assert_same(&primary, &members, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
    ensure!(members.log().matches("Full resync from").count() >= 2, "the replica must have begun anew");
    Ok(())
}

#[test]
fn sigterm_ends_with_code_0_and_sends_all_that_was_read() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let mut replica = serving(&proxy, "members")?;
    primary.client()?.run("SET user:1 the-last-word")?;
    replica.read_until(b"the-last-word", PATIENCE)?;
    let code = proxy.terminate()?;
    ensure!(code == 0, "exit code {code}\n{}", proxy.context());
    replica.read_to_close(PATIENCE)?;
    ensure!(!proxy.log().contains("panicked"), "{}", proxy.context());
    Ok(())
}

#[test]
fn a_view_port_answers_as_a_chained_replica_does() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("SET user:1 a")?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    for view in ["all", "members"] {
        let mini = serving(&proxy, view)?;
        let mut client = proxy.client(view)?;
        ensure!(client.call(&["PING"])? == Reply::Simple("PONG".into()));
        ensure!(client.call(&["PING", "hello"])? == Reply::Bulk(b"hello".to_vec()));
        let role = client.call(&["ROLE"])?.items();
        ensure!(role.len() == 5 && role[0].text() == "slave" && role[3].text() == "connected", "ROLE: {role:?}");
        ensure!(role[2].int() == Some(i64::from(primary.port())), "ROLE names the primary's port: {role:?}");

        let info = client.info("replication")?;
        let field = |name: &str| info.get(name).map(String::as_str).unwrap_or_default();
        ensure!(field("role") == "slave" && field("master_link_status") == "up", "{info:?}");
        ensure!(field("slave_priority") == "0" && field("replica_announced") == "0", "never to be promoted: {info:?}");
        ensure!(field("connected_slaves") == "1", "{info:?}");
        let (id, _) = mini.history()?;
        ensure!(field("master_replid") == id, "INFO shows the view's id, {id}: {info:?}");
        let own = primary.client()?.info_field("replication", "master_replid")?;
        ensure!((id == own) == (view == "all"), "only a view without plugins goes by the primary's id");
        ensure!(client.call(&["INFO"])?.text().contains("sluicegate_version:"), "INFO without a section");
    }
    Ok(())
}

#[test]
fn redis_cli_feels_at_home() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    serving(&proxy, "members")?;
    let port = proxy.addr("members").port().to_string();
    let cli = |args: &[&str]| -> Result<Option<String>> {
        let Ok(output) = Command::new("redis-cli").args(["-p", &port]).args(args).output() else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
    };
    let Some(pong) = cli(&["PING"])? else {
        eprintln!("skipped: no redis-cli in PATH");
        return Ok(());
    };
    ensure!(pong.trim() == "PONG", "PING: {pong}");
    for (args, wanted) in [
        (vec!["INFO", "replication"], "role:slave"),
        (vec!["ROLE"], "slave"),
        (vec!["SET", "a", "b"], "READONLY"),
        (vec!["REPLICAOF", "NO", "ONE"], "ERR"),
    ] {
        let said = cli(&args)?.unwrap_or_default();
        ensure!(said.contains(wanted), "redis-cli {args:?}: {said}");
    }
    Ok(())
}

#[test]
fn who_has_no_password_gets_nothing() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &["--requirepass", "upstream-secret"])?;
    let digest: String = Sha256::digest("view-secret").iter().map(|byte| format!("{byte:02x}")).collect();
    let secrets = tempfile::tempdir()?;
    let file = secrets.path().join("password");
    std::fs::write(&file, "upstream-secret\n")?;
    let config = Config::new(primary.addr())
        .upstream_line(&format!("password_file = {file:?}"))
        .tables(&format!("[[user]]\nname = \"default\"\npassword_sha256 = \"{digest}\"\n"))
        .both_views();
    let proxy = Proxy::start(config)?;
    let mut client = proxy.client("members")?;
    for command in [vec!["INFO"], vec!["ROLE"], vec!["PSYNC", "?", "-1"], vec!["REPLCONF", "listening-port", "1"]] {
        let reply = client.ask(&command)?;
        ensure!(reply.text().starts_with("NOAUTH"), "{command:?} without a password: {reply:?}");
    }
    ensure!(client.ask(&["AUTH", "wrong"])?.text().starts_with("WRONGPASS"), "a wrong password");
    client.call(&["AUTH", "view-secret"])?;
    client.call(&["INFO", "replication"])?;

    let mut replica = Server::start(Kind::Redis70, &["--masterauth", "view-secret"])?;
    replica.follow(proxy.addr("members"))?;
    replica.wait_link_up().with_context(|| proxy.context())?;
    ensure!(!proxy.log().contains("-secret"), "a password in the log\n{}", proxy.context());
    Ok(())
}

#[test]
fn a_configuration_that_is_wrong_is_shown_with_its_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("wrong.toml");
    let path = file.to_string_lossy().into_owned();
    let head = "[upstream]\naddress = \"127.0.0.1:6379\"\n[[view]]\nname = \"eu\"\nlisten = [\"127.0.0.1:7000\"]\n";
    let cases = [
        ("pipline = []\n", ":6:1:", "did you mean `pipeline`"),
        ("pipeline = [\"nobody\"]\n", ":6:13:", "nobody"),
        ("[view.backlog]\nmemory = \"lots\"\n", ":7:10:", "lots"),
        ("[[view]]\nname = \"us\"\nlisten = [\"127.0.0.1:7000\"]\n", ":8:", "7000"),
        ("pipeline = [\"p\"]\n[[plugin]]\nname = \"p\"\nbuiltin = \"key-filtr\"\n", ":9:11:", "key-filter"),
        ("pipeline = [\"p\"]\n[[plugin]]\nname = \"p\"\npath = \"/nowhere.wasm\"\n", ":9:", "nowhere.wasm"),
        ("[[[[\n", ":6:", ""),
    ];
    for (lines, place, words) in cases {
        std::fs::write(&file, format!("{head}{lines}"))?;
        let (code, text) = run_to_end(&["run", "--config", &path])?;
        ensure!(code == 78, "{lines:?}: exit code {code}\n{text}");
        ensure!(text.contains(&format!("{path}{place}")), "{lines:?}: no place {place}\n{text}");
        ensure!(text.contains(words), "{lines:?}: no {words:?}\n{text}");
    }
    let (code, text) = run_to_end(&["run", "--config", "/nowhere/at-all.toml"])?;
    ensure!(code != 0 && text.contains("/nowhere/at-all.toml"), "{code}: {text}");
    let (code, _) = run_to_end(&["run", "--no-such-flag"])?;
    ensure!(code == 64, "a wrong command line ends with {code}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_an_error_of_its_own() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let listen = format!("127.0.0.1:{port}");
    let (code, text) = run_to_end(&["run", "--upstream", "127.0.0.1:1", "--listen", &listen])?;
    ensure!(code == 74, "exit code {code}: {text}");
    ensure!(text.contains(&port.to_string()), "the message names the port: {text}");
    Ok(())
}
