//! What the stories share.

use std::sync::{Arc, LazyLock, Mutex};

use sluicegate_core::pipeline::{Answers, Fate, KeyBatch, Pipeline, PluginFault};
use sluicegate_guest::{GuestPipeline, LoadError, PluginSpec, Room, RoomSettings};

/// One room for all tests of a file.
pub(crate) static ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(RoomSettings::default()).expect("a room"));

/// A pipeline of these plugins.
pub(crate) fn pipeline(specs: impl IntoIterator<Item = PluginSpec>) -> Result<GuestPipeline, LoadError> {
    let plugins = specs.into_iter().map(|spec| ROOM.load(spec).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    ROOM.pipeline(&plugins)
}

/// The hostile plugin in one of its modes.
pub(crate) fn hostile(mode: &str) -> PluginSpec {
    PluginSpec::new("hostile", sluicegate_bundle::HOSTILE).set("mode", mode)
}

/// Asks about keys of database `db`: each key's name in the view, or `None` if it is dropped.
pub(crate) fn ask(pipeline: &mut GuestPipeline, db: u32, keys: &[&str]) -> Result<Vec<Option<String>>, PluginFault> {
    let mut batch = KeyBatch::new(db);
    for key in keys {
        batch.push(key.as_bytes());
    }
    let mut answers = Answers::default();
    pipeline.keys(&batch, &mut answers)?;
    assert_eq!(answers.len(), keys.len());
    let name = |index: usize, key: &str| match answers.get(index) {
        Fate::Keep => Some(key.to_owned()),
        Fate::Rename(name) => Some(String::from_utf8_lossy(name).into_owned()),
        Fate::Drop => None,
    };
    Ok(keys.iter().enumerate().map(|(index, key)| name(index, key)).collect())
}

/// Everything logged by this process, one event a line.
pub(crate) static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("sluicegate")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        LOGGED.lock().expect("no test panics while it logs").push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Records the log from now on.
pub(crate) fn record_log() {
    let _ = tracing::subscriber::set_global_default(Recorder);
}

/// The recorded lines that contain `text`.
pub(crate) fn logged(text: &str) -> Vec<String> {
    LOGGED.lock().expect("no test panics while it logs").iter().filter(|line| line.contains(text)).cloned().collect()
}
