//! Commands on the wire.

use super::keys::Words;

/// A command in its envelope.
pub fn frame(number: u64, command: &Words) -> Vec<u8> {
    let mut out = format!("*2\r\n:{number}\r\n").into_bytes();
    out.extend(array(command));
    out
}

/// A command.
pub fn array(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        out.extend(format!("${}\r\n", word.len()).into_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The line at the beginning of `bytes`, and how long it is with its end.
pub fn line(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).unwrap_or("(no text)"), end + 2))
}

/// How long the envelope of a frame is.
pub fn envelope(frame: &[u8]) -> usize {
    let head = "*2\r\n".len();
    head + line(&frame[head..]).map_or(0, |(_, used)| used)
}

/// The command at the beginning of `bytes`, and how long it is; `None` if it is not whole.
pub fn parse(bytes: &[u8]) -> Option<(Words, usize)> {
    let (head, mut at) = line(bytes)?;
    let count: usize = head.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, used) = line(bytes.get(at..)?)?;
        let length: usize = head.strip_prefix('$')?.parse().ok()?;
        words.push(bytes.get(at + used..at + used + length)?.to_vec());
        bytes.get(at + used + length..at + used + length + 2)?;
        at += used + length + 2;
    }
    Some((words, at))
}
