//! Expiries that count from the moment of arrival, and how they are made absolute.
//!
//! A 6.2 primary sends them as its clients typed them: `SET k v PX 2000` means "two seconds from now, at the replica". A
//! frame that lay in a backlog for an hour would let its key live an hour too long, so it is rewritten with the time at
//! which it arrived. Servers from 7.0 on send absolute times themselves.

use alloc::vec::Vec;

use super::Row;
use super::keys::{KeyError, Shape, check_arity, counted};
use crate::resp::{Args, decimal, signed_decimal, write_array, write_bulk, write_decimal};

/// Where a frame says that an expiry is relative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelativeExpiry {
    /// An option EX or PX with its value: SET, GETEX, HSETEX, HGETEX, MSETEX.
    SetOption {
        /// The argument that is EX or PX.
        arg_of_unit: u32,
        /// The argument with the number. It can lie behind the end of a frame that is cut short.
        arg_of_value: u32,
        /// Whether the number is in milliseconds (PX), not seconds.
        millis: bool,
    },
    /// EXPIRE, PEXPIRE, HEXPIRE, HPEXPIRE: the number is argument 2.
    ExpireCommand {
        /// Whether the number is in milliseconds, not seconds.
        millis: bool,
    },
    /// SETEX, PSETEX: the number is argument 2, the value argument 3.
    SetexCommand {
        /// Whether the number is in milliseconds, not seconds.
        millis: bool,
    },
    /// RESTORE without ABSTTL: argument 2 is the time to live in milliseconds, above 0.
    Restore,
}

/// How a command can carry an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Never a relative one.
    None,
    /// Options from argument `from`; behind FIELDS and its count come `per_field` arguments a field.
    Options {
        from: u32,
        per_field: u32,
    },
    /// Options behind as many pairs as argument 1 says.
    OptionsBehindPairs,
    Expire {
        millis: bool,
    },
    Setex {
        millis: bool,
    },
    Restore,
}

impl Form {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "set" => Self::Options { from: 3, per_field: 0 },
            "getex" => Self::Options { from: 2, per_field: 0 },
            "hgetex" => Self::Options { from: 2, per_field: 1 },
            "hsetex" => Self::Options { from: 2, per_field: 2 },
            "msetex" => Self::OptionsBehindPairs,
            "expire" | "hexpire" => Self::Expire { millis: false },
            "pexpire" | "hpexpire" => Self::Expire { millis: true },
            "setex" => Self::Setex { millis: false },
            "psetex" => Self::Setex { millis: true },
            "restore" | "restore-asking" => Self::Restore,
            _ => Self::None,
        }
    }
}

/// Where the frame says that its expiry is relative; `None` if it has no expiry or an absolute one.
pub fn relative_expiry(row: &Row, args: Args<'_>) -> Option<RelativeExpiry> {
    match row.expiry {
        Form::None => None,
        Form::Options { from, per_field } => unit_option(args, from as usize, per_field as usize),
        Form::OptionsBehindPairs => unit_option(args, 2 + 2 * counted(args, 1, 2, 2)?, 0),
        Form::Expire { millis } => Some(RelativeExpiry::ExpireCommand { millis }),
        Form::Setex { millis } => Some(RelativeExpiry::SetexCommand { millis }),
        Form::Restore => (!restore_is_absolute(args)).then_some(RelativeExpiry::Restore),
    }
}

/// Finds EX or PX among the options from argument `from`, stepping over the values of the others, so that a value which
/// reads `px` is not taken for the option.
fn unit_option(args: Args<'_>, from: usize, per_field: usize) -> Option<RelativeExpiry> {
    const WITH_VALUE: [&str; 6] = ["EXAT", "PXAT", "IFEQ", "IFNE", "IFDEQ", "IFDNE"];
    let mut at = from;
    while at < args.len() {
        let millis = args.is(at, "PX");
        if millis || args.is(at, "EX") {
            let (arg_of_unit, arg_of_value) = (at as u32, at as u32 + 1);
            return Some(RelativeExpiry::SetOption { arg_of_unit, arg_of_value, millis });
        }
        if per_field > 0 && args.is(at, "FIELDS") {
            at += 2 + counted(args, at + 1, at + 2, per_field)? * per_field;
        } else if WITH_VALUE.iter().any(|word| args.is(at, word)) {
            at += 2;
        } else {
            at += 1;
        }
    }
    None
}

