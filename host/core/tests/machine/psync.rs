//! The primary's half of the handshake: who may go on where, and who is sent away.

use sluicegate_core::settings::{CrossKey, RefreshSettings, Settings, UpstreamSettings, User, ViewSettings};
use sluicegate_core::view::State;

use sha2::{Digest, Sha256};

use crate::rig::{A, B, Filter, Rig, frame, frames, snapshot};

#[test]
fn a_replica_goes_on_exactly_where_its_next_byte_is_held() {
    let mut rig = Rig::relay();
    rig.attach(A, 100);
    rig.up(frame("SET a 1"));
    let end = 100 + frame("SET a 1").len() as i64;
    let table: &[(&str, String, &str)] = &[
        (A, "101".into(), "+CONTINUE"),
        (A, format!("{}", end + 1), "+CONTINUE"),
        (A, format!("{}", end + 2), "+FULLRESYNC"),
        (A, "100".into(), "+FULLRESYNC"),
        (A, "0".into(), "+FULLRESYNC"),
        (A, "-1".into(), "+FULLRESYNC"),
        (A, "-2".into(), "+FULLRESYNC"),
        (A, i64::MAX.to_string(), "+FULLRESYNC"),
        (A, format!("-{}", i64::MAX), "+FULLRESYNC"),
        (B, "101".into(), "+FULLRESYNC"),
        ("?", "-1".into(), "+FULLRESYNC"),
        ("short", "101".into(), "+FULLRESYNC"),
        (A, "9223372036854775808".into(), "-ERR value is not an integer"),
        (A, "1x".into(), "-ERR value is not an integer"),
        (A, "1.5".into(), "-ERR value is not an integer"),
    ];
    for (id, offset, expected) in table {
        let link = rig.accept(0);
        let answer = rig.ask(link, &format!("PSYNC {id} {offset}"));
        assert!(answer.starts_with(expected), "PSYNC {id} {offset}: {answer}");
    }
    let link = rig.accept(0);
    let upper = A.to_uppercase();
    assert!(
        rig.ask(link, &format!("PSYNC {upper} 101")).starts_with("+CONTINUE\r\n"),
        "ids have no case, and without psync2 none is told"
    );
    let link = rig.accept(0);
    assert!(rig.ask(link, "PSYNC ?").starts_with("-ERR wrong number"));
    assert!(rig.ask(link, &format!("PSYNC {A} 101 FAILOVER")).starts_with("-ERR"));
}

#[test]
fn a_view_with_its_own_history_never_takes_the_primarys_id() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let link = rig.accept(0);
    let answer = rig.ask(link, &format!("PSYNC {A} 101"));
    assert!(answer.starts_with("+FULLRESYNC ") && !answer.contains(A), "{answer}");
}

#[test]
fn before_there_is_a_snapshot_the_answer_is_later() {
    let mut rig = Rig::relay();
    let link = rig.accept(0);
    assert_eq!(rig.ask(link, "PSYNC ? -1"), "-NOMASTERLINK Can't SYNC while not connected with my master\r\n");
    assert!(rig.closed.contains(&link));
}

#[test]
fn a_lost_primary_does_not_stop_what_is_held_from_being_served() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    rig.up(frame("SET a 1"));
    rig.cut();
    let replica = rig.synced(0);
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET a 1"));
}

#[test]
fn there_are_no_more_replicas_than_the_view_may_have() {
    let mut settings = ViewSettings::new("all");
    settings.replicas_max = 2;
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 0);
    let (first, _) = (rig.synced(0), rig.synced(0));
    let third = rig.accept(0);
    let answer = rig.ask(third, "PSYNC ? -1");
    // "Later", not "never": a real error would make a replica give its place in the history up.
    assert!(answer.starts_with("-NOMASTERLINK") && answer.contains("max_replicas"), "{answer}");
    rig.handle(sluicegate_core::contract::Input::Closed(first, "gone".into()));
    let again = rig.accept(0);
    assert!(rig.ask(again, "PSYNC ? -1").starts_with("+FULLRESYNC"));
}

