//! A model server as others see it: it answers clients, and as a primary admits followers.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use super::{Connection, Shared, words};

/// A silent primary counts as gone after 60 seconds.
const PING_EVERY: Duration = Duration::from_secs(10);
const QUEUED: &str = "+QUEUED\r\n";
const OK: &str = "+OK\r\n";

/// Tells the followers regularly that the primary is there.
pub(super) fn ping(shared: &Shared) {
    loop {
        thread::sleep(PING_EVERY);
        shared.lock().tell(&[vec!["PING".into()]]);
    }
}

/// Answers one connection until it ends.
pub(super) fn serve(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    let mut queue: Option<Vec<Vec<String>>> = None;
    loop {
        let command = words(&connection.value()?);
        let verb = command.first().map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
        let answer = match (verb.as_str(), &mut queue) {
            ("MULTI", None) => {
                queue = Some(Vec::new());
                OK.into()
            }
            ("EXEC", queue @ Some(_)) => execute(shared, &queue.take().unwrap_or_default()),
            (_, Some(queue)) => {
                queue.push(command);
                QUEUED.into()
            }
            ("PSYNC" | "SYNC", None) => {
                let follower = connection.stream().try_clone()?;
                shared.lock().admit(follower)?;
                continue;
            }
            // An acknowledgement is never answered.
            ("REPLCONF", None) if command.get(1).is_some_and(|word| word.eq_ignore_ascii_case("ACK")) => continue,
            (_, None) => answer(shared, &verb, &command),
        };
        connection.stream().write_all(answer.as_bytes())?;
    }
}

fn execute(shared: &Shared, commands: &[Vec<String>]) -> String {
    let mut dataset = shared.lock();
    let mut answer = format!("*{}\r\n", commands.len());
    for command in commands {
        answer += &dataset.apply(command).map_or("-ERR not in a model\r\n".into(), |changed| format!(":{changed}\r\n"));
    }
    let edge = |word: &str| vec![word.to_owned()];
    let transaction: Vec<Vec<String>> =
        [edge("MULTI")].into_iter().chain(commands.to_vec()).chain([edge("EXEC")]).collect();
    dataset.tell(&transaction);
    answer
}

fn answer(shared: &Shared, verb: &str, command: &[String]) -> String {
    let mut dataset = shared.lock();
    let key = command.get(1).map(String::as_str).unwrap_or_default();
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    match verb {
        "PING" => "+PONG\r\n".into(),
        "REPLCONF" | "CLIENT" | "SELECT" | "AUTH" => OK.into(),
        "SET" | "DEL" if !dataset.is_primary => "-READONLY You can't write against a read only replica.\r\n".into(),
        "SET" | "DEL" => {
            let changed = dataset.apply(command).unwrap_or_default();
            dataset.tell(&[command.to_vec()]);
            if verb == "SET" { OK.into() } else { format!(":{changed}\r\n") }
        }
        "GET" => dataset.keys.get(key).map_or("$-1\r\n".into(), |value| bulk(value)),
        "TYPE" => (if dataset.keys.contains_key(key) { "+string\r\n" } else { "+none\r\n" }).into(),
        "PEXPIRETIME" => ":-1\r\n".into(),
        "KEYS" => {
            let keys: String = dataset.keys.keys().map(|key| bulk(key)).collect();
            format!("*{}\r\n{keys}", dataset.keys.len())
        }
        "INFO" => bulk(&info(&dataset)),
        _ => format!("-ERR unknown command '{verb}' (this is the model server of the demo)\r\n"),
    }
}

fn info(dataset: &super::Dataset) -> String {
    let role = if dataset.is_primary { "master" } else { "slave" };
    let link = if dataset.is_in_sync { "up" } else { "down" };
    format!(
        "# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n# Replication\r\nrole:{role}\r\n\
         master_link_status:{link}\r\nconnected_slaves:{}\r\nmaster_replid:{}\r\n\
         master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\nmaster_repl_offset:{}\r\n",
        dataset.followers(),
        dataset.history,
        dataset.offset
    )
}
