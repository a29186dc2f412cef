//! Prefixes compared and names copied a word at a time: in WebAssembly `starts_with` with a length known only at run time is
//! a loop over bytes, `extend_from_slice` a call out of the sandbox, and both are most of what a plugin does.

/// Copies longer than this are worth a call.
const SHORT_BYTES: usize = 64;

/// Appends `bytes` to `out`: [`Vec::extend_from_slice`] for the length of names.
#[inline]
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT_BYTES {
        return out.extend_from_slice(bytes);
    }
    out.reserve(bytes.len());
    let (words, mut rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| out.extend_from_slice(word));
    if let Some((four, behind)) = rest.split_first_chunk::<4>() {
        out.extend_from_slice(four);
        rest = behind;
    }
    if let Some((two, behind)) = rest.split_first_chunk::<2>() {
        out.extend_from_slice(two);
        rest = behind;
    }
    if let [one] = rest {
        out.push(*one);
    }
}

/// A prefix, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    bytes: Box<[u8]>,
    /// The first eight bytes, zero where the prefix is shorter.
    head: u64,
    /// Ones where `head` counts.
    mask: u64,
}

impl Prefix {
    /// A prefix of these bytes. The empty prefix starts every key.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let bytes: Box<[u8]> = bytes.as_ref().into();
        let mut head = [0; 8];
        let mut mask = [0; 8];
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(&bytes) {
            (*head, *mask) = (*byte, 0xff);
        }
        Self { bytes, head: u64::from_le_bytes(head), mask: u64::from_le_bytes(mask) }
    }

    /// The prefix's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `key` begins with the prefix.
    #[inline]
    pub fn starts(&self, key: &[u8]) -> bool {
        let Some(head) = key.first_chunk::<8>() else {
            return key.starts_with(&self.bytes);
        };
        if u64::from_le_bytes(*head) & self.mask != self.head {
            return false;
        }
        self.bytes.len() <= 8 || self.starts_long(key)
    }

    /// What follows the prefix in `key`, if it begins with it.
    #[inline]
    pub fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        if self.starts(key) { key.get(self.bytes.len()..) } else { None }
    }

    /// The rest of a prefix of more than eight bytes: whole words, the last of which overlaps the one before.
    fn starts_long(&self, key: &[u8]) -> bool {
        let Some(key) = key.get(..self.bytes.len()) else { return false };
        key.last_chunk::<8>() == self.bytes.last_chunk::<8>()
            && key.chunks_exact(8).zip(self.bytes.chunks_exact(8)).all(|(ours, theirs)| ours == theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Prefix, append};

    #[test]
    fn appends_every_length() {
        let text: Vec<u8> = (0..=255).collect();
        for len in 0..=text.len() {
            let mut out = b"before".to_vec();
            append(&mut out, &text[..len]);
            assert_eq!(out, [b"before", &text[..len]].concat());
        }
    }

    #[test]
    fn agrees_with_starts_with_for_all_lengths() {
        let text = b"user:profile:settings:0123456789";
        for prefix in 0..=text.len() {
            for key in 0..=text.len() {
                for flip in [None, Some(0), Some(prefix / 2), prefix.checked_sub(1)] {
                    let mut key = text[..key].to_vec();
                    if let Some(byte) = flip.and_then(|at| key.get_mut(at)) {
                        *byte ^= 1;
                    }
                    let prefix = &text[..prefix];
                    assert_eq!(Prefix::new(prefix).starts(&key), key.starts_with(prefix));
                    assert_eq!(Prefix::new(prefix).strip(&key), key.strip_prefix(prefix));
                }
            }
        }
    }
}
