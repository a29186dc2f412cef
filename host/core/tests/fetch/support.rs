//! A primary to talk to: what it is sent, and what it answers.

use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::fetch::{Answer, Fetcher, Phase, Wanted};
use sluicegate_core::resp;
use sluicegate_core::settings::UpstreamSettings;

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) fn settings() -> UpstreamSettings {
    UpstreamSettings::new("primary", 6379)
}

pub(crate) fn wanted(keys: &[(u32, &str)]) -> Vec<Wanted> {
    keys.iter().map(|(db, key)| Wanted { db: *db, key: key.as_bytes().to_vec() }).collect()
}

/// What the golden replies answer.
pub(crate) fn captured_order() -> Vec<Wanted> {
    wanted(&[(0, "plain"), (0, "dying"), (0, "later"), (0, "none"), (0, "h"), (3, "bin")])
}

/// A fetcher with a link, and what it has sent on it that the test has not looked at yet.
pub(crate) struct Link {
    pub(crate) fetcher: Fetcher,
    pub(crate) sent: Vec<u8>,
}

impl Link {
    /// A link that was greeted, with room for every value of these tests.
    pub(crate) fn ready() -> Self {
        Self::with(Fetcher::new(settings(), MIB, MIB))
    }

    pub(crate) fn with(fetcher: Fetcher) -> Self {
        let mut link = Self { fetcher, sent: Vec::new() };
        link.fetcher.dialing(0);
        link.fetcher.connected(0, &mut link.sent);
        assert_eq!(link.push(b"+OK\r\n"), Ok(None));
        assert_eq!(link.fetcher.phase(), Phase::Ready);
        link.sent.clear();
        link
    }

    /// Asks for keys, and looks away from how.
    pub(crate) fn order(&mut self, wanted: Vec<Wanted>) {
        self.fetcher.order(wanted, 0, &mut self.sent);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Fault> {
        self.fetcher.push(bytes, 0, &mut self.sent)
    }

    /// What was sent since the last look, a command a line.
    pub(crate) fn take_sent(&mut self) -> String {
        commands(&std::mem::take(&mut self.sent))
    }

    pub(crate) fn refused(&mut self, bytes: &[u8]) -> Fault {
        match self.push(bytes) {
            Ok(Some(Answer::Refused(fault, _))) => fault,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn not_now(&mut self, bytes: &[u8]) -> String {
        match self.push(bytes) {
            Ok(Some(Answer::NotNow(why))) => why,
            other => panic!("not put off: {other:?}"),
        }
    }
}

/// Commands as a person writes them, a line each.
pub(crate) fn commands(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut line = || {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &bytes[..end];
        bytes = &bytes[end + 2..];
        Some(line)
    };
    while let Some(header) = line() {
        let words: Vec<_> = (0..resp::decimal(&header[1..]).unwrap())
            .map(|_| {
                let _length = line();
                String::from_utf8_lossy(line().unwrap()).into_owned()
            })
            .collect();
        text.push_str(&words.join(" "));
        text.push('\n');
    }
    text
}

/// A whole answer for one order, of these results of EXEC.
pub(crate) fn transaction(results: &[&[u8]]) -> Vec<u8> {
    let mut reply = b"+OK\r\n".to_vec();
    for _ in results {
        reply.extend_from_slice(b"+QUEUED\r\n");
    }
    resp::write_array(&mut reply, results.len());
    reply.extend(results.concat());
    reply
}

pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// INFO replication of a primary.
pub(crate) fn info(role: &str, offset: u64) -> Vec<u8> {
    bulk(format!("# Replication\r\nrole:{role}\r\nmaster_replid:{ID}\r\nmaster_repl_offset:{offset}\r\n").as_bytes())
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    resp::write_bulk(&mut reply, bytes);
    reply
}

/// TIME: seconds and microseconds.
pub(crate) fn time(seconds: u64, micros: u64) -> Vec<u8> {
    [b"*2\r\n".to_vec(), bulk(seconds.to_string().as_bytes()), bulk(micros.to_string().as_bytes())].concat()
}

pub(crate) fn assert_fault(fault: &Fault, whose: Party, parts: &[&str]) {
    assert_eq!(fault.whose, whose, "{fault}");
    for part in parts {
        assert!(fault.what.contains(part), "'{part}' is not in '{fault}'");
    }
}
