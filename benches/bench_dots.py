"""Dot-stuffing and unstuffing of 100 KiB (RFC 5321 4.5.2).

ehlo looks for a bare CR or LF on the way. When it unstuffs, it also looks for NUL, for octets above 127 and for lines
that are too long.

Stuffing: smtplib and the plain way leave the ends of lines as they are; aiosmtplib makes each a CRLF, as ehlo does.
smtpproto does what the plain way does, and forgets a dot at the start of the first line.

Unstuffing: the plain way is a replacement in the whole. "line by line" is aiosmtpd's way, without its reader and its
limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import ehlo
from benches import plain
from benches.contents import CONTENTS


def smtplib_stuffs(content: bytes) -> bytes:
    """As ``smtplib.SMTP.data`` does with octets."""
    quoted = re.sub(rb"(?m)^\.", b"..", content)
    if not quoted.endswith(b"\r\n"):
        quoted += b"\r\n"
    return quoted + b".\r\n"


def aiosmtplib_stuffs(content: bytes) -> bytes:
    module = pytest.importorskip("aiosmtplib.protocol")
    octets: bytes = module.PERIOD_REGEX.sub(b"..", module.normalize_message_line_endings(content)) + b".\r\n"
    return octets


def line_by_line(wire: bytes) -> bytes:
    lines = []
    for line in wire.splitlines(keepends=True):
        if line == b".\r\n":
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


STUFFERS: dict[str, Callable[[bytes], bytes]] = {
    "ehlo": ehlo.dot_stuff,
    "smtplib": smtplib_stuffs,
    "aiosmtplib": aiosmtplib_stuffs,
    "plain": plain.stuff,
}
NORMALIZERS = {"ehlo": ehlo.dot_stuff, "aiosmtplib": aiosmtplib_stuffs}
UNSTUFFERS: dict[str, Callable[[bytes], bytes]] = {
    "ehlo": ehlo.dot_unstuff,
    "line by line": line_by_line,
    "plain": plain.unstuff,
}


@pytest.mark.parametrize("stand", STUFFERS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_stuff(benchmark: BenchmarkFixture, kind: str, stand: str) -> None:
    benchmark.group = f"stuff 100 KiB: {kind}"
    content = CONTENTS[kind]
    assert benchmark(STUFFERS[stand], content) == plain.stuff(content)


@pytest.mark.benchmark(group="stuff 100 KiB: text with LF alone")
@pytest.mark.parametrize("stand", NORMALIZERS)
def test_stuff_and_normalize(benchmark: BenchmarkFixture, stand: str) -> None:
    content = CONTENTS["text"]
    assert benchmark(NORMALIZERS[stand], content.replace(b"\r\n", b"\n")) == plain.stuff(content)


@pytest.mark.parametrize("stand", UNSTUFFERS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_unstuff(benchmark: BenchmarkFixture, kind: str, stand: str) -> None:
    benchmark.group = f"unstuff 100 KiB: {kind}"
    content = CONTENTS[kind]
    assert benchmark(UNSTUFFERS[stand], plain.stuff(content)) == content
