//! What a snapshot holds that not every server can load.

use alloc::string::String;
use alloc::vec::Vec;

use super::Family;

/// Modules that a summary tells apart. A snapshot of more says so by having as many.
pub const MODULES_NOTED_MAX: usize = 64;

/// What a snapshot holds, as far as it decides who can load it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds {
    /// The value types that it has: bit `n` stands for type `n`.
    pub types: u64,
    /// The ids of modules that have values or data of their own in it, at most [`MODULES_NOTED_MAX`].
    pub modules: Vec<u64>,
    /// Modules keep something of its keys besides their values (Redis 8.6).
    pub key_metadata: bool,
    /// Hash slots were being imported when it was made (Valkey 9).
    pub slot_imports: bool,
}

impl Kinds {
    /// Notes a value of type `kind`.
    #[inline]
    pub(super) fn note_type(&mut self, kind: u8) {
        // Known types are below 64.
        self.types |= 1 << (kind & 63);
    }

    /// Notes data of the module with this id.
    pub(super) fn note_module(&mut self, id: u64) {
        if !self.modules.contains(&id) && self.modules.len() < MODULES_NOTED_MAX {
            self.modules.push(id);
        }
    }

    /// The value types that it has, in ascending order.
    pub fn types(&self) -> impl Iterator<Item = u8> + use<> {
        let types = self.types;
        (0..64).filter(move |kind| types >> kind & 1 == 1)
    }
}

/// What a value type is called in refusals that an operator reads.
pub(super) fn name(family: Family, kind: u8) -> &'static str {
    match (family, kind) {
        (_, 0) => "strings",
        (_, 1 | 10 | 14 | 18) => "lists",
        (_, 2 | 11 | 20) => "sets",
        (_, 3 | 5 | 12 | 17) => "sorted sets",
        (_, 4 | 9 | 13 | 16) => "hashes",
        (_, 7) => "values of modules",
        (Family::Redis, 24 | 25) | (Family::Valkey, 22) => "hashes whose fields expire",
        (Family::Redis, 27) => "streams as Redis 8.8 has them",
        (_, 15 | 19 | 21 | 26) => "streams",
        (Family::Redis, 28) => "arrays",
        _ => "values of an unknown type",
    }
}

/// The name of a type that is refused knowingly, in parentheses.
pub(super) fn refused(family: Family, kind: u8) -> &'static str {
    match (family, kind) {
        (_, 6) => " (module value of 4.0 release candidates)",
        (Family::Redis, 22 | 23) => " (hash with field expiry of 7.4 release candidates)",
        (Family::Valkey, 23) => " (PATH_HASH)",
        (Family::Valkey, 24 | 25) => " (Redis' hash with field expiry)",
        (Family::Redis, 29..=33) => " (of Redis 8.8 or later, whose numbers were not settled)",
        _ => "",
    }
}

/// The name in a module's id: nine characters of six bits, above ten bits of version.
pub(super) fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).rev().map(|place| char::from(CHARACTERS[(id >> (10 + 6 * place) & 63) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_order_and_modules_once() {
        let mut kinds = Kinds::default();
        [21, 0, 7, 21].into_iter().for_each(|kind| kinds.note_type(kind));
        assert_eq!(kinds.types().collect::<Vec<_>>(), [0, 7, 21]);
        (0..2 * MODULES_NOTED_MAX as u64).chain(0..9).for_each(|id| kinds.note_module(id));
        assert_eq!(kinds.modules.len(), MODULES_NOTED_MAX);
    }

    #[test]
    fn a_module_is_called_by_its_name() {
        let id = b"vectorset".iter().fold(0u64, |id, &byte| id << 6 | u64::from(byte - b'a' + 26)) << 10 | 1;
        assert_eq!(module_name(id), "vectorset");
    }
}
