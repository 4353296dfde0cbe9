//! AUTH: RFC 4954. What the mechanisms say to each other is not the engine's: here it is bytes.
mod common;
use common::*;
use ehlo::session::{
    Decisions, ServerConfig, ServerConfigError, ServerConnection, ServerEvent, ServerMisuse, ServerSettings, TlsFacts,
    TlsMode,
};
use ehlo::syntax::reply::Reply;

fn offering(mechanisms: &[&str]) -> ServerSettings {
    let auth: Vec<String> = mechanisms.iter().map(|&name| name.to_owned()).collect();
    ServerSettings { auth_in_clear: auth.clone(), auth, ..settings() }
}

fn auth() -> ServerSettings {
    offering(&["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"])
}

/// Replies behind EHLO's, each written as it was said.
fn said(settings: ServerSettings, input: impl AsRef<[u8]>, program: Program) -> Vec<String> {
    let outcome = run_with(settings, [b"EHLO c.example\r\n", input.as_ref()].concat(), false, program);
    let lines: Vec<&str> = outcome.output.split_terminator("\r\n").collect();
    let hello = lines.iter().rposition(|line| line.starts_with("250 AUTH")).unwrap();
    lines[hello + 1..].iter().map(|line| (*line).to_owned()).collect()
}

fn codes(settings: ServerSettings, input: impl AsRef<[u8]>, program: Program) -> Vec<String> {
    run_with(settings, [b"EHLO c.example\r\n", input.as_ref()].concat(), false, program).replies()[1..].to_vec()
}

/// PLAIN, checked as far as a test needs it.
fn plain(event: &str) -> Option<&'static str> {
    match event {
        r#"auth PLAIN"# => Some("334 "),
        r#"auth PLAIN "\\x00test\\x001234""# | r#"response "\\x00test\\x001234""# => Some("235 test"),
        _ if event.contains("\\x00") => Some("535 5.7.8 no"),
        _ if event.starts_with("auth") || event.starts_with("response") => Some("501 5.5.2 not PLAIN"),
        _ => None,
    }
}

const GOOD: &str = "AHRlc3QAMTIzNA==";

#[test]
fn s_aut_01_and_02_mechanisms() {
    // S-AUT-02
    let input = "AUTH\r\nAUTH FOO\r\nAUTH PLA!N\r\nAUTH plain AHRlc3QAMTIzNA==\r\n";
    assert_eq!(codes(auth(), input, plain), ["501 5.5.4", "504 5.5.4", "501 5.5.4", "235 2.7.0"]);
    assert_eq!(codes(auth(), format!("AUTH {}\r\n", "A".repeat(21)), plain), ["501 5.5.4"]);
    assert_eq!(codes(auth(), format!("AUTH {}\r\n", "A".repeat(20)), plain), ["504 5.5.4"]);
    assert_eq!(codes(settings(), "AUTH PLAIN\r\n", plain), ["502 5.5.1"]);
    for name in ["", "PLA!N", "ABCDEFGHIJKLMNOPQRSTU", "PL AIN"] {
        assert!(matches!(ServerConfig::new(offering(&[name])), Err(ServerConfigError::Mechanism(_))), "{name}");
    }
    assert!(matches!(ServerConfig::new(offering(&["PLAIN", "plain"])), Err(ServerConfigError::Mechanism(_))));
    assert!(keywords(offering(&["plain", "LOGIN"])).contains(&"AUTH PLAIN LOGIN".into()));
}

#[test]
fn s_aut_03_not_twice() {
    let input = format!("AUTH PLAIN {GOOD}\r\nAUTH PLAIN {GOOD}\r\nAUTH FOO\r\n");
    assert_eq!(codes(auth(), input, plain), ["235 2.7.0", "503 5.5.1", "503 5.5.1"]);
}

#[test]
fn s_aut_04_and_05_order() {
    let input = format!("MAIL FROM:<a@b>\r\nAUTH PLAIN {GOOD}\r\nRCPT TO:<c@d>\r\n");
    assert_eq!(codes(auth(), input, plain), ["250 2.1.0", "503 5.5.1", "250 2.1.5"]); // S-AUT-04
    let outcome = run_with(auth(), format!("AUTH PLAIN {GOOD}\r\nHELO x\r\nAUTH PLAIN {GOOD}\r\n"), false, plain);
    assert_eq!(outcome.replies(), ["503 5.5.1", "250", "503 5.5.1"]); // S-AUT-05
}

