//! Commands (RFC 5321 4.1 and the extensions), read and written.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::ops::Deref;

use super::address::{AddressError, ForwardPath, ReversePath, is_domain, parse_literal, scan};
use super::class::is_control;
use super::options::Options;
use super::parameter::{Common, MailParameters, ParameterError, RcptParameters, Uncommon};
use super::status::EnhancedCode;
use super::xattr;
use crate::wire::xtext;

/// Octets of a SASL mechanism's name (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;

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

    /// How the command is written, for a peer that wrote it otherwise.
    const fn usage(self) -> &'static str {
        match self {
            Self::Atrn => "Syntax: ATRN [domain,...]",
            Self::Auth => "Syntax: AUTH mechanism [initial-response]",
            Self::Bdat => "Syntax: BDAT size [LAST]",
            Self::Burl => "Syntax: BURL url [LAST]",
            Self::Data => "Syntax: DATA",
            Self::Ehlo => "Syntax: EHLO hostname",
            Self::Etrn => "Syntax: ETRN [@]domain",
            Self::Expn => "Syntax: EXPN list",
            Self::Helo => "Syntax: HELO hostname",
            Self::Help => "Syntax: HELP [topic]",
            Self::Lhlo => "Syntax: LHLO hostname",
            Self::Mail => "Syntax: MAIL FROM:<address> [parameters]",
            Self::Noop => "Syntax: NOOP [text]",
            Self::Quit => "Syntax: QUIT",
            Self::Rcpt => "Syntax: RCPT TO:<address> [parameters]",
            Self::Rset => "Syntax: RSET",
            Self::Saml | Self::Send | Self::Soml | Self::Turn => "Command not implemented",
            Self::StartTls => "Syntax: STARTTLS",
            Self::Vrfy => "Syntax: VRFY address",
            Self::Xclient => "Syntax: XCLIENT name=value ...",
            Self::Xforward => "Syntax: XFORWARD name=value ...",
        }
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

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// The verb, if it was one: where its extension is not offered, that is what the peer wants to know.
    pub verb: Option<Verb>,
    /// What is wrong.
    pub kind: CommandErrorKind,
}

/// What is wrong with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandErrorKind {
    /// A bare CR or bare LF in the line (RFC 5321 2.3.8).
    BareNewline,
    /// BDAT without a size that can be read: what follows cannot be told from commands, so the session has to end.
    BdatSize,
    /// BDAT with a good size and a bad rest: `size` octets follow, to be dropped before the answer.
    BdatTrailing {
        /// Octets that follow the line.
        size: u64,
        /// Whether LAST was said.
        last: bool,
    },
    /// Something other than a SP and a parameter behind the path.
    BehindPath,
    /// No word in the line.
    Empty,
    /// NUL, another control octet, DEL, or an octet above 0x7f where none may be.
    ForbiddenOctet,
    /// The forward-path.
    ForwardPath(AddressError),
    /// The name given to EHLO, HELO or LHLO.
    Hello,
    /// HOLDFOR reaches past BY (RFC 4865 5.2.2).
    HoldPastDeliverBy,
    /// The initial response is not one word.
    InitialResponse,
    /// A space before the verb.
    LeadingSpace,
    /// The name of the SASL mechanism (RFC 4422 3.1).
    Mechanism,
    /// An argument is needed.
    MissingArgument,
    /// UTF-8 in a path or in the argument of VRFY or EXPN, SMTPUTF8 offered and not asked for (RFC 6531 3.5, 3.7.4.2).
    NeedsSmtputf8,
    /// `FROM:` or `TO:` and `<` are not where they have to be.
    NoPath,
    /// The value of the parameter, by its keyword.
    Parameter(&'static str),
    /// Not `keyword[=value]`.
    ParameterSyntax,
    /// The value of MT-PRIORITY, which has a code of its own (RFC 6710 4.1).
    Priority,
    /// A parameter was given twice, by its keyword; empty if it is not known.
    RepeatedParameter(&'static str),
    /// The reverse-path.
    ReversePath(AddressError),
    /// More than one space between words, or HTAB.
    Spaces,
    /// More parameters than allowed.
    TooManyParameters,
    /// An argument where none may be, or one too many, or not of the right form.
    UnexpectedArgument,
    /// A parameter that is not known, not offered, or of the other command (RFC 5321 4.1.1.11).
    UnknownParameter,
}

use CommandErrorKind as Kind;

impl From<ParameterError> for CommandErrorKind {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::HoldPastDeliverBy => Self::HoldPastDeliverBy,
            ParameterError::NonAscii => Self::ForbiddenOctet,
            ParameterError::Priority => Self::Priority,
            ParameterError::Repeated(name) => Self::RepeatedParameter(name),
            ParameterError::Syntax => Self::ParameterSyntax,
            ParameterError::TooMany => Self::TooManyParameters,
            ParameterError::Unknown => Self::UnknownParameter,
            ParameterError::Value(name) => Self::Parameter(name),
        }
    }
}

