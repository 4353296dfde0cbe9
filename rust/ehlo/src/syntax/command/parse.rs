//! Reading a command line. The common commands take the short way; a line that is wrong is looked at again with care.

use std::borrow::Cow;

use super::error::{CommandError, CommandErrorKind as Kind};
use super::{Command, Hello, Secret, Verb};
use crate::syntax::address::{AddressError, ForwardPath, ReversePath, is_domain, parse_literal, scan};
use crate::syntax::class::is_control;
use crate::syntax::options::Options;
use crate::syntax::parameter::{Common, MailParameters, RcptParameters, Uncommon};
use crate::syntax::xattr;

/// Octets of a SASL mechanism's name (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;

/// Reads one command line without its CRLF. White space at its end is tolerated (RFC 5321 4.1.1).
///
/// A verb that is not known is [`Command::Unknown`], not an error.
///
/// # Errors
/// If the line is not in the grammar that `options` ask for. [`CommandError::reply`] is what a server says then.
///
/// ```
/// # use ehlo::syntax::{command::{Command, parse_command}, options::Options};
/// let options = Options::default();
/// let Ok(Command::Mail { path, parameters }) = parse_command(b"MAIL FROM:<a@b.example> SIZE=12345", &options) else {
///     panic!()
/// };
/// assert_eq!(path.as_written(), "a@b.example");
/// assert_eq!(parameters.size, Some(12345));
/// assert_eq!(parse_command(b"RCPT TO:<bob>", &options).unwrap_err().reply().0, 501);
/// ```
pub fn parse_command<'a>(line: &'a [u8], options: &Options) -> Result<Command<'a>, CommandError> {
    let line = trim_end(line);
    // What is allowed is ASCII by its grammar, or UTF-8; so nothing is looked for that may not be there, until the line
    // turns out to be wrong.
    match str::from_utf8(line) {
        Ok(text) => parse_text(text, options),
        Err(error) => match lossy_hello(line, options) {
            Some(command) => Ok(command),
            None => Err(malformed_utf8(line, error.valid_up_to(), options)),
        },
    }
}

#[inline]
fn trim_end(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

/// A wrong line may be wrong because of octets that may be nowhere: these are what the peer should hear of first.
#[cold]
fn wrong(line: &[u8], verb: Option<Verb>, kind: Kind) -> CommandError {
    // Whatever else is in a BDAT line, the octets behind it must not be taken for commands.
    if verb == Some(Verb::Bdat) {
        return CommandError { verb, kind };
    }
    if line.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return CommandError { verb: None, kind: Kind::BareNewline };
    }
    let in_path = matches!(kind, Kind::ReversePath(_) | Kind::ForwardPath(_));
    if !in_path && line.iter().any(|&octet| is_control(octet) && octet != b'\t') {
        return CommandError { verb, kind: Kind::ForbiddenOctet };
    }
    CommandError { verb, kind }
}

/// EHLO or HELO with a name in another charset, where any name is forgiven.
#[cold]
fn lossy_hello<'a>(line: &'a [u8], options: &Options) -> Option<Command<'a>> {
    let (verb, length) = split_verb(line);
    if !options.leniency.hello_any {
        return None;
    }
    let rest = String::from_utf8_lossy(&line[length..]);
    let hello = Hello { name: Cow::Owned(parse_hello(&rest, options).ok()?.name.into_owned()) };
    match verb {
        Some(Verb::Ehlo) => Some(Command::Ehlo(hello)),
        Some(Verb::Helo) => Some(Command::Helo(hello)),
        Some(Verb::Lhlo) => Some(Command::Lhlo(hello)),
        _ => None,
    }
}

/// A line that is not UTF-8 is wrong in any case (RFC 3629 3); the question is where.
#[cold]
fn malformed_utf8(line: &[u8], valid: usize, options: &Options) -> CommandError {
    let (verb, length) = split_verb(line);
    let kind = if verb == Some(Verb::Bdat) {
        parse_bdat(&line[length..], options).err().unwrap_or(Kind::BdatSize)
    } else {
        let before = str::from_utf8(&line[..valid]).ok().and_then(|text| parse_text(text, options).err());
        match before.map(|error| error.kind) {
            Some(Kind::ReversePath(_)) => Kind::ReversePath(AddressError::Utf8),
            Some(Kind::ForwardPath(_)) => Kind::ForwardPath(AddressError::Utf8),
            _ => Kind::ForbiddenOctet,
        }
    };
    wrong(line, verb, kind)
}

