//! A whole session of any octets: in any pieces it gives the same events and the same output, and its memory stays bounded.
#![no_main]

use std::sync::Arc;

use ehlo::session::{
    ContentMode, Decisions, ServerConfig, ServerConnection, ServerEvent, ServerSettings, TlsFacts, TlsMode,
};
use ehlo::syntax::reply::Reply;
use ehlo::syntax::xattr::AttributeName;
use ehlo::wire::content::BareNewlines;
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fn config(setup: u8, more: u8) -> ServerConfig {
    let on = |bit: u8| setup & (1 << bit) != 0;
    let (auth, implicit, fronts) = (more & 0x20 != 0, more & 0x40 != 0, more & 0x80 != 0);
    let mut settings = ServerSettings { max_message_size: Some(64), lmtp: on(0), ..ServerSettings::default() };
    settings.max_command_line = 512;
    settings.content = match (on(1), on(2)) {
        (false, _) => ContentMode::Collect,
        (true, false) => ContentMode::Stream,
        (true, true) => ContentMode::Discard,
    };
    settings.bare_newlines = if on(3) { BareNewlines::Normalize } else { BareNewlines::Reject };
    settings.bdat_bare_newlines = if on(4) { BareNewlines::Reject } else { BareNewlines::Allow };
    settings.bare_lf_commands = on(5);
    if on(6) {
        settings.max_errors = None;
        settings.max_junk = None;
    }
    // STARTTLS is always refused by the program: what comes behind it counts by the read it comes in, as it has to.
    settings.tls = if implicit { TlsMode::Implicit } else { TlsMode::StartTls };
    if auth {
        settings.auth = ["PLAIN", "CRAM-MD5", "EXTERNAL", "SCRAM-SHA-256-PLUS"].map(str::to_owned).to_vec();
        settings.auth_in_clear = vec!["PLAIN".into()];
        settings.max_auth_response = 510;
        settings.require_auth = on(1);
        settings.max_auth_failures = if on(6) { None } else { Some(3) };
    }
    if fronts {
        settings.proxy = on(2);
        settings.xclient = AttributeName::ALL.into_iter().filter(|name| name.in_xclient()).collect();
        settings.xforward = AttributeName::ALL.into_iter().filter(|name| name.in_xforward()).collect();
    }
    let all = on(7);
    settings.decisions = Decisions {
        message: true,
        connect: all,
        hello: all,
        mail: all,
        rcpt: all,
        data: all,
        vrfy: all,
        expn: all,
        etrn: all,
        reset: all,
        command: all,
        refusal: all,
        refused: all,
    };
    ServerConfig::new(settings).expect("good settings")
}

/// What a session says and tells.
#[derive(Default)]
struct Seen {
    output: String,
    events: Vec<String>,
}

/// The program: it goes by what the event says, so that it answers the same in every cut.
fn answer(event: &ServerEvent<Vec<u8>>) -> Option<Reply> {
    let words = match event {
        ServerEvent::Hello { name: words, .. }
        | ServerEvent::Vrfy(words)
        | ServerEvent::Expn(words)
        | ServerEvent::Etrn(words) => words.clone(),
        ServerEvent::Mail(sender) => sender.path.to_string(),
        ServerEvent::Rcpt(recipient) => recipient.path.to_string(),
        ServerEvent::Data { envelope, .. } if envelope.recipients.len() == 3 => "no".into(),
        ServerEvent::Message { size, .. } if size % 2 == 1 => "no".into(),
        _ => return None,
    };
    let refusal = match (words.contains("now"), words.contains("no")) {
        (true, _) => "421 4.3.2 gone",
        (false, true) => "550 5.7.1 no",
        (false, false) => return None,
    };
    Some(Reply::parse_text(refusal).expect("a reply"))
}

fn work_off(connection: &mut ServerConnection, seen: &mut Seen, streamed: &mut Vec<u8>) {
    while let Some(event) = connection.poll_event() {
        let notice = matches!(
            event,
            ServerEvent::Chunk(_)
                | ServerEvent::ContentAborted(_)
                | ServerEvent::ContentStart(_)
                | ServerEvent::Disconnect(_)
                | ServerEvent::AuthCancelled
                | ServerEvent::BadProxy(_)
                | ServerEvent::Refused { .. }
                | ServerEvent::Reset
                | ServerEvent::Xclient(_)
        );
        if let ServerEvent::Auth { initial: Some(octets), .. } | ServerEvent::AuthResponse(octets) = &event {
            // What is said depends on what came, so that octets that were lost or added show.
            match octets.iter().fold(octets.len() as u8, |sum, octet| sum.wrapping_mul(31).wrapping_add(*octet)) % 4 {
                0 => connection.accept_identity("jane").expect("AUTH"),
                1 => connection.challenge(octets).expect("AUTH"),
                _ => connection.reply(&Reply::parse_text("535 5.7.8 no").expect("a reply")).expect("AUTH"),
            }
        } else if matches!(event, ServerEvent::Auth { .. }) {
            connection.challenge(b"").expect("AUTH");
        } else if matches!(event, ServerEvent::StartTls) {
            connection.reply(&Reply::parse_text("454 4.7.0 no").expect("a reply")).expect("STARTTLS");
        } else if !notice {
            match answer(&event) {
                Some(reply) => connection.reply(&reply).expect("an open decision"),
                None => connection.accept().expect("an open decision"),
            }
        }
        if let ServerEvent::Xclient(attributes) = &event {
            connection.set_trusted(attributes.port() != Some(1));
        }
        match &event {
            ServerEvent::Chunk(octets) => {
                assert!(!octets.is_empty(), "a chunk holds something");
                streamed.extend_from_slice(octets);
                continue;
            }
            // How much came before depends on the pieces; that it ended, and why, does not.
            ServerEvent::ContentAborted(_) => streamed.clear(),
            ServerEvent::Message { .. } => seen.events.push(std::mem::take(streamed).escape_ascii().to_string()),
            _ => {}
        }
        seen.events.push(format!("{event:?}"));
    }
    seen.output.push_str(&connection.output().escape_ascii().to_string());
    connection.clear_output();
    if connection.is_handshaking() {
        let behind = connection.take_tls_input();
        connection.tls_established(TlsFacts { client_certificate: true, ..TlsFacts::default() }).expect("a handshake");
        connection.receive(&behind);
        work_off(connection, seen, streamed);
    }
}

fn session<'a>(config: &Arc<ServerConfig>, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut seen, mut streamed) = (Seen::default(), Vec::new());
    let mut connection = ServerConnection::new(Arc::clone(config));
    connection.set_trusted(true);
    work_off(&mut connection, &mut seen, &mut streamed);
    let most = if config.settings().proxy { 4112 } else { 512 };
    for piece in pieces {
        connection.receive(piece);
        work_off(&mut connection, &mut seen, &mut streamed);
        assert!(!connection.decision_open());
        assert!(connection.buffered() <= most, "{} octets wait", connection.buffered());
    }
    connection.receive_eof();
    work_off(&mut connection, &mut seen, &mut streamed);
    assert!(connection.is_closed());
    seen
}

fuzz_target!(|data: &[u8]| {
    let [setup, a, b, c, input @ ..] = data else { return };
    let config = Arc::new(config(*setup, *c));
    let whole = session(&config, std::iter::once(input));
    let split = session(&config, pieces(&[*a, *b, *c], input));
    assert_eq!(whole.output, split.output);
    assert_eq!(whole.events, split.events);
    assert!(whole.output.ends_with("\\r\\n") || (config.settings().proxy && whole.output.is_empty()));
});
