"""Django's backend for mail over :mod:`ehlo.compat.smtplib`, with sessions that are kept."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from ehlo.compat.smtplib import SMTPConnectError
from ehlo.contrib.django._kept import KeptSMTP, KeptSMTPS, Session, Shelf

__all__ = ["EmailBackend"]

if TYPE_CHECKING:  # Django has no types

    class DjangosBackend:
        """The names of Django's backend that are used here."""

        host: str
        port: int
        username: str
        password: str
        use_tls: bool
        use_ssl: bool
        timeout: float | None
        ssl_keyfile: str | None
        ssl_certfile: str | None
        ssl_context: ssl.SSLContext
        connection: Any
        _partial_connection: Any

        def __init__(self, *args: Any, **options: Any) -> None: ...

        def open(self) -> bool | None: ...

        def _close_connection(self, connection: Any) -> None: ...

else:
    from django.core.mail.backends.smtp import EmailBackend as DjangosBackend

_shelf: Final = Shelf()


class EmailBackend(DjangosBackend):
    """Django's SMTP backend with the engine of this package. Its arguments, settings and exceptions are Django's.

    A message goes out in as few round trips as the server allows. ``close`` keeps the connection for the next mail of
    the same settings, by any thread; see :mod:`ehlo.contrib.django` for the two settings. A kept connection that the
    server has ended meanwhile is replaced, and the message goes out once more (C-CLI-19).

    Example::

        EMAIL_BACKEND = "ehlo.contrib.django.EmailBackend"
    """

    connection: Session | None
    _partial_connection: Session | None

    @property
    def connection_class(self) -> type[Session]:
        return KeptSMTPS if self.use_ssl else KeptSMTP

    def open(self) -> bool | None:
        """Take a kept connection, or make one; Django's own has the rest.

        Returns:
            Whether there was none before: then who opened it closes it. ``None`` if it failed silently.
        """
        if not self.connection and self._partial_connection is None and self._seconds > 0:
            self.connection = _shelf.take(self._key, seconds=self._seconds)
            if self.connection is not None:
                self.connection.renew = self._renew_of(self.connection)
                return True
        return super().open()

    def _close_connection(self, connection: Any) -> None:
        usable = connection is self.connection and isinstance(connection, Session) and connection.sock is not None
        if not usable or self._seconds <= 0:
            super()._close_connection(connection)
            return
        connection.renew = None
        most = getattr(settings, "EHLO_EMAIL_KEEP_CONNECTIONS", 10)
        _shelf.put(self._key, connection, seconds=self._seconds, most=most)

    @property
    def _seconds(self) -> float:
        seconds: float = getattr(settings, "EHLO_EMAIL_KEEP_SECONDS", 30.0)
        return seconds

    @property
    def _key(self) -> Hashable:
        """What two backends must agree in to share a connection."""
        return (
            type(self),
            self.host,
            self.port,
            self.username,
            self.password,
            self.use_tls,
            self.use_ssl,
            self.timeout,
            self.ssl_keyfile,
            self.ssl_certfile,
        )

    def _renew_of(self, session: Session) -> Any:
        def renew() -> None:
            code, text = session.connect(self.host, self.port)
            if code != 220:
                session.close()
                raise SMTPConnectError(code, text)
            session.ehlo_resp = session.helo_resp = None
            if self.use_tls and not self.use_ssl:
                session.starttls(context=self.ssl_context)
            if self.username and self.password:
                session.login(self.username, self.password)

        return renew
