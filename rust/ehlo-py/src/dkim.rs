//! DKIM's canonical forms (RFC 6376 3.4). Digests and keys are Python's.

use ehlo::dkim::{self, BodyCanonicalizer, Canonicalization};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::buffer::lend;
use crate::error::{LocalProtocolError, misuse, unexpected_word};

fn canonicalization(name: &str) -> PyResult<Canonicalization> {
    match name {
        "simple" => Ok(Canonicalization::Simple),
        "relaxed" => Ok(Canonicalization::Relaxed),
        _ => Err(unexpected_word(name, &["simple", "relaxed"])),
    }
}

/// The header fields of a message, each without its last CRLF, and where its body begins. For `ehlo.dkim`.
///
/// Args:
///     content: the message, lines end by CRLF.
///
/// Raises:
///     LocalProtocolError: for what other programs read in another way: a bare CR or LF in the header section, white
///         space before a field's colon, a line that is no field.
///
/// Example:
///     >>> ehlo.dkim_fields(b"A: x\r\nB: y\r\n z\r\n\r\nbody")
///     ([b'A: x', b'B: y\r\n z'], 18)
#[pyfunction]
pub(crate) fn dkim_fields<'py>(py: Python<'py>, content: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyList>, usize)> {
    let octets = content.cast::<PyBytes>()?.as_bytes();
    let (ranges, start) = dkim::fields(octets).map_err(misuse)?;
    let fields = PyList::new(py, ranges.into_iter().map(|range| PyBytes::new(py, &octets[range])))?;
    Ok((fields, start))
}

/// The canonical form of one header field without its last CRLF (RFC 6376 3.4.1, 3.4.2). For `ehlo.dkim`.
///
/// Args:
///     field: name, colon and value.
///     form: "simple" or "relaxed".
///
/// Raises:
///     ValueError: for an unknown form.
///
/// Example:
///     >>> ehlo.dkim_header(b"Subject:  a\r\n  b ", "relaxed")
///     b'subject:a b'
#[pyfunction]
pub(crate) fn dkim_header<'py>(
    py: Python<'py>,
    field: &Bound<'py, PyAny>,
    form: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let form = canonicalization(form)?;
    let out = lend(field, |octets| {
        let mut out = Vec::with_capacity(octets.len());
        dkim::header(octets, form, &mut out);
        out
    })?;
    Ok(PyBytes::new(py, &out))
}

/// The canonical form of a body that comes in pieces, in any split (RFC 6376 3.4.3, 3.4.4). For `ehlo.dkim`.
///
/// Args:
///     form: "simple" or "relaxed".
///
/// Raises:
///     ValueError: for an unknown form.
///
/// Example:
///     >>> body = ehlo.DkimBody("relaxed")
///     >>> body.feed(b"a  b \r\n\r\n") + body.finish()
///     b'a b\r\n'
#[pyclass(module = "ehlo")]
pub(crate) struct DkimBody {
    inner: BodyCanonicalizer,
    finished: bool,
}

#[pymethods]
impl DkimBody {
    #[new]
    fn new(form: &str) -> PyResult<Self> {
        Ok(Self { inner: BodyCanonicalizer::new(canonicalization(form)?), finished: false })
    }

    /// What is certain after these octets.
    ///
    /// Raises:
    ///     LocalProtocolError: after `finish`.
    fn feed<'py>(&mut self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        self.check()?;
        let out = lend(data, |octets| {
            let mut out = Vec::new();
            self.inner.feed(octets, &mut out);
            out
        })?;
        Ok(PyBytes::new(py, &out))
    }

    /// The rest. The body is over.
    ///
    /// Raises:
    ///     LocalProtocolError: when it was over before.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.check()?;
        self.finished = true;
        let mut out = Vec::new();
        self.inner.finish(&mut out);
        Ok(PyBytes::new(py, &out))
    }

    /// Whether a bare CR or a bare LF was seen so far; it is taken as any other octet.
    #[getter]
    fn has_bare_newline(&self) -> bool {
        self.inner.has_bare_newline()
    }
}

impl DkimBody {
    fn check(&self) -> PyResult<()> {
        if self.finished { Err(LocalProtocolError::new_err("this body is finished")) } else { Ok(()) }
    }
}
