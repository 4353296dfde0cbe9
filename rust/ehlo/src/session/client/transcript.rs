//! The latest lines of a session, for an error to show.

/// Octets that are kept at most.
const ROOM: usize = 16 * 1024;

/// What was said, a line each, the oldest dropped first. Never holds content or secrets: those who write it leave
/// them out.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript {
    text: String,
}

impl Transcript {
    /// Lines that went out, without the last CRLF.
    pub(super) fn sent(&mut self, lines: &[u8]) {
        self.add("C: ", lines);
    }

    /// A reply that came.
    pub(super) fn received(&mut self, lines: &[u8]) {
        self.add("S: ", lines);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    fn add(&mut self, party: &str, lines: &[u8]) {
        for line in lines.trim_ascii_end().split(|&octet| octet == b'\n') {
            let line = &line[..line.len().min(1024)];
            self.text.push_str(party);
            match str::from_utf8(line.trim_ascii_end()) {
                Ok(line) if !line.bytes().any(|octet| octet.is_ascii_control()) => self.text.push_str(line),
                // What goes to a log is escaped.
                _ => self.text.push_str(&line.trim_ascii_end().escape_ascii().to_string()),
            }
            self.text.push('\n');
        }
        if self.text.len() > ROOM {
            let middle = self.text.len() - ROOM / 2;
            let cut = self.text.as_bytes()[middle..].iter().position(|&octet| octet == b'\n');
            // Behind an LF a character begins.
            drop(self.text.drain(..cut.map_or(self.text.len(), |cut| middle + cut + 1)));
        }
    }
}
