//! What a server offers, asks and bears. Checked once, shared by all connections.

use std::fmt;
use std::time::Duration;

use crate::syntax::address::{is_domain, parse_literal};
use crate::syntax::command::is_mechanism;
use crate::syntax::datetime::DateTime;
use crate::syntax::options::{Leniency, Options, Parameters, UnknownParameters};
use crate::syntax::xattr::AttributeName;
use crate::wire::content::BareNewlines;
use crate::wire::line::LineEnds;

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

/// Bounds of one session. `None` is no bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of a command line with its CRLF (RFC 5321 4.5.3.1.4 and what each extension adds).
    pub command_line: usize,
    /// Recipients of one transaction (RFC 5321 4.5.3.1.8 asks for 100 at least).
    pub recipients: usize,
    /// Transactions in one session (RFC 9422 MAILMAX).
    pub messages: Option<u32>,
    /// Commands that were answered as wrong.
    pub errors: Option<u32>,
    /// NOOP, RSET, VRFY, EXPN, ETRN, HELP, repeated EHLO and empty chunks since the last accepted message.
    /// Beyond it each counts as an error.
    pub junk: Option<u32>,
    /// Recipients the program refused.
    pub refused_recipients: Option<u32>,
    /// Commands of any kind.
    pub commands: Option<u32>,
    /// AUTH commands that the program answered with 5yz (RFC 4954 4; not before the third, RFC 4954 9).
    pub auth_failures: Option<u32>,
    /// Octets of a response inside AUTH, without its CRLF (RFC 4954 4).
    pub auth_response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line: 2048,   // Postfix line_length_limit; covers the sum of S-LIN-12
            recipients: 1000,     // Postfix smtpd_recipient_limit, OpenSMTPD
            messages: Some(1000), // Exim smtp_accept_max_per_connection
            errors: Some(20),     // Postfix smtpd_hard_error_limit
            junk: Some(100),      // Postfix smtpd_junk_command_limit
            refused_recipients: None,
            commands: None,
            auth_failures: Some(3),
            auth_response: 12288,
        }
    }
}

/// How long a server waits (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// For the next command (RFC 5321 4.5.3.2.7: five minutes at least).
    pub command: Duration,
    /// For the next octets of content.
    pub content: Duration,
    /// For the TLS handshake as a whole.
    pub handshake: Duration,
    /// For the PROXY header as a whole.
    pub proxy: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(300),
            content: Duration::from_secs(300),
            handshake: Duration::from_secs(60),
            proxy: Duration::from_secs(5), // Postfix smtpd_upstream_proxy_timeout
        }
    }
}

/// FUTURERELEASE limits (RFC 4865 3).
#[derive(Clone, Debug)]
pub struct FutureRelease {
    /// Longest HOLDFOR, seconds.
    pub max_seconds: u32,
    /// Latest HOLDUNTIL.
    pub max_until: DateTime,
}

