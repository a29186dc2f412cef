//! Redis globs, compiled. Matching goes back to the last star only, which is enough for globs and keeps the time of a
//! match below pattern length times key length.

/// A compiled glob.
pub(crate) struct Pattern(Vec<Token>);

enum Token {
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[…]`: a bit for each byte that matches.
    Class([u64; 4]),
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Token::Byte(wanted) => *wanted == byte,
            Token::Any => true,
            Token::Star => false,
            Token::Class(bits) => bits[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1,
        }
    }
}

impl Pattern {
    /// Compiles a glob. Unlike Redis it refuses what is unfinished at its end rather than guess what was meant.
    pub(crate) fn new(text: &[u8]) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut rest = text.iter().copied();
        while let Some(byte) = rest.next() {
            tokens.push(match byte {
                b'*' if matches!(tokens.last(), Some(Token::Star)) => continue,
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => Token::Class(class(&mut rest)?),
                b'\\' => Token::Byte(rest.next().ok_or("ends with a lone `\\`")?),
                literal => Token::Byte(literal),
            });
        }
        Ok(Self(tokens))
    }

    /// The prefix, if the glob is one: literal bytes and a star.
    pub(crate) fn as_prefix(&self) -> Option<Vec<u8>> {
        let (Token::Star, literals) = self.0.split_last()? else { return None };
        literals.iter().map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None }).collect()
    }

    /// Whether the whole key matches.
    pub(crate) fn matches(&self, key: &[u8]) -> bool {
        let (mut token, mut byte) = (0, 0);
        let mut retry = None;
        while byte < key.len() {
            match self.0.get(token) {
                Some(Token::Star) => {
                    retry = Some((token + 1, byte));
                    token += 1;
                }
                Some(wanted) if wanted.takes(key[byte]) => (token, byte) = (token + 1, byte + 1),
                _ => {
                    let Some((after_star, taken)) = retry else { return false };
                    retry = Some((after_star, taken + 1));
                    (token, byte) = (after_star, taken + 1);
                }
            }
        }
        self.0[token..].iter().all(|token| matches!(token, Token::Star))
    }
}

/// The bits of a class, up to and with its `]`.
fn class(rest: &mut impl Iterator<Item = u8>) -> Result<[u64; 4], &'static str> {
    const UNFINISHED: &str = "a `[` without its `]`";
    let mut bits = [0_u64; 4];
    let mut set =
        |from: u8, to: u8| (from.min(to)..=from.max(to)).for_each(|b| bits[usize::from(b >> 6)] |= 1 << (b & 63));
    let mut next = rest.next().ok_or(UNFINISHED)?;
    let negated = next == b'^';
    if negated {
        next = rest.next().ok_or(UNFINISHED)?;
    }
    while next != b']' {
        let from = if next == b'\\' { rest.next().ok_or(UNFINISHED)? } else { next };
        next = rest.next().ok_or(UNFINISHED)?;
        if next != b'-' {
            set(from, from);
            continue;
        }
        match rest.next().ok_or(UNFINISHED)? {
            // `[a-]`: the dash stands for itself.
            b']' => {
                set(from, from);
                set(b'-', b'-');
                next = b']';
            }
            to => {
                set(from, to);
                next = rest.next().ok_or(UNFINISHED)?;
            }
        }
    }
    Ok(if negated { bits.map(|word| !word) } else { bits })
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn globs_match_as_in_redis() {
        for (pattern, key, matches) in [
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("*aab", "aaaaab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[a\\]]x", "]x", true),
            ("[a-]x", "-x", true),
            ("\\*x", "*x", true),
            ("\\*x", "ax", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            let compiled = Pattern::new(pattern.as_bytes()).expect(pattern);
            assert_eq!(compiled.matches(key.as_bytes()), matches, "{pattern} on {key}");
        }
    }

    #[test]
    fn only_literal_bytes_and_a_star_are_a_prefix() {
        let prefix = |text: &str| Pattern::new(text.as_bytes()).expect(text).as_prefix();
        assert_eq!(prefix("user:*"), Some(b"user:".to_vec()));
        assert_eq!(prefix("a\\*b*"), Some(b"a*b".to_vec()));
        assert_eq!(prefix("*"), Some(Vec::new()));
        assert_eq!(prefix("a?*"), None);
        assert_eq!(prefix("a*b"), None);
    }
}
