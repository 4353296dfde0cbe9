"""The commands of :class:`ehlo.compat.smtplib.SMTP`: each goes out as it is given, and its reply is waited for."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import hmac
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from ehlo._tls import unverified_context
from ehlo.compat._smtplib_engine import Courier
from ehlo.compat._smtplib_errors import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
    SMTPServerDisconnected,
)

__all__ = ["CRLF", "MAXLINE", "Answer", "Commands", "bare", "octets_of", "quoteaddr", "quotedata", "wants_utf8"]

Answer: TypeAlias = tuple[int, bytes]
"""What a command gives: the code and the text of the reply."""

CRLF: Final = "\r\n"
MAXLINE: Final = 8192
"""Octets of a reply line (smtplib's own limit; RFC 5321 4.5.3.1.5 has 512)."""

# Challenges after which an AUTH goes round in a circle.
_MAXCHALLENGE: Final = 5
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")


def quoteaddr(addrstring: str) -> str:
    """The address of a text like ``Jane <jane@mx.example>``, in angle brackets.

    Example::

        quoteaddr("Jane <jane@mx.example>")  # "<jane@mx.example>"
    """
    display, address = email.utils.parseaddr(addrstring)
    if (display, address) != ("", ""):
        return f"<{address}>"
    return addrstring if addrstring.strip().startswith("<") else f"<{addrstring}>"


def quotedata(data: str) -> str:
    """A text with CRLF line ends, and with a dot before each line that begins with one (RFC 5321 4.5.2).

    Example::

        quotedata("a\\n.b")  # "a\\r\\n..b"
    """
    return re.sub(r"(?m)^\.", "..", _NEWLINE.sub(CRLF, data))


def bare(address: str) -> str:
    return quoteaddr(address).strip().removeprefix("<").removesuffix(">")


def wants_utf8(options: Iterable[str]) -> bool:
    return any(option.lower() == "smtputf8" for option in options)


def octets_of(msg: str | bytes) -> bytes:
    return _NEWLINE.sub(CRLF, msg).encode("ascii") if isinstance(msg, str) else msg


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("ascii")).decode("ascii")


