//! How a table of settings becomes a Python class.
//!
//! The engine has one table for each side. A row has the doc, the name, the type and the default of a setting. From the
//! same row come here: the argument in the class's signature, its line in the class's docstring, the setter that `replace`
//! uses, the property and the property's docstring. [`Setting`] says for each type how a value is read and written, and
//! which types the stub shows.

use std::time::Duration;

use ehlo::session::client::{Chunking, Newlines, TlsPolicy};
use ehlo::session::{ContentMode, Decisions, FutureRelease, InjectedInput, TlsMode};
use ehlo::syntax::datetime::{DateTime, Fraction};
use ehlo::syntax::options::{Leniency, UnknownParameters};
use ehlo::syntax::xattr::AttributeName;
use ehlo::wire::content::BareNewlines;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyMapping, PyString, PyTuple};

use crate::error::unexpected_word;

/// A value of a setting.
pub(crate) trait Setting: Sized {
    /// The type that the class takes, as the stub writes it.
    const ARGUMENT: &str;
    /// The type that the property has, as the stub writes it.
    const PROPERTY: &str = Self::ARGUMENT;

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self>;

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// The types of one setting: its name, the type of the argument, and the type of the property.
pub(crate) type Types = (&'static str, &'static str, &'static str);

/// [`Types`] of the setting with this name and value.
pub(crate) fn types_of<T: Setting>(name: &'static str, _: &T) -> Types {
    (name, T::ARGUMENT, T::PROPERTY)
}

/// Values that PyO3 converts both ways.
macro_rules! plain {
    ($($type:ty, $python:literal;)+) => { $(
        impl Setting for $type {
            const ARGUMENT: &str = $python;

            fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                value.extract()
            }

            fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.clone().into_bound_py_any(py)
            }
        }
    )+ };
}

plain! {
    bool, "bool";
    usize, "int";
    String, "str";
    Option<bool>, "bool | None";
    Option<u32>, "int | None";
    Option<u64>, "int | None";
}

/// One word of several.
macro_rules! words {
    ($($type:ident { $($word:literal => $variant:ident),+ } $python:literal;)+) => { $(
        impl Setting for $type {
            const ARGUMENT: &str = $python;

            fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                match value.extract()? {
                    $( $word => Ok(Self::$variant), )+
                    other => Err(unexpected_word(other, &[$($word),+])),
                }
            }

            fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let word = match self {
                    $( Self::$variant => $word, )+
                };
                word.into_bound_py_any(py)
            }
        }
    )+ };
}

words! {
    BareNewlines { "reject" => Reject, "normalize" => Normalize, "allow" => Allow } "_BareNewlines";
    ContentMode { "collect" => Collect, "stream" => Stream, "discard" => Discard }
        "Literal[\"collect\", \"stream\", \"discard\"]";
    InjectedInput { "refuse" => Refuse, "drop" => Drop } "Literal[\"refuse\", \"drop\"]";
    Newlines { "normalize" => Normalize, "reject" => Reject, "exact" => Exact, "auto" => Auto }
        "Literal[\"normalize\", \"reject\", \"exact\", \"auto\"]";
    TlsMode { "off" => Off, "starttls" => StartTls, "implicit" => Implicit }
        "Literal[\"off\", \"starttls\", \"implicit\"]";
    TlsPolicy { "off" => Off, "opportunistic" => Opportunistic, "required" => Required }
        "Literal[\"off\", \"opportunistic\", \"required\"]";
    UnknownParameters { "reject" => Reject, "ignore" => Ignore, "pass" => Pass }
        "Literal[\"reject\", \"ignore\", \"pass\"]";
}

/// A set of words. A word that is named is on, and all others are off.
macro_rules! switches {
    ($($type:ident { $($field:ident),+ } $argument:literal, $property:literal;)+) => { $(
        impl Setting for $type {
            const ARGUMENT: &str = $argument;
            const PROPERTY: &str = $property;

            fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                let mut set = Self { $( $field: false, )+ };
                for word in sequence_of_words(value)? {
                    match word.as_str() {
                        $( stringify!($field) => set.$field = true, )+
                        other => return Err(unexpected_word(other, &[$(stringify!($field)),+])),
                    }
                }
                Ok(set)
            }

            fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let fields = [$((self.$field, stringify!($field))),+];
                let on = fields.into_iter().filter_map(|(on, word)| on.then_some(word));
                Ok(PyFrozenSet::new(py, on)?.into_any())
            }
        }
    )+ };
}

