//! The bytes floor against slow and obvious code, in any split.

use ehlo::wire::bdat::BdatChunk;
use ehlo::wire::content::{BareNewlines, ContentFlags, ContentReader};
use ehlo::wire::dot::{BareNewline, DotDecoder, DotEncoder, EncodePolicy, dot_stuff, dot_unstuff};
use ehlo::wire::line::{LineEnds, LineScanner, Scan};
use ehlo::wire::{base64, xtext};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

// ---------------------------------------------------------------------------------------------------- generators

/// Octets in which everything that matters is frequent.
fn short() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&b"\r\n.\r\n.\r\n.ab\x00\xff+\t"[..]), 0..24)
}

/// Equal lines, of octets of every kind. Two of 0x9c add up to a dot behind an LF in eight bits.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let octets = prop_oneof![6 => Just(b'x'), 1 => select(&b"\x00\t+.\x9c\xff"[..])];
    (octets, prop_oneof![0usize..90, 0usize..5], prop_oneof![8 => 0usize..40, 1 => 0usize..150])
        .prop_map(|(octet, width, lines)| [&vec![octet; width][..], b"\r\n"].concat().repeat(lines))
}

/// Long enough for the quick loop, with clean stretches, long lines, and trouble in between.
fn long() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => lines(),
        2 => (980usize..1010).prop_map(|width| vec![b'y'; width]),
        2 => (0usize..600).prop_map(|width| vec![b'z'; width]),
        4 => short(),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r\n.\r\n".to_vec()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![short(), long(), vec(any::<u8>(), 0..200)]
}

fn policy() -> impl Strategy<Value = BareNewlines> {
    select(&[BareNewlines::Reject, BareNewlines::Normalize, BareNewlines::Allow][..])
}

/// Sizes of reads, used round and round.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1usize..4, 1usize..100, 1usize..5000], 1..8)
}

fn pieces<'a>(mut octets: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if octets.is_empty() {
            break;
        }
        let (piece, rest) = octets.split_at(octets.len().min(*size));
        pieces.push(piece);
        octets = rest;
    }
    pieces
}

/// Every way to cut in two, and single octets; long input at some places only.
fn splits(octets: &[u8]) -> Vec<Vec<&[u8]>> {
    let step = octets.len() / 64 + 1;
    let mut splits: Vec<Vec<&[u8]>> =
        (0..=octets.len()).step_by(step).map(|at| vec![&octets[..at], &octets[at..]]).collect();
    splits.push(octets.chunks(1).collect());
    splits
}

// ------------------------------------------------------------------------------------------------ obvious references

