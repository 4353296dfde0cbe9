//! Paths and mailboxes (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::class::{ATEXT, DCONTENT, LDH, LET_DIG, QTEXT, UNDERSCORE, UTF8_NON_ASCII, is, run};
use super::options::Options;

/// Octets of a domain (RFC 5321 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Octets of a path with its `<` and `>` (RFC 5321 4.5.3.1.3).
const MAX_PATH: usize = 256;
/// Octets of a local part that must be accepted (RFC 5321 4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;
/// Octets of a label (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// A mailbox, with the source route it may have been written with.
///
/// ```abnf
/// Path = "<" [ A-d-l ":" ] Mailbox ">"                         ; RFC 5321 4.1.2
/// A-d-l = At-domain *( "," At-domain )    At-domain = "@" Domain
/// Mailbox = Local-part "@" ( Domain / address-literal )
/// Local-part = Dot-string / Quoted-string
/// ```
///
/// Two addresses are equal if their mailboxes are: however the local part was quoted, with its case; whatever the case
/// of the domain; whatever the route.
#[derive(Clone, Debug)]
pub struct Address<'a> {
    /// What stood between `<` and `>`.
    text: Cow<'a, str>,
    /// Where the mailbox begins, behind the source route.
    mailbox: u32,
    /// Where its `@` is.
    at: u32,
    form: LocalForm,
}

/// How a local part is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalForm {
    /// `Dot-string`.
    Plain,
    /// `Quoted-string` as it has to be, and no backslash in it.
    Quoted,
    /// `Quoted-string` as it has to be, with backslashes.
    Escaped,
    /// `Quoted-string` that could be shorter.
    Redundant,
}

/// What the scanner found at the beginning of a text.
pub(super) struct Scanned {
    mailbox: usize,
    at: usize,
    form: LocalForm,
    /// Behind the domain.
    pub(super) end: usize,
    pub(super) ascii: bool,
}

impl Scanned {
    /// Whether there is a local part only.
    #[inline]
    pub(super) fn has_no_domain(&self) -> bool {
        self.at == self.end
    }

    /// The address in `text`, of which the scanned part is the beginning. Both offsets are in bounds of a path.
    #[inline]
    pub(super) fn address<'a>(&self, text: &'a str) -> Address<'a> {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Address {
            text: Cow::Borrowed(&text[..self.end]),
            mailbox: offset(self.mailbox),
            at: offset(self.at),
            form: self.form,
        }
    }
}

impl<'a> Address<'a> {
    /// Reads a mailbox, or a path, with or without its `<` and `>`.
    ///
    /// # Errors
    /// If it is not one in the grammar that `options` ask for.
    ///
    /// ```
    /// # use ehlo::syntax::{address::Address, options::Options};
    /// let address = Address::parse(r#"<@a.example:"bob"@B.example>"#, &Options::default()).unwrap();
    /// assert_eq!(address.mailbox(), "bob@B.example");
    /// assert_eq!(address.source_route(), Some("@a.example"));
    /// ```
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, AddressError> {
        let inner = bare(text);
        let scanned = scan(inner, options)?;
        if scanned.end == inner.len() { Ok(scanned.address(inner)) } else { Err(AddressError::Domain) }
    }

