//! Real primaries and real replicas of several kinds, with the proxy between them: the identity view and a filtered and
//! renamed one at once. After everything that happens to the links and servers, each replica holds exactly its view.

use anyhow::{Context, Result, ensure};
use sluicegate_tests::compare::{View, assert_same};
use sluicegate_tests::proxy::{Config, Proxy};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::tap::{Tap, Way};
use sluicegate_tests::wait::{PATIENCE, wait_for};
use sluicegate_tests::workload::{Workload, Writer};

/// Cuts of each of the three links in one story: 102 in all.
const CUTS_PER_LINK: u64 = 34;

/// A primary, a direct replica of it, the proxy, and one replica of each view, with a tap on every link.
struct Stage {
    primary: Server,
    /// A direct replica of the primary, which will be its successor.
    heir: Server,
    upstream: Tap,
    proxy: Proxy,
    all: Branch,
    members: Branch,
    rng: fastrand::Rng,
}

/// A view's replica behind a tap.
struct Branch {
    tap: Tap,
    replica: Server,
    view: View,
}

impl Branch {
    fn new(proxy: &Proxy, name: &str, kind: Kind, view: View) -> Result<Self> {
        let tap = Tap::new(proxy.addr(name))?;
        let replica = Server::replica_of(kind, tap.addr())?;
        Ok(Self { tap, replica, view })
    }

    /// How often the replica has thrown everything away and begun anew.
    fn full_resyncs(&self) -> usize {
        self.replica.log().matches("Full resync from").count()
    }
}

impl Stage {
    fn new(primary: Kind, replica: Kind, workload: &mut Workload, upstream_line: &str) -> Result<Self> {
        let primary = Server::start(primary, &[])?;
        workload.write(&mut primary.client()?, 4_000)?;
        let heir = Server::replica_of(primary.kind(), primary.addr())?;
        heir.wait_link_up()?;
        let upstream = Tap::new(primary.addr())?;
        let proxy = Proxy::start(Config::new(upstream.addr()).upstream_line(upstream_line).both_views())?;
        let all = Branch::new(&proxy, "all", replica, View::IDENTITY)?;
        let members = Branch::new(&proxy, "members", replica, View::MEMBERS)?;
        let rng = fastrand::Rng::with_seed(7);
        Ok(Self { primary, heir, upstream, proxy, all, members, rng })
    }

    /// Both replicas hold exactly their view of the primary.
    fn check(&self, after: &str) -> Result<()> {
        let started = std::time::Instant::now();
        for (name, branch) in [("all", &self.all), ("members", &self.members)] {
            let equal = assert_same(&self.primary, &branch.replica, branch.view, PATIENCE)
                .with_context(|| format!("view {name}, after {after}\n{}", self.proxy.context()))?;
            ensure!(equal > 100, "only {equal} keys were compared");
        }
        eprintln!("  equal after {after} ({:.1} s)", started.elapsed().as_secs_f32());
        Ok(())
    }

    /// Cuts the links in turn, in many ways, while the primary is written to.
    fn cut_links(&mut self, writer: &Writer) -> Result<()> {
        for round in 0..CUTS_PER_LINK {
            for tap in [&self.upstream, &self.all.tap, &self.members.tap] {
                let links = tap.accepted();
                tap.chunk(Way::Down, [usize::MAX, 1, 7, 1000][self.rng.usize(0..4)]);
                match round % 3 {
                    0 => {
                        tap.cut();
                    }
                    // In the middle of whatever passes then.
                    1 => tap.cut_after(Way::Down, self.rng.u64(1..5_000)),
                    _ => tap.cut_after(Way::Up, self.rng.u64(1..60)),
                }
                wait_for("a link that was cut to be made again", PATIENCE, || Ok(tap.accepted() > links))?;
                tap.heal();
                let goal = writer.sent() + 64;
                wait_for("more writes", PATIENCE, || Ok(writer.sent() > goal))?;
            }
        }
        Ok(())
    }

    /// The primary dies, its direct replica takes over with a new id, and the proxy finds it at the old address.
    fn promote_heir(&mut self) -> Result<()> {
        assert_same(&self.primary, &self.heir, View::IDENTITY, PATIENCE).context("the heir, before it is promoted")?;
        self.check("the last writes to the old primary")?;
        let heir = std::mem::replace(&mut self.heir, Server::start(self.primary.kind(), &[])?);
        let mut old = std::mem::replace(&mut self.primary, heir);
        // Both of its replicas have what it sent up to this moment, and it sends no more.
        old.freeze(true)?;
        old.kill9()?;
        self.upstream.repoint(self.primary.addr());
        self.primary.promote()?;
        self.upstream.cut();
        Ok(())
    }
}

/// Redis 8.2 now and then drops its cached master when a link breaks, and then has no place to go on from; so it does when it
/// follows its primary directly (`e2e_direct` counts the full syncs).
fn forgets_its_place(replica: Kind) -> bool {
    replica == Kind::Redis82
}

