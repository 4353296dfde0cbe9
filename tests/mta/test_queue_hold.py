"""A message that is to be held from its first moment on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit import CONTENT, Sink, connect, serving, until

import ehlo
import ehlo.mta
from ehlo.mta import Queue, Selection, SmartHost
from loops import run


class Held(ehlo.mta.QueueHandler):
    """Holds what it takes."""

    def on_message(self, session: ehlo.Session, envelope: ehlo.Envelope, content: bytes) -> ehlo.Result:
        return self.queue.receive(session, envelope, content, hold="looks odd")


class HeldStream(ehlo.mta.StreamingQueueHandler):
    def on_body(self, session: ehlo.Session, envelope: ehlo.Envelope, body: AsyncIterator[bytes]) -> ehlo.Result:
        return self.queue.receive_body(session, envelope, body, hold="looks odd")


@pytest.mark.parametrize("kind", [Held, HeldStream])
def test_it_is_held_until_it_is_released(loop: str, kind: Any, tmp_path: Path) -> None:
    async def main() -> None:
        sink = Sink()
        async with serving(sink) as hop:
            way = SmartHost("127.0.0.1", hop.port, tls="off")
            opened = ehlo.mta.open_queue(str(tmp_path), hostname="mx.example", route=lambda recipient: way)
            async with (
                opened as queue,
                serving(kind(queue)) as server,
                connect(server.port) as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(queue.run)
                result = await client.send(CONTENT, "a@b.example", ["c@d.example", "e@d.example"])
                assert "queued as" in str(result.reply)
                entries = await queue.spool.entries(Selection(), 10)
                assert [(one.state, one.reply) for one in entries] == [("held", "looks odd")] * 2
                assert not sink.got
                changed = await queue.spool.unhold(Selection(), queue._clock.time())
                assert changed.recipients == 2
                await until(lambda: sink.got)
                group.cancel_scope.cancel()

    run(loop, main)


@pytest.mark.parametrize("kind", [Held, HeldStream])
def test_between_its_two_steps_nobody_tries_it(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        opened = ehlo.mta.open_queue(str(tmp_path), hostname="mx.example", route=lambda recipient: ehlo.mta.Mx())
        async with opened as queue, serving(kind(queue)) as server, connect(server.port) as client:

            async def broken(selection: Selection, reason: str) -> Any:
                raise OSError(5, "the disk is gone")

            monkeypatch.setattr(queue.spool, "hold", broken)
            # It is stored. The client must not send it once more.
            assert "queued as" in str((await client.send(CONTENT, "a@b.example", ["c@d.example"])).reply)
            [entry] = await queue.spool.entries(Selection(), 10)
            assert entry.recipient.due > entry.message.arrived + 9 * 365 * 86400
            storage: Any = queue.spool
            assert await storage.claim(entry.message.arrived + 86400, 10) == []
            # Nor after the clock was set back.
            await queue._delivery._heed_clock()
            queue._delivery._offset += 86400
            await queue._delivery._heed_clock()
            [later] = await queue.spool.entries(Selection(), 10)
            assert later.recipient.due == entry.recipient.due
            assert isinstance(queue, Queue)

    run("asyncio", main)
