//! Two Sluicegates in a row, with packed bytes between them: `Far` has the primary, `Near` follows it.

use sluicegate_core::contract::{Drive, Input, LinkId};
use sluicegate_core::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_SLACK_BYTES};
use sluicegate_core::settings::{RefreshSettings, Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::upstream::Phase;

use crate::rig::{A, B, Filter, Rig, frame, frames};

const OK: &str = "+OK\r\n";

/// One that has a packed view of a primary, which it is attached to.
fn far(format: Option<&str>, filters: bool) -> Rig {
    let view = ViewSettings { pack: format.map(String::from), ..ViewSettings::new("wan") };
    let mut far = Rig::new(vec![view], vec![filters.then(|| Box::new(Filter) as _)]);
    far.attach(A, 100);
    far
}

/// One that wants its primary's bytes packed, and serves one ordinary view.
fn near() -> Rig {
    let upstream = UpstreamSettings { pack: Some("runs".into()), ..UpstreamSettings::new("far", 7000) };
    let views = vec![ViewSettings::new("all")];
    let (users, refresh, version) = (Vec::new(), RefreshSettings::default(), "0.1.0".into());
    Rig::with(Settings { upstream, views, users, refresh, ships_max: 8, version }, vec![None])
}

/// Both, and the link between them.
struct Chain {
    far: Rig,
    near: Rig,
    link: LinkId,
}

impl Chain {
    /// A link on which PSYNC has been asked; nothing of the answer is delivered yet.
    fn dialed(far: Rig, near: Rig) -> Self {
        let mut chain = Self { far, near, link: LinkId(0) };
        chain.dial();
        chain
    }

    fn dial(&mut self) -> String {
        self.near.connect();
        self.link = self.far.accept(0);
        let mut said = String::new();
        loop {
            let asked = self.near.told_up();
            said.push_str(&String::from_utf8_lossy(&asked));
            if asked.is_empty() {
                return said;
            }
            self.far.send(self.link, &asked);
            if said.contains("PSYNC") {
                return said;
            }
            let answer = self.far.got(self.link);
            self.near.up(answer);
        }
    }

    /// Everything that waits, in both directions.
    fn flow(&mut self) {
        loop {
            let (down, up) = (self.far.got(self.link), self.near.told_up());
            if down.is_empty() && up.is_empty() {
                return;
            }
            if self.near.up_link().is_some() && !down.is_empty() {
                self.near.up(down);
            }
            self.far.send(self.link, up);
        }
    }

    /// The network cuts the link.
    fn cut(&mut self) {
        self.near.cut();
        self.hang_up();
    }

    /// The far end notices that the link is gone.
    fn hang_up(&mut self) {
        self.far.handle(Input::Closed(self.link, "cut".into()));
    }

    /// What a replica of the near end gets of the stream behind `offset`.
    fn stream_behind(&mut self, offset: u64) -> Vec<u8> {
        let id = self.near.machine.views()[0].history().id;
        let link = self.near.accept(0);
        self.near.ask(link, "REPLCONF capa psync2");
        let got = self.near.ask(link, &format!("PSYNC {id} {}", offset + 1));
        let stream = got.strip_prefix(&format!("+CONTINUE {id}\r\n")).unwrap_or_else(|| panic!("{got}"));
        stream.as_bytes().to_vec()
    }

    fn assert_synced(&mut self) {
        assert_eq!(self.near.machine.upstream_phase(), Phase::Streaming, "{:?}", self.near.notes);
        let (_, got) = self.near.replica(0);
        let held = crate::rig::snapshot("7.2.4");
        assert!(got.ends_with(&held), "the snapshot is the primary's");
    }
}

/// What the far end answers to PSYNC: the lines, and the container behind them.
fn parted(answer: &[u8]) -> (String, &[u8]) {
    let header = answer.windows(6).position(|bytes| bytes == b"$PACK:").expect("a packed snapshot");
    let end = header + answer[header..].iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end..])
}

#[test]
fn snapshot_and_stream_come_packed_and_positions_stay_what_they_are() {
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    let answer = chain.far.got(chain.link);
    let (lines, container) = parted(&answer);
    assert!(lines.starts_with(&format!("+FULLRESYNC {A} 100\r\n$PACK:")) && lines.ends_with(":0\r\n"), "{lines}");
    assert!(container.starts_with(b"SLUICEPACK1\x04runs"));
    chain.near.up(&answer);
    chain.flow();
    chain.assert_synced();
    let stream = frames(&format!("SELECT 0 | SET a 2 | SET long {}", "z".repeat(500)));
    chain.far.up(&stream);
    let packed = chain.far.got(chain.link);
    assert!(!packed.windows(3).any(|bytes| bytes == b"SET") && packed.len() < stream.len(), "it is packed");
    chain.near.up(packed);
    assert_eq!(chain.stream_behind(100), stream);
    chain.near.wait(1_100);
    chain.flow();
    let (_, replica) = chain.far.machine.replicas().next().expect("the near end");
    assert_eq!(replica.acked, 100 + stream.len() as u64);
    assert_eq!(chain.near.info("upstream_pack"), "runs");
    assert!(chain.far.info("slave0").ends_with(",pack=runs"), "{}", chain.far.info("slave0"));
}

