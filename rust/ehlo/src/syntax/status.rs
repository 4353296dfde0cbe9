//! Enhanced status codes (RFC 3463) and their registry (RFC 5248).

use std::fmt;

/// `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl EnhancedCode {
    /// The code `class.subject.detail`, unchecked: see [`EnhancedCode::is_valid`].
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Whether the numbers fit the grammar.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self.class, 2 | 4 | 5) && self.subject <= 999 && self.detail <= 999
    }

    /// Reads a code from the beginning of `text`, with SP or the end behind it, and says how long it is.
    ///
    /// ```abnf
    /// status-code = class "." subject "." detail      ; RFC 3463 2
    /// class = "2"/"4"/"5"    subject = 1*3digit    detail = 1*3digit
    /// ```
    /// Leading zeros are not allowed there.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<(Self, usize)> {
        let (class, rest) = match text {
            [class @ (b'2' | b'4' | b'5'), b'.', rest @ ..] => (class - b'0', rest),
            _ => return None,
        };
        let (subject, length) = number(rest)?;
        let rest = rest[length..].strip_prefix(b".")?;
        let (detail, detail_length) = number(rest)?;
        match rest.get(detail_length) {
            None | Some(b' ') => Some((Self { class, subject, detail }, 3 + length + detail_length)),
            Some(_) => None,
        }
    }

    /// Whether subject and detail are in the registry of RFC 5248, and the class is one that may be.
    #[must_use]
    pub const fn is_registered(self) -> bool {
        let known = match self.subject {
            // X.1.9 RFC 3886, X.1.10 RFC 7505
            1 => self.detail <= 10,
            2 => self.detail <= 4,
            // X.3.6 RFC 6710
            3 => self.detail <= 6,
            4 => self.detail <= 7,
            // X.5.6 RFC 4954
            5 => self.detail <= 6,
            // X.6.6 RFC 4468, X.6.7 to X.6.10 RFC 6531
            6 => self.detail <= 10,
            // X.7.8 to X.7.14 RFC 4954 and 5248, .15 .16 RFC 6710, .17 to .19 RFC 7293, .20 to .26 RFC 7372,
            // .27 RFC 7505, .28 RFC 8904?, .29 RFC 8617, .30 RFC 8689
            7 => self.detail <= 30,
            0 => self.detail == 0,
            _ => false,
        };
        matches!(self.class, 2 | 4 | 5) && known
    }
}

/// `1*3digit` without a leading zero.
fn number(text: &[u8]) -> Option<(u16, usize)> {
    if let [digit @ b'0'..=b'9', b'.' | b' ', ..] = text {
        return Some((u16::from(digit - b'0'), 1)); // nearly every number
    }
    let length = text.iter().take(4).take_while(|octet| octet.is_ascii_digit()).count();
    if length == 0 || length > 3 || (length > 1 && text[0] == b'0') {
        return None;
    }
    Some((text[..length].iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0')), length))
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // B-RPL-22
    #[test]
    fn grammar() {
        for (text, code, length) in [
            ("5.1.1", (5, 1, 1), 5),
            ("5.7.30 TLS required", (5, 7, 30), 6),
            ("2.0.0 OK", (2, 0, 0), 5),
            ("4.999.999", (4, 999, 999), 9),
        ] {
            let (class, subject, detail) = code;
            let expected = EnhancedCode::new(class, subject, detail);
            assert_eq!(EnhancedCode::parse(text.as_bytes()), Some((expected, length)));
            assert_eq!(expected.to_string(), text[..length]);
        }
        for text in
            ["5.01.1", "3.1.1", "5.1", "5.1.1234", "5.1.1.1", "5..1", "5.1.", "", "5", "5.1.1x", "1.2.3", "5.1.00"]
        {
            assert_eq!(EnhancedCode::parse(text.as_bytes()), None, "{text}");
        }
    }

    // S-RPL-25, S-OTH-05
    #[test]
    fn registry() {
        for (class, subject, detail) in
            [(5, 1, 1), (5, 1, 10), (5, 7, 27), (5, 7, 20), (5, 7, 26), (5, 6, 7), (4, 7, 0)]
        {
            assert!(EnhancedCode::new(class, subject, detail).is_registered());
        }
        for (class, subject, detail) in [(5, 1, 11), (5, 8, 0), (3, 0, 0), (5, 7, 99), (5, 0, 1)] {
            assert!(!EnhancedCode::new(class, subject, detail).is_registered());
        }
    }
}
