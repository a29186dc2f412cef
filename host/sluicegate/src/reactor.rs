//! The reactor: moves bytes between sockets, files and the core, and knows no protocol: the machine that it drives does.
//!
//! Everything that could block (names, connections, disks, snapshots) happens on threads of its own, which report through
//! [`Event`]s. The loop itself only reads, hands in, asks what to do, and writes.

pub(crate) mod dial;
mod farewell;
mod links;
mod log;
mod pack;
mod probe;
mod quota;
mod ship;
mod spool;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use sluicegate_core::contract::{Drive, Input, Level, LinkId, LogId, LogReport, Note, Now, Output, SpoolId};
use sluicegate_core::fault::Fault;
use sluicegate_core::rdb::ServerVersion;
use sluicegate_core::snapshot::Contents;

use crate::bootstrap::Plugins;
use crate::config::Ports;
use dial::Primary;
use farewell::Farewells;
use links::{Links, Read};
use log::Logs;
use pack::Packs;
use quota::Quota;
use ship::Ships;
use spool::Spools;
pub(crate) use spool::{Kept, newest as kept_snapshot};

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LISTENERS: usize = 2;
/// Links have the tokens from here on.
const LINKS: usize = 1 << 16;
/// Links on view ports at once; more are closed at once, and logged.
const LINKS_MAX: usize = 10_000;
/// After a first signal, links get this long to take what waits for them.
const DRAIN: Duration = Duration::from_secs(5);

/// Two clocks: one for waiting, one for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Begins at 0.
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub(crate) fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.0.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as u64 }
    }
}

/// What threads report.
pub(crate) enum Event {
    /// A connection to this port of the primary, or why there is none.
    Dialed(usize, Result<std::net::TcpStream, String>),
    /// Bytes of a snapshot that have reached the disk.
    SpoolWritten(SpoolId, usize),
    /// A snapshot has arrived, or has failed.
    Spooled(SpoolId, Result<Contents, Fault>),
    /// What the disk gives back of a snapshot is not what was written.
    SpoolDamaged(SpoolId, String),
    /// What has become of orders for a log.
    Log(LogId, LogReport),
    /// A packed snapshot stands still, see [`Input::SpoolPaused`].
    SpoolPaused(SpoolId, u64, Option<Fault>),
    /// A chunk is packed.
    Packed(LinkId, Result<Bytes, Fault>),
    /// A chunk of the primary's is unpacked.
    Unpacked(LinkId, Result<Bytes, Fault>),
    /// A replica's version, where it could be found out.
    Probed(LinkId, Option<ServerVersion>),
}

/// Sends events from threads and wakes the loop for them.
#[derive(Clone)]
pub(crate) struct Reports {
    sender: Sender<Event>,
    waker: Arc<Waker>,
}

impl Reports {
    fn send(&self, event: Event) {
        // Neither fails while the loop runs, and behind it nobody listens any more.
        let _ = self.sender.send(event);
        self.wake();
    }

    fn wake(&self) {
        let _ = self.waker.wake();
    }
}

/// Where snapshots are kept, and how fast they go out.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// The one that an earlier run left, and that the machine begins from.
    pub(crate) kept: Option<Kept>,
    /// The most that they may take up there. Bytes.
    pub(crate) disk_bytes: u64,
    /// All of them together. Bytes a second; 0: as fast as they are taken.
    pub(crate) rate: u64,
    /// Those of each view, in their order. Bytes a second; 0: as fast as they are taken.
    pub(crate) view_rates: Vec<u64>,
}

/// An open port.
pub(crate) struct Listener {
    /// Index of the view that is served there.
    view: usize,
    /// Which of the ports of its address it is.
    port: usize,
    socket: TcpListener,
}

/// Opens the ports of all views.
pub(crate) fn listen(ports: &[(usize, Ports)]) -> anyhow::Result<Vec<Listener>> {
    let each = ports.iter().flat_map(|(view, ports)| ports.each().enumerate().map(|(port, at)| (*view, port, at)));
    each.map(|(view, port, address)| {
        let socket = links::listener(address).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Listener { view, port, socket })
    })
    .collect()
}

