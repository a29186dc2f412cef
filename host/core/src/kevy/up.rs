//! One shard of the primary: the link to it and the place in its history.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::settings::Upstream;
use super::{Dialect, Scanner, wire};
use crate::contract::{LinkId, SpoolId};
use crate::outbox::Outbox;

/// Why nothing is claimed of a primary of the older dialects.
pub(super) const UNSAID: &str =
    "a primary of its age does not say whether its history is still the one that we followed";

/// A link that lasted for so long was a good one: the next attempt is made soon. Milliseconds.
const GOOD_MS: u64 = 2_000;

/// Attempts are made at once no more often than this. Milliseconds.
const AT_ONCE_EVERY_MS: u64 = 2_000;

/// A primary that has answered before is taken for one of another dialect when it closes so many links in turn without a word:
/// a network can do that as well, and a handshake of another dialect costs a snapshot.
const SILENT_LINKS_MAX: u32 = 3;

/// A primary that leaves so many bytes of acknowledgements unread gets no more until it reads: the next will do as well.
const UNREAD_BYTES_MAX: usize = 4 * 1024;

/// What a link to a shard is doing, in the order of events. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No link; a new attempt is due at this time.
    Idle(u64),
    /// A connection is being made, since this time.
    Dialing(u64),
    /// The handshake is out, since this time.
    Greeting(u64),
    /// Frames, or the wait for what the first event will be.
    Live,
    /// A snapshot arrives.
    Copying(SpoolId),
    /// It has arrived, and is looked at; nothing else is, until that is done.
    Verifying(SpoolId),
}

/// What the keys of the shard were when its stream began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seed {
    /// There were none: the stream is followed from its first frame.
    Empty,
    /// A snapshot, in this version of its format.
    Spool(SpoolId, u8),
}

/// One shard of the primary. The frames before `next` have been taken.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) phase: Phase,
    pub(super) link: Option<LinkId>,
    pub(super) out: Outbox,
    pub(super) scanner: Option<Scanner>,
    /// Bytes that came while a snapshot was looked at.
    pub(super) waiting: VecDeque<Bytes>,
    /// What the primary speaks, as far as we know.
    pub(super) dialect: Option<Dialect>,
    /// What the handshake under way speaks.
    pub(super) trying: Dialect,
    pub(super) generation: u64,
    pub(super) next: u64,
    pub(super) seed: Option<Seed>,
    /// Why the next handshake claims nothing, so that a snapshot comes; `None`: it goes on where we are.
    pub(super) fresh: Option<String>,
    /// Nothing is known of what this link continues: its first event will tell.
    pub(super) awaits: bool,
    /// Since when a primary that has no heartbeat says nothing of what it holds.
    pub(super) unsaid_since: Option<u64>,
    /// It held something when it was last heard of: a history that begins with nothing may leave out what was loaded.
    pub(super) held: bool,
    /// The last link ended because a heartbeat on it named another generation: that history began with nothing.
    pub(super) emptied: bool,
    /// Since when its first frames are received for nothing but to get them out of its backlog.
    pub(super) receives_since: Option<u64>,
    /// That was done already.
    pub(super) received: bool,
    /// A snapshot has begun and no sign of life came since: the next one may name a new generation.
    pub(super) may_rename: bool,
    /// When something was last heard.
    pub(super) heard: u64,
    /// Since when the primary speaks of frames that it does not send.
    pub(super) owed_since: Option<u64>,
    /// Snapshot bytes that are not on disk yet, and when the snapshot began.
    pub(super) unwritten: usize,
    pub(super) started: u64,
    /// When the link came up.
    greeted: u64,
    /// The handshake claimed a place: what follows goes on there.
    pub(super) claimed: bool,
    /// Links that ended without a word, in turn.
    silent: u32,
    /// When an attempt was last made at once, if one was.
    hurried: Option<u64>,
    backoff_ms: u64,
}

impl Shard {
    pub(super) fn new(settings: &Upstream) -> Self {
        Self {
            phase: Phase::Idle(0),
            link: None,
            out: Outbox::default(),
            scanner: None,
            waiting: VecDeque::new(),
            dialect: settings.dialect,
            trying: settings.dialect.unwrap_or(Dialect::K3),
            generation: 0,
            next: 0,
            seed: None,
            fresh: Some("first attach".into()),
            awaits: false,
            unsaid_since: None,
            held: false,
            emptied: false,
            receives_since: None,
            received: false,
            may_rename: false,
            heard: 0,
            owed_since: None,
            unwritten: 0,
            started: 0,
            greeted: 0,
            claimed: false,
            silent: 0,
            hurried: None,
            backoff_ms: settings.backoff_min_ms,
        }
    }

