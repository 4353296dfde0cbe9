//! The header of the PROXY protocol, versions 1 and 2 (the HAProxy PROXY protocol specification), read and written.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1_START: &[u8] = b"PROXY ";
/// Octets of a version 1 header with its CRLF (2.1).
const V1_MAX: usize = 107;
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of the fixed part of version 2 (2.2).
const V2_FIXED: usize = 16;
/// Octets behind the fixed part that are taken; the field could say 65535.
const V2_MAX: usize = 4096;
/// Octets of a Unix address (2.2).
const UNIX_PATH: usize = 108;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const NETNS: u8 = 0x30;
/// Octets of a UNIQUE_ID (2.2.5).
const MAX_UNIQUE_ID: usize = 128;

/// Why octets are no PROXY header. There is nothing to answer: the connection is closed (2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The address, or its port, is not written as it has to be, or is of another family.
    Address,
    /// The checksum is wrong, is not four octets, or is there twice (2.2.4).
    Checksum,
    /// Neither LOCAL nor PROXY (2.2).
    Command,
    /// A family or protocol that is not in the table, or datagrams (2.2).
    Family,
    /// It is not a PROXY header.
    NotProxy,
    /// The line of version 1 ends in a bare LF, or is not made as it has to be (2.1).
    Syntax,
    /// Longer than a header may be.
    TooLong,
    /// A TLV goes past the end, or is not what its type says (2.2).
    Tlv,
    /// Shorter than the addresses of its family (2.2).
    TooShort,
    /// A version that is not known (2.2).
    Version,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "the PROXY header has a malformed address or port",
            Self::Checksum => "the checksum of the PROXY header is wrong",
            Self::Command => "the PROXY header has an unknown command",
            Self::Family => "the PROXY header has an unknown address family or protocol",
            Self::NotProxy => "there is no PROXY header",
            Self::Syntax => "the PROXY header is malformed",
            Self::TooLong => "the PROXY header is too long",
            Self::Tlv => "the PROXY header has a malformed TLV",
            Self::TooShort => "the PROXY header is too short for its addresses",
            Self::Version => "the PROXY header has an unknown version",
        })
    }
}

impl Error for ProxyError {}

/// Who is connected to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// TCP over IPv4 or IPv6; both of one family.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// What it reached.
        destination: SocketAddr,
    },
    /// A Unix stream socket; paths without the NULs that fill them up.
    Unix {
        /// The client.
        source: Vec<u8>,
        /// What it reached.
        destination: Vec<u8>,
    },
}

/// One header: what a proxy knows of the connection that it carries.
///
/// ```
/// # use ehlo::wire::proxy::ProxyHeader;
/// let input = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\nEHLO x\r\n";
/// let (header, length) = ProxyHeader::parse(input).unwrap().unwrap();
/// assert_eq!(header.source(), "192.0.2.1:56324".parse().ok());
/// assert_eq!(&input[length..], b"EHLO x\r\n");
/// assert_eq!(ProxyHeader::parse(b"PROXY TC"), Ok(None)); // come again with more
/// assert!(ProxyHeader::parse(b"EHLO x\r\n").is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// `None` for UNKNOWN, LOCAL and UNSPEC (2.1, 2.2).
    pub endpoints: Option<Endpoints>,
    /// A client is behind the proxy, and the proxy cannot name it: UNKNOWN in version 1, UNSPEC in version 2. It is
    /// false for LOCAL: such a connection is the proxy's own, and its own endpoints stand.
    pub unknown: bool,
    /// Each TLV of version 2 but NOOP, type and value as they came, in order (2.2).
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

/// What the SSL TLV says (2.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    /// The bit field: 1 the client came over TLS, 2 it showed a certificate in this connection, 4 in this session.
    pub client: u8,
    /// Whether the certificate, if there was one, was verified.
    pub verified: bool,
    rest: &'a [u8],
}

