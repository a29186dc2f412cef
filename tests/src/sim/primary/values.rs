//! The primary's half of the conversation about single keys.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Primary;
use crate::sim::data::{Dataset, Entry};
use crate::sim::rdb;
use crate::sim::shell::EPOCH_MS;
use crate::sim::truth::Id;
use crate::sim::wire::{self, Said};

/// What the user must be allowed to do.
pub const PASSWORD: &str = "secret";

/// A server that was the primary, as one finds it who is still connected to it.
#[derive(Debug)]
struct Left {
    id: Id,
    end: u64,
    data: Dataset,
    /// It knows that it was taken over from.
    is_replica: bool,
}

/// One link on which keys are asked for.
#[derive(Debug, Default)]
pub struct Asker {
    inbox: Vec<u8>,
    /// Bytes on their way to the proxy.
    pub out: VecDeque<u8>,
    db: u32,
    authenticated: bool,
    /// MULTI was said: the commands behind it.
    queued: Option<Vec<Vec<Vec<u8>>>>,
    /// A queued command was refused: EXEC will fail.
    aborted: bool,
    /// Everything is answered with this until EXEC is.
    mood: Option<&'static str>,
    /// Who answers, if it is not the primary of now.
    left: Option<Left>,
    /// How far its clock has moved on since it was asked. Milliseconds.
    clock: u64,
}

impl Primary {
    /// Takes a new link for single keys.
    pub fn accept_asker(&mut self, link: u64) {
        self.askers.insert(link, Asker { authenticated: !self.wants_password, ..Asker::default() });
    }

    /// Before a failover: some links stay with the server that is no primary any more.
    pub(super) fn leave_askers(&mut self) {
        let (id, end, data) = (self.id.clone(), self.end(), self.data.clone());
        for asker in self.askers.values_mut().filter(|asker| asker.left.is_none()) {
            if self.rng.permille(500) {
                let is_replica = self.rng.permille(300);
                asker.left = Some(Left { id: id.clone(), end, data: data.clone(), is_replica });
            }
        }
    }

    /// Whether the link stays when the primary of now is gone.
    pub fn is_left(&self, link: u64) -> bool {
        self.askers.get(&link).is_some_and(|asker| asker.left.is_some())
    }

    /// Takes bytes from such a link.
    pub fn asked(&mut self, link: u64, bytes: &[u8], now: u64) -> Result<(), String> {
        let Some(mut asker) = self.askers.remove(&link) else { return Ok(()) };
        asker.inbox.extend_from_slice(bytes);
        loop {
            match wire::take_command(&mut asker.inbox)? {
                Said::Nothing => break,
                Said::Newline => {}
                Said::Command(args) => self.answer(&mut asker, args, now)?,
            }
        }
        self.askers.insert(link, asker);
        Ok(())
    }

    fn answer(&mut self, asker: &mut Asker, args: Vec<Vec<u8>>, now: u64) -> Result<(), String> {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
        let answer = match &name[..] {
            "auth" if args.last().is_some_and(|word| word == PASSWORD.as_bytes()) => {
                asker.authenticated = true;
                b"+OK\r\n".to_vec()
            }
            "auth" => return Err("the proxy says another password than it was given".into()),
            _ if !asker.authenticated => return Err(format!("the proxy says {name} before AUTH")),
            "client" => b"+OK\r\n".to_vec(),
            "multi" => {
                (asker.queued, asker.aborted, asker.clock) = (Some(Vec::new()), false, 0);
                asker.mood = self.mood(now);
                asker.mood.map_or(b"+OK\r\n".to_vec(), |mood| mood.into())
            }
            "exec" => self.exec(asker, now)?,
            _ => self.queue(asker, &name, args),
        };
        asker.out.extend(answer);
        Ok(())
    }

