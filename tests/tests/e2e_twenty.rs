//! Twenty replicas of three kinds, in four unlike views, join one primary at different times while it is
//! written to. It makes one snapshot for all of them, and each ends with exactly its view.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, FILTERED, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Workload;

/// Replicas; a fourth of them in each view.
const REPLICAS: usize = 20;
/// What they are, in turn: each view has all kinds.
const KINDS: [Kind; 3] = [Kind::Redis70, Kind::Redis82, Kind::Valkey91];
/// Commands that the primary takes between one replica and the next.
const BETWEEN: u64 = 150;
/// Replicas that join at once, before the proxy itself has the snapshot.
const AT_ONCE: usize = 5;

/// The views, by name, with their plugins.
fn views() -> [(&'static str, &'static [&'static str], View); 4] {
    let named = View { keeps: View::MEMBERS.keeps, renames: <[u8]>::to_vec };
    let renamed = View { keeps: View::IDENTITY.keeps, renames: View::MEMBERS.renames };
    [
        ("all", &[], View::IDENTITY),
        ("members", FILTERED, View::MEMBERS),
        ("named", &["members"], named),
        ("renamed", &["shorter"], renamed),
    ]
}

#[test]
fn twenty_unlike_replicas_cost_the_primary_one_fork() -> Result<()> {
    if KINDS.iter().any(|kind| kind.find_or_say().is_none()) {
        return Ok(());
    }
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut client = primary.client()?;
    let mut workload = Workload::new(51, Kind::Redis70, Kind::Valkey91);
    workload.write(&mut client, 4_000)?;
    let forks = client.info_field("stats", "total_forks")?;
    ensure!(forks == "0", "{forks} forks before anybody came");

    let writer = workload.in_background(primary.addr(), 2_000);
    let mut config = Config::new(primary.addr());
    for (name, pipeline, _) in views() {
        config = config.view(name, pipeline);
    }
    let proxy = Proxy::start(config)?;
    let mut replicas = Vec::new();
    for nth in 0..REPLICAS {
        if nth >= AT_ONCE {
            let goal = writer.sent() + BETWEEN;
            wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        }
        let (name, _, view) = views()[nth % 4];
        let kind = KINDS[nth % KINDS.len()];
        replicas.push((name, view, Server::replica_of(kind, proxy.addr(name))?));
    }
    for (name, _, replica) in &replicas {
        replica.wait_link_up().with_context(|| format!("{name}, {:?}\n{}", replica.kind(), proxy.context()))?;
    }
    let goal = writer.sent() + BETWEEN;
    wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
    writer.stop()?;

    let mut compared: BTreeMap<_, usize> = BTreeMap::new();
    for (name, view, replica) in &replicas {
        let keys = assert_same(&primary, replica, *view, PATIENCE)
            .with_context(|| format!("{name}, {:?}\n{}", replica.kind(), proxy.context()))?;
        ensure!(keys > 50, "only {keys} keys of {name} were compared");
        *compared.entry((name, format!("{:?}", replica.kind()))).or_default() += keys;
        let syncs = replica.log().matches("Full resync from").count();
        ensure!(syncs == 1, "{name}, {:?}: {syncs} full syncs\n{}", replica.kind(), replica.log());
    }
    eprintln!("keys compared: {compared:?}");
    ensure!(compared.len() == 4 * KINDS.len(), "every view has every kind: {compared:?}");
    let forks = client.info_field("stats", "total_forks")?;
    ensure!(forks == "1", "the primary forked {forks} times\n{}", proxy.context());
    let full_syncs = client.info_field("stats", "sync_full")?;
    ensure!(full_syncs == "1", "the primary made {full_syncs} full syncs\n{}", proxy.context());
    Ok(())
}
