//! What a seed decides before anything happens.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sluicegate_core::kevy::Dialect;
use sluicegate_core::kevy::route::Routing;
use sluicegate_core::kevy::settings::{Settings, Upstream, View};
use sluicegate_core::settings::ViewSettings;

use crate::sim::kevy::lens::Lens;
use crate::sim::kevy::plant::Kind;
use crate::sim::kevy::primary::Manners;
use crate::sim::kevy::truth::ROUTING;
use crate::sim::rng::Rng;

pub(super) fn manners(rng: &mut Rng) -> Manners {
    let dialect = if rng.permille(650) { Dialect::K3 } else { Dialect::K2 };
    let versions = if dialect == Dialect::K3 { &[6, 7] } else { &[4, 5] };
    // An older primary that still has its first frame gives all of them and no snapshot: a view has to have room for them.
    let backlogs = if dialect == Dialect::K3 { &[300, 3_000, 50_000, 1 << 20] } else { &[100, 300, 1_000, 3_000] };
    Manners {
        dialect,
        version: rng.pick(versions),
        backlog: rng.pick(backlogs),
        chunk: rng.pick(&[5, 200, 1_000, 65_536]),
    }
}

pub(super) fn view(sources: usize, rng: &mut Rng) -> (Lens, usize) {
    let shards = if rng.permille(700) { sources } else { 1 + rng.below(4) };
    (rng.pick(&Lens::ALL), shards)
}

pub(super) fn ailment(rng: &mut Rng) -> Option<Arc<AtomicU64>> {
    rng.permille(60).then(|| Arc::new(AtomicU64::new(rng.within(1..2000))))
}

/// What a replica speaks. Those that are older than the primary are turned away.
pub(super) fn dialect(primary: Dialect, rng: &mut Rng, plant: Option<Kind>) -> Dialect {
    let all = [Dialect::K3, Dialect::K2, Dialect::K1];
    let newest = [Dialect::K3; 3];
    let dialect = if primary == Dialect::K3 && rng.permille(950) { rng.pick(&newest) } else { rng.pick(&all) };
    // The newest names a generation, and needs no numbers of its own.
    if plant == Some(Kind::NumbersReused) && dialect == Dialect::K3 { Dialect::K2 } else { dialect }
}

/// Of a million commands: those that no view can follow, and those that the primary holds back.
pub(super) fn rarities(dialect: Dialect, rng: &mut Rng) -> (u64, u64) {
    let large = if dialect == Dialect::K3 { rng.pick(&[0, 0, 1_000, 10_000]) } else { 0 };
    (rng.pick(&[0, 0, 0, 1_000, 30_000]), large)
}

pub(super) fn settings(
    views: &[(Lens, usize)],
    dialect: Dialect,
    sources: usize,
    plant: Option<Kind>,
    rng: &mut Rng,
) -> Settings {
    let mut upstream = Upstream::new("primary", 6500, sources);
    upstream.dialect = Some(dialect).filter(|_| rng.permille(500));
    upstream.routing = if plant == Some(Kind::WrongShard) { Routing::WholeKey } else { ROUTING };
    let view = |(index, (lens, shards)): (usize, &(Lens, usize))| {
        let mut view = ViewSettings::new(&format!("view{index}"));
        view.pipeline = if *lens == Lens::Identity { Vec::new() } else { vec![format!("{lens:?}")] };
        let least = if dialect == Dialect::K3 { 4_000 } else { 20_000 };
        view.backlog_bytes = rng.pick(&[least, 20_000, 200_000, 1 << 20]);
        view.replica_output_bytes = rng.pick(&[2_000, 100_000, 4 << 20]);
        view.stalled_ms = rng.pick(&[5_000, 60_000]);
        View { view, shards: *shards }
    };
    Settings { upstream, views: views.iter().enumerate().map(view).collect(), ships_max: 8, version: "sim".into() }
}
