//! Capabilities: the EHLO keywords that a server offers.

use ehlo::syntax::capability;
use ehlo::syntax::reply::Class;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyTuple};

use crate::error::RemoteProtocolError;
use crate::values::reply::Reply;

/// What a server offered in its answer to EHLO (RFC 5321 4.1.1.1). Unknown keywords are kept, in their order.
///
/// Example:
///     >>> offer = ehlo.Capabilities.parse(ehlo.parse_reply(b"250-mx.example.org\r\n250 SIZE 1000\r\n"))
///     >>> "SIZE" in offer, offer.size
///     (True, 1000)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Capabilities {
    inner: capability::Capabilities,
}

impl Capabilities {
    pub(crate) fn wrap(inner: capability::Capabilities) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl Capabilities {
    /// Read the reply to EHLO or LHLO. No keyword makes it fail (RFC 5321 4.1.1.1).
    ///
    /// Raises:
    ///     RemoteProtocolError: if the reply is no 2yz: then it offers nothing.
    #[staticmethod]
    fn parse(reply: &Bound<'_, Reply>) -> PyResult<Self> {
        let reply = &reply.get().0;
        if reply.class() != Class::Success {
            let text = format!("expected the reply 250 to EHLO, got {} {}", reply.code(), reply.text());
            return Err(RemoteProtocolError::new_err(text));
        }
        Ok(Self { inner: capability::Capabilities::from_reply(reply) })
    }

    /// The first line: the server's name, and its greeting if there is one.
    #[getter]
    fn greeting(&self) -> &str {
        self.inner.greeting()
    }

    /// The server's name.
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// Every keyword with the text behind it, as they were written, in their order. The old "AUTH=LOGIN" is "AUTH"
    /// with "LOGIN".
    #[getter]
    fn keywords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.entries().collect::<Vec<_>>())
    }

    /// Whether the keyword is offered; its case does not matter.
    fn __contains__(&self, keyword: &str) -> bool {
        self.inner.has(keyword)
    }

    /// SIZE: the most octets of a message (RFC 1870 3). None if no limit is stated.
    #[getter]
    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    /// AUTH: the mechanisms, in upper case (RFC 4954 3).
    #[getter]
    fn auth<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.auth())
    }

    /// LIMITS: of "MAILMAX", "RCPTMAX" and "RCPTDOMAINMAX" those that are stated well (RFC 9422 4).
    #[getter]
    fn limits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let limits = self.inner.limits();
        let stated =
            [("MAILMAX", limits.mail_max), ("RCPTMAX", limits.rcpt_max), ("RCPTDOMAINMAX", limits.rcpt_domain_max)];
        stated.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<Vec<_>>().into_py_dict(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Capabilities({:?}, {})", self.inner.name(), self.keywords(py)?.repr()?))
    }
}
