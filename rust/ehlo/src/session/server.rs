//! The server's side of a session: RFC 5321, 1870, 2033, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531, 9422.
//!
//! Rule 1: everything that decides what is answered lives in this file; grammar does not.
//! Rule 2: this file does not know how octets came or went, what time it is, or who asks.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::config::{ContentMode, InjectedInput, ServerConfig, ServerSettings, TlsFacts, TlsMode};
use super::event::{Abort, DisconnectReason, Event};
use super::transaction::{Content, Recipient, Sender, Transaction};
use crate::syntax::address::{ForwardPath, ReversePath};
use crate::syntax::command::{Command, CommandError, CommandErrorKind, Secret, Verb, parse_command};
use crate::syntax::parameter::{Body, ByMode, Hold, MailParameters, RcptParameters};
use crate::syntax::reply::Reply;
use crate::syntax::status::EnhancedCode;
use crate::syntax::xattr::{AttributeName, Attributes};
use crate::wire::base64;
use crate::wire::bdat::BdatChunk;
use crate::wire::content::{BareNewlines, ContentFlags, ContentReader, Discard};
use crate::wire::dot::{Decoded, DotDecoder};
use crate::wire::line::{LineScanner, Scan};
use crate::wire::proxy::ProxyHeader;

const OK: &str = "250 2.0.0 OK\r\n";
const SENDER_OK: &str = "250 2.1.0 OK\r\n";
const RECIPIENT_OK: &str = "250 2.1.5 OK\r\n";
const START_CONTENT: &str = "354 End data with <CRLF>.<CRLF>\r\n";
const START_TLS: &str = "220 2.0.0 Ready to start TLS\r\n";
const AUTHENTICATED: &str = "235 2.7.0 Authentication succeeded\r\n";
const BYE: &str = "221 2.0.0 Bye\r\n";
const NOT_VERIFIED: &str = "252 2.0.0 Not verified here; mail for it may well be accepted\r\n";

const LINE_TOO_LONG: &str = "500 5.5.2 Line too long\r\n";
const UNKNOWN_COMMAND: &str = "500 5.5.2 Command not recognized\r\n";
const USE_LHLO: &str = "500 5.5.1 This is LMTP: say LHLO\r\n";
const NOT_LMTP: &str = "500 5.5.1 This is SMTP: say EHLO\r\n";
const BAD_CHUNK_SIZE: &str = "501 5.5.4 BDAT without a size that can be read; closing\r\n";
const BAD_HOLD: &str = "501 5.5.4 Hold is longer than FUTURERELEASE allows\r\n";
const NOT_IMPLEMENTED: &str = "502 5.5.1 Command not implemented\r\n";
const HELLO_FIRST: &str = "503 5.5.1 Say hello first\r\n";
const ALREADY_MAIL: &str = "503 5.5.1 A transaction is open already\r\n";
const NEED_MAIL: &str = "503 5.5.1 MAIL first\r\n";
const NEED_RCPT: &str = "503 5.5.1 RCPT first\r\n";
const NEED_BDAT: &str = "503 5.5.1 BODY=BINARYMIME goes by BDAT\r\n";
const AFTER_HELO: &str = "503 5.5.1 Not after HELO\r\n";
const CHUNKS_BEGUN: &str = "503 5.5.1 Content has begun: BDAT or RSET\r\n";
const CHUNK_FAILED: &str = "503 5.5.1 An earlier chunk failed: RSET\r\n";
const IN_TRANSACTION: &str = "503 5.5.1 Not in a transaction\r\n";
const NO_SERVICE: &str = "503 5.5.1 No service here: QUIT\r\n";
const IN_TLS: &str = "503 5.5.1 TLS is active already\r\n";
const IN_AUTH: &str = "503 5.5.1 Already authenticated\r\n";
const RESPONSE_TOO_LONG: &str = "500 5.5.6 Authentication exchange line is too long\r\n";
const NOT_BASE64: &str = "501 5.5.2 Not base64\r\n";
const CANCELLED: &str = "501 5.7.0 Authentication cancelled\r\n";
const NO_INITIAL: &str = "501 5.7.0 This mechanism has no initial response\r\n";
const NOT_OFFERED_ATTRIBUTE: &str = "501 5.5.4 An attribute that is not offered\r\n";
const UNKNOWN_MECHANISM: &str = "504 5.5.4 Mechanism not offered\r\n";
const NEED_TLS: &str = "530 5.7.0 STARTTLS first\r\n";
const NEED_AUTH: &str = "530 5.7.0 Authentication required\r\n";
const MECHANISM_NEEDS_TLS: &str = "538 5.7.11 Not without TLS\r\n";
const NOT_TRUSTED: &str = "550 5.7.0 Not for this client\r\n";
const INJECTED: &str = "554 5.5.0 Octets in the clear behind STARTTLS; closing\r\n";
const TLS_TOO_WEAK: &str = "554 5.7.0 This TLS is too weak\r\n";
const SINGLE_LABEL_SENDER: &str = "554 5.1.8 The domain is not fully qualified\r\n";
const SINGLE_LABEL_RECIPIENT: &str = "554 5.1.2 The domain is not fully qualified\r\n";
const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 Too many recipients\r\n";
const TOO_BIG: &str = "552 5.3.4 Message is too big\r\n";
const UTF8_RECIPIENT: &str = "553 5.6.7 MAIL had no SMTPUTF8\r\n";
const NO_VALID_RECIPIENTS: &str = "554 5.5.1 No valid recipients\r\n";
const BY_TOO_SOON: &str = "555 5.5.4 BY is below the minimum of DELIVERBY\r\n";
const BARE_NEWLINE: &str = "550 5.5.2 Content has a bare CR or LF\r\n";
const NUL_OCTET: &str = "550 5.6.0 Content has a NUL octet\r\n";
const LONG_LINE: &str = "554 5.6.0 Content has a line of more than 1000 octets\r\n";
const UNDECLARED_8BIT: &str = "554 5.6.1 8-bit content without BODY=8BITMIME\r\n";

/// A buffer larger than this is given back when it is empty, so that an idle session holds little.
const KEEP_CAPACITY: usize = 4096;

/// Octets kept for the TLS layer until it takes them: more than a ClientHello with what comes behind it in one read.
const MAX_TLS_INPUT: usize = 64 * 1024;

/// The mechanisms in which the server speaks first, so that there can be no initial response (RFC 4954 4).
const SERVER_FIRST: [&str; 2] = ["CRAM-MD5", "DIGEST-MD5"];

/// What stands between two inputs. What belongs to one state only lives in that state.
enum State<C> {
    /// A challenge went out; the next line is a response, whatever it looks like (RFC 4954 4).
    Authenticating,
    /// Nothing more is read or said.
    Closed,
    /// Waiting for the program.
    Deciding(Decision<C>),
    /// A refused chunk is read to its last octet (RFC 3030 2), then answered.
    Draining { chunk: BdatChunk, answer: Answer, then: Box<Self> },
    /// A chunk failed: nothing but RSET, EHLO and QUIT helps (S-BDT-10).
    Failed { recipients: usize },
    /// Nothing is read or said before TLS; what comes meanwhile is the TLS layer's.
    Handshake(Purpose),
    /// No transaction.
    Idle,
    /// Inside a chunk.
    InChunk { incoming: Box<Incoming<C>>, reader: ContentReader, chunk: BdatChunk, last: bool },
    /// Behind DATA, up to the dot.
    InData { incoming: Box<Incoming<C>>, decoder: DotDecoder },
    /// MAIL was accepted.
    InTransaction(Box<Transaction>),
    /// Between two chunks.
    NextChunk { incoming: Box<Incoming<C>>, reader: ContentReader },
    /// The header of the PROXY protocol comes first.
    Proxy,
    /// The greeting refused (RFC 5321 3.1), or TLS is too weak (RFC 3207 4.1): QUIT only.
    Refused(&'static str),
}

/// What a handshake is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The greeting comes after it (RFC 8314 3.3).
    Implicit,
    /// STARTTLS; no second greeting (RFC 3207 4.2).
    StartTls,
}

