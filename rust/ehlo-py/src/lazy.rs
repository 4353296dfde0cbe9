//! Python objects made at their first use, then kept.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A field that most programs never read: made when asked for, the same object ever after.
///
/// `std`'s cell and not PyO3's, because a traverse has no `Python` token; it cannot deadlock, as no Python code
/// runs while the cell is being filled.
pub(crate) struct Lazy<T>(OnceLock<Py<T>>);

impl<T> Lazy<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The object; `make` makes it. Of two threads that come first at once, both get the same object.
    pub(crate) fn get<'py>(
        &self,
        py: Python<'py>,
        make: impl FnOnce() -> PyResult<Bound<'py, T>>,
    ) -> PyResult<Bound<'py, T>> {
        if let Some(kept) = self.0.get() {
            return Ok(kept.bind(py).clone());
        }
        let made = make()?.unbind();
        Ok(self.0.get_or_init(|| made).bind(py).clone())
    }

    /// For `__traverse__`.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.0.get())
    }
}
