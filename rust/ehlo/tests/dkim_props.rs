//! DKIM's canonical forms: any split gives the same, and so does a slow reading of RFC 6376 3.4.

use ehlo::dkim::{BodyCanonicalizer, Canonicalization, fields, header};
use proptest::prelude::*;

const FORMS: [Canonicalization; 2] = [Canonicalization::Simple, Canonicalization::Relaxed];

fn body(form: Canonicalization, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut canonicalizer = BodyCanonicalizer::new(form);
    for piece in pieces {
        canonicalizer.feed(piece, &mut out);
    }
    canonicalizer.finish(&mut out);
    (out, canonicalizer.has_bare_newline())
}

/// RFC 6376 3.4.3 and 3.4.4 to the letter, line by line.
fn slowly(form: Canonicalization, text: &str) -> String {
    let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    if form == Canonicalization::Relaxed {
        for line in &mut lines {
            let lead = line.starts_with([' ', '\t']);
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            *line = format!("{}{}", if lead && !words.is_empty() { " " } else { "" }, words.join(" "));
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    match (lines.is_empty(), form) {
        (true, Canonicalization::Relaxed) => String::new(),
        (true, Canonicalization::Simple) => "\r\n".to_owned(),
        (false, _) => lines.join("\r\n") + "\r\n",
    }
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just(" "), Just("\t"), Just("\r\n"), Just("a"), Just("bc"), Just("é")], 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_body_is_as_the_rfc_says(text in text()) {
        for form in FORMS {
            prop_assert_eq!(body(form, &[text.as_bytes()]), (slowly(form, &text).into_bytes(), false));
        }
    }

    #[test]
    fn any_split_gives_the_same(
        octets in prop::collection::vec(prop_oneof![Just(b' '), Just(b'\t'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
        cut in 0_usize..60,
    ) {
        for form in FORMS {
            let whole = body(form, &[&octets]);
            let (before, after) = octets.split_at(cut.min(octets.len()));
            prop_assert_eq!(&body(form, &[before, after]), &whole);
            let single: Vec<&[u8]> = octets.chunks(1).collect();
            prop_assert_eq!(&body(form, &single), &whole);
        }
    }

    #[test]
    fn nothing_panics_and_fields_are_within(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        for form in FORMS {
            header(&octets, form, &mut out);
        }
        if let Ok((found, start)) = fields(&octets) {
            prop_assert!(start <= octets.len());
            prop_assert!(found.iter().all(|range| range.start < range.end && range.end <= start));
        }
    }
}
