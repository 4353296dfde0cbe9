"""A server with AUTH and STARTTLS, written for aiosmtpd. Its tests run it with aiosmtpd, and with our shape of it.

The module ``aiosmtpd`` is what the import names, so nothing in this file knows which of the two it is.
"""

from __future__ import annotations

import ssl
from types import ModuleType
from typing import Any


def controller_of(controller: ModuleType, smtp: ModuleType, context: ssl.SSLContext) -> tuple[Any, Any]:
    class Handler:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        async def handle_RCPT(  # noqa: N802
            self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
        ) -> str:
            if address.endswith("@elsewhere.example"):
                return "550 5.7.1 not relaying to that domain"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            self.seen.append((envelope.mail_from, envelope.rcpt_tos, envelope.content, session.auth_data.login))
            return "250 Message accepted for delivery"

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        if mechanism not in ("LOGIN", "PLAIN"):
            return smtp.AuthResult(success=False, handled=False)
        good = data == smtp.LoginPassword(b"jane", b"pencil")
        return smtp.AuthResult(success=good, handled=False, auth_data=data)

    class Server(smtp.SMTP):  # type: ignore[misc,name-defined]
        @smtp.syntax("XVERSION")  # type: ignore[untyped-decorator]
        async def smtp_XVERSION(self, arg: str | None) -> None:  # noqa: N802
            await self.push(f"250 version 3 for {self.session.host_name}")

        async def auth_XTOKEN(self, server: Any, args: list[str]) -> Any:  # noqa: N802
            token = await self.challenge_auth("token?")
            if token is smtp.MISSING:
                return smtp.AuthResult(success=False)
            return smtp.AuthResult(
                success=token == b"magic", handled=False, auth_data=smtp.LoginPassword(b"bearer", b"")
            )

    class Mine(controller.Controller):  # type: ignore[misc,name-defined]
        def factory(self) -> Any:
            return Server(self.handler, **self.SMTP_kwargs)

    handler = Handler()
    made = Mine(
        handler,
        hostname="127.0.0.1",
        port=0,
        server_hostname="mx.example",
        ident="Mail",
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=authenticate,
    )
    return made, handler
