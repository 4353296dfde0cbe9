//! What a server offers, asks and bears.

use std::sync::Arc;
use std::time::Duration;

use ehlo::session::FutureRelease;
use ehlo::session::{self, ContentMode, Decisions, InjectedInput, ServerSettings, TlsFacts, TlsMode};
use ehlo::syntax::datetime::{DateTime, Fraction};
use ehlo::syntax::options::{Leniency, UnknownParameters};
use ehlo::syntax::xattr::AttributeName;
use ehlo::wire::content::BareNewlines;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyString, PyTuple};
use pyo3::{BoundObject, IntoPyObjectExt};

use crate::codec::bare_newlines;
use crate::error::unknown_name;

/// A set of named switches.
type Switches<T> = [(&'static str, fn(&mut T) -> &mut bool)];

const DECISIONS: &Switches<Decisions> = &[
    ("connect", |d| &mut d.connect),
    ("hello", |d| &mut d.hello),
    ("mail", |d| &mut d.mail),
    ("rcpt", |d| &mut d.rcpt),
    ("data", |d| &mut d.data),
    ("message", |d| &mut d.message),
    ("vrfy", |d| &mut d.vrfy),
    ("expn", |d| &mut d.expn),
    ("etrn", |d| &mut d.etrn),
    ("reset", |d| &mut d.reset),
];

const LENIENCIES: &Switches<Leniency> = &[
    ("hello_underscore", |l| &mut l.hello_underscore),
    ("hello_trailing_text", |l| &mut l.hello_trailing_text),
    ("space_after_colon", |l| &mut l.space_after_colon),
    ("bare_paths", |l| &mut l.bare_paths),
    ("extra_space", |l| &mut l.extra_space),
    ("dots_in_local_part", |l| &mut l.dots_in_local_part),
    ("domain_underscore", |l| &mut l.domain_underscore),
    ("general_literals", |l| &mut l.general_literals),
    ("lowercase_xtext", |l| &mut l.lowercase_xtext),
];

/// Switch on those that are named, and all others off.
fn switch<T>(set: &mut T, switches: &Switches<T>, what: &str, names: &Bound<'_, PyAny>) -> PyResult<()> {
    if names.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("expected a collection of words, not a single str"));
    }
    for (_, field) in switches {
        *field(set) = false;
    }
    for name in names.try_iter()? {
        let name = name?;
        let name = name.cast::<PyString>()?.to_str()?;
        let Some((_, field)) = switches.iter().find(|(known, _)| *known == name) else {
            return Err(unknown_name(what, name, &switches.iter().map(|(known, _)| *known).collect::<Vec<_>>()));
        };
        *field(set) = true;
    }
    Ok(())
}

/// The names of those that are on.
fn switched<'py, T>(py: Python<'py>, mut set: T, switches: &Switches<T>) -> PyResult<Bound<'py, PyFrozenSet>> {
    PyFrozenSet::new(py, switches.iter().filter_map(|(name, field)| field(&mut set).then_some(*name)))
}

/// The named departures from the grammar.
pub(crate) fn leniency(names: &Bound<'_, PyAny>) -> PyResult<Leniency> {
    let mut leniency = Leniency::default();
    switch(&mut leniency, LENIENCIES, "a leniency", names)?;
    Ok(leniency)
}

