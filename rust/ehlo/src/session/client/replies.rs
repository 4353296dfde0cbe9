//! Replies: each is matched with what it answers, and the end of a message or of the session follows from it.
//!
//! A reply has no mark that says which command it answers. Replies come in the order of the commands (RFC 2920 3.1), so the
//! front of `expected` is the answer. Only the first digit of the code decides (RFC 5321 4.2.1).

use std::mem;
use std::sync::Arc;

use super::config::{Newlines, TlsPolicy};
use super::event::{ClientDisconnect, ClientEvent, Failure, MessageResult, ProtocolFault};
use super::message::Job;
use super::plan::Offer;
use super::transaction::{Sending, Transaction};
use super::{ClientConnection, Expect, Phase, Work};
use crate::syntax::capability::Capabilities;
use crate::syntax::command::{Secret, Verb};
use crate::syntax::reply::{Class, Reply};
use crate::wire::base64;
use crate::wire::dot::{DotEncoder, EncodePolicy};

impl<B: AsRef<[u8]>> ClientConnection<B> {
    /// The state machine: what each reply does to what it answers.
    pub(super) fn on_reply(&mut self, reply: Reply) {
        self.transcript.received(&reply);
        let Some(expect) = self.expected.pop_front() else { return self.on_unexpected(reply) };
        let closing = reply.code() == 421;
        match (expect, reply.class()) {
            (Expect::Greeting, Class::Success) => {
                self.greeting = Some(reply);
                self.begin_hello();
            }
            (Expect::Greeting, Class::Transient | Class::Permanent) => {
                if !closing {
                    self.say_quit(); // A greeting that refuses gets QUIT (C-CLI-02).
                }
                self.disconnect(ClientDisconnect::Greeting(reply));
            }

            (Expect::Hello(verb), Class::Success) => self.on_hello(verb, &reply),
            // A server that refuses EHLO gets HELO (C-CLI-03).
            (Expect::Hello(Verb::Ehlo), Class::Permanent) => self.say_hello(Verb::Helo),
            (Expect::Hello(_), Class::Transient | Class::Permanent) => {
                if !closing {
                    self.say_quit();
                }
                self.disconnect(ClientDisconnect::Hello(reply));
            }

            (Expect::StartTls, Class::Success) => {
                self.phase = Phase::Handshake;
                self.events.push_back(ClientEvent::StartTls);
            }
            (Expect::StartTls, Class::Transient | Class::Permanent) if !closing => {
                if self.settings().tls == TlsPolicy::Required {
                    self.say_quit();
                    self.disconnect(ClientDisconnect::Tls(Some(reply)));
                } else {
                    self.ready();
                }
            }

            (Expect::Auth { id, held, blind }, Class::Intermediate) => self.on_challenge(id, held, blind, &reply),
            (Expect::Auth { id, .. }, class) => {
                self.authenticated |= class == Class::Success;
                self.events.push_back(ClientEvent::Reply { id, verb: Some(Verb::Auth), reply: Some(reply.clone()) });
                self.close_if(closing, reply);
            }

            (Expect::Data, Class::Intermediate) => self.on_go(reply),
            (Expect::Data, Class::Success) => self.fail(ProtocolFault::WrongClass(reply)),
            (
                expect @ (Expect::Greeting
                | Expect::Hello(_)
                | Expect::StartTls
                | Expect::Mail
                | Expect::Rcpt
                | Expect::Chunk { .. }
                | Expect::End
                | Expect::Reset
                | Expect::Command { .. }),
                Class::Intermediate,
            ) => {
                self.expected.push_front(expect); // it has no answer, and that is told
                self.fail(ProtocolFault::WrongClass(reply));
            }

            (expect @ (Expect::Mail | Expect::Rcpt | Expect::Data | Expect::Chunk { .. } | Expect::End), _) => {
                let last = closing.then(|| reply.clone());
                self.on_transaction_reply(expect, reply);
                if let Some(reply) = last {
                    self.disconnect(ClientDisconnect::ServiceClosing(reply));
                }
            }

            (Expect::Command { verb: Some(Verb::Quit), id }, _) => {
                self.events.push_back(ClientEvent::Reply { id, verb: Some(Verb::Quit), reply: Some(reply) });
                self.disconnect(ClientDisconnect::Quit);
            }
            (Expect::Command { id, verb }, class) => {
                if verb == Some(Verb::Xclient) && class == Class::Success {
                    // The session begins anew, with a greeting (XCLIENT_README).
                    self.phase = Phase::Opening;
                    self.authenticated = false;
                    self.begin_hello();
                }
                self.events.push_back(ClientEvent::Reply { id, verb, reply: Some(reply.clone()) });
                self.close_if(closing, reply);
            }
            (Expect::Reset | Expect::StartTls, _) => self.close_if(closing, reply),
        }
    }

