//! Why a line is no command, and what a server answers to it.

use std::error::Error;
use std::fmt;

use super::Verb;
use crate::syntax::address::AddressError;
use crate::syntax::parameter::ParameterError;
use crate::syntax::status::EnhancedCode;

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

impl Verb {
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
