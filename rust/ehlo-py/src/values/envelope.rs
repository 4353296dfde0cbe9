//! The envelope: the sender and the recipients of a message, with their ESMTP parameters.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ehlo::session;
use ehlo::syntax::address::{ForwardPath, ReversePath};
use ehlo::syntax::options::{Options, Parameters, UnknownParameters};
use ehlo::syntax::parameter::{AuthParameter, Body, ByMode, Hold, MailParameters, RcptParameters, Ret, RrvsAction};
use ehlo::wire::xtext;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert::{Reduced, restoring};
use crate::error::misuse;
use crate::lazy::Lazy;
use crate::values::address::{forward_path, forward_path_of, reverse_path, reverse_path_of};

/// What MAIL says: the reverse-path and its parameters. A parameter that was not given is None.
///
/// A server reads it, a client may be given it: then SIZE, BODY and SMTPUTF8 follow from the content as well.
///
/// Args:
///     path: a mailbox, or "" or `NULL` for the null reverse-path (RFC 5321 4.5.5).
///     body: "7BIT", "8BITMIME" (RFC 6152) or "BINARYMIME" (RFC 3030). smtputf8: RFC 6531.
///     ret, envid: RFC 3461 4.3, 4.4. auth: who submitted it, or "<>" (RFC 4954 5).
///     deliver_by: seconds, "N" or "R", and whether to trace (RFC 2852 4).
///     hold_for: seconds; hold_until: a UTC time in RFC 3339 (RFC 4865 4).
///     mt_priority: from -9 to 9 (RFC 6710). requiretls: RFC 8689.
///
/// Raises:
///     LocalProtocolError: for a path or a value that is none.
///
/// Example:
///     >>> ehlo.Sender("jane@example.org", ret="HDRS", envid="order 7").parameters
///     (('RET', 'HDRS'), ('ENVID', 'order+207'))
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Sender {
    inner: Arc<session::Sender>,
    parameters: Lazy<PyTuple>,
    path: Lazy<PyAny>,
}

impl Sender {
    pub(crate) fn wrap(inner: Arc<session::Sender>) -> Self {
        Self { inner, parameters: Lazy::new(), path: Lazy::new() }
    }
}

/// The path and the parameters as they were written. Their order and the case of a keyword say nothing (RFC 5321
/// 4.1.1.11, 2.4).
impl PartialEq for Sender {
    fn eq(&self, other: &Self) -> bool {
        self.inner.path == other.inner.path
            && sorted(self.inner.parameters.iter()) == sorted(other.inner.parameters.iter())
    }
}

impl Hash for Sender {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.path.hash(state);
        sorted(self.inner.parameters.iter()).hash(state);
    }
}

#[pymethods]
impl Sender {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("path",);

