//! What a trusted front says of the client: the PROXY header, XCLIENT and XFORWARD.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ehlo::syntax::xattr::{self, AttributeName, Value};
use ehlo::wire::proxy::{self, Endpoints};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFrozenSet, PyTuple};

use crate::buffer::lend;
use crate::error::{RemoteProtocolError, misuse};

/// A header of the PROXY protocol: what a proxy knows of the connection it carries. A client that is a proxy writes
/// one, a server reads it with `proxy=True`.
///
/// Args:
///     source, destination: address and port of the client and of what it reached; the paths as bytes for a Unix
///         socket; None for both when they are not known, or the connection is the proxy's own.
///     unknown: there is a client, and the proxy cannot name it (UNKNOWN in version 1, UNSPEC in version 2). Without it
///         a header without addresses says that the connection is the proxy's own (LOCAL).
///     tlvs: type and value of each, for version 2; a CRC32C (type 3) gets the right value when it is written.
///
/// Raises:
///     ValueError: if an address is no IP address, the two are of different families, or an unknown client has one.
///
/// Example:
///     >>> ehlo.ProxyHeader(("192.0.2.1", 56324), ("198.51.100.1", 25)).to_bytes(version=1)
///     b'PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n'
#[pyclass(frozen, module = "ehlo", weakref, eq)]
#[derive(PartialEq)]
pub(crate) struct ProxyHeader(pub(crate) Arc<proxy::ProxyHeader>);

#[pymethods]
impl ProxyHeader {
    #[new]
    #[pyo3(signature = (source = None, destination = None, *, unknown = false, tlvs = None),
           text_signature = "(source=None, destination=None, *, unknown=False, tlvs=())")]
    fn new(
        source: Option<&Bound<'_, PyAny>>,
        destination: Option<&Bound<'_, PyAny>>,
        unknown: bool,
        tlvs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let endpoints = match (source, destination) {
            (None, None) => None,
            (Some(source), Some(destination)) => Some(endpoints(source, destination)?),
            _ => return Err(PyValueError::new_err("give both source and destination, or neither")),
        };
        if unknown && endpoints.is_some() {
            return Err(PyValueError::new_err("an unknown client has no address: leave out source and destination"));
        }
        let mut list = Vec::new();
        if let Some(tlvs) = tlvs {
            for tlv in tlvs.try_iter()? {
                let (kind, value) = tlv?.extract::<(u8, Bound<'_, PyAny>)>()?;
                list.push((kind, lend(&value, <[u8]>::to_vec)?));
            }
        }
        Ok(Self(Arc::new(proxy::ProxyHeader { endpoints, unknown, tlvs: list })))
    }

    /// The client: address and port, the path of a Unix socket as bytes, or None.
    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.0.endpoints {
            None => Ok(None),
            Some(Endpoints::Tcp { source, .. }) => pair(py, source).map(Some),
            Some(Endpoints::Unix { source, .. }) => Ok(Some(PyBytes::new(py, source).into_any())),
        }
    }

    /// Whether there is a client that the proxy cannot name. It must not be taken for the proxy.
    #[getter]
    fn unknown(&self) -> bool {
        self.0.unknown
    }

    /// What the client reached, as `source`.
    #[getter]
    fn destination<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.0.endpoints {
            None => Ok(None),
            Some(Endpoints::Tcp { destination, .. }) => pair(py, destination).map(Some),
            Some(Endpoints::Unix { destination, .. }) => Ok(Some(PyBytes::new(py, destination).into_any())),
        }
    }

    /// Type and value of each TLV of version 2, known or not, in order.
    #[getter]
    fn tlvs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.tlvs.iter().map(|(kind, value)| (*kind, PyBytes::new(py, value))))
    }

    /// ALPN (2.2.1): the protocol that was negotiated.
    #[getter]
    fn alpn<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.alpn().map(|value| PyBytes::new(py, value))
    }

    /// AUTHORITY (2.2.2): the host name in the client's SNI.
    #[getter]
    fn authority(&self) -> Option<&str> {
        self.0.authority()
    }

    /// UNIQUE_ID (2.2.5): what the proxy calls the connection.
    #[getter]
    fn unique_id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.unique_id().map(|value| PyBytes::new(py, value))
    }

    /// NETNS (2.2.7): the network namespace.
    #[getter]
    fn netns(&self) -> Option<&str> {
        self.0.netns()
    }

    /// SSL (2.2.6): whether the client came to the proxy over TLS; None if that is not said.
    #[getter]
    fn is_tls(&self) -> Option<bool> {
        self.0.ssl().map(|ssl| ssl.is_tls())
    }

    /// SSL (2.2.6): the version of TLS.
    #[getter]
    fn tls_version(&self) -> Option<&str> {
        self.0.ssl().and_then(|ssl| ssl.version())
    }

    /// SSL (2.2.6): the name of the cipher.
    #[getter]
    fn tls_cipher(&self) -> Option<&str> {
        self.0.ssl().and_then(|ssl| ssl.cipher())
    }

    /// SSL (2.2.6): the common name in the client's certificate, if it showed one and the proxy verified it.
    #[getter]
    fn tls_common_name(&self) -> Option<&str> {
        self.0.ssl().filter(|ssl| ssl.has_certificate() && ssl.verified).and_then(|ssl| ssl.common_name())
    }

    /// The header as it goes over the wire.
    ///
    /// Args:
    ///     version: 1, a line of text without TLVs, or 2.
    ///
    /// Raises:
    ///     LocalProtocolError: if it is too long for version 2.
    ///     ValueError: for another version.
    #[pyo3(signature = (version = 2))]
    fn to_bytes<'py>(&self, py: Python<'py>, version: u8) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        match version {
            1 => self.0.write_v1(&mut out),
            2 => self.0.write_v2(&mut out).map_err(misuse)?,
            _ => return Err(PyValueError::new_err("the PROXY protocol has the versions 1 and 2")),
        }
        Ok(PyBytes::new(py, &out))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let repr = |value: Option<Bound<'_, PyAny>>| match value {
            Some(value) => value.repr().map(|text| text.to_string()),
            None => Ok("None".into()),
        };
        let more = if self.0.unknown { ", unknown=True" } else { "" };
        Ok(format!("ProxyHeader({}, {}{more})", repr(self.source(py)?)?, repr(self.destination(py)?)?))
    }
}

