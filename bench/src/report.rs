//! The report: Markdown, printed as it grows and saved at the end.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::middle::Kind;

/// A Markdown report.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// Adds a paragraph, a heading or a table.
    pub(crate) fn add(&mut self, markdown: &str) {
        println!("{markdown}\n");
        let _ = writeln!(self.text, "{markdown}\n");
    }

    /// Says which cases could not be run.
    pub(crate) fn missing(&mut self, kinds: &[Kind]) {
        for kind in kinds {
            let title = kind.title();
            self.add(&format!(
                "Not measured: {title}; run `cargo xtask servers` and `cargo xtask build --release` first."
            ));
        }
    }

    /// Saves the report and returns where.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        fs::create_dir_all(&dir)?;
        let path = dir.canonicalize()?.join("report.md");
        fs::write(&path, &self.text)?;
        Ok(path)
    }
}

/// A table with its first column left and the others right-aligned.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!("| {} |\n|---|{}", head.join(" | "), "---:|".repeat(head.len().saturating_sub(1)));
    for row in rows {
        let _ = write!(out, "\n| {} |", row.join(" | "));
    }
    out
}

/// The middle of some figures; of an even number the lower one. Not a number if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => values[(n - 1) / 2],
    }
}

/// The machine, in a line.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{cores} × {model}, Linux {}, load average {load}", kernel.trim())
}
