//! Reverse-paths and forward-paths. Null and bare Postmaster are values of their own, never an empty string.

use std::hash::{Hash, Hasher};

use ehlo::syntax::address::{self, AddressError, ForwardPath, ReversePath};
use ehlo::syntax::options::Options;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert::{Reduced, restoring};
use crate::error::{LocalProtocolError, misuse};
use crate::lazy::Lazy;

/// A mailbox as an envelope holds it (RFC 5321 4.1.2), with the path as it was written.
///
/// Two are equal if they name the same mailbox: however the local part is quoted, whatever the case of the domain,
/// with or without a source route. The case of the local part counts (RFC 5321 2.4).
///
/// Args:
///     path: a mailbox, with or without angle brackets.
///
/// Raises:
///     LocalProtocolError: if it is no mailbox; the message names the part that is wrong.
///
/// Example:
///     >>> ehlo.Address("jane@Example.org").domain
///     'Example.org'
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Address {
    inner: address::Address<'static>,
    domain: Lazy<PyString>,
    local_part: Lazy<PyString>,
    mailbox: Lazy<PyString>,
}

impl Address {
    fn wrap(inner: address::Address<'static>) -> Self {
        Self { inner, domain: Lazy::new(), local_part: Lazy::new(), mailbox: Lazy::new() }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

#[pymethods]
impl Address {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("local_part", "domain");

    #[new]
    fn new(path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let path = path_text(path)?;
        let address = address::Address::parse(path, &Options::default());
        Ok(Self::wrap(address.map_err(|error| no_path(path, error))?.into_owned()))
    }

    /// What `__reduce__` names: a path that was read before.
    #[classmethod]
    fn _restore(_class: &Bound<'_, PyType>, path: &str) -> PyResult<Self> {
        let address = address::Address::parse(path, &Options::accepting_all());
        Ok(Self::wrap(address.map_err(|error| no_path(path, error))?.into_owned()))
    }

    /// For pickling and copying.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (String,)>> {
        restoring(slf, (slf.get().as_written().to_owned(),))
    }

    /// Whether it is the null reverse-path: never, for an address.
    #[getter]
    fn is_null(&self) -> bool {
        false
    }

    /// The path as it was written between the angle brackets, with its source route.
    #[getter]
    fn as_written(&self) -> &str {
        self.inner.as_written()
    }

    /// Local part, "@" and domain, with as little quoting as it needs and without a source route.
    #[getter]
    fn mailbox<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.mailbox.get(py, || Ok(PyString::new(py, &self.inner.mailbox())))
    }

    /// The value of the local part: without the quoting.
    #[getter]
    fn local_part<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.local_part.get(py, || Ok(PyString::new(py, &self.inner.local_part())))
    }

    /// The domain as it was written; an address literal with its brackets.
    #[getter]
    fn domain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.domain.get(py, || Ok(PyString::new(py, self.inner.domain())))
    }

    /// The source route as it was written, like "@a.example,@b.example", or None. To be ignored (RFC 5321 F.2).
    #[getter]
    fn source_route(&self) -> Option<&str> {
        self.inner.source_route()
    }

    /// Whether it can go where SMTPUTF8 is not offered (RFC 6531 3.2).
    #[getter]
    fn is_ascii(&self) -> bool {
        self.inner.is_ascii()
    }

    /// Whether the local part is Postmaster, in any case (RFC 5321 4.5.1).
    #[getter]
    fn is_postmaster(&self) -> bool {
        self.inner.is_postmaster()
    }

    fn __str__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.mailbox(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Address({})", PyString::new(py, self.inner.as_written()).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.domain.visit(&visit)?;
        self.local_part.visit(&visit)?;
        self.mailbox.visit(&visit)
    }
}

/// The null reverse-path `<>` (RFC 5321 4.5.5). There is one: `ehlo.NULL`.
///
/// Example:
///     >>> envelope.sender.path is ehlo.NULL
///     True
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
#[derive(PartialEq, Hash)]
pub(crate) struct NullPath;

#[pymethods]
impl NullPath {
    /// Whether it is the null reverse-path: always.
    #[getter]
    fn is_null(&self) -> bool {
        true
    }

    fn __str__(&self) -> &'static str {
        "<>"
    }

    fn __repr__(&self) -> &'static str {
        "ehlo.NULL"
    }

    /// Copying and pickling give the one there is.
    fn __reduce__(&self) -> &'static str {
        "NULL"
    }
}

