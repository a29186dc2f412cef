//! `sluicegate compare`, run as operators run it.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::proxy::{Proxy, binary};

/// What a comparison ended with.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The exit code: 0 equal, 1 different, 2 undecided.
    pub code: i32,
    /// Differences, notes and the summary.
    pub out: String,
    /// What went wrong.
    pub err: String,
}

impl Compared {
    /// The lines about differences that have all of these texts.
    pub fn lines(&self, texts: &[&str]) -> Vec<&str> {
        self.out.lines().filter(|line| texts.iter().all(|text| line.contains(text))).collect()
    }

    /// How many keys were compared, if all of them are equal.
    ///
    /// # Errors
    /// They are not; the message has the differences.
    pub fn equal_keys(&self) -> Result<usize> {
        ensure!(self.code == 0, "not equal: {self:?}");
        let summary = self.lines(&["compared ", ": equal"]);
        let number = summary.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        number.with_context(|| format!("no summary: {self:?}"))
    }
}

/// Compares the server at `replica` with a view of the proxy's configuration, with further options.
///
/// # Errors
/// The binary cannot be built or started.
pub fn compare(proxy: &Proxy, view: &str, replica: SocketAddr, more: &[&str]) -> Result<Compared> {
    let mut command = Command::new(binary()?);
    command.arg("compare").arg("--config").arg(proxy.config_file()).args(["--view", view, "--replica"]);
    let output = command.arg(replica.to_string()).args(more).env("NO_COLOR", "1").output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Compared { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
}
