//! Stories about snapshots as they arrive: walked whatever the cuts, and believed only as far as the bytes go.

use crate::model::{Entry, Model, blob, models, sample};
use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::kevy::snapshot::{Defect, Intake, Part, Record, Sink, SnapshotError, Summary, Walker, write_head};
use sluicegate_core::rdb;

/// kevy 7.0: the snapshot of an empty store.
const EMPTY: &[u8] = b"KEVYSNAP\x04\x00\t\x06\0\0\0\x11\0\0\0XINTERNAL.CATALOG\r\0\0\x001795374970546\x01\0\0\x000\
    \0\0\0\0\0\0\0\0\0\0\0\0";

/// kevy 1.19: a small shard.
const SMALL: &[u8] = b"KEVYSNAP\x04\
    \x03\x00\x01\x00\x00\x00l\x02\x00\x00\x00\x01\x00\x00\x00a\x01\x00\x00\x00b\
    \x04\x00\x03\x00\x00\x00set\x02\x00\x00\x00\x02\x00\x00\x00m1\x02\x00\x00\x00m2\
    \x01\x00\x03\x00\x00\x00int\x05\x00\x00\x0012345\
    \x01\x01\x78\x8b\xad\x04\xa2\x01\x00\x00\x02\x00\x00\x00s2\x08\x00\x00\x00with-ttl\x00";

/// Puts what is walked together again.
#[derive(Default)]
struct Collector {
    model: Option<Model>,
    /// The bytes of all parts.
    raw: Vec<u8>,
    in_trailer: bool,
    open: bool,
}

impl Sink for Collector {
    type Error = SnapshotError;

    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), SnapshotError> {
        self.raw.extend_from_slice(raw);
        if let Part::Head { version } = part {
            self.model = Some(Model { version, entries: Vec::new(), aux: None, reads: Vec::new() });
            return Ok(());
        }
        let model = self.model.as_mut().expect("the head comes first");
        let entries = if self.in_trailer { &mut model.reads } else { &mut model.entries };
        assert_eq!(self.open, matches!(part, Part::Value { .. }), "a record is walked to its end");
        match part {
            Part::Key { record, name, expires } => {
                let ttl = expires.then(|| u64::from_le_bytes(raw[2..10].try_into().unwrap()));
                assert_eq!(record == Record::GroupReads, self.in_trailer);
                entries.push(Entry { code: raw[0], ttl, key: name.to_vec(), rest: Vec::new() });
                self.open = true;
            }
            Part::Value { last } => {
                assert!(!raw.is_empty());
                entries.last_mut().unwrap().rest.extend_from_slice(raw);
                self.open = !last;
            }
            Part::End => self.in_trailer = true,
            Part::Aux => assert!(self.in_trailer),
            Part::Head { .. } => unreachable!(),
        }
        Ok(())
    }
}

/// Walks `bytes` in pieces of the sizes that `cuts` goes through again and again.
fn walk(bytes: &[u8], cuts: &[usize]) -> Result<Collector, SnapshotError> {
    let (mut walker, mut collector, mut rest) = (Walker::new(), Collector::default(), bytes);
    for size in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*size).max(1).min(rest.len()));
        walker.push(piece, &mut collector)?;
        rest = behind;
    }
    walker.finish()?;
    assert_eq!(collector.raw, bytes, "every byte is in one part");
    Ok(collector)
}

fn take(bytes: &[u8]) -> Result<Summary, SnapshotError> {
    let mut intake = Intake::new();
    intake.push(bytes)?;
    assert_eq!(intake.is_complete(), intake.finish().is_ok());
    intake.finish().copied()
}

fn common(defect: rdb::Defect) -> Defect {
    Defect::Common(defect)
}