/// What a server offers, asks and bears. Checked once, frozen; one object serves all connections.
///
/// Args:
///     hostname: our name, a domain or an address literal (RFC 5321 4.3.1).
///     lmtp: LMTP instead of SMTP (RFC 2033).
///     decisions: what the program decides, of "connect", "hello", "mail", "rcpt", "data", "message", "vrfy", "expn",
///         "etrn"; "reset" asks for a notice. All else is decided by the engine, without an event.
///     content: "collect" hands the whole content over with the message, "stream" as it comes, "discard" counts it.
///     greeting: text behind the name in the greeting.
///     max_message_size: octets (SIZE, RFC 1870); None for no limit.
///     chunking, binarymime: RFC 3030. smtputf8: RFC 6531. dsn: RFC 3461. rrvs: RFC 7293. help: HELP.
///     limits_keyword: announce LIMITS (RFC 9422).
///     deliver_by: True, or the least seconds accepted (RFC 2852).
///     future_release: the most seconds and the latest RFC 3339 time of a hold (RFC 4865).
///     mt_priority: True, or the name of the profile (RFC 6710).
///     tls: "off", "starttls" (RFC 3207), or "implicit" before the greeting (RFC 8314 3.3).
///     require_tls: nothing but NOOP, EHLO, STARTTLS and QUIT before TLS; not for a public port 25.
///     injected_input: octets in the clear behind STARTTLS: "refuse" with 554 and close, or "drop".
///     requiretls: REQUIRETLS inside TLS (RFC 8689).
///     auth: the SASL mechanisms that AUTH offers, in this order (RFC 4954); none: AUTH is not there.
///     auth_in_clear: those of them that are offered without TLS, too.
///     require_auth: no mail before AUTH (530).
///     proxy: a PROXY header comes first. Only where every client is a trusted proxy.
///     xclient, xforward: the attributes that clients may send once `trusted` is set, like ("NAME", "ADDR"); none: the
///         command is not there.
///     submission: message submission (RFC 6409): AUTH is required, domains must be fully qualified.
///     single_labels: domains of one label that submission takes all the same.
///     bare_newlines: a bare CR or LF in DATA: "reject" with 550, "normalize" to CRLF, or "allow" and flag.
///     bdat_bare_newlines: the same in BDAT, not judged with BODY=BINARYMIME.
///     bare_lf_commands: a bare LF ends a command line, too.
///     unknown_parameters: "reject" with 555, "ignore", or "pass" on to the program.
///     reject_nul, reject_8bit, reject_long_lines: refuse content with a NUL, with undeclared 8-bit octets, or with a
///         line of more than 1000 octets.
///     lenient: departures from the grammar, of "hello_underscore", "hello_trailing_text", "space_after_colon",
///         "bare_paths", "extra_space", "dots_in_local_part", "domain_underscore", "general_literals",
///         "lowercase_xtext".
///     max_local_part: octets, 64 at least.
///     max_command_line: octets with CRLF, 512 at least.
///     max_recipients: of one transaction.
///     max_messages, max_errors, max_junk, max_refused_recipients, max_commands: of one session; None for no limit.
///     max_auth_failures: AUTH commands answered with 5yz, of one session; None for no limit.
///     max_auth_response: octets of a response inside AUTH.
///     command_timeout, content_timeout: seconds (RFC 5321 4.5.3.2).
///     handshake_timeout, proxy_timeout: seconds for a TLS handshake and for a PROXY header.
///
/// Raises:
///     ValueError: for an unknown word, or settings that make no server.
///     TypeError: for an unknown setting, or one of another type.
///
/// Example:
///     >>> config = ehlo.ServerConfig("mx.example.org", decisions=("rcpt", "message"))
///     >>> conn = ehlo.ServerConnection(config)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ServerConfig {
    pub(crate) inner: Arc<session::ServerConfig>,
}

impl ServerConfig {
    fn settings(&self) -> &ServerSettings {
        self.inner.settings()
    }

    fn check(settings: ServerSettings) -> PyResult<Self> {
        let config = session::ServerConfig::new(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner: Arc::new(config) })
    }
}

/// Makes all `changes`, each by `set`; an error names the setting.
pub(crate) fn change<S>(
    settings: &mut S,
    changes: Option<&Bound<'_, PyDict>>,
    set: impl Fn(&mut S, &str, &Bound<'_, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    for (name, value) in changes.into_iter().flatten() {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        set(settings, &name, &value).map_err(|error| {
            let py = value.py();
            let (kind, text) = (error.get_type(py), error.value(py).to_string());
            let named = PyErr::from_type(kind, format!("{name}: {text}"));
            named.set_cause(py, error.cause(py));
            named
        })?;
    }
    Ok(())
}

