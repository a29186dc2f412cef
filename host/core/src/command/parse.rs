//! Reads `table.txt` and `kevy.txt`. The files are our own; their faults are reported in words to the developer who made
//! them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::expiry::Form;
use super::{Class, KeyPart, KeySpec, Mixed, Rest, Role, Row, Service};

/// All rows, in the order of the text; checked to be unique and sorted within their groups.
pub(super) fn rows(text: &'static str) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    let mut last = "";
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            last = "";
            continue;
        }
        let row = row(line).map_err(|what| format!("line {}: {what}", number + 1))?;
        check_place(&row, last, &rows).map_err(|what| format!("line {}: {what}", number + 1))?;
        last = row.name;
        rows.push(row);
    }
    Ok(rows)
}

fn check_place(row: &Row, last: &str, rows: &[Row]) -> Result<(), String> {
    if row.name <= last {
        return Err(format!("{} does not belong behind {last}", row.name));
    }
    if rows.iter().any(|other| other.name == row.name) {
        return Err(format!("{} is there twice", row.name));
    }
    match row.name.split_once('|') {
        Some((group, _)) if !rows.iter().any(|other| other.group && other.name == group) => {
            Err(format!("{} stands before its group", row.name))
        }
        _ => Ok(()),
    }
}

fn row(line: &'static str) -> Result<Row, String> {
    let (name, rest) = column(line)?;
    let (arity, rest) = column(rest)?;
    let (keys, rest) = column(rest)?;
    let (class, rest) = column(rest)?;
    let (since, reason) = column(rest)?;
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("{name} is not in lower case"));
    }
    let arity: i32 = arity.parse().map_err(|_| format!("{arity} is no arity"))?;
    let keys = key_spec(keys)?;
    let group = class == "group";
    let class = class_of(class, reason)?;
    let (since, verified) = match since.strip_suffix(",unverified") {
        Some(since) => (since, false),
        None => (since, true),
    };
    let one_at_1 = matches!(keys.0, [KeyPart::One { at: 1, .. }, KeyPart::None]);
    let first_key_only = class == Class::Single && one_at_1 && arity.unsigned_abs() >= 2;
    Ok(Row { name, arity, keys, class, since, verified, group, first_key_only, expiry: Form::of(name) })
}

/// The next column and what follows it, which is empty behind the last.
fn column(text: &'static str) -> Result<(&'static str, &'static str), String> {
    match text.split_once(' ') {
        Some((column, rest)) => Ok((column, rest.trim())),
        None if text.is_empty() => Err("a column is missing".into()),
        None => Ok((text, "")),
    }
}

fn class_of(text: &str, reason: &'static str) -> Result<Class, String> {
    let class = match text {
        "single" => Class::Single,
        "subset" => Class::Subset,
        "pairs" => Class::Pairs,
        "flush" => Class::Flush,
        "swapdb" => Class::SwapDb,
        "publish" => Class::Publish,
        "function" => Class::Function,
        "script" => Class::Script,
        "catalog" => Class::Catalog,
        "select" => Class::Service(Service::Select),
        "multi" => Class::Service(Service::Multi),
        "exec" => Class::Service(Service::Exec),
        "ping" => Class::Service(Service::Ping),
        "getack" => Class::Service(Service::GetAck),
        "refuse" | "group" => Class::Refuse(reason),
        _ => mixed(text)?,
    };
    match (class, reason.is_empty()) {
        (Class::Refuse(_), true) => Err("a reason is missing".into()),
        (Class::Refuse(_), false) | (_, true) => Ok(class),
        (_, false) => Err("a reason for what is not refused".into()),
    }
}

/// `cross(source|target)` or `cross-db(source|target)`.
fn mixed(text: &str) -> Result<Class, String> {
    let fault = || format!("{text} is no class");
    let (class, rests) = text.strip_suffix(')').and_then(|text| text.split_once('(')).ok_or_else(fault)?;
    let (source, target) = rests.split_once('|').ok_or_else(fault)?;
    let rest = |word: &str| match word {
        "-" => Ok(Rest::Nothing),
        "del" => Ok(Rest::Del),
        "srem" => Ok(Rest::SetRemove),
        "sadd" => Ok(Rest::SetAdd),
        "pop" => Ok(Rest::Pop),
        "repair" => Ok(Rest::Repair),
        _ => Err(fault()),
    };
    let mixed = Mixed { source: rest(source)?, target: rest(target)? };
    match class {
        "cross" => Ok(Class::Cross(mixed)),
        "cross-db" => Ok(Class::CrossDatabase(mixed)),
        _ => Err(fault()),
    }
}

