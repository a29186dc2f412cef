//! Processes that end with the demo, however it ends.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};

/// How long a process may take to end when it is asked to; then it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running process; dropped, it is ended and its end is awaited.
pub(super) struct Process(Child);

impl Process {
    /// Starts a program that will not outlive us. What it says goes to `log`.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        folder: &Path,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let ourselves = std::env::current_exe().context("finding our own program")?;
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(ourselves);
        command.arg(WITH_PARENT).arg(std::process::id().to_string()).arg("--").arg(program).args(arguments);
        command.envs(environment.iter().copied());
        command.current_dir(folder).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        separate(&mut command);
        Ok(Self(command.spawn().with_context(|| format!("starting {}", program.display()))?))
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

/// A group of its own: Ctrl-C reaches the demo alone, which then ends the others in order.
fn separate(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

impl Drop for Process {
    fn drop(&mut self) {
        let asked = Pid::from_child(&self.0);
        // Each step may fail only because the process has already ended, which is what is wanted.
        let _ = rustix::process::kill_process(asked, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name of the hidden verb below.
pub(crate) const WITH_PARENT: &str = "with-parent";

/// Runs a program that the kernel ends when our parent ends, even if the parent is killed. Asking the kernel for that
/// before `exec` in the child would need unsafe code; a process that asks for itself and then becomes the program does not.
#[derive(Debug, clap::Args)]
pub(crate) struct WithParent {
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

impl WithParent {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("tying us to the parent")?;
        // The parent may have ended before that: then there is nobody to run for.
        if rustix::process::getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() != self.parent) {
            return Ok(());
        }
        let (program, arguments) = self.command.split_first().context("no program")?;
        let error = Command::new(program).args(arguments).exec();
        Err(anyhow::Error::from(error).context(format!("starting {}", program.to_string_lossy())))
    }
}
