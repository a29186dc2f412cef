//! The disk beneath the backlogs: slow, sometimes full, sometimes damaged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sluicegate_core::backlog::Order;
use sluicegate_core::contract::{LogId, LogOrder, LogReport};
use sluicegate_core::fault::{Fault, Party};

use super::plant::Plant;
use super::rng::Rng;

/// All logs, and what waits for them.
#[derive(Debug, Default)]
pub struct Disk {
    logs: BTreeMap<LogId, VecDeque<(u64, Bytes)>>,
    waiting: VecDeque<(LogId, LogOrder)>,
    /// Nothing more can be written.
    pub full: bool,
    /// What is read next cannot be read.
    pub damaged: bool,
    /// Times that something was read.
    pub reads: u64,
    /// Times that it failed.
    pub failures: u64,
}

impl Disk {
    /// An order, to be carried out when its turn comes.
    pub fn order(&mut self, id: LogId, order: LogOrder) {
        self.waiting.push_back((id, order));
    }

    /// Carries out the next order, if there is one.
    pub fn work(&mut self, rng: &mut Rng, plant: Option<&mut Plant>) -> Option<(LogId, LogReport)> {
        let (id, order) = self.waiting.pop_front()?;
        let report = match order {
            LogOrder::Keep(Order::Write(offset, bytes)) => self.write(id, offset, bytes),
            LogOrder::Keep(Order::Drop(before)) => {
                self.logs
                    .entry(id)
                    .or_default()
                    .retain(|(offset, bytes)| rng.permille(100) || offset + bytes.len() as u64 > before);
                return None;
            }
            LogOrder::Keep(Order::Reset) => {
                self.logs.remove(&id);
                return None;
            }
            LogOrder::Read { link, offset, max } => {
                let shift = u64::from(plant.is_some_and(Plant::misreads_a_log));
                LogReport::Bytes(link, offset, self.read(id, offset + shift, max, rng))
            }
        };
        Some((id, report))
    }

    fn write(&mut self, id: LogId, offset: u64, bytes: Bytes) -> LogReport {
        if std::mem::take(&mut self.full) {
            self.failures += 1;
            return LogReport::Failed(Fault::new(Party::Own, "no space left on device"));
        }
        let log = self.logs.entry(id).or_default();
        let end = log.back().map_or(offset, |(offset, bytes)| offset + bytes.len() as u64);
        assert!(end <= offset, "a log that ends at {end} is written to behind {offset}");
        let written = bytes.len();
        log.push_back((offset, bytes));
        LogReport::Written(written)
    }

    fn read(&mut self, id: LogId, offset: u64, max: usize, rng: &mut Rng) -> Result<Bytes, Fault> {
        if std::mem::take(&mut self.damaged) {
            self.failures += 1;
            return Err(Fault::new(Party::Own, "the log is damaged"));
        }
        self.reads += 1;
        let log = self.logs.get(&id).into_iter().flatten();
        let mut behind = log.skip_while(|(start, bytes)| start + bytes.len() as u64 <= offset);
        let piece = behind.next().filter(|(start, _)| *start <= offset);
        // What it failed to write it does not have.
        let (start, bytes) = piece.ok_or_else(|| Fault::new(Party::Own, "the log was given up"))?;
        let from = (offset - start) as usize;
        let most = rng.portion((bytes.len() - from).min(max));
        Ok(bytes.slice(from..from + most))
    }
}
