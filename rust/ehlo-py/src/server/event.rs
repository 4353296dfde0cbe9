//! The events of a server: one frozen class for each.
//!
//! Objects that every program reads are made with the event. The others are made when a program asks for them, and kept.

use ehlo::session::{self, Abort, ServerDisconnect};
use ehlo::syntax::command::Verb;
use ehlo::wire::content::ContentFlags;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFrozenSet, PyString};
use pyo3::{PyTraverseError, PyVisit};

use crate::codec::flag_names;
use crate::content::Collected;
use crate::convert::{object, verb_name};
use crate::lazy::Lazy;
use crate::values::envelope::{Envelope, Recipient, Sender};
use crate::values::front::{ClientAttributes, ProxyHeader};
use crate::values::reply::Reply;

/// The Python object of an event.
pub(crate) fn to_python(py: Python<'_>, event: session::ServerEvent<Collected>) -> PyResult<Bound<'_, PyAny>> {
    use session::ServerEvent;
    match event {
        ServerEvent::Message { envelope, content, size, flags } => {
            let content = content.finish(py)?.unbind();
            object(py, Message { content, envelope: LateEnvelope::new(envelope), size, flags })
        }
        ServerEvent::Chunk(content) => object(py, Chunk { data: content.finish(py)?.unbind() }),
        ServerEvent::Rcpt(recipient) => object(py, Rcpt { recipient: Py::new(py, Recipient::wrap(recipient))? }),
        ServerEvent::Mail(sender) => object(py, Mail { sender: Py::new(py, Sender::wrap(sender))? }),
        ServerEvent::Hello { verb, name } => object(py, Hello { verb, name: PyString::new(py, &name).unbind() }),
        ServerEvent::Data { envelope, verb } => object(py, Data { envelope: LateEnvelope::new(envelope), verb }),
        ServerEvent::ContentStart(envelope) => object(py, ContentStart { envelope: LateEnvelope::new(envelope) }),
        ServerEvent::ContentAborted(reason) => object(py, ContentAborted { reason }),
        ServerEvent::Auth { mechanism, initial } => {
            let initial = initial.map(|octets| PyBytes::new(py, &octets).unbind());
            object(py, Auth { initial, mechanism })
        }
        ServerEvent::AuthResponse(octets) => object(py, AuthResponse { data: PyBytes::new(py, &octets).unbind() }),
        ServerEvent::AuthCancelled => object(py, AuthCancelled),
        ServerEvent::BadProxy(octets) => object(py, BadProxy { octets: PyBytes::new(py, &octets).unbind() }),
        ServerEvent::Command { verb, argument } => object(py, CommandReceived { verb, argument }),
        ServerEvent::Refusal { line, reply } => {
            let line = PyBytes::new(py, &line).unbind();
            object(py, Refusal { line, reply: Py::new(py, Reply(reply))? })
        }
        ServerEvent::Connect => object(py, Connect),
        ServerEvent::Proxy(header) => object(py, Proxy { header: Py::new(py, ProxyHeader(header))? }),
        ServerEvent::StartTls => object(py, StartTls),
        ServerEvent::Xclient(attributes) => {
            object(py, Xclient { attributes: Py::new(py, ClientAttributes(attributes))? })
        }
        ServerEvent::Disconnect(reason) => object(py, Disconnect { reason }),
        ServerEvent::Refused { verb, argument, envelope, reply } => {
            let envelope = envelope.map(LateEnvelope::new);
            object(py, Refused { verb, argument, envelope, reply: Py::new(py, Reply(reply))? })
        }
        ServerEvent::Reset => object(py, Reset),
        ServerEvent::Vrfy(argument) => object(py, Vrfy { argument }),
        ServerEvent::Expn(argument) => object(py, Expn { argument }),
        ServerEvent::Etrn(argument) => object(py, Etrn { argument }),
    }
}

/// An envelope that becomes a Python object when it is looked at.
struct LateEnvelope {
    object: Lazy<Envelope>,
    inner: session::Envelope,
}

impl LateEnvelope {
    fn new(inner: session::Envelope) -> Self {
        Self { object: Lazy::new(), inner }
    }

    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Envelope>> {
        self.object.get(py, || Bound::new(py, Envelope::wrap(self.inner.clone())))
    }
}

/// Decision, with `auth` in the configuration: AUTH came (RFC 4954 4). Answer with `challenge`, `accept_identity`
/// or a 4yz or 5yz reply.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Auth("PLAIN", None): conn.challenge(b"")
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Auth {
    initial: Option<Py<PyBytes>>,
    mechanism: String,
}

#[pymethods]
impl Auth {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("mechanism", "initial_response");

    /// The mechanism in upper case, one that is offered now.
    #[getter]
    fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// The initial response, decoded; None without one. An empty one is b"" (RFC 4954 4).
    #[getter]
    fn initial_response(&self) -> Option<&Py<PyBytes>> {
        self.initial.as_ref()
    }

    fn __repr__(&self) -> String {
        let initial = if self.initial.is_some() { "<...>" } else { "None" };
        format!("Auth(mechanism='{}', initial_response={initial})", self.mechanism)
    }
}

/// Decision: the client answered a challenge (RFC 4954 4). To be answered as `Auth` is.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.AuthResponse(data): step = mechanism.respond(data)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct AuthResponse {
    data: Py<PyBytes>,
}

