//! What a primary answers before its stream: lines, and the replies to COMMAND and INFO.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Buf;

use super::packed;
use super::{Heard, Phase, Step, Upstream};
use crate::command::learned;
use crate::fault::{Fault, Party};
use crate::limits;
use crate::position::ReplId;
use crate::projection::printable;
use crate::resp;
use crate::snapshot::Framing;

impl Upstream {
    /// One answer line. Lone newlines are the primary's way to say that it is still there.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        while self.inbox.first() == Some(&b'\n') {
            self.inbox.advance(1);
        }
        let Some(end) = memchr::memchr(b'\n', &self.inbox) else {
            if self.inbox.len() > limits::REPLY_LINE_BYTES_MAX {
                return Err(Fault::new(Party::Upstream, "an answer line without an end"));
            }
            return Ok(None);
        };
        if end > limits::REPLY_LINE_BYTES_MAX {
            return Err(Fault::new(Party::Upstream, "an answer line longer than any real one"));
        }
        let mut line = self.inbox.split_to(end + 1).to_vec();
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line))
    }

    pub(super) fn command_reply(&mut self) -> Result<Option<Heard>, Fault> {
        let Some(reader) = &mut self.reply else { return Ok(None) };
        let arrived = self.inbox.split();
        let mut input = &arrived[..];
        let Some(reply) = reader.next(&mut input)? else { return Ok(None) };
        self.inbox.extend_from_slice(input);
        self.reply = None;
        Ok(Some(Heard::Commands(learned::learned(&reply))))
    }

    /// What INFO replication says of the primary's ids.
    pub(super) fn ids(&mut self) -> Result<Option<Heard>, Fault> {
        let Some(info) = self.info_reply()? else { return Ok(None) };
        let field = |name| resp::info_field(&info, name);
        Ok(Some(Heard::Ids {
            id: field("master_replid").and_then(ReplId::parse),
            second: field("master_replid2").and_then(ReplId::parse),
            limit: field("second_repl_offset").and_then(resp::signed_decimal).unwrap_or(-1),
        }))
    }

    /// A bulk reply, or an error line, which stands for an empty one.
    fn info_reply(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let Some(end) = memchr::memchr(b'\n', &self.inbox) else {
            if self.inbox.len() > limits::REPLY_LINE_BYTES_MAX {
                return Err(Fault::new(Party::Upstream, "an answer line without an end"));
            }
            return Ok(None);
        };
        let line = self.inbox.get(..end).unwrap_or(&[]).trim_ascii_end();
        let Some(length) = line.strip_prefix(b"$") else {
            self.inbox.advance(end + 1);
            return Ok(Some(Vec::new()));
        };
        let length = resp::decimal(length)
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length <= limits::INFO_REPLY_BYTES_MAX)
            .ok_or_else(|| Fault::new(Party::Upstream, "an INFO reply of a length beyond reason"))?;
        let whole = end + 1 + length + 2;
        if self.inbox.len() < whole {
            return Ok(None);
        }
        let reply = self.inbox.split_to(whole);
        Ok(Some(reply.get(end + 1..end + 1 + length).unwrap_or(&[]).to_vec()))
    }

    pub(super) fn answer(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, Fault> {
        match self.phase {
            Phase::Greeting => self.greeted(line, out),
            Phase::Introducing => self.introduced(line),
            Phase::Asking => self.asked(line),
            Phase::Promised => self.header(line),
            _ => Err(Fault::new(Party::Own, "an answer that nothing asked for")),
        }
    }

    fn greeted(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, Fault> {
        let welcome = line.starts_with(b"+")
            || [&b"-NOAUTH"[..], b"-NOPERM", b"-ERR operation not permitted"]
                .iter()
                .any(|start| line.starts_with(start));
        if !welcome {
            return Err(refusal("PING", line));
        }
        self.phase = Phase::Introducing;
        if let Some(password) = &self.settings.password {
            resp::write_auth(out, self.settings.username.as_deref(), password);
            self.steps.push_back(Step::Auth);
        }
        if self.snapshot_only {
            // No port: Sentinel would take it for a second replica at the same address. The option saves the primary the
            // stream behind the snapshot; one that does not know it is none the wiser.
            resp::write_command(out, &[b"REPLCONF", b"rdb-only", b"1"]);
        } else {
            let port = format!("{}", self.settings.announce_port);
            resp::write_command(out, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
        }
        resp::write_command(out, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
        // In a command of its own: a primary that does not know the option ignores what stands behind it.
        resp::write_command(out, &[b"REPLCONF", b"version", self.settings.announce_version.as_bytes()]);
        self.steps.extend([Step::Optional; 3]);
        if let Some(format) = self.settings.pack.as_ref().filter(|_| !self.snapshot_only)
            && self.packing.offer(format, out)
        {
            self.steps.push_back(Step::Pack);
        }
        Ok(None)
    }

    fn introduced(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        match self.steps.pop_front() {
            Some(Step::Auth) if line.starts_with(b"-") => {
                Err(Fault::new(Party::Operator, format!("the primary refused the credentials: {}", first_word(line))))
            }
            _ if line.starts_with(b"-NOAUTH") => Err(Fault::new(
                Party::Operator,
                format!("the primary wants a password (upstream.password_file): {}", printable(line)),
            )),
            Some(Step::Pack) => {
                self.packing.answered(line, self.settings.pack.as_deref().unwrap_or_default())?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn asked(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        match words.next() {
            Some(b"+FULLRESYNC") => {
                let id = words.next().and_then(ReplId::parse);
                let offset = words.next().and_then(resp::decimal);
                let (Some(id), Some(offset)) = (id, offset) else {
                    return Err(Fault::new(
                        Party::Upstream,
                        format!("a malformed answer to PSYNC: {}", printable(line)),
                    ));
                };
                self.phase = Phase::Promised;
                Ok(Some(Heard::FullResync { id, offset }))
            }
            Some(b"+CONTINUE") if self.named_place => {
                let id = match words.next() {
                    Some(word) => Some(ReplId::parse(word).ok_or_else(|| {
                        Fault::new(Party::Upstream, format!("a malformed answer to PSYNC: {}", printable(line)))
                    })?),
                    None => None,
                };
                self.phase = Phase::Streaming;
                let behind = self.inbox.split().freeze();
                match self.packing.is_on() {
                    true => self.packing.push(&behind),
                    false => self.early.push_back(behind),
                }
                Ok(Some(Heard::Continue(id)))
            }
            _ => Err(refusal("PSYNC", line)),
        }
    }

    /// `$<length>` or `$EOF:<mark>`; on a packed link `$PACK:<token>:<first chunk>`.
    fn header(&mut self, line: &[u8]) -> Result<Option<Heard>, Fault> {
        let framing = match line.strip_prefix(b"$") {
            Some(_) if self.packing.is_on() => packed::header(line),
            Some(rest) => match rest.strip_prefix(b"EOF:") {
                Some(mark) => mark.try_into().ok().map(Framing::Mark),
                None => resp::decimal(rest).filter(|&length| length > 0).map(Framing::Length),
            },
            None if line.starts_with(b"-") => return Err(refusal("the snapshot", line)),
            None => None,
        };
        let Some(framing) = framing else {
            return Err(Fault::new(Party::Upstream, format!("a malformed snapshot header: {}", printable(line))));
        };
        self.phase = Phase::Copying(match framing {
            Framing::Length(length) => Some(length),
            Framing::Mark(_) => None,
            Framing::Packed { first, .. } => {
                self.packing.begin(first);
                None
            }
        });
        let rest = self.inbox.split().freeze();
        if !rest.is_empty() {
            self.early.push_back(rest);
        }
        Ok(Some(Heard::Snapshot(framing)))
    }
}

/// The kind of an error, without its text: that of a refused AUTH may repeat the password.
fn first_word(line: &[u8]) -> String {
    printable(line.split(|&byte| byte == b' ').next().unwrap_or(&[]))
}

fn refusal(asked: &str, line: &[u8]) -> Fault {
    Fault::new(Party::Upstream, format!("the primary answers {asked} with {}", printable(line)))
}
