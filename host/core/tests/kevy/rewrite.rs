//! Stories of a view's snapshot made of its upstream's.

use crate::model::{Entry, Model, Rule, blob, by_thirds, drop_and_move, models, sample};
use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::kevy::route::{Routing, Share, shard_of};
use sluicegate_core::kevy::snapshot::{
    Defect, Extent, Intake, RewriteError, RewriteStats, Rewriter, write_end, write_head,
};
use sluicegate_core::pipeline::{
    Answers, BATCH_KEY_BYTES, BATCH_KEYS_MAX, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits,
};
use sluicegate_core::rdb::HELD_BYTES;

const WHOLE: &[usize] = &[usize::MAX];

type Rewritten = Result<(Vec<u8>, RewriteStats), RewriteError>;

/// Rewrites `input`, pushed in pieces of the sizes that `cuts` goes through again and again.
fn rewrite(input: &[u8], cuts: &[usize], mut rewriter: Rewriter, pipeline: &mut dyn Pipeline) -> Rewritten {
    let (mut out, mut rest) = (Vec::new(), input);
    for size in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        rewriter.push(piece, pipeline, &mut out)?;
        rest = behind;
    }
    let stats = rewriter.finish(pipeline, &mut out)?;
    assert_eq!((stats.bytes_in, stats.bytes_out), (input.len() as u64, out.len() as u64));
    assert_eq!(stats, rewriter.stats());
    Ok((out, stats))
}

fn whole() -> Rewriter {
    Rewriter::new(Extent::Whole, None)
}

/// One of everything, but for what the server put there for itself.
fn plain(version: u8) -> Model {
    Model { aux: None, ..sample(version) }
}

#[test]
fn a_view_of_everything_is_the_snapshot_itself_without_the_server_s_own() {
    for version in 4..=7 {
        let (output, stats) = rewrite(&sample(version).bytes(), WHOLE, whole(), &mut KeepAll).unwrap();
        assert!(output == plain(version).bytes());
        assert_eq!((stats.kept, stats.dropped, stats.renamed, stats.elsewhere), (9, 0, 0, 0));
    }
}

#[test]
fn what_is_said_of_a_key_shares_its_fate() {
    for version in 4..=7 {
        let input = sample(version);
        let expected = plain(version).viewed(drop_and_move).bytes();
        let mut pipeline = Rule(drop_and_move, Vec::new());
        let (output, stats) = rewrite(&input.bytes(), WHOLE, whole(), &mut pipeline).unwrap();
        assert!(output == expected);
        assert!(!output.windows(5).any(|bytes| bytes == b"drop:" || bytes == b"move:"), "not a trace of the old names");
        assert_eq!((stats.kept, stats.dropped, stats.renamed, stats.elsewhere), (4, 2, 3, 0));
        let mut intake = Intake::new();
        intake.push(&output).unwrap();
        assert_eq!(intake.finish().unwrap().keys, 7);
        for cut in 1..input.bytes().len() {
            let cut = rewrite(&input.bytes(), &[cut, usize::MAX], whole(), &mut Rule(drop_and_move, Vec::new()));
            assert!(cut.unwrap().0 == expected);
        }
    }
}

/// The live stream of a view with plugins has no catalog: one in its snapshots would name keys that the view does not have,
/// and stay as it was for ever.
#[test]
fn the_server_s_own_is_not_in_a_view_s_snapshot() {
    let catalog = vec![b"XINTERNAL.CATALOG".to_vec(), b"1".to_vec(), b"2".to_vec(), b"i ON drop:".to_vec()];
    let model = Model { aux: Some(catalog), ..sample(4) };
    for extent in [Extent::Whole, Extent::Records, Extent::Trailer] {
        let mut pipeline = Rule(drop_and_move, Vec::new());
        let (output, _) = rewrite(&model.bytes(), &[7], Rewriter::new(extent, None), &mut pipeline).unwrap();
        assert!(!output.windows(9).any(|bytes| bytes == b"XINTERNAL" || bytes == b"i ON drop"), "{extent:?}");
    }
}

