//! What a program may say in its own words: texts, keywords, commands, refusals, replies to EHLO and AUTH.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerConfig, ServerConfigError, ServerEvent, ServerSettings, TextError};
use ehlo::syntax::options::Leniency;
use ehlo::syntax::reply::Reply;

fn with_texts(texts: &[(&str, &str)]) -> ServerSettings {
    let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    ServerSettings { texts, ..settings() }
}

fn said(settings: ServerSettings, input: &str, program: Program) -> Vec<String> {
    let output = run_with(settings, input, false, program).output;
    output.lines().map(str::to_owned).collect()
}

fn yes(_: &str) -> Option<&'static str> {
    None
}

#[test]
fn texts_replace_the_words_and_keep_the_codes() {
    let texts = [("greeting", "hello there"), ("sender_ok", "fine"), ("bye", "So long"), ("need_mail", "not yet")];
    let got = said(with_texts(&texts), "HELO x\r\nDATA\r\nMAIL FROM:<a@b>\r\nQUIT\r\n", yes);
    let wanted =
        ["220 mx.example hello there", "250 mx.example", "503 5.5.1 not yet", "250 2.1.0 fine", "221 2.0.0 So long"];
    assert_eq!(got, wanted);
}

#[test]
fn texts_are_checked() {
    let fault = |name: &str, text: &str| ServerConfig::new(with_texts(&[(name, text)])).err();
    let wrong = |name: &str, fault| Some(ServerConfigError::Text(name.to_owned(), fault));
    assert_eq!(fault("by", "x"), wrong("by", TextError::Name));
    for text in ["", "a\r\nb", "a\nb", "caf\u{e9}", "a\0"] {
        assert_eq!(fault("bye", text), wrong("bye", TextError::Octets), "{text:?}");
    }
    assert_eq!(fault("bye", &"x".repeat(600)), wrong("bye", TextError::Length));
    assert_eq!(fault("bye", &"x".repeat(512 - "221 2.0.0 \r\n".len())), None);
}

#[test]
fn without_enhanced_codes_and_pipelining() {
    let settings = ServerSettings { pipelining: false, enhanced_status_codes: false, ..settings() };
    let program: Program = |event| event.starts_with("rcpt").then_some("550 no such user");
    let settings = ServerSettings { decisions: Decisions { rcpt: true, ..Decisions::default() }, ..settings };
    let got = said(settings, "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nFOO\r\nMAIL\r\n", program);
    assert!(!got.iter().any(|line| line.contains("PIPELINING") || line.contains("ENHANCED")), "{got:?}");
    assert_eq!(
        got[got.len() - 4..],
        ["250 OK", "550 no such user", "500 Command not recognized", "501 Syntax: MAIL FROM:<address> [parameters]"]
            .map(str::to_owned)
    );
}

#[test]
fn own_keywords() {
    let settings = |line: &str| ServerSettings { ehlo_keywords: vec![line.to_owned()], ..settings() };
    assert!(said(settings("XFOO bar baz"), "EHLO x\r\n", yes).contains(&"250 XFOO bar baz".to_owned()));
    for line in ["", " X", "X  y", "X\r\n250 Y", "X_Y", "X \u{e9}", &format!("X {}", "y".repeat(510))] {
        let error = ServerConfig::new(settings(line)).err();
        assert_eq!(error, Some(ServerConfigError::Keyword(line.to_owned())), "{line:?}");
    }
}

