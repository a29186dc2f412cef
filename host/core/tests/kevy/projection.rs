//! Stories about kevy's live stream as a view sees it: `(what a primary sends, what the view's streams get)`.
//!
//! Each story is one line a side, commands parted by ` | `; before what comes out stands its stream. A story is run
//! whole and cut into reads of several sizes, and all must tell the same. Keys in `x:` are dropped, and `r:name` is
//! called `{name}R`, which lies where `name` would. Of two shards `a`, `k2`, `k3` and `q` lie in 0 and `b` and `k1` in
//! 1; of three `k2` in 0, `a`, `k3` and `q` in 1, `b` and `k1` in 2.

mod deadlines;
mod model;
mod rules;
mod verbs;

use std::sync::Arc;

use bytes::Bytes;
use sluicegate_core::command::Table;
use sluicegate_core::fault::Fault;
use sluicegate_core::kevy::projection::{Projection, Sink};
use sluicegate_core::kevy::route::Routing;
use sluicegate_core::kevy::{Event, Scanner};
use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::projection::Counts;
use sluicegate_core::resp::{Span, write_command};

/// When every command of the stories arrives, in Unix milliseconds.
const NOW: u64 = 1_000_000_000_000;

/// The pipeline of the stories.
#[derive(Clone, Copy, Default)]
struct Rules {
    /// Decides about channels: those that begin with `hidden` are dropped.
    decides_frames: bool,
    /// Fails when it is asked about this key.
    fails_on: Option<&'static [u8]>,
}

/// The name that a view of the stories has for a key.
fn view_of(key: &[u8]) -> Option<Vec<u8>> {
    match key.strip_prefix(b"r:") {
        Some(rest) => Some([b"{", rest, b"}R"].concat()),
        None if key.starts_with(b"x:") => None,
        None => Some(key.to_vec()),
    }
}

impl Pipeline for Rules {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        assert_eq!(batch.db, 0, "kevy has one database");
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            let key = batch.get(index);
            if self.fails_on == Some(key) {
                return Err(PluginFault { plugin: "rules".into(), what: "it was told to fail".into() });
            }
            match view_of(key) {
                None => answers.drop_key(index),
                Some(name) if name != key => answers.rename_key(index, &name),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        keep.clear();
        keep.push(!batch.subjects.starts_with(b"hidden"));
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { db_independent: true, decides_frames: self.decides_frames, renames: true, inexact: false }
    }
}

/// What came out: each command with its stream.
#[derive(Default)]
struct Out {
    commands: Vec<(usize, Vec<u8>)>,
    /// How many pieces the last one had.
    pieces: usize,
}

impl Sink for Out {
    fn command(&mut self, shard: usize, pieces: &[&[u8]]) {
        self.pieces = pieces.len();
        self.commands.push((shard, pieces.concat()));
    }
}

/// A primary's answer to the handshake, and then these commands.
fn stream(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut stream = b"+ACK 0\r\n".to_vec();
    for (offset, command) in commands.iter().enumerate() {
        stream.extend_from_slice(format!("*2\r\n:{offset}\r\n").as_bytes());
        write_command(&mut stream, &command.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    stream
}

/// The commands of a line, parted by ` | `.
fn commands(line: &str) -> Vec<Vec<Vec<u8>>> {
    let lines = line.split(" | ").filter(|line| !line.is_empty());
    lines.map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect()).collect()
}

/// The words of one command, read strictly.
fn words(command: &[u8]) -> Vec<Vec<u8>> {
    let mut spans: Vec<Span> = Vec::new();
    let args = sluicegate_core::frame::scan_args(command, &mut spans);
    let words: Vec<Vec<u8>> = args.iter_from(0).map(<[u8]>::to_vec).collect();
    let (mut again, slices) = (Vec::new(), words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    write_command(&mut again, &slices);
    assert_eq!(command, again, "exactly one command, and nothing behind it");
    words
}

/// How a story is set up.
#[derive(Clone, Copy)]
struct Setup {
    /// `None`: a view without plugins.
    rules: Option<Rules>,
    home: Option<usize>,
    shards: usize,
    field_deadlines: bool,
}

/// What a story came to.
struct Told {
    out: Out,
    fault: Option<Fault>,
    counts: Counts,
    failed: u64,
}

impl Setup {
    /// A view with plugins that has one stream, as its primary has.
    fn rules() -> Self {
        Self { rules: Some(Rules::default()), home: Some(0), shards: 1, field_deadlines: true }
    }

    /// A view without plugins that has one stream, as its primary has.
    fn plain() -> Self {
        Self { rules: None, ..Self::rules() }
    }

    /// The same, with so many streams, which keys of any shard of the primary can come to.
    fn over(self, shards: usize) -> Self {
        Self { home: None, shards, ..self }
    }

    /// The same, with three streams of which only this one gets anything.
    fn at(self, home: usize) -> Self {
        Self { home: Some(home), shards: 3, ..self }
    }

    /// Runs `commands`, cut into reads of `size` bytes.
    fn run(&self, commands: &[Vec<Vec<u8>>], size: usize) -> Told {
        let stream = stream(commands);
        let table = Arc::new(Table::kevy());
        let mut rules = self.rules;
        let pipeline = rules.as_ref().map(|rules| rules as &dyn Pipeline);
        let routing = Routing::Hashtag;
        let mut projection = Projection::new(table.clone(), pipeline, self.shards, routing, self.field_deadlines);
        let mut scanner = Scanner::new(table, 1 << 26);
        let (mut out, mut fault) = (Out::default(), None);
        for piece in stream.chunks(size) {
            scanner.push(Bytes::copy_from_slice(piece));
            while let Some(event) = scanner.next().expect("stories are well-formed streams") {
                let Event::Frames { frames, .. } = event else { continue };
                let pipeline = rules.as_mut().map(|rules| rules as &mut dyn Pipeline);
                if fault.is_none() {
                    fault = projection.project(&frames, pipeline, self.home, NOW, &mut out).err();
                }
            }
        }
        Told { out, fault, counts: projection.counts(), failed: projection.failed() }
    }

    /// Runs the story `input` in every chunking: what came out, and the fault's words.
    fn tell(&self, input: &str) -> (String, Option<String>) {
        let commands = commands(input);
        let whole = self.run(&commands, usize::MAX);
        for size in [1, 2, 3, 7, 16, 61] {
            let cut = self.run(&commands, size);
            assert_eq!(cut.out.commands, whole.out.commands, "reads of {size} bytes: {input}");
            assert_eq!(cut.fault, whole.fault, "reads of {size} bytes: {input}");
        }
        let lines = whole.out.commands.iter().map(|(shard, command)| {
            let words: Vec<String> =
                words(command).iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect();
            format!("{shard} {}", words.join(" "))
        });
        (lines.collect::<Vec<_>>().join(" | "), whole.fault.map(|fault| fault.to_string()))
    }

    /// Every story passes without a fault.
    #[track_caller]
    fn passes(&self, stories: &[(&str, &str)]) {
        for (input, expected) in stories {
            assert_eq!(self.tell(input), ((*expected).to_owned(), None), "{input}");
        }
    }

    /// Every story ends with a fault of the upstream, with what comes out before it.
    #[track_caller]
    fn halts(&self, stories: &[(&str, &str, &str)]) {
        for (input, expected, why) in stories {
            let why = Some(format!("upstream: {why}"));
            assert_eq!(self.tell(input), ((*expected).to_owned(), why), "{input}");
        }
    }
}
