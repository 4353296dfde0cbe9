//! XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README).
mod common;
use common::*;
use ehlo::session::{
    Decisions, ServerConfig, ServerConfigError, ServerConnection, ServerEvent, ServerSettings, TlsFacts, TlsMode,
};
use ehlo::syntax::xattr::{AttributeName, Attributes, Value};

fn offering() -> ServerSettings {
    let all = |has: fn(AttributeName) -> bool| AttributeName::ALL.into_iter().filter(|name| has(*name)).collect();
    ServerSettings { xclient: all(AttributeName::in_xclient), xforward: all(AttributeName::in_xforward), ..settings() }
}

/// Of a client that is trusted, wherever XCLIENT says that it is.
fn trusted(settings: ServerSettings) -> ServerConnection {
    let mut conn = connection(settings);
    conn.set_trusted(true);
    conn.clear_output();
    conn
}

/// The first four octets of each reply, but for the lines of EHLO, in every cut.
fn say(settings: &ServerSettings, input: &str) -> Vec<String> {
    let run = |pieces: &[&[u8]]| {
        let mut conn = trusted(settings.clone());
        for piece in pieces {
            conn.receive(piece);
            while let Some(event) = conn.poll_event() {
                match event {
                    ServerEvent::Xclient(_) => conn.set_trusted(true),
                    ServerEvent::Auth { .. } => conn.accept_identity("user").unwrap(),
                    _ => conn.accept().unwrap(),
                }
            }
        }
        String::from_utf8_lossy(conn.output()).into_owned()
    };
    let whole = run(&[input.as_bytes()]);
    for at in 1..input.len() {
        let (a, b) = input.as_bytes().split_at(at);
        assert_eq!(run(&[a, b]), whole, "cut at {at}");
    }
    whole.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| line[..9].trim_end().to_owned()).collect()
}

#[test]
fn s_pxy_13_only_for_the_trusted() {
    let untrusted = "XCLIENT NAME=a.example\r\nXFORWARD NAME=a.example\r\nXCLIENT\r\nXFORWARD x\r\n";
    assert_eq!(after_ehlo(offering(), untrusted), ["550 5.7.0"; 4]);
    assert_eq!(replies(untrusted), ["502 5.5.1"; 4]);
    assert!(!keywords(offering()).iter().any(|keyword| keyword.starts_with('X')));
    let mut conn = trusted(offering());
    conn.receive(b"EHLO x\r\n");
    let list = String::from_utf8_lossy(conn.output()).into_owned();
    assert!(list.contains("250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"), "{list}");
    assert!(list.ends_with("250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n"), "{list}");
    for (xclient, xforward, command) in
        [(vec![AttributeName::Source], vec![], "XCLIENT"), (vec![], vec![AttributeName::Login], "XFORWARD")]
    {
        let wrong = ServerSettings { xclient, xforward, ..settings() };
        assert_eq!(ServerConfig::new(wrong).unwrap_err(), ServerConfigError::Attribute(command));
    }
}

#[test]
fn s_pxy_14_grammar() {
    for wrong in [
        "XCLIENT",
        "XCLIENT FOO=1",
        "XCLIENT ADDR=999.1.1.1",
        "XCLIENT PORT=70000",
        "XCLIENT ADDR",
        "XCLIENT ADDR=",
        "XCLIENT ADDR=192.0.2.1 ADDR=192.0.2.2",
        "XCLIENT PORT=1 FOO=2",
        "XCLIENT NAME=a+0Ab",
        "XCLIENT IDENT=x",
    ] {
        assert_eq!(say(&offering(), &format!("{wrong}\r\n"))[0], "501 5.5.4", "{wrong}");
    }
    let some = ServerSettings { xclient: vec![AttributeName::Addr], ..settings() };
    assert_eq!(say(&some, "XCLIENT ADDR=192.0.2.1 PORT=25\r\n"), ["501 5.5.4"]);
    assert_eq!(say(&some, "xclient addr=192.0.2.1\r\n"), ["220 mx.ex"]);
}