impl CommandError {
    /// What a server answers: the code, the enhanced code, the text.
    #[must_use]
    pub const fn reply(&self) -> (u16, EnhancedCode, &'static str) {
        const SYNTAX: EnhancedCode = EnhancedCode::new(5, 5, 2);
        const ARGUMENTS: EnhancedCode = EnhancedCode::new(5, 5, 4);
        const NON_ASCII: EnhancedCode = EnhancedCode::new(5, 6, 7);
        const NO_UTF8_REPLY: EnhancedCode = EnhancedCode::new(5, 6, 8);
        let usage = match self.verb {
            Some(verb) => verb.usage(),
            None => "Command not recognized",
        };
        match self.kind {
            Kind::BareNewline => (500, SYNTAX, "Bare CR or LF in the command line"),
            Kind::BdatTrailing { .. }
            | Kind::BdatSize
            | Kind::BehindPath
            | Kind::MissingArgument
            | Kind::NoPath
            | Kind::UnexpectedArgument => (501, ARGUMENTS, usage),
            Kind::Empty => (500, SYNTAX, "Empty command line"),
            Kind::ForbiddenOctet => match self.verb {
                None => (500, SYNTAX, "Command not recognized: it has octets that are not printable ASCII"),
                Some(_) => (501, SYNTAX, "Only printable ASCII may stand here"),
            },
            Kind::ForwardPath(error) => (501, EnhancedCode::new(5, 1, 3), error.text()),
            Kind::Hello => (501, ARGUMENTS, "The argument is not a domain or an address literal"),
            Kind::HoldPastDeliverBy => (501, ARGUMENTS, ParameterError::HoldPastDeliverBy.text()),
            Kind::InitialResponse => (501, SYNTAX, "The initial response is not one word of base64"),
            Kind::LeadingSpace => (500, SYNTAX, "Space before the command"),
            Kind::Mechanism => (501, ARGUMENTS, "Malformed name of a mechanism"),
            Kind::NeedsSmtputf8 => match self.verb {
                Some(Verb::Rcpt) => (553, NON_ASCII, "The address needs SMTPUTF8, which MAIL did not have"),
                // The answer would have to show the mailbox (RFC 6531 3.7.4.2).
                Some(Verb::Vrfy | Verb::Expn) => (550, NO_UTF8_REPLY, "The argument needs SMTPUTF8 behind it"),
                _ => (550, NON_ASCII, "The address needs the parameter SMTPUTF8"),
            },
            Kind::Parameter(name) => (501, ARGUMENTS, ParameterError::Value(name).text()),
            Kind::ParameterSyntax => (501, ARGUMENTS, ParameterError::Syntax.text()),
            Kind::Priority => (501, SYNTAX, ParameterError::Priority.text()),
            Kind::RepeatedParameter(name) => (501, ARGUMENTS, ParameterError::Repeated(name).text()),
            Kind::ReversePath(error) => (501, EnhancedCode::new(5, 1, 7), error.text()),
            Kind::Spaces => (501, ARGUMENTS, "Words are separated by one space"),
            Kind::TooManyParameters => (501, ARGUMENTS, ParameterError::TooMany.text()),
            Kind::UnknownParameter => (555, ARGUMENTS, ParameterError::Unknown.text()),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reply().2)
    }
}

impl Error for CommandError {}

