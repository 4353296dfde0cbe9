//! How a client speaks.

use std::sync::Arc;

use ehlo::session::client::{self, Chunking, ClientSettings, Newlines, TlsPolicy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use crate::config::{change, seconds};
use crate::error::unknown_name;

/// How a client speaks and what it bears. Checked once, frozen; one object serves all connections.
///
/// Args:
///     hostname: our name for EHLO, a domain or an address literal (RFC 5321 4.1.4).
///     lmtp: LMTP instead of SMTP (RFC 2033).
///     tls: STARTTLS "off", "opportunistic" (where it is offered) or "required" (RFC 3207). Implicit TLS is the
///         adapter's.
///     pipelining: use PIPELINING where it is offered (RFC 2920).
///     chunking: content by BDAT "auto" (where it is offered), True (always) or False (RFC 3030).
///     newlines: a bare CR or LF in content: "normalize" to CRLF, "reject", or "exact" (as it is, by BDAT only).
///     force_8bit: send 8-bit content to a server without 8BITMIME, which RFC 6152 3 forbids.
///     drop_dsn: leave out DSN parameters where the server lacks DSN, instead of failing (RFC 3461 5.2.2).
///     relay_auth: after AUTH every MAIL has AUTH=, "<>" where the sender says nothing (RFC 4954 5). For relays.
///     max_recipients: of one transaction, where the server states no limit (RFC 5321 4.5.3.1.8).
///     window: messages that go by BDAT ahead of their replies.
///     chunk_size: octets of one BDAT chunk.
///     lenient_replies: a bare LF ends a reply line, too.
///     max_reply_line, max_reply: octets; max_reply_lines: lines.
///     greeting_timeout, hello_timeout, mail_timeout, rcpt_timeout, data_timeout, content_timeout, end_of_data_timeout,
///         reset_timeout, quit_timeout, other_timeout: seconds to wait for the server (RFC 5321 4.5.3.2).
///
/// Raises:
///     ValueError: for an unknown word, or settings that make no client.
///     TypeError: for an unknown setting, or one of another type.
///
/// Example:
///     >>> config = ehlo.ClientConfig("client.example.org", chunking=False)
///     >>> conn = ehlo.ClientConnection(config)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ClientConfig {
    pub(crate) inner: Arc<client::ClientConfig>,
}

impl ClientConfig {
    fn settings(&self) -> &ClientSettings {
        self.inner.settings()
    }

    fn check(settings: ClientSettings) -> PyResult<Self> {
        let config = client::ClientConfig::new(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner: Arc::new(config) })
    }
}

/// One setting. This is the list of them.
fn set(settings: &mut ClientSettings, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let s = settings;
    match name {
        "hostname" => s.hostname = value.extract()?,
        "lmtp" => s.lmtp = value.extract()?,
        "tls" => {
            s.tls = match value.extract()? {
                "off" => TlsPolicy::Off,
                "opportunistic" => TlsPolicy::Opportunistic,
                "required" => TlsPolicy::Required,
                other => return Err(unknown_name("a TLS policy", other, &["off", "opportunistic", "required"])),
            }
        }
        "pipelining" => s.pipelining = value.extract()?,
        "chunking" => {
            s.chunking = match (value.cast::<PyBool>(), value.extract::<&str>()) {
                (Ok(always), _) if always.is_true() => Chunking::Always,
                (Ok(_), _) => Chunking::Never,
                (_, Ok("auto")) => Chunking::Auto,
                _ => return Err(PyValueError::new_err("expected \"auto\", True or False")),
            }
        }
        "newlines" => {
            s.newlines = match value.extract()? {
                "normalize" => Newlines::Normalize,
                "reject" => Newlines::Reject,
                "exact" => Newlines::Exact,
                other => return Err(unknown_name("a policy for newlines", other, &["normalize", "reject", "exact"])),
            }
        }
        "force_8bit" => s.force_8bit = value.extract()?,
        "drop_dsn" => s.drop_dsn = value.extract()?,
        "relay_auth" => s.relay_auth = value.extract()?,
        "max_recipients" => s.max_recipients = value.extract()?,
        "window" => s.window = value.extract()?,
        "chunk_size" => s.chunk_size = value.extract()?,
        "lenient_replies" => s.reply_limits.lenient = value.extract()?,
        "max_reply_line" => s.reply_limits.line = value.extract()?,
        "max_reply" => s.reply_limits.total = value.extract()?,
        "max_reply_lines" => s.reply_limits.lines = value.extract()?,
        "greeting_timeout" => s.timers.greeting = seconds(value)?,
        "hello_timeout" => s.timers.hello = seconds(value)?,
        "mail_timeout" => s.timers.mail = seconds(value)?,
        "rcpt_timeout" => s.timers.rcpt = seconds(value)?,
        "data_timeout" => s.timers.data = seconds(value)?,
        "content_timeout" => s.timers.content = seconds(value)?,
        "end_of_data_timeout" => s.timers.end_of_data = seconds(value)?,
        "reset_timeout" => s.timers.reset = seconds(value)?,
        "quit_timeout" => s.timers.quit = seconds(value)?,
        "other_timeout" => s.timers.other = seconds(value)?,
        _ => return Err(PyTypeError::new_err("there is no such setting")),
    }
    Ok(())
}

