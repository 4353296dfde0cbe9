//! Content is taken out of its dot-stuffed form.

use crate::wire::content::{BareNewlines, ContentFlags, Measuring, Passage, Ruler, Sink};
use crate::wire::scan::{Judge, walk};

/// What one call of [`DotDecoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Octets of the input that were content or its end. All of them, unless `done`.
    pub consumed: usize,
    /// The end of the data has come; what follows in the input are commands.
    pub done: bool,
}

/// Takes content out of its dot-stuffed form (RFC 5321 4.5.2) and finds its end (RFC 5321 4.1.1.4).
///
/// It starts at the start of a line, where the CRLF of DATA left it. The end is CRLF `.` CRLF and nothing else, under
/// every policy: all decisions about dots are taken on the octets as they came.
///
/// ```
/// # use ehlo::wire::{content::BareNewlines, dot::DotDecoder};
/// let (mut decoder, mut content) = (DotDecoder::new(BareNewlines::Reject), Vec::new());
/// let decoded = decoder.decode(b"a\r\n..b\r\n.\r\nQUIT\r\n", &mut content);
/// assert_eq!((&content[..], decoded.consumed, decoded.done), (&b"a\r\n.b\r\n"[..], 11, true));
/// assert!(!decoder.flags().bare());
/// ```
#[derive(Clone, Debug, Default)]
pub struct DotDecoder {
    policy: BareNewlines,
    state: State,
    flags: ContentFlags,
    ruler: Ruler,
    octets: u64,
}

/// What the octets so far leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Behind DATA's own CRLF or one of the content.
    #[default]
    LineStart,
    Middle,
    /// Behind a CR, which is in the sink.
    Cr,
    /// Behind a dot at the start of a line, which is never content.
    Dot,
    /// Behind such a dot and a CR, which is content only if no LF follows.
    DotCr,
    Done,
}

impl DotDecoder {
    /// A decoder at the start of the content.
    #[must_use]
    pub fn new(policy: BareNewlines) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Reads the next octets and puts the content among them into the sink.
    #[must_use]
    pub fn decode(&mut self, input: &[u8], sink: &mut impl Sink) -> Decoded {
        if self.state == State::Done {
            return Decoded { consumed: 0, done: true };
        }
        let Some((&first, &last)) = input.first().zip(input.last()) else {
            return Decoded { consumed: 0, done: false };
        };
        match (self.state, first) {
            (State::Dot, b'\r') => {
                self.state = State::DotCr;
                let Decoded { consumed, done } = self.decode(&input[1..], sink);
                return Decoded { consumed: consumed + 1, done };
            }
            (State::DotCr, b'\n') => {
                self.state = State::Done;
                return Decoded { consumed: 1, done: true };
            }
            (State::DotCr, _) => {
                self.flags.bare_cr = true;
                self.octets += 1;
                let cr: &[u8] = if self.policy == BareNewlines::Normalize { b"\r\n" } else { b"\r" };
                self.ruler.measure(cr);
                sink.put(cr);
            }
            _ => {}
        }
        let before = match self.state {
            State::LineStart => b'\n',
            State::Cr => b'\r',
            _ => 0,
        };
        let look = self.flags.look();
        let measuring = Measuring::new(input);
        let passage = Passage::new(input, sink);
        let mut pass = Pass { decoder: self, input, passage, measuring, after_bare_lf: None, stop: None };
        let kinds = walk(input, before, look, &mut pass);
        if pass.stop.is_none() {
            pass.passage.up_to(input.len());
            pass.measuring.up_to(input.len(), &mut pass.decoder.ruler);
        }
        let (after_bare_lf, stop, passed) = (pass.after_bare_lf, pass.stop, pass.passage.passed);
        self.octets += passed;
        self.flags.add(kinds);
        self.state = stop.map_or_else(
            || match last {
                b'\r' => State::Cr,
                b'\n' if after_bare_lf != Some(input.len()) => State::LineStart,
                _ => State::Middle,
            },
            |stop| stop.state,
        );
        Decoded { consumed: stop.map_or(input.len(), |stop| stop.consumed), done: self.state == State::Done }
    }

