//! The client's side of a session: RFC 5321, 1870, 2033, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 9422.
//!
//! Rule 1: what is sent when, and what a reply means, is decided in this folder; grammar is not.
//! Rule 2: replies are matched by count and order, and judged by their first digit (RFC 2920 3.1, RFC 5321 4.2.1).
//! Rule 3: nothing here knows how octets come and go, what time it is, or where the content is from.

pub mod config;
pub mod event;
pub mod message;
mod offer;
mod transaction;
mod transcript;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Chunking, ClientConfig, ClientConfigError, ClientSettings, ClientTimers, Newlines, TlsPolicy};
pub use event::{ClientDisconnect, ClientEvent, Failure, MessageResult, Need, ProtocolFault, RecipientResult, Stage};
pub use message::{Facts, NewMessage};

use self::message::{Content, Job, forbidden_newline};
use self::offer::{Offer, Peer};
use self::transaction::{Sending, Transaction};
use self::transcript::Transcript;
use crate::syntax::capability::Capabilities;
use crate::syntax::command::{Command, Hello, Secret, Verb, WriteError, write_mail, write_rcpt};
use crate::syntax::reply::{Class, Reply, ReplyParseError, ReplyParser};
use crate::wire::base64;
use crate::wire::content::{BareNewlines, ContentReader};
use crate::wire::dot::{BareNewline, DotEncoder, EncodePolicy};

/// Content is turned into output up to about this many octets at a time.
const HIGH_WATER: usize = 256 * 1024;
/// Whole content of at least so many octets that needs no change is lent to the output. A smaller one is cheaper copied
/// than sent as a piece of its own.
const LEND: usize = 16 * 1024;
/// Whole content is encoded in pieces of this size.
const PIECE: usize = 64 * 1024;
/// A buffer larger than this is given back when it is empty.
const KEEP_CAPACITY: usize = 16 * 1024;
/// Chunks of one message that are sent ahead of their replies.
const CHUNKS_AHEAD: usize = 8;

/// Where the session stands. What is sent next follows from it, and from the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The greeting, the hello or STARTTLS is not answered yet.
    Opening,
    /// Messages and commands go out.
    Ready,
    /// The program shakes hands.
    Handshake,
    /// The program answers a challenge of this AUTH.
    Challenged(u64),
    Closed,
}

/// What the next reply answers.
#[derive(Debug)]
enum Expect {
    Greeting,
    Hello(Verb),
    StartTls,
    /// The initial response, if the line would have been too long with it (C-AUT-31).
    Auth {
        id: u64,
        held: Option<Secret<'static>>,
    },
    Mail,
    Rcpt,
    Data,
    Chunk {
        last: bool,
    },
    /// The line of the dot.
    End,
    /// A RSET of our own.
    Reset,
    Command {
        id: u64,
        verb: Verb,
    },
}

impl Expect {
    /// Whether nothing may be sent behind it before it is answered (RFC 2920 3.1).
    fn ends_group(&self) -> bool {
        match self {
            Self::Mail | Self::Rcpt | Self::Chunk { .. } | Self::End | Self::Reset => false,
            Self::Command { verb, .. } => *verb != Verb::Rset,
            Self::Greeting | Self::Hello(_) | Self::StartTls | Self::Auth { .. } | Self::Data => true,
        }
    }
}

/// A part of whole content that goes out as it is.
#[derive(Debug)]
struct Lent<B> {
    /// Output that goes before it.
    before: Vec<u8>,
    content: Arc<B>,
    part: Range<usize>,
}

impl<B: AsRef<[u8]>> Lent<B> {
    fn octets(&self) -> &[u8] {
        &(*self.content).as_ref()[self.part.clone()]
    }
}

/// What is to be sent when all before it has been.
enum Work {
    Message(u64),
    Command { id: u64, command: Command<'static> },
}

/// The program asked for what is not possible here. Nothing a peer sends leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMisuse {
    /// The connection is over, or QUIT was asked for.
    Closed,
    /// The content of this message is not asked for in pieces, or is complete.
    NoContent,
    /// There is no challenge to answer.
    NoChallenge,
    /// No handshake was asked for.
    NoHandshake,
    /// A message without recipients.
    NoRecipients,
    /// The command cannot be written.
    Write(WriteError),
    /// There is no such message.
    UnknownMessage,
    /// The command belongs to the engine: messages are queued, hello and STARTTLS are said by themselves.
    EngineCommand(Option<Verb>),
}

