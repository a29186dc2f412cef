//! Snapshots: as they come, and as they go out.

use sluicegate_core::contract::{Drive, Input, LinkId, Now};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rdb::{Family, ServerVersion};
use sluicegate_core::replica::Phase;
use sluicegate_core::settings::{UnknownReplica, ViewSettings};
use sluicegate_core::view::State;

use crate::rig::{A, B, Filter, Rig, frame, frames, snapshot};

const MARK: &str = "0123456789012345678901234567890123456789";

fn phase(rig: &Rig, link: LinkId) -> Option<Phase> {
    rig.machine.replicas().find(|(id, _)| **id == link).map(|(_, replica)| replica.phase)
}

#[test]
fn a_marked_snapshot_is_acknowledged_at_its_end_however_it_is_cut() {
    let rdb = snapshot("7.2.4");
    let bytes = [format!("+FULLRESYNC {A} 9\r\n\n$EOF:{MARK}\r\n").as_bytes(), &rdb, MARK.as_bytes()].concat();
    for size in [1, 7, 41, bytes.len()] {
        let mut rig = Rig::relay();
        rig.introduce("");
        bytes.chunks(size).for_each(|chunk| rig.up(chunk));
        assert_eq!(rig.told_up(), frame("REPLCONF ACK 9"), "chunks of {size}");
        rig.up(frame("SET a 1"));
        let (_, got) = rig.replica(0);
        let expected =
            [format!("+FULLRESYNC {A} 9\r\n${}\r\n", rdb.len()).as_bytes(), &rdb, &frame("SET a 1")].concat();
        assert_eq!(got, expected);
    }
}

#[test]
fn the_stream_may_follow_a_snapshot_of_known_length_in_the_same_read() {
    let rdb = snapshot("7.2.4");
    let bytes = [format!("+FULLRESYNC {A} 9\r\n${}\r\n", rdb.len()).as_bytes(), &rdb, &frame("SET a 1")].concat();
    for size in [1, 13, bytes.len()] {
        let mut rig = Rig::relay();
        rig.introduce("");
        bytes.chunks(size).for_each(|chunk| rig.up(chunk));
        let end = 9 + frame("SET a 1").len() as u64;
        assert_eq!(rig.machine.upstream_position().map(|(_, applied, read)| (applied, read)), Some((end, end)));
    }
}

#[test]
fn a_snapshot_that_is_not_what_it_says_is_thrown_away() {
    let rdb = snapshot("7.2.4");
    let mut flipped = rdb.clone();
    flipped[20] ^= 1;
    let mut bad_sum = rdb.clone();
    *bad_sum.last_mut().unwrap() ^= 1;
    let (len, mark) = (rdb.len(), MARK.as_bytes());
    let stories: [(String, Vec<u8>); 7] = [
        (format!("${len}"), bad_sum),
        (format!("${}", len - 1), rdb[..len - 1].to_vec()),
        (format!("${}", len + 3), [&rdb[..], b"abc"].concat()),
        (format!("$EOF:{MARK}"), [&rdb[..], &mark[1..], b"x"].concat()),
        (format!("$EOF:{MARK}"), [&rdb[..], mark, b"*"].concat()),
        (format!("${len}"), flipped),
        (format!("${len}"), vec![b'x'; len]),
    ];
    for (header, bytes) in stories {
        let mut rig = Rig::relay();
        rig.introduce("");
        rig.up(format!("+FULLRESYNC {A} 9\r\n{header}\r\n"));
        rig.up(&bytes);
        assert_eq!(rig.up_link(), None, "{header}");
        assert!(rig.noted("full-sync-failed").is_some_and(|text| text.starts_with("upstream:")), "{header}");
        assert_eq!(rig.machine.views()[0].state(), &State::Waiting);
        rig.attach(B, 1);
        assert_eq!(rig.machine.views()[0].state(), &State::Live);
    }
}

