//! A snapshot that arrives packed: unpacked and verified chunk by chunk, so that a link which is cut costs no more than one.

use std::sync::Arc;

use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::pack::{Codec, Place, Unpacker};

use crate::bootstrap::Plugins;

/// Takes a container apart, over any number of links.
pub(in crate::reactor) struct Unpacking {
    plugins: Arc<Plugins>,
    unpacker: Unpacker,
    /// The next chunk is damaged: whatever the link brings behind it is of no use.
    stuck: bool,
    raw: Vec<u8>,
}

/// What came out of a piece of a container.
pub(in crate::reactor) enum Came<'a> {
    /// The bytes of one chunk. There may be more.
    Raw(&'a [u8]),
    /// Nothing more until the next piece.
    Nothing,
    /// The next chunk is damaged.
    Damaged(Fault),
}

impl Unpacking {
    /// From the container's head on.
    ///
    /// # Errors
    /// There is no codec. A plugin's fault.
    pub(in crate::reactor) fn new(plugins: Arc<Plugins>) -> Result<Self, Fault> {
        let unpacker = Unpacker::new(codec(&plugins)?);
        Ok(Self { plugins, unpacker, stuck: false, raw: Vec::new() })
    }

    /// Takes from the front of `bytes` up to the next chunk's end.
    pub(in crate::reactor) fn next(&mut self, bytes: &mut &[u8]) -> Came<'_> {
        if self.stuck {
            return Came::Nothing;
        }
        match self.unpacker.push(bytes, &mut self.raw) {
            Ok(true) => Came::Raw(&self.raw),
            Ok(false) => Came::Nothing,
            Err(error) => {
                self.stuck = true;
                Came::Damaged(Fault::new(Party::Upstream, error.to_string()))
            }
        }
    }

    /// Chunks that are unpacked and verified.
    pub(in crate::reactor) fn chunks(&self) -> u64 {
        self.unpacker.place().chunks
    }

    /// Whether the container is at its end.
    pub(in crate::reactor) fn is_done(&self) -> bool {
        self.unpacker.is_done()
    }

    /// The link is gone. What comes on another one begins with the next chunk, or, if there is none yet, with the head.
    ///
    /// # Errors
    /// There is no codec any more. A plugin's fault.
    pub(in crate::reactor) fn pause(&mut self) -> Result<(), Fault> {
        let (codec, place) = (codec(&self.plugins)?, self.unpacker.place());
        self.unpacker = match place {
            Place { chunks: 0, .. } => Unpacker::new(codec),
            place => Unpacker::resume_at(codec, place),
        };
        self.stuck = false;
        Ok(())
    }
}

fn codec(plugins: &Plugins) -> Result<Box<dyn Codec>, Fault> {
    plugins.unpacker().map_err(|error| Fault::new(Party::Plugin, error.to_string()))
}
