//! A model replica: the handshake, the load and the stream as a real server does them.

use std::collections::VecDeque;

use super::data::Dataset;
use super::rdb;
use super::rng::Rng;
use super::truth::Id;
use super::wire::{self, Said};

/// How this replica goes about its work.
#[derive(Debug, Clone)]
pub struct Manners {
    /// `capa eof`.
    pub takes_eof: bool,
    /// `capa psync2`.
    pub takes_id: bool,
    /// `REPLCONF listening-port`.
    pub says_port: bool,
    /// `REPLCONF version`.
    pub says_version: bool,
}

/// What it asks for when it attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What follows what it holds.
    Honest,
    /// Everything.
    Everything,
    /// What follows a place that its history has not reached.
    Future,
    /// What follows a place a few bytes behind what it holds: another may hold them.
    Beyond(u64),
    /// What follows a place of a history that nobody has.
    Foreign,
}

/// What the world has to look at.
#[derive(Debug)]
pub enum Event {
    /// It was allowed to go on behind `held`, which it asked for under `asked`.
    Continued {
        /// The history it asked for.
        asked: Id,
        /// What it holds of it.
        held: u64,
        /// It told the truth.
        honest: bool,
    },
    /// It loaded a snapshot.
    Loaded,
    /// Bytes of the stream behind `offset`.
    Stream {
        /// Offset before the bytes.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Its dataset changed at a place where others can see it.
    Published,
    /// It was told to come back later, or never.
    Sent(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Apart,
    Greeting,
    Introducing(usize),
    Asking,
    /// `+FULLRESYNC` came.
    Promised,
    Copying(Option<usize>),
    Streaming,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    /// Its place among the replicas of the world.
    pub number: usize,
    /// The view that it follows.
    pub view: usize,
    manners: Manners,
    rng: Rng,
    phase: Phase,
    question: Question,
    inbox: Vec<u8>,
    mark: Vec<u8>,
    /// What it holds.
    pub data: Dataset,
    /// The history that it follows, under the name that it knows.
    pub id: Option<Id>,
    /// The name under which the world knows the history that it follows.
    pub true_id: Id,
    /// Behind the last applied command outside any transaction.
    pub applied: u64,
    applied_db: u32,
    read: u64,
    db: u32,
    transaction: Option<Vec<(u32, Vec<Vec<u8>>)>>,
    last_ack: u64,
    /// When it may attach again. Milliseconds.
    pub attach_at: u64,
    /// It reads nothing until then. Milliseconds.
    pub asleep_until: u64,
    /// Commands other than service frames that it applied.
    pub frames: u64,
}

impl Replica {
    /// A replica of `view` that holds nothing.
    pub fn new(number: usize, view: usize, manners: Manners, rng: Rng) -> Self {
        Self {
            number,
            view,
            manners,
            rng,
            phase: Phase::Apart,
            question: Question::Honest,
            inbox: Vec::new(),
            mark: Vec::new(),
            data: Dataset::default(),
            id: None,
            true_id: Id::new(),
            applied: 0,
            applied_db: 0,
            read: 0,
            db: 0,
            transaction: None,
            last_ack: 0,
            attach_at: 0,
            asleep_until: 0,
            frames: 0,
        }
    }

    /// Whether it is attached and follows the stream.
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// Whether it has asked where to begin, and waits for the answer.
    pub fn is_asking(&self) -> bool {
        self.phase == Phase::Asking
    }

    /// The place of the last byte that it read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// It forgets everything, as one does that was started anew.
    pub fn forget(&mut self) {
        (self.id, self.data) = (None, Dataset::default());
    }

    /// The link is up.
    pub fn attach(&mut self, question: Question, out: &mut VecDeque<u8>) {
        self.question = question;
        self.phase = Phase::Greeting;
        self.say(out, &["PING"]);
    }

    /// The link is gone: half a command, or half a transaction, is thrown away.
    pub fn detach(&mut self, now: u64, wait: u64) {
        if matches!(self.phase, Phase::Promised | Phase::Copying(_)) {
            self.forget();
        }
        self.phase = Phase::Apart;
        self.inbox.clear();
        self.transaction = None;
        (self.read, self.db) = (self.applied, self.applied_db);
        self.attach_at = now + wait;
    }

    fn say<T: AsRef<[u8]>>(&self, out: &mut VecDeque<u8>, args: &[T]) {
        let mut bytes = Vec::new();
        wire::command(&mut bytes, args);
        out.extend(bytes);
    }

    /// It says something that no replica says.
    pub fn babble(&self, out: &mut VecDeque<u8>) {
        out.extend(b"*1\r\n:1\r\n");
    }

    /// Time passes: once a second a sign of life.
    pub fn tick(&mut self, now: u64, out: &mut VecDeque<u8>) {
        if now < self.last_ack + 1000 {
            return;
        }
        self.last_ack = now;
        match self.phase {
            Phase::Streaming => self.acknowledge(out),
            Phase::Promised | Phase::Copying(_) => out.push_back(b'\n'),
            _ => {}
        }
    }

    fn acknowledge(&self, out: &mut VecDeque<u8>) {
        self.say(out, &["REPLCONF", "ACK", &self.applied.to_string()]);
    }

    /// Takes bytes; what there is to look at is handed to `seen`. An error is what a real replica would call a desync.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut VecDeque<u8>,
        seen: &mut dyn FnMut(&Self, Event) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.phase == Phase::Streaming {
            seen(self, Event::Stream { offset: self.read, bytes: bytes.to_vec() })?;
            self.read += bytes.len() as u64;
        }
        self.inbox.extend_from_slice(bytes);
        loop {
            let goes_on = match self.phase {
                Phase::Apart => false,
                Phase::Copying(length) => self.copy(length, out, seen)?,
                Phase::Streaming => self.follow(out, seen)?,
                _ => self.talk(out, seen)?,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn talk(
        &mut self,
        out: &mut VecDeque<u8>,
        seen: &mut dyn FnMut(&Self, Event) -> Result<(), String>,
    ) -> Result<bool, String> {
        let Some(line) = wire::take_line(&mut self.inbox) else { return Ok(false) };
        if line.is_empty() && matches!(self.phase, Phase::Asking | Phase::Promised) {
            return Ok(true);
        }
        match self.phase {
            Phase::Greeting if line == "+PONG" => self.introduce(out),
            Phase::Introducing(1) => self.ask(out),
            Phase::Introducing(left) => self.phase = Phase::Introducing(left - 1),
            Phase::Asking => self.answered(&line, seen)?,
            Phase::Promised => self.promised(&line)?,
            _ => return Err(format!("an answer that no replica understands: {line}")),
        }
        Ok(true)
    }

    fn introduce(&mut self, out: &mut VecDeque<u8>) {
        let mut count = 1;
        if self.manners.says_port {
            self.say(out, &["REPLCONF", "listening-port", "7001"]);
            count += 1;
        }
        let mut capa = vec!["REPLCONF"];
        if self.manners.takes_eof {
            capa.extend(["capa", "eof"]);
        }
        if self.manners.takes_id {
            capa.extend(["capa", "psync2"]);
        }
        capa.extend(["capa", "of-the-future"]);
        self.say(out, &capa);
        if self.manners.says_version {
            self.say(out, &["REPLCONF", "version", "8.1.0"]);
            count += 1;
        }
        self.phase = Phase::Introducing(count);
    }

    fn ask(&mut self, out: &mut VecDeque<u8>) {
        self.phase = Phase::Asking;
        if self.id.is_none() {
            self.question = Question::Everything;
        }
        let id = self.id.clone().unwrap_or_default();
        let next = self.applied + 1;
        let far = next + 1_000_000 + self.rng.within(0..1_000_000);
        let (id, place) = match self.question {
            Question::Honest => (id, next.to_string()),
            Question::Beyond(bytes) => (id, (next + bytes).to_string()),
            Question::Everything => ("?".into(), "-1".into()),
            Question::Future => (id, far.to_string()),
            Question::Foreign => (wire::id(&mut self.rng), next.to_string()),
        };
        self.say(out, &["PSYNC", &id, &place]);
    }

    fn answered(&mut self, line: &str, seen: &mut dyn FnMut(&Self, Event) -> Result<(), String>) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["+CONTINUE"] | ["+CONTINUE", _] => {
                let asked = self.id.clone().unwrap_or_default();
                if let Some(id) = words.get(1) {
                    self.id = Some(id.to_string());
                }
                self.phase = Phase::Streaming;
                if let Question::Beyond(bytes) = self.question {
                    seen(self, Event::Continued { asked, held: self.applied + bytes, honest: true })?;
                    // It lacks what it claimed to have, so it goes.
                    self.phase = Phase::Apart;
                    self.forget();
                    return seen(self, Event::Sent(line.into()));
                }
                let honest = self.question == Question::Honest;
                seen(self, Event::Continued { asked, held: self.applied, honest })?;
                if !self.inbox.is_empty() {
                    seen(self, Event::Stream { offset: self.read, bytes: self.inbox.clone() })?;
                    self.read += self.inbox.len() as u64;
                }
            }
            ["+FULLRESYNC", id, offset] if id.len() == 40 => {
                self.data = Dataset::default();
                (self.id, self.true_id) = (Some(id.into()), id.into());
                self.applied = offset.parse().map_err(|_| format!("no offset in {line}"))?;
                self.phase = Phase::Promised;
            }
            _ if line.starts_with('-') => {
                self.phase = Phase::Apart;
                seen(self, Event::Sent(line.into()))?;
            }
            _ => return Err(format!("an answer to PSYNC that no replica understands: {line}")),
        }
        Ok(())
    }

    fn promised(&mut self, line: &str) -> Result<(), String> {
        let head = line.strip_prefix('$').ok_or_else(|| format!("no snapshot header: {line}"))?;
        self.phase = match head.strip_prefix("EOF:") {
            Some(mark) if mark.len() == 40 && self.manners.takes_eof => {
                self.mark = mark.into();
                Phase::Copying(None)
            }
            Some(_) => return Err("an end mark for a replica that takes none".into()),
            None => Phase::Copying(Some(head.parse().map_err(|_| format!("no snapshot header: {line}"))?)),
        };
        Ok(())
    }

    fn copy(
        &mut self,
        length: Option<usize>,
        out: &mut VecDeque<u8>,
        seen: &mut dyn FnMut(&Self, Event) -> Result<(), String>,
    ) -> Result<bool, String> {
        let (snapshot, rest) = match length {
            Some(length) if self.inbox.len() >= length => {
                let rest = self.inbox.split_off(length);
                (std::mem::take(&mut self.inbox), rest)
            }
            // As a real one does: the mark is looked for at the end of what was read, and nowhere else.
            None if self.inbox.ends_with(&self.mark) => {
                let mut snapshot = std::mem::take(&mut self.inbox);
                snapshot.truncate(snapshot.len() - self.mark.len());
                (snapshot, Vec::new())
            }
            _ => return Ok(false),
        };
        let loaded = rdb::load(&snapshot)?;
        let text =
            |name: &str| loaded.aux.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
        self.db = text("repl-stream-db").and_then(|db| db.parse().ok()).unwrap_or(0);
        (self.applied_db, self.data, self.inbox) = (self.db, loaded.data, rest);
        (self.phase, self.transaction) = (Phase::Streaming, None);
        self.read = self.applied;
        seen(self, Event::Loaded)?;
        self.acknowledge(out);
        if !self.inbox.is_empty() {
            seen(self, Event::Stream { offset: self.read, bytes: self.inbox.clone() })?;
            self.read += self.inbox.len() as u64;
        }
        Ok(true)
    }

    fn follow(
        &mut self,
        out: &mut VecDeque<u8>,
        seen: &mut dyn FnMut(&Self, Event) -> Result<(), String>,
    ) -> Result<bool, String> {
        let (said, length) = wire::parse(&self.inbox)?;
        self.inbox.drain(..length);
        match said {
            Said::Nothing => return Ok(false),
            Said::Newline => {}
            Said::Command(args) => self.command(args, out)?,
        }
        if self.transaction.is_none() {
            (self.applied, self.applied_db) = (self.read - self.inbox.len() as u64, self.db);
            seen(self, Event::Published)?;
        }
        Ok(true)
    }

    fn command(&mut self, args: Vec<Vec<u8>>, out: &mut VecDeque<u8>) -> Result<(), String> {
        let name = args[0].to_ascii_lowercase();
        match (&name[..], &mut self.transaction) {
            (b"multi", None) => self.transaction = Some(Vec::new()),
            (b"multi", Some(_)) => return Err("MULTI inside MULTI".into()),
            (b"exec", Some(_)) => {
                for (db, args) in self.transaction.take().unwrap_or_default() {
                    self.data.apply(db, &args)?;
                    self.frames += 1;
                }
            }
            (b"exec", None) => return Err("EXEC without MULTI".into()),
            (b"select", _) => {
                self.db = String::from_utf8_lossy(&args[1]).parse().map_err(|_| "SELECT of no database")?;
            }
            (b"replconf", _) if wire::is(&args[1], "getack") => self.acknowledge(out),
            (_, Some(transaction)) => transaction.push((self.db, args)),
            (_, None) => {
                self.data.apply(self.db, &args)?;
                self.frames += 1;
            }
        }
        Ok(())
    }
}
