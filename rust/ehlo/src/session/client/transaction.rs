//! One transaction on its way out: how much of it is sent, and which replies came.

use std::sync::Arc;

use super::event::Stage;
use super::message::Job;
use super::plan::Plan;
use crate::syntax::reply::{Class, Reply};
use crate::wire::content::ContentReader;
use crate::wire::dot::DotEncoder;

/// What of a transaction is sent next.
#[derive(Debug)]
pub(super) enum Sending {
    Mail,
    /// RCPT for this one of the batch.
    Rcpt(usize),
    /// The program gives the next recipient, or the content.
    Waiting,
    Data,
    /// DATA was sent: 354 has to come first (C-CLI-14).
    Go,
    /// Content behind the 354.
    Lines(DotEncoder),
    /// Content by BDAT; `begun` once a chunk was sent.
    Chunks {
        reader: ContentReader,
        begun: bool,
    },
    /// All was sent, the end of the content too.
    All,
    /// No more of it is to be sent.
    Stopped,
}

/// A transaction, from the moment it is decided how it goes to its last reply.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) job: u64,
    pub(super) plan: Plan,
    /// Which recipients of the job it is for.
    pub(super) batch: Vec<usize>,
    pub(super) sending: Sending,
    /// Octets of whole content that were sent.
    pub(super) at: usize,
    /// Commands without a reply.
    pub(super) outstanding: usize,
    /// Recipients of the job that RCPT accepted, in order.
    pub(super) accepted: Vec<usize>,
    /// How MAIL was answered.
    mail: Option<Class>,
    rcpt_answered: usize,
    /// LMTP: replies to the content that came (RFC 2033 4.2).
    end_answered: usize,
    /// A chunk was refused: no more of them (C-BDT-26).
    chunk_refused: bool,
    /// The reply to the end of the content has come: the peer has no transaction open any more.
    pub(super) ended: bool,
    /// RSET was sent behind it.
    reset_behind: bool,
}

impl Transaction {
    pub(super) fn new(job: u64, plan: Plan, batch: Vec<usize>) -> Self {
        Self {
            job,
            plan,
            batch,
            sending: Sending::Mail,
            at: 0,
            outstanding: 0,
            accepted: Vec::new(),
            mail: None,
            rcpt_answered: 0,
            end_answered: 0,
            chunk_refused: false,
            ended: false,
            reset_behind: false,
        }
    }

    /// MAIL and every RCPT have their reply.
    pub(super) fn envelope_answered(&self) -> bool {
        self.mail.is_some() && self.rcpt_answered == self.batch.len()
    }

    /// The content would be for nobody, or is refused already.
    pub(super) fn is_futile(&self) -> bool {
        self.mail_refused() || self.chunk_refused || (self.envelope_answered() && self.accepted.is_empty())
    }

    pub(super) fn mail_refused(&self) -> bool {
        self.mail.is_some_and(|class| class != Class::Success)
    }

    /// Whether the peer may have the transaction still open (RFC 5321 4.1.1.5 helps). "The resulting state from a failed
    /// BDAT command is indeterminate" (RFC 3030 2), of the last one, too: Postfix and Exim tell it differently.
    pub(super) fn needs_reset(&self) -> bool {
        let failed = self.chunk_refused || (self.plan.chunked && self.accepted.is_empty());
        self.mail.is_some() && !self.mail_refused() && (!self.ended || failed) && !self.reset_behind
    }

    /// Whether a RSET has to go before the next transaction, because nobody can tell yet what the peer makes of this one:
    /// its content was given up, or goes by BDAT, whose failure leaves a state that only RSET makes certain (RFC 3030 2).
    /// Asked once; the RSET is sent then.
    pub(super) fn take_doubt(&mut self) -> bool {
        let open = self.plan.chunked || matches!(self.sending, Sending::Stopped);
        let doubt = open && !self.reset_behind;
        self.reset_behind |= doubt;
        doubt
    }

    /// Whether it was handed over, and nobody knows what became of it.
    pub(super) fn outcome_unknown(&self) -> bool {
        matches!(self.sending, Sending::All) && !self.is_futile() && !self.ended
    }

    pub(super) fn on_mail<B>(&mut self, reply: Reply, job: &mut Job<B>) {
        self.mail = Some(reply.class());
        if self.mail_refused() {
            let reply = Arc::new(reply);
            for &index in &self.batch {
                job.results[index].decide(&reply, Stage::Mail);
            }
        }
    }

    pub(super) fn on_rcpt<B>(&mut self, reply: Arc<Reply>, job: &mut Job<B>) {
        let index = self.batch[self.rcpt_answered];
        self.rcpt_answered += 1;
        let result = &mut job.results[index];
        if !self.mail_refused() {
            if reply.class() == Class::Success {
                self.accepted.push(index);
                // It may have been too many for an earlier transaction: that is no answer any more (C-CLI-20).
                (result.reply, result.stage) = (None, Stage::Nothing);
            } else {
                result.decide(&reply, Stage::Rcpt);
            }
        }
        result.rcpt = Some(reply);
    }

    /// DATA was refused.
    pub(super) fn on_data_refused<B>(&mut self, reply: &Arc<Reply>, job: &mut Job<B>) {
        for &index in &self.accepted {
            job.results[index].decide(reply, Stage::Data);
        }
    }

    /// A chunk but the last was answered.
    pub(super) fn on_chunk<B>(&mut self, reply: &Arc<Reply>, job: &mut Job<B>) {
        if reply.class() != Class::Success && !self.chunk_refused {
            self.chunk_refused = true;
            for &index in &self.accepted {
                job.results[index].decide(reply, Stage::Content);
            }
        }
    }

    /// The end of the content was answered. Says whether that was the last reply to it.
    pub(super) fn on_end<B>(&mut self, reply: &Arc<Reply>, job: &mut Job<B>, lmtp: bool) -> bool {
        let to = if lmtp { self.end_answered..self.end_answered + 1 } else { 0..self.accepted.len() };
        for &index in self.accepted.get(to).unwrap_or_default() {
            // What an earlier chunk was refused with stands.
            if !self.chunk_refused {
                job.results[index].decide(reply, Stage::Content);
            }
        }
        self.end_answered += 1;
        self.ended = !lmtp || self.end_answered >= self.accepted.len();
        if self.ended && self.plan.chunked {
            self.chunk_refused |= !self.accepted.iter().any(|&index| job.results[index].accepted);
        }
        self.ended
    }

    /// The connection ended behind the end of the content: of these recipients nobody knows.
    pub(super) fn mark_unknown<B>(&self, job: &mut Job<B>) {
        for &index in &self.batch {
            let result = &mut job.results[index];
            if result.reply.is_none() {
                result.stage = Stage::Content;
            }
        }
    }

    /// Recipients that were too many for this transaction and may fit into another (C-CLI-20, RFC 5321 4.5.3.1.10).
    pub(super) fn too_many<B>(&self, job: &Job<B>) -> Vec<usize> {
        if self.accepted.is_empty() || !job.is_divisible() {
            return Vec::new();
        }
        let too_many = |index: &&usize| {
            let result = &job.results[**index];
            result.stage == Stage::Rcpt && result.reply.as_ref().is_some_and(|r| matches!(r.code(), 452 | 552))
        };
        self.batch.iter().filter(too_many).copied().collect()
    }
}

impl super::event::RecipientResult {
    pub(super) fn decide(&mut self, reply: &Arc<Reply>, stage: Stage) {
        self.accepted = stage == Stage::Content && reply.class() == Class::Success;
        self.reply = Some(Arc::clone(reply));
        self.stage = stage;
    }
}
