"""A delivery agent: it takes mail by LMTP (RFC 2033) on a Unix socket, and puts it into Maildirs.

Each recipient gets a reply of its own. There is no queue: what cannot be stored now gets a 4yz, and the MTA keeps it.
Run it with the name of a JSON file: hostname, mailboxes, socket, maildirs; loop, if it is to be trio.
"""

import asyncio
import json
import sys
from pathlib import Path

import anyio.to_thread
import trio

import ehlo
import ehlo.asyncio
import ehlo.trio
from ehlo.store import Maildir, expand, failure_reply

CONFIG = json.loads(Path(sys.argv[1]).read_text())
SERVER = ehlo.ServerConfig(hostname=CONFIG["hostname"], lmtp=True)


class Agent(ehlo.Handler):
    def on_rcpt(self, session, recipient):
        is_known = recipient.path.local_part.lower() in CONFIG["mailboxes"]
        return None if is_known else "550 5.1.1 no such mailbox"

    async def on_message(self, session, envelope, content):
        return [await self.deliver(envelope, recipient, content) for recipient in envelope.recipients]

    async def deliver(self, envelope, recipient, content):
        try:
            await anyio.to_thread.run_sync(self.store, envelope, recipient, content)
        except OSError as exc:
            return failure_reply(exc)
        return "250 2.0.0 delivered"

    def store(self, envelope, recipient, content):
        folder = expand(CONFIG["maildirs"] + "/{domain}/{local_part}", recipient.path)
        Maildir(folder, parents=True).deliver(envelope, content)


async def on_asyncio():
    async with await ehlo.asyncio.serve(Agent(), path=CONFIG["socket"], config=SERVER) as server:
        await server.serve_forever()


async def on_trio():
    await ehlo.trio.serve(Agent(), path=CONFIG["socket"], config=SERVER)


trio.run(on_trio) if CONFIG.get("loop") == "trio" else asyncio.run(on_asyncio())
