//! Everything that crosses the door between the core and its shell.

use alloc::string::String;

use bytes::Bytes;

use crate::fault::Fault;
use crate::rdb::{Head, ServerVersion, Summary};
use crate::snapshot::Framing;

/// The time, handed in with every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back. Milliseconds.
    pub mono_ms: u64,
    /// Milliseconds since 1970. Only for expiries that arrive relative to now, and for people.
    pub unix_ms: u64,
}

/// A link, named by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A spooled snapshot, named by the core in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The connection asked for by [`Output::Dial`] is up.
    Connected(LinkId),
    /// It could not be made.
    DialFailed(String),
    /// Someone connected to a port of this view.
    Accepted {
        /// The new link.
        link: LinkId,
        /// Index of the view.
        view: usize,
        /// The peer's address, for people.
        peer: String,
    },
    /// Bytes came.
    Bytes(LinkId, Bytes),
    /// A link is gone; why, in words.
    Closed(LinkId, String),
    /// So many bytes of the arriving snapshot have reached the disk.
    SpoolWritten(usize),
    /// The arriving snapshot is complete and verified, or is not what it should be.
    Spooled(SpoolId, Result<Summary, Fault>),
    /// A snapshot for a replica will have exactly this length ([`ShipFraming::Length`]).
    ShipLength(LinkId, u64),
    /// Bytes of a snapshot for a replica.
    ShipBytes(LinkId, Bytes),
    /// The snapshot for a replica is at its end.
    ShipEnded(LinkId, Result<(), Fault>),
    /// What was found out of a replica's version.
    Probed(LinkId, Option<ServerVersion>),
    /// Time has passed.
    Tick,
    /// The operator wants the program to end: replicas get what is there, then links close.
    Shutdown,
}

/// What the shell must do.
#[derive(Debug)]
pub enum Output {
    /// Connect to the primary.
    Dial,
    /// Close a link. Nothing more will be said of it; [`Input::Closed`] is not expected.
    Close(LinkId),
    /// A snapshot is about to arrive: open a spool file for it and verify what comes.
    SpoolOpen(SpoolId, Framing),
    /// The next bytes of the arriving snapshot.
    SpoolWrite(SpoolId, Bytes),
    /// The arriving snapshot will not be finished: drop it.
    SpoolAbort(SpoolId),
    /// Every other spool file may be dropped: this one has been verified.
    SpoolKeep(SpoolId),
    /// Make a snapshot for a replica.
    Ship(ShipOrder),
    /// Stop making it.
    ShipCancel(LinkId),
    /// Find out which version listens at this address: the replica on `LinkId` did not say.
    Probe(LinkId, String, u16),
    /// Tell the operator.
    Note(Note),
}

/// How a snapshot goes to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShipFraming {
    /// Bytes may come as they are made.
    Stream,
    /// Make all of it first, and say its length by [`Input::ShipLength`].
    Length,
}

/// A snapshot to be made for one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipOrder {
    /// Who gets it.
    pub link: LinkId,
    /// Whose it is: its pipeline is asked about every key.
    pub view: usize,
    /// What it is made of.
    pub spool: SpoolId,
    /// The history that it will say it belongs to; `None`: the spooled bytes go out as they are.
    pub head: Option<Head>,
    /// How it goes out.
    pub framing: ShipFraming,
}

/// How much an operator should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For those who search for a fault.
    Debug,
    /// The course of things.
    Info,
    /// Something failed and is being mended.
    Warn,
    /// Something failed, and a person is needed.
    Error,
}

/// One line for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much to care.
    pub level: Level,
    /// A stable name of the kind of event.
    pub event: &'static str,
    /// What happened, in words.
    pub text: String,
}
