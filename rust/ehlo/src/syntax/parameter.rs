//! ESMTP parameters of MAIL and RCPT (RFC 5321 4.1.1.11 and the extensions).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::ops::Range;

use super::address::Address;
use super::class::{ATEXT, ESMTP_VALUE, LDH, LET_DIG, UTF8_NON_ASCII, is, is_word, run};
use super::datetime::{DateTime, Fraction};
use super::options::{Options, Parameters, UnknownParameters};
use crate::wire::xtext;

/// Octets of an ENVID value, encoded (RFC 3461 4.4).
const MAX_ENVID: usize = 100;
/// Octets of an ORCPT value, encoded (RFC 3461 4.2).
const MAX_ORCPT: usize = 500;

/// The parameters of MAIL: those that are known and offered typed, all of them raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters<'a> {
    /// The text behind the path, without the space before it; empty if there was none.
    pub raw: Cow<'a, str>,
    /// `SIZE=` (RFC 1870). A number past 64 bits is `u64::MAX`.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152, 3030).
    pub body: Option<Body>,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded (RFC 3461 4.4).
    pub envid: Option<Cow<'a, str>>,
    /// `AUTH=` (RFC 4954 5).
    pub auth: Option<AuthParameter<'a>>,
    /// `BY=` (RFC 2852 4).
    pub by: Option<DeliverBy>,
    /// `HOLDFOR=` or `HOLDUNTIL=` (RFC 4865 4).
    pub hold: Option<Hold>,
    /// `MT-PRIORITY=` (RFC 6710 4.1).
    pub mt_priority: Option<i8>,
    /// `REQUIRETLS` (RFC 8689 2).
    pub requiretls: bool,
}

/// The parameters of RCPT: those that are known and offered typed, all of them raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters<'a> {
    /// The text behind the path, without the space before it; empty if there was none.
    pub raw: Cow<'a, str>,
    /// `NOTIFY=` (RFC 3461 4.1). Absent is not the same as any value.
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 4.2).
    pub orcpt: Option<Orcpt<'a>>,
    /// `RRVS=` (RFC 7293 3.1).
    pub rrvs: Option<Rrvs>,
}

/// What the content is made of (RFC 6152 2, RFC 3030 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// `7BIT`
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
    /// `BINARYMIME`
    BinaryMime,
}

impl Body {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        }
    }
}

/// How much of a message comes back with a failure (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// `FULL`
    Full,
    /// `HDRS`
    Headers,
}

impl Ret {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// Who submitted a message first (RFC 4954 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthParameter<'a> {
    /// `AUTH=<>`: unknown, or not to be trusted.
    Null,
    /// A mailbox, decoded.
    Mailbox(Cow<'a, str>),
}

impl AuthParameter<'_> {
    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> AuthParameter<'static> {
        match self {
            Self::Null => AuthParameter::Null,
            Self::Mailbox(mailbox) => AuthParameter::Mailbox(Cow::Owned(mailbox.into_owned())),
        }
    }
}

/// By when a message is to be delivered (RFC 2852 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliverBy {
    /// Seconds from now, nine digits at most. In the past with [`ByMode::Notify`] only.
    pub seconds: i32,
    /// What to do when the time is over.
    pub mode: ByMode,
    /// Whether relaying is to be reported as well.
    pub trace: bool,
}

/// What to do when the time is over (RFC 2852 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByMode {
    /// `N`: tell the sender, go on.
    Notify,
    /// `R`: give it back.
    Return,
}

/// How long a message is to be held (RFC 4865 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// `HOLDFOR=`, seconds from now.
    For(u32),
    /// `HOLDUNTIL=`
    Until(DateTime),
}

/// When the sender wants to be told (RFC 3461 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// `NEVER`, which stands alone.
    pub never: bool,
    /// `SUCCESS`
    pub success: bool,
    /// `FAILURE`
    pub failure: bool,
    /// `DELAY`
    pub delay: bool,
}

/// The recipient the sender had in mind (RFC 3461 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orcpt<'a> {
    /// The type of the address, as written.
    pub addr_type: Cow<'a, str>,
    /// The address, decoded.
    pub address: Cow<'a, str>,
    /// The whole value as written, for passing on. If empty, [`RcptParameters::write`] encodes the address.
    pub raw: Cow<'a, str>,
}

