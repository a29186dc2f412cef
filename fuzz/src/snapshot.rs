//! Any bytes as the upstream's snapshot: taken in, walked, and rewritten for a view.

use sluicegate_core::pipeline::KeepAll;
use sluicegate_core::rdb::{Defect, RdbError, RewriteError, RewriteStats, Rewriter, Summary};

use crate::feed::{Cut, HEAD, View, heap_bytes_max, mended, rewrite, take_in};
use crate::heap;
use crate::listing::{Entry, Listing};
use crate::rule::Thirds;

/// Checks all that must hold when `input` comes as a snapshot; if only its checksum is wrong, also with the right one.
pub fn snapshot(input: &[u8]) {
    check(input);
    if let Some(mended) = mended(input) {
        check(&mended);
    }
}

fn check(input: &[u8]) {
    let bound = heap_bytes_max(input);
    let (whole, held) = heap::peak(|| take_in(input, Cut::Whole));
    assert!(held <= bound, "{} bytes were taken in with {held} bytes of memory", input.len());
    for cut in [Cut::Bytes, Cut::Uneven] {
        assert_eq!(take_in(input, cut), whole, "taken in {cut:?}");
    }
    let (view, held) = heap::peak(|| rewrite(Rewriter::new(HEAD), input, Cut::Whole, &mut Thirds));
    assert!(held <= bound, "{} bytes were rewritten with {held} bytes of memory", input.len());
    for cut in [Cut::Bytes, Cut::Uneven] {
        assert_eq!(rewrite(Rewriter::new(HEAD), input, cut, &mut Thirds), view, "rewritten {cut:?}");
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
    let again = rewrite(Rewriter::new(HEAD), &view.bytes, Cut::Whole, &mut KeepAll)
        .expect("the view's snapshot can be rewritten");
    assert_eq!(again.bytes, view.bytes, "a view that keeps everything changes nothing");
}
