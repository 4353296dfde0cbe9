//! The table of the state machine: a walk through the engine, compared with `docs/state-machine/server.tsv`.
//!
//! `EHLO_WRITE_STATES=1 cargo test -p ehlo --lib table` writes the file anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use super::config::ServerConfig;
use super::settings::{Decisions, ServerSettings, TlsFacts, TlsMode};
use super::state::{Decision, Framing, State};
use super::{ServerConnection, ServerMisuse};
use crate::syntax::reply::Reply;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine/server.tsv");

const HEAD: &str = "state\tinput\treply\tnext\n";

/// Sent where a command is expected.
const COMMANDS: &[(&str, &str)] = &[
    ("EHLO", "EHLO c.example\r\n"),
    ("HELO", "HELO c.example\r\n"),
    ("MAIL", "MAIL FROM:<a@b.example>\r\n"),
    ("RCPT", "RCPT TO:<c@d.example>\r\n"),
    ("DATA", "DATA\r\n"),
    ("BDAT", "BDAT 2\r\n"),
    ("BDAT LAST", "BDAT 2 LAST\r\n"),
    ("RSET", "RSET\r\n"),
    ("NOOP", "NOOP\r\n"),
    ("VRFY", "VRFY c\r\n"),
    ("HELP", "HELP\r\n"),
    ("STARTTLS", "STARTTLS\r\n"),
    ("AUTH", "AUTH PLAIN\r\n"),
    ("unknown command", "FOO\r\n"),
    ("QUIT", "QUIT\r\n"),
];
const IN_CHUNK: &[(&str, &str)] = &[("octets of the chunk", "hi")];
const IN_DATA: &[(&str, &str)] =
    &[("a line", "hi\r\n"), ("a bare LF, and the end", "h\ni\r\n.\r\n"), ("the end", ".\r\n")];
const IN_AUTH: &[(&str, &str)] = &[("a response", "AGEAYg==\r\n"), ("*", "*\r\n"), ("no base64", "?\r\n")];
const IN_PROXY: &[(&str, &str)] = &[("a PROXY header", "PROXY UNKNOWN\r\n"), ("no PROXY header", "EHLO c.example\r\n")];

/// One thing that happens to a session.
#[derive(Clone, Copy)]
enum Input {
    Octets(&'static str, &'static str),
    Yes,
    No(&'static str),
    Identity,
    Challenge,
    TlsDone,
    TlsFailed,
    TlsTooWeak,
    Silence,
}

impl Input {
    fn name(self) -> &'static str {
        match self {
            Self::Octets(name, _) => name,
            Self::Yes => "program: yes",
            Self::No(reply) => match reply.as_bytes()[..2] {
                [b'4', b'2'] => "program: 421",
                [b'4', _] => "program: 4yz",
                _ => "program: 5yz",
            },
            Self::Identity => "program: an identity",
            Self::Challenge => "program: a challenge",
            Self::TlsDone => "TLS is there",
            Self::TlsFailed => "TLS failed",
            Self::TlsTooWeak => "TLS is too weak",
            Self::Silence => "silence",
        }
    }

    fn apply(self, conn: &mut ServerConnection) -> Result<(), ServerMisuse> {
        match self {
            Self::Octets(_, octets) => {
                conn.receive(octets.as_bytes());
                Ok(())
            }
            Self::Yes => conn.accept(),
            Self::No(reply) => conn.reply(&Reply::parse_text(reply).expect("a reply")),
            Self::Identity => conn.accept_identity("a"),
            Self::Challenge => conn.challenge(b""),
            Self::TlsDone => conn.tls_established(TlsFacts::default()),
            Self::TlsFailed => conn.tls_failed(),
            Self::TlsTooWeak => conn.tls_too_weak(),
            Self::Silence => {
                conn.receive_timeout();
                Ok(())
            }
        }
    }
}

/// The inputs that a state can have.
fn inputs(state: &State<Vec<u8>>) -> Vec<Input> {
    let octets =
        |all: &'static [(&'static str, &'static str)]| all.iter().map(|(name, octets)| Input::Octets(name, octets));
    let mut inputs: Vec<Input> = match state {
        State::Closed => return Vec::new(),
        State::Deciding(Decision::Auth) => {
            return vec![Input::Identity, Input::Challenge, Input::No("454 4.7.0 x"), Input::No("535 5.7.8 x")];
        }
        State::Deciding(_) => {
            return vec![Input::Yes, Input::No("450 4.2.0 x"), Input::No("550 5.7.1 x"), Input::No("421 4.3.2 x")];
        }
        State::Handshake(_) => vec![Input::TlsDone, Input::TlsFailed, Input::TlsTooWeak],
        State::Authenticating => octets(IN_AUTH).collect(),
        State::Proxy => octets(IN_PROXY).collect(),
        State::InData { .. } => octets(IN_DATA).collect(),
        State::InChunk { .. } | State::Draining { .. } => octets(IN_CHUNK).collect(),
        State::Failed { .. } | State::Idle | State::InTransaction(_) | State::NextChunk { .. } | State::Refused(_) => {
            octets(COMMANDS).collect()
        }
    };
    inputs.push(Input::Silence);
    inputs
}

