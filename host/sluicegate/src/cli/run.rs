//! `sluicegate run`: the proxy itself, from a file or from a few options.

use std::path::PathBuf;

use anyhow::Context;

use crate::config::{self, ConfigError, LogFormat, LogPlan, Plan, Shorthand};
use crate::{bootstrap, logging};

const USAGE: &str = "\
sluicegate run --config <FILE> [OPTIONS]
       sluicegate run --upstream <HOST:PORT> --listen <IP:PORT> [OPTIONS]";

const EXAMPLES: &str = "\
Examples:
  sluicegate run --config /etc/sluicegate/sluicegate.toml
  sluicegate run --upstream 10.0.0.5:6379 --listen :7000
  sluicegate run --upstream db:6379 --listen :7000 --plugin builtin:key-filter \\
                 --set 'key-filter.allow=user:*'

Then on a replica:  REPLICAOF <this host> 7000";

#[derive(Debug, clap::Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The configuration; see examples/sluicegate.toml
    #[arg(short, long, value_name = "FILE", required_unless_present = "upstream")]
    config: Option<PathBuf>,

    /// The primary to follow
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "config",
        requires = "listen",
        help_heading = "Without a file"
    )]
    upstream: Option<String>,

    /// ACL user at the primary
    #[arg(long, value_name = "NAME", requires = "upstream", help_heading = "Without a file")]
    upstream_user: Option<String>,

    /// File with the password at the primary
    #[arg(long, value_name = "FILE", requires = "upstream", help_heading = "Without a file")]
    upstream_password_file: Option<PathBuf>,

    /// Where replicas connect; `:PORT` is 127.0.0.1 only. May be repeated
    #[arg(long, value_name = "IP:PORT", requires = "upstream", help_heading = "Without a file")]
    listen: Vec<String>,

    /// A component, or `builtin:NAME`. May be repeated: a pipeline, in this order
    #[arg(long, value_name = "X.WASM", requires = "upstream", help_heading = "Without a file")]
    plugin: Vec<String>,

    /// A plugin's setting. May be repeated
    #[arg(long, value_name = "PLUGIN.KEY=VALUE", requires = "plugin", help_heading = "Without a file")]
    set: Vec<String>,

    /// Where to keep snapshots; a temporary folder if not given
    #[arg(long, value_name = "DIR", requires = "upstream", help_heading = "Without a file")]
    data_dir: Option<PathBuf>,

    #[command(flatten)]
    log: LogArgs,
}

/// What the command line may say about logs, over the file.
#[derive(Debug, clap::Args)]
struct LogArgs {
    /// error, warn, info, debug, trace, or per target as in RUST_LOG
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// How to log to standard error
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // Dropped, and with it removed, when the proxy has ended.
        let mut temporary = None;
        let mut plan = match &self.config {
            Some(file) => config::load(file)?,
            None => {
                let data_dir = match self.data_dir.clone() {
                    Some(folder) => folder,
                    None => temporary.insert(temporary_folder()?).path().to_owned(),
                };
                self.shorthand(data_dir).plan()?
            }
        };
        self.log.apply(&mut plan.log)?;
        logging::start(&plan.log)?;
        warn(&plan);
        bootstrap::run(plan)
    }

    fn shorthand(&self, data_dir: PathBuf) -> Shorthand {
        Shorthand {
            upstream: self.upstream.clone().unwrap_or_default(),
            username: self.upstream_user.clone(),
            password_file: self.upstream_password_file.clone(),
            listen: self.listen.clone(),
            plugins: self.plugin.clone(),
            settings: self.set.clone(),
            data_dir,
        }
    }
}

impl LogArgs {
    fn apply(&self, log: &mut LogPlan) -> anyhow::Result<()> {
        if let Some(level) = &self.log_level {
            let parsed = level.parse::<tracing_subscriber::EnvFilter>();
            parsed.map_err(|error| ConfigError(format!("bad --log-level `{level}`: {error}")))?;
            log.level.clone_from(level);
        }
        log.format = self.log_format.unwrap_or(log.format);
        Ok(())
    }
}

fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("sluicegate-").tempdir().context("a temporary folder for snapshots")
}

/// A log takes one line of a warning; `validate` shows the picture.
fn warn(plan: &Plan) {
    for line in plan.warnings.iter().filter_map(|warning| warning.lines().next()) {
        tracing::warn!("{line}");
    }
}
