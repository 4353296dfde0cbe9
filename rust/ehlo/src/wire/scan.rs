//! The inner loop that content is read with: are these octets free of anything that needs a decision?
//!
//! Safe code only. The loops are written so that the compiler turns them into vector instructions, and `multiversion`
//! compiles the quick one again for SSE 4.1 and AVX2 and picks the best at run time. A loop this short is bound by the
//! number of its vector instructions: each one counts for 3 % of the time. Conditions are numbers, `u8::from(..)`, not
//! `if`s: of those the compiler may make branches, and then it is forty times slower. `benches/wire.rs` would tell.

/// Octets judged together by the quick loop. One dirty octet sends the whole group to [`events`], block by block.
///
/// Two groups in a row stay under the length of the longest line: see [`Clean::dense`].
pub(super) const GROUP: usize = 256;

/// Octets checked before they are copied: few enough that the copy finds them in the first-level cache, and enough that
/// the start of a check and of a copy does not count.
pub(super) const STRIDE: usize = 8192;

/// Octets whose events fit one mask.
pub(super) const BLOCK: usize = 64;

/// Octets of one vector of the quick loop.
const LANES: usize = 32;

/// Blocks to look at one by one before the quick loop is tried again: this many at first, more while it fails.
const CLOSE: usize = GROUP / BLOCK;
const CLOSE_MAX: usize = 64;

/// The least octet seen in each lane, in the order of [`Look`].
type Least = [u8; LANES];

/// What [`Kernel`]s found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clean {
    /// Octets behind the first one that need no decision; a multiple of [`GROUP`], at most [`STRIDE`].
    pub(super) len: usize,
    /// Each group of them has a line end. So no line that begins and ends among them is longer than two groups.
    ///
    /// False does not say the opposite: a lesser octet, as a TAB, may hide a line end (see [`clean_prefix`]).
    pub(super) dense: bool,
}

/// A quick loop: how many of `octets[1..]` are clean, the first octet being only what came before them?
///
/// A CR that ends the clean part is left open: it is judged with the octet that follows. `Least` tells of the clean
/// octets.
type Kernel = fn(&[u8], &mut Least) -> Clean;

/// The exact loop: bit `k` is set where octet `k + 1` of the window needs a decision. Its first octet is only what came
/// before.
type Exact = fn(&[u8; BLOCK + 1], &mut Least) -> u64;

/// What stands behind the input where it ends within a window: nothing that anybody looks for.
const FILLER: u8 = b' ';

/// Which octets the reader still wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// NUL and octets above 127: all that is not positive as a signed number.
    Any,
    /// NUL: what is least as an unsigned number.
    Nul,
    /// None, and line lengths are not wanted either.
    Nothing,
}

impl Look {
    /// Above every octet.
    fn nothing_seen(self) -> Least {
        [if self == Self::Any { highest::<ANY>() } else { highest::<NUL>() }; LANES]
    }

    /// Whether the octets that are in `least` may be of a kind that is looked for.
    fn suspects(self, least: &Least) -> bool {
        match self {
            Self::Any => least.iter().any(|&octet| octet.cast_signed() <= 0),
            Self::Nul => least.contains(&0),
            Self::Nothing => false,
        }
    }
}

#[inline(always)]
fn least_signed(a: u8, b: u8) -> u8 {
    a.cast_signed().min(b.cast_signed()).cast_unsigned()
}

/// A CR and an LF that are not a pair.
#[inline(always)]
fn bare(prev: u8, cur: u8) -> u8 {
    u8::from(prev == b'\r') ^ u8::from(cur == b'\n')
}

/// Whether a CR and an LF in the window are not a pair. Its first octet is only what came before.
pub(super) fn any_bare(window: &[u8; BLOCK + 1]) -> bool {
    window.iter().zip(&window[1..]).fold(0, |seen, (&prev, &cur)| seen | bare(prev, cur)) != 0
}

/// An octet that needs a decision: a CR and an LF that are not a pair, or a dot behind an LF.
#[inline(always)]
fn event(prev: u8, cur: u8) -> u8 {
    bare(prev, cur) | u8::from(prev == b'\n') & u8::from(cur == b'.')
}

#[inline(always)]
fn any_set(flags: &Least) -> bool {
    flags.iter().any(|&flag| flag != 0)
}

const ANY: u8 = 0;
const NUL: u8 = 1;
const NOTHING: u8 = 2;

/// The lesser of the two, in the order of the [`Look`].
#[inline(always)]
fn see<const LOOK: u8>(low: u8, octet: u8) -> u8 {
    match LOOK {
        ANY => least_signed(low, octet),
        NUL => low.min(octet),
        _ => low,
    }
}

