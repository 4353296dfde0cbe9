//! One session of a server.

use std::sync::Arc;

use ehlo::session::{self, TlsFacts};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};

use crate::buffer::{ReceiveBuffer, lend};
use crate::content::Collected;
use crate::convert::verb_name;
use crate::error::misuse;
use crate::exchange::Side;
use crate::server::config::ServerConfig;
use crate::server::event::to_python;
use crate::values::front::{ClientAttributes, ProxyHeader};
use crate::values::reply::{self, Reply};

/// The server's side of one SMTP or LMTP session, without I/O (RFC 5321, 2033).
///
/// - Input: `receive_data` or `receive_from`, `receive_eof`, `receive_timeout`. They never raise for what a peer sent.
/// - Events: iterate, or `next_event`. It ends when input is used up or a decision is open.
/// - Answers to the one open decision: `accept`, `reply`, `send_reply`, `reply_recipients`; to AUTH `challenge`,
///   `accept_identity`.
/// - Output: `data_to_send`.
/// - TLS: when `handshaking`, send the output, do the handshake, then `tls_established` or `tls_failed`.
///
/// At each wake-up in this order: input, events with their answers, output. When `closed`, send what is left and
/// close the transport. Two threads that use one connection at once get a RuntimeError.
///
/// Example:
///     >>> conn = ehlo.ServerConnection(ehlo.ServerConfig("mx.example"))
///     >>> conn.receive_data(b"NOOP\r\n"); list(conn); conn.data_to_send()
#[pyclass(module = "ehlo", weakref)]
pub(crate) struct ServerConnection {
    inner: session::ServerConnection<Collected>,
    config: Py<ServerConfig>,
    /// What an exchange has taken out of the engine, and the program has not seen.
    event: Option<Py<PyAny>>,
    held: bool,
    octets_exchanged: u64,
    exchanged_at: f64,
}

impl Side for ServerConnection {
    /// Not before the program has seen the last event.
    fn is_open_to_exchange(&self) -> bool {
        self.event.is_none() && !self.held && !self.inner.is_tls() && !self.inner.is_handshaking()
    }

    fn exchange(&mut self, py: Python<'_>, octets: &[u8], now: f64, output: &mut Vec<u8>) -> PyResult<bool> {
        if !self.inner.is_closed() {
            self.octets_exchanged += octets.len() as u64;
            self.exchanged_at = now;
        }
        self.inner.receive(octets);
        if let Some(event) = self.inner.poll_event() {
            // For whoever of the program asks first: it may be in the midst of something else.
            self.event = Some(to_python(py, event)?.unbind());
            return Ok(false);
        }
        output.extend_from_slice(self.inner.output());
        self.inner.clear_output();
        Ok(true)
    }

    fn take_back(&mut self, octets: &[u8]) {
        self.inner.take_back(octets);
    }
}

#[pymethods]
impl ServerConnection {
    #[new]
    fn new(config: Bound<'_, ServerConfig>) -> Self {
        Self {
            inner: session::ServerConnection::new(Arc::clone(&config.get().inner)),
            config: config.unbind(),
            event: None,
            held: false,
            octets_exchanged: 0,
            exchanged_at: 0.0,
        }
    }

    // ---- input ----

    /// Octets came: `bytes`, `bytearray`, `memoryview` or any other contiguous buffer.
    fn receive_data(&mut self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        lend(data, |octets| self.inner.receive(octets))
    }

    /// The first `count` octets of `buffer` came. The buffer may be used again when this returns.
    ///
    /// Raises:
    ///     ValueError: if the buffer has fewer.
    fn receive_from(&mut self, buffer: &Bound<'_, ReceiveBuffer>, count: usize) -> PyResult<()> {
        buffer.get().with(count, |octets| self.inner.receive(octets))
    }

    /// The client closed its side.
    fn receive_eof(&mut self) {
        self.inner.receive_eof();
    }

    /// `timeout` seconds went by without input: says 421 and ends (RFC 5321 4.5.3.2).
    fn receive_timeout(&mut self) {
        self.inner.receive_timeout();
    }

    // ---- events and answers ----

