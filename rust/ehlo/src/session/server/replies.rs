//! Replies: the texts of the server, and the counts of errors, junk and refusals that end a session (S-SES-42).

use super::ServerConnection;
use super::config::TlsMode;
use super::content::Content;
use super::event::ServerDisconnect;
use super::state::{Answer, Refusal, State};
use crate::syntax::reply::Reply;

pub(super) const OK: &str = "250 2.0.0 OK\r\n";
pub(super) const SENDER_OK: &str = "250 2.1.0 OK\r\n";
pub(super) const RECIPIENT_OK: &str = "250 2.1.5 OK\r\n";
pub(super) const START_CONTENT: &str = "354 End data with <CRLF>.<CRLF>\r\n";
pub(super) const START_TLS: &str = "220 2.0.0 Ready to start TLS\r\n";
pub(super) const AUTHENTICATED: &str = "235 2.7.0 Authentication succeeded\r\n";
pub(super) const BYE: &str = "221 2.0.0 Bye\r\n";
pub(super) const NOT_VERIFIED: &str = "252 2.0.0 Not verified here; mail for it may well be accepted\r\n";

pub(super) const LINE_TOO_LONG: &str = "500 5.5.2 Line too long\r\n";
pub(super) const UNKNOWN_COMMAND: &str = "500 5.5.2 Command not recognized\r\n";
pub(super) const USE_LHLO: &str = "500 5.5.1 This is LMTP: say LHLO\r\n";
pub(super) const NOT_LMTP: &str = "500 5.5.1 This is SMTP: say EHLO\r\n";
pub(super) const BAD_CHUNK_SIZE: &str = "501 5.5.4 BDAT without a size that can be read; closing\r\n";
pub(super) const BAD_HOLD: &str = "501 5.5.4 Hold is longer than FUTURERELEASE allows\r\n";
pub(super) const NOT_IMPLEMENTED: &str = "502 5.5.1 Command not implemented\r\n";
pub(super) const HELLO_FIRST: &str = "503 5.5.1 Say hello first\r\n";
pub(super) const ALREADY_MAIL: &str = "503 5.5.1 A transaction is open already\r\n";
pub(super) const NEED_MAIL: &str = "503 5.5.1 MAIL first\r\n";
pub(super) const NEED_RCPT: &str = "503 5.5.1 RCPT first\r\n";
pub(super) const NEED_BDAT: &str = "503 5.5.1 BODY=BINARYMIME goes by BDAT\r\n";
pub(super) const AFTER_HELO: &str = "503 5.5.1 Not after HELO\r\n";
pub(super) const CHUNKS_BEGUN: &str = "503 5.5.1 Content has begun: BDAT or RSET\r\n";
pub(super) const CHUNK_FAILED: &str = "503 5.5.1 An earlier chunk failed: RSET\r\n";
pub(super) const IN_TRANSACTION: &str = "503 5.5.1 Not in a transaction\r\n";
pub(super) const NO_SERVICE: &str = "503 5.5.1 No service here: QUIT\r\n";
pub(super) const IN_TLS: &str = "503 5.5.1 TLS is active already\r\n";
pub(super) const IN_AUTH: &str = "503 5.5.1 Already authenticated\r\n";
pub(super) const RESPONSE_TOO_LONG: &str = "500 5.5.6 Authentication exchange line is too long\r\n";
pub(super) const NOT_BASE64: &str = "501 5.5.2 Not base64\r\n";
pub(super) const CANCELLED: &str = "501 5.7.0 Authentication cancelled\r\n";
pub(super) const NO_INITIAL: &str = "501 5.7.0 This mechanism has no initial response\r\n";
pub(super) const NOT_OFFERED_ATTRIBUTE: &str = "501 5.5.4 An attribute that is not offered\r\n";
pub(super) const UNKNOWN_MECHANISM: &str = "504 5.5.4 Mechanism not offered\r\n";
pub(super) const NEED_TLS: &str = "530 5.7.0 STARTTLS first\r\n";
pub(super) const NEED_AUTH: &str = "530 5.7.0 Authentication required\r\n";
pub(super) const MECHANISM_NEEDS_TLS: &str = "538 5.7.11 Not without TLS\r\n";
pub(super) const NOT_TRUSTED: &str = "550 5.7.0 Not for this client\r\n";
pub(super) const INJECTED: &str = "554 5.5.0 Octets in the clear behind STARTTLS; closing\r\n";
pub(super) const TLS_TOO_WEAK: &str = "554 5.7.0 This TLS is too weak\r\n";
pub(super) const SINGLE_LABEL_SENDER: &str = "554 5.1.8 The domain is not fully qualified\r\n";
pub(super) const SINGLE_LABEL_RECIPIENT: &str = "554 5.1.2 The domain is not fully qualified\r\n";
pub(super) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 Too many recipients\r\n";
pub(super) const TOO_BIG: &str = "552 5.3.4 Message is too big\r\n";
pub(super) const UTF8_RECIPIENT: &str = "553 5.6.7 MAIL had no SMTPUTF8\r\n";
pub(super) const NO_VALID_RECIPIENTS: &str = "554 5.5.1 No valid recipients\r\n";
pub(super) const BY_TOO_SOON: &str = "555 5.5.4 BY is below the minimum of DELIVERBY\r\n";
const BARE_NEWLINE: &str = "550 5.5.2 Content has a bare CR or LF\r\n";
const NUL_OCTET: &str = "550 5.6.0 Content has a NUL octet\r\n";
const LONG_LINE: &str = "554 5.6.0 Content has a line of more than 1000 octets\r\n";
const UNDECLARED_8BIT: &str = "554 5.6.1 8-bit content without BODY=8BITMIME\r\n";

