//! One of the two servers: questions that are answered together, as of one moment.

use std::io::{self, Write};

use sluicegate_core::resp::write_command;

use crate::client::{Address, Connection, Head, Value, broken, lost};

/// What a user of ours must be allowed.
const ACL: &str = "+@read +@connection +@transaction +info +time +command +function|list ~*";

/// One command.
pub(super) type Command<'a> = Vec<&'a [u8]>;

/// What some servers have and others have not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    /// `PEXPIRETIME`, since 7.0: expiries as moments, and all else that came with that version.
    pub(super) since_7: bool,
    /// `HPEXPIRETIME`: fields of hashes that expire.
    pub(super) field_expiry: bool,
}

/// When something was true of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Fence {
    /// Its history's id.
    pub(super) history: String,
    /// How far it is in that.
    pub(super) offset: u64,
    /// `master` or `slave`.
    pub(super) role: String,
    /// Of a replica: whether it is connected.
    pub(super) is_up: bool,
    /// Its clock. Unix milliseconds.
    pub(super) now_ms: i64,
}

/// A connection to a server.
pub(super) struct Server {
    /// `the replica at 10.0.0.5:6379`
    pub(super) who: String,
    pub(super) has: Features,
    /// As of the last answer.
    pub(super) fence: Fence,
    link: Connection,
    db: u32,
}

/// What keeps us from comparing.
pub(super) fn trouble(text: String) -> anyhow::Error {
    io::Error::other(text).into()
}

impl Server {
    /// Connects, and finds out what can be asked.
    pub(super) fn open(address: &Address) -> anyhow::Result<Self> {
        let (who, link) = (address.who(), address.dial()?);
        let mut server = Self { who, has: Features::default(), fence: Fence::default(), link, db: 0 };
        let answer = server.link.log_in(address);
        if let Some(answer) = server.io(answer)? {
            server.accept("AUTH", answer)?;
        }
        let known = server.ask(&[b"COMMAND", b"INFO", b"PEXPIRETIME", b"HPEXPIRETIME"])?;
        let knows = |index: usize| known.elements().get(index).is_some_and(|about| *about != Value::Nil);
        server.has = Features { since_7: knows(0), field_expiry: knows(1) };
        server.together(&[], |_| Ok(()))?;
        Ok(server)
    }