    /// Octets of content so far: unstuffed, with every CRLF, without the line of the dot (RFC 1870 5), and before any
    /// normalising.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// What was found in the content so far.
    #[must_use]
    pub fn flags(&self) -> ContentFlags {
        ContentFlags { long_line: self.ruler.long, ..self.flags }
    }
}

/// Where and how a pass stopped before the end of its input was looked at.
#[derive(Clone, Copy)]
struct Stop {
    consumed: usize,
    state: State,
}

struct Pass<'a, S> {
    decoder: &'a mut DotDecoder,
    input: &'a [u8],
    passage: Passage<'a, S>,
    measuring: Measuring<'a>,
    /// The octet behind the last bare LF of this input.
    after_bare_lf: Option<usize>,
    stop: Option<Stop>,
}

impl<S: Sink> Pass<'_, S> {
    fn dot(&mut self, at: usize) -> bool {
        self.passage.up_to(at);
        self.measuring.up_to(at, &mut self.decoder.ruler);
        let all = self.input.len();
        self.stop = match &self.input[at + 1..] {
            [] => Some(Stop { consumed: all, state: State::Dot }),
            [b'\r'] => Some(Stop { consumed: all, state: State::DotCr }),
            [b'\r', b'\n', ..] => Some(Stop { consumed: at + 3, state: State::Done }),
            _ => None,
        };
        self.passage.skip(at + 1);
        self.measuring.skip(at + 1);
        self.stop.is_some()
    }
}

