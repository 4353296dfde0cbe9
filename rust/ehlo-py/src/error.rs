//! Errors of the engine become exceptions of Python. Their classes are written in Python: `ehlo/_errors.py`.

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

/// A word that is none of `expected`, of which there are two at least.
pub(crate) fn unexpected_word(word: &str, expected: &[&str]) -> PyErr {
    let quoted: Vec<String> = expected.iter().map(|word| format!("{word:?}")).collect();
    let listed = match &quoted[..] {
        [several @ .., last] if !several.is_empty() => format!("{} or {last}", several.join(", ")),
        all => all.concat(),
    };
    PyValueError::new_err(format!("expected {listed}, not {word:?}"))
}
