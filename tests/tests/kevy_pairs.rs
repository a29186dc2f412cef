//! Real kevy primaries and real kevy replicas, with the proxy between them: the identity view and a filtered and renamed one
//! at once, each with a replica of its own. After everything that happens to links and servers, each holds exactly its view.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::View;
use sluicegate_tests::kevy::holdings::assert_same;
use sluicegate_tests::kevy::workload::Workload;
use sluicegate_tests::kevy::{KevyServer, Version};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::tap::{Tap, Way};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::Writer;

/// Shards of the primary, the views and the replicas.
const SHARDS: u16 = 2;
/// Cuts of each link: there are two to the primary, and four to replicas.
const CUTS_PER_LINK: u64 = 30;

/// A primary, the proxy, and a replica of each view, with a tap on the link of every shard.
struct Stage {
    primary: KevyServer,
    upstream: Vec<Tap>,
    proxy: Proxy,
    all: Branch,
    members: Branch,
    rng: fastrand::Rng,
}

/// A view's replica behind taps.
struct Branch {
    taps: Vec<Tap>,
    replica: KevyServer,
    view: View,
}

impl Branch {
    fn new(proxy: &Proxy, name: &str, version: Version, view: View) -> Result<Self> {
        let taps = Tap::row(proxy.addr(name), SHARDS)?;
        let replica = KevyServer::replica(version, SHARDS, taps[0].addr().port())?;
        Ok(Self { taps, replica, view })
    }

    /// A replica of 1.19 loads a snapshot on top of what it has, wherever it comes from: only an empty one comes out right.
    fn restart_replica(&mut self) -> Result<()> {
        if self.replica.version() == Version::V119 {
            self.replica.kill9()?;
            return self.replica.start_again();
        }
        self.replica.restart_with_data()
    }
}

impl Stage {
    fn new(version: Version, workload: &mut Workload) -> Result<Self> {
        let primary = KevyServer::primary(version, SHARDS)?;
        workload.write(&mut primary.client()?, 4_000)?;
        let target = primary.shard_addr(0);
        let upstream =
            if version.names_generations() { Tap::row(target, SHARDS)? } else { Tap::gentle_row(target, SHARDS)? };
        let proxy = Proxy::start(Config::kevy(upstream[0].addr(), SHARDS).both_views())?;
        let all = Branch::new(&proxy, "all", version, View::IDENTITY)?;
        let members = Branch::new(&proxy, "members", version, View::MEMBERS)?;
        Ok(Self { primary, upstream, proxy, all, members, rng: fastrand::Rng::with_seed(7) })
    }

    /// Both replicas hold exactly their view of the primary.
    fn check(&self, after: &str) -> Result<()> {
        let started = std::time::Instant::now();
        for (name, branch) in [("all", &self.all), ("members", &self.members)] {
            let equal = assert_same(&self.primary, &branch.replica, branch.view, PATIENCE)
                .with_context(|| format!("view {name}, after {after}\n{}", self.proxy.context()))?;
            ensure!(equal > 50, "only {equal} keys were compared");
        }
        eprintln!("  equal after {after} ({:.1} s)", started.elapsed().as_secs_f32());
        Ok(())
    }

