//! Replies (RFC 5321 4.2), written by a server and read by a client.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::fmt::Write as _;

use super::status::EnhancedCode;

/// Octets of a reply line that is sent, with its CRLF (RFC 5321 4.5.3.1.5).
pub(crate) const MAX_LINE: usize = 512;

/// What the first digit says (RFC 5321 4.2.1). Nothing else decides what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2yz: done.
    Success = 2,
    /// 3yz: go on.
    Intermediate = 3,
    /// 4yz: not now.
    Transient = 4,
    /// 5yz: no.
    Permanent = 5,
}

impl Class {
    /// The class of `code`, if it is one of 200 to 599.
    #[must_use]
    pub const fn of(code: u16) -> Option<Self> {
        match code {
            200..=299 => Some(Self::Success),
            300..=399 => Some(Self::Intermediate),
            400..=499 => Some(Self::Transient),
            500..=599 => Some(Self::Permanent),
            _ => None,
        }
    }

    /// The text of a reply that has none.
    const fn text(self) -> &'static str {
        match self {
            Self::Success => "OK",
            Self::Intermediate => "Go ahead",
            Self::Transient => "Try again later",
            Self::Permanent => "Refused",
        }
    }
}

/// A code, perhaps an enhanced code, and one or more lines of text.
///
/// Whoever made it, no line of it holds CR or LF.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    /// The lines, joined by LF. Octets: a peer may write what it likes.
    text: Cow<'static, [u8]>,
}

/// Why there can be no such reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// The code is outside 200 to 599, or its second digit above 5 (RFC 5321 4.2).
    Code(u16),
    /// The enhanced code is not in the grammar, its class is not the first digit, or the code is 3yz (RFC 2034 4).
    Enhanced(EnhancedCode),
    /// Not `code [enhanced] text`.
    Format,
    /// There is CR, LF or NUL in the text.
    Text,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code} is not a reply code: 200 to 559 with a second digit up to 5"),
            Self::Enhanced(code) => write!(f, "the enhanced code {code} does not fit the reply code"),
            Self::Format => f.write_str("a reply is a code of three digits, then text"),
            Self::Text => f.write_str("there is CR, LF or NUL in the text of a reply"),
        }
    }
}

impl Error for ReplyError {}