    /// What stood between `<` and `>`, source route included.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// Local part, `@` and domain, with the least quoting and without source route.
    #[must_use]
    pub fn mailbox(&self) -> Cow<'_, str> {
        if self.form == LocalForm::Redundant {
            let value = self.local_part();
            let domain = self.domain();
            let mut out = String::with_capacity(value.len() + domain.len() + 3);
            write_local_part(&value, &mut out);
            if !domain.is_empty() {
                out.push('@');
                out.push_str(domain);
            }
            return Cow::Owned(out);
        }
        Cow::Borrowed(&self.text[self.mailbox as usize..])
    }

    /// What the local part means: without quotes and backslashes.
    #[must_use]
    pub fn local_part(&self) -> Cow<'_, str> {
        let written = &self.text[self.mailbox as usize..self.at as usize];
        match self.form {
            LocalForm::Plain => Cow::Borrowed(written),
            LocalForm::Quoted => Cow::Borrowed(&written[1..written.len() - 1]),
            LocalForm::Escaped | LocalForm::Redundant => {
                let quoted = &written[1..written.len() - 1];
                if quoted.contains('\\') { Cow::Owned(unquote(quoted)) } else { Cow::Borrowed(quoted) }
            }
        }
    }

    /// The domain as written; an address literal with its brackets. It is empty if the mailbox has no domain, which
    /// [`Leniency::no_domain`](super::options::Leniency::no_domain) forgives.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at as usize + 1..).unwrap_or_default()
    }

    /// The source route, `@a.example,@b.example`, which is to be ignored (RFC 5321 App. C).
    #[must_use]
    pub fn source_route(&self) -> Option<&str> {
        (self.mailbox > 0).then(|| &self.text[..self.mailbox as usize - 1])
    }

    /// The domain as an address literal, if it is one (RFC 5321 4.1.3).
    #[must_use]
    pub fn literal(&self) -> Option<Literal<'_>> {
        if self.domain().starts_with('[') { parse_literal(self.domain(), true).ok() } else { None }
    }

    /// Whether no octet needs SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether the local part is `postmaster`, in any case (RFC 5321 4.5.1).
    #[must_use]
    pub fn is_postmaster(&self) -> bool {
        self.local_part().eq_ignore_ascii_case("postmaster")
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Address<'static> {
        let Self { text, mailbox, at, form } = self;
        Address { text: Cow::Owned(text.into_owned()), mailbox, at, form }
    }
}

/// Writes the mailbox.
impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mailbox())
    }
}

impl PartialEq<Address<'_>> for Address<'_> {
    fn eq(&self, other: &Address<'_>) -> bool {
        self.local_part() == other.local_part() && self.domain().eq_ignore_ascii_case(other.domain())
    }
}

impl Eq for Address<'_> {}

impl Hash for Address<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local_part().hash(state);
        for octet in self.domain().bytes() {
            state.write_u8(octet.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

/// Who a message is from (RFC 5321 4.1.1.2).
///
/// ```abnf
/// Reverse-path = Path / "<>"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath<'a> {
    /// `<>`: nobody is to be told of a failure (RFC 5321 4.5.5).
    Null,
    /// Somebody.
    Address(Address<'a>),
}

impl<'a> ReversePath<'a> {
    /// Reads a path, with or without its `<` and `>`; nothing is the null path.
    ///
    /// # Errors
    /// See [`Address::parse`].
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, AddressError> {
        if bare(text).is_empty() { Ok(Self::Null) } else { Address::parse(text, options).map(Self::Address) }
    }

    /// What stood between `<` and `>`.
    #[must_use]
    pub fn as_written(&self) -> &str {
        self.address().map_or("", Address::as_written)
    }

    /// The address, unless it is the null path.
    #[must_use]
    pub fn address(&self) -> Option<&Address<'a>> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Whether no octet needs SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.as_written().is_ascii()
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> ReversePath<'static> {
        match self {
            Self::Null => ReversePath::Null,
            Self::Address(address) => ReversePath::Address(address.into_owned()),
        }
    }
}

/// Writes the mailbox in `<` and `>`.
impl fmt::Display for ReversePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Address(address) => write!(f, "<{address}>"),
        }
    }
}

