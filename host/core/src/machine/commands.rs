//! What is said on a view's port: the primary's half of the handshake, and the questions of people and tools.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use super::Machine;
use crate::contract::{Level, LinkId};
use crate::limits;
use crate::position::{Asked, ReplId};
use crate::projection::printable;
use crate::rdb::{Family, ServerVersion};
use crate::replica::{Phase, Replica};
use crate::resp;
use crate::view::State;

impl Machine {
    pub(super) fn accepted(&mut self, link: LinkId, view: usize, peer: String) {
        self.stats.accepted += 1;
        let free = self.settings.users.is_empty();
        self.replicas.insert(link, Replica::new(view, peer, free, self.now.mono_ms));
        if self.stopping {
            self.close(link);
        }
    }

    pub(super) fn replica_lost(&mut self, link: LinkId, why: &str) {
        let Some(replica) = self.replicas.get(&link) else { return };
        if replica.phase.is_replica() {
            let text = format!(
                "replica {} of view '{}' is gone at offset {}: {why}",
                replica.peer,
                self.view_name(replica.view),
                replica.acked
            );
            self.note(Level::Info, "replica-lost", text);
        }
        // The shell has closed the socket already; the order to do so finds nothing.
        self.close(link);
    }

    /// Takes bytes from a link on a view's port.
    pub(super) fn said(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(replica) = self.replicas.get_mut(&link).filter(|replica| replica.phase != Phase::Leaving) else {
            return;
        };
        if !replica.push(bytes, self.now.mono_ms) {
            return self.expel(link, "it sends more than fits the handshake");
        }
        while let Some(replica) = self.replicas.get_mut(&link) {
            if replica.phase == Phase::Leaving {
                return;
            }
            if replica.phase == Phase::Talking && replica.outbox.len() > limits::ANSWERS_BYTES_MAX {
                return self.expel(link, "it asks and asks, and reads no answer");
            }
            match replica.command() {
                Ok(Some(words)) if words.is_empty() => {}
                Ok(Some(words)) => self.command(link, &words),
                Ok(None) => return,
                Err(what) => return self.expel(link, what),
            }
        }
    }

    fn expel(&mut self, link: LinkId, what: &str) {
        if let Some(replica) = self.replicas.get_mut(&link) {
            let text = format!("replica {}: {what}; the link is closed", replica.peer);
            let follows = replica.phase.is_replica();
            if !follows {
                replica.outbox.push_copy(format!("-ERR Protocol error: {what}\r\n").as_bytes());
                replica.phase = Phase::Leaving;
            }
            self.note(Level::Warn, "replica-misbehaved", text);
            if follows {
                // Whatever was said to it now would stand in the middle of its stream or snapshot.
                self.close(link);
            }
        }
    }

    fn command(&mut self, link: LinkId, words: &[Vec<u8>]) {
        self.stats.commands += 1;
        let Some(replica) = self.replicas.get(&link) else { return };
        let (view, following, authenticated) = (replica.view, replica.phase.is_replica(), replica.authenticated);
        let name = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        if following {
            // Nothing is answered to a replica: an answer would be a frame of its stream.
            if name == b"replconf" {
                self.acknowledged(link, words);
            }
            return;
        }
        if !authenticated && !matches!(&name[..], b"auth" | b"hello" | b"quit") {
            return self.answer(link, b"-NOAUTH Authentication required.\r\n");
        }
        match &name[..] {
            b"ping" => match words.get(1) {
                Some(text) => self.answer_bulk(link, text),
                None => self.answer(link, b"+PONG\r\n"),
            },
            b"auth" => self.auth(link, words),
            b"replconf" => self.replconf(link, words),
            b"psync" => self.psync(link, words),
            b"sync" => self.answer(link, b"-ERR a replica has to ask with PSYNC (redis 2.8 or later)\r\n"),
            b"info" => {
                let text = self.info(view, words.get(1..).unwrap_or(&[]));
                self.answer_bulk(link, text.as_bytes());
            }
            b"role" => {
                let role = self.role();
                self.answer(link, &role);
            }
            b"hello" => self.hello(link, words),
            b"select" | b"client" | b"readonly" | b"reset" => self.answer(link, b"+OK\r\n"),
            b"echo" => self.answer_bulk(link, words.get(1).map_or(&[], |text| text)),
            b"command" | b"config" | b"slowlog" | b"latency" | b"module" => self.answer(link, b"*0\r\n"),
            b"publish" | b"dbsize" => self.answer(link, b":0\r\n"),
            b"quit" => {
                self.answer(link, b"+OK\r\n");
                if let Some(replica) = self.replicas.get_mut(&link) {
                    replica.phase = Phase::Leaving;
                }
            }
            b"replicaof" | b"slaveof" | b"failover" => {
                self.answer(
                    link,
                    b"-ERR sluicegate cannot become a primary, and follows what its configuration says\r\n",
                );
            }
            _ => self.refuse_command(link, view, &name),
        }
    }

