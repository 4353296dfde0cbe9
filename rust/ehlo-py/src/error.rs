//! Rust's errors as Python's exceptions. The classes are written in Python: `ehlo/_errors.py`.

use std::fmt::Display;

use pyo3::exceptions::PyValueError;
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(ehlo._errors, CommandSyntaxError);
import_exception!(ehlo._errors, LocalProtocolError);
import_exception!(ehlo._errors, RemoteProtocolError);

/// The program asked for what the protocol does not allow.
pub(crate) fn misuse(error: impl Display) -> PyErr {
    LocalProtocolError::new_err(error.to_string())
}

/// A word that is none of `known`.
pub(crate) fn unknown_name(what: &str, name: &str, known: &[&str]) -> PyErr {
    PyValueError::new_err(format!("{name:?} is not {what}; there are {}", known.join(", ")))
}
