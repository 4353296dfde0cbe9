//! The events of a client: one frozen class for each.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use ehlo::session::Recipient as Receiver;
use ehlo::session::client::{self, ClientDisconnect as Reason, Failure, Stage};
use ehlo::syntax::address::ForwardPath;
use ehlo::syntax::command::Verb;
use ehlo::syntax::parameter::RcptParameters;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert::{Reduced, object, restoring, verb_name};
use crate::error::unexpected_word;
use crate::lazy::Lazy;
use crate::server::event::StartTls;
use crate::values::address::forward_path;
use crate::values::envelope::{Recipient, hash_recipient, recipient_like, same_recipient};
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
    verb: Option<Verb>,
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

    /// Which it was, like "NOOP"; None for a command that the engine does not know.
    #[getter]
    fn verb<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.verb.map(|verb| verb_name(py, verb))
    }

    /// What the server said; None if the connection ended before.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        self.reply.clone().map(Reply)
    }

    fn __repr__(&self) -> String {
        match self.verb {
            Some(verb) => format!("CommandReply({}, '{}')", self.id, verb.as_str()),
            None => format!("CommandReply({}, None)", self.id),
        }
    }
}

/// What became of a message for one recipient.
///
/// Example:
///     >>> result.recipients[0].accepted, str(result.recipients[0].reply)
///     (True, '250 2.0.0 OK')
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct RecipientResult {
    inner: Fate,
    path: Lazy<PyAny>,
    recipient: Lazy<PyAny>,
}

/// What became of a message for one recipient, or of a recipient that is no address and was never sent.
#[derive(Clone)]
struct Fate {
    result: client::RecipientResult,
    /// The text that is no address. `result.recipient` stands in for it then, and has no meaning.
    no_address: Option<Arc<str>>,
}

impl Deref for Fate {
    type Target = client::RecipientResult;

    fn deref(&self) -> &Self::Target {
        &self.result
    }
}

impl From<client::RecipientResult> for Fate {
    fn from(result: client::RecipientResult) -> Self {
        Self { result, no_address: None }
    }
}

impl Fate {
    fn refused(text: String, reply: Arc<ehlo::syntax::reply::Reply>) -> Self {
        let recipient =
            Receiver { path: ForwardPath::Postmaster("postmaster".into()), parameters: RcptParameters::default() };
        let result = client::RecipientResult {
            recipient: Arc::new(recipient),
            accepted: false,
            reply: Some(reply),
            stage: Stage::Rcpt,
            rcpt: None,
        };
        Self { result, no_address: Some(text.into()) }
    }
}

impl RecipientResult {
    fn wrap(inner: Fate) -> Self {
        Self { inner, path: Lazy::new(), recipient: Lazy::new() }
    }
}

impl PartialEq for RecipientResult {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.inner, &other.inner);
        one.no_address == other.no_address
            && same_recipient(&one.recipient, &other.recipient)
            && (one.accepted, one.stage) == (other.accepted, other.stage)
            && (&one.reply, &one.rcpt) == (&other.reply, &other.rcpt)
    }
}

impl Hash for RecipientResult {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.no_address.hash(state);
        hash_recipient(&self.inner.recipient, state);
        (self.inner.accepted, &self.inner.reply, &self.inner.rcpt).hash(state);
    }
}

#[pymethods]
impl RecipientResult {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("path", "reply");

    /// What `__reduce__` names: the parts of a result that exists.
    #[classmethod]
    fn _restore(
        _class: &Bound<'_, PyType>,
        recipient: &Bound<'_, PyAny>,
        accepted: bool,
        reply: Option<PyRef<'_, Reply>>,
        stage: Option<&str>,
        rcpt: Option<PyRef<'_, Reply>>,
    ) -> PyResult<Self> {
        if let (Ok(text), Some(reply)) = (recipient.extract::<String>(), &reply) {
            return Ok(Self::wrap(Fate::refused(text, Arc::new(reply.0.clone()))));
        }
        let stage = match stage {
            None => Stage::Nothing,
            Some("mail") => Stage::Mail,
            Some("rcpt") => Stage::Rcpt,
            Some("data") => Stage::Data,
            Some("content") => Stage::Content,
            Some(other) => return Err(unexpected_word(other, &["mail", "rcpt", "data", "content"])),
        };
        let kept = |reply: Option<PyRef<'_, Reply>>| reply.map(|reply| Arc::new(reply.0.clone()));
        let recipient = recipient_like(recipient)?;
        let result = client::RecipientResult { recipient, accepted, reply: kept(reply), stage, rcpt: kept(rcpt) };
        Ok(Self::wrap(result.into()))
    }