#[test]
fn a_mark_inside_a_value_ends_nothing() {
    use sluicegate_core::rdb::write;
    let mut rdb = Vec::new();
    write::write_magic(&mut rdb, Family::Redis, 11);
    write::write_select(&mut rdb, 0);
    write::write_string_key(&mut rdb, b"a", MARK.as_bytes());
    write::write_end(&mut rdb);
    let mut rig = Rig::relay();
    rig.introduce("");
    rig.up(format!("+FULLRESYNC {A} 9\r\n$EOF:{MARK}\r\n"));
    rig.up([&rdb, MARK.as_bytes()].concat());
    assert_eq!(rig.told_up(), frame("REPLCONF ACK 9"));
}

#[test]
fn an_old_primary_gives_every_view_a_history_of_its_own() {
    let mut rig = Rig::relay();
    rig.introduce("");
    rig.give_snapshot(A, 9, &snapshot("6.2.16"));
    assert!(!rig.machine.views()[0].relays());
    let replica = rig.synced(0);
    rig.up(frames("SET a 1 EX 10 | JSON.SET b $ 1"));
    let got = String::from_utf8(rig.got(replica)).unwrap();
    assert!(got.contains("PXAT") && got.contains("JSON.SET"), "{got}");
    assert_ne!(rig.info("master_replid"), A);
}

#[test]
fn behind_a_mark_the_stream_waits_for_the_first_acknowledgement() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    rig.up(frame("SET a 1"));
    let (link, got) = rig.replica(0);
    let id = rig.info("master_replid");
    let got = String::from_utf8(got).unwrap();
    let (line, rest) = got.split_once("\r\n").unwrap();
    assert_eq!(line, format!("+FULLRESYNC {id} 0"));
    let mark = rest.strip_prefix("$EOF:").and_then(|rest| rest.get(..40)).unwrap();
    assert_eq!(rest, format!("$EOF:{mark}\r\n(snapshot){mark}"));
    rig.up(frame("SET b 1"));
    rig.send(link, "\n\n");
    rig.wait(5000);
    assert_eq!(rig.got(link), b"", "not a byte, not even a newline");
    rig.send(link, frame("REPLCONF ACK 0"));
    assert_eq!(rig.got(link), frames("SELECT 0 | SET a 1 | SET b 1"));
}

#[test]
fn without_eof_a_length_is_told_and_the_stream_follows_at_once() {
    let mut rig = Rig::filter();
    rig.attach(A, 100);
    rig.up(frame("SET a 1"));
    let link = rig.accept(0);
    let got = rig.ask(link, "PSYNC ? -1");
    let (_, rest) = got.split_once("\r\n").unwrap();
    assert_eq!(rest.as_bytes(), [b"$10\r\n(snapshot)", &frames("SELECT 0 | SET a 1")[..]].concat());
}

#[test]
fn newlines_keep_a_replica_waiting_until_the_header_and_not_a_byte_longer() {
    let mut rig = Rig::filter();
    rig.ships_itself = false;
    rig.attach(A, 100);
    let link = rig.accept(0);
    assert!(rig.ask(link, "PSYNC ? -1").starts_with("+FULLRESYNC"));
    rig.wait(2000);
    assert_eq!(rig.got(link), b"\n\n");
    rig.handle(Input::ShipLength(link, 4));
    rig.wait(2000);
    assert_eq!(rig.got(link), b"$4\r\n");
    rig.handle(Input::ShipBytes(link, b"ab"[..].into()));
    rig.wait(2000);
    rig.handle(Input::ShipBytes(link, b"cd"[..].into()));
    rig.handle(Input::ShipEnded(link, Ok(())));
    rig.wait(2000);
    assert_eq!(rig.got(link), b"abcd");
    let eof = rig.accept(0);
    rig.ask(eof, "REPLCONF capa eof");
    rig.ask(eof, "PSYNC ? -1");
    rig.wait(3000);
    assert_eq!(rig.got(eof), b"", "its header is out already");
}