/// Reads one command line without its CRLF. White space at its end is tolerated (RFC 5321 4.1.1).
///
/// A verb that is not known is [`Command::Unknown`], not an error.
///
/// # Errors
/// If the line is not in the grammar that `options` ask for. [`CommandError::reply`] is what a server says then.
///
/// ```
/// # use ehlo::syntax::{command::{Command, parse_command}, options::Options};
/// let options = Options::default();
/// let Ok(Command::Mail { path, parameters }) = parse_command(b"MAIL FROM:<a@b.example> SIZE=12345", &options) else {
///     panic!()
/// };
/// assert_eq!(path.as_written(), "a@b.example");
/// assert_eq!(parameters.size, Some(12345));
/// assert_eq!(parse_command(b"RCPT TO:<bob>", &options).unwrap_err().reply().0, 501);
/// ```
pub fn parse_command<'a>(line: &'a [u8], options: &Options) -> Result<Command<'a>, CommandError> {
    let line = trim_end(line);
    // What is allowed is ASCII by its grammar, or UTF-8; so nothing is looked for that may not be there, until the line
    // turns out to be wrong.
    match str::from_utf8(line) {
        Ok(text) => parse_text(text, options),
        Err(error) => Err(malformed_utf8(line, error.valid_up_to(), options)),
    }
}

#[inline]
fn trim_end(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

/// A wrong line may be wrong because of octets that may be nowhere: these are what the peer should hear of first.
#[cold]
fn wrong(line: &[u8], verb: Option<Verb>, kind: Kind) -> CommandError {
    // Whatever else is in a BDAT line, the octets behind it must not be taken for commands.
    if verb == Some(Verb::Bdat) {
        return CommandError { verb, kind };
    }
    if line.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return CommandError { verb: None, kind: Kind::BareNewline };
    }
    let in_path = matches!(kind, Kind::ReversePath(_) | Kind::ForwardPath(_));
    if !in_path && line.iter().any(|&octet| is_control(octet) && octet != b'\t') {
        return CommandError { verb, kind: Kind::ForbiddenOctet };
    }
    CommandError { verb, kind }
}

/// A line that is not UTF-8 is wrong in any case (RFC 3629 3); the question is where.
#[cold]
fn malformed_utf8(line: &[u8], valid: usize, options: &Options) -> CommandError {
    let (verb, length) = split_verb(line);
    let kind = if verb == Some(Verb::Bdat) {
        parse_bdat(&line[length..], options).err().unwrap_or(Kind::BdatSize)
    } else {
        let before = str::from_utf8(&line[..valid]).ok().and_then(|text| parse_text(text, options).err());
        match before.map(|error| error.kind) {
            Some(Kind::ReversePath(_)) => Kind::ReversePath(AddressError::Utf8),
            Some(Kind::ForwardPath(_)) => Kind::ForwardPath(AddressError::Utf8),
            _ => Kind::ForbiddenOctet,
        }
    };
    wrong(line, verb, kind)
}

/// The verb, if it is known, and how long the first word is.
#[inline]
fn split_verb(line: &[u8]) -> (Option<Verb>, usize) {
    if let Some((letters, rest)) = line.split_first_chunk::<4>()
        && matches!(rest, [] | [b' ', ..])
    {
        // A space can be among the four, too, but is in no verb.
        if let Some(verb) = Verb::of_four(*letters) {
            return (Some(verb), 4);
        }
    }
    let length = line.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(line.len());
    (Verb::parse(&line[..length]), length)
}

fn parse_text<'a>(text: &'a str, options: &Options) -> Result<Command<'a>, CommandError> {
    let mut text = text;
    if options.leniency.extra_space {
        text = text.trim_start_matches([' ', '\t']);
    }
    let (verb, length) = split_verb(text.as_bytes());
    let rest = &text[length..];
    let wrong = |kind| wrong(text.as_bytes(), verb, kind);
    match verb {
        Some(Verb::Mail) => parse_mail(rest, options, wrong),
        Some(Verb::Rcpt) => parse_rcpt(rest, options, wrong),
        Some(Verb::Data) if rest.is_empty() => Ok(Command::Data),
        Some(Verb::Ehlo) => match parse_hello(rest, options) {
            Ok(hello) => Ok(Command::Ehlo(hello)),
            Err(kind) => Err(wrong(kind)),
        },
        Some(verb) => parse_other(verb, rest, options).map_err(wrong),
        None => parse_unknown(text, length).map_err(wrong),
    }
}

