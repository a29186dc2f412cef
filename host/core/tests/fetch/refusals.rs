//! Primaries that answer with errors, with too much, or with something else: whose fault it is, and what the operator reads.

use sluicegate_core::fault::Party;
use sluicegate_core::fetch::{Answer, Fetcher, Phase};

use crate::support::{Link, MIB, assert_fault, bulk, info, settings, transaction, wanted};

/// What a user reads who lacks a permission.
const RULES: &str = "+psync +replconf +ping +info +multi +exec +select +dump +pexpiretime +client|setname ~* (before Redis 7.0: +pttl +time";

/// A link that asks for one key: MULTI, INFO, SELECT, DUMP, PEXPIRETIME, EXEC.
fn asked() -> Link {
    let mut link = Link::ready();
    link.order(wanted(&[(3, "user:7")]));
    link
}

/// The answers to the six commands, a line each.
fn lines(lines: [&str; 6]) -> Vec<u8> {
    lines.map(|line| format!("{line}\r\n")).concat().into_bytes()
}

const ABORT: &str = "-EXECABORT Transaction discarded because of previous errors.";
const QUEUED: &str = "+QUEUED";

#[test]
fn a_missing_permission_is_the_operator_s_and_the_rule_is_named() {
    // Redis 6.2, 7.0, and 8.2 with Valkey 9.1.
    for denied in [
        "-NOPERM this user has no permissions to run the 'dump' command or its subcommand",
        "-NOPERM this user has no permissions to run the 'dump' command",
        "-NOPERM User default has no permissions to run the 'dump' command",
        "-NOPERM No permissions to access a key",
    ] {
        let mut link = asked();
        let fault = link.refused(&lines(["+OK", QUEUED, QUEUED, denied, QUEUED, ABORT]));
        let parts = ["DUMP of the key 'user:7' in database 3", &denied[1..], "ACL SETUSER default", RULES];
        assert_fault(&fault, Party::Operator, &parts);
        assert_eq!(link.fetcher.phase(), Phase::Ready, "the link is as good as before");
    }
}

#[test]
fn the_rule_names_the_user_of_the_configuration() {
    let mut settings = settings();
    settings.username = Some("gate".into());
    let mut link = Link::with(Fetcher::new(settings, MIB, MIB));
    link.order(wanted(&[(3, "user:7")]));
    let denied = "-NOPERM User gate has no permissions to run the 'info' command";
    let fault = link.refused(&lines(["+OK", denied, QUEUED, QUEUED, QUEUED, ABORT]));
    assert_fault(&fault, Party::Operator, &["INFO replication", "ACL SETUSER gate +psync"]);
}

#[test]
fn a_user_without_multi_has_its_commands_run_one_by_one() {
    let mut link = asked();
    let denied = "-NOPERM User default has no permissions to run the 'multi' command";
    let reply = [
        format!("{denied}\r\n").into_bytes(),
        info("master", 9),
        b"+OK\r\n".to_vec(),
        bulk(b"value"),
        b":-1\r\n-ERR EXEC without MULTI\r\n".to_vec(),
    ]
    .concat();
    assert_fault(&link.refused(&reply), Party::Operator, &["answers the transaction with NOPERM", "'multi'", RULES]);
    assert_eq!(link.fetcher.phase(), Phase::Ready);
}

#[test]
fn a_user_without_exec_is_told_by_the_cause_that_exec_names() {
    let denied =
        "-EXECABORT Transaction discarded because of: NOPERM User x has no permissions to run the 'exec' command";
    let fault = asked().refused(&lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, denied]));
    assert_fault(&fault, Party::Operator, &["'exec'", RULES]);
}

#[test]
fn a_permission_that_is_taken_away_before_exec_is_missed_in_its_result() {
    let denied =
        b"-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call.\r\n";
    let fault = asked().refused(&transaction(&[&info("master", 9), b"+OK\r\n", denied, b":-1\r\n"]));
    assert_fault(&fault, Party::Operator, &["DUMP of the key 'user:7'", "rules changed"]);
}

