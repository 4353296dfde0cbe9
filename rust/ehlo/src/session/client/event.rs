//! Events: the client's engine tells the program what happened, and what became of each message.

use std::fmt;
use std::sync::Arc;

use crate::session::envelope::Recipient;
use crate::syntax::command::{Verb, WriteError};
use crate::syntax::reply::{Reply, ReplyParseError};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A 334: answer with [`respond`](super::ClientConnection::respond) or
    /// [`cancel`](super::ClientConnection::cancel) (RFC 4954 4).
    Challenge {
        /// Of the AUTH.
        id: u64,
        /// Decoded.
        challenge: Vec<u8>,
    },
    /// The connection is of no more use; the last event.
    Disconnect(ClientDisconnect),
    /// The peer said hello: what it offers is in [`capabilities`](super::ClientConnection::capabilities).
    Ready,
    /// The reply to a command that the program asked for.
    Reply {
        /// Of the command.
        id: u64,
        /// Which it was; `None` for one that is not known here.
        verb: Option<Verb>,
        /// `None` if the connection ended before.
        reply: Option<Reply>,
    },
    /// What became of a message.
    Result(Box<MessageResult>),
    /// Shake hands for TLS, then tell [`tls_established`](super::ClientConnection::tls_established) (RFC 3207 4).
    StartTls,
    /// A reply that nothing had asked for. [`Disconnect`](Self::Disconnect) follows.
    Unsolicited(Reply),
}

/// What became of a message, recipient by recipient.
#[derive(Clone, Debug)]
pub struct MessageResult {
    /// Of the message.
    pub id: u64,
    /// In the order in which they were given.
    pub recipients: Vec<RecipientResult>,
    /// Why recipients have no reply, if some have none.
    pub failure: Option<Failure>,
}

impl MessageResult {
    /// Whether the peer took responsibility for every recipient.
    #[must_use]
    pub fn all_accepted(&self) -> bool {
        self.recipients.iter().all(|recipient| recipient.accepted)
    }
}

/// What became of a message for one recipient.
#[derive(Clone, Debug)]
pub struct RecipientResult {
    /// For whom.
    pub recipient: Arc<Recipient>,
    /// The peer took responsibility (RFC 5321 4.2.5).
    pub accepted: bool,
    /// The reply that decided: to the content if it came so far, else to the first command that was refused.
    pub reply: Option<Arc<Reply>>,
    /// What that reply answered: MAIL, RCPT, DATA or, for the content, its end. The content without a reply: the
    /// connection ended between the two, and nobody knows whether the peer took it (RFC 5321 4.5.3.2.6).
    pub stage: Stage,
    /// The reply to RCPT: a 251 tells of another path (RFC 5321 3.4).
    pub rcpt: Option<Arc<Reply>>,
}

impl RecipientResult {
    pub(super) fn new(recipient: Arc<Recipient>) -> Self {
        Self { recipient, accepted: false, reply: None, stage: Stage::Nothing, rcpt: None }
    }
}

/// Where a recipient's fate was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not at all: see [`MessageResult::failure`].
    #[default]
    Nothing,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, before content.
    Data,
    /// The content: a chunk or its end.
    Content,
}

/// Why a message has recipients without a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The program gave the content up.
    Aborted,
    /// A bare CR or LF, at this octet, under [`Newlines::Reject`](super::Newlines::Reject) (RFC 5321 2.3.8).
    BareNewline(u64),
    /// An 8-bit octet in streamed content, and the peer lacks 8BITMIME (RFC 6152 3).
    EightBit,
    /// The connection ended before the content had; nothing was handed over. To be tried again as after a 451
    /// (RFC 5321 3.8).
    Lost,
    /// The peer takes no more transactions on this connection (RFC 9422 MAILMAX). Nothing was sent.
    MailMax,
    /// The peer lacks what the message needs. Nothing was sent.
    Need(Need),
    /// A path or a parameter that cannot be written: the program made it without the grammar.
    Unwritable(WriteError),
    /// The connection ended between the end of the content and its reply: the peer may have taken it. Not to be
    /// sent again without thought (RFC 5321 4.5.3.2.6).
    Unknown,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("the program gave the content up"),
            Self::BareNewline(at) => write!(f, "a bare CR or LF in the content at octet {at} (RFC 5321 2.3.8)"),
            Self::EightBit => f.write_str("the content has 8-bit octets, and the server lacks 8BITMIME (RFC 6152 3)"),
            Self::Lost => f.write_str("the connection ended before the message was handed over"),
            Self::MailMax => f.write_str("the server takes no more messages on this connection (RFC 9422)"),
            Self::Need(need) => need.fmt(f),
            Self::Unwritable(error) => error.fmt(f),
            Self::Unknown => {
                f.write_str("the connection ended before the reply to the content: the server may have the message")
            }
        }
    }
}

