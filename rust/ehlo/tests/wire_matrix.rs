//! Table 6a: everything that looks like the end of the data, under each policy, whole, at every split, and octet by
//! octet (S-DAT-06). This is what SMTP smuggling lives on (RFC 5321 2.3.8, 4.1.1.4).

use ehlo::wire::content::{BareNewlines, ContentFlags};
use ehlo::wire::dot::{Decoded, DotDecoder};

/// What follows each variant; the second part is the next command.
const BEHIND: &[u8] = b"more\r\n.\r\n";
const NEXT: &[u8] = b"NOOP\r\n";

struct Row {
    number: u32,
    octets: &'static [u8],
    /// The variant itself is the end.
    ends: bool,
    normalized: &'static [u8],
    as_is: &'static [u8],
    flags: ContentFlags,
}

const CLEAN: ContentFlags = ContentFlags {
    bare_cr: false,
    bare_lf: false,
    nul: false,
    eight_bit: false,
    long_line: false,
    no_final_crlf: false,
};
const CR: ContentFlags = ContentFlags { bare_cr: true, ..CLEAN };
const LF: ContentFlags = ContentFlags { bare_lf: true, ..CLEAN };
const BOTH: ContentFlags = ContentFlags { bare_cr: true, bare_lf: true, ..CLEAN };
const NUL: ContentFlags = ContentFlags { nul: true, ..CLEAN };
const HIGH: ContentFlags = ContentFlags { eight_bit: true, ..CLEAN };

const fn end(number: u32, octets: &'static [u8], normalized: &'static [u8], as_is: &'static [u8]) -> Row {
    Row { number, octets, ends: true, normalized, as_is, flags: CLEAN }
}

const fn no(
    number: u32,
    octets: &'static [u8],
    normalized: &'static [u8],
    as_is: &'static [u8],
    flags: ContentFlags,
) -> Row {
    Row { number, octets, ends: false, normalized, as_is, flags }
}

/// S-DAT-01 to S-DAT-10.
const TABLE: &[Row] = &[
    end(1, b"a\r\n.\r\n", b"a\r\n", b"a\r\n"),
    end(2, b".\r\n", b"", b""),
    end(3, b"\r\n.\r\n", b"\r\n", b"\r\n"),
    no(4, b"a\n.\n", b"a\r\n.\r\n", b"a\n.\n", LF),
    no(5, b"a\n.\r\n", b"a\r\n.\r\n", b"a\n.\r\n", LF),
    no(6, b"a\r\n.\n", b"a\r\n\r\n", b"a\r\n\n", LF),
    no(7, b"a\r\n.\r", b"a\r\n\r\n", b"a\r\n\r", CR),
    no(8, b"a\r.\r", b"a\r\n.\r\n", b"a\r.\r", CR),
    no(9, b"a\r.\r\n", b"a\r\n.\r\n", b"a\r.\r\n", CR),
    no(10, b"a\r.\n", b"a\r\n.\r\n", b"a\r.\n", BOTH),
    no(10, b"a\n.\r", b"a\r\n.\r\n", b"a\n.\r", BOTH),
    no(11, b"a\r\n.\r\r\n", b"a\r\n\r\n\r\n", b"a\r\n\r\r\n", CR),
    Row { flags: CR, ..end(12, b"a\r\r\n.\r\n", b"a\r\n\r\n", b"a\r\r\n") },
    Row { flags: LF, ..end(13, b"a\n\r\n.\r\n", b"a\r\n\r\n", b"a\n\r\n") },
    no(14, b"a\n\n.\n\n", b"a\r\n\r\n.\r\n\r\n", b"a\n\n.\n\n", LF),
    no(14, b"a\n\r.\n\r", b"a\r\n\r\n.\r\n\r\n", b"a\n\r.\n\r", BOTH),
    no(15, b"a\r\n\x00.\r\n", b"a\r\n\x00.\r\n", b"a\r\n\x00.\r\n", NUL),
    no(16, b"a\r\n.\x00\r\n", b"a\r\n\x00\r\n", b"a\r\n\x00\r\n", NUL),
    no(
        17,
        b"a\r\x00\n.\r\n",
        b"a\r\n\x00\r\n.\r\n",
        b"a\r\x00\n.\r\n",
        ContentFlags { nul: true, bare_cr: true, bare_lf: true, ..CLEAN },
    ),
    no(18, b"a\r\n. \r\n", b"a\r\n \r\n", b"a\r\n \r\n", CLEAN),
    no(18, b"a\r\n.\t\r\n", b"a\r\n\t\r\n", b"a\r\n\t\r\n", CLEAN),
    no(19, b"a\r\n..\r\n", b"a\r\n.\r\n", b"a\r\n.\r\n", CLEAN),
    no(20, b"a\r\n\x85.\r\n", b"a\r\n\x85.\r\n", b"a\r\n\x85.\r\n", HIGH),
    no(20, b"a\xe2\x80\xa8.\r\n", b"a\xe2\x80\xa8.\r\n", b"a\xe2\x80\xa8.\r\n", HIGH),
    no(20, b"a\x0b.\x0b", b"a\x0b.\x0b", b"a\x0b.\x0b", CLEAN),
    no(20, b"a\x0c.\x0c", b"a\x0c.\x0c", b"a\x0c.\x0c", CLEAN),
];

