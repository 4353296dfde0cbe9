"""AUTH in this shape: ``auth_*`` methods, ``challenge_auth``, callbacks and authenticators.

Each mechanism is one that the program speaks itself (:meth:`ehlo.Handler.on_sasl`). The engine moves the octets.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import warnings
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

import ehlo
from ehlo._server.session import Raw, SaslCancelledError
from ehlo.compat.aiosmtpd._session import MISSING, AuthResult, Envelope, LoginPassword, Session

__all__ = [
    "AuthCallbackType",
    "AuthMechanismType",
    "AuthMethod",
    "AuthenticatorType",
    "Authenticators",
    "auth_mechanism",
    "login_always_fail",
]

F = TypeVar("F", bound=Callable[..., Any])
Challenge = Callable[[bytes], Awaitable[bytes]]

AuthCallbackType: TypeAlias = Callable[[str, bytes, bytes], bool]
"""What ``auth_callback`` is: it gets mechanism, login and password."""

AuthenticatorType: TypeAlias = Callable[[Any, Session, Envelope, str, Any], AuthResult]
"""What ``authenticator`` is: it gets server, session, envelope, mechanism and what the mechanism brought."""

AuthMechanismType: TypeAlias = Callable[[Any, list[str]], Awaitable[Any]]
"""What an ``auth_*`` method is: it gets the server, and the words behind AUTH."""

VALID_AUTHMECH: Final = re.compile(r"[A-Z0-9_-]+\Z")
SUCCESS: Final = "235 2.7.0 Authentication successful"
INVALID: Final = "535 5.7.8 Authentication credentials invalid"


class AuthMethod(NamedTuple):
    """An ``auth_*`` method, and whether it is the server's own."""

    method: Callable[..., Any]
    is_builtin: bool


def auth_mechanism(actual_name: str) -> Callable[[F], F]:
    """Decorate an ``auth_*`` method with the name of its mechanism.

    Raises:
        ValueError: it is no name for one (RFC 4422 3.1).

    Example::

        @auth_mechanism("X-MAGIC")
        async def auth_magic(self, server, args): ...
    """
    name = actual_name.upper()
    if not VALID_AUTHMECH.match(name):
        raise ValueError(f"Invalid AUTH mechanism name: {name}")

    def decorate(method: F) -> F:
        method.__auth_mechanism_name__ = name  # type: ignore[attr-defined]
        return method

    return decorate


def login_always_fail(mechanism: str, login: bytes, password: bytes) -> bool:
    """The callback of a server that was given none."""
    return False