/// Whom a message is for (RFC 5321 4.1.1.3).
///
/// ```abnf
/// ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
/// ```
#[derive(Clone, Debug)]
pub enum ForwardPath<'a> {
    /// `<Postmaster>`, the one mailbox that needs no domain, as it was written (RFC 5321 4.5.1).
    Postmaster(Cow<'a, str>),
    /// Somebody.
    Address(Address<'a>),
}

impl<'a> ForwardPath<'a> {
    /// Reads a path, with or without its `<` and `>`.
    ///
    /// # Errors
    /// See [`Address::parse`].
    pub fn parse(text: &'a str, options: &Options) -> Result<Self, AddressError> {
        let inner = bare(text);
        if inner.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster(Cow::Borrowed(inner)));
        }
        Address::parse(text, options).map(Self::Address)
    }

    /// What stood between `<` and `>`.
    #[must_use]
    pub fn as_written(&self) -> &str {
        match self {
            Self::Postmaster(text) => text,
            Self::Address(address) => address.as_written(),
        }
    }

    /// The address, unless it is the bare `<Postmaster>`.
    #[must_use]
    pub fn address(&self) -> Option<&Address<'a>> {
        match self {
            Self::Postmaster(_) => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Whether no octet needs SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.as_written().is_ascii()
    }

    /// Whether it is `Postmaster`, with or without a domain (RFC 5321 4.5.1).
    #[must_use]
    pub fn is_postmaster(&self) -> bool {
        self.address().is_none_or(Address::is_postmaster)
    }

    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> ForwardPath<'static> {
        match self {
            Self::Postmaster(text) => ForwardPath::Postmaster(Cow::Owned(text.into_owned())),
            Self::Address(address) => ForwardPath::Address(address.into_owned()),
        }
    }
}

