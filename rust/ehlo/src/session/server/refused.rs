//! Refusals: each reply 4yz or 5yz is counted by the command it answers, and told to a program that asks for it.

use std::mem;

use super::ServerConnection;
use super::content::Content;
use super::event::ServerEvent;
use super::replies::{is_refusal, reply_of};
use crate::session::envelope::Envelope;
use crate::syntax::command::Verb;
use crate::syntax::reply::Reply;

/// Octets of a command's argument that are kept.
const KEPT: usize = 1024;

/// Replies 4yz and 5yz, by the command that they answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts {
    /// In place of the greeting.
    pub connect: u64,
    /// AUTH and its responses (RFC 4954 4).
    pub auth: u64,
    /// MAIL.
    pub mail: u64,
    /// RCPT.
    pub rcpt: u64,
    /// DATA, BDAT, and the content itself.
    pub content: u64,
    /// All others, and lines that are no command.
    pub other: u64,
}

/// What was refused since the last step, and the command that is being answered.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) counts: RefusalCounts,
    verb: Option<Verb>,
    argument: Vec<u8>,
    /// A line of the client is being answered, not the connection itself.
    begun: bool,
    noted: Vec<(Reply, Option<Envelope>)>,
}

impl Refused {
    /// A line came. Its argument is kept only where it cannot hold a secret: after AUTH, the mechanism alone. The text of
    /// a line that is no command is not kept, since it may be a password that was sent out of turn.
    pub(super) fn begin(&mut self, line: &[u8], verb: Option<Verb>, keep: bool) {
        self.begun = true;
        self.verb = verb;
        self.argument.clear();
        if !keep {
            return;
        }
        let argument = line.iter().position(|octet| *octet == b' ').map_or(&[][..], |at| line[at..].trim_ascii());
        let kept = match verb {
            Some(Verb::Auth) => argument.split(|octet| *octet == b' ').next().unwrap_or_default(),
            Some(
                Verb::Bdat
                | Verb::Ehlo
                | Verb::Etrn
                | Verb::Expn
                | Verb::Helo
                | Verb::Lhlo
                | Verb::Mail
                | Verb::Rcpt
                | Verb::Vrfy,
            ) => argument,
            _ => &[],
        };
        self.argument.extend_from_slice(&kept[..kept.len().min(KEPT)]);
    }
}

impl<C: Content> ServerConnection<C> {
    /// A line goes out.
    pub(super) fn note_line(&mut self, line: &str) {
        if is_refusal(line) {
            self.count_refused();
            if self.settings().decisions.refused
                && let Ok(reply) = reply_of(line)
            {
                self.note(reply);
            }
        }
    }

    /// A reply goes out.
    pub(super) fn note_reply(&mut self, reply: &Reply) {
        if reply.code() >= 400 {
            self.count_refused();
            if self.settings().decisions.refused {
                self.note(reply.clone());
            }
        }
    }

    /// In LMTP one content may be refused once for each recipient (RFC 2033 4.2): that is told once.
    fn note(&mut self, reply: Reply) {
        let about = self.about.take();
        if about.is_some() || self.refused.noted.last().is_none_or(|(last, _)| *last != reply) {
            self.refused.noted.push((reply, about));
        }
    }

    fn count_refused(&mut self) {
        let counts = &mut self.refused.counts;
        let count = match self.refused.verb {
            _ if !self.refused.begun => &mut counts.connect,
            Some(Verb::Auth) => &mut counts.auth,
            Some(Verb::Mail) => &mut counts.mail,
            Some(Verb::Rcpt) => &mut counts.rcpt,
            Some(Verb::Data | Verb::Bdat) => &mut counts.content,
            _ => &mut counts.other,
        };
        *count += 1;
    }

    /// Whether [`Self::tell_refused`] has anything to do.
    #[inline]
    pub(super) fn has_refused(&self) -> bool {
        self.about.is_some() || !self.refused.noted.is_empty()
    }

    /// The step is done: tell what it refused.
    pub(super) fn tell_refused(&mut self) {
        self.about = None;
        if self.refused.noted.is_empty() {
            return;
        }
        let verb = self.refused.verb;
        let argument = String::from_utf8_lossy(&self.refused.argument).into_owned();
        for (reply, about) in mem::take(&mut self.refused.noted) {
            let envelope = about.or_else(|| self.transaction().map(|transaction| transaction.envelope.clone()));
            self.events.push_back(ServerEvent::Refused { verb, argument: argument.clone(), envelope, reply });
        }
    }

    /// Replies 4yz and 5yz so far, by the command that they answer. What the engine says because it is about to close
    /// for silence or at a shutdown is not among them.
    pub fn refusals(&self) -> RefusalCounts {
        self.refused.counts
    }

    /// Whether an event waits that the program must see before it answers.
    pub(super) fn is_asking(&self) -> bool {
        self.events.iter().any(|event| !matches!(event, ServerEvent::Refused { .. }))
    }
}
