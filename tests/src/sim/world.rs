//! The world's turns: who acts next, what goes wrong, and when it stops.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use sluicegate_core::contract::{Input, Level, LinkId};
use sluicegate_core::machine::Machine;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::settings::{Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::upstream::Phase;
use sluicegate_core::view::State;

use super::check::Checker;
use super::lens::{Ailment, Lens, Native};
use super::plant::{Kind, Plant};
use super::primary::{self, Primary};
use super::replica::{self, Event, Question, Replica};
use super::replay::{self, Recording};
use super::rng::Rng;
use super::shell::{Errand, Shell};
use super::story::Story;
use super::truth::Id;
use super::workload::Workload;
use super::{Options, Report, rdb};

/// When the faults have stopped, everything must be well after so long. Milliseconds.
const HEALED_WITHIN_MS: u64 = 60_000;

/// The link between proxy and primary.
struct Up {
    link: LinkId,
    to_primary: VecDeque<u8>,
    stalled_until: u64,
}

/// The link between the proxy and a replica.
struct Down {
    replica: usize,
    to_replica: VecDeque<u8>,
    to_proxy: VecDeque<u8>,
    stalled_until: u64,
    /// The proxy has closed it; what is on its way still arrives.
    closed: bool,
    /// The history that the proxy goes on with, as soon as it does.
    history: Option<Id>,
}

/// Everything.
pub struct World {
    /// What happened.
    pub story: Story,
    rng: Rng,
    now: u64,
    /// Most milliseconds between two steps.
    pace: u64,
    /// Faults in a thousand steps.
    trouble: u64,
    lenses: Vec<Lens>,
    settings: Settings,
    primary: Primary,
    workload: Workload,
    shell: Shell,
    checker: Checker,
    up: Option<Up>,
    dial_at: Option<u64>,
    downs: BTreeMap<LinkId, Down>,
    replicas: Vec<Replica>,
    next_link: u64,
    ticked: u64,
    plant: Option<Kind>,
    report: Report,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let mut ids = rng.fork();
        let lenses: Vec<Lens> = (0..1 + rng.below(3)).map(|_| rng.pick(&Lens::ALL)).collect();
        let ailments: Vec<Ailment> = lenses.iter().map(|_| ailment(&mut rng, options.plant)).collect();
        let settings = settings(&lenses, &mut rng);
        let natives: Vec<Option<Native>> = lenses
            .iter()
            .zip(&ailments)
            .map(|(lens, ailment)| lens.has_own_history().then(|| Native::new(*lens, ailment.clone())))
            .collect();
        let boxed = |native: &Option<Native>| native.clone().map(|native| Box::new(native) as Box<dyn Pipeline>);
        let reused = options.plant == Some(Kind::IdReused);
        let entropy = Box::new(move || if reused { [7; 20] } else { ids.entropy() });
        let machine = Machine::new(settings.clone(), natives.iter().map(boxed).collect(), entropy, Shell::time(0));
        let plant = options.plant.map(|kind| Plant::new(kind, rng.fork()));
        let poison = rng.pick(&[0, 0, 0, 0, 5_000, 30_000]);
        let mut workload = Workload::new(rng.fork(), lenses.clone(), 0);
        let keys = rng.pick(&[0, 5, 60, 200]);
        let data = workload.dataset(keys);
        workload.poison = poison;
        let mut primary = Primary::new(rng.fork(), primary_manners(&mut rng), data);
        primary.moody = rng.pick(&[0, 30, 200]);
        let count = 1 + rng.below(5);
        let replicas = (0..count).map(|n| replica(n % lenses.len(), &mut rng)).collect();
        let checked: Vec<_> = lenses.iter().copied().zip(ailments).collect();
        let mut world = Self {
            story: Story::new(options.aloud),
            now: 0,
            pace: rng.pick(&[1, 4, 20, 100]),
            trouble: rng.pick(&[0, 3, 10, 30]),
            shell: Shell::new(machine, natives, rng.fork(), plant),
            checker: Checker::new(&checked),
            lenses,
            settings,
            primary,
            workload,
            up: None,
            dial_at: None,
            downs: BTreeMap::new(),
            replicas,
            next_link: 1,
            ticked: 0,
            plant: options.plant,
            report: Report::default(),
            rng,
        };
        world.tell(format!(
            "seed {seed}: views {:?}, {count} replicas, pace {} ms, trouble {} ‰, poison {poison} ppm",
            world.lenses, world.pace, world.trouble
        ));
        world
    }

    fn tell(&mut self, event: String) {
        self.story.tell(self.now, event);
    }

    /// Lives through all of it.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step(true)?;
        }
        self.heal()?;
        self.replay()
    }

    /// What the world went through.
    pub fn report(&self) -> Report {
        let stats = self.shell.machine.stats();
        Report {
            ms: self.now,
            compared: self.checker.compared,
            applied: self.replicas.iter().map(|replica| replica.frames).sum(),
            full_syncs: stats.upstream_full_syncs,
            partial_syncs: stats.upstream_partial_syncs,
            snapshots: stats.sync_full,
            continued: stats.sync_partial_ok,
            halts: self.checker.halts,
            fingerprint: self.story.fingerprint(),
            ..self.report
        }
    }

    /// One step of one of those who live here.
    fn step(&mut self, writes: bool) -> Result<(), String> {
        self.now += self.rng.within(0..self.pace + 1);
        self.shell.now = self.now;
        if self.now >= self.ticked + 100 {
            self.tick()?;
        }
        if self.rng.permille(self.trouble) {
            self.misfortune()?;
        }
        let links = self.downs.len();
        match self.rng.below(8 + 3 * links) {
            0 if writes => self.write(),
            0 | 1 | 2 => self.from_primary()?,
            3 => self.to_primary()?,
            4..=6 => self.shell.work(),
            7 => self.attach(),
            n => {
                let link = *self.downs.keys().nth((n - 8) / 3).unwrap_or(&LinkId(0));
                match n % 3 {
                    0 => self.write_to_replica(link)?,
                    1 => self.to_replica(link)?,
                    _ => self.from_replica(link),
                }
            }
        }
        self.settle()
    }

    /// The machine's orders are carried out, and everything is looked at.
    fn settle(&mut self) -> Result<(), String> {
        if self.rng.permille(150) {
            // A busy shell takes several events before it does what they ask for.
            return Ok(());
        }
        if self.rng.permille(800) {
            self.shell.machine.pump();
        }
        for errand in self.shell.turn() {
            match errand {
                Errand::Dial => self.dial_at = Some(self.now + self.rng.pick(&[0, 5, 50, 400])),
                Errand::Close(link) => self.proxy_closes(link),
                Errand::Note(note) => {
                    if note.level != Level::Debug {
                        self.tell(format!("[{}] {}", note.event, note.text));
                    }
                }
            }
        }
        self.checker.machine(&self.shell.machine, &self.primary.truth, &self.primary.snapshot)
    }

    fn write(&mut self) {
        let (unit, wrapped) = self.workload.unit(&self.primary.data);
        self.primary.write(&unit, wrapped);
    }

    fn tick(&mut self) -> Result<(), String> {
        self.ticked = self.now;
        self.primary.tick(self.now);
        for down in self.downs.values_mut().filter(|down| !down.closed) {
            let replica = &mut self.replicas[down.replica];
            if replica.asleep_until <= self.now {
                replica.tick(self.now, &mut down.to_proxy);
            }
        }
        if self.dial_at.is_some_and(|at| self.now >= at) {
            self.dial_at = None;
            self.connect();
        }
        self.shell.tell(Input::Tick);
        self.settle()
    }

    fn connect(&mut self) {
        if self.rng.permille(self.primary.moody) {
            return self.shell.tell(Input::DialFailed("connection refused".into()));
        }
        let link = self.link();
        self.primary.accept(link.0);
        self.up = Some(Up { link, to_primary: VecDeque::new(), stalled_until: 0 });
        self.shell.tell(Input::Connected(link));
    }

    fn link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    // Bytes between the proxy and the primary.

    fn from_primary(&mut self) -> Result<(), String> {
        let Some(up) = self.up.as_ref().filter(|up| up.stalled_until <= self.now) else { return Ok(()) };
        let link = up.link;
        let Some(follower) = self.primary.followers.get_mut(&link.0) else { return Ok(()) };
        if follower.out.is_empty() {
            if follower.closing {
                self.tell("the primary closes the link".into());
                self.lose_primary("closed by the primary");
            }
            return Ok(());
        }
        if self.shell.machine.wants_read(link) {
            let n = self.rng.portion(follower.out.len());
            let bytes: Vec<u8> = follower.out.drain(..n).collect();
            self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        }
        Ok(())
    }

    fn to_primary(&mut self) -> Result<(), String> {
        let Some(up) = self.up.as_mut().filter(|up| up.stalled_until <= self.now) else { return Ok(()) };
        if let Some(outbox) = self.shell.machine.outbox(up.link) {
            let mut bytes = outbox.take();
            if let Some(plant) = &mut self.shell.plant {
                plant.on_bytes_up(&mut bytes);
            }
            up.to_primary.extend(bytes);
        }
        let n = self.rng.portion(up.to_primary.len());
        let bytes: Vec<u8> = up.to_primary.drain(..n).collect();
        self.primary.receive(up.link.0, &bytes, self.now)
    }

    /// The link to the primary is gone, and the proxy hears of it.
    fn lose_primary(&mut self, why: &str) {
        if let Some(up) = self.up.take() {
            self.primary.followers.remove(&up.link.0);
            self.shell.tell(Input::Closed(up.link, why.into()));
        }
    }

    // Bytes between the proxy and its replicas.

    fn attach(&mut self) {
        let free: Vec<usize> = (0..self.replicas.len())
            .filter(|n| self.replicas[*n].attach_at <= self.now && !self.downs.values().any(|down| down.replica == *n))
            .collect();
        if free.is_empty() {
            return;
        }
        let replica = free[self.rng.below(free.len())];
        let question = match self.rng.below(100) {
            _ if self.trouble == 0 => Question::Honest,
            0..=2 => Question::Future,
            3..=5 => Question::Foreign,
            6 => Question::Everything,
            _ => Question::Honest,
        };
        let link = self.link();
        let mut to_proxy = VecDeque::new();
        self.replicas[replica].attach(question, &mut to_proxy);
        let view = self.replicas[replica].view;
        self.tell(format!("replica {replica} attaches to view {view} by link {}, {question:?}", link.0));
        let down = Down { replica, to_replica: VecDeque::new(), to_proxy, stalled_until: 0, closed: false, history: None };
        self.downs.insert(link, down);
        self.shell.tell(Input::Accepted { link, view, peer: format!("10.0.0.{replica}:5000") });
    }

    fn from_replica(&mut self, link: LinkId) {
        let Some(down) = self.downs.get_mut(&link).filter(|down| down.stalled_until <= self.now && !down.closed) else { return };
        let n = self.rng.portion(down.to_proxy.len());
        if n == 0 {
            return;
        }
        let bytes: Vec<u8> = down.to_proxy.drain(..n).collect();
        self.shell.tell(Input::Bytes(link, Bytes::from(bytes)));
        let machine = &self.shell.machine;
        let follows = |(id, replica): (&LinkId, &sluicegate_core::replica::Replica)| {
            (*id == link && replica.phase == sluicegate_core::replica::Phase::Streaming).then_some(replica.view)
        };
        if down.history.is_none()
            && let Some(view) = machine.replicas().find_map(follows)
        {
            down.history = Some(machine.views()[view].history().id.as_str().into());
        }
    }

    /// The socket takes some of what waits for a replica.
    fn write_to_replica(&mut self, link: LinkId) -> Result<(), String> {
        let Some(down) = self.downs.get_mut(&link).filter(|down| !down.closed && down.to_replica.len() < 20_000) else {
            return Ok(());
        };
        let Some(outbox) = self.shell.machine.outbox(link) else { return Ok(()) };
        let (mut bytes, most) = (Vec::new(), self.rng.portion(outbox.len()));
        for piece in outbox.pieces(16) {
            bytes.extend_from_slice(&piece[..piece.len().min(most - bytes.len())]);
        }
        outbox.advance(bytes.len());
        let replica = &self.replicas[down.replica];
        if let Some(plant) = &mut self.shell.plant {
            plant.on_bytes(link, &mut bytes, replica.is_streaming());
        }
        down.to_replica.extend(&bytes);
        self.checker.bytes(link, replica.view, &bytes)
    }

    fn to_replica(&mut self, link: LinkId) -> Result<(), String> {
        let Some(down) = self.downs.get_mut(&link).filter(|down| down.stalled_until <= self.now) else { return Ok(()) };
        let n = self.rng.portion(down.to_replica.len());
        let number = down.replica;
        let replica = &mut self.replicas[number];
        if replica.asleep_until > self.now {
            return Ok(());
        }
        if n == 0 {
            if down.closed {
                let wait = self.rng.pick(&[0, 300, 1000]);
                replica.detach(self.now, wait);
                self.downs.remove(&link);
            }
            return Ok(());
        }
        let bytes: Vec<u8> = down.to_replica.drain(..n).collect();
        if replica.is_syncing()
            && let Some(history) = &down.history
        {
            replica.true_id = history.clone();
        }
        let mut told = Vec::new();
        let (checker, truth) = (&mut self.checker, &self.primary.truth);
        let mut seen = |replica: &Replica, event: Event| match event {
            Event::Continued { asked, held, honest } => checker.continued(replica, truth, &asked, held, honest),
            Event::Stream { offset, bytes } => checker.stream(replica, truth, offset, &bytes),
            Event::Loaded | Event::Published => checker.published(replica, truth),
            Event::Sent(line) => {
                told.push(line);
                Ok(())
            }
        };
        replica.receive(&bytes, &mut down.to_proxy, &mut seen).map_err(|what| format!("replica {number}: {what}"))?;
        for line in told {
            self.tell(format!("replica {number} is told {line}"));
            self.lose_replica(link, true);
        }
        Ok(())
    }

    /// The proxy has closed a link.
    fn proxy_closes(&mut self, link: LinkId) {
        if self.up.as_ref().is_some_and(|up| up.link == link) {
            self.up = None;
            self.primary.followers.remove(&link.0);
        } else if let Some(down) = self.downs.get_mut(&link) {
            down.closed = true;
        }
    }

    /// The link to a replica is gone. `hears`: the proxy is told at once.
    fn lose_replica(&mut self, link: LinkId, hears: bool) {
        let Some(down) = self.downs.remove(&link) else { return };
        let wait = self.rng.pick(&[0, 300, 1000]);
        self.replicas[down.replica].detach(self.now, wait.max(if hears { 1000 } else { 0 }));
        if !down.closed {
            self.shell.tell(Input::Closed(link, "connection reset".into()));
        }
    }

    // What goes wrong.

    fn misfortune(&mut self) -> Result<(), String> {
        self.report.faults += 1;
        let link = match self.downs.len() {
            0 => LinkId(0),
            n => *self.downs.keys().nth(self.rng.below(n)).unwrap_or(&LinkId(0)),
        };
        let long = self.rng.pick(&[50, 500, 3_000, 70_000]);
        match self.rng.below(16) {
            0..=3 => {
                self.tell("the link to the primary is cut".into());
                self.from_primary()?;
                self.lose_primary("connection reset");
            }
            4..=7 => {
                self.tell(format!("link {} is cut", link.0));
                self.to_replica(link)?;
                self.lose_replica(link, false);
            }
            8 | 9 => self.downs.get_mut(&link).into_iter().for_each(|down| down.stalled_until = self.now + long),
            10 => self.up.iter_mut().for_each(|up| up.stalled_until = self.now + long),
            11 | 12 => self.fail_over(),
            13 => {
                let replica = self.rng.below(self.replicas.len());
                self.tell(format!("replica {replica} reads nothing for {long} ms"));
                self.replicas[replica].asleep_until = self.now + long;
            }
            14 => {
                let link = self.downs.iter().find(|(id, _)| **id == link).map(|(_, down)| down.replica);
                if let Some(replica) = link {
                    self.tell(format!("replica {replica} loses its memory"));
                    self.lose_replica_of(replica);
                    self.replicas[replica].forget();
                }
            }
            _ => self.now += long.min(5_000),
        }
        Ok(())
    }

    fn lose_replica_of(&mut self, replica: usize) {
        let link = self.downs.iter().find(|(_, down)| down.replica == replica).map(|(link, _)| *link);
        if let Some(link) = link {
            self.lose_replica(link, false);
        }
    }

    fn fail_over(&mut self) {
        self.lose_primary("connection reset");
        let event = match self.rng.below(8) {
            0 => {
                let keys = self.rng.pick(&[0, 50]);
                let data = self.workload.dataset(keys);
                self.primary.start_anew(data)
            }
            1..=3 => self.primary.fail_over(0, false),
            _ => {
                let lost = self.rng.below(6);
                self.primary.fail_over(lost, self.plant == Some(Kind::UpstreamForks))
            }
        };
        self.tell(event);
        for _ in 0..self.rng.below(4) {
            self.write();
        }
    }

    // How it ends.

    /// The faults stop; everything must be well before long.
    fn heal(&mut self) -> Result<(), String> {
        self.tell("the faults stop".into());
        (self.trouble, self.primary.moody, self.pace) = (0, 0, 20);
        self.up.iter_mut().for_each(|up| up.stalled_until = 0);
        self.downs.values_mut().for_each(|down| down.stalled_until = 0);
        self.replicas.iter_mut().for_each(|replica| replica.asleep_until = 0);
        let damaged = |follower: &primary::Follower| follower.damaged;
        if self.primary.followers.values().any(damaged) {
            self.lose_primary("connection reset");
        }
        let began = self.now;
        while self.now < began + HEALED_WITHIN_MS {
            let writes = self.now < began + 3000 && self.rng.permille(100);
            for _ in 0..20 {
                self.step(writes)?;
            }
            if self.now > began + 3000 && self.ails().is_none() {
                self.tell(format!("all is well after {} ms", self.now - began));
                return Ok(());
            }
        }
        self.ails().map_or(Ok(()), |what| Err(format!("not well {HEALED_WITHIN_MS} ms after the faults stopped: {what}")))
    }

    /// What is not well, if anything.
    fn ails(&self) -> Option<String> {
        let machine = &self.shell.machine;
        if machine.upstream_phase() != Phase::Streaming || !self.primary.is_calm() {
            return Some(format!("the link to the primary is {:?}", machine.upstream_phase()));
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            if matches!(machine.views()[replica.view].state(), State::Halted(_)) {
                continue;
            }
            if !replica.is_streaming() {
                return Some(format!("replica {number} does not stream"));
            }
            if let Err(what) = self.checker.equal_now(replica, &self.primary.data) {
                return Some(format!("replica {number} differs:\n{what}"));
            }
        }
        None
    }

    /// The last segment once more, in other pieces.
    fn replay(&mut self) -> Result<(), String> {
        let (id, offset) = (self.primary.id.clone(), self.primary.truth.histories[&self.primary.id].base);
        let history = &self.primary.truth.histories[&id];
        let Some((_, data)) = history.at(offset) else { return Ok(()) };
        let snapshot = rdb::snapshot(data, &id, offset, 0, &mut self.rng.fork());
        let recording = Recording { id: &id, offset, snapshot, stream: history.from(offset) };
        let once = replay::views(&self.settings, &self.lenses, &recording, &mut self.rng.fork());
        let again = replay::views(&self.settings, &self.lenses, &recording, &mut self.rng.fork());
        match once == again {
            true => Ok(()),
            false => Err("the same bytes in other pieces give other bytes of a view".into()),
        }
    }
}

