//! A canned primary: it speaks the primary's half of the handshake to whatever connects, sends a prepared snapshot and
//! hands the link to the bench, which then writes the stream as fast as it is read.

use std::io::{BufReader, BufWriter, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::wire::{self, Command};

/// The history that the canned primary tells: no pattern in it, or servers compress it in their snapshots.
const REPLICATION_ID: &str = "5b1c7e0d94fa26837e1290cb4fd85a36719e0c24";
/// What frames a snapshot of unknown length.
const END_MARK: [u8; 40] = *b"0123456789abcdef0123456789abcdef01234567";

/// Writes a whole snapshot to a replica.
pub(crate) type SendSnapshot = dyn Fn(&mut dyn Write) -> Result<u64> + Send + Sync;

/// A primary on a port of the loopback.
pub(crate) struct Primary {
    address: SocketAddr,
    links: Receiver<Result<Link>>,
}

/// A replica that has acknowledged its snapshot and waits for the stream.
pub(crate) struct Link {
    /// Where the stream is written.
    pub(crate) stream: TcpStream,
    /// When the first byte of the snapshot was sent.
    pub(crate) snapshot_began: Instant,
    /// How long its sending took, until the socket had taken the last byte.
    pub(crate) snapshot_took: Duration,
    /// Its length in bytes.
    pub(crate) snapshot_bytes: u64,
}

impl Primary {
    /// Listens, and serves `snapshot` to every replica that comes.
    pub(crate) fn start(snapshot: Arc<SendSnapshot>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, links) = channel();
        thread::spawn(move || accept(&listener, &snapshot, &sender));
        Ok(Self { address, links })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the replica whose snapshot is done.
    pub(crate) fn link(&self, within: Duration) -> Result<Link> {
        self.links.recv_timeout(within).context("no replica took the canned primary's snapshot in time")?
    }

    /// Fails if another replica came since, or the same one again: the figures would then be of something else.
    pub(crate) fn check_undisturbed(&self) -> Result<()> {
        match self.links.try_recv() {
            Err(_) => Ok(()),
            Ok(Ok(_)) => bail!("a second full resync was asked of the canned primary"),
            Ok(Err(error)) => Err(error),
        }
    }
}

fn accept(listener: &TcpListener, snapshot: &Arc<SendSnapshot>, links: &Sender<Result<Link>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let (snapshot, links) = (snapshot.clone(), links.clone());
        thread::spawn(move || {
            let mut stage = Stage::Greeting;
            // Before its PSYNC a peer may come and go; afterwards its end is the end of the measurement, seen by the sink.
            if let Err(error) = serve(stream, &*snapshot, &links, &mut stage)
                && matches!(stage, Stage::Syncing(_))
            {
                let _ = links.send(Err(error.context("a replica of the canned primary")));
            }
        });
    }
}

/// How far a connection has come.
enum Stage {
    Greeting,
    /// PSYNC was answered; with the link, if the snapshot is out and only its acknowledgement is missing.
    Syncing(Option<Link>),
    Streaming,
}

/// Answers one connection until it ends.
fn serve(stream: TcpStream, snapshot: &SendSnapshot, links: &Sender<Result<Link>>, stage: &mut Stage) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    while let Some(command) = wire::read_command(&mut input)? {
        let Some(name) = command.first().map(|name| name.to_ascii_uppercase()) else { continue };
        if name == b"REPLCONF" && command.get(1).is_some_and(|option| option.eq_ignore_ascii_case(b"ack")) {
            if let Stage::Syncing(link) = stage {
                let link = link.take().context("an acknowledgement before the snapshot")?;
                *stage = Stage::Streaming;
                let _ = links.send(Ok(link));
            }
        } else if name == b"PSYNC" {
            ensure!(matches!(stage, Stage::Greeting), "PSYNC from a connection that is a replica already");
            *stage = Stage::Syncing(None);
            *stage = Stage::Syncing(Some(send_snapshot(&stream, snapshot)?));
        } else {
            (&stream).write_all(&answer(&name, &command))?;
        }
    }
    ensure!(!matches!(stage, Stage::Syncing(_)), "it left before it acknowledged its snapshot");
    Ok(())
}

fn answer(name: &[u8], command: &Command) -> Vec<u8> {
    match name {
        b"PING" => b"+PONG\r\n".to_vec(),
        b"AUTH" | b"REPLCONF" | b"SELECT" | b"CLIENT" => b"+OK\r\n".to_vec(),
        b"INFO" => {
            let info = format!(
                "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Persistence\r\nloading:0\r\n\
                 # Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
                 master_replid:{REPLICATION_ID}\r\nmaster_replid2:{:0<40}\r\nmaster_repl_offset:0\r\n\
                 second_repl_offset:-1\r\n",
                ""
            );
            format!("${}\r\n{info}\r\n", info.len()).into_bytes()
        }
        _ => format!("-ERR unknown command '{}'\r\n", command[0].escape_ascii()).into_bytes(),
    }
}

fn send_snapshot(stream: &TcpStream, snapshot: &SendSnapshot) -> Result<Link> {
    let mut out = BufWriter::with_capacity(1 << 20, stream.try_clone()?);
    let snapshot_began = Instant::now();
    write!(out, "+FULLRESYNC {REPLICATION_ID} 0\r\n$EOF:{}\r\n", END_MARK.escape_ascii())?;
    let snapshot_bytes = snapshot(&mut out)?;
    out.write_all(&END_MARK)?;
    out.flush()?;
    drop(out);
    let snapshot_took = snapshot_began.elapsed();
    Ok(Link { stream: stream.try_clone()?, snapshot_began, snapshot_took, snapshot_bytes })
}