/// Makes a CRLF of each bare CR and LF. A CR at the very end may still become half of a CRLF.
fn normalized(octets: &[u8], whole: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, &octet) in octets.iter().enumerate() {
        if octet == b'\n' && (i == 0 || octets[i - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
        let next = octets.get(i + 1);
        if octet == b'\r' && next != Some(&b'\n') && (next.is_some() || whole) {
            out.push(b'\n');
        }
    }
    out
}

fn find_crlf(octets: &[u8]) -> Option<usize> {
    octets.windows(2).position(|pair| pair == b"\r\n")
}

/// What the flags say of whole content: S-DAT-09, S-DAT-10, S-DAT-11, B-LIN-16, S-LIN-17.
fn flags(octets: &[u8], policy: BareNewlines) -> ContentFlags {
    let bare_lf = |i: usize| octets[i] == b'\n' && (i == 0 || octets[i - 1] != b'\r');
    let bare_cr = |i: usize| octets[i] == b'\r' && octets.get(i + 1) != Some(&b'\n');
    let put = if policy == BareNewlines::Normalize { normalized(octets, true) } else { octets.to_vec() };
    let (mut rest, mut long_line) = (&put[..], false);
    while let Some(at) = find_crlf(rest) {
        long_line |= at + 2 > 1000;
        rest = &rest[at + 2..];
    }
    ContentFlags {
        bare_cr: (0..octets.len()).any(bare_cr),
        bare_lf: (0..octets.len()).any(bare_lf),
        nul: octets.contains(&0),
        eight_bit: !octets.is_ascii(),
        long_line: long_line || rest.len() + 2 > 1000,
        no_final_crlf: !rest.is_empty(),
    }
}

struct Naive {
    /// Unstuffed, as it came.
    content: Vec<u8>,
    /// Octets up to the end of the data, if it came.
    end: Option<usize>,
}

/// RFC 5321 4.5.2, line by line.
fn unstuff(wire: &[u8]) -> Naive {
    let (mut content, mut at) = (Vec::new(), 0);
    while let Some(length) = find_crlf(&wire[at..]) {
        let line = &wire[at..at + length];
        at += length + 2;
        if line == b"." {
            return Naive { content, end: Some(at) };
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
    }
    let rest = &wire[at..];
    if rest != b".\r" {
        content.extend_from_slice(rest.strip_prefix(b".").unwrap_or(rest));
    }
    Naive { content, end: None }
}

/// RFC 5321 4.5.2, line by line.
fn stuff(content: &[u8]) -> Vec<u8> {
    let mut content = normalized(content, true);
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    let (mut rest, mut wire) = (&content[..], Vec::new());
    while let Some(at) = find_crlf(rest) {
        if rest.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 2..];
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn first_bare(octets: &[u8]) -> Option<u64> {
    (0..octets.len())
        .find(|&i| match octets[i] {
            b'\n' => i == 0 || octets[i - 1] != b'\r',
            b'\r' => octets.get(i + 1) != Some(&b'\n'),
            _ => false,
        })
        .map(|i| i as u64)
}

// -------------------------------------------------------------------------------------------------------- checks

fn check_decoder(wire: &[u8], policy: BareNewlines, pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let naive = unstuff(wire);
    let (mut decoder, mut out, mut consumed, mut done) = (DotDecoder::new(policy), Vec::new(), 0, false);
    for piece in pieces {
        let decoded = decoder.decode(piece, &mut out);
        consumed += decoded.consumed;
        done = decoded.done;
        prop_assert!(done || decoded.consumed == piece.len());
        if done {
            break;
        }
    }
    prop_assert_eq!(done.then_some(consumed), naive.end);
    prop_assert_eq!(decoder.octets(), naive.content.len() as u64);
    let put = if policy == BareNewlines::Normalize { normalized(&naive.content, done) } else { naive.content.clone() };
    prop_assert!(out == put, "{} is not {}", out.escape_ascii(), put.escape_ascii());
    if done {
        prop_assert_eq!(decoder.flags(), flags(&naive.content, policy));
    }
    Ok(())
}

fn check_encoder(content: &[u8], pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let run = |policy| {
        let (mut encoder, mut wire) = (DotEncoder::new(policy), Vec::new());
        let result: Result<(), BareNewline> = pieces
            .iter()
            .try_for_each(|piece| encoder.encode(piece, &mut wire))
            .and_then(|()| encoder.finish(&mut wire));
        (wire, result)
    };
    let expected = stuff(content);
    let (wire, result) = run(EncodePolicy::Normalize);
    prop_assert_eq!(result, Ok(()));
    prop_assert!(wire == expected, "{} is not {}", wire.escape_ascii(), expected.escape_ascii());
    let (wire, result) = run(EncodePolicy::Reject);
    match first_bare(content) {
        None => {
            prop_assert_eq!(result, Ok(()));
            prop_assert!(wire == expected);
        }
        Some(offset) => {
            prop_assert_eq!(result, Err(BareNewline { offset }));
            prop_assert_eq!(first_bare(&wire), None, "what went out is clean");
            prop_assert!(expected.starts_with(&wire));
        }
    }
    Ok(())
}

fn check_reader(content: &[u8], policy: BareNewlines, pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let (mut reader, mut out) = (ContentReader::new(policy), Vec::new());
    for piece in pieces {
        reader.read(piece, &mut out);
        prop_assert_eq!(reader.octets(), out.len() as u64);
    }
    prop_assert_eq!(reader.finish(&mut out), flags(content, policy));
    let put = if policy == BareNewlines::Normalize { normalized(content, true) } else { content.to_vec() };
    prop_assert!(out == put, "{} is not {}", out.escape_ascii(), put.escape_ascii());
    prop_assert_eq!(reader.octets(), out.len() as u64);
    Ok(())
}

/// None stands for a line too long.
fn naive_lines(mut input: &[u8], limit: usize, ends: LineEnds) -> (Vec<Option<Vec<u8>>>, bool) {
    let mut lines = Vec::new();
    loop {
        let crlf = find_crlf(input).map(|at| (at, at + 2));
        let lf = input.iter().position(|&o| o == b'\n').map(|at| (at, at + 1));
        let end = match (crlf, lf) {
            (Some(crlf), Some(lf)) if ends == LineEnds::CrlfOrLf => Some(if lf.0 < crlf.0 { lf } else { crlf }),
            (None, lf) if ends == LineEnds::CrlfOrLf => lf,
            (crlf, _) => crlf,
        };
        let Some((at, next)) = end else {
            return (lines, input.contains(&b'\n'));
        };
        lines.push((next <= limit).then(|| input[..at].to_vec()));
        input = &input[next..];
    }
}

fn check_lines(input: &[u8], limit: usize, ends: LineEnds, pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let (mut scanner, mut kept, mut lines) = (LineScanner::default(), Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let gone = match scanner.scan(&kept, limit, ends) {
                Scan::Line { line, consumed } => {
                    lines.push(Some(line.to_vec()));
                    consumed
                }
                Scan::TooLong { consumed } => {
                    lines.push(None);
                    consumed
                }
                Scan::Partial { discard } => {
                    kept.drain(..discard);
                    break;
                }
            };
            kept.drain(..gone);
        }
        prop_assert!(kept.len() <= limit, "{} octets kept", kept.len());
    }
    let (expected, bare_lf) = naive_lines(input, limit, ends);
    prop_assert_eq!(lines, expected);
    prop_assert_eq!(scanner.bare_lf_pending(), bare_lf);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    // S-DAT-01 to S-DAT-11, B-LIN-16, S-LIN-17
    #[test]
    fn the_decoder_does_what_is_obvious(wire in octets(), policy in policy(), sizes in sizes(), end in any::<bool>()) {
        let wire = if end { [&wire[..], b"\r\n.\r\nNOOP\r\n"].concat() } else { wire };
        check_decoder(&wire, policy, &[&wire])?;
        check_decoder(&wire, policy, &pieces(&wire, &sizes))?;
    }

    // S-DAT-06
    #[test]
    fn no_split_changes_what_is_decoded(wire in prop_oneof![4 => short(), 1 => long()], policy in policy()) {
        for split in splits(&wire) {
            check_decoder(&wire, policy, &split)?;
        }
    }

    // C-DAT-22, C-DAT-23, C-DAT-24, C-DAT-25
    #[test]
    fn the_encoder_does_what_is_obvious(content in octets(), sizes in sizes()) {
        check_encoder(&content, &[&content])?;
        check_encoder(&content, &pieces(&content, &sizes))?;
    }

    // C-DAT-22
    #[test]
    fn no_split_changes_what_is_encoded(content in prop_oneof![4 => short(), 1 => long()]) {
        for split in splits(&content) {
            check_encoder(&content, &split)?;
        }
    }

    // B-DAT-26
    #[test]
    fn decoding_undoes_encoding(lines in vec(vec(any::<u8>().prop_filter("no line end", |o| !b"\r\n".contains(o)), 0..90), 0..90)) {
        let content: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\r\n"].concat()).collect();
        let wire = dot_stuff(&content);
        let unstuffed = dot_unstuff(&wire).unwrap();
        prop_assert!(unstuffed.content == content);
        prop_assert_eq!(unstuffed.consumed, wire.len());
        prop_assert!(!unstuffed.flags.bare());
    }

    // B-DAT-26, and of any other content what normalising leaves
    #[test]
    fn what_is_encoded_is_decoded(content in octets()) {
        let unstuffed = dot_unstuff(&dot_stuff(&content)).unwrap();
        let mut expected = normalized(&content, true);
        if !expected.is_empty() && !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        prop_assert!(unstuffed.content == expected);
    }

    // S-BDT-02, S-BDT-18, S-BDT-19, S-BDT-20, S-BDT-21
    #[test]
    fn the_reader_does_what_is_obvious(content in octets(), policy in policy(), sizes in sizes()) {
        check_reader(&content, policy, &[&content])?;
        check_reader(&content, policy, &pieces(&content, &sizes))?;
    }

    // S-BDT-18
    #[test]
    fn no_split_changes_what_is_read(content in prop_oneof![4 => short(), 1 => long()], policy in policy()) {
        for split in splits(&content) {
            check_reader(&content, policy, &split)?;
        }
    }

    // S-BDT-01, S-BDT-02
    #[test]
    fn chunks_take_their_octets(content in octets(), size in 0u64..300, sizes in sizes()) {
        let (mut chunk, mut taken) = (BdatChunk::new(size), Vec::new());
        for piece in pieces(&content, &sizes) {
            taken.extend_from_slice(chunk.take(piece));
        }
        prop_assert_eq!(&taken[..], &content[..content.len().min(size as usize)]);
        prop_assert_eq!(chunk.remaining(), size - taken.len() as u64);
        prop_assert_eq!(chunk.done(), taken.len() as u64 == size);
    }

    // B-LIN-01, B-LIN-02, S-LIN-03 to S-LIN-07, S-LIN-11, S-LIN-13, S-LIN-14, S-LIN-15
    #[test]
    fn the_scanner_does_what_is_obvious(
        input in octets(), limit in prop_oneof![3usize..20, Just(512usize), Just(2048usize)], sizes in sizes(), lf in any::<bool>(),
    ) {
        let ends = if lf { LineEnds::CrlfOrLf } else { LineEnds::Crlf };
        check_lines(&input, limit, ends, &[&input])?;
        check_lines(&input, limit, ends, &pieces(&input, &sizes))?;
        if input.len() < 300 {
            for split in splits(&input) {
                check_lines(&input, limit, ends, &split)?;
            }
        }
    }

    // B-PAR-19
    #[test]
    fn xtext_comes_back(octets in vec(any::<u8>(), 0..100)) {
        let text = xtext::encode(&octets);
        prop_assert!(text.bytes().all(|o| matches!(o, b'!'..=b'~') && o != b'='));
        prop_assert!(xtext::decode_lenient(text.to_lowercase().as_bytes()).is_ok());
        prop_assert_eq!(xtext::decode(text.as_bytes()), Ok(octets));
    }

    // B-PAR-19: what is read has one form at most
    #[test]
    fn only_xtext_is_read(text in vec(select(&b"++=aF09!~ \x80"[..]), 0..12)) {
        if let Ok(octets) = xtext::decode(&text) {
            prop_assert!(xtext::encode(&octets).len() <= text.len());
            prop_assert!(text.iter().all(|o| matches!(o, b'!'..=b'~') && *o != b'='));
        }
    }

    // S-PAR-23
    #[test]
    fn utf8_addresses_come_back(address in "[\\PC&&[^\u{0}-\u{1f}]]{1,40}", any in any::<String>()) {
        let text = xtext::encode_utf8_addr(&address);
        prop_assert!(text.is_ascii());
        prop_assert_eq!(xtext::decode_utf8_addr(text.as_bytes()), Ok(address));
        if let Ok(read) = xtext::decode_utf8_addr(any.as_bytes()) {
            prop_assert_eq!(xtext::decode_utf8_addr(xtext::encode_utf8_addr(&read).as_bytes()), Ok(read));
        }
    }

    // S-AUT-11
    #[test]
    fn base64_comes_back(octets in vec(any::<u8>(), 0..100)) {
        let text = base64::encode(&octets);
        prop_assert_eq!(text.len() % 4, 0);
        prop_assert_eq!(base64::decode(text.as_bytes()), Ok(octets));
    }

    // S-AUT-11: each value has one form
    #[test]
    fn only_base64_is_read(text in prop_oneof![vec(select(&b"AAQZaz09+/== \n-"[..]), 0..12), vec(any::<u8>(), 0..12)]) {
        if let Ok(octets) = base64::decode(&text) {
            prop_assert_eq!(base64::encode(&octets).into_bytes(), text);
        }
    }
}