impl Orcpt<'_> {
    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Orcpt<'static> {
        Orcpt { addr_type: own(self.addr_type), address: own(self.address), raw: own(self.raw) }
    }
}

/// Since when the recipient has to have the mailbox (RFC 7293 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rrvs {
    /// Since when.
    pub since: DateTime,
    /// What a relay does whose next hop cannot check it.
    pub action: Option<RrvsAction>,
}

/// What a relay does whose next hop lacks RRVS (RFC 7293 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RrvsAction {
    /// `C`: go on.
    Continue,
    /// `R`: refuse.
    Reject,
}

/// What is wrong with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// HOLDFOR reaches past BY (RFC 4865 5.2.2).
    HoldPastDeliverBy,
    /// UTF-8 where no SMTPUTF8 allows it.
    NonAscii,
    /// The value of MT-PRIORITY, which has a code of its own.
    Priority,
    /// One was given twice.
    Repeated(&'static str),
    /// Not `keyword[=value]`, or not separated by one SP.
    Syntax,
    /// More than allowed.
    TooMany,
    /// Not known, not offered, or of the other command.
    Unknown,
    /// Its value is missing, not wanted or wrong.
    Value(&'static str),
}

impl ParameterError {
    /// A sentence for the peer.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::HoldPastDeliverBy => "HOLDFOR is later than BY",
            Self::NonAscii => "UTF-8 in a parameter needs SMTPUTF8",
            Self::Priority => "Bad MT-PRIORITY: it is -9 to 9",
            Self::Repeated(_) => "Parameter given twice",
            Self::Syntax => "Malformed parameter",
            Self::TooMany => "Too many parameters",
            Self::Unknown => "Parameter not known or not offered",
            Self::Value(keyword) => match keyword.as_bytes() {
                b"SIZE" => "Bad SIZE: it is 1 to 20 digits",
                b"BODY" => "Bad BODY: it is 7BIT, 8BITMIME or BINARYMIME",
                b"SMTPUTF8" => "SMTPUTF8 takes no value",
                b"RET" => "Bad RET: it is FULL or HDRS",
                b"ENVID" => "Bad ENVID: it is printable ASCII in xtext, at most 100 octets",
                b"AUTH" => "Bad AUTH: it is <> or a mailbox in xtext",
                b"BY" => "Bad BY: it is seconds;N or seconds;R, with T for trace",
                b"HOLDFOR" => "Bad HOLDFOR: it is 1 to 999999999 seconds",
                b"HOLDUNTIL" => "Bad HOLDUNTIL: it is a UTC date-time",
                b"REQUIRETLS" => "REQUIRETLS takes no value",
                b"NOTIFY" => "Bad NOTIFY: it is NEVER or a list of SUCCESS, FAILURE, DELAY",
                b"ORCPT" => "Bad ORCPT: it is type;xtext, at most 500 octets",
                b"RRVS" => "Bad RRVS: it is a date-time, then ;C or ;R or nothing",
                _ => "Bad parameter value",
            },
        }
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for ParameterError {}

/// A keyword that is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Auth,
    Body,
    By,
    Envid,
    HoldFor,
    HoldUntil,
    MtPriority,
    Notify,
    Orcpt,
    RequireTls,
    Ret,
    Rrvs,
    Size,
    Smtputf8,
}

