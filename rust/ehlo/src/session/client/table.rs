//! The table of the client's state machine: a walk through the engine, compared with `docs/state-machine/client.tsv`.
//!
//! `EHLO_WRITE_STATES=1 cargo test -p ehlo --lib table` writes the file anew.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use super::config::{ClientConfig, ClientSettings, TlsPolicy};
use super::message::NewMessage;
use super::transaction::Sending;
use super::{ClientConnection, Expect, Phase};
use crate::session::envelope::Envelope;
use crate::syntax::command::Verb;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine/client.tsv");

const HEAD: &str = "state\tinput\tsends\tnext\n";

const REPLIES: &[(&str, &str)] = &[("2yz", "250 x\r\n"), ("4yz", "450 x\r\n"), ("5yz", "550 x\r\n")];
const GREETINGS: &[(&str, &str)] = &[("2yz", "220 mx.example\r\n"), ("4yz", "450 x\r\n"), ("5yz", "554 x\r\n")];
const OFFERS: &[(&str, &str)] = &[
    ("2yz", "250 mx.example\r\n"),
    ("2yz with CHUNKING", "250-mx.example\r\n250 CHUNKING\r\n"),
    ("2yz with STARTTLS", "250-mx.example\r\n250 STARTTLS\r\n"),
    ("4yz", "450 x\r\n"),
    ("5yz", "550 x\r\n"),
];
const GO: &[(&str, &str)] = &[("354", "354 x\r\n"), ("2yz", "250 x\r\n"), ("4yz", "450 x\r\n"), ("5yz", "550 x\r\n")];
const ALWAYS: &[(&str, &str)] = &[("421", "421 x\r\n"), ("no reply", "hello\r\n")];

/// One thing that happens to a session.
#[derive(Clone, Copy)]
enum Input {
    Reply(&'static str, &'static str),
    TlsDone,
    Eof,
    Silence,
}

impl Input {
    fn name(self) -> &'static str {
        match self {
            Self::Reply(name, _) => name,
            Self::TlsDone => "TLS is there",
            Self::Eof => "the end of the connection",
            Self::Silence => "silence",
        }
    }

    /// Gives all that the client sends then.
    fn apply(self, conn: &mut ClientConnection) -> Vec<u8> {
        match self {
            Self::Reply(_, octets) => conn.receive(octets.as_bytes()),
            Self::TlsDone => conn.tls_established(true).expect("a handshake"),
            Self::Eof => conn.receive_eof(),
            Self::Silence => conn.receive_timeout(),
        }
        while conn.poll_event().is_some() {}
        sent(conn)
    }
}

fn sent(conn: &mut ClientConnection) -> Vec<u8> {
    let mut all = Vec::new();
    while !conn.output().is_empty() {
        all.extend_from_slice(conn.output());
        conn.clear_output();
    }
    all
}

/// The inputs that a state can have.
fn inputs(conn: &ClientConnection) -> Vec<Input> {
    let replies: &'static [(&'static str, &'static str)] = match (conn.phase, conn.expected.front()) {
        (Phase::Closed, _) => return Vec::new(),
        (Phase::Handshake, _) => return vec![Input::TlsDone, Input::Eof, Input::Silence],
        (_, Some(Expect::Greeting)) => GREETINGS,
        (_, Some(Expect::Hello(Verb::Ehlo))) => OFFERS,
        (_, Some(Expect::Data)) => GO,
        _ => REPLIES,
    };
    let replies = replies.iter().chain(ALWAYS).map(|(name, octets)| Input::Reply(name, octets));
    replies.chain([Input::Eof, Input::Silence]).collect()
}