#[test]
fn a_view_with_plugins_is_packed_under_its_own_history() {
    let mut chain = Chain::dialed(far(Some("runs"), true), near());
    let answer = chain.far.got(chain.link);
    let id = chain.far.machine.views()[0].history().id;
    assert!(parted(&answer).0.starts_with(&format!("+FULLRESYNC {id} 0\r\n")));
    let order = chain.far.ships.last().expect("a ship").clone();
    assert!(format!("{order:?}").contains("framing: Packed { first: 0 }"), "{order:?}");
}

#[test]
fn whoever_does_not_pack_so_is_spoken_to_as_ever() {
    for format in [None, Some("other")] {
        let mut chain = Chain::dialed(far(format, false), near());
        let answer = String::from_utf8_lossy(&chain.far.got(chain.link)).into_owned();
        assert!(answer.starts_with(&format!("+FULLRESYNC {A} 100\r\n$")) && !answer.contains("PACK"), "{answer}");
        chain.near.up(answer);
        chain.flow();
        assert_eq!(chain.near.info("upstream_pack"), "no");
        assert!(chain.far.noted("not-packed").is_some());
    }
    // Nor does a replica that never asks get anything else, from a view that packs.
    let mut far = far(Some("runs"), false);
    let (_, got) = far.replica(0);
    assert!(!got.windows(4).any(|bytes| bytes == b"PACK"));
}

#[test]
fn a_cut_anywhere_in_a_packed_snapshot_goes_on_behind_the_last_whole_chunk() {
    let whole = {
        let mut chain = Chain::dialed(far(Some("runs"), false), near());
        parted(&chain.far.got(chain.link)).1.len()
    };
    for cut in 0..whole {
        let mut chain = Chain::dialed(far(Some("runs"), false), near());
        let answer = chain.far.got(chain.link);
        let (lines, container) = parted(&answer);
        let token = lines.rsplit(':').nth(1).expect("a token").to_owned();
        chain.near.up(&lines);
        chain.near.up(&container[..cut]);
        chain.cut();
        let asked = chain.dial();
        let answer = chain.far.got(chain.link);
        let (lines, rest) = parted(&answer);
        let chunk: u64 = lines.trim_end().rsplit(':').next().and_then(|chunk| chunk.parse().ok()).expect("a chunk");
        assert!(lines.contains(&token), "it is the same snapshot: {lines}");
        // Not a byte comes twice, but for those of the chunk that was cut.
        assert!(container.ends_with(rest) && container.len() - rest.len() <= cut, "cut at {cut}");
        assert!(cut - (container.len() - rest.len()) < 16 + 16 + 24, "cut at {cut}: {chunk} chunks are there");
        let words = frame(&format!("REPLCONF sluicegate-resume {token} {chunk}"));
        assert!(asked.contains(&*String::from_utf8_lossy(&words)), "{asked}");
        chain.near.up(&answer);
        chain.flow();
        chain.assert_synced();
        assert_eq!(chain.near.info("packed_resumes_total"), if chunk > 0 { "1" } else { "0" });
    }
}

#[test]
fn what_was_complete_when_the_link_went_is_not_sent_again() {
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    let answer = chain.far.got(chain.link);
    chain.near.up(answer);
    chain.cut();
    let asked = chain.dial();
    assert!(asked.contains(&*String::from_utf8_lossy(&frame(&format!("PSYNC {A} 101")))), "{asked}");
    chain.flow();
    chain.assert_synced();
}

#[test]
fn another_snapshot_has_another_name_and_begins_anew() {
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    let answer = chain.far.got(chain.link);
    let (lines, container) = parted(&answer);
    chain.near.up(&lines);
    chain.near.up(&container[..container.len() / 2]);
    chain.cut();
    chain.far.cut();
    assert!(chain.far.introduce("").contains("PSYNC"));
    chain.far.give_snapshot(B, 500, &crate::rig::snapshot("7.2.4"));
    let asked = chain.dial();
    assert!(asked.contains("sluicegate-resume"));
    let answer = chain.far.got(chain.link);
    let (again, _) = parted(&answer);
    assert!(again.contains(B) && again.ends_with(":0\r\n"), "{again}");
    assert_ne!(again.rsplit(':').nth(1), lines.rsplit(':').nth(1));
    chain.near.up(&answer);
    chain.flow();
    chain.assert_synced();
    assert_eq!(chain.near.info("packed_resumes_total"), "0");
}

