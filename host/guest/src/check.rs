//! Nothing that a plugin says is believed: arity, codes, order, ranges and sizes are checked here, in one pass each,
//! before an answer is applied.

use crate::spec::limits;
use crate::wire::Edits;

/// How many of `asked` things are dropped. An empty answer keeps all.
pub(crate) fn verdicts(verdicts: &[u8], asked: usize) -> Result<usize, String> {
    if verdicts.is_empty() {
        return Ok(0);
    }
    if verdicts.len() != asked {
        return Err(format!("answered {} verdicts to {asked} questions", verdicts.len()));
    }
    if let Some(code) = verdicts.iter().fold(0, |all, code| all | code).checked_sub(2) {
        return Err(format!("answered with a verdict that is neither 0 (keep) nor 1 (drop): at least {}", code + 2));
    }
    Ok(verdicts.iter().map(|code| usize::from(*code)).sum())
}

/// Whether the edits of `asked` keys obey the contract.
pub(crate) fn edits(edits: &Edits, asked: usize, output_bytes: usize) -> Result<(), String> {
    let Edits { indexes, offsets, data } = edits;
    if indexes.is_empty() {
        let nothing = data.is_empty() && (offsets.is_empty() || offsets.as_slice() == [0]);
        return if nothing { Ok(()) } else { Err("answered with data for no key".into()) };
    }
    if indexes.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("answered with indexes that do not ascend".into());
    }
    if indexes.last().is_some_and(|last| *last as usize >= asked) {
        return Err(format!("answered for a key that was not asked about ({asked} were)"));
    }
    if offsets.len() != indexes.len() + 1 || offsets.first() != Some(&0) {
        return Err(format!("answered {} offsets for {} names", offsets.len(), indexes.len()));
    }
    if offsets.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err("answered with offsets that go back".into());
    }
    if offsets.last().map(|last| *last as usize) != Some(data.len()) {
        return Err(format!("answered with offsets that do not end with the data ({} bytes)", data.len()));
    }
    if data.len() > output_bytes {
        return Err(format!("answered {} bytes where {output_bytes} are allowed", data.len()));
    }
    if offsets.windows(2).any(|pair| (pair[1] - pair[0]) as usize > limits::NAME_BYTES_MAX) {
        return Err(format!("answered with a name of more than {} bytes", limits::NAME_BYTES_MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_arity_of_the_question() {
        assert_eq!(verdicts(&[], 3), Ok(0));
        assert_eq!(verdicts(&[0, 1, 1], 3), Ok(2));
        assert!(verdicts(&[0, 1], 3).is_err());
        assert!(verdicts(&[0, 1, 0, 0], 3).is_err());
        assert!(verdicts(&[0, 2, 0], 3).is_err());
    }

    #[test]
    fn edits_that_break_any_rule_are_refused() {
        let check = |indexes: &[u32], offsets: &[u32], data: &[u8]| {
            edits(&Edits { indexes: indexes.into(), offsets: offsets.into(), data: data.into() }, 3, 8)
        };
        assert!(check(&[], &[], b"").is_ok());
        assert!(check(&[], &[0], b"").is_ok());
        assert!(check(&[0, 2], &[0, 1, 3], b"abc").is_ok());
        assert!(check(&[1], &[0, 0], b"").is_ok(), "the empty name is a name");
        for (indexes, offsets, data) in [
            (&[][..], &[][..], &b"x"[..]),
            (&[2, 0], &[0, 1, 2], b"ab"),
            (&[1, 1], &[0, 1, 2], b"ab"),
            (&[3], &[0, 1], b"a"),
            (&[0], &[0], b""),
            (&[0], &[1, 1], b"a"),
            (&[0, 1], &[0, 2, 1], b"a"),
            (&[0], &[0, 2], b"a"),
            (&[0], &[0, 1], b"ab"),
            (&[0], &[0, 9], b"123456789"),
        ] {
            assert!(check(indexes, offsets, data).is_err(), "{indexes:?} {offsets:?} {data:?}");
        }
    }
}
