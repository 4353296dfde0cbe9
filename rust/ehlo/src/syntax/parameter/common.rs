//! What the parameters of MAIL and of RCPT have in common: keywords, words and xtext.

use std::borrow::Cow;
use std::ops::Range;

use super::ParameterError;
use crate::syntax::class::{ESMTP_VALUE, LDH, LET_DIG, UTF8_NON_ASCII, is, is_word, run};
use crate::syntax::options::{Options, Parameters, UnknownParameters};
use crate::wire::xtext;

/// A keyword that is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
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
    pub(super) const fn name(self) -> &'static str {
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
    pub(super) const fn needs(self) -> Parameters {
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
    pub(super) fn of_mail(word: &[u8]) -> Option<Self> {
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
    pub(super) fn of_rcpt(word: &[u8]) -> Option<Self> {
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
pub(super) fn each<'a, E: From<ParameterError>>(
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

pub(super) fn split(raw: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    raw.split([' ', '\t']).filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

/// Puts `value` where nothing was yet.
#[inline]
pub(super) fn once<T>(field: &mut Option<T>, keyword: Keyword, value: Option<T>) -> Result<(), ParameterError> {
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
pub(super) fn flag(field: &mut bool, keyword: Keyword, value: Option<&str>) -> Result<(), ParameterError> {
    if *field {
        return Err(ParameterError::Repeated(keyword.name()));
    }
    if value.is_some() {
        return Err(ParameterError::Value(keyword.name()));
    }
    *field = true;
    Ok(())
}

pub(super) fn unknown(
    raw: &str,
    keyword_of: impl Fn(&[u8]) -> Option<Keyword>,
) -> impl Iterator<Item = (&str, Option<&str>)> {
    split(raw).filter(move |(keyword, _)| keyword_of(keyword.as_bytes()).is_none())
}

pub(super) fn write_unknown(raw: &str, keyword_of: impl Fn(&[u8]) -> Option<Keyword>, out: &mut Vec<u8>) {
    for (keyword, value) in unknown(raw, keyword_of) {
        out.push(b' ');
        out.extend_from_slice(keyword.as_bytes());
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
}

pub(super) fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// Decodes xtext of which the value "prior to encoding MUST consist entirely of printable characters" (RFC 3461 4.2,
/// 4.4). Text in which nothing is encoded stays where it is: all else in an esmtp-value is xchar, and printable.
#[inline]
pub(super) fn decode_printable<'a>(value: &'a str, options: &Options) -> Option<Cow<'a, str>> {
    if value.bytes().any(|octet| octet == b'+' || octet >= 0x80) {
        decode(value, options).filter(|text| text.bytes().all(|octet| (b' '..=b'~').contains(&octet))).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(value))
    }
}

/// Decodes xtext that means UTF-8.
#[cold]
pub(super) fn decode(value: &str, options: &Options) -> Option<String> {
    let decoded = if options.leniency.lowercase_xtext {
        xtext::decode_lenient(value.as_bytes())
    } else {
        xtext::decode(value.as_bytes())
    };
    String::from_utf8(decoded.ok()?).ok()
}