#[cold]
fn parse_unknown(text: &str, length: usize) -> Result<Command<'_>, Kind> {
    if text.is_empty() {
        return Err(Kind::Empty);
    }
    if length == 0 {
        return Err(Kind::LeadingSpace);
    }
    if !text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return Err(Kind::ForbiddenOctet);
    }
    let (verb, argument) = text.as_bytes().split_at(length);
    let argument = argument.strip_prefix(b" ").unwrap_or(argument);
    Ok(Command::Unknown { verb: Cow::Borrowed(verb), argument: Cow::Borrowed(argument) })
}

/// ```abnf
/// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF   ; RFC 5321 4.1.1.2
/// ```
/// `rest` is what stands behind the verb. The command is made where it is returned: moving it costs as much as reading it.
#[inline(always)]
fn parse_mail<'a>(
    rest: &'a str,
    options: &Options,
    wrong: impl Fn(Kind) -> CommandError,
) -> Result<Command<'a>, CommandError> {
    let (path, ascii, raw) = match reverse_path(rest, options) {
        Ok(found) => found,
        Err(kind) => return Err(wrong(kind)),
    };
    let smtputf8 = match Common::read(raw, options) {
        Ok(common) if common.smtputf8 || (ascii && common.ascii) => {
            return Ok(Command::Mail { path, parameters: MailParameters::common(raw, &common) });
        }
        Ok(_) => false,
        Err(Uncommon::Error(error)) => return Err(wrong(error.into())),
        Err(Uncommon::Rare) => match MailParameters::parse(raw, options) {
            Ok(parameters) if parameters.smtputf8 || ascii => return Ok(Command::Mail { path, parameters }),
            Ok(_) => false,
            Err(error) => return Err(wrong(error.into())),
        },
    };
    debug_assert!(!smtputf8);
    Err(wrong(if ascii { Kind::ForbiddenOctet } else { Kind::NeedsSmtputf8 }))
}

/// The path, whether it is ASCII, and the parameters behind it.
#[inline(always)]
fn reverse_path<'a>(rest: &'a str, options: &Options) -> Result<(ReversePath<'a>, bool, &'a str), Kind> {
    let (rest, open) = match rest.as_bytes() {
        // The one form that is in the grammar, before all that may be forgiven.
        [b' ', b'F' | b'f', b'R' | b'r', b'O' | b'o', b'M' | b'm', b':', b'<', ..] => (&rest[7..], true),
        _ => forgiven_path(rest, "FROM:", options)?,
    };
    if open && rest.starts_with('>') {
        return Ok((ReversePath::Null, true, behind_path(&rest[1..], options)?));
    }
    let scanned = scan(rest, options).map_err(Kind::ReversePath)?;
    let behind = close(rest, scanned.end, open).map_err(Kind::ReversePath)?;
    Ok((ReversePath::Address(scanned.address(rest)), scanned.ascii, behind_path(behind, options)?))
}

/// ```abnf
/// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF
/// ```
/// (RFC 5321 4.1.1.3.) `rest` is what stands behind the verb.
#[inline(always)]
fn parse_rcpt<'a>(
    rest: &'a str,
    options: &Options,
    wrong: impl Fn(Kind) -> CommandError,
) -> Result<Command<'a>, CommandError> {
    let (path, raw) = match forward_path(rest, options) {
        Ok(found) => found,
        Err(kind) => return Err(wrong(kind)),
    };
    if raw.is_empty() {
        return Ok(Command::Rcpt { path, parameters: RcptParameters::default() });
    }
    match RcptParameters::parse(raw, options) {
        Ok(parameters) => Ok(Command::Rcpt { path, parameters }),
        Err(error) => Err(wrong(error.into())),
    }
}

/// The path, and the parameters behind it.
#[inline(always)]
fn forward_path<'a>(rest: &'a str, options: &Options) -> Result<(ForwardPath<'a>, &'a str), Kind> {
    let (rest, open) = match rest.as_bytes() {
        [b' ', b'T' | b't', b'O' | b'o', b':', b'<', ..] => (&rest[5..], true),
        _ => forgiven_path(rest, "TO:", options)?,
    };
    let (path, behind) = match scan(rest, options) {
        Ok(scanned) => {
            let behind = close(rest, scanned.end, open).map_err(Kind::ForwardPath)?;
            (ForwardPath::Address(scanned.address(rest)), behind)
        }
        Err(error) => postmaster(rest, open).ok_or(Kind::ForwardPath(error))?,
    };
    Ok((path, behind_path(behind, options)?))
}