impl Keyword {
    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Body => "BODY",
            Self::By => "BY",
            Self::Envid => "ENVID",
            Self::HoldFor => "HOLDFOR",
            Self::HoldUntil => "HOLDUNTIL",
            Self::MtPriority => "MT-PRIORITY",
            Self::Notify => "NOTIFY",
            Self::Orcpt => "ORCPT",
            Self::RequireTls => "REQUIRETLS",
            Self::Ret => "RET",
            Self::Rrvs => "RRVS",
            Self::Size => "SIZE",
            Self::Smtputf8 => "SMTPUTF8",
        }
    }

    /// What has to be offered.
    const fn needs(self) -> Parameters {
        match self {
            Self::Auth => Parameters::AUTH,
            Self::Body => Parameters::BODY,
            Self::By => Parameters::BY,
            Self::Envid => Parameters::ENVID,
            Self::HoldFor | Self::HoldUntil => Parameters::HOLD,
            Self::MtPriority => Parameters::MT_PRIORITY,
            Self::Notify => Parameters::NOTIFY,
            Self::Orcpt => Parameters::ORCPT,
            Self::RequireTls => Parameters::REQUIRETLS,
            Self::Ret => Parameters::RET,
            Self::Rrvs => Parameters::RRVS,
            Self::Size => Parameters::SIZE,
            Self::Smtputf8 => Parameters::SMTPUTF8,
        }
    }

    /// A keyword of MAIL.
    #[inline]
    fn of_mail(word: &[u8]) -> Option<Self> {
        Some(match word.len() {
            2 if is_word(word, b"BY") => Self::By,
            3 if is_word(word, b"RET") => Self::Ret,
            4 if is_word(word, b"SIZE") => Self::Size,
            4 if is_word(word, b"BODY") => Self::Body,
            4 if is_word(word, b"AUTH") => Self::Auth,
            5 if is_word(word, b"ENVID") => Self::Envid,
            7 if is_word(word, b"HOLDFOR") => Self::HoldFor,
            8 if is_word(word, b"SMTPUTF8") => Self::Smtputf8,
            9 if is_word(word, b"HOLDUNTIL") => Self::HoldUntil,
            10 if is_word(word, b"REQUIRETLS") => Self::RequireTls,
            11 if is_word(word, b"MT-PRIORITY") => Self::MtPriority,
            _ => return None,
        })
    }

    /// A keyword of RCPT.
    #[inline]
    fn of_rcpt(word: &[u8]) -> Option<Self> {
        Some(match word.len() {
            4 if is_word(word, b"RRVS") => Self::Rrvs,
            5 if is_word(word, b"ORCPT") => Self::Orcpt,
            6 if is_word(word, b"NOTIFY") => Self::Notify,
            _ => return None,
        })
    }
}

/// Reads `text`, gives each parameter that is known and offered to `take`, and judges the others.
///
/// ```abnf
/// Mail-parameters = esmtp-param *(SP esmtp-param)             ; RFC 5321 4.1.2
/// esmtp-param = esmtp-keyword ["=" esmtp-value]
/// esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
/// ```
/// Says whether the text is ASCII.
#[inline(always)]
fn each<'a, E: From<ParameterError>>(
    text: &'a str,
    options: &Options,
    keyword_of: impl Fn(&[u8]) -> Option<Keyword>,
    mut take: impl FnMut(Keyword, Option<&'a str>) -> Result<(), E>,
) -> Result<bool, E> {
    let octets = text.as_bytes();
    let mut at = 0;
    let mut count = 0;
    let mut ascii = true;
    while at < octets.len() {
        let start = at;
        if !is(octets[at], LET_DIG) {
            return Err(ParameterError::Syntax.into());
        }
        at += run(octets, at, LDH);
        let word = start..at;
        let mut value = None;
        if octets.get(at) == Some(&b'=') {
            let begin = at + 1;
            at = begin + run(octets, begin, ESMTP_VALUE);
            if octets.get(at).is_some_and(|&octet| octet != b' ') {
                let (length, plain) = uncommon_value(octets, word.clone(), begin, at, options)?;
                at += length;
                ascii &= plain;
            }
            if at == begin {
                return Err(ParameterError::Syntax.into());
            }
            value = Some(&text[begin..at]);
        }
        at += separator(octets, at, options)?;
        count += 1;
        if count > options.max_parameters {
            return Err(ParameterError::TooMany.into());
        }
        match keyword_of(&octets[word.clone()]) {
            Some(keyword) if options.parameters.contains(keyword.needs()) => take(keyword, value)?,
            _ => judge_unknown(&text[..start], &text[word], options)?,
        }
    }
    Ok(ascii)
}

/// A value that stops at `at`, where neither the end is nor SP: how many octets more it has, and whether they are ASCII.
#[cold]
fn uncommon_value(
    octets: &[u8],
    keyword: Range<usize>,
    begin: usize,
    at: usize,
    options: &Options,
) -> Result<(usize, bool), ParameterError> {
    match octets[at] {
        octet if is(octet, UTF8_NON_ASCII) && options.smtputf8 => {
            Ok((run(octets, at, ESMTP_VALUE | UTF8_NON_ASCII), false))
        }
        octet if is(octet, UTF8_NON_ASCII) => Err(ParameterError::NonAscii),
        // A `=` is in no esmtp-value (RFC 5321 4.1.2). But MTRK's begins with base64 (RFC 3885 3.1), and its padding is
        // not what the sender should hear of.
        b'=' if at > begin && octets[keyword].eq_ignore_ascii_case(b"MTRK") => {
            let padding = octets[at..].iter().take(2).take_while(|&&octet| octet == b'=').count();
            Ok((padding + run(octets, at + padding, ESMTP_VALUE), true))
        }
        _ => Ok((0, true)),
    }
}

