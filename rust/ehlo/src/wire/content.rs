//! The content of a message: bare newlines, NUL, 8-bit octets and long lines are found the same way behind DATA and BDAT.

use super::scan::{GROUP, Judge, Kinds, Look, STRIDE, walk};

/// The longest content line every implementation must take, CRLF included, a stuffed dot not (RFC 5321 4.5.3.1.6).
const LINE_LIMIT: usize = 1000;

/// Where content goes.
pub trait Sink {
    /// Takes the next octets of the content.
    fn put(&mut self, octets: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        (**self).put(octets);
    }
}

/// A sink that throws away: content that was refused is read to its end through this (RFC 5321 4.5.3.1.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discard;

impl Sink for Discard {
    #[inline]
    fn put(&mut self, _: &[u8]) {}
}

/// What to do with a CR or LF that is not part of a CRLF (RFC 5321 2.3.8). No policy moves the end of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewlines {
    /// Pass them on and flag them; the caller refuses the message at its end.
    #[default]
    Reject,
    /// Make a CRLF of each and flag it.
    Normalize,
    /// Pass them on and flag them; the caller takes the message.
    Allow,
}

/// What was found in the content. Each flag is exact, however the content was split.
///
/// `bare_cr`, `bare_lf`, `nul` and `eight_bit` tell of the octets as they came; `long_line` and `no_final_crlf` of the
/// octets as the sink got them, which differ under [`BareNewlines::Normalize`] only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentFlags {
    /// A CR without an LF behind it (RFC 5321 2.3.8).
    pub bare_cr: bool,
    /// An LF without a CR before it (RFC 5321 2.3.8).
    pub bare_lf: bool,
    /// A NUL octet (RFC 5321 4.1.1.4 leaves its fate to us, RFC 5322 2.2 has no place for it).
    pub nul: bool,
    /// An octet above 127 (RFC 6152 3).
    pub eight_bit: bool,
    /// A line of more than 1000 octets with its CRLF, a stuffed dot not counted (RFC 5321 4.5.3.1.6).
    pub long_line: bool,
    /// The content is not empty and its last line has no CRLF; can happen behind BDAT only (RFC 3030 2).
    pub no_final_crlf: bool,
}

impl ContentFlags {
    /// Whether there is any bare CR or bare LF.
    #[must_use]
    pub fn bare(&self) -> bool {
        self.bare_cr || self.bare_lf
    }

    pub(super) fn add(&mut self, kinds: Kinds) {
        self.nul |= kinds.nul;
        self.eight_bit |= kinds.eight_bit;
    }

    /// What kinds of octets are still to be looked for.
    pub(super) fn look(&self) -> Look {
        if self.eight_bit { Look::Nul } else { Look::Any }
    }
}

/// Measures lines over runs of content that come in any pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ruler {
    /// Octets of the line so far; meaningless once `long` is set.
    line: usize,
    /// The last octet was a CR.
    cr: bool,
    /// A line over the limit was seen.
    pub(super) long: bool,
}

impl Ruler {
    /// Measures the next octets.
    ///
    /// Looks only for the *last* CRLF within the limit, then goes on behind it: a handful of searches in 4 KiB, each
    /// of which ends within a line's length. Two steps in a row always cover more than the limit, so it is linear.
    pub(super) fn measure(&mut self, run: &[u8]) {
        if self.long || run.is_empty() {
            return;
        }
        let mut from = 0;
        while from < run.len() {
            let room = LINE_LIMIT - self.line;
            let to = run.len().min(from + room);
            match self.last_end(run, from, to) {
                Some(end) => (from, self.line) = (end, 0),
                // No CRLF among the first thousand octets: wherever it comes, it comes too late.
                None if to - from == room => {
                    self.long = true;
                    return;
                }
                None => {
                    self.line += to - from;
                    break;
                }
            }
        }
        self.cr = run.ends_with(b"\r");
    }

