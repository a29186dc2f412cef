//! Snapshots that real servers wrote (see `rdb/README.md`), taken in and rewritten.

use crate::support::{Entry, Rules, read, rewrite};
use sluicegate_core::rdb::{CrcKind, Family, Intake};
use std::collections::BTreeSet;

pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
    family: Family,
    pub(crate) version: u32,
    server: &'static str,
    libraries: &'static [&'static str],
}

macro_rules! fixture {
    ($name:literal, $family:ident, $version:literal, $server:literal, $libraries:expr) => {
        Fixture {
            name: $name,
            bytes: include_bytes!(concat!("../rdb/", $name, ".rdb")),
            family: Family::$family,
            version: $version,
            server: $server,
            libraries: $libraries,
        }
    };
}

const LIBRARIES: &[&str] = &["openlib", "secretlib"];

pub(crate) const FIXTURES: [Fixture; 8] = [
    fixture!("redis-6.2-compact", Redis, 9, "6.2.14", &[]),
    fixture!("redis-6.2-large", Redis, 9, "6.2.14", &[]),
    fixture!("redis-7.0-compact", Redis, 10, "7.0.15", LIBRARIES),
    fixture!("redis-7.0-large", Redis, 10, "7.0.15", LIBRARIES),
    fixture!("redis-8.2-compact", Redis, 12, "8.2.3", LIBRARIES),
    fixture!("redis-8.2-large", Redis, 12, "8.2.3", LIBRARIES),
    fixture!("valkey-9.1-compact", Valkey, 80, "9.1.2", LIBRARIES),
    fixture!("valkey-9.1-large", Valkey, 80, "9.1.2", LIBRARIES),
];

#[test]
fn what_servers_write_is_taken_in_whole() {
    for fixture in FIXTURES {
        for chunk in [1, 17, 4096, usize::MAX] {
            let mut intake = Intake::new();
            let taken: usize = fixture.bytes.chunks(chunk).map(|piece| intake.push(piece).expect(fixture.name)).sum();
            assert_eq!(taken, fixture.bytes.len(), "{}", fixture.name);
            let summary = intake.summary().expect(fixture.name);
            assert_eq!((summary.family, summary.version), (fixture.family, fixture.version), "{}", fixture.name);
            assert_eq!(summary.server_version.as_deref(), Some(fixture.server), "{}", fixture.name);
            assert_eq!(summary.keys, read(fixture.bytes).entries.len() as u64, "{}", fixture.name);
            assert_eq!(summary.functions, fixture.libraries.len() as u64, "{}", fixture.name);
            assert_eq!((summary.expires, summary.crc), (4, CrcKind::Checked), "{}", fixture.name);
        }
    }
}

#[test]
fn views_of_them_hold_what_their_rule_says() {
    let rule = |_: u32, key: &[u8]| match key.strip_prefix(b"ren:") {
        Some(rest) => Some([b"renamed:", rest].concat()),
        None => (!key.starts_with(b"drop:")).then(|| key.to_vec()),
    };
    for fixture in FIXTURES {
        let mut rules = Rules::new(rule);
        rules.hidden_library = Some("secretlib");
        let (output, stats, _) = rewrite(fixture.bytes, &[333], &mut rules).expect(fixture.name);
        rules.libraries_asked.sort();
        assert_eq!(rules.libraries_asked, fixture.libraries, "{}", fixture.name);
        let before = read(fixture.bytes).entries.into_iter();
        let expected: Vec<Entry> =
            before.filter_map(|entry| rule(0, &entry.name).map(|name| Entry { name, ..entry })).collect();
        assert!(stats.kept > 0 && stats.dropped > 0 && stats.renamed > 0, "{}: {stats:?}", fixture.name);
        assert_eq!(read(&output).entries, expected, "{}", fixture.name);
        let names: BTreeSet<_> = expected.iter().map(|entry| entry.name.as_slice()).collect();
        assert!(
            names.contains(&b"12345"[..]) && names.contains(&b"-2000000"[..]),
            "{}: names as numbers",
            fixture.name
        );
        let packed = [&b"renamed:"[..], &[b'k'; 90]].concat();
        assert!(names.contains(packed.as_slice()), "{}: a packed name", fixture.name);
        let mut intake = Intake::new();
        assert_eq!(intake.push(&output), Ok(output.len()), "{}", fixture.name);
        assert!(intake.is_done(), "{}", fixture.name);
    }
}

#[test]
fn the_fixtures_have_every_type_that_these_servers_write() {
    let kinds: BTreeSet<u8> =
        FIXTURES.iter().flat_map(|fixture| read(fixture.bytes).entries).map(|entry| entry.kind).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [0, 2, 4, 5, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25]
    );
}
