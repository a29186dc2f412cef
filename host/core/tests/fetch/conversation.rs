//! The conversation from dialing to an answer: what is sent when, and what becomes of an order in between.

use sluicegate_core::fault::Party;
use sluicegate_core::fetch::{Answer, Fetcher, Phase};

use crate::support::{ID, Link, MIB, assert_fault, bulk, commands, info, settings, time, transaction, wanted};

/// A whole answer to an order of one key.
fn answer(offset: u64, payload: &[u8], expiry: &[u8]) -> Vec<u8> {
    transaction(&[&info("master", offset), b"+OK\r\n", &bulk(payload), expiry])
}

fn fence(answer: Option<Answer>) -> u64 {
    match answer {
        Some(Answer::Fetched(fetched)) => fetched.fence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_is_greeted_and_the_order_follows() {
    let mut settings = settings();
    (settings.username, settings.password) = (Some("gate".into()), Some("secret".into()));
    let mut fetcher = Fetcher::new(settings, MIB, MIB);
    let mut out = Vec::new();
    assert_eq!((fetcher.phase(), fetcher.is_wanted()), (Phase::Idle(0), false));
    fetcher.order(wanted(&[(2, "a"), (2, "b"), (0, "c"), (2, "d")]), 0, &mut out);
    assert!(out.is_empty() && fetcher.is_wanted());
    fetcher.dialing(1);
    fetcher.connected(2, &mut out);
    assert_eq!(commands(&out), "AUTH gate secret\nCLIENT SETNAME sluicegate-fetch\n");
    out.clear();
    assert_eq!(fetcher.push(b"+OK\r\n", 3, &mut out), Ok(None));
    assert!(out.is_empty());
    // A user who may not name its connection is no worse off.
    assert_eq!(fetcher.push(b"-NOPERM no permissions to run 'client|setname'\r\n", 4, &mut out), Ok(None));
    assert_eq!(fetcher.phase(), Phase::Busy);
    assert_eq!(
        commands(&out),
        "MULTI\nINFO replication\nSELECT 2\nDUMP a\nPEXPIRETIME a\nDUMP b\nPEXPIRETIME b\n\
         SELECT 0\nDUMP c\nPEXPIRETIME c\nSELECT 2\nDUMP d\nPEXPIRETIME d\nEXEC\n"
    );
}

#[test]
fn a_password_without_a_user_is_sent_alone() {
    let mut settings = settings();
    settings.password = Some("secret".into());
    let (mut fetcher, mut out) = (Fetcher::new(settings, MIB, MIB), Vec::new());
    fetcher.connected(0, &mut out);
    assert_eq!(commands(&out), "AUTH secret\nCLIENT SETNAME sluicegate-fetch\n");
}

#[test]
fn an_order_of_nothing_tells_where_the_primary_is() {
    let mut link = Link::ready();
    link.order(Vec::new());
    assert_eq!(link.take_sent(), "MULTI\nINFO replication\nEXEC\n");
    let Ok(Some(Answer::Fetched(fetched))) = link.push(&transaction(&[&info("master", 7)])) else { panic!() };
    assert_eq!((fetched.id.as_str(), fetched.fence, fetched.values), (ID, 7, vec![]));
    assert!(!link.fetcher.is_wanted());
}

#[test]
fn a_key_whose_time_ends_behind_its_dump_is_absent() {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "k")]));
    let Ok(Some(Answer::Fetched(fetched))) = link.push(&answer(7, b"payload", b":-2\r\n")) else { panic!() };
    assert_eq!(fetched.values, [None]);
}

#[test]
fn the_next_order_uses_the_same_link() {
    let mut link = Link::ready();
    for offset in [10, 20] {
        link.order(wanted(&[(0, "k")]));
        assert_eq!(fence(link.push(&answer(offset, b"v", b":-1\r\n")).unwrap()), offset);
        assert_eq!(link.fetcher.phase(), Phase::Ready);
    }
}

#[test]
fn a_cancelled_answer_is_read_to_its_end_and_thrown_away() {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "first")]));
    link.take_sent();
    let old = answer(10, b"old", b":-1\r\n");
    let (head, tail) = old.split_at(old.len() / 2);
    assert_eq!(link.push(head), Ok(None));
    link.fetcher.cancel();
    assert!(!link.fetcher.is_wanted());
    link.order(wanted(&[(0, "second")]));
    assert_eq!(link.take_sent(), "", "one thing at a time");
    assert_eq!(link.push(tail), Ok(None));
    assert!(link.take_sent().contains("DUMP second\n"));
    assert_eq!(fence(link.push(&answer(20, b"new", b":-1\r\n")).unwrap()), 20);
}

#[test]
fn a_cancelled_order_leaves_a_ready_link() {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "k")]));
    link.fetcher.cancel();
    assert_eq!(link.push(&answer(10, b"v", b":-1\r\n")), Ok(None));
    assert_eq!(link.fetcher.phase(), Phase::Ready);
}

#[test]
fn another_order_takes_the_place_of_the_one_that_waits() {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "first")]));
    link.order(wanted(&[(0, "second")]));
    link.take_sent();
    assert_eq!(link.push(&answer(10, b"v", b":-1\r\n")), Ok(None));
    assert!(link.take_sent().contains("DUMP second\n"));
}

