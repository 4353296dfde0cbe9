"""The commands of this shape as methods: ``smtp_HELO`` and so on, for HELP, for hooks, and for ``super()``.

The engine has judged a command before one of these is called. So they have less to refuse than aiosmtpd's: what the
engine refuses gets its words in ``_refusals.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from email._header_value_parser import get_addr_spec, get_angle_addr
from email.errors import HeaderParseError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ehlo.compat.aiosmtpd._session import MISSING, Envelope, Session

__all__ = ["Commands", "syntax"]

F = TypeVar("F", bound=Callable[..., Any])

SYNTAX_MAIL: Final = "501 Syntax: MAIL FROM: <address>"
SYNTAX_RCPT: Final = "501 Syntax: RCPT TO: <address>"
PARAMETERS: Final = " [SP <mail-parameters>]"
MALFORMED: Final = "553 5.1.3 Error: malformed address"


def syntax(text: str, extended: str | None = None, when: str | None = None) -> Callable[[F], F]:
    """Decorate an ``smtp_*`` method with its words for HELP.

    Arguments:
        text: the words.
        extended: more of them, for a client that said EHLO.
        when: an attribute of the server; without it the command is not listed.

    Example::

        @syntax("XVERSION")
        async def smtp_XVERSION(self, arg): await self.push("250 3.1")
    """

    def decorate(method: F) -> F:
        for name, value in (("", text), ("extended__", extended), ("when__", when)):
            setattr(method, "__smtp_syntax__" if not name else f"__smtp_syntax_{name}", value)
        return method

    return decorate


class Commands:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for commands."""

    local_part_limit = 0

    if TYPE_CHECKING:
        session: Session | None
        envelope: Envelope | None
        event_handler: Any
        hostname: str
        data_size_limit: int | None
        enable_SMTPUTF8: bool  # noqa: N815
        tls_context: Any
        _auth_methods: dict[str, Any]
        _auth_required: bool
        _auth_require_tls: bool
        _decode_data: bool
        _ehlo_hook_ver: str | None
        _handle_hooks: dict[str, Callable[..., Any]]
        _smtp_methods: dict[str, Any]

        async def push(self, status: str | bytes) -> None: ...

        def _set_rset_state(self) -> None: ...

    @property
    def _s(self) -> Session:
        assert self.session is not None, "there is a session while a client is connected"
        return self.session

    @property
    def _e(self) -> Envelope:
        assert self.envelope is not None, "there is an envelope while a client is connected"
        return self.envelope

    async def _call_handler_hook(self, command: str, *args: Any) -> Any:
        hook = self._handle_hooks.get(command)
        return MISSING if hook is None else await hook(self, self.session, self.envelope, *args)

    async def _hook_or(self, command: str, default: str, *args: Any) -> None:
        status = await self._call_handler_hook(command, *args)
        await self.push(default if status is MISSING else status)

    async def check_helo_needed(self, helo: str = "HELO") -> bool:
        """Whether the client has not said its name. Then it hears of it."""
        if not self._s.host_name:
            await self.push(f"503 Error: send {helo} first")
            return True
        return False

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Whether the client has to authenticate first. Then it hears of it."""
        if self._needs_auth():
            await self.push("530 5.7.0 Authentication required")
            return True
        return False

    def _needs_auth(self) -> bool:
        return self._auth_required and not self._s.authenticated

    # ---- EHLO, HELO --------------------------------------------------------------------------------

    @syntax("HELO hostname")
    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802
        """HELO (RFC 5321 4.1.1.1)."""
        if not hostname:
            await self.push("501 Syntax: HELO hostname")
            return
        self._set_rset_state()
        self._s.extended_smtp = False
        status = await self._call_handler_hook("HELO", hostname)
        if status is MISSING:
            self._s.host_name = hostname
            status = f"250 {self.hostname}"
        await self.push(status)

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """EHLO (RFC 5321 4.1.1.1)."""
        if not hostname:
            await self.push("501 Syntax: EHLO hostname")
            return
        response = self._begin_ehlo()
        hook: Any = getattr(self, "ehlo_hook", None)
        if hook is not None:
            warnings.warn("Use handler.handle_EHLO() instead of .ehlo_hook()", DeprecationWarning, stacklevel=2)
            await hook()
        if self._ehlo_hook_ver is None:
            self._s.host_name = hostname
            response.append("250 HELP")
        elif self._ehlo_hook_ver == "old":  # it has but the last line to give
            for line in response:
                await self.push(line)
            response = [await self._call_handler_hook("EHLO", hostname)]
        else:
            response.append("250 HELP")
            response = await self._call_handler_hook("EHLO", hostname, response)
        for line in response:
            await self.push(line)

    def _begin_ehlo(self) -> list[str]:
        """The session begins anew. Gives the lines of the reply but for the last."""
        self._set_rset_state()
        self._s.extended_smtp = True
        lines = [f"250-{self.hostname}"]
        if self.data_size_limit:
            lines.append(f"250-SIZE {self.data_size_limit}")
        if not self._decode_data:
            lines.append("250-8BITMIME")
        if self.enable_SMTPUTF8:
            lines.append("250-SMTPUTF8")
        if self.tls_context and not self._is_encrypted():
            lines.append("250-STARTTLS")
        if self._auth_methods and (not self._auth_require_tls or self._is_encrypted()):
            lines.append("250-AUTH " + " ".join(sorted(self._auth_methods)))
        return lines

    def _in_transaction(self) -> bool:
        raise NotImplementedError

    def _is_encrypted(self) -> bool:
        return self._s.ssl is not None

    # ---- the transaction ---------------------------------------------------------------------------

    @syntax("MAIL FROM: <address>", extended=PARAMETERS)
    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL (RFC 5321 4.1.1.2)."""
        if await self.check_helo_needed() or await self.check_auth_needed("MAIL"):
            return
        found = await self._path_and_options("FROM:", arg, SYNTAX_MAIL)
        if found is None:
            return
        if self._e.mail_from:
            await self.push("503 Error: nested MAIL command")
            return
        address, options = found
        fault = self._mail_fault(options)
        if fault is not None:
            await self.push(fault)
            return
        await self._mail(address, options)

    async def _mail(self, address: str, options: list[str]) -> None:
        self._e.smtp_utf8 = "SMTPUTF8" in options
        status = await self._call_handler_hook("MAIL", address, options)
        if status is MISSING:
            self._e.mail_from = address
            self._e.mail_options.extend(options)
            status = "250 OK"
        await self.push(status)

    @syntax("RCPT TO: <address>", extended=PARAMETERS)
    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT (RFC 5321 4.1.1.3)."""
        if await self.check_helo_needed() or await self.check_auth_needed("RCPT"):
            return
        if not self._e.mail_from:
            await self.push("503 Error: need MAIL command")
            return
        found = await self._path_and_options("TO:", arg, SYNTAX_RCPT)
        if found is None:
            return
        if found[1]:
            await self.push("555 RCPT TO parameters not recognized or not implemented")
            return
        await self._rcpt(*found)

    async def _rcpt(self, address: str, options: list[str]) -> None:
        status = await self._call_handler_hook("RCPT", address, options)
        if status is MISSING:
            self._e.rcpt_tos.append(address)
            self._e.rcpt_options.extend(options)
            status = "250 OK"
        await self.push(status)

    async def _path_and_options(self, keyword: str, arg: str | None, usage: str) -> tuple[str, list[str]] | None:
        """The address and the parameters in the argument of MAIL or RCPT. Without them the client hears of it."""
        fault, address, options = self._read_path(keyword, arg, usage)
        if fault is not None:
            await self.push(fault)
            return None
        return address, options

    def _read_path(self, keyword: str, arg: str | None, usage: str) -> tuple[str | None, str, list[str]]:
        if self._s.extended_smtp:
            usage += PARAMETERS
        rest = None if arg is None else self._strip_command_keyword(keyword, arg)
        if rest is None:
            return usage, "", []
        address, parameters = self._getaddr(rest)
        if address is None or parameters is None:
            return MALFORMED, "", []
        if not address or (parameters and not self._s.extended_smtp):
            return usage, "", []
        options = parameters.upper().split()
        return (usage if self._getparams(options) is None else None), address, options

    def _mail_fault(self, options: list[str]) -> str | None:
        """What is wrong with the parameters of MAIL."""
        parameters = self._getparams(options) or {}
        if not self._decode_data and parameters.pop("BODY", "7BIT") not in ("7BIT", "8BITMIME"):
            return "501 Error: BODY can only be one of 7BIT, 8BITMIME"
        utf8 = parameters.pop("SMTPUTF8", False)
        if not isinstance(utf8, bool):
            return "501 Error: SMTPUTF8 takes no arguments"
        if utf8 and not self.enable_SMTPUTF8:
            return "501 Error: SMTPUTF8 disabled"
        size = parameters.pop("SIZE", None)
        if size is not None:
            if isinstance(size, bool) or not size.isdigit():
                return SYNTAX_MAIL + PARAMETERS
            if self.data_size_limit and int(size) > self.data_size_limit:
                return "552 Error: message size exceeds fixed maximum message size"
        return "555 MAIL FROM parameters not recognized or not implemented" if parameters else None

    def _strip_command_keyword(self, keyword: str, arg: str) -> str | None:
        head, rest = arg[: len(keyword)], arg[len(keyword) :]
        return rest.strip() if head.upper() == keyword else None

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """The address at the front of ``arg`` and what is behind it; ``None`` for both if there is no good one."""
        if not arg:
            return "", ""
        try:
            found, rest = get_angle_addr(arg) if arg.lstrip().startswith("<") else get_addr_spec(arg)
        except (HeaderParseError, IndexError):
            return None, None
        address: str = found.addr_spec
        if self.local_part_limit and len(address.rpartition("@")[0]) > self.local_part_limit:
            return None, None
        return address, rest

    def _getparams(self, params: Sequence[str]) -> dict[str, str | bool] | None:
        """The parameters by name; ``None`` if one is not in the grammar."""
        result: dict[str, str | bool] = {}
        for parameter in params:
            name, equals, value = parameter.partition("=")
            if not name.isalnum() or (equals and not value):
                return None
            result[name] = value if equals else True
        return result

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802
        """AUTH (RFC 4954). The engine reads it; this method is here for HELP."""
        raise NotImplementedError("the engine reads AUTH: write auth_* methods, or handle_AUTH of the handler")

    @syntax("RSET")
    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: N802
        """RSET (RFC 5321 4.1.1.5)."""
        if arg:
            await self.push("501 Syntax: RSET")
            return
        self._set_rset_state()
        hook: Any = getattr(self, "rset_hook", None)
        if hook is not None:
            warnings.warn("Use handler.handle_RSET() instead of .rset_hook()", DeprecationWarning, stacklevel=2)
            await hook()
        await self._hook_or("RSET", "250 OK")

    # ---- the rest ----------------------------------------------------------------------------------

    @syntax("NOOP [ignored]")
    async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: N802
        """NOOP (RFC 5321 4.1.1.9)."""
        await self._hook_or("NOOP", "250 OK", arg)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802
        """QUIT (RFC 5321 4.1.1.10)."""
        if arg:
            await self.push("501 Syntax: QUIT")
            return
        await self._hook_or("QUIT", "221 Bye")

    @syntax("VRFY <address>")
    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802
        """VRFY (RFC 5321 4.1.1.6)."""
        if await self.check_auth_needed("VRFY"):
            return
        if not arg:
            await self.push("501 Syntax: VRFY <address>")
            return
        address, _ = self._getaddr(arg)
        if address is None:
            await self.push("502 Could not VRFY " + arg)
            return
        await self._hook_or("VRFY", "252 Cannot VRFY user, but will accept message and attempt delivery", address)

    @syntax("HELP [command]")
    async def smtp_HELP(self, arg: str | None) -> None:  # noqa: N802
        """HELP (RFC 5321 4.1.1.8)."""
        if await self.check_auth_needed("HELP"):
            return
        method = self._smtp_methods.get(arg.upper()) if arg else None
        if method is not None and self._syntax_available(method):
            text = method.__smtp_syntax__
            if self._s.extended_smtp and method.__smtp_syntax_extended__:
                text += method.__smtp_syntax_extended__
            await self.push("250 Syntax: " + text)
            return
        names = sorted(name for name, known in self._smtp_methods.items() if self._syntax_available(known))
        await self.push(f"{501 if arg else 250} Supported commands: {' '.join(names)}")

    def _syntax_available(self, method: Any) -> bool:
        if not hasattr(method, "__smtp_syntax__"):
            return False
        when = method.__smtp_syntax_when__
        return bool(getattr(self, when)) if when else True

    async def smtp_EXPN(self, arg: str | None) -> None:  # noqa: N802
        """EXPN (RFC 5321 4.1.1.7) is not done."""
        await self.push("502 EXPN not implemented")
