//! The second connection to the primary: values of single keys for the views that wait for them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Machine;
use super::acks::held_back_from;
use crate::contract::{Level, LinkId, Output};
use crate::fault::Fault;
use crate::fetch::{Answer, Fetched, Fetcher, Phase, Value, Wanted};
use crate::limits;
use crate::outbox::Outbox;
use crate::settings::Settings;
use crate::upstream;
use crate::view::View;

/// Which port the shell is asked to dial for it.
pub(super) const FETCH_PORT: usize = 1;
/// How long to wait when the primary cannot answer now. Milliseconds.
const NOT_NOW_MS: u64 = 100;

/// The connection, and whose values are on their way.
#[derive(Debug)]
pub(super) struct Repair {
    fetcher: Fetcher,
    pub(super) link: Option<LinkId>,
    pub(super) out: Outbox,
    /// The views that wait, and for which keys.
    orders: Vec<(usize, Vec<Wanted>)>,
    /// Views that ask by themselves first: an order of theirs together was refused.
    alone: Vec<usize>,
    /// The view that asks first where not all can.
    first: usize,
    /// Keys of the next order at most, and the bytes that an order may bring.
    keys_max: usize,
    bytes_max: usize,
    /// Why no values came the last time, in words; empty if they did.
    trouble: String,
    /// Not before this time; milliseconds.
    not_before: u64,
    fetches: u64,
    ticked: u64,
}

impl Repair {
    pub(super) fn new(settings: &Settings, now: u64) -> Self {
        let value = settings.views.iter().map(|view| view.repair.value_bytes_max).max().unwrap_or(0);
        let order = settings.views.iter().map(|view| view.repair.window_bytes_max).max().unwrap_or(0);
        let mut upstream = settings.upstream.clone();
        upstream.timeout_ms = upstream.timeout_ms.min(limits::FETCH_TIMEOUT_MS);
        Self {
            fetcher: Fetcher::new(upstream, value, order.max(value)),
            first: 0,
            keys_max: limits::FETCH_KEYS_FIRST,
            bytes_max: order.max(value),
            link: None,
            out: Outbox::default(),
            orders: Vec::new(),
            alone: Vec::new(),
            trouble: String::new(),
            not_before: 0,
            fetches: 0,
            ticked: now,
        }
    }

    /// Values that were fetched, in how many turns.
    pub(super) fn fetches(&self) -> u64 {
        self.fetches
    }

    /// How many keys are on their way.
    fn ordered(&self) -> usize {
        self.orders.iter().map(|(_, wanted)| wanted.len()).sum()
    }

    /// Values came: how many keys the next order may have.
    fn learn(&mut self, fetched: &Fetched) {
        let bytes: usize = fetched.values.iter().flatten().map(|value| value.payload.len()).sum();
        let keys = fetched.values.len();
        self.keys_max = match bytes > self.bytes_max / 4 {
            true => (keys / 2).max(1),
            false => self.keys_max.max(2 * keys).min(limits::FETCH_KEYS_MAX),
        };
    }
}

impl Machine {
    /// Fetches what the views wait for, once the last order is done.
    pub(super) fn order_values(&mut self) {
        let now = self.now.mono_ms;
        if !self.repair.orders.is_empty()
            || now < self.repair.not_before
            || self.upstream.phase() != upstream::Phase::Streaming
        {
            return;
        }
        while let (true, Some(index)) = (self.repair.orders.is_empty(), self.repair.alone.pop()) {
            self.ask_view(index);
        }
        if self.repair.orders.is_empty() {
            let (first, views) = (self.repair.first, self.views.len());
            (first..views).chain(0..first.min(views)).for_each(|index| self.ask_view(index));
        }
        let Some((last, _)) = self.repair.orders.last() else { return };
        self.repair.first = last + 1;
        let wanted = self.repair.orders.iter().flat_map(|(_, wanted)| wanted.iter().cloned()).collect();
        let mut out = Vec::new();
        self.repair.fetcher.order(wanted, now, &mut out);
        self.repair.out.push_copy(&out);
        self.dial_for_values();
    }

    /// Adds to the next order what a view waits for.
    fn ask_view(&mut self, index: usize) {
        let room = self.repair.keys_max.saturating_sub(self.repair.ordered());
        let wanted = self.views.get_mut(index).map(|view| view.asks(room, self.now.mono_ms)).unwrap_or_default();
        if !wanted.is_empty() {
            self.repair.orders.push((index, wanted));
        }
    }

    /// Asks the shell for the connection, if it is needed and time for it.
    pub(super) fn dial_for_values(&mut self) {
        let now = self.now.mono_ms;
        if let Phase::Idle(at) = self.repair.fetcher.phase()
            && now >= at
            && !self.repair.orders.is_empty()
            && !self.stopping
        {
            self.repair.fetcher.dialing(now);
            self.outputs.push_back(Output::Dial(FETCH_PORT));
        }
    }

    pub(super) fn values_connected(&mut self, link: LinkId) {
        if self.repair.fetcher.phase() != Phase::Dialing {
            self.outputs.push_back(Output::Close(link));
            return;
        }
        let mut out = Vec::new();
        self.repair.fetcher.connected(self.now.mono_ms, &mut out);
        self.repair.link = Some(link);
        self.repair.out = Outbox::default();
        self.repair.out.push_copy(&out);
    }

    /// An attempt has failed; if it had been given up before, another is under way or has come through.
    pub(super) fn values_dial_failed(&mut self, why: &str) {
        if self.repair.fetcher.phase() == Phase::Dialing {
            self.values_lost(why);
        }
    }

