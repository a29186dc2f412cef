//! The model primary: a key space, a history, and (in `talk`) the primary's half of the replication protocol.

mod talk;
mod values;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::data::Dataset;
use super::lens::Lens;
use super::rng::Rng;
use super::truth::{History, Id, Truth};
use super::wire;

pub use values::{Asker, PASSWORD};

/// Commands with more bytes of arguments are noted: some views may be too small for them.
pub const LARGE_BYTES: usize = 1000;

/// How this primary goes about its work.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Its version.
    pub version: &'static str,
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
    Saving {
        at: u64,
        snapshot: Vec<u8>,
        offset: u64,
    },
    /// The stream is held back until the first acknowledgement.
    Held(u64),
    /// The stream, from this offset on.
    Streaming(u64),
    /// It was sent nonsense.
    Babbled,
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
    /// It wants nothing but a snapshot.
    pub snapshot_only: bool,
}

/// A server.
#[derive(Debug)]
pub struct Primary {
    rng: Rng,
    /// How it goes about its work.
    pub manners: Manners,
    /// What it holds.
    pub data: Dataset,
    /// Its history.
    pub id: Id,
    second: Option<(Id, u64)>,
    stream_db: Option<u32>,
    /// The saves that were begun: of which history, where, and the database that the stream behind them goes on in.
    saves: Vec<(String, u64, u32)>,
    /// Its followers by link.
    pub followers: BTreeMap<u64, Follower>,
    /// Everything that ever happened.
    pub truth: Truth,
    /// Faults of its own making: errors that go away, slow saves, damaged snapshots. In a thousand.
    pub moody: u64,
    /// How often, of a thousand times, a newer snapshot is the save that was begun for another replica some time ago.
    pub joins: u64,
    /// The history and offset of the last snapshot that the proxy's stream began behind.
    pub snapshot: (Id, u64),
    /// Those who ask for single keys, by link.
    pub askers: BTreeMap<u64, Asker>,
    /// Followers and askers have to say a password.
    pub wants_password: bool,
    /// Nobody may DUMP any more.
    pub denies: bool,
    /// When it last gave no proper answer to one who asked for keys. Milliseconds.
    pub unwilling_at: u64,
    /// How often it told what keys hold.
    pub answered: u64,
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
            saves: Vec::new(),
            followers: BTreeMap::new(),
            truth,
            moody: 0,
            joins: 100,
            snapshot: (Id::new(), 0),
            askers: BTreeMap::new(),
            wants_password: false,
            denies: false,
            unwilling_at: 0,
            answered: 0,
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
    pub fn accept(&mut self, link: u64, snapshot_only: bool) {
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
                snapshot_only,
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
            let large = args.iter().map(Vec::len).sum::<usize>() > LARGE_BYTES;
            if large || Lens::ALL.iter().any(|lens| lens.must_halt(*db, args, false)) {
                poison.push((before + bytes.len() as u64, (*db, args.clone())));
            }
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
        history.longest = history.longest.max(bytes.len());
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
                follower.out.extend(history.behind(*cursor));
                *cursor = history.end();
            }
        }
    }

    /// A replica with all but the last `lost` places takes over under a new id. Links are lost.
    pub fn fail_over(&mut self, lost: usize, keeps_id: bool) -> String {
        self.leave_askers();
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
        self.leave_askers();
        self.id = wire::id(&mut self.rng);
        self.second = None;
        self.stream_db = None;
        let base = self.rng.within(0..5000);
        self.truth.histories.insert(self.id.clone(), History::new(base, data.clone()));
        self.data = data;
        format!("the primary starts anew: id {} at {base}", &self.id[..6])
    }

    /// It sends something that is no command, and the history has nothing of it.
    pub fn babble(&mut self) {
        for follower in self.followers.values_mut().filter(|follower| matches!(follower.talk, Talk::Streaming(_))) {
            follower.out.extend(b"\0babble\r\n");
            follower.talk = Talk::Babbled;
        }
    }
}