impl<C: Content> ServerConnection<C> {
    pub(super) fn say(&mut self, line: &str) {
        self.note_line(line);
        self.output.extend_from_slice(line.as_bytes());
    }

    /// A reply that closes begins with our name (RFC 5321 4.2: 421, 221).
    pub(super) fn say_closing(&mut self, status: &str, text: &str) {
        self.note_line(&format!("{status} {text}"));
        self.write_closing(status, text);
    }

    /// The same where no command is answered: it is no refusal.
    pub(super) fn write_closing(&mut self, status: &str, text: &str) {
        let Self { config, output, .. } = self;
        push(output, &[status, " ", &config.settings().hostname, " ", text, "\r\n"]);
    }

    pub(super) fn say_or(&mut self, default: &'static str, reply: Option<&Reply>) {
        match reply {
            Some(reply) => self.say_reply(reply),
            None => self.say(default),
        }
    }

    /// The program's reply, with the enhanced code that RFC 2034 4 asks for.
    pub(super) fn say_reply(&mut self, reply: &Reply) {
        self.note_reply(reply);
        reply.clone().or_generic_enhanced().write(&mut self.output);
        self.close_after(reply);
    }

    /// A reply to the connection or to EHLO: no enhanced code there (RFC 2034 4).
    pub(super) fn say_plain(&mut self, reply: &Reply) {
        self.note_reply(reply);
        reply.clone().without_enhanced().write(&mut self.output);
        self.close_after(reply);
    }

    /// A reply 421 or 221 ends the session, also when the program gave it (S-SES-32).
    fn close_after(&mut self, reply: &Reply) {
        if matches!(reply.code(), 221 | 421) {
            self.ending = Some(ServerDisconnect::Program);
        }
    }

