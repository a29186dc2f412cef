//! A view's RDB snapshot.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluicegate_core::contract::{LinkId, ShipFraming};
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::rdb::{Head, Rewriter};

use super::packed::Packing;
use super::{Hold, Load, PIECE_BYTES, Stop, broken, each_piece, own};
use crate::reactor::spool;

/// How a snapshot goes out, and where it may lie until then.
pub(super) struct Way<'a> {
    pub(super) dir: &'a Path,
    pub(super) link: LinkId,
    pub(super) framing: ShipFraming,
}

/// Makes a view's snapshot of the spooled one.
pub(super) fn make(
    head: &Head,
    file: File,
    pipeline: &mut dyn Pipeline,
    way: &Way<'_>,
    hold: &Hold,
) -> Result<(), Stop> {
    match way.framing {
        ShipFraming::Stream | ShipFraming::Packed { .. } => {
            rewrite(head, file, pipeline, hold, |made| hold.load(Load::Bytes(made.into())))
        }
        ShipFraming::Length => {
            let made = Prepared::new(way.dir, way.link)?;
            let mut out = &made.file;
            rewrite(head, file, pipeline, hold, |bytes| {
                out.write_all(&bytes).map_err(|error| own(format!("cannot write a view's snapshot: {error}")))
            })?;
            let length = out.stream_position().and_then(|length| out.seek(SeekFrom::Start(0)).map(|_| length));
            let length = length.map_err(|error| own(format!("cannot measure a view's snapshot: {error}")))?;
            hold.load(Load::Length(length))?;
            each_piece(out, |piece| hold.load(Load::Bytes(Bytes::copy_from_slice(piece))))
        }
    }
}

/// Makes a view's snapshot for another Sluicegate.
pub(super) fn make_packed(
    head: &Head,
    file: File,
    pipeline: &mut dyn Pipeline,
    mut packing: Packing<'_>,
    hold: &Hold,
) -> Result<(), Stop> {
    rewrite(head, file, pipeline, hold, |made| packing.push(&made))?;
    packing.finish()
}

/// A view's snapshot that has to be complete before its length can be told; gone with the ship.
struct Prepared {
    file: File,
    path: PathBuf,
}

impl Prepared {
    fn new(dir: &Path, link: LinkId) -> Result<Self, Stop> {
        let path = dir.join(format!("snapshot-for-link-{}.rdb", link.0));
        match spool::create(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(own(format!("cannot write {}: {error}", path.display()))),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn rewrite(
    head: &Head,
    file: File,
    pipeline: &mut dyn Pipeline,
    hold: &Hold,
    mut give: impl FnMut(Vec<u8>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut rewriter = Rewriter::new(*head);
    each_piece(file, |piece| {
        hold.check_wanted()?;
        let mut made = Vec::with_capacity(PIECE_BYTES);
        rewriter.push(piece, pipeline, &mut made).map_err(broken)?;
        if made.is_empty() { Ok(()) } else { give(made) }
    })?;
    rewriter.finish().map_err(broken)?;
    let stats = rewriter.stats();
    tracing::debug!(
        event = "ship",
        kept = stats.kept,
        dropped = stats.dropped,
        renamed = stats.renamed,
        "snapshot rewritten"
    );
    Ok(())
}