#[test]
fn a_lost_link_costs_time_and_no_order() {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "k")]));
    let whole = answer(10, b"v", b":-1\r\n");
    assert_eq!(link.push(&whole[..whole.len() - 1]), Ok(None));
    let waits: Vec<_> = (0..8)
        .map(|_| {
            let wait = link.fetcher.lost(1_000);
            assert_eq!(link.fetcher.phase(), Phase::Idle(1_000 + wait));
            link.fetcher.dialing(1_000 + wait);
            wait
        })
        .collect();
    assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    link.fetcher.connected(20_000, &mut link.sent);
    link.take_sent();
    assert_eq!(link.push(b"+OK\r\n"), Ok(None));
    assert!(link.take_sent().contains("DUMP k\n"));
    assert_eq!(fence(link.push(&whole).unwrap()), 10);
    assert_eq!(link.fetcher.lost(30_000), 200, "a link that was good is dialed again soon");
    for expected in [400, 800] {
        link.fetcher.dialing(40_000);
        assert_eq!(link.fetcher.lost(40_000), expected);
    }
    link = Link::with(link.fetcher);
    link.order(wanted(&[(0, "k")]));
    let found = transaction(&[&info("master", 9), b"+OK\r\n", &bulk(b"v"), b":-1\r\n"]);
    assert!(matches!(link.push(&found), Ok(Some(Answer::Fetched(_)))));
    link.order(wanted(&[(0, "k")]));
    assert_eq!(link.fetcher.lost(50_000), 200, "it did what it is for");
}

#[test]
fn silence_counts_only_while_something_is_asked() {
    let mut link = Link::ready();
    let timeout = settings().timeout_ms;
    assert!(!link.fetcher.is_overdue(10 * timeout), "a ready link may be silent");
    link.fetcher.order(wanted(&[(0, "k")]), 5, &mut link.sent);
    assert!(!link.fetcher.is_overdue(5 + timeout));
    assert!(link.fetcher.is_overdue(6 + timeout));
    link.fetcher.push(b"+OK\r\n", 100, &mut link.sent).unwrap();
    assert!(!link.fetcher.is_overdue(100 + timeout));
    link.fetcher.lost(200);
    assert!(!link.fetcher.is_overdue(10 * timeout));
    link.fetcher.dialing(300);
    assert!(link.fetcher.is_overdue(301 + timeout));
}

#[test]
fn an_answer_that_nothing_asked_for_is_a_fault_of_the_upstream() {
    let mut link = Link::ready();
    assert_fault(&link.push(b"+OK\r\n").unwrap_err(), Party::Upstream, &["nothing was asked"]);
    let mut link = Link::ready();
    link.order(wanted(&[(0, "k")]));
    let too_much = [answer(10, b"v", b":-1\r\n"), b":1\r\n".to_vec()].concat();
    assert_fault(&link.push(&too_much).unwrap_err(), Party::Upstream, &["nothing was asked"]);
}

/// The readings of one key on an old primary: the times, in microseconds of one second, around the time left.
fn readings(times: [u64; 3], left: i64) -> Vec<u8> {
    let [first, second, third] = times.map(|micros| time(4, micros));
    let left = format!(":{left}\r\n").into_bytes();
    transaction(&[&info("master", 9), b"+OK\r\n", &bulk(b"v"), &first, &left, &second, &left, &third])
}

/// A link to a primary that has said that it does not know PEXPIRETIME.
fn old_primary() -> Link {
    let mut link = Link::ready();
    link.order(wanted(&[(0, "k")]));
    let unknown =
        b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n-ERR unknown command `PEXPIRETIME`, with args\r\n-EXECABORT\r\n";
    assert_eq!(link.push(unknown), Ok(None));
    link.take_sent();
    link
}

#[test]
fn an_old_primary_s_clock_stands_still_around_one_reading_of_two() {
    for (times, left, expires_ms) in [
        ([1_000, 1_500, 1_999], 50, Some(4_051)),
        ([1_000, 2_000, 2_001], 50, Some(4_052)),
        ([1_000, 1_999, 2_000], 50, Some(4_051)),
        ([1_000, 2_000, 3_000], -1, None),
    ] {
        let Ok(Some(Answer::Fetched(fetched))) = old_primary().push(&readings(times, left)) else { panic!() };
        assert_eq!(fetched.values[0].as_ref().unwrap().expires_ms, expires_ms, "{times:?}");
    }
}

#[test]
fn where_the_clock_does_not_stand_still_the_order_is_sent_again_and_put_off_in_the_end() {
    let mut link = old_primary();
    for _ in 1..8 {
        assert_eq!(link.push(&readings([1_000, 2_000, 3_000], 50)), Ok(None));
        assert!(link.take_sent().starts_with("MULTI\n"));
    }
    assert!(link.not_now(&readings([1_000, 2_000, 3_000], 50)).contains("slow"));
    assert_eq!((link.fetcher.phase(), link.take_sent()), (Phase::Ready, String::new()));
}

#[test]
fn a_new_link_may_lead_to_a_newer_primary() {
    let mut link = old_primary();
    link.fetcher.lost(0);
    link.fetcher.connected(0, &mut link.sent);
    link.push(b"+OK\r\n").unwrap();
    assert!(link.take_sent().contains("PEXPIRETIME k\n"));
}
