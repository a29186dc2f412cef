//! The checkers: what must hold after every event and for every byte that reaches a replica.

mod halting;

use std::collections::{BTreeMap, HashMap};

use sluicegate_core::contract::LinkId;
use sluicegate_core::fault::Party;
use sluicegate_core::limits;
use sluicegate_core::machine::Machine;
use sluicegate_core::replica::Phase;
use sluicegate_core::settings::CrossKey;
use sluicegate_core::view::{State, View};

use super::data::Dataset;
use super::lens::{Ailment, CANARY, Lens};
use super::replica::Replica;
use super::truth::{Id, Truth};
use super::wire;

pub use halting::Trouble;

/// A place of a view's own history, and the place of the primary's that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    view: u64,
    upstream: Id,
    at: u64,
    /// The view shows exactly what was held at `at`; otherwise something between the mark before and `at`.
    exact: bool,
    /// The stream broke here, and nobody says how much of it was sound.
    broken: bool,
}

impl Mark {
    /// Where a history begins.
    fn first((id, at): &(Id, u64)) -> Self {
        Self { view: 0, upstream: id.clone(), at: *at, exact: true, broken: false }
    }
}

/// What is known of one view.
#[derive(Debug)]
struct Watched {
    lens: Lens,
    ailment: Ailment,
    /// Where the segment began.
    segment: u64,
    /// The history that was halted.
    halted: Option<Id>,
    /// Since when it holds output back and no value has come. Milliseconds.
    held_since: Option<u64>,
    /// Values that had come when it was last looked at, and the end of its history.
    repaired: (u64, u64),
}

/// Everything that the checkers remember.
#[derive(Debug, Default)]
pub struct Checker {
    views: Vec<Watched>,
    /// By the name of a view's own history.
    ledger: BTreeMap<Id, Vec<Mark>>,
    /// Every byte of a view's own history that was ever seen by a replica; 256: not yet.
    sent: HashMap<Id, Vec<u16>>,
    digests: HashMap<(Id, u64, Lens), u64>,
    /// By replica: the view's history, and the place of the primary's that was shown last.
    shown: BTreeMap<usize, (Id, u64)>,
    tails: BTreeMap<LinkId, Vec<u8>>,
    read: u64,
    upstream: Id,
    /// Bytes of a view's own history are not compared with what was sent before: only datasets are looked at.
    pub only_meaning: bool,
    /// Times that a replica's dataset was compared.
    pub compared: u64,
    /// Views that halted.
    pub halts: u64,
}

impl Checker {
    /// Checkers for a world with these views.
    pub fn new(views: &[(Lens, Ailment)]) -> Self {
        let watched = |(lens, ailment): &(Lens, Ailment)| Watched {
            lens: *lens,
            ailment: ailment.clone(),
            segment: 0,
            halted: None,
            held_since: None,
            repaired: (0, 0),
        };
        Self { views: views.iter().map(watched).collect(), ..Self::default() }
    }

    /// Looks at the machine after it was told something. `current` is the primary's history now, `snapshot` the place of its
    /// last snapshot.
    pub fn machine(
        &mut self,
        machine: &Machine,
        truth: &Truth,
        current: &str,
        snapshot: &(Id, u64),
        trouble: Trouble,
    ) -> Result<(), String> {
        let position = machine.upstream_position();
        for (index, view) in machine.views().iter().enumerate() {
            let followed = machine.replicas().any(|(_, replica)| replica.view == index && replica.phase.is_replica());
            match view.state() {
                State::Waiting if followed => return Err(format!("view {index} has no segment, but replicas")),
                State::Halted(_) if followed => return Err(format!("view {index} is halted, but has replicas")),
                State::Waiting => continue,
                _ => {}
            }
            if let Some((id, applied, read)) = &position {
                self.view(index, view, truth, snapshot, (id.as_str(), *applied, *read), trouble)?;
            } else if !view.relays() {
                // The stream broke: what was sound of it is shown, and nobody says how much that was.
                let marks = self.ledger.entry(view.history().id.as_str().into()).or_insert_with(|| {
                    self.views[index].segment = snapshot.1;
                    vec![Mark::first(snapshot)]
                });
                let (upstream, at) = match marks.last() {
                    Some(last) if last.broken => (last.upstream.clone(), last.at),
                    _ => (current.into(), truth.of(current)?.end()),
                };
                marks.push(Mark { view: view.backlog().end(), upstream, at, exact: false, broken: true });
            }
        }
        if let Some((id, applied, read)) = position {
            self.upstream_position(truth, id.as_str(), applied, read)?;
        }
        for (link, replica) in machine.replicas() {
            let Some(view) = machine.views().get(replica.view) else { continue };
            let (link, acked, cursor, end) = (link.0, replica.acked, replica.cursor, view.backlog().end());
            if replica.phase == Phase::Streaming && !(acked <= cursor && cursor <= end) {
                return Err(format!("link {link}: acked {acked} ≤ cursor {cursor} ≤ end {end} does not hold"));
            }
            // The refill stops at half of the bound, and adds one piece at most.
            let bound = view.settings().replica_output_bytes / 2 + limits::PUMP_BYTES_MAX + limits::HANDSHAKE_BYTES_MAX;
            if replica.outbox.len() > bound {
                return Err(format!("link {link}: {} bytes wait for it", replica.outbox.len()));
            }
        }
        Ok(())
    }

