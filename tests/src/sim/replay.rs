//! The same bytes in other pieces: a view's bytes must not depend on how the primary's arrive.

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, LinkId, Output};
use sluicegate_core::machine::Machine;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::settings::{CrossKey, Settings};
use sluicegate_core::snapshot::{Arrival, Contents, Format};

use super::lens::{Lens, Native};
use super::rng::Rng;
use super::shell::Shell;

/// A snapshot and the stream behind it.
#[derive(Debug)]
pub struct Recording<'a> {
    /// The history.
    pub id: &'a str,
    /// The offset that the snapshot stands for.
    pub offset: u64,
    /// The snapshot.
    pub snapshot: Vec<u8>,
    /// The stream from there on.
    pub stream: &'a [u8],
}

const LINK: LinkId = LinkId(1);

/// The bytes of every view when `recording` arrives in pieces that `rng` cuts, and whether it halted.
pub fn views(settings: &Settings, lenses: &[Lens], recording: &Recording<'_>, rng: &mut Rng) -> Vec<(Vec<u8>, bool)> {
    let pipeline =
        |lens: &Lens| lens.has_plugins().then(|| Box::new(Native::new(*lens, Default::default())) as Box<dyn Pipeline>);
    let mut ids = Rng::new(1);
    let mut settings = settings.clone();
    // All of it is compared, so all of it is kept.
    settings.views.iter_mut().for_each(|view| view.backlog_bytes = 1 << 30);
    // Where the primary's values find their place is a matter of time: without them nothing is.
    settings.views.iter_mut().for_each(|view| view.cross_key = CrossKey::Drop);
    settings.upstream.password = None;
    let pipelines = lenses.iter().map(pipeline).collect();
    let mut machine = Machine::new(settings, pipelines, Box::new(move || ids.entropy()), Shell::time(0));
    let tell = |machine: &mut Machine, input| machine.handle(Shell::time(0), input);
    tell(&mut machine, Input::Tick);
    tell(&mut machine, Input::Connected(0, LINK));
    let head = format!("+FULLRESYNC {} {}\r\n${}\r\n", recording.id, recording.offset, recording.snapshot.len());
    for bytes in [b"+PONG\r\n", &b"+OK\r\n+OK\r\n+OK\r\n"[..], head.as_bytes(), &recording.snapshot] {
        tell(&mut machine, Input::Bytes(LINK, Bytes::copy_from_slice(bytes)));
    }
    let mut arrival = None;
    while let Some(output) = machine.poll_output() {
        match output {
            Output::SpoolOpen(id, Format::Rdb(framing)) => arrival = Some((id, Arrival::new(framing))),
            Output::SpoolWrite(_, bytes) => {
                let (id, arrival) = arrival.as_mut().expect("a spool is opened before it is written to");
                arrival.push(&bytes).expect("the snapshot is sound");
                if arrival.is_complete() {
                    tell(&mut machine, Input::Spooled(*id, arrival.finish().map(Contents::Rdb)));
                }
            }
            _ => {}
        }
    }
    let mut rest = recording.stream;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.portion(rest.len()));
        tell(&mut machine, Input::Bytes(LINK, Bytes::copy_from_slice(piece)));
        rest = behind;
    }
    machine.views().iter().map(whole).collect()
}

fn whole(view: &sluicegate_core::view::View) -> (Vec<u8>, bool) {
    let (mut bytes, backlog) = (Vec::new(), view.backlog());
    let start = backlog.start();
    while let Some(piece) = backlog.read(start + bytes.len() as u64, usize::MAX).filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(&piece);
    }
    (bytes, matches!(view.state(), sluicegate_core::view::State::Halted(_)))
}