/// What a [`ServerConfig`] is made from. `Default` is a strict SMTP receiver that offers every extension it has.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name, a domain or an address literal (RFC 5321 4.3.1).
    pub hostname: String,
    /// Text behind the name in the greeting; empty for `ESMTP` or `LMTP`.
    pub greeting: String,
    /// LMTP instead of SMTP (RFC 2033).
    pub lmtp: bool,
    /// What the program decides.
    pub decisions: Decisions,
    /// Where content goes.
    pub content: ContentMode,
    /// SIZE in octets (RFC 1870); `None` states no limit.
    pub max_message_size: Option<u64>,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030); needs CHUNKING.
    pub binarymime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// LIMITS (RFC 9422).
    pub limits_keyword: bool,
    /// DELIVERBY (RFC 2852): `Some(None)` offers it without a minimum.
    pub deliver_by: Option<Option<u32>>,
    /// FUTURERELEASE (RFC 4865): for submission only.
    pub future_release: Option<FutureRelease>,
    /// MT-PRIORITY (RFC 6710): `Some("")` offers it without a profile name.
    pub mt_priority: Option<String>,
    /// RRVS (RFC 7293).
    pub rrvs: bool,
    /// REQUIRETLS (RFC 8689), inside TLS only.
    pub requiretls: bool,
    /// How TLS comes.
    pub tls: TlsMode,
    /// Nothing but NOOP, EHLO, STARTTLS and QUIT before TLS (RFC 3207 4). Not for a public port 25.
    pub require_tls: bool,
    /// Octets behind STARTTLS.
    pub injected_input: InjectedInput,
    /// The mechanisms of AUTH inside TLS, in the order they are listed (RFC 4954). Empty: AUTH is not there.
    pub auth: Vec<String>,
    /// Those of them that are offered in the clear, too (RFC 4954 4).
    pub auth_in_clear: Vec<String>,
    /// No mail before AUTH (RFC 4954 6: 530).
    pub require_auth: bool,
    /// A PROXY header comes first (PROXY protocol 2). Only where every client is a proxy that is trusted.
    pub proxy: bool,
    /// The attributes of XCLIENT that trusted clients may send. Empty: XCLIENT is not there.
    pub xclient: Vec<AttributeName>,
    /// The attributes of XFORWARD that trusted clients may send. Empty: XFORWARD is not there.
    pub xforward: Vec<AttributeName>,
    /// Message submission (RFC 6409): AUTH is required, and domains in the envelope are fully qualified.
    pub submission: bool,
    /// Single-label domains that submission takes all the same (RFC 6409 4.2), in any case.
    pub single_labels: Vec<String>,
    /// HELP.
    pub help: bool,
    /// Bare CR or LF in DATA.
    pub bare_newlines: BareNewlines,
    /// Bare CR or LF in BDAT, not judged under BINARYMIME.
    pub bdat_bare_newlines: BareNewlines,
    /// A bare LF ends a command line, too.
    pub bare_lf_commands: bool,
    /// Parameters nobody knows.
    pub unknown_parameters: UnknownParameters,
    /// Refuse NUL in content (550 5.6.0).
    pub reject_nul: bool,
    /// Refuse 8-bit content that was not declared (554 5.6.1).
    pub reject_8bit: bool,
    /// Refuse content with a line longer than RFC 5321 4.5.3.1.6 asks to accept (554 5.6.0).
    pub reject_long_lines: bool,
    /// Named departures from the grammar.
    pub leniency: Leniency,
    /// Octets of a local part (RFC 5321 4.5.3.1.1).
    pub max_local_part: usize,
    /// Bounds.
    pub limits: Limits,
    /// Waits.
    pub timers: Timers,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            greeting: String::new(),
            lmtp: false,
            decisions: Decisions { message: true, ..Decisions::default() },
            content: ContentMode::Collect,
            max_message_size: Some(32 << 20), // Postfix 10 MB, Exim 50 MB
            chunking: true,
            binarymime: true,
            smtputf8: true,
            dsn: true,
            limits_keyword: true,
            deliver_by: None,
            future_release: None,
            mt_priority: None,
            rrvs: false,
            requiretls: false,
            tls: TlsMode::Off,
            require_tls: false,
            injected_input: InjectedInput::Refuse,
            auth: Vec::new(),
            auth_in_clear: Vec::new(),
            require_auth: false,
            proxy: false,
            xclient: Vec::new(),
            xforward: Vec::new(),
            submission: false,
            single_labels: Vec::new(),
            help: true,
            bare_newlines: BareNewlines::Reject,
            bdat_bare_newlines: BareNewlines::Allow,
            bare_lf_commands: false,
            unknown_parameters: UnknownParameters::Reject,
            reject_nul: false,
            reject_8bit: false,
            reject_long_lines: false,
            leniency: Leniency::default(),
            max_local_part: 64,
            limits: Limits::default(),
            timers: Timers::default(),
        }
    }
}

