//! The table of the replies that a server makes by itself, and their texts.

use super::settings::ServerSettings;
use crate::syntax::reply::{MAX_LINE, Reply, ReplyError};

/// A reply that the engine makes by itself. It is the index of a row below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Canned(usize);

impl Canned {
    /// Whether it is a 4yz or 5yz. No text of a program changes the code.
    pub(super) fn is_refusal(self) -> bool {
        ROWS.get(self.0).is_some_and(|(_, status, _)| is_refusal(status))
    }
}

/// One row for each reply: its constant, its name in `ServerSettings::texts`, code and enhanced code, and the text. `{}` is our
/// own name: a reply that closes begins with it (RFC 5321 4.2: 421, 221), and so does the greeting.
macro_rules! canned {
    ($($CONSTANT:ident: $name:literal, $status:literal, $text:literal;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Row { $($CONSTANT),+ }

        $( pub(super) const $CONSTANT: Canned = Canned(Row::$CONSTANT as usize); )+

        const ROWS: &[(&str, &str, &str)] = &[$(($name, $status, $text)),+];
    };
}

canned! {
    GREETING: "greeting", "220 {} ", "ESMTP";
    OK: "ok", "250 2.0.0 ", "OK";
    SENDER_OK: "sender_ok", "250 2.1.0 ", "OK";
    RECIPIENT_OK: "recipient_ok", "250 2.1.5 ", "OK";
    START_CONTENT: "start_content", "354 ", "End data with <CRLF>.<CRLF>";
    START_TLS: "start_tls", "220 2.0.0 ", "Ready to start TLS";
    AUTHENTICATED: "authenticated", "235 2.7.0 ", "Authentication succeeded";
    BYE: "bye", "221 2.0.0 ", "Bye";
    NOT_VERIFIED: "not_verified", "252 2.0.0 ", "Not verified here; mail for it may well be accepted";
    LINE_TOO_LONG: "line_too_long", "500 5.5.2 ", "Line too long";
    UNKNOWN_COMMAND: "unknown_command", "500 5.5.2 ", "Command not recognized";
    USE_LHLO: "use_lhlo", "500 5.5.1 ", "This is LMTP: say LHLO";
    NOT_LMTP: "not_lmtp", "500 5.5.1 ", "This is SMTP: say EHLO";
    BAD_CHUNK_SIZE: "bad_chunk_size", "501 5.5.4 ", "BDAT without a size that can be read; closing";
    BAD_HOLD: "bad_hold", "501 5.5.4 ", "Hold is longer than FUTURERELEASE allows";
    NOT_IMPLEMENTED: "not_implemented", "502 5.5.1 ", "Command not implemented";
    HELLO_FIRST: "hello_first", "503 5.5.1 ", "Say hello first";
    ALREADY_MAIL: "already_mail", "503 5.5.1 ", "A transaction is open already";
    NEED_MAIL: "need_mail", "503 5.5.1 ", "MAIL first";
    NEED_RCPT: "need_rcpt", "503 5.5.1 ", "RCPT first";
    NEED_BDAT: "need_bdat", "503 5.5.1 ", "BODY=BINARYMIME goes by BDAT";
    AFTER_HELO: "after_helo", "503 5.5.1 ", "Not after HELO";
    CHUNKS_BEGUN: "chunks_begun", "503 5.5.1 ", "Content has begun: BDAT or RSET";
    CHUNK_FAILED: "chunk_failed", "503 5.5.1 ", "An earlier chunk failed: RSET";
    IN_TRANSACTION: "in_transaction", "503 5.5.1 ", "Not in a transaction";
    NO_SERVICE: "no_service", "503 5.5.1 ", "No service here: QUIT";
    IN_TLS: "in_tls", "503 5.5.1 ", "TLS is active already";
    IN_AUTH: "in_auth", "503 5.5.1 ", "Already authenticated";
    RESPONSE_TOO_LONG: "response_too_long", "500 5.5.6 ", "Authentication exchange line is too long";
    NOT_BASE64: "not_base64", "501 5.5.2 ", "Not base64";
    CANCELLED: "cancelled", "501 5.7.0 ", "Authentication cancelled";
    NO_INITIAL: "no_initial", "501 5.7.0 ", "This mechanism has no initial response";
    NOT_OFFERED_ATTRIBUTE: "not_offered_attribute", "501 5.5.4 ", "An attribute that is not offered";
    UNKNOWN_MECHANISM: "unknown_mechanism", "504 5.5.4 ", "Mechanism not offered";
    NEED_TLS: "need_tls", "530 5.7.0 ", "STARTTLS first";
    NEED_AUTH: "need_auth", "530 5.7.0 ", "Authentication required";
    MECHANISM_NEEDS_TLS: "mechanism_needs_tls", "538 5.7.11 ", "Not without TLS";
    NOT_TRUSTED: "not_trusted", "550 5.7.0 ", "Not for this client";
    INJECTED: "injected", "554 5.5.0 ", "Octets in the clear behind STARTTLS; closing";
    TLS_TOO_WEAK: "tls_too_weak", "554 5.7.0 ", "This TLS is too weak";
    SINGLE_LABEL_SENDER: "single_label_sender", "554 5.1.8 ", "The domain is not fully qualified";
    SINGLE_LABEL_RECIPIENT: "single_label_recipient", "554 5.1.2 ", "The domain is not fully qualified";
    TOO_MANY_RECIPIENTS: "too_many_recipients", "452 4.5.3 ", "Too many recipients";
    TOO_BIG: "too_big", "552 5.3.4 ", "Message is too big";
    UTF8_RECIPIENT: "utf8_recipient", "553 5.6.7 ", "MAIL had no SMTPUTF8";
    NO_VALID_RECIPIENTS: "no_valid_recipients", "554 5.5.1 ", "No valid recipients";
    BY_TOO_SOON: "by_too_soon", "555 5.5.4 ", "BY is below the minimum of DELIVERBY";
    BARE_NEWLINE: "bare_newline", "550 5.5.2 ", "Content has a bare CR or LF";
    NUL_OCTET: "nul_octet", "550 5.6.0 ", "Content has a NUL octet";
    LONG_LINE: "long_line", "554 5.6.0 ", "Content has a line of more than 1000 octets";
    UNDECLARED_8BIT: "undeclared_8bit", "554 5.6.1 ", "8-bit content without BODY=8BITMIME";
    BDAT_TRAILING: "bdat_trailing", "501 5.5.4 ", "BDAT takes a size and LAST";
    SHUTDOWN: "shutdown", "421 4.3.2 {} ", "Service shutting down";
    TIMEOUT: "timeout", "421 4.4.2 {} ", "Timeout";
    TIMEOUT_BARE_LF: "timeout_bare_lf", "421 4.4.2 {} ", "Timeout; the last line ended in a bare LF, not in CRLF";
    TOO_MANY_AUTH_FAILURES: "too_many_auth_failures", "421 4.7.0 {} ", "Too many failed authentications";
    TOO_MANY_COMMANDS: "too_many_commands", "421 4.7.0 {} ", "Too many commands";
    TOO_MANY_ERRORS: "too_many_errors", "421 4.7.0 {} ", "Too many errors";
    TOO_MANY_MESSAGES: "too_many_messages", "421 4.7.0 {} ", "Too many messages in one session";
    TOO_MANY_REFUSED: "too_many_refused_recipients", "421 4.7.0 {} ", "Too many refused recipients";
    WRONG_PROTOCOL: "wrong_protocol", "421 4.7.0 {} ", "This port speaks SMTP";
}

/// Whether a line of a reply has a code 4yz or 5yz.
pub(super) fn is_refusal(line: &str) -> bool {
    matches!(line.as_bytes().first(), Some(b'4' | b'5'))
}

/// The reply that is one line, with its CRLF.
pub(super) fn reply_of(line: &str) -> Result<Reply, ReplyError> {
    Reply::parse_text(line.trim_ascii_end())
}

/// Why a text is none for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// No reply has this name.
    Name,
    /// It holds CR, LF or another octet that is not printable ASCII, or it is empty.
    Octets,
    /// The line would have more than 512 octets (RFC 5321 4.5.3.1.5).
    Length,
}