    #[new]
    #[pyo3(signature = (path, *, body = None, smtputf8 = false, ret = None, envid = None, auth = None, deliver_by = None,
        hold_for = None, hold_until = None, mt_priority = None, requiretls = false))]
    #[allow(clippy::too_many_arguments)] // they are the parameters of MAIL
    fn new(
        path: &Bound<'_, PyAny>,
        body: Option<&str>,
        smtputf8: bool,
        ret: Option<&str>,
        envid: Option<&str>,
        auth: Option<&str>,
        deliver_by: Option<(i64, String, bool)>,
        hold_for: Option<u64>,
        hold_until: Option<&str>,
        mt_priority: Option<i64>,
        requiretls: bool,
    ) -> PyResult<Self> {
        let path = reverse_path_of(path)?;
        let mut words = Words::default();
        words.add("BODY", body.map(str::to_owned));
        words.flag("SMTPUTF8", smtputf8);
        words.add("RET", ret.map(str::to_owned));
        words.add("ENVID", envid.map(|envid| xtext::encode(envid.as_bytes())));
        words.add("AUTH", auth.map(|auth| if auth == "<>" { auth.to_owned() } else { xtext::encode(auth.as_bytes()) }));
        words.add(
            "BY",
            deliver_by.map(|(seconds, mode, trace)| format!("{seconds};{mode}{}", if trace { "T" } else { "" })),
        );
        words.add("HOLDFOR", hold_for.map(|seconds| seconds.to_string()));
        words.add("HOLDUNTIL", hold_until.map(str::to_owned));
        words.add("MT-PRIORITY", mt_priority.map(|priority| priority.to_string()));
        words.flag("REQUIRETLS", requiretls);
        let parameters = MailParameters::parse(&words.0, &words.options()).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Sender { path, parameters })))
    }

    /// The one that a MAIL command with these parameters stands for.
    ///
    /// Every parameter is kept, one that ehlo does not know too. It is the way back from `mail_parameters`.
    ///
    /// Args:
    ///     path: as for `Sender`.
    ///     parameters: what stands behind the path, like "SIZE=1000 BODY=8BITMIME" (RFC 5321 4.1.1.11).
    ///
    /// Raises:
    ///     LocalProtocolError: for a path or a parameter that is none.
    #[classmethod]
    #[pyo3(signature = (path, parameters = ""))]
    fn from_parameters(_class: &Bound<'_, PyType>, path: &Bound<'_, PyAny>, parameters: &str) -> PyResult<Self> {
        let path = reverse_path_of(path)?;
        let parameters = MailParameters::parse(parameters, &Options::default()).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Sender { path, parameters })))
    }

    /// What `__reduce__` names: a path and parameters that were read before. Of the parameters, `known` have a field.
    #[classmethod]
    fn _restore(_class: &Bound<'_, PyType>, path: &str, parameters: &str, known: Vec<String>) -> PyResult<Self> {
        let all = Options::accepting_all();
        let path = ReversePath::parse(path, &all).map_err(misuse)?.into_owned();
        let offered = known.iter().filter_map(|keyword| offer(keyword)).fold(Parameters::NONE, Parameters::with);
        let options = Options { parameters: offered, ..all };
        let parameters = MailParameters::parse(parameters, &options).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Sender { path, parameters })))
    }

    /// For pickling and copying.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (String, String, Vec<&'static str>)>> {
        let session::Sender { path, parameters } = &*slf.get().inner;
        let known = [
            (parameters.size.is_some(), "SIZE"),
            (parameters.body.is_some(), "BODY"),
            (parameters.smtputf8, "SMTPUTF8"),
            (parameters.ret.is_some(), "RET"),
            (parameters.envid.is_some(), "ENVID"),
            (parameters.auth.is_some(), "AUTH"),
            (parameters.by.is_some(), "BY"),
            (parameters.hold.is_some(), "HOLD"),
            (parameters.mt_priority.is_some(), "MT-PRIORITY"),
            (parameters.requiretls, "REQUIRETLS"),
        ];
        let known = known.into_iter().filter_map(|(is_set, keyword)| is_set.then_some(keyword)).collect();
        restoring(slf, (path.as_written().to_owned(), parameters.raw.clone().into_owned(), known))
    }

    /// Every parameter as it was written, known or not, as one text: the Mail-parameters of RFC 5321 4.1.2.
    #[getter]
    fn mail_parameters(&self) -> &str {
        &self.inner.parameters.raw
    }

    /// An `Address`, or `NULL` (RFC 5321 4.5.5).
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.path.get(py, || reverse_path(py, &self.inner.path))
    }

    /// SIZE: octets the client means to send (RFC 1870).
    #[getter]
    fn size(&self) -> Option<u64> {
        self.inner.parameters.size
    }

    /// BODY: "7BIT", "8BITMIME" (RFC 6152) or "BINARYMIME" (RFC 3030).
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyString>> {
        self.inner.parameters.body.map(|body| match body {
            Body::SevenBit => intern!(py, "7BIT"),
            Body::EightBitMime => intern!(py, "8BITMIME"),
            Body::BinaryMime => intern!(py, "BINARYMIME"),
        })
    }

    /// Whether SMTPUTF8 was given (RFC 6531 3.4).
    #[getter]
    fn smtputf8(&self) -> bool {
        self.inner.parameters.smtputf8
    }

    /// RET: "FULL" or "HDRS" (RFC 3461 4.3).
    #[getter]
    fn ret<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyString>> {
        self.inner.parameters.ret.map(|ret| match ret {
            Ret::Full => intern!(py, "FULL"),
            Ret::Headers => intern!(py, "HDRS"),
        })
    }

    /// ENVID, decoded (RFC 3461 4.4).
    #[getter]
    fn envid(&self) -> Option<&str> {
        self.inner.parameters.envid.as_deref()
    }

    /// AUTH: the mailbox that submitted the message, or "<>" (RFC 4954 5). To be believed of trusted clients.
    #[getter]
    fn auth(&self) -> Option<&str> {
        self.inner.parameters.auth.as_ref().map(|auth| match auth {
            AuthParameter::Null => "<>",
            AuthParameter::Mailbox(mailbox) => &**mailbox,
        })
    }

    /// BY: seconds (of any sign), "N" or "R", and whether to trace (RFC 2852 4).
    #[getter]
    fn deliver_by<'py>(&self, py: Python<'py>) -> Option<(i32, &Bound<'py, PyString>, bool)> {
        self.inner.parameters.by.map(|by| {
            let mode = match by.mode {
                ByMode::Notify => intern!(py, "N"),
                ByMode::Return => intern!(py, "R"),
            };
            (by.seconds, mode, by.trace)
        })
    }

    /// HOLDFOR: seconds (RFC 4865 4).
    #[getter]
    fn hold_for(&self) -> Option<u32> {
        match &self.inner.parameters.hold {
            Some(Hold::For(seconds)) => Some(*seconds),
            _ => None,
        }
    }

    /// HOLDUNTIL: an RFC 3339 time (RFC 4865 4).
    #[getter]
    fn hold_until(&self) -> Option<String> {
        match &self.inner.parameters.hold {
            Some(Hold::Until(time)) => Some(time.to_string()),
            _ => None,
        }
    }

    /// MT-PRIORITY: from -9 to 9 (RFC 6710).
    #[getter]
    fn mt_priority(&self) -> Option<i8> {
        self.inner.parameters.mt_priority
    }

    /// Whether REQUIRETLS was given (RFC 8689).
    #[getter]
    fn requiretls(&self) -> bool {
        self.inner.parameters.requiretls
    }

    /// Every parameter as it was written, known or not, in order: keyword and value.
    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.parameters.get(py, || pairs(py, self.inner.parameters.iter()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Sender({}{})", self.path(py)?.repr()?, spaced(&self.inner.parameters.raw)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parameters.visit(&visit)?;
        self.path.visit(&visit)
    }
}

