//! Stories of a view's snapshot made of its upstream's.

use crate::support::{Entry, HEAD, Listing, Rule, Rules, read, rewrite, sample, text};
use sluicegate_core::pipeline::{
    Answers, BATCH_KEY_BYTES, BATCH_KEYS_MAX, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits,
};
use sluicegate_core::rdb::write::{write_end, write_function, write_magic, write_select, write_string_key};
use sluicegate_core::rdb::{Defect, Family, HELD_BYTES, Intake, RewriteError, Rewriter};

const FAMILIES: [Family; 2] = [Family::Redis, Family::Valkey];
const WHOLE: &[usize] = &[usize::MAX];

/// What the view should hold: the rule, applied to what the independent reader found.
fn viewed(list: &Listing, rule: &Rule) -> Vec<Entry> {
    let named = |entry: &Entry| rule(entry.db as u32, &entry.name).map(|name| Entry { name, ..entry.clone() });
    list.entries.iter().filter_map(named).collect()
}

/// Drops `drop:`, moves `move:` to `elsewhere:`, and keeps what is left.
fn drop_and_move(_: u32, key: &[u8]) -> Option<Vec<u8>> {
    match key.strip_prefix(b"move:") {
        Some(rest) => Some([b"elsewhere:", rest].concat()),
        None if key.starts_with(b"drop:") => None,
        None => Some(key.to_vec()),
    }
}

/// A snapshot of these keys in database 0, each with a value of so many bytes.
fn snapshot(keys: &[(&[u8], usize)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_magic(&mut out, Family::Redis, 11);
    write_select(&mut out, 0);
    keys.iter().for_each(|(key, bytes)| write_string_key(&mut out, key, &vec![b'v'; *bytes]));
    write_end(&mut out);
    out
}

#[test]
fn a_view_of_everything_has_everything_under_its_own_head() {
    for family in FAMILIES {
        let input = sample(family);
        let (output, stats, taken) = rewrite(&input, WHOLE, &mut Rules::identity()).unwrap();
        let (before, after) = (read(&input), read(&output));
        assert_eq!(taken, input.len());
        assert_eq!(after.entries, before.entries);
        assert_eq!(after.functions, before.functions);
        assert_eq!(after.opaque, before.opaque);
        assert_eq!((before.hints, after.hints), (2, 0), "hints speak of the whole snapshot");
        let names: Vec<_> = after.aux.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, ["redis-ver", "redis-bits", "repl-stream-db", "repl-id", "repl-offset", "aof-base"]);
        assert_eq!(
            after.aux[2..5].iter().map(|(_, value)| value.as_slice()).collect::<Vec<_>>(),
            [b"3".as_slice(), &HEAD.repl_id, b"4711"]
        );
        assert_eq!((stats.kept, stats.dropped, stats.renamed), (before.entries.len() as u64, 0, 0));
        assert_eq!((stats.bytes_in, stats.bytes_out), (input.len() as u64, output.len() as u64));
        assert_eq!(&output[..9], &input[..9], "the format stays");
    }
}

#[test]
fn without_hints_and_with_its_own_head_a_snapshot_passes_unchanged() {
    for family in FAMILIES {
        let (once, ..) = rewrite(&sample(family), WHOLE, &mut Rules::identity()).unwrap();
        let (twice, ..) = rewrite(&once, WHOLE, &mut Rules::identity()).unwrap();
        assert!(once == twice);
    }
}

#[test]
fn dropped_keys_are_gone_and_moved_ones_have_their_new_names() {
    for family in FAMILIES {
        let input = sample(family);
        let mut rules = Rules::new(drop_and_move);
        let (output, stats, _) = rewrite(&input, WHOLE, &mut rules).unwrap();
        let (before, after) = (read(&input), read(&output));
        assert_eq!(after.entries, viewed(&before, &rules.key), "the rest of each entry is what it was");
        assert!(!output.windows(5).any(|bytes| bytes == b"drop:" || bytes == b"move:"), "not a trace of the old names");
        assert_eq!(stats.kept + stats.dropped + stats.renamed, before.entries.len() as u64);
        assert_eq!(stats.kept + stats.renamed, after.entries.len() as u64);
        let mut intake = Intake::new();
        assert_eq!(intake.push(&output), Ok(output.len()));
        let summary = intake.summary().expect("the view's snapshot is whole");
        assert_eq!(
            (summary.repl_id, summary.repl_offset, summary.repl_stream_db),
            (Some([b'a'; 40]), Some(4711), Some(3))
        );
        assert_eq!(summary.keys, after.entries.len() as u64);
    }
}