    fn upstream_position(&mut self, truth: &Truth, id: &str, applied: u64, read: u64) -> Result<(), String> {
        let history = truth.of(id)?;
        if read > history.end() {
            return Err(format!("the machine has read {read} bytes of a history that ends at {}", history.end()));
        }
        if !history.places.contains(&applied) || applied > read {
            return Err(format!("the machine's applied offset {applied} is in the middle of something (read: {read})"));
        }
        (self.read, self.upstream) = (read, id.into());
        Ok(())
    }

    fn view(
        &mut self,
        index: usize,
        view: &View,
        truth: &Truth,
        snapshot: &(Id, u64),
        (upstream, applied, read): (&str, u64, u64),
        trouble: Trouble,
    ) -> Result<(), String> {
        let watched = &mut self.views[index];
        let id = view.history().id.as_str();
        if view.relays() != (watched.lens == Lens::Relay) {
            return Err(format!("view {index} has {} history", if view.relays() { "no" } else { "its own" }));
        }
        let end = view.backlog().end();
        if !view.relays() {
            let marks = self.ledger.entry(id.into()).or_insert_with(|| {
                watched.segment = snapshot.1;
                vec![Mark::first(snapshot)]
            });
            let live = *view.state() == State::Live;
            let at = if live { applied } else { read };
            let exact = live && view.holds_back_from().is_none();
            let mark = Mark { view: end, upstream: upstream.into(), at, exact, broken: false };
            if marks.last() != Some(&mark) && watched.halted.as_deref() != Some(id) {
                marks.push(mark);
            }
        }
        let repairs = view.settings().cross_key == CrossKey::Repair;
        let (segment, largest) = (watched.segment, view.settings().frame_bytes_max);
        let poison = |upto: u64, id: &str| {
            let lens = watched.lens;
            truth.of(id).ok().and_then(|history| {
                let mut found =
                    history.poison.range(segment..=upto.max(segment)).filter(|(place, _)| **place > segment);
                found
                    .find(|(_, (db, args))| {
                        lens.must_halt(*db, args, repairs) || lens.has_own_history() && wire::length(args) > largest
                    })
                    .map(|(place, _)| *place)
            })
        };
        match view.state() {
            State::Live => {
                // What waits in a view for values is looked at when they are there.
                if let Some(place) = poison(view.holds_back_from().map_or(applied, |held| held.min(applied)), upstream)
                {
                    return Err(format!("view {index} is live behind {place}, where it had to halt"));
                }
            }
            State::Halted(fault) if watched.halted.as_deref() != Some(id) => {
                let earned = match fault.whose {
                    _ if let Some(excused) = watched.repair_excused(&view.settings().repair, fault, trouble) => excused,
                    Party::Operator => truth.of(upstream)?.longest > view.settings().transaction_bytes_max,
                    // Told before all of it is read.
                    _ if fault.what.contains("limits.frame") => poison(u64::MAX, upstream).is_some(),
                    _ => poison(read, upstream).or_else(|| poison(self.read.max(read), &self.upstream)).is_some(),
                };
                if !earned {
                    return Err(format!("view {index} ({:?}) halts without a reason: {fault}", watched.lens));
                }
                self.halts += 1;
                watched.halted = Some(id.into());
            }
            _ => {}
        }
        watched.look(view, trouble.now);
        Ok(())
    }

    /// The proxy was started again: its views have halted in none of their histories.
    pub fn restarted(&mut self) {
        self.views.iter_mut().for_each(|watched| watched.held_since = None);
    }

    /// A replica has loaded a snapshot: what it shows may lie before what it showed.
    pub fn loaded(&mut self, replica: &Replica) {
        self.shown.remove(&replica.number);
    }

