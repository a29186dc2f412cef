//! Words as redis-cli reads and prints them: `plain`, `"with\x00escapes"`, `'as they are'`.

/// Splits a line into words.
///
/// # Errors
/// A quote does not end, or something follows it without a space. What is wrong, for a sentence about the line.
pub(super) fn split(line: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.as_bytes().trim_ascii();
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = take(rest, &mut word)?.trim_ascii_start();
        words.push(word);
    }
    Ok(words)
}

/// Takes one word off the front of `text`, and returns what follows it.
fn take<'t>(mut text: &'t [u8], word: &mut Vec<u8>) -> Result<&'t [u8], &'static str> {
    while let [first, rest @ ..] = text {
        match first {
            b'"' | b'\'' => {
                let rest = quoted(*first, rest, word)?;
                return match rest.first() {
                    Some(byte) if !byte.is_ascii_whitespace() => Err("has no space behind a quote"),
                    _ => Ok(rest),
                };
            }
            byte if byte.is_ascii_whitespace() => break,
            byte => word.push(*byte),
        }
        text = rest;
    }
    Ok(text)
}

fn quoted<'t>(quote: u8, mut text: &'t [u8], word: &mut Vec<u8>) -> Result<&'t [u8], &'static str> {
    loop {
        text = match text {
            [] => return Err("has a quote that does not end"),
            [first, rest @ ..] if *first == quote => return Ok(rest),
            [b'\\', b'x', high, low, rest @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(digit(*high) << 4 | digit(*low));
                rest
            }
            [b'\\', escaped, rest @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest
            }
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                rest
            }
            [first, rest @ ..] => {
                word.push(*first);
                rest
            }
        };
    }
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => hex.to_ascii_lowercase() - b'a' + 10,
    }
}

/// A command on one line.
pub(super) fn join(words: &[Vec<u8>]) -> String {
    words.iter().map(|bytes| word(bytes)).collect::<Vec<_>>().join(" ")
}

/// One word: as it is where that reads the same, else in quotes.
pub(super) fn word(bytes: &[u8]) -> String {
    if !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte)) {
        return bytes.iter().map(|&byte| char::from(byte)).collect();
    }
    let mut text = String::from('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text += "\\n",
            b'\r' => text += "\\r",
            b'\t' => text += "\\t",
            7 => text += "\\a",
            8 => text += "\\b",
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text += &format!("\\x{byte:02x}"),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_redis_cli_does() {
        let known: [(&str, &[&[u8]]); 6] = [
            ("  SET  a\tb ", &[b"SET", b"a", b"b"]),
            (r#"SET "a b" 'c d'"#, &[b"SET", b"a b", b"c d"]),
            (r#""\x00\xfF\n\r\t\b\a\"\\\z" '\'' '\n' """#, &[b"\0\xff\n\r\t\x08\x07\"\\z", b"'", b"\\n", b""]),
            (r#"a"b c""#, &[b"ab c"]),
            (r#""\xg0""#, &[b"xg0"]),
            ("", &[]),
        ];
        for (line, words) in known {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
        for line in [r#"a "b"#, "'a", r#""a"b"#, r#""a\"#] {
            split(line).expect_err(line);
        }
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], b"", b"plain:{1}", b"a b", b"it's", b"\\", b"caf\xc3\xa9"] {
            assert_eq!(split(&word(bytes)).expect("what we printed"), [bytes], "{}", word(bytes));
        }
        assert_eq!(join(&[b"SET".to_vec(), b"a b".to_vec(), Vec::new()]), r#"SET "a b" """#);
    }
}