#[cold]
fn judge_unknown(before: &str, keyword: &str, options: &Options) -> Result<(), ParameterError> {
    match options.unknown_parameters {
        UnknownParameters::Reject => Err(ParameterError::Unknown),
        UnknownParameters::Ignore if split(before).any(|(other, _)| other.eq_ignore_ascii_case(keyword)) => {
            Err(ParameterError::Repeated(""))
        }
        UnknownParameters::Ignore | UnknownParameters::Pass => Ok(()),
    }
}

/// How many octets separate words at `at`: one SP, or none at the end.
#[inline]
fn separator(octets: &[u8], at: usize, options: &Options) -> Result<usize, ParameterError> {
    match octets.get(at) {
        None => Ok(0),
        Some(b' ' | b'\t') if options.leniency.extra_space => {
            Ok(octets[at..].iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count())
        }
        Some(b' ') if at + 1 < octets.len() => Ok(1),
        Some(_) => Err(ParameterError::Syntax),
    }
}

fn split(raw: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    raw.split([' ', '\t']).filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

/// Puts `value` where nothing was yet.
#[inline]
fn once<T>(field: &mut Option<T>, keyword: Keyword, value: Option<T>) -> Result<(), ParameterError> {
    if field.is_some() {
        return Err(ParameterError::Repeated(keyword.name()));
    }
    if value.is_none() {
        return Err(ParameterError::Value(keyword.name()));
    }
    *field = value;
    Ok(())
}

#[inline]
fn flag(field: &mut bool, keyword: Keyword, value: Option<&str>) -> Result<(), ParameterError> {
    if *field {
        return Err(ParameterError::Repeated(keyword.name()));
    }
    if value.is_some() {
        return Err(ParameterError::Value(keyword.name()));
    }
    *field = true;
    Ok(())
}

/// The parameters of MAIL that come most. While they are read they need not be in memory.
#[derive(Default)]
pub(super) struct Common {
    pub(super) size: Option<u64>,
    pub(super) body: Option<Body>,
    pub(super) smtputf8: bool,
    pub(super) ascii: bool,
}

/// Why the common parameters are not all.
pub(super) enum Uncommon {
    Error(ParameterError),
    Rare,
}

impl From<ParameterError> for Uncommon {
    fn from(error: ParameterError) -> Self {
        Self::Error(error)
    }
}

impl Common {
    /// Reads what stands behind the path of MAIL, as long as it is common.
    #[inline(always)]
    pub(super) fn read(text: &str, options: &Options) -> Result<Self, Uncommon> {
        match Self::read_most_common(text.as_bytes(), options) {
            Some(all) => Ok(all),
            None => Self::read_common(text, options),
        }
    }

    /// `SIZE=` and `BODY=`, told by whole words and not octet by octet. `None` if there is anything else, or anything
    /// wrong: then it is read with care.
    #[inline(always)]
    fn read_most_common(text: &[u8], options: &Options) -> Option<Self> {
        let mut all = Self { ascii: true, ..Self::default() };
        if text.is_empty() {
            return Some(all);
        }
        if !options.parameters.contains(Parameters::SIZE.with(Parameters::BODY)) || options.max_parameters < 2 {
            return None;
        }
        let mut rest = text;
        while let Some((keyword, [b'=', value @ ..])) = rest.split_first_chunk::<4>() {
            let length = if is_word(keyword, b"SIZE") && all.size.is_none() {
                // Nineteen digits fit; one more digit is no separator.
                let (mut size, mut length) = (0u64, 0);
                while let Some(digit @ b'0'..=b'9') = value.get(length)
                    && length < 19
                {
                    size = size.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                    length += 1;
                }
                all.size = (length > 0).then_some(size);
                length
            } else if is_word(keyword, b"BODY") && all.body.is_none() {
                // The digit is looked at itself: see `is_word`.
                let (body, length) = match value.first_chunk::<8>() {
                    Some(word @ [b'8', ..]) if is_word(word, b"8BITMIME") => (Body::EightBitMime, 8),
                    _ => match value.first_chunk::<4>() {
                        Some(word @ [b'7', ..]) if is_word(word, b"7BIT") => (Body::SevenBit, 4),
                        _ => return None,
                    },
                };
                all.body = Some(body);
                length
            } else {
                return None;
            };
            match &value[length..] {
                [] if length > 0 => return Some(all),
                [b' ', behind @ ..] if length > 0 => rest = behind,
                _ => return None,
            }
        }
        None
    }

    fn read_common(text: &str, options: &Options) -> Result<Self, Uncommon> {
        let mut all = Self::default();
        all.ascii =
            each(text, options, Keyword::of_mail, |keyword, value| match (keyword, value.and_then(parse_body)) {
                (Keyword::Size, _) => Ok(once(&mut all.size, keyword, value.and_then(parse_size))?),
                (Keyword::Body, body @ Some(Body::SevenBit | Body::EightBitMime)) => {
                    Ok(once(&mut all.body, keyword, body)?)
                }
                (Keyword::Smtputf8, _) => Ok(flag(&mut all.smtputf8, keyword, value)?),
                _ => Err(Uncommon::Rare),
            })?;
        Ok(all)
    }
}

impl<'a> MailParameters<'a> {
    /// Those that are common, and no others.
    #[inline(always)]
    pub(super) fn common(raw: &'a str, common: &Common) -> Self {
        Self {
            raw: Cow::Borrowed(raw),
            size: common.size,
            body: common.body,
            smtputf8: common.smtputf8,
            ret: None,
            envid: None,
            auth: None,
            by: None,
            hold: None,
            mt_priority: None,
            requiretls: false,
        }
    }

    /// Reads what stands behind the path of MAIL.
    ///
    /// # Errors
    /// At the first parameter that is wrong.
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, ParameterError> {
        let mut all = Self { raw: Cow::Borrowed(text), ..Self::default() };
        let ascii = each(text, options, Keyword::of_mail, |keyword, value| all.take(keyword, value, options))?;
        if let (Some(Hold::For(hold)), Some(by)) = (all.hold, all.by)
            && i64::from(hold) > i64::from(by.seconds)
        {
            return Err(ParameterError::HoldPastDeliverBy);
        }
        if ascii || all.smtputf8 { Ok(all) } else { Err(ParameterError::NonAscii) }
    }

    fn take(&mut self, keyword: Keyword, value: Option<&'a str>, options: &Options) -> Result<(), ParameterError> {
        match keyword {
            Keyword::Auth => once(&mut self.auth, keyword, value.and_then(|value| auth(value, options))),
            Keyword::Body => {
                let body = value.and_then(parse_body);
                if body == Some(Body::BinaryMime) && !options.parameters.contains(Parameters::BINARYMIME) {
                    return Err(ParameterError::Unknown);
                }
                once(&mut self.body, keyword, body)
            }
            Keyword::By => once(&mut self.by, keyword, value.and_then(deliver_by)),
            Keyword::Envid => once(&mut self.envid, keyword, value.and_then(|value| envid(value, options))),
            Keyword::HoldFor => once(&mut self.hold, keyword, value.and_then(hold_for)),
            Keyword::HoldUntil => once(&mut self.hold, keyword, value.and_then(hold_until)),
            Keyword::MtPriority => {
                once(&mut self.mt_priority, keyword, value.and_then(priority)).map_err(|error| match error {
                    ParameterError::Value(_) => ParameterError::Priority,
                    other => other,
                })
            }
            Keyword::RequireTls => flag(&mut self.requiretls, keyword, value),
            Keyword::Ret => once(&mut self.ret, keyword, value.and_then(ret)),
            Keyword::Size => once(&mut self.size, keyword, value.and_then(parse_size)),
            Keyword::Smtputf8 => flag(&mut self.smtputf8, keyword, value),
            // Not of MAIL.
            Keyword::Notify | Keyword::Orcpt | Keyword::Rrvs => Err(ParameterError::Unknown),
        }
    }

    /// The parameters in [`raw`](Self::raw), in their order and case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        split(&self.raw)
    }

    /// The keywords in [`raw`](Self::raw) that have no field.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        unknown(&self.raw, Keyword::of_mail).map(|(keyword, _)| keyword)
    }

    /// Writes each parameter with a space before it: the typed fields first, then those of [`raw`](Self::raw) that have
    /// no field.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let mut put = |arguments: fmt::Arguments<'_>| drop(out.write_fmt(arguments));
        if let Some(size) = self.size {
            put(format_args!(" SIZE={size}"));
        }
        if let Some(body) = self.body {
            put(format_args!(" BODY={}", body.as_str()));
        }
        if self.smtputf8 {
            put(format_args!(" SMTPUTF8"));
        }
        if let Some(ret) = self.ret {
            put(format_args!(" RET={}", ret.as_str()));
        }
        if let Some(envid) = &self.envid {
            put(format_args!(" ENVID={}", xtext::encode(envid.as_bytes())));
        }
        match &self.auth {
            None => {}
            Some(AuthParameter::Null) => put(format_args!(" AUTH=<>")),
            Some(AuthParameter::Mailbox(mailbox)) => {
                put(format_args!(" AUTH={}", xtext::encode(mailbox.as_bytes())));
            }
        }
        if let Some(DeliverBy { seconds, mode, trace }) = self.by {
            let mode = if mode == ByMode::Notify { 'N' } else { 'R' };
            put(format_args!(" BY={seconds};{mode}{}", if trace { "T" } else { "" }));
        }
        match self.hold {
            None => {}
            Some(Hold::For(seconds)) => put(format_args!(" HOLDFOR={seconds}")),
            Some(Hold::Until(moment)) => put(format_args!(" HOLDUNTIL={moment}")),
        }
        if let Some(priority) = self.mt_priority {
            put(format_args!(" MT-PRIORITY={priority}"));
        }
        if self.requiretls {
            put(format_args!(" REQUIRETLS"));
        }
        write_unknown(&self.raw, Keyword::of_mail, out);
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> MailParameters<'static> {
        MailParameters {
            raw: own(self.raw),
            size: self.size,
            body: self.body,
            smtputf8: self.smtputf8,
            ret: self.ret,
            envid: self.envid.map(own),
            auth: self.auth.map(AuthParameter::into_owned),
            by: self.by,
            hold: self.hold,
            mt_priority: self.mt_priority,
            requiretls: self.requiretls,
        }
    }
}

