//! Content on its way in, by DATA (RFC 5321 4.5.2) and by BDAT (RFC 3030).
//!
//! Refused content is read to its end all the same, and dropped: only then does the answer stand where the client expects it.

use std::mem;

use super::ServerConnection;
use super::event::{Abort, ServerDisconnect, ServerEvent};
use super::replies::{
    AFTER_HELO, CHUNK_FAILED, HELLO_FIRST, NEED_BDAT, NEED_MAIL, NOT_IMPLEMENTED, OK, START_CONTENT, TOO_BIG,
};
use super::settings::ContentMode;
use super::state::{Answer, Decision, Framing, Incoming, Refusal, State};
use super::transaction::Transaction;
use crate::syntax::command::Verb;
use crate::syntax::parameter::Body;
use crate::wire::bdat::BdatChunk;
use crate::wire::content::{BareNewlines, ContentFlags, ContentReader, Discard, Sink};
use crate::wire::dot::{Decoded, DotDecoder};

/// The place where the octets of a message are kept: a [`Sink`] that is empty at first.
pub trait Content: Sink + Default {
    /// Whether nothing was put into it.
    fn is_empty(&self) -> bool;
}

impl Content for Vec<u8> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<C: Content> ServerConnection<C> {
    pub(super) fn read_data(
        &mut self,
        mut incoming: Box<Incoming<C>>,
        mut decoder: DotDecoder,
        octets: &[u8],
    ) -> usize {
        // Up to the octet that passes the size limit and no further, so that what is found first is found first in
        // any split, and no more than the limit is ever kept.
        let limit = self.settings().max_message_size.filter(|limit| decoder.octets() <= *limit);
        let room = limit.and_then(|limit| usize::try_from(limit - decoder.octets() + 1).ok());
        let octets = &octets[..room.map_or(octets.len(), |room| room.min(octets.len()))];
        let keep = incoming.refusal.is_none() && self.settings().content != ContentMode::Discard;
        let Decoded { consumed, done } =
            if keep { decoder.decode(octets, &mut incoming.content) } else { decoder.decode(octets, &mut Discard) };
        if self.settings().bare_newlines == BareNewlines::Reject && decoder.flags().bare() {
            self.refuse(&mut incoming, Refusal::BareNewline);
        }
        self.judge_size(&mut incoming, decoder.octets());
        if incoming.refusal.is_some() && !done && self.config.cuts_off(decoder.octets()) {
            self.say_canned(TOO_BIG);
            self.ending = Some(ServerDisconnect::Limit);
            return consumed;
        }
        self.hand_over(&mut incoming);
        self.state = if done {
            let (size, flags) = (decoder.octets(), decoder.flags());
            self.end_of_content(incoming, size, flags)
        } else {
            State::InData { incoming, decoder }
        };
        consumed
    }

    pub(super) fn read_chunk(
        &mut self,
        mut incoming: Box<Incoming<C>>,
        mut reader: ContentReader,
        chunk: BdatChunk,
        last: bool,
        octets: &[u8],
    ) {
        let done = chunk.done();
        if incoming.refusal.is_none() && self.settings().content != ContentMode::Discard {
            reader.read(octets, &mut incoming.content);
            if done && last {
                reader.finish(&mut incoming.content);
            }
        } else {
            reader.read(octets, &mut Discard);
            if done && last {
                reader.finish(&mut Discard);
            }
        }
        let reject = self.settings().bdat_bare_newlines == BareNewlines::Reject && !incoming.transaction.is_binary();
        if reject && reader.flags().bare() {
            self.refuse(&mut incoming, Refusal::BareNewline);
        }
        self.hand_over(&mut incoming);
        self.state = match (done, last) {
            (false, _) => State::InChunk { incoming, reader, chunk, last },
            (true, true) => {
                let (size, flags) = (reader.octets(), reader.flags());
                self.end_of_content(incoming, size, flags)
            }
            (true, false) => match &incoming.refusal {
                Some(refusal) if refusal.ends_chunk() => {
                    self.say_refusal(refusal);
                    State::Failed { recipients: incoming.transaction.envelope.recipients.len() }
                }
                _ => {
                    self.say_canned(OK);
                    State::NextChunk { incoming, reader }
                }
            },
        };
    }

