//! A message to be sent: its envelope, the source of its content, and the facts that are known about the content.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::Newlines;
use super::event::{Failure, RecipientResult, Stage};
use crate::session::envelope::{Recipient, Sender};
use crate::syntax::command::Verb;
use crate::syntax::reply::Reply;
use crate::wire::content::{BareNewlines, ContentReader, Discard};
use crate::wire::dot::{DotEncoder, EncodePolicy};

/// A message to be sent.
#[derive(Debug)]
pub struct NewMessage<B> {
    pub(super) sender: Arc<Sender>,
    pub(super) recipients: Vec<Arc<Recipient>>,
    pub(super) content: Source<B>,
    pub(super) facts: Facts,
    /// Whether the header section has UTF-8 beyond ASCII, and nothing but UTF-8; `None` is not known.
    pub(super) utf8_found: Option<bool>,
    /// It is lines with their CRLF already.
    pub(super) clean: bool,
    /// It is clean, and no line begins with a dot: behind DATA it goes as it is (RFC 5321 4.5.2).
    pub(super) plain: bool,
}

/// What is known of content before it is sent; `None` is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Octets as they are sent: unstuffed, each line with its CRLF (RFC 1870 5).
    pub size: Option<u64>,
    /// Whether there are octets above 127.
    pub eight_bit: Option<bool>,
    /// Whether MAIL says SMTPUTF8 for the sake of the header section (RFC 6531 3.4). `None`: if the sender's parameters
    /// ask for it. Whole content is looked at as well: a header section that is ASCII does not need it, and one that is
    /// not UTF-8 must not have it.
    pub utf8_header: Option<bool>,
}

/// The source of content.
#[derive(Debug)]
pub(super) enum Source<B> {
    /// It is here, and can be sent again. What of it goes out as it is is lent to the output, which may outlive the message.
    Whole(Arc<B>),
    /// It comes in pieces, once.
    Stream { pieces: VecDeque<B>, ended: bool },
    /// The program has not given it yet: it makes the transaction step by step.
    Awaited,
}

impl<B: AsRef<[u8]>> NewMessage<B> {
    /// A message whose content is here. It is looked through once.
    pub fn whole(sender: Arc<Sender>, recipients: Vec<Arc<Recipient>>, content: B) -> Self {
        let octets = content.as_ref();
        let mut reader = ContentReader::new(BareNewlines::Normalize);
        reader.read(octets, &mut Discard);
        let flags = reader.finish(&mut Discard);
        let missing_end = if flags.no_final_crlf { 2 } else { 0 };
        let facts =
            Facts { size: Some(reader.octets() + missing_end), eight_bit: Some(flags.eight_bit), utf8_header: None };
        let utf8_found = Some(flags.eight_bit && is_utf8_beyond_ascii(header(octets)));
        let clean = !flags.bare() && !flags.no_final_crlf;
        let plain = clean && !reader.has_dots() && octets.first() != Some(&b'.');
        Self { sender, recipients, content: Source::Whole(Arc::new(content)), facts, utf8_found, clean, plain }
    }

    /// The same message, with what the program says about its header section: see [`Facts::utf8_header`].
    #[must_use]
    pub fn with_utf8_header(mut self, utf8_header: Option<bool>) -> Self {
        self.facts.utf8_header = utf8_header;
        self
    }

    /// A message whose content is going to come in pieces.
    pub fn stream(sender: Arc<Sender>, recipients: Vec<Arc<Recipient>>, facts: Facts) -> Self {
        let content = Source::Stream { pieces: VecDeque::new(), ended: false };
        Self { sender, recipients, content, facts, utf8_found: None, clean: false, plain: false }
    }

    /// A message whose recipients and content are going to be given.
    pub(super) fn awaited(sender: Arc<Sender>, facts: Facts) -> Self {
        let content = Source::Awaited;
        Self { sender, recipients: Vec::new(), content, facts, utf8_found: None, clean: false, plain: false }
    }

    /// Here is the content that was awaited; `None`: it comes in pieces.
    pub(super) fn give(&mut self, content: Option<B>) {
        let (sender, recipients) = (Arc::clone(&self.sender), std::mem::take(&mut self.recipients));
        *self = match content {
            Some(content) => Self::whole(sender, recipients, content).with_utf8_header(self.facts.utf8_header),
            None => Self::stream(sender, recipients, self.facts),
        };
    }

    /// Octets that are going to be sent, if they are known (RFC 1870 5).
    pub(super) fn size(&self, exact: bool) -> Option<u64> {
        match &self.content {
            Source::Whole(content) if exact => Some((**content).as_ref().len() as u64),
            _ => self.facts.size,
        }
    }
}

