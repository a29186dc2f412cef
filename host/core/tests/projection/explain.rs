//! What is told of one command: its keys, what goes out, and why.

use std::sync::Arc;

use sluicegate_core::command::{Role, Table};
use sluicegate_core::fault::Party;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::projection::{Explained, Outcome, Subject, explain};
use sluicegate_core::settings::CrossKey;

use crate::support::{Rules, Setup};

fn asked(pipeline: Option<&mut dyn Pipeline>, db: u32, line: &str) -> Explained {
    let bounds = Setup { cross_key: CrossKey::Repair, ..Setup::rules() }.bounds();
    let mut subject = Subject { table: Arc::new(Table::builtin()), pipeline, bounds, db };
    let words = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    explain(&mut subject, &words).expect("a pipeline that answers")
}

fn told(line: &str) -> Explained {
    asked(Some(&mut Rules::default()), 0, line)
}

/// What goes out, commands separated by bars; `-` for nothing, `!` for a halt.
fn sent(explained: &Explained) -> String {
    let line = |words: &Vec<Vec<u8>>| {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    };
    match &explained.outcome {
        Outcome::Sent(commands) | Outcome::Repaired(commands) => {
            commands.iter().map(line).collect::<Vec<_>>().join(" | ")
        }
        Outcome::Nothing => "-".into(),
        Outcome::Halts(_) => "!".into(),
    }
}

#[test]
fn the_outcome_is_the_projection_s() {
    let known = [
        ("SET a 1", "SET a 1", "under the primary's names"),
        ("SET r:a 1", "SET R:a 1", "under other names"),
        ("SET x:a 1", "-", "none of the keys"),
        ("DEL a x:b r:c", "DEL a R:c", "does not depend on the others"),
        ("MSET x:a 1 b 2", "MSET b 2", "does not depend on the others"),
        ("SUNIONSTORE x:t a b", "-", "is not in the view"),
        ("SUNIONSTORE t x:a", "RESTORE t <its expiry> <its value> REPLACE ABSTTL", "the primary is asked for it"),
        (
            "MOVE n:a 3",
            "MULTI | DEL N0:a | SELECT 3 | RESTORE N3:a <its expiry> <its value> REPLACE ABSTTL | SELECT 0 | EXEC",
            "the primary is asked for it",
        ),
        ("RENAME a x:b", "DEL a", "can be said without the dropped one"),
        ("SUNIONSTORE t r:a", "SUNIONSTORE t R:a", "under other names"),
        ("SPOP s", "!", "the table refuses"),
        ("GET a", "!", "only read never stand in a stream"),
        ("SET a", "!", "rather than be wrong"),
        ("FLUSHALL", "FLUSHALL", "means the same"),
        ("PUBLISH hidden:c m", "-", "a plugin drops it"),
        ("PUBLISH c m", "PUBLISH c m", "no plugin drops it"),
        ("SELECT 3", "-", "writes SELECT, MULTI and EXEC itself"),
        ("MULTI", "-", "writes SELECT, MULTI and EXEC itself"),
        ("EXEC", "-", "writes SELECT, MULTI and EXEC itself"),
        ("PING", "PING", "a sign of life"),
        ("REPLCONF GETACK *", "-", "a question to the proxy"),
    ];
    let mut rules = Rules { decides_frames: true, ..Rules::default() };
    for (line, out, why) in known {
        let explained = asked(Some(&mut rules), 0, line);
        assert_eq!(sent(&explained), out, "{line}");
        assert!(explained.why.contains(why), "{line}: {}", explained.why);
    }
}

#[test]
fn the_keys_are_told_with_their_roles_and_names() {
    let explained = told("SUNIONSTORE t x:a r:b");
    let keys: Vec<_> = explained.keys.iter().map(|key| (&key.key[..], key.role, key.name.as_deref())).collect();
    assert_eq!(
        keys,
        [(&b"t"[..], Role::Write, Some(&b"t"[..])), (b"x:a", Role::Read, None), (b"r:b", Role::Read, Some(b"R:b")),]
    );
}

#[test]
fn a_key_in_another_database_is_told_with_it() {
    let places = |line, db| {
        let explained = asked(Some(&mut Rules::default()), db, line);
        explained.keys.iter().map(|key| (key.db, key.name.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(places("COPY d:a d:b DB 3", 0), [(0, true), (3, false)]);
    assert_eq!(places("COPY d:a d:b", 0), [(0, true), (0, true)]);
    assert_eq!(places("MOVE d:a 0", 2), [(2, false), (0, true)]);
    assert_eq!(places("MOVE d:a", 0), []);
}

#[test]
fn the_selected_database_is_not_repeated() {
    assert_eq!(sent(&asked(Some(&mut Rules::default()), 7, "SET n:a 1")), "SET N7:a 1");
}

#[test]
fn a_view_without_plugins_has_everything() {
    for line in ["GET a", "SPOP s", "SET a 1"] {
        let explained = asked(None, 0, line);
        assert_eq!(sent(&explained), line);
        assert!(explained.why.contains("without plugins"), "{line}");
    }
}

#[test]
fn a_plugin_that_fails_is_named() {
    let mut rules = Rules { fails_on: Some(b"bad"), ..Rules::default() };
    let bounds = Setup::rules().bounds();
    let mut subject = Subject { table: Arc::new(Table::builtin()), pipeline: Some(&mut rules), bounds, db: 0 };
    let fault = explain(&mut subject, &vec![b"SET".to_vec(), b"bad".to_vec(), b"1".to_vec()]).expect_err("it fails");
    assert_eq!(fault.whose, Party::Plugin);
}
