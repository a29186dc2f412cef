//! Simulated worlds around a kevy primary: every seed is another one. `SEED=n` tells the story of one world, `SEEDS=n` runs
//! more of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sluicegate_tests::sim::kevy::{self as sim, Failure, Kind, Options, Report};

/// Worlds in an ordinary run.
const SEEDS: u64 = 500;
/// Threads; each world has only one.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_world_keeps_the_promise() {
    if number("SEED").is_some() {
        return println!("SEED is set: only that world is run (one_world)");
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let (next, failures, reports) = (AtomicU64::new(0), Mutex::new(Vec::<Failure>::new()), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match sim::run(seed, Options::default()) {
                        Ok(report) => reports.lock().unwrap().push(report),
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    println!("{} in {:.1} s", summary(&reports), began.elapsed().as_secs_f32());
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure| failure.seed);
    for failure in &failures {
        println!("seed {}: {}", failure.seed, failure.what);
    }
    assert!(failures.is_empty(), "{} worlds failed; the first:\n{}", failures.len(), failures[0]);
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