    /// Looks at bytes that reach a replica.
    pub fn bytes(&mut self, link: LinkId, view: usize, bytes: &[u8]) -> Result<(), String> {
        let lens = self.views[view].lens;
        let tail = self.tails.entry(link).or_default();
        tail.extend_from_slice(bytes);
        if lens.hides_canaries() && wire::find(tail, CANARY).is_some() {
            return Err(format!("view {view} ({lens:?}) leaks what it hides"));
        }
        if lens.has_own_history() && wire::find(tail, b"__sentinel__:hello").is_some() {
            return Err(format!("view {view} ({lens:?}) passes a sentinel's hello"));
        }
        tail.drain(..tail.len().saturating_sub(20));
        Ok(())
    }

    /// Looks at a `+CONTINUE`: the replica asked to go on behind `held` of history `asked`.
    pub fn continued(
        &self,
        replica: &Replica,
        truth: &Truth,
        asked: &str,
        held: u64,
        honest: bool,
    ) -> Result<(), String> {
        let whose = &replica.true_id;
        let sound = match self.views[replica.view].lens {
            Lens::Relay => truth.agree(asked, whose, held),
            _ => {
                asked == whose && self.ledger.get(whose).is_some_and(|marks| marks.iter().any(|mark| mark.view >= held))
            }
        };
        if honest && sound {
            return Ok(());
        }
        Err(format!("a false continuation: asked {asked} {held} (honest: {honest}), given {whose}"))
    }

    /// Looks at bytes of the live stream behind `offset`: never two different ones at one place.
    pub fn stream(&mut self, replica: &Replica, truth: &Truth, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let whose = &replica.true_id;
        if self.views[replica.view].lens == Lens::Relay {
            let history = truth.of(whose)?;
            let from = offset.checked_sub(history.base).map(|from| from as usize);
            if from.and_then(|from| history.bytes.get(from..from + bytes.len())) != Some(bytes) {
                return Err(format!("what was relayed behind {offset} of {whose} is not what the primary sent"));
            }
            return Ok(());
        }
        let sent = self.sent.entry(whose.clone()).or_default();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if to > (1 << 26) {
            return Err(format!("bytes at the impossible offset {to}"));
        }
        if sent.len() < to {
            sent.resize(to, 256);
        }
        for (at, (before, byte)) in sent[from..to].iter_mut().zip(bytes).enumerate() {
            if *before != 256 && *before != u16::from(*byte) && !self.only_meaning {
                return Err(format!("byte {} of history {whose} has changed", offset + at as u64 + 1));
            }
            *before = u16::from(*byte);
        }
        Ok(())
    }

    /// Looks at a dataset that a replica shows.
    pub fn published(&mut self, replica: &Replica, truth: &Truth) -> Result<(), String> {
        let lens = self.views[replica.view].lens;
        let (upstream, from, to) = match lens {
            Lens::Relay => (replica.true_id.clone(), replica.applied, replica.applied),
            _ => self.answers(&replica.true_id, replica.applied)?,
        };
        let history = truth.of(&upstream)?;
        let mut first = history.at(from).ok_or("a place before the history")?.0;
        if let Some((id, place)) = self.shown.get(&replica.number)
            && *id == replica.true_id
        {
            first = first.max(*place);
        }
        let mine = replica.data.digest();
        self.compared += 1;
        for (place, data) in history.commits.range(first..=to.max(first)) {
            let key = (upstream.clone(), *place, lens);
            if *self.digests.entry(key).or_insert_with(|| lens.see(data).digest()) == mine {
                self.shown.insert(replica.number, (replica.true_id.clone(), *place));
                return Ok(());
            }
        }
        let due = lens.see(history.at(to).ok_or("a place before the history")?.1);
        Err(format!(
            "view {} ({lens:?}) at {} shows what the primary did not hold between {from} and {to}:\n{}",
            replica.view,
            replica.applied,
            replica.data.differences(&due)
        ))
    }

    /// Which part of the primary's history a place of a view's own history answers.
    fn answers(&self, id: &str, offset: u64) -> Result<(Id, u64, u64), String> {
        let marks = self.ledger.get(id).ok_or_else(|| format!("a replica follows {id}, which never was a view's"))?;
        let next = marks.partition_point(|mark| mark.view < offset);
        let mark = marks.get(next).ok_or_else(|| format!("a replica is at {offset}, beyond the end of its view"))?;
        if mark.exact && mark.view == offset {
            return Ok((mark.upstream.clone(), mark.at, mark.at));
        }
        let before = marks[..next].iter().rev().find(|mark| mark.exact).map_or(0, |mark| mark.at);
        Ok((mark.upstream.clone(), before, mark.at))
    }

    /// Compares a replica with what the primary holds now.
    pub fn equal_now(&self, replica: &Replica, data: &Dataset) -> Result<(), String> {
        let due = self.views[replica.view].lens.see(data);
        if due == replica.data {
            return Ok(());
        }
        Err(replica.data.differences(&due))
    }
}
