//! A whole session of any octets: in any pieces it gives the same events and the same output, and its memory stays bounded.
#![no_main]

use std::sync::Arc;

use ehlo::session::{ContentMode, Decisions, Event, ServerConfig, ServerConnection, ServerSettings};
use ehlo::syntax::reply::Reply;
use ehlo::wire::content::BareNewlines;
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fn config(setup: u8) -> ServerConfig {
    let on = |bit: u8| setup & (1 << bit) != 0;
    let mut settings = ServerSettings { max_message_size: Some(64), lmtp: on(0), ..ServerSettings::default() };
    settings.limits.command_line = 512;
    settings.content = match (on(1), on(2)) {
        (false, _) => ContentMode::Collect,
        (true, false) => ContentMode::Stream,
        (true, true) => ContentMode::Discard,
    };
    settings.bare_newlines = if on(3) { BareNewlines::Normalize } else { BareNewlines::Reject };
    settings.bdat_bare_newlines = if on(4) { BareNewlines::Reject } else { BareNewlines::Allow };
    settings.bare_lf_commands = on(5);
    if on(6) {
        settings.limits.errors = None;
        settings.limits.junk = None;
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
fn answer(event: &Event<Vec<u8>>) -> Option<Reply> {
    let words = match event {
        Event::Hello { name: words, .. } | Event::Vrfy(words) | Event::Expn(words) | Event::Etrn(words) => {
            words.clone()
        }
        Event::Mail(sender) => sender.path.to_string(),
        Event::Rcpt(recipient) => recipient.path.to_string(),
        Event::Data { envelope, .. } if envelope.recipients.len() == 3 => "no".into(),
        Event::Message { size, .. } if size % 2 == 1 => "no".into(),
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
            Event::Chunk(_) | Event::ContentAborted(_) | Event::ContentStart(_) | Event::Disconnect(_) | Event::Reset
        );
        if !notice {
            match answer(&event) {
                Some(reply) => connection.reply(&reply).expect("an open decision"),
                None => connection.accept().expect("an open decision"),
            }
        }
        match &event {
            Event::Chunk(octets) => {
                assert!(!octets.is_empty(), "a chunk holds something");
                streamed.extend_from_slice(octets);
                continue;
            }
            // How much came before depends on the pieces; that it ended, and why, does not.
            Event::ContentAborted(_) => streamed.clear(),
            Event::Message { .. } => seen.events.push(std::mem::take(streamed).escape_ascii().to_string()),
            _ => {}
        }
        seen.events.push(format!("{event:?}"));
    }
    seen.output.push_str(&connection.output().escape_ascii().to_string());
    connection.clear_output();
}

fn session<'a>(config: &Arc<ServerConfig>, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut seen, mut streamed) = (Seen::default(), Vec::new());
    let mut connection = ServerConnection::new(Arc::clone(config));
    for piece in pieces {
        connection.receive(piece);
        work_off(&mut connection, &mut seen, &mut streamed);
        assert!(!connection.decision_open());
        assert!(connection.buffered() <= 512, "{} octets wait", connection.buffered());
    }
    connection.receive_eof();
    work_off(&mut connection, &mut seen, &mut streamed);
    assert!(connection.is_closed());
    seen
}

fuzz_target!(|data: &[u8]| {
    let [setup, a, b, c, input @ ..] = data else { return };
    let config = Arc::new(config(*setup));
    let whole = session(&config, std::iter::once(input));
    let split = session(&config, pieces(&[*a, *b, *c], input));
    assert_eq!(whole.output, split.output);
    assert_eq!(whole.events, split.events);
    assert!(whole.output.ends_with("\\r\\n"));
});