#[pymethods]
impl AuthResponse {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("data",);

    /// The response, decoded.
    #[getter]
    fn data(&self) -> &Py<PyBytes> {
        &self.data
    }

    fn __repr__(&self) -> &'static str {
        "AuthResponse(data=<...>)"
    }
}

/// The client ended an exchange of AUTH, or sent what is not base64 (RFC 4954 4). No decision: the engine has
/// answered.
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct AuthCancelled;

#[pymethods]
impl AuthCancelled {
    fn __repr__(&self) -> &'static str {
        "AuthCancelled()"
    }
}

/// Decision, with "command" in `decisions`: a command came that the engine does not know, or NOOP, HELP, RSET or
/// QUIT. `accept` lets the engine answer; a reply stands in place of its own.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.CommandReceived("XVERSION", _): conn.reply(250, "2.0.0", "3.1")
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct CommandReceived {
    verb: String,
    argument: String,
}

#[pymethods]
impl CommandReceived {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("verb", "argument");

    /// The verb in upper case.
    #[getter]
    fn verb(&self) -> &str {
        &self.verb
    }

    /// What stands behind the verb; empty if there is nothing.
    #[getter]
    fn argument(&self) -> &str {
        &self.argument
    }

    fn __repr__(&self) -> String {
        format!("CommandReceived(verb={:?}, argument={:?})", self.verb, self.argument)
    }
}

/// Decision, with "refusal" in `decisions`: the engine refuses a command, or content. `accept` lets it answer; a 4yz
/// or 5yz reply stands in place of its own.
///
/// Example:
///     >>> conn.reply(event.reply.code, event.reply.enhanced, "see https://mx.example/help")
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Refusal {
    line: Py<PyBytes>,
    reply: Py<Reply>,
}

#[pymethods]
impl Refusal {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("line", "reply");

    /// The command line without its end. It is empty for content, and for a line that is too long.
    #[getter]
    fn line(&self) -> &Py<PyBytes> {
        &self.line
    }

    /// The engine's reply.
    #[getter]
    fn reply(&self) -> &Py<Reply> {
        &self.reply
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Refusal(line=<{} octets>, reply={})", self.line.as_bytes(py).len(), self.reply.bind(py).repr()?))
    }
}

/// No good PROXY header came; only with `proxy=True`. No decision: the session ends without a word.
///
/// Example:
///     >>> log.warning("no PROXY header: %r", event.octets)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct BadProxy {
    octets: Py<PyBytes>,
}

#[pymethods]
impl BadProxy {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("octets",);

    /// What came, up to the octet that is wrong.
    #[getter]
    fn octets(&self) -> &Py<PyBytes> {
        &self.octets
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("BadProxy(<{} octets>)", self.octets.as_bytes(py).len())
    }
}

