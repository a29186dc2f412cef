//! `sluicegate rdb` on dumps that real servers wrote (`host/core/tests/rdb`) and on some that no server would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sluicegate_core::rdb::{Family, write};
use tempfile::TempDir;

const SERVERS: [&str; 4] = ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/rdb").join(format!("{name}.rdb"))
}

/// What the program said, and its exit code.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    fn last(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

fn rdb(args: &[&str], files: &[&Path]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let Output { status, stdout, stderr } =
        command.arg("rdb").args(args).args(files).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

fn filter(from: &Path, out: &Path, plugin: &str, set: &[&str]) -> Said {
    let settings = set.iter().flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["run", "--plugin", plugin].into_iter().chain(settings).collect();
    rdb(&args, &[from, Path::new("--out"), out])
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// A dump of Redis' format 9 with this in its middle.
fn dump(folder: &TempDir, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = Vec::new();
    write::write_magic(&mut bytes, Family::Redis, 9);
    write::write_select(&mut bytes, 0);
    fill(&mut bytes);
    write::write_end(&mut bytes);
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("writing a dump");
    path
}

#[test]
fn every_key_is_shown_with_what_it_is() {
    for server in SERVERS {
        let said = rdb(&["cat"], &[&fixture(&format!("{server}-compact"))]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{server}");
        let keys = said.lines().iter().filter(|line| line.starts_with("db ")).count();
        assert!(said.last().starts_with(&format!("{keys} keys in 3 databases, 4 expiring, ")), "{}", said.last());
        for shown in [
            "db 0 \"keep:list\": list of 20 elements, ",
            "db 0 \"keep:set\": set of 20 members, ",
            "db 0 \"keep:zset\": zset of 22 members, ",
            "db 0 \"keep:hash\": hash of 20 fields, ",
            "db 0 \"keep:xl\": stream of 19 entries, ",
            "db 0 \"keep:lzf\": string of 180 bytes, plain",
            "db 0 \"keep:int32\": string of 11 bytes, plain",
            "db 0 \"keep:geo\": zset of 1 member, ",
        ] {
            assert!(said.out.contains(shown), "{server}: no {shown} in\n{}", said.out);
        }
    }
}

#[test]
fn programs_are_given_one_object_a_line() {
    let said = rdb(&["cat", "--json"], &[&fixture("valkey-9.1-large")]);
    let lines: Vec<Value> = said.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let key = |name: &str| lines.iter().find(|line| line["key"] == name && line["db"] == 0).expect(name);
    assert_eq!(key("keep:hash")["type"], "hash");
    assert_eq!(key("keep:hash")["elements"], 20);
    assert!(key("keep:exp")["expires_ms"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000));
    assert!(key("keep:str")["expires_ms"].is_null());
    assert!(lines.iter().any(|line| line["function_library"] == "openlib"));
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["format"], &summary["checksum"]), (&"VALKEY 80".into(), &true.into()));
    assert_eq!(summary["about"]["valkey-ver"], "9.1.2");
    assert_eq!(summary["keys"], lines.iter().filter(|line| line.get("key").is_some()).count());
}

/// Both dumps of each server were filled by the same commands, a moment apart, and have other encodings nearly everywhere.
#[test]
fn a_value_is_the_same_in_every_encoding() {
    for server in SERVERS {
        let [compact, large] = ["compact", "large"].map(|kind| fixture(&format!("{server}-{kind}")));
        let said = rdb(&["diff"], &[&compact, &large]);
        assert_eq!(said.code, 1, "{}", said.err);
        for line in &said.lines()[..said.lines().len() - 1] {
            // What was to expire so many milliseconds later.
            let expires =
                line.contains(":exp\": expiry: ") || line.contains(":httl\": v") || line.contains(":httls\": v");
            assert!(line.starts_with("! db ") && expires, "{server}: {line}");
        }
        assert!(said.last().ends_with("(all by what they are made of)"), "{}", said.last());
        assert_eq!(rdb(&["diff"], &[&compact, &compact]).code, 0);
    }
}

#[test]
fn each_kind_of_difference_is_found_and_named() {
    let folder = folder();
    let module = |bytes: &mut Vec<u8>, number: u8| bytes.extend_from_slice(&[7, 3, b'm', b'o', b'd', 9, 2, number, 0]);
    let zipmap = b"\x01\x01f\x01\0v\xff";
    let first = dump(&folder, "first.rdb", |out| {
        write::write_function(out, b"#!lua name=lib\nreturn 1");
        write::write_string_key(out, b"same", b"1");
        write::write_string_key(out, b"gone", b"12");
        write::write_string_key(out, b"value", b"old");
        write::write_expiry(out, 2_000_000_000_000);
        write::write_string_key(out, b"expiry", b"1");
        write::write_string_key(out, b"type\xff", b"1");
        module(out, 4);
        out.extend_from_slice(&[9, 3, b'm', b'a', b'p', zipmap.len() as u8]);
        out.extend_from_slice(zipmap);
        write::write_select(out, 5);
        write::write_string_key(out, b"there", b"1");
    });
    let second = dump(&folder, "second.rdb", |out| {
        write::write_select(out, 6);
        write::write_string_key(out, b"there", b"1");
        write::write_select(out, 0);
        out.extend_from_slice(&[4, 3, b'm', b'a', b'p', 1, 1, b'f', 1, b'v']);
        module(out, 5);
        out.extend_from_slice(&[1, 5]);
        out.extend_from_slice(b"type\xff\x01\x011");
        write::write_string_key(out, b"expiry", b"1");
        write::write_string_key(out, b"value", b"new");
        write::write_string_key(out, b"same", b"1");
        write::write_function(out, b"#!lua name=lib\nreturn 2");
    });
    let said = rdb(&["diff"], &[&first, &second]);
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    let expected = [
        "! function library \"lib\": value: 23 bytes, was 23 bytes",
        "! db 0 \"expiry\": expiry: none, was 2000000000000",
        "- db 0 \"gone\": string of 2 bytes",
        "? db 0 \"map\": value: hash of 1 field, was hash: not looked into, and written in two ways",
        "! db 0 \"mod\": value: module (type 7), was module (type 7), by its bytes",
        "! db 0 \"type\\xff\": value: list of 1 element, was string of 1 byte",
        "! db 0 \"value\": value: string of 3 bytes, was string of 3 bytes",
        "- db 5 \"there\": string of 1 byte",
        "+ db 6 \"there\": string of 1 byte",
        "compared 8 keys with 7: 1 added, 2 removed, 5 changed, 1 undecided (2 by their bytes, all others by what they are made of)",
    ];
    assert_eq!(said.lines(), expected);
    let said = rdb(&["diff", "--json"], &[&first, &second]);
    let lines: Vec<Value> = said.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[2]["class"], &lines[2]["db"], &lines[2]["key"]), (&"removed".into(), &0.into(), &"gone".into()));
    assert_eq!((&lines[9]["changed"], &lines[9]["undecided"]), (&5.into(), &1.into()));
}