#[test]
fn a_snapshot_that_fails_closes_its_link_and_a_plugin_that_fails_halts_its_view() {
    let mut rig = Rig::filter();
    rig.ships_itself = false;
    rig.attach(A, 100);
    let (first, _) = rig.replica(0);
    rig.handle(Input::ShipEnded(first, Err(Fault::new(Party::Own, "disk"))));
    assert!(rig.closed.contains(&first));
    assert_eq!(rig.machine.views()[0].state(), &State::Live);
    let links: Vec<_> = (0..11).map(|_| rig.replica(0).0).collect();
    let begun = rig.ships.len();
    rig.handle(Input::ShipEnded(links[0], Err(Fault::new(Party::Plugin, "trap"))));
    assert!(links.iter().all(|link| rig.closed.contains(link)));
    assert!(rig.cancelled.contains(&links[1]), "its snapshot is not made to its end");
    assert_eq!(rig.ships.len(), begun, "and no other is begun");
    assert!(matches!(rig.machine.views()[0].state(), State::Halted(_)));
}

#[test]
fn at_most_eight_snapshots_go_out_at_once_and_the_others_follow_in_their_order() {
    let mut rig = Rig::filter();
    rig.ships_itself = false;
    rig.attach(A, 100);
    let links: Vec<_> = (0..12).map(|_| rig.replica(0).0).collect();
    assert_eq!(rig.ships.len(), 8);
    rig.wait(1000);
    assert_eq!(rig.got(links[8]), b"\n");
    // Longer than a stalled replica may take: time in the queue is not its fault.
    for _ in 0..70 {
        rig.wait(1000);
        rig.up(frame("PING"));
        for link in &links {
            rig.got(*link);
            rig.send(*link, "\n");
        }
    }
    // Both come in one turn of the shell, before it pumps.
    rig.now += 100;
    let now = Now { mono_ms: rig.now, unix_ms: 0 };
    rig.machine.handle(now, Input::ShipEnded(links[0], Ok(())));
    rig.machine.handle(now, Input::Tick);
    assert_eq!(phase(&rig, links[8]), Some(Phase::Shipping));
    rig.handle(Input::Closed(links[1], "gone".into()));
    assert_eq!(rig.cancelled, [links[1]]);
    assert_eq!(phase(&rig, links[9]), Some(Phase::Shipping));
    assert_eq!(phase(&rig, links[10]), Some(Phase::Queued));
    // The segment ends while snapshots go out and others wait for theirs.
    let shipped = rig.ships.len();
    rig.cut();
    rig.introduce("");
    rig.up(format!("+FULLRESYNC {B} 0\r\n"));
    assert!(links.iter().all(|link| rig.closed.contains(link)));
    assert_eq!(rig.ships.len(), shipped, "none is begun only to be given up");
    assert_eq!(rig.cancelled.len(), 1 + 8);
}

#[test]
fn a_place_that_one_view_frees_is_not_given_away_when_all_views_end() {
    let views = vec![ViewSettings::new("some"), ViewSettings::new("others")];
    let mut rig = Rig::new(views, vec![Some(Box::new(Filter)), Some(Box::new(Filter))]);
    rig.ships_itself = false;
    rig.attach(A, 100);
    let links: Vec<_> = (0..10).map(|n| rig.replica(usize::from(n >= 8)).0).collect();
    assert_eq!(phase(&rig, links[9]), Some(Phase::Queued));
    rig.cut();
    rig.introduce("");
    rig.up(format!("+FULLRESYNC {B} 0\r\n"));
    assert!(links.iter().all(|link| rig.closed.contains(link)));
    assert_eq!(rig.ships.len(), 8);
}

