//! Settings that were checked, with all that follows from them. All connections of a server share them.

use std::fmt;

use super::replies::{Replies, TextError, reply_names};
use super::settings::{ServerSettings, TlsFacts, TlsMode};
use crate::session::settings::TooSmall;
use crate::syntax::address::{is_domain, parse_literal};
use crate::syntax::command::is_mechanism;
use crate::syntax::options::{Leniency, Options, Parameters};
use crate::syntax::reply::MAX_LINE;
use crate::wire::line::LineEnds;

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
    /// The greeting holds CR, LF or another octet that a reply cannot carry.
    Greeting,
    /// A line of ehlo_keywords that is none (RFC 5321 4.1.1.1).
    Keyword(String),
    /// A text of a reply that is none, and the name of its reply.
    Text(String, TextError),
    /// The host name is neither a domain nor an address literal (RFC 5321 4.3.1, 6531 3.7.1).
    Hostname,
    /// The MT-PRIORITY profile is not a single word of printable ASCII.
    PriorityProfile,
    /// A setting is smaller than its table allows.
    TooSmall(TooSmall),
}

impl fmt::Display for ServerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthInClear(name) => {
                write!(f, "auth_in_clear: {name} is not among the mechanisms of auth, or it needs TLS (RFC 5802 6)")
            }
            Self::AuthNeverOffered => f.write_str(
                "auth: no mechanism can be used, since TLS is off and auth_in_clear is empty: write \
                     tls=\"starttls\" (or \"implicit\"), or name the mechanisms to offer without TLS in auth_in_clear",
            ),
            Self::Attribute(command) => write!(f, "{command} does not have one of these attributes"),
            Self::FutureReleaseWithoutSubmission => f.write_str("FUTURERELEASE is for submission only (RFC 4865 4.2)"),
            Self::Mechanism(name) => {
                write!(f, "auth: {name:?} is not the name of a SASL mechanism (RFC 4422 3.1), or it is there twice")
            }
            Self::RequiresAuth => f.write_str("AUTH is required, but there is no mechanism: set auth"),
            Self::RequiresTls => f.write_str("TLS is required, but it is off: set tls"),
            Self::EtrnForSubmission => f.write_str("ETRN must not be offered for submission (RFC 6409 7)"),
            Self::SingleLabel(name) => write!(f, "{name:?} is not a single label of a domain"),
            Self::BinarymimeWithoutChunking => f.write_str("BINARYMIME needs CHUNKING (RFC 3030 3)"),
            Self::Greeting => f.write_str("the greeting may hold printable ASCII only (RFC 5321 4.2)"),
            Self::Keyword(line) => {
                write!(f, "ehlo_keywords: {line:?} is not a keyword with its parameters (RFC 5321 4.1.1.1)")
            }
            Self::Text(name, TextError::Name) => {
                write!(
                    f,
                    "texts: there is no reply {name:?}; there are {}",
                    reply_names().collect::<Vec<_>>().join(", ")
                )
            }
            Self::Text(name, TextError::Octets) => {
                write!(f, "texts: {name} may hold printable ASCII only, and is not empty (RFC 5321 4.2)")
            }
            Self::Text(name, TextError::Length) => {
                write!(f, "texts: the line of {name} has more than 512 octets (RFC 5321 4.5.3.1.5)")
            }
            Self::Hostname => f.write_str(
                "the host name must be an ASCII domain or an address literal (RFC 5321 4.3.1, RFC 6531 3.7.1)",
            ),
            Self::PriorityProfile => f.write_str("the MT-PRIORITY profile must be one word of printable ASCII"),
            Self::TooSmall(error) => error.fmt(f),
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
    pub(super) replies: Replies,
}

