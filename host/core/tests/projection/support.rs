//! A small native pipeline, and the way stories are told.

use std::sync::Arc;

use bytes::Bytes;

use sluicegate_core::command::Table;
use sluicegate_core::fault::Fault;
use sluicegate_core::frame::{Scanned, Scanner};
use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::projection::{Bounds, Projection};
use sluicegate_core::rdb::{Family, ServerVersion};
use sluicegate_core::resp::write_command;
use sluicegate_core::rope::Rope;
use sluicegate_core::settings::CrossKey;

/// When every frame of these stories arrives, in Unix milliseconds.
pub(crate) const NOW: u64 = 1_000_000_000_000;

/// Keys in `x:` are dropped, those in `r:` are called `R:…`, those in `d:` belong to database 0 alone, those in `n:` are named
/// after their database. Channels and libraries that begin with `hidden` are dropped.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    /// Declares that answers do not depend on the database; `d:` and `n:` then are names like any other.
    pub(crate) db_independent: bool,
    /// Decides about channels and function libraries.
    pub(crate) decides_frames: bool,
    /// Fails when it is asked about this key.
    pub(crate) fails_on: Option<&'static [u8]>,
}

impl Pipeline for Rules {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            let key = batch.get(index);
            if self.fails_on == Some(key) {
                return Err(PluginFault { plugin: "rules".into(), what: "it was told to fail".into() });
            }
            if key.starts_with(b"x:") || (!self.db_independent && key.starts_with(b"d:") && batch.db != 0) {
                answers.drop_key(index);
            } else if let Some(rest) = key.strip_prefix(b"r:") {
                answers.rename_key(index, &[b"R:", rest].concat());
            } else if let Some(rest) = key.strip_prefix(b"n:").filter(|_| !self.db_independent) {
                answers.rename_key(index, &[format!("N{}:", batch.db).as_bytes(), rest].concat());
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.extend(batch.subject_offsets.windows(2).map(|ends| {
            let subject = &batch.subjects[ends[0] as usize..ends[1] as usize];
            !subject.starts_with(b"hidden")
        }));
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits {
            db_independent: self.db_independent,
            decides_frames: self.decides_frames,
            renames: false,
            inexact: false,
        }
    }
}

/// How a story is set up.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// `None`: a view without plugins, but with a history of its own.
    pub(crate) rules: Option<Rules>,
    /// The upstream is a 6.2.
    pub(crate) relative: bool,
    /// Bytes that one transaction may hold.
    pub(crate) transaction: usize,
    /// The database that the upstream has selected at the start.
    pub(crate) db: u32,
    /// What becomes of keys that depend on dropped ones.
    pub(crate) cross_key: CrossKey,
    /// The lowest server that the view serves.
    pub(crate) floor: Option<ServerVersion>,
}

impl Setup {
    pub(crate) fn rules() -> Self {
        let (relative, transaction, cross_key) = (false, 1 << 20, CrossKey::Halt);
        Self { rules: Some(Rules::default()), relative, transaction, db: 0, cross_key, floor: None }
    }

    pub(crate) fn plain() -> Self {
        Self { rules: None, relative: true, ..Self::rules() }
    }

    pub(crate) fn with(rules: Rules) -> Self {
        Self { rules: Some(rules), ..Self::rules() }
    }

