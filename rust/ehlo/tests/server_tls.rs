//! STARTTLS and implicit TLS: RFC 3207, 8314.
mod common;
use common::*;
use ehlo::session::{
    Decisions, InjectedInput, ServerConfig, ServerConfigError, ServerConnection, ServerDisconnect, ServerEvent,
    ServerMisuse, ServerSettings, TlsFacts, TlsMode,
};
use ehlo::syntax::reply::Reply;
use proptest::prelude::*;

fn starttls() -> ServerSettings {
    ServerSettings { tls: TlsMode::StartTls, ..settings() }
}

fn implicit() -> ServerSettings {
    ServerSettings { tls: TlsMode::Implicit, ..settings() }
}

fn with_auth(settings: ServerSettings) -> ServerSettings {
    ServerSettings { auth: vec!["PLAIN".into(), "EXTERNAL".into(), "SCRAM-SHA-256-PLUS".into()], ..settings }
}

/// What is said behind the first of `flights`.
fn encrypted(settings: ServerSettings, clear: &str, inside: &str) -> Outcome {
    flights(&settings, &[clear.as_bytes(), inside.as_bytes()], TlsFacts::default(), |_| None)
}

/// At a handshake that STARTTLS asked for, the 220 sent.
fn shaking() -> ServerConnection {
    let mut conn = connection(starttls());
    conn.receive(b"EHLO c.example\r\nSTARTTLS\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::StartTls)));
    conn.accept().unwrap();
    assert!(conn.is_handshaking());
    conn.clear_output();
    conn
}

#[test]
fn s_tls_01_takes_no_argument() {
    let got = after_ehlo(starttls(), "STARTTLS x\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(got, ["501 5.5.4", "250 2.1.0"]);
}

#[test]
fn s_tls_02_ready_not_now_or_not_at_all() {
    let hello = "EHLO c.example\r\nSTARTTLS\r\n";
    let outcome = run_in(starttls(), hello);
    assert!(outcome.output.contains("\r\n250 STARTTLS\r\n"));
    assert_eq!(outcome.replies()[1], "220 2.0.0");
    let later =
        run_with(starttls(), format!("{hello}NOOP\r\nSTARTTLS\r\n"), false, |_| Some("454 4.7.0 no certificate"));
    assert_eq!(later.replies()[1..], ["454 4.7.0", "250 2.0.0", "454 4.7.0"]);
    assert_eq!(replies("STARTTLS\r\n"), ["502 5.5.1"]);
    assert!(!keywords(settings()).contains(&"STARTTLS".into()));
}

#[test]
fn s_tls_03_the_220_is_alone_and_last() {
    let mut conn = connection(starttls());
    conn.receive(b"EHLO c.example\r\nSTARTTLS\r\n");
    assert!(!String::from_utf8_lossy(conn.output()).contains("220 2.0.0"), "nothing before the program agrees");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::StartTls)));
    conn.accept().unwrap();
    assert!(conn.output().ends_with(b"220 2.0.0 Ready to start TLS\r\n"));
    assert_eq!(conn.tls_established(TlsFacts::default()), Err(ServerMisuse::UnsentOutput));
    conn.clear_output();
    // Nothing makes the server speak in the clear now.
    conn.shutdown(None).unwrap();
    assert!(conn.poll_event().is_none() && conn.output().is_empty());
    conn.tls_established(TlsFacts::default()).unwrap();
    assert!(conn.output().starts_with(b"421 4.3.2 "));
    let mut conn = shaking();
    conn.receive_timeout();
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Timeout))));
    assert!(conn.output().is_empty() && conn.is_closed());
}

