//! CRC-64 as snapshots and DUMP payloads carry it: polynomial 0xad93d23594c935a9, reflected, start 0, no final xor.
//!
//! Four words a step, each in a sum of its own so that the processor need not wait for one before it begins the next, over
//! tables that the compiler computes. The `crc-fast` crate would be faster where the processor multiplies without carry, but
//! it does not build without the standard library, and the core has to.

/// The polynomial with its bits reversed, as a shift to the right needs it.
const REFLECTED: u64 = 0x95ac_9329_ac4b_c9b5;
/// Words taken in one step.
const LANES: usize = 4;
/// Bytes taken in one step.
const STRIDE: usize = LANES * 8;

/// Table `k` says for each byte what it adds to the sum once `k` more bytes, and a number of others, have followed it.
type Tables = [[u64; 256]; 8];

/// For a word with nothing behind it. Together with `FAR` 32 KiB, which stay in the first-level cache.
static NEAR: Tables = tables(0);
/// For a word with the other words of a step behind it.
static FAR: Tables = tables(STRIDE - 8);

const fn tables(others: usize) -> Tables {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bytes = 0;
        while bytes < others + 8 {
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ REFLECTED } else { sum >> 1 };
                bit += 1;
            }
            if bytes >= others {
                tables[bytes - others][byte] = sum;
            }
            bytes += 1;
        }
        byte += 1;
    }
    tables
}

/// A running CRC-64: feed it bytes in any pieces, read the sum at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crc64(u64);

impl Crc64 {
    /// The sum of no bytes.
    pub const fn new() -> Self {
        Self(0)
    }

    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut crc = Self::new();
        crc.update(bytes);
        crc.sum()
    }

    /// Adds `bytes` to the sum.
    pub fn update(&mut self, bytes: &[u8]) {
        let (strides, rest) = bytes.as_chunks::<STRIDE>();
        let mut sum = self.0;
        if let Some((last, strides)) = strides.split_last() {
            let mut lanes = [sum, 0, 0, 0];
            for stride in strides {
                for (lane, word) in lanes.iter_mut().zip(words(stride)) {
                    *lane = fold(&FAR, *lane ^ word);
                }
            }
            sum = lanes.iter().zip(words(last)).fold(0, |sum, (lane, word)| fold(&NEAR, sum ^ lane ^ word));
        }
        for &byte in rest {
            sum = NEAR[0][((sum ^ u64::from(byte)) & 0xff) as usize] ^ (sum >> 8);
        }
        self.0 = sum;
    }

    /// The sum of all bytes so far. A file stores it little endian.
    pub const fn sum(&self) -> u64 {
        self.0
    }
}

/// The words of a step.
#[inline(always)]
fn words(stride: &[u8; STRIDE]) -> [u64; LANES] {
    let (words, _) = stride.as_chunks::<8>();
    core::array::from_fn(|lane| words.get(lane).map_or(0, |word| u64::from_le_bytes(*word)))
}

/// What the eight bytes of `word` add to the sum.
#[inline(always)]
fn fold(tables: &Tables, word: u64) -> u64 {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = word.to_le_bytes().map(usize::from);
    let early = tables[7][b0] ^ tables[6][b1] ^ tables[5][b2] ^ tables[4][b3];
    early ^ tables[3][b4] ^ tables[2][b5] ^ tables[1][b6] ^ tables[0][b7]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_published_vector_comes_out() {
        assert_eq!(Crc64::of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(Crc64::of(b""), 0);
    }

    #[test]
    fn strides_agree_with_a_bit_by_bit_sum_at_every_cut() {
        let bytes: Vec<u8> = (0..131u32).map(|n| (n * 89 + 7) as u8).collect();
        let slow = bytes.iter().fold(0u64, |sum, &byte| {
            (0..8).fold(sum ^ u64::from(byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ REFLECTED } else { sum >> 1 })
        });
        for cut in 0..=bytes.len() {
            let mut crc = Crc64::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            assert_eq!(crc.sum(), slow, "cut at {cut}");
        }
    }
}
