//! Reads what a primary answers to an order, and believes nothing that is not exactly of the expected shape.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::order::Ask;
use super::trouble::Trouble;
use super::{Fetched, Value};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::position::ReplId;
use crate::projection::printable;
use crate::resp::reply::{Bounds, Builder, Item, Measure, Reply, ReplyError, Scanner};
use crate::resp::{decimal, info_field};

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is there.
    Fetched(Fetched),
    /// The primary's clock moved on within the readings of an expiry.
    ClockMoved,
    /// The primary answered with an error, or is no primary.
    Trouble(Trouble),
    /// The value of the key announces so many bytes, more than are taken. The rest of the answer was not read.
    TooLarge { key: usize, bytes: u64 },
}

/// A value and what is known of its expiry.
#[derive(Debug)]
struct Found {
    payload: Bytes,
    expiry: Expiry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Unsettled,
    Never,
    At(u64),
}

/// An answer under way.
#[derive(Debug)]
pub(super) struct Reading {
    asks: Vec<Ask>,
    value_bytes_max: usize,
    /// Bytes of values that may still come.
    bytes_left: usize,
    scanner: Scanner,
    builder: Builder,
    /// Replies read: MULTI's, one for each command, and then EXEC's.
    replies: usize,
    /// EXEC's array has begun: results read.
    results: Option<usize>,
    /// The first thing that went wrong: what follows it is read for its end only.
    trouble: Option<Trouble>,
    fence: Option<(ReplId, u64)>,
    values: Vec<Option<Found>>,
    /// The last TIME, and the last PTTL behind it. Milliseconds.
    clock: Option<u64>,
    time_left: Option<u64>,
}

impl Reading {
    /// An answer to `asks` that has yet to come. Bounds in bytes: of one value, of all together.
    pub(super) fn new(asks: Vec<Ask>, value_bytes_max: usize, bytes_max: usize) -> Self {
        Self {
            asks,
            value_bytes_max,
            bytes_left: bytes_max,
            scanner: Scanner::default(),
            builder: Builder::default(),
            replies: 0,
            results: None,
            trouble: None,
            fence: None,
            values: Vec::new(),
            clock: None,
            time_left: None,
        }
    }

    /// Reads on; how it ended, if it has.
    pub(super) fn push(&mut self, input: &mut &[u8]) -> Result<Option<Outcome>, Fault> {
        while let Some(item) = self.scanner.next(input)? {
            if let Item::Array(count) = item
                && self.is_result_next()
                && self.results.is_none()
            {
                self.begin_results(count)?;
                continue;
            }
            let ask = self.ask();
            let reply = match self.builder.add(item, &self.bounds(ask)) {
                Ok(Some(reply)) => reply,
                Ok(None) => continue,
                Err(ReplyError::TooLarge { what: Measure::Bulk, claimed, .. }) if let Some(Ask::Dump(key)) = ask => {
                    return Ok(Some(Outcome::TooLarge { key, bytes: claimed }));
                }
                Err(error) => return Err(error.into()),
            };
            let ended = match self.results {
                None => self.take_reply(ask, reply)?,
                Some(_) => self.take_result(ask, reply)?,
            };
            if ended {
                return self.end().map(Some);
            }
        }
        Ok(None)
    }

    /// Whether the next reply is EXEC's, or lies in it.
    fn is_result_next(&self) -> bool {
        self.replies > self.asks.len()
    }

    /// The command that the next reply belongs to; `None`: MULTI or EXEC.
    fn ask(&self) -> Option<Ask> {
        let index = if self.is_result_next() { self.results } else { self.replies.checked_sub(1) };
        self.asks.get(index?).copied()
    }

    /// What the reply to `ask` may be. The same for queued commands: a primary that refuses MULTI runs them one by one.
    fn bounds(&self, ask: Option<Ask>) -> Bounds {
        let (depth, bulk_bytes) = match ask {
            Some(Ask::Dump(_)) => (0, self.value_bytes_max.min(self.bytes_left)),
            Some(Ask::Fence) => (0, limits::INFO_REPLY_BYTES_MAX),
            Some(Ask::Time) => (1, limits::REPLY_LINE_BYTES_MAX),
            Some(Ask::Select(_) | Ask::ExpireTime(_) | Ask::TimeLeft(_)) | None => (0, 0),
        };
        // Lines have a bound of their own.
        let bytes = bulk_bytes.saturating_add(limits::REPLY_LINE_BYTES_MAX);
        Bounds { depth, values: 2, bulk_bytes, bytes }
    }

    fn begin_results(&mut self, count: u64) -> Result<(), Fault> {
        let asked = self.asks.len();
        if count != asked as u64 {
            return Err(upstream(format!(
                "the primary answers a transaction of {asked} commands with {count} results"
            )));
        }
        self.results = Some(0);
        Ok(())
    }

    /// A reply to MULTI, to a queued command, or an EXEC without results. Whether the answer has ended.
    fn take_reply(&mut self, ask: Option<Ask>, reply: Reply) -> Result<bool, Fault> {
        let is_exec = self.is_result_next();
        self.replies += 1;
        match (reply, ask) {
            (Reply::Error(text), _) => self.note(ask, &text),
            _ if self.trouble.is_some() => {}
            (Reply::Simple(text), None) if !is_exec && text == b"OK"[..] => {}
            (Reply::Simple(text), Some(_)) if text == b"QUEUED"[..] => {}
            (reply, Some(ask)) => return Err(unexpected(ask.name(), &reply)),
            (reply, None) => return Err(unexpected(if is_exec { "EXEC" } else { "MULTI" }, &reply)),
        }
        Ok(is_exec)
    }