/// What one RCPT says: the forward-path and its parameters. A parameter that was not given is None.
///
/// Args:
///     path: a mailbox, or "Postmaster" (RFC 5321 4.1.1.3).
///     notify: "NEVER" alone, or of "SUCCESS", "FAILURE", "DELAY" (RFC 3461 4.1).
///     orcpt: type and address of the original recipient (RFC 3461 4.2).
///     rrvs: an RFC 3339 time, and "C", "R" or None (RFC 7293 3).
///
/// Raises:
///     LocalProtocolError: for a path or a value that is none.
///
/// Example:
///     >>> ehlo.Recipient("joe@example.org", notify=("FAILURE",)).path.domain
///     'example.org'
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Recipient {
    inner: Arc<session::Recipient>,
    parameters: Lazy<PyTuple>,
    path: Lazy<PyAny>,
}

impl Recipient {
    pub(crate) fn wrap(inner: Arc<session::Recipient>) -> Self {
        Self { inner, parameters: Lazy::new(), path: Lazy::new() }
    }
}

/// The path and the parameters as they were written. Their order and the case of a keyword say nothing (RFC 5321
/// 4.1.1.11, 2.4).
impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.inner.path == other.inner.path
            && sorted(self.inner.parameters.iter()) == sorted(other.inner.parameters.iter())
    }
}

impl Hash for Recipient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.path.hash(state);
        sorted(self.inner.parameters.iter()).hash(state);
    }
}

#[pymethods]
impl Recipient {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("path",);

