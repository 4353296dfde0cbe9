//! Clients that provoke refusals, guess passwords, speak HTTP, or call themselves whatever they like (FAULTS B5, B8, C4,
//! C6, C7).
mod common;
use common::*;
use ehlo::session::{Decisions, ServerSettings, TlsMode};
use ehlo::syntax::options::Leniency;

fn all_codes(settings: ServerSettings, input: impl AsRef<[u8]>, program: Program) -> Vec<String> {
    run_with(settings, [b"EHLO c.example\r\n", input.as_ref()].concat(), false, program).replies()[1..].to_vec()
}

fn yes(_: &str) -> Option<&'static str> {
    None
}

#[test]
fn faults_b5_recipients_beyond_the_limit_count() {
    let settings = ServerSettings { max_recipients: 100, ..settings() };
    let rcpt = "RCPT TO:<c@d.example>\r\n";
    // An honest client learns of the limit by the replies to a group of RCPT (RFC 5321 4.5.3.1.10).
    let honest = format!("MAIL FROM:<a@b.example>\r\n{}NOOP\r\n", rcpt.repeat(200));
    let codes = all_codes(settings.clone(), honest, yes);
    assert_eq!(codes.len(), 202);
    assert_eq!(
        (codes[100].as_str(), codes[101].as_str(), codes[201].as_str()),
        ("250 2.1.5", "452 4.5.3", "250 2.0.0")
    );
    let hostile = format!("MAIL FROM:<a@b.example>\r\n{}", rcpt.repeat(20_000));
    let codes = all_codes(settings, hostile, yes);
    assert_eq!(codes.last().map(String::as_str), Some("421 4.7.0"));
    assert!(codes.len() < 1200, "{} replies", codes.len());
}

#[test]
fn faults_b5_mail_that_is_too_large_counts() {
    let settings = ServerSettings { max_message_size: Some(1000), ..settings() };
    let codes = all_codes(settings, "MAIL FROM:<a@b.example> SIZE=1001\r\n".repeat(20_000), yes);
    assert_eq!(codes.last().map(String::as_str), Some("421 4.7.0"));
    assert!(codes.len() < 1100, "{} replies", codes.len());
}

#[test]
fn faults_b5_refusals_of_the_program_count() {
    let decisions = Decisions { mail: true, rcpt: true, data: true, ..Decisions::default() };
    let settings = ServerSettings { decisions, ..settings() };
    let no_mail: Program = |event| event.starts_with("mail").then_some("550 5.7.1 no");
    let codes = all_codes(settings.clone(), "MAIL FROM:<a@b.example>\r\n".repeat(20_000), no_mail);
    assert!(codes.len() < 1100 && codes.last().is_some_and(|code| code == "421 4.7.0"), "{} replies", codes.len());
    let no_rcpt: Program = |event| event.starts_with("rcpt").then_some("550 5.1.1 no");
    let input = format!("MAIL FROM:<a@b.example>\r\n{}", "RCPT TO:<c@d.example>\r\n".repeat(20_000));
    let codes = all_codes(settings, input, no_rcpt);
    assert!(codes.len() < 1100 && codes.last().is_some_and(|code| code == "421 4.7.0"), "{} replies", codes.len());
}

#[test]
fn faults_b5_a_delivered_message_resets_the_count() {
    let slips = "FOO\r\n".repeat(15);
    let message = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n";
    let codes = all_codes(settings(), format!("{slips}{message}").repeat(10) + "NOOP\r\n", yes);
    assert_eq!(codes.last().map(String::as_str), Some("250 2.0.0"));
}

#[test]
fn faults_b8_an_exchange_that_the_client_ends_is_a_failure() {
    let auth = vec!["XOAUTH2".to_owned()];
    let settings = ServerSettings { auth_in_clear: auth.clone(), auth, ..settings() };
    let refused: Program = |event| event.starts_with("auth").then_some("334 {}");
    for answer in ["*", "no base64!", "x"] {
        let input = format!("AUTH XOAUTH2 eA==\r\n{answer}\r\n").repeat(10);
        let codes = all_codes(settings.clone(), input, refused);
        assert_eq!(codes.iter().filter(|code| code.starts_with("501")).count(), 3, "{answer}");
        assert_eq!(codes.last().map(String::as_str), Some("421 4.7.0"), "{answer}");
    }
}

#[test]
fn faults_c4_any_name_where_it_is_forgiven() {
    let names: [&[u8]; 7] =
        [b"host.local.", b"x-.domain", b"[::1]", "M\u{dc}LLER-PC".as_bytes(), b"M\xdcLLER-PC", b"John's-PC", b"a..b"];
    let any = ServerSettings { lenient: Leniency { hello_any: true, ..Leniency::default() }, ..settings() };
    for name in names {
        for verb in [&b"EHLO "[..], b"HELO "] {
            let line = [verb, name, b"\r\n"].concat();
            assert!(run_in(settings(), &line).output.starts_with("220 mx.example ESMTP\r\n501 "));
            assert!(run_in(any.clone(), &line).output.starts_with("220 mx.example ESMTP\r\n250"), "{line:?}");
        }
    }
    for wrong in [&b"EHLO a\x01b\r\n"[..], b"EHLO a b\r\n", b"EHLO a\x7fb\r\n", b"EHLO \r\n", b"EHLO\r\n"] {
        assert!(run_in(any.clone(), wrong).output.starts_with("220 mx.example ESMTP\r\n501 "), "{wrong:?}");
    }
    let auth = vec!["PLAIN".to_owned()];
    let submission = ServerSettings { submission: true, auth, tls: TlsMode::StartTls, ..settings() };
    assert!(run_in(submission, b"EHLO John's-PC\r\n").output.contains("\r\n250"));
}

#[test]
fn faults_c6_white_space_behind_base64() {
    let auth = vec!["LOGIN".to_owned()];
    let settings = ServerSettings { auth_in_clear: auth.clone(), auth, ..settings() };
    let program: Program = |event| match event {
        "auth LOGIN" => Some("334 VXNlcm5hbWU6"),
        r#"response "pw""# => Some("235 2.7.0 ok"),
        _ => None,
    };
    for end in [" ", "\t", "  \t"] {
        let codes = all_codes(settings.clone(), format!("AUTH LOGIN\r\ncHc={end}\r\n"), program);
        assert_eq!(codes, ["334", "235 2.7.0"]);
    }
}

#[test]
fn faults_c7_http_closes() {
    let body = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n";
    for line in ["PUT /", "OPTIONS *", "post / HTTP/1.1", "PRI * HTTP/2.0", "PROPFIND /a b HTTP/1.0", "Get /"] {
        let outcome = run_in(settings(), format!("{line}\r\nHost: mx\r\n\r\n{body}"));
        assert_eq!(outcome.replies(), ["421 4.7.0"], "{line}");
    }
    assert_eq!(run_in(settings(), "FOO HTTP\r\n").replies(), ["500 5.5.2"]);
}