/// Why settings make no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerConfigError {
    /// A mechanism is offered in the clear that is not among the others, or needs TLS (RFC 5802 6).
    AuthInClear(String),
    /// Mechanisms are there, but neither TLS nor one that is offered in the clear.
    AuthNeverOffered,
    /// An attribute that XCLIENT or XFORWARD does not have.
    Attribute(&'static str),
    /// FUTURERELEASE outside submission (RFC 4865 4.2).
    FutureReleaseWithoutSubmission,
    /// The name of a mechanism (RFC 4422 3.1), or one that is there twice.
    Mechanism(String),
    /// AUTH is required, and there is no mechanism.
    RequiresAuth,
    /// TLS is required, or REQUIRETLS offered, and there is no TLS.
    RequiresTls,
    /// ETRN on a submission port (RFC 6409 7).
    EtrnForSubmission,
    /// Not a single label of a domain.
    SingleLabel(String),
    /// BINARYMIME without CHUNKING (RFC 3030 3).
    BinarymimeWithoutChunking,
    /// A command line limit under 512 octets (RFC 5321 4.5.3.1.4).
    CommandLineTooShort,
    /// The greeting holds CR, LF or another octet that a reply cannot carry.
    Greeting,
    /// The host name is neither a domain nor an address literal (RFC 5321 4.3.1, 6531 3.7.1).
    Hostname,
    /// The MT-PRIORITY profile is not a single word of printable ASCII.
    PriorityProfile,
    /// A limit of zero recipients, or a local part under 64 octets (RFC 5321 4.5.3.1).
    TooSmall(&'static str),
}

impl fmt::Display for ServerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthInClear(name) => {
                write!(f, "{name} cannot be offered in the clear: it is not offered at all, or needs TLS (RFC 5802 6)")
            }
            Self::AuthNeverOffered => {
                f.write_str("AUTH is never offered: there is no TLS, and no mechanism is offered in the clear")
            }
            Self::Attribute(command) => write!(f, "{command} does not have such an attribute"),
            Self::FutureReleaseWithoutSubmission => f.write_str("FUTURERELEASE is for submission only (RFC 4865 4.2)"),
            Self::Mechanism(name) => {
                write!(f, "{name:?} is not the name of a SASL mechanism (RFC 4422 3.1), or is there twice")
            }
            Self::RequiresAuth => f.write_str("AUTH is required, but no mechanism is there"),
            Self::RequiresTls => f.write_str("TLS is required, but it is off"),
            Self::EtrnForSubmission => f.write_str("ETRN must not be offered for submission (RFC 6409 7)"),
            Self::SingleLabel(name) => write!(f, "{name:?} is not a single label of a domain"),
            Self::BinarymimeWithoutChunking => f.write_str("BINARYMIME needs CHUNKING (RFC 3030 3)"),
            Self::CommandLineTooShort => {
                f.write_str("a command line of 512 octets must be accepted (RFC 5321 4.5.3.1.4)")
            }
            Self::Greeting => f.write_str("the greeting may hold printable ASCII only (RFC 5321 4.2)"),
            Self::Hostname => f.write_str(
                "the host name must be an ASCII domain or an address literal (RFC 5321 4.3.1, RFC 6531 3.7.1)",
            ),
            Self::PriorityProfile => f.write_str("the MT-PRIORITY profile must be one word of printable ASCII"),
            Self::TooSmall(what) => write!(f, "{what} is smaller than RFC 5321 4.5.3.1 allows"),
        }
    }
}

impl std::error::Error for ServerConfigError {}

/// Checked settings, with what follows from them worked out.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    settings: ServerSettings,
    /// The grammar after EHLO or LHLO in the clear.
    extended: Options,
    /// The grammar after EHLO or LHLO inside TLS.
    extended_tls: Options,
    /// The grammar after HELO, where no parameter is legal (RFC 5321 4.1.1.2).
    basic: Options,
    /// The EHLO keywords that are listed always, in their order.
    keywords: Vec<String>,
    /// The AUTH keyword for each of the circumstances that `auth_index` tells apart.
    auth: [Option<String>; 5],
    xclient: Option<String>,
    xforward: Option<String>,
}