    /// The link is up: the handshake. `id` is what we call ourselves.
    pub(super) fn greet(&mut self, link: LinkId, scanner: Scanner, id: &str, now: u64) {
        (self.link, self.scanner) = (Some(link), Some(scanner));
        (self.out, self.phase, self.heard) = (Outbox::default(), Phase::Greeting(now), now);
        self.greeted = now;
        self.waiting.clear();
        (self.owed_since, self.may_rename) = (None, false);
        // Without a generation a primary takes any place for one of its own history, also when that is another by now. One
        // that has become younger says in its frames what replicas of its former age cannot apply: they have to be seen to.
        let same_age = self.trying.has_generation() && self.dialect == Some(Dialect::K3);
        self.claimed = same_age && self.fresh.is_none();
        let (generation, next) = if self.claimed { (self.generation, self.next) } else { (0, 0) };
        let mut hello = Vec::new();
        wire::write_request(&mut hello, self.trying.has_generation().then_some(generation), next, id);
        self.out.push_copy(&hello);
    }

    /// The handshake was answered.
    pub(super) fn heard_of(&mut self) {
        self.silent = 0;
    }

    /// The link ended without a word, as a primary does on a handshake of another dialect. `true` if one is tried next.
    pub(super) fn unheard_of(&mut self) -> bool {
        let tried = self.trying;
        self.silent += 1;
        let other = |dialect| if dialect == Dialect::K3 { Dialect::K2 } else { Dialect::K3 };
        self.trying = match self.dialect {
            None => other(self.trying),
            Some(known) if self.silent.is_multiple_of(SILENT_LINKS_MAX) => other(known),
            Some(Dialect::K3) => Dialect::K3,
            Some(_) => Dialect::K2,
        };
        self.trying != tried
    }

    /// The link is gone, or was given up. Returns how long the next attempt waits, in milliseconds: not at all if it is
    /// wanted at once and that was not done a moment ago.
    pub(super) fn lost(&mut self, settings: &Upstream, now: u64, at_once: bool) -> u64 {
        // One that ends soon after it began may well do so again, and costs the primary a snapshot each time.
        let good = self.link.is_some() && now.saturating_sub(self.greeted) > GOOD_MS;
        if good {
            self.backoff_ms = settings.backoff_min_ms;
        }
        let again = self.hurried.is_some_and(|hurried| now < hurried + AT_ONCE_EVERY_MS);
        let wait = if at_once && !again { 0 } else { self.backoff_ms };
        if wait == 0 {
            self.hurried = Some(now);
        } else {
            self.backoff_ms = self.backoff_ms.saturating_mul(2).min(settings.backoff_max_ms);
        }
        (self.link, self.scanner, self.out) = (None, None, Outbox::default());
        self.waiting.clear();
        self.phase = Phase::Idle(now + wait);
        if core::mem::take(&mut self.awaits) {
            // To claim place 0 would be to claim that it goes on there.
            self.fresh.get_or_insert_with(|| "the link ended before the snapshot began".into());
        }
        (self.unsaid_since, self.receives_since) = (None, None);
        wait
    }

    /// Whether a stream that is given from its first frame on is all that the shard holds. One that is older than 4.0 begins
    /// its numbers anew when it was killed, and gives the frames since then as if it had not loaded anything. It is asked
    /// again when it has got rid of them: then all that it can give is a snapshot.
    pub(super) fn tells_all(&self) -> bool {
        self.dialect == Some(Dialect::K3) || !self.held || self.emptied || self.received
    }

    /// What the shard holds is known.
    pub(super) fn seeded(&mut self, seed: Seed) {
        (self.seed, self.emptied, self.received) = (Some(seed), false, false);
    }

    /// Whether it follows the stream of the primary.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Tells the primary what was received, where it listens.
    pub(super) fn acknowledge(&mut self) {
        let listens = self.dialect.is_some_and(Dialect::has_heartbeat) && self.out.len() < UNREAD_BYTES_MAX;
        if listens && matches!(self.phase, Phase::Live | Phase::Copying(_) | Phase::Verifying(_)) {
            let mut line = Vec::new();
            wire::write_replconf_ack(&mut line, self.next);
            self.out.push_copy(&line);
        }
    }
}
