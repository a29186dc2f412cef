//! Follows one primary as its replica: the handshake and the place in its history.
//!
//! This station speaks the replica's half of the protocol and says what it heard; what follows for views and replicas is
//! decided by the machine. The place is kept to the byte: a link that is lost in the middle of a frame, or of a
//! transaction, goes on right there.

mod answers;
pub mod packed;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::command::{Learned, learned};
use crate::fault::Fault;
use crate::position::ReplId;
use crate::resp;
use crate::resp::reply::Reader;
use crate::settings::UpstreamSettings;
use crate::snapshot::Framing;
use packed::{Chunk, Packing};

/// Where the conversation stands, in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No link; the next attempt is made at this time (milliseconds).
    Idle(u64),
    /// The shell was asked for a connection.
    Dialing,
    /// PING was sent.
    Greeting,
    /// AUTH, REPLCONF … were sent together; so many answers are missing.
    Introducing,
    /// COMMAND was sent, to learn of commands that no table has.
    Learning,
    /// INFO was sent, to learn where the primary's second history ends.
    Inquiring,
    /// PSYNC was sent.
    Asking,
    /// `+FULLRESYNC` came; the snapshot's header is next.
    Promised,
    /// The snapshot arrives: bytes left, where the length is known.
    Copying(Option<u64>),
    /// The snapshot has arrived; the shell verifies it.
    Verifying,
    /// The live stream.
    Streaming,
}

/// What the primary said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The commands that it describes, or why it does not.
    Commands(Result<Vec<Learned>, String>),
    /// What INFO replication says of the primary's ids: current, second, and the second's limit.
    Ids {
        /// `master_replid`
        id: Option<ReplId>,
        /// `master_replid2`
        second: Option<ReplId>,
        /// `second_repl_offset`: the highest PSYNC offset good under the second id.
        limit: i64,
    },
    /// `+FULLRESYNC`: the segment ends.
    FullResync {
        /// The history that the snapshot belongs to.
        id: ReplId,
        /// The offset that it stands for.
        offset: u64,
    },
    /// `+CONTINUE`, under a new id if one is named.
    Continue(Option<ReplId>),
    /// A snapshot begins.
    Snapshot(Framing),
    /// Bytes of the snapshot.
    SnapshotBytes(Bytes),
    /// All bytes of a snapshot with a known length have come.
    SnapshotEnd,
    /// Bytes of the stream.
    Stream(Bytes),
    /// A chunk of a packed stream. The next one is heard after [`Upstream::unpacked`].
    Chunk(Chunk),
}

/// One of the pipelined steps of the introduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Auth,
    Optional,
    /// The offer to take packed bytes.
    Pack,
}

/// The conversation with a primary.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    /// Nothing but a snapshot is wanted.
    snapshot_only: bool,
    phase: Phase,
    inbox: BytesMut,
    /// Stream bytes that came while the snapshot was verified.
    early: VecDeque<Bytes>,
    steps: VecDeque<Step>,
    /// Reads the reply to COMMAND.
    reply: Option<Box<Reader>>,
    /// PSYNC named a place: `+CONTINUE` is an answer to nothing else.
    named_place: bool,
    packing: Packing,
    /// When something was last heard, or the phase began. Milliseconds.
    last_heard: u64,
    backoff_ms: u64,
}

impl Upstream {
    /// A conversation that begins at once.
    pub fn new(settings: UpstreamSettings) -> Self {
        let backoff_ms = settings.backoff_min_ms;
        Self {
            settings,
            snapshot_only: false,
            phase: Phase::Idle(0),
            inbox: BytesMut::new(),
            early: VecDeque::new(),
            steps: VecDeque::new(),
            reply: None,
            named_place: false,
            packing: Packing::default(),
            last_heard: 0,
            backoff_ms,
        }
    }

    /// A conversation that takes a snapshot and no stream.
    pub fn for_snapshots(settings: UpstreamSettings) -> Self {
        Self { snapshot_only: true, ..Self::new(settings) }
    }

    /// What the operator decided.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Where the conversation stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When something was last heard. Milliseconds.
    pub fn last_heard(&self) -> u64 {
        self.last_heard
    }

    /// The shell is dialing.
    pub fn dialing(&mut self, now: u64) {
        (self.phase, self.last_heard) = (Phase::Dialing, now);
    }

    /// The link is up: what to say first.
    pub fn connected(&mut self, now: u64) -> Vec<u8> {
        self.inbox.clear();
        self.early.clear();
        self.steps.clear();
        self.reply = None;
        self.packing.restart();
        (self.phase, self.last_heard) = (Phase::Greeting, now);
        let mut out = Vec::new();
        resp::write_command(&mut out, &[b"PING"]);
        out
    }

    /// The link is gone: when to try again, in milliseconds from now. The wait doubles until a link reaches the stream and
    /// is lost there without the primary's fault; `broken` says that what the primary sent is why we left.
    pub fn lost(&mut self, now: u64, broken: bool) -> u64 {
        // A broken stream costs the primary a full sync: one that breaks each time must not be asked for again at once.
        let good = self.phase == Phase::Streaming && !broken;
        let wait = if good { self.settings.backoff_min_ms } else { self.backoff_ms };
        self.backoff_ms = wait.saturating_mul(2).min(self.settings.backoff_max_ms);
        self.phase = Phase::Idle(now.saturating_add(wait));
        self.inbox.clear();
        self.early.clear();
        self.packing.restart();
        wait
    }

