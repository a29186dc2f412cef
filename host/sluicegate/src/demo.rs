//! `sluicegate demo`: a primary, the proxy and two unmodified replicas on this machine, and the proof that both replicas
//! hold what their views say.

mod cast;
mod model;
mod ports;
pub(crate) mod process;
mod proof;
mod script;
mod server;
mod servers;
mod stage;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use cast::Cast;
use script::Script;
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  sluicegate demo                     a few seconds, then everything is gone again
  sluicegate demo --stay              keep it running to look around with redis-cli
  sluicegate demo --servers ~/servers use ~/servers/valkey-9.1/valkey-server, for example
  sluicegate demo --kevy              the same with kevy: keys change shards with their names

Servers are looked for in --servers or SLUICEGATE_SERVERS (DIR/*/redis-server, DIR/*/valkey-server,
DIR/*/kevy), then on PATH. Where there is no Redis or Valkey, the demo plays the primary and the
replicas itself, and says so.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    stay: bool,

    /// Where to look for servers
    #[arg(long, value_name = "DIR")]
    servers: Option<PathBuf>,

    /// With kevy servers, of two shards each
    #[arg(long)]
    kevy: bool,

    /// Play the primary and the replicas ourselves, even if there are servers
    #[arg(long, conflicts_with_all = ["servers", "kevy"])]
    model: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signal handlers")?;
        }
        let cast = self.cast()?;
        let script = Script::new(&cast);
        let mut stage = Stage::new(cast, script, Arc::clone(&interrupted))?;
        self.play(&mut stage).inspect_err(|error| {
            if !error.is::<Interrupted>() {
                eprintln!("{}", stage.last_words());
            }
        })
    }

    /// Who is there to play.
    fn cast(&self) -> anyhow::Result<Cast> {
        if self.kevy {
            return Ok(Cast::Kevy(servers::kevy(self.servers.as_deref())?));
        }
        if self.model {
            return Ok(Cast::Model);
        }
        if let Some(binary) = servers::redis(self.servers.as_deref())? {
            return Ok(Cast::Redis(binary));
        }
        say("No redis-server or valkey-server was found: the demo plays primary and replicas itself.\n")?;
        Ok(Cast::Model)
    }

    fn play(&self, stage: &mut Stage) -> anyhow::Result<()> {
        let start = Instant::now();
        stage.start_primary()?;
        stage.start_proxy()?;
        stage.start_replicas()?;
        stage.play_live()?;
        let proof = stage.until_proven()?;

        say(&stage.describe()?)?;
        say(&proof.table())?;
        say(&stage.positions()?)?;
        proof.check()?;
        let (right, all) = proof.count();
        let seconds = start.elapsed().as_secs_f64();
        let moves = proof.moves().map_or_else(String::new, |moves| format!("; {moves}"));
        say(&format!("verified: {right} of {all} keys as they must be, in {seconds:.1} s{moves}"))?;
        if self.stay {
            say(&format!("\n{}", stage.how_to_look_around()?))?;
            stage.wait_for_interrupt()?;
        }
        Ok(())
    }
}

/// Prints a line, or says that it cannot: whoever reads may have gone.
fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output")
}

/// Somebody asked the demo to end before it was done.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}