    /// Cuts links in many ways, while the primary is written to.
    fn cut_links(&mut self, which: Which, rounds: u64, writer: &Writer<Workload>) -> Result<()> {
        let taps: Vec<&Tap> = match which {
            Which::Upstream => self.upstream.iter().collect(),
            Which::Replicas => self.all.taps.iter().chain(&self.members.taps).collect(),
            Which::All => self.upstream.iter().chain(&self.all.taps).chain(&self.members.taps).collect(),
        };
        for round in 0..rounds {
            let mut wanted = Vec::new();
            for tap in &taps {
                wanted.push(tap.accepted() + 1);
                tap.chunk(Way::Down, [usize::MAX, 1, 7, 1000][self.rng.usize(0..4)]);
                match round % 3 {
                    0 => {
                        tap.cut();
                    }
                    // In the middle of whatever passes then.
                    1 => tap.cut_after(Way::Down, self.rng.u64(1..5_000)),
                    // And in the middle of the handshake that follows.
                    _ => {
                        tap.cut_after(Way::Up, self.rng.u64(1..50));
                        tap.cut();
                    }
                }
            }
            for (tap, wanted) in taps.iter().zip(wanted) {
                wait_for("a link that was cut to be made again", PATIENCE, || Ok(tap.accepted() >= wanted))
                    .with_context(|| self.proxy.context())?;
                tap.heal();
            }
            let goal = writer.sent() + 128;
            wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Upstream,
    Replicas,
    All,
}

fn pair(version: Version, seed: u64) -> Result<()> {
    if version.find_or_say().is_none() {
        return Ok(());
    }
    eprintln!("{version:?}");
    let mut workload = Workload::new(seed, version);
    if version >= Version::V64 {
        workload = workload.with_many_keys();
    }
    let mut stage = Stage::new(version, &mut workload)?;
    stage.check("the initial sync")?;

    workload.write(&mut stage.primary.client()?, 3_000)?;
    stage.check("live writes")?;

    let (starts, snapshots) = (stage.proxy.events("full-sync-start"), stage.proxy.events("snapshot-sent"));
    let writer = workload.in_background(stage.primary.addr(), 4_000);
    stage.cut_links(Which::Replicas, CUTS_PER_LINK, &writer)?;
    let mut workload = writer.stop()?;
    stage.check("cuts of the links to replicas")?;
    let sent = stage.proxy.events("snapshot-sent") - snapshots;
    ensure!(sent == 0, "cut links made {sent} snapshots for replicas\n{}", stage.proxy.context());

    let writer = workload.in_background(stage.primary.addr(), 4_000);
    stage.cut_links(Which::Upstream, CUTS_PER_LINK, &writer)?;
    stage.cut_links(Which::All, 6, &writer)?;
    workload = writer.stop()?;
    if version == Version::V119 {
        stage.all.restart_replica()?;
        stage.members.restart_replica()?;
    }
    stage.check("cuts of the links to the primary, and of all links at once")?;
    let full_syncs = stage.proxy.events("full-sync-start") - starts;
    if version.names_generations() {
        ensure!(full_syncs == 0, "cut links made {full_syncs} full syncs\n{}", stage.proxy.context());
    } else {
        eprintln!(
            "  left out: no full syncs by cuts (up to 3.18 what was sent counts as received, so snapshots follow)"
        );
    }

    stage.all.restart_replica()?;
    stage.members.restart_replica()?;
    workload.write(&mut stage.primary.client()?, 500)?;
    stage.check("a restart of the replicas")?;

    if version == Version::V119 {
        eprintln!("  left out: a restart of the primary (1.19 forgets its place, and tells nobody of what it loads)");
        eprintln!("  left out: FLUSHALL (1.19 does not replicate it)");
    } else {
        stage.primary.restart_with_data()?;
        workload.write(&mut stage.primary.client()?, 500)?;
        stage.check("a restart of the primary with its history")?;

        stage.primary.client()?.run("FLUSHALL")?;
        workload.write(&mut stage.primary.client()?, 1_000)?;
        stage.check("FLUSHALL and new writes")?;

        // What was last saved, or nothing: older than what the views have.
        stage.primary.kill9()?;
        stage.primary.start_again()?;
        workload.write(&mut stage.primary.client()?, 1_000)?;
        stage.check("a restart of the primary that lost its last writes")?;
    }
    if version.names_generations() {
        let writer = workload.in_background(stage.primary.addr(), 4_000);
        stage.proxy.kill9()?;
        stage.proxy.start_again()?;
        writer.stop()?;
        stage.check("the sudden end of the proxy")?;
    } else {
        eprintln!(
            "  left out: the sudden end of the proxy (the system resets its links, which ends primaries up to 3.18)"
        );
    }
    ensure!(stage.primary.is_alive()?, "the primary died: {}", stage.primary.log());
    ensure!(stage.proxy.terminate()? == 0, "a clean end\n{}", stage.proxy.context());
    ensure!(stage.primary.is_alive()?, "the primary died when the proxy ended: {}", stage.primary.log());
    ensure!(!stage.proxy.log().contains("panicked"), "a panic\n{}", stage.proxy.context());
    Ok(())
}

#[test]
fn kevy_6_4_to_kevy_6_4() -> Result<()> {
    pair(Version::V64, 11)
}

#[test]
fn kevy_7_0_to_kevy_7_0() -> Result<()> {
    pair(Version::V70, 12)
}

#[test]
fn kevy_3_17_to_kevy_3_17() -> Result<()> {
    pair(Version::V317, 13)
}

#[test]
fn kevy_1_19_to_kevy_1_19() -> Result<()> {
    pair(Version::V119, 14)
}
