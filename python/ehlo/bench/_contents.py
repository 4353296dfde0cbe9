"""The messages of a load run: made to measure, or read from a corpus. All are made before the run begins."""

from __future__ import annotations

import mailbox
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["contents", "parse_size"]

_POOL: Final = 128  # different contents of a range or a distribution
_POOL_OCTETS: Final = 256 << 20  # and what all of them may hold, in octets
_LINE: Final = b"The quick brown fox jumps over the lazy dog, as it has on every day before.\r\n"
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """Octets, from a number with or without k, m or g (of 1024).

    Raises:
        ValueError: if it is none.

    Example::

        parse_size("100k")  # 102400
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no size: give octets, as 1024, 100k or 10m")
    size = int(float(match[1]) * _UNITS[match[2]])
    if size > 1 << 30:
        raise ValueError(f"{text!r} is more than 1 GiB")
    return size


def contents(sizes: str = "1024", corpus: str | None = None, seed: int = 1) -> list[bytes]:
    """The contents that a run takes in turns, with CRLF line ends.

    Arguments:
        sizes: "1024" or "100k": all of that size; "1k-64k": evenly from that range; "1k:9,1m:1": of these, with those
            weights; "lognormal:10k:1.5": by its median and sigma. In octets.
        corpus: a directory of .eml files, a Maildir or an mbox file to read them from instead.
        seed: of the random ones.

    Raises:
        ValueError: for sizes that are none. OSError: for a corpus that cannot be read, or is empty.

    Example::

        [len(content) for content in contents("100")]  # [100]
    """
    if corpus is not None:
        found = [_crlf(octets) for octets in _corpus(Path(corpus)) if octets]
        if not found:
            raise OSError(f"no message in {corpus}")
        return found
    return [_message(size, number) for number, size in enumerate(_sizes(sizes, random.Random(seed)))]


def _sizes(text: str, chance: random.Random) -> list[int]:
    text = text.strip().lower()
    if text.startswith("lognormal:"):
        try:
            _, median, sigma = text.split(":")
            mu, spread = math.log(max(1, parse_size(median))), float(sigma)
        except ValueError:
            raise ValueError(
                f"{text!r} is no distribution: give lognormal:MEDIAN:SIGMA, as lognormal:10k:1.5"
            ) from None
        if not 0 <= spread <= 5:
            raise ValueError("the sigma of a lognormal distribution is from 0 to 5")
        return _pool(int(min(1 << 30, chance.lognormvariate(mu, spread))) for _ in range(_POOL))
    if ":" in text:
        pairs = [part.partition(":") for part in text.split(",")]
        weights = [float(weight) if re.fullmatch(r"\d+(\.\d+)?", weight) else -1.0 for _, _, weight in pairs]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"{text!r}: give SIZE:WEIGHT,SIZE:WEIGHT, as 1k:9,1m:1")
        values = [parse_size(size) for size, _, _ in pairs]
        # Each as often as its weight says, rather than as chance would have it.
        shares = [round(_POOL * weight / sum(weights)) for weight in weights]
        picked = [size for size, share in zip(values, shares, strict=True) for _ in range(share or 1)]
        chance.shuffle(picked)
        return _pool(iter(picked))
    if "-" in text:
        low, high = (parse_size(part) for part in text.split("-", 1))
        if low > high:
            raise ValueError(f"{text!r}: the range begins above its end")
        return _pool(
            low + round((high - low) * (number + 0.5) / _POOL) for number in chance.sample(range(_POOL), _POOL)
        )
    return [parse_size(text)]


def _pool(sizes: Iterator[int]) -> list[int]:
    picked: list[int] = []
    for size in sizes:
        if picked and sum(picked) + size > _POOL_OCTETS:
            break
        picked.append(size)
    return picked


def _message(size: int, number: int) -> bytes:
    """Exactly ``size`` octets, that end with CRLF when there is room for one."""
    header = (
        b"From: Load <load@example.org>\r\nTo: Sink <user@example.org>\r\nSubject: Load test\r\n"
        b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <load.%d@example.org>\r\n\r\n" % number
    )
    if size < len(header) + 2:
        header = b""
    whole = header + _LINE * ((size - len(header)) // len(_LINE))
    rest = size - len(whole)
    if rest == 1:  # no room for a CRLF of its own: make the last line longer
        return (whole[:-2] + b"x\r\n") if len(whole) > 2 else b"x"
    return whole + b"x" * (rest - 2) + b"\r\n" if rest else whole


def _crlf(octets: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", octets)


def _corpus(path: Path) -> Iterator[bytes]:
    if path.is_file():
        box = mailbox.mbox(path, create=False)
        try:
            for key in box.iterkeys():
                yield box.get_bytes(key)
        finally:
            box.close()
    elif path.is_dir():
        if (path / "cur").is_dir() and (path / "new").is_dir():
            files = [*(path / "cur").iterdir(), *(path / "new").iterdir()]
        else:
            files = list(path.rglob("*.eml"))
        for file in sorted(files):
            if file.is_file():
                yield file.read_bytes()
    else:
        raise OSError(f"no such file or directory: {path}")