#[test]
fn s_aut_06_not_without_tls() {
    let settings = ServerSettings { auth_in_clear: Vec::new(), tls: TlsMode::StartTls, ..auth() };
    let clear = format!("EHLO c.example\r\nAUTH PLAIN {GOOD}\r\nAUTH FOO\r\nSTARTTLS\r\n");
    let inside = format!("EHLO c.example\r\nAUTH PLAIN {GOOD}\r\n");
    let outcome = flights(&settings, &[clear.as_bytes(), inside.as_bytes()], TlsFacts::default(), plain);
    assert_eq!(outcome.replies(), ["250", "538 5.7.11", "504 5.5.4", "220 2.0.0", "250", "235 2.7.0"]);
    assert_eq!(outcome.output.matches("AUTH").count(), 1);
    let never = ServerSettings { tls: TlsMode::Off, ..settings };
    assert_eq!(ServerConfig::new(never).unwrap_err(), ServerConfigError::AuthNeverOffered);
    for name in ["SCRAM-SHA-256-PLUS", "LOGIN"] {
        let settings = ServerSettings {
            auth: vec!["PLAIN".into(), "SCRAM-SHA-256-PLUS".into()],
            auth_in_clear: vec![name.into()],
            ..common::settings()
        };
        assert_eq!(ServerConfig::new(settings).unwrap_err(), ServerConfigError::AuthInClear(name.into()));
    }
}