/// The highest octet, in the order of the [`Look`].
#[inline(always)]
const fn highest<const LOOK: u8>() -> u8 {
    if LOOK == ANY { i8::MAX.cast_unsigned() } else { u8::MAX }
}

/// A dot behind an LF, told by their sum: an instruction less than two comparisons. Every other pair of that sum has a
/// control character in it; `+` before CR is the only one not rare. A sum above 255 must not look like this one. Before
/// the first octet above 127 there is none, and the plain sum is an instruction that more units of a processor have.
#[inline(always)]
fn dot_behind_lf<const LOOK: u8>(prev: u8, cur: u8) -> u8 {
    let sum = if LOOK == ANY { prev.wrapping_add(cur) } else { prev.saturating_add(cur) };
    u8::from(sum == b'\n' + b'.')
}

/// Every [`Kernel`]. What is not looked for costs nothing.
///
/// A lane whose least octet is an LF has a line end. So line ends cost no instruction of their own.
#[inline(always)]
fn clean_prefix<const LOOK: u8>(octets: &[u8], least: &mut Least) -> Clean {
    let mut clean = Clean { len: 0, dense: true };
    let n = octets.len().saturating_sub(1).min(STRIDE) / GROUP * GROUP;
    let (before, here) = (&octets[..n], &octets[octets.len().min(1)..]);
    let mut low = *least;
    for (before, here) in before.chunks_exact(GROUP).zip(here.chunks_exact(GROUP)) {
        let (mut dirty, mut group, mut ends) = ([0; LANES], [highest::<LOOK>(); LANES], [0; LANES]);
        for (before, here) in before.as_chunks::<LANES>().0.iter().zip(here.as_chunks::<LANES>().0) {
            for k in 0..LANES {
                let (prev, cur) = (before[k], here[k]);
                dirty[k] |= bare(prev, cur) | dot_behind_lf::<LOOK>(prev, cur);
                group[k] = see::<LOOK>(group[k], cur);
            }
        }
        if any_set(&dirty) && before.iter().zip(here).fold(0, |seen, (&prev, &cur)| seen | event(prev, cur)) != 0 {
            break;
        }
        for k in 0..LANES {
            ends[k] = u8::from(group[k] == b'\n');
            low[k] = see::<LOOK>(low[k], group[k]);
        }
        clean.dense &= any_set(&ends);
        clean.len += GROUP;
    }
    *least = low;
    clean
}

/// Every [`Exact`].
#[inline(always)]
fn events<const LOOK: u8>(window: &[u8; BLOCK + 1], least: &mut Least) -> u64 {
    let (mut flags, mut low, mut any) = ([0; BLOCK], *least, [0; LANES]);
    for k in 0..BLOCK {
        flags[k] = event(window[k], window[k + 1]);
    }
    for (here, flags) in window[1..].as_chunks::<LANES>().0.iter().zip(flags.as_chunks::<LANES>().0) {
        for k in 0..LANES {
            low[k] = see::<LOOK>(low[k], here[k]);
            any[k] |= flags[k];
        }
    }
    *least = low;
    if !any_set(&any) {
        return 0;
    }
    let mut mask = 0;
    for (k, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Gathers the lowest bits of eight octets into one octet: each product term lands on its own bit.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (8 * k);
    }
    mask
}

/// The quick loop and the exact one for this look, as this machine runs them best.
#[multiversion::multiversion(targets("x86_64+avx2", "x86_64+sse4.1"))]
fn loops(look: Look) -> (Kernel, Exact) {
    #[multiversion::inherit_target]
    fn look_for_any(octets: &[u8], least: &mut Least) -> Clean {
        clean_prefix::<ANY>(octets, least)
    }

    #[multiversion::inherit_target]
    fn look_for_nul(octets: &[u8], least: &mut Least) -> Clean {
        clean_prefix::<NUL>(octets, least)
    }

    #[multiversion::inherit_target]
    fn look_for_nothing(octets: &[u8], least: &mut Least) -> Clean {
        clean_prefix::<NOTHING>(octets, least)
    }

    #[multiversion::inherit_target]
    fn events_and_any(window: &[u8; BLOCK + 1], least: &mut Least) -> u64 {
        events::<ANY>(window, least)
    }

    #[multiversion::inherit_target]
    fn events_and_nul(window: &[u8; BLOCK + 1], least: &mut Least) -> u64 {
        events::<NUL>(window, least)
    }

    #[multiversion::inherit_target]
    fn events_alone(window: &[u8; BLOCK + 1], least: &mut Least) -> u64 {
        events::<NOTHING>(window, least)
    }

    match look {
        Look::Any => (look_for_any, events_and_any),
        Look::Nul => (look_for_nul, events_and_nul),
        Look::Nothing => (look_for_nothing, events_alone),
    }
}

