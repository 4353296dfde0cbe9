//! The transcript: the latest lines of a session. An error shows them.

use std::fmt::Write as _;

use crate::syntax::reply::Reply;

/// Octets that are kept at most.
const ROOM: usize = 16 * 1024;
/// Octets that are kept of one line.
const LINE: usize = 1024;

/// What was said, a line each, the oldest dropped first. Never holds content or secrets: those who write it leave
/// them out. Octets are kept as they came, and made safe to show when somebody looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript {
    octets: Vec<u8>,
}

impl Transcript {
    /// A command that went out, with or without its CRLF.
    pub(super) fn sent(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        self.octets.extend_from_slice(b"C: ");
        self.octets.extend_from_slice(&line[..line.len().min(LINE)]);
        self.octets.push(b'\n');
        self.forget();
    }

    /// A reply that came.
    pub(super) fn received(&mut self, reply: &Reply) {
        reply.write_for_log("S: ", LINE, &mut self.octets);
        self.forget();
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(self.octets.len());
        for chunk in self.octets.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\n' => text.push('\n'),
                    // What goes to a log is escaped.
                    control if control.is_control() => text.extend(control.escape_default()),
                    other => text.push(other),
                }
            }
            for octet in chunk.invalid() {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{octet:02x}");
            }
        }
        text
    }

    pub(super) fn take(&mut self) -> String {
        let text = self.text();
        self.octets.clear();
        text
    }

    /// Drops the older half when there is too much.
    fn forget(&mut self) {
        if self.octets.len() > ROOM {
            let middle = self.octets.len() - ROOM / 2;
            let cut = memchr::memchr(b'\n', &self.octets[middle..]).map_or(self.octets.len(), |at| middle + at + 1);
            self.octets.drain(..cut);
        }
    }
}