fn pair(primary: Kind, replica: Kind, seed: u64, upstream_line: &str) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    eprintln!("{primary:?} → {replica:?}");
    let mut workload = Workload::new(seed, primary, replica);
    let mut stage = Stage::new(primary, replica, &mut workload, upstream_line)?;
    stage.check("the initial sync")?;

    workload.write(&mut stage.primary.client()?, 3_000)?;
    stage.check("live writes")?;

    let writer = workload.in_background(stage.primary.addr(), 4_000);
    stage.cut_links(&writer)?;
    let mut workload = writer.stop()?;
    stage.check("link cuts")?;
    for (name, branch) in [("all", &stage.all), ("members", &stage.members)] {
        let log = branch.replica.log();
        ensure!(
            branch.full_resyncs() == 1 || forgets_its_place(replica),
            "view {name}: cut links made full resyncs\n{log}\n{}",
            stage.proxy.context()
        );
    }
    let full_syncs = stage.primary.client()?.info_field("stats", "sync_full")?;
    ensure!(full_syncs == "2", "one full sync for the heir and one for the proxy, not {full_syncs}");

    stage.all.replica.restart_with_data()?;
    stage.members.replica.restart_with_data()?;
    workload.write(&mut stage.primary.client()?, 500)?;
    stage.check("a restart of the replicas")?;

    stage.primary.restart_with_data()?;
    workload.write(&mut stage.primary.client()?, 500)?;
    stage.check("a restart of the primary with its history")?;

    stage.promote_heir()?;
    let before = [stage.all.full_resyncs(), stage.members.full_resyncs()];
    workload.write(&mut stage.primary.client()?, 1_000)?;
    stage.check("the promotion of a new primary")?;
    let full_syncs = stage.primary.client()?.info_field("stats", "sync_full")?;
    ensure!(full_syncs == "0", "the new primary continues the old history, but made {full_syncs} full syncs");
    let after = [stage.all.full_resyncs(), stage.members.full_resyncs()];
    ensure!(
        before == after,
        "a promotion made full resyncs of replicas: {before:?} → {after:?}\n{}",
        stage.proxy.context()
    );

    ensure!(stage.proxy.terminate()? == 0, "a clean end\n{}", stage.proxy.context());
    Ok(())
}

#[test]
fn redis_7_to_redis_7() -> Result<()> {
    pair(Kind::Redis70, Kind::Redis70, 11, "")
}

#[test]
fn redis_8_to_redis_8() -> Result<()> {
    pair(Kind::Redis82, Kind::Redis82, 12, "")
}

#[test]
fn valkey_9_to_valkey_9() -> Result<()> {
    pair(Kind::Valkey91, Kind::Valkey91, 13, "")
}

#[test]
fn redis_7_to_valkey_9() -> Result<()> {
    pair(Kind::Redis70, Kind::Valkey91, 14, "")
}

#[test]
fn valkey_9_to_redis_8_by_announcing_a_version_that_both_speak() -> Result<()> {
    // A Valkey primary sends RDB 11 to what calls itself older than 9.
    pair(Kind::Valkey91, Kind::Redis82, 15, "announce_version = \"8.1.0\"")
}

/// A replica that cannot load the primary's snapshot is told so before it throws its own data away.
fn refused(primary: Kind, replica: Kind) -> Result<()> {
    if primary.find_or_say().is_none() || replica.find_or_say().is_none() {
        return Ok(());
    }
    let primary = Server::start(primary, &[])?;
    primary.client()?.run("SET user:1 new")?;
    let proxy = Proxy::start(Config::new(primary.addr()).both_views())?;
    for view in ["all", "members"] {
        let mut replica = Server::start(replica, &[])?;
        replica.client()?.run("SET old data")?;
        replica.follow(proxy.addr(view))?;
        let line = proxy.wait_log(&["replica", &format!("'{view}'"), "refused", "format"])?;
        eprintln!("{line}");
        let mut client = replica.client()?;
        ensure!(client.info_field("replication", "master_link_status")? == "down", "the link must not come up");
        ensure!(client.run("GET old")?.text() == "data", "the replica lost its data\n{}", replica.log());
        ensure!(client.run("DBSIZE")?.int() == Some(1), "the replica got something\n{}", replica.log());
        ensure!(!replica.log().contains("lushing old data"), "the replica was made to flush\n{}", replica.log());
    }
    Ok(())
}

#[test]
fn a_redis_7_replica_of_a_redis_8_primary_is_refused_and_keeps_its_data() -> Result<()> {
    refused(Kind::Redis82, Kind::Redis70)
}

#[test]
fn a_redis_8_replica_of_a_valkey_9_primary_is_refused_and_keeps_its_data() -> Result<()> {
    refused(Kind::Valkey91, Kind::Redis82)
}