#[test]
fn states_that_pass_put_the_order_off() {
    for state in [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MOVED 42 10.0.0.1:6379",
    ] {
        let error = format!("-{state}");
        let why = asked().not_now(&lines(["+OK", QUEUED, QUEUED, &error, &error, ABORT]));
        assert!(why.contains(state) && why.contains("user:7"), "{why}");
        let abort = format!("-EXECABORT Transaction discarded because of: {state}");
        assert!(asked().not_now(&lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, &abort])).contains(state));
    }
}

#[test]
fn a_primary_that_is_a_replica_is_asked_later() {
    for result in [&b"$1\r\nx\r\n"[..], b"$-1\r\n", b"-MASTERDOWN Link\r\n"] {
        let mut link = asked();
        let why = link.not_now(&transaction(&[&info("slave", 9), b"+OK\r\n", result, b":-1\r\n"]));
        assert!(why.contains("replica"), "{why}");
        assert_eq!((link.fetcher.phase(), link.fetcher.is_wanted()), (Phase::Ready, false));
    }
}

#[test]
fn what_a_primary_cannot_do_is_the_upstream_s() {
    let renamed = "-ERR unknown command 'DUMP', with args beginning with: 'user:7' ";
    let fault = asked().refused(&lines(["+OK", QUEUED, QUEUED, renamed, QUEUED, ABORT]));
    assert_fault(&fault, Party::Upstream, &["DUMP of the key 'user:7' in database 3", "unknown command"]);
    let range = b"-ERR DB index is out of range\r\n";
    let fault = asked().refused(&transaction(&[&info("master", 9), range, b"$-1\r\n", b":-2\r\n"]));
    assert_fault(&fault, Party::Upstream, &["SELECT 3", "out of range"]);
}

#[test]
fn a_value_that_is_too_large_is_refused_by_its_announcement() {
    let mut link = Link::with(Fetcher::new(settings(), 1000, 1500));
    link.order(wanted(&[(0, "small"), (0, "large")]));
    let whole = transaction(&[&info("master", 9), b"+OK\r\n", &bulk(b"v"), b":-1\r\n", &bulk(&[0; 1001]), b":-1\r\n"]);
    let announced = whole.windows(7).position(|window| window == b"$1001\r\n").unwrap() + 7;
    assert_eq!(link.push(&whole[..announced - 1]), Ok(None));
    let fault = link.refused(&whole[announced - 1..announced]);
    assert_fault(
        &fault,
        Party::Operator,
        &["the key 'large' in database 0", "1001 bytes", "limits.repair_value (1000"],
    );
    assert_eq!((link.fetcher.phase(), link.fetcher.is_wanted()), (Phase::Spent, false));
    assert_eq!(link.push(&whole[announced..]), Ok(None), "what comes until the link is closed is ignored");
    link.order(wanted(&[(0, "small")]));
    assert_eq!(link.take_sent().matches("MULTI").count(), 1, "nothing more is asked on this link");
}

#[test]
fn values_that_are_too_large_together_are_refused_likewise() {
    let mut link = Link::with(Fetcher::new(settings(), 1000, 1500));
    link.order(wanted(&[(0, "one"), (0, "two")]));
    let value = bulk(&[0; 800]);
    let whole = transaction(&[&info("master", 9), b"+OK\r\n", &value, b":-1\r\n", &value, b":-1\r\n"]);
    assert_fault(&link.refused(&whole), Party::Operator, &["together", "1500 bytes", "'two'", "800"]);
    assert_eq!(link.fetcher.phase(), Phase::Spent);
}

#[test]
fn a_cancelled_answer_that_is_too_large_ends_the_link_in_silence() {
    let mut link = Link::with(Fetcher::new(settings(), 1000, 1500));
    link.order(wanted(&[(0, "large")]));
    link.fetcher.cancel();
    let whole = transaction(&[&info("master", 9), b"+OK\r\n", &bulk(&[0; 1001]), b":-1\r\n"]);
    assert_eq!(link.push(&whole), Ok(None));
    assert_eq!(link.fetcher.phase(), Phase::Spent);
}