/// The verb, if it is known, and how long the first word is.
#[inline]
fn split_verb(line: &[u8]) -> (Option<Verb>, usize) {
    if let Some((letters, rest)) = line.split_first_chunk::<4>()
        && matches!(rest, [] | [b' ', ..])
    {
        // A space can be among the four, too, but is in no verb.
        if let Some(verb) = Verb::of_four(*letters) {
            return (Some(verb), 4);
        }
    }
    let length = line.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(line.len());
    (Verb::parse(&line[..length]), length)
}

fn parse_text<'a>(text: &'a str, options: &Options) -> Result<Command<'a>, CommandError> {
    let mut text = text;
    if options.leniency.extra_space {
        text = text.trim_start_matches([' ', '\t']);
    }
    let (verb, length) = split_verb(text.as_bytes());
    let rest = &text[length..];
    let wrong = |kind| wrong(text.as_bytes(), verb, kind);
    match verb {
        Some(Verb::Mail) => parse_mail(rest, options, wrong),
        Some(Verb::Rcpt) => parse_rcpt(rest, options, wrong),
        Some(Verb::Data) if rest.is_empty() => Ok(Command::Data),
        Some(Verb::Ehlo) => match parse_hello(rest, options) {
            Ok(hello) => Ok(Command::Ehlo(hello)),
            Err(kind) => Err(wrong(kind)),
        },
        Some(verb) => parse_other(verb, rest, options).map_err(wrong),
        None => parse_unknown(text, length).map_err(wrong),
    }
}

#[cold]
fn parse_unknown(text: &str, length: usize) -> Result<Command<'_>, Kind> {
    if text.is_empty() {
        return Err(Kind::Empty);
    }
    if length == 0 {
        return Err(Kind::LeadingSpace);
    }
    if !text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return Err(Kind::ForbiddenOctet);
    }
    let (verb, argument) = text.as_bytes().split_at(length);
    let argument = argument.strip_prefix(b" ").unwrap_or(argument);
    Ok(Command::Unknown { verb: Cow::Borrowed(verb), argument: Cow::Borrowed(argument) })
}

/// ```abnf
/// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF   ; RFC 5321 4.1.1.2
/// ```
/// `rest` is what stands behind the verb. The command is made where it is returned: moving it costs as much as reading it.
#[inline(always)]
fn parse_mail<'a>(
    rest: &'a str,
    options: &Options,
    wrong: impl Fn(Kind) -> CommandError,
) -> Result<Command<'a>, CommandError> {
    let (path, ascii, raw) = match reverse_path(rest, options) {
        Ok(found) => found,
        Err(kind) => return Err(wrong(kind)),
    };
    match Common::read(raw, options) {
        Ok(common) if common.smtputf8 || (ascii && common.ascii) => {
            return Ok(Command::Mail { path, parameters: MailParameters::common(raw, &common) });
        }
        Ok(_) => {}
        Err(Uncommon::Error(error)) => return Err(wrong(error.into())),
        Err(Uncommon::Rare) => match MailParameters::parse(raw, options) {
            Ok(parameters) if parameters.smtputf8 || ascii => return Ok(Command::Mail { path, parameters }),
            Ok(_) => {}
            Err(error) => return Err(wrong(error.into())),
        },
    }
    // Something is not ASCII, and MAIL does not say SMTPUTF8.
    Err(wrong(if ascii { Kind::ForbiddenOctet } else { Kind::NeedsSmtputf8 }))
}

/// The path, whether it is ASCII, and the parameters behind it.
#[inline(always)]
fn reverse_path<'a>(rest: &'a str, options: &Options) -> Result<(ReversePath<'a>, bool, &'a str), Kind> {
    let (rest, open) = match rest.as_bytes() {
        // The one form that is in the grammar, before all that may be forgiven.
        [b' ', b'F' | b'f', b'R' | b'r', b'O' | b'o', b'M' | b'm', b':', b'<', ..] => (&rest[7..], true),
        _ => forgiven_path(rest, "FROM:", options)?,
    };
    if open && rest.starts_with('>') {
        return Ok((ReversePath::Null, true, behind_path(&rest[1..], options)?));
    }
    let scanned = scan(rest, options).map_err(Kind::ReversePath)?;
    let behind = close(rest, scanned.end, open).map_err(Kind::ReversePath)?;
    Ok((ReversePath::Address(scanned.address(rest)), scanned.ascii, behind_path(behind, options)?))
}