/// Steps with faults.
const STEPS: u64 = 6_000;

fn ailment(rng: &mut Rng, plant: Option<Kind>) -> Ailment {
    let failing = rng.permille(60).then(|| Arc::new(AtomicU64::new(rng.within(1..2000))));
    Ailment {
        keys_left: failing,
        retried_every: rng.pick(&[0, 5]),
        fickle: plant == Some(Kind::FicklePlugin),
    }
}

fn settings(lenses: &[Lens], rng: &mut Rng) -> Settings {
    let views = lenses.iter().enumerate().map(|(index, lens)| {
        let mut view = ViewSettings::new(&format!("view{index}"));
        view.pipeline = if lens.has_own_history() { vec![format!("{lens:?}")] } else { Vec::new() };
        view.backlog_bytes = rng.pick(&[20_000, 200_000, 1 << 20]);
        view.replica_output_bytes = rng.pick(&[2_000, 100_000, 4 << 20]);
        view.stalled_ms = rng.pick(&[5_000, 60_000]);
        view
    });
    let views = views.collect();
    Settings { upstream: UpstreamSettings::new("primary", 6379), views, users: Vec::new(), version: "sim".into() }
}

fn primary_manners(rng: &mut Rng) -> primary::Manners {
    primary::Manners {
        backlog: rng.pick(&[3_000, 50_000, 1 << 20]),
        forces_select: rng.permille(700),
        select_before_multi: rng.permille(500),
        diskless: rng.permille(600),
        same_mark: rng.permille(300),
    }
}

fn replica(view: usize, rng: &mut Rng) -> Replica {
    let manners = replica::Manners {
        takes_eof: rng.permille(700),
        takes_id: rng.permille(900),
        says_port: rng.permille(800),
        says_version: rng.permille(300),
    };
    Replica::new(view, manners, rng.fork())
}
