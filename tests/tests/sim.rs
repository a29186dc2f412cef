//! Simulated worlds: every seed is another one. `SEED=n` tells the story of one world, `SEEDS=n` runs more of them.

use sluicegate_tests::sim::seeds::{self, number};
use sluicegate_tests::sim::{self, Kind, Options, Report};

#[test]
fn every_world_keeps_the_promise() {
    let run = |seed| sim::run(seed, Options::default());
    let Some((seeds, reports)) = seeds::run_all(run, summary) else { return };
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    // A world in which nothing happens proves nothing.
    assert!(sum(|r| r.compared) > 100 * seeds && sum(|r| r.faults) > seeds);
    assert!(sum(|r| r.continued) > seeds && sum(|r| r.partial_syncs) > seeds && sum(|r| r.halts) > seeds / 20);
    assert!(sum(|r| r.log_reads) > 3 * seeds && sum(|r| r.log_failures) > seeds / 20);
    assert!(sum(|r| r.repaired) > 3 * seeds && sum(|r| r.restarts) > seeds / 20);
    assert!(sum(|r| r.refreshes) > seeds && sum(|r| r.resumed) > seeds / 200);
}

fn summary(reports: &[Report]) -> String {
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    format!(
        "{} worlds: {} virtual minutes, {} faults, {} comparisons, {} commands applied; upstream {} full and {} partial syncs, {} cut back; replicas {} snapshots and {} continuations; {} values repaired, {} dials for values, {} newer snapshots by {} dials, {} restarts of which {} went on, {} halts; {} reads of logs, {} logs lost",
        reports.len(),
        sum(|r| r.ms) / 60_000,
        sum(|r| r.faults),
        sum(|r| r.compared),
        sum(|r| r.applied),
        sum(|r| r.full_syncs),
        sum(|r| r.partial_syncs),
        sum(|r| r.cut_backs),
        sum(|r| r.snapshots),
        sum(|r| r.continued),
        sum(|r| r.repaired),
        sum(|r| r.value_dials),
        sum(|r| r.refreshes),
        sum(|r| r.refresh_dials),
        sum(|r| r.restarts),
        sum(|r| r.resumed),
        sum(|r| r.halts),
        sum(|r| r.log_reads),
        sum(|r| r.log_failures),
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