fn key_spec(text: &str) -> Result<KeySpec, String> {
    if text == "-" {
        return Ok(KeySpec::NONE);
    }
    match text.split_once('+') {
        Some((first, second)) => Ok(KeySpec([key_part(first)?, key_part(second)?])),
        None => Ok(KeySpec([key_part(text)?, KeyPart::None])),
    }
}

fn key_part(text: &str) -> Result<KeyPart, String> {
    let fault = || format!("{text} is no place of keys");
    let (place, role) = text.split_once(':').ok_or_else(fault)?;
    let role = match role {
        "r" => Role::Read,
        "w" => Role::Write,
        "rw" => Role::ReadWrite,
        _ => return Err(fault()),
    };
    let (place, step) = match place.split_once('/') {
        Some((place, step)) => (place, step.parse().ok().filter(|&step| step > 0).ok_or_else(fault)?),
        None => (place, 1),
    };
    let number = |text: &str| text.parse::<u32>().ok();
    let part = if let Some(from) = place.strip_prefix("store@") {
        number(from).map(|from| KeyPart::Store { from, role })
    } else if let Some(from) = place.strip_prefix("streams@") {
        number(from).map(|from| KeyPart::Streams { from, role })
    } else if let Some((count, first)) = place.strip_prefix('#').and_then(|rest| rest.split_once('@')) {
        number(count).zip(number(first)).map(|(count, first)| KeyPart::Counted { count, first, step, role })
    } else if let Some((first, end)) = place.split_once("..") {
        // As servers write it, -1 is the last argument and -2 the one before it.
        let spare = if end.is_empty() {
            Some(0)
        } else {
            end.strip_prefix('-').and_then(number).and_then(|n| n.checked_sub(1))
        };
        number(first).zip(spare).map(|(first, spare)| KeyPart::Range { first, spare, step, role })
    } else {
        number(place).map(|at| KeyPart::One { at, role })
    };
    part.ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        let rows = rows(include_str!("table.txt")).expect("every line parses, is unique and in its place");
        assert!(rows.len() > 140, "{} rows", rows.len());
        assert!(rows.len() * 2 < super::super::SLOTS, "the index is more than half full");
    }

    #[test]
    fn faults_are_told_with_their_line() {
        let wrong = [
            ("set -3 1:rw single", "line 1: a column is missing"),
            ("set three 1:rw single 6.2", "line 1: three is no arity"),
            ("set -3 1:x single 6.2", "line 1: 1:x is no place of keys"),
            ("set -3 1../0:rw single 6.2", "line 1: 1../0:rw is no place of keys"),
            ("set -3 1:rw simple 6.2", "line 1: simple is no class"),
            ("set -3 1:rw cross 6.2", "line 1: cross is no class"),
            ("set -3 1:rw cross(del) 6.2", "line 1: cross(del) is no class"),
            ("set -3 1:rw cross(del|gone) 6.2", "line 1: cross(del|gone) is no class"),
            ("set -3 1:rw single 6.2 because", "line 1: a reason for what is not refused"),
            ("eval -3 - refuse 6.2", "line 1: a reason is missing"),
            ("# x\nset -3 - single 6.2\nget 2 - single 6.2", "line 3: get does not belong behind set"),
            ("set -3 - single 6.2\n\nset -3 - single 6.2", "line 3: set is there twice"),
            ("a|b -3 - single 6.2", "line 1: a|b stands before its group"),
            ("SET -3 1:rw single 6.2", "line 1: SET is not in lower case"),
        ];
        for (text, fault) in wrong {
            assert_eq!(rows(text).expect_err(text), fault);
        }
    }

    #[test]
    fn places_are_read_as_the_table_explains_them() {
        let role = Role::ReadWrite;
        assert_eq!(key_part("2:rw"), Ok(KeyPart::One { at: 2, role }));
        assert_eq!(key_part("1..:rw"), Ok(KeyPart::Range { first: 1, spare: 0, step: 1, role }));
        assert_eq!(key_part("1..-2:rw"), Ok(KeyPart::Range { first: 1, spare: 1, step: 1, role }));
        assert_eq!(key_part("1../2:rw"), Ok(KeyPart::Range { first: 1, spare: 0, step: 2, role }));
        assert_eq!(key_part("#1@2/2:rw"), Ok(KeyPart::Counted { count: 1, first: 2, step: 2, role }));
        assert_eq!(key_part("store@6:rw"), Ok(KeyPart::Store { from: 6, role }));
        assert_eq!(key_part("streams@4:rw"), Ok(KeyPart::Streams { from: 4, role }));
    }
}
