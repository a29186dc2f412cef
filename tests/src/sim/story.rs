//! What happened, for those who have to find out why.

use std::collections::VecDeque;
use std::fmt::Write;

/// Events that are kept for the report of a failure.
const KEPT: usize = 60;

/// The events of a world.
#[derive(Debug, Default)]
pub struct Story {
    last: VecDeque<(u64, String)>,
    aloud: bool,
    fingerprint: u64,
}

impl Story {
    /// A story that is printed as it happens, or only kept.
    pub fn new(aloud: bool) -> Self {
        Self { aloud, ..Self::default() }
    }

    /// Notes an event.
    pub fn tell(&mut self, now: u64, event: String) {
        for byte in event.bytes() {
            self.fingerprint = (self.fingerprint ^ u64::from(byte) ^ now).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.aloud {
            println!("{now:>8} {event}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((now, event));
    }

    /// A fingerprint of all events.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The last events.
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        for (now, event) in &self.last {
            let _ = writeln!(text, "{now:>8} {event}");
        }
        text
    }
}
