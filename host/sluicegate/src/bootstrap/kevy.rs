//! What has to be known of a kevy primary before its machine can be made: from the configuration, or from itself.

use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::route::Routing;
use sluicegate_core::kevy::settings::Upstream;

use super::entropy;
use crate::client::{Connection, Value};
use crate::config::{ConfigError, Kevy};

/// The pause before a primary that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// A primary that says nothing for this long did not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the core is told about the primary. If it is to be asked, this waits until it answers: without it there would be
/// nothing to serve, and the ports to serve it on are not known either.
pub(super) fn settle(written: &Kevy) -> anyhow::Result<Upstream> {
    let facts = match &written.client {
        Some(client) => Some(ask_until_answered(client)?),
        None => None,
    };
    let upstream = combine(written, facts.as_ref())?;
    Ok(Upstream { id: name(), ..upstream })
}

/// What we call ourselves: primaries below 4.0 keep one place for each name, so two of us must not share one.
fn name() -> String {
    let random = entropy();
    random.iter().take(4).fold("sluicegate-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// The configuration goes first, but where the two cannot both be right nothing good would come of it.
fn combine(written: &Kevy, facts: Option<&Facts>) -> Result<Upstream, ConfigError> {
    let shards = match (written.shards, facts) {
        (Some(shards), Some(facts)) if shards != facts.shards => {
            let found = facts.shards;
            return Err(ConfigError(format!(
                "`upstream.shards` is {shards}, but the primary has {found}: leave it out, and it will be asked"
            )));
        }
        (Some(shards), _) => shards,
        (None, Some(facts)) => facts.shards,
        (None, None) => return Err(ConfigError("`upstream.shards` is not known".into())),
    };
    written.check_ports(shards).map_err(ConfigError)?;
    let mut upstream = Upstream::new(&written.host, written.port_base, shards);
    upstream.dialect = written.dialect.or(facts.map(|facts| facts.dialect));
    upstream.routing = written.routing.or(facts.map(|facts| facts.routing)).unwrap_or(Routing::Hashtag);
    upstream.timeout_ms = written.patience.timeout_ms;
    (upstream.backoff_min_ms, upstream.backoff_max_ms) = written.patience.backoff_ms;
    Ok(upstream)
}

/// What a primary says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    shards: usize,
    dialect: Dialect,
    routing: Routing,
}

fn ask_until_answered(client: &(String, u16)) -> anyhow::Result<Facts> {
    let (host, port) = client;
    loop {
        match ask(client) {
            Ok(facts) => {
                tracing::info!(
                    event = "primary",
                    "the primary at {host}:{port} has {} shards, speaks {:?} and routes by {:?}",
                    facts.shards,
                    facts.dialect,
                    facts.routing,
                );
                return Ok(facts);
            }
            // An answer that will not change.
            Err(error) if error.is::<ConfigError>() => return Err(error),
            Err(error) => {
                tracing::warn!(
                    event = "primary-unreachable",
                    "cannot ask the primary at {host}:{port} for its shards: {error:#}; asking again in {} s",
                    AGAIN.as_secs(),
                );
                thread::sleep(AGAIN);
            }
        }
    }
}

fn ask(client: &(String, u16)) -> anyhow::Result<Facts> {
    let mut link = Connection::dial(client, PATIENCE)?;
    let hello = link.call(&["HELLO"])?;
    let field = |name: &str| value_behind(&hello, name);
    let server = field("server").unwrap_or_default();
    if server != "kevy" {
        bail!(ConfigError(format!("what answers at `upstream.client_address` is no kevy: it says it is `{server}`")));
    }
    let version = field("version").context("it does not say its version")?;
    let shards = setting(&mut link, "io-threads")?.context("it does not say how many shards it has")?;
    let shards = shards.parse().ok().filter(|shards| *shards > 0);
    let shards = shards.ok_or_else(|| anyhow!("it does not say how many shards it has"))?;
    let in_cluster = setting(&mut link, "cluster-enabled")?.is_some_and(|value| value == "yes");
    let (dialect, routing) = of_version(&version, in_cluster)?;
    Ok(Facts { shards, dialect, routing })
}

fn setting(link: &mut Connection, name: &str) -> anyhow::Result<Option<String>> {
    Ok(value_behind(&link.call(&["CONFIG", "GET", name])?, name))
}

/// The value of a name, in a list of names and values.
fn value_behind(list: &Value, name: &str) -> Option<String> {
    let pairs = list.elements().chunks_exact(2);
    pairs.filter(|pair| pair[0].text() == name).map(|pair| pair[1].text()).next()
}

/// What a version speaks, and how it routes keys.
fn of_version(version: &str, in_cluster: bool) -> anyhow::Result<(Dialect, Routing)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        bail!("it says that it is version `{version}`");
    };
    let dialect = match (major, minor) {
        (..1, _) | (1, ..18) => {
            bail!(ConfigError(format!("the primary is kevy {version}, which has no replication: that came with 1.18")))
        }
        (1 | 2, _) | (3, ..14) => Dialect::K1,
        (3, _) => Dialect::K2,
        _ => Dialect::K3,
    };
    let routing = match (major, minor) {
        _ if in_cluster => Routing::Slots,
        (1, ..27) => Routing::WholeKey,
        _ => Routing::Hashtag,
    };
    Ok((dialect, routing))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::Patience;

    fn written(shards: Option<usize>) -> Kevy {
        let patience = Patience { timeout_ms: 60_000, backoff_ms: (200, 10_000) };
        let host = "db".into();
        Kevy { host, port_base: 16379, shards, client: None, dialect: None, routing: None, patience }
    }

    #[test]
    fn the_version_decides_what_is_spoken() {
        for (version, dialect, routing) in [
            ("1.18.0", Dialect::K1, Routing::WholeKey),
            ("1.27.0", Dialect::K1, Routing::Hashtag),
            ("3.8.0", Dialect::K1, Routing::Hashtag),
            ("3.17.3", Dialect::K2, Routing::Hashtag),
            ("4.0.0", Dialect::K3, Routing::Hashtag),
            ("12.1.0-rc1", Dialect::K3, Routing::Hashtag),
        ] {
            assert_eq!(of_version(version, false).ok(), Some((dialect, routing)), "{version}");
            assert_eq!(of_version(version, true).ok(), Some((dialect, Routing::Slots)), "{version}");
        }
        for version in ["", "7", "x.y", "1.17.0", "0.9.0"] {
            assert!(of_version(version, false).is_err(), "{version}");
        }
    }

    #[test]
    fn what_is_written_goes_before_what_was_found() {
        let facts = Facts { shards: 4, dialect: Dialect::K3, routing: Routing::Slots };
        let found = combine(&written(None), Some(&facts)).expect("all is known");
        assert_eq!((found.shards, found.dialect, found.routing), (4, Some(Dialect::K3), Routing::Slots));
        let mut kevy = written(Some(4));
        kevy.routing = Some(Routing::WholeKey);
        assert_eq!(combine(&kevy, Some(&facts)).map(|found| found.routing).ok(), Some(Routing::WholeKey));
        let alone = combine(&written(Some(2)), None).expect("all that is needed");
        assert_eq!((alone.shards, alone.dialect, alone.routing), (2, None, Routing::Hashtag));
        assert!(combine(&written(Some(2)), Some(&facts)).is_err_and(|why| why.0.contains("has 4")));
        assert!(combine(&written(Some(60_000)), None).is_err_and(|why| why.0.contains("65535")));
        assert!(combine(&written(None), None).is_err());
    }

    /// Answers a client, in this order.
    fn server(answers: &'static [&'static str]) -> (String, u16) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            for answer in answers {
                let _ = reader.read(&mut [0; 4096]);
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        ("127.0.0.1".into(), port)
    }

    /// What 6.4 says.
    const HELLO: &str = "*14\r\n$6\r\nserver\r\n$4\r\nkevy\r\n$7\r\nversion\r\n$5\r\n6.4.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:0\r\n\
                         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    const THREADS: &str = "*2\r\n$10\r\nio-threads\r\n$1\r\n3\r\n";

    #[test]
    fn a_primary_is_asked_for_what_it_is() {
        let client = server(&[HELLO, THREADS, "*2\r\n$15\r\ncluster-enabled\r\n$2\r\nno\r\n"]);
        let facts = ask(&client).expect("answers");
        assert_eq!(facts, Facts { shards: 3, dialect: Dialect::K3, routing: Routing::Hashtag });
        let facts = ask(&server(&[HELLO, THREADS, "*2\r\n$15\r\ncluster-enabled\r\n$3\r\nyes\r\n"])).expect("answers");
        assert_eq!(facts.routing, Routing::Slots);
        // What is not a fact about the primary may be otherwise the next time.
        for answers in
            [&["-LOADING\r\n"][..], &[HELLO, "*0\r\n"], &[HELLO, "*2\r\n$10\r\nio-threads\r\n$1\r\n0\r\n"], &[]]
        {
            assert!(ask(&server(answers)).is_err_and(|error| !error.is::<ConfigError>()), "{answers:?}");
        }
        let other = ask(&server(&["*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n"]));
        assert!(other.is_err_and(|error| error.is::<ConfigError>()));
    }
}