#[test]
fn clients_are_answered_but_change_nothing() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let link = rig.accept(0);
    for command in ["SET a 1", "DEL a", "FLUSHALL", "EVAL x 0", "MULTI", "SELECT"] {
        let answer = rig.ask(link, command);
        assert!(answer.starts_with("-READONLY") || command == "SELECT", "{command}: {answer}");
    }
    for command in ["GET a", "MONITOR", "DEBUG SLEEP 5", "SHUTDOWN", "nonsense"] {
        assert!(rig.ask(link, command).starts_with("-ERR sluicegate keeps no keyspace"), "{command}");
    }
    for command in ["REPLICAOF NO ONE", "SLAVEOF host 1", "FAILOVER", "SYNC", "PSYNC"] {
        assert!(rig.ask(link, command).starts_with("-ERR"), "{command}");
    }
    assert_eq!(rig.ask(link, "CONFIG SET save"), "*0\r\n");
    assert_eq!(rig.ask(link, "ECHO hi"), "$2\r\nhi\r\n");
    assert_eq!(rig.ask(link, "REPLCONF capa"), "-ERR syntax error\r\n");
    assert_eq!(rig.ask(link, "REPLCONF rdb-only 1"), "-ERR Unrecognized REPLCONF option: rdb-only\r\n");
    assert_eq!(rig.ask(link, "REPLCONF GETACK *"), "");
    assert!(
        rig.ask(link, "ROLE").starts_with("*5\r\n$5\r\nslave\r\n$7\r\nprimary\r\n:6379\r\n$9\r\nconnected\r\n:0\r\n")
    );
    rig.send(link, "PING\r\n\r\n  ping  hello \r\n");
    assert_eq!(rig.got(link), b"+PONG\r\n$5\r\nhello\r\n", "people type inline commands");
    assert_eq!(rig.ask(link, "QUIT"), "+OK\r\n");
    assert!(rig.closed.contains(&link));
    assert_eq!(rig.machine.views()[0].state(), &State::Live);
}

#[test]
fn who_has_not_said_a_password_learns_nothing() {
    let user =
        |name: &str, password: &str| User { name: name.into(), password_sha256: Sha256::digest(password).into() };
    let settings = Settings {
        upstream: UpstreamSettings::new("primary", 6379),
        views: vec![ViewSettings::new("all")],
        users: vec![user("default", "one"), user("reader", "two")],
        refresh: RefreshSettings::default(),
        ships_max: 1,
        version: "0".into(),
    };
    let mut rig = Rig::with(settings, Vec::new());
    rig.attach(A, 0);
    let link = rig.accept(0);
    for command in ["PING", "INFO", "PSYNC ? -1", "REPLCONF capa eof", "ROLE", "SYNC"] {
        assert_eq!(rig.ask(link, command), "-NOAUTH Authentication required.\r\n", "{command}");
    }
    for wrong in ["AUTH two", "AUTH default two", "AUTH reader one", "AUTH nobody one", "HELLO 2 AUTH reader one"] {
        assert!(rig.ask(link, wrong).starts_with("-WRONGPASS"), "{wrong}");
        let note = rig.noted("auth-failed");
        assert!(note.is_none_or(|text| !text.contains("two") && !text.contains("one")));
    }
    assert!(rig.ask(link, "AUTH a b c").starts_with("-ERR wrong number"));
    assert!(rig.ask(link, "HELLO 2").starts_with("-NOAUTH"));
    assert_eq!(rig.ask(link, "AUTH one"), "+OK\r\n");
    assert_eq!(rig.ask(link, "PING"), "+PONG\r\n");
    let other = rig.accept(0);
    assert_eq!(rig.ask(other, "AUTH reader two"), "+OK\r\n");
    assert!(rig.ask(other, "PSYNC ? -1").starts_with("+FULLRESYNC"));
    let silent = rig.accept(0);
    rig.wait(31_000);
    assert!(rig.closed.contains(&silent), "nor does it wait for ever");
}

#[test]
fn a_halted_view_says_why_and_the_others_go_on() {
    let some = ViewSettings { cross_key: CrossKey::Halt, ..ViewSettings::new("some") };
    let mut rig = Rig::new(vec![some, ViewSettings::new("all")], vec![Some(Box::new(Filter)), None]);
    rig.attach(A, 0);
    let (some, all) = (rig.synced(0), rig.synced(1));
    rig.got(some);
    rig.got(all);
    let stream = frames("SET a 1 | SUNIONSTORE a b x:secret | SET c 1");
    rig.up(&stream);
    assert!(rig.closed.contains(&some));
    assert_eq!(rig.got(all), stream);
    let link = rig.accept(0);
    let answer = rig.ask(link, "PSYNC ? -1");
    assert!(answer.starts_with("-NOMASTERLINK view 'some' is halted") && answer.contains("SUNIONSTORE"), "{answer}");
    assert!(!answer.contains("secret") && answer.matches("\r\n").count() == 1);
    assert!(rig.info("view_some").contains("state=halted"));
    assert!(rig.info("view_some_halted").contains("SUNIONSTORE"));
    assert!(rig.noted("view-halted").is_some());
    // A new snapshot of the primary begins a new segment, which nothing is wrong with.
    rig.cut();
    rig.introduce("");
    rig.give_snapshot(B, 5, &snapshot("7.2.4"));
    assert!(rig.info("view_some").contains("state=live"));
    let some = rig.synced(0);
    rig.up(frame("SET d 1"));
    assert_eq!(rig.got(some), frames("SELECT 0 | SET d 1"));
}
