//! RULES group 7: BDAT.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerSettings};
use ehlo::wire::content::BareNewlines;

fn limit(octets: u64) -> ServerSettings {
    ServerSettings { max_message_size: Some(octets), ..settings() }
}

fn events(input: &str) -> Vec<String> {
    run(format!("EHLO x\r\n{ENVELOPE}{input}")).events
}

fn content(input: &str) -> String {
    let events = events(input);
    let text = events.iter().find(|e| e.starts_with("message")).unwrap_or_else(|| panic!("no message: {events:?}"));
    text.split("content=").nth(1).unwrap().split(" size=").next().unwrap().to_owned()
}

fn got(input: &str) -> Vec<String> {
    in_transaction(settings(), input)
}

#[test]
fn s_bdt_01_to_04_chunks() {
    assert_eq!(content("bdat 3 last\r\nabc"), "\"abc\""); // S-BDT-01
    assert_eq!(content("BDAT 5 LAST\r\n\r\n.\r\n"), "\"\\r\\n.\\r\\n\""); // S-BDT-02
    assert_eq!(content("BDAT 6 LAST\r\n..a\r\n."), "\"..a\\r\\n.\"");
    assert_eq!(got("BDAT 1\r\naBDAT 1\r\nbBDAT 1 LAST\r\nc"), ["250 2.0.0"; 3]); // S-BDT-03
    assert_eq!(got("BDAT 3\r\nabcBDAT 0 LAST\r\n"), ["250 2.0.0"; 2]); // S-BDT-04
    assert_eq!(content("BDAT 3\r\nabcBDAT 0 LAST\r\n"), "\"abc\"");
    assert_eq!(content("BDAT 0 LAST\r\n"), "\"\"");
    assert_eq!(got("BDAT 0\r\nBDAT 1 LAST\r\na"), ["250 2.0.0"; 2]);
}

#[test]
fn s_bdt_05_and_06_refused_chunks_are_drained() {
    assert_eq!(replies("BDAT 4\r\nNOOPQUIT\r\n"), ["503 5.5.1", "221 2.0.0"]); // S-BDT-05
    assert_eq!(run("BDAT 4 LAST\r\nNOOPQUIT\r\n").replies(), ["503 5.5.1", "221 2.0.0"]);
    assert_eq!(replies("MAIL FROM:<a@b>\r\nBDAT 4\r\nNOOPNOOP\r\n"), ["250 2.1.0", "503 5.5.1", "250 2.0.0"]);
    let config = ServerSettings { decisions: Decisions { rcpt: true, ..Decisions::default() }, ..settings() };
    let input = format!("EHLO x\r\n{ENVELOPE}BDAT 4 LAST\r\nNOOPMAIL FROM:<a@b>\r\n");
    let got = run_with(config, input, false, |_| Some("550 5.1.1 no")).replies();
    assert_eq!(got[3..], ["554 5.5.1", "250 2.1.0"]); // S-BDT-06
}

#[test]
fn s_bdt_07_a_size_that_is_none_closes() {
    for bad in ["x", "-1", "+1", "99999999999999999999", "", "1x", "18446744073709551616"] {
        let outcome = run(format!("EHLO x\r\n{ENVELOPE}BDAT {bad}\r\nNOOP\r\n"));
        assert_eq!(outcome.replies()[3..], ["501 5.5.4"], "{bad}");
        assert!(outcome.closed);
        assert_eq!(outcome.events, ["Disconnect(Protocol)"]);
    }
}

#[test]
fn s_bdt_08_and_09_junk_behind_and_leading_zeros() {
    assert_eq!(got("BDAT 3 FOO\r\nabcNOOP\r\n"), ["501 5.5.4", "250 2.0.0"]); // S-BDT-08
    assert_eq!(got("BDAT 3 FOO\r\nabcBDAT 1\r\nx"), ["501 5.5.4", "503 5.5.1"]);
    assert_eq!(content("BDAT 003 LAST\r\nabc"), "\"abc\""); // S-BDT-09
}

