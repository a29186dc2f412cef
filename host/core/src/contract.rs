//! Everything that crosses the door between the core and its shell.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::backlog;
use crate::fault::Fault;
use crate::kevy::route::Share;
use crate::outbox::Outbox;
use crate::rdb::{Head, ServerVersion, Target};
use crate::snapshot::{Contents, Format, Origin};
use crate::upstream::packed::Chunk;

/// A protocol's machine, as the shell drives it. The shell's turn is always the same: hand in events, [`pump`](Drive::pump),
/// do what [`poll_output`](Drive::poll_output) says until it says nothing, write what the outboxes hold, sleep at most until
/// [`next_wakeup`](Drive::next_wakeup).
pub trait Drive {
    /// Takes one event.
    fn handle(&mut self, now: Now, input: Input);
    /// What the shell must do next; `None` when there is nothing more.
    fn poll_output(&mut self) -> Option<Output>;
    /// Gives streaming replicas what is next for them: a bounded piece each, so that none delays another.
    fn pump(&mut self);
    /// What waits to be written to `link`.
    fn outbox(&mut self, link: LinkId) -> Option<&mut Outbox>;
    /// The links that have something to be written.
    fn links_with_output(&self, links: &mut Vec<LinkId>);
    /// Whether bytes from `link` are wanted now.
    fn wants_read(&self, link: LinkId) -> bool;
    /// How many more snapshot bytes `link` takes now.
    fn ship_room(&self, link: LinkId) -> usize;
    /// When the machine wants to be woken at the latest. Milliseconds of the clock that never goes back.
    fn next_wakeup(&self) -> u64;
    /// After [`Input::Shutdown`]: whether everything has been said.
    fn is_drained(&self) -> bool;
}

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

/// The log beneath one view's backlog, in one of its lives: what is said of an earlier one is told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Index of the view.
    pub view: usize,
    /// Counts the view's histories, and beginnings of the log after a failure.
    pub life: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// This connection to the primary, asked for by [`Output::Dial`], is up.
    Connected(usize, LinkId),
    /// It could not be made.
    DialFailed(usize, String),
    /// Someone connected to a port of this view.
    Accepted {
        /// The new link.
        link: LinkId,
        /// Index of the view.
        view: usize,
        /// Which of the view's ports: a kevy view has one for each shard, others have one (0).
        port: usize,
        /// The peer's address, for people.
        peer: String,
    },
    /// Bytes came.
    Bytes(LinkId, Bytes),
    /// A link is gone; why, in words.
    Closed(LinkId, String),
    /// So many bytes of an arriving snapshot have reached the disk.
    SpoolWritten(SpoolId, usize),
    /// An arriving snapshot is complete and verified, or is not what it should be.
    Spooled(SpoolId, Result<Contents, Fault>),
    /// A packed snapshot stands still where so many of its chunks are verified and kept; the fault is that of the next one, if
    /// it is damaged. What is written to it after [`Output::SpoolPause`] is answered goes on with the next chunk.
    SpoolPaused(SpoolId, u64, Option<Fault>),
    /// A chunk for a link that takes packed bytes, head and body; or why its codec cannot make any.
    Packed(LinkId, Result<Bytes, Fault>),
    /// What was in a chunk of the primary's stream, or why it cannot be unpacked.
    Unpacked(LinkId, Result<Bytes, Fault>),
    /// A spooled snapshot, verified when it came, is no longer what it was; what is wrong, in words.
    SpoolDamaged(SpoolId, String),
    /// A snapshot for a replica has exactly this length. With [`ShipFraming::Length`] this comes before its first byte,
    /// otherwise when it becomes known, if it does.
    ShipLength(LinkId, u64),
    /// Bytes of a snapshot for a replica.
    ShipBytes(LinkId, Bytes),
    /// The snapshot for a replica is at its end.
    ShipEnded(LinkId, Result<(), Fault>),
    /// What has become of orders for a log.
    Log(LogId, LogReport),
    /// What this view makes of a spooled snapshot is being made, for all replicas that want the same.
    Walking(usize),
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
    /// Connect to the primary: to this one of a kevy primary's ports, one for each shard. Others have one port, to which there
    /// are three connections: 0 for the stream, 1 for single values, 2 for newer snapshots.
    Dial(usize),
    /// Close a link. Nothing more will be said of it; [`Input::Closed`] is not expected.
    Close(LinkId),
    /// Close a link to a primary that a reset would kill: say that no more will be sent, read to the end and drop what
    /// comes, then close. Nothing more will be said of it.
    HangUp(LinkId),
    /// A snapshot is about to arrive: open a spool file for it and verify what comes.
    SpoolOpen(SpoolId, Format),
    /// The next bytes of an arriving snapshot.
    SpoolWrite(SpoolId, Bytes),
    /// No more bytes of this snapshot will come: the primary says so ([`Format::Kevy`], whose bytes do not tell), or its link is
    /// gone. Once all that came is on the disk, [`Input::Spooled`] says whether it was the whole.
    SpoolEnd(SpoolId),
    /// The arriving snapshot will not be finished: drop it.
    SpoolAbort(SpoolId),
    /// The link that brought a packed snapshot is gone: drop the chunk that came last if it is not whole, and say by
    /// [`Input::SpoolPaused`] how many there are. The rest may come on another link.
    SpoolPause(SpoolId),
    /// These are needed, or on their way; every other spool file may be dropped.
    SpoolKeep(Vec<SpoolId>),
    /// Write down beside this snapshot what it is, so that the program can begin from it when it is started again.
    SpoolDescribe(SpoolId, Origin),
    /// Make a snapshot for a replica.
    Ship(ShipOrder),
    /// Stop making it.
    ShipCancel(LinkId),
    /// Keep stream bytes on disk, or read them there. A log begins with its first order; all orders for it are carried out one
    /// after the other.
    Log(LogId, LogOrder),
    /// Pack these bytes, one chunk, for a link to a view. One at a time is under way for each link.
    Pack {
        /// Whom it is for.
        link: LinkId,
        /// Index of the view, whose codec packs.
        view: usize,
        /// What is packed.
        raw: Vec<Bytes>,
    },
    /// Unpack a chunk of the primary's stream. One at a time is under way.
    Unpack(LinkId, Chunk),
    /// Nothing more is packed or unpacked for this link, which is gone.
    PackEnd(LinkId),
    /// Find out which version listens at this address: the replica on `LinkId` did not say.
    Probe(LinkId, String, u16),
    /// Tell the operator.
    Note(Note),
}

