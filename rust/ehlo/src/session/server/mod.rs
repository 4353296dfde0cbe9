//! The server's side of a session: RFC 5321, 1870, 2033, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531, 9422.
//!
//! Two rules hold in this folder:
//!
//! 1. Every decision about an answer is taken here. The grammar is not here.
//! 2. This folder does not know how octets come and go, what time it is, or who the program is.
//!
//! | file | job |
//! |---|---|
//! | `mod.rs` | the face of a connection: input, answers, output, questions |
//! | `input.rs` | octets become lines, chunks and content |
//! | `commands.rs` | what a command does in a state |
//! | `decisions.rs` | what an answer of the program does |
//! | `content.rs` | content by DATA and by BDAT |
//! | `state.rs`, `transaction.rs` | the state of a session, and the open transaction |
//! | `refused.rs` | counts and events of refusals |
//! | `replies.rs` | the table of our own replies |
//! | `saying.rs` | replies go out, and are counted where too many end a session |
//! | `settings.rs`, `config.rs` | settings as they are given, and as they were checked |
//! | `event.rs`, `misuse.rs` | events, errors of the program |

mod commands;
pub mod config;
mod content;
mod decisions;
pub mod event;
mod input;
mod misuse;
mod refused;
mod replies;
mod saying;
pub mod settings;
mod state;
#[cfg(test)]
mod table;
mod transaction;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::config::{ServerConfig, ServerConfigError};
pub use self::content::Content;
use self::decisions::Spoken;
pub use self::event::{Abort, ServerDisconnect, ServerEvent};
pub use self::misuse::ServerMisuse;
pub use self::refused::RefusalCounts;
use self::refused::Refused;
pub use self::replies::TextError;
use self::replies::{AUTHENTICATED, INJECTED, SHUTDOWN, TIMEOUT, TIMEOUT_BARE_LF, TLS_TOO_WEAK};
pub use self::settings::{ContentMode, Decisions, FutureRelease, InjectedInput, ServerSettings, TlsFacts, TlsMode};
use self::state::{Counts, Decision, Learnt, Purpose, Refusal, State};
use self::transaction::Transaction;
use crate::session::envelope::Envelope;
use crate::syntax::command::Verb;
use crate::syntax::reply::Reply;
use crate::syntax::xattr::Attributes;
use crate::wire::base64;
use crate::wire::line::LineScanner;
use crate::wire::proxy::ProxyHeader;

/// A buffer larger than this is given back when it is empty, so that an idle session holds little.
const KEEP_CAPACITY: usize = 4096;