impl<S: Sink> Judge for Pass<'_, S> {
    fn clean(&mut self, from: usize, at: usize, dense: bool) {
        self.measuring.clean(from, at, dense, &mut self.decoder.ruler);
        self.passage.strides_up_to(at);
    }

    fn event(&mut self, at: usize) -> bool {
        // Of the three kinds of events a dot is the one whose octet and whose neighbour both tell it.
        let after_lf = if at > 0 { self.input[at - 1] == b'\n' } else { self.decoder.state == State::LineStart };
        let missing: &[u8] = match self.input[at] {
            b'\n' => {
                self.after_bare_lf = Some(at + 1);
                self.decoder.flags.bare_lf = true;
                b"\r"
            }
            b'.' if after_lf => return self.after_bare_lf != Some(at) && self.dot(at),
            _ => {
                self.decoder.flags.bare_cr = true;
                b"\n"
            }
        };
        if self.decoder.policy == BareNewlines::Normalize {
            self.passage.up_to(at);
            self.measuring.up_to(at, &mut self.decoder.ruler);
            self.decoder.ruler.measure(missing);
            self.passage.insert(missing);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Incomplete, dot_stuff, dot_unstuff};
    use super::*;

    fn unstuffed(wire: &[u8]) -> (Vec<u8>, usize) {
        let mut content = Vec::new();
        let mut decoder = DotDecoder::new(BareNewlines::Reject);
        let decoded = decoder.decode(wire, &mut content);
        assert!(decoded.done, "{:?}", wire.escape_ascii());
        assert_eq!(decoder.octets(), content.len() as u64);
        for split in 0..=wire.len() {
            let (mut decoder, mut again, mut at) = (DotDecoder::new(BareNewlines::Reject), Vec::new(), 0);
            for end in [split, wire.len()] {
                at += decoder.decode(&wire[at..end], &mut again).consumed;
            }
            assert_eq!((at, &again), (decoded.consumed, &content), "split at {split}");
        }
        (content, decoded.consumed)
    }

    // S-DAT-01, S-DAT-02
    #[test]
    fn the_end_is_crlf_dot_crlf() {
        assert_eq!(unstuffed(b"a\r\n.\r\n"), (b"a\r\n".to_vec(), 6));
        assert_eq!(unstuffed(b".\r\n"), (b"".to_vec(), 3));
        assert_eq!(unstuffed(b"\r\n.\r\n"), (b"\r\n".to_vec(), 5));
    }

    // S-DAT-03, S-DAT-05
    #[test]
    fn a_dot_at_the_start_of_a_line_is_dropped() {
        for (line, content) in
            [(&b"..\r\n"[..], &b".\r\n"[..]), (b".x\r\n", b"x\r\n"), (b"...\r\n", b"..\r\n"), (b"..a\r\n", b".a\r\n")]
        {
            assert_eq!(unstuffed(&[line, b".\r\n"].concat()).0, content);
            assert_eq!(unstuffed(&[b"a\r\n", line, b".\r\n"].concat()).0, [b"a\r\n", content].concat());
        }
    }

    // S-DAT-04
    #[test]
    fn a_dot_elsewhere_is_content() {
        assert_eq!(unstuffed(b"a.\r\n .\r\n.\r\n").0, b"a.\r\n .\r\n");
    }

    // S-DAT-07
    #[test]
    fn what_follows_the_end_is_left() {
        let (mut decoder, mut out) = (DotDecoder::default(), Vec::new());
        assert_eq!(decoder.decode(b"\x00\xff.\r\nMAIL", &mut out), Decoded { consumed: 9, done: false });
        assert_eq!(decoder.decode(b"\r\n.\r\nRC\xff\n\0", &mut out), Decoded { consumed: 5, done: true });
        assert_eq!(decoder.decode(b"PT", &mut out), Decoded { consumed: 0, done: true });
        assert_eq!(out, b"\x00\xff.\r\nMAIL\r\n");
        let (mut decoder, mut out) = (DotDecoder::default(), Vec::new());
        assert!(decoder.decode(b"a\r\n.\r\n\xff\0\n\r", &mut out).done);
        assert_eq!(decoder.flags(), ContentFlags::default(), "commands behind the end raise no flag");
    }

    // S-DAT-11, S-PAR-14
    #[test]
    fn every_octet_survives() {
        let all: Vec<u8> = (0..=255).filter(|o| !b"\r\n".contains(o)).collect();
        let wire = [&all[..], b"\r\n.\r\n"].concat();
        let unstuffed = dot_unstuff(&wire).unwrap();
        assert_eq!(unstuffed.content, [&all[..], b"\r\n"].concat());
        assert_eq!(unstuffed.flags, ContentFlags { nul: true, eight_bit: true, ..Default::default() });
    }

    // S-PAR-10
    #[test]
    fn octets_count_unstuffed_content() {
        let mut decoder = DotDecoder::new(BareNewlines::Normalize);
        assert!(decoder.decode(b"..x\r\n.\r\n", &mut Vec::new()).done);
        assert_eq!(decoder.octets(), 4);
        let mut decoder = DotDecoder::new(BareNewlines::Normalize);
        assert!(decoder.decode(b"a\nb\r\n.\r\n", &mut Vec::new()).done);
        assert_eq!(decoder.octets(), 5, "before normalising");
    }

    // S-DAT-17
    #[test]
    fn a_cut_off_end_is_none() {
        for wire in [&b""[..], b"a\r\n", b"a\r\n.", b"a\r\n.\r", b".", b".\r", b"a\r\n.\n", b"\n.\r\n"] {
            assert_eq!(dot_unstuff(wire), Err(Incomplete), "{:?}", wire.escape_ascii());
        }
    }

    // B-LIN-16, S-LIN-17
    #[test]
    fn a_stuffed_dot_does_not_count_for_the_length() {
        for (line, long) in [(998, false), (999, true), (100_000, true)] {
            let mut content = vec![b'x'; line];
            content[0] = b'.';
            content.extend_from_slice(b"\r\n");
            let wire = dot_stuff(&content);
            for size in [1, 2, 999, 1000, 1001, 1002, 4096, wire.len()] {
                let (mut decoder, mut out) = (DotDecoder::default(), Vec::new());
                let done = wire.chunks(size).fold(false, |_, chunk| decoder.decode(chunk, &mut out).done);
                assert!(done && out == content);
                assert_eq!(decoder.flags().long_line, long, "{line} in chunks of {size}");
            }
        }
    }
}
