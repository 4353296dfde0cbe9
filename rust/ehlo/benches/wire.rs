//! How fast the bytes floor is, beside a plain copy and beside others, in one run:
//! `cargo bench -p ehlo --bench wire`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ehlo::wire::content::{BareNewlines, ContentReader, Discard};
use ehlo::wire::dot::{DotDecoder, DotEncoder, EncodePolicy, dot_stuff};
use ehlo::wire::line::{LineEnds, LineScanner, Scan};
use ehlo::wire::{base64, xtext};

const SIZE: usize = 1 << 20;

/// As an attachment: 768 KiB without a pattern.
fn noise() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..SIZE / 4 * 3).map(|_| next()).collect()
}

/// The kinds of content, as they are before stuffing.
const KINDS: [&str; 9] = [
    "text70",
    "base64_76",
    "utf8_70",
    "stuffed_70",
    "stuffed_1",
    "dots",
    "long_lines_900",
    "one_long_line",
    "short_10",
];

fn content(kind: &str) -> Vec<u8> {
    if kind == "base64_76" {
        return noise().chunks(57).flat_map(|row| [base64::encode(row).as_bytes(), b"\r\n"].concat()).collect();
    }
    let line: Vec<u8> = match kind {
        "text70" => b"The quick brown fox jumps over the lazy dog. Pack my box with five do.\r\n".to_vec(),
        "utf8_70" => "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ä\r\n".as_bytes().to_vec(),
        "stuffed_70" => b".he quick brown fox jumps over the lazy dog. Pack my box with five do.\r\n".to_vec(),
        "stuffed_1" => b".x\r\n".to_vec(),
        "dots" => b".\r\n".to_vec(),
        "long_lines_900" => [&[b'x'; 900][..], b"\r\n"].concat(),
        "one_long_line" => [&[b'x'; SIZE][..], b"\r\n"].concat(),
        "short_10" => b"0123456789\r\n".to_vec(),
        _ => unreachable!("a kind"),
    };
    line.repeat(SIZE.div_ceil(line.len()))
}

#[divan::bench]
fn memcpy(bencher: Bencher) {
    let content = content("text70");
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        out.clear();
        out.extend_from_slice(black_box(&content));
        black_box(&out);
    });
}

#[divan::bench(args = KINDS)]
fn decode(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut decoder = DotDecoder::new(BareNewlines::Reject);
        assert!(decoder.decode(black_box(&wire), &mut out).done);
        black_box((&out, decoder.flags()));
    });
}

/// As a connection delivers it.
#[divan::bench(args = ["text70", "base64_76", "utf8_70", "stuffed_70"])]
fn decode_in_16_kib(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut decoder = DotDecoder::new(BareNewlines::Reject);
        let done = black_box(&wire).chunks(16 << 10).fold(false, |_, chunk| decoder.decode(chunk, &mut out).done);
        assert!(done);
        black_box((&out, decoder.flags()));
    });
}

/// The worst a peer can do: a decision for every octet or two.
#[divan::bench(args = ["lf", "cr", "lf_dot", "crlf_dot", "x_lf"])]
fn decode_bare_newlines(bencher: Bencher, kind: &str) {
    let unit: &[u8] = match kind {
        "lf" => b"\n",
        "cr" => b"\r",
        "lf_dot" => b"\n.",
        "crlf_dot" => b"\r\n.x",
        _ => b"x\n",
    };
    let wire = [&unit.repeat(SIZE / unit.len())[..], b"\r\n.\r\n"].concat();
    let mut out = Vec::with_capacity(3 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut decoder = DotDecoder::new(BareNewlines::Normalize);
        assert!(decoder.decode(black_box(&wire), &mut out).done);
        black_box((&out, decoder.flags()));
    });
}

#[divan::bench]
fn decode_octet_by_octet(bencher: Bencher) {
    let wire = dot_stuff(&content("text70")[..SIZE / 16]);
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut decoder = DotDecoder::new(BareNewlines::Reject);
        assert!(black_box(&wire).chunks(1).fold(false, |_, chunk| decoder.decode(chunk, &mut out).done));
        black_box((&out, decoder.flags()));
    });
}

