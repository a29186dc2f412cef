//! Commands that a primary itself describes: its modules', and those of a server newer than the table.
//!
//! Only commands that the primary calls writing are taken: a server passes to its replicas what changes data and nothing
//! else, so the others never stand in a stream. Of a command with one key all effects count as that key's; one with several
//! may join them, so that a kept key of it has to be fetched where another is dropped. Where it does not follow from the
//! description which arguments are keys, in whatever form the command comes, the command is refused.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Class, KeyPart, KeySpec, Mixed, Name, Rest, Role};
use crate::limits;
use crate::resp::reply::{Bounds, Reply};

/// What a reply to COMMAND may be at most. That of a server without modules has some 13,000 values and 100 KiB.
pub const REPLY_BOUNDS: Bounds = Bounds {
    depth: 12,
    values: 256 * 1024,
    bulk_bytes: limits::REPLY_LINE_BYTES_MAX,
    bytes: limits::COMMAND_REPLY_BYTES_MAX,
};

const MOVABLE: &str = "its keys cannot be placed: the primary says that they move";
const VAGUE: &str = "its keys cannot be placed: the primary describes them in part";
const KEYLESS: &str = "it writes, and names no key that would tell what";
const WORD: &str = "its keys cannot be placed: they follow a word, which a value can look like";
const SHAPE: &str = "its keys cannot be placed: they lie as no command of the table has them";
const SUB: &str = "a sub-command that the primary does not describe as one that writes";

/// A command as the primary describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Its name; that of a sub-command as in [`super::Row::name`].
    pub name: Name,
    /// As in [`super::Row::arity`].
    pub arity: i32,
    /// Where its keys are.
    pub keys: KeySpec,
    /// [`Class::Single`], [`Class::Cross`] or [`Class::Refuse`].
    pub class: Class,
    /// It stands for sub-commands, which follow it.
    pub group: bool,
}

/// The writing commands in a reply to COMMAND, in its order.
///
/// # Errors
/// The reply does not describe commands: what it is instead.
pub fn learned(reply: &Reply) -> Result<Vec<Learned>, String> {
    let entries = match reply {
        Reply::Array(entries) => entries,
        Reply::Error(text) => return Err(format!("the primary refuses COMMAND: {}", text.escape_ascii())),
        _ => return Err("the primary answers COMMAND with something else than a list".into()),
    };
    let mut out = Vec::new();
    for fields in entries.iter().filter_map(array) {
        let subs = fields.get(9).and_then(array).unwrap_or(&[]);
        if subs.is_empty() {
            out.extend(command(fields).filter(|command| !command.name.contains('|')));
            continue;
        }
        let Some(name) = name(fields) else { continue };
        let group = out.len();
        out.push(Learned { name, arity: -2, keys: KeySpec::NONE, class: Class::Refuse(SUB), group: true });
        let of_group = |sub: &Learned| sub.name.split_once('|').is_some_and(|(of, _)| name == *of);
        out.extend(subs.iter().filter_map(array).filter_map(command).filter(of_group));
        if out.len() == group + 1 {
            out.pop();
        }
    }
    Ok(out)
}

fn name(fields: &[Reply]) -> Option<Name> {
    Name::learned(fields.first().and_then(text)?)
}

/// One command that writes.
fn command(fields: &[Reply]) -> Option<Learned> {
    let name = name(fields)?;
    let arity = i32::try_from(fields.get(1).and_then(integer)?).ok().filter(|&arity| arity != i32::MIN)?;
    let flags = fields.get(2).and_then(array)?;
    if !has(flags, b"write") {
        return None;
    }
    let (keys, class) = match place(fields, has(flags, b"movablekeys")) {
        Ok(keys) if matches!(keys.0, [KeyPart::One { .. }, KeyPart::None]) => (keys, Class::Single),
        Ok(keys) => (keys, Class::Cross(Mixed { source: Rest::Repair, target: Rest::Repair })),
        Err(why) => (KeySpec::NONE, Class::Refuse(why)),
    };
    // Modules leave the number of arguments open, yet there are at least those where the keys are.
    let least = keys.0.into_iter().map(end).max().unwrap_or(0).max(1) as i32;
    let arity = if arity.abs() < least { -least } else { arity };
    Some(Learned { name, arity, keys, class, group: false })
}

/// One past the last argument that a frame must have for this part.
fn end(part: KeyPart) -> u32 {
    match part {
        KeyPart::One { at, .. } => at + 1,
        KeyPart::Range { first, spare, step, .. } => first + spare + step,
        KeyPart::Counted { count, first, step, .. } => (count + 1).max(first + step),
        KeyPart::None | KeyPart::Store { .. } | KeyPart::Streams { .. } => 0,
    }
}