    /// Where the last line that ends within `run[from..to]` ends.
    fn last_end(&self, run: &[u8], from: usize, mut to: usize) -> Option<usize> {
        loop {
            let lf = match &run[from..to] {
                // A run that ends before a dot ends with a line.
                [.., b'\n'] => to - 1,
                octets => from + memchr::memrchr(b'\n', octets)?,
            };
            if if lf == 0 { self.cr } else { run[lf - 1] == b'\r' } {
                return Some(lf + 1);
            }
            to = lf;
        }
    }

    /// The content is over: a last line without CRLF is long if it would be with one.
    pub(super) fn finish(&mut self) {
        self.long |= self.line + 2 > LINE_LIMIT;
    }
}

/// Applies a [`Ruler`] to one input, and passes over what is known to be short.
pub(super) struct Measuring<'a> {
    input: &'a [u8],
    /// Octets before this one are measured, or are not content.
    start: usize,
    /// Where the last dense part ends, if it ends here; `start` is then one group before.
    dense_to: Option<usize>,
}

impl<'a> Measuring<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, start: 0, dense_to: None }
    }

    /// Measures the content up to `to`.
    pub(super) fn up_to(&mut self, to: usize, ruler: &mut Ruler) {
        ruler.measure(&self.input[self.start..to]);
        self.skip(to);
    }

    /// What comes before `to` and is not measured yet is no content.
    pub(super) fn skip(&mut self, to: usize) {
        (self.start, self.dense_to) = (to, None);
    }

    /// The walk found `from..to` clean.
    pub(super) fn clean(&mut self, from: usize, to: usize, dense: bool, ruler: &mut Ruler) {
        if dense && self.dense_to != Some(from) {
            self.up_to(from, ruler);
        }
        // Each group ends a line: the one that is open at `from` within its first group, each later one within two. A
        // line of the last group may still be open: that group stays to be measured, from its first octet on.
        if dense && (self.dense_to == Some(from) || ruler.line + GROUP <= LINE_LIMIT) {
            (self.start, self.dense_to) = (to - GROUP, Some(to));
            (ruler.line, ruler.cr) = (0, self.input[to - GROUP - 1] == b'\r');
        } else {
            self.up_to(to, ruler);
        }
    }
}

/// Passes the octets of one input on to a sink, as whole runs.
pub(super) struct Passage<'a, S> {
    input: &'a [u8],
    sink: &'a mut S,
    /// Octets before this one are in the sink, or are not content.
    start: usize,
    /// Octets of the input that are in the sink.
    pub(super) passed: u64,
}

impl<'a, S: Sink> Passage<'a, S> {
    pub(super) fn new(input: &'a [u8], sink: &'a mut S) -> Self {
        Self { input, sink, start: 0, passed: 0 }
    }

    /// Pass on what is before `to`.
    pub(super) fn up_to(&mut self, to: usize) {
        if to > self.start {
            self.passed += (to - self.start) as u64;
            self.sink.put(&self.input[self.start..to]);
            self.start = to;
        }
    }

    /// Pass on what is before `to` if it is a stride at least. So short pieces are joined, and what is copied at once
    /// is a stride or all.
    pub(super) fn strides_up_to(&mut self, to: usize) {
        if to >= self.start + STRIDE {
            self.up_to(to);
        }
    }

    /// Put octets into the sink that are not in the input.
    pub(super) fn insert(&mut self, octets: &[u8]) {
        self.sink.put(octets);
    }

    /// Drop what is before `to` and was not passed on: it is no content.
    pub(super) fn skip(&mut self, to: usize) {
        self.start = to;
    }
}

/// Reads content that is framed by its length (BDAT, RFC 3030 2): the octets pass as they are, and are judged over
/// all chunks joined. A CRLF split over two chunks is a CRLF.
#[derive(Clone, Debug, Default)]
pub struct ContentReader {
    policy: BareNewlines,
    flags: ContentFlags,
    ruler: Ruler,
    octets: u64,
    end: End,
    /// A dot stands behind an LF.
    dots: bool,
}

/// How the content so far ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// Empty, or a CRLF.
    #[default]
    Line,
    Cr,
    BareLf,
    Middle,
}