#[divan::bench(args = ["text70", "base64_76"])]
fn decode_and_discard(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        let mut decoder = DotDecoder::new(BareNewlines::Reject);
        assert!(decoder.decode(black_box(&wire), &mut Discard).done);
        black_box(decoder.flags());
    });
}

/// It looks for LF and a dot alone: no bare CR or LF, no NUL, no octet above 127, and no length of lines.
#[divan::bench(args = ["text70", "base64_76", "stuffed_70"])]
fn decode_smtp_proto(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut receiver = smtp_proto::request::receiver::DataReceiver::new();
        assert!(receiver.ingest(&mut black_box(&wire).iter(), &mut out));
        black_box(&out);
    });
}

#[divan::bench(args = ["text70", "base64_76", "utf8_70", "stuffed_70"])]
fn decode_smtp_proto_in_16_kib(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(wire.len())).bench_local(|| {
        out.clear();
        let mut receiver = smtp_proto::request::receiver::DataReceiver::new();
        let mut chunks = black_box(&wire).chunks(16 << 10);
        assert!(chunks.any(|chunk| receiver.ingest(&mut chunk.iter(), &mut out)));
        black_box(&out);
    });
}

#[divan::bench(args = ["text70", "base64_76", "stuffed_70"])]
fn decode_mailrs(bencher: Bencher, kind: &str) {
    let wire = dot_stuff(&content(kind));
    bencher
        .counter(BytesCount::new(wire.len()))
        .bench_local(|| mailrs_smtp_proto::unstuff_data(black_box(&wire)).len());
}

#[divan::bench(args = KINDS)]
fn encode(bencher: Bencher, kind: &str) {
    let content = content(kind);
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        out.clear();
        let mut encoder = DotEncoder::new(EncodePolicy::Normalize);
        assert_eq!(encoder.encode(black_box(&content), &mut out), Ok(()));
        assert_eq!(encoder.finish(&mut out), Ok(()));
        black_box(&out);
    });
}

/// What a program on a system with LF alone gives.
#[divan::bench]
fn encode_lf_text(bencher: Bencher) {
    let content: Vec<u8> = content("text70").into_iter().filter(|&o| o != b'\r').collect();
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        out.clear();
        let mut encoder = DotEncoder::new(EncodePolicy::Normalize);
        assert_eq!(encoder.encode(black_box(&content), &mut out), Ok(()));
        black_box(&out);
    });
}

#[divan::bench(args = ["text70", "base64_76", "one_long_line"])]
fn read_bdat(bencher: Bencher, kind: &str) {
    let content = content(kind);
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        out.clear();
        let mut reader = ContentReader::new(BareNewlines::Allow);
        reader.read(black_box(&content), &mut out);
        black_box((reader.finish(&mut out), &out));
    });
}

#[divan::bench(args = [6, 40, 500])]
fn scan_lines(bencher: Bencher, length: usize) {
    let input = [&vec![b'x'; length][..], b"\r\n"].concat().repeat(100);
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        let (mut scanner, mut rest, mut lines) = (LineScanner::default(), black_box(&input[..]), 0);
        while let Scan::Line { consumed, .. } = scanner.scan(rest, 2048, LineEnds::Crlf) {
            rest = &rest[consumed..];
            lines += 1;
        }
        assert_eq!(lines, 100);
    });
}

#[divan::bench]
fn base64_decode(bencher: Bencher) {
    let text = base64::encode(&[0x5a; 3000]);
    bencher.counter(BytesCount::new(text.len())).bench_local(|| base64::decode(black_box(text.as_bytes())));
}

#[divan::bench]
fn xtext_decode(bencher: Bencher) {
    let text = xtext::encode(b"someone+with=a-rather-long-address@mail.example.org");
    bencher.counter(BytesCount::new(text.len())).bench_local(|| xtext::decode(black_box(text.as_bytes())));
}

fn main() {
    divan::main();
}
