//! Worlds by their seeds: one to its end, or many side by side. The same for every kind of world.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::story::Story;

/// Worlds in an ordinary run.
const SEEDS: u64 = 500;
/// Threads; each world has only one.
const THREADS: u64 = 2;
/// Failures after which no more worlds are run.
const FAILURES_MAX: usize = 5;

/// What went wrong in a world.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The test program that it lives in.
    pub test: &'static str,
    /// The seed that leads there.
    pub seed: u64,
    /// What a checker saw.
    pub what: String,
    /// The last events before it.
    pub story: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}: {}\nthe last events:\n{}\nreplay: SEED={} cargo test -p sluicegate-tests --test {} -- --nocapture one_world",
            self.seed, self.what, self.story, self.seed, self.test
        )
    }
}

/// What the life of a world came to. A panic of the proxy is a finding like any other.
pub(super) fn outcome(live: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(live)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default()))
    })
}

/// Tells where the world of `seed` failed.
pub(super) fn failure(test: &'static str, seed: u64, what: String, story: &Story) -> Failure {
    Failure { test, seed, what, story: story.last_words() }
}

/// The number in an environment variable.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the ordinary number of worlds, or as many as `SEEDS` says: that number, and their reports. `None` if `SEED` asks
/// for a single one instead.
///
/// # Panics
/// A world failed.
pub fn run_all<R: Send>(
    run: impl Fn(u64) -> Result<R, Failure> + Sync,
    summary: impl Fn(&[R]) -> String,
) -> Option<(u64, Vec<R>)> {
    if number("SEED").is_some() {
        println!("SEED is set: only that world is run (one_world)");
        return None;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let (next, failures, reports) = (AtomicU64::new(0), Mutex::new(Vec::<Failure>::new()), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match run(seed) {
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
    Some((seeds, reports))
}
