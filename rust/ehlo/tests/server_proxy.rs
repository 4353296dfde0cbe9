//! Behind a proxy: the PROXY header before anything else.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerConnection, ServerDisconnect, ServerEvent, ServerSettings, TlsFacts, TlsMode};
use ehlo::syntax::reply::Reply;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n";

fn proxied() -> ServerSettings {
    ServerSettings { proxy: true, ..settings() }
}

fn address(conn: &ServerConnection) -> Option<String> {
    conn.client_address().map(|(address, port)| format!("{address} {port:?}"))
}

#[test]
fn s_pxy_01_no_header_no_word() {
    for input in [&b"EHLO x\r\n"[..], b"PROXY FOO\r\n", b"\x16\x03\x01", b"\r\n\r\n\0\r\nQUIT\r", b"PROXY TCP4 x\n"] {
        let outcome = run_in(proxied(), input);
        assert_eq!((outcome.output.as_str(), outcome.closed), ("", true), "{}", input.escape_ascii());
        assert_eq!(outcome.events.last().map(String::as_str), Some("Disconnect(Protocol)"));
        assert!(outcome.events[0].starts_with("BadProxy(") && outcome.events.len() == 2, "{:?}", outcome.events);
    }
    assert!(connection(proxied()).output().is_empty());
    // Where none is expected, it is a command that nobody knows.
    assert_eq!(run(HEADER).replies(), ["500 5.5.2"]);
}

#[test]
fn s_pxy_02_and_05_the_peer() {
    let mut conn = connection(proxied());
    conn.receive(HEADER);
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Proxy(_))));
    assert!(conn.output().is_empty(), "the program comes first");
    conn.accept().unwrap();
    assert_eq!(conn.output(), b"220 mx.example ESMTP\r\n");
    assert_eq!(address(&conn).unwrap(), "192.0.2.1 Some(56324)");
    let mut conn = connection(proxied());
    conn.receive(b"PROXY UNKNOWN foo\r\n"); // S-PXY-05
    conn.poll_event();
    conn.accept().unwrap();
    assert_eq!((conn.output(), address(&conn)), (&b"220 mx.example ESMTP\r\n"[..], None));
    assert!(conn.proxy().is_some());
}

#[test]
fn s_pxy_10_in_pieces_and_with_what_follows() {
    let outcome = run_in(proxied(), [HEADER, b"EHLO x\r\nNOOP\r\n"].concat());
    assert_eq!(outcome.replies(), ["250", "250 2.0.0"]);
    let mut conn = connection(proxied());
    assert_eq!(conn.timeout().unwrap().as_secs(), 5);
    conn.receive(&HEADER[..10]);
    conn.receive_timeout();
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Disconnect(ServerDisconnect::Timeout))));
    assert!(conn.output().is_empty());
    let mut conn = connection(proxied());
    conn.shutdown(None).unwrap();
    assert!(conn.output().is_empty() && conn.is_closed());
    let outcome = run_with(proxied(), &HEADER[..20], true, |_| None);
    assert_eq!((outcome.events, outcome.output), (vec!["Disconnect(Eof)".to_owned()], String::new()));
}

#[test]
fn s_pxy_11_it_outlives_starttls() {
    let mut conn = connection(ServerSettings { tls: TlsMode::StartTls, ..proxied() });
    conn.receive(&[HEADER, b"EHLO x\r\nSTARTTLS\r\n"].concat());
    while conn.poll_event().is_some() {
        conn.accept().unwrap();
    }
    conn.clear_output();
    conn.tls_established(TlsFacts::default()).unwrap();
    assert_eq!(address(&conn).unwrap(), "192.0.2.1 Some(56324)");
}

#[test]
fn b_tls_15_the_handshake_comes_behind_the_header() {
    let settings = ServerSettings { tls: TlsMode::Implicit, ..proxied() };
    let mut conn = connection(settings.clone());
    assert!(!conn.is_handshaking());
    conn.receive(&[HEADER, b"\x16\x03\x01\x02\x00\x01"].concat());
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Proxy(_))));
    conn.accept().unwrap();
    assert!(conn.is_handshaking() && conn.output().is_empty());
    assert_eq!(conn.take_tls_input(), b"\x16\x03\x01\x02\x00\x01");
    conn.tls_established(TlsFacts::default()).unwrap();
    assert_eq!(conn.output(), b"220 mx.example ESMTP\r\n");
    // A refusal is not said in the clear.
    let mut conn = connection(settings);
    conn.receive(HEADER);
    conn.poll_event();
    conn.reply(&Reply::parse_text("421 4.7.0 too many").unwrap()).unwrap();
    assert!(conn.output().is_empty() && conn.is_closed());
}

#[test]
fn the_program_may_refuse_and_is_asked_to_greet() {
    let busy = run_with(proxied(), [HEADER, b"EHLO x\r\n"].concat(), false, |_| Some("421 4.7.0 too many"));
    assert_eq!((busy.output.as_str(), busy.closed), ("421 too many\r\n", true));
    let refused = run_with(proxied(), [HEADER, b"EHLO x\r\nQUIT\r\n"].concat(), false, |_| Some("554 5.7.1 no"));
    assert!(refused.output.starts_with("554 no\r\n503 5.5.1 "), "{}", refused.output);
    let asked = ServerSettings { decisions: Decisions { connect: true, ..Decisions::default() }, ..proxied() };
    let outcome = run_in(asked, HEADER);
    assert!(outcome.events[0].starts_with("Proxy(") && outcome.events[1] == "Connect");
}
