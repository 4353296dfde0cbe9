//! Small conversions that both sides use.

use ehlo::syntax::command::Verb;
use pyo3::PyClass;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The Python object of one value, as what `next_event` gives.
#[inline]
pub(crate) fn object<'py, T>(py: Python<'py>, event: T) -> PyResult<Bound<'py, PyAny>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    Ok(Bound::new(py, event)?.into_any())
}

/// The word for a verb.
pub(crate) fn verb_name(py: Python<'_>, verb: Verb) -> Bound<'_, PyString> {
    match verb {
        Verb::Ehlo => intern!(py, "EHLO").clone(),
        Verb::Helo => intern!(py, "HELO").clone(),
        Verb::Lhlo => intern!(py, "LHLO").clone(),
        Verb::Data => intern!(py, "DATA").clone(),
        Verb::Bdat => intern!(py, "BDAT").clone(),
        other => PyString::intern(py, other.as_str()),
    }
}

/// What `__reduce__` gives: a callable and its arguments.
pub(crate) type Reduced<'py, A> = (Bound<'py, PyAny>, A);

/// That the class method `_restore` makes the value again from `parts`.
pub(crate) fn restoring<'py, T, A>(value: &Bound<'py, T>, parts: A) -> PyResult<Reduced<'py, A>> {
    Ok((value.as_any().get_type().getattr(intern!(value.py(), "_restore"))?, parts))
}
