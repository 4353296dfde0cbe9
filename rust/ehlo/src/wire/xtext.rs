//! xtext (RFC 3461 4) and its relative for internationalised addresses (RFC 6533 3).

use std::error::Error;
use std::fmt;

/// What is not xtext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtextError {
    /// The octet that cannot be there, or the length of the text if it ends too early.
    pub offset: usize,
}

impl fmt::Display for XtextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed encoding at octet {}", self.offset)
    }
}

impl Error for XtextError {}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// An octet that stands for itself in xtext (RFC 3461 4, `xchar`).
fn is_xchar(octet: u8) -> bool {
    matches!(octet, b'!'..=b'~') && octet != b'+' && octet != b'='
}

/// An octet that stands for itself in `utf-8-addr-xtext` (RFC 6533 3, `QCHAR`).
fn is_qchar(octet: u8) -> bool {
    is_xchar(octet) && octet != b'\\'
}

fn hex(octet: u8, lower: bool) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        b'a'..=b'f' if lower => Some(octet - b'a' + 10),
        _ => None,
    }
}

/// Reads xtext (RFC 3461 4). Empty text is xtext, and any octet may come out.
///
/// # Errors
/// At the first octet that may not be where it is.
///
/// ```
/// # use ehlo::wire::xtext;
/// assert_eq!(xtext::decode(b"Bob+2Bx@y").unwrap(), b"Bob+x@y");
/// assert!(xtext::decode(b"a+2").is_err());
/// ```
pub fn decode(text: &[u8]) -> Result<Vec<u8>, XtextError> {
    decode_hex(text, false)
}

/// Reads xtext whose hex digits may be lower case, which RFC 3461 4 does not allow.
///
/// # Errors
/// At the first octet that may not be where it is.
pub fn decode_lenient(text: &[u8]) -> Result<Vec<u8>, XtextError> {
    decode_hex(text, true)
}

fn decode_hex(text: &[u8], lower: bool) -> Result<Vec<u8>, XtextError> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        if is_xchar(octet) {
            out.push(octet);
            at += 1;
            continue;
        }
        if octet != b'+' {
            return Err(XtextError { offset: at });
        }
        let digit = |offset: usize| text.get(offset).and_then(|&o| hex(o, lower)).ok_or(XtextError { offset });
        out.push(digit(at + 1)? << 4 | digit(at + 2)?);
        at += 3;
    }
    Ok(out)
}

/// Writes xtext (RFC 3461 4), escaping only what must be.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() + 8);
    for &octet in octets {
        escape(octet, &mut |c| out.push(c.into()));
    }
    out
}

/// Writes xtext (RFC 3461 4) behind what is in `out`.
pub fn encode_into(octets: &[u8], out: &mut Vec<u8>) {
    for &octet in octets {
        escape(octet, &mut |c| out.push(c));
    }
}

fn escape(octet: u8, push: &mut impl FnMut(u8)) {
    if is_xchar(octet) {
        push(octet);
    } else {
        push(b'+');
        push(HEX[usize::from(octet >> 4)]);
        push(HEX[usize::from(octet & 15)]);
    }
}

/// Reads `utf-8-addr-xtext` and `utf-8-addr-unitext` (RFC 6533 3): UTF-8 with `\x{HEX}` for what cannot stand as it is.
///
/// The grammar is kept to the letter: the shortest form of 2 to 6 digits, no surrogate, nothing that could stand for
/// itself, and no way to write NUL, CR or LF.
///
/// # Errors
/// At the first octet that may not be where it is; on empty text.
///
/// ```
/// # use ehlo::wire::xtext;
/// assert_eq!(xtext::decode_utf8_addr(br"\x{FC}@x").unwrap(), "ü@x");
/// assert!(xtext::decode_utf8_addr(br"\x{41}").is_err());
/// ```
pub fn decode_utf8_addr(text: &[u8]) -> Result<String, XtextError> {
    let valid = std::str::from_utf8(text).map_err(|error| XtextError { offset: error.valid_up_to() })?;
    if valid.is_empty() {
        return Err(XtextError { offset: 0 });
    }
    let mut out = String::with_capacity(valid.len());
    let mut rest = valid;
    while let Some(c) = rest.chars().next() {
        let offset = valid.len() - rest.len();
        if c == '\\' {
            let (escape, behind) = rest.split_once('}').ok_or(XtextError { offset: valid.len() })?;
            let escaped = escape.strip_prefix(r"\x{").and_then(code_point);
            out.push(escaped.ok_or(XtextError { offset })?);
            rest = behind;
        } else if !c.is_ascii() || u8::try_from(c).is_ok_and(is_qchar) {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            return Err(XtextError { offset });
        }
    }
    Ok(out)
}

