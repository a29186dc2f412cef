//! A model replica of one shard of a view, with the manners of one dialect.

use std::collections::VecDeque;

use sluicegate_core::kevy::Dialect;

use super::keys::{EXPIRES_MS, Keys, Words, shown};
use super::shell::Shell;
use super::truth::{Stand, Truth};
use super::words;
use crate::sim::rng::Rng;

/// An answer to the handshake is awaited for so long. Milliseconds.
const GREETING_MS: u64 = 5_000;
/// A link with signs of life is dropped after so long without any. Milliseconds.
const SILENCE_MS: u64 = 30_000;

/// What the link of a replica is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// There is none.
    None,
    /// The handshake is out.
    Greeting,
    /// Frames.
    Live,
    /// A snapshot arrives.
    Snapshot(Vec<u8>),
}

/// What a planted fault does to a replica's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Nothing.
    None,
    /// The frame is not applied, though its number is counted.
    Lose,
    /// The frame is applied twice.
    Repeat,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    /// The view and the shard of it.
    pub of: (usize, usize),
    /// What it speaks.
    pub dialect: Dialect,
    /// It forgets what it has as soon as a snapshot begins. The older ones never do: they load it over what they have.
    pub eager: bool,
    /// It was told to forget all, and a snapshot has to follow.
    pub emptied: bool,
    /// The key whose last SET said a time that counts from its own clock: the right one has to follow at once.
    owed: Option<Vec<u8>>,
    /// What it holds.
    pub keys: Keys,
    /// Where that is in what the primary held.
    pub stand: Stand,
    /// The generation of what it holds, as far as it is told; 0: it holds nothing.
    pub generation: u64,
    /// The frame that it expects.
    pub next: u64,
    /// Its link.
    pub link: Link,
    promised: Option<u64>,
    input: Vec<u8>,
    asked_at: u64,
    heard_at: u64,
    acked_at: u64,
    /// When it may attach.
    pub attach_at: u64,
    /// It reads nothing before this time.
    pub asleep_until: u64,
    /// What is taken off each number, by a planted fault.
    pub shift: u64,
    /// A planted fault: each history begins with number 0.
    pub reuses: bool,
    /// Frames applied.
    pub applied: u64,
    /// Snapshots loaded.
    pub loaded: u64,
}

impl Replica {
    /// A replica that holds nothing.
    pub fn new(of: (usize, usize), dialect: Dialect, rng: &mut Rng, truth: &Truth) -> Self {
        Self {
            of,
            dialect,
            eager: rng.permille(300) && dialect == Dialect::K3,
            emptied: false,
            owed: None,
            keys: Keys::default(),
            stand: truth.stand(),
            generation: 0,
            next: 0,
            link: Link::None,
            promised: None,
            input: Vec::new(),
            asked_at: 0,
            heard_at: 0,
            acked_at: 0,
            attach_at: rng.pick(&[0, 0, 1_000, 8_000]),
            asleep_until: 0,
            shift: 0,
            reuses: false,
            applied: 0,
            loaded: 0,
        }
    }

    /// It starts anew, with nothing.
    pub fn forget(&mut self, truth: &Truth) {
        (self.keys, self.stand, self.generation, self.next) = (Keys::default(), truth.stand(), 0, 0);
        (self.emptied, self.owed) = (false, None);
    }

    /// Says its handshake.
    pub fn attach(&mut self, number: usize, now: u64, out: &mut VecDeque<u8>) {
        (self.link, self.promised, self.asked_at, self.heard_at) = (Link::Greeting, None, now, now);
        self.input.clear();
        let mut command: Words = vec![b"REPLICATE".to_vec(), b"FROM".to_vec()];
        if self.dialect == Dialect::K3 {
            command.push(self.generation.to_string().into_bytes());
        }
        command.push((self.next + self.shift).to_string().into_bytes());
        command.extend([b"ID".to_vec(), format!("replica-{number}").into_bytes()]);
        out.extend(words::array(&command));
    }

    /// The link is gone.
    pub fn detach(&mut self, now: u64, wait: u64) {
        (self.link, self.attach_at) = (Link::None, now + wait);
    }

    /// Whether it follows the stream.
    pub fn is_live(&self) -> bool {
        self.link == Link::Live && !self.emptied && (self.generation != 0 || self.dialect != Dialect::K3)
    }

