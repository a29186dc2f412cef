//! Replicas that join later are served from what the proxy has: the primary is asked for one snapshot only.

use anyhow::{Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::PATIENCE;
use sluicegate_tests::workload::Workload;

#[test]
fn two_late_replicas_cost_the_primary_nothing() -> Result<()> {
    let primary = Server::start(Kind::Redis70, &[])?;
    let mut workload = Workload::new(21, Kind::Redis70, Kind::Redis70);
    let mut client = primary.client()?;
    workload.write(&mut client, 3_000)?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;

    let mut replicas = Vec::new();
    for _ in 0..3 {
        for (name, view) in [("all", View::IDENTITY), ("members", View::MEMBERS)] {
            let replica = Server::replica_of(Kind::Redis70, proxy.addr(name))?;
            assert_same(&primary, &replica, view, PATIENCE)?;
            replicas.push((replica, view));
            // The snapshot that the next one gets is older than its stream.
            workload.write(&mut client, 1_000)?;
        }
    }
    for (replica, view) in &replicas {
        assert_same(&primary, replica, *view, PATIENCE)?;
    }
    let full_syncs = client.info_field("stats", "sync_full")?;
    ensure!(full_syncs == "1", "the primary made {full_syncs} full syncs\n{}", proxy.context());
    Ok(())
}