impl fmt::Display for ClientMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the session is over, or ends with the QUIT that was asked for"),
            Self::NoContent => f.write_str("this message takes no more pieces of content"),
            Self::NoChallenge => f.write_str("there is no challenge to answer (RFC 4954 4)"),
            Self::NoHandshake => f.write_str("expected before the greeting, or after the StartTls event"),
            Self::NoRecipients => f.write_str("a message needs at least one recipient (RFC 5321 3.3)"),
            Self::Write(error) => error.fmt(f),
            Self::UnknownMessage => f.write_str("there is no such message, or it has its result"),
            Self::EngineCommand(verb) => {
                let verb = verb.map_or("an unknown command", Verb::as_str);
                write!(f, "{verb} is not sent on its own: queue a message, or set up the ClientConfig")
            }
        }
    }
}

impl std::error::Error for ClientMisuse {}

impl From<WriteError> for ClientMisuse {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// One SMTP or LMTP session, seen from the client.
///
/// - Input: [`receive`](Self::receive), [`receive_eof`](Self::receive_eof), [`receive_timeout`](Self::receive_timeout).
/// - What is wanted: [`queue`](Self::queue) messages, [`command`](Self::command), [`auth`](Self::auth),
///   [`quit`](Self::quit). All of it can be said at once; the engine sends what may be sent.
/// - Events: [`poll_event`](Self::poll_event), until it gives `None`.
/// - Output: [`output`](Self::output), then [`clear_output`](Self::clear_output), until it is empty.
///
/// At each wake-up in this order: input, events, output. After [`is_closed`](Self::is_closed) send what is left and
/// close the transport.
///
/// ```
/// use std::sync::Arc;
/// use ehlo::session::{Envelope, client::{ClientConfig, ClientConnection, ClientEvent, ClientSettings, NewMessage}};
///
/// let config = ClientConfig::new(ClientSettings { hostname: "c.example".into(), ..Default::default() })?;
/// let mut conn: ClientConnection = ClientConnection::new(Arc::new(config));
/// let envelope = Envelope::parse("a@c.example", ["b@d.example"]).unwrap();
/// conn.queue(NewMessage::whole(envelope.sender, envelope.recipients, b"hi\r\n".to_vec())).unwrap();
/// conn.receive(b"220 mx.example ESMTP\r\n");
/// conn.clear_output();
/// conn.receive(b"250-mx.example\r\n250 PIPELINING\r\n");
/// assert!(matches!(conn.poll_event(), Some(ClientEvent::Ready)));
/// assert_eq!(conn.output(), b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n");
/// # Ok::<(), ehlo::session::client::ClientConfigError>(())
/// ```
pub struct ClientConnection<B: AsRef<[u8]> = Vec<u8>> {
    config: Arc<ClientConfig>,
    phase: Phase,
    parser: ReplyParser,
    expected: VecDeque<Expect>,
    events: VecDeque<ClientEvent>,
    output: Vec<u8>,
    /// What goes out before `output`.
    lent: VecDeque<Lent<B>>,
    /// Chunks are put together here, since their size goes first.
    scratch: Vec<u8>,
    capabilities: Capabilities,
    offer: Offer,
    greeting: Option<Reply>,
    tls: bool,
    tls_verified: bool,
    authenticated: bool,
    /// Messages that have no result yet, in the order they were queued.
    jobs: VecDeque<Job<B>>,
    queue: VecDeque<Work>,
    /// The transaction that is being sent.
    sending: Option<Transaction>,
    /// Those that are sent, and wait for replies.
    sent: VecDeque<Transaction>,
    /// The peer may have a transaction open that is over for us.
    reset_due: bool,
    quitting: bool,
    transactions: u32,
    next_id: u64,
    transcript: Transcript,
}

impl<B: AsRef<[u8]>> ClientConnection<B> {
    /// A session that has just been connected, and waits for the greeting (RFC 5321 4.3.1).
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            phase: Phase::Opening,
            parser: ReplyParser::new(),
            expected: VecDeque::from([Expect::Greeting]),
            events: VecDeque::new(),
            output: Vec::new(),
            lent: VecDeque::new(),
            scratch: Vec::new(),
            capabilities: Capabilities::default(),
            offer: Offer::default(),
            greeting: None,
            tls: false,
            tls_verified: false,
            authenticated: false,
            jobs: VecDeque::new(),
            queue: VecDeque::new(),
            sending: None,
            sent: VecDeque::new(),
            reset_due: false,
            quitting: false,
            transactions: 0,
            next_id: 0,
            transcript: Transcript::default(),
        }
    }

    // ---- input ----

    /// Take octets from the peer.
    pub fn receive(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            match self.phase {
                Phase::Closed => return,
                // Between the 220 and the handshake the peer has nothing to say (C-TLS-20, RFC 3207 6).
                Phase::Handshake => return self.fail(ProtocolFault::Injected),
                Phase::Opening | Phase::Ready | Phase::Challenged(_) => {}
            }
            match self.parser.feed(rest, &self.config.settings().reply_limits) {
                Ok(fed) => {
                    rest = &rest[fed.consumed..];
                    if let Some(reply) = fed.reply {
                        self.on_reply(reply);
                        // What this reply lets go is on its way before the next is looked at, in whatever pieces they come.
                        self.pump();
                    }
                }
                Err(error) => {
                    if matches!(error, ReplyParseError::Code(_)) {
                        self.say_quit(); // C-RPL-03
                    }
                    return self.fail(ProtocolFault::Reply(error));
                }
            }
        }
    }

    /// The peer sends no more.
    pub fn receive_eof(&mut self) {
        let quit = matches!(self.expected.back(), Some(Expect::Command { verb: Verb::Quit, .. }));
        self.disconnect(if quit { ClientDisconnect::Quit } else { ClientDisconnect::Eof });
    }

    /// Nothing moved for [`timeout`](Self::timeout).
    pub fn receive_timeout(&mut self) {
        match (self.timeout(), self.expected.front()) {
            (None, _) => {}
            (_, Some(Expect::Command { verb: Verb::Quit, .. })) => self.disconnect(ClientDisconnect::Quit),
            _ => self.disconnect(ClientDisconnect::Timeout),
        }
    }

    /// TLS is active: after [`ClientEvent::StartTls`], or before the greeting where TLS is implicit (RFC 8314 3.3).
    /// All that was learnt in clear is forgotten (RFC 3207 4.2). `verified`: the peer's certificate was, and its name;
    /// REQUIRETLS asks for it (RFC 8689 4.2.1).
    ///
    /// # Errors
    /// If no handshake was due.
    pub fn tls_established(&mut self, verified: bool) -> Result<(), ClientMisuse> {
        match self.phase {
            Phase::Handshake => {
                (self.tls, self.tls_verified) = (true, verified);
                self.capabilities = Capabilities::default();
                self.offer = Offer::default();
                self.phase = Phase::Opening;
                self.begin_hello();
                Ok(())
            }
            Phase::Opening if !self.tls && matches!(self.expected.front(), Some(Expect::Greeting)) => {
                (self.tls, self.tls_verified) = (true, verified);
                Ok(())
            }
            // The peer spoke in clear behind its 220: that is told by the events.
            Phase::Closed => Ok(()),
            _ => Err(ClientMisuse::NoHandshake),
        }
    }

    // ---- what the program wants ----

    /// Queue a message. Gives its number, under which its result comes.
    ///
    /// # Errors
    /// Without recipients, and when the session is over.
    pub fn queue(&mut self, message: NewMessage<B>) -> Result<u64, ClientMisuse> {
        if message.recipients.is_empty() {
            return Err(ClientMisuse::NoRecipients);
        }
        let id = self.new_id()?;
        self.jobs.push_back(Job::new(id, message));
        self.queue.push_back(Work::Message(id));
        Ok(id)
    }

    /// The message whose content is wanted now, in pieces.
    #[must_use]
    pub fn content_wanted(&self) -> Option<u64> {
        let transaction = self.sending.as_ref().filter(|_| self.phase == Phase::Ready)?;
        match &transaction.sending {
            Sending::Lines(_) => {}
            Sending::Chunks { .. } if self.may_send_chunk(transaction) => {}
            _ => return None,
        }
        match &self.job(transaction.job)?.message.content {
            Content::Stream { pieces, ended: false } if pieces.is_empty() => Some(transaction.job),
            _ => None,
        }
    }

    /// Give the next piece of content. Says whether it is still of use: of a message that was refused it is not.
    ///
    /// # Errors
    /// If the content is whole, or was ended.
    pub fn send_content(&mut self, id: u64, piece: B) -> Result<bool, ClientMisuse> {
        match self.stream(id)? {
            None => Ok(false),
            Some((pieces, _)) => {
                if !piece.as_ref().is_empty() {
                    pieces.push_back(piece);
                }
                Ok(true)
            }
        }
    }

    /// The content is complete.
    ///
    /// # Errors
    /// As [`send_content`](Self::send_content).
    pub fn end_content(&mut self, id: u64) -> Result<(), ClientMisuse> {
        if let Some((_, ended)) = self.stream(id)? {
            *ended = true;
        }
        Ok(())
    }

    /// There is no more content, and what was sent of it must not become a message (C-DAT-25). Behind DATA nothing but
    /// the end of the connection says so (RFC 5321 4.1.1.10); between chunks RSET does.
    ///
    /// # Errors
    /// As [`send_content`](Self::send_content).
    pub fn abort_content(&mut self, id: u64) -> Result<(), ClientMisuse> {
        if self.stream(id)?.is_some() {
            self.give_up(id, Failure::Aborted);
        }
        Ok(())
    }

    /// Queue a command: NOOP, RSET, VRFY, EXPN, HELP, ETRN, XCLIENT, XFORWARD. Gives its number, under which its reply
    /// comes.
    ///
    /// # Errors
    /// If it cannot be written, is one of the engine's own, or the session is over.
    pub fn command(&mut self, command: Command<'static>) -> Result<u64, ClientMisuse> {
        match command.verb() {
            Some(
                Verb::Noop
                | Verb::Rset
                | Verb::Vrfy
                | Verb::Expn
                | Verb::Help
                | Verb::Etrn
                | Verb::Xclient
                | Verb::Xforward,
            ) => self.queue_command(command),
            Some(Verb::Quit) => self.quit(),
            other => Err(ClientMisuse::EngineCommand(other)),
        }
    }

    /// Queue AUTH, with an initial response if the mechanism has one (RFC 4954 4). Challenges come as events, the
    /// outcome as a reply.
    ///
    /// # Errors
    /// If the mechanism is no word, or the session is over.
    pub fn auth(&mut self, mechanism: &str, initial: Option<&[u8]>) -> Result<u64, ClientMisuse> {
        let initial = initial.map(|octets| {
            // An empty response has a sign of its own (C-AUT-33).
            let text = if octets.is_empty() { "=".to_owned() } else { base64::encode(octets) };
            Secret(text.into_bytes().into())
        });
        self.queue_command(Command::Auth { mechanism: mechanism.to_owned().into(), initial })
    }

    /// Answer the open challenge.
    ///
    /// # Errors
    /// If there is none.
    pub fn respond(&mut self, response: &[u8]) -> Result<(), ClientMisuse> {
        self.answer_challenge(Some(response))
    }

    /// Give the exchange up (RFC 4954 4); the server answers 501.
    ///
    /// # Errors
    /// If there is no challenge.
    pub fn cancel(&mut self) -> Result<(), ClientMisuse> {
        self.answer_challenge(None)
    }

    /// End the session when all that was asked for before is done (RFC 5321 4.1.1.10).
    ///
    /// # Errors
    /// If it is over, or QUIT was asked for already.
    pub fn quit(&mut self) -> Result<u64, ClientMisuse> {
        let id = self.queue_command(Command::Quit)?;
        self.quitting = true;
        Ok(id)
    }

    // ---- events and output ----

    /// The next thing that happened; `None` when input is used up.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        if self.events.is_empty() {
            self.pump();
        }
        self.events.pop_front()
    }

    /// Octets to send now. There may be more when these are gone: content that needs no change is not copied, so what is
    /// before it and what is behind it comes apart from it.
    pub fn output(&mut self) -> &[u8] {
        self.pump();
        match self.lent.front() {
            None => &self.output,
            Some(lent) if lent.before.is_empty() => lent.octets(),
            Some(lent) => &lent.before,
        }
    }

    /// The content that [`output`](Self::output) is, if it is all of a message's, as it was queued.
    #[must_use]
    pub fn output_content(&self) -> Option<&B> {
        let lent = self.lent.front().filter(|lent| lent.before.is_empty())?;
        (lent.part.len() == (*lent.content).as_ref().len()).then_some(&lent.content)
    }

    /// Forget the output: it was sent.
    pub fn clear_output(&mut self) {
        match self.lent.front_mut() {
            Some(lent) if lent.before.is_empty() => drop(self.lent.pop_front()),
            Some(lent) => lent.before = Vec::new(),
            None if self.output.capacity() > KEEP_CAPACITY => self.output = Vec::new(),
            None => self.output.clear(),
        }
    }

    // ---- what can be asked ----

    /// How long to wait for the peer, or for it to take our octets: from the last time that anything moved. `None` while
    /// the program has to do something, and at the end.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let timers = &self.config.settings().timers;
        if matches!(self.phase, Phase::Closed | Phase::Handshake | Phase::Challenged(_)) {
            return None;
        }
        match self.expected.front() {
            Some(expect) => Some(match expect {
                Expect::Greeting => timers.greeting,
                Expect::Hello(_) => timers.hello,
                Expect::Mail => timers.mail,
                Expect::Rcpt => timers.rcpt,
                Expect::Data => timers.data,
                Expect::Chunk { last: false } => timers.content,
                Expect::Chunk { last: true } | Expect::End => timers.end_of_data,
                Expect::Reset | Expect::Command { verb: Verb::Noop | Verb::Rset, .. } => timers.reset,
                Expect::Command { verb: Verb::Quit, .. } => timers.quit,
                Expect::StartTls | Expect::Auth { .. } | Expect::Command { .. } => timers.other,
            }),
            None if self.sending.is_some() && self.content_wanted().is_none() => Some(timers.content),
            None => None,
        }
    }

    /// What the peer said in its last reply to EHLO; empty before, and after HELO.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The greeting, once it has come.
    #[must_use]
    pub fn greeting(&self) -> Option<&Reply> {
        self.greeting.as_ref()
    }

    /// Whether TLS is active.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether AUTH succeeded.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the session is over: send the output, then close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether nothing is asked for and nothing is outstanding.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && self.expected.is_empty() && self.queue.is_empty() && self.sending.is_none()
    }

    /// Messages that have no result yet.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// Transactions that the peer still takes on this connection, if it says so (RFC 9422 MAILMAX).
    #[must_use]
    pub fn mail_left(&self) -> Option<u32> {
        self.offer.mail_max.map(|most| most.saturating_sub(self.transactions))
    }

    /// The latest lines of the session, without content and secrets.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.transcript.text()
    }

    /// The same, handed over once.
    pub fn take_transcript(&mut self) -> String {
        self.transcript.take()
    }

    fn settings(&self) -> &ClientSettings {
        self.config.settings()
    }

    fn pipelining(&self) -> bool {
        self.offer.pipelining && self.settings().pipelining
    }

    // ---- the engine room: what the program asked ----

    fn new_id(&mut self) -> Result<u64, ClientMisuse> {
        if self.phase == Phase::Closed || self.quitting {
            return Err(ClientMisuse::Closed);
        }
        self.next_id += 1;
        Ok(self.next_id)
    }

    fn queue_command(&mut self, command: Command<'static>) -> Result<u64, ClientMisuse> {
        command.write(&mut Vec::new())?;
        let id = self.new_id()?;
        self.queue.push_back(Work::Command { id, command });
        Ok(id)
    }

    fn answer_challenge(&mut self, response: Option<&[u8]>) -> Result<(), ClientMisuse> {
        let id = match self.phase {
            Phase::Challenged(id) => id,
            // The peer did not wait for the answer: that is told by the events.
            Phase::Closed => return Ok(()),
            _ => return Err(ClientMisuse::NoChallenge),
        };
        match response {
            Some(octets) => base64::encode_into(octets, &mut self.output),
            None => self.output.push(b'*'),
        }
        self.output.extend_from_slice(b"\r\n");
        self.transcript.sent(if response.is_some() { b"[response]" } else { b"*" });
        self.phase = Phase::Ready;
        self.expected.push_back(Expect::Auth { id, held: None });
        Ok(())
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.jobs.binary_search_by_key(&id, |job| job.id).ok()
    }

    fn job(&self, id: u64) -> Option<&Job<B>> {
        self.position(id).map(|at| &self.jobs[at])
    }

    /// The pieces of a streamed message, or `None` where it has its result already.
    fn stream(&mut self, id: u64) -> Result<Option<(&mut VecDeque<B>, &mut bool)>, ClientMisuse> {
        if id == 0 || id > self.next_id {
            return Err(ClientMisuse::UnknownMessage);
        }
        let Some(at) = self.position(id) else { return Ok(None) };
        let Job { message, failure, .. } = &mut self.jobs[at];
        match &mut message.content {
            Content::Stream { pieces, ended } if !*ended => Ok(failure.is_none().then_some((pieces, ended))),
            _ => Err(ClientMisuse::NoContent),
        }
    }

    // ---- the engine room: sending ----

    /// Turn into output what may be sent now.
    fn pump(&mut self) {
        while self.phase == Phase::Ready && self.unsent() < HIGH_WATER && self.step() {}
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
                if outside && self.reset_first() {
                    return true;
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
        let settings = self.config.settings();
        let peer = Peer {
            settings,
            offer: &self.offer,
            capabilities: &self.capabilities,
            verified: self.tls_verified,
            authenticated: self.authenticated,
        };
        let job = &mut self.jobs[at];
        let plan = match peer.plan(&job.message) {
            Ok(plan) => plan,
            Err(need) => {
                self.refuse_job(at, Failure::Need(need));
                return true;
            }
        };
        if let Content::Whole(content) = &job.message.content
            && !job.begun
            && !plan.exact
            && !job.message.clean // else it was looked for
            && let Some(failure) = forbidden_newline((**content).as_ref(), settings.newlines)
        {
            self.refuse_job(at, failure);
            return true;
        }
        let most = match self.offer.rcpt_max {
            Some(most) => most as usize,
            None if job.is_whole() => settings.max_recipients,
            None => usize::MAX,
        };
        let batch = job.next_batch(most, self.offer.rcpt_domain_max);
        if !job.is_whole() && !job.pending.is_empty() {
            self.refuse_job(at, Failure::Need(Need::OneTransaction));
            return true;
        }
        (job.begun, job.open) = (true, job.open + 1);
        if job.pending.is_empty() {
            self.queue.pop_front();
        }
        self.transactions += 1;
        self.sending = Some(Transaction::new(id, plan, batch));
        true
    }

    /// Say RSET, which may stand anywhere in a group (RFC 2920 3.1), where the peer may have a transaction open.
    fn reset_first(&mut self) -> bool {
        let due = self.sent.back_mut().is_some_and(Transaction::take_doubt) | mem::take(&mut self.reset_due);
        if due {
            self.say(b"RSET\r\n", Expect::Reset);
        }
        due
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
            sending @ (Sending::Mail | Sending::Rcpt(_) | Sending::Data) if !self.may_send() => {
                transaction.sending = sending;
                false
            }
            Sending::Mail => {
                if self.say_mail(transaction) {
                    transaction.sending = Sending::Rcpt(0);
                }
                true
            }
            Sending::Rcpt(index) => {
                if !self.say_rcpt(transaction, index) {
                    return true;
                }
                transaction.sending = match index + 1 {
                    next if next < transaction.batch.len() => Sending::Rcpt(next),
                    _ if transaction.plan.chunked => {
                        let policy = if transaction.plan.exact { BareNewlines::Allow } else { BareNewlines::Normalize };
                        Sending::Chunks { reader: ContentReader::new(policy), begun: false }
                    }
                    _ => Sending::Data,
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

    /// All of it is out, or no more of it is going to be.
    fn all_sent(&mut self, transaction: Transaction) {
        if transaction.outstanding > 0 {
            self.sent.push_back(transaction);
        } else {
            self.finish(transaction);
        }
    }

    fn send_lines(&mut self, transaction: &mut Transaction, mut encoder: DotEncoder) -> bool {
        let Some(at) = self.position(transaction.job) else { return true };
        let Self { jobs, output, lent, .. } = self;
        let mut ended = false;
        let plain = jobs[at].message.plain;
        let done = match &mut jobs[at].message.content {
            Content::Whole(content) => {
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
            Content::Stream { pieces, ended: end } => match pieces.pop_front() {
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
    fn may_send_chunk(&self, transaction: &Transaction) -> bool {
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
            Content::Whole(content) => {
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
            Content::Stream { pieces, ended } => {
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
    fn give_up(&mut self, id: u64, failure: Failure) {
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

    // ---- the engine room: words ----

    fn say(&mut self, line: &[u8], expect: Expect) {
        self.output.extend_from_slice(line);
        self.transcript.sent(line);
        self.expected.push_back(expect);
    }

    fn begin_hello(&mut self) {
        self.say_hello(if self.settings().lmtp { Verb::Lhlo } else { Verb::Ehlo });
    }

    fn say_hello(&mut self, verb: Verb) {
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

    fn say_quit(&mut self) {
        self.output.extend_from_slice(b"QUIT\r\n");
        self.transcript.sent(b"QUIT");
    }

    fn say_command(&mut self, id: u64, command: Command<'static>) {
        let Some(verb) = command.verb() else { return };
        let start = self.output.len();
        let expect = match command {
            Command::Auth { mechanism, initial } => {
                // C-AUT-31: a line that would be too long goes without; the response follows the empty challenge.
                let long = initial.as_ref().is_some_and(|initial| {
                    "AUTH  \r\n".len() + mechanism.len() + initial.len() > 512 // RFC 5321 4.5.3.1.4
                });
                let (now, held) = if long { (None, initial) } else { (initial, None) };
                let redacted = format!("AUTH {mechanism}{}", if now.is_some() { " [initial response]" } else { "" });
                self.transcript.sent(redacted.as_bytes());
                let _ = Command::Auth { mechanism, initial: now }.write(&mut self.output);
                Expect::Auth { id, held }
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

    // ---- the engine room: replies ----

    /// The state machine: what each reply does to what it answers.
    fn on_reply(&mut self, reply: Reply) {
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
                    self.say_quit(); // C-CLI-02
                }
                self.disconnect(ClientDisconnect::Greeting(reply));
            }

            (Expect::Hello(verb), Class::Success) => self.on_hello(verb, &reply),
            // C-CLI-03
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

            (Expect::Auth { id, held }, Class::Intermediate) => self.on_challenge(id, held, &reply),
            (Expect::Auth { id, .. }, class) => {
                self.authenticated |= class == Class::Success;
                self.events.push_back(ClientEvent::Reply { id, verb: Verb::Auth, reply: Some(reply.clone()) });
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
                let shared = Arc::new(reply);
                self.on_transaction_reply(expect, &shared);
                if closing {
                    self.disconnect(ClientDisconnect::ServiceClosing((*shared).clone()));
                }
            }

            (Expect::Command { verb: Verb::Quit, id }, _) => {
                self.events.push_back(ClientEvent::Reply { id, verb: Verb::Quit, reply: Some(reply) });
                self.disconnect(ClientDisconnect::Quit);
            }
            (Expect::Command { id, verb }, class) => {
                if verb == Verb::Xclient && class == Class::Success {
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
            // C-TLS-22: not listed may mean taken off the list.
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

    fn on_challenge(&mut self, id: u64, held: Option<Secret<'static>>, reply: &Reply) {
        if let Some(initial) = held {
            self.output.extend_from_slice(&initial);
            self.output.extend_from_slice(b"\r\n");
            self.transcript.sent(b"[response]");
            self.expected.push_back(Expect::Auth { id, held: None });
            return;
        }
        let text = reply.lines().next().unwrap_or_default();
        match base64::decode(text) {
            Ok(challenge) => {
                self.phase = Phase::Challenged(id);
                self.events.push_back(ClientEvent::Challenge { id, challenge });
            }
            Err(_) => {
                // C-AUT-32: cancel, and hear the 501.
                self.say(b"*\r\n", Expect::Auth { id, held: None });
            }
        }
    }

    /// The 354 to DATA.
    fn on_go(&mut self, reply: Reply) {
        let Some(mut transaction) = self.sending.take() else { return };
        transaction.outstanding -= 1;
        if transaction.is_futile() {
            // Nobody is going to get it: the lone dot ends what the peer has begun (C-CLI-11, C-CLI-12). How many
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
            Newlines::Normalize | Newlines::Exact => EncodePolicy::Normalize,
        };
        transaction.sending = Sending::Lines(DotEncoder::new(policy));
        self.sending = Some(transaction);
    }

    /// A reply in a transaction, which is the oldest that waits for one.
    fn on_transaction_reply(&mut self, expect: Expect, reply: &Arc<Reply>) {
        let lmtp = self.settings().lmtp;
        let Self { sent, sending, jobs, expected, .. } = self;
        let from_sent = !sent.is_empty();
        let Some(transaction) = sent.front_mut().or(sending.as_mut()) else { return };
        let Ok(at) = jobs.binary_search_by_key(&transaction.job, |job| job.id) else { return };
        let job = &mut jobs[at];
        transaction.outstanding -= 1;
        match expect {
            Expect::Mail => transaction.on_mail(Arc::clone(reply), job),
            Expect::Rcpt => transaction.on_rcpt(Arc::clone(reply), job),
            Expect::Chunk { last: false } => transaction.on_chunk(reply, job),
            Expect::Data => {
                transaction.on_data_refused(reply, job);
                transaction.sending = Sending::Stopped;
            }
            // One of several (RFC 2033 4.2).
            expect if !transaction.on_end(reply, job, lmtp) => {
                transaction.outstanding += 1;
                expected.push_front(expect);
            }
            _ => {}
        }
        if transaction.outstanding == 0 {
            let over = if from_sent {
                sent.pop_front()
            } else {
                sending.take_if(|transaction| matches!(transaction.sending, Sending::All | Sending::Stopped))
            };
            if let Some(transaction) = over {
                self.finish(transaction);
            }
        }
    }

    fn on_unexpected(&mut self, reply: Reply) {
        let uploading = match &self.sending {
            Some(transaction) if matches!(transaction.sending, Sending::Lines(_)) => self.position(transaction.job),
            _ => None,
        };
        match (uploading, reply.class()) {
            // The peer has seen enough; behind DATA there is no way back but to close (C-CLI-33).
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
                    self.fail(ProtocolFault::Unsolicited); // C-CLI-18
                }
            }
        }
    }

    // ---- the engine room: ends ----

    /// The last reply of a transaction has come.
    fn finish(&mut self, transaction: Transaction) {
        self.reset_due |= transaction.needs_reset();
        if let Some(at) = self.position(transaction.job) {
            let job = &mut self.jobs[at];
            job.open -= 1;
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
    fn report(&mut self) {
        while self
            .jobs
            .front()
            .is_some_and(|job| job.open == 0 && job.pending.is_empty() && (job.begun || job.failure.is_some()))
        {
            if let Some(Job { id, results: recipients, failure, .. }) = self.jobs.pop_front() {
                self.events.push_back(ClientEvent::Result(Box::new(MessageResult { id, recipients, failure })));
            }
        }
    }

    fn fail(&mut self, fault: ProtocolFault) {
        self.disconnect(ClientDisconnect::Protocol(fault));
    }

    /// Nothing more is said or heard: settle what is open.
    fn disconnect(&mut self, reason: ClientDisconnect) {
        if self.phase == Phase::Closed {
            return;
        }
        let challenged = match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Challenged(id) => Some((id, Verb::Auth)),
            _ => None,
        };
        // After a 421 the peer has worked on nothing behind what it answered with it (C-CLI-16).
        let told = matches!(reason, ClientDisconnect::ServiceClosing(_) | ClientDisconnect::Early(_));
        let open = mem::take(&mut self.sent).into_iter().chain(self.sending.take());
        for transaction in open {
            let Some(at) = self.position(transaction.job) else { continue };
            let job = &mut self.jobs[at];
            // C-CLI-17: whatever else became of the message, this must be known.
            if transaction.outcome_unknown() && !told {
                transaction.mark_unknown(job);
                job.failure = Some(Failure::Unknown);
            } else if job.failure.is_none() {
                job.failure = Some(Failure::Lost);
            }
        }
        for job in mem::take(&mut self.jobs) {
            let Job { id, results: recipients, failure, .. } = job;
            let decided = recipients.iter().all(|recipient| recipient.reply.is_some());
            let failure = if decided { None } else { failure.or(Some(Failure::Lost)) };
            self.events.push_back(ClientEvent::Result(Box::new(MessageResult { id, recipients, failure })));
        }
        let outstanding = mem::take(&mut self.expected).into_iter().filter_map(|expect| match expect {
            Expect::Command { id, verb } => Some((id, verb)),
            Expect::Auth { id, .. } => Some((id, Verb::Auth)),
            _ => None,
        });
        let queued = mem::take(&mut self.queue).into_iter().filter_map(|work| match work {
            Work::Command { id, command } => command.verb().map(|verb| (id, verb)),
            Work::Message(_) => None,
        });
        for (id, verb) in challenged.into_iter().chain(outstanding).chain(queued) {
            self.events.push_back(ClientEvent::Reply { id, verb, reply: None });
        }
        self.events.push_back(ClientEvent::Disconnect(reason));
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for ClientConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection")
            .field("phase", &self.phase)
            .field("tls", &self.tls)
            .field("unfinished", &self.jobs.len())
            .finish_non_exhaustive()
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
