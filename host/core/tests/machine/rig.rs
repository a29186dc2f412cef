//! A shell without sockets, files and clocks.

mod disk;
pub(crate) mod packed;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use sluicegate_core::contract::{Cargo, Drive, Input, LinkId, Note, Now, Output, ShipFraming, ShipOrder, SpoolId};
use sluicegate_core::limits::SHIPS_MAX;
use sluicegate_core::machine::Machine;
use sluicegate_core::pipeline::{Answers, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::rdb::{Family, write};
use sluicegate_core::resp::write_command;
use sluicegate_core::settings::{RefreshSettings, Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::snapshot::{Arrival, Contents, Format, Framing, Origin};

/// Ids of primaries.
pub(crate) const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Keys in `x:` are dropped.
pub(crate) struct Filter;

impl Pipeline for Filter {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        (0..batch.len()).filter(|&index| batch.get(index).starts_with(b"x:")).for_each(|index| answers.drop_key(index));
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        KeepAll.frames(batch, keep)
    }

    fn traits(&self) -> Traits {
        KeepAll.traits()
    }
}

/// One command of a stream.
pub(crate) fn frame(words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, &words.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    out
}

/// Several commands, parted by ` | `.
pub(crate) fn frames(words: &str) -> Vec<u8> {
    words.split(" | ").flat_map(frame).collect()
}

/// A snapshot with one key, written by a server of this version.
pub(crate) fn snapshot(server: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::write_magic(&mut out, Family::Redis, 11);
    write::write_aux(&mut out, b"redis-ver", server.as_bytes());
    write::write_aux(&mut out, b"repl-stream-db", b"0");
    write::write_select(&mut out, 0);
    write::write_string_key(&mut out, b"a", b"1");
    write::write_end(&mut out);
    out
}

struct Spool {
    framing: Framing,
    arrival: Arrival,
    bytes: Vec<u8>,
    /// What comes is packed.
    unpacking: Option<packed::Unpacking>,
}

/// The machine and a shell around it.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) now: u64,
    pub(crate) notes: Vec<Note>,
    pub(crate) closed: BTreeSet<LinkId>,
    pub(crate) cancelled: Vec<LinkId>,
    pub(crate) ships: Vec<ShipOrder>,
    pub(crate) probes: Vec<(LinkId, String, u16)>,
    /// Snapshots for replicas are made at once.
    pub(crate) ships_itself: bool,
    up: Option<LinkId>,
    links: u64,
    dialing: bool,
    /// The machine wants its second connection to the primary.
    pub(crate) wants_values: bool,
    values: Option<LinkId>,
    /// The machine wants a connection for a newer snapshot.
    pub(crate) wants_refresh: bool,
    pub(crate) refresh: Option<LinkId>,
    spools: BTreeMap<SpoolId, Spool>,
    /// The disk is busy: what arrives of snapshots waits.
    pub(crate) spool_busy: bool,
    unspooled: Vec<(SpoolId, Option<Bytes>)>,
    pub(crate) kept: BTreeMap<SpoolId, Vec<u8>>,
    /// What was written down beside snapshots.
    pub(crate) described: BTreeMap<SpoolId, Origin>,
    /// Where the logs are.
    pub(crate) disk: disk::Disk,
    pub(crate) packs: packed::Packs,
}

impl Rig {
    /// One view that relays.
    pub(crate) fn relay() -> Self {
        Self::new(vec![ViewSettings::new("all")], vec![None])
    }

    /// One view that filters.
    pub(crate) fn filter() -> Self {
        Self::new(vec![ViewSettings::new("some")], vec![Some(Box::new(Filter))])
    }

    pub(crate) fn new(views: Vec<ViewSettings>, pipelines: Vec<Option<Box<dyn Pipeline>>>) -> Self {
        let upstream = UpstreamSettings { announce_port: 7000, ..UpstreamSettings::new("primary", 6379) };
        Self::with(
            Settings {
                upstream,
                views,
                users: Vec::new(),
                refresh: RefreshSettings::default(),
                ships_max: SHIPS_MAX,
                version: "0.1.0".into(),
            },
            pipelines,
        )
    }

