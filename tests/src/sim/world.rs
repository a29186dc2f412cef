//! The world's turns: who acts next, and what is looked at behind every act.

mod end;
mod faults;
mod links;
mod refresh;
mod setup;
mod values;

use std::collections::{BTreeMap, VecDeque};

use sluicegate_core::contract::{Drive, Input, Level, LinkId};
use sluicegate_core::settings::{CrossKey, Settings};

use super::check::{Checker, Trouble};
use super::lens::{Ailment, Lens, Native};
use super::plant::{Kind, Plant};
use super::primary::Primary;
use super::replica::Replica;
use super::rng::Rng;
use super::shell::{Errand, Shell};
use super::story::Story;
use super::truth::Id;
use super::workload::Workload;
use super::{Options, Report};
use refresh::Refresh;
use setup::{ailment, machine, primary_manners, replica, settings};
use values::Values;

/// Steps with faults.
const STEPS: u64 = 4_500;

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
    natives: Vec<Option<Native>>,
    up: Option<Up>,
    values: Option<Values>,
    refresh: Option<Refresh>,
    /// When the primary's ports are connected to.
    dials: [Option<u64>; 3],
    downs: BTreeMap<LinkId, Down>,
    replicas: Vec<Replica>,
    next_link: u64,
    ticked: u64,
    /// The faults have stopped.
    healed: bool,
    plant: Option<Kind>,
    report: Report,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let ids = rng.fork();
        let manners = primary_manners(&mut rng);
        let mut lenses: Vec<Lens> = (0..1 + rng.below(3)).map(|_| rng.pick(&Lens::ALL)).collect();
        if manners.version.starts_with('6') {
            lenses.iter_mut().filter(|lens| **lens == Lens::Relay).for_each(|lens| *lens = Lens::Whole);
        }
        let ailments: Vec<Ailment> = lenses.iter().map(|_| ailment(&mut rng, options.plant)).collect();
        let settings = settings(&lenses, &mut rng);
        let natives: Vec<Option<Native>> = lenses
            .iter()
            .zip(&ailments)
            .map(|(lens, ailment)| lens.has_own_history().then(|| Native::new(*lens, ailment.clone())))
            .collect();
        let machine = machine(&settings, &natives, &lenses, ids, (options.plant, 0));
        let plant = options.plant.map(|kind| Plant::new(kind, rng.fork()));
        let poison = rng.pick(&[0, 0, 0, 30_000, 300_000]);
        let repairs = settings.views.iter().map(|view| view.cross_key == CrossKey::Repair);
        let repairs = lenses.iter().copied().zip(repairs);
        let mut workload = Workload::new(rng.fork(), repairs.collect(), 0);
        let keys = rng.pick(&[0, 5, 30, 100]);
        let data = workload.dataset(keys);
        workload.poison = poison;
        let mut primary = Primary::new(rng.fork(), manners, data);
        primary.wants_password = settings.upstream.password.is_some();
        primary.moody = rng.pick(&[0, 30, 200]);
        let count = rng.pick(&[1, 2, 3, 3, 4, 5, 12]);
        let replicas = (0..count).map(|n| replica(n, n % lenses.len(), &mut rng)).collect();
        let checked: Vec<_> = lenses.iter().copied().zip(ailments).collect();
        let mut world = Self {
            story: Story::new(options.aloud),
            now: 0,
            pace: rng.pick(&[1, 4, 20, 100]),
            trouble: rng.pick(&[0, 2, 6, 20]),
            shell: Shell::new(machine, natives.clone(), rng.fork(), plant),
            checker: Checker::new(&checked),
            lenses,
            settings,
            primary,
            workload,
            natives,
            up: None,
            values: None,
            refresh: None,
            dials: [None; 3],
            downs: BTreeMap::new(),
            replicas,
            next_link: 1,
            ticked: 0,
            healed: false,
            plant: options.plant,
            report: Report::default(),
            rng,
        };
        world.checker.only_meaning = options.plant.is_some_and(Kind::is_about_meaning);
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
        self.replay()?;
        self.shut_down()
    }

    /// What the world went through.
    pub fn report(&mut self) -> Report {
        self.remember();
        Report {
            ms: self.now,
            compared: self.checker.compared,
            applied: self.replicas.iter().map(|replica| replica.frames).sum(),
            halts: self.checker.halts,
            fingerprint: self.story.fingerprint(),
            ..self.report
        }
    }

    /// Adds up what this run of the proxy has counted.
    fn remember(&mut self) {
        let machine = &self.shell.machine;
        let (stats, report) = (machine.stats(), &mut self.report);
        report.full_syncs += stats.upstream_full_syncs;
        report.partial_syncs += stats.upstream_partial_syncs;
        report.snapshots += stats.sync_full;
        report.continued += stats.sync_partial_ok;
        report.log_reads += self.shell.disk.reads;
        report.log_failures += self.shell.disk.failures;
        report.refreshes += stats.refreshes;
        report.repaired += machine.views().iter().map(|view| view.counts().repaired).sum::<u64>();
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
        match self.rng.below(9 + links) {
            0 if writes => self.write(),
            0 | 1 => {
                self.primary_speaks()?;
                self.primary_hears()?;
            }
            2 | 3 => self.shell.work(),
            4 => self.attach(),
            5 | 6 => self.serve_values()?,
            7 | 8 => self.serve_refresh()?,
            n => {
                let link = *self.downs.keys().nth(n - 9).unwrap_or(&LinkId(0));
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
                Errand::Dial(port) => {
                    self.report.dials += u64::from(port == 0);
                    self.report.value_dials += u64::from(port == 1);
                    self.report.refresh_dials += u64::from(port == 2);
                    self.dials[port] = Some(self.now + self.rng.pick(&[0, 5, 50, 400]));
                }
                Errand::Close(link) => self.proxy_closes(link),
                Errand::Note(note) => {
                    self.report.resumed += u64::from(note.event == "snapshot-resumed");
                    self.report.cut_backs += u64::from(note.event == "upstream-cut-back");
                    if note.level != Level::Debug {
                        self.tell(format!("[{}] {}", note.event, note.text));
                    }
                }
            }
        }
        self.look()
    }

    /// The checkers look at the machine.
    fn look(&mut self) -> Result<(), String> {
        let primary = &self.primary;
        let trouble =
            Trouble { now: self.now, unwilling_at: primary.unwilling_at, denied: primary.denies, healed: self.healed };
        self.checker.machine(&self.shell.machine, &primary.truth, &primary.id, &primary.snapshot, trouble)
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
        if self.dials[0].take_if(|at| self.now >= *at).is_some() {
            self.connect()?;
        }
        if self.dials[1].take_if(|at| self.now >= *at).is_some() {
            self.connect_values()?;
        }
        if self.dials[2].take_if(|at| self.now >= *at).is_some() {
            self.connect_refresh()?;
        }
        self.shell.tell(Input::Tick);
        self.settle()
    }

    fn connect(&mut self) -> Result<(), String> {
        if self.up.is_some() {
            return Err("a second link to the primary".into());
        }
        if self.rng.permille(self.primary.moody) {
            self.shell.tell(Input::DialFailed(0, "connection refused".into()));
            return Ok(());
        }
        let link = self.link();
        self.primary.accept(link.0, false);
        self.up = Some(Up { link, to_primary: VecDeque::new(), stalled_until: 0 });
        self.shell.tell(Input::Connected(0, link));
        Ok(())
    }

    fn link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }
}
