//! Decisions: an answer of the program becomes a reply, and the state behind it.

use std::mem;

use super::ServerConnection;
use super::content::Content;
use super::event::{ServerDisconnect, ServerEvent};
use super::misuse::ServerMisuse;
use super::replies::{
    Canned, NO_SERVICE, OK, RECIPIENT_OK, SENDER_OK, START_TLS, TOO_MANY_AUTH_FAILURES, TOO_MANY_REFUSED,
};
use super::settings::TlsMode;
use super::state::{Answer, Decision, Fallback, Framing, Purpose, State};
use crate::syntax::reply::Reply;

/// The answer of the program to a decision.
#[derive(Clone, Copy)]
pub(super) enum Spoken<'a> {
    /// A yes, in the engine's words.
    Nothing,
    /// A reply; its class decides.
    Reply(&'a Reply),
    /// Octets that go out as they are, and whether they are a yes.
    Raw { octets: &'a [u8], accepted: bool },
}

impl Spoken<'_> {
    fn is_yes(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Reply(reply) => reply.code() < 400 && reply.code() != 221,
            Self::Raw { accepted, .. } => accepted,
        }
    }
}

impl<C: Content> ServerConnection<C> {
    pub(super) fn settle_decision(&mut self, spoken: Spoken<'_>) -> Result<(), ServerMisuse> {
        if self.is_asking() {
            return Err(ServerMisuse::NoDecision);
        }
        let State::Deciding(decision) = &self.state else { return Err(ServerMisuse::NoDecision) };
        if matches!(decision, Decision::Auth) && spoken.is_yes() && !matches!(spoken, Spoken::Reply(_)) {
            return Err(ServerMisuse::NeedsIdentity);
        }
        if let Spoken::Reply(reply) = spoken {
            let code = reply.code();
            let expected = match decision {
                Decision::Content { .. } if code / 100 == 2 && code != 221 => Some("354, 4yz or 5yz"),
                Decision::Content { .. } if code / 100 == 3 && code != 354 => Some("354, 4yz or 5yz"),
                Decision::Content { .. } => None,
                Decision::Auth | Decision::Proxy | Decision::Refusal { .. } | Decision::StartTls if code < 400 => {
                    Some("4yz or 5yz")
                }
                _ if code / 100 == 3 => Some("2yz, 4yz or 5yz"),
                _ => None,
            };
            if let Some(expected) = expected {
                return Err(ServerMisuse::WrongClass { expected, code });
            }
        }
        if let State::Deciding(decision) = mem::replace(&mut self.state, State::Closed) {
            self.state = self.decide(decision, spoken);
        }
        self.settle();
        Ok(())
    }

    fn say_spoken(&mut self, default: Canned, spoken: Spoken<'_>) {
        match spoken {
            Spoken::Nothing => self.say_canned(default),
            Spoken::Reply(reply) => self.say_reply(reply),
            Spoken::Raw { octets, accepted } => self.say_raw(octets, accepted),
        }
    }

    /// The same where no enhanced code may stand (RFC 2034 4), and where there is no reply of the table.
    fn say_plainly(&mut self, spoken: Spoken<'_>) {
        match spoken {
            Spoken::Nothing => {}
            Spoken::Reply(reply) => self.say_plain(reply),
            Spoken::Raw { octets, accepted } => self.say_raw(octets, accepted),
        }
    }

