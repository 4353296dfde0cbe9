//! Content is brought into its dot-stuffed form.

use std::error::Error;
use std::fmt;

use crate::wire::content::{Passage, Sink};
use crate::wire::scan::{BLOCK, Judge, Look, any_bare, walk};

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

#[cfg(test)]
mod tests {
    use super::super::dot_stuff;
    use super::*;

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
