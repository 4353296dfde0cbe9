//! The settings of a client. They are checked once, and shared by all connections.
//!
//! A new setting is one row of [`client_settings`](crate::client_settings), and its use.

use std::fmt;
use std::time::Duration;

use crate::session::settings::TooSmall;
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
    /// Leave every octet as it is where the message goes by BDAT; else make a CRLF of each.
    Auto,
}

/// All settings of a client, one row each. `client_settings!(make { context })` calls `make!` with the context and the rows.
#[doc(hidden)]
#[macro_export]
macro_rules! client_settings {
    ($make:ident { $($context:tt)* }) => { $make! { { $($context)* }
        /// Our own name for EHLO: a domain or an address literal (RFC 5321 4.1.4).
        hostname: String = [text("localhost")];
        /// Speak LMTP instead of SMTP (RFC 2033).
        lmtp: bool = [false];
        /// Ask for STARTTLS (RFC 3207): "off" never, "opportunistic" where it is offered,
        /// "required" always, and no mail without it. The adapter does implicit TLS.
        tls: TlsPolicy = [word("off", TlsPolicy::Off)];
        /// Use PIPELINING where it is offered (RFC 2920).
        pipelining: bool = [true];
        /// Send content by BDAT (RFC 3030): "auto" where it is offered, True always,
        /// False never.
        chunking: Chunking = [word("auto", Chunking::Auto)];
        /// A bare CR or LF in content: "normalize" makes it CRLF, "reject" refuses the
        /// message, "exact" sends it as it is, by BDAT only, "auto" sends it as it is by BDAT
        /// and makes it CRLF in DATA (RFC 5321 2.3.8).
        newlines: Newlines = [word("normalize", Newlines::Normalize)];
        /// Send 8-bit content to a server without 8BITMIME, which RFC 6152 3 forbids.
        force_8bit: bool = [false];
        /// Leave out the parameters of DSN where the server lacks DSN. Without it such a
        /// message fails (RFC 3461 5.2.2).
        drop_dsn: bool = [false];
        /// After AUTH put AUTH= into every MAIL, "<>" where the sender says nothing
        /// (RFC 4954 5). For relays.
        relay_auth: bool = [false];
        /// Most recipients of one transaction, where the server states no limit
        /// (RFC 5321 4.5.3.1.8 promises 100).
        max_recipients: usize = [100], at least 1;
        /// Most messages that are sent ahead of their replies.
        window: usize = [16], at least 1;
        /// Most octets of one BDAT chunk (RFC 3030 2).
        chunk_size: usize = [262144], at least 1;
        /// A bare LF ends a reply line, too.
        lenient_replies: bool = [false];
        /// Most octets of a reply line with its CRLF (RFC 5321 4.5.3.1.5 asks for
        /// 512).
        max_reply_line: usize = [4096];
        /// Most octets of a reply.
        max_reply: usize = [65536];
        /// Most lines of a reply.
        max_reply_lines: usize = [1000];
        /// Seconds to wait for the greeting (RFC 5321 4.5.3.2.1).
        greeting_timeout: Duration = [seconds(300)];
        /// Seconds to wait for the reply to EHLO, HELO or LHLO.
        hello_timeout: Duration = [seconds(300)];
        /// Seconds to wait for the reply to MAIL (RFC 5321 4.5.3.2.2).
        mail_timeout: Duration = [seconds(300)];
        /// Seconds to wait for the reply to RCPT (RFC 5321 4.5.3.2.3).
        rcpt_timeout: Duration = [seconds(300)];
        /// Seconds to wait for the 354 behind DATA (RFC 5321 4.5.3.2.4).
        data_timeout: Duration = [seconds(120)];
        /// Seconds to wait for progress while content is sent (RFC 5321
        /// 4.5.3.2.5).
        content_timeout: Duration = [seconds(180)];
        /// Seconds to wait for the reply to the end of the content (RFC 5321
        /// 4.5.3.2.6).
        end_of_data_timeout: Duration = [seconds(600)];
        /// Seconds to wait for the reply to RSET and NOOP.
        reset_timeout: Duration = [seconds(20)];
        /// Seconds to wait for the reply to QUIT.
        quit_timeout: Duration = [seconds(5)];
        /// Seconds to wait for the reply to any other command.
        other_timeout: Duration = [seconds(300)];
    } };
}

client_settings!(settings_struct {
    /// The settings that a [`ClientConfig`] is made from. `Default` uses every extension that the server offers.
    ClientSettings
});

/// Why settings make no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientConfigError {
    /// The host name is neither a domain nor an address literal (RFC 5321 4.1.4).
    Hostname,
    /// Octets cannot be exact where DATA may carry them (RFC 5321 2.3.8).
    ExactWithoutChunking,
    /// A setting is smaller than its table allows.
    TooSmall(TooSmall),
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
            Self::TooSmall(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientConfigError {}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    settings: ClientSettings,
    reply_limits: ReplyLimits,
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
        settings.check_least().map_err(ClientConfigError::TooSmall)?;
        let reply_limits = ReplyLimits {
            line: settings.max_reply_line,
            total: settings.max_reply,
            lines: settings.max_reply_lines,
            lenient: settings.lenient_replies,
            ..ReplyLimits::default()
        };
        Ok(Self { settings, reply_limits })
    }

    /// The settings as given.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// The bounds of a server's replies.
    pub(super) fn reply_limits(&self) -> &ReplyLimits {
        &self.reply_limits
    }
}