/// TLS is to begin (RFC 3207 4). On a client: shake hands now, then say `tls_established`; what came in clear is
/// forgotten. On a server a decision, with `tls="starttls"`: accept, send the output, shake hands, then say
/// `tls_established`; or reply 454 when TLS is not to be had now.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.StartTls(): upgrade(sock); conn.tls_established()
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct StartTls;

#[pymethods]
impl StartTls {
    fn __repr__(&self) -> &'static str {
        "StartTls()"
    }
}

/// Decision, with `proxy=True`: the PROXY header came (PROXY protocol 2). A reply stands in place of the greeting.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Proxy(header): print(header.source); conn.accept()
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Proxy {
    header: Py<ProxyHeader>,
}

#[pymethods]
impl Proxy {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("header",);

    /// What the proxy knows of the connection.
    #[getter]
    fn header(&self) -> &Py<ProxyHeader> {
        &self.header
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Proxy(header={})", self.header.bind(py).repr()?))
    }
}

/// XCLIENT was accepted; the session begins anew (Postfix XCLIENT_README). No decision. If it said another address,
/// `trusted` is False until it is set again.
///
/// Example:
///     >>> conn.trusted = event.attributes.addr in FRONTS
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Xclient {
    attributes: Py<ClientAttributes>,
}

#[pymethods]
impl Xclient {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("attributes",);

    /// All that XCLIENT has said so far.
    #[getter]
    fn attributes(&self) -> &Py<ClientAttributes> {
        &self.attributes
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Xclient(attributes={})", self.attributes.bind(py).repr()?))
    }
}

/// Decision, with "connect" in `decisions`: greet this client (RFC 5321 3.1)?
///
/// Example:
///     >>> conn.reply(554, "5.7.1", "not you")
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Connect;

#[pymethods]
impl Connect {
    fn __repr__(&self) -> &'static str {
        "Connect()"
    }
}

/// Decision, with "hello" in `decisions`: EHLO, HELO or LHLO came (RFC 5321 4.1.1.1).
///
/// Example:
///     >>> event.verb, event.name
///     ('EHLO', 'client.example')
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Hello {
    name: Py<PyString>,
    verb: Verb,
}

#[pymethods]
impl Hello {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("verb", "name");

    /// One of "EHLO", "HELO" and "LHLO".
    #[getter]
    fn verb<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        verb_name(py, self.verb)
    }

    /// The client's name for itself: a domain or an address literal, as it was written.
    #[getter]
    fn name(&self) -> &Py<PyString> {
        &self.name
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Hello(verb='{}', name={})", self.verb.as_str(), self.name.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.name)
    }
}

/// Decision, with "mail" in `decisions`: MAIL came (RFC 5321 4.1.1.2).
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Mail(sender): print(sender.path)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Mail {
    sender: Py<Sender>,
}

#[pymethods]
impl Mail {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("sender",);

    /// The reverse-path and its parameters.
    #[getter]
    fn sender(&self) -> &Py<Sender> {
        &self.sender
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Mail(sender={})", self.sender.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sender)
    }
}

/// Decision, with "rcpt" in `decisions`: RCPT came (RFC 5321 4.1.1.3).
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Rcpt(recipient): print(recipient.path)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Rcpt {
    recipient: Py<Recipient>,
}

#[pymethods]
impl Rcpt {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("recipient",);

    /// The forward-path and its parameters.
    #[getter]
    fn recipient(&self) -> &Py<Recipient> {
        &self.recipient
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Rcpt(recipient={})", self.recipient.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.recipient)
    }
}

/// Decision, with "data" in `decisions`: content is about to come, by DATA or the first BDAT (RFC 5321 4.1.1.4,
/// RFC 3030 2). The last chance to refuse it before it is sent.
///
/// Example:
///     >>> conn.reply(452, "4.3.1", "disk full")
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Data {
    envelope: LateEnvelope,
    verb: Verb,
}

#[pymethods]
impl Data {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("envelope", "verb");

