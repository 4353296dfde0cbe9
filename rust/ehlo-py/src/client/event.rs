//! The events of a client: one frozen class for each.

use std::sync::Arc;

use ehlo::session::client::{self, ClientDisconnect as Reason, Failure, Stage};
use ehlo::syntax::command::Verb;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert::{object, verb_name};
use crate::lazy::Lazy;
use crate::server::event::StartTls;
use crate::values::address::forward_path;
use crate::values::envelope::Recipient;
use crate::values::reply::Reply;

/// The Python object of an event.
pub(crate) fn to_python(py: Python<'_>, event: client::ClientEvent) -> PyResult<Bound<'_, PyAny>> {
    use client::ClientEvent;
    match event {
        ClientEvent::Result(result) => object(py, SendResult::new(*result)),
        ClientEvent::Reply { id, verb, reply } => object(py, CommandReply { id, verb, reply }),
        ClientEvent::Challenge { id, challenge } => {
            object(py, Challenge { id, challenge: PyBytes::new(py, &challenge).unbind() })
        }
        ClientEvent::Ready => object(py, Ready),
        ClientEvent::StartTls => object(py, StartTls),
        ClientEvent::Unsolicited(reply) => object(py, Unsolicited { reply }),
        ClientEvent::Disconnect(reason) => object(py, ClientDisconnect { reason }),
    }
}

/// The hello is done, after STARTTLS if that was to be: messages and commands go out now.
///
/// Example:
///     >>> conn.capabilities.size
///     33554432
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Ready;

#[pymethods]
impl Ready {
    fn __repr__(&self) -> &'static str {
        "Ready()"
    }
}

/// The server wants something of the AUTH exchange (RFC 4954 4): answer with `respond` or `cancel`.
///
/// Example:
///     >>> match event:
///     ...     case ehlo.Challenge(_, challenge): conn.respond(mechanism.respond(challenge))
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Challenge {
    id: u64,
    challenge: Py<PyBytes>,
}

#[pymethods]
impl Challenge {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("id", "challenge");

    /// Of the AUTH.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// The octets, without base64.
    #[getter]
    fn challenge(&self) -> &Py<PyBytes> {
        &self.challenge
    }

    fn __repr__(&self) -> String {
        format!("Challenge({})", self.id)
    }
}

/// The reply to a command that the program asked for.
///
/// Example:
///     >>> event.verb, event.reply.code
///     ('NOOP', 250)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct CommandReply {
    id: u64,
    verb: Verb,
    reply: Option<ehlo::syntax::reply::Reply>,
}

#[pymethods]
impl CommandReply {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("id", "verb", "reply");

    /// Of the command.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// Which it was, like "NOOP".
    #[getter]
    fn verb<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        verb_name(py, self.verb)
    }

    /// What the server said; None if the connection ended before.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        self.reply.clone().map(Reply)
    }

    fn __repr__(&self) -> String {
        format!("CommandReply({}, '{}')", self.id, self.verb.as_str())
    }
}

/// What became of a message for one recipient.
///
/// Example:
///     >>> result.recipients[0].accepted, str(result.recipients[0].reply)
///     (True, '250 2.0.0 OK')
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct RecipientResult {
    inner: client::RecipientResult,
    path: Lazy<PyAny>,
    recipient: Lazy<Recipient>,
}

impl RecipientResult {
    fn wrap(inner: client::RecipientResult) -> Self {
        Self { inner, path: Lazy::new(), recipient: Lazy::new() }
    }
}

#[pymethods]
impl RecipientResult {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("path", "reply");

    /// The forward-path and parameters as they were given.
    #[getter]
    fn recipient<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Recipient>> {
        self.recipient.get(py, || Bound::new(py, Recipient::wrap(Arc::clone(&self.inner.recipient))))
    }

