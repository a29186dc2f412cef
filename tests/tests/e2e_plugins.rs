//! Plugins that trap, loop, grow or answer wrongly: their own view halts and says why; every other view goes on.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sluicegate_tests::mini_replica::{Announce, Answer, MiniReplica, find};
use sluicegate_tests::ports::free_port;
use sluicegate_tests::proxy::{Config, Proxy, run_to_end};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for, wait_some};
use tempfile::TempDir;

/// The misbehaving plugin, as a file.
fn hostile() -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("hostile.wasm");
    std::fs::write(&path, sluicegate_bundle::HOSTILE)?;
    Ok((dir, path))
}

fn plugin(name: &str, path: &Path, mode: &str, lines: &str) -> String {
    format!("[[plugin]]\nname = {name:?}\npath = {path:?}\n{lines}\n  [plugin.config]\n  mode = {mode:?}\n")
}

fn join(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    wait_some("a view that serves", PATIENCE, || Ok(MiniReplica::join(proxy.addr(view)).ok()))
        .with_context(|| format!("view {view}\n{}", proxy.context()))
}

/// The view has stopped, and whoever asks learns why.
fn ensure_halted(proxy: &Proxy, view: &str, replica: &mut MiniReplica, plugin: &str) -> Result<()> {
    let line = proxy.wait_log(&[&format!("view '{view}'"), "halts", &format!("plugin '{plugin}'")])?;
    eprintln!("{line}");
    replica.read_to_close(PATIENCE).with_context(|| format!("view {view} must close its links"))?;
    ensure!(find(&replica.stream, b"user:").is_none(), "view {view} let something through");
    let why = proxy.info(view, "views", &format!("view_{view}_halted"))?;
    ensure!(why.contains(&format!("plugin '{plugin}'")), "INFO does not say why {view} halted: {why:?}");
    let answer = MiniReplica::psync(proxy.addr(view), Announce::default(), "?", -1)?.answer;
    ensure!(matches!(&answer, Answer::Refused(why) if why.contains("halted")), "view {view} answered {answer:?}");
    Ok(())
}

#[test]
fn a_misbehaving_plugin_halts_its_own_view_only() -> Result<()> {
    let modes = [
        "filter-trap",
        "filter-panic",
        "filter-loop",
        "filter-recurse",
        "filter-memory",
        "filter-short",
        "filter-long",
        "filter-code",
        "filter-rejected",
        "rename-trap",
        "rename-descending",
        "rename-out-of-range",
        "rename-to-empty",
        "original-lies",
        "frames-trap",
        "frames-long",
    ];
    let (_dir, path) = hostile()?;
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut config = Config::new(primary.addr()).both_views();
    let mut tables = String::new();
    for mode in modes {
        config = config.view(mode, &[mode]);
        write!(tables, "{}", plugin(mode, &path, mode, ""))?;
    }
    let mut proxy = Proxy::start(config.tables(&tables))?;
    let (mut all, mut members) = (join(&proxy, "all")?, join(&proxy, "members")?);
    // The primary is empty: no plugin has been asked anything yet.
    let mut replicas = Vec::new();
    for mode in modes {
        replicas.push((mode, join(&proxy, mode)?));
    }
    let mut client = primary.client()?;
    client.run("PUBLISH news something")?;
    // Two keys: one answer less is still an answer.
    client.run("MSET user:1 a user:5 b")?;
    for (mode, replica) in &mut replicas {
        ensure_halted(&proxy, mode, replica, mode)?;
    }
    client.run("SET user:2 the-others-go-on")?;
    all.read_until(b"the-others-go-on", PATIENCE)?;
    members.read_until(b"the-others-go-on", PATIENCE)?;
    ensure!(find(&members.stream, b"u:2").is_some(), "the other view's plugins work");
    ensure!(proxy.resident_bytes()? < 400 << 20, "plugins took {} MiB", proxy.resident_bytes()? >> 20);
    proxy.check_alive()
}

#[test]
fn a_plugin_that_fails_on_the_snapshot_halts_its_view_before_anything_is_loaded() -> Result<()> {
    let (_dir, path) = hostile()?;
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("MSET user:1 a poison b")?;
    let tables = plugin("poisoned", &path, "filter-poison", "");
    let proxy = Proxy::start(Config::new(primary.addr()).both_views().view("bad", &["poisoned"]).tables(&tables))?;
    join(&proxy, "members")?;
    let mut replica = Server::start(Kind::Redis70, &[])?;
    replica.follow(proxy.addr("bad"))?;
    let line = proxy.wait_log(&["view 'bad'", "halts", "plugin 'poisoned'"])?;
    eprintln!("{line}");
    ensure!(replica.client()?.run("DBSIZE")?.int() == Some(0), "a part of a snapshot was loaded");
    join(&proxy, "members")?;
    Ok(())
}

