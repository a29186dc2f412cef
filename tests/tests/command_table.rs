//! The command table against what real servers say of their own commands.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use sluicegate_core::command::{Class, KeyPart, Role, Row, Table, keys};
use sluicegate_core::resp::{Args, Span};
use sluicegate_tests::client::{Client, Reply};
use sluicegate_tests::server::{Kind, Server};

const KINDS: [Kind; 4] = [Kind::Redis62, Kind::Redis70, Kind::Redis82, Kind::Valkey91];

/// Commands with the flag `write` that need no row, each with its reason.
const NO_ROW: [(&str, &str); 0] = [];

/// Where the table sees another role than a server does, each with its reason.
const OTHER_ROLE: [(&str, &str); 2] = [
    ("sinterstore", "redis 7.0 calls the overwritten destination RW; later ones say OW, and that is what happens"),
    ("xreadgroup", "servers say RO of the stream, yet the group in it moves on"),
];

/// What a server says of one command.
struct Told {
    name: String,
    arity: i64,
    flags: BTreeSet<String>,
    /// `RO`, `OW`, `RW`, `RM` of each key spec; servers before 7.0 tell none.
    roles: Vec<String>,
}

#[test]
fn every_write_command_of_every_server_has_a_row() -> Result<()> {
    on_each_server(|kind, client| {
        let table = Table::builtin();
        for told in commands(client)? {
            let propagates = told.flags.contains("write") || told.flags.contains("may_replicate");
            if !propagates || NO_ROW.iter().any(|&(name, _)| name == told.name) {
                continue;
            }
            let row =
                row(&table, &told.name).with_context(|| format!("{kind:?} has {}, the table does not", told.name))?;
            // A module that does not say how many arguments its command takes gives -1.
            let wider = told.arity == -1 || widens(i64::from(row.arity), told.arity);
            ensure!(wider, "{kind:?} has arity {} for {}, the table {}", told.arity, told.name, row.arity);
            check_roles(row, &told).with_context(|| format!("{kind:?}, {}", told.name))?;
        }
        Ok(())
    })
}

#[test]
fn keys_are_where_every_server_finds_them() -> Result<()> {
    on_each_server(|kind, client| {
        let table = Table::builtin();
        let has: BTreeMap<String, i64> = commands(client)?.into_iter().map(|told| (told.name, told.arity)).collect();
        let mut compared = 0;
        for row in table.rows().iter().filter(|row| row.keys.0[0] != KeyPart::None) {
            // Before 7.0 only the whole of a group is told of.
            let group = row.name.split('|').next().filter(|_| kind == Kind::Redis62);
            let Some(&arity) = has.get(&*row.name).or_else(|| has.get(group?)) else { continue };
            for line in examples(row) {
                let words: Vec<&str> = line.split(' ').collect();
                // Older servers lack the options that a wider arity stands for.
                if !widens(arity, words.len() as i64) {
                    continue;
                }
                let request: Vec<&str> = ["COMMAND", "GETKEYS"].into_iter().chain(words.iter().copied()).collect();
                let theirs = client.call(&request).with_context(|| format!("{kind:?}"))?;
                let mut theirs: Vec<String> = theirs.items().iter().map(Reply::text).collect();
                let mut ours = key_words(row, &words)?;
                // 6.2 tells sources before destinations.
                theirs.sort();
                ours.sort();
                ensure!(ours == theirs, "{kind:?}, {line}: it finds {theirs:?}, the table {ours:?}");
                compared += 1;
            }
        }
        eprintln!("{kind:?}: {compared} commands compared");
        ensure!(compared > 100, "{kind:?}: only {compared} commands compared");
        Ok(())
    })
}