    /// Whether the link has been silent for too long.
    pub fn is_overdue(&self, now: u64) -> bool {
        !matches!(self.phase, Phase::Idle(_) | Phase::Verifying)
            && now.saturating_sub(self.last_heard) > self.settings.timeout_ms
    }

    /// The snapshot is verified: the stream follows.
    pub fn streaming(&mut self, now: u64) {
        (self.phase, self.last_heard) = (Phase::Streaming, now);
        self.packing.is_sound();
    }

    /// Takes bytes from the link.
    pub fn push(&mut self, bytes: Bytes, now: u64) {
        self.last_heard = now;
        match self.phase {
            Phase::Streaming | Phase::Verifying if self.packing.is_on() => self.packing.push(&bytes),
            Phase::Streaming | Phase::Verifying | Phase::Copying(_) => self.early.push_back(bytes),
            _ => self.inbox.extend_from_slice(&bytes),
        }
    }

    /// The next thing that the primary said, as far as it has come.
    pub fn hear(&mut self, out: &mut Vec<u8>) -> Result<Option<Heard>, Fault> {
        loop {
            let heard = match self.phase {
                Phase::Idle(_) | Phase::Dialing | Phase::Verifying => return Ok(None),
                Phase::Streaming if self.packing.is_on() => return self.packing.next_chunk(),
                Phase::Streaming => return Ok(self.early.pop_front().map(Heard::Stream)),
                Phase::Copying(_) if self.packing.is_copying() => return self.copying_packed(),
                Phase::Copying(left) => return Ok(self.copying(left)),
                Phase::Learning => return self.command_reply(),
                Phase::Inquiring => return self.ids(),
                _ => match self.line()? {
                    Some(line) => self.answer(&line, out)?,
                    None => return Ok(None),
                },
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    /// Asks to go on at `place` (id and PSYNC offset), or for everything.
    pub fn ask(&mut self, place: Option<(ReplId, u64)>, out: &mut Vec<u8>) {
        self.phase = Phase::Asking;
        self.named_place = place.is_some();
        match place {
            Some((id, offset)) => {
                let mut digits = Vec::new();
                resp::write_decimal(&mut digits, offset);
                resp::write_command(out, &[b"PSYNC", id.as_bytes(), &digits]);
            }
            None => resp::write_command(out, &[b"PSYNC", b"?", b"-1"]),
        }
    }

    /// Asks which commands the primary has.
    pub fn learn(&mut self, out: &mut Vec<u8>) {
        self.phase = Phase::Learning;
        self.reply = Some(Box::new(Reader::new(learned::REPLY_BOUNDS)));
        resp::write_command(out, &[b"COMMAND"]);
    }

    /// Asks what the primary knows of its histories.
    pub fn inquire(&mut self, out: &mut Vec<u8>) {
        self.phase = Phase::Inquiring;
        resp::write_command(out, &[b"INFO", b"replication"]);
    }

    /// Whether the introduction is over and the machine has to choose what to ask for.
    pub fn is_introduced(&self) -> bool {
        self.phase == Phase::Introducing && self.steps.is_empty()
    }

    fn copying(&mut self, left: Option<u64>) -> Option<Heard> {
        let Some(left) = left else {
            return self.early.pop_front().map(Heard::SnapshotBytes);
        };
        if left == 0 {
            self.phase = Phase::Verifying;
            return Some(Heard::SnapshotEnd);
        }
        let mut bytes = self.early.pop_front()?;
        let mine = bytes.split_to((bytes.len() as u64).min(left) as usize);
        if !bytes.is_empty() {
            self.early.push_front(bytes);
        }
        self.phase = Phase::Copying(Some(left - mine.len() as u64));
        Some(Heard::SnapshotBytes(mine))
    }

    fn copying_packed(&mut self) -> Result<Option<Heard>, Fault> {
        let Some(bytes) = self.early.pop_front() else { return Ok(None) };
        let (mine, ended) = self.packing.copying(bytes)?;
        if ended {
            self.phase = Phase::Verifying;
            self.early.drain(..).for_each(|bytes| self.packing.push(&bytes));
        }
        Ok(Some(Heard::SnapshotBytes(mine)))
    }

    /// All of a snapshot with an end mark has come.
    pub fn snapshot_complete(&mut self) {
        if let Phase::Copying(None) = self.phase
            && !self.packing.is_copying()
        {
            self.phase = Phase::Verifying;
        }
    }
}

/// The state of the conversation, as INFO names it.
pub fn phase_name(phase: Phase) -> String {
    String::from(match phase {
        Phase::Idle(_) => "disconnected",
        Phase::Dialing => "connecting",
        Phase::Greeting | Phase::Introducing | Phase::Learning | Phase::Inquiring | Phase::Asking | Phase::Promised => {
            "handshake"
        }
        Phase::Copying(_) | Phase::Verifying => "sync",
        Phase::Streaming => "connected",
    })
}
