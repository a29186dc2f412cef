//! The upstream's snapshot while it arrives: verified as far as that is possible, and described.

use super::error::SnapshotError;
use super::{Part, Record, Sink, Walker};

/// What is in a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The version of its format.
    pub version: u8,
    /// Its length.
    pub bytes: u64,
    /// How many keys it has.
    pub keys: u64,
    /// How many of the keys have an expiry.
    pub expires: u64,
    /// How many fields of hashes have an expiry of their own.
    pub field_expiries: u64,
    /// How many consumer groups the trailer speaks of.
    pub group_reads: u64,
    /// Whether the server has put something into the trailer for itself.
    pub aux: bool,
}

/// Takes a snapshot in pieces of any size.
#[derive(Debug, Default)]
pub struct Intake {
    walker: Walker,
    summary: Summary,
}

impl Intake {
    /// An intake that waits for the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the snapshot.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.walker.push(bytes, &mut self.summary)?;
        self.summary.bytes = self.walker.bytes();
        Ok(())
    }

    /// The upstream has ended the transfer: what was in the snapshot, or an error if it was not whole.
    pub fn finish(&self) -> Result<&Summary, SnapshotError> {
        self.walker.finish().map(|()| &self.summary)
    }

    /// Whether the snapshot may end here. Whether it does, the link says.
    pub fn is_complete(&self) -> bool {
        self.walker.is_complete()
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.walker.bytes()
    }

    /// Keys seen so far.
    pub fn keys(&self) -> u64 {
        self.summary.keys
    }
}

impl Sink for Summary {
    type Error = SnapshotError;

    #[inline]
    fn part(&mut self, _raw: &[u8], part: Part<'_>) -> Result<(), SnapshotError> {
        match part {
            Part::Head { version } => self.version = version,
            Part::Key { record: Record::FieldExpiry, .. } => self.field_expiries += 1,
            Part::Key { record: Record::GroupReads, .. } => self.group_reads += 1,
            Part::Key { expires, .. } => {
                self.keys += 1;
                self.expires += u64::from(expires);
            }
            Part::Aux => self.aux = true,
            Part::Value { .. } | Part::End => {}
        }
        Ok(())
    }
}
