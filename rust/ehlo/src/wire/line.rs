//! Finds the lines of commands and replies (RFC 5321 2.3.8).

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// CRLF and nothing else (RFC 5321 2.3.8). A bare CR or LF stays inside the line, whose parser refuses it.
    #[default]
    Crlf,
    /// An LF without CR as well: a leniency towards old peers.
    CrlfOrLf,
}

/// What [`LineScanner::scan`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A whole line.
    Line {
        /// The line without its end.
        line: &'a [u8],
        /// Octets of the input it took, with its end.
        consumed: usize,
    },
    /// A line over the limit has ended; told once for each (RFC 5321 4.5.3.1.9).
    TooLong {
        /// Octets of the input that its last part took.
        consumed: usize,
    },
    /// No line yet. Drop that many octets from the front, keep the rest, come again with more behind it.
    Partial {
        /// Octets of an over-long line that nobody needs any more.
        discard: usize,
    },
}

/// Finds line ends, and never looks at an octet twice.
///
/// The input of every call begins with the first octet that was neither consumed nor discarded; it holds what was kept
/// and what came since. With that the caller keeps at most `limit` octets, whatever comes.
#[derive(Clone, Debug, Default)]
pub struct LineScanner {
    /// Octets of the input in which there is no end of line.
    searched: usize,
    /// The line is over the limit: its octets are dropped as they come.
    too_long: bool,
    bare_lf: bool,
}

