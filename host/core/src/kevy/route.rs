//! Which shard a key lies in.
//!
//! A replica applies what comes on stream `i` to its shard `i` and does not look where the key belongs. A key that got a
//! new name therefore has to go out on the stream of its new shard, or no client will find it.

/// How a server routes its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Routing {
    /// By a hash of the whole key: kevy before 1.27.
    WholeKey,
    /// By a hash of the part in braces, or of the whole key if there is none: the default.
    Hashtag,
    /// By the slots of a Redis cluster, each shard owning a run of them: `--cluster`.
    Slots,
}

/// One shard of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// How the shards divide the keys.
    pub routing: Routing,
    /// How many shards there are.
    pub shards: usize,
    /// Which one of them, counted from 0.
    pub shard: usize,
}

impl Share {
    /// Whether `key` lies in the shard.
    #[inline]
    pub fn holds(&self, key: &[u8]) -> bool {
        shard_of(key, self.shards, self.routing) == self.shard
    }
}

/// The shard of `key` among `shards`, counted from 0.
#[inline]
pub fn shard_of(key: &[u8], shards: usize, routing: Routing) -> usize {
    let hash = match routing {
        _ if shards <= 1 => return 0,
        Routing::Slots => return ((u64::from(slot_of(key)) * shards as u64) >> 14) as usize,
        Routing::WholeKey => hash(key),
        Routing::Hashtag => hash(hashtag(key)),
    };
    // For a power of two that is the low bits.
    (hash % shards as u64) as usize
}

/// The slot of `key` in a Redis cluster.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hashtag(key)) & 0x3fff
}

/// What lies between the first opening brace and the first closing one behind it, or the whole key if that is nothing.
#[inline]
fn hashtag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let tag = key.get(open + 1..).unwrap_or_default();
    match memchr::memchr(b'}', tag) {
        Some(close) if close > 0 => tag.get(..close).unwrap_or(key),
        _ => key,
    }
}

/// The sums of one byte, for [`crc16`].
static SUMS: [u16; 256] = sums();

const fn sums() -> [u16; 256] {
    let mut sums = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 != 0 { (sum << 1) ^ 0x1021 } else { sum << 1 };
            bit += 1;
        }
        sums[byte] = sum;
        byte += 1;
    }
    sums
}

/// CRC-16 as clusters use it (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ SUMS[usize::from((sum >> 8) as u8 ^ byte)])
}

/// kevy's hash of a key: the byte hash of rustc-hash 2 in its 64-bit form on every machine, and murmur3's finish.
fn hash(bytes: &[u8]) -> u64 {
    let (first, second) = absorb(bytes);
    finish(fold(first, second) ^ bytes.len() as u64)
}

/// The two halves of the state, behind all bytes. The last sixteen are taken whatever was taken before them.
fn absorb(bytes: &[u8]) -> (u64, u64) {
    const FIRST: u64 = 0x243f_6a88_85a3_08d3;
    const SECOND: u64 = 0x1319_8a2e_0370_7344;
    const AGAINST_ZEROS: u64 = 0xa409_3822_299f_31d0;
    if bytes.len() <= 16 {
        let (low, high) = ends(bytes);
        return (FIRST ^ low, SECOND ^ high);
    }
    let (mut first, mut second) = (FIRST, SECOND);
    let mut rest = bytes.get(..bytes.len() - 1).unwrap_or_default();
    while let Some((block, behind)) = rest.split_first_chunk::<16>() {
        let (low, high) = ends(block);
        (first, second) = (second, fold(first ^ low, AGAINST_ZEROS ^ high));
        rest = behind;
    }
    let (low, high) = bytes.last_chunk::<16>().map_or((0, 0), |block| ends(block));
    (first ^ low, second ^ high)
}

/// The beginning and the end of at most sixteen bytes, as two words. They overlap where there are fewer.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*low), u64::from_le_bytes(*high));
    }
    if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from(u32::from_le_bytes(*low)), u64::from(u32::from_le_bytes(*high)));
    }
    match (bytes.first(), bytes.get(bytes.len() / 2), bytes.last()) {
        (Some(low), Some(middle), Some(high)) => (u64::from(*low), u64::from(*high) << 8 | u64::from(*middle)),
        _ => (0, 0),
    }
}

