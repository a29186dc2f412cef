//! Rewrite key prefixes, with the inverse.
//!
//! | setting | meaning |
//! |---|---|
//! | `rule` | `user:* => u:*`: keys that begin with `user:` begin with `u:` in the view; repeatable |
//!
//! The rule with the longest matching prefix is used. `* => eu:*` puts a prefix before every key, `eu:* => *` takes one
//! away. No two keys may end up with one name: what can be seen in the rules is refused at the start, and a key that
//! already bears another's name (`u:1` beside `user:1`) halts the view with both names when it is met.

use sluicegate_plugin::{Edits, Error, KeyTransform, Keys, Plugin, Prefix, Property, Settings, append, export};

struct Rename {
    /// What the primary calls it, and the view; the longest primary's prefix first.
    forward: Vec<(Prefix, Prefix)>,
    /// What the view calls it, and the primary; the longest view's prefix first.
    backward: Vec<(Prefix, Prefix)>,
}

impl Plugin for Rename {
    fn init(settings: &Settings) -> Result<Self, String> {
        settings.only(&["rule"])?;
        let rules = settings.all("rule").map(parse).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            return Err("no `rule`; write for example rule = \"user:* => u:*\"".into());
        }
        for (index, one) in rules.iter().enumerate() {
            for other in &rules[..index] {
                check_pair(one, other)?;
            }
        }
        let table = |mut rules: Vec<(&[u8], &[u8])>| {
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.0.len()));
            rules.into_iter().map(|(from, to)| (Prefix::new(from), Prefix::new(to))).collect()
        };
        Ok(Self {
            forward: table(rules.iter().map(|rule| (rule.from, rule.to)).collect()),
            backward: table(rules.iter().map(|rule| (rule.to, rule.from)).collect()),
        })
    }

    fn properties(&self) -> Vec<Property> {
        vec![Property::DbIndependent]
    }
}

impl KeyTransform for Rename {
    fn rename(&self, _db: u32, key: &[u8], name: &mut Vec<u8>) -> bool {
        rewrite(&self.forward, key, name)
    }

    fn original(&self, _db: u32, name: &[u8], key: &mut Vec<u8>) -> bool {
        rewrite(&self.backward, name, key)
    }

    fn rename_all(&self, keys: &Keys) -> Result<Edits, Error> {
        Ok(rewrite_all(&self.forward, keys))
    }

    fn original_all(&self, names: &Keys) -> Result<Edits, Error> {
        Ok(rewrite_all(&self.backward, names))
    }
}

#[inline]
fn rewrite(table: &[(Prefix, Prefix)], key: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((rest, to)) = table.iter().find_map(|(from, to)| Some((from.strip(key)?, to))) else { return false };
    append(out, to.bytes());
    append(out, rest);
    true
}

fn rewrite_all(table: &[(Prefix, Prefix)], keys: &Keys) -> Edits {
    keys.edits(|key, out| rewrite(table, key, out))
}

struct Rule<'s> {
    text: &'s str,
    from: &'s [u8],
    to: &'s [u8],
}

fn parse(text: &str) -> Result<Rule<'_>, String> {
    let prefix = |side: &'_ str| -> Option<usize> {
        let prefix = side.strip_suffix('*')?;
        (!prefix.contains('*')).then_some(prefix.len())
    };
    let sides = text.split_once("=>").map(|(from, to)| (from.trim(), to.trim()));
    let lengths = sides.and_then(|(from, to)| Some((prefix(from)?, prefix(to)?)));
    match (sides, lengths) {
        (Some((from, to)), Some((from_len, to_len))) => {
            Ok(Rule { text, from: &from.as_bytes()[..from_len], to: &to.as_bytes()[..to_len] })
        }
        _ => Err(format!("rule `{text}`: write `prefix* => other*`, with one star at the end of each side")),
    }
}

/// Refuses two rules that give one name to two keys: if the one's names lie within the other's, then its keys must lie
/// within the other's keys in just the same way (the rule is then superfluous, and harmless).
fn check_pair(one: &Rule, other: &Rule) -> Result<(), String> {
    if one.from == other.from {
        return Err(format!("rules `{}` and `{}` speak of the same keys", one.text, other.text));
    }
    let clashes = |inner: &Rule, outer: &Rule| match inner.to.strip_prefix(outer.to) {
        Some(rest) => inner.from.strip_prefix(outer.from) != Some(rest),
        None => false,
    };
    if clashes(one, other) || clashes(other, one) {
        return Err(format!("rules `{}` and `{}` can give two keys the same name", one.text, other.text));
    }
    Ok(())
}

export!(Rename: key_transform);

#[cfg(test)]
mod tests {
    use super::*;

    fn init(rules: &[&str]) -> Result<Rename, String> {
        Rename::init(&Settings::new(rules.iter().map(|rule| ("rule", *rule))))
    }

    #[test]
    fn the_longest_prefix_decides_and_the_way_back_is_exact() {
        let plugin = init(&["user:* => u:*", "user:vip:* => v:*", "* => x:*"]).expect("valid rules");
        for (key, name) in
            [("user:1", "u:1"), ("user:vip:1", "v:1"), ("other", "x:other"), ("", "x:"), ("u:1", "x:u:1")]
        {
            let (mut renamed, mut back) = (Vec::new(), Vec::new());
            assert!(plugin.rename(0, key.as_bytes(), &mut renamed) && renamed == name.as_bytes(), "{key}");
            assert!(plugin.original(0, &renamed, &mut back) && back == key.as_bytes(), "{key}");
        }
    }

    #[test]
    fn rules_that_clash_are_refused() {
        for rules in [&["a:* => x:*", "b:* => x:*"], &["a:* => x:*", "b:* => x:y:*"], &["a:* => x:*", "a:* => y:*"]] {
            assert!(init(rules).is_err(), "{rules:?}");
        }
        assert!(init(&["a:* => b:*", "b:* => a:*"]).is_ok());
        assert!(init(&["a:* => x:*", "a:b:* => x:b:*"]).is_ok());
        for rule in ["a:*", "a: => b:", "a* => *b*", "a*b* => c*"] {
            assert!(init(&[rule]).is_err(), "{rule}");
        }
    }
}