/// The loop and everything that it owns.
pub(crate) struct Reactor {
    machine: Box<dyn Drive>,
    clock: Clock,
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    links: Links,
    farewells: Farewells,
    events: Receiver<Event>,
    reports: Reports,
    spools: Spools,
    ships: Ships,
    logs: Logs,
    packs: Packs,
    upstream: Primary,
    stop_at: Option<Instant>,
}

impl Reactor {
    /// Puts everything in place.
    pub(crate) fn new(
        machine: Box<dyn Drive>,
        clock: Clock,
        mut listeners: Vec<Listener>,
        plugins: Arc<Plugins>,
        upstream: Primary,
        mut snapshots: Snapshots,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new().context("no event queue")?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).context("no waker")?);
        let mut signals = Signals::new([SIGTERM, SIGINT]).context("no signal handlers")?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(&mut listener.socket, Token(LISTENERS + index), Interest::READABLE)?;
        }
        let (sender, events) = channel();
        let reports = Reports { sender, waker };
        let quota = Quota::new(snapshots.dir.clone(), snapshots.disk_bytes);
        Ok(Self {
            machine,
            clock,
            poll,
            signals,
            listeners,
            links: Links::default(),
            farewells: Farewells::default(),
            events,
            spools: Spools::new(
                snapshots.dir.clone(),
                quota.clone(),
                plugins.clone(),
                reports.clone(),
                snapshots.kept.take(),
            )?,
            packs: Packs::new(plugins.clone(), reports.clone()),
            ships: Ships::new(&snapshots, quota, plugins, reports.clone()),
            logs: Logs::new(snapshots.dir, reports.clone())?,
            reports,
            upstream,
            stop_at: None,
        })
    }

    /// Turns until the program is told to stop.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut busy = true;
        loop {
            let now = self.clock.now().mono_ms;
            let wait = if busy { 0 } else { self.machine.next_wakeup().saturating_sub(now) };
            match self.poll.poll(&mut events, Some(Duration::from_millis(wait))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the event queue failed"),
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    SIGNALS => self.signalled(),
                    Token(token) if token < LINKS => self.accept(token - LISTENERS),
                    Token(token) => {
                        let link = LinkId((token - LINKS) as u64);
                        self.links.ready(link, event);
                        self.farewells.ready(link);
                    }
                }
            }
            self.hear_threads();
            self.handle(Input::Tick);
            self.read();
            busy = self.turn();
            busy |= self.farewells.turn(self.poll.registry());
            let said_all = self.machine.is_drained() && self.farewells.are_over();
            if said_all || self.stop_at.is_some_and(|at| Instant::now() >= at) {
                tracing::info!(event = "stopped", "stopped");
                return Ok(());
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.clock.now(), input);
    }

    /// Does what the core wants done; `true` if there is more to do at once.
    fn turn(&mut self) -> bool {
        self.ships.feed(&mut *self.machine, self.clock.now());
        self.machine.pump();
        self.obey();
        let wrote = self.write();
        // What was written made room.
        self.ships.feed(&mut *self.machine, self.clock.now());
        self.machine.pump();
        self.obey();
        wrote || self.links.has_work(&mut *self.machine)
    }

    fn obey(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(port) => dial::dial(port, &self.upstream, &self.reports),
                Output::Close(link) => self.links.close(link, self.poll.registry()),
                Output::HangUp(link) => {
                    if let Some(stream) = self.links.give_up(link) {
                        self.farewells.say(link, stream, self.poll.registry());
                    }
                }
                Output::SpoolOpen(id, format) => self.spools.open(id, format),
                Output::SpoolWrite(id, bytes) => self.spools.write(id, bytes),
                Output::SpoolEnd(id) => self.spools.end(id),
                Output::SpoolAbort(id) => self.spools.abort(id),
                Output::SpoolPause(id) => self.spools.pause(id),
                Output::SpoolKeep(ids) => {
                    self.spools.keep(&ids);
                    self.ships.keep(&ids);
                }
                Output::SpoolDescribe(id, origin) => self.spools.describe(id, origin),
                Output::Ship(order) => {
                    let view = order.view;
                    if self.ships.start(order, &self.spools) {
                        self.handle(Input::Walking(view));
                    }
                }
                Output::ShipCancel(link) => self.ships.cancel(link),
                Output::Log(id, order) => self.logs.order(id, order),
                Output::Pack { link, view, raw } => self.packs.pack(link, view, raw),
                Output::Unpack(link, chunk) => self.packs.unpack(link, chunk),
                Output::PackEnd(link) => self.packs.end(link),
                Output::Probe(link, ip, port) => probe::probe(link, ip, port, self.reports.clone()),
                Output::Note(note) => tell(&note),
            }
        }
    }

    fn read(&mut self) {
        for link in self.links.readable() {
            if !self.machine.wants_read(link) {
                continue;
            }
            match self.links.read(link) {
                Read::Bytes(bytes) => {
                    let kept = bytes.clone();
                    self.handle(Input::Bytes(link, bytes));
                    self.links.recycle(kept);
                }
                Read::Nothing => {}
                Read::Closed(why) => {
                    self.links.close(link, self.poll.registry());
                    self.handle(Input::Closed(link, why));
                }
            }
        }
    }

    /// Writes what waits; `true` if a link took all that one call could give it.
    fn write(&mut self) -> bool {
        let mut more = false;
        let mut links = self.links.take_list();
        self.machine.links_with_output(&mut links);
        for &link in &links {
            let Some(outbox) = self.machine.outbox(link) else { continue };
            match self.links.write(link, outbox) {
                Ok(full) => more |= full,
                Err(why) => {
                    self.links.close(link, self.poll.registry());
                    self.handle(Input::Closed(link, why));
                }
            }
        }
        self.links.put_list(links);
        more
    }

    fn hear_threads(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            let input = match event {
                Event::Dialed(port, Ok(stream)) => match self.links.adopt(stream, self.poll.registry()) {
                    Ok(link) => Input::Connected(port, link),
                    Err(error) => Input::DialFailed(port, error.to_string()),
                },
                Event::Dialed(port, Err(why)) => Input::DialFailed(port, why),
                Event::SpoolWritten(id, bytes) => Input::SpoolWritten(id, bytes),
                Event::Spooled(id, outcome) => {
                    self.spools.arrived(id, outcome.is_ok());
                    Input::Spooled(id, outcome)
                }
                Event::Log(id, report) => Input::Log(id, report),
                Event::SpoolDamaged(id, what) => Input::SpoolDamaged(id, what),
                Event::SpoolPaused(id, chunks, fault) => Input::SpoolPaused(id, chunks, fault),
                Event::Packed(link, outcome) => Input::Packed(link, outcome),
                Event::Unpacked(link, outcome) => Input::Unpacked(link, outcome),
                Event::Probed(link, version) => Input::Probed(link, version),
            };
            self.handle(input);
        }
    }

    fn accept(&mut self, index: usize) {
        let Some(Listener { view, port, socket }) = self.listeners.get(index) else { return };
        let (view, port) = (*view, *port);
        loop {
            match socket.accept() {
                Ok((_, peer)) if self.links.len() >= LINKS_MAX => {
                    tracing::warn!(event = "too-many-links", "{peer} is turned away: {LINKS_MAX} links are open");
                }
                Ok((stream, peer)) => match self.links.add(stream, self.poll.registry()) {
                    Ok(link) => {
                        let input = Input::Accepted { link, view, port, peer: peer.to_string() };
                        self.machine.handle(self.clock.now(), input);
                    }
                    Err(error) => tracing::warn!(event = "accept-failed", "{peer} is turned away: {error}"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    tracing::warn!(event = "accept-failed", "cannot accept a link: {error}");
                    return;
                }
            }
        }
    }

    fn signalled(&mut self) {
        for _ in self.signals.pending().collect::<Vec<_>>() {
            // A second signal means: now.
            let patience = if self.stop_at.is_some() { Duration::ZERO } else { DRAIN };
            self.stop_at = Some(Instant::now() + patience);
            self.handle(Input::Shutdown);
        }
    }
}

fn tell(note: &Note) {
    match note.level {
        Level::Debug => tracing::debug!(event = note.event, "{}", note.text),
        Level::Info => tracing::info!(event = note.event, "{}", note.text),
        Level::Warn => tracing::warn!(event = note.event, "{}", note.text),
        Level::Error => tracing::error!(event = note.event, "{}", note.text),
    }
}