    /// The next event; None when input is used up or a decision is open.
    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(event) = self.event.take() {
            return Ok(Some(event.into_bound(py)));
        }
        self.inner.poll_event().map(|event| to_python(py, event)).transpose()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.next_event(py)
    }

    /// Answer the open decision with yes, in the engine's words. In LMTP, for all recipients that still wait.
    ///
    /// Raises:
    ///     LocalProtocolError: if no decision is open, or it is AUTH, which needs an identity.
    fn accept(&mut self) -> PyResult<()> {
        self.inner.accept().map_err(misuse)
    }

    /// Answer the open decision with this reply; its class decides. In LMTP, for all recipients that still wait. A
    /// 421 or 221 ends the session.
    ///
    /// Args:
    ///     code, enhanced, text: as for `Reply`.
    ///
    /// Raises:
    ///     LocalProtocolError: if no decision is open, or the reply does not answer it.
    #[pyo3(signature = (code, enhanced = None, text = None), text_signature = "($self, code, enhanced=None, text='')")]
    fn reply(&mut self, code: i64, enhanced: Option<&str>, text: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.inner.reply(&reply::make(code, enhanced, text)?).map_err(misuse)
    }

    /// `reply` with a `Reply` made before.
    ///
    /// Raises:
    ///     LocalProtocolError: as `reply` does.
    fn send_reply(&mut self, reply: &Bound<'_, Reply>) -> PyResult<()> {
        self.inner.reply(&reply.get().0).map_err(misuse)
    }

    /// The program has answered the open decision in its own octets, which go out as they are. For a program that
    /// stands in for another server, reply for reply: no code is checked, and no enhanced code is added.
    ///
    /// Args:
    ///     octets: whole reply lines with their CRLF, or b"" where the program has sent them already.
    ///     accepted: whether it is a yes. AUTH is accepted by `accept_identity` only.
    ///
    /// Raises:
    ///     LocalProtocolError: if no decision is open, or the octets do not end a line.
    ///
    /// Example:
    ///     >>> conn.answer_raw(b"250 fine\r\n", accepted=True)
    #[pyo3(signature = (octets, *, accepted))]
    fn answer_raw(&mut self, octets: &Bound<'_, PyAny>, accepted: bool) -> PyResult<()> {
        lend(octets, |octets| self.inner.answer_raw(octets, accepted))?.map_err(misuse)
    }

    /// LMTP: the next recipients' replies, in the order of their RCPT (RFC 2033 4.2). To be called until each has
    /// one.
    ///
    /// Raises:
    ///     LocalProtocolError: without LMTP, without an open "message" decision, or for too many replies.
    fn reply_recipients(&mut self, replies: Vec<Py<Reply>>) -> PyResult<()> {
        let replies: Vec<_> = replies.iter().map(|reply| reply.get().0.clone()).collect();
        self.inner.reply_recipients(&replies).map_err(misuse)
    }

    /// Refuse content that is still coming. It is read to its true end and thrown away, then this is answered.
    ///
    /// Raises:
    ///     LocalProtocolError: if no content is coming, or the reply is not 4yz or 5yz.
    fn refuse_content(&mut self, reply: &Bound<'_, Reply>) -> PyResult<()> {
        self.inner.refuse_content(reply.get().0.clone()).map_err(misuse)
    }

    /// Say 421 and end: at once when no transaction is open, else when it ends (RFC 5321 3.8).
    ///
    /// Args:
    ///     reply: another 421 than the engine's own.
    ///
    /// Raises:
    ///     LocalProtocolError: if the reply is no 421.
    #[pyo3(signature = (reply = None))]
    fn shutdown(&mut self, reply: Option<&Bound<'_, Reply>>) -> PyResult<()> {
        self.inner.shutdown(reply.map(|reply| reply.get().0.clone())).map_err(misuse)
    }

    /// Answer AUTH with a challenge, which goes out in base64 (RFC 4954 4).
    ///
    /// Args:
    ///     octets: the challenge. An empty one asks for the first response where the client speaks first.
    ///
    /// Raises:
    ///     LocalProtocolError: if no AUTH is open.
    ///
    /// Example:
    ///     >>> conn.challenge(b"Username:"); conn.data_to_send()
    ///     b'334 VXNlcm5hbWU6\r\n'
    fn challenge(&mut self, octets: &Bound<'_, PyAny>) -> PyResult<()> {
        lend(octets, |octets| self.inner.challenge(octets))?.map_err(misuse)
    }

    /// Answer AUTH with yes: 235 (RFC 4954 4). `identity` is whom the client is from now on.
    ///
    /// Args:
    ///     identity: the name.
    ///     reply: another 235 than the engine's own.
    ///
    /// Raises:
    ///     LocalProtocolError: if no AUTH is open, or the reply is no 235.
    ///
    /// Example:
    ///     >>> conn.accept_identity("jane"); conn.identity
    ///     'jane'
    #[pyo3(signature = (identity, reply = None))]
    fn accept_identity(&mut self, identity: &str, reply: Option<&Bound<'_, Reply>>) -> PyResult<()> {
        match reply {
            Some(reply) => self.inner.accept_identity_with(identity, &reply.get().0),
            None => self.inner.accept_identity(identity),
        }
        .map_err(misuse)
    }

    // ---- TLS ----

    /// The handshake is done: the session starts anew (RFC 3207 4.2), or begins with its greeting (RFC 8314 3.3).
    ///
    /// Args:
    ///     too_weak: policy wants better TLS: everything but QUIT is answered 554 (RFC 3207 4.1).
    ///     channel_binding: it can be had, so that mechanisms in -PLUS are offered (RFC 5929).
    ///     client_certificate: the client has one that was verified, so that EXTERNAL is offered (RFC 4422 A).
    ///
    /// Raises:
    ///     LocalProtocolError: if no handshake is awaited, or output from before it was not sent.
    ///
    /// Example:
    ///     >>> await transport.start_tls(); conn.tls_established()
    ///     >>> conn.handshaking, conn.tls
    ///     (False, True)
    #[pyo3(signature = (*, too_weak = false, channel_binding = false, client_certificate = false))]
    fn tls_established(&mut self, too_weak: bool, channel_binding: bool, client_certificate: bool) -> PyResult<()> {
        if too_weak {
            return self.inner.tls_too_weak().map_err(misuse);
        }
        self.inner.tls_established(TlsFacts { channel_binding, client_certificate }).map_err(misuse)
    }

    /// The handshake failed: the session is over, and nothing more is said.
    ///
    /// Raises:
    ///     LocalProtocolError: if no handshake is awaited.
    fn tls_failed(&mut self) -> PyResult<()> {
        self.inner.tls_failed().map_err(misuse)
    }

    /// Octets that came behind a PROXY header and belong to the handshake (PROXY protocol 2); b"" if none did, or no
    /// handshake is awaited. They are handed over once.
    fn take_tls_input<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.take_tls_input())
    }

    /// Whether the session waits for the TLS handshake: send the output, then begin it.
    #[getter]
    fn handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    /// Whether TLS is active.
    #[getter]
    fn tls(&self) -> bool {
        self.inner.is_tls()
    }

    // ---- the client ----

    /// Whom the client has authenticated as (RFC 4954), or as whom XCLIENT's LOGIN has; None if nobody.
    #[getter]
    fn identity(&self) -> Option<&str> {
        self.inner.identity()
    }

    /// AUTH commands that the program answered with 5yz.
    #[getter]
    fn auth_failures(&self) -> u64 {
        self.inner.auth_failures()
    }

    /// Whether the client may use XCLIENT and XFORWARD; False at first. To be set by the client's address, and
    /// again when XCLIENT gave another one.
    #[getter]
    fn trusted(&self) -> bool {
        self.inner.is_trusted()
    }

    #[setter]
    fn set_trusted(&mut self, trusted: bool) {
        self.inner.set_trusted(trusted);
    }

    /// What the PROXY header said; None without one.
    #[getter]
    fn proxy(&self) -> Option<ProxyHeader> {
        self.inner.proxy().map(|header| ProxyHeader(Arc::clone(header)))
    }

    /// The PROXY header as it came, or what came in its place; b"" at first.
    #[getter]
    fn proxy_octets<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.inner.proxy_octets())
    }

    /// What XCLIENT said; None without it.
    #[getter]
    fn xclient(&self) -> Option<ClientAttributes> {
        self.inner.xclient().map(|attributes| ClientAttributes(Arc::clone(attributes)))
    }

    /// What XFORWARD said of the present transaction, or of the next; None without it.
    #[getter]
    fn xforward(&self) -> Option<ClientAttributes> {
        self.inner.xforward().map(|attributes| ClientAttributes(Arc::clone(attributes)))
    }

    /// Address and port of the client by XCLIENT, or else by the PROXY header; None if only the transport knows.
    #[getter]
    fn client_address(&self) -> Option<(String, Option<u16>)> {
        self.inner.client_address().map(|(address, port)| (address.to_string(), port))
    }

    // ---- output ----

    /// Octets to send now, b"" if there are none. They are handed over once.
    fn data_to_send<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let octets = PyBytes::new(py, self.inner.output());
        self.inner.clear_output();
        octets
    }

    // ---- by an exchange ----

    /// Whether an `Exchange` leaves this connection to the program; False at first. To be set while the program is
    /// not done with an event, since the next event would come before its turn.
    #[getter]
    fn held(&self) -> bool {
        self.held
    }

    #[setter]
    fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Octets that an `Exchange` has read for it before the session was over.
    #[getter]
    fn octets_exchanged(&self) -> u64 {
        self.octets_exchanged
    }

    /// When an `Exchange` read for it last, in seconds of the program's clock; 0.0 if none did.
    #[getter]
    fn exchanged_at(&self) -> f64 {
        self.exchanged_at
    }

    // ---- what can be asked ----

    /// What it was made with.
    #[getter]
    fn config(&self) -> &Py<ServerConfig> {
        &self.config
    }

    /// Seconds to wait for the peer now; None while the program decides and at the end (RFC 5321 4.5.3.2).
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.inner.timeout().map(|wait| wait.as_secs_f64())
    }

    /// Whether the session waits for an answer of the program.
    #[getter]
    fn decision_open(&self) -> bool {
        self.inner.decision_open()
    }

    /// Whether nothing more is to come: send what is left, then close.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Whether MAIL was accepted and its transaction has not ended (RFC 5321 3.3).
    #[getter]
    fn in_transaction(&self) -> bool {
        self.inner.in_transaction()
    }

    /// Whether content is being read: behind the 354 of DATA, or inside a chunk of BDAT.
    #[getter]
    fn in_content(&self) -> bool {
        self.inner.in_content()
    }

    /// Octets of the present message's content that have come.
    #[getter]
    fn content_octets(&self) -> u64 {
        self.inner.content_octets()
    }

    /// Octets received and not yet judged.
    #[getter]
    fn buffered(&self) -> usize {
        self.inner.buffered()
    }

    /// Verb and name of the last accepted EHLO, HELO or LHLO.
    #[getter]
    fn hello<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyString>, &str)> {
        self.inner.hello().map(|(verb, name)| (verb_name(py, verb), name))
    }

    /// The `with` keyword of a Received field (RFC 3848 1, RFC 6531 4.3): SMTP, ESMTP, LMTP, UTF8SMTP, UTF8LMTP,
    /// each but the first with S for TLS and A for AUTH behind it.
    #[getter]
    fn protocol(&self) -> &'static str {
        self.inner.protocol()
    }

    /// Messages accepted in this session; in LMTP, deliveries accepted.
    #[getter]
    fn messages(&self) -> u64 {
        self.inner.messages()
    }

    /// Commands answered as wrong.
    #[getter]
    fn errors(&self) -> u64 {
        self.inner.errors()
    }

    /// Replies 4yz and 5yz so far, by the command that they answer: "connect" (in place of the greeting), "auth",
    /// "mail", "rcpt", "content" (DATA, BDAT and what came with them) and "other".
    #[getter]
    fn refusals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let session::RefusalCounts { connect, auth, mail, rcpt, content, other } = self.inner.refusals();
        let counts = PyDict::new(py);
        let names = [("connect", connect), ("auth", auth), ("mail", mail), ("rcpt", rcpt)];
        for (name, count) in names.into_iter().chain([("content", content), ("other", other)]) {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    /// Replies 4yz and 5yz so far: the sum of `refusals`, at a lower price.
    #[getter]
    fn refused(&self) -> u64 {
        let session::RefusalCounts { connect, auth, mail, rcpt, content, other } = self.inner.refusals();
        connect + auth + mail + rcpt + content + other
    }

    /// Commands received.
    #[getter]
    fn commands(&self) -> u64 {
        self.inner.commands()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event)?;
        visit.call(&self.config)
    }
}
