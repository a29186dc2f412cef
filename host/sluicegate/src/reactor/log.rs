//! The logs beneath the views' backlogs, on disk: one thread writes and reads them all, in the order of what it is told.
//!
//! A log is a row of files ([`Part`]). It lives as long as its history, at most as long as the process: nothing is synced, and
//! what an earlier process left behind is removed.

mod part;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context;
use bytes::Bytes;
use sluicegate_core::backlog::Order;
use sluicegate_core::contract::{LogId, LogOrder, LogReport};
use sluicegate_core::fault::{Fault, Party};

use super::{Event, Reports};
use part::{Part, RECORD_BYTES_MAX};

/// A file that has reached this size is followed by another: what is dropped goes by the file.
const PART_BYTES: u64 = 64 << 20;

/// The way to the thread that keeps the logs.
pub(super) struct Logs {
    dir: PathBuf,
    reports: Reports,
    /// To the thread, once there is one.
    orders: Option<Sender<(LogId, LogOrder)>>,
    /// Nothing more is to be written.
    over: Arc<AtomicBool>,
}

impl Logs {
    /// Removes what an earlier process left behind: its histories have ended with it.
    pub(super) fn new(dir: PathBuf, reports: Reports) -> anyhow::Result<Self> {
        remove_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        Ok(Self { dir, reports, orders: None, over: Arc::default() })
    }

    /// Hands on an order. What is under way is bounded by the core: it stops reading until it is written.
    pub(super) fn order(&mut self, id: LogId, order: LogOrder) {
        let unsent = match self.thread() {
            Ok(orders) => match orders.send((id, order)) {
                Ok(()) => return,
                Err(unsent) => (unsent.0.1, "the thread that keeps the logs has ended".into()),
            },
            Err(error) => (order, format!("no thread to keep the logs: {error}")),
        };
        let fault = Fault::new(Party::Own, unsent.1);
        let report = match unsent.0 {
            LogOrder::Keep(Order::Write(..)) => LogReport::Failed(fault),
            LogOrder::Read { link, offset, .. } => LogReport::Bytes(link, offset, Err(fault)),
            LogOrder::Keep(Order::Drop(_) | Order::Reset) => return,
        };
        self.reports.send(Event::Log(id, report));
    }

    /// The thread begins with the first order: most proxies need none for long.
    fn thread(&mut self) -> io::Result<&Sender<(LogId, LogOrder)>> {
        if self.orders.is_none() {
            let (sender, orders) = channel();
            let (dir, reports, over) = (self.dir.clone(), self.reports.clone(), self.over.clone());
            let mut keeper = Keeper { dir, reports, over, logs: BTreeMap::new(), next: None };
            thread::Builder::new().name("log".into()).spawn(move || keeper.run(&orders))?;
            self.orders = Some(sender);
        }
        self.orders.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // What cannot be removed now is removed at the next start.
        let _ = remove_all(&self.dir);
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let found = entry?.path();
        if !is_ours(&found) {
            continue;
        }
        match fs::remove_file(&found) {
            // Its thread was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn path(dir: &Path, id: LogId, first: u64) -> PathBuf {
    dir.join(format!("log-{}-{}-{first}.log", id.view, id.life))
}

/// `log-<view>-<history>-<first offset>.log`; an operator's own files may lie beside them.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = name.strip_prefix("log-").and_then(|name| name.strip_suffix(".log"));
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|numbers| numbers.split('-').count() == 3 && numbers.split('-').all(is_number))
}

/// One log.
enum Log {
    /// Its files, the oldest first.
    Kept(VecDeque<Part>),
    /// The core was told that it is lost.
    Lost,
}

/// The thread that keeps the logs.
struct Keeper {
    dir: PathBuf,
    reports: Reports,
    over: Arc<AtomicBool>,
    logs: BTreeMap<LogId, Log>,
    /// An order that was taken while more bytes were looked for.
    next: Option<(LogId, LogOrder)>,
}

