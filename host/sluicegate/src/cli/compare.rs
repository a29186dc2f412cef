//! `sluicegate compare`: does this replica hold exactly that view of the primary?

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::exit;
use crate::bootstrap;
use crate::client::Address;
use crate::compare::{Findings, Order};
use crate::config::{self, ConfigError, Plan, Time, Upstream};

const EXAMPLES: &str = "\
Example:
  sluicegate compare --config /etc/sluicegate/sluicegate.toml --view eu --replica 10.0.0.9:6379

Both servers are only read, and may be written to meanwhile: what looks different is read again until it is equal or has stood
for --wait while the primary's value stayed as it was. The plugins run here; the proxy is not asked and need not run.
At the replica, and at the primary for the user of the configuration, these must be allowed:
  +@read +@connection +@transaction +info +time +command +function|list ~*
Exit codes: 0 equal, 1 different, 2 nothing different but some keys undecided, 64 usage, 74 input or output, 78 configuration";

/// The least time between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The configuration: it names the primary, and says what the view is
    #[arg(short, long, value_name = "FILE", default_value = "sluicegate.toml")]
    config: PathBuf,

    /// The view that the replica is to hold
    #[arg(long, value_name = "NAME")]
    view: String,

    /// The replica
    #[arg(long, value_name = "HOST:PORT", value_parser = config::host_and_port)]
    replica: (String, u16),

    /// ACL user at the replica
    #[arg(long, value_name = "NAME", requires = "replica_password_file")]
    replica_user: Option<String>,

    /// File with the password at the replica
    #[arg(long, value_name = "FILE")]
    replica_password_file: Option<PathBuf>,

    /// How long the replica may be late: a difference that stands for longer is one
    #[arg(long, value_name = "TIME", default_value = "10s")]
    wait: Time,

    /// At how many differences to leave it
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_differences: u32,

    /// Compare this database only
    #[arg(long, value_name = "NUMBER")]
    database: Option<u32>,

    /// Set apart what servers are known to keep from any replica: keys that a failed BITFIELD makes, consumers that found
    /// nothing to read, entries that were read once more
    #[arg(long)]
    known_faults: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let plan = config::load(&self.config)?;
        let view = self.find_view(&plan)?;
        let order = self.order(&plan)?;
        let mut progress = Progress::new();
        let findings = bootstrap::compare(plan, view, &order, &mut |findings| progress.show(findings));
        progress.clear();
        let findings = findings?;
        self.print(&findings).context("standard output")?;
        Ok(match (findings.wrong(), findings.undecided()) {
            (0, 0) => exit::OK,
            (0, _) => exit::UNDECIDED,
            _ => exit::DIFFERENT,
        })
    }

    fn find_view(&self, plan: &Plan) -> Result<usize, ConfigError> {
        let names = plan.views.iter().map(|view| view.settings.name.as_str());
        names.clone().position(|name| name == self.view).ok_or_else(|| {
            let what = config::unknown("view", &self.view, names);
            ConfigError(format!("{}: {what}", self.config.display()))
        })
    }

    fn order(&self, plan: &Plan) -> anyhow::Result<Order> {
        let Upstream::Redis(upstream) = &plan.upstream else {
            let file = self.config.display();
            let why = "its views are of a kevy primary, and `compare` speaks with Redis and Valkey only";
            return Err(ConfigError(format!("{file}: {why}")).into());
        };
        let timeout = Duration::from_millis(upstream.timeout_ms);
        let primary = Address {
            party: "primary",
            place: (upstream.host.clone(), upstream.port),
            user: upstream.username.clone(),
            password: upstream.password.clone(),
            timeout,
        };
        let replica = Address {
            party: "replica",
            place: self.replica.clone(),
            user: self.replica_user.clone(),
            password: super::password(self.replica_password_file.as_deref())?,
            timeout,
        };
        Ok(Order {
            primary,
            replica,
            wait: Duration::from_millis(self.wait.0),
            max_differences: self.max_differences as usize,
            database: self.database,
            known_faults: self.known_faults,
        })
    }

    fn print(&self, findings: &Findings) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for difference in &findings.differences {
            match self.json {
                true => writeln!(out, "{}", difference.json()),
                false => writeln!(out, "{difference}"),
            }?;
        }
        if self.json {
            return writeln!(out, "{}", findings.json());
        }
        findings.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
        writeln!(out, "{findings}")
    }
}

/// What a person who waits sees.
struct Progress {
    is_seen: bool,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { is_seen: io::stderr().is_terminal(), last: Instant::now() }
    }

    fn show(&mut self, findings: &Findings) {
        if self.is_seen && self.last.elapsed() >= PROGRESS {
            eprint!("\r{} keys, {} different\x1b[K", findings.keys, findings.wrong());
            self.last = Instant::now();
        }
    }

    fn clear(&self) {
        if self.is_seen {
            eprint!("\r\x1b[K");
        }
    }
}