fn pair<'py>(py: Python<'py>, address: &SocketAddr) -> PyResult<Bound<'py, PyAny>> {
    (address.ip().to_string(), address.port()).into_bound_py_any(py)
}

fn endpoints(source: &Bound<'_, PyAny>, destination: &Bound<'_, PyAny>) -> PyResult<Endpoints> {
    if let (Ok(source), Ok(destination)) = (source.cast::<PyBytes>(), destination.cast::<PyBytes>()) {
        let (source, destination) = (source.as_bytes().to_vec(), destination.as_bytes().to_vec());
        return Ok(Endpoints::Unix { source, destination });
    }
    let address = |pair: &Bound<'_, PyAny>| {
        let pair = pair.extract::<(String, u16)>();
        let (host, port) = pair.map_err(|_| PyTypeError::new_err("expected (address, port), or a path as bytes"))?;
        let host = host.parse::<IpAddr>().map_err(|_| PyValueError::new_err(format!("{host:?} is no IP address")))?;
        Ok::<_, PyErr>(SocketAddr::new(host, port))
    };
    let (source, destination) = (address(source)?, address(destination)?);
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(PyValueError::new_err("source and destination are of different families"));
    }
    Ok(Endpoints::Tcp { source, destination })
}

/// Look for a PROXY header at the front of `octets`.
///
/// Args:
///     octets: what came so far; any contiguous buffer.
///
/// Returns:
///     The header and how many octets it took; None when more is needed to tell.
///
/// Raises:
///     RemoteProtocolError: if it is no header and cannot become one: close the connection (PROXY protocol 2).
///
/// Example:
///     >>> header, length = ehlo.parse_proxy(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n")
///     >>> header.source
///     ('192.0.2.1', 56324)
#[pyfunction]
pub(crate) fn parse_proxy(octets: &Bound<'_, PyAny>) -> PyResult<Option<(ProxyHeader, usize)>> {
    match lend(octets, proxy::ProxyHeader::parse)? {
        Ok(found) => Ok(found.map(|(header, length)| (ProxyHeader(Arc::new(header)), length))),
        Err(error) => Err(RemoteProtocolError::new_err(error.to_string())),
    }
}

/// What XCLIENT or XFORWARD say of a client (Postfix XCLIENT_README, XFORWARD_README). What was not said, and what
/// is not available, is None.
///
/// Example:
///     >>> event.attributes.addr, event.attributes.name
///     ('2001:db8::1', None)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ClientAttributes(pub(crate) Arc<xattr::Attributes>);

impl ClientAttributes {
    fn named<'py>(&self, py: Python<'py>, fits: impl Fn(&Value) -> bool) -> PyResult<Bound<'py, PyFrozenSet>> {
        PyFrozenSet::new(py, self.0.iter().filter(|(_, value)| fits(value)).map(|(name, _)| name.as_str()))
    }
}

#[pymethods]
impl ClientAttributes {
    /// NAME: the client's host name.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// ADDR: the client's IP address.
    #[getter]
    fn addr(&self) -> Option<String> {
        self.0.addr().map(|address| address.to_string())
    }

    /// PORT: the client's port.
    #[getter]
    fn port(&self) -> Option<u16> {
        self.0.port()
    }

    /// PROTO: "SMTP" or "ESMTP"; in XFORWARD any word.
    #[getter]
    fn proto(&self) -> Option<&str> {
        self.0.text(AttributeName::Proto)
    }

    /// HELO: the client's name for itself.
    #[getter]
    fn helo(&self) -> Option<&str> {
        self.0.text(AttributeName::Helo)
    }

    /// LOGIN: the user that has authenticated; XCLIENT only.
    #[getter]
    fn login(&self) -> Option<&str> {
        self.0.text(AttributeName::Login)
    }

    /// DESTADDR: the IP address that the client reached; XCLIENT only.
    #[getter]
    fn dest_addr(&self) -> Option<String> {
        self.0.dest_addr().map(|address| address.to_string())
    }

    /// DESTPORT: the port that the client reached; XCLIENT only.
    #[getter]
    fn dest_port(&self) -> Option<u16> {
        self.0.dest_port()
    }

    /// IDENT: what the sender of XFORWARD calls the message.
    #[getter]
    fn ident(&self) -> Option<&str> {
        self.0.text(AttributeName::Ident)
    }

    /// SOURCE: "LOCAL" or "REMOTE"; XFORWARD only.
    #[getter]
    fn source(&self) -> Option<&str> {
        self.0.text(AttributeName::Source)
    }

    /// Names of which "[UNAVAILABLE]" was said.
    #[getter]
    fn unavailable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        self.named(py, |value| matches!(value, Value::Unavailable))
    }

    /// Names of which "[TEMPUNAVAIL]" was said: a look-up failed for the moment.
    #[getter]
    fn temporarily_unavailable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        self.named(py, |value| matches!(value, Value::TemporarilyUnavailable))
    }

    fn __repr__(&self) -> String {
        format!("ClientAttributes({:?})", self.0)
    }
}