    #[new]
    #[pyo3(signature = (path, *, notify = None, orcpt = None, rrvs = None))]
    fn new(
        path: &Bound<'_, PyAny>,
        notify: Option<&Bound<'_, PyAny>>,
        orcpt: Option<(String, String)>,
        rrvs: Option<(String, Option<String>)>,
    ) -> PyResult<Self> {
        let path = forward_path_of(path)?;
        let mut words = Words::default();
        if let Some(notify) = notify {
            let mut names = notify.try_iter()?.map(|name| name?.extract()).collect::<PyResult<Vec<String>>>()?;
            names.sort_unstable_by(|one, other| other.cmp(one)); // a set has no order of its own
            words.add("NOTIFY", Some(names.join(",")));
        }
        words.add(
            "ORCPT",
            orcpt.map(|(kind, address)| {
                let utf8 = kind.eq_ignore_ascii_case("utf-8");
                let address = if utf8 { xtext::encode_utf8_addr(&address) } else { xtext::encode(address.as_bytes()) };
                format!("{kind};{address}")
            }),
        );
        words.add(
            "RRVS",
            rrvs.map(|(since, action)| action.map_or(since.clone(), |action| format!("{since};{action}"))),
        );
        let parameters = RcptParameters::parse(&words.0, &words.options()).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Recipient { path, parameters })))
    }

    /// The one that a RCPT command with these parameters stands for.
    ///
    /// Every parameter is kept, one that ehlo does not know too. It is the way back from `rcpt_parameters`.
    ///
    /// Args:
    ///     path: as for `Recipient`.
    ///     parameters: what stands behind the path, like "NOTIFY=NEVER" (RFC 5321 4.1.1.11).
    ///
    /// Raises:
    ///     LocalProtocolError: for a path or a parameter that is none.
    #[classmethod]
    #[pyo3(signature = (path, parameters = ""))]
    fn from_parameters(_class: &Bound<'_, PyType>, path: &Bound<'_, PyAny>, parameters: &str) -> PyResult<Self> {
        let path = forward_path_of(path)?;
        let parameters = RcptParameters::parse(parameters, &Options::default()).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Recipient { path, parameters })))
    }

    /// What `__reduce__` names: a path and parameters that were read before. Of the parameters, `known` have a field.
    #[classmethod]
    fn _restore(_class: &Bound<'_, PyType>, path: &str, parameters: &str, known: Vec<String>) -> PyResult<Self> {
        let all = Options::accepting_all();
        let path = ForwardPath::parse(path, &all).map_err(misuse)?.into_owned();
        let offered = known.iter().filter_map(|keyword| offer(keyword)).fold(Parameters::NONE, Parameters::with);
        let options = Options { parameters: offered, ..all };
        let parameters = RcptParameters::parse(parameters, &options).map_err(misuse)?.into_owned();
        Ok(Self::wrap(Arc::new(session::Recipient { path, parameters })))
    }

    /// For pickling and copying.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (String, String, Vec<&'static str>)>> {
        let session::Recipient { path, parameters } = &*slf.get().inner;
        let known = [
            (parameters.notify.is_some(), "NOTIFY"),
            (parameters.orcpt.is_some(), "ORCPT"),
            (parameters.rrvs.is_some(), "RRVS"),
        ];
        let known = known.into_iter().filter_map(|(is_set, keyword)| is_set.then_some(keyword)).collect();
        restoring(slf, (path.as_written().to_owned(), parameters.raw.clone().into_owned(), known))
    }

    /// Every parameter as it was written, known or not, as one text: the Rcpt-parameters of RFC 5321 4.1.2.
    #[getter]
    fn rcpt_parameters(&self) -> &str {
        &self.inner.parameters.raw
    }

    /// An `Address`, or a `Postmaster` without domain (RFC 5321 4.5.1).
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.path.get(py, || forward_path(py, &self.inner.path))
    }

    /// The domain of the path in lower case, or an address literal with its brackets; None for `<Postmaster>`.
    #[getter]
    fn domain(&self) -> Option<String> {
        match &self.inner.path {
            ForwardPath::Address(address) => Some(address.domain().to_lowercase()),
            ForwardPath::Postmaster(_) => None,
        }
    }

    /// NOTIFY: of "NEVER", "SUCCESS", "FAILURE", "DELAY" (RFC 3461 4.1).
    #[getter]
    fn notify<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyFrozenSet>>> {
        let Some(notify) = &self.inner.parameters.notify else { return Ok(None) };
        let names = [
            (notify.never, intern!(py, "NEVER")),
            (notify.success, intern!(py, "SUCCESS")),
            (notify.failure, intern!(py, "FAILURE")),
            (notify.delay, intern!(py, "DELAY")),
        ];
        PyFrozenSet::new(py, names.into_iter().filter_map(|(set, name)| set.then_some(name))).map(Some)
    }

    /// ORCPT: type and decoded address of the original recipient (RFC 3461 4.2, RFC 6533 3).
    #[getter]
    fn orcpt(&self) -> Option<(&str, &str)> {
        self.inner.parameters.orcpt.as_ref().map(|orcpt| (&*orcpt.addr_type, &*orcpt.address))
    }

    /// RRVS: the time since when the owner of the mailbox is the same, and "C" or "R" (RFC 7293 3).
    #[getter]
    fn rrvs<'py>(&self, py: Python<'py>) -> Option<(String, Option<&Bound<'py, PyString>>)> {
        self.inner.parameters.rrvs.as_ref().map(|rrvs| {
            let action = rrvs.action.map(|action| match action {
                RrvsAction::Continue => intern!(py, "C"),
                RrvsAction::Reject => intern!(py, "R"),
            });
            (rrvs.since.to_string(), action)
        })
    }

    /// Every parameter as it was written, known or not, in order: keyword and value.
    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.parameters.get(py, || pairs(py, self.inner.parameters.iter()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Recipient({}{})", self.path(py)?.repr()?, spaced(&self.inner.parameters.raw)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.parameters.visit(&visit)?;
        self.path.visit(&visit)
    }
}

