//! The command table as a page for people: what a view has of each command. Made from the rows, so that it cannot be wrong
//! about them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Class, KeyPart, KeySpec, Mixed, Rest, Role, Row, Service, Table};
use crate::pipeline::Traits;

/// Whose page it is.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Of any view with plugins.
    General,
    /// Of one view.
    View {
        /// Its name.
        name: &'a str,
        /// What is known of its plugins; `None` if it has none.
        traits: Option<Traits>,
    },
}

impl Scope<'_> {
    fn traits(self) -> Option<Traits> {
        match self {
            Self::General => None,
            Self::View { traits, .. } => traits,
        }
    }

    fn renames(self) -> bool {
        self.traits().is_none_or(|traits| traits.renames)
    }
}

const GENERAL: &str = "\
# What a view makes of each command

A view without plugins has every command as it is, known or not. For one with plugins this page says what goes to its replicas, by
what the plugins keep of the keys. It is made from [the table](../host/core/src/command/table.txt) by
`sluicegate explain --all`; `sluicegate explain 'SUNIONSTORE a b' --view eu` says it of one command and one view.
";

const LEGEND: &str = "
* **Keys**: by argument, where the command's name is 0. *r*: it is read; *w*: overwritten or removed; *rw*: changed in place, or
  taken from.
* **Target**: the last key that a command writes; its other keys are its **sources**. Where there are several dropped
  and kept ones, each kept key has what its column says.
* **Repair**: the new value depends on a key that the view does not have, so it is fetched from the primary.
* A command of which every key is dropped is nothing to the view. † marks what no server of the tests confirms.
";

/// The whole table, as Markdown.
pub fn markdown(table: &Table, scope: Scope<'_>) -> String {
    let mut page = match scope {
        Scope::General => GENERAL.to_string(),
        Scope::View { name, .. } => format!("# What the view `{name}` makes of each command\n"),
    };
    if let Scope::View { traits: None, .. } = scope {
        page.push_str("\nIt has no plugins, and so every command as it is, known or not.\n");
        return page;
    }
    page.push_str(LEGEND);
    let (refused, known): (Vec<&Row>, Vec<&Row>) =
        table.rows().iter().partition(|row| matches!(row.class, Class::Refuse(_)));
    let (keyless, keyed): (Vec<&Row>, Vec<&Row>) = known.into_iter().partition(|row| row.keys == KeySpec::NONE);
    page.push_str("\n## Commands with keys\n\n");
    write_keyed(&mut page, &keyed, scope);
    page.push_str("\n## Commands without keys\n\n");
    line(&mut page, ["Command", "Since", "To the replicas"]);
    line(&mut page, ["---"; 3]);
    for row in keyless {
        line(&mut page, [&*name(row), &since(row), keyless_words(row, scope)]);
    }
    page.push_str("\n## Commands that halt the view\n\nSo does every command that is not on this page, unless the primary describes it: see `command/learned.rs`.\n\n");
    line(&mut page, ["Command", "Since", "Keys", "Why"]);
    line(&mut page, ["---"; 4]);
    for row in refused {
        let Class::Refuse(why) = row.class else { continue };
        line(&mut page, [&*name(row), &since(row), &keys(row), why]);
    }
    page
}

fn write_keyed(page: &mut String, rows: &[&Row], scope: Scope<'_>) {
    let head = ["Command", "Since", "Keys", "All kept", "Renamed", "All dropped", "Source kept", "Target kept"];
    let shown = |index: usize| scope.renames() || index != 4;
    let mut write = |cells: [&str; 8]| {
        line(page, cells.iter().enumerate().filter(|(index, _)| shown(*index)).map(|(_, cell)| *cell));
    };
    write(head);
    write(["---"; 8]);
    for row in rows {
        let (source, target) = mixed(row);
        let renamed = if row.class == Class::Single { "new name" } else { "new names" };
        write([&name(row), &since(row), &keys(row), kept(row), renamed, "nothing", source, target]);
    }
}

fn line<'a>(page: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    for cell in cells {
        page.push_str("| ");
        // A bar would end the cell.
        page.push_str(&cell.replace('|', "\\|"));
        page.push(' ');
    }
    page.push_str("|\n");
}

fn name(row: &Row) -> String {
    let name = row.name.to_ascii_uppercase().replace('|', " ");
    let others = if row.group { ", any other" } else { "" };
    let mark = if row.verified { "" } else { " †" };
    format!("`{name}`{others}{mark}")
}