#[test]
fn own_commands_and_those_that_may_be_answered() {
    let settings = || ServerSettings { decisions: Decisions { command: true, ..Decisions::default() }, ..settings() };
    let program: Program = |event| match event {
        r#"Command { verb: "XVERSION", argument: "long please" }"# => Some("250 2.0.0 3.1"),
        r#"Command { verb: "NOOP", argument: "" }"# => Some("250 2.0.0 still here"),
        r#"Command { verb: "HELP", argument: "me" }"# => Some("214 2.0.0 call us"),
        _ => None,
    };
    let got = said(settings(), "xversion long please\r\nNOOP\r\nNOOP x\r\nHELP me\r\nFOO\r\nRSET\r\nQUIT\r\n", program);
    let wanted = [
        "220 mx.example ESMTP",
        "250 2.0.0 3.1",
        "250 2.0.0 still here",
        "250 2.0.0 OK",
        "214 2.0.0 call us",
        "500 5.5.2 Command not recognized",
        "250 2.0.0 OK",
        "221 2.0.0 Bye",
    ];
    assert_eq!(got, wanted);
    // A no to RSET keeps the transaction, a no to QUIT the session. A yes in other words does what the command does.
    let no: Program = |event| match event {
        r#"Command { verb: "RSET", argument: "" }"# => Some("450 4.3.0 not now"),
        r#"Command { verb: "QUIT", argument: "" }"# => Some("221 2.0.0 gone"),
        _ => None,
    };
    let got = run_with(settings(), "HELO x\r\nMAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<c@d>\r\nQUIT\r\nNOOP\r\n", false, no);
    assert_eq!(got.replies()[2..], ["450 4.3.0", "250 2.1.5", "221 2.0.0"]);
    assert!(got.closed);
}

#[test]
fn refusals_in_other_words() {
    let decisions = Decisions { refusal: true, ..Decisions::default() };
    let settings = || ServerSettings { decisions, max_message_size: Some(10), ..settings() };
    let program: Program = |event| match event {
        text if text.starts_with("Refusal") && text.contains("code: 503") => Some("503 5.5.1 in your dreams"),
        text if text.starts_with("Refusal") && text.contains("code: 552") => Some("552 5.3.4 much too big"),
        _ => None,
    };
    let input = "HELO x\r\nDATA\r\nFOO\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n01234567890123\r\n.\r\nNOOP\r\n";
    let got = said(settings(), input, program);
    let wanted = [
        "220 mx.example ESMTP",
        "250 mx.example",
        "503 5.5.1 in your dreams",
        "500 5.5.2 Command not recognized",
        "250 2.1.0 OK",
        "250 2.1.5 OK",
        "354 End data with <CRLF>.<CRLF>",
        "552 5.3.4 much too big",
        "250 2.0.0 OK",
    ];
    assert_eq!(got, wanted);
    // Refusals count as before, and the last one ends the session without asking.
    let got = run_with(settings(), "FOO\r\n".repeat(50), false, program).replies();
    assert_eq!((got.len(), got.last().map(String::as_str)), (21, Some("421 4.7.0")));
}