impl ServerConfig {
    /// Check `settings` and work out grammar and keywords.
    pub fn new(settings: ServerSettings) -> Result<Self, ServerConfigError> {
        let s = &settings;
        if s.binarymime && !s.chunking {
            return Err(ServerConfigError::BinarymimeWithoutChunking);
        }
        if s.limits.command_line < 512 {
            return Err(ServerConfigError::CommandLineTooShort);
        }
        if s.limits.recipients == 0 {
            return Err(ServerConfigError::TooSmall("the limit of recipients"));
        }
        if s.max_local_part < 64 {
            return Err(ServerConfigError::TooSmall("the limit of a local part"));
        }
        if !s.greeting.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)) {
            return Err(ServerConfigError::Greeting);
        }
        let literal = parse_literal(&s.hostname, false).is_ok();
        let domain = s.hostname.is_ascii() && is_domain(&s.hostname, s.leniency.hello_underscore);
        if !literal && !domain {
            return Err(ServerConfigError::Hostname);
        }
        if s.mt_priority.as_ref().is_some_and(|p| !p.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(ServerConfigError::PriorityProfile);
        }
        check_auth(s)?;
        check_submission(s)?;
        if (s.require_tls || s.requiretls) && s.tls == TlsMode::Off {
            return Err(ServerConfigError::RequiresTls);
        }
        if !s.xclient.iter().all(|name| name.in_xclient()) {
            return Err(ServerConfigError::Attribute("XCLIENT"));
        }
        if !s.xforward.iter().all(|name| name.in_xforward()) {
            return Err(ServerConfigError::Attribute("XFORWARD"));
        }
        let settings = ServerSettings {
            auth: settings.auth.iter().map(|name| name.to_ascii_uppercase()).collect(),
            auth_in_clear: settings.auth_in_clear.iter().map(|name| name.to_ascii_uppercase()).collect(),
            ..settings
        };
        let s = &settings;
        let extended = |tls: bool| Options {
            leniency: s.leniency,
            parameters: offered(s, tls),
            unknown_parameters: s.unknown_parameters,
            smtputf8: s.smtputf8,
            max_local_part: s.max_local_part,
            ..Options::offering_nothing()
        };
        let (extended, extended_tls) = (extended(false), extended(true));
        let basic = Options { leniency: s.leniency, max_local_part: s.max_local_part, ..Options::offering_nothing() };
        let keywords = keywords(s);
        let auth = std::array::from_fn(|index| {
            let tls = index
                .checked_sub(1)
                .map(|bits| TlsFacts { channel_binding: bits & 1 != 0, client_certificate: bits & 2 != 0 });
            line("AUTH", s.auth.iter().filter(|name| offers(s, name, tls)).map(String::as_str))
        });
        let xclient = line("XCLIENT", s.xclient.iter().map(|name| name.as_str()));
        let xforward = line("XFORWARD", s.xforward.iter().map(|name| name.as_str()));
        Ok(Self { settings, extended, extended_tls, basic, keywords, auth, xclient, xforward })
    }

    /// The settings as given.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// The EHLO keyword lines, without code and CRLF (RFC 5321 4.1.1.1), as they are listed in the clear or inside
    /// TLS, to a client that may use XCLIENT and XFORWARD, or to one that may not.
    pub fn keywords(&self, tls: Option<TlsFacts>, trusted: bool) -> impl Iterator<Item = &str> {
        let settings = &self.settings;
        let starttls = settings.tls == TlsMode::StartTls && tls.is_none(); // RFC 3207 4.2
        let words = [(starttls, "STARTTLS"), (settings.requiretls && tls.is_some(), "REQUIRETLS")];
        let words = words.into_iter().filter_map(|(listed, keyword)| listed.then_some(keyword));
        let lines = [
            self.auth[auth_index(tls)].as_deref(),
            self.xclient.as_deref().filter(|_| trusted),
            self.xforward.as_deref().filter(|_| trusted),
        ];
        self.keywords.iter().map(String::as_str).chain(words).chain(lines.into_iter().flatten())
    }

    /// Whether AUTH takes this mechanism, in upper case.
    pub(super) fn offers_mechanism(&self, name: &str, tls: Option<TlsFacts>) -> bool {
        self.settings.auth.iter().any(|known| known == name) && offers(&self.settings, name, tls)
    }

    pub(super) fn options(&self, extended: bool, tls: bool) -> &Options {
        match (extended, tls) {
            (true, false) => &self.extended,
            (true, true) => &self.extended_tls,
            (false, _) => &self.basic,
        }
    }

    pub(super) fn line_ends(&self) -> LineEnds {
        if self.settings.bare_lf_commands { LineEnds::CrlfOrLf } else { LineEnds::Crlf }
    }

    /// How many octets of refused content are read before the patience ends (S-DAT-13).
    pub(super) fn cut_off(&self) -> u64 {
        self.settings.max_message_size.map_or(u64::MAX, |limit| limit.saturating_mul(2).saturating_add(1 << 20))
    }
}

fn check_auth(s: &ServerSettings) -> Result<(), ServerConfigError> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    for (index, name) in s.auth.iter().enumerate() {
        if !is_mechanism(name) || s.auth[..index].iter().any(|other| same(other, name)) {
            return Err(ServerConfigError::Mechanism(name.clone()));
        }
    }
    let binds = |name: &str| name.to_ascii_uppercase().ends_with("-PLUS");
    if let Some(name) = s.auth_in_clear.iter().find(|name| binds(name) || !s.auth.iter().any(|other| same(other, name)))
    {
        return Err(ServerConfigError::AuthInClear(name.clone()));
    }
    if (s.require_auth || s.submission) && s.auth.is_empty() {
        return Err(ServerConfigError::RequiresAuth);
    }
    if !s.auth.is_empty() && s.auth_in_clear.is_empty() && s.tls == TlsMode::Off {
        return Err(ServerConfigError::AuthNeverOffered);
    }
    Ok(())
}

