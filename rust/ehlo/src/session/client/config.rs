//! How a client speaks. Checked once, shared by all connections.

use std::fmt;
use std::time::Duration;

use crate::syntax::address::{is_domain, parse_literal};
use crate::syntax::reply::ReplyLimits;

/// Whether content goes by BDAT (RFC 3030 2) or by DATA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunking {
    /// By BDAT where it is offered.
    #[default]
    Auto,
    /// By BDAT only: a peer that does not offer it gets no message.
    Always,
    /// By DATA only.
    Never,
}

/// Whether to ask for STARTTLS (RFC 3207). Implicit TLS is told by
/// [`tls_established`](super::ClientConnection::tls_established) before the greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Never ask.
    #[default]
    Off,
    /// Ask where it is offered, go on in clear where it is not.
    Opportunistic,
    /// No MAIL, no AUTH and no content in clear.
    Required,
}

/// What becomes of a CR or LF that is not part of a CRLF, which must never be sent as it is (RFC 5321 2.3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newlines {
    /// Make a CRLF of each; complete the last line.
    #[default]
    Normalize,
    /// Refuse the content: before MAIL if it is there as a whole, else by closing the connection.
    Reject,
    /// Leave every octet as it is. By BDAT only.
    Exact,
}

/// How long a client waits (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug)]
pub struct ClientTimers {
    /// For the greeting (4.5.3.2.1).
    pub greeting: Duration,
    /// For the reply to EHLO, HELO and LHLO.
    pub hello: Duration,
    /// For the reply to MAIL (4.5.3.2.2).
    pub mail: Duration,
    /// For the reply to RCPT (4.5.3.2.3).
    pub rcpt: Duration,
    /// For the 354 behind DATA (4.5.3.2.4).
    pub data: Duration,
    /// For progress while content is sent (4.5.3.2.5).
    pub content: Duration,
    /// For the reply to the end of the content (4.5.3.2.6).
    pub end_of_data: Duration,
    /// For the reply to RSET and NOOP.
    pub reset: Duration,
    /// For the reply to QUIT.
    pub quit: Duration,
    /// For the reply to anything else.
    pub other: Duration,
}

impl Default for ClientTimers {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            greeting: seconds(300),
            hello: seconds(300),
            mail: seconds(300),
            rcpt: seconds(300),
            data: seconds(120),
            content: seconds(180),
            end_of_data: seconds(600),
            reset: seconds(20),
            quit: seconds(5),
            other: seconds(300),
        }
    }
}

/// What a [`ClientConfig`] is made from. `Default` uses all that the peer offers.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Our name for EHLO: a domain or an address literal (RFC 5321 4.1.4).
    pub hostname: String,
    /// LMTP instead of SMTP (RFC 2033).
    pub lmtp: bool,
    /// STARTTLS.
    pub tls: TlsPolicy,
    /// Use PIPELINING where it is offered (RFC 2920).
    pub pipelining: bool,
    /// Use CHUNKING.
    pub chunking: Chunking,
    /// Bare CR and LF.
    pub newlines: Newlines,
    /// Send 8-bit content to peers without 8BITMIME as it is, which RFC 6152 3 forbids.
    pub force_8bit: bool,
    /// Leave out what needs DSN where the peer lacks it, instead of failing (RFC 3461 5.2.2).
    pub drop_dsn: bool,
    /// In a session that AUTH opened, every MAIL says who submitted the message: `AUTH=<>` where the program does not
    /// (RFC 4954 5). For relays.
    pub relay_auth: bool,
    /// Most recipients of one transaction where the peer states no limit (RFC 5321 4.5.3.1.8 promises 100).
    pub max_recipients: usize,
    /// Most messages that are sent by BDAT ahead of their replies.
    pub window: usize,
    /// Most octets of content in one BDAT chunk.
    pub chunk_size: usize,
    /// What is borne of a server's replies.
    pub reply_limits: ReplyLimits,
    /// Waits.
    pub timers: ClientTimers,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            lmtp: false,
            tls: TlsPolicy::Off,
            pipelining: true,
            chunking: Chunking::Auto,
            newlines: Newlines::Normalize,
            force_8bit: false,
            drop_dsn: false,
            relay_auth: false,
            max_recipients: 100,
            window: 16,
            chunk_size: 256 << 10,
            reply_limits: ReplyLimits::default(),
            timers: ClientTimers::default(),
        }
    }
}

/// Why settings make no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientConfigError {
    /// The host name is neither a domain nor an address literal (RFC 5321 4.1.4).
    Hostname,
    /// Octets cannot be exact where DATA may carry them (RFC 5321 2.3.8).
    ExactWithoutChunking,
    /// A size or count of zero.
    Zero(&'static str),
}

impl fmt::Display for ClientConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname => {
                f.write_str("the host name must be an ASCII domain or an address literal (RFC 5321 4.1.4)")
            }
            Self::ExactWithoutChunking => {
                f.write_str("exact newlines need BDAT: chunking must not be off (RFC 3030 2)")
            }
            Self::Zero(what) => write!(f, "{what} must be at least 1"),
        }
    }
}

impl std::error::Error for ClientConfigError {}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    settings: ClientSettings,
}

impl ClientConfig {
    /// Check `settings`.
    ///
    /// # Errors
    /// If they make no client.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientConfigError> {
        let name = &settings.hostname;
        if !(parse_literal(name, false).is_ok() || (name.is_ascii() && is_domain(name, true))) {
            return Err(ClientConfigError::Hostname);
        }
        if settings.newlines == Newlines::Exact && settings.chunking == Chunking::Never {
            return Err(ClientConfigError::ExactWithoutChunking);
        }
        let counts = [
            (settings.max_recipients, "the most recipients of a transaction"),
            (settings.window, "the window"),
            (settings.chunk_size, "the chunk size"),
        ];
        match counts.into_iter().find(|(count, _)| *count == 0) {
            Some((_, what)) => Err(ClientConfigError::Zero(what)),
            None => Ok(Self { settings }),
        }
    }

    /// The settings as given.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }
}
