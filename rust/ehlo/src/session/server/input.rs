//! Input: octets become lines, chunks, content, or a PROXY header.
//!
//! The state says how the next octets are read. The loop stops when the input is used up, when an event is there, and when
//! the program has a decision to take. The rest of the input stays in the buffer.

use std::mem;
use std::sync::Arc;

use super::event::{Abort, ServerDisconnect, ServerEvent};
use super::replies::{LINE_TOO_LONG, RESPONSE_TOO_LONG};
use super::state::{Decision, State};
use super::{KEEP_CAPACITY, ServerConnection, content::Content};
use crate::wire::line::Scan;
use crate::wire::proxy::ProxyHeader;

impl<C: Content> ServerConnection<C> {
    pub(super) fn advance_buffered(&mut self) {
        // Without input nothing goes on but a chunk that is complete.
        if self.buffered() > 0 || matches!(self.state, State::InChunk { .. } | State::Draining { .. }) {
            let input = mem::take(&mut self.input);
            let used = self.advance(&input[self.head..]);
            // A session that closed meanwhile has given up its input.
            if !matches!(self.state, State::Closed) {
                self.head += used;
                self.input = input;
                if self.head == self.input.len() {
                    self.release_input();
                }
            }
        }
        if self.eof && self.events.is_empty() && !matches!(self.state, State::Closed | State::Deciding(_)) {
            self.finish(ServerDisconnect::Eof);
        }
    }

    pub(super) fn release_input(&mut self) {
        self.head = 0;
        if self.input.capacity() > KEEP_CAPACITY {
            self.input = Vec::new();
        } else {
            self.input.clear();
        }
    }

    /// Work on `input` until it is used up, an event is there or a decision is open. Gives the octets used.
    pub(super) fn advance(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while self.events.is_empty() {
            let rest = &input[used..];
            match mem::replace(&mut self.state, State::Closed) {
                state @ (State::Closed | State::Deciding(_) | State::Handshake(_)) => {
                    self.state = state;
                    break;
                }
                State::InData { incoming, decoder } => {
                    if rest.is_empty() {
                        self.state = State::InData { incoming, decoder };
                        break;
                    }
                    used += self.read_data(incoming, decoder, rest);
                }
                State::InChunk { incoming, reader, mut chunk, last } => {
                    let octets = chunk.take(rest);
                    if octets.is_empty() && !chunk.done() {
                        self.state = State::InChunk { incoming, reader, chunk, last };
                        break;
                    }
                    used += octets.len();
                    self.read_chunk(incoming, reader, chunk, last, octets);
                }
                State::Draining { mut chunk, answer, then } => {
                    let octets = chunk.take(rest).len();
                    if octets == 0 && !chunk.done() {
                        self.state = State::Draining { chunk, answer, then };
                        break;
                    }
                    used += octets;
                    if chunk.done() {
                        self.state = *then;
                        self.say_answer(&answer);
                    } else {
                        self.state = State::Draining { chunk, answer, then };
                    }
                }
                State::Proxy => match ProxyHeader::parse(rest) {
                    Ok(Some((header, length))) => {
                        used += length;
                        self.proxy_octets = rest[..length].to_vec();
                        let header = Arc::new(header);
                        self.proxy = Some(Arc::clone(&header));
                        self.events.push_back(ServerEvent::Proxy(header));
                        self.state = State::Deciding(Decision::Proxy);
                    }
                    Ok(None) => {
                        self.state = State::Proxy;
                        break;
                    }
                    // It is no header: close, and say nothing (S-PXY-01).
                    Err(_) => {
                        self.proxy_octets = ProxyHeader::wrong_start(rest).to_vec();
                        self.events.push_back(ServerEvent::BadProxy(self.proxy_octets.clone()));
                        self.ending = Some(ServerDisconnect::Protocol);
                        self.state = State::Proxy;
                    }
                },
                State::Authenticating => {
                    self.state = State::Authenticating;
                    let limit = self.config.settings().max_auth_response.saturating_add(2);
                    match self.scanner.scan(rest, limit, self.config.line_ends()) {
                        Scan::Line { line, consumed } => {
                            used += consumed;
                            self.state = self.on_response(line);
                        }
                        Scan::TooLong { consumed } => {
                            used += consumed;
                            self.state = self.auth_given_up(RESPONSE_TOO_LONG);
                        }
                        Scan::Partial { discard } => {
                            used += discard;
                            break;
                        }
                    }
                }
                state => {
                    self.state = state;
                    if self.looks_like_tls(rest) {
                        self.turn_away();
                        self.settle();
                        break;
                    }
                    match self.scanner.scan(rest, self.config.settings().max_command_line, self.config.line_ends()) {
                        Scan::Line { line, consumed } => {
                            used += consumed;
                            self.on_line(line);
                        }
                        Scan::TooLong { consumed } => {
                            used += consumed;
                            self.counts.commands += 1;
                            self.refusing = self.settings().decisions.refusal;
                            self.refused.begin(b"", None, false);
                            self.wrong(LINE_TOO_LONG);
                            self.ask_refusal(b"");
                        }
                        Scan::Partial { discard } => {
                            used += discard;
                            break;
                        }
                    }
                }
            }
            self.settle();
        }
        used
    }

    /// Tell what the last step refused, and end the session if it asked for that.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.has_refused() {
            self.tell_refused();
        }
        if self.ending.is_some() || self.leaving.is_some() {
            self.end();
        }
    }

    /// End the session, if this is the time.
    fn end(&mut self) {
        if let Some(reason) = self.ending.take() {
            self.finish(reason);
        } else if matches!(self.state, State::Authenticating | State::Idle | State::Refused(_))
            && let Some(reply) = self.leaving.take()
        {
            self.write_reply(&reply);
            self.finish(ServerDisconnect::Shutdown);
        }
    }

    pub(super) fn finish(&mut self, reason: ServerDisconnect) {
        if let State::InData { mut incoming, .. }
        | State::InChunk { mut incoming, .. }
        | State::NextChunk { mut incoming, .. } = mem::replace(&mut self.state, State::Closed)
        {
            self.abort(&mut incoming, Abort::Disconnected);
        }
        self.events.push_back(ServerEvent::Disconnect(reason));
        self.input = Vec::new();
        self.head = 0;
    }
}