/// Where the body of chunk `number` begins in a container, or in a part of one, that has a head of `at` bytes.
fn body_of(container: &[u8], mut at: usize, number: usize) -> usize {
    for _ in 0..number {
        let numbers = container[at..at + 8].as_chunks::<4>().0;
        let [raw, packed] = [numbers[0], numbers[1]].map(u32::from_le_bytes);
        at += 16 + if packed == 0 { raw } else { packed } as usize;
    }
    at + 16
}

#[test]
fn a_damaged_chunk_of_a_snapshot_is_asked_for_again_and_then_unpacked_bytes_are() {
    const HEAD: usize = 16;
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    // One that is damaged twice counts as twice in a row, unless others came between.
    for (head, number, again) in [(HEAD, 3, true), (0, 2, true), (0, 0, false)] {
        let answer = chain.far.got(chain.link);
        let (lines, container) = parted(&answer);
        let mut container = container.to_vec();
        let at = body_of(&container, head, number);
        container[at] ^= 0x40;
        chain.near.up(&lines);
        chain.near.up(container);
        assert_eq!(chain.near.up_link(), None, "the link is closed");
        let noted = chain.near.noted("upstream-failed").expect("a reason");
        assert!(noted.contains("upstream: packed bytes, chunk ") && noted.contains("its checksum is"), "{noted}");
        chain.hang_up();
        let asked = chain.dial();
        assert_eq!(asked.contains("sluicegate-resume"), again, "{asked}");
    }
    chain.flow();
    chain.assert_synced();
    assert_eq!(chain.near.info("upstream_pack"), "no");
    chain.cut();
    assert!(chain.dial().contains("sluicegate-pack:runs"), "the next link may pack again");
}

/// A chain whose ends are in step.
fn streaming() -> Chain {
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    chain.flow();
    chain
}

#[test]
fn a_cut_anywhere_in_a_chunk_of_the_stream_loses_nothing() {
    let stream = frames("SELECT 0 | SET a 2 | MULTI | SET b 3 | EXEC");
    let whole = {
        let mut chain = streaming();
        chain.far.up(&stream);
        chain.far.got(chain.link).len()
    };
    for cut in 0..whole {
        let mut chain = streaming();
        chain.far.up(&stream);
        let packed = chain.far.got(chain.link);
        chain.near.up(&packed[..cut]);
        chain.cut();
        let asked = chain.dial();
        assert!(asked.contains(&*String::from_utf8_lossy(&frame(&format!("PSYNC {A} 101")))), "{asked}");
        chain.flow();
        assert_eq!(chain.stream_behind(100), stream, "cut at {cut}");
    }
}

#[test]
fn a_damaged_chunk_of_the_stream_is_no_part_of_it() {
    let mut chain = streaming();
    let stream = frames("SELECT 0 | SET a 2");
    chain.far.up(&stream);
    for again in [true, false] {
        // Behind the answer to PSYNC, if there is one, it is the only chunk.
        let mut answer = chain.far.got(chain.link);
        *answer.last_mut().expect("a chunk") ^= 1;
        chain.near.up(answer);
        assert_eq!(chain.near.up_link(), None, "the link is closed");
        chain.hang_up();
        let asked = chain.dial();
        assert!(asked.contains(&*String::from_utf8_lossy(&frame(&format!("PSYNC {A} 101")))), "{asked}");
        assert_eq!(asked.contains("sluicegate-pack"), again, "{asked}");
    }
    chain.flow();
    assert_eq!(chain.stream_behind(100), stream);
}

#[test]
fn an_answer_of_a_link_that_is_gone_is_not_taken_for_one_of_the_next() {
    let mut chain = streaming();
    chain.near.packs.slow = true;
    let stream = frames("SELECT 0 | SET a 2");
    chain.far.up(&stream);
    chain.flow();
    let (old, chunk) = chain.near.packs.waiting.pop().expect("a chunk");
    chain.cut();
    chain.dial();
    chain.flow();
    chain.near.packs.slow = false;
    assert!(chain.near.packs.ended.contains(&old));
    chain.near.unpack(old, chunk);
    assert_eq!(chain.near.machine.upstream_position().expect("a place").2, 100);
    let (link, chunk) = chain.near.packs.waiting.pop().expect("the same once more");
    chain.near.unpack(link, chunk);
    assert_eq!(chain.stream_behind(100), stream);
}

