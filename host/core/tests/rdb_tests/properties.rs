//! Whatever is in a snapshot, however it is cut, whatever the rule: the view's snapshot is the rule applied to the entries.

use crate::support::{Entry, Rules, newest, read, rewrite, values};
use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::rdb::write::{write_end, write_expiry, write_magic, write_select, write_string};
use sluicegate_core::rdb::{Family, Intake};

/// A key to be: its database, its name and whether that is packed, which of the sample values it has, and its expiry.
type Made = (u8, Vec<u8>, bool, usize, Option<i64>);

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Redis), Just(Family::Valkey)]
}

fn keys() -> impl Strategy<Value = Vec<Made>> {
    let name = vec(any::<u8>(), 0..24);
    vec((0..3u8, name, any::<bool>(), any::<prop::sample::Index>(), any::<Option<i64>>()), 0..60).prop_map(|made| {
        made.into_iter().map(|(db, name, pack, value, expiry)| (db, name, pack, value.index(64), expiry)).collect()
    })
}

fn snapshot(family: Family, made: &[Made]) -> Vec<u8> {
    let (mut out, values) = (Vec::new(), values(family));
    write_magic(&mut out, family, newest(family));
    for (db, name, pack, value, expiry) in made {
        write_select(&mut out, u32::from(*db));
        if let Some(expiry) = expiry {
            write_expiry(&mut out, *expiry);
        }
        let (kind, value) = &values[value % values.len()];
        out.push(*kind);
        if *pack && !name.is_empty() {
            // Packed as nothing but literals.
            out.extend_from_slice(&[0xc3, name.len() as u8 + 1, name.len() as u8, name.len() as u8 - 1]);
            out.extend_from_slice(name);
        } else {
            write_string(&mut out, name);
        }
        out.extend_from_slice(value);
    }
    write_end(&mut out);
    out
}

/// Drops a third of all names, puts a database's number before another third, and keeps the rest.
fn by_thirds(db: u32, key: &[u8]) -> Option<Vec<u8>> {
    match key.iter().fold(0u32, |sum, byte| sum + u32::from(*byte)) % 3 {
        0 => None,
        1 => Some([&[b'0' + db as u8, b':'][..], key].concat()),
        _ => Some(key.to_vec()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_view_is_the_rule_applied_to_every_entry(
        family in family(), made in keys(), chunks in vec(1..200usize, 1..8),
    ) {
        let input = snapshot(family, &made);
        let expected: Vec<Entry> = read(&input).entries.into_iter()
            .filter_map(|entry| by_thirds(entry.db as u32, &entry.name).map(|name| Entry { name, ..entry }))
            .collect();
        let (output, stats, taken) = rewrite(&input, &chunks, &mut Rules::new(by_thirds)).unwrap();
        prop_assert_eq!(taken, input.len());
        prop_assert_eq!(read(&output).entries, expected);
        prop_assert_eq!(stats.kept + stats.renamed + stats.dropped, made.len() as u64);
        let mut intake = Intake::new();
        prop_assert_eq!(intake.push(&output), Ok(output.len()));
        prop_assert!(intake.is_done(), "with its checksum verified");
    }

    #[test]
    fn any_bytes_behind_a_magic_end_in_an_error_or_in_a_snapshot(
        family in family(), bytes in vec(any::<u8>(), 0..300), chunk in 1..50usize,
    ) {
        let mut input = Vec::new();
        write_magic(&mut input, family, if family == Family::Redis { 9 } else { 80 });
        input.extend(bytes);
        write_end(&mut input);
        let whole = rewrite(&input, &[usize::MAX], &mut Rules::new(by_thirds));
        let pieces = rewrite(&input, &[chunk], &mut Rules::new(by_thirds));
        prop_assert_eq!(whole, pieces);
    }
}
