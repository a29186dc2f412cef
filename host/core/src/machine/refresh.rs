//! Newer snapshots of the history that is followed, taken on a connection of their own while the stream goes on.
//!
//! A view takes such a snapshot for its base if it stood exactly at the snapshot's place when its stream passed there: nothing
//! held back, no transaction open. A view that did not keeps the base that it has.

mod link;
mod watch;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::follow::human;
use super::segment::summary_of;
use super::{Arriving, Machine, Spooled};
use crate::contract::{Level, LinkId, Output, SpoolId};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::outbox::Outbox;
use crate::rdb::Summary;
use crate::settings::{RefreshSettings, Settings};
use crate::snapshot::{Contents, Origin};
use crate::upstream::{self, Phase, Upstream};
use crate::view::{Base, State};

pub(super) use watch::Watch;

/// Which port the shell is asked to dial for it.
pub(super) const REFRESH_PORT: usize = 2;

/// The connection, and how far the snapshot on it is.
#[derive(Debug)]
pub(super) struct Refresh {
    settings: RefreshSettings,
    upstream: Upstream,
    pub(super) link: Option<LinkId>,
    pub(super) out: Outbox,
    pub(super) arriving: Option<Arriving>,
    /// All of it is there; it may wait for the stream to reach its place.
    verified: Option<(SpoolId, Summary)>,
    pub(super) watch: Watch,
    /// Why a newer snapshot is wanted, in words.
    wanted: Option<String>,
    /// The primary was asked for it: an attempt from here on may cost it a fork.
    asked: bool,
    /// No attempt before this time. Milliseconds.
    not_before: u64,
    /// Nor before this one, whoever waits for it.
    not_earlier: u64,
    /// For each view: the last attempt gave it a snapshot that replicas can begin at.
    served: Vec<bool>,
    /// Attempts in a row that served not every view.
    failures: u32,
    /// For each view: snapshots in a row that had no place in it.
    misses: Vec<u32>,
}

impl Refresh {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.refresh,
            upstream: Upstream::for_snapshots(settings.upstream.clone()),
            link: None,
            out: Outbox::default(),
            arriving: None,
            verified: None,
            watch: Watch::default(),
            wanted: None,
            asked: false,
            not_before: 0,
            not_earlier: 0,
            served: vec![false; settings.views.len()],
            failures: 0,
            misses: vec![0; settings.views.len()],
        }
    }

    fn is_running(&self) -> bool {
        !matches!(self.upstream.phase(), Phase::Idle(_)) || self.verified.is_some()
    }

    /// The state, as INFO names it.
    pub(super) fn state(&self) -> &'static str {
        match self.upstream.phase() {
            _ if self.verified.is_some() => "waiting",
            Phase::Idle(_) if self.wanted.is_some() => "wanted",
            Phase::Idle(_) => "idle",
            Phase::Dialing => "connecting",
            Phase::Copying(_) | Phase::Verifying => "sync",
            _ => "handshake",
        }
    }

    /// Whether what the primary says on the connection is wanted now.
    pub(super) fn wants_read(&self) -> bool {
        let unwritten = self.arriving.as_ref().map_or(0, |arriving| arriving.unwritten);
        self.upstream.phase() != Phase::Verifying && unwritten < limits::SPOOL_UNWRITTEN_BYTES_MAX
    }

    /// When the next attempt may be made: in so many milliseconds.
    fn wait(&self, now: u64) -> u64 {
        let idle = if let Phase::Idle(at) = self.upstream.phase() { at } else { now };
        idle.max(self.not_before).saturating_sub(now)
    }

    /// The attempt served not every view: the next one is made later than after one that did.
    fn hold_off(&mut self, now: u64) {
        self.failures += 1;
        let times = 1 << self.failures.min(limits::REFRESH_BACKOFF_MAX);
        self.not_before = now.saturating_add(self.settings.every_ms.saturating_mul(times));
    }
}

impl Machine {
    /// A newer snapshot is needed for a replica of this view, as soon as it may be asked for.
    pub(super) fn want_refresh(&mut self, view: usize, why: &str) {
        if self.refresh.served.get(view) == Some(&true) {
            // It was for other views that the last one came to nothing.
            self.refresh.not_before = self.refresh.not_before.min(self.refresh.not_earlier);
        }
        if self.follow.is_some() && self.refresh.wanted.is_none() && !self.refresh.is_running() {
            self.refresh.wanted = Some(why.into());
        }
    }

    /// Whether snapshots on a connection of their own cannot help a view.
    pub(super) fn refreshes_miss(&self, view: usize) -> bool {
        self.refresh.misses.get(view).is_some_and(|&misses| misses >= limits::REFRESH_MISSES_MAX)
    }