switches! {
    Decisions { connect, hello, mail, rcpt, data, message, vrfy, expn, etrn, reset, command, refusal, refused }
        "Iterable[_Decision]", "frozenset[_Decision]";
    Leniency {
        hello_underscore, hello_any, hello_trailing_text, space_after_colon, bare_paths, extra_space,
        dots_in_local_part, domain_underscore, general_literals, lowercase_xtext, no_domain
    } "Iterable[str]", "frozenset[str]";
}

impl Setting for Vec<String> {
    const ARGUMENT: &str = "Iterable[str]";
    const PROPERTY: &str = "tuple[str, ...]";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        sequence_of_words(value)
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyTuple::new(py, self)?.into_any())
    }
}

/// Texts by name.
impl Setting for Vec<(String, String)> {
    const ARGUMENT: &str = "Mapping[str, str] | Iterable[tuple[str, str]]";
    const PROPERTY: &str = "dict[str, str]";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.cast::<PyMapping>() {
            Ok(mapping) => mapping.items()?.extract(),
            Err(_) => value.try_iter()?.map(|pair| pair?.extract()).collect(),
        }
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let texts = PyDict::new(py);
        for (name, text) in self {
            texts.set_item(name, text)?;
        }
        Ok(texts.into_any())
    }
}

impl Setting for Vec<AttributeName> {
    const ARGUMENT: &str = "Iterable[str]";
    const PROPERTY: &str = "tuple[str, ...]";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let known = AttributeName::ALL.map(AttributeName::as_str);
        let name = |word: &String| AttributeName::parse(word).ok_or_else(|| unexpected_word(word, &known));
        sequence_of_words(value)?.iter().map(name).collect()
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyTuple::new(py, self.iter().map(|name| name.as_str()))?.into_any())
    }
}

impl Setting for Duration {
    const ARGUMENT: &str = "float";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let seconds = value.extract::<f64>()?;
        match Self::try_from_secs_f64(seconds) {
            Ok(wait) if !wait.is_zero() => Ok(wait),
            _ => Err(PyValueError::new_err(format!("expected seconds above 0, not {seconds}"))),
        }
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_secs_f64().into_bound_py_any(py)
    }
}

/// What is offered with a value, or without one (True), or not at all (None or False).
macro_rules! offered {
    ($($type:ty, $python:literal;)+) => { $(
        impl Setting for Option<Option<$type>> {
            const ARGUMENT: &str = $python;

            fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                match value.cast_exact::<PyBool>() {
                    Ok(offer) => Ok(offer.is_true().then_some(None)),
                    Err(_) if value.is_none() => Ok(None),
                    Err(_) => Ok(Some(Some(value.extract()?))),
                }
            }

            fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                match self {
                    None => Ok(py.None().into_bound(py)),
                    Some(None) => true.into_bound_py_any(py),
                    Some(Some(value)) => value.clone().into_bound_py_any(py),
                }
            }
        }
    )+ };
}

offered! {
    u32, "int | bool | None";
    String, "str | bool | None";
}

impl Setting for Option<FutureRelease> {
    const ARGUMENT: &str = "tuple[int, str] | None";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Some((max_seconds, until)) = value.extract::<Option<(u32, String)>>()? else { return Ok(None) };
        let max_until = DateTime::parse(&until, Fraction::Refused)
            .map_err(|error| PyValueError::new_err(format!("{until:?}: {error}")))?;
        Ok(Some(FutureRelease { max_seconds, max_until }))
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_ref().map(|hold| (hold.max_seconds, hold.max_until.to_string())).into_bound_py_any(py)
    }
}

impl Setting for Chunking {
    const ARGUMENT: &str = "Literal[\"auto\"] | bool";

    fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match (value.cast::<PyBool>(), value.extract::<&str>()) {
            (Ok(always), _) if always.is_true() => Ok(Self::Always),
            (Ok(_), _) => Ok(Self::Never),
            (_, Ok("auto")) => Ok(Self::Auto),
            _ => Err(PyValueError::new_err("expected \"auto\", True or False")),
        }
    }

    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Auto => Ok(PyString::intern(py, "auto").into_any()),
            Self::Always => true.into_bound_py_any(py),
            Self::Never => false.into_bound_py_any(py),
        }
    }
}

/// Words in a sequence. A single text is not meant as its letters.
fn sequence_of_words(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("expected a collection of words, not a single str"));
    }
    value.try_iter()?.map(|word| word?.extract()).collect()
}

/// Make all `changes`, each by `set`. An error names its setting.
pub(crate) fn change<S>(
    settings: &mut S,
    changes: Option<&Bound<'_, PyDict>>,
    set: impl Fn(&mut S, &str, &Bound<'_, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    for (name, value) in changes.into_iter().flatten() {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        set(settings, &name, &value).map_err(|error| {
            let py = value.py();
            let (kind, text) = (error.get_type(py), error.value(py).to_string());
            let named = PyErr::from_type(kind, format!("{name}: {text}"));
            named.set_cause(py, error.cause(py));
            named
        })?;
    }
    Ok(())
}

