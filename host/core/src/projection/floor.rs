//! The view's frames for the lowest server that it serves.
//!
//! Behind all else that a view does to the stream: what a server of the floor's version does not know is left out where it
//! means nothing there, said in another way where that comes to the same, and otherwise halts the view. A transaction in which
//! the view halts does not go out.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::printable;
use crate::command::since::{self, Older, Without};
use crate::command::{Class, CommandId, Row, Service, Table};
use crate::fault::{Fault, Party};
use crate::frame::{Frame, Frames, Scanned, Scanner};
use crate::rdb::{ServerVersion, Target, down, functions};
use crate::resp::{self, Args, Span};
use crate::rope::Rope;

/// What has to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Nothing: it is known with all its options.
    Pass,
    /// Its argument 3 is a value in the primary's format.
    Value,
    /// Its argument 2 is libraries in the primary's format.
    Libraries,
    /// It has options that are not known.
    Options,
    /// A transaction begins, or ends.
    Begin,
    End,
    /// It is not known.
    Late(Older),
}

fn rule(floor: &ServerVersion, row: &Row) -> Rule {
    match (row.class, &*row.name) {
        (Class::Service(Service::Multi), _) => Rule::Begin,
        (Class::Service(Service::Exec), _) => Rule::End,
        _ if !since::knows(floor, row) => Rule::Late(since::older(row)),
        (_, "restore" | "restore-asking") => Rule::Value,
        (_, "function|restore") => Rule::Libraries,
        _ if since::has_late_options(floor, row) => Rule::Options,
        _ => Rule::Pass,
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
    /// Another stands in its place.
    Made,
}

/// The last station of a view with a floor.
#[derive(Debug)]
pub(super) struct Floor {
    rules: Rules,
    scanner: Scanner,
    /// What the stations before it made.
    pub(super) made: Rope,
    /// The transaction under way.
    transaction: Option<Rope>,
}

#[derive(Debug)]
struct Rules {
    floor: ServerVersion,
    target: Target,
    table: Arc<Table>,
    /// For each command of the table, by its id.
    rules: Vec<Rule>,
    spans: Vec<Span>,
    /// The frame that stands in the place of another.
    frame: Vec<u8>,
}

impl Floor {
    pub(super) fn new(table: Arc<Table>, floor: ServerVersion) -> Self {
        let rules = table.rows().iter().map(|row| rule(&floor, row)).collect();
        let scanner = Scanner::new(table.clone(), 0, usize::MAX);
        let target = floor.format();
        let rules = Rules { floor, target, table, rules, spans: Vec::new(), frame: Vec::new() };
        Self { rules, scanner, made: Rope::default(), transaction: None }
    }

    /// Takes what was made, and appends to `out` what the floor knows of it. What was appended before an error is sound.
    pub(super) fn pass(&mut self, out: &mut Rope) -> Result<(), Fault> {
        let pieces: Vec<Bytes> = self.made.drain().collect();
        for piece in pieces {
            self.scanner.push(piece);
            loop {
                let own = |what: &str| Fault::new(Party::Own, format!("the view's own stream: {what}"));
                match self.scanner.next().map_err(|error| own(&error.what))? {
                    Some(Scanned::Frames(frames)) => self.rules.frames(&frames, &mut self.transaction, out)?,
                    Some(Scanned::Oversized { bytes, .. }) => return Err(own(&format!("a frame of {bytes} bytes"))),
                    None => break,
                }
            }
        }
        Ok(())
    }
}

impl Rules {
    fn frames(&mut self, frames: &Frames<'_>, transaction: &mut Option<Rope>, out: &mut Rope) -> Result<(), Fault> {
        // Neighbours that are kept go out in one piece.
        let mut run = (0, 0);
        for frame in frames.frames {
            let rule = self.rule_of(frame);
            if rule == Rule::Begin {
                write_run(frames.bytes, &mut run, transaction.as_mut().unwrap_or(&mut *out));
                transaction.get_or_insert_default();
            }
            let fate = match rule {
                Rule::Pass | Rule::Begin | Rule::End => Fate::Keep,
                _ => match self.fate(frames, frame, rule) {
                    Ok(fate) => fate,
                    Err(fault) => {
                        write_run(frames.bytes, &mut run, transaction.as_mut().unwrap_or(out));
                        return Err(fault);
                    }
                },
            };
            let (start, end) = (frame.start as usize, frame.end as usize);
            if fate == Fate::Keep && run.1 == start {
                run.1 = end;
            } else {
                let out = transaction.as_mut().unwrap_or(&mut *out);
                write_run(frames.bytes, &mut run, out);
                match fate {
                    Fate::Keep => run = (start, end),
                    Fate::Made => out.write(&self.frame),
                    Fate::Drop => {}
                }
            }
            if rule == Rule::End
                && let Some(mut whole) = transaction.take()
            {
                write_run(frames.bytes, &mut run, &mut whole);
                whole.drain().for_each(|piece| out.write_shared(piece));
            }
        }
        write_run(frames.bytes, &mut run, transaction.as_mut().unwrap_or(out));
        Ok(())
    }

    fn rule_of(&self, frame: &Frame) -> Rule {
        match frame.command {
            Some(CommandId(id)) => self.rules.get(usize::from(id)).copied().unwrap_or(Rule::Late(Older::Unfit)),
            None if frame.argc == 0 => Rule::Pass,
            None => Rule::Late(Older::Unfit),
        }
    }

    /// What becomes of a frame that cannot just pass; one that is made anew is in `self.frame` then.
    fn fate(&mut self, frames: &Frames<'_>, frame: &Frame, rule: Rule) -> Result<Fate, Fault> {
        let mut spans = core::mem::take(&mut self.spans);
        let args = frames.args(frame, &mut spans);
        self.frame.clear();
        let fate = match rule {
            Rule::Value => self.value(args),
            Rule::Libraries => self.libraries(args),
            Rule::Options => self.options(frame, args),
            Rule::Late(Older::Nothing) => Ok(Fate::Drop),
            Rule::Late(Older::HashSet) => self.hash_set(args),
            Rule::Late(Older::HashDelete) => self.hash_delete(args),
            Rule::Late(Older::Unfit) => Err(self.unfit(args, "")),
            Rule::Pass | Rule::Begin | Rule::End => Ok(Fate::Keep),
        };
        self.spans = spans;
        fate
    }

    /// RESTORE.
    fn value(&mut self, args: Args<'_>) -> Result<Fate, Fault> {
        let payload = down::payload(args.get(3).unwrap_or_default(), self.target);
        let payload = payload.map_err(|fault| self.unfit(args, &format!(": {}", fault.what)))?;
        let Some(payload) = payload else { return Ok(Fate::Keep) };
        self.replaced(args, 3, &payload);
        Ok(Fate::Made)
    }

    /// FUNCTION RESTORE.
    fn libraries(&mut self, args: Args<'_>) -> Result<Fate, Fault> {
        let dump = functions::split_function_dump(args.get(2).unwrap_or_default());
        let (sources, version) = dump.map_err(|error| self.unfit(args, &format!(": {}", error.defect)))?;
        if self.target.covers_payload(u32::from(version)) {
            return Ok(Fate::Keep);
        }
        let payload = functions::join_function_dump(&sources, self.target.version as u16);
        self.replaced(args, 2, &payload);
        Ok(Fate::Made)
    }

    fn options(&mut self, frame: &Frame, args: Args<'_>) -> Result<Fate, Fault> {
        let Some(id) = frame.command else { return Ok(Fate::Keep) };
        let row = self.table.row(id);
        // The arguments that are left out, in order.
        let mut left_out: Vec<usize> = Vec::new();
        let mut from = 0;
        while let Some((at, without)) = since::late_option(&self.floor, row, args, from) {
            match without {
                Without::Arguments(count) => {
                    left_out.extend(at..(at + count).min(args.len()));
                    from = at + count;
                }
                Without::Unfit => {
                    return Err(self.unfit(args, &format!(" with {}", printable(args.get(at).unwrap_or_default()))));
                }
            }
        }
        if left_out.is_empty() {
            return Ok(Fate::Keep);
        }
        resp::write_array(&mut self.frame, args.len().saturating_sub(left_out.len()));
        let kept = args.iter_from(0).enumerate().filter(|(index, _)| !left_out.contains(index));
        kept.for_each(|(_, arg)| resp::write_bulk(&mut self.frame, arg));
        Ok(Fate::Made)
    }

    /// `HSETEX key [FNX|FXX] [KEEPTTL] FIELDS count field value …`: a server in which no field expires has no expiry to keep.
    fn hash_set(&mut self, args: Args<'_>) -> Result<Fate, Fault> {
        let fields = (2..args.len()).find(|at| args.is(*at, "FIELDS")).unwrap_or(args.len());
        let harmless = |at| ["FNX", "FXX", "KEEPTTL"].iter().any(|word| args.is(at, word));
        if !(2..fields).all(harmless) {
            return Err(self.unfit(args, " with an expiry"));
        }
        self.fields_of(b"HSET", args, fields)
    }

    /// `HGETDEL key FIELDS count field …`
    fn hash_delete(&mut self, args: Args<'_>) -> Result<Fate, Fault> {
        self.fields_of(b"HDEL", args, 2)
    }

    /// Another command with the same key and what follows FIELDS and its count.
    fn fields_of(&mut self, name: &[u8], args: Args<'_>, fields: usize) -> Result<Fate, Fault> {
        if !args.is(fields, "FIELDS") || args.len() < fields + 3 {
            return Err(self.unfit(args, ""));
        }
        resp::write_array(&mut self.frame, args.len() - fields);
        resp::write_bulk(&mut self.frame, name);
        resp::write_bulk(&mut self.frame, args.get(1).unwrap_or_default());
        args.iter_from(fields + 2).for_each(|arg| resp::write_bulk(&mut self.frame, arg));
        Ok(Fate::Made)
    }

    /// The command with another argument `index`.
    fn replaced(&mut self, args: Args<'_>, index: usize, instead: &[u8]) {
        resp::write_array(&mut self.frame, args.len());
        for (at, arg) in args.iter_from(0).enumerate() {
            resp::write_bulk(&mut self.frame, if at == index { instead } else { arg });
        }
    }

    #[cold]
    fn unfit(&self, args: Args<'_>, more: &str) -> Fault {
        let name = printable(args.get(0).unwrap_or_default()).to_uppercase();
        let floor = self.floor;
        let what = format!("{name}{more} cannot be said to {floor}, the lowest server of this view (view.floor)");
        Fault::new(Party::Upstream, what)
    }
}

/// Writes the kept neighbours.
fn write_run(bytes: &Bytes, run: &mut (usize, usize), out: &mut Rope) {
    out.write_slice(bytes, run.0, run.1);
    *run = (run.1, run.1);
}
