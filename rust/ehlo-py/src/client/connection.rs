//! One session of a client.

use std::borrow::Cow;
use std::sync::Arc;

use ehlo::session::client::{self, Facts, NewMessage};
use ehlo::syntax::command;
use ehlo::syntax::options::Options;
use pyo3::exceptions::PyEOFError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};

use crate::buffer::{ReceiveBuffer, lend};
use crate::client::config::ClientConfig;
use crate::client::event::to_python;
use crate::error::misuse;
use crate::exchange::Side;
use crate::socket::{self, Descriptor};
use crate::values::capability::Capabilities;
use crate::values::envelope::{recipient_like, sender_like};
use crate::values::reply::Reply;

/// Content on its way out: a `bytes` as it is, or a copy of what could change.
pub(crate) enum Outgoing {
    Bytes(PyBackedBytes),
    Copy(Vec<u8>),
}

impl Outgoing {
    fn of(content: &Bound<'_, PyAny>) -> PyResult<Self> {
        match content.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.clone().into())),
            Err(_) => lend(content, |octets| Self::Copy(octets.to_vec())),
        }
    }
}

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Copy(octets) => octets,
        }
    }
}

/// Output of fewer octets is copied without a look at whether it is content.
const WORTH_LENDING: usize = 4096;
/// Output of fewer octets is sent by [`flush`](ClientConnection::flush). More of them may come apart, and belong in one call
/// of the system.
const MOST_AT_ONCE: usize = 16 * 1024;
/// Octets that [`exchange`](ClientConnection::exchange) receives: replies are short.
const RECEIVED_AT_ONCE: usize = 2000;

/// The client's side of one SMTP or LMTP session, without I/O (RFC 5321, 2033).
///
/// - Input: `receive_data` or `receive_from`, `receive_eof`, `receive_timeout`. They never raise for what a peer sent.
/// - What is wanted: `send_message`, `start_message`, `noop`, `auth`, `quit` and the like, all at once if you like. The
///   engine sends what may be sent: it pipelines what the server's EHLO allows (RFC 2920).
/// - Events: iterate, or `next_event`.
/// - Output: `data_to_send`, until it gives b"".
///
/// At each wake-up in this order: input, events, output. When `closed`, send what is left and close the transport.
/// Two threads that use one connection at once get a RuntimeError.
///
/// Example:
///     >>> conn = ehlo.ClientConnection(ehlo.ClientConfig("client.example"))
///     >>> conn.send_message("a@b.example", ["c@d.example"], b"Subject: hi\r\n\r\nhi\r\n")
#[pyclass(module = "ehlo", weakref)]
pub(crate) struct ClientConnection {
    inner: client::ClientConnection<Outgoing>,
    config: Py<ClientConfig>,
    exchanged_at: f64,
}

impl Side for ClientConnection {
    fn is_open_to_exchange(&self) -> bool {
        !self.inner.is_tls() && !self.inner.is_handshaking()
    }

    /// The program has to ask, too, if content is wanted, or if there is more output than belongs in one call.
    fn exchange(&mut self, _: Python<'_>, octets: &[u8], now: f64, output: &mut Vec<u8>) -> PyResult<bool> {
        self.exchanged_at = now;
        self.inner.receive(octets);
        if self.inner.has_event() || self.inner.content_wanted().is_some() {
            return Ok(false);
        }
        let Some(mut octets) = self.inner.take_output(MOST_AT_ONCE) else { return Ok(false) };
        output.append(&mut octets);
        self.inner.give_back(octets);
        Ok(true)
    }

    fn take_back(&mut self, octets: &[u8]) {
        self.inner.give_back(octets.to_vec());
    }
}

impl ClientConnection {
    fn command(&mut self, command: command::Command<'static>) -> PyResult<u64> {
        self.inner.command(command).map_err(misuse)
    }
}