impl<'a> Ssl<'a> {
    /// The client came over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.client & 1 != 0
    }

    /// The client showed a certificate, in this connection or in the session it resumed.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.client & 6 != 0
    }

    /// The version of TLS, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'a str> {
        self.text(0x21)
    }

    /// The common name in the client's certificate.
    #[must_use]
    pub fn common_name(&self) -> Option<&'a str> {
        self.text(0x22)
    }

    /// The name of the cipher.
    #[must_use]
    pub fn cipher(&self) -> Option<&'a str> {
        self.text(0x23)
    }

    fn text(&self, kind: u8) -> Option<&'a str> {
        Tlvs(self.rest).flatten().find(|(known, _)| *known == kind).and_then(|(_, value)| str::from_utf8(value).ok())
    }
}

impl ProxyHeader {
    /// Looks for a header at the front of `input`. `Ok(None)` asks for more; at most 4112 octets are looked at. Gives the
    /// header and how many octets it took.
    ///
    /// # Errors
    /// As soon as it is clear that no header will come of it: the connection is to be closed (2).
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        let begins = |start: &[u8]| input.iter().zip(start).all(|(a, b)| a == b);
        if begins(V2_START) {
            parse_v2(input)
        } else if begins(V1_START) {
            parse_v1(input)
        } else {
            Err(ProxyError::NotProxy)
        }
    }

    /// The octets of `input` up to the one that shows that there is no header; all of them if there may be one.
    #[must_use]
    pub fn wrong_start(input: &[u8]) -> &[u8] {
        let (mut good, mut wrong) = (0, input.len());
        while good + 1 < wrong {
            let middle = good.midpoint(wrong);
            if Self::parse(&input[..middle]).is_err() { wrong = middle } else { good = middle }
        }
        &input[..wrong]
    }

    /// The client's address and port, if they are known and of the Internet.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        match self.endpoints {
            Some(Endpoints::Tcp { source, .. }) => Some(source),
            _ => None,
        }
    }

    /// The address and port that the client reached, if they are known and of the Internet.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.endpoints {
            Some(Endpoints::Tcp { destination, .. }) => Some(destination),
            _ => None,
        }
    }

    /// ALPN: the protocol that was negotiated (2.2.1).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(ALPN)
    }

    /// AUTHORITY: the host name of the client's SNI (2.2.2).
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.tlv(AUTHORITY).and_then(|value| str::from_utf8(value).ok())
    }

    /// UNIQUE_ID: what the proxy calls the connection (2.2.5).
    #[must_use]
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(UNIQUE_ID)
    }

    /// NETNS: the name of the network namespace (2.2.7).
    #[must_use]
    pub fn netns(&self) -> Option<&str> {
        self.tlv(NETNS).and_then(|value| str::from_utf8(value).ok())
    }

    /// SSL: what the proxy knows of the client's TLS (2.2.6).
    #[must_use]
    pub fn ssl(&self) -> Option<Ssl<'_>> {
        self.tlv(SSL).and_then(ssl)
    }

    fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs.iter().find(|(known, _)| *known == kind).map(|(_, value)| &**value)
    }

    /// Writes version 1 (2.1). Without Internet addresses it is `PROXY UNKNOWN`; TLVs have no place in it.
    pub fn write_v1(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        drop(match self.endpoints {
            Some(Endpoints::Tcp { source, destination }) if source.is_ipv4() == destination.is_ipv4() => write!(
                out,
                "PROXY TCP{} {} {} {} {}\r\n",
                if source.is_ipv4() { 4 } else { 6 },
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            ),
            _ => write!(out, "PROXY UNKNOWN\r\n"),
        });
    }

    /// Writes version 2 (2.2). Without endpoints it is LOCAL, or UNSPEC if the client is `unknown`. A CRC32C among the TLVs gets the right value.
    ///
    /// # Errors
    /// If a TLV, a path or the whole is too long, or the endpoints are of two families; then nothing is written.
    pub fn write_v2(&self, out: &mut Vec<u8>) -> Result<(), ProxyError> {
        let mut block = Vec::new();
        let (command, family) = match &self.endpoints {
            None => (if self.unknown { 0x21 } else { 0x20 }, 0x00),
            Some(Endpoints::Tcp { source, destination }) => {
                let family = match (source.ip(), destination.ip()) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        block.extend_from_slice(&[source.octets(), destination.octets()].concat());
                        0x11
                    }
                    (IpAddr::V6(source), IpAddr::V6(destination)) => {
                        block.extend_from_slice(&[source.octets(), destination.octets()].concat());
                        0x21
                    }
                    _ => return Err(ProxyError::Family),
                };
                block.extend_from_slice(&source.port().to_be_bytes());
                block.extend_from_slice(&destination.port().to_be_bytes());
                (0x21, family)
            }
            Some(Endpoints::Unix { source, destination }) => {
                for (index, path) in [source, destination].into_iter().enumerate() {
                    if path.len() > UNIX_PATH {
                        return Err(ProxyError::Address);
                    }
                    block.extend_from_slice(path);
                    block.resize((index + 1) * UNIX_PATH, 0);
                }
                (0x21, 0x31)
            }
        };
        let mut checksum = None;
        for (kind, value) in &self.tlvs {
            let value: &[u8] = if *kind == CRC32C { &[0; 4] } else { value };
            let length = u16::try_from(value.len()).map_err(|_| ProxyError::TooLong)?;
            block.push(*kind);
            block.extend_from_slice(&length.to_be_bytes());
            if *kind == CRC32C {
                checksum = Some(V2_FIXED + block.len());
            }
            block.extend_from_slice(value);
        }
        if block.len() > V2_MAX {
            return Err(ProxyError::TooLong);
        }
        let length = u16::try_from(block.len()).map_err(|_| ProxyError::TooLong)?;
        let start = out.len();
        out.extend_from_slice(V2_START);
        out.extend_from_slice(&[command, family]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
        if let Some(at) = checksum {
            let sum = crc32c(out[start..].iter().copied());
            out[start + at..start + at + 4].copy_from_slice(&sum.to_be_bytes());
        }
        Ok(())
    }
}

