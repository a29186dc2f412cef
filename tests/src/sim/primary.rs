//! The model primary: a key space, a history, and the primary's half of the replication protocol.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::data::Dataset;
use super::rdb;
use super::rng::Rng;
use super::truth::{History, Id, Truth};
use super::wire::{self, Said};

/// How this primary goes about its work.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Bytes of stream kept for those who come back.
    pub backlog: u64,
    /// SELECT is forced behind every snapshot and promotion, as a real primary does; a chained one cannot.
    pub forces_select: bool,
    /// SELECT stands before MULTI (7.0) or behind it (7.2).
    pub select_before_multi: bool,
    /// Snapshots go out with an end mark where the replica takes it.
    pub diskless: bool,
    /// The end mark never changes.
    pub same_mark: bool,
}

/// Where the conversation with one follower stands.
#[derive(Debug)]
enum Talk {
    Handshake,
    /// The snapshot is begun at this time. Milliseconds.
    Waiting(u64),
    /// The snapshot is written until this time and goes out then.
    Saving { at: u64, snapshot: Vec<u8>, offset: u64 },
    /// The stream is held back until the first acknowledgement.
    Held(u64),
    /// The stream, from this offset on.
    Streaming(u64),
    /// Nothing more is said.
    Dead,
}

/// One link to a follower (the proxy).
#[derive(Debug)]
pub struct Follower {
    inbox: Vec<u8>,
    /// Bytes on their way to it.
    pub out: VecDeque<u8>,
    talk: Talk,
    takes_eof: bool,
    newline_at: u64,
    /// The history it was told about.
    pub history: Option<Id>,
    /// What it acknowledged last, on this link.
    pub acked: Option<u64>,
    /// Its snapshot was damaged on the way: it must not take it.
    pub damaged: bool,
    /// The link is to be closed once everything is out.
    pub closing: bool,
}

/// A server.
#[derive(Debug)]
pub struct Primary {
    rng: Rng,
    manners: Manners,
    /// What it holds.
    pub data: Dataset,
    /// Its history.
    pub id: Id,
    second: Option<(Id, u64)>,
    stream_db: Option<u32>,
    /// Its followers by link.
    pub followers: BTreeMap<u64, Follower>,
    /// Everything that ever happened.
    pub truth: Truth,
    /// Faults of its own making: errors that go away, slow saves, damaged snapshots. In a thousand.
    pub moody: u64,
    /// The history and offset of the last snapshot that it made.
    pub snapshot: (Id, u64),
}

impl Primary {
    /// A primary with `data` at some offset.
    pub fn new(mut rng: Rng, manners: Manners, data: Dataset) -> Self {
        let id = wire::id(&mut rng);
        let mut truth = Truth::default();
        truth.histories.insert(id.clone(), History::new(rng.within(0..5000), data.clone()));
        Self {
            rng,
            manners,
            data,
            id,
            second: None,
            stream_db: None,
            followers: BTreeMap::new(),
            truth,
            moody: 0,
            snapshot: (Id::new(), 0),
        }
    }

    fn history(&mut self) -> &mut History {
        self.truth.histories.get_mut(&self.id).expect("the current history is known")
    }

    /// Offset behind its last byte.
    pub fn end(&self) -> u64 {
        self.truth.histories[&self.id].end()
    }

    /// Takes a new link.
    pub fn accept(&mut self, link: u64) {
        self.followers.insert(
            link,
            Follower {
                inbox: Vec::new(),
                out: VecDeque::new(),
                talk: Talk::Handshake,
                takes_eof: false,
                newline_at: 0,
                history: None,
                acked: None,
                damaged: false,
                closing: false,
            },
        );
    }

    // What it does to itself.