#[test]
fn the_size_of_the_pieces_changes_nothing() {
    for family in FAMILIES {
        let input = [&sample(family)[..], b"*1\r\n"].concat();
        let expected = rewrite(&input, WHOLE, &mut Rules::new(drop_and_move)).unwrap();
        assert_eq!(expected.2, input.len() - 4, "what follows the snapshot is left alone");
        for chunk in [1, 2, 3, 7, 9, 64, 1000] {
            let got = rewrite(&input, &[chunk], &mut Rules::new(drop_and_move)).unwrap();
            assert!(got == expected, "pieces of {chunk}");
        }
        for cut in 1..expected.2 {
            let got = rewrite(&input, &[cut, usize::MAX], &mut Rules::new(drop_and_move)).unwrap();
            assert!(got == expected, "cut at {cut}");
        }
    }
}

#[test]
fn a_database_is_selected_only_for_a_key_that_is_kept() {
    let mut input = Vec::new();
    write_magic(&mut input, Family::Redis, 11);
    for db in [4, 5, 6, 4] {
        write_select(&mut input, db);
        write_string_key(&mut input, format!("in{db}").as_bytes(), b"v");
    }
    write_end(&mut input);
    let (output, ..) = rewrite(&input, WHOLE, &mut Rules::new(|db, key| (db == 6).then(|| key.to_vec()))).unwrap();
    assert_eq!(output.iter().filter(|&&byte| byte == 0xfe).count(), 1);
    let entries = read(&output).entries;
    assert_eq!(entries.iter().map(|entry| (entry.db, entry.name.as_slice())).collect::<Vec<_>>(), [(6, &b"in6"[..])]);
    let (output, ..) = rewrite(&input, WHOLE, &mut Rules::new(|_, _| None)).unwrap();
    assert!(!output.contains(&0xfe), "a view of nothing selects nothing");
    assert_eq!(read(&output).aux.len(), 3, "but says whose it is");
}

#[test]
fn dropped_keys_take_their_expiry_with_them() {
    let mut input = Vec::new();
    write_magic(&mut input, Family::Redis, 11);
    write_select(&mut input, 0);
    let attributes = |tag: u8| [&[0xf8, tag - b'a', 0xf9, tag][..], &[0xfc, tag, 0, 0, 0, 0, 0, 0, 0]].concat();
    for key in [&b"drop:a"[..], b"keep:b", b"drop:c", b"move:d", b"drop:e"] {
        input.extend(attributes(key[5]));
        write_string_key(&mut input, key, b"v");
    }
    write_end(&mut input);
    let (output, ..) = rewrite(&input, WHOLE, &mut Rules::new(drop_and_move)).unwrap();
    let seen: Vec<_> = read(&output).entries.into_iter().map(|entry| (entry.name, entry.rest)).collect();
    let expected = |name: &[u8], tag: u8| (name.to_vec(), [&attributes(tag)[..], &[0, 1, b'v']].concat());
    assert_eq!(seen, [expected(b"keep:b", b'b'), expected(b"elsewhere:d", b'd')]);
}

#[test]
fn libraries_are_asked_about_by_name_even_when_packed() {
    let input = sample(Family::Redis);
    let mut rules = Rules::identity();
    rules.hidden_library = Some("hidden");
    let (output, stats, _) = rewrite(&input, &[11], &mut rules).unwrap();
    assert_eq!(rules.libraries_asked, ["open", "hidden"]);
    assert_eq!(read(&output).functions, [b"#!lua name=open\nreturn 1"]);
    assert_eq!((stats.functions_kept, stats.functions_dropped), (1, 1));
}

#[test]
fn a_library_that_cannot_be_asked_about_by_name_stops_the_view() {
    let mut input = Vec::new();
    write_magic(&mut input, Family::Redis, 10);
    write_function(&mut input, b"return 1");
    write_end(&mut input);
    assert!(rewrite(&input, WHOLE, &mut Rules::identity()).is_ok(), "where nobody decides, it passes");
    let mut rules = Rules::identity();
    rules.hidden_library = Some("hidden");
    let Err(RewriteError::Snapshot(error)) = rewrite(&input, WHOLE, &mut rules) else { panic!("it has to be refused") };
    assert_eq!((error.offset, error.defect), (9, Defect::Unnamed));
}

#[test]
fn keys_are_asked_about_in_full_batches() {
    let names: Vec<String> = (0..BATCH_KEYS_MAX * 2 + 3).map(|n| format!("key:{n}")).collect();
    let keys: Vec<(&[u8], usize)> = names.iter().map(|name| (name.as_bytes(), 5)).collect();
    let mut rules = Rules::identity();
    rewrite(&snapshot(&keys), &[100], &mut rules).unwrap();
    assert_eq!(rules.batches, [BATCH_KEYS_MAX, BATCH_KEYS_MAX, 3]);

    let long = vec![b'n'; BATCH_KEY_BYTES + 1];
    let mut rules = Rules::identity();
    rewrite(&snapshot(&[(b"a", 1), (b"b", 1), (&long, 1), (b"c", 1)]), &[100], &mut rules).unwrap();
    assert_eq!(rules.batches, [2, 1, 1], "a long name is a batch of its own");
}

