//! The model primary: as kevy 3.17 and 7.0 behave on their replication ports, statement by statement.

use std::collections::{BTreeMap, VecDeque};

use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::route::shard_of;

use super::keys::{EXPIRES_MS, Keys, Words};
use super::truth::{ROUTING, Truth};
use super::words;
use crate::sim::rng::Rng;

/// The largest output of one turn; a frame above it never goes out. (The real one has 256 KiB.)
pub const PUMP_BYTES: usize = 8_000;
/// Signs of life come this often. Milliseconds.
const PING_MS: u64 = 1_000;

/// What kind of primary this is.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// What it speaks.
    pub dialect: Dialect,
    /// The version of its snapshots.
    pub version: u8,
    /// Bytes of frames that it keeps for those who come back.
    pub backlog: usize,
    /// The longest piece of a snapshot.
    pub chunk: usize,
}

/// What a link is doing.
#[derive(Debug)]
enum State {
    Handshake,
    Streaming { generation: u64, sent: u64 },
    Shipping { generation: u64, next: u64, left: Vec<u8> },
}

/// A link.
#[derive(Debug)]
pub struct Conn {
    state: State,
    input: Vec<u8>,
    /// What waits to be read by the proxy.
    pub out: VecDeque<u8>,
    last_ping: Option<u64>,
    /// The primary has closed it behind what waits.
    pub closing: bool,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    /// What it holds.
    pub keys: Keys,
    generation: u64,
    next: u64,
    kept: VecDeque<(u64, Vec<u8>)>,
    kept_bytes: usize,
    /// Its links.
    pub conns: BTreeMap<u64, Conn>,
}

impl Shard {
    fn oldest(&self) -> Option<u64> {
        self.kept.front().map(|(number, _)| *number)
    }

    fn new_history(&mut self, generation: u64) {
        (self.generation, self.next, self.kept_bytes) = (generation, 0, 0);
        self.kept.clear();
    }
}

/// A primary.
#[derive(Debug)]
pub struct Primary {
    /// What kind it is.
    pub manners: Manners,
    /// Its shards.
    pub shards: Vec<Shard>,
    /// What they held.
    pub truth: Truth,
    rng: Rng,
}

impl Primary {
    /// A primary that holds nothing.
    pub fn new(mut rng: Rng, manners: Manners, truth: Truth) -> Self {
        let shard = |_| Shard {
            keys: Keys::default(),
            generation: 1 + rng.within(0..1 << 40),
            next: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            conns: BTreeMap::new(),
        };
        let shards = (0..truth.sources).map(shard).collect();
        Self { manners, shards, truth, rng }
    }

    fn generation_behind(&mut self, old: u64) -> u64 {
        if self.manners.dialect == Dialect::K3 { 1 + self.rng.within(0..1 << 53) } else { old + 1 }
    }

    /// A client writes. All keys are of one shard.
    pub fn write(&mut self, command: &Words) {
        let index = shard_of(&command[1], self.shards.len(), ROUTING);
        self.apply(index, command);
        let shard = &mut self.shards[index];
        let frame = words::frame(shard.next, command);
        while shard.kept_bytes + frame.len() > self.manners.backlog {
            let Some((_, gone)) = shard.kept.pop_front() else { break };
            shard.kept_bytes -= gone.len();
        }
        shard.kept_bytes += frame.len();
        shard.kept.push_back((shard.next, frame));
        shard.next += 1;
    }

    fn apply(&mut self, index: usize, command: &[Vec<u8>]) {
        let truth = &mut self.truth;
        let mut watch = |key: &[u8], before: Option<&_>, after: Option<&_>| truth.touch(index, key, before, after);
        self.shards[index].keys.apply(command, &mut watch).expect("the workload knows what is there");
        self.truth.mark(index);
    }

    /// FLUSHALL on every shard: no frame says so.
    pub fn flush(&mut self, now: u64) {
        for index in 0..self.shards.len() {
            let generation = self.generation_behind(self.shards[index].generation);
            self.empty(index);
            self.shards[index].new_history(generation);
            if self.manners.dialect == Dialect::K2 {
                // Frames of the new history must not be taken for some of the old one; in truth it is luck that they are not.
                self.ping_all(index, now);
            }
        }
    }

    fn ping_all(&mut self, index: usize, now: u64) {
        let shard = &mut self.shards[index];
        let (generation, next) = (shard.generation, shard.next);
        for conn in shard.conns.values_mut().filter(|conn| matches!(conn.state, State::Streaming { .. })) {
            conn.say(&format!("+PING {generation} {next}"));
            conn.last_ping = Some(now);
        }
    }

    fn empty(&mut self, index: usize) {
        let truth = &mut self.truth;
        self.shards[index].keys.clear(&mut |key, before, after| truth.touch(index, key, before, after));
        self.truth.mark(index);
    }

    /// It ends and starts again; all links are gone. `clean`: its histories go on, without what was kept for links.
    pub fn restart(&mut self, clean: bool) {
        for index in 0..self.shards.len() {
            self.shards[index].conns.clear();
            if clean {
                self.shards[index].kept.clear();
                self.shards[index].kept_bytes = 0;
                continue;
            }
            let generation = self.generation_behind(self.shards[index].generation);
            // An older one cannot say that it holds something from before its first frame.
            if self.manners.dialect == Dialect::K2 || self.rng.permille(100) {
                self.empty(index);
            }
            self.shards[index].new_history(generation);
        }
    }

