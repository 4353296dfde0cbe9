//! The dot codec and xtext, for programs that bring their own session.

use ehlo::wire::content::{BareNewlines, ContentFlags};
use ehlo::wire::{dot, xtext};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFrozenSet, PyString};

use crate::buffer::lend;
use crate::content::Collected;
use crate::error::{LocalProtocolError, RemoteProtocolError, misuse, unexpected_word};
use crate::settings::Setting;

/// The names of the flags that are set.
pub(crate) fn flag_names<'py>(py: Python<'py>, flags: &ContentFlags) -> PyResult<Bound<'py, PyFrozenSet>> {
    let ContentFlags { bare_cr, bare_lf, nul, eight_bit, long_line, no_final_crlf } = *flags;
    let names = [
        (bare_cr, intern!(py, "bare-cr")),
        (bare_lf, intern!(py, "bare-lf")),
        (nul, intern!(py, "nul")),
        (eight_bit, intern!(py, "8bit")),
        (long_line, intern!(py, "long-line")),
        (no_final_crlf, intern!(py, "no-final-crlf")),
    ];
    if names.iter().any(|(set, _)| *set) {
        PyFrozenSet::new(py, names.into_iter().filter_map(|(set, name)| set.then_some(name)))
    } else {
        PyFrozenSet::empty(py)
    }
}

/// Takes content out of its dot-stuffed form and finds its end (RFC 5321 4.5.2).
///
/// It starts at the start of a line, where the CRLF of DATA left it. The end is CRLF "." CRLF and nothing else,
/// under every policy.
///
/// Args:
///     bare_newlines: what becomes of a bare CR or LF. "reject" and "allow" leave it as it is and say so in `flags`,
///         "normalize" makes CRLF of it.
///
/// Raises:
///     ValueError: for an unknown policy.
///
/// Example:
///     >>> ehlo.DotDecoder().feed(b"a\r\n..b\r\n.\r\nQUIT\r\n")
///     (b'a\r\n.b\r\n', 11)
#[pyclass(module = "ehlo")]
pub(crate) struct DotDecoder {
    inner: dot::DotDecoder,
    done: bool,
}

#[pymethods]
impl DotDecoder {
    #[new]
    #[pyo3(signature = (bare_newlines = "reject"))]
    fn new(py: Python<'_>, bare_newlines: &str) -> PyResult<Self> {
        let policy = BareNewlines::from_python(&PyString::new(py, bare_newlines))?;
        Ok(Self { inner: dot::DotDecoder::new(policy), done: false })
    }

    /// Read the next octets, in any split. Gives the content among them, and how many were used: all of them, unless
    /// the end of the data was there. After it nothing is used.
    fn feed<'py>(&mut self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, usize)> {
        let (content, decoded) = lend(data, |octets| {
            let mut content = Collected::with_capacity(octets.len());
            let decoded = self.inner.decode(octets, &mut content);
            (content, decoded)
        })?;
        self.done = decoded.done;
        Ok((content.finish(py)?, decoded.consumed))
    }

    /// Whether the end of the data has come.
    #[getter]
    fn done(&self) -> bool {
        self.done
    }

    /// What was found in the content so far; of "bare-cr", "bare-lf", "nul", "8bit", "long-line".
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        flag_names(py, &self.inner.flags())
    }

    /// Octets of content so far, as RFC 1870 5 counts them.
    #[getter]
    fn octets(&self) -> u64 {
        self.inner.octets()
    }
}

/// Puts content into its dot-stuffed form, piece by piece (RFC 5321 4.5.2).
///
/// Args:
///     bare_newlines: "normalize" makes CRLF of each bare CR and LF, "reject" raises.
///
/// Raises:
///     ValueError: for an unknown policy.
///
/// Example:
///     >>> encoder = ehlo.DotEncoder()
///     >>> encoder.feed(b".a\n") + encoder.finish()
///     b'..a\r\n.\r\n'
#[pyclass(module = "ehlo")]
pub(crate) struct DotEncoder {
    /// None when it is finished.
    inner: Option<dot::DotEncoder>,
}

#[pymethods]
impl DotEncoder {
    #[new]
    #[pyo3(signature = (bare_newlines = "normalize"))]
    fn new(bare_newlines: &str) -> PyResult<Self> {
        let policy = match bare_newlines {
            "normalize" => dot::EncodePolicy::Normalize,
            "reject" => dot::EncodePolicy::Reject,
            _ => return Err(unexpected_word(bare_newlines, &["normalize", "reject"])),
        };
        Ok(Self { inner: Some(dot::DotEncoder::new(policy)) })
    }