#[test]
fn a_refusal_stays_one() {
    let mut conn =
        connection(ServerSettings { decisions: Decisions { refusal: true, ..Decisions::default() }, ..settings() });
    conn.receive(b"FOO\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Refusal { line, .. }) if line == b"FOO"));
    assert!(conn.reply(&Reply::parse_text("250 fine").unwrap()).is_err());
    conn.accept().unwrap();
    assert!(conn.output().ends_with(b"500 5.5.2 Command not recognized\r\n"));
}

#[test]
fn own_reply_to_ehlo() {
    let mut conn =
        connection(ServerSettings { decisions: Decisions { hello: true, ..Decisions::default() }, ..settings() });
    conn.receive(b"EHLO x\r\nMAIL FROM:<a@b>\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Hello { .. })));
    conn.reply(&Reply::from_lines(250, None, &["mx.example at your service", "XFOO"]).unwrap()).unwrap();
    assert!(conn.poll_event().is_none());
    assert!(conn.output().ends_with(b"250-mx.example at your service\r\n250 XFOO\r\n250 2.1.0 OK\r\n"));
}

#[test]
fn own_octets_as_an_answer() {
    let decisions = Decisions { hello: true, mail: true, rcpt: true, message: true, ..Decisions::default() };
    let mut conn = connection(ServerSettings { decisions, ..settings() });
    conn.clear_output();
    conn.receive(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\nhi\r\n.\r\n");
    let mut recipients = 0;
    while let Some(event) = conn.poll_event() {
        let (octets, accepted): (&[u8], bool) = match event {
            ServerEvent::Hello { .. } => (b"250-one\r\n250 two\r\n", true),
            ServerEvent::Rcpt(recipient) => (b"299 whatever\r\n", recipient.path.as_written() == "e@f"),
            ServerEvent::Message { envelope, .. } => {
                recipients = envelope.recipients.len();
                (b"250 kept\r\n", true)
            }
            _ => (b"250 yes\r\n", true),
        };
        assert!(conn.answer_raw(b"250 no end", true).is_err());
        conn.answer_raw(octets, accepted).unwrap();
    }
    let wanted = "250-one\r\n250 two\r\n250 yes\r\n299 whatever\r\n299 whatever\r\n354 End data with <CRLF>.<CRLF>\r\n250 kept\r\n";
    assert_eq!(String::from_utf8_lossy(conn.output()), wanted);
    assert_eq!((recipients, conn.messages()), (1, 1));
}

#[test]
fn own_words_for_235() {
    let auth = || vec!["XMAGIC".to_owned()];
    let mut conn = connection(ServerSettings { auth: auth(), auth_in_clear: auth(), ..settings() });
    conn.receive(b"EHLO x\r\nAUTH XMAGIC\r\n");
    conn.poll_event().unwrap();
    assert!(conn.accept_identity_with("jane", &Reply::parse_text("250 in").unwrap()).is_err());
    conn.accept_identity_with("jane", &Reply::parse_text("235 2.7.0 Welcome back").unwrap()).unwrap();
    assert!(conn.output().ends_with(b"235 2.7.0 Welcome back\r\n"));
    assert_eq!(conn.identity(), Some("jane"));
    let mut conn = connection(ServerSettings { auth: auth(), auth_in_clear: auth(), ..settings() });
    conn.receive(b"EHLO x\r\nAUTH XMAGIC\r\n");
    conn.poll_event().unwrap();
    conn.challenge(b"?").unwrap();
    conn.receive(b"*\r\nNOOP\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::AuthCancelled)));
    assert!(
        conn.poll_event().is_none()
            && conn.output().ends_with(b"501 5.7.0 Authentication cancelled\r\n250 2.0.0 OK\r\n")
    );
}

#[test]
fn no_domain_is_forgiven_by_name() {
    let strict = run_with(settings(), "HELO x\r\nMAIL FROM:<root>\r\n", false, yes).replies();
    assert_eq!(strict[1], "501 5.1.7");
    let lenient = Leniency { no_domain: true, bare_paths: true, ..Leniency::default() };
    let decisions = Decisions { mail: true, rcpt: true, ..Decisions::default() };
    let got = run_with(
        ServerSettings { lenient, decisions, ..settings() },
        "EHLO x\r\nMAIL FROM:<root> SIZE=5\r\nRCPT TO:<Postmaster>\r\nRCPT TO:<daemon>\r\nRCPT TO:cron\r\nRCPT TO:<@>\r\n",
        false,
        yes,
    );
    assert_eq!(got.replies()[1..], ["250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.1.5", "501 5.1.3"]);
    assert_eq!(got.events[0], "mail <root> SIZE=5");
    assert!(got.events[1].starts_with("rcpt <Postmaster>") && got.events[2].starts_with("rcpt <daemon>"));
    let submission = ServerSettings {
        lenient,
        submission: true,
        auth: vec!["PLAIN".into()],
        auth_in_clear: vec!["PLAIN".into()],
        ..settings()
    };
    let got = run_with(submission, "EHLO x\r\nAUTH PLAIN =\r\nMAIL FROM:<root>\r\n", false, yes).replies();
    assert_eq!(got.last().map(String::as_str), Some("554 5.1.8"), "submission asks for a domain (RFC 6409 4.2)");
}

#[test]
fn the_octets_of_a_proxy_header() {
    let settings = || ServerSettings { proxy: true, ..settings() };
    let good = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    let mut conn = connection(settings());
    conn.receive(&[good, &b"NOOP\r\n"[..]].concat());
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Proxy(_))));
    assert_eq!(conn.proxy_octets(), good);
    // The octets of a bad header end where it is known to be bad, however they come.
    for step in [1, 3, 100] {
        let mut conn = connection(settings());
        let mut events = Vec::new();
        for octets in b"PROXY TCP4 192.0.2.1 oops 1 2\r\nNOOP\r\n".chunks(step) {
            conn.receive(octets);
            events.extend(std::iter::from_fn(|| conn.poll_event()));
        }
        let [ServerEvent::BadProxy(octets), ServerEvent::Disconnect(_)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(octets, b"PROXY TCP4 192.0.2.1 oops 1 2\r\n");
        assert!(conn.output().is_empty());
    }
}
