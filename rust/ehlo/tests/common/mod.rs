//! Runs a session whole, cut at every octet, and octet by octet, and wants the same each time (S-DAT-06, B-OTH-08).
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it

pub mod client;

use std::sync::Arc;

use ehlo::session::{Decisions, ServerConfig, ServerConnection, ServerEvent, ServerSettings, TlsFacts};
use ehlo::syntax::command::Secret;
use ehlo::syntax::reply::Reply;

/// What a session said and did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub output: String,
    pub events: Vec<String>,
    pub closed: bool,
}

impl Outcome {
    /// `250 2.1.0`, `354`, … one for each reply, the greeting left out, the last line of each.
    pub fn replies(&self) -> Vec<String> {
        self.output
            .split_terminator("\r\n")
            .filter(|line| line.as_bytes().get(3) != Some(&b'-'))
            .skip(1)
            .map(|line| {
                let status = line[4..].split(' ').next().unwrap_or("");
                let enhanced =
                    status.split('.').count() == 3 && status.bytes().all(|b| b == b'.' || b.is_ascii_digit());
                if enhanced { format!("{} {status}", &line[..3]) } else { line[..3].to_owned() }
            })
            .collect()
    }

    pub fn has(&self, event: &str) -> bool {
        self.events.iter().any(|e| e.contains(event))
    }
}

/// How the program answers: gets the event's text, gives `None` to accept. To AUTH `334 text` is a challenge and
/// `235 name` an identity; to accept is to be `user`.
pub type Program = fn(&str) -> Option<&'static str>;

pub fn settings() -> ServerSettings {
    ServerSettings { hostname: "mx.example".into(), dsn: Some(true), ..ServerSettings::default() }
}

/// Every decision on.
pub fn all_decisions() -> Decisions {
    Decisions {
        connect: true,
        hello: true,
        mail: true,
        rcpt: true,
        data: true,
        message: true,
        vrfy: true,
        expn: true,
        etrn: true,
        reset: true,
        command: false,
        refusal: false,
        refused: true,
    }
}

pub fn connection(settings: ServerSettings) -> ServerConnection {
    ServerConnection::new(Arc::new(ServerConfig::new(settings).unwrap()))
}

fn describe(event: &ServerEvent<Vec<u8>>) -> String {
    match event {
        ServerEvent::Message { envelope, content, size, flags } => {
            let to: Vec<String> = envelope.recipients.iter().map(|r| r.path.to_string()).collect();
            format!(
                "message from={} to={} content={:?} size={size} flags={flags:?}",
                envelope.sender.path,
                to.join(","),
                String::from_utf8_lossy(content)
            )
        }
        ServerEvent::ContentStart(envelope) => format!("start from={}", envelope.sender.path),
        ServerEvent::Mail(sender) => format!("mail {} {}", sender.path, sender.parameters.raw),
        ServerEvent::Rcpt(recipient) => format!("rcpt {} {}", recipient.path, recipient.parameters.raw),
        ServerEvent::Chunk(octets) => format!("chunk {}", octets.escape_ascii()),
        ServerEvent::Data { verb, .. } => format!("data {verb:?}"),
        // The engine does not show these; a test wants to see them.
        ServerEvent::Auth { mechanism, initial: None } => format!("auth {mechanism}"),
        ServerEvent::Auth { mechanism, initial: Some(Secret(octets)) } => {
            format!("auth {mechanism} {:?}", octets.escape_ascii().to_string())
        }
        ServerEvent::AuthResponse(Secret(octets)) => format!("response {:?}", octets.escape_ascii().to_string()),
        other => format!("{other:?}"),
    }
}

pub fn drain(conn: &mut ServerConnection, program: Program, outcome: &mut Outcome) {
    while let Some(event) = conn.poll_event() {
        let text = describe(&event);
        if matches!(event, ServerEvent::Xclient(_)) {
            conn.set_trusted(true);
        }
        if conn.decision_open() && is_decision(&event) {
            let auth = matches!(event, ServerEvent::Auth { .. } | ServerEvent::AuthResponse(_));
            match program(&text) {
                Some(answer) if auth && answer.starts_with("334") => conn.challenge(&answer.as_bytes()[4..]).unwrap(),
                Some(answer) if auth && answer.starts_with("235") => conn.accept_identity(&answer[4..]).unwrap(),
                None if auth => conn.accept_identity("user").unwrap(),
                Some(reply) => conn.reply(&Reply::parse_text(reply).unwrap()).unwrap(),
                None => conn.accept().unwrap(),
            }
        }
        // How streamed octets are cut follows the reads, and so does how much came before an abort.
        let last = outcome.events.last_mut().filter(|last| last.starts_with("chunk "));
        match (&event, last) {
            (ServerEvent::Chunk(octets), Some(last)) => last.push_str(&octets.escape_ascii().to_string()),
            (ServerEvent::ContentAborted(_), Some(last)) => *last = text,
            _ => outcome.events.push(text),
        }
    }
    outcome.output.push_str(&String::from_utf8_lossy(conn.output()));
    conn.clear_output();
    outcome.closed = conn.is_closed();
}

