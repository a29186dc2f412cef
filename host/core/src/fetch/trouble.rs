//! What a primary's errors mean for an order, and the words for the operator.

use alloc::format;
use alloc::string::String;

use super::order::Ask;
use super::{Answer, Wanted};
use crate::fault::{Fault, Party};
use crate::projection::printable;

/// Why an order is not answered with values.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The primary does not know PEXPIRETIME.
    NoExpireTime,
    /// The primary is a replica at the moment.
    Replica,
    /// An error, and the command that got it; `None`: MULTI or EXEC itself.
    Error { ask: Option<Ask>, text: String },
}

impl Trouble {
    /// The error `text` (without its sign) in answer to `ask`.
    pub(super) fn new(ask: Option<Ask>, text: &[u8]) -> Self {
        if matches!(ask, Some(Ask::ExpireTime(_))) && text.starts_with(b"ERR unknown command") {
            return Self::NoExpireTime;
        }
        // EXEC's own error names its cause behind this.
        let text = text.strip_prefix(b"EXECABORT Transaction discarded because of: ").unwrap_or(text);
        // Quotes stay as they are, unlike what would act on a terminal.
        let text = String::from_utf8_lossy(text).replace(char::is_control, "?");
        Self::Error { ask, text }
    }

    /// The answer that follows. `user`: whom the ACL has to permit it.
    pub(super) fn answer(&self, wanted: &[Wanted], user: &str) -> Answer {
        let (ask, text) = match self {
            // The fetcher asks such a primary in another way, and does not come here with it.
            Self::NoExpireTime => (&None, "ERR unknown command 'PEXPIRETIME'"),
            Self::Replica => {
                return Answer::NotNow(String::from("the primary is a replica of another one at the moment"));
            }
            Self::Error { ask, text } => (ask, text.as_str()),
        };
        let said = format!("the primary answers {} with {text}", asked(*ask, wanted));
        let fault = match text.split(' ').next().unwrap_or_default() {
            word if is_passing(word) => return Answer::NotNow(said),
            "NOPERM" => Fault::new(Party::Operator, format!("{said}; {}", permission(user))),
            "NOAUTH" | "WRONGPASS" => {
                Fault::new(Party::Operator, format!("{said}; see upstream.username and upstream.password_file"))
            }
            _ => Fault::new(Party::Upstream, said),
        };
        Answer::Refused(fault, ask.and_then(Ask::key).and_then(|key| wanted.get(key)).cloned())
    }
}

/// Errors of a state that passes: the first word of the error.
///
/// OOM: Redis 6.2 and 7.0 queue no command, not even one that reads, while they are above `maxmemory`. MOVED and ASK: the
/// slot of a key is on its way to another primary, and the stream will say so.
fn is_passing(word: &str) -> bool {
    ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "MOVED", "ASK", "OOM"].contains(&word)
}

/// The command and key, for a person.
fn asked(ask: Option<Ask>, wanted: &[Wanted]) -> String {
    let Some(ask) = ask else {
        return String::from("the transaction");
    };
    match (ask, ask.key().and_then(|key| wanted.get(key))) {
        (_, Some(wanted)) => format!("{} of {}", ask.name(), key_name(wanted)),
        (Ask::Select(db), None) => format!("SELECT {db}"),
        (ask, None) => String::from(ask.name()),
    }
}

/// The key, for a person.
pub(super) fn key_name(wanted: &Wanted) -> String {
    format!("the key '{}' in database {}", printable(&wanted.key), wanted.db)
}

/// What the operator has to do so that `user` may follow the primary and fetch from it.
///
/// The rules are the same for Redis 7.0 and up and for Valkey; a Redis older than that knows no PEXPIRETIME and refuses a
/// rule that names it.
pub fn permission(user: &str) -> String {
    format!(
        "the user needs: ACL SETUSER {user} +psync +replconf +ping +info +multi +exec +select +dump +pexpiretime \
         +client|setname ~* (before Redis 7.0: +pttl +time in place of +pexpiretime)"
    )
}

/// What a refused greeting means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The credentials or the primary's configuration: it will be refused again.
    Refused(Fault),
    /// Not a matter of credentials: the next attempt may be luckier.
    Failed(Fault),
    /// It does not matter.
    Ignored,
}

/// The error `text` in answer to AUTH, or to CLIENT SETNAME. Of what answers AUTH only the first word is shown: the rest may
/// repeat the password.
pub(super) fn greeting(text: &[u8], to_auth: bool) -> Greeting {
    let word = String::from_utf8_lossy(text.split(|&byte| byte == b' ').next().unwrap_or_default()).into_owned();
    let word = printable(word.as_bytes());
    if text.starts_with(b"ERR max number of clients") {
        let what = "the primary has no room for a second connection (its maxclients)";
        return Greeting::Failed(Fault::new(Party::Upstream, what));
    }
    if to_auth && is_passing(&word) {
        return Greeting::Failed(Fault::new(Party::Upstream, format!("the primary answers AUTH with {word}")));
    }
    if to_auth {
        let what = format!("the primary refused the credentials on the connection for values: {word}");
        return Greeting::Refused(Fault::new(Party::Operator, what));
    }
    match word.as_str() {
        "NOAUTH" => {
            Greeting::Refused(Fault::new(Party::Operator, "the primary wants a password (upstream.password_file)"))
        }
        "DENIED" => Greeting::Refused(Fault::new(
            Party::Operator,
            "the primary takes no connections from here (protected mode)",
        )),
        _ => Greeting::Ignored,
    }
}