#[test]
fn s_tls_04_what_came_in_the_clear_has_no_effect() {
    let settings = ServerSettings { injected_input: InjectedInput::Drop, ..starttls() };
    for injected in ["MAIL FROM:<x@y>\r\nNO", "EHLO evil\r\nMAIL FROM:<x@y>\r\nNO", "NO", "\r\n", "QUIT\r\n"] {
        let mut conn = connection(settings.clone());
        conn.receive(format!("EHLO c.example\r\nSTARTTLS\r\n{injected}").as_bytes());
        while let Some(event) = conn.poll_event() {
            assert!(matches!(event, ServerEvent::StartTls), "{event:?}");
            conn.accept().unwrap();
        }
        assert!(conn.output().ends_with(b"220 2.0.0 Ready to start TLS\r\n"));
        conn.clear_output();
        conn.tls_established(TlsFacts::default()).unwrap();
        conn.receive(b"OP\r\nMAIL FROM:<a@b>\r\n");
        assert!(conn.poll_event().is_none());
        let said = String::from_utf8_lossy(conn.output()).into_owned();
        assert!(said.starts_with("500 5.5.2 ") && said.contains("\r\n503 5.5.1 Say hello first\r\n"), "{said}");
    }
    // Octets that come while the handshake is awaited are the TLS layer's, or nobody's.
    for input in [InjectedInput::Refuse, InjectedInput::Drop] {
        let mut conn = connection(ServerSettings { injected_input: input, ..starttls() });
        conn.receive(b"EHLO c.example\r\nSTARTTLS\r\n");
        conn.poll_event();
        conn.accept().unwrap();
        conn.clear_output();
        conn.receive(b"MAIL FROM:<x@y>\r\n");
        assert!(conn.poll_event().is_none() && conn.output().is_empty());
        conn.tls_established(TlsFacts::default()).unwrap();
        let refused = input == InjectedInput::Refuse;
        assert_eq!((conn.output().starts_with(b"554 5.5.0 "), conn.is_closed()), (refused, refused));
    }
    let mut conn = shaking();
    conn.receive(b"\x16\x03\x01hello");
    assert_eq!(conn.take_tls_input(), b"\x16\x03\x01hello");
    conn.tls_established(TlsFacts::default()).unwrap();
    assert!(!conn.is_closed() && conn.take_tls_input().is_empty());
}

#[test]
fn s_tls_05_injected_octets_are_refused() {
    for injected in ["MAIL FROM:<x@y>\r\nNO", "N", "\n", "EHLO x\r\n"] {
        let mut conn = connection(starttls());
        conn.receive(format!("EHLO c.example\r\nSTARTTLS\r\n{injected}").as_bytes());
        assert!(matches!(conn.poll_event(), Some(ServerEvent::StartTls)));
        conn.accept().unwrap();
        assert!(matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Injection))));
        assert!(conn.is_closed() && conn.poll_event().is_none());
        let said = String::from_utf8_lossy(conn.output()).into_owned();
        assert!(said.ends_with("554 5.5.0 Octets in the clear behind STARTTLS; closing\r\n"), "{said}");
        assert!(!said.contains("220 2.0.0"));
    }
    // They may come while the program thinks about it.
    let mut conn = connection(starttls());
    conn.receive(b"EHLO c.example\r\nSTARTTLS\r\n");
    conn.poll_event();
    conn.receive(b"NOOP\r\n");
    conn.accept().unwrap();
    assert!(conn.is_closed());
    // Where TLS does not begin, they are what they always were.
    let mut conn = connection(starttls());
    conn.clear_output();
    conn.receive(b"EHLO c.example\r\nSTARTTLS\r\nNOOP\r\n");
    conn.poll_event();
    conn.clear_output();
    conn.reply(&Reply::parse_text("454 4.7.0 not now").unwrap()).unwrap();
    assert!(conn.poll_event().is_none());
    assert_eq!(conn.output(), b"454 4.7.0 not now\r\n250 2.0.0 OK\r\n");
}

