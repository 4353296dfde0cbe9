//! The canonical forms of DKIM against naive ones, in any pieces; what is canonical stays so; fields are where they stand.
#![no_main]

use ehlo::dkim::{BodyCanonicalizer, Canonicalization, FieldError, fields, header};
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

/// White space as one space, and none at the end (RFC 6376 3.4.2, 3.4.4).
fn reduced(text: &[u8], is_space: impl Fn(u8) -> bool) -> Vec<u8> {
    let (mut out, mut space) = (Vec::new(), false);
    for &octet in text {
        if is_space(octet) {
            space = true;
            continue;
        }
        if space {
            out.push(b' ');
        }
        space = false;
        out.push(octet);
    }
    out
}

fn lines(body: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut start, mut at) = (Vec::new(), 0, 0);
    while at < body.len() {
        if body[at..].starts_with(b"\r\n") {
            lines.push(&body[start..at]);
            at += 2;
            start = at;
        } else {
            at += 1;
        }
    }
    lines.push(&body[start..]);
    lines
}

/// RFC 6376 3.4.3, 3.4.4.
fn naive_body(body: &[u8], form: Canonicalization) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = lines(body)
        .into_iter()
        .map(|line| match form {
            Canonicalization::Simple => line.to_vec(),
            Canonicalization::Relaxed => reduced(line, |octet| matches!(octet, b' ' | b'\t')),
        })
        .collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if lines.is_empty() && form == Canonicalization::Simple {
        lines.push(Vec::new());
    }
    lines.iter().flat_map(|line| [&line[..], b"\r\n"].concat()).collect()
}

/// RFC 6376 3.4.2.
fn naive_header(field: &[u8]) -> Vec<u8> {
    let colon = field.iter().position(|octet| *octet == b':').unwrap_or(field.len());
    let name = field[..colon].trim_ascii_end().to_ascii_lowercase();
    if colon == field.len() {
        return name;
    }
    let value = reduced(&field[colon + 1..], |octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n'));
    [&name[..], b":", value.strip_prefix(b" ").unwrap_or(&value)].concat()
}

fn body<'a>(pieces: impl Iterator<Item = &'a [u8]>, form: Canonicalization) -> (Vec<u8>, bool) {
    let (mut canonicalizer, mut out) = (BodyCanonicalizer::new(form), Vec::new());
    pieces.for_each(|piece| canonicalizer.feed(piece, &mut out));
    canonicalizer.finish(&mut out);
    (out, canonicalizer.has_bare_newline())
}

fn canonical(field: &[u8], form: Canonicalization) -> Vec<u8> {
    let mut out = Vec::new();
    header(field, form, &mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((cuts, content)) = data.split_at_checked(4) else { return };

    let bare = lines(content).iter().any(|line| line.iter().any(|octet| matches!(octet, b'\r' | b'\n')));
    for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
        let (got, seen) = body(pieces(cuts, content), form);
        assert_eq!(got, naive_body(content, form));
        assert_eq!(seen, bare);
        assert_eq!(body([&got[..]].into_iter(), form).0, got);
    }

    assert_eq!(canonical(content, Canonicalization::Simple), content);
    let relaxed = canonical(content, Canonicalization::Relaxed);
    assert_eq!(relaxed, naive_header(content));
    assert_eq!(canonical(&relaxed, Canonicalization::Relaxed), relaxed);

    match fields(content) {
        Ok((found, start)) => {
            let mut section = Vec::new();
            for range in found {
                assert!(content[range.clone()].contains(&b':'));
                section.extend_from_slice(&content[range]);
                section.extend_from_slice(b"\r\n");
            }
            // What is left of the section is the empty line; without one the last line may have no CRLF.
            let separated = [&section[..], b"\r\n"].concat();
            assert!(content[..start] == separated || (start == content.len() && section.starts_with(content)));
        }
        Err(FieldError::BareNewline(at)) => assert!(matches!(content[at], b'\r' | b'\n')),
        Err(FieldError::SpaceBeforeColon(at)) => assert!(matches!(content[at], b' ' | b'\t')),
        Err(FieldError::NoField(at)) => assert!(at == 0 || content[..at].ends_with(b"\r\n")),
    }
});
