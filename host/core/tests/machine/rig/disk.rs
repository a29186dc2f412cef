//! The logs of the views, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use sluicegate_core::backlog::Order;
use sluicegate_core::contract::{Input, LogId, LogOrder, LogReport};
use sluicegate_core::fault::{Fault, Party};

use super::Rig;

/// A disk, and what is the matter with it.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) logs: BTreeMap<LogId, Vec<(u64, Bytes)>>,
    /// It takes nothing more.
    pub(crate) full: bool,
    /// It gives nothing back.
    pub(crate) broken: bool,
    /// It is busy: orders wait.
    pub(crate) busy: bool,
    waiting: Vec<(LogId, LogOrder)>,
    /// Bytes that were read.
    pub(crate) read: usize,
}

impl Disk {
    fn carry_out(&mut self, id: LogId, order: LogOrder) -> Option<LogReport> {
        let own = |what: &str| Fault::new(Party::Own, what);
        match order {
            LogOrder::Keep(Order::Write(..)) if self.full => Some(LogReport::Failed(own("no space left"))),
            LogOrder::Keep(Order::Write(offset, bytes)) => {
                let log = self.logs.entry(id).or_default();
                let end = log.last().map_or(offset, |(start, bytes)| start + bytes.len() as u64);
                assert!(end <= offset, "{id:?} is written to behind {offset}, and ends at {end}");
                let report = LogReport::Written(bytes.len());
                log.push((offset, bytes));
                Some(report)
            }
            LogOrder::Keep(Order::Drop(before)) => {
                let log = self.logs.get_mut(&id).expect("a log begins with a write");
                log.retain(|(start, bytes)| start + bytes.len() as u64 > before);
                None
            }
            LogOrder::Keep(Order::Reset) => {
                self.logs.remove(&id);
                None
            }
            LogOrder::Read { link, offset, max } => {
                assert!(max > 0);
                if self.broken {
                    return Some(LogReport::Bytes(link, offset, Err(own("a bad sector"))));
                }
                let holds = |(start, bytes): &&(u64, Bytes)| (*start..start + bytes.len() as u64).contains(&offset);
                let (start, bytes) = self.logs[&id].iter().find(holds).expect("what is asked for was written");
                let from = (offset - start) as usize;
                let piece = bytes.slice(from..bytes.len().min(from + max));
                self.read += piece.len();
                Some(LogReport::Bytes(link, offset, Ok(piece)))
            }
        }
    }
}

impl Rig {
    pub(super) fn log(&mut self, id: LogId, order: LogOrder) {
        if self.disk.busy {
            return self.disk.waiting.push((id, order));
        }
        if let Some(report) = self.disk.carry_out(id, order) {
            self.handle(Input::Log(id, report));
        }
    }

    /// The disk does what waits for it.
    pub(crate) fn disk_works(&mut self) {
        self.disk.busy = false;
        for (id, order) in std::mem::take(&mut self.disk.waiting) {
            self.log(id, order);
        }
    }
}