#[test]
fn snapshots_of_several_shards_become_one_with_all_that_is_said_of_their_keys() {
    let model = sample(6);
    let part = |extent| {
        let mut pipeline = Rule(drop_and_move, Vec::new());
        rewrite(&model.bytes(), &[7], Rewriter::new(extent, None), &mut pipeline).unwrap()
    };
    let ((records, stats), (trailer, behind)) = (part(Extent::Records), part(Extent::Trailer));
    assert_eq!((stats.behind, behind.behind), (2, 0), "what the records left out");
    assert_eq!((behind.kept, behind.dropped, behind.renamed), (0, 0, 0), "keys are counted where they are written");
    let mut joined = Vec::new();
    write_head(&mut joined, 6);
    joined.extend([&records[..], &records].concat());
    write_end(&mut joined);
    joined.extend([&trailer[..], &trailer].concat());
    let one = plain(6).viewed(drop_and_move);
    let twice = Model {
        entries: [&one.entries[..], &one.entries].concat(),
        reads: [&one.reads[..], &one.reads].concat(),
        ..one
    };
    assert!(joined == twice.bytes());
}

#[test]
fn the_primary_s_own_place_in_its_history_does_not_pass() {
    let mut input = sample(6).bytes();
    input[9..25].fill(7);
    let (output, _) = rewrite(&input, WHOLE, whole(), &mut KeepAll).unwrap();
    assert!(output == plain(6).bytes());
}

#[test]
fn keys_are_asked_about_in_batches() {
    let key = |n: usize| Entry { code: 1, ttl: None, key: format!("key:{n:05}").into_bytes(), rest: blob(b"v") };
    let model = Model { version: 4, entries: (0..1200).map(key).collect(), aux: None, reads: Vec::new() };
    let mut pipeline = Rule(|key: &[u8]| Some(key.to_vec()), Vec::new());
    rewrite(&model.bytes(), &[100], whole(), &mut pipeline).unwrap();
    assert_eq!(pipeline.1, [BATCH_KEYS_MAX, BATCH_KEYS_MAX, 1200 - 2 * BATCH_KEYS_MAX]);
    let long = |n: usize| Entry { code: 1, ttl: None, key: vec![n as u8; BATCH_KEY_BYTES / 2 + 1], rest: blob(b"v") };
    let model = Model { entries: (0..4).map(long).collect(), ..model };
    let mut pipeline = Rule(|key: &[u8]| Some(key.to_vec()), Vec::new());
    rewrite(&model.bytes(), WHOLE, whole(), &mut pipeline).unwrap();
    assert_eq!(pipeline.1, [1, 1, 1, 1]);
}

#[test]
fn a_large_value_passes_or_is_skipped_as_it_comes() {
    let value = |key: &[u8], byte| Entry { code: 1, ttl: None, key: key.to_vec(), rest: blob(&vec![byte; 8 << 20]) };
    let entries = vec![value(b"move:a", 1), value(b"drop:b", 2), value(b"c", 3)];
    let model = Model { version: 4, entries, aux: None, reads: Vec::new() };
    let (input, expected) = (model.bytes(), model.viewed(drop_and_move).bytes());
    let (mut rewriter, mut pipeline) = (whole(), Rule(drop_and_move, Vec::new()));
    let (mut got, mut out) = (Vec::new(), Vec::new());
    for piece in input.chunks(64 * 1024) {
        rewriter.push(piece, &mut pipeline, &mut out).unwrap();
        assert!(out.len() <= HELD_BYTES + piece.len() + 100, "{} bytes at once", out.len());
        got.append(&mut out);
    }
    rewriter.finish(&mut pipeline, &mut got).unwrap();
    assert!(got == expected);
}