#[pymethods]
impl ClientConnection {
    #[new]
    fn new(config: Bound<'_, ClientConfig>) -> Self {
        Self {
            inner: client::ClientConnection::new(Arc::clone(&config.get().inner)),
            config: config.unbind(),
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

    /// The server closed its side.
    fn receive_eof(&mut self) {
        self.inner.receive_eof();
    }

    /// Nothing moved for `timeout` seconds, in either direction (RFC 5321 4.5.3.2).
    fn receive_timeout(&mut self) {
        self.inner.receive_timeout();
    }

    /// TLS is active: after `StartTls`, or before the greeting where TLS is implicit (RFC 3207 4.2, RFC 8314 3.3).
    ///
    /// Args:
    ///     verified: the server's certificate and name were; REQUIRETLS needs it (RFC 8689 4.2.1).
    ///
    /// Raises:
    ///     LocalProtocolError: if no handshake was due.
    #[pyo3(signature = (*, verified = false))]
    fn tls_established(&mut self, verified: bool) -> PyResult<()> {
        self.inner.tls_established(verified).map_err(misuse)
    }

    // ---- what is wanted ----

    /// Queue a message whose content is here.
    ///
    /// Args:
    ///     sender: a mailbox, "" or `NULL` for the null reverse-path, or a `Sender` with parameters.
    ///     recipients: mailboxes, or `Recipient` with parameters.
    ///     content: octets; a `bytes` is not copied.
    ///     utf8_header: whether MAIL says SMTPUTF8 for the sake of the header section (RFC 6531 3.4); None: if the
    ///         `Sender` asks for it. A header section that is ASCII, or not UTF-8, is never a reason for SMTPUTF8.
    ///
    /// Returns:
    ///     the number under which its `SendResult` comes.
    ///
    /// Raises:
    ///     LocalProtocolError: for a path that is none, without recipients, and when the session is over.
    #[pyo3(signature = (sender, recipients, content, *, utf8_header = None))]
    fn send_message(
        &mut self,
        sender: &Bound<'_, PyAny>,
        recipients: &Bound<'_, PyAny>,
        content: &Bound<'_, PyAny>,
        utf8_header: Option<bool>,
    ) -> PyResult<u64> {
        let sender = sender_like(sender)?;
        let recipients = all_recipients(recipients)?;
        let message = NewMessage::whole(sender, recipients, Outgoing::of(content)?);
        self.inner.queue(message.with_utf8_header(utf8_header)).map_err(misuse)
    }

    /// Queue a message whose content comes in pieces: give them when `content_wanted` asks.
    ///
    /// Args:
    ///     sender, recipients: as for `send_message`.
    ///     size: octets with CRLF line ends, if known (RFC 1870).
    ///     eight_bit: whether there are octets above 127, if known (RFC 6152).
    ///     utf8_header: as for `send_message`; the header section is taken to be UTF-8.
    ///
    /// Returns:
    ///     the number under which its `SendResult` comes.
    ///
    /// Raises:
    ///     LocalProtocolError: as `send_message` does.
    #[pyo3(signature = (sender, recipients, *, size = None, eight_bit = None, utf8_header = None))]
    fn start_message(
        &mut self,
        sender: &Bound<'_, PyAny>,
        recipients: &Bound<'_, PyAny>,
        size: Option<u64>,
        eight_bit: Option<bool>,
        utf8_header: Option<bool>,
    ) -> PyResult<u64> {
        let facts = Facts { size, eight_bit, utf8_header };
        let message = NewMessage::stream(sender_like(sender)?, all_recipients(recipients)?, facts);
        self.inner.queue(message).map_err(misuse)
    }

    /// Queue MAIL, for a transaction whose recipients and content come step by step (RFC 5321 3.3). Its
    /// `CommandReply` comes under the same number as its `SendResult`. Whatever is queued behind it waits for its
    /// end: `give_content`, or `abort_content`. Queue `rset` behind the latter if the server is to hear of it now.
    ///
    /// Args:
    ///     sender: as for `send_message`.
    ///     size, eight_bit, utf8_header: as for `start_message`, since MAIL says them.
    ///
    /// Returns:
    ///     the number of the transaction.
    ///
    /// Raises:
    ///     LocalProtocolError: for a path that is none, and when the session is over.
    #[pyo3(signature = (sender, *, size = None, eight_bit = None, utf8_header = None))]
    fn mail(
        &mut self,
        sender: &Bound<'_, PyAny>,
        size: Option<u64>,
        eight_bit: Option<bool>,
        utf8_header: Option<bool>,
    ) -> PyResult<u64> {
        let facts = Facts { size, eight_bit, utf8_header };
        self.inner.mail(sender_like(sender)?, facts).map_err(misuse)
    }

    /// Add recipients to the transaction of `mail`: one RCPT for each.
    ///
    /// Args:
    ///     id: of the transaction.
    ///     recipients: as for `send_message`.
    ///
    /// Returns:
    ///     the numbers under which the `CommandReply` of each comes.
    ///
    /// Raises:
    ///     LocalProtocolError: for a path that is none, and if the transaction is over or has its content.
    fn rcpt(&mut self, id: u64, recipients: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        let recipients = all_recipients(recipients)?;
        recipients.into_iter().map(|recipient| self.inner.rcpt(id, recipient).map_err(misuse)).collect()
    }

    /// Give the transaction of `mail` its content. The `SendResult` comes under its number.
    ///
    /// Args:
    ///     id: of the transaction.
    ///     content: octets; None: it comes in pieces, when `content_wanted` asks.
    ///
    /// Raises:
    ///     LocalProtocolError: without recipients, and if the transaction is over or has its content.
    #[pyo3(signature = (id, content = None))]
    fn give_content(&mut self, id: u64, content: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let content = content.map(Outgoing::of).transpose()?;
        self.inner.give_content(id, content).map_err(misuse)
    }

    /// The message whose next piece of content is wanted now; None if none is.
    #[getter]
    fn content_wanted(&self) -> Option<u64> {
        self.inner.content_wanted()
    }

    /// The next piece of a message's content. False if it is of no more use: the message was refused.
    ///
    /// Raises:
    ///     LocalProtocolError: if the message does not come in pieces, or was ended.
    fn send_content(&mut self, id: u64, piece: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.inner.send_content(id, Outgoing::of(piece)?).map_err(misuse)
    }

    /// The content is complete.
    ///
    /// Raises:
    ///     LocalProtocolError: as `send_content` does.
    fn end_content(&mut self, id: u64) -> PyResult<()> {
        self.inner.end_content(id).map_err(misuse)
    }

    /// There is no more content, and what was sent must not become a message. Behind DATA this ends the connection:
    /// there is no other way (RFC 5321 4.1.1.10). It gives up a transaction of `mail`, too.
    ///
    /// Raises:
    ///     LocalProtocolError: as `send_content` does.
    fn abort_content(&mut self, id: u64) -> PyResult<()> {
        self.inner.abort_content(id).map_err(misuse)
    }

    /// Queue NOOP (RFC 5321 4.1.1.9). Each command gives the number under which its `CommandReply` comes.
    ///
    /// Raises:
    ///     LocalProtocolError: when the session is over.
    fn noop(&mut self) -> PyResult<u64> {
        self.command(command::Command::Noop(Cow::Borrowed(b"")))
    }

    /// Queue RSET (RFC 5321 4.1.1.5). The engine says its own where one is needed.
    ///
    /// Raises:
    ///     LocalProtocolError: when the session is over.
    fn rset(&mut self) -> PyResult<u64> {
        self.command(command::Command::Rset)
    }

    /// Queue VRFY (RFC 5321 4.1.1.6).
    ///
    /// Raises:
    ///     LocalProtocolError: if the argument cannot be sent, and when the session is over.
    fn vrfy(&mut self, argument: String) -> PyResult<u64> {
        let smtputf8 = !argument.is_ascii();
        self.command(command::Command::Vrfy { argument: argument.into(), smtputf8 })
    }

    /// Queue EXPN (RFC 5321 4.1.1.7).
    ///
    /// Raises:
    ///     LocalProtocolError: if the argument cannot be sent, and when the session is over.
    fn expn(&mut self, argument: String) -> PyResult<u64> {
        let smtputf8 = !argument.is_ascii();
        self.command(command::Command::Expn { argument: argument.into(), smtputf8 })
    }

    /// Queue HELP (RFC 5321 4.1.1.8).
    ///
    /// Raises:
    ///     LocalProtocolError: if the topic cannot be sent, and when the session is over.
    #[pyo3(signature = (topic = String::new()), text_signature = "($self, topic='')")]
    fn help(&mut self, topic: String) -> PyResult<u64> {
        self.command(command::Command::Help(topic.into()))
    }

    /// Queue ETRN (RFC 1985 5).
    ///
    /// Raises:
    ///     LocalProtocolError: if the node's name cannot be sent, and when the session is over.
    fn etrn(&mut self, node: String) -> PyResult<u64> {
        self.command(command::Command::Etrn(node.into()))
    }

    /// Queue a command as one line, such as "XFOO bar": NOOP, RSET, VRFY, EXPN, HELP, ETRN, or one that the engine
    /// does not know. A 3yz asks for more, which none of these has: it ends the session.
    ///
    /// Raises:
    ///     LocalProtocolError: if it is no command, one that the engine says itself (MAIL, DATA and others), and when
    ///         the session is over.
    #[pyo3(name = "command")]
    fn command_line(&mut self, line: &str) -> PyResult<u64> {
        let parsed = command::parse_command(line.as_bytes(), &Options::default());
        let command = parsed.map_err(|error| misuse(format_args!("{line:?} is no command: {error}")))?;
        self.command(command.into_owned())
    }

    /// Queue XCLIENT with these attributes, values not encoded (XCLIENT_README). The session begins anew after it.
    ///
    /// Raises:
    ///     LocalProtocolError: if they cannot be sent, and when the session is over.
    fn xclient(&mut self, attributes: Vec<(String, String)>) -> PyResult<u64> {
        self.command(command::Command::Xclient(owned(attributes)))
    }

    /// Queue XFORWARD with these attributes, values not encoded (XFORWARD_README).
    ///
    /// Raises:
    ///     LocalProtocolError: if they cannot be sent, and when the session is over.
    fn xforward(&mut self, attributes: Vec<(String, String)>) -> PyResult<u64> {
        self.command(command::Command::Xforward(owned(attributes)))
    }

    /// Queue AUTH (RFC 4954 4). `Challenge` events ask for responses; the outcome is a `CommandReply`.
    ///
    /// Args:
    ///     mechanism: like "PLAIN".
    ///     initial: the initial response, without base64; None without one. An empty one is b"".
    ///
    /// Raises:
    ///     LocalProtocolError: if the mechanism is no word, and when the session is over.
    #[pyo3(signature = (mechanism, initial = None))]
    fn auth(&mut self, mechanism: &str, initial: Option<&[u8]>) -> PyResult<u64> {
        self.inner.auth(mechanism, initial).map_err(misuse)
    }

    /// Answer the open challenge; the octets without base64.
    ///
    /// Raises:
    ///     LocalProtocolError: if there is none.
    fn respond(&mut self, response: &[u8]) -> PyResult<()> {
        self.inner.respond(response).map_err(misuse)
    }

    /// Give the exchange up; the server answers 501 (RFC 4954 4).
    ///
    /// Raises:
    ///     LocalProtocolError: if there is no challenge.
    fn cancel(&mut self) -> PyResult<()> {
        self.inner.cancel().map_err(misuse)
    }

    /// End the session after all messages and commands are done (RFC 5321 4.1.1.10).
    ///
    /// Raises:
    ///     LocalProtocolError: when it is over, or was to end already.
    fn quit(&mut self) -> PyResult<u64> {
        self.inner.quit().map_err(misuse)
    }

    // ---- events and output ----

    /// The next event; None when input is used up.
    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.inner.poll_event().map(|event| to_python(py, event)).transpose()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.next_event(py)
    }

    /// Octets to send now, b"" if there are none. Each is handed over once; after these there may be more:
    /// a content of 16 to 256 KiB that needs no change comes as the `bytes` that was queued, apart from the rest.
    fn data_to_send<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let octets = self.inner.output();
        let octets = if octets.len() < WORTH_LENDING {
            PyBytes::new(py, octets)
        } else if let Some(Outgoing::Bytes(content)) = self.inner.output_content() {
            let Ok(content) = content.into_pyobject(py);
            content
        } else {
            PyBytes::new(py, self.inner.output())
        };
        self.inner.clear_output();
        octets
    }