fn check_submission(s: &ServerSettings) -> Result<(), ServerConfigError> {
    if s.future_release.is_some() && !s.submission {
        return Err(ServerConfigError::FutureReleaseWithoutSubmission);
    }
    if s.submission && s.decisions.etrn {
        return Err(ServerConfigError::EtrnForSubmission);
    }
    match s.single_labels.iter().find(|name| name.contains('.') || !is_domain(name, false)) {
        Some(name) => Err(ServerConfigError::SingleLabel(name.clone())),
        None => Ok(()),
    }
}

/// In the clear, and inside TLS by what is known of it.
fn auth_index(tls: Option<TlsFacts>) -> usize {
    tls.map_or(0, |tls| 1 + usize::from(tls.channel_binding) + 2 * usize::from(tls.client_certificate))
}

/// Whether a mechanism that is configured, in upper case, may be used now.
fn offers(s: &ServerSettings, name: &str, tls: Option<TlsFacts>) -> bool {
    match tls {
        None => s.auth_in_clear.iter().any(|other| other == name),
        Some(tls) if name == "EXTERNAL" => tls.client_certificate,
        Some(tls) => tls.channel_binding || !name.ends_with("-PLUS"),
    }
}

/// A keyword and its words; nothing without words.
fn line<'a>(keyword: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut line = keyword.to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
    }
    (line.len() > keyword.len()).then_some(line)
}

fn offered(s: &ServerSettings, tls: bool) -> Parameters {
    let mut offered = Parameters::SIZE.with(Parameters::BODY);
    let extensions = [
        (s.binarymime, Parameters::BINARYMIME),
        (s.smtputf8, Parameters::SMTPUTF8),
        (s.dsn, Parameters::RET.with(Parameters::ENVID).with(Parameters::NOTIFY).with(Parameters::ORCPT)),
        (s.deliver_by.is_some(), Parameters::BY),
        (s.future_release.is_some(), Parameters::HOLD),
        (s.mt_priority.is_some(), Parameters::MT_PRIORITY),
        (s.rrvs, Parameters::RRVS),
        (if tls { !s.auth.is_empty() } else { !s.auth_in_clear.is_empty() }, Parameters::AUTH),
        (s.requiretls && tls, Parameters::REQUIRETLS),
    ];
    for (enabled, parameters) in extensions {
        if enabled {
            offered = offered.with(parameters);
        }
    }
    offered
}

fn keywords(s: &ServerSettings) -> Vec<String> {
    let mut list = vec!["PIPELINING".to_owned()];
    list.push(s.max_message_size.map_or_else(|| "SIZE".into(), |limit| format!("SIZE {limit}")));
    list.push("8BITMIME".into());
    list.push("ENHANCEDSTATUSCODES".into());
    let mut add = |enabled: bool, keyword: &str| {
        if enabled {
            list.push(keyword.to_owned());
        }
    };
    add(s.dsn, "DSN");
    add(s.chunking, "CHUNKING");
    add(s.binarymime, "BINARYMIME");
    add(s.smtputf8, "SMTPUTF8");
    add(s.rrvs, "RRVS");
    add(s.decisions.vrfy, "VRFY");
    add(s.decisions.expn, "EXPN");
    add(s.decisions.etrn, "ETRN");
    add(s.help, "HELP");
    if let Some(minimum) = s.deliver_by {
        list.push(minimum.map_or_else(|| "DELIVERBY".into(), |seconds| format!("DELIVERBY {seconds}")));
    }
    if let Some(hold) = &s.future_release {
        list.push(format!("FUTURERELEASE {} {}", hold.max_seconds, hold.max_until));
    }
    if let Some(profile) = &s.mt_priority {
        list.push(if profile.is_empty() { "MT-PRIORITY".into() } else { format!("MT-PRIORITY {profile}") });
    }
    if s.limits_keyword {
        // RFC 9422: at most six digits; what is announced is what is enforced.
        let mut limits = String::from("LIMITS");
        if let Some(messages) = s.limits.messages.filter(|n| (1..=999_999).contains(n)) {
            limits.push_str(&format!(" MAILMAX={messages}"));
        }
        if s.limits.recipients <= 999_999 {
            limits.push_str(&format!(" RCPTMAX={}", s.limits.recipients));
        }
        if limits.len() > "LIMITS".len() {
            list.push(limits);
        }
    }
    list
}
