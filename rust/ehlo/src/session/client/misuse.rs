//! Misuse: calls of the program that make no sense in the present state.

use std::fmt;

use crate::syntax::command::{Verb, WriteError};

/// The program asked for what is not possible here. Nothing a peer sends leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMisuse {
    /// The connection is over, or QUIT was asked for.
    Closed,
    /// The content of this message is not asked for in pieces, or is complete.
    NoContent,
    /// There is no challenge to answer.
    NoChallenge,
    /// No handshake was asked for.
    NoHandshake,
    /// A message without recipients.
    NoRecipients,
    /// There is no transaction by this number that recipients and content can be given to.
    NoTransaction,
    /// The command cannot be written.
    Write(WriteError),
    /// There is no such message.
    UnknownMessage,
    /// The command belongs to the engine: messages are queued, hello and STARTTLS are said by themselves.
    EngineCommand(Option<Verb>),
}

impl fmt::Display for ClientMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the session is over, or QUIT is queued already"),
            Self::NoContent => f.write_str("this message takes no more pieces of content"),
            Self::NoChallenge => f.write_str("there is no challenge to answer (RFC 4954 4)"),
            Self::NoHandshake => f.write_str("expected before the greeting, or after the StartTls event"),
            Self::NoRecipients => f.write_str("a message needs at least one recipient (RFC 5321 3.3)"),
            Self::NoTransaction => f.write_str("there is no such transaction, it is over, or its content was given"),
            Self::Write(error) => error.fmt(f),
            Self::UnknownMessage => f.write_str("there is no such message, or it has its result"),
            Self::EngineCommand(verb) => {
                let verb = verb.map_or("an unknown command", Verb::as_str);
                write!(f, "{verb} is not sent on its own: queue a message, or set up the ClientConfig")
            }
        }
    }
}

impl std::error::Error for ClientMisuse {}

impl From<WriteError> for ClientMisuse {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