    /// A spooled snapshot is not what was written: no replica begins there any more.
    pub(super) fn spool_damaged(&mut self, id: SpoolId, what: &str) {
        let needs = |view: &&mut crate::view::View| view.base().is_some_and(|base| base.spool == id);
        if self.views.iter_mut().filter(needs).map(|view| view.lose_base()).count() > 0 {
            let text = format!("the spooled snapshot {} is damaged: {what}; a new one is asked for", id.0);
            self.note(Level::Error, "snapshot-damaged", text);
            self.keep_spools();
            self.enqueue_again();
        }
    }

    /// Lists the snapshots that replicas may begin at, and the one that waits for its place.
    pub(super) fn keep_spools(&mut self) {
        let views = &self.views;
        self.spools.retain(|spooled| views.iter().any(|view| view.base().is_some_and(|base| base.spool == spooled.id)));
        let waiting = self.refresh.verified.iter().map(|(id, _)| *id);
        let ids = self.spools.iter().map(|spooled| spooled.id).chain(waiting).collect();
        // An older list that the shell has not seen yet may lack what has come since.
        self.outputs.retain(|output| !matches!(output, Output::SpoolKeep(_)));
        self.outputs.push_back(Output::SpoolKeep(ids));
    }

    /// Time has passed.
    pub(super) fn tick_refresh(&mut self) {
        let now = self.now.mono_ms;
        if self.refresh.upstream.is_overdue(now) {
            let silent = self.settings.upstream.timeout_ms;
            self.refresh_failed(&Fault::new(
                Party::Upstream,
                format!("the primary was silent for more than {silent} ms"),
            ));
        }
        if self.stopping || self.upstream.phase() != upstream::Phase::Streaming || self.refresh.is_running() {
            return;
        }
        if self.refresh.wanted.is_none() {
            self.refresh.wanted = self.refresh_due();
        }
        if self.refresh.wanted.is_some() && self.refresh.wait(now) == 0 {
            self.refresh.asked = false;
            self.refresh.upstream.dialing(now);
            self.outputs.push_back(Output::Dial(REFRESH_PORT));
        }
    }

    /// Why it is time for a newer snapshot, if it is.
    fn refresh_due(&self) -> Option<String> {
        let RefreshSettings { log_bytes, age_ms, .. } = self.refresh.settings;
        self.views.iter().filter(|view| *view.state() == State::Live).find_map(|view| {
            let name = &view.settings().name;
            let Some(base) = view.base() else { return Some(format!("view '{name}' has no snapshot")) };
            if log_bytes > 0 && view.log_bytes() > log_bytes {
                let bytes = human(view.log_bytes());
                return Some(format!("{bytes} of view '{name}' stand behind its snapshot (snapshot.refresh_log)"));
            }
            let since = self.spools.iter().find(|spooled| spooled.id == base.spool).map(|spooled| spooled.since);
            let age = since.map_or(0, |since| self.now.mono_ms.saturating_sub(since));
            let old = age_ms > 0 && age > age_ms;
            old.then(|| format!("the snapshot of view '{name}' is {} s old (snapshot.refresh_age)", age / 1000))
        })
    }

    /// Looks at where the stream stands now, if that is behind a whole frame, outside any transaction.
    pub(super) fn watch_the_end(&mut self) {
        let Some(follow) = self.follow.as_ref().filter(|follow| !follow.in_transaction) else { return };
        self.refresh.watch.pass(follow.applied, &self.views);
        if self.refresh.watch.is_passed(follow.applied) {
            self.refresh_missed(&vec![true; self.views.len()]);
            let what =
                "no command of its stream begins where its snapshot stands, and the stream has passed that place";
            self.drop_refresh(&Fault::new(Party::Upstream, what));
        }
    }

    pub(super) fn refresh_spooled(&mut self, id: SpoolId, outcome: Result<Contents, Fault>) {
        self.refresh.arriving = None;
        let summary = match summary_of(outcome) {
            Ok(summary) => summary,
            Err(fault) => return self.refresh_failed(&fault),
        };
        self.refresh.upstream.snapshot_complete();
        if self.refresh.upstream.phase() != Phase::Verifying {
            let fault = Fault::new(Party::Upstream, "snapshot: it ends before the length that was announced");
            self.keep_spools();
            return self.refresh_failed(&fault);
        }
        let format = self.follow.as_ref().map(|follow| follow.format);
        if format.is_some_and(|format| format != (summary.family, summary.version)) {
            // Replicas were let in by the format of the segment's first snapshot.
            let what = format!("its snapshot is of another format: {:?} RDB {}", summary.family, summary.version);
            self.refresh_missed(&vec![true; self.views.len()]);
            self.keep_spools();
            return self.refresh_failed(&Fault::new(Party::Upstream, what));
        }
        self.hang_up_refresh();
        self.refresh.upstream = Upstream::for_snapshots(self.settings.upstream.clone());
        self.refresh.verified = Some((id, summary));
        self.keep_spools();
        self.adopt_refresh();
    }