    /// For pickling and copying.
    #[allow(clippy::type_complexity)] // the arguments of `_restore`
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<Reduced<'py, (Bound<'py, PyAny>, bool, Option<Reply>, Option<&'static str>, Option<Reply>)>> {
        let this = slf.get();
        let recipient = this.recipient(slf.py())?;
        restoring(slf, (recipient, this.accepted(), this.reply(), this.stage(), this.rcpt()))
    }

    /// The forward-path and parameters as they were given; a `str` that is no address (`refuse_invalid`).
    #[getter]
    fn recipient<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.recipient.get(py, || match &self.inner.no_address {
            Some(text) => Ok(PyString::new(py, text).into_any()),
            None => Ok(Bound::new(py, Recipient::wrap(Arc::clone(&self.inner.recipient)))?.into_any()),
        })
    }

    /// An `Address`, or a `Postmaster` without domain; a `str` that is no address (`refuse_invalid`).
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.path.get(py, || match &self.inner.no_address {
            Some(text) => Ok(PyString::new(py, text).into_any()),
            None => forward_path(py, &self.inner.recipient.path),
        })
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
        match &self.inner.no_address {
            Some(text) => format!("RecipientResult({text:?}, {reply:?})"),
            None => format!("RecipientResult({}, {reply:?})", self.inner.recipient.path),
        }
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
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct SendResult {
    id: u64,
    all: Vec<Fate>,
    failure: Option<(Cow<'static, str>, String)>,
    recipients: Lazy<PyTuple>,
}

impl SendResult {
    fn new(result: client::MessageResult) -> Self {
        let failure = result.failure.as_ref().map(|failure| (failure_name(failure).into(), failure.to_string()));
        let all = result.recipients.into_iter().map(Fate::from).collect();
        Self { id: result.id, all, failure, recipients: Lazy::new() }
    }

    fn those<'py>(&self, py: Python<'py>, accepted: bool) -> PyResult<Bound<'py, PyTuple>> {
        let all = self.recipients(py)?;
        let those = all.iter().zip(&self.all).filter(|(_, inner)| inner.accepted == accepted);
        PyTuple::new(py, those.map(|(one, _)| one).collect::<Vec<_>>())
    }

    /// The reply that says most of the whole: to the content if it came so far.
    fn last_reply(&self) -> Option<&ehlo::syntax::reply::Reply> {
        let of = |stage| self.all.iter().rev().find(|one| one.stage == stage).and_then(|one| one.reply.as_deref());
        [Stage::Content, Stage::Data, Stage::Rcpt, Stage::Mail].into_iter().find_map(of)
    }
}

fn failure_name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Aborted => "aborted",
        Failure::BareNewline(_) => "newline",
        Failure::EightBit => "8bit",
        Failure::Lost => "lost",
        Failure::MailMax => "mailmax",
        Failure::Need(_) => "need",
        Failure::Unwritable(_) => "unwritable",
        Failure::Unknown => "unknown",
    }
}

impl PartialEq for SendResult {
    fn eq(&self, other: &Self) -> bool {
        let wrap = |one: &Fate| RecipientResult::wrap(one.clone());
        (self.id, &self.failure) == (other.id, &other.failure)
            && self.all.iter().map(wrap).eq(other.all.iter().map(wrap))
    }
}

impl Hash for SendResult {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.id, &self.failure).hash(state);
        self.all.iter().for_each(|one| RecipientResult::wrap(one.clone()).hash(state));
    }
}

#[pymethods]
impl SendResult {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("recipients",);

    /// What `__reduce__` names: the parts of a result that exists.
    #[classmethod]
    fn _restore(
        _class: &Bound<'_, PyType>,
        id: u64,
        recipients: Vec<PyRef<'_, RecipientResult>>,
        failure: Option<(String, String)>,
    ) -> Self {
        let all = recipients.iter().map(|one| one.inner.clone()).collect();
        let failure = failure.map(|(name, sentence)| (name.into(), sentence));
        Self { id, all, failure, recipients: Lazy::new() }
    }

