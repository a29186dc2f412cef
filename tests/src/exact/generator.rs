//! Random commands from the whole table: alone, in transactions and in scripts, determined by a seed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::draw::{CONTENTS, Draw, Mix, Prepared};
use super::line::{command, quote};
use super::templates::{self, SCRIPT, Template};
use crate::client::{Client, Reply};
use crate::server::Kind;
use crate::workload::Command;

/// Rows that give keys something to hold; drawn more often, or most keys would be empty most of the time.
const MAKERS: [&str; 12] =
    ["append", "geoadd", "hset", "incrby", "pfadd", "restore", "rpush", "sadd", "set", "setbit", "xadd", "zadd"];

/// Rows that are drawn only once in so many times that their turn comes: they empty whole databases, or take their time.
const RARE: [(&str, u32); 8] = [
    ("flushall", 60),
    ("flushdb", 15),
    ("swapdb", 8),
    ("function|flush", 6),
    ("function|restore", 3),
    ("migrate", 4),
    ("replconf|getack", 8),
    ("script|flush", 4),
];

/// Rows that are transactions themselves.
const TRANSACTIONS: [&str; 3] = ["discard", "exec", "multi"];

/// Rows that block outside of transactions where there is nothing to take.
const BLOCKING: [&str; 8] = ["blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin"];

/// Calls the commands that it is given, each behind the number of its words; errors are nobody's business.
const CALLER: &str = "local i = 1 while i <= #ARGV do local n = tonumber(ARGV[i]) local words = {} \
    for j = 1, n do words[j] = ARGV[i + j] end redis.pcall(unpack(words)) i = i + n + 1 end";

/// A source of commands.
#[derive(Debug)]
pub struct Generator {
    draw: Draw,
    rows: Vec<&'static str>,
    templates: BTreeMap<&'static str, Template>,
}

impl Generator {
    /// Commands for the server behind `client`, which must be empty and is left so; all that follows is determined by the
    /// seed. `without` names rows that are left out.
    ///
    /// # Errors
    /// The connection broke.
    pub fn new(
        seed: u64,
        server: Kind,
        client: &mut Client,
        mix: Mix,
        neighbour: u16,
        without: &[&str],
    ) -> Result<Self> {
        let known = known(client)?;
        let prepared = prepare(client, &known, neighbour)?;
        let templates: BTreeMap<_, _> = templates::all().filter(|(row, _)| has_row(&known, row)).collect();
        let rows = templates.keys().copied().filter(|row| !without.contains(row)).collect();
        Ok(Self { draw: Draw::new(seed, server, prepared, mix), rows, templates })
    }

    /// The rows that it draws from.
    pub fn rows(&self) -> &[&'static str] {
        &self.rows
    }

    /// The next commands, which belong together: they must go through one connection with nothing in between.
    pub fn unit(&mut self) -> Vec<Command> {
        match self.draw.below(100) {
            0..5 => {
                let db = self.draw.db();
                vec![self.command(&format!("SELECT {db}"))]
            }
            5..13 => self.transaction(),
            13..17 => self.script(),
            _ => {
                let row = self.row();
                let commands = self.invocation(row);
                match BLOCKING.contains(&row) && !self.draw.one_in(10) {
                    true => self.wrapped(commands, "EXEC"),
                    false => commands,
                }
            }
        }
    }

    /// The commands of a client, the last of which blocks, and those of another client that serve it.
    pub fn served(&mut self) -> (Vec<Command>, Vec<Command>) {
        self.draw.begin();
        let (blocked, serving) = templates::served(&mut self.draw);
        let mut commands = |lines: &str| lines.lines().map(|line| self.command(line)).collect();
        (commands(&blocked), commands(&serving))
    }

    /// What keys hold: one command of a row that makes things.
    pub fn maker(&mut self) -> Vec<Command> {
        let row = self.draw.pick(&MAKERS);
        self.invocation(row)
    }

    /// One invocation of a row, with the commands that set its stage.
    pub fn invocation(&mut self, row: &str) -> Vec<Command> {
        self.draw.begin();
        let lines = self.templates.get(row).map(|template| template(&mut self.draw)).unwrap_or_default();
        lines.lines().map(|line| self.command(line)).collect()
    }