    /// A view without plugins, for servers from `family` `major`.`minor` on.
    pub(crate) fn floor(family: Family, major: u32, minor: u32) -> Self {
        Self { relative: false, floor: Some(ServerVersion { family, major, minor }), ..Self::plain() }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            transaction_bytes_max: self.transaction,
            args_max: 1024,
            restore_version_max: 11,
            floor: self.floor,
            cross_key: self.cross_key,
            tainted_keys_max: 100,
        }
    }

    /// Runs `stream` cut into chunks of `size` bytes: what came out, and the fault that ended it.
    pub(crate) fn run(&self, stream: &[u8], size: usize) -> (Vec<u8>, Option<Fault>) {
        let table = Arc::new(Table::builtin());
        let bounds = self.bounds();
        let mut rules = self.rules;
        let pipeline = rules.as_ref().map(|rules| rules as &dyn Pipeline);
        let mut projection = Projection::new(table.clone(), pipeline, self.relative, bounds, self.db);
        let mut scanner = Scanner::new(table, 0, 1 << 20);
        let (mut out, mut fault) = (Rope::default(), None);
        for chunk in stream.chunks(size) {
            scanner.push(Bytes::copy_from_slice(chunk));
            while let Some(scanned) = scanner.next().expect("stories are well-formed streams") {
                let Scanned::Frames(frames) = scanned else { panic!("stories have no oversized frames") };
                let pipeline = rules.as_mut().map(|rules| rules as &mut dyn Pipeline);
                fault = projection.project(&frames, pipeline, NOW, &mut out).err();
                if fault.is_some() {
                    return (flat(&mut out), fault);
                }
            }
        }
        (flat(&mut out), fault)
    }

    /// Runs the story `input` in every chunking: what replicas get, and the fault's words.
    pub(crate) fn tell(&self, input: &str) -> (String, Option<String>) {
        let stream = frames(input);
        let (whole, fault) = self.run(&stream, stream.len().max(1));
        for size in [1, 2, 3, 7, 16, 61] {
            let cut = self.run(&stream, size);
            assert_eq!(cut, (whole.clone(), fault.clone()), "reads of {size} bytes: {input}");
        }
        (read(&whole), fault.map(|fault| fault.to_string()))
    }

    /// Every `(input, output)` holds, and none ends in a fault.
    #[track_caller]
    pub(crate) fn gives(&self, stories: &[(&str, &str)]) {
        for (input, output) in stories {
            assert_eq!(self.tell(input), (String::from(*output), None), "{input}");
        }
    }

    /// Every story halts the view: what came out before, and a word of the reason.
    #[track_caller]
    pub(crate) fn halts(&self, stories: &[(&str, &str, &str)]) {
        for (input, output, reason) in stories {
            let (out, fault) = self.tell(input);
            assert_eq!(out, *output, "{input}");
            let fault = fault.unwrap_or_else(|| panic!("it goes on: {input}"));
            assert!(fault.contains(reason), "{input}: {fault}");
            assert!(!fault.contains("x:"), "the name of a dropped key is told: {fault}");
        }
    }
}

pub(crate) fn flat(rope: &mut Rope) -> Vec<u8> {
    rope.drain().flat_map(|piece| piece.to_vec()).collect()
}

/// The bytes of a story. `\n` alone is an empty line; `""` is an empty argument.
pub(crate) fn frames(story: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in story.split(" | ").filter(|frame| !frame.is_empty()) {
        if frame == "\\n" {
            out.push(b'\n');
            continue;
        }
        let words: Vec<&[u8]> =
            frame.split(' ').map(|word| if word == "\"\"" { b"" } else { word.as_bytes() }).collect();
        write_command(&mut out, &words);
    }
    out
}

/// Reads a stream again, by rules of its own: the story that it tells. It must end with a whole frame.
pub(crate) fn read(mut stream: &[u8]) -> String {
    fn number(stream: &mut &[u8], mark: u8) -> usize {
        let end = stream.windows(2).position(|pair| pair == b"\r\n").expect("a header ends in CRLF");
        assert_eq!(stream[0], mark, "{}", stream.escape_ascii());
        let number = std::str::from_utf8(&stream[1..end]).unwrap().parse().expect("a length");
        *stream = &stream[end + 2..];
        number
    }
    let mut story = Vec::new();
    while !stream.is_empty() {
        let mut words = Vec::new();
        for _ in 0..number(&mut stream, b'*') {
            let length = number(&mut stream, b'$');
            assert_eq!(&stream[length..length + 2], b"\r\n");
            words.push(match length {
                0 => "\"\"".into(),
                _ => stream[..length].escape_ascii().to_string(),
            });
            stream = &stream[length + 2..];
        }
        story.push(words.join(" "));
    }
    story.join(" | ")
}
