//! The attributes of XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::address::{is_domain, parse_ipv4, parse_ipv6};
use super::class::is_control;
use crate::wire::xtext;

/// A name as written, and its value decoded.
pub(super) type Attribute<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Octets of a value (XFORWARD_README: "attribute values are not longer than 255 characters").
const MAX_VALUE: usize = 255;

/// Which of the two commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Xclient,
    Xforward,
}

/// ```abnf
/// xclient-command = XCLIENT 1*( SP attribute-name "=" attribute-value )
/// attribute-value = xtext
/// ```
/// `None` if the words are anything else, a name comes twice, or a value is none for its name.
pub(super) fn parse(arguments: &str, of: Of) -> Option<Vec<Attribute<'_>>> {
    let mut attributes: Vec<Attribute<'_>> = Vec::new();
    for word in arguments.split([' ', '\t']).filter(|word| !word.is_empty()) {
        let (name, encoded) = word.split_once('=')?;
        let value = String::from_utf8(xtext::decode(encoded.as_bytes()).ok()?).ok()?;
        if !fits(name, &value, of) || attributes.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return None;
        }
        attributes.push((Cow::Borrowed(name), Cow::Owned(value)));
    }
    if attributes.is_empty() { None } else { Some(attributes) }
}

fn fits(name: &str, value: &str, of: Of) -> bool {
    if value.is_empty() || value.len() > MAX_VALUE || value.bytes().any(is_control) {
        return false;
    }
    // What would be "unsafe in a message header", which is where XFORWARD's values end.
    let header_special = |octet: u8| b" <>()\\\";@,".contains(&octet) || !octet.is_ascii();
    if of == Of::Xforward && value.bytes().any(header_special) {
        return false;
    }
    let Some(name) = AttributeName::parse(name) else { return false };
    let known = match of {
        Of::Xclient => name.in_xclient(),
        Of::Xforward => name.in_xforward(),
    };
    let unavailable = value.eq_ignore_ascii_case("[UNAVAILABLE]")
        || (name == AttributeName::Name && value.eq_ignore_ascii_case("[TEMPUNAVAIL]"));
    known
        && (unavailable
            || match (name, of) {
                (AttributeName::Name, _) => is_domain(value, true),
                (AttributeName::Addr | AttributeName::DestAddr, _) => address(value).is_some(),
                (AttributeName::Port | AttributeName::DestPort, _) => {
                    value.bytes().all(|o| o.is_ascii_digit()) && value.parse::<u16>().is_ok()
                }
                (AttributeName::Proto, Of::Xclient) => {
                    value.eq_ignore_ascii_case("SMTP") || value.eq_ignore_ascii_case("ESMTP")
                }
                (AttributeName::Proto, Of::Xforward) => value.len() <= 64,
                (AttributeName::Source, _) => {
                    value.eq_ignore_ascii_case("LOCAL") || value.eq_ignore_ascii_case("REMOTE")
                }
                (AttributeName::Helo | AttributeName::Ident | AttributeName::Login, _) => true,
            })
}

/// The name of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttributeName {
    /// The client's address.
    Addr,
    /// The address that the client reached (XCLIENT).
    DestAddr,
    /// The port that the client reached (XCLIENT).
    DestPort,
    /// The client's name for itself.
    Helo,
    /// What the sender of XFORWARD calls the message (XFORWARD).
    Ident,
    /// The user that has authenticated (XCLIENT).
    Login,
    /// The client's name, looked up.
    Name,
    /// The client's port.
    Port,
    /// SMTP or ESMTP; in XFORWARD a word of the sender's own.
    Proto,
    /// LOCAL or REMOTE (XFORWARD).
    Source,
}