#[test]
fn snapshots_of_real_servers_are_taken() {
    let empty = Summary { version: 4, bytes: EMPTY.len() as u64, aux: true, ..Summary::default() };
    assert_eq!((take(EMPTY), EMPTY.len()), (Ok(empty), 70));
    let small = Summary { version: 4, bytes: 102, keys: 4, expires: 1, ..Summary::default() };
    assert_eq!(take(SMALL), Ok(small));
}

#[test]
fn every_version_is_walked_whatever_the_cuts() {
    for version in 4..=7 {
        let model = sample(version);
        let bytes = model.bytes();
        let expected = Model { aux: None, ..model };
        for size in [1, 2, 3, 5, 8, 64, usize::MAX] {
            assert_eq!(walk(&bytes, &[size]).unwrap().model.as_ref(), Some(&expected), "pieces of {size}");
        }
        for cut in 1..bytes.len() {
            assert_eq!(walk(&bytes, &[cut, usize::MAX]).unwrap().model.as_ref(), Some(&expected), "cut at {cut}");
        }
        let fields = if version >= 6 { 2 } else { 0 };
        let (bytes, keys) = (bytes.len() as u64, 9);
        let summary = Summary { version, bytes, keys, expires: 2, field_expiries: fields, group_reads: 2, aux: true };
        assert_eq!(take(&sample(version).bytes()), Ok(summary));
    }
}

#[test]
fn a_snapshot_may_end_behind_its_mark_and_behind_every_part_of_its_trailer() {
    let mut model = sample(6);
    let ends: Vec<usize> = [(None, 0), (model.aux.take(), 0), (sample(6).aux, 1), (sample(6).aux, 2)]
        .into_iter()
        .map(|(aux, reads)| Model { aux, reads: sample(6).reads[..reads].to_vec(), ..model.clone() }.bytes().len())
        .collect();
    let bytes = sample(6).bytes();
    for length in 0..=bytes.len() {
        let taken = take(&bytes[..length]);
        match taken {
            Ok(summary) => assert_eq!(summary.bytes, length as u64),
            Err(error) => {
                assert_eq!(error, SnapshotError { offset: length as u64, defect: common(rdb::Defect::Truncated) });
            }
        }
        assert_eq!(taken.is_ok(), ends.contains(&length), "{length} bytes of {}", bytes.len());
    }
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let head = |version: u8| {
        let mut out = Vec::new();
        write_head(&mut out, version);
        out
    };
    let cases: &[(Vec<u8>, u64, Defect)] = &[
        (b"REDIS0011".to_vec(), 0, Defect::Magic),
        (b"KEVYSNIP".to_vec(), 0, Defect::Magic),
        (b"X".to_vec(), 0, Defect::Magic),
        (b"KEVYSNAP\x01".to_vec(), 8, Defect::Version(1)),
        (b"KEVYSNAP\x02\0".to_vec(), 8, Defect::Version(2)),
        (b"KEVYSNAP\x03\0".to_vec(), 8, Defect::Version(3)),
        (b"KEVYSNAP\x08".to_vec(), 8, Defect::Version(8)),
        ([head(7), vec![8, 0]].concat(), 25, Defect::Segment),
        ([head(4), vec![7]].concat(), 9, Defect::Record { version: 4, code: 7 }),
        ([head(4), vec![10]].concat(), 9, Defect::Record { version: 4, code: 10 }),
        ([head(6), vec![255]].concat(), 25, Defect::Record { version: 6, code: 255 }),
        ([head(4), vec![0, 1]].concat(), 10, Defect::Trailer(1)),
        ([head(4), vec![0, 0]].concat(), 10, Defect::Trailer(0)),
        ([head(4), vec![0, 9, 0, 0, 0, 0, 9]].concat(), 15, Defect::Trailer(9)),
        ([head(4), vec![1, 2]].concat(), 10, common(rdb::Defect::Flag(2))),
        ([head(4), vec![0, 10], blob(b"k"), blob(b"g"), vec![2]].concat(), 21, common(rdb::Defect::Flag(2))),
        (
            [head(4), vec![1, 0, 1, 0, 0, 0x20]].concat(),
            11,
            common(rdb::Defect::TooLong { what: "a key name", bytes: (1 << 29) + 1, bound: 1 << 29 }),
        ),
    ];
    for (bytes, offset, defect) in cases {
        for size in [usize::MAX, 1] {
            let error = walk(bytes, &[size]).err().unwrap_or_else(|| panic!("{bytes:?} is taken"));
            assert_eq!(error, SnapshotError { offset: *offset, defect: *defect }, "{bytes:?} in pieces of {size}");
        }
    }
    let segment = take(&cases[7].0).unwrap_err().to_string();
    assert_eq!(
        segment,
        "the upstream's snapshot is refused: at byte 25, a row lies in a file of the primary (a row segment), which no \
         snapshot brings along"
    );
}