    /// Does one unit of commands: `(database, arguments)` each. More than one, or a wrapped one, is a transaction.
    pub fn write(&mut self, unit: &[(u32, Vec<Vec<u8>>)], wrapped: bool) {
        let wrapped = wrapped || unit.len() > 1;
        let (mut bytes, mut poison) = (Vec::new(), Vec::new());
        if wrapped {
            if self.manners.select_before_multi {
                self.select(unit[0].0, &mut bytes);
            }
            wire::command(&mut bytes, &["MULTI"]);
        }
        let before = self.end();
        for (db, args) in unit {
            if !wire::is(&args[0], "ping") && !wire::is(&args[0], "replconf") {
                self.select(*db, &mut bytes);
            }
            wire::command(&mut bytes, args);
            poison.push((before + bytes.len() as u64, (*db, args.clone())));
            self.data.apply(*db, args).expect("a primary sends only what it could do");
            if !wrapped {
                let at = before + bytes.len() as u64;
                let data = Rc::new(self.data.clone());
                self.history().commits.insert(at, data);
            }
        }
        if wrapped {
            wire::command(&mut bytes, &["EXEC"]);
        }
        let data = Rc::new(self.data.clone());
        let history = self.history();
        for (start, end) in wire::frames(&bytes) {
            let inside = wrapped && start > wire::multi_at(&bytes).unwrap_or(usize::MAX) && end < bytes.len();
            let opens = wrapped && Some(start) == wire::multi_at(&bytes);
            if !inside && !opens {
                history.places.insert(before + end as u64);
            }
        }
        history.bytes.extend_from_slice(&bytes);
        history.poison.extend(poison);
        let end = history.end();
        history.commits.insert(end, data);
        self.feed();
    }

    fn select(&mut self, db: u32, bytes: &mut Vec<u8>) {
        if self.stream_db != Some(db) {
            self.stream_db = Some(db);
            wire::command(bytes, &["SELECT", &db.to_string()]);
        }
    }

    /// Gives streaming followers what is new.
    fn feed(&mut self) {
        let history = &self.truth.histories[&self.id];
        for follower in self.followers.values_mut() {
            if let Talk::Streaming(cursor) = &mut follower.talk
                && *cursor < history.end()
            {
                follower.out.extend(history.from(*cursor));
                *cursor = history.end();
            }
        }
    }

    /// A replica with all but the last `lost` places takes over under a new id. Links are lost.
    pub fn fail_over(&mut self, lost: usize, keeps_id: bool) -> String {
        let old = self.id.clone();
        let history = self.truth.histories[&old].clone();
        let limit = *history.places.iter().rev().nth(lost).unwrap_or(&history.base);
        let cut = history.cut(limit);
        self.data = Dataset::clone(cut.at(limit).expect("a history holds something everywhere").1);
        self.stream_db = None;
        if keeps_id {
            // A planted fault: two histories of one name.
            self.truth.histories.insert(format!("{old} (lost)"), history);
        } else {
            self.id = wire::id(&mut self.rng);
            self.second = Some((old, limit + 1));
        }
        self.truth.histories.insert(self.id.clone(), cut);
        format!("failover: id {} goes on behind {limit}", &self.id[..6])
    }

    /// It comes back with another dataset and no memory of its history.
    pub fn start_anew(&mut self, data: Dataset) -> String {
        self.id = wire::id(&mut self.rng);
        self.second = None;
        self.stream_db = None;
        let base = self.rng.within(0..5000);
        self.truth.histories.insert(self.id.clone(), History::new(base, data.clone()));
        self.data = data;
        format!("the primary starts anew: id {} at {base}", &self.id[..6])
    }

    // What it says.

    /// Takes bytes from a link.
    pub fn receive(&mut self, link: u64, bytes: &[u8], now: u64) -> Result<(), String> {
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        follower.inbox.extend_from_slice(bytes);
        loop {
            let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
            match wire::take_command(&mut follower.inbox)? {
                Said::Newline => {}
                Said::Command(args) => self.command(link, &args, now)?,
                Said::Nothing => return Ok(()),
            }
        }
    }