class Commands:
    """A session over ``sock``, by one command after the other. :class:`ehlo.compat.smtplib.SMTP` makes the connection.

    Example::

        code, text = smtp.docmd("NOOP")
    """

    debuglevel: int = 0
    sock: socket.socket | None = None
    file: Any | None = None
    helo_resp: bytes | None = None
    ehlo_msg: str = "ehlo"
    ehlo_resp: bytes | None = None
    does_esmtp: bool = False
    command_encoding: str = "ascii"
    local_hostname: str = ""
    user: str = ""
    password: str = ""

    _host: str = ""
    _auth_challenge_count: int = 0
    # Octets that were read, and not looked at yet.
    _came: bytes = b""
    _courier: Courier | None = None

    def __init__(self) -> None:
        self.esmtp_features: dict[str, str] = {}

    def close(self) -> None:
        """Close the connection without a word."""
        sock, self.sock = self.sock, None
        self._came = b""
        self._courier = None
        if sock is not None:
            sock.close()

    def set_debuglevel(self, debuglevel: int) -> None:
        """Print the dialogue to stderr: 1, or 2 with the time."""
        self.debuglevel = debuglevel

    def _print_debug(self, *args: object) -> None:
        if self.debuglevel > 1:
            print(datetime.datetime.now().time(), *args, file=sys.stderr)
        else:
            print(*args, file=sys.stderr)

    # ---- one command -----------------------------------------------------------------------------

    def send(self, s: str | bytes) -> None:
        """Send octets, or a text in ``command_encoding``, as they are.

        Raises:
            SMTPServerDisconnected: there is no connection.
        """
        if self.debuglevel > 0:
            self._print_debug("send:", repr(s))
        if self.sock is None:
            raise SMTPServerDisconnected("please run connect() first")
        octets = s.encode(self.command_encoding) if isinstance(s, str) else s
        sys.audit("smtplib.send", self, octets)
        try:
            self.sock.sendall(octets)
        except OSError as exc:
            self.close()
            raise SMTPServerDisconnected("Server not connected") from exc

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command.

        Raises:
            ValueError: it has a CR or LF.
        """
        line = f"{cmd} {args}" if args else cmd
        if "\r" in line or "\n" in line:
            shown = line.replace("\n", "\\n").replace("\r", "\\r")
            raise ValueError(f"command and arguments contain prohibited newline characters: {shown}")
        self.send(line + CRLF)

    def getreply(self) -> Answer:
        """Wait for a reply.

        Returns:
            The code, -1 where there is none, and the lines without it, joined by LF.

        Raises:
            SMTPServerDisconnected: the server closed, or did not answer in time.
            SMTPResponseException: a line is too long.
        """
        lines = []
        while True:
            line = self._line()
            lines.append(line[4:].strip(b" \t\r\n"))
            digits = line[:3]
            code = int(digits) if digits.isdigit() and len(digits) == 3 else -1
            if code == -1 or line[3:4] != b"-":
                break
        text = b"\n".join(lines)
        if self.debuglevel > 0:
            self._print_debug(f"reply: retcode ({code}); Msg: {text!a}")
        return code, text

    def _line(self) -> bytes:
        while (end := self._came.find(b"\n") + 1) == 0 and len(self._came) <= MAXLINE:
            if self.sock is None:
                raise SMTPServerDisconnected("please run connect() first")
            try:
                octets = self.sock.recv(MAXLINE)
            except OSError as exc:
                self.close()
                raise SMTPServerDisconnected(f"Connection unexpectedly closed: {exc}") from exc
            if not octets:
                if self._came:  # a last line without an end
                    end = len(self._came)
                    break
                self.close()
                raise SMTPServerDisconnected("Connection unexpectedly closed")
            self._came += octets
        if not 0 < end <= MAXLINE:
            self.close()
            raise SMTPResponseException(500, "Line too long.")
        line, self._came = self._came[:end], self._came[end:]
        if self.debuglevel > 0:
            self._print_debug("reply:", repr(line))
        return line

    def docmd(self, cmd: str, args: str = "") -> Answer:
        """Send a command, and wait for the reply."""
        self.putcmd(cmd, args)
        return self.getreply()

    def helo(self, name: str = "") -> Answer:
        """Say HELO (RFC 5321 4.1.1.1)."""
        self.putcmd("helo", name or self.local_hostname)
        code, text = self.getreply()
        self.helo_resp = text
        return code, text

    def ehlo(self, name: str = "") -> Answer:
        """Say EHLO, or LHLO, and learn what the server offers (RFC 5321 4.1.1.1, RFC 2033 4.1)."""
        self.esmtp_features = {}
        self.putcmd(self.ehlo_msg, name or self.local_hostname)
        code, text = self.getreply()
        if code == -1 and not text:
            self.close()
            raise SMTPServerDisconnected("Server not connected")
        self.ehlo_resp = text
        if code != 250:
            return code, text
        self.does_esmtp = True
        features = self.esmtp_features
        for line in text.decode("latin-1").split("\n")[1:]:
            keyword, _, parameters = line.partition(" ")
            name = keyword.lower()
            if name.startswith("auth="):  # an old form
                name, parameters = "auth", f"{keyword[5:]} {parameters}"
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                continue
            parameters = parameters.strip()
            features[name] = f"{features.get(name, '')} {parameters}" if name == "auth" else parameters
        return code, text

    def has_extn(self, opt: str) -> bool:
        """Whether the server offers an extension."""
        return opt.lower() in self.esmtp_features

    def help(self, args: str = "") -> bytes:
        """Say HELP (RFC 5321 4.1.1.8); gives the text."""
        return self.docmd("help", args)[1]

    def rset(self) -> Answer:
        """Say RSET (RFC 5321 4.1.1.5)."""
        self.command_encoding = "ascii"
        return self.docmd("rset")

    def _rset(self) -> None:
        with contextlib.suppress(SMTPServerDisconnected):  # the next command tells it
            self.rset()

    def noop(self) -> Answer:
        """Say NOOP (RFC 5321 4.1.1.9)."""
        return self.docmd("noop")

    def mail(self, sender: str, options: Sequence[str] = ()) -> Answer:
        """Say MAIL (RFC 5321 4.1.1.2).

        Arguments:
            sender: the reverse-path.
            options: parameters, left out where the server knows none.

        Raises:
            SMTPNotSupportedError: ``SMTPUTF8`` is among them, and the server lacks it (RFC 6531).
        """
        parameters = ""
        if options and self.does_esmtp:
            if wants_utf8(options):
                if not self.has_extn("smtputf8"):
                    raise SMTPNotSupportedError("SMTPUTF8 not supported by server")
                self.command_encoding = "utf-8"
            parameters = " " + " ".join(options)
        return self.docmd("mail", f"FROM:{quoteaddr(sender)}{parameters}")

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> Answer:
        """Say RCPT (RFC 5321 4.1.1.3)."""
        parameters = " " + " ".join(options) if options and self.does_esmtp else ""
        return self.docmd("rcpt", f"TO:{quoteaddr(recip)}{parameters}")

    def data(self, msg: str | bytes) -> Answer:
        """Say DATA, and send the content (RFC 5321 4.1.1.4). Line ends become CRLF.

        Raises:
            SMTPDataError: the server says anything but 354.
        """
        code, text = self.docmd("data")
        if self.debuglevel > 0:
            self._print_debug("data:", (code, text))
        if code != 354:
            raise SMTPDataError(code, text)
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", octets_of(msg))
        octets = re.sub(rb"(?m)^\.", b"..", octets)
        self.send(octets + (b".\r\n" if octets.endswith(b"\r\n") else b"\r\n.\r\n"))
        answer = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("data:", answer)
        return answer

    def verify(self, address: str) -> Answer:
        """Say VRFY (RFC 5321 4.1.1.6)."""
        return self.docmd("vrfy", bare(address))

    vrfy = verify

    def expn(self, address: str) -> Answer:
        """Say EXPN (RFC 5321 4.1.1.7)."""
        return self.docmd("expn", bare(address))

    def ehlo_or_helo_if_needed(self) -> None:
        """Say hello, if that was not done.

        Raises:
            SMTPHeloError: the server refuses both forms.
        """
        if self.helo_resp is None and self.ehlo_resp is None and not 200 <= self.ehlo()[0] <= 299:
            code, text = self.helo()
            if not 200 <= code <= 299:
                raise SMTPHeloError(code, text)

    # ---- AUTH ------------------------------------------------------------------------------------

    def auth(
        self, mechanism: str, authobject: Callable[..., str | None], *, initial_response_ok: bool = True
    ) -> Answer:
        """Say AUTH (RFC 4954).

        Arguments:
            mechanism: its name.
            authobject: called with a challenge in octets, gives the response as ASCII; without an argument: the initial
                response, or ``None``.
            initial_response_ok: whether that may go with the command.

        Raises:
            SMTPAuthenticationError: the server refuses.
            SMTPException: it asks for ever.
        """
        initial = authobject() if initial_response_ok else None
        self._auth_challenge_count = 0 if initial is None else 1
        code, text = self.docmd("AUTH", mechanism.upper() + ("" if initial is None else f" {_base64(initial)}"))
        while code == 334:
            self._auth_challenge_count += 1
            code, text = self.docmd(_base64(authobject(base64.decodebytes(text)) or ""))
            if self._auth_challenge_count > _MAXCHALLENGE:
                raise SMTPException(f"Server AUTH mechanism infinite loop. Last response: {(code, text)!r}")
        if code in (235, 503):
            return code, text
        raise SMTPAuthenticationError(code, text)

    def auth_cram_md5(self, challenge: bytes | None = None) -> str | None:
        """CRAM-MD5 by ``user`` and ``password`` (RFC 2195)."""
        if challenge is None:
            return None
        return f"{self.user} {hmac.HMAC(self.password.encode('ascii'), challenge, 'md5').hexdigest()}"

    def auth_plain(self, challenge: bytes | None = None) -> str:
        """PLAIN by ``user`` and ``password`` (RFC 4616)."""
        return f"\0{self.user}\0{self.password}"

    def auth_login(self, challenge: bytes | None = None) -> str:
        """LOGIN by ``user`` and ``password``."""
        return self.user if challenge is None or self._auth_challenge_count < 2 else self.password

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> Answer:
        """Say AUTH by CRAM-MD5, PLAIN or LOGIN, whatever the server accepts first (RFC 4954).

        Raises:
            SMTPNotSupportedError: it offers no AUTH.
            SMTPAuthenticationError: it refuses.
            SMTPException: it offers other mechanisms only.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("auth"):
            raise SMTPNotSupportedError("SMTP AUTH extension not supported by server.")
        offered = self.esmtp_features["auth"].split()
        self.user, self.password = user, password
        refusal: SMTPException = SMTPException("No suitable authentication method found.")
        for name in ("CRAM-MD5", "PLAIN", "LOGIN"):
            if name not in offered:
                continue
            authobject = getattr(self, f"auth_{name.lower().replace('-', '_')}")
            try:
                return self.auth(name, authobject, initial_response_ok=initial_response_ok)
            except SMTPAuthenticationError as exc:
                refusal = exc
        raise refusal

    # ---- TLS -------------------------------------------------------------------------------------

    def starttls(self, *, context: ssl.SSLContext | None = None) -> Answer:
        """Say STARTTLS, and begin TLS (RFC 3207). What the server offered before is forgotten.

        Arguments:
            context: give one that verifies, such as ``ssl.create_default_context()``. Without it the certificate is not
                verified, as in smtplib.

        Raises:
            SMTPNotSupportedError: the server does not offer it.
            SMTPResponseException: it refuses.
            ssl.SSLError: the handshake fails.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("starttls"):
            raise SMTPNotSupportedError("STARTTLS extension not supported by server.")
        code, text = self.docmd("STARTTLS")
        if code != 220:
            raise SMTPResponseException(code, text)
        assert self.sock is not None
        self._came = b""  # what came in clear behind the 220 has no effect (RFC 3207 4.2)
        self._courier = None
        self.sock = (context or unverified_context()).wrap_socket(self.sock, server_hostname=self._host)
        self._forget_hello()
        return code, text

    def _forget_hello(self) -> None:
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