impl ContentReader {
    /// A reader at the start of a message.
    #[must_use]
    pub fn new(policy: BareNewlines) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Reads the next octets of the content. Chunk borders need not be told.
    pub fn read(&mut self, octets: &[u8], sink: &mut impl Sink) {
        let Some(&last) = octets.last() else { return };
        let before = if self.end == End::Cr { b'\r' } else { 0 };
        let look = self.flags.look();
        let measuring = Measuring::new(octets);
        let passage = Passage::new(octets, sink);
        let mut reading = Reading { reader: self, octets, passage, measuring, bare_lf: None };
        let kinds = walk(octets, before, look, &mut reading);
        reading.passage.up_to(octets.len());
        reading.measuring.up_to(octets.len(), &mut reading.reader.ruler);
        let (bare_lf, passed) = (reading.bare_lf, reading.passage.passed);
        self.octets += passed;
        self.flags.add(kinds);
        self.end = match last {
            b'\r' => End::Cr,
            b'\n' if bare_lf == Some(octets.len() - 1) => End::BareLf,
            b'\n' => End::Line,
            _ => End::Middle,
        };
    }

    /// Ends the message and tells what it was made of. A CR still waiting for its LF is bare.
    pub fn finish(&mut self, sink: &mut impl Sink) -> ContentFlags {
        if self.end == End::Cr {
            self.flags.bare_cr = true;
            if self.policy == BareNewlines::Normalize {
                self.ruler.measure(b"\n");
                self.put(b"\n", sink);
            }
        }
        // Behind what was made a CRLF the content is at the start of a line; a second call finds nothing left to do.
        if self.policy == BareNewlines::Normalize && matches!(self.end, End::Cr | End::BareLf) {
            self.end = End::Line;
        }
        self.flags.no_final_crlf = self.end != End::Line;
        if self.flags.no_final_crlf {
            self.ruler.finish();
        }
        self.flags()
    }

    /// Octets put into the sink so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// What was found so far; a CR or a line still open is not judged before [`Self::finish`].
    #[must_use]
    pub fn flags(&self) -> ContentFlags {
        ContentFlags { long_line: self.ruler.long, ..self.flags }
    }

    /// Whether a dot stands behind an LF, of those that were read together.
    pub(crate) fn has_dots(&self) -> bool {
        self.dots
    }

    fn put(&mut self, octets: &[u8], sink: &mut impl Sink) {
        self.octets += octets.len() as u64;
        sink.put(octets);
    }
}

struct Reading<'a, S> {
    reader: &'a mut ContentReader,
    octets: &'a [u8],
    passage: Passage<'a, S>,
    measuring: Measuring<'a>,
    /// Where the last bare LF of this input was.
    bare_lf: Option<usize>,
}