/// Which kinds of octets there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) nul: bool,
    pub(super) eight_bit: bool,
}

/// Looks for kinds of octets in one input, as far as they are wanted.
struct Watch<'a> {
    input: &'a [u8],
    look: Look,
    kinds: Kinds,
    /// Octets before this one are in `kinds`.
    start: usize,
    /// Of the octets behind `start` that were looked at.
    least: Least,
}

impl<'a> Watch<'a> {
    fn new(input: &'a [u8], look: Look) -> Self {
        Self { input, look, kinds: Kinds::default(), start: 0, least: look.nothing_seen() }
    }

    /// Goes through the octets before `to`, all of which were looked at, but only if one of them may be wanted. Tells
    /// whether another kind is to be looked for now.
    fn settle(&mut self, to: usize) -> bool {
        if !self.look.suspects(&self.least) {
            return false;
        }
        let octets = &self.input[self.start..to];
        let (or, min) = octets.iter().fold((0, u8::MAX), |(or, min), &octet| (or | octet, octet.min(min)));
        self.kinds.nul |= min == 0;
        self.kinds.eight_bit |= or > 0x7f;
        let changed = self.look == Look::Any && self.kinds.eight_bit;
        if changed {
            self.look = Look::Nul;
        }
        (self.start, self.least) = (to, self.look.nothing_seen());
        changed
    }
}

/// Who decides about the octets that [`walk`] finds.
pub(super) trait Judge {
    /// All octets before `at` have been looked at. The last ones, from `from` on, are clean; see [`Clean::dense`].
    fn clean(&mut self, from: usize, at: usize, dense: bool);

    /// The octet at `at` needs a decision. True stops the walk before it.
    fn event(&mut self, at: usize) -> bool;

    /// Each octet whose bit is set needs a decision: bit `k` is that of octet `at + k`. Gives the octet that stops the walk.
    #[inline]
    fn events(&mut self, at: usize, mut found: u64) -> Option<usize> {
        while found != 0 {
            let octet = at + found.trailing_zeros() as usize;
            if self.event(octet) {
                return Some(octet);
            }
            found &= found - 1;
        }
        None
    }
}