/// Octets kept for the TLS layer until it takes them: more than a ClientHello with what comes behind it in one read.
const MAX_TLS_INPUT: usize = 64 * 1024;

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
/// use ehlo::session::{ServerEvent, ServerConfig, ServerConnection, ServerSettings};
///
/// let config = ServerConfig::new(ServerSettings { hostname: "mx.example".into(), ..Default::default() })?;
/// let mut conn: ServerConnection = ServerConnection::new(Arc::new(config));
/// conn.receive(b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n");
/// while let Some(event) = conn.poll_event() {
///     if let ServerEvent::Message { content, .. } = event {
///         assert_eq!(content, b"hi\r\n");
///         conn.accept().unwrap();
///     }
/// }
/// assert!(conn.output().ends_with(b"354 End data with <CRLF>.<CRLF>\r\n250 2.0.0 OK\r\n"));
/// # Ok::<(), ehlo::session::ServerConfigError>(())
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
    events: VecDeque<ServerEvent<C>>,
    /// Set while a command is worked on; the session ends when it is done.
    ending: Option<ServerDisconnect>,
    /// The 421 that waits for the transaction to end.
    leaving: Option<Reply>,
    eof: bool,
    counts: Counts,
    /// The PROXY header as it came.
    proxy_octets: Vec<u8>,
    /// While a command is worked on whose refusal the program wants to be asked about.
    refusing: bool,
    /// The engine's reply to the command that is worked on, if it is refused and the program is to be asked.
    refusal: Option<Reply>,
    refused: Refused,
    /// The transaction that the next refusal is about, where the state has it no more.
    about: Option<Envelope>,
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
            proxy_octets: Vec::new(),
            refusing: false,
            refusal: None,
            refused: Refused::default(),
            about: None,
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
            self.events.push_back(ServerEvent::Connect);
            return State::Deciding(Decision::Connect);
        }
        self.greet();
        State::Idle
    }

    // ---- input ----

    /// Take octets from the peer. What cannot be judged yet is kept.
    pub fn receive(&mut self, octets: &[u8]) {
        if matches!(self.state, State::Closed) {
            return; // Input behind the end is ignored (S-LIN-25).
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
            self.finish(ServerDisconnect::Protocol);
        }
    }

    /// The peer sends no more. Commands that it sent before are still answered. Half a line is dropped (S-LIN-24).
    pub fn receive_eof(&mut self) {
        self.eof = true;
    }

    /// The peer was silent for [`timeout`](Self::timeout): 421 and the end (RFC 5321 4.5.3.2.7).
    pub fn receive_timeout(&mut self) {
        if self.timeout().is_none() {
            return;
        }
        if matches!(self.state, State::Handshake(_) | State::Proxy) {
            self.finish(ServerDisconnect::Timeout); // Nothing is said in the clear before TLS, nor before the header.
            return;
        }
        self.write_canned(if self.scanner.bare_lf_pending() { TIMEOUT_BARE_LF } else { TIMEOUT });
        self.finish(ServerDisconnect::Timeout);
    }

    // ---- events and answers ----

    /// The next thing that happened; `None` when input is used up or a decision is open.
    pub fn poll_event(&mut self) -> Option<ServerEvent<C>> {
        if self.events.is_empty() {
            self.advance_buffered();
        }
        self.events.pop_front()
    }

    /// Answer the open decision with yes, in the engine's words. In LMTP, for all recipients that still wait.
    pub fn accept(&mut self) -> Result<(), ServerMisuse> {
        self.settle_decision(Spoken::Nothing)
    }

    /// Answer the open decision with this reply. In LMTP, for all recipients that still wait.
    pub fn reply(&mut self, reply: &Reply) -> Result<(), ServerMisuse> {
        self.settle_decision(Spoken::Reply(reply))
    }

    /// The program has answered the open decision itself: what it said goes out as it is, and `accepted` decides. This is for
    /// a program that stands in for another server, reply for reply. Octets that do not end a line are refused.
    pub fn answer_raw(&mut self, octets: &[u8], accepted: bool) -> Result<(), ServerMisuse> {
        if !octets.is_empty() && !octets.ends_with(b"\r\n") {
            return Err(ServerMisuse::NotALine);
        }
        self.settle_decision(Spoken::Raw { octets, accepted })
    }

    /// Answer for the next recipients, in the order of their RCPT (RFC 2033 4.2). The decision is closed when
    /// each has its reply.
    pub fn reply_recipients(&mut self, replies: &[Reply]) -> Result<(), ServerMisuse> {
        if !self.settings().lmtp {
            return Err(ServerMisuse::NotLmtp);
        }
        let State::Deciding(Decision::Message { transaction, answered }) = &self.state else {
            return Err(ServerMisuse::NoDecision);
        };
        let expected = transaction.envelope.recipients.len() - answered;
        if self.is_asking() {
            return Err(ServerMisuse::NoDecision);
        }
        if replies.len() > expected {
            return Err(ServerMisuse::TooManyReplies { expected, given: replies.len() });
        }
        if let Some(wrong) = replies.iter().find(|reply| reply.code() / 100 == 3) {
            return Err(ServerMisuse::WrongClass { expected: "2yz, 4yz or 5yz", code: wrong.code() });
        }
        let first = *answered;
        let told = self.settings().decisions.refused.then(|| transaction.envelope.clone());
        for (reply, index) in replies.iter().zip(first..) {
            self.about = told.as_ref().map(|envelope| Envelope {
                sender: Arc::clone(&envelope.sender),
                recipients: vec![Arc::clone(&envelope.recipients[index])],
            });
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
    pub fn challenge(&mut self, octets: &[u8]) -> Result<(), ServerMisuse> {
        self.expect_auth()?;
        self.say("334 ");
        base64::encode_into(octets, &mut self.output);
        self.say("\r\n");
        self.state = State::Authenticating;
        self.settle();
        Ok(())
    }

    /// Answer AUTH with yes: the client is `identity` from now on (RFC 4954 4: 235).
    pub fn accept_identity(&mut self, identity: &str) -> Result<(), ServerMisuse> {
        self.identified(identity, None)
    }

    /// The same with a reply of the program's own, which has code 235.
    pub fn accept_identity_with(&mut self, identity: &str, reply: &Reply) -> Result<(), ServerMisuse> {
        self.identified(identity, Some(reply))
    }

    fn identified(&mut self, identity: &str, reply: Option<&Reply>) -> Result<(), ServerMisuse> {
        self.expect_auth()?;
        if let Some(code) = reply.map(Reply::code).filter(|code| *code != 235) {
            return Err(ServerMisuse::WrongClass { expected: "235", code });
        }
        self.learnt.identity = Some(identity.into());
        match reply {
            Some(reply) => self.say_reply(reply),
            None => self.say_canned(AUTHENTICATED),
        }
        self.state = State::Idle;
        self.settle();
        Ok(())
    }

    fn expect_auth(&self) -> Result<(), ServerMisuse> {
        match &self.state {
            State::Deciding(_) if self.is_asking() => Err(ServerMisuse::NoDecision),
            State::Deciding(Decision::Auth) => Ok(()),
            State::Deciding(_) => Err(ServerMisuse::NotAuth),
            _ => Err(ServerMisuse::NoDecision),
        }
    }

    // ---- TLS ----

    /// The handshake is done: the session starts anew (RFC 3207 4.2), or begins (RFC 8314 3.3). What is known of the
    /// client from before is void; limits, counters and the PROXY header stay.
    ///
    /// What came in the clear and was not taken by [`take_tls_input`](Self::take_tls_input) has no effect: by the
    /// configuration it is forgotten, or ends the session.
    pub fn tls_established(&mut self, facts: TlsFacts) -> Result<(), ServerMisuse> {
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
    pub fn tls_too_weak(&mut self) -> Result<(), ServerMisuse> {
        let purpose = self.leave_handshake()?;
        self.tls = Some(TlsFacts::default());
        if self.drop_injected() {
            if purpose == Purpose::Implicit {
                let line = format!("554 {} This TLS is too weak\r\n", self.settings().hostname);
                self.say(&line);
            }
            self.state = State::Refused(TLS_TOO_WEAK);
        }
        self.settle();
        Ok(())
    }

    /// The handshake failed: nothing more is said, least of all in the clear.
    pub fn tls_failed(&mut self) -> Result<(), ServerMisuse> {
        if !matches!(self.state, State::Handshake(_)) {
            return Err(ServerMisuse::NoHandshake);
        }
        self.finish(ServerDisconnect::Tls);
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

    fn leave_handshake(&mut self) -> Result<Purpose, ServerMisuse> {
        let State::Handshake(purpose) = self.state else { return Err(ServerMisuse::NoHandshake) };
        if !self.output.is_empty() {
            return Err(ServerMisuse::UnsentOutput);
        }
        self.learnt = Learnt::default();
        Ok(purpose)
    }

    /// Drop octets that came in the clear behind STARTTLS (S-TLS-04). False if they end the session.
    fn drop_injected(&mut self) -> bool {
        let injected = self.buffered() > 0;
        self.head = self.input.len();
        self.release_input();
        self.scanner = LineScanner::default();
        let refuse = injected && self.settings().injected_input == InjectedInput::Refuse;
        if refuse {
            self.say_canned(INJECTED);
            self.ending = Some(ServerDisconnect::Injection);
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

    /// The octets of the PROXY header as they came, or of what came in its place; empty at first.
    pub fn proxy_octets(&self) -> &[u8] {
        &self.proxy_octets
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
    pub fn refuse_content(&mut self, reply: Reply) -> Result<(), ServerMisuse> {
        if !matches!(reply.code(), 400..=599) {
            return Err(ServerMisuse::WrongClass { expected: "4yz or 5yz", code: reply.code() });
        }
        let (State::InData { incoming, .. } | State::InChunk { incoming, .. } | State::NextChunk { incoming, .. }) =
            &mut self.state
        else {
            return Err(ServerMisuse::NoContent);
        };
        if incoming.refusal.is_none() {
            incoming.refusal = Some(Refusal::Program(reply));
            incoming.content = C::default();
            incoming.announced = false;
        }
        Ok(())
    }

    /// Say 421 and end: at once when no transaction is open, else when it ends (RFC 5321 3.8).
    pub fn shutdown(&mut self, reply: Option<Reply>) -> Result<(), ServerMisuse> {
        if reply.as_ref().is_some_and(|reply| reply.code() != 421) {
            return Err(ServerMisuse::ShutdownCode);
        }
        match self.state {
            State::Closed => return Ok(()),
            State::Proxy => {
                self.finish(ServerDisconnect::Shutdown); // Nothing is said before the header (S-PXY-01).
                return Ok(());
            }
            _ => {}
        }
        self.leaving = Some(match reply {
            Some(reply) => reply,
            None => match self.config.replies.reply(SHUTDOWN) {
                Ok(reply) => reply,
                Err(_) => return Err(ServerMisuse::ShutdownCode),
            },
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

    /// Take octets of the output back that could not be sent. They go out before all other output.
    ///
    /// ```
    /// # use ehlo::session::{ServerConfig, ServerConnection, ServerSettings};
    /// # let config = ServerConfig::new(ServerSettings { hostname: "mx.example".into(), ..Default::default() }).unwrap();
    /// let mut conn: ServerConnection = ServerConnection::new(config.into());
    /// conn.clear_output(); // the system took the greeting, and no more of what followed
    /// conn.receive(b"NOOP\r\n");
    /// conn.take_back(b"of the last reply\r\n");
    /// assert_eq!(conn.output(), b"of the last reply\r\n250 2.0.0 OK\r\n");
    /// ```
    pub fn take_back(&mut self, octets: &[u8]) {
        self.output.splice(..0, octets.iter().copied());
    }

    // ---- what can be asked ----

    /// How long to wait for the peer now; `None` while the program decides (S-SES-41) and at the end.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state {
            State::Closed | State::Deciding(_) => None,
            State::InData { .. } | State::InChunk { .. } | State::Draining { .. } => {
                Some(self.settings().content_timeout)
            }
            State::Handshake(_) => Some(self.settings().handshake_timeout),
            State::Proxy => Some(self.settings().proxy_timeout),
            State::Authenticating
            | State::Failed { .. }
            | State::Idle
            | State::InTransaction(_)
            | State::NextChunk { .. }
            | State::Refused(_) => Some(self.settings().command_timeout),
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
        // While the program is asked about a command, the state before it counts.
        let state = match &self.state {
            State::Deciding(
                Decision::Command { before, .. } | Decision::Inquiry { before, .. } | Decision::Refusal { before, .. },
            ) => before,
            state => state,
        };
        match state {
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
