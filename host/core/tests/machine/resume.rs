//! Losing the primary, and going on.

use sluicegate_core::contract::Input;

use crate::rig::{A, B, Rig, frame, frames, snapshot};

/// INFO of a primary whose current id is `id` and whose second one is good up to PSYNC offset `limit`.
fn info(id: &str, second: &str, limit: u64) -> String {
    format!(
        "# Replication\r\nrole:master\r\nmaster_replid:{id}\r\nmaster_replid2:{second}\r\nsecond_repl_offset:{limit}\r\n"
    )
}

#[test]
fn the_stream_goes_on_at_the_byte_wherever_it_was_cut() {
    let stream = frames("SELECT 0 | SET a 1 | MULTI | SET b 2 | SET x:c 3 | EXEC | SET d 4");
    let expected = {
        let mut rig = Rig::filter();
        rig.attach(A, 100);
        let replica = rig.synced(0);
        rig.got(replica);
        rig.up(&stream);
        rig.got(replica)
    };
    for at in 0..=stream.len() {
        let mut rig = Rig::filter();
        rig.attach(A, 100);
        let replica = rig.synced(0);
        rig.got(replica);
        rig.up(&stream[..at]);
        rig.cut();
        let asked = rig.introduce(&info(A, &"0".repeat(40), 0));
        assert_eq!(asked.as_bytes(), frame(&format!("PSYNC {A} {}", 101 + at)));
        rig.up(format!("+CONTINUE {A}\r\n"));
        rig.up(&stream[at..]);
        assert_eq!(rig.got(replica), expected, "cut at {at}");
        assert_eq!(rig.machine.stats().upstream_full_syncs, 1);
    }
}

#[test]
fn every_byte_of_a_link_that_lives_for_one_byte_is_progress() {
    let stream = frames("SET a 1 | MULTI | SET b 2 | EXEC");
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let replica = rig.synced(0);
    rig.got(replica);
    for byte in &stream {
        rig.cut();
        rig.introduce("");
        rig.up([b"+CONTINUE\r\n", std::slice::from_ref(byte)].concat());
    }
    assert_eq!(rig.got(replica), stream);
    assert_eq!(rig.machine.upstream_position().unwrap().1, stream.len() as u64);
}

#[test]
fn what_is_acknowledged_is_what_is_applied() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let set = frame("SET a 1");
    rig.up(&set);
    let applied = 100 + set.len();
    rig.wait(1000);
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {applied}")));
    rig.up(frames("MULTI | SET b 1"));
    rig.up(&frame("EXEC")[..3]);
    rig.wait(2000);
    assert_eq!(
        rig.told_up(),
        frames(&format!("REPLCONF ACK {applied} | REPLCONF ACK {applied}")),
        "once a second, not inside MULTI"
    );
    rig.up(&frame("EXEC")[3..]);
    let applied = applied + frames("MULTI | SET b 1 | EXEC").len();
    rig.wait(1000);
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {applied}")));
    rig.up(frames("SET c 1 | REPLCONF GETACK * | SET d 1"));
    assert_eq!(
        rig.told_up(),
        frame(&format!("REPLCONF ACK {}", applied + frame("SET c 1").len())),
        "the offset before the question"
    );
}

#[test]
fn a_frame_too_large_to_be_held_is_acknowledged_all_the_same() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let large = frame(&format!("SET a {}", "v".repeat(200_000)));
    for chunk in large.chunks(60_000) {
        rig.up(chunk);
    }
    rig.wait(1000);
    assert_eq!(rig.told_up(), frame(&format!("REPLCONF ACK {}", large.len())));
}

