//! The client's side of a session: RFC 5321, 1870, 2033, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 9422.
//!
//! Three rules hold in this folder:
//!
//! 1. This folder decides what is sent, when it is sent, and what a reply means. It does not know the grammar.
//! 2. Replies are matched by count and order, and judged by their first digit (RFC 2920 3.1, RFC 5321 4.2.1).
//! 3. This folder does not know how octets come and go, what time it is, or where content is from.
//!
//! # The five queues
//!
//! A program may ask for everything at once: ten messages, a VRFY and QUIT. The server may let many commands out ahead of
//! their replies, or one at a time. Five queues stand between the two. An item enters a queue at its back and leaves at its
//! front, so that no message and no reply overtakes another.
//!
//! | queue | its items | enters | leaves |
//! |---|---|---|---|
//! | `jobs` | a message without its result | the program queues it | its result is an event |
//! | `queue` | a message or a command that was not begun | the program asks for it | the first octet of it may be sent |
//! | `sent` | a transaction of which all is sent | its last command is in the output | its last reply came |
//! | `expected` | the kind of one reply that is due | the command is in the output | the reply came |
//! | `events` | what the program is to be told | something happened | `poll_event` gives it |
//!
//! One place has no queue: `sending` is the one transaction that is being written now. A transaction is one MAIL with its
//! RCPTs and its content. A job may need several of them, since a server may limit the recipients of each.
//!
//! # The way of a message
//!
//! 1. [`queue`](ClientConnection::queue) puts a job into `jobs`, and the job's number into `queue`. Nothing is sent yet.
//! 2. [`output`](ClientConnection::output) calls `pump`, which takes steps for as long as a step can do something. When
//!    `sending` is empty, a step looks at the front of `queue`. The plan (`plan.rs`) says whether the server offers all that the
//!    message needs. If it does not, the job gets its result at once, and nothing is sent. If it does, the step makes a
//!    transaction for as many recipients as one may have, and puts it into `sending`. The number stays in `queue` until
//!    all recipients of the job are in some transaction.
//! 3. Each further step writes one piece of `sending`: MAIL, one RCPT, DATA, a piece of content, the dot; or BDAT with its
//!    chunk. Each command adds one item to `expected`. A step that may not write waits: the rule of PIPELINING is that
//!    nothing stands behind DATA, EHLO, AUTH and the like before their reply came (RFC 2920 3.1). `Expect::ends_group`
//!    has the list.
//! 4. When all of the transaction is written, it moves from `sending` to the back of `sent`, and `sending` is free for the
//!    next one. Without PIPELINING the next one waits until no reply is due. With it the next MAIL follows at once, and at
//!    most `window` transactions are in `sent`.
//! 5. A reply takes the front of `expected`. If it belongs to a transaction, that is the front of `sent`, or `sending` when
//!    `sent` is empty. The transaction notes the reply with the recipients it decides about.
//! 6. With its last reply the transaction leaves `sent`. The job has its result when all its transactions are over. `report`
//!    tells results from the front of `jobs` only: so results come in the order in which messages were queued.
//!
//! A refused MAIL, or a server that refused all recipients, makes the transaction *futile*: the next step writes no more of
//! it. The RSET that the server may need then is written before the next transaction (`reset_due`).
//!
//! A transaction that the program makes step by step (`steps.rs`) is a job, too. It stays in `sending`, and waits there for
//! the next recipient or for the content.
//!
//! # The way of a command
//!
//! A command goes from `queue` into the output and into `expected`. Its reply is an event. QUIT is a command too, and
//! nothing can be queued behind it.
//!
//! # The end
//!
//! `disconnect` empties every queue and makes an event of each item that the program waits for. A message whose content
//! was complete, and whose reply did not come, is *unknown*: the server may have it. All others are *lost*.

