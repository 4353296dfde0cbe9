"""aiosmtpd that takes all and drops it: the peer of server.py and stall.py. Usage: aiosmtpd_server.py PORT"""

from __future__ import annotations

import asyncio
import sys

from aiosmtpd.smtp import SMTP


class Discard:
    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        return "250 2.0.0 OK"


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Discard(), enable_SMTPUTF8=True, data_size_limit=1 << 30, loop=loop), "127.0.0.1", int(sys.argv[1])
    )
    await server.serve_forever()


asyncio.run(main())
