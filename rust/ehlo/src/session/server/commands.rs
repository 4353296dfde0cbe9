//! Commands: one `match` over the state and the command says what happens.
//!
//! A command that the program decides about becomes an event, and the session waits in `State::Deciding`. Every other command
//! is answered here.

use std::mem;
use std::sync::Arc;

use super::ServerConnection;
use super::decisions::Spoken;
use super::event::{Abort, ServerDisconnect, ServerEvent};
use super::replies::{
    AFTER_HELO, ALREADY_MAIL, BAD_CHUNK_SIZE, BAD_HOLD, BDAT_TRAILING, BY_TOO_SOON, BYE, CANCELLED, CHUNK_FAILED,
    CHUNKS_BEGUN, Canned, HELLO_FIRST, IN_AUTH, IN_TLS, IN_TRANSACTION, MECHANISM_NEEDS_TLS, NEED_AUTH, NEED_MAIL,
    NEED_RCPT, NEED_TLS, NO_INITIAL, NO_VALID_RECIPIENTS, NOT_BASE64, NOT_IMPLEMENTED, NOT_LMTP, NOT_OFFERED_ATTRIBUTE,
    NOT_TRUSTED, NOT_VERIFIED, OK, RECIPIENT_OK, SENDER_OK, SINGLE_LABEL_RECIPIENT, SINGLE_LABEL_SENDER, TOO_BIG,
    TOO_MANY_COMMANDS, TOO_MANY_MESSAGES, TOO_MANY_RECIPIENTS, UNKNOWN_COMMAND, UNKNOWN_MECHANISM, USE_LHLO,
    UTF8_RECIPIENT,
};
use super::settings::TlsMode;
use super::state::{Answer, Decision, Fallback, Learnt, State};
use super::{content::Content, transaction::Transaction};
use crate::session::envelope::{Recipient, Sender};
use crate::syntax::address::{ForwardPath, ReversePath};
use crate::syntax::command::{Command, CommandError, CommandErrorKind, Secret, Verb, parse_command};
use crate::syntax::parameter::{ByMode, Hold, MailParameters, RcptParameters};
use crate::syntax::xattr::{AttributeName, Attributes};
use crate::wire::base64;

/// The mechanisms in which the server speaks first, so that there can be no initial response (RFC 4954 4).
const SERVER_FIRST: [&str; 2] = ["CRAM-MD5", "DIGEST-MD5"];

impl<C: Content> ServerConnection<C> {
    pub(super) fn on_line(&mut self, line: &[u8]) {
        self.counts.commands += 1;
        if self.settings().max_commands.is_some_and(|limit| self.counts.commands > u64::from(limit)) {
            self.say_canned(TOO_MANY_COMMANDS);
            self.ending = Some(ServerDisconnect::Limit);
            return;
        }
        self.refusing = self.settings().decisions.refusal;
        let basic = matches!(self.learnt.hello, Some((Verb::Helo, _)));
        let keep = self.settings().decisions.refused;
        match parse_command(line, self.config.options(!basic, self.tls.is_some())) {
            Ok(command) => {
                self.refused.begin(line, command.verb(), keep);
                let state = mem::replace(&mut self.state, State::Closed);
                self.state = self.on_command(state, command);
            }
            Err(error) => {
                self.refused.begin(line, error.verb, keep);
                self.on_bad_command(&error);
            }
        }
        self.ask_refusal(line);
    }

    /// Ask the program for its words, if a command was refused and it wants to be asked.
    pub(super) fn ask_refusal(&mut self, line: &[u8]) {
        // Most commands are not refused, and most programs do not ask.
        if mem::take(&mut self.refusing)
            && let Some(reply) = self.refusal.take()
        {
            let before = Box::new(mem::replace(&mut self.state, State::Closed));
            self.events.push_back(ServerEvent::Refusal { line: line.to_vec(), reply: reply.clone() });
            self.state = State::Deciding(Decision::Refusal { reply, before });
        }
    }

    /// A command that the program may answer, before the engine does.
    fn ask_command(&mut self, verb: &str, argument: &[u8], default: Fallback, before: State<C>) -> State<C> {
        let argument = String::from_utf8_lossy(argument).into_owned();
        self.events.push_back(ServerEvent::Command { verb: verb.to_ascii_uppercase(), argument });
        State::Deciding(Decision::Command { default, before: Box::new(before) })
    }