    /// An `Address`, or a `Postmaster` without domain.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.path.get(py, || forward_path(py, &self.inner.recipient.path))
    }

    /// Whether the server took responsibility (RFC 5321 4.2.5).
    #[getter]
    fn accepted(&self) -> bool {
        self.inner.accepted
    }

    /// The reply that decided; None if none did: see `SendResult.failure`.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        self.inner.reply.as_deref().cloned().map(Reply)
    }

    /// What that reply answered: "mail", "rcpt", "data" or "content"; "content" without a reply: the connection
    /// ended in between, and the server may have the message; None if it did not come so far.
    #[getter]
    fn stage(&self) -> Option<&'static str> {
        match self.inner.stage {
            Stage::Nothing => None,
            Stage::Mail => Some("mail"),
            Stage::Rcpt => Some("rcpt"),
            Stage::Data => Some("data"),
            Stage::Content => Some("content"),
        }
    }

    /// The reply to RCPT, if it came: a 251 tells of another path (RFC 5321 3.4).
    #[getter]
    fn rcpt(&self) -> Option<Reply> {
        self.inner.rcpt.as_deref().cloned().map(Reply)
    }

    fn __repr__(&self) -> String {
        let reply = self.inner.reply.as_ref().map_or_else(|| "None".to_owned(), |reply| format!("{reply}"));
        format!("RecipientResult({}, {reply:?})", self.inner.recipient.path)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.path.visit(&visit)?;
        self.recipient.visit(&visit)
    }
}

/// What became of a message, recipient by recipient.
///
/// Example:
///     >>> result = await client.send(message, sender="a@b.example", recipients=["c@d.example"])
///     >>> [str(one.path) for one in result.refused]
///     []
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct SendResult {
    inner: client::MessageResult,
    recipients: Lazy<PyTuple>,
}

impl SendResult {
    fn new(inner: client::MessageResult) -> Self {
        Self { inner, recipients: Lazy::new() }
    }

    fn those<'py>(&self, py: Python<'py>, accepted: bool) -> PyResult<Bound<'py, PyTuple>> {
        let all = self.recipients(py)?;
        let those = all.iter().zip(&self.inner.recipients).filter(|(_, inner)| inner.accepted == accepted);
        PyTuple::new(py, those.map(|(one, _)| one).collect::<Vec<_>>())
    }

    /// The reply that says most of the whole: to the content if it came so far.
    fn last_reply(&self) -> Option<&ehlo::syntax::reply::Reply> {
        let of = |stage| {
            self.inner.recipients.iter().rev().find(|one| one.stage == stage).and_then(|one| one.reply.as_deref())
        };
        [Stage::Content, Stage::Data, Stage::Rcpt, Stage::Mail].into_iter().find_map(of)
    }
}

#[pymethods]
impl SendResult {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("recipients",);

    /// Of the message, as `send_message` gave it.
    #[getter]
    fn id(&self) -> u64 {
        self.inner.id
    }