#[pymethods]
impl ClientConfig {
    #[new]
    #[pyo3(
        signature = (hostname = "localhost", **settings),
        text_signature = "(hostname='localhost', *, lmtp=False, tls='off', pipelining=True, chunking='auto', \
            newlines='normalize', force_8bit=False, drop_dsn=False, relay_auth=False, max_recipients=100, window=16, \
            chunk_size=262144, lenient_replies=False, max_reply_line=4096, max_reply=65536, max_reply_lines=1000, greeting_timeout=300.0, \
            hello_timeout=300.0, mail_timeout=300.0, rcpt_timeout=300.0, data_timeout=120.0, content_timeout=180.0, \
            end_of_data_timeout=600.0, reset_timeout=20.0, quit_timeout=5.0, other_timeout=300.0)"
    )]
    fn new(hostname: &str, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut all = ClientSettings { hostname: hostname.to_owned(), ..ClientSettings::default() };
        change(&mut all, settings, set)?;
        Self::check(all)
    }

    /// The same with some settings changed, checked anew.
    ///
    /// Example:
    ///     >>> patient = config.replace(end_of_data_timeout=1800)
    #[pyo3(signature = (**changes), text_signature = "($self, **changes)")]
    fn replace(&self, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut settings = self.settings().clone();
        change(&mut settings, changes, set)?;
        Self::check(settings)
    }

    /// Our name for EHLO (RFC 5321 4.1.4).
    #[getter]
    fn hostname(&self) -> &str {
        &self.settings().hostname
    }

    /// LMTP instead of SMTP (RFC 2033).
    #[getter]
    fn lmtp(&self) -> bool {
        self.settings().lmtp
    }

    /// Whether STARTTLS is asked for: "off", "opportunistic" or "required" (RFC 3207).
    #[getter]
    fn tls(&self) -> &'static str {
        match self.settings().tls {
            TlsPolicy::Off => "off",
            TlsPolicy::Opportunistic => "opportunistic",
            TlsPolicy::Required => "required",
        }
    }

    /// Whether PIPELINING is used where it is offered (RFC 2920).
    #[getter]
    fn pipelining(&self) -> bool {
        self.settings().pipelining
    }

    /// Whether content goes by BDAT: "auto", True or False (RFC 3030).
    #[getter]
    fn chunking<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self.settings().chunking {
            Chunking::Auto => PyString::intern(py, "auto").into_any(),
            chunking => PyBool::new(py, chunking == Chunking::Always).to_owned().into_any(),
        }
    }

    /// What becomes of a bare CR or LF in content: "normalize", "reject" or "exact" (RFC 5321 2.3.8).
    #[getter]
    fn newlines(&self) -> &'static str {
        match self.settings().newlines {
            Newlines::Normalize => "normalize",
            Newlines::Reject => "reject",
            Newlines::Exact => "exact",
        }
    }

    /// Whether 8-bit content goes to servers without 8BITMIME (RFC 6152 3).
    #[getter]
    fn force_8bit(&self) -> bool {
        self.settings().force_8bit
    }

    /// Whether DSN parameters are left out where the server lacks DSN (RFC 3461 5.2.2).
    #[getter]
    fn drop_dsn(&self) -> bool {
        self.settings().drop_dsn
    }

    /// Whether every MAIL has AUTH= in a session that AUTH opened (RFC 4954 5).
    #[getter]
    fn relay_auth(&self) -> bool {
        self.settings().relay_auth
    }

    /// Most recipients of one transaction, where the server states no limit (RFC 5321 4.5.3.1.8).
    #[getter]
    fn max_recipients(&self) -> usize {
        self.settings().max_recipients
    }

    /// Messages that go by BDAT ahead of their replies.
    #[getter]
    fn window(&self) -> usize {
        self.settings().window
    }

    /// Octets of one BDAT chunk (RFC 3030 2).
    #[getter]
    fn chunk_size(&self) -> usize {
        self.settings().chunk_size
    }

    /// Whether a bare LF ends a reply line, too.
    #[getter]
    fn lenient_replies(&self) -> bool {
        self.settings().reply_limits.lenient
    }

    /// Octets of a reply line (RFC 5321 4.5.3.1.5).
    #[getter]
    fn max_reply_line(&self) -> usize {
        self.settings().reply_limits.line
    }

    /// Octets of a reply.
    #[getter]
    fn max_reply(&self) -> usize {
        self.settings().reply_limits.total
    }

    /// Lines of a reply.
    #[getter]
    fn max_reply_lines(&self) -> usize {
        self.settings().reply_limits.lines
    }

    /// Seconds to wait for the greeting (RFC 5321 4.5.3.2.1).
    #[getter]
    fn greeting_timeout(&self) -> f64 {
        self.settings().timers.greeting.as_secs_f64()
    }

    /// Seconds to wait for the reply to EHLO, HELO or LHLO.
    #[getter]
    fn hello_timeout(&self) -> f64 {
        self.settings().timers.hello.as_secs_f64()
    }

    /// Seconds to wait for the reply to MAIL (RFC 5321 4.5.3.2.2).
    #[getter]
    fn mail_timeout(&self) -> f64 {
        self.settings().timers.mail.as_secs_f64()
    }

    /// Seconds to wait for the reply to RCPT (RFC 5321 4.5.3.2.3).
    #[getter]
    fn rcpt_timeout(&self) -> f64 {
        self.settings().timers.rcpt.as_secs_f64()
    }

    /// Seconds to wait for the 354 behind DATA (RFC 5321 4.5.3.2.4).
    #[getter]
    fn data_timeout(&self) -> f64 {
        self.settings().timers.data.as_secs_f64()
    }

    /// Seconds to wait for progress while content is sent (RFC 5321 4.5.3.2.5).
    #[getter]
    fn content_timeout(&self) -> f64 {
        self.settings().timers.content.as_secs_f64()
    }

    /// Seconds to wait for the reply to the end of the content (RFC 5321 4.5.3.2.6).
    #[getter]
    fn end_of_data_timeout(&self) -> f64 {
        self.settings().timers.end_of_data.as_secs_f64()
    }

    /// Seconds to wait for the reply to RSET and NOOP.
    #[getter]
    fn reset_timeout(&self) -> f64 {
        self.settings().timers.reset.as_secs_f64()
    }

    /// Seconds to wait for the reply to QUIT.
    #[getter]
    fn quit_timeout(&self) -> f64 {
        self.settings().timers.quit.as_secs_f64()
    }

    /// Seconds to wait for the reply to anything else.
    #[getter]
    fn other_timeout(&self) -> f64 {
        self.settings().timers.other.as_secs_f64()
    }

    fn __repr__(&self) -> String {
        format!("ClientConfig({:?})", self.settings().hostname)
    }
}