#[test]
fn only_what_nobody_applied_is_cut_back() {
    let whole = frame("SET a 1").len() as u64;
    let unfinished = frames("MULTI | SELECT 3 | SET b 1");
    // The limit of the second id, and what is asked for: (from, id).
    let read = 100 + whole + unfinished.len() as u64;
    let stories = [(read + 1, read + 1), (read, 101 + whole), (101 + whole, 101 + whole), (100 + whole, read + 1)];
    for (limit, asked) in stories {
        for mut rig in [Rig::filter(), Rig::relay()] {
            rig.attach(A, 100);
            let replica = rig.synced(0);
            rig.got(replica);
            rig.up(frame("SET a 1"));
            rig.up(&unfinished);
            let before = rig.got(replica);
            rig.cut();
            let question = rig.introduce(&info(B, A, limit));
            assert_eq!(question.as_bytes(), frame(&format!("PSYNC {A} {asked}")), "limit {limit}");
            if asked > read {
                continue;
            }
            rig.up(format!("+CONTINUE {B}\r\n"));
            rig.up(frames("SELECT 0 | SET c 1"));
            let relays = rig.machine.views()[0].relays();
            if relays {
                assert!(rig.closed.contains(&replica), "it holds bytes that never were");
                assert_eq!(
                    rig.info("master_repl_offset"),
                    format!("{}", 100 + whole as usize + frames("SELECT 0 | SET c 1").len())
                );
            } else {
                let got = [before, rig.got(replica)].concat();
                assert_eq!(got, frames("SELECT 0 | SET a 1 | SET c 1"), "the database is the one from before MULTI");
            }
        }
    }
}

#[test]
fn the_database_is_the_one_of_the_last_whole_transaction_however_often_it_is_cut() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    let mut applied = 100;
    for (id, next, key) in [(A, B, "a"), (B, A, "b"), (A, B, "c")] {
        rig.up(frame(&format!("SET {key} 1")));
        applied += frame("SET a 1").len();
        rig.up(frames("MULTI | SELECT 3 | SET z 1"));
        rig.cut();
        let asked = rig.introduce(&info(next, id, applied as u64 + 1));
        assert_eq!(asked.as_bytes(), frame(&format!("PSYNC {id} {}", applied + 1)));
        rig.up(format!("+CONTINUE {next}\r\n"));
    }
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET a 1 | SET b 1 | SET c 1"));
}

#[test]
fn a_cut_behind_the_backlog_leaves_every_byte_at_its_offset() {
    let mut rig = Rig::relay();
    rig.attach(A, 100);
    let before = frame("SET a 1");
    rig.up(&before);
    // An unfinished transaction that pushes all before it out of the backlog.
    rig.up(frame("MULTI"));
    let value = "v".repeat(8 << 20);
    for _ in 0..9 {
        rig.up(frame(&format!("SET b {value}")));
    }
    let applied = 100 + before.len() as u64;
    assert!(rig.machine.views()[0].backlog().start() > applied);
    rig.cut();
    assert_eq!(rig.introduce(&info(B, A, applied + 1)).as_bytes(), frame(&format!("PSYNC {A} {}", applied + 1)));
    rig.up(format!("+CONTINUE {B}\r\n"));
    rig.up(frame("SET c 1"));
    let (_, done, read) = rig.machine.upstream_position().unwrap();
    assert_eq!((done, read), (applied + frame("SET c 1").len() as u64, done));
    assert_eq!(rig.machine.views()[0].backlog().end(), read, "a relaying view stands where its primary stands");
    let replica = rig.accept(0);
    rig.ask(replica, "REPLCONF capa psync2");
    let got = rig.ask(replica, &format!("PSYNC {B} {}", applied + 1));
    assert_eq!(got.as_bytes(), [format!("+CONTINUE {B}\r\n").as_bytes(), &frame("SET c 1")].concat());
}

#[test]
fn a_new_id_sends_relayed_replicas_away_to_learn_it() {
    let mut rig = Rig::relay();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    rig.got(replica);
    rig.up(frame("SET a 1"));
    let end = 100 + frame("SET a 1").len();
    rig.got(replica);
    rig.cut();
    rig.introduce(&info(B, A, end as u64 + 1));
    rig.up(format!("+CONTINUE {B}\r\n"));
    assert!(rig.closed.contains(&replica));
    assert_eq!(
        (rig.info("master_replid"), rig.info("master_replid2"), rig.info("second_repl_offset")),
        (B.into(), A.into(), format!("{}", end + 1))
    );
    rig.up(frame("SET b 1"));
    for (id, offset, granted) in [
        (A, end + 1, true),
        (A, end, true),
        (A, end + 2, false),
        (B, end + 2, true),
        (B, end + 28, true),
        (B, end + 29, false),
    ] {
        let link = rig.accept(0);
        rig.ask(link, "REPLCONF capa psync2");
        let answer = rig.ask(link, &format!("PSYNC {id} {offset}"));
        assert_eq!(
            answer.starts_with(&format!("+CONTINUE {B}\r\n")),
            granted,
            "PSYNC {} {offset} (switch at {end}): {answer:?}",
            &id[..1]
        );
    }
}