impl<'a> RcptParameters<'a> {
    /// Reads what stands behind the path of RCPT. UTF-8 is accepted where SMTPUTF8 is offered; whether MAIL asked for it
    /// is for the session to know.
    ///
    /// # Errors
    /// At the first parameter that is wrong.
    #[inline(always)]
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, ParameterError> {
        let mut all = Self { raw: Cow::Borrowed(text), ..Self::default() };
        if text.is_empty() {
            return Ok(all);
        }
        each(text, options, Keyword::of_rcpt, |keyword, value| match keyword {
            Keyword::Notify => once(&mut all.notify, keyword, value.and_then(parse_notify)),
            Keyword::Orcpt => once(&mut all.orcpt, keyword, value.and_then(|value| parse_orcpt(value, options))),
            Keyword::Rrvs => once(&mut all.rrvs, keyword, value.and_then(parse_rrvs)),
            // Not of RCPT.
            _ => Err(ParameterError::Unknown),
        })?;
        Ok(all)
    }

    /// The parameters in [`raw`](Self::raw), in their order and case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        split(&self.raw)
    }

    /// The keywords in [`raw`](Self::raw) that have no field.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        unknown(&self.raw, Keyword::of_rcpt).map(|(keyword, _)| keyword)
    }

    /// Writes each parameter with a space before it: the typed fields first, then those of [`raw`](Self::raw) that have
    /// no field.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let mut put = |arguments: fmt::Arguments<'_>| drop(out.write_fmt(arguments));
        if let Some(notify) = self.notify {
            put(format_args!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &self.orcpt {
            if !orcpt.raw.is_empty() {
                put(format_args!(" ORCPT={}", orcpt.raw));
            } else if orcpt.addr_type.eq_ignore_ascii_case("utf-8") {
                put(format_args!(" ORCPT={};{}", orcpt.addr_type, xtext::encode_utf8_addr(&orcpt.address)));
            } else {
                put(format_args!(" ORCPT={};{}", orcpt.addr_type, xtext::encode(orcpt.address.as_bytes())));
            }
        }
        if let Some(Rrvs { since, action }) = self.rrvs {
            let action = match action {
                None => "",
                Some(RrvsAction::Continue) => ";C",
                Some(RrvsAction::Reject) => ";R",
            };
            put(format_args!(" RRVS={since}{action}"));
        }
        write_unknown(&self.raw, Keyword::of_rcpt, out);
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> RcptParameters<'static> {
        RcptParameters {
            raw: own(self.raw),
            notify: self.notify,
            orcpt: self.orcpt.map(Orcpt::into_owned),
            rrvs: self.rrvs,
        }
    }
}

