//! The settings of a client.

use ehlo::session::client::{self, ClientSettings};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::settings::{Setting, config_class};

ehlo::client_settings!(config_class {
    ClientConfig of client::ClientConfig, ClientSettings;
    /// The settings of a client: how it speaks, and how much it takes from a server. A config is checked once and then
    /// frozen. One object serves all connections.
    args
    /// Raises:
    ///     ValueError: a word that is not known, or settings that make no client.
    ///     TypeError: a setting that does not exist, or a value of another type.
    ///
    /// Example:
    ///     >>> config = ehlo.ClientConfig("client.example.org", chunking=False)
    ///     >>> conn = ehlo.ClientConnection(config)
    methods {
        fn __repr__(&self) -> String {
            format!("ClientConfig({:?})", self.settings().hostname)
        }
    }
});
