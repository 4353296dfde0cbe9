//! Sending: what the program asked for becomes output.
//!
//! [`pump`](ClientConnection::pump) is called before each look at the output and behind each reply. It takes one step after
//! another until a step finds that nothing may be sent now. A step goes on with the transaction in `sending`, or begins with
//! the next item of `queue`. The essay in [`super`] has the whole way.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::config::Newlines;
use super::event::{ClientDisconnect, ClientEvent, Failure, Need};
use super::message::{Job, Source, forbidden_newline};
use super::plan::{Destination, Plan};
use super::transaction::{Sending, Transaction};
use super::{ClientConnection, Expect, KEEP_CAPACITY, Lent, Phase, Work};
use crate::syntax::command::{Command, Hello, Verb, WriteError, write_mail, write_rcpt};
use crate::syntax::reply::Reply;
use crate::syntax::status::EnhancedCode;
use crate::wire::content::{BareNewlines, ContentReader};
use crate::wire::dot::{BareNewline, DotEncoder};

/// Content is turned into output up to about this many octets at a time.
const HIGH_WATER: usize = 256 * 1024;
/// Whole content of at least so many octets that needs no change is lent to the output. To copy a smaller one is cheaper
/// than to send it as a piece of its own.
const LEND: usize = 16 * 1024;
/// Whole content is encoded in pieces of this size.
const PIECE: usize = 64 * 1024;
/// Chunks of one message that are sent ahead of their replies.
const CHUNKS_AHEAD: usize = 8;

impl<B: AsRef<[u8]>> ClientConnection<B> {
    /// Turn into output what may be sent now.
    pub(super) fn pump(&mut self) {
        // The program looks for events and output far more often than there is anything to send.
        while !self.stalled && self.may_step() {
            self.stalled = !self.step();
        }
        debug_assert!(!self.may_step() || !self.step(), "whatever may let a step go on wakes it");
    }

    fn may_step(&self) -> bool {
        self.phase == Phase::Ready && self.unsent() < HIGH_WATER
    }

    /// Octets of output that nobody took yet.
    fn unsent(&self) -> usize {
        self.output.len() + self.lent.iter().map(|lent| lent.before.len() + lent.part.len()).sum::<usize>()
    }

    /// One step. Says whether anything was done.
    fn step(&mut self) -> bool {
        match self.sending.take() {
            Some(mut transaction) => {
                let moved = self.step_transaction(&mut transaction);
                match transaction.sending {
                    Sending::All | Sending::Stopped => self.all_sent(transaction),
                    // Unless what was sent of it ended the session.
                    _ if self.phase != Phase::Closed => self.sending = Some(transaction),
                    _ => {}
                }
                moved
            }
            None => self.begin(),
        }
    }

    /// Whether a command may be sent behind what is outstanding (C-CLI-06, C-CLI-07).
    fn may_send(&self) -> bool {
        match self.expected.back() {
            None => true,
            Some(last) => self.pipelining() && !last.ends_group(),
        }
    }

    /// Begin with what is first in the queue.
    fn begin(&mut self) -> bool {
        if !self.may_send() {
            return false;
        }
        match self.queue.front() {
            None => false,
            Some(Work::Command { command, .. }) => {
                // These are refused in a transaction that the peer has still open (RFC 4954 4, RFC 1985 5).
                let outside = matches!(
                    command,
                    Command::Auth { .. } | Command::Etrn(_) | Command::Xclient(_) | Command::Xforward(_)
                );
                let reset = matches!(command, Command::Rset);
                if outside && self.reset_first() {
                    return true;
                }
                if reset {
                    self.take_reset_due(); // the program's does as well
                }
                if let Some(Work::Command { id, command }) = self.queue.pop_front() {
                    self.say_command(id, command);
                }
                true
            }
            Some(Work::Message(id)) => {
                let id = *id;
                self.begin_transaction(id)
            }
        }
    }