    /// Sender and accepted recipients.
    #[getter]
    fn envelope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Envelope>> {
        self.envelope.get(py)
    }

    /// Either "DATA" or "BDAT".
    #[getter]
    fn verb<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        verb_name(py, self.verb)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Data(envelope={}, verb='{}')", self.envelope.get(py)?.repr()?, self.verb.as_str()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.envelope.object.visit(&visit)
    }
}

/// Content begins; only with `content="stream"`. No decision. `Chunk` events follow, then `Message` or
/// `ContentAborted`.
///
/// Example:
///     >>> files[conn] = spool.open(event.envelope)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ContentStart {
    envelope: LateEnvelope,
}

#[pymethods]
impl ContentStart {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("envelope",);

    /// Sender and accepted recipients.
    #[getter]
    fn envelope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Envelope>> {
        self.envelope.get(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("ContentStart(envelope={})", self.envelope.get(py)?.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.envelope.object.visit(&visit)
    }
}

/// Octets of content without dot-stuffing or chunk headers; only with `content="stream"`. No decision.
///
/// Example:
///     >>> files[conn].write(event.data)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Chunk {
    data: Py<PyBytes>,
}

#[pymethods]
impl Chunk {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("data",);

    /// The octets; where one chunk ends and the next begins means nothing.
    #[getter]
    fn data(&self) -> &Py<PyBytes> {
        &self.data
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Chunk(<{} octets>)", self.data.as_bytes(py).len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)
    }
}

/// The content that was streaming will not become a message. No decision: the engine answers.
///
/// Example:
///     >>> files.pop(conn).delete()
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ContentAborted {
    reason: Abort,
}

#[pymethods]
impl ContentAborted {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("reason",);

    /// One of "forbidden" (a bare CR or LF, or what else the configuration rejects), "too big", "reset" (RSET or
    /// EHLO between two chunks) and "disconnected".
    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        match self.reason {
            Abort::Disconnected => intern!(py, "disconnected"),
            Abort::Forbidden => intern!(py, "forbidden"),
            Abort::Reset => intern!(py, "reset"),
            Abort::TooBig => intern!(py, "too big"),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("ContentAborted(reason={})", self.reason(py).repr()?))
    }
}

/// Decision, with "message" in `decisions`: a whole message is here. A positive answer takes responsibility for it
/// (RFC 5321 4.2.5).
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Message(envelope, content): store(envelope, content); conn.accept()
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Message {
    content: Py<PyBytes>,
    envelope: LateEnvelope,
    flags: ContentFlags,
    size: u64,
}

#[pymethods]
impl Message {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("envelope", "content");

    /// Sender and accepted recipients.
    #[getter]
    fn envelope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Envelope>> {
        self.envelope.get(py)
    }

    /// The whole content, without dot-stuffing; empty with `content="stream"` or "discard".
    #[getter]
    fn content(&self) -> &Py<PyBytes> {
        &self.content
    }

    /// Octets of content that came, as RFC 1870 5 counts them.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// What was found in it; of "bare-cr", "bare-lf", "nul", "8bit", "long-line" (over 1000 octets, RFC 5321
    /// 4.5.3.1.6) and "no-final-crlf" (BDAT only).
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        flag_names(py, &self.flags)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Message(envelope={}, content=<{} octets>)", self.envelope.get(py)?.repr()?, self.size))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.content)?;
        self.envelope.object.visit(&visit)
    }
}