/// RFC 6533 3, `HEXPOINT`.
fn code_point(digits: &str) -> Option<char> {
    // ABNF strings know no case (RFC 5234 2.3), so the digits of a HEXPOINT may be lower case.
    if !(2..=6).contains(&digits.len()) || !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(digits, 16).ok()?;
    let shortest = match digits.len() {
        // The grammar has %x01-09, 10-19, 20, 2B, 3D, 5C, 7F and all above; 0A-0F and 1A-1F it leaves out, and with
        // them CR and LF.
        2 => matches!(code, 0x01..=0x09 | 0x10..=0x19 | 0x20 | 0x2b | 0x3d | 0x5c | 0x7f..),
        n => code >> (4 * (n - 1)) != 0,
    };
    if shortest { char::from_u32(code) } else { None }
}

/// Writes `utf-8-addr-xtext` (RFC 6533 3), the form of seven bits.
///
/// The control characters 00, 0A to 0F and 1A to 1F have no form; they are written in a way that a reader refuses. No
/// address holds them (RFC 6531 3.3).
#[must_use]
pub fn encode_utf8_addr(address: &str) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(address.len() + 16);
    for c in address.chars() {
        if u8::try_from(c).is_ok_and(is_qchar) {
            out.push(c);
        } else {
            let written = write!(out, r"\x{{{:02X}}}", u32::from(c));
            debug_assert!(written.is_ok(), "a String takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // B-PAR-19
    #[test]
    fn xtext_by_the_grammar() {
        for (text, octets) in [
            (&b""[..], &b""[..]),
            (b"+3D", b"="),
            (b"QQ+2B1", b"QQ+1"),
            (b"e+3Dmc2@x.y", b"e=mc2@x.y"),
            (b"+00+FF", b"\0\xff"),
        ] {
            assert_eq!(decode(text).unwrap(), octets);
            assert_eq!(decode_lenient(text).unwrap(), octets);
            assert_eq!(encode(octets).as_bytes(), text);
        }
        for (text, offset) in [
            (&b"+3d"[..], 2),
            (b"+G0", 1),
            (b"+", 1),
            (b"a+2", 3),
            (b"a=b", 1),
            (b"a b", 1),
            (b"\x7f", 0),
            (b"\xc3", 0),
        ] {
            assert_eq!(decode(text), Err(XtextError { offset }), "{:?}", text.escape_ascii());
        }
        assert_eq!(decode_lenient(b"+3d+aF").unwrap(), b"=\xaf");
        assert!(decode_lenient(b"+g0").is_err());
    }

    // B-PAR-19
    #[test]
    fn every_octet_comes_back() {
        for octet in 0..=255 {
            let text = encode(&[octet]);
            assert_eq!(decode(text.as_bytes()).unwrap(), [octet]);
            assert_eq!(text.len() == 1, (0x21..=0x7e).contains(&octet) && octet != b'+' && octet != b'=');
            let mut out = b"x".to_vec();
            encode_into(&[octet], &mut out);
            assert_eq!(out[1..], *text.as_bytes());
        }
    }

    // S-PAR-23
    #[test]
    fn utf8_addresses() {
        for (text, address) in [
            (r"\x{FC}@x", "ü@x"),
            ("ü@x", "ü@x"),
            (r"\x{5C}\x{2B}\x{3D}\x{20}\x{7F}\x{01}\x{10}", "\\+= \x7f\x01\x10"),
            (r"\x{20AC}\x{1F600}\x{10FFFF}\x{D7FF}\x{E000}\x{80}\x{fc}", "€😀\u{10FFFF}\u{D7FF}\u{E000}\u{80}ü"),
        ] {
            assert_eq!(decode_utf8_addr(text.as_bytes()).unwrap(), address);
            assert_eq!(decode_utf8_addr(encode_utf8_addr(address).as_bytes()).unwrap(), address);
        }
        assert_eq!(encode_utf8_addr("ü+é=\\ €😀@x"), r"\x{FC}\x{2B}\x{E9}\x{3D}\x{5C}\x{20}\x{20AC}\x{1F600}@x");
        for text in [
            "",
            "+",
            "=",
            " ",
            "\\",
            r"\x",
            r"\x{",
            r"\x{FC",
            r"\x{}",
            r"\x{F}",
            r"\X{FC}",
            r"\{FC}",
            r"\x{41}",
            r"\x{7E}",
            r"\x{00}",
            r"\x{0A}",
            r"\x{0D}",
            r"\x{1F}",
            r"\x{0FC}",
            r"\x{00FC}",
            r"\x{D800}",
            r"\x{DFFF}",
            r"\x{110000}",
            r"\x{01F600}",
            r"\x{0010FFFF}",
            r"\x{+FC}",
            r"\x{ü}",
            "a\tb",
            "a\x7f",
        ] {
            assert!(decode_utf8_addr(text.as_bytes()).is_err(), "{text}");
        }
    }

    // B-ADR-27
    #[test]
    fn malformed_utf8_is_refused() {
        for text in [&b"a\xc0\xaf"[..], b"a\xed\xa0\x80", b"a\xc3", b"a\xf4\x90\x80\x80"] {
            assert_eq!(decode_utf8_addr(text), Err(XtextError { offset: 1 }));
        }
    }
}