/// The one mailbox that needs no domain.
#[cold]
fn postmaster(rest: &str, open: bool) -> Option<(ForwardPath<'_>, &str)> {
    let (name, behind) = rest.split_at_checked("postmaster".len())?;
    if !name.eq_ignore_ascii_case("postmaster") {
        return None;
    }
    let behind = if open { behind.strip_prefix('>')? } else { behind };
    (open || behind.is_empty() || behind.starts_with(' '))
        .then_some((ForwardPath::Postmaster(Cow::Borrowed(name)), behind))
}

/// Finds the path where it is not written as it should be. Says what stands behind the `<`, and whether there was one.
#[cold]
fn forgiven_path<'a>(rest: &'a str, keyword: &str, options: &Options) -> Result<(&'a str, bool), Kind> {
    let rest = argument(rest, options)?;
    let (written, mut rest) = rest.split_at_checked(keyword.len()).ok_or(Kind::NoPath)?;
    if !written.eq_ignore_ascii_case(keyword) {
        return Err(Kind::NoPath);
    }
    if options.leniency.space_after_colon {
        rest = rest.trim_start_matches([' ', '\t']);
    }
    match rest.strip_prefix('<') {
        Some(rest) => Ok((rest, true)),
        None if options.leniency.bare_paths && !rest.is_empty() && !rest.starts_with([' ', '\t']) => Ok((rest, false)),
        None => Err(Kind::NoPath),
    }
}

/// What stands behind the `>`, which has to be at `end`.
#[inline]
fn close(rest: &str, end: usize, open: bool) -> Result<&str, AddressError> {
    match rest.as_bytes().get(end) {
        Some(b'>') if open => Ok(&rest[end + 1..]),
        None if open => Err(AddressError::Unclosed),
        None | Some(b' ' | b'\t') if !open => Ok(&rest[end..]),
        _ => Err(AddressError::Domain),
    }
}

/// The parameters: nothing, or what stands behind one SP.
#[inline]
fn behind_path<'a>(behind: &'a str, options: &Options) -> Result<&'a str, Kind> {
    match behind.as_bytes() {
        [] => Ok(behind),
        [b' ', ..] => argument(behind, options),
        [b'\t', ..] if options.leniency.extra_space => argument(behind, options),
        [b'\t', ..] => Err(Kind::Spaces),
        _ => Err(Kind::BehindPath),
    }
}

/// What stands behind the space that `rest` begins with; empty if there is nothing.
#[inline]
fn argument<'a>(rest: &'a str, options: &Options) -> Result<&'a str, Kind> {
    if options.leniency.extra_space {
        return Ok(rest.trim_start_matches([' ', '\t']));
    }
    match rest.as_bytes() {
        [] => Ok(rest),
        [b' ', b' ' | b'\t', ..] | [b'\t', ..] => Err(Kind::Spaces),
        _ => Ok(&rest[1..]),
    }
}