#[test]
fn the_shards_of_a_view_together_are_the_view() {
    let key = |n: usize| Entry { code: 1, ttl: None, key: format!("move:{n}").into_bytes(), rest: blob(b"v") };
    let model = Model { entries: (0..500).map(key).chain(sample(6).entries).collect(), ..plain(6) };
    let view = model.viewed(drop_and_move);
    for shards in [1, 2, 3, 4] {
        for routing in [Routing::WholeKey, Routing::Hashtag, Routing::Slots] {
            let mut kept = 0;
            for shard in 0..shards {
                let rewriter = Rewriter::new(Extent::Whole, Some(Share { routing, shards, shard }));
                let mut pipeline = Rule(drop_and_move, Vec::new());
                let (output, stats) = rewrite(&model.bytes(), &[1000], rewriter, &mut pipeline).unwrap();
                let here = |key: &[u8]| (shard_of(key, shards, routing) == shard).then(|| key.to_vec());
                assert!(output == view.viewed(here).bytes(), "by their new names");
                assert_eq!(stats.kept + stats.dropped + stats.renamed + stats.elsewhere, 509);
                kept += stats.kept + stats.renamed;
            }
            assert_eq!(kept, 507, "every key is in one shard");
        }
    }
}

/// Fails at its second question, or answers too little.
struct Faulty(usize, bool);

impl Pipeline for Faulty {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        self.0 += 1;
        answers.keep_all(batch.len() - usize::from(self.1));
        if self.0 == 2 { Err(PluginFault { plugin: "p".into(), what: "trapped".into() }) } else { Ok(()) }
    }

    fn frames(&mut self, _: &FrameBatch, _: &mut Vec<bool>) -> Result<(), PluginFault> {
        unreachable!()
    }

    fn traits(&self) -> Traits {
        KeepAll.traits()
    }
}

#[test]
fn the_first_fault_ends_the_rewrite() {
    let input = sample(6).bytes();
    let fault = rewrite(&input, WHOLE, whole(), &mut Faulty(0, false)).unwrap_err();
    assert_eq!(fault.to_string(), "plugin p failed on a snapshot, so the view halts: trapped");
    assert!(matches!(rewrite(&input, WHOLE, whole(), &mut Faulty(0, true)), Err(RewriteError::Plugin(_))));
    let (mut rewriter, mut out) = (whole(), Vec::new());
    let error = rewriter.push(b"KEVYSNAP\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08", &mut KeepAll, &mut out).unwrap_err();
    assert!(matches!(&error, RewriteError::Snapshot(error) if error.defect == Defect::Segment));
    assert_eq!(rewriter.push(&input, &mut KeepAll, &mut out), Err(error.clone()));
    assert_eq!(rewriter.finish(&mut KeepAll, &mut out), Err(error));
}

#[test]
fn a_snapshot_that_ends_too_early_is_no_snapshot() {
    let model = Model { aux: None, reads: Vec::new(), ..sample(6) };
    let input = model.bytes();
    for length in 0..input.len() {
        let cut = rewrite(&input[..length], WHOLE, whole(), &mut KeepAll);
        assert!(matches!(cut, Err(RewriteError::Snapshot(error)) if error.offset == length as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_view_is_the_rule_applied_to_every_record(
        model in models(), cuts in vec(1..300usize, 1..8), shards in 1..4usize,
    ) {
        let share = Share { routing: Routing::Hashtag, shards, shard: shards - 1 };
        let expected = Model { aux: None, ..model.viewed(by_thirds) }.viewed(|key| share.holds(key).then(|| key.to_vec()));
        let rewriter = Rewriter::new(Extent::Whole, Some(share));
        let (output, _) = rewrite(&model.bytes(), &cuts, rewriter, &mut Rule(by_thirds, Vec::new())).unwrap();
        prop_assert_eq!(output, expected.bytes());
    }

    #[test]
    fn garbage_gives_the_same_in_any_pieces(
        version in 4..=7u8, bytes in vec(prop_oneof![0..11u8, any::<u8>()], 0..300), size in 1..50usize,
    ) {
        let garbage = [b"KEVYSNAP", &[version][..], &bytes].concat();
        let whole_at_once = rewrite(&garbage, WHOLE, whole(), &mut Rule(by_thirds, Vec::new()));
        let in_pieces = rewrite(&garbage, &[size], whole(), &mut Rule(by_thirds, Vec::new()));
        prop_assert_eq!(whole_at_once, in_pieces);
    }
}