#[test]
fn what_cannot_be_told_is_said_by_the_exit_code() {
    let folder = folder();
    let zipmap = dump(&folder, "zipmap.rdb", |out| out.extend_from_slice(b"\x09\x01h\x07\x01\x01f\x01\0v\xff"));
    let table = dump(&folder, "table.rdb", |out| out.extend_from_slice(b"\x04\x01h\x01\x01f\x01v"));
    let said = rdb(&["diff"], &[&zipmap, &table]);
    assert_eq!(said.code, 2, "{}", said.out);
    assert!(said.last().starts_with("compared 1 key with 1: 1 undecided"), "{}", said.last());
    assert_eq!(rdb(&["diff"], &[&zipmap, &zipmap]).code, 0);
}

/// A blob inside a value is closed to the walker, so its damage does not make the dump unusable.
#[test]
fn a_blob_that_does_not_hold_together_counts_as_its_bytes() {
    let folder = folder();
    // A list of one listpack, whose head says that it is longer than it is.
    let broken = b"\x12\x01l\x01\x02\x09\x0a\0\0\0\x01\0\x81a\xff";
    let dumps = ["one.rdb", "two.rdb"].map(|name| dump(&folder, name, |out| out.extend_from_slice(broken)));
    let said = rdb(&["diff"], &[&dumps[0], &dumps[1]]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.err);
    assert!(said.last().contains("(1 by their bytes"), "{}", said.last());
}

#[test]
fn a_pipeline_makes_a_dump_of_what_it_keeps() {
    let folder = folder();
    for server in SERVERS {
        let (from, out) = (fixture(&format!("{server}-large")), folder.path().join("out.rdb"));
        let kept = filter(&from, &out, "builtin:key-filter", &["key-filter.allow=keep:*"]);
        assert_eq!((kept.code, kept.err.as_str()), (0, ""), "{server}");
        let said = rdb(&["diff"], &[&from, &out]);
        let (differences, _) = said.out.rsplit_once("compared ").expect("a summary");
        assert!(differences.lines().all(|line| line.starts_with("- ") && !line.contains("\"keep:")), "{}", said.out);
        assert!(said.last().contains(" 0 added, ") && said.last().contains(" 0 changed "), "{}", said.last());
        let renamed = folder.path().join("renamed.rdb");
        let rule = "key-rename.rule=keep:* => kept:*";
        assert_eq!(filter(&out, &renamed, "builtin:key-rename", &[rule]).code, 0);
        let shown = rdb(&["cat"], &[&renamed]);
        assert!(shown.out.contains("db 0 \"kept:list\": list of 20 elements"), "{}", shown.out);
        assert!(!shown.out.contains("\"keep:"), "{}", shown.out);
    }
}

