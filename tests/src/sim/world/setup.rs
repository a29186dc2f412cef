//! What a seed decides before anything happens.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sluicegate_core::limits::SHIPS_MAX;
use sluicegate_core::machine::Machine;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::settings::{CrossKey, RefreshSettings, RepairLimits, Settings, UpstreamSettings, ViewSettings};

use crate::sim::lens::{Ailment, Lens, Native};
use crate::sim::plant::Kind;
use crate::sim::primary;
use crate::sim::replica::{self, Replica};
use crate::sim::rng::Rng;
use crate::sim::shell::Shell;

pub(super) fn ailment(rng: &mut Rng, plant: Option<Kind>) -> Ailment {
    let failing = rng.permille(60).then(|| Arc::new(AtomicU64::new(rng.within(1..2000))));
    Ailment { keys_left: failing, retried_every: rng.pick(&[0, 5]), fickle: plant == Some(Kind::FicklePlugin) }
}

pub(super) fn settings(lenses: &[Lens], rng: &mut Rng) -> Settings {
    let largest = rng.pick(&[3_000, 50_000, 1 << 29, 1 << 29]);
    let repair = RepairLimits {
        window_bytes_max: rng.pick(&[4_000, 1 << 26, 1 << 26, 1 << 26]),
        window_ms_max: rng.pick(&[5_000, 30_000, 30_000]),
        keys_max: rng.pick(&[3, 10_000, 10_000, 10_000]),
        value_bytes_max: rng.pick(&[200, 1 << 26, 1 << 26, 1 << 26, 1 << 26]),
    };
    let views = lenses.iter().enumerate().map(|(index, lens)| {
        let mut view = ViewSettings::new(&format!("view{index}"));
        view.pipeline = if lens.has_plugins() { vec![format!("{lens:?}")] } else { Vec::new() };
        view.backlog_bytes = rng.pick(&[8_000, 40_000, 200_000, 1 << 20]);
        view.backlog_disk_bytes = rng.pick(&[0, 30_000, 300_000, 1 << 30]);
        view.replica_output_bytes = rng.pick(&[2_000, 100_000, 4 << 20]);
        view.frame_bytes_max = largest;
        view.transaction_bytes_max = rng.pick(&[1_000, 1 << 26, 1 << 26]);
        view.stalled_ms = rng.pick(&[5_000, 60_000]);
        view.cross_key = if rng.permille(150) { CrossKey::Halt } else { CrossKey::Repair };
        view.repair = repair;
        view
    });
    let views = views.collect();
    let mut upstream = UpstreamSettings::new("primary", 6379);
    upstream.password = rng.permille(300).then(|| primary::PASSWORD.into());
    let refresh = RefreshSettings {
        log_bytes: rng.pick(&[0, 2_000, 20_000, 20_000]),
        age_ms: rng.pick(&[0, 0, 20_000]),
        every_ms: rng.pick(&[300, 2_000, 30_000]),
    };
    Settings { upstream, views, users: Vec::new(), refresh, ships_max: SHIPS_MAX, version: "sim".into() }
}

pub(super) fn primary_manners(rng: &mut Rng) -> primary::Manners {
    primary::Manners {
        version: rng.pick(&["7.0.15", "7.2.4", "7.2.4", "7.4.1", "6.2.16"]),
        backlog: rng.pick(&[3_000, 50_000, 1 << 20]),
        forces_select: rng.permille(700),
        select_before_multi: rng.permille(500),
        diskless: rng.permille(600),
        same_mark: rng.permille(300),
    }
}

pub(super) fn replica(number: usize, view: usize, rng: &mut Rng) -> Replica {
    let manners = replica::Manners {
        takes_eof: rng.permille(700),
        takes_id: rng.permille(900),
        says_port: rng.permille(800),
        says_version: rng.permille(300),
    };
    Replica::new(number, view, manners, rng.fork())
}

/// The proxy, as it is when it is started at the world's time `now`.
pub(super) fn machine(
    settings: &Settings,
    natives: &[Option<Native>],
    lenses: &[Lens],
    mut ids: Rng,
    (plant, now): (Option<Kind>, u64),
) -> Machine {
    let boxed = |(native, lens): (&Option<Native>, &Lens)| {
        native.clone().filter(|_| lens.has_plugins()).map(|native| Box::new(native) as Box<dyn Pipeline>)
    };
    let reused = plant == Some(Kind::IdReused);
    let entropy = Box::new(move || if reused { [7; 20] } else { ids.entropy() });
    Machine::new(settings.clone(), natives.iter().zip(lenses).map(boxed).collect(), entropy, Shell::time(now))
}