/// Where a bare CR or LF is, if the policy forbids it.
pub(super) fn forbidden_newline(content: &[u8], newlines: Newlines) -> Option<Failure> {
    if newlines != Newlines::Reject {
        return None;
    }
    let mut encoder = DotEncoder::new(EncodePolicy::Reject);
    let found = encoder.encode(content, &mut Discard).and_then(|()| encoder.finish(&mut Discard));
    found.err().map(|bare| Failure::BareNewline(bare.offset))
}

/// The header section: all before the first empty line (RFC 5322 2.1), or all there is.
fn header(content: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &content[at..]) {
        let line = content[at..at + end].strip_suffix(b"\r").unwrap_or(&content[at..at + end]);
        if line.is_empty() {
            return &content[..at];
        }
        at += end + 1;
    }
    content
}

fn is_utf8_beyond_ascii(header: &[u8]) -> bool {
    !header.is_ascii() && std::str::from_utf8(header).is_ok()
}

/// A message that is being worked on, possibly in several transactions.
#[derive(Debug)]
pub(super) struct Job<B> {
    pub(super) id: u64,
    pub(super) message: NewMessage<B>,
    /// Recipients that no transaction has taken up yet.
    pub(super) pending: VecDeque<usize>,
    /// Transactions that are not over.
    pub(super) open: usize,
    pub(super) results: Vec<RecipientResult>,
    pub(super) failure: Option<Failure>,
    pub(super) begun: bool,
    /// The program gives recipients and content step by step, to one transaction.
    pub(super) stepwise: bool,
    /// MAIL and RCPTs of a stepwise job whose replies the program waits for, in order.
    pub(super) asked: VecDeque<(u64, Verb)>,
}

impl<B> Job<B> {
    /// Nothing more is sent of it, and this is why.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.pending.clear();
    }

    pub(super) fn new(id: u64, message: NewMessage<B>) -> Self {
        let results = message.recipients.iter().cloned().map(RecipientResult::new).collect();
        Self {
            id,
            pending: (0..message.recipients.len()).collect(),
            message,
            open: 0,
            results,
            failure: None,
            begun: false,
            stepwise: false,
            asked: VecDeque::new(),
        }
    }

    /// A transaction step by step, which begins with MAIL.
    pub(super) fn stepwise(id: u64, message: NewMessage<B>) -> Self {
        Self { stepwise: true, asked: VecDeque::from([(id, Verb::Mail)]), ..Self::new(id, message) }
    }

    /// One more recipient; `number` is that of its RCPT.
    pub(super) fn add_recipient(&mut self, number: u64, recipient: Arc<Recipient>) {
        self.pending.push_back(self.results.len());
        self.results.push(RecipientResult::new(Arc::clone(&recipient)));
        self.message.recipients.push(recipient);
        self.asked.push_back((number, Verb::Rcpt));
    }

    /// The first recipient that waits for its RCPT is refused, and RCPT is never said. Gives the number of that RCPT.
    pub(super) fn refuse_pending(&mut self, reply: &Arc<Reply>) -> Option<(u64, Verb)> {
        // Those that wait are the last that the program asked for.
        let place = self.asked.len().checked_sub(self.pending.len())?;
        let index = self.pending.pop_front()?;
        self.results[index].decide(reply, Stage::Rcpt);
        self.asked.remove(place)
    }

    /// The domain of a recipient, in lower case; empty for the postmaster without a domain.
    pub(super) fn domain(&self, index: usize) -> String {
        let path = &self.message.recipients[index].path;
        path.address().map_or_else(String::new, |address| address.domain().to_ascii_lowercase())
    }

    /// Whether it may take several transactions: its content can be sent again, and who is in which is ours to say.
    pub(super) fn is_divisible(&self) -> bool {
        self.is_whole() && !self.stepwise
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.message.content, Source::Whole(_))
    }

    /// Takes up as many pending recipients as one transaction may have: `most` of them, in `most_domains` domains
    /// (RCPTMAX and RCPTDOMAINMAX, C-CLI-21).
    pub(super) fn next_batch(&mut self, most: Option<usize>, most_domains: Option<u32>) -> Vec<usize> {
        let Some(most_domains) = most_domains else {
            return match most {
                Some(most) if most < self.pending.len() => self.pending.drain(..most).collect(),
                _ => std::mem::take(&mut self.pending).into(),
            };
        };
        let mut domains: Vec<String> = Vec::new();
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        for index in std::mem::take(&mut self.pending) {
            let domain = self.domain(index);
            let known = domains.contains(&domain);
            if most.is_none_or(|most| batch.len() < most) && (known || domains.len() < most_domains as usize) {
                batch.push(index);
                if !known {
                    domains.push(domain);
                }
            } else {
                rest.push_back(index);
            }
        }
        self.pending = rest;
        batch
    }
}
