//! Faults planted between the proxy and its peers: each is a bug that the proxy could have, and that a checker must see.

use std::collections::BTreeSet;

use super::rng::Rng;
use super::wire;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const RESTORE: &[u8] = b"*6\r\n$7\r\nRESTORE\r\n";

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A byte of a view's stream is lost.
    ByteLost,
    /// A SELECT names another database.
    SelectWrong,
    /// A DEL is lost, though counted.
    DelLost,
    /// MULTI and EXEC are lost, though counted.
    TransactionTorn,
    /// `+FULLRESYNC` names another offset than the snapshot's.
    OffsetWrong,
    /// A bit of a snapshot is flipped.
    SnapshotFlipped,
    /// The snapshot of a filtered view is not filtered.
    SnapshotLeaks,
    /// A new segment is served with the old segment's snapshot.
    SnapshotStale,
    /// Every history has the same id.
    IdReused,
    /// A plugin's answers change with time.
    FicklePlugin,
    /// The proxy acknowledges one byte more than it has.
    AckTooEarly,
    /// The primary fails over without a new id.
    UpstreamForks,
    /// A value from the primary is lost, though counted: its key is forgotten.
    RestoreLost,
    /// A value stands before the commands that have touched its key.
    RestoreEarly,
    /// What was held back for a value is not one transaction.
    WindowTorn,
    /// Values are taken for those of an earlier place than they are of.
    FenceEarly,
    /// Values of a history that is not followed are taken for those of the one that is.
    ForeignValues,
    /// What is read from a log lies a byte behind what was asked for.
    LogMisread,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::ByteLost,
        Self::SelectWrong,
        Self::DelLost,
        Self::TransactionTorn,
        Self::OffsetWrong,
        Self::SnapshotFlipped,
        Self::SnapshotLeaks,
        Self::SnapshotStale,
        Self::IdReused,
        Self::FicklePlugin,
        Self::AckTooEarly,
        Self::UpstreamForks,
        Self::RestoreLost,
        Self::RestoreEarly,
        Self::WindowTorn,
        Self::FenceEarly,
        Self::ForeignValues,
        Self::LogMisread,
    ];

    /// Whether the fault changes what the stream means and would be seen at once by comparing bytes. It has to be seen by
    /// what replicas hold as well.
    pub fn is_about_meaning(self) -> bool {
        matches!(
            self,
            Self::SelectWrong
                | Self::DelLost
                | Self::TransactionTorn
                | Self::IdReused
                | Self::RestoreLost
                | Self::RestoreEarly
                | Self::WindowTorn
        )
    }
}

/// A planted fault at work.
#[derive(Debug)]
pub struct Plant {
    /// What is wrong.
    pub kind: Kind,
    rng: Rng,
    /// How often it struck.
    pub struck: u64,
}

impl Plant {
    /// Plants `kind`.
    pub fn new(kind: Kind, rng: Rng) -> Self {
        Self { kind, rng, struck: 0 }
    }

    fn strikes(&mut self, kind: Kind, permille: u64) -> bool {
        let strikes = self.kind == kind && self.rng.permille(permille);
        self.struck += u64::from(strikes);
        strikes
    }

    /// Whether this snapshot goes out unfiltered.
    pub fn leaks_a_snapshot(&mut self) -> bool {
        self.strikes(Kind::SnapshotLeaks, 500)
    }

    /// Whether a read of a log begins a byte too late.
    pub fn misreads_a_log(&mut self) -> bool {
        self.strikes(Kind::LogMisread, 200)
    }

    /// Whether the old spool file stays in the new one's place.
    pub fn keeps_the_old_spool(&mut self) -> bool {
        self.strikes(Kind::SnapshotStale, 500)
    }

    /// What becomes of a view's snapshot.
    pub fn on_snapshot(&mut self, mut bytes: Vec<u8>, rewritten: bool) -> Vec<u8> {
        if rewritten && self.strikes(Kind::SnapshotFlipped, 300) {
            let at = self.rng.below(bytes.len());
            bytes[at] ^= 1 << self.rng.below(8);
        }
        bytes
    }