    fn begin_transaction(&mut self, id: u64) -> bool {
        if self.sent.len() >= self.settings().window {
            return false;
        }
        if self.reset_first() {
            return true;
        }
        let Some(at) = self.position(id) else {
            self.queue.pop_front();
            return true;
        };
        if self.offer.mail_max.is_some_and(|most| self.transactions >= most) {
            self.refuse_job(at, Failure::MailMax);
            return true;
        }
        let plan = match self.destination().plan(&self.jobs[at].message) {
            Ok(plan) => plan,
            Err(need) => {
                self.refuse_job(at, Failure::Need(need));
                return true;
            }
        };
        if self.jobs[at].stepwise {
            self.queue.pop_front();
            return self.open_transaction(at, plan, Vec::new());
        }
        let settings = self.config.settings();
        let job = &mut self.jobs[at];
        if let Source::Whole(content) = &job.message.content
            && !job.begun
            && !plan.exact
            && !job.message.clean // else it was looked for
            && let Some(failure) = forbidden_newline((**content).as_ref(), settings.newlines)
        {
            self.refuse_job(at, failure);
            return true;
        }
        let most = match self.offer.rcpt_max {
            Some(most) => Some(most as usize),
            None if job.is_whole() => Some(settings.max_recipients),
            None => None,
        };
        let batch = job.next_batch(most, self.offer.rcpt_domain_max);
        if !job.is_whole() && !job.pending.is_empty() {
            self.refuse_job(at, Failure::Need(Need::OneTransaction));
            return true;
        }
        if job.pending.is_empty() {
            self.queue.pop_front();
        }
        self.open_transaction(at, plan, batch)
    }

    fn open_transaction(&mut self, at: usize, plan: Plan, batch: Vec<usize>) -> bool {
        let job = &mut self.jobs[at];
        (job.begun, job.open) = (true, job.open + 1);
        self.transactions += 1;
        self.sending = Some(Box::new(Transaction::new(job.id, plan, batch)));
        true
    }

    /// Say RSET, which may stand anywhere in a group (RFC 2920 3.1), where the peer may have a transaction open.
    fn reset_first(&mut self) -> bool {
        let due = self.take_reset_due();
        if due {
            self.say(b"RSET\r\n", Expect::Reset);
        }
        due
    }

    /// Whether a RSET is due. Asked once; the RSET is sent then.
    fn take_reset_due(&mut self) -> bool {
        self.sent.back_mut().is_some_and(|transaction| transaction.take_doubt()) | mem::take(&mut self.reset_due)
    }