/// The name of a state: the command whose reply is due, and the part of the transaction that decides about the next step.
fn name(conn: &ClientConnection) -> String {
    let transaction = conn.sending.as_ref().or(conn.sent.front());
    let way = if transaction.is_some_and(|open| open.plan.chunked) { ", for BDAT" } else { "" };
    match (conn.phase, conn.expected.front()) {
        (Phase::Closed, _) => "Closed".into(),
        (Phase::Handshake, _) => "Handshake".into(),
        (_, None) => "Ready".into(),
        (_, Some(Expect::Greeting)) => "Greeting".into(),
        (_, Some(Expect::Hello(Verb::Helo))) => "HELO".into(),
        (_, Some(Expect::Hello(_))) => format!("EHLO{}", if conn.is_tls() { ", in TLS" } else { "" }),
        (_, Some(Expect::StartTls)) => "STARTTLS".into(),
        (_, Some(Expect::Auth { .. })) => "AUTH".into(),
        (_, Some(Expect::Mail)) => format!("MAIL{way}"),
        (_, Some(Expect::Rcpt)) => {
            let first = transaction.is_some_and(|open| matches!(open.sending, Sending::Rcpt(_)));
            let accepted = transaction.is_some_and(|open| !open.accepted.is_empty());
            match (first, accepted) {
                (true, _) => format!("RCPT{way}, the first"),
                (false, true) => format!("RCPT{way}, the last, one accepted"),
                (false, false) => format!("RCPT{way}, the last, none accepted"),
            }
        }
        (_, Some(Expect::Data)) => "DATA".into(),
        (_, Some(Expect::Chunk { .. })) => "BDAT LAST".into(),
        (_, Some(Expect::End)) => "the end of the content".into(),
        (_, Some(Expect::Reset)) => "RSET".into(),
        (_, Some(Expect::Command { .. })) => "QUIT".into(),
    }
}

/// A message for two recipients is queued, and QUIT behind it.
fn session(config: &Arc<ClientConfig>, path: &[Input]) -> (ClientConnection, Vec<u8>) {
    let mut conn = ClientConnection::new(Arc::clone(config));
    let envelope = Envelope::parse("a@c.example", ["b@d.example", "e@d.example"]).expect("an envelope");
    conn.queue(NewMessage::whole(envelope.sender, envelope.recipients, b"hi\r\n".to_vec())).expect("an open session");
    conn.quit().expect("an open session");
    let mut output = sent(&mut conn);
    for input in path {
        output = input.apply(&mut conn);
    }
    (conn, output)
}

/// The verbs of all commands in the output.
fn verbs(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let words = text.lines().map(|line| match line {
        "hi" => "content",
        "." => "the dot",
        line => line.split(' ').next().unwrap_or_default(),
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "-".into() } else { words.join(", ") }
}

fn walk() -> String {
    let settings =
        ClientSettings { hostname: "c.example".into(), tls: TlsPolicy::Opportunistic, ..ClientSettings::default() };
    let config = Arc::new(ClientConfig::new(settings).expect("a config"));
    let mut seen = BTreeSet::new();
    let mut waiting = VecDeque::from([Vec::new()]);
    let mut table = HEAD.to_owned();
    while let Some(path) = waiting.pop_front() {
        let (conn, _) = session(&config, &path);
        let state = name(&conn);
        if !seen.insert(state.clone()) {
            continue;
        }
        for input in inputs(&conn) {
            let path: Vec<_> = path.iter().copied().chain([input]).collect();
            let (after, output) = session(&config, &path);
            let next = name(&after);
            table += &format!("{state}\t{}\t{}\t{next}\n", input.name(), verbs(&output));
            waiting.push_back(path);
        }
    }
    table
}

#[test]
fn table_is_that_of_the_page() {
    let table = walk();
    if std::env::var_os("EHLO_WRITE_STATES").is_some() {
        std::fs::create_dir_all(Path::new(FILE).parent().expect("a folder")).expect("a folder");
        std::fs::write(FILE, &table).expect("the file is written");
    }
    let Ok(page) = std::fs::read_to_string(FILE) else { return }; // The packed crate has no docs.
    assert!(page == table, "docs/state-machine/client.tsv is not what the engine does; EHLO_WRITE_STATES=1 renews it");
}