    fn command(&mut self, link: u64, args: &[Vec<u8>], now: u64) -> Result<(), String> {
        let moody = self.moody;
        let bad = self.rng.permille(moody);
        let mood = self.rng.below(3);
        let info = self.info();
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        match &args[0].to_ascii_lowercase()[..] {
            b"ping" if bad => {
                let errors = ["-LOADING Redis is loading the dataset in memory\r\n", "-BUSY running a script\r\n", "-MISCONF\r\n"];
                follower.out.extend(errors[mood].bytes());
            }
            b"ping" => follower.out.extend(b"+PONG\r\n"),
            b"info" if bad => follower.out.extend(b"-NOPERM this user has no permissions to run the 'info' command\r\n"),
            b"info" => follower.out.extend(format!("${}\r\n{info}\r\n", info.len()).bytes()),
            b"replconf" => {
                let option = args.get(1).map(|option| option.to_ascii_lowercase()).unwrap_or_default();
                match &option[..] {
                    b"ack" => return self.acknowledged(link, args),
                    b"capa" => follower.takes_eof |= args.iter().any(|arg| wire::is(arg, "eof")),
                    b"version" => {
                        follower.out.extend(b"-ERR Unrecognized REPLCONF option: version\r\n");
                        return Ok(());
                    }
                    _ => {}
                }
                follower.out.extend(b"+OK\r\n");
            }
            b"psync" if bad => {
                let errors = [
                    "-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
                    "-LOADING Redis is loading the dataset in memory\r\n",
                    "-ERR BGSAVE failed, replication can't continue\r\n",
                ];
                follower.out.extend(errors[mood].bytes());
                (follower.talk, follower.closing) = (Talk::Dead, true);
            }
            b"psync" => self.psync(link, args, now),
            other => return Err(format!("the proxy says {} to its primary", other.escape_ascii())),
        }
        Ok(())
    }

    fn info(&self) -> String {
        let none = ("0".repeat(40), 0);
        let (second, limit) = self.second.as_ref().unwrap_or(&none);
        let limit = if *limit == 0 { -1 } else { *limit as i64 };
        let end = self.end();
        format!(
            "# Replication\r\nrole:master\r\nmaster_replid:{}\r\nmaster_replid2:{second}\r\nmaster_repl_offset:{end}\r\nsecond_repl_offset:{limit}\r\n",
            self.id
        )
    }

    fn psync(&mut self, link: u64, args: &[Vec<u8>], now: u64) {
        let asked = String::from_utf8_lossy(&args[1]).into_owned();
        let offset: i64 = String::from_utf8_lossy(&args[2]).parse().unwrap_or(-1);
        let history = &self.truth.histories[&self.id];
        let known = asked == self.id
            || self.second.as_ref().is_some_and(|(second, limit)| *second == asked && offset <= *limit as i64);
        let first = history.base.max(history.end().saturating_sub(self.manners.backlog)) + 1;
        let held = (first as i64..=history.end() as i64 + 1).contains(&offset);
        let id = self.id.clone();
        let wait = self.rng.pick(&[0, 0, 0, 30, 2500]);
        let Some(follower) = self.followers.get_mut(&link) else { return };
        if known && held {
            follower.out.extend(format!("+CONTINUE {id}\r\n").bytes());
            follower.history = Some(id);
            follower.talk = Talk::Streaming(offset as u64 - 1);
            self.feed();
        } else {
            follower.talk = Talk::Waiting(now + wait);
            self.tick(now);
        }
    }

    /// `REPLCONF ACK`: what the proxy may claim is a place that it was sent, and never less than before.
    fn acknowledged(&mut self, link: u64, args: &[Vec<u8>]) -> Result<(), String> {
        let offset: u64 = String::from_utf8_lossy(&args[2]).parse().map_err(|_| "an ACK that is no number")?;
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        if follower.damaged {
            return Err(format!("the proxy acknowledges {offset} on a link whose snapshot was damaged"));
        }
        if let Talk::Held(cursor) = follower.talk {
            follower.talk = Talk::Streaming(cursor);
        }
        let (Talk::Streaming(cursor), Some(id)) = (&follower.talk, &follower.history) else {
            return Err(format!("the proxy acknowledges {offset} before it was sent anything"));
        };
        let sent = cursor - (follower.out.len() as u64).min(*cursor);
        if offset > sent {
            return Err(format!("the proxy acknowledges {offset}, and was sent bytes up to {sent}"));
        }
        if follower.acked.is_some_and(|before| offset < before) {
            return Err(format!("the proxy's acknowledgement goes back from {:?} to {offset}", follower.acked));
        }
        if !self.truth.of(id)?.places.contains(&offset) {
            return Err(format!("the proxy acknowledges {offset}, which is in the middle of a command or transaction"));
        }
        follower.acked = Some(offset);
        self.feed();
        Ok(())
    }