fn parse_other<'a>(verb: Verb, rest: &'a str, options: &Options) -> Result<Command<'a>, Kind> {
    if verb == Verb::Bdat {
        return parse_bdat(rest.as_bytes(), options).map(|(size, last)| Command::Bdat { size, last });
    }
    if matches!(verb, Verb::Helo | Verb::Lhlo) {
        let hello = parse_hello(rest, options)?;
        return Ok(if verb == Verb::Helo { Command::Helo(hello) } else { Command::Lhlo(hello) });
    }
    let plain = is_plain(rest, options);
    let utf8 = matches!(verb, Verb::Vrfy | Verb::Expn) && options.smtputf8;
    if !plain && (!utf8 || rest.bytes().any(is_control)) {
        return Err(Kind::ForbiddenOctet);
    }
    let argument = argument(rest, options)?;
    let nothing = |command| if argument.is_empty() { Ok(command) } else { Err(Kind::UnexpectedArgument) };
    let needed = || if argument.is_empty() { Err(Kind::MissingArgument) } else { Ok(Cow::Borrowed(argument)) };
    Ok(match verb {
        Verb::Data => return nothing(Command::Data),
        Verb::Rset => return nothing(Command::Rset),
        Verb::Quit => return nothing(Command::Quit),
        Verb::StartTls => return nothing(Command::StartTls),
        Verb::Noop => Command::Noop(Cow::Borrowed(argument.as_bytes())),
        Verb::Help => Command::Help(Cow::Borrowed(argument)),
        Verb::Vrfy => {
            needed()?;
            let (argument, smtputf8) = with_smtputf8(argument, plain, options)?;
            Command::Vrfy { argument, smtputf8 }
        }
        Verb::Expn => {
            needed()?;
            let (argument, smtputf8) = with_smtputf8(argument, plain, options)?;
            Command::Expn { argument, smtputf8 }
        }
        Verb::Auth => {
            needed()?;
            parse_auth(argument, options)?
        }
        Verb::Etrn => {
            let domain = argument.strip_prefix('@').unwrap_or(argument);
            let queue = argument.strip_prefix('#').is_some_and(|name| !name.is_empty() && !name.contains([' ', '\t']));
            if queue || is_domain(domain, true) { Command::Etrn(needed()?) } else { return Err(one_word(argument)) }
        }
        Verb::Atrn => {
            if !argument.is_empty() && !argument.split(',').all(|domain| is_domain(domain, true)) {
                return Err(Kind::UnexpectedArgument);
            }
            Command::Atrn(Cow::Borrowed(argument))
        }
        Verb::Burl => {
            needed()?;
            let (url, behind) = first_word(argument, options)?;
            let last = behind.eq_ignore_ascii_case("LAST");
            if !last && !behind.is_empty() {
                return Err(Kind::UnexpectedArgument);
            }
            Command::Burl { url: Cow::Borrowed(url), last }
        }
        Verb::Xclient => Command::Xclient(attributes(argument, xattr::Of::Xclient, options)?),
        Verb::Xforward => Command::Xforward(attributes(argument, xattr::Of::Xforward, options)?),
        Verb::Saml | Verb::Send | Verb::Soml | Verb::Turn => Command::Obsolete(verb),
        // Read elsewhere.
        Verb::Bdat | Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::Mail | Verb::Rcpt => return Err(Kind::NoPath),
    })
}

/// What is wrong with an argument that should be one word of a certain kind.
fn one_word(argument: &str) -> Kind {
    if argument.is_empty() { Kind::MissingArgument } else { Kind::UnexpectedArgument }
}

/// The first word of an argument, and what stands behind it; empty if there is nothing.
fn first_word<'a>(words: &'a str, options: &Options) -> Result<(&'a str, &'a str), Kind> {
    let (word, rest) = words.split_at(words.find([' ', '\t']).unwrap_or(words.len()));
    Ok((word, argument(rest, options)?))
}

fn attributes<'a>(argument: &'a str, of: xattr::Of, options: &Options) -> Result<Vec<xattr::Attribute<'a>>, Kind> {
    if !options.leniency.extra_space && argument.contains("  ") {
        return Err(Kind::Spaces);
    }
    xattr::parse(argument, of).ok_or_else(|| one_word(argument))
}

/// Whether `text` is printable ASCII.
fn is_plain(text: &str, options: &Options) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~') || (octet == b'\t' && options.leniency.extra_space))
}

/// ```abnf
/// ehlo = "EHLO" SP ( Domain / address-literal ) CRLF           ; RFC 5321 4.1.1.1
/// ```
/// HELO's argument is a Domain; a literal is taken there too.
#[inline(always)]
fn parse_hello<'a>(rest: &'a str, options: &Options) -> Result<Hello<'a>, Kind> {
    let argument = argument(rest, options)?;
    if is_domain(argument, options.leniency.hello_underscore) {
        return Ok(Hello { name: Cow::Borrowed(argument) });
    }
    parse_rare_hello(argument, options)
}