/// `r8.0,v9.1` is "Redis 8.0, Valkey 9.1".
fn since(row: &Row) -> String {
    let words = row.since.split(',').map(|version| match version.as_bytes().first() {
        Some(b'r') => format!("Redis {}", &version[1..]),
        Some(b'v') => format!("Valkey {}", &version[1..]),
        Some(b'k') => format!("kevy {}", &version[1..]),
        _ if version == "6.2" => "6.2 or earlier".to_string(),
        _ => version.to_string(),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn keys(row: &Row) -> String {
    let parts = row.keys.0.iter().filter(|part| **part != KeyPart::None).map(|part| key_words(*part));
    let mut parts = parts.collect::<Vec<_>>();
    if matches!(row.class, Class::CrossDatabase(_)) && parts.len() == 1 {
        parts.push("the same in the other database *w*".to_string());
    }
    if parts.is_empty() { "–".to_string() } else { parts.join("; ") }
}

fn key_words(part: KeyPart) -> String {
    let every = |step: u32| if step == 1 { "" } else { ", every second" };
    let (place, role) = match part {
        KeyPart::None => return String::new(),
        KeyPart::One { at, role } => (format!("{at}"), role),
        KeyPart::Range { first, spare, step, role } => {
            let end = match spare {
                0 => "the last".to_string(),
                1 => "the last but one".to_string(),
                more => format!("the last but {more}"),
            };
            (format!("{first} to {end}{}", every(step)), role)
        }
        KeyPart::Counted { count, first, step, role } => {
            (format!("from {first}, as many as {count} says{}", every(step)), role)
        }
        KeyPart::Store { role, .. } => ("behind STORE".to_string(), role),
        KeyPart::Streams { role, .. } => ("the first half behind STREAMS".to_string(), role),
    };
    let role = match role {
        Role::Read => "r",
        Role::Write => "w",
        Role::ReadWrite => "rw",
    };
    format!("{place} *{role}*")
}

/// What a view has that keeps every key.
fn kept(row: &Row) -> &'static str {
    match &*row.name {
        "sort" => "as it is; repair if BY or GET read other keys",
        "restore" | "restore-asking" => "as it is, unless its payload is too new for the replicas: halts",
        _ => "as it is",
    }
}

/// What is left for a kept source and for a kept target.
fn mixed(row: &Row) -> (&'static str, &'static str) {
    match row.class {
        Class::Subset => ("the kept keys", "the kept keys"),
        Class::Pairs => ("the kept pairs", "the kept pairs"),
        Class::Cross(Mixed { source, target }) | Class::CrossDatabase(Mixed { source, target }) => {
            (rest(source), rest(target))
        }
        _ => ("–", "–"),
    }
}

fn rest(rest: Rest) -> &'static str {
    match rest {
        Rest::Nothing => "nothing",
        Rest::Del => "`DEL` of it",
        Rest::SetRemove => "`SREM` of the member",
        Rest::SetAdd => "`SADD` of the member",
        Rest::Pop => "`LPOP` or `RPOP` of it",
        Rest::Repair => "repair",
    }
}

/// What a view with plugins has of a command without keys.
fn keyless_words(row: &Row, scope: Scope<'_>) -> &'static str {
    match (row.class, scope.traits()) {
        (Class::SwapDb, None) => "as it is where no plugin tells databases apart; else the view halts",
        (Class::SwapDb, Some(traits)) if !traits.db_independent => "halts: the plugins tell databases apart",
        (Class::Publish, Some(traits)) if !traits.decides_frames => "as it is, except in Sentinel's own channel",
        (Class::Publish, _) => "as it is where the plugins keep the channel, except in Sentinel's own",
        (Class::Function, Some(traits)) if !traits.decides_frames => "as it is",
        (Class::Function, _) => match &*row.name {
            "function|flush" => "as it is",
            "function|restore" => "the libraries that the plugins keep",
            _ => "as it is where the plugins keep the library",
        },
        (Class::Service(Service::Ping), _) => "as it is, except within a transaction",
        (Class::Service(Service::GetAck), _) => "nothing: the proxy answers it",
        (Class::Service(Service::Select), _) => "nothing: the view selects where its own commands need it",
        (Class::Service(Service::Multi | Service::Exec), _) => "as it is, around what the view has of the transaction",
        (Class::Catalog, _) => "nothing: an index over other keys is of no use to it",
        _ => "as it is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_documentation_is_that_of_the_table() {
        let written = include_str!("../../../../docs/commands.md");
        let page = markdown(&Table::builtin(), Scope::General);
        assert!(written == page, "docs/commands.md is not what the command table says: cargo xtask docs");
    }

    #[test]
    fn every_row_is_on_the_page_once() {
        let table = Table::builtin();
        let page = markdown(&table, Scope::General);
        for row in table.rows() {
            let head = format!("\n| {} |", name(row));
            assert_eq!(page.matches(&head).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn a_view_s_page_knows_its_plugins() {
        let plain = Traits { db_independent: true, decides_frames: false, renames: false, inexact: false };
        let page = |traits| markdown(&Table::builtin(), Scope::View { name: "eu", traits });
        let (filter, router) =
            (page(Some(plain)), page(Some(Traits { db_independent: false, renames: true, ..plain })));
        assert!(filter.starts_with("# What the view `eu` makes"));
        assert!(!filter.contains("Renamed") && router.contains("Renamed"));
        assert!(filter.contains("| `SWAPDB` | 6.2 or earlier | as it is |"));
        assert!(router.contains("| `SWAPDB` | 6.2 or earlier | halts: the plugins tell databases apart |"));
        assert!(page(None).contains("every command as it is") && !page(None).contains("SWAPDB"));
    }

    #[test]
    fn rows_are_told_in_words() {
        let page = markdown(&Table::builtin(), Scope::General);
        for line in [
            "| `SUNIONSTORE` | 6.2 or earlier | 1 *w*; 2 to the last *r* | as it is | new names | nothing | nothing | repair |",
            "| `RENAME` | 6.2 or earlier | 1 *rw*; 2 *w* | as it is | new names | nothing | `DEL` of it | repair |",
            "| `MSETEX` | Redis 8.4, Valkey 9.1 | from 2, as many as 1 says, every second *w* | as it is | new names | nothing \
             | the kept pairs | the kept pairs |",
            "| `DELEX` † | Redis 8.4 | 1 *rw* | as it is | new name | nothing | – | – |",
            "| `XGROUP`, any other | 6.2 or earlier | – | a sub-command of XGROUP that the table does not know |",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }
}