/// As it stands behind `NOTIFY=`.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let mut comma = "";
        for (_, name) in named.into_iter().filter(|(wanted, _)| *wanted && !self.never) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        if comma.is_empty() { f.write_str("NEVER") } else { Ok(()) }
    }
}

fn unknown(raw: &str, keyword_of: impl Fn(&[u8]) -> Option<Keyword>) -> impl Iterator<Item = (&str, Option<&str>)> {
    split(raw).filter(move |(keyword, _)| keyword_of(keyword.as_bytes()).is_none())
}

fn write_unknown(raw: &str, keyword_of: impl Fn(&[u8]) -> Option<Keyword>, out: &mut Vec<u8>) {
    for (keyword, value) in unknown(raw, keyword_of) {
        out.push(b' ');
        out.extend_from_slice(keyword.as_bytes());
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// `size-value = 1*20DIGIT` (RFC 1870 3). Twenty digits may be more than 64 bits hold, and are then just too many octets.
#[inline]
fn parse_size(value: &str) -> Option<u64> {
    if value.len() > 19 {
        let digits = value.len() == 20 && value.bytes().all(|octet| octet.is_ascii_digit());
        return digits.then(|| value.parse().unwrap_or(u64::MAX));
    }
    let mut size = 0u64;
    for octet in value.bytes() {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits fit.
        size = size.wrapping_mul(10).wrapping_add(digit.into());
    }
    Some(size)
}

#[inline]
fn parse_body(value: &str) -> Option<Body> {
    match value.len() {
        8 if is_word(value.as_bytes(), b"8BITMIME") => Some(Body::EightBitMime),
        4 if is_word(value.as_bytes(), b"7BIT") => Some(Body::SevenBit),
        10 if is_word(value.as_bytes(), b"BINARYMIME") => Some(Body::BinaryMime),
        _ => None,
    }
}

fn ret(value: &str) -> Option<Ret> {
    [Ret::Full, Ret::Headers].into_iter().find(|ret| value.eq_ignore_ascii_case(ret.as_str()))
}

/// Decodes xtext of which the value "prior to encoding MUST consist entirely of printable characters" (RFC 3461 4.2,
/// 4.4). Text in which nothing is encoded stays where it is: all else in an esmtp-value is xchar, and printable.
#[inline]
fn decode_printable<'a>(value: &'a str, options: &Options) -> Option<Cow<'a, str>> {
    if value.bytes().any(|octet| octet == b'+' || octet >= 0x80) {
        decode(value, options).filter(|text| text.bytes().all(|octet| (b' '..=b'~').contains(&octet))).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(value))
    }
}