class Authenticators:
    """The part of :class:`ehlo.compat.aiosmtpd.smtp.SMTP` for AUTH.

    Attributes:
        AuthLoginUsernameChallenge, AuthLoginPasswordChallenge: the prompts of LOGIN.
    """

    AuthLoginUsernameChallenge = "User Name\x00"
    AuthLoginPasswordChallenge = "Password\x00"

    _challenge: Challenge | None = None
    _aborted = False

    if TYPE_CHECKING:
        session: Session | None
        envelope: Envelope | None
        _auth_callback: Callable[[str, bytes, bytes], bool] | None
        _authenticator: Callable[..., AuthResult] | None
        _auth_methods: dict[str, AuthMethod]
        _timeout_duration: float
        loop: asyncio.AbstractEventLoop

        async def push(self, status: str | bytes) -> None: ...

        async def _call_handler_hook(self, command: str, *args: Any) -> Any: ...

        def _time_out(self) -> None: ...

        async def _perform(self, action: Callable[..., Awaitable[None]], *args: Any) -> Raw: ...

    async def _authenticate_client(self, mechanism: str, initial: bytes | None, challenge: Challenge) -> Any:
        """What AUTH does: the verdict for the engine."""
        assert self.session is not None
        self._challenge, self._aborted = challenge, False
        args = [mechanism] if initial is None else [mechanism, b64encode(initial).decode("ascii")]
        # The limits of the session begin anew with each response and each wait of a method. This is for the whole.
        timer = self.loop.call_later(self._timeout_duration, self._time_out)
        try:
            said = await self._perform(self._speak, args)
        finally:
            timer.cancel()
            self._challenge = None
        if self._aborted:
            raise SaslCancelledError("the client has ended the exchange")
        if self.session.authenticated and said.octets[:3] == b"235" and said.octets.count(b"\n") == 1:
            login = self.session._login_data
            name = login.decode("utf-8", "replace") if isinstance(login, bytes) else str(login or mechanism)
            return ehlo.Identity(name, reply=said.octets.decode("utf-8", "replace").rstrip("\r\n"))
        return said

    async def _speak(self, args: list[str]) -> None:
        session = self.session
        assert session is not None
        if session.authenticated:
            await self.push("503 Already authenticated")
            return
        status = await self._call_handler_hook("AUTH", args)
        if status is MISSING:
            result = await self._auth_methods[args[0]].method(self, args)
            status = self._judge_result(result)
        elif isinstance(status, str) and status.startswith("235"):
            session.authenticated = True
        if status is not None and not self._aborted:
            await self.push(status)

    def _judge_result(self, result: Any) -> str | None:
        """The reply to what an ``auth_*`` method returned; ``None`` if it was pushed already."""
        session = self.session
        assert session is not None
        if isinstance(result, AuthResult):
            if result.success:
                session.authenticated = True
                session.auth_data = result.auth_data
                session._login_data = getattr(result.auth_data, "login", None)
                return result.message or SUCCESS
            return None if result.handled else result.message or INVALID
        if result is None:
            return None
        if result is MISSING or result is False:
            return INVALID
        session.authenticated = True
        session._login_data = result
        return SUCCESS

    async def challenge_auth(
        self, challenge: str | bytes, encode_to_b64: bool = True, log_client_response: bool = False
    ) -> Any:
        """Send a challenge, and give the response without its base64; ``MISSING`` if the client gave none.

        Arguments:
            challenge: without the ``334`` in front of it.
            encode_to_b64: whether base64 is still to be made of it. RFC 4954 4 has no other challenge.
            log_client_response: warns; nothing is logged here.

        Raises:
            ValueError: what is said to be base64 is none.
        """
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        if log_client_response:
            warnings.warn("AUTH interaction logging is enabled!", stacklevel=2)
            warnings.warn("Sensitive information might be leaked!", stacklevel=2)
        if not encode_to_b64:
            try:
                octets = b64decode(octets, validate=True)
            except binascii.Error as exc:
                raise ValueError(f"a challenge goes out in base64 (RFC 4954 4), and {octets!r} is none") from exc
        assert self._challenge is not None, "challenge_auth() is awaited inside an auth_* method"
        try:
            return await self._challenge(octets)
        except SaslCancelledError:
            self._aborted = True
            return MISSING

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        if self._authenticator is not None:
            return self._authenticator(self, self.session, self.envelope, mechanism, auth_data)
        assert self._auth_callback is not None
        if self._auth_callback(mechanism, *auth_data):
            return AuthResult(success=True, handled=True, auth_data=auth_data)
        return AuthResult(success=False, handled=False)

    async def auth_PLAIN(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802
        """PLAIN (RFC 4616 2)."""
        message = await self.challenge_auth("") if len(args) == 1 else b64decode(args[1])
        if message is MISSING:
            return AuthResult(success=False)
        parts = message.split(b"\x00")
        if len(parts) != 3:
            await self.push("501 5.5.2 Can't split auth value")
            return AuthResult(success=False)
        return self._authenticate("PLAIN", LoginPassword(parts[1], parts[2]))

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802
        """LOGIN, which has no RFC: two prompts."""
        login = await self.challenge_auth(self.AuthLoginUsernameChallenge) if len(args) == 1 else b64decode(args[1])
        if login is MISSING:
            return AuthResult(success=False)
        password = await self.challenge_auth(self.AuthLoginPasswordChallenge)
        if password is MISSING:
            return AuthResult(success=False)
        return self._authenticate("LOGIN", LoginPassword(login, password))
