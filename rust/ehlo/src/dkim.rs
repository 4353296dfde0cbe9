//! The canonical forms that DKIM signs (RFC 6376 3.4), and the header fields of a message as they stand.
//!
//! Everything here is linear in the input, whatever the input: each octet is looked at once, and a run of white space
//! or of empty lines is counted, never searched again. Digests and keys are the caller's.

use core::fmt;
use core::ops::Range;

use memchr::{memchr, memchr2};

/// How much of its white space a message may lose on the way before its signature breaks (RFC 6376 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonicalization {
    /// Nothing but empty lines at the end of the body (RFC 6376 3.4.1, 3.4.3).
    Simple,
    /// White space is reduced, and the names of fields are in lower case (RFC 6376 3.4.2, 3.4.4).
    Relaxed,
}

/// Why a message has no signature that everybody reads in the same way. The number is the octet's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A CR without its LF, or an LF without its CR, stands in the header section (RFC 5322 2.2).
    BareNewline(usize),
    /// White space stands between a field's name and its colon, which only obsolete syntax allows (RFC 5322 4.5).
    SpaceBeforeColon(usize),
    /// A line of the header section is no field and continues none (RFC 5322 2.2).
    NoField(usize),
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareNewline(at) => write!(f, "a bare CR or LF stands in the header section, at octet {at}"),
            Self::SpaceBeforeColon(at) => write!(f, "white space stands before a field's colon, at octet {at}"),
            Self::NoField(at) => write!(f, "a line of the header section is no field, at octet {at}"),
        }
    }
}

impl std::error::Error for FieldError {}

/// Where the header fields of a message stand, each without its last CRLF, and where the body begins.
///
/// A message without an empty line is all header section, and its body is empty.
///
/// # Errors
/// At the first line that is no field, and at what other programs read in another way.
pub fn fields(content: &[u8]) -> Result<(Vec<Range<usize>>, usize), FieldError> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let line_end = match memchr2(b'\r', b'\n', &content[at..]) {
            None => content.len(),
            Some(length) if content[at + length..].starts_with(b"\r\n") => at + length,
            Some(length) => return Err(FieldError::BareNewline(at + length)),
        };
        let line = &content[at..line_end];
        let next = (line_end + 2).min(content.len());
        match (line.first(), found.last_mut()) {
            (None, _) => return Ok((found, next)),
            (Some(b' ' | b'\t'), Some(field)) => field.end = line_end,
            (Some(_), _) => {
                let length = line.iter().position(|octet| !matches!(octet, b'!'..=b'9' | b';'..=b'~'));
                match length.map(|length| (length, line[length])) {
                    Some((1.., b':')) => found.push(at..line_end),
                    Some((length @ 1.., b' ' | b'\t')) if is_colon_next(&line[length..]) => {
                        return Err(FieldError::SpaceBeforeColon(at + length));
                    }
                    _ => return Err(FieldError::NoField(at)),
                }
            }
        }
        at = next;
    }
    Ok((found, content.len()))
}

fn is_colon_next(rest: &[u8]) -> bool {
    rest.iter().find(|octet| !is_space(**octet)) == Some(&b':')
}

/// The next CR or LF. A call of `memchr2` costs more than a few octets, and some input is nothing but line ends.
#[inline]
fn next_line_end(piece: &[u8]) -> Option<usize> {
    let (near, far) = piece.split_at(piece.len().min(16));
    match near.iter().position(|octet| matches!(octet, b'\r' | b'\n')) {
        None => memchr2(b'\r', b'\n', far).map(|at| at + near.len()),
        found => found,
    }
}

const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Appends the canonical form of one field, which is given without its last CRLF (RFC 6376 3.4.1, 3.4.2). No CRLF is
/// appended: the signature's own field has none (RFC 6376 3.7).
pub fn header(field: &[u8], form: Canonicalization, out: &mut Vec<u8>) {
    if form == Canonicalization::Simple {
        out.extend_from_slice(field);
        return;
    }
    let colon = memchr(b':', field).unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    if value.is_empty() {
        return;
    }
    out.push(b':');
    let start = out.len();
    let mut space = false;
    for &octet in &value[1..] {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => space = true,
            octet => {
                if space && out.len() > start {
                    out.push(b' ');
                }
                space = false;
                out.push(octet);
            }
        }
    }
}

/// The canonical form of a body that comes in pieces (RFC 6376 3.4.3, 3.4.4).
///
/// Empty lines are kept back as a number until something follows them, so memory is bounded.
#[derive(Clone, Debug)]
pub struct BodyCanonicalizer {
    form: Canonicalization,
    /// Empty lines that go out only if something follows.
    empty_lines: u64,
    /// The line that is being read has something that went out.
    in_line: bool,
    /// White space that goes out, as one space, only if something follows in its line.
    space: bool,
    /// A CR that waits for its LF.
    carriage_return: bool,
    /// Something went out.
    begun: bool,
    bare_newline: bool,
}

impl BodyCanonicalizer {
    /// For one body.
    #[must_use]
    pub const fn new(form: Canonicalization) -> Self {
        Self {
            form,
            empty_lines: 0,
            in_line: false,
            space: false,
            carriage_return: false,
            begun: false,
            bare_newline: false,
        }
    }

    /// Whether a CR without its LF, or an LF without its CR, was seen. It was taken as any other octet.
    #[must_use]
    pub const fn has_bare_newline(&self) -> bool {
        self.bare_newline
    }