#[test]
fn s_pxy_15_values() {
    let mut conn = trusted(offering());
    conn.receive(
        b"XCLIENT ADDR=IPV6:2001:db8::1 NAME=[unavailable] PORT=[UNAVAILABLE] PROTO=esmtp HELO=x+2By LOGIN=jane \
        DESTADDR=192.0.2.2 DESTPORT=25\r\n",
    );
    let Some(ServerEvent::Xclient(attributes)) = conn.poll_event() else { panic!() };
    assert_eq!(attributes.addr(), "2001:db8::1".parse().ok());
    assert_eq!((attributes.name(), attributes.get(AttributeName::Name)), (None, Some(&Value::Unavailable)));
    assert_eq!((attributes.port(), attributes.dest_port()), (None, Some(25)));
    assert_eq!(attributes.text(AttributeName::Helo), Some("x+y"));
    assert_eq!(attributes.dest_addr(), "192.0.2.2".parse().ok());
    assert!(!format!("{attributes:?}").contains("jane"));
    assert_eq!(conn.identity(), Some("jane"));
    conn.set_trusted(true);
    conn.receive(b"XCLIENT NAME=[TEMPUNAVAIL] LOGIN=[UNAVAILABLE]\r\n");
    conn.poll_event();
    let told: &Attributes = conn.xclient().unwrap();
    assert_eq!(told.get(AttributeName::Name), Some(&Value::TemporarilyUnavailable));
    assert_eq!(told.addr(), "2001:db8::1".parse().ok(), "what was said before stays");
    assert_eq!(conn.identity(), None);
    assert_eq!(say(&offering(), "XCLIENT PROTO=LMTP\r\n"), ["501 5.5.4"]);
    assert_eq!(say(&offering(), "XCLIENT ADDR=[TEMPUNAVAIL]\r\n"), ["501 5.5.4"]);
    assert_eq!(say(&offering(), "XCLIENT ADDR=[2001:db8::1]\r\n"), ["501 5.5.4"]);
    assert_eq!(say(&offering(), "XCLIENT ADDR=2001:db8::1\r\n"), ["501 5.5.4"]);
}

#[test]
fn s_pxy_16_the_session_starts_anew() {
    let input = "EHLO x\r\nXCLIENT ADDR=192.0.2.1\r\nMAIL FROM:<a@b>\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n";
    assert_eq!(say(&offering(), input)[1..], ["220 mx.ex", "503 5.5.1", "250 XFORW", "250 2.1.0"]);
    // S-AUT-17: AUTH ends with it
    let settings = ServerSettings { auth: vec!["PLAIN".into()], auth_in_clear: vec!["PLAIN".into()], ..offering() };
    let mut conn = trusted(settings);
    conn.receive(b"EHLO x\r\nAUTH PLAIN =\r\n");
    conn.poll_event();
    conn.accept_identity("jane").unwrap();
    conn.receive(b"XCLIENT NAME=a.example\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Xclient(_))));
    assert_eq!((conn.identity(), conn.is_trusted()), (None, true), "no other address");
    conn.receive(b"XCLIENT ADDR=192.0.2.1\r\nXCLIENT NAME=b.example\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Xclient(_))) && !conn.is_trusted());
    assert_eq!(conn.client_address(), "192.0.2.1".parse().ok().map(|address| (address, None)));
    conn.clear_output();
    assert!(conn.poll_event().is_none());
    assert!(conn.output().starts_with(b"550 5.7.0 "), "trust is judged anew");
}

#[test]
fn s_pxy_16_the_program_is_asked_again_and_tls_stays() {
    let settings = ServerSettings {
        tls: TlsMode::Implicit,
        decisions: Decisions { connect: true, ..Decisions::default() },
        ..offering()
    };
    let mut conn = connection(settings);
    conn.set_trusted(true);
    conn.tls_established(TlsFacts::default()).unwrap();
    conn.poll_event();
    conn.accept().unwrap();
    conn.receive(b"XCLIENT ADDR=192.0.2.1\r\nEHLO x\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Xclient(_))));
    assert!(conn.accept().is_err(), "its event was not read");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Connect)));
    conn.clear_output();
    conn.accept().unwrap();
    assert!(conn.poll_event().is_none() && conn.is_tls());
    assert!(conn.output().starts_with(b"220 mx.example ESMTP\r\n250-"));
    assert_eq!(conn.protocol(), "ESMTPS");
}