/// One setting. This is the list of them.
fn set(settings: &mut ServerSettings, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let s = settings;
    match name {
        "hostname" => s.hostname = value.extract()?,
        "lmtp" => s.lmtp = value.extract()?,
        "decisions" => switch(&mut s.decisions, DECISIONS, "a decision", value)?,
        "content" => {
            s.content = match value.extract()? {
                "collect" => ContentMode::Collect,
                "stream" => ContentMode::Stream,
                "discard" => ContentMode::Discard,
                other => return Err(unknown_name("a place for content", other, &["collect", "stream", "discard"])),
            }
        }
        "greeting" => s.greeting = value.extract()?,
        "max_message_size" => s.max_message_size = value.extract()?,
        "chunking" => s.chunking = value.extract()?,
        "binarymime" => s.binarymime = value.extract()?,
        "smtputf8" => s.smtputf8 = value.extract()?,
        "dsn" => s.dsn = value.extract()?,
        "limits_keyword" => s.limits_keyword = value.extract()?,
        "deliver_by" => s.deliver_by = offered(value)?,
        "future_release" => {
            s.future_release = match value.extract::<Option<(u32, String)>>()? {
                None => None,
                Some((max_seconds, until)) => Some(FutureRelease {
                    max_seconds,
                    max_until: DateTime::parse(&until, Fraction::Refused)
                        .map_err(|error| PyValueError::new_err(format!("{until:?}: {error}")))?,
                }),
            }
        }
        "mt_priority" => s.mt_priority = offered(value)?.map(Option::unwrap_or_default),
        "rrvs" => s.rrvs = value.extract()?,
        "tls" => {
            s.tls = match value.extract()? {
                "off" => TlsMode::Off,
                "starttls" => TlsMode::StartTls,
                "implicit" => TlsMode::Implicit,
                other => return Err(unknown_name("a way to TLS", other, &["off", "starttls", "implicit"])),
            }
        }
        "require_tls" => s.require_tls = value.extract()?,
        "injected_input" => {
            s.injected_input = match value.extract()? {
                "refuse" => InjectedInput::Refuse,
                "drop" => InjectedInput::Drop,
                other => return Err(unknown_name("a policy for injected input", other, &["refuse", "drop"])),
            }
        }
        "requiretls" => s.requiretls = value.extract()?,
        "auth" => s.auth = words(value)?,
        "auth_in_clear" => s.auth_in_clear = words(value)?,
        "require_auth" => s.require_auth = value.extract()?,
        "proxy" => s.proxy = value.extract()?,
        "xclient" => s.xclient = attributes(value)?,
        "xforward" => s.xforward = attributes(value)?,
        "submission" => s.submission = value.extract()?,
        "single_labels" => s.single_labels = words(value)?,
        "help" => s.help = value.extract()?,
        "bare_newlines" => s.bare_newlines = bare_newlines(value.extract()?)?,
        "bdat_bare_newlines" => s.bdat_bare_newlines = bare_newlines(value.extract()?)?,
        "bare_lf_commands" => s.bare_lf_commands = value.extract()?,
        "unknown_parameters" => {
            s.unknown_parameters = match value.extract()? {
                "reject" => UnknownParameters::Reject,
                "ignore" => UnknownParameters::Ignore,
                "pass" => UnknownParameters::Pass,
                other => {
                    let known = ["reject", "ignore", "pass"];
                    return Err(unknown_name("a policy for unknown parameters", other, &known));
                }
            }
        }
        "reject_nul" => s.reject_nul = value.extract()?,
        "reject_8bit" => s.reject_8bit = value.extract()?,
        "reject_long_lines" => s.reject_long_lines = value.extract()?,
        "lenient" => s.leniency = leniency(value)?,
        "max_local_part" => s.max_local_part = value.extract()?,
        "max_command_line" => s.limits.command_line = value.extract()?,
        "max_recipients" => s.limits.recipients = value.extract()?,
        "max_messages" => s.limits.messages = value.extract()?,
        "max_errors" => s.limits.errors = value.extract()?,
        "max_junk" => s.limits.junk = value.extract()?,
        "max_refused_recipients" => s.limits.refused_recipients = value.extract()?,
        "max_commands" => s.limits.commands = value.extract()?,
        "max_auth_failures" => s.limits.auth_failures = value.extract()?,
        "max_auth_response" => s.limits.auth_response = value.extract()?,
        "handshake_timeout" => s.timers.handshake = seconds(value)?,
        "proxy_timeout" => s.timers.proxy = seconds(value)?,
        "command_timeout" => s.timers.command = seconds(value)?,
        "content_timeout" => s.timers.content = seconds(value)?,
        _ => return Err(PyTypeError::new_err("there is no such setting")),
    }
    Ok(())
}

/// None and False do not offer it, True offers it without a value, anything else is the value.
fn offered<'py, T>(value: &Bound<'py, PyAny>) -> PyResult<Option<Option<T>>>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    match value.cast_exact::<PyBool>() {
        Ok(offer) => Ok(offer.is_true().then_some(None)),
        Err(_) if value.is_none() => Ok(None),
        Err(_) => Ok(Some(Some(value.extract()?))),
    }
}

