//! One link on a view's port: a replica, or someone who asks how things are.
//!
//! Numbers that always hold for a streaming replica: `oldest of backlog ≤ cursor ≤ end of backlog`, and what it acknowledged
//! is at most what was given to its outbox.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Buf, BytesMut};

use crate::limits;
use crate::outbox::Outbox;
use crate::position::ReplId;
use crate::rdb::ServerVersion;
use crate::resp;

/// What a link is doing, in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Commands and answers.
    Talking,
    /// It needs a snapshot, and the shell finds out which version it is. Gives up at this time (milliseconds).
    Probing(u64),
    /// It waits for a snapshot.
    Queued,
    /// A snapshot goes out.
    Shipping,
    /// The snapshot is out; the stream is held back until the first acknowledgement, because a replica that loads from disk
    /// looks for the end mark in the last bytes that it has read.
    Loading,
    /// The live stream.
    Streaming,
    /// Closed as soon as the last answer is out.
    Leaving,
}

impl Phase {
    /// Whether it has asked for a snapshot and not yet reached the stream.
    pub fn is_syncing(self) -> bool {
        matches!(self, Self::Probing(_) | Self::Queued | Self::Shipping | Self::Loading)
    }

    /// Whether it has a place in the view's stream.
    pub fn has_place(self) -> bool {
        matches!(self, Self::Shipping | Self::Loading | Self::Streaming)
    }

    /// Whether it follows the view.
    pub fn is_replica(self) -> bool {
        self.is_syncing() || self == Self::Streaming
    }
}

/// One link.
#[derive(Debug)]
pub struct Replica {
    /// Index of the view whose port it came to.
    pub view: usize,
    /// Its address, as the shell knows it.
    pub peer: String,
    /// What it is doing.
    pub phase: Phase,
    /// What waits to be written to it.
    pub outbox: Outbox,
    inbox: BytesMut,
    /// It may use commands other than AUTH.
    pub authenticated: bool,
    /// `REPLCONF listening-port`.
    pub port: Option<u16>,
    /// `REPLCONF ip-address`.
    pub ip: Option<String>,
    /// `REPLCONF capa eof`: it takes snapshots of unknown length.
    pub takes_eof: bool,
    /// `REPLCONF capa psync2`: `+CONTINUE` may name an id.
    pub takes_id: bool,
    /// Which server it is, where it said so or was found out.
    pub version: Option<ServerVersion>,
    /// Offset in the view's history behind what was given to the outbox.
    pub cursor: u64,
    /// The offset behind which the log is being read for it.
    pub reading: Option<u64>,
    /// The highest offset that it acknowledged.
    pub acked: u64,
    /// When it was last heard of. Milliseconds.
    pub last_heard: u64,
    /// When the link began. Milliseconds.
    pub since: u64,
    /// When it last took bytes, or had none waiting. Milliseconds.
    pub last_progress: u64,
    progress_mark: u64,
    /// Snapshot bytes given to the outbox.
    pub shipped: u64,
    /// How long its snapshot is, once that is known. Bytes.
    pub total: Option<u64>,
    /// Why it needs a snapshot.
    pub cause: &'static str,
    /// When the operator was last told how far its snapshot has come. Milliseconds.
    pub noted: u64,
    /// It has acknowledged something since it was last sent a snapshot.
    pub loaded: bool,
    /// It was not yet told how its snapshot is framed: lone newlines keep it waiting.
    pub awaits_header: bool,
    /// What follows the snapshot that is being sent.
    pub mark: Option<[u8; 40]>,
    /// It is a Sluicegate that takes snapshot and stream packed.
    pub packing: Option<Packing>,
}

/// What a link has that takes packed bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packing {
    /// The snapshot that it has a part of, and the first chunk that it lacks.
    pub resume: Option<(ReplId, u64)>,
    /// The name of the snapshot that is being made for it, and the first chunk that it gets. It is told of when there are bytes.
    pub announced: Option<(ReplId, u64)>,
    /// Bytes of the stream that are being packed for it.
    pub under_way: usize,
}