fn place(fields: &[Reply], movable: bool) -> Result<KeySpec, &'static str> {
    let specs = fields.get(8).and_then(array).unwrap_or(&[]);
    let mut parts = Vec::new();
    if specs.is_empty() {
        let number = |index: usize| fields.get(index).and_then(integer).ok_or(VAGUE);
        let (first, last, step) = (number(3)?, number(4)?, number(5)?);
        if movable {
            return Err(MOVABLE);
        }
        if first <= 0 {
            return Err(KEYLESS);
        }
        let last = if last < 0 { last } else { last.checked_sub(first).filter(|&more| more >= 0).ok_or(SHAPE)? };
        range(argument(first)?, last, step, Role::ReadWrite, &mut parts)?;
    }
    for spec in specs {
        part(array(spec).ok_or(VAGUE)?, &mut parts)?;
    }
    // A module that finds its keys by a function of its own says no more than that they move.
    if movable && !parts.iter().any(|part| matches!(part, KeyPart::Counted { .. })) {
        return Err(MOVABLE);
    }
    match parts[..] {
        [one] => Ok(KeySpec([one, KeyPart::None])),
        [first, second] if follows(first, second) => Ok(KeySpec([first, second])),
        [second, first] if follows(first, second) => Ok(KeySpec([first, second])),
        _ => Err(SHAPE),
    }
}

/// Whether the keys of `second` lie behind those of `first`, whatever the frame.
fn follows(first: KeyPart, second: KeyPart) -> bool {
    let KeyPart::One { at: before, .. } = first else { return false };
    match second {
        KeyPart::One { at: behind, .. }
        | KeyPart::Range { first: behind, .. }
        | KeyPart::Counted { first: behind, .. } => before < behind,
        _ => false,
    }
}

/// What one key specification says.
fn part(spec: &[Reply], parts: &mut Vec<KeyPart>) -> Result<(), &'static str> {
    let flags = field(spec, b"flags").and_then(array).ok_or(VAGUE)?;
    if has(flags, b"not_key") || has(flags, b"incomplete") {
        return Err(VAGUE);
    }
    let role = match () {
        // Another form of the command may do more than this one.
        () if has(flags, b"variable_flags") => Role::ReadWrite,
        () if has(flags, b"RO") => Role::Read,
        () if has(flags, b"OW") || has(flags, b"RM") => Role::Write,
        () => Role::ReadWrite,
    };
    let (begin, search) = kind(spec, b"begin_search")?;
    let (find, keys) = kind(spec, b"find_keys")?;
    let number = |of: &[Reply], name: &[u8]| field(of, name).and_then(integer).ok_or(VAGUE);
    let first = match begin {
        b"index" => argument(number(search, b"index")?)?,
        b"keyword" => return Err(WORD),
        _ => return Err(VAGUE),
    };
    match find {
        b"range" if number(keys, b"limit")? <= 1 => {
            range(first, number(keys, b"lastkey")?, number(keys, b"keystep")?, role, parts)
        }
        b"range" => Err(SHAPE),
        b"keynum" => {
            let count = argument(number(keys, b"keynumidx")?.saturating_add(i64::from(first)))?;
            let first = argument(number(keys, b"firstkey")?.saturating_add(i64::from(first)))?;
            let step = argument(number(keys, b"keystep")?)?;
            parts.push(KeyPart::Counted { count, first, step, role });
            Ok(())
        }
        _ => Err(VAGUE),
    }
}

/// Keys from argument `first` on, every `step`-th; `last` counts from the first key or, if negative, from the end.
fn range(first: u32, last: i64, step: i64, role: Role, parts: &mut Vec<KeyPart>) -> Result<(), &'static str> {
    if last == 0 {
        parts.push(KeyPart::One { at: first, role });
        return Ok(());
    }
    let step = argument(step)?;
    if last < 0 {
        let spare = argument(last.checked_neg().ok_or(SHAPE)?)? - 1;
        parts.push(KeyPart::Range { first, spare, step, role });
        return Ok(());
    }
    if last / i64::from(step) != 1 {
        return Err(SHAPE);
    }
    parts.extend([KeyPart::One { at: first, role }, KeyPart::One { at: first + step, role }]);
    Ok(())
}

/// A number of arguments, or the place of one behind the name.
fn argument(number: i64) -> Result<u32, &'static str> {
    let fits = u32::try_from(number).ok().filter(|&at| at >= 1 && at as usize <= limits::FRAME_ARGS_MAX);
    fits.ok_or(SHAPE)
}

/// The `type` and the `spec` of a half of a key specification.
fn kind<'r>(spec: &'r [Reply], half: &[u8]) -> Result<(&'r [u8], &'r [Reply]), &'static str> {
    let half = field(spec, half).and_then(array).ok_or(VAGUE)?;
    let kind = field(half, b"type").and_then(text).ok_or(VAGUE)?;
    Ok((kind, field(half, b"spec").and_then(array).unwrap_or(&[])))
}

/// A field of a map, which RESP2 has as names and values in turn.
fn field<'r>(map: &'r [Reply], name: &[u8]) -> Option<&'r Reply> {
    map.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1])
}

fn has(flags: &[Reply], flag: &[u8]) -> bool {
    flags.iter().any(|known| text(known) == Some(flag))
}

fn array(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(members) => Some(members),
        _ => None,
    }
}

fn text(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Simple(text) | Reply::Bulk(text) => Some(text),
        _ => None,
    }
}

fn integer(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(*number),
        _ => None,
    }
}
