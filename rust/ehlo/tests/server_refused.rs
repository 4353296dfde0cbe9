//! Refusals: each reply 4yz or 5yz is counted, and told to a program that asks for it (FAULTS D1).

mod common;

use common::settings;
use ehlo::session::{Decisions, ServerConnection, ServerEvent, ServerSettings};
use ehlo::syntax::reply::Reply;
use std::sync::Arc;

use ehlo::session::ServerConfig;

/// Feed `input` in pieces of `step` octets, and give each refusal as text.
fn refusals(settings: ServerSettings, input: &[u8], step: usize, refuse: &str) -> (Vec<String>, ServerConnection) {
    let mut conn = ServerConnection::new(Arc::new(ServerConfig::new(settings).unwrap()));
    let mut told = Vec::new();
    for piece in input.chunks(step) {
        conn.receive(piece);
        while let Some(event) = conn.poll_event() {
            match event {
                ServerEvent::Refused { verb, argument, envelope, reply } => {
                    let verb = verb.map_or("-", |verb| verb.as_str());
                    let envelope = envelope.map_or_else(String::new, |envelope| {
                        let to: Vec<_> = envelope
                            .recipients
                            .iter()
                            .map(|one| one.path.to_string().replace(['<', '>'], ""))
                            .collect();
                        format!(" {} -> {}", envelope.sender.path.to_string().replace(['<', '>'], ""), to.join(","))
                    });
                    told.push(format!("{verb} {argument}: {}{envelope}", reply.code()));
                }
                ServerEvent::Auth { .. } | ServerEvent::AuthResponse(_) => {
                    conn.reply(&Reply::parse_text("535 5.7.8 no").unwrap()).unwrap();
                }
                ServerEvent::Rcpt(one) if one.path.to_string().contains("bad") => {
                    conn.reply(&Reply::parse_text("550 5.1.1 nobody").unwrap()).unwrap();
                }
                ServerEvent::Message { .. } if !refuse.is_empty() => {
                    conn.reply(&Reply::parse_text(refuse).unwrap()).unwrap();
                }
                _ if conn.decision_open() => conn.accept().unwrap(),
                _ => {}
            }
        }
    }
    (told, conn)
}

fn asking() -> ServerSettings {
    ServerSettings {
        decisions: Decisions { refused: true, rcpt: true, message: true, ..Decisions::default() },
        ..settings()
    }
}

/// The refusals of each split are the same.
fn told(settings: &ServerSettings, input: &str, refuse: &str) -> Vec<String> {
    let whole = refusals(settings.clone(), input.as_bytes(), input.len(), refuse).0;
    for step in 1..8 {
        assert_eq!(refusals(settings.clone(), input.as_bytes(), step, refuse).0, whole, "in pieces of {step}");
    }
    whole
}

#[test]
fn faults_d1_each_refusal_is_told_with_its_command_and_transaction() {
    let input = "FROB x\r\nEHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bad@c.example>\r\n\
                 RCPT TO:<a@c.example>\r\nMAIL FROM:<x@y.example>\r\nDATA\r\nx\ny\r\n.\r\nVRFY joe\r\nRCPT TO:<late@c.example>\r\n";
    assert_eq!(
        told(&asking(), input, ""),
        [
            "- : 500",
            "RCPT TO:<bad@c.example>: 550 a@b.example -> ",
            "MAIL FROM:<x@y.example>: 503 a@b.example -> a@c.example",
            "DATA : 550 a@b.example -> a@c.example",
            "RCPT TO:<late@c.example>: 503",
        ]
    );
}

#[test]
fn a_message_that_the_program_refuses_is_told_with_its_envelope() {
    let input = "EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n";
    assert_eq!(told(&asking(), input, "554 5.7.1 spam"), ["DATA : 554 a@b.example -> c@d.example"]);
    let chunk = "EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 4 LAST\r\nhi\r\n";
    assert_eq!(told(&asking(), chunk, "452 4.3.1 full"), ["BDAT 4 LAST: 452 a@b.example -> c@d.example"]);
}

#[test]
fn lmtp_tells_each_recipient_that_was_refused() {
    let mut lmtp = asking();
    lmtp.lmtp = true;
    let mut conn = ServerConnection::<Vec<u8>>::new(Arc::new(ServerConfig::new(lmtp).unwrap()));
    conn.receive(
        b"LHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@d.example>\r\nRCPT TO:<y@d.example>\r\nDATA\r\nhi\r\n.\r\n",
    );
    let mut told = Vec::new();
    while let Some(event) = conn.poll_event() {
        match event {
            ServerEvent::Refused { envelope, .. } => told.push(envelope.unwrap().recipients[0].path.to_string()),
            ServerEvent::Message { .. } => {
                // One at a time: a refusal that was not looked at yet is no reason to wait.
                conn.reply_recipients(&[Reply::parse_text("550 5.2.1 off").unwrap()]).unwrap();
                conn.reply_recipients(&[Reply::parse_text("452 4.2.2 full").unwrap()]).unwrap();
            }
            _ if conn.decision_open() => conn.accept().unwrap(),
            _ => {}
        }
    }
    assert_eq!(told, ["<x@d.example>", "<y@d.example>"]);
    assert_eq!(conn.refusals().content, 2);
}

#[test]
fn no_secret_is_told() {
    let mut settings = asking();
    settings.auth = vec!["PLAIN".into(), "LOGIN".into()];
    settings.auth_in_clear = settings.auth.clone();
    let input = "EHLO a\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\nauth plain AHVzZXIAc2VjcmV0\r\nAUTH LOGIN c2VjcmV0 c2VjcmV0\r\n\
                 c2VjcmV0\r\nAUTH NONE c2VjcmV0\r\nXCLIENT LOGIN=secret\r\n";
    let told = told(&settings, input, "");
    assert_eq!(told[..2], ["AUTH PLAIN: 535", "AUTH plain: 535"]);
    assert!(!told.iter().any(|line| line.contains("c2VjcmV0") || line.contains("secret")), "{told:?}");
}

#[test]
fn refusals_are_counted_by_command_without_being_asked_for() {
    let mut settings = asking();
    settings.decisions.refused = false;
    let input = b"NOPE\r\nEHLO a\r\nMAIL FROM:x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bad@c.example>\r\nDATA\r\n";
    let (told, conn) = refusals(settings, input, input.len(), "");
    assert!(told.is_empty());
    let counts = conn.refusals();
    assert_eq!((counts.other, counts.mail, counts.rcpt, counts.content, counts.auth), (1, 1, 1, 1, 0));
}
