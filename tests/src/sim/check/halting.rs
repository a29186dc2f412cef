//! Whether a view that halts had to, and whether what is acknowledged is there.

use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::machine::Machine;
use sluicegate_core::settings::RepairLimits;
use sluicegate_core::view::View;

use super::{Checker, Watched};
use crate::sim::lens::Native;
use crate::sim::wire::{self, Said};

/// Bounds above this are never reached in a world.
const SMALL_BYTES: usize = 1 << 20;
/// A proxy that is given everything at once has its values before this. Milliseconds.
const SOON_MS: u64 = 15_000;
/// What a view adds of its own between two looks, at most. Bytes.
const PINGS_BYTES: u64 = 28;
/// Virtual time between two looks, at most. Milliseconds.
const BLINK_MS: u64 = 6_000;

/// What keeps values from coming.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// The time. Milliseconds.
    pub now: u64,
    /// Until when the primary did not answer as it should.
    pub unwilling_at: u64,
    /// The user may not read values.
    pub denied: bool,
    /// The world makes no trouble any more.
    pub healed: bool,
}

impl Watched {
    /// Notes whether the view holds output back, and whether values have freed some of it since it was last looked at.
    pub(super) fn look(&mut self, view: &View, now: u64) {
        let (repaired, end) = (view.counts().repaired, view.backlog().end());
        let freed = repaired != self.repaired.0 && end > self.repaired.1 + PINGS_BYTES;
        if view.holds_back_from().is_none() || freed {
            self.held_since = None;
        }
        self.repaired = (repaired, end);
        if view.holds_back_from().is_some() {
            self.held_since.get_or_insert(now);
        }
    }

    /// Whether a halt for the sake of a repair is right; `None`: it has another cause.
    pub(super) fn repair_excused(&self, limits: &RepairLimits, fault: &Fault, trouble: Trouble) -> Option<bool> {
        let says = |word: &str| fault.what.contains(word);
        if says("limits.repair_time") {
            let held = self.held_since.map_or(0, |since| trouble.now - since);
            let quiet = trouble.healed && trouble.now > trouble.unwilling_at + SOON_MS;
            return Some(held + BLINK_MS >= limits.window_ms_max && !quiet);
        }
        if says("limits.repair_window") || says("to be fetched together") {
            return Some(limits.window_bytes_max < SMALL_BYTES);
        }
        if says("limits.repair_keys") {
            return Some(limits.keys_max < SMALL_BYTES / 1024);
        }
        if says("limits.repair_value") {
            return Some(limits.value_bytes_max < SMALL_BYTES);
        }
        if says("NOPERM") {
            return Some(trouble.denied && fault.whose == Party::Operator && says("ACL SETUSER"));
        }
        (fault.whose == Party::Plugin).then(|| Native::has_failed(&self.ailment))
    }
}

impl Checker {
    /// Looks at bytes that go to the primary: nothing is acknowledged that a view holds back from its replicas.
    pub fn acknowledged(&self, machine: &Machine, bytes: &[u8]) -> Result<(), String> {
        for (start, end) in wire::frames(bytes) {
            let Ok((Said::Command(args), _)) = wire::parse(&bytes[start..end]) else { continue };
            if args.len() < 3 || !wire::is(&args[0], "replconf") || !wire::is(&args[1], "ack") {
                continue;
            }
            let offset: u64 = String::from_utf8_lossy(&args[2]).parse().map_err(|_| "an ACK that is no number")?;
            let held = machine.views().iter().filter_map(View::holds_back_from).min();
            if let Some(held) = held.filter(|held| offset > *held) {
                return Err(format!("the proxy acknowledges {offset}, and a view holds back what is behind {held}"));
            }
        }
        Ok(())
    }
}
