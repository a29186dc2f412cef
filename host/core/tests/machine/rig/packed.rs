//! The part of the shell that packs and unpacks.

use bytes::Bytes;

use sluicegate_core::contract::{Input, LinkId, SpoolId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::pack::{Codec, Packer, Place, Sealer, Unpacker};
use sluicegate_core::pipeline::PluginFault;
use sluicegate_core::snapshot::{Contents, Framing};
use sluicegate_core::upstream::packed::Chunk;

use super::Rig;

/// Unpacked bytes of one chunk of a snapshot: few, so that there are many.
pub(crate) const CHUNK_BYTES: usize = 8;

/// Runs of equal bytes as (length, byte).
struct Runs;

impl Codec for Runs {
    fn format(&self) -> &str {
        "runs"
    }

    fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        out.clear();
        let runs = raw.chunk_by(|one, other| one == other).flat_map(|run| run.chunks(255));
        runs.for_each(|run| out.extend_from_slice(&[run.len() as u8, run[0]]));
        Ok(())
    }

    fn decode(&mut self, packed: &[u8], _: usize, out: &mut Vec<u8>) -> Result<(), PluginFault> {
        out.clear();
        let (runs, _) = packed.as_chunks::<2>();
        runs.iter().for_each(|[length, byte]| out.resize(out.len() + usize::from(*length), *byte));
        Ok(())
    }
}

/// What the shell knows of packed bytes, and what it was told to do wrong.
#[derive(Default)]
pub(crate) struct Packs {
    /// Links for which nothing more is packed.
    pub(crate) ended: Vec<LinkId>,
    /// There is nothing to unpack a snapshot with.
    pub(crate) no_codec: bool,
    /// Packing fails from now on.
    pub(crate) broken: bool,
    /// Chunks are left lying, to be unpacked later.
    pub(crate) slow: bool,
    pub(crate) waiting: Vec<(LinkId, Chunk)>,
}

/// A snapshot that arrives packed.
pub(crate) struct Unpacking {
    unpacker: Unpacker,
    /// Its next chunk is damaged: nothing more is taken until it is asked for again.
    stuck: bool,
}

impl Unpacking {
    pub(crate) fn new(framing: Framing) -> Option<Self> {
        let packed = matches!(framing, Framing::Packed { .. });
        packed.then(|| Self { unpacker: Unpacker::new(Box::new(Runs)), stuck: false })
    }
}

impl Rig {
    pub(crate) fn is_packed(&self, id: SpoolId) -> bool {
        self.spools.get(&id).is_some_and(|spool| spool.unpacking.is_some())
    }

    pub(crate) fn spooled_packed(&mut self, id: SpoolId, packed: &[u8]) {
        if self.packs.no_codec {
            self.spools.remove(&id);
            let fault = Fault::new(Party::Plugin, "plugin 'runs': it does not start");
            return self.handle(Input::Spooled(id, Err(fault)));
        }
        let Some(spool) = self.spools.get_mut(&id) else { return };
        let Some(unpacking) = spool.unpacking.as_mut().filter(|unpacking| !unpacking.stuck) else { return };
        let (mut rest, mut raw, mut failed) = (packed, Vec::new(), None);
        loop {
            match unpacking.unpacker.push(&mut rest, &mut raw) {
                Ok(true) => {
                    spool.arrival.push(&raw).expect("sound bytes");
                    spool.bytes.extend_from_slice(&raw);
                }
                Ok(false) => break,
                Err(error) => {
                    unpacking.stuck = true;
                    failed = Some(Fault::new(Party::Upstream, error.to_string()));
                    break;
                }
            }
        }
        let (chunks, done) = (unpacking.unpacker.place().chunks, unpacking.unpacker.is_done());
        self.handle(Input::SpoolWritten(id, packed.len()));
        if failed.is_some() {
            return self.handle(Input::SpoolPaused(id, chunks, failed));
        }
        if done && let Some(spool) = self.spools.remove(&id) {
            self.kept.insert(id, spool.bytes);
            self.handle(Input::Spooled(id, spool.arrival.finish().map(Contents::Rdb)));
        }
    }

    pub(crate) fn pause(&mut self, id: SpoolId) {
        let Some(spool) = self.spools.get_mut(&id) else { return };
        let Some(unpacking) = &mut spool.unpacking else { panic!("only what is packed can go on later") };
        let mut place = unpacking.unpacker.place();
        // As before the head came.
        if place.chunks == 0 {
            place = Place::default();
        }
        let unpacker =
            if place.chunks == 0 { Unpacker::new(Box::new(Runs)) } else { Unpacker::resume_at(Box::new(Runs), place) };
        *unpacking = Unpacking { unpacker, stuck: false };
        self.handle(Input::SpoolPaused(id, place.chunks, None));
    }

    pub(crate) fn ship_packed(&mut self, link: LinkId, raw: &[u8], first: u64) {
        let mut out = Vec::new();
        let packer = match first {
            0 => Packer::new(Box::new(Runs), CHUNK_BYTES, &mut out),
            chunks => Packer::resume_at(Box::new(Runs), CHUNK_BYTES, chunks),
        };
        let mut packer = packer.expect("a proper name");
        packer.push(raw, &mut out).expect("an honest codec");
        packer.finish(&mut out).expect("an honest codec");
        self.handle(Input::ShipBytes(link, out.into()));
        self.handle(Input::ShipEnded(link, Ok(())));
    }

    pub(crate) fn pack(&mut self, link: LinkId, raw: &[Bytes]) {
        if self.packs.broken {
            let fault = Fault::new(Party::Plugin, "plugin 'runs': it runs no more");
            return self.handle(Input::Packed(link, Err(fault)));
        }
        let mut out = Vec::new();
        let mut sealer = Sealer::new(Box::new(Runs)).expect("a proper name");
        sealer.seal(&raw.concat(), &mut out).expect("an honest codec");
        self.handle(Input::Packed(link, Ok(out.into())));
    }

    pub(crate) fn unpack(&mut self, link: LinkId, chunk: Chunk) {
        if self.packs.slow {
            return self.packs.waiting.push((link, chunk));
        }
        let mut raw = Vec::new();
        let opened = chunk.head.open(&chunk.body, &mut Runs, &mut raw);
        let fault = |defect: sluicegate_core::pack::Defect| Fault::new(Party::Upstream, defect.to_string());
        self.handle(Input::Unpacked(link, opened.map(|()| raw.into()).map_err(fault)));
    }
}
