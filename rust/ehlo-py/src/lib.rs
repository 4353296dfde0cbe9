//! `ehlo._core`: the engine as Python sees it.
//!
//! Rule 1: this crate converts, it never decides. What is answered to a peer is written in `ehlo::session`.
//! Rule 2: nothing here calls into Python code; there are no callbacks.
//! Rule 3: `unsafe` lives in [`buffer`] and [`content`] only, each block with its proof.
//!
//! One file for each concern:
//!
//! - [`server`], [`config`], [`event`]: the server's session.
//! - [`client`], [`client_config`], [`client_event`]: the client's.
//! - [`address`], [`envelope`], [`reply`], [`capability`], [`command`]: words.
//! - [`peer`]: what a trusted front says of the client.
//! - [`codec`]: the dot codec and xtext.
//! - [`buffer`], [`content`]: memory that is shared with Python.
//! - [`error`], [`lazy`]: what all the others use.
#![deny(unsafe_code)]

mod address;
mod buffer;
mod capability;
mod client;
mod client_config;
mod client_event;
mod codec;
mod command;
mod config;
mod content;
mod envelope;
mod error;
mod event;
mod lazy;
mod peer;
mod reply;
mod server;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What this extension module was built from and how, for bug reports and benchmarks.
///
/// Example:
///     >>> ehlo.build_info()["profile"]
///     'release'
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { env!("EHLO_PROFILE") })?;
    info.set_item("opt_level", env!("EHLO_OPT_LEVEL"))?;
    info.set_item("target", env!("EHLO_TARGET"))?;
    info.set_item("abi", if cfg!(Py_LIMITED_API) { "abi3" } else { "version-specific" })?;
    Ok(info)
}

/// The engine, written in Rust. Import these names from `ehlo`, not from here.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::exceptions::PyRuntimeWarning;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::address::{Address, NullPath, Postmaster};
    #[pymodule_export]
    use super::buffer::ReceiveBuffer;
    #[pymodule_export]
    use super::build_info;
    #[pymodule_export]
    use super::capability::Capabilities;
    #[pymodule_export]
    use super::client::ClientConnection;
    #[pymodule_export]
    use super::client_config::ClientConfig;
    #[pymodule_export]
    use super::client_event::{
        Challenge, ClientDisconnect, CommandReply, Ready, RecipientResult, SendResult, Unsolicited,
    };
    #[pymodule_export]
    use super::codec::{DotDecoder, DotEncoder, dot_stuff, dot_unstuff, xtext_decode, xtext_encode};
    #[pymodule_export]
    use super::command::{Command, parse_command};
    #[pymodule_export]
    use super::config::ServerConfig;
    #[pymodule_export]
    use super::envelope::{Envelope, Recipient, Sender};
    #[pymodule_export]
    use super::event::{
        Auth, AuthResponse, Chunk, Connect, ContentAborted, ContentStart, Data, Disconnect, Etrn, Expn, Hello, Mail,
        Message, Proxy, Rcpt, Reset, StartTls, Vrfy, Xclient,
    };
    #[pymodule_export]
    use super::peer::{ClientAttributes, ProxyHeader, parse_proxy};
    #[pymodule_export]
    use super::reply::{Reply, parse_reply};
    #[pymodule_export]
    use super::server::ServerConnection;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", python_version(env!("CARGO_PKG_VERSION")))?;
        module.add("NULL", super::address::null(py)?)?;
        if cfg!(debug_assertions) {
            let category = py.get_type::<PyRuntimeWarning>();
            PyErr::warn(py, &category, c"ehlo was built without optimisation: do not measure it", 1)?;
        }
        Ok(())
    }

    /// Cargo's `1.0.0-alpha.1` is Python's `1.0.0a1` (PEP 440).
    fn python_version(cargo: &str) -> String {
        cargo.replace("-alpha.", "a").replace("-beta.", "b").replace("-rc.", "rc")
    }
}
