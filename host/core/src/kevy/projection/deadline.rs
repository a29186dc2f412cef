//! Expiries that count from the primary's clock, made absolute.
//!
//! kevy's commands know an absolute time in `PEXPIREAT` and `HPEXPIREAT` alone, so behind a SET with an expiry comes a
//! command that corrects it. The SET keeps its own: a replica that is cut off between the two, or made a primary there,
//! must not hold a key for ever that the primary never held so. A form that is not met here (an expiry under a condition,
//! a number that kevy refuses) is left as it is; so is one that is not positive, which removes the key at once, whenever
//! it is read.

use alloc::vec::Vec;

use super::Sink;
use super::bulk::Head;
use crate::frame::{Frame, Frames};
use crate::limits::FRAME_ARGS_MAX;
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
            // No server takes so many words: they are not worth the memory to look at.
            _ if argc as usize > FRAME_ARGS_MAX => false,
            Self::Set => argc >= 5,
            Self::Setex { .. } => argc == 4,
            Self::Expire { .. } => argc == 3,
            Self::Fields { .. } => argc >= 6,
        }
    }

    /// The time at which the frame's key or fields go (Unix time in milliseconds).
    fn read(self, args: Args<'_>, now: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Set => set_option(args, now),
            Self::Setex { millis } | Self::Expire { millis } | Self::Fields { millis } => time(args, 2, millis, now),
        }
    }

    /// Whether the frame does more than to set an expiry, and so has to go out before it.
    pub(super) fn sets(self) -> bool {
        matches!(self, Self::Set | Self::Setex { .. })
    }
}

/// Finds the time that the expiry of `frame` means, which arrived at `now`. `None` if that cannot be told exactly.
#[inline]
pub(super) fn find(form: Form, (frames, frame): (&Frames<'_>, &Frame), spans: &mut Vec<Span>, now: u64) -> Option<u64> {
    if form.fits(frame.argc) { form.read(frames.args(frame, spans), now) } else { None }
}

/// Puts out the command that sets the expiry of `frame`, whose key is called `name` and whose words are in `spans`.
pub(super) fn put<S: Sink>(
    form: Form,
    (frames, frame): (&Frames<'_>, &Frame),
    spans: &[Span],
    name: &[u8],
    time: u64,
    (shard, sink): (usize, &mut S),
) {
    let (mut start, mut digits) = (Vec::new(), Vec::with_capacity(20));
    write_decimal(&mut digits, time);
    // What stands behind the number goes with it: of key deadlines nothing is left there.
    let mut rest: &[u8] = b"\r\n";
    if let Form::Fields { .. } = form {
        write_array(&mut start, frame.argc as usize);
        start.extend_from_slice(b"$10\r\nHPEXPIREAT\r\n");
        let behind = spans.get(2).map_or(0, |span| span.end as usize);
        rest = frames.bytes_of(frame).get(behind..).unwrap_or(rest);
    } else {
        start.extend_from_slice(b"*3\r\n$9\r\nPEXPIREAT\r\n");
    }
    let (name_head, digits_head) = (Head::new(name.len()), Head::new(digits.len()));
    sink.command(shard, &[&start, name_head.text(), name, b"\r\n", digits_head.text(), &digits, rest]);
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