impl<S: Sink> Judge for Reading<'_, S> {
    fn clean(&mut self, from: usize, at: usize, dense: bool) {
        self.measuring.clean(from, at, dense, &mut self.reader.ruler);
        self.passage.strides_up_to(at);
    }

    fn event(&mut self, at: usize) -> bool {
        let missing: &[u8] = match self.octets[at] {
            b'\n' => {
                self.bare_lf = Some(at);
                self.reader.flags.bare_lf = true;
                b"\r"
            }
            // A dot at the start of a line is nothing special in a chunk.
            b'.' if at > 0 && self.octets[at - 1] == b'\n' => {
                self.reader.dots = true;
                return false;
            }
            _ => {
                self.reader.flags.bare_cr = true;
                b"\n"
            }
        };
        if self.reader.policy == BareNewlines::Normalize {
            self.passage.up_to(at);
            self.measuring.up_to(at, &mut self.reader.ruler);
            self.reader.ruler.measure(missing);
            self.reader.octets += missing.len() as u64;
            self.passage.insert(missing);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(policy: BareNewlines, chunks: &[&[u8]]) -> (Vec<u8>, ContentFlags) {
        let (mut reader, mut out) = (ContentReader::new(policy), Vec::new());
        for chunk in chunks {
            reader.read(chunk, &mut out);
        }
        let flags = reader.finish(&mut out);
        assert_eq!(reader.octets(), out.len() as u64);
        assert_eq!(reader.finish(&mut out), flags, "a second finish changes nothing");
        assert_eq!(reader.octets(), out.len() as u64);
        (out, flags)
    }

    // S-BDT-02: no unstuffing, no end
    #[test]
    fn dots_are_content() {
        let (out, flags) = read(BareNewlines::Reject, &[b"\r\n.\r\n..a\r\n"]);
        assert_eq!((&out[..], flags), (&b"\r\n.\r\n..a\r\n"[..], ContentFlags::default()));
    }

    // S-BDT-18
    #[test]
    fn a_crlf_over_two_chunks_is_one() {
        for policy in [BareNewlines::Reject, BareNewlines::Normalize, BareNewlines::Allow] {
            assert_eq!(read(policy, &[b"a\r", b"", b"\n"]), (b"a\r\n".to_vec(), ContentFlags::default()));
        }
    }

    // S-BDT-19
    #[test]
    fn bare_newlines_by_policy() {
        let both = ContentFlags { bare_cr: true, bare_lf: true, ..Default::default() };
        for policy in [BareNewlines::Reject, BareNewlines::Allow] {
            let (out, flags) = read(policy, &[b"a\nb\r", b"c\r\n"]);
            assert_eq!((&out[..], flags), (&b"a\nb\rc\r\n"[..], both));
        }
        let (out, flags) = read(BareNewlines::Normalize, &[b"a\nb\r", b"c\r\n"]);
        assert_eq!((&out[..], flags), (&b"a\r\nb\r\nc\r\n"[..], both));
        let (out, flags) = read(BareNewlines::Normalize, &[b"a\r", b".b\r"]);
        assert_eq!((&out[..], flags), (&b"a\r\n.b\r\n"[..], ContentFlags { bare_cr: true, ..Default::default() }));
    }

    // S-BDT-20
    #[test]
    fn every_octet_passes() {
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        let (out, flags) = read(BareNewlines::Allow, &[&all]);
        assert_eq!(out, all);
        assert!(flags.nul && flags.eight_bit && flags.bare_cr && flags.bare_lf && flags.no_final_crlf);
    }

    // S-BDT-21
    #[test]
    fn a_missing_last_crlf_is_flagged() {
        for (content, open) in [(&b"a"[..], true), (b"a\r\n", false), (b"", false), (b"a\n", true), (b"a\r", true)] {
            let (out, flags) = read(BareNewlines::Allow, &[content]);
            assert_eq!((&out[..], flags.no_final_crlf), (content, open), "{content:?}");
        }
        assert!(!read(BareNewlines::Normalize, &[b"a\r"]).1.no_final_crlf);
        assert!(!read(BareNewlines::Normalize, &[b"a\n"]).1.no_final_crlf);
        assert!(read(BareNewlines::Normalize, &[b"a\nb"]).1.no_final_crlf);
    }

    // B-LIN-16, S-LIN-17
    #[test]
    fn lines_over_a_thousand_octets_are_flagged() {
        for (length, long) in [(997, false), (998, false), (999, true), (1_000_000, true)] {
            let mut content = b"short\r\n".repeat(200);
            content.extend(vec![b'x'; length]);
            content.extend_from_slice(b"\r\nshort\r\n");
            for size in [1, 7, 999, 1000, 1001, 4096, content.len()] {
                let chunks: Vec<&[u8]> = content.chunks(size).collect();
                let (out, flags) = read(BareNewlines::Reject, &chunks);
                assert!(out == content);
                assert_eq!(flags.long_line, long, "{length} in chunks of {size}");
            }
        }
        // Without a CRLF at the end it is judged as if there were one.
        assert!(!read(BareNewlines::Allow, &[&[b'x'; 998]]).1.long_line);
        assert!(read(BareNewlines::Allow, &[&[b'x'; 999]]).1.long_line);
        // A bare LF ends no line, unless it is made into a CRLF.
        let bare = [&[b'x'; 600][..], b"\n", &[b'x'; 600], b"\r\n"].concat();
        assert!(read(BareNewlines::Allow, &[&bare]).1.long_line);
        assert!(!read(BareNewlines::Normalize, &[&bare]).1.long_line);
    }
}
