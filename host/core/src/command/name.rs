//! Names of commands: those of the table, and those that a primary tells.

use core::fmt;
use core::ops::Deref;

/// The longest name that is learned from a primary. Bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A command's name, in lower case. It is copied with its row, which for a name of the table costs nothing more.
#[derive(Clone, Copy)]
pub struct Name(Held);

#[derive(Clone, Copy)]
enum Held {
    Builtin(&'static str),
    Learned { bytes: [u8; NAME_BYTES_MAX], len: u8 },
}

impl Name {
    /// A name that is compiled in.
    pub const fn builtin(name: &'static str) -> Self {
        Self(Held::Builtin(name))
    }

    /// A primary's word for a command; `None` if it is no name that could be told to people.
    pub fn learned(name: &[u8]) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..name.len()).filter(|_| fits)?.copy_from_slice(name);
        bytes.make_ascii_lowercase();
        Some(Self(Held::Learned { bytes, len: name.len() as u8 }))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Held::Builtin(name) => name,
            // ASCII, as was checked when it was made.
            Held::Learned { bytes, len } => {
                bytes.get(..usize::from(*len)).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("")
            }
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
