//! The parameters of MAIL.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use super::ParameterError;
use super::common::{Keyword, decode, decode_printable, each, flag, once, own, split, unknown, write_unknown};
use crate::syntax::address::Address;
use crate::syntax::class::is_word;
use crate::syntax::datetime::{DateTime, Fraction};
use crate::syntax::options::{Options, Parameters};
use crate::wire::xtext;

/// Octets of an ENVID value, encoded (RFC 3461 4.4).
const MAX_ENVID: usize = 100;

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

/// The parameters of MAIL that come most. While they are read they need not be in memory.
#[derive(Default)]
pub(in crate::syntax) struct Common {
    pub(in crate::syntax) size: Option<u64>,
    pub(in crate::syntax) body: Option<Body>,
    pub(in crate::syntax) smtputf8: bool,
    pub(in crate::syntax) ascii: bool,
}

/// Why the common parameters are not all.
pub(in crate::syntax) enum Uncommon {
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
    pub(in crate::syntax) fn read(text: &str, options: &Options) -> Result<Self, Uncommon> {
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
    pub(in crate::syntax) fn common(raw: &'a str, common: &Common) -> Self {
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
