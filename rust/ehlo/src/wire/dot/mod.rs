//! The dot: content that is framed by a line of its own (RFC 5321 4.5.2), read and written.

use std::error::Error;
use std::fmt;

use super::content::{BareNewlines, ContentFlags};

mod decode;
mod encode;

pub use decode::{Decoded, DotDecoder};
pub use encode::{BareNewline, DotEncoder, EncodePolicy};

/// Content in its dot-stuffed form, with the final line of the dot (RFC 5321 4.5.2); bare CRs and LFs become CRLFs.
#[must_use]
pub fn dot_stuff(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 32 + 8);
    let mut encoder = DotEncoder::new(EncodePolicy::Normalize);
    let done = encoder.encode(content, &mut wire).and_then(|()| encoder.finish(&mut wire));
    debug_assert_eq!(done, Ok(()), "normalising never fails");
    wire
}

/// What [`dot_unstuff`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstuffed {
    /// The content, its bare CRs and LFs as they were.
    pub content: Vec<u8>,
    /// Octets up to and with the line of the dot.
    pub consumed: usize,
    /// What was found in the content.
    pub flags: ContentFlags,
}

/// The end of the data is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content has no end: CRLF, a dot, CRLF")
    }
}

impl Error for Incomplete {}

/// Takes content out of its dot-stuffed form (RFC 5321 4.5.2).
///
/// # Errors
/// If the end of the data is not in it.
pub fn dot_unstuff(wire: &[u8]) -> Result<Unstuffed, Incomplete> {
    let (mut decoder, mut content) = (DotDecoder::new(BareNewlines::Allow), Vec::with_capacity(wire.len()));
    let Decoded { consumed, done } = decoder.decode(wire, &mut content);
    if done { Ok(Unstuffed { content, consumed, flags: decoder.flags() }) } else { Err(Incomplete) }
}