/// The halves of the product, one over the other.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// murmur3's `fmix64`.
#[inline]
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kevy-hash 7.0.0 and kevy-rt 7.0.0 say: the hash; the shard of four by it and by the tag, the shard of three by
    /// the tag; the slot.
    const KNOWN: &[(&str, u64, usize, usize, usize, u16)] = &[
        ("", 0xa47e_4914_af8c_afbc, 0, 0, 2, 0),
        ("a", 0xac53_b2c7_027b_4092, 2, 2, 1, 15495),
        ("b", 0x515d_def4_8f86_aec3, 3, 3, 2, 3300),
        ("ab", 0xe9f5_fabb_0b9d_3e7f, 3, 3, 0, 13567),
        ("k1", 0x79b3_6450_7a80_162d, 1, 1, 2, 12706),
        ("k2", 0xf375_4b0f_e77b_053a, 2, 2, 0, 449),
        ("k3", 0xadbe_7de2_b69d_d2d6, 2, 2, 1, 4576),
        ("user", 0x4743_7c62_b0e2_6842, 2, 2, 2, 5474),
        ("q", 0xeb20_f085_794e_d4ae, 2, 2, 1, 11958),
        ("live:0:0", 0x07f6_b769_aada_96aa, 2, 2, 1, 11205),
        ("snap:1", 0x4209_15d1_eb0d_eb2c, 0, 0, 1, 9802),
        ("12345678", 0xfd21_f92e_8902_ef94, 0, 0, 0, 4117),
        ("user:1000", 0xab68_7921_b088_fb48, 0, 0, 2, 1649),
        ("0123456789abcdef", 0x73aa_805e_445e_5ddc, 0, 0, 1, 10405),
        ("0123456789abcdefg", 0xc44f_f0bd_3f0b_26be, 2, 2, 1, 1383),
        ("{user1000}.following", 0xbc0c_05be_1a20_735f, 3, 2, 0, 3443),
        ("{user1000}.followers", 0x9f18_dcac_4e2a_6237, 3, 2, 0, 3443),
        ("foo{}{bar}", 0x8070_9a02_cb5e_3852, 2, 2, 0, 8363),
        ("foo{{bar}}zap", 0xe3e1_e00e_9c32_7e5d, 1, 1, 0, 4015),
        ("foo{bar", 0x8aae_7cc2_06d0_e04d, 1, 1, 2, 15278),
        ("a{b}c{d}", 0x8cd8_d7c2_3596_36d5, 1, 3, 2, 3300),
        ("\0\0\0\0", 0x78cf_5814_afa5_9da8, 0, 0, 2, 0),
    ];

    #[test]
    fn keys_lie_where_kevy_puts_them() {
        for &(key, hashed, whole, four, three, slot) in KNOWN {
            let key = key.as_bytes();
            assert_eq!(hash(key), hashed, "{}", key.escape_ascii());
            assert_eq!(shard_of(key, 4, Routing::WholeKey), whole, "{}", key.escape_ascii());
            assert_eq!(shard_of(key, 4, Routing::Hashtag), four, "{}", key.escape_ascii());
            assert_eq!(shard_of(key, 3, Routing::Hashtag), three, "{}", key.escape_ascii());
            assert_eq!(shard_of(key, 2, Routing::Hashtag), four % 2, "{}", key.escape_ascii());
            assert_eq!(slot_of(key), slot, "{}", key.escape_ascii());
        }
        assert_eq!(hash(&[b'x'; 100]), 0xccfa_78d8_1ffe_1e69, "several blocks");
    }

    #[test]
    fn shards_of_a_cluster_own_runs_of_slots() {
        for (key, of_three) in [("k2", 0), ("b", 0), ("12345678", 0), ("snap:1", 1), ("k1", 2), ("a", 2)] {
            assert_eq!(shard_of(key.as_bytes(), 3, Routing::Slots), of_three, "{key}");
        }
    }

    #[test]
    fn every_key_lies_in_exactly_one_shard() {
        for routing in [Routing::WholeKey, Routing::Hashtag, Routing::Slots] {
            for shards in [0, 1] {
                assert_eq!(shard_of(b"key", shards, routing), 0);
            }
            for shards in 1..40 {
                let holders = (0..shards).filter(|&shard| Share { routing, shards, shard }.holds(b"{some}key"));
                assert_eq!(holders.count(), 1);
            }
        }
    }
}