    fn decide(&mut self, decision: Decision<C>, spoken: Spoken<'_>) -> State<C> {
        let yes = spoken.is_yes();
        match (decision, spoken) {
            (Decision::Auth, Spoken::Reply(reply)) => {
                self.auth_refused(reply);
                State::Idle
            }
            (Decision::Auth, spoken) => {
                self.say_plainly(spoken);
                State::Idle
            }
            (Decision::Proxy, Spoken::Nothing) => self.begin(),
            // Before TLS nothing is said in the clear (RFC 8314 3.3).
            (Decision::Proxy, _) if self.settings().tls == TlsMode::Implicit => {
                self.ending = Some(ServerDisconnect::Program);
                State::Idle
            }
            (Decision::Proxy, spoken) => {
                self.say_plainly(spoken);
                State::Refused(NO_SERVICE)
            }
            (Decision::StartTls, Spoken::Nothing) => {
                if self.drop_injected() {
                    self.say_canned(START_TLS);
                    State::Handshake(Purpose::StartTls)
                } else {
                    State::Idle
                }
            }
            (Decision::StartTls, spoken) => {
                self.say_spoken(START_TLS, spoken);
                State::Idle
            }
            (Decision::Connect, Spoken::Nothing) => {
                self.greet();
                State::Idle
            }
            (Decision::Connect, spoken) => {
                self.say_plainly(spoken);
                if yes { State::Idle } else { State::Refused(NO_SERVICE) }
            }
            (Decision::Hello { verb, name, before }, spoken) if yes => self.hello_accepted(*before, verb, name, spoken),
            (Decision::Hello { before, .. }, spoken) => {
                self.say_plainly(spoken);
                *before
            }
            (Decision::Mail(sender), spoken) => {
                self.say_spoken(SENDER_OK, spoken);
                if yes {
                    self.mail_accepted(sender)
                } else {
                    self.count_refusal();
                    State::Idle
                }
            }
            (Decision::Rcpt { mut transaction, recipient }, spoken) => {
                if yes {
                    transaction.envelope.recipients.push(recipient);
                    self.say_spoken(RECIPIENT_OK, spoken);
                } else {
                    self.say_spoken(RECIPIENT_OK, spoken);
                    self.counts.refused_recipients += 1;
                    self.count_refusal();
                    let limit = self.settings().max_refused_recipients;
                    if limit.is_some_and(|limit| self.counts.refused_recipients > u64::from(limit)) {
                        self.say_canned(TOO_MANY_REFUSED);
                        self.ending = Some(ServerDisconnect::Limit);
                    }
                }
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing }, spoken) if yes => {
                let said = if let Spoken::Raw { octets, .. } = spoken { Some(octets) } else { None };
                self.begin_content(transaction, framing, said)
            }
            (Decision::Content { transaction, framing: Framing::Data }, spoken) => {
                self.say_spoken(OK, spoken);
                self.count_refusal();
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing: Framing::Bdat { size, last } }, spoken) => {
                let answer = match spoken {
                    Spoken::Reply(reply) => Answer::Program(reply.clone()),
                    spoken => {
                        self.say_plainly(spoken);
                        Answer::Silence
                    }
                };
                self.fail_chunk(State::InTransaction(transaction), size, last, answer)
            }
            (Decision::Message { transaction, .. }, Spoken::Raw { octets, accepted }) => {
                self.say_raw(octets, accepted);
                for _ in 0..self.replies_due(&transaction) {
                    self.count_message(accepted);
                }
                State::Idle
            }
            (Decision::Message { transaction, answered }, spoken) => {
                let replies = answered..self.replies_due(&transaction);
                if !yes {
                    self.about = Some(transaction.envelope);
                }
                for _ in replies {
                    self.say_spoken(OK, spoken);
                    self.count_message(yes);
                }
                State::Idle
            }
            (Decision::Inquiry { default, before }, spoken) => {
                self.say_spoken(default, spoken);
                *before
            }
            (Decision::Command { default, before }, Spoken::Nothing) => self.do_command(default, *before),
            (Decision::Command { default, before }, spoken) => {
                if !self.count_junk() {
                    return *before;
                }
                let before = match default {
                    Fallback::Rset if yes => {
                        self.reset(*before);
                        State::Idle
                    }
                    _ => *before,
                };
                self.say_spoken(OK, spoken);
                if matches!(default, Fallback::Quit) && (self.ending.is_some() || yes) {
                    self.ending = Some(ServerDisconnect::Quit);
                }
                before
            }
            (Decision::Refusal { reply, before }, Spoken::Nothing) => {
                self.say_reply(&reply);
                *before
            }
            (Decision::Refusal { before, .. }, spoken) => {
                self.say_spoken(OK, spoken);
                *before
            }
        }
    }

    /// The program's no to AUTH (RFC 4954 4).
    fn auth_refused(&mut self, reply: &Reply) {
        self.say_reply(reply);
        if reply.code() >= 500 {
            self.count_auth_failure();
        }
    }

    /// An exchange that the client ends, or breaks, is a failure too: else it could try passwords without end.
    pub(super) fn auth_given_up(&mut self, reply: Canned) -> State<C> {
        self.events.push_back(ServerEvent::AuthCancelled);
        self.wrong(reply);
        self.count_auth_failure();
        State::Idle
    }

    /// One failure too many ends the session (RFC 4954 4).
    fn count_auth_failure(&mut self) {
        self.counts.auth_failures += 1;
        let limit = self.settings().max_auth_failures;
        if limit.is_some_and(|limit| self.counts.auth_failures >= u64::from(limit)) && self.ending.is_none() {
            self.say_canned(TOO_MANY_AUTH_FAILURES);
            self.ending = Some(ServerDisconnect::Limit);
        }
    }
}