/// What the program was asked.
enum Decision<C> {
    Auth,
    Connect,
    Content { transaction: Box<Transaction>, framing: Framing },
    Hello { verb: Verb, name: String, before: Box<State<C>> },
    Inquiry { default: &'static str, before: Box<State<C>> },
    Mail(Arc<Sender>),
    Message { transaction: Box<Transaction>, answered: usize },
    Proxy,
    StartTls,
    Rcpt { transaction: Box<Transaction>, recipient: Arc<Recipient> },
}

/// How content is going to be framed.
#[derive(Clone, Copy)]
enum Framing {
    Bdat { size: u64, last: bool },
    Data,
}

/// What is said when a refused chunk is drained.
enum Answer {
    Canned(&'static str),
    Program(Reply),
    /// LMTP: no recipient, no reply (RFC 2033 4.3).
    Silence,
    /// LMTP: one for each recipient.
    Repeated(&'static str, usize),
}

/// Content on its way in.
struct Incoming<C> {
    transaction: Box<Transaction>,
    content: C,
    refusal: Option<Refusal>,
    /// The program was told that content begins, and not yet how it ended.
    announced: bool,
}

/// Why content that is still coming will not be taken.
enum Refusal {
    BareNewline,
    EightBit,
    LongLine,
    Nul,
    Program(Reply),
    TooBig,
}

impl Refusal {
    /// Known for good before the content is complete, so a chunk need not be the last to fail.
    fn ends_chunk(&self) -> bool {
        matches!(self, Self::Program(_) | Self::TooBig)
    }

    fn abort(&self) -> Abort {
        if matches!(self, Self::TooBig) { Abort::TooBig } else { Abort::Forbidden }
    }
}

/// The program asked for what the protocol does not allow here. Nothing a peer sends leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// TLS was told where no handshake was on its way.
    NoHandshake,
    /// A challenge or an identity, where AUTH was not asked for (RFC 4954 4).
    NotAuth,
    /// A yes, where an identity is needed (RFC 4954 4).
    NeedsIdentity,
    /// Output from before the handshake was not sent: it would go out inside TLS (RFC 3207 4).
    UnsentOutput,
    /// There is no content on its way that could be refused.
    NoContent,
    /// No decision is open, or its event was not read yet.
    NoDecision,
    /// Replies per recipient, where there is but one reply (RFC 5321 4.1.1.4).
    NotLmtp,
    /// A shutdown is announced by 421 (RFC 5321 3.8).
    ShutdownCode,
    /// More replies than recipients are unanswered (RFC 2033 4.2).
    TooManyReplies {
        /// Recipients that wait for a reply.
        expected: usize,
        /// Replies given.
        given: usize,
    },
    /// The reply's class does not answer what is asked.
    WrongClass {
        /// What would.
        expected: &'static str,
        /// What was given.
        code: u16,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHandshake => f.write_str(
                "no TLS handshake is on its way: it begins when StartTls is accepted, or before the greeting",
            ),
            Self::NotAuth => f.write_str("only Auth and AuthResponse are answered with a challenge or an identity"),
            Self::NeedsIdentity => {
                f.write_str("AUTH is answered with a challenge, with an identity, or with a 4yz or 5yz reply")
            }
            Self::UnsentOutput => f.write_str("send the output, which is in the clear, before TLS is told"),
            Self::NoContent => f.write_str("no content is coming in; content can be refused between DATA and its end"),
            Self::NoDecision => f.write_str("no decision is open; read the events, and answer the one that asks"),
            Self::NotLmtp => f.write_str("SMTP has one reply for all recipients; only LMTP has one for each"),
            Self::ShutdownCode => f.write_str("a shutdown is announced by a reply with code 421"),
            Self::TooManyReplies { expected, given } => {
                write!(f, "{given} replies for {expected} recipients that wait for one")
            }
            Self::WrongClass { expected, code } => write!(f, "expected {expected}, got a reply with code {code}"),
        }
    }
}

impl std::error::Error for Misuse {}

/// One SMTP or LMTP session, seen from the server.
///
/// - Input: [`receive`](Self::receive), [`receive_eof`](Self::receive_eof), [`receive_timeout`](Self::receive_timeout).
/// - Events: [`poll_event`](Self::poll_event), until it gives `None`.
/// - Answers to the one open decision: [`accept`](Self::accept), [`reply`](Self::reply),
///   [`reply_recipients`](Self::reply_recipients).
/// - Output: [`output`](Self::output), then [`clear_output`](Self::clear_output).
///
/// In this order, at each wake-up: input, events with their answers, output. After [`is_closed`](Self::is_closed)
/// send what is left and close the transport.
///
/// ```
/// use std::sync::Arc;
/// use ehlo::session::{Event, ServerConfig, ServerConnection, ServerSettings};
///
/// let config = ServerConfig::new(ServerSettings { hostname: "mx.example".into(), ..Default::default() })?;
/// let mut conn: ServerConnection = ServerConnection::new(Arc::new(config));
/// conn.receive(b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n");
/// while let Some(event) = conn.poll_event() {
///     if let Event::Message { content, .. } = event {
///         assert_eq!(content, b"hi\r\n");
///         conn.accept().unwrap();
///     }
/// }
/// assert!(conn.output().ends_with(b"354 End data with <CRLF>.<CRLF>\r\n250 2.0.0 OK\r\n"));
/// # Ok::<(), ehlo::session::ConfigError>(())
/// ```
pub struct ServerConnection<C: Content = Vec<u8>> {
    config: Arc<ServerConfig>,
    state: State<C>,
    learnt: Learnt,
    /// Whether the transport's peer may use XCLIENT and XFORWARD.
    trusted: bool,
    tls: Option<TlsFacts>,
    proxy: Option<Arc<ProxyHeader>>,
    input: Vec<u8>,
    head: usize,
    scanner: LineScanner,
    output: Vec<u8>,
    events: VecDeque<Event<C>>,
    /// Set while a command is worked on; the session ends when it is done.
    ending: Option<DisconnectReason>,
    /// The 421 that waits for the transaction to end.
    leaving: Option<Reply>,
    eof: bool,
    counts: Counts,
}

/// What the client has said of itself. Replaced as a whole when the session starts anew (RFC 3207 4.2, XCLIENT).
#[derive(Default)]
struct Learnt {
    hello: Option<(Verb, Box<str>)>,
    identity: Option<Box<str>>,
    xclient: Option<Arc<Attributes>>,
    /// XFORWARD for the next transaction, which takes it.
    xforward: Option<Arc<Attributes>>,
    /// Whether the client that XCLIENT spoke of is trusted; before that the transport's peer counts.
    trusted: Option<bool>,
}

#[derive(Default)]
struct Counts {
    auth_failures: u64,
    commands: u64,
    errors: u64,
    junk: u64,
    messages: u64,
    refused_recipients: u64,
    transactions: u64,
}

impl<C: Content> ServerConnection<C> {
    /// A session that has just been connected. The greeting is in the output at once, unless
    /// [`Decisions::connect`](super::Decisions::connect) asks for it.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let mut connection = Self {
            state: State::Idle,
            learnt: Learnt::default(),
            trusted: false,
            tls: None,
            proxy: None,
            input: Vec::new(),
            head: 0,
            scanner: LineScanner::default(),
            output: Vec::new(),
            events: VecDeque::new(),
            ending: None,
            leaving: None,
            eof: false,
            counts: Counts::default(),
            config,
        };
        connection.state = if connection.settings().proxy { State::Proxy } else { connection.begin() };
        connection
    }

    /// The session begins, with TLS or the greeting.
    fn begin(&mut self) -> State<C> {
        if self.settings().tls == TlsMode::Implicit && self.tls.is_none() {
            State::Handshake(Purpose::Implicit)
        } else {
            self.begin_greeting()
        }
    }

    fn begin_greeting(&mut self) -> State<C> {
        if self.settings().decisions.connect {
            self.events.push_back(Event::Connect);
            return State::Deciding(Decision::Connect);
        }
        self.greet();
        State::Idle
    }

    // ---- input ----

    /// Take octets from the peer. What cannot be judged yet is kept.
    pub fn receive(&mut self, octets: &[u8]) {
        if matches!(self.state, State::Closed) {
            return; // S-LIN-25
        }
        if self.head < self.input.len() {
            if self.head > self.input.len() / 2 {
                self.input.drain(..self.head);
                self.head = 0;
            }
            self.input.extend_from_slice(octets);
            self.advance_buffered();
        } else {
            self.release_input();
            let used = if self.events.is_empty() { self.advance(octets) } else { 0 };
            if !matches!(self.state, State::Closed) {
                self.input.extend_from_slice(&octets[used..]);
            }
        }
        if matches!(self.state, State::Handshake(_)) && self.buffered() > MAX_TLS_INPUT {
            self.finish(DisconnectReason::Protocol);
        }
    }

    /// The peer sends no more. What it sent before is still worked off, half a line is not (S-LIN-24).
    pub fn receive_eof(&mut self) {
        self.eof = true;
    }

    /// The peer was silent for [`timeout`](Self::timeout): 421 and the end (RFC 5321 4.5.3.2.7).
    pub fn receive_timeout(&mut self) {
        if self.timeout().is_none() {
            return;
        }
        if matches!(self.state, State::Handshake(_) | State::Proxy) {
            self.finish(DisconnectReason::Timeout); // Nothing is said in the clear before TLS, nor before the header.
            return;
        }
        let text = if self.scanner.bare_lf_pending() {
            "Timeout; the last line ended in a bare LF, not in CRLF"
        } else {
            "Timeout"
        };
        self.say_closing("421 4.4.2", text);
        self.finish(DisconnectReason::Timeout);
    }

    // ---- events and answers ----

    /// The next thing that happened; `None` when input is used up or a decision is open.
    pub fn poll_event(&mut self) -> Option<Event<C>> {
        if self.events.is_empty() {
            self.advance_buffered();
        }
        self.events.pop_front()
    }

    /// Answer the open decision with yes, in the engine's words. In LMTP, for all recipients that still wait.
    pub fn accept(&mut self) -> Result<(), Misuse> {
        self.answer(None)
    }

    /// Answer the open decision with this reply. In LMTP, for all recipients that still wait.
    pub fn reply(&mut self, reply: &Reply) -> Result<(), Misuse> {
        self.answer(Some(reply))
    }

    /// Answer for the next recipients, in the order of their RCPT (RFC 2033 4.2). The decision is closed when
    /// each has its reply.
    pub fn reply_recipients(&mut self, replies: &[Reply]) -> Result<(), Misuse> {
        if !self.settings().lmtp {
            return Err(Misuse::NotLmtp);
        }
        let State::Deciding(Decision::Message { transaction, answered }) = &self.state else {
            return Err(Misuse::NoDecision);
        };
        let expected = transaction.envelope.recipients.len() - answered;
        if !self.events.is_empty() {
            return Err(Misuse::NoDecision);
        }
        if replies.len() > expected {
            return Err(Misuse::TooManyReplies { expected, given: replies.len() });
        }
        if let Some(wrong) = replies.iter().find(|reply| reply.code() / 100 == 3) {
            return Err(Misuse::WrongClass { expected: "2yz, 4yz or 5yz", code: wrong.code() });
        }
        for reply in replies {
            self.say_reply(reply);
            self.count_message(reply.code() < 300);
        }
        if replies.len() == expected {
            self.state = State::Idle;
        } else if let State::Deciding(Decision::Message { answered, .. }) = &mut self.state {
            *answered += replies.len();
        }
        self.settle();
        Ok(())
    }

    /// Answer AUTH with a challenge, which goes out in base64 (RFC 4954 4). An empty one asks for the first response of a
    /// mechanism in which the client speaks first.
    pub fn challenge(&mut self, octets: &[u8]) -> Result<(), Misuse> {
        self.expect_auth()?;
        self.say("334 ");
        base64::encode_into(octets, &mut self.output);
        self.say("\r\n");
        self.state = State::Authenticating;
        self.settle();
        Ok(())
    }

    /// Answer AUTH with yes: the client is `identity` from now on (RFC 4954 4: 235).
    pub fn accept_identity(&mut self, identity: &str) -> Result<(), Misuse> {
        self.expect_auth()?;
        self.learnt.identity = Some(identity.into());
        self.say(AUTHENTICATED);
        self.state = State::Idle;
        self.settle();
        Ok(())
    }

    fn expect_auth(&self) -> Result<(), Misuse> {
        match &self.state {
            State::Deciding(_) if !self.events.is_empty() => Err(Misuse::NoDecision),
            State::Deciding(Decision::Auth) => Ok(()),
            State::Deciding(_) => Err(Misuse::NotAuth),
            _ => Err(Misuse::NoDecision),
        }
    }

    // ---- TLS ----

    /// The handshake is done: the session starts anew (RFC 3207 4.2), or begins (RFC 8314 3.3). What is known of the
    /// client from before is void; limits, counters and the PROXY header stay.
    ///
    /// What came in the clear and was not taken by [`take_tls_input`](Self::take_tls_input) has no effect: by the
    /// configuration it is forgotten, or ends the session.
    pub fn tls_established(&mut self, facts: TlsFacts) -> Result<(), Misuse> {
        let purpose = self.leave_handshake()?;
        self.tls = Some(facts);
        if self.drop_injected() {
            self.state = match purpose {
                Purpose::Implicit => self.begin_greeting(),
                Purpose::StartTls => State::Idle,
            };
        }
        self.settle();
        Ok(())
    }

    /// The handshake is done, but policy wants better TLS: the client hears of it, and may QUIT (RFC 3207 4.1).
    pub fn tls_too_weak(&mut self) -> Result<(), Misuse> {
        let purpose = self.leave_handshake()?;
        self.tls = Some(TlsFacts::default());
        if self.drop_injected() {
            if purpose == Purpose::Implicit {
                self.say_closing("554", "This TLS is too weak");
            }
            self.state = State::Refused(TLS_TOO_WEAK);
        }
        self.settle();
        Ok(())
    }

    /// The handshake failed: nothing more is said, least of all in the clear.
    pub fn tls_failed(&mut self) -> Result<(), Misuse> {
        if !matches!(self.state, State::Handshake(_)) {
            return Err(Misuse::NoHandshake);
        }
        self.finish(DisconnectReason::Tls);
        Ok(())
    }

    /// Whether the session waits for the TLS handshake: send the output, then begin it.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Octets that came and belong to the handshake: those behind a PROXY header (PROXY protocol 2). Empty when no
    /// handshake is on its way.
    pub fn take_tls_input(&mut self) -> Vec<u8> {
        if !self.is_handshaking() {
            return Vec::new();
        }
        let octets = self.input.split_off(self.head);
        self.release_input();
        octets
    }

    fn leave_handshake(&mut self) -> Result<Purpose, Misuse> {
        let State::Handshake(purpose) = self.state else { return Err(Misuse::NoHandshake) };
        if !self.output.is_empty() {
            return Err(Misuse::UnsentOutput);
        }
        self.learnt = Learnt::default();
        Ok(purpose)
    }

    /// Forget what came in the clear (S-TLS-04). `false` if that ends the session.
    fn drop_injected(&mut self) -> bool {
        let injected = self.buffered() > 0;
        self.head = self.input.len();
        self.release_input();
        self.scanner = LineScanner::default();
        let refuse = injected && self.settings().injected_input == InjectedInput::Refuse;
        if refuse {
            self.say(INJECTED);
            self.ending = Some(DisconnectReason::Injection);
        }
        !refuse
    }

    // ---- what is known of the client ----

    /// Whether TLS is active.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whom the client has authenticated as (RFC 4954 4), or as whom XCLIENT's LOGIN has.
    pub fn identity(&self) -> Option<&str> {
        self.learnt.identity.as_deref()
    }

    /// AUTH commands that the program answered with 5yz.
    pub fn auth_failures(&self) -> u64 {
        self.counts.auth_failures
    }

    /// What the PROXY header said. It outlives STARTTLS and XCLIENT.
    pub fn proxy(&self) -> Option<&Arc<ProxyHeader>> {
        self.proxy.as_ref()
    }

    /// What XCLIENT said, all commands together.
    pub fn xclient(&self) -> Option<&Arc<Attributes>> {
        self.learnt.xclient.as_ref()
    }

    /// What XFORWARD said of the present transaction, or of the next one when none is open.
    pub fn xforward(&self) -> Option<&Arc<Attributes>> {
        match self.transaction() {
            Some(transaction) => transaction.xforward.as_ref(),
            None => self.learnt.xforward.as_ref(),
        }
    }

    /// The client's address and port, as XCLIENT has them, or else the PROXY header. `None`: the transport knows.
    pub fn client_address(&self) -> Option<(IpAddr, Option<u16>)> {
        let told = self.learnt.xclient.as_ref().and_then(|told| Some((told.addr()?, told.port())));
        told.or_else(|| self.proxy.as_ref()?.source().map(|source| (source.ip(), Some(source.port()))))
    }

    /// Whether the client may use XCLIENT and XFORWARD.
    pub fn is_trusted(&self) -> bool {
        self.learnt.trusted.unwrap_or(self.trusted)
    }

    /// Say whether the client may use XCLIENT and XFORWARD: at the start, and again when XCLIENT gave another address.
    pub fn set_trusted(&mut self, trusted: bool) {
        match &mut self.learnt.trusted {
            Some(of_xclient) => *of_xclient = trusted,
            None => self.trusted = trusted,
        }
    }

    // ---- content ----

    /// Refuse content that is still coming: it is read to its true end and thrown away, then this is answered.
    pub fn refuse_content(&mut self, reply: Reply) -> Result<(), Misuse> {
        if !matches!(reply.code(), 400..=599) {
            return Err(Misuse::WrongClass { expected: "4yz or 5yz", code: reply.code() });
        }
        let (State::InData { incoming, .. } | State::InChunk { incoming, .. } | State::NextChunk { incoming, .. }) =
            &mut self.state
        else {
            return Err(Misuse::NoContent);
        };
        if incoming.refusal.is_none() {
            incoming.refusal = Some(Refusal::Program(reply));
            incoming.content = C::default();
            incoming.announced = false;
        }
        Ok(())
    }

    /// Say 421 and end: at once when no transaction is open, else when it ends (RFC 5321 3.8).
    pub fn shutdown(&mut self, reply: Option<Reply>) -> Result<(), Misuse> {
        if reply.as_ref().is_some_and(|reply| reply.code() != 421) {
            return Err(Misuse::ShutdownCode);
        }
        match self.state {
            State::Closed => return Ok(()),
            State::Proxy => {
                self.finish(DisconnectReason::Shutdown); // Nothing is said before the header (S-PXY-01).
                return Ok(());
            }
            _ => {}
        }
        self.leaving = Some(match reply {
            Some(reply) => reply,
            None => {
                let text = format!("{} Service shutting down", self.settings().hostname);
                match Reply::new(421, Some(EnhancedCode::new(4, 3, 2)), &text) {
                    Ok(reply) => reply,
                    Err(_) => return Err(Misuse::ShutdownCode),
                }
            }
        });
        self.settle();
        Ok(())
    }

    // ---- output ----

    /// Octets to send now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Forget the output: it was sent.
    pub fn clear_output(&mut self) {
        if self.output.capacity() > KEEP_CAPACITY {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
    }

    // ---- what can be asked ----

    /// How long to wait for the peer now; `None` while the program decides (S-SES-41) and at the end.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state {
            State::Closed | State::Deciding(_) => None,
            State::InData { .. } | State::InChunk { .. } | State::Draining { .. } => {
                Some(self.settings().timers.content)
            }
            State::Handshake(_) => Some(self.settings().timers.handshake),
            State::Proxy => Some(self.settings().timers.proxy),
            State::Authenticating
            | State::Failed { .. }
            | State::Idle
            | State::InTransaction(_)
            | State::NextChunk { .. }
            | State::Refused(_) => Some(self.settings().timers.command),
        }
    }

    /// Whether the session waits for the program.
    pub fn decision_open(&self) -> bool {
        matches!(self.state, State::Deciding(_))
    }

    /// Whether the session is over: send the output, then close.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether MAIL was accepted and its transaction has not ended.
    pub fn in_transaction(&self) -> bool {
        self.transaction().is_some() || matches!(self.state, State::Failed { .. })
    }

    /// Whether content is being read.
    pub fn in_content(&self) -> bool {
        matches!(self.state, State::InData { .. } | State::InChunk { .. } | State::Draining { .. })
    }

    /// Octets of the present content that have come (RFC 1870 5); of a refused chunk, those that were thrown away.
    pub fn content_octets(&self) -> u64 {
        match &self.state {
            State::InData { decoder, .. } => decoder.octets(),
            State::InChunk { reader, .. } | State::NextChunk { reader, .. } => reader.octets(),
            State::Draining { chunk, .. } => chunk.taken(),
            _ => 0,
        }
    }

    /// Octets received and not yet judged.
    pub fn buffered(&self) -> usize {
        self.input.len() - self.head
    }

    /// The last accepted EHLO, HELO or LHLO, and the client's name in it.
    pub fn hello(&self) -> Option<(Verb, &str)> {
        self.learnt.hello.as_ref().map(|(verb, name)| (*verb, &**name))
    }

    /// The `with` keyword of a Received field (RFC 3848 1, RFC 6531 4.3).
    pub fn protocol(&self) -> &'static str {
        let utf8 = self.transaction().is_some_and(|transaction| transaction.envelope.smtputf8());
        let words = match (self.settings().lmtp, utf8, &self.learnt.hello) {
            (true, false, _) => ["LMTP", "LMTPS", "LMTPA", "LMTPSA"],
            (true, true, _) => ["UTF8LMTP", "UTF8LMTPS", "UTF8LMTPA", "UTF8LMTPSA"],
            (false, true, _) => ["UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"],
            (false, false, Some((Verb::Ehlo, _))) => ["ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"],
            (false, false, _) => ["SMTP"; 4],
        };
        words[usize::from(self.is_tls()) + 2 * usize::from(self.learnt.identity.is_some())]
    }

    /// Messages accepted; in LMTP, deliveries accepted.
    pub fn messages(&self) -> u64 {
        self.counts.messages
    }

    /// Commands answered as wrong.
    pub fn errors(&self) -> u64 {
        self.counts.errors
    }

    /// Commands received.
    pub fn commands(&self) -> u64 {
        self.counts.commands
    }

    fn settings(&self) -> &ServerSettings {
        self.config.settings()
    }

    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Deciding(
                Decision::Content { transaction, .. }
                | Decision::Message { transaction, .. }
                | Decision::Rcpt { transaction, .. },
            )
            | State::InTransaction(transaction) => Some(transaction),
            State::InChunk { incoming, .. } | State::InData { incoming, .. } | State::NextChunk { incoming, .. } => {
                Some(&incoming.transaction)
            }
            _ => None,
        }
    }

    // ---- the engine room: octets ----

    fn advance_buffered(&mut self) {
        let input = mem::take(&mut self.input);
        let used = self.advance(&input[self.head..]);
        // A session that closed meanwhile has given up its input.
        if !matches!(self.state, State::Closed) {
            self.head += used;
            self.input = input;
            if self.head == self.input.len() {
                self.release_input();
            }
        }
        if self.eof && self.events.is_empty() && !matches!(self.state, State::Closed | State::Deciding(_)) {
            self.finish(DisconnectReason::Eof);
        }
    }

    fn release_input(&mut self) {
        self.head = 0;
        if self.input.capacity() > KEEP_CAPACITY {
            self.input = Vec::new();
        } else {
            self.input.clear();
        }
    }

    /// Work on `input` until it is used up, an event is there or a decision is open. Gives the octets used.
    fn advance(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while self.events.is_empty() {
            let rest = &input[used..];
            match mem::replace(&mut self.state, State::Closed) {
                state @ (State::Closed | State::Deciding(_) | State::Handshake(_)) => {
                    self.state = state;
                    break;
                }
                State::InData { incoming, decoder } => {
                    if rest.is_empty() {
                        self.state = State::InData { incoming, decoder };
                        break;
                    }
                    used += self.read_data(incoming, decoder, rest);
                }
                State::InChunk { incoming, reader, mut chunk, last } => {
                    let octets = chunk.take(rest);
                    if octets.is_empty() && !chunk.done() {
                        self.state = State::InChunk { incoming, reader, chunk, last };
                        break;
                    }
                    used += octets.len();
                    self.read_chunk(incoming, reader, chunk, last, octets);
                }
                State::Draining { mut chunk, answer, then } => {
                    let octets = chunk.take(rest).len();
                    if octets == 0 && !chunk.done() {
                        self.state = State::Draining { chunk, answer, then };
                        break;
                    }
                    used += octets;
                    if chunk.done() {
                        self.state = *then;
                        self.say_answer(&answer);
                    } else {
                        self.state = State::Draining { chunk, answer, then };
                    }
                }
                State::Proxy => match ProxyHeader::parse(rest) {
                    Ok(Some((header, length))) => {
                        used += length;
                        let header = Arc::new(header);
                        self.proxy = Some(Arc::clone(&header));
                        self.events.push_back(Event::Proxy(header));
                        self.state = State::Deciding(Decision::Proxy);
                    }
                    Ok(None) => {
                        self.state = State::Proxy;
                        break;
                    }
                    // Never guess: closed, and nothing said (S-PXY-01).
                    Err(_) => {
                        self.ending = Some(DisconnectReason::Protocol);
                        self.state = State::Proxy;
                    }
                },
                State::Authenticating => {
                    self.state = State::Authenticating;
                    let limit = self.config.settings().limits.auth_response.saturating_add(2);
                    match self.scanner.scan(rest, limit, self.config.line_ends()) {
                        Scan::Line { line, consumed } => {
                            used += consumed;
                            self.state = self.on_response(line);
                        }
                        Scan::TooLong { consumed } => {
                            used += consumed;
                            self.state = State::Idle;
                            self.wrong(RESPONSE_TOO_LONG);
                        }
                        Scan::Partial { discard } => {
                            used += discard;
                            break;
                        }
                    }
                }
                state => {
                    self.state = state;
                    if self.looks_like_tls(rest) {
                        self.turn_away();
                        self.settle();
                        break;
                    }
                    match self.scanner.scan(rest, self.config.settings().limits.command_line, self.config.line_ends()) {
                        Scan::Line { line, consumed } => {
                            used += consumed;
                            self.on_line(line);
                        }
                        Scan::TooLong { consumed } => {
                            used += consumed;
                            self.counts.commands += 1;
                            self.wrong(LINE_TOO_LONG);
                        }
                        Scan::Partial { discard } => {
                            used += discard;
                            break;
                        }
                    }
                }
            }
            self.settle();
        }
        used
    }

    /// End the session if the last step asked for it.
    fn settle(&mut self) {
        if let Some(reason) = self.ending.take() {
            self.finish(reason);
        } else if matches!(self.state, State::Authenticating | State::Idle | State::Refused(_))
            && let Some(reply) = self.leaving.take()
        {
            self.say_reply(&reply);
            self.ending = None;
            self.finish(DisconnectReason::Shutdown);
        }
    }

    fn finish(&mut self, reason: DisconnectReason) {
        if let State::InData { mut incoming, .. }
        | State::InChunk { mut incoming, .. }
        | State::NextChunk { mut incoming, .. } = mem::replace(&mut self.state, State::Closed)
        {
            self.abort(&mut incoming, Abort::Disconnected);
        }
        self.events.push_back(Event::Disconnect(reason));
        self.input = Vec::new();
        self.head = 0;
    }

    // ---- the engine room: content ----

    fn read_data(&mut self, mut incoming: Box<Incoming<C>>, mut decoder: DotDecoder, octets: &[u8]) -> usize {
        // Up to the octet that passes the size limit and no further, so that what is found first is found first in
        // any split, and no more than the limit is ever kept.
        let limit = self.settings().max_message_size.filter(|limit| decoder.octets() <= *limit);
        let room = limit.map_or(u64::MAX, |limit| limit - decoder.octets() + 1);
        let octets = &octets[..usize::try_from(room).map_or(octets.len(), |room| room.min(octets.len()))];
        let keep = incoming.refusal.is_none() && self.settings().content != ContentMode::Discard;
        let Decoded { consumed, done } =
            if keep { decoder.decode(octets, &mut incoming.content) } else { decoder.decode(octets, &mut Discard) };
        if self.settings().bare_newlines == BareNewlines::Reject && decoder.flags().bare() {
            self.refuse(&mut incoming, Refusal::BareNewline);
        }
        self.judge_size(&mut incoming, decoder.octets());
        if incoming.refusal.is_some() && !done && decoder.octets() > self.config.cut_off() {
            self.say(TOO_BIG);
            self.ending = Some(DisconnectReason::Limit);
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

    fn read_chunk(
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
                    self.say(OK);
                    State::NextChunk { incoming, reader }
                }
            },
        };
    }

    fn begin_content(&mut self, transaction: Box<Transaction>, framing: Framing) -> State<C> {
        let announced = self.settings().content == ContentMode::Stream;
        if announced {
            self.events.push_back(Event::ContentStart(transaction.envelope.clone()));
        }
        let policy = if transaction.is_binary() { BareNewlines::Allow } else { self.settings().bdat_bare_newlines };
        let incoming = Box::new(Incoming { transaction, content: C::default(), refusal: None, announced });
        match framing {
            Framing::Data => {
                self.say(START_CONTENT);
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

    fn refuse(&mut self, incoming: &mut Incoming<C>, refusal: Refusal) {
        self.abort(incoming, refusal.abort());
        // Too big is said even where a fault was found before: it fails a chunk at once, the others at the end only.
        if incoming.refusal.is_none()
            || matches!((&incoming.refusal, &refusal), (Some(Refusal::BareNewline), Refusal::TooBig))
        {
            incoming.refusal = Some(refusal);
            incoming.content = C::default();
        }
    }

    fn abort(&mut self, incoming: &mut Incoming<C>, why: Abort) {
        if mem::take(&mut incoming.announced) {
            self.events.push_back(Event::ContentAborted(why));
        }
    }

    fn hand_over(&mut self, incoming: &mut Incoming<C>) {
        if self.settings().content == ContentMode::Stream && !incoming.content.is_empty() {
            self.events.push_back(Event::Chunk(mem::take(&mut incoming.content)));
        }
    }

    fn end_of_content(&mut self, mut incoming: Box<Incoming<C>>, size: u64, flags: ContentFlags) -> State<C> {
        if let Some(refusal) = self.judge_content(&incoming.transaction, flags) {
            self.refuse(&mut incoming, refusal);
        }
        let Incoming { transaction, content, refusal, .. } = *incoming;
        let replies = self.replies_due(&transaction);
        if let Some(refusal) = refusal {
            for _ in 0..replies {
                self.say_refusal(&refusal);
            }
            return State::Idle;
        }
        if self.settings().decisions.message {
            self.events.push_back(Event::Message { envelope: transaction.envelope.clone(), content, size, flags });
            return State::Deciding(Decision::Message { transaction, answered: 0 });
        }
        for _ in 0..replies {
            self.say(OK);
            self.count_message(true);
        }
        State::Idle
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
    fn replies_due(&self, transaction: &Transaction) -> usize {
        if self.settings().lmtp { transaction.envelope.recipients.len() } else { 1 }
    }

    // ---- the engine room: commands ----

    fn on_line(&mut self, line: &[u8]) {
        self.counts.commands += 1;
        if self.settings().limits.commands.is_some_and(|limit| self.counts.commands > u64::from(limit)) {
            self.say_closing("421 4.7.0", "Too many commands");
            self.ending = Some(DisconnectReason::Limit);
            return;
        }
        let basic = matches!(self.learnt.hello, Some((Verb::Helo, _)));
        match parse_command(line, self.config.options(!basic, self.tls.is_some())) {
            Ok(command) => {
                let state = mem::replace(&mut self.state, State::Closed);
                self.state = self.on_command(state, command);
            }
            Err(error) => self.on_bad_command(&error),
        }
    }

    /// The state machine: what each command does in each state.
    fn on_command(&mut self, state: State<C>, command: Command<'_>) -> State<C> {
        let lmtp = self.settings().lmtp;
        if let Some(answer) = self.barred(&state, command.verb()) {
            return match command {
                Command::Bdat { size, last } => self.fail_chunk(state, size, last, Answer::Canned(answer)),
                _ => self.wrong_in(answer, state),
            };
        }
        match (state, command) {
            (_, Command::Quit) => self.on_quit(),

            (state, Command::Ehlo(_) | Command::Helo(_)) if lmtp => self.wrong_in(USE_LHLO, state),
            (state, Command::Lhlo(_)) if !lmtp => self.wrong_in(NOT_LMTP, state),
            (state, Command::Ehlo(hello)) => self.on_hello(state, Verb::Ehlo, hello.name.into_owned()),
            (state, Command::Helo(hello)) => self.on_hello(state, Verb::Helo, hello.name.into_owned()),
            (state, Command::Lhlo(hello)) => self.on_hello(state, Verb::Lhlo, hello.name.into_owned()),

            (State::Idle, Command::Mail { .. }) if self.learnt.hello.is_none() => {
                self.wrong_in(HELLO_FIRST, State::Idle)
            }
            (State::Idle, Command::Mail { path, parameters }) => self.on_mail(path, parameters),
            (state, Command::Mail { .. }) => self.wrong_in(ALREADY_MAIL, state),

            (State::InTransaction(transaction), Command::Rcpt { path, parameters }) => {
                self.on_rcpt(transaction, path, parameters)
            }
            (State::Idle, Command::Rcpt { .. }) => self.wrong_in(NEED_MAIL, State::Idle),
            (state, Command::Rcpt { .. }) => self.wrong_in(out_of_turn(&state), state),

            (State::InTransaction(transaction), Command::Data) => self.on_data(transaction),
            (State::Idle, Command::Data) => self.wrong_in(NEED_MAIL, State::Idle),
            (state, Command::Data) => self.wrong_in(out_of_turn(&state), state),

            (state, Command::Bdat { size, last }) => self.on_bdat(state, size, last),

            (state, Command::Rset) => {
                self.learnt.xforward = None;
                self.drop_transaction(state);
                self.answer_junk(OK);
                State::Idle
            }
            (state, Command::Noop(_)) => {
                self.answer_junk(OK);
                state
            }
            (state, Command::Help(_)) if self.settings().help => {
                self.count_junk();
                self.say_help();
                state
            }
            (state, Command::Vrfy { argument, .. }) => {
                let ask = self.settings().decisions.vrfy;
                self.on_inquiry(state, ask, NOT_VERIFIED, || Event::Vrfy(argument.into_owned()))
            }
            (state, Command::Expn { argument, .. }) if self.settings().decisions.expn => {
                self.on_inquiry(state, true, NOT_VERIFIED, || Event::Expn(argument.into_owned()))
            }
            (State::Idle, Command::Etrn(argument)) if self.settings().decisions.etrn => {
                self.on_inquiry(State::Idle, true, OK, || Event::Etrn(argument.into_owned()))
            }
            (state, Command::Etrn(_)) if self.settings().decisions.etrn => self.wrong_in(IN_TRANSACTION, state),
            (state, Command::StartTls) if self.implements(Verb::StartTls) => self.on_starttls(state),
            (state, Command::Auth { mechanism, initial }) if self.implements(Verb::Auth) => {
                self.on_auth(state, &mechanism, initial.as_ref())
            }
            (state, Command::Xclient(pairs)) if self.implements(Verb::Xclient) => {
                self.on_xclient(state, Attributes::from_pairs(&pairs))
            }
            (state, Command::Xforward(pairs)) if self.implements(Verb::Xforward) => {
                self.on_xforward(state, Attributes::from_pairs(&pairs))
            }
            (state, Command::Unknown { verb, .. }) => {
                if is_http(&verb) {
                    self.turn_away();
                } else {
                    self.wrong(UNKNOWN_COMMAND);
                }
                state
            }
            (
                state,
                Command::Atrn(_)
                | Command::Auth { .. }
                | Command::Burl { .. }
                | Command::Etrn(_)
                | Command::Expn { .. }
                | Command::Help(_)
                | Command::Obsolete(_)
                | Command::StartTls
                | Command::Xclient(_)
                | Command::Xforward(_),
            ) => self.wrong_in(NOT_IMPLEMENTED, state),
        }
    }

    fn on_bad_command(&mut self, error: &CommandError) {
        let settings = self.settings();
        let barred = self.barred(&self.state, error.verb);
        match (error.verb, &error.kind, barred) {
            (Some(Verb::Bdat), CommandErrorKind::BdatSize, _) => {
                // The octets that follow cannot be told from commands any more (S-BDT-07).
                self.say(BAD_CHUNK_SIZE);
                self.ending = Some(DisconnectReason::Protocol);
            }
            (Some(Verb::Bdat), CommandErrorKind::BdatTrailing { size, last }, barred) => {
                let (size, last) = (*size, *last);
                let answer = Answer::Canned(match (barred, settings.chunking) {
                    (Some(answer), _) => answer,
                    (None, true) => "501 5.5.4 BDAT takes a size and LAST\r\n",
                    (None, false) => NOT_IMPLEMENTED,
                });
                let state = mem::replace(&mut self.state, State::Closed);
                self.state = self.fail_chunk(state, size, last, answer);
            }
            (_, _, Some(answer)) => self.wrong(answer),
            (Some(Verb::Ehlo | Verb::Helo), ..) if settings.lmtp => self.wrong(USE_LHLO),
            (Some(Verb::Lhlo), ..) if !settings.lmtp => self.wrong(NOT_LMTP),
            (Some(verb), ..) if !self.implements(verb) => self.wrong(NOT_IMPLEMENTED),
            (Some(Verb::Xclient | Verb::Xforward), ..) if !self.is_trusted() => self.wrong(NOT_TRUSTED),
            _ => {
                let (code, enhanced, text) = error.reply();
                self.wrong(&format!("{code} {enhanced} {text}\r\n"));
            }
        }
    }

    fn implements(&self, verb: Verb) -> bool {
        let settings = self.settings();
        match verb {
            Verb::Bdat => settings.chunking,
            Verb::Etrn => settings.decisions.etrn,
            Verb::Expn => settings.decisions.expn,
            Verb::Help => settings.help,
            Verb::StartTls => settings.tls == TlsMode::StartTls || self.is_tls(),
            Verb::Auth => !settings.auth.is_empty(),
            Verb::Xclient => !settings.xclient.is_empty(),
            Verb::Xforward => !settings.xforward.is_empty(),
            Verb::Ehlo
            | Verb::Helo
            | Verb::Lhlo
            | Verb::Mail
            | Verb::Rcpt
            | Verb::Data
            | Verb::Rset
            | Verb::Noop
            | Verb::Quit
            | Verb::Vrfy => true,
            _ => false,
        }
    }

    /// Why nothing but a few commands may be used now, if so (RFC 3207 4, RFC 4954 6, RFC 5321 3.1).
    fn barred(&self, state: &State<C>, verb: Option<Verb>) -> Option<&'static str> {
        let settings = self.settings();
        match (state, verb) {
            (_, Some(Verb::Quit)) => None,
            (State::Refused(why), _) => Some(why),
            (_, None | Some(Verb::Ehlo | Verb::Lhlo | Verb::Noop | Verb::StartTls)) => None,
            _ if settings.require_tls && self.tls.is_none() => Some(NEED_TLS),
            _ if !settings.require_auth && !settings.submission => None,
            (_, Some(Verb::Auth | Verb::Helo | Verb::Rset)) => None,
            // A proxy that is trusted says by it who has authenticated.
            (_, Some(Verb::Xclient)) if self.is_trusted() => None,
            _ => self.learnt.identity.is_none().then_some(NEED_AUTH),
        }
    }

    /// Why a command that EHLO has to come before cannot be had in this state, if so.
    fn needs_ehlo(&self, state: &State<C>) -> Option<&'static str> {
        match (state, &self.learnt.hello) {
            (_, None) => Some(HELLO_FIRST),
            (_, Some((Verb::Helo, _))) => Some(AFTER_HELO),
            (State::Idle, _) => None,
            _ => Some(IN_TRANSACTION),
        }
    }

    fn on_starttls(&mut self, state: State<C>) -> State<C> {
        if self.is_tls() {
            return self.wrong_in(IN_TLS, state); // S-TLS-07
        }
        if let Some(answer) = self.needs_ehlo(&state) {
            return self.wrong_in(answer, state);
        }
        self.events.push_back(Event::StartTls);
        State::Deciding(Decision::StartTls)
    }

    fn on_auth(&mut self, state: State<C>, mechanism: &str, initial: Option<&Secret<'_>>) -> State<C> {
        if self.learnt.identity.is_some() {
            return self.wrong_in(IN_AUTH, state); // S-AUT-03
        }
        if let Some(answer) = self.needs_ehlo(&state) {
            return self.wrong_in(answer, state);
        }
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.config.offers_mechanism(&mechanism, self.tls) {
            let known = self.settings().auth.contains(&mechanism);
            let needs_tls = known && self.tls.is_none() && self.settings().tls != TlsMode::Off;
            return self.wrong_in(if needs_tls { MECHANISM_NEEDS_TLS } else { UNKNOWN_MECHANISM }, state);
        }
        let initial = match initial {
            None => None,
            Some(_) if SERVER_FIRST.contains(&mechanism.as_str()) => return self.wrong_in(NO_INITIAL, state),
            Some(octets) if **octets == *b"=" => Some(Vec::new()), // S-AUT-08
            Some(octets) => match base64::decode(octets) {
                Ok(octets) => Some(octets),
                Err(_) => return self.wrong_in(NOT_BASE64, state),
            },
        };
        self.events.push_back(Event::Auth { mechanism, initial: initial.map(|octets| Secret(octets.into())) });
        State::Deciding(Decision::Auth)
    }

    /// A line inside AUTH (RFC 4954 4).
    fn on_response(&mut self, line: &[u8]) -> State<C> {
        if line == b"*" {
            return self.wrong_in(CANCELLED, State::Idle);
        }
        match base64::decode(line) {
            Ok(octets) => {
                self.events.push_back(Event::AuthResponse(Secret(octets.into())));
                State::Deciding(Decision::Auth)
            }
            Err(_) => self.wrong_in(NOT_BASE64, State::Idle),
        }
    }

    fn on_xclient(&mut self, state: State<C>, said: Attributes) -> State<C> {
        if let Some(answer) = self.refuses_attributes(&state, &said, &self.settings().xclient) {
            return self.wrong_in(answer, state);
        }
        let trusted = if said.get(AttributeName::Addr).is_some() { Some(false) } else { self.learnt.trusted };
        let attributes = updated(self.learnt.xclient.take(), said);
        let identity = attributes.text(AttributeName::Login).map(Box::from);
        let attributes = Arc::new(attributes);
        self.learnt = Learnt { identity, xclient: Some(Arc::clone(&attributes)), trusted, ..Learnt::default() };
        self.events.push_back(Event::Xclient(attributes));
        self.begin_greeting()
    }

    fn on_xforward(&mut self, state: State<C>, said: Attributes) -> State<C> {
        if let Some(answer) = self.refuses_attributes(&state, &said, &self.settings().xforward) {
            return self.wrong_in(answer, state);
        }
        self.learnt.xforward = Some(Arc::new(updated(self.learnt.xforward.take(), said)));
        self.say(OK);
        state
    }

    /// Why XCLIENT or XFORWARD is not taken, if so.
    fn refuses_attributes(
        &self,
        state: &State<C>,
        said: &Attributes,
        offered: &[AttributeName],
    ) -> Option<&'static str> {
        if !self.is_trusted() {
            Some(NOT_TRUSTED)
        } else if !matches!(state, State::Idle) {
            Some(IN_TRANSACTION)
        } else if !said.iter().all(|(name, _)| offered.contains(&name)) {
            Some(NOT_OFFERED_ATTRIBUTE)
        } else {
            None
        }
    }

    fn on_quit(&mut self) -> State<C> {
        self.say(BYE);
        self.ending = Some(DisconnectReason::Quit);
        State::Idle
    }

    fn on_hello(&mut self, before: State<C>, verb: Verb, name: String) -> State<C> {
        if self.learnt.hello.is_some() {
            self.count_junk();
        }
        if self.settings().decisions.hello {
            self.events.push_back(Event::Hello { verb, name: name.clone() });
            return State::Deciding(Decision::Hello { verb, name, before: Box::new(before) });
        }
        self.hello_accepted(before, verb, name)
    }

    fn hello_accepted(&mut self, before: State<C>, verb: Verb, name: String) -> State<C> {
        self.drop_transaction(before);
        let trusted = self.is_trusted();
        let Self { config, output, tls, .. } = self;
        let hostname = config.settings().hostname.as_str();
        if verb == Verb::Helo {
            push(output, &["250 ", hostname, "\r\n"]);
        } else {
            let mut lines = std::iter::once(hostname).chain(config.keywords(*tls, trusted)).peekable();
            while let Some(line) = lines.next() {
                push(output, &[if lines.peek().is_some() { "250-" } else { "250 " }, line, "\r\n"]);
            }
        }
        self.learnt.hello = Some((verb, name.into()));
        self.learnt.xforward = None;
        State::Idle
    }

    /// What RSET does (RFC 5321 4.1.1.5), without its reply.
    fn drop_transaction(&mut self, state: State<C>) {
        match state {
            State::NextChunk { mut incoming, .. } => self.abort(&mut incoming, Abort::Reset),
            State::InTransaction(_) | State::Failed { .. } => {}
            _ => return,
        }
        if self.settings().decisions.reset {
            self.events.push_back(Event::Reset);
        }
    }

    fn on_mail(&mut self, path: ReversePath<'_>, parameters: MailParameters<'_>) -> State<C> {
        let settings = self.settings();
        if settings.limits.messages.is_some_and(|limit| self.counts.transactions >= u64::from(limit)) {
            self.say_closing("421 4.7.0", "Too many messages in one session");
            self.ending = Some(DisconnectReason::Limit);
            return State::Idle;
        }
        if let (Some(limit), Some(size)) = (settings.max_message_size, parameters.size)
            && size > limit
        {
            self.say(TOO_BIG);
            return State::Idle;
        }
        if let ReversePath::Address(address) = &path
            && !self.is_qualified(address.domain())
        {
            return self.wrong_in(SINGLE_LABEL_SENDER, State::Idle);
        }
        if let (Some(Some(minimum)), Some(by)) = (settings.deliver_by, &parameters.by)
            && by.mode == ByMode::Return
            && i64::from(by.seconds) < i64::from(minimum)
        {
            return self.wrong_in(BY_TOO_SOON, State::Idle);
        }
        if let (Some(limits), Some(hold)) = (&settings.future_release, &parameters.hold) {
            let too_long = match hold {
                Hold::For(seconds) => *seconds > limits.max_seconds,
                Hold::Until(until) => until.unix_seconds() > limits.max_until.unix_seconds(),
            };
            if too_long {
                return self.wrong_in(BAD_HOLD, State::Idle);
            }
        }
        let sender = Arc::new(Sender { path: path.into_owned(), parameters: parameters.into_owned() });
        if self.settings().decisions.mail {
            self.events.push_back(Event::Mail(Arc::clone(&sender)));
            return State::Deciding(Decision::Mail(sender));
        }
        self.say(SENDER_OK);
        self.mail_accepted(sender)
    }

    fn mail_accepted(&mut self, sender: Arc<Sender>) -> State<C> {
        self.counts.transactions += 1;
        // XFORWARD's data end with the transaction, as they live in it (S-PXY-19).
        State::InTransaction(Box::new(Transaction::new(sender, self.learnt.xforward.take())))
    }

    /// Submission takes fully qualified domains, address literals, and the single labels it is told of (RFC 6409 4.2).
    fn is_qualified(&self, domain: &str) -> bool {
        let settings = self.settings();
        !settings.submission
            || domain.contains('.')
            || domain.starts_with('[')
            || settings.single_labels.iter().any(|label| label.eq_ignore_ascii_case(domain))
    }

    fn on_rcpt(
        &mut self,
        mut transaction: Box<Transaction>,
        path: ForwardPath<'_>,
        parameters: RcptParameters<'_>,
    ) -> State<C> {
        if let ForwardPath::Address(address) = &path
            && !address.is_ascii()
            && !transaction.envelope.smtputf8()
        {
            return self.wrong_in(UTF8_RECIPIENT, State::InTransaction(transaction));
        }
        if let ForwardPath::Address(address) = &path
            && !self.is_qualified(address.domain())
        {
            return self.wrong_in(SINGLE_LABEL_RECIPIENT, State::InTransaction(transaction));
        }
        if transaction.envelope.recipients.len() >= self.settings().limits.recipients {
            self.say(TOO_MANY_RECIPIENTS);
            return State::InTransaction(transaction);
        }
        let recipient = Arc::new(Recipient { path: path.into_owned(), parameters: parameters.into_owned() });
        transaction.rcpt_seen = true;
        if self.settings().decisions.rcpt {
            self.events.push_back(Event::Rcpt(Arc::clone(&recipient)));
            return State::Deciding(Decision::Rcpt { transaction, recipient });
        }
        transaction.envelope.recipients.push(recipient);
        self.say(RECIPIENT_OK);
        State::InTransaction(transaction)
    }

    /// Why content cannot follow, if so (RFC 5321 3.3, RFC 2033 4.2).
    fn no_recipients(&self, transaction: &Transaction) -> Option<&'static str> {
        match (transaction.envelope.recipients.is_empty(), transaction.rcpt_seen, self.settings().lmtp) {
            (false, ..) => None,
            (true, true, false) => Some(NO_VALID_RECIPIENTS),
            (true, true, true) | (true, false, _) => Some(NEED_RCPT),
        }
    }

    fn on_data(&mut self, transaction: Box<Transaction>) -> State<C> {
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
            return self.begin_content(transaction, framing);
        }
        let verb = if matches!(framing, Framing::Data) { Verb::Data } else { Verb::Bdat };
        self.events.push_back(Event::Data { envelope: transaction.envelope.clone(), verb });
        State::Deciding(Decision::Content { transaction, framing })
    }

    /// Nobody reads so much to say no (S-BDT-15).
    fn is_cut_off(&mut self, size: u64) -> bool {
        let over = size > self.config.cut_off();
        if over {
            self.say(TOO_BIG);
            self.ending = Some(DisconnectReason::Limit);
        }
        over
    }

    fn on_bdat(&mut self, state: State<C>, size: u64, last: bool) -> State<C> {
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

    /// Read a refused chunk to its last octet, then answer (S-BDT-05). In a transaction it has failed for good.
    fn fail_chunk(&mut self, state: State<C>, size: u64, last: bool, answer: Answer) -> State<C> {
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

    fn on_inquiry(
        &mut self,
        state: State<C>,
        ask: bool,
        default: &'static str,
        event: impl FnOnce() -> Event<C>,
    ) -> State<C> {
        if !ask {
            self.answer_junk(default);
            return state;
        }
        self.count_junk();
        self.events.push_back(event());
        State::Deciding(Decision::Inquiry { default, before: Box::new(state) })
    }

    // ---- the engine room: decisions ----

    fn answer(&mut self, reply: Option<&Reply>) -> Result<(), Misuse> {
        if !self.events.is_empty() {
            return Err(Misuse::NoDecision);
        }
        let State::Deciding(decision) = &self.state else { return Err(Misuse::NoDecision) };
        if matches!(decision, Decision::Auth) && reply.is_none() {
            return Err(Misuse::NeedsIdentity);
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
                return Err(Misuse::WrongClass { expected, code });
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
                self.ending = Some(DisconnectReason::Program);
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
                if yes { self.mail_accepted(sender) } else { State::Idle }
            }
            (Decision::Rcpt { mut transaction, recipient }, reply) => {
                if yes {
                    transaction.envelope.recipients.push(recipient);
                    self.say_or(RECIPIENT_OK, reply);
                } else {
                    self.say_or(RECIPIENT_OK, reply);
                    self.counts.refused_recipients += 1;
                    let limit = self.settings().limits.refused_recipients;
                    if limit.is_some_and(|limit| self.counts.refused_recipients > u64::from(limit)) {
                        self.say_closing("421 4.7.0", "Too many refused recipients");
                        self.ending = Some(DisconnectReason::Limit);
                    }
                }
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing }, _) if yes => self.begin_content(transaction, framing),
            (Decision::Content { transaction, framing: Framing::Data }, reply) => {
                self.say_or(OK, reply);
                State::InTransaction(transaction)
            }
            (Decision::Content { transaction, framing: Framing::Bdat { size, last } }, reply) => {
                let answer = reply.map_or(Answer::Silence, |reply| Answer::Program(reply.clone()));
                self.fail_chunk(State::InTransaction(transaction), size, last, answer)
            }
            (Decision::Message { transaction, answered }, reply) => {
                for _ in answered..self.replies_due(&transaction) {
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

    /// The program's no to AUTH. One too many ends the session (RFC 4954 4).
    fn auth_refused(&mut self, reply: &Reply) {
        self.say_reply(reply);
        if reply.code() < 500 {
            return;
        }
        self.counts.auth_failures += 1;
        let limit = self.settings().limits.auth_failures;
        if limit.is_some_and(|limit| self.counts.auth_failures >= u64::from(limit)) && self.ending.is_none() {
            self.say_closing("421 4.7.0", "Too many failed authentications");
            self.ending = Some(DisconnectReason::Limit);
        }
    }

    // ---- words ----

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
    }

    /// A reply that closes begins with our name (RFC 5321 4.2: 421, 221).
    fn say_closing(&mut self, status: &str, text: &str) {
        let Self { config, output, .. } = self;
        push(output, &[status, " ", &config.settings().hostname, " ", text, "\r\n"]);
    }

    fn say_or(&mut self, default: &'static str, reply: Option<&Reply>) {
        match reply {
            Some(reply) => self.say_reply(reply),
            None => self.say(default),
        }
    }

    /// The program's reply, with the enhanced code that RFC 2034 4 asks for.
    fn say_reply(&mut self, reply: &Reply) {
        reply.clone().or_generic_enhanced().write(&mut self.output);
        self.close_after(reply);
    }

    /// A reply to the connection or to EHLO: no enhanced code there (RFC 2034 4).
    fn say_plain(&mut self, reply: &Reply) {
        reply.clone().without_enhanced().write(&mut self.output);
        self.close_after(reply);
    }

    /// 421 and 221 close, wherever they came from (S-SES-32).
    fn close_after(&mut self, reply: &Reply) {
        if matches!(reply.code(), 221 | 421) {
            self.ending = Some(DisconnectReason::Program);
        }
    }

    fn say_refusal(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::BareNewline => self.say(BARE_NEWLINE),
            Refusal::EightBit => self.say(UNDECLARED_8BIT),
            Refusal::LongLine => self.say(LONG_LINE),
            Refusal::Nul => self.say(NUL_OCTET),
            Refusal::Program(reply) => self.say_reply(reply),
            Refusal::TooBig => self.say(TOO_BIG),
        }
    }

    fn say_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Canned(line) => self.wrong(line),
            Answer::Program(reply) => self.say_reply(reply),
            Answer::Repeated(line, times) => (0..*times).for_each(|_| self.say(line)),
            Answer::Silence => {}
        }
    }

    fn greet(&mut self) {
        let Self { config, output, .. } = self;
        let settings = config.settings();
        let text = match (settings.greeting.as_str(), settings.lmtp) {
            ("", true) => "LMTP",
            ("", false) => "ESMTP",
            (text, _) => text,
        };
        push(output, &["220 ", &settings.hostname, " ", text, "\r\n"]);
    }

    fn say_help(&mut self) {
        let settings = self.settings();
        let mut text = String::from(if settings.lmtp { "214 2.0.0 LHLO" } else { "214 2.0.0 EHLO HELO" });
        text.push_str(" MAIL RCPT DATA RSET NOOP QUIT VRFY HELP");
        for (offered, verb) in [
            (settings.chunking, " BDAT"),
            (settings.decisions.expn, " EXPN"),
            (settings.decisions.etrn, " ETRN"),
            (settings.tls == TlsMode::StartTls && !self.is_tls(), " STARTTLS"),
            (!settings.auth.is_empty(), " AUTH"),
        ] {
            if offered {
                text.push_str(verb);
            }
        }
        text.push_str("\r\n");
        self.say(&text);
    }

    /// HTTP or TLS on this port: nobody there speaks SMTP (B-OTH-07).
    fn turn_away(&mut self) {
        self.say_closing("421 4.7.0", "This port speaks SMTP");
        self.ending = Some(DisconnectReason::Protocol);
    }

    fn looks_like_tls(&self, rest: &[u8]) -> bool {
        self.counts.commands == 0 && rest.starts_with(&[0x16, 0x03])
    }

    // ---- counts ----

    /// Answer a command that was wrong; at one too many, with 421 (S-SES-42).
    fn wrong(&mut self, line: &str) {
        if self.count_error() {
            self.say(line);
        }
    }

    fn wrong_in(&mut self, line: &str, state: State<C>) -> State<C> {
        self.wrong(line);
        state
    }

    fn count_error(&mut self) -> bool {
        self.counts.errors += 1;
        let over = self.settings().limits.errors.is_some_and(|limit| self.counts.errors > u64::from(limit));
        if over && self.ending.is_none() {
            self.say_closing("421 4.7.0", "Too many errors");
            self.ending = Some(DisconnectReason::Limit);
        }
        !over
    }

    fn answer_junk(&mut self, line: &str) {
        if self.count_junk() {
            self.say(line);
        }
    }

    fn count_junk(&mut self) -> bool {
        self.counts.junk += 1;
        let over = self.settings().limits.junk.is_some_and(|limit| self.counts.junk > u64::from(limit));
        !over || self.count_error()
    }

    fn count_message(&mut self, accepted: bool) {
        if accepted {
            self.counts.messages += 1;
            self.counts.junk = 0;
        }
    }
}

