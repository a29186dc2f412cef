//! Two Sluicegates in a row with a packed line between them: the replicas behind equal the primary before, whatever the line does.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::tap::{Tap, Way};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;
use tempfile::TempDir;

/// Unpacked bytes of one chunk of a snapshot, and what else may come with one.
const CHUNK_BYTES: u64 = 256 * 1024;
const SLACK_BYTES: u64 = 8 * 1024;

/// The end at the primary: two views, both packed for those who ask.
fn far(primary: &Server) -> Result<Proxy> {
    let pack = "pack = \"lz4\"";
    let config = Config::new(primary.addr()).codec("lz4");
    Proxy::start(config.view_with("all", &[], pack).view_with("members", FILTERED, pack))
}

/// The end at the replicas, which follows one view of the other.
fn near(of: SocketAddr, codec: &str) -> Result<Proxy> {
    Proxy::start(Config::new(of).upstream_line(&format!("pack = {codec:?}")).codec(codec).view("all", &[]))
}

fn wait_synced(near: &Proxy) -> Result<()> {
    wait_for("the near end to follow the far one", PATIENCE, || {
        Ok(near.info("all", "replication", "master_link_status")? == "up")
    })
}

/// So much that a snapshot has dozens of chunks, which no codec makes to nothing.
fn fill(primary: &Server) -> Result<()> {
    let mut client = primary.client()?;
    let mut random = 88_172_645_463_325_252_u64;
    for key in 0..2_000 {
        let mut value = String::new();
        while value.len() < 4_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            value += &format!("{random:x} is a number, ");
        }
        client.call(&["SET", &format!("big:{key}"), &value])?;
    }
    Ok(())
}

#[test]
fn replicas_at_both_ends_equal_the_primary_through_cuts_of_every_kind() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut workload = Workload::new(51, Kind::Redis70, Kind::Redis70);
    workload.write(&mut primary.client()?, 3_000)?;
    let far = far(&primary)?;
    let taps = ["all", "members"].map(|view| Tap::new(far.addr(view)));
    let taps = taps.into_iter().collect::<Result<Vec<_>>>()?;
    let views = [View::IDENTITY, View::MEMBERS];
    let nears = taps.iter().map(|tap| near(tap.addr(), "lz4")).collect::<Result<Vec<_>>>()?;
    let replicas = nears.iter().map(|near| Server::replica_of(Kind::Redis70, near.addr("all")));
    let replicas = replicas.collect::<Result<Vec<_>>>()?;
    // An ordinary one, of a view that packs for others.
    let ordinary = Server::replica_of(Kind::Redis70, far.addr("all"))?;
    let writer = workload.in_background(primary.addr(), 20_000);
    for round in 0..12_u64 {
        let goal = writer.sent() + 200;
        wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        for tap in &taps {
            let links = tap.accepted();
            tap.chunk(Way::Down, [usize::MAX, 1, 7, 1000][round as usize % 4]);
            match round % 3 {
                0 => drop(tap.cut()),
                1 => tap.cut_after(Way::Down, 1 + round * 400),
                _ => tap.damage_after(Way::Down, 1 + round * 400),
            }
            wait_for("a new link", PATIENCE, || Ok(tap.accepted() > links))?;
            tap.heal();
        }
    }
    writer.stop()?;
    for ((replica, view), near) in replicas.iter().zip(views).zip(&nears) {
        assert_same(&primary, replica, view, PATIENCE)?;
        ensure!(near.events("full-sync-done") == 1, "one snapshot was enough\n{}", near.context());
    }
    assert_same(&primary, &ordinary, View::IDENTITY, PATIENCE)?;
    let forks = primary.client()?.info_field("stats", "sync_full")?;
    ensure!(forks == "1", "the primary made {forks} full syncs\n{}", far.context());
    Ok(())
}