impl Reply {
    /// A reply of one line. Empty text becomes a word of the code's class.
    ///
    /// # Errors
    /// If a server may not send it.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Result<Self, ReplyError> {
        Self::from_lines(code, enhanced, &[text])
    }

    /// A reply of one line that does not change.
    ///
    /// # Errors
    /// If a server may not send it.
    pub fn from_static(code: u16, enhanced: Option<EnhancedCode>, text: &'static str) -> Result<Self, ReplyError> {
        let text = default_text(check(code, enhanced)?, text);
        check_text(text)?;
        Ok(Self { code, enhanced, text: Cow::Borrowed(text.as_bytes()) })
    }

    /// A reply of as many lines as there are.
    ///
    /// # Errors
    /// If a server may not send it.
    pub fn from_lines(code: u16, enhanced: Option<EnhancedCode>, lines: &[&str]) -> Result<Self, ReplyError> {
        let class = check(code, enhanced)?;
        for line in lines {
            check_text(line)?;
        }
        let text = lines.join("\n");
        let text = if text.is_empty() { class.text().to_owned() } else { text };
        Ok(Self { code, enhanced, text: Cow::Owned(text.into_bytes()) })
    }

    /// A reply as [`Reply::code`], [`Reply::enhanced`] and the [`Reply::lines`] of one say it, joined by LF: octets that
    /// came from a peer stay as they are.
    ///
    /// # Errors
    /// If no reply can have these parts.
    ///
    /// ```
    /// # use ehlo::syntax::reply::Reply;
    /// let reply = Reply::from_parts(250, None, b"caf\xe9".to_vec()).unwrap();
    /// assert_eq!(reply.lines().collect::<Vec<_>>(), [b"caf\xe9"]);
    /// ```
    pub fn from_parts(code: u16, enhanced: Option<EnhancedCode>, text: Vec<u8>) -> Result<Self, ReplyError> {
        Class::of(code).ok_or(ReplyError::Code(code))?;
        check_enhanced(code, enhanced)?;
        if text.contains(&b'\r') {
            return Err(ReplyError::Text);
        }
        Ok(Self { code, enhanced, text: Cow::Owned(text) })
    }

    /// Reads what a program writes for a reply: `550 5.1.1 no such user`. The enhanced code and the text may be missing.
    ///
    /// # Errors
    /// If it is none, or a server may not send it.
    ///
    /// ```
    /// # use ehlo::syntax::reply::Reply;
    /// let reply = Reply::parse_text("550 5.1.1 no such user").unwrap();
    /// assert_eq!((reply.code(), reply.enhanced().unwrap().detail), (550, 1));
    /// assert!(Reply::parse_text("no such user").is_err());
    /// ```
    pub fn parse_text(text: &str) -> Result<Self, ReplyError> {
        let (code, text) = text.split_at_checked(3).ok_or(ReplyError::Format)?;
        let code = parse_code(code.as_bytes()).ok_or(ReplyError::Format)?;
        let text = match text.strip_prefix(' ') {
            Some(text) => text,
            None if text.is_empty() => text,
            None => return Err(ReplyError::Format),
        };
        match EnhancedCode::parse(text.as_bytes()) {
            Some((enhanced, length)) => Self::new(code, Some(enhanced), text[length..].trim_start_matches(' ')),
            None => Self::new(code, None, text),
        }
    }

    /// The same with another enhanced code.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn with_enhanced(self, enhanced: Option<EnhancedCode>) -> Result<Self, ReplyError> {
        check_enhanced(self.code, enhanced)?;
        Ok(Self { enhanced, ..self })
    }

    /// The same with `x.0.0` where there is no enhanced code and there may be one (RFC 2034 4).
    #[must_use]
    pub fn or_generic_enhanced(self) -> Self {
        let generic = match self.class() {
            Class::Intermediate => None,
            class => Some(EnhancedCode::new(class as u8, 0, 0)),
        };
        Self { enhanced: self.enhanced.or(generic), ..self }
    }

    /// The same without enhanced code, as the greeting and the reply to EHLO want it (RFC 2034 4).
    #[must_use]
    pub fn without_enhanced(self) -> Self {
        Self { enhanced: None, ..self }
    }

    /// The three digits.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code, if there is one, and its class agrees with the first digit.
    #[must_use]
    pub const fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// What the first digit says.
    #[must_use]
    pub const fn class(&self) -> Class {
        match Class::of(self.code) {
            Some(class) => class,
            // No reply is made with another code.
            None => Class::Permanent,
        }
    }

    /// The lines without code and enhanced code, as they came.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|&octet| octet == b'\n')
    }

    /// The lines without code and enhanced code, joined by LF. What is not UTF-8 is escaped as `\xNN`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match str::from_utf8(&self.text) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(self.text.utf8_chunks().fold(String::new(), |mut text, chunk| {
                text.push_str(chunk.valid());
                chunk.invalid().iter().for_each(|&octet| escape(octet, &mut text));
                text
            })),
        }
    }

    /// Writes the reply, each line of 512 octets at most, with its code and enhanced code on each. What is not printable
    /// ASCII or HTAB is escaped.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_lines(out, false);
    }

    /// Writes the reply to a client that may be given UTF-8 (RFC 6531 3.7.4.1): it is not escaped.
    pub fn write_utf8(&self, out: &mut Vec<u8>) {
        self.write_lines(out, true);
    }

    /// Writes each line as it came, behind `before`, with an LF and no more than `most` octets of text: not for the wire.
    pub(crate) fn write_for_log(&self, before: &str, most: usize, out: &mut Vec<u8>) {
        let mut prefix = [0; 16];
        let prefix = write_prefix(self.code, self.enhanced, &mut prefix);
        let mut rest = self.lines().peekable();
        while let Some(line) = rest.next() {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(&prefix[..3]);
            out.push(if rest.peek().is_none() { b' ' } else { b'-' });
            out.extend_from_slice(&prefix[4..]);
            out.extend_from_slice(&line[..line.len().min(most)]);
            out.push(b'\n');
        }
    }

    fn write_lines(&self, out: &mut Vec<u8>, utf8: bool) {
        let mut rest = self.lines().peekable();
        while let Some(line) = rest.next() {
            let line = printable(line, utf8);
            put_folded(self.code, self.enhanced, &line, rest.peek().is_none(), out);
        }
    }
}

/// As it goes over the wire, without the last CRLF.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(String::from_utf8_lossy(&out).trim_end_matches("\r\n"))
    }
}

/// Writes a reply of one line, as [`Reply::write`] does, without making a [`Reply`]. The text is the engine's own.
pub fn write_reply(code: u16, enhanced: Option<EnhancedCode>, text: &str, out: &mut Vec<u8>) {
    put_folded(code, enhanced, &printable(text.as_bytes(), false), true, out);
}

