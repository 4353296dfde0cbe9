//! The dot: content that is framed by a line of its own (RFC 5321 4.5.2), read and written.

use std::error::Error;
use std::fmt;

use super::content::{BareNewlines, ContentFlags, Measuring, Passage, Ruler, Sink};
use super::scan::{BLOCK, Judge, Look, any_bare, walk};

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

/// What the encoder does with a bare CR or LF, which must never go out (RFC 5321 2.3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodePolicy {
    /// Make a CRLF of each.
    #[default]
    Normalize,
    /// Fail.
    Reject,
}

/// A bare CR or LF in content that was to be sent (RFC 5321 2.3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareNewline {
    /// Where it is in the content.
    pub offset: u64,
}

impl fmt::Display for BareNewline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bare CR or LF in the content at octet {}", self.offset)
    }
}

impl Error for BareNewline {}

/// Brings content into its dot-stuffed form (RFC 5321 4.5.2).
///
/// After an error the content must not be ended: the encoder goes on failing, and the connection is to be closed
/// without the dot (RFC 5321 4.1.1.10).
///
/// ```
/// # use ehlo::wire::dot::{DotEncoder, EncodePolicy};
/// let (mut encoder, mut wire) = (DotEncoder::new(EncodePolicy::Normalize), Vec::new());
/// encoder.encode(b"a\n.", &mut wire)?;
/// encoder.encode(b"b", &mut wire)?;
/// encoder.finish(&mut wire)?;
/// assert_eq!(wire, b"a\r\n..b\r\n.\r\n");
/// # Ok::<(), ehlo::wire::dot::BareNewline>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DotEncoder {
    policy: EncodePolicy,
    state: Sent,
    octets: u64,
    failed: Option<BareNewline>,
}

/// What the octets so far leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    LineStart,
    Middle,
    /// A CR came and waits for what follows, so that none goes out alone.
    Cr,
}

impl DotEncoder {
    /// An encoder at the start of the content.
    #[must_use]
    pub fn new(policy: EncodePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Encodes the next octets of the content, whose borders mean nothing.
    ///
    /// # Errors
    /// Under [`EncodePolicy::Reject`], at the first bare CR or LF and at every call after it.
    pub fn encode(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<(), BareNewline> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let Some((&first, &last)) = input.first().zip(input.last()) else { return Ok(()) };
        let mut start = 0;
        let before = match self.state {
            Sent::LineStart => b'\n',
            Sent::Middle => 0,
            Sent::Cr => {
                start = usize::from(first == b'\n');
                if start == 0 {
                    self.bare(self.octets.saturating_sub(1))?;
                }
                sink.put(b"\r\n");
                b'\n'
            }
        };
        let body = &input[start..];
        let passage = Passage::new(body, sink);
        let mut stuffing =
            Stuffing { encoder: self, input: body, passage, offset: start, result: Ok(()), joined: Joined::new() };
        walk(body, before, Look::Nothing, &mut stuffing);
        stuffing.result?;
        stuffing.pass();
        let held = usize::from(last == b'\r');
        stuffing.passage.up_to(body.len() - held);
        self.state = match last {
            b'\r' => Sent::Cr,
            // A bare LF too: it went out as a CRLF.
            b'\n' => Sent::LineStart,
            _ => Sent::Middle,
        };
        self.octets += input.len() as u64;
        Ok(())
    }

    /// Ends the content: completes its last line if need be and adds the line of the dot (RFC 5321 4.1.1.4).
    ///
    /// # Errors
    /// If encoding failed before, or the content ends in a CR under [`EncodePolicy::Reject`].
    pub fn finish(mut self, sink: &mut impl Sink) -> Result<(), BareNewline> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if self.state == Sent::Cr {
            self.bare(self.octets.saturating_sub(1))?;
        }
        sink.put(if self.state == Sent::LineStart { b".\r\n" } else { b"\r\n.\r\n" });
        Ok(())
    }

    /// Notes a bare CR or LF at this octet of the content.
    fn bare(&mut self, offset: u64) -> Result<(), BareNewline> {
        if self.policy == EncodePolicy::Normalize {
            return Ok(());
        }
        let failed = BareNewline { offset };
        self.failed = Some(failed);
        Err(failed)
    }
}

