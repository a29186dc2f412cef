//! Commands that carry data from one key or database to another, and RESTORE.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::{Dataset, Entry, Refusal, Value, fresh, number};
use crate::sim::rdb;

/// All of them.
const NAMES: [&str; 10] =
    ["rename", "copy", "move", "sunionstore", "sinterstore", "sdiffstore", "smove", "lmove", "rpoplpush", "restore"];

/// Whether `name` is one of them.
pub(super) fn knows(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Dataset {
    pub(super) fn join(&mut self, db: u32, name: &str, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        match name {
            "rename" => {
                let entry = self.get(db, &rest[0]).cloned().ok_or("RENAME of a missing key")?;
                self.set(db, &rest[0], None);
                self.set(db, &rest[1], Some(entry));
            }
            "copy" => {
                let to = if rest.len() > 3 && rest[2].eq_ignore_ascii_case(b"db") { number(&rest[3])? } else { db };
                let entry = self.get(db, &rest[0]).cloned().ok_or("COPY of a missing key")?;
                self.set(to, &rest[1], Some(entry));
            }
            "move" => {
                let entry = self.get(db, &rest[0]).cloned().ok_or("MOVE of a missing key")?;
                self.set(db, &rest[0], None);
                self.set(number(&rest[1])?, &rest[0], Some(entry));
            }
            "smove" => self.set_move(db, rest)?,
            "lmove" => self.list_move(db, rest, wants_left(&rest[2]), wants_left(&rest[3]))?,
            "rpoplpush" => self.list_move(db, rest, false, true)?,
            "restore" => self.restore(db, rest)?,
            _ => self.combine(db, name, rest)?,
        }
        Ok(())
    }

    fn members(&self, db: u32, key: &[u8]) -> Result<BTreeSet<Vec<u8>>, Refusal> {
        match self.get(db, key).map(|entry| &entry.value) {
            None => Ok(BTreeSet::new()),
            Some(Value::Set(set)) => Ok(set.clone()),
            Some(_) => Err("a value of another type where a set is due".into()),
        }
    }

    fn items(&self, db: u32, key: &[u8]) -> Result<VecDeque<Vec<u8>>, Refusal> {
        match self.get(db, key).map(|entry| &entry.value) {
            None => Ok(VecDeque::new()),
            Some(Value::List(list)) => Ok(list.clone()),
            Some(_) => Err("a value of another type where a list is due".into()),
        }
    }

    /// Puts a value in the place of an old one, whose expiry it takes over.
    fn put(&mut self, db: u32, key: &[u8], value: Value) {
        let expires = self.get(db, key).and_then(|entry| entry.expires);
        let entry = (!value.is_gone()).then(|| Rc::new(Entry { value, expires }));
        self.set(db, key, entry);
    }

    /// SUNIONSTORE and its like: the new value has no expiry.
    fn combine(&mut self, db: u32, name: &str, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut made = self.members(db, &rest[1])?;
        for key in &rest[2..] {
            let other = self.members(db, key)?;
            match name {
                "sunionstore" => made.extend(other),
                "sinterstore" => made.retain(|member| other.contains(member)),
                _ => made.retain(|member| !other.contains(member)),
            }
        }
        let entry = (!made.is_empty()).then(|| fresh(Value::Set(made)));
        self.set(db, &rest[0], entry);
        Ok(())
    }

    fn set_move(&mut self, db: u32, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut from = self.members(db, &rest[0])?;
        self.members(db, &rest[1])?;
        if !from.remove(&rest[2]) {
            return Err("SMOVE of a member that is not there".into());
        }
        self.put(db, &rest[0], Value::Set(from));
        let mut to = self.members(db, &rest[1])?;
        to.insert(rest[2].clone());
        self.put(db, &rest[1], Value::Set(to));
        Ok(())
    }

    fn list_move(&mut self, db: u32, rest: &[Vec<u8>], takes_left: bool, puts_left: bool) -> Result<(), Refusal> {
        let mut from = self.items(db, &rest[0])?;
        self.items(db, &rest[1])?;
        let item = if takes_left { from.pop_front() } else { from.pop_back() };
        let item = item.ok_or("LMOVE from an empty list")?;
        self.put(db, &rest[0], Value::List(from));
        let mut to = self.items(db, &rest[1])?;
        if puts_left {
            to.push_front(item);
        } else {
            to.push_back(item);
        }
        self.put(db, &rest[1], Value::List(to));
        Ok(())
    }

    fn restore(&mut self, db: u32, rest: &[Vec<u8>]) -> Result<(), Refusal> {
        let has = |word: &str| rest[3..].iter().any(|option| option.eq_ignore_ascii_case(word.as_bytes()));
        if !has("replace") || !has("absttl") {
            return Err("a RESTORE that fails where the key is, or with a relative expiry".into());
        }
        let ms: i64 = number(&rest[1])?;
        let entry = Entry { value: rdb::undump(&rest[2])?, expires: Some(ms).filter(|ms| *ms != 0) };
        self.set(db, &rest[0], Some(Rc::new(entry)));
        Ok(())
    }
}

fn wants_left(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"left")
}