#[test]
fn s_tls_06_the_session_starts_anew() {
    let outcome =
        encrypted(starttls(), "EHLO c.example\r\nSTARTTLS\r\n", "MAIL FROM:<a@b>\r\nEHLO c\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(outcome.replies()[1..], ["220 2.0.0", "503 5.5.1", "250", "250 2.1.0"]);
    let mut conn = shaking();
    let (commands, errors) = (conn.commands(), conn.errors());
    conn.tls_established(TlsFacts::default()).unwrap();
    assert_eq!((conn.hello(), conn.identity(), conn.protocol(), conn.is_tls()), (None, None, "SMTP", true));
    assert_eq!((conn.commands(), conn.errors()), (commands, errors)); // counters stay
    conn.receive(b"EHLO c\r\n");
    assert_eq!(conn.protocol(), "ESMTPS");
}

#[test]
fn s_tls_07_not_twice() {
    let outcome = encrypted(
        starttls(),
        "EHLO c.example\r\nSTARTTLS\r\n",
        "EHLO c\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n",
    );
    assert_eq!(outcome.output.matches("STARTTLS").count(), 1);
    assert_eq!(outcome.replies()[3..], ["503 5.5.1", "250 2.1.0", "503 5.5.1"]);
    assert_eq!(encrypted(implicit(), "EHLO c\r\nSTARTTLS\r\n", "").replies()[1..], ["503 5.5.1"]);
}

#[test]
fn s_tls_08_after_ehlo_and_outside_a_transaction() {
    assert_eq!(run_in(starttls(), "STARTTLS\r\n").replies(), ["503 5.5.1"]);
    assert_eq!(run_in(starttls(), "HELO x\r\nSTARTTLS\r\n").replies(), ["250", "503 5.5.1"]);
    let got = after_ehlo(
        starttls(),
        "MAIL FROM:<a@b>\r\nSTARTTLS\r\nRCPT TO:<c@d>\r\nBDAT 1\r\nxSTARTTLS\r\nBDAT 0 LAST\r\n",
    );
    assert_eq!(got, ["250 2.1.0", "503 5.5.1", "250 2.1.5", "250 2.0.0", "503 5.5.1", "250 2.0.0"]);
}

#[test]
fn s_tls_09_require_tls() {
    let settings = ServerSettings { require_tls: true, ..with_auth(starttls()) };
    let clear = "NOOP\r\nEHLO c.example\r\nMAIL FROM:<a@b>\r\nMAIL x\r\nHELO c\r\nRSET\r\nAUTH PLAIN\r\nVRFY x\r\nFOO\r\n\
        BDAT 6 LAST\r\nQUIT\r\nBDAT 6 X\r\nQUIT\r\nSTARTTLS\r\n";
    let outcome =
        flights(&settings, &[clear.as_bytes(), b"EHLO c.example\r\nMAIL FROM:<a@b>\r\n"], TlsFacts::default(), |_| {
            None
        });
    let barred = "530 5.7.0";
    let before =
        ["250 2.0.0", "250", barred, barred, barred, barred, barred, barred, "500 5.5.2", barred, barred, "220 2.0.0"];
    assert_eq!(outcome.replies(), [&before[..], &["250", "250 2.1.0"]].concat());
    assert_eq!(run_in(settings, "QUIT\r\n").replies(), ["221 2.0.0"]);
    let off = ServerSettings { require_tls: true, ..common::settings() };
    assert_eq!(ServerConfig::new(off).unwrap_err(), ServerConfigError::RequiresTls);
}

#[test]
fn s_tls_10_too_weak() {
    let mut conn = shaking();
    conn.tls_too_weak().unwrap();
    assert!(conn.output().is_empty(), "no second greeting");
    conn.receive(b"EHLO c.example\r\nNOOP\r\nBDAT 6\r\nQUIT\r\nQUIT\r\n");
    while conn.poll_event().is_some() {}
    let weak = "554 5.7.0 This TLS is too weak\r\n";
    assert_eq!(String::from_utf8_lossy(conn.output()), format!("{weak}{weak}{weak}221 2.0.0 Bye\r\n"));
    let mut conn = connection(implicit());
    conn.tls_too_weak().unwrap();
    conn.receive(b"EHLO x\r\n");
    assert_eq!(String::from_utf8_lossy(conn.output()), format!("554 mx.example This TLS is too weak\r\n{weak}"));
}

#[test]
fn s_tls_11_no_second_greeting() {
    let mut conn = shaking();
    conn.tls_established(TlsFacts::default()).unwrap();
    assert!(conn.poll_event().is_none() && conn.output().is_empty());
    let settings = ServerSettings { decisions: Decisions { connect: true, ..Decisions::default() }, ..starttls() };
    let outcome = encrypted(settings, "EHLO c.example\r\nSTARTTLS\r\n", "NOOP\r\n");
    assert_eq!(outcome.events, ["Connect", "StartTls", "handshake"]);
}

#[test]
fn s_tls_14_the_auth_list_differs() {
    let list = |facts| {
        let settings = ServerSettings { auth_in_clear: vec!["external".into()], ..with_auth(starttls()) };
        let clear: &[u8] = b"EHLO c.example\r\nSTARTTLS\r\n";
        let outcome = flights(&settings, &[clear, b"EHLO c.example\r\n"], facts, |_| None);
        let lines: Vec<String> =
            outcome.output.lines().filter(|l| l.contains("AUTH ")).map(|l| l[4..].into()).collect();
        lines.join("; ")
    };
    let facts = |channel_binding, client_certificate| TlsFacts { channel_binding, client_certificate };
    assert_eq!(list(facts(false, false)), "AUTH EXTERNAL; AUTH PLAIN");
    assert_eq!(list(facts(true, false)), "AUTH EXTERNAL; AUTH PLAIN SCRAM-SHA-256-PLUS");
    assert_eq!(list(facts(true, true)), "AUTH EXTERNAL; AUTH PLAIN EXTERNAL SCRAM-SHA-256-PLUS");
}

#[test]
fn b_tls_15_implicit_tls_comes_before_the_greeting() {
    let mut conn = connection(implicit());
    assert!(conn.is_handshaking() && conn.output().is_empty() && conn.poll_event().is_none());
    assert_eq!(conn.timeout().unwrap().as_secs(), 60);
    conn.tls_established(TlsFacts::default()).unwrap();
    assert_eq!(conn.output(), b"220 mx.example ESMTP\r\n");
    assert_eq!(conn.tls_established(TlsFacts::default()), Err(ServerMisuse::NoHandshake));
    let outcome = encrypted(implicit(), "EHLO c.example\r\n", "");
    assert!(!outcome.output.contains("STARTTLS"));
    let asked = ServerSettings { decisions: Decisions { connect: true, ..Decisions::default() }, ..implicit() };
    assert_eq!(encrypted(asked, "NOOP\r\n", "").events, ["handshake", "Connect"]);
}

#[test]
fn a_failed_handshake_says_nothing() {
    let mut conn = shaking();
    conn.tls_failed().unwrap();
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Tls))));
    assert!(conn.output().is_empty() && conn.is_closed());
    assert_eq!(conn.tls_failed(), Err(ServerMisuse::NoHandshake));
    let mut conn = shaking();
    conn.receive_eof();
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Eof))));
    let mut conn = shaking();
    conn.receive(&[0x16; 65537]);
    assert!(
        matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Protocol))),
        "kept octets are bounded"
    );
}

