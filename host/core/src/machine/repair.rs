//! The second connection to the primary: values of single keys for the views that wait for them.

use alloc::format;
use alloc::vec::Vec;

use super::Machine;
use super::follow::{held_back_from, settle};
use crate::contract::{Level, LinkId, Output};
use crate::fault::Fault;
use crate::fetch::{Answer, Fetched, Fetcher, Phase, Value, Wanted};
use crate::limits;
use crate::outbox::Outbox;
use crate::settings::Settings;
use crate::upstream;

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
            link: None,
            out: Outbox::default(),
            orders: Vec::new(),
            not_before: 0,
            fetches: 0,
            ticked: now,
        }
    }

    /// Values that were fetched, in how many turns.
    pub(super) fn fetches(&self) -> u64 {
        self.fetches
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
        let asked = self.views.iter_mut().enumerate().map(|(index, view)| (index, view.asks(now)));
        self.repair.orders = asked.filter(|(_, wanted)| !wanted.is_empty()).collect();
        if self.repair.orders.is_empty() {
            return;
        }
        let wanted = self.repair.orders.iter().flat_map(|(_, wanted)| wanted.iter().cloned()).collect();
        let mut out = Vec::new();
        self.repair.fetcher.order(wanted, now, &mut out);
        self.repair.out.push_copy(&out);
        self.dial_for_values();
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

    /// The connection is gone, or could not be made. What was asked is asked again on the next one.
    pub(super) fn values_lost(&mut self, why: &str) {
        self.repair.link = None;
        self.repair.out = Outbox::default();
        let wait = self.repair.fetcher.lost(self.now.mono_ms);
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
            Ok(Some(Answer::Refused(fault, key))) => self.values_refused(&fault, key.as_ref()),
            Err(fault) => {
                self.close_values_link();
                self.values_lost(&format!("{fault}"));
            }
        }
    }

    fn close_values_link(&mut self) {
        if let Some(link) = self.repair.link.take() {
            self.outputs.push_back(Output::Close(link));
        }
    }

    fn values_came(&mut self, fetched: Fetched) {
        let follows = self.follow.as_ref().is_some_and(|follow| follow.id == fetched.id);
        if !follows {
            let id = fetched.id.short();
            return self
                .values_not_now(&format!("its values are of the history {id}, which is not the one that is followed"));
        }
        self.repair.fetches += 1;
        let mut values = fetched.values.into_iter();
        for (index, wanted) in core::mem::take(&mut self.repair.orders) {
            let mine: Vec<(Wanted, Option<Value>)> = wanted.into_iter().zip(values.by_ref()).collect();
            let taken = self.views.get_mut(index).map(|view| view.fetched(fetched.fence, mine, self.now.mono_ms));
            if let Some(Err(fault)) = taken {
                self.view_halted(index, &fault);
            }
        }
        self.settle_views();
        if self.ack_owed && held_back_from(&self.views).is_none() {
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
        self.close_values_link();
        self.values_lost("closed");
    }

    /// It never will: the views that wait cannot be kept right. Where it is about one key, those that do not want it ask
    /// again: it may be one that they do not have, and then its name is none of their replicas' business.
    fn values_refused(&mut self, fault: &Fault, key: Option<&Wanted>) {
        let orders = core::mem::take(&mut self.repair.orders);
        for (index, _) in orders.into_iter().filter(|(_, wanted)| key.is_none_or(|key| wanted.contains(key))) {
            if let Some(view) = self.views.get_mut(index) {
                view.halt(fault.clone());
            }
            self.view_halted(index, fault);
        }
        if self.repair.fetcher.phase() == Phase::Spent {
            self.close_values_link();
            self.values_lost("closed");
        }
        self.forget_orders();
        self.order_values();
    }

    /// What has been asked for belongs to a stream that has been cut, or will not come.
    pub(super) fn forget_orders(&mut self) {
        self.repair.fetcher.cancel();
        self.repair.orders.clear();
        for index in 0..self.views.len() {
            if let Some(Err(fault)) = self.views.get_mut(index).map(|view| view.forget_question()) {
                self.view_halted(index, &fault);
            }
        }
        self.settle_views();
    }

    /// A view that holds nothing back any more is where the stream is.
    fn settle_views(&mut self) {
        if let Some(follow) = &self.follow {
            settle(&mut self.views, follow.applied);
        }
    }

    /// Time has passed.
    pub(super) fn tick_values(&mut self) {
        let now = self.now.mono_ms;
        let passed = now.saturating_sub(core::mem::replace(&mut self.repair.ticked, now));
        if self.repair.fetcher.is_overdue(now) {
            self.close_values_link();
            self.values_lost("no answer");
        }
        if self.upstream.phase() == upstream::Phase::Streaming {
            for index in 0..self.views.len() {
                if let Some(Err(fault)) = self.views.get_mut(index).map(|view| view.waits(passed)) {
                    self.view_halted(index, &fault);
                }
            }
        }
        self.order_values();
        self.dial_for_values();
    }
}
