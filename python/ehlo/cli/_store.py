"""Where ``ehlo sink`` puts messages: a Maildir or an mbox file, by the standard library's :mod:`mailbox`.

These calls block and wait for the disk (what was accepted must survive a crash, RFC 5321 6.1); adapters run them in a
worker thread.
"""

from __future__ import annotations

import mailbox
import os
import re
import secrets
import threading
import time
from datetime import datetime
from typing import Final, Protocol

from ehlo._core import Address, Envelope
from ehlo._server.handler import Session
from ehlo._server.trace_fields import received, return_path
from ehlo._tls import cipher_suite

__all__ = ["MaildirStore", "MboxStore", "Store", "received_by", "trace_of"]

# Lines that an mbox quotes besides the plain "From " that the standard library quotes: so ">From " comes back as it
# was (the "mboxrd" way), and nothing is lost.
_QUOTED_FROM: Final = re.compile(rb"^(>+From )", re.MULTILINE)
_LOCK_SECONDS: Final = 30.0


class Store(Protocol):
    """Keeps messages."""

    def deliver(self, envelope: Envelope, content: bytes, trace: bytes, now: datetime) -> None:
        """Keep one message; returns when it is on the disk. Raises OSError. Blocks: call it in a thread."""

    def close(self) -> None:
        """No more messages will come."""


def trace_of(session: Session, envelope: Envelope, now: datetime) -> bytes:
    """Return-Path and Received for a message that is delivered here finally (RFC 5321 4.4).

    Arguments:
        session, envelope: how it came.
        now: when it was received, with its offset from UTC.

    Example::

        store.deliver(envelope, content, trace_of(session, envelope, now), now)
    """
    return return_path(envelope.sender.path) + received_by(session, envelope, now)


def received_by(session: Session, envelope: Envelope, now: datetime) -> bytes:
    """Received for a message, with all that the session knows (RFC 5321 4.4, RFC 8314 7.4, RFC 6710 4.1). A relay adds
    this and nothing else.

    Arguments:
        session, envelope: how it came.
        now: when it was received, with its offset from UTC.

    Example::

        await pool.send(received_by(session, envelope, now) + content, envelope.sender, envelope.recipients)
    """
    hello = session.hello
    return received(
        now=now,
        by=session.hostname,
        hello=None if hello is None else hello[1],
        peer=None if session.peer is None else session.peer[0],
        protocol=session.protocol,
        ident=secrets.token_hex(8),
        recipients=[recipient.path for recipient in envelope.recipients],
        smtputf8=envelope.smtputf8,
        tls=cipher_suite(session.tls),
        priority=envelope.sender.mt_priority,
    )


def _unix(octets: bytes) -> bytes:
    """Line ends as files have them; nothing else changes."""
    return octets.replace(b"\r\n", b"\n")


class MaildirStore:
    """A Maildir: one file a message, synced before :meth:`deliver` returns.

    Arguments:
        path: the directory; made if it is not there.

    Raises:
        OSError: it cannot be made, or is no directory.

    Example::

        store = MaildirStore("/var/mail/test")
        store.deliver(envelope, content, trace, datetime.now().astimezone())
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._box = mailbox.Maildir(os.fspath(path), factory=None, create=True)
        for part in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(path, part), mode=0o700, exist_ok=True)
        if not os.access(os.path.join(path, "new"), os.W_OK) or not os.access(os.path.join(path, "tmp"), os.W_OK):
            raise PermissionError(13, "not writable", os.fspath(path))
        self._lock = threading.Lock()  # mailbox.Maildir counts its names without one

    def deliver(self, envelope: Envelope, content: bytes, trace: bytes, now: datetime) -> None:
        """See :meth:`Store.deliver`."""
        message = _unix(trace + content)
        with self._lock:
            self._box.add(message)

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._box.close()


class MboxStore:
    """An mbox file (RFC 4155): separator lines with the envelope's sender, ``From `` lines in messages quoted by ``>``.

    Quoting is reversible: a line ``>From`` becomes ``>>From`` ("mboxrd"). Locked against other programs for the time
    of each delivery, and synced before :meth:`deliver` returns.

    Arguments:
        path: the file; made if it is not there.

    Raises:
        OSError: it cannot be opened for writing.

    Example::

        store = MboxStore("inbox.mbox")
        store.deliver(envelope, content, trace, datetime.now().astimezone())
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        with open(name, "ab"):
            pass
        self._box = mailbox.mbox(name, factory=None, create=True)
        self._lock = threading.Lock()

    def deliver(self, envelope: Envelope, content: bytes, trace: bytes, now: datetime) -> None:
        """See :meth:`Store.deliver`."""
        path = envelope.sender.path
        sender = path.mailbox if isinstance(path, Address) else "MAILER-DAEMON"
        # A quoted local part may hold spaces; the separator is parsed by spaces (B-TRC-16, RFC 4155 App. A).
        sender = "".join("_" if char.isspace() else char for char in sender)
        separator = f"From {sender} {time.asctime(now.utctimetuple())}\n".encode()
        message = separator + _QUOTED_FROM.sub(rb">\1", _unix(trace + content))
        with self._lock:
            self._acquire()
            try:
                self._box.add(message)
                self._box.flush()
            finally:
                self._box.unlock()

    def _acquire(self) -> None:
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._box.lock()
                return
            except mailbox.ExternalClashError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._box.close()
