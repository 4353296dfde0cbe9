//! RULES group 1: lines and framing, seen from the session.
mod common;
use common::*;
use ehlo::session::ServerSettings;

#[test]
fn b_lin_01_only_crlf_ends_a_line() {
    assert_eq!(replies("NOOP\r\n"), ["250 2.0.0"]);
    let nothing: [&str; 0] = [];
    assert_eq!(replies("NOOP\r"), nothing);
    assert_eq!(replies("NOOP\n"), nothing);
}

#[test]
fn b_lin_02_half_a_line_has_no_effect() {
    let outcome = feed(&settings(), [&b"QUI"[..], b"T\r"], false, |_| None);
    assert!(outcome.replies().is_empty() && !outcome.closed);
    let outcome = feed(&settings(), [&b"QUI"[..], b"T\r", b"\n"], false, |_| None);
    assert_eq!(outcome.replies(), ["221 2.0.0"]);
}

#[test]
fn s_lin_03_bare_lf_in_a_command_is_one_bad_line() {
    let outcome = run("EHLO x.example\r\nNOOP\nQUIT\r\n");
    assert_eq!(outcome.replies(), ["250", "500 5.5.2"]);
    assert!(!outcome.closed);
}

#[test]
fn s_lin_04_bare_cr_in_a_command_is_one_bad_line() {
    assert_eq!(replies("MAIL FROM:<a@b>\rRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n"), ["500 5.5.2", "503 5.5.1"]);
}

#[test]
fn s_lin_05_timeout_with_bare_lf_pending_says_so() {
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\n");
    assert!(conn.poll_event().is_none());
    conn.receive_timeout();
    let said = String::from_utf8_lossy(conn.output()).into_owned();
    assert!(said.contains("421 4.4.2 ") && said.contains("bare LF"), "{said}");
    assert!(conn.is_closed());
    let lax = ServerSettings { bare_lf_commands: true, ..settings() };
    assert_eq!(run_in(lax, "EHLO x.example\nNOOP\r\nQUIT\n").replies(), ["250", "250 2.0.0", "221 2.0.0"]);
}

#[test]
fn s_lin_06_and_07_stray_cr_and_lf_before_crlf() {
    assert_eq!(replies("NOOP\r\r\nNOOP\r\n"), ["500 5.5.2", "250 2.0.0"]); // S-LIN-06
    assert_eq!(replies("NOOP\n\r\n"), ["500 5.5.2"]); // S-LIN-07
}

#[test]
fn s_lin_08_to_10_control_and_8bit_octets() {
    assert_eq!(replies("MAIL FROM:<a\0@b>\r\n")[0][..3], *"501"); // S-LIN-08
    assert_eq!(replies("NO\0OP\r\n"), ["500 5.5.2"]); // S-LIN-08
    assert_eq!(replies(b"NOOP \xff\r\n"), ["501 5.5.2"]); // S-LIN-09
    assert_eq!(replies(b"N\xff\r\n"), ["500 5.5.2"]); // S-LIN-09
    assert_eq!(replies(b"MAIL FROM:<a@b>\r\nRCPT TO:<a\x7f@b>\r\n"), ["250 2.1.0", "501 5.1.3"]); // S-LIN-10
}

#[test]
fn s_lin_11_a_line_of_512_octets_is_accepted() {
    for limit in [512, 2048] {
        let config = ServerSettings { max_command_line: limit, ..settings() };
        assert_eq!(after_ehlo(config, format!("NOOP {}\r\n", "x".repeat(505))), ["250 2.0.0"]);
    }
}

#[test]
fn s_lin_12_extensions_raise_the_limit() {
    let orcpt = format!("rfc822;{}", "x".repeat(493));
    assert_eq!(orcpt.len(), 500);
    let line = format!("MAIL FROM:<a@b>\r\nRCPT TO:<c@d> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={orcpt}\r\n");
    assert_eq!(replies(line), ["250 2.1.0", "250 2.1.5"]);
}

#[test]
fn s_lin_13_an_overlong_line_is_skipped_in_bounded_memory() {
    let mut conn = connection(settings());
    conn.receive(b"EHLO x.example\r\n");
    while conn.poll_event().is_some() {}
    conn.clear_output();
    for _ in 0..256 {
        conn.receive(&[b'A'; 4096]);
        assert!(conn.poll_event().is_none());
        assert!(conn.buffered() <= 2048 + 4096, "{}", conn.buffered());
    }
    conn.receive(b"\r\nNOOP\r\n");
    assert!(conn.poll_event().is_none());
    let said = String::from_utf8_lossy(conn.output()).into_owned();
    assert!(said.starts_with("500 5.5.2 ") && said.ends_with("\r\n250 2.0.0 OK\r\n"), "{said}");
}

