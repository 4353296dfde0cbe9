//! Misuse: calls of the program that make no sense in the present state.

use std::fmt;

/// The program asked for what the protocol does not allow here. Nothing a peer sends leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMisuse {
    /// TLS was told where no handshake was on its way.
    NoHandshake,
    /// A challenge or an identity, where AUTH was not asked for (RFC 4954 4).
    NotAuth,
    /// A yes, where an identity is needed (RFC 4954 4).
    NeedsIdentity,
    /// Output from before the handshake was not sent: it would go out inside TLS (RFC 3207 4).
    UnsentOutput,
    /// There is no content on its way that could be refused.
    NoContent,
    /// No decision is open, or its event was not read yet.
    NoDecision,
    /// Octets of a reply that do not end with CRLF (RFC 5321 4.2).
    NotALine,
    /// Replies per recipient, where there is but one reply (RFC 5321 4.1.1.4).
    NotLmtp,
    /// A shutdown is announced by 421 (RFC 5321 3.8).
    ShutdownCode,
    /// More replies than recipients are unanswered (RFC 2033 4.2).
    TooManyReplies {
        /// Recipients that wait for a reply.
        expected: usize,
        /// Replies given.
        given: usize,
    },
    /// The reply's class does not answer what is asked.
    WrongClass {
        /// What would.
        expected: &'static str,
        /// What was given.
        code: u16,
    },
}

impl fmt::Display for ServerMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHandshake => {
                f.write_str("no TLS handshake is awaited: it begins when StartTls is accepted, or before the greeting")
            }
            Self::NotAuth => f.write_str("only Auth and AuthResponse are answered with a challenge or an identity"),
            Self::NeedsIdentity => {
                f.write_str("AUTH is answered with a challenge, with an identity, or with a 4yz or 5yz reply")
            }
            Self::UnsentOutput => f.write_str("send the output, which is in the clear, before TLS is told"),
            Self::NoContent => f.write_str("no content is coming in; content can be refused between DATA and its end"),
            Self::NoDecision => f.write_str("no decision is open; read the events, and answer the one that asks"),
            Self::NotALine => f.write_str("the octets of a reply end with CRLF"),
            Self::NotLmtp => f.write_str("SMTP has one reply for all recipients; only LMTP has one for each"),
            Self::ShutdownCode => f.write_str("a shutdown is announced by a reply with code 421"),
            Self::TooManyReplies { expected, given } => {
                write!(f, "{given} replies for {expected} recipients that wait for one")
            }
            Self::WrongClass { expected, code } => write!(f, "expected {expected}, got a reply with code {code}"),
        }
    }
}

impl std::error::Error for ServerMisuse {}
