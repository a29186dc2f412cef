//! Any bytes as the upstream's snapshot, written down for servers that cannot load it.

use sluicegate_core::pipeline::KeepAll;
use sluicegate_core::rdb::{Family, RewriteError, Rewriter, ServerVersion, Summary, Target, fit};

use crate::feed::{Cut, HEAD, View, heap_bytes_max, mended, rewrite, take_in};
use crate::heap;
use crate::listing::Listing;

/// Servers that serve as replicas: one for each format that is written.
const REPLICAS: [ServerVersion; 5] = [
    ServerVersion { family: Family::Redis, major: 6, minor: 2 },
    ServerVersion { family: Family::Redis, major: 7, minor: 0 },
    ServerVersion { family: Family::Redis, major: 8, minor: 2 },
    ServerVersion { family: Family::Valkey, major: 8, minor: 1 },
    ServerVersion { family: Family::Valkey, major: 9, minor: 1 },
];

/// Checks all that must hold when `input` is written down; if only its checksum is wrong, also with the right one.
pub fn down(input: &[u8]) {
    check(input);
    if let Some(mended) = mended(input) {
        check(&mended);
    }
}

fn check(input: &[u8]) {
    let sound = take_in(input, Cut::Whole);
    for replica in REPLICAS {
        let Ok((taken, summary)) = &sound else {
            // Walks may be under way when a snapshot turns out to be broken. Whether that or what it holds is told depends on
            // the pieces: what was made of one before its defect is written down before the next one is looked at.
            for cut in [Cut::Whole, Cut::Bytes, Cut::Uneven] {
                let made = rewrite(Rewriter::to(HEAD, replica.format()), input, cut, &mut KeepAll);
                assert!(made.is_err(), "what is not sound was written down");
            }
            continue;
        };
        // What would be lost is known before anything is written; what the replica can load stays as it is.
        let Ok(Some(target)) = fit(&replica, summary) else { continue };
        match written(&input[..*taken], target) {
            Ok(view) => check_written(&input[..*taken], summary, &view, &replica),
            Err(RewriteError::Unfit(_)) => {}
            Err(error) => panic!("a sound snapshot for {replica}: {error}"),
        }
    }
}

/// The snapshot in the format of `target`, which does not depend on the pieces that it comes in.
fn written(input: &[u8], target: Target) -> Result<View, RewriteError> {
    let (made, held) = heap::peak(|| rewrite(Rewriter::to(HEAD, target), input, Cut::Whole, &mut KeepAll));
    assert!(held <= heap_bytes_max(input), "{} bytes were written down with {held} bytes of memory", input.len());
    for cut in [Cut::Bytes, Cut::Uneven] {
        assert_eq!(rewrite(Rewriter::to(HEAD, target), input, cut, &mut KeepAll), made, "written down {cut:?}");
    }
    made
}

/// What was written is sound, the replica can load it, and it has the same keys, which live as long.
fn check_written(input: &[u8], before: &Summary, view: &View, replica: &ServerVersion) {
    let (taken, after) = take_in(&view.bytes, Cut::Whole).expect("what was written down is sound");
    assert_eq!((taken, fit(replica, &after)), (view.bytes.len(), Ok(None)));
    assert_eq!((after.keys, after.expires), (before.keys, before.expires));
    // Functions go, all of them, where a server has none.
    assert!(after.functions == before.functions || after.functions == 0, "{} functions", after.functions);
    let names = |bytes: &[u8]| Listing::of(bytes).entries.into_iter().map(|key| (key.db, key.name)).collect::<Vec<_>>();
    assert_eq!(names(&view.bytes), names(input));
}