    fn close_if(&mut self, closing: bool, reply: Reply) {
        if closing {
            self.disconnect(ClientDisconnect::ServiceClosing(reply));
        }
    }

    fn on_hello(&mut self, verb: Verb, reply: &Reply) {
        // After HELO no extension is used (C-CLI-03).
        self.capabilities = if verb == Verb::Helo { Capabilities::default() } else { Capabilities::from_reply(reply) };
        self.offer = Offer::of(&self.capabilities);
        match self.settings().tls {
            TlsPolicy::Opportunistic | TlsPolicy::Required if !self.tls && self.offer.starttls => {
                self.say(b"STARTTLS\r\n", Expect::StartTls);
            }
            // An attacker may have taken STARTTLS off the list (C-TLS-22).
            TlsPolicy::Required if !self.tls => {
                self.say_quit();
                self.disconnect(ClientDisconnect::Tls(None));
            }
            _ => self.ready(),
        }
    }

    fn ready(&mut self) {
        self.phase = Phase::Ready;
        self.events.push_back(ClientEvent::Ready);
    }

    fn on_challenge(&mut self, id: u64, held: Option<Secret<'static>>, blind: bool, reply: &Reply) {
        if let Some(initial) = held {
            self.output.extend_from_slice(&initial);
            self.output.extend_from_slice(b"\r\n");
            self.transcript.sent(b"[response]");
            self.expected.push_back(Expect::Auth { id, held: None, blind });
            return;
        }
        let text = reply.lines().next().unwrap_or_default().trim_ascii_end();
        // The prompts of LOGIN differ from server to server, and nothing depends on them.
        let challenge = base64::decode(text).or_else(|error| if blind { Ok(text.to_vec()) } else { Err(error) });
        match challenge {
            Ok(challenge) => {
                self.phase = Phase::Challenged { id, blind };
                self.events.push_back(ClientEvent::Challenge { id, challenge });
            }
            Err(_) => {
                // A challenge that is not base64 is answered by cancelling (C-AUT-32).
                self.say(b"*\r\n", Expect::Auth { id, held: None, blind });
            }
        }
    }

    /// The 354 to DATA.
    fn on_go(&mut self, reply: Reply) {
        let Some(mut transaction) = self.sending.take() else { return };
        transaction.outstanding -= 1;
        if transaction.is_futile() {
            // Nobody is going to get the content: a lone dot ends it (C-CLI-11, C-CLI-12). How many
            // replies LMTP has for nobody is not written anywhere.
            if self.settings().lmtp {
                self.sending = Some(transaction);
                return self.fail(ProtocolFault::WrongClass(reply));
            }
            self.say(b".\r\n", Expect::End);
            transaction.outstanding += 1;
            transaction.sending = Sending::All;
            return self.sent.push_back(transaction);
        }
        let policy = match self.settings().newlines {
            Newlines::Reject => EncodePolicy::Reject,
            Newlines::Normalize | Newlines::Exact | Newlines::Auto => EncodePolicy::Normalize,
        };
        transaction.sending = Sending::Lines(DotEncoder::new(policy));
        self.sending = Some(transaction);
    }

    /// A reply in a transaction, which is the oldest that waits for one.
    fn on_transaction_reply(&mut self, expect: Expect, reply: Reply) {
        let lmtp = self.settings().lmtp;
        let Self { sent, sending, jobs, expected, events, .. } = self;
        let from_sent = !sent.is_empty();
        let Some(transaction) = sent.front_mut().or(sending.as_mut()) else { return };
        let Ok(at) = jobs.binary_search_by_key(&transaction.job, |job| job.id) else { return };
        let job = &mut jobs[at];
        transaction.outstanding -= 1;
        if matches!(expect, Expect::Mail | Expect::Rcpt)
            && let Some((id, verb)) = job.asked.pop_front()
        {
            events.push_back(ClientEvent::Reply { id, verb: Some(verb), reply: Some(reply.clone()) });
        }
        match expect {
            Expect::Mail => transaction.on_mail(reply, job),
            Expect::Rcpt => transaction.on_rcpt(Arc::new(reply), job),
            Expect::Chunk { last: false } => transaction.on_chunk(&Arc::new(reply), job),
            Expect::Data => {
                transaction.on_data_refused(&Arc::new(reply), job);
                transaction.sending = Sending::Stopped;
            }
            expect => {
                // One of several (RFC 2033 4.2).
                if !transaction.on_end(&Arc::new(reply), job, lmtp) {
                    transaction.outstanding += 1;
                    expected.push_front(expect);
                }
            }
        }
        if transaction.outstanding == 0 {
            let over = if from_sent {
                sent.pop_front()
            } else {
                sending.take_if(|transaction| matches!(transaction.sending, Sending::All | Sending::Stopped))
            };
            if let Some(transaction) = over {
                self.finish(&transaction);
            }
        }
    }

