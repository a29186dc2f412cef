//! A pipeline over a dump file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::rdb::{Head, Intake, RewriteError, RewriteStats, Rewriter};
use tempfile::NamedTempFile;

use super::Counted;
use super::dump::{self, PIECE_BYTES};
use super::progress::Progress;
use crate::config::ConfigError;

/// Makes the dump `out` of the dump `from`, through `pipeline`. `history`: the id of what the new dump is a point of, for it is
/// none of the old one's.
///
/// The new dump is written beside `out`, read back, and only then takes its name.
///
/// # Errors
/// The dump is damaged, a plugin failed, or a file cannot be read or written; `out` is then what it was.
pub(crate) fn filter(
    from: &Path,
    out: &Path,
    pipeline: &mut dyn Pipeline,
    history: [u8; 40],
) -> anyhow::Result<RewriteStats> {
    let mut file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let about = file.metadata().with_context(|| format!("cannot read {}", from.display()))?;
    if let Ok(there) = out.metadata() {
        let is_other = (there.dev(), there.ino()) != (about.dev(), about.ino());
        ensure!(is_other, io::Error::other(format!("{} is the dump that is read: name another file", out.display())));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write_error = || format!("cannot write {}", out.display());
    let mut made = beside(folder, out).with_context(write_error)?;
    let head = Head { repl_id: history, repl_offset: 0, stream_db: 0 };
    let stats = {
        let progress = Progress::alone("filtering", about.len());
        let mut pass =
            Pass { name: from.display().to_string(), rewriter: Rewriter::new(head), out: made.as_file_mut() };
        pass.all(&mut file, pipeline, &progress, out)?
    };
    check(made.path(), out, &stats)?;
    made.as_file().sync_all().with_context(write_error)?;
    made.persist(out).map_err(|error| error.error).with_context(write_error)?;
    // Not before this does the name survive a power cut.
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(write_error)?;
    Ok(stats)
}

/// A file for what is not yet whole, gone unless it is given its name. Where we are killed it stays, and says what it is.
fn beside(folder: &Path, out: &Path) -> io::Result<NamedTempFile> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    tempfile::Builder::new().prefix(&format!(".{name}-")).suffix(".part").tempfile_in(folder)
}

struct Pass<'a> {
    /// Of the dump that is read.
    name: String,
    rewriter: Rewriter,
    out: &'a mut File,
}

impl Pass<'_> {
    fn all(
        &mut self,
        from: &mut File,
        pipeline: &mut dyn Pipeline,
        progress: &Progress,
        to: &Path,
    ) -> anyhow::Result<RewriteStats> {
        let (mut piece, mut made) = (vec![0; PIECE_BYTES], Vec::with_capacity(2 * PIECE_BYTES));
        let mut out = BufWriter::with_capacity(PIECE_BYTES, &mut *self.out);
        loop {
            let read = dump::read(from, &mut piece, &self.name)?;
            if read == 0 {
                break;
            }
            made.clear();
            let taken = self.rewriter.push(&piece[..read], pipeline, &mut made);
            let taken = taken.map_err(|error| broken(&self.name, error))?;
            out.write_all(&made).with_context(|| format!("cannot write {}", to.display()))?;
            progress.add(read as u64);
            if taken < read {
                return Err(dump::goes_on(&self.name, self.rewriter.stats().bytes_in).into());
            }
        }
        self.rewriter.finish().map_err(|error| broken(&self.name, error))?;
        out.flush().with_context(|| format!("cannot write {}", to.display()))?;
        Ok(self.rewriter.stats())
    }
}

fn broken(name: &str, error: RewriteError) -> anyhow::Error {
    match error {
        RewriteError::Snapshot(error) => dump::damaged(name, &error).into(),
        RewriteError::Unfit(fault) => anyhow::anyhow!("{name}: {fault}"),
        RewriteError::Plugin(fault) => ConfigError(format!("plugin `{}` failed: {}", fault.plugin, fault.what)).into(),
    }
}

/// Reads back what was written: it must be a sound dump with as many keys as were kept.
fn check(made: &Path, out: &Path, stats: &RewriteStats) -> anyhow::Result<()> {
    let name = out.display().to_string();
    let mut file = File::open(made).with_context(|| format!("cannot read {name}"))?;
    let progress = Progress::alone("checking", stats.bytes_out);
    let (mut intake, mut piece) = (Intake::new(), vec![0; PIECE_BYTES]);
    loop {
        let read = dump::read(&mut file, &mut piece, &name)?;
        if read == 0 {
            break;
        }
        intake.push(&piece[..read]).map_err(|error| dump::damaged(&name, &error))?;
        progress.add(read as u64);
    }
    intake.finish().map_err(|error| dump::damaged(&name, &error))?;
    let found = (intake.bytes(), intake.keys(), intake.functions());
    let wanted = (stats.bytes_out, stats.kept + stats.renamed, stats.functions_kept);
    ensure!(found == wanted, anyhow!("{name} was not written as it was made: {found:?} for {wanted:?}"));
    Ok(())
}

/// What a pass came to, for people.
pub(crate) fn told(stats: &RewriteStats, from: &Path, out: &Path) -> String {
    format!(
        "{} of {}: kept {}, renamed {}, dropped {}; kept {}, dropped {}\n{}: {} of {}, read back and sound",
        out.display(),
        from.display(),
        Counted(stats.kept, "key"),
        stats.renamed,
        stats.dropped,
        Counted(stats.functions_kept, "function library"),
        stats.functions_dropped,
        out.display(),
        Counted(stats.bytes_out, "byte"),
        stats.bytes_in,
    )
}
