//! One link on a view's port.
//!
//! Numbers that always hold for a streaming replica: `start of backlog ≤ cursor ≤ end of backlog`, the cursor stands
//! between two frames, and so does the end of what was given to the outbox.

use alloc::string::String;

use super::{Asked, Dialect, Listener};
use crate::outbox::Outbox;

/// What a link is doing, in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its handshake is awaited, or a snapshot of the primary before it can be answered.
    Talking,
    /// It waits for a snapshot.
    Queued,
    /// A snapshot goes out.
    Shipping,
    /// The live stream.
    Streaming,
}

/// One link.
#[derive(Debug)]
pub struct Replica {
    /// Index of the view whose port it came to.
    pub view: usize,
    /// Index of the port: the shard that it wants.
    pub shard: usize,
    /// Its address, as the shell knows it.
    pub peer: String,
    /// What it calls itself.
    pub id: String,
    /// What it is doing.
    pub phase: Phase,
    /// What waits to be written to it.
    pub outbox: Outbox,
    pub(super) listener: Listener,
    /// What it asked for, while that cannot be answered yet.
    pub(super) asked: Option<Asked>,
    /// What it speaks. A handshake without a generation is [`Dialect::K1`]'s until an acknowledgement comes: a sign of life
    /// would make such a replica drop the link.
    pub dialect: Dialect,
    /// Offset of the stream's backlog behind what was given to the outbox.
    pub(super) cursor: u64,
    /// The frame that it expects, as far as it said so.
    pub acked: u64,
    /// When it was last heard of. Milliseconds.
    pub last_heard: u64,
    /// When the link, or its snapshot, began. Milliseconds.
    pub since: u64,
    /// When it last took bytes, or had none waiting. Milliseconds.
    pub last_progress: u64,
    progress_mark: u64,
    /// Snapshot bytes given to the outbox.
    pub shipped: u64,
    /// It was given a frame to acknowledge.
    pub(super) poked: bool,
    /// The operator was told of an acknowledgement that cannot be.
    pub(super) warned: bool,
    /// The operator was told of a line that means nothing.
    pub(super) puzzled: bool,
}

impl Replica {
    /// A link that was accepted just now.
    pub(super) fn new(view: usize, shard: usize, peer: String, now: u64) -> Self {
        Self {
            view,
            shard,
            peer,
            id: String::new(),
            phase: Phase::Talking,
            outbox: Outbox::default(),
            listener: Listener::new(),
            asked: None,
            dialect: Dialect::K1,
            cursor: 0,
            acked: 0,
            last_heard: now,
            since: now,
            last_progress: now,
            progress_mark: 0,
            shipped: 0,
            poked: false,
            warned: false,
            puzzled: false,
        }
    }

    /// Notes whether the link takes what waits for it.
    pub(super) fn note_progress(&mut self, now: u64) {
        if self.outbox.is_empty() || self.outbox.written() != self.progress_mark {
            self.progress_mark = self.outbox.written();
            self.last_progress = now;
        }
    }
}
