//! Byte classes, named after the rules of the RFCs that define them. One table, one bit a class.

/// `atext` (RFC 5322 3.2.3), of which `Atom` and `Dot-string` are made (RFC 5321 4.1.2).
pub(super) const ATEXT: u8 = 1;
/// `Let-dig = ALPHA / DIGIT` (RFC 5321 4.1.2).
pub(super) const LET_DIG: u8 = 1 << 1;
/// What `Ldh-str` is made of: `ALPHA / DIGIT / "-"`; an `esmtp-keyword` behind its first character is the same.
pub(super) const LDH: u8 = 1 << 2;
/// `qtextSMTP = %d32-33 / %d35-91 / %d93-126` (RFC 5321 4.1.2).
pub(super) const QTEXT: u8 = 1 << 3;
/// `esmtp-value = 1*(%d33-60 / %d62-126)` (RFC 5321 4.1.2).
pub(super) const ESMTP_VALUE: u8 = 1 << 4;
/// `dcontent = %d33-90 / %d94-126` (RFC 5321 4.1.3).
pub(super) const DCONTENT: u8 = 1 << 5;
/// The underscore, which no rule allows in a domain and many hosts have there.
pub(super) const UNDERSCORE: u8 = 1 << 6;
/// `UTF8-non-ascii` (RFC 6531 3.3). Text is known to be well-formed before this is asked.
pub(super) const UTF8_NON_ASCII: u8 = 1 << 7;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let b = octet as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric() {
            class |= ATEXT | LET_DIG | LDH;
        }
        if b == b'-' {
            class |= LDH;
        }
        if b == b'_' {
            class |= UNDERSCORE;
        }
        if matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^' | b'_' | b'`'
        ) || matches!(b, b'{' | b'|' | b'}' | b'~')
        {
            class |= ATEXT;
        }
        if matches!(b, 32..=33 | 35..=91 | 93..=126) {
            class |= QTEXT;
        }
        if matches!(b, 33..=60 | 62..=126) {
            class |= ESMTP_VALUE;
        }
        if matches!(b, 33..=90 | 94..=126) {
            class |= DCONTENT;
        }
        if b >= 0x80 {
            class |= UTF8_NON_ASCII;
        }
        table[octet] = class;
        octet += 1;
    }
    table
};

/// Whether `octet` is in one of `classes`.
#[inline]
pub(super) const fn is(octet: u8, classes: u8) -> bool {
    CLASSES[octet as usize] & classes != 0
}

/// How many octets of `text` from `start` on are in one of `classes`.
#[inline]
pub(super) fn run(text: &[u8], start: usize, classes: u8) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    rest.iter().position(|&octet| !is(octet, classes)).unwrap_or(rest.len())
}

/// Whether `text` is `word`, in any case, if neither holds a control octet: those are what setting bit 5 mixes up with
/// digits and `-`. The length is known to the compiler, which makes a few comparisons of it.
#[inline]
pub(super) fn is_word<const N: usize>(text: &[u8], word: &[u8; N]) -> bool {
    match text.first_chunk::<N>() {
        Some(octets) if text.len() == N => {
            let mut differ = 0;
            for (octet, letter) in octets.iter().zip(word) {
                differ |= (octet | 0x20) ^ (letter | 0x20);
            }
            differ == 0
        }
        _ => false,
    }
}

/// What may not stand in a command, wherever: NUL, other controls and DEL (RFC 5321 4.1.2).
#[inline]
pub(super) const fn is_control(octet: u8) -> bool {
    octet < b' ' || octet == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    // B-ADR-10
    #[test]
    fn atext_is_what_rfc_5322_lists() {
        let listed = b"!#$%&'*+-/=?^_`{|}~";
        for octet in 0..=255u8 {
            assert_eq!(is(octet, ATEXT), octet.is_ascii_alphanumeric() || listed.contains(&octet), "{octet}");
        }
    }

    // B-ADR-11, B-PAR-01
    #[test]
    fn ranges_are_those_of_rfc_5321() {
        for octet in 0..=255u8 {
            assert_eq!(is(octet, QTEXT), (0x20..=0x7e).contains(&octet) && octet != b'"' && octet != b'\\');
            assert_eq!(is(octet, ESMTP_VALUE), (0x21..=0x7e).contains(&octet) && octet != b'=');
            assert_eq!(is(octet, DCONTENT), (0x21..=0x7e).contains(&octet) && !b"[\\]".contains(&octet));
        }
    }
}
