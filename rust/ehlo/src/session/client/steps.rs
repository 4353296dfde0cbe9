//! A transaction step by step: the program gives the sender, then recipients as it likes, then the content.
//!
//! Such a transaction is a job like others. Its content is [`Source::Awaited`] until the program gives it, and until then
//! its transaction is [`Sending::Waiting`] whenever all that was asked for is sent. Each MAIL and RCPT has a number, under
//! which its reply comes as an event. The result comes at the end, as that of any message.
//!
//! [`Sending::Waiting`]: super::transaction::Sending::Waiting

use std::sync::Arc;

use super::event::ClientEvent;
use super::message::{Facts, Job, NewMessage, Source};
use super::misuse::ClientMisuse;
use super::{ClientConnection, Work};
use crate::session::envelope::{Recipient, Sender};
use crate::syntax::command::Verb;

impl<B: AsRef<[u8]>> ClientConnection<B> {
    /// Queue MAIL, for a transaction whose recipients and content come later (RFC 5321 3.3). Gives the number of the
    /// transaction. The reply to MAIL comes under it, and so does the result. What is known of the content has to be said
    /// here, since the parameters of MAIL depend on it.
    ///
    /// Give the content, or call [`abort_content`](Self::abort_content). Whatever is queued behind the transaction waits for
    /// its end.
    ///
    /// # Errors
    /// If the session is over.
    pub fn mail(&mut self, sender: Arc<Sender>, facts: Facts) -> Result<u64, ClientMisuse> {
        let id = self.new_id()?;
        self.jobs.push_back(Job::stepwise(id, NewMessage::awaited(sender, facts)));
        self.queue.push_back(Work::Message(id));
        Ok(id)
    }

    /// Add a recipient to an open transaction. Gives the number under which the reply to RCPT comes. A recipient that the
    /// peer lacks an extension for ends the transaction: its result names the need.
    ///
    /// # Errors
    /// If there is no such transaction, its content was given, or the session is over.
    pub fn rcpt(&mut self, id: u64, recipient: Arc<Recipient>) -> Result<u64, ClientMisuse> {
        let at = self.awaited(id)?;
        let number = self.new_id()?;
        self.jobs[at].add_recipient(number, recipient);
        Ok(number)
    }

    /// Give an open transaction its content; `None`: it comes in pieces, by [`send_content`](Self::send_content).
    ///
    /// # Errors
    /// As [`rcpt`](Self::rcpt), and without recipients.
    pub fn give_content(&mut self, id: u64, content: Option<B>) -> Result<(), ClientMisuse> {
        let at = self.awaited(id)?;
        let message = &mut self.jobs[at].message;
        if message.recipients.is_empty() {
            return Err(ClientMisuse::NoRecipients);
        }
        self.stalled = false;
        message.give(content);
        Ok(())
    }

    /// Where the job of an open transaction is, whose content was not given yet.
    pub(super) fn awaited(&self, id: u64) -> Result<usize, ClientMisuse> {
        self.position(id)
            .filter(|&at| matches!(self.jobs[at].message.content, Source::Awaited) && self.jobs[at].failure.is_none())
            .ok_or(ClientMisuse::NoTransaction)
    }

    /// The reply to the oldest MAIL or RCPT that the program asked for; none comes if the session or the transaction ended.
    pub(super) fn unanswered(&mut self, asked: impl IntoIterator<Item = (u64, Verb)>) {
        self.events.extend(asked.into_iter().map(|(id, verb)| ClientEvent::Reply {
            id,
            verb: Some(verb),
            reply: None,
        }));
    }
}
