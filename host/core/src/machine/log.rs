//! The logs beneath the views' backlogs: what the shell is to write and to read, and what becomes of it.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use bytes::Bytes;

use super::Machine;
use super::follow::human;
use crate::backlog::Backlog;
use crate::contract::{Level, LinkId, LogId, LogOrder, LogReport, Output};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::replica::{Phase, Replica};
use crate::view::View;

/// The order for what is next for a replica that stands in the log, unless it is waited for already.
pub(super) fn read(link: LinkId, replica: &mut Replica, view: &View) -> Option<Output> {
    let offset = replica.cursor;
    if replica.reading.replace(offset) == Some(offset) {
        return None;
    }
    let order = LogOrder::Read { link, offset, max: wanted(view.backlog(), offset) };
    Some(Output::Log(LogId { view: replica.view, life: view.backlog().log().life() }, order))
}

/// How much of the log behind `offset` a replica is given at once. The log ends where the memory begins.
fn wanted(backlog: &Backlog, offset: u64) -> usize {
    let there = usize::try_from(backlog.start().saturating_sub(offset)).unwrap_or(usize::MAX);
    there.min(limits::PUMP_BYTES_MAX)
}

/// Why a view's snapshot can be given to nobody any more.
pub(super) fn out_of_reach(view: &View) -> String {
    let name = &view.settings().name;
    match view.backlog().log().fault() {
        Some(fault) => format!("the log of view '{name}', which reached back to it, is lost: {fault}"),
        None => format!("the backlog of view '{name}' no longer reaches back to it"),
    }
}

impl Machine {
    /// Hands on what the views want of their logs.
    pub(super) fn order_logs(&mut self) {
        for (index, view) in self.views.iter_mut().enumerate() {
            while let Some((life, order)) = view.log_order() {
                self.outputs.push_back(Output::Log(LogId { view: index, life }, LogOrder::Keep(order)));
            }
        }
    }

    /// Bytes of all views on their way to the disk.
    pub(super) fn unlogged_bytes(&self) -> usize {
        self.views.iter().map(|view| view.backlog().log().unwritten()).sum()
    }

    pub(super) fn log_reported(&mut self, id: LogId, report: LogReport) {
        match report {
            LogReport::Written(bytes) => {
                if let Some(view) = self.views.get_mut(id.view) {
                    view.log_written(id.life, bytes);
                }
            }
            LogReport::Failed(fault) => self.log_failed(id, &fault),
            LogReport::Bytes(link, offset, outcome) => match outcome {
                Ok(bytes) if !bytes.is_empty() => self.log_read(id, link, offset, bytes),
                Ok(_) => {
                    let what = format!("the log has nothing behind offset {offset}, which it was given");
                    self.log_failed(id, &Fault::new(Party::Own, what));
                }
                Err(fault) => self.log_failed(id, &fault),
            },
        }
    }

    /// What a replica waited for. An answer that is late is for nobody: its replica is gone.
    fn log_read(&mut self, id: LogId, link: LinkId, offset: u64, bytes: Bytes) {
        let Some(backlog) = self.views.get(id.view).map(View::backlog) else { return };
        let waits = |replica: &&mut Replica| replica.view == id.view && replica.cursor == offset;
        let Some(replica) = self.replicas.get_mut(&link).filter(waits) else { return };
        if backlog.log().life() == id.life && replica.reading.take_if(|reading| *reading == offset).is_some() {
            let bytes = bytes.slice(..wanted(backlog, offset).min(bytes.len()));
            match &mut replica.packing {
                Some(packing) => {
                    packing.under_way = bytes.len();
                    self.outputs.push_back(Output::Pack { link, view: id.view, raw: vec![bytes] });
                }
                None => {
                    replica.cursor += bytes.len() as u64;
                    replica.outbox.push(bytes);
                }
            }
        }
    }

    /// Logs that were lost begin anew when their time has come.
    pub(super) fn retry_logs(&mut self) {
        let now = self.now.mono_ms;
        let due = |(_, since): &mut (usize, u64)| now >= *since + limits::LOG_RETRY_MS;
        for (index, _) in self.lost_logs.extract_if(.., due) {
            if let Some(view) = self.views.get_mut(index) {
                view.log_anew();
            }
        }
    }

    /// The disk fails: what is there is lost, and nothing can be kept there for now.
    fn log_failed(&mut self, id: LogId, fault: &Fault) {
        let Some(view) = self.views.get_mut(id.view) else { return };
        let held = view.backlog().log().bytes();
        if !view.log_failed(id.life, fault) {
            return;
        }
        let text = format!(
            "the log of view '{}', {} of its stream, is lost: {fault}; replicas that need it are closed, and it begins \
             anew in {} s",
            view.settings().name,
            human(held),
            limits::LOG_RETRY_MS / 1000,
        );
        self.lost_logs.push((id.view, self.now.mono_ms));
        self.note(Level::Error, "log-failed", text);
    }

    /// A reader whose next byte is no longer kept.
    pub(super) fn fell_behind(&mut self, link: LinkId) {
        let Some(replica) = self.replicas.get(&link) else { return };
        let Some(backlog) = self.views.get(replica.view).map(View::backlog) else { return };
        let during = match (backlog.log().fault(), replica.phase) {
            (Some(fault), _) => format!("what it needed of the log is lost: {fault}"),
            (None, Phase::Streaming) => "it is slower than the stream".into(),
            (None, _) => "its snapshot took too long".into(),
        };
        let text = format!(
            "replica {} of view '{}' fell out of the backlog of {} in memory and {} on disk: {during}; it is closed and needs \
             a snapshot (view.backlog.memory, view.backlog.disk)",
            replica.peer,
            self.view_name(replica.view),
            human(backlog.budget() as u64),
            human(backlog.log().budget()),
        );
        self.note(Level::Warn, "replica-behind", text);
        self.close(link);
    }
}