/// Decodes xtext that means UTF-8.
#[cold]
fn decode(value: &str, options: &Options) -> Option<String> {
    let decoded = if options.leniency.lowercase_xtext {
        xtext::decode_lenient(value.as_bytes())
    } else {
        xtext::decode(value.as_bytes())
    };
    String::from_utf8(decoded.ok()?).ok()
}

fn envid<'a>(value: &'a str, options: &Options) -> Option<Cow<'a, str>> {
    if value.len() > MAX_ENVID { None } else { decode_printable(value, options) }
}

fn auth<'a>(value: &'a str, options: &Options) -> Option<AuthParameter<'a>> {
    if value == "<>" {
        return Some(AuthParameter::Null);
    }
    // RFC 6531 3.3 lets a value be UTF-8, which xtext is not.
    let encoded = value.is_ascii() && value.contains('+');
    let mailbox = if encoded { Cow::Owned(decode(value, options)?) } else { Cow::Borrowed(value) };
    if mailbox.starts_with(['<', '@']) || Address::parse(&mailbox, options).is_err() {
        return None;
    }
    Some(AuthParameter::Mailbox(mailbox))
}

/// ```abnf
/// by-value = by-time ";" by-mode [by-trace]                    ; RFC 2852 4
/// by-time = ["-" / "+"] 1*9digit    by-mode = "N" / "R"    by-trace = "T"
/// ```
fn deliver_by(value: &str) -> Option<DeliverBy> {
    let (time, mode) = value.split_once(';')?;
    let (negative, digits) = match time.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let magnitude = i32::try_from(number(digits, 9)?).ok()?;
    let seconds = if negative { -magnitude } else { magnitude };
    let (mode, trace) = match mode.as_bytes() {
        [mode] => (mode, false),
        [mode, b'T' | b't'] => (mode, true),
        _ => return None,
    };
    match mode {
        b'N' | b'n' => Some(DeliverBy { seconds, mode: ByMode::Notify, trace }),
        // "The by-time MUST be greater than zero" for by-mode R.
        b'R' | b'r' if seconds > 0 => Some(DeliverBy { seconds, mode: ByMode::Return, trace }),
        _ => None,
    }
}

