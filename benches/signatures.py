#!/usr/bin/env python3
"""RSA-2048 signatures of one message: ours, dkimpy's and libopendkim's, one after the other in one process.

The figures are ratios of the same run. libopendkim is called as OpenDKIM does for each message: a new handle, every
field, the body, the end.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ehlo.dkim import Signer, generate_key

FIELDS = (
    b"From: Joe <joe@example.org>\r\nTo: jane@example.net\r\nSubject: a message of usual size\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
)
LINE = b"Lorem ipsum dolor sit amet, consectetur  adipiscing elit, sed do eiusmod.\r\n"


class OpenDkim:
    """libopendkim by ctypes: relaxed/relaxed, rsa-sha256, all fields."""

    def __init__(self, pem: bytes) -> None:
        self.library = ctypes.CDLL(ctypes.util.find_library("opendkim") or "libopendkim.so.11")
        for name in ("dkim_init", "dkim_sign"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(self.library.dkim_init(None, None))
        self.pem = pem

    def sign(self, content: bytes) -> bytes:
        library, status = self.library, ctypes.c_int()
        head, _, body = content.partition(b"\r\n\r\n")
        # Forms 1 and 1 are relaxed, algorithm 1 is rsa-sha256 (dkim.h); -1 signs the whole body.
        made = ctypes.c_void_p(
            library.dkim_sign(
                self.handle,
                b"id",
                None,
                self.pem,
                b"mail",
                b"example.org",
                1,
                1,
                1,
                ctypes.c_long(-1),
                ctypes.byref(status),
            )
        )
        if made.value is None:
            raise RuntimeError(f"dkim_sign: {status.value}")
        for field in head.split(b"\r\n"):
            assert library.dkim_header(made, field, ctypes.c_size_t(len(field))) == 0
        assert library.dkim_eoh(made) == 0
        assert library.dkim_body(made, body, ctypes.c_size_t(len(body))) == 0
        assert library.dkim_eom(made, None) == 0
        buffer = ctypes.create_string_buffer(8192)
        assert library.dkim_getsighdr(made, buffer, ctypes.c_size_t(8192), ctypes.c_size_t(0)) == 0
        library.dkim_free(made)
        return buffer.value


def seconds(sign: Callable[[bytes], object], content: bytes, least: float) -> float:
    """The best of three, each of at least so many seconds."""
    best = float("inf")
    for _ in range(3):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < least:
            sign(content)
            count += 1
        best = min(best, spent / count)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement (default: 0.5)")
    arguments = parser.parse_args()
    key = generate_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    dkim = importlib.import_module("dkim")  # by name: for mypy that is the folder of our tests
    ours, theirs = Signer(key, "example.org", "mail"), OpenDkim(pem)

    def dkimpy(content: bytes) -> bytes:
        return bytes(dkim.sign(content, b"mail", b"example.org", pem, canonicalize=(b"relaxed", b"relaxed")))

    for size in (4096, 102400):
        content = FIELDS + b"\r\n" + LINE * (size // len(LINE))
        mine = seconds(ours.sign, content, arguments.seconds)
        print(f"{size // 1024:3} KiB: ehlo {mine * 1e3:.3f} ms", end="")
        for name, sign in (("dkimpy", dkimpy), ("libopendkim", theirs.sign)):
            other = seconds(sign, content, arguments.seconds)
            print(f", {name} {other * 1e3:.3f} ms ({other / mine:.1f}x)", end="")
        print()


if __name__ == "__main__":
    main()
