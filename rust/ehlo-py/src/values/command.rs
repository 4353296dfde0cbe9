//! One command line, read without a session.

use std::sync::Arc;

use ehlo::session;
use ehlo::syntax::command::{self, CommandError};
use ehlo::syntax::options::{Leniency, Options};
use ehlo::syntax::reply;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::buffer::lend;
use crate::convert::verb_name;
use crate::error::{CommandSyntaxError, misuse};
use crate::lazy::Lazy;
use crate::settings::Setting;
use crate::values::envelope::{Recipient, Sender};
use crate::values::reply::Reply;

/// One command, as `parse_command` read it. What belongs to another verb is None, False or empty.
///
/// Example:
///     >>> command = ehlo.parse_command(b"MAIL FROM:<jane@example.org> SIZE=1024")
///     >>> command.verb, command.sender.size
///     ('MAIL', 1024)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct Command {
    argument: Box<[u8]>,
    inner: command::Command<'static>,
    recipient: Lazy<Recipient>,
    sender: Lazy<Sender>,
}

#[pymethods]
impl Command {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("verb", "argument");

    /// The verb in upper case; an unknown verb as it was written.
    #[getter]
    fn verb<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match &self.inner {
            command::Command::Unknown { verb, .. } => PyString::new(py, &String::from_utf8_lossy(verb)),
            known => known.verb().map_or_else(|| PyString::new(py, ""), |verb| verb_name(py, verb)),
        }
    }

    /// All behind the verb and its space, as it was written.
    #[getter]
    fn argument<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.argument)
    }

    /// MAIL: the reverse-path and its parameters (RFC 5321 4.1.1.2).
    #[getter]
    fn sender<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Sender>>> {
        let command::Command::Mail { path, parameters } = &self.inner else { return Ok(None) };
        let make = || session::Sender { path: path.clone(), parameters: parameters.clone() };
        self.sender.get(py, || Bound::new(py, Sender::wrap(Arc::new(make())))).map(Some)
    }

    /// RCPT: the forward-path and its parameters (RFC 5321 4.1.1.3).
    #[getter]
    fn recipient<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Recipient>>> {
        let command::Command::Rcpt { path, parameters } = &self.inner else { return Ok(None) };
        let make = || session::Recipient { path: path.clone(), parameters: parameters.clone() };
        self.recipient.get(py, || Bound::new(py, Recipient::wrap(Arc::new(make())))).map(Some)
    }

    /// EHLO, HELO and LHLO: the client's name (RFC 5321 4.1.1.1).
    #[getter]
    fn name(&self) -> Option<&str> {
        use command::Command::{Ehlo, Helo, Lhlo};
        match &self.inner {
            Ehlo(hello) | Helo(hello) | Lhlo(hello) => Some(&hello.name),
            _ => None,
        }
    }

    /// BDAT: octets of the chunk (RFC 3030 2).
    #[getter]
    fn size(&self) -> Option<u64> {
        match self.inner {
            command::Command::Bdat { size, .. } => Some(size),
            _ => None,
        }
    }

    /// BDAT and BURL: whether LAST was there (RFC 3030 2, RFC 4468 3).
    #[getter]
    fn last(&self) -> bool {
        matches!(self.inner, command::Command::Bdat { last: true, .. } | command::Command::Burl { last: true, .. })
    }

    /// AUTH: the mechanism (RFC 4954 4).
    #[getter]
    fn mechanism(&self) -> Option<&str> {
        match &self.inner {
            command::Command::Auth { mechanism, .. } => Some(mechanism),
            _ => None,
        }
    }

    /// AUTH: the initial response as it was written, in base64; b"=" is an empty one (RFC 4954 4).
    #[getter]
    fn initial_response<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match &self.inner {
            command::Command::Auth { initial, .. } => initial.as_ref().map(|octets| PyBytes::new(py, octets)),
            _ => None,
        }
    }

    /// XCLIENT and XFORWARD: names and decoded values.
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match &self.inner {
            command::Command::Xclient(pairs) | command::Command::Xforward(pairs) => {
                PyTuple::new(py, pairs.iter().map(|(name, value)| (&**name, &**value)))
            }
            _ => Ok(PyTuple::empty(py)),
        }
    }

    /// The command as a client writes it: upper case, with CRLF.
    ///
    /// Raises:
    ///     LocalProtocolError: if it holds what a command line cannot carry.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        self.inner.write(&mut out).map_err(misuse)?;
        Ok(PyBytes::new(py, &out))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let verb = self.verb(py).repr()?;
        match &self.inner {
            // What a client says here may be its password.
            command::Command::Auth { initial: Some(_), mechanism } => Ok(format!("Command({verb}, <{mechanism} ...>)")),
            _ => Ok(format!("Command({verb}, {})", self.argument(py).repr()?)),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.recipient.visit(&visit)?;
        self.sender.visit(&visit)
    }
}

/// Read one command line, with or without its CRLF. Every extension is known; unknown parameters are kept.
///
/// Args:
///     line: the octets; any contiguous buffer.
///     lenient: departures from the grammar; for their names see `ServerConfig`.
///
/// Raises:
///     CommandSyntaxError: if it is no command; `.reply` is what a server owes for it.
///     ValueError: for an unknown leniency.
///
/// Example:
///     >>> ehlo.parse_command(b"bdat 1000 last").size
///     1000
#[pyfunction]
#[pyo3(signature = (line, *, lenient = None), text_signature = "(line, *, lenient=())")]
pub(crate) fn parse_command(
    py: Python<'_>,
    line: &Bound<'_, PyAny>,
    lenient: Option<&Bound<'_, PyAny>>,
) -> PyResult<Command> {
    let none = || Leniency { hello_underscore: false, ..Leniency::default() };
    let leniency = lenient.map_or_else(|| Ok(none()), Leniency::from_python)?;
    let options = Options { leniency, ..Options::default() };
    let command = lend(line, |line| {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let inner = command::parse_command(line, &options)?.into_owned();
        let argument = line.iter().position(|&octet| octet == b' ').map_or(&[][..], |space| &line[space + 1..]);
        Ok(Command { argument: argument.into(), inner, recipient: Lazy::new(), sender: Lazy::new() })
    })?;
    command.map_err(|error: CommandError| syntax_error(py, &error))
}

fn syntax_error(py: Python<'_>, error: &CommandError) -> PyErr {
    let (code, enhanced, text) = error.reply();
    let owed = reply::Reply::new(code, Some(enhanced), text).ok().and_then(|reply| Py::new(py, Reply(reply)).ok());
    CommandSyntaxError::new_err((error.to_string(), owed))
}