    /// The connection is gone, or could not be made. What was asked is asked again on the next one.
    pub(super) fn values_lost(&mut self, why: &str) {
        self.repair.link = None;
        self.repair.out = Outbox::default();
        let wait = self.repair.fetcher.lost(self.now.mono_ms);
        self.repair.trouble = format!("the connection for values: {why}");
        let level = if self.repair.orders.is_empty() { Level::Debug } else { Level::Warn };
        let text =
            format!("the primary's connection for single values: {why}; next attempt in {wait} ms, when it is needed");
        self.note(level, "values-lost", text);
    }

    /// The primary's answers.
    pub(super) fn values_said(&mut self, bytes: &[u8]) {
        let mut out = Vec::new();
        let heard = self.repair.fetcher.push(bytes, self.now.mono_ms, &mut out);
        self.repair.out.push_copy(&out);
        match heard {
            Ok(None) => {}
            Ok(Some(Answer::Fetched(fetched))) => self.values_came(fetched),
            Ok(Some(Answer::NotNow(why))) => self.values_not_now(&why),
            Ok(Some(Answer::TooMany(why))) => self.values_too_many(&why),
            Ok(Some(Answer::Refused(fault))) => self.values_refused(&fault),
            Err(fault) => self.drop_values_link(&format!("{fault}")),
        }
    }

    /// Closes the connection on our own account.
    fn drop_values_link(&mut self, why: &str) {
        if let Some(link) = self.repair.link.take() {
            self.outputs.push_back(Output::Close(link));
        }
        self.values_lost(why);
    }

    fn values_came(&mut self, fetched: Fetched) {
        let follows = self.follow.as_ref().is_some_and(|follow| follow.id == fetched.id);
        if !follows {
            let id = fetched.id.short();
            return self
                .values_not_now(&format!("its values are of the history {id}, which is not the one that is followed"));
        }
        self.repair.fetches += 1;
        self.repair.learn(&fetched);
        self.repair.trouble.clear();
        let mut values = fetched.values.into_iter();
        for (index, wanted) in core::mem::take(&mut self.repair.orders) {
            let mine: Vec<(Wanted, Option<Value>)> = wanted.into_iter().zip(values.by_ref()).collect();
            let now = self.now.mono_ms;
            self.or_halted(index, |view| view.fetched(fetched.fence, mine, now));
        }
        let held = held_back_from(&self.views);
        if self.ack_owed.is_some_and(|owed| held.is_none_or(|held| held >= owed)) {
            self.acknowledge();
        }
        self.order_values();
    }

    /// The primary cannot answer now: the views ask again a little later, and on another link. Behind a failover this one may
    /// lead to a server that is no primary any more, and would go on to do so.
    fn values_not_now(&mut self, why: &str) {
        self.note(Level::Debug, "values-not-now", format!("values are asked for again in {NOT_NOW_MS} ms: {why}"));
        self.repair.not_before = self.now.mono_ms + NOT_NOW_MS;
        self.forget_orders();
        self.drop_values_link("closed, to be made again");
        self.repair.trouble = why.into();
    }

    /// It never will: a view that waits for these values cannot be kept right. Where several do, each asks again by itself:
    /// what is refused is a key of one of them.
    fn values_refused(&mut self, fault: &Fault) {
        if self.repair.orders.len() > 1 {
            self.repair.alone = self.repair.orders.iter().map(|(index, _)| *index).collect();
            self.forget_orders();
        }
        for (index, _) in core::mem::take(&mut self.repair.orders) {
            if let Some(view) = self.views.get_mut(index) {
                view.halt(fault.clone());
            }
            self.view_halted(index, fault);
        }
        self.close_spent_link();
        self.order_values();
    }

    /// The values are too many bytes together: the views ask for fewer keys at once.
    fn values_too_many(&mut self, why: &str) {
        self.repair.keys_max = (self.repair.ordered() / 2).max(1);
        self.note(Level::Debug, "values-too-many", format!("values are asked for again in smaller orders: {why}"));
        self.forget_orders();
        self.close_spent_link();
        self.order_values();
    }

    fn close_spent_link(&mut self) {
        if self.repair.fetcher.phase() == Phase::Spent {
            self.drop_values_link("closed");
        }
    }

    /// What has been asked for belongs to a stream that has been cut, or will not come.
    pub(super) fn forget_orders(&mut self) {
        self.repair.fetcher.cancel();
        self.repair.orders.clear();
        for index in 0..self.views.len() {
            self.or_halted(index, View::forget_question);
        }
    }

    /// Does something with a view that may halt it.
    fn or_halted(&mut self, index: usize, what: impl FnOnce(&mut View) -> Result<(), Fault>) {
        if let Some(Err(fault)) = self.views.get_mut(index).map(what) {
            self.view_halted(index, &fault);
        }
    }

    /// Time has passed.
    pub(super) fn tick_values(&mut self) {
        let now = self.now.mono_ms;
        let passed = now.saturating_sub(core::mem::replace(&mut self.repair.ticked, now));
        // While this program is stopped, the primary cannot answer.
        let passed = passed.min(limits::FETCH_TIMEOUT_MS);
        if self.repair.fetcher.is_overdue(now) {
            // If that is because so much was asked for, less is answered sooner.
            self.repair.keys_max = (self.repair.keys_max / 2).max(1);
            self.drop_values_link("no answer");
        }
        if self.upstream.phase() == upstream::Phase::Streaming {
            let trouble = core::mem::take(&mut self.repair.trouble);
            for index in 0..self.views.len() {
                self.or_halted(index, |view| view.waits(passed, &trouble));
            }
            self.repair.trouble = trouble;
        }
        self.order_values();
        self.dial_for_values();
    }
}
