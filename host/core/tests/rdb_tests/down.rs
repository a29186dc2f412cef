//! Stories of snapshots that are written down for older servers and for those of the other family.

use sluicegate_core::pipeline::KeepAll;
use sluicegate_core::rdb::write::{write_end, write_function, write_len, write_magic, write_select, write_string};
use sluicegate_core::rdb::{Family, Intake, RewriteError, Rewriter, ServerVersion, Summary, Target, fit};

use crate::servers::FIXTURES;
use crate::support::{HEAD, Rules, read, stream, text, times};

const REDIS_6: Target = Target { family: Family::Redis, version: 9 };
const REDIS_7: Target = Target { family: Family::Redis, version: 10 };
const REDIS_8: Target = Target { family: Family::Redis, version: 12 };
const VALKEY_9: Target = Target { family: Family::Valkey, version: 80 };

fn summary(bytes: &[u8]) -> Summary {
    let mut intake = Intake::new();
    assert_eq!(intake.push(bytes), Ok(bytes.len()));
    intake.summary().expect("it is whole").clone()
}

/// Writes `input` down in pieces of `chunk` bytes.
fn down(input: &[u8], target: Target, chunk: usize) -> Result<Vec<u8>, RewriteError> {
    let (mut rewriter, mut out) = (Rewriter::to(HEAD, target), Vec::new());
    for piece in input.chunks(chunk) {
        rewriter.push(piece, &mut KeepAll, &mut out)?;
    }
    rewriter.finish()?;
    Ok(out)
}

/// A snapshot with one key `k` of this type.
fn single(family: Family, version: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_magic(&mut out, family, version);
    write_select(&mut out, 0);
    out.push(kind);
    write_string(&mut out, b"k");
    out.extend_from_slice(value);
    write_end(&mut out);
    out
}

/// The type and value that the key of a snapshot gets.
fn becomes(family: Family, version: u32, kind: u8, value: &[u8], target: Target) -> Vec<u8> {
    let input = single(family, version, kind, value);
    let made = down(&input, target, usize::MAX).expect("it can be written down");
    for chunk in [1, 2, 3, 7, 64] {
        assert_eq!(down(&input, target, chunk).as_ref(), Ok(&made), "pieces of {chunk} bytes");
    }
    assert_eq!((summary(&made).family, summary(&made).version), (target.family, target.version));
    read(&made).entries.remove(0).rest
}

#[test]
fn what_servers_wrote_is_written_down_whatever_the_pieces() {
    for fixture in FIXTURES {
        for (family, major, minor) in [
            (Family::Redis, 6, 2),
            (Family::Redis, 7, 0),
            (Family::Redis, 8, 2),
            (Family::Valkey, 8, 1),
            (Family::Valkey, 9, 1),
        ] {
            let replica = ServerVersion { family, major, minor };
            let before = summary(fixture.bytes);
            let Ok(Some(target)) = fit(&replica, &before) else { continue };
            let made = down(fixture.bytes, target, usize::MAX).expect(fixture.name);
            for chunk in [1, 100, 4096] {
                assert_eq!(down(fixture.bytes, target, chunk).as_ref(), Ok(&made), "{} in {chunk}", fixture.name);
            }
            let after = summary(&made);
            assert_eq!(fit(&replica, &after), Ok(None), "{} for {replica}", fixture.name);
            assert_eq!((after.keys, after.expires), (before.keys, before.expires), "{}", fixture.name);
            let names = |bytes| read(bytes).entries.into_iter().map(|entry| (entry.db, entry.name)).collect::<Vec<_>>();
            assert_eq!(names(&made), names(fixture.bytes), "{}", fixture.name);
        }
    }
}

#[test]
fn streams_lose_what_is_only_statistics() {
    for (from, version, kind, target, to) in [
        (2, 10, 19, REDIS_6, (1, 15)),
        (3, 11, 21, REDIS_6, (1, 15)),
        (3, 11, 21, REDIS_7, (2, 19)),
        (4, 13, 26, REDIS_6, (1, 15)),
        (4, 13, 26, REDIS_7, (2, 19)),
        (4, 13, 26, REDIS_8, (3, 21)),
        (4, 13, 26, VALKEY_9, (3, 21)),
    ] {
        let expected = [&[to.1], &stream(to.0)[..]].concat();
        assert_eq!(becomes(Family::Redis, version, kind, &stream(from), target), expected, "type {kind} for {target}");
    }
}