impl LineScanner {
    /// Looks for the end of the line. `limit` counts the line's octets with its CRLF (RFC 5321 4.5.3.1.4).
    pub fn scan<'a>(&mut self, input: &'a [u8], limit: usize, ends: LineEnds) -> Scan<'a> {
        let searched = self.searched.min(input.len());
        for lf in memchr::memchr_iter(b'\n', &input[searched..]) {
            let lf = searched + lf;
            let crlf = lf > 0 && input[lf - 1] == b'\r';
            if !crlf && ends == LineEnds::Crlf {
                self.bare_lf = true;
                continue;
            }
            let too_long = self.too_long || lf + 1 > limit;
            *self = Self::default();
            let consumed = lf + 1;
            return if too_long {
                Scan::TooLong { consumed }
            } else {
                Scan::Line { line: &input[..lf - usize::from(crlf)], consumed }
            };
        }
        // At the limit already and no end among it: with its end the line will be over.
        self.too_long |= input.len() >= limit;
        let discard = if self.too_long {
            // A CR at the end may be half of the CRLF.
            input.len() - usize::from(input.ends_with(b"\r"))
        } else {
            0
        };
        self.searched = input.len() - discard;
        Scan::Partial { discard }
    }

    /// Whether the line that has not ended yet holds a bare LF: the peer may be waiting for an answer that a strict
    /// server never gives (RFC 5321 2.3.8).
    #[must_use]
    pub fn bare_lf_pending(&self) -> bool {
        self.bare_lf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces as a connection would and lists what comes out; None is a line too long.
    fn feed(pieces: &[&[u8]], limit: usize, ends: LineEnds) -> (Vec<Option<Vec<u8>>>, Vec<u8>, LineScanner) {
        let (mut scanner, mut kept, mut found) = (LineScanner::default(), Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            loop {
                match scanner.scan(&kept, limit, ends) {
                    Scan::Line { line, consumed } => {
                        found.push(Some(line.to_vec()));
                        kept.drain(..consumed);
                    }
                    Scan::TooLong { consumed } => {
                        found.push(None);
                        kept.drain(..consumed);
                    }
                    Scan::Partial { discard } => {
                        kept.drain(..discard);
                        assert!(kept.len() <= limit, "memory is bounded");
                        break;
                    }
                }
            }
        }
        (found, kept, scanner)
    }

    fn every_way(input: &[u8], limit: usize, ends: LineEnds) -> Vec<Option<Vec<u8>>> {
        let whole = feed(&[input], limit, ends).0;
        for split in 0..=input.len() {
            let (a, b) = input.split_at(split);
            assert_eq!(feed(&[a, b], limit, ends).0, whole, "split at {split}");
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(feed(&octets, limit, ends).0, whole, "octet by octet");
        whole
    }

    fn lines(expected: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        expected.iter().map(|line| Some(line.to_vec())).collect()
    }

    // B-LIN-01, B-LIN-02
    #[test]
    fn crlf_alone_ends_a_line() {
        assert_eq!(every_way(b"QUIT\r\n", 512, LineEnds::Crlf), lines(&[b"QUIT"]));
        assert_eq!(every_way(b"NOOP\r", 512, LineEnds::Crlf), lines(&[]));
        assert_eq!(every_way(b"\r\na\x0b\x0c\x85\r\nb", 512, LineEnds::Crlf), lines(&[b"", b"a\x0b\x0c\x85"]));
    }

    // S-LIN-03, S-LIN-04, S-LIN-06, S-LIN-07
    #[test]
    fn bare_newlines_stay_in_the_line() {
        for line in [&b"NOOP\nQUIT"[..], b"a\rb", b"NOOP\r", b"NOOP\n", b"\n", b"\r\r\n\r"] {
            let input = [line, b"\r\nNOOP\r\n"].concat();
            if line == b"\r\r\n\r" {
                assert_eq!(every_way(&input, 512, LineEnds::Crlf), lines(&[b"\r", b"\r", b"NOOP"]));
            } else {
                assert_eq!(every_way(&input, 512, LineEnds::Crlf), lines(&[line, b"NOOP"]));
            }
        }
    }

    // S-LIN-05
    #[test]
    fn a_bare_lf_that_waits_is_told() {
        assert!(feed(&[b"EHLO x\n"], 512, LineEnds::Crlf).2.bare_lf_pending());
        assert!(!feed(&[b"EHLO x"], 512, LineEnds::Crlf).2.bare_lf_pending());
        assert!(!feed(&[b"EHLO x\n\r\n"], 512, LineEnds::Crlf).2.bare_lf_pending());
        assert_eq!(every_way(b"EHLO x\nNOOP\r\n\n", 512, LineEnds::CrlfOrLf), lines(&[b"EHLO x", b"NOOP", b""]));
    }

    // S-LIN-11, S-LIN-14
    #[test]
    fn the_limit_counts_the_crlf() {
        for ends in [LineEnds::Crlf, LineEnds::CrlfOrLf] {
            let fits = [&[b'x'; 510][..], b"\r\n"].concat();
            assert_eq!(every_way(&fits, 512, ends), lines(&[&[b'x'; 510]]));
            let over = [&[b'x'; 511][..], b"\r\n"].concat();
            assert_eq!(every_way(&over, 512, ends), [None]);
        }
    }

    // S-LIN-13, S-LIN-15
    #[test]
    fn an_over_long_line_is_skipped_and_told_once() {
        let mut input = vec![b'A'; 3000];
        input.extend_from_slice(b"\rx\nQUIT\r\nNOOP\r\n");
        assert_eq!(every_way(&input, 512, LineEnds::Crlf), [None, Some(b"NOOP".to_vec())]);
        let big = vec![b'A'; 1 << 20];
        let (found, kept, _) = feed(&[&big, &big, b"QUIT\r", b"\nNOOP\r\n"], 512, LineEnds::Crlf);
        assert_eq!((found, kept.len()), (vec![None, Some(b"NOOP".to_vec())], 0));
    }

    // B-LIN-18: the limit is the caller's at each call
    #[test]
    fn limits_may_change_between_lines() {
        let mut scanner = LineScanner::default();
        let input = [&[b'x'; 3000][..], b"\r\n"].concat();
        assert!(matches!(scanner.scan(&input, 12288, LineEnds::Crlf), Scan::Line { consumed: 3002, .. }));
        assert_eq!(scanner.scan(&input, 2048, LineEnds::Crlf), Scan::TooLong { consumed: 3002 });
    }
}
