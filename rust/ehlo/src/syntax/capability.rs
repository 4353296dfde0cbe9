//! Capabilities: the EHLO keywords that a server offers (RFC 5321 4.1.1.1).

use std::str::FromStr;

use super::datetime::{DateTime, Fraction};
use super::reply::Reply;

/// The lines of an EHLO reply: raw, in their order, and the known ones typed.
///
/// ```abnf
/// ehlo-ok-rsp = ( "250" SP Domain [ SP ehlo-greet ] CRLF ) / ...
/// ehlo-line = ehlo-keyword *( SP ehlo-param )
/// ```
/// No line makes it fail: what is not understood stays raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    greeting: String,
    /// As they came, but for octets that are not UTF-8.
    lines: Vec<String>,
    /// Mechanisms of `AUTH` and of the old `AUTH=`, in upper case, once each.
    mechanisms: Vec<String>,
    limits: Limits,
}

/// What LIMITS says (RFC 9422 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// `MAILMAX`: transactions in one session.
    pub mail_max: Option<u32>,
    /// `RCPTMAX`: recipients in one transaction.
    pub rcpt_max: Option<u32>,
    /// `RCPTDOMAINMAX`: different domains of recipients in one transaction.
    pub rcpt_domain_max: Option<u32>,
}

/// What FUTURERELEASE says (RFC 4865 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FutureRelease {
    /// The longest HOLDFOR, in seconds.
    pub max_seconds: u32,
    /// The latest HOLDUNTIL.
    pub max_until: DateTime,
}

