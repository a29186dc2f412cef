//! How a running proxy is, as a view's port tells it.

mod info;
mod picture;

use std::io;

use info::Info;
pub(crate) use picture::picture;

use crate::client::{Address, Connection, Value, lost};

/// A connection to a view's port.
pub(crate) struct Watcher {
    who: String,
    link: Connection,
}

impl Watcher {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or does not let us in.
    pub(crate) fn open(address: &Address) -> anyhow::Result<Self> {
        let mut watcher = Self { who: address.who(), link: address.dial()? };
        let answer = watcher.link.log_in(address);
        if let Some(Value::Error(text)) = lost(answer, &watcher.who)? {
            return Err(watcher.refused("AUTH", &text));
        }
        Ok(watcher)
    }

    /// Asks how things are.
    ///
    /// # Errors
    /// The connection is lost, or who answers is no Sluicegate.
    pub(crate) fn ask(&mut self) -> anyhow::Result<Info> {
        let answer = self.link.send(&["INFO"]).and_then(|()| self.link.value());
        let info = match lost(answer, &self.who)? {
            Value::Error(text) => return Err(self.refused("INFO", &text)),
            answer => Info::parse(&answer.text()),
        };
        match info.field("sluicegate_version") {
            Some(_) => Ok(info),
            None => {
                Err(io::Error::other(format!("{} is no Sluicegate: name a port that a view listens on", self.who))
                    .into())
            }
        }
    }

    fn refused(&self, command: &str, text: &str) -> anyhow::Error {
        let advice = match text.split(' ').next().unwrap_or_default() {
            "NOAUTH" => "; name a user and a file with the password",
            "WRONGPASS" => "; look at the user and at the file with the password",
            _ => "",
        };
        io::Error::other(format!("{} answered {command} with `{text}`{advice}", self.who)).into()
    }
}