/// ```abnf
/// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF
/// ```
/// (RFC 5321 4.1.1.3.) `rest` is what stands behind the verb.
#[inline(always)]
fn parse_rcpt<'a>(
    rest: &'a str,
    options: &Options,
    wrong: impl Fn(Kind) -> CommandError,
) -> Result<Command<'a>, CommandError> {
    let (path, raw) = match forward_path(rest, options) {
        Ok(found) => found,
        Err(kind) => return Err(wrong(kind)),
    };
    if raw.is_empty() {
        return Ok(Command::Rcpt { path, parameters: RcptParameters::default() });
    }
    match RcptParameters::parse(raw, options) {
        Ok(parameters) => Ok(Command::Rcpt { path, parameters }),
        Err(error) => Err(wrong(error.into())),
    }
}

/// The path, and the parameters behind it.
#[inline(always)]
fn forward_path<'a>(rest: &'a str, options: &Options) -> Result<(ForwardPath<'a>, &'a str), Kind> {
    let (rest, open) = match rest.as_bytes() {
        [b' ', b'T' | b't', b'O' | b'o', b':', b'<', ..] => (&rest[5..], true),
        _ => forgiven_path(rest, "TO:", options)?,
    };
    let (path, behind) = match scan(rest, options) {
        // Without a domain it may be the postmaster, where other mailboxes may have none, too.
        Ok(scanned) if scanned.has_no_domain() && postmaster(rest, open).is_some() => {
            postmaster(rest, open).ok_or(Kind::NoPath)?
        }
        Ok(scanned) => {
            let behind = close(rest, scanned.end, open).map_err(Kind::ForwardPath)?;
            (ForwardPath::Address(scanned.address(rest)), behind)
        }
        Err(error) => postmaster(rest, open).ok_or(Kind::ForwardPath(error))?,
    };
    Ok((path, behind_path(behind, options)?))
}

/// The one mailbox that needs no domain.
#[cold]
fn postmaster(rest: &str, open: bool) -> Option<(ForwardPath<'_>, &str)> {
    let (name, behind) = rest.split_at_checked("postmaster".len())?;
    if !name.eq_ignore_ascii_case("postmaster") {
        return None;
    }
    let behind = if open { behind.strip_prefix('>')? } else { behind };
    (open || behind.is_empty() || behind.starts_with(' '))
        .then_some((ForwardPath::Postmaster(Cow::Borrowed(name)), behind))
}

/// Finds the path where it is not written as it should be. Says what stands behind the `<`, and whether there was one.
#[cold]
fn forgiven_path<'a>(rest: &'a str, keyword: &str, options: &Options) -> Result<(&'a str, bool), Kind> {
    let rest = argument(rest, options)?;
    let (written, mut rest) = rest.split_at_checked(keyword.len()).ok_or(Kind::NoPath)?;
    if !written.eq_ignore_ascii_case(keyword) {
        return Err(Kind::NoPath);
    }
    if options.leniency.space_after_colon {
        rest = rest.trim_start_matches([' ', '\t']);
    }
    match rest.strip_prefix('<') {
        Some(rest) => Ok((rest, true)),
        None if options.leniency.bare_paths && !rest.is_empty() && !rest.starts_with([' ', '\t']) => Ok((rest, false)),
        None => Err(Kind::NoPath),
    }
}

/// What stands behind the `>`, which has to be at `end`.
#[inline]
fn close(rest: &str, end: usize, open: bool) -> Result<&str, AddressError> {
    match rest.as_bytes().get(end) {
        Some(b'>') if open => Ok(&rest[end + 1..]),
        None if open => Err(AddressError::Unclosed),
        None | Some(b' ' | b'\t') if !open => Ok(&rest[end..]),
        _ => Err(AddressError::Domain),
    }
}

/// The parameters: nothing, or what stands behind one SP.
#[inline]
fn behind_path<'a>(behind: &'a str, options: &Options) -> Result<&'a str, Kind> {
    match behind.as_bytes() {
        [] => Ok(behind),
        [b' ', ..] => argument(behind, options),
        [b'\t', ..] if options.leniency.extra_space => argument(behind, options),
        [b'\t', ..] => Err(Kind::Spaces),
        _ => Err(Kind::BehindPath),
    }
}

/// What stands behind the space that `rest` begins with; empty if there is nothing.
#[inline]
fn argument<'a>(rest: &'a str, options: &Options) -> Result<&'a str, Kind> {
    if options.leniency.extra_space {
        return Ok(rest.trim_start_matches([' ', '\t']));
    }
    match rest.as_bytes() {
        [] => Ok(rest),
        [b' ', b' ' | b'\t', ..] | [b'\t', ..] => Err(Kind::Spaces),
        _ => Ok(&rest[1..]),
    }
}