#[test]
fn refused_credentials_answer_the_order_and_do_not_repeat_the_password() {
    for error in ["-WRONGPASS invalid username-password pair secret", "-ERR AUTH secret called without any password"] {
        for ordered in [true, false] {
            let mut settings = settings();
            settings.password = Some("secret".into());
            let (mut fetcher, mut out) = (Fetcher::new(settings, MIB, MIB), Vec::new());
            if ordered {
                fetcher.order(wanted(&[(0, "k")]), 0, &mut out);
            }
            fetcher.connected(0, &mut out);
            let fault = match fetcher.push(format!("{error}\r\n").as_bytes(), 0, &mut out) {
                Ok(Some(Answer::Refused(fault, _))) if ordered && fetcher.phase() == Phase::Spent => fault,
                Err(fault) if !ordered => fault,
                other => panic!("{other:?}"),
            };
            assert_fault(&fault, Party::Operator, &["credentials"]);
            assert!(!fault.what.contains("secret"), "{fault}");
        }
    }
}

#[test]
fn a_primary_that_wants_a_password_is_the_operator_s() {
    let (mut fetcher, mut out) = (Fetcher::new(settings(), MIB, MIB), Vec::new());
    fetcher.connected(0, &mut out);
    let fault = fetcher.push(b"-NOAUTH Authentication required.\r\n", 0, &mut out).unwrap_err();
    assert_fault(&fault, Party::Operator, &["upstream.password_file"]);
}

#[test]
fn a_primary_without_room_is_asked_again_on_the_next_link() {
    let (mut fetcher, mut out) = (Fetcher::new(settings(), MIB, MIB), Vec::new());
    fetcher.order(wanted(&[(0, "k")]), 0, &mut out);
    fetcher.connected(0, &mut out);
    let fault = fetcher.push(b"-ERR max number of clients reached\r\n", 0, &mut out).unwrap_err();
    assert_fault(&fault, Party::Upstream, &["maxclients"]);
    assert!(fetcher.is_wanted());
}

#[test]
fn an_answer_of_another_shape_is_a_fault_of_the_upstream() {
    let good = info("master", 9);
    let none = bulk(b"role:master\r\nmaster_replid:xyz\r\nmaster_repl_offset:9\r\n");
    let ok = &b"+OK\r\n"[..];
    for (what, reply) in [
        ("MULTI", b"+WHAT\r\n".to_vec()),
        ("MULTI", b":1\r\n".to_vec()),
        ("INFO", b"+OK\r\n+OK\r\n".to_vec()),
        ("EXEC", lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, "*-1"])),
        ("EXEC", lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, "+OK"])),
        ("3 results", lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, "*3"])),
        ("18446744073709", lines(["+OK", QUEUED, QUEUED, QUEUED, QUEUED, "*1844674407370955161"])),
        ("INFO", transaction(&[b":1\r\n", ok, ok, ok])),
        ("role", transaction(&[&bulk(b"# Replication\r\n"), ok, ok, ok])),
        ("master_replid", transaction(&[&none, ok, ok, ok])),
        ("300000 bytes", transaction(&[&bulk(&[b'x'; 300_000]), ok, ok, ok])),
        ("SELECT", transaction(&[&good, b":0\r\n", ok, ok])),
        ("DUMP", transaction(&[&good, ok, b":0\r\n", ok])),
        ("arrays", transaction(&[&good, ok, b"*1\r\n$1\r\nx\r\n", ok])),
        ("PEXPIRETIME", transaction(&[&good, ok, b"$-1\r\n", b":-3\r\n"])),
        ("PEXPIRETIME", transaction(&[&good, ok, b"$-1\r\n", b"$-1\r\n"])),
    ] {
        let fault = asked().push(&reply).unwrap_err();
        assert_fault(&fault, Party::Upstream, &["primary", what]);
    }
}
