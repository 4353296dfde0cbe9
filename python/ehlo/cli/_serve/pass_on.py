"""Mail passed on to the next hop while the client waits, and the next hop's word passed back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from ehlo._core import Envelope, RecipientResult, Reply, Sender, SendResult
from ehlo._errors import LocalProtocolError, OutcomeUnknown, SMTPConnectError, SMTPException
from ehlo._server.prepend import prepend_fields
from ehlo._server.session import Answer, Result, Session
from ehlo.cli._receive import complain, printable, received_by
from ehlo.cli._run import Tools
from ehlo.cli._serve.gate import COMMAND, Receiver
from ehlo.cli._serve.settings import Settings

__all__ = ["Forwarder", "answers_of", "worst_of"]

_LATER: Final = Reply(451, "4.3.0", "The next hop did not take it; try again later")
_UNREACHABLE: Final = Reply(451, "4.4.1", "The next hop cannot be reached; try again later")
_UNKNOWN: Final = Reply(451, "4.4.2", "The connection to the next hop broke; try again later")
_CANNOT: Final = Reply(554, "5.6.1", "The next hop lacks what this message needs")


class Forwarder(Receiver):
    """Passes mail on to the next hop, and the next hop's word back: nothing is kept here in between."""

    __slots__ = ("_pool",)

    def __init__(self, settings: Settings, pool: Any, tools: Tools) -> None:
        super().__init__(settings, None, tools)
        self._pool = pool

    def on_message(self, session: Session, envelope: Envelope, content: bytes) -> Result:
        refused = self.looped(content)
        return refused if refused is not None else self._forward(session, envelope, content)

    async def _forward(self, session: Session, envelope: Envelope, content: bytes) -> Answer:
        now = datetime.now().astimezone()
        # A relay adds Received and nothing else (RFC 5321 4.4, 6.4).
        message = prepend_fields(received_by(session, envelope, now), content)
        recipients = list(envelope.recipients)
        error: SMTPException | None = None
        try:
            result: SendResult | None = await self._pool.send(message, _onward(envelope.sender), recipients)
        except SMTPException as exc:
            error, result = exc, exc.result
        except LocalProtocolError as exc:  # what we took, our client does not send
            complain(f"{COMMAND}: a message cannot go to the next hop: {exc}")
            return _CANNOT
        if error is not None:
            complain(f"{COMMAND}: the next hop did not take a message: {printable(str(error))}")
        replies = answers_of(result, error, len(recipients))
        if any(reply.is_positive for reply in replies):
            self.say(now, session, envelope, len(content))
        return replies if session.protocol.removeprefix("UTF8").startswith("LMTP") else worst_of(replies)


def _onward(sender: Sender) -> Sender:
    """The reverse-path for the next hop, with what is end to end. AUTH= is not: whom we believe, it need not."""
    return Sender(
        sender.path,
        body=sender.body,
        smtputf8=sender.smtputf8,
        ret=sender.ret,
        envid=sender.envid,
        mt_priority=sender.mt_priority,
        requiretls=sender.requiretls,
    )


def answers_of(result: SendResult | None, error: SMTPException | None, count: int) -> list[Reply]:
    """What to tell our client of each recipient, after what the next hop said.

    Arguments:
        result: what became of the message, if there is one.
        error: what the client raised, if it did.
        count: of recipients.

    Example::

        answers_of(await pool.send(...), None, 2)
    """
    if result is None:
        unknown = isinstance(error, OutcomeUnknown)
        unreachable = isinstance(error, SMTPConnectError)
        return [_UNKNOWN if unknown else _UNREACHABLE if unreachable else _LATER] * count
    return [_answer(one, result) for one in result.recipients]


def _answer(one: RecipientResult, result: SendResult) -> Reply:
    reply = one.reply
    if reply is None:
        match result.failure:
            case "lost" | "unknown" | "mailmax" | "aborted" | None:
                return _UNKNOWN
            case _:
                return _CANNOT
    if reply.is_positive:
        return reply
    # 421 would end our own session, and what it says of AUTH and TLS is between us and it (RFC 4954 6, RFC 3207 4).
    return _LATER if reply.code == 421 or 530 <= reply.code < 540 else reply


def worst_of(replies: Sequence[Reply]) -> Reply:
    """The one reply that SMTP has for all recipients: the first of the highest class, so that no failure is hidden.

    Example::

        worst_of([Reply(250), Reply(452)]).code  # 452
    """
    return max(replies, key=lambda reply: reply.code // 100)
