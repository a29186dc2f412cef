//! Simulated worlds around a kevy primary: every seed is another one. `SEED=n` tells the story of one world, `SEEDS=n` runs
//! more of them.

use sluicegate_tests::sim::kevy::{self as sim, Kind, Options, Report};
use sluicegate_tests::sim::seeds::{self, number};

#[test]
fn every_world_keeps_the_promise() {
    let run = |seed| sim::run(seed, Options::default());
    let Some((seeds, reports)) = seeds::run_all(run, summary) else { return };
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    // A world in which nothing happens proves nothing.
    assert!(sum(|r| r.compared) > 100 * seeds && sum(|r| r.faults) > seeds && sum(|r| r.loaded) > seeds);
    assert!(sum(|r| r.continued) > seeds && sum(|r| r.partial_syncs) > seeds && sum(|r| r.full_syncs) > seeds);
    assert!(sum(|r| r.halts) > seeds / 20 && sum(|r| r.wedges) > seeds / 20);
}

fn summary(reports: &[Report]) -> String {
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    format!(
        "{} worlds: {} virtual minutes, {} faults, {} comparisons, {} frames applied, {} snapshots loaded; upstream {} attempts, {} full and {} partial syncs, {} wedges; {} continuations of replicas; {} halts",
        reports.len(),
        sum(|r| r.ms) / 60_000,
        sum(|r| r.faults),
        sum(|r| r.compared),
        sum(|r| r.applied),
        sum(|r| r.loaded),
        sum(|r| r.dials),
        sum(|r| r.full_syncs),
        sum(|r| r.partial_syncs),
        sum(|r| r.wedges),
        sum(|r| r.continued),
        sum(|r| r.halts),
    )
}

#[test]
fn one_world() {
    let seed = number("SEED");
    let run = || sim::run(seed.unwrap_or(1), Options { aloud: seed.is_some(), plant: None });
    let report = run().unwrap_or_else(|failure| panic!("{failure}"));
    println!("{}", summary(&[report]));
    if seed.is_none() {
        assert_eq!(run().unwrap(), report, "a seed gives the same world every time");
    }
}

#[test]
fn the_checkers_see_planted_faults() {
    for kind in Kind::ALL {
        let found = (0..200).find_map(|seed| sim::run(seed, Options { plant: Some(kind), aloud: false }).err());
        let failure = found.unwrap_or_else(|| panic!("{kind:?} was planted in 200 worlds, and no checker saw it"));
        println!("{kind:?}: found with seed {}: {}", failure.seed, failure.what.lines().next().unwrap_or_default());
    }
}
