//! One command, parsed by this crate and by two others, in the same run: `cargo bench --bench syntax`.

use std::hint::black_box;

use divan::Bencher;
use ehlo::syntax::command::parse_command;
use ehlo::syntax::options::Options;
use ehlo::syntax::reply::{Reply, parse_reply};

fn main() {
    divan::main();
}

const LINES: &[&str] = &[
    "MAIL FROM:<alice@example.org> SIZE=12345 BODY=8BITMIME",
    "MAIL FROM:<alice@example.org>",
    "RCPT TO:<bob@example.com>",
    "RCPT TO:<bob@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@example.com",
    "EHLO client.example.org",
    "DATA",
];

// Each result is looked at where it lies, so that it is neither optimised away nor moved.
#[divan::bench(args = LINES, sample_size = 5000)]
fn ehlo(bencher: Bencher<'_, '_>, line: &str) {
    let options = Options::default();
    bencher.bench(|| {
        black_box(&parse_command(black_box(line.as_bytes()), black_box(&options)));
    });
}

#[divan::bench(args = LINES, sample_size = 5000)]
fn smtp_proto(bencher: Bencher<'_, '_>, line: &str) {
    // It wants the line's end.
    let line = format!("{line}\r\n");
    bencher.bench(|| {
        black_box(&smtp_proto::Request::parse(&mut black_box(line.as_bytes()).iter()));
    });
}

#[divan::bench(args = LINES, sample_size = 5000)]
fn mailrs_smtp_proto(bencher: Bencher<'_, '_>, line: &str) {
    bencher.bench(|| {
        black_box(&mailrs_smtp_proto::parse_command(black_box(line)));
    });
}

#[divan::bench(sample_size = 5000)]
fn reply_write(bencher: Bencher<'_, '_>) {
    let reply = Reply::parse_text("250 2.1.5 Recipient ok").unwrap();
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        black_box(&reply).write(&mut out);
        out.len()
    });
}

#[divan::bench(sample_size = 5000)]
fn reply_parse(bencher: Bencher<'_, '_>) {
    bencher.bench(|| black_box(parse_reply(black_box(b"250 2.1.5 Recipient ok\r\n"))));
}
