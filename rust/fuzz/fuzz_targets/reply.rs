//! Replies in any pieces are the same replies, and fail the same; what was read is written, and read again the same.
#![no_main]

use ehlo::syntax::reply::{Reply, ReplyLimits, ReplyParseError, ReplyParser, parse_reply};
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

const LIMITS: ReplyLimits = ReplyLimits { line: 64, challenge_line: 96, total: 256, lines: 6, lenient: false };

fn replies<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<ReplyParseError>) {
    let (mut parser, mut replies) = (ReplyParser::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            match parser.feed(piece, &LIMITS) {
                Ok(fed) => {
                    assert!(fed.reply.is_some() || fed.consumed == piece.len());
                    piece = &piece[fed.consumed..];
                    replies.extend(fed.reply);
                }
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((cuts, input)) = data.split_at_checked(4) else { return };
    let whole = replies(std::iter::once(input));
    assert_eq!(whole, replies(pieces(cuts, input)));
    for reply in whole.0 {
        let mut written = Vec::new();
        reply.write(&mut written);
        assert!(
            written.split_inclusive(|octet| *octet == b'\n').all(|line| line.len() <= 512 && line.ends_with(b"\r\n"))
        );
        let again = parse_reply(&written).expect("what was written can be parsed");
        assert_eq!((again.code(), again.enhanced()), (reply.code(), reply.enhanced()));
        // One or more SP stand behind an enhanced code (RFC 2034 3), so those at the start of a text are not told from it.
        let mut second = Vec::new();
        again.write(&mut second);
        assert_eq!(words(&second), words(&written));
    }
});

fn words(octets: &[u8]) -> Vec<String> {
    octets.escape_ascii().to_string().split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