    fn destination(&self) -> Destination<'_> {
        Destination {
            settings: self.config.settings(),
            offer: &self.offer,
            capabilities: &self.capabilities,
            verified: self.tls_verified,
            authenticated: self.authenticated,
        }
    }

    /// A message that is not begun, or not begun anew.
    fn refuse_job(&mut self, at: usize, failure: Failure) {
        self.queue.pop_front();
        self.jobs[at].fail(failure);
        self.report();
    }

    fn step_transaction(&mut self, transaction: &mut Transaction) -> bool {
        match mem::replace(&mut transaction.sending, Sending::Stopped) {
            sending @ (Sending::Go | Sending::All | Sending::Stopped) => {
                transaction.sending = sending;
                false
            }
            // Nobody would get the content: no more of it (RFC 5321 3.3). Content behind a 354 has its end, though.
            Sending::Rcpt(_) | Sending::Data | Sending::Chunks { .. } if transaction.is_futile() => true,
            Sending::Waiting if transaction.mail_refused() => true,
            sending @ (Sending::Mail | Sending::Rcpt(_) | Sending::Data) if !self.may_send() => {
                transaction.sending = sending;
                false
            }
            Sending::Mail => {
                if self.say_mail(transaction) {
                    transaction.sending =
                        if transaction.batch.is_empty() { Sending::Waiting } else { Sending::Rcpt(0) };
                }
                true
            }
            Sending::Waiting => self.step_waiting(transaction),
            Sending::Rcpt(index) => {
                if !self.say_rcpt(transaction, index) {
                    return true;
                }
                transaction.sending = match index + 1 {
                    next if next < transaction.batch.len() => Sending::Rcpt(next),
                    _ if self.job(transaction.job).is_some_and(|job| job.stepwise) => Sending::Waiting,
                    _ => content_first(&transaction.plan),
                };
                true
            }
            Sending::Data => {
                self.say(b"DATA\r\n", Expect::Data);
                transaction.outstanding += 1;
                transaction.sending = Sending::Go;
                true
            }
            Sending::Lines(encoder) => self.send_lines(transaction, encoder),
            Sending::Chunks { reader, begun } => {
                transaction.sending = Sending::Chunks { reader, begun };
                self.may_send_chunk(transaction) && self.send_chunk(transaction)
            }
        }
    }

    /// A transaction step by step: the next recipient, or the content, if the program gave it.
    fn step_waiting(&mut self, transaction: &mut Transaction) -> bool {
        let Some(at) = self.position(transaction.job) else { return true };
        if let Some(&index) = self.jobs[at].pending.front()
            && !self.fits(transaction, &self.jobs[at], index)
            && let Some(reply) = too_many()
        {
            let reply = Arc::new(reply);
            if let Some((id, verb)) = self.jobs[at].refuse_pending(&reply) {
                self.events.push_back(ClientEvent::Reply {
                    id,
                    verb: Some(verb),
                    reply: Some(Arc::unwrap_or_clone(reply)),
                });
            }
            transaction.sending = Sending::Waiting;
            return true;
        }
        if let Some(index) = self.jobs[at].pending.pop_front() {
            transaction.sending = Sending::Rcpt(transaction.batch.len());
            transaction.batch.push(index);
            return true;
        }
        let message = &self.jobs[at].message;
        let unfit = match &message.content {
            Source::Awaited => {
                transaction.sending = Sending::Waiting;
                return false;
            }
            Source::Stream { .. } => None,
            Source::Whole(content) => {
                let need = self.destination().judge_late_content(&transaction.plan, message).err().map(Failure::Need);
                let judged = !transaction.plan.exact && !message.clean;
                need.or_else(|| {
                    judged.then(|| forbidden_newline((**content).as_ref(), self.settings().newlines)).flatten()
                })
            }
        };
        match unfit {
            Some(failure) => self.jobs[at].fail(failure),
            None => transaction.sending = content_first(&transaction.plan),
        }
        true
    }

    /// Whether the peer takes one more recipient in a transaction step by step (RCPTMAX and RCPTDOMAINMAX, RFC 9422 4).
    fn fits(&self, transaction: &Transaction, job: &Job<B>, index: usize) -> bool {
        if self.offer.rcpt_max.is_some_and(|most| transaction.batch.len() >= most as usize) {
            return false;
        }
        let Some(most) = self.offer.rcpt_domain_max else { return true };
        let domains: BTreeSet<String> = transaction.batch.iter().chain([&index]).map(|&one| job.domain(one)).collect();
        domains.len() <= most as usize
    }

    /// All of it is out, or no more of it is going to be.
    fn all_sent(&mut self, transaction: Box<Transaction>) {
        if transaction.outstanding > 0 {
            self.sent.push_back(transaction);
        } else {
            self.finish(&transaction);
        }
    }

    fn send_lines(&mut self, transaction: &mut Transaction, mut encoder: DotEncoder) -> bool {
        let Some(at) = self.position(transaction.job) else { return true };
        let Self { jobs, output, lent, .. } = self;
        let mut ended = false;
        let plain = jobs[at].message.plain;
        let done = match &mut jobs[at].message.content {
            Source::Whole(content) => {
                let rest = &(**content).as_ref()[transaction.at..];
                let octets = rest.len().min(if plain { HIGH_WATER } else { PIECE });
                ended = octets == rest.len();
                // The encoder of plain content stays where it began, at the start of a line; and there such content ends.
                let done = if plain && octets >= LEND {
                    let part = transaction.at..transaction.at + octets;
                    lent.push_back(Lent { before: mem::take(output), content: Arc::clone(content), part });
                    Ok(())
                } else if plain {
                    output.extend_from_slice(&rest[..octets]);
                    Ok(())
                } else {
                    // To grow in steps would copy most of it again.
                    output.reserve(rest.len().min(HIGH_WATER));
                    encoder.encode(&rest[..octets], output)
                };
                transaction.at += octets;
                done
            }
            Source::Stream { pieces, ended: end } => match pieces.pop_front() {
                Some(piece) if transaction.plan.seven_bit && !piece.as_ref().is_ascii() => {
                    return self.break_off(transaction, Failure::EightBit);
                }
                Some(piece) => encoder.encode(piece.as_ref(), output),
                None if *end => {
                    ended = true;
                    Ok(())
                }
                None => {
                    transaction.sending = Sending::Lines(encoder);
                    return false;
                }
            },
            Source::Awaited => return true, // content is not begun before it is given
        };
        let done = match (done, ended) {
            (Ok(()), true) => encoder.finish(output),
            (done, _) => {
                transaction.sending = Sending::Lines(encoder);
                done
            }
        };
        match done {
            Err(BareNewline { offset }) => self.break_off(transaction, Failure::BareNewline(offset)),
            Ok(()) if ended => {
                self.expect_end(transaction, Expect::End);
                true
            }
            Ok(()) => true,
        }
    }

    /// Content behind DATA that must not become a message: the connection ends without the dot (C-DAT-25).
    fn break_off(&mut self, transaction: &mut Transaction, failure: Failure) -> bool {
        transaction.sending = Sending::Stopped;
        if let Some(at) = self.position(transaction.job) {
            self.jobs[at].failure = Some(failure);
        }
        self.disconnect(ClientDisconnect::Aborted);
        true
    }

    /// A first chunk may go with the envelope, further ones when somebody is going to get them. In LMTP the number of
    /// replies to the last depends on those before (C-LMT-12), so there it is one by one.
    pub(super) fn may_send_chunk(&self, transaction: &Transaction) -> bool {
        let begun = matches!(transaction.sending, Sending::Chunks { begun: true, .. });
        if self.settings().lmtp {
            return self.expected.is_empty() && transaction.envelope_answered();
        }
        let ahead = transaction.outstanding < CHUNKS_AHEAD;
        self.may_send() && (!begun || (transaction.envelope_answered() && ahead))
    }

    fn send_chunk(&mut self, transaction: &mut Transaction) -> bool {
        let Some(at) = self.position(transaction.job) else { return true };
        let Sending::Chunks { reader, begun } = &mut transaction.sending else { return false };
        let Self { jobs, output, scratch, config, .. } = self;
        let mut lending = None;
        let most = config.settings().chunk_size;
        let start = output.len();
        let (exact, seven_bit) = (transaction.plan.exact, transaction.plan.seven_bit);
        let last;
        scratch.clear();
        let clean = jobs[at].message.clean;
        match &mut jobs[at].message.content {
            Source::Whole(content) => {
                let rest = &(**content).as_ref()[transaction.at..];
                let piece = &rest[..rest.len().min(most)];
                last = piece.len() == rest.len();
                if !clean && !exact {
                    reader.read(piece, scratch);
                } else if piece.len() >= LEND {
                    put_chunk_size(piece.len(), last, output);
                    lending = Some((Arc::clone(content), transaction.at..transaction.at + piece.len()));
                } else {
                    put_chunk(piece, last, output);
                }
                transaction.at += piece.len();
            }
            Source::Stream { pieces, ended } => {
                if pieces.is_empty() && !*ended {
                    return false;
                }
                while scratch.len() < most
                    && let Some(piece) = pieces.pop_front()
                {
                    if seven_bit && !piece.as_ref().is_ascii() {
                        transaction.sending = Sending::Stopped;
                        jobs[at].failure = Some(Failure::EightBit);
                        return true;
                    }
                    reader.read(piece.as_ref(), scratch);
                }
                last = *ended && pieces.is_empty();
            }
            Source::Awaited => return false, // content is not begun before it is given
        }
        if output.len() == start {
            if last && !exact && reader.finish(scratch).no_final_crlf {
                scratch.extend_from_slice(b"\r\n");
            }
            if config.settings().newlines == Newlines::Reject && !exact && reader.flags().bare() {
                let offset = reader.octets();
                transaction.sending = Sending::Stopped;
                jobs[at].failure = Some(Failure::BareNewline(offset));
                return true;
            }
            if scratch.is_empty() && !last {
                return true; // a CR that waits for what follows it
            }
            put_chunk(scratch, last, output);
            if scratch.capacity() > KEEP_CAPACITY {
                *scratch = Vec::new();
            }
        }
        *begun = true;
        let head = memchr::memchr(b'\n', &output[start..]).map_or(output.len(), |end| start + end);
        self.transcript.sent(&self.output[start..head]);
        if let Some((content, part)) = lending {
            self.lent.push_back(Lent { before: mem::take(&mut self.output), content, part });
        }
        if last {
            self.expect_end(transaction, Expect::Chunk { last });
        } else {
            self.expected.push_back(Expect::Chunk { last });
            transaction.outstanding += 1;
        }
        true
    }

    fn expect_end(&mut self, transaction: &mut Transaction, expect: Expect) {
        if matches!(expect, Expect::End) {
            self.transcript.sent(b"[content] .");
        }
        self.expected.push_back(expect);
        transaction.outstanding += 1;
        transaction.sending = Sending::All;
    }

    /// The program gave content up.
    pub(super) fn give_up(&mut self, id: u64, failure: Failure) {
        self.stalled = false;
        if let Some(at) = self.position(id) {
            self.jobs[at].fail(failure);
        }
        match self.sending.take_if(|transaction| transaction.job == id) {
            // Behind DATA: a 354 that is on its way would have to be followed by content.
            Some(transaction) if matches!(transaction.sending, Sending::Lines(_) | Sending::Go) => {
                self.sending = Some(transaction);
                self.disconnect(ClientDisconnect::Aborted);
            }
            Some(mut transaction) => {
                transaction.sending = Sending::Stopped;
                self.all_sent(transaction);
            }
            None => {
                self.queue.retain(|work| !matches!(work, Work::Message(queued) if *queued == id));
                self.report();
            }
        }
    }

    // ---- commands ----

    pub(super) fn say(&mut self, line: &[u8], expect: Expect) {
        self.output.extend_from_slice(line);
        self.transcript.sent(line);
        self.expected.push_back(expect);
    }

    pub(super) fn begin_hello(&mut self) {
        self.say_hello(if self.settings().lmtp { Verb::Lhlo } else { Verb::Ehlo });
    }

    pub(super) fn say_hello(&mut self, verb: Verb) {
        let hello = Hello { name: self.config.settings().hostname.as_str().into() };
        let command = match verb {
            Verb::Lhlo => Command::Lhlo(hello),
            Verb::Helo => Command::Helo(hello),
            _ => Command::Ehlo(hello),
        };
        let start = self.output.len();
        let written = command.write(&mut self.output);
        debug_assert_eq!(written, Ok(()), "the configuration was checked");
        self.transcript.sent(&self.output[start..]);
        self.expected.push_back(Expect::Hello(verb));
    }

    /// Whether the peer will take QUIT for a command, behind a reply that cannot be read. While the reply to DATA is due,
    /// or content is on its way, QUIT would be content; behind AUTH it would be a response, and behind STARTTLS a record.
    /// Where several replies are due, nobody knows which of them this one was.
    pub(super) fn may_say_quit(&self) -> bool {
        let mut due = self.expected.iter();
        match (due.next(), due.next()) {
            (None, _) => self.sending.is_none(),
            (Some(Expect::Data | Expect::Auth { .. } | Expect::StartTls), _) => false,
            (Some(_), rest) => rest.is_none(),
        }
    }

    pub(super) fn say_quit(&mut self) {
        self.output.extend_from_slice(b"QUIT\r\n");
        self.transcript.sent(b"QUIT");
    }

    fn say_command(&mut self, id: u64, command: Command<'static>) {
        let verb = command.verb();
        let start = self.output.len();
        let expect = match command {
            Command::Auth { mechanism, initial } => {
                // If the line would be too long, the response waits for the empty challenge (C-AUT-31).
                let long = initial.as_ref().is_some_and(|initial| {
                    "AUTH  \r\n".len() + mechanism.len() + initial.len() > 512 // RFC 5321 4.5.3.1.4
                });
                let (now, held) = if long { (None, initial) } else { (initial, None) };
                let blind = mechanism.eq_ignore_ascii_case("LOGIN");
                let redacted = format!("AUTH {mechanism}{}", if now.is_some() { " [initial response]" } else { "" });
                self.transcript.sent(redacted.as_bytes());
                let _ = Command::Auth { mechanism, initial: now }.write(&mut self.output);
                Expect::Auth { id, held, blind }
            }
            command => {
                // It was written once before, to see whether it can be.
                let _ = command.write(&mut self.output);
                self.transcript.sent(&self.output[start..]);
                Expect::Command { id, verb }
            }
        };
        self.expected.push_back(expect);
    }

    fn say_mail(&mut self, transaction: &mut Transaction) -> bool {
        let Some(at) = self.position(transaction.job) else { return false };
        let Self { jobs, output, .. } = self;
        let start = output.len();
        let written = write_mail(&jobs[at].message.sender.path, &transaction.plan.mail, output);
        self.said(written, start, transaction, Expect::Mail)
    }

    fn say_rcpt(&mut self, transaction: &mut Transaction, index: usize) -> bool {
        let Some(at) = self.position(transaction.job) else { return false };
        let Job { message, stepwise, .. } = &self.jobs[at];
        if *stepwise
            && let Err(need) =
                self.destination().judge_late_rcpt(&transaction.plan, &message.recipients[transaction.batch[index]])
        {
            self.jobs[at].fail(Failure::Need(need));
            return false;
        }
        let Self { jobs, output, .. } = self;
        let start = output.len();
        let recipient = &jobs[at].message.recipients[transaction.batch[index]];
        let written = write_rcpt(&recipient.path, &transaction.plan.rcpt(recipient), output);
        self.said(written, start, transaction, Expect::Rcpt)
    }

    /// What was written waits for its reply; what could not be is not sent, and ends the transaction.
    fn said(
        &mut self,
        written: Result<(), WriteError>,
        start: usize,
        transaction: &mut Transaction,
        expect: Expect,
    ) -> bool {
        match written {
            Ok(()) => {
                self.transcript.sent(&self.output[start..]);
                self.expected.push_back(expect);
                transaction.outstanding += 1;
            }
            Err(error) => {
                if let Some(at) = self.position(transaction.job) {
                    self.jobs[at].fail(Failure::Unwritable(error));
                }
            }
        }
        written.is_ok()
    }
}

/// What a server with a limit says to a recipient too many (RFC 5321 4.5.3.1.10). RFC 9422 4 has us not ask for it.
fn too_many() -> Option<Reply> {
    let text = "Too many recipients for one transaction, by the server's LIMITS";
    Reply::from_static(452, Some(EnhancedCode::new(4, 5, 3)), text).ok()
}

/// What is sent first of the content.
fn content_first(plan: &Plan) -> Sending {
    if plan.chunked {
        let policy = if plan.exact { BareNewlines::Allow } else { BareNewlines::Normalize };
        Sending::Chunks { reader: ContentReader::new(policy), begun: false }
    } else {
        Sending::Data
    }
}

/// One BDAT command and its octets (RFC 3030 2).
fn put_chunk(octets: &[u8], last: bool, output: &mut Vec<u8>) {
    put_chunk_size(octets.len(), last, output);
    output.extend_from_slice(octets);
}

/// A BDAT command, behind which its octets come.
fn put_chunk_size(octets: usize, last: bool, output: &mut Vec<u8>) {
    let written = Command::Bdat { size: octets as u64, last }.write(output);
    debug_assert_eq!(written, Ok(()), "digits and LAST");
}
