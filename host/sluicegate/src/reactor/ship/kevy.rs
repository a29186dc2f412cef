//! The snapshot of one stream of a kevy view: of one shard of the primary, or a share of several of them.

use sluicegate_core::kevy::route::Share;
use sluicegate_core::kevy::snapshot::{Extent, RewriteStats, Rewriter, write_end, write_head};
use sluicegate_core::pipeline::Pipeline;

use super::{Hold, PIECE_BYTES, Stop, broken, each_piece};
use crate::reactor::spool::{Reader, Rested};

/// Makes a snapshot of this version of the spooled ones: of all keys, or of those that lie in `share`.
pub(super) fn make(
    version: u8,
    share: Option<Share>,
    files: &mut [Rested<Reader>],
    pipeline: &mut dyn Pipeline,
    hold: &Hold,
) -> Result<(), Stop> {
    let give = |made: Vec<u8>| if made.is_empty() { Ok(()) } else { hold.bytes(made.into()) };
    let stats = match files {
        // Nothing is put together: it is rewritten in one go.
        [file] if share.is_none() => rewrite(Rewriter::new(Extent::Whole, None), file, pipeline, hold, &give)?,
        files => join(version, share, files, pipeline, hold, &give)?,
    };
    tracing::debug!(
        event = "ship",
        kept = stats.kept,
        dropped = stats.dropped,
        renamed = stats.renamed,
        elsewhere = stats.elsewhere,
        "snapshot rewritten"
    );
    Ok(())
}

/// The records of all files between one head and one end, and behind that what else they say of the keys.
fn join(
    version: u8,
    share: Option<Share>,
    files: &mut [Rested<Reader>],
    pipeline: &mut dyn Pipeline,
    hold: &Hold,
    give: &impl Fn(Vec<u8>) -> Result<(), Stop>,
) -> Result<RewriteStats, Stop> {
    let mut edge = Vec::new();
    write_head(&mut edge, version);
    give(edge)?;
    let mut total = RewriteStats::default();
    let mut again = Vec::new();
    for file in files {
        let stats = rewrite(Rewriter::new(Extent::Records, share), file, pipeline, hold, give)?;
        total.kept += stats.kept;
        total.dropped += stats.dropped;
        total.renamed += stats.renamed;
        total.elsewhere += stats.elsewhere;
        if stats.behind > 0 {
            again.push(file);
        }
    }
    let mut edge = Vec::new();
    write_end(&mut edge);
    give(edge)?;
    // What stands behind a file's records is written behind all records, and may be too large to be held until then.
    for file in again {
        file.rewind().map_err(|error| Stop::Damaged(file.id(), error.to_string()))?;
        rewrite(Rewriter::new(Extent::Trailer, share), file, pipeline, hold, give)?;
    }
    Ok(total)
}

fn rewrite(
    mut rewriter: Rewriter,
    file: &mut Rested<Reader>,
    pipeline: &mut dyn Pipeline,
    hold: &Hold,
    give: &impl Fn(Vec<u8>) -> Result<(), Stop>,
) -> Result<RewriteStats, Stop> {
    each_piece(file, |piece| {
        hold.check_wanted()?;
        let mut made = Vec::with_capacity(PIECE_BYTES);
        rewriter.push(piece, pipeline, &mut made).map_err(broken)?;
        give(made)
    })?;
    let mut made = Vec::new();
    let stats = rewriter.finish(pipeline, &mut made).map_err(broken)?;
    give(made)?;
    Ok(stats)
}