const POLICIES: [BareNewlines; 3] = [BareNewlines::Reject, BareNewlines::Normalize, BareNewlines::Allow];

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    content: Vec<u8>,
    /// Octets up to the end of the data, or all.
    consumed: usize,
    done: bool,
    flags: ContentFlags,
    octets: u64,
}

fn decode(policy: BareNewlines, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = DotDecoder::new(policy);
    let (mut content, mut consumed, mut done) = (Vec::new(), 0, false);
    for piece in pieces {
        let decoded: Decoded = decoder.decode(piece, &mut content);
        assert!(decoded.done || decoded.consumed == piece.len(), "what is no end is state, not leftover");
        consumed += decoded.consumed;
        done = decoded.done;
        if done {
            break;
        }
    }
    Outcome { content, consumed, done, flags: decoder.flags(), octets: decoder.octets() }
}

/// S-DAT-06: the result does not depend on the splits.
fn decode_every_way(policy: BareNewlines, wire: &[u8]) -> Outcome {
    let whole = decode(policy, &[wire]);
    for one in 0..=wire.len() {
        for two in one..=wire.len() {
            let split = decode(policy, &[&wire[..one], &wire[one..two], &wire[two..]]);
            assert_eq!(split, whole, "{:?} split at {one} and {two}", wire.escape_ascii().to_string());
        }
    }
    assert_eq!(decode(policy, &wire.chunks(1).collect::<Vec<_>>()), whole, "octet by octet");
    whole
}

/// Checks a row with other octets before it, to bring it to another place in the decoder's blocks.
fn check(row: &Row, lead: &[u8], every_way: bool) {
    let wire = [lead, row.octets, BEHIND, NEXT].concat();
    for policy in POLICIES {
        let variant = if policy == BareNewlines::Normalize { row.normalized } else { row.as_is };
        let rest: &[u8] = if row.ends { b"" } else { b"more\r\n" };
        let behind = if row.ends { 0 } else { BEHIND.len() };
        let expected = Outcome {
            content: [lead, variant, rest].concat(),
            consumed: lead.len() + row.octets.len() + behind,
            done: true,
            flags: row.flags,
            octets: (lead.len() + row.as_is.len() + rest.len()) as u64,
        };
        let outcome = if every_way { decode_every_way(policy, &wire) } else { decode(policy, &[&wire]) };
        assert_eq!(outcome, expected, "row {} under {policy:?} behind {} octets", row.number, lead.len());
    }
}

#[test]
fn every_row_under_every_policy() {
    for row in TABLE {
        check(row, b"", true);
        check(row, b"Subject: x\r\n\r\n", true);
    }
}

#[test]
fn every_row_at_every_place_of_a_block() {
    for row in TABLE {
        for length in (0..700).chain(2000..2200) {
            let lead: Vec<u8> = vec![b'x'; length].chunks(70).flat_map(|line| [line, b"\r\n"].concat()).collect();
            check(row, &lead, false);
        }
    }
}

/// S-DAT-08: 550 for a bare newline, 250 for the rest.
#[test]
fn the_rows_that_reject_refuses() {
    for row in TABLE {
        let refused = matches!(row.number, 4..=14 | 17);
        assert_eq!(row.flags.bare(), refused, "row {}", row.number);
    }
}

/// S-DAT-17: row 21.
#[test]
fn a_cut_off_end_is_no_end() {
    for policy in POLICIES {
        for wire in [&b"a\r\n."[..], b"a\r\n.\r"] {
            let outcome = decode_every_way(policy, wire);
            assert_eq!((outcome.done, &outcome.content[..]), (false, &b"a\r\n"[..]));
        }
    }
}

/// Row 22: a pause anywhere in a true end.
#[test]
fn a_pause_in_the_end_changes_nothing() {
    let wire = b"a\r\n.\r\n";
    for policy in POLICIES {
        for split in 0..wire.len() {
            assert!(!decode(policy, &[&wire[..split]]).done);
            let outcome = decode(policy, &[&wire[..split], b"", &wire[split..]]);
            assert_eq!((outcome.done, &outcome.content[..]), (true, &b"a\r\n"[..]));
        }
    }
}

/// Row 23: a message smuggled behind a false end stays content.
#[test]
fn smuggled_commands_stay_content() {
    let smuggled = b"MAIL FROM:<x@y>\r\nRCPT TO:<z@w>\r\nDATA\r\n";
    for row in TABLE.iter().filter(|row| (4..=11).contains(&row.number)) {
        let wire = [row.octets, smuggled].concat();
        for policy in POLICIES {
            let outcome = decode_every_way(policy, &wire);
            assert_eq!((outcome.done, outcome.consumed), (false, wire.len()), "row {}", row.number);
            assert!(outcome.content.ends_with(smuggled) && outcome.flags.bare());
        }
    }
}

/// S-DAT-07: what follows the end is left to the command reader, whole.
#[test]
fn the_next_command_is_left_alone() {
    for policy in POLICIES {
        let wire = b".\r\nMAIL FROM:<c@d>\r\nRC";
        assert_eq!(decode_every_way(policy, wire).consumed, 3);
    }
}
