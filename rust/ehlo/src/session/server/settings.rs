//! The settings of a server, as a program gives them.
//!
//! A new setting is one row of [`server_settings`](crate::server_settings), and its use.

use std::time::Duration;

use crate::syntax::datetime::DateTime;
use crate::syntax::options::{Leniency, UnknownParameters};
use crate::syntax::xattr::AttributeName;
use crate::wire::content::BareNewlines;

/// Which decisions the program takes itself. All others are taken by the engine, without an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Whether to greet (RFC 5321 3.1).
    pub connect: bool,
    /// EHLO, HELO, LHLO.
    pub hello: bool,
    /// MAIL.
    pub mail: bool,
    /// RCPT.
    pub rcpt: bool,
    /// DATA, or the first BDAT: refuse before the content comes.
    pub data: bool,
    /// The end of the content: take responsibility, or not (RFC 5321 4.2.5).
    pub message: bool,
    /// VRFY; without it the answer is 252 (RFC 5321 3.5.3).
    pub vrfy: bool,
    /// EXPN; without it the command is not offered.
    pub expn: bool,
    /// ETRN (RFC 1985); without it the command is not offered.
    pub etrn: bool,
    /// Not a decision but a notice: a transaction was dropped.
    pub reset: bool,
    /// A command that the engine does not know, and NOOP, HELP, RSET and QUIT.
    pub command: bool,
    /// The words for a command, or content, that the engine refuses.
    pub refusal: bool,
    /// Not a decision but a notice: a reply 4yz or 5yz went out.
    pub refused: bool,
}

/// What becomes of the content's octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentMode {
    /// Kept whole, and handed over with the message.
    #[default]
    Collect,
    /// Handed over as they come.
    Stream,
    /// Counted and dropped.
    Discard,
}

/// How TLS comes to a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all.
    #[default]
    Off,
    /// By STARTTLS (RFC 3207).
    StartTls,
    /// Before the greeting (RFC 8314 3.3).
    Implicit,
}

/// What becomes of octets that came in the clear behind STARTTLS. They never take effect (RFC 3207 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InjectedInput {
    /// 554, and the connection is closed: somebody tampers with it, or the client is broken.
    #[default]
    Refuse,
    /// They are forgotten, and TLS begins.
    Drop,
}

/// What the program knows of the TLS layer under a session. It decides which mechanisms AUTH lists (RFC 4954 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Channel binding can be had (RFC 5929): without it no mechanism in -PLUS is offered.
    pub channel_binding: bool,
    /// The client has shown a certificate that was verified: without it EXTERNAL is not offered (RFC 4422 App. A).
    pub client_certificate: bool,
}

/// FUTURERELEASE limits (RFC 4865 3).
#[derive(Clone, Debug)]
pub struct FutureRelease {
    /// Longest HOLDFOR, seconds.
    pub max_seconds: u32,
    /// Latest HOLDUNTIL.
    pub max_until: DateTime,
}