#[test]
fn s_lin_14_the_limit_does_not_depend_on_chunks() {
    for (length, reply) in [(2048 - 7, "250 2.0.0"), (2048 - 6, "500 5.5.2")] {
        assert_eq!(replies(format!("NOOP {}\r\n", "x".repeat(length))), [reply]);
    }
}

#[test]
fn s_lin_15_the_end_of_an_overlong_line_is_no_command() {
    let overlong = "A".repeat(3000);
    let outcome = feed(&settings(), [overlong.as_bytes(), b"QUIT\r\n"], false, |_| None);
    assert_eq!(outcome.replies(), ["500 5.5.2"]);
    assert!(!outcome.closed);
}

#[test]
fn b_lin_16_a_content_line_of_1000_octets_passes() {
    for line in ["x".repeat(998), format!("..{}", "x".repeat(997))] {
        let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\n{line}\r\n.\r\n");
        let outcome = run(input);
        assert!(outcome.has("size=1000") && outcome.has("long_line: false"), "{:?}", outcome.events);
    }
}

#[test]
fn s_lin_17_a_longer_content_line_is_flagged() {
    let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\n{}\r\n.\r\n", "x".repeat(1 << 20));
    let outcome = feed(&settings(), input.as_bytes().chunks(4096), false, |_| None);
    assert!(outcome.has("long_line: true"));
    assert_eq!(outcome.replies().last().unwrap(), "250 2.0.0");
    let strict = ServerSettings { reject_long_lines: true, ..settings() };
    let outcome = feed(&strict, input.as_bytes().chunks(4096), false, |_| None);
    assert_eq!(outcome.replies().last().unwrap(), "554 5.6.0");
    assert!(outcome.events.is_empty());
}

#[test]
fn b_lin_18_the_command_limit_does_not_apply_to_content() {
    let input = format!("BDAT 100000 LAST\r\n{}{}\r\nNOOP\r\n", "x".repeat(100_000), "A".repeat(3000));
    let got = feed(&settings(), [format!("EHLO x\r\n{ENVELOPE}{input}").as_bytes()], false, |_| None).replies();
    assert_eq!(got[3..], ["250 2.0.0", "500 5.5.2", "250 2.0.0"]);
}

#[test]
fn b_lin_21_case_is_free_and_kept() {
    let input = "eHlO x\r\nmAiL fRoM:<A@b> size=1\r\nrCpT tO:<C@d>\r\ndAtA\r\n.\r\n";
    assert!(run(input).has("from=<A@b> to=<C@d>"));
}

#[test]
fn s_lin_22_trailing_white_space_is_tolerated() {
    assert_eq!(replies("MAIL FROM:<a@b> \r\nQUIT \t\r\n"), ["250 2.1.0", "221 2.0.0"]);
}

#[test]
fn s_lin_23_other_white_space_is_not_in_the_grammar() {
    assert_eq!(replies("\r\n NOOP\r\nMAIL FROM:<a@b>  SIZE=1\r\n"), ["500 5.5.2", "500 5.5.2", "501 5.5.4"]);
    let mut lax = settings();
    lax.lenient.extra_space = true;
    assert_eq!(after_ehlo(lax, "MAIL FROM:<a@b>  SIZE=1\r\n"), ["250 2.1.0"]);
}

#[test]
fn s_lin_24_input_that_ends_midway_is_not_executed() {
    let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\nSubject: x\r\n.");
    let outcome = run_with(settings(), input, true, |_| None);
    assert_eq!(outcome.events, ["Disconnect(Eof)"]);
    assert!(outcome.closed);
    let outcome = run_with(settings(), "QUIT", true, |_| None);
    assert_eq!((outcome.replies().len(), outcome.events.len()), (0, 1));
}

#[test]
fn s_lin_25_input_after_our_own_end_is_ignored() {
    let outcome = run("EHLO x\r\nQUIT\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(outcome.replies(), ["250", "221 2.0.0"]);
    assert_eq!(outcome.events, ["Disconnect(Quit)"]);
}