/// Walks over the input, the octet before it being `before`, and calls the judge wherever a decision is needed. Tells
/// what kinds of octets it walked over, as far as they were looked for.
///
/// Linear: an octet is seen by the quick loop, by the exact one and by the count of kinds, at most once by each.
pub(super) fn walk(input: &[u8], before: u8, look: Look, judge: &mut impl Judge) -> Kinds {
    let (mut kernel, mut exact) = loops(look);
    let mut watch = Watch::new(input, look);
    let mut at = 0;
    // Blocks still to be looked at one by one. The first one has no octet before it that the quick loop could use.
    let mut close = 1;
    let mut next_close = CLOSE;
    while at < input.len() {
        if close == 0 && input.len() - at >= GROUP {
            let clean = kernel(&input[at - 1..], &mut watch.least);
            if clean.len > 0 {
                judge.clean(at, at + clean.len, clean.dense);
                at += clean.len;
                next_close = CLOSE;
            }
            if clean.len < STRIDE {
                close = next_close;
                next_close = (2 * next_close).min(CLOSE_MAX);
            }
            if watch.settle(at) {
                (kernel, exact) = loops(watch.look);
            }
            continue;
        }
        let block = &input[at..input.len().min(at + BLOCK)];
        let found = match at.checked_sub(1).and_then(|from| input[from..].first_chunk()) {
            Some(window) => exact(window, &mut watch.least),
            None => {
                let mut window = [FILLER; BLOCK + 1];
                window[0] = if at == 0 { before } else { input[at - 1] };
                window[1..=block.len()].copy_from_slice(block);
                exact(&window, &mut watch.least) & (u64::MAX >> (BLOCK - block.len()))
            }
        };
        if found != 0
            && let Some(stop) = judge.events(at, found)
        {
            watch.settle(stop);
            return watch.kinds;
        }
        at += block.len();
        close = close.saturating_sub(1);
    }
    watch.settle(input.len());
    watch.kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: [Look; 3] = [Look::Any, Look::Nul, Look::Nothing];

    fn naive(octets: &[u8]) -> Vec<usize> {
        let event = |i: &usize| {
            let (prev, cur) = (octets[i - 1], octets[*i]);
            ((prev == b'\r') != (cur == b'\n')) || (prev == b'\n' && cur == b'.')
        };
        (1..octets.len()).filter(event).collect()
    }

    #[test]
    fn an_event_is_found_at_every_place() {
        for what in [&b"\n."[..], b"\ra", b"a\n", b"\r\r", b"\n\n"] {
            for at in (0..3 * GROUP).step_by(3).chain((3 * GROUP..STRIDE + GROUP).step_by(GROUP - 1)) {
                let mut octets = vec![b'x'; 2 * STRIDE];
                octets[at..at + 2].copy_from_slice(what);
                let first = naive(&octets)[0];
                for look in LOOKS {
                    let clean = loops(look).0(&octets, &mut look.nothing_seen()).len;
                    assert_eq!(clean, ((first - 1) / GROUP * GROUP).min(STRIDE), "{what:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn no_pair_of_octets_fools_the_quick_loop() {
        for pair in 0..=u16::MAX {
            let mut octets = [b'x'; GROUP + 1];
            let at = usize::from(pair) % GROUP;
            octets[at..at + 2].copy_from_slice(&pair.to_le_bytes());
            for look in [Look::Any, Look::Nul] {
                let clean = loops(look).0(&octets, &mut look.nothing_seen());
                assert_eq!(clean.len == 0, !naive(&octets).is_empty(), "{pair:#x}");
            }
        }
    }

    #[test]
    fn the_mask_names_every_event() {
        for pair in 0..=u16::MAX {
            let mut window = [b'x'; BLOCK + 1];
            let at = usize::from(pair) % BLOCK;
            window[at..at + 2].copy_from_slice(&pair.to_le_bytes());
            let expected = naive(&window).iter().fold(0, |mask, &i| mask | 1u64 << (i - 1));
            for look in LOOKS {
                assert_eq!(loops(look).1(&window, &mut look.nothing_seen()), expected, "{pair:#x}");
            }
        }
        let dots: [u8; BLOCK + 1] = std::array::from_fn(|i| b"\n."[i % 2]);
        assert_eq!(loops(Look::Any).1(&dots, &mut Look::Any.nothing_seen()), u64::MAX);
    }

    #[test]
    fn dense_means_a_line_end_in_each_group() {
        let mut octets = vec![b'x'; STRIDE + 1];
        for group in octets[1..].chunks_mut(GROUP) {
            group[GROUP - 2..].copy_from_slice(b"\r\n");
        }
        let check = |octets: &[u8]| loops(Look::Any).0(octets, &mut Look::Any.nothing_seen());
        assert!(check(&octets).dense && check(&octets).len == STRIDE);
        for group in 0..STRIDE / GROUP {
            let mut octets = octets.clone();
            octets[1..][(group + 1) * GROUP - 2..][..2].fill(b'x');
            assert!(!check(&octets).dense);
        }
        for short in [&b""[..], b"x", &[b'x'; GROUP]] {
            assert_eq!(check(short).len, 0);
        }
    }

    struct Nobody;

    impl Judge for Nobody {
        fn clean(&mut self, _: usize, _: usize, _: bool) {}
        fn event(&mut self, _: usize) -> bool {
            false
        }
    }

    #[test]
    fn kinds_are_found_at_every_place() {
        for at in 0..3 * GROUP {
            for (octet, kinds) in [
                (b'x', Kinds::default()),
                (0, Kinds { nul: true, eight_bit: false }),
                (0x80, Kinds { nul: false, eight_bit: true }),
                (0xff, Kinds { nul: false, eight_bit: true }),
            ] {
                let mut input = vec![b'x'; 3 * GROUP];
                input[at] = octet;
                assert_eq!(walk(&input, 0, Look::Any, &mut Nobody), kinds, "{octet} at {at}");
                assert_eq!(walk(&input, 0, Look::Nul, &mut Nobody).nul, kinds.nul, "{octet} at {at}");
            }
        }
    }

    #[test]
    fn the_second_kind_is_found_behind_the_first() {
        for (first, second) in [(0, 0xff), (0xff, 0)] {
            for at in [1, BLOCK, STRIDE, 2 * STRIDE, 3 * STRIDE - 1] {
                for dirty in [false, true] {
                    let mut input = vec![b'x'; 3 * STRIDE];
                    (input[0], input[at]) = (first, second);
                    if dirty {
                        input[2 * GROUP] = b'\n';
                    }
                    let both = Kinds { nul: true, eight_bit: true };
                    assert_eq!(walk(&input, 0, Look::Any, &mut Nobody), both, "{second} at {at}");
                    input[at] = b'x';
                    let one = Kinds { nul: first == 0, eight_bit: first != 0 };
                    assert_eq!(walk(&input, 0, Look::Any, &mut Nobody), one, "{first}");
                }
            }
        }
    }
}