    /// The next octets of the content, stuffed. A CR at the end waits for what comes next.
    ///
    /// Raises:
    ///     LocalProtocolError: for a bare CR or LF under "reject", or after `finish`.
    fn feed<'py>(&mut self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let encoder = self.inner.as_mut().ok_or_else(finished)?;
        let wire = lend(data, |octets| {
            let mut wire = Collected::with_capacity(stuffed_size(octets.len()));
            encoder.encode(octets, &mut wire).map(|()| wire)
        })?;
        wire.map_err(misuse)?.finish(py)
    }

    /// What ends the data: the CRLF if it is missing, and the line of the dot.
    ///
    /// Raises:
    ///     LocalProtocolError: for a bare CR at the end under "reject", or when called twice.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut wire = Collected::default();
        let encoder = self.inner.take().ok_or_else(finished)?;
        encoder.finish(&mut wire).map_err(misuse)?;
        wire.finish(py)
    }
}

fn finished() -> PyErr {
    LocalProtocolError::new_err("the data has been finished; each message needs an encoder of its own")
}

/// Room for the octets, for a dot now and then, and for the end.
fn stuffed_size(octets: usize) -> usize {
    octets.saturating_add(octets / 64).saturating_add(8)
}

/// A whole content in its dot-stuffed form, with the line of the dot behind it (RFC 5321 4.5.2). Each bare CR and LF
/// becomes CRLF.
///
/// Example:
///     >>> ehlo.dot_stuff(b".a\n")
///     b'..a\r\n.\r\n'
#[pyfunction]
pub(crate) fn dot_stuff<'py>(py: Python<'py>, content: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let wire = lend(content, |octets| {
        let mut wire = Collected::with_capacity(stuffed_size(octets.len()));
        let mut encoder = dot::DotEncoder::new(dot::EncodePolicy::Normalize);
        encoder.encode(octets, &mut wire)?;
        encoder.finish(&mut wire)?;
        Ok::<_, dot::BareNewline>(wire)
    })?;
    wire.map_err(misuse)?.finish(py)
}

/// The content of dot-stuffed data up to its end, CRLF "." CRLF (RFC 5321 4.5.2). Bare CR and LF are left as they
/// are.
///
/// Raises:
///     RemoteProtocolError: if the end is not there, or something is behind it.
///
/// Example:
///     >>> ehlo.dot_unstuff(b"..a\r\n.\r\n")
///     b'.a\r\n'
#[pyfunction]
pub(crate) fn dot_unstuff<'py>(py: Python<'py>, wire: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let (content, decoded, given) = lend(wire, |octets| {
        let mut content = Collected::with_capacity(octets.len());
        let decoded = dot::DotDecoder::new(BareNewlines::Allow).decode(octets, &mut content);
        (content, decoded, octets.len())
    })?;
    if !decoded.done {
        return Err(RemoteProtocolError::new_err(dot::Incomplete.to_string()));
    }
    if decoded.consumed < given {
        let rest = given - decoded.consumed;
        return Err(RemoteProtocolError::new_err(format!("{rest} octets behind the end of the data")));
    }
    content.finish(py)
}

/// Octets as xtext (RFC 3461 4).
///
/// Example:
///     >>> ehlo.xtext_encode(b"a+b=c")
///     'a+2Bb+3Dc'
#[pyfunction]
pub(crate) fn xtext_encode(octets: &Bound<'_, PyAny>) -> PyResult<String> {
    lend(octets, xtext::encode)
}

/// The octets that an xtext stands for (RFC 3461 4).
///
/// Raises:
///     RemoteProtocolError: if it is not xtext.
///
/// Example:
///     >>> ehlo.xtext_decode("a+2Bb")
///     b'a+b'
#[pyfunction]
pub(crate) fn xtext_decode<'py>(py: Python<'py>, text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let decoded = match text.cast::<PyString>() {
        // A lone surrogate is no xtext either.
        Ok(text) => xtext::decode(text.to_string_lossy().as_bytes()),
        Err(_) => lend(text, xtext::decode)?,
    };
    decoded.map(|octets| PyBytes::new(py, &octets)).map_err(|error| RemoteProtocolError::new_err(error.to_string()))
}