    /// A planted fault: the last write is forgotten, and its number given to another.
    pub fn fork(&mut self) {
        for index in 0..self.shards.len() {
            let shard = &mut self.shards[index];
            shard.conns.clear();
            if let Some((_, frame)) = shard.kept.pop_back() {
                shard.kept_bytes -= frame.len();
                shard.next -= 1;
                let key = words::parse(&frame[words::envelope(&frame)..]).map(|(words, _)| words[1].clone());
                let key = key.unwrap_or_default();
                let truth = &mut self.truth;
                shard.keys.set(&key, None, &mut |key, before, after| truth.touch(index, key, before, after));
                self.truth.mark(index);
                self.write(&vec![b"SET".to_vec(), key, b"fork".to_vec()]);
            }
        }
    }

    /// A link comes.
    pub fn accept(&mut self, index: usize, link: u64) {
        let conn =
            Conn { state: State::Handshake, input: Vec::new(), out: VecDeque::new(), last_ping: None, closing: false };
        self.shards[index].conns.insert(link, conn);
    }

    /// Bytes of the proxy.
    pub fn receive(&mut self, index: usize, link: u64, bytes: &[u8]) -> Result<(), String> {
        let dialect = self.manners.dialect;
        let shard = &mut self.shards[index];
        let Some(conn) = shard.conns.get_mut(&link) else { return Ok(()) };
        conn.input.extend_from_slice(bytes);
        if matches!(conn.state, State::Handshake) {
            let Some((said, used)) = words::parse(&conn.input) else { return Ok(()) };
            conn.input.drain(..used);
            let number = |word: &[u8]| String::from_utf8_lossy(word).parse::<u64>().map_err(|error| error.to_string());
            let (claimed, sent) = match (dialect, &said[..]) {
                (Dialect::K3, [_, _, generation, offset, ..]) if said.len() == 6 => {
                    (number(generation)?, number(offset)?)
                }
                (Dialect::K2, [_, _, offset, ..]) if said.len() == 5 => (shard.generation, number(offset)?),
                _ => {
                    conn.closing = true;
                    return Ok(());
                }
            };
            match dialect {
                Dialect::K3 => conn.say(&format!("+ACK {} {sent}", shard.generation)),
                _ => conn.say(&format!("+ACK {sent}")),
            }
            conn.state = State::Streaming { generation: claimed, sent };
        }
        while let Some(end) = conn.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = conn.input.drain(..=end).collect();
            if !line.starts_with(b"REPLCONF ACK ") || !line.ends_with(b"\r\n") {
                return Err(format!("the primary is told {:?}", String::from_utf8_lossy(&line)));
            }
        }
        Ok(())
    }

    /// A turn of its pump.
    pub fn pump(&mut self, index: usize, now: u64) {
        let (manners, unix_ms) = (self.manners, super::shell::Shell::time(now).unix_ms);
        let shard = &mut self.shards[index];
        let (oldest, generation, next) = (shard.oldest(), shard.generation, shard.next);
        for conn in shard.conns.values_mut().filter(|conn| !conn.closing && conn.out.len() < 4 * PUMP_BYTES) {
            match &mut conn.state {
                State::Handshake => {}
                State::Shipping { generation, next, left } => {
                    let (generation, next) = (*generation, *next);
                    if left.is_empty() {
                        conn.state = State::Streaming { generation, sent: next };
                        conn.say(&format!("+SNAPSHOT_END {next}"));
                        if manners.dialect == Dialect::K2 {
                            // As with FLUSHALL: that no frame of another history comes first is luck.
                            conn.last_ping = None;
                        }
                    } else {
                        let most = left.len().min(1 + self.rng.below(manners.chunk));
                        let piece: Vec<u8> = left.drain(..most).collect();
                        conn.say(&format!("${most}"));
                        conn.out.extend(piece);
                        conn.say("");
                    }
                }
                State::Streaming { generation: of, sent } => {
                    let (of, from) = (*of, *sent);
                    let fenced = manners.dialect == Dialect::K3 && of != generation;
                    let future = manners.dialect == Dialect::K3 && from > next;
                    let ships = fenced || future || from < next && oldest.is_none_or(|oldest| from < oldest);
                    if manners.dialect == Dialect::K2 && !ships && conn.last_ping.is_none() {
                        conn.last_ping = Some(now);
                        conn.say(&format!("+PING {generation} {next}"));
                    }
                    if ships {
                        let trailer = manners.version == 7 && self.rng.permille(500);
                        let left = shard.keys.snapshot(manners.version, unix_ms, trailer);
                        conn.state = State::Shipping { generation, next, left };
                        conn.say("+SNAPSHOT");
                    } else if from < next {
                        let mut room = PUMP_BYTES;
                        let behind = from - oldest.unwrap_or(from);
                        for (number, frame) in shard.kept.iter().skip(behind as usize) {
                            if frame.len() > room {
                                break;
                            }
                            room -= frame.len();
                            conn.out.extend(frame);
                            conn.state = State::Streaming { generation: of, sent: number + 1 };
                        }
                    }
                    if conn.last_ping.is_none_or(|last| now >= last + PING_MS) {
                        conn.last_ping = Some(now);
                        conn.say(&format!("+PING {generation} {next}"));
                    }
                }
            }
        }
    }
}

impl Conn {
    fn say(&mut self, line: &str) {
        self.out.extend(line.as_bytes());
        self.out.extend(b"\r\n");
    }
}

/// How long a SET with an expiry says that its key lives. Seconds.
pub fn lifetime() -> Vec<u8> {
    (EXPIRES_MS / 1000).to_string().into_bytes()
}
