//! `sluicegate status`: how is a running proxy?

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::client::Address;
use crate::config;
use crate::status::{Watcher, picture};

const EXAMPLES: &str = "\
Examples:
  sluicegate status 127.0.0.1:7000
  sluicegate status 127.0.0.1:7000 --watch

Any view's port will do; the replicas that are listed are those of that view. A port of a kevy view answers replicas only.
Exit codes: 0 it answered, 64 usage, 74 it did not";

/// Silence after which the proxy has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two pictures.
const PAUSE: Duration = Duration::from_secs(1);
/// Makes a terminal blank, and begins at its top.
const BLANK: &str = "\x1b[H\x1b[2J";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A view's port
    #[arg(value_name = "HOST:PORT", value_parser = config::host_and_port)]
    address: (String, u16),

    /// User, if the proxy has users
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,

    /// File with the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Show it anew each second, until Ctrl-C; also while the proxy is away
    #[arg(long)]
    watch: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let password = super::password(self.password_file.as_deref())?;
        let address = Address { party: "view", place: self.address, user: self.user, password, timeout: TIMEOUT };
        if self.watch {
            return watch(&address);
        }
        show(&picture(&Watcher::open(&address)?.ask()?))
    }
}

fn watch(address: &Address) -> anyhow::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let mut watcher = None;
    loop {
        let picture = look(&mut watcher, address).unwrap_or_else(|error| {
            watcher = None;
            format!("{error:#}; tried again each second\n")
        });
        // Between two pictures that do not go to a terminal stands an empty line.
        show(&if is_terminal { format!("{BLANK}{picture}") } else { format!("{picture}\n") })?;
        thread::sleep(PAUSE);
    }
}

/// One look, over the connection that there is.
fn look(watcher: &mut Option<Watcher>, address: &Address) -> anyhow::Result<String> {
    let watcher = match watcher {
        Some(watcher) => watcher,
        none => none.insert(Watcher::open(address)?),
    };
    Ok(picture(&watcher.ask()?))
}

fn show(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}