struct Stuffing<'a, S> {
    encoder: &'a mut DotEncoder,
    input: &'a [u8],
    passage: Passage<'a, S>,
    /// Octets of the caller's input before ours.
    offset: usize,
    result: Result<(), BareNewline>,
    joined: Joined,
}

impl<S: Sink> Judge for Stuffing<'_, S> {
    fn clean(&mut self, _: usize, at: usize, _: bool) {
        self.pass();
        // A CR may turn out to be bare: it goes out with what follows it.
        self.passage.strides_up_to(at - usize::from(self.input[at - 1] == b'\r'));
    }

    fn event(&mut self, at: usize) -> bool {
        let octet = self.input[at];
        let after_cr = at > 0 && self.input[at - 1] == b'\r';
        if octet == b'\n' || after_cr {
            let bare = if octet == b'\n' { at } else { at - 1 };
            self.result = self.encoder.bare(self.encoder.octets + (self.offset + bare) as u64);
            if self.result.is_err() {
                self.passage.up_to(at - usize::from(after_cr));
                return true;
            }
        }
        self.passage.up_to(at);
        self.passage.insert(match octet {
            b'\n' => b"\r",
            // Behind the CRLF that was just made, a dot is at the start of a line.
            b'.' if after_cr => b"\n.",
            _ if after_cr => b"\n",
            _ => b".",
        });
        false
    }

    /// Lines that begin with a dot may be as short as the dot: they go into the sink together.
    fn events(&mut self, at: usize, mut found: u64) -> Option<usize> {
        if !found.is_power_of_two() && found.count_ones() >= CROWD && self.crowd(at, found) {
            return None;
        }
        while found != 0 {
            let octet = at + found.trailing_zeros() as usize;
            found &= found - 1;
            if self.input[octet] != b'.' || (octet > 0 && self.input[octet - 1] != b'\n') {
                self.pass();
                if self.event(octet) {
                    return Some(octet);
                }
                continue;
            }
            self.join_up_to(octet, 1);
            self.joined.dot(octet);
        }
        None
    }
}

impl<S: Sink> Stuffing<'_, S> {
    /// Joins what is before `to`, or passes it on if it is long or there is no room for so many octets behind it.
    #[inline(always)]
    fn join_up_to(&mut self, to: usize, room: usize) {
        match self.joined.upto {
            Some(from) if self.joined.has_room(to - from, room) => self.joined.put(self.input, from, to),
            _ => {
                self.pass();
                self.passage.up_to(to);
            }
        }
    }

    /// Joins a block with many dots up to the last one, without a decision for each. False if other events are among
    /// them, or if the block is near the start or the end of the input; then nothing has been done.
    #[inline(never)]
    fn crowd(&mut self, at: usize, found: u64) -> bool {
        let before = at.checked_sub(1).and_then(|from| self.input[from..].first_chunk());
        let (Some(before), Some(window)) = (before, self.input[at..].first_chunk::<{ BLOCK + WORD }>()) else {
            return false;
        };
        if any_bare(before) {
            return false;
        }
        let (mut from, mut rest) = (found.trailing_zeros() as usize, found);
        self.join_up_to(at + from, CROWDED);
        let Some(out) = self.joined.octets[self.joined.len..].first_chunk_mut::<CROWDED>() else { return false };
        let mut len = 0;
        loop {
            out[len % (2 * BLOCK)] = b'.';
            len += 1;
            rest &= rest - 1;
            if rest == 0 {
                break;
            }
            let to = rest.trailing_zeros() as usize;
            while from < to {
                out[len % (2 * BLOCK)..][..WORD].copy_from_slice(&window[from % BLOCK..][..WORD]);
                let copied = (to - from).min(WORD);
                (from, len) = (from + copied, len + copied);
            }
        }
        self.joined.len += len;
        self.joined.upto = Some(at + from);
        true
    }

    /// Pass on what was joined.
    fn pass(&mut self) {
        if let Some(upto) = self.joined.upto.take() {
            self.passage.insert(&self.joined.octets[..self.joined.len]);
            self.passage.skip(upto);
            self.joined.len = 0;
        }
    }
}

