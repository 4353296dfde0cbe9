//! Commands (RFC 5321 4.1 and the extensions), read and written.

mod error;
mod parse;
mod write;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

pub use self::error::{CommandError, CommandErrorKind};
pub use self::parse::{is_mechanism, parse_command};
pub use self::write::{WriteError, write_mail, write_rcpt};

use super::address::{ForwardPath, ReversePath};
use super::parameter::{MailParameters, RcptParameters};
use super::xattr;

/// The verbs that are known, whether or not they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// RFC 2645
    Atrn,
    /// RFC 4954 4
    Auth,
    /// RFC 3030 2
    Bdat,
    /// RFC 4468 3
    Burl,
    /// RFC 5321 4.1.1.4
    Data,
    /// RFC 5321 4.1.1.1
    Ehlo,
    /// RFC 1985 5
    Etrn,
    /// RFC 5321 4.1.1.7
    Expn,
    /// RFC 5321 4.1.1.1
    Helo,
    /// RFC 5321 4.1.1.8
    Help,
    /// RFC 2033 4.1
    Lhlo,
    /// RFC 5321 4.1.1.2
    Mail,
    /// RFC 5321 4.1.1.9
    Noop,
    /// RFC 5321 4.1.1.10
    Quit,
    /// RFC 5321 4.1.1.3
    Rcpt,
    /// RFC 5321 4.1.1.5
    Rset,
    /// RFC 5321 F.6
    Saml,
    /// RFC 5321 F.6
    Send,
    /// RFC 5321 F.6
    Soml,
    /// RFC 3207 4
    StartTls,
    /// RFC 5321 F.1
    Turn,
    /// RFC 5321 4.1.1.6
    Vrfy,
    /// Postfix XCLIENT_README
    Xclient,
    /// Postfix XFORWARD_README
    Xforward,
}