impl PartialEq<ForwardPath<'_>> for ForwardPath<'_> {
    fn eq(&self, other: &ForwardPath<'_>) -> bool {
        match (self, other) {
            (Self::Postmaster(_), ForwardPath::Postmaster(_)) => true,
            (Self::Address(one), ForwardPath::Address(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for ForwardPath<'_> {}

impl Hash for ForwardPath<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// Writes the mailbox in `<` and `>`.
impl fmt::Display for ForwardPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster(text) => write!(f, "<{text}>"),
            Self::Address(address) => write!(f, "<{address}>"),
        }
    }
}

/// An address literal (RFC 5321 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal<'a> {
    /// `[192.0.2.1]`
    V4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`
    V6(Ipv6Addr),
    /// `[tag:content]`, for which no tag is registered.
    General {
        /// Which kind of address.
        tag: &'a str,
        /// The address.
        content: &'a str,
    },
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The domain is not made of labels of letters, digits and hyphens.
    Domain,
    /// The domain has more than 255 octets.
    DomainTooLong,
    /// There is nothing.
    Empty,
    /// A label has more than 63 octets.
    LabelTooLong,
    /// The address literal is malformed, or its tag not known.
    Literal,
    /// The local part is neither a dot-string nor a quoted string.
    LocalPart,
    /// The local part has more octets than allowed.
    LocalPartTooLong,
    /// There is no `@`.
    NoDomain,
    /// It is well-formed UTF-8, and SMTPUTF8 is not offered.
    NonAscii,
    /// The path has more than 256 octets.
    PathTooLong,
    /// The source route is malformed.
    SourceRoute,
    /// There is no `>`.
    Unclosed,
    /// It is not UTF-8 (RFC 3629).
    Utf8,
}

impl AddressError {
    /// A sentence for the peer.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Domain => "Bad address: the domain is malformed",
            Self::DomainTooLong => "Bad address: the domain is too long",
            Self::Empty => "Bad address: it is empty",
            Self::LabelTooLong => "Bad address: a label of the domain is too long",
            Self::Literal => "Bad address: the address literal is malformed",
            Self::LocalPart => "Bad address: the local part is malformed",
            Self::LocalPartTooLong => "Bad address: the local part is too long",
            Self::NoDomain => "Bad address: the domain is missing",
            Self::NonAscii => "Bad address: SMTPUTF8 is not offered",
            Self::PathTooLong => "Bad address: the path is too long",
            Self::SourceRoute => "Bad address: the source route is malformed",
            Self::Unclosed => "Bad address: the closing > is missing",
            Self::Utf8 => "Bad address: it is not UTF-8",
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for AddressError {}

/// Without the `<` and `>` around it.
fn bare(text: &str) -> &str {
    text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text)
}

/// Reads `[ A-d-l ":" ] Mailbox` from the beginning of `text`. What is behind it is the caller's to judge.
#[inline]
pub(super) fn scan(text: &str, options: &Options) -> Result<Scanned, AddressError> {
    let octets = text.as_bytes();
    let mut ascii = true;
    let mailbox = match octets.first() {
        Some(b'@') => scan_route(octets, options, &mut ascii)?,
        Some(b'>') | None => return Err(AddressError::Empty),
        Some(_) => 0,
    };
    let (at, quoted) = if octets.get(mailbox) == Some(&b'"') {
        (scan_quoted(octets, mailbox, options, &mut ascii)?, true)
    } else {
        (scan_dot_string(octets, mailbox, options, &mut ascii)?, false)
    };
    if octets.get(at) != Some(&b'@') {
        return match octets.get(at) {
            None | Some(b'>' | b' ') if options.leniency.no_domain && at > mailbox => {
                check_lengths(at - mailbox, at, options)?;
                let form = if quoted { quoted_form(&text[mailbox + 1..at - 1]) } else { LocalForm::Plain };
                Ok(Scanned { mailbox, at, form, end: at, ascii })
            }
            None | Some(b'>') if at > mailbox => Err(AddressError::NoDomain),
            _ => Err(AddressError::LocalPart),
        };
    }
    if at - mailbox > options.max_local_part {
        return Err(AddressError::LocalPartTooLong);
    }
    let end = if octets.get(at + 1) == Some(&b'[') {
        scan_literal(text, at + 1, options)?
    } else {
        scan_domain(octets, at + 1, options, &mut ascii)?
    };
    check_lengths(at - mailbox, end, options)?;
    let form = if quoted { quoted_form(&text[mailbox + 1..at - 1]) } else { LocalForm::Plain };
    Ok(Scanned { mailbox, at, form, end, ascii })
}

/// The lengths of a local part and of a path without its `<` and `>` (RFC 5321 4.5.3.1.1, 4.5.3.1.3).
#[inline]
fn check_lengths(local_part: usize, path: usize, options: &Options) -> Result<(), AddressError> {
    if local_part > options.max_local_part {
        return Err(AddressError::LocalPartTooLong);
    }
    if path + 2 > MAX_PATH {
        let extra = options.max_local_part.saturating_sub(MAX_LOCAL_PART);
        if path + 2 > MAX_PATH.saturating_add(extra) || u32::try_from(path).is_err() {
            return Err(AddressError::PathTooLong);
        }
    }
    Ok(())
}

/// Reads `A-d-l ":"` and says where the mailbox begins. It is to be accepted and ignored (RFC 5321 App. C).
#[cold]
fn scan_route(octets: &[u8], options: &Options, ascii: &mut bool) -> Result<usize, AddressError> {
    let mut at = 0;
    while octets.get(at) == Some(&b'@') {
        let end = scan_domain(octets, at + 1, options, ascii).map_err(|error| match error {
            AddressError::NonAscii => error,
            _ => AddressError::SourceRoute,
        })?;
        at = end + 1;
        match octets.get(end) {
            Some(b',') => {}
            Some(b':') => {
                let mailbox = matches!(octets.get(at), None | Some(b'>' | b'@'));
                return if mailbox { Err(AddressError::SourceRoute) } else { Ok(at) };
            }
            _ => break,
        }
    }
    Err(AddressError::SourceRoute)
}

/// ```abnf
/// Dot-string = Atom *("." Atom)    Atom = 1*atext
/// ```
#[inline]
fn scan_dot_string(octets: &[u8], start: usize, options: &Options, ascii: &mut bool) -> Result<usize, AddressError> {
    let mut at = start;
    let mut atom = start;
    loop {
        match octets.get(at) {
            Some(&octet) if is(octet, ATEXT) => {}
            Some(b'.') => {
                if at == atom && !options.leniency.dots_in_local_part {
                    return Err(AddressError::LocalPart);
                }
                atom = at + 1;
            }
            Some(&octet) if is(octet, UTF8_NON_ASCII) => {
                if !options.smtputf8 {
                    return Err(AddressError::NonAscii);
                }
                *ascii = false;
            }
            _ => break,
        }
        at += 1;
    }
    if at == atom && (at == start || !options.leniency.dots_in_local_part) {
        return Err(AddressError::LocalPart);
    }
    Ok(at)
}

/// ```abnf
/// Quoted-string = DQUOTE *QcontentSMTP DQUOTE
/// QcontentSMTP = qtextSMTP / quoted-pairSMTP
/// quoted-pairSMTP = %d92 %d32-126
/// ```
#[cold]
fn scan_quoted(octets: &[u8], start: usize, options: &Options, ascii: &mut bool) -> Result<usize, AddressError> {
    let mut at = start + 1;
    loop {
        match octets.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match octets.get(at + 1) {
                Some(b' '..=b'~') => at += 2,
                _ => return Err(AddressError::LocalPart),
            },
            Some(&octet) if is(octet, QTEXT) => at += 1,
            Some(&octet) if is(octet, UTF8_NON_ASCII) => {
                if !options.smtputf8 {
                    return Err(AddressError::NonAscii);
                }
                *ascii = false;
                at += 1;
            }
            _ => return Err(AddressError::LocalPart),
        }
    }
}

/// ```abnf
/// Domain = sub-domain *("." sub-domain)
/// sub-domain = Let-dig [Ldh-str] / U-label                    ; RFC 6531 3.3
/// Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
/// ```
#[inline]
fn scan_domain(octets: &[u8], start: usize, options: &Options, ascii: &mut bool) -> Result<usize, AddressError> {
    let underscore = if options.leniency.domain_underscore { UNDERSCORE } else { 0 };
    let mut end = scan_labels(octets, start, underscore);
    if !matches!(end, Ok(end) if octets.get(end).is_none_or(u8::is_ascii)) {
        // Is it wrong, or UTF-8?
        let labels = octets.get(start..).unwrap_or_default();
        let length = labels.iter().take_while(|&&octet| octet == b'.' || is(octet, LDH | underscore | UTF8_NON_ASCII));
        if !labels[..length.count()].is_ascii() {
            if !options.smtputf8 {
                return Err(AddressError::NonAscii);
            }
            *ascii = false;
            end = scan_labels(octets, start, underscore | UTF8_NON_ASCII);
        }
    }
    end.and_then(|end| if end - start > MAX_DOMAIN { Err(AddressError::DomainTooLong) } else { Ok(end) })
}

/// Reads labels, in which octets of class `letters` count as letters, and says where they end.
#[inline(always)]
fn scan_labels(octets: &[u8], start: usize, letters: u8) -> Result<usize, AddressError> {
    let mut at = start;
    loop {
        let label = at;
        if !octets.get(at).is_some_and(|&octet| is(octet, LET_DIG | letters)) {
            return Err(AddressError::Domain);
        }
        at += run(octets, at, LDH | letters);
        if octets[at - 1] == b'-' {
            return Err(AddressError::Domain);
        }
        // A U-label is measured by its A-label (RFC 5890 2.3.2.1), which is not ours to make.
        if at - label > MAX_LABEL && octets[label..at].is_ascii() {
            return Err(AddressError::LabelTooLong);
        }
        if octets.get(at) != Some(&b'.') {
            return Ok(at);
        }
        at += 1;
    }
}

#[cold]
fn scan_literal(text: &str, start: usize, options: &Options) -> Result<usize, AddressError> {
    let length = text.as_bytes()[start..].iter().position(|&octet| octet == b']').ok_or(AddressError::Literal)? + 1;
    if length > MAX_DOMAIN {
        return Err(AddressError::DomainTooLong);
    }
    parse_literal(&text[start..start + length], options.leniency.general_literals)?;
    Ok(start + length)
}

/// Which form a quoted local part has, by what is between its quotes.
#[cold]
fn quoted_form(quoted: &str) -> LocalForm {
    let escaped = quoted.contains('\\');
    let value = if escaped { Cow::Owned(unquote(quoted)) } else { Cow::Borrowed(quoted) };
    let needless = || {
        let mut escapes = quoted.bytes();
        while let Some(octet) = escapes.next() {
            if octet == b'\\' && !matches!(escapes.next(), Some(b'"' | b'\\')) {
                return true;
            }
        }
        false
    };
    if is_dot_string(&value) || needless() {
        LocalForm::Redundant
    } else if escaped {
        LocalForm::Escaped
    } else {
        LocalForm::Quoted
    }
}

fn unquote(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

fn is_dot_string(value: &str) -> bool {
    value.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(|octet| is(octet, ATEXT | UTF8_NON_ASCII)))
}

/// The shortest form that means `value` (RFC 5321 4.1.2: quoting is to be avoided where it is not needed).
fn write_local_part(value: &str, out: &mut String) {
    if is_dot_string(value) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

/// Whether `text` is a `Domain` (RFC 5321 4.1.2) of at most 255 octets, in ASCII; with `underscore` a `_` counts as a
/// letter.
#[inline]
#[must_use]
pub fn is_domain(text: &str, underscore: bool) -> bool {
    let underscore = if underscore { UNDERSCORE } else { 0 };
    scan_labels(text.as_bytes(), 0, underscore) == Ok(text.len()) && text.len() <= MAX_DOMAIN
}

/// Reads an address literal with its brackets; with `general` also one whose tag is not `IPv6`.
///
/// ```abnf
/// address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
/// IPv4-address-literal = Snum 3("." Snum)    Snum = 1*3DIGIT   ; RFC 5321 4.1.3
/// IPv6-address-literal = "IPv6:" IPv6-addr
/// General-address-literal = Standardized-tag ":" 1*dcontent
/// ```
///
/// # Errors
/// [`AddressError::Literal`] if it is not one.
pub fn parse_literal(text: &str, general: bool) -> Result<Literal<'_>, AddressError> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(AddressError::Literal)?;
    let literal = match inner.split_once(':') {
        None => parse_ipv4(inner).map(Literal::V4),
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => parse_ipv6(address).map(Literal::V6),
        Some((tag, content)) => {
            let tag_fits =
                tag.bytes().all(|octet| is(octet, LDH)) && tag.ends_with(|c: char| c.is_ascii_alphanumeric());
            let fits = tag_fits && !content.is_empty() && content.bytes().all(|octet| is(octet, DCONTENT));
            (general && fits).then_some(Literal::General { tag, content })
        }
    };
    literal.ok_or(AddressError::Literal)
}

/// `Snum 3("." Snum)`: leading zeros are digits here, and not octal, which the standard library fears.
pub(super) fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| (1..=3).contains(&part.len()))?;
        let value = part
            .bytes()
            .try_fold(0u16, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u16::from(digit - b'0')))?;
        *octet = u8::try_from(value).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// ```abnf