#[test]
fn s_bdt_10_after_a_failed_chunk_only_rset_helps() {
    let input = "BDAT 6\r\n123456BDAT 6\r\n123456BDAT 1\r\nxDATA\r\nRCPT TO:<e@f>\r\nMAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n";
    assert_eq!(
        in_transaction(limit(10), input),
        ["250 2.0.0", "552 5.3.4", "503 5.5.1", "503 5.5.1", "503 5.5.1", "503 5.5.1", "250 2.0.0", "250 2.1.0"]
    );
    let drained_last = "BDAT 11\r\n12345678901BDAT 1 LAST\r\nxMAIL FROM:<a@b>\r\n";
    assert_eq!(in_transaction(limit(10), drained_last), ["552 5.3.4", "503 5.5.1", "250 2.1.0"]);
    assert_eq!(
        in_transaction(limit(10), "BDAT 11\r\n12345678901EHLO y\r\nMAIL FROM:<a@b>\r\n"),
        ["552 5.3.4", "250", "250 2.1.0"]
    );
}

#[test]
fn s_bdt_11_to_14_order() {
    assert_eq!(got("BDAT 1\r\naDATA\r\nRSET\r\n"), ["250 2.0.0", "503 5.5.1", "250 2.0.0"]); // S-BDT-11
    let input = "BDAT 1\r\naRCPT TO:<e@f>\r\nMAIL FROM:<x@y>\r\nBDAT 0 LAST\r\n";
    assert_eq!(got(input), ["250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0"]); // S-BDT-12
    assert_eq!(content(input), "\"a\"");
    assert_eq!(got("BDAT 1 LAST\r\naBDAT 1\r\nbMAIL FROM:<a@b>\r\n"), ["250 2.0.0", "503 5.5.1", "250 2.1.0"]); // S-BDT-13
    let input = format!("BDAT 1\r\naRSET\r\n{ENVELOPE}BDAT 1 LAST\r\nb");
    assert_eq!(content(&input), "\"b\""); // S-BDT-14
}

#[test]
fn s_bdt_15_and_16_sizes_add_up() {
    assert_eq!(in_transaction(limit(10), "BDAT 6\r\n123456BDAT 6\r\n123456"), ["250 2.0.0", "552 5.3.4"]); // S-BDT-15
    let outcome = run_in(limit(10), format!("EHLO x\r\n{ENVELOPE}BDAT 9000000\r\n"));
    assert_eq!(outcome.replies()[3..], ["552 5.3.4"]);
    assert!(outcome.closed);
    for size in ["9223372036854775808", "18446744073709551615"] {
        let outcome = run(format!("EHLO x\r\n{ENVELOPE}BDAT 1\r\naBDAT {size}\r\n")); // S-BDT-16
        assert!(outcome.closed && outcome.replies().last().unwrap() == "552 5.3.4");
        let endless = ServerSettings { max_message_size: None, ..settings() };
        let outcome = run_in(endless, format!("EHLO x\r\n{ENVELOPE}BDAT 1\r\naBDAT {size}\r\nmore"));
        assert_eq!(outcome.replies().len(), 4, "waits for the rest");
    }
}