/// A default of the table as Python writes it.
macro_rules! python_default {
    (nothing) => {
        "()"
    };
    (seconds($seconds:literal)) => {
        concat!(stringify!($seconds), ".0")
    };
    (text($text:literal)) => {
        concat!("'", $text, "'")
    };
    (word($word:literal, $value:expr)) => {
        concat!("'", $word, "'")
    };
    (words($words:literal, $value:expr)) => {
        $words
    };
    (true) => {
        "True"
    };
    (false) => {
        "False"
    };
    (None) => {
        "None"
    };
    (Some($value:literal)) => {
        stringify!($value)
    };
    ($value:literal) => {
        stringify!($value)
    };
}

/// A Python class over checked settings, from the rows of a table. The first row is the positional argument.
macro_rules! config_class {
    (
        {
            $Config:ident of $Checked:path, $Settings:ident;
            $(#[doc = $head:literal])+ args
            $(#[doc = $tail:literal])+ methods { $($methods:tt)* }
        }
        #[doc = $first_doc:literal] $first:ident: $first_type:ty = [$($first_default:tt)*];
        $( #[doc = $doc:literal] $(#[doc = $more:literal])* $name:ident: $type:ty = [$($default:tt)*] $(, at least $least:literal)?; )*
    ) => {
        // CPython takes the signature of a class from the front of its docstring.
        #[doc = concat!(
            stringify!($Config), "(", stringify!($first), "=", $crate::settings::python_default!($($first_default)*), ", *",
            $( ", ", stringify!($name), "=", $crate::settings::python_default!($($default)*), )* ")\n--\n"
        )]
        $(#[doc = $head])+
        // help() shows the text of each setting at its attribute. tools/make_stub.py writes it here, for editors.
        #[doc = "\nArgs:\n    settings: Each attribute below is an argument of the same name."]
        #[doc = ""]
        $(#[doc = $tail])+
        #[pyclass(frozen, module = "ehlo", weakref)]
        pub(crate) struct $Config {
            pub(crate) inner: std::sync::Arc<$Checked>,
        }

        impl $Config {
            fn settings(&self) -> &$Settings {
                self.inner.settings()
            }

            fn check(settings: $Settings) -> PyResult<Self> {
                let config =
                    <$Checked>::new(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
                Ok(Self { inner: std::sync::Arc::new(config) })
            }

            fn set(settings: &mut $Settings, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
                match name {
                    stringify!($first) => settings.$first = Setting::from_python(value)?,
                    $( stringify!($name) => settings.$name = Setting::from_python(value)?, )*
                    _ => return Err(PyTypeError::new_err("no such setting")),
                }
                Ok(())
            }

            /// The types of all settings, for the stub.
            pub(crate) fn types() -> Vec<$crate::settings::Types> {
                let settings = $Settings::default();
                vec![
                    $crate::settings::types_of(stringify!($first), &settings.$first),
                    $( $crate::settings::types_of(stringify!($name), &settings.$name), )*
                ]
            }
        }

        #[pymethods]
        impl $Config {
            #[new]
            #[pyo3(signature = ($first = None, **settings), text_signature = None)]
            fn new($first: Option<Bound<'_, PyAny>>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
                let mut made = $Settings::default();
                if let Some($first) = $first {
                    Self::set(&mut made, stringify!($first), &$first)?;
                }
                $crate::settings::change(&mut made, settings, Self::set)?;
                Self::check(made)
            }

            /// Make the same config with some settings changed. It is checked anew.
            ///
            /// Raises:
            ///     ValueError: a word that is not known, or settings that do not go together.
            ///     TypeError: a setting that does not exist, or a value of another type.
            ///
            /// Example:
            ///     >>> patient = config.replace(content_timeout=600)
            ///     >>> patient.content_timeout
            ///     600.0
            #[pyo3(signature = (**changes), text_signature = "($self, **changes)")]
            fn replace(&self, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
                let mut settings = self.settings().clone();
                $crate::settings::change(&mut settings, changes, Self::set)?;
                Self::check(settings)
            }

            #[doc = $first_doc]
            #[getter]
            fn $first<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                self.settings().$first.to_python(py)
            }

            $(
                #[doc = $doc]
                $(#[doc = $more])*
                #[getter]
                fn $name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                    self.settings().$name.to_python(py)
                }
            )*

            $($methods)*
        }
    };
}

pub(crate) use {config_class, python_default};