    /// Data is neither read nor written here; clients know the prefix of the second answer.
    fn refuse_command(&mut self, link: LinkId, view: usize, name: &[u8]) {
        let known = self.table.find(name).is_some();
        let answer = if known {
            String::from("-READONLY You can't write against a read only replica.\r\n")
        } else {
            let view = self.view_name(view);
            format!(
                "-ERR sluicegate keeps no keyspace; read from a replica of view '{view}' (command {})\r\n",
                printable(name)
            )
        };
        self.answer(link, answer.as_bytes());
    }

    pub(super) fn answer(&mut self, link: LinkId, answer: &[u8]) {
        if let Some(replica) = self.replicas.get_mut(&link) {
            replica.outbox.push_copy(answer);
        }
    }

    fn answer_bulk(&mut self, link: LinkId, text: &[u8]) {
        let mut out = Vec::with_capacity(text.len() + 16);
        resp::write_bulk(&mut out, text);
        self.answer(link, &out);
    }

    fn auth(&mut self, link: LinkId, words: &[Vec<u8>]) {
        let (user, password) = match words {
            [_, password] => (&b"default"[..], password),
            [_, user, password] => (&user[..], password),
            _ => return self.answer(link, b"-ERR wrong number of arguments for 'auth' command\r\n"),
        };
        if self.settings.users.is_empty() {
            let complaint = b"-ERR AUTH called without any password configured for this view. Are you sure your configuration is correct?\r\n";
            return self.answer(link, complaint);
        }
        if self.accepts(user, password) {
            if let Some(replica) = self.replicas.get_mut(&link) {
                replica.authenticated = true;
            }
            return self.answer(link, b"+OK\r\n");
        }
        if let Some(replica) = self.replicas.get(&link) {
            let text = format!("{}: wrong user or password on view '{}'", replica.peer, self.view_name(replica.view));
            self.note(Level::Warn, "auth-failed", text);
        }
        self.answer(link, b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    }

    /// Compares digests, all of their bytes, whatever the first difference: the time taken tells nothing.
    fn accepts(&self, user: &[u8], password: &[u8]) -> bool {
        let digest = Sha256::digest(password);
        self.settings.users.iter().fold(false, |good, known| {
            let differences = known.password_sha256.iter().zip(digest.iter()).fold(0, |sum, (a, b)| sum | (a ^ b));
            good | (differences == 0 && known.name.as_bytes() == user)
        })
    }

    /// `HELLO [2|3] [AUTH user password] …`: answered in RESP2 terms.
    fn hello(&mut self, link: LinkId, words: &[Vec<u8>]) {
        let auth = words.iter().position(|word| word.eq_ignore_ascii_case(b"auth"));
        if let Some([_, user, password]) = auth.and_then(|at| words.get(at..at + 3)) {
            if !self.accepts(user, password) {
                return self.answer(link, b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
            }
            if let Some(replica) = self.replicas.get_mut(&link) {
                replica.authenticated = true;
            }
        }
        if self.replicas.get(&link).is_some_and(|replica| !replica.authenticated) {
            return self.answer(link, b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client\r\n");
        }
        if words.get(1).is_some_and(|version| version != b"2") {
            return self.answer(link, b"-NOPROTO sorry, this protocol version is not supported\r\n");
        }
        let mut out = Vec::new();
        resp::write_array(&mut out, 8);
        for word in ["server", "sluicegate", "version", &self.settings.version, "mode", "standalone", "role", "replica"]
        {
            resp::write_bulk(&mut out, word.as_bytes());
        }
        self.answer(link, &out);
    }

    fn replconf(&mut self, link: LinkId, words: &[Vec<u8>]) {
        if self.replconf_packed(link, words) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        if words.len().is_multiple_of(2) {
            return self.answer(link, b"-ERR syntax error\r\n");
        }
        for pair in words.get(1..).unwrap_or(&[]).chunks_exact(2) {
            let [option, value] = pair else { continue };
            match &option.to_ascii_lowercase()[..] {
                b"listening-port" => {
                    replica.port =
                        resp::decimal(value).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
                }
                b"ip-address" if value.len() <= 45 => replica.ip = Some(printable(value)),
                b"capa" if value.eq_ignore_ascii_case(b"eof") => replica.takes_eof = true,
                b"capa" if value.eq_ignore_ascii_case(b"psync2") => replica.takes_id = true,
                b"capa" => {}
                // Only Valkey says its version.
                b"version" => {
                    replica.version =
                        core::str::from_utf8(value).ok().and_then(|text| ServerVersion::parse(Family::Valkey, text));
                }
                // Neither is answered, and neither means anything before PSYNC.
                b"ack" | b"getack" => return,
                _ => {
                    let complaint = format!("-ERR Unrecognized REPLCONF option: {}\r\n", printable(option));
                    return self.answer(link, complaint.as_bytes());
                }
            }
        }
        self.answer(link, b"+OK\r\n");
    }

    /// `REPLCONF ACK <offset> [FACK <offset>]` of a replica that follows.
    fn acknowledged(&mut self, link: LinkId, words: &[Vec<u8>]) {
        let (Some(option), Some(offset)) = (words.get(1), words.get(2).and_then(|offset| resp::decimal(offset))) else {
            return;
        };
        let Some(replica) = self.replicas.get_mut(&link).filter(|_| option.eq_ignore_ascii_case(b"ack")) else {
            return;
        };
        if replica.phase == Phase::Loading {
            replica.phase = Phase::Streaming;
        }
        replica.loaded = true;
        if offset > replica.cursor {
            let text = format!(
                "replica {} acknowledges offset {offset}, but was only sent bytes up to {}: not counted",
                replica.peer, replica.cursor
            );
            return self.note(Level::Warn, "ack-from-the-future", text);
        }
        replica.acked = replica.acked.max(offset);
    }

    fn psync(&mut self, link: LinkId, words: &[Vec<u8>]) {
        let (Some(id), Some(offset)) = (words.get(1), words.get(2)) else {
            return self.answer(link, b"-ERR wrong number of arguments for 'psync' command\r\n");
        };
        if words.len() > 3 {
            return self.answer(link, b"-ERR PSYNC FAILOVER: sluicegate cannot become a primary\r\n");
        }
        let Some(offset) = resp::signed_decimal(offset) else {
            return self.answer(link, b"-ERR value is not an integer or out of range\r\n");
        };
        let Some(view) = self.replicas.get(&link).and_then(|replica| self.views.get(replica.view)) else { return };
        match view.state() {
            State::Waiting => return self.later(link, "Can't SYNC while not connected with my master"),
            State::Halted(fault) => {
                let why = format!("view '{}' is halted: {fault}", view.settings().name).replace(['\r', '\n'], " ");
                return self.later(link, &why);
            }
            State::Live => {}
        }
        let index = self.replicas.get(&link).map(|replica| replica.view);
        let attached =
            self.replicas.values().filter(|replica| Some(replica.view) == index && replica.phase.is_replica()).count();
        if attached >= view.settings().replicas_max {
            // A real error would make a replica give its place up.
            return self.later(link, "max number of replicas of this view reached (max_replicas)");
        }
        let id = ReplId::parse(id);
        let cause = match view.asked(id.as_ref(), offset) {
            Asked::Found(held) => return self.go_on(link, held),
            Asked::Foreign if id.is_none() => "it has none yet",
            Asked::Foreign => "it followed another history",
            Asked::TooOld => "what it lacks is no longer in the backlog",
            Asked::Future if self.is_catching_up() => return self.later(link, "catching up with the primary"),
            Asked::Future => "it claims an offset that this history has not reached",
        };
        if id.is_some() {
            self.stats.sync_partial_err += 1;
        }
        self.full_resync(link, cause);
    }

    /// A replica goes on where it was.
    fn go_on(&mut self, link: LinkId, held: u64) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let Some(view) = self.views.get(replica.view) else { return };
        let answer = match replica.takes_id {
            true => format!("+CONTINUE {}\r\n", view.history().id),
            false => String::from("+CONTINUE\r\n"),
        };
        replica.outbox.push_copy(answer.as_bytes());
        replica.phase = Phase::Streaming;
        replica.loaded = true;
        (replica.cursor, replica.acked) = (held, held);
        self.stats.sync_partial_ok += 1;
        let behind = view.backlog().end() - held;
        let text = format!(
            "replica {} of view '{}' goes on at offset {held}, {behind} bytes behind",
            replica.peer,
            view.settings().name
        );
        self.note(Level::Info, "replica-partial-sync", text);
        // What it lacks must not go before the pump sees it.
        self.hold_backlogs();
    }
}