/// Sender and accepted recipients of one transaction, in the order they came (RFC 5321 2.3.1).
///
/// The engine makes it. A program that hands a changed one on makes its own.
///
/// Args:
///     sender: who the message is from.
///     recipients: whom it is for.
///
/// Example:
///     >>> [str(recipient.path) for recipient in envelope.recipients]
///     ['joe@example.org', 'jim@example.org']
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Envelope {
    inner: session::Envelope,
    recipients: Lazy<PyTuple>,
    sender: Lazy<Sender>,
}

impl Envelope {
    pub(crate) fn wrap(inner: session::Envelope) -> Self {
        Self { inner, recipients: Lazy::new(), sender: Lazy::new() }
    }
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.inner, &other.inner);
        same_sender(&one.sender, &other.sender)
            && one.recipients.len() == other.recipients.len()
            && one.recipients.iter().zip(&other.recipients).all(|(one, other)| same_recipient(one, other))
    }
}

impl Hash for Envelope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Sender::wrap(Arc::clone(&self.inner.sender)).hash(state);
        self.inner.recipients.iter().for_each(|one| hash_recipient(one, state));
    }
}

#[pymethods]
impl Envelope {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("sender", "recipients");

    #[new]
    fn new(sender: &Sender, recipients: Vec<PyRef<'_, Recipient>>) -> Self {
        let recipients = recipients.iter().map(|recipient| Arc::clone(&recipient.inner)).collect();
        Self::wrap(session::Envelope { sender: Arc::clone(&sender.inner), recipients })
    }

    /// For pickling and copying.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (Bound<'py, Sender>, Bound<'py, PyTuple>)>> {
        let (this, py) = (slf.get(), slf.py());
        Ok((slf.get_type().into_any(), (this.sender(py)?, this.recipients(py)?)))
    }

    /// Who the message is from.
    #[getter]
    fn sender<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Sender>> {
        self.sender.get(py, || Bound::new(py, Sender::wrap(self.inner.sender.clone())))
    }

    /// Whom it is for. Duplicates are kept: LMTP answers each (RFC 2033 4.2).
    #[getter]
    fn recipients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.recipients.get(py, || {
            let recipients = self.inner.recipients.iter().map(|recipient| Recipient::wrap(recipient.clone()));
            PyTuple::new(py, recipients)
        })
    }

    /// Whether MAIL carried SMTPUTF8 (RFC 6531 3.4).
    #[getter]
    fn smtputf8(&self) -> bool {
        self.inner.smtputf8()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Envelope(sender={}, recipients={})", self.sender(py)?.repr()?, self.recipients(py)?.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.recipients.visit(&visit)?;
        self.sender.visit(&visit)
    }
}

