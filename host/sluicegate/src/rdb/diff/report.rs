//! What was found, for people and for programs.

use std::fmt;

use serde_json::json;

use super::holding::{Holding, Verdict};
use crate::rdb::{Counted, text};

/// How often what was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Keys of the first dump, and of the second.
    compared: [u64; 2],
    added: u64,
    removed: u64,
    changed: u64,
    undecided: u64,
    /// How many could be compared by their bytes only.
    by_bytes: u64,
}

/// What a key or function library is, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Added,
    Removed,
    Changed,
    Undecided,
}

/// A key, or a function library, that is not the same in both dumps.
pub(super) struct Difference<'d> {
    class: Class,
    whose: &'d Holding,
    what: String,
}

impl Findings {
    /// How many differences there are for certain.
    pub(crate) fn different(&self) -> u64 {
        self.added + self.removed + self.changed
    }

    /// Of how many it could not be told.
    pub(crate) fn undecided(&self) -> u64 {
        self.undecided
    }

    /// Takes what one name has in the first dump and in the second.
    pub(super) fn take<'d>(&mut self, old: Option<&'d Holding>, new: Option<&'d Holding>) -> Option<Difference<'d>> {
        let is_key = |holding: Option<&Holding>| u64::from(holding.is_some_and(|holding| holding.db.is_some()));
        self.compared[0] += is_key(old);
        self.compared[1] += is_key(new);
        let (class, whose, what) = match (old, new) {
            (Some(old), Some(new)) => {
                self.by_bytes += u64::from(old.by_bytes || new.by_bytes);
                let (class, what) = changes(old, new)?;
                (class, new, what)
            }
            (Some(old), None) => (Class::Removed, old, old.to_string()),
            (None, Some(new)) => (Class::Added, new, new.to_string()),
            (None, None) => return None,
        };
        *match class {
            Class::Added => &mut self.added,
            Class::Removed => &mut self.removed,
            Class::Changed => &mut self.changed,
            Class::Undecided => &mut self.undecided,
        } += 1;
        Some(Difference { class, whose, what })
    }

    /// One line, in JSON.
    pub(super) fn json(&self) -> String {
        let Self { compared: [old, new], added, removed, changed, undecided, by_bytes } = self;
        json!({
            "first": old, "second": new, "added": added, "removed": removed, "changed": changed,
            "undecided": undecided, "by_bytes": by_bytes,
        })
        .to_string()
    }
}

/// In what two of the same name differ.
fn changes(old: &Holding, new: &Holding) -> Option<(Class, String)> {
    let expiry = |holding: &Holding| holding.expires_ms.map_or("none".to_owned(), |ms| ms.to_string());
    let mut what = Vec::new();
    let verdict = old.verdict(new);
    if verdict == Verdict::Different {
        let by_bytes = if new.by_bytes { ", by its bytes" } else { "" };
        what.push(format!("value: {new}, was {old}{by_bytes}"));
    }
    if old.expires_ms != new.expires_ms {
        what.push(format!("expiry: {}, was {}", expiry(new), expiry(old)));
    }
    match (verdict, what.is_empty()) {
        (Verdict::Same, true) => None,
        (Verdict::Undecided, true) => {
            Some((Class::Undecided, format!("value: {new}, was {old}: not looked into, and written in two ways")))
        }
        _ => Some((Class::Changed, what.join("; "))),
    }
}

impl Difference<'_> {
    /// One line, in JSON. Bytes that are no text are written as in the lines for people.
    pub(super) fn json(&self) -> String {
        let class = match self.class {
            Class::Added => "added",
            Class::Removed => "removed",
            Class::Changed => "changed",
            Class::Undecided => "undecided",
        };
        json!({ "class": class, "db": self.whose.db, "key": text(&self.whose.name), "what": self.what }).to_string()
    }
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.class {
            Class::Added => "+ ",
            Class::Removed => "- ",
            Class::Changed => "! ",
            Class::Undecided => "? ",
        })?;
        match self.whose.db {
            Some(db) => write!(f, "db {db} ")?,
            None => write!(f, "function library ")?,
        }
        write!(f, "\"{}\": {}", text(&self.whose.name), self.what)
    }
}

/// The last line.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, new] = self.compared;
        write!(f, "compared {} with {new}: ", Counted(old, "key"))?;
        match (self.different(), self.undecided) {
            (0, 0) => write!(f, "equal")?,
            (0, undecided) => write!(f, "{undecided} undecided")?,
            (_, undecided) => {
                write!(f, "{} added, {} removed, {} changed", self.added, self.removed, self.changed)?;
                if undecided > 0 {
                    write!(f, ", {undecided} undecided")?;
                }
            }
        }
        match self.by_bytes {
            0 => write!(f, " (all by what they are made of)"),
            some => write!(f, " ({some} by their bytes, all others by what they are made of)"),
        }
    }
}
