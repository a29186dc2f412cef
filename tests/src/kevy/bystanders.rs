//! A proxy behind a fake primary, and what has to hold of it whatever a peer has done: both of its views serve a newcomer, and
//! nothing that was bad is in them.

use anyhow::{Context, Result, ensure};

use super::fake_primary::{FakePrimary, Session};
use super::mini_replica::MiniReplica;
use super::snapshot::Snapshot;
use crate::proxy::{Config, Proxy};
use crate::wait::PATIENCE;

/// How many shards the fake primary and both views have.
pub const SHARDS: u16 = 2;
/// Stands in the key of all that is bad, whatever a view calls it; nobody may ever see it.
pub const BAD: &[u8] = b"half-loaded";

/// A session as it should be: one key that both views have, one that only the whole view has; frame 100 is next.
pub fn good() -> Session {
    Session::good(&Snapshot::default().string(b"user:1", b"good").string(b"tmp:1", b"t").end(), 100)
}

/// A proxy of that primary.
pub fn config(fake: &FakePrimary) -> Config {
    Config::kevy(fake.addr(), SHARDS).upstream_line("dialect = \"k3\"")
}

/// A replica of all shards of a view.
pub fn join(proxy: &Proxy, view: &str) -> Result<MiniReplica> {
    MiniReplica::join(proxy.addr(view), SHARDS, PATIENCE).with_context(|| format!("view {view}\n{}", proxy.context()))
}

/// Both views give a newcomer the good key, and nothing bad.
pub fn serves(proxy: &Proxy, case: &str) -> Result<()> {
    for (view, name) in [("all", b"user:1".as_slice()), ("members", b"u:1")] {
        let mut replica = join(proxy, view).context(case.to_owned())?;
        replica.read_until(name, PATIENCE).with_context(|| format!("{case}: view {view}\n{}", proxy.context()))?;
        ensure!(!replica.has(BAD), "{case}: view {view} served what is bad");
        ensure!(replica.has(b"tmp:1") == (view == "all"), "{case}: view {view} is not what it should be");
    }
    ensure!(!proxy.log().contains("panicked"), "{case}: a panic\n{}", proxy.context());
    Ok(())
}

/// A proxy behind a good primary, a replica on each view, and one frame that has come through to both.
pub fn settled(config: impl FnOnce(Config) -> Config) -> Result<(FakePrimary, Proxy, MiniReplica, MiniReplica)> {
    let fake = FakePrimary::start(SHARDS, vec![good()])?;
    let proxy = Proxy::start(config(self::config(&fake)))?;
    let (mut all, mut members) = (join(&proxy, "all")?, join(&proxy, "members")?);
    fake.write(0, &["SET", "user:2", "all-is-well"])?;
    all.read_until(b"all-is-well", PATIENCE).with_context(|| proxy.context())?;
    members.read_until(b"all-is-well", PATIENCE).with_context(|| proxy.context())?;
    Ok((fake, proxy, all, members))
}