impl Verb {
    /// In upper case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Atrn => "ATRN",
            Self::Auth => "AUTH",
            Self::Bdat => "BDAT",
            Self::Burl => "BURL",
            Self::Data => "DATA",
            Self::Ehlo => "EHLO",
            Self::Etrn => "ETRN",
            Self::Expn => "EXPN",
            Self::Helo => "HELO",
            Self::Help => "HELP",
            Self::Lhlo => "LHLO",
            Self::Mail => "MAIL",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt => "RCPT",
            Self::Rset => "RSET",
            Self::Saml => "SAML",
            Self::Send => "SEND",
            Self::Soml => "SOML",
            Self::StartTls => "STARTTLS",
            Self::Turn => "TURN",
            Self::Vrfy => "VRFY",
            Self::Xclient => "XCLIENT",
            Self::Xforward => "XFORWARD",
        }
    }

    /// The verb that `word` is, in any case.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        match word.first_chunk() {
            Some(letters) if word.len() == 4 => Self::of_four(*letters),
            _ => [Self::StartTls, Self::Xclient, Self::Xforward]
                .into_iter()
                .find(|verb| word.eq_ignore_ascii_case(verb.as_str().as_bytes())),
        }
    }

    /// All four letters at once: clearing bit 5 makes capitals of small letters, and no letter of anything else.
    #[inline]
    fn of_four(letters: [u8; 4]) -> Option<Self> {
        const fn word(letters: &[u8; 4]) -> u32 {
            u32::from_be_bytes(*letters)
        }
        const ATRN: u32 = word(b"ATRN");
        const AUTH: u32 = word(b"AUTH");
        const BDAT: u32 = word(b"BDAT");
        const BURL: u32 = word(b"BURL");
        const DATA: u32 = word(b"DATA");
        const EHLO: u32 = word(b"EHLO");
        const ETRN: u32 = word(b"ETRN");
        const EXPN: u32 = word(b"EXPN");
        const HELO: u32 = word(b"HELO");
        const HELP: u32 = word(b"HELP");
        const LHLO: u32 = word(b"LHLO");
        const MAIL: u32 = word(b"MAIL");
        const NOOP: u32 = word(b"NOOP");
        const QUIT: u32 = word(b"QUIT");
        const RCPT: u32 = word(b"RCPT");
        const RSET: u32 = word(b"RSET");
        const SAML: u32 = word(b"SAML");
        const SEND: u32 = word(b"SEND");
        const SOML: u32 = word(b"SOML");
        const TURN: u32 = word(b"TURN");
        const VRFY: u32 = word(b"VRFY");
        Some(match word(&letters) & 0xdfdf_dfdf {
            ATRN => Self::Atrn,
            AUTH => Self::Auth,
            BDAT => Self::Bdat,
            BURL => Self::Burl,
            DATA => Self::Data,
            EHLO => Self::Ehlo,
            ETRN => Self::Etrn,
            EXPN => Self::Expn,
            HELO => Self::Helo,
            HELP => Self::Help,
            LHLO => Self::Lhlo,
            MAIL => Self::Mail,
            NOOP => Self::Noop,
            QUIT => Self::Quit,
            RCPT => Self::Rcpt,
            RSET => Self::Rset,
            SAML => Self::Saml,
            SEND => Self::Send,
            SOML => Self::Soml,
            TURN => Self::Turn,
            VRFY => Self::Vrfy,
            _ => return None,
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name a client gives itself (RFC 5321 4.1.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello<'a> {
    /// A domain, or an address literal with its brackets.
    pub name: Cow<'a, str>,
}

impl Hello<'_> {
    /// Whether the name is an address literal.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.name.starts_with('[')
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Hello<'static> {
        Hello { name: own(self.name) }
    }
}

/// Octets that no log and no `Debug` shows: an initial response of AUTH, in its base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<'a>(pub Cow<'a, [u8]>);

impl Deref for Secret<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One command, borrowing from its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `ATRN [domain *("," domain)]` (RFC 2645); empty without argument.
    Atrn(Cow<'a, str>),
    /// `AUTH mechanism [initial-response]` (RFC 4954 4).
    Auth {
        /// As written.
        mechanism: Cow<'a, str>,
        /// As written, in base64; `=` is an empty one, which is not the same as none.
        initial: Option<Secret<'a>>,
    },
    /// `BDAT size [LAST]` (RFC 3030 2).
    Bdat {
        /// Octets that follow the line.
        size: u64,
        /// Whether it is the last chunk.
        last: bool,
    },
    /// `BURL url [LAST]` (RFC 4468 3).
    Burl {
        /// Not looked into.
        url: Cow<'a, str>,
        /// Whether it is the last chunk.
        last: bool,
    },
    /// `DATA` (RFC 5321 4.1.1.4)
    Data,
    /// `EHLO name` (RFC 5321 4.1.1.1)
    Ehlo(Hello<'a>),
    /// `ETRN [@]domain` or `ETRN #queue` (RFC 1985 5)
    Etrn(Cow<'a, str>),
    /// `EXPN list` (RFC 5321 4.1.1.7, RFC 6531 3.7.4.2)
    Expn {
        /// As written.
        argument: Cow<'a, str>,
        /// Whether `SMTPUTF8` stood behind it.
        smtputf8: bool,
    },
    /// `HELO name` (RFC 5321 4.1.1.1)
    Helo(Hello<'a>),
    /// `HELP [topic]` (RFC 5321 4.1.1.8); empty without argument.
    Help(Cow<'a, str>),
    /// `LHLO name` (RFC 2033 4.1)
    Lhlo(Hello<'a>),
    /// `MAIL FROM:<path> [parameters]` (RFC 5321 4.1.1.2)
    Mail {
        /// Who the message is from.
        path: ReversePath<'a>,
        /// The rest.
        parameters: MailParameters<'a>,
    },
    /// `NOOP [text]` (RFC 5321 4.1.1.9); the text means nothing.
    Noop(Cow<'a, [u8]>),
    /// `SEND`, `SOML`, `SAML`, `TURN`, which nobody does any more (RFC 5321 App. F).
    Obsolete(Verb),
    /// `QUIT` (RFC 5321 4.1.1.10)
    Quit,
    /// `RCPT TO:<path> [parameters]` (RFC 5321 4.1.1.3)
    Rcpt {
        /// Whom the message is for.
        path: ForwardPath<'a>,
        /// The rest.
        parameters: RcptParameters<'a>,
    },
    /// `RSET` (RFC 5321 4.1.1.5)
    Rset,
    /// `STARTTLS` (RFC 3207 4)
    StartTls,
    /// A verb that nobody knows (RFC 5321 4.2.4).
    Unknown {
        /// As written.
        verb: Cow<'a, [u8]>,
        /// All behind it.
        argument: Cow<'a, [u8]>,
    },
    /// `VRFY address` (RFC 5321 4.1.1.6, RFC 6531 3.7.4.2)
    Vrfy {
        /// As written.
        argument: Cow<'a, str>,
        /// Whether `SMTPUTF8` stood behind it.
        smtputf8: bool,
    },
    /// `XCLIENT 1*(SP name=value)` (Postfix XCLIENT_README), values decoded.
    Xclient(Vec<(Cow<'a, str>, Cow<'a, str>)>),
    /// `XFORWARD 1*(SP name=value)` (Postfix XFORWARD_README), values decoded.
    Xforward(Vec<(Cow<'a, str>, Cow<'a, str>)>),
}

impl Command<'_> {
    /// The verb, if it is known.
    #[must_use]
    pub const fn verb(&self) -> Option<Verb> {
        Some(match self {
            Self::Atrn(_) => Verb::Atrn,
            Self::Auth { .. } => Verb::Auth,
            Self::Bdat { .. } => Verb::Bdat,
            Self::Burl { .. } => Verb::Burl,
            Self::Data => Verb::Data,
            Self::Ehlo(_) => Verb::Ehlo,
            Self::Etrn(_) => Verb::Etrn,
            Self::Expn { .. } => Verb::Expn,
            Self::Helo(_) => Verb::Helo,
            Self::Help(_) => Verb::Help,
            Self::Lhlo(_) => Verb::Lhlo,
            Self::Mail { .. } => Verb::Mail,
            Self::Noop(_) => Verb::Noop,
            Self::Obsolete(verb) => *verb,
            Self::Quit => Verb::Quit,
            Self::Rcpt { .. } => Verb::Rcpt,
            Self::Rset => Verb::Rset,
            Self::StartTls => Verb::StartTls,
            Self::Unknown { .. } => return None,
            Self::Vrfy { .. } => Verb::Vrfy,
            Self::Xclient(_) => Verb::Xclient,
            Self::Xforward(_) => Verb::Xforward,
        })
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Command<'static> {
        match self {
            Self::Atrn(domains) => Command::Atrn(own(domains)),
            Self::Auth { mechanism, initial } => Command::Auth {
                mechanism: own(mechanism),
                initial: initial.map(|Secret(octets)| Secret(own_octets(octets))),
            },
            Self::Bdat { size, last } => Command::Bdat { size, last },
            Self::Burl { url, last } => Command::Burl { url: own(url), last },
            Self::Data => Command::Data,
            Self::Ehlo(hello) => Command::Ehlo(hello.into_owned()),
            Self::Etrn(name) => Command::Etrn(own(name)),
            Self::Expn { argument, smtputf8 } => Command::Expn { argument: own(argument), smtputf8 },
            Self::Helo(hello) => Command::Helo(hello.into_owned()),
            Self::Help(topic) => Command::Help(own(topic)),
            Self::Lhlo(hello) => Command::Lhlo(hello.into_owned()),
            Self::Mail { path, parameters } => {
                Command::Mail { path: path.into_owned(), parameters: parameters.into_owned() }
            }
            Self::Noop(text) => Command::Noop(own_octets(text)),
            Self::Obsolete(verb) => Command::Obsolete(verb),
            Self::Quit => Command::Quit,
            Self::Rcpt { path, parameters } => {
                Command::Rcpt { path: path.into_owned(), parameters: parameters.into_owned() }
            }
            Self::Rset => Command::Rset,
            Self::StartTls => Command::StartTls,
            Self::Unknown { verb, argument } => {
                Command::Unknown { verb: own_octets(verb), argument: own_octets(argument) }
            }
            Self::Vrfy { argument, smtputf8 } => Command::Vrfy { argument: own(argument), smtputf8 },
            Self::Xclient(attributes) => Command::Xclient(own_all(attributes)),
            Self::Xforward(attributes) => Command::Xforward(own_all(attributes)),
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_octets(octets: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
    Cow::Owned(octets.into_owned())
}

fn own_all(attributes: Vec<xattr::Attribute<'_>>) -> Vec<xattr::Attribute<'static>> {
    attributes.into_iter().map(|(name, value)| (own(name), own(value))).collect()
}
