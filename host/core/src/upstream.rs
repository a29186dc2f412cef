//! Follows one primary as its replica: the handshake and the place in its history.
//!
//! This station speaks the replica's half of the protocol and says what it heard; what follows for views and replicas is
//! decided by the machine. The place is kept to the byte: a link that is lost in the middle of a frame, or of a
//! transaction, goes on right there.

pub mod packed;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::command::{Learned, learned};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::position::ReplId;
use crate::projection::printable;
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
                Phase::Inquiring => match self.info_reply()? {
                    Some(info) => Some(ids(&info)),
                    None => return Ok(None),
                },
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

    /// One answer line. Lone newlines are the primary's way to say that it is still there.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        while self.inbox.first() == Some(&b'\n') {
            self.inbox.advance(1);
        }
        let Some(end) = memchr::memchr(b'\n', &self.inbox) else {
            if self.inbox.len() > limits::REPLY_LINE_BYTES_MAX {
                return Err(Fault::new(Party::Upstream, "an answer line without an end"));
            }
            return Ok(None);
        };
        if end > limits::REPLY_LINE_BYTES_MAX {
            return Err(Fault::new(Party::Upstream, "an answer line longer than any real one"));
        }
        let mut line = self.inbox.split_to(end + 1).to_vec();
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line))
    }

    fn command_reply(&mut self) -> Result<Option<Heard>, Fault> {
        let Some(reader) = &mut self.reply else { return Ok(None) };
        let arrived = self.inbox.split();
        let mut input = &arrived[..];
        let Some(reply) = reader.next(&mut input)? else { return Ok(None) };
        self.inbox.extend_from_slice(input);
        self.reply = None;
        Ok(Some(Heard::Commands(learned::learned(&reply))))
    }

    /// A bulk reply, or an error line, which stands for an empty one.
    fn info_reply(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let Some(end) = memchr::memchr(b'\n', &self.inbox) else {
            if self.inbox.len() > limits::REPLY_LINE_BYTES_MAX {
                return Err(Fault::new(Party::Upstream, "an answer line without an end"));
            }
            return Ok(None);
        };
        let line = self.inbox.get(..end).unwrap_or(&[]).trim_ascii_end();
        let Some(length) = line.strip_prefix(b"$") else {
            self.inbox.advance(end + 1);
            return Ok(Some(Vec::new()));
        };
        let length = resp::decimal(length)
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length <= limits::INFO_REPLY_BYTES_MAX)
            .ok_or_else(|| Fault::new(Party::Upstream, "an INFO reply of a length beyond reason"))?;
        let whole = end + 1 + length + 2;
        if self.inbox.len() < whole {
            return Ok(None);
        }
        let reply = self.inbox.split_to(whole);
        Ok(Some(reply.get(end + 1..end + 1 + length).unwrap_or(&[]).to_vec()))
    }

    fn answer(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, Fault> {
        match self.phase {
            Phase::Greeting => self.greeted(line, out),
            Phase::Introducing => self.introduced(line),
            Phase::Asking => self.asked(line),
            Phase::Promised => self.header(line),
            _ => Err(Fault::new(Party::Own, "an answer that nothing asked for")),
        }
    }

    fn greeted(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, Fault> {
        let welcome = line.starts_with(b"+")
            || [&b"-NOAUTH"[..], b"-NOPERM", b"-ERR operation not permitted"]
                .iter()
                .any(|start| line.starts_with(start));
        if !welcome {
            return Err(refusal("PING", line));
        }
        self.phase = Phase::Introducing;
        if let Some(password) = &self.settings.password {
            resp::write_auth(out, self.settings.username.as_deref(), password);
            self.steps.push_back(Step::Auth);
        }
        if self.snapshot_only {
            // No port: Sentinel would take it for a second replica at the same address. The option saves the primary the
            // stream behind the snapshot; one that does not know it is none the wiser.
            resp::write_command(out, &[b"REPLCONF", b"rdb-only", b"1"]);
        } else {
            let port = format!("{}", self.settings.announce_port);
            resp::write_command(out, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
        }
        resp::write_command(out, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
        // In a command of its own: a primary that does not know the option ignores what stands behind it.
        resp::write_command(out, &[b"REPLCONF", b"version", self.settings.announce_version.as_bytes()]);
        self.steps.extend([Step::Optional; 3]);
        if let Some(format) = self.settings.pack.as_ref().filter(|_| !self.snapshot_only)
            && self.packing.offer(format, out)
        {
            self.steps.push_back(Step::Pack);
        }
        Ok(None)
    }

    fn introduced(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        match self.steps.pop_front() {
            Some(Step::Auth) if line.starts_with(b"-") => {
                Err(Fault::new(Party::Operator, format!("the primary refused the credentials: {}", first_word(line))))
            }
            _ if line.starts_with(b"-NOAUTH") => Err(Fault::new(
                Party::Operator,
                format!("the primary wants a password (upstream.password_file): {}", printable(line)),
            )),
            Some(Step::Pack) => {
                self.packing.answered(line, self.settings.pack.as_deref().unwrap_or_default())?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn asked(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        match words.next() {
            Some(b"+FULLRESYNC") => {
                let id = words.next().and_then(ReplId::parse);
                let offset = words.next().and_then(resp::decimal);
                let (Some(id), Some(offset)) = (id, offset) else {
                    return Err(Fault::new(
                        Party::Upstream,
                        format!("a malformed answer to PSYNC: {}", printable(line)),
                    ));
                };
                self.phase = Phase::Promised;
                Ok(Some(Heard::FullResync { id, offset }))
            }
            Some(b"+CONTINUE") if self.named_place => {
                let id = match words.next() {
                    Some(word) => Some(ReplId::parse(word).ok_or_else(|| {
                        Fault::new(Party::Upstream, format!("a malformed answer to PSYNC: {}", printable(line)))
                    })?),
                    None => None,
                };
                self.phase = Phase::Streaming;
                let behind = self.inbox.split().freeze();
                match self.packing.is_on() {
                    true => self.packing.push(&behind),
                    false => self.early.push_back(behind),
                }
                Ok(Some(Heard::Continue(id)))
            }
            _ => Err(refusal("PSYNC", line)),
        }
    }

    /// `$<length>` or `$EOF:<mark>`; on a packed link `$PACK:<token>:<first chunk>`.
    fn header(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        let framing = match line.strip_prefix(b"$") {
            Some(_) if self.packing.is_on() => packed::header(line),
            Some(rest) => match rest.strip_prefix(b"EOF:") {
                Some(mark) => mark.try_into().ok().map(Framing::Mark),
                None => resp::decimal(rest).filter(|&length| length > 0).map(Framing::Length),
            },
            None if line.starts_with(b"-") => return Err(refusal("the snapshot", line)),
            None => None,
        };
        let Some(framing) = framing else {
            return Err(Fault::new(Party::Upstream, format!("a malformed snapshot header: {}", printable(line))));
        };
        self.phase = Phase::Copying(match framing {
            Framing::Length(length) => Some(length),
            Framing::Mark(_) => None,
            Framing::Packed { first, .. } => {
                self.packing.begin(first);
                None
            }
        });
        let rest = self.inbox.split().freeze();
        if !rest.is_empty() {
            self.early.push_back(rest);
        }
        Ok(Some(Heard::Snapshot(framing)))
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

/// The kind of an error, without its text: that of a refused AUTH may repeat the password.
fn first_word(line: &[u8]) -> String {
    printable(line.split(|&byte| byte == b' ').next().unwrap_or(&[]))
}

fn refusal(asked: &str, line: &[u8]) -> Fault {
    Fault::new(Party::Upstream, format!("the primary answers {asked} with {}", printable(line)))
}

/// Reads the ids out of INFO replication.
fn ids(info: &[u8]) -> Heard {
    let field = |name| resp::info_field(info, name);
    Heard::Ids {
        id: field("master_replid").and_then(ReplId::parse),
        second: field("master_replid2").and_then(ReplId::parse),
        limit: field("second_repl_offset").and_then(resp::signed_decimal).unwrap_or(-1),
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