    /// The next event; and if there is none, send the output by one `send` of a socket that does not block. It is
    /// `next_event`, `data_to_send` and `socket.send` in one call. Input goes to the engine first.
    ///
    /// Args:
    ///     descriptor: of the connected socket, over which no earlier output waits, in clear text.
    ///
    /// Returns:
    ///     An event: nothing was sent, and there may be more events. Or the number of octets that were sent: all there
    ///     were. Or `bytes` that the system did not take, to be sent before all others. Or None: there is more output
    ///     than this is for, or the socket is broken or closed; `data_to_send` has the output.
    ///
    /// Example:
    ///     >>> conn.flush(sock.fileno())
    ///     0
    fn flush<'py>(slf: &Bound<'py, Self>, descriptor: Descriptor) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let mut conn = slf.try_borrow_mut()?;
        if let Some(event) = conn.inner.poll_event() {
            return to_python(py, event).map(Some);
        }
        let Some(mut output) = conn.inner.take_output(MOST_AT_ONCE) else { return Ok(None) };
        let all = output.len();
        let mut sent = Ok(0);
        if all > 0 {
            drop(conn); // other threads may ask for facts meanwhile
            sent = py.detach(|| socket::send(descriptor, &output));
            conn = slf.try_borrow_mut()?;
        }
        let rest = match sent {
            Err(_) => None, // it stays in the output
            Ok(count) => {
                let rest = if count < all {
                    PyBytes::new(py, &output[count..]).into_any()
                } else {
                    all.into_pyobject(py)?.into_any()
                };
                output.clear();
                Some(rest)
            }
        };
        conn.inner.give_back(output);
        Ok(rest)
    }

    /// Receive once from a socket that does not block, then `flush`. It is `socket.recv_into`, `receive_from` and
    /// `flush` in one call.
    ///
    /// Args:
    ///     descriptor: as for `flush`.
    ///
    /// Returns:
    ///     What `flush` does.
    ///
    /// Raises:
    ///     BlockingIOError: nothing has come.
    ///     EOFError: the server sends no more: `receive_eof` is due.
    ///     OSError: the socket is broken.
    ///
    /// Example:
    ///     >>> conn.exchange(sock.fileno())
    ///     0
    #[pyo3(name = "exchange")]
    fn exchange_alone<'py>(slf: &Bound<'py, Self>, descriptor: Descriptor) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut input = [0; RECEIVED_AT_ONCE];
        match socket::receive(descriptor, &mut input)? {
            0 => return Err(PyEOFError::new_err("the server sends no more")),
            count => slf.try_borrow_mut()?.inner.receive(&input[..count]),
        }
        Self::flush(slf, descriptor)
    }

    /// When an `Exchange` read for it last, in seconds of the program's clock; 0.0 if none did.
    #[getter]
    fn exchanged_at(&self) -> f64 {
        self.exchanged_at
    }

    // ---- what can be asked ----

    /// What it was made with.
    #[getter]
    fn config(&self) -> &Py<ClientConfig> {
        &self.config
    }

    /// Seconds since anything moved after which `receive_timeout` is due; None while this program has to act
    /// and at the end (RFC 5321 4.5.3.2).
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.inner.timeout().map(|wait| wait.as_secs_f64())
    }

    /// What the server offered in its last reply to EHLO; nothing before, and after HELO (RFC 5321 4.1.1.1).
    #[getter]
    fn capabilities(&self) -> Capabilities {
        Capabilities::wrap(self.inner.capabilities().clone())
    }

    /// The greeting; None before it came.
    #[getter]
    fn greeting(&self) -> Option<Reply> {
        self.inner.greeting().cloned().map(Reply)
    }

    /// Whether TLS is active.
    #[getter]
    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }

    /// Whether AUTH succeeded.
    #[getter]
    fn authenticated(&self) -> bool {
        self.inner.is_authenticated()
    }

    /// Whether nothing more is to come: send what is left, then close.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Whether nothing is asked for and nothing outstanding.
    #[getter]
    fn idle(&self) -> bool {
        self.inner.is_idle()
    }

    /// Messages that have no result yet.
    #[getter]
    fn unfinished(&self) -> usize {
        self.inner.unfinished()
    }

    /// Transactions that the server still takes on this connection; None without a limit (RFC 9422 MAILMAX).
    #[getter]
    fn mail_left(&self) -> Option<u32> {
        self.inner.mail_left()
    }

    /// The latest lines of the session, "C: " ours and "S: " the server's; without content and secrets.
    #[getter]
    fn transcript(&self) -> String {
        self.inner.transcript()
    }

    /// The transcript so far, handed over once.
    fn take_transcript(&mut self) -> String {
        self.inner.take_transcript()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.config)
    }
}

fn all_recipients(recipients: &Bound<'_, PyAny>) -> PyResult<Vec<Arc<ehlo::session::Recipient>>> {
    // A single path is meant as one, not as its letters.
    if recipients.is_instance_of::<PyString>() {
        return Ok(vec![recipient_like(recipients)?]);
    }
    let mut all = Vec::new();
    if let Ok(list) = recipients.cast_exact::<PyList>() {
        all.reserve_exact(list.len());
        for one in list {
            all.push(recipient_like(&one)?);
        }
    } else {
        for one in recipients.try_iter()? {
            all.push(recipient_like(&one?)?);
        }
    }
    Ok(all)
}

fn owned(attributes: Vec<(String, String)>) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
    attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