    /// What becomes of bytes on their way to a replica. Those of a relaying view are spared: they are compared with the
    /// primary's own, so that anything would be found. `streams`: they are part of the live stream.
    pub fn on_bytes(&mut self, own_history: bool, bytes: &mut Vec<u8>, streams: bool) {
        if !own_history {
            return;
        }
        let blank = |bytes: &mut Vec<u8>, at: usize, length: usize| {
            let blanks = b"\r\n".iter().cycle().skip(length % 2).take(length);
            bytes.splice(at..at + length, blanks.copied());
        };
        if streams && bytes.len() > 1 && self.strikes(Kind::ByteLost, 5) {
            let at = self.rng.below(bytes.len());
            bytes.remove(at);
        }
        let select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n";
        if let Some(at) = wire::find(bytes, select).filter(|at| at + select.len() < bytes.len())
            && self.strikes(Kind::SelectWrong, 300)
        {
            bytes[at + select.len()] = b'7';
        }
        if let Some(at) = wire::find(bytes, b"\r\n$3\r\nDEL\r\n").and_then(|at| at.checked_sub(2))
            && let Ok((wire::Said::Command(_), length)) = wire::parse(&bytes[at..])
            && self.strikes(Kind::DelLost, 300)
        {
            blank(bytes, at, length);
        }
        if let (Some(multi), Some(exec)) = (wire::multi_at(bytes), wire::find(bytes, b"*1\r\n$4\r\nEXEC\r\n"))
            && multi < exec
            && self.strikes(Kind::TransactionTorn, 500)
        {
            blank(bytes, exec, 14);
            blank(bytes, multi, 15);
        }
        self.on_restore(bytes, blank);
        if let Some(at) = wire::find(bytes, b"+FULLRESYNC ")
            && let Some(digit) = bytes.get_mut(at + 53)
            && self.kind == Kind::OffsetWrong
        {
            self.struck += 1;
            *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
        }
    }

    /// What becomes of a value on its way to a replica.
    fn on_restore(&mut self, bytes: &mut Vec<u8>, blank: impl Fn(&mut Vec<u8>, usize, usize)) {
        let Some(at) = wire::find(bytes, RESTORE) else { return };
        let Ok((wire::Said::Command(_), length)) = wire::parse(&bytes[at..]) else { return };
        let multi = wire::multi_at(&bytes[..at]).map(|multi| multi + MULTI.len());
        let exec = wire::find(&bytes[at + length..], EXEC).map(|exec| at + length + exec);
        if self.strikes(Kind::RestoreLost, 300) {
            blank(bytes, at, length);
        } else if let (Some(multi), Some(exec)) = (multi, exec) {
            if self.strikes(Kind::WindowTorn, 500) {
                blank(bytes, exec, EXEC.len());
                blank(bytes, multi - MULTI.len(), MULTI.len());
            } else if self.strikes(Kind::RestoreEarly, 500) {
                bytes[multi..at + length].rotate_right(length);
            }
        }
    }

    /// What becomes of the primary's answer to those who ask for keys. `id`: the history that it writes now, with its places.
    pub fn on_values(&mut self, bytes: &mut [u8], id: &str, places: &BTreeSet<u64>) {
        let digits = b"master_repl_offset:";
        if let Some(at) = wire::find(bytes, digits).map(|at| at + digits.len())
            && let Some(length) = wire::find(&bytes[at..], b"\r\n")
            && let Ok(offset) = String::from_utf8_lossy(&bytes[at..at + length]).parse::<u64>()
            && let Some(earlier) = places.range(..offset).next_back().map(u64::to_string)
            && earlier.len() == length
            && self.strikes(Kind::FenceEarly, 300)
        {
            bytes[at..at + length].copy_from_slice(earlier.as_bytes());
        }
        let name = b"master_replid:";
        if let Some(at) = wire::find(bytes, name).map(|at| at + name.len())
            && let Some(said) = bytes.get_mut(at..at + id.len()).filter(|said| *said != id.as_bytes())
            && self.strikes(Kind::ForeignValues, 1000)
        {
            said.copy_from_slice(id.as_bytes());
        }
    }

    /// What becomes of bytes on their way to the primary.
    pub fn on_bytes_up(&mut self, bytes: &mut [u8]) {
        let ack = b"$3\r\nACK\r\n";
        if let Some(at) = wire::find(bytes, ack)
            && let Some(end) = wire::find(&bytes[at + ack.len() + 4..], b"\r\n")
            && self.strikes(Kind::AckTooEarly, 300)
        {
            let last = &mut bytes[at + ack.len() + 4 + end - 1];
            if last.is_ascii_digit() && *last < b'9' {
                *last += 1;
            }
        }
    }
}