fn parse_other<'a>(verb: Verb, rest: &'a str, options: &Options) -> Result<Command<'a>, Kind> {
    if verb == Verb::Bdat {
        return parse_bdat(rest.as_bytes(), options).map(|(size, last)| Command::Bdat { size, last });
    }
    if matches!(verb, Verb::Helo | Verb::Lhlo) {
        let hello = parse_hello(rest, options)?;
        return Ok(if verb == Verb::Helo { Command::Helo(hello) } else { Command::Lhlo(hello) });
    }
    let plain = is_plain(rest, options);
    let utf8 = matches!(verb, Verb::Vrfy | Verb::Expn) && options.smtputf8;
    if !plain && (!utf8 || rest.bytes().any(is_control)) {
        return Err(Kind::ForbiddenOctet);
    }
    let argument = argument(rest, options)?;
    let nothing = |command| if argument.is_empty() { Ok(command) } else { Err(Kind::UnexpectedArgument) };
    let needed = || if argument.is_empty() { Err(Kind::MissingArgument) } else { Ok(Cow::Borrowed(argument)) };
    Ok(match verb {
        Verb::Data => return nothing(Command::Data),
        Verb::Rset => return nothing(Command::Rset),
        Verb::Quit => return nothing(Command::Quit),
        Verb::StartTls => return nothing(Command::StartTls),
        Verb::Noop => Command::Noop(Cow::Borrowed(argument.as_bytes())),
        Verb::Help => Command::Help(Cow::Borrowed(argument)),
        Verb::Vrfy => {
            needed()?;
            let (argument, smtputf8) = with_smtputf8(argument, plain, options)?;
            Command::Vrfy { argument, smtputf8 }
        }
        Verb::Expn => {
            needed()?;
            let (argument, smtputf8) = with_smtputf8(argument, plain, options)?;
            Command::Expn { argument, smtputf8 }
        }
        Verb::Auth => {
            needed()?;
            parse_auth(argument, options)?
        }
        Verb::Etrn => {
            let domain = argument.strip_prefix('@').unwrap_or(argument);
            let queue = argument.strip_prefix('#').is_some_and(|name| !name.is_empty() && !name.contains([' ', '\t']));
            if queue || is_domain(domain, true) { Command::Etrn(needed()?) } else { return Err(one_word(argument)) }
        }
        Verb::Atrn => {
            if !argument.is_empty() && !argument.split(',').all(|domain| is_domain(domain, true)) {
                return Err(Kind::UnexpectedArgument);
            }
            Command::Atrn(Cow::Borrowed(argument))
        }
        Verb::Burl => {
            needed()?;
            let (url, behind) = first_word(argument, options)?;
            let last = behind.eq_ignore_ascii_case("LAST");
            if !last && !behind.is_empty() {
                return Err(Kind::UnexpectedArgument);
            }
            Command::Burl { url: Cow::Borrowed(url), last }
        }
        Verb::Xclient => Command::Xclient(attributes(argument, xattr::Of::Xclient, options)?),
        Verb::Xforward => Command::Xforward(attributes(argument, xattr::Of::Xforward, options)?),
        Verb::Saml | Verb::Send | Verb::Soml | Verb::Turn => Command::Obsolete(verb),
        // Read elsewhere.
        Verb::Bdat | Verb::Ehlo | Verb::Helo | Verb::Lhlo | Verb::Mail | Verb::Rcpt => return Err(Kind::NoPath),
    })
}

/// What is wrong with an argument that should be one word of a certain kind.
fn one_word(argument: &str) -> Kind {
    if argument.is_empty() { Kind::MissingArgument } else { Kind::UnexpectedArgument }
}

/// The first word of an argument, and what stands behind it; empty if there is nothing.
fn first_word<'a>(words: &'a str, options: &Options) -> Result<(&'a str, &'a str), Kind> {
    let (word, rest) = words.split_at(words.find([' ', '\t']).unwrap_or(words.len()));
    Ok((word, argument(rest, options)?))
}

fn attributes<'a>(argument: &'a str, of: xattr::Of, options: &Options) -> Result<Vec<xattr::Attribute<'a>>, Kind> {
    if !options.leniency.extra_space && argument.contains("  ") {
        return Err(Kind::Spaces);
    }
    xattr::parse(argument, of).ok_or_else(|| one_word(argument))
}

/// Whether `text` is printable ASCII.
fn is_plain(text: &str, options: &Options) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~') || (octet == b'\t' && options.leniency.extra_space))
}

