//! A snapshot that goes out packed: made as it is read, so that a place in it needs no file to be found again.

use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::limits::CHUNK_RAW_BYTES;
use sluicegate_core::pack::{Codec, Packer};
use sluicegate_core::pipeline::PluginFault;

use super::{Hold, Stop};

/// Packs what it is given, without the chunks that the receiver has.
pub(super) struct Packing<'a> {
    packer: Packer,
    /// What is made and not yet on its way: the head, which goes out with the first chunk.
    made: Vec<u8>,
    first: u64,
    hold: &'a Hold,
}

impl<'a> Packing<'a> {
    /// From chunk `first` on.
    pub(super) fn new(codec: anyhow::Result<Box<dyn Codec>>, first: u64, hold: &'a Hold) -> Result<Self, Stop> {
        let codec = codec.map_err(|error| Stop::Codec(Fault::new(Party::Plugin, error.to_string())))?;
        let mut made = Vec::new();
        let packer = match first {
            0 => Packer::new(codec, CHUNK_RAW_BYTES, &mut made),
            chunks => Packer::resume_at(codec, CHUNK_RAW_BYTES, chunks),
        };
        Ok(Self { packer: packer.map_err(failed)?, made, first, hold })
    }

    /// The next bytes of the snapshot.
    pub(super) fn push(&mut self, raw: &[u8]) -> Result<(), Stop> {
        self.hold.check_wanted()?;
        let before = self.made.len();
        self.packer.push(raw, &mut self.made).map_err(failed)?;
        if self.made.len() == before {
            return Ok(());
        }
        self.hold.bytes(std::mem::take(&mut self.made).into())
    }

    /// There are no more.
    pub(super) fn finish(self) -> Result<(), Stop> {
        let Self { packer, mut made, first, hold } = self;
        let place = packer.finish(&mut made).map_err(failed)?;
        if place.chunks < first {
            let what = format!("it asks for chunk {first} of a snapshot that has {}", place.chunks);
            return Err(Stop::Fault(Fault::new(Party::Replica, what)));
        }
        tracing::debug!(event = "ship", chunks = place.chunks - first, bytes = place.raw, "snapshot packed");
        hold.bytes(made.into())
    }
}

fn failed(fault: PluginFault) -> Stop {
    Stop::Codec(fault.into())
}
