//! LZF, as far as key names and function libraries need it: unpacking, with the result's length known and enforced.

use alloc::vec::Vec;

/// Room made ahead of the bytes: beyond it the buffer grows only as bytes come out.
const RESERVE_MAX: usize = 64 * 1024;

/// The packed bytes are broken, or do not unpack to the length they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Unpacks `packed` into `out`, which is emptied first; the result has exactly `original` bytes.
///
/// A control byte below 32 announces that many literal bytes and one more. Any other is a reference back: three bits of
/// length (7: a further byte of length follows), then thirteen bits of distance. References may overlap what they produce.
pub(super) fn unpack(packed: &[u8], original: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
    out.clear();
    out.reserve(original.min(RESERVE_MAX));
    let mut rest = packed;
    while let Some(control) = next(&mut rest) {
        if control < 32 {
            let (literals, after) = rest.split_at_checked(control + 1).ok_or(Broken)?;
            out.extend_from_slice(literals);
            rest = after;
        } else {
            let mut length = (control >> 5) + 2;
            if length == 9 {
                length += next(&mut rest).ok_or(Broken)?;
            }
            let distance = ((control & 31) << 8 | next(&mut rest).ok_or(Broken)?) + 1;
            copy_back(out, distance, length)?;
        }
        if out.len() > original {
            return Err(Broken);
        }
    }
    if out.len() == original { Ok(()) } else { Err(Broken) }
}

/// Takes the first byte of `rest`.
fn next(rest: &mut &[u8]) -> Option<usize> {
    rest.split_off_first().map(|&byte| usize::from(byte))
}

/// Appends `length` bytes which begin `distance` bytes before the end.
fn copy_back(out: &mut Vec<u8>, distance: usize, mut length: usize) -> Result<(), Broken> {
    let from = out.len().checked_sub(distance).ok_or(Broken)?;
    while length > 0 {
        let piece = length.min(out.len() - from);
        out.extend_from_within(from..from + piece);
        length -= piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], original: usize) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        unpack(packed, original, &mut out).map(|()| out)
    }

    #[test]
    fn literals_and_references_unpack() {
        assert_eq!(unpacked(&[2, b'a', b'b', b'c'], 3).unwrap(), b"abc");
        assert_eq!(unpacked(&[0, b'a', 0x40, 0], 5).unwrap(), b"aaaaa", "a reference may overlap its own output");
        assert_eq!(unpacked(&[1, b'a', b'b', 0xe0, 3, 1], 14).unwrap(), b"ababababababab", "the long form of a length");
        assert_eq!(unpacked(&[], 0).unwrap(), b"");
    }

    #[test]
    fn a_wrong_length_or_a_wild_reference_is_refused() {
        assert_eq!(unpacked(&[2, b'a', b'b', b'c'], 4), Err(Broken), "too short");
        assert_eq!(unpacked(&[2, b'a', b'b', b'c'], 2), Err(Broken), "too long");
        assert_eq!(unpacked(&[2, b'a', b'b'], 3), Err(Broken), "literals cut off");
        assert_eq!(unpacked(&[0, b'a', 0x20, 1], 4), Err(Broken), "a reference before the beginning");
        assert_eq!(unpacked(&[0, b'a', 0x20], 4), Err(Broken), "a reference without its distance");
        assert_eq!(unpacked(&[0, b'a', 0xe0], 4), Err(Broken), "a reference without its length");
    }
}