impl<C: Content> fmt::Debug for ServerConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Authenticating => "Authenticating",
            State::Closed => "Closed",
            State::Deciding(_) => "Deciding",
            State::Draining { .. } => "Draining",
            State::Failed { .. } => "Failed",
            State::Handshake(_) => "Handshake",
            State::Idle => "Idle",
            State::InChunk { .. } => "InChunk",
            State::InData { .. } => "InData",
            State::InTransaction(_) => "InTransaction",
            State::NextChunk { .. } => "NextChunk",
            State::Proxy => "Proxy",
            State::Refused(_) => "Refused",
        };
        f.debug_struct("ServerConnection")
            .field("state", &state)
            .field("hello", &self.learnt.hello)
            .finish_non_exhaustive()
    }
}

fn drain<C>(size: u64, answer: Answer, then: State<C>) -> State<C> {
    State::Draining { chunk: BdatChunk::new(size), answer, then: Box::new(then) }
}

/// What XCLIENT or XFORWARD said before, with what it says now.
fn updated(known: Option<Arc<Attributes>>, said: Attributes) -> Attributes {
    let mut all = known.map(Arc::unwrap_or_clone).unwrap_or_default();
    all.update(said);
    all
}

fn out_of_turn<C>(state: &State<C>) -> &'static str {
    if matches!(state, State::Failed { .. }) { CHUNK_FAILED } else { CHUNKS_BEGUN }
}

fn is_http(verb: &[u8]) -> bool {
    [&b"GET"[..], b"POST", b"HEAD", b"CONNECT"].contains(&verb)
}

fn push(output: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        output.extend_from_slice(part.as_bytes());
    }
}
