//! Headers of bulk strings, made without a buffer that has to be kept.

/// The text `$<length>\r\n`.
pub(super) struct Head {
    text: [u8; 24],
    at: usize,
}

impl Head {
    /// The header of a bulk string of `len` bytes.
    #[inline]
    pub(super) fn new(len: usize) -> Self {
        let mut head = Self { text: [0; 24], at: 22 };
        let mut left = len;
        head.text[22..].copy_from_slice(b"\r\n");
        loop {
            head.at -= 1;
            head.text[head.at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        head.at -= 1;
        head.text[head.at] = b'$';
        head
    }

    /// Its bytes.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or(&[])
    }
}