#[test]
fn large_values_stream_through_and_are_never_held() {
    let large = 40 * HELD_BYTES;
    let input = snapshot(&[(b"keep:small", 9), (b"keep:large", large), (b"drop:large", large), (b"move:large", large)]);
    let expected = viewed(&read(&input), &(Box::new(drop_and_move) as Rule));
    for chunk in [1000, 65_536, usize::MAX] {
        let mut rules = Rules::new(drop_and_move);
        let (mut rewriter, mut out, mut taken) = (Rewriter::new(HEAD), Vec::new(), 0);
        for piece in input.chunks(chunk) {
            let before = out.len();
            taken += rewriter.push(piece, &mut rules, &mut out).unwrap();
            assert!(out.len() - before <= piece.len() + HELD_BYTES + 1000, "what comes in goes out");
            assert!(taken <= out.len() + HELD_BYTES + 1000 + large, "only what is dropped stays behind");
        }
        assert!(rewriter.is_done());
        assert!(read(&out).entries == expected);
        assert_eq!(rules.batches.iter().sum::<usize>(), 4);
        assert!(rules.batches.len() >= 3, "a value that does not fit closes its batch");
    }
}

#[test]
fn a_truncated_snapshot_makes_no_view() {
    let input = sample(Family::Redis);
    for end in 0..input.len() {
        let error = rewrite(&input[..end], WHOLE, &mut Rules::new(drop_and_move)).unwrap_err();
        let RewriteError::Snapshot(error) = error else { panic!("it is the upstream's fault") };
        assert_eq!((error.offset, error.defect), (end as u64, Defect::Truncated));
    }
}

#[test]
fn a_wrong_checksum_leaves_the_view_without_its_end() {
    let mut input = snapshot(&[(b"k", 1)]);
    *input.last_mut().unwrap() ^= 1;
    let (mut rewriter, mut out) = (Rewriter::new(HEAD), Vec::new());
    let error = rewriter.push(&input, &mut Rules::identity(), &mut out).unwrap_err();
    assert!(matches!(error, RewriteError::Snapshot(e) if matches!(e.defect, Defect::Crc { .. })));
    assert!(!out.contains(&0xff), "what is damaged must not look whole");
    assert!(!rewriter.is_done());
    assert_eq!(rewriter.finish(), Err(error));
}

#[test]
fn a_missing_checksum_is_made_up_for() {
    let mut input = snapshot(&[(b"k", 1)]);
    let sum_at = input.len() - 8;
    input[sum_at..].fill(0);
    let (output, ..) = rewrite(&input, WHOLE, &mut Rules::identity()).unwrap();
    let (again, ..) = rewrite(&output, WHOLE, &mut Rules::identity()).unwrap();
    assert_eq!(again, output);
    assert_ne!(output[output.len() - 8..], [0; 8]);
}

#[test]
fn unknown_aux_fields_do_not_pass() {
    let mut input = Vec::new();
    write_magic(&mut input, Family::Redis, 11);
    for name in [&b"redis-ver"[..], b"lua", b"secret-hint", b"slot-info", b"valkey-ver"] {
        input.extend([&[0xfa][..], &text(name), &text(b"x")].concat());
    }
    write_end(&mut input);
    let (output, ..) = rewrite(&input, &[3], &mut Rules::identity()).unwrap();
    let names: Vec<_> = read(&output).aux.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["redis-ver", "repl-stream-db", "repl-id", "repl-offset", "lua", "valkey-ver"]);
}

/// A pipeline that fails, or answers too little.
struct Broken {
    answers: Option<usize>,
}

impl Pipeline for Broken {
    fn keys(&mut self, _: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        match self.answers {
            Some(count) => answers.keep_all(count),
            None => return Err(PluginFault { plugin: "masker".into(), what: "out of fuel".into() }),
        }
        Ok(())
    }

    fn frames(&mut self, _: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: true, decides_frames: true, renames: true, inexact: false }
    }
}

#[test]
fn a_failing_plugin_stops_the_view_for_good_and_is_named() {
    let input = snapshot(&[(b"a", 1), (b"b", 1)]);
    let (mut rewriter, mut out) = (Rewriter::new(HEAD), Vec::new());
    let error = rewriter.push(&input, &mut Broken { answers: None }, &mut out).unwrap_err();
    assert_eq!(error.to_string(), "plugin masker failed on a snapshot, so the view halts: out of fuel");
    assert_eq!(rewriter.push(b"", &mut Rules::identity(), &mut out), Err(error), "and it stays so");
    assert!(!rewriter.is_done());
    for count in [0, 1, 3] {
        let (mut rewriter, mut out) = (Rewriter::new(HEAD), Vec::new());
        let error = rewriter.push(&input, &mut Broken { answers: Some(count) }, &mut out).unwrap_err();
        assert!(matches!(error, RewriteError::Plugin(_)), "two keys and {count} answers");
    }
    let mut library = Vec::new();
    write_magic(&mut library, Family::Redis, 11);
    write_function(&mut library, b"#!lua name=lib\n");
    let error = Rewriter::new(HEAD).push(&library, &mut Broken { answers: None }, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, RewriteError::Plugin(_)), "no answer about a library is no answer");
}
