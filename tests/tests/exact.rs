//! Random commands from the whole command table through a view that drops, keeps and renames, on each server; then every
//! key is compared.
//!
//! `SLUICEGATE_EXACT_SEED=random` draws other commands than usual, `=n` repeats a run; `SLUICEGATE_EXACT_COMMANDS=n` makes it
//! longer or shorter.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sluicegate_tests::exact::{DIFFERS, Generator, Lens, Mix, Stage, Tamper, rows, seed};
use sluicegate_tests::server::Kind;

/// Commands of a run, where nothing else is asked for.
const COMMANDS: u64 = 200_000;

/// Commands between two comparisons.
const STRETCH: usize = 4_000;

/// Commands sent at once through one connection.
const BATCH: usize = 200;

fn number_from(variable: &str) -> Result<Option<u64>> {
    std::env::var(variable).ok().map(|text| text.parse().with_context(|| format!("{variable}={text}"))).transpose()
}

/// Sends about `STRETCH` commands; returns how many.
fn stretch(stage: &mut Stage, generator: &mut Generator) -> Result<usize> {
    let mut sent = 0;
    for connection in 0.. {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            batch.append(&mut generator.unit());
        }
        sent += batch.len();
        stage.send(connection, &batch)?;
        let (blocked, serving) = generator.served();
        sent += blocked.len() + serving.len();
        stage.serve(blocked, &serving)?;
        if sent >= STRETCH {
            break;
        }
    }
    Ok(sent)
}

fn run(kind: Kind, lens: Lens, mix: Mix, without: &[&str]) -> Result<()> {
    if kind.find_or_say().is_none() {
        return Ok(());
    }
    let seed = seed()?;
    let wanted = number_from("SLUICEGATE_EXACT_COMMANDS")?.unwrap_or(COMMANDS);
    eprintln!("{kind:?}: SLUICEGATE_EXACT_SEED={seed} SLUICEGATE_EXACT_COMMANDS={wanted}");
    let start = Instant::now();
    let mut stage = Stage::start(kind, lens)?;
    let mut generator = Generator::new(seed, kind, &mut stage.primary.client()?, mix, stage.neighbour(), without)?;
    let mut sent = 0;
    while sent < wanted {
        sent += stretch(&mut stage, &mut generator)? as u64;
        stage.compare().with_context(|| format!("{kind:?}, seed {seed}, after {sent} commands"))?;
    }
    let proved = stage.prove().with_context(|| format!("{kind:?}, seed {seed}, at the end"))?;
    if wanted >= COMMANDS {
        check_stream(kind, &stage, &generator)?;
    }
    let repaired = stage.repaired()?;
    ensure!((repaired > 0) == (mix == Mix::Any), "{repaired} values were fetched");
    let (times, keys) = stage.compared();
    let seconds = start.elapsed().as_secs_f32();
    eprintln!("  {sent} commands, {repaired} values fetched, {times} comparisons of {keys} keys in {seconds:.1} s");
    eprintln!("  `sluicegate compare` found {proved} keys equal");
    Ok(())
}

/// Every row that was drawn got into the stream, unless the primary sends something else; and nothing else did.
fn check_stream(kind: Kind, stage: &Stage, generator: &Generator) -> Result<()> {
    let counts = stage.counts();
    let (mut missing, mut unwanted) = (Vec::new(), Vec::new());
    // A primary pings at times of its own, and some not while they have something else to say.
    for &row in generator.rows().iter().filter(|row| **row != "ping") {
        match (rows::is_rewritten(row, kind), counts.contains_key(row)) {
            (false, false) => missing.push(row),
            (true, true) => unwanted.push(row),
            _ => {}
        }
    }
    unwanted.extend(rows::UNPROVOKED.iter().map(|&(row, _)| row).filter(|row| counts.contains_key(*row)));
    ensure!(missing.is_empty(), "{kind:?}: never in the stream: {missing:?}");
    ensure!(unwanted.is_empty(), "{kind:?}: in the stream, against what exact/rows.rs says: {unwanted:?}");
    Ok(())
}

#[test]
fn redis_7() -> Result<()> {
    run(Kind::Redis70, Lens::BY_NAME, Mix::Any, &[])
}

#[test]
fn redis_8() -> Result<()> {
    run(Kind::Redis82, Lens::BY_NAME, Mix::Any, &[])
}

#[test]
fn valkey_9() -> Result<()> {
    run(Kind::Valkey91, Lens::BY_NAME, Mix::Any, &[])
}

/// SWAPDB halts a view that tells databases apart, and has stories of its own.
#[test]
fn a_view_of_some_databases() -> Result<()> {
    run(Kind::Valkey91, Lens::BY_DATABASE, Mix::Any, &["swapdb"])
}

#[test]
fn a_view_that_halts_on_mixtures_has_no_reason_to_without_them() -> Result<()> {
    run(Kind::Redis82, Lens::STRICT, Mix::Separate, &[])
}

/// The comparison can fail: the frames of one row are kept from the replica, and that is found.
#[test]
fn a_falsified_row_is_found() -> Result<()> {
    let kind = Kind::Redis70;
    if kind.find_or_say().is_none() {
        return Ok(());
    }
    let seed = seed()?;
    eprintln!("SLUICEGATE_EXACT_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..3 {
        let mut stage = Stage::start(kind, Lens::BY_NAME)?;
        let mut client = stage.primary.client()?;
        let mut generator = Generator::new(seed, kind, &mut client, Mix::Any, stage.neighbour(), &[])?;
        let seen = |row: &&&str| !rows::is_rewritten(row, kind) && !rows::UNSEEN.contains(row);
        let candidates: Vec<&str> = generator.rows().iter().filter(seen).copied().collect();
        let row = candidates[rng.usize(..candidates.len())];
        let tamper = [Tamper::Drop, Tamper::OtherKey][rng.usize(..2)](row.to_owned());
        eprintln!("  {tamper:?}");
        stage.tamper(tamper);
        let mut found = None;
        for _ in 0..40 {
            stretch(&mut stage, &mut generator)?;
            found = stage.compare().err();
            if found.is_some() {
                break;
            }
        }
        let found = found.with_context(|| format!("{} falsified frames of {row} were not found", stage.tampered()))?;
        ensure!(found.to_string().starts_with(DIFFERS), "something else went wrong: {found:#}");
        ensure!(stage.tampered() > 0, "a difference without a falsified frame: {found:#}");
    }
    Ok(())
}