    /// With `said`, the program has answered DATA itself.
    pub(super) fn begin_content(
        &mut self,
        transaction: Box<Transaction>,
        framing: Framing,
        said: Option<&[u8]>,
    ) -> State<C> {
        let announced = self.settings().content == ContentMode::Stream;
        if announced {
            self.events.push_back(ServerEvent::ContentStart(transaction.envelope.clone()));
        }
        let policy = if transaction.is_binary() { BareNewlines::Allow } else { self.settings().bdat_bare_newlines };
        let incoming = Box::new(Incoming { transaction, content: C::default(), refusal: None, announced });
        match framing {
            Framing::Data => {
                match said {
                    Some(octets) => self.output.extend_from_slice(octets),
                    None => self.say_canned(START_CONTENT),
                }
                State::InData { incoming, decoder: DotDecoder::new(self.settings().bare_newlines) }
            }
            Framing::Bdat { size, last } => self.begin_chunk(incoming, ContentReader::new(policy), size, last),
        }
    }

    fn begin_chunk(
        &mut self,
        mut incoming: Box<Incoming<C>>,
        reader: ContentReader,
        size: u64,
        last: bool,
    ) -> State<C> {
        self.judge_size(&mut incoming, reader.octets().saturating_add(size));
        if size == 0 && !last {
            self.count_junk();
        }
        State::InChunk { incoming, reader, chunk: BdatChunk::new(size), last }
    }

    fn judge_size(&mut self, incoming: &mut Incoming<C>, octets: u64) {
        if self.settings().max_message_size.is_some_and(|limit| octets > limit) {
            self.refuse(incoming, Refusal::TooBig);
        }
    }

    pub(super) fn refuse(&mut self, incoming: &mut Incoming<C>, refusal: Refusal) {
        self.abort(incoming, refusal.abort());
        // Too big is said even where a fault was found before: it fails a chunk at once, the others at the end only.
        if incoming.refusal.is_none()
            || matches!((&incoming.refusal, &refusal), (Some(Refusal::BareNewline), Refusal::TooBig))
        {
            incoming.refusal = Some(refusal);
            incoming.content = C::default();
        }
    }

    pub(super) fn abort(&mut self, incoming: &mut Incoming<C>, why: Abort) {
        if mem::take(&mut incoming.announced) {
            self.events.push_back(ServerEvent::ContentAborted(why));
        }
    }

    fn hand_over(&mut self, incoming: &mut Incoming<C>) {
        if self.settings().content == ContentMode::Stream && !incoming.content.is_empty() {
            self.events.push_back(ServerEvent::Chunk(mem::take(&mut incoming.content)));
        }
    }

    fn end_of_content(&mut self, mut incoming: Box<Incoming<C>>, size: u64, flags: ContentFlags) -> State<C> {
        if let Some(refusal) = self.judge_content(&incoming.transaction, flags) {
            self.refuse(&mut incoming, refusal);
        }
        let Incoming { transaction, content, refusal, .. } = *incoming;
        let replies = self.replies_due(&transaction);
        if let Some(refusal) = refusal {
            self.about = Some(transaction.envelope);
            if self.settings().decisions.refusal && !self.settings().lmtp {
                return self.ask_content_refusal(&refusal);
            }
            for _ in 0..replies {
                self.say_refusal(&refusal);
            }
            return State::Idle;
        }
        if self.settings().decisions.message {
            self.events.push_back(ServerEvent::Message {
                envelope: transaction.envelope.clone(),
                content,
                size,
                flags,
            });
            return State::Deciding(Decision::Message { transaction, answered: 0 });
        }
        for _ in 0..replies {
            self.say_canned(OK);
            self.count_message(true);
        }
        State::Idle
    }

    /// Ask the program for its words about content that the engine does not take.
    fn ask_content_refusal(&mut self, refusal: &Refusal) -> State<C> {
        let Some(Ok(reply)) = refusal.canned().map(|canned| self.config.replies.reply(canned)) else {
            self.say_refusal(refusal);
            return State::Idle;
        };
        self.events.push_back(ServerEvent::Refusal { line: Vec::new(), reply: reply.clone() });
        State::Deciding(Decision::Refusal { reply, before: Box::new(State::Idle) })
    }

