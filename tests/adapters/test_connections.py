"""Limits of connections over several servers."""

from __future__ import annotations

import pytest

import ehlo
from backends import CONFIG, Backend


@pytest.mark.parametrize("limits", [{"max_connections": 2}, {"max_connections_per_network": 2, "limit_loopback": True}])
@pytest.mark.tcp
def test_servers_share_their_limits(backend: Backend, limits: dict[str, int]) -> None:
    shared = ehlo.Connections()

    async def main() -> None:
        class Discard(ehlo.Handler):
            pass

        options = {"config": CONFIG, "limits": ehlo.Limits(**limits), "connections": shared}  # type: ignore[arg-type]
        async with (
            await backend.serve(Discard(), **options) as one,
            await backend.serve(Discard(), **options) as two,
            await backend.serve(Discard(), config=CONFIG, limits=ehlo.Limits(**limits)) as apart,  # type: ignore[arg-type]
        ):
            first = await backend.ready(one)
            second = await backend.ready(two)
            assert (one.connections, two.connections, shared.total) == (1, 1, 2)
            for server in (one, two):
                refused = await backend.connect(server)
                assert (await refused.reply())[:3] == "421"
                assert await refused.rest() == b""
            assert one.statistics.refused + one.statistics.refused_network == 1
            await backend.ready(apart)
            assert (await first.ask(b"QUIT\r\n"))[:3] == "221"
            await backend.until(lambda: shared.total == 1)
            await backend.ready(two)
            second.reset()
            await backend.until(lambda: shared.total == 1)
        assert shared == ehlo.Connections(0, {})

    backend.run(main)
