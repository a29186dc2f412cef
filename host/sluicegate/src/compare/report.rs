//! What was found, for people and for programs.

use std::fmt;

use super::verdict::Class;

/// One key, or one function library, that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) class: Class,
    /// `None`: a function library.
    pub(crate) db: Option<u32>,
    /// The primary's name for it; `None`: no key of the primary bears this name in the view.
    pub(crate) key: Option<Vec<u8>>,
    /// Its name in the view.
    pub(crate) name: Vec<u8>,
    /// What is wrong, in words.
    pub(crate) what: String,
}

/// What a comparison came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// Keys of the view that were compared.
    pub(crate) keys: u64,
    pub(crate) databases: usize,
    pub(crate) differences: Vec<Difference>,
    /// It was left at so many differences; there may be more.
    pub(crate) is_partial: bool,
    /// What was not compared, and what else the operator should know.
    pub(crate) notes: Vec<String>,
}

impl Findings {
    fn count(&self, classes: &[Class]) -> usize {
        self.differences.iter().filter(|difference| classes.contains(&difference.class)).count()
    }

    /// How many keys are wrong.
    pub(crate) fn wrong(&self) -> usize {
        self.count(&[Class::Missing, Class::Extra, Class::Different])
    }

    /// How many differences count towards the most that are of interest.
    pub(crate) fn of_interest(&self) -> usize {
        self.wrong() + self.undecided()
    }

    /// How many keys could not be decided.
    pub(crate) fn undecided(&self) -> usize {
        self.count(&[Class::Undecided])
    }

    /// One line, in JSON.
    pub(crate) fn json(&self) -> String {
        let notes = &self.notes;
        serde_json::json!({
            "keys": self.keys, "databases": self.databases, "different": self.wrong(), "undecided": self.undecided(),
            "known_faults": self.count(&[Class::KnownFault]), "partial": self.is_partial, "notes": notes,
        })
        .to_string()
    }
}

/// The last line.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, databases, .. } = self;
        write!(f, "compared {keys} key{} in {databases} database{}: ", plural(*keys), plural(*databases as u64))?;
        let mut words = Vec::new();
        for (count, what) in [
            (self.wrong(), "different"),
            (self.undecided(), "undecided"),
            (self.count(&[Class::KnownFault]), "by known faults of servers"),
        ] {
            if count > 0 {
                words.push(format!("{count} {what}"));
            }
        }
        match words.is_empty() {
            true => write!(f, "equal"),
            false => write!(f, "{}", words.join(", ")),
        }?;
        if self.is_partial { write!(f, "; left at that, there may be more (--max-differences)") } else { Ok(()) }
    }
}

impl Difference {
    /// One line, in JSON. Bytes that are no text are written as in the lines for people.
    pub(crate) fn json(&self) -> String {
        let key = self.key.as_deref().map(text);
        let Self { class, db, what, .. } = self;
        serde_json::json!({ "class": class, "db": db, "key": key, "name": text(&self.name), "what": what }).to_string()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = text(&self.name);
        match self.db {
            Some(db) => write!(f, "db {db} ")?,
            None => write!(f, "function library ")?,
        }
        match &self.key {
            None => write!(f, "(no key of the primary) as \"{name}\"")?,
            Some(key) if *key == self.name => write!(f, "\"{name}\"")?,
            Some(key) => write!(f, "\"{}\" as \"{name}\"", text(key))?,
        }
        let mark = match self.class {
            Class::KnownFault => "known server fault: ",
            Class::Undecided => "undecided: ",
            _ => "",
        };
        write!(f, ": {mark}{}", self.what)
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