    /// Gives views the newer snapshot, once it is there and the stream has reached its place.
    pub(super) fn adopt_refresh(&mut self) {
        let Watch::For(upstream, Some(mark)) = &self.refresh.watch else { return };
        let (upstream, Some((id, summary)), Some(follow)) = (*upstream, self.refresh.verified.take(), &self.follow)
        else {
            return;
        };
        let (history, cause) = (follow.id, self.refresh.wanted.take().unwrap_or_default());
        let mut missed = vec![false; self.views.len()];
        let mut late = missed.clone();
        for (((view, place), missed), late) in self.views.iter_mut().zip(&mark.places).zip(&mut missed).zip(&mut late) {
            // What a view waited for there may have come since, with nothing behind it.
            match place.or_else(|| view.place(upstream)) {
                Some((offset, stream_db)) => view.rebase(Base { spool: id, offset, stream_db }),
                None => *missed = *view.state() == State::Live,
            }
            *late = *view.state() == State::Live && !*missed && !view.reaches_snapshot();
        }
        self.refresh.watch = Watch::Nothing;
        self.refresh.served = missed.iter().zip(&late).map(|(missed, late)| !missed && !late).collect();
        self.refresh_missed(&missed);
        match missed.contains(&true) || late.contains(&true) {
            true => self.refresh.hold_off(self.now.mono_ms),
            false => self.refresh.failures = 0,
        }
        let text = format!(
            "a newer snapshot is there: {} keys, {}, at offset {upstream}; cause: {cause}{}{}",
            summary.keys,
            human(summary.bytes),
            self.names_of(&missed, "views that waited for values there keep the older one"),
            self.names_of(
                &late,
                "the backlog no longer reaches back to it (view.backlog.memory, view.backlog.disk) in views"
            )
        );
        self.note(Level::Info, "refresh-done", text);
        self.stats.refreshes += 1;
        let origin = Origin { history, offset: upstream, summary };
        self.spools.push(Spooled { id, origin: origin.clone(), since: self.now.mono_ms });
        self.keep_spools();
        if self.spools.last().is_some_and(|spooled| spooled.id == id) {
            self.outputs.push_back(Output::SpoolDescribe(id, origin));
        }
        self.enqueue_again();
    }

    /// Counts the views that the snapshot has no place in.
    fn refresh_missed(&mut self, missed: &[bool]) {
        for (misses, missed) in self.refresh.misses.iter_mut().zip(missed) {
            *misses = if *missed { *misses + 1 } else { 0 };
        }
    }

    fn names_of(&self, these: &[bool], what: &str) -> String {
        let names = self.views.iter().zip(these).filter(|(_, this)| **this);
        let names: Vec<&str> = names.map(|(view, _)| view.settings().name.as_str()).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("; {what}: {}", names.join(", ")),
        }
    }

    /// The attempt has come to nothing. The snapshots at hand stay.
    pub(super) fn refresh_failed(&mut self, fault: &Fault) {
        self.hang_up_refresh();
        self.refresh.watch = Watch::Nothing;
        self.refresh.upstream.lost(self.now.mono_ms, false);
        if core::mem::take(&mut self.refresh.asked) {
            self.refresh.hold_off(self.now.mono_ms);
        }
        let wait = self.refresh.wait(self.now.mono_ms);
        let text =
            format!("no newer snapshot: {fault}; the older one stays; next attempt in {wait} ms, if it is needed");
        self.note(Level::Warn, "refresh-failed", text);
    }

    /// The stream goes on under another id, from `read` on: a place beyond that was one of another future.
    pub(super) fn refresh_renamed(&mut self, read: u64) {
        if self.refresh.watch.is_cut_off(read) {
            self.refresh_dropped("the primary has failed over before the snapshot's place was reached");
        }
    }

    /// What is under way is of no use any more.
    pub(super) fn refresh_dropped(&mut self, why: &str) {
        self.drop_refresh(&Fault::new(Party::Own, why));
    }

    fn drop_refresh(&mut self, fault: &Fault) {
        if self.refresh.is_running() {
            if self.refresh.verified.take().is_some() {
                self.keep_spools();
            }
            self.refresh_failed(fault);
        }
    }

    /// Nothing of the segment goes on.
    pub(super) fn forget_refresh(&mut self) {
        self.refresh_dropped("the primary no longer continues the history");
        self.refresh.wanted = None;
        self.refresh.failures = 0;
        self.refresh.misses.fill(0);
    }
}
