//! Every row of the command table by itself: random invocations through a view that drops, keeps and renames, on each
//! server, then every key is compared. What fails is named by its row.
//!
//! `SLUICEGATE_EXACT_SEED=random` draws other commands than usual, `=n` repeats a run, `SLUICEGATE_EXACT_ROW=name` runs one row alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use sluicegate_core::command::Table;
use sluicegate_tests::exact::{Generator, Lens, Mix, Stage, known, rows, seed};
use sluicegate_tests::server::{Kind, Server};
use sluicegate_tests::wait::wait_for;

const KINDS: [Kind; 3] = [Kind::Redis70, Kind::Redis82, Kind::Valkey91];

/// Commands that fill keys before a row's turn.
const FILLERS: usize = 120;

/// How often a row is tried that has no effect at all.
const ROUNDS: usize = 10;

/// Invocations of a row.
const INVOCATIONS: usize = 60;

/// A row added to the table without a template fails here.
#[test]
fn every_row_of_the_table_is_generated_or_listed() {
    let table = Table::builtin();
    let table: BTreeSet<&str> = table.rows().iter().map(|row| &*row.name).collect();
    let generated = rows::with_template();
    for row in &table {
        let listed = rows::unprovoked(row).is_some();
        assert!(
            generated.contains(row) != listed,
            "{row}: it needs a template or a reason in exact/rows.rs, and not both"
        );
    }
    let named = rows::REWRITTEN.iter().chain(rows::UNPROVOKED).map(|&(row, _)| row);
    for row in named.chain(rows::UNSEEN.iter().copied()).chain(generated.iter().copied()) {
        assert!(table.contains(row), "{row} is no row of the table");
    }
}

#[test]
fn every_template_is_for_a_command_that_a_server_has() -> Result<()> {
    let mut names = BTreeSet::from(["replconf|getack".to_owned()]);
    for kind in KINDS {
        if kind.find_or_say().is_none() {
            return Ok(());
        }
        names.extend(known(&mut Server::start(kind, &[])?.client()?)?);
    }
    for row in rows::with_template() {
        ensure!(names.contains(row), "no server has {row}, so its template is never tried");
    }
    Ok(())
}

fn rows_alone(kind: Kind, mix: Mix) -> Result<()> {
    if kind.find_or_say().is_none() {
        return Ok(());
    }
    let seed = seed()?;
    let only = std::env::var("SLUICEGATE_EXACT_ROW").ok();
    eprintln!("{kind:?}: SLUICEGATE_EXACT_SEED={seed}");
    let start = Instant::now();
    let mut stage = Stage::start(kind, Lens::BY_NAME)?;
    let mut generator = Generator::new(seed, kind, &mut stage.primary.client()?, mix, stage.neighbour(), &[])?;
    let mut faults = Vec::new();
    let drawn: Vec<&str> =
        generator.rows().iter().copied().filter(|row| only.as_deref().is_none_or(|o| o == *row)).collect();
    for &row in &drawn {
        if let Err(fault) = alone(&mut stage, &mut generator, row) {
            faults.push(format!("{row}: {fault:#}"));
            // The view has halted, or its replica is wrong for good.
            stage = Stage::start(kind, Lens::BY_NAME)?;
        }
    }
    let (times, keys) = stage.compared();
    let rows = drawn.len();
    eprintln!("  {rows} rows, {times} comparisons of {keys} keys in {:.1} s", start.elapsed().as_secs_f32());
    ensure!(faults.is_empty(), "{kind:?}, seed {seed}: {} of {rows} rows\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// One row, over keys that hold something, until it has stood in the stream.
fn alone(stage: &mut Stage, generator: &mut Generator, row: &str) -> Result<()> {
    let before = stage.counts().get(row).copied();
    for _ in 0..ROUNDS {
        stage.clear()?;
        let mut commands: Vec<_> = (0..FILLERS).flat_map(|_| generator.maker()).collect();
        for _ in 0..INVOCATIONS {
            commands.append(&mut generator.maker());
            commands.append(&mut generator.invocation(row));
        }
        stage.send(0, &commands)?;
        stage.compare()?;
        let sent = || stage.counts().get(row).copied() != before;
        if rows::is_rewritten(row, stage.primary.kind()) {
            ensure!(!sent(), "it stood in the stream, against what exact/rows.rs says");
            return Ok(());
        }
        // A primary pings at times of its own.
        if row == "ping" {
            return wait_for("a ping in the stream", Duration::from_secs(5), || Ok(sent()));
        }
        if sent() {
            return Ok(());
        }
    }
    bail!("it never stood in the stream, against what exact/rows.rs says")
}

#[test]
fn redis_7() -> Result<()> {
    rows_alone(Kind::Redis70, Mix::Any)
}

#[test]
fn redis_8() -> Result<()> {
    rows_alone(Kind::Redis82, Mix::Any)
}

#[test]
fn valkey_9() -> Result<()> {
    rows_alone(Kind::Valkey91, Mix::Any)
}
