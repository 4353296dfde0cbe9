//! What the fuzz targets share.

/// `input` in pieces whose lengths are those of `cuts`, over and over: each octet of `cuts` is a length, less one.
pub fn pieces<'a>(cuts: &'a [u8], input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().cycle();
    let mut rest = input;
    std::iter::from_fn(move || {
        let length = lengths.next().map_or(usize::MAX, |cut| usize::from(*cut) + 1);
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}
