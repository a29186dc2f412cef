//! What waits to be written to one link.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

/// A queue of bytes towards one peer. The shell writes its front with `writev` and tells how much went.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    len: usize,
    /// Bytes taken by the shell since the link began.
    written: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes written since the link began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends shared bytes.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Appends a copy: replies and service frames, which are small.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.push(Bytes::copy_from_slice(bytes));
    }

    /// Up to `max` pieces from the front, for a vectored write.
    pub fn pieces(&self, max: usize) -> impl Iterator<Item = &[u8]> + '_ {
        self.queue.iter().take(max).map(|bytes| &bytes[..])
    }

    /// Notes that the first `written` bytes are gone.
    pub fn advance(&mut self, mut written: usize) {
        written = written.min(self.len);
        self.len -= written;
        self.written += written as u64;
        while written > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            if front.len() > written {
                let _ = front.split_to(written);
                break;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }

    /// Takes everything at once (simulators, tests).
    pub fn take(&mut self) -> Vec<u8> {
        let all = self.queue.iter().flat_map(|bytes| bytes.iter().copied()).collect::<Vec<_>>();
        self.advance(all.len());
        all
    }
}
