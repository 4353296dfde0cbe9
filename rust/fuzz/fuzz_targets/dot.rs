//! The dot codec against a naive one, in any pieces; and decode(encode(x)) = x with its line ends made CRLF.
#![no_main]

use ehlo::wire::content::BareNewlines;
use ehlo::wire::dot::{DotDecoder, DotEncoder, EncodePolicy, dot_stuff};
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

/// Content, octets of the wire up to the end of the data, and whether there is a bare CR or LF.
fn naive(wire: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut content, mut at) = (Vec::new(), 0);
    while at < wire.len() {
        if at == 0 || wire[..at].ends_with(b"\r\n") {
            if wire[at..].starts_with(b".\r\n") {
                at += 3;
                break;
            }
            at += usize::from(wire[at] == b'.'); // RFC 5321 4.5.2
        }
        content.push(wire[at]);
        at += 1;
    }
    let bare = normal(&content) != content;
    (content, at, bare)
}

/// A CRLF for each CRLF, bare CR and bare LF.
fn normal(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (at, octet) in content.iter().enumerate() {
        match octet {
            b'\n' if at > 0 && content[at - 1] == b'\r' => {}
            b'\r' | b'\n' => lines.extend_from_slice(b"\r\n"),
            _ => lines.push(*octet),
        }
    }
    lines
}

fuzz_target!(|data: &[u8]| {
    let Some((cuts, content)) = data.split_at_checked(4) else { return };

    let wire = [content, b"\r\n.\r\nNOOP\r\n"].concat();
    let (expected, end, bare) = naive(&wire);
    for policy in [BareNewlines::Reject, BareNewlines::Normalize, BareNewlines::Allow] {
        let (mut decoder, mut got, mut used, mut done) = (DotDecoder::new(policy), Vec::new(), 0, false);
        for piece in pieces(cuts, &wire) {
            let decoded = decoder.decode(piece, &mut got);
            assert!(decoded.done || decoded.consumed == piece.len());
            used += decoded.consumed;
            done = decoded.done;
        }
        assert_eq!((done, used, decoder.flags().bare()), (true, end, bare));
        assert_eq!(decoder.octets(), expected.len() as u64);
        assert_eq!(got, if policy == BareNewlines::Normalize { normal(&expected) } else { expected.clone() });
    }

    let (mut encoder, mut stuffed) = (DotEncoder::new(EncodePolicy::Normalize), Vec::new());
    pieces(cuts, content).for_each(|piece| encoder.encode(piece, &mut stuffed).unwrap());
    encoder.finish(&mut stuffed).unwrap();
    assert_eq!(stuffed, dot_stuff(content));
    let mut lines = normal(content);
    if !lines.is_empty() && !lines.ends_with(b"\r\n") {
        lines.extend_from_slice(b"\r\n");
    }
    assert_eq!(naive(&stuffed), (lines, stuffed.len(), false));
});
