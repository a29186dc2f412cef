//! Keys that looked different once. A replica is always a little late, so they are looked at again: until they are equal, or
//! have stood for as long as the operator gives the replica while the primary's value stayed as it was.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use super::Pair;
use super::reading::{self, Expiry, Reading};
use super::report::Difference;
use super::verdict::{self, Class, Rules};
use super::view::Kept;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// What has changed for so many times the operator's patience will be changing when that is over again.
pub(super) const ROUNDS: u32 = 3;
/// Values of the primary that are remembered of one key.
const SEEN_MAX: usize = 256;

/// A key that looked different.
pub(super) struct Suspect {
    db: u32,
    /// The primary's name for it; `None`: the view gives no key this name.
    key: Option<Vec<u8>>,
    name: Vec<u8>,
    first: Instant,
    /// Since when the primary's value is what it is, and that.
    same: Option<(Instant, State)>,
    /// What the primary was seen to hold: a replica that holds it now is late, and not wrong.
    seen: VecDeque<State>,
}

/// A value and its expiry, as far as is needed to know them again; `None`: no such key.
type State = Option<(u128, Expiry)>;

/// What came of a look.
enum Look {
    Equal,
    Again,
    Settled(Difference),
}

impl Suspect {
    pub(super) fn new(db: u32, kept: Kept) -> Self {
        Self::named(db, Some(kept.key), kept.name)
    }

    pub(super) fn named(db: u32, key: Option<Vec<u8>>, name: Vec<u8>) -> Self {
        Self { db, key, name, first: Instant::now(), same: None, seen: VecDeque::new() }
    }

    fn difference(&self, class: Class, what: String) -> Difference {
        Difference { class, db: Some(self.db), key: self.key.clone(), name: self.name.clone(), what }
    }

    /// Reads the primary, the replica, and the primary once more.
    fn look(&mut self, pair: &mut Pair, wait: Duration) -> anyhow::Result<Look> {
        let before = self.must(pair)?;
        let fence = pair.primary.fence.clone();
        pair.replica.select(self.db)?;
        let (is, reached) = reading::read(&mut pair.replica, &self.name, pair.common)?;
        // What the primary sees as expired is not there, whatever the replica's clock says.
        let is = is.at(reached.now_ms.max(fence.now_ms));
        if verdict::agree(&before, &is, pair.rules) || self.has_seen(&is, pair.rules) {
            return Ok(Look::Equal);
        }
        let after = self.must(pair)?;
        let is = is.at(pair.primary.fence.now_ms);
        if verdict::agree(&after, &is, pair.rules) {
            return Ok(Look::Equal);
        }
        let moved = [&before, &is, &after].into_iter().any(|reading| matches!(reading, Reading::Moved));
        self.remember([&before, &after], moved, pair.rules);
        let is_behind = reached.history == fence.history && reached.is_up && reached.offset < fence.offset;
        let stands = self.same.is_some_and(|(since, _)| since.elapsed() >= wait);
        if stands && !is_behind {
            let (class, what) = verdict::describe(&after, &is, pair.rules);
            return Ok(Look::Settled(self.difference(class, what)));
        }
        if self.first.elapsed() < wait * ROUNDS {
            return Ok(Look::Again);
        }
        let why = if is_behind { "the replica has not come so far yet" } else { "it changes all the time" };
        Ok(Look::Settled(self.difference(Class::Undecided, why.into())))
    }

    fn must(&self, pair: &mut Pair) -> anyhow::Result<Reading> {
        let Some(key) = &self.key else { return Ok(Reading::Absent) };
        pair.primary.select(self.db)?;
        let (reading, fence) = reading::read(&mut pair.primary, key, pair.common)?;
        pair.check_history()?;
        Ok(reading.at(fence.now_ms))
    }

    /// Whether the primary held this at an earlier look.
    fn has_seen(&self, is: &Reading, rules: Rules) -> bool {
        !matches!(is, Reading::Moved) && self.seen.iter().any(|seen| alike(*seen, state(is), rules))
    }

    /// Whether the primary's value is still the same, and since when.
    fn remember(&mut self, readings: [&Reading; 2], moved: bool, rules: Rules) {
        let [before, after] = readings.map(state);
        let read = readings.into_iter().filter(|reading| !matches!(reading, Reading::Moved));
        self.seen.extend(read.map(state));
        while self.seen.len() > SEEN_MAX {
            self.seen.pop_front();
        }
        self.same = match self.same {
            _ if moved || !alike(before, after, rules) => None,
            Some((since, value)) if alike(value, after, rules) => Some((since, value)),
            _ => Some((Instant::now(), after)),
        };
    }
}

fn state(reading: &Reading) -> State {
    if let Reading::Held(held) = reading { Some((held.digest(), held.expiry)) } else { None }
}

fn alike(one: State, other: State, rules: Rules) -> bool {
    match (one, other) {
        (Some((one, expires)), Some((other, ends))) => one == other && expires.agrees(ends, rules.expiry_ms),
        _ => one == other,
    }
}

/// Looks at all of them once. Those that are not settled stay; at most `most` differences are of interest.
pub(super) fn look(
    pair: &mut Pair,
    suspects: &mut Vec<Suspect>,
    wait: Duration,
    most: usize,
) -> anyhow::Result<Vec<Difference>> {
    let (mut settled, mut left) = (Vec::new(), Vec::new());
    for mut suspect in suspects.drain(..) {
        match suspect.look(pair, wait)? {
            Look::Equal => {}
            Look::Again => left.push(suspect),
            Look::Settled(difference) => settled.push(difference),
        }
        if settled.len() >= most {
            break;
        }
    }
    *suspects = left;
    Ok(settled)
}

/// Lets the replica catch up a little.
pub(super) fn pause() {
    thread::sleep(PAUSE);
}
