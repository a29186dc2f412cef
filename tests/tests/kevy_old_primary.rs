//! Primaries up to 3.18 die, all of them, of one replica link that is reset. However the proxy leaves, they must not notice.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::mini_replica::Link;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::wait::{PATIENCE, wait_for};

/// Ends of the proxy under load.
const ENDS: usize = 6;

fn survives(version: Version, seed: u64) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    let mut primary = KevyServer::primary(version, 2)?;
    let mut workload = Workload::new(seed, version);
    workload.write(&mut primary.client()?, 3_000)?;
    // Values that keep much on its way at any moment.
    let mut client = primary.client()?;
    for n in 0..40 {
        client.call(&[b"SET".as_slice(), format!("user:large:{n}").as_bytes(), &vec![b'v'; 200_000]])?;
    }
    let mut proxy = Proxy::start(Config::kevy(primary.shard_addr(0), 2).both_views())?;
    let writer = workload.in_background(primary.addr(), 4_000);
    for end in 0..ENDS {
        if end > 0 {
            proxy.start_again()?;
        }
        let seen = proxy.events("full-sync-start");
        if end % 2 == 0 {
            // With a stream under way.
            let replica = KevyServer::replica(version, 2, proxy.addr("all").port())?;
            replica
                .wait_for("something to come through", PATIENCE, |c| Ok(c.run("DBSIZE")?.int() > Some(10)))
                .with_context(|| proxy.context())?;
        } else {
            // In the middle of whatever it does first.
            std::thread::sleep(std::time::Duration::from_millis(30 * end as u64));
        }
        ensure!(proxy.terminate()? == 0, "end {end} is not clean\n{}", proxy.context());
        ensure!(primary.is_alive()?, "the primary died of end {end}, {seen} full syncs\n{}", proxy.context());
    }
    writer.stop()?;
    ensure!(primary.is_alive()?, "the primary died: {}", primary.log());
    proxy.start_again()?;
    let replica = KevyServer::replica(version, 2, proxy.addr("members").port())?;
    assert_same(&primary, &replica, View::MEMBERS, PATIENCE).with_context(|| proxy.context())?;
    Ok(())
}

#[test]
fn a_3_17_primary_survives_every_end_of_the_proxy() -> Result<()> {
    survives(Version::V317, 51)
}

#[test]
fn a_1_19_primary_survives_every_end_of_the_proxy() -> Result<()> {
    survives(Version::V119, 52)
}

/// What makes the story above worth telling: to close a link with something unread is to reset it, and that does end them.
#[test]
fn a_reset_ends_such_a_primary() -> Result<()> {
    for version in [Version::V119, Version::V317] {
        if version.find_or_say().is_none() {
            continue;
        }
        let mut primary = KevyServer::primary(version, 1)?;
        let mut client = primary.client()?;
        let link = Link::ask(primary.shard_addr(0), None, 0)?;
        let value = vec![b'v'; 200_000];
        for n in 0..20 {
            client.call(&[b"SET".as_slice(), format!("k:{n}").as_bytes(), &value])?;
        }
        link.wait_unread(PATIENCE)?;
        drop(link);
        wait_for("the end of a primary that was reset", PATIENCE, || {
            // It notices when it has something to say.
            client.ask(&["SET", "k", "v"]).ok();
            Ok(!primary.is_alive()?)
        })
        .with_context(|| format!("{version:?} bears a reset: the rule is not needed for it any more"))?;
    }
    Ok(())
}