fn words(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("expected a sequence of words, not a single str"));
    }
    value.try_iter()?.map(|word| word?.extract()).collect()
}

fn attributes(value: &Bound<'_, PyAny>) -> PyResult<Vec<AttributeName>> {
    let known = AttributeName::ALL.map(AttributeName::as_str);
    let name = |word: &String| {
        AttributeName::parse(word).ok_or_else(|| unknown_name("an attribute of a client", word, &known))
    };
    words(value)?.iter().map(name).collect()
}

pub(crate) fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = value.extract::<f64>()?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(wait) if !wait.is_zero() => Ok(wait),
        _ => Err(PyValueError::new_err(format!("expected seconds, more than none; got {seconds}"))),
    }
}

fn bare_newlines_name(policy: BareNewlines) -> &'static str {
    match policy {
        BareNewlines::Reject => "reject",
        BareNewlines::Normalize => "normalize",
        BareNewlines::Allow => "allow",
    }
}

#[pymethods]
impl ServerConfig {
    #[new]
    #[pyo3(
        signature = (hostname = None, **settings),
        text_signature = "(hostname='localhost', *, lmtp=False, decisions=['message'], content='collect', \
            greeting='', max_message_size=33554432, chunking=True, binarymime=True, smtputf8=True, dsn=True, \
            limits_keyword=True, deliver_by=None, future_release=None, mt_priority=None, rrvs=False, help=True, \
            tls='off', require_tls=False, injected_input='refuse', requiretls=False, auth=(), auth_in_clear=(), \
            require_auth=False, proxy=False, xclient=(), xforward=(), submission=False, single_labels=(), \
            bare_newlines='reject', bdat_bare_newlines='allow', bare_lf_commands=False, \
            unknown_parameters='reject', reject_nul=False, reject_8bit=False, reject_long_lines=False, \
            lenient=['hello_underscore'], max_local_part=64, max_command_line=2048, max_recipients=1000, \
            max_messages=1000, max_errors=20, max_junk=100, max_refused_recipients=None, max_commands=None, \
            max_auth_failures=3, max_auth_response=12288, command_timeout=300.0, content_timeout=300.0, \
            handshake_timeout=60.0, proxy_timeout=5.0)"
    )]
    fn new(hostname: Option<String>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut made = ServerSettings::default();
        if let Some(hostname) = hostname {
            made.hostname = hostname;
        }
        change(&mut made, settings, set)?;
        Self::check(made)
    }

    /// The same with some settings changed, checked anew.
    ///
    /// Example:
    ///     >>> strict = config.replace(lenient=())
    #[pyo3(signature = (**changes), text_signature = "($self, **changes)")]
    fn replace(&self, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut settings = self.settings().clone();
        change(&mut settings, changes, set)?;
        Self::check(settings)
    }

    /// The EHLO keyword lines, without code and CRLF, in the order they are sent in the clear (RFC 5321 4.1.1.1).
    /// Those for `trusted` clients only are not here.
    #[getter]
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.keywords(None, false).collect::<Vec<_>>())
    }

    /// The same inside TLS (RFC 3207 4.2, 4954 3), without what needs channel binding or a client certificate.
    #[getter]
    fn tls_keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.keywords(Some(TlsFacts::default()), false).collect::<Vec<_>>())
    }

    /// Our name (RFC 5321 4.3.1).
    #[getter]
    fn hostname(&self) -> &str {
        &self.settings().hostname
    }

    /// LMTP instead of SMTP (RFC 2033).
    #[getter]
    fn lmtp(&self) -> bool {
        self.settings().lmtp
    }

    /// What the program decides.
    #[getter]
    fn decisions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        switched(py, self.settings().decisions, DECISIONS)
    }

    /// What becomes of content.
    #[getter]
    fn content(&self) -> &'static str {
        match self.settings().content {
            ContentMode::Collect => "collect",
            ContentMode::Stream => "stream",
            ContentMode::Discard => "discard",
        }
    }

    /// Text behind the name in the greeting.
    #[getter]
    fn greeting(&self) -> &str {
        &self.settings().greeting
    }

    /// Octets of a message (RFC 1870); None for no limit.
    #[getter]
    fn max_message_size(&self) -> Option<u64> {
        self.settings().max_message_size
    }

    /// Whether CHUNKING is offered (RFC 3030).
    #[getter]
    fn chunking(&self) -> bool {
        self.settings().chunking
    }

    /// Whether BINARYMIME is offered (RFC 3030).
    #[getter]
    fn binarymime(&self) -> bool {
        self.settings().binarymime
    }

    /// Whether SMTPUTF8 is offered (RFC 6531).
    #[getter]
    fn smtputf8(&self) -> bool {
        self.settings().smtputf8
    }

    /// Whether DSN is offered (RFC 3461).
    #[getter]
    fn dsn(&self) -> bool {
        self.settings().dsn
    }

    /// Whether LIMITS is announced (RFC 9422).
    #[getter]
    fn limits_keyword(&self) -> bool {
        self.settings().limits_keyword
    }

    /// DELIVERBY: the least seconds, True for no minimum, None if it is not offered (RFC 2852).
    #[getter]
    fn deliver_by<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.settings().deliver_by.map(|minimum| value_or_true(py, minimum)).transpose()
    }

    /// FUTURERELEASE: the most seconds and the latest time, None if it is not offered (RFC 4865).
    #[getter]
    fn future_release(&self) -> Option<(u32, String)> {
        self.settings().future_release.as_ref().map(|hold| (hold.max_seconds, hold.max_until.to_string()))
    }

    /// MT-PRIORITY: the profile's name, True for none, None if it is not offered (RFC 6710).
    #[getter]
    fn mt_priority<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let profile = self.settings().mt_priority.as_deref();
        profile.map(|name| value_or_true(py, (!name.is_empty()).then_some(name))).transpose()
    }

    /// Whether RRVS is offered (RFC 7293).
    #[getter]
    fn rrvs(&self) -> bool {
        self.settings().rrvs
    }

    /// How TLS comes.
    #[getter]
    fn tls(&self) -> &'static str {
        match self.settings().tls {
            TlsMode::Off => "off",
            TlsMode::StartTls => "starttls",
            TlsMode::Implicit => "implicit",
        }
    }

    /// Whether TLS is required (RFC 3207 4).
    #[getter]
    fn require_tls(&self) -> bool {
        self.settings().require_tls
    }

    /// What becomes of octets in the clear behind STARTTLS (RFC 3207 4.2).
    #[getter]
    fn injected_input(&self) -> &'static str {
        match self.settings().injected_input {
            InjectedInput::Refuse => "refuse",
            InjectedInput::Drop => "drop",
        }
    }

    /// Whether REQUIRETLS is offered inside TLS (RFC 8689).
    #[getter]
    fn requiretls(&self) -> bool {
        self.settings().requiretls
    }

    /// The mechanisms of AUTH, in upper case (RFC 4954).
    #[getter]
    fn auth<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.settings().auth)
    }

    /// Those that are offered without TLS, too.
    #[getter]
    fn auth_in_clear<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.settings().auth_in_clear)
    }

    /// Whether AUTH is required (RFC 4954 6).
    #[getter]
    fn require_auth(&self) -> bool {
        self.settings().require_auth
    }

    /// Whether a PROXY header comes first.
    #[getter]
    fn proxy(&self) -> bool {
        self.settings().proxy
    }

    /// The attributes of XCLIENT for trusted clients.
    #[getter]
    fn xclient<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.settings().xclient.iter().map(|name| name.as_str()))
    }

    /// The attributes of XFORWARD for trusted clients.
    #[getter]
    fn xforward<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.settings().xforward.iter().map(|name| name.as_str()))
    }

    /// Whether this is message submission (RFC 6409).
    #[getter]
    fn submission(&self) -> bool {
        self.settings().submission
    }

    /// Domains of one label that submission takes (RFC 6409 4.2).
    #[getter]
    fn single_labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.settings().single_labels)
    }

    /// Whether HELP is offered (RFC 5321 4.1.1.8).
    #[getter]
    fn help(&self) -> bool {
        self.settings().help
    }

    /// What becomes of a bare CR or LF in DATA (RFC 5321 2.3.8).
    #[getter]
    fn bare_newlines(&self) -> &'static str {
        bare_newlines_name(self.settings().bare_newlines)
    }

    /// What becomes of a bare CR or LF in BDAT.
    #[getter]
    fn bdat_bare_newlines(&self) -> &'static str {
        bare_newlines_name(self.settings().bdat_bare_newlines)
    }

    /// Whether a bare LF ends a command line, too.
    #[getter]
    fn bare_lf_commands(&self) -> bool {
        self.settings().bare_lf_commands
    }

    /// What becomes of unknown ESMTP parameters (RFC 5321 4.1.1.11).
    #[getter]
    fn unknown_parameters(&self) -> &'static str {
        match self.settings().unknown_parameters {
            UnknownParameters::Reject => "reject",
            UnknownParameters::Ignore => "ignore",
            UnknownParameters::Pass => "pass",
        }
    }

    /// Whether content with a NUL is refused.
    #[getter]
    fn reject_nul(&self) -> bool {
        self.settings().reject_nul
    }

    /// Whether 8-bit content that was not declared is refused (RFC 6152).
    #[getter]
    fn reject_8bit(&self) -> bool {
        self.settings().reject_8bit
    }

    /// Whether content with a line of more than 1000 octets is refused (RFC 5321 4.5.3.1.6).
    #[getter]
    fn reject_long_lines(&self) -> bool {
        self.settings().reject_long_lines
    }

    /// The named departures from the grammar.
    #[getter]
    fn lenient<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        switched(py, self.settings().leniency, LENIENCIES)
    }

    /// Octets of a local part (RFC 5321 4.5.3.1.1).
    #[getter]
    fn max_local_part(&self) -> usize {
        self.settings().max_local_part
    }

    /// Octets of a command line with its CRLF (RFC 5321 4.5.3.1.4).
    #[getter]
    fn max_command_line(&self) -> usize {
        self.settings().limits.command_line
    }

    /// Recipients of one transaction (RFC 5321 4.5.3.1.8).
    #[getter]
    fn max_recipients(&self) -> usize {
        self.settings().limits.recipients
    }

    /// Transactions in one session; None for no limit.
    #[getter]
    fn max_messages(&self) -> Option<u32> {
        self.settings().limits.messages
    }

    /// Commands answered as wrong, in one session; None for no limit.
    #[getter]
    fn max_errors(&self) -> Option<u32> {
        self.settings().limits.errors
    }

    /// Commands that lead nowhere, since the last message; beyond it each counts as an error. None for no limit.
    #[getter]
    fn max_junk(&self) -> Option<u32> {
        self.settings().limits.junk
    }

    /// Recipients the program refused, in one session; None for no limit.
    #[getter]
    fn max_refused_recipients(&self) -> Option<u32> {
        self.settings().limits.refused_recipients
    }

    /// Commands in one session; None for no limit.
    #[getter]
    fn max_commands(&self) -> Option<u32> {
        self.settings().limits.commands
    }

    /// AUTH commands answered with 5yz, in one session; None for no limit (RFC 4954 4).
    #[getter]
    fn max_auth_failures(&self) -> Option<u32> {
        self.settings().limits.auth_failures
    }

    /// Octets of a response inside AUTH, without its CRLF (RFC 4954 4).
    #[getter]
    fn max_auth_response(&self) -> usize {
        self.settings().limits.auth_response
    }

    /// Seconds for a TLS handshake.
    #[getter]
    fn handshake_timeout(&self) -> f64 {
        self.settings().timers.handshake.as_secs_f64()
    }

    /// Seconds for a PROXY header.
    #[getter]
    fn proxy_timeout(&self) -> f64 {
        self.settings().timers.proxy.as_secs_f64()
    }

    /// Seconds to wait for a command (RFC 5321 4.5.3.2.7).
    #[getter]
    fn command_timeout(&self) -> f64 {
        self.settings().timers.command.as_secs_f64()
    }

    /// Seconds to wait for more content (RFC 5321 4.5.3.2.5).
    #[getter]
    fn content_timeout(&self) -> f64 {
        self.settings().timers.content.as_secs_f64()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let decisions = self.decisions(py)?.into_any().into_bound();
        Ok(format!("ServerConfig({:?}, decisions={})", self.settings().hostname, decisions.repr()?))
    }
}

fn value_or_true<'py, T: IntoPyObjectExt<'py>>(py: Python<'py>, value: Option<T>) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Some(value) => value.into_bound_py_any(py),
        None => true.into_bound_py_any(py),
    }
}