#[test]
fn who_cannot_load_the_snapshot_is_refused_before_it_empties_itself() {
    let mut settings = ViewSettings::new("some");
    settings.unknown_replica = UnknownReplica::Refuse;
    let mut rig = Rig::new(vec![settings], vec![Some(Box::new(Filter))]);
    rig.attach(A, 100);
    let stories = [
        (Some((Family::Redis, 6, 2)), "-ERR "),
        (Some((Family::Redis, 7, 2)), "+FULLRESYNC"),
        (Some((Family::Valkey, 8, 0)), "+FULLRESYNC"),
        (None, "-ERR "),
    ];
    for (version, expected) in stories {
        let link = rig.accept(0);
        rig.ask(link, "REPLCONF listening-port 7777 capa eof");
        assert_eq!(rig.ask(link, "PSYNC ? -1"), "");
        assert_eq!(rig.probes.pop(), Some((link, format!("10.0.0.{}", link.0), 7777)));
        let version = version.map(|(family, major, minor)| ServerVersion { family, major, minor });
        rig.handle(Input::Probed(link, version));
        let answer = rig.got(link);
        assert!(answer.starts_with(expected.as_bytes()), "{version:?}: {}", answer.escape_ascii());
    }
    let mute = rig.accept(0);
    rig.ask(mute, "REPLCONF listening-port 7777");
    rig.ask(mute, "PSYNC ? -1");
    rig.wait(3000);
    assert!(rig.got(mute).starts_with(b"\n\n"), "it is told to wait while its version is asked for");
    assert!(rig.closed.contains(&mute), "and refused when nobody answers");
    let valkey = rig.accept(0);
    rig.ask(valkey, "REPLCONF listening-port 7777 version 9.1.0");
    assert!(rig.ask(valkey, "PSYNC ? -1").starts_with("+FULLRESYNC"), "who says its version is not asked for it");
}

#[test]
fn a_snapshot_that_takes_minutes_does_not_make_its_replica_overdue() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    rig.ships_itself = false;
    let (replica, _) = rig.replica(0);
    for _ in 0..180 {
        rig.up(frame("PING"));
        rig.wait(1000);
    }
    let order = rig.ships[0].clone();
    rig.ship(&order);
    rig.wait(1000);
    assert!(!rig.closed.contains(&replica), "a replica that is being sent to has nothing to say");
}

#[test]
fn a_replica_that_loads_for_minutes_is_not_stalled_but_one_that_has_loaded_can_be() {
    let mut rig = Rig::relay();
    rig.attach(A, 0);
    let (replica, _) = rig.replica(0);
    let minutes_without_reading = |rig: &mut Rig| {
        for _ in 0..120 {
            rig.up(frame("SET a 1"));
            rig.send(replica, "\n");
            rig.wait(1000);
        }
        rig.closed.contains(&replica)
    };
    assert!(!minutes_without_reading(&mut rig), "it says that it is there while it loads");
    rig.send(replica, frame("REPLCONF ACK 0"));
    assert!(minutes_without_reading(&mut rig), "it takes nothing although it has loaded");
}

#[test]
fn a_view_with_a_floor_has_a_history_of_its_own_and_serves_nobody_below_it() {
    let mut settings = ViewSettings::new("some");
    settings.floor = Some(ServerVersion { family: Family::Redis, major: 7, minor: 2 });
    let mut rig = Rig::new(vec![settings], vec![None]);
    rig.attach(A, 100);
    assert_ne!(rig.machine.views()[0].history().id.to_string(), A);
    for (version, expected) in [
        ((Family::Redis, 7, 0), "-ERR it is Redis 7.0, which does not know all that Redis 7.2 knows"),
        ((Family::Redis, 7, 2), "+FULLRESYNC"),
        ((Family::Valkey, 8, 1), "+FULLRESYNC"),
    ] {
        let link = rig.accept(0);
        rig.ask(link, "REPLCONF listening-port 7777 capa eof");
        rig.ask(link, "PSYNC ? -1");
        let (family, major, minor) = version;
        rig.handle(Input::Probed(link, Some(ServerVersion { family, major, minor })));
        let answer = rig.got(link);
        assert!(answer.starts_with(expected.as_bytes()), "{version:?}: {}", answer.escape_ascii());
    }
    let mute = rig.accept(0);
    assert!(rig.ask(mute, "PSYNC ? -1").starts_with("+FULLRESYNC"), "one that says nothing is taken for the floor");
}
