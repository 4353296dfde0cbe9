//! RULES group 6: DATA and the dot, with every row of table 6a, seen from the session.
mod common;
use common::*;
use ehlo::session::{ContentMode, Decisions, ServerEvent, ServerSettings};
use ehlo::syntax::reply::Reply;
use ehlo::wire::content::BareNewlines::{self, Allow, Normalize, Reject};

fn with(policy: BareNewlines) -> ServerSettings {
    ServerSettings { bare_newlines: policy, ..settings() }
}

fn limit(octets: u64) -> ServerSettings {
    ServerSettings { max_message_size: Some(octets), ..settings() }
}

fn data(content: &[u8]) -> Vec<u8> {
    [format!("EHLO x\r\n{ENVELOPE}DATA\r\n").as_bytes(), content].concat()
}

/// Table 6a: variant, does it end the data, does `reject` refuse it, what normalize and allow make of it.
const TABLE_6A: &[(&str, bool, bool, &str, &str)] = &[
    ("a\r\n.\r\n", true, false, "a\r\n", "a\r\n"),                     // 1
    (".\r\n", true, false, "", ""),                                    // 2
    ("\r\n.\r\n", true, false, "\r\n", "\r\n"),                        // 3
    ("a\n.\n", false, true, "a\r\n.\r\n", "a\n.\n"),                   // 4
    ("a\n.\r\n", false, true, "a\r\n.\r\n", "a\n.\r\n"),               // 5
    ("a\r\n.\n", false, true, "a\r\n\r\n", "a\r\n\n"),                 // 6
    ("a\r\n.\r", false, true, "a\r\n\r\n", "a\r\n\r"),                 // 7
    ("a\r.\r", false, true, "a\r\n.\r\n", "a\r.\r"),                   // 8
    ("a\r.\r\n", false, true, "a\r\n.\r\n", "a\r.\r\n"),               // 9
    ("a\r.\n", false, true, "a\r\n.\r\n", "a\r.\n"),                   // 10
    ("a\n.\r", false, true, "a\r\n.\r\n", "a\n.\r"),                   // 10
    ("a\r\n.\r\r\n", false, true, "a\r\n\r\n\r\n", "a\r\n\r\r\n"),     // 11
    ("a\r\r\n.\r\n", true, true, "a\r\n\r\n", "a\r\r\n"),              // 12
    ("a\n\r\n.\r\n", true, true, "a\r\n\r\n", "a\n\r\n"),              // 13
    ("a\n\n.\n\n", false, true, "a\r\n\r\n.\r\n\r\n", "a\n\n.\n\n"),   // 14
    ("a\n\r.\n\r", false, true, "a\r\n\r\n.\r\n\r\n", "a\n\r.\n\r"),   // 14
    ("a\r\n\0.\r\n", false, false, "a\r\n\0.\r\n", "a\r\n\0.\r\n"),    // 15
    ("a\r\n.\0\r\n", false, false, "a\r\n\0\r\n", "a\r\n\0\r\n"),      // 16
    ("a\r\0\n.\r\n", false, true, "a\r\n\0\r\n.\r\n", "a\r\0\n.\r\n"), // 17
    ("a\r\n. \r\n", false, false, "a\r\n \r\n", "a\r\n \r\n"),         // 18
    ("a\r\n.\t\r\n", false, false, "a\r\n\t\r\n", "a\r\n\t\r\n"),      // 18
    ("a\r\n..\r\n", false, false, "a\r\n.\r\n", "a\r\n.\r\n"),         // 19
    ("a\r\n\u{85}.\r\n", false, false, "a\r\n\u{85}.\r\n", "a\r\n\u{85}.\r\n"), // 20
    ("a\u{2028}.\r\n", false, false, "a\u{2028}.\r\n", "a\u{2028}.\r\n"), // 20
    ("a\x0b.\x0b", false, false, "a\x0b.\x0b", "a\x0b.\x0b"),          // 20
    ("a\x0c.\x0c", false, false, "a\x0c.\x0c", "a\x0c.\x0c"),          // 20
];

