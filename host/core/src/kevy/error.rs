//! What can be wrong with what a primary says. It always ends the link.

use core::fmt;

use alloc::string::String;

use super::wire::{CHUNK_BYTES_MAX, LINE_BYTES_MAX};

/// The bytes are not what a primary says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// Bytes of the link before the place.
    pub at: u64,
    /// What is wrong there.
    pub wrong: Wrong,
    /// What stands there: printable, and cut short.
    pub found: String,
}

/// What is wrong with what a primary said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The handshake is not answered with `+ACK`: no kevy primary, or one that wants an encrypted link.
    Greeting,
    /// A line that has no business where it stands.
    Line,
    /// No line end within [`LINE_BYTES_MAX`] bytes.
    LineTooLong,
    /// A live frame that is none.
    Frame(&'static str),
    /// A live frame whose command is larger than what is taken.
    FrameTooLarge {
        /// The size that is known so far, in bytes.
        bytes: u64,
        /// The bound in bytes.
        bound: usize,
    },
    /// A live frame inside a snapshot.
    FrameInSnapshot,
    /// A piece of a snapshot that claims to be empty, or to be longer than [`CHUNK_BYTES_MAX`].
    ChunkLength,
    /// A piece of a snapshot that does not end in CRLF.
    ChunkEnd,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} of the link the primary said `{}`: {}", self.at, self.found, self.wrong)
    }
}

impl core::error::Error for WireError {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Greeting => write!(f, "a kevy primary answers `+ACK`"),
            Self::Line => write!(f, "that line has no place there"),
            Self::LineTooLong => write!(f, "a line does not end within {LINE_BYTES_MAX} bytes"),
            Self::Frame(what) => write!(f, "a frame is broken: {what}"),
            Self::FrameTooLarge { bytes, bound } => {
                write!(f, "a frame of at least {bytes} bytes is above the bound of {bound}")
            }
            Self::FrameInSnapshot => write!(f, "a live frame must not stand inside a snapshot"),
            Self::ChunkLength => write!(f, "a piece of a snapshot has 1 to {CHUNK_BYTES_MAX} bytes"),
            Self::ChunkEnd => write!(f, "a piece of a snapshot does not end in CRLF"),
        }
    }
}
