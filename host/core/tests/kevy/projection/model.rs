//! A store of any commands, and what replicas make of the streams of its view.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_core::kevy::route::{Routing, shard_of};

use super::{NOW, Rules, Setup, view_of, words};

/// Keys with their values and their deadlines in Unix milliseconds.
type Store = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// What a server makes of a command. Like kevy's, it forgets what it does not understand.
fn apply(store: &mut Store, words: &[Vec<u8>]) {
    let text: Vec<&str> = words.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
    let key = words.get(1).cloned().unwrap_or_default();
    let number = |at: usize| text[at].parse::<u64>().unwrap();
    match *text {
        ["SET", _, _] => drop(store.insert(key, (words[2].clone(), None))),
        ["SET", _, _, "PX", _] => drop(store.insert(key, (words[2].clone(), Some(NOW + number(4))))),
        ["SETEX", _, _, _] => drop(store.insert(key, (words[3].clone(), Some(NOW + 1000 * number(2))))),
        ["APPEND", _, _] => store.entry(key).or_default().0.extend_from_slice(&words[2]),
        ["EXPIRE", _, _] => drop(store.get_mut(&key).map(|entry| entry.1 = Some(NOW + 1000 * number(2)))),
        ["PEXPIREAT", _, _] => drop(store.get_mut(&key).map(|entry| entry.1 = Some(number(2)))),
        ["PERSIST", _] => drop(store.get_mut(&key).map(|entry| entry.1 = None)),
        ["DEL", ..] => words[1..].iter().for_each(|key| drop(store.remove(key))),
        ["MSET", ..] if text.len() % 2 == 1 => {
            words[1..].chunks(2).for_each(|pair| drop(store.insert(pair[0].clone(), (pair[1].clone(), None))));
        }
        ["RENAME", _, _] => drop(store.remove(&key).map(|entry| store.insert(words[2].clone(), entry))),
        ["COPY", _, _, "REPLACE"] => {
            drop(store.get(&key).cloned().map(|entry| store.insert(words[2].clone(), entry)));
        }
        ["FLUSHALL"] => store.clear(),
        _ => {}
    }
}

/// Whether a view over `shards` streams cannot have the command: it is written down here in other words than in the
/// core.
fn halts(words: &[Vec<u8>], shards: usize, home: bool) -> bool {
    let joined = matches!(words[0].as_slice(), b"RENAME" | b"COPY") && words.len() > 2;
    if words[0] == b"FLUSHALL" {
        return !home;
    }
    let (Some(from), Some(to)) = (words.get(1), words.get(2)) else { return false };
    if !joined {
        return false;
    }
    let stream = |name: Vec<u8>| if home { 0 } else { shard_of(&name, shards, Routing::Hashtag) };
    match (view_of(from).map(stream), view_of(to).map(stream)) {
        (Some(from), Some(to)) => from != to,
        (None, Some(_)) => true,
        // What RENAME takes from is changed, too.
        (Some(_), None) => words[0] == b"RENAME",
        (None, None) => false,
    }
}

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["a", "b", "k1", "k2", "x:a", "x:b", "r:a", "r:b", "r:k1", "{a}1", "{b}1"]).prop_map(word)
}

fn commands() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let value = || prop::sample::select(vec!["1", "two", "", "EX"]).prop_map(word);
    let time = || (1..1000u32).prop_map(|time| time.to_string().into_bytes());
    prop_oneof![
        4 => (keys(), value()).prop_map(|(key, value)| vec![word("SET"), key, value]),
        2 => (keys(), value(), time()).prop_map(|(key, value, time)| vec![word("SET"), key, value, word("PX"), time]),
        2 => (keys(), value(), time()).prop_map(|(key, value, time)| vec![word("SETEX"), key, time, value]),
        2 => (keys(), value()).prop_map(|(key, value)| vec![word("APPEND"), key, value]),
        2 => (keys(), time()).prop_map(|(key, time)| vec![word("EXPIRE"), key, time]),
        1 => keys().prop_map(|key| vec![word("PERSIST"), key]),
        3 => vec(keys(), 0..6).prop_map(|keys| [vec![word("DEL")], keys].concat()),
        4 => vec((keys(), value()), 0..6).prop_map(|pairs| {
            [vec![word("MSET")], pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()].concat()
        }),
        1 => (keys(), keys()).prop_map(|(from, to)| vec![word("RENAME"), from, to]),
        1 => (keys(), keys()).prop_map(|(from, to)| vec![word("COPY"), from, to, word("REPLACE")]),
        1 => prop::sample::select(vec!["FLUSHALL", "PING", "SET", "MSET a", "RENAME a", "DEL"])
            .prop_map(|line| line.split(' ').map(word).collect()),
    ]
}

proptest! {
    #[test]
    fn replicas_together_hold_the_view_of_the_store(
        commands in vec(commands(), 0..60), shards in 1..5usize, home in any::<bool>(), cut in 1..200usize,
    ) {
        let home = home.then_some(shards - 1);
        let setup = Setup { rules: Some(Rules::default()), home, shards, field_deadlines: true };
        let told = setup.run(&commands, cut);

        let (mut store, mut halted) = (Store::new(), false);
        for command in &commands {
            if halts(command, shards, home.is_some()) {
                halted = true;
                break;
            }
            apply(&mut store, command);
        }
        prop_assert_eq!(halted, told.fault.is_some(), "{:?}", told.fault);

        let mut replicas = vec![Store::new(); shards];
        for (shard, command) in &told.out.commands {
            apply(&mut replicas[*shard], &words(command));
        }
        let mut union = Store::new();
        for (shard, replica) in replicas.into_iter().enumerate() {
            for (key, entry) in replica {
                let place = home.unwrap_or_else(|| shard_of(&key, shards, Routing::Hashtag));
                prop_assert_eq!(place, shard, "{} lies where no client finds it", key.escape_ascii());
                union.insert(key, entry);
            }
        }
        let view: Store = store.into_iter().filter_map(|(key, entry)| Some((view_of(&key)?, entry))).collect();
        prop_assert_eq!(union, view);
    }

    #[test]
    fn no_frame_hurts(
        commands in vec(vec(prop_oneof![
            2 => prop::sample::select(vec![
                "SET", "DEL", "MSET", "RENAME", "XREADGROUP", "STREAMS", "GEORADIUS", "STORE", "ZUNIONSTORE", "2", "a", "x:a",
                "r:b", "EX", "PX", "9223372036854775807", "EVAL", "XGROUP", "BLPOP", "HEXPIRE", "FIELDS", "FLUSHALL",
            ]).prop_map(word),
            1 => vec(any::<u8>(), 0..6),
        ], 1..9), 1..20),
        plugins in any::<bool>(), home in prop::option::of(0..3usize), shards in 0..4usize,
    ) {
        let rules = plugins.then(Rules::default);
        let told = Setup { rules, home, shards, field_deadlines: true }.run(&commands, usize::MAX);
        prop_assert!(told.failed + told.counts.frames_out <= told.counts.frames_in);
        for (shard, command) in &told.out.commands {
            prop_assert!(!words(command).is_empty() && (*shard < shards.max(1) || home == Some(*shard)));
        }
    }
}
