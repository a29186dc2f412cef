//! Links of real servers (see `links/README.md`), heard and rewritten.

use crate::model::{Rule, drop_and_move};
use crate::support::{Heard, WIDE, hear};
use sluicegate_core::kevy::snapshot::{Extent, Intake, Rewriter, Summary};
use sluicegate_core::pipeline::KeepAll;

struct Link {
    name: &'static str,
    bytes: &'static [u8],
    has_generation: bool,
    heartbeats: bool,
    /// What its snapshot should hold, but for the length.
    snapshot: Option<Summary>,
    /// The offset of its first frame.
    first: u64,
}

macro_rules! link {
    ($name:literal, $has_generation:literal, $heartbeats:literal, $snapshot:expr, $first:literal) => {
        Link {
            name: $name,
            bytes: include_bytes!(concat!("links/", $name, ".link")),
            has_generation: $has_generation,
            heartbeats: $heartbeats,
            snapshot: $snapshot,
            first: $first,
        }
    };
}

fn links() -> [Link; 4] {
    // Ten keys under each of three prefixes; one of ten with an expiry, one hash with a field that has one.
    let keys = Summary { keys: 30, expires: 3, ..Summary::default() };
    [
        link!("kevy-1.19", false, false, Some(Summary { version: 4, keys: 31, ..keys }), 43),
        link!("kevy-3.17", false, true, None, 0),
        link!("kevy-6.4", true, true, Some(Summary { version: 6, field_expiries: 3, ..keys }), 45),
        link!(
            "kevy-7.0",
            true,
            true,
            Some(Summary { version: 6, field_expiries: 3, group_reads: 3, aux: true, ..keys }),
            57
        ),
    ]
}

/// The pieces of the snapshot, joined.
fn snapshot(heard: &[Heard]) -> Vec<u8> {
    let pieces =
        heard.iter().filter_map(|heard| if let Heard::Snapshot(bytes) = heard { Some(&bytes[..]) } else { None });
    pieces.collect::<Vec<_>>().concat()
}

#[test]
fn real_links_are_heard_however_the_reads_fall() {
    for link in links() {
        let (heard, error) = hear(link.bytes, &[usize::MAX], WIDE);
        assert_eq!(error, None, "{}", link.name);
        let Heard::Ack(generation, 0) = heard[0] else { panic!("{}: {:?}", link.name, heard[0]) };
        assert_eq!(generation.is_some(), link.has_generation, "{}", link.name);
        assert_eq!(heard.iter().any(|heard| matches!(heard, Heard::Ping(..))), link.heartbeats, "{}", link.name);
        assert_eq!(heard.contains(&Heard::End(link.first)), link.snapshot.is_some(), "{}", link.name);
        let mut offsets = heard.iter().filter_map(|heard| match heard {
            Heard::Frame { offset, .. } => Some(*offset),
            _ => None,
        });
        assert!(offsets.by_ref().zip(link.first..).all(|(offset, expected)| offset == expected), "{}", link.name);
        for size in [1, 7, 4096] {
            assert!(hear(link.bytes, &[size], WIDE) == (heard.clone(), None), "{} in reads of {size}", link.name);
        }
        for cut in (1..link.bytes.len()).step_by(if link.bytes.len() > 20_000 { 997 } else { 1 }) {
            let (cut_heard, error) = hear(link.bytes, &[cut, usize::MAX], WIDE);
            assert!(cut_heard == heard && error.is_none(), "{} cut at {cut}", link.name);
        }
    }
}

#[test]
fn real_snapshots_are_taken_and_rewritten() {
    for link in links() {
        let Some(expected) = link.snapshot else { continue };
        let body = snapshot(&hear(link.bytes, &[usize::MAX], WIDE).0);
        let mut intake = Intake::new();
        intake.push(&body).unwrap();
        let summary = *intake.finish().unwrap();
        assert_eq!(summary, Summary { bytes: body.len() as u64, ..expected }, "{}", link.name);

        let (mut same, mut rewriter) = (Vec::new(), Rewriter::new(Extent::Whole, None));
        rewriter.push(&body, &mut KeepAll, &mut same).unwrap();
        rewriter.finish(&mut KeepAll, &mut same).unwrap();
        let own = body.windows(17).any(|bytes| bytes == b"XINTERNAL.CATALOG");
        assert!(if own { same.len() < body.len() } else { same == body }, "{}", link.name);

        let rule = |key: &[u8]| match key.strip_prefix(b"ren:") {
            Some(rest) => Some([b"new:", rest].concat()),
            None => drop_and_move(key),
        };
        let (mut view, mut rewriter) = (Vec::new(), Rewriter::new(Extent::Whole, None));
        let mut pipeline = Rule(rule, Vec::new());
        body.chunks(100).for_each(|piece| rewriter.push(piece, &mut pipeline, &mut view).unwrap());
        let stats = rewriter.finish(&mut pipeline, &mut view).unwrap();
        assert_eq!((stats.dropped, stats.renamed), (10, 10), "{}", link.name);
        assert!(!view.windows(5).any(|bytes| bytes == b"drop:"), "{}: not a trace", link.name);
        assert!(!view.windows(4).any(|bytes| bytes == b"ren:"), "{}: not a trace", link.name);
        let mut intake = Intake::new();
        intake.push(&view).unwrap();
        let seen = intake.finish().unwrap();
        assert_eq!((seen.keys, seen.group_reads), (summary.keys - 10, summary.group_reads * 2 / 3), "{}", link.name);
    }
}