/// ```text
/// PROXY SP ( TCP4 / TCP6 ) SP source SP destination SP source-port SP destination-port CRLF
/// PROXY SP UNKNOWN *OCTET CRLF
/// ```
fn parse_v1(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let seen = &input[..input.len().min(V1_MAX)];
    let Some(lf) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < V1_MAX { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    let line = seen[..lf].strip_suffix(b"\r").ok_or(ProxyError::Syntax)?;
    let words = line.strip_prefix(V1_START).ok_or(ProxyError::Syntax)?;
    let length = lf + 1;
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(Some((ProxyHeader { unknown: true, ..ProxyHeader::default() }, length)));
    }
    let text = str::from_utf8(words).map_err(|_| ProxyError::Syntax)?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(ProxyError::Syntax);
    let (family, source, destination) = (word()?, word()?, word()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(ProxyError::Syntax);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| ProxyError::Address),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ProxyError::Address),
        _ => Err(ProxyError::Family),
    };
    let source = SocketAddr::new(address(source)?, source_port);
    let destination = SocketAddr::new(address(destination)?, destination_port);
    let endpoints = Some(Endpoints::Tcp { source, destination });
    let header = ProxyHeader { endpoints, ..ProxyHeader::default() };
    Ok(Some((header, length)))
}

/// A decimal number without leading zeros (2.1).
fn port(text: &str) -> Result<u16, ProxyError> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0'))
    {
        return Err(ProxyError::Address);
    }
    text.parse().map_err(|_| ProxyError::Address)
}

