//! What a view makes of one command, told to people. The projection itself is asked; here is only how its answer is read.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Bounds, Projection};
use crate::command::{self, Class, KeyAt, Role, Row, Service, Table};
use crate::fault::{Fault, Party};
use crate::fetch::Value;
use crate::frame::{Scanned, Scanner, scan_args};
use crate::pipeline::{Answers, Fate, KeyBatch, Pipeline};
use crate::resp::{self, Args};
use crate::rope::Rope;

/// The words of one command, its name first.
pub type Words = Vec<Vec<u8>>;

/// What a view makes of one command, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The keys that the command names, in its order.
    pub keys: Vec<NamedKey>,
    /// What goes to the replicas.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub why: &'static str,
}

/// A key that a command names, and what the view has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The database that the key is in: a MOVE or COPY can name one in another database.
    pub db: u32,
    /// The primary's name for it.
    pub key: Vec<u8>,
    /// What the command does to it.
    pub role: Role,
    /// The view's name for it; `None` if the view does not have it.
    pub name: Option<Vec<u8>>,
}

/// Stands for the expiry of a value that is fetched.
pub const EXPIRY: &[u8] = b"<its expiry>";
/// Stands for a value that is fetched.
pub const VALUE: &[u8] = b"<its value>";

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These commands go out.
    Sent(Vec<Words>),
    /// Values are fetched from the primary: these commands go out once they have come. [`EXPIRY`] and [`VALUE`] stand for
    /// what the primary will say.
    Repaired(Vec<Words>),
    /// Nothing goes out.
    Nothing,
    /// The view halts.
    Halts(Fault),
}

/// The view that is asked about.
pub struct Subject<'p> {
    /// The commands that are known.
    pub table: Arc<Table>,
    /// The view's plugins, if it has any.
    pub pipeline: Option<&'p mut dyn Pipeline>,
    /// What the view may use.
    pub bounds: Bounds,
    /// The database that is selected where the command stands.
    pub db: u32,
}

/// What the view makes of the command `words`, standing by itself in the stream of a primary that sends absolute expiries.
///
/// # Errors
/// A plugin fails when it is asked, which would halt the view.
pub fn explain(subject: &mut Subject<'_>, words: &Words) -> Result<Explained, Fault> {
    let frame = encode(words);
    let mut spans = Vec::new();
    let args = scan_args(&frame, &mut spans);
    let table = subject.table.clone();
    let row = table.resolve(args).map(|id| table.row(id));
    let keys = match row {
        Some(row) => keys(subject, row, args)?,
        None => Vec::new(),
    };
    let outcome = outcome(subject, row, &frame);
    let why = why(subject, row, &keys, &outcome, words);
    Ok(Explained { keys, outcome, why })
}

/// Asks the projection.
fn outcome(subject: &mut Subject<'_>, row: Option<&Row>, frame: &[u8]) -> Outcome {
    let mut stream = Vec::new();
    // The end of a transaction means something only where one has begun.
    if row.is_some_and(|row| row.class == Class::Service(Service::Exec)) {
        resp::write_command(&mut stream, &[b"MULTI"]);
    }
    stream.extend_from_slice(frame);
    let (db, pipeline) = (subject.db, subject.pipeline.as_deref());
    let mut projection = Projection::new(subject.table.clone(), pipeline, false, subject.bounds, db);
    let mut out = Rope::default();
    let fed = feed(subject, &mut projection, stream.into(), &mut out).and_then(|()| repair(&mut projection, &mut out));
    let sent = commands(&subject.table, &out.drain().collect::<Vec<_>>().concat(), db);
    match fed {
        Err(fault) => Outcome::Halts(fault),
        Ok(true) => Outcome::Repaired(sent.into_iter().map(with_placeholders).collect()),
        Ok(false) if sent.is_empty() => Outcome::Nothing,
        Ok(false) => Outcome::Sent(sent),
    }
}

/// Gives the projection values for what it asks for. `false`: it asks for nothing.
fn repair(projection: &mut Projection, out: &mut Rope) -> Result<bool, Fault> {
    let wanted = projection.ask(usize::MAX);
    let value = || Some(Value { payload: Bytes::new(), expires_ms: None });
    let values: Vec<_> = wanted.into_iter().map(|wanted| (wanted, value())).collect();
    let any = !values.is_empty();
    projection.restore(values, out)?;
    Ok(any)
}

fn with_placeholders(mut words: Words) -> Words {
    if let [name, _, expiry, value, ..] = &mut words[..]
        && name == b"RESTORE"
    {
        (*expiry, *value) = (EXPIRY.to_vec(), VALUE.to_vec());
    }
    words
}

fn feed(subject: &mut Subject<'_>, projection: &mut Projection, stream: Bytes, out: &mut Rope) -> Result<(), Fault> {
    let mut scanner = Scanner::new(subject.table.clone(), 0, stream.len());
    scanner.push(stream);
    loop {
        match scanner.next() {
            Ok(Some(Scanned::Frames(frames))) => match &mut subject.pipeline {
                Some(pipeline) => projection.project(&frames, Some(&mut **pipeline), 0, out)?,
                None => projection.project(&frames, None, 0, out)?,
            },
            Ok(Some(Scanned::Oversized { .. })) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(Fault::new(Party::Upstream, error.what)),
        }
    }
}