#[test]
fn table_6a_every_row_every_policy_every_split() {
    // S-DAT-01, S-DAT-06, S-DAT-08, S-DAT-09, S-DAT-10
    for (variant, ends, refused, normalized, allowed) in TABLE_6A {
        for (policy, content) in [(Reject, *allowed), (Normalize, *normalized), (Allow, *allowed)] {
            let input = data(format!("{variant}more\r\n.\r\nNOOP\r\n").as_bytes());
            let outcome = run_in(with(policy), input);
            let final_reply = if policy == Reject && *refused { "550 5.5.2" } else { "250 2.0.0" };
            let mut expected = vec!["250", "250 2.1.0", "250 2.1.5", "354", final_reply];
            if *ends {
                expected.extend(["500 5.5.2", "500 5.5.2"]); // `more` and the second dot are commands
            }
            expected.push("250 2.0.0");
            assert_eq!(outcome.replies(), expected, "{variant:?} {policy:?}");
            if final_reply == "250 2.0.0" {
                let whole = if *ends { content.to_owned() } else { format!("{content}more\r\n") };
                assert!(outcome.has(&format!("content={whole:?}")), "{variant:?} {policy:?}: {:?}", outcome.events);
            } else {
                assert!(outcome.events.is_empty());
            }
        }
    }
}

#[test]
fn table_6a_rows_21_to_23() {
    for content in ["a\r\n.", "a\r\n.\r", "a\r\n", "a"] {
        let outcome = run_with(settings(), data(content.as_bytes()), true, |_| None);
        assert_eq!(outcome.events, ["Disconnect(Eof)"], "{content:?}"); // 21, S-DAT-17
        assert_eq!(outcome.replies().last().unwrap(), "354");
    }
    // 23: what follows a false end is content, never commands.
    for (variant, ends, ..) in &TABLE_6A[3..12] {
        assert!(!ends || variant.contains("\r\r\n"));
        if *ends {
            continue;
        }
        let smuggled = format!("{variant}MAIL FROM:<x@y>\r\nRCPT TO:<z@w>\r\nDATA\r\n.\r\n");
        for policy in [Reject, Normalize, Allow] {
            let outcome = run_in(with(policy), data(smuggled.as_bytes()));
            assert_eq!(outcome.replies().len(), 5, "{variant:?} {policy:?}");
            assert!(!outcome.has("from=<x@y>"));
        }
    }
}

#[test]
fn s_dat_01_to_05_the_dot() {
    for (wire, content) in [
        ("a\r\n.\r\n", "a\r\n"),               // S-DAT-01, S-DAT-02
        (".\r\n", ""),                         // S-DAT-01
        ("..\r\n.\r\n", ".\r\n"),              // S-DAT-03
        (".x\r\n.\r\n", "x\r\n"),              // S-DAT-03
        ("...\r\n.\r\n", "..\r\n"),            // S-DAT-03
        ("a.\r\n .\r\n.\r\n", "a.\r\n .\r\n"), // S-DAT-04
        ("..a\r\n.\r\n", ".a\r\n"),            // S-DAT-05
    ] {
        assert!(run(data(wire.as_bytes())).has(&format!("content={content:?}")), "{wire:?}");
    }
}

#[test]
fn s_dat_07_what_follows_is_commands() {
    let first = data(b".\r\nMAIL FROM:<c@d>\r\nRC");
    let outcome = feed(&settings(), [&first[..], b"PT TO:<e@f>\r\n"], false, |_| None);
    assert_eq!(outcome.replies()[4..], ["250 2.0.0", "250 2.1.0", "250 2.1.5"]);
}

#[test]
fn s_dat_11_nul_is_kept_and_flagged() {
    let outcome = run(data(b"a\0b\r\n.\r\n"));
    assert!(outcome.has("content=\"a\\0b\\r\\n\"") && outcome.has("nul: true"));
    let strict = ServerSettings { reject_nul: true, ..settings() };
    let outcome = run_in(strict, data(b"a\0b\r\n.\r\n"));
    assert_eq!(outcome.replies().last().unwrap(), "550 5.6.0");
}