#[test]
fn an_error_stays() {
    let mut intake = Intake::new();
    let error = intake.push(b"KEVYSNAP\x09").unwrap_err();
    assert_eq!(intake.push(&EMPTY[9..]), Err(error));
    assert_eq!(intake.finish(), Err(error));
}

#[test]
fn a_claim_costs_nothing_until_the_bytes_come() {
    /// Counts what passes and never says that it is enough.
    #[derive(Default)]
    struct Endless(u64);
    impl Sink for Endless {
        type Error = SnapshotError;
        fn part(&mut self, raw: &[u8], _: Part<'_>) -> Result<(), SnapshotError> {
            self.0 += raw.len() as u64;
            Ok(())
        }
    }
    // Four thousand million streams of as many entries of as many fields, and a string of four gibibytes.
    let most = [0xff; 4];
    for rest in [[&[6, 0][..], &blob(b"k"), &[0; 40], &most].concat(), [&[1, 0][..], &blob(b"k"), &most].concat()] {
        let (mut walker, mut sink) = (Walker::new(), Endless::default());
        walker.push(&[&b"KEVYSNAP\x04"[..], &rest].concat(), &mut sink).unwrap();
        for _ in 0..64 {
            walker.push(&[0; 16 * 1024], &mut sink).unwrap();
        }
        assert!(walker.bytes() - sink.0 < 16, "next to nothing is held back");
        assert!(!walker.is_complete());
    }
}

#[test]
fn one_wrong_byte_is_an_error_or_another_sound_snapshot() {
    for version in [4, 6] {
        let bytes = sample(version).bytes();
        for place in 0..bytes.len() {
            for flaw in [0, 1, 2, 3, 7, 8, 9, 10, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[place] = flaw;
                let whole = walk(&broken, &[usize::MAX]).map(|collector| collector.model);
                let pieces = walk(&broken, &[3]).map(|collector| collector.model);
                assert_eq!(whole, pieces, "byte {place} made {flaw}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_snapshot_is_walked_whatever_the_cuts(model in models(), cuts in vec(1..200usize, 1..8)) {
        let bytes = model.bytes();
        let found = walk(&bytes, &cuts).unwrap();
        prop_assert_eq!(found.model, Some(Model { aux: None, ..model.clone() }));
        let summary = take(&bytes).unwrap();
        prop_assert_eq!(summary.keys + summary.field_expiries, model.entries.len() as u64);
        prop_assert_eq!((summary.group_reads, summary.aux), (model.reads.len() as u64, model.aux.is_some()));
    }

    #[test]
    fn garbage_ends_in_an_error_or_in_a_snapshot(
        version in 4..=7u8, bytes in vec(prop_oneof![0..11u8, any::<u8>()], 0..300), size in 1..50usize,
    ) {
        let garbage = [b"KEVYSNAP", &[version][..], &bytes].concat();
        let whole = walk(&garbage, &[usize::MAX]).map(|collector| collector.model);
        let pieces = walk(&garbage, &[size]).map(|collector| collector.model);
        prop_assert_eq!(whole, pieces);
    }
}