/// What a message needs and a peer does not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// BINARYMIME (RFC 3030 3).
    BinaryMime,
    /// CHUNKING (RFC 3030 2), because the configuration insists on it.
    Chunking,
    /// DELIVERBY, or a longer time (RFC 2852).
    DeliverBy,
    /// DSN (RFC 3461).
    Dsn,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// FUTURERELEASE, or a shorter hold (RFC 4865).
    FutureRelease,
    /// A command line this long (RFC 5321 4.5.3.1.4).
    LineLength,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
    /// More recipients, or domains, in one transaction: the content comes but once (RFC 9422).
    OneTransaction,
    /// A parameter by this name (RFC 5321 4.1.1.11).
    Parameter(String),
    /// REQUIRETLS, offered under TLS (RFC 8689 4.2.1).
    RequireTls,
    /// RRVS (RFC 7293).
    Rrvs,
    /// A message of that many octets (RFC 1870).
    Size {
        /// Of the message.
        octets: u64,
        /// Of the peer.
        limit: u64,
    },
    /// SMTPUTF8 (RFC 6531).
    Smtputf8,
    /// SMTPUTF8 as a parameter of MAIL, which was sent without it (RFC 6531 3.4).
    Smtputf8InMail,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = match self {
            Self::BinaryMime => "BINARYMIME (RFC 3030)",
            Self::Chunking => "CHUNKING (RFC 3030)",
            Self::DeliverBy => "DELIVERBY, or a time as short as this (RFC 2852)",
            Self::Dsn => "DSN (RFC 3461)",
            Self::EightBitMime => "8BITMIME, and the content has 8-bit octets (RFC 6152)",
            Self::FutureRelease => "FUTURERELEASE, or a hold as long as this (RFC 4865)",
            Self::LineLength => "room for a command line as long as this (RFC 5321 4.5.3.1.4)",
            Self::MtPriority => "MT-PRIORITY (RFC 6710)",
            Self::OneTransaction => {
                "room for these recipients in one transaction, and content comes but once (RFC 9422)"
            }
            Self::Parameter(keyword) => return write!(f, "the server does not offer {keyword} (RFC 5321 4.1.1.11)"),
            Self::RequireTls => "REQUIRETLS under TLS (RFC 8689 4.2.1)",
            Self::Rrvs => "RRVS (RFC 7293)",
            Self::Size { octets, limit } => {
                return write!(f, "the message has {octets} octets, and the server takes {limit} at most (RFC 1870)");
            }
            Self::Smtputf8 => "SMTPUTF8 (RFC 6531)",
            Self::Smtputf8InMail => {
                return f.write_str(
                    "an address or a header field needs SMTPUTF8, and MAIL went out without it (RFC 6531 3.4)",
                );
            }
        };
        write!(f, "the server lacks {lacks}")
    }
}

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientDisconnect {
    /// The program gave up content behind DATA, where nothing but the end of the connection ends it.
    Aborted,
    /// The peer said no, or 421, while content was sent (C-CLI-33).
    Early(Reply),
    /// The peer closed.
    Eof,
    /// The greeting was not 2yz (RFC 5321 3.1).
    Greeting(Reply),
    /// EHLO was refused, and HELO, or HELO was no way (RFC 5321 3.2).
    Hello(Reply),
    /// The peer cannot be followed any more.
    Protocol(ProtocolFault),
    /// QUIT was answered.
    Quit,
    /// A 421 (RFC 5321 3.8).
    ServiceClosing(Reply),
    /// Nothing came for as long as the timers allow.
    Timeout,
    /// STARTTLS was not offered, or refused (with this reply), and is required (RFC 3207).
    Tls(Option<Reply>),
}

impl fmt::Display for ClientDisconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("the content was given up, so the connection had to be closed"),
            Self::Early(reply) => write!(f, "the server refused while content was sent: {reply}"),
            Self::Eof => f.write_str("the server closed the connection"),
            Self::Greeting(reply) => write!(f, "the server refused the connection: {reply}"),
            Self::Hello(reply) => write!(f, "the server refused the hello: {reply}"),
            Self::Protocol(fault) => fault.fmt(f),
            Self::Quit => f.write_str("the session was ended by QUIT"),
            Self::ServiceClosing(reply) => write!(f, "the server ends the session: {reply}"),
            Self::Timeout => f.write_str("the server did not answer in time"),
            Self::Tls(None) => f.write_str("the server does not offer STARTTLS, and TLS is required"),
            Self::Tls(Some(reply)) => write!(f, "the server refused STARTTLS, and TLS is required: {reply}"),
        }
    }
}

/// How a server left the protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum ProtocolFault {
    /// Octets in clear behind the reply to STARTTLS: an attack (RFC 3207 6).
    Injected,
    /// It is no reply.
    Reply(ReplyParseError),
    /// A reply that nothing had asked for (C-CLI-18).
    Unsolicited,
    /// A reply that does not answer this: 2yz to DATA, 3yz to anything else (C-CLI-14).
    WrongClass(Reply),
}

impl fmt::Display for ProtocolFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Injected => f.write_str("octets in clear behind the reply to STARTTLS (RFC 3207 6)"),
            Self::Reply(error) => error.fmt(f),
            Self::Unsolicited => f.write_str("the server sent a reply that nothing had asked for"),
            Self::WrongClass(reply) => write!(f, "the server's reply does not answer what was sent: {reply}"),
        }
    }
}