impl Capabilities {
    /// Reads the lines of a reply, without their codes. The first is the server's greeting.
    #[must_use]
    pub fn parse<'l>(lines: impl IntoIterator<Item = &'l [u8]>) -> Self {
        let mut lines = lines.into_iter().map(|line| String::from_utf8_lossy(line).into_owned());
        let mut all = Self { greeting: lines.next().unwrap_or_default(), ..Self::default() };
        all.lines = lines.filter(|line| !line.trim_ascii().is_empty()).collect();
        let words = |keyword: &'static str| {
            all.entries().filter(move |entry| entry.0.eq_ignore_ascii_case(keyword)).flat_map(|entry| words(entry.1))
        };
        let mut mechanisms: Vec<String> = Vec::new();
        for mechanism in words("AUTH").map(str::to_ascii_uppercase) {
            if !mechanisms.contains(&mechanism) {
                mechanisms.push(mechanism);
            }
        }
        let mut limits = Limits::default();
        // "LIMITS" lines are one list; of two values the first stands.
        for word in words("LIMITS") {
            let Some((name, value)) = word.split_once('=') else { continue };
            let field = match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => &mut limits.mail_max,
                "RCPTMAX" => &mut limits.rcpt_max,
                "RCPTDOMAINMAX" => &mut limits.rcpt_domain_max,
                _ => continue,
            };
            *field = field.or(number(value, 6).filter(|_| !value.starts_with('0')));
        }
        (all.mechanisms, all.limits) = (mechanisms, limits);
        all
    }

    /// Reads a reply to EHLO or LHLO.
    #[must_use]
    pub fn from_reply(reply: &Reply) -> Self {
        Self::parse(reply.lines())
    }

    /// The first line: the server's name and its greeting.
    #[must_use]
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// The server's name, which is the greeting's first word.
    #[must_use]
    pub fn name(&self) -> &str {
        words(&self.greeting).next().unwrap_or_default()
    }

    /// All lines behind the first, as they came, in their order.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines of an EHLO reply that says the same, greeting first.
    pub fn write(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.greeting.as_str()).chain(self.lines.iter().map(String::as_str))
    }

    /// Each keyword with the text behind it, in their order and case. `AUTH=LOGIN`, the form that was before RFC 2554,
    /// is `AUTH` with `LOGIN` behind it.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|line| {
            let line = line.trim_ascii();
            let (keyword, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            match keyword.split_at_checked(5) {
                Some((auth, _)) if auth.eq_ignore_ascii_case("AUTH=") => (&line[..4], line[5..].trim_ascii()),
                _ => (keyword, rest.trim_ascii()),
            }
        })
    }

    /// Whether `keyword` is listed, in any case.
    #[must_use]
    pub fn has(&self, keyword: &str) -> bool {
        self.parameters(keyword).is_some()
    }

    /// The text behind the first `keyword`, in any case.
    #[must_use]
    pub fn parameters(&self, keyword: &str) -> Option<&str> {
        self.entries().find(|entry| entry.0.eq_ignore_ascii_case(keyword)).map(|entry| entry.1)
    }

    /// `SIZE` with a limit (RFC 1870 3): the most octets of a message. `None` if none is stated, also by `SIZE 0`;
    /// whether the parameter may be sent is [`has`](Self::has).
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let digits = words(self.parameters("SIZE")?).next()?;
        if digits.len() > 20 || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        // Twenty digits that 64 bits cannot hold are a limit nobody meets.
        Some(digits.parse().unwrap_or(u64::MAX)).filter(|&size| size > 0)
    }

    /// The SASL mechanisms, in upper case (RFC 4954 3).
    #[must_use]
    pub fn auth(&self) -> &[String] {
        &self.mechanisms
    }

    /// What LIMITS says (RFC 9422).
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// `DELIVERBY` (RFC 2852 2): `Some(None)` if no minimum is stated.
    #[must_use]
    pub fn deliver_by(&self) -> Option<Option<u32>> {
        let first = words(self.parameters("DELIVERBY")?).next().unwrap_or_default();
        Some(number(first.split(',').next().unwrap_or_default(), 9))
    }

    /// `FUTURERELEASE` (RFC 4865 3), if its parameters are in order.
    #[must_use]
    pub fn future_release(&self) -> Option<FutureRelease> {
        let mut words = words(self.parameters("FUTURERELEASE")?);
        let max_seconds = number(words.next()?, 9)?;
        let max_until = DateTime::parse(words.next()?, Fraction::Dropped).ok()?;
        Some(FutureRelease { max_seconds, max_until })
    }

    /// `MT-PRIORITY` (RFC 6710 2): the name of the profile, perhaps empty.
    #[must_use]
    pub fn mt_priority(&self) -> Option<&str> {
        Some(words(self.parameters("MT-PRIORITY")?).next().unwrap_or_default())
    }

    /// The attributes of XCLIENT (Postfix XCLIENT_README), as listed.
    pub fn xclient(&self) -> impl Iterator<Item = &str> {
        words(self.parameters("XCLIENT").unwrap_or_default())
    }

    /// The attributes of XFORWARD (Postfix XFORWARD_README), as listed.
    pub fn xforward(&self) -> impl Iterator<Item = &str> {
        words(self.parameters("XFORWARD").unwrap_or_default())
    }

    /// `8BITMIME` (RFC 6152).
    #[must_use]
    pub fn eight_bit_mime(&self) -> bool {
        self.has("8BITMIME")
    }

    /// `BINARYMIME` (RFC 3030 3).
    #[must_use]
    pub fn binarymime(&self) -> bool {
        self.has("BINARYMIME")
    }

    /// `CHUNKING` (RFC 3030 2).
    #[must_use]
    pub fn chunking(&self) -> bool {
        self.has("CHUNKING")
    }

    /// `DSN` (RFC 3461).
    #[must_use]
    pub fn dsn(&self) -> bool {
        self.has("DSN")
    }

    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    #[must_use]
    pub fn enhanced_status_codes(&self) -> bool {
        self.has("ENHANCEDSTATUSCODES")
    }

    /// `PIPELINING` (RFC 2920).
    #[must_use]
    pub fn pipelining(&self) -> bool {
        self.has("PIPELINING")
    }

    /// `REQUIRETLS` (RFC 8689).
    #[must_use]
    pub fn requiretls(&self) -> bool {
        self.has("REQUIRETLS")
    }

    /// `RRVS` (RFC 7293).
    #[must_use]
    pub fn rrvs(&self) -> bool {
        self.has("RRVS")
    }

    /// `SMTPUTF8` (RFC 6531).
    #[must_use]
    pub fn smtputf8(&self) -> bool {
        self.has("SMTPUTF8")
    }

    /// `STARTTLS` (RFC 3207).
    #[must_use]
    pub fn starttls(&self) -> bool {
        self.has("STARTTLS")
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// Digits only, and no more of them than `most`.
fn number(digits: &str, most: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > most || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    u32::from_str(digits).ok()
}