    /// What the engine does about a command that the program had nothing to say about.
    pub(super) fn do_command(&mut self, default: Fallback, before: State<C>) -> State<C> {
        match default {
            Fallback::Help => {
                if self.count_junk() {
                    self.say_help();
                }
                before
            }
            Fallback::Noop => {
                self.answer_junk(OK);
                before
            }
            Fallback::NotImplemented => self.wrong_in(NOT_IMPLEMENTED, before),
            Fallback::Quit => self.on_quit(),
            Fallback::Rset => {
                self.reset(before);
                self.answer_junk(OK);
                State::Idle
            }
            Fallback::Unknown => self.wrong_in(UNKNOWN_COMMAND, before),
        }
    }

    /// What RSET does, without its reply.
    pub(super) fn reset(&mut self, state: State<C>) {
        self.learnt.xforward = None;
        self.drop_transaction(state);
    }

    /// The state machine: what each command does in each state.
    fn on_command(&mut self, state: State<C>, command: Command<'_>) -> State<C> {
        let lmtp = self.settings().lmtp;
        if let Some(answer) = self.barred(&state, command.verb()) {
            return match command {
                Command::Bdat { size, last } => self.fail_chunk(state, size, last, Answer::Canned(answer)),
                _ => self.wrong_in(answer, state),
            };
        }
        let ask = self.settings().decisions.command;
        match (state, command) {
            (state, Command::Quit) if ask => self.ask_command("QUIT", b"", Fallback::Quit, state),
            (state, Command::Rset) if ask => self.ask_command("RSET", b"", Fallback::Rset, state),
            (state, Command::Noop(text)) if ask => self.ask_command("NOOP", &text, Fallback::Noop, state),
            (state, Command::Help(topic)) if ask => {
                let default = if self.settings().help { Fallback::Help } else { Fallback::NotImplemented };
                self.ask_command("HELP", topic.as_bytes(), default, state)
            }
            (state, Command::Unknown { verb, argument }) if ask && !is_http(&verb, &argument) => {
                self.ask_command(&String::from_utf8_lossy(&verb), &argument, Fallback::Unknown, state)
            }
            (_, Command::Quit) => self.on_quit(),

            (state, Command::Ehlo(_) | Command::Helo(_)) if lmtp => self.wrong_in(USE_LHLO, state),
            (state, Command::Lhlo(_)) if !lmtp => self.wrong_in(NOT_LMTP, state),
            (state, Command::Ehlo(hello)) => self.on_hello(state, Verb::Ehlo, hello.name.into_owned()),
            (state, Command::Helo(hello)) => self.on_hello(state, Verb::Helo, hello.name.into_owned()),
            (state, Command::Lhlo(hello)) => self.on_hello(state, Verb::Lhlo, hello.name.into_owned()),

            (State::Idle, Command::Mail { .. }) if self.learnt.hello.is_none() => {
                self.wrong_in(HELLO_FIRST, State::Idle)
            }
            (State::Idle, Command::Mail { path, parameters }) => self.on_mail(path, parameters),
            (state, Command::Mail { .. }) => self.wrong_in(ALREADY_MAIL, state),

            (State::InTransaction(transaction), Command::Rcpt { path, parameters }) => {
                self.on_rcpt(transaction, path, parameters)
            }
            (State::Idle, Command::Rcpt { .. }) => self.wrong_in(NEED_MAIL, State::Idle),
            (state, Command::Rcpt { .. }) => self.wrong_in(out_of_turn(&state), state),

            (State::InTransaction(transaction), Command::Data) => self.on_data(transaction),
            (State::Idle, Command::Data) => self.wrong_in(NEED_MAIL, State::Idle),
            (state, Command::Data) => self.wrong_in(out_of_turn(&state), state),

            (state, Command::Bdat { size, last }) => self.on_bdat(state, size, last),

            (state, Command::Rset) => self.do_command(Fallback::Rset, state),
            (state, Command::Noop(_)) => self.do_command(Fallback::Noop, state),
            (state, Command::Help(_)) if self.settings().help => self.do_command(Fallback::Help, state),
            (state, Command::Vrfy { argument, .. }) => {
                let ask = self.settings().decisions.vrfy;
                self.on_inquiry(state, ask, NOT_VERIFIED, || ServerEvent::Vrfy(argument.into_owned()))
            }
            (state, Command::Expn { argument, .. }) if self.settings().decisions.expn => {
                self.on_inquiry(state, true, NOT_VERIFIED, || ServerEvent::Expn(argument.into_owned()))
            }
            (State::Idle, Command::Etrn(argument)) if self.settings().decisions.etrn => {
                self.on_inquiry(State::Idle, true, OK, || ServerEvent::Etrn(argument.into_owned()))
            }
            (state, Command::Etrn(_)) if self.settings().decisions.etrn => self.wrong_in(IN_TRANSACTION, state),
            (state, Command::StartTls) if self.implements(Verb::StartTls) => self.on_starttls(state),
            (state, Command::Auth { mechanism, initial }) if self.implements(Verb::Auth) => {
                self.on_auth(state, &mechanism, initial.as_ref())
            }
            (state, Command::Xclient(pairs)) if self.implements(Verb::Xclient) => {
                self.on_xclient(state, Attributes::from_pairs(&pairs))
            }
            (state, Command::Xforward(pairs)) if self.implements(Verb::Xforward) => {
                self.on_xforward(state, Attributes::from_pairs(&pairs))
            }
            (state, Command::Unknown { verb, argument }) => {
                if is_http(&verb, &argument) {
                    self.turn_away();
                } else {
                    self.wrong(UNKNOWN_COMMAND);
                }
                state
            }
            (
                state,
                Command::Atrn(_)
                | Command::Auth { .. }
                | Command::Burl { .. }
                | Command::Etrn(_)
                | Command::Expn { .. }
                | Command::Help(_)
                | Command::Obsolete(_)
                | Command::StartTls
                | Command::Xclient(_)
                | Command::Xforward(_),
            ) => self.wrong_in(NOT_IMPLEMENTED, state),
        }
    }