#[test]
fn s_dat_12_too_big_is_dropped_and_in_sync() {
    let mut conn = connection(limit(100));
    conn.receive(&data(b""));
    while conn.poll_event().is_some() {}
    conn.clear_output();
    for _ in 0..100 {
        conn.receive(&[b"x".repeat(98), b"\r\n".to_vec()].concat());
        assert!(conn.poll_event().is_none() && conn.buffered() == 0);
    }
    conn.receive(b".\r\nNOOP\r\n");
    assert!(conn.poll_event().is_none());
    let said = String::from_utf8_lossy(conn.output()).into_owned();
    assert!(said.starts_with("552 5.3.4 ") && said.ends_with("\r\n250 2.0.0 OK\r\n"), "{said}");
}

#[test]
fn s_dat_13_a_cut_off_ends_the_patience() {
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    let input = [data(b""), line.repeat(1100)].concat();
    let outcome = feed(&limit(1000), input.chunks(4096), false, |_| None);
    assert_eq!(outcome.replies().last().unwrap(), "552 5.3.4");
    assert_eq!(outcome.events, ["Disconnect(Limit)"]);
}

#[test]
fn s_dat_14_a_refusal_before_the_content() {
    let config = ServerSettings { decisions: Decisions { data: true, ..Decisions::default() }, ..settings() };
    let got = run_with(config, data(b"NOOP\r\n"), false, |_| Some("554 5.7.1 no")).replies();
    assert_eq!(got[3..], ["554 5.7.1", "250 2.0.0"]);
}

#[test]
fn s_dat_15_a_refusal_during_the_content() {
    let config = ServerSettings { content: ContentMode::Stream, ..settings() };
    let mut conn = connection(config);
    conn.receive(&data(b"first\r\n"));
    assert!(matches!(conn.poll_event(), Some(ServerEvent::ContentStart(_))));
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Chunk(octets)) if octets == b"first\r\n"));
    assert!(conn.poll_event().is_none());
    conn.clear_output();
    conn.refuse_content(Reply::parse_text("554 5.7.1 enough").unwrap()).unwrap();
    conn.receive(b"more\r\n");
    assert!(conn.poll_event().is_none() && conn.output().is_empty());
    conn.receive(b"more\r\n.\r\nNOOP\r\n");
    assert!(conn.poll_event().is_none());
    assert_eq!(conn.output(), b"554 5.7.1 enough\r\n250 2.0.0 OK\r\n");
}

#[test]
fn s_dat_16_no_250_before_the_program_answered() {
    let mut conn = connection(settings());
    conn.receive(&data(b"a\r\n.\r\nNOOP\r\n"));
    conn.clear_output();
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Message { .. })));
    assert!(conn.poll_event().is_none() && conn.output().is_empty());
    conn.accept().unwrap();
    assert!(conn.poll_event().is_none());
    assert_eq!(conn.output(), b"250 2.0.0 OK\r\n250 2.0.0 OK\r\n");
}

#[test]
fn s_dat_19_content_is_not_inspected() {
    assert!(run(data(b"no headers here\r\n.\r\n")).has("no headers"));
}

#[test]
fn s_dat_20_data_under_binarymime() {
    let input = "MAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    assert_eq!(replies(input), ["250 2.1.0", "250 2.1.5", "503 5.5.1"]);
}

#[test]
fn s_dat_21_354_tells_the_end() {
    assert!(run(data(b"")).output.ends_with("\r\n354 End data with <CRLF>.<CRLF>\r\n"));
}

#[test]
fn streaming_tells_beginning_and_end() {
    let config = ServerSettings { content: ContentMode::Stream, max_message_size: Some(10), ..settings() };
    let outcome = run_in(config.clone(), data(b"ab\r\n.\r\n"));
    assert_eq!(outcome.events[..2], ["start from=<a@b.example>", "chunk ab\\r\\n"]);
    assert!(outcome.events[2].contains("content=\"\" size=4"));
    let outcome = feed(&config, data(b"0123456789abc\r\n.\r\n").chunks(1), false, |_| None);
    assert_eq!(outcome.events.last().unwrap(), "ContentAborted(TooBig)");
    let outcome = feed(&config, [&data(b"a\nb\r\n.\r\n")[..]], false, |_| None);
    assert_eq!(outcome.events.last().unwrap(), "ContentAborted(Forbidden)");
    let outcome = feed(&config, [&data(b"ab")[..]], true, |_| None);
    assert_eq!(outcome.events[1..], ["ContentAborted(Disconnected)", "Disconnect(Eof)"]);
}