impl Keeper {
    fn run(&mut self, orders: &Receiver<(LogId, LogOrder)>) {
        while let Some((id, order)) = self.next.take().or_else(|| orders.recv().ok()) {
            match order {
                LogOrder::Keep(Order::Write(offset, bytes)) => self.write(id, offset, bytes, orders),
                LogOrder::Keep(Order::Drop(before)) => self.drop_before(id, before),
                LogOrder::Keep(Order::Reset) => {
                    if let Some(Log::Kept(parts)) = self.logs.remove(&id) {
                        parts.into_iter().for_each(Part::remove);
                    }
                }
                LogOrder::Read { link, offset, max } => {
                    let outcome = self.read(id, offset, max);
                    self.reports.send(Event::Log(id, LogReport::Bytes(link, offset, outcome)));
                }
            }
        }
    }

    /// Writes bytes, together with those behind them that wait already.
    fn write(&mut self, id: LogId, offset: u64, bytes: Bytes, orders: &Receiver<(LogId, LogOrder)>) {
        let mut row = vec![bytes];
        let mut len = row[0].len();
        while len < RECORD_BYTES_MAX {
            match orders.try_recv() {
                Ok((also, LogOrder::Keep(Order::Write(at, bytes)))) if also == id && at == offset + len as u64 => {
                    len += bytes.len();
                    row.push(bytes);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        if self.over.load(Ordering::SeqCst) {
            return;
        }
        let log = self.logs.entry(id).or_insert_with(|| Log::Kept(VecDeque::new()));
        let Log::Kept(parts) = log else { return };
        let report = match append(&self.dir, id, parts, offset, &row) {
            Ok(()) => LogReport::Written(len),
            Err((path, error)) => {
                // A full disk needs the room.
                std::mem::take(parts).into_iter().for_each(Part::remove);
                *log = Log::Lost;
                LogReport::Failed(own(format!("cannot write {}: {error} (view.backlog.disk)", path.display())))
            }
        };
        self.reports.send(Event::Log(id, report));
    }

    fn drop_before(&mut self, id: LogId, before: u64) {
        if let Some(Log::Kept(parts)) = self.logs.get_mut(&id) {
            while let Some(part) = parts.pop_front_if(|part| part.end() <= before) {
                part.remove();
            }
        }
    }

    fn read(&self, id: LogId, offset: u64, max: usize) -> Result<Bytes, Fault> {
        let Some(Log::Kept(parts)) = self.logs.get(&id) else { return Err(own("the log was given up".into())) };
        let index = parts.partition_point(|part| part.end() <= offset);
        let part = parts.get(index).ok_or_else(|| own(format!("the log ends before offset {offset}")))?;
        part.read(offset, max).map_err(|what| own(format!("cannot read the log {}: {what}", part.path().display())))
    }
}

/// Appends a row of bytes, in records of a bounded size. An error says which file is to blame.
fn append(
    dir: &Path,
    id: LogId,
    parts: &mut VecDeque<Part>,
    mut offset: u64,
    row: &[Bytes],
) -> Result<(), (PathBuf, io::Error)> {
    let joined;
    let whole = match row {
        [one] => one,
        _ => {
            joined = Bytes::from(row.concat());
            &joined
        }
    };
    for record in whole.chunks(RECORD_BYTES_MAX) {
        if parts.back().is_none_or(|part| part.file_bytes() >= PART_BYTES) {
            parts.back_mut().into_iter().for_each(Part::seal);
            let path = path(dir, id, offset);
            parts.push_back(Part::create(path.clone(), offset).map_err(|error| (path, error))?);
        }
        if let Some(part) = parts.back_mut() {
            part.append(offset, record).map_err(|error| (part.path().into(), error))?;
        }
        offset += record.len() as u64;
    }
    Ok(())
}

fn own(what: String) -> Fault {
    Fault::new(Party::Own, what)
}

#[cfg(test)]
mod tests;
