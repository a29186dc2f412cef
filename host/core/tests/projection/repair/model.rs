//! Any history, values fetched at any place: whatever a replica ever shows is the view of what the primary held, and moves
//! forward. The model has sets only; what joins keys is what matters here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::Teller;
use crate::support::Rules;

type Set = BTreeSet<String>;

/// Databases of sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Store {
    selected: u32,
    keys: BTreeMap<(u32, String), Set>,
}

impl Store {
    fn get(&self, db: u32, key: &str) -> Set {
        self.keys.get(&(db, key.into())).cloned().unwrap_or_default()
    }

    fn put(&mut self, db: u32, key: &str, set: Set) {
        match set.is_empty() {
            true => drop(self.keys.remove(&(db, key.into()))),
            false => drop(self.keys.insert((db, key.into()), set)),
        }
    }

    /// Runs a command. `false`: it changed nothing, and a primary would not send it.
    fn run(&mut self, words: &[&str]) -> bool {
        let db = self.selected;
        let before = self.clone();
        match *words {
            ["SELECT", n] => self.selected = n.parse().unwrap(),
            ["SADD", key, member] => {
                let mut set = self.get(db, key);
                set.insert(member.into());
                self.put(db, key, set);
            }
            ["SREM", key, member] => {
                let mut set = self.get(db, key);
                set.remove(member);
                self.put(db, key, set);
            }
            ["DEL", ref keys @ ..] => keys.iter().for_each(|key| self.put(db, key, Set::new())),
            ["SUNIONSTORE", target, one, other] => {
                self.put(db, target, &self.get(db, one) | &self.get(db, other));
            }
            ["RENAME", from, to] if from != to && !self.get(db, from).is_empty() => {
                self.put(db, to, self.get(db, from));
                self.put(db, from, Set::new());
            }
            ["SMOVE", from, to, member] if from != to && self.get(db, from).contains(member) => {
                self.run(&["SREM", from, member]);
                self.run(&["SADD", to, member]);
            }
            ["COPY", from, to, "DB", other, "REPLACE"] if !self.get(db, from).is_empty() => {
                self.put(other.parse().unwrap(), to, self.get(db, from));
            }
            ["MOVE", key, other] => {
                let other = other.parse().unwrap();
                if self.get(db, key).is_empty() || !self.get(other, key).is_empty() {
                    return false;
                }
                self.put(other, key, self.get(db, key));
                self.put(db, key, Set::new());
            }
            ["FLUSHDB"] => self.keys.retain(|(of, _), _| *of != db),
            ["SWAPDB", one, other] => {
                let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
                let swap = |db| {
                    if db == one {
                        other
                    } else if db == other {
                        one
                    } else {
                        db
                    }
                };
                self.keys =
                    before.keys.iter().map(|((db, key), set)| ((swap(*db), key.clone()), set.clone())).collect();
            }
            ["RESTORE", key, "0", value, "REPLACE", "ABSTTL"] => {
                let members = value.split("\\x0b").next().unwrap();
                self.put(db, key, members.split(',').map(String::from).collect());
            }
            _ => return false,
        }
        *self != before
    }

    /// What the view has of it.
    fn seen(&self, db_independent: bool) -> BTreeMap<(u32, String), Set> {
        let name = |&(db, ref key): &(u32, String)| match key.split_once(':') {
            Some(("x", _)) => None,
            Some(("d", _)) if !db_independent && db != 0 => None,
            Some(("r", rest)) => Some((db, format!("R:{rest}"))),
            Some(("n", rest)) if !db_independent => Some((db, format!("N{db}:{rest}"))),
            _ => Some((db, key.clone())),
        };
        self.keys.iter().filter_map(|(key, set)| Some((name(key)?, set.clone()))).collect()
    }
}

/// A replica, and what the primary held at each place that it could show.
struct Replica {
    store: Store,
    queue: Option<Vec<String>>,
    /// The states that it may still come to: it never goes back.
    ahead: VecDeque<BTreeMap<(u32, String), Set>>,
}

impl Replica {
    fn hears(&mut self, story: &str) {
        for frame in story.split(" | ").filter(|frame| !frame.is_empty()) {
            match (frame, &mut self.queue) {
                ("MULTI", queue) => assert!(queue.replace(Vec::new()).is_none(), "MULTI inside a transaction"),
                ("EXEC", queue) => {
                    for frame in queue.take().expect("EXEC without MULTI") {
                        self.store.run(&frame.split(' ').collect::<Vec<_>>());
                    }
                    self.shows();
                }
                (_, Some(queue)) => queue.push(frame.into()),
                (_, None) => {
                    self.store.run(&frame.split(' ').collect::<Vec<_>>());
                    self.shows();
                }
            }
        }
    }

    fn shows(&mut self) {
        while self.ahead.front().is_some_and(|state| *state != self.store.keys) {
            self.ahead.pop_front();
        }
        assert!(!self.ahead.is_empty(), "it shows what the primary never held from here on: {:?}", self.store.keys);
    }
}