    /// For pickling and copying.
    #[allow(clippy::type_complexity)] // the arguments of `_restore`
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<Reduced<'py, (u64, Bound<'py, PyTuple>, Option<(String, String)>)>> {
        let this = slf.get();
        let failure = this.failure.clone().map(|(name, sentence)| (name.into_owned(), sentence));
        restoring(slf, (this.id, this.recipients(slf.py())?, failure))
    }

    /// Of the message, as `send_message` gave it.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// One for each recipient, in the order they were given.
    #[getter]
    fn recipients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.recipients.get(py, || PyTuple::new(py, self.all.iter().cloned().map(RecipientResult::wrap)))
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
        self.all.iter().all(|one| one.accepted)
    }

    /// The final reply: to the content if the message came so far, else the last that refused. None without any.
    ///
    /// It is positive when some recipients were refused and the others accepted. A proxy passes `worst` on.
    #[getter]
    fn reply(&self) -> Option<Reply> {
        self.last_reply().cloned().map(Reply)
    }

    /// The reply that says the worst of all recipients: a 5yz, else a 4yz, else the first that accepted (RFC 5321
    /// 4.2.1). A proxy may pass it on for all of them. None where a recipient has no reply: see `failure`.
    #[getter]
    fn worst(&self) -> Option<Reply> {
        let replies = self.all.iter().map(|one| one.reply.as_deref()).collect::<Option<Vec<_>>>()?;
        // Of equals, `min_by_key` takes the first.
        replies.into_iter().min_by_key(|reply| Reverse(reply.class() as u8)).cloned().map(Reply)
    }

    /// Why recipients have no reply; None if each has one. "lost": the connection ended, nothing was handed over.
    /// "unknown": it ended behind the end of the content, and the server may have the message. "need": the server lacks
    /// what the message needs. "mailmax" (RFC 9422), "aborted", "newline", "8bit", "unwritable": it was not sent.
    #[getter]
    fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|(name, _)| &**name)
    }

    /// A sentence about the failure; None without one.
    #[getter]
    fn explanation(&self) -> Option<&str> {
        self.failure.as_ref().map(|(_, sentence)| &**sentence)
    }

    /// Whether some recipient was not accepted and a later try may help: a 4yz, or the connection was lost.
    #[getter]
    fn is_temporary(&self) -> bool {
        matches!(self.failure(), Some("lost" | "mailmax"))
            || self
                .all
                .iter()
                .any(|one| !one.accepted && one.reply.as_ref().is_some_and(|reply| matches!(reply.code(), 400..=499)))
    }

    /// This result with the recipients that were not tried taken from `rest`: the result of a further attempt, on
    /// another connection, for those and in the same order (RFC 9422 4.1).
    fn completed_by(&self, rest: &Self) -> Self {
        let mut further = rest.all.iter();
        let all =
            self.all.iter().map(|one| if one.stage == Stage::Nothing { further.next().unwrap_or(one) } else { one });
        Self { id: self.id, all: all.cloned().collect(), failure: rest.failure.clone(), recipients: Lazy::new() }
    }

    /// The result of a message without recipients: nothing was sent.
    #[staticmethod]
    fn unsent() -> Self {
        Self { id: 0, all: Vec::new(), failure: None, recipients: Lazy::new() }
    }

    /// This result and recipients that are no addresses: for each its place among all recipients, its text, and the
    /// reply that says why it is refused.
    fn with_refused(&self, refused: Vec<(usize, String, PyRef<'_, Reply>)>) -> Self {
        let mut all = self.all.clone();
        for (place, text, reply) in refused {
            all.insert(place.min(all.len()), Fate::refused(text, Arc::new(reply.0.clone())));
        }
        Self { id: self.id, all, failure: self.failure.clone(), recipients: Lazy::new() }
    }

    fn __repr__(&self) -> String {
        let accepted = self.all.iter().filter(|one| one.accepted).count();
        let failure = self.failure().map_or_else(String::new, |failure| format!(", failure='{failure}'"));
        format!("SendResult({accepted} of {} accepted{failure})", self.all.len())
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
