//! Snapshots, given to who takes them in and who rewrites them, in pieces of any size.

use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::rdb::{Defect, Head, Intake, RdbError, RewriteError, RewriteStats, Rewriter, Summary};

pub(crate) const HEAD: Head = Head { repl_id: [b'a'; 40], repl_offset: 4711, stream_db: 3 };

/// Memory that taking in or rewriting a snapshot may hold however short it is: batches, and bounds of held entries.
const HEAP_BYTES: usize = 2 * 1024 * 1024;
/// Memory that a byte of a snapshot may become: three packed bytes can name 264, which are held unpacked, in a batch, in its
/// answers and in the output, in vectors that have grown by doubling.
const HEAP_BYTES_A_BYTE: usize = 1024;

/// The most memory that taking in or rewriting `input` may hold.
pub(crate) fn heap_bytes_max(input: &[u8]) -> usize {
    HEAP_BYTES + input.len() * HEAP_BYTES_A_BYTE
}

/// `input` with the right checksum, if nothing else is wrong with it. No mutation finds a checksum by luck.
pub(crate) fn mended(input: &[u8]) -> Option<Vec<u8>> {
    let RdbError { offset, defect: Defect::Crc { computed, .. } } = Intake::new().push(input).err()? else {
        return None;
    };
    let at = usize::try_from(offset).expect("an offset in memory") + 1;
    let mut mended = input.to_vec();
    mended[at..at + 8].copy_from_slice(&computed.to_le_bytes());
    Some(mended)
}

/// How the bytes are pushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// All at once.
    Whole,
    /// One by one.
    Bytes,
    /// In pieces of 1 to 64, drawn from the length.
    Uneven,
}

impl Cut {
    /// Gives `input` to `push` piece by piece, until it takes less than it is given; tells how many bytes were taken.
    fn feed<E>(self, input: &[u8], mut push: impl FnMut(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        let (mut at, mut draw) = (0, input.len() as u32 | 1);
        while at < input.len() {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = match self {
                Self::Whole => input.len(),
                Self::Bytes => 1,
                Self::Uneven => 1 + (draw >> 26) as usize,
            };
            let piece = &input[at..input.len().min(at + size)];
            let taken = push(piece)?;
            at += taken;
            if taken < piece.len() {
                break;
            }
        }
        Ok(at)
    }
}

/// Takes a snapshot in: how many bytes it has, and what is in it.
pub(crate) fn take_in(input: &[u8], cut: Cut) -> Result<(usize, Summary), RdbError> {
    let mut intake = Intake::new();
    let fed = cut.feed(input, |piece| intake.push(piece));
    if let Err(error) = fed {
        assert_eq!(intake.push(b"x"), Err(error), "the first error stays");
        assert_eq!(intake.finish(), Err(error));
    }
    let taken = fed?;
    intake.finish()?;
    let summary = intake.summary().expect("a snapshot that has ended has a summary");
    assert_eq!(summary.bytes, taken as u64);
    Ok((taken, summary.clone()))
}

/// What a view's snapshot turned out as.
#[derive(Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) taken: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stats: RewriteStats,
}

/// Makes a view's snapshot.
pub(crate) fn rewrite(
    mut rewriter: Rewriter,
    input: &[u8],
    cut: Cut,
    pipeline: &mut dyn Pipeline,
) -> Result<View, RewriteError> {
    let mut bytes = Vec::new();
    let fed = cut.feed(input, |piece| rewriter.push(piece, pipeline, &mut bytes));
    if let Err(error) = &fed {
        assert_eq!(rewriter.push(b"x", pipeline, &mut bytes).as_ref(), Err(error), "the first error stays");
        assert_eq!(rewriter.finish().as_ref(), Err(error));
        assert!(!rewriter.is_done());
    }
    let taken = fed?;
    rewriter.finish()?;
    assert!(rewriter.is_done());
    Ok(View { taken, bytes, stats: rewriter.stats() })
}