fn check(code: u16, enhanced: Option<EnhancedCode>) -> Result<Class, ReplyError> {
    let class = Class::of(code).filter(|_| code / 10 % 10 <= 5).ok_or(ReplyError::Code(code))?;
    check_enhanced(code, enhanced)?;
    Ok(class)
}

fn check_enhanced(code: u16, enhanced: Option<EnhancedCode>) -> Result<(), ReplyError> {
    match enhanced {
        Some(enhanced) if !enhanced.is_valid() || u16::from(enhanced.class) != code / 100 => {
            Err(ReplyError::Enhanced(enhanced))
        }
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), ReplyError> {
    if text.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) { Err(ReplyError::Text) } else { Ok(()) }
}

const fn default_text(class: Class, text: &'static str) -> &'static str {
    if text.is_empty() { class.text() } else { text }
}

/// ```abnf
/// textstring = 1*(%d09 / %d32-126) ; HT, SP, Printable US-ASCII    RFC 5321 4.2
/// ```
fn printable(line: &[u8], utf8: bool) -> Cow<'_, str> {
    let fits = |octet: u8| matches!(octet, b'\t' | b' '..=b'~') || (utf8 && octet >= 0x80);
    if line.iter().all(|&octet| fits(octet))
        && let Ok(line) = str::from_utf8(line)
    {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len() + 16);
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut octets = [0; 4];
            let octets = character.encode_utf8(&mut octets);
            if octets.bytes().all(fits) {
                text.push(character);
            } else {
                octets.bytes().for_each(|octet| escape(octet, &mut text));
            }
        }
        chunk.invalid().iter().for_each(|&octet| escape(octet, &mut text));
    }
    Cow::Owned(text)
}

fn escape(octet: u8, text: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{octet:02x}");
}

/// Writes one line of text as one or more reply lines, of which the last ends the reply if `last`.
fn put_folded(code: u16, enhanced: Option<EnhancedCode>, line: &str, last: bool, out: &mut Vec<u8>) {
    let mut prefix = [0; 16];
    let prefix = write_prefix(code, enhanced, &mut prefix);
    let room = MAX_LINE - 2 - prefix.len();
    let mut rest = line;
    loop {
        let (now, then) = if rest.len() <= room { (rest, "") } else { fold(rest, room) };
        let end = last && then.is_empty();
        out.extend_from_slice(&prefix[..3]);
        out.push(if end { b' ' } else { b'-' });
        out.extend_from_slice(&prefix[4..]);
        out.extend_from_slice(now.as_bytes());
        out.extend_from_slice(b"\r\n");
        if then.is_empty() {
            break;
        }
        rest = then;
    }
}

/// Code, separator, and the enhanced code with a space behind it.
fn write_prefix(code: u16, enhanced: Option<EnhancedCode>, buffer: &mut [u8; 16]) -> &[u8] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    let mut length = 0;
    let mut put = |octet: u8| {
        buffer[length] = octet;
        length += 1;
    };
    [digit(code / 100), digit(code / 10), digit(code), b' '].into_iter().for_each(&mut put);
    if let Some(EnhancedCode { class, subject, detail }) = enhanced {
        put(digit(class.into()));
        for number in [subject, detail] {
            put(b'.');
            if number >= 100 {
                put(digit(number / 100));
            }
            if number >= 10 {
                put(digit(number / 10));
            }
            put(digit(number));
        }
        put(b' ');
    }
    &buffer[..length]
}