#[test]
fn received_says_how() {
    let keyword = |lmtp, mail: &str| {
        let settings = with_auth(ServerSettings { lmtp, ..implicit() });
        let mut conn = connection(settings);
        conn.tls_established(TlsFacts::default()).unwrap();
        let hello = if lmtp { "LHLO" } else { "EHLO" };
        conn.receive(format!("{hello} c.example\r\nAUTH PLAIN =\r\n{mail}").as_bytes());
        while let Some(event) = conn.poll_event() {
            if matches!(event, ServerEvent::Auth { .. }) {
                conn.accept_identity("jane").unwrap();
            }
        }
        conn.protocol()
    };
    assert_eq!(keyword(false, ""), "ESMTPSA");
    assert_eq!(keyword(true, ""), "LMTPSA");
    assert_eq!(keyword(false, "MAIL FROM:<a@b> SMTPUTF8\r\n"), "UTF8SMTPSA");
    assert_eq!(keyword(true, "MAIL FROM:<a@b> SMTPUTF8\r\n"), "UTF8LMTPSA");
}

#[test]
fn requiretls_is_offered_inside_tls_only() {
    // S-PAR-31, S-SES-13
    let settings = ServerSettings { requiretls: true, ..starttls() };
    let mail = "EHLO c.example\r\nMAIL FROM:<a@b> REQUIRETLS\r\n";
    let outcome = encrypted(settings, &format!("{mail}STARTTLS\r\n"), mail);
    assert_eq!(outcome.replies(), ["250", "555 5.5.4", "220 2.0.0", "250", "250 2.1.0"]);
    assert_eq!(outcome.output.matches("REQUIRETLS").count(), 1);
}