/// Octets that are copied at a time, whether all of them are wanted or not: a copy of a fixed size needs no call.
const WORD: usize = 16;

/// Octets that short lines are joined to.
const JOINED: usize = 512;

/// From so many events in a block on, [`Stuffing::crowd`] is quicker than one after the other.
const CROWD: u32 = 5;

/// What the octets of a block become at most, with what is copied beyond them. `JOINED` has room for more than one.
const CROWDED: usize = 2 * BLOCK + WORD;

/// Short stuffed lines on their way to the sink.
struct Joined {
    octets: [u8; JOINED],
    len: usize,
    /// The octet of the input that the next ones come from, if there are any here.
    upto: Option<usize>,
}

impl Joined {
    fn new() -> Self {
        Self { octets: [0; JOINED], len: 0, upto: None }
    }

    /// Whether a line of so many octets is short enough, with what is copied beyond it, and with room behind it.
    #[inline]
    fn has_room(&self, octets: usize, room: usize) -> bool {
        octets <= BLOCK && self.len + octets + WORD.max(room) <= JOINED
    }

    /// Copies these octets of the input, for which there is room.
    #[inline]
    fn put(&mut self, input: &[u8], from: usize, to: usize) {
        let mut at = from;
        while at < to {
            match input[at..].first_chunk::<WORD>() {
                Some(word) => self.octets[self.len..][..WORD].copy_from_slice(word),
                None => self.octets[self.len..][..to - at].copy_from_slice(&input[at..to]),
            }
            let copied = (to - at).min(WORD);
            (at, self.len) = (at + copied, self.len + copied);
        }
        self.upto = Some(to);
    }

    /// A dot more, before the one at `at`.
    #[inline]
    fn dot(&mut self, at: usize) {
        self.octets[self.len] = b'.';
        (self.len, self.upto) = (self.len + 1, Some(at));
    }
}

/// Content in its dot-stuffed form, with the final line of the dot (RFC 5321 4.5.2); bare CRs and LFs become CRLFs.
#[must_use]
pub fn dot_stuff(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 32 + 8);
    let mut encoder = DotEncoder::new(EncodePolicy::Normalize);
    let done = encoder.encode(content, &mut wire).and_then(|()| encoder.finish(&mut wire));
    debug_assert_eq!(done, Ok(()), "normalising never fails");
    wire
}

/// What [`dot_unstuff`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstuffed {
    /// The content, its bare CRs and LFs as they were.
    pub content: Vec<u8>,
    /// Octets up to and with the line of the dot.
    pub consumed: usize,
    /// What was found in the content.
    pub flags: ContentFlags,
}

/// The end of the data is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content has no end: CRLF, a dot, CRLF")
    }
}

impl Error for Incomplete {}

/// Takes content out of its dot-stuffed form (RFC 5321 4.5.2).
///
/// # Errors
/// If the end of the data is not in it.
pub fn dot_unstuff(wire: &[u8]) -> Result<Unstuffed, Incomplete> {
    let (mut decoder, mut content) = (DotDecoder::new(BareNewlines::Allow), Vec::with_capacity(wire.len()));
    let Decoded { consumed, done } = decoder.decode(wire, &mut content);
    if done { Ok(Unstuffed { content, consumed, flags: decoder.flags() }) } else { Err(Incomplete) }
}

#[cfg(test)]
mod tests {
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

    fn stuffed(policy: EncodePolicy, chunks: &[&[u8]]) -> Result<Vec<u8>, BareNewline> {
        let (mut encoder, mut wire) = (DotEncoder::new(policy), Vec::new());
        for chunk in chunks {
            encoder.encode(chunk, &mut wire)?;
        }
        encoder.finish(&mut wire)?;
        Ok(wire)
    }

