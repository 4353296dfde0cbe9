"""A whole MTA: it takes mail for its own domains from everybody, and for all domains from its users.

Run it with the name of a JSON file: hostname, domains, mailboxes, users, port, spool, maildirs; tls, if you like.
"""

import asyncio
import json
import logging
import ssl
import sys
from pathlib import Path

import ehlo
import ehlo.asyncio
import ehlo.mta

CONFIG = json.loads(Path(sys.argv[1]).read_text())
LOCAL = {*CONFIG["domains"], CONFIG["hostname"]}


class Inbound(ehlo.mta.QueueHandler):
    def on_auth(self, session, credentials):
        return credentials.check(CONFIG["users"].get(credentials.username))

    def on_rcpt(self, session, recipient):
        is_local = recipient.domain is None or recipient.domain in LOCAL  # <Postmaster> has no domain
        return None if is_local or session.identity else "550 5.7.1 no relaying here"


def route(recipient):
    if recipient.domain not in LOCAL:
        return ehlo.mta.Mx(port=CONFIG.get("mx_port", 25))
    if recipient.path.local_part.lower() not in CONFIG["mailboxes"]:
        return ehlo.mta.Fail("550 5.1.1 no such mailbox")
    return ehlo.mta.Maildir(CONFIG["maildirs"] + "/{domain}/{local_part}")


def resolver():
    import dns.asyncresolver

    own = dns.asyncresolver.Resolver(configure=not CONFIG.get("dns_port"))
    if "dns_port" in CONFIG:
        own.nameservers, own.port = ["127.0.0.1"], CONFIG["dns_port"]
    return own


async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if "tls" in CONFIG else None
    if tls:
        tls.load_cert_chain(CONFIG["tls"])
    settings = {"hostname": CONFIG["hostname"], "route": route, "resolver": resolver()}
    async with ehlo.mta.open_queue(CONFIG["spool"], **settings) as queue:
        config = queue.server_config(auth=["PLAIN", "LOGIN"], auth_in_clear=["PLAIN"] if CONFIG.get("clear") else [])
        async with await ehlo.asyncio.serve(Inbound(queue), "127.0.0.1", CONFIG["port"], config=config, tls=tls):
            await queue.run()


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
asyncio.run(main())
