"""TLS between the engine and a transport, without I/O: :class:`ssl.SSLObject` over two buffers in memory.

The handshake and the records are Python's :mod:`ssl`. What is here moves octets in and out of it, for servers and
clients of every backend alike: so nothing that came in clear can be mixed up with what came inside TLS, and what
came behind a PROXY header is where it belongs (RFC 3207 4.2, PROXY protocol 2).
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

__all__ = ["Tls", "cipher_suite", "reason_of", "unverified_context"]

# A record holds this many octets of content at most (RFC 8446 5.1), so more need not be asked for at once.
_RECORD: Final = 16384

# What OpenSSL calls the suites of TLS 1.2 that have forward secrecy.
_OPENSSL: Final = re.compile(r"(ECDHE|DHE)-(ECDSA|RSA)-(?:AES(128|256)(?:-(GCM))?-(SHA(?:256|384)?)|CHACHA20-POLY1305)")


def reason_of(exc: BaseException) -> str:
    """Why a handshake failed, in words for a log: the host name, the certificate or the alert is named.

    Example::

        log.info("TLS with %s failed: %s", peer, reason_of(exc))
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and getattr(exc, "reason", None):  # one made by hand has none
        return exc.reason.replace("_", " ").lower()
    return str(exc) or type(exc).__name__


def cipher_suite(tls: object) -> str | None:
    """The registered name of the cipher suite in use (RFC 8314 7.4); ``None`` if that is not known, or without TLS.

    Arguments:
        tls: as :attr:`ehlo.Session.tls` has it.

    Example::

        received(now=now, by=session.hostname, tls=cipher_suite(session.tls))
    """
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None
    cipher = tls.cipher()
    name = "" if cipher is None else cipher[0]
    if name.startswith("TLS_"):  # TLS 1.3: OpenSSL and the registry have the same names
        return name
    found = _OPENSSL.fullmatch(name)
    if found is None:
        return None
    exchange, algorithm, bits, mode, digest = found.groups()
    bulk = f"AES_{bits}_{mode or 'CBC'}_{digest}" if bits else "CHACHA20_POLY1305_SHA256"
    return f"TLS_{exchange}_{algorithm}_WITH_{bulk}"


def unverified_context() -> ssl.SSLContext:
    """A client's context that takes any certificate: what is sent is hidden from those who only listen, not from one
    who stands in between (RFC 7435).

    It is what a client uses for ``tls="opportunistic"`` if it is given nothing else and has no password to lose: there
    who stands in between can take STARTTLS off the list as well (RFC 3207 6), and a certificate that is refused makes
    mail go in clear, or not at all. It is also what a test against a self-signed certificate needs.

    Example::

        ehlo.asyncio.connect("localhost", 465, tls="implicit", ssl_context=ehlo.unverified_context())
    """
    # What create_default_context makes of it, without the tens of milliseconds that it takes to read all CAs first.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if keys := os.environ.get("SSLKEYLOGFILE"):
        context.keylog_filename = keys
    return context


class Tls:
    """One TLS connection.

    Arguments:
        context: certificates and policy.
        server_side: which side of the handshake is ours.
        server_hostname: the name to send (SNI) and to verify the server's certificate by.

    Attributes:
        established: the handshake is done.
        ended: the peer has said that it sends no more, or the transport has.

    Example::

        tls.receive(octets_of_the_transport)
        if tls.shake_hands(): engine.tls_established()
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "ended", "established")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self.established: bool = False
        self.ended: bool = False

    def receive(self, octets: bytes | memoryview) -> None:
        """Octets of the transport came; they are copied."""
        self._incoming.write(octets)

    def receive_eof(self) -> None:
        """The transport ended. Without a closing alert before it that is no error: SMTP says QUIT (RFC 8314 3.4)."""
        self._incoming.write_eof()

    def shake_hands(self) -> bool:
        """Go on with the handshake. True when it is done; then, and in between, there is something to send.

        Raises:
            ssl.SSLError: it failed; an alert may be there to send.
        """
        if not self.established:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.established = True
        return True

    def read(self, into: memoryview) -> Iterator[int]:
        """Decrypt into the front of ``into``, and yield the number of octets, until there are no more.

        Raises:
            ssl.SSLError: what came is no TLS.
        """
        room = min(len(into), _RECORD)
        while not self.ended:
            try:
                # The stubs know neither that any buffer will do nor that a number comes back.
                count: int = self._object.read(room, into)  # type: ignore[assignment, arg-type, unused-ignore]
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                count = 0
            if not count:
                self.ended = True
                return
            yield count

    def write(self, octets: bytes) -> None:
        """Encrypt; :meth:`data_to_send` has the outcome."""
        view = memoryview(octets)
        while view:
            view = view[self._object.write(view) :]

    def close(self) -> None:
        """Say with an alert that no more is sent; the peer's own is not waited for (RFC 8314 3.4)."""
        with suppress(ssl.SSLError, ValueError):
            self._object.unwrap()

    def data_to_send(self) -> bytes:
        """Octets for the transport, ``b""`` if there are none."""
        return self._outgoing.read()

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def object(self) -> ssl.SSLObject:
        """Version, cipher suite and certificates, for a program that wants to know."""
        return self._object

    @property
    def verified(self) -> bool:
        """Whether the peer's certificate and its host name had to be in order (RFC 8314 5.3)."""
        context = self._object.context
        return self.established and context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname

    @property
    def channel_binding(self) -> bytes | None:
        """``tls-unique`` (RFC 5929), which TLS 1.3 has no more: then ``None``."""
        if self._object.version() == "TLSv1.3":
            return None
        return self._object.get_channel_binding("tls-unique")
