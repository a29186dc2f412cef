//! What a primary of the stories says, and what their views make of it.

use sluicegate_core::kevy::settings::View;
use sluicegate_core::kevy::wire;
use sluicegate_core::pipeline::{Answers, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::resp::write_command;
use sluicegate_core::settings::ViewSettings;

use crate::model::{Entry, Model, blob};

/// The generation of the primary, where a story has only one.
pub(crate) const G: u64 = 77;
/// What the machine says that holds nothing.
pub(crate) const NOTHING: &str = "REPLICATE FROM 0 0 ID sluicegate#0";

/// Drops keys in `x:` and fails on `fail`. If it renames, `r:name` is called `moved:name`.
struct Rules {
    renames: bool,
}

/// The name that a view with [`Rules`] has for a key.
pub(crate) fn named(key: &[u8], renames: bool) -> Option<Vec<u8>> {
    match key.strip_prefix(b"r:") {
        Some(rest) if renames => Some([b"moved:", rest].concat()),
        _ => (!key.starts_with(b"x:")).then(|| key.to_vec()),
    }
}

impl Pipeline for Rules {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            let key = batch.get(index);
            if key == b"fail" {
                return Err(PluginFault { plugin: "rules".into(), what: "it was told to fail".into() });
            }
            match named(key, self.renames) {
                None => answers.drop_key(index),
                Some(name) if name != key => answers.rename_key(index, &name),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        KeepAll.frames(batch, keep)
    }

    fn traits(&self) -> Traits {
        Traits { renames: self.renames, ..KeepAll.traits() }
    }
}

/// What kind of view a story wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Filter,
    Rename,
}

impl Kind {
    pub(crate) fn pipeline(self) -> Option<Box<dyn Pipeline>> {
        (self != Self::Plain).then(|| Box::new(Rules { renames: self == Self::Rename }) as Box<dyn Pipeline>)
    }
}

/// A view of `shards` shards.
pub(crate) fn view(name: &str, shards: usize) -> View {
    View { view: ViewSettings::new(name), shards }
}

/// A snapshot of strings.
pub(crate) fn snapshot(keys: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| Entry {
        code: 1,
        ttl: None,
        key: key.as_bytes().to_vec(),
        rest: blob(value.as_bytes()),
    };
    Model { version: 6, entries: keys.iter().map(entry).collect(), aux: None, reads: Vec::new() }.bytes()
}

/// The live frame number `offset`.
pub(crate) fn live(offset: u64, words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_envelope(&mut out, offset);
    write_command(&mut out, &words.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    out
}

/// `SET <key> <so many bytes>` as frame number `offset`.
pub(crate) fn large(offset: u64, key: &str, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_envelope(&mut out, offset);
    write_command(&mut out, &[b"SET", key.as_bytes(), &vec![b'v'; bytes]]);
    out
}

/// How a primary gives a snapshot, behind which frame `next` comes.
pub(crate) fn given(body: &[u8], next: u64) -> Vec<u8> {
    let mut out = b"+SNAPSHOT\r\n".to_vec();
    for piece in body.chunks(wire::CHUNK_BYTES_MAX) {
        wire::write_chunk_header(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(wire::CHUNK_END);
    }
    wire::write_snapshot_end(&mut out, next);
    out
}

/// The words of a handshake or command, with spaces between.
pub(crate) fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ").trim_end().into()
}