#[test]
fn no_more_than_one_chunk_waits_while_another_is_unpacked() {
    let mut chain = streaming();
    chain.near.packs.slow = true;
    chain.far.up(frames("SELECT 0 | SET a 2"));
    chain.flow();
    let link = chain.near.up_link().expect("a link");
    assert!(chain.near.machine.wants_read(link));
    chain.near.up(vec![1; CHUNK_RAW_BYTES_MAX + CHUNK_SLACK_BYTES + 16]);
    assert!(!chain.near.machine.wants_read(link));
}

#[test]
fn a_codec_that_fails_costs_the_packing_and_nothing_else() {
    let mut chain = streaming();
    let (link, _) = chain.far.replica(0);
    chain.far.packs.broken = true;
    let stream = frames("SELECT 0 | SET a 2");
    chain.far.up(&stream);
    assert!(chain.far.noted("pack-failed").expect("a reason").contains("it runs no more"));
    assert!(chain.far.closed.contains(&chain.link) && !chain.far.closed.contains(&link));
    assert!(chain.far.got(link).ends_with(&stream), "others go on");
    chain.near.cut();
    chain.dial();
    chain.flow();
    assert_eq!(chain.stream_behind(100), stream);
    assert_eq!(chain.near.info("upstream_pack"), "no");
}

#[test]
fn a_near_end_that_cannot_unpack_does_without_from_the_third_link_on() {
    let mut chain = Chain::dialed(far(Some("runs"), false), near());
    chain.near.packs.no_codec = true;
    for again in [true, false] {
        let answer = chain.far.got(chain.link);
        chain.near.up(answer);
        assert!(chain.near.noted("full-sync-failed").expect("a reason").contains("it does not start"));
        chain.hang_up();
        assert_eq!(chain.dial().contains("sluicegate-pack"), again);
    }
    chain.flow();
    chain.assert_synced();
}

#[test]
fn a_packed_snapshot_is_announced_when_there_are_bytes_and_newlines_come_until_then() {
    let mut far = far(Some("runs"), false);
    far.ships_itself = false;
    let mut chain = Chain::dialed(far, near());
    chain.far.wait(2_100);
    let waiting = chain.far.got(chain.link);
    assert_eq!(waiting, format!("+FULLRESYNC {A} 100\r\n\n\n").as_bytes());
    chain.near.up(waiting);
    let order = chain.far.ships.pop().expect("a ship");
    chain.far.ship(&order);
    chain.far.wait(1_100);
    chain.flow();
    chain.assert_synced();
}

#[test]
fn what_was_not_agreed_on_is_the_primarys_fault() {
    for (pack, rest, says) in [
        ("+PACK other\r\n", "", "it was asked to pack as runs and agrees to other"),
        ("+PACK runs\r\n", "+FULLRESYNC {a} 100\r\n$18\r\n", "a malformed snapshot header"),
        ("+PACK runs\r\n", "+FULLRESYNC {a} 100\r\n$PACK:{a}:7\r\n", "from chunk 7 on, which was not asked for"),
        ("+PACK runs\r\n", "+FULLRESYNC {a} 100\r\n$PACK:{a}:\r\n", "a malformed snapshot header"),
        ("+PACK runs\r\n", "+FULLRESYNC {a} 100\r\n$PACK:{a}:0\r\nREDIS0011", "do not begin as packed bytes do"),
        (OK, "+FULLRESYNC {a} 100\r\n$PACK:{a}:0\r\n", "a malformed snapshot header"),
    ] {
        let mut near = near();
        near.connect();
        near.up(format!("+PONG\r\n{OK}{OK}{OK}{pack}"));
        if !rest.is_empty() {
            near.up(rest.replace("{a}", A));
        }
        let noted = near.noted("upstream-failed").expect("a reason");
        assert!(noted.contains("upstream: ") && noted.contains(says), "{noted}");
    }
}

#[test]
fn what_only_another_sluicegate_says_is_checked() {
    let mut far = far(Some("runs"), false);
    let link = far.accept(0);
    assert!(far.ask(link, &format!("REPLCONF sluicegate-resume {A} 1")).starts_with("-ERR a token"));
    assert_eq!(far.ask(link, "REPLCONF capa sluicegate-pack:runs"), "+PACK runs\r\n");
    assert!(far.ask(link, "REPLCONF sluicegate-resume x 1").starts_with("-ERR a token"));
    assert!(far.ask(link, &format!("REPLCONF sluicegate-resume {A} -1")).starts_with("-ERR a token"));
    assert_eq!(
        far.ask(link, &format!("REPLCONF sluicegate-resume {A} 18446744073709551615")),
        "-ERR a token and a chunk are expected, on a packed link\r\n"
    );
    assert_eq!(far.ask(link, &format!("REPLCONF sluicegate-resume {B} 3")), OK);
    far.send(link, frame("PSYNC ? -1"));
    let got = far.got(link);
    assert!(parted(&got).0.ends_with(":0\r\n"), "nothing has that name");
}
