//! The attributes of XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README).

use std::borrow::Cow;

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
    let name = name.to_ascii_uppercase();
    let known = match of {
        Of::Xclient => {
            matches!(name.as_str(), "NAME" | "ADDR" | "PORT" | "PROTO" | "HELO" | "LOGIN" | "DESTADDR" | "DESTPORT")
        }
        Of::Xforward => matches!(name.as_str(), "NAME" | "ADDR" | "PORT" | "PROTO" | "HELO" | "IDENT" | "SOURCE"),
    };
    let unavailable =
        value.eq_ignore_ascii_case("[UNAVAILABLE]") || (name == "NAME" && value.eq_ignore_ascii_case("[TEMPUNAVAIL]"));
    known
        && (unavailable
            || match (name.as_str(), of) {
                ("NAME", _) => is_domain(value, true),
                ("ADDR" | "DESTADDR", _) => is_address(value),
                ("PORT" | "DESTPORT", _) => value.bytes().all(|o| o.is_ascii_digit()) && value.parse::<u16>().is_ok(),
                ("PROTO", Of::Xclient) => value.eq_ignore_ascii_case("SMTP") || value.eq_ignore_ascii_case("ESMTP"),
                ("PROTO", Of::Xforward) => value.len() <= 64,
                ("SOURCE", _) => value.eq_ignore_ascii_case("LOCAL") || value.eq_ignore_ascii_case("REMOTE"),
                _ => true,
            })
}

/// IPv4, or IPv6 with `IPV6:` before it, without brackets.
fn is_address(value: &str) -> bool {
    match value.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPV6:") => parse_ipv6(address).is_some(),
        _ => parse_ipv4(value).is_some(),
    }
}