#[test]
fn s_aut_07_challenges() {
    assert_eq!(said(auth(), "AUTH PLAIN\r\n", plain), ["334 "]);
    let program: Program = |event| match event {
        "auth LOGIN" => Some("334 Username:"),
        r#"response "jane""# => Some("334 Password:"),
        r#"response "secret""# => Some("235 jane"),
        _ => None,
    };
    let input = "AUTH LOGIN\r\namFuZQ==\r\nc2VjcmV0\r\nNOOP\r\n";
    let got = said(auth(), input, program);
    assert_eq!(got, ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 Authentication succeeded", "250 2.0.0 OK"]);
}

#[test]
fn s_aut_08_an_empty_initial_response_is_not_none() {
    let program: Program = |event| match event {
        "auth EXTERNAL" => Some("334 "),
        r#"auth EXTERNAL """# => Some("235 from the certificate"),
        r#"response """# => Some("235 the same"),
        _ => Some("535 5.7.8 no"),
    };
    assert_eq!(codes(auth(), "AUTH EXTERNAL =\r\n", program), ["235 2.7.0"]);
    assert_eq!(codes(auth(), "AUTH EXTERNAL\r\n\r\n", program), ["334", "235 2.7.0"]);
    assert_eq!(codes(auth(), "AUTH EXTERNAL\r\n=\r\n", program), ["334", "501 5.5.2"]);
}

#[test]
fn s_aut_09_a_server_first_mechanism_has_no_initial_response() {
    assert_eq!(codes(auth(), "AUTH CRAM-MD5 eA==\r\nAUTH CRAM-MD5 =\r\n", plain), ["501 5.7.0", "501 5.7.0"]);
    let program: Program = |event| (event == r#"auth LOGIN "jane""#).then_some("334 Password:");
    assert_eq!(codes(auth(), "AUTH LOGIN amFuZQ==\r\nc2VjcmV0\r\n", program), ["334", "235 2.7.0"]);
}

#[test]
fn s_aut_10_cancel() {
    assert_eq!(codes(auth(), "AUTH PLAIN\r\n*\r\nNOOP\r\n", plain), ["334", "501 5.7.0", "250 2.0.0"]);
    assert_eq!(codes(auth(), "AUTH PLAIN *\r\n", plain), ["501 5.5.2"]);
}

#[test]
fn s_aut_11_base64_is_strict() {
    for text in ["=AAA", "AAA=BBB", "AA A", "AAA", "AA==AA==", "AA\rA", "AA\nA", "A\u{e4}A", "AAAA=", " AAAA"] {
        let got = codes(auth(), format!("AUTH PLAIN\r\n{text}\r\nNOOP\r\n"), plain);
        assert_eq!(got, ["334", "501 5.5.2", "250 2.0.0"], "{text:?}");
    }
    for text in ["=AAA", "AAA=BBB", "AA A", "AAA", "AA==AA=="] {
        assert_eq!(
            codes(auth(), format!("AUTH PLAIN {text}\r\nNOOP\r\n"), plain),
            ["501 5.5.2", "250 2.0.0"],
            "{text:?}"
        );
    }
}

#[test]
fn s_aut_12_long_responses() {
    // B-LIN-19
    let program: Program = |event| if event.len() > 9000 { Some("235 long") } else { Some("334 ") };
    let run = |length: usize| codes(auth(), format!("AUTH PLAIN\r\n{}\r\nNOOP\r\n", "A".repeat(length)), program);
    assert_eq!(run(12288), ["334", "235 2.7.0", "250 2.0.0"]);
    assert_eq!(run(12289), ["334", "500 5.5.6", "250 2.0.0"]);
    assert_eq!(run(100_000), ["334", "500 5.5.6", "250 2.0.0"]);
    // Nothing of it is kept.
    let mut conn = connection(auth());
    conn.receive(b"EHLO c.example\r\nAUTH PLAIN\r\n");
    conn.poll_event();
    conn.challenge(b"").unwrap();
    for _ in 0..64 {
        conn.receive(&[b'A'; 4096]);
        assert!(conn.poll_event().is_none() && conn.buffered() <= 12288 + 4096);
    }
}

#[test]
fn s_aut_13_the_command_is_a_command_line() {
    let input = format!("AUTH PLAIN {}\r\nNOOP\r\n", "A".repeat(3000));
    assert_eq!(codes(auth(), input, plain), ["500 5.5.2", "250 2.0.0"]);
}

#[test]
fn s_aut_14_every_answer() {
    for (reply, got) in [
        ("535 5.7.8 wrong", "535 5.7.8"),
        ("454 4.7.0 backend down", "454 4.7.0"),
        ("534 5.7.9 too weak", "534 5.7.9"),
        ("432 4.7.12 a new password is needed", "432 4.7.12"),
        ("501 5.5.2 malformed", "501 5.5.2"),
    ] {
        let mut conn = connection(auth());
        conn.receive(format!("EHLO c.example\r\nAUTH PLAIN {GOOD}\r\n").as_bytes());
        assert!(matches!(conn.poll_event(), Some(ServerEvent::Auth { .. })));
        conn.clear_output();
        conn.reply(&Reply::parse_text(reply).unwrap()).unwrap();
        assert!(conn.output().starts_with(got.as_bytes()), "{reply}");
        assert_eq!(conn.auth_failures(), u64::from(reply.starts_with('5')));
        assert_eq!(conn.identity(), None);
    }
    assert_eq!(said(auth(), format!("AUTH PLAIN {GOOD}\r\n"), plain), ["235 2.7.0 Authentication succeeded"]);
}

#[test]
fn s_aut_15_require_auth() {
    let settings = ServerSettings { require_auth: true, ..auth() };
    let input = format!(
        "MAIL FROM:<a@b>\r\nMAIL x\r\nVRFY x\r\nHELP\r\nRCPT TO:<a@b>\r\nDATA\r\nBDAT 6 LAST\r\nQUIT\r\nSTARTTLS\r\nRSET\r\nNOOP\r\n\
        EHLO c.example\r\nAUTH PLAIN {GOOD}\r\nMAIL FROM:<a@b>\r\n"
    );
    let barred = "530 5.7.0";
    let before = [barred; 7];
    let after = ["502 5.5.1", "250 2.0.0", "250 2.0.0", "250", "235 2.7.0", "250 2.1.0"];
    assert_eq!(codes(settings, input, plain), [&before[..], &after].concat());
    let nothing = ServerSettings { require_auth: true, ..common::settings() };
    assert_eq!(ServerConfig::new(nothing).unwrap_err(), ServerConfigError::RequiresAuth);
}

#[test]
fn s_aut_16_failures_are_counted() {
    let bad = "AUTH PLAIN AHRlc3QAeA==\r\n";
    assert_eq!(codes(auth(), format!("{bad}{bad}NOOP\r\n"), plain), ["535 5.7.8", "535 5.7.8", "250 2.0.0"]);
    let outcome = run_with(auth(), format!("EHLO c.example\r\n{bad}{bad}{bad}NOOP\r\n"), false, plain);
    assert_eq!(outcome.replies()[1..], ["535 5.7.8", "535 5.7.8", "535 5.7.8", "421 4.7.0"]);
    assert!(outcome.closed && outcome.has("Disconnect(Limit)"));
    assert!(outcome.output.ends_with("421 4.7.0 mx.example Too many failed authentications\r\n"));
    assert!(
        !run_with(
            ServerSettings { max_auth_failures: None, ..auth() },
            format!("EHLO x\r\n{}", bad.repeat(9)),
            false,
            plain
        )
        .closed
    );
}

#[test]
fn s_aut_17_what_ends_it() {
    let settings = ServerSettings { require_auth: true, tls: TlsMode::StartTls, ..auth() };
    let clear = format!(
        "EHLO c.example\r\nAUTH PLAIN {GOOD}\r\nRSET\r\nMAIL FROM:<a@b>\r\nEHLO c.example\r\nMAIL FROM:<a@b>\r\nRSET\r\nSTARTTLS\r\n"
    );
    let outcome =
        flights(&settings, &[clear.as_bytes(), b"EHLO c.example\r\nMAIL FROM:<a@b>\r\n"], TlsFacts::default(), plain);
    let got = outcome.replies();
    assert_eq!(got[1..8], ["235 2.7.0", "250 2.0.0", "250 2.1.0", "250", "250 2.1.0", "250 2.0.0", "220 2.0.0"]);
    assert_eq!(got[8..], ["250", "530 5.7.0"]);
}

#[test]
fn s_aut_18_a_line_in_an_exchange_is_a_response() {
    let input = "AUTH PLAIN\r\nQUIT\r\nNOOP\r\n";
    assert_eq!(codes(auth(), input, plain), ["334", "501 5.5.2", "250 2.0.0"]);
    // HTTP and TLS are not looked for in it.
    assert_eq!(codes(auth(), "AUTH PLAIN\r\nGET / HTTP/1.1\r\nNOOP\r\n", plain), ["334", "501 5.5.2", "250 2.0.0"]);
}

#[test]
fn s_aut_19_in_a_group() {
    let input = format!("AUTH PLAIN {GOOD}\r\nMAIL FROM:<a@b> AUTH=<>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\n");
    assert_eq!(codes(auth(), &input, plain), ["235 2.7.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]);
    // AUTH= goes with AUTH (RFC 4954 5).
    assert_eq!(after_ehlo(settings(), "MAIL FROM:<a@b> AUTH=<>\r\n"), ["555 5.5.4"]);
    let in_tls = ServerSettings { auth_in_clear: Vec::new(), tls: TlsMode::StartTls, ..auth() };
    let mail: &[u8] = b"EHLO c.example\r\nMAIL FROM:<a@b> AUTH=e+3Dmc2@example.com\r\n";
    let outcome = flights(&in_tls, &[&[mail, b"STARTTLS\r\n"].concat(), mail], TlsFacts::default(), plain);
    assert_eq!(outcome.replies(), ["250", "555 5.5.4", "220 2.0.0", "250", "250 2.1.0"]);
}

#[test]
fn b_aut_34_secrets_are_not_shown() {
    let settings = ServerSettings { decisions: Decisions::default(), ..auth() };
    let mut conn = connection(settings);
    conn.receive(b"EHLO c.example\r\nAUTH PLAIN AHRlc3QAc2VjcmV0\r\n");
    let mut shown = format!("{:?} {conn:?}", conn.poll_event().unwrap());
    conn.challenge(b"more").unwrap();
    conn.receive(b"AHRlc3QAc2VjcmV0\r\n");
    shown += &format!("{:?} {conn:?}", conn.poll_event().unwrap());
    assert!(shown.contains("PLAIN") && !shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
    assert!(!shown.contains("115, 101, 99"), "{shown}");
}

fn asked() -> ServerConnection {
    let mut conn = connection(auth());
    conn.receive(b"EHLO c.example\r\nAUTH PLAIN\r\n");
    conn
}

#[test]
fn misuse() {
    let mut conn = asked();
    assert_eq!(conn.challenge(b""), Err(ServerMisuse::NoDecision)); // the event was not read
    conn.poll_event();
    assert_eq!(conn.accept(), Err(ServerMisuse::NeedsIdentity));
    for text in ["235 2.7.0 ok", "334 more", "250 ok"] {
        let wrong = conn.reply(&Reply::parse_text(text).unwrap());
        assert!(matches!(wrong, Err(ServerMisuse::WrongClass { expected: "4yz or 5yz", .. })), "{text}");
    }
    conn.challenge(b"").unwrap();
    assert_eq!(conn.accept_identity("x"), Err(ServerMisuse::NoDecision));
    let all = ServerSettings { decisions: all_decisions(), ..auth() };
    let mut conn = connection(all);
    conn.poll_event();
    assert_eq!(conn.challenge(b""), Err(ServerMisuse::NotAuth));
    assert_eq!(conn.accept_identity("x"), Err(ServerMisuse::NotAuth));
}

#[test]
fn the_end_may_come_in_an_exchange() {
    let mut conn = asked();
    conn.poll_event();
    conn.challenge(b"").unwrap();
    assert_eq!(conn.timeout().unwrap().as_secs(), 300);
    conn.clear_output();
    conn.shutdown(None).unwrap();
    assert!(conn.output().starts_with(b"421 4.3.2 ") && conn.is_closed());
    let mut conn = asked();
    conn.poll_event();
    conn.reply(&Reply::parse_text("421 4.7.0 enough").unwrap()).unwrap();
    assert!(conn.is_closed());
    let mut conn = asked();
    conn.poll_event();
    conn.challenge(b"").unwrap();
    conn.receive_timeout();
    assert!(conn.output().ends_with(b"421 4.4.2 mx.example Timeout\r\n"));
}
