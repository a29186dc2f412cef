//! The world's turns: who acts next, and what is looked at behind every act.

mod end;
mod faults;
mod links;
mod setup;

use std::collections::{BTreeMap, VecDeque};

use sluicegate_core::contract::{Drive, Input, Level, LinkId};
use sluicegate_core::kevy::machine::Machine;
use sluicegate_core::kevy::settings::Settings;
use sluicegate_core::kevy::view::State;
use sluicegate_core::pipeline::Pipeline;

use super::lens::{Lens, Native};
use super::plant::{Kind, Plant};
use super::primary::{PUMP_BYTES, Primary};
use super::replica::Replica;
use super::shell::{Errand, Shell};
use super::truth::Truth;
use super::workload::Workload;
use super::{Options, Report};
use crate::sim::rng::Rng;
use crate::sim::story::Story;
use sluicegate_core::limits::PUMP_BYTES_MAX;

/// Steps with faults.
const STEPS: u64 = 8_000;

/// The link between proxy and a shard of the primary.
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
    settings: Settings,
    primary: Primary,
    workload: Workload,
    shell: Shell,
    ups: Vec<Option<Up>>,
    dials: Vec<Option<u64>>,
    downs: BTreeMap<LinkId, Down>,
    replicas: Vec<Replica>,
    next_link: u64,
    ticked: u64,
    /// Of 1000 attempts to reach the primary so many fail.
    moody: u64,
    plant: Option<Kind>,
    report: Report,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let mut ids = rng.fork();
        let sources = rng.pick(&[1, 2, 2, 3]);
        let manners = setup::manners(&mut rng);
        let views: Vec<(Lens, usize)> = (0..1 + rng.below(3)).map(|_| setup::view(sources, &mut rng)).collect();
        let settings = setup::settings(&views, manners.dialect, sources, options.plant, &mut rng);
        let fickle = options.plant == Some(Kind::FicklePlugin);
        let natives: Vec<Option<Native>> = views
            .iter()
            .map(|(lens, _)| {
                Some(Native::new(*lens, setup::ailment(&mut rng), fickle)).filter(|_| *lens != Lens::Identity)
            })
            .collect();
        let pipelines = natives.iter().map(|native| native.clone().map(|native| Box::new(native) as Box<dyn Pipeline>));
        let entropy = Box::new(move || ids.entropy());
        let machine = Machine::new(settings.clone(), pipelines.collect(), entropy, Shell::time(0));
        let plant = options.plant.map(|kind| Plant::new(kind, rng.fork()));
        let truth = Truth::new(views.clone(), sources);
        let mut replicas = Vec::new();
        for (view, (_, shards)) in views.iter().enumerate() {
            let copies = rng.pick(&[1, 1, 2, 3]);
            for shard in (0..*shards).flat_map(|shard| vec![shard; copies]) {
                let dialect = setup::dialect(manners.dialect, &mut rng, options.plant);
                let mut replica = Replica::new((view, shard), dialect, &mut rng, &truth);
                replica.reuses = options.plant == Some(Kind::NumbersReused);
                replicas.push(replica);
            }
        }
        let (poison, large) = setup::rarities(manners.dialect, &mut rng);
        let mut world = Self {
            story: Story::new(options.aloud),
            now: 0,
            pace: rng.pick(&[1, 4, 20, 100]),
            trouble: rng.pick(&[0, 2, 6, 20]),
            workload: Workload::new(rng.fork(), sources, poison, large),
            primary: Primary::new(rng.fork(), manners, truth),
            shell: Shell::new(machine, natives, rng.fork(), plant),
            settings,
            ups: (0..sources).map(|_| None).collect(),
            dials: vec![None; sources],
            downs: BTreeMap::new(),
            replicas,
            next_link: 1,
            ticked: 0,
            moody: rng.pick(&[0, 30, 200]),
            plant: options.plant,
            report: Report::default(),
            rng,
        };
        (world.shell.moody, world.shell.zeal) = (world.rng.pick(&[0, 0, 10, 50]), world.rng.pick(&[1, 5, 30]));
        (0..world.rng.pick(&[0, 0, 10, 200])).for_each(|_| world.write());
        world.tell(format!(
            "seed {seed}: {manners:?}, {sources} shards, views {views:?}, {} replicas, pace {} ms, trouble {} ‰",
            world.replicas.len(),
            world.pace,
            world.trouble,
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
        self.shut_down()
    }

    /// What the world went through.
    pub fn report(&self) -> Report {
        let stats = self.shell.machine.stats();
        Report {
            ms: self.now,
            compared: self.primary.truth.compared,
            applied: self.replicas.iter().map(|replica| replica.applied).sum(),
            loaded: self.replicas.iter().map(|replica| replica.loaded).sum(),
            full_syncs: stats.upstream_full_syncs,
            partial_syncs: stats.upstream_partial_syncs,
            continued: stats.sync_partial_ok,
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
        match self.rng.below(7 + links) {
            0 | 1 if writes => self.write(),
            0..=3 => {
                let shard = self.rng.below(self.ups.len());
                self.primary.pump(shard, self.now);
                self.primary_speaks(shard);
                self.primary_hears(shard)?;
            }
            4 | 5 => self.shell.work(),
            6 => self.attach(),
            n => {
                let link = *self.downs.keys().nth(n - 7).unwrap_or(&LinkId(0));
                self.serve(link)?;
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
                Errand::Dial(shard) => {
                    self.report.dials += 1;
                    self.dials[shard] = Some(self.now + self.rng.pick(&[0, 5, 50, 400, 6_000]));
                }
                Errand::Close(link) => self.proxy_closes(link),
                Errand::Note(note) => {
                    self.report.halts += u64::from(note.event == "view-halted");
                    self.report.wedges += u64::from(note.event == "upstream-wedged");
                    if note.level != Level::Debug {
                        self.tell(format!("[{}] {}", note.event, note.text));
                    }
                }
            }
        }
        self.look()
    }

    /// The machine is looked at from outside.
    fn look(&mut self) -> Result<(), String> {
        if let Some(wrong) = self.shell.wrong.take() {
            return Err(wrong);
        }
        let files = 2 * self.ups.len() + 1;
        if self.shell.files() > files {
            return Err(format!("{} spool files", self.shell.files()));
        }
        let machine = &self.shell.machine;
        for (link, replica) in machine.replicas() {
            let settings = machine.views()[replica.view].settings();
            let most = settings.replica_output_bytes + PUMP_BYTES_MAX + 2 * PUMP_BYTES;
            if replica.outbox.len() > most {
                return Err(format!(
                    "{} bytes wait for link {}, and {most} are the most",
                    replica.outbox.len(),
                    link.0
                ));
            }
        }
        for (view, native) in machine.views().iter().zip(&self.shell.pipelines) {
            let may_halt = self.workload.poisoned || native.as_ref().is_some_and(Native::has_failed);
            for shard in 0..view.shards() {
                if let Some(State::Halted(fault)) = view.state(shard)
                    && !may_halt
                {
                    return Err(format!("view {} is halted without a reason: {fault}", view.settings().name));
                }
                if let Some(backlog) = view.backlog(shard)
                    && backlog.end() - backlog.start() > (settings_of(&self.settings, view) + 4 * PUMP_BYTES) as u64
                {
                    return Err(format!("a backlog of {} bytes", backlog.end() - backlog.start()));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) {
        let command = self.workload.command();
        self.primary.write(&command);
    }

    fn tick(&mut self) -> Result<(), String> {
        self.ticked = self.now;
        let mut dropped = Vec::new();
        for (link, down) in self.downs.iter_mut().filter(|(_, down)| !down.closed) {
            let replica = &mut self.replicas[down.replica];
            if replica.asleep_until <= self.now && !replica.tick(self.now, &mut down.to_proxy) {
                dropped.push(*link);
            }
        }
        for link in dropped {
            self.tell(format!("the replica at link {} waits no longer", link.0));
            self.lose_replica(link);
        }
        for shard in 0..self.dials.len() {
            if self.dials[shard].is_some_and(|at| self.now >= at) {
                self.dials[shard] = None;
                self.connect(shard);
            }
        }
        self.shell.tell(Input::Tick);
        self.settle()
    }

    fn connect(&mut self, shard: usize) {
        if self.rng.permille(self.moody) {
            self.shell.tell(Input::DialFailed(shard, "connection refused".into()));
            return;
        }
        if self.ups[shard].is_some() {
            // A late attempt has come through, and the order to end it waits.
            self.dials[shard] = Some(self.now + 50);
            return;
        }
        let link = self.link();
        self.primary.accept(shard, link.0);
        self.ups[shard] = Some(Up { link, to_primary: VecDeque::new(), stalled_until: 0 });
        self.shell.tell(Input::Connected(shard, link));
    }

    fn link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }
}

fn settings_of(settings: &Settings, view: &sluicegate_core::kevy::view::View) -> usize {
    let of = settings.views.iter().find(|other| other.view.name == view.settings().name);
    of.map_or(0, |view| view.view.backlog_bytes)
}
