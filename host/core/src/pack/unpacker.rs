//! A container back into bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{CHUNK_HEAD_BYTES, ChunkHead, Codec, Defect, PackError, Place, read_head};

/// Takes a container apart that comes in pieces of any size. At most one chunk is held, and only as it comes: a length that
/// is claimed and never delivered costs nothing.
pub struct Unpacker {
    codec: Box<dyn Codec>,
    place: Place,
    stage: Stage,
    /// What is there of the part that comes.
    held: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    ChunkHead,
    Body(ChunkHead),
    /// The checksum behind the end mark and this number of bytes.
    Sum(u64),
    Done,
}

impl Unpacker {
    /// Expects a whole container.
    pub fn new(codec: Box<dyn Codec>) -> Self {
        Self { codec, place: Place::default(), stage: Stage::Head, held: Vec::new() }
    }

    /// Expects the rest of a container: no head, but the chunk with the number `place.chunks` and all that follow. What came
    /// before is taken from `place`, and the end must fit all of it.
    pub fn resume_at(codec: Box<dyn Codec>, place: Place) -> Self {
        Self { codec, place, stage: Stage::ChunkHead, held: Vec::new() }
    }

    /// Expects the whole container again, whatever has come of it.
    pub fn restart(&mut self) {
        self.place = Place::default();
        self.turn_to(Stage::Head);
    }

    /// Takes from the front of `bytes` as much as there is up to the end of the next chunk, whose unpacked and verified
    /// bytes replace what is in `raw`; `true` if there was a whole one. Call it again until it says `false`: then `bytes` is
    /// empty, or the container [is at its end](Self::is_done) and what is left of `bytes` lies behind it.
    ///
    /// # Errors
    /// The bytes are no container, damaged, or of another format, or the codec fails. Nothing more can be unpacked.
    pub fn push(&mut self, bytes: &mut &[u8], raw: &mut Vec<u8>) -> Result<bool, PackError> {
        raw.clear();
        let chunk = self.place.chunks;
        self.step(bytes, raw).map_err(|defect| PackError { chunk, defect })
    }

    /// How far the chunks go that have come out.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether the end has come and fits.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// What the container held; an error if it ended too early.
    ///
    /// # Errors
    /// The end has not come.
    pub fn finish(&self) -> Result<Place, PackError> {
        match self.is_done() {
            true => Ok(self.place),
            false => Err(PackError { chunk: self.place.chunks, defect: Defect::Truncated }),
        }
    }

    fn step(&mut self, bytes: &mut &[u8], raw: &mut Vec<u8>) -> Result<bool, Defect> {
        loop {
            match self.stage {
                Stage::Head => {
                    // Byte by byte: the head is short, says its own length, and comes once.
                    let Some((&byte, rest)) = bytes.split_first() else { return Ok(false) };
                    *bytes = rest;
                    self.held.push(byte);
                    if self.head_is_whole()? {
                        self.turn_to(Stage::ChunkHead);
                    }
                }
                Stage::ChunkHead => {
                    let Some(head) = self.array::<CHUNK_HEAD_BYTES>(bytes) else { return Ok(false) };
                    let stage = match head.split_first_chunk::<8>() {
                        Some((&[0, 0, 0, 0, 0, 0, 0, 0], &[t0, t1, t2, t3, t4, t5, t6, t7])) => {
                            Stage::Sum(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]))
                        }
                        _ => Stage::Body(ChunkHead::read(head)?),
                    };
                    self.turn_to(stage);
                }
                Stage::Body(head) => {
                    if !self.open(head, bytes, raw)? {
                        return Ok(false);
                    }
                    self.place.advance(raw);
                    self.turn_to(Stage::ChunkHead);
                    return Ok(true);
                }
                Stage::Sum(total) => {
                    let Some(sum) = self.array(bytes) else { return Ok(false) };
                    let (stored, came) = ((total, u64::from_le_bytes(sum)), (self.place.raw, self.place.crc.sum()));
                    if stored != came {
                        return Err(Defect::Total { stored, came });
                    }
                    self.turn_to(Stage::Done);
                }
                Stage::Done => return Ok(false),
            }
        }
    }

    fn turn_to(&mut self, stage: Stage) {
        self.held.clear();
        self.stage = stage;
    }

    /// Whether the head is complete; it must be of the codec's format.
    fn head_is_whole(&self) -> Result<bool, Defect> {
        match read_head(&self.held)? {
            None => Ok(false),
            Some((found, _)) if found == self.codec.format() => Ok(true),
            Some((found, _)) => Err(Defect::Format { found: found.into(), expected: self.codec.format().into() }),
        }
    }

    /// Holds bytes until there are `wanted`.
    fn gather(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len());
        let (now, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(now);
        *bytes = rest;
        self.held.len() == wanted
    }

    fn array<const N: usize>(&mut self, bytes: &mut &[u8]) -> Option<[u8; N]> {
        if self.gather(bytes, N) { self.held.first_chunk().copied() } else { None }
    }

    /// Opens the chunk once its body is there; it is not copied if it lies whole in `bytes`.
    fn open(&mut self, head: ChunkHead, bytes: &mut &[u8], raw: &mut Vec<u8>) -> Result<bool, Defect> {
        let wanted = head.body_bytes();
        if self.held.is_empty()
            && let Some((body, rest)) = bytes.split_at_checked(wanted)
        {
            *bytes = rest;
            head.open(body, &mut *self.codec, raw)?;
            return Ok(true);
        }
        if !self.gather(bytes, wanted) {
            return Ok(false);
        }
        head.open(&self.held, &mut *self.codec, raw)?;
        Ok(true)
    }
}