#[test]
fn a_single_trap_is_forgiven_by_asking_once_more() -> Result<()> {
    let (_dir, path) = hostile()?;
    let primary = Server::start(Kind::Redis70, &[])?;
    let tables = plugin("stumbling", &path, "filter-second", "");
    let proxy = Proxy::start(Config::new(primary.addr()).view("shaky", &["stumbling"]).tables(&tables))?;
    let mut replica = join(&proxy, "shaky")?;
    let mut client = primary.client()?;
    for n in 0..6 {
        client.run(&format!("SET user:{n} value-{n}"))?;
        replica.read_until(format!("value-{n}").as_bytes(), PATIENCE).with_context(|| proxy.context())?;
    }
    let sets = replica.commands()?.into_iter().filter(|command| command[0].eq_ignore_ascii_case(b"set")).count();
    ensure!(sets == 6, "{sets} SETs instead of 6: something was repeated or lost");
    Ok(())
}

#[test]
fn errors_drop_only_where_the_operator_gave_exactness_up_and_a_missed_deadline_never() -> Result<()> {
    let (_dir, path) = hostile()?;
    let primary = Server::start(Kind::Redis70, &[])?;
    let poisoned = plugin("poisoned", &path, "filter-poison", "on_error = \"drop\"");
    let looping = plugin("looping", &path, "filter-loop", "on_error = \"pass\"");
    let config = Config::new(primary.addr())
        .view_with("lossy", &["poisoned"], "exact = false")
        .view_with("stuck", &["looping"], "exact = false")
        .tables(&poisoned)
        .tables(&looping);
    let proxy = Proxy::start(config)?;
    let (mut lossy, mut stuck) = (join(&proxy, "lossy")?, join(&proxy, "stuck")?);
    let mut client = primary.client()?;
    client.run("SET user:1 before")?;
    lossy.read_until(b"before", PATIENCE)?;
    client.run("SET poison bitter")?;
    // The policy drops the whole batch, so what must pass may not come in the same one.
    wait_for("the poison to be dealt with", PATIENCE, || {
        Ok(proxy.info("lossy", "views", "view_lossy")?.contains("in_frames=2,"))
    })?;
    client.run("SET user:2 after")?;
    lossy.read_until(b"after", PATIENCE).with_context(|| proxy.context())?;
    ensure!(find(&lossy.stream, b"bitter").is_none(), "what the plugin failed on was passed");
    let shown = proxy.info("lossy", "views", "view_lossy")?;
    ensure!(shown.contains("exact=no"), "INFO does not say that the view is inexact: {shown}");
    ensure_halted(&proxy, "stuck", &mut stuck, "looping")
}

#[test]
fn plugins_that_cannot_be_loaded_keep_the_proxy_from_starting() -> Result<()> {
    let (dir, path) = hostile()?;
    let no_wasm = dir.path().join("no.wasm");
    std::fs::write(&no_wasm, b"\0asm but not really")?;
    let cut = dir.path().join("cut.wasm");
    std::fs::write(&cut, &sluicegate_bundle::HOSTILE[..sluicegate_bundle::HOSTILE.len() / 2])?;
    let port = free_port()?;
    let head = format!(
        "[upstream]\naddress = \"127.0.0.1:1\"\n\
         [[view]]\nname = \"v\"\nlisten = [\"127.0.0.1:{port}\"]\npipeline = [\"plug\"]\n"
    );
    let cases = [
        (plugin("plug", &path, "init-refuse", ""), "refuses its settings"),
        (plugin("plug", &path, "init-panic", ""), "plug"),
        (plugin("plug", &path, "init-loop", ""), "plug"),
        (plugin("plug", &no_wasm, "", ""), "no valid component"),
        (plugin("plug", &cut, "", ""), "plugin `plug`"),
        (plugin("plug", &path, "", "on_error = \"drop\""), "exact"),
    ];
    let file = dir.path().join("config.toml");
    for (tables, words) in cases {
        std::fs::write(&file, format!("{head}{tables}"))?;
        let (code, text) = run_to_end(&["run", "--config", &file.to_string_lossy()])?;
        ensure!(code == 78, "exit code {code} for\n{tables}\n{text}");
        ensure!(text.contains(words), "no {words:?} in\n{text}\nfor\n{tables}");
    }
    Ok(())
}