    fn on_bad_command(&mut self, error: &CommandError) {
        let settings = self.settings();
        let barred = self.barred(&self.state, error.verb);
        match (error.verb, &error.kind, barred) {
            (Some(Verb::Bdat), CommandErrorKind::BdatSize, _) => {
                // The octets that follow cannot be told from commands any more (S-BDT-07).
                self.say_canned(BAD_CHUNK_SIZE);
                self.ending = Some(ServerDisconnect::Protocol);
            }
            (Some(Verb::Bdat), CommandErrorKind::BdatTrailing { size, last }, barred) => {
                let (size, last) = (*size, *last);
                let answer = Answer::Canned(match (barred, settings.chunking) {
                    (Some(answer), _) => answer,
                    (None, true) => BDAT_TRAILING,
                    (None, false) => NOT_IMPLEMENTED,
                });
                let state = mem::replace(&mut self.state, State::Closed);
                self.state = self.fail_chunk(state, size, last, answer);
            }
            (_, _, Some(answer)) => self.wrong(answer),
            (Some(Verb::Ehlo | Verb::Helo), ..) if settings.lmtp => self.wrong(USE_LHLO),
            (Some(Verb::Lhlo), ..) if !settings.lmtp => self.wrong(NOT_LMTP),
            (Some(verb), ..) if !self.implements(verb) => self.wrong(NOT_IMPLEMENTED),
            (Some(Verb::Xclient | Verb::Xforward), ..) if !self.is_trusted() => self.wrong(NOT_TRUSTED),
            _ => {
                let (code, enhanced, text) = error.reply();
                if self.settings().enhanced_status_codes {
                    self.wrong_line(&format!("{code} {enhanced} {text}\r\n"));
                } else {
                    self.wrong_line(&format!("{code} {text}\r\n"));
                }
            }
        }
    }

    fn implements(&self, verb: Verb) -> bool {
        let settings = self.settings();
        match verb {
            Verb::Bdat => settings.chunking,
            Verb::Etrn => settings.decisions.etrn,
            Verb::Expn => settings.decisions.expn,
            Verb::Help => settings.help,
            Verb::StartTls => settings.tls == TlsMode::StartTls || self.is_tls(),
            Verb::Auth => !settings.auth.is_empty(),
            Verb::Xclient => !settings.xclient.is_empty(),
            Verb::Xforward => !settings.xforward.is_empty(),
            Verb::Ehlo
            | Verb::Helo
            | Verb::Lhlo
            | Verb::Mail
            | Verb::Rcpt
            | Verb::Data
            | Verb::Rset
            | Verb::Noop
            | Verb::Quit
            | Verb::Vrfy => true,
            _ => false,
        }
    }