/// The commands of a stream, without a SELECT of what is selected anyway.
fn commands(table: &Arc<Table>, stream: &[u8], db: u32) -> Vec<Words> {
    let mut scanner = Scanner::new(table.clone(), 0, stream.len());
    scanner.push(Bytes::copy_from_slice(stream));
    let (mut commands, mut spans) = (Vec::new(), Vec::new());
    let mut selected = u64::from(db);
    // What a projection wrote can be scanned.
    while let Ok(Some(Scanned::Frames(frames))) = scanner.next() {
        for frame in frames.frames {
            let args = frames.args(frame, &mut spans);
            let selects = if args.is(0, "select") { args.get(1).and_then(resp::decimal) } else { None };
            if selects.is_none_or(|other| core::mem::replace(&mut selected, other) != other) {
                commands.push(args.iter_from(0).map(<[u8]>::to_vec).collect());
            }
        }
    }
    commands
}

/// The keys that a command names. One that does not have the shape of its command has none that anyone could tell.
fn keys(subject: &mut Subject<'_>, row: &Row, args: Args<'_>) -> Result<Vec<NamedKey>, Fault> {
    let mut places = Vec::new();
    if command::keys(row, args, &mut places).is_err() {
        return Ok(Vec::new());
    }
    let mut in_db: Vec<(u32, KeyAt)> = places.iter().map(|&place| (subject.db, place)).collect();
    if let Ok(Some(other)) = command::other_database(row, args) {
        match in_db.get_mut(1) {
            Some(target) => target.0 = other,
            None => in_db.extend(places.first().map(|source| (other, KeyAt { role: Role::Write, ..*source }))),
        }
    }
    in_db.into_iter().map(|(db, place)| named(subject, db, place, args)).collect()
}

fn named(subject: &mut Subject<'_>, db: u32, place: KeyAt, args: Args<'_>) -> Result<NamedKey, Fault> {
    let key = args.get(place.arg as usize).unwrap_or(&[]);
    let mut batch = KeyBatch::new(db);
    batch.push(key);
    let mut answers = Answers::default();
    match &mut subject.pipeline {
        Some(pipeline) => pipeline.keys(&batch, &mut answers)?,
        None => answers.keep_all(1),
    }
    let name = match answers.get(0) {
        Fate::Keep => Some(key.to_vec()),
        Fate::Drop => None,
        Fate::Rename(name) => Some(name.to_vec()),
    };
    Ok(NamedKey { db, key: key.to_vec(), role: place.role, name })
}

/// The rule behind an outcome, in words.
fn why(subject: &Subject<'_>, row: Option<&Row>, keys: &[NamedKey], outcome: &Outcome, words: &Words) -> &'static str {
    let Some(row) = row else { return why_unknown(outcome) };
    let dropped = keys.iter().filter(|key| key.name.is_none()).count();
    match outcome {
        Outcome::Halts(_) if matches!(row.class, Class::Refuse(_)) => {
            "a command that the table refuses halts every view with plugins"
        }
        Outcome::Halts(_) => "no command would be right, and a view halts rather than be wrong",
        Outcome::Repaired(_) => {
            "a kept key gets a value that depends on what the view does not have: the primary is asked for it"
        }
        _ if subject.pipeline.is_none() => "a view without plugins has all that its primary has",
        _ if keys.is_empty() => why_keyless(row.class, outcome),
        Outcome::Nothing if dropped == keys.len() => "the view has none of the keys that it names",
        Outcome::Nothing => "what it writes is not in the view, and the kept keys that it reads stay as they are",
        Outcome::Sent(_) if dropped > 0 => match row.class {
            Class::Subset | Class::Pairs => {
                "what it does to one key does not depend on the others: the kept ones are left"
            }
            _ => "what it does to the kept key can be said without the dropped one",
        },
        Outcome::Sent(sent) if sent[..] == core::slice::from_ref(words)[..] => {
            "the view has every key that it names, under the primary's names"
        }
        Outcome::Sent(_) => "the view has every key that it names, some under other names",
    }
}

fn why_unknown(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Halts(_) => {
            "no table tells what it does to which keys; commands that only read never stand in a stream"
        }
        _ => "a view without plugins has all that its primary has, known or not",
    }
}

fn why_keyless(class: Class, outcome: &Outcome) -> &'static str {
    match (class, outcome) {
        (Class::Service(Service::Ping), _) => "a sign of life passes, except within a transaction",
        (Class::Service(Service::GetAck), _) => "it is a question to the proxy, which answers it",
        (Class::Service(_), _) => "a view writes SELECT, MULTI and EXEC itself, where its own commands need them",
        (Class::Publish | Class::Function, Outcome::Nothing) => {
            "a plugin drops it by its name, or it is Sentinel's own"
        }
        (Class::Publish | Class::Function, _) => "it names no key, and no plugin drops it by its name",
        _ => "it names no key, and means the same to the view",
    }
}

fn encode(words: &Words) -> Vec<u8> {
    let mut frame = Vec::new();
    resp::write_array(&mut frame, words.len());
    words.iter().for_each(|word| resp::write_bulk(&mut frame, word));
    frame
}