    /// A result in EXEC's array. Whether it was the last.
    fn take_result(&mut self, ask: Option<Ask>, reply: Reply) -> Result<bool, Fault> {
        let results = self.results.map_or(0, |results| results + 1);
        self.results = Some(results);
        match (ask, reply) {
            (ask, Reply::Error(text)) => self.note(ask, &text),
            (Some(Ask::Fence), Reply::Bulk(info)) => self.take_info(&info)?,
            (Some(Ask::Select(_)), Reply::Simple(text)) if text == b"OK"[..] => {}
            (Some(Ask::Dump(_)), Reply::Bulk(payload)) => {
                self.bytes_left = self.bytes_left.saturating_sub(payload.len());
                self.begin_value(Some(payload));
            }
            (Some(Ask::Dump(_)), Reply::Null) => self.begin_value(None),
            (Some(Ask::ExpireTime(_)), Reply::Integer(-2)) => self.settle(None),
            (Some(Ask::ExpireTime(_)), Reply::Integer(-1)) => self.settle(Some(Expiry::Never)),
            (Some(Ask::ExpireTime(_)), Reply::Integer(at @ 0..)) => self.settle(Some(Expiry::At(at.unsigned_abs()))),
            (Some(Ask::TimeLeft(_)), Reply::Integer(-2)) => self.settle(None),
            (Some(Ask::TimeLeft(_)), Reply::Integer(-1)) => self.settle(Some(Expiry::Never)),
            (Some(Ask::TimeLeft(_)), Reply::Integer(left @ 0..)) => self.time_left = Some(left.unsigned_abs()),
            (Some(Ask::Time), reply) => {
                let now = clock(&reply).ok_or_else(|| unexpected("TIME", &reply))?;
                self.take_time(now);
            }
            (ask, reply) => return Err(unexpected(ask.map_or("EXEC", Ask::name), &reply)),
        }
        Ok(results == self.asks.len())
    }

    fn begin_value(&mut self, payload: Option<Bytes>) {
        self.values.push(payload.map(|payload| Found { payload, expiry: Expiry::Unsettled }));
        (self.clock, self.time_left) = (None, None);
    }

    /// What is known now of the expiry of the last value; `None`: there is no such key. A key whose time ends between its
    /// DUMP and the command behind it is one that is not there.
    fn settle(&mut self, expiry: Option<Expiry>) {
        let Some(last) = self.values.last_mut() else { return };
        match (last.as_mut(), expiry) {
            (Some(found), Some(expiry)) => found.expiry = expiry,
            (_, None) => *last = None,
            (None, Some(_)) => {}
        }
    }

    fn take_time(&mut self, now: u64) {
        if let Some(left) = self.time_left.take()
            && self.clock == Some(now)
        {
            self.settle(Some(Expiry::At(now.saturating_add(left))));
        }
        self.clock = Some(now);
    }

    /// Keeps the first trouble.
    fn note(&mut self, ask: Option<Ask>, text: &[u8]) {
        if self.trouble.is_none() {
            self.trouble = Some(Trouble::new(ask, text));
        }
    }

    fn take_info(&mut self, info: &[u8]) -> Result<(), Fault> {
        let field = |name| info_field(info, name);
        match field("role") {
            Some(b"master") => {}
            Some(b"slave") => {
                self.trouble.get_or_insert(Trouble::Replica);
                return Ok(());
            }
            _ => return Err(upstream("the primary's INFO replication names no role".into())),
        }
        let id = field("master_replid").and_then(ReplId::parse);
        let offset = field("master_repl_offset").and_then(decimal);
        self.fence = id.zip(offset);
        match self.fence {
            Some(_) => Ok(()),
            None => {
                Err(upstream("the primary's INFO replication names no master_replid and master_repl_offset".into()))
            }
        }
    }

    fn end(&mut self) -> Result<Outcome, Fault> {
        if let Some(trouble) = self.trouble.take() {
            return Ok(Outcome::Trouble(trouble));
        }
        let (id, fence) =
            self.fence.ok_or_else(|| Fault::new(Party::Own, "an answer to an order without its fence"))?;
        let mut values = Vec::with_capacity(self.values.len());
        for found in self.values.drain(..) {
            values.push(match found {
                None => None,
                Some(Found { expiry: Expiry::Unsettled, .. }) => return Ok(Outcome::ClockMoved),
                Some(Found { payload, expiry: Expiry::Never }) => Some(Value { payload, expires_ms: None }),
                Some(Found { payload, expiry: Expiry::At(at) }) => Some(Value { payload, expires_ms: Some(at) }),
            });
        }
        Ok(Outcome::Fetched(Fetched { id, fence, values }))
    }
}

/// TIME's reply, in milliseconds: seconds, and microseconds in the second.
fn clock(reply: &Reply) -> Option<u64> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Bulk(seconds), Reply::Bulk(micros)] = parts.as_slice() else { return None };
    let micros = decimal(micros).filter(|&micros| micros < 1_000_000)?;
    decimal(seconds)?.checked_mul(1_000)?.checked_add(micros / 1_000)
}

fn unexpected(command: &str, reply: &Reply) -> Fault {
    let shown = match reply {
        Reply::Simple(text) | Reply::Error(text) | Reply::Bulk(text) => printable(text),
        Reply::Integer(number) => format!("{number}"),
        Reply::Null => "nothing".into(),
        Reply::Array(members) => format!("{} values", members.len()),
    };
    upstream(format!("the primary answers {command} with what is no answer to it: {shown}"))
}

fn upstream(what: alloc::string::String) -> Fault {
    Fault::new(Party::Upstream, what)
}
