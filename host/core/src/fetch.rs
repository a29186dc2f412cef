//! Fetches what keys hold, on a second connection to the primary that only reads.
//!
//! ```text
//! MULTI, INFO replication, (SELECT db,) DUMP key, PEXPIRETIME key, …, EXEC
//! ```
//!
//! An order is one transaction, so its values are those of one place in the primary's history, and the transaction itself
//! says which: the *fence*, `master_repl_offset`. What the primary's stream says up to the fence is in the values; what it
//! says behind is not. The primary puts every write into its stream before it runs the next command, so nothing is under way
//! between the two.
//!
//! A Redis older than 7.0 does not know PEXPIRETIME. That is learned from its answer, once for each link: the order is sent
//! again with PTTL between two readings of TIME, and again where the clock moved on in between.
//!
//! Nothing is asked of the primary's clock or of ours: expiries are absolute.

mod order;
mod reading;
mod trouble;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::fault::{Fault, Party};
use crate::limits;
use crate::position::ReplId;
use crate::resp;
use crate::resp::reply::{Bounds, Reader, Reply};
use crate::settings::UpstreamSettings;
use reading::{Outcome, Reading};
use trouble::Greeting;

pub use trouble::permission;

/// The name that the connection has in the primary's CLIENT LIST.
pub const CLIENT_NAME: &str = "sluicegate-fetch";

/// Of the greeting's answers: one line each.
const GREETING: Bounds = Bounds { depth: 0, values: 0, bulk_bytes: 0, bytes: limits::REPLY_LINE_BYTES_MAX };

/// A key whose value is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The database that it lies in.
    pub db: u32,
    /// The primary's name for it.
    pub key: Vec<u8>,
}

/// What a key held at the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As DUMP gives it and RESTORE takes it. It names the version of its format, which a replica has to know.
    pub payload: Bytes,
    /// When it expires: unix milliseconds. It may lie in the past, where the primary has not yet noticed.
    pub expires_ms: Option<u64>,
}

/// An order's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The history that the primary writes.
    pub id: ReplId,
    /// The values are those behind so many bytes of that history. Always between two frames.
    pub fence: u64,
    /// In the sequence of the order; `None`: no such key.
    pub values: Vec<Option<Value>>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The values.
    Fetched(Fetched),
    /// Not now, in words: the primary is a replica itself at the moment, loads, is busy with a script, has no memory. To be
    /// asked again later.
    NotNow(String),
    /// The values are more bytes together than one order may bring: to be asked for in smaller ones, on another link.
    TooMany(String),
    /// It will not be answered, however often it is asked: the user's permissions, a command that the primary does not have,
    /// too large a value. Where the phase is [`Phase::Spent`] now, the link has to be closed.
    Refused(Fault),
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No link; the next attempt is not made before this time (milliseconds).
    Idle(u64),
    /// The shell was asked for a connection.
    Dialing,
    /// AUTH and CLIENT SETNAME were sent.
    Greeting,
    /// An order can be sent.
    Ready,
    /// An order was sent.
    Busy,
    /// The link is of no use any more and has to be closed: the credentials were refused, or the rest of an answer is not
    /// worth reading. What it still brings is ignored.
    Spent,
}

/// The second connection to a primary: one order at a time.
#[derive(Debug)]
pub struct Fetcher {
    settings: UpstreamSettings,
    value_bytes_max: usize,
    order_bytes_max: usize,
    phase: Phase,
    /// The order that is wanted, sent or not.
    order: Option<Vec<Wanted>>,
    /// The answer under way belongs to an order that is no longer wanted.
    abandoned: bool,
    /// How often the clock moved on in the order's readings.
    tries: u32,
    reading: Reading,
    greeting: Reader,
    /// Answers that the greeting lacks, of which the first is AUTH's where a password was sent.
    greetings: u8,
    /// The primary on this link does not know PEXPIRETIME.
    old: bool,
    /// When something was last heard, or the phase began. Milliseconds.
    last_heard: u64,
    backoff_ms: u64,
}