    /// The answer to a command that may not be used now (RFC 3207 4, RFC 4954 6, RFC 5321 3.1).
    fn barred(&self, state: &State<C>, verb: Option<Verb>) -> Option<Canned> {
        let settings = self.settings();
        match (state, verb) {
            (_, Some(Verb::Quit)) => None,
            (State::Refused(why), _) => Some(*why),
            (_, None | Some(Verb::Ehlo | Verb::Lhlo | Verb::Noop | Verb::StartTls)) => None,
            _ if settings.require_tls && self.tls.is_none() => Some(NEED_TLS),
            _ if !settings.require_auth && !settings.submission => None,
            (_, Some(Verb::Auth | Verb::Helo | Verb::Rset)) => None,
            // A proxy that is trusted says by it who has authenticated.
            (_, Some(Verb::Xclient)) if self.is_trusted() => None,
            _ => self.learnt.identity.is_none().then_some(NEED_AUTH),
        }
    }

    /// The answer to a command that needs EHLO before it and no open transaction, if one of the two is missing.
    fn needs_ehlo(&self, state: &State<C>) -> Option<Canned> {
        match (state, &self.learnt.hello) {
            (_, None) => Some(HELLO_FIRST),
            (_, Some((Verb::Helo, _))) => Some(AFTER_HELO),
            (State::Idle, _) => None,
            _ => Some(IN_TRANSACTION),
        }
    }

    fn on_starttls(&mut self, state: State<C>) -> State<C> {
        if self.is_tls() {
            return self.wrong_in(IN_TLS, state); // No STARTTLS inside TLS (S-TLS-07).
        }
        if let Some(answer) = self.needs_ehlo(&state) {
            return self.wrong_in(answer, state);
        }
        self.events.push_back(ServerEvent::StartTls);
        State::Deciding(Decision::StartTls)
    }

    fn on_auth(&mut self, state: State<C>, mechanism: &str, initial: Option<&Secret<'_>>) -> State<C> {
        if self.learnt.identity.is_some() {
            return self.wrong_in(IN_AUTH, state); // AUTH succeeds once in a session (S-AUT-03).
        }
        if let Some(answer) = self.needs_ehlo(&state) {
            return self.wrong_in(answer, state);
        }
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.config.offers_mechanism(&mechanism, self.tls) {
            let known = self.settings().auth.contains(&mechanism);
            let needs_tls = known && self.tls.is_none() && self.settings().tls != TlsMode::Off;
            return self.wrong_in(if needs_tls { MECHANISM_NEEDS_TLS } else { UNKNOWN_MECHANISM }, state);
        }
        let initial = match initial {
            None => None,
            Some(_) if SERVER_FIRST.contains(&mechanism.as_str()) => return self.wrong_in(NO_INITIAL, state),
            // `=` is an empty response, which is not the same as none (S-AUT-08).
            Some(octets) if **octets == *b"=" => Some(Vec::new()),
            Some(octets) => match base64::decode(octets) {
                Ok(octets) => Some(octets),
                Err(_) => return self.wrong_in(NOT_BASE64, state),
            },
        };
        self.events.push_back(ServerEvent::Auth { mechanism, initial: initial.map(|octets| Secret(octets.into())) });
        State::Deciding(Decision::Auth)
    }

    /// A line inside AUTH (RFC 4954 4).
    pub(super) fn on_response(&mut self, line: &[u8]) -> State<C> {
        // White space at the end of a line is forgiven, as in commands (RFC 5321 4.1.1).
        let line = line.trim_ascii_end();
        if line == b"*" {
            return self.auth_given_up(CANCELLED);
        }
        match base64::decode(line) {
            Ok(octets) => {
                self.events.push_back(ServerEvent::AuthResponse(Secret(octets.into())));
                State::Deciding(Decision::Auth)
            }
            Err(_) => self.auth_given_up(NOT_BASE64),
        }
    }

    fn on_xclient(&mut self, state: State<C>, said: Attributes) -> State<C> {
        if let Some(answer) = self.refuses_attributes(&state, &said, &self.settings().xclient) {
            return self.wrong_in(answer, state);
        }
        let trusted = if said.get(AttributeName::Addr).is_some() { Some(false) } else { self.learnt.trusted };
        let attributes = updated(self.learnt.xclient.take(), said);
        let identity = attributes.text(AttributeName::Login).map(Box::from);
        let attributes = Arc::new(attributes);
        self.learnt = Learnt { identity, xclient: Some(Arc::clone(&attributes)), trusted, ..Learnt::default() };
        self.events.push_back(ServerEvent::Xclient(attributes));
        self.begin_greeting()
    }

