//! Stories of views that serve servers which know less than the primary.

use sluicegate_core::rdb::{Crc64, Family};
use sluicegate_core::resp::write_command;

use crate::support::{Setup, read};

fn redis_6() -> Setup {
    Setup::floor(Family::Redis, 6, 2)
}

fn redis_7() -> Setup {
    Setup::floor(Family::Redis, 7, 0)
}

#[test]
fn what_the_floor_knows_passes_as_it_is() {
    redis_7().gives(&[
        ("SELECT 0 | SET k v PXAT 9 NX GET | DEL a b", "SELECT 0 | SET k v PXAT 9 NX GET | DEL a b"),
        (
            "SELECT 0 | SPUBLISH c m | XGROUP SETID s g 5-1 ENTRIESREAD 4",
            "SELECT 0 | SPUBLISH c m | XGROUP SETID s g 5-1 ENTRIESREAD 4",
        ),
        (
            "SELECT 3 | MULTI | SET a 1 | LPUSH b 2 | EXEC | SET c 3",
            "MULTI | SELECT 3 | SET a 1 | LPUSH b 2 | EXEC | SET c 3",
        ),
    ]);
    Setup::floor(Family::Valkey, 9, 1)
        .gives(&[("SELECT 0 | HPEXPIREAT h 9 FIELDS 1 f", "SELECT 0 | HPEXPIREAT h 9 FIELDS 1 f")]);
}

#[test]
fn what_comes_to_the_same_is_said_in_another_way() {
    redis_6().gives(&[
        ("SELECT 0 | PEXPIREAT k 9 GT", "SELECT 0 | PEXPIREAT k 9"),
        ("SELECT 0 | SET k v NX GET", "SELECT 0 | SET k v NX"),
        ("SELECT 0 | XGROUP SETID s g 5-1 ENTRIESREAD 4", "SELECT 0 | XGROUP SETID s g 5-1"),
        ("SELECT 0 | XGROUP CREATE s g 0 MKSTREAM ENTRIESREAD 4", "SELECT 0 | XGROUP CREATE s g 0 MKSTREAM"),
        ("SELECT 0 | XSETID s 5-1 ENTRIESADDED 4 MAXDELETEDID 0-1", "SELECT 0 | XSETID s 5-1"),
    ]);
    redis_7().gives(&[
        ("SELECT 0 | HSETEX h KEEPTTL FIELDS 2 f 1 g 2", "SELECT 0 | HSET h f 1 g 2"),
        ("SELECT 0 | HSETEX h FNX FIELDS 1 f 1", "SELECT 0 | HSET h f 1"),
        ("SELECT 0 | HGETDEL h FIELDS 2 f g", "SELECT 0 | HDEL h f g"),
        ("SELECT 0 | XADD s KEEPREF MAXLEN = 5 6-1 f v", "SELECT 0 | XADD s MAXLEN = 5 6-1 f v"),
    ]);
}

#[test]
fn what_means_nothing_to_the_floor_is_left_out() {
    redis_6().gives(&[
        ("SELECT 0 | FUNCTION FLUSH | SET k 1", "SELECT 0 | SET k 1"),
        ("SELECT 0 | FUNCTION LOAD code | SPUBLISH c m | PUBLISH c m", "SELECT 0 | PUBLISH c m"),
        ("SELECT 0 | MULTI | SET k 1 | SPUBLISH c m | EXEC | SET l 2", "MULTI | SELECT 0 | SET k 1 | EXEC | SET l 2"),
    ]);
}

#[test]
fn what_cannot_be_said_halts_the_view_and_is_named() {
    redis_7().halts(&[
        (
            "SELECT 0 | SET a 1 | HPEXPIREAT h 9 FIELDS 1 f | SET b 2",
            "SELECT 0 | SET a 1",
            "HPEXPIREAT cannot be said to Redis 7.0",
        ),
        ("SELECT 0 | HSETEX h PXAT 9 FIELDS 1 f 1", "SELECT 0", "HSETEX with an expiry"),
        ("SELECT 0 | VADD v VALUES 2 1 0 a", "SELECT 0", "VADD"),
        ("SELECT 0 | BITOP DIFF d a b", "SELECT 0", "BITOP with DIFF"),
        ("SELECT 0 | JSON.SET j $ 1", "SELECT 0", "JSON.SET"),
        ("SELECT 0 | XADD s ACKED MAXLEN = 5 6-1 f v", "SELECT 0", "XADD with ACKED"),
    ]);
}

#[test]
fn a_transaction_in_which_the_view_halts_does_not_go_out() {
    redis_7().halts(&[(
        "SELECT 0 | SET a 1 | MULTI | SET b 2 | HPERSIST h FIELDS 1 f | SET c 3 | EXEC | SET d 4",
        "SELECT 0 | SET a 1",
        "HPERSIST",
    )]);
}

#[test]
fn what_the_view_drops_is_not_its_floors_concern() {
    let floor = redis_7().floor;
    Setup { floor, ..Setup::rules() }.gives(&[
        ("SELECT 0 | SET k:a 1 | HPEXPIREAT x:h 9 FIELDS 1 f", "SELECT 0 | SET k:a 1"),
        ("SELECT 0 | HSETEX k:h FIELDS 1 f 1", "SELECT 0 | HSET k:h f 1"),
    ]);
}

/// What DUMP gives for a value of this type, written by a server of this format.
fn dumped(kind: u8, value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = [&[kind], value, &version.to_le_bytes()].concat();
    payload.extend(Crc64::of(&payload).to_le_bytes());
    payload
}

/// The frames `SELECT 0` and RESTORE of the payload.
fn restored(payload: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    write_command(&mut stream, &[b"SELECT", b"0"]);
    write_command(&mut stream, &[b"RESTORE", b"k", b"0", payload, b"ABSTTL"]);
    stream
}

#[test]
fn a_restored_value_is_written_in_the_floors_format() {
    // A set of `a` and 7 as a listpack.
    let set = dumped(20, &[12, 12, 0, 0, 0, 2, 0, 0x81, b'a', 2, 7, 1, 0xff], 12);
    let expected = restored(&dumped(2, &[2, 1, b'a', 1, b'7'], 10));
    for size in [1, 7, 1000] {
        let (made, fault) = redis_7().run(&restored(&set), size);
        assert_eq!((read(&made), fault), (read(&expected), None));
    }
    let text = restored(&dumped(0, b"\x01v", 10));
    assert_eq!(redis_7().run(&text, 1000), (text, None), "one that the floor can load passes");
    let text = restored(&dumped(0, b"\x01v", 80));
    let plain = restored(&dumped(0, b"\x01v", 10));
    assert_eq!(redis_7().run(&text, 1000), (plain, None), "the version alone keeps a server from loading it");
}

#[test]
fn a_restored_value_that_the_floor_has_no_place_for_halts_the_view() {
    let expiring = dumped(24, &[&[1, 0, 0, 0, 0, 0, 0, 0, 1, 5][..], b"\x01f\x01v"].concat(), 12);
    let module = dumped(7, &[5, 0], 12);
    let cut = dumped(20, &[12, 12, 0, 0, 0, 2, 0, 0x81], 12);
    for (payload, reason) in [
        (expiring, "hashes whose fields expire (type 24 of REDIS) cannot be written in REDIS 10"),
        (module, "values of modules"),
        (cut, "is cut off"),
    ] {
        let (made, fault) = redis_7().run(&restored(&payload), 1000);
        let fault = fault.expect("the view halts").to_string();
        assert_eq!(read(&made), "SELECT 0");
        assert!(fault.contains("RESTORE") && fault.contains(reason), "{fault}");
    }
}
