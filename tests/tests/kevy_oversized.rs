//! Frames that no kevy sends: above 262,144 bytes its own link stands still for ever, and says that it is up.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::fake_primary::{FakePrimary, Session};
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::mini_replica::MiniReplica;
use sluicegate_tests::kevy::snapshot::Snapshot;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::wait::PATIENCE;

const MIB: usize = 1 << 20;

fn value(bytes: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(bytes).collect()
}

fn comes_through(version: Version) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let primary = KevyServer::primary(version, 2)?;
    let mut client = primary.client()?;
    let mut workload = Workload::new(31, version);
    workload.write(&mut client, 1_000)?;
    let direct = KevyServer::replica(version, 2, primary.base())?;
    assert_same(&primary, &direct, View::IDENTITY, PATIENCE)?;
    let proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views())?;
    let all = KevyServer::replica(version, 2, proxy.addr("all").port())?;
    let members = KevyServer::replica(version, 2, proxy.addr("members").port())?;
    let check = |after: &str| -> Result<()> {
        for (replica, view) in [(&all, View::IDENTITY), (&members, View::MEMBERS)] {
            assert_same(&primary, replica, view, PATIENCE).with_context(|| format!("{after}\n{}", proxy.context()))?;
        }
        Ok(())
    };
    check("the initial sync")?;

    client.call(&[b"SET".as_slice(), b"user:big", &value(MIB)])?;
    workload.write(&mut client, 500)?;
    check("a value of 1 MiB")?;
    for (replica, name) in [(&all, "user:big"), (&members, "u:big")] {
        let length = replica.client()?.run(&format!("STRLEN {name}"))?.int();
        ensure!(length == Some(MIB as i64), "{name} has {length:?} bytes\n{}", proxy.context());
    }
    // The fault is kevy's: its own replica still waits, and believes that all is well.
    let direct_length = direct.client()?.run("STRLEN user:big")?.int();
    let up = direct.client()?.info_field("replication", "master_link_status")?;
    ensure!(direct_length == Some(0) && up == "up", "the direct replica has {direct_length:?} bytes, its link is {up}");
    let line = proxy.wait_log(&["primary", "does not send", "256 KiB"])?;
    eprintln!("{line}");

    // What stands in a snapshot goes on in the stream.
    client.run("APPEND user:big and-a-tail")?;
    workload.write(&mut client, 500)?;
    check("more writes to it")?;
    // And once more, on links that have seen it all before.
    client.call(&[b"SET".as_slice(), b"sess:big", &value(2 * MIB)])?;
    check("a value of 2 MiB")
}

#[test]
fn a_value_that_wedges_a_direct_link_comes_through_a_view() -> Result<()> {
    comes_through(Version::V64)
}

#[test]
fn a_value_that_wedges_a_direct_link_of_7_0_comes_through_a_view() -> Result<()> {
    comes_through(Version::V70)
}

#[test]
fn a_frame_larger_than_one_turn_goes_out() -> Result<()> {
    let body = Snapshot::default().string(b"user:1", b"good").end();
    let fake = FakePrimary::start(1, vec![Session::good(&body, 100)])?;
    let mut proxy = Proxy::start(Config::kevy(fake.addr(), 1).upstream_line("dialect = \"k3\"").both_views())?;
    let mut all = MiniReplica::join(proxy.addr("all"), 1, PATIENCE).with_context(|| proxy.context())?;
    let mut members = MiniReplica::join(proxy.addr("members"), 1, PATIENCE).with_context(|| proxy.context())?;
    let mut real = Vec::new();
    // Older ones than the primary are refused.
    for version in Version::all_found().into_iter().filter(|version| version.names_generations()) {
        for (view, name) in [("all", "user:big"), ("members", "u:big")] {
            let replica = KevyServer::replica(version, 1, proxy.addr(view).port())?;
            replica.wait_for("the snapshot", PATIENCE, |c| Ok(c.run("DBSIZE")?.int() > Some(0)))?;
            real.push((replica, name));
        }
    }
    for bytes in [262_144, MIB, 20 * MIB] {
        fake.write(0, &[b"SET".as_slice(), b"user:big", &value(bytes)])?;
        let mark = format!("behind-{bytes}");
        fake.write(0, &["SET", "user:after", &mark])?;
        for (replica, name) in [(&mut all, b"user:big".as_slice()), (&mut members, b"u:big")] {
            replica.read_until(mark.as_bytes(), PATIENCE).with_context(|| proxy.context())?;
            let wanted = [b"SET".as_slice(), name, &value(bytes)];
            ensure!(replica.links[0].frames.iter().any(|frame| frame == &wanted), "{bytes} bytes did not arrive whole");
        }
        for (replica, name) in &real {
            replica
                .wait_for("the large value", PATIENCE, |c| {
                    Ok(c.run(&format!("STRLEN {name}"))?.int() == Some(bytes as i64))
                })
                .with_context(|| format!("{bytes} bytes, {:?}\n{}", replica.version(), proxy.context()))?;
        }
    }
    ensure!(all.reconnects + members.reconnects == 0, "links broke\n{}", proxy.context());
    proxy.check_alive()
}