/// Cuts `text` at the last space that leaves at most `room` octets before it, or else where it must be.
fn fold(text: &str, room: usize) -> (&str, &str) {
    let cut = (0..=room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    match text.as_bytes()[..=cut].iter().rposition(|&octet| octet == b' ').filter(|&space| space > 0) {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => {
            // Not in the middle of an escape.
            let tail = &text.as_bytes()[cut.saturating_sub(3)..cut];
            let cut = tail.iter().position(|&octet| octet == b'\\').map_or(cut, |at| cut - tail.len() + at);
            text.split_at(cut)
        }
    }
}

fn parse_code(digits: &[u8]) -> Option<u16> {
    match digits {
        [a, b, c] if digits.iter().all(u8::is_ascii_digit) => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

/// What a client bears (RFC 5321 4.5.3.1.5 asks for 512 octets a line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Octets of a line with its CRLF.
    pub line: usize,
    /// Octets of a line of a 334 (RFC 4954 4 asks for 12288 in base64).
    pub challenge_line: usize,
    /// Octets of a reply.
    pub total: usize,
    /// Lines of a reply.
    pub lines: usize,
    /// Take a bare LF as a line's end.
    pub lenient: bool,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { line: 4096, challenge_line: 16384, total: 65536, lines: 1000, lenient: false }
    }
}

/// Why a server's words are no reply. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyParseError {
    /// A bare CR or bare LF (RFC 5321 2.3.8).
    BareNewline,
    /// The code is outside 200 to 599 (RFC 5321 4.2).
    Code(u16),
    /// Another code on a later line (RFC 5321 4.2.1).
    CodeChanged,
    /// Not three digits and then SP, `-` or the end (RFC 5321 4.2).
    Format,
    /// The reply is not complete.
    Incomplete,
    /// A line is longer than allowed.
    LineTooLong,
    /// The reply is longer than allowed.
    TooLong,
    /// The reply has more lines than allowed.
    TooManyLines,
    /// There is something behind the reply.
    Trailing,
}

impl fmt::Display for ReplyParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareNewline => f.write_str("a reply holds a bare CR or LF"),
            Self::Code(code) => write!(f, "the reply code {code:03} is outside 200 to 599"),
            Self::CodeChanged => f.write_str("the lines of a reply have different codes"),
            Self::Format => f.write_str("a reply line does not begin with a code"),
            Self::Incomplete => f.write_str("the reply is not complete"),
            Self::LineTooLong => f.write_str("a reply line is too long"),
            Self::TooLong => f.write_str("a reply is too long"),
            Self::TooManyLines => f.write_str("a reply has too many lines"),
            Self::Trailing => f.write_str("there is something behind the reply"),
        }
    }
}

impl Error for ReplyParseError {}

/// What [`ReplyParser::feed`] made of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Octets used; all of them, unless a reply is complete.
    pub consumed: usize,
    /// The reply, if it is complete.
    pub reply: Option<Reply>,
}

/// Reads replies from octets that come in any pieces. It keeps what it has seen, within the limits.
#[derive(Clone, Debug, Default)]
pub struct ReplyParser {
    /// A line whose end has not come.
    partial: Vec<u8>,
    /// The lines before it, joined by LF, without code and separator.
    text: Vec<u8>,
    code: Option<u16>,
    lines: usize,
    octets: usize,
    failed: Option<ReplyParseError>,
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a reply has begun and is not complete.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.lines > 0 || !self.partial.is_empty()
    }

    /// Octets kept of a reply that is not complete; never more than [`ReplyLimits::total`].
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.partial.len() + self.text.len()
    }

    /// Takes octets up to the end of one reply.
    ///
    /// # Errors
    /// If the octets are no reply. After that the parser fails for ever.
    pub fn feed(&mut self, input: &[u8], limits: &ReplyLimits) -> Result<Fed, ReplyParseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.take(input, limits);
        if let Err(error) = result {
            *self = Self { failed: Some(error), ..Self::default() };
        }
        result
    }

    fn take(&mut self, input: &[u8], limits: &ReplyLimits) -> Result<Fed, ReplyParseError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            // The first CR or LF is the end of the line, unless the line is wrong. Lines are too short for a search by vectors.
            let first = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(rest.len());
            let tidy = self.partial.is_empty() && rest[first..].starts_with(b"\r\n");
            let end = if tidy { Some(1) } else { memchr::memchr(b'\n', &rest[first..]) };
            let Some(end) = end.map(|end| first + end) else {
                self.measure(rest, limits)?;
                self.partial.extend_from_slice(rest);
                return Ok(Fed { consumed: input.len(), reply: None });
            };
            let piece = &rest[..=end];
            consumed += piece.len();
            let length = self.measure(piece, limits)?;
            let line = if self.partial.is_empty() {
                Cow::Borrowed(piece)
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(piece);
                Cow::Owned(line)
            };
            let (code, last, text) = split_line(&line, tidy, limits.lenient)?;
            if last && self.lines == 0 {
                return Ok(Fed { consumed, reply: Some(one_line(code, text)) });
            }
            if self.code.is_some_and(|before| before != code) {
                return Err(ReplyParseError::CodeChanged);
            }
            if self.lines > 0 {
                self.text.push(b'\n');
            }
            self.text.extend_from_slice(text);
            (self.code, self.lines, self.octets) = (Some(code), self.lines + 1, self.octets + length);
            if last {
                let reply = many_lines(code, &self.text);
                *self = Self::default();
                return Ok(Fed { consumed, reply: Some(reply) });
            }
        }
    }

    /// The length of the current line with `piece`. The limits are those of the line as far as it has come, so that
    /// they are met at the same octet in whatever pieces it comes.
    fn measure(&self, piece: &[u8], limits: &ReplyLimits) -> Result<usize, ReplyParseError> {
        if self.lines >= limits.lines {
            return Err(ReplyParseError::TooManyLines);
        }
        let length = self.partial.len().saturating_add(piece.len());
        let left = limits.total.saturating_sub(self.octets);
        if length <= limits.line.min(limits.challenge_line).min(left) {
            return Ok(length);
        }
        let begins = self.partial.iter().chain(piece).take(3);
        let line = if begins.eq(b"334") { limits.challenge_line } else { limits.line };
        if length > line.min(left) {
            return Err(if line <= left { ReplyParseError::LineTooLong } else { ReplyParseError::TooLong });
        }
        Ok(length)
    }
}