#[test]
fn a_cut_in_the_middle_of_a_packed_snapshot_costs_a_chunk_and_not_the_snapshot() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &["--rdbcompression", "no"])?;
    fill(&primary)?;
    let far = far(&primary)?;
    // How much it is when nothing happens.
    let straight = Tap::new(far.addr("all"))?;
    let first = near(straight.addr(), "lz4")?;
    wait_synced(&first)?;
    let whole = straight.passed(Way::Down);
    ensure!(first.info("all", "proxy", "upstream_pack")? == "lz4", "it is not packed\n{}", first.context());
    let raw = first.info("all", "proxy", "snapshot_bytes")?.parse::<u64>()?;
    ensure!(whole > 8 * CHUNK_BYTES && whole < raw * 4 / 5, "{raw} bytes are packed into {whole}");

    let cut = Tap::new(far.addr("all"))?;
    let cuts = [whole / 4, whole / 3, whole / 7];
    cut.cut_after(Way::Down, cuts[0]);
    let near = near(cut.addr(), "lz4")?;
    for (links, after) in cuts.iter().enumerate() {
        wait_for("a link that is cut", PATIENCE, || Ok(near.events("upstream-lost") > links))?;
        if let Some(next) = cuts.get(links + 1) {
            cut.cut_after(Way::Down, *next);
        }
        ensure!(*after > 0, "each cut is in the middle");
    }
    let replica = Server::replica_of(Kind::Redis70, near.addr("all"))?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    let resumes = near.info("all", "proxy", "packed_resumes_total")?;
    ensure!(resumes == "3", "it was resumed {resumes} times\n{}", near.context());
    let (passed, most) = (cut.passed(Way::Down), whole + 3 * (CHUNK_BYTES + SLACK_BYTES));
    ensure!(passed <= most, "{passed} bytes passed, where {whole} are the whole and {most} would be right");
    eprintln!("{raw} bytes packed into {whole}; with three cuts {passed} passed");
    Ok(())
}

#[test]
fn a_damaged_chunk_is_refused_and_asked_for_again() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &["--rdbcompression", "no"])?;
    fill(&primary)?;
    let far = far(&primary)?;
    let tap = Tap::new(far.addr("all"))?;
    tap.damage_after(Way::Down, 5 * CHUNK_BYTES);
    let near = near(tap.addr(), "lz4")?;
    let replica = Server::replica_of(Kind::Redis70, near.addr("all"))?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    ensure!(near.info("all", "proxy", "packed_resumes_total")? == "1", "it was not resumed\n{}", near.context());
    let log = near.log();
    ensure!(log.contains("upstream: packed bytes, chunk "), "the damage is not told\n{}", near.context());
    Ok(())
}

/// The codec of a format of its own, which does what `mode` says.
fn hostile(config: Config, dir: &TempDir, mode: &str) -> Result<Config> {
    let path = dir.path().join("hostile.wasm");
    std::fs::write(&path, sluicegate_bundle::HOSTILE)?;
    Ok(config.codec_from("own", &format!("path = {path:?}\nconfig = {{ mode = {mode:?} }}")))
}

#[test]
fn ends_that_pack_differently_speak_the_ordinary_protocol() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let primary = Server::start(Kind::Redis70, &[])?;
    primary.client()?.run("SET a 1")?;
    let far = far(&primary)?;
    let config = Config::new(far.addr("all")).upstream_line("pack = \"own\"").view("all", &[]);
    let near = Proxy::start(hostile(config, &dir, "honest")?)?;
    let replica = Server::replica_of(Kind::Redis70, near.addr("all"))?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    primary.client()?.run("SET b 2")?;
    assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
    ensure!(near.info("all", "proxy", "upstream_pack")? == "no", "{}", near.context());
    ensure!(far.events("not-packed") == 1, "the far end does not say why\n{}", far.context());
    Ok(())
}

#[test]
fn a_codec_that_fails_or_lies_costs_the_packing_and_not_a_byte() -> Result<()> {
    for mode in ["encode-trap", "encode-forgets"] {
        let dir = tempfile::tempdir()?;
        let primary = Server::start(Kind::Redis70, &[])?;
        primary.client()?.run("SET a 1")?;
        let config = Config::new(primary.addr()).view_with("all", &[], "pack = \"own\"");
        let far = Proxy::start(hostile(config, &dir, mode)?)?;
        let config = Config::new(far.addr("all")).upstream_line("pack = \"own\"").view("all", &[]);
        let near = Proxy::start(hostile(config, &dir, "honest")?)?;
        let replica = Server::replica_of(Kind::Redis70, near.addr("all"))?;
        primary.client()?.run("SET b 2")?;
        assert_same(&primary, &replica, View::IDENTITY, PATIENCE)?;
        ensure!(far.events("pack-failed") == 1, "{mode}: the far end does not say why\n{}", far.context());
        ensure!(far.log().contains("plugin 'own'"), "{mode}: the plugin is not named\n{}", far.context());
    }
    Ok(())
}
