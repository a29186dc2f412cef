//! Packs streams for other Sluicegates, and unpacks the one that comes from one: a thread for each link, with a codec of its
//! own. The core has one chunk under way for each, so what waits here is bounded.

pub(super) mod arrival;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use bytes::Bytes;
use sluicegate_core::contract::LinkId;
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::pack::{Codec, Sealer};
use sluicegate_core::upstream::packed::Chunk;

use super::{Event, Reports};
use crate::bootstrap::Plugins;

/// What a link's thread is given to do.
enum Work {
    Pack(Vec<Bytes>),
    Unpack(Chunk),
}

/// The links that are packed.
pub(super) struct Packs {
    plugins: Arc<Plugins>,
    reports: Reports,
    links: BTreeMap<LinkId, Sender<Work>>,
}

impl Packs {
    pub(super) fn new(plugins: Arc<Plugins>, reports: Reports) -> Self {
        Self { plugins, reports, links: BTreeMap::new() }
    }

    /// Packs one chunk for a link to a view.
    pub(super) fn pack(&mut self, link: LinkId, view: usize, raw: Vec<Bytes>) {
        self.give(link, Work::Pack(raw), move |plugins| plugins.packer(view));
    }

    /// Unpacks one chunk of the primary's.
    pub(super) fn unpack(&mut self, link: LinkId, chunk: Chunk) {
        self.give(link, Work::Unpack(chunk), Plugins::unpacker);
    }

    /// The link is gone: its thread ends behind what it is doing, and the core knows the link no more.
    pub(super) fn end(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    fn give<F>(&mut self, link: LinkId, work: Work, codec: F)
    where
        F: FnOnce(&Plugins) -> anyhow::Result<Box<dyn Codec>> + Send + 'static,
    {
        let sender = self.links.entry(link).or_insert_with(|| start(link, codec, &self.plugins, &self.reports));
        if let Err(lost) = sender.send(work) {
            // There is no thread: it could not be had, or has panicked.
            self.reports.send(lost.0.event(link, Err(Fault::new(Party::Own, "no thread to pack on"))));
        }
    }
}

fn start<F>(link: LinkId, codec: F, plugins: &Arc<Plugins>, reports: &Reports) -> Sender<Work>
where
    F: FnOnce(&Plugins) -> anyhow::Result<Box<dyn Codec>> + Send + 'static,
{
    let (sender, receiver) = channel::<Work>();
    let (plugins, reports) = (plugins.clone(), reports.clone());
    let thread = thread::Builder::new().name("pack".into()).spawn(move || {
        let codec = codec(&plugins).map_err(|error| Fault::new(Party::Plugin, error.to_string()));
        let mut desk = codec.and_then(|codec| Ok(Sealer::new(codec)?));
        while let Ok(work) = receiver.recv() {
            let outcome = desk.as_mut().map_err(|fault| fault.clone()).and_then(|sealer| work.done(sealer));
            reports.send(work.event(link, outcome));
        }
    });
    if let Err(error) = thread {
        tracing::error!(event = "pack", "no thread to pack on: {error}");
    }
    sender
}

impl Work {
    fn done(&self, sealer: &mut Sealer) -> Result<Bytes, Fault> {
        let mut made = Vec::new();
        match self {
            Self::Pack(pieces) => match &pieces[..] {
                [whole] => sealer.seal(whole, &mut made)?,
                pieces => sealer.seal(&pieces.concat(), &mut made)?,
            },
            Self::Unpack(chunk) => {
                let opened = chunk.head.open(&chunk.body, sealer.codec(), &mut made);
                opened
                    .map_err(|defect| Fault::new(Party::Upstream, format!("a packed chunk of the stream: {defect}")))?;
            }
        }
        Ok(made.into())
    }

    fn event(&self, link: LinkId, outcome: Result<Bytes, Fault>) -> Event {
        match self {
            Self::Pack(_) => Event::Packed(link, outcome),
            Self::Unpack(_) => Event::Unpacked(link, outcome),
        }
    }
}
