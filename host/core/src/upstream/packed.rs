//! What comes packed from a primary that is a Sluicegate itself: its snapshot as a container, its stream as chunks.
//!
//! Nothing is unpacked here. The end of the container is found by its lengths, and chunks are cut off whole; what is in them
//! is for threads of the shell to find out.

use alloc::format;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use super::{Heard, Upstream};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::pack::{CHUNK_HEAD_BYTES, ChunkHead, Defect, read_head};
use crate::position::ReplId;
use crate::projection::printable;
use crate::resp;
use crate::snapshot::Framing;

/// What stands before the format in `REPLCONF capa`.
pub(crate) const CAPA: &str = "sluicegate-pack:";
/// `REPLCONF sluicegate-resume <token> <chunk>`.
pub(crate) const RESUME: &str = "sluicegate-resume";
/// Damaged chunks in a row after which the next link is an ordinary one: the damage may be the codec's, and not pass.
const DAMAGED_MAX: u8 = 2;

/// A chunk of a packed stream, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it says of itself.
    pub head: ChunkHead,
    /// What is in it.
    pub body: Bytes,
}

/// The packed side of a conversation.
#[derive(Debug, Default)]
pub(super) struct Packing {
    /// The primary has agreed: whatever comes behind its answer to PSYNC is packed.
    on: bool,
    /// The primary was asked to go on in the middle of a snapshot.
    resume_said: bool,
    /// Looks for the end of the snapshot that arrives.
    walk: Option<Walk>,
    /// The stream, as it came.
    stream: BytesMut,
    /// A chunk is being unpacked: the next one has to wait.
    unpacking: bool,
    /// Chunks in a row that could not be unpacked, over all links.
    damaged: u8,
}

impl Packing {
    /// A new link begins.
    pub(super) fn restart(&mut self) {
        *self = Self { damaged: self.damaged, ..Self::default() };
    }

    /// Whether the link is packed.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Asks for packed bytes, in a command of its own; `false` if they are not wanted on this link.
    pub(super) fn offer(&mut self, format: &str, out: &mut Vec<u8>) -> bool {
        if self.damaged >= DAMAGED_MAX {
            self.damaged = 0;
            return false;
        }
        resp::write_command(out, &[b"REPLCONF", b"capa", format!("{CAPA}{format}").as_bytes()]);
        true
    }

    /// What the primary answers to the offer. Whatever is no agreement means that it speaks the ordinary protocol.
    pub(super) fn answered(&mut self, line: &[u8], format: &str) -> Result<(), Fault> {
        match line.strip_prefix(b"+PACK ") {
            Some(agreed) if agreed == format.as_bytes() => self.on = true,
            Some(other) => {
                let what = format!("it was asked to pack as {format} and agrees to {}", printable(other));
                return Err(Fault::new(Party::Upstream, what));
            }
            None => {}
        }
        Ok(())
    }

    /// A snapshot begins, with this chunk.
    pub(super) fn begin(&mut self, first: u64) {
        self.walk = Some(Walk::new(first == 0));
    }

    /// Whether a packed snapshot is arriving.
    pub(super) fn is_copying(&self) -> bool {
        self.walk.is_some()
    }

    /// Takes what belongs to the snapshot off the front of `bytes`; the rest is the stream. `true` at its end.
    pub(super) fn copying(&mut self, mut bytes: Bytes) -> Result<(Bytes, bool), Fault> {
        let Some(walk) = &mut self.walk else { return Ok((bytes, true)) };
        let taken = walk.push(&bytes);
        let taken = taken.map_err(|defect| self.broken("snapshot", &defect))?;
        let ended = self.walk.as_ref().is_none_or(Walk::is_done);
        let mine = bytes.split_to(taken.min(bytes.len()));
        if ended {
            self.walk = None;
            self.push(&bytes);
        }
        Ok((mine, ended))
    }

    /// Takes bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
    }

    /// The next chunk, once it is whole and the one before it is unpacked.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Heard>, Fault> {
        let Some(head) = self.stream.first_chunk::<CHUNK_HEAD_BYTES>().filter(|_| !self.unpacking) else {
            return Ok(None);
        };
        let head = ChunkHead::read(*head);
        let head = head.map_err(|defect| self.broken("stream", &defect))?;
        if self.stream.len() - CHUNK_HEAD_BYTES < head.body_bytes() {
            return Ok(None);
        }
        self.stream.advance(CHUNK_HEAD_BYTES);
        let body = self.stream.split_to(head.body_bytes()).freeze();
        self.unpacking = true;
        Ok(Some(Heard::Chunk(Chunk { head, body })))
    }

    /// What came has been unpacked, all of it.
    pub(super) fn is_sound(&mut self) {
        self.damaged = 0;
    }

    fn broken(&mut self, what: &str, defect: &Defect) -> Fault {
        self.damaged = self.damaged.saturating_add(1);
        Fault::new(Party::Upstream, format!("the packed {what}: {defect}"))
    }
}

