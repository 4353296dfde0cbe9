//! Replies, made and read.

use std::hash::{Hash, Hasher};

use ehlo::syntax::reply::{self, Class};
use ehlo::syntax::status::EnhancedCode;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple, PyType};

use crate::buffer::lend;
use crate::convert::{Reduced, restoring};
use crate::error::{LocalProtocolError, RemoteProtocolError, misuse};

/// One SMTP reply (RFC 5321 4.2), with its enhanced status code if it has one (RFC 2034).
///
/// Args:
///     code: 200 to 599, its second digit at most 5.
///     enhanced: like "5.1.1"; its class is the code's first digit.
///     text: one line, or a sequence of lines. Anything but CR, LF and NUL; what is not ASCII is escaped when written.
///
/// Raises:
///     LocalProtocolError: if it is no reply that SMTP knows.
///
/// Example:
///     >>> ehlo.Reply(550, "5.1.1", "no such user").to_bytes()
///     b'550 5.1.1 no such user\r\n'
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Reply(pub(crate) reply::Reply);

impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Hash for Reply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.code().hash(state);
        self.0.enhanced().hash(state);
        self.0.text().hash(state);
    }
}

#[pymethods]
impl Reply {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("code", "enhanced", "text");

    #[new]
    #[pyo3(signature = (code, enhanced = None, text = None), text_signature = "(code, enhanced=None, text='')")]
    fn new(code: i64, enhanced: Option<&str>, text: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        make(code, enhanced, text).map(Self)
    }

    /// The reply that a string like "550 5.1.1 no such user" stands for.
    ///
    /// Raises:
    ///     LocalProtocolError: if it is none.
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        let reply = reply::Reply::parse_text(text);
        reply.map(Self).map_err(|error| LocalProtocolError::new_err(format!("{text:?}: {error}")))
    }

    /// What `__reduce__` names: the parts of a reply that exists.
    #[classmethod]
    fn _restore(_class: &Bound<'_, PyType>, code: u16, enhanced: Option<&str>, text: Vec<u8>) -> PyResult<Self> {
        let enhanced = enhanced.map(enhanced_code).transpose()?;
        reply::Reply::from_parts(code, enhanced, text).map(Self).map_err(misuse)
    }

    /// For pickling and copying.
    #[allow(clippy::type_complexity)] // the arguments of `_restore`
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (u16, Option<String>, Bound<'py, PyBytes>)>> {
        let this = slf.get();
        let text = this.0.lines().collect::<Vec<_>>().join(&b'\n');
        restoring(slf, (this.code(), this.enhanced(), PyBytes::new(slf.py(), &text)))
    }

    /// The three digits.
    #[getter]
    fn code(&self) -> u16 {
        self.0.code()
    }

    /// The enhanced status code (RFC 3463), None if there is none.
    #[getter]
    fn enhanced(&self) -> Option<String> {
        self.0.enhanced().map(|enhanced| enhanced.to_string())
    }

    /// The lines joined by LF, without codes. Octets that are not UTF-8 are escaped.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.0.text())
    }

    /// The lines as they are, without codes.
    #[getter]
    fn lines<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.lines().map(|line| PyBytes::new(py, line)).collect::<Vec<_>>())
    }

    /// 2yz or 3yz: done, or go on (RFC 5321 4.2.1).
    #[getter]
    fn is_positive(&self) -> bool {
        matches!(self.0.class(), Class::Success | Class::Intermediate)
    }

    /// 4yz: try again.
    #[getter]
    fn is_temporary(&self) -> bool {
        self.0.class() == Class::Transient
    }

    /// 5yz: do not.
    #[getter]
    fn is_permanent(&self) -> bool {
        self.0.class() == Class::Permanent
    }

    /// The reply as it goes over the wire, long lines folded (RFC 5321 4.5.3.1.5).
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut out = Vec::new();
        self.0.write(&mut out);
        PyBytes::new(py, &out)
    }

    fn __str__(&self) -> String {
        let Self(reply) = self;
        match reply.enhanced() {
            Some(enhanced) => format!("{} {enhanced} {}", reply.code(), reply.text()),
            None => format!("{} {}", reply.code(), reply.text()),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let enhanced = self.enhanced().map_or_else(|| "None".to_owned(), |enhanced| format!("'{enhanced}'"));
        Ok(format!("Reply({}, {enhanced}, {})", self.0.code(), self.text(py).repr()?))
    }
}

/// A reply from what Python gives for it.
pub(crate) fn make(code: i64, enhanced: Option<&str>, text: Option<&Bound<'_, PyAny>>) -> PyResult<reply::Reply> {
    let code = u16::try_from(code).map_err(|_| {
        LocalProtocolError::new_err(format!("a reply code has three digits, from 200 to 599; not {code}"))
    })?;
    let enhanced = enhanced.map(enhanced_code).transpose()?;
    let reply = match text {
        None => reply::Reply::new(code, enhanced, ""),
        Some(text) => match text.cast::<PyString>() {
            Ok(text) => reply::Reply::new(code, enhanced, text.to_str()?),
            Err(_) => {
                let lines = text.extract::<Vec<String>>()?;
                reply::Reply::from_lines(code, enhanced, &lines.iter().map(String::as_str).collect::<Vec<_>>())
            }
        },
    };
    reply.map_err(misuse)
}

fn enhanced_code(text: &str) -> PyResult<EnhancedCode> {
    match EnhancedCode::parse(text.as_bytes()) {
        Some((code, used)) if used == text.len() => Ok(code),
        _ => Err(LocalProtocolError::new_err(format!("{text:?} is no enhanced status code (RFC 3463 2)"))),
    }
}

/// Read one whole reply, of one line or many (RFC 5321 4.2).
///
/// Raises:
///     RemoteProtocolError: if it is none, is cut short, or has something behind it.
///
/// Example:
///     >>> ehlo.parse_reply(b"250-mx.example.org\r\n250 SIZE\r\n").lines
///     (b'mx.example.org', b'SIZE')
#[pyfunction]
pub(crate) fn parse_reply(octets: &Bound<'_, PyAny>) -> PyResult<Reply> {
    let reply = lend(octets, reply::parse_reply)?;
    reply.map(Reply).map_err(|error| RemoteProtocolError::new_err(error.to_string()))
}