#[cold]
fn parse_rare_hello<'a>(argument: &'a str, options: &Options) -> Result<Hello<'a>, Kind> {
    if argument.is_empty() {
        return Err(Kind::MissingArgument);
    }
    if !is_plain(argument, options) {
        return Err(Kind::ForbiddenOctet);
    }
    let name = match argument.split_once([' ', '\t']) {
        None => argument,
        Some((name, _)) if options.leniency.hello_trailing_text => name,
        Some(_) => return Err(Kind::UnexpectedArgument),
    };
    let fits = if name.starts_with('[') {
        parse_literal(name, options.leniency.general_literals).is_ok()
    } else {
        is_domain(name, options.leniency.hello_underscore)
    };
    if fits { Ok(Hello { name: Cow::Borrowed(name) }) } else { Err(Kind::Hello) }
}

/// `VRFY` and `EXPN` may have `SMTPUTF8` behind their argument (RFC 6531 3.7.4.2), and UTF-8 in it only then.
fn with_smtputf8<'a>(argument: &'a str, plain: bool, options: &Options) -> Result<(Cow<'a, str>, bool), Kind> {
    let flagged = argument.rsplit_once(' ').filter(|(_, flag)| flag.eq_ignore_ascii_case("SMTPUTF8"));
    match flagged {
        Some(_) if !options.smtputf8 => Err(Kind::UnexpectedArgument),
        Some((argument, _)) => Ok((Cow::Borrowed(argument.trim_end_matches([' ', '\t'])), true)),
        None if !plain => Err(Kind::NeedsSmtputf8),
        None => Ok((Cow::Borrowed(argument), false)),
    }
}

/// ```abnf
/// auth-command = "AUTH" SP sasl-mech [SP initial-response] CRLF    ; RFC 4954 8
/// sasl-mech = 1*20mech-char    mech-char = %x41-5A / DIGIT / HYPHEN / UNDERSCORE
/// ```
fn parse_auth<'a>(argument: &'a str, options: &Options) -> Result<Command<'a>, Kind> {
    let (mechanism, initial) = first_word(argument, options)?;
    let initial = (!initial.is_empty()).then_some(initial);
    if !is_mechanism(mechanism) {
        return Err(Kind::Mechanism);
    }
    if initial.is_some_and(|initial| initial.contains([' ', '\t'])) {
        return Err(Kind::InitialResponse);
    }
    let initial = initial.map(|initial| Secret(Cow::Borrowed(initial.as_bytes())));
    Ok(Command::Auth { mechanism: Cow::Borrowed(mechanism), initial })
}

/// Whether `name` is one that a SASL mechanism may have, in any case (RFC 4422 3.1).
#[must_use]
pub fn is_mechanism(name: &str) -> bool {
    let mech_char = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    (1..=MAX_MECHANISM).contains(&name.len()) && name.bytes().all(mech_char)
}

/// ```abnf
/// bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF      ; RFC 3030 2
/// chunk-size = 1*DIGIT    end-marker = "LAST"
/// ```
/// Octets and not text, since whatever comes behind the size the size counts.
fn parse_bdat(rest: &[u8], options: &Options) -> Result<(u64, bool), Kind> {
    let space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let before = rest.iter().take_while(|&octet| space(octet)).count();
    let spaced = before == 1 && rest.starts_with(b" ");
    let rest = &rest[before..];
    let digits = rest.iter().position(space).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(digits);
    if digits.is_empty() {
        return Err(Kind::BdatSize);
    }
    let size = digits.iter().try_fold(0u64, |size, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        size.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    let size = size.ok_or(Kind::BdatSize)?;
    let between = rest.iter().take_while(|&octet| space(octet)).count();
    let word = rest[between..].split(space).next().unwrap_or_default();
    let last = word.eq_ignore_ascii_case(b"LAST");
    // White space that is not one SP is as wrong as elsewhere, but does not hide the size.
    let spaced = options.leniency.extra_space || (spaced && between <= 1 && !rest.starts_with(b"\t"));
    let complete = rest.is_empty() || (last && between + word.len() == rest.len());
    if complete && spaced { Ok((size, last)) } else { Err(Kind::BdatTrailing { size, last }) }
}

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
    if result.is_ok() && written.iter().any(|&octet| is_control(octet)) {
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

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_octets(octets: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
    Cow::Owned(octets.into_owned())
}

fn own_all(attributes: Vec<xattr::Attribute<'_>>) -> Vec<xattr::Attribute<'static>> {
    attributes.into_iter().map(|(name, value)| (own(name), own(value))).collect()
}
