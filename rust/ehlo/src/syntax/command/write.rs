//! Writing a command line, so that it is one command and nothing else.

use std::error::Error;
use std::fmt;
use std::io::Write;

use super::{Command, Secret};
use crate::syntax::address::{ForwardPath, ReversePath};
use crate::syntax::class::is_control;
use crate::syntax::parameter::{MailParameters, RcptParameters};
use crate::wire::xtext;

/// Why a command cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// A word that is needed is empty.
    Empty,
    /// It holds CR, LF, NUL or another control octet.
    ForbiddenOctet,
    /// It holds UTF-8, and SMTPUTF8 is not said.
    NonAscii,
    /// There is a space in a word.
    Space,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a needed argument is empty",
            Self::ForbiddenOctet => "an argument holds CR, LF, NUL or another control octet",
            Self::NonAscii => "an argument that is not ASCII needs SMTPUTF8",
            Self::Space => "there is a space in an argument that is one word",
        })
    }
}

impl Error for WriteError {}

impl Command<'_> {
    /// Writes the command with its CRLF: the verb in upper case, single spaces, the mailbox with the least quoting.
    ///
    /// # Errors
    /// If the line would not be one command; then nothing is written. Whether non-ASCII may stand in RCPT depends on
    /// MAIL, so there it is not refused here.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let utf8 = match self {
            Self::Mail { path, parameters } => return write_mail(path, parameters, out),
            Self::Rcpt { path, parameters } => return write_rcpt(path, parameters, out),
            Self::Vrfy { smtputf8, .. } | Self::Expn { smtputf8, .. } => *smtputf8,
            _ => false,
        };
        write_line(utf8, out, |out| self.write_words(out))
    }

    fn write_words(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if let Some(verb) = self.verb() {
            out.extend_from_slice(verb.as_str().as_bytes());
        }
        match self {
            Self::Data | Self::Obsolete(_) | Self::Quit | Self::Rset | Self::StartTls => {}
            Self::Ehlo(hello) | Self::Helo(hello) | Self::Lhlo(hello) => word(&hello.name, out)?,
            Self::Mail { path, parameters } => mail_words(path, parameters, out),
            Self::Rcpt { path, parameters } => rcpt_words(path, parameters, out),
            Self::Bdat { size, last } => {
                // Writing to a Vec cannot fail.
                drop(write!(out, " {size}"));
                end_marker(*last, out);
            }
            Self::Burl { url, last } => {
                word(url, out)?;
                end_marker(*last, out);
            }
            Self::Auth { mechanism, initial } => {
                word(mechanism, out)?;
                if let Some(Secret(initial)) = initial {
                    word_of_octets(initial, out)?;
                }
            }
            Self::Etrn(name) => word(name, out)?,
            Self::Atrn(text) => optional(text.as_bytes(), out),
            Self::Help(text) => optional(text.as_bytes(), out),
            Self::Noop(text) => optional(text, out),
            Self::Vrfy { argument, smtputf8 } | Self::Expn { argument, smtputf8 } => {
                if argument.is_empty() {
                    return Err(WriteError::Empty);
                }
                optional(argument.as_bytes(), out);
                if *smtputf8 {
                    out.extend_from_slice(b" SMTPUTF8");
                }
            }
            Self::Xclient(attributes) | Self::Xforward(attributes) => {
                if attributes.is_empty() {
                    return Err(WriteError::Empty);
                }
                for (name, value) in attributes {
                    word(name, out)?;
                    out.push(b'=');
                    xtext::encode_into(value.as_bytes(), out);
                }
            }
            Self::Unknown { verb, argument } => {
                if verb.is_empty() {
                    return Err(WriteError::Empty);
                }
                if verb.contains(&b' ') {
                    return Err(WriteError::Space);
                }
                out.extend_from_slice(verb);
                optional(argument, out);
            }
        }
        Ok(())
    }
}

/// Writes MAIL (RFC 5321 4.1.1.2) from what is borrowed, as [`Command::write`] does.
///
/// # Errors
/// As there.
pub fn write_mail(
    path: &ReversePath<'_>,
    parameters: &MailParameters<'_>,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    write_line(parameters.smtputf8, out, |out| {
        out.extend_from_slice(b"MAIL");
        mail_words(path, parameters, out);
        Ok(())
    })
}

/// Writes RCPT (RFC 5321 4.1.1.3) from what is borrowed, as [`Command::write`] does.
///
/// # Errors
/// As there.
pub fn write_rcpt(
    path: &ForwardPath<'_>,
    parameters: &RcptParameters<'_>,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    write_line(true, out, |out| {
        out.extend_from_slice(b"RCPT");
        rcpt_words(path, parameters, out);
        Ok(())
    })
}

fn mail_words(path: &ReversePath<'_>, parameters: &MailParameters<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" FROM:<");
    if let Some(address) = path.address() {
        out.extend_from_slice(address.mailbox().as_bytes());
    }
    out.push(b'>');
    parameters.write(out);
}

fn rcpt_words(path: &ForwardPath<'_>, parameters: &RcptParameters<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" TO:<");
    match path {
        ForwardPath::Postmaster(word) => out.extend_from_slice(word.as_bytes()),
        ForwardPath::Address(address) => out.extend_from_slice(address.mailbox().as_bytes()),
    }
    out.push(b'>');
    parameters.write(out);
}

/// Writes one line, or nothing.
fn write_line(
    utf8: bool,
    out: &mut Vec<u8>,
    words: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let start = out.len();
    let mut result = words(out);
    // One look at the finished line guards against all ways that a CR or LF could have got in.
    let written = &out[start..];
    if result.is_ok() && written.iter().fold(false, |found, &octet| found | is_control(octet)) {
        result = Err(WriteError::ForbiddenOctet);
    } else if result.is_ok() && !utf8 && !written.is_ascii() {
        result = Err(WriteError::NonAscii);
    }
    match result {
        Ok(()) => out.extend_from_slice(b"\r\n"),
        Err(_) => out.truncate(start),
    }
    result
}

fn word(text: &str, out: &mut Vec<u8>) -> Result<(), WriteError> {
    word_of_octets(text.as_bytes(), out)
}

fn word_of_octets(text: &[u8], out: &mut Vec<u8>) -> Result<(), WriteError> {
    if text.is_empty() {
        return Err(WriteError::Empty);
    }
    if text.contains(&b' ') {
        return Err(WriteError::Space);
    }
    optional(text, out);
    Ok(())
}

fn optional(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        out.push(b' ');
        out.extend_from_slice(text);
    }
}

fn end_marker(last: bool, out: &mut Vec<u8>) {
    if last {
        out.extend_from_slice(b" LAST");
    }
}
