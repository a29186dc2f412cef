//! Commands as lines of words: short to write in a template, and readable where a story fails.

use std::fmt::Write as _;

use crate::workload::Command;

/// Any bytes as one word: what is no plain character of a word stands as `%xx`, and nothing at all as `%_`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "%_".into();
    }
    let mut word = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'%' | b' ' | 0..0x20 | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(word, "%{byte:02x}");
            }
            _ => word.push(char::from(byte)),
        }
    }
    word
}

/// The bytes for which a word stands.
fn unquote(word: &str) -> Vec<u8> {
    if word == "%_" {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((plain, coded)) = rest.split_once('%') {
        out.extend_from_slice(plain.as_bytes());
        let (hex, after) = coded.split_at_checked(2).unwrap_or((coded, ""));
        out.extend(u8::from_str_radix(hex, 16));
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The command that a line stands for. `lower`: verbs and options are written in small letters, which servers take as well.
pub(crate) fn command(line: &str, lower: bool) -> Command {
    let is_syntax = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let word = |word: &str| match lower && is_syntax(word) {
        true => word.to_ascii_lowercase().into_bytes(),
        false => unquote(word),
    };
    line.split(' ').filter(|text| !text.is_empty()).map(word).collect()
}

/// A command as a line again.
pub(crate) fn shown(command: &Command) -> String {
    command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// So much of a line as is good to read; around the first place where `what` stands, if it does.
pub(crate) fn excerpt(line: &str, what: &str) -> String {
    const MOST: usize = 300;
    let from = line.find(what).unwrap_or(0).saturating_sub(MOST / 3);
    let shown: String = line.chars().skip(from).take(MOST).collect();
    match shown.len() == line.len() {
        true => shown,
        false => format!("…{shown}…"),
    }
}