impl Upstream {
    /// Whether the primary has agreed to send packed bytes on this link.
    pub fn is_packed(&self) -> bool {
        self.packing.on
    }

    /// Whether as much of a packed stream waits to be unpacked as may wait.
    pub fn is_full(&self) -> bool {
        self.packing.stream.len() >= CHUNK_HEAD_BYTES + limits::CHUNK_RAW_BYTES_MAX + limits::CHUNK_SLACK_BYTES
    }

    /// Asks, once a link, to go on with the snapshot `token` at chunk `chunk`. `true` if it was asked: the answer comes
    /// before anything else is said.
    pub fn resume(&mut self, token: &ReplId, chunk: u64, out: &mut Vec<u8>) -> bool {
        if !self.packing.on || self.packing.resume_said {
            return false;
        }
        self.packing.resume_said = true;
        let mut digits = Vec::new();
        resp::write_decimal(&mut digits, chunk);
        resp::write_command(out, &[b"REPLCONF", RESUME.as_bytes(), token.as_bytes(), &digits]);
        self.steps.push_back(super::Step::Optional);
        true
    }

    /// The chunk that was heard last is unpacked: the next one can be.
    pub fn unpacked(&mut self) {
        self.packing.unpacking = false;
        self.packing.is_sound();
    }

    /// A chunk could not be unpacked; `behind_good_ones`: those before it could since the last time.
    pub fn unpack_failed(&mut self, behind_good_ones: bool) {
        let before = if behind_good_ones { 0 } else { self.packing.damaged };
        self.packing.damaged = before.saturating_add(1);
    }
}

/// `$PACK:<token>:<first chunk>`
pub(super) fn header(line: &[u8]) -> Option<Framing> {
    let rest = line.strip_prefix(b"$PACK:")?;
    let (token, first) = rest.split_at_checked(40)?;
    let token = ReplId::parse(token)?;
    Some(Framing::Packed { token, first: resp::decimal(first.strip_prefix(b":")?)? })
}

/// Finds the end of a container by its lengths.
#[derive(Debug)]
struct Walk {
    stage: Stage,
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    ChunkHead,
    /// Bytes of a body.
    Body(usize),
    /// Bytes of the end behind what looks like the head of a chunk.
    End(usize),
    Done,
}

/// The sum of all bytes, at the very end.
const SUM_BYTES: usize = 8;

impl Walk {
    fn new(with_head: bool) -> Self {
        Self { stage: if with_head { Stage::Head } else { Stage::ChunkHead }, held: Vec::new() }
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// How many of `bytes` belong to the container.
    fn push(&mut self, bytes: &[u8]) -> Result<usize, Defect> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_done() {
            match self.stage {
                Stage::Body(left) | Stage::End(left) => {
                    let now = left.min(rest.len());
                    rest = rest.get(now..).unwrap_or(&[]);
                    self.stage = match (self.stage, left - now) {
                        (Stage::Body(_), 0) => Stage::ChunkHead,
                        (Stage::Body(_), left) => Stage::Body(left),
                        (_, 0) => Stage::Done,
                        (_, left) => Stage::End(left),
                    };
                }
                _ => {
                    // Byte by byte: heads are short.
                    let Some((&byte, behind)) = rest.split_first() else { break };
                    rest = behind;
                    self.held.push(byte);
                    self.read_head()?;
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn read_head(&mut self) -> Result<(), Defect> {
        if self.stage == Stage::Head {
            if read_head(&self.held)?.is_some() {
                self.turn_to(Stage::ChunkHead);
            }
            return Ok(());
        }
        let Some(head) = self.held.first_chunk::<CHUNK_HEAD_BYTES>() else { return Ok(()) };
        let stage = match head {
            [0, 0, 0, 0, 0, 0, 0, 0, ..] => Stage::End(SUM_BYTES),
            _ => Stage::Body(ChunkHead::read(*head)?.body_bytes()),
        };
        self.turn_to(stage);
        Ok(())
    }

    fn turn_to(&mut self, stage: Stage) {
        self.held.clear();
        self.stage = stage;
    }
}
