//! How fast snapshots go out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PIECE_BYTES;

/// What was not used is kept for this long: enough to even out the turns of the reactor, too little to be noticed.
const KEPT: Duration = Duration::from_millis(100);
/// Pieces of a slow rate are so small that each takes about this part of a second: a replica should hear of us now and then.
const PIECES_A_SECOND: u64 = 8;

/// A rate that several ships share. Each books the next free time, so none waits for longer than the others.
pub(super) struct Rate {
    bytes_per_s: u64,
    free_at: Mutex<Instant>,
}

impl Rate {
    fn new(bytes_per_s: u64) -> Arc<Self> {
        Arc::new(Self { bytes_per_s, free_at: Mutex::new(Instant::now()) })
    }

    /// When so many bytes may go. They count as gone.
    fn book(&self, bytes: usize, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.checked_sub(KEPT).map_or(*free_at, |kept| kept.max(*free_at));
        *free_at = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        begin
    }
}

/// All rates: of everything, and of each view.
pub(super) struct Rates {
    all: Option<Arc<Rate>>,
    views: Vec<Option<Arc<Rate>>>,
}

impl Rates {
    /// From bytes a second; 0 is no limit.
    pub(super) fn new(all: u64, views: &[u64]) -> Self {
        let rate = |bytes_per_s: u64| (bytes_per_s > 0).then(|| Rate::new(bytes_per_s));
        Self { all: rate(all), views: views.iter().map(|view| rate(*view)).collect() }
    }

    /// What a ship of this view keeps to.
    pub(super) fn of(&self, view: usize) -> Pace {
        let view = self.views.get(view).cloned().flatten();
        Pace(self.all.iter().cloned().chain(view).collect())
    }
}

/// The rates that one ship keeps to.
pub(super) struct Pace(Vec<Arc<Rate>>);

impl Pace {
    /// The largest piece that should go at once. Bytes.
    pub(super) fn piece(&self) -> usize {
        let slowest = self.0.iter().map(|rate| rate.bytes_per_s / PIECES_A_SECOND).min();
        slowest.map_or(PIECE_BYTES, |bytes| usize::try_from(bytes).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES))
    }

    /// When so many bytes may go, if not at once. They count as gone.
    pub(super) fn book(&self, bytes: usize, now: Instant) -> Option<Instant> {
        self.0.iter().map(|rate| rate.book(bytes, now)).max().filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ships_share_a_rate_and_each_keeps_to_the_slowest_of_its_own() {
        let rates = Rates::new(1_000_000, &[0, 100_000]);
        let (fast, slow) = (rates.of(0), rates.of(1));
        assert_eq!((fast.piece(), slow.piece()), (125_000, 12_500));
        let now = Instant::now() + Duration::from_secs(10);
        let waits =
            |pace: &Pace, bytes: usize| pace.book(bytes, now).map_or(0, |at| at.duration_since(now).as_millis());
        assert_eq!(waits(&fast, 100_000), 0, "what was not used before");
        assert_eq!(waits(&fast, 500_000), 0);
        assert_eq!(waits(&fast, 500_000), 500);
        assert_eq!(waits(&slow, 100_000), 1_000, "behind the others");
        assert_eq!(waits(&slow, 100_000), 1_100);
        assert_eq!(waits(&slow, 100_000), 1_900, "its own rate");
        let none = Rates::new(0, &[0]).of(0);
        assert_eq!((none.piece(), waits(&none, usize::MAX)), (PIECE_BYTES, 0));
    }
}