/// Commands that belong together: one, or a transaction.
fn unit() -> impl Strategy<Value = Vec<String>> {
    let key = || prop::sample::select(vec!["a", "b", "x:a", "x:b", "r:a", "d:a", "n:a"]);
    let member = || prop::sample::select(vec!["1", "2", "3"]);
    let db = || prop::sample::select(vec!["0", "1"]);
    let command = prop_oneof![
        4 => (key(), member()).prop_map(|(key, member)| format!("SADD {key} {member}")),
        2 => (key(), member()).prop_map(|(key, member)| format!("SREM {key} {member}")),
        1 => (key(), key()).prop_map(|(one, other)| format!("DEL {one} {other}")),
        4 => (key(), key(), key()).prop_map(|(to, one, other)| format!("SUNIONSTORE {to} {one} {other}")),
        2 => (key(), key()).prop_map(|(from, to)| format!("RENAME {from} {to}")),
        2 => (key(), key(), member()).prop_map(|(from, to, member)| format!("SMOVE {from} {to} {member}")),
        2 => (key(), key(), db()).prop_map(|(from, to, db)| format!("COPY {from} {to} DB {db} REPLACE")),
        2 => (key(), db()).prop_map(|(key, db)| format!("MOVE {key} {db}")),
        1 => Just("FLUSHDB".to_string()),
        1 => Just("SWAPDB 0 1".to_string()),
        2 => db().prop_map(|db| format!("SELECT {db}")),
    ];
    prop_oneof![3 => command.clone().prop_map(|one| vec![one]), 1 => vec(command, 2..5)]
}

/// What a primary would send of `units`, and what it holds behind each: only what takes effect is sent.
fn history(units: Vec<Vec<String>>, db_independent: bool) -> Vec<(String, Store)> {
    let mut store = Store::default();
    let mut history = Vec::new();
    for unit in units {
        let swaps = |frame: &String| frame.starts_with("SWAPDB") && !db_independent;
        let sent: Vec<String> = unit
            .into_iter()
            .filter(|frame| !swaps(frame) && store.run(&frame.split(' ').collect::<Vec<_>>()))
            .collect();
        let story = if sent.len() > 1 { format!("MULTI | {} | EXEC", sent.join(" | ")) } else { sent.join(" | ") };
        history.push((story, store.clone()));
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn a_replica_shows_nothing_but_what_the_primary_held(
        units in vec(unit(), 1..40),
        fences in vec(0usize..5, 40),
        cuts in vec(prop::bool::weighted(0.1), 40),
        most in 1usize..4,
        db_independent in any::<bool>(),
    ) {
        let history = history(units, db_independent);
        let mut view = Teller::new(Rules { db_independent, ..Rules::default() });
        let ahead = history.iter().map(|(_, store)| store.seen(db_independent));
        let ahead = std::iter::once(BTreeMap::new()).chain(ahead).collect();
        let mut replica = Replica { store: Store::default(), queue: None, ahead };
        let mut fences = fences.into_iter().cycle();
        let mut at = 0;
        while at < history.len() {
            if cuts[at] {
                never_happens(&mut view, &mut replica, &history, at);
            }
            replica.hears(&view.hears(&history[at].0));
            at += 1;
            // Some frames may pass before the view gets to ask.
            if fences.next() == Some(0) {
                continue;
            }
            answer(&mut view, &mut replica, &history, &mut at, (fences.next().unwrap_or(0), most));
        }
        while answer(&mut view, &mut replica, &history, &mut at, (0, most)) {}
        prop_assert!(!view.is_holding());
        prop_assert_eq!(replica.store.keys, history.last().unwrap().1.seen(db_independent));
    }
}

/// The view hears of what comes next as a transaction without its end, which another primary then knows nothing of.
fn never_happens(view: &mut Teller, replica: &mut Replica, history: &[(String, Store)], at: usize) {
    let frames: Vec<&str> = history.iter().skip(at).take(2).flat_map(|(story, _)| story.split(" | ")).collect();
    let frames: Vec<&str> = frames.into_iter().filter(|frame| !["MULTI", "EXEC", ""].contains(frame)).collect();
    replica.hears(&view.hears(&format!("MULTI | {}", frames.join(" | "))));
    let db = at.checked_sub(1).map_or(0, |before| history[before].1.selected);
    view.projection.abandon_transaction(db);
}

/// The view asks for so many keys, hears `later` units more, and gets the values that are true there. `false`: it needs none.
fn answer(
    view: &mut Teller,
    replica: &mut Replica,
    history: &[(String, Store)],
    at: &mut usize,
    (later, most): (usize, usize),
) -> bool {
    let asked = view.asks_for(most);
    if asked.is_empty() {
        return false;
    }
    for (story, _) in history.iter().skip(*at).take(later) {
        replica.hears(&view.hears(story));
        *at += 1;
    }
    let store = &history[*at - 1].1;
    let value = |(db, key): &(u32, String)| {
        let set = store.get(*db, key);
        (!set.is_empty()).then(|| set.into_iter().collect::<Vec<_>>().join(","))
    };
    let values: Vec<Option<String>> = asked.iter().map(value).collect();
    let given: Vec<(u32, &str, Option<&str>)> =
        asked.iter().zip(&values).map(|((db, key), value)| (*db, key.as_str(), value.as_deref())).collect();
    replica.hears(&view.given(&given));
    true
}
