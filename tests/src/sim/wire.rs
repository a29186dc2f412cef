//! RESP as the models speak it, apart from the proxy's own.

use super::rng::Rng;

/// Appends a command.
pub fn command<T: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[T]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

/// How long a command is on the wire.
pub fn length(args: &[Vec<u8>]) -> usize {
    let mut out = Vec::new();
    command(&mut out, args);
    out.len()
}

/// A random history id.
pub fn id(rng: &mut Rng) -> String {
    rng.entropy().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `arg` is `word`, without regard to case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// What stands at the front of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Not enough to tell.
    Nothing,
    /// A lone newline, or an empty line.
    Newline,
    /// A whole command.
    Command(Vec<Vec<u8>>),
}

/// Parses what stands at the front of `bytes`, and how long it is. An error is what a server would close the link for.
pub fn parse(bytes: &[u8]) -> Result<(Said, usize), String> {
    match bytes {
        [] | [b'\r'] => return Ok((Said::Nothing, 0)),
        [b'\n', ..] => return Ok((Said::Newline, 1)),
        [b'\r', b'\n', ..] => return Ok((Said::Newline, 2)),
        [b'*', ..] => {}
        _ => return Err(format!("no command: {}…", bytes[..bytes.len().min(40)].escape_ascii())),
    }
    let Some((count, mut at)) = header(bytes, 0, b'*')? else { return Ok((Said::Nothing, 0)) };
    let mut args = Vec::new();
    for _ in 0..count {
        let Some((length, start)) = header(bytes, at, b'$')? else { return Ok((Said::Nothing, 0)) };
        let end = start + length;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => args.push(bytes[start..end].to_vec()),
            Some(_) => return Err("a bulk string without its end".into()),
            None => return Ok((Said::Nothing, 0)),
        }
        at = end + 2;
    }
    Ok((Said::Command(args), at))
}

fn header(bytes: &[u8], at: usize, mark: u8) -> Result<Option<(usize, usize)>, String> {
    let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    if rest[0] != mark {
        return Err(format!("{} where {} is due", rest[0].escape_ascii(), mark.escape_ascii()));
    }
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let digits = rest[1..end].strip_suffix(b"\r").ok_or("a header without CRLF")?;
    let number = String::from_utf8_lossy(digits).parse().map_err(|_| "a header that is no number")?;
    Ok(Some((number, at + end + 1)))
}

/// Takes what stands at the front of `inbox`.
pub fn take_command(inbox: &mut Vec<u8>) -> Result<Said, String> {
    let (said, length) = parse(inbox)?;
    inbox.drain(..length);
    Ok(said)
}

/// Takes one line from the front of `inbox`, without its end.
pub fn take_line(inbox: &mut Vec<u8>) -> Option<String> {
    let end = inbox.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = inbox.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Where the whole commands of `bytes` begin and end.
pub fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Ok((said, length)) = parse(&bytes[at..])
        && said != Said::Nothing
    {
        frames.push((at, at + length));
        at += length;
    }
    frames
}

/// Where MULTI stands in `bytes`.
pub fn multi_at(bytes: &[u8]) -> Option<usize> {
    find(bytes, b"*1\r\n$5\r\nMULTI\r\n")
}

/// Where `needle` first stands in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