/// Whether a RESTORE's time to live is absolute, or 0: none.
fn restore_is_absolute(args: Args<'_>) -> bool {
    if args.get(2).and_then(decimal) == Some(0) {
        return true;
    }
    let mut at = 4;
    while at < args.len() {
        if args.is(at, "ABSTTL") {
            return true;
        }
        at += if args.is(at, "IDLETIME") || args.is(at, "FREQ") { 2 } else { 1 };
    }
    false
}

/// Appends the frame with its expiry made absolute (Unix time in milliseconds), if it is relative; tells whether it did.
/// `now_unix_ms` is when the frame arrived. All else stays as it is, options such as NX and REPLACE included. A time before
/// 1970 becomes the first millisecond of 1970, since servers take no other; both are long past.
///
/// # Errors
/// The frame does not have the shape of its command. Nothing is then appended.
pub fn absolute(row: &Row, args: Args<'_>, now_unix_ms: u64, out: &mut Vec<u8>) -> Result<bool, KeyError> {
    check_arity(row, args)?;
    let Some(relative) = relative_expiry(row, args) else { return Ok(false) };
    let (value, millis) = match relative {
        RelativeExpiry::SetOption { arg_of_value, millis, .. } => (arg_of_value as usize, millis),
        RelativeExpiry::ExpireCommand { millis } | RelativeExpiry::SetexCommand { millis } => (2, millis),
        RelativeExpiry::Restore => (2, true),
    };
    let fault = KeyError { command: row.name, shape: Shape::Expiry };
    let time = args.get(value).and_then(|value| unix_ms(value, millis, now_unix_ms)).ok_or(fault)?;
    let mut digits = Vec::with_capacity(20);
    write_decimal(&mut digits, time);
    let at_time = |index| if index == value { Some(&digits[..]) } else { None };
    match relative {
        RelativeExpiry::SetOption { arg_of_unit, .. } => {
            let unit = arg_of_unit as usize;
            replaced(out, args, args.len(), |index| if index == unit { Some(b"PXAT") } else { at_time(index) });
        }
        RelativeExpiry::ExpireCommand { .. } => {
            let name: &[u8] = if row.name.starts_with('h') { b"HPEXPIREAT" } else { b"PEXPIREAT" };
            replaced(out, args, args.len(), |index| if index == 0 { Some(name) } else { at_time(index) });
        }
        RelativeExpiry::SetexCommand { .. } => {
            write_array(out, 5);
            let text = |index| args.get(index).unwrap_or(&[]);
            [b"SET", text(1), text(3), b"PXAT", &digits[..]].iter().for_each(|arg| write_bulk(out, arg));
        }
        RelativeExpiry::Restore => {
            replaced(out, args, args.len() + 1, at_time);
            write_bulk(out, b"ABSTTL");
        }
    }
    Ok(true)
}

/// Appends a frame that announces `count` arguments: those of `args`, or what `instead` has for them.
fn replaced<'a>(out: &mut Vec<u8>, args: Args<'a>, count: usize, instead: impl Fn(usize) -> Option<&'a [u8]>) {
    write_array(out, count);
    for (index, arg) in args.iter_from(0).enumerate() {
        write_bulk(out, instead(index).unwrap_or(arg));
    }
}