    /// Time passes. `false`: it drops the link.
    pub fn tick(&mut self, now: u64, out: &mut VecDeque<u8>) -> bool {
        let listens = self.dialect != Dialect::K1;
        if listens && self.link == Link::Live && now >= self.acked_at + 1_000 {
            self.acknowledge(now, out);
        }
        match self.link {
            Link::Greeting => now < self.asked_at + GREETING_MS,
            Link::Live => !listens || now < self.heard_at + SILENCE_MS,
            _ => true,
        }
    }

    fn acknowledge(&mut self, now: u64, out: &mut VecDeque<u8>) {
        self.acked_at = now;
        out.extend(format!("REPLCONF ACK {}\r\n", self.next + self.shift).as_bytes());
    }

    /// Bytes of the proxy.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: u64,
        out: &mut VecDeque<u8>,
        truth: &mut Truth,
        harm: &mut dyn FnMut() -> Harm,
    ) -> Result<(), String> {
        self.input.extend_from_slice(bytes);
        self.heard_at = now;
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            let used = match rest.first() {
                None => break,
                Some(b'+') => self.line(rest, now, out, truth)?,
                Some(b'$') => self.piece(rest)?,
                Some(b'*') => self.frame(rest, now, truth, harm)?,
                Some(_) => {
                    return Err(format!("no primary says {:?}", String::from_utf8_lossy(&rest[..rest.len().min(40)])));
                }
            };
            match used {
                0 => break,
                used => rest = &rest[used..],
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn line(&mut self, bytes: &[u8], now: u64, out: &mut VecDeque<u8>, truth: &mut Truth) -> Result<usize, String> {
        let Some((line, used)) = words::line(bytes) else { return Ok(0) };
        let mut parts = line.split(' ');
        let word = parts.next().unwrap_or_default();
        let numbers: Vec<u64> =
            parts.map(|part| part.parse().map_err(|_| line.to_owned())).collect::<Result<_, _>>()?;
        match (word, &numbers[..], &self.link) {
            ("+ACK", &[generation, offset], Link::Greeting) if self.dialect == Dialect::K3 => {
                if offset != self.next + self.shift || generation == 0 {
                    return Err(format!("{line} is no echo of {}", self.next));
                }
                (self.promised, self.link) = (Some(generation), Link::Live);
            }
            ("+ACK", &[offset], Link::Greeting) if self.dialect != Dialect::K3 => {
                if offset != self.next + self.shift {
                    return Err(format!("{line} is no echo of {}", self.next));
                }
                self.link = Link::Live;
                if self.dialect == Dialect::K2 {
                    self.acknowledge(now, out);
                }
            }
            ("+PING", &[generation, next], Link::Live) if self.dialect != Dialect::K1 => {
                let known = *self.promised.get_or_insert(generation);
                if known != generation {
                    return Err(format!("{line} on a link of generation {known}"));
                }
                if next < self.next + self.shift && self.generation == generation {
                    return Err(format!("{line} goes back behind {}", self.next));
                }
                self.acknowledge(now, out);
            }
            ("+SNAPSHOT", [], Link::Live) => {
                self.link = Link::Snapshot(Vec::new());
                if self.eager {
                    self.forget(truth);
                }
            }
            ("+SNAPSHOT_END", &[next], Link::Snapshot(body)) => {
                let body = body.clone();
                if self.reuses {
                    self.shift = next;
                }
                (self.link, self.next) = (Link::Live, next - self.shift.min(next));
                self.generation = self.promised.unwrap_or(0);
                self.load(&body, truth)?;
                if self.dialect != Dialect::K1 {
                    self.acknowledge(now, out);
                }
            }
            _ => return Err(format!("it is told {line:?}, as a replica of {:?} in {:?}", self.dialect, self.doing())),
        }
        Ok(used)
    }

    fn doing(&self) -> &'static str {
        match self.link {
            Link::None => "no link",
            Link::Greeting => "the handshake",
            Link::Live => "the stream",
            Link::Snapshot(_) => "a snapshot",
        }
    }

    fn load(&mut self, body: &[u8], truth: &mut Truth) -> Result<(), String> {
        self.loaded += 1;
        (self.emptied, self.owed) = (false, None);
        if self.dialect == Dialect::K3 {
            (self.keys, self.stand) = (Keys::default(), truth.stand());
        }
        truth.anew(&mut self.stand);
        for (key, value) in Keys::load(body)? {
            let mut wrong = Ok(());
            let (of, stand) = (self.of, &mut self.stand);
            self.keys.set(&key, Some(value), &mut |name, before, after| {
                wrong = if before.is_some() {
                    Err(format!("{} is there already", String::from_utf8_lossy(name)))
                } else {
                    truth.touched(of, stand, name, before, after)
                };
            });
            wrong.map_err(|what| format!("in the snapshot: {what}"))?;
        }
        truth
            .follow(self.of, &mut self.stand)
            .map_err(|what| format!("after a snapshot of {} keys: {what}", self.keys.len()))
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let Link::Snapshot(body) = &mut self.link else { return Err("a piece of no snapshot".into()) };
        let Some((line, head)) = words::line(bytes) else { return Ok(0) };
        let length: usize = line[1..].parse().map_err(|_| line.to_owned())?;
        if !(1..=65_536).contains(&length) {
            return Err(format!("a piece of {length} bytes"));
        }
        let Some(piece) = bytes.get(head..head + length + 2) else { return Ok(0) };
        if !piece.ends_with(b"\r\n") {
            return Err("a piece ends otherwise".into());
        }
        body.extend_from_slice(&piece[..length]);
        Ok(head + length + 2)
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        now: u64,
        truth: &mut Truth,
        harm: &mut dyn FnMut() -> Harm,
    ) -> Result<usize, String> {
        if self.link != Link::Live {
            return Err(format!("a frame in {}", self.doing()));
        }
        let Some(rest) = bytes.strip_prefix(b"*2\r\n:") else {
            return if bytes.len() < 5 { Ok(0) } else { Err("a frame without its envelope".into()) };
        };
        let Some((number, used)) = words::line(rest) else { return Ok(0) };
        let number: u64 = number.parse().map_err(|_| number.to_owned())?;
        let Some((command, length)) = words::parse(&rest[used..]) else { return Ok(0) };
        if number != self.next + self.shift {
            return Err(format!("frame {number} where {} is next", self.next + self.shift));
        }
        if self.dialect == Dialect::K3 && self.promised != Some(self.generation) {
            return Err(format!("frames of {:?} to one who holds {}", self.promised, self.generation));
        }
        self.next += 1;
        self.applied += 1;
        if command[0] == b"FLUSHALL" && self.dialect != Dialect::K3 {
            (self.keys, self.stand, self.emptied) = (Keys::default(), truth.stand(), true);
            self.owed = None;
            return Ok(5 + used + length);
        }
        if self.emptied {
            return Err("a frame where the snapshot has to follow that it was emptied for".into());
        }
        let times = match harm() {
            Harm::None => 1,
            Harm::Lose => 0,
            Harm::Repeat => 2,
        };
        for _ in 0..times {
            self.apply(&command, now, truth)
                .map_err(|what| format!("after frame {number}, {}: {what}", shown(&command)))?;
        }
        Ok(5 + used + length)
    }

    fn apply(&mut self, command: &Words, now: u64, truth: &mut Truth) -> Result<(), String> {
        if self.owed.take().is_some_and(|key| command[0] != b"PEXPIREAT" || command[1] != key) {
            return Err("the SET before it said a time that counts from here, and was not corrected".into());
        }
        self.owed = (command[0] == b"SET" && command.len() > 3).then(|| command[1].clone());
        if command[0] == b"PEXPIREAT" {
            let at: u64 = String::from_utf8_lossy(&command[2]).parse().map_err(|_| "no time".to_owned())?;
            let latest = Shell::time(now).unix_ms + EXPIRES_MS;
            if at > latest || at < Shell::time(0).unix_ms + EXPIRES_MS {
                return Err(format!("an expiry at {at}, and now it could be {latest} at most"));
            }
        }
        let mut wrong = Ok(());
        let (of, stand) = (self.of, &mut self.stand);
        self.keys.apply(command, &mut |name, before, after| {
            if wrong.is_ok() {
                wrong = truth.touched(of, stand, name, before, after);
            }
        })?;
        wrong?;
        truth.follow(self.of, &mut self.stand)
    }
}
