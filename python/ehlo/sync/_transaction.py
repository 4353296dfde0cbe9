"""A transaction step by step, by calls that block: :class:`Transaction`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, overload

from ehlo._client.message import SendableMessage
from ehlo._client.paths import RecipientLike, SenderLike
from ehlo._client.transaction import Transaction as AsyncTransaction
from ehlo._core import Reply, SendResult
from ehlo.sync._run import refuse_async

__all__ = ["Transaction"]


class Transaction:
    """What ``transaction`` gives: one mail transaction, which the program makes step by step (RFC 5321 3.3). ``with``
    begins it with MAIL. Where it is left before :meth:`send`, RSET ends it.

    A ``RecipientLike`` is a text like ``"c@d.example"``, an :class:`ehlo.Address` or an :class:`ehlo.Recipient`. A
    ``SendableMessage`` is octets, an ``EmailMessage``, a binary file, or an iterable of chunks.

    Example::

        with client.transaction("a@b.example") as transaction:
            if transaction.rcpt("c@d.example").is_positive: transaction.send(octets)
    """

    __slots__ = ("_inner", "_run")

    def __init__(self, inner: AsyncTransaction, runner: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._inner = inner
        self._run = runner

    @property
    def sender(self) -> SenderLike:
        """The reverse-path."""
        return self._inner.sender

    @property
    def result(self) -> SendResult | None:
        """What :meth:`send` had for a result; ``None`` before."""
        return self._inner.result

    def __enter__(self) -> Self:
        """Say MAIL. Exceptions are those of :meth:`ehlo.asyncio.Client.transaction`."""
        self._run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._inner.__aexit__(kind, exc, traceback))

    @overload
    def rcpt(self, recipient: RecipientLike, /) -> Reply: ...

    @overload
    def rcpt(self, recipient: RecipientLike, another: RecipientLike, /, *others: RecipientLike) -> list[Reply]: ...

    def rcpt(self, *recipients: RecipientLike) -> Reply | list[Reply]:
        """Say RCPT, and wait for the reply (RFC 5321 4.1.1.3). The server may refuse: a reply is no exception here.

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Transaction.rcpt`.

        Example::

            replies = transaction.rcpt("c@d.example", "e@f.example")
        """
        found: Reply | list[Reply] = self._run(self._inner.rcpt(*recipients))
        return found

    def send(self, body: SendableMessage, *, check: bool = True) -> SendResult:
        """Send the content by DATA or BDAT, and wait until the server has answered for every recipient. This ends the
        transaction.

        Arguments, result and exceptions are those of :meth:`ehlo.asyncio.Transaction.send`; and:

        Raises:
            TypeError: the content is an async iterable.

        Example::

            result = transaction.send(octets, check=False)
        """
        refuse_async(body)
        result: SendResult = self._run(self._inner.send(body, check=check))
        return result