#[test]
fn expiring_fields_change_their_dialect_and_keep_their_times() {
    let (a, b, v) = (text(b"a"), text(b"b"), text(b"v"));
    let ms = |ms: i64| ms.to_le_bytes();
    // The earliest expires at 5000, the other one 300 later, the third never.
    let redis = [&ms(5000)[..], &times(&[&[&[1], &a, &v], &[&[0x41, 45], &b, &v], &[&[0], &v, &v]])].concat();
    let valkey = times(&[&[&a, &v, &ms(5000)], &[&b, &v, &ms(5300)], &[&v, &v, &ms(-1)]]);
    assert_eq!(becomes(Family::Redis, 12, 24, &redis, VALKEY_9), [&[22], &valkey[..]].concat());
    let back = becomes(Family::Valkey, 80, 22, &valkey, REDIS_8);
    // Counted from the first millisecond.
    let counted = [&ms(1)[..], &times(&[&[&[0x53, 0x88], &a, &v], &[&[0x54, 0xb4], &b, &v], &[&[0], &v, &v]])].concat();
    assert_eq!(back, [&[24], &counted[..]].concat());
    assert_eq!(becomes(Family::Redis, 12, 24, &counted, VALKEY_9), [&[22], &valkey[..]].concat());
    let pack = [19, 0, 0, 0, 3, 0, 0x81, b'f', 2, 5, 1, 0xf1, 0x88, 0x13, 3, 0, 0, 0, 0xff];
    let cut = [&ms(5000)[..], &text(&pack)].concat();
    let fault =
        down(&single(Family::Redis, 12, 25, &cut), VALKEY_9, 64).expect_err("the listpack lies about its length");
    assert!(matches!(fault, RewriteError::Unfit(_)), "{fault}");
    let pack = [16, 0, 0, 0, 3, 0, 0x81, b'f', 2, 5, 1, 0xf1, 0x88, 0x13, 3, 0xff];
    let whole = [&ms(5000)[..], &text(&pack)].concat();
    let expected = [&[22][..], &times(&[&[&text(b"f"), &text(b"5"), &ms(5000)]])].concat();
    assert_eq!(becomes(Family::Redis, 12, 25, &whole, VALKEY_9), expected);
}

#[test]
fn functions_do_not_go_to_servers_without_them() {
    let mut input = Vec::new();
    write_magic(&mut input, Family::Redis, 12);
    write_function(&mut input, b"#!lua name=lib\n");
    write_end(&mut input);
    assert_eq!(summary(&down(&input, REDIS_6, 5).unwrap()).functions, 0);
    assert_eq!(summary(&down(&input, REDIS_7, 5).unwrap()).functions, 1);
}

#[test]
fn a_large_element_of_a_list_passes_as_it_comes() {
    const LARGE: usize = 100 << 20;
    let mut value = vec![1, 1];
    write_len(&mut value, LARGE as u64);
    value.resize(value.len() + LARGE, b'x');
    let input = single(Family::Redis, 12, 18, &value);
    let (mut rewriter, mut out, mut made) = (Rewriter::to(HEAD, REDIS_6), Vec::new(), 0);
    for piece in input.chunks(1 << 20) {
        out.clear();
        rewriter.push(piece, &mut KeepAll, &mut out).unwrap();
        assert!(out.len() < 3 << 20, "what comes in goes out");
        made += out.len();
    }
    assert!(rewriter.is_done() && made > LARGE, "above the bound for what is held");
}

#[test]
fn what_would_have_to_be_held_beyond_its_bound_stops_the_snapshot() {
    const LARGE: u64 = (64 << 20) + 1;
    let mut value = Vec::new();
    write_len(&mut value, LARGE);
    value.resize(value.len() + LARGE as usize, 0);
    let fault = down(&single(Family::Redis, 12, 16, &value), REDIS_6, 1 << 20).expect_err("it is too large");
    assert!(fault.to_string().contains("the bound is 67108864 bytes"), "{fault}");
}