/// The one null path.
pub(crate) fn null(py: Python<'_>) -> PyResult<Bound<'_, NullPath>> {
    static NULL: PyOnceLock<Py<NullPath>> = PyOnceLock::new();
    Ok(NULL.get_or_try_init(py, || Py::new(py, NullPath))?.bind(py).clone())
}

/// The bare `<Postmaster>` of RFC 5321 4.5.1, which has no domain. All are equal, in any case.
///
/// Example:
///     >>> isinstance(recipient.path, ehlo.Postmaster)
///     True
#[pyclass(frozen, eq, hash, module = "ehlo", weakref)]
pub(crate) struct Postmaster(String);

impl PartialEq for Postmaster {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Hash for Postmaster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "Postmaster".hash(state);
    }
}

#[pymethods]
impl Postmaster {
    /// What `__reduce__` names: the word of a path that was read before.
    #[classmethod]
    fn _restore(_class: &Bound<'_, PyType>, word: String) -> Self {
        Self(word)
    }

    /// For pickling and copying.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py, (String,)>> {
        restoring(slf, (slf.get().0.clone(),))
    }

    /// Whether it is the null reverse-path: never, for a forward-path.
    #[getter]
    fn is_null(&self) -> bool {
        false
    }

    /// The word as it was written: its case is free.
    #[getter]
    fn as_written(&self) -> &str {
        &self.0
    }

    fn __str__(&self) -> &'static str {
        "Postmaster"
    }

    fn __repr__(&self) -> &'static str {
        "Postmaster()"
    }
}

/// A path that Python gives: text, an `Address`, or `NULL`.
pub(crate) fn reverse_path_of(path: &Bound<'_, PyAny>) -> PyResult<ReversePath<'static>> {
    if !path.is_instance_of::<PyString>() {
        if let Ok(address) = path.cast::<Address>() {
            return Ok(ReversePath::Address(address.get().inner.clone()));
        }
        if path.is_instance_of::<NullPath>() {
            return Ok(ReversePath::Null);
        }
    }
    let text = path_text(path)?;
    ReversePath::parse(text, &Options::default()).map(ReversePath::into_owned).map_err(|error| no_path(text, error))
}

/// A path that Python gives: text, an `Address`, or a `Postmaster`.
pub(crate) fn forward_path_of(path: &Bound<'_, PyAny>) -> PyResult<ForwardPath<'static>> {
    if !path.is_instance_of::<PyString>() {
        if let Ok(address) = path.cast::<Address>() {
            return Ok(ForwardPath::Address(address.get().inner.clone()));
        }
        if let Ok(postmaster) = path.cast::<Postmaster>() {
            return Ok(ForwardPath::Postmaster(postmaster.get().0.clone().into()));
        }
    }
    let text = path_text(path)?;
    ForwardPath::parse(text, &Options::default()).map(ForwardPath::into_owned).map_err(|error| no_path(text, error))
}

/// The text of a path. One that UTF-8 cannot carry is no path (RFC 6531 3.3).
fn path_text<'a>(path: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let text = path.extract::<&str>();
    match text {
        Err(_) if path.is_instance_of::<PyString>() => Err(misuse("the address has a lone surrogate: it is not UTF-8")),
        text => text,
    }
}

fn no_path(text: &str, error: AddressError) -> PyErr {
    LocalProtocolError::new_err(format!("{text:?}: {error}"))
}

/// `Address` or `NULL`.
pub(crate) fn reverse_path<'py>(py: Python<'py>, path: &ReversePath<'static>) -> PyResult<Bound<'py, PyAny>> {
    match path {
        ReversePath::Null => Ok(null(py)?.into_any()),
        ReversePath::Address(address) => Ok(Bound::new(py, Address::wrap(address.clone()))?.into_any()),
    }
}

/// `Address` or `Postmaster`.
pub(crate) fn forward_path<'py>(py: Python<'py>, path: &ForwardPath<'static>) -> PyResult<Bound<'py, PyAny>> {
    match path {
        ForwardPath::Postmaster(word) => Ok(Bound::new(py, Postmaster(word.clone().into_owned()))?.into_any()),
        ForwardPath::Address(address) => Ok(Bound::new(py, Address::wrap(address.clone()))?.into_any()),
    }
}