    /// Appends what is certain by now.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() + 2);
        if self.carriage_return && !piece.is_empty() {
            self.carriage_return = false;
            if piece[0] == b'\n' {
                self.end_line(out);
                piece = &piece[1..];
            } else {
                self.bare(b'\r', out);
            }
        }
        while !piece.is_empty() {
            let found = match self.form {
                Canonicalization::Simple => next_line_end(piece),
                Canonicalization::Relaxed => {
                    piece.iter().position(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n'))
                }
            };
            let at = found.unwrap_or(piece.len());
            if at > 0 {
                self.text(&piece[..at], out);
            }
            let rest = &piece[at..];
            let used = match rest {
                [] => 0,
                [b'\r', b'\n', ..] => {
                    self.end_line(out);
                    2
                }
                [b'\r'] => {
                    self.carriage_return = true;
                    1
                }
                [octet @ (b'\r' | b'\n'), ..] => {
                    self.bare(*octet, out);
                    1
                }
                _ => {
                    self.space = true;
                    rest.iter().position(|octet| !is_space(*octet)).unwrap_or(rest.len())
                }
            };
            piece = &rest[used..];
        }
    }

    /// Appends the rest. The body is over.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.carriage_return {
            self.carriage_return = false;
            self.bare(b'\r', out);
        }
        // RFC 6376 3.4.3, 3.4.4: a last line without CRLF gets one; an empty body is CRLF if simple, nothing if relaxed.
        if self.in_line || (!self.begun && self.form == Canonicalization::Simple) {
            out.extend_from_slice(b"\r\n");
        }
    }

    #[inline]
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for _ in 0..core::mem::take(&mut self.empty_lines) {
            out.extend_from_slice(b"\r\n");
        }
        if core::mem::take(&mut self.space) {
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.in_line = true;
        self.begun = true;
    }

    #[inline]
    fn bare(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.bare_newline = true;
        self.text(&[octet], out);
    }

    #[inline]
    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.space = false;
        if core::mem::take(&mut self.in_line) {
            out.extend_from_slice(b"\r\n");
        } else {
            self.empty_lines += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(form: Canonicalization, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut canonicalizer = BodyCanonicalizer::new(form);
        canonicalizer.feed(text, &mut out);
        canonicalizer.finish(&mut out);
        out
    }

    fn field(form: Canonicalization, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        header(text, form, &mut out);
        out
    }

    /// RFC 6376 3.4.5, the examples of both forms.
    #[test]
    fn the_examples_of_rfc_6376_3_4_5() {
        use Canonicalization::{Relaxed, Simple};
        let text = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(body(Relaxed, text), b" C\r\nD E\r\n");
        assert_eq!(body(Simple, text), b" C \r\nD \t E\r\n");
        assert_eq!(field(Relaxed, b"A: X"), b"a:X");
        assert_eq!(field(Relaxed, b"B : Y\t\r\n\tZ  "), b"b:Y Z");
        assert_eq!(field(Simple, b"B : Y\t\r\n\tZ  "), b"B : Y\t\r\n\tZ  ");
    }

    /// RFC 6376 3.4.3, 3.4.4: bodies of nothing.
    #[test]
    fn an_empty_body_is_a_line_or_nothing() {
        for text in [&b""[..], b"\r\n", b"\r\n\r\n"] {
            assert_eq!(body(Canonicalization::Simple, text), b"\r\n");
            assert_eq!(body(Canonicalization::Relaxed, text), b"");
        }
        assert_eq!(body(Canonicalization::Relaxed, b" \t\r\n  \r\n"), b"");
        assert_eq!(body(Canonicalization::Simple, b" \t"), b" \t\r\n");
        assert_eq!(body(Canonicalization::Relaxed, b"a"), b"a\r\n");
    }

    #[test]
    fn fields_are_found_where_they_stand() {
        let text = b"A: x\r\nB: y\r\n z\r\n\r\nbody";
        let (found, start) = fields(text).unwrap();
        let found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, [&b"A: x"[..], b"B: y\r\n z"]);
        assert_eq!(&text[start..], b"body");
        assert_eq!(fields(b"").unwrap(), (vec![], 0));
        assert_eq!(fields(b"A: x").unwrap().1, 4);
    }

    #[test]
    fn what_others_read_differently_is_refused() {
        assert_eq!(fields(b"A: x\ny\r\n\r\n"), Err(FieldError::BareNewline(4)));
        assert_eq!(fields(b"A: x\ry\r\n\r\n"), Err(FieldError::BareNewline(4)));
        assert_eq!(fields(b"A : x\r\n\r\n"), Err(FieldError::SpaceBeforeColon(1)));
        assert_eq!(fields(b" A: x\r\n\r\n"), Err(FieldError::NoField(0)));
        assert_eq!(fields(b"A: x\r\nnone\r\n\r\n"), Err(FieldError::NoField(6)));
        assert_eq!(fields(b": x\r\n\r\n"), Err(FieldError::NoField(0)));
    }

    #[test]
    fn bare_newlines_are_seen_across_pieces() {
        for (pieces, bare) in
            [(&[&b"a\r"[..], b"\nb"][..], false), (&[b"a\r", b"b"], true), (&[b"a", b"\nb"], true), (&[b"a\r"], true)]
        {
            let mut out = Vec::new();
            let mut canonicalizer = BodyCanonicalizer::new(Canonicalization::Relaxed);
            for piece in pieces {
                canonicalizer.feed(piece, &mut out);
            }
            canonicalizer.finish(&mut out);
            assert_eq!(canonicalizer.has_bare_newline(), bare, "{pieces:?}");
        }
    }
}