/// The decisions about a command that has one argument, which the engine does not look into.
macro_rules! inquiries {
    ($($(#[doc = $doc:literal])+ $Event:ident { $(#[doc = $argument_doc:literal])+ argument })+) => { $(
        $(#[doc = $doc])+
        #[pyclass(frozen, module = "ehlo", weakref)]
        pub(crate) struct $Event {
            argument: String,
        }

        #[pymethods]
        impl $Event {
            #[classattr]
            #[pyo3(name = "__match_args__")]
            const MATCH_ARGS: (&'static str,) = ("argument",);

            $(#[doc = $argument_doc])+
            #[getter]
            fn argument(&self) -> &str {
                &self.argument
            }

            fn __repr__(&self) -> String {
                format!(concat!(stringify!($Event), "(argument={:?})"), self.argument)
            }
        }
    )+ };
}

inquiries! {
    /// Decision, with "vrfy" in `decisions`: VRFY came (RFC 5321 3.5). Without it the answer is 252.
    ///
    /// Example:
    ///     >>> conn.reply(250, "2.1.5", "<jane@example.org>")
    Vrfy {
        /// The user or mailbox that the client asks about, as it was written.
        argument
    }
    /// Decision, with "expn" in `decisions`: EXPN came (RFC 5321 3.5). Without it the command is not offered.
    ///
    /// Example:
    ///     >>> conn.reply(250, "2.1.5", ["<jane@example.org>", "<joe@example.org>"])
    Expn {
        /// The name of the list, as it was written.
        argument
    }
    /// Decision, with "etrn" in `decisions`: ETRN came (RFC 1985). Without it the command is not offered.
    ///
    /// Example:
    ///     >>> conn.reply(250, None, f"Queuing for node {event.argument} started")
    Etrn {
        /// The name of the node, with its option character.
        argument
    }
}

/// A reply 4yz or 5yz went out, whoever decided it (RFC 5321 4.2.1). No decision; with "refused" in `decisions`.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Refused("RCPT", argument, _, reply): print(argument, reply)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Refused {
    verb: Option<Verb>,
    argument: String,
    envelope: Option<LateEnvelope>,
    reply: Py<Reply>,
}

#[pymethods]
impl Refused {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) =
        ("command", "argument", "envelope", "reply");

    /// The command that it answers: "MAIL", "RCPT" and so on. None for a line that is no command, and where it
    /// stands in place of the greeting.
    #[getter]
    fn command<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.verb.map(|verb| verb_name(py, verb))
    }

    /// The argument of the command as it came, where it cannot hold a secret; at most 1024 octets. After AUTH, the
    /// mechanism alone.
    #[getter]
    fn argument(&self) -> &str {
        &self.argument
    }

    /// The transaction so far, if one was open. In LMTP, after content, with the recipient that was refused.
    #[getter]
    fn envelope<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Envelope>>> {
        self.envelope.as_ref().map(|envelope| envelope.get(py)).transpose()
    }

    /// The reply.
    #[getter]
    fn reply(&self) -> &Py<Reply> {
        &self.reply
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let command = self.verb.map_or("None", Verb::as_str);
        Ok(format!("Refused({command}, {:?}, {})", self.argument, self.reply.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.envelope.iter().try_for_each(|envelope| envelope.object.visit(&visit))
    }
}

/// A transaction was dropped by RSET or a new EHLO (RFC 5321 4.1.1.5). No decision; with "reset" in `decisions`.
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Reset;

#[pymethods]
impl Reset {
    fn __repr__(&self) -> &'static str {
        "Reset()"
    }
}

/// The session is over. The last event; no decision.
///
/// Example:
///     >>> event.reason
///     'quit'
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Disconnect {
    reason: ServerDisconnect,
}

#[pymethods]
impl Disconnect {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("reason",);

    /// One of "quit", "eof" (the client closed), "timeout", "program" (it said 421 or 221), "protocol" (the peer
    /// cannot be followed any more), "limit", "shutdown", "injection" (octets in the clear behind STARTTLS) and "tls"
    /// (the handshake failed).
    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        match self.reason {
            ServerDisconnect::Eof => intern!(py, "eof"),
            ServerDisconnect::Injection => intern!(py, "injection"),
            ServerDisconnect::Limit => intern!(py, "limit"),
            ServerDisconnect::Program => intern!(py, "program"),
            ServerDisconnect::Protocol => intern!(py, "protocol"),
            ServerDisconnect::Quit => intern!(py, "quit"),
            ServerDisconnect::Shutdown => intern!(py, "shutdown"),
            ServerDisconnect::Timeout => intern!(py, "timeout"),
            ServerDisconnect::Tls => intern!(py, "tls"),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Disconnect(reason={})", self.reason(py).repr()?))
    }
}
