//! Snapshots made by hand, for a primary that is not a real one.

/// A snapshot under construction.
#[derive(Debug, Clone)]
pub struct Snapshot {
    bytes: Vec<u8>,
}

impl Snapshot {
    /// An empty snapshot of Redis' format at that version.
    pub fn redis(version: u16) -> Self {
        Self { bytes: format!("REDIS{version:04}").into_bytes() }
    }

    /// An empty snapshot of Valkey's format at that version.
    pub fn valkey(version: u16) -> Self {
        Self { bytes: format!("VALKEY{version:03}").into_bytes() }
    }

    /// Any bytes: opcodes, types, lies.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An auxiliary field.
    pub fn aux(self, name: &str, value: &str) -> Self {
        self.raw(&[0xfa]).text(name.as_bytes()).text(value.as_bytes())
    }

    /// What follows is of that database (below 64).
    pub fn select(self, db: u8) -> Self {
        self.raw(&[0xfe, db & 0x3f])
    }

    /// A string key.
    pub fn string(self, key: &[u8], value: &[u8]) -> Self {
        self.raw(&[0]).text(key).text(value)
    }

    /// A list key, as one packed node of the oldest kind, which every version loads.
    pub fn old_list(self, key: &[u8], values: &[&[u8]]) -> Self {
        let list = self.raw(&[1]).text(key).length(values.len());
        values.iter().fold(list, |list, value| list.text(value))
    }

    /// A length-prefixed string.
    pub fn text(self, bytes: &[u8]) -> Self {
        self.length(bytes.len()).raw(bytes)
    }

    /// A length in its 32-bit form, which is valid for every size.
    pub fn length(self, length: usize) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.raw(&[0x80]).raw(&length)
    }

    /// The snapshot with its end and the right checksum.
    pub fn end(self) -> Vec<u8> {
        let mut bytes = self.raw(&[0xff]).bytes;
        let crc = crc64(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The snapshot with its end and a checksum that is wrong.
    pub fn end_with_wrong_crc(self) -> Vec<u8> {
        let mut bytes = self.end();
        if let Some(last) = bytes.last_mut() {
            *last ^= 0x40;
        }
        bytes
    }

    /// What is there so far, without an end.
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

/// The checksum of snapshots: reflected polynomial 0x95ac9329ac4bc9b5, start 0, no final xor. Bit by bit, written apart from
/// the proxy's own.
pub fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| {
            let carry = crc & 1;
            (crc >> 1) ^ (carry * 0x95ac_9329_ac4b_c9b5)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::crc64;

    #[test]
    fn the_checksum_is_that_of_the_servers() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