    fn every_way(policy: EncodePolicy, content: &[u8]) -> Result<Vec<u8>, BareNewline> {
        let whole = stuffed(policy, &[content]);
        for split in 0..=content.len() {
            let (a, b) = content.split_at(split);
            assert_eq!(stuffed(policy, &[a, b]), whole, "{:?} split at {split}", content.escape_ascii());
        }
        assert_eq!(stuffed(policy, &content.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    // C-DAT-22
    #[test]
    fn dots_at_line_starts_are_doubled() {
        assert_eq!(stuffed(EncodePolicy::Reject, &[b"a\r", b"\n", b".b"]).unwrap(), b"a\r\n..b\r\n.\r\n");
        for (content, wire) in [(&b"."[..], &b"..\r\n.\r\n"[..]), (b".\r\n.\r\na.", b"..\r\n..\r\na.\r\n.\r\n")] {
            for policy in [EncodePolicy::Normalize, EncodePolicy::Reject] {
                assert_eq!(every_way(policy, content).unwrap(), wire);
            }
        }
    }

    // C-DAT-22: many in a block, at every place of it, and beside what needs another decision
    #[test]
    fn crowds_of_dots_are_doubled() {
        for unit in [&b".\r\n"[..], b".x\r\n", b"..\r\n\r\n", b".12345678901234567890\r\n.\r\n.\r\n", b".\n", b".\r"] {
            for (lead, tail) in
                (0..BLOCK).step_by(7).flat_map(|lead| [(lead, &b""[..]), (lead, b"\nx"), (lead, b"\r.")])
            {
                let crowd = unit.repeat(4 * BLOCK / unit.len());
                let content = [&vec![b'x'; lead][..], b"\r\n", &crowd, tail, &crowd].concat();
                for policy in [EncodePolicy::Normalize, EncodePolicy::Reject] {
                    let slowly = stuffed(policy, &content.chunks(1).collect::<Vec<_>>());
                    assert_eq!(stuffed(policy, &[&content]), slowly, "{:?}", content.escape_ascii());
                }
            }
        }
    }

    // C-DAT-23
    #[test]
    fn no_bare_newline_goes_out() {
        for (content, wire, at) in [
            (&b"a\nb"[..], &b"a\r\nb\r\n.\r\n"[..], 1),
            (b"a\rb", b"a\r\nb\r\n.\r\n", 1),
            (b"a\r\r\nb", b"a\r\n\r\nb\r\n.\r\n", 1),
            (b"\n.", b"\r\n..\r\n.\r\n", 0),
            (b"\r.", b"\r\n..\r\n.\r\n", 0),
            (b"a\r\n\n.\r", b"a\r\n\r\n..\r\n.\r\n", 3),
            (b"a\r\n.\n.\n", b"a\r\n..\r\n..\r\n.\r\n", 4),
            (b"a\r", b"a\r\n.\r\n", 1),
        ] {
            assert_eq!(every_way(EncodePolicy::Normalize, content).unwrap(), wire);
            assert_eq!(every_way(EncodePolicy::Reject, content), Err(BareNewline { offset: at }));
        }
    }

    // C-DAT-23: under reject not even the CR of a fault gets out
    #[test]
    fn a_refused_cr_is_held_back() {
        for lead in [0, 1, 63, 64, 255, 4095, 4096, 8191, 8192, 8255] {
            let content = [&vec![b'x'; lead][..], b"\rb"].concat();
            let (mut encoder, mut wire) = (DotEncoder::new(EncodePolicy::Reject), Vec::new());
            let error = BareNewline { offset: lead as u64 };
            assert_eq!(encoder.encode(&content, &mut wire), Err(error));
            assert!(!wire.contains(&b'\r'));
            assert_eq!(encoder.encode(b"more", &mut wire), Err(error));
            assert_eq!(encoder.finish(&mut wire), Err(error), "C-DAT-25: no dot");
            assert!(wire.len() <= lead);
        }
    }

    // C-DAT-24
    #[test]
    fn the_terminator_adds_no_line() {
        for (content, wire) in [
            (&b"a\r\n"[..], &b"a\r\n.\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"", b".\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b"a\n", b"a\r\n.\r\n"),
            (b"\r\n", b"\r\n.\r\n"),
        ] {
            assert_eq!(every_way(EncodePolicy::Normalize, content).unwrap(), wire);
            assert_eq!(dot_stuff(content), wire);
        }
    }
}