    pub(super) fn say_refusal(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::BareNewline => self.say(BARE_NEWLINE),
            Refusal::EightBit => self.say(UNDECLARED_8BIT),
            Refusal::LongLine => self.say(LONG_LINE),
            Refusal::Nul => self.say(NUL_OCTET),
            Refusal::Program(reply) => self.say_reply(reply),
            Refusal::TooBig => self.say(TOO_BIG),
        }
    }

    pub(super) fn say_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Canned(line) => self.wrong(line),
            Answer::Program(reply) => self.say_reply(reply),
            Answer::Repeated(line, times) => (0..*times).for_each(|_| self.say(line)),
            Answer::Silence => {}
        }
    }

    pub(super) fn greet(&mut self) {
        let Self { config, output, .. } = self;
        let settings = config.settings();
        let text = match (settings.greeting.as_str(), settings.lmtp) {
            ("", true) => "LMTP",
            ("", false) => "ESMTP",
            (text, _) => text,
        };
        push(output, &["220 ", &settings.hostname, " ", text, "\r\n"]);
    }

    pub(super) fn say_help(&mut self) {
        let settings = self.settings();
        let mut text = String::from(if settings.lmtp { "214 2.0.0 LHLO" } else { "214 2.0.0 EHLO HELO" });
        text.push_str(" MAIL RCPT DATA RSET NOOP QUIT VRFY HELP");
        for (offered, verb) in [
            (settings.chunking, " BDAT"),
            (settings.decisions.expn, " EXPN"),
            (settings.decisions.etrn, " ETRN"),
            (settings.tls == TlsMode::StartTls && !self.is_tls(), " STARTTLS"),
            (!settings.auth.is_empty(), " AUTH"),
        ] {
            if offered {
                text.push_str(verb);
            }
        }
        text.push_str("\r\n");
        self.say(&text);
    }

    /// End a session in which the client speaks HTTP or TLS (B-OTH-07).
    pub(super) fn turn_away(&mut self) {
        self.say_closing("421 4.7.0", "This port speaks SMTP");
        self.ending = Some(ServerDisconnect::Protocol);
    }

    pub(super) fn looks_like_tls(&self, rest: &[u8]) -> bool {
        self.counts.commands == 0 && rest.starts_with(&[0x16, 0x03])
    }

    /// Answer a command that was wrong. The first one beyond the limit is answered 421, and ends the session (S-SES-42).
    pub(super) fn wrong(&mut self, line: &str) {
        if self.count_error() {
            self.say(line);
        }
    }

    pub(super) fn wrong_in(&mut self, line: &str, state: State<C>) -> State<C> {
        self.wrong(line);
        state
    }

    fn count_error(&mut self) -> bool {
        self.counts.errors += 1;
        self.counts.recent_errors += 1;
        let over = self.settings().max_errors.is_some_and(|limit| self.counts.recent_errors > u64::from(limit));
        if over && self.ending.is_none() {
            self.say_closing("421 4.7.0", "Too many errors");
            self.ending = Some(ServerDisconnect::Limit);
        }
        !over
    }

    pub(super) fn answer_junk(&mut self, line: &str) {
        if self.count_junk() {
            self.say(line);
        }
    }

    pub(super) fn count_junk(&mut self) -> bool {
        self.counts.junk += 1;
        let over = self.settings().max_junk.is_some_and(|limit| self.counts.junk > u64::from(limit));
        !over || self.count_error()
    }

    /// Refuse a command because of a limit. A client that goes on all the same makes errors (S-SES-42).
    pub(super) fn refuse_for_limit(&mut self, line: &str) {
        if self.count_refusal() {
            self.say(line);
        }
    }

    pub(super) fn count_refusal(&mut self) -> bool {
        self.counts.refusals += 1;
        let over = self.settings().max_refusals.is_some_and(|limit| self.counts.refusals > u64::from(limit));
        !over || self.count_error()
    }

    pub(super) fn count_message(&mut self, accepted: bool) {
        if accepted {
            self.counts.messages += 1;
            self.counts.junk = 0;
            self.counts.recent_errors = 0;
            self.counts.refusals = 0;
        }
    }
}

pub(super) fn push(output: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        output.extend_from_slice(part.as_bytes());
    }
}
