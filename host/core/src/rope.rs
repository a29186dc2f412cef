//! Bytes in the making: small pieces are copied side by side, large ones are shared.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

/// Pieces of at least this many bytes are shared, smaller ones are copied: a shared piece keeps its whole read buffer alive,
/// so a small one would hold far more memory than it is counted for.
pub const SHARE_BYTES_MIN: usize = 32 * 1024;
/// Copied pieces are gathered in blocks of this many bytes.
const BLOCK_BYTES: usize = 256 * 1024;

/// A growing sequence of bytes.
#[derive(Debug, Default)]
pub struct Rope {
    sealed: Vec<Bytes>,
    open: BytesMut,
    len: usize,
}

impl Rope {
    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a copy.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        if self.open.capacity() - self.open.len() < bytes.len() {
            self.next_block(bytes.len());
        }
        self.open.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends `whole[from..to]`, shared if that is large.
    #[inline]
    pub fn write_slice(&mut self, whole: &Bytes, from: usize, to: usize) {
        if to.saturating_sub(from) >= SHARE_BYTES_MIN && to <= whole.len() {
            self.write_shared(whole.slice(from..to));
        } else if let Some(bytes) = whole.get(from..to) {
            self.write(bytes);
        }
    }

    /// Appends without copying, unless the piece is small.
    pub fn write_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            return self.write(&bytes);
        }
        self.seal();
        self.len += bytes.len();
        self.sealed.push(bytes);
    }

    /// Moves everything out, as shared pieces in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.seal();
        self.len = 0;
        self.sealed.drain(..)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sealed.clear();
        self.open.clear();
        self.len = 0;
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(self.open.split().freeze());
        }
    }

    #[cold]
    fn next_block(&mut self, at_least: usize) {
        self.seal();
        self.open = BytesMut::with_capacity(at_least.max(BLOCK_BYTES));
    }
}
