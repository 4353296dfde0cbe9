//! ESMTP parameters: how they are written, compared, and read again (RFC 5321 4.1.1.11).

use ehlo::syntax::options::{Options, Parameters, UnknownParameters};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::misuse;

/// Parameters without order, their keywords without case.
pub(super) fn sorted<'a>(
    parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Vec<(String, Option<&'a str>)> {
    let mut all: Vec<_> = parameters.map(|(keyword, value)| (keyword.to_ascii_uppercase(), value)).collect();
    all.sort_unstable();
    all
}

/// The offer that gives a parameter its field.
pub(super) fn offer(keyword: &str) -> Option<Parameters> {
    Some(match keyword {
        "SIZE" => Parameters::SIZE,
        "BODY" => Parameters::BODY | Parameters::BINARYMIME,
        "SMTPUTF8" => Parameters::SMTPUTF8,
        "RET" => Parameters::RET,
        "ENVID" => Parameters::ENVID,
        "AUTH" => Parameters::AUTH,
        "BY" => Parameters::BY,
        "HOLD" => Parameters::HOLD,
        "MT-PRIORITY" => Parameters::MT_PRIORITY,
        "REQUIRETLS" => Parameters::REQUIRETLS,
        "NOTIFY" => Parameters::NOTIFY,
        "ORCPT" => Parameters::ORCPT,
        "RRVS" => Parameters::RRVS,
        _ => return None,
    })
}

/// Parameters as they are written, to be read by the grammar: so a value that cannot be sent is found at once.
#[derive(Default)]
pub(super) struct Words {
    pub(super) text: String,
    count: usize,
}

impl Words {
    pub(super) fn add(&mut self, keyword: &str, value: Option<String>) {
        self.flag(keyword, value.is_some());
        if let Some(value) = value {
            self.text.push('=');
            self.text.push_str(&value);
        }
    }

    pub(super) fn flag(&mut self, keyword: &str, set: bool) {
        if set {
            self.count += 1;
            if !self.text.is_empty() {
                self.text.push(' ');
            }
            self.text.push_str(keyword);
        }
    }

    /// That no value became a further parameter: there are as many as were added.
    pub(super) fn check(&self, read: usize) -> PyResult<()> {
        if read == self.count { Ok(()) } else { Err(misuse("a value of a parameter holds a space (RFC 5321 4.1.2)")) }
    }

    /// Every parameter is known, and nothing else is one.
    pub(super) fn options(&self) -> Options {
        Options { unknown_parameters: UnknownParameters::Reject, ..Options::default() }
    }
}

pub(super) fn pairs<'a, 'py>(
    py: Python<'py>,
    parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, parameters.collect::<Vec<_>>())
}

pub(super) fn spaced(raw: &str) -> String {
    if raw.is_empty() { String::new() } else { format!(", {raw:?}") }
}
