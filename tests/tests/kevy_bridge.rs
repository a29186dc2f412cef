//! Primaries and replicas that kevy itself does not join: their handshakes have differed since 4.0.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::wait::PATIENCE;

fn bridge(primary: Version, replica: Version, seed: u64) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    eprintln!("{primary:?} → {replica:?}");
    let mut primary = KevyServer::primary(primary, 2)?;
    let mut client = primary.client()?;
    // What both know.
    let mut workload = Workload::new(seed, primary.version().min(replica)).without_trims();
    workload.write(&mut client, 3_000)?;
    let mut proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views())?;
    let all = KevyServer::replica(replica, 2, proxy.addr("all").port())?;
    let members = KevyServer::replica(replica, 2, proxy.addr("members").port())?;
    let check = |proxy: &Proxy, primary: &KevyServer, after: &str| -> Result<()> {
        for (replica, view) in [(&all, View::IDENTITY), (&members, View::MEMBERS)] {
            let equal = assert_same(primary, replica, view, PATIENCE)
                .with_context(|| format!("after {after}\n{}\nthe replica:\n{}", proxy.context(), replica.log()))?;
            ensure!(equal > 50, "only {equal} keys were compared");
        }
        Ok(())
    };
    check(&proxy, &primary, "the initial sync")?;
    for replica in [&all, &members] {
        replica.wait_link_up()?;
    }
    workload.write(&mut client, 3_000)?;
    check(&proxy, &primary, "live writes")?;

    // Everything that is left of the beginning is a snapshot, then.
    ensure!(proxy.terminate()? == 0, "a clean end\n{}", proxy.context());
    workload.write(&mut client, 500)?;
    proxy.start_again()?;
    workload.write(&mut client, 500)?;
    check(&proxy, &primary, "a restart of the proxy")?;
    ensure!(primary.is_alive()?, "the primary died: {}", primary.log());
    Ok(())
}

#[test]
fn a_3_17_primary_feeds_a_7_0_replica() -> Result<()> {
    bridge(Version::V317, Version::V70, 41)
}

#[test]
fn a_3_17_primary_feeds_a_6_4_replica() -> Result<()> {
    bridge(Version::V317, Version::V64, 42)
}

/// The other way round it would lose data: the stream has commands that the replica takes and does not apply.
#[test]
fn a_3_17_replica_of_a_6_4_primary_is_refused_and_keeps_its_data() -> Result<()> {
    for old in [Version::V317, Version::V119] {
        if Version::V64.find_or_say().is_none() || old.find_or_say().is_none() {
            continue;
        }
        let primary = KevyServer::primary(Version::V64, 2)?;
        primary.client()?.run("SET user:1 new")?;
        let proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views())?;
        for view in ["all", "members"] {
            let mut replica = KevyServer::primary(old, 2)?;
            replica.client()?.run("SET old data")?;
            replica.follow(proxy.addr(view).port())?;
            let line = proxy.wait_log(&["replica", &format!("'{view}'"), "refused", "older"])?;
            eprintln!("{old:?}: {line}");
            let mut client = replica.client()?;
            ensure!(client.run("GET old")?.text() == "data", "{old:?}: the replica lost its data\n{}", replica.log());
            ensure!(client.run("DBSIZE")?.int() == Some(1), "{old:?}: the replica got something");
        }
        // A younger one is served all the same.
        let replica = KevyServer::replica(Version::V64, 2, proxy.addr("all").port())?;
        assert_same(&primary, &replica, View::IDENTITY, PATIENCE).with_context(|| proxy.context())?;
    }
    Ok(())
}

#[test]
fn a_1_19_primary_feeds_a_6_4_replica() -> Result<()> {
    bridge(Version::V119, Version::V64, 44)
}