#[test]
fn a_row_that_counts_as_verified_is_known_to_a_server() -> Result<()> {
    let mut known = BTreeSet::new();
    let mut missing = false;
    for kind in KINDS {
        match kind.find_or_say() {
            Some(_) => {
                known.extend(commands(&mut Server::start(kind, &[])?.client()?)?.into_iter().map(|told| told.name))
            }
            None => missing = true,
        }
    }
    if missing {
        eprintln!("skipped: which rows are verified can be told with all servers only");
        return Ok(());
    }
    for row in Table::builtin().rows() {
        ensure!(row.verified == known.contains(&*row.name), "{}: verified is {}", row.name, row.verified);
    }
    Ok(())
}

fn on_each_server(check: impl Fn(Kind, &mut Client) -> Result<()>) -> Result<()> {
    for kind in KINDS {
        if kind.find_or_say().is_some() {
            let server = Server::start(kind, &[])?;
            check(kind, &mut server.client()?)?;
        }
    }
    Ok(())
}

/// Every command and sub-command that the server has.
fn commands(client: &mut Client) -> Result<Vec<Told>> {
    let mut found = Vec::new();
    let mut open = client.call(&["COMMAND"])?.items();
    while let Some(entry) = open.pop() {
        let fields = entry.items();
        let field = |index: usize| fields.get(index).cloned().unwrap_or(Reply::Nil);
        let name = field(0).text().to_lowercase();
        ensure!(!name.is_empty(), "a command without a name");
        let arity = field(1).int().context("an arity")?;
        let flags = field(2).items().iter().map(Reply::text).collect();
        let roles = field(8).items().into_iter().filter_map(role_of_spec).collect();
        found.push(Told { name, arity, flags, roles });
        open.extend(field(9).items());
    }
    Ok(found)
}

fn role_of_spec(spec: Reply) -> Option<String> {
    let fields = spec.items();
    let at = fields.iter().position(|field| field.text() == "flags")?;
    let flags: Vec<String> = fields.get(at + 1)?.clone().items().iter().map(Reply::text).collect();
    flags.into_iter().find(|flag| ["RO", "OW", "RW", "RM"].contains(&flag.as_str()))
}

fn row<'a>(table: &'a Table, name: &str) -> Option<&'a Row> {
    table.rows().iter().find(|row| row.name == name)
}

/// Whether all that fits `narrow` fits `wide`.
fn widens(wide: i64, narrow: i64) -> bool {
    if wide < 0 { narrow.abs() >= wide.abs() } else { wide == narrow }
}

/// The roles of the table against those of the server's key specs, part by part as far as both go: a server has one spec
/// for STORE and one for STOREDIST, and some rows that are refused name no keys.
fn check_roles(row: &Row, told: &Told) -> Result<()> {
    if OTHER_ROLE.iter().any(|&(name, _)| row.name == name) {
        return Ok(());
    }
    let ours = row.keys.0.into_iter().filter_map(|part| match part {
        KeyPart::None => None,
        KeyPart::One { role, .. }
        | KeyPart::Range { role, .. }
        | KeyPart::Counted { role, .. }
        | KeyPart::Store { role, .. }
        | KeyPart::Streams { role, .. } => Some(role),
    });
    // SORT's second spec stands for the keys that its patterns read, which no frame names.
    let told = told.roles.iter().take(if row.name == "sort" { 1 } else { 2 });
    for (ours, theirs) in ours.zip(told) {
        let same = match theirs.as_str() {
            "RO" => ours == Role::Read,
            "RW" => ours == Role::ReadWrite,
            _ => ours == Role::Write,
        };
        ensure!(same, "the server says {theirs}, the table {ours:?}");
    }
    Ok(())
}

