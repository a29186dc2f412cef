//! What a person who waits sees, on a terminal only.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

const BAR: &str = "{msg} {bar:32} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
/// Of something whose size is not known, as of a pipe.
const NO_BAR: &str = "{msg} {bytes}, {bytes_per_sec}";

/// A bar on standard error, gone when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar for so many bytes; 0: nobody knows. `doing`: what stands before it.
    pub(super) fn new(doing: &'static str, bytes: u64) -> Self {
        // Lines that are printed to the same terminal show how far it is, and a bar would stand between them.
        let is_seen = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self(if is_seen { Self::bar(doing, bytes) } else { ProgressBar::hidden() })
    }

    /// A bar that is shown whatever standard output is: nothing is printed while it stands.
    pub(super) fn alone(doing: &'static str, bytes: u64) -> Self {
        Self(if io::stderr().is_terminal() { Self::bar(doing, bytes) } else { ProgressBar::hidden() })
    }

    fn bar(doing: &'static str, bytes: u64) -> ProgressBar {
        let bar = if bytes == 0 { ProgressBar::no_length() } else { ProgressBar::new(bytes) };
        let style = ProgressStyle::with_template(if bytes == 0 { NO_BAR } else { BAR });
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(doing)
    }

    /// So many bytes more are done.
    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
