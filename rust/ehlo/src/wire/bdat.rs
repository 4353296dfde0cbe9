//! Framing by length (RFC 3030 2).

/// What is left of one BDAT chunk.
///
/// ```
/// # use ehlo::wire::bdat::BdatChunk;
/// let mut chunk = BdatChunk::new(3);
/// assert_eq!(chunk.take(b"ab"), b"ab");
/// assert_eq!(chunk.take(b"cNOOP\r\n"), b"c");
/// assert!(chunk.done());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BdatChunk {
    size: u64,
    remaining: u64,
}

impl BdatChunk {
    /// A chunk of that many octets, as its command announced it.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, remaining: size }
    }

    /// Octets still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Octets that have come.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.size - self.remaining
    }

    /// Takes from the front of the input what belongs to the chunk.
    #[must_use]
    pub fn take<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let n = usize::try_from(self.remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        self.remaining -= n as u64;
        &input[..n]
    }

    /// Whether every octet has come. True from the start for `BDAT 0`.
    #[must_use]
    pub fn done(&self) -> bool {
        self.remaining == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S-BDT-02, S-BDT-05: exactly that many octets, whatever they look like
    #[test]
    fn takes_what_was_announced() {
        let input = b"\r\n.\r\nQUIT\r\n";
        for split in 0..=input.len() {
            let mut chunk = BdatChunk::new(5);
            let mut got = chunk.take(&input[..split]).to_vec();
            let rest = [&input[got.len()..split], &input[split..]].concat();
            got.extend_from_slice(chunk.take(&rest));
            assert_eq!((&got[..], chunk.done()), (&b"\r\n.\r\n"[..], true));
        }
    }

    // S-BDT-04, S-BDT-16
    #[test]
    fn nothing_and_everything() {
        let mut none = BdatChunk::new(0);
        assert!(none.done());
        assert_eq!(none.take(b"QUIT\r\n"), b"");
        let mut all = BdatChunk::new(u64::MAX);
        assert_eq!(all.take(b"abc"), b"abc");
        assert_eq!((all.remaining(), all.done()), (u64::MAX - 3, false));
    }
}