#[test]
fn s_pxy_16_and_s_tls_06_starttls_forgets_it() {
    let mut conn = trusted(ServerSettings { tls: TlsMode::StartTls, ..offering() });
    conn.receive(b"XCLIENT ADDR=192.0.2.1 LOGIN=jane\r\nEHLO x\r\nXFORWARD NAME=a.example\r\nSTARTTLS\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Xclient(_))));
    conn.set_trusted(true);
    assert!(matches!(conn.poll_event(), Some(ServerEvent::StartTls)));
    conn.accept().unwrap();
    conn.clear_output();
    conn.tls_established(TlsFacts::default()).unwrap();
    assert!(conn.xclient().is_none() && conn.xforward().is_none() && conn.identity().is_none());
    assert_eq!((conn.client_address(), conn.is_trusted()), (None, true));
}

#[test]
fn s_pxy_17_not_in_a_transaction() {
    let input = "EHLO x\r\nMAIL FROM:<a@b>\r\nXCLIENT NAME=a.example\r\nXFORWARD NAME=a.example\r\nRCPT TO:<c@d>\r\n";
    assert_eq!(say(&offering(), input)[1..], ["250 2.1.0", "503 5.5.1", "503 5.5.1", "250 2.1.5"]);
}

#[test]
fn xclient_comes_before_auth_where_auth_is_required() {
    let settings = ServerSettings {
        auth: vec!["PLAIN".into()],
        auth_in_clear: vec!["PLAIN".into()],
        require_auth: true,
        ..offering()
    };
    let input = "EHLO x\r\nMAIL FROM:<a@b>\r\nXCLIENT LOGIN=jane\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n";
    assert_eq!(say(&settings, input)[1..], ["530 5.7.0", "220 mx.ex", "250 XFORW", "250 2.1.0"]);
    assert_eq!(after_ehlo(settings, "XCLIENT LOGIN=jane\r\n"), ["530 5.7.0"]);
}

#[test]
fn s_pxy_18_xforward() {
    let good = "XFORWARD NAME=a.example ADDR=192.0.2.1 PORT=25 PROTO=ESMTP HELO=b.example IDENT=A+3AB SOURCE=REMOTE";
    assert_eq!(say(&offering(), &format!("EHLO x\r\n{good}\r\n"))[1..], ["250 2.0.0"]);
    for wrong in ["NAME=a+0Ab", "HELO=a+20b", "HELO=a+28b", "IDENT=a+3Cb", "LOGIN=x", "SOURCE=X", "PORT=x", "ADDR=x"] {
        assert_eq!(say(&offering(), &format!("EHLO x\r\nXFORWARD {wrong}\r\n"))[1..], ["501 5.5.4"], "{wrong}");
    }
    let long = |length| format!("EHLO x\r\nXFORWARD IDENT={}\r\n", "a".repeat(length));
    assert_eq!(say(&offering(), &long(255))[1..], ["250 2.0.0"]);
    assert_eq!(say(&offering(), &long(256))[1..], ["501 5.5.4"]);
}

#[test]
fn s_pxy_19_forgotten_with_the_transaction() {
    let mut conn = trusted(offering());
    let name = |conn: &ServerConnection| conn.xforward().and_then(|told| told.name().map(str::to_owned));
    conn.receive(b"EHLO x\r\nXFORWARD NAME=a.example\r\nXFORWARD HELO=h.example\r\n");
    let told = conn.xforward().unwrap();
    assert_eq!((told.name(), told.text(AttributeName::Helo)), (Some("a.example"), Some("h.example")));
    assert!(told.addr().is_none() && conn.client_address().is_none() && conn.hello().unwrap().1 == "x");
    conn.receive(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Message { .. })));
    assert_eq!(name(&conn).as_deref(), Some("a.example"));
    conn.accept().unwrap();
    assert_eq!(name(&conn), None, "message 2 has none");
    for end in [
        "RSET\r\n",
        "EHLO x\r\n",
        "MAIL FROM:<a@b>\r\nRSET\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 9999999999999 LAST\r\n",
    ] {
        let mut conn = trusted(offering());
        conn.receive(b"EHLO x\r\nXFORWARD NAME=a.example\r\n");
        assert!(name(&conn).is_some());
        conn.receive(end.as_bytes());
        assert_eq!(name(&conn), None, "{end}");
    }
    // A MAIL that was refused is no transaction.
    let mut conn = trusted(ServerSettings { max_message_size: Some(10), ..offering() });
    conn.receive(b"EHLO x\r\nXFORWARD NAME=a.example\r\nMAIL FROM:<a@b> SIZE=11\r\n");
    assert!(name(&conn).is_some());
}