impl Replica {
    /// A link that was accepted just now.
    pub fn new(view: usize, peer: String, authenticated: bool, now: u64) -> Self {
        Self {
            view,
            peer,
            phase: Phase::Talking,
            outbox: Outbox::default(),
            inbox: BytesMut::new(),
            authenticated,
            port: None,
            ip: None,
            takes_eof: false,
            takes_id: false,
            version: None,
            cursor: 0,
            reading: None,
            acked: 0,
            last_heard: now,
            since: now,
            last_progress: now,
            progress_mark: 0,
            shipped: 0,
            total: None,
            cause: "",
            noted: now,
            loaded: false,
            awaits_header: false,
            mark: None,
            packing: None,
        }
    }

    /// Its address as its primary would list it: announced address and port.
    pub fn address(&self) -> (&str, u16) {
        let peer_ip = self.peer.rsplit_once(':').map_or(self.peer.as_str(), |(ip, _)| ip.trim_matches(['[', ']']));
        (self.ip.as_deref().unwrap_or(peer_ip), self.port.unwrap_or(0))
    }

    /// Notes whether the link takes what waits for it.
    pub fn note_progress(&mut self, now: u64) {
        if self.outbox.is_empty() || self.outbox.written() != self.progress_mark {
            self.progress_mark = self.outbox.written();
            self.last_progress = now;
        }
    }

    /// Takes bytes from the link. `false` if it sends more than any honest peer before it is understood.
    pub fn push(&mut self, bytes: &[u8], now: u64) -> bool {
        self.last_heard = now;
        self.inbox.extend_from_slice(bytes);
        self.inbox.len() <= limits::HANDSHAKE_BYTES_MAX
    }

    /// The next whole command, or `None` when more bytes are needed. An error is what the peer did wrong.
    pub fn command(&mut self) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
        // A replica keeps itself alive with lone newlines while it loads.
        while matches!(self.inbox.first(), Some(b'\n' | b'\r')) {
            self.inbox.advance(1);
        }
        match self.inbox.first() {
            None => Ok(None),
            Some(b'*') => self.array(),
            Some(_) => self.inline(),
        }
    }

    fn array(&mut self) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
        let Some((count, mut at)) = header(&self.inbox, 0, b'*')? else { return Ok(None) };
        if count > 1024 {
            return Err("a command with more than 1024 arguments");
        }
        let mut words = Vec::new();
        for _ in 0..count {
            let Some((length, start)) = header(&self.inbox, at, b'$')? else { return Ok(None) };
            let end = usize::try_from(length).ok().filter(|&length| length <= limits::HANDSHAKE_BYTES_MAX);
            let end = start + end.ok_or("an argument larger than any of the handshake")?;
            match self.inbox.get(end..end + 2) {
                Some(b"\r\n") => words.push(self.inbox.get(start..end).unwrap_or(&[]).to_vec()),
                Some(_) => return Err("a bulk string that does not end in CRLF"),
                None => return Ok(None),
            }
            at = end + 2;
        }
        self.inbox.advance(at);
        Ok(Some(words))
    }

    fn inline(&mut self) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
        let Some(end) = memchr::memchr(b'\n', &self.inbox) else { return Ok(None) };
        let line = self.inbox.split_to(end + 1);
        let words = line[..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Ok(Some(words.map(<[u8]>::to_vec).collect()))
    }
}

/// `<mark><digits>\r\n` at `at`: the number and the place behind it.
fn header(bytes: &[u8], at: usize, mark: u8) -> Result<Option<(u64, usize)>, &'static str> {
    let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    if rest.first() != Some(&mark) {
        return Err("a command that is not RESP");
    }
    match memchr::memchr(b'\n', rest) {
        Some(end) => {
            let digits = rest.get(1..end).and_then(|line| line.strip_suffix(b"\r")).unwrap_or(&[]);
            let number = resp::decimal(digits).ok_or("a length that is no decimal number")?;
            Ok(Some((number, at + end + 1)))
        }
        None if rest.len() > 32 => Err("a length line without an end"),
        None => Ok(None),
    }
}