    /// Asks one command; an error reply is an error.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> anyhow::Result<Value> {
        self.write(&[words.to_vec()])?;
        let answer = self.value()?;
        self.accept(&shown(words), answer)
    }

    /// Makes `db` the database of all further questions.
    pub(super) fn select(&mut self, db: u32) -> anyhow::Result<()> {
        if self.db != db {
            self.ask(&[b"SELECT", db.to_string().as_bytes()])?;
            self.db = db;
        }
        Ok(())
    }

    /// The numbers of the databases that have keys.
    pub(super) fn databases(&mut self) -> anyhow::Result<Vec<u32>> {
        let keyspace = self.ask(&[b"INFO", b"keyspace"])?.text();
        let number = |line: &str| line.strip_prefix("db")?.split_once(':')?.0.parse().ok();
        Ok(keyspace.lines().filter_map(number).collect())
    }

    /// Some keys of the selected database, and where to go on: at 0 all have been seen.
    pub(super) fn scan(&mut self, cursor: &[u8], count: usize) -> anyhow::Result<(Vec<u8>, Vec<Vec<u8>>)> {
        match self.ask(&[b"SCAN", cursor, b"COUNT", count.to_string().as_bytes()])? {
            Value::Array(page) => match <[Value; 2]>::try_from(page) {
                Ok([Value::Bulk(cursor), Value::Array(names)]) => {
                    let name = |name| if let Value::Bulk(name) = name { Some(name) } else { None };
                    Ok((cursor, names.into_iter().filter_map(name).collect()))
                }
                _ => Err(self.nonsense("SCAN")),
            },
            _ => Err(self.nonsense("SCAN")),
        }
    }

    /// Asks `commands` as of one moment, which the fence then tells. `read` reads the answer of each from the link. `None`:
    /// what was to be watched has changed.
    pub(super) fn together<T>(
        &mut self,
        commands: &[Command<'_>],
        read: impl FnOnce(&mut Connection) -> io::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        let mut all = vec![vec![&b"MULTI"[..]]];
        all.extend_from_slice(commands);
        all.extend([vec![&b"TIME"[..]], vec![b"INFO", b"replication"], vec![b"EXEC"]]);
        self.write(&all)?;
        for words in &all[..all.len() - 1] {
            let answer = self.value()?;
            self.accept(&shown(words), answer)?;
        }
        let head = self.link.head();
        match self.io(head)? {
            Head::Nil => return Ok(None),
            Head::Array(count) if count == commands.len() + 2 => {}
            Head::Error(text) => return Err(self.refused("EXEC", &text)),
            _ => return Err(self.nonsense("EXEC")),
        }
        let answer = read(&mut self.link);
        let answer = self.io(answer)?;
        let (time, replication) = (self.value()?, self.value()?);
        self.fence = fence(&time, &self.accept("INFO", replication)?.text());
        Ok(Some(answer))
    }

    fn write(&mut self, commands: &[Command<'_>]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        commands.iter().for_each(|words| write_command(&mut out, words));
        let written = self.link.stream().write_all(&out);
        self.io(written)
    }

    fn value(&mut self) -> anyhow::Result<Value> {
        let value = self.link.value();
        self.io(value)
    }

    fn accept(&self, command: &str, answer: Value) -> anyhow::Result<Value> {
        match answer {
            Value::Error(text) => Err(self.refused(command, &text)),
            answer => Ok(answer),
        }
    }

    fn io<T>(&self, result: io::Result<T>) -> anyhow::Result<T> {
        lost(result, &self.who)
    }

    /// The server says no: why, and what to do.
    pub(super) fn refused(&self, command: &str, text: &str) -> anyhow::Error {
        let advice = match text.split(' ').next().unwrap_or_default() {
            "NOPERM" => format!("; give the user that asks: {ACL}"),
            "NOAUTH" => "; name a user and a file with the password".into(),
            "WRONGPASS" => "; look at the user and at the file with the password".into(),
            "LOADING" | "MASTERDOWN" | "BUSY" => "; compare again when that is over".into(),
            _ => String::new(),
        };
        trouble(format!("{} answered {command} with `{text}`{advice}", self.who))
    }

    fn nonsense(&self, command: &str) -> anyhow::Error {
        trouble(format!(
            "{} answered {command} with what is no answer to it; is it a Redis or Valkey server?",
            self.who
        ))
    }
}

/// The first words of a command, for people.
fn shown(words: &[&[u8]]) -> String {
    words.iter().take(2).map(|word| word[..word.len().min(64)].escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fn fence(time: &Value, replication: &str) -> Fence {
    let field = |name: &str| replication.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let text = |name| field(name).unwrap_or_default().trim().to_owned();
    let role = text("role");
    // A replica is where it is in what it was sent; what it counts for replicas of its own may differ.
    let offset = if role == "slave" { text("slave_repl_offset") } else { text("master_repl_offset") };
    Fence {
        history: text("master_replid"),
        offset: offset.parse().unwrap_or_default(),
        is_up: text("master_link_status") == "up",
        role,
        now_ms: clock(time),
    }
}

/// `TIME` in milliseconds.
pub(super) fn clock(time: &Value) -> i64 {
    let part = |index: usize| time.elements().get(index).and_then(|part| part.text().parse::<i64>().ok()).unwrap_or(0);
    part(0).saturating_mul(1000).saturating_add(part(1) / 1000)
}

/// An answer that is a number.
pub(super) fn number(value: &Value) -> io::Result<i64> {
    if let Value::Integer(number) = value { Ok(*number) } else { Err(broken(value.text())) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Answers every question in this way, once it has been asked something, and hangs up.
    fn server(answer: &'static [u8]) -> Address {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        let place = ("127.0.0.1".into(), port);
        Address { party: "replica", place, user: None, password: None, timeout: Duration::from_secs(10) }
    }

    #[test]
    fn whatever_answers_is_named_and_nothing_is_made_of_what_it_claims() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"*18446744073709551615\r\n",
            b"*99999999999\r\n$99999999999\r\n",
            b"$-2\r\n",
            b"*-9\r\n",
            b"\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
            b"*2\r\n*-1\r\n*-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*7\r\n",
            b"*2\r\n*-1\r\n*-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n",
        ] {
            let address = server(answer);
            let error = match Server::open(&address) {
                // A transaction that was not carried out is noticed by who asked for something in it.
                Ok(server) => server.refused("EXEC", "nothing"),
                Err(error) => error,
            };
            let text = format!("{error:#}");
            assert!(text.contains("the replica at 127.0.0.1"), "{}: {text}", answer.escape_ascii());
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused =
            Server::open(&server(b"-NOPERM this user has no permissions\r\n")).map(drop).expect_err("refused");
        assert!(format!("{refused:#}").ends_with(ACL), "{refused:#}");
        let loading = Server::open(&server(b"-LOADING the dataset\r\n")).map(drop).expect_err("refused");
        assert!(format!("{loading:#}").contains("compare again when"), "{loading:#}");
    }
}
