//! The state of a session, and its knowledge of the client.
//!
//! Data that belongs to one state lives in the variant of that state, and goes with it.

use std::sync::Arc;

use super::event::Abort;
use super::replies::{BARE_NEWLINE, Canned, LONG_LINE, NUL_OCTET, TOO_BIG, UNDECLARED_8BIT};
use super::transaction::Transaction;
use crate::session::envelope::{Recipient, Sender};
use crate::syntax::command::Verb;
use crate::syntax::reply::Reply;
use crate::syntax::xattr::Attributes;
use crate::wire::bdat::BdatChunk;
use crate::wire::content::ContentReader;
use crate::wire::dot::DotDecoder;

/// What stands between two inputs. What belongs to one state only lives in that state.
pub(super) enum State<C> {
    /// A challenge went out; the next line is a response, whatever it looks like (RFC 4954 4).
    Authenticating,
    /// Nothing more is read or said.
    Closed,
    /// Waiting for the program.
    Deciding(Decision<C>),
    /// A refused chunk is read to its last octet (RFC 3030 2), then answered.
    Draining { chunk: BdatChunk, answer: Answer, then: Box<Self> },
    /// A chunk failed: nothing but RSET, EHLO and QUIT helps (S-BDT-10).
    Failed { recipients: usize },
    /// Nothing is read or said before TLS; what comes meanwhile is the TLS layer's.
    Handshake(Purpose),
    /// No transaction.
    Idle,
    /// Inside a chunk.
    InChunk { incoming: Box<Incoming<C>>, reader: ContentReader, chunk: BdatChunk, last: bool },
    /// Behind DATA, up to the dot.
    InData { incoming: Box<Incoming<C>>, decoder: DotDecoder },
    /// MAIL was accepted.
    InTransaction(Box<Transaction>),
    /// Between two chunks.
    NextChunk { incoming: Box<Incoming<C>>, reader: ContentReader },
    /// The header of the PROXY protocol comes first.
    Proxy,
    /// The greeting refused (RFC 5321 3.1), or TLS is too weak (RFC 3207 4.1): QUIT only.
    Refused(Canned),
}

/// What a handshake is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The greeting comes after it (RFC 8314 3.3).
    Implicit,
    /// STARTTLS; no second greeting (RFC 3207 4.2).
    StartTls,
}

/// What the program was asked.
pub(super) enum Decision<C> {
    Auth,
    Command {
        default: Fallback,
        before: Box<State<C>>,
    },
    Connect,
    Content {
        transaction: Box<Transaction>,
        framing: Framing,
    },
    Hello {
        verb: Verb,
        name: String,
        before: Box<State<C>>,
    },
    Inquiry {
        default: Canned,
        before: Box<State<C>>,
    },
    Mail(Arc<Sender>),
    Message {
        transaction: Box<Transaction>,
        answered: usize,
    },
    Proxy,
    /// The reply of the engine, if the program has no other.
    Refusal {
        reply: Reply,
        before: Box<State<C>>,
    },
    StartTls,
    Rcpt {
        transaction: Box<Transaction>,
        recipient: Arc<Recipient>,
    },
}

/// What the engine does about a command that the program was asked about, if it has nothing to say.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    Help,
    Noop,
    NotImplemented,
    Quit,
    Rset,
    Unknown,
}

/// How content is going to be framed.
#[derive(Clone, Copy)]
pub(super) enum Framing {
    Bdat { size: u64, last: bool },
    Data,
}

/// What is said when a refused chunk is drained.
pub(super) enum Answer {
    Canned(Canned),
    Program(Reply),
    /// LMTP: no recipient, no reply (RFC 2033 4.3).
    Silence,
    /// LMTP: one for each recipient.
    Repeated(Canned, usize),
}

/// Content on its way in.
pub(super) struct Incoming<C> {
    pub(super) transaction: Box<Transaction>,
    pub(super) content: C,
    pub(super) refusal: Option<Refusal>,
    /// The program was told that content begins, and not yet how it ended.
    pub(super) announced: bool,
}

/// Why content that is still coming will not be taken.
pub(super) enum Refusal {
    BareNewline,
    EightBit,
    LongLine,
    Nul,
    Program(Reply),
    TooBig,
}

impl Refusal {
    /// Known for good before the content is complete, so a chunk need not be the last to fail.
    pub(super) fn ends_chunk(&self) -> bool {
        matches!(self, Self::Program(_) | Self::TooBig)
    }

    /// The reply of the table that says so; `None`: the program has given its own.
    pub(super) fn canned(&self) -> Option<Canned> {
        Some(match self {
            Self::BareNewline => BARE_NEWLINE,
            Self::EightBit => UNDECLARED_8BIT,
            Self::LongLine => LONG_LINE,
            Self::Nul => NUL_OCTET,
            Self::Program(_) => return None,
            Self::TooBig => TOO_BIG,
        })
    }

    pub(super) fn abort(&self) -> Abort {
        if matches!(self, Self::TooBig) { Abort::TooBig } else { Abort::Forbidden }
    }
}

/// What the client has said of itself. Replaced as a whole when the session starts anew (RFC 3207 4.2, XCLIENT).
#[derive(Default)]
pub(super) struct Learnt {
    pub(super) hello: Option<(Verb, Box<str>)>,
    pub(super) identity: Option<Box<str>>,
    pub(super) xclient: Option<Arc<Attributes>>,
    /// XFORWARD for the next transaction, which takes it.
    pub(super) xforward: Option<Arc<Attributes>>,
    /// Whether the client that XCLIENT spoke of is trusted; before that the transport's peer counts.
    pub(super) trusted: Option<bool>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) auth_failures: u64,
    pub(super) commands: u64,
    pub(super) errors: u64,
    pub(super) junk: u64,
    pub(super) messages: u64,
    /// Errors since the last accepted message: a client that delivers mail is forgiven its slips.
    pub(super) recent_errors: u64,
    pub(super) refusals: u64,
    pub(super) refused_recipients: u64,
    pub(super) transactions: u64,
}