/// Whatever is wrong inside a value is an error of the upstream's, and never a panic; what is written walks.
#[test]
fn damage_inside_values_is_found_or_written_as_it_was_read() {
    let pack = [18, 0, 0, 0, 4, 0, 0x81, b'a', 2, 5, 1, 0x81, b'b', 2, 0x82, b'c', b'd', 3];
    let mut pack = [&pack[..], &[0xff]].concat();
    pack[0] = pack.len() as u8;
    let blob = text(&pack);
    let list = times(&[&[&[2], &blob], &[&[1], &text(b"plain")]]);
    let expiring = [&[9; 8][..], &times(&[&[&[1], &text(b"f"), &text(b"v")]])].concat();
    let values: [(u8, &[u8], Target); 6] = [
        (16, &blob, REDIS_6),
        (17, &blob, REDIS_6),
        (18, &list, REDIS_6),
        (20, &blob, REDIS_7),
        (21, &stream(3), REDIS_6),
        (24, &expiring, VALKEY_9),
    ];
    for (kind, value, target) in values {
        for at in 0..value.len() {
            for byte in [value[at] ^ 1, value[at] ^ 0x80, 0, 0xff, 0xc3] {
                let mut damaged = value.to_vec();
                damaged[at] = byte;
                let input = single(Family::Redis, 12, kind, &damaged);
                match down(&input, target, 1000) {
                    // What the value lacks of its bytes may read as further keys.
                    Ok(made) => assert_eq!(summary(&made).keys, summary(&input).keys),
                    Err(RewriteError::Unfit(_) | RewriteError::Snapshot(_)) => {}
                    Err(RewriteError::Plugin(fault)) => panic!("{fault:?}"),
                }
            }
        }
    }
}

#[test]
fn a_view_is_made_first_and_what_is_left_of_it_written_down() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.version == 12) {
        let rule = |_: u32, key: &[u8]| match key.strip_prefix(b"ren:") {
            Some(rest) => Some([b"renamed:", rest].concat()),
            None => (!key.starts_with(b"drop:")).then(|| key.to_vec()),
        };
        // Its hashes with expiring fields would be in the way.
        let plain = move |db: u32, key: &[u8]| rule(db, key).filter(|_| !key.ends_with(b"expiring"));
        let (mut rewriter, mut out) = (Rewriter::to(HEAD, VALKEY_9), Vec::new());
        rewriter.push(fixture.bytes, &mut Rules::new(plain), &mut out).expect(fixture.name);
        let stats = rewriter.stats();
        assert!(rewriter.is_done() && stats.dropped > 0 && stats.renamed > 0, "{stats:?}");
        assert_eq!((stats.bytes_out, stats.kept + stats.renamed), (out.len() as u64, summary(&out).keys));
        assert!(
            read(&out)
                .entries
                .iter()
                .all(|entry| !entry.name.starts_with(b"drop:") && !entry.name.starts_with(b"ren:"))
        );
    }
}

#[test]
fn what_a_format_has_no_place_for_is_told_beforehand() {
    let redis_7 = ServerVersion { family: Family::Redis, major: 7, minor: 0 };
    let valkey_8 = ServerVersion { family: Family::Valkey, major: 8, minor: 1 };
    let array = [&[1, 0, 0, 3][..], &text(b"x")].concat();
    let module = [&[0x81, 0xb5, 0x97, 0x98, 0xb9, 0xbe, 0xb2, 0xc6, 0x01][..], &[0]].concat();
    for (family, version, kind, value, replica, reason) in [
        (Family::Redis, 14, 28, &array, redis_7, "arrays (type 28 of REDIS)"),
        (Family::Redis, 14, 27, &stream(5), redis_7, "streams as Redis 8.8 has them (type 27 of REDIS)"),
        (Family::Redis, 12, 7, &module, redis_7, "data of modules, such as '"),
        (Family::Valkey, 80, 22, &vec![0], valkey_8, "hashes whose fields expire (type 22 of VALKEY)"),
    ] {
        let why = fit(&replica, &summary(&single(family, version, kind, value))).expect_err("something is in the way");
        assert!(why.contains(reason), "{why}");
    }
    let mut old = summary(&single(Family::Redis, 9, 0, &text(b"v")));
    let redis_4 = ServerVersion { family: Family::Redis, major: 4, minor: 0 };
    assert!(fit(&redis_4, &old).is_err_and(|why| why.contains("nothing is rewritten for formats before REDIS 9")));
    assert_eq!(fit(&redis_7, &old), Ok(None));
    old.version = 12;
    assert_eq!(fit(&redis_7, &old), Ok(Some(REDIS_7)));
}