/// The name of a state. Behind the comma stands the part of the engine's knowledge that changes the answers.
fn name(conn: &ServerConnection, state: &State<Vec<u8>>) -> String {
    match state {
        State::Authenticating => "Authenticating".into(),
        State::Closed => "Closed".into(),
        State::Deciding(decision) => format!("Deciding {}", asked(conn, decision)),
        State::Draining { then, .. } => format!("Draining, then {}", name(conn, then)),
        State::Failed { .. } => "Failed".into(),
        State::Handshake(_) => "Handshake".into(),
        State::Idle if conn.hello().is_none() => "Idle, no hello".into(),
        State::Idle => "Idle".into(),
        State::InChunk { last: true, .. } => "InChunk, the last".into(),
        State::InChunk { .. } => "InChunk".into(),
        State::InData { .. } => "InData".into(),
        State::InTransaction(transaction) if transaction.envelope.recipients.is_empty() => {
            "InTransaction, no recipient".into()
        }
        State::InTransaction(_) => "InTransaction".into(),
        State::NextChunk { .. } => "NextChunk".into(),
        State::Proxy => "Proxy".into(),
        State::Refused(_) => "Refused".into(),
    }
}

fn asked(conn: &ServerConnection, decision: &Decision<Vec<u8>>) -> String {
    match decision {
        Decision::Auth => "Auth".into(),
        Decision::Command { .. } => "Command".into(),
        Decision::Connect => "Connect".into(),
        Decision::Content { framing: Framing::Data, .. } => "Content by DATA".into(),
        Decision::Content { framing: Framing::Bdat { last: true, .. }, .. } => "Content by BDAT LAST".into(),
        Decision::Content { framing: Framing::Bdat { .. }, .. } => "Content by BDAT".into(),
        Decision::Hello { before, .. } => format!("Hello, before {}", name(conn, before)),
        Decision::Inquiry { .. } => "Inquiry".into(),
        Decision::Mail(_) => "Mail".into(),
        Decision::Message { .. } => "Message".into(),
        Decision::Proxy => "Proxy".into(),
        Decision::Refusal { .. } => "Refusal".into(),
        Decision::StartTls => "StartTls".into(),
        // The answer no leads back to the state before.
        Decision::Rcpt { transaction, .. } if transaction.envelope.recipients.is_empty() => "Rcpt, the first".into(),
        Decision::Rcpt { .. } => "Rcpt".into(),
    }
}

fn config() -> Arc<ServerConfig> {
    let decisions = Decisions {
        connect: true,
        hello: true,
        mail: true,
        rcpt: true,
        data: true,
        message: true,
        ..Decisions::default()
    };
    let settings = ServerSettings {
        hostname: "mx.example".into(),
        decisions,
        proxy: true,
        tls: TlsMode::StartTls,
        auth: vec!["PLAIN".into()],
        auth_in_clear: vec!["PLAIN".into()],
        ..ServerSettings::default()
    };
    Arc::new(ServerConfig::new(settings).expect("a config"))
}

/// A new session, after these inputs. The output is that of the last one.
fn session(config: &Arc<ServerConfig>, path: &[Input]) -> ServerConnection {
    let mut conn = ServerConnection::new(Arc::clone(config));
    for input in path {
        conn.clear_output();
        input.apply(&mut conn).expect("an input that fits");
        while conn.poll_event().is_some() {}
    }
    conn
}

/// The codes of all replies in the output.
fn codes(output: &[u8]) -> String {
    let lines = output.split(|&octet| octet == b'\n').filter(|line| line.get(3) == Some(&b' '));
    let codes: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line[..3]).into_owned()).collect();
    if codes.is_empty() { "-".into() } else { codes.join(" ") }
}

/// Every state that can be reached, every input of it, the reply, and the next state.
fn walk() -> String {
    let config = config();
    let mut paths: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    let mut waiting = VecDeque::from([Vec::new()]);
    let mut rows = Vec::new();
    while let Some(path) = waiting.pop_front() {
        let conn = session(&config, &path);
        let state = name(&conn, &conn.state);
        if paths.insert(state.clone(), path.clone()).is_some() {
            continue;
        }
        for input in inputs(&conn.state) {
            let path: Vec<_> = path.iter().copied().chain([input]).collect();
            let after = session(&config, &path);
            let next = name(&after, &after.state);
            rows.push(format!("{state}\t{}\t{}\t{next}\n", input.name(), codes(after.output())));
            if !paths.contains_key(&next) {
                waiting.push_back(path);
            }
        }
    }
    HEAD.to_owned() + &rows.concat()
}

#[test]
fn table_is_that_of_the_page() {
    let table = walk();
    if std::env::var_os("EHLO_WRITE_STATES").is_some() {
        std::fs::create_dir_all(Path::new(FILE).parent().expect("a folder")).expect("a folder");
        std::fs::write(FILE, &table).expect("the file is written");
    }
    let Ok(page) = std::fs::read_to_string(FILE) else { return }; // The packed crate has no docs.
    assert!(page == table, "docs/state-machine/server.tsv is not what the engine does; EHLO_WRITE_STATES=1 renews it");
}

#[test]
fn every_state_that_is_entered_has_rows() {
    let table = walk();
    let rows = table.lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    let (left, entered): (BTreeSet<_>, BTreeSet<_>) = rows.map(|row| (row[0], row[3])).unzip();
    assert_eq!(entered.difference(&left).collect::<Vec<_>>(), [&"Closed"]);
}
