//! `sluicegate demo`: a primary, the proxy and two unmodified replicas on this machine, and the proof that both replicas
//! hold what their views say.

mod model;
pub(crate) mod process;
mod proof;
mod script;
mod servers;
mod stage;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use servers::Binary;
use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  sluicegate demo                     a few seconds, then everything is gone again
  sluicegate demo --stay              keep it running to look around with redis-cli
  sluicegate demo --servers ~/servers use ~/servers/valkey-9.1/valkey-server, for example

Servers are looked for in --servers or SLUICEGATE_SERVERS (DIR/*/redis-server, DIR/*/valkey-server), then on PATH.
Where there is none, the demo plays the primary and the replicas itself, and says so.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    stay: bool,

    /// Where to look for servers
    #[arg(long, value_name = "DIR")]
    servers: Option<PathBuf>,

    /// Play the primary and the replicas ourselves, even if there are servers
    #[arg(long, conflicts_with = "servers")]
    model: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signal handlers")?;
        }
        let binary = if self.model { None } else { servers::find(self.servers.clone())? };
        if binary.is_none() && !self.model {
            say("No redis-server or valkey-server was found: the demo plays primary and replicas itself.\n")?;
        }
        let mut stage = Stage::new(binary, Arc::clone(&interrupted))?;
        self.play(&mut stage).inspect_err(|error| {
            if !error.is::<Interrupted>() {
                eprintln!("{}", stage.last_words());
            }
        })
    }

    fn play(&self, stage: &mut Stage) -> anyhow::Result<()> {
        let start = Instant::now();
        let script = script::Script::new(stage.speaks_strings_only());
        stage.start_primary()?;
        script.seed(&mut stage.primary()?)?;
        stage.start_proxy()?;
        stage.start_replicas()?;
        script.live(&mut stage.primary()?)?;
        let proof = stage.until_proven(&script)?;

        say(&stage.describe(&script)?)?;
        say(&proof.table())?;
        say(&stage.positions()?)?;
        let (right, all) = proof.count();
        ensure!(right == all, "{} of {all} keys are not as they must be:\n{}", all - right, proof.faults());
        let seconds = start.elapsed().as_secs_f64();
        say(&format!("verified: {right} of {all} keys as they must be, in {seconds:.1} s"))?;
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

/// The name and version of what plays primary and replicas, for people.
fn played_by(binary: Option<&Binary>) -> String {
    binary.map_or_else(|| "a model inside the demo, as the replicas are".into(), |binary| binary.version.clone())
}
