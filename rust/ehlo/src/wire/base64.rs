//! Base64 (RFC 4648 4), read strictly.

use std::error::Error;
use std::fmt;

/// What is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base64Error {
    /// The first octet of the group that cannot be read.
    pub offset: usize,
}

impl fmt::Display for Base64Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed base64 at octet {}", self.offset)
    }
}

impl Error for Base64Error {}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Not in the alphabet.
const FOREIGN: u8 = 0x80;

const VALUES: [u8; 256] = {
    let mut values = [FOREIGN; 256];
    let mut value = 0;
    while value < 64 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Writes base64 with padding (RFC 4648 4), in one line.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        for digit in quad(group) {
            out.push(digit.into());
        }
    }
    out
}

/// Writes base64 (RFC 4648 4) behind what is in `out`.
pub fn encode_into(octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        out.extend_from_slice(&quad(group));
    }
}

/// The four digits of up to three octets.
fn quad(group: &[u8]) -> [u8; 4] {
    let octet = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
    let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
    std::array::from_fn(|i| if i > group.len() { b'=' } else { ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] })
}

/// Reads base64 (RFC 4648 4): no foreign octet, no white space, padding complete and at the end only, and the bits
/// that padding leaves over are zero, so that each value has one form (RFC 4648 3.5).
///
/// # Errors
/// At the first group of four that breaks this.
///
/// ```
/// # use ehlo::wire::base64;
/// assert_eq!(base64::decode(b"AGEAYg==").unwrap(), b"\0a\0b");
/// assert!(base64::decode(b"AGEAYg").is_err());
/// ```
pub fn decode(text: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (groups, rest) = text.as_chunks::<4>();
    for (i, group) in groups.iter().enumerate() {
        let error = Base64Error { offset: 4 * i };
        let last = i + 1 == groups.len() && rest.is_empty();
        let padding = match group {
            [.., b'=', b'='] if last => 2,
            [.., b'='] if last => 1,
            _ => 0,
        };
        let digits = group[..4 - padding].iter().map(|&digit| VALUES[usize::from(digit)]);
        let (bits, seen) = digits.fold((0u32, 0), |(bits, seen), value| (bits << 6 | u32::from(value), seen | value));
        let bits = bits << (6 * padding);
        let [_, octets @ ..] = bits.to_be_bytes();
        let (octets, over) = octets.split_at(3 - padding);
        if seen & FOREIGN != 0 || over.iter().any(|&o| o != 0) {
            return Err(error);
        }
        out.extend_from_slice(octets);
    }
    if rest.is_empty() { Ok(out) } else { Err(Base64Error { offset: text.len() - rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4648 10
    #[test]
    fn vectors() {
        for (octets, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xbf", "+/+/"),
        ] {
            assert_eq!(encode(octets), text);
            assert_eq!(decode(text.as_bytes()).unwrap(), octets);
            let mut out = b"x".to_vec();
            encode_into(octets, &mut out);
            assert_eq!(out[1..], *text.as_bytes());
        }
    }

    // S-AUT-11
    #[test]
    fn nothing_but_base64_is_read() {
        for (text, offset) in [
            (&b"=AAA"[..], 0),
            (b"AAA=BBB", 0),
            (b"AA A", 0),
            (b"AAA", 0),
            (b"AA==AA==", 0),
            (b"=", 0),
            (b"====", 0),
            (b"A===", 0),
            (b"AA=A", 0),
            (b"AAAAAA", 4),
            (b"AAAA\r\n", 4),
            (b"AAAAAA=", 4),
            (b"AA-_", 0),
            (b"\xc3\x84AA", 0),
            (b"Zh==", 0),
            (b"Zm9=", 0),
            (b"AAAA=", 4),
            (b"AA==\n", 0),
        ] {
            assert_eq!(decode(text), Err(Base64Error { offset }), "{:?}", text.escape_ascii());
        }
    }
}