    /// One for each recipient, in the order they were given.
    #[getter]
    fn recipients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.recipients.get(py, || PyTuple::new(py, self.inner.recipients.iter().cloned().map(RecipientResult::wrap)))
    }

    /// Those the server took responsibility for.
    #[getter]
    fn accepted<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.those(py, true)
    }

    /// All others.
    #[getter]
    fn refused<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.those(py, false)
    }

    /// Whether none was refused.
    #[getter]
    fn all_accepted(&self) -> bool {
        self.inner.all_accepted()
    }

    /// The final reply: to the content if the message came so far, else the last that refused. None without any.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        self.last_reply().cloned().map(Reply)
    }

    /// Why recipients have no reply; None if each has one. "lost": the connection ended, nothing was handed over.
    /// "unknown": it ended behind the end of the content, and the server may have the message. "need": the server lacks
    /// what the message needs. "mailmax" (RFC 9422), "aborted", "newline", "8bit", "unwritable": it was not sent.
    #[getter]
    fn failure(&self) -> Option<&'static str> {
        self.inner.failure.as_ref().map(|failure| match failure {
            Failure::Aborted => "aborted",
            Failure::BareNewline(_) => "newline",
            Failure::EightBit => "8bit",
            Failure::Lost => "lost",
            Failure::MailMax => "mailmax",
            Failure::Need(_) => "need",
            Failure::Unwritable(_) => "unwritable",
            Failure::Unknown => "unknown",
        })
    }

    /// A sentence about the failure; None without one.
    #[getter]
    fn explanation(&self) -> Option<String> {
        self.inner.failure.as_ref().map(ToString::to_string)
    }

    /// Whether some recipient was not accepted and a later try may help: a 4yz, or the connection was lost.
    #[getter]
    fn is_temporary(&self) -> bool {
        matches!(self.inner.failure, Some(Failure::Lost | Failure::MailMax))
            || self
                .inner
                .recipients
                .iter()
                .any(|one| !one.accepted && one.reply.as_ref().is_some_and(|reply| matches!(reply.code(), 400..=499)))
    }

    /// This result with the recipients that were not tried taken from `rest`: the result of a further attempt, on
    /// another connection, for those and in the same order (RFC 9422 4.1).
    fn completed_by(&self, rest: &Self) -> Self {
        let mut further = rest.inner.recipients.iter();
        let all = self
            .inner
            .recipients
            .iter()
            .map(|one| if one.stage == Stage::Nothing { further.next().unwrap_or(one) } else { one });
        Self::new(client::MessageResult {
            id: self.inner.id,
            recipients: all.cloned().collect(),
            failure: rest.inner.failure.clone(),
        })
    }

    fn __repr__(&self) -> String {
        let accepted = self.inner.recipients.iter().filter(|one| one.accepted).count();
        let failure = self.failure().map_or_else(String::new, |failure| format!(", failure='{failure}'"));
        format!("SendResult({accepted} of {} accepted{failure})", self.inner.recipients.len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.recipients.visit(&visit)
    }
}

/// A reply that nothing had asked for; `ClientDisconnect` follows.
///
/// Example:
///     >>> event.reply.code
///     421
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Unsolicited {
    reply: ehlo::syntax::reply::Reply,
}

#[pymethods]
impl Unsolicited {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("reply",);

    /// What the server said.
    #[getter]
    fn reply(&self) -> Reply {
        Reply(self.reply.clone())
    }

    fn __repr__(&self) -> String {
        format!("Unsolicited({:?})", self.reply.to_string())
    }
}

/// The connection is of no more use. The last event.
///
/// Example:
///     >>> event.reason
///     'quit'
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ClientDisconnect {
    reason: Reason,
}

#[pymethods]
impl ClientDisconnect {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("reason",);

    /// One of "quit", "eof" (the server closed), "timeout", "greeting", "hello" (refused), "tls" (required, none
    /// to be had), "closing" (a 421), "early" (refused while content was sent), "protocol" (the server cannot be
    /// followed) and "aborted" (content was given up behind DATA).
    #[getter]
    fn reason(&self) -> &'static str {
        match self.reason {
            Reason::Aborted => "aborted",
            Reason::Early(_) => "early",
            Reason::Eof => "eof",
            Reason::Greeting(_) => "greeting",
            Reason::Hello(_) => "hello",
            Reason::Protocol(_) => "protocol",
            Reason::Quit => "quit",
            Reason::ServiceClosing(_) => "closing",
            Reason::Timeout => "timeout",
            Reason::Tls(_) => "tls",
        }
    }

    /// The reply that ended it, if one did.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        match &self.reason {
            Reason::Early(reply)
            | Reason::Greeting(reply)
            | Reason::Hello(reply)
            | Reason::ServiceClosing(reply)
            | Reason::Protocol(client::ProtocolFault::WrongClass(reply))
            | Reason::Tls(Some(reply)) => Some(Reply(reply.clone())),
            _ => None,
        }
    }

    /// A sentence about it.
    #[getter]
    fn explanation(&self) -> String {
        self.reason.to_string()
    }

    fn __repr__(&self) -> String {
        format!("ClientDisconnect('{}')", self.reason())
    }
}
