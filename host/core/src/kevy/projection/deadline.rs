//! Expiries that count from the primary's clock, made absolute.
//!
//! kevy's commands know an absolute time in `PEXPIREAT` and `HPEXPIREAT` alone, so a SET with an expiry becomes two
//! commands. A form that is not met here (an expiry under a condition, a number that kevy refuses) is left as it is; so
//! is one that is not positive, which removes the key at once, whenever it is read.

use alloc::vec::Vec;

use super::Sink;
use super::bulk::Head;
use crate::frame::{Frame, Frames};
use crate::resp::{Args, Span, write_array, write_decimal};

/// How a command can carry an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Never a relative one.
    None,
    /// SET: options behind the value.
    Set,
    /// SETEX, PSETEX: the number, then the value.
    Setex { millis: bool },
    /// EXPIRE, PEXPIRE: the number behind the key.
    Expire { millis: bool },
    /// HEXPIRE, HPEXPIRE: the number behind the key, then a condition and the fields.
    Fields { millis: bool },
}

impl Form {
    /// The form of a command by its name in the table.
    pub(super) fn of(name: &str, field_deadlines: bool) -> Self {
        match name {
            "set" => Self::Set,
            "setex" => Self::Setex { millis: false },
            "psetex" => Self::Setex { millis: true },
            "expire" => Self::Expire { millis: false },
            "pexpire" => Self::Expire { millis: true },
            "hexpire" if field_deadlines => Self::Fields { millis: false },
            "hpexpire" if field_deadlines => Self::Fields { millis: true },
            _ => Self::None,
        }
    }

    /// Whether a frame of `argc` words can have an expiry: nearly all have not, and are spared a closer look.
    #[inline]
    pub(super) fn fits(self, argc: u32) -> bool {
        match self {
            Self::None => false,
            Self::Set => argc >= 5,
            Self::Setex { .. } => argc == 4,
            Self::Expire { .. } => argc == 3,
            Self::Fields { .. } => argc >= 6,
        }
    }

    /// The time at which the frame's key or fields go (Unix time in milliseconds), and the argument with the value that
    /// is set before, if one is.
    fn read(self, args: Args<'_>, now: u64) -> Option<(u64, Option<usize>)> {
        match self {
            Self::None => None,
            Self::Set => set_option(args, now).map(|time| (time, Some(2))),
            Self::Setex { millis } => time(args, 2, millis, now).map(|time| (time, Some(3))),
            Self::Expire { millis } | Self::Fields { millis } => time(args, 2, millis, now).map(|time| (time, None)),
        }
    }
}

/// Puts `frame`, whose key is called `name`, out with its expiry made absolute; `now` is when it arrived. Nothing is
/// put out if that cannot be done exactly, and `false` comes back.
pub(super) fn put<S: Sink>(
    form: Form,
    (frames, frame): (&Frames<'_>, &Frame),
    spans: &mut Vec<Span>,
    name: &[u8],
    now: u64,
    (shard, sink): (usize, &mut S),
) -> bool {
    let args = frames.args(frame, spans);
    let Some((time, value)) = form.read(args, now) else { return false };
    let (mut start, mut digits) = (Vec::new(), Vec::with_capacity(20));
    write_decimal(&mut digits, time);
    let (name_head, digits_head) = (Head::new(name.len()), Head::new(digits.len()));
    if let Some(value) = value.and_then(|at| args.get(at)) {
        let head = Head::new(value.len());
        let pieces = [b"*3\r\n$3\r\nSET\r\n", name_head.text(), name, b"\r\n", head.text(), value, b"\r\n"];
        sink.command(shard, &pieces);
    }
    // What stands behind the number goes with it: of key deadlines nothing is left there.
    let mut rest: &[u8] = b"\r\n";
    if let Form::Fields { .. } = form {
        write_array(&mut start, args.len());
        start.extend_from_slice(b"$10\r\nHPEXPIREAT\r\n");
        let behind = args.spans.get(2).map_or(0, |span| span.end as usize);
        rest = args.frame.get(behind..).unwrap_or(rest);
    } else {
        start.extend_from_slice(b"*3\r\n$9\r\nPEXPIREAT\r\n");
    }
    sink.command(shard, &[&start, name_head.text(), name, b"\r\n", digits_head.text(), &digits, rest]);
    true
}

/// The time that a SET's options say: kevy lets the last one win. `None` if one of them is a condition or unknown.
fn set_option(args: Args<'_>, now: u64) -> Option<u64> {
    let mut found = None;
    for at in (3..args.len()).step_by(2) {
        found = Some(time(args, at + 1, unit(args, at)?, now)?);
    }
    found
}

/// Whether argument `at` says milliseconds (PX) or seconds (EX).
fn unit(args: Args<'_>, at: usize) -> Option<bool> {
    if args.is(at, "PX") { Some(true) } else { args.is(at, "EX").then_some(false) }
}

/// The time that lies as far behind `now` as argument `at` says, if that is a number above 0 as kevy reads them.
fn time(args: Args<'_>, at: usize, millis: bool, now: u64) -> Option<u64> {
    let number: i64 = core::str::from_utf8(args.get(at)?).ok()?.parse().ok()?;
    let span = u64::try_from(number).ok().filter(|&number| number > 0)?.checked_mul(if millis { 1 } else { 1000 })?;
    now.checked_add(span).filter(|&time| i64::try_from(time).is_ok())
}
