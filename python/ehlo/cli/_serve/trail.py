"""The trail: one line for each event, from which can be read who sent what to whom, and why the refused were refused.

docs/log.md has every event and every field.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import ehlo
from ehlo.cli._log import (
    ERROR,
    INFO,
    WARNING,
    FileTarget,
    LogWriter,
    StreamTarget,
    SyslogTarget,
    Target,
    console_writer,
    escaped,
)
from ehlo.cli._receive import complain, say
from ehlo.cli._serve.settings import Log, Settings
from ehlo.milter._words import REFUSED_BY

__all__ = ["Format", "Trail", "json_line", "open_trail", "path_words", "reply_words", "text_line"]

Format: TypeAlias = Literal["text", "json"]

# Most values are of these characters, and stand as they are.
_PLAIN: Final = re.compile(r"[!#-\[\]-~]+").fullmatch
_ENCODE: Final = json.JSONEncoder(default=str).encode
# Recipients that one line names. Each delivery has a line of its own.
_NAMED: Final = 50
# Characters of a value: more than a path, a reply or a parameter has.
_LONGEST: Final = 1200
# Reasons for the end of a session (ehlo.Disconnect) that need nobody's attention.
_QUIET_ENDS: Final = frozenset(("quit", "eof", "shutdown"))
_LEVELS: Final = {logging.WARNING: WARNING, logging.ERROR: ERROR, logging.CRITICAL: ERROR}
# A line of the log forgives what the engine may have forgiven.
_FORGIVEN: Final = ("space_after_colon", "bare_paths", "extra_space", "dots_in_local_part", "domain_underscore")
# Loggers of the library whose records belong into the trail.
_LOGGERS: Final = ("ehlo",)


class _Second:
    """The text of one second of time: most lines have that of the line before."""

    def __init__(self) -> None:
        self._last = (-1, "")  # both at once: another thread may write lines, too

    def text(self, clock: float) -> str:
        """RFC 3339 in UTC, with milliseconds."""
        number, text = self._last
        if number != int(clock):
            number, text = int(clock), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(clock))
            self._last = (number, text)
        return f"{text}.{int((clock - number) * 1000):03}Z"


_SECOND: Final = _Second()


def text_line(clock: float, event: str, fields: Iterable[tuple[str, Any]], *, with_time: bool = True) -> str:
    """An event in plain words: ``TIME EVENT KEY=VALUE …``. A value with blanks, quotes or backslashes is in quotes.

    Arguments:
        clock: seconds of the Unix epoch.
        with_time: whether the line has its time; the journal adds its own.

    Example::

        >>> text_line(0, "refused", [("reply", "550 5.1.1 no such user")])
        '1970-01-01T00:00:00.000Z refused reply="550 5.1.1 no such user"'
    """
    words = [_SECOND.text(clock), event] if with_time else [event]
    for key, value in fields:
        if (type(value) is str and len(value) <= _LONGEST and _PLAIN(value)) or type(value) is int:  # most are
            words.append(f"{key}={value}")
        elif type(value) is list:
            words.append(f"{key}={','.join(map(_quoted, value))}")
        else:
            words.append(f"{key}={_quoted(value)}")
    return " ".join(words)


def _quoted(value: Any) -> str:
    text = str(value)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    if text and text.isprintable() and not (" " in text or '"' in text or "\\" in text):
        return text
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def json_line(clock: float, event: str, fields: Iterable[tuple[str, Any]]) -> str:
    """An event as one JSON object, in ASCII.

    Example::

        >>> json_line(0, "accepted", [("id", "01"), ("size", 9)])
        '{"time": "1970-01-01T00:00:00.000Z", "event": "accepted", "id": "01", "size": 9}'
    """
    line: dict[str, Any] = {"time": _SECOND.text(clock), "event": event}
    for key, value in fields:
        line[key] = value[:_LONGEST] + "…" if type(value) is str and len(value) > _LONGEST else value
    return _ENCODE(line)


class Trail:
    """Writes events, and what the library logs, beside the loop. Inside its ``with`` block it hears the library's
    loggers.

    Arguments:
        writer: of the lines. It stays open at the end of the block.
        form: "text" or "json".
        quiet: leave out what went well: only warnings and errors.
        with_time: whether text lines have their time.
        clock: gives seconds of the Unix epoch.

    Example::

        with Trail(LogWriter(FileTarget("mail.log"), str), "json") as trail:
            trail.tell("listening", address="127.0.0.1:25", protocol="smtp")
    """

    def __init__(
        self,
        writer: LogWriter,
        form: Format = "text",
        *,
        quiet: bool = False,
        with_time: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._form = form
        self._quiet = quiet
        self._with_time = with_time
        self._clock = clock
        self._writer = writer
        writer.lost = lambda count: self._line("dropped", [("lines", count)])
        self._listener = _Listener(self)
        self._before: list[tuple[logging.Logger, int, bool]] = []
        self.watch: Callable[[str, dict[str, Any]], None] | None = None
        """Gets every event as well, with its fields: what counts them. To be set before the ``with`` block."""

    def __enter__(self) -> Self:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.level, logger.propagate))
            for other in list(logger.handlers):
                if isinstance(other, _Listener):  # of the process that this one was forked from
                    logger.removeHandler(other)
            logger.addHandler(self._listener)
            logger.setLevel(logging.WARNING if self._quiet and self.watch is None else logging.INFO)
            logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for logger, level, propagate in self._before:
            logger.removeHandler(self._listener)
            logger.setLevel(level)
            logger.propagate = propagate
        self._before.clear()

    @property
    def dropped(self) -> int:
        """Lines that were dropped."""
        return self._writer.dropped

    def reopen(self) -> None:
        """The file of the log may have been moved: SIGHUP."""
        self._writer.reopen()

    def tell(self, event: str, level: int = INFO, /, **fields: Any) -> None:
        """One line. Never waits and never raises. A field that is ``None`` is left out.

        Arguments:
            event: one word.
            level: :data:`ehlo.cli._log.INFO`, ``WARNING`` or ``ERROR``.

        Example::

            trail.tell("reloaded", file="serve.toml")
        """
        if self.watch is not None:
            self.watch(event, fields)
        if level < INFO or not self._quiet:
            present = [pair for pair in fields.items() if pair[1] is not None]
            self._writer.write(self._line(event, present), level)

    def _line(self, event: str, fields: list[tuple[str, Any]]) -> str:
        clock = self._clock()
        if self._form == "json":
            return json_line(clock, event, fields)
        return text_line(clock, event, fields, with_time=self._with_time)

    def say(self, text: str, event: str, /, **fields: Any) -> None:
        """What an administrator waits for at a start or an end: as text where lines are text, as an event in JSON. It
        is said when quiet, too, and on standard output, wherever the log is.

        Example::

            trail.say("ehlo serve: listening on 127.0.0.1:25", "listening", address="127.0.0.1:25")
        """
        is_console = self._writer is console_writer("stdout")
        if is_console and self._form == "text":
            self._writer.write(text)
        else:
            self._writer.write(self._line(event, list(fields.items())))
        if not is_console:
            say(text)

    def warn(self, text: str, event: str, level: int = ERROR, /) -> None:
        """What an administrator must know: a line on standard error, and an event where the log is elsewhere.

        Arguments:
            text: the line.
            event: one word.
            level: of the event: :data:`ehlo.cli._log.ERROR` or ``WARNING``.

        Example::

            trail.warn("ehlo serve: nothing was changed: queue.paht is no setting", "not-reloaded")
        """
        complain(text)
        if self._form == "json" or self._writer not in (console_writer("stdout"), console_writer("stderr")):
            self.tell(event, level, text=text)

    # ---- events of a session ---------------------------------------------------------------------

    def accepted(self, session: ehlo.Session, envelope: ehlo.Envelope, ident: str, size: int) -> None:
        """A message was accepted without a queue; with one, the queue says so.

        Arguments:
            ident: as in Received and in the reply.
            size: octets.
        """
        self.tell(
            "accepted",
            id=ident,
            **_client(session),
            protocol=session.protocol,
            sender=path_words(envelope.sender.path),
            **_recipients(envelope),
            size=size,
        )

    def discarded(self, session: ehlo.Session, envelope: ehlo.Envelope, reason: str) -> None:
        """A message was answered 250, and filters let it go nowhere."""
        sender = path_words(envelope.sender.path)
        self.tell("discarded", **_client(session), sender=sender, **_recipients(envelope), reason=reason)

    def refused(self, session: ehlo.Session, refused: ehlo.Refused) -> None:
        """A reply 4yz or 5yz went out: what :meth:`ehlo.Handler.on_refused` gets."""
        command, envelope = refused.command, refused.envelope
        fields = _client(session)
        if command == "AUTH":
            fields |= {"mechanism": session.mechanism or refused.argument or None, "attempted": session.attempted}
        elif envelope is not None:
            fields["sender"] = path_words(envelope.sender.path)
        if command in ("MAIL", "RCPT"):
            fields["argument"] = refused.argument
            fields |= _of_argument(command, refused.argument)
        elif command in ("DATA", "BDAT") and envelope is not None:
            fields |= _recipients(envelope)
        elif refused.argument and command != "AUTH":
            fields["argument"] = refused.argument
        name, reply = session.state.get(REFUSED_BY, (None, None))
        if reply == refused.reply:
            fields["filter"] = name
        self.tell("refused", WARNING, command=command or "none", reply=reply_words(refused.reply), **fields)

    def ended(self, session: ehlo.Session, reason: str) -> None:
        """A connection is over. It has a line if something came of it, or if it did not end as it should."""
        refused = sum(session.refusals.values())
        if session.messages or refused or session.identity or reason not in _QUIET_ENDS:
            self.tell(
                "connection",
                **_client(session),
                mechanism=session.mechanism if session.identity else None,
                reason=reason,
                messages=session.messages,
                refused=refused,
                commands=session.commands,
            )


class _Listener(logging.Handler):
    """Puts what the library logs into the trail."""

    def __init__(self, trail: Trail) -> None:
        super().__init__()
        self._trail = trail

    def createLock(self) -> None:  # noqa: N802
        """The trail has its own."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """One event, or one line of text."""
        level = _LEVELS.get(record.levelno, INFO)
        told: Any = record.msg
        if hasattr(told, "event") and hasattr(told, "fields"):  # a line of ehlo.mta
            fields = {key: _known(key, value) for key, value in told.fields.items()}
            ident = None if told.ident == "-" else told.ident
            self._trail.tell(told.event, level, id=ident, **fields, **_failure(record))
        elif hasattr(record, "client") and hasattr(record, "reason"):
            self._trail.tell("turned-away", WARNING, **_address(record.client), reason=record.reason)
        else:
            self._trail.tell("log", level, text=record.getMessage(), **_failure(record))


def _known(key: str, value: Any) -> Any:
    """A field of ehlo.mta, written as the trail writes it: ``to`` is a list, and paths are in brackets."""
    if isinstance(value, ehlo.Reply):
        return reply_words(value)
    if key == "sender":
        return f"<{value}>"
    if key == "to":
        return [f"<{one}>" for one in (value if isinstance(value, list) else [value])]
    return value if isinstance(value, list | int | float) or value is None else str(value)


def _failure(record: logging.LogRecord) -> dict[str, str]:
    """The exception of a record, and the place where it was raised."""
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    exc, place = record.exc_info[1], record.exc_info[2]
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return {"exception": f"{type(exc).__name__}: {exc}{where}"}


# ---- values --------------------------------------------------------------------------------------


def _address(peer: tuple[str, int] | None) -> dict[str, Any]:
    return {"client": "unix"} if peer is None else {"client": peer[0], "port": peer[1]}


def _client(session: ehlo.Session) -> dict[str, Any]:
    hello = session.hello
    return {
        **_address(session.peer),
        "hello": None if hello is None else hello[1],
        "user": session.identity,
        "tls": session.cipher_suite,
    }


def reply_words(reply: ehlo.Reply) -> str:
    """A reply on one line: of one in several lines, all texts."""
    status = f"{reply.code} {reply.enhanced}" if reply.enhanced else str(reply.code)
    return f"{status} {' '.join(reply.text.split())}"


def path_words(path: ehlo.ReversePath | ehlo.ForwardPath) -> str:
    """A path in angle brackets."""
    if isinstance(path, ehlo.Address):
        return f"<{path.mailbox}>"
    return "<>" if path.is_null else "<Postmaster>"


def _recipients(envelope: ehlo.Envelope) -> dict[str, Any]:
    named = [path_words(one.path) for one in envelope.recipients[:_NAMED]]
    return {"to": named, "recipients": len(envelope.recipients)}


def _of_argument(command: str, argument: str) -> dict[str, Any]:
    """The path in a MAIL or RCPT, if it can be read."""
    try:
        parsed = ehlo.parse_command(f"{command} {argument}\r\n".encode(), lenient=_FORGIVEN)
    except ehlo.EhloError:
        return {}
    if parsed.sender is not None:
        return {"sender": path_words(parsed.sender.path)}
    return {} if parsed.recipient is None else {"to": [path_words(parsed.recipient.path)]}


# ---- where it goes -------------------------------------------------------------------------------


@contextmanager
def open_trail(settings: Settings) -> Iterator[Trail]:
    """The trail of [log], inside of :func:`ehlo.cli._log.lines_beside`.

    Raises:
        UsageError: the place cannot be written to.
    """
    table = settings.log
    try:
        own = _target(table)
    except OSError as exc:
        raise settings.error("log", f"{table.file or 'syslog'}: {exc.strerror or exc}") from None
    console = None if own is not None else console_writer("stderr" if table.to == "stderr" else "stdout")
    writer = console or LogWriter(own or StreamTarget(None), str)
    # The journal and syslog have the time themselves.
    with_time = table.file is not None or (table.to != "syslog" and not writer.is_journal)
    form: Format = "json" if table.format == "json" else "text"
    with Trail(writer, form, quiet=settings.quiet, with_time=with_time) as trail:
        try:
            yield trail
        finally:
            if console is None:
                writer.close()


def _target(table: Log) -> Target | None:
    if table.file is not None:
        return FileTarget(table.file)
    if table.to != "syslog":
        return None
    target = SyslogTarget()
    target.check()
    return target
