//! The settings of a server.

use ehlo::session::{self, ServerSettings, TlsFacts};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::settings::{Setting, config_class};

ehlo::server_settings!(config_class {
    ServerConfig of session::ServerConfig, ServerSettings;
    /// The settings of a server. Most servers need few: `hostname`, `tls` and `auth`, and `submission=True` for
    /// users or `lmtp=True` for LMTP. `max_message_size`, `max_recipients` and the other `max_…` are limits.
    /// `serve` sets `decisions` and `content` by the methods of the handler.
    ///
    /// A config is checked once and then frozen. One object serves all connections.
    args
    /// Raises:
    ///     ValueError: a word that is not known, or settings that make no server.
    ///     TypeError: a setting that does not exist, or a value of another type.
    ///
    /// Example:
    ///     >>> config = ehlo.ServerConfig("mx.example.org", decisions=("rcpt", "message"))
    ///     >>> conn = ehlo.ServerConnection(config)
    methods {
        /// The EHLO keyword lines in the order in which they are sent in the clear, without code and CRLF (RFC 5321
        /// 4.1.1.1). Keywords for `trusted` clients are left out.
        #[getter]
        fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
            PyTuple::new(py, self.inner.keywords(None, false).collect::<Vec<_>>())
        }

        /// The EHLO keyword lines inside TLS (RFC 3207 4.2, 4954 3). Mechanisms that need channel binding or a client
        /// certificate are left out.
        #[getter]
        fn tls_keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
            PyTuple::new(py, self.inner.keywords(Some(TlsFacts::default()), false).collect::<Vec<_>>())
        }

        fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
            let decisions = self.settings().decisions.to_python(py)?.repr()?;
            Ok(format!("ServerConfig({:?}, decisions={decisions})", self.settings().hostname))
        }
    }
});
