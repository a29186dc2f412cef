//! Child processes that cannot outlive the test: a shell holds each one and kills it when our end of its input closes,
//! which the kernel does for us however the test ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::wait_some;

/// Starts `"$@"`, tells its pid, kills it when fd 3 (our pipe) closes, and hands its exit code on.
const HOLDER: &str = r#"exec 3<&0
"$@" </dev/null 3<&- >&4 2>&4 & p=$!
exec 4>&-
( read -r _ <&3; kill -9 $p 2>/dev/null ) >/dev/null 2>&1 & w=$!
exec 3<&-
echo $p
exec >&-
wait $p; c=$?
kill -9 $w 2>/dev/null
exit $c"#;

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Leash {
    holder: Child,
    pid: u32,
}

impl Leash {
    /// Starts `program` with `args` and environment additions; its output is appended to the file `output`.
    ///
    /// # Errors
    /// The shell or the file cannot be had.
    pub fn start<S: AsRef<OsStr>>(program: &Path, args: &[S], envs: &[(&str, &str)], output: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(output).with_context(|| format!("{output:?}"))?;
        // The holder's standard error becomes the child's output: moved to fd 4 first, so that the shell itself stays silent.
        let script = format!("exec 4>&2 2>/dev/null\n{HOLDER}");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).arg("leash").arg(program).args(args).envs(envs.iter().copied());
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().context("start /bin/sh")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("the holder has an output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().with_context(|| format!("the holder said {line:?} instead of a pid"))?;
        Ok(Self { holder, pid })
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name (`TERM`, `KILL`, `STOP`, `CONT`).
    ///
    /// # Errors
    /// No such process.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("/bin/kill").arg("-s").arg(name).arg(self.pid.to_string()).status();
        let status = match status {
            Ok(status) => status,
            Err(_) => Command::new("/bin/sh").arg("-c").arg(format!("kill -s {name} {}", self.pid)).status()?,
        };
        if !status.success() {
            bail!("no process {} to send {name} to", self.pid);
        }
        Ok(())
    }

    /// The exit code once it has ended; 128 + signal if it was killed.
    ///
    /// # Errors
    /// The holder cannot be asked.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.holder.try_wait()?.map(code_of))
    }

    /// Waits for the end and returns the exit code.
    ///
    /// # Errors
    /// It still runs after `patience`.
    pub fn wait_end(&mut self, patience: Duration) -> Result<i32> {
        wait_some("the end of a process", patience, || self.ended())
    }

    /// Kills it without warning and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal("KILL").ok();
            self.wait_end(Duration::from_secs(10))?;
        }
        Ok(())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if self.kill9().is_err() {
            // Closing the pipe is the second line of defence.
            drop(self.holder.stdin.take());
        }
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}