    fn command(&mut self, line: &str) -> Command {
        let lower = self.draw.one_in(8);
        command(line, lower)
    }

    fn row(&mut self) -> &'static str {
        if self.draw.one_in(3) {
            let row = self.draw.pick(&MAKERS);
            if self.rows.contains(&row) {
                return row;
            }
        }
        loop {
            let row = self.draw.pick(&self.rows);
            let rarity = RARE.iter().find(|(rare, _)| *rare == row).map_or(1, |&(_, rarity)| rarity);
            if self.draw.one_in(rarity) {
                return row;
            }
        }
    }

    /// One to six invocations of rows that are no transactions themselves.
    fn several(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        for _ in 0..=self.draw.below(6) {
            let row = match self.draw.one_in(8) {
                true => "select",
                false => self.row(),
            };
            if !TRANSACTIONS.contains(&row) {
                commands.append(&mut self.invocation(row));
            }
        }
        commands
    }

    fn transaction(&mut self) -> Vec<Command> {
        let commands = self.several();
        let end = if self.draw.one_in(12) { "DISCARD" } else { "EXEC" };
        self.wrapped(commands, end)
    }

    fn wrapped(&mut self, commands: Vec<Command>, end: &str) -> Vec<Command> {
        [vec![self.command("MULTI")], commands, vec![self.command(end)]].concat()
    }

    fn script(&mut self) -> Vec<Command> {
        let mut call = command(&format!("EVAL {} 0", quote(CALLER.as_bytes())), false);
        for mut words in self.several() {
            call.push(words.len().to_string().into_bytes());
            call.append(&mut words);
        }
        vec![call]
    }
}

/// The names of all commands and sub-commands that a server has.
///
/// # Errors
/// The connection broke.
pub fn known(client: &mut Client) -> Result<BTreeSet<String>> {
    let mut open = client.call(&["COMMAND"])?.items();
    let mut names = BTreeSet::new();
    while let Some(entry) = open.pop() {
        let mut fields = entry.items().into_iter();
        names.insert(fields.next().context("a command has a name")?.text().to_lowercase());
        open.extend(fields.nth(8).unwrap_or(Reply::Nil).items());
    }
    Ok(names)
}

/// Whether a server that has these commands can send this row.
fn has_row(known: &BTreeSet<String>, row: &str) -> bool {
    // A primary asks its replicas by itself where a client waits for them.
    known.contains(if row == "replconf|getack" { "wait" } else { row })
}

/// Makes values for RESTORE and the like, and takes them away again.
fn prepare(client: &mut Client, known: &BTreeSet<String>, neighbour: u16) -> Result<Prepared> {
    let mut prepared = Prepared { neighbour, ..Prepared::default() };
    for content in CONTENTS {
        let line = match content {
            "num" => "SET p 12",
            "bits" => "SETBIT p 77 1",
            "list" => "RPUSH p w5 w6 1 2 longer",
            "nums" => "RPUSH p 3 1 2",
            "set" => "SADD p w5 w6 w7 1",
            "ints" => "SADD p 1 2 3 4000",
            "zset" => "ZADD p 1 w5 2.5 w6 -3 1",
            "geo" => "GEOADD p 13.125 38.5 w5 15.125 37.5 w6",
            "hash" => "HSET p w5 a w6 b 1 c",
            "xs" => "XADD p 1-1 f v",
            "hll" => "PFADD p a b c",
            "vec" if known.contains("vadd") => "VADD p VALUES 3 1 2 3 w5",
            _ => "SET p some-value",
        };
        client.run(line)?;
        prepared.dumps.push(client.run("DUMP p")?.bytes());
        client.run("DEL p")?;
    }
    client.call(&["FUNCTION", "LOAD", "#!lua name=restored\nredis.register_function('r', function() return 1 end)"])?;
    prepared.libraries = client.run("FUNCTION DUMP")?.bytes();
    client.run("FUNCTION FLUSH")?;
    prepared.digest = client.call(&["SCRIPT", "LOAD", SCRIPT])?.text();
    Ok(prepared)
}