/// Who a message is from, as a program may say it.
pub(crate) fn sender_like(sender: &Bound<'_, PyAny>) -> PyResult<Arc<session::Sender>> {
    match sender.cast::<Sender>() {
        Ok(sender) => Ok(Arc::clone(&sender.get().inner)),
        Err(_) => {
            Ok(Arc::new(session::Sender { path: reverse_path_of(sender)?, parameters: MailParameters::default() }))
        }
    }
}

/// Whom a message is for, as a program may say it.
pub(crate) fn recipient_like(recipient: &Bound<'_, PyAny>) -> PyResult<Arc<session::Recipient>> {
    match recipient.cast::<Recipient>() {
        Ok(recipient) => Ok(Arc::clone(&recipient.get().inner)),
        Err(_) => {
            let path = forward_path_of(recipient)?;
            Ok(Arc::new(session::Recipient { path, parameters: RcptParameters::default() }))
        }
    }
}

fn same_sender(one: &Arc<session::Sender>, other: &Arc<session::Sender>) -> bool {
    Sender::wrap(Arc::clone(one)) == Sender::wrap(Arc::clone(other))
}

/// Whether two recipients are equal as `Recipient` has it.
pub(crate) fn same_recipient(one: &Arc<session::Recipient>, other: &Arc<session::Recipient>) -> bool {
    Recipient::wrap(Arc::clone(one)) == Recipient::wrap(Arc::clone(other))
}

/// The hash of `Recipient`.
pub(crate) fn hash_recipient<H: Hasher>(recipient: &Arc<session::Recipient>, state: &mut H) {
    Recipient::wrap(Arc::clone(recipient)).hash(state);
}

/// Parameters without order, their keywords without case.
fn sorted<'a>(parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<(String, Option<&'a str>)> {
    let mut all: Vec<_> = parameters.map(|(keyword, value)| (keyword.to_ascii_uppercase(), value)).collect();
    all.sort_unstable();
    all
}

/// The offer that gives a parameter its field.
fn offer(keyword: &str) -> Option<Parameters> {
    Some(match keyword {
        "SIZE" => Parameters::SIZE,
        "BODY" => Parameters::BODY | Parameters::BINARYMIME,
        "SMTPUTF8" => Parameters::SMTPUTF8,
        "RET" => Parameters::RET,
        "ENVID" => Parameters::ENVID,
        "AUTH" => Parameters::AUTH,
        "BY" => Parameters::BY,
        "HOLD" => Parameters::HOLD,
        "MT-PRIORITY" => Parameters::MT_PRIORITY,
        "REQUIRETLS" => Parameters::REQUIRETLS,
        "NOTIFY" => Parameters::NOTIFY,
        "ORCPT" => Parameters::ORCPT,
        "RRVS" => Parameters::RRVS,
        _ => return None,
    })
}

/// Parameters as they are written, to be read by the grammar: so a value that cannot be sent is found at once.
#[derive(Default)]
struct Words(String);

impl Words {
    fn add(&mut self, keyword: &str, value: Option<String>) {
        self.flag(keyword, value.is_some());
        if let Some(value) = value {
            self.0.push('=');
            self.0.push_str(&value);
        }
    }

    fn flag(&mut self, keyword: &str, set: bool) {
        if set {
            if !self.0.is_empty() {
                self.0.push(' ');
            }
            self.0.push_str(keyword);
        }
    }

    /// Every parameter is known, and nothing else is one.
    fn options(&self) -> Options {
        Options { unknown_parameters: UnknownParameters::Reject, ..Options::default() }
    }
}

fn pairs<'a, 'py>(
    py: Python<'py>,
    parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, parameters.collect::<Vec<_>>())
}

fn spaced(raw: &str) -> String {
    if raw.is_empty() { String::new() } else { format!(", {raw:?}") }
}
