//! A real primary whose clients join kept keys with dropped ones now and then: what the fetching of values costs the stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use sluicegate_core::resp;

use crate::e2e::ends_with_marker;
use crate::middle::{Kind, Middle, real_primary};
use crate::process::Scratch;
use crate::rdb::Names;
use crate::report::{Report, median, table};
use crate::sink::Sink;
use crate::stream::{self, MARKER, View};
use crate::wire;

/// Clients that write at once.
const CLIENTS: u64 = 4;
/// Commands that a client sends before it reads their answers.
const PIPELINE: u64 = 200;
/// One in so many commands needs a repair, where any does.
const EVERY: u64 = 100;

/// The figures of one run.
struct Sample {
    seconds: f64,
    repaired: u64,
    waited_ms: u64,
}

/// Measures a filtered view without and with commands that need a repair, in turns.
pub(crate) fn run(report: &mut Report, commands: u64, rounds: usize) -> Result<()> {
    let kind = Kind::Sluicegate(View::Filter);
    if kind.program().is_none() || Kind::Redis.program().is_none() {
        report.missing(&[kind, Kind::Redis]);
        return Ok(());
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for (repairs, samples) in [(false, &mut without), (true, &mut with)] {
            let sample =
                measure(kind, commands, repairs).with_context(|| format!("round {round}, repairs: {repairs}"))?;
            eprintln!(
                "repair round {round}/{rounds}: {} {:.3} s",
                if repairs { "1 %" } else { "none" },
                sample.seconds
            );
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    report.add(&text(commands, rounds, &without, &with));
    Ok(())
}

fn measure(kind: Kind, commands: u64, repairs: bool) -> Result<Sample> {
    let scratch = Scratch::new("repair")?;
    let (_primary, address) = real_primary(scratch.path())?;
    let middle = Middle::start(kind, address, 64, scratch.path())?;
    let mut sink = Sink::attach(middle.address, &mut Names::default())?;
    middle.settle()?;

    let began = Instant::now();
    let writer = thread::spawn(move || write(address, commands, repairs));
    let mut tail = Vec::new();
    sink.drain(|read| Ok(ends_with_marker(&mut tail, read)))
        .with_context(|| middle.process.as_ref().map(|process| process.log_tail()).unwrap_or_default())?;
    let seconds = began.elapsed().as_secs_f64();
    writer.join().map_err(|_| anyhow!("a client panicked"))??;

    let info = info(middle.address)?;
    let repaired = field(&info, "repaired=")?;
    ensure!((repaired > 0) == repairs, "{repaired} values were repaired");
    Ok(Sample { seconds, repaired, waited_ms: field(&info, "repair_wait_ms=")? })
}

/// Writes everything, and the marker behind it.
fn write(address: SocketAddr, commands: u64, repairs: bool) -> Result<()> {
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| thread::spawn(move || write_share(address, client, commands, repairs))).collect();
    for client in clients {
        client.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(MARKER)?;
    answers(&mut BufReader::new(stream), 1)
}

fn write_share(address: SocketAddr, client: u64, commands: u64, repairs: bool) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut out = Vec::new();
    let mine: Vec<u64> = (0..commands).filter(|index| index % CLIENTS == client).collect();
    for indices in mine.chunks(PIPELINE as usize) {
        out.clear();
        for &index in indices {
            if repairs && index / CLIENTS % EVERY == EVERY - 1 {
                let kept = [b"user:", &stream::key(index)[5..]].concat();
                let dropped = [b"sess:", &stream::key(index / 2)[5..]].concat();
                resp::write_command(&mut out, &[b"COPY", &dropped, &kept, b"REPLACE"]);
            } else {
                resp::write_command(&mut out, &[b"SET", &stream::key(index), &stream::value(index)]);
            }
        }
        stream.write_all(&out)?;
        answers(&mut input, indices.len())?;
    }
    Ok(())
}

/// Reads the answers of commands of which none may fail.
fn answers(input: &mut impl BufRead, count: usize) -> Result<()> {
    for _ in 0..count {
        let line = wire::read_line(input)?;
        ensure!(line.starts_with(b"+") || line.starts_with(b":"), "the primary says {}", line.escape_ascii());
    }
    Ok(())
}

/// What the view says of itself.
fn info(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&wire::command(&[b"INFO", b"views"]))?;
    let mut input = BufReader::new(stream);
    let header = wire::read_line(&mut input)?;
    let length = header.strip_prefix(b"$").and_then(resp::decimal).context("INFO was not answered")?;
    let mut text = vec![0; usize::try_from(length)?];
    input.read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}

fn field(info: &str, name: &str) -> Result<u64> {
    let at = info.find(name).with_context(|| format!("INFO does not say {name}: {info}"))?;
    let digits: String = info[at + name.len()..].chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

fn text(commands: u64, rounds: usize, without: &[Sample], with: &[Sample]) -> String {
    let rate = |samples: &[Sample]| commands as f64 / median(samples.iter().map(|sample| sample.seconds));
    let row = |title: &str, samples: &[Sample]| {
        vec![
            title.into(),
            format!("{:.0} k", rate(samples) / 1e3),
            format!("{:.0} %", 100.0 * rate(samples) / rate(without)),
            format!("{:.0}", median(samples.iter().map(|sample| sample.repaired as f64))),
            format!("{:.0} ms", median(samples.iter().map(|sample| sample.waited_ms as f64))),
        ]
    };
    let head =
        ["commands that join kept and dropped keys", "commands/s", "of none", "values fetched", "waited for them"];
    format!(
        "## Repair\n\n{commands} commands by {CLIENTS} clients to a real redis 7.0, {PIPELINE} in a pipeline, half of the keys \
         kept; the time ends with the last frame at the sink. COPY of a dropped key over a kept one is every {EVERY}th \
         command. Medians of {rounds} interleaved rounds.\n\n{}",
        table(&head, &[row("none", without), row("1 %", with)])
    )
}
