//! Decisions: an answer of the program becomes a reply, and the state behind it.

use std::mem;

use super::ServerConnection;
use super::config::TlsMode;
use super::content::Content;
use super::event::ServerDisconnect;
use super::misuse::ServerMisuse;
use super::replies::{NO_SERVICE, OK, RECIPIENT_OK, SENDER_OK, START_TLS};
use super::state::{Answer, Decision, Framing, Purpose, State};
use crate::syntax::reply::Reply;

impl<C: Content> ServerConnection<C> {
    pub(super) fn answer(&mut self, reply: Option<&Reply>) -> Result<(), ServerMisuse> {
        if self.is_asking() {
            return Err(ServerMisuse::NoDecision);
        }
        let State::Deciding(decision) = &self.state else { return Err(ServerMisuse::NoDecision) };
        if matches!(decision, Decision::Auth) && reply.is_none() {
            return Err(ServerMisuse::NeedsIdentity);
        }
        if let Some(code) = reply.map(Reply::code) {
            let expected = match decision {
                Decision::Content { .. } if code / 100 == 2 && code != 221 => Some("354, 4yz or 5yz"),
                Decision::Content { .. } if code / 100 == 3 && code != 354 => Some("354, 4yz or 5yz"),
                Decision::Content { .. } => None,
                Decision::Auth | Decision::Proxy | Decision::StartTls if code < 400 => Some("4yz or 5yz"),
                _ if code / 100 == 3 => Some("2yz, 4yz or 5yz"),
                _ => None,
            };
            if let Some(expected) = expected {
                return Err(ServerMisuse::WrongClass { expected, code });
            }
        }
        if let State::Deciding(decision) = mem::replace(&mut self.state, State::Closed) {
            self.state = self.decide(decision, reply);
        }
        self.settle();
        Ok(())
    }

    fn decide(&mut self, decision: Decision<C>, reply: Option<&Reply>) -> State<C> {
        let yes = reply.is_none_or(|reply| reply.code() < 400 && reply.code() != 221);
        match (decision, reply) {
            (Decision::Auth, None) => State::Idle,
            (Decision::Auth, Some(reply)) => {
                self.auth_refused(reply);
                State::Idle
            }
            (Decision::Proxy, None) => self.begin(),
            // Before TLS nothing is said in the clear (RFC 8314 3.3).
            (Decision::Proxy, Some(_)) if self.settings().tls == TlsMode::Implicit => {
                self.ending = Some(ServerDisconnect::Program);
                State::Idle
            }
            (Decision::Proxy, Some(reply)) => {
                self.say_plain(reply);
                State::Refused(NO_SERVICE)
            }
            (Decision::StartTls, None) => {
                if self.drop_injected() {
                    self.say(START_TLS);
                    State::Handshake(Purpose::StartTls)
                } else {
                    State::Idle
                }
            }
            (Decision::StartTls, Some(reply)) => {
                self.say_reply(reply);
                State::Idle
            }
            (Decision::Connect, Some(reply)) => {
                self.say_plain(reply);
                if yes { State::Idle } else { State::Refused(NO_SERVICE) }
            }
            (Decision::Connect, None) => {
                self.greet();
                State::Idle
            }
            (Decision::Hello { verb, name, before }, _) if yes => self.hello_accepted(*before, verb, name),
            (Decision::Hello { before, .. }, reply) => {
                reply.into_iter().for_each(|reply| self.say_plain(reply));
                *before
            }
            (Decision::Mail(sender), reply) => {
                self.say_or(SENDER_OK, reply);
                if yes {
                    self.mail_accepted(sender)
                } else {
                    self.count_refusal();
                    State::Idle
                }
            }
            (Decision::Rcpt { mut transaction, recipient }, reply) => {
                if yes {
                    transaction.envelope.recipients.push(recipient);
                    self.say_or(RECIPIENT_OK, reply);
                } else {
                    self.say_or(RECIPIENT_OK, reply);
                    self.counts.refused_recipients += 1;
                    self.count_refusal();
                    let limit = self.settings().max_refused_recipients;
                    if limit.is_some_and(|limit| self.counts.refused_recipients > u64::from(limit)) {
                        self.say_closing("421 4.7.0", "Too many refused recipients");
                        self.ending = Some(ServerDisconnect::Limit);
                    }
                }
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing }, _) if yes => self.begin_content(transaction, framing),
            (Decision::Content { transaction, framing: Framing::Data }, reply) => {
                self.say_or(OK, reply);
                self.count_refusal();
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing: Framing::Bdat { size, last } }, reply) => {
                let answer = reply.map_or(Answer::Silence, |reply| Answer::Program(reply.clone()));
                self.fail_chunk(State::InTransaction(transaction), size, last, answer)
            }
            (Decision::Message { transaction, answered }, reply) => {
                let replies = answered..self.replies_due(&transaction);
                if !yes {
                    self.about = Some(transaction.envelope);
                }
                for _ in replies {
                    self.say_or(OK, reply);
                    self.count_message(yes);
                }
                State::Idle
            }
            (Decision::Inquiry { default, before }, reply) => {
                self.say_or(default, reply);
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
    pub(super) fn auth_given_up(&mut self, line: &'static str) -> State<C> {
        self.wrong(line);
        self.count_auth_failure();
        State::Idle
    }

    /// One failure too many ends the session (RFC 4954 4).
    fn count_auth_failure(&mut self) {
        self.counts.auth_failures += 1;
        let limit = self.settings().max_auth_failures;
        if limit.is_some_and(|limit| self.counts.auth_failures >= u64::from(limit)) && self.ending.is_none() {
            self.say_closing("421 4.7.0", "Too many failed authentications");
            self.ending = Some(ServerDisconnect::Limit);
        }
    }
}