/// The Unix time in milliseconds that lies `value` after `now`.
fn unix_ms(value: &[u8], millis: bool, now: u64) -> Option<u64> {
    let unit = if millis { 1 } else { 1000 };
    let time = signed_decimal(value)?.checked_mul(unit)?.checked_add(i64::try_from(now).ok()?)?;
    u64::try_from(time.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::tests::Frame;
    use super::*;
    use crate::resp::write_command;

    const NOW: u64 = 1_000_000_000_000;

    /// The frame as it is rewritten, in RESP; `None` if it is left alone.
    fn rewritten(line: &str) -> Result<Option<Vec<u8>>, Shape> {
        let (table, frame) = (Table::builtin(), Frame::of(line));
        let row = table.row(table.resolve(frame.args()).expect(line));
        let mut out = Vec::new();
        let rewrote = absolute(row, frame.args(), NOW, &mut out).map_err(|fault| fault.shape)?;
        assert_eq!(rewrote, !out.is_empty(), "{line}");
        Ok(rewrote.then_some(out))
    }

    #[test]
    fn relative_expiries_become_absolute() {
        let known = [
            ("SET k v PX 2000", "SET k v PXAT 1000000002000"),
            ("set k v nx ex 2 get", "set k v nx PXAT 1000000002000 get"),
            ("SETEX k 2 v", "SET k v PXAT 1000000002000"),
            ("psetex k 2 v", "SET k v PXAT 1000000000002"),
            ("expire k 2000", "PEXPIREAT k 1000002000000"),
            ("PEXPIRE k 5 GT", "PEXPIREAT k 1000000000005 GT"),
            ("EXPIRE k -1", "PEXPIREAT k 999999999000"),
            ("PEXPIRE k -2000000000000", "PEXPIREAT k 1"),
            ("GETEX k EX 1", "GETEX k PXAT 1000000001000"),
            ("RESTORE k 7 payload", "RESTORE k 1000000000007 payload ABSTTL"),
            ("restore k 7 p REPLACE FREQ 3", "restore k 1000000000007 p REPLACE FREQ 3 ABSTTL"),
            ("HEXPIRE k 1 NX FIELDS 1 f", "HPEXPIREAT k 1000000001000 NX FIELDS 1 f"),
            ("HPEXPIRE k 1 FIELDS 1 f", "HPEXPIREAT k 1000000000001 FIELDS 1 f"),
            ("HSETEX k FNX EX 1 FIELDS 1 f v", "HSETEX k FNX PXAT 1000000001000 FIELDS 1 f v"),
            ("HSETEX k FIELDS 1 px 5 PX 1", "HSETEX k FIELDS 1 px 5 PXAT 1000000000001"),
            ("HGETEX k PX 1 FIELDS 1 f", "HGETEX k PXAT 1000000000001 FIELDS 1 f"),
            ("HGETEX k FIELDS 1 ex EX 3", "HGETEX k FIELDS 1 ex PXAT 1000000003000"),
            ("MSETEX 1 ex px EX 1", "MSETEX 1 ex px PXAT 1000000001000"),
        ];
        for (line, expected) in known {
            let mut frame = Vec::new();
            write_command(&mut frame, &expected.split(' ').map(str::as_bytes).collect::<Vec<_>>());
            assert_eq!(rewritten(line), Ok(Some(frame)), "{line}");
        }
    }

    #[test]
    fn what_is_absolute_or_lasts_is_left_alone() {
        let left = [
            "SET k v",
            "SET ex px",
            "SET k px KEEPTTL",
            "SET k v PXAT 5",
            "SET k v EXAT 5",
            "SET k v IFEQ px GET",
            "GETEX k PERSIST",
            "PEXPIREAT k 5",
            "EXPIREAT k 5",
            "RESTORE k 0 p",
            "RESTORE k 5 p ABSTTL",
            "RESTORE k 5 ABSTTL IDLETIME 1 ABSTTL",
            "HSETEX k FIELDS 1 ex 5",
            "HSETEX k PXAT 1 FIELDS 2 ex 5 px 6",
            "MSETEX 1 ex px KEEPTTL",
            "DEL k",
        ];
        for line in left {
            assert_eq!(rewritten(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn an_expiry_that_is_no_number_is_an_error() {
        for line in ["SET k v EX", "SET k v EX soon", "EXPIRE k 9223372036854775807", "SETEX k 9223372036854775 v"] {
            assert_eq!(rewritten(line), Err(Shape::Expiry), "{line}");
        }
        assert_eq!(rewritten("SETEX k 2"), Err(Shape::Arity { due: 4, found: 3 }));
    }
}