    fn on_xforward(&mut self, state: State<C>, said: Attributes) -> State<C> {
        if let Some(answer) = self.refuses_attributes(&state, &said, &self.settings().xforward) {
            return self.wrong_in(answer, state);
        }
        self.learnt.xforward = Some(Arc::new(updated(self.learnt.xforward.take(), said)));
        self.say_canned(OK);
        state
    }

    /// The answer to an XCLIENT or XFORWARD that is refused.
    fn refuses_attributes(&self, state: &State<C>, said: &Attributes, offered: &[AttributeName]) -> Option<Canned> {
        if !self.is_trusted() {
            Some(NOT_TRUSTED)
        } else if !matches!(state, State::Idle) {
            Some(IN_TRANSACTION)
        } else if !said.iter().all(|(name, _)| offered.contains(&name)) {
            Some(NOT_OFFERED_ATTRIBUTE)
        } else {
            None
        }
    }

    fn on_quit(&mut self) -> State<C> {
        self.say_canned(BYE);
        self.ending = Some(ServerDisconnect::Quit);
        State::Idle
    }

    fn on_hello(&mut self, before: State<C>, verb: Verb, name: String) -> State<C> {
        if self.learnt.hello.is_some() && !self.count_junk() {
            return before;
        }
        if self.settings().decisions.hello {
            self.events.push_back(ServerEvent::Hello { verb, name: name.clone() });
            return State::Deciding(Decision::Hello { verb, name, before: Box::new(before) });
        }
        self.hello_accepted(before, verb, name, Spoken::Nothing)
    }

    /// A reply of the program's own takes the place of ours: for HELO any, for EHLO one that has its keywords, too.
    pub(super) fn hello_accepted(
        &mut self,
        before: State<C>,
        verb: Verb,
        name: String,
        spoken: Spoken<'_>,
    ) -> State<C> {
        self.drop_transaction(before);
        let trusted = self.is_trusted();
        let Self { config, output, tls, .. } = self;
        let hostname = config.settings().hostname.as_str();
        if let Spoken::Raw { octets, .. } = spoken {
            output.extend_from_slice(octets);
        } else if let Spoken::Reply(reply) = spoken
            && (verb == Verb::Helo || reply.lines().nth(1).is_some())
        {
            reply.clone().without_enhanced().write(output);
        } else if verb == Verb::Helo {
            push(output, &["250 ", hostname, "\r\n"]);
        } else {
            let mut lines = std::iter::once(hostname).chain(config.keywords(*tls, trusted)).peekable();
            while let Some(line) = lines.next() {
                push(output, &[if lines.peek().is_some() { "250-" } else { "250 " }, line, "\r\n"]);
            }
        }
        self.learnt.hello = Some((verb, name.into()));
        self.learnt.xforward = None;
        State::Idle
    }

    /// What RSET does (RFC 5321 4.1.1.5), without its reply.
    fn drop_transaction(&mut self, state: State<C>) {
        match state {
            State::NextChunk { mut incoming, .. } => self.abort(&mut incoming, Abort::Reset),
            State::InTransaction(_) | State::Failed { .. } => {}
            _ => return,
        }
        if self.settings().decisions.reset {
            self.events.push_back(ServerEvent::Reset);
        }
    }

    fn on_mail(&mut self, path: ReversePath<'_>, parameters: MailParameters<'_>) -> State<C> {
        let settings = self.settings();
        if settings.max_messages.is_some_and(|limit| self.counts.transactions >= u64::from(limit)) {
            self.say_canned(TOO_MANY_MESSAGES);
            self.ending = Some(ServerDisconnect::Limit);
            return State::Idle;
        }
        if let (Some(limit), Some(size)) = (settings.max_message_size, parameters.size)
            && size > limit
        {
            self.refuse_for_limit(TOO_BIG);
            return State::Idle;
        }
        if let ReversePath::Address(address) = &path
            && !self.is_qualified(address.domain())
        {
            return self.wrong_in(SINGLE_LABEL_SENDER, State::Idle);
        }
        if let (Some(Some(minimum)), Some(by)) = (settings.deliver_by, &parameters.by)
            && by.mode == ByMode::Return
            && i64::from(by.seconds) < i64::from(minimum)
        {
            return self.wrong_in(BY_TOO_SOON, State::Idle);
        }
        if let (Some(limits), Some(hold)) = (&settings.future_release, &parameters.hold) {
            let too_long = match hold {
                Hold::For(seconds) => *seconds > limits.max_seconds,
                Hold::Until(until) => until.unix_seconds() > limits.max_until.unix_seconds(),
            };
            if too_long {
                return self.wrong_in(BAD_HOLD, State::Idle);
            }
        }
        let sender = Arc::new(Sender { path: path.into_owned(), parameters: parameters.into_owned() });
        if self.settings().decisions.mail {
            self.events.push_back(ServerEvent::Mail(Arc::clone(&sender)));
            return State::Deciding(Decision::Mail(sender));
        }
        self.say_canned(SENDER_OK);
        self.mail_accepted(sender)
    }

