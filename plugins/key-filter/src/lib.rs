//! Allow or deny keys by prefix, glob and database.
//!
//! | setting | meaning |
//! |---|---|
//! | `allow` | keep keys that match; repeatable; with none, all keys are allowed |
//! | `deny` | drop keys that match; repeatable; wins over `allow` |
//! | `databases` | keep these databases only, as `0,3` |
//! | `deny-databases` | drop these databases |
//!
//! A pattern is a Redis glob: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a character that is meant literally.

mod pattern;

use pattern::Pattern;
use sluicegate_plugin::{Error, KeyFilter, Keys, Plugin, Prefix, Property, Settings, count, export};

/// Index of the one counter.
const DROPPED_BY_DATABASE: usize = 0;

/// The rules, compiled. Prefixes are apart because they are the common case and many times faster.
struct Filter {
    allow: Rules,
    deny: Rules,
    allow_databases: Vec<u32>,
    deny_databases: Vec<u32>,
}

#[derive(Default)]
struct Rules {
    prefixes: Vec<Prefix>,
    patterns: Vec<Pattern>,
}

impl Rules {
    fn new<'s>(patterns: impl Iterator<Item = &'s str>) -> Result<Self, String> {
        let mut rules = Self::default();
        for text in patterns {
            if text.is_empty() {
                return Err("an empty pattern matches no key; write `*` for all keys".into());
            }
            let pattern = Pattern::new(text.as_bytes()).map_err(|what| format!("pattern `{text}`: {what}"))?;
            match pattern.as_prefix() {
                Some(prefix) => rules.prefixes.push(Prefix::new(prefix)),
                None => rules.patterns.push(pattern),
            }
        }
        Ok(rules)
    }

    fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.patterns.is_empty()
    }

    #[inline]
    fn matches(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| prefix.starts(key))
            || self.patterns.iter().any(|pattern| pattern.matches(key))
    }
}

impl Filter {
    fn keeps_database(&self, db: u32) -> bool {
        !self.deny_databases.contains(&db) && (self.allow_databases.is_empty() || self.allow_databases.contains(&db))
    }
}

impl Plugin for Filter {
    const COUNTERS: &'static [&'static str] = &["batches dropped by database"];

    fn init(settings: &Settings) -> Result<Self, String> {
        settings.only(&["allow", "deny", "databases", "deny-databases"])?;
        Ok(Self {
            allow: Rules::new(settings.all("allow"))?,
            deny: Rules::new(settings.all("deny"))?,
            allow_databases: databases(settings, "databases")?,
            deny_databases: databases(settings, "deny-databases")?,
        })
    }

    fn properties(&self) -> Vec<Property> {
        let by_key_alone = self.allow_databases.is_empty() && self.deny_databases.is_empty();
        if by_key_alone { vec![Property::DbIndependent] } else { Vec::new() }
    }
}

impl KeyFilter for Filter {
    #[inline]
    fn keep(&self, _db: u32, key: &[u8]) -> bool {
        (self.allow.is_empty() || self.allow.matches(key)) && !self.deny.matches(key)
    }

    fn filter(&self, keys: &Keys) -> Result<Vec<u8>, Error> {
        if !self.keeps_database(keys.db()) {
            count(DROPPED_BY_DATABASE);
            return Ok(vec![1; keys.len()]);
        }
        Ok(match (self.allow.prefixes.as_slice(), self.allow.patterns.is_empty(), self.deny.is_empty()) {
            // One prefix and nothing else: the loop that is worth having to itself.
            ([prefix], true, true) => keys.verdicts(|key| prefix.starts(key)),
            _ => keys.verdicts(|key| self.keep(keys.db(), key)),
        })
    }
}

fn databases(settings: &Settings, name: &str) -> Result<Vec<u32>, String> {
    let numbers = settings.all(name).flat_map(|list| list.split(',')).map(str::trim);
    numbers
        .map(|number| number.parse().map_err(|_| format!("`{name}`: `{number}` is no database number; write `0,3`")))
        .collect()
}

export!(Filter: key_filter);

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(settings: &[(&str, &str)]) -> Filter {
        Filter::init(&Settings::new(settings.iter().copied())).expect("valid settings")
    }

    #[test]
    fn deny_wins_and_no_allow_allows_all() {
        let rules = filter(&[("allow", "user:*"), ("allow", "*:public"), ("deny", "user:?:secret")]);
        let keys: [&[u8]; 5] = [b"user:1", b"user:1:secret", b"x:public", b"other", b"user:12:secret"];
        assert_eq!(rules.filter(&Keys::of(0, &keys)).ok(), Some(vec![0, 1, 0, 1, 0]));
        let rules = filter(&[("deny", "tmp:*")]);
        assert_eq!(rules.filter(&Keys::of(0, &[b"tmp:1", b"a"])).ok(), Some(vec![1, 0]));
    }

    #[test]
    fn databases_decide_for_whole_batches() {
        let rules = filter(&[("databases", "0, 3"), ("deny-databases", "3")]);
        let verdicts = |db| rules.filter(&Keys::of(db, &[b"a", b"b"])).unwrap_or_default();
        assert_eq!((verdicts(0), verdicts(1), verdicts(3)), (vec![], vec![1, 1], vec![1, 1]));
        assert!(rules.properties().is_empty());
    }

    #[test]
    fn senseless_settings_are_refused() {
        for (name, value) in [("alow", "a*"), ("allow", ""), ("databases", "zero"), ("deny", "a[b"), ("deny", "a\\")] {
            assert!(Filter::init(&Settings::new([(name, value)])).is_err(), "{name} = {value}");
        }
    }
}