#[test]
fn a_new_dump_is_of_a_history_of_its_own() {
    let folder = folder();
    let histories: Vec<String> = ["one.rdb", "two.rdb"]
        .map(|name| {
            let out = folder.path().join(name);
            assert_eq!(
                filter(&fixture("redis-7.0-large"), &out, "builtin:key-filter", &["key-filter.allow=*"]).code,
                0
            );
            let said = rdb(&["cat"], &[&out]);
            said.lines().iter().find_map(|line| line.strip_prefix("repl-id: ")).expect("a history").to_owned()
        })
        .into();
    assert!(histories[0].len() == 40 && histories[0] != histories[1], "{histories:?}");
}

#[test]
fn a_damaged_dump_is_named_and_nothing_is_made_of_it() {
    let folder = folder();
    let whole = fs::read(fixture("redis-8.2-compact")).expect("a dump");
    let (damaged, out) = (folder.path().join("damaged.rdb"), folder.path().join("out.rdb"));
    fs::write(&out, "what was there").expect("writing");
    let mut damages: Vec<Vec<u8>> =
        (0..whole.len()).step_by(whole.len() / 4).map(|end| whole[..end].to_vec()).collect();
    damages.extend((0..whole.len()).step_by(whole.len() / 4).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    damages.push([&whole[..], b"*1\r\n$4\r\nPING\r\n"].concat());
    for (number, bytes) in damages.iter().enumerate() {
        fs::write(&damaged, bytes).expect("writing");
        for said in [
            rdb(&["cat"], &[&damaged]),
            rdb(&["diff"], &[&fixture("redis-8.2-compact"), &damaged]),
            filter(&damaged, &out, "builtin:key-filter", &["key-filter.allow=*"]),
        ] {
            assert_eq!(said.code, 74, "damage {number}: {}", said.err);
            assert!(said.err.contains("damaged.rdb cannot be used: "), "damage {number}: {}", said.err);
        }
        assert_eq!(fs::read(&out).expect("what was there"), b"what was there");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2, "a file was left behind");
    }
}

/// The walker passes what is packed inside a value; who looks into it finds the damage, and says where.
#[test]
fn a_value_that_does_not_unpack_is_named() {
    let folder = folder();
    let packed = dump(&folder, "packed.rdb", |out| out.extend_from_slice(b"\x00\x01k\xc3\x02\x09\x05a"));
    for said in [rdb(&["cat"], &[&packed]), rdb(&["diff"], &[&packed, &packed])] {
        assert_eq!(said.code, 74, "{}", said.err);
        let named = "packed.rdb cannot be used: the value of \"k\" is broken: ";
        assert!(said.err.contains(named), "{}", said.err);
    }
}

#[test]
fn mistakes_are_told_by_their_exit_codes() {
    let folder = folder();
    let (dump, out) = (fixture("redis-7.0-compact"), folder.path().join("out.rdb"));
    let said = filter(&dump, &out, "builtin:key-fliter", &[]);
    assert_eq!(said.code, 78, "{}", said.err);
    assert!(said.err.contains("did you mean `key-filter`?"), "{}", said.err);
    let said = filter(&dump, &out, "builtin:key-filter", &["key-filtre.allow=*"]);
    assert!(said.code == 78 && said.err.contains("unknown plugin `key-filtre`"), "{}", said.err);
    let said = filter(&dump, &out, "builtin:key-filter", &["key-filter.alow=*"]);
    assert!(said.code == 78 && said.err.contains("alow"), "{}", said.err);
    assert_eq!(rdb(&["run", "--plugin", "builtin:key-filter"], &[&dump]).code, 64, "no --out");
    let said = rdb(&["cat"], &[&folder.path().join("none.rdb")]);
    assert!(said.code == 74 && said.err.contains("cannot read"), "{}", said.err);
    let copy = folder.path().join("copy.rdb");
    fs::copy(&dump, &copy).expect("a copy");
    let said = filter(&copy, &copy, "builtin:key-filter", &["key-filter.allow=*"]);
    assert!(said.code == 74 && said.err.contains("name another file"), "{}", said.err);
    assert_eq!(fs::read(&copy).expect("the copy"), fs::read(&dump).expect("the dump"));
}

/// `sluicegate rdb cat … | head -1` is no fault of anybody.
#[test]
fn a_reader_who_has_seen_enough_may_leave() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let command = command.args(["rdb", "cat"]).arg(fixture("redis-8.2-large"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