fn is_decision(event: &ServerEvent<Vec<u8>>) -> bool {
    !matches!(
        event,
        ServerEvent::Reset
            | ServerEvent::Refused { .. }
            | ServerEvent::Disconnect(_)
            | ServerEvent::AuthCancelled
            | ServerEvent::BadProxy(_)
            | ServerEvent::Chunk(_)
            | ServerEvent::ContentStart(_)
            | ServerEvent::ContentAborted(_)
            | ServerEvent::Xclient(_)
    )
}

/// Feed `pieces` and then, if asked, the end of input.
pub fn feed<'a>(
    settings: &ServerSettings,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    eof: bool,
    program: Program,
) -> Outcome {
    feed_to(connection(settings.clone()), pieces, eof, program)
}

/// The same to a session that something was done with.
pub fn feed_to<'a>(
    mut conn: ServerConnection,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    eof: bool,
    program: Program,
) -> Outcome {
    let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
    drain(&mut conn, program, &mut outcome);
    for piece in pieces {
        conn.receive(piece);
        drain(&mut conn, program, &mut outcome);
    }
    if eof {
        conn.receive_eof();
        drain(&mut conn, program, &mut outcome);
    }
    outcome
}

/// Flights are what a client sends before it waits for the server: each is cut in every way, but never joined with the
/// next. Where the server awaits a handshake at the end of a flight, it gets one.
pub fn flights(settings: &ServerSettings, flights: &[&[u8]], facts: TlsFacts, program: Program) -> Outcome {
    let run = |cut: &dyn Fn(usize, &[u8]) -> Vec<usize>| {
        let mut conn = connection(settings.clone());
        let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
        drain(&mut conn, program, &mut outcome);
        shake_hands(&mut conn, facts, program, &mut outcome);
        for (index, flight) in flights.iter().enumerate() {
            let mut rest = *flight;
            for length in cut(index, flight) {
                let (piece, behind) = rest.split_at(length);
                rest = behind;
                conn.receive(piece);
                drain(&mut conn, program, &mut outcome);
            }
            conn.receive(rest);
            drain(&mut conn, program, &mut outcome);
            shake_hands(&mut conn, facts, program, &mut outcome);
        }
        outcome
    };
    let whole = run(&|_, _| Vec::new());
    for (index, flight) in flights.iter().enumerate() {
        for at in 1..flight.len() {
            assert_eq!(
                run(&|i, _| if i == index { vec![at] } else { Vec::new() }),
                whole,
                "flight {index} cut at {at}"
            );
        }
    }
    assert_eq!(run(&|_, flight| vec![1; flight.len()]), whole, "octet by octet");
    whole
}

fn shake_hands(conn: &mut ServerConnection, facts: TlsFacts, program: Program, outcome: &mut Outcome) {
    if conn.is_handshaking() {
        outcome.events.push("handshake".into());
        conn.tls_established(facts).unwrap();
        drain(conn, program, outcome);
    }
}

pub fn run_with(settings: ServerSettings, input: impl AsRef<[u8]>, eof: bool, program: Program) -> Outcome {
    let input = input.as_ref();
    let whole = feed(&settings, [input], eof, program);
    if input.len() < 3000 {
        for cut in 1..input.len() {
            let (a, b) = input.split_at(cut);
            assert_eq!(feed(&settings, [a, b], eof, program), whole, "cut at {cut}");
        }
    }
    assert_eq!(feed(&settings, input.chunks(1), eof, program), whole, "octet by octet");
    whole
}

pub fn run_in(settings: ServerSettings, input: impl AsRef<[u8]>) -> Outcome {
    run_with(settings, input, false, |_| None)
}

/// The default server.
pub fn run(input: impl AsRef<[u8]>) -> Outcome {
    run_in(settings(), input)
}

/// After EHLO; its own reply is left out.
pub fn after_ehlo(settings: ServerSettings, input: impl AsRef<[u8]>) -> Vec<String> {
    let hello: &[u8] = if settings.lmtp { b"LHLO c.example\r\n" } else { b"EHLO c.example\r\n" };
    run_in(settings, [hello, input.as_ref()].concat()).replies()[1..].to_vec()
}

pub fn replies(input: impl AsRef<[u8]>) -> Vec<String> {
    after_ehlo(settings(), input)
}

pub const ENVELOPE: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";

/// In a transaction with one recipient, the replies to `input`.
pub fn in_transaction(settings: ServerSettings, input: impl AsRef<[u8]>) -> Vec<String> {
    after_ehlo(settings, [ENVELOPE.as_bytes(), input.as_ref()].concat())[2..].to_vec()
}

/// The EHLO list.
pub fn keywords(settings: ServerSettings) -> Vec<String> {
    let hello = if settings.lmtp { "LHLO c.example\r\n" } else { "EHLO c.example\r\n" };
    run_in(settings, hello).output.split_terminator("\r\n").skip(2).map(|line| line[4..].to_owned()).collect()
}
