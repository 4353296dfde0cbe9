//! Events: the server's engine tells the program what happened, and asks for decisions.

use std::sync::Arc;

use crate::session::envelope::{Envelope, Recipient, Sender};
use crate::syntax::command::{Secret, Verb};
use crate::syntax::reply::Reply;
use crate::syntax::xattr::Attributes;
use crate::wire::content::ContentFlags;
use crate::wire::proxy::ProxyHeader;

/// One thing that happened. An event that is marked *decision* waits for an answer. The input behind it is not looked at
/// before the answer.
#[derive(Clone, Debug)]
pub enum ServerEvent<C> {
    /// *Decision.* AUTH (RFC 4954). Answer with [`super::ServerConnection::challenge`], with
    /// [`super::ServerConnection::accept_identity`], or with a 4yz or 5yz reply.
    Auth {
        /// In upper case; one that is offered now.
        mechanism: String,
        /// The initial response, decoded; an empty one is not the same as none.
        initial: Option<Secret<'static>>,
    },
    /// *Decision.* The client's answer to a challenge, decoded. Answer it as `Auth`.
    AuthResponse(Secret<'static>),
    /// The client ended an exchange of AUTH, or sent what is not base64. The engine has answered.
    AuthCancelled,
    /// What came where a PROXY header was expected. The session ends.
    BadProxy(Vec<u8>),
    /// *Decision.* A command that the engine does not know, or NOOP, HELP, RSET or QUIT. A yes lets the engine answer.
    Command {
        /// In upper case.
        verb: String,
        /// All behind it; empty if there is nothing.
        argument: String,
    },
    /// The streamed content will not become a message.
    ContentAborted(Abort),
    /// Content begins, in [`super::ContentMode::Stream`].
    ContentStart(Envelope),
    /// Octets of content, in [`super::ContentMode::Stream`].
    Chunk(C),
    /// *Decision.* A client connected.
    Connect,
    /// *Decision.* Content is about to come.
    Data {
        /// The transaction so far.
        envelope: Envelope,
        /// `Data` or `Bdat`.
        verb: Verb,
    },
    /// The session is over; the last event.
    Disconnect(ServerDisconnect),
    /// *Decision.* ETRN (RFC 1985).
    Etrn(String),
    /// *Decision.* EXPN (RFC 5321 3.5).
    Expn(String),
    /// *Decision.* EHLO, HELO or LHLO.
    Hello {
        /// Which of them.
        verb: Verb,
        /// The client's name for itself.
        name: String,
    },
    /// *Decision.* MAIL.
    Mail(Arc<Sender>),
    /// *Decision.* The content is complete; a positive answer takes responsibility (RFC 5321 4.2.5).
    Message {
        /// For whom, from whom.
        envelope: Envelope,
        /// The octets, in [`super::ContentMode::Collect`]; else empty.
        content: C,
        /// Octets, as RFC 1870 5 counts them.
        size: u64,
        /// What was found in them.
        flags: ContentFlags,
    },
    /// *Decision.* The PROXY header came (PROXY protocol 2): go on, or answer in place of the greeting.
    Proxy(Arc<ProxyHeader>),
    /// *Decision.* RCPT.
    Rcpt(Arc<Recipient>),
    /// *Decision.* The engine refuses a command, or content. A yes lets it answer; a 4yz or 5yz reply takes the place of its
    /// own.
    Refusal {
        /// The command line without its end. It is empty for content, and for a line that is too long.
        line: Vec<u8>,
        /// The engine's reply.
        reply: Reply,
    },
    /// A reply 4yz or 5yz went out, whoever decided it. For [`super::Decisions::refused`] only.
    Refused {
        /// The command that it answers; `None` for a line that is no command, and for the connection itself.
        verb: Option<Verb>,
        /// The argument of the command, where it cannot hold a secret. After AUTH, the mechanism alone.
        argument: String,
        /// The transaction, if one was open. In LMTP, after content: the recipient that was refused.
        envelope: Option<Envelope>,
        /// The reply.
        reply: Reply,
    },
    /// A transaction was dropped by RSET or a new EHLO.
    Reset,
    /// *Decision.* STARTTLS (RFC 3207 4). Accept, send the output, do the handshake, then say
    /// [`super::ServerConnection::tls_established`]; or reply 454 if TLS is not to be had now.
    StartTls,
    /// *Decision.* VRFY (RFC 5321 3.5).
    Vrfy(String),
    /// XCLIENT was accepted: all that XCLIENT has said of the client so far. If the address is among it, the client
    /// is no longer trusted, until [`super::ServerConnection::set_trusted`] says so again.
    Xclient(Arc<Attributes>),
}

/// Why streamed content did not become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// A bare CR or LF under [`crate::wire::content::BareNewlines::Reject`], or other forbidden content.
    Forbidden,
    /// The connection ended.
    Disconnected,
    /// RSET or EHLO came between two chunks.
    Reset,
    /// More octets than allowed (RFC 1870 6.3).
    TooBig,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerDisconnect {
    /// The client closed.
    Eof,
    /// Octets came in the clear where TLS was to begin (RFC 3207 4.2).
    Injection,
    /// A limit of the session was passed.
    Limit,
    /// The program said 421 or 221.
    Program,
    /// The client left the protocol: a BDAT without a size, HTTP, TLS in the clear, no PROXY header.
    Protocol,
    /// QUIT.
    Quit,
    /// [`super::ServerConnection::shutdown`].
    Shutdown,
    /// [`super::ServerConnection::receive_timeout`].
    Timeout,
    /// [`super::ServerConnection::tls_failed`].
    Tls,
}
