"""A mailing list: it takes a message for the list's address, and sends it to all members.

The members share one content in the queue, and each has a state of its own. Bounces go to the list's owner (RFC 5321
3.9.2: the list is the sender of what it sends). Run it with the name of a JSON file: hostname, list, owner, members,
port, spool, smart_host, smart_port; loop, if it is to be trio.
"""

import asyncio
import json
import logging
import sys
from functools import partial
from pathlib import Path

import trio

import ehlo
import ehlo.asyncio
import ehlo.mta
import ehlo.trio

CONFIG = json.loads(Path(sys.argv[1]).read_text())
MARK = f"List-Id: <{CONFIG['list'].replace('@', '.')}>\r\n".encode()


class MailingList(ehlo.Handler):
    def __init__(self, queue):
        self.queue = queue

    def on_mail(self, session, sender):
        return self.queue.refusal(sender.size or 0)

    def on_rcpt(self, session, recipient):
        is_list = str(recipient.path).lower() == CONFIG["list"]
        return None if is_list else "550 5.1.1 no such list"

    async def on_message(self, session, envelope, content):
        if MARK.lower() in content.partition(b"\r\n\r\n")[0].lower() + b"\r\n":
            return "554 5.4.6 this message came from the list already"
        ident = await self.queue.submit((CONFIG["owner"], CONFIG["members"]), MARK + content)
        return f"250 2.0.0 sent to {len(CONFIG['members'])} members as {ident}"


def route(recipient):
    return ehlo.mta.SmartHost(CONFIG["smart_host"], CONFIG["smart_port"])


async def on_asyncio():
    async with ehlo.mta.open_queue(CONFIG["spool"], hostname=CONFIG["hostname"], route=route) as queue:
        config = queue.server_config()
        async with await ehlo.asyncio.serve(MailingList(queue), "127.0.0.1", CONFIG["port"], config=config):
            await queue.run()


async def on_trio():
    async with ehlo.mta.open_queue(CONFIG["spool"], hostname=CONFIG["hostname"], route=route) as queue:
        config = queue.server_config()
        async with trio.open_nursery() as nursery:
            serve = partial(ehlo.trio.serve, MailingList(queue), "127.0.0.1", CONFIG["port"], config=config)
            await nursery.start(serve)
            await queue.run()


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
trio.run(on_trio) if CONFIG.get("loop") == "trio" else asyncio.run(on_asyncio())