impl AttributeName {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Addr,
        Self::Port,
        Self::Proto,
        Self::Helo,
        Self::Login,
        Self::DestAddr,
        Self::DestPort,
        Self::Ident,
        Self::Source,
    ];

    /// In upper case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Addr => "ADDR",
            Self::DestAddr => "DESTADDR",
            Self::DestPort => "DESTPORT",
            Self::Helo => "HELO",
            Self::Ident => "IDENT",
            Self::Login => "LOGIN",
            Self::Name => "NAME",
            Self::Port => "PORT",
            Self::Proto => "PROTO",
            Self::Source => "SOURCE",
        }
    }

    /// The name that `word` is, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str().eq_ignore_ascii_case(word))
    }

    /// Whether XCLIENT has it.
    #[must_use]
    pub const fn in_xclient(self) -> bool {
        !matches!(self, Self::Ident | Self::Source)
    }

    /// Whether XFORWARD has it.
    #[must_use]
    pub const fn in_xforward(self) -> bool {
        !matches!(self, Self::Login | Self::DestAddr | Self::DestPort)
    }
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `[TEMPUNAVAIL]`: a look-up failed for the moment.
    TemporarilyUnavailable,
    /// The text, decoded.
    Text(Box<str>),
    /// `[UNAVAILABLE]`: nothing is known.
    Unavailable,
}

/// What XCLIENT or XFORWARD say of a client, each name once, in the order they came first.
///
/// ```
/// # use ehlo::syntax::{command::{Command, parse_command}, options::Options, xattr::Attributes};
/// let command = parse_command(b"XCLIENT ADDR=IPV6:2001:db8::1 NAME=[UNAVAILABLE]", &Options::default());
/// let Ok(Command::Xclient(pairs)) = command else { panic!() };
/// let attributes = Attributes::from_pairs(&pairs);
/// assert_eq!(attributes.addr(), "2001:db8::1".parse().ok());
/// assert_eq!(attributes.name(), None);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(AttributeName, Value)>);

impl Attributes {
    /// The attributes of a command that was parsed.
    #[must_use]
    pub fn from_pairs(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Self {
        let value = |text: &str| {
            if text.eq_ignore_ascii_case("[UNAVAILABLE]") {
                Value::Unavailable
            } else if text.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
                Value::TemporarilyUnavailable
            } else {
                Value::Text(text.into())
            }
        };
        Self(pairs.iter().filter_map(|(name, text)| Some((AttributeName::parse(name)?, value(text)))).collect())
    }

    /// Take over what `newer` says.
    pub fn update(&mut self, newer: Self) {
        for (name, value) in newer.0 {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.0.push((name, value)),
            }
        }
    }

    /// Each attribute, in order.
    pub fn iter(&self) -> impl Iterator<Item = (AttributeName, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// What was said of one of them; `None` if nothing was.
    #[must_use]
    pub fn get(&self, name: AttributeName) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The text of one of them, if it is available.
    #[must_use]
    pub fn text(&self, name: AttributeName) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// NAME: the client's host name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text(AttributeName::Name)
    }

    /// ADDR: the client's address.
    #[must_use]
    pub fn addr(&self) -> Option<IpAddr> {
        self.text(AttributeName::Addr).and_then(address)
    }

    /// PORT: the client's port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.text(AttributeName::Port).and_then(|port| port.parse().ok())
    }

    /// DESTADDR: the address that the client reached.
    #[must_use]
    pub fn dest_addr(&self) -> Option<IpAddr> {
        self.text(AttributeName::DestAddr).and_then(address)
    }

    /// DESTPORT: the port that the client reached.
    #[must_use]
    pub fn dest_port(&self) -> Option<u16> {
        self.text(AttributeName::DestPort).and_then(|port| port.parse().ok())
    }
}

/// LOGIN is a user's name, which a log need not show.
impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| match (name, value) {
            (AttributeName::Login, Value::Text(_)) => (name.as_str(), "(..)"),
            (_, Value::Text(text)) => (name.as_str(), &**text),
            (_, Value::Unavailable) => (name.as_str(), "[UNAVAILABLE]"),
            (_, Value::TemporarilyUnavailable) => (name.as_str(), "[TEMPUNAVAIL]"),
        });
        f.debug_map().entries(shown).finish()
    }
}

fn address(value: &str) -> Option<IpAddr> {
    match value.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPV6:") => parse_ipv6(address).map(IpAddr::V6),
        _ => parse_ipv4(value).map(IpAddr::V4),
    }
}