    fn on_unexpected(&mut self, reply: Reply) {
        let uploading = match &self.sending {
            Some(transaction) if matches!(transaction.sending, Sending::Lines(_)) => self.position(transaction.job),
            _ => None,
        };
        match (uploading, reply.class()) {
            // The server refuses the content early. Behind DATA only the end of the connection ends it (C-CLI-33).
            (Some(at), Class::Transient | Class::Permanent) => {
                let shared = Arc::new(reply);
                if let Some(transaction) = &mut self.sending {
                    transaction.on_chunk(&shared, &mut self.jobs[at]);
                }
                self.disconnect(ClientDisconnect::Early((*shared).clone()));
            }
            _ => {
                self.events.push_back(ClientEvent::Unsolicited(reply.clone()));
                if reply.code() == 421 {
                    self.disconnect(ClientDisconnect::ServiceClosing(reply));
                } else {
                    self.fail(ProtocolFault::Unsolicited); // It answers nothing (C-CLI-18).
                }
            }
        }
    }

    // ---- ends ----

    /// The last reply of a transaction has come.
    pub(super) fn finish(&mut self, transaction: &Transaction) {
        self.reset_due |= transaction.needs_reset();
        if let Some(at) = self.position(transaction.job) {
            let job = &mut self.jobs[at];
            job.open -= 1;
            if job.stepwise {
                job.pending.clear(); // what was not said any more
            }
            let again = if job.failure.is_none() { transaction.too_many(job) } else { Vec::new() };
            if !again.is_empty() {
                if job.pending.is_empty() {
                    self.queue.push_front(Work::Message(transaction.job));
                }
                job.pending.extend(again);
            }
        }
        self.report();
    }

    /// Tell what became of messages, in the order they were queued.
    pub(super) fn report(&mut self) {
        while self
            .jobs
            .front()
            .is_some_and(|job| job.open == 0 && job.pending.is_empty() && (job.begun || job.failure.is_some()))
        {
            if let Some(Job { id, results: recipients, failure, asked, .. }) = self.jobs.pop_front() {
                self.unanswered(asked);
                self.events.push_back(ClientEvent::Result(Box::new(MessageResult { id, recipients, failure })));
            }
        }
    }

    pub(super) fn fail(&mut self, fault: ProtocolFault) {
        self.disconnect(ClientDisconnect::Protocol(fault));
    }

    /// Nothing more is said or heard: settle what is open.
    pub(super) fn disconnect(&mut self, reason: ClientDisconnect) {
        if self.phase == Phase::Closed {
            return;
        }
        let challenged = match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Challenged { id, .. } => Some((id, Some(Verb::Auth))),
            _ => None,
        };
        // A server that says 421 has not worked on the commands behind the one that it answers (C-CLI-16).
        let told = matches!(reason, ClientDisconnect::ServiceClosing(_) | ClientDisconnect::Early(_));
        let open = mem::take(&mut self.sent).into_iter().chain(self.sending.take());
        for transaction in open {
            let Some(at) = self.position(transaction.job) else { continue };
            let job = &mut self.jobs[at];
            // The server may have the message: the program must know (C-CLI-17).
            if transaction.outcome_unknown() && !told {
                transaction.mark_unknown(job);
                job.failure = Some(Failure::Unknown);
            } else if job.failure.is_none() {
                job.failure = Some(Failure::Lost);
            }
        }
        for job in mem::take(&mut self.jobs) {
            let Job { id, results: recipients, failure, asked, .. } = job;
            self.unanswered(asked);
            let decided = !recipients.is_empty() && recipients.iter().all(|recipient| recipient.reply.is_some());
            let failure = if decided { None } else { failure.or(Some(Failure::Lost)) };
            self.events.push_back(ClientEvent::Result(Box::new(MessageResult { id, recipients, failure })));
        }
        let outstanding = mem::take(&mut self.expected).into_iter().filter_map(|expect| match expect {
            Expect::Command { id, verb } => Some((id, verb)),
            Expect::Auth { id, .. } => Some((id, Some(Verb::Auth))),
            _ => None,
        });
        let queued = mem::take(&mut self.queue).into_iter().filter_map(|work| match work {
            Work::Command { id, command } => Some((id, command.verb())),
            Work::Message(_) => None,
        });
        for (id, verb) in challenged.into_iter().chain(outstanding).chain(queued) {
            self.events.push_back(ClientEvent::Reply { id, verb, reply: None });
        }
        self.events.push_back(ClientEvent::Disconnect(reason));
    }
}