fn parse_v2(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let Some((&[.., command, family, high, low], rest)) = input.split_first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    if command >> 4 != 2 {
        return Err(ProxyError::Version);
    }
    let local = match command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(ProxyError::Command),
    };
    let size = usize::from(u16::from_be_bytes([high, low]));
    if size > V2_MAX {
        return Err(ProxyError::TooLong);
    }
    let addresses = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 2 * UNIX_PATH,
        _ => return Err(ProxyError::Family),
    };
    if size < addresses {
        return Err(ProxyError::TooShort);
    }
    let Some(block) = rest.get(..size) else { return Ok(None) };
    let length = V2_FIXED + size;
    // LOCAL: "discard the protocol block including the family"; UNSPEC: the block's form is not known.
    if local || family == 0 {
        return Ok(Some((ProxyHeader { unknown: !local, ..ProxyHeader::default() }, length)));
    }
    let (endpoints, tlvs) = block.split_at(addresses);
    let endpoints = endpoints_of(family, endpoints).ok_or(ProxyError::TooShort)?;
    let tlvs = read_tlvs(&input[..length], tlvs)?;
    Ok(Some((ProxyHeader { endpoints: Some(endpoints), tlvs, ..ProxyHeader::default() }, length)))
}

fn endpoints_of(family: u8, block: &[u8]) -> Option<Endpoints> {
    if family == 0x31 {
        let path = |octets: &[u8]| {
            let end = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
            octets[..end].to_vec()
        };
        let (source, destination) = block.split_at_checked(UNIX_PATH)?;
        return Some(Endpoints::Unix { source: path(source), destination: path(destination) });
    }
    let (addresses, ports) = block.split_at_checked(block.len().checked_sub(4)?)?;
    let (source, destination) = addresses.split_at_checked(addresses.len() / 2)?;
    let address = |octets: &[u8]| match family {
        0x11 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    };
    let port = |at: usize| Some(u16::from_be_bytes([*ports.get(at)?, *ports.get(at + 1)?]));
    Some(Endpoints::Tcp {
        source: SocketAddr::new(address(source)?, port(0)?),
        destination: SocketAddr::new(address(destination)?, port(2)?),
    })
}

/// The TLVs in octets; `Err` where one goes past the end, and then nothing more.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), ProxyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.split_first_chunk::<3>().and_then(|(&[kind, high, low], rest)| {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            Some((kind, value, rest))
        });
        let Some((kind, value, rest)) = split else {
            self.0 = &[];
            return Some(Err(ProxyError::Tlv));
        };
        self.0 = rest;
        Some(Ok((kind, value)))
    }
}

/// `block` is the end of `header`.
fn read_tlvs(header: &[u8], block: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, ProxyError> {
    let mut tlvs = Vec::new();
    let mut checksum = None;
    let mut at = header.len() - block.len();
    for tlv in Tlvs(block) {
        let (kind, value) = tlv?;
        at += 3;
        match kind {
            CRC32C if checksum.is_none() && value.len() == 4 => checksum = Some(at),
            CRC32C => return Err(ProxyError::Checksum),
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(ProxyError::Tlv),
            SSL if ssl(value).is_none() => return Err(ProxyError::Tlv),
            _ => {}
        }
        at += value.len();
        if kind != NOOP {
            tlvs.push((kind, value.to_vec()));
        }
    }
    if let Some(at) = checksum {
        // 2.2.4: over the whole header, with zeros where the checksum is.
        let octets = header.iter().enumerate().map(|(i, &octet)| if (at..at + 4).contains(&i) { 0 } else { octet });
        if header.get(at..at + 4) != Some(&crc32c(octets).to_be_bytes()[..]) {
            return Err(ProxyError::Checksum);
        }
    }
    Ok(tlvs)
}

/// ```text
/// client (1) verify (4) *( type (1) length (2) value )          ; 2.2.6
/// ```
fn ssl(value: &[u8]) -> Option<Ssl<'_>> {
    let (&[client, verify @ ..], rest) = value.split_first_chunk::<5>()?;
    Tlvs(rest).all(|tlv| tlv.is_ok()).then_some(Ssl { client, verified: verify == [0; 4], rest })
}

/// The CRC of RFC 3720 B.4, bit by bit: it is wanted once a connection, over some hundred octets.
fn crc32c(octets: impl Iterator<Item = u8>) -> u32 {
    !octets.fold(!0, |crc, octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 3720 B.4
    #[test]
    fn checksum_vectors() {
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }
}
