//! Any bytes as the upstream's snapshot: taken in, walked, and rewritten for a view.

use sluicegate_core::pipeline::{KeepAll, Pipeline};
use sluicegate_core::rdb::{Defect, Head, Intake, RdbError, RewriteError, RewriteStats, Rewriter, Summary};

use crate::heap;
use crate::listing::{Entry, Listing};
use crate::rule::Thirds;

const HEAD: Head = Head { repl_id: [b'a'; 40], repl_offset: 4711, stream_db: 3 };

/// Memory that taking in or rewriting a snapshot may hold however short it is: batches, and bounds of held entries.
const HEAP_BYTES: usize = 2 * 1024 * 1024;
/// Memory that a byte of a snapshot may become: three packed bytes can name 264, which are held unpacked, in a batch, in its
/// answers and in the output, in vectors that have grown by doubling.
const HEAP_BYTES_A_BYTE: usize = 1024;

/// Checks all that must hold when `input` comes as a snapshot; if only its checksum is wrong, also with the right one.
pub fn snapshot(input: &[u8]) {
    check(input);
    if let Some(mended) = mended(input) {
        check(&mended);
    }
}

/// `input` with the right checksum, if nothing else is wrong with it. No mutation finds a checksum by luck.
fn mended(input: &[u8]) -> Option<Vec<u8>> {
    let RdbError { offset, defect: Defect::Crc { computed, .. } } = Intake::new().push(input).err()? else {
        return None;
    };
    let at = usize::try_from(offset).expect("an offset in memory") + 1;
    let mut mended = input.to_vec();
    mended[at..at + 8].copy_from_slice(&computed.to_le_bytes());
    Some(mended)
}

fn check(input: &[u8]) {
    let bound = HEAP_BYTES + input.len() * HEAP_BYTES_A_BYTE;
    let (whole, held) = heap::peak(|| take_in(input, Cut::Whole));
    assert!(held <= bound, "{} bytes were taken in with {held} bytes of memory", input.len());
    for cut in [Cut::Bytes, Cut::Uneven] {
        assert_eq!(take_in(input, cut), whole, "taken in {cut:?}");
    }
    let (view, held) = heap::peak(|| rewrite(input, Cut::Whole, &mut Thirds));
    assert!(held <= bound, "{} bytes were rewritten with {held} bytes of memory", input.len());
    for cut in [Cut::Bytes, Cut::Uneven] {
        assert_eq!(rewrite(input, cut, &mut Thirds), view, "rewritten {cut:?}");
    }
    match (whole, view) {
        (Ok((taken, summary)), Ok(view)) => {
            assert_eq!(view.taken, taken);
            check_view(&input[..taken], &summary, &view);
        }
        // The view has to know the name of a library, and the first defect is what it stops at.
        (whole, Err(RewriteError::Snapshot(RdbError { offset, defect: Defect::Unnamed }))) => {
            let later = whole.err().map_or(u64::MAX, |error| error.offset);
            assert!(offset <= later, "{offset}: {later}");
        }
        (Err(error), Err(RewriteError::Snapshot(same))) => assert_eq!(same, error),
        (whole, view) => panic!("taken in: {whole:?}, rewritten: {:?}", view.map(|view| view.stats)),
    }
}

/// The view of a sound snapshot is sound, and holds the rule applied to every key; the view of it that keeps all is itself.
fn check_view(input: &[u8], summary: &Summary, view: &View) {
    let before = Listing::of(input);
    assert_eq!((summary.keys, summary.functions), (before.entries.len() as u64, before.functions as u64));
    let expected: Vec<Entry> = before
        .entries
        .into_iter()
        .filter_map(|entry| Thirds::name(entry.db, &entry.name).map(|name| Entry { name, ..entry }))
        .collect();
    let after = Listing::of(&view.bytes);
    assert_eq!(after.entries, expected);
    let RewriteStats { kept, dropped, renamed, functions_kept, functions_dropped, bytes_in, bytes_out } = view.stats;
    assert_eq!((kept + renamed, kept + renamed + dropped), (expected.len() as u64, summary.keys));
    assert_eq!((functions_kept, functions_kept + functions_dropped), (after.functions as u64, summary.functions));
    assert_eq!((bytes_in, bytes_out), (input.len() as u64, view.bytes.len() as u64));

    let (taken, taken_in) = take_in(&view.bytes, Cut::Whole).expect("the view's snapshot is sound");
    assert_eq!((taken, taken_in.keys), (view.bytes.len(), expected.len() as u64));
    assert_eq!((taken_in.repl_id, taken_in.repl_stream_db), (Some(HEAD.repl_id), Some(HEAD.stream_db)));
    let again = rewrite(&view.bytes, Cut::Whole, &mut KeepAll).expect("the view's snapshot can be rewritten");
    assert_eq!(again.bytes, view.bytes, "a view that keeps everything changes nothing");
}

/// How the bytes are pushed.
#[derive(Debug, Clone, Copy)]
enum Cut {
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

fn take_in(input: &[u8], cut: Cut) -> Result<(usize, Summary), RdbError> {
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
struct View {
    taken: usize,
    bytes: Vec<u8>,
    stats: RewriteStats,
}

fn rewrite(input: &[u8], cut: Cut, pipeline: &mut dyn Pipeline) -> Result<View, RewriteError> {
    let (mut rewriter, mut bytes) = (Rewriter::new(HEAD), Vec::new());
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