/// The names that `texts` may have.
pub(super) fn reply_names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(name, ..)| *name)
}

/// The replies of one server as they are sent, in the order of the table.
#[derive(Clone, Debug)]
pub(super) struct Replies(Vec<Box<str>>);

impl Replies {
    /// The replies with the texts of the settings. The error names the reply whose text is none.
    pub(super) fn new(settings: &ServerSettings) -> Result<Self, (String, TextError)> {
        for (name, text) in &settings.texts {
            let fault = if !ROWS.iter().any(|(known, ..)| known == name) {
                TextError::Name
            } else if text.is_empty() || !text.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~')) {
                TextError::Octets
            } else {
                continue;
            };
            return Err((name.clone(), fault));
        }
        let greeting = (!settings.greeting.is_empty()).then_some(settings.greeting.as_str());
        let replies = ROWS.iter().map(|&(name, status, text)| {
            let own = settings.texts.iter().rev().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
            let text = match (own, name) {
                (Some(own), _) => own,
                (None, "greeting") => greeting.unwrap_or(if settings.lmtp { "LMTP" } else { text }),
                (None, _) => text,
            };
            let (code, rest) = status.split_at(4);
            let (enhanced, hostname) = rest.split_at(rest.find("{}").unwrap_or(rest.len()));
            let enhanced = if settings.enhanced_status_codes { enhanced } else { "" };
            let line = format!("{code}{enhanced}{}{text}\r\n", hostname.replace("{}", &settings.hostname));
            let too_long = own.is_some() && line.len() > MAX_LINE;
            if too_long { Err((name.to_owned(), TextError::Length)) } else { Ok(line.into_boxed_str()) }
        });
        replies.collect::<Result<_, _>>().map(Self)
    }

    /// The octets of a reply, with its CRLF.
    pub(super) fn line(&self, reply: Canned) -> &str {
        self.0.get(reply.0).map_or("", |line| line)
    }

    /// The same as a reply.
    pub(super) fn reply(&self, reply: Canned) -> Result<Reply, ReplyError> {
        reply_of(self.line(reply))
    }
}
