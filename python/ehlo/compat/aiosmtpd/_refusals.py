"""The words for what the engine refuses: aiosmtpd's, and its codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ehlo._core import Reply
from ehlo.compat.aiosmtpd._commands import MALFORMED, SYNTAX_MAIL, SYNTAX_RCPT, Commands

__all__ = ["BEFORE_TLS", "BOGUS_LIMIT", "Refusals"]

BOGUS_LIMIT: Final = 5
BEFORE_TLS: Final = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT"})  # RFC 3207 4


class Refusals(Commands):
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for refusals."""

    command_size_limit = 512
    command_size_limits: dict[str, int] = {}  # noqa: RUF012
    _is_lmtp: ClassVar[bool] = False

    if TYPE_CHECKING:
        require_starttls: bool
        _bogus_budget: int
        _tls_handshake_okay: bool

    def _refusal(self, line: bytes, reply: Reply) -> tuple[str, bool]:
        """The words for a refusal of the engine, and whether the session ends with them.

        Arguments:
            line: the command; empty for content, and for a line that is too long.
            reply: the engine's.
        """
        plain = f"{reply.code} {reply.text}"
        if not line:
            return _CONTENT.get(reply.code, plain) if reply.code != 500 else self._no_line(reply), False
        word, _, rest = line.partition(b" ")
        try:
            command = word.upper().decode("ascii")
        except UnicodeDecodeError:
            return "500 Error: bad syntax", False
        arg = rest.strip().decode("utf-8", "surrogateescape") or None
        if arg is not None and not arg.isascii() and not self.enable_SMTPUTF8:
            return "500 Error: strict ASCII mode", False
        if len(line) > self._size_limit(command):
            return "500 Command line too long", False
        if not self._tls_handshake_okay:
            return "554 Command refused due to lack of security", False
        if self.require_starttls and not self._is_encrypted() and command not in BEFORE_TLS:
            return "530 Must issue a STARTTLS command first", False
        if command not in self._smtp_methods:
            return self._unknown(command)
        find: Callable[[Commands, str | None], str | None] | None = _WORDS.get(command)
        return (None if find is None else find(self, arg)) or plain, False

    def _no_line(self, reply: Reply) -> str:
        return "500 Command line too long" if "too long" in reply.text else "500 Error: bad syntax"

    def _size_limit(self, command: str) -> int:
        limit = self.command_size_limits.get(command, self.command_size_limit)
        if command == "MAIL" and self._s.extended_smtp:
            limit += (26 if self.data_size_limit else 0) + (10 if self.enable_SMTPUTF8 else 0)
        return limit

    def _unknown(self, command: str) -> tuple[str, bool]:
        self._bogus_budget -= 1
        if self._bogus_budget < 1:
            return "502 5.5.1 Too many unrecognized commands, goodbye.", True
        return f'500 Error: command "{command}" not recognized', False


# By the engine's code. 554 is a line that is too long, since nothing else is refused in content with this code here.
_CONTENT: Final = {
    552: "552 Error: Too much mail data",
    554: "500 Line too long (see RFC5321 4.5.3.1.6)",
}


def _in_order(server: Commands, auth: bool = True) -> str | None:
    if not server._s.host_name:
        return "503 Error: send HELO first"
    return "530 5.7.0 Authentication required" if auth and server._needs_auth() else None


def _mail(server: Commands, arg: str | None) -> str | None:
    fault = _in_order(server)
    if fault is not None:
        return fault
    fault, _, options = server._read_path("FROM:", arg, SYNTAX_MAIL)
    if fault is not None:
        return fault
    if server._in_transaction():
        return "503 Error: nested MAIL command"
    return server._mail_fault(options) or MALFORMED


def _rcpt(server: Commands, arg: str | None) -> str | None:
    fault = _in_order(server)
    if fault is not None:
        return fault
    if not server._in_transaction():
        return "503 Error: need MAIL command"
    fault, _, options = server._read_path("TO:", arg, SYNTAX_RCPT)
    if fault is not None:
        return fault
    return "555 RCPT TO parameters not recognized or not implemented" if options else MALFORMED


def _data(server: Commands, arg: str | None) -> str | None:
    fault = _in_order(server)
    if fault is not None:
        return fault
    return "501 Syntax: DATA" if arg and server._in_transaction() else "503 Error: need RCPT command"


def _auth(server: Any, arg: str | None) -> str | None:
    session = server._s
    if not session.host_name:
        return "503 Error: send EHLO first"
    if not session.extended_smtp:
        return "500 Error: command 'AUTH' not recognized"
    if server._auth_require_tls and not server._is_encrypted():
        return "538 5.7.11 Encryption required for requested authentication mechanism"
    if session.authenticated:
        return "503 Already authenticated"
    if not arg:
        return "501 Not enough value"
    words = arg.split()
    if len(words) > 2:
        return "501 Too many values"
    if words[0].upper() not in server._auth_methods:
        return "504 5.5.4 Unrecognized authentication type"
    return "501 5.5.2 Can't decode base64" if len(words) == 2 else None


def _starttls(server: Commands, arg: str | None) -> str | None:
    if arg:
        return "501 Syntax: STARTTLS"
    return None if server.tls_context else "454 TLS not available"


def _usage(text: str) -> Callable[[Commands, str | None], str]:
    return lambda server, arg: f"501 Syntax: {text}"


def _expn(server: Commands, arg: str | None) -> str:
    return "502 EXPN not implemented"


def _vrfy(server: Commands, arg: str | None) -> str | None:
    if server._needs_auth():
        return "530 5.7.0 Authentication required"
    return "501 Syntax: VRFY <address>" if not arg else "502 Could not VRFY " + arg


def _hello(server: Any, arg: str | None) -> str | None:
    return "501 Syntax: HELO hostname"


_WORDS: Final[dict[str, Callable[[Any, str | None], str | None]]] = {
    "AUTH": _auth,
    "DATA": _data,
    "EHLO": lambda server, arg: (
        '500 Error: command "EHLO" not recognized' if server._is_lmtp else _usage("EHLO hostname")(server, arg)
    ),
    "EXPN": _expn,
    "HELO": lambda server, arg: '500 Error: command "HELO" not recognized' if server._is_lmtp else _hello(server, arg),
    "LHLO": _usage("LHLO hostname"),
    "MAIL": _mail,
    "QUIT": _usage("QUIT"),
    "RCPT": _rcpt,
    "RSET": _usage("RSET"),
    "STARTTLS": _starttls,
    "VRFY": _vrfy,
}
