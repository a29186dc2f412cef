//! `sluicegate status` beside a proxy at work: what it shows is what is.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use sluicegate_tests::compare::{View, pass_marker};
use sluicegate_tests::leash::Leash;
use sluicegate_tests::proxy::{Config, Proxy, binary, run_to_end};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for, wait_some};

fn status(addr: SocketAddr, more: &[&str]) -> Result<(i32, String)> {
    run_to_end(&[&["status", &addr.to_string()], more].concat())
}

/// Asks until the picture has all of these texts.
fn wait_status(proxy: &Proxy, view: &str, texts: &[&str]) -> Result<String> {
    let mut last = String::new();
    let found = wait_some(&format!("a picture with {texts:?}"), PATIENCE, || {
        let (code, said) = status(proxy.addr(view), &[])?;
        last = said;
        ensure!(code == 0, "{last}");
        Ok(texts.iter().all(|text| last.contains(text)).then(|| last.clone()))
    });
    found.with_context(|| last).with_context(|| proxy.context())
}

#[test]
fn a_proxy_at_work_is_shown() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let mut primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("MSET user:1 a sess:1 b cart:1 c")?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    let replica = Server::replica_of(Kind::Redis70, proxy.addr("members"))?;
    pass_marker(&primary, &replica, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;

    let upstream = format!("upstream  {}  link up, connected, offset ", primary.addr());
    let own = format!("{}  online, offset ", replica.addr());
    let picture = wait_status(
        &proxy,
        "members",
        &[&upstream, "1 full sync (", "replicas of view 'members'", &own, " keys, Redis-10, "],
    )?;
    let view = |name: &str| picture.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
    ensure!(view("all").contains("  live     0 ") && view("all").ends_with("no plugins"), "{picture}");
    ensure!(view("members").contains("  live     1 ") && view("members").ends_with("members+shorter"), "{picture}");
    wait_status(&proxy, "all", &["no replicas of view 'all'"])?;

    primary.kill9()?;
    wait_status(&proxy, "all", &["  link down, "])?;
    Ok(())
}

#[test]
fn a_halted_view_says_why() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let primary = Server::start(Kind::Redis70, &[])?;
    let config = Config::new(primary.addr()).view_with("strict", &["members"], "cross-key = \"halt\"");
    let proxy = Proxy::start(config)?;
    wait_status(&proxy, "strict", &["  live  "])?;
    let mut client = primary.client()?;
    client.run("SADD cart:x 1")?;
    client.run("SUNIONSTORE user:s cart:x")?;
    wait_status(&proxy, "strict", &["  halted  ", "halted: ", "SUNIONSTORE"])?;
    Ok(())
}

#[test]
fn who_has_no_password_is_told_so() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let primary = Server::start(Kind::Redis70, &[])?;
    let digest: String = Sha256::digest("view-secret").iter().map(|byte| format!("{byte:02x}")).collect();
    let users = format!("[[user]]\nname = \"ops\"\npassword_sha256 = \"{digest}\"\n");
    let proxy = Proxy::start(Config::new(primary.addr()).tables(&users).both_views())?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).map(|()| path.display().to_string())
    };
    let (right, wrong) = (file("right", "view-secret\n")?, file("wrong", "guessed-secret")?);
    let addr = proxy.addr("all");
    let (code, said) = status(addr, &[])?;
    ensure!(code == 74 && said.contains("NOAUTH") && said.contains("name a user and a file"), "{said}");
    let (code, said) = status(addr, &["--user", "ops", "--password-file", &wrong])?;
    ensure!(code == 74 && said.contains("WRONGPASS") && !said.contains("-secret"), "{said}");
    let (code, said) = status(addr, &["--user", "ops", "--password-file", &right])?;
    ensure!(code == 0 && said.contains("view     port"), "{said}");
    Ok(())
}

#[test]
fn what_is_no_proxy_is_named() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let mut server = Server::start(Kind::Redis70, &[])?;
    let (code, said) = status(server.addr(), &[])?;
    ensure!(code == 74 && said.contains("is no Sluicegate"), "{said}");
    server.kill9()?;
    let (code, said) = status(server.addr(), &[])?;
    ensure!(code == 74 && said.contains(&format!("cannot connect to the view at {}", server.addr())), "{said}");
    ensure!(run_to_end(&["status", "nowhere"])?.0 == 64, "an address without a port");
    Ok(())
}

/// The pictures that it has drawn.
fn drawn(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split("\n\nsluicegate ").map(str::to_owned).collect()
}

#[test]
fn who_watches_sees_what_changes_and_that_the_proxy_was_away() -> Result<()> {
    let Some(_) = Kind::Redis70.find_or_say() else { return Ok(()) };
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut proxy = Proxy::start(Config::new(primary.addr()).view("all", &[]))?;
    let folder = tempfile::tempdir()?;
    let (output, addr) = (folder.path().join("output"), proxy.addr("all").to_string());
    let mut watch = Leash::start(binary()?, &["status", addr.as_str(), "--watch"], &[], &output)?;
    let mut sees = |texts: &[&str]| {
        wait_for(&format!("{texts:?} in a picture"), PATIENCE, || {
            ensure!(watch.ended()?.is_none(), "it ended: {:?}", fs::read_to_string(&output));
            Ok(drawn(&output).last().is_some_and(|last| texts.iter().all(|text| last.contains(text))))
        })
        .with_context(|| fs::read_to_string(&output).unwrap_or_default())
    };
    sees(&["no replicas of view 'all'"])?;
    let _replica = Server::replica_of(Kind::Redis70, proxy.addr("all"))?;
    sees(&["replicas of view 'all'", "  online, offset "])?;
    proxy.kill9()?;
    sees(&["tried again each second"])?;
    proxy.start_again()?;
    sees(&["  link up, connected", "  online, offset "])?;
    ensure!(!fs::read_to_string(&output)?.contains('\x1b'), "a file is no terminal");
    Ok(())
}