#[test]
fn s_bdt_17_a_whole_transaction_in_one_feed() {
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\n");
    conn.clear_output();
    conn.receive(format!("{ENVELOPE}BDAT 1\r\naBDAT 1 LAST\r\nb").as_bytes());
    assert!(conn.poll_event().is_some());
    conn.accept().unwrap();
    assert_eq!(conn.output(), b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n250 2.0.0 OK\r\n250 2.0.0 OK\r\n");
}

#[test]
fn s_bdt_18_to_21_what_is_in_the_chunks() {
    assert!(events("BDAT 2\r\na\rBDAT 1 LAST\r\n\n")[0].contains("bare_cr: false, bare_lf: false")); // S-BDT-18
    assert!(events("BDAT 4 LAST\r\na\nb\n")[0].contains("bare_lf: true")); // S-BDT-19
    let strict = ServerSettings { bdat_bare_newlines: BareNewlines::Reject, ..settings() };
    assert_eq!(in_transaction(strict.clone(), "BDAT 4\r\na\nb\nBDAT 0 LAST\r\n"), ["250 2.0.0", "550 5.5.2"]);
    let binary = "MAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nBDAT 4 LAST\r\na\nb\n";
    assert_eq!(after_ehlo(strict, binary)[2..], ["250 2.0.0"]);
    let normal = ServerSettings { bdat_bare_newlines: BareNewlines::Normalize, ..settings() };
    assert!(run_in(normal, format!("EHLO x\r\n{ENVELOPE}BDAT 3 LAST\r\na\nb")).has("content=\"a\\r\\nb\""));
    assert!(events("BDAT 1 LAST\r\na")[0].contains("no_final_crlf: true")); // S-BDT-21
    let all: Vec<u8> = (0..=255).chain(0..=255).collect();
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nBDAT 512 LAST\r\n");
    conn.receive(&all);
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { content, .. }) if content == all)); // S-BDT-20
}

#[test]
fn s_bdt_22_and_23_without_chunking_and_eof() {
    let off = ServerSettings { chunking: false, binarymime: false, ..settings() };
    assert_eq!(in_transaction(off, "BDAT 6\r\nQUIT\r\nNOOP\r\n"), ["502 5.5.1", "250 2.0.0"]); // S-BDT-22
    let outcome = run_with(settings(), format!("EHLO x\r\n{ENVELOPE}BDAT 10 LAST\r\nabc"), true, |_| None);
    assert_eq!(outcome.events, ["Disconnect(Eof)"]); // S-BDT-23
}

#[test]
fn s_bdt_24_a_million_chunks() {
    let mut conn = connection(settings());
    conn.receive(format!("EHLO x\r\n{ENVELOPE}").as_bytes());
    let chunk = b"BDAT 1\r\nx".repeat(1000);
    for _ in 0..1000 {
        conn.clear_output();
        conn.receive(&chunk);
        assert!(conn.poll_event().is_none() && conn.buffered() == 0);
    }
    conn.receive(b"BDAT 0 LAST\r\n");
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { size: 1_000_000, .. })));
}

#[test]
fn a_program_that_refuses_the_first_chunk() {
    let config = ServerSettings { decisions: Decisions { data: true, ..Decisions::default() }, ..settings() };
    let input = format!("EHLO x\r\n{ENVELOPE}BDAT 4\r\nNOOPBDAT 1 LAST\r\nxMAIL FROM:<a@b>\r\n");
    let got = run_with(config, input, false, |_| Some("554 5.7.1 no")).replies();
    assert_eq!(got[3..], ["554 5.7.1", "503 5.5.1", "250 2.1.0"]);
}

#[test]
fn s_bdt_15_what_is_refused_anyway_is_cut_off_as_well() {
    // Not before EHLO, not behind a wrong word, not where TLS comes first: a size is never a promise to read so much.
    let endless = "18446744073709551615";
    for input in [format!("BDAT {endless}\r\n"), format!("EHLO x\r\nBDAT {endless} FOO\r\n")] {
        let outcome = run(&input);
        assert!(outcome.closed, "{input:?}");
        assert_eq!(outcome.replies().last().unwrap(), "552 5.3.4", "{input:?}");
    }
    let barred = ServerSettings { tls: ehlo::session::TlsMode::StartTls, require_tls: true, ..settings() };
    let outcome = run_in(barred, format!("EHLO x\r\nBDAT {endless}\r\n"));
    assert!(outcome.closed);
}

#[test]
fn a_drained_chunk_is_content_for_whoever_watches_the_rate() {
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\nBDAT 100\r\nabc");
    while conn.poll_event().is_some() {}
    assert!(conn.in_content());
    assert_eq!(conn.content_octets(), 3);
}