impl Fetcher {
    /// A connection that may be dialed at once. Bounds in bytes: of one value as DUMP gives it, of all values of an order.
    pub fn new(settings: UpstreamSettings, value_bytes_max: usize, order_bytes_max: usize) -> Self {
        let backoff_ms = settings.backoff_min_ms;
        Self {
            settings,
            value_bytes_max,
            order_bytes_max,
            phase: Phase::Idle(0),
            order: None,
            abandoned: false,
            tries: 0,
            reading: Reading::new(Vec::new(), 0, 0),
            greeting: Reader::new(GREETING),
            greetings: 0,
            old: false,
            last_heard: 0,
            backoff_ms,
        }
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether an order waits for its answer: a connection is of use only then.
    pub fn is_wanted(&self) -> bool {
        self.order.is_some()
    }

    /// The shell is dialing.
    pub fn dialing(&mut self, now: u64) {
        (self.phase, self.last_heard) = (Phase::Dialing, now);
    }

    /// The link is up: what to say first.
    pub fn connected(&mut self, now: u64, out: &mut Vec<u8>) {
        (self.phase, self.last_heard) = (Phase::Greeting, now);
        self.greeting = Reader::new(GREETING);
        // Whoever answers this time may know more, or less.
        self.old = false;
        self.greetings = 1;
        // AUTH comes first: Redis 8.2 loses the answer of a refused AUTH that stands behind another command.
        if let Some(password) = &self.settings.password {
            resp::write_auth(out, self.settings.username.as_deref(), password);
            self.greetings = 2;
        }
        resp::write_command(out, &[b"CLIENT", b"SETNAME", CLIENT_NAME.as_bytes()]);
    }

    /// The link is gone, or was closed: when to try again, in milliseconds from now. The wait doubles until an order is
    /// answered, or a link lost while nothing was asked on it. An order that is still wanted is sent again on the next link.
    pub fn lost(&mut self, now: u64) -> u64 {
        let wait = if self.phase == Phase::Ready { self.settings.backoff_min_ms } else { self.backoff_ms };
        self.backoff_ms = wait.saturating_mul(2).min(self.settings.backoff_max_ms);
        self.phase = Phase::Idle(now.saturating_add(wait));
        self.reading = Reading::new(Vec::new(), 0, 0);
        self.abandoned = false;
        wait
    }

    /// Asks for keys: at once if the connection is ready, else as soon as it is. Another order that still waits is no longer
    /// wanted.
    pub fn order(&mut self, wanted: Vec<Wanted>, now: u64, out: &mut Vec<u8>) {
        self.abandoned = self.phase == Phase::Busy;
        self.order = Some(wanted);
        self.tries = 0;
        self.send(now, out);
    }

    /// The order is no longer wanted. An answer under way is read to its end and thrown away; the next order waits for that.
    pub fn cancel(&mut self) {
        self.abandoned = self.phase == Phase::Busy;
        self.order = None;
    }

    /// Takes bytes from the link. An error: the link has to be closed; the order is sent again on the next one.
    pub fn push(&mut self, bytes: &[u8], now: u64, out: &mut Vec<u8>) -> Result<Option<Answer>, Fault> {
        self.last_heard = now;
        let mut input = bytes;
        let mut answer = None;
        if self.phase == Phase::Greeting {
            answer = self.greeted(&mut input)?;
            self.send(now, out);
        }
        if self.phase == Phase::Busy
            && let Some(outcome) = self.reading.push(&mut input)?
        {
            if !input.is_empty() && !matches!(outcome, Outcome::TooLarge { .. }) {
                return Err(unasked());
            }
            answer = self.ended(outcome);
            self.send(now, out);
        }
        match self.phase {
            Phase::Ready | Phase::Idle(_) | Phase::Dialing if !input.is_empty() => Err(unasked()),
            _ => Ok(answer),
        }
    }

    /// Whether the link has been silent for too long while something was asked.
    pub fn is_overdue(&self, now: u64) -> bool {
        matches!(self.phase, Phase::Dialing | Phase::Greeting | Phase::Busy)
            && now.saturating_sub(self.last_heard) > self.settings.timeout_ms
    }

    /// Sends the order, if there is one and it can be sent now.
    fn send(&mut self, now: u64, out: &mut Vec<u8>) {
        let (Phase::Ready, Some(wanted)) = (self.phase, &self.order) else { return };
        let asks = order::script(wanted, self.old);
        order::write(&asks, wanted, out);
        self.reading = Reading::new(asks, self.value_bytes_max, self.order_bytes_max);
        (self.phase, self.last_heard) = (Phase::Busy, now);
    }

    /// Answers to the greeting. A refusal answers the order, if there is one: there is no other way to ask.
    fn greeted(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, Fault> {
        while self.greetings > 0 {
            let Some(reply) = self.greeting.next(input)? else { return Ok(None) };
            let to_auth = self.greetings == 2;
            self.greetings -= 1;
            let fault = match reply {
                Reply::Simple(_) => continue,
                Reply::Error(text) => match trouble::greeting(&text, to_auth) {
                    Greeting::Ignored => continue,
                    Greeting::Failed(fault) => return Err(fault),
                    Greeting::Refused(fault) => fault,
                },
                _ => return Err(Fault::new(Party::Upstream, "the primary answers a greeting with what is no answer")),
            };
            if self.order.take().is_none() {
                return Err(fault);
            }
            self.phase = Phase::Spent;
            return Ok(Some(Answer::Refused(fault)));
        }
        self.phase = Phase::Ready;
        Ok(None)
    }

    /// What follows from an answer that has ended.
    fn ended(&mut self, outcome: Outcome) -> Option<Answer> {
        self.phase = if matches!(outcome, Outcome::TooLarge { .. }) { Phase::Spent } else { Phase::Ready };
        if core::mem::take(&mut self.abandoned) {
            return None;
        }
        match outcome {
            Outcome::Trouble(trouble::Trouble::NoExpireTime) if !self.old => {
                self.old = true;
                return None;
            }
            Outcome::ClockMoved if self.tries + 1 < limits::FETCH_TRIES_MAX => {
                self.tries += 1;
                return None;
            }
            _ => {}
        }
        let wanted = self.order.take()?;
        Some(match outcome {
            Outcome::Fetched(fetched) => {
                self.backoff_ms = self.settings.backoff_min_ms;
                Answer::Fetched(fetched)
            }
            Outcome::ClockMoved => Answer::NotNow("the primary is too slow to tell when a key expires".into()),
            Outcome::Trouble(trouble) => {
                trouble.answer(&wanted, self.settings.username.as_deref().unwrap_or("default"))
            }
            Outcome::TooLarge { bytes, .. } if bytes <= self.value_bytes_max as u64 && wanted.len() > 1 => {
                let (keys, most) = (wanted.len(), self.order_bytes_max);
                Answer::TooMany(format!("{keys} keys together hold more than {most} bytes"))
            }
            Outcome::TooLarge { key, bytes } => Answer::Refused(self.too_large(wanted.get(key), bytes)),
        })
    }

    fn too_large(&self, wanted: Option<&Wanted>, bytes: u64) -> Fault {
        let name = wanted.map_or_else(|| "a key".into(), trouble::key_name);
        let most = self.value_bytes_max.min(self.order_bytes_max);
        Fault::new(Party::Operator, format!("{name} holds {bytes} bytes, above limits.repair_value ({most} bytes)"))
    }
}

fn unasked() -> Fault {
    Fault::new(Party::Upstream, "the primary answers on the connection for values where nothing was asked")
}