    /// What the policies say of complete content.
    fn judge_content(&self, transaction: &Transaction, flags: ContentFlags) -> Option<Refusal> {
        let settings = self.settings();
        let parameters = &transaction.envelope.sender.parameters;
        let declared = parameters.smtputf8 || matches!(parameters.body, Some(Body::EightBitMime | Body::BinaryMime));
        if settings.reject_nul && flags.nul && !transaction.is_binary() {
            Some(Refusal::Nul)
        } else if settings.reject_8bit && flags.eight_bit && !declared {
            Some(Refusal::EightBit)
        } else if settings.reject_long_lines && flags.long_line && !transaction.is_binary() {
            Some(Refusal::LongLine)
        } else {
            None
        }
    }

    /// One reply for all recipients, or in LMTP one for each (RFC 2033 4.2).
    pub(super) fn replies_due(&self, transaction: &Transaction) -> usize {
        if self.settings().lmtp { transaction.envelope.recipients.len() } else { 1 }
    }

    pub(super) fn on_data(&mut self, transaction: Box<Transaction>) -> State<C> {
        if let Some(answer) = self.no_recipients(&transaction) {
            return self.wrong_in(answer, State::InTransaction(transaction));
        }
        if transaction.is_binary() {
            return self.wrong_in(NEED_BDAT, State::InTransaction(transaction)); // RFC 3030 3
        }
        self.ask_content(transaction, Framing::Data)
    }

    fn ask_content(&mut self, transaction: Box<Transaction>, framing: Framing) -> State<C> {
        if !self.settings().decisions.data {
            return self.begin_content(transaction, framing, None);
        }
        let verb = if matches!(framing, Framing::Data) { Verb::Data } else { Verb::Bdat };
        self.events.push_back(ServerEvent::Data { envelope: transaction.envelope.clone(), verb });
        State::Deciding(Decision::Content { transaction, framing })
    }

    /// End the session if a refused chunk is too long to be read to its end (S-BDT-15).
    fn is_cut_off(&mut self, size: u64) -> bool {
        let over = self.config.cuts_off(size);
        if over {
            self.say_canned(TOO_BIG);
            self.ending = Some(ServerDisconnect::Limit);
        }
        over
    }

    pub(super) fn on_bdat(&mut self, state: State<C>, size: u64, last: bool) -> State<C> {
        if self.is_cut_off(size) {
            return state;
        }
        let answer = match (&state, &self.learnt.hello) {
            _ if !self.settings().chunking => NOT_IMPLEMENTED,
            (_, None) => HELLO_FIRST,
            (_, Some((Verb::Helo, _))) => AFTER_HELO,
            (State::Failed { .. }, _) => CHUNK_FAILED,
            (State::InTransaction(transaction), _) => match self.no_recipients(transaction) {
                Some(answer) => answer,
                None => {
                    let State::InTransaction(transaction) = state else { return state };
                    return self.ask_content(transaction, Framing::Bdat { size, last });
                }
            },
            (State::NextChunk { .. }, _) => {
                let State::NextChunk { incoming, reader } = state else { return state };
                return self.begin_chunk(incoming, reader, size, last);
            }
            _ => NEED_MAIL,
        };
        self.fail_chunk(state, size, last, Answer::Canned(answer))
    }

    /// Read a refused chunk to its last octet, then answer (S-BDT-05). The transaction it belongs to cannot be saved.
    pub(super) fn fail_chunk(&mut self, state: State<C>, size: u64, last: bool, answer: Answer) -> State<C> {
        if self.is_cut_off(size) {
            return state;
        }
        let recipients = match &state {
            State::InTransaction(transaction) => transaction.envelope.recipients.len(),
            State::NextChunk { incoming, .. } => incoming.transaction.envelope.recipients.len(),
            State::Failed { recipients } => *recipients,
            _ => return drain(size, answer, state),
        };
        if let State::NextChunk { mut incoming, .. } = state {
            self.abort(&mut incoming, Abort::Reset);
        }
        if !last {
            return drain(size, answer, State::Failed { recipients });
        }
        let answer = match answer {
            Answer::Canned(_) if self.settings().lmtp && recipients == 0 => Answer::Silence,
            Answer::Canned(line) if self.settings().lmtp => Answer::Repeated(line, recipients),
            answer => answer,
        };
        drain(size, answer, State::Idle)
    }
}

pub(super) fn drain<C>(size: u64, answer: Answer, then: State<C>) -> State<C> {
    State::Draining { chunk: BdatChunk::new(size), answer, then: Box::new(then) }
}