/// Takes one line with its end apart: its code, whether it is the last, and its text. `tidy`: CRLF ends it, and no other CR
/// is in it.
fn split_line(line: &[u8], tidy: bool, lenient: bool) -> Result<(u16, bool, &[u8]), ReplyParseError> {
    let line = match line {
        [line @ .., b'\r', b'\n'] => line,
        [line @ .., b'\n'] if lenient => line,
        _ => return Err(ReplyParseError::BareNewline),
    };
    if !tidy && line.contains(&b'\r') {
        return Err(ReplyParseError::BareNewline);
    }
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyParseError::Format)?;
    let code = parse_code(digits).ok_or(ReplyParseError::Format)?;
    let (last, text) = match rest {
        [] => (true, rest),
        [b' ', text @ ..] => (true, text),
        [b'-', text @ ..] => (false, text),
        _ => return Err(ReplyParseError::Format),
    };
    if Class::of(code).is_none() {
        return Err(ReplyParseError::Code(code));
    }
    Ok((code, last, text))
}

/// A reply of one line.
fn one_line(code: u16, line: &[u8]) -> Reply {
    let (enhanced, text) = match enhanced_of(code, line) {
        Some((enhanced, length)) => (Some(enhanced), without_spaces(&line[length..])),
        None => (None, line),
    };
    // The words that servers say most take no memory of their own.
    let text = match text {
        b"OK" => Cow::Borrowed(&b"OK"[..]),
        b"Ok" => Cow::Borrowed(&b"Ok"[..]),
        text => Cow::Owned(text.to_vec()),
    };
    Reply { code, enhanced, text }
}

/// A reply of lines that are joined by LF. An enhanced code is taken off the lines that have it.
fn many_lines(code: u16, text: &[u8]) -> Reply {
    let first = text.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let Some((enhanced, _)) = enhanced_of(code, first) else {
        return Reply { code, enhanced: None, text: Cow::Owned(text.to_vec()) };
    };
    let mut stripped = Vec::with_capacity(text.len());
    for (number, line) in text.split(|&octet| octet == b'\n').enumerate() {
        if number > 0 {
            stripped.push(b'\n');
        }
        stripped.extend_from_slice(match EnhancedCode::parse(line) {
            Some((same, length)) if same == enhanced => without_spaces(&line[length..]),
            _ => line,
        });
    }
    Reply { code, enhanced: Some(enhanced), text: Cow::Owned(stripped) }
}

/// The enhanced code that begins `line`, and its length. A class that is not the first digit of `code` is text (RFC 2034
/// 4). So is any behind 3yz, which has no enhanced code.
fn enhanced_of(code: u16, line: &[u8]) -> Option<(EnhancedCode, usize)> {
    EnhancedCode::parse(line).filter(|(enhanced, _)| u16::from(enhanced.class) == code / 100)
}

/// The same without the spaces at its front.
fn without_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&octet| octet == b' ').count()..]
}

/// Reads one reply, of which `octets` have to be the whole.
///
/// # Errors
/// If they are not one reply within the default limits.
pub fn parse_reply(octets: &[u8]) -> Result<Reply, ReplyParseError> {
    let fed = ReplyParser::new().feed(octets, &ReplyLimits::default())?;
    match fed.reply {
        None => Err(ReplyParseError::Incomplete),
        Some(_) if fed.consumed < octets.len() => Err(ReplyParseError::Trailing),
        Some(reply) => Ok(reply),
    }
}
