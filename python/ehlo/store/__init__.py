"""Stores: mail that is delivered finally, in a Maildir or in an mbox file.

A store keeps this promise: when :meth:`Store.deliver` returns, the message is on the disk, whole and once, and it is
there after the process or the machine has stopped at any instant (RFC 5321 6.1). When it raises, nothing of the message
is kept. Every call blocks; a program with an event loop makes it in a thread.

Example::

    store = ehlo.store.Maildir("/var/mail/jane")
    await asyncio.to_thread(store.deliver, envelope, content, fields=received_field)
"""

from __future__ import annotations

from ehlo.store._expand import expand
from ehlo.store._maildir import Maildir
from ehlo.store._mbox import Mbox
from ehlo.store._store import Delivery, RecipientField, Store, failure_reply

__all__ = ["Delivery", "Maildir", "Mbox", "RecipientField", "Store", "expand", "failure_reply"]
