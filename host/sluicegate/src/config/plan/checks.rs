//! Collects what is wrong while a plan is made, so that the operator hears of all of it at once.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use crate::config::report::Problem;

/// The problems found so far.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) problems: Vec<Problem>,
}

impl Checks {
    /// The value at this place cannot be used.
    pub(super) fn error<T>(&mut self, at: &Spanned<T>, message: String) {
        self.add(at, message, false);
    }

    /// The value at this place can be used, though perhaps it was not meant.
    pub(super) fn warning<T>(&mut self, at: &Spanned<T>, message: String) {
        self.add(at, message, true);
    }

    /// Something is missing: there is no place to point at.
    pub(super) fn missing(&mut self, message: &str) {
        self.problems.push(Problem { span: None, message: message.into(), is_warning: false });
    }

    /// Whether the plan cannot be used.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| !problem.is_warning)
    }

    /// The value, or the default if none was written; a value out of range is a problem.
    pub(super) fn within<T>(&mut self, name: &str, at: Option<&Spanned<T>>, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + Ord + Display,
    {
        let Some(at) = at else { return default };
        let value = *at.get_ref();
        if !range.contains(&value) {
            self.error(at, format!("`{name}` is {value}; it can be {} to {}", range.start(), range.end()));
        }
        value
    }

    /// The value of a result; its error is a problem.
    pub(super) fn take<T, U>(&mut self, at: &Spanned<T>, result: Result<U, String>) -> Option<U> {
        result.map_err(|message| self.error(at, message)).ok()
    }

    /// Says where a name stands that was given before.
    pub(super) fn unique<'a>(&mut self, what: &str, names: impl Iterator<Item = &'a Spanned<String>>) {
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if name.get_ref().is_empty() || name.get_ref().contains(char::is_whitespace) {
                self.error(
                    name,
                    format!("bad {what} name `{}`: a name is not empty and has no blanks", name.get_ref()),
                );
            }
            if seen.contains(&name.get_ref().as_str()) {
                self.error(name, format!("there are two {what}s with the name `{}`", name.get_ref()));
            }
            seen.push(name.get_ref());
        }
    }

    fn add<T>(&mut self, at: &Spanned<T>, message: String, is_warning: bool) {
        self.problems.push(Problem { span: place(at), message, is_warning });
    }
}

/// Where a value stands; what the command line says stands nowhere.
pub(super) fn place<T>(at: &Spanned<T>) -> Option<Range<usize>> {
    Some(at.span()).filter(|span| !span.is_empty())
}

/// A SHA-256 in hexadecimal.
pub(super) fn digest(text: &str) -> Result<[u8; 32], String> {
    let bad = || format!("bad sha256: it has 64 hexadecimal digits, this has {}", text.chars().count());
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = str::from_utf8(digits).map_err(|_| bad())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    Ok(digest)
}