/// Full commands of a row: written by hand where the syntax matters to GETKEYS, else made of the arity.
fn examples(row: &Row) -> Vec<String> {
    let by_hand: &[&str] = match &*row.name {
        "bitop" => &["BITOP AND dst a b c", "BITOP NOT dst a"],
        "copy" => &["COPY a b", "COPY a b DB 3 REPLACE"],
        "mset" | "msetnx" => &["MSET a 1", "MSET a 1 b 2 c 3"],
        "msetex" => &["MSETEX 1 a 1", "MSETEX 2 a 1 b 2 NX PX 100"],
        "sort" => &[
            "SORT src",
            "SORT src BY w_* STORE dst",
            "SORT src BY store GET store LIMIT 0 5 STORE dst",
            "SORT src STORE one ALPHA STORE two",
        ],
        // Of STORE and STOREDIST together the last wins; GETKEYS tells both, so that is not asked here.
        "georadius" => &[
            "GEORADIUS src 15 37 200 km",
            "GEORADIUS src 15 37 200 km STORE dst",
            "GEORADIUS src 15 37 200 km COUNT 3 ASC STOREDIST dst",
        ],
        "georadiusbymember" => &["GEORADIUSBYMEMBER src m 200 km", "GEORADIUSBYMEMBER src store 200 km STOREDIST dst"],
        "zunionstore" | "zinterstore" => &["ZUNIONSTORE dst 1 a", "ZINTERSTORE dst 2 a b WEIGHTS 1 2 AGGREGATE MAX"],
        "zdiffstore" => &["ZDIFFSTORE dst 2 a b"],
        "lmpop" => &["LMPOP 2 a b LEFT COUNT 3"],
        "zmpop" => &["ZMPOP 2 a b MIN"],
        "blmpop" => &["BLMPOP 0 2 a b LEFT"],
        "bzmpop" => &["BZMPOP 0 2 a b MAX"],
        "blpop" | "brpop" | "bzpopmin" | "bzpopmax" => &["BLPOP a 0", "BZPOPMIN a b c 0"],
        "eval" | "evalsha" => &["EVAL script 2 a b x", "EVALSHA sha 1 a"],
        "fcall" => &["FCALL f 2 a b x"],
        "xreadgroup" => &["XREADGROUP GROUP g c COUNT 1 STREAMS a b > >", "XREADGROUP GROUP streams c STREAMS a >"],
        // PFMERGE without a source is valid, but GETKEYS of 7.0 and later refuses it.
        "pfmerge" => &["PFMERGE dst a", "PFMERGE dst a b"],
        "pfdebug" => &["PFDEBUG GETREG k"],
        "xgroup|create" => &["XGROUP CREATE k g $ MKSTREAM"],
        _ => &[],
    };
    if !by_hand.is_empty() {
        // Commands that share a syntax share their examples.
        let named = |line: &&str| format!("{} {}", row.name, line.split_once(' ').map_or("", |(_, rest)| rest));
        let line = |line: &&str| if row.name.contains('|') { (*line).to_owned() } else { named(line) };
        return by_hand.iter().map(line).collect();
    }
    let words = row.name.split('|').count();
    let least = row.arity.unsigned_abs() as usize;
    let made = |len: usize| {
        let rest = (words..len).map(|index| format!("a{index}"));
        row.name.split('|').map(str::to_owned).chain(rest).collect::<Vec<_>>().join(" ")
    };
    let most = if row.arity < 0 { least + 2 } else { least };
    (least..=most).map(made).collect()
}

/// The keys that the table finds in a command.
fn key_words(row: &Row, words: &[&str]) -> Result<Vec<String>> {
    let mut spans = Vec::new();
    let frame = words.concat();
    let mut start = 0;
    for word in words {
        let end = start + word.len() as u32;
        spans.push(Span { start, end });
        start = end;
    }
    let mut found = Vec::new();
    keys(row, Args { frame: frame.as_bytes(), spans: &spans }, &mut found)?;
    Ok(found.iter().map(|key| words[key.arg as usize].to_owned()).collect())
}

#[test]
fn no_refused_row_is_without_a_reason() {
    for row in Table::builtin().rows() {
        if let Class::Refuse(reason) = row.class {
            assert!(reason.len() > 20, "{}: {reason}", row.name);
        }
    }
}