impl ServerConfig {
    /// Check `settings` and work out grammar and keywords.
    pub fn new(settings: ServerSettings) -> Result<Self, ServerConfigError> {
        let s = &settings;
        if s.binarymime && !s.chunking {
            return Err(ServerConfigError::BinarymimeWithoutChunking);
        }
        s.check_least().map_err(ServerConfigError::TooSmall)?;
        if !s.greeting.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)) {
            return Err(ServerConfigError::Greeting);
        }
        let literal = parse_literal(&s.hostname, false).is_ok();
        let domain = s.hostname.is_ascii() && is_domain(&s.hostname, s.lenient.hello_underscore);
        if !literal && !domain {
            return Err(ServerConfigError::Hostname);
        }
        if s.mt_priority
            .iter()
            .flatten()
            .any(|profile| profile.is_empty() || !profile.bytes().all(|b| b.is_ascii_graphic()))
        {
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
        if let Some(line) = s.ehlo_keywords.iter().find(|line| !is_keyword_line(line)) {
            return Err(ServerConfigError::Keyword(line.clone()));
        }
        let replies = Replies::new(s).map_err(|(name, fault)| ServerConfigError::Text(name, fault))?;
        let settings = ServerSettings {
            auth: settings.auth.iter().map(|name| name.to_ascii_uppercase()).collect(),
            auth_in_clear: settings.auth_in_clear.iter().map(|name| name.to_ascii_uppercase()).collect(),
            ..settings
        };
        let s = &settings;
        // Mail programs say the name of their machine in submission, and it may be any (S-SES-09).
        let leniency = Leniency { hello_any: s.lenient.hello_any || s.submission, ..s.lenient };
        let extended = |tls: bool| Options {
            leniency,
            parameters: offered(s, tls),
            unknown_parameters: s.unknown_parameters,
            smtputf8: s.smtputf8,
            max_local_part: s.max_local_part,
            ..Options::offering_nothing()
        };
        let (extended, extended_tls) = (extended(false), extended(true));
        let basic = Options { leniency, max_local_part: s.max_local_part, ..Options::offering_nothing() };
        let keywords = keywords(s);
        let auth = std::array::from_fn(|index| {
            let tls = index
                .checked_sub(1)
                .map(|bits| TlsFacts { channel_binding: bits & 1 != 0, client_certificate: bits & 2 != 0 });
            line("AUTH", s.auth.iter().filter(|name| offers(s, name, tls)).map(String::as_str))
        });
        let xclient = line("XCLIENT", s.xclient.iter().map(|name| name.as_str()));
        let xforward = line("XFORWARD", s.xforward.iter().map(|name| name.as_str()));
        Ok(Self { settings, extended, extended_tls, basic, keywords, auth, xclient, xforward, replies })
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

    /// Whether content of so many octets is more than anybody reads to refuse it (S-DAT-13).
    pub(super) fn cuts_off(&self, octets: u64) -> bool {
        let limit = self.settings.max_message_size;
        limit.is_some_and(|limit| octets > limit.saturating_mul(2).saturating_add(1 << 20))
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
        (s.dsn == Some(true), Parameters::RET.with(Parameters::ENVID).with(Parameters::NOTIFY).with(Parameters::ORCPT)),
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
    let mut list = Vec::new();
    if s.pipelining {
        list.push("PIPELINING".to_owned());
    }
    list.push(s.max_message_size.map_or_else(|| "SIZE".into(), |limit| format!("SIZE {limit}")));
    list.push("8BITMIME".into());
    if s.enhanced_status_codes {
        list.push("ENHANCEDSTATUSCODES".into());
    }
    let mut add = |enabled: bool, keyword: &str| {
        if enabled {
            list.push(keyword.to_owned());
        }
    };
    add(s.dsn == Some(true), "DSN");
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
        list.push(profile.as_ref().map_or_else(|| "MT-PRIORITY".into(), |name| format!("MT-PRIORITY {name}")));
    }
    if s.limits_keyword {
        // RFC 9422: at most six digits; what is announced is what is enforced.
        let mut limits = String::from("LIMITS");
        if let Some(messages) = s.max_messages.filter(|n| (1..=999_999).contains(n)) {
            limits.push_str(&format!(" MAILMAX={messages}"));
        }
        if s.max_recipients <= 999_999 {
            limits.push_str(&format!(" RCPTMAX={}", s.max_recipients));
        }
        if limits.len() > "LIMITS".len() {
            list.push(limits);
        }
    }
    list.extend(s.ehlo_keywords.iter().cloned());
    list
}

/// ```abnf
/// ehlo-line = ehlo-keyword *( SP ehlo-param )                   ; RFC 5321 4.1.1.1
/// ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")    ehlo-param = 1*(%d33-126)
/// ```
fn is_keyword_line(line: &str) -> bool {
    let mut words = line.split(' ');
    let keyword = words.next().unwrap_or_default();
    let starts = keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts
        && line.len() + "250-\r\n".len() <= MAX_LINE
        && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && words.all(|word| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic()))
}