    /// How the primary feels about being asked.
    fn mood(&mut self, now: u64) -> Option<&'static str> {
        if !self.rng.permille(self.moody) {
            return None;
        }
        self.unwilling_at = now;
        Some(self.rng.pick(&[
            "-LOADING Redis is loading the dataset in memory\r\n",
            "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        ]))
    }

    fn queue(&mut self, asker: &mut Asker, name: &str, args: Vec<Vec<u8>>) -> Vec<u8> {
        if let Some(mood) = asker.mood {
            return mood.into();
        }
        let refusal = match name {
            "dump" if self.denies => Some("-NOPERM User proxy has no permissions to run the 'dump' command\r\n".into()),
            "pexpiretime" if self.is_old() => {
                let key = String::from_utf8_lossy(&args[1]).into_owned();
                Some(format!("-ERR unknown command 'PEXPIRETIME', with args beginning with: '{key}' \r\n"))
            }
            _ => None,
        };
        match (refusal, &mut asker.queued) {
            (Some(refusal), _) => {
                asker.aborted = true;
                refusal.into_bytes()
            }
            (None, Some(queued)) => {
                queued.push(args);
                b"+QUEUED\r\n".to_vec()
            }
            (None, None) => b"-ERR the models know this inside MULTI only\r\n".to_vec(),
        }
    }

    fn is_old(&self) -> bool {
        self.manners.version.starts_with('6')
    }

    fn exec(&mut self, asker: &mut Asker, now: u64) -> Result<Vec<u8>, String> {
        let queued = asker.queued.take().unwrap_or_default();
        if let Some(mood) = asker.mood.take() {
            return Ok(mood.into());
        }
        if asker.aborted {
            return Ok(b"-EXECABORT Transaction discarded because of previous errors.\r\n".to_vec());
        }
        let is_replica = self.rng.permille(self.moody / 3);
        if is_replica {
            self.unwilling_at = now;
        }
        let mut out = format!("*{}\r\n", queued.len()).into_bytes();
        for args in queued {
            let answer = self.run(asker, &args, is_replica, now)?;
            out.extend(answer);
        }
        self.answered += 1;
        Ok(out)
    }

    fn run(&mut self, asker: &mut Asker, args: &[Vec<u8>], is_replica: bool, now: u64) -> Result<Vec<u8>, String> {
        let entry = |key: &[u8]| -> Option<Rc<Entry>> {
            let data = asker.left.as_ref().map_or(&self.data, |left| &left.data);
            data.get(asker.db, key).cloned()
        };
        let unix_ms = EPOCH_MS + now + asker.clock;
        let number = |n: i64| format!(":{n}\r\n").into_bytes();
        Ok(match &args[0].to_ascii_lowercase()[..] {
            b"info" => {
                let info = match &asker.left {
                    Some(left) => replication(left.is_replica, &left.id, left.end),
                    None => replication(is_replica, &self.id, self.end()),
                };
                bulk(info.as_bytes())
            }
            b"select" => {
                asker.db = String::from_utf8_lossy(&args[1]).parse().map_err(|_| "SELECT of no database")?;
                b"+OK\r\n".to_vec()
            }
            b"dump" => entry(&args[1])
                .map_or(b"$-1\r\n".to_vec(), |entry| bulk(&rdb::dump(&entry.value, self.manners.version))),
            b"pexpiretime" => number(entry(&args[1]).map_or(-2, |entry| entry.expires.unwrap_or(-1))),
            b"pttl" => {
                let left = |entry: Rc<Entry>| entry.expires.map_or(-1, |at| at - unix_ms as i64);
                number(entry(&args[1]).map_or(-2, left))
            }
            b"time" => {
                // Now and then a millisecond passes within the transaction.
                asker.clock += u64::from(self.rng.permille(50));
                let unix_ms = EPOCH_MS + now + asker.clock;
                let (seconds, micros) = (unix_ms / 1000, unix_ms % 1000 * 1000 + self.rng.within(0..1000));
                let mut out = b"*2\r\n".to_vec();
                out.extend(bulk(seconds.to_string().as_bytes()));
                out.extend(bulk(micros.to_string().as_bytes()));
                out
            }
            other => return Err(format!("the proxy says {} where it asks for keys", other.escape_ascii())),
        })
    }
}

fn replication(is_replica: bool, id: &str, end: u64) -> String {
    let role = if is_replica { "slave" } else { "master" };
    format!("# Replication\r\nrole:{role}\r\nmaster_replid:{id}\r\nmaster_repl_offset:{end}\r\n")
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
