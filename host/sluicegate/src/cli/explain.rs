//! `sluicegate explain`: what a view makes of a command, and why, without a primary.

mod quoting;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use sluicegate_core::command::{Role, Table};
use sluicegate_core::limits;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::projection::{self, Bounds, Explained, NamedKey, Outcome, Scope, Subject};

use super::exit::UsageError;
use crate::bootstrap::Plugins;
use crate::config::{self, ConfigError, Plan, Upstream};

const USAGE: &str = "\
sluicegate explain <COMMAND> [--config <FILE>] [--view <NAME>] [--database <N>]
       sluicegate explain --all [--view <NAME>]";

const EXAMPLES: &str = "\
Examples:
  sluicegate explain 'SUNIONSTORE a b c' --config sluicegate.toml --view eu
  sluicegate explain --all              the table of every command, for any view with plugins
  sluicegate explain --all --view eu    the same for this view

The command is one of the replication stream, quoted as in redis-cli. A primary sends what follows
from a client's command: LPOP for BLPOP, SREM for SPOP, PXAT for EX.
Plugins are started; nothing is connected to, nothing is written.";

#[derive(Debug, clap::Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The command, in one argument
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    command: Option<String>,

    /// Print the table of all commands as Markdown
    #[arg(long)]
    all: bool,

    /// The configuration with the view
    #[arg(short, long, value_name = "FILE", default_value = "sluicegate.toml")]
    config: PathBuf,

    /// The view to ask; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    view: Option<String>,

    /// The database that is selected
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0)]
    database: u32,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let text = match (&self.command, &self.view) {
            (None, None) => projection::markdown(&Table::builtin(), Scope::General),
            (None, Some(_)) => {
                let (plan, view) = self.plan()?;
                let pipeline = Plugins::load(&plan)?.pipeline(view)?;
                let traits = pipeline.as_deref().map(Pipeline::traits);
                projection::markdown(&Table::builtin(), Scope::View { name: &plan.views[view].settings.name, traits })
            }
            (Some(command), _) => self.explain(command)?,
        };
        io::stdout().write_all(text.as_bytes()).context("writing to standard output")
    }

    fn explain(&self, command: &str) -> anyhow::Result<String> {
        let words = quoting::split(command).map_err(|what| UsageError(format!("the command {what}")))?;
        ensure!(!words.is_empty(), UsageError("the command is empty".into()));
        let (plan, view) = self.plan()?;
        let plugins = Plugins::load(&plan)?;
        let mut pipeline = plugins.pipeline(view)?;
        let settings = &plan.views[view].settings;
        let bounds = Bounds {
            transaction_bytes_max: settings.transaction_bytes_max,
            cross_key: settings.cross_key,
            tainted_keys_max: settings.repair.keys_max,
            args_max: limits::FRAME_ARGS_MAX,
            // It is the primary's snapshot that says for which version replicas are let in.
            restore_version_max: u32::MAX,
            floor: settings.floor,
        };
        let mut subject = Subject {
            table: Arc::new(Table::builtin()),
            pipeline: pipeline.as_mut().map(|pipeline| &mut **pipeline as &mut dyn Pipeline),
            bounds,
            db: self.database,
        };
        let explained = projection::explain(&mut subject, &words).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        Ok(told(&explained, self.database))
    }

    /// The plan, and the index of the view that is meant.
    fn plan(&self) -> anyhow::Result<(Plan, usize)> {
        let plan = config::load(&self.config)?;
        if let Upstream::Kevy(_) = plan.upstream {
            let what = "explain knows the stream of Redis and Valkey; this configuration follows a kevy\n";
            return Err(ConfigError(what.into()).into());
        }
        let names = || plan.views.iter().map(|view| &*view.settings.name).collect::<Vec<_>>().join(", ");
        let found = match &self.view {
            Some(name) => plan.views.iter().position(|view| view.settings.name == *name),
            None => (plan.views.len() == 1).then_some(0),
        };
        match found {
            Some(view) => Ok((plan, view)),
            None if self.view.is_some() => Err(UsageError(format!("--view: the views are {}", names())).into()),
            None => Err(UsageError(format!("which --view? There are {}", names())).into()),
        }
    }
}

/// The answer, for people. `db` is the selected database.
fn told(explained: &Explained, db: u32) -> String {
    let mut text = String::new();
    let outcome = match &explained.outcome {
        Outcome::Sent(commands) | Outcome::Repaired(commands) => {
            commands.iter().map(|words| quoting::join(words)).collect::<Vec<_>>()
        }
        Outcome::Nothing => vec!["nothing".into()],
        Outcome::Halts(fault) => vec![format!("halts: {fault}")],
    };
    for (index, line) in outcome.iter().enumerate() {
        let head = if index == 0 { "replica" } else { "" };
        _ = writeln!(text, "{head:9}{line}");
    }
    let shown: Vec<String> = explained.keys.iter().map(|key| key_shown(key, db)).collect();
    let width = shown.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    for (index, (key, shown)) in explained.keys.iter().zip(&shown).enumerate() {
        let head = match (index, explained.keys.len()) {
            (0, 1) => "key",
            (0, _) => "keys",
            _ => "",
        };
        let role = match key.role {
            Role::Read => "read",
            Role::Write => "written",
            Role::ReadWrite => "changed",
        };
        _ = writeln!(text, "{head:9}{shown:width$}  {role:7}  {}", fate(key));
    }
    _ = writeln!(text, "{:9}{}", "why", explained.why);
    text
}

fn key_shown(key: &NamedKey, db: u32) -> String {
    let word = quoting::word(&key.key);
    if key.db == db { word } else { format!("{word} in database {}", key.db) }
}

fn fate(key: &NamedKey) -> String {
    match &key.name {
        None => "dropped".into(),
        Some(name) if *name == key.key => "kept".into(),
        Some(name) => format!("kept as {}", quoting::word(name)),
    }
}