/// What the shell must do with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOrder {
    /// To keep or to drop. What is kept is answered by [`LogReport::Written`], or by [`LogReport::Failed`].
    Keep(backlog::Order),
    /// To read for a replica: answered by [`LogReport::Bytes`].
    Read {
        /// For whom.
        link: LinkId,
        /// What lies behind this offset.
        offset: u64,
        /// At most so many bytes; at least one.
        max: usize,
    },
}

/// What has become of orders for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogReport {
    /// So many bytes have reached the disk.
    Written(usize),
    /// The disk does not take them. What is written to this log from here on is thrown away.
    Failed(Fault),
    /// What was read for this replica behind this offset.
    Bytes(LinkId, u64, Result<Bytes, Fault>),
}

/// How a snapshot goes to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShipFraming {
    /// Bytes may come as they are made.
    Stream,
    /// Make all of it first, and say its length by [`Input::ShipLength`].
    Length,
    /// As a [container](crate::pack) in the format of the view's codec, without its first chunks: of that many, and of the
    /// container's head, the receiver says that it has them.
    Packed {
        /// The number of the first chunk that goes out.
        first: u64,
    },
}

/// A snapshot to be made for one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipOrder {
    /// Who gets it.
    pub link: LinkId,
    /// Whose it is: its pipeline is asked about every key.
    pub view: usize,
    /// What is made.
    pub cargo: Cargo,
}

/// What a snapshot is made of, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cargo {
    /// A Redis or Valkey snapshot.
    Rdb {
        /// What it is made of.
        spool: SpoolId,
        /// The history that it will say it belongs to; `None`: the spooled bytes go out as they are.
        head: Option<Head>,
        /// The format that it is rewritten in; `None`: as it is spooled.
        target: Option<Target>,
        /// How it goes out.
        framing: ShipFraming,
    },
    /// A KEYSNAP body, streamed.
    Kevy {
        /// What it is made of, one after the other; none: an empty snapshot.
        spools: Vec<SpoolId>,
        /// The version of its head. The spools have this version, too.
        version: u8,
        /// The keys that belong into it by their new names; `None`: all of them.
        share: Option<Share>,
        /// The spooled bytes go out as they are: there is one spool, and no plugin.
        verbatim: bool,
    },
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
