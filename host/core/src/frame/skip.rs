//! Walks over a frame that is too large to be held, without keeping more of it than a length line.

use alloc::vec::Vec;

use bytes::Buf;

use super::{BULK_BYTES_MAX, number};

/// The skipped rest of an oversized frame.
#[derive(Debug)]
pub(super) struct Skip {
    /// Offset before the frame.
    pub(super) start: u64,
    bulk_left: u64,
    args_left: u32,
    line: Vec<u8>,
}

impl Skip {
    /// Skips what is left of the frame at `start`: `args_left` arguments, the first of which may be under way.
    pub(super) fn new(start: u64, args_left: u32) -> Self {
        Self { start, bulk_left: 0, args_left, line: Vec::new() }
    }

    /// Whether the frame is behind us.
    pub(super) fn has_ended(&self) -> bool {
        self.args_left == 0 && self.bulk_left == 0
    }

    /// Walks over `bytes`: how many belong to the frame, or `None` if they cannot.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        loop {
            let step = self.bulk_left.min(rest.len() as u64);
            self.bulk_left -= step;
            rest.advance(step as usize);
            if self.args_left == 0 || rest.is_empty() {
                break;
            }
            while let Some((&byte, behind)) = rest.split_first() {
                rest = behind;
                self.line.push(byte);
                if byte == b'\n' || self.line.len() > 24 {
                    let (len, _) = number(self.line.strip_prefix(b"$")?, 0).ok()??;
                    self.line.clear();
                    self.bulk_left = Some(len).filter(|&len| len <= BULK_BYTES_MAX)? + 2;
                    self.args_left -= 1;
                    break;
                }
            }
        }
        Some(bytes.len() - rest.len())
    }
}