    /// Time passes: snapshots begin and are done, and those who wait for one are told that it takes time.
    pub fn tick(&mut self, now: u64) {
        for link in self.followers.keys().copied().collect::<Vec<_>>() {
            let follower = &self.followers[&link];
            match &follower.talk {
                Talk::Waiting(at) if now >= *at => self.begin_snapshot(link, now),
                Talk::Saving { at, .. } if now >= *at => self.send_snapshot(link),
                Talk::Waiting(_) | Talk::Saving { .. } if now >= follower.newline_at => {
                    if let Some(follower) = self.followers.get_mut(&link) {
                        follower.newline_at = now + 1000;
                        follower.out.push_back(b'\n');
                    }
                }
                _ => {}
            }
        }
    }

    fn begin_snapshot(&mut self, link: u64, now: u64) {
        if self.manners.forces_select {
            self.stream_db = None;
        }
        let offset = self.end();
        self.snapshot = (self.id.clone(), offset);
        let at = now + self.rng.pick(&[0, 0, 5, 1500]);
        let db = self.stream_db.unwrap_or(0);
        if !self.manners.forces_select && self.stream_db.is_none() {
            self.stream_db = Some(db);
        }
        let snapshot = rdb::snapshot(&self.data, &self.id, offset, db, &mut self.rng);
        let id = self.id.clone();
        let Some(follower) = self.followers.get_mut(&link) else { return };
        follower.out.extend(format!("+FULLRESYNC {id} {offset}\r\n").bytes());
        follower.history = Some(id);
        follower.acked = Some(offset);
        follower.talk = Talk::Saving { at, snapshot, offset };
    }

    fn send_snapshot(&mut self, link: u64) {
        let moody = self.moody;
        let damage = self.rng.permille(moody).then(|| self.rng.below(4));
        let mark = if self.manners.same_mark { "5".repeat(40) } else { wire::id(&mut self.rng) };
        let rng = &mut self.rng;
        let Some(follower) = self.followers.get_mut(&link) else { return };
        let Talk::Saving { snapshot, offset, .. } = std::mem::replace(&mut follower.talk, Talk::Dead) else { return };
        let marked = self.manners.diskless && follower.takes_eof;
        let (mut body, mut claimed) = (snapshot.clone(), snapshot.len());
        let has_sum = !snapshot.ends_with(&[0; 8]);
        match damage {
            Some(0) => {
                body.truncate(rng.below(snapshot.len()));
                follower.closing = true;
            }
            Some(1) if has_sum => {
                let at = rng.below(body.len());
                body[at] ^= 1 << rng.below(8);
            }
            Some(2) if !marked => claimed = rng.below(snapshot.len()),
            Some(3) if marked => body.push(b'X'),
            _ => {}
        }
        let mended = body == snapshot && claimed == snapshot.len() && !follower.closing;
        follower.damaged = !mended;
        let head = if marked { format!("$EOF:{mark}\r\n") } else { format!("${claimed}\r\n") };
        follower.out.extend(head.bytes());
        follower.out.extend(body);
        if marked && !follower.closing {
            follower.out.extend(mark.bytes());
        }
        if follower.damaged {
            // The child died, or the bytes went wrong: nothing good follows on this link.
            return;
        }
        follower.talk = if marked { Talk::Held(offset) } else { Talk::Streaming(offset) };
        self.feed();
    }

    /// Whether every follower streams and has been sent everything.
    pub fn is_calm(&self) -> bool {
        self.followers.values().all(|follower| matches!(follower.talk, Talk::Streaming(_)) && follower.out.is_empty())
    }
}