#[test]
fn a_view_of_its_own_keeps_its_id_through_a_failover() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    let replica = rig.synced(0);
    let id = rig.info("master_replid");
    rig.got(replica);
    rig.cut();
    rig.introduce("");
    rig.up(format!("+CONTINUE {B}\r\n"));
    rig.up(frame("SET a 1"));
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET a 1"));
    assert_eq!(rig.info("master_replid"), id);
}

#[test]
fn a_full_resync_in_mid_stream_ends_the_segment() {
    for mut rig in [Rig::filter(), Rig::relay()] {
        rig.attach(A, 100);
        let replica = rig.synced(0);
        let id = rig.info("master_replid");
        rig.up(frames("MULTI | SET a 1"));
        rig.cut();
        assert!(!rig.closed.contains(&replica), "a lost link is no reason to leave");
        rig.introduce("");
        rig.up(format!("+FULLRESYNC {A} 50\r\n"));
        assert!(rig.closed.contains(&replica));
        let link = rig.accept(0);
        assert!(rig.ask(link, &format!("PSYNC {id} 1")).starts_with("-NOMASTERLINK "), "nothing can be served now");
        let rdb = snapshot("7.2.4");
        rig.up(format!("${}\r\n", rdb.len()));
        rig.up(&rdb);
        rig.told_up();
        let relays = rig.machine.views()[0].relays();
        assert_eq!(rig.info("master_replid") == id, relays, "the same id, if and only if it is the primary's");
        rig.up(frame("SET b 1"));
        let (replica, snapshot) = rig.replica(0);
        rig.send(replica, frame("REPLCONF ACK 0"));
        let got = [snapshot, rig.got(replica)].concat();
        let stream = if relays { frame("SET b 1") } else { frames("SELECT 0 | SET b 1") };
        assert!(got.ends_with(&stream), "{}", got.escape_ascii());
        assert!(!got.windows(5).any(|bytes| bytes == b"MULTI"), "the transaction of the old segment is gone");
    }
}

#[test]
fn a_link_lost_in_a_snapshot_begins_anew_and_the_old_one_is_forgotten() {
    let rdb = snapshot("7.2.4");
    for at in [0, 1, rdb.len() / 2, rdb.len() - 1] {
        let mut rig = Rig::relay();
        rig.introduce("");
        rig.up(format!("+FULLRESYNC {A} 5\r\n${}\r\n", rdb.len()));
        rig.up(&rdb[..at]);
        rig.cut();
        rig.attach(B, 7);
        assert_eq!(rig.machine.upstream_position().map(|(id, ..)| id.as_str().to_owned()), Some(B.into()));
    }
}

#[test]
fn a_broken_stream_leaves_no_place_to_go_on_from() {
    let stories: [(&[u8], u64); 5] =
        [(b"PING\r\n", 27), (b"*1\r\n+OK\r\n", 31), (b"*-1\r\n", 28), (b"$5\r\nhello\r\n", 27), (b"-ERR no\r\n", 27)];
    for (garbage, offset) in stories {
        let mut rig = Rig::relay();
        rig.attach(A, 0);
        let replica = rig.synced(0);
        rig.got(replica);
        rig.up([&frame("SET a 1")[..], garbage].concat());
        assert_eq!(rig.got(replica), frame("SET a 1"), "what stands before the fault is sound");
        assert_eq!(rig.up_link(), None);
        assert!(rig.noted("upstream-failed").unwrap().contains(&format!("offset {offset}:")));
        assert_eq!(rig.introduce("").as_bytes(), frame("PSYNC ? -1"));
    }
}

#[test]
fn the_shell_may_be_late_with_news_of_links_that_are_gone() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let old = rig.up_link().unwrap();
    rig.cut();
    rig.handle(Input::Bytes(old, frame("SET a 1").into()));
    rig.handle(Input::Closed(old, "again".into()));
    assert_eq!(rig.machine.upstream_position().unwrap().2, 0);
}
