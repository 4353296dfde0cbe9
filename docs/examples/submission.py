"""A submission server (RFC 6409): it takes mail from its users, and gives all of it to one smart host.

Run it with the name of a JSON file: hostname, users, port, spool, smart_host, smart_port; if you like, tls,
smart_tls, smart_login with a name and a password, and loop, if it is to be trio.
"""

import asyncio
import json
import logging
import ssl
import sys
from functools import partial
from pathlib import Path

import trio

import ehlo
import ehlo.asyncio
import ehlo.mta
import ehlo.trio

CONFIG = json.loads(Path(sys.argv[1]).read_text())


class Submission(ehlo.mta.QueueHandler):
    def on_auth(self, session, credentials):
        return credentials.check(CONFIG["users"].get(credentials.username))

    def on_mail(self, session, sender):
        if session.identity is None:
            return "530 5.7.0 Authentication required"
        return super().on_mail(session, sender)


def route(recipient):
    login = CONFIG.get("smart_login")
    return ehlo.mta.SmartHost(
        CONFIG["smart_host"], CONFIG["smart_port"], auth=tuple(login) if login else None, tls=CONFIG.get("smart_tls")
    )


def tls():
    if "tls" not in CONFIG:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CONFIG["tls"])
    return context


def settings(queue):
    context = tls()
    config = queue.server_config(auth=["PLAIN", "LOGIN"], auth_in_clear=[] if context else ["PLAIN"])
    return {"host": "127.0.0.1", "port": CONFIG["port"], "config": config, "tls": context}


def opened():
    return ehlo.mta.open_queue(CONFIG["spool"], hostname=CONFIG["hostname"], route=route)


async def on_asyncio():
    async with opened() as queue, await ehlo.asyncio.serve(Submission(queue), **settings(queue)):
        await queue.run()


async def on_trio():
    async with opened() as queue, trio.open_nursery() as nursery:
        await nursery.start(partial(ehlo.trio.serve, Submission(queue), **settings(queue)))
        await queue.run()


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
trio.run(on_trio) if CONFIG.get("loop") == "trio" else asyncio.run(on_asyncio())