    pub(super) fn mail_accepted(&mut self, sender: Arc<Sender>) -> State<C> {
        self.counts.transactions += 1;
        // XFORWARD's data end with the transaction, as they live in it (S-PXY-19).
        State::InTransaction(Box::new(Transaction::new(sender, self.learnt.xforward.take())))
    }

    /// Submission takes fully qualified domains, address literals, and the single labels it is told of (RFC 6409 4.2).
    fn is_qualified(&self, domain: &str) -> bool {
        let settings = self.settings();
        !settings.submission
            || domain.contains('.')
            || domain.starts_with('[')
            || settings.single_labels.iter().any(|label| label.eq_ignore_ascii_case(domain))
    }

    fn on_rcpt(
        &mut self,
        mut transaction: Box<Transaction>,
        path: ForwardPath<'_>,
        parameters: RcptParameters<'_>,
    ) -> State<C> {
        if let ForwardPath::Address(address) = &path
            && !address.is_ascii()
            && !transaction.envelope.smtputf8()
        {
            return self.wrong_in(UTF8_RECIPIENT, State::InTransaction(transaction));
        }
        if let ForwardPath::Address(address) = &path
            && !self.is_qualified(address.domain())
        {
            return self.wrong_in(SINGLE_LABEL_RECIPIENT, State::InTransaction(transaction));
        }
        if transaction.envelope.recipients.len() >= self.settings().max_recipients {
            self.refuse_for_limit(TOO_MANY_RECIPIENTS);
            return State::InTransaction(transaction);
        }
        let recipient = Arc::new(Recipient { path: path.into_owned(), parameters: parameters.into_owned() });
        transaction.rcpt_seen = true;
        if self.settings().decisions.rcpt {
            self.events.push_back(ServerEvent::Rcpt(Arc::clone(&recipient)));
            return State::Deciding(Decision::Rcpt { transaction, recipient });
        }
        transaction.envelope.recipients.push(recipient);
        self.say_canned(RECIPIENT_OK);
        State::InTransaction(transaction)
    }

    /// The answer to DATA or BDAT when nobody would get the content (RFC 5321 3.3, RFC 2033 4.2).
    pub(super) fn no_recipients(&self, transaction: &Transaction) -> Option<Canned> {
        match (transaction.envelope.recipients.is_empty(), transaction.rcpt_seen, self.settings().lmtp) {
            (false, ..) => None,
            (true, true, false) => Some(NO_VALID_RECIPIENTS),
            (true, true, true) | (true, false, _) => Some(NEED_RCPT),
        }
    }

    fn on_inquiry(
        &mut self,
        state: State<C>,
        ask: bool,
        default: Canned,
        event: impl FnOnce() -> ServerEvent<C>,
    ) -> State<C> {
        if !ask {
            self.answer_junk(default);
            return state;
        }
        if !self.count_junk() {
            return state;
        }
        self.events.push_back(event());
        State::Deciding(Decision::Inquiry { default, before: Box::new(state) })
    }
}

/// What XCLIENT or XFORWARD said before, with what it says now.
fn updated(known: Option<Arc<Attributes>>, said: Attributes) -> Attributes {
    let mut all = known.map(Arc::unwrap_or_clone).unwrap_or_default();
    all.update(said);
    all
}

fn out_of_turn<C>(state: &State<C>) -> Canned {
    if matches!(state, State::Failed { .. }) { CHUNK_FAILED } else { CHUNKS_BEGUN }
}

/// A request line of HTTP: a method that it has (RFC 9110 9.3), or any line that ends in a version (RFC 9112 3).
fn is_http(verb: &[u8], argument: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];
    let versioned = matches!(argument, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    versioned || METHODS.iter().any(|method| verb.eq_ignore_ascii_case(method))
}

fn push(output: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        output.extend_from_slice(part.as_bytes());
    }
}
