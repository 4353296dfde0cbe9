//! The parameters of RCPT.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use super::ParameterError;
use super::common::{Keyword, decode_printable, each, once, own, split, unknown, write_unknown};
use crate::syntax::class::{ATEXT, is_word, run};
use crate::syntax::datetime::{DateTime, Fraction};
use crate::syntax::options::Options;
use crate::wire::xtext;

/// Octets of an ORCPT value, encoded (RFC 3461 4.2).
const MAX_ORCPT: usize = 500;

/// The parameters of RCPT: those that are known and offered typed, all of them raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters<'a> {
    /// The text behind the path, without the space before it; empty if there was none.
    pub raw: Cow<'a, str>,
    /// `NOTIFY=` (RFC 3461 4.1). Absent is not the same as any value.
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 4.2).
    pub orcpt: Option<Orcpt<'a>>,
    /// `RRVS=` (RFC 7293 3.1).
    pub rrvs: Option<Rrvs>,
}

/// When the sender wants to be told (RFC 3461 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// `NEVER`, which stands alone.
    pub never: bool,
    /// `SUCCESS`
    pub success: bool,
    /// `FAILURE`
    pub failure: bool,
    /// `DELAY`
    pub delay: bool,
}

/// The recipient the sender had in mind (RFC 3461 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orcpt<'a> {
    /// The type of the address, as written.
    pub addr_type: Cow<'a, str>,
    /// The address, decoded.
    pub address: Cow<'a, str>,
    /// The whole value as written, for passing on. If empty, [`RcptParameters::write`] encodes the address.
    pub raw: Cow<'a, str>,
}

impl Orcpt<'_> {
    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Orcpt<'static> {
        Orcpt { addr_type: own(self.addr_type), address: own(self.address), raw: own(self.raw) }
    }
}

/// Since when the recipient has to have the mailbox (RFC 7293 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rrvs {
    /// Since when.
    pub since: DateTime,
    /// What a relay does whose next hop cannot check it.
    pub action: Option<RrvsAction>,
}

/// What a relay does whose next hop lacks RRVS (RFC 7293 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RrvsAction {
    /// `C`: go on.
    Continue,
    /// `R`: refuse.
    Reject,
}

impl<'a> RcptParameters<'a> {
    /// Reads what stands behind the path of RCPT. UTF-8 is accepted where SMTPUTF8 is offered; whether MAIL asked for it
    /// is for the session to know.
    ///
    /// # Errors
    /// At the first parameter that is wrong.
    #[inline(always)]
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, ParameterError> {
        let mut all = Self { raw: Cow::Borrowed(text), ..Self::default() };
        if text.is_empty() {
            return Ok(all);
        }
        each(text, options, Keyword::of_rcpt, |keyword, value| match keyword {
            Keyword::Notify => once(&mut all.notify, keyword, value.and_then(parse_notify)),
            Keyword::Orcpt => once(&mut all.orcpt, keyword, value.and_then(|value| parse_orcpt(value, options))),
            Keyword::Rrvs => once(&mut all.rrvs, keyword, value.and_then(parse_rrvs)),
            // Not of RCPT.
            _ => Err(ParameterError::Unknown),
        })?;
        Ok(all)
    }

    /// The parameters in [`raw`](Self::raw), in their order and case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        split(&self.raw)
    }

    /// The keywords in [`raw`](Self::raw) that have no field.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        unknown(&self.raw, Keyword::of_rcpt).map(|(keyword, _)| keyword)
    }

    /// Writes each parameter with a space before it: the typed fields first, then those of [`raw`](Self::raw) that have
    /// no field.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let mut put = |arguments: fmt::Arguments<'_>| drop(out.write_fmt(arguments));
        if let Some(notify) = self.notify {
            put(format_args!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &self.orcpt {
            if !orcpt.raw.is_empty() {
                put(format_args!(" ORCPT={}", orcpt.raw));
            } else if orcpt.addr_type.eq_ignore_ascii_case("utf-8") {
                put(format_args!(" ORCPT={};{}", orcpt.addr_type, xtext::encode_utf8_addr(&orcpt.address)));
            } else {
                put(format_args!(" ORCPT={};{}", orcpt.addr_type, xtext::encode(orcpt.address.as_bytes())));
            }
        }
        if let Some(Rrvs { since, action }) = self.rrvs {
            let action = match action {
                None => "",
                Some(RrvsAction::Continue) => ";C",
                Some(RrvsAction::Reject) => ";R",
            };
            put(format_args!(" RRVS={since}{action}"));
        }
        write_unknown(&self.raw, Keyword::of_rcpt, out);
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> RcptParameters<'static> {
        RcptParameters {
            raw: own(self.raw),
            notify: self.notify,
            orcpt: self.orcpt.map(Orcpt::into_owned),
            rrvs: self.rrvs,
        }
    }
}

/// As it stands behind `NOTIFY=`.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let mut comma = "";
        for (_, name) in named.into_iter().filter(|(wanted, _)| *wanted && !self.never) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        if comma.is_empty() { f.write_str("NEVER") } else { Ok(()) }
    }
}

/// ```abnf
/// notify-esmtp-value = "NEVER" / 1#notify-list-element         ; RFC 3461 4.1
/// notify-list-element = "SUCCESS" / "FAILURE" / "DELAY"
/// ```
fn parse_notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if is_word(value.as_bytes(), b"NEVER") {
        notify.never = true;
        return Some(notify);
    }
    for element in value.as_bytes().split(|&octet| octet == b',') {
        let wanted = match element.len() {
            5 if is_word(element, b"DELAY") => &mut notify.delay,
            7 if is_word(element, b"SUCCESS") => &mut notify.success,
            7 if is_word(element, b"FAILURE") => &mut notify.failure,
            _ => return None,
        };
        *wanted = true;
    }
    Some(notify)
}

/// `original-recipient-address = addr-type ";" xtext` (RFC 3461 4.2); with `utf-8` before the `;` the encoding is that of
/// RFC 6533 3.
fn parse_orcpt<'a>(value: &'a str, options: &Options) -> Option<Orcpt<'a>> {
    let length = run(value.as_bytes(), 0, ATEXT);
    let (addr_type, encoded) = value.split_at(length);
    let encoded = encoded.strip_prefix(';')?;
    if value.len() > MAX_ORCPT || addr_type.is_empty() || encoded.is_empty() {
        return None;
    }
    let address = if is_word(addr_type.as_bytes(), b"UTF-8") {
        Cow::Owned(xtext::decode_utf8_addr(encoded.as_bytes()).ok()?)
    } else {
        decode_printable(encoded, options)?
    };
    Some(Orcpt { addr_type: Cow::Borrowed(addr_type), address, raw: Cow::Borrowed(value) })
}

/// `rrvs-param = "RRVS=" date-time [ ";" ( "C" / "R" ) ]`, the date-time without `time-secfrac` (RFC 7293 3.1).
fn parse_rrvs(value: &str) -> Option<Rrvs> {
    let (since, action) = match value.split_once(';') {
        None => (value, None),
        Some((since, "C" | "c")) => (since, Some(RrvsAction::Continue)),
        Some((since, "R" | "r")) => (since, Some(RrvsAction::Reject)),
        Some(_) => return None,
    };
    Some(Rrvs { since: DateTime::parse(since, Fraction::Refused).ok()?, action })
}