fn number(digits: &[u8], most: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    digits.iter().try_fold(0u32, |value, digit| {
        digit.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    })
}

/// `future-release-integer = %x31-39 *8DIGIT` (RFC 4865 4).
fn hold_for(value: &str) -> Option<Hold> {
    if value.starts_with('0') { None } else { number(value.as_bytes(), 9).map(Hold::For) }
}

/// `future-release-date-time` is the date-time of RFC 3339, in UTC (RFC 4865 4 and its erratum 2040).
fn hold_until(value: &str) -> Option<Hold> {
    DateTime::parse(value, Fraction::Dropped).ok().filter(DateTime::is_utc).map(Hold::Until)
}

/// `priority-value = (["-"] NZDIGIT) / "0"` (RFC 6710 4.1).
fn priority(value: &str) -> Option<i8> {
    match value.as_bytes() {
        [digit @ b'0'..=b'9'] => Some((digit - b'0') as i8),
        [b'-', digit @ b'1'..=b'9'] => Some(-((digit - b'0') as i8)),
        _ => None,
    }
}

/// ```abnf
/// notify-esmtp-value = "NEVER" / 1#notify-list-element         ; RFC 3461 4.1
/// notify-list-element = "SUCCESS" / "FAILURE" / "DELAY"
/// ```
fn parse_notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if is_word(value.as_bytes(), b"NEVER") {
        notify.never = true;
        return Some(notify);
    }
    for element in value.as_bytes().split(|&octet| octet == b',') {
        let wanted = match element.len() {
            5 if is_word(element, b"DELAY") => &mut notify.delay,
            7 if is_word(element, b"SUCCESS") => &mut notify.success,
            7 if is_word(element, b"FAILURE") => &mut notify.failure,
            _ => return None,
        };
        *wanted = true;
    }
    Some(notify)
}

/// `original-recipient-address = addr-type ";" xtext` (RFC 3461 4.2); with `utf-8` before the `;` the encoding is that of
/// RFC 6533 3.
fn parse_orcpt<'a>(value: &'a str, options: &Options) -> Option<Orcpt<'a>> {
    let length = run(value.as_bytes(), 0, ATEXT);
    let (addr_type, encoded) = value.split_at(length);
    let encoded = encoded.strip_prefix(';')?;
    if value.len() > MAX_ORCPT || addr_type.is_empty() || encoded.is_empty() {
        return None;
    }
    let address = if is_word(addr_type.as_bytes(), b"UTF-8") {
        Cow::Owned(xtext::decode_utf8_addr(encoded.as_bytes()).ok()?)
    } else {
        decode_printable(encoded, options)?
    };
    Some(Orcpt { addr_type: Cow::Borrowed(addr_type), address, raw: Cow::Borrowed(value) })
}

/// `rrvs-param = "RRVS=" date-time [ ";" ( "C" / "R" ) ]`, the date-time without `time-secfrac` (RFC 7293 3.1).
fn parse_rrvs(value: &str) -> Option<Rrvs> {
    let (since, action) = match value.split_once(';') {
        None => (value, None),
        Some((since, "C" | "c")) => (since, Some(RrvsAction::Continue)),
        Some((since, "R" | "r")) => (since, Some(RrvsAction::Reject)),
        Some(_) => return None,
    };
    Some(Rrvs { since: DateTime::parse(since, Fraction::Refused).ok()?, action })
}