const PIPELINED: &[u8] =
    b"EHLO evil.example\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\n\
    DATA\r\nevil\r\n.\r\nBDAT 4 LAST\r\nevilXCLIENT NAME=evil.example\r\nRSET\r\nQUIT\r\n";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S-TLS-04: whatever is injected behind STARTTLS, and wherever it is cut, a session inside TLS is the same as one
    /// without it.
    #[test]
    fn no_injected_octet_has_effect(
        from in 0..PIPELINED.len(), to in 0..=PIPELINED.len(), noise in proptest::collection::vec(any::<u8>(), 0..20),
        inside in proptest::sample::select(vec!["OP\r\n", "\r\n", "EHLO c\r\nMAIL FROM:<a@b>\r\n", "RCPT TO:<a@b>\r\n", ".\r\nNOOP\r\n"]),
        late in any::<bool>(), early in any::<bool>(),
    ) {
        let injected = [&PIPELINED[from.min(to)..to], &noise].concat();
        let settings = with_auth(ServerSettings { injected_input: InjectedInput::Drop, auth_in_clear: vec!["PLAIN".into()], ..starttls() });
        let run = |injected: &[u8]| {
            let mut conn = connection(settings.clone());
            let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
            let opening = b"EHLO c.example\r\nSTARTTLS\r\n";
            if early {
                conn.receive(&[&opening[..], injected].concat());
            } else {
                conn.receive(opening);
                // Until the program has answered, it is all the same read.
                conn.receive(injected);
            }
            drain(&mut conn, |_| None, &mut outcome);
            if late {
                conn.receive(injected);
                drain(&mut conn, |_| None, &mut outcome);
            }
            conn.tls_established(TlsFacts::default()).unwrap();
            prop_assert_eq!(conn.buffered(), 0);
            conn.receive(inside.as_bytes());
            drain(&mut conn, |_| None, &mut outcome);
            Ok(outcome)
        };
        prop_assert_eq!(run(&injected)?, run(b"")?);
    }
}

#[test]
fn s_tls_04_no_octet_that_is_dropped_has_effect() {
    let settings = with_auth(ServerSettings { injected_input: InjectedInput::Drop, ..starttls() });
    let run = |injected: &[u8]| {
        let mut conn = connection(settings.clone());
        let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
        conn.receive(&[b"EHLO c.example\r\nSTARTTLS\r\n", injected].concat());
        drain(&mut conn, |_| None, &mut outcome);
        conn.tls_established(TlsFacts::default()).unwrap();
        conn.receive(b"OP\r\nRCPT TO:<a@b>\r\nEHLO c.example\r\nRCPT TO:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\n");
        drain(&mut conn, |_| None, &mut outcome);
        outcome
    };
    let clean = run(b"");
    for from in 0..PIPELINED.len() {
        assert_eq!(run(&PIPELINED[from..]), clean, "from octet {from}");
        assert_eq!(run(&PIPELINED[..=from]), clean, "up to octet {from}");
    }
}

#[test]
fn every_octet_of_what_is_injected_is_refused() {
    for to in 1..=PIPELINED.len() {
        let input = [b"EHLO c.example\r\nSTARTTLS\r\n", &PIPELINED[..to]].concat();
        let mut conn = connection(with_auth(starttls()));
        let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
        conn.receive(&input);
        drain(&mut conn, |_| None, &mut outcome);
        assert_eq!(outcome.events, ["StartTls", "Disconnect(Injection)"]);
        assert!(
            outcome.closed && outcome.output.ends_with("554 5.5.0 Octets in the clear behind STARTTLS; closing\r\n")
        );
    }
}