pub mod config;
pub mod event;
pub mod message;
mod misuse;
mod plan;
mod replies;
mod sending;
mod steps;
#[cfg(test)]
mod table;
mod transaction;
mod transcript;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use self::config::{Chunking, ClientConfig, ClientConfigError, ClientSettings, Newlines, TlsPolicy};
pub use self::event::{
    ClientDisconnect, ClientEvent, Failure, MessageResult, Need, ProtocolFault, RecipientResult, Stage,
};
pub use self::message::{Facts, NewMessage};
pub use self::misuse::ClientMisuse;

use self::message::{Job, Source};
use self::plan::Offer;
use self::transaction::{Sending, Transaction};
use self::transcript::Transcript;
use crate::syntax::capability::Capabilities;
use crate::syntax::command::{Command, Secret, Verb};
use crate::syntax::reply::{Reply, ReplyParseError, ReplyParser};
use crate::wire::base64;

/// A buffer larger than this is given back when it is empty.
const KEEP_CAPACITY: usize = 16 * 1024;

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
    Challenged {
        id: u64,
        blind: bool,
    },
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
        /// The mechanism does not read challenges.
        blind: bool,
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
    /// `None`: a command that is not known here.
    Command {
        id: u64,
        verb: Option<Verb>,
    },
}

impl Expect {
    /// Whether nothing may be sent behind it before it is answered (RFC 2920 3.1).
    fn ends_group(&self) -> bool {
        match self {
            Self::Mail | Self::Rcpt | Self::Chunk { .. } | Self::End | Self::Reset => false,
            Self::Command { verb, .. } => *verb != Some(Verb::Rset),
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
    /// The replies that are due, in the order of their commands.
    expected: VecDeque<Expect>,
    /// What the program was not told yet.
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
    /// Messages and commands that are not begun, or not begun with all their recipients.
    queue: VecDeque<Work>,
    /// The transaction that is being written. In a box, since each step takes it out and puts it back.
    sending: Option<Box<Transaction>>,
    /// Transactions that are written as a whole, and wait for replies.
    sent: VecDeque<Box<Transaction>>,
    /// The last step found that nothing may be sent, and nothing happened since.
    stalled: bool,
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
            stalled: false,
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
                Phase::Opening | Phase::Ready | Phase::Challenged { .. } => {}
            }
            match self.parser.feed(rest, self.config.reply_limits()) {
                Ok(fed) => {
                    rest = &rest[fed.consumed..];
                    if let Some(reply) = fed.reply {
                        self.on_reply(reply);
                        self.stalled = false;
                        // What this reply lets go is on its way before the next is looked at, in whatever pieces they come.
                        self.pump();
                    }
                }
                Err(error) => {
                    if matches!(error, ReplyParseError::Code(_)) && self.may_say_quit() {
                        self.say_quit(); // A code outside 200 to 599 gets QUIT (C-RPL-03).
                    }
                    return self.fail(ProtocolFault::Reply(error));
                }
            }
        }
    }

    /// The peer sends no more.
    pub fn receive_eof(&mut self) {
        let quit = matches!(self.expected.back(), Some(Expect::Command { verb: Some(Verb::Quit), .. }));
        self.disconnect(if quit { ClientDisconnect::Quit } else { ClientDisconnect::Eof });
    }

    /// Nothing moved for [`timeout`](Self::timeout).
    pub fn receive_timeout(&mut self) {
        match (self.timeout(), self.expected.front()) {
            (None, _) => {}
            (_, Some(Expect::Command { verb: Some(Verb::Quit), .. })) => self.disconnect(ClientDisconnect::Quit),
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
                self.stalled = false;
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
            Source::Stream { pieces, ended: false } if pieces.is_empty() => Some(transaction.job),
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
    /// the end of the connection says so (RFC 5321 4.1.1.10); between chunks RSET does. It gives up a transaction of
    /// [`mail`](Self::mail), too, whose content was not given yet.
    ///
    /// # Errors
    /// As [`send_content`](Self::send_content).
    pub fn abort_content(&mut self, id: u64) -> Result<(), ClientMisuse> {
        if self.awaited(id).is_ok() || self.stream(id)?.is_some() {
            self.give_up(id, Failure::Aborted);
        }
        Ok(())
    }

    /// Queue a command: NOOP, RSET, VRFY, EXPN, HELP, ETRN, XCLIENT, XFORWARD, or one that is not known here. Gives its
    /// number, under which its reply comes. A 3yz asks for more, which none of these has: it ends the session.
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
            )
            | None => self.queue_command(command),
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
            // An empty response is written `=` (C-AUT-33).
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
        if self.has_event() { self.events.pop_front() } else { None }
    }

    /// Whether [`poll_event`](Self::poll_event) has something to tell.
    #[must_use]
    pub fn has_event(&mut self) -> bool {
        if self.events.is_empty() {
            self.pump();
        }
        !self.events.is_empty()
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

    /// All output, if it is in one piece of fewer than `most` octets: to be sent while the connection is not borrowed.
    /// Behind that [`give_back`](Self::give_back) is due.
    pub fn take_output(&mut self, most: usize) -> Option<Vec<u8>> {
        self.pump();
        (self.lent.is_empty() && self.output.len() < most).then(|| mem::take(&mut self.output))
    }

    /// What of [`take_output`](Self::take_output) was not sent. It goes out before all other output. An empty one is of
    /// use, too: its memory is taken for the next output.
    pub fn give_back(&mut self, mut rest: Vec<u8>) {
        rest.append(&mut self.output);
        self.output = rest;
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
        let settings = self.config.settings();
        if matches!(self.phase, Phase::Closed | Phase::Handshake | Phase::Challenged { .. }) {
            return None;
        }
        match self.expected.front() {
            Some(expect) => Some(match expect {
                Expect::Greeting => settings.greeting_timeout,
                Expect::Hello(_) => settings.hello_timeout,
                Expect::Mail => settings.mail_timeout,
                Expect::Rcpt => settings.rcpt_timeout,
                Expect::Data => settings.data_timeout,
                Expect::Chunk { last: false } => settings.content_timeout,
                Expect::Chunk { last: true } | Expect::End => settings.end_of_data_timeout,
                Expect::Reset | Expect::Command { verb: Some(Verb::Noop | Verb::Rset), .. } => settings.reset_timeout,
                Expect::Command { verb: Some(Verb::Quit), .. } => settings.quit_timeout,
                Expect::StartTls | Expect::Auth { .. } | Expect::Command { .. } => settings.other_timeout,
            }),
            None => match &self.sending {
                // The program has to give a recipient, or content.
                None => None,
                Some(transaction) if matches!(transaction.sending, Sending::Waiting) => None,
                Some(_) if self.content_wanted().is_some() => None,
                Some(_) => Some(settings.content_timeout),
            },
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

    /// Whether TLS is to begin: what comes is for the adapter.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.phase == Phase::Handshake
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
        self.stalled = false;
        Ok(self.next_id)
    }

    fn queue_command(&mut self, command: Command<'static>) -> Result<u64, ClientMisuse> {
        command.write(&mut Vec::new())?;
        let id = self.new_id()?;
        self.queue.push_back(Work::Command { id, command });
        Ok(id)
    }

    fn answer_challenge(&mut self, response: Option<&[u8]>) -> Result<(), ClientMisuse> {
        let (id, blind) = match self.phase {
            Phase::Challenged { id, blind } => (id, blind),
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
        self.stalled = false;
        self.expected.push_back(Expect::Auth { id, held: None, blind });
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
        self.stalled = false;
        let Some(at) = self.position(id) else { return Ok(None) };
        let Job { message, failure, .. } = &mut self.jobs[at];
        match &mut message.content {
            Source::Stream { pieces, ended } if !*ended => Ok(failure.is_none().then_some((pieces, ended))),
            _ => Err(ClientMisuse::NoContent),
        }
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