    pub(crate) fn with(settings: Settings, pipelines: Vec<Option<Box<dyn Pipeline>>>) -> Self {
        let mut drawn = 0;
        let entropy = move || {
            drawn += 1;
            [drawn; 20]
        };
        let now = Now { mono_ms: 1_000_000, unix_ms: 1_000_000_000_000 };
        Self {
            machine: Machine::new(settings, pipelines, Box::new(entropy), now),
            now: now.mono_ms,
            notes: Vec::new(),
            closed: BTreeSet::new(),
            cancelled: Vec::new(),
            ships: Vec::new(),
            probes: Vec::new(),
            ships_itself: true,
            up: None,
            links: 0,
            dialing: false,
            wants_values: false,
            values: None,
            wants_refresh: false,
            refresh: None,
            spools: BTreeMap::new(),
            spool_busy: false,
            unspooled: Vec::new(),
            kept: BTreeMap::new(),
            described: BTreeMap::new(),
            disk: disk::Disk::default(),
            packs: packed::Packs::default(),
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let unix_ms = 1_000_000_000_000 + self.now;
        self.machine.handle(Now { mono_ms: self.now, unix_ms }, input);
        self.settle();
    }

    /// Does what the machine wants until it wants nothing.
    fn settle(&mut self) {
        self.machine.pump();
        while let Some(output) = self.machine.poll_output() {
            self.obey(output);
            self.machine.pump();
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Dial(0) => self.dialing = true,
            Output::Dial(2) => {
                assert!(self.refresh.is_none(), "it has a connection for snapshots");
                self.wants_refresh = true;
            }
            Output::Dial(port) => {
                assert_eq!(port, 1, "the primary has a stream, values and snapshots");
                assert!(self.values.is_none(), "it has a connection for values");
                self.wants_values = true;
            }
            Output::Close(link) => {
                self.up.take_if(|up| *up == link);
                self.values.take_if(|values| *values == link);
                self.refresh.take_if(|refresh| *refresh == link);
                assert!(self.closed.insert(link), "{link:?} is closed twice");
            }
            Output::SpoolOpen(id, format) => {
                let Format::Rdb(framing) = format else { panic!("{format:?}") };
                assert!(self.spools.len() < 2, "one snapshot arrives at a time on each link");
                let unpacking = packed::Unpacking::new(framing);
                self.spools.insert(id, Spool { framing, arrival: Arrival::new(framing), bytes: Vec::new(), unpacking });
            }
            Output::SpoolWrite(id, bytes) if self.is_packed(id) => self.spooled_packed(id, &bytes),
            Output::SpoolWrite(id, bytes) if self.spool_busy => self.unspooled.push((id, Some(bytes))),
            Output::SpoolWrite(id, bytes) => self.spooled(id, &bytes),
            Output::SpoolEnd(id) if self.spool_busy => self.unspooled.push((id, None)),
            Output::SpoolEnd(id) => self.spool_ended(id),
            Output::SpoolPause(id) => self.pause(id),
            Output::Pack { link, raw, .. } => self.pack(link, &raw),
            Output::Unpack(link, chunk) => self.unpack(link, chunk),
            Output::PackEnd(link) => self.packs.ended.push(link),
            Output::SpoolAbort(id) => drop(self.spools.remove(&id)),
            Output::SpoolKeep(ids) => {
                self.kept.retain(|kept, _| ids.contains(kept));
                self.described.retain(|kept, _| ids.contains(kept));
            }
            Output::SpoolDescribe(id, origin) => drop(self.described.insert(id, origin)),
            Output::HangUp(_) => panic!("only for kevy: {output:?}"),
            Output::Ship(order) => {
                self.ships.push(order.clone());
                if self.ships_itself {
                    self.ship(&order);
                }
            }
            Output::ShipCancel(link) => self.cancelled.push(link),
            Output::Log(id, order) => self.log(id, order),
            Output::Probe(link, ip, port) => self.probes.push((link, ip, port)),
            Output::Note(note) => self.notes.push(note),
        }
    }

    fn spooled(&mut self, id: SpoolId, bytes: &[u8]) {
        let Some(spool) = self.spools.get_mut(&id) else { return };
        let taken = spool.arrival.push(bytes);
        if let Ok(taken) = &taken {
            spool.bytes.extend_from_slice(&bytes[..*taken]);
        }
        let outcome = match taken {
            Err(fault) => Some(Err(fault)),
            Ok(_) => spool.arrival.is_complete().then(|| spool.arrival.finish()),
        };
        self.handle(Input::SpoolWritten(id, bytes.len()));
        if let Some(outcome) = outcome {
            let spool = self.spools.remove(&id).unwrap();
            self.kept.insert(id, spool.bytes);
            assert!(matches!(spool.framing, Framing::Length(_) | Framing::Mark(_)));
            self.handle(Input::Spooled(id, outcome.map(Contents::Rdb)));
        }
    }

    fn spool_ended(&mut self, id: SpoolId) {
        if let Some(spool) = self.spools.remove(&id) {
            self.handle(Input::Spooled(id, spool.arrival.finish().map(Contents::Rdb)));
        }
    }

    /// The disk takes what has waited of arriving snapshots.
    pub(crate) fn spool_works(&mut self) {
        self.spool_busy = false;
        for (id, bytes) in std::mem::take(&mut self.unspooled) {
            match bytes {
                Some(bytes) => self.spooled(id, &bytes),
                None => self.spool_ended(id),
            }
        }
    }

    /// Makes the snapshot of an order. What a view with plugins would hold is no matter of the machine.
    pub(crate) fn ship(&mut self, order: &ShipOrder) {
        let Cargo::Rdb { spool, head, framing, .. } = order.cargo else { panic!("{order:?}") };
        let bytes = match head {
            None => self.kept[&spool].clone(),
            Some(_) => b"(snapshot)".to_vec(),
        };
        if let ShipFraming::Packed { first } = framing {
            return self.ship_packed(order.link, &bytes, first);
        }
        if framing == ShipFraming::Length {
            self.handle(Input::ShipLength(order.link, bytes.len() as u64));
        }
        self.handle(Input::ShipBytes(order.link, bytes.into()));
        self.handle(Input::ShipEnded(order.link, Ok(())));
    }

    /// Lets time pass, in steps of a tenth of a second.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = (self.now + 100).min(until);
            self.handle(Input::Tick);
        }
    }

    /// Waits until the machine dials; how long that took, in milliseconds.
    pub(crate) fn dialed(&mut self) -> u64 {
        let began = self.now;
        self.handle(Input::Tick);
        while !self.dialing {
            assert!(self.now < began + 60_000, "it never dials");
            self.now += 10;
            self.handle(Input::Tick);
        }
        self.dialing = false;
        self.now - began
    }

    /// Waits for the next attempt and lets it through; how long the machine waited.
    pub(crate) fn connect(&mut self) -> u64 {
        let waited = self.dialed();
        let link = self.link();
        self.up = Some(link);
        self.handle(Input::Connected(0, link));
        waited
    }

    pub(crate) fn link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    /// The connection for a newer snapshot, up to and without PSYNC's answer.
    pub(crate) fn introduce_refresh(&mut self) {
        assert!(core::mem::take(&mut self.wants_refresh), "no newer snapshot is wanted: {:?}", self.notes);
        let link = self.link();
        self.refresh = Some(link);
        self.handle(Input::Connected(2, link));
        self.refresh_says("+PONG\r\n");
        self.refresh_says("-ERR Unrecognized REPLCONF option: rdb-only\r\n+OK\r\n+OK\r\n");
        let told = self.machine.outbox(link).expect("an outbox").take();
        let asked =
            frames("PING | REPLCONF rdb-only 1 | REPLCONF capa eof capa psync2 | REPLCONF version 9.1.0 | PSYNC ? -1");
        assert_eq!(String::from_utf8(told).unwrap(), String::from_utf8(asked).unwrap());
    }

    /// The primary gives a newer snapshot, of the place that the stream has reached.
    pub(crate) fn refreshed(&mut self) {
        self.wait(100);
        self.introduce_refresh();
        let (id, _, offset) = self.machine.upstream_position().expect("a place");
        let rdb = snapshot("7.2.4");
        self.refresh_says(format!("+FULLRESYNC {id} {offset}\r\n${}\r\n", rdb.len()));
        self.refresh_says(rdb);
    }

    /// The primary says this on the connection for newer snapshots.
    pub(crate) fn refresh_says(&mut self, bytes: impl AsRef<[u8]>) {
        let link = self.refresh.expect("a link for a newer snapshot");
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// A newer snapshot of the history `id` comes, which stands at `offset`.
    pub(crate) fn give_refresh(&mut self, id: &str, offset: u64) {
        let rdb = snapshot("7.2.4");
        self.refresh_says(format!("+FULLRESYNC {id} {offset}\r\n${}\r\n", rdb.len()));
        self.refresh_says(rdb);
    }

    /// The link to the primary, if there is one.
    pub(crate) fn up_link(&self) -> Option<LinkId> {
        self.up
    }

    /// The primary says this.
    pub(crate) fn up(&mut self, bytes: impl AsRef<[u8]>) {
        let link = self.up.expect("a link to the primary");
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// What was said to the primary.
    pub(crate) fn told_up(&mut self) -> Vec<u8> {
        let Some(link) = self.up else { return Vec::new() };
        self.machine.outbox(link).map(|outbox| outbox.take()).unwrap_or_default()
    }

    /// The network cuts the link to the primary.
    pub(crate) fn cut(&mut self) {
        let link = self.up.take().expect("a link to the primary");
        self.handle(Input::Closed(link, "cut".into()));
    }

    /// The handshake, up to and without PSYNC's answer. What was asked at its end comes back.
    pub(crate) fn introduce(&mut self, info: &str) -> String {
        self.connect();
        self.up("+PONG\r\n");
        self.told_up();
        self.up("+OK\r\n+OK\r\n+OK\r\n");
        let mut asked = self.told_up();
        if asked == frame("INFO replication") {
            self.up(format!("${}\r\n{info}\r\n", info.len()));
            asked = self.told_up();
        }
        String::from_utf8(asked).unwrap()
    }

    /// Attaches to a primary whose history `id` stands at 0; how long the machine waited before.
    pub(crate) fn dialed_and_synced(&mut self, id: &str) -> u64 {
        let waited = self.connect();
        self.up("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n");
        self.give_snapshot(id, 0, &snapshot("7.2.4"));
        waited
    }

    /// Attaches to a primary whose history `id` stands at `offset`.
    pub(crate) fn attach(&mut self, id: &str, offset: u64) {
        assert_eq!(self.introduce(""), String::from_utf8(frame("PSYNC ? -1")).unwrap());
        self.give_snapshot(id, offset, &snapshot("7.2.4"));
        assert_eq!(self.told_up(), frame(&format!("REPLCONF ACK {offset}")));
    }

    pub(crate) fn give_snapshot(&mut self, id: &str, offset: u64, rdb: &[u8]) {
        self.up(format!("+FULLRESYNC {id} {offset}\r\n${}\r\n", rdb.len()));
        self.up(rdb);
    }

    /// Someone connects to the port of view `view`.
    pub(crate) fn accept(&mut self, view: usize) -> LinkId {
        let link = self.link();
        self.handle(Input::Accepted { link, view, port: 0, peer: format!("10.0.0.{}:4000", link.0) });
        link
    }

    pub(crate) fn send(&mut self, link: LinkId, bytes: impl AsRef<[u8]>) {
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// Everything that `link` gets, read as fast as it comes.
    pub(crate) fn got(&mut self, link: LinkId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.machine.outbox(link).map(|outbox| outbox.take()).unwrap_or_default();
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
            self.settle();
        }
    }

    /// Says a command on `link`: the answer, as text.
    pub(crate) fn ask(&mut self, link: LinkId, words: &str) -> String {
        self.send(link, frame(words));
        String::from_utf8_lossy(&self.got(link)).into_owned()
    }

    /// A replica that announces what real ones do, and asks for a snapshot. What it got so far comes back.
    pub(crate) fn replica(&mut self, view: usize) -> (LinkId, Vec<u8>) {
        let link = self.accept(view);
        assert_eq!(self.ask(link, "PING"), "+PONG\r\n");
        assert_eq!(self.ask(link, "REPLCONF capa eof capa psync2"), "+OK\r\n");
        self.send(link, frame("PSYNC ? -1"));
        let got = self.got(link);
        (link, got)
    }

    /// A replica that has its snapshot and has said so.
    pub(crate) fn synced(&mut self, view: usize) -> LinkId {
        let (link, _) = self.replica(view);
        let offset = self.machine.replicas().find(|(id, _)| **id == link).unwrap().1.cursor;
        self.send(link, frame(&format!("REPLCONF ACK {offset}")));
        link
    }

    /// The value of a field of INFO, as seen on a fresh link of view 0.
    pub(crate) fn info(&mut self, name: &str) -> String {
        let link = self.accept(0);
        let info = self.ask(link, "INFO");
        self.handle(Input::Closed(link, "done".into()));
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(String::from));
        found.unwrap_or_else(|| panic!("INFO has no {name}: {info}"))
    }

    /// Whether something of this kind was told to the operator since the last time anyone asked.
    pub(crate) fn noted(&mut self, event: &str) -> Option<String> {
        let found = self.notes.iter().rfind(|note| note.event == event).map(|note| note.text.clone());
        self.notes.clear();
        found
    }
}