/// All settings of a server, one row each. `server_settings!(make { context })` calls `make!` with the context and the rows.
#[doc(hidden)]
#[macro_export]
macro_rules! server_settings {
    ($make:ident { $($context:tt)* }) => { $make! { { $($context)* }
        /// Our own name: a domain or an address literal (RFC 5321 4.3.1).
        hostname: String = [text("localhost")];
        /// Speak LMTP instead of SMTP (RFC 2033).
        lmtp: bool = [false];
        /// The decisions of the program: any of "connect", "hello", "mail",
        /// "rcpt", "data", "message", "vrfy", "expn", "etrn", "command" and "refusal". The engine
        /// takes all others itself, without an event. "command" is for commands that the engine
        /// does not know, and for NOOP, HELP, RSET and QUIT. "refusal" is for the text of a
        /// refusal. Two more are notices, and no decisions: "reset" when a transaction was
        /// dropped, "refused" when a reply 4yz or 5yz went out.
        decisions: Decisions = [words("['message']", Decisions { message: true, ..Decisions::default() })];
        /// How the program gets content: "collect" as a whole with the message, "stream" in
        /// pieces as it comes, "discard" not at all: it is counted and dropped.
        content: ContentMode = [word("collect", ContentMode::Collect)];
        /// The text behind our name in the greeting. If it is empty, the greeting says
        /// ESMTP or LMTP.
        greeting: String = [text("")];
        /// Texts of the engine's replies, by name: {"bye": "So long", "too_many_errors": "Enough"}.
        /// The codes stay. A text is printable ASCII, and its line has 512 octets at most. An
        /// unknown name is an error that lists all names.
        texts: Vec<(String, String)> = [nothing];
        /// Announce PIPELINING (RFC 2920). Commands that come together are read in any case.
        pipelining: bool = [true];
        /// Announce ENHANCEDSTATUSCODES, and write the codes (RFC 2034). LMTP needs this and
        /// PIPELINING (RFC 2033 5).
        enhanced_status_codes: bool = [true];
        /// More lines for the reply to EHLO, like "XFOO bar": a keyword and its parameters. They
        /// are for commands and parameters that the program handles.
        ehlo_keywords: Vec<String> = [nothing];
        /// Most octets of a message (SIZE, RFC 1870). None: no limit.
        max_message_size: Option<u64> = [Some(33554432)];
        /// Offer CHUNKING (RFC 3030).
        chunking: bool = [true];
        /// Offer BINARYMIME (RFC 3030). It needs CHUNKING.
        binarymime: bool = [true];
        /// Offer SMTPUTF8 (RFC 6531).
        smtputf8: bool = [true];
        /// Offer DSN (RFC 3461). The program must then send the notifications that clients ask for.
        /// None: `serve` offers it if the handler's `reports_delivery` is true. Without `serve`
        /// None is False.
        dsn: Option<bool> = [None];
        /// Announce LIMITS (RFC 9422).
        limits_keyword: bool = [true];
        /// Offer DELIVERBY (RFC 2852). A number is the least number of seconds that is accepted;
        /// True: no minimum.
        deliver_by: Option<Option<u32>> = [None];
        /// Offer FUTURERELEASE (RFC 4865), for submission only: the most seconds
        /// and the latest RFC 3339 time of a hold.
        future_release: Option<FutureRelease> = [None];
        /// Offer MT-PRIORITY (RFC 6710). A text is the name of the profile; True:
        /// no profile.
        mt_priority: Option<Option<String>> = [None];
        /// Offer RRVS (RFC 7293).
        rrvs: bool = [false];
        /// Offer HELP (RFC 5321 4.1.1.8).
        help: bool = [true];
        /// The way to TLS: "off", "starttls" (RFC 3207), or "implicit" before the greeting
        /// (RFC 8314 3.3).
        tls: TlsMode = [word("off", TlsMode::Off)];
        /// Before TLS, answer nothing but NOOP, EHLO, STARTTLS and QUIT (RFC 3207 4).
        /// Not for a public port 25.
        require_tls: bool = [false];
        /// Octets that come in the clear behind STARTTLS: "refuse" answers 554 and
        /// closes, "drop" forgets them (RFC 3207 4.2).
        injected_input: InjectedInput = [word("refuse", InjectedInput::Refuse)];
        /// Offer REQUIRETLS inside TLS (RFC 8689).
        requiretls: bool = [false];
        /// The SASL mechanisms that AUTH offers inside TLS, in this order (RFC 4954). An empty
        /// list: no AUTH.
        auth: Vec<String> = [nothing];
        /// The mechanisms that AUTH also offers without TLS (RFC 4954 4).
        auth_in_clear: Vec<String> = [nothing];
        /// Take no mail before AUTH: the answer is 530 (RFC 4954 6).
        require_auth: bool = [false];
        /// Expect a PROXY header first. Use it only if every client is a trusted proxy.
        proxy: bool = [false];
        /// The attributes of XCLIENT that clients may send once `trusted` is set, like
        /// ("NAME", "ADDR"). An empty list: no XCLIENT.
        xclient: Vec<AttributeName> = [nothing];
        /// The attributes of XFORWARD that clients may send once `trusted` is set.
        /// An empty list: no XFORWARD.
        xforward: Vec<AttributeName> = [nothing];
        /// Message submission (RFC 6409): AUTH is required, and domains must be fully
        /// qualified.
        submission: bool = [false];
        /// Domains of one label that submission accepts (RFC 6409 4.2).
        single_labels: Vec<String> = [nothing];
        /// A bare CR or LF in DATA: "reject" answers 550, "normalize" makes it CRLF,
        /// "allow" flags it (RFC 5321 2.3.8).
        bare_newlines: BareNewlines = [word("reject", BareNewlines::Reject)];
        /// The same in BDAT. Content with BODY=BINARYMIME is not judged.
        bdat_bare_newlines: BareNewlines = [word("allow", BareNewlines::Allow)];
        /// A bare LF ends a command line, too.
        bare_lf_commands: bool = [false];
        /// Unknown ESMTP parameters: "reject" answers 555, "ignore"
        /// drops them, "pass" gives them to the program (RFC 5321 4.1.1.11).
        unknown_parameters: UnknownParameters = [word("reject", UnknownParameters::Reject)];
        /// Refuse content with a NUL octet: 550 5.6.0.
        reject_nul: bool = [false];
        /// Refuse 8-bit content that was not declared: 554 5.6.1 (RFC 6152).
        reject_8bit: bool = [false];
        /// Refuse content with a line of more than 1000 octets: 554 5.6.0 (RFC
        /// 5321 4.5.3.1.6).
        reject_long_lines: bool = [false];
        /// Departures from the grammar that are forgiven: any of "hello_underscore", "hello_any",
        /// "hello_trailing_text", "space_after_colon", "bare_paths", "extra_space",
        /// "dots_in_local_part", "domain_underscore", "general_literals", "lowercase_xtext" and
        /// "no_domain". In submission "hello_any" is always among them.
        lenient: Leniency = [words("['hello_underscore']", Leniency::default())];
        /// Most octets of a local part, 64 at least (RFC 5321 4.5.3.1.1).
        max_local_part: usize = [64], at least 64;
        /// Most octets of a command line with its CRLF, 512 at least (RFC 5321
        /// 4.5.3.1.4).
        max_command_line: usize = [2048], at least 512;
        /// Most recipients of one transaction (RFC 5321 4.5.3.1.8 asks for 100 at
        /// least).
        max_recipients: usize = [1000], at least 1;
        /// Most transactions in one session (RFC 9422 MAILMAX). None: no limit.
        max_messages: Option<u32> = [Some(1000)];
        /// Most wrong commands since the last accepted message. None: no limit.
        max_errors: Option<u32> = [Some(20)];
        /// Most commands without progress since the last accepted message: NOOP, RSET,
        /// VRFY, EXPN, ETRN, HELP, a repeated EHLO, an empty chunk. Each one beyond it counts as an
        /// error. None: no limit.
        max_junk: Option<u32> = [Some(100)];
        /// Most recipients in one session that the program refused. None:
        /// no limit.
        max_refused_recipients: Option<u32> = [None];
        /// Most refusals since the last accepted message: a recipient too many, a SIZE too large, a
        /// MAIL, RCPT or DATA that the program refused. Each one beyond it counts as an error. None:
        /// no limit.
        max_refusals: Option<u32> = [Some(1000)];
        /// Most commands in one session. None: no limit.
        max_commands: Option<u32> = [None];
        /// Most AUTH commands in one session that the program answered with 5yz
        /// (RFC 4954 4). None: no limit.
        max_auth_failures: Option<u32> = [Some(3)];
        /// Most octets of a response inside AUTH, without its CRLF (RFC 4954 4).
        max_auth_response: usize = [12288];
        /// Seconds to wait for a command (RFC 5321 4.5.3.2.7 asks for five minutes
        /// at least).
        command_timeout: Duration = [seconds(300)];
        /// Seconds to wait for more content (RFC 5321 4.5.3.2.5).
        content_timeout: Duration = [seconds(300)];
        /// Seconds for a TLS handshake as a whole.
        handshake_timeout: Duration = [seconds(60)];
        /// Seconds for a PROXY header as a whole.
        proxy_timeout: Duration = [seconds(5)];
    } };
}

// Where other servers stand, for the defaults: max_message_size: Postfix 10 MB, Exim 50 MB. max_command_line: Postfix
// line_length_limit, which covers the sum of what the extensions add (S-LIN-12). max_recipients: Postfix
// smtpd_recipient_limit and OpenSMTPD. max_messages: Exim smtp_accept_max_per_connection. max_errors: Postfix
// smtpd_hard_error_limit. max_junk: Postfix smtpd_junk_command_limit. proxy_timeout: Postfix smtpd_upstream_proxy_timeout.
server_settings!(settings_struct {
    /// The settings that a [`ServerConfig`](super::ServerConfig) is made from. `Default` is a strict SMTP receiver that offers every extension
    /// which needs no setting.
    ServerSettings
});
