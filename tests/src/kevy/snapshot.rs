//! Snapshots of kevy made by hand, sound or not.

/// A snapshot under construction.
#[derive(Debug, Clone)]
pub struct Snapshot(Vec<u8>);

impl Default for Snapshot {
    fn default() -> Self {
        Self::of_version(4)
    }
}

impl Snapshot {
    /// With this version in its head; 4 is the one that every kevy writes unless it must write another.
    pub fn of_version(version: u8) -> Self {
        Self([b"KEVYSNAP".as_slice(), &[version]].concat())
    }

    /// A string without an expiry.
    pub fn string(self, key: &[u8], value: &[u8]) -> Self {
        self.raw(&[1, 0]).bytes(key).bytes(value)
    }

    /// A hash with one field.
    pub fn hash(self, key: &[u8], field: &[u8], value: &[u8]) -> Self {
        self.raw(&[2, 0]).bytes(key).raw(&1_u32.to_le_bytes()).bytes(field).bytes(value)
    }

    /// A length and its bytes.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.raw(&length.to_le_bytes()).raw(bytes)
    }

    /// Any bytes, as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The end, and all the bytes.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0]).0
    }

    /// All the bytes so far, without an end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }
}

/// A body as a primary sends it: `+SNAPSHOT`, pieces of at most 65,536 bytes, and the offset of the next frame.
pub fn shipped(body: &[u8], next: u64) -> Vec<u8> {
    let mut out = b"+SNAPSHOT\r\n".to_vec();
    for chunk in body.chunks(65_536) {
        out.extend_from_slice(&piece(chunk));
    }
    out.extend_from_slice(format!("+SNAPSHOT_END {next}\r\n").as_bytes());
    out
}

/// One piece of a snapshot, however long.
pub fn piece(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A live frame.
pub fn frame<A: AsRef<[u8]>>(offset: u64, words: &[A]) -> Vec<u8> {
    [format!("*2\r\n:{offset}\r\n").into_bytes(), crate::client::encode(words)].concat()
}
