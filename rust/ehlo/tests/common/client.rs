//! Plays the server to a client's engine: what it says comes whole, or octet by octet, and must lead to the same.

use std::sync::Arc;

use ehlo::session::Envelope;
use ehlo::session::client::{
    ClientConfig, ClientConnection, ClientEvent, ClientSettings, Facts, MessageResult, NewMessage,
};
use ehlo::syntax::command::Verb;

pub struct Peer {
    pub conn: ClientConnection,
    octets: bool,
    heard: String,
    events: Vec<String>,
}

/// The same test with the server's words whole and octet by octet.
pub fn each_way(settings: ClientSettings, test: impl Fn(&mut Peer)) {
    for octets in [false, true] {
        let config = Arc::new(ClientConfig::new(settings.clone()).unwrap());
        let mut peer = Peer { conn: ClientConnection::new(config), octets, heard: String::new(), events: Vec::new() };
        test(&mut peer);
    }
}

pub fn settings() -> ClientSettings {
    ClientSettings { hostname: "c.example".into(), ..ClientSettings::default() }
}

pub fn lmtp() -> ClientSettings {
    ClientSettings { lmtp: true, ..settings() }
}

/// With all that such a test wants from EHLO.
pub fn ready(settings: ClientSettings, keywords: &str, test: impl Fn(&mut Peer)) {
    let hello = if settings.lmtp { "LHLO c.example\r\n" } else { "EHLO c.example\r\n" };
    each_way(settings, |peer| {
        peer.say("220 mx.example ESMTP\r\n");
        peer.hears(hello);
        peer.offer(keywords);
        assert_eq!(peer.events(), ["ready"]);
        test(peer);
    });
}

impl Peer {
    /// The reply to EHLO.
    pub fn offer(&mut self, keywords: &str) {
        let mut reply = String::from("250-mx.example\r\n");
        for keyword in keywords.split(", ").filter(|keyword| !keyword.is_empty()) {
            reply.push_str(&format!("250-{keyword}\r\n"));
        }
        reply.push_str("250 HELP\r\n");
        self.say(&reply);
    }

    pub fn say(&mut self, words: impl AsRef<[u8]>) {
        let words = words.as_ref();
        if self.octets {
            for octet in words.chunks(1) {
                self.conn.receive(octet);
                self.turn();
            }
        } else {
            self.conn.receive(words);
            self.turn();
        }
    }

    pub fn eof(&mut self) {
        self.conn.receive_eof();
        self.turn();
    }

    pub fn timeout(&mut self) {
        self.conn.receive_timeout();
        self.turn();
    }

    pub fn send(&mut self, recipients: &[&str], content: &str) -> u64 {
        self.send_octets(recipients, content.as_bytes())
    }

    pub fn send_octets(&mut self, recipients: &[&str], content: &[u8]) -> u64 {
        let Envelope { sender, recipients } = Envelope::parse("a@b", recipients.iter().copied()).unwrap();
        self.queue(NewMessage::whole(sender, recipients, content.to_vec()))
    }

    pub fn queue(&mut self, message: NewMessage<Vec<u8>>) -> u64 {
        let id = self.conn.queue(message).unwrap();
        self.turn();
        id
    }

    pub fn stream(&mut self, recipients: &[&str], facts: Facts) -> u64 {
        let Envelope { sender, recipients } = Envelope::parse("a@b", recipients.iter().copied()).unwrap();
        self.queue(NewMessage::stream(sender, recipients, facts))
    }

    pub fn piece(&mut self, id: u64, piece: &str) -> bool {
        let useful = self.conn.send_content(id, piece.as_bytes().to_vec()).unwrap();
        self.turn();
        useful
    }

    pub fn end(&mut self, id: u64) {
        self.conn.end_content(id).unwrap();
        self.turn();
    }

    /// Take events and output.
    pub fn turn(&mut self) {
        loop {
            while let Some(event) = self.conn.poll_event() {
                self.events.push(describe(&event));
            }
            let output = self.conn.output();
            if output.is_empty() {
                return;
            }
            self.heard.push_str(&String::from_utf8_lossy(output));
            self.conn.clear_output();
        }
    }

    /// Exactly this was said since the last time.
    #[track_caller]
    pub fn hears(&mut self, words: &str) {
        assert_eq!(std::mem::take(&mut self.heard), words);
    }

    pub fn heard(&mut self) -> String {
        std::mem::take(&mut self.heard)
    }

    /// What happened since the last time.
    pub fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    #[track_caller]
    pub fn happened(&mut self, events: &[&str]) {
        assert_eq!(self.events(), events);
    }
}

pub fn describe(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Ready => "ready".into(),
        ClientEvent::StartTls => "start tls".into(),
        ClientEvent::Challenge { challenge, .. } => format!("challenge {}", challenge.escape_ascii()),
        ClientEvent::Reply { verb, reply, .. } => match reply {
            Some(reply) => format!("{} {}", verb.map_or("unknown", Verb::as_str), reply.code()),
            None => format!("{} lost", verb.map_or("unknown", Verb::as_str)),
        },
        ClientEvent::Result(result) => describe_result(result),
        ClientEvent::Unsolicited(reply) => format!("unsolicited {}", reply.code()),
        ClientEvent::Disconnect(reason) => format!("disconnect: {reason}"),
    }
}

/// `1: c@d + 250 Content, e@f - 550 Rcpt (failure)`
fn describe_result(result: &MessageResult) -> String {
    let recipients: Vec<String> = result
        .recipients
        .iter()
        .map(|one| {
            let sign = if one.accepted { '+' } else { '-' };
            let reply =
                one.reply.as_ref().map_or_else(|| "?".into(), |reply| format!("{} {:?}", reply.code(), one.stage));
            format!("{} {sign} {reply}", one.recipient.path.as_written())
        })
        .collect();
    let failure = result.failure.as_ref().map_or_else(String::new, |failure| format!(" ({failure:?})"));
    format!("{}: {}{failure}", result.id, recipients.join(", "))
}
