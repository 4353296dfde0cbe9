//! The parameters of MAIL and RCPT (RFC 5321 4.1.1.11 and the extensions), read and written.

mod common;
mod mail;
mod rcpt;

use std::error::Error;
use std::fmt;

pub use self::mail::{AuthParameter, Body, ByMode, DeliverBy, Hold, MailParameters, Ret};
pub(super) use self::mail::{Common, Uncommon};
pub use self::rcpt::{Notify, Orcpt, RcptParameters, Rrvs, RrvsAction};

/// What is wrong with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// HOLDFOR reaches past BY (RFC 4865 5.2.2).
    HoldPastDeliverBy,
    /// UTF-8 where no SMTPUTF8 allows it.
    NonAscii,
    /// The value of MT-PRIORITY, which has a code of its own.
    Priority,
    /// One was given twice.
    Repeated(&'static str),
    /// Not `keyword[=value]`, or not separated by one SP.
    Syntax,
    /// More than allowed.
    TooMany,
    /// Not known, not offered, or of the other command.
    Unknown,
    /// Its value is missing, not wanted or wrong.
    Value(&'static str),
}

impl ParameterError {
    /// A sentence for the peer.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::HoldPastDeliverBy => "HOLDFOR is later than BY",
            Self::NonAscii => "UTF-8 in a parameter needs SMTPUTF8",
            Self::Priority => "Bad MT-PRIORITY: it is -9 to 9",
            Self::Repeated(_) => "Parameter given twice",
            Self::Syntax => "Malformed parameter",
            Self::TooMany => "Too many parameters",
            Self::Unknown => "Parameter not known or not offered",
            Self::Value(keyword) => match keyword.as_bytes() {
                b"SIZE" => "Bad SIZE: it is 1 to 20 digits",
                b"BODY" => "Bad BODY: it is 7BIT, 8BITMIME or BINARYMIME",
                b"SMTPUTF8" => "SMTPUTF8 takes no value",
                b"RET" => "Bad RET: it is FULL or HDRS",
                b"ENVID" => "Bad ENVID: it is printable ASCII in xtext, at most 100 octets",
                b"AUTH" => "Bad AUTH: it is <> or a mailbox in xtext",
                b"BY" => "Bad BY: it is seconds;N or seconds;R, with T for trace",
                b"HOLDFOR" => "Bad HOLDFOR: it is 1 to 999999999 seconds",
                b"HOLDUNTIL" => "Bad HOLDUNTIL: it is a UTC date-time",
                b"REQUIRETLS" => "REQUIRETLS takes no value",
                b"NOTIFY" => "Bad NOTIFY: it is NEVER or a list of SUCCESS, FAILURE, DELAY",
                b"ORCPT" => "Bad ORCPT: it is type;xtext, at most 500 octets",
                b"RRVS" => "Bad RRVS: it is a date-time, then ;C or ;R or nothing",
                _ => "Bad parameter value",
            },
        }
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for ParameterError {}
