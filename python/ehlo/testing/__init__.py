"""For tests: engines wired together in memory, scripted peers that misbehave, and a server that collects mail.

Nothing here sleeps, and time passes only when a test says so. The pytest fixtures ``smtp_server`` and ``lmtp_server``
come with the package; see :mod:`ehlo.testing.pytest_plugin`.

Example::

    with ehlo.testing.SMTPServer() as server:  # on asyncio; SMTPServer(backend="trio") on trio
        smtplib.SMTP(server.host, server.port).sendmail("a@b.example", ["c@d.example"], "hi")

The client may run on either, whatever the server runs on::

    async with ehlo.asyncio.connect(server.host, server.port) as client: ...
    async with ehlo.trio.connect(server.host, server.port) as client: ...
"""

from __future__ import annotations

from ehlo.testing._script import ScriptedClient, ScriptedPeer, ScriptedServer, ScriptError
from ehlo.testing._server import ReceivedMessage, SMTPServer
from ehlo.testing._transcript import Transcript, assert_dialogue
from ehlo.testing._wire import Wire

__all__ = [
    "ReceivedMessage",
    "SMTPServer",
    "ScriptError",
    "ScriptedClient",
    "ScriptedPeer",
    "ScriptedServer",
    "Transcript",
    "Wire",
    "assert_dialogue",
]
