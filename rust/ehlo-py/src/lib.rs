//! `ehlo._core`: the engine as Python sees it.
//!
//! Three rules hold in this crate:
//!
//! 1. It converts, and never decides. The code that decides what a peer is told is in `ehlo::session`.
//! 2. It never calls Python code. There are no callbacks.
//! 3. `unsafe` stands in `buffer.rs`, `content.rs` and `socket.rs` only, and each block has its proof.
//!
//! One file for each concern:
//!
//! - `server/`: the server's session: connection, config, events.
//! - `client/`: the client's session, in the same files.
//! - `exchange.rs`: octets between the sockets and the sessions of both, many in one call.
//! - `values/`: addresses, envelopes, replies, commands, capabilities, and what a trusted front says of a client.
//! - `settings.rs`: how a table of settings becomes a Python class.
//! - `codec.rs`: the dot codec and xtext.
//! - `dkim.rs`: the forms that DKIM signs.
//! - `buffer.rs`, `content.rs`: memory that is shared with Python.
//! - `socket.rs`: sockets of the program's.
//! - `convert.rs`, `error.rs`, `lazy.rs`: what all the others use.
#![deny(unsafe_code)]

mod buffer;
mod client;
mod codec;
mod content;
mod convert;
mod dkim;
mod epoll;
mod error;
mod exchange;
mod lazy;
mod server;
mod settings;
mod socket;
mod values;

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

/// For the tool that writes the stub: of each class of settings, the name of each setting, the type that the class takes and
/// the type that the property has.
#[pyfunction]
fn _setting_types() -> Vec<(&'static str, Vec<settings::Types>)> {
    vec![
        ("ClientConfig", client::config::ClientConfig::types()),
        ("ServerConfig", server::config::ServerConfig::types()),
    ]
}

/// The engine, written in Rust. Import these names from `ehlo`, not from here.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::exceptions::PyRuntimeWarning;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::buffer::ReceiveBuffer;
    #[pymodule_export]
    use super::build_info;
    #[pymodule_export]
    use super::client::config::ClientConfig;
    #[pymodule_export]
    use super::client::connection::ClientConnection;
    #[pymodule_export]
    use super::client::event::{
        Challenge, ClientDisconnect, CommandReply, Ready, RecipientResult, SendResult, Unsolicited,
    };
    #[pymodule_export]
    use super::codec::{DotDecoder, DotEncoder, dot_stuff, dot_unstuff, xtext_decode, xtext_encode};
    #[pymodule_export]
    use super::dkim::{DkimBody, dkim_fields, dkim_header};
    #[pymodule_export]
    use super::exchange::Exchange;
    #[pymodule_export]
    use super::server::config::ServerConfig;
    #[pymodule_export]
    use super::server::connection::ServerConnection;
    #[pymodule_export]
    use super::server::event::{
        Auth, AuthCancelled, AuthResponse, BadProxy, Chunk, CommandReceived, Connect, ContentAborted, ContentStart,
        Data, Disconnect, Etrn, Expn, Hello, Mail, Message, Proxy, Rcpt, Refusal, Refused, Reset, StartTls, Vrfy,
        Xclient,
    };
    #[pymodule_export]
    use super::values::address::{Address, NullPath, Postmaster};
    #[pymodule_export]
    use super::values::capability::Capabilities;
    #[pymodule_export]
    use super::values::command::{Command, parse_command};
    #[pymodule_export]
    use super::values::envelope::{Envelope, Recipient, Sender};
    #[pymodule_export]
    use super::values::front::{ClientAttributes, ProxyHeader, parse_proxy};
    #[pymodule_export]
    use super::values::reply::{Reply, parse_reply};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", python_version(env!("CARGO_PKG_VERSION")))?;
        module.add("NULL", super::values::address::null(py)?)?;
        // Not by `add`, which would list it in `__all__`.
        module.setattr("_setting_types", wrap_pyfunction!(super::_setting_types, module)?)?;
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
