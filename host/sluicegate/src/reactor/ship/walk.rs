//! The walk: what makes a view's product of a spooled snapshot.

use std::time::Instant;

use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::pipeline::{KeepAll, Pipeline};
use sluicegate_core::rdb::Rewriter;

use super::product::{Key, Maker};
use super::{PIECE_BYTES, Stop, broken, each_piece};
use crate::bootstrap::Plugins;
use crate::reactor::spool::{Reader, Rested};

/// Walks the spooled snapshot once, with plugin instances of its own.
pub(super) fn make(key: &Key, mut spool: Rested<Reader>, plugins: &Plugins, maker: &mut Maker) -> Result<(), Stop> {
    let began = Instant::now();
    let mut pipeline = pipeline(plugins, key.view)?;
    let mut rewriter = key.target.map_or_else(|| Rewriter::new(key.head), |target| Rewriter::to(key.head, target));
    let mut made = Vec::with_capacity(PIECE_BYTES);
    each_piece(&mut spool, |piece| {
        maker.check_wanted()?;
        made.clear();
        rewriter.push(piece, &mut *pipeline, &mut made).map_err(broken)?;
        maker.write(&made)
    })?;
    rewriter.finish().map_err(broken)?;
    let stats = rewriter.stats();
    tracing::info!(
        event = "walked",
        kept = stats.kept,
        dropped = stats.dropped,
        renamed = stats.renamed,
        "a view's snapshot is made: {} of {} bytes in {} ms",
        stats.bytes_out,
        stats.bytes_in,
        began.elapsed().as_millis(),
    );
    Ok(())
}

/// A view's plugins, or what stands for none.
pub(super) fn pipeline(plugins: &Plugins, view: usize) -> Result<Box<dyn Pipeline>, Stop> {
    let pipeline = plugins.pipeline(view);
    let pipeline = pipeline.map_err(|error| Stop::Fault(Fault::new(Party::Plugin, error.to_string())))?;
    Ok(pipeline.unwrap_or_else(|| Box::new(KeepAll)))
}
