//! The frames that come while values are fetched from the primary.
//!
//! A view asks for values when it has projected all that it has. Until they come its frames queue; then it goes on to the place
//! where the values are true, the *fence*, and takes them there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::fetch::{Value, Wanted};
use crate::frame::{Frame, Frames};

/// Answers in a row that belong to no place of the stream before the view gives up.
const STRAY_ANSWERS_MAX: u32 = 5;

/// Neighbouring frames that have not been projected yet.
#[derive(Debug)]
pub(super) struct Queued {
    bytes: Bytes,
    frames: Vec<Frame>,
    offset: u64,
    pub(super) unix_ms: u64,
}

impl Queued {
    pub(super) fn frames(&self) -> Frames<'_> {
        Frames { bytes: &self.bytes, frames: &self.frames, offset: self.offset }
    }

    fn weight(&self) -> usize {
        let bytes = match (self.frames.first(), self.frames.last()) {
            (Some(first), Some(last)) => last.end - first.start,
            _ => 0,
        };
        bytes as usize + size_of_val(&self.frames[..])
    }
}

/// Values, and where they are true.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) fence: u64,
    pub(super) values: Vec<(Wanted, Option<Value>)>,
}

/// How far a view is with the values that it wants.
#[derive(Debug, Default)]
pub(super) struct Window {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Values are on their way, or wait for their place; since when, in milliseconds.
    asked: Option<u64>,
    answer: Option<Answer>,
    stray: u32,
    /// How long output has been held back while the primary was there. Milliseconds.
    pub(super) held_ms: u64,
}

impl Window {
    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Bytes that the queue holds.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn asks(&mut self, now: u64) {
        self.asked = Some(now);
    }

    pub(super) fn push(&mut self, frames: &Frames<'_>, unix_ms: u64) {
        let queued =
            Queued { bytes: frames.bytes.clone(), frames: frames.frames.to_vec(), offset: frames.offset, unix_ms };
        self.queued_bytes += queued.weight();
        self.queue.push_back(queued);
    }

    /// The values that are waited for have come.
    pub(super) fn answered(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }

    /// An answer belongs to no place of the stream. `true`: too many in a row did.
    pub(super) fn strayed(&mut self) -> bool {
        self.stray += 1;
        self.stray >= STRAY_ANSWERS_MAX
    }

    /// Where the values that have come are true.
    pub(super) fn fence(&self) -> Option<u64> {
        self.answer.as_ref().map(|answer| answer.fence)
    }

    /// The values, at their place. How long they were waited for, in milliseconds.
    pub(super) fn take(&mut self, now: u64) -> (Vec<(Wanted, Option<Value>)>, u64) {
        self.stray = 0;
        let waited = self.asked.take().map_or(0, |asked| now.saturating_sub(asked));
        (self.answer.take().map(|answer| answer.values).unwrap_or_default(), waited)
    }

    /// Nothing will come of what was asked.
    pub(super) fn forget_question(&mut self) {
        (self.asked, self.answer) = (None, None);
    }

    /// The next frames of the queue: those that end at or before `fence`, or, behind it, a single one. An empty part says that
    /// the fence lies inside a frame; `None`, that the queue is empty.
    pub(super) fn pop_to(&mut self, fence: u64) -> Option<Queued> {
        let front = self.queue.front()?;
        let end = |frame: &Frame| front.offset + u64::from(frame.end);
        let before = front.frames.partition_point(|frame| end(frame) <= fence);
        let behind = front.frames.first().is_some_and(|frame| front.offset + u64::from(frame.start) >= fence);
        self.pop(if behind { 1 } else { before })
    }

    /// The next frames of the queue.
    pub(super) fn pop_all(&mut self) -> Option<Queued> {
        self.pop(usize::MAX)
    }

    /// At most `most` frames of those in front.
    fn pop(&mut self, most: usize) -> Option<Queued> {
        let front = self.queue.front_mut()?;
        self.queued_bytes -= front.weight();
        if most >= front.frames.len() {
            return self.queue.pop_front();
        }
        let rest = front.frames.split_off(most);
        let frames = core::mem::replace(&mut front.frames, rest);
        self.queued_bytes += front.weight();
        Some(Queued { bytes: front.bytes.clone(), frames, offset: front.offset, unix_ms: front.unix_ms })
    }
}
