//! The second connection to the primary.

use bytes::Bytes;

use sluicegate_core::contract::{Drive, Input, LinkId};

use super::Rig;

impl Rig {
    /// The second connection comes through and is greeted.
    pub(crate) fn connect_values(&mut self) -> LinkId {
        assert!(std::mem::take(&mut self.wants_values), "it does not dial for values");
        let link = self.link();
        self.values = Some(link);
        self.handle(Input::Connected(1, link));
        // It may have been given up in the meantime.
        if self.values.is_some() {
            assert_eq!(self.told_values(), ["CLIENT SETNAME sluicegate-fetch"]);
            self.values_say("+OK\r\n");
        }
        link
    }

    /// The second connection, if there is one.
    pub(crate) fn values_link(&self) -> Option<LinkId> {
        self.values
    }

    /// The second connection is lost.
    pub(crate) fn lose_values(&mut self, link: LinkId) {
        assert_eq!(self.values.take(), Some(link));
        self.handle(Input::Closed(link, "cut".into()));
    }

    /// The primary says this on the second connection.
    pub(crate) fn values_say(&mut self, bytes: impl AsRef<[u8]>) {
        let link = self.values.expect("a link for values");
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// The commands that the primary was sent on the second connection.
    pub(crate) fn told_values(&mut self) -> Vec<String> {
        let Some(link) = self.values else { return Vec::new() };
        let bytes = self.machine.outbox(link).map(|outbox| outbox.take()).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap();
        let commands = text.split('*').filter(|command| !command.is_empty());
        commands.map(|command| command.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")).collect()
    }

    /// The primary `id` answers an order in one database: the keys hold these values behind `fence`.
    pub(crate) fn give_values(&mut self, id: &str, fence: u64, values: &[Option<&str>]) {
        let info = format!("role:master\r\nmaster_replid:{id}\r\nmaster_repl_offset:{fence}\r\n");
        let mut results = vec![format!("${}\r\n{info}\r\n", info.len()), "+OK\r\n".into()];
        for value in values {
            results.push(match value {
                Some(value) => format!("${}\r\n{value}\x0b\0checksum\r\n:-1\r\n", value.len() + 10),
                None => "$-1\r\n:-2\r\n".into(),
            });
        }
        let count = 2 + 2 * values.len();
        self.values_say(format!("+OK\r\n{}*{count}\r\n{}", "+QUEUED\r\n".repeat(count), results.concat()));
    }
}
