//! What a connection says, and the counts of errors, junk and refusals that end a session (S-SES-42).

use std::sync::Arc;

use super::ServerConnection;
use super::content::Content;
use super::event::ServerDisconnect;
use super::replies::{Canned, GREETING, TOO_MANY_ERRORS, WRONG_PROTOCOL, reply_of};
use super::settings::TlsMode;
use super::state::{Answer, Refusal, State};
use crate::syntax::reply::Reply;

impl<C: Content> ServerConnection<C> {
    pub(super) fn say(&mut self, line: &str) {
        self.note_line(line);
        self.output.extend_from_slice(line.as_bytes());
    }

    /// Say a reply of the table.
    pub(super) fn say_canned(&mut self, reply: Canned) {
        if reply.is_refusal() {
            let config = Arc::clone(&self.config);
            self.note_line(config.replies.line(reply));
        }
        self.write_canned(reply);
    }

    /// Octets of the program go out as they are.
    pub(super) fn say_raw(&mut self, octets: &[u8], accepted: bool) {
        if !accepted {
            self.note_line(&String::from_utf8_lossy(octets));
        }
        self.output.extend_from_slice(octets);
    }

    /// The same where no command is answered: it is no refusal.
    pub(super) fn write_canned(&mut self, reply: Canned) {
        let Self { config, output, .. } = self;
        output.extend_from_slice(config.replies.line(reply).as_bytes());
    }

    /// The program's reply, with the enhanced code that RFC 2034 4 asks for.
    pub(super) fn say_reply(&mut self, reply: &Reply) {
        self.note_reply(reply);
        self.write_reply(reply);
        self.close_after(reply);
    }

    /// The same where no command is answered: it is no refusal.
    pub(super) fn write_reply(&mut self, reply: &Reply) {
        if self.settings().enhanced_status_codes {
            reply.clone().or_generic_enhanced().write(&mut self.output);
        } else {
            reply.write(&mut self.output);
        }
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
        if let Refusal::Program(reply) = refusal {
            self.say_reply(reply);
        } else if let Some(reply) = refusal.canned() {
            self.say_canned(reply);
        }
    }

    pub(super) fn say_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Canned(reply) => self.wrong(*reply),
            Answer::Program(reply) => self.say_reply(reply),
            Answer::Repeated(line, times) => (0..*times).for_each(|_| self.say_canned(*line)),
            Answer::Silence => {}
        }
    }

    pub(super) fn greet(&mut self) {
        self.say_canned(GREETING);
    }

    pub(super) fn say_help(&mut self) {
        let settings = self.settings();
        let mut text = String::from(if settings.enhanced_status_codes { "214 2.0.0" } else { "214" });
        text.push_str(if settings.lmtp { " LHLO" } else { " EHLO HELO" });
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
        self.say_canned(WRONG_PROTOCOL);
        self.ending = Some(ServerDisconnect::Protocol);
    }

    pub(super) fn looks_like_tls(&self, rest: &[u8]) -> bool {
        self.counts.commands == 0 && rest.starts_with(&[0x16, 0x03])
    }

    /// Answer a command that was wrong. The first one beyond the limit is answered 421, and ends the session (S-SES-42).
    pub(super) fn wrong(&mut self, reply: Canned) {
        let config = Arc::clone(&self.config);
        self.wrong_line(config.replies.line(reply));
    }

    /// The same with a reply that is not in the table.
    pub(super) fn wrong_line(&mut self, line: &str) {
        if self.count_error() {
            self.ask_or_say(line);
        }
    }

    /// Refuse a command. If the program asked for refusals, it is asked first.
    fn ask_or_say(&mut self, line: &str) {
        match self.refusing.then(|| reply_of(line)) {
            Some(Ok(reply)) => self.refusal = Some(reply),
            _ => self.say(line),
        }
    }

    pub(super) fn wrong_in(&mut self, reply: Canned, state: State<C>) -> State<C> {
        self.wrong(reply);
        state
    }

    fn count_error(&mut self) -> bool {
        self.counts.errors += 1;
        self.counts.recent_errors += 1;
        let over = self.settings().max_errors.is_some_and(|limit| self.counts.recent_errors > u64::from(limit));
        if over && self.ending.is_none() {
            self.say_canned(TOO_MANY_ERRORS);
            self.ending = Some(ServerDisconnect::Limit);
        }
        !over
    }

    pub(super) fn answer_junk(&mut self, reply: Canned) {
        if self.count_junk() {
            self.say_canned(reply);
        }
    }

    /// False if it is one too many: the session has ended, and the 421 is the reply to the command.
    pub(super) fn count_junk(&mut self) -> bool {
        self.counts.junk += 1;
        let over = self.settings().max_junk.is_some_and(|limit| self.counts.junk > u64::from(limit));
        !over || self.count_error()
    }

    /// Refuse a command because of a limit. A client that goes on all the same makes errors (S-SES-42).
    pub(super) fn refuse_for_limit(&mut self, reply: Canned) {
        if self.count_refusal() {
            let config = Arc::clone(&self.config);
            self.ask_or_say(config.replies.line(reply));
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