/// IPv6-addr = IPv6-full / IPv6-comp / IPv6v4-full / IPv6v4-comp   ; RFC 5321 4.1.3
/// ```
/// `::` stands for two groups at least, so beside it there are at most six, or four before an IPv4 address.
pub(super) fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    let mut groups = [0; 8];
    match text.split_once("::") {
        None => {
            if ipv6_groups(text, &mut groups)? != 8 {
                return None;
            }
        }
        Some((head, tail)) => {
            let mut behind = [0; 8];
            let before = if head.is_empty() { 0 } else { ipv6_groups(head, &mut groups)? };
            let after = if tail.is_empty() { 0 } else { ipv6_groups(tail, &mut behind)? };
            if before + after > 6 || head.contains('.') {
                return None;
            }
            groups[8 - after..].copy_from_slice(&behind[..after]);
        }
    }
    Some(Ipv6Addr::from(groups))
}

/// How many groups `text` has, an IPv4 address at its end counting as two.
fn ipv6_groups(text: &str, groups: &mut [u16; 8]) -> Option<usize> {
    let mut count = 0;
    let mut parts = text.split(':').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() && part.contains('.') {
            let [a, b, c, d] = parse_ipv4(part)?.octets();
            *groups.get_mut(count)? = u16::from_be_bytes([a, b]);
            *groups.get_mut(count + 1)? = u16::from_be_bytes([c, d]);
            return Some(count + 2);
        }
        if !(1..=4).contains(&part.len()) || !part.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        *groups.get_mut(count)? = u16::from_str_radix(part, 16).ok()?;
        count += 1;
    }
    Some(count)
}