/// ```abnf
/// ehlo = "EHLO" SP ( Domain / address-literal ) CRLF           ; RFC 5321 4.1.1.1
/// ```
/// HELO's argument is a Domain; a literal is taken there too.
#[inline(always)]
fn parse_hello<'a>(rest: &'a str, options: &Options) -> Result<Hello<'a>, Kind> {
    let argument = argument(rest, options)?;
    if is_domain(argument, options.leniency.hello_underscore) {
        return Ok(Hello { name: Cow::Borrowed(argument) });
    }
    parse_rare_hello(argument, options)
}

#[cold]
fn parse_rare_hello<'a>(argument: &'a str, options: &Options) -> Result<Hello<'a>, Kind> {
    if argument.is_empty() {
        return Err(Kind::MissingArgument);
    }
    let any = options.leniency.hello_any && !argument.chars().any(|c| c.is_control() && c != '\t');
    if !any && !is_plain(argument, options) {
        return Err(Kind::ForbiddenOctet);
    }
    let name = match argument.split_once([' ', '\t']) {
        None => argument,
        Some((name, _)) if options.leniency.hello_trailing_text => name,
        Some(_) => return Err(Kind::UnexpectedArgument),
    };
    let fits = if name.starts_with('[') {
        parse_literal(name, options.leniency.general_literals).is_ok()
    } else {
        is_domain(name, options.leniency.hello_underscore)
    };
    if fits || any { Ok(Hello { name: Cow::Borrowed(name) }) } else { Err(Kind::Hello) }
}

/// `VRFY` and `EXPN` may have `SMTPUTF8` behind their argument (RFC 6531 3.7.4.2), and UTF-8 in it only then.
fn with_smtputf8<'a>(argument: &'a str, plain: bool, options: &Options) -> Result<(Cow<'a, str>, bool), Kind> {
    let flagged = argument.rsplit_once(' ').filter(|(_, flag)| flag.eq_ignore_ascii_case("SMTPUTF8"));
    match flagged {
        Some(_) if !options.smtputf8 => Err(Kind::UnexpectedArgument),
        Some((argument, _)) => Ok((Cow::Borrowed(argument.trim_end_matches([' ', '\t'])), true)),
        None if !plain => Err(Kind::NeedsSmtputf8),
        None => Ok((Cow::Borrowed(argument), false)),
    }
}

/// ```abnf
/// auth-command = "AUTH" SP sasl-mech [SP initial-response] CRLF    ; RFC 4954 8
/// sasl-mech = 1*20mech-char    mech-char = %x41-5A / DIGIT / HYPHEN / UNDERSCORE
/// ```
fn parse_auth<'a>(argument: &'a str, options: &Options) -> Result<Command<'a>, Kind> {
    let (mechanism, initial) = first_word(argument, options)?;
    let initial = (!initial.is_empty()).then_some(initial);
    if !is_mechanism(mechanism) {
        return Err(Kind::Mechanism);
    }
    if initial.is_some_and(|initial| initial.contains([' ', '\t'])) {
        return Err(Kind::InitialResponse);
    }
    let initial = initial.map(|initial| Secret(Cow::Borrowed(initial.as_bytes())));
    Ok(Command::Auth { mechanism: Cow::Borrowed(mechanism), initial })
}

/// Whether `name` is one that a SASL mechanism may have, in any case (RFC 4422 3.1).
#[must_use]
pub fn is_mechanism(name: &str) -> bool {
    let mech_char = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    (1..=MAX_MECHANISM).contains(&name.len()) && name.bytes().all(mech_char)
}

/// ```abnf
/// bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF      ; RFC 3030 2
/// chunk-size = 1*DIGIT    end-marker = "LAST"
/// ```
/// Octets and not text, since whatever comes behind the size the size counts.
fn parse_bdat(rest: &[u8], options: &Options) -> Result<(u64, bool), Kind> {
    let space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let before = rest.iter().take_while(|&octet| space(octet)).count();
    let spaced = before == 1 && rest.starts_with(b" ");
    let rest = &rest[before..];
    let digits = rest.iter().position(space).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(digits);
    if digits.is_empty() {
        return Err(Kind::BdatSize);
    }
    let size = digits.iter().try_fold(0u64, |size, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        size.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    let size = size.ok_or(Kind::BdatSize)?;
    let between = rest.iter().take_while(|&octet| space(octet)).count();
    let word = rest[between..].split(space).next().unwrap_or_default();
    let last = word.eq_ignore_ascii_case(b"LAST");
    // White space that is not one SP is as wrong as elsewhere, but does not hide the size.
    let spaced = options.leniency.extra_space || (spaced && between <= 1 && !rest.starts_with(b"\t"));
    let complete = rest.is_empty() || (last && between + word.len() == rest.len());
    if complete && spaced { Ok((size, last)) } else { Err(Kind::BdatTrailing { size, last }) }
}
